//! The partition room: one partition's log with its high watermark, the acks parked on it and the readers waiting for it.
//!
//! ```text
//!  log_start      last_stable     high_watermark      log_end
//!  ----|---------------|-----------------|---------------|---->
//!      | readable, read-committed        | appended, not yet committed
//! ```
//!
//! The log assigns offsets and checks producers under its own short lock; this room moves the high watermark when the
//! log says that bytes were written or became durable (I22), and wakes who waits for it. One door call per decision: an
//! ack is parked by the very call that finds its offset uncommitted. A wait ends early when the partition stops serving:
//! its topic was deleted, or its directory went offline.

mod registry;
mod settings;
mod source;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use cluster::replica::{
    Answer, CommitRule, Effect, Event, Leader, LeaderStart, Limits, Lineage, LocalEnds,
    ProposalAnswer, Question, Registration,
};
use env::{Clock, Disk, Env, Spawn as _};
use log::{AppendError, Appended, ChangeError, Found, Log, Origin, Quarantined, ReadError, Slice};
use record::{Batch, BatchError, ProduceRules, TimestampType};
use types::mutant::{Mutant, planted};
use types::{
    BrokerEpoch, BrokerId, ErrorCode, Instant, LeaderEpoch, Offset, PartitionEpoch, PartitionIndex,
    Timestamp, TopicId, TopicName, TopicPartition,
};

pub(crate) use registry::Registry;
pub(crate) use settings::log_config;
pub(crate) use source::{Place, Source};

use crate::error_map::{Refused, error_code};
use crate::metrics::Traffic;
use crate::replication::{Desk, Leads, Told};
pub(crate) use crate::waiters::Signal;
use crate::waiters::{Ticket, Waiters, Woken};

/// Pause before an append is tried again when too many bytes wait for the disk; twice as long each time up to the other,
/// so that ten thousand producers that wait leave the processor alone.
const BUSY_PAUSE: Duration = Duration::from_millis(2);
const BUSY_PAUSE_MAX: Duration = Duration::from_millis(64);

/// The file type of the world `E`.
pub type FileOf<E> = <<E as Env>::Disk as Disk>::File;

/// Door of one partition; cheap to clone.
pub struct Partition<E: Env>(Arc<Room<E>>);

impl<E: Env> Clone for Partition<E> {
    fn clone(&self) -> Partition<E> {
        Partition(self.0.clone())
    }
}

struct Room<E: Env> {
    id: TopicPartition,
    topic_id: TopicId,
    clock: E::Clock,
    spawner: E::Spawn,
    log: Log<E::Disk>,
    traffic: Arc<Traffic>,
    desk: Arc<Desk<E>>,
    /// For those who must not keep it.
    me: Weak<Room<E>>,
    state: Mutex<State>,
}

struct State {
    leader: Leader,
    /// Its commit rule.
    rule: CommitRule,
    /// Where its log begins, as it knows.
    log_start: Offset,
    /// What a produced batch is checked for.
    rules: Arc<ProduceRules>,
    /// Wait for the high watermark.
    committed: Waiters,
    /// Wait for this replica's own end.
    local: Waiters,
    /// Wait for what followers are given.
    written: Waiters,
    /// Set for good when the partition stops serving.
    gone: Option<Gone>,
    /// The deadline that the desk knows of.
    deadline: Option<Instant>,
}

/// What the metadata says about this replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Role {
    /// This broker.
    pub(crate) replica: BrokerId,
    /// Its term as the leader.
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) replicas: Vec<BrokerId>,
    /// Its registration, with the brokers that hold it.
    pub(crate) registration: Registration,
    /// The topic's `min.insync.replicas`.
    pub(crate) min_isr: usize,
    /// How long others may be silent.
    pub(crate) limits: Limits,
    /// What it knew to be committed when it followed.
    pub(crate) high_watermark: Offset,
}

impl Role {
    fn start<D: Disk>(&self, log: &Log<D>, controller_at: Instant) -> LeaderStart {
        let ends = log.ends();
        LeaderStart {
            replica: self.replica,
            epoch: self.leader_epoch,
            log: Lineage::new(ends.log_start, log.epochs(), ends.log_end),
            high_watermark: self.high_watermark.max(ends.log_start),
            ends: local_ends(&ends),
            rule: commit_rule(log.config().durability_effective()),
            replicas: self.replicas.clone(),
            registration: self.registration.clone(),
            min_isr: self.min_isr,
            limits: self.limits,
            controller_at,
        }
    }
}

/// The picture's offsets at one moment, and the leader's term.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ends {
    /// First offset readable.
    pub log_start: Offset,
    /// End of what read-committed consumers may see.
    pub last_stable: Offset,
    /// End of what is committed.
    pub high_watermark: Offset,
    /// Next offset to be assigned.
    pub log_end: Offset,
    /// Term of this leader.
    pub leader_epoch: LeaderEpoch,
}

/// The partition stopped serving (deleted, directory offline) before the offset was reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gone {
    /// What to tell the client.
    pub code: ErrorCode,
}

/// An end of a partition that others wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// The high watermark: acks=all, and who reads.
    Committed,
    /// The leader's own end: written, and synced in a log that syncs. For acks=1.
    Local,
    /// What is written: for followers.
    Written,
}

/// One append to a partition.
#[derive(Clone, Debug)]
pub struct Append {
    /// The batches, checked; offsets and leader epoch are assigned here.
    pub batches: Vec<Batch>,
    /// Who appends.
    pub origin: Origin,
    /// Refused while fewer than `min.insync.replicas` are in sync.
    pub needs_enough_in_sync: bool,
}

/// Where a producer's batch went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Produced {
    pub(crate) appended: Appended,
    /// The time given to all records, where the topic dates them.
    pub(crate) append_time: Option<Timestamp>,
}

/// How far a reader may see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Isolation {
    /// Up to the high watermark.
    ReadUncommitted,
    /// Up to the last stable offset.
    ReadCommitted,
}

/// One read of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Read {
    /// First offset wanted; the batch that holds it is returned whole.
    pub from: Offset,
    /// Byte budget.
    pub bytes_max: usize,
    /// Return the first batch even if it is larger than the budget.
    pub at_least_one: bool,
    /// How far to see.
    pub isolation: Isolation,
}

impl<E: Env> Partition<E> {
    /// Opens the door of `log`, led in term `leader_epoch`.
    pub(crate) fn new(
        env: &E,
        log: Log<E::Disk>,
        role: Role,
        rules: Arc<ProduceRules>,
        traffic: Arc<Traffic>,
        desk: Arc<Desk<E>>,
    ) -> Partition<E> {
        let start = role.start(&log, desk.controller_heard_at());
        let rule = start.rule;
        let leader = Leader::new(env.clock().now(), start);
        begin_epoch(&log, role.leader_epoch);
        let room = Arc::new_cyclic(|me| Room {
            id: log.topic_partition().clone(),
            topic_id: log.topic_id(),
            clock: env.clock().clone(),
            spawner: env.spawner().clone(),
            traffic,
            desk,
            me: me.clone(),
            state: Mutex::new(State {
                leader,
                rule,
                log_start: Offset::ZERO,
                rules,
                committed: Waiters::default(),
                local: Waiters::default(),
                written: Waiters::default(),
                gone: None,
                deadline: None,
            }),
            log,
        });
        let weak: Weak<Room<E>> = Arc::downgrade(&room);
        room.log.set_listener(Arc::new(move |ends| {
            if let Some(room) = weak.upgrade() {
                room.on_log_moved(ends);
            }
        }));
        // What moved between the first look and the listener.
        room.on_log_moved(room.log.ends());
        Partition(room)
    }

    /// Whether both are doors of one tenure.
    pub(crate) fn is(&self, other: &Partition<E>) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Name of its topic.
    pub fn topic(&self) -> &TopicName {
        &self.0.id.topic
    }

    /// Identity of its topic.
    pub fn topic_id(&self) -> TopicId {
        self.0.topic_id
    }

    /// Its index.
    pub fn index(&self) -> PartitionIndex {
        self.0.id.partition
    }

    /// Its name and index.
    pub fn id(&self) -> &TopicPartition {
        &self.0.id
    }

    /// Its log.
    pub(crate) fn log(&self) -> &Log<E::Disk> {
        &self.0.log
    }

    /// What clients do to its topic, counted.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.0.traffic
    }

    /// Appends what a producer sent: checked, and dated or recompressed if the topic asks for it. Waits until `deadline`
    /// for the disk to take what is queued. Refused while too few are in sync if it `needs_enough_in_sync`.
    pub(crate) async fn produce(
        &self,
        batch: &Batch,
        needs_enough_in_sync: bool,
        deadline: Instant,
    ) -> Result<Produced, Refused> {
        let batch = self.admit(batch).await?;
        let mut pause = BUSY_PAUSE;
        loop {
            let append = Append {
                batches: vec![batch.clone()],
                origin: Origin::Client,
                needs_enough_in_sync,
            };
            match self.try_append(append).await {
                Ok(appended) => {
                    let append_time = match batch.timestamp_type() {
                        // A retry is told what stands in the log (I49).
                        TimestampType::AppendTime
                            if appended.duplicate && !planted(Mutant::DuplicateDatedAnew) =>
                        {
                            Some(appended.append_time)
                        }
                        TimestampType::AppendTime => batch.max_timestamp(),
                        TimestampType::CreateTime => None,
                    };
                    return Ok(Produced { appended, append_time });
                }
                Err(Unappended::Append(AppendError::Busy)) if self.0.clock.now() < deadline => {
                    // The connection's socket is not read meanwhile: the slow disk reaches the producer (E12).
                    self.0.clock.sleep(pause).await;
                    pause = (pause * 2).min(BUSY_PAUSE_MAX);
                }
                Err(unappended) => return Err(unappended.into()),
            }
        }
    }

    /// Checks a batch against the topic's rules; the form to store.
    async fn admit(&self, batch: &Batch) -> Result<Batch, BatchError> {
        let (rules, now) = (self.rules(), self.0.clock.timestamp());
        if !rules.expands(batch) {
            return rules.admit(batch, now);
        }
        let batch = batch.clone();
        self.0.spawner.compute(move || rules.admit(&batch, now)).await
    }

    /// Appends; returns when the bytes are queued (sync) or written (page cache). The order of calls is the order of
    /// offsets. Answer after [`Partition::committed`] of the last offset's successor.
    pub async fn append(&self, append: Append) -> Result<Appended, Refused> {
        Ok(self.try_append(append).await?)
    }

    async fn try_append(&self, append: Append) -> Result<Appended, Unappended> {
        let appended = {
            // Held while it is appended: whoever follows after this term finds the log as this term has left it.
            let state = self.0.lock();
            if let Some(gone) = state.gone {
                return Err(Unappended::Gone(gone));
            }
            if append.needs_enough_in_sync && !state.leader.has_enough_in_sync() {
                self.0.log.turn_away(&append.batches);
                return Err(Unappended::TooFewInSync);
            }
            self.0.log.append(log::Append {
                batches: append.batches,
                leader_epoch: state.leader.epoch(),
                now: self.0.clock.timestamp(),
                origin: append.origin,
            })
        };
        let appended = appended.map_err(Unappended::Append)?;
        self.0.log.write_out().await.map_err(Unappended::Write)?;
        Ok(appended)
    }

    /// Completes once everything below `end` is committed. Dropping it is harmless.
    pub async fn committed(&self, end: Offset) -> Result<(), Gone> {
        let signal = Signal::default();
        loop {
            match self.wait(Line::Committed, end, &signal)? {
                Wait::Over => return Ok(()),
                Wait::On(_waiting) => signal.woken().await,
            }
        }
    }

    /// Whether `end` is reached; if not, `signal` is woken when it is, or when the partition stops serving.
    pub(crate) fn wait(&self, line: Line, end: Offset, signal: &Signal) -> Result<Wait<E>, Gone> {
        let mut state = self.0.lock();
        if end <= state.reached(line) {
            return Ok(Wait::Over);
        }
        if let Some(gone) = state.gone {
            return Err(gone);
        }
        let ticket = state.waiters(line).add(end, signal.clone());
        Ok(Wait::On(Waiting { partition: self.clone(), line, ticket }))
    }

    /// The offsets now.
    pub fn ends(&self) -> Ends {
        // One lock at a time: the log's first, so that the watermark is never behind what the log has told.
        let log = self.0.log.ends();
        self.0.lock().ends(&log)
    }

    /// Whether it still serves.
    pub fn check_serving(&self) -> Result<(), Gone> {
        self.0.lock().gone.map_or(Ok(()), Err)
    }

    /// Whether clients may be told how far it is: OFFSET_NOT_AVAILABLE before everything that earlier leaders may have shown is
    /// known to be committed (I24), NOT_LEADER_OR_FOLLOWER from one that may have been followed by another (I36).
    pub(crate) fn check_telling(&self) -> Result<(), ErrorCode> {
        let heard_at = self.0.desk.controller_heard_at();
        let now = self.0.clock.now();
        let mut state = self.0.lock();
        state.gone.map_or(Ok(()), |gone| Err(gone.code))?;
        state.leader.step(now, Event::ControllerContact(heard_at), &mut Vec::new());
        if !state.leader.may_serve(now) {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        state.leader.visible_end().map(drop).ok_or(ErrorCode::OffsetNotAvailable)
    }

    /// A follower asks, and says how far it is. It has done so after the moment `sent_after`, if that is known.
    pub(crate) fn asked(
        &self,
        replica: BrokerId,
        broker_epoch: BrokerEpoch,
        question: Question,
        sent_after: Option<Instant>,
    ) -> Answer {
        let mut answer = Answer::Refused(ErrorCode::NotLeaderOrFollower);
        self.0.update(|state, now, effects| {
            if let Some(gone) = state.gone {
                answer = Answer::Refused(gone.code);
                return;
            }
            state.leader.step(now, Event::Fetched { replica, broker_epoch, question }, effects);
            answer = state.leader.answer(replica, broker_epoch, &question);
            let is_of_this_term = !matches!(answer, Answer::Refused(_));
            if let Some(at) = sent_after.filter(|_| is_of_this_term) {
                state.leader.step(now, Event::FollowerContact(replica, at), effects);
            }
        });
        answer
    }

    /// What a follower is told now to what it has asked before.
    pub(crate) fn answer(
        &self,
        replica: BrokerId,
        broker_epoch: BrokerEpoch,
        question: Question,
    ) -> Answer {
        let state = self.0.lock();
        match state.gone {
            Some(gone) => Answer::Refused(gone.code),
            None => state.leader.answer(replica, broker_epoch, &question),
        }
    }

    /// Whether what is committed waits for this replica.
    pub(crate) fn counts(&self, replica: BrokerId) -> bool {
        self.0.lock().leader.isr_maximal().contains(&replica)
    }

    /// Reads what a follower lacks from `from` on, up to what is written.
    pub(crate) async fn read_written(
        &self,
        from: Offset,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<Slice<FileOf<E>>, ErrorCode> {
        let end = {
            let state = self.0.lock();
            state.gone.map_or(Ok(()), |gone| Err(gone.code))?;
            state.leader.written_end()
        };
        if from >= end {
            return Ok(Slice { parts: Vec::new(), bytes: 0, next_offset: from });
        }
        let slice = self.0.log.read(log::Read { from, end, bytes_max, at_least_one }).await;
        slice.map_err(|error| {
            source::report(&self.0.id, &error);
            error_code(&error)
        })
    }

    /// Reads whole batches below the line of `read.isolation`, with the offsets at that moment.
    pub async fn read(&self, read: Read) -> Result<(Slice<FileOf<E>>, Ends), ReadFailed> {
        let ends = self.ends();
        self.check_serving().map_err(|gone| ReadFailed { code: gone.code, ends })?;
        source::read_below(&self.0.log, ends, read).await
    }

    /// Whom a consumer that reads at `offset` is sent to, of those that are near it.
    pub(crate) fn nearest(
        &self,
        offset: Offset,
        is_near: impl Fn(BrokerId) -> bool,
    ) -> Option<BrokerId> {
        let (heard_at, now) = (self.0.desk.controller_heard_at(), self.0.clock.now());
        let mut state = self.0.lock();
        state.leader.step(now, Event::ControllerContact(heard_at), &mut Vec::new());
        state.leader.nearest(now, offset, is_near)
    }

    /// Whole committed batches from the one that holds `from` on, at least one if there is any, then up to `bytes_max`:
    /// for coordinators. Empty at the high watermark; or the range around `from` that cannot be read.
    pub async fn batches(
        &self,
        from: Offset,
        bytes_max: usize,
    ) -> Result<Result<Vec<Batch>, Quarantined>, ErrorCode> {
        self.check_serving().map_err(|gone| gone.code)?;
        let end = self.ends().high_watermark;
        if from >= end {
            return Ok(Ok(Vec::new()));
        }
        let read = log::Read { from, end, bytes_max, at_least_one: true };
        match self.0.log.batches(read).await {
            Ok(batches) => Ok(Ok(batches)),
            Err(ReadError::Quarantined(range)) => Ok(Err(range)),
            Err(error) => {
                source::report(&self.0.id, &error);
                Err(error_code(&error))
            }
        }
    }

    /// The first record below `end` whose timestamp is at least `target`.
    pub async fn offset_for_timestamp(
        &self,
        target: Timestamp,
        end: Offset,
    ) -> Result<Option<Found>, ErrorCode> {
        let found = self.0.log.offset_for_timestamp(target, end, &self.0.spawner).await;
        found.map_err(|error| error_code(&error))
    }

    /// The first record below `end` that bears the largest timestamp.
    pub async fn max_timestamp_offset(&self, end: Offset) -> Result<Option<Found>, ErrorCode> {
        let found = self.0.log.max_timestamp_offset(end, &self.0.spawner).await;
        found.map_err(|error| error_code(&error))
    }

    /// Deletes the records below `offset` (the high watermark if `None`); returns the new log start.
    pub async fn delete_records(&self, offset: Option<Offset>) -> Result<Offset, ErrorCode> {
        match self.check_telling() {
            Err(ErrorCode::OffsetNotAvailable) => return Err(ErrorCode::LeaderNotAvailable),
            told => told?,
        }
        let ends = self.ends();
        let offset = offset.unwrap_or(ends.high_watermark);
        if offset > ends.high_watermark || offset < Offset::ZERO {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        // The watermark only grows, so the check above still holds inside.
        let moved = self.0.log.set_log_start(offset, ends.high_watermark).await;
        moved.map_err(|error| error_code(&error))
    }

    /// The metadata has changed what this replica is.
    pub(crate) fn set_role(&self, role: Role) {
        let heard_at = self.0.desk.controller_heard_at();
        self.0.update(|state, now, effects| {
            if role.leader_epoch > state.leader.epoch() {
                // Nothing is appended meanwhile: the term begins where the log ends.
                let start = role.start(&self.0.log, heard_at);
                begin_epoch(&self.0.log, role.leader_epoch);
                state.rule = start.rule;
                let high_watermark = state.leader.high_watermark();
                state.leader = Leader::new(now, LeaderStart { high_watermark, ..start });
                tracing::debug!(partition = %self.0.id, leader = %state.leader, "another term of the same leader begins");
            } else {
                state.leader.step(now, Event::Registered(role.registration), effects);
            }
        });
    }

    /// What a produced batch is checked for now.
    pub(crate) fn rules(&self) -> Arc<ProduceRules> {
        self.0.lock().rules.clone()
    }

    /// The topic's settings have changed; the log has its own already.
    pub(crate) fn set_rules(&self, rules: Arc<ProduceRules>, min_isr: usize) {
        let ends = self.0.log.ends();
        let rule = commit_rule(self.0.log.config().durability_effective());
        self.0.update(|state, now, effects| {
            state.rules = rules;
            state.leader.step(now, Event::Local(local_ends(&ends)), effects);
            // Told again it would make the age of what followers lack begin anew.
            if rule != std::mem::replace(&mut state.rule, rule) {
                state.leader.step(now, Event::RuleChanged(rule), effects);
            }
            state.leader.step(now, Event::MinIsrChanged(min_isr), effects);
        });
    }

    /// Stops serving for good: everyone who waits is answered with `code`.
    pub(crate) fn close(&self, code: ErrorCode) {
        self.0.update(|state, _, _| {
            state.gone.get_or_insert(Gone { code });
        });
    }

    /// Why it serves no more, if so: it will not again in this process.
    pub(crate) fn gone(&self) -> Option<Gone> {
        self.0.lock().gone
    }
}

/// Why an append did not happen, or is not known to have.
enum Unappended {
    Gone(Gone),
    TooFewInSync,
    Append(AppendError),
    Write(ChangeError),
}

impl From<Unappended> for Refused {
    fn from(unappended: Unappended) -> Refused {
        match unappended {
            Unappended::Gone(gone) => gone.code.into(),
            Unappended::TooFewInSync => ErrorCode::NotEnoughReplicas.into(),
            Unappended::Append(error) => error.into(),
            Unappended::Write(error) => error.into(),
        }
    }
}

/// A read gave nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadFailed {
    /// What to tell the client.
    pub code: ErrorCode,
    /// The offsets at that moment.
    pub ends: Ends,
}

impl Ends {
    /// The exclusive end of what a reader sees.
    pub fn visible(&self, isolation: Isolation) -> Offset {
        if planted(Mutant::ReadPastHighWatermark) {
            return self.log_end;
        }
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark,
            Isolation::ReadCommitted => self.last_stable,
        }
    }
}

impl<E: Env> Leads for Room<E> {
    fn on_proposal_answered(&self, base: PartitionEpoch, answer: ProposalAnswer) {
        self.update(|state, now, effects| {
            state.leader.step(now, Event::Proposed(base, answer), effects);
        });
    }

    fn tick(&self) {
        self.update(|state, now, effects| {
            state.deadline = None;
            state.leader.step(now, Event::Tick, effects);
        });
    }
}

impl<E: Env> Room<E> {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every statement under this lock leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log's listener: moves the watermark and wakes who waited for it.
    fn on_log_moved(&self, ends: log::Ends) {
        self.update(|state, now, effects| {
            state.leader.step(now, Event::Local(local_ends(&ends)), effects);
            if state.log_start < ends.log_start {
                state.log_start = ends.log_start;
                state.leader.step(now, Event::Trimmed(ends.log_start), effects);
            }
        });
    }

    /// Changes the state, then wakes those for whom the wait is over, outside the lock.
    fn update(&self, change: impl FnOnce(&mut State, Instant, &mut Vec<Effect>)) {
        let now = self.clock.now();
        let mut effects = Vec::new();
        let place = (self.topic_id, self.id.partition);
        let woken = {
            let mut state = self.lock();
            change(&mut state, now, &mut effects);
            let deadline = state.leader.deadline().filter(|_| state.gone.is_none());
            if deadline != state.deadline {
                state.deadline = deadline;
                // Told under this lock, so that the desk knows the newest; it calls nobody.
                self.desk.wake_at(place, Told::Leader(self.me.clone()), deadline);
            }
            state.take_woken()
        };
        for effect in effects {
            if let Effect::ProposeIsr(proposal) = effect {
                tracing::debug!(partition = %self.id, isr = ?proposal.isr, base = %proposal.base, "an in-sync set is proposed");
                self.desk.propose(place, self.me.clone(), proposal);
            }
        }
        woken.into_iter().for_each(Woken::wake);
    }
}

impl State {
    fn waiters(&mut self, line: Line) -> &mut Waiters {
        match line {
            Line::Committed => &mut self.committed,
            Line::Local => &mut self.local,
            Line::Written => &mut self.written,
        }
    }

    fn reached(&self, line: Line) -> Offset {
        match line {
            Line::Committed => self.leader.high_watermark(),
            Line::Local => self.leader.local_end(),
            Line::Written => self.leader.written_end(),
        }
    }

    fn take_woken(&mut self) -> [Woken; 3] {
        [Line::Committed, Line::Local, Line::Written].map(|line| {
            let reached = self.reached(line);
            match self.gone {
                Some(_) => self.waiters(line).take_all(),
                None => self.waiters(line).take_reached(reached),
            }
        })
    }

    fn ends(&self, log: &log::Ends) -> Ends {
        let high_watermark = self.leader.high_watermark();
        Ends {
            log_start: log.log_start,
            // Without transactions everything committed is stable.
            last_stable: high_watermark,
            high_watermark,
            // The watermark may have moved on between the two looks; the log's end was there before it.
            log_end: log.log_end.max(high_watermark),
            leader_epoch: self.leader.epoch(),
        }
    }
}

/// What a look at an offset found.
pub(crate) enum Wait<E: Env> {
    /// It is reached.
    Over,
    /// It is waited for as long as this is kept.
    On(Waiting<E>),
}

/// A place among a partition's waiters; dropping it gives it up.
pub(crate) struct Waiting<E: Env> {
    partition: Partition<E>,
    line: Line,
    ticket: Ticket,
}

impl<E: Env> Drop for Waiting<E> {
    fn drop(&mut self) {
        self.partition.0.lock().waiters(self.line).remove(self.ticket);
    }
}

/// Notes in the log where the leader's term begins (I4).
fn begin_epoch<D: Disk>(log: &Log<D>, epoch: LeaderEpoch) {
    if log.newest_epoch() != Some(epoch)
        && let Err(error) = log.begin_epoch(epoch)
    {
        // Its appends will be refused for the same reason: better no new records than two histories (I16).
        tracing::error!(partition = %log.topic_partition(), %error, "this term cannot begin");
    }
}

fn commit_rule(durability: log::Durability) -> CommitRule {
    match durability {
        log::Durability::Sync => CommitRule::Durable,
        log::Durability::PageCache => CommitRule::Written,
    }
}

fn local_ends(ends: &log::Ends) -> LocalEnds {
    LocalEnds { durable: ends.durable, written: ends.written }
}
