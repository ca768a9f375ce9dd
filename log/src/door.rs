//! The door of a log directory: what logs and callers leave there for the committer, and the flags they look at.
//!
//! A log is listed once however much is queued in it; a change is a command with a reply. Dropping the waiting side is
//! harmless: the command is executed all the same. Once the directory has failed or closed nothing enters (I10).

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use env::{Disk, is_full};
use record::Batch;
use tokio::sync::{Notify, oneshot, watch};
use types::mutant::{Mutant, planted};
use types::{Counter, Histogram, Offset};

use crate::ballast::Ballast;
use crate::log::{Expired, Log};
use crate::{AppendError, ChangeError, Ends, Failure, LogConfig, LogDirOptions, LogSpec, Retained};

/// The waiting side of a command.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, ChangeError>>;

/// A change that the committer executes.
pub(crate) enum Command<D: Disk> {
    Create { spec: LogSpec, reply: Reply<Log<D>> },
    Delete { log: Log<D>, reply: Reply<()> },
    Truncate { log: Log<D>, offset: Offset, reply: Reply<()> },
    LogStart { log: Log<D>, offset: Offset, reply: Reply<Offset> },
    Reset { log: Log<D>, offset: Offset, reply: Reply<()> },
    Heal { log: Log<D>, start: Offset, batches: Vec<Batch>, reply: Reply<Option<Offset>> },
    Retain { log: Log<D>, expired: Expired, reply: Reply<Retained> },
    Config { log: Log<D>, config: LogConfig, reply: Reply<()> },
    Flush { log: Log<D>, reply: Reply<Ends> },
    Close { reply: Reply<()> },
}

impl<D: Disk> Command<D> {
    /// Answers `error` and drops the command.
    pub fn refuse(self, error: ChangeError) {
        // A receiver that went away does not want to know.
        match self {
            Command::Create { reply, .. } => drop(reply.send(Err(error))),
            Command::Delete { reply, .. }
            | Command::Truncate { reply, .. }
            | Command::Reset { reply, .. }
            | Command::Config { reply, .. }
            | Command::Close { reply } => drop(reply.send(Err(error))),
            Command::LogStart { reply, .. } => drop(reply.send(Err(error))),
            Command::Heal { reply, .. } => drop(reply.send(Err(error))),
            Command::Retain { reply, .. } => drop(reply.send(Err(error))),
            Command::Flush { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}

/// What waits for the committer.
pub(crate) struct Work<D: Disk> {
    pub dirty: Vec<Log<D>>,
    pub commands: VecDeque<Command<D>>,
    /// Nothing is taken any more.
    closed: bool,
}

pub(crate) struct Door<D: Disk> {
    pub disk: D,
    pub path: PathBuf,
    pub options: LogDirOptions,
    work: Mutex<Work<D>>,
    pub wake: Notify,
    /// The housekeeper's alarm.
    pub attention: Notify,
    /// A range was found that the device refuses to read.
    pub unreadable: Notify,
    /// Counts the turns by which what was written or checked grows old.
    pub turn: AtomicU64,
    /// Told when a range is found to be damaged.
    pub damaged: Notify,
    offline: AtomicBool,
    closing: AtomicBool,
    space_low: AtomicBool,
    /// The same for those who wait for a change of it.
    pub space: watch::Sender<bool>,
    pub ballast: Ballast<D>,
    queued_bytes: AtomicUsize,
    /// Batches appended to logs that sync since the committer took the last ones.
    arrived: AtomicUsize,
    /// How many of them it waits for; [`usize::MAX`] when it takes whatever there is.
    awaited: AtomicUsize,
    /// Bytes written to page-cache logs since the last look.
    pub paged_bytes: AtomicUsize,
    /// Bytes written to segments since the free space was looked up.
    pub written_bytes: AtomicUsize,
    pub failure: watch::Sender<Option<Failure>>,
    pub tally: Tally,
}

/// What the committer has done so far.
#[derive(Default)]
pub(crate) struct Tally {
    /// Groups that were written and synced, and how long that took.
    pub groups: Histogram,
    /// Batches that the groups held.
    pub batches: Counter,
    /// Bytes of batches that the groups held.
    pub bytes: Counter,
    /// Bytes of the journal that a start now would replay, as of the last group.
    pub journal_bytes: AtomicU64,
    /// Bytes that the scrubber has looked at.
    pub scrubbed_bytes: Counter,
    /// Rounds that it has ended.
    pub scrub_rounds: Counter,
    /// Ranges that it found bad.
    pub scrub_damaged: Counter,
    /// Times that it could not read a segment.
    pub scrub_unreadable: Counter,
}

impl<D: Disk> Door<D> {
    pub fn new(disk: D, path: &Path, options: LogDirOptions) -> Door<D> {
        let ballast = Ballast::new(disk.clone(), path, options.ballast_bytes);
        Door {
            disk,
            path: path.to_owned(),
            options,
            work: Mutex::new(Work { dirty: Vec::new(), commands: VecDeque::new(), closed: false }),
            wake: Notify::new(),
            attention: Notify::new(),
            unreadable: Notify::new(),
            turn: AtomicU64::new(0),
            damaged: Notify::new(),
            offline: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            space_low: AtomicBool::new(false),
            space: watch::Sender::new(true),
            ballast,
            queued_bytes: AtomicUsize::new(0),
            arrived: AtomicUsize::new(0),
            awaited: AtomicUsize::new(usize::MAX),
            paged_bytes: AtomicUsize::new(0),
            written_bytes: AtomicUsize::new(0),
            failure: watch::Sender::new(None),
            tally: Tally::default(),
        }
    }

    fn work(&self) -> MutexGuard<'_, Work<D>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all that waits: logs, how many batches arrived in them, commands.
    pub fn take(&self) -> (Vec<Log<D>>, usize, VecDeque<Command<D>>) {
        let mut work = self.work();
        let arrived = self.arrived.swap(0, Ordering::SeqCst);
        (std::mem::take(&mut work.dirty), arrived, std::mem::take(&mut work.commands))
    }

    /// Lists a log that has queued bytes; the log's own flag keeps it from being listed twice.
    pub fn dirty(&self, log: Log<D>) {
        {
            let mut work = self.work();
            if work.closed {
                return;
            }
            work.dirty.push(log);
        }
        // A committer that waits for more looks at the list when it has them. One that took the list before the push
        // above has ended its wait before, so this sees it.
        if self.awaited.load(Ordering::SeqCst) == usize::MAX {
            self.wake.notify_one();
        }
    }

    /// `batches` more were queued in logs that sync, which are listed by now.
    pub fn arrived(&self, batches: usize) {
        let arrived = self.arrived.fetch_add(batches, Ordering::SeqCst) + batches;
        if arrived >= self.awaited.load(Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }

    /// How many batches have arrived since the last [`Door::take`].
    pub fn arrived_count(&self) -> usize {
        self.arrived.load(Ordering::SeqCst)
    }

    /// From now on arrivals wake the committer only when there are `batches` of them; `None`: each new log does.
    pub fn set_awaited(&self, batches: Option<usize>) {
        self.awaited.store(batches.unwrap_or(usize::MAX), Ordering::SeqCst);
    }

    /// Whether a command waits, or nothing is taken any more.
    pub fn is_asked(&self) -> bool {
        let work = self.work();
        work.closed || !work.commands.is_empty()
    }

    /// Leaves a command and waits for its answer.
    pub async fn ask<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command<D>,
    ) -> Result<T, ChangeError> {
        let (reply, answer) = oneshot::channel();
        {
            let mut work = self.work();
            if work.closed {
                drop(work);
                return Err(self.closed_error());
            }
            work.commands.push_back(command(reply));
        }
        self.wake.notify_one();
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(self.closed_error()),
        }
    }

    pub fn closed_error(&self) -> ChangeError {
        if self.is_offline() { ChangeError::Offline } else { ChangeError::Closed }
    }

    /// Whether the directory has failed (I10, E10).
    pub fn is_offline(&self) -> bool {
        self.offline.load(Ordering::Acquire)
    }

    /// Whether it is being closed.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub fn begin_closing(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// The directory goes offline, for good: appends, reads and commands are refused from now on (I10, E10).
    pub fn fail(&self, doing: &str, error: &io::Error) {
        self.offline.store(true, Ordering::Release);
        let failure = Failure {
            path: self.path.clone(),
            doing: doing.into(),
            kind: error.kind(),
            message: error.to_string().into(),
        };
        self.failure.send_if_modified(|current| {
            // The first cause is the one to report.
            let first = current.is_none();
            if first {
                *current = Some(failure);
            }
            first
        });
        self.wake.notify_one();
        self.attention.notify_one();
    }

    /// Refuses what waits and all that comes.
    pub fn shut(&self) {
        let (dirty, commands) = {
            let mut work = self.work();
            work.closed = true;
            (std::mem::take(&mut work.dirty), std::mem::take(&mut work.commands))
        };
        drop(dirty);
        let error = self.closed_error();
        commands.into_iter().for_each(|command| command.refuse(error.clone()));
    }

    /// Whether nothing is taken any more.
    pub fn is_shut(&self) -> bool {
        self.work().closed
    }

    pub fn has_space(&self) -> bool {
        !self.space_low.load(Ordering::Relaxed)
    }

    /// Whether there is space for a client's records (E11).
    pub fn admit_by_space(&self) -> Result<(), AppendError> {
        if self.has_space() { Ok(()) } else { Err(AppendError::NoSpace) }
    }

    /// Whether more bytes may wait to be written (E12).
    pub fn admit_by_queue(&self) -> Result<(), AppendError> {
        if self.queued_bytes.load(Ordering::Relaxed) >= self.options.queued_bytes_max {
            return Err(AppendError::Busy);
        }
        Ok(())
    }

    /// `bytes` more wait to be written.
    pub fn queued(&self, bytes: usize) {
        self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// `bytes` fewer wait to be written.
    pub fn unqueued(&self, bytes: usize) {
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes that wait to be written.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Ordering::Relaxed)
    }

    /// Whether it is time to look up the free space again, after `bytes` more were written.
    pub fn should_look_at_space(&self, bytes: usize) -> bool {
        // Often enough that the reserve cannot vanish between two looks.
        let every = (self.options.space_reserve / 8).min(1 << 20) as usize;
        if self.written_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes < every.max(1 << 12) {
            return false;
        }
        self.written_bytes.store(0, Ordering::Relaxed);
        true
    }

    /// Looks up the free space, opens or closes the door to clients, and takes the ballast back where there is room for
    /// it (E11).
    pub async fn look_at_space(&self) {
        let Ok(space) = self.disk.space(&self.path).await else { return };
        let reserve = self.options.space_reserve;
        // Opened again a little later than it was closed, or it would flap.
        let wanted = if self.has_space() { reserve } else { reserve + reserve / 8 };
        self.set_space_low(space.available < wanted);
        let missing = self.ballast.missing().await;
        if missing > 0 && space.available.saturating_sub(missing) > reserve {
            // Without it the directory works as long as there is space; the next look tries again.
            drop(self.ballast.take().await);
        }
    }

    /// Before anything else: takes over the ballast that an earlier process held, for what the start itself may need (E11).
    pub async fn begin(&self) {
        if let Err(error) = self.ballast.adopt().await {
            tracing::warn!(path = %self.path.display(), %error, "the space kept for a full disk is not there");
        }
    }

    /// Whether the ballast is not all there.
    pub async fn lacks_ballast(&self) -> bool {
        self.ballast.missing().await > 0
    }

    /// Whether `error` is a lack of space that a piece of the ballast has mended: then try again. For what must go on on a
    /// full disk, never for clients' records (E11).
    pub async fn makes_room(&self, error: &io::Error) -> bool {
        if !is_full(error) {
            return false;
        }
        self.set_space_low(true);
        self.ballast.spend().await
    }

    pub fn set_space_low(&self, low: bool) {
        if !low && planted(Mutant::FullForGood) {
            return;
        }
        let before = self.space_low.swap(low, Ordering::Relaxed);
        self.space.send_if_modified(|has_space| std::mem::replace(has_space, !low) == low);
        if low && !before {
            tracing::warn!(
                path = %self.path.display(), wanted_mib = self.options.space_reserve >> 20,
                "the disk is nearly full: clients' appends are refused until so much is free; delete or shorten topics, \
                 make room, or lower the keys log.journal.*"
            );
            self.attention.notify_one();
        } else if before && !low {
            // What is stalled tries again on its own timer: space may be refused for other reasons than its lack.
            tracing::info!(path = %self.path.display(), "the disk has space again");
        }
    }
}
