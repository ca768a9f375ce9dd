//! How batches enter a log: those of a producer, which get offsets and are judged, and those of a leader, which bear all that.
//!
//! Both change memory alone, under the log's own short lock, and all or nothing (I13): whatever may be refused is refused
//! before the first batch is queued.

use std::sync::MutexGuard;

use env::Disk;
use record::Batch;
use types::mutant::{Mutant, planted};
use types::{LeaderEpoch, Offset, Timestamp};

use super::{Log, OFFSET_MAX, Queued, State};
use crate::AppendError;
use crate::producers::Verdict;

/// The largest batch that a leader may have accepted: no segment may be set to hold more.
const REPLICATED_BYTES_MAX: u64 = i32::MAX as u64;
/// So many producers without state are remembered of whom a batch was refused.
const TURNED_AWAY_MAX: usize = 1_000;

/// Who appends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A client's produce request: refused early when the disk is nearly full.
    Client,
    /// A coordinator of this node or the metadata: may use the reserve.
    Coordinator,
}

/// An append: whole batches, validated, to be given offsets.
#[derive(Clone, Debug)]
pub struct Append {
    /// The batches, in order.
    pub batches: Vec<Batch>,
    /// The leader's epoch: patched into each batch.
    pub leader_epoch: LeaderEpoch,
    /// The broker's wall clock.
    pub now: Timestamp,
    /// Who appends.
    pub origin: Origin,
}

/// An append of what another replica has stored.
#[derive(Clone, Debug)]
pub struct Replicated {
    /// The batches with the offsets and epochs that their leader gave them, their checksums verified; of any number of epochs.
    pub batches: Vec<Batch>,
    /// The broker's wall clock.
    pub now: Timestamp,
    /// Who appends at the leader.
    pub origin: Origin,
}

/// Where an append went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset of its last record: answer once this is durable (or committed).
    pub last_offset: Offset,
    /// The broker's time of the append; of a duplicate the largest timestamp that the original was stored with.
    pub append_time: Timestamp,
    /// It was there already: these are the original's offsets (I49).
    pub duplicate: bool,
    /// First readable offset.
    pub log_start: Offset,
}

impl<D: Disk> Log<D> {
    /// Appends under the log's own short lock: assigns offsets, checks producers, queues the bytes. All or nothing
    /// (I13). A duplicate of a producer's batch answers the original offsets (I49): wait for them as for new ones.
    ///
    /// Panics without a batch: there would be nothing to answer.
    pub fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let Append { batches, leader_epoch, now, origin } = append;
        assert!(!batches.is_empty(), "an append carries at least one batch");
        let mut state = match self.admit(origin) {
            Ok(state) => state,
            Err(error) => {
                self.turn_away(&batches);
                return Err(error);
            }
        };
        if let Some(newest) = state.epochs.newest()
            && newest > leader_epoch
        {
            return Err(AppendError::LeaderEpochFenced { epoch: leader_epoch, newest }); // I3
        }
        let bytes_max = u64::from(state.config.segment_bytes);
        if let Some(large) = batches.iter().find(|b| b.bytes_total() as u64 > bytes_max) {
            return Err(AppendError::TooLarge { bytes: large.bytes_total(), bytes_max });
        }
        let spans = batches.iter().map(|b| i64::from(b.last_offset_delta()) + 1).sum::<i64>();
        if state.log_end.0 > OFFSET_MAX.0 - spans {
            return Err(AppendError::OffsetsExhausted);
        }
        if let Some(original) = state.judge(&batches)? {
            return Ok(original);
        }
        // From here on nothing can fail (I13).
        state.let_in(&batches);
        state.is_vital |= origin == Origin::Coordinator;
        let base_offset = state.log_end;
        let queued = state.queued_bytes;
        for batch in &batches {
            let placed = batch.placed(state.log_end, leader_epoch);
            state.push(placed, now);
        }
        let appended = Appended {
            base_offset,
            last_offset: Offset(state.log_end.0 - 1),
            append_time: now,
            duplicate: false,
            log_start: state.log_start,
        };
        self.queued(state, queued, batches.len());
        Ok(appended)
    }

    /// Batches are refused for now, and their producers will send them again. What a producer sent behind them may be on its way:
    /// where nothing is known of a producer any sequence could be its first, and what came behind would be stored before (I47).
    pub fn turn_away(&self, batches: &[Batch]) {
        let stamps = batches.iter().filter(|batch| !batch.is_control());
        let Some(stamp) = stamps.filter_map(|batch| batch.producer()).next() else { return };
        let mut state = self.lock();
        if planted(Mutant::TurnedAwayForgotten) || state.producers.knows(stamp.id) {
            return;
        }
        let known = state.turned_away.get(&stamp.id).filter(|(epoch, _)| *epoch == stamp.epoch);
        // What was refused first is what comes first.
        if known.is_none() {
            if state.turned_away.len() == TURNED_AWAY_MAX {
                state.turned_away.clear();
            }
            state.turned_away.insert(stamp.id, (stamp.epoch, stamp.base_sequence));
        }
    }

    /// The state, if clients' or coordinators' batches are taken now.
    fn admit(&self, origin: Origin) -> Result<MutexGuard<'_, State<D::File>>, AppendError> {
        let door = &self.inner.door;
        if door.is_offline() && !planted(Mutant::AppendAfterIoError) {
            return Err(AppendError::Offline); // I10
        }
        if origin == Origin::Client {
            door.admit_by_space()?;
            door.admit_by_queue()?;
        }
        self.lock_for_append()
    }

    /// Appends batches as their leader stored them, byte for byte, under the log's own short lock: notes producers and where
    /// epochs begin. All or nothing (I13). Answers the log's end then.
    pub fn append_replicated(&self, append: Replicated) -> Result<Offset, AppendError> {
        let Replicated { mut batches, now, origin } = append;
        let door = &self.inner.door;
        if door.is_offline() {
            return Err(AppendError::Offline); // I10
        }
        if origin == Origin::Client {
            door.admit_by_space()?;
        }
        door.admit_by_queue()?;
        let mut state = self.lock_for_append()?;
        let end = state.judge_replicated(&batches)?;
        // From here on nothing can fail (I13).
        state.is_vital |= origin == Origin::Coordinator;
        if planted(Mutant::ReplicatedRestamped)
            && let Some(newest) = batches.last().map(|last| LeaderEpoch(last.epoch()))
        {
            batches = batches.iter().map(|b| b.placed(b.base_offset(), newest)).collect();
        }
        state.turned_away.clear();
        let (queued, count) = (state.queued_bytes, batches.len());
        if count > 0 {
            // What this replica began as a leader, without a record, is no epoch of the log (I4).
            let log_end = state.log_end;
            state.epochs.truncate_end(log_end);
        }
        for batch in batches {
            state.push(batch, now);
        }
        self.queued(state, queued, count);
        Ok(end)
    }

    /// The state, if it takes appends.
    fn lock_for_append(&self) -> Result<MutexGuard<'_, State<D::File>>, AppendError> {
        let state = self.lock();
        match state.deleted {
            true => Err(AppendError::Deleted),
            false if state.blocked || self.inner.door.is_closing() => Err(AppendError::Busy),
            false => Ok(state),
        }
    }

    /// So many batches were queued, behind `before` bytes: whoever writes them hears of it.
    fn queued(&self, mut state: MutexGuard<'_, State<D::File>>, before: usize, batches: usize) {
        let door = &self.inner.door;
        door.queued(state.queued_bytes - before);
        // The bytes of a page-cache log are written by `write_out`, which every appender calls.
        let sync = state.sync;
        let list = sync && batches > 0 && !state.dirty;
        state.dirty |= list;
        drop(state);
        if list {
            door.dirty(self.clone());
        }
        if sync {
            door.arrived(batches);
        }
    }
}

impl<F> State<F> {
    /// Queues a batch that was judged good and stands at the log's end.
    fn push(&mut self, batch: Batch, now: Timestamp) {
        if self.must_roll(&batch, now) {
            self.roll();
        }
        let header = *batch.header();
        if let Some(epoch) = header.leader_epoch() {
            self.epochs.begin(epoch, header.base_offset()); // I4
        }
        self.producers.add(&header, now);
        let (head, rest) = batch.into_parts();
        let bytes = head.len() + rest.len();
        let active = self.segments.back_mut().expect("a roll makes the first segment");
        active.ages.first_append.get_or_insert(now);
        // A clock that is set back does not make older appends older.
        active.ages.last_append = active.ages.last_append.max(Some(now));
        self.queue.push_back(Queued {
            header,
            segment: active.base,
            position: active.size,
            head,
            rest,
        });
        active.size += bytes as u64;
        active.end = header.end_offset();
        self.log_end = header.end_offset();
        self.queued_bytes += bytes;
        self.snapshot_bytes += bytes as u64;
    }

    /// Judges what a leader has stored by its place and epochs alone: producers were its business. Answers the end of it.
    fn judge_replicated(&self, batches: &[Batch]) -> Result<Offset, AppendError> {
        let mut end = self.log_end;
        // A term that began here without a record binds nobody (E5).
        let mut newest = self.epochs.at(Offset(end.0 - 1)).unwrap_or(LeaderEpoch(0));
        for batch in batches {
            let (found, epoch) = (batch.base_offset(), LeaderEpoch(batch.epoch()));
            if found != end {
                return Err(AppendError::OutOfPlace { expected: end, found }); // I2
            }
            if epoch < newest {
                return Err(AppendError::LeaderEpochFenced { epoch, newest }); // I3
            }
            if batch.bytes_total() as u64 > REPLICATED_BYTES_MAX {
                let (bytes, bytes_max) = (batch.bytes_total(), REPLICATED_BYTES_MAX);
                return Err(AppendError::TooLarge { bytes, bytes_max });
            }
            (end, newest) = (batch.end_offset(), epoch);
        }
        if end > OFFSET_MAX { Err(AppendError::OffsetsExhausted) } else { Ok(end) }
    }

    /// These batches are taken: their producers are known from now on.
    fn let_in(&mut self, batches: &[Batch]) {
        if !self.turned_away.is_empty() {
            for (id, _) in batches.iter().filter_map(|batch| batch.producer_identity()) {
                self.turned_away.remove(&id);
            }
        }
    }

    /// Whether the first of these is what was refused of its producer before, if anything was.
    fn is_next(&self, batches: &[Batch]) -> Result<(), AppendError> {
        let Some(stamp) = batches.first().and_then(|batch| batch.producer()) else { return Ok(()) };
        match self.turned_away.get(&stamp.id) {
            Some(&(epoch, expected))
                if epoch == stamp.epoch
                    && expected != stamp.base_sequence
                    && !self.producers.knows(stamp.id) =>
            {
                let (id, sequence) = (stamp.id, stamp.base_sequence);
                Err(AppendError::OutOfOrderSequence { id, sequence, expected })
            }
            _ => Ok(()),
        }
    }

    /// Judges all batches of an append together; the original when all are duplicates.
    fn judge(&self, batches: &[Batch]) -> Result<Option<Appended>, AppendError> {
        if !self.turned_away.is_empty() {
            self.is_next(batches)?;
        }
        if let [batch] = batches {
            let Some(stamp) = batch.producer().filter(|_| !batch.is_control()) else {
                return Ok(None);
            };
            let last = batch.last_sequence().expect("a stamp has a sequence");
            return match self.producers.check(stamp, last)? {
                Verdict::Append => Ok(None),
                Verdict::Duplicate(original) => Ok(Some(Appended {
                    base_offset: original.base_offset,
                    last_offset: original.last_offset,
                    append_time: original.timestamp,
                    duplicate: true,
                    log_start: self.log_start,
                })),
            };
        }
        if batches.iter().all(|batch| batch.producer_identity().is_none()) {
            return Ok(None);
        }
        // Several batches with producers: each is judged after those before it, on a copy.
        let mut producers = self.producers.clone();
        let mut original: Option<Appended> = None;
        let mut fresh = 0;
        let mut end = self.log_end;
        for batch in batches {
            let stamp = batch.producer().filter(|_| !batch.is_control());
            let verdict = match (stamp, batch.last_sequence()) {
                (Some(stamp), Some(last)) => producers.check(stamp, last)?,
                _ => Verdict::Append,
            };
            match verdict {
                Verdict::Append => {
                    fresh += 1;
                    let placed = batch.placed(end, LeaderEpoch(0));
                    producers.add(placed.header(), Timestamp(0));
                    end = placed.end_offset();
                }
                Verdict::Duplicate(found) => {
                    original = Some(Appended {
                        base_offset: original.map_or(found.base_offset, |first| first.base_offset),
                        last_offset: found.last_offset,
                        append_time: found.timestamp,
                        duplicate: true,
                        log_start: self.log_start,
                    });
                }
            }
        }
        match original {
            Some(_) if fresh > 0 => {
                let stamp = batches.iter().find_map(|batch| batch.producer());
                let stamp = stamp.expect("a duplicate has a producer");
                Err(AppendError::OutOfOrderSequence {
                    id: stamp.id,
                    sequence: stamp.base_sequence,
                    expected: stamp.base_sequence,
                })
            }
            original => Ok(original),
        }
    }
}
