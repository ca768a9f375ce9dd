//! The leader: which records are committed, and who is in sync.
//!
//! ```text
//!  log_start                      high_watermark    durable      written
//!  ----|-------------------------------|---------------|-----------|----->
//!      | readable by consumers         | appended, not yet committed
//! ```
//!
//! A room of its own because the rules must be read, tested and explored without any I/O: events say how far each replica
//! has got, effects say how far the watermark moved and which in-sync set is wanted. The maximal in-sync set is the committed
//! one and the proposed one together: a record must be on every member of both, for either may turn out to be the one that
//! counts. What the committed one is, only the metadata tell, never the answer to a proposal (I29).
//!
//! Invariants, all asserted in [`Leader::check`]: the watermark never passes what the commit rule allows on the known ends
//! (I22), does not advance while fewer than the needed replicas are in sync (I22), and never goes back within an epoch
//! (I23). A watermark below the epoch's start is not to be shown to clients (I24): [`Leader::visible_end`].
//!
//! Whom it wants in sync stands in [`isr`]. Nothing here needs a timer of its own: [`Leader::deadline`] says when time will
//! matter, and is `None` where nobody lags.

mod ages;
mod isr;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::{BrokerEpoch, BrokerId, ErrorCode, Instant, LeaderEpoch, Offset, PartitionEpoch};

use self::ages::Ages;
use self::isr::Asking;
pub use self::isr::{BACK_WITHIN, EARLY_MAX, EARLY_MIN, PROPOSE_AGAIN};
use super::exchange::{Answer, Question};
use super::lineage::{Lineage, Look, Run};

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
    /// Where its log begins.
    pub log_start: Offset,
}

/// A broker with a replica, as the metadata tell of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// The broker.
    pub id: BrokerId,
    /// Its registration.
    pub epoch: BrokerEpoch,
    /// Whether it may be in sync: not fenced, not stopping, its directory works.
    pub may_lead: bool,
}

/// The partition's registration within the term.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Registration {
    /// Its version.
    pub epoch: PartitionEpoch,
    /// The in-sync replicas, the leader included.
    pub isr: Vec<BrokerId>,
    /// Whether the leader was elected uncleanly and has not said yet that it has recovered.
    pub is_recovering: bool,
    /// The brokers with a replica that are registered, the leader included.
    pub peers: Vec<Peer>,
}

/// How long others may be silent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// `replica.lag.time.max.ms`: how long a follower in sync may lack a byte.
    pub lag_max: Duration,
    /// `broker.session.timeout.ms`: how long a leader serves that hears neither of the controller nor of its followers (I36).
    pub session: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { lag_max: Duration::from_secs(30), session: Duration::from_secs(9) }
    }
}

/// What a leader knows when its term begins.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeaderStart {
    /// The broker that leads.
    pub replica: BrokerId,
    /// Its term.
    pub epoch: LeaderEpoch,
    /// Its log when the term began: the term's records start at its end.
    pub log: Lineage,
    /// A watermark known from before (a checkpoint, or the log's start): a lower bound.
    pub high_watermark: Offset,
    /// How far its own log has got.
    pub ends: LocalEnds,
    /// The topic's rule.
    pub rule: CommitRule,
    /// All replicas of the partition, itself included.
    pub replicas: Vec<BrokerId>,
    /// The partition's registration.
    pub registration: Registration,
    /// The topic's `min.insync.replicas`; capped at the number of replicas.
    pub min_isr: usize,
    /// How long others may be silent.
    pub limits: Limits,
    /// When the broker heard of the controller last: it may have stood still since.
    pub controller_at: Instant,
}

/// An in-sync set that a leader wants, on one registration: what the controller's AlterPartition carries.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Proposal {
    /// The leader's term.
    pub term: LeaderEpoch,
    /// The registration that it changes.
    pub base: PartitionEpoch,
    /// The members, the leader included, and the registration that it knows of each.
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
    /// Whether it is still recovering from an unclean election: never, who is proposes nothing.
    pub is_recovering: bool,
}

/// What became of a proposal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ProposalAnswer {
    /// It is committed with this version of the registration.
    Accepted(PartitionEpoch),
    /// Neither it nor one that was sent before it on the same registration is accepted, now or later.
    Refused(ErrorCode),
    /// It is not known, and may be accepted later: no answer in time, a lost connection, a controller that is none.
    Unknown,
}

/// What can happen to a leader, in the order of a record's life.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Event {
    /// Its own log got further. Ends may arrive out of order: the furthest counts.
    Local(LocalEnds),
    /// Its own log begins here now.
    Trimmed(Offset),
    /// A follower asks, and says how far it is. Take [`Leader::answer`] afterwards.
    Fetched {
        /// The follower.
        replica: BrokerId,
        /// Its registration.
        broker_epoch: BrokerEpoch,
        /// What it asks.
        question: Question,
    },
    /// A follower has fetched again, and its question stands as it was.
    FetchedAgain(BrokerId),
    /// The connection on which a follower fetched was lost.
    Disconnected(BrokerId),
    /// The metadata tell this of the partition in this term; proposals on earlier registrations are settled.
    Registered(Registration),
    /// The one answer to a proposal, which was made on this registration.
    Proposed(PartitionEpoch, ProposalAnswer),
    /// A follower has sent its last fetch of this term after that moment, which is not the one at which the fetch is read: a
    /// process that stood still finds old ones.
    FollowerContact(BrokerId, Instant),
    /// The broker has heard of the controller, at that moment. Need be told only before [`Leader::may_serve`] is asked.
    ControllerContact(Instant),
    /// The topic's `durability` changed.
    RuleChanged(CommitRule),
    /// The topic's `min.insync.replicas` changed.
    MinIsrChanged(usize),
    /// Time has passed.
    Tick,
}

/// What a leader wants done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Effect {
    /// The watermark moved to here: wake who waits below it.
    HighWatermark(Offset),
    /// Ask the controller for this in-sync set. It may count from now on. One at a time: the next follows an answer, or
    /// metadata that settle this one without.
    ProposeIsr(Proposal),
}

/// What is known of a follower.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// Its last fetch in this term.
    heard: Option<Heard>,
    /// It has followed in this term after that.
    contact_at: Option<Instant>,
    /// When its connection was lost, until it is back.
    lost_at: Option<Instant>,
    /// Since when it has kept up at every fetch.
    well_since: Option<Instant>,
    /// How often it was put out early of late, when last, and by a change of which registration.
    early_count: u32,
    early_at: Instant,
    early_from: Option<PartitionEpoch>,
}

#[derive(Clone, Debug)]
struct Heard {
    at: Instant,
    epoch: BrokerEpoch,
    /// `None` while its log parts from this one: its end says nothing then.
    ends: Option<FollowerEnds>,
}

/// A partition's leader in one term.
#[derive(Clone, Debug)]
pub struct Leader {
    replica: BrokerId,
    epoch: LeaderEpoch,
    epoch_start: Offset,
    high_watermark: Offset,
    ends: LocalEnds,
    log: Lineage,
    rule: CommitRule,
    /// All replicas but this.
    followers: BTreeMap<BrokerId, Progress>,
    registration: Registration,
    /// Who may be in sync besides, for all it knows.
    proposed: BTreeSet<BrokerId>,
    asking: Asking,
    min_isr: usize,
    limits: Limits,
    ages: Ages,
    /// How old a byte usually is when it is committed.
    usual: Duration,
    controller_at: Instant,
}

impl Leader {
    /// Begins a term. The watermark advances at once as far as the rule allows.
    pub fn new(now: Instant, start: LeaderStart) -> Leader {
        let newest = start.log.last().epoch;
        assert!(newest <= Some(start.epoch), "epoch {} follows {newest:?} (I3)", start.epoch);
        let followers = start.replicas.into_iter().filter(|id| *id != start.replica);
        let mut leader = Leader {
            replica: start.replica,
            epoch: start.epoch,
            epoch_start: start.log.end(),
            // A power cut may take page-cache bytes that an older checkpoint counted.
            high_watermark: start.high_watermark.min(start.ends.written),
            ends: start.ends,
            log: start.log,
            rule: start.rule,
            followers: followers.map(|id| (id, Progress::default())).collect(),
            registration: start.registration,
            proposed: BTreeSet::new(),
            asking: Asking::Nothing(now),
            min_isr: start.min_isr,
            limits: start.limits,
            ages: Ages::new(now),
            usual: EARLY_MAX,
            controller_at: start.controller_at,
        };
        leader.advance(now, &mut Vec::new());
        leader.check();
        leader
    }

    /// Takes one event. The only mutation; the same events give the same effects.
    pub fn step(&mut self, now: Instant, event: Event, effects: &mut Vec<Effect>) {
        let before = self.high_watermark;
        // Appends are many, and make nobody in sync who was not.
        let is_contact = matches!(event, Event::ControllerContact(_) | Event::FollowerContact(..));
        let may_propose = !is_contact && !matches!(event, Event::Local(_));
        match event {
            Event::Local(ends) => self.on_local(now, ends),
            Event::Trimmed(start) => self.log.trim(start.min(self.log.end())),
            Event::Fetched { replica, broker_epoch, question } => {
                self.on_fetched(now, replica, broker_epoch, &question);
            }
            Event::FetchedAgain(replica) => self.on_fetched_again(now, replica),
            Event::Disconnected(replica) => self.on_disconnected(now, replica),
            Event::Registered(registration) => self.on_registered(now, registration),
            Event::Proposed(base, answer) => self.on_proposal_answered(now, base, answer),
            Event::FollowerContact(replica, at) => {
                if let Some(follower) = self.followers.get_mut(&replica) {
                    follower.contact_at = follower.contact_at.max(Some(at));
                }
            }
            Event::ControllerContact(at) => self.controller_at = self.controller_at.max(at),
            Event::RuleChanged(rule) => self.on_rule_changed(now, rule),
            Event::MinIsrChanged(min_isr) => self.min_isr = min_isr,
            Event::Tick => {}
        }
        self.advance(now, effects);
        if may_propose {
            self.propose(now, effects);
        }
        assert!(self.high_watermark >= before, "{self}: watermark went back from {before} (I23)");
        self.check();
    }

    /// What a follower is told, by what was known when its fetch came in.
    pub fn answer(&self, replica: BrokerId, broker_epoch: BrokerEpoch, asked: &Question) -> Answer {
        if let Err(code) = self.admit(replica, broker_epoch, asked) {
            return Answer::Refused(code);
        }
        let log_start = self.log.start();
        match self.log.look(asked.position) {
            Look::Matches => Answer::Follows {
                high_watermark: self.high_watermark,
                log_start,
                is_shown: self.visible_end().is_some(),
            },
            Look::Parts(shared) => Answer::Parts(shared),
            Look::OutOfRange => Answer::OutOfRange { log_start },
        }
    }

    /// When it wants a [`Event::Tick`]; `None` where nobody lags.
    pub fn deadline(&self) -> Option<Instant> {
        self.proposes_at()
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

    /// End of what is written of its log: what followers are given.
    pub fn written_end(&self) -> Offset {
        self.ends.written
    }

    /// The watermark if clients may be told of it: not before it has reached the term's start, since until then an
    /// earlier leader may have shown more (I24).
    pub fn visible_end(&self) -> Option<Offset> {
        (self.high_watermark >= self.epoch_start).then_some(self.high_watermark)
    }

    /// Whether enough replicas are in sync for writes with acks=all.
    pub fn has_enough_in_sync(&self) -> bool {
        self.registration.isr.len() >= self.min_isr_effective()
    }

    /// The in-sync set by the metadata.
    pub fn isr(&self) -> impl Iterator<Item = BrokerId> + '_ {
        self.registration.isr.iter().copied()
    }

    /// All that are in sync, or may be for all it knows.
    pub fn isr_maximal(&self) -> BTreeSet<BrokerId> {
        self.isr().chain(self.proposed.iter().copied()).collect()
    }

    /// Whom it sends who reads at `offset` and has those nearby that `is_near`: of the members of the in-sync set that are there,
    /// hold that offset and were heard of within a session, so that they serve (I36), the one that holds most; of several the one
    /// heard last, as in Kafka.
    pub fn nearest(
        &self,
        now: Instant,
        offset: Offset,
        is_near: impl Fn(BrokerId) -> bool,
    ) -> Option<BrokerId> {
        // Who does not hear the controller here may not there either, and then only the leader knows whether it may serve.
        if now - self.controller_at > self.limits.session {
            return None;
        }
        let held = |id: BrokerId| {
            let follower = self.followers.get(&id)?;
            let heard = follower.heard.as_ref()?;
            let ends = heard.ends.filter(|it| it.log_start <= offset && offset <= it.received)?;
            let known = self.peer(id).filter(|peer| peer.epoch == heard.epoch && peer.may_lead);
            let contact_at = follower.contact_at.filter(|at| now - *at <= self.limits.session);
            known.and(contact_at).map(|_| (ends.received, heard.at, id))
        };
        let members = self.isr().filter(|id| is_near(*id));
        members.filter_map(held).max().map(|(_, _, id)| id)
    }

    /// Whether what it tells is not too old (I36): it hears of the controller, or of everybody without whom nobody else can
    /// lead.
    pub fn may_serve(&self, now: Instant) -> bool {
        let is_fresh = |at: Instant| now - at <= self.limits.session;
        let is_here = |id: &BrokerId| {
            let contact = self.followers.get(id).map(|follower| follower.contact_at);
            contact.is_none_or(|at| at.is_some_and(is_fresh))
        };
        self.followers.is_empty()
            || is_fresh(self.controller_at)
            // Fewer than needed: others are eligible, too.
            || self.has_enough_in_sync() && self.isr_maximal().iter().all(is_here)
    }

    fn on_local(&mut self, now: Instant, ends: LocalEnds) {
        let before = self.local_end();
        self.ends.durable = self.ends.durable.max(ends.durable);
        self.ends.written = self.ends.written.max(ends.written);
        if self.ends.written > self.log.end() {
            self.log.append(Run { epoch: self.epoch, end: self.ends.written });
        }
        if self.local_end() > before {
            self.ages.goes_on(now, before);
        }
    }

    fn on_fetched(
        &mut self,
        now: Instant,
        replica: BrokerId,
        epoch: BrokerEpoch,
        asked: &Question,
    ) {
        if self.admit(replica, epoch, asked).is_err() {
            return;
        }
        let received = asked.position.offset;
        let ends = FollowerEnds {
            durable: asked.durable.min(received),
            received,
            log_start: asked.log_start,
        };
        let is_shared = self.log.look(asked.position) == Look::Matches;
        self.on_heard(replica, Heard { at: now, epoch, ends: is_shared.then_some(ends) });
    }

    fn on_fetched_again(&mut self, now: Instant, replica: BrokerId) {
        let heard = self.followers.get(&replica).and_then(|follower| follower.heard.clone());
        // What it asked in an earlier term is none of this one's.
        if let Some(heard) = heard {
            self.on_heard(replica, Heard { at: now, ..heard });
        }
    }

    fn on_heard(&mut self, replica: BrokerId, heard: Heard) {
        let end = heard.ends.map_or(Offset::ZERO, |ends| self.rule.follower_end(ends));
        let keeps_up = self.keeps_up(heard.at, end);
        let Some(follower) = self.followers.get_mut(&replica) else { return };
        follower.lost_at = None;
        follower.well_since = keeps_up.then(|| follower.well_since.unwrap_or(heard.at));
        follower.heard = Some(heard);
    }

    fn on_disconnected(&mut self, now: Instant, replica: BrokerId) {
        if let Some(follower) = self.followers.get_mut(&replica) {
            follower.lost_at.get_or_insert(now);
        }
    }

    fn on_registered(&mut self, now: Instant, registration: Registration) {
        if registration.epoch < self.registration.epoch {
            return;
        }
        if registration.epoch > self.registration.epoch {
            self.proposed.clear();
            self.asking = Asking::Nothing(now);
        }
        self.registration = registration;
    }

    fn on_rule_changed(&mut self, now: Instant, rule: CommitRule) {
        self.rule = rule;
        // Ends of another kind: what is missing now is missing since now.
        self.ages = Ages::new(now);
    }

    /// Whether a fetch is one of this term, by a follower as it is registered.
    fn admit(
        &self,
        replica: BrokerId,
        epoch: BrokerEpoch,
        asked: &Question,
    ) -> Result<(), ErrorCode> {
        if asked.term < self.epoch {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        if asked.term > self.epoch {
            return Err(ErrorCode::UnknownLeaderEpoch);
        }
        let Some(follower) = self.followers.get(&replica) else {
            return Err(ErrorCode::NotLeaderOrFollower);
        };
        let registered = self.registration.peers.iter().filter(|peer| peer.id == replica);
        let heard = follower.heard.as_ref().map(|heard| heard.epoch);
        let newest = registered.map(|peer| peer.epoch).chain(heard).max();
        match newest.is_some_and(|newest| epoch < newest) {
            true => Err(ErrorCode::StaleBrokerEpoch),
            false => Ok(()),
        }
    }

    fn min_isr_effective(&self) -> usize {
        self.min_isr.min(self.followers.len() + 1)
    }

    /// How far a replica has got by the rule, as far as is known.
    fn end_of(&self, replica: BrokerId) -> Offset {
        if replica == self.replica {
            return self.local_end();
        }
        let heard = self.followers.get(&replica).and_then(|follower| follower.heard.as_ref());
        let ends = heard.and_then(|heard| heard.ends);
        ends.map_or(Offset::ZERO, |ends| self.rule.follower_end(ends))
    }

    /// What the commit rule allows on the ends known now: the least end over the maximal in-sync set.
    fn allowed(&self) -> Offset {
        let members = self.registration.isr.iter().chain(&self.proposed);
        members.map(|replica| self.end_of(*replica)).min().unwrap_or(Offset::ZERO)
    }

    fn advance(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let allowed = self.allowed();
        if self.has_enough_in_sync() && allowed > self.high_watermark {
            self.high_watermark = allowed;
            self.learn_pace(now, allowed);
            self.ages.forget(allowed);
            effects.push(Effect::HighWatermark(allowed));
        }
    }

    fn check(&self) {
        assert!(self.high_watermark.0 >= 0, "{self}: watermark below zero");
        assert!(
            self.high_watermark <= self.ends.written,
            "{self}: watermark beyond the leader's own log (I22)"
        );
        assert!(!self.followers.contains_key(&self.replica), "{self}: follows itself");
        assert!(
            self.registration.isr.contains(&self.replica),
            "{self}: a leader is in sync with itself"
        );
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
        let isr: Vec<i32> = self.isr().map(|replica| replica.0).collect();
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
