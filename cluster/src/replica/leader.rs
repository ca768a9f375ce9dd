//! The leader's high watermark: the one line below which records are committed.
//!
//! ```text
//!  log_start                      high_watermark    durable      written
//!  ----|-------------------------------|---------------|-----------|----->
//!      | readable by consumers         | appended, not yet committed
//! ```
//!
//! A room of its own because the rule must be read, tested and explored without any I/O: events say how far each replica
//! has got, and the one effect says how far the watermark moved. The maximal in-sync set is the committed one and the
//! proposed one together: a record must be on every member of both, for either may turn out to be the one that counts.
//!
//! Invariants, all asserted in [`Leader::check`]: the watermark never passes what the commit rule allows on the known ends
//! (I22), does not advance while fewer than the needed replicas are in sync (I22), and never goes back within an epoch
//! (I23). A watermark below the epoch's start is not to be shown to clients (I24): [`Leader::visible_end`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use types::{BrokerId, Instant, LeaderEpoch, Offset};

/// Kafka's default of `min.insync.replicas`.
pub const MIN_ISR_DEFAULT: usize = 1;

/// Which end of a replica counts towards the watermark: a topic's `durability`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum CommitRule {
    /// CR-F, `durability=sync`: what a power cut now would leave.
    Durable,
    /// CR-K, `durability=page-cache`: what has been written.
    Written,
}

/// How far the leader's own log has got.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LocalEnds {
    /// End of what a power cut now would leave.
    pub durable: Offset,
    /// End of what is written and may be read.
    pub written: Offset,
}

/// How far a follower has got, as its last fetch said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FollowerEnds {
    /// End of what it has synced.
    pub durable: Offset,
    /// End of what it has received.
    pub received: Offset,
}

/// What a leader knows when its term begins.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeaderStart {
    /// The broker that leads.
    pub replica: BrokerId,
    /// Its term.
    pub epoch: LeaderEpoch,
    /// End of its log when the term began: the term's records start here.
    pub epoch_start: Offset,
    /// A watermark known from before (a checkpoint, or the log's start): a lower bound.
    pub high_watermark: Offset,
    /// How far its own log has got.
    pub ends: LocalEnds,
    /// The topic's rule.
    pub rule: CommitRule,
    /// All replicas of the partition, itself included.
    pub replicas: Vec<BrokerId>,
    /// The in-sync replicas by the metadata, itself included.
    pub isr: Vec<BrokerId>,
    /// The topic's `min.insync.replicas`; capped at the number of replicas.
    pub min_isr: usize,
}

/// What can happen to a leader, in the order of a record's life.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Event {
    /// Its own log got further. Ends may arrive out of order: the furthest counts.
    Local(LocalEnds),
    /// A follower fetched in this term and reported its ends.
    Fetched {
        /// The follower.
        replica: BrokerId,
        /// How far it is.
        ends: FollowerEnds,
    },
    /// A change of the in-sync set was sent to the controller and may already count.
    IsrProposed(Vec<BrokerId>),
    /// The metadata names this in-sync set; proposals before it are settled.
    IsrCommitted(Vec<BrokerId>),
    /// The topic's `durability` changed.
    RuleChanged(CommitRule),
    /// The topic's `min.insync.replicas` changed.
    MinIsrChanged(usize),
}

/// What a leader wants done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Effect {
    /// The watermark moved to here: wake who waits below it.
    HighWatermark(Offset),
}

/// A partition's leader in one term.
#[derive(Clone, Debug)]
pub struct Leader {
    replica: BrokerId,
    epoch: LeaderEpoch,
    epoch_start: Offset,
    high_watermark: Offset,
    ends: LocalEnds,
    rule: CommitRule,
    replicas: BTreeSet<BrokerId>,
    /// Followers that fetched in this term; at most the partition's replicas.
    followers: BTreeMap<BrokerId, FollowerEnds>,
    isr: BTreeSet<BrokerId>,
    proposed: BTreeSet<BrokerId>,
    min_isr: usize,
}

impl Leader {
    /// Begins a term. The watermark advances at once as far as the rule allows.
    pub fn new(start: LeaderStart) -> Leader {
        let mut leader = Leader {
            replica: start.replica,
            epoch: start.epoch,
            epoch_start: start.epoch_start,
            // A power cut may take page-cache bytes that an older checkpoint counted.
            high_watermark: start.high_watermark.min(start.ends.written),
            ends: start.ends,
            rule: start.rule,
            replicas: start.replicas.into_iter().collect(),
            followers: BTreeMap::new(),
            isr: start.isr.into_iter().collect(),
            proposed: BTreeSet::new(),
            min_isr: start.min_isr,
        };
        assert!(leader.isr.contains(&leader.replica), "a leader is in sync with itself");
        leader.advance(&mut Vec::new());
        leader.check();
        leader
    }

    /// Takes one event. The only mutation; the same events give the same effects.
    pub fn step(&mut self, _now: Instant, event: Event, effects: &mut Vec<Effect>) {
        let before = self.high_watermark;
        match event {
            Event::Local(ends) => self.on_local(ends),
            Event::Fetched { replica, ends } => self.on_fetched(replica, ends),
            Event::IsrProposed(isr) => self.on_isr_proposed(isr),
            Event::IsrCommitted(isr) => self.on_isr_committed(isr),
            Event::RuleChanged(rule) => self.rule = rule,
            Event::MinIsrChanged(min_isr) => self.min_isr = min_isr,
        }
        self.advance(effects);
        assert!(self.high_watermark >= before, "{self}: watermark went back from {before} (I23)");
        self.check();
    }

    /// The term.
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// End of what is committed.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The leader's own end by the rule: what acks=1 waits for.
    pub fn local_end(&self) -> Offset {
        self.rule.local_end(self.ends)
    }

    /// The watermark if clients may be told of it: not before it has reached the term's start, since until then an
    /// earlier leader may have shown more (I24).
    pub fn visible_end(&self) -> Option<Offset> {
        (self.high_watermark >= self.epoch_start).then_some(self.high_watermark)
    }

    /// Whether enough replicas are in sync for writes with acks=all.
    pub fn has_enough_in_sync(&self) -> bool {
        self.isr.len() >= self.min_isr_effective()
    }

    /// The in-sync set by the metadata.
    pub fn isr(&self) -> impl Iterator<Item = BrokerId> + '_ {
        self.isr.iter().copied()
    }

    fn on_local(&mut self, ends: LocalEnds) {
        self.ends.durable = self.ends.durable.max(ends.durable);
        self.ends.written = self.ends.written.max(ends.written);
    }

    fn on_fetched(&mut self, replica: BrokerId, ends: FollowerEnds) {
        // A broker that is no replica counts for nothing, and is not remembered.
        if replica != self.replica && self.replicas.contains(&replica) {
            self.followers.insert(replica, ends);
        }
    }

    fn on_isr_proposed(&mut self, isr: Vec<BrokerId>) {
        assert!(isr.contains(&self.replica), "{self}: a leader never proposes its own removal");
        self.proposed.extend(isr);
    }

    fn on_isr_committed(&mut self, isr: Vec<BrokerId>) {
        self.isr = isr.into_iter().collect();
        self.proposed.clear();
    }

    fn min_isr_effective(&self) -> usize {
        self.min_isr.min(self.replicas.len())
    }

    /// What the commit rule allows on the ends known now: the least end over the maximal in-sync set.
    fn allowed(&self) -> Offset {
        let end = |replica: &BrokerId| {
            if *replica == self.replica {
                return self.rule.local_end(self.ends);
            }
            self.followers.get(replica).map_or(Offset::ZERO, |ends| self.rule.follower_end(*ends))
        };
        let members = self.isr.union(&self.proposed);
        members.map(end).min().unwrap_or(Offset::ZERO)
    }

    fn advance(&mut self, effects: &mut Vec<Effect>) {
        let allowed = self.allowed();
        if self.has_enough_in_sync() && allowed > self.high_watermark {
            self.high_watermark = allowed;
            effects.push(Effect::HighWatermark(allowed));
        }
    }

    fn check(&self) {
        assert!(self.high_watermark.0 >= 0, "{self}: watermark below zero");
        assert!(
            self.high_watermark <= self.ends.written,
            "{self}: watermark beyond the leader's own log (I22)"
        );
        assert!(self.followers.len() < self.replicas.len(), "{self}: more followers than replicas");
        assert!(!self.followers.contains_key(&self.replica), "{self}: follows itself");
    }
}

impl CommitRule {
    fn local_end(self, ends: LocalEnds) -> Offset {
        match self {
            // Nothing that cannot be read yet is committed, even if the journal has it.
            CommitRule::Durable => ends.durable.min(ends.written),
            CommitRule::Written => ends.written,
        }
    }

    fn follower_end(self, ends: FollowerEnds) -> Offset {
        match self {
            CommitRule::Durable => ends.durable.min(ends.received),
            CommitRule::Written => ends.received,
        }
    }
}

impl fmt::Display for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let isr: Vec<i32> = self.isr.iter().map(|replica| replica.0).collect();
        write!(
            f,
            "leader {} epoch {} from {} hw {} durable {} written {} isr {isr:?}",
            self.replica,
            self.epoch,
            self.epoch_start,
            self.high_watermark,
            self.ends.durable,
            self.ends.written,
        )
    }
}

#[cfg(test)]
mod tests;
