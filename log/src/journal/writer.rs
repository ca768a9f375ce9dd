//! The writing half: groups into files, files into laps.
//!
//! One value, one writer: every operation takes `&mut self` and ends with a sync. The journal counts as failed from the
//! first await of an operation until its success, so that an error, a time-out that drops the future and a crash look
//! alike: nothing is written through it again (I10, E10).

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use env::{Disk, File, OpenMode, is_full};
use types::mutant::{Mutant, planted};

use super::format::{
    BLOCK, DATA_START, FileHeader, GroupHead, HEAD_BYTES, Prepared, Salt, encode_group, prepare,
    push_zeros, round_up,
};
use crate::ballast::Ballast;

use super::{Frame, JournalError, JournalOptions, Position};

/// How far ahead of the groups a file is filled with zeros the first time through: overwriting written blocks syncs
/// faster than extending, and a step this large costs little per group.
const ZERO_AHEAD_BYTES: u64 = 1 << 20;
/// A group larger than this that does not fit is split over two files; a smaller one moves to the next file whole.
const SPLIT_BYTES: u64 = 1 << 20;
/// A file for which there is no space is made this short rather than not at all: dozens of groups, and a small part of the
/// ballast.
const SHORT_BYTES: u64 = 256 << 10;

/// A file of the journal.
#[derive(Debug)]
pub(super) struct Slot<F> {
    pub name: String,
    pub file: F,
    /// Space for groups in it.
    pub bytes: u64,
    /// Whether that much was reserved for it in this process: those that wrote it before may have died in between.
    pub reserved: bool,
    /// Bytes below this were written once.
    pub written: u64,
    /// What it holds; `None` when it is free.
    pub lap: Option<Lap>,
}

/// One use of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Lap {
    pub lap: u64,
    pub first: u64,
    pub resumes: u64,
    /// Bytes of groups in it.
    pub used: u64,
}

/// What may take the last blocks and the last spare file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Need {
    Data,
    Mark,
    /// Checkpoints give space back, so the last block of each file and the last spare file are theirs.
    Checkpoint,
}

impl Need {
    /// Bytes at a file's end that it must leave alone.
    fn reserve(self) -> u64 {
        match self {
            Need::Data => 2 * BLOCK,
            Need::Mark => BLOCK,
            Need::Checkpoint => 0,
        }
    }
}

/// The journal of one log directory.
#[derive(Debug)]
pub struct Journal<D: Disk> {
    disk: D,
    dir: PathBuf,
    options: JournalOptions,
    salt: Salt,
    slots: Vec<Slot<D::File>>,
    /// Where groups go now; `None` when the next one begins a lap.
    current: Option<usize>,
    /// Where in that file.
    offset: u64,
    lap: u64,
    ordinal: u64,
    next: u64,
    resumes: Option<u64>,
    durable: u64,
    oldest: u64,
    /// What the last synced group names as the oldest: files below it may be overwritten.
    claimed: u64,
    previous: u64,
    marked: bool,
    failed: bool,
    /// Files may be short where there is no space for whole ones.
    makes_do: bool,
}

/// Where a journal goes on.
#[derive(Debug)]
pub(super) struct Start<F> {
    pub salt: Salt,
    pub slots: Vec<Slot<F>>,
    /// Highest lap and file ordinal ever seen.
    pub lap: u64,
    pub ordinal: u64,
    /// Number of the next group.
    pub next: u64,
    /// First number that is void from here on.
    pub resumes: u64,
    pub oldest: u64,
    /// Check of the last group before `resumes`.
    pub previous: u64,
}

impl<D: Disk> Journal<D> {
    /// Goes on in a fresh lap that repeats `frames`, the content of the groups from `start.resumes` on. On a full disk the
    /// file for it comes from the ballast.
    pub(super) async fn resume(
        disk: D,
        dir: PathBuf,
        options: JournalOptions,
        start: Start<D::File>,
        frames: Vec<Prepared>,
        ballast: Option<&Ballast<D>>,
    ) -> Result<Journal<D>, JournalError> {
        let mut journal = Journal {
            disk,
            dir,
            options,
            salt: start.salt,
            slots: start.slots,
            current: None,
            offset: 0,
            lap: start.lap,
            ordinal: start.ordinal,
            next: start.next,
            resumes: Some(start.resumes),
            durable: start.resumes - 1,
            oldest: start.oldest,
            claimed: 0,
            previous: start.previous,
            marked: true,
            failed: true,
            makes_do: true,
        };
        let slot = journal.reserve_first(group_bytes(&frames), ballast).await?;
        journal.write_group(Some(slot), frames).await?;
        journal.failed = false;
        journal.mark().await?;
        Ok(journal)
    }

    /// A new journal in an empty directory: one file with a durable header, so that a journal that ever held a group
    /// also holds its secret.
    pub(super) async fn create(
        disk: D,
        dir: PathBuf,
        options: JournalOptions,
        salt: Salt,
        slots: Vec<Slot<D::File>>,
        ordinal: u64,
        ballast: Option<&Ballast<D>>,
    ) -> Result<Journal<D>, JournalError> {
        let mut journal = Journal {
            disk,
            dir,
            options,
            salt,
            slots,
            current: None,
            offset: 0,
            lap: 0,
            ordinal,
            next: 1,
            resumes: None,
            durable: 0,
            oldest: 1,
            claimed: 0,
            previous: 0,
            marked: true,
            failed: true,
            makes_do: true,
        };
        let index = journal.reserve_first(0, ballast).await?;
        let header = journal.begin_lap(index);
        // Nothing else goes with it: content behind unreadable headers means that there were groups.
        let slot = &mut journal.slots[index];
        let written = slot.file.write_and_sync(0, vec![header]).await;
        written.map_err(failure("writing the first header of"))?;
        slot.written = slot.written.max(DATA_START);
        journal.failed = false;
        Ok(journal)
    }

    /// Writes `frames` as one group (several, if they fill more than a file) and syncs it. When this returns `Ok` a power
    /// cut no longer takes them. The position is that of the first group.
    ///
    /// [`JournalError::NoSpace`] and [`JournalError::InvalidFrame`] leave everything as it was; any other error is final,
    /// and so is dropping the future (I10, I13).
    pub async fn append_group(&mut self, frames: Vec<Frame>) -> Result<Position, JournalError> {
        self.check_alive()?;
        if frames.is_empty() {
            return Err(JournalError::InvalidFrame("a group holds at least one frame"));
        }
        let frames = prepare(frames)?;
        let position = self.next_position();
        self.append(frames, Need::Data).await?;
        Ok(position)
    }

    /// Writes an empty group that names the last one durable, unless the last one is such a group. To be called when the
    /// directory goes idle: rot in a group is told from a tear only once it has a successor.
    pub async fn mark(&mut self) -> Result<(), JournalError> {
        self.check_alive()?;
        if self.needs_mark() { self.append(Vec::new(), Need::Mark).await } else { Ok(()) }
    }

    /// Whether [`Journal::mark`] would write.
    pub fn needs_mark(&self) -> bool {
        !self.marked
    }

    /// Declares that replay needs no group before `oldest`: their effects are synced elsewhere. Once that is durable,
    /// files that hold only older groups are recycled.
    pub async fn checkpoint(&mut self, oldest: Position) -> Result<(), JournalError> {
        self.check_alive()?;
        let oldest = oldest.0.clamp(self.oldest, self.next);
        if oldest > self.claimed || self.needs_mark() {
            // The claim is true whether or not its group reaches the disk, so it may stand before.
            self.oldest = oldest;
            self.append(Vec::new(), Need::Checkpoint).await?;
        }
        self.recycle().await
    }

    /// The position that the next group will have: as an argument of [`Journal::checkpoint`], "nothing is needed".
    pub fn next_position(&self) -> Position {
        Position(self.next)
    }

    /// First position that replay would read.
    pub fn oldest_position(&self) -> Position {
        Position(self.oldest)
    }

    /// Bytes that replay would have to read.
    pub fn bytes_live(&self) -> u64 {
        self.slots.iter().filter_map(|slot| slot.lap).map(|lap| lap.used).sum()
    }

    /// Bytes that the files behind the current one keep from being used again, full or not.
    fn bytes_held(&self) -> u64 {
        let current = self.lap;
        let is_behind = |slot: &&Slot<D::File>| slot.lap.is_some_and(|lap| lap.lap != current);
        self.slots.iter().filter(is_behind).map(|slot| slot.bytes).sum()
    }

    /// Whether it is time for a checkpoint, so that [`JournalOptions::total_bytes`] holds without a stall, on the disk
    /// too: a start begins a file of its own, and many that end in crashes would leave as many files with little in them.
    /// A short file is soon full: the whole ones behind it are wanted then, and by the next start.
    pub fn needs_checkpoint(&self) -> bool {
        self.bytes_live() > self.options.total_bytes / 2
            || self.bytes_held() >= self.options.total_bytes
            || (self.is_short() && self.bytes_held() > 0)
    }

    /// Whether groups go to a file for which there was no space.
    fn is_short(&self) -> bool {
        self.current.is_some_and(|at| self.slots[at].bytes < self.options.file_bytes)
    }

    /// From now on, whether files may be short where there is no space for whole ones, after checkpoints have freed all
    /// that they could.
    pub fn set_makes_do(&mut self, makes_do: bool) {
        self.makes_do = makes_do;
    }

    /// A position worth a checkpoint: making everything before it stable frees about half of the live bytes, oldest
    /// first; of all behind a short file.
    pub fn checkpoint_target(&self) -> Position {
        if self.is_short() {
            return self.next_position();
        }
        let mut laps: Vec<Lap> = self.slots.iter().filter_map(|slot| slot.lap).collect();
        laps.sort_by_key(|lap| lap.lap);
        let half = self.bytes_live() / 2;
        let mut bytes = 0;
        for lap in laps {
            if bytes > half {
                return Position(lap.first.max(self.oldest));
            }
            bytes += lap.used;
        }
        self.next_position()
    }

    /// Whether the journal has failed; it stays failed until a restart (I10).
    pub fn is_failed(&self) -> bool {
        self.failed
    }

    fn check_alive(&self) -> Result<(), JournalError> {
        if self.failed { Err(JournalError::Failed) } else { Ok(()) }
    }

    async fn append(&mut self, frames: Vec<Prepared>, need: Need) -> Result<(), JournalError> {
        self.failed = true;
        let result = self.append_groups(frames, need).await;
        // Space is reserved before the first byte is written.
        self.failed = !matches!(result, Ok(()) | Err(JournalError::NoSpace));
        result
    }

    async fn append_groups(
        &mut self,
        frames: Vec<Prepared>,
        need: Need,
    ) -> Result<(), JournalError> {
        let (here, fresh) = self.plan(frames, need);
        let mut slots = Vec::with_capacity(fresh.len());
        for group in &fresh {
            slots.push(self.reserve(group_bytes(group), &slots).await?);
        }
        if need == Need::Data && !fresh.is_empty() {
            self.reserve(0, &slots).await?;
        }
        if let Some(group) = here {
            self.write_group(None, group).await?;
        }
        for (slot, group) in slots.into_iter().zip(fresh) {
            self.write_group(Some(slot), group).await?;
        }
        Ok(())
    }

    /// Cuts `frames` into the group that goes on in the present file, if any, and groups that begin a file each.
    fn plan(
        &self,
        frames: Vec<Prepared>,
        need: Need,
    ) -> (Option<Vec<Prepared>>, Vec<Vec<Prepared>>) {
        let room = match self.current {
            Some(index) => {
                self.slots[index].bytes.saturating_sub(self.offset).saturating_sub(need.reserve())
            }
            None => 0,
        };
        let bytes = group_bytes(&frames);
        if bytes <= room {
            return (Some(frames), Vec::new());
        }
        let mut frames = VecDeque::from(frames);
        let here = if bytes > SPLIT_BYTES && room > SPLIT_BYTES {
            Some(take_group(&mut frames, room)).filter(|group| !group.is_empty())
        } else {
            None
        };
        let capacity = self.options.file_bytes - DATA_START - Need::Data.reserve();
        let mut fresh = Vec::new();
        loop {
            let mut group = take_group(&mut frames, capacity);
            if group.is_empty() {
                // One frame that is larger than a file gets a file of its own size.
                group.extend(frames.pop_front());
            }
            fresh.push(group);
            if frames.is_empty() {
                return (here, fresh);
            }
        }
    }

    /// The file that this process begins with. On a full disk pieces of the `ballast` make room for a short one: nothing is
    /// read or deleted without.
    async fn reserve_first(
        &mut self,
        bytes: u64,
        ballast: Option<&Ballast<D>>,
    ) -> Result<usize, JournalError> {
        loop {
            match (self.reserve(bytes, &[]).await, ballast) {
                (Err(JournalError::NoSpace), Some(ballast)) if ballast.spend().await => {}
                (reserved, _) => {
                    self.makes_do = false;
                    return reserved;
                }
            }
        }
    }

    /// A free file with room for a group of `bytes`, other than those `taken`; a short one where there is no space for a
    /// whole one and that will do.
    async fn reserve(&mut self, bytes: u64, taken: &[usize]) -> Result<usize, JournalError> {
        let least = DATA_START + bytes + Need::Data.reserve();
        let whole = least.max(self.options.file_bytes);
        match self.reserve_file(whole, taken).await {
            Err(JournalError::NoSpace) if self.makes_do && !planted(Mutant::WholeFilesOnly) => {
                self.reserve_file(least.max(SHORT_BYTES).min(whole), taken).await
            }
            reserved => reserved,
        }
    }

    /// A free file of at least `bytes`, other than those `taken`; creates one if need be.
    async fn reserve_file(&mut self, bytes: u64, taken: &[usize]) -> Result<usize, JournalError> {
        let mut free: Vec<usize> = (0..self.slots.len())
            .filter(|at| self.slots[*at].lap.is_none() && self.slots[*at].bytes >= bytes)
            .filter(|at| !taken.contains(at))
            .collect();
        // What needs no space first.
        free.sort_by_key(|at| !self.slots[*at].reserved);
        for index in free {
            match self.slots[index].reserve(bytes, self.options.file_bytes).await {
                Err(JournalError::NoSpace) => {}
                reserved => return reserved.map(|()| index),
            }
        }
        self.create_slot(bytes).await
    }

    async fn create_slot(&mut self, bytes: u64) -> Result<usize, JournalError> {
        self.ordinal += 1;
        let name = file_name(self.ordinal);
        let path = self.dir.join(&name);
        let created = async {
            let file = self.disk.open(&path, OpenMode::CreateNew).await?;
            file.allocate(0, bytes).await?;
            io::Result::Ok(file)
        };
        let file = match created.await {
            Ok(file) => file,
            Err(error) if is_full(&error) => {
                // Without its blocks the file is of no use; that it stays would do no harm.
                let _ = self.disk.remove_file(&path).await;
                return Err(JournalError::NoSpace);
            }
            Err(error) => return Err(JournalError::Io { doing: "creating a file of", error }),
        };
        if !planted(Mutant::DirectoryNotSynced) {
            sync_dir(&self.disk, &self.dir).await?;
        }
        self.slots.push(Slot { name, file, bytes, reserved: true, written: 0, lap: None });
        Ok(self.slots.len() - 1)
    }

    /// Takes the free file at `index` for the groups from now on; the header to be written before the first of them.
    fn begin_lap(&mut self, index: usize) -> Bytes {
        self.lap += 1;
        let resumes = self.resumes.unwrap_or(self.next);
        let header = FileHeader {
            salt: self.salt,
            lap: self.lap,
            first: self.next,
            resumes,
            durable: self.durable,
            oldest: self.oldest,
            previous: self.previous,
        };
        let slot = &mut self.slots[index];
        assert!(slot.lap.is_none(), "only a free file is overwritten");
        slot.lap = Some(Lap { lap: self.lap, first: self.next, resumes, used: DATA_START });
        self.current = Some(index);
        self.offset = DATA_START;
        header.encode()
    }

    /// Writes and syncs one group, in the present file or, with `fresh`, at the start of that one.
    async fn write_group(
        &mut self,
        fresh: Option<usize>,
        frames: Vec<Prepared>,
    ) -> Result<(), JournalError> {
        let has_frames = !frames.is_empty();
        let mut parts = Vec::with_capacity(frames.len() * 2 + 20);
        let mut start = self.offset;
        if let Some(index) = fresh {
            parts.push(self.begin_lap(index));
            start = 0;
        }
        let mut head = GroupHead {
            frames: 0,
            lap: self.lap,
            number: self.next,
            resumes: self.resumes.unwrap_or(self.next),
            durable: self.durable,
            oldest: self.oldest,
            previous: self.previous,
            offset: self.offset,
            payload_bytes: 0,
            table_bytes: 0,
            table_check: 0,
            check: 0,
        };
        encode_group(&self.salt, &mut head, frames, &mut parts);
        let end = self.offset + head.group_bytes();
        let index = self.current.expect("a group has a file");
        let slot = &mut self.slots[index];
        assert!(end <= slot.bytes, "group {} was planned to fit its file", head.number);
        if end > slot.written {
            let ahead = zeros_up_to(end, slot.bytes);
            push_zeros(&mut parts, ahead - end);
            slot.written = ahead;
        }
        write_and_sync(&slot.file, start, parts).await?;
        if let Some(lap) = &mut slot.lap {
            lap.used = end;
        }
        self.offset = end;
        self.durable = head.number;
        self.claimed = head.oldest;
        self.previous = head.check;
        self.next = head.number + 1;
        self.resumes = None;
        self.marked = !has_frames;
        Ok(())
    }

    /// Frees the files that hold only groups before the oldest one needed. The claim is durable by now; the present file,
    /// which holds the claim, is never among them.
    async fn recycle(&mut self) -> Result<(), JournalError> {
        let mut laps: Vec<(u64, u64, usize)> = Vec::new();
        for (index, slot) in self.slots.iter().enumerate() {
            laps.extend(slot.lap.map(|lap| (lap.lap, lap.resumes, index)));
        }
        laps.sort_unstable();
        for (at, &(_, _, index)) in laps.iter().enumerate() {
            let needed_from = laps[at + 1..].iter().map(|&(_, resumes, _)| resumes).min();
            if needed_from.is_some_and(|resumes| resumes <= self.claimed) {
                self.slots[index].lap = None;
            }
        }
        let whole = self.options.file_bytes;
        for slot in self.slots.iter_mut().filter(|slot| slot.lap.is_none() && slot.bytes < whole) {
            // Its next use may find space for all of it.
            (slot.bytes, slot.reserved) = (whole, false);
        }
        let mut bytes: u64 = self.slots.iter().map(|slot| slot.bytes).sum();
        let mut index = self.slots.len();
        while index > 0 {
            index -= 1;
            let slot = &self.slots[index];
            let is_surplus = bytes > self.options.total_bytes.max(3 * whole);
            if slot.lap.is_some() || !(is_surplus || slot.bytes != whole) {
                continue;
            }
            bytes -= slot.bytes;
            let path = self.dir.join(&slot.name);
            self.failed = true;
            self.disk.remove_file(&path).await.map_err(failure("removing a file of"))?;
            self.failed = false;
            self.slots.remove(index);
            self.current = self.current.map(|at| if at > index { at - 1 } else { at });
        }
        Ok(())
    }
}

impl<F: File> Slot<F> {
    /// Makes sure of its blocks, or of `bytes` of them if those are fewer than a whole file's `whole`.
    async fn reserve(&mut self, bytes: u64, whole: u64) -> Result<(), JournalError> {
        if self.reserved {
            return Ok(());
        }
        let wanted = if bytes < whole { bytes.max(self.written) } else { self.bytes };
        match self.file.allocate(0, wanted).await {
            Ok(()) => {
                self.bytes = wanted;
                self.reserved = true;
                Ok(())
            }
            Err(error) if is_full(&error) => {
                // Some file systems keep what they could reserve: others may need it.
                let _ = self.file.set_len(self.written).await;
                Err(JournalError::NoSpace)
            }
            Err(error) => Err(JournalError::Io { doing: "reserving a file of", error }),
        }
    }
}

/// Takes frames from the front while they fit a group of `room` bytes.
fn take_group(frames: &mut VecDeque<Prepared>, room: u64) -> Vec<Prepared> {
    let mut group = Vec::new();
    let mut bytes = HEAD_BYTES as u64;
    while let Some(frame) = frames.front() {
        bytes += frame.bytes();
        if round_up(bytes) > room {
            break;
        }
        group.extend(frames.pop_front());
    }
    group
}

fn group_bytes(frames: &[Prepared]) -> u64 {
    round_up(HEAD_BYTES as u64 + frames.iter().map(Prepared::bytes).sum::<u64>())
}

/// Where the zeros after a group that ends at `end` stop.
fn zeros_up_to(end: u64, file_bytes: u64) -> u64 {
    ((end / ZERO_AHEAD_BYTES + 1) * ZERO_AHEAD_BYTES).min(file_bytes).max(end)
}

async fn write_and_sync<F: File>(
    file: &F,
    offset: u64,
    parts: Vec<Bytes>,
) -> Result<(), JournalError> {
    let mut result = file.write_and_sync(offset, parts).await;
    if result.is_err() && planted(Mutant::RetryFailedSync) {
        result = file.sync_data().await;
    }
    result.map_err(failure("writing a group of"))
}

pub(super) async fn sync_dir<D: Disk>(disk: &D, dir: &Path) -> Result<(), JournalError> {
    disk.sync_dir(dir).await.map_err(failure("syncing the directory of"))
}

pub(super) fn failure(doing: &'static str) -> impl Fn(io::Error) -> JournalError {
    move |error| JournalError::Io { doing, error }
}

/// Name of the file that was created as the `ordinal`-th.
pub(super) fn file_name(ordinal: u64) -> String {
    format!("{ordinal:020}.journal")
}
