//! The committer: drains dirty logs one lock at a time, writes their bytes to segments (page cache), then one journal
//! group and one sync for all, then tells the listeners. While one group syncs, the next one gathers in the queues; it
//! begins at once, or when those that the last one answered are back ([`Pace`]).
//!
//! Changes of logs go through here too, before the data that waits with them: whatever must be durable before it is done
//! (TRUNCATE, LOG_START, DELETE, CREATE) is one group of its own (I8, DESIGN section 4).

use std::io;
use std::ops::Range;
use std::sync::Arc;
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
use crate::log::{Log, WriteError, Written};
use crate::{ChangeError, Ends};

/// How long to wait before trying again to write to a full disk (E11).
pub(super) const RETRY: Duration = Duration::from_millis(100);

/// The directory has failed; the cause is in the door.
pub(super) struct Offline;

/// A log's part of a group.
struct Part<D: Disk> {
    log: Log<D>,
    written: Written,
}

pub(super) struct Committer<'a, D: Disk, C> {
    pub dir: &'a Inner<D>,
    pub clock: &'a C,
    /// Logs whose bytes found no space.
    pub stalled: Vec<Log<D>>,
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
                self.pace.on_group(arrived, self.clock.now().saturating_since(began));
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
            () = self.clock.sleep(self.dir.door.options.sync_timeout) => Err(timed_out()),
        };
        match marked {
            Ok(_) | Err(JournalError::NoSpace) => Ok(()),
            Err(error) => Err(self.fail("marking the journal", &error)),
        }
    }

    pub(super) fn fail(&self, doing: &str, error: &JournalError) -> Offline {
        self.dir.door.fail(doing, &journal_io(error));
        Offline
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
            let (sync, empty) = {
                let mut state = log.lock();
                let empty = state.queue.is_empty();
                state.dirty &= !empty;
                (state.sync, empty)
            };
            if empty {
                continue;
            }
            let written = match log.write_queued(budget).await {
                Ok(written) => written,
                Err(WriteError::NoSpace) => {
                    drop(writer);
                    self.stalled.push(log);
                    continue;
                }
                Err(WriteError::Failed) if planted(Mutant::AppendAfterIoError) => continue,
                Err(WriteError::Failed) => return Err(Offline),
            };
            let count = written.runs.iter().map(|run| run.bytes).sum::<usize>();
            bytes += count;
            budget = budget.saturating_sub(count);
            let more = {
                let mut state = log.lock();
                // What came meanwhile is not in `written.more`.
                state.dirty = !state.queue.is_empty();
                state.dirty
            };
            if more {
                rest.push(log.clone());
            }
            if sync {
                drop(writer);
                parts.push(Part { log, written });
            } else {
                log.publish_paged(written).await;
            }
        }
        if !parts.is_empty() {
            self.commit(parts).await?;
        }
        if self.dir.door.should_look_at_space(bytes) {
            self.dir.door.look_at_space().await;
        }
        Ok(rest)
    }

    async fn commit(&mut self, parts: Vec<Part<D>>) -> Result<(), Offline> {
        let mut frames = Vec::with_capacity(parts.len());
        for part in &parts {
            for run in &part.written.runs {
                frames.push(Frame {
                    log: part.log.inner.id,
                    segment_base: run.segment,
                    position: run.position,
                    kind: FrameKind::Data(run.pieces.clone()),
                });
            }
        }
        if planted(Mutant::AckBeforeSync) {
            parts.iter().for_each(|part| announce(part, None));
        }
        let groups = self.journal(frames).await?;
        // No await from the sync to here: a checkpoint, which runs in this same task, sees both or neither.
        parts.iter().for_each(|part| announce(part, Some(&groups)));
        Ok(())
    }

    /// Writes and syncs one group. A full journal waits for the checkpointer, a full disk for space (E11); everything
    /// else that fails is final (I10).
    pub(super) async fn journal(&self, frames: Vec<Frame>) -> Result<Range<Position>, Offline> {
        let options = &self.dir.door.options;
        loop {
            let live = self.dir.journal.lock().await.bytes_live();
            if live >= options.journal_bytes_max {
                self.dir.checkpoint(self.clock, Scope::All).await.map_err(|()| Offline)?;
            }
            let mut journal = self.dir.journal.lock().await;
            let result = tokio::select! {
                biased;
                result = journal.append_group(frames.clone()) => result,
                () = self.clock.sleep(options.sync_timeout) => Err(timed_out()),
            };
            let next = journal.next_position();
            let needs_checkpoint = journal.needs_checkpoint();
            drop(journal);
            if needs_checkpoint {
                self.dir.door.attention.notify_one();
            }
            match result {
                Ok(first) => return Ok(first..next),
                Err(JournalError::NoSpace) if self.dir.door.is_closing() => {
                    return Err(self.fail("writing the journal", &JournalError::NoSpace));
                }
                Err(JournalError::NoSpace) => {
                    self.dir.door.set_space_low(true);
                    self.dir.checkpoint(self.clock, Scope::All).await.map_err(|()| Offline)?;
                    self.clock.sleep(RETRY).await;
                }
                Err(error) => return Err(self.fail("writing the journal", &error)),
            }
        }
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

/// The group that holds `part` is durable.
fn announce<D: Disk>(part: &Part<D>, groups: Option<&Range<Position>>) {
    {
        let mut state = part.log.lock();
        // Nothing becomes durable once the directory has failed, whatever its journal says (I10).
        let failed = part.log.inner.door.is_offline() && !planted(Mutant::AppendAfterIoError);
        if failed || state.generation != part.written.generation {
            return;
        }
        if state.durable.offset < part.written.end.offset {
            for run in &part.written.runs {
                state.index(run);
            }
            state.durable = part.written.end;
            state.remember(part.written.end);
        }
        if let Some(groups) = groups {
            state.marks.journaled(groups);
        }
        state.check();
    }
    part.log.tell();
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
