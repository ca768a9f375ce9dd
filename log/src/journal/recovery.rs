//! The reading half: one streaming pass over what a crash, rot or a fault left of the journal.
//!
//! ```text
//!  1. headers       which file holds which lap; the directory's secret
//!  2. newest lap    what is proven durable, which group is the oldest needed, the highest number ever used
//!  3. walk          from the oldest group, group by group, frame by frame
//!  4. finish        a fresh lap repeats what nothing proves durable yet
//! ```
//!
//! The walk believes a group when its head's check is right, its number follows and it names the head before it; a frame
//! when its payload is the batches that the table vouches for, each with a right CRC. What it does not believe is, at or
//! below the proven durable point, reported damage (I14), and beyond it the end of the journal (E1).
//!
//! Memory: one window of [`WINDOW_BYTES`], one frame table and one frame at a time.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use env::{Disk, File, OpenMode};
use types::DirectoryId;
use types::mutant::{Mutant, planted};

use super::format::{
    BLOCK, DATA_START, Entry, FileHeader, GroupHead, HEAD_BYTES, HeaderRead, Prepared, Salt,
    decode_table, payload_is_intact, prepare,
};
use super::writer::{Lap, Slot, Start, failure, file_name, sync_dir};
use crate::ballast::Ballast;

use super::{
    Damage, FrameKey, Item, Journal, JournalError, JournalOptions, Position, Report, Tail,
};

/// How much is read at once.
const WINDOW_BYTES: u64 = 2 << 20;

/// A journal being recovered. Take every item with [`Recovery::next`], then [`Recovery::finish`].
#[derive(Debug)]
pub struct Recovery<D: Disk> {
    disk: D,
    dir: PathBuf,
    options: JournalOptions,
    salt: Salt,
    slots: Vec<Slot<D::File>>,
    /// The laps that count, in order.
    laps: Vec<Walk>,
    ordinal: u64,
    lap_highest: u64,
    /// Highest group number ever seen.
    highest: u64,
    /// Last group known durable.
    proven: u64,
    oldest: u64,
    /// A part of the newest lap could not be read, so nothing in it may be called a tear.
    is_unsure: bool,

    at: usize,
    offset: u64,
    /// The number that the walk expects.
    next: u64,
    /// The check of the group before, when it is known.
    previous: Option<u64>,
    group: Option<OpenGroup>,
    /// Groups that nothing proves durable, in order.
    unproven: Vec<Unproven>,
    ended: bool,
    window: Option<Window>,
    report: Report,
}

/// A lap and where it lies.
#[derive(Clone, Copy, Debug)]
struct Walk {
    slot: usize,
    lap: u64,
    first: u64,
    resumes: u64,
    previous: Option<u64>,
}

/// The group whose frames are being delivered.
#[derive(Debug)]
struct OpenGroup {
    number: u64,
    entries: VecDeque<Entry>,
    /// Where the next payload begins.
    offset: u64,
}

#[derive(Debug)]
struct Unproven {
    slot: usize,
    head: GroupHead,
    accepted: usize,
}

#[derive(Debug)]
struct Window {
    slot: usize,
    offset: u64,
    bytes: Bytes,
}

/// What the heads of a lap say together.
#[derive(Debug, Default)]
struct Scan {
    heads: Vec<GroupHead>,
    is_unsure: bool,
}

impl<D: Disk> Journal<D> {
    /// Begins to recover the journal in `dir`, which is created if it is not there.
    pub async fn recover(
        disk: &D,
        dir: &Path,
        directory_id: DirectoryId,
        options: JournalOptions,
    ) -> Result<Recovery<D>, JournalError> {
        Recovery::begin(disk, dir, directory_id, options).await
    }
}

impl<D: Disk> Recovery<D> {
    async fn begin(
        disk: &D,
        dir: &Path,
        directory_id: DirectoryId,
        options: JournalOptions,
    ) -> Result<Recovery<D>, JournalError> {
        create_dir(disk, dir).await?;
        let file_bytes = options.file_bytes.max(JournalOptions::FILE_BYTES_MIN);
        let options = JournalOptions { file_bytes: file_bytes.next_multiple_of(BLOCK), ..options };
        let mut recovery = Recovery {
            disk: disk.clone(),
            dir: dir.to_path_buf(),
            options,
            salt: Salt { directory_id, secret: options.secret },
            slots: Vec::new(),
            laps: Vec::new(),
            ordinal: 0,
            lap_highest: 0,
            highest: 0,
            proven: 0,
            oldest: 1,
            is_unsure: false,
            at: 0,
            offset: DATA_START,
            next: 1,
            previous: None,
            group: None,
            unproven: Vec::new(),
            ended: false,
            window: None,
            report: Report { groups: 0, frames: 0, bytes: 0, damaged: 0, tail: Tail::Clean },
        };
        recovery.open_files().await?;
        recovery.read_headers().await?;
        recovery.read_newest_lap().await?;
        recovery.drop_void_laps().await?;
        recovery.find_start();
        Ok(recovery)
    }

    /// The next frame, or the next part that is damaged; `None` at the end of the journal.
    pub async fn next(&mut self) -> Result<Option<Item>, JournalError> {
        loop {
            if self.ended {
                return Ok(None);
            }
            let Some(mut group) = self.group.take() else {
                if let Some(damage) = self.open_group().await? {
                    return Ok(Some(self.damaged(damage)));
                }
                continue;
            };
            let Some(entry) = group.entries.pop_front() else { continue };
            let slot = self.laps[self.at].slot;
            let offset = group.offset;
            group.offset += entry.payload_bytes;
            let number = group.number;
            let payload = self.read_payload(slot, offset, &entry, number).await?;
            match payload {
                Some(payload) => {
                    self.group = Some(group);
                    return Ok(Some(self.delivered(number, &entry, payload)));
                }
                None if self.is_proven(number) => {
                    self.group = Some(group);
                    let damage = self.damage(number, number, slot, offset, Some(entry.key()));
                    return Ok(Some(self.damaged(damage)));
                }
                None => self.end(Some(number))?,
            }
        }
    }

    /// Ends recovery: what nothing proves durable is repeated in a fresh lap and synced, with a mark behind it. When this
    /// returns, every frame delivered is durable; announce none of them before.
    pub async fn finish(self) -> Result<(Journal<D>, Report), JournalError> {
        self.finish_with(None).await
    }

    /// The same, on a full disk with space from the `ballast`.
    pub(crate) async fn finish_with(
        mut self,
        ballast: Option<&Ballast<D>>,
    ) -> Result<(Journal<D>, Report), JournalError> {
        while self.next().await?.is_some() {}
        let report = self.report.clone();
        if self.laps.is_empty() && self.highest == 0 {
            let journal = Journal::create(
                self.disk,
                self.dir,
                self.options,
                self.salt,
                self.slots,
                self.ordinal,
                ballast,
            );
            return Ok((journal.await?, report));
        }
        let (resumes, previous) = match self.unproven.first() {
            Some(group) => (group.head.resumes, group.head.previous),
            None => (self.next, self.previous.unwrap_or(0)),
        };
        let frames = self.read_unproven().await?;
        let start = Start {
            salt: self.salt,
            slots: self.slots,
            lap: self.lap_highest,
            ordinal: self.ordinal,
            next: self.next.max(self.highest + 1),
            resumes,
            oldest: self.oldest,
            previous,
        };
        let (disk, dir, options) = (self.disk, self.dir, self.options);
        let journal = Journal::resume(disk, dir, options, start, frames, ballast).await?;
        Ok((journal, report))
    }

    // Preparation.

    async fn open_files(&mut self) -> Result<(), JournalError> {
        let doing = "opening";
        for entry in self.disk.list(&self.dir).await.map_err(failure(doing))? {
            let Some(ordinal) = ordinal_of(&entry.name).filter(|_| !entry.is_dir) else { continue };
            let path = self.dir.join(&entry.name);
            let file = self.disk.open(&path, OpenMode::Write).await.map_err(failure(doing))?;
            let len = file.len().await.map_err(failure(doing))?;
            self.ordinal = self.ordinal.max(ordinal);
            // What a crash or a lack of space left short is reserved in full before its next use, if there is space.
            let bytes = self.options.file_bytes.max(len);
            self.slots.push(Slot {
                name: entry.name,
                file,
                bytes,
                reserved: false,
                written: len,
                lap: None,
            });
        }
        Ok(())
    }

    /// Finds each file's lap by its header, or, when both copies are unreadable, by the groups in it.
    async fn read_headers(&mut self) -> Result<(), JournalError> {
        let mut headers = Vec::new();
        for slot in 0..self.slots.len() {
            headers.push(self.read_header(slot).await?);
        }
        let newest = headers.iter().flatten().max_by_key(|header| header.lap);
        let Some(newest) = newest else { return self.expect_nothing().await };
        let found = newest.salt;
        if found.directory_id != self.salt.directory_id {
            return Err(JournalError::Foreign { found: found.directory_id });
        }
        self.salt = found;
        for (slot, header) in headers.into_iter().enumerate() {
            let header = header.filter(|header| header.salt == found);
            let head = self.first_head(slot).await;
            match (header, head) {
                (Some(header), Some(head)) if head.lap > header.lap => {
                    self.add_torn_lap(slot, &head)
                }
                (Some(header), _) => self.add_lap(slot, &header),
                (None, Some(head)) => self.add_torn_lap(slot, &head),
                (None, None) => self.add_lap_by_groups(slot).await,
            }
        }
        self.laps.sort_by_key(|walk| walk.lap);
        Ok(())
    }

    /// The newer of the header copies: a torn write may have left one of an earlier lap.
    async fn read_header(&mut self, slot: usize) -> Result<Option<FileHeader>, JournalError> {
        let mut newer = Vec::new();
        let mut newest: Option<FileHeader> = None;
        for copy in [0, BLOCK] {
            // An unreadable sector is like a wrong checksum: there is a copy, and the groups tell their lap too.
            let Ok(block) = self.slots[slot].file.read_at(copy, BLOCK as usize).await else {
                continue;
            };
            match FileHeader::decode(&block) {
                HeaderRead::Valid(header) => {
                    if newest.as_ref().is_none_or(|newest| newest.lap < header.lap) {
                        newest = Some(header);
                    }
                }
                HeaderRead::Newer(version) => newer.push(version),
                HeaderRead::Unreadable => {}
            }
        }
        match newer[..] {
            [version, copy] if version == copy => {
                Err(JournalError::Newer { file: self.slots[slot].name.clone(), version })
            }
            _ => Ok(newest),
        }
    }

    /// The head at a file's start, whatever its lap.
    async fn first_head(&mut self, slot: usize) -> Option<GroupHead> {
        let bytes = self.slots[slot].file.read_at(DATA_START, HEAD_BYTES).await.ok()?;
        GroupHead::decode(&bytes, &self.salt, None, DATA_START)
    }

    /// No header is readable: fine only for a journal that never held a group, since its first header was made durable
    /// before anything followed it.
    async fn expect_nothing(&mut self) -> Result<(), JournalError> {
        for slot in 0..self.slots.len() {
            let len = self.slots[slot].written;
            let mut offset = DATA_START;
            while offset < len {
                let bytes = self.slots[slot].file.read_at(offset, WINDOW_BYTES as usize).await;
                let bytes = bytes.map_err(failure("reading"))?;
                if bytes.iter().any(|&byte| byte != 0) {
                    return Err(JournalError::HeadersLost);
                }
                if bytes.is_empty() {
                    break;
                }
                offset += bytes.len() as u64;
            }
        }
        Ok(())
    }

    fn add_lap(&mut self, slot: usize, header: &FileHeader) {
        self.laps.push(Walk {
            slot,
            lap: header.lap,
            first: header.first,
            resumes: header.resumes,
            previous: Some(header.previous),
        });
        self.lap_highest = self.lap_highest.max(header.lap);
        self.highest = self.highest.max(header.first);
        self.proven = self.proven.max(header.durable);
        self.oldest = self.oldest.max(header.oldest);
    }

    /// A lap whose first group stands without its header: torn, and yet its number and its lap are used up.
    fn add_torn_lap(&mut self, slot: usize, head: &GroupHead) {
        self.laps.push(Walk {
            slot,
            lap: head.lap,
            first: head.number,
            resumes: head.resumes,
            previous: None,
        });
        self.lap_highest = self.lap_highest.max(head.lap);
        self.highest = self.highest.max(head.number);
        self.proven = self.proven.max(head.durable);
        self.oldest = self.oldest.max(head.oldest);
    }

    /// Neither header nor first group is readable: the latest lap that any group in the file tells.
    async fn add_lap_by_groups(&mut self, slot: usize) {
        let scan = self.scan(slot, None).await;
        let Some(lap) = scan.heads.iter().map(|head| head.lap).max() else { return };
        let first = scan.heads.iter().find(|head| head.lap == lap).map_or(0, |head| head.number);
        self.laps.push(Walk { slot, lap, first, resumes: first, previous: None });
        self.lap_highest = self.lap_highest.max(lap);
    }

    /// The newest lap holds the latest claims: later groups repeat them, so older laps have nothing to add.
    async fn read_newest_lap(&mut self) -> Result<(), JournalError> {
        let Some(newest) = self.laps.last().copied() else { return Ok(()) };
        let scan = self.scan(newest.slot, Some(newest.lap)).await;
        self.is_unsure = scan.is_unsure;
        for head in &scan.heads {
            self.highest = self.highest.max(head.number);
            self.proven = self.proven.max(head.durable);
            self.oldest = self.oldest.max(head.oldest);
        }
        Ok(())
    }

    /// Every valid head in a file, in order of place; of one lap if it is known.
    async fn scan(&mut self, slot: usize, lap: Option<u64>) -> Scan {
        let mut scan = Scan::default();
        let mut offset = DATA_START;
        let end = self.slots[slot].written;
        while offset < end {
            match self.read(slot, offset, HEAD_BYTES as u64).await {
                Ok(block) => scan.heads.extend(GroupHead::decode(&block, &self.salt, lap, offset)),
                Err(_) => scan.is_unsure = true,
            }
            offset += BLOCK;
        }
        scan
    }

    /// A lap that resumes below its own first number counts only if that first group is whole: a crash while it was
    /// written leaves the groups that it was to replace as they are.
    async fn drop_void_laps(&mut self) -> Result<(), JournalError> {
        let mut kept = Vec::new();
        for walk in std::mem::take(&mut self.laps) {
            self.slots[walk.slot].lap = Some(Lap {
                lap: walk.lap,
                first: walk.first,
                resumes: walk.resumes,
                used: self.slots[walk.slot].written,
            });
            if walk.first <= self.proven
                || walk.resumes == walk.first
                || self.is_first_whole(&walk).await?
            {
                kept.push(walk);
            } else {
                self.slots[walk.slot].lap = None;
            }
        }
        self.laps = kept;
        Ok(())
    }

    async fn is_first_whole(&mut self, walk: &Walk) -> Result<bool, JournalError> {
        let doing = "reading";
        let head = self.read_head(walk.slot, walk.lap, DATA_START).await.map_err(failure(doing))?;
        let head = head.filter(|head| head.number == walk.first && head.resumes == walk.resumes);
        let Some(head) = head else { return Ok(false) };
        let table = self.read_table(walk.slot, &head).await.map_err(failure(doing))?;
        let Some(entries) = table else { return Ok(false) };
        let mut offset = head.payload_offset();
        for entry in entries {
            if self.read_payload(walk.slot, offset, &entry, head.number).await?.is_none() {
                return Ok(false);
            }
            offset += entry.payload_bytes;
        }
        Ok(true)
    }

    fn find_start(&mut self) {
        let Some(first) = self.laps.first() else {
            self.next = self.highest + 1;
            self.ended = true;
            return;
        };
        if first.resumes > self.oldest {
            // The lap that held the oldest group is gone; the walk will say so.
            self.next = self.oldest;
            return;
        }
        self.at = self.laps.iter().rposition(|walk| walk.resumes <= self.oldest).unwrap_or(0);
        self.next = self.laps[self.at].first;
        self.previous = self.laps[self.at].previous;
        // A lap that nothing proves durable may vanish with the next power cut: those it replaces stay until a checkpoint.
        if self.next <= self.proven {
            for walk in &self.laps[..self.at] {
                self.slots[walk.slot].lap = None;
            }
        }
    }

    /// Whether a power cut now would leave that group.
    pub(crate) fn is_durable(&self, group: Position) -> bool {
        group.0 <= self.proven
    }

    // The walk.

    fn is_proven(&self, number: u64) -> bool {
        number <= self.proven && !planted(Mutant::TruncateAtFirstBadCrc)
    }

    /// Moves to the next group and opens it, or ends, or steps over what is damaged and returns that.
    async fn open_group(&mut self) -> Result<Option<Damage>, JournalError> {
        self.change_lap();
        let walk = self.laps[self.at];
        let number = self.next;
        let head = match self.read_head(walk.slot, walk.lap, self.offset).await {
            Ok(head) => head.filter(|head| {
                head.number == number && self.previous.is_none_or(|check| check == head.previous)
            }),
            Err(_) if self.is_proven(number) => None,
            Err(error) => return Err(JournalError::Io { doing: "reading", error }),
        };
        let Some(head) = head else {
            if self.is_proven(number) {
                return self.cross_hole().await;
            }
            self.end(None)?;
            return Ok(None);
        };
        self.next = number + 1;
        self.highest = self.highest.max(number);
        self.offset += head.group_bytes();
        self.previous = Some(head.check);
        if number > self.proven {
            self.unproven.push(Unproven { slot: walk.slot, head: head.clone(), accepted: 0 });
        }
        if number < self.oldest {
            return Ok(None);
        }
        let table = match self.read_table(walk.slot, &head).await {
            Ok(table) => table,
            Err(_) if self.is_proven(number) => None,
            Err(error) => return Err(JournalError::Io { doing: "reading", error }),
        };
        match table {
            Some(entries) => {
                self.report.groups += u64::from(!entries.is_empty());
                self.group = Some(OpenGroup {
                    number,
                    entries: entries.into(),
                    offset: head.payload_offset(),
                });
                Ok(None)
            }
            None if self.is_proven(number) => {
                Ok(Some(self.damage(number, number, walk.slot, head.offset, None)))
            }
            None => {
                self.end(Some(number))?;
                Ok(None)
            }
        }
    }

    /// Goes to the last later lap that takes over at the expected number, if one does.
    fn change_lap(&mut self) {
        let later = self.at + 1..self.laps.len();
        let Some(at) = later.rev().find(|&at| self.laps[at].resumes <= self.next) else { return };
        let walk = self.laps[at];
        self.settle_used();
        if walk.resumes != self.next {
            self.previous = None;
        }
        if walk.first != self.next {
            // It repeats what was valid of the groups it makes void, or drops them.
            self.unproven.retain(|group| group.head.number < walk.resumes);
        }
        self.at = at;
        self.next = walk.first;
        self.offset = DATA_START;
    }

    /// The walk leaves a lap: its groups reach as far as it came.
    fn settle_used(&mut self) {
        let slot = self.laps[self.at].slot;
        if let Some(lap) = &mut self.slots[slot].lap {
            lap.used = self.offset;
        }
    }

    /// The group expected here was durable and is not readable: finds where the journal goes on.
    async fn cross_hole(&mut self) -> Result<Option<Damage>, JournalError> {
        let walk = self.laps[self.at];
        let (first, offset) = (self.next, self.offset);
        let limit = self.laps[self.at + 1..].iter().map(|walk| walk.resumes).min();
        let end = self.slots[walk.slot].written;
        self.previous = None;
        let mut found = None;
        while self.offset < end {
            let head = self.read_head(walk.slot, walk.lap, self.offset).await.unwrap_or(None);
            found = head
                .map(|head| head.number)
                .filter(|&number| number > first && limit.is_none_or(|limit| number < limit));
            if found.is_some() {
                break;
            }
            self.offset += BLOCK;
        }
        self.next = match (found, limit) {
            (Some(number), _) => number,
            (None, Some(limit)) => limit.max(first + 1),
            (None, None) => {
                self.end(None)?;
                self.proven + 1
            }
        };
        let last = self.next - 1;
        Ok((last >= self.oldest)
            .then(|| self.damage(first.max(self.oldest), last, walk.slot, offset, None)))
    }

    /// The journal ends here; inside group `torn` if that is given.
    fn end(&mut self, torn: Option<u64>) -> Result<(), JournalError> {
        if self.is_unsure && self.at + 1 == self.laps.len() {
            // Sectors that cannot be read may have held acknowledged groups.
            let error = io::Error::other("the end of the journal cannot be read");
            return Err(JournalError::Io { doing: "reading", error });
        }
        self.settle_used();
        if let Some(number) = torn {
            let frames = self.unproven.last().map_or(0, |group| group.accepted as u64);
            self.report.tail = Tail::Torn { position: Position(number), frames };
        }
        self.ended = true;
        Ok(())
    }

    fn delivered(&mut self, number: u64, entry: &Entry, payload: Bytes) -> Item {
        self.report.frames += 1;
        self.report.bytes += payload.len() as u64;
        if let Some(group) = self.unproven.last_mut().filter(|group| group.head.number == number) {
            group.accepted += 1;
        }
        Item::Frame { position: Position(number), frame: entry.frame(payload) }
    }

    fn damaged(&mut self, damage: Damage) -> Item {
        self.report.damaged += 1;
        Item::Damaged(damage)
    }

    fn damage(
        &self,
        first: u64,
        last: u64,
        slot: usize,
        offset: u64,
        frame: Option<FrameKey>,
    ) -> Damage {
        Damage {
            first: Position(first),
            last: Position(last),
            frame,
            file: self.slots[slot].name.clone(),
            offset,
        }
    }

    /// The accepted frames of the groups that nothing proves durable, read once more.
    async fn read_unproven(&mut self) -> Result<Vec<Prepared>, JournalError> {
        let mut frames = Vec::new();
        for group in std::mem::take(&mut self.unproven) {
            if group.head.number < self.oldest {
                continue;
            }
            let doing = "reading back";
            let changed = || JournalError::Io {
                doing,
                error: io::Error::other("a group that was just read is unreadable"),
            };
            if group.accepted == 0 {
                continue;
            }
            let table = self.read_table(group.slot, &group.head).await.map_err(failure(doing))?;
            let mut offset = group.head.payload_offset();
            for entry in table.ok_or_else(changed)?.iter().take(group.accepted) {
                let number = group.head.number;
                let payload = self.read_payload(group.slot, offset, entry, number).await?;
                frames.push(entry.frame(payload.ok_or_else(changed)?));
                offset += entry.payload_bytes;
            }
        }
        prepare(frames)
    }

    // Reading.

    async fn read_head(
        &mut self,
        slot: usize,
        lap: u64,
        offset: u64,
    ) -> io::Result<Option<GroupHead>> {
        let bytes = self.read(slot, offset, HEAD_BYTES as u64).await?;
        Ok(GroupHead::decode(&bytes, &self.salt, Some(lap), offset))
    }

    async fn read_table(
        &mut self,
        slot: usize,
        head: &GroupHead,
    ) -> io::Result<Option<Vec<Entry>>> {
        let offset = head.offset + HEAD_BYTES as u64;
        let table = self.read(slot, offset, u64::from(head.table_bytes)).await?;
        Ok(decode_table(head, &table))
    }

    /// The payload of a frame of group `number`; `None` if it is not what was written. A read error of a group that may be
    /// the torn tail is an error: it must not be taken for a tear.
    async fn read_payload(
        &mut self,
        slot: usize,
        offset: u64,
        entry: &Entry,
        number: u64,
    ) -> Result<Option<Bytes>, JournalError> {
        if entry.plain.is_some() {
            return Ok(Some(Bytes::new()));
        }
        match self.read(slot, offset, entry.payload_bytes).await {
            Ok(payload) => Ok((payload.len() as u64 == entry.payload_bytes
                && payload_is_intact(&payload, entry.payload_check))
            .then_some(payload)),
            Err(_) if self.is_proven(number) => Ok(None),
            Err(error) => Err(JournalError::Io { doing: "reading", error }),
        }
    }

    /// `len` bytes at `offset` of a file, fewer at its end. No more is asked for than the file has.
    async fn read(&mut self, slot: usize, offset: u64, len: u64) -> io::Result<Bytes> {
        let end = self.slots[slot].written;
        let len = len.min(end.saturating_sub(offset));
        if len == 0 {
            return Ok(Bytes::new());
        }
        if let Some(window) = &self.window
            && window.slot == slot
            && window.offset <= offset
        {
            let from = offset - window.offset;
            if from + len <= window.bytes.len() as u64 {
                return Ok(window.bytes.slice(from as usize..(from + len) as usize));
            }
        }
        let file = self.slots[slot].file.clone();
        if len >= WINDOW_BYTES {
            return read_whole(&file, offset, len).await;
        }
        let wide = WINDOW_BYTES.min(end - offset);
        // One bad sector in the window must not hide the rest of it.
        match read_whole(&file, offset, wide).await {
            Ok(bytes) => {
                let some = bytes.slice(..bytes.len().min(len as usize));
                self.window = Some(Window { slot, offset, bytes });
                Ok(some)
            }
            Err(_) => read_whole(&file, offset, len).await,
        }
    }
}

/// Reads `len` bytes, or up to the end of the file.
async fn read_whole<F: File>(file: &F, offset: u64, len: u64) -> io::Result<Bytes> {
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let first = file.read_at(offset, len).await?;
    if first.len() >= len || first.is_empty() {
        return Ok(first);
    }
    let mut bytes = BytesMut::from(first);
    while bytes.len() < len {
        let more = file.read_at(offset + bytes.len() as u64, len - bytes.len()).await?;
        if more.is_empty() {
            break;
        }
        bytes.extend_from_slice(&more);
    }
    Ok(bytes.freeze())
}

/// Creates the directory if need be. Its name and those in it are synced in any case: a process that died may have created
/// them and not come to the sync, and files found here are written without another one.
async fn create_dir<D: Disk>(disk: &D, dir: &Path) -> Result<(), JournalError> {
    disk.create_dir_all(dir).await.map_err(failure("creating the directory of"))?;
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        sync_dir(disk, parent).await?;
    }
    sync_dir(disk, dir).await
}

fn ordinal_of(name: &str) -> Option<u64> {
    let ordinal: u64 = name.strip_suffix(".journal")?.parse().ok()?;
    (file_name(ordinal) == name && ordinal < u64::MAX).then_some(ordinal)
}
