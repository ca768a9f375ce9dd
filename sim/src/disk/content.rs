//! Bytes of one file twice: as the process sees them (the page cache) and as the medium holds them.
//!
//! Only pages that differ are kept twice, so that a sync costs what was written since the last one and a power cut costs
//! what was not synced. File size and data are apart: each may survive without the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::decisions::{Decisions, Kind};

/// Unit of the page cache and of a file system's blocks.
pub const PAGE_BYTES: usize = 4096;
/// Unit that the medium writes whole or tears.
pub const SECTOR_BYTES: usize = 512;
const PAGE: u64 = PAGE_BYTES as u64;

type Page = [u8; PAGE_BYTES];

/// One page of a file.
#[derive(Clone)]
pub enum Slot {
    /// Reads as zeros and takes no space.
    Hole,
    /// Reads as zeros and takes space.
    Zero,
    /// Bytes.
    Data(Arc<Page>),
}

impl Slot {
    fn to_page(&self) -> Page {
        match self {
            Slot::Hole | Slot::Zero => [0; PAGE_BYTES],
            Slot::Data(page) => **page,
        }
    }

    fn is_hole(&self) -> bool {
        matches!(self, Slot::Hole)
    }

    fn same(&self, other: &Slot) -> bool {
        match (self, other) {
            (Slot::Data(a), Slot::Data(b)) => Arc::ptr_eq(a, b),
            (Slot::Hole, Slot::Hole) | (Slot::Zero, Slot::Zero) => true,
            _ => false,
        }
    }
}

/// A page whose bytes on the medium are not the ones the process sees.
#[derive(Clone)]
struct Dirty {
    medium: Slot,
    /// What was written since the medium last had the page, by the number of syncs that had begun before.
    ranges: Vec<Written>,
    /// The kernel believes the page clean: no later sync writes it (a failed sync, a lost write).
    forgotten: bool,
}

/// Bytes of a page that were written.
#[derive(Clone, Copy)]
struct Written {
    from: u16,
    to: u16,
    /// Syncs that had begun before: only later ones cover these bytes.
    after: u64,
}

/// What a sync that has begun will have made durable when it ends.
pub struct SyncPlan {
    number: u64,
    pages: Vec<(u64, Slot)>,
    len: u64,
}

/// What one power cut did to a file.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CutReport {
    /// Unsynced pages that did not survive whole.
    pub pages_lost: u64,
    /// Of these, pages that survived in part or as garbage.
    pub pages_torn: u64,
}

/// Which bytes a power cut may turn into garbage.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Garbage {
    /// Only bytes written since the last sync: a rewritten sector keeps the bytes that did not change.
    #[default]
    WrittenBytes,
    /// The whole 4 KiB block that holds such a byte.
    WholeBlock,
}

/// Bytes of one file.
#[derive(Clone, Default)]
pub struct Content {
    slots: Vec<Slot>,
    len: u64,
    medium_len: u64,
    dirty: BTreeMap<u64, Dirty>,
    blocks: u64,
    syncs_begun: u64,
    /// The youngest sync that has ended. Older ones that end later know nothing newer.
    synced: u64,
}

impl Content {
    /// Size as the process sees it.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Blocks in use.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Whether a sync would have anything to do.
    pub fn is_dirty(&self) -> bool {
        self.medium_len != self.len || !self.dirty.is_empty()
    }

    /// Blocks that writing `len` bytes at `offset` would newly take.
    pub fn blocks_needed(&self, offset: u64, len: u64) -> u64 {
        if len == 0 {
            return 0;
        }
        let pages = offset / PAGE..=(offset + len - 1) / PAGE;
        pages.filter(|page| self.slot(*page).is_hole()).count() as u64
    }

    /// Up to `len` bytes from `offset`.
    pub fn read(&self, offset: u64, len: usize) -> Bytes {
        let end = self.len.min(offset.saturating_add(len as u64));
        if offset >= end {
            return Bytes::new();
        }
        let mut out = BytesMut::with_capacity((end - offset) as usize);
        let mut at = offset;
        while at < end {
            let within = (at % PAGE) as usize;
            let take = (PAGE_BYTES - within).min((end - at) as usize);
            match self.slot(at / PAGE) {
                Slot::Data(page) => out.extend_from_slice(&page[within..within + take]),
                Slot::Hole | Slot::Zero => out.resize(out.len() + take, 0),
            }
            at += take as u64;
        }
        out.freeze()
    }

    /// Writes into the page cache. Now and then the kernel has written an already dirty page back on its own before.
    pub fn write(&mut self, offset: u64, bytes: &[u8], decisions: &Decisions) {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let within = (at % PAGE) as usize;
            let take = (PAGE_BYTES - within).min(rest.len());
            let (now, later) = rest.split_at(take);
            self.write_page(at / PAGE, within, now, decisions);
            at += take as u64;
            rest = later;
        }
        self.len = self.len.max(offset + bytes.len() as u64);
    }

    fn write_page(&mut self, page: u64, within: usize, bytes: &[u8], decisions: &Decisions) {
        let dirty_already = self.dirty.get(&page).is_some_and(|dirty| !dirty.forgotten);
        if dirty_already && decisions.chance(Kind::Survival, 30_000) {
            self.dirty.remove(&page);
        }
        self.touch(page, within, within + bytes.len());
        if bytes.len() == PAGE_BYTES {
            let zero = bytes.iter().all(|byte| *byte == 0);
            let slot = if zero { Slot::Zero } else { Slot::Data(Arc::new(page_of(bytes))) };
            self.set_slot(page, slot);
            return;
        }
        self.make_room(page);
        let slot = &mut self.slots[page as usize];
        if slot.is_hole() {
            self.blocks += 1;
        }
        if let Slot::Data(page) = slot {
            Arc::make_mut(page)[within..within + bytes.len()].copy_from_slice(bytes);
        } else {
            let mut fresh = [0; PAGE_BYTES];
            fresh[within..within + bytes.len()].copy_from_slice(bytes);
            *slot = Slot::Data(Arc::new(fresh));
        }
    }

    /// Cuts or extends the file.
    pub fn set_len(&mut self, len: u64) {
        if len < self.len {
            let keep = len.div_ceil(PAGE);
            for page in keep..self.slots.len() as u64 {
                self.touch(page, 0, PAGE_BYTES);
                self.set_slot(page, Slot::Hole);
            }
            self.slots.truncate(keep as usize);
            let within = (len % PAGE) as usize;
            if within != 0 && !self.slot(len / PAGE).is_hole() {
                self.touch(len / PAGE, within, PAGE_BYTES);
                let mut bytes = self.slot(len / PAGE).to_page();
                bytes[within..].fill(0);
                self.set_slot(len / PAGE, Slot::Data(Arc::new(bytes)));
            }
        }
        self.len = len;
    }

    /// Takes space for a range without changing the size.
    pub fn allocate(&mut self, offset: u64, len: u64) {
        if len == 0 {
            return;
        }
        for page in offset / PAGE..=(offset + len - 1) / PAGE {
            if self.slot(page).is_hole() {
                self.set_slot(page, Slot::Zero);
            }
        }
    }

    /// Begins a sync: what is dirty now will be durable when it ends.
    pub fn begin_sync(&mut self) -> SyncPlan {
        self.syncs_begun += 1;
        let pages = self.dirty.iter().filter(|(_, dirty)| !dirty.forgotten);
        SyncPlan {
            number: self.syncs_begun,
            pages: pages.map(|(page, _)| (*page, self.slot(*page))).collect(),
            len: self.len,
        }
    }

    /// Ends a sync. Pages `lost` accepts never reach the medium although the sync says so (D10).
    pub fn end_sync(&mut self, plan: SyncPlan, mut lost: impl FnMut(u64) -> bool) {
        if plan.number < self.synced {
            return;
        }
        self.synced = plan.number;
        self.medium_len = plan.len;
        for (page, synced) in plan.pages {
            let now = self.slot(page);
            let Some(dirty) = self.dirty.get_mut(&page) else { continue };
            if lost(page) {
                dirty.forgotten = true;
            } else if now.same(&synced) {
                self.dirty.remove(&page);
            } else {
                // Written again meanwhile: the medium has what the sync took along.
                dirty.medium = synced;
                dirty.ranges.retain(|written| written.after >= plan.number);
            }
        }
    }

    /// A sync failed: the kernel marks the pages clean, the medium keeps what it had (D6). Some pages are dropped from
    /// the cache and read back old.
    pub fn fail_sync(&mut self, plan: SyncPlan, decisions: &Decisions) -> u64 {
        let mut forgotten = 0;
        for (page, _) in plan.pages {
            match decisions.choose(Kind::Survival, 3) {
                0 => _ = self.dirty.remove(&page),
                1 => {
                    if let Some(dirty) = self.dirty.get_mut(&page) {
                        dirty.forgotten = true;
                        forgotten += 1;
                    }
                }
                _ => {
                    if let Some(dirty) = self.dirty.remove(&page) {
                        self.set_slot(page, dirty.medium);
                        forgotten += 1;
                    }
                }
            }
        }
        forgotten
    }

    /// The power fails: what was not synced survives per page and sector as the choices have it.
    pub fn power_cut(&mut self, decisions: &Decisions, garbage: Garbage) -> CutReport {
        let mut report = CutReport::default();
        for (page, dirty) in std::mem::take(&mut self.dirty) {
            let view = self.slot(page);
            let fate = if dirty.forgotten { 0 } else { decisions.choose(Kind::Survival, 6) };
            let slot = match fate {
                0 | 1 => dirty.medium,
                2 | 3 => view,
                _ => {
                    report.pages_torn += 1;
                    torn(&dirty, &view, fate == 5, garbage, decisions)
                }
            };
            report.pages_lost += u64::from(!matches!(fate, 2 | 3));
            self.set_slot(page, slot);
        }
        if self.medium_len != self.len {
            let (low, high) = (self.medium_len.min(self.len), self.medium_len.max(self.len));
            let len = match decisions.choose(Kind::Survival, 5) {
                0 | 1 => self.medium_len,
                2 => self.len,
                3 => low + decisions.choose(Kind::Survival, high - low + 1),
                _ => {
                    let between = low + decisions.choose(Kind::Survival, high - low + 1);
                    (between / SECTOR_BYTES as u64 * SECTOR_BYTES as u64).max(low)
                }
            };
            self.len = len;
        }
        // Bytes past the end are not the file's.
        let len = self.len;
        self.len = u64::MAX;
        self.set_len(len);
        self.dirty.clear();
        self.medium_len = len;
        report
    }

    /// Whether a power cut now would certainly leave the bytes of `range` as the process sees them.
    pub fn is_durable(&self, offset: u64, len: u64) -> bool {
        let end = offset + len;
        end <= self.len.min(self.medium_len)
            && (len == 0
                || self.dirty.range(offset / PAGE..=(end - 1) / PAGE).all(|(page, dirty)| {
                    let base = page * PAGE;
                    !dirty.ranges.iter().any(|written| {
                        base + u64::from(written.from) < end
                            && base + u64::from(written.to) > offset
                    })
                }))
    }

    /// Flips bits on the medium, and in the cache as if the page had been read again (D9).
    pub fn rot(&mut self, offset: u64, mask: u8) {
        let page = offset / PAGE;
        let within = (offset % PAGE) as usize;
        if offset >= self.len {
            return;
        }
        let mut bytes = self.slot(page).to_page();
        bytes[within] ^= mask;
        self.set_slot(page, Slot::Data(Arc::new(bytes)));
        if let Some(dirty) = self.dirty.get_mut(&page) {
            let mut bytes = dirty.medium.to_page();
            bytes[within] ^= mask;
            dirty.medium = Slot::Data(Arc::new(bytes));
        }
    }

    /// Copies the page at `from` over the page at `to`, cache and medium (a misdirected write, D10).
    pub fn misdirect(&mut self, from: u64, to: u64) {
        let slot = self.slot(from);
        self.dirty.remove(&to);
        self.set_slot(to, slot);
    }

    /// Number of pages of the file.
    pub fn pages(&self) -> u64 {
        self.slots.len() as u64
    }

    fn slot(&self, page: u64) -> Slot {
        self.slots.get(page as usize).cloned().unwrap_or(Slot::Hole)
    }

    fn make_room(&mut self, page: u64) {
        if self.slots.len() <= page as usize {
            self.slots.resize(page as usize + 1, Slot::Hole);
        }
    }

    fn set_slot(&mut self, page: u64, slot: Slot) {
        if slot.is_hole() && page as usize >= self.slots.len() {
            return;
        }
        self.make_room(page);
        let place = &mut self.slots[page as usize];
        self.blocks -= u64::from(!place.is_hole());
        self.blocks += u64::from(!slot.is_hole());
        *place = slot;
    }

    fn touch(&mut self, page: u64, from: usize, to: usize) {
        let medium = self.slot(page);
        let dirty = self.dirty.entry(page).or_insert_with(|| Dirty {
            medium,
            ranges: Vec::new(),
            forgotten: false,
        });
        dirty.forgotten = false;
        let written = Written { from: from as u16, to: to as u16, after: self.syncs_begun };
        add_range(&mut dirty.ranges, written);
    }
}

fn page_of(bytes: &[u8]) -> Page {
    let mut page = [0; PAGE_BYTES];
    page.copy_from_slice(bytes);
    page
}

fn add_range(ranges: &mut Vec<Written>, mut new: Written) {
    ranges.retain(|old| {
        let apart = old.after != new.after || old.to < new.from || old.from > new.to;
        if !apart {
            new.from = new.from.min(old.from);
            new.to = new.to.max(old.to);
        }
        apart
    });
    ranges.push(new);
}

/// A page of which each sector survives on its own.
fn torn(dirty: &Dirty, view: &Slot, tear: bool, garbage: Garbage, decisions: &Decisions) -> Slot {
    let mut page = dirty.medium.to_page();
    let new = view.to_page();
    for start in (0..PAGE_BYTES).step_by(SECTOR_BYTES) {
        let sector = start..start + SECTOR_BYTES;
        match decisions.choose(Kind::Survival, if tear { 5 } else { 2 }) {
            0 => {}
            1 => page[sector.clone()].copy_from_slice(&new[sector]),
            2 => {
                let cut = start + decisions.choose(Kind::Survival, SECTOR_BYTES as u64) as usize;
                page[start..cut].copy_from_slice(&new[start..cut]);
            }
            3 => {
                let cut = start + decisions.choose(Kind::Survival, SECTOR_BYTES as u64) as usize;
                page[cut..sector.end].copy_from_slice(&new[cut..sector.end]);
            }
            _ => scribble(&mut page, &new, sector, dirty, garbage, decisions),
        }
    }
    Slot::Data(Arc::new(page))
}

/// Garbage in one sector: zeros, noise, or another sector of the same page.
fn scribble(
    page: &mut Page,
    new: &Page,
    sector: std::ops::Range<usize>,
    dirty: &Dirty,
    garbage: Garbage,
    decisions: &Decisions,
) {
    let mut noise = [0; SECTOR_BYTES];
    match decisions.choose(Kind::Survival, 3) {
        0 => {}
        1 => decisions.fill(&mut noise),
        _ => {
            let other =
                decisions.choose(Kind::Survival, (PAGE_BYTES / SECTOR_BYTES) as u64) as usize;
            let other = other * SECTOR_BYTES;
            noise.copy_from_slice(&new[other..other + SECTOR_BYTES]);
        }
    }
    // What the sector holds besides the written bytes did not change, whichever version survived.
    let whole = [Written { from: 0, to: PAGE_BYTES as u16, after: 0 }];
    let ranges = match garbage {
        Garbage::WrittenBytes => dirty.ranges.as_slice(),
        Garbage::WholeBlock => &whole,
    };
    for written in ranges {
        let from = sector.start.max(usize::from(written.from));
        let to = sector.end.min(usize::from(written.to));
        if from < to {
            page[from..to].copy_from_slice(&noise[from - sector.start..to - sector.start]);
        }
    }
}
