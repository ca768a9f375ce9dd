//! A follower: what it asks its leader, and what it makes of its log.
//!
//! ```text
//!  log_start       high_watermark        durable            log_end
//!  ----|-----------------|------------------|------------------|---->
//!      | committed       | synced, told     | received, told   | asked for
//! ```
//!
//! A room of its own because every rule about cutting a log stands here, and none of them may depend on timing. Where the
//! logs part is found by epochs alone (KIP-101, KIP-279): the leader leads back, one epoch at a time. The high watermark
//! never says where to cut, it only says where not to (I25).
//!
//! An answer counts for the very question that is asked now: same term, same position. A position stands for everything
//! before it, so a late copy of such an answer is as good as the first. While the log is being changed nothing is asked.
//!
//! It knows no connection. A question stands until it is answered; whoever speaks with the leader collects the standing
//! questions of many partitions ([`Follower::question`]) into one fetch. One that stands costs nothing.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::mutant::{Mutant, planted};
use types::{BrokerId, ErrorCode, Instant, LeaderEpoch, Offset};

use super::exchange::{Answer, Question};
use super::leader::CommitRule;
use super::lineage::{Lineage, Position, Run};

/// Pause before a question that was refused is asked again; twice as long each time up to the other.
pub const RETRY: Duration = Duration::from_millis(20);
/// The longest pause.
pub const RETRY_MAX: Duration = Duration::from_secs(1);

/// What a replica knows of itself when it begins to follow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FollowerStart {
    /// This broker.
    pub replica: BrokerId,
    /// Its log.
    pub log: Lineage,
    /// End of what a power cut now would leave of it.
    pub durable: Offset,
    /// The high watermark that it knew last.
    pub high_watermark: Offset,
    /// The topic's rule.
    pub rule: CommitRule,
}

/// Who leads, as the metadata tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Term {
    /// The term.
    pub epoch: LeaderEpoch,
    /// Who leads in it.
    pub leader: Option<BrokerId>,
    /// Whether it, or any since the one that this replica was told of before, began with an unclean election.
    pub is_unclean: bool,
}

/// What can happen to a follower, in the order of a record's life.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Event {
    /// A term has begun.
    Term(Term),
    /// The leader has answered a question.
    Answered {
        /// The question's term.
        term: LeaderEpoch,
        /// The question's position.
        position: Position,
        /// The answer. A connection that was lost, or a batch that is damaged, is a refusal, too.
        answer: Answer,
        /// The records that came along.
        runs: Vec<Run>,
        /// When the question was sent, or before.
        asked_at: Instant,
    },
    /// The records are written.
    Appended,
    /// The disk does not take them now: they are asked for again.
    Busy,
    /// The log is cut, or begins anew, and no power cut brings back what it held.
    Cut,
    /// Everything below is synced of what the log holds now.
    Synced(Offset),
    /// The log begins here now.
    Trimmed(Offset),
    /// The topic's `durability` changed.
    RuleChanged(CommitRule),
    /// The log can be neither read nor written any more.
    Failed,
    /// Time has passed.
    Tick,
}

/// What a follower wants done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Effect {
    /// What it asks is new: the next fetch carries it.
    Ask(Question),
    /// The same question, and it has synced more than it told: a fetch that is parked is superseded by one that says so.
    Report(Question),
    /// Append the records that came along; say [`Event::Appended`] when they can be read.
    Append,
    /// Cut the log here, durably, before anything else.
    Truncate(Offset),
    /// Throw the log away, durably; the next one begins here.
    Reset(Offset),
    /// The high watermark moved to here: on, or back to the log's start by an unclean election, which is stored at once.
    HighWatermark(Offset),
    /// Records below are deleted at the leader.
    LogStart(Offset),
    /// An unclean election has taken back what was committed: from the first offset up to the other.
    GivesUp(Offset, Offset),
    /// The leader's log parts from this one here, below the high watermark, and nobody has asked for such a leader (I25).
    /// The replica does nothing until the next term.
    Parted(Offset),
}

/// Where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    /// It asks, if anybody leads.
    Asking,
    /// It asks again later.
    Paused(Instant),
    /// A newer term than it knows has begun.
    Fenced,
    /// Records are being appended; what the leader said with them.
    Appending { runs: Vec<Run>, said: Said },
    /// The log is being cut.
    Cutting(Offset),
    /// The log is being thrown away.
    Resetting(Offset),
    /// What is committed here is not what the leader holds.
    Parted,
    /// There is no log.
    Failed,
}

/// What a leader says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Said {
    high_watermark: Offset,
    log_start: Offset,
    /// It was asked then, and clients may be told of it.
    shown_at: Option<Instant>,
}

/// One replica of a partition that follows.
#[derive(Clone, Debug)]
pub struct Follower {
    replica: BrokerId,
    log: Lineage,
    high_watermark: Offset,
    durable: Offset,
    /// What of it stands in the question that stands.
    told: Offset,
    rule: CommitRule,
    term: LeaderEpoch,
    leader: Option<BrokerId>,
    /// Whatever was committed when its leader was asked in this term, at this moment, is here and known to be (I36).
    level_at: Option<Instant>,
    /// What it took for committed before an unclean election, until its log is a leader's again.
    doubted: Option<Offset>,
    pause: Duration,
    state: State,
}

impl Follower {
    /// A replica that has not heard yet who leads.
    pub fn new(start: FollowerStart) -> Follower {
        let FollowerStart { replica, log, durable, high_watermark, rule } = start;
        let follower = Follower {
            replica,
            // A power cut may take page-cache bytes that an older checkpoint counted.
            high_watermark: high_watermark.min(log.end()).max(log.start()),
            durable: durable.min(log.end()),
            told: Offset::ZERO,
            log,
            rule,
            term: LeaderEpoch(-1),
            leader: None,
            level_at: None,
            doubted: None,
            pause: RETRY,
            state: State::Asking,
        };
        follower.check();
        follower
    }

    /// Takes one event. The only mutation; the same events give the same effects.
    pub fn step(&mut self, now: Instant, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Term(term) => self.on_term(term, effects),
            Event::Answered { term, position, answer, runs, asked_at } => {
                let asked = self.question();
                if asked.is_some_and(|own| own.term == term && own.position == position) {
                    self.on_answered(now, answer, runs, asked_at, effects);
                }
            }
            Event::Appended => self.on_appended(effects),
            Event::Busy => self.pause(now),
            Event::Cut => self.on_cut(effects),
            Event::Synced(end) => self.on_synced(end, effects),
            Event::Trimmed(start) => self.on_trimmed(start),
            Event::RuleChanged(rule) => {
                self.rule = rule;
                self.report(effects);
            }
            Event::Failed => self.state = State::Failed,
            Event::Tick => self.on_tick(now, effects),
        }
        self.check();
    }

    /// What it asks now, if it asks.
    pub fn question(&self) -> Option<Question> {
        let is_asking = self.leader.is_some() && self.state == State::Asking;
        let is_mad = planted(Mutant::UnsyncedReportedDurable);
        let durable = if is_mad { self.log.end() } else { self.durable };
        is_asking.then(|| Question {
            term: self.term,
            position: self.log.last(),
            log_start: self.log.start(),
            durable,
        })
    }

    /// When it wants a [`Event::Tick`]; nobody else's time costs anything.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Paused(until) => Some(until),
            _ => None,
        }
    }

    /// Whom it follows.
    pub fn leader(&self) -> Option<BrokerId> {
        self.leader
    }

    /// The term in which it follows.
    pub fn term(&self) -> LeaderEpoch {
        self.term
    }

    /// Its log.
    pub fn log(&self) -> &Lineage {
        &self.log
    }

    /// End of what it knows to be committed.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Whether its leader has told it in this term what clients may be told.
    pub fn is_told(&self) -> bool {
        self.level_at.is_some()
    }

    /// Whether what it tells clients is not too old (I36): within a `session` it has known all that is committed of the term
    /// that it follows, and its broker, which heard of the controller at `controller_at`, that no later one had begun.
    pub fn may_serve(&self, now: Instant, controller_at: Instant, session: Duration) -> bool {
        let is_mad = planted(Mutant::FollowerServesForEver);
        let is_fresh = |at: Instant| is_mad || now - at <= session;
        !self.is_stopped() && is_fresh(controller_at) && self.level_at.is_some_and(is_fresh)
    }

    /// Whether it does nothing any more, or until the next term: for want of a log, or of a leader that holds what is committed.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, State::Parted | State::Failed)
    }

    /// Where its log ends, if it follows nobody in `term` or a later one and no work on its log is under way: until another term
    /// begins nothing of an earlier one is appended any more (P11).
    pub fn rests(&self, term: LeaderEpoch) -> Option<Position> {
        let is_still = !matches!(
            self.state,
            State::Appending { .. } | State::Cutting(_) | State::Resetting(_) | State::Failed
        );
        (self.term >= term && self.leader.is_none() && is_still).then(|| self.log.last())
    }

    fn on_term(&mut self, term: Term, effects: &mut Vec<Effect>) {
        assert!(term.leader != Some(self.replica), "{self}: follows itself");
        // Metadata that are read again begin with terms that are over: their leaders lack what this log holds.
        if term.epoch <= self.term || Some(term.epoch) < self.log.last().epoch {
            return;
        }
        (self.term, self.leader, self.level_at) = (term.epoch, term.leader, None);
        if term.is_unclean {
            self.on_unclean_election(effects);
        }
        match &mut self.state {
            State::Paused(_) | State::Fenced | State::Parted => self.state = State::Asking,
            // The records may stay. What an earlier leader took for committed may be so no more.
            State::Appending { said, .. } => {
                (said.high_watermark, said.shown_at) = (Offset::ZERO, None);
            }
            _ => {}
        }
        self.pause = RETRY;
        if planted(Mutant::TruncateToHighWatermark)
            && self.state == State::Asking
            && self.high_watermark < self.log.end()
        {
            self.state = State::Cutting(self.high_watermark);
            effects.push(Effect::Truncate(self.high_watermark));
        }
        self.ask(effects);
    }

    /// The new leader may lack what was committed. That nothing is known any more to be committed is stored, and so outlives
    /// this process, as a note about the election would not.
    fn on_unclean_election(&mut self, effects: &mut Vec<Effect>) {
        let start = self.log.start();
        if self.high_watermark > start {
            self.doubted = self.doubted.max(Some(self.high_watermark));
            self.high_watermark = start;
            effects.push(Effect::HighWatermark(start));
        }
    }

    fn on_answered(
        &mut self,
        now: Instant,
        answer: Answer,
        runs: Vec<Run>,
        asked_at: Instant,
        effects: &mut Vec<Effect>,
    ) {
        match answer {
            Answer::Follows { high_watermark, log_start, is_shown } => {
                if !self.continues(&runs) {
                    return self.pause(now);
                }
                self.pause = RETRY;
                // Its log is the leader's up to here, whatever elections there were.
                self.doubted = None;
                let shown_at = is_shown.then_some(asked_at);
                let said = Said { high_watermark, log_start, shown_at };
                if runs.is_empty() {
                    return self.take(said, effects);
                }
                self.state = State::Appending { runs, said };
                effects.push(Effect::Append);
            }
            Answer::Parts(shared) => {
                let end = self.log.cut_for(shared);
                match end < self.log.end() {
                    true => self.give_up(State::Cutting(end), effects),
                    // No leader says so whose log is right.
                    false => self.pause(now),
                }
            }
            Answer::OutOfRange { log_start } => match log_start == self.log.end() {
                true => self.pause(now),
                false => self.give_up(State::Resetting(log_start), effects),
            },
            Answer::Refused(ErrorCode::FencedLeaderEpoch) => self.state = State::Fenced,
            Answer::Refused(_) => self.pause(now),
        }
    }

    /// Whether the records are what may follow in the log (I3): none is of a term that has not begun.
    fn continues(&self, runs: &[Run]) -> bool {
        let mut last = self.log.last();
        runs.iter().all(|run| {
            let next = Position { epoch: Some(run.epoch), offset: run.end };
            let continues = last.epoch <= next.epoch && last.offset < next.offset;
            last = next;
            continues && run.epoch <= self.term
        })
    }

    /// Gives up what the leader does not hold, unless it is committed (I25).
    fn give_up(&mut self, state: State, effects: &mut Vec<Effect>) {
        let (State::Cutting(end) | State::Resetting(end)) = state else {
            unreachable!("{self}: nothing to give up");
        };
        self.level_at = None;
        // What was deleted is not given up.
        let has_committed = self.log.start() < self.high_watermark;
        if has_committed && end < self.high_watermark && !planted(Mutant::CommittedGivenUp) {
            self.state = State::Parted;
            effects.push(Effect::Parted(end));
            return;
        }
        if let Some(before) = self.doubted.filter(|before| end < *before) {
            effects.push(Effect::GivesUp(end, before));
        }
        effects.push(match state {
            State::Cutting(_) => Effect::Truncate(end),
            _ => Effect::Reset(end),
        });
        self.state = state;
    }

    fn on_appended(&mut self, effects: &mut Vec<Effect>) {
        let state = std::mem::replace(&mut self.state, State::Asking);
        let State::Appending { runs, said } = state else {
            // A log that has failed meanwhile takes nothing in.
            self.state = state;
            return;
        };
        runs.into_iter().for_each(|run| self.log.append(run));
        self.take(said, effects);
        self.ask(effects);
    }

    fn on_cut(&mut self, effects: &mut Vec<Effect>) {
        match self.state {
            State::Cutting(end) => self.log.truncate(end),
            State::Resetting(start) => {
                self.log = Lineage::new(start, [], start);
                (self.high_watermark, self.durable) = (start, start);
            }
            _ => return,
        }
        self.high_watermark = self.high_watermark.min(self.log.end());
        self.durable = self.durable.min(self.log.end());
        self.state = State::Asking;
        self.ask(effects);
    }

    fn on_synced(&mut self, end: Offset, effects: &mut Vec<Effect>) {
        self.durable = self.durable.max(end.min(self.log.end()));
        self.report(effects);
    }

    fn on_trimmed(&mut self, start: Offset) {
        self.log.trim(start.min(self.log.end()));
        self.high_watermark = self.high_watermark.max(self.log.start());
    }

    fn on_tick(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if let State::Paused(until) = self.state
            && until <= now
        {
            self.state = State::Asking;
            self.ask(effects);
        }
    }

    /// What the leader told of itself, as far as this log has it.
    fn take(&mut self, said: Said, effects: &mut Vec<Effect>) {
        let Said { high_watermark, log_start, shown_at } = said;
        if high_watermark <= self.log.end() {
            self.level_at = self.level_at.max(shown_at);
        }
        let committed = high_watermark.min(self.log.end());
        if committed > self.high_watermark {
            self.high_watermark = committed;
            effects.push(Effect::HighWatermark(committed));
        }
        if log_start > self.log.start() && log_start <= self.high_watermark {
            effects.push(Effect::LogStart(log_start));
        }
    }

    fn pause(&mut self, now: Instant) {
        if let State::Asking | State::Appending { .. } = self.state {
            self.state = State::Paused(now + self.pause);
            self.pause = (self.pause * 2).min(RETRY_MAX);
        }
    }

    fn ask(&mut self, effects: &mut Vec<Effect>) {
        if let Some(question) = self.question() {
            self.told = question.durable;
            effects.push(Effect::Ask(question));
        }
    }

    /// A page-cache topic commits what is written: nobody waits to hear of its syncs.
    fn report(&mut self, effects: &mut Vec<Effect>) {
        if let Some(question) = self.question()
            && self.rule == CommitRule::Durable
            && question.durable > self.told
        {
            self.told = question.durable;
            effects.push(Effect::Report(question));
        }
    }

    fn check(&self) {
        assert!(self.log.start() <= self.high_watermark, "{self}: watermark before the log");
        assert!(self.high_watermark <= self.log.end(), "{self}: watermark behind the log (I22)");
        assert!(self.durable <= self.log.end(), "{self}: synced what it does not have");
        let newest = self.log.last().epoch;
        let has_term = self.term.0 >= 0;
        assert!(!has_term || newest <= Some(self.term), "{self}: records of {newest:?} (I16)");
    }
}

impl fmt::Display for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Asking if self.leader.is_none() => "waits",
            State::Asking => "asks",
            State::Paused(_) => "pauses",
            State::Fenced => "fenced",
            State::Appending { .. } => "appends",
            State::Cutting(_) | State::Resetting(_) => "cuts",
            State::Parted => "parted",
            State::Failed => "failed",
        };
        write!(
            f,
            "follower {} epoch {} {state}: log {}..{} hw {} durable {}",
            self.replica,
            self.term,
            self.log.start(),
            self.log.end(),
            self.high_watermark,
            self.durable,
        )
    }
}

#[cfg(test)]
mod tests;
