//! Whom a leader wants in sync.
//!
//! Followers come in when they hold what counts (I26), and go when a byte that the leader has is missing for too long: soon
//! while there are more than needed, since a slow one makes every producer wait; else not before `replica.lag.time.max.ms`.
//! Who went early waits longer each time until it may come back. A change is proposed on one registration and settled by a
//! newer one: until then the proposed members count, and those they would replace (see [`super`]).

use std::time::Duration;

use types::mutant::{Mutant, planted};
use types::{BrokerId, ErrorCode, Instant, Offset, PartitionEpoch};

use super::{Effect, Leader, Peer, Progress, Proposal, ProposalAnswer};

/// The longest that a byte may be missing at a follower that others can do without.
pub const EARLY_MAX: Duration = Duration::from_secs(1);
/// The shortest, however fast followers usually are.
pub const EARLY_MIN: Duration = Duration::from_millis(250);
/// How many times slower than usual is too slow.
const EARLY_FACTOR: u32 = 8;

/// A follower whose connection was reset counts as slow when it is not back within this.
pub const BACK_WITHIN: Duration = Duration::from_millis(200);

/// How long a follower must keep up after it went early; twice as long each time.
const PROBATION: Duration = Duration::from_secs(1);
const PROBATIONS_MAX: u32 = 6;
/// After so long without going early all is forgotten.
const FORGIVEN: Duration = Duration::from_secs(600);

/// Pause after a proposal that was refused, or not answered.
pub const PROPOSE_AGAIN: Duration = Duration::from_millis(100);

/// What has become of the newest proposal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asking {
    /// None is on its way, and none is made before this.
    Nothing(Instant),
    /// It is on its way.
    Sent,
    /// The registration has changed, or will have: metadata that say how are on their way.
    Settled,
}

impl Leader {
    /// The answer to a proposal on the registration `base`.
    pub(super) fn on_proposal_answered(
        &mut self,
        now: Instant,
        base: PartitionEpoch,
        answer: ProposalAnswer,
    ) {
        if base != self.registration.epoch || self.asking != Asking::Sent {
            return;
        }
        let again = Asking::Nothing(now + PROPOSE_AGAIN);
        self.asking = match answer {
            // I29: what counts is told by the metadata, in the order of its changes.
            ProposalAnswer::Accepted(epoch) if epoch > base => {
                if planted(Mutant::AnswerCountsAsMetadata) {
                    self.registration.isr = self.proposed.iter().copied().collect();
                }
                Asking::Settled
            }
            ProposalAnswer::Refused(
                ErrorCode::InvalidUpdateVersion
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::NewLeaderElected
                | ErrorCode::UnknownTopicId
                | ErrorCode::UnknownTopicOrPartition,
            ) => Asking::Settled,
            ProposalAnswer::Accepted(_) | ProposalAnswer::Refused(_) => {
                self.proposed.clear();
                again
            }
            // It may have been accepted, or be so later.
            ProposalAnswer::Unknown => again,
        };
    }

    /// Proposes what is due.
    pub(super) fn propose(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        match self.asking {
            Asking::Nothing(before) if before <= now => {}
            _ => return,
        }
        if !self.may_propose() {
            return;
        }
        let mut isr = self.registration.isr.clone();
        isr.extend(
            self.followers.keys().filter(|id| self.joins_at(**id).is_some_and(|at| at <= now)),
        );
        let (mut slow, late) = self.slow(&isr, now);
        isr.retain(|id| !late.contains(id));
        let spare = isr.len().saturating_sub(self.min_isr_effective());
        slow.truncate(spare);
        isr.retain(|id| !slow.contains(id));
        let is_same = isr.len() == self.registration.isr.len()
            && isr.iter().all(|id| self.registration.isr.contains(id));
        if is_same && !self.registration.is_recovering {
            return;
        }
        let named = isr.iter().map(|id| (*id, self.peer(*id).expect("looked up before").epoch));
        let named = named.collect();
        slow.iter().for_each(|id| self.on_gone_early(now, *id));
        if !planted(Mutant::ProposedForgotten) {
            self.proposed.extend(isr.iter().copied());
        }
        if planted(Mutant::ShrinkCountsAtOnce) {
            self.registration.isr.retain(|id| isr.contains(id));
        }
        self.asking = Asking::Sent;
        let (term, base) = (self.epoch, self.registration.epoch);
        effects.push(Effect::ProposeIsr(Proposal { term, base, isr: named, is_recovering: false }));
    }

    /// When a proposal will be due if nothing else happens.
    pub(super) fn proposes_at(&self) -> Option<Instant> {
        let Asking::Nothing(before) = self.asking else { return None };
        if !self.may_propose() {
            return None;
        }
        let isr = &self.registration.isr;
        let has_spare = isr.len() > self.min_isr_effective();
        let goes = |id: BrokerId| {
            let (early, late) = self.goes_at(id)?;
            Some(if has_spare { early.min(late) } else { late })
        };
        let ids = self.followers.keys().copied();
        let times =
            ids.filter_map(|id| if isr.contains(&id) { goes(id) } else { self.joins_at(id) });
        let recovers = self.registration.is_recovering.then_some(before);
        times.chain(recovers).min().map(|at| at.max(before))
    }

    /// After an unclean election its log is what counts, once it holds it for good; nobody joins before. And who is named is
    /// named with a registration.
    fn may_propose(&self) -> bool {
        let is_ready = !self.registration.is_recovering || self.local_end() >= self.epoch_start;
        is_ready && self.registration.isr.iter().all(|id| self.peer(*id).is_some())
    }

    pub(super) fn peer(&self, id: BrokerId) -> Option<&Peer> {
        self.registration.peers.iter().find(|peer| peer.id == id)
    }

    /// When a follower may be taken in, if it may (I26).
    fn joins_at(&self, id: BrokerId) -> Option<Instant> {
        let follower = &self.followers[&id];
        let heard = follower.heard.as_ref()?;
        let needed = match planted(Mutant::JoinsBelowEpochStart) {
            true => self.high_watermark,
            false => self.high_watermark.max(self.epoch_start),
        };
        let known = self.peer(id).filter(|peer| peer.epoch == heard.epoch);
        let may_lead = known.is_some_and(|peer| peer.may_lead);
        let is_in_sync = self.registration.isr.contains(&id);
        // One that would have to go again at once stays out.
        let is_late = self.goes_at(id).is_some_and(|(_, late)| late <= heard.at);
        if is_in_sync || is_late || !may_lead || heard.ends.is_none() || self.end_of(id) < needed {
            return None;
        }
        match follower.early_count {
            0 => Some(heard.at),
            count => follower.well_since.map(|well| well + probation(count)),
        }
    }

    /// When a follower is too slow if it says nothing more: where others can do without it, and anywhere.
    fn goes_at(&self, id: BrokerId) -> Option<(Instant, Instant)> {
        let follower = &self.followers[&id];
        let end = self.end_of(id);
        if end >= self.local_end() {
            return None;
        }
        let since = self.ages.since(end);
        let reset = follower.lost_at.map(|at| at + BACK_WITHIN);
        let early = since + self.early();
        Some((
            reset.map_or(early, |reset| early.min(reset.max(since))),
            since + self.limits.lag_max,
        ))
    }

    /// Members that are slow, the slowest first, and those that are too slow even where nobody can do without them.
    fn slow(&self, isr: &[BrokerId], now: Instant) -> (Vec<BrokerId>, Vec<BrokerId>) {
        let members = isr.iter().filter(|id| self.followers.contains_key(id));
        let mut slow: Vec<(Instant, BrokerId)> = Vec::new();
        let mut late = Vec::new();
        for id in members.filter(|id| self.registration.isr.contains(id)) {
            match self.goes_at(*id) {
                Some((_, at)) if at <= now => late.push(*id),
                Some((at, _)) if at <= now => slow.push((at, *id)),
                _ => {}
            }
        }
        slow.sort();
        (slow.into_iter().map(|(_, id)| id).collect(), late)
    }

    /// How long a byte may be missing where others can do without the follower.
    fn early(&self) -> Duration {
        (self.usual * EARLY_FACTOR).clamp(EARLY_MIN, EARLY_MAX)
    }

    /// Whether a follower keeps up well enough to stay, were it in sync.
    pub(super) fn keeps_up(&self, now: Instant, end: Offset) -> bool {
        end >= self.local_end() || now - self.ages.since(end) <= self.early() / 2
    }

    /// The watermark moved up to `end`: learns how long that usually takes.
    pub(super) fn learn_pace(&mut self, now: Instant, end: Offset) {
        let took = now - self.ages.since(Offset(end.0 - 1));
        self.usual = (self.usual * 7 + took.min(EARLY_MAX)) / 8;
    }

    fn on_gone_early(&mut self, now: Instant, id: BrokerId) {
        let base = Some(self.registration.epoch);
        let Some(follower) = self.followers.get_mut(&id) else { return };
        let Progress { early_count, early_at, early_from, well_since, .. } = follower;
        // Asked for once more because nobody answered, it is the same time.
        if std::mem::replace(early_from, base) == base {
            return;
        }
        let is_forgiven = now - *early_at > FORGIVEN;
        *early_count = if is_forgiven { 1 } else { *early_count + 1 };
        (*early_at, *well_since) = (now, None);
    }
}

fn probation(count: u32) -> Duration {
    PROBATION * 2u32.pow(count.saturating_sub(1).min(PROBATIONS_MAX))
}
