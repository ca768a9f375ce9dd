//! What must hold, whatever happens: judged on what all disks hold, which no replica knows.

use std::collections::BTreeMap;

use types::{BrokerId, Instant, LeaderEpoch, Offset};

use super::world::{Disk, Node, Record, Role, World};
use crate::metadata::PartitionInfo;
use crate::replica::{CommitRule, Follower, Leader, Limits};

#[derive(Default)]
pub(super) struct Judge {
    /// What each place of each term holds (I16).
    content: BTreeMap<(LeaderEpoch, i64), u32>,
    /// Everything committed (`C[p]`): what producers were told of.
    committed: BTreeMap<i64, Record>,
    /// The furthest that anybody has committed, whatever was given up since.
    furthest: i64,
    /// When it had got how far.
    told: Vec<(Instant, i64)>,
    /// For the newest term: how far leaders of earlier ones had committed when it began.
    term: LeaderEpoch,
    shown_before: i64,
    /// Terms before this one ended with an unclean election: what their leaders still commit is lost (I30).
    unclean: LeaderEpoch,
}

/// How far a replica has got by the rule.
fn end_by(rule: CommitRule, disk: &Disk) -> i64 {
    match rule {
        CommitRule::Durable => disk.durable,
        CommitRule::Written => disk.end(),
    }
}

impl Judge {
    pub(super) fn on_term(&mut self, term: LeaderEpoch) {
        if term > self.term {
            (self.term, self.shown_before) = (term, self.end());
        }
    }

    /// An operator has given up what the new leader does not hold.
    pub(super) fn on_unclean_election(&mut self, term: LeaderEpoch, disk: &Disk) {
        self.unclean = term;
        self.committed
            .retain(|offset, record| *offset < disk.start || disk.at(*offset) == Some(*record));
    }

    fn end(&self) -> i64 {
        self.committed.last_key_value().map_or(0, |(offset, _)| offset + 1)
    }

    /// A leader tells how far it has committed: producers hear of all below.
    pub(super) fn on_watermark(
        &mut self,
        leader: &Leader,
        number: usize,
        nodes: &[Node],
        rule: CommitRule,
        now: Instant,
    ) {
        if leader.high_watermark().0 > self.furthest {
            self.furthest = leader.high_watermark().0;
            self.told.push((now, self.furthest));
        }
        if leader.epoch() < self.unclean {
            return;
        }
        let disk = &nodes[number].disk;
        for offset in disk.start..leader.high_watermark().0 {
            let record = disk.at(offset).expect("I22: a watermark within the log");
            let is_new = !self.committed.contains_key(&offset);
            let known = *self.committed.entry(offset).or_insert(record);
            assert_eq!(known, record, "I18: {leader} has another record at {offset}");
            if !is_new {
                continue;
            }
            for member in leader.isr_maximal() {
                let node = &nodes[member.0 as usize];
                let holds = node.disk.start > offset
                    || node.disk.at(offset) == Some(record) && offset < end_by(rule, &node.disk);
                assert!(holds || node.is_lossy, "I22: {member} lacks {offset} of {leader}");
            }
        }
    }

    /// A follower is about to cut its log.
    pub(super) fn on_cut(&self, number: usize, disk: &Disk, end: i64) {
        for offset in end.max(disk.start)..disk.end() {
            let is_committed = self.committed.get(&offset) == disk.at(offset).as_ref();
            assert!(!is_committed, "I25: {number} gives up {offset}, which is committed");
        }
    }

    pub(super) fn on_gives_up(&self, number: usize) {
        assert!(self.unclean > LeaderEpoch(0), "I25: {number} gives up what nobody has");
    }

    pub(super) fn on_parted(&self, number: usize) {
        panic!("I25: the log of {number} parts from its leader's below what is committed");
    }

    /// Replicas have come into the in-sync set.
    pub(super) fn on_joined(
        &self,
        joiners: &[BrokerId],
        nodes: &[Node],
        rule: CommitRule,
        leader: &Node,
    ) {
        for id in joiners {
            let node = &nodes[id.0 as usize];
            let end = end_by(rule, &node.disk);
            assert!(
                node.is_lossy || end >= leader.high_watermark(),
                "I26: {id} lacks the watermark"
            );
        }
    }

    /// Whether somebody else who may be elected holds everything: power may be cut here.
    pub(super) fn is_held_elsewhere(
        &self,
        number: usize,
        partition: &PartitionInfo,
        nodes: &[Node],
    ) -> bool {
        let mut others = partition.isr.iter().chain(&partition.elr).map(|id| id.0 as usize);
        others.any(|other| {
            other != number && !nodes[other].is_lossy && self.holds_all(&nodes[other].disk, None)
        })
    }

    fn holds_all(&self, disk: &Disk, rule: Option<CommitRule>) -> bool {
        let end = rule.map_or(disk.end(), |rule| end_by(rule, disk));
        self.committed
            .range(disk.start..)
            .all(|(offset, record)| *offset < end && disk.at(*offset) == Some(*record))
    }

    pub(super) fn check(&self, world: &World) {
        let partition = world.partition();
        let is_unclean = self.unclean > LeaderEpoch(0);
        for id in partition.isr.iter().chain(&partition.elr) {
            let node = &world.nodes[id.0 as usize];
            // The controller has not heard yet that its power was cut.
            let holds = node.is_lossy || self.holds_all(&node.disk, Some(world.rule));
            assert!(holds, "I20: {id} may be elected and lacks what is committed: {partition:?}");
        }
        for (number, node) in world.nodes.iter().enumerate() {
            assert!(
                node.high_watermark() <= self.furthest,
                "I23: {number} takes {} for committed, of {}",
                node.high_watermark(),
                self.furthest
            );
            if let Role::Follows(follower) = &node.role
                && node.is_up
                && !is_unclean
            {
                self.check_reader(world, node, follower);
            }
            let Role::Leads(leader) = &node.role else { continue };
            let is_newest = node.applied == world.applied_max();
            if leader.epoch() == self.term && leader.epoch() == partition.leader_epoch {
                let holds = self.holds_all(&node.disk, None);
                assert!(holds, "I19: {leader} lacks what is committed");
                let shown = leader.visible_end().unwrap_or(Offset(i64::MAX)).0;
                assert!(shown >= self.shown_before || is_unclean, "I24: {leader} shows {shown}");
            }
            if is_newest && leader.has_enough_in_sync() {
                let maximal = leader.isr_maximal();
                let mut members = partition.isr.iter().chain(&partition.elr);
                assert!(members.all(|id| maximal.contains(id)), "I21: {leader}: {partition:?}");
            }
        }
        self.check_matching(world);
    }

    /// I36: who reads from a follower sees whatever was committed a session ago.
    fn check_reader(&self, world: &World, node: &Node, follower: &Follower) {
        let session = Limits::default().session;
        if follower.may_serve(world.now, node.current_at, session) {
            let old = self.told.iter().filter(|(at, _)| *at + session < world.now);
            let known = old.map(|(_, end)| *end).max().unwrap_or_default();
            let shown = follower.high_watermark().0;
            assert!(shown >= known, "I36: {follower} shows {shown} of {known}");
        }
    }

    /// I16, I17: one record at each place of a term, and the same before it.
    fn check_matching(&self, world: &World) {
        for (number, one) in world.nodes.iter().enumerate() {
            for other in &world.nodes[number + 1..] {
                let (one, other) = (&one.disk, &other.disk);
                let start = one.start.max(other.start);
                let end = one.end().min(other.end());
                let epoch = |disk: &Disk, offset| disk.at(offset).map(|record| record.epoch);
                let shared = (start..end).rev().find(|at| epoch(one, *at) == epoch(other, *at));
                for offset in start..shared.map_or(start, |last| last + 1) {
                    assert_eq!(one.at(offset), other.at(offset), "I17: at {offset} of {number}");
                }
            }
        }
    }

    pub(super) fn note_contents(&mut self, nodes: &[Node]) {
        for node in nodes {
            for (record, offset) in node.disk.records.iter().zip(node.disk.start..) {
                let known = *self.content.entry((record.epoch, offset)).or_insert(record.value);
                assert_eq!(known, record.value, "I16: at {offset} of {}", node.id);
            }
        }
    }
}
