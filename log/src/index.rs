//! The sparse indexes of one segment: offset to position, and timestamp to offset. Both are a function of the segment's
//! bytes and the interval (I5); a file that is missing, short, torn or ahead of its log is rebuilt (E3).
//!
//! ```text
//!  batches    |b0 |b1 |b2 |b3    |b4 |b5 |b6 |b7 |     one entry per interval, always at a batch boundary
//!  offsets        (implied: b0 at 0)    b3 ──► position of b3        b6 ──► position of b6
//!  times      "no batch before b3 has a timestamp above t"           only when t has grown since the last entry
//! ```
//!
//! In a file the entries stand in blocks, each with its checksum and the segment bytes it covers, so that a checkpoint
//! appends what is new and a torn tail of the file costs only its last block:
//!
//! ```text
//!  file   envelope of an empty payload with the segment's base offset (24 bytes), blocks
//!  block  length (4)  crc32c (4)  covered (8)  count (4)  [time index: largest timestamp (8), its offset (8),
//!         first append (8), last append (8); -1 is unknown]  entries
//!  entry  offset index: relative offset (4), position (4) · time index: timestamp (8), relative offset (4)
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use record::BatchHeader;
use types::{Offset, Timestamp};

use crate::layout::{
    ENVELOPE_BYTES, MAGIC_INDEX, MAGIC_TIME_INDEX, Unsealed, crc32c, seal, unseal,
};

/// Bytes of an index file before its first block.
const HEAD_BYTES: usize = ENVELOPE_BYTES + 8;
/// Bytes of a block before its entries, without the two leading words.
const BLOCK_BYTES: usize = 12;
const TIMES_BYTES: usize = 32;
const OFFSET_ENTRY_BYTES: usize = 8;
const TIME_ENTRY_BYTES: usize = 12;

/// A batch boundary of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    pub offset: Offset,
    pub position: u64,
}

/// The largest timestamp of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Latest {
    pub timestamp: Timestamp,
    /// Base offset of the first batch that bears it.
    pub batch: Offset,
}

/// When a segment was appended to, by the broker's clock; `None` is unknown (rebuilt).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ages {
    pub first_append: Option<Timestamp>,
    pub last_append: Option<Timestamp>,
}

/// Both indexes of one segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Index {
    base: Offset,
    interval: u32,
    offsets: Vec<(u32, u32)>,
    times: Vec<(i64, u32)>,
    latest: Option<Latest>,
    /// Segment bytes described.
    covered: u64,
    saved: Saved,
}

/// What of an index its files hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Saved {
    offsets: usize,
    times: usize,
    offset_file: u64,
    time_file: u64,
    covered: u64,
}

/// Bytes to append to the two files of an index.
#[derive(Debug)]
pub(crate) struct Blocks {
    pub offset_file: (u64, Bytes),
    pub time_file: (u64, Bytes),
}

impl Index {
    /// The index of an empty segment.
    pub fn new(base: Offset, interval: u32) -> Index {
        Index {
            base,
            interval,
            offsets: Vec::new(),
            times: Vec::new(),
            latest: None,
            covered: 0,
            saved: Saved::default(),
        }
    }

    /// Segment bytes described.
    pub fn covered(&self) -> u64 {
        self.covered
    }

    /// Bytes described that the files do not describe yet.
    pub fn unsaved(&self) -> u64 {
        self.covered - self.saved.covered.min(self.covered)
    }

    /// The largest timestamp.
    pub fn latest(&self) -> Option<Latest> {
        self.latest
    }

    /// Size the larger file will have.
    pub fn bytes(&self) -> usize {
        (self.offsets.len() * OFFSET_ENTRY_BYTES).max(self.times.len() * TIME_ENTRY_BYTES)
    }

    /// A batch follows what is covered.
    pub fn add(&mut self, header: &BatchHeader) {
        let position = self.covered;
        let last = self.offsets.last().map_or(0, |&(_, position)| u64::from(position));
        if position > 0 && position - last >= u64::from(self.interval) {
            let relative = u32::try_from(header.base_offset().since(self.base))
                .expect("a segment spans less than 2^31 offsets");
            let position = u32::try_from(position).expect("a segment is below 4 GiB");
            self.offsets.push((relative, position));
            if let Some(latest) = self.latest {
                let grown = self.times.last().is_none_or(|&(time, _)| time < latest.timestamp.0);
                if grown {
                    self.times.push((latest.timestamp.0, relative));
                }
            }
        }
        self.covered += header.bytes_total() as u64;
        if let Some(timestamp) = header.max_timestamp()
            && self.latest.is_none_or(|latest| latest.timestamp < timestamp)
        {
            self.latest = Some(Latest { timestamp, batch: header.base_offset() });
        }
    }

    /// The files could not be written: the next save writes them whole.
    pub fn forget_saved(&mut self) {
        self.saved = Saved::default();
    }

    /// Bytes up to `position` are damaged: the index goes on behind them.
    pub fn skip_to(&mut self, position: u64) {
        self.covered = self.covered.max(position);
    }

    fn mark(&self, &(relative, position): &(u32, u32)) -> Mark {
        Mark { offset: self.base.plus(i64::from(relative)), position: u64::from(position) }
    }

    fn first(&self) -> Mark {
        Mark { offset: self.base, position: 0 }
    }

    /// The last mark at or below `offset`.
    pub fn floor(&self, offset: Offset) -> Mark {
        let next = self
            .offsets
            .partition_point(|&(relative, _)| self.base.plus(i64::from(relative)) <= offset);
        next.checked_sub(1).map_or(self.first(), |at| self.mark(&self.offsets[at]))
    }

    /// The last mark at or below `position`.
    pub fn floor_position(&self, position: u64) -> Mark {
        let next = self.offsets.partition_point(|&(_, at)| u64::from(at) <= position);
        next.checked_sub(1).map_or(self.first(), |at| self.mark(&self.offsets[at]))
    }

    /// The first mark beyond `position`.
    pub fn above_position(&self, position: u64) -> Option<Mark> {
        let next = self.offsets.partition_point(|&(_, at)| u64::from(at) <= position);
        self.offsets.get(next).map(|entry| self.mark(entry))
    }

    /// Where to start looking for the first batch with a timestamp of at least `target`: no batch before has one.
    pub fn before_time(&self, target: Timestamp) -> Mark {
        let next = self.times.partition_point(|&(time, _)| time < target.0);
        match next.checked_sub(1) {
            Some(at) => self.floor(self.base.plus(i64::from(self.times[at].1))),
            None => self.first(),
        }
    }

    /// Entries that the files do not hold yet, as blocks to append (and the files' heads, if they are new). Only what
    /// describes bytes below `covered` is taken; the caller has these bytes synced before or together with the files.
    pub fn unsaved_blocks(&mut self, ages: Ages) -> Blocks {
        let offsets = &self.offsets[self.saved.offsets..];
        let mut body = BytesMut::with_capacity(offsets.len() * OFFSET_ENTRY_BYTES);
        for &(relative, position) in offsets {
            body.put_u32(relative);
            body.put_u32(position);
        }
        let offset_block =
            self.block(MAGIC_INDEX, self.saved.offset_file, offsets.len(), &[], &body);

        let times = &self.times[self.saved.times..];
        let mut body = BytesMut::with_capacity(times.len() * TIME_ENTRY_BYTES);
        for &(time, relative) in times {
            body.put_i64(time);
            body.put_u32(relative);
        }
        let mut facts = BytesMut::with_capacity(TIMES_BYTES);
        facts.put_i64(self.latest.map_or(-1, |latest| latest.timestamp.0));
        facts.put_i64(self.latest.map_or(-1, |latest| latest.batch.0));
        facts.put_i64(ages.first_append.map_or(-1, |time| time.0));
        facts.put_i64(ages.last_append.map_or(-1, |time| time.0));
        let time_block =
            self.block(MAGIC_TIME_INDEX, self.saved.time_file, times.len(), &facts, &body);

        let blocks = Blocks {
            offset_file: (self.saved.offset_file, offset_block),
            time_file: (self.saved.time_file, time_block),
        };
        self.saved = Saved {
            offsets: self.offsets.len(),
            times: self.times.len(),
            offset_file: self.saved.offset_file + blocks.offset_file.1.len() as u64,
            time_file: self.saved.time_file + blocks.time_file.1.len() as u64,
            covered: self.covered,
        };
        blocks
    }

    fn block(&self, magic: [u8; 4], at: u64, count: usize, facts: &[u8], body: &[u8]) -> Bytes {
        let mut block = BytesMut::with_capacity(HEAD_BYTES + 20 + facts.len() + body.len());
        if at == 0 {
            block.put_slice(&seal(magic, &self.base.0.to_be_bytes()));
        }
        let length = BLOCK_BYTES + facts.len() + body.len();
        let mut content = BytesMut::with_capacity(length);
        content.put_u64(self.covered);
        content.put_u32(u32::try_from(count).expect("a segment has fewer than 2^32 entries"));
        content.put_slice(facts);
        content.put_slice(body);
        block.put_u32(u32::try_from(length).expect("a block is below 4 GiB"));
        block.put_u32(crc32c(&content));
        block.put_slice(&content);
        block.freeze()
    }

    /// Reads the two files of a segment at `base`. Only blocks that cover at most `trusted` bytes of the segment are
    /// believed: what lies beyond may be of another life of the segment (E3). What is missing is to be walked from
    /// [`Index::covered`] on.
    pub fn from_files(
        base: Offset,
        interval: u32,
        trusted: u64,
        offset_file: &Bytes,
        time_file: &Bytes,
    ) -> (Index, Ages) {
        let mut offsets = Blocked::open(MAGIC_INDEX, base, offset_file.clone());
        let mut times = Blocked::open(MAGIC_TIME_INDEX, base, time_file.clone());
        let mut index = Index::new(base, interval);
        let mut ages = Ages::default();
        // Both files hold the same sequence of covers; a block counts once it is whole in both.
        while let (Some(offset_block), Some(time_block)) =
            (offsets.next(OFFSET_ENTRY_BYTES, 0), times.next(TIME_ENTRY_BYTES, TIMES_BYTES))
        {
            let covered = offset_block.covered;
            if covered != time_block.covered || covered > trusted || covered < index.covered {
                break;
            }
            let Some(new_ages) = index.take(offset_block, time_block) else { break };
            ages = new_ages;
            index.saved = Saved {
                offsets: index.offsets.len(),
                times: index.times.len(),
                offset_file: offsets.at,
                time_file: times.at,
                covered,
            };
        }
        (index, ages)
    }

    fn take(&mut self, offsets: Block, times: Block) -> Option<Ages> {
        let mut new_offsets = Vec::with_capacity(offsets.count);
        let mut last = self.offsets.last().copied().unwrap_or((0, 0));
        let mut body = offsets.body;
        for _ in 0..offsets.count {
            let entry = (body.get_u32(), body.get_u32());
            if entry.0 <= last.0 || entry.1 <= last.1 || u64::from(entry.1) >= offsets.covered {
                return None;
            }
            new_offsets.push(entry);
            last = entry;
        }
        let mut facts = times.facts;
        let latest = (facts.get_i64(), facts.get_i64());
        let ages = (facts.get_i64(), facts.get_i64());
        let mut new_times = Vec::with_capacity(times.count);
        let mut last = self.times.last().copied();
        let mut body = times.body;
        for _ in 0..times.count {
            let entry = (body.get_i64(), body.get_u32());
            if last.is_some_and(|last| entry.0 <= last.0 || entry.1 <= last.1) {
                return None;
            }
            new_times.push(entry);
            last = Some(entry);
        }
        let known = |millis: i64| (millis >= 0).then_some(Timestamp(millis));
        self.offsets.extend(new_offsets);
        self.times.extend(new_times);
        self.latest = known(latest.0)
            .map(|timestamp| Latest { timestamp, batch: Offset(latest.1).max(self.base) });
        self.covered = offsets.covered;
        Some(Ages { first_append: known(ages.0), last_append: known(ages.1) })
    }
}

/// Blocks of one index file.
struct Blocked {
    file: Bytes,
    /// File bytes read and believed.
    at: u64,
}

struct Block {
    covered: u64,
    count: usize,
    facts: Bytes,
    body: Bytes,
}

impl Blocked {
    fn open(magic: [u8; 4], base: Offset, mut file: Bytes) -> Blocked {
        let ours = file.len() >= HEAD_BYTES
            && matches!(unseal(magic, file.slice(..HEAD_BYTES)),
                Unsealed::Whole(payload) if payload[..] == base.0.to_be_bytes());
        if ours {
            file.advance(HEAD_BYTES);
            Blocked { file, at: HEAD_BYTES as u64 }
        } else {
            Blocked { file: Bytes::new(), at: 0 }
        }
    }

    fn next(&mut self, entry_bytes: usize, facts_bytes: usize) -> Option<Block> {
        let mut file = self.file.clone();
        let length = file.try_get_u32().ok()? as usize;
        let crc = file.try_get_u32().ok()?;
        if length < BLOCK_BYTES + facts_bytes || file.len() < length {
            return None;
        }
        let mut content = file.split_to(length);
        if crc32c(&content) != crc {
            return None;
        }
        let covered = content.get_u64();
        let count = content.get_u32() as usize;
        let facts = content.split_to(facts_bytes);
        if content.len() != count.checked_mul(entry_bytes)? {
            return None;
        }
        self.at += 8 + length as u64;
        self.file = file;
        Some(Block { covered, count, facts, body: content })
    }
}
