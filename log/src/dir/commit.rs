//! The committer: drains dirty logs one lock at a time, gives the device one journal group and one sync for all, writes
//! their bytes to segments (page cache) meanwhile, then tells the listeners. While one group syncs, the next one gathers
//! in the queues; it begins at once, or when those that the last one answered are back ([`Pace`]).
//!
//! Changes of logs go through here too, before the data that waits with them: whatever must be durable before it is done
//! (TRUNCATE, LOG_START, DELETE, CREATE) is one group of its own (I8, DESIGN section 4).

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use env::{Clock, Disk};
use types::Offset;
use types::mutant::{Mutant, planted};

use super::Inner;
use super::alarm::Alarm;
use super::checkpoint::Scope;
use super::pace::{Awaited, Pace};
use crate::door::Reply;
use crate::journal::{Frame, FrameKind, JournalError, Position};
use crate::log::{Log, Round, WriteError};
use crate::{ChangeError, Ends};

/// How long to wait before trying again to write to a full disk (E11).
pub(super) const RETRY: Duration = Duration::from_millis(100);

/// The directory has failed; the cause is in the door.
pub(super) struct Offline;

/// A log's part of a group.
struct Part<D: Disk> {
    log: Log<D>,
    round: Round,
}

pub(super) struct Committer<'a, D: Disk, C> {
    pub dir: &'a Inner<D>,
    pub clock: &'a C,
    /// Logs whose bytes found no space.
    pub stalled: Vec<Log<D>>,
    /// The last bytes found no space: the next ones are journaled only when they have found some.
    pub is_full: bool,
    /// Waiting for their log to be durable up to an offset.
    pub flushes: Vec<(Log<D>, Offset, Reply<Ends>)>,
    pub closing: Option<Reply<()>>,
    pub pace: Pace,
}

/// Runs until the directory is closed or has failed.
pub(super) async fn run<D: Disk, C: Clock>(dir: &Arc<Inner<D>>, clock: &C) {
    let mut committer = Committer {
        dir,
        clock,
        stalled: Vec::new(),
        is_full: false,
        flushes: Vec::new(),
        closing: None,
        pace: Pace::default(),
    };
    let end = committer.work().await;
    if end.is_err() {
        dir.door.attention.notify_one();
    }
    dir.door.shut();
    for (_, _, reply) in committer.flushes.drain(..) {
        drop(reply.send(Err(dir.door.closed_error())));
    }
    if let Some(reply) = committer.closing.take() {
        drop(reply.send(end.map_err(|Offline| ChangeError::Offline)));
    }
    dir.door.attention.notify_one();
}

impl<D: Disk, C: Clock> Committer<'_, D, C> {
    async fn work(&mut self) -> Result<(), Offline> {
        let mut alarm = Alarm::new(self.clock);
        loop {
            if self.dir.door.is_offline() && !planted(Mutant::AppendAfterIoError) {
                return Err(Offline); // I10
            }
            let (mut dirty, mut arrived, commands) = self.dir.door.take();
            if dirty.is_empty() && commands.is_empty() {
                // What found no space by now was never acknowledged.
                if self.closing.is_some() {
                    return self.dir.stop(self.clock).await.map_err(|()| Offline);
                }
                self.rest(&mut alarm).await?;
                if !self.stalled.is_empty() {
                    dirty = std::mem::take(&mut self.stalled);
                }
            }
            self.change(commands).await?;
            while !dirty.is_empty() {
                let began = self.clock.now();
                dirty = self.group(dirty).await?;
                let now = self.clock.now();
                self.pace.on_group(arrived, now.saturating_since(began), now);
                self.dir.door.tally.batches.add(arrived as u64);
                if dirty.is_empty() && self.flushes.is_empty() && self.closing.is_none() {
                    self.gather(&mut alarm).await;
                }
                // Newcomers share the next group; nobody waits for another's backlog.
                let (more, newcomers, commands) = self.dir.door.take();
                arrived = newcomers;
                dirty.extend(more);
                self.change(commands).await?;
            }
            self.answer_flushes();
        }
    }

    /// Waits for those that the last group answered, if they are worth it.
    async fn gather(&mut self, alarm: &mut Alarm<'_, C>) {
        let door = &self.dir.door;
        let Some(Awaited { appends, patience }) = self.pace.next(door.arrived_count()) else {
            return;
        };
        door.set_awaited(Some(appends));
        let deadline = self.clock.now() + patience;
        while door.arrived_count() < appends && !door.is_asked() && self.clock.now() < deadline {
            tokio::select! {
                biased;
                () = door.wake.notified() => {}
                () = alarm.at(deadline) => {}
            }
        }
        door.set_awaited(None);
        self.pace.on_waited(door.arrived_count() >= appends);
    }

    /// Waits for work; marks the journal once the directory is idle, so that the last group has a successor that proves
    /// it was durable (E2, I14).
    async fn rest(&mut self, alarm: &mut Alarm<'_, C>) -> Result<(), Offline> {
        let wake = self.dir.door.wake.notified();
        if !self.stalled.is_empty() {
            tokio::select! {
                biased;
                () = wake => {}
                () = self.clock.sleep(RETRY) => {}
            }
            return Ok(());
        }
        if !self.dir.journal.lock().await.needs_mark() {
            wake.await;
            return Ok(());
        }
        let idle_at = self.clock.now() + self.dir.door.options.idle_mark;
        tokio::select! {
            biased;
            () = wake => return Ok(()),
            () = alarm.at(idle_at) => {}
        }
        let mut journal = self.dir.journal.lock().await;
        let marked = tokio::select! {
            biased;
            marked = journal.mark() => marked,
            () = patience(self.clock, self.dir.door.options.sync_timeout) => Err(timed_out()),
        };
        match marked {
            Ok(_) | Err(JournalError::NoSpace) => Ok(()),
            Err(error) => Err(self.dir.offline("marking the journal", &error)),
        }
    }

    pub(super) fn fail_io(&self, doing: String, error: &io::Error) -> Offline {
        self.dir.door.fail(&doing, error);
        Offline
    }

    /// Writes one group of at most the configured size; returns the logs that have more.
    pub(super) async fn group(&mut self, dirty: Vec<Log<D>>) -> Result<Vec<Log<D>>, Offline> {
        let mut budget = self.dir.door.options.group_bytes_max;
        let mut rest = Vec::new();
        let mut parts = Vec::new();
        let mut bytes = 0;
        for log in dirty {
            if budget == 0 {
                rest.push(log);
                continue;
            }
            let writer = log.inner.writer.lock().await;
            let (sync, round) = {
                let mut state = log.lock();
                // A log may have been listed twice: before and after it was drained for a change.
                if state.in_group {
                    continue;
                }
                if state.queue.is_empty() {
                    state.dirty = false;
                    continue;
                }
                state.in_group = true;
                (state.sync, state.next_round(budget))
            };
            budget = budget.saturating_sub(round.bytes);
            if sync {
                // Only the committer writes such a log: it needs no lock for that.
                drop(writer);
                parts.push(Part { log, round });
                continue;
            }
            let part = Part { log: log.clone(), round };
            if self.write(&part, &mut rest).await? {
                bytes += part.round.bytes;
                log.publish_paged(part.round).await;
            }
        }
        if !parts.is_empty() {
            bytes += self.commit(parts, &mut rest).await?;
        }
        if self.dir.door.should_look_at_space(bytes) {
            self.dir.door.look_at_space().await;
        }
        Ok(rest)
    }

    /// Writes to the page cache; whether it did. A log with more in its queue goes to `rest`, one without space waits.
    async fn write(&mut self, part: &Part<D>, rest: &mut Vec<Log<D>>) -> Result<bool, Offline> {
        let written = part.log.write(&part.round).await;
        let mut state = part.log.lock();
        state.in_group = false;
        match written {
            Ok(()) => self.is_full = false,
            Err(WriteError::NoSpace) => {
                self.is_full = true;
                self.stalled.push(part.log.clone());
                return Ok(false);
            }
            Err(WriteError::Failed) if planted(Mutant::AppendAfterIoError) => return Ok(false),
            Err(WriteError::Failed) => return Err(Offline),
        }
        let sync = state.sync;
        // Whatever came while it was written is in the queue.
        state.dirty = !state.queue.is_empty();
        if state.dirty {
            rest.push(part.log.clone());
        }
        drop(state);
        if sync {
            // Followers are given what its sync is still under way for.
            part.log.tell();
        }
        Ok(true)
    }

    async fn write_all(
        &mut self,
        parts: Vec<Part<D>>,
        rest: &mut Vec<Log<D>>,
    ) -> Result<Vec<Part<D>>, Offline> {
        let mut written = Vec::with_capacity(parts.len());
        for part in parts {
            if self.write(&part, rest).await? {
                written.push(part);
            }
        }
        Ok(written)
    }

    /// Makes a group durable and says so; bytes written. What finds no space in its segment although it is in the journal
    /// is not announced: it stays queued, and is written and journaled again at the same place.
    async fn commit(
        &mut self,
        mut parts: Vec<Part<D>>,
        rest: &mut Vec<Log<D>>,
    ) -> Result<usize, Offline> {
        let dir = self.dir;
        let groups = if self.is_full || planted(Mutant::AckBeforeSync) {
            parts = self.write_all(parts, rest).await?;
            if planted(Mutant::AckBeforeSync) {
                parts.iter().for_each(|part| announce(part, None));
            }
            if parts.is_empty() {
                return Ok(0);
            }
            dir.journal_group(self.clock, frames(&parts)).await?
        } else {
            // A checkpoint meanwhile must not free groups that no log has in its marks yet.
            *dir.uncounted() = Some(dir.journal.lock().await.next_position());
            let journal = dir.journal_group(self.clock, frames(&parts));
            let (groups, written) = tokio::join!(biased; journal, self.write_all(parts, rest));
            parts = written?;
            groups?
        };
        // No await from here to the end: a checkpoint, which runs in this same task, sees all of it or nothing.
        parts.iter().for_each(|part| announce(part, Some(&groups)));
        *dir.uncounted() = None;
        let bytes = parts.iter().map(|part| part.round.bytes).sum();
        dir.door.tally.bytes.add(bytes as u64);
        Ok(bytes)
    }

    /// Writes and syncs one group of frames.
    pub(super) async fn journal(&self, frames: Vec<Frame>) -> Result<Range<Position>, Offline> {
        self.dir.journal_group(self.clock, frames).await
    }

    /// Answers those whose log is durable as far as they asked.
    fn answer_flushes(&mut self) {
        let flushes = std::mem::take(&mut self.flushes);
        for (log, target, reply) in flushes {
            let (ends, deleted) = {
                let state = log.lock();
                (state.ends(), state.deleted)
            };
            if deleted {
                drop(reply.send(Err(ChangeError::Deleted)));
            } else if ends.durable >= target.min(ends.log_end) {
                drop(reply.send(Ok(ends)));
            } else {
                self.flushes.push((log, target, reply));
            }
        }
    }
}

impl<D: Disk> Inner<D> {
    /// Writes and syncs one group. A full journal waits for the checkpointer. On a full disk it is a checkpoint that frees
    /// files; when none is left the ballast makes room for short ones, and then it waits for space (E11). Everything else
    /// that fails is final (I10).
    async fn journal_group<C: Clock>(
        &self,
        clock: &C,
        frames: Vec<Frame>,
    ) -> Result<Range<Position>, Offline> {
        let options = &self.door.options;
        let mut makes_do = false;
        loop {
            let live = self.journal.lock().await.bytes_live();
            if live >= options.journal_bytes_max {
                self.checkpoint(clock, Scope::All).await.map_err(|()| Offline)?;
            }
            let mut journal = self.journal.lock().await;
            let began = clock.now();
            journal.set_makes_do(makes_do);
            let result = tokio::select! {
                biased;
                result = journal.append_group(frames.clone()) => result,
                () = patience(clock, options.sync_timeout) => Err(timed_out()),
            };
            let next = journal.next_position();
            let needs_checkpoint = journal.needs_checkpoint();
            self.door.tally.journal_bytes.store(journal.bytes_live(), Ordering::Relaxed);
            drop(journal);
            if needs_checkpoint {
                self.door.attention.notify_one();
            }
            match result {
                Ok(first) => {
                    self.door.tally.groups.record(clock.now().saturating_since(began));
                    return Ok(first..next);
                }
                Err(JournalError::NoSpace) => {
                    self.door.set_space_low(true);
                    if makes_do && self.door.ballast.spend().await {
                        continue;
                    }
                    if makes_do && self.door.is_closing() {
                        return Err(self.offline("writing the journal", &JournalError::NoSpace));
                    }
                    self.checkpoint(clock, Scope::All).await.map_err(|()| Offline)?;
                    if makes_do {
                        clock.sleep(RETRY).await;
                    }
                    makes_do = true;
                }
                Err(error) => return Err(self.offline("writing the journal", &error)),
            }
        }
    }

    fn offline(&self, doing: &str, error: &JournalError) -> Offline {
        self.door.fail(doing, &journal_io(error));
        Offline
    }
}

/// What the journal is to know of `parts`.
fn frames<D: Disk>(parts: &[Part<D>]) -> Vec<Frame> {
    let mut frames = Vec::with_capacity(parts.len());
    for part in parts {
        for run in &part.round.runs {
            frames.push(Frame {
                log: part.log.inner.id,
                segment_base: run.segment,
                position: run.position,
                kind: FrameKind::Data(run.pieces.clone()),
            });
        }
    }
    frames
}

/// The group that holds `part` is durable.
fn announce<D: Disk>(part: &Part<D>, groups: Option<&Range<Position>>) {
    {
        let mut state = part.log.lock();
        // Nothing becomes durable once the directory has failed, whatever its journal says (I10).
        let failed = part.log.inner.door.is_offline() && !planted(Mutant::AppendAfterIoError);
        if failed || state.generation != part.round.generation {
            return;
        }
        if state.durable.offset < part.round.end.offset {
            for run in &part.round.runs {
                state.index(run);
            }
            state.durable = part.round.end;
            state.remember(part.round.end);
        }
        if let Some(groups) = groups {
            state.marks.journaled(groups);
        }
        state.check();
    }
    part.log.tell();
}

/// Steps that a time limit is made of.
const PATIENCE_STEPS: u32 = 8;

/// Completes once the disk has had `limit`. While this process stands still, stopped or suspended, it cannot hear the disk: that
/// counts as one step, however long it was, and is no reason to call the disk broken.
pub(super) async fn patience<C: Clock>(clock: &C, limit: Duration) {
    for _ in 0..PATIENCE_STEPS {
        if planted(Mutant::PauseBlamedOnDisk) {
            return clock.sleep(limit).await;
        }
        clock.sleep(limit / PATIENCE_STEPS).await;
    }
}

fn timed_out() -> JournalError {
    JournalError::Io { doing: "syncing", error: io::ErrorKind::TimedOut.into() }
}

fn journal_io(error: &JournalError) -> io::Error {
    match error {
        JournalError::Io { doing, error } => {
            io::Error::new(error.kind(), format!("{doing}: {error}"))
        }
        JournalError::NoSpace => io::Error::new(io::ErrorKind::StorageFull, error.to_string()),
        other => io::Error::other(other.to_string()),
    }
}
