//! A log directory: who is in it, and the one task that makes their appends durable.
//!
//! [`LogDir::run`] is that task: the committer (journal groups and all changes of logs), beside it the
//! housekeeper (checkpoints, removal of deleted files, free space). Nothing else writes the journal. Neither holds a
//! log's lock across an await, and an idle directory has no timer but the one that marks it idle.

mod alarm;
mod change;
mod checkpoint;
mod commit;
mod pace;
mod recover;
mod scrub;
mod stored;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use env::{Clock, Disk};
use tokio::sync::watch;
use types::{DirectoryId, Durations, Instant, LogId, TopicPartition};

use crate::door::{Command, Door};
use crate::journal::{Journal, Position};
use crate::{ChangeError, Failure, Log, LogDirOptions, LogSpec, OpenError};

/// A log directory. Cheap to clone; clones are the same directory.
pub struct LogDir<D: Disk> {
    inner: Arc<Inner<D>>,
}

pub(crate) struct Inner<D: Disk> {
    door: Arc<Door<D>>,
    id: DirectoryId,
    recovery: RecoveryReport,
    registry: Mutex<Registry<D>>,
    journal: tokio::sync::Mutex<Journal<D>>,
    /// Groups from here on may hold frames that no log has in its marks yet.
    uncounted: Mutex<Option<Position>>,
    /// One checkpoint at a time.
    checkpointing: tokio::sync::Mutex<()>,
}

/// The logs of the directory, and what is waiting to be removed.
struct Registry<D: Disk> {
    logs: BTreeMap<TopicPartition, Log<D>>,
    next_log: LogId,
    garbage: Vec<Garbage>,
    /// Entries of the directory itself were created, renamed or removed since its last sync.
    entries_changed: bool,
}

/// Deleted files or directories, and when they go.
struct Garbage {
    due: Instant,
    paths: Vec<PathBuf>,
    is_dir: bool,
}

impl<D: Disk> Clone for LogDir<D> {
    fn clone(&self) -> LogDir<D> {
        LogDir { inner: self.inner.clone() }
    }
}

/// What opening a directory found.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    /// Whether the last process stopped cleanly (E6).
    pub clean: bool,
    /// Whether every byte that was durable is there: the journal's chain is whole and nothing is quarantined (P10).
    pub intact: bool,
    /// Logs opened.
    pub logs: usize,
    /// Journal bytes replayed.
    pub journal_bytes: u64,
    /// Segment bytes walked.
    pub walked_bytes: u64,
    /// Bytes of unfinished writes that were cut off (E1).
    pub torn_bytes: u64,
    /// Ranges that were durable and are bad (I14).
    pub quarantined: Vec<crate::Quarantined>,
    /// Damage in the journal, in words.
    pub damages: Vec<String>,
    /// Entries of the directory that are not ours or not known; left alone (E8).
    pub strays: Vec<Stray>,
    /// Time it took.
    pub took: Duration,
}

/// What a log directory has written, in this process, and what waits in it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct DirCounts {
    /// Groups of the journal: how many, and how long each took to write and sync.
    pub groups: Durations,
    /// Batches appended to logs that sync: what the groups were for.
    pub batches: u64,
    /// Bytes of batches in the groups.
    pub bytes: u64,
    /// Bytes of the journal that a start would have replayed after the last group.
    pub journal_bytes: u64,
    /// Bytes of batches that wait to be written.
    pub queued_bytes: usize,
    /// Bytes of cold segments that the scrubber has looked at.
    pub scrubbed_bytes: u64,
    /// Rounds that it has ended.
    pub scrub_rounds: u64,
    /// Ranges that it found bad (I14).
    pub scrub_damaged: u64,
    /// Times that it could not read a segment.
    pub scrub_unreadable: u64,
    /// Whether clients' appends find room (E11).
    pub has_space: bool,
    /// Whether it has failed, for good in this process (I10, E10).
    pub is_offline: bool,
}

/// An entry of a log directory that was left alone (E8).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stray {
    /// Its path.
    pub path: PathBuf,
    /// Why it is one.
    pub reason: String,
}

impl<D: Disk> LogDir<D> {
    /// Opens the directory at `path` (created if missing) and recovers all its logs. The caller holds the directory's
    /// lock and has checked its identity `id`.
    pub async fn open<C: Clock>(
        disk: D,
        clock: &C,
        path: &Path,
        id: DirectoryId,
        options: LogDirOptions,
    ) -> Result<LogDir<D>, OpenError> {
        recover::open(disk, clock, path, id, options).await
    }

    /// The committer, the checkpointer and the remover of deleted files. Spawn it once, before the first append; it
    /// ends after [`LogDir::close`] or when the directory goes offline.
    pub async fn run<C: Clock>(&self, clock: C) {
        tokio::join!(
            biased;
            commit::run(&self.inner, &clock),
            checkpoint::run(&self.inner, &clock),
        );
    }

    /// The scrubber: looks at what nobody has read for long. Spawn it once, or not at all; it ends when the directory has
    /// failed, and is to be dropped when it closes.
    pub async fn scrub<C: Clock>(&self, clock: C) {
        scrub::run(&self.inner, &clock).await;
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.inner.door.path
    }

    /// Its identity.
    pub fn id(&self) -> DirectoryId {
        self.inner.id
    }

    /// What opening found.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.inner.recovery
    }

    /// Whether there is room for what clients append; without it their appends are refused (E11).
    pub fn has_space(&self) -> bool {
        self.inner.door.has_space()
    }

    /// Whether there is room for what clients append, to be followed.
    pub fn space(&self) -> watch::Receiver<bool> {
        self.inner.door.space.subscribe()
    }

    /// Whether the directory has failed, for good in this process (I10, E10).
    pub fn is_offline(&self) -> bool {
        self.inner.door.is_offline()
    }

    /// `Some` once the directory is offline: for good, in this process (I10, E10).
    pub fn failure(&self) -> watch::Receiver<Option<Failure>> {
        self.inner.door.failure.subscribe()
    }

    /// Completes when a damaged range has been found since the last time, in any log (I14).
    pub async fn damaged(&self) {
        self.inner.door.damaged.notified().await;
    }

    /// What it has written so far.
    pub fn counts(&self) -> DirCounts {
        let door = &self.inner.door;
        DirCounts {
            groups: door.tally.groups.durations(),
            batches: door.tally.batches.get(),
            bytes: door.tally.bytes.get(),
            journal_bytes: door.tally.journal_bytes.load(Ordering::Relaxed),
            queued_bytes: door.queued_bytes(),
            scrubbed_bytes: door.tally.scrubbed_bytes.get(),
            scrub_rounds: door.tally.scrub_rounds.get(),
            scrub_damaged: door.tally.scrub_damaged.get(),
            scrub_unreadable: door.tally.scrub_unreadable.get(),
            has_space: door.has_space(),
            is_offline: door.is_offline(),
        }
    }

    /// Every log, by name.
    pub fn logs(&self) -> Vec<Log<D>> {
        self.inner.registry().logs.values().cloned().collect()
    }

    /// The log of a partition.
    pub fn log(&self, partition: &TopicPartition) -> Option<Log<D>> {
        self.inner.registry().logs.get(partition).cloned()
    }

    /// Creates a log, or returns the one there is for this topic id and partition (with `spec.config` set). Durable
    /// when it returns.
    pub async fn create(&self, spec: LogSpec) -> Result<Log<D>, ChangeError> {
        if !crate::layout::is_legal(&spec.topic_partition()) {
            return Err(ChangeError::BadName(spec.topic_partition()));
        }
        self.inner.door.ask(|reply| Command::Create { spec, reply }).await
    }

    /// Deletes a log: durable when it returns; its files go later.
    pub async fn delete(&self, log: &Log<D>) -> Result<(), ChangeError> {
        let log = log.clone();
        self.inner.door.ask(|reply| Command::Delete { log, reply }).await
    }

    /// Stops cleanly: everything queued is made durable, segments are synced, the clean-stop marker is written (E6).
    /// Needs [`LogDir::run`] to be running; appends are refused from now on.
    pub async fn close(&self) -> Result<(), ChangeError> {
        self.inner.door.begin_closing();
        self.inner.door.ask(|reply| Command::Close { reply }).await
    }
}

impl<D: Disk> Inner<D> {
    fn registry(&self) -> MutexGuard<'_, Registry<D>> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn uncounted(&self) -> MutexGuard<'_, Option<Position>> {
        self.uncounted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
