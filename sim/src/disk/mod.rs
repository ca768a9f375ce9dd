//! A disk that forgets what was not synced, and fails on demand.
//!
//! ```text
//!  process (one incarnation)      machine
//!  SimDisk, SimFile ---------->   page cache: files and names as written
//!                     sync  -->   medium: what a power cut leaves
//! ```
//!
//! [`SimDisk::kill`] ends the process: the page cache stays. [`SimDisk::power_cut`] ends the machine: every unsynced page
//! and sector, file size and directory entry survives, or does not, on its own. Both return the disk as the next process
//! finds it; handles of the dead one answer errors for ever. [`SimDisk::fork`] copies a disk, so that a test may look at
//! what a power cut *would* leave (I9) and go on.
//!
//! Each directory of the root is a volume, a file system on a device of its own; space is one for all of them.
//!
//! Costs follow what is dirty, not what is stored. Faults D1 to D10 strike by rates ([`SimDisk::set_rates`]) or on order
//! ([`SimDisk::inject`]); each strike is counted. [`SimDisk::crash_at`] stops the process at its n-th change, for tests
//! that crash everywhere.

mod content;
mod faults;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use env::{DirEntry, OpenMode, Space};
use types::Instant;

pub use content::{CutReport, Garbage, PAGE_BYTES, SECTOR_BYTES};
pub use faults::{DiskFault, FaultCounts, FaultRates};

use crate::decisions::{Decisions, Kind, Subsystem};
use content::SyncPlan;
use tree::{Body, Ino, ROOT, Tree};

/// Files grow no further than this.
const FILE_BYTES_MAX: u64 = 1 << 36;

/// Lets time pass for a disk. Without one every operation takes no time.
pub trait Pace: Send + Sync {
    /// Completes after `duration`.
    fn pause(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// What time it is.
    fn now(&self) -> Instant;

    /// The process has reached the operation it was to crash at. The operation never completes.
    fn crashed(&self) {}
}

/// What an operation is, for latency, faults and traces.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Op {
    /// Opening, creation included.
    Open,
    /// Reading bytes, sizes or names.
    Read,
    /// Writing bytes.
    Write,
    /// Changing a size or reserving space.
    Resize,
    /// Syncing a file.
    Sync,
    /// Syncing a directory, or everything.
    SyncNames,
    /// Creating a directory, renaming, removing.
    Names,
}

/// A fault on order.
#[derive(Clone, Debug)]
pub struct Injection {
    /// Strikes only paths that contain this text.
    pub path: String,
    /// Strikes only this kind of operation.
    pub op: Op,
    /// Lets this many matching operations pass first.
    pub skip: u64,
    /// What happens. [`DiskFault::ErrorOnce`], [`DiskFault::ErrorSticky`], [`DiskFault::NoSpace`],
    /// [`DiskFault::FailedSync`], [`DiskFault::HangingSync`], [`DiskFault::LostWrite`] (of a sync) and
    /// [`DiskFault::BitRot`] (of a read) can be ordered.
    pub fault: DiskFault,
}

/// How long operations take: each draws evenly between zero and twice the mean.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Latency {
    /// Mean of anything but a sync.
    pub io: Duration,
    /// Mean of a sync.
    pub sync: Duration,
}

struct State {
    tree: Tree,
    incarnation: u64,
    decisions: Decisions,
    rates: FaultRates,
    counts: FaultCounts,
    injections: Vec<Injection>,
    /// Volumes whose device is dead (D4).
    dead: BTreeSet<PathBuf>,
    /// Faults that failed an operation or spoilt it, by volume.
    errors: BTreeMap<PathBuf, u64>,
    garbage: Garbage,
    latency: Latency,
    pace: Option<Arc<dyn Pace>>,
    blocks_total: u64,
    blocks_outside: u64,
    /// Blocks that are certainly free: counting them all visits every file. 0 after what may take blocks unasked.
    blocks_spare: u64,
    locks: BTreeMap<Ino, u64>,
    changes: u64,
    crash_at: Option<u64>,
    crashed: bool,
    digest: u64,
}

/// One process' view of a false disk. Clones belong to the same process.
#[derive(Clone)]
pub struct SimDisk {
    machine: Arc<Mutex<State>>,
    incarnation: u64,
}

/// An open file of a [`SimDisk`]; clones share the handle.
#[derive(Clone)]
pub struct SimFile(Arc<Handle>);

struct Handle {
    disk: SimDisk,
    ino: Ino,
    path: PathBuf,
    writable: bool,
    locked: bool,
    read_failed: AtomicBool,
}

/// What [`State::begin`] decided about an operation.
#[derive(Default)]
struct Fate {
    pause: Duration,
    fault: Option<DiskFault>,
}

impl SimDisk {
    /// An empty disk of 1 TiB whose choices come from node 0's disk stream.
    pub fn new(decisions: &Decisions) -> SimDisk {
        SimDisk::of_node(decisions, 0)
    }

    /// An empty disk of 1 TiB whose choices come from the disk stream of `node`.
    pub fn of_node(decisions: &Decisions, node: u32) -> SimDisk {
        let state = State {
            tree: Tree::new(),
            incarnation: 0,
            decisions: decisions.stream(node, Subsystem::Disk),
            rates: FaultRates::default(),
            counts: FaultCounts::default(),
            injections: Vec::new(),
            dead: BTreeSet::new(),
            errors: BTreeMap::new(),
            garbage: Garbage::default(),
            latency: Latency::default(),
            pace: None,
            blocks_total: (1 << 40) / PAGE_BYTES as u64,
            blocks_outside: 0,
            blocks_spare: 0,
            locks: BTreeMap::new(),
            changes: 0,
            crash_at: None,
            crashed: false,
            digest: 0,
        };
        SimDisk { machine: Arc::new(Mutex::new(state)), incarnation: 0 }
    }

    /// How often faults strike from now on.
    pub fn set_rates(&self, rates: FaultRates) {
        self.state().rates = rates;
    }

    /// Orders a fault.
    pub fn inject(&self, injection: Injection) {
        self.state().injections.push(injection);
    }

    /// Takes back every fault on order.
    pub fn inject_no_more(&self) {
        self.state().injections.clear();
    }

    /// Which bytes a power cut may turn into garbage.
    pub fn set_garbage(&self, garbage: Garbage) {
        self.state().garbage = garbage;
    }

    /// Gives the disk a sense of time.
    pub fn set_pace(&self, pace: Arc<dyn Pace>, latency: Latency) {
        let mut state = self.state();
        state.pace = Some(pace);
        state.latency = latency;
    }

    /// Others take all that is free now but for `left` bytes (D5). What files have reserved is not free.
    pub fn fill(&self, left: u64) {
        let mut state = self.state();
        let others = state.blocks_total.saturating_sub(state.tree.blocks());
        state.blocks_outside = others.saturating_sub(left / PAGE_BYTES as u64);
        state.blocks_spare = 0;
    }

    /// Size of the file system, and how much of it others use (D5).
    pub fn set_space(&self, total: u64, outside: u64) {
        let mut state = self.state();
        state.blocks_total = total / PAGE_BYTES as u64;
        state.blocks_outside = outside / PAGE_BYTES as u64;
        state.blocks_spare = 0;
    }

    /// How often each kind of fault has struck.
    pub fn counts(&self) -> FaultCounts {
        self.state().counts
    }

    /// Number of changes (anything but reads) begun so far.
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Stops the process at its `n`-th change from now, counted from 0: that change happens in part or not at all, it
    /// and everything after it answers an error. With a [`Pace`] the operation hangs instead and the pace is told.
    pub fn crash_at(&self, n: u64) {
        let mut state = self.state();
        state.crash_at = Some(state.changes + n);
    }

    /// Takes back [`SimDisk::crash_at`], unless it has come to that.
    pub fn crash_not(&self) {
        let mut state = self.state();
        if !state.crashed {
            state.crash_at = None;
        }
    }

    /// Whether the change of [`SimDisk::crash_at`] was reached.
    pub fn has_crashed(&self) -> bool {
        self.state().crashed
    }

    /// The process dies, the machine does not: what was written stays. Returns the disk of the next process.
    #[must_use]
    pub fn kill(&self) -> SimDisk {
        let mut state = self.state();
        state.next_incarnation();
        SimDisk { machine: self.machine.clone(), incarnation: state.incarnation }
    }

    /// The power fails. Returns the disk as the next process finds it.
    #[must_use]
    pub fn power_cut(&self) -> SimDisk {
        let mut state = self.state();
        state.power_cut();
        SimDisk { machine: self.machine.clone(), incarnation: state.incarnation }
    }

    /// An independent copy of the machine with choices from `seed`, no faults pending, as one more process finds it.
    /// The original goes on undisturbed.
    #[must_use]
    pub fn fork(&self, seed: u64) -> SimDisk {
        let state = self.state();
        let mut copy = State {
            tree: state.tree.clone(),
            incarnation: state.incarnation,
            decisions: Decisions::new(seed).stream(0, Subsystem::Disk),
            rates: FaultRates::default(),
            counts: FaultCounts::default(),
            injections: Vec::new(),
            dead: BTreeSet::new(),
            errors: BTreeMap::new(),
            garbage: state.garbage,
            latency: Latency::default(),
            pace: None,
            blocks_total: state.blocks_total,
            blocks_outside: 0,
            blocks_spare: 0,
            locks: BTreeMap::new(),
            changes: 0,
            crash_at: None,
            crashed: false,
            digest: 0,
        };
        copy.next_incarnation();
        let incarnation = copy.incarnation;
        SimDisk { machine: Arc::new(Mutex::new(copy)), incarnation }
    }

    /// Whether a power cut now would certainly leave `len` bytes at `offset` of `path` as the process sees them: name,
    /// size and bytes. This is what honesty (I9) is measured against.
    pub fn is_durable(&self, path: &Path, offset: u64, len: u64) -> bool {
        let state = self.state();
        let file = state.tree.find(path).and_then(|ino| state.tree.file(ino));
        state.tree.is_durable(path) && file.is_ok_and(|file| file.is_durable(offset, len))
    }

    /// Flips the bits of `mask` in one byte (D9 at rest).
    pub fn rot(&self, path: &Path, offset: u64, mask: u8) -> io::Result<()> {
        let mut state = self.state();
        let ino = state.tree.find(path)?;
        state.tree.file_mut(ino)?.rot(offset, mask);
        state.counts.add(DiskFault::BitRot, 1);
        state.add_error(path);
        Ok(())
    }

    /// How long ago the process that runs now last read or wrote a file; `None` if it never did.
    pub fn at_rest(&self, path: &Path) -> Option<Duration> {
        let state = self.state();
        let (incarnation, at) = state.tree.inode(state.tree.find(path).ok()?).ok()?.touched?;
        let now = state.pace.as_ref()?.now();
        (incarnation == state.incarnation).then(|| now.saturating_since(at))
    }

    /// From now on the device refuses to read `start..end` of a file.
    pub fn refuse(&self, path: &Path, start: u64, end: u64) -> io::Result<()> {
        let mut state = self.state();
        let ino = state.tree.find(path)?;
        state.tree.inode_mut(ino)?.refused = Some((start, end));
        Ok(())
    }

    /// Puts a broken file right again (D4), and one of which a part is refused.
    pub fn mend(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let ino = state.tree.find(path)?;
        let inode = state.tree.inode_mut(ino)?;
        (inode.broken, inode.refused) = (false, None);
        Ok(())
    }

    /// The device of a volume dies (D4): nothing that lies there is read or written any more.
    pub fn die(&self, volume: &Path) {
        self.state().dead.insert(volume.to_owned());
    }

    /// Every device that died works again.
    pub fn revive(&self) {
        let mut state = self.state();
        for volume in std::mem::take(&mut state.dead) {
            let Ok(ino) = state.tree.find(&volume) else { continue };
            for ino in state.tree.below(ino) {
                if let Ok(inode) = state.tree.inode_mut(ino) {
                    inode.broken = false;
                }
            }
        }
    }

    /// How often a fault failed or spoilt an operation on the volume of a path. Slowness does not, and neither do power cuts
    /// or a lack of space.
    pub fn errors_on(&self, path: &Path) -> u64 {
        self.state().errors.get(&volume_of(path)).copied().unwrap_or(0)
    }

    /// Every file with its size, sorted by path; for checkers.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state();
        let mut found = Vec::new();
        let mut todo = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, ino)) = todo.pop() {
            match state.tree.inode(ino).map(|inode| &inode.body) {
                Ok(Body::File(file)) => found.push((path, file.len())),
                Ok(Body::Dir(dir)) => {
                    todo.extend(dir.view.iter().map(|(name, ino)| (path.join(name), *ino)));
                }
                Err(_) => {}
            }
        }
        found.sort();
        found
    }

    /// Bytes of a file as the process sees them, without any fault; for checkers.
    pub fn peek(&self, path: &Path) -> io::Result<Bytes> {
        let state = self.state();
        let file = state.tree.file(state.tree.find(path)?)?;
        Ok(file.read(0, file.len() as usize))
    }

    /// A number that differs as soon as the operations of two runs differ.
    pub fn digest(&self) -> u64 {
        self.state().digest
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, if this process is alive.
    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.crashed || state.incarnation != self.incarnation {
            return Err(io::Error::other("the process is dead"));
        }
        Ok(state)
    }

    /// Lets time pass, then decides with `act` under the lock.
    async fn operate<T>(
        &self,
        op: Op,
        path: &Path,
        size: u64,
        act: impl FnOnce(&mut State, Option<DiskFault>) -> io::Result<T>,
    ) -> io::Result<T> {
        let (fate, pace) = {
            let mut state = self.alive()?;
            (state.begin(op, path, size), state.pace.clone())
        };
        self.wait(&fate, pace).await;
        let crashed = {
            let mut state = self.alive()?;
            if !state.must_crash(op) {
                return act(&mut state, fate.fault);
            }
            if op == Op::Write {
                // A part of the write may still happen; the caller never learns how much.
                _ = act(&mut state, Some(DiskFault::ErrorOnce));
            }
            state.crashed = true;
            state.pace.clone()
        };
        if let Some(pace) = crashed {
            pace.crashed();
            std::future::pending::<()>().await;
        }
        Err(io::Error::other("the process is dead"))
    }

    async fn wait(&self, fate: &Fate, pace: Option<Arc<dyn Pace>>) {
        match (pace, fate.fault) {
            (Some(pace), _) if !fate.pause.is_zero() => pace.pause(fate.pause).await,
            (_, Some(DiskFault::HangingSync)) => std::future::pending().await,
            _ => {}
        }
    }

    fn file(&self, ino: Ino, path: &Path, writable: bool, locked: bool) -> SimFile {
        let (disk, path, read_failed) = (self.clone(), path.to_owned(), AtomicBool::new(false));
        let handle = Handle { disk, ino, path, writable, locked, read_failed };
        SimFile(Arc::new(handle))
    }
}

impl State {
    fn touch(&mut self, ino: Ino) {
        let touched = self.pace.as_ref().map(|pace| (self.incarnation, pace.now()));
        if let Ok(inode) = self.tree.inode_mut(ino) {
            inode.touched = touched;
        }
    }

    fn next_incarnation(&mut self) {
        self.incarnation += 1;
        self.crashed = false;
        self.crash_at = None;
        self.blocks_spare = 0;
        self.locks.clear();
        self.tree.close_all();
    }

    fn power_cut(&mut self) {
        let mut report = CutReport::default();
        for (_, file) in self.tree.files_mut() {
            if file.is_dirty() {
                let cut = file.power_cut(&self.decisions, self.garbage);
                report.pages_lost += cut.pages_lost;
            }
        }
        let entries = self.tree.power_cut(&self.decisions);
        self.counts.add(DiskFault::PowerCut, report.pages_lost);
        self.counts.add(DiskFault::EntryLost, entries);
        self.next_incarnation();
    }

    /// Draws what happens to an operation.
    fn begin(&mut self, op: Op, path: &Path, size: u64) -> Fate {
        self.note(op, path, size);
        let mut fate = Fate { pause: self.latency_of(op), fault: self.ordered(op, path) };
        if fate.fault.is_none() {
            fate.fault = self.drawn(op);
        }
        if self.decisions.chance(Kind::Fault, self.rates.slow) {
            fate.pause *= 100;
            self.counts.add(DiskFault::Slow, 1);
        }
        if fate.fault == Some(DiskFault::HangingSync) {
            fate.pause = self.rates.hang.unwrap_or_default();
        }
        if self.dead.contains(&volume_of(path)) {
            fate.fault = Some(DiskFault::ErrorSticky);
        }
        if let Some(fault) = fate.fault {
            self.counts.add(fault, 1);
            if fault != DiskFault::NoSpace {
                self.add_error(path);
            }
        }
        fate
    }

    fn add_error(&mut self, path: &Path) {
        *self.errors.entry(volume_of(path)).or_default() += 1;
    }

    fn latency_of(&self, op: Op) -> Duration {
        let mean = if matches!(op, Op::Sync | Op::SyncNames) {
            self.latency.sync
        } else {
            self.latency.io
        };
        Duration::from_nanos(self.decisions.choose(Kind::Delay, 2 * mean.as_nanos() as u64))
    }

    fn ordered(&mut self, op: Op, path: &Path) -> Option<DiskFault> {
        let text = path.to_string_lossy();
        let matching = |order: &Injection| order.op == op && text.contains(&order.path);
        let mut struck = None;
        for (position, order) in self.injections.iter_mut().enumerate() {
            if matching(order) {
                if order.skip == 0 {
                    struck = Some(position);
                    break;
                }
                order.skip -= 1;
            }
        }
        struck.map(|position| self.injections.remove(position).fault)
    }

    fn drawn(&self, op: Op) -> Option<DiskFault> {
        let chance = |rate| self.decisions.chance(Kind::Fault, rate);
        let rates = &self.rates;
        match op {
            Op::Read if chance(rates.error_read) => Some(DiskFault::ErrorOnce),
            Op::Read if chance(rates.rot_read) => Some(DiskFault::BitRot),
            Op::Write if chance(rates.error_sticky) => Some(DiskFault::ErrorSticky),
            Op::Write | Op::Resize | Op::Names | Op::Open if chance(rates.error_write) => {
                Some(DiskFault::ErrorOnce)
            }
            Op::Sync if chance(rates.failed_sync) => Some(DiskFault::FailedSync),
            Op::Sync if chance(rates.misdirected_write) => Some(DiskFault::LostWrite),
            Op::Sync | Op::SyncNames if chance(rates.hanging_sync) => Some(DiskFault::HangingSync),
            _ => None,
        }
    }

    fn must_crash(&mut self, op: Op) -> bool {
        if matches!(op, Op::Read | Op::Open) {
            return false;
        }
        self.changes += 1;
        self.crash_at.is_some_and(|at| self.changes > at)
    }

    fn note(&mut self, op: Op, path: &Path, size: u64) {
        let mut hash = self.digest
            ^ (op as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ size.rotate_left(17);
        for byte in path.as_os_str().as_encoded_bytes() {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.digest = hash.rotate_left(5);
    }

    fn blocks_free(&self) -> u64 {
        self.blocks_total.saturating_sub(self.blocks_outside).saturating_sub(self.tree.blocks())
    }

    fn take_space(&mut self, blocks: u64) -> io::Result<()> {
        if blocks > self.blocks_spare {
            self.blocks_spare = self.blocks_free();
            if blocks > self.blocks_spare {
                self.counts.add(DiskFault::NoSpace, 1);
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        self.blocks_spare -= blocks;
        Ok(())
    }

    /// Turns the faults that simply fail an operation into its error.
    fn fail(&mut self, ino: Option<Ino>, fault: Option<DiskFault>) -> io::Result<()> {
        if let Some(ino) = ino {
            let inode = self.tree.inode_mut(ino)?;
            inode.broken |= fault == Some(DiskFault::ErrorSticky);
            if inode.broken {
                return Err(eio());
            }
        }
        match fault {
            Some(DiskFault::ErrorOnce | DiskFault::ErrorSticky) => Err(eio()),
            Some(DiskFault::NoSpace) => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<Ino> {
        let ino = match self.tree.find(path) {
            Ok(_) if mode == OpenMode::CreateNew => return Err(io::ErrorKind::AlreadyExists.into()),
            Ok(ino) => ino,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if matches!(mode, OpenMode::Read | OpenMode::Write) {
                    return Err(error);
                }
                let (dir, name) = self.tree.parent(path)?;
                self.tree.create(dir, name, false)?
            }
            Err(error) => return Err(error),
        };
        self.tree.file(ino)?;
        self.tree.inode_mut(ino)?.opens += 1;
        Ok(ino)
    }

    fn write(
        &mut self,
        ino: Ino,
        offset: u64,
        data: &[Bytes],
        fault: Option<DiskFault>,
    ) -> io::Result<()> {
        self.touch(ino);
        let len: u64 = data.iter().map(|part| part.len() as u64).sum();
        if offset.saturating_add(len) > FILE_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let outcome = self.fail(Some(ino), fault);
        let needed = self.tree.file(ino)?.blocks_needed(offset, len);
        let outcome = outcome.and_then(|()| self.take_space(needed));
        // A failed write may have happened in part, if there is space for it.
        let mut left = match &outcome {
            Ok(()) => len,
            Err(error) if error.kind() == io::ErrorKind::StorageFull => 0,
            Err(_) => {
                self.blocks_spare = 0;
                self.decisions.choose(Kind::Fault, len + 1)
            }
        };
        let decisions = self.decisions.clone();
        let file = self.tree.file_mut(ino)?;
        let mut at = offset;
        for part in data {
            let take = left.min(part.len() as u64) as usize;
            if take > 0 {
                file.write(at, &part[..take], &decisions);
            }
            at += take as u64;
            left -= take as u64;
        }
        outcome
    }

    fn end_sync(&mut self, ino: Ino, plan: SyncPlan, fault: Option<DiskFault>) -> io::Result<()> {
        self.fail(Some(ino), fault)?;
        let decisions = self.decisions.clone();
        let file = self.tree.file_mut(ino)?;
        if fault == Some(DiskFault::FailedSync) {
            file.fail_sync(plan, &decisions);
            self.blocks_spare = 0;
            return Err(eio());
        }
        let rate = self.rates.lost_write;
        let ordered = fault == Some(DiskFault::LostWrite);
        let misdirected = ordered && decisions.choose(Kind::Fault, 2) == 1;
        let mut lost = 0;
        file.end_sync(plan, |_| {
            let hit = (ordered && !misdirected && lost == 0) || decisions.chance(Kind::Fault, rate);
            lost += u64::from(hit);
            hit
        });
        if misdirected && file.pages() > 1 {
            let from = decisions.choose(Kind::Fault, file.pages());
            let to = decisions.choose(Kind::Fault, file.pages());
            file.misdirect(from, to);
            self.blocks_spare = 0;
        }
        self.counts.add(DiskFault::LostWrite, lost.saturating_sub(u64::from(ordered)));
        Ok(())
    }
}

impl env::Disk for SimDisk {
    type File = SimFile;

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<SimFile> {
        let creates = matches!(mode, OpenMode::Create | OpenMode::CreateNew)
            && self.alive()?.tree.find(path).is_err();
        let op = if creates { Op::Names } else { Op::Open };
        let ino = self
            .operate(op, path, 0, |state, fault| {
                state.fail(None, fault)?;
                if creates {
                    state.take_space(1)?;
                }
                state.open(path, mode)
            })
            .await?;
        Ok(self.file(ino, path, mode != OpenMode::Read, false))
    }

    async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut missing: Vec<&Path> = Vec::new();
        {
            let state = self.alive()?;
            for ancestor in path.ancestors() {
                match state.tree.find(ancestor) {
                    Ok(ino) => {
                        state.tree.dir(ino)?;
                        break;
                    }
                    Err(_) => missing.push(ancestor),
                }
            }
        }
        for dir in missing.into_iter().rev() {
            self.operate(Op::Names, dir, 0, |state, fault| {
                state.fail(None, fault)?;
                if state.tree.find(dir).is_ok() {
                    return Ok(());
                }
                state.take_space(1)?;
                let (parent, name) = state.tree.parent(dir)?;
                state.tree.create(parent, name, true).map(|_| ())
            })
            .await?;
        }
        Ok(())
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.operate(Op::Read, path, 0, |state, fault| {
            state.fail(None, fault)?;
            let dir = state.tree.dir(state.tree.find(path)?)?;
            let mut entries = Vec::new();
            for (name, ino) in &dir.view {
                let inode = state.tree.inode(*ino)?;
                let (is_dir, len) = match &inode.body {
                    Body::Dir(_) => (true, 0),
                    Body::File(file) => (false, file.len()),
                };
                entries.push(DirEntry { name: name.clone(), is_dir, len });
            }
            Ok(entries)
        })
        .await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate(Op::Names, to, 0, |state, fault| {
            state.fail(None, fault)?;
            let (from, to) = (state.tree.parent(from)?, state.tree.parent(to)?);
            state.tree.rename(from, to)
        })
        .await
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.operate(Op::Names, path, 0, |state, fault| {
            state.fail(None, fault)?;
            state.tree.file(state.tree.find(path)?)?;
            let (dir, name) = state.tree.parent(path)?;
            state.tree.remove(dir, name)
        })
        .await
    }

    async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        // Depth first, one name at a time, so that a crash may leave any part.
        let mut todo = vec![(path.to_owned(), false)];
        while let Some((at, emptied)) = todo.pop() {
            let children: Option<Vec<PathBuf>> = {
                let state = self.alive()?;
                let ino = state.tree.find(&at)?;
                let dir = state.tree.dir(ino).ok();
                dir.map(|dir| dir.view.keys().map(|name| at.join(name)).collect())
            };
            if let Some(children) = children.filter(|_| !emptied) {
                todo.push((at, true));
                todo.extend(children.into_iter().map(|child| (child, false)));
                continue;
            }
            self.operate(Op::Names, &at, 0, |state, fault| {
                state.fail(None, fault)?;
                let (dir, name) = state.tree.parent(&at)?;
                state.tree.remove(dir, name)
            })
            .await?;
        }
        Ok(())
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.operate(Op::SyncNames, path, 0, |state, fault| {
            state.fail(None, fault)?;
            let ino = state.tree.find(path)?;
            state.tree.dir(ino)?;
            state.tree.sync_dir(ino);
            Ok(())
        })
        .await
    }

    async fn sync_all(&self, path: &Path) -> io::Result<()> {
        // A directory of the root is a file system: what others hold is neither synced nor an error here.
        let volume = volume_of(path);
        let mut plans = {
            let mut state = self.alive()?;
            let held = state.tree.below(state.tree.find(&volume)?);
            let dirty = state.tree.files_mut().filter(|(_, file)| file.is_dirty());
            let dirty = dirty.filter(|(ino, _)| held.contains(ino));
            dirty.map(|(ino, file)| (ino, file.begin_sync())).collect::<Vec<_>>()
        };
        self.operate(Op::SyncNames, path, plans.len() as u64, |state, fault| {
            state.fail(None, fault)?;
            for (ino, plan) in plans.drain(..) {
                if state.tree.inode(ino).is_ok() {
                    state.end_sync(ino, plan, None)?;
                }
            }
            let outside = state.tree.outside(state.tree.find(&volume)?);
            state.tree.sync_all_but(&outside);
            Ok(())
        })
        .await
    }

    async fn space(&self, path: &Path) -> io::Result<Space> {
        self.operate(Op::Read, path, 0, |state, _| {
            let page = PAGE_BYTES as u64;
            Ok(Space { total: state.blocks_total * page, available: state.blocks_free() * page })
        })
        .await
    }

    async fn lock(&self, path: &Path) -> io::Result<SimFile> {
        let ino = self
            .operate(Op::Open, path, 0, |state, fault| {
                state.fail(None, fault)?;
                let ino = state.open(path, OpenMode::Create)?;
                if state.locks.contains_key(&ino) {
                    state.tree.close(ino);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                state.locks.insert(ino, state.incarnation);
                Ok(ino)
            })
            .await?;
        Ok(self.file(ino, path, true, true))
    }

    async fn exists(&self, path: &Path) -> io::Result<bool> {
        self.operate(Op::Read, path, 0, |state, fault| {
            state.fail(None, fault)?;
            Ok(state.tree.find(path).is_ok())
        })
        .await
    }
}

impl SimFile {
    fn writable(&self) -> io::Result<()> {
        if self.0.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

impl env::File for SimFile {
    async fn write_at(&self, offset: u64, data: Vec<Bytes>) -> io::Result<()> {
        self.writable()?;
        let Handle { disk, ino, path, .. } = &*self.0;
        let size = offset ^ data.iter().map(|part| part.len() as u64).sum::<u64>();
        disk.operate(Op::Write, path, size, |state, fault| state.write(*ino, offset, &data, fault))
            .await
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let Handle { disk, ino, path, .. } = &*self.0;
        disk.operate(Op::Read, path, offset, |state, fault| {
            state.fail(Some(*ino), fault)?;
            state.touch(*ino);
            let refused = state.tree.inode(*ino)?.refused;
            if refused.is_some_and(|(start, end)| start < offset + len as u64 && offset < end) {
                return Err(eio());
            }
            let bytes = state.tree.file(*ino)?.read(offset, len);
            if fault != Some(DiskFault::BitRot) || bytes.is_empty() {
                return Ok(bytes);
            }
            let mut bytes = bytes.to_vec();
            let at = state.decisions.choose(Kind::Fault, bytes.len() as u64) as usize;
            bytes[at] ^= 1 << state.decisions.choose(Kind::Fault, 8);
            Ok(bytes.into())
        })
        .await
        .inspect_err(|_| self.0.read_failed.store(true, Ordering::Relaxed))
    }

    fn take_read_failure(&self) -> bool {
        self.0.read_failed.swap(false, Ordering::Relaxed)
    }

    async fn sync_data(&self) -> io::Result<()> {
        let Handle { disk, ino, path, .. } = &*self.0;
        let plan = disk.alive()?.tree.file_mut(*ino)?.begin_sync();
        disk.operate(Op::Sync, path, 0, |state, fault| state.end_sync(*ino, plan, fault)).await
    }

    async fn set_len(&self, len: u64) -> io::Result<()> {
        self.writable()?;
        let Handle { disk, ino, path, .. } = &*self.0;
        disk.operate(Op::Resize, path, len, |state, fault| {
            state.fail(Some(*ino), fault)?;
            if len > FILE_BYTES_MAX {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            state.tree.file_mut(*ino)?.set_len(len);
            Ok(())
        })
        .await
    }

    async fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.writable()?;
        let Handle { disk, ino, path, .. } = &*self.0;
        disk.operate(Op::Resize, path, offset ^ len, |state, fault| {
            state.fail(Some(*ino), fault)?;
            if offset.saturating_add(len) > FILE_BYTES_MAX {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            let needed = state.tree.file(*ino)?.blocks_needed(offset, len);
            state.take_space(needed)?;
            state.tree.file_mut(*ino)?.allocate(offset, len);
            Ok(())
        })
        .await
    }

    async fn len(&self) -> io::Result<u64> {
        let Handle { disk, ino, path, .. } = &*self.0;
        disk.operate(Op::Read, path, 0, |state, fault| {
            state.fail(Some(*ino), fault)?;
            Ok(state.tree.file(*ino)?.len())
        })
        .await
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.incarnation != self.disk.incarnation {
            return;
        }
        if self.locked {
            state.locks.remove(&self.ino);
        }
        state.tree.close(self.ino);
    }
}

/// The directory of the root that a path lies in: each is a file system on a device of its own.
fn volume_of(path: &Path) -> PathBuf {
    path.components().take(2).collect()
}

/// The error of a broken medium. Linux reports EIO, number 5.
fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

#[cfg(test)]
mod tests;
