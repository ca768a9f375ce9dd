//! Automatic balance: what it leads to, round after round, and that it rests then.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use record::stored::metadata::PartitionRecord;
use types::{BrokerEpoch, BrokerId, PartitionIndex, TopicId};

use super::*;

/// Rounds in which everything has its share, however it lay before.
const ROUNDS_MAX: usize = 200;

struct World {
    controller: Controller,
    holdings: Holdings,
}

/// A process of a broker comes up, with these directories.
fn register(controller: &mut Controller, id: i32, rack: Option<&str>, directories: Vec<u128>) {
    let epoch = controller.image.brokers().map(|broker| broker.epoch.0).max().unwrap_or(0) + 1;
    let request = RegisterBroker {
        id: BrokerId(id),
        incarnation: numbered(10_000 + epoch as u128),
        listeners: Vec::new(),
        rack: rack.map(Into::into),
        features: supported(),
        directories: directories.into_iter().map(|id| DirectoryId(numbered(id))).collect(),
        stopped_epoch: None,
        may_have_lost_unsynced: false,
        is_fenced: false,
    };
    let (records, answer) = controller.register_broker(&request, BrokerEpoch(epoch));
    answer.unwrap();
    controller.apply(&records).unwrap();
}

impl World {
    /// Brokers 0, 1, ... in these racks, each with one directory, and partitions of one topic on them with their sizes.
    fn new(racks: &[Option<u8>], partitions: &[(Vec<i32>, u64)]) -> World {
        #[cfg(feature = "mutants")]
        types::mutant::plant_from_environment();
        let mut controller = Controller::new(Image::empty(), Arc::default());
        for (id, rack) in (0..).zip(racks) {
            let rack = rack.map(|rack| rack.to_string());
            register(&mut controller, id, rack.as_deref(), vec![2000 + id as u128]);
        }
        let topic = TopicRecord { name: "t".into(), topic_id: numbered(1) };
        controller.apply(&[MetadataRecord::Topic(topic)]).unwrap();
        let mut holdings = Holdings::default();
        holdings.room.extend((0..racks.len() as i32).map(|id| (BrokerId(id), u64::MAX)));
        for (index, (replicas, size)) in (0..).zip(partitions) {
            let directories = replicas.iter().map(|id| numbered(2000 + *id as u128));
            let record = PartitionRecord {
                partition_id: index,
                topic_id: numbered(1),
                replicas: replicas.clone(),
                isr: replicas.clone(),
                leader: replicas[0],
                leader_epoch: 0,
                partition_epoch: 0,
                directories: directories.collect(),
                ..PartitionRecord::default()
            };
            controller.apply(&[MetadataRecord::Partition(record)]).unwrap();
            holdings.sizes.insert((TopicId(numbered(1)), PartitionIndex(index)), *size);
        }
        World { controller, holdings }
    }

    /// One round: what is decided begins, arrives, and leads where it is to. How many partitions moved.
    fn round(&mut self, bytes_max: u64) -> usize {
        let moves = self.controller.balance(&self.holdings, bytes_max);
        let (records, answers) = self.controller.reassign(&moves, false);
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        self.controller.apply(&records).unwrap();
        let places: BTreeSet<_> = self.holdings.sizes.keys().copied().collect();
        for (topic, index) in &places {
            self.arrive(*topic, *index);
        }
        let due = self.controller.to_lead_first(&places);
        let (records, answers) = self.controller.elect_leaders(&due, false, &Recovery::default());
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        self.controller.apply(&records).unwrap();
        moves.len()
    }

    /// Those that were added have caught up.
    fn arrive(&mut self, topic: TopicId, index: PartitionIndex) {
        let partition = self.controller.image.partition(topic, index).unwrap().clone();
        if !partition.is_moving() {
            return;
        }
        let leader = partition.leader.unwrap();
        let epoch = |id: BrokerId| self.controller.image.broker(id).unwrap().epoch;
        let isr = partition.replicas.iter().map(|id| (*id, epoch(*id))).collect();
        let wish = AlterPartition {
            topic,
            index,
            leader_epoch: partition.leader_epoch,
            epoch: partition.epoch,
            isr,
            is_recovering: false,
        };
        let (records, answer) = self.controller.alter_partitions(leader, epoch(leader), &[wish]);
        answer.unwrap();
        self.controller.apply(&records).unwrap();
    }

    fn rest(&mut self) -> usize {
        (0..ROUNDS_MAX).find(|_| self.round(u64::MAX) == 0).expect("it comes to rest")
    }

    fn loads(&self) -> BTreeMap<BrokerId, (u64, usize, usize)> {
        let brokers = self.controller.image.brokers();
        let mut loads: BTreeMap<BrokerId, (u64, usize, usize)> =
            brokers.map(|broker| (broker.id, Default::default())).collect();
        for (topic, index, partition) in self.controller.image.partitions() {
            for id in &partition.replicas {
                let load = loads.get_mut(id).unwrap();
                load.0 += self.holdings.sizes[&(topic.id, index)];
                load.1 += 1;
            }
            if let Some(load) = partition.leader.and_then(|id| loads.get_mut(&id)) {
                load.2 += 1;
            }
        }
        loads
    }
}

const GIB: u64 = 1 << 30;

#[test]
fn a_new_broker_receives_its_share() {
    let of = |index: i32| ([index, index + 1, index + 2].map(|id| id % 3).to_vec(), GIB);
    let partitions: Vec<_> = (0..60).map(of).collect();
    let mut world = World::new(&[None; 4], &partitions);
    assert_eq!(world.loads()[&BrokerId(3)], (0, 0, 0));
    world.rest();
    for (id, (bytes, _, leads)) in world.loads() {
        assert!((42..=48).contains(&(bytes / GIB)), "broker {id} has {} GiB of 45", bytes / GIB);
        assert!((14..=16).contains(&leads), "broker {id} leads {leads} of 15");
    }
}

#[test]
fn little_begins_at_once() {
    let partitions: Vec<_> = (0..20).map(|_| (vec![0], GIB)).collect();
    let mut world = World::new(&[None; 2], &partitions);
    assert_eq!(world.round(3 * GIB), 3);
    assert_eq!(world.round(1), 1, "one at least, however large it is");
}

#[test]
fn who_takes_nothing_new_is_given_nothing() {
    let partitions: Vec<_> = (0..20).map(|_| (vec![0], GIB)).collect();
    let mut world = World::new(&[None; 3], &partitions);
    world.controller.set_cordoned(BrokerId(2), vec![DirectoryId(numbered(2002))]);
    world.rest();
    let counts: Vec<usize> = world.loads().values().map(|(_, count, _)| *count).collect();
    assert_eq!(counts, [10, 10, 0]);
    let placed = world.controller.place(0, 1, 2).unwrap();
    assert!(!placed.concat().contains(&BrokerId(2)), "{placed:?}");
    world.controller.set_cordoned(BrokerId(2), Vec::new());
    world.rest();
    assert!((6..=7).contains(&world.loads()[&BrokerId(2)].1));
}

#[test]
fn no_disk_is_filled() {
    let partitions: Vec<_> = (0..20).map(|_| (vec![0], GIB)).collect();
    let mut world = World::new(&[None; 2], &partitions);
    world.holdings.room.insert(BrokerId(1), 5 * GIB);
    assert_eq!(world.round(u64::MAX), 4, "a fifth of the room is left for what comes");
}

#[test]
fn who_does_not_say_what_it_holds_is_left_alone() {
    let partitions: Vec<_> = (0..20).map(|_| (vec![0], GIB)).collect();
    let mut world = World::new(&[None; 3], &partitions);
    world.holdings.room.remove(&BrokerId(2));
    world.rest();
    let counts: Vec<usize> = world.loads().values().map(|(_, count, _)| *count).collect();
    assert_eq!(counts, [10, 10, 0]);
    let mut world = World::new(&[None; 3], &partitions);
    world.holdings.room.remove(&BrokerId(0));
    assert_eq!(world.round(u64::MAX), 0);
}

#[test]
fn what_lies_where_nobody_finds_it_does_not_move() {
    let partitions: Vec<_> = (0..20).map(|_| (vec![0], GIB)).collect();
    let mut world = World::new(&[None; 2], &partitions);
    register(&mut world.controller, 0, None, vec![3000]);
    assert_eq!(world.round(u64::MAX), 0);
}

#[test]
fn directories_fill_evenly() {
    let partitions: Vec<_> = (0..12).map(|_| (vec![0], GIB)).collect();
    let mut world = World::new(&[None; 1], &partitions);
    register(&mut world.controller, 1, None, vec![5000, 5001, 5002]);
    world.holdings.room.insert(BrokerId(1), u64::MAX);
    world.rest();
    let mut held: BTreeMap<DirectoryId, usize> = BTreeMap::new();
    for (_, _, partition) in world.controller.image.partitions() {
        if let Some(directory) = partition.directory_of(BrokerId(1)) {
            *held.entry(directory).or_default() += 1;
        }
    }
    assert_eq!(held.into_values().collect::<Vec<_>>(), [2, 2, 2]);
}

#[test]
fn one_large_partition_does_not_wander() {
    let mut world = World::new(&[None; 3], &[(vec![0], 100 * GIB), (vec![1], 1 << 20)]);
    assert_eq!(world.round(u64::MAX), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever lies wherever: it comes to rest, no partition has fewer replicas, or racks, than before, or two replicas on
    /// one broker, and where partitions are small beside a broker's share everybody has it.
    #[test]
    fn it_comes_to_rest(
        racks in prop::collection::vec(prop::option::of(0..3_u8), 2..7),
        lies in prop::collection::vec((0..720_u32, 1..4_usize, 0..4_u64), 0..80),
    ) {
        let count = racks.len() as u32;
        let place = |(seed, factor, size): &(u32, usize, u64)| {
            let mut left: Vec<i32> = (0..count as i32).collect();
            let mut seed = *seed;
            let mut replicas = Vec::new();
            while replicas.len() < (*factor).min(count as usize) {
                replicas.push(left.remove((seed % left.len() as u32) as usize));
                seed /= count;
            }
            (replicas, size * GIB / 16)
        };
        let partitions: Vec<(Vec<i32>, u64)> = lies.iter().map(place).collect();
        let mut world = World::new(&racks, &partitions);
        let rack_count = |replicas: &mut dyn Iterator<Item = i32>| {
            replicas.filter_map(|id| racks[id as usize]).collect::<BTreeSet<u8>>().len()
        };
        world.rest();
        for (_, index, partition) in world.controller.image.partitions() {
            let before = &partitions[index.0 as usize].0;
            let after: BTreeSet<i32> = partition.replicas.iter().map(|id| id.0).collect();
            prop_assert_eq!(after.len(), before.len());
            let racks_before = rack_count(&mut before.iter().copied());
            prop_assert!(rack_count(&mut after.iter().copied()) >= racks_before);
        }
        let loads: Vec<u64> = world.loads().values().map(|(bytes, count, _)| bytes + *count as u64 * (1 << 20)).collect();
        let mean = loads.iter().sum::<u64>() / loads.len() as u64;
        let is_fine = partitions.len() > 60 && racks.iter().all(Option::is_none);
        if is_fine && partitions.iter().all(|(replicas, _)| replicas.len() < racks.len()) {
            let off = loads.iter().map(|load| load.abs_diff(mean)).max().unwrap();
            prop_assert!(off <= mean * 15 / 100, "{loads:?}");
        }
    }
}
