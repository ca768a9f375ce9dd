//! Three replicas of one partition, the controller that decides on them, and a network that loses, delays and repeats.
//!
//! Leader, follower and controller are the real ones. What a room of the broker would do is done here: disks are vectors of
//! records, each a batch of its own, with a durable end; metadata reach each node when a step says so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use types::{
    BrokerEpoch, BrokerId, DirectoryId, Instant, LeaderEpoch, Offset, PartitionEpoch,
    PartitionIndex, TopicId, Uuid,
};

mod control;
mod network;

pub(super) use self::network::Packet;
use super::judge::Judge;
use crate::controller::{AlterPartition, Controller, CreateTopic, RegisterBroker, supported};
use crate::metadata::{Image, MetadataRecord, PartitionInfo, Resource};
use crate::replica::{
    CommitRule, Effect, Event, Follower, FollowerEffect, FollowerEvent, FollowerStart, Leader,
    LeaderStart, Limits, Lineage, LocalEnds, Peer, Proposal, ProposalAnswer, Registration, Term,
};

pub(super) const NODES: usize = 3;
/// Records that one answer carries.
const RECORDS_MAX: usize = 2;

/// A record, which is a batch of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Record {
    pub(super) epoch: LeaderEpoch,
    pub(super) value: u32,
}

/// A replica's log as the medium and the page cache hold it.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) start: i64,
    pub(super) records: Vec<Record>,
    pub(super) durable: i64,
    /// The high watermark as stored last.
    checkpoint: i64,
}

impl Disk {
    pub(super) fn end(&self) -> i64 {
        self.start + self.records.len() as i64
    }

    pub(super) fn at(&self, offset: i64) -> Option<Record> {
        self.records.get(usize::try_from(offset - self.start).ok()?).copied()
    }

    fn cut(&mut self, end: i64) {
        self.records.truncate((end - self.start) as usize);
        self.durable = self.durable.min(end);
        self.checkpoint = self.checkpoint.min(end);
    }

    fn lineage(&self) -> Lineage {
        let mut epochs: BTreeMap<LeaderEpoch, Offset> = BTreeMap::new();
        for (record, offset) in self.records.iter().zip(self.start..) {
            epochs.entry(record.epoch).or_insert(Offset(offset));
        }
        Lineage::new(Offset(self.start), epochs, Offset(self.end()))
    }

    fn ends(&self) -> LocalEnds {
        LocalEnds { durable: Offset(self.durable), written: Offset(self.end()) }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Role {
    Nothing,
    Leads(Box<Leader>),
    Follows(Box<Follower>),
}

/// What a follower's disk has yet to do.
#[derive(Clone, Debug)]
enum Io {
    Append(Vec<Record>),
    Truncate(i64),
    Reset(i64),
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) id: BrokerId,
    pub(super) is_up: bool,
    /// Nothing reaches it while all others talk.
    pub(super) is_cut_off: bool,
    /// Process number: what was meant for an earlier one does not reach it.
    life: u32,
    pub(super) epoch: BrokerEpoch,
    /// Batches of metadata that it has applied, and that it must have before it does anything.
    pub(super) applied: usize,
    /// When it had applied all of them last.
    pub(super) current_at: Instant,
    registered: usize,
    pub(super) image: Image,
    pub(super) disk: Disk,
    pub(super) role: Role,
    io: Option<Io>,
    /// Whether it has seen an unclean election since it last was told of a term.
    is_unclean: bool,
    sends: u64,
    /// The proposal that waits for its answer.
    asked: Option<(u64, PartitionEpoch)>,
    /// Power was cut since it registered, and what it had reported is lost.
    pub(super) is_lossy: bool,
    was_stopped_cleanly: bool,
}

pub(super) struct World {
    pub(super) controller: Controller,
    /// The metadata log, by batches.
    metadata: Vec<Vec<MetadataRecord>>,
    /// The last proposal taken of each registered broker (I35).
    sends: BTreeMap<(BrokerId, BrokerEpoch), u64>,
    pub(super) topic: TopicId,
    pub(super) rule: CommitRule,
    pub(super) nodes: Vec<Node>,
    pub(super) wire: Vec<Packet>,
    pub(super) now: Instant,
    values: u32,
    pub(super) judge: Judge,
    /// What happened, for stories.
    pub(super) told: Vec<String>,
}

fn id(number: u128) -> Uuid {
    Uuid(number.to_be_bytes())
}

impl World {
    pub(super) fn new(rule: CommitRule, min_isr: usize) -> World {
        #[cfg(feature = "mutants")]
        types::mutant::plant_from_environment();
        let node = |number: usize| Node {
            id: BrokerId(number as i32),
            is_up: false,
            is_cut_off: false,
            life: 0,
            epoch: BrokerEpoch(0),
            applied: 0,
            current_at: Instant(0),
            registered: 0,
            image: Image::empty(),
            disk: Disk::default(),
            role: Role::Nothing,
            io: None,
            is_unclean: false,
            sends: 0,
            asked: None,
            is_lossy: false,
            was_stopped_cleanly: true,
        };
        let mut world = World {
            controller: Controller::new(Image::empty(), Arc::default()),
            metadata: Vec::new(),
            sends: BTreeMap::new(),
            topic: TopicId(id(1)),
            rule,
            nodes: (0..NODES).map(node).collect(),
            wire: Vec::new(),
            now: Instant(0),
            values: 0,
            judge: Judge::default(),
            told: Vec::new(),
        };
        for number in 0..NODES {
            world.start(number);
            world.unfence(number);
        }
        let durability = if rule == CommitRule::Durable { "sync" } else { "page-cache" };
        let topic = CreateTopic {
            name: "t".into(),
            partitions_count: -1,
            replication_factor: -1,
            assignments: vec![(PartitionIndex(0), (0..NODES as i32).map(BrokerId).collect())],
            configs: vec![("durability".into(), Some(durability.into()))],
        };
        let (records, _) = world.controller.create_topics(&[topic], false, &mut || id(1));
        world.commit(records);
        world.set_min_isr(min_isr);
        (0..NODES).for_each(|number| world.hear(number, usize::MAX));
        world
    }

    pub(super) fn partition(&self) -> &PartitionInfo {
        self.controller.image().partition(self.topic, PartitionIndex(0)).unwrap()
    }

    pub(super) fn min_isr(image: &Image) -> usize {
        let own = image.config(&Resource::topic("t"));
        own.get("min.insync.replicas").map_or(1, |value| value.parse().unwrap())
    }

    // Processes.

    pub(super) fn start(&mut self, number: usize) {
        if self.nodes[number].is_up {
            return;
        }
        let node = &self.nodes[number];
        let before = self.controller.image().broker(node.id).map(|known| known.epoch);
        let request = RegisterBroker {
            id: node.id,
            incarnation: id(self.metadata.len() as u128),
            listeners: Vec::new(),
            rack: None,
            features: supported(),
            directories: vec![DirectoryId(id(1000 + number as u128))],
            stopped_epoch: before.filter(|_| node.was_stopped_cleanly),
            may_have_lost_unsynced: node.is_lossy,
            is_fenced: true,
        };
        let epoch = BrokerEpoch(self.metadata.len() as i64 + 1);
        let (records, answer) = self.controller.register_broker(&request, epoch);
        answer.expect("epochs rise");
        self.commit(records);
        let registered = self.metadata.len();
        let node = &mut self.nodes[number];
        (node.is_up, node.epoch, node.registered) = (true, epoch, registered);
        (node.is_lossy, node.was_stopped_cleanly) = (false, false);
        node.life += 1;
        // What it reads again of the metadata before its registration makes it do nothing (I15).
        self.hear(number, registered - self.nodes[number].applied);
    }

    /// The process ends; of what was not synced `lost` records go with it, as far as promises allow.
    pub(super) fn end(&mut self, number: usize, lost: usize, is_clean: bool) {
        if !self.nodes[number].is_up {
            return;
        }
        if is_clean {
            self.finish_io(number);
            self.sync(number, usize::MAX);
        }
        let is_allowed = self.rule == CommitRule::Durable
            || self.judge.is_held_elsewhere(number, self.partition(), &self.nodes);
        let node = &mut self.nodes[number];
        (node.is_up, node.role, node.io, node.asked) = (false, Role::Nothing, None, None);
        node.was_stopped_cleanly = is_clean;
        let end = (node.disk.end() - lost as i64).max(node.disk.durable);
        if is_allowed && end < node.disk.end() {
            node.disk.cut(end);
            node.is_lossy = true;
        }
    }

    /// A node hears of so many batches of metadata more.
    pub(super) fn hear(&mut self, number: usize, count: usize) {
        for _ in 0..count {
            let node = &mut self.nodes[number];
            if !node.is_up || node.applied == self.metadata.len() {
                return;
            }
            node.image = node.image.apply(&self.metadata[node.applied]).expect("they make sense").0;
            node.applied += 1;
            let partition = node.image.partition(self.topic, PartitionIndex(0)).cloned();
            if let Some(partition) = partition {
                node.is_unclean |= partition.is_recovering;
                if node.applied >= node.registered {
                    self.learn(number, &partition);
                }
            }
        }
    }

    fn learn(&mut self, number: usize, partition: &PartitionInfo) {
        let (rule, now) = (self.rule, self.now);
        let image = self.nodes[number].image.clone();
        let min_isr = World::min_isr(&image);
        let leads = partition.leader == Some(self.nodes[number].id);
        let is_same = match &self.nodes[number].role {
            Role::Leads(leader) => leader.epoch() == partition.leader_epoch,
            _ => false,
        };
        if leads && is_same {
            self.lead(number, Event::Registered(registration(&image, partition)));
            self.lead(number, Event::MinIsrChanged(min_isr));
            return;
        }
        if leads {
            self.finish_io(number);
            let node = &mut self.nodes[number];
            let start = LeaderStart {
                replica: node.id,
                epoch: partition.leader_epoch,
                log: node.disk.lineage(),
                high_watermark: Offset(node.high_watermark()),
                ends: node.disk.ends(),
                rule,
                replicas: partition.replicas.clone(),
                registration: registration(&image, partition),
                min_isr,
                limits: Limits::default(),
                controller_at: now,
            };
            node.asked = None;
            node.is_unclean = false;
            node.role = Role::Leads(Box::new(Leader::new(now, start)));
            self.judge.on_term(partition.leader_epoch);
            self.lead(number, Event::Tick);
            return;
        }
        let node = &mut self.nodes[number];
        if !matches!(node.role, Role::Follows(_)) {
            let start = FollowerStart {
                replica: node.id,
                log: node.disk.lineage(),
                durable: Offset(node.disk.durable),
                high_watermark: Offset(node.high_watermark()),
                rule,
            };
            node.asked = None;
            node.role = Role::Follows(Box::new(Follower::new(start)));
        }
        let is_unclean = std::mem::take(&mut node.is_unclean);
        let (epoch, leader) = (partition.leader_epoch, partition.leader);
        self.follow(number, FollowerEvent::Term(Term { epoch, leader, is_unclean }));
    }

    // What a room does for a replica.

    pub(super) fn lead(&mut self, number: usize, event: Event) {
        let node = &mut self.nodes[number];
        let Role::Leads(leader) = &mut node.role else { return };
        let mut effects = Vec::new();
        // The metadata settle a proposal before its answer comes.
        if let Event::Registered(registration) = &event {
            node.asked = node.asked.filter(|(_, base)| *base >= registration.epoch);
        }
        leader.step(self.now, event, &mut effects);
        let leader = leader.clone();
        // What it committed when its term began nobody was told of by an effect.
        self.judge.on_watermark(&leader, number, &self.nodes, self.rule, self.now);
        for effect in effects {
            if let Effect::ProposeIsr(Proposal { term, base, isr, is_recovering }) = effect {
                let node = &mut self.nodes[number];
                node.sends += 1;
                assert!(node.asked.is_none(), "two proposals on their way");
                node.asked = Some((node.sends, base));
                let (topic, index) = (self.topic, PartitionIndex(0));
                let wish = AlterPartition {
                    topic,
                    index,
                    leader_epoch: term,
                    epoch: base,
                    isr,
                    is_recovering,
                };
                let (epoch, send) = (node.epoch, node.sends);
                self.told.push(format!("{number} proposes {:?}", ids(&wish.isr)));
                self.wire.push(Packet::Alter { from: number, epoch, send, wish });
            }
        }
    }

    fn follow(&mut self, number: usize, event: FollowerEvent) {
        let mut records = Vec::new();
        self.follow_with(number, event, &mut records);
    }

    fn follow_with(&mut self, number: usize, event: FollowerEvent, records: &mut Vec<Record>) {
        let node = &mut self.nodes[number];
        let Role::Follows(follower) = &mut node.role else { return };
        let mut effects = Vec::new();
        follower.step(self.now, event, &mut effects);
        for effect in effects {
            let node = &mut self.nodes[number];
            match effect {
                FollowerEffect::Append => node.io = Some(Io::Append(std::mem::take(records))),
                FollowerEffect::Truncate(end) => node.io = Some(Io::Truncate(end.0)),
                FollowerEffect::Reset(start) => node.io = Some(Io::Reset(start.0)),
                FollowerEffect::LogStart(start) => {
                    let gone = (start.0 - node.disk.start) as usize;
                    node.disk.records.drain(..gone);
                    node.disk.start = start.0;
                    node.disk.durable = node.disk.durable.max(start.0);
                    self.follow(number, FollowerEvent::Trimmed(start));
                }
                FollowerEffect::GivesUp(from, to) => {
                    self.told.push(format!("{number} gives up {from}..{to}"));
                    self.judge.on_gives_up(number);
                }
                FollowerEffect::Parted(end) => {
                    self.told.push(format!("{number} parted at {end}"));
                    self.judge.on_parted(number);
                }
                FollowerEffect::HighWatermark(end) => {
                    node.disk.checkpoint = node.disk.checkpoint.min(end.0);
                }
                FollowerEffect::Ask(_) | FollowerEffect::Report(_) => {}
            }
        }
    }

    pub(super) fn finish_io(&mut self, number: usize) {
        let Some(io) = self.nodes[number].io.take() else { return };
        let disk = &mut self.nodes[number].disk;
        let event = match io {
            Io::Append(records) => {
                disk.records.extend(records);
                FollowerEvent::Appended
            }
            Io::Truncate(end) => {
                self.told.push(format!("{number} cuts at {end}"));
                self.judge.on_cut(number, disk, end);
                disk.cut(end);
                FollowerEvent::Cut
            }
            Io::Reset(start) => {
                self.told.push(format!("{number} begins anew at {start}"));
                self.judge.on_cut(number, disk, start);
                *disk = Disk { start, durable: start, checkpoint: start, ..Disk::default() };
                FollowerEvent::Cut
            }
        };
        self.follow(number, event);
    }

    pub(super) fn append(&mut self, number: usize) {
        let Role::Leads(leader) = &self.nodes[number].role else { return };
        self.values += 1;
        let record = Record { epoch: leader.epoch(), value: self.values };
        self.nodes[number].disk.records.push(record);
        let ends = self.nodes[number].disk.ends();
        self.lead(number, Event::Local(ends));
    }

    /// A sync ends that covers so many records more.
    pub(super) fn sync(&mut self, number: usize, count: usize) {
        let node = &mut self.nodes[number];
        if !node.is_up {
            return;
        }
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        node.disk.durable = node.disk.durable.saturating_add(count).min(node.disk.end());
        node.disk.checkpoint = node.high_watermark();
        let ends = node.disk.ends();
        self.lead(number, Event::Local(ends));
        self.follow(number, FollowerEvent::Synced(ends.durable));
    }

    /// The leader deletes records below its watermark.
    pub(super) fn trim(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let Role::Leads(leader) = &node.role else { return };
        let start = leader.high_watermark();
        let gone = (start.0 - node.disk.start).max(0) as usize;
        node.disk.records.drain(..gone);
        node.disk.start += gone as i64;
        node.disk.durable = node.disk.durable.max(node.disk.start);
        let start = Offset(node.disk.start);
        self.lead(number, Event::Trimmed(start));
    }

    pub(super) fn tick(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        for number in 0..NODES {
            let deadline = match &self.nodes[number].role {
                Role::Leads(leader) => leader.deadline(),
                Role::Follows(follower) => follower.deadline(),
                Role::Nothing => None,
            };
            if deadline.is_some_and(|at| at <= self.now) {
                self.lead(number, Event::Tick);
                self.follow(number, FollowerEvent::Tick);
            }
        }
    }

    pub(super) fn lose_connection(&mut self, number: usize) {
        (0..NODES).for_each(|other| self.lead(other, Event::Disconnected(BrokerId(number as i32))));
    }

    /// The leader gives up waiting for an answer to its proposal.
    pub(super) fn time_out(&mut self, number: usize) {
        if let Some((_, base)) = self.nodes[number].asked.take() {
            self.lead(number, Event::Proposed(base, ProposalAnswer::Unknown));
        }
    }

    pub(super) fn set_cut_off(&mut self, number: usize, is_cut_off: bool) {
        self.nodes[number].is_cut_off = is_cut_off;
    }

    pub(super) fn applied_max(&self) -> usize {
        self.metadata.len()
    }

    pub(super) fn check(&mut self) {
        let (all, now) = (self.applied_max(), self.now);
        for node in self.nodes.iter_mut().filter(|node| node.is_up && node.applied == all) {
            node.current_at = now;
        }
        self.judge.check(self);
    }
}

impl Node {
    /// What it knows to be committed.
    pub(super) fn high_watermark(&self) -> i64 {
        match &self.role {
            Role::Leads(leader) => leader.high_watermark().0,
            Role::Follows(follower) => follower.high_watermark().0,
            Role::Nothing => self.disk.checkpoint.clamp(self.disk.start, self.disk.end()),
        }
    }
}

pub(super) fn ids(isr: &[(BrokerId, BrokerEpoch)]) -> Vec<i32> {
    isr.iter().map(|(id, _)| id.0).collect()
}

fn registration(image: &Image, partition: &PartitionInfo) -> Registration {
    let peer = |id: &BrokerId| {
        let broker = image.broker(*id)?;
        let may_lead = !broker.is_fenced && !broker.is_stopping;
        Some(Peer { id: *id, epoch: broker.epoch, may_lead })
    };
    Registration {
        epoch: partition.epoch,
        isr: partition.isr.clone(),
        is_recovering: partition.is_recovering,
        peers: partition.replicas.iter().filter_map(peer).collect(),
    }
}
