//! The journal's bytes: file headers, group heads and frame tables, to and from memory. SPEC.md, section "Journal".
//!
//! All integers are little-endian. Nothing here does I/O. A length read from a disk is believed only after the checksum
//! over it was right, and is then still held against the space that there is.

use bytes::{BufMut, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};
use types::{DirectoryId, LeaderEpoch, LogId, Offset, PartitionIndex, TopicId, TopicName, Uuid};

use super::{Frame, FrameKey, FrameKind, JournalError};

/// Groups begin on blocks of this size, so that no write touches a block that holds an acknowledged group.
pub(super) const BLOCK: u64 = 4096;
/// The file header stands in the first two blocks.
pub(super) const DATA_START: u64 = 2 * BLOCK;
/// Bytes of a group's head.
pub(super) const HEAD_BYTES: usize = 96;
/// Largest payload of a DATA frame that holds more than one batch.
pub const DATA_FRAME_BYTES: u64 = 1 << 20;

const FILE_MAGIC: &[u8; 8] = b"FTLDJRNL";
const FILE_VERSION: u32 = 2;
/// The same without RESET.
const FILE_VERSION_OLDEST: u32 = 1;
const FILE_HEADER_BYTES: usize = 104;
const GROUP_MAGIC: u32 = u32::from_le_bytes(*b"FTGR");
const ENTRY_BYTES: usize = 48;
const BATCH_HEADER_BYTES: usize = 61;
/// Bytes of a batch before its length field's reach: base offset and the length itself.
const BATCH_PREFIX_BYTES: u64 = 12;
/// First byte that a batch's own CRC covers.
const BATCH_CRC_START: usize = 21;
/// Largest body of an entry: a topic name and some fixed fields.
const BODY_BYTES_MAX: usize = 1024;

const KIND_DATA: u8 = 1;
const KIND_EXTENT: u8 = 2;
const KIND_TRUNCATE: u8 = 3;
const KIND_LOG_START: u8 = 4;
const KIND_CREATE: u8 = 5;
const KIND_DELETE: u8 = 6;
const KIND_RESET: u8 = 7;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Appends `count` zeros to a vectored write without allocating them.
pub(super) fn push_zeros(parts: &mut Vec<Bytes>, mut count: u64) {
    while count > 0 {
        let some = count.min(ZEROS.len() as u64);
        parts.push(Bytes::from_static(&ZEROS[..some as usize]));
        count -= some;
    }
}

/// `bytes` rounded up to whole blocks.
pub(super) fn round_up(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK) * BLOCK
}

/// Who a journal belongs to and the bits that salt its checksums.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Salt {
    pub directory_id: DirectoryId,
    pub secret: u64,
}

impl Salt {
    fn digest(&self) -> Digest {
        let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
        digest.update(&self.directory_id.0.0);
        digest.update(&self.secret.to_le_bytes());
        digest
    }
}

/// The header of a file's present lap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FileHeader {
    pub salt: Salt,
    /// Which incarnation of a file this is; grows along the journal.
    pub lap: u64,
    /// Number of the first group in it.
    pub first: u64,
    /// The groups of earlier laps with this number or a larger one are void.
    pub resumes: u64,
    /// Last group known durable when it was written.
    pub durable: u64,
    /// First group that replay needs.
    pub oldest: u64,
    /// Check of the last valid group before.
    pub previous: u64,
}

/// What the header block of a file says.
#[derive(Debug)]
pub(super) enum HeaderRead {
    Valid(FileHeader),
    Newer(u32),
    Unreadable,
}

impl FileHeader {
    /// Both header blocks.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::zeroed(DATA_START as usize);
        let mut fields = BytesMut::with_capacity(FILE_HEADER_BYTES);
        fields.put_slice(FILE_MAGIC);
        fields.put_u32_le(FILE_VERSION);
        fields.put_u32_le(FILE_HEADER_BYTES as u32);
        fields.put_slice(&self.salt.directory_id.0.0);
        fields.put_u64_le(self.salt.secret);
        fields.put_u64_le(self.lap);
        fields.put_u64_le(self.first);
        fields.put_u64_le(self.resumes);
        fields.put_u64_le(self.durable);
        fields.put_u64_le(self.oldest);
        fields.put_u64_le(self.previous);
        fields.put_u64_le(0);
        let check = crc_fast::checksum(CrcAlgorithm::Crc64Nvme, &fields);
        fields.put_u64_le(check);
        assert_eq!(fields.len(), FILE_HEADER_BYTES, "the layout is fixed");
        for copy in [0, BLOCK as usize] {
            bytes[copy..copy + FILE_HEADER_BYTES].copy_from_slice(&fields);
        }
        bytes.freeze()
    }

    /// Reads one header block.
    pub fn decode(block: &[u8]) -> HeaderRead {
        let Some(fields) = block.get(..FILE_HEADER_BYTES) else { return HeaderRead::Unreadable };
        if &fields[..8] != FILE_MAGIC {
            return HeaderRead::Unreadable;
        }
        let version = u32_at(fields, 8);
        if version > FILE_VERSION {
            return HeaderRead::Newer(version);
        }
        let (covered, check) = fields.split_at(FILE_HEADER_BYTES - 8);
        if version < FILE_VERSION_OLDEST
            || crc_fast::checksum(CrcAlgorithm::Crc64Nvme, covered) != u64_at(check, 0)
        {
            return HeaderRead::Unreadable;
        }
        HeaderRead::Valid(FileHeader {
            salt: Salt {
                directory_id: DirectoryId(uuid_at(fields, 16)),
                secret: u64_at(fields, 32),
            },
            lap: u64_at(fields, 40),
            first: u64_at(fields, 48),
            resumes: u64_at(fields, 56),
            durable: u64_at(fields, 64),
            oldest: u64_at(fields, 72),
            previous: u64_at(fields, 80),
        })
    }
}

/// The head of a group. Its check covers the frame table by the table's check, the batch headers by the entries' checks
/// and the payload by the batches' CRCs in those headers: it stands for the whole group, and the next head names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct GroupHead {
    pub frames: u32,
    pub lap: u64,
    pub number: u64,
    /// The groups from this one to `number - 1` are void: this group repeats what was valid in them.
    pub resumes: u64,
    /// Last group known durable when this one was written (E2).
    pub durable: u64,
    /// First group that replay needs.
    pub oldest: u64,
    /// Check of the last valid group before this one.
    pub previous: u64,
    /// Where in its file it stands.
    pub offset: u64,
    pub payload_bytes: u64,
    pub table_bytes: u32,
    pub table_check: u64,
    /// Check of this head.
    pub check: u64,
}

impl GroupHead {
    /// Writes the head into the first bytes of `target` and sets its check.
    pub fn encode(&mut self, salt: &Salt, target: &mut [u8]) {
        let mut fields = BytesMut::with_capacity(HEAD_BYTES);
        fields.put_u32_le(GROUP_MAGIC);
        fields.put_u32_le(self.frames);
        fields.put_u64_le(self.lap);
        fields.put_u64_le(self.number);
        fields.put_u64_le(self.resumes);
        fields.put_u64_le(self.durable);
        fields.put_u64_le(self.oldest);
        fields.put_u64_le(self.previous);
        fields.put_u64_le(self.offset);
        fields.put_u64_le(self.payload_bytes);
        fields.put_u32_le(self.table_bytes);
        fields.put_u32_le(0);
        fields.put_u64_le(self.table_check);
        let mut digest = salt.digest();
        digest.update(&fields);
        self.check = digest.finalize();
        fields.put_u64_le(self.check);
        target[..HEAD_BYTES].copy_from_slice(&fields);
    }

    /// The head that stands at `offset` of a file in its `lap`, if a valid one does.
    pub fn decode(block: &[u8], salt: &Salt, lap: Option<u64>, offset: u64) -> Option<GroupHead> {
        let fields = block.get(..HEAD_BYTES)?;
        if u32_at(fields, 0) != GROUP_MAGIC || u64_at(fields, 56) != offset {
            return None;
        }
        if lap.is_some_and(|lap| lap != u64_at(fields, 8)) {
            return None;
        }
        let (covered, check) = fields.split_at(HEAD_BYTES - 8);
        let mut digest = salt.digest();
        digest.update(covered);
        if digest.finalize() != u64_at(check, 0) {
            return None;
        }
        let head = GroupHead {
            frames: u32_at(fields, 4),
            lap: u64_at(fields, 8),
            number: u64_at(fields, 16),
            resumes: u64_at(fields, 24),
            durable: u64_at(fields, 32),
            oldest: u64_at(fields, 40),
            previous: u64_at(fields, 48),
            offset,
            payload_bytes: u64_at(fields, 64),
            table_bytes: u32_at(fields, 72),
            table_check: u64_at(fields, 80),
            check: u64_at(check, 0),
        };
        head.is_sane().then_some(head)
    }

    /// What every head written by this code fulfils; a valid check over anything else is an accident.
    fn is_sane(&self) -> bool {
        self.number > 0
            && self.resumes > 0
            && self.resumes <= self.number
            && self.durable < self.number
            && u64::from(self.frames) * ENTRY_BYTES as u64 <= u64::from(self.table_bytes)
            && self.payload_bytes <= 1 << 48
            && self.offset <= 1 << 48
    }

    /// Bytes of the whole group with its padding.
    pub fn group_bytes(&self) -> u64 {
        round_up(HEAD_BYTES as u64 + u64::from(self.table_bytes) + self.payload_bytes)
    }

    /// Where in its file the payload begins.
    pub fn payload_offset(&self) -> u64 {
        self.offset + HEAD_BYTES as u64 + u64::from(self.table_bytes)
    }
}

/// A frame ready to be written: its table entry, and its payload untouched.
#[derive(Debug)]
pub(super) struct Prepared {
    pub entry: BytesMut,
    pub payload: Vec<Bytes>,
    pub payload_bytes: u64,
}

impl Prepared {
    /// What it adds to a group.
    pub fn bytes(&self) -> u64 {
        self.entry.len() as u64 + self.payload_bytes
    }
}

/// Turns `frames` into entries and payload; DATA frames above [`DATA_FRAME_BYTES`] are split between batches.
pub(super) fn prepare(frames: Vec<Frame>) -> Result<Vec<Prepared>, JournalError> {
    let mut prepared = Vec::with_capacity(frames.len());
    for frame in frames {
        match frame.kind {
            FrameKind::Data(ref pieces) => prepare_data(&frame, pieces, &mut prepared)?,
            _ => prepared.push(prepare_plain(&frame)?),
        }
    }
    Ok(prepared)
}

fn prepare_plain(frame: &Frame) -> Result<Prepared, JournalError> {
    let mut body = BytesMut::new();
    let kind = match &frame.kind {
        FrameKind::Data(_) => return Err(JournalError::InvalidFrame("DATA is not a plain frame")),
        FrameKind::Extent { len, check } => {
            body.put_u64_le(*len);
            body.put_u64_le(*check);
            KIND_EXTENT
        }
        FrameKind::Truncate { end } => {
            body.put_i64_le(end.0);
            KIND_TRUNCATE
        }
        FrameKind::LogStart { offset } => {
            body.put_i64_le(offset.0);
            KIND_LOG_START
        }
        FrameKind::Reset { offset } => {
            body.put_i64_le(offset.0);
            KIND_RESET
        }
        FrameKind::Create { topic, topic_id, partition, epoch, flags } => {
            if topic.as_str().len() > BODY_BYTES_MAX - 64 {
                return Err(JournalError::InvalidFrame("the topic's name is too long"));
            }
            body.put_slice(&topic_id.0.0);
            body.put_i32_le(partition.0);
            body.put_i32_le(epoch.0);
            body.put_u16_le(*flags);
            body.put_slice(topic.as_str().as_bytes());
            KIND_CREATE
        }
        FrameKind::Delete => KIND_DELETE,
    };
    let entry = encode_entry(frame, kind, frame.position, 0, 0, &body);
    Ok(Prepared { entry, payload: Vec::new(), payload_bytes: 0 })
}

fn prepare_data(
    frame: &Frame,
    pieces: &[Bytes],
    prepared: &mut Vec<Prepared>,
) -> Result<(), JournalError> {
    let mut cursor = Pieces::new(pieces);
    let mut run: Vec<Bytes> = Vec::with_capacity(pieces.len());
    let mut run_bytes = 0;
    let mut chain = BatchChain::default();
    let mut position = frame.position;
    while cursor.remaining > 0 {
        let header = cursor.peek().ok_or(JournalError::InvalidFrame("DATA ends inside a batch"))?;
        let bytes = batch_bytes(&header).filter(|&bytes| bytes <= cursor.remaining);
        let bytes =
            bytes.ok_or(JournalError::InvalidFrame("DATA holds a batch of a wrong size"))?;
        if run_bytes > 0 && run_bytes + bytes > DATA_FRAME_BYTES {
            prepared.push(data_entry(frame, position, &mut run, run_bytes, &mut chain));
            position += run_bytes;
            run_bytes = 0;
        }
        chain.push(&header);
        cursor.take(bytes, &mut run);
        run_bytes += bytes;
    }
    if run_bytes == 0 {
        return Err(JournalError::InvalidFrame("DATA holds no batch"));
    }
    prepared.push(data_entry(frame, position, &mut run, run_bytes, &mut chain));
    Ok(())
}

fn data_entry(
    frame: &Frame,
    position: u64,
    run: &mut Vec<Bytes>,
    run_bytes: u64,
    chain: &mut BatchChain,
) -> Prepared {
    let check = std::mem::take(chain).finish();
    let entry = encode_entry(frame, KIND_DATA, position, run_bytes, check, &[]);
    Prepared { entry, payload: std::mem::take(run), payload_bytes: run_bytes }
}

fn encode_entry(
    frame: &Frame,
    kind: u8,
    position: u64,
    payload_bytes: u64,
    payload_check: u64,
    body: &[u8],
) -> BytesMut {
    let mut entry = BytesMut::with_capacity(ENTRY_BYTES + body.len());
    entry.put_u8(kind);
    entry.put_bytes(0, 3);
    entry.put_u32_le(body.len() as u32);
    entry.put_u64_le(frame.log.0);
    entry.put_i64_le(frame.segment_base.0);
    entry.put_u64_le(position);
    entry.put_u64_le(payload_bytes);
    entry.put_u64_le(payload_check);
    entry.put_slice(body);
    entry
}

/// Puts a group together: head, table and payload, padded to whole blocks.
pub(super) fn encode_group(
    salt: &Salt,
    head: &mut GroupHead,
    frames: Vec<Prepared>,
    parts: &mut Vec<Bytes>,
) {
    let table_bytes: usize = frames.iter().map(|frame| frame.entry.len()).sum();
    let mut front = BytesMut::with_capacity(HEAD_BYTES + table_bytes);
    front.put_bytes(0, HEAD_BYTES);
    head.frames = frames.len() as u32;
    head.table_bytes = table_bytes as u32;
    head.payload_bytes = frames.iter().map(|frame| frame.payload_bytes).sum();
    for frame in &frames {
        front.put_slice(&frame.entry);
    }
    head.table_check = crc_fast::checksum(CrcAlgorithm::Crc64Nvme, &front[HEAD_BYTES..]);
    head.encode(salt, &mut front);
    let padding = head.group_bytes() - front.len() as u64 - head.payload_bytes;
    parts.push(front.freeze());
    parts.extend(frames.into_iter().flat_map(|frame| frame.payload));
    push_zeros(parts, padding);
}

/// An entry of a frame table as read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub log: LogId,
    pub segment_base: Offset,
    pub position: u64,
    pub payload_bytes: u64,
    pub payload_check: u64,
    /// `None` for DATA, whose content is the payload.
    pub plain: Option<FrameKind>,
}

impl Entry {
    /// The frame without its content, for reports.
    pub fn key(&self) -> FrameKey {
        FrameKey {
            log: self.log,
            segment_base: self.segment_base,
            position: self.position,
            bytes: self.payload_bytes,
            kind: self.plain.as_ref().map_or("DATA", FrameKind::name),
        }
    }

    /// The whole frame.
    pub fn frame(&self, payload: Bytes) -> Frame {
        Frame {
            log: self.log,
            segment_base: self.segment_base,
            position: self.position,
            kind: self.plain.clone().unwrap_or_else(|| FrameKind::Data(vec![payload])),
        }
    }
}

/// The entries of the table that `head` names; `None` if the table is not what was written.
pub(super) fn decode_table(head: &GroupHead, table: &[u8]) -> Option<Vec<Entry>> {
    if table.len() != head.table_bytes as usize
        || crc_fast::checksum(CrcAlgorithm::Crc64Nvme, table) != head.table_check
    {
        return None;
    }
    let mut entries = Vec::with_capacity(table.len() / ENTRY_BYTES);
    let mut rest = table;
    let mut payload_left = head.payload_bytes;
    while !rest.is_empty() {
        let fixed = rest.get(..ENTRY_BYTES)?;
        let body_bytes = u32_at(fixed, 4) as usize;
        if body_bytes > BODY_BYTES_MAX {
            return None;
        }
        let body = rest.get(ENTRY_BYTES..ENTRY_BYTES + body_bytes)?;
        let entry = Entry {
            log: LogId(u64_at(fixed, 8)),
            segment_base: Offset(u64_at(fixed, 16) as i64),
            position: u64_at(fixed, 24),
            payload_bytes: u64_at(fixed, 32),
            payload_check: u64_at(fixed, 40),
            plain: decode_plain(fixed[0], body)?,
        };
        if entry.plain.is_some() != (entry.payload_bytes == 0) {
            return None;
        }
        payload_left = payload_left.checked_sub(entry.payload_bytes)?;
        entries.push(entry);
        rest = &rest[ENTRY_BYTES + body_bytes..];
    }
    (payload_left == 0 && entries.len() == head.frames as usize).then_some(entries)
}

/// `Some(None)` is DATA; `None` is a body that nobody wrote.
fn decode_plain(kind: u8, body: &[u8]) -> Option<Option<FrameKind>> {
    let offset = || (body.len() == 8).then(|| Offset(u64_at(body, 0) as i64));
    Some(Some(match kind {
        KIND_DATA if body.is_empty() => return Some(None),
        KIND_EXTENT if body.len() == 16 => {
            FrameKind::Extent { len: u64_at(body, 0), check: u64_at(body, 8) }
        }
        KIND_TRUNCATE => FrameKind::Truncate { end: offset()? },
        KIND_LOG_START => FrameKind::LogStart { offset: offset()? },
        KIND_RESET => FrameKind::Reset { offset: offset()? },
        KIND_CREATE if body.len() >= 26 => FrameKind::Create {
            topic_id: TopicId(uuid_at(body, 0)),
            partition: PartitionIndex(u32_at(body, 16) as i32),
            epoch: LeaderEpoch(u32_at(body, 20) as i32),
            flags: u16::from_le_bytes([body[24], body[25]]),
            topic: TopicName::from(std::str::from_utf8(&body[26..]).ok()?),
        },
        KIND_DELETE if body.is_empty() => FrameKind::Delete,
        _ => return None,
    }))
}

/// Whether `payload` is the run of whole batches that `check` was made of, each with a right CRC.
pub(super) fn payload_is_intact(payload: &[u8], check: u64) -> bool {
    let mut chain = BatchChain::default();
    let mut batches = Vec::new();
    let mut rest = payload;
    while !rest.is_empty() {
        let Some(header) = rest.first_chunk::<BATCH_HEADER_BYTES>() else { return false };
        let Some(bytes) = batch_bytes(header).filter(|&bytes| bytes <= rest.len() as u64) else {
            return false;
        };
        chain.push(header);
        let (batch, after) = rest.split_at(bytes as usize);
        batches.push(batch);
        rest = after;
    }
    chain.finish() == check && batches.into_iter().all(batch_crc_is_right)
}

fn batch_crc_is_right(batch: &[u8]) -> bool {
    let stored = u32::from_be_bytes([batch[17], batch[18], batch[19], batch[20]]);
    let crc = crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, &batch[BATCH_CRC_START..]);
    crc == u64::from(stored)
}

/// Bytes of the batch that `header` begins, if the length is possible.
fn batch_bytes(header: &[u8; BATCH_HEADER_BYTES]) -> Option<u64> {
    let length = i32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    let bytes = BATCH_PREFIX_BYTES + u64::try_from(length).ok()?;
    (bytes >= BATCH_HEADER_BYTES as u64).then_some(bytes)
}

/// Checksum over a run of batch headers, their CRCs in them: it stands for the batches without reading their payload.
#[derive(Clone, Debug)]
pub struct BatchChain(Digest);

impl Default for BatchChain {
    fn default() -> BatchChain {
        BatchChain(Digest::new(CrcAlgorithm::Crc64Nvme))
    }
}

impl BatchChain {
    /// Adds a batch by its header.
    pub fn push(&mut self, header: &[u8; BATCH_HEADER_BYTES]) {
        self.0.update(header);
    }

    /// The checksum.
    pub fn finish(self) -> u64 {
        self.0.finalize()
    }
}

/// The check of an EXTENT frame over `pieces`, which put together are whole batches; `None` if they are not.
pub fn extent_check(pieces: &[Bytes]) -> Option<u64> {
    let mut cursor = Pieces::new(pieces);
    let mut chain = BatchChain::default();
    while cursor.remaining > 0 {
        let header = cursor.peek()?;
        let bytes = batch_bytes(&header).filter(|&bytes| bytes <= cursor.remaining)?;
        chain.push(&header);
        cursor.skip(bytes);
    }
    Some(chain.finish())
}

/// Walks over the concatenation of pieces.
struct Pieces<'a> {
    pieces: &'a [Bytes],
    within: usize,
    remaining: u64,
}

impl<'a> Pieces<'a> {
    fn new(pieces: &'a [Bytes]) -> Pieces<'a> {
        let remaining = pieces.iter().map(|piece| piece.len() as u64).sum();
        Pieces { pieces, within: 0, remaining }
    }

    /// The next batch header, without moving.
    fn peek(&self) -> Option<[u8; BATCH_HEADER_BYTES]> {
        let mut header = [0; BATCH_HEADER_BYTES];
        let mut filled = 0;
        let mut within = self.within;
        for piece in self.pieces {
            let some = &piece[within..];
            let count = some.len().min(BATCH_HEADER_BYTES - filled);
            header[filled..filled + count].copy_from_slice(&some[..count]);
            filled += count;
            if filled == BATCH_HEADER_BYTES {
                return Some(header);
            }
            within = 0;
        }
        None
    }

    /// Moves over `count` bytes and hands them to `run` as they are.
    fn take(&mut self, count: u64, run: &mut Vec<Bytes>) {
        self.advance(count, |piece, from, to| {
            if from == 0 && to == piece.len() {
                run.push(piece.clone());
            } else {
                run.push(piece.slice(from..to));
            }
        });
    }

    fn skip(&mut self, count: u64) {
        self.advance(count, |_, _, _| {});
    }

    fn advance(&mut self, mut count: u64, mut with: impl FnMut(&Bytes, usize, usize)) {
        self.remaining -= count;
        while let Some((piece, later)) = self.pieces.split_first() {
            let some = ((piece.len() - self.within) as u64).min(count) as usize;
            if some > 0 {
                with(piece, self.within, self.within + some);
            }
            count -= some as u64;
            if self.within + some < piece.len() {
                self.within += some;
                return;
            }
            self.pieces = later;
            self.within = 0;
            if count == 0 {
                return;
            }
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn uuid_at(bytes: &[u8], at: usize) -> Uuid {
    Uuid(bytes[at..at + 16].try_into().expect("sixteen bytes"))
}
