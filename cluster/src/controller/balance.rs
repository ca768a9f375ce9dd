//! Partitions that move by themselves so that all brokers have their share: of bytes, of replicas, and of what they lead.
//!
//! ```text
//!  a load more than 10 % off the mean     --> from the fullest to the emptiest, what closes the gap best, until the two are
//!                                             no more than 10 % of the mean apart, or nothing does
//!  loads level                            --> other orders of replicas: each broker is the first one of as many
//!  moved, and its first replica in sync   --> that one leads
//! ```
//!
//! A few at a time, decided anew each time: what is under way counts as where it goes, and who is not there is neither
//! relieved nor charged. A partition moves only when all its replicas are in sync, so nothing is at less than its full
//! strength because of it, and never to fewer racks than before.

use std::collections::{BTreeMap, BTreeSet};

use types::encoding::Str;
use types::mutant::{Mutant, planted};
use types::{BrokerId, PartitionIndex, TopicId};

use super::{Controller, ElectLeaders, Reassign};

/// What brokers say of what lies on them.
#[derive(Clone, Default, Debug)]
pub struct Holdings {
    /// Bytes of one replica of each partition.
    pub sizes: BTreeMap<(TopicId, PartitionIndex), u64>,
    /// The brokers all of whose directories have answered, and how many bytes more they can hold. Of the others nothing is
    /// known: they are neither relieved nor charged.
    pub room: BTreeMap<BrokerId, u64>,
}

/// A load may be so far off the mean, in percent of it; once one is not, all are brought as near to each other.
const APART_MAX: u64 = 10;
/// A replica that weighs more tenths of a gap than this only changes sides.
const GAP_TENTHS: u64 = 9;
/// For each byte that moves to a broker so many quarters of a byte are to be free there: what moves goes on growing.
const ROOM_QUARTERS: u64 = 5;
/// A replica weighs so many bytes beside what it holds: an empty one costs its broker, too, and may not stay empty.
const REPLICA_BYTES: u64 = 1 << 20;
/// Moves of one decision: they are in one batch of the metadata.
const MOVES_MAX: usize = 100;

impl Controller {
    /// What moves next, if anything should: at most `bytes_max` of what is known to lie there, and one partition at least. A
    /// partition whose size is not known is taken for empty.
    pub fn balance(&self, holdings: &Holdings, bytes_max: u64) -> Vec<Reassign> {
        let mut scales = Scales::new(self, holdings);
        if scales.loads.len() < 2 || planted(Mutant::UnevenUnseen) {
            return Vec::new();
        }
        let mut moves = Vec::new();
        let mut left = bytes_max;
        if scales.is_one_off() {
            while moves.len() < MOVES_MAX && scales.are_apart() {
                let Some((at, from, to)) = scales.best_move() else { break };
                let bytes = scales.partitions[at].bytes;
                if bytes > left && !moves.is_empty() {
                    return moves;
                }
                left = left.saturating_sub(bytes);
                moves.push(scales.carry_over(at, from, to));
            }
        }
        if moves.is_empty() {
            moves = scales.even_out();
        }
        moves
    }

    /// Those of `places` that have arrived where they were to go, and whose first replica does not lead though it could.
    pub fn to_lead_first(&self, places: &BTreeSet<(TopicId, PartitionIndex)>) -> Vec<ElectLeaders> {
        let judge = self.judge();
        let due = places.iter().filter_map(|(topic, index)| {
            let topic = self.image.topic_by_id(*topic)?;
            let partition = topic.partitions.get(index)?;
            let first = *partition.replicas.first()?;
            let can = !partition.is_moving()
                && partition.isr.contains(&first)
                && judge.may_lead(first, partition);
            let is_due = can && partition.leader.is_some_and(|leader| leader != first);
            is_due.then(|| ElectLeaders { topic: topic.name.as_str().into(), index: *index })
        });
        due.take(MOVES_MAX).collect()
    }

    /// Whether a partition is not led by its first replica.
    pub fn is_led_elsewhere(&self, (topic, index): (TopicId, PartitionIndex)) -> bool {
        let partition = self.image.partition(topic, index);
        partition.is_some_and(|known| {
            known.is_moving() || known.leader != known.replicas.first().copied()
        })
    }

    /// What is.
    pub fn led_elsewhere(&self) -> Vec<(TopicId, PartitionIndex)> {
        let places = self.image.partitions().map(|(topic, index, _)| (topic.id, index));
        places.filter(|place| self.is_led_elsewhere(*place)).collect()
    }
}

/// A partition that may move.
struct Piece {
    topic: Str,
    index: PartitionIndex,
    /// Where it lies, or goes.
    replicas: Vec<BrokerId>,
    leader: Option<BrokerId>,
    bytes: u64,
    /// Whether it may be moved now.
    is_free: bool,
}

impl Piece {
    fn weight(&self) -> u64 {
        self.bytes + REPLICA_BYTES
    }
}

/// What lies where.
struct Scales {
    /// Of the brokers that are there.
    racks: BTreeMap<BrokerId, Option<Str>>,
    /// Of those of them that take something new; the others keep what they have.
    loads: BTreeMap<BrokerId, u64>,
    /// Bytes that are free there.
    room: BTreeMap<BrokerId, u64>,
    partitions: Vec<Piece>,
}

impl Scales {
    fn new(controller: &Controller, holdings: &Holdings) -> Scales {
        let image = &controller.image;
        let (mut racks, mut loads) = (BTreeMap::new(), BTreeMap::new());
        for broker in image.brokers().filter(|broker| !broker.is_fenced && !broker.is_stopping) {
            racks.insert(broker.id, broker.rack.clone());
            if !controller.is_cordoned(broker) && holdings.room.contains_key(&broker.id) {
                loads.insert(broker.id, 0);
            }
        }
        let mut partitions = Vec::new();
        for (topic, index, partition) in image.partitions() {
            let stays = |id: &BrokerId| !partition.removing.contains(id);
            let replicas: Vec<BrokerId> =
                partition.replicas.iter().copied().filter(stays).collect();
            let is_whole = partition.isr.len() == partition.replicas.len();
            // Also of the only replica, which leads in name when its directory is gone.
            let has_home = |id: &BrokerId| {
                let home = partition.directory_of(*id);
                let broker = image.broker(*id);
                broker
                    .is_some_and(|known| home.is_none_or(|home| known.directories.contains(&home)))
            };
            let is_there = |id: &BrokerId| racks.contains_key(id) && has_home(id);
            let is_there = partition.leader.is_some() && replicas.iter().all(is_there);
            let piece = Piece {
                topic: topic.name.as_str().into(),
                index,
                leader: partition.leader,
                bytes: holdings.sizes.get(&(topic.id, index)).copied().unwrap_or_default(),
                is_free: is_whole && is_there && !partition.is_moving(),
                replicas,
            };
            for id in &piece.replicas {
                if let Some(load) = loads.get_mut(id) {
                    *load += piece.weight();
                }
            }
            partitions.push(piece);
        }
        Scales { racks, loads, room: holdings.room.clone(), partitions }
    }

    fn mean(&self) -> u64 {
        self.loads.values().sum::<u64>() / self.loads.len().max(1) as u64
    }

    fn tolerated(&self) -> u64 {
        self.mean() * APART_MAX / 100
    }

    fn is_one_off(&self) -> bool {
        let (mean, tolerated) = (self.mean(), self.tolerated());
        self.loads.values().any(|load| load.abs_diff(mean) > tolerated)
    }

    fn are_apart(&self) -> bool {
        let (most, least) = (self.loads.values().max(), self.loads.values().min());
        let apart = most.zip(least).map_or(0, |(most, least)| most - least);
        apart > self.tolerated()
    }

    /// The partition whose replica closes the widest gap best, from where to where: first between the fullest and the emptiest
    /// broker, then between those that come after them.
    fn best_move(&self) -> Option<(usize, BrokerId, BrokerId)> {
        let mut order: Vec<(u64, BrokerId)> =
            self.loads.iter().map(|(id, load)| (*load, *id)).collect();
        order.sort_unstable();
        for (full, from) in order.iter().rev() {
            let there = |piece: &&Piece| piece.is_free && piece.replicas.contains(from);
            let held = self.partitions.iter().enumerate();
            let held: Vec<(usize, &Piece)> = held.filter(|(_, piece)| there(piece)).collect();
            for (empty, to) in order.iter().take_while(|(empty, _)| empty < full) {
                let gap = full - empty;
                // Half the gap is best.
                let fits = |piece: &Piece| {
                    piece.weight() <= gap / 10 * GAP_TENTHS
                        && !piece.replicas.contains(to)
                        && self.has_room(*to, piece.bytes)
                        && self.keeps_racks(&piece.replicas, *from, *to)
                };
                let rest = |piece: &Piece| gap.abs_diff(2 * piece.weight());
                let candidates = held.iter().copied().filter(|(_, it)| fits(it));
                // Of equal ones rather one that is led elsewhere.
                let best = candidates
                    .min_by_key(|(at, piece)| (rest(piece), piece.leader == Some(*from), *at));
                if let Some((at, _)) = best {
                    return Some((at, *from, *to));
                }
            }
        }
        None
    }

    fn has_room(&self, id: BrokerId, bytes: u64) -> bool {
        self.room.get(&id).is_some_and(|room| room / ROOM_QUARTERS * 4 >= bytes)
    }

    fn keeps_racks(&self, replicas: &[BrokerId], from: BrokerId, to: BrokerId) -> bool {
        let rack = |id: BrokerId| self.racks.get(&id).and_then(Option::as_ref);
        let count = |ids: &mut dyn Iterator<Item = BrokerId>| {
            ids.filter_map(rack).collect::<BTreeSet<_>>().len()
        };
        let before = count(&mut replicas.iter().copied());
        let after = count(&mut replicas.iter().map(|id| if *id == from { to } else { *id }));
        after >= before || planted(Mutant::BalanceForgetsRacks)
    }

    fn carry_over(&mut self, at: usize, from: BrokerId, to: BrokerId) -> Reassign {
        let piece = &mut self.partitions[at];
        for id in piece.replicas.iter_mut().filter(|id| **id == from) {
            *id = to;
        }
        piece.is_free = false;
        let (weight, bytes) = (piece.weight(), piece.bytes);
        let (topic, index, replicas) = (piece.topic.clone(), piece.index, piece.replicas.clone());
        if let Some(load) = self.loads.get_mut(&from) {
            *load -= weight;
        }
        if let Some(load) = self.loads.get_mut(&to) {
            *load += weight;
        }
        if let Some(room) = self.room.get_mut(&to) {
            *room = room.saturating_sub(bytes);
        }
        Reassign { topic, index, replicas: Some(replicas) }
    }

    /// Other orders of the same replicas, so that every broker is the first of as many, as far as one exchange after the other
    /// leads there.
    fn even_out(&mut self) -> Vec<Reassign> {
        let mut firsts: BTreeMap<BrokerId, usize> = self.loads.keys().map(|id| (*id, 0)).collect();
        for piece in &self.partitions {
            if let Some(count) = piece.replicas.first().and_then(|first| firsts.get_mut(first)) {
                *count += 1;
            }
        }
        let mean = firsts.values().sum::<usize>() / firsts.len().max(1);
        let tolerated = (mean * APART_MAX as usize / 100).max(1);
        let (most, least) = (firsts.values().max(), firsts.values().min());
        if most.zip(least).is_none_or(|(most, least)| most - least <= tolerated) {
            return Vec::new();
        }
        let mut moves = Vec::new();
        while moves.len() < MOVES_MAX {
            // The widest gap that one exchange narrows.
            let gain = |piece: &Piece| {
                let first = *firsts.get(piece.replicas.first()?)?;
                let heir = piece.replicas.iter().skip(1);
                let heir = heir.filter_map(|id| Some((*firsts.get(id)?, *id))).min()?;
                (first > heir.0 + 1).then(|| (first - heir.0, heir.1))
            };
            let free = self.partitions.iter().enumerate().filter(|(_, piece)| piece.is_free);
            let gains = free.filter_map(|(at, piece)| Some((at, gain(piece)?)));
            let best = gains.max_by_key(|(at, (gain, _))| (*gain, std::cmp::Reverse(*at)));
            let Some((at, (_, heir))) = best else { break };
            let piece = &mut self.partitions[at];
            let place = piece.replicas.iter().position(|id| *id == heir).unwrap_or_default();
            for (id, count) in [(piece.replicas[0], -1), (heir, 1)] {
                let known = firsts.entry(id).or_default();
                *known = known.saturating_add_signed(count);
            }
            piece.replicas.swap(0, place);
            piece.is_free = false;
            moves.push(Reassign {
                topic: piece.topic.clone(),
                index: piece.index,
                replicas: Some(piece.replicas.clone()),
            });
        }
        moves
    }
}
