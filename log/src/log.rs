//! One partition's log: what it holds, where its ends stand, and how an append enters it.
//!
//! ```text
//!  log_start      stable       durable       written      log_end
//!  ----|-------------|------------|-------------|------------|--->
//!      | in segments | in journal | page cache  | queued     |
//! ```
//!
//! State lives behind one short lock, never held across an await. An append changes memory alone: it takes offsets,
//! judges producers and queues bytes; a follower's keeps the offsets that its leader gave, and notes producers. Whoever
//! writes (the committer, or `write_out` of a page-cache log) holds the `writer` lock, one at a time, so that the file
//! order is the offset order. Indexes describe what is durable (`sync`) or written (`page-cache`), never more, so that a
//! checkpoint of them is exact (I5).
//!
//! Invariants: `log_start <= stable`, `stable <= durable <= written <= log_end` (page-cache logs: durable is what is
//! synced); offsets are dense (I2); epochs do not decrease (I3); a refused append changes nothing (I13).

mod append;
mod damage;
mod heal;
mod read;
mod retain;
mod scan;
mod scrub;
mod sound;
mod time;
mod write;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use env::{Disk, Part};
use record::{Batch, BatchHeader};
use tokio::sync::oneshot;
use types::{
    Instant, LeaderEpoch, LogId, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId,
    TopicPartition,
};

use crate::door::{Command, Door};
use crate::epochs::Epochs;
use crate::index::{Ages, Index, Mark};
use crate::journal::Position;
use crate::producers::Producers;
use crate::{AppendError, ChangeError, Durability, LogConfig, Quarantined};

pub use append::{Append, Appended, Origin, Replicated};
pub(crate) use read::SCAN_BYTES;
pub(crate) use retain::Expired;
pub(crate) use scrub::Finding;
pub(crate) use sound::{Sound, TURN};
pub(crate) use write::{Round, WriteError};

/// One partition's log. Cheap to clone; clones are the same log.
pub struct Log<D: Disk> {
    pub(crate) inner: Arc<Inner<D>>,
}

impl<D: Disk> Clone for Log<D> {
    fn clone(&self) -> Log<D> {
        Log { inner: self.inner.clone() }
    }
}

impl<D: Disk> fmt::Debug for Log<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (log {}) {:?}", self.inner.partition, self.inner.id, self.ends())
    }
}

/// Who is told when ends move.
pub(crate) type Listener = Arc<dyn Fn(Ends) + Send + Sync>;

pub(crate) struct Inner<D: Disk> {
    pub id: LogId,
    pub partition: TopicPartition,
    pub topic_id: TopicId,
    pub path: PathBuf,
    pub door: Arc<Door<D>>,
    /// Held by whoever changes the segment files.
    pub writer: tokio::sync::Mutex<()>,
    state: Mutex<State<D::File>>,
}

/// A batch boundary and where it stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Point {
    pub offset: Offset,
    /// Base offset of the segment.
    pub segment: Offset,
    /// Byte in that segment.
    pub position: u64,
}

/// One segment: in memory what was appended to it, on disk what is written.
#[derive(Debug)]
pub(crate) struct Segment<F> {
    pub base: Offset,
    /// End of what was appended.
    pub end: Offset,
    /// Bytes appended.
    pub size: u64,
    /// `None`: not loaded; only for segments that are no longer appended to.
    pub index: Option<Box<Index>>,
    pub file: Option<F>,
    pub ages: Ages,
    /// Producers as of `base`, until they are saved.
    pub snapshot: Option<Bytes>,
    /// Written since the last sync of its file.
    pub unsynced: bool,
    /// Its file is not there yet.
    pub is_new: bool,
    /// Its index files were cut to what is believed, in this process.
    pub index_checked: bool,
    /// Which of its bytes need no look before they are served.
    pub sound: Sound,
}

/// A batch that waits to be written.
#[derive(Debug)]
pub(crate) struct Queued {
    pub header: BatchHeader,
    pub segment: Offset,
    pub position: u64,
    pub head: Bytes,
    pub rest: Bytes,
}

/// A range whose bytes are bad.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Damage {
    pub start: Point,
    /// Exclusive.
    pub end: Offset,
    /// Exclusive, in the segment of `start`.
    pub end_position: u64,
    /// The device refuses to read it, and may think better of it: known in this process only, and looked at again.
    pub is_unreadable: bool,
}

impl Point {
    /// The same place, of its segment.
    pub fn mark(self) -> Mark {
        Mark { offset: self.offset, position: self.position }
    }
}

/// What a log's segments hold safely, and the first group whose frames of this log must be redone on top of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Anchor {
    pub point: Point,
    pub group: Position,
}

/// Where a log stands in the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Marks {
    /// First group with a frame of this log that its segments do not hold safely.
    pub oldest: Option<Position>,
    /// The same, of what a checkpoint is syncing now.
    pub syncing: Option<Position>,
    /// The group after the last one with a frame of this log.
    pub next: Position,
}

impl Marks {
    /// Frames of this log stand in these groups.
    pub fn journaled(&mut self, groups: &Range<Position>) {
        self.oldest.get_or_insert(groups.start);
        self.next = groups.end;
    }

    /// The first group that is still needed.
    pub fn needed(&self) -> Option<Position> {
        self.syncing.or(self.oldest)
    }
}

pub(crate) struct State<F> {
    pub config: Arc<LogConfig>,
    pub log_start: Offset,
    pub stable: Point,
    pub durable: Point,
    pub written: Point,
    pub log_end: Offset,
    /// Ends of the last appends that became readable: where those who read along continue.
    pub recent: VecDeque<Point>,
    /// In order of their base; the last one is active. Empty until the first append.
    pub segments: VecDeque<Segment<F>>,
    pub queue: VecDeque<Queued>,
    pub queued_bytes: usize,
    pub epochs: Epochs,
    pub producers: Producers,
    pub damages: Vec<Damage>,
    pub listener: Option<Listener>,
    pub marks: Marks,
    /// What the checkpoint file says of this log, or will say.
    pub anchor: Anchor,
    /// In the committer's list.
    pub dirty: bool,
    /// Producers without state here of whom a batch was refused for now, and its epoch and sequence: what they sent behind it
    /// is not to overtake it.
    pub turned_away: BTreeMap<ProducerId, (ProducerEpoch, Sequence)>,
    /// The head of its queue is part of the group that the committer writes.
    pub in_group: bool,
    /// Whether appends wait for the committer's sync.
    pub sync: bool,
    /// A coordinator appends to it: its bytes may spend the ballast.
    pub is_vital: bool,
    /// A truncation is under way.
    pub blocked: bool,
    pub deleted: bool,
    /// Files were created, renamed or removed since the last sync of the directory.
    pub entries_changed: bool,
    /// `partition.metadata` was written and not synced.
    pub metadata_unsynced: bool,
    /// Producer snapshots on disk that do not stand at a segment's base, oldest first.
    pub snapshots: VecDeque<Offset>,
    /// Bytes appended since the last one.
    pub snapshot_bytes: u64,
    /// A page-cache log: records written since the last sync, and when they must be synced (`flush.ms`).
    pub unsynced_records: u64,
    pub flush_due: Option<Instant>,
    /// Raised by truncation and deletion: work queued before must not go on.
    pub generation: u64,
}

impl<F> State<F> {
    pub fn new(config: Arc<LogConfig>) -> State<F> {
        let sync = config.durability_effective() == Durability::Sync;
        State {
            config,
            log_start: Offset::ZERO,
            stable: Point::default(),
            durable: Point::default(),
            written: Point::default(),
            log_end: Offset::ZERO,
            recent: VecDeque::new(),
            segments: VecDeque::new(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            epochs: Epochs::default(),
            producers: Producers::default(),
            damages: Vec::new(),
            turned_away: BTreeMap::new(),
            listener: None,
            marks: Marks::default(),
            anchor: Anchor::default(),
            dirty: false,
            in_group: false,
            sync,
            is_vital: false,
            blocked: false,
            deleted: false,
            entries_changed: false,
            metadata_unsynced: false,
            snapshots: VecDeque::new(),
            snapshot_bytes: 0,
            unsynced_records: 0,
            flush_due: None,
            generation: 0,
        }
    }

    pub fn ends(&self) -> Ends {
        Ends {
            log_start: self.log_start,
            stable: self.stable.offset,
            durable: self.durable.offset,
            written: self.written.offset,
            log_end: self.log_end,
        }
    }

    /// Every invariant in one place.
    pub fn check(&self) {
        assert!(
            self.log_start <= self.log_end,
            "I81: log start {} beyond {}",
            self.log_start,
            self.log_end
        );
        assert!(self.stable.offset <= self.durable.offset, "I11: stable beyond durable");
        assert!(self.durable.offset <= self.written.offset, "I9: durable beyond written");
        assert!(self.written.offset <= self.log_end, "written beyond the log's end");
        if let Some(active) = self.segments.back() {
            assert!(active.end == self.log_end, "I2: the active segment ends at the log's end");
        }
    }

    /// The log can be read up to `end` from now on.
    pub fn remember(&mut self, end: Point) {
        const KEPT: usize = 8;
        if self.recent.len() == KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back(end);
    }

    /// Index into `segments` of the one that holds `offset`.
    pub fn segment_of(&self, offset: Offset) -> Option<usize> {
        self.segments.partition_point(|segment| segment.base <= offset).checked_sub(1)
    }

    pub fn segment(&mut self, base: Offset) -> Option<&mut Segment<F>> {
        let at = self.segments.binary_search_by_key(&base, |segment| segment.base).ok()?;
        self.segments.get_mut(at)
    }

    /// Whether `batch` needs a new segment.
    fn must_roll(&self, batch: &Batch, now: Timestamp) -> bool {
        let Some(active) = self.segments.back() else { return true };
        if active.size == 0 {
            return false;
        }
        let config = &self.config;
        let full = active.size + batch.bytes_total() as u64 > u64::from(config.segment_bytes);
        let span = self.log_end.since(active.base) + i64::from(batch.last_offset_delta());
        let index_full =
            active.index.as_ref().is_some_and(|i| i.bytes() + 32 > config.index_bytes as usize);
        let old = active.ages.first_append.is_some_and(|first| {
            let jitter = u64::try_from(config.segment_jitter.as_millis()).unwrap_or(u64::MAX);
            // Spread by the base offset: no randomness, and every replica differs from its neighbours anyway.
            let spread = (active.base.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let jitter = std::time::Duration::from_millis(spread % jitter.max(1));
            first.saturating_add(config.segment_ms.saturating_sub(jitter)) <= now
        });
        full || index_full || old || span > i64::from(i32::MAX)
    }

    /// Starts a new segment at the log's end.
    pub fn roll(&mut self) {
        let snapshot = self.producers.snapshot(self.log_end);
        self.segments.push_back(Segment {
            base: self.log_end,
            end: self.log_end,
            size: 0,
            index: Some(Box::new(Index::new(self.log_end, self.config.index_interval_bytes))),
            file: None,
            ages: Ages::default(),
            snapshot: Some(snapshot),
            unsynced: false,
            is_new: true,
            index_checked: true,
            sound: Sound::default(),
        });
    }

    /// Ends that stand at the base of a segment are told in that segment; ends below the first segment are lifted to it:
    /// what they named is gone (deleted, not lost).
    pub fn settle(&mut self) {
        let first = self.segments.front().map_or(self.log_end, |segment| segment.base);
        let bases: Vec<Offset> = self.segments.iter().map(|segment| segment.base).collect();
        for point in [&mut self.stable, &mut self.durable, &mut self.written] {
            let offset = point.offset.max(first);
            if offset == first || bases.binary_search(&offset).is_ok() {
                *point = Point { offset, segment: offset, position: 0 };
            }
        }
    }

    /// The log is empty and goes on at `start`.
    pub fn reset(&mut self, start: Offset) {
        let point = Point { offset: start, segment: start, position: 0 };
        self.segments.clear();
        self.queue.clear();
        self.recent.clear();
        self.damages.clear();
        self.snapshots.clear();
        self.epochs = Epochs::default();
        self.producers = Producers::default();
        (self.stable, self.durable, self.written) = (point, point, point);
        (self.log_start, self.log_end) = (start, start);
        (self.snapshot_bytes, self.unsynced_records, self.flush_due) = (0, 0, None);
        self.generation += 1;
        self.entries_changed = true;
    }
}

/// No log ends beyond: there is a next offset, and one after it, wherever one is asked for.
pub(crate) const OFFSET_MAX: Offset = Offset(i64::MAX - 2);

/// The ends of a log; all but `log_start` exclusive.
///
/// ```text
///  log_start      stable       durable       written      log_end
///  ----|-------------|------------|-------------|------------|--->
///      | in segments | in journal | page cache  | queued     |
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ends {
    /// First readable offset.
    pub log_start: Offset,
    /// Everything below is synced in its segments.
    pub stable: Offset,
    /// Everything below survives a power cut.
    pub durable: Offset,
    /// Everything below can be read.
    pub written: Offset,
    /// The next offset to be assigned.
    pub log_end: Offset,
}

/// What to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Read {
    /// First offset wanted; the batch that holds it is returned whole.
    pub from: Offset,
    /// Nothing at or above this is returned (high watermark).
    pub end: Offset,
    /// Byte budget.
    pub bytes_max: usize,
    /// Return the first batch even if it is larger than the budget.
    pub at_least_one: bool,
}

/// Whole batches, contiguous. Parts are ranges of files: a truncation after the read may take them away, so what is sent
/// to others lies below the high watermark, which is never cut.
#[derive(Clone, Debug)]
pub struct Slice<F> {
    /// The bytes.
    pub parts: Vec<Part<F>>,
    /// How many.
    pub bytes: usize,
    /// Where the next read continues.
    pub next_offset: Offset,
}

/// A record found by its timestamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// Leader epoch of its batch.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// What retention removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retained {
    /// Segments deleted.
    pub segments: usize,
    /// Bytes they held.
    pub bytes: u64,
    /// The log start afterwards.
    pub log_start: Offset,
}

/// An active producer, as DescribeProducers shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerView {
    /// The producer.
    pub id: ProducerId,
    /// Its newest epoch.
    pub epoch: ProducerEpoch,
    /// Sequence of its last record, if any.
    pub last_sequence: Option<Sequence>,
    /// Offset of its last record, if any.
    pub last_offset: Option<Offset>,
    /// Timestamp of its last batch.
    pub last_timestamp: Timestamp,
}

impl<D: Disk> Log<D> {
    pub(crate) fn new(
        id: LogId,
        partition: TopicPartition,
        topic_id: TopicId,
        door: Arc<Door<D>>,
        state: State<D::File>,
    ) -> Log<D> {
        let path = crate::layout::log_dir(&door.path, &partition);
        Log {
            inner: Arc::new(Inner {
                id,
                partition,
                topic_id,
                path,
                door,
                writer: tokio::sync::Mutex::new(()),
                state: Mutex::new(state),
            }),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State<D::File>> {
        // A panic under the lock has taken the process down already; tests that catch it may look on.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The partition by name.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.inner.partition
    }

    /// Identity of the topic.
    pub fn topic_id(&self) -> TopicId {
        self.inner.topic_id
    }

    /// Identity within the directory; never reused.
    pub fn id(&self) -> LogId {
        self.inner.id
    }

    /// Current settings.
    pub fn config(&self) -> Arc<LogConfig> {
        self.lock().config.clone()
    }

    /// Changes settings. A change of durability is in force when this returns.
    pub async fn set_config(&self, config: LogConfig) -> Result<(), ChangeError> {
        {
            let mut state = self.lock();
            if config.durability_effective() == state.config.durability_effective() {
                state.config = Arc::new(config);
                return Ok(());
            }
        }
        self.command(|reply| Command::Config { log: self.clone(), config, reply }).await
    }

    /// Queues a command for the committer and waits for its answer.
    pub(crate) async fn command<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, ChangeError>>) -> Command<D>,
    ) -> Result<T, ChangeError> {
        self.inner.door.ask(command).await
    }

    /// Where the log stands.
    pub fn ends(&self) -> Ends {
        self.lock().ends()
    }

    /// Called after `written`, `durable` or `log_start` has moved, outside the log's lock, by whoever moved it. Calls
    /// may come from several tasks and out of order: take the largest. Only a truncation or a reset takes ends back: who
    /// asks for one asks the log for its ends when it is done.
    pub fn set_listener(&self, listener: Arc<dyn Fn(Ends) + Send + Sync>) {
        self.lock().listener = Some(listener);
    }

    /// Tells the listener where the log stands now, outside the lock.
    pub(crate) fn tell(&self) {
        let (listener, ends) = {
            let state = self.lock();
            (state.listener.clone(), state.ends())
        };
        if let Some(listener) = listener {
            listener(ends);
        }
    }

    /// The largest epoch not above `epoch` and its end offset, as OffsetForLeaderEpoch asks.
    pub fn end_of_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let state = self.lock();
        state.epochs.end_of(epoch, state.log_end)
    }

    /// The newest leader epoch of the log.
    pub fn newest_epoch(&self) -> Option<LeaderEpoch> {
        self.lock().epochs.newest()
    }

    /// Where each of its leader epochs begins, oldest first; the newest may have no records yet.
    pub fn epochs(&self) -> Vec<(LeaderEpoch, Offset)> {
        self.lock().epochs.entries().iter().map(|entry| (entry.epoch, entry.start)).collect()
    }

    /// The leader epoch of the batch that holds `offset`.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.lock().epochs.at(offset)
    }

    /// A leader's term begins at the log end (I4). Kept in memory: until the first append of the term nothing of it
    /// needs to survive.
    pub fn begin_epoch(&self, epoch: LeaderEpoch) -> Result<(), AppendError> {
        let mut state = self.lock();
        match state.epochs.newest() {
            Some(newest) if newest > epoch => Err(AppendError::LeaderEpochFenced { epoch, newest }),
            _ => {
                let end = state.log_end;
                state.epochs.begin(epoch, end);
                Ok(())
            }
        }
    }

    /// Raises the log start (DeleteRecords) to `offset`, or to `high_watermark` if that is lower (I81). Durable when it
    /// returns; answers the log start then.
    pub async fn set_log_start(
        &self,
        offset: Offset,
        high_watermark: Offset,
    ) -> Result<Offset, ChangeError> {
        let log_end = self.ends().log_end;
        if offset > high_watermark || offset > log_end {
            return Err(ChangeError::OffsetOutOfRange {
                offset,
                log_end: high_watermark.min(log_end),
            });
        }
        self.command(|reply| Command::LogStart { log: self.clone(), offset, reply }).await
    }

    /// Cuts the log at `offset`, down to the start of the batch that holds it. Durable when it returns (I8).
    pub async fn truncate(&self, offset: Offset) -> Result<(), ChangeError> {
        self.command(|reply| Command::Truncate { log: self.clone(), offset, reply }).await
    }

    /// Empties the log, which begins again at `offset`, wherever that is: no records, epochs, producers or quarantined ranges
    /// are left. Durable when it returns (I12).
    pub async fn reset(&self, offset: Offset) -> Result<(), ChangeError> {
        let log_end = self.ends().log_end;
        if !(Offset::ZERO..=OFFSET_MAX).contains(&offset) {
            return Err(ChangeError::OffsetOutOfRange { offset, log_end });
        }
        self.command(|reply| Command::Reset { log: self.clone(), offset, reply }).await
    }

    /// Waits until everything appended so far survives a power cut, whatever the log's durability.
    pub async fn flush(&self) -> Result<Ends, ChangeError> {
        self.command(|reply| Command::Flush { log: self.clone(), reply }).await
    }

    /// Bytes of all segments.
    pub fn bytes_total(&self) -> u64 {
        self.lock().segments.iter().map(|segment| segment.size).sum()
    }

    /// Active producers.
    pub fn producers(&self) -> Vec<ProducerView> {
        self.lock().producers.views()
    }

    /// Damaged ranges (I14).
    pub fn quarantined(&self) -> Vec<Quarantined> {
        let state = self.lock();
        state.damages.iter().map(|damage| self.describe(&state, damage)).collect()
    }

    /// The same, by first offset and end alone.
    pub fn quarantined_offsets(&self) -> Vec<(Offset, Offset)> {
        self.lock().damages.iter().map(|damage| (damage.start.offset, damage.end)).collect()
    }

    /// The same, where there are bytes that could be put right: not where a segment is missing.
    pub fn damaged_bytes(&self) -> Vec<(Offset, Offset)> {
        let state = self.lock();
        let has_bytes = |damage: &&Damage| damage.end_position > damage.start.position;
        let damages = state.damages.iter().filter(has_bytes);
        damages.map(|damage| (damage.start.offset, damage.end)).collect()
    }

    pub(crate) fn describe(&self, state: &State<D::File>, damage: &Damage) -> Quarantined {
        let before = Offset(damage.start.offset.0 - 1);
        Quarantined {
            partition: self.inner.partition.clone(),
            start: damage.start.offset,
            end: damage.end,
            is_unreadable: damage.is_unreadable,
            epoch: state.epochs.at(before),
        }
    }

    /// Whether it was deleted.
    pub fn is_deleted(&self) -> bool {
        self.lock().deleted
    }
}
