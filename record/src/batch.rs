//! One batch, and a run of them.
//!
//! A [`Batch`] is its header, held apart so that it can be patched, and the shared bytes it came in. Placing, dating and
//! fencing change the header alone; the payload is never copied and, where its checksum must change, never summed again:
//! CRCs combine.

use std::ops::Deref;

use bytes::{Bytes, BytesMut};
use crc_fast::CrcAlgorithm;
use types::mutant::{Mutant, planted};
use types::{LeaderEpoch, Offset, Timestamp};

use crate::compression::Codec;
use crate::header::{
    ATTRIBUTE_APPEND_TIME, ATTRIBUTE_COMPRESSION, BATCH_OVERHEAD, BatchHeader, CRC_START,
    HEADER_LEN, TimestampType,
};
use crate::records::Records;
use crate::{BatchError, Compression};

const CRC32C: CrcAlgorithm = CrcAlgorithm::Crc32Iscsi;

/// CRC32C of `bytes`.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CRC32C, bytes) as u32
}

/// Exactly one record batch. Dereferences to its [`BatchHeader`].
#[derive(Clone)]
pub struct Batch {
    header: BatchHeader,
    /// Header as received, then the payload: always `header.bytes_total()` long.
    bytes: Bytes,
}

impl Batch {
    /// Takes `bytes` as one batch. They must be exactly one; the payload is not looked at.
    pub fn parse(bytes: Bytes) -> Result<Batch, BatchError> {
        let header = BatchHeader::parse(&bytes)?;
        let needed = header.bytes_total();
        if bytes.len() < needed {
            return Err(BatchError::Partial { needed, available: bytes.len() });
        }
        if bytes.len() > needed {
            return Err(BatchError::BadLength(header.bytes_total() as i32 - BATCH_OVERHEAD as i32));
        }
        Ok(Batch { header, bytes })
    }

    /// A batch from a finished header and the bytes whose first [`HEADER_LEN`] are to become it. Sets length and CRC.
    pub(crate) fn seal(mut header: BatchHeader, mut bytes: BytesMut) -> Batch {
        assert!(bytes.len() >= HEADER_LEN, "the builder reserves the header");
        let length = i32::try_from(bytes.len() - BATCH_OVERHEAD).expect("a batch is below 2 GiB");
        header.set_length(length);
        bytes[..HEADER_LEN].copy_from_slice(header.as_bytes());
        header.set_crc(crc32c(&bytes[CRC_START..]));
        bytes[..HEADER_LEN].copy_from_slice(header.as_bytes());
        Batch { header, bytes: bytes.freeze() }
    }

    /// The header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// What follows the header: the records, compressed or not.
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(HEADER_LEN..)
    }

    /// CRC32C of the content, computed now: one pass over the payload.
    pub fn computed_crc(&self) -> u32 {
        if self.header.as_bytes()[CRC_START..] == self.bytes[CRC_START..HEADER_LEN] {
            return crc32c(&self.bytes[CRC_START..]);
        }
        let mut digest = crc_fast::Digest::new(CRC32C);
        digest.update(&self.header.as_bytes()[CRC_START..]);
        digest.update(&self.bytes[HEADER_LEN..]);
        digest.finalize() as u32
    }

    /// Whether the stored checksum matches the content: one pass over the payload.
    pub fn crc_ok(&self) -> bool {
        self.computed_crc() == self.crc()
    }

    /// [`Batch::crc_ok`] as an error that names both sums.
    pub fn check_crc(&self) -> Result<(), BatchError> {
        let (stored, computed) = (self.crc(), self.computed_crc());
        if stored == computed { Ok(()) } else { Err(BatchError::BadCrc { stored, computed }) }
    }

    /// This batch at `base_offset` in a log, appended in `leader_epoch`. Nothing is copied.
    ///
    /// Panics if the batch would pass the end of the offset space: a log ends long before.
    pub fn placed(&self, base_offset: Offset, leader_epoch: LeaderEpoch) -> Batch {
        let end = base_offset.0.checked_add(i64::from(self.last_offset_delta()));
        assert!(base_offset.0 >= 0, "offset {base_offset} is not in a log");
        assert!(end.is_some_and(|end| end < i64::MAX), "offset {base_offset} is not in a log");
        let mut placed = self.clone();
        placed.header.set_base(base_offset.0);
        placed.header.set_epoch(leader_epoch.0);
        placed
    }

    /// This batch dated by the broker (`message.timestamp.type=LogAppendTime`): its maximum timestamp counts for every
    /// record. Touches the header alone; the checksum is corrected without another pass over the payload.
    pub fn dated(&self, now: Timestamp) -> Batch {
        self.patched(|header| {
            header.set_attributes(header.attributes() | ATTRIBUTE_APPEND_TIME);
            header.set_max_time(now.0);
        })
    }

    /// This batch with the maximum timestamp that its records have (-1: none). Touches the header alone.
    pub(crate) fn with_newest(&self, newest: i64) -> Batch {
        self.patched(|header| header.set_max_time(newest))
    }

    /// This batch with another header; the checksum is corrected without another pass over the payload.
    fn patched(&self, patch: impl FnOnce(&mut BatchHeader)) -> Batch {
        let mut patched = self.clone();
        patch(&mut patched.header);
        let length = (self.bytes.len() - HEADER_LEN) as u64;
        let sum = |header: &BatchHeader| {
            crc_fast::checksum(CRC32C, &header.as_bytes()[CRC_START..HEADER_LEN])
        };
        // CRCs are linear: the sum changes by what the two headers' difference becomes when the payload follows it.
        let difference = sum(&self.header) ^ sum(&patched.header);
        let whole = u64::from(self.crc());
        let whole = crc_fast::checksum_combine(CRC32C, difference, whole, length);
        patched.header.set_crc(whole as u32);
        patched
    }

    /// This batch in another codec (`compression.type` of a topic); `plain` is its payload, expanded.
    pub fn recompressed(&self, codec: Codec, plain: &[u8]) -> Result<Batch, BatchError> {
        let mut bytes = BytesMut::zeroed(HEADER_LEN);
        if planted(Mutant::RecompressedInName) {
            bytes.extend_from_slice(&self.bytes[HEADER_LEN..]);
        } else {
            codec.compress(plain, &mut bytes)?;
        }
        let mut header = self.header;
        let others = self.attributes() & !ATTRIBUTE_COMPRESSION;
        header.set_attributes(others | i16::from(codec.compression().id()));
        Ok(Batch::seal(header, bytes))
    }

    /// The payload without compression; at most `cap` bytes, or [`BatchError::ExpandsTooFar`].
    pub fn expanded(&self, cap: usize) -> Result<Bytes, BatchError> {
        match self.compression()? {
            Compression::None => Ok(self.payload()),
            compression => compression.expand(&self.bytes[HEADER_LEN..], cap),
        }
    }

    /// The records, expanded under the cap of `cap` bytes. An error is yielded once and ends the iteration.
    pub fn records(&self, cap: usize) -> Records {
        Records::new(self.header, self.expanded(cap))
    }

    /// Timestamp of a record whose delta to the base timestamp is `delta`.
    pub(crate) fn record_time(header: &BatchHeader, delta: i64) -> Option<Timestamp> {
        let millis = match header.timestamp_type() {
            TimestampType::AppendTime => header.max_timestamp()?.0,
            // Without a base timestamp the field holds -1 and the deltas count from there.
            TimestampType::CreateTime => header.base_timestamp_raw().saturating_add(delta),
        };
        (millis >= 0).then_some(Timestamp(millis))
    }

    /// Head and payload, ready for a gathering write. No payload byte is copied.
    pub fn into_parts(self) -> (Bytes, Bytes) {
        let head = if self.header.as_bytes()[..] == self.bytes[..HEADER_LEN] {
            self.bytes.slice(..HEADER_LEN)
        } else {
            Bytes::copy_from_slice(self.header.as_bytes())
        };
        (head, self.bytes.slice(HEADER_LEN..))
    }

    /// The whole batch in one piece; copies it if its header was patched since it was parsed.
    pub fn to_bytes(&self) -> Bytes {
        if self.header.as_bytes()[..] == self.bytes[..HEADER_LEN] {
            return self.bytes.clone();
        }
        let mut whole = BytesMut::with_capacity(self.bytes.len());
        whole.extend_from_slice(self.header.as_bytes());
        whole.extend_from_slice(&self.bytes[HEADER_LEN..]);
        whole.freeze()
    }
}

impl Deref for Batch {
    type Target = BatchHeader;

    fn deref(&self) -> &BatchHeader {
        &self.header
    }
}

impl PartialEq for Batch {
    fn eq(&self, other: &Batch) -> bool {
        self.header == other.header && self.bytes[HEADER_LEN..] == other.bytes[HEADER_LEN..]
    }
}

impl Eq for Batch {}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.header, f)
    }
}

/// Splits a run of batches. An error ends it: behind a bad length nothing can be told.
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
}

impl Batches {
    /// Batches from the front of `bytes` on. A last batch that is cut short yields [`BatchError::Partial`].
    pub fn split(bytes: Bytes) -> Batches {
        Batches { rest: bytes }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let header = match BatchHeader::parse(&rest) {
            Ok(header) => header,
            Err(error) => return Some(Err(error)),
        };
        let needed = header.bytes_total();
        if rest.len() < needed {
            return Some(Err(BatchError::Partial { needed, available: rest.len() }));
        }
        self.rest = rest.slice(needed..);
        Some(Ok(Batch { header, bytes: rest.slice(..needed) }))
    }
}
