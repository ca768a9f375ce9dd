//! Writing queued bytes to segment files: page cache only. Syncing is the committer's and the checkpointer's business.

use std::io;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use env::{Disk, File, OpenMode, is_full};
use record::BatchHeader;
use types::Offset;

use super::{Log, Point, State};
use crate::ChangeError;
use crate::layout::Kind;

/// Why queued bytes were not written; they stay queued.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// The file system is full: try again later (E11).
    NoSpace,
    /// The directory is or goes offline (I10).
    Failed,
}

/// Bytes written to one segment, contiguous.
pub(crate) struct Run {
    pub segment: Offset,
    pub position: u64,
    pub pieces: Vec<Bytes>,
    pub headers: Vec<BatchHeader>,
}

/// What one round takes from a log's queue.
pub(crate) struct Round {
    pub runs: Vec<Run>,
    pub end: Point,
    pub generation: u64,
    /// Batches.
    count: usize,
    pub bytes: usize,
}

impl<D: Disk> Log<D> {
    /// Writes queued bytes of a page-cache log inline, one writer at a time; nothing to do for a `sync` log, whose bytes
    /// the committer writes. After `NoSpace` the bytes stay queued and are written when there is space (E11).
    pub async fn write_out(&self) -> Result<(), ChangeError> {
        let target = {
            let state = self.lock();
            if state.sync || state.queue.is_empty() {
                return Ok(());
            }
            state.log_end
        };
        // Whoever waits here may leave (its client is gone): the committer writes then, or nobody would until the next append.
        let mut halfway = Halfway { log: self, is_left: true };
        let written = self.write_up_to(target).await;
        halfway.is_left = false;
        written
    }

    async fn write_up_to(&self, target: Offset) -> Result<(), ChangeError> {
        let _writer = self.inner.writer.lock().await;
        loop {
            {
                let state = self.lock();
                // Another writer has done it, or the log was truncated or deleted meanwhile.
                if state.sync || state.written.offset >= target || state.queue.is_empty() {
                    return Ok(());
                }
            }
            let round = self.lock().next_round(self.inner.door.options.group_bytes_max);
            match self.write(&round).await {
                Ok(()) => self.publish_paged(round).await,
                Err(WriteError::NoSpace) => {
                    self.relist();
                    return Err(ChangeError::NoSpace);
                }
                Err(WriteError::Failed) => return Err(ChangeError::Offline),
            }
        }
    }

    /// Puts the log into the committer's list, for bytes that could not be written now.
    pub(crate) fn relist(&self) {
        let list = !std::mem::replace(&mut self.lock().dirty, true);
        if list {
            self.inner.door.dirty(self.clone());
        }
    }

    /// Makes bytes of a page-cache log readable.
    pub(crate) async fn publish_paged(&self, round: Round) {
        let door = &self.inner.door;
        let bytes = round.bytes;
        let flush = {
            let mut state = self.lock();
            if door.is_offline() {
                return; // I10
            }
            for run in &round.runs {
                state.index(run);
            }
            state.unsynced_records += round.end.offset.since(state.written.offset) as u64;
            state.written = round.end;
            state.remember(round.end);
            let flush = state.config.flush_messages.is_some_and(|n| state.unsynced_records >= n)
                || (state.config.flush_ms.is_some() && state.flush_due.is_none());
            state.check();
            flush
        };
        self.tell();
        let paged = door.paged_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if flush || paged >= door.options.paged_bytes_max {
            door.attention.notify_one();
        }
        if door.should_look_at_space(bytes) {
            door.look_at_space().await;
        }
    }

    /// Writes what was taken to the page cache and takes it from the queue. For a `sync` log the end of what is written
    /// moves here; for a page-cache log in [`Log::publish_paged`].
    pub(crate) async fn write(&self, round: &Round) -> Result<(), WriteError> {
        let door = &self.inner.door;
        if door.is_offline() {
            return Err(WriteError::Failed); // I10
        }
        for run in &round.runs {
            let result = loop {
                let result = match self.segment_file(run.segment).await {
                    Ok(file) => file.write_at(run.position, run.pieces.clone()).await,
                    Err(error) => Err(error),
                };
                match result {
                    Err(error) if self.lock().is_vital && door.makes_room(&error).await => {}
                    result => break result,
                }
            };
            match result {
                Ok(()) => {}
                Err(error) if is_full(&error) => {
                    door.set_space_low(true);
                    return Err(WriteError::NoSpace);
                }
                Err(error) => {
                    let doing =
                        format!("writing segment {} of {}", run.segment, self.inner.partition);
                    door.fail(&doing, &error);
                    return Err(WriteError::Failed); // I10
                }
            }
        }
        let mut state = self.lock();
        for run in &round.runs {
            if let Some(segment) = state.segment(run.segment) {
                segment.unsynced = true;
            }
        }
        state.queue.drain(..round.count);
        state.queued_bytes -= round.bytes;
        if state.sync {
            state.written = round.end;
        }
        drop(state);
        door.unqueued(round.bytes);
        Ok(())
    }

    /// The open file of a segment; a new one is created.
    pub(crate) async fn segment_file(&self, base: Offset) -> io::Result<D::File> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the segment is gone");
        let path = Kind::Log.path(&self.inner.path, base);
        loop {
            let (mode, generation) = {
                let mut state = self.lock();
                let generation = state.generation;
                let segment = state.segment(base).ok_or_else(gone)?;
                if let Some(file) = &segment.file {
                    return Ok(file.clone());
                }
                // A segment that has gone meanwhile must not come back, least of all in a successor's directory.
                (if segment.is_new { OpenMode::Create } else { OpenMode::Write }, generation)
            };
            let file = self.inner.door.disk.open(&path, mode).await?;
            let mut state = self.lock();
            // It went while it was opened, and the next segment that begins here has another file.
            if state.generation != generation {
                continue;
            }
            // Two readers may have opened it; the handle that is kept is the one that will be synced.
            let segment = state.segment(base).ok_or_else(gone)?;
            let created = std::mem::take(&mut segment.is_new);
            let file = segment.file.get_or_insert(file).clone();
            state.entries_changed |= created;
            return Ok(file);
        }
    }
}

/// A writer that may leave before its end.
struct Halfway<'a, D: Disk> {
    log: &'a Log<D>,
    is_left: bool,
}

impl<D: Disk> Drop for Halfway<'_, D> {
    fn drop(&mut self) {
        if self.is_left {
            self.log.relist();
        }
    }
}

impl<F> State<F> {
    /// The first queued batches, up to `budget` bytes but at least one.
    pub(crate) fn next_round(&self, budget: usize) -> Round {
        let mut runs: Vec<Run> = Vec::new();
        let mut end = self.written;
        let (mut count, mut bytes) = (0, 0);
        for queued in &self.queue {
            let len = queued.head.len() + queued.rest.len();
            if count > 0 && bytes + len > budget {
                break;
            }
            if runs.last().is_none_or(|run| run.segment != queued.segment) {
                runs.push(Run {
                    segment: queued.segment,
                    position: queued.position,
                    pieces: Vec::new(),
                    headers: Vec::new(),
                });
            }
            let run = runs.last_mut().expect("just pushed");
            run.pieces.push(queued.head.clone());
            if !queued.rest.is_empty() {
                run.pieces.push(queued.rest.clone());
            }
            run.headers.push(queued.header);
            count += 1;
            bytes += len;
            end = Point {
                offset: queued.header.end_offset(),
                segment: queued.segment,
                position: queued.position + len as u64,
            };
        }
        Round { runs, end, generation: self.generation, count, bytes }
    }

    /// Indexes now describe the run as well.
    pub(crate) fn index(&mut self, run: &Run) {
        let Some(segment) = self.segment(run.segment) else { return };
        let Some(index) = segment.index.as_mut() else { return };
        assert!(index.covered() == run.position, "I5: an index grows without a gap");
        for header in &run.headers {
            index.add(header);
        }
    }
}
