//! Changes of logs: create, delete, truncate, reset, log start, retention, configuration, flush. The committer executes them one
//! after the other (creations that wait together share a group), each in this order: decide, make it durable in the
//! journal, do it to the files, answer. After a crash replay does the files' part again.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use env::{Clock, Disk, File, OpenMode, is_full};
use record::Batch;
use types::mutant::{Mutant, planted};
use types::{LeaderEpoch, LogId, Offset};

use super::checkpoint::Scope;
use super::commit::{Committer, Offline, RETRY};
use super::stored::Metadata;
use super::{Garbage, Inner};
use crate::door::{Command, Reply};
use crate::journal::{Frame, FrameKind};
use crate::layout::{self, Kind, METADATA_FILE};
use crate::log::{Anchor, Expired, Log, Marks, Point, State};
use crate::{ChangeError, Durability, LogConfig, LogSpec, Retained};

/// Flag of a CREATE frame: the log is a page-cache log.
pub(super) const CREATE_PAGE_CACHE: u16 = 1;

/// Answers; a receiver that went away does not want to know.
fn answer<T>(reply: Reply<T>, result: Result<T, ChangeError>) {
    drop(reply.send(result));
}

impl<D: Disk, C: Clock> Committer<'_, D, C> {
    /// Executes commands in order.
    pub(super) async fn change(
        &mut self,
        mut commands: VecDeque<Command<D>>,
    ) -> Result<(), Offline> {
        while let Some(command) = commands.pop_front() {
            match command {
                Command::Create { spec, reply } => {
                    let mut creations = vec![(spec, reply)];
                    while let Some(Command::Create { .. }) = commands.front() {
                        if let Some(Command::Create { spec, reply }) = commands.pop_front() {
                            creations.push((spec, reply));
                        }
                    }
                    self.create(creations).await?;
                }
                Command::Delete { log, reply } => {
                    let result = self.delete(&log).await?;
                    answer(reply, result);
                }
                Command::Truncate { log, offset, reply } => {
                    let result = self.truncate(&log, offset).await?;
                    answer(reply, result);
                }
                Command::Reset { log, offset, reply } => {
                    let result = self.reset(&log, offset).await?;
                    answer(reply, result);
                }
                Command::Heal { log, start, batches, reply } => {
                    let result = self.heal(&log, start, batches).await?;
                    answer(reply, result);
                }
                Command::LogStart { log, offset, reply } => {
                    let result = self.log_start(&log, offset).await?;
                    answer(reply, result.map(|retained| retained.log_start));
                }
                Command::Retain { log, expired, reply } => {
                    let result = self.retain(&log, expired).await?;
                    answer(reply, result);
                }
                Command::Config { log, config, reply } => {
                    let result = self.configure(&log, config).await?;
                    answer(reply, result);
                }
                Command::Flush { log, reply } => {
                    let (sync, target) = {
                        let state = log.lock();
                        (state.sync, state.log_end)
                    };
                    if sync {
                        self.flushes.push((log, target, reply));
                    } else {
                        let result = self.flush_paged(&log).await?;
                        answer(reply, result.map(|()| log.ends()));
                    }
                }
                Command::Close { reply } => self.closing = Some(reply),
            }
        }
        Ok(())
    }

    async fn create(&mut self, creations: Vec<(LogSpec, Reply<Log<D>>)>) -> Result<(), Offline> {
        let mut fresh: Vec<(LogId, LogSpec, Reply<Log<D>>)> = Vec::new();
        let mut again = Vec::new();
        for (spec, reply) in creations {
            let partition = spec.topic_partition();
            if fresh.iter().any(|(_, other, _)| other.topic_partition() == partition) {
                again.push((spec, reply));
                continue;
            }
            let existing = self.dir.registry().logs.get(&partition).cloned();
            match existing {
                Some(log) if log.topic_id() == spec.topic_id => {
                    let result = self.configure(&log, spec.config).await?;
                    answer(reply, result.map(|()| log));
                }
                Some(_) => answer(reply, Err(ChangeError::Occupied(partition))), // I44
                None => {
                    let id = self.dir.new_log_id();
                    let made = loop {
                        match self.dir.make_log_dir(id, &spec).await {
                            Err(error) if self.dir.door.makes_room(&error).await => {}
                            made => break made,
                        }
                    };
                    match made {
                        Ok(()) => fresh.push((id, spec, reply)),
                        Err(error) if is_full(&error) => {
                            answer(reply, Err(ChangeError::NoSpace));
                        }
                        Err(error) => {
                            return Err(self.fail_io(format!("creating {partition}"), &error));
                        }
                    }
                }
            }
        }
        if !fresh.is_empty() {
            let frames = fresh.iter().map(|(id, spec, _)| create_frame(*id, spec)).collect();
            let groups = self.journal(frames).await?;
            for (id, spec, reply) in fresh {
                let mut state = State::new(spec.config.clone().into());
                state.entries_changed = true;
                state.metadata_unsynced = true;
                state.marks.journaled(&groups);
                state.anchor.group = groups.start;
                let partition = spec.topic_partition();
                let log =
                    Log::new(id, partition.clone(), spec.topic_id, self.dir.door.clone(), state);
                let mut registry = self.dir.registry();
                registry.logs.insert(partition, log.clone());
                // Again: a checkpoint may have looked between the number and the directory.
                registry.entries_changed = true;
                drop(registry);
                answer(reply, Ok(log));
            }
        }
        if again.is_empty() { Ok(()) } else { Box::pin(self.create(again)).await }
    }

    async fn delete(&mut self, log: &Log<D>) -> Result<Result<(), ChangeError>, Offline> {
        let _writer = log.inner.writer.lock().await;
        {
            let mut state = log.lock();
            if state.deleted {
                return Ok(Err(ChangeError::Deleted));
            }
            state.blocked = true;
        }
        let frame = Frame {
            log: log.inner.id,
            segment_base: Offset::ZERO,
            position: 0,
            kind: FrameKind::Delete,
        };
        if !planted(Mutant::DeleteNotJournaled) {
            self.journal(vec![frame]).await?;
        }
        // No await from the sync to here: a checkpoint that frees this group finds no log any more. Else it would store
        // the log as alive, and the deletion would be forgotten once its group is free.
        let bytes = {
            let mut state = log.lock();
            state.deleted = true;
            state.generation += 1;
            state.queue.clear();
            let bytes = std::mem::take(&mut state.queued_bytes);
            // The handles of readers stay good.
            state.segments.clear();
            bytes
        };
        self.dir.door.unqueued(bytes);
        self.dir.registry().logs.remove(&log.inner.partition);
        // A checkpoint that noted the log ends first: it must not write into a successor's directory.
        let checkpointing = self.dir.checkpointing.lock().await;
        let parent = &self.dir.door.path;
        let target = layout::deleted_dir(&log.inner.path, log.inner.id);
        let disk = &self.dir.door.disk;
        let renamed = match self.rename(&log.inner.path, &target).await {
            // A successor of the same name must never find this directory again.
            Ok(()) if planted(Mutant::DirectoryNotSynced) => Ok(()),
            Ok(()) => disk.sync_dir(parent).await,
            Err(error) => Err(error),
        };
        if let Err(error) = renamed {
            return Err(self.fail_io(format!("deleting {}", log.inner.partition), &error));
        }
        drop(checkpointing);
        let due = self.clock.now() + log.config().delete_delay;
        self.dir.throw_away(Garbage { due, paths: vec![target], is_dir: true });
        log.tell();
        // It may hold its owner.
        log.lock().listener = None;
        Ok(Ok(()))
    }

    /// Raises the log start and drops segments that lie below it.
    async fn log_start(
        &mut self,
        log: &Log<D>,
        offset: Offset,
    ) -> Result<Result<Retained, ChangeError>, Offline> {
        let segment = {
            let state = log.lock();
            if state.deleted {
                return Ok(Err(ChangeError::Deleted));
            }
            if offset > state.log_end {
                let log_end = state.log_end;
                return Ok(Err(ChangeError::OffsetOutOfRange { offset, log_end })); // I81
            }
            if offset <= state.log_start {
                let log_start = state.log_start;
                return Ok(Ok(Retained { segments: 0, bytes: 0, log_start }));
            }
            state.segment_of(offset).map_or(Offset::ZERO, |at| state.segments[at].base)
        };
        // A producer whose batches all go is known by the snapshot at the first segment that stays (I51). Without space
        // for it the producer is forgotten (P6): what is deleted makes space.
        if log.lock().unsaved_below(offset) {
            self.checkpoint(Scope::Log(log.inner.id)).await?;
        }
        let frame = Frame {
            log: log.inner.id,
            segment_base: segment,
            position: 0,
            kind: FrameKind::LogStart { offset },
        };
        let groups = self.journal(vec![frame]).await?;
        let (gone, delay) = {
            let mut state = log.lock();
            state.log_start = offset; // I11, I81: only ever raised
            state.epochs.truncate_start(offset);
            state.marks.journaled(&groups);
            let gone = state.drop_below_start();
            state.check();
            (gone, state.config.delete_delay)
        };
        let kinds = [Kind::Log, Kind::Index, Kind::TimeIndex, Kind::Snapshot];
        let paths =
            gone.iter().flat_map(|(base, _)| kinds.map(|kind| kind.path(&log.inner.path, *base)));
        self.set_aside(paths, delay).await?;
        log.tell();
        let bytes = gone.iter().map(|(_, bytes)| bytes).sum();
        Ok(Ok(Retained { segments: gone.len(), bytes, log_start: offset }))
    }

    /// Renames those of `paths` that are there, so that nobody takes them for part of the log; they are removed after `delay`.
    async fn set_aside(
        &self,
        paths: impl Iterator<Item = PathBuf>,
        delay: Duration,
    ) -> Result<(), Offline> {
        let mut aside = Vec::new();
        for path in paths {
            let target = layout::aside(&path);
            match self.rename(&path, &target).await {
                Ok(()) => aside.push(target),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(self.fail_io(format!("removing {}", path.display()), &error));
                }
            }
        }
        if !aside.is_empty() {
            let due = self.clock.now() + delay;
            self.dir.throw_away(Garbage { due, paths: aside, is_dir: false });
        }
        Ok(())
    }

    /// Renames what is to be removed: it makes space, so it may spend the ballast on a longer name.
    async fn rename(&self, from: &std::path::Path, to: &std::path::Path) -> io::Result<()> {
        loop {
            match self.dir.door.disk.rename(from, to).await {
                Err(error) if self.dir.door.makes_room(&error).await => {}
                renamed => return renamed,
            }
        }
    }

    async fn retain(
        &mut self,
        log: &Log<D>,
        Expired { start, roll, generation }: Expired,
    ) -> Result<Result<Retained, ChangeError>, Offline> {
        let start = {
            let mut state = log.lock();
            // The log was cut or begun anew: what was judged is not what is there.
            if state.generation != generation {
                let log_start = state.log_start;
                return Ok(Ok(Retained { segments: 0, bytes: 0, log_start }));
            }
            let active = state.segments.back().map(|active| (active.base, active.size));
            match active {
                Some((_, size)) if roll && size > 0 && start == state.log_end => {
                    state.roll();
                    state.settle();
                    start
                }
                // It was appended to since it was judged: it is not expired any more.
                Some((base, _)) => start.min(base),
                None => start,
            }
        };
        self.log_start(log, start).await
    }

    async fn configure(
        &mut self,
        log: &Log<D>,
        config: LogConfig,
    ) -> Result<Result<(), ChangeError>, Offline> {
        let durability = config.durability_effective();
        {
            let mut state = log.lock();
            if state.deleted {
                return Ok(Err(ChangeError::Deleted));
            }
            if state.sync == (durability == Durability::Sync) {
                state.config = config.into();
                return Ok(Ok(()));
            }
        }
        tracing::debug!(partition = %log.inner.partition, ?durability, ends = ?log.ends(), "durability changes");
        match durability {
            // What is queued gets its sync; the anchor moves behind every frame of this log, so that no cut is redone
            // over bytes that the journal does not know; then the card is changed, so that recovery looks for more than
            // the journal knows; then appends stop waiting.
            Durability::PageCache => {
                log.lock().blocked = true;
                if !self.drain(log).await? {
                    log.lock().blocked = false;
                    return Ok(Err(ChangeError::NoSpace));
                }
                let _writer = log.inner.writer.lock().await;
                if !self.checkpoint(Scope::All).await? {
                    log.lock().blocked = false;
                    return Ok(Err(ChangeError::NoSpace));
                }
                self.store_metadata(log, durability).await?;
                let mut state = log.lock();
                state.config = config.into();
                state.sync = false;
                state.blocked = false;
            }
            // Everything written is synced and recorded as stable first: recovery cuts a sync log where the checkpoint
            // and the journal end.
            Durability::Sync => {
                log.lock().blocked = true;
                if !self.drain(log).await? {
                    log.lock().blocked = false;
                    return Ok(Err(ChangeError::NoSpace));
                }
                let writer = log.inner.writer.lock().await;
                if !self.checkpoint(Scope::All).await? {
                    log.lock().blocked = false;
                    return Ok(Err(ChangeError::NoSpace));
                }
                self.store_metadata(log, durability).await?;
                let mut state = log.lock();
                assert!(state.stable == state.written, "everything was written and synced");
                state.config = config.into();
                state.sync = true;
                state.blocked = false;
                state.durable = state.written;
                drop(state);
                drop(writer);
                log.tell();
            }
        }
        Ok(Ok(()))
    }

    /// Writes (and for a `sync` log, syncs) all that is queued; `false` if there is no space for it.
    async fn drain(&mut self, log: &Log<D>) -> Result<bool, Offline> {
        if !log.lock().sync {
            return match log.write_out().await {
                Ok(()) => Ok(true),
                Err(ChangeError::Offline) => Err(Offline),
                Err(_) => Ok(false),
            };
        }
        while !log.lock().queue.is_empty() {
            let stalled = self.stalled.len();
            self.group(vec![log.clone()]).await?;
            if self.stalled.len() > stalled {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn store_metadata(&self, log: &Log<D>, durability: Durability) -> Result<(), Offline> {
        let card = Metadata {
            directory: self.dir.id,
            log: log.inner.id,
            topic_id: log.inner.topic_id,
            durability,
        };
        let path = log.inner.path.join(METADATA_FILE);
        loop {
            return match self.dir.door.disk.replace(&path, card.encode()).await {
                Ok(()) => Ok(()),
                Err(error) if self.dir.door.makes_room(&error).await => continue,
                Err(error) => Err(self.fail_io(format!("writing {}", path.display()), &error)),
            };
        }
    }

    async fn flush_paged(&mut self, log: &Log<D>) -> Result<Result<(), ChangeError>, Offline> {
        match log.write_out().await {
            Ok(()) => {}
            Err(ChangeError::Offline) => return Err(Offline),
            Err(error) => return Ok(Err(error)),
        }
        match self.checkpoint(Scope::Log(log.inner.id)).await? {
            true => Ok(Ok(())),
            false => Ok(Err(ChangeError::NoSpace)),
        }
    }

    /// A checkpoint; `false` when there was no space to record it.
    async fn checkpoint(&self, scope: Scope) -> Result<bool, Offline> {
        self.dir.checkpoint(self.clock, scope).await.map_err(|()| Offline)
    }

    /// Cuts the log: the journal first (I8); then memory, so that nobody reads what goes; then the files.
    async fn truncate(
        &mut self,
        log: &Log<D>,
        offset: Offset,
    ) -> Result<Result<(), ChangeError>, Offline> {
        {
            let mut state = log.lock();
            let (log_start, log_end) = (state.log_start, state.log_end);
            if state.deleted {
                return Ok(Err(ChangeError::Deleted));
            }
            if offset > log_end || offset < log_start {
                return Ok(Err(ChangeError::OffsetOutOfRange { offset, log_end }));
            }
            if offset == log_end {
                // An epoch that began here without records goes even so (KAFKA-10706, E5).
                state.epochs.truncate_end(offset);
                return Ok(Ok(()));
            }
            state.blocked = true;
        }
        // What is queued is committed first: there is one way to find the cut then, and one kind of bytes before it.
        if !self.drain(log).await? {
            log.lock().blocked = false;
            return Ok(Err(ChangeError::NoSpace));
        }
        let _writer = log.inner.writer.lock().await;
        let cut = match log.boundary_at(offset).await {
            // The log start lies inside the batch to go: the log is emptied and begins again there (E8).
            Some(cut) if cut.offset < log.ends().log_start => {
                let start = log.ends().log_start;
                Point { offset: start, segment: start, position: 0 }
            }
            Some(cut) => cut,
            None => {
                log.lock().blocked = false;
                let log_end = log.ends().log_end;
                return Ok(Err(ChangeError::OffsetOutOfRange { offset, log_end }));
            }
        };
        tracing::debug!(partition = %log.inner.partition, %offset, ?cut, "log is truncated");
        let frame = Frame {
            log: log.inner.id,
            segment_base: cut.segment,
            position: cut.position,
            kind: FrameKind::Truncate { end: cut.offset },
        };
        let groups = match planted(Mutant::TruncateNotJournaled) {
            true => None,
            false => Some(self.journal(vec![frame]).await?),
        };
        // No await from the sync to here: a checkpoint that is stored sees the log before the cut, or the cut and the
        // group that does it again. One that told of fewer epochs or damages while the cut was not durable would be
        // wrong after a power cut (I4, I14).
        let gone = {
            let mut state = log.lock();
            if let Some(groups) = &groups {
                state.marks.journaled(groups);
            }
            state.cut(cut)
        };
        // A checkpoint that noted the log before the cut ends first: what it writes must not come after.
        let checkpointing = self.dir.checkpointing.lock().await;
        let done = self.cut_files(log, cut, gone).await;
        drop(checkpointing);
        if let Err(error) = done {
            return Err(self.fail_io(format!("truncating {}", log.inner.partition), &error));
        }
        self.unblock(log).await?;
        Ok(Ok(()))
    }

    async fn heal(
        &mut self,
        log: &Log<D>,
        start: Offset,
        batches: Vec<Batch>,
    ) -> Result<Result<Option<Offset>, ChangeError>, Offline> {
        let healed = log.put_in_place(start, batches).await;
        healed.map_err(|error| {
            self.fail_io(format!("repairing {} at offset {start}", log.inner.partition), &error)
        })
    }

    /// A cut is done: appends go on. Replay would cut a page-cache log again, below what is appended from now on without the
    /// journal: that is ruled out first.
    async fn unblock(&mut self, log: &Log<D>) -> Result<(), Offline> {
        let paged = !log.lock().sync;
        while paged && !self.checkpoint(Scope::All).await? && !self.dir.door.is_closing() {
            self.clock.sleep(RETRY).await;
        }
        {
            let mut state = log.lock();
            state.blocked = false;
            state.check();
        }
        if self.dir.door.is_offline() {
            return Err(Offline); // I10
        }
        log.tell();
        Ok(())
    }

    /// Empties the log: the journal first; then memory and files, which no checkpoint sees apart.
    async fn reset(
        &mut self,
        log: &Log<D>,
        offset: Offset,
    ) -> Result<Result<(), ChangeError>, Offline> {
        {
            let mut state = log.lock();
            if state.deleted {
                return Ok(Err(ChangeError::Deleted));
            }
            state.blocked = true;
        }
        tracing::debug!(partition = %log.inner.partition, %offset, ends = ?log.ends(), "log is reset");
        let _writer = log.inner.writer.lock().await;
        let frame = Frame {
            log: log.inner.id,
            segment_base: offset,
            position: 0,
            kind: FrameKind::Reset { offset },
        };
        // The log has the group in its marks when no checkpoint is under way: until then none may free it.
        *self.dir.uncounted() = Some(self.dir.journal.lock().await.next_position());
        let groups = match planted(Mutant::ResetNotJournaled) {
            true => None,
            false => Some(self.journal(vec![frame]).await?),
        };
        let checkpointing = self.dir.checkpointing.lock().await;
        if self.dir.door.is_offline() {
            return Err(Offline); // I10
        }
        let (queued, delay) = {
            let mut state = log.lock();
            state.reset(offset);
            if let Some(groups) = groups {
                state.marks = Marks { oldest: Some(groups.start), syncing: None, next: groups.end };
                // Nothing that was there before counts any more.
                state.anchor = Anchor { point: state.stable, group: groups.start };
            }
            (std::mem::take(&mut state.queued_bytes), state.config.delete_delay)
        };
        *self.dir.uncounted() = None;
        self.dir.door.unqueued(queued);
        let path = &log.inner.path;
        let entries = match self.dir.door.disk.list(path).await {
            Ok(entries) => entries,
            Err(error) => return Err(self.fail_io(format!("listing {}", path.display()), &error)),
        };
        let files = entries.iter().filter(|entry| Kind::parse(&entry.name).is_some());
        self.set_aside(files.map(|entry| path.join(&entry.name)), delay).await?;
        drop(checkpointing);
        self.unblock(log).await?;
        Ok(Ok(()))
    }

    async fn cut_files(&self, log: &Log<D>, cut: Point, gone: Vec<Offset>) -> io::Result<()> {
        let disk = &self.dir.door.disk;
        let path = &log.inner.path;
        log.lock().snapshots.retain(|snapshot| *snapshot <= cut.offset);
        for entry in disk.list(path).await? {
            let later = match Kind::parse(&entry.name) {
                Some((Kind::Snapshot, offset)) => offset > cut.offset,
                Some((_, base)) => base > cut.segment || gone.contains(&base),
                None => false,
            };
            if later {
                remove_if_there(disk, &path.join(&entry.name)).await?;
            }
        }
        let file = log.segment_file(cut.segment).await?;
        file.set_len(cut.position).await?;
        let interval = log.config().index_interval_bytes;
        log.rebuild_index(cut.segment, interval).await?;
        let now = self.clock.timestamp();
        let producers = log.rebuild_producers(cut.offset, now).await?;
        let mut state = log.lock();
        state.producers = producers;
        if let Some(segment) = state.segment(cut.segment) {
            segment.unsynced = true;
        }
        state.entries_changed = true;
        Ok(())
    }
}

pub(super) fn create_frame(id: LogId, spec: &LogSpec) -> Frame {
    Frame {
        log: id,
        segment_base: Offset::ZERO,
        position: 0,
        kind: FrameKind::Create {
            topic: spec.topic.clone(),
            topic_id: spec.topic_id,
            partition: spec.partition,
            epoch: LeaderEpoch(0),
            flags: match spec.config.durability_effective() {
                Durability::Sync => 0,
                Durability::PageCache => CREATE_PAGE_CACHE,
            },
        },
    }
}

pub(super) async fn remove_if_there<D: Disk>(disk: &D, path: &std::path::Path) -> io::Result<()> {
    match disk.remove_file(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl<D: Disk> Inner<D> {
    fn new_log_id(&self) -> LogId {
        let mut registry = self.registry();
        let id = registry.next_log;
        registry.next_log = LogId(id.0 + 1);
        registry.entries_changed = true;
        id
    }

    pub(super) fn throw_away(&self, garbage: Garbage) {
        self.registry().garbage.push(garbage);
        self.door.attention.notify_one();
    }

    /// Makes the directory of a new log, with its card. Neither need be safe before the CREATE frame is: it says the same.
    async fn make_log_dir(&self, id: LogId, spec: &LogSpec) -> io::Result<()> {
        let disk = &self.door.disk;
        let partition = spec.topic_partition();
        let path = layout::log_dir(&self.door.path, &partition);
        if disk.exists(&path).await? && !self.is_unfinished(&path).await? {
            let aside = layout::stray_dir(&path, id);
            tracing::warn!(path = %path.display(), aside = %aside.display(), "a stray directory is put aside");
            disk.rename(&path, &aside).await?;
            disk.sync_dir(&self.door.path).await?;
        }
        disk.create_dir_all(&path).await?;
        let durability = spec.config.durability_effective();
        let card = Metadata { directory: self.id, log: id, topic_id: spec.topic_id, durability };
        let file = disk.open(&path.join(METADATA_FILE), OpenMode::Create).await?;
        file.set_len(0).await?;
        file.write_at(0, vec![card.encode()]).await
    }

    /// Whether a directory holds at most a card: a creation that ended there, before the journal knew of it. Its log id is
    /// given out again, so that the name to put it aside under may be taken; it has nothing to keep.
    async fn is_unfinished(&self, path: &std::path::Path) -> io::Result<bool> {
        let entries = self.door.disk.list(path).await?;
        Ok(entries.iter().all(|entry| !entry.is_dir && entry.name == METADATA_FILE))
    }
}

impl<F> State<F> {
    /// How many segments lie below `start`; the active one stays.
    fn count_below(&self, start: Offset) -> usize {
        let older = self.segments.len().saturating_sub(1);
        let end = start.min(self.written.offset);
        self.segments.iter().take(older).take_while(|segment| segment.end <= end).count()
    }

    /// Whether a log start of `start` takes segments although the producers of those that stay are not saved.
    fn unsaved_below(&self, start: Offset) -> bool {
        match self.count_below(start) {
            0 => false,
            gone => self.segments[gone].base > self.anchor.point.offset,
        }
    }

    /// Forgets segments that lie below the log start. Their bases and sizes.
    fn drop_below_start(&mut self) -> Vec<(Offset, u64)> {
        let below = self.count_below(self.log_start);
        let gone: Vec<_> = self.segments.drain(..below).map(|s| (s.base, s.size)).collect();
        if !gone.is_empty() {
            let first = self.segments[0].base;
            self.damages.retain(|damage| damage.start.segment >= first);
            self.entries_changed = true;
            self.settle();
        }
        gone
    }

    /// The log ends at `cut` from now on. Answers the bases of the segments that are no more.
    fn cut(&mut self, cut: Point) -> Vec<Offset> {
        let mut gone = Vec::new();
        while let Some(segment) = self.segments.pop_back_if(|segment| segment.base > cut.segment) {
            gone.push(segment.base);
        }
        if cut.position == 0 && self.segments.back().is_none_or(|last| last.base < cut.segment) {
            gone.extend(self.segments.drain(..).map(|segment| segment.base));
            self.log_end = cut.offset;
            self.roll();
        }
        if let Some(active) = self.segments.back_mut() {
            active.end = cut.offset;
            active.size = cut.position;
            active.sound.cut(cut.position);
            // Rebuilt from the cut file.
            active.index = None;
            active.index_checked = false;
        }
        self.log_end = cut.offset;
        for point in [&mut self.stable, &mut self.durable, &mut self.written] {
            if point.offset > cut.offset {
                *point = cut;
            }
        }
        self.damages.retain(|damage| damage.start.offset < cut.offset);
        self.recent.clear();
        if !planted(Mutant::EpochCacheNotTruncated) {
            self.epochs.truncate_end(cut.offset); // I4
        }
        self.generation += 1;
        self.entries_changed = true;
        gone
    }
}
