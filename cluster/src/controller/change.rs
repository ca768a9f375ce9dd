//! One partition's next registration: who is in sync, who may be elected, who leads.
//!
//! ```text
//!  replicas = in sync (ISR) + eligible (ELR) + the others
//!             every committed record is on each member of the first two (I20)
//! ```
//!
//! While fewer than `min.insync.replicas` are in sync nothing is committed, so whoever leaves the ISR then still holds all
//! that is committed: it is eligible (KIP-966). Once enough are in sync again records are committed without the eligible
//! ones, and nobody is. Every decision about a partition goes through [`Judge::change`], so these rules are written once.

use std::collections::BTreeSet;

use record::stored::metadata::PartitionChangeRecord;
use types::encoding::Str;
use types::mutant::{Mutant, planted};
use types::{BrokerId, DirectoryId, PartitionIndex};

use super::{Controller, Series};
use crate::config::{self, NodeConfigs};
use crate::metadata::{Image, MetadataRecord, PartitionInfo, Resource, ResourceKind, TopicInfo};

/// How a leader is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Election {
    /// The present one stays if it may; else one that holds everything that is committed.
    #[default]
    Clean,
    /// The first replica, if it is in sync.
    Preferred,
    /// Without a clean one, the given one, then the last known ones, then whoever is there: records may be lost, so only when
    /// somebody asks for it (I30), or when all have been asked (P11).
    Unclean(Option<BrokerId>),
}

/// What is asked of a partition; nothing by default.
#[derive(Clone, Debug, Default)]
pub(super) struct Wish {
    /// Those in sync.
    pub(super) isr: Option<Vec<BrokerId>>,
    /// Those that may have lost what they reported: neither in sync nor eligible (I28).
    pub(super) lost: Vec<BrokerId>,
    /// How a leader is found.
    pub(super) election: Election,
    /// Its replicas, with those to be added and removed among them.
    pub(super) assignment: Option<Assignment>,
    /// Its leader knows this registration and says so: it lives, and holds everything.
    pub(super) is_heard: bool,
    /// Its leader has recovered from an unclean election.
    pub(super) is_recovered: bool,
    /// The term ends, whoever leads the next one.
    pub(super) ends_term: bool,
    /// The replica of a broker lies in this directory from now on.
    pub(super) directory: Option<(BrokerId, DirectoryId)>,
    /// One that holds nothing any more: nobody waits for it.
    pub(super) emptied: Option<BrokerId>,
}

/// The replicas of a partition on its way to others.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Assignment {
    pub(super) replicas: Vec<BrokerId>,
    pub(super) adding: Vec<BrokerId>,
    pub(super) removing: Vec<BrokerId>,
    /// Where those that are added lie.
    pub(super) homes: Vec<(BrokerId, DirectoryId)>,
}

/// The settings whose changes decide who may be elected.
pub(super) const MIN_ISR: &str = "min.insync.replicas";
const UNCLEAN: &str = "unclean.leader.election.enable";

/// Decides on partitions of one image.
pub(super) struct Judge<'a> {
    image: &'a Image,
    node: NodeConfigs,
}

impl Controller {
    pub(super) fn judge(&self) -> Judge<'_> {
        // No broker has this id: values of single brokers are none of the cluster's.
        let node = self.image.node_configs(self.fixed.clone(), BrokerId(-1));
        Judge { image: &self.image, node }
    }

    /// `records`, and what follows from them for each partition of which something is wished once they are applied.
    pub(super) fn consequences(
        &self,
        records: Vec<MetadataRecord>,
        wish: impl Fn(&Judge<'_>, &TopicInfo, PartitionIndex, &PartitionInfo) -> Option<Wish>,
    ) -> Vec<MetadataRecord> {
        let mut series = self.series();
        series.take(records);
        let Series { controller, mut records } = series;
        let judge = controller.judge();
        for (topic, index, partition) in controller.image.partitions() {
            if let Some(wish) = wish(&judge, topic, index, partition) {
                records.extend(judge.change(topic, index, partition, &wish).1);
            }
        }
        records
    }

    /// Changes of settings, with what follows for who may be elected: of an own value of a topic, or of the default for those
    /// without one (I29).
    pub(super) fn with_elections(&self, records: Vec<MetadataRecord>) -> Vec<MetadataRecord> {
        let matters = |name: &str| [MIN_ISR, UNCLEAN].contains(&name);
        let mut topics: BTreeSet<Str> = BTreeSet::new();
        let mut is_default = false;
        for record in &records {
            let MetadataRecord::Config(record) = record else { continue };
            if !matters(&record.name) {
                continue;
            }
            match ResourceKind::from_i8(record.resource_type) {
                Some(ResourceKind::Topic) => drop(topics.insert(record.resource_name.clone())),
                Some(ResourceKind::Broker) => is_default |= record.resource_name.is_empty(),
                _ => {}
            }
        }
        if topics.is_empty() && !is_default || planted(Mutant::MinIsrChangeUnheard) {
            return records;
        }
        self.consequences(records, |_, topic, _, partition| {
            let is_meant = is_default || topics.contains(topic.name.as_str());
            let is_open = partition.leader.is_none() || !partition.elr.is_empty();
            let is_open = is_open || !partition.last_known_elr.is_empty() || partition.is_moving();
            (is_meant && is_open).then(Wish::default)
        })
    }
}

impl Judge<'_> {
    /// Replicas that must be in sync for anything to be committed.
    fn min_isr(&self, topic: &TopicInfo, replicas: usize) -> usize {
        let wanted = self.setting(topic, MIN_ISR).parse().unwrap_or(1);
        usize::clamp(wanted, 1, replicas.max(1))
    }

    /// Whether the topic asks for a leader even if records are lost by it.
    fn is_unclean(&self, topic: &TopicInfo) -> bool {
        self.setting(topic, UNCLEAN).eq_ignore_ascii_case("true")
    }

    /// Whether what was reported of it may not have been synced.
    pub(super) fn is_paged(&self, topic: &TopicInfo) -> bool {
        self.setting(topic, "durability") == "page-cache"
    }

    /// The value that counts for a topic.
    fn setting(&self, topic: &TopicInfo, name: &str) -> String {
        let own = self.image.config(&Resource::topic(topic.name.as_str()));
        let key = config::find(config::TOPIC, name).expect("a topic's key");
        self.node.resolve(key, &own).unwrap_or_default()
    }

    /// Whether a broker is there, and the directory of its replica too. Of the only replica the broker itself says that its
    /// directory is not: nobody else could lead.
    pub(super) fn is_there(&self, id: BrokerId, partition: &PartitionInfo) -> bool {
        let Some(broker) = self.image.broker(id) else { return false };
        let own = partition.directory_of(id).filter(|own| *own != DirectoryId::default());
        let is_only = partition.replicas.len() == 1;
        !broker.is_fenced && (is_only || own.is_none_or(|own| broker.directories.contains(&own)))
    }

    /// Whether it is, and is to stay.
    pub(super) fn may_lead(&self, id: BrokerId, partition: &PartitionInfo) -> bool {
        let is_stopping = self.image.broker(id).is_some_and(|broker| broker.is_stopping);
        !is_stopping && self.is_there(id, partition)
    }

    /// The registration that follows from `wish`.
    fn settle(&self, topic: &TopicInfo, before: &PartitionInfo, wish: &Wish) -> PartitionInfo {
        let mut after = before.clone();
        if let Some(assignment) = &wish.assignment {
            assign(&mut after, assignment.clone());
        }
        if let Some((id, directory)) = wish.directory {
            move_within(&mut after, id, directory);
        }
        if let Some(isr) = wish.isr.as_ref().filter(|isr| !is_same_set(isr, &before.isr)) {
            after.isr.clone_from(isr);
        }
        let replicas = after.replicas.clone();
        let is_empty = |id: &BrokerId| wish.emptied == Some(*id);
        let is_lost = |id: &BrokerId| wish.lost.contains(id) || is_empty(id);
        let is_lost = |id: &BrokerId| is_lost(id) && !planted(Mutant::LostStaysEligible);
        let holds_all = |id: &BrokerId| replicas.contains(id) && !is_lost(id);
        let mut isr = std::mem::take(&mut after.isr);
        isr.retain(|id| holds_all(id) && self.is_there(*id, &after));
        after.isr = isr;
        self.end_reassignment(topic, &mut after);
        let min_isr = self.min_isr(topic, after.replicas.len());
        let mut known: Vec<BrokerId> = Vec::new();
        for id in before.isr.iter().chain(&before.elr).chain(&before.last_known_elr) {
            if after.replicas.contains(id) && !known.contains(id) && !is_empty(id) {
                known.push(*id);
            }
        }
        let was_eligible = |id: &BrokerId| before.isr.contains(id) || before.elr.contains(id);
        let eligible = known.iter().copied().filter(|id| was_eligible(id));
        after.elr = eligible.filter(holds_all).collect();
        after.last_known_elr = known;
        let election = match (wish.election, self.is_unclean(topic)) {
            (Election::Clean, true) => Election::Unclean(None),
            (election, _) => election,
        };
        self.elect(&mut after, election, wish.emptied);
        if after.isr.len() >= min_isr {
            after.elr.clear();
            // Those of the others that are in sync by the metadata may be gone in the same power cut: they are known to go
            // on without the lost one when their leader is heard.
            let was_known = |id: &BrokerId| before.last_known_elr.contains(id);
            let is_awaited = |id: &BrokerId| is_lost(id) || was_known(id);
            let is_heard = wish.is_heard || planted(Mutant::LostForgotten);
            after.last_known_elr.retain(|id| !is_heard && is_awaited(id));
        }
        let PartitionInfo { isr, elr, last_known_elr, .. } = &mut after;
        elr.retain(|id| !isr.contains(id));
        last_known_elr.retain(|id| !isr.contains(id) && !elr.contains(id));
        after.is_recovering &= !wish.is_recovered;
        after
    }

    /// Finds the leader: whoever leads is in sync (I30).
    fn elect(&self, after: &mut PartitionInfo, election: Election, emptied: Option<BrokerId>) {
        let is_there = |id: &BrokerId| self.is_there(*id, after) && emptied != Some(*id);
        let may_lead = |id: &BrokerId| after.isr.contains(id) && self.may_lead(*id, after);
        let present = after.leader.filter(|id| after.isr.contains(id));
        let first = after.replicas.first().copied();
        let preferred = first.filter(|_| election == Election::Preferred).filter(may_lead);
        let in_sync = preferred
            .or(present.filter(may_lead))
            .or_else(|| after.replicas.iter().copied().find(may_lead))
            .or(present)
            .or_else(|| after.replicas.iter().copied().find(|id| after.isr.contains(id)));
        if in_sync.is_some() {
            after.leader = in_sync;
            return;
        }
        let mut ring = after.replicas.iter().copied();
        let mut chosen = ring.clone().find(|id| after.elr.contains(id) && is_there(id));
        let mut is_unclean = false;
        if let (None, Election::Unclean(given)) = (chosen, election) {
            is_unclean = true;
            let known = after.last_known_elr.iter().copied();
            chosen = given.into_iter().chain(known).chain(&mut ring).find(is_there);
        }
        if let Some(leader) = chosen {
            after.isr = vec![leader];
            if is_unclean {
                after.is_recovering = true;
                after.elr.clear();
            }
        }
        after.leader = chosen;
    }

    /// A reassignment ends when all that are added are in sync (I34), and enough of those that stay to commit anything.
    fn end_reassignment(&self, topic: &TopicInfo, after: &mut PartitionInfo) {
        if after.adding.is_empty() && after.removing.is_empty() {
            return;
        }
        let replicas: Vec<BrokerId> =
            after.replicas.iter().copied().filter(|id| !after.removing.contains(id)).collect();
        let isr: Vec<BrokerId> =
            after.isr.iter().copied().filter(|id| replicas.contains(id)).collect();
        let has_all = after.adding.iter().all(|id| isr.contains(id));
        let has_all = has_all || planted(Mutant::MoveEndsEarly);
        let is_enough = isr.len() >= self.min_isr(topic, replicas.len());
        let may_lead = isr.iter().any(|id| self.may_lead(*id, after));
        if has_all && is_enough && may_lead {
            assign(after, Assignment { replicas, ..Assignment::default() });
            after.isr = isr;
        }
    }

    /// The record that leads from one registration to the next; `None` if they are the same.
    fn record(
        &self,
        topic: &TopicInfo,
        index: PartitionIndex,
        before: &PartitionInfo,
        after: &PartitionInfo,
        ends_term: bool,
    ) -> Option<MetadataRecord> {
        let ids = |before: &Vec<BrokerId>, after: &Vec<BrokerId>| {
            (before != after).then(|| after.iter().map(|id| id.0).collect::<Vec<i32>>())
        };
        // Who they are is settled for a term: one that is removed goes on fetching until the epoch tells the two apart.
        let is_new_term =
            ends_term || before.leader != after.leader || before.replicas != after.replicas;
        let unchanged = PartitionChangeRecord::default();
        let record = PartitionChangeRecord {
            partition_id: index.0,
            topic_id: topic.id.0,
            isr: ids(&before.isr, &after.isr),
            leader: match is_new_term {
                false => unchanged.leader,
                true => after.leader.map_or(-1, |leader| leader.0),
            },
            replicas: ids(&before.replicas, &after.replicas),
            removing_replicas: ids(&before.removing, &after.removing),
            adding_replicas: ids(&before.adding, &after.adding),
            leader_recovery_state: match before.is_recovering == after.is_recovering {
                true => unchanged.leader_recovery_state,
                false => i8::from(after.is_recovering),
            },
            directories: (before.directories != after.directories)
                .then(|| after.directories.iter().map(|directory| directory.0).collect()),
            eligible_leader_replicas: ids(&before.elr, &after.elr),
            last_known_elr: ids(&before.last_known_elr, &after.last_known_elr),
        };
        let nothing = PartitionChangeRecord {
            partition_id: index.0,
            topic_id: topic.id.0,
            ..PartitionChangeRecord::default()
        };
        (record != nothing).then_some(MetadataRecord::PartitionChange(record))
    }

    /// What becomes of a partition by `wish`, and the record that says so, if it is not what it was.
    pub(super) fn change(
        &self,
        topic: &TopicInfo,
        index: PartitionIndex,
        before: &PartitionInfo,
        wish: &Wish,
    ) -> (PartitionInfo, Option<MetadataRecord>) {
        let after = self.settle(topic, before, wish);
        let record = self.record(topic, index, before, &after, wish.ends_term);
        (after, record)
    }
}

fn is_same_set(one: &[BrokerId], other: &[BrokerId]) -> bool {
    one.len() == other.len() && one.iter().all(|id| other.contains(id))
}

/// Other replicas; each that stays keeps its directory.
fn assign(partition: &mut PartitionInfo, assignment: Assignment) {
    let Assignment { replicas, adding, removing, homes } = assignment;
    let home = |id: BrokerId| homes.iter().find(|(new, _)| *new == id).map(|(_, home)| *home);
    let directory = |id: &BrokerId| partition.directory_of(*id).or_else(|| home(*id));
    partition.directories = replicas.iter().map(|id| directory(id).unwrap_or_default()).collect();
    (partition.replicas, partition.adding, partition.removing) = (replicas, adding, removing);
}

/// The replica of `id` lies in `directory` from now on.
fn move_within(partition: &mut PartitionInfo, id: BrokerId, directory: DirectoryId) {
    partition.directories.resize(partition.replicas.len(), DirectoryId::default());
    let places = partition.replicas.iter().zip(&mut partition.directories);
    for (_, place) in places.filter(|(replica, _)| **replica == id) {
        *place = directory;
    }
}
