//! The housekeeper: syncs segments lazily so that the journal can recycle, and removes what was deleted.
//!
//! A checkpoint, in this order, each step only after the one before (I11):
//! 1. note the journal's next group and, per log, what is durable and what its frames up to here are;
//! 2. append to the index files, write producer snapshots;
//! 3. sync the segments and these files (one `syncfs` for a mass), then the directories whose entries changed (M24);
//! 4. move the anchors, replace the checkpoint file, raise the stable ends;
//! 5. tell the journal which group is the oldest that replay still needs.
//!
//! A crash between any two leaves the old anchors with their frames still in the journal.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use env::{Clock, Disk, File, OpenMode, is_full};
use types::mutant::{Mutant, planted};
use types::{Instant, LogId, Offset};

use super::Inner;
use super::change::remove_if_there;
use super::commit::patience;
use super::stored::{Checkpoint, StoredLog, encode_clean};
use crate::Durability;
use crate::journal::{JournalError, Position};
use crate::layout::{CHECKPOINT_FILE, CLEAN_FILE, Kind, METADATA_FILE};
use crate::log::{Anchor, Log, Point};

/// Indexes and snapshots are saved once they lag by so many bytes; a restart walks as much.
const SAVE_BYTES: u64 = 1 << 20;
/// Producer snapshots kept per log besides those at segment bases.
const SNAPSHOTS_KEPT: usize = 2;
/// From so many syncs on, the whole file system is synced at once.
const MASS: usize = 48;
/// How often a full disk is looked at.
const SPACE_POLL: Duration = Duration::from_millis(200);
/// How often a disk is looked at that has space, but not for the ballast.
const BALLAST_POLL: Duration = Duration::from_secs(10);

/// Which logs a checkpoint makes stable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    /// All, with everything derived: before a clean stop.
    Stop,
    /// All.
    All,
    /// Those with frames before this group.
    Before(Position),
    /// Page-cache logs that have bytes to sync.
    Paged,
    /// This one.
    Log(LogId),
}

/// What a checkpoint does for one log.
struct Capture<D: Disk> {
    log: Log<D>,
    generation: u64,
    target: Point,
    /// First group whose frames of this log lie beyond `target`.
    group: Position,
    segments: Vec<(Offset, Option<D::File>)>,
    writes: Vec<Write>,
    /// What was written, open until it is synced; whether it is a snapshot.
    derived: Vec<(D::File, bool)>,
    snapshots: Vec<Offset>,
    /// Segments whose index files get cut to what is believed.
    cuts: Vec<Offset>,
    sync_dir: bool,
    sync_metadata: bool,
}

impl<D: Disk> Capture<D> {
    /// Syncs that it asks for.
    fn syncs(&self) -> usize {
        let files = self.segments.len() + self.derived.len();
        files + usize::from(self.sync_metadata) + usize::from(self.sync_dir)
    }
}

/// A piece of a derived file.
struct Write {
    path: PathBuf,
    position: u64,
    /// What the file holds from the position on is not believed and goes.
    cut: bool,
    bytes: Bytes,
    is_snapshot: bool,
}

impl Write {
    async fn to<F: File>(&self, file: &F) -> io::Result<()> {
        if self.cut {
            file.set_len(self.position).await?;
        }
        file.write_at(self.position, vec![self.bytes.clone()]).await
    }

    fn snapshot(path: PathBuf, bytes: Bytes) -> Write {
        Write { path, position: 0, cut: true, bytes, is_snapshot: true }
    }
}

/// Runs until the directory is closed or has failed.
pub(super) async fn run<D: Disk, C: Clock>(dir: &Arc<Inner<D>>, clock: &C) {
    let mut space_due = None;
    loop {
        if dir.door.is_offline() || dir.door.is_shut() {
            return;
        }
        if space_due.is_some_and(|due| due <= clock.now()) {
            space_due = None;
            dir.door.look_at_space().await;
        }
        if dir.keep_house(clock).await.is_err() {
            return;
        }
        let attention = dir.door.attention.notified();
        if !dir.door.has_space() {
            let due = clock.now() + SPACE_POLL;
            space_due = Some(space_due.map_or(due, |other: Instant| other.min(due)));
        } else if dir.door.lacks_ballast().await {
            space_due.get_or_insert(clock.now() + BALLAST_POLL);
        }
        match dir.next_chore().into_iter().chain(space_due).min() {
            Some(due) => tokio::select! {
                biased;
                () = attention => {}
                () = clock.sleep_until(due) => {}
            },
            None => attention.await,
        }
    }
}

impl<D: Disk> Inner<D> {
    /// When the housekeeper must look again.
    fn next_chore(&self) -> Option<Instant> {
        let registry = self.registry();
        let garbage = registry.garbage.iter().map(|garbage| garbage.due).min();
        let logs: Vec<Log<D>> = registry.logs.values().cloned().collect();
        drop(registry);
        let flush = logs.iter().filter_map(|log| log.lock().flush_due).min();
        garbage.into_iter().chain(flush).min()
    }

    async fn keep_house<C: Clock>(&self, clock: &C) -> Result<(), ()> {
        let target = {
            let journal = self.journal.lock().await;
            journal.needs_checkpoint().then(|| journal.checkpoint_target())
        };
        if let Some(target) = target {
            self.checkpoint(clock, Scope::Before(target)).await?;
        }
        if self.paged_flush_due(clock.now()) {
            self.door.paged_bytes.store(0, Ordering::Relaxed);
            self.checkpoint(clock, Scope::Paged).await?;
        }
        self.take_out_garbage(clock.now()).await;
        Ok(())
    }

    /// Whether page-cache logs want a sync: by bytes, by records (`flush.messages`) or by time (`flush.ms`).
    fn paged_flush_due(&self, now: Instant) -> bool {
        let mut due =
            self.door.paged_bytes.load(Ordering::Relaxed) >= self.door.options.paged_bytes_max;
        let logs: Vec<Log<D>> = self.registry().logs.values().cloned().collect();
        for log in logs {
            let mut state = log.lock();
            if state.sync || state.unsynced_records == 0 {
                continue;
            }
            due |= state.config.flush_messages.is_some_and(|n| state.unsynced_records >= n);
            if let Some(after) = state.config.flush_ms {
                let at = *state.flush_due.get_or_insert(now + after);
                due |= at <= now;
            }
        }
        due
    }

    /// Removes deleted files whose time has come; on a full disk all of them (who still reads one has it open). What
    /// cannot be removed is left to the next start.
    async fn take_out_garbage(&self, now: Instant) {
        let is_full = !self.door.has_space();
        let due: Vec<_> = {
            let mut registry = self.registry();
            let (due, later) = std::mem::take(&mut registry.garbage)
                .into_iter()
                .partition(|garbage| is_full || garbage.due <= now);
            registry.garbage = later;
            due
        };
        if due.is_empty() {
            return;
        }
        for garbage in due {
            for path in garbage.paths {
                let removed = match garbage.is_dir {
                    true => self.door.disk.remove_dir_all(&path).await,
                    false => self.door.disk.remove_file(&path).await,
                };
                if let Err(error) = removed
                    && error.kind() != io::ErrorKind::NotFound
                {
                    tracing::warn!(path = %path.display(), %error, "a deleted file stays");
                }
            }
        }
        if is_full {
            self.door.look_at_space().await;
        }
    }

    /// Makes logs stable and lets the journal recycle; `false` when there was no space to record it. An error is final:
    /// the directory is offline (I10).
    pub(super) async fn checkpoint<C: Clock>(&self, clock: &C, scope: Scope) -> Result<bool, ()> {
        let _one = self.checkpointing.lock().await;
        let deadline = self.door.options.sync_timeout;
        let result = tokio::select! {
            biased;
            result = self.checkpoint_inner(scope) => result,
            // Every step of it is one sync or less; all of them together get as much as one may take.
            () = patience(clock, deadline.saturating_mul(4)) => Err(io::ErrorKind::TimedOut.into()),
        };
        result.map_err(|error| self.door.fail("checkpointing", &error))
    }

    async fn checkpoint_inner(&self, scope: Scope) -> io::Result<bool> {
        let next = self.journal.lock().await.next_position();
        let next = match *self.uncounted() {
            Some(uncounted) if !planted(Mutant::UncountedGroupFreed) => next.min(uncounted),
            _ => next,
        };
        let logs: Vec<Log<D>> = self.registry().logs.values().cloned().collect();
        let mut captures: Vec<Capture<D>> =
            logs.iter().filter_map(|log| capture(log, scope)).collect();
        for capture in &mut captures {
            self.write_derived(capture).await?;
        }
        self.sync(&captures).await?;
        captures.retain(|capture| self.anchor(capture));
        match self.store_checkpoint().await {
            // The old one stays good, with the journal that it needs (E11).
            Err(error) if is_full(&error) => {
                self.door.set_space_low(true);
                return Ok(false);
            }
            other => other?,
        }
        for capture in &captures {
            self.raise(capture).await?;
        }
        let logs: Vec<Log<D>> = self.registry().logs.values().cloned().collect();
        let needed = logs.iter().filter_map(|log| log.lock().marks.needed()).min();
        let oldest = needed.map_or(next, |needed| needed.min(next));
        match self.journal.lock().await.checkpoint(oldest).await {
            Ok(()) | Err(JournalError::NoSpace) => Ok(true),
            Err(JournalError::Io { doing, error }) => {
                Err(io::Error::new(error.kind(), format!("{doing} the journal: {error}")))
            }
            Err(error) => Err(io::Error::other(error.to_string())),
        }
    }

    /// Writes index blocks and snapshots. Without space for them the log goes on without: they can be rebuilt.
    async fn write_derived(&self, capture: &mut Capture<D>) -> io::Result<()> {
        for write in std::mem::take(&mut capture.writes) {
            let file = match self.door.disk.open(&write.path, OpenMode::Create).await {
                // Deleted meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => Err(error),
                Ok(file) => write.to(&file).await.map(|()| file),
            };
            match file {
                Ok(file) => capture.derived.push((file, write.is_snapshot)),
                Err(error) if is_full(&error) => {
                    self.door.set_space_low(true);
                    let mut state = capture.log.lock();
                    capture.snapshots.clear();
                    for segment in &mut state.segments {
                        if let Some(index) = segment.index.as_mut() {
                            index.forget_saved();
                            segment.index_checked = false;
                        }
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        let mut state = capture.log.lock();
        if state.generation == capture.generation {
            for base in std::mem::take(&mut capture.cuts) {
                if let Some(segment) = state.segment(base) {
                    segment.index_checked = true;
                }
            }
        }
        Ok(())
    }

    async fn sync(&self, captures: &[Capture<D>]) -> io::Result<()> {
        let disk = &self.door.disk;
        let root = std::mem::take(&mut self.registry().entries_changed);
        // After a start every log wants its card and its directory synced.
        if captures.iter().map(Capture::syncs).sum::<usize>() >= MASS {
            return disk.sync_all(&self.door.path).await;
        }
        for capture in captures {
            let path = &capture.log.inner.path;
            let gone = || capture.log.is_deleted();
            for (base, file) in &capture.segments {
                match file {
                    Some(file) => file.sync_data().await?,
                    None => sync_path(disk, &Kind::Log.path(path, *base), gone).await?,
                }
            }
            for (file, is_snapshot) in &capture.derived {
                if !(*is_snapshot && planted(Mutant::SnapshotNotForced)) {
                    file.sync_data().await?;
                }
            }
            if capture.sync_metadata {
                sync_path(disk, &path.join(METADATA_FILE), gone).await?;
            }
            if capture.sync_dir && !planted(Mutant::DirectoryNotSynced) {
                tolerate(disk.sync_dir(path).await, gone)?;
            }
        }
        if root && !planted(Mutant::DirectoryNotSynced) {
            disk.sync_dir(&self.door.path).await?;
        }
        Ok(())
    }

    /// Everything of the capture is synced: moves the anchor that the checkpoint file will tell, unless the log was cut
    /// meanwhile; whether it did.
    fn anchor(&self, capture: &Capture<D>) -> bool {
        let mut state = capture.log.lock();
        let syncing = state.marks.syncing.take();
        if self.door.is_offline() || state.generation != capture.generation {
            state.marks.oldest = match (syncing, state.marks.oldest) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            return false;
        }
        state.anchor = Anchor { point: capture.target, group: capture.group };
        true
    }

    /// The anchor is stored: raises the stable end, and the durable end of a page-cache log. Not before, since recovery
    /// writes what lies beyond the stored anchor of such a log again, and a power cut may then tear it.
    async fn raise(&self, capture: &Capture<D>) -> io::Result<()> {
        let old = {
            let mut state = capture.log.lock();
            if self.door.is_offline() || state.generation != capture.generation {
                return Ok(());
            }
            if state.stable.offset < capture.target.offset {
                state.stable = capture.target; // I11
            }
            if !state.sync && state.durable.offset < capture.target.offset {
                state.durable = capture.target;
            }
            state.settle();
            state.forget_indexes(Offset(-1));
            state.snapshots.extend(&capture.snapshots);
            let mut old = Vec::new();
            while state.snapshots.len() > SNAPSHOTS_KEPT {
                old.extend(state.snapshots.pop_front());
            }
            let bases: Vec<Offset> = state.segments.iter().map(|s| s.base).collect();
            old.retain(|snapshot| bases.binary_search(snapshot).is_err());
            state.check();
            old
        };
        capture.log.tell();
        for snapshot in old {
            let path = Kind::Snapshot.path(&capture.log.inner.path, snapshot);
            remove_if_there(&self.door.disk, &path).await?;
        }
        Ok(())
    }

    async fn store_checkpoint(&self) -> io::Result<()> {
        let (logs, next_log) = {
            let registry = self.registry();
            (registry.logs.values().cloned().collect::<Vec<_>>(), registry.next_log)
        };
        let logs = logs.iter().map(stored).collect();
        let checkpoint = Checkpoint { directory: self.id, next_log, logs };
        let (path, content) = (self.door.path.join(CHECKPOINT_FILE), checkpoint.encode());
        loop {
            match self.door.disk.replace(&path, content.clone()).await {
                // Without checkpoints the journal cannot recycle, and nothing goes on.
                Err(error) if self.door.makes_room(&error).await => {}
                result => return result,
            }
        }
    }

    /// The clean stop: everything stable, nothing to replay, and the marker that says so (E6).
    pub(super) async fn stop<C: Clock>(&self, clock: &C) -> Result<(), ()> {
        let logs: Vec<Log<D>> = self.registry().logs.values().cloned().collect();
        for log in logs {
            if log.write_out().await.is_err() && self.door.is_offline() {
                return Err(());
            }
        }
        if !self.checkpoint(clock, Scope::Stop).await? {
            // A marker promises a checkpoint beside it.
            return Ok(());
        }
        let next = {
            let mut journal = self.journal.lock().await;
            match journal.mark().await {
                Ok(()) | Err(JournalError::NoSpace) => {}
                Err(error) => {
                    self.door.fail("marking the journal", &io::Error::other(error.to_string()));
                    return Err(());
                }
            }
            journal.next_position()
        };
        let marker = encode_clean(self.id, next);
        let path = self.door.path.join(CLEAN_FILE);
        loop {
            return match self.door.disk.replace(&path, marker.clone()).await {
                Ok(()) => Ok(()),
                Err(error) if self.door.makes_room(&error).await => continue,
                // The next start replays the journal instead.
                Err(error) if is_full(&error) => Ok(()),
                Err(error) => {
                    self.door.fail("writing the clean-stop marker", &error);
                    Err(())
                }
            };
        }
    }
}

fn stored<D: Disk>(log: &Log<D>) -> StoredLog {
    let state = log.lock();
    let below = state.anchor.point.offset;
    StoredLog {
        id: log.inner.id,
        topic_id: log.inner.topic_id,
        partition: log.inner.partition.clone(),
        durability: if state.sync { Durability::Sync } else { Durability::PageCache },
        log_start: state.log_start,
        anchor: state.anchor,
        epochs: state.epochs.entries().iter().copied().filter(|e| e.start < below).collect(),
        damages: state.damages.iter().filter(|d| !d.is_unreadable).copied().collect(),
    }
}

/// Notes what a checkpoint of `log` will make stable; `None` if there is nothing to do for it.
fn capture<D: Disk>(log: &Log<D>, scope: Scope) -> Option<Capture<D>> {
    let mut guard = log.lock();
    let state = &mut *guard;
    let unsynced = state.segments.iter().any(|segment| segment.unsynced);
    // Also what was synced by a checkpoint that had no space to record it.
    let paged = !state.sync && (unsynced || state.stable.offset < state.written.offset);
    let changed = state.entries_changed || state.metadata_unsynced;
    let wanted = !state.deleted
        && match scope {
            Scope::Stop => true,
            Scope::All => unsynced || paged || changed || state.marks.needed().is_some(),
            Scope::Before(group) => {
                state.marks.needed().is_some_and(|needed| needed < group) || paged
            }
            Scope::Paged => paged,
            Scope::Log(id) => log.inner.id == id,
        };
    // A truncation that is being journaled has memory ahead of the files.
    if !wanted || state.segments.iter().next_back().is_some_and(|active| active.index.is_none()) {
        return None;
    }
    state.marks.syncing = state.marks.needed();
    state.marks.oldest = None;
    state.unsynced_records = 0;
    state.flush_due = None;
    let target = if state.sync { state.durable } else { state.written };
    let stop = scope == Scope::Stop;
    let active = state.segments.back().map(|segment| segment.base);
    let mut capture = Capture {
        log: log.clone(),
        generation: state.generation,
        target,
        group: state.marks.next,
        segments: Vec::new(),
        writes: Vec::new(),
        derived: Vec::new(),
        snapshots: Vec::new(),
        cuts: Vec::new(),
        sync_dir: std::mem::take(&mut state.entries_changed),
        sync_metadata: std::mem::take(&mut state.metadata_unsynced),
    };
    let path = &log.inner.path;
    for segment in &mut state.segments {
        if std::mem::take(&mut segment.unsynced) {
            capture.segments.push((segment.base, segment.file.clone()));
        }
        if segment.base > target.offset {
            continue;
        }
        if let Some(snapshot) = segment.snapshot.take() {
            capture.writes.push(Write::snapshot(Kind::Snapshot.path(path, segment.base), snapshot));
        }
        let sealed = Some(segment.base) != active;
        let Some(index) = segment.index.as_mut() else { continue };
        let due = match index.unsaved() {
            0 => !segment.index_checked,
            bytes => sealed || stop || !segment.index_checked || bytes >= SAVE_BYTES,
        };
        if due {
            let cut = !segment.index_checked;
            capture.cuts.extend(cut.then_some(segment.base));
            let blocks = index.unsaved_blocks(segment.ages);
            for (kind, (position, bytes)) in
                [(Kind::Index, blocks.offset_file), (Kind::TimeIndex, blocks.time_file)]
            {
                let path = kind.path(path, segment.base);
                capture.writes.push(Write { path, position, cut, bytes, is_snapshot: false });
            }
            capture.sync_dir |= cut;
        }
    }
    // As of the log's end, which is durable soon: recovery believes it once the stable end has passed it.
    if state.snapshot_bytes >= SAVE_BYTES || (stop && state.snapshot_bytes > 0) {
        state.snapshot_bytes = 0;
        let snapshot = state.producers.snapshot(state.log_end);
        capture.writes.push(Write::snapshot(Kind::Snapshot.path(path, state.log_end), snapshot));
        capture.snapshots.push(state.log_end);
    }
    // New files need their entries.
    capture.sync_dir |= !capture.writes.is_empty();
    Some(capture)
}

async fn sync_path<D: Disk>(
    disk: &D,
    path: &std::path::Path,
    gone: impl Fn() -> bool,
) -> io::Result<()> {
    let synced = match disk.open(path, OpenMode::Write).await {
        Ok(file) => file.sync_data().await,
        Err(error) => Err(error),
    };
    tolerate(synced, gone)
}

/// A log that was deleted or cut while it was being synced has lost files on purpose.
fn tolerate(result: io::Result<()>, gone: impl Fn() -> bool) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound && gone() => Ok(()),
        other => other,
    }
}
