//! A replica that follows: its log is kept as its leader's is.
//!
//! ```text
//!  metadata --term--> follower <--answer, records-- fetcher
//!  log -----ends----->   |
//!                        '--> work on the log, one thing at a time: append, cut, begin anew
//! ```
//!
//! What is decided stands in `cluster::replica`; here it is carried out. One tenure follows another on the same log: whoever
//! leads after it, or follows after a term as the leader, waits until the last work of this one is done ([`Following::end`]).

mod readers;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cluster::replica::{
    Answer, CommitRule, Follower, FollowerEffect as Effect, FollowerEvent as Event, FollowerStart,
    Lineage, Position, Question, Run, Term,
};
use env::{Clock, Disk, Env, Spawn};
use log::{AppendError, ChangeError, Durability, Log, Origin, Replicated};
use record::Batch;
use types::{BrokerId, Instant, LeaderEpoch, Offset, TopicPartition};

pub(super) use self::readers::Readers;
pub(crate) use self::readers::{Awaited, Waiting};
use super::{Desk, Place, Told};
use crate::metrics::Traffic;
use crate::waiters::Waiters;

/// Door of a replica that follows; cheap to clone.
pub(crate) struct Following<E: Env>(Arc<Room<E>>);

impl<E: Env> Clone for Following<E> {
    fn clone(&self) -> Following<E> {
        Following(self.0.clone())
    }
}

/// A door that does not keep the replica.
pub(crate) struct WeakFollowing<E: Env>(Weak<Room<E>>);

impl<E: Env> Clone for WeakFollowing<E> {
    fn clone(&self) -> WeakFollowing<E> {
        WeakFollowing(self.0.clone())
    }
}

impl<E: Env> WeakFollowing<E> {
    /// The replica, while somebody keeps it.
    pub(crate) fn upgrade(&self) -> Option<Following<E>> {
        self.0.upgrade().map(Following)
    }
}

/// What is known of a replica when it begins to follow.
pub(crate) struct Beginning<E: Env> {
    pub(crate) env: E,
    /// This broker.
    pub(crate) replica: BrokerId,
    pub(crate) log: Log<E::Disk>,
    pub(crate) rule: CommitRule,
    pub(crate) term: Term,
    /// What it knew to be committed when it led.
    pub(crate) high_watermark: Offset,
    /// What clients do to its topic, counted.
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) desk: Arc<Desk<E>>,
}

struct Room<E: Env> {
    id: TopicPartition,
    place: Place,
    replica: BrokerId,
    env: E,
    log: Log<E::Disk>,
    traffic: Arc<Traffic>,
    desk: Arc<Desk<E>>,
    /// For those who must not keep it.
    me: WeakFollowing<E>,
    state: Mutex<State>,
    /// Held by whoever changes the log.
    work: tokio::sync::Mutex<()>,
}

struct State {
    follower: Follower,
    term: Term,
    rule: CommitRule,
    /// It follows nobody any more.
    has_ended: bool,
    /// Its directory has failed.
    has_failed: bool,
    /// The deadline that the desk knows of.
    deadline: Option<Instant>,
    /// Consumers that wait for the high watermark.
    readers: Waiters,
    /// When a consumer read here last.
    read_at: Option<Instant>,
}

impl<E: Env> Following<E> {
    /// Begins to follow.
    pub(crate) fn begin(beginning: Beginning<E>) -> Following<E> {
        let Beginning { env, replica, log, rule, term, high_watermark, traffic, desk } = beginning;
        let id = log.topic_partition().clone();
        let follower = follower(&log, replica, rule, high_watermark);
        let room = Arc::new_cyclic(|me| Room {
            place: (log.topic_id(), id.partition),
            id,
            replica,
            env,
            traffic,
            desk,
            me: WeakFollowing(me.clone()),
            state: Mutex::new(State {
                follower,
                term,
                rule,
                has_ended: false,
                has_failed: false,
                deadline: None,
                readers: Waiters::default(),
                read_at: None,
            }),
            work: tokio::sync::Mutex::default(),
            log,
        });
        let weak = Arc::downgrade(&room);
        room.log.set_listener(Arc::new(move |_| {
            if let Some(room) = weak.upgrade() {
                room.on_log_moved();
            }
        }));
        room.on_log_moved();
        room.at_once(|follower, now, effects| follower.step(now, Event::Term(term), effects));
        Following(room)
    }

    /// Its log.
    pub(crate) fn log(&self) -> &Log<E::Disk> {
        &self.0.log
    }

    /// What clients do to its topic, counted.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.0.traffic
    }

    /// What it knows to be committed.
    pub(crate) fn high_watermark(&self) -> Offset {
        self.0.lock().follower.high_watermark()
    }

    /// Whom it follows.
    pub(crate) fn leader(&self) -> Option<BrokerId> {
        let state = self.0.lock();
        state.follower.leader().filter(|_| !state.has_ended && !state.follower.is_stopped())
    }

    /// How far its log reaches, if the replica rests in `term` or a later one ([`Follower::rests`]): in which term, where its
    /// log ends, and what it knows to be committed.
    pub(crate) fn rests(&self, term: LeaderEpoch) -> Option<(LeaderEpoch, Position, Offset)> {
        let state = self.0.lock();
        let end = state.follower.rests(term).filter(|_| !state.has_ended && !state.has_failed)?;
        Some((state.follower.term(), end, state.follower.high_watermark()))
    }

    /// Whether its log can be written.
    pub(crate) fn works(&self) -> bool {
        !self.0.lock().has_failed
    }

    /// What it asks now, if it asks.
    pub(crate) fn question(&self) -> Option<Question> {
        let state = self.0.lock();
        state.follower.question().filter(|_| !state.has_ended)
    }

    /// A term has begun.
    pub(crate) fn set_term(&self, term: Term) {
        self.0.lock().term = term;
        self.0.at_once(|follower, now, effects| follower.step(now, Event::Term(term), effects));
    }

    /// The topic's settings have changed; the log has its own already.
    pub(crate) fn set_rule(&self, rule: CommitRule) {
        self.0.lock().rule = rule;
        let event = Event::RuleChanged(rule);
        self.0.at_once(|follower, now, effects| follower.step(now, event, effects));
    }

    /// Its deadline has passed: the desk knows of none any more.
    pub(super) fn tick(&self) {
        self.0.lock().deadline = None;
        self.0.at_once(|follower, now, effects| follower.step(now, Event::Tick, effects));
    }

    /// Its leader has answered what it asked at `asked_at`: returns when the log is as that says.
    pub(super) async fn on_answered(
        &self,
        Question { term, position, .. }: Question,
        asked_at: Instant,
        answer: Answer,
        batches: Vec<Batch>,
    ) {
        let _alone = self.0.work.lock().await;
        let event = Event::Answered { term, position, answer, runs: runs(&batches), asked_at };
        let effects = self.0.update(|follower, now, effects| follower.step(now, event, effects));
        self.0.carry_out(effects, batches).await;
    }

    /// Stops following for good; returns when the log is left alone. Answers what is known to be committed.
    pub(crate) async fn end(&self) -> Offset {
        let (high_watermark, woken) = {
            let mut state = self.0.lock();
            state.has_ended = true;
            (state.follower.high_watermark(), state.readers.take_all())
        };
        woken.wake();
        self.0.desk.wake_at(self.0.place, Told::Follower(self.0.me.clone()), None);
        drop(self.0.work.lock().await);
        high_watermark
    }

    /// Its directory has failed.
    pub(crate) fn fail(&self) {
        self.0.lock().has_failed = true;
        self.0.at_once(|follower, now, effects| follower.step(now, Event::Failed, effects));
    }
}

impl<E: Env> Room<E> {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every statement under this lock leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log's listener. It looks itself, so that an end from before a cut never stands for what was appended since.
    fn on_log_moved(&self) {
        self.at_once(|follower, now, effects| {
            let ends = self.log.ends();
            follower.step(now, Event::Synced(ends.durable), effects);
            if ends.log_start > follower.log().start() && ends.log_start <= follower.log().end() {
                follower.step(now, Event::Trimmed(ends.log_start), effects);
            }
        });
    }

    /// What follows of an event that mostly needs nothing of the log.
    fn at_once(&self, change: impl FnOnce(&mut Follower, Instant, &mut Vec<Effect>)) {
        let effects = self.update(change);
        if !effects.is_empty()
            && let Some(me) = self.me.upgrade()
        {
            self.env.spawner().spawn("follower-work", async move {
                let _alone = me.0.work.lock().await;
                if !me.0.lock().has_ended {
                    me.0.carry_out(effects, Vec::new()).await;
                }
            });
        }
    }

    /// Changes the state. Answers what is to be done to the log.
    fn update(&self, change: impl FnOnce(&mut Follower, Instant, &mut Vec<Effect>)) -> Vec<Effect> {
        let now = self.env.clock().now();
        let mut effects = Vec::new();
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.has_ended {
            return effects;
        }
        let before = state.standing();
        change(&mut state.follower, now, &mut effects);
        let woken = state.take_woken(before, self.log.ends().written);
        let deadline = state.follower.deadline();
        if deadline != state.deadline {
            state.deadline = deadline;
            // Told under this lock, so that the desk knows the newest; it calls nobody.
            self.desk.wake_at(self.place, Told::Follower(self.me.clone()), deadline);
        }
        effects.retain(|effect| match effect {
            Effect::Ask(_) | Effect::Report(_) => {
                if let Some(leader) = state.follower.leader() {
                    self.desk.ask(self.place, leader, self.me.clone());
                }
                false
            }
            // Nothing is kept of it but by the log's start; who waits for it is woken.
            Effect::HighWatermark(_) => false,
            Effect::GivesUp(from, to) => {
                tracing::error!(
                    partition = %self.id, %from, %to,
                    "an unclean election has taken back records that had been committed"
                );
                false
            }
            Effect::Parted(at) => {
                tracing::error!(
                    partition = %self.id, %at, follower = %state.follower,
                    "the leader lacks what is committed here: this replica keeps its log and waits for another leader"
                );
                false
            }
            Effect::Append | Effect::Truncate(_) | Effect::Reset(_) | Effect::LogStart(_) => true,
        });
        drop(guard);
        woken.wake();
        effects
    }

    /// Does what was decided, and what is decided then.
    async fn carry_out(&self, effects: Vec<Effect>, batches: Vec<Batch>) {
        let mut effects = VecDeque::from(effects);
        let mut batches = Some(batches);
        while let Some(effect) = effects.pop_front() {
            let event = match effect {
                Effect::Append => self.append(batches.take().unwrap_or_default()).await,
                Effect::Truncate(end) => self.done(self.log.truncate(end).await, Some(end)),
                Effect::Reset(start) => self.done(self.log.reset(start).await, Some(start)),
                Effect::LogStart(start) => {
                    if let Err(error) = self.log.set_log_start(start, start).await {
                        self.say(&error);
                    }
                    continue;
                }
                _ => continue,
            };
            effects.extend(self.update(|follower, now, effects| {
                follower.step(now, event, effects);
                // The log may have synced it before it was known to hold it.
                follower.step(now, Event::Synced(self.log.ends().durable), effects);
            }));
        }
    }

    async fn append(&self, batches: Vec<Batch>) -> Event {
        let Some(first) = batches.first().map(|batch| batch.base_offset()) else {
            return Event::Appended;
        };
        let ends = self.log.ends();
        if is_page_cache(&self.log) && ends.written < ends.log_end {
            // A full disk has not taken the last ones: they are here when they are written.
            return match self.log.write_out().await {
                Ok(()) => {
                    self.look_again();
                    Event::Busy
                }
                Err(error) => self.done(Err(error), None),
            };
        }
        // The leader's log may begin inside a batch, which it gives whole.
        let is_begun = first < ends.log_end && ends.log_start == ends.log_end;
        if is_begun && let Err(error) = self.log.reset(first).await {
            return self.done(Err(error), None);
        }
        let now = self.env.clock().timestamp();
        // What is not the clients' own is small, and has the reserve.
        let replicated = Replicated { batches, now, origin: Origin::Client };
        match self.log.append_replicated(replicated) {
            Ok(_) => {
                let mut result = self.log.write_out().await;
                if result.is_ok() && is_begun {
                    let start = ends.log_start;
                    result = self.log.set_log_start(start, start).await.map(drop);
                }
                match result {
                    Ok(()) => Event::Appended,
                    Err(error) => self.done(Err(error), None),
                }
            }
            Err(AppendError::Offline | AppendError::Deleted) => Event::Failed,
            Err(
                error @ (AppendError::OutOfPlace { .. } | AppendError::LeaderEpochFenced { .. }),
            ) => {
                tracing::error!(partition = %self.id, %error, "records of the leader do not fit");
                self.look_again();
                Event::Busy
            }
            // The disk is full or slow: it is asked for again.
            Err(_) => Event::Busy,
        }
    }

    /// What came of a change of the log, which was to end at `end`.
    fn done(&self, result: Result<(), ChangeError>, end: Option<Offset>) -> Event {
        match result {
            Ok(()) if end.is_none_or(|end| self.log.ends().log_end == end) => Event::Cut,
            // Cut before a batch that stood across.
            Ok(()) => {
                self.look_again();
                Event::Cut
            }
            Err(error) => {
                self.say(&error);
                self.look_again();
                match error {
                    ChangeError::Offline | ChangeError::Deleted => Event::Failed,
                    _ => Event::Busy,
                }
            }
        }
    }

    /// Goes on with what the log holds.
    fn look_again(&self) {
        let (term, rule) = {
            let state = self.lock();
            (Term { is_unclean: false, ..state.term }, state.rule)
        };
        self.at_once(|known, now, effects| {
            *known = follower(&self.log, self.replica, rule, known.high_watermark());
            known.step(now, Event::Term(term), effects);
        });
    }

    fn say(&self, error: &ChangeError) {
        // A full disk says so itself.
        if *error != ChangeError::NoSpace {
            tracing::warn!(partition = %self.id, %error, "the log of a follower did not change");
        }
    }
}

fn is_page_cache<D: Disk>(log: &Log<D>) -> bool {
    log.config().durability_effective() == Durability::PageCache
}

/// What a replica with this log decides.
fn follower<D: Disk>(
    log: &Log<D>,
    replica: BrokerId,
    rule: CommitRule,
    high_watermark: Offset,
) -> Follower {
    let ends = log.ends();
    // What is only queued may yet be lost with the process; a log that syncs tells of it apart.
    let end = if is_page_cache(log) { ends.written.max(ends.log_start) } else { ends.log_end };
    Follower::new(FollowerStart {
        replica,
        log: Lineage::new(ends.log_start, log.epochs(), end),
        durable: ends.durable,
        high_watermark,
        rule,
    })
}

/// Which epochs the records bear.
fn runs(batches: &[Batch]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for batch in batches {
        let (epoch, end) = (batch.leader_epoch().unwrap_or(LeaderEpoch(-1)), batch.end_offset());
        match runs.last_mut() {
            Some(last) if last.epoch == epoch => last.end = end,
            _ => runs.push(Run { epoch, end }),
        }
    }
    runs
}
