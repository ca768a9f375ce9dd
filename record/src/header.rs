//! The 61 bytes in front of every batch.
//!
//! A header is kept as the bytes it is: reading a field costs one load, and patching offset and epoch touches nothing
//! else. [`BatchHeader::parse`] admits only headers whose sizes and offsets are possible, so that every accessor and all
//! offset arithmetic on it is total. It says nothing about the payload: that is [`crate::check_produced`]'s business.

use std::fmt;

use types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use crate::{BatchError, Compression};

/// Bytes of a batch header.
pub const HEADER_LEN: usize = 61;

/// Bytes of a batch that its length field does not count: base offset and the length itself.
pub const BATCH_OVERHEAD: usize = 12;

/// First byte covered by the checksum.
pub(crate) const CRC_START: usize = 21;

pub(crate) const MAGIC: i8 = 2;

pub(crate) const ATTRIBUTE_COMPRESSION: i16 = 0x07;
pub(crate) const ATTRIBUTE_APPEND_TIME: i16 = 0x08;
pub(crate) const ATTRIBUTE_TRANSACTIONAL: i16 = 0x10;
pub(crate) const ATTRIBUTE_CONTROL: i16 = 0x20;
pub(crate) const ATTRIBUTE_DELETE_HORIZON: i16 = 0x40;

/// Which clock a batch's timestamps come from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TimestampType {
    /// Each record carries the time its producer gave it.
    CreateTime,
    /// The broker dated the whole batch when it appended it: its maximum timestamp holds for every record.
    AppendTime,
}

/// Identity of an idempotent or transactional producer in a data batch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ProducerStamp {
    /// The producer.
    pub id: ProducerId,
    /// Its incarnation.
    pub epoch: ProducerEpoch,
    /// Sequence of the batch's first record.
    pub base_sequence: Sequence,
}

/// The header of a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    bytes: [u8; HEADER_LEN],
}

macro_rules! field {
    ($(#[$doc:meta])* $vis:vis fn $get:ident / $set:ident, $at:literal, $type:ty) => {
        $(#[$doc])*
        $vis fn $get(&self) -> $type {
            const END: usize = $at + size_of::<$type>();
            let bytes = self.bytes[$at..END].try_into().expect("the range has the type's size");
            <$type>::from_be_bytes(bytes)
        }

        #[allow(dead_code, reason = "not every field is ever patched")]
        pub(crate) fn $set(&mut self, value: $type) {
            const END: usize = $at + size_of::<$type>();
            self.bytes[$at..END].copy_from_slice(&value.to_be_bytes());
        }
    };
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`, which may go on behind it. Checks format, length and offsets; never
    /// the payload. `Partial` when there are fewer than [`HEADER_LEN`] bytes.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let Some(bytes) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(BatchError::Partial { needed: HEADER_LEN, available: bytes.len() });
        };
        let header = BatchHeader { bytes: *bytes };
        if header.magic() != MAGIC {
            return Err(BatchError::UnsupportedMagic(header.magic()));
        }
        if header.length() < (HEADER_LEN - BATCH_OVERHEAD) as i32 {
            return Err(BatchError::BadLength(header.length()));
        }
        let delta = header.last_offset_delta();
        // One below the end of the offset space, so that end_offset() exists too.
        if header.base() < 0 || delta < 0 || header.base() > i64::MAX - 1 - i64::from(delta) {
            return Err(BatchError::BadOffsets);
        }
        Ok(header)
    }

    /// A header of zeros but for the format; for the builder.
    pub(crate) fn blank() -> BatchHeader {
        let mut header = BatchHeader { bytes: [0; HEADER_LEN] };
        header.bytes[16] = MAGIC as u8;
        header.set_length((HEADER_LEN - BATCH_OVERHEAD) as i32);
        header
    }

    field!(fn base / set_base, 0, i64);
    field!(fn length / set_length, 8, i32);
    field!(
        /// The leader epoch as it stands; its checksum does not cover it.
        pub fn epoch / set_epoch, 12, i32);
    field!(
        /// The format, which is 2.
        pub fn magic / set_magic, 16, i8);
    field!(
        /// The stored CRC32C of everything from the attributes on.
        pub fn crc / set_crc, 17, u32);
    field!(
        /// The attribute bits as they stand.
        pub fn attributes / set_attributes, 21, i16);
    field!(
        /// Last offset minus base offset. Never negative.
        pub fn last_offset_delta / set_last_offset_delta, 23, i32);
    field!(fn base_time / set_base_time, 27, i64);
    field!(pub(crate) fn max_time / set_max_time, 35, i64);
    field!(pub(crate) fn producer_id_raw / set_producer_id, 43, i64);
    field!(fn producer_epoch_raw / set_producer_epoch, 51, i16);
    field!(fn base_sequence_raw / set_base_sequence, 53, i32);
    field!(
        /// Number of records as the header states it; compaction may leave fewer than the offsets span.
        pub fn records_count / set_records_count, 57, i32);

    /// The bytes themselves.
    pub fn as_bytes(&self) -> &[u8; HEADER_LEN] {
        &self.bytes
    }

    /// Size of the whole batch, header included.
    pub fn bytes_total(&self) -> usize {
        // Not negative after parse; at most 2^31 + 11.
        self.length().max(0) as usize + BATCH_OVERHEAD
    }

    /// Offset of the first record.
    pub fn base_offset(&self) -> Offset {
        Offset(self.base())
    }

    /// Offset of the last record (inclusive). Also where compaction removed that record.
    pub fn last_offset(&self) -> Offset {
        Offset(self.base() + i64::from(self.last_offset_delta()))
    }

    /// The offset after the batch (exclusive).
    pub fn end_offset(&self) -> Offset {
        self.last_offset().next()
    }

    /// Term of the leader that appended it; `None` before it was placed in a log.
    pub fn leader_epoch(&self) -> Option<LeaderEpoch> {
        (self.epoch() >= 0).then(|| LeaderEpoch(self.epoch()))
    }

    /// How the records are compressed.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        Compression::from_id((self.attributes() & ATTRIBUTE_COMPRESSION) as u8)
    }

    /// Which clock dated it.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes() & ATTRIBUTE_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::AppendTime
        }
    }

    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes() & ATTRIBUTE_TRANSACTIONAL != 0
    }

    /// Whether it holds a transaction marker or quorum record instead of data.
    pub fn is_control(&self) -> bool {
        self.attributes() & ATTRIBUTE_CONTROL != 0
    }

    /// When compaction may drop the tombstones in it, if it has been cleaned once.
    pub fn delete_horizon(&self) -> Option<Timestamp> {
        (self.attributes() & ATTRIBUTE_DELETE_HORIZON != 0).then(|| Timestamp(self.base_time()))
    }

    /// Timestamp that the records' deltas count from; `None` if the producer gave none.
    pub fn base_timestamp(&self) -> Option<Timestamp> {
        (self.base_time() >= 0).then(|| Timestamp(self.base_time()))
    }

    /// The base timestamp as it stands, -1 for none: deltas count from it all the same.
    pub(crate) fn base_timestamp_raw(&self) -> i64 {
        self.base_time()
    }

    /// Largest timestamp in the batch; `None` if the producer gave none.
    pub fn max_timestamp(&self) -> Option<Timestamp> {
        (self.max_time() >= 0).then(|| Timestamp(self.max_time()))
    }

    /// Producer and sequence of an idempotent or transactional data batch.
    pub fn producer(&self) -> Option<ProducerStamp> {
        let (id, epoch) = self.producer_identity()?;
        let base_sequence = Sequence(self.base_sequence_raw());
        (base_sequence.0 >= 0).then_some(ProducerStamp { id, epoch, base_sequence })
    }

    /// Producer id and epoch, whether or not there is a sequence: a transaction marker has none.
    pub fn producer_identity(&self) -> Option<(ProducerId, ProducerEpoch)> {
        let (id, epoch) = (self.producer_id_raw(), self.producer_epoch_raw());
        (id >= 0 && epoch >= 0).then_some((ProducerId(id), ProducerEpoch(epoch)))
    }

    /// Sequence of the last record, if [`BatchHeader::producer`] has a stamp.
    pub fn last_sequence(&self) -> Option<Sequence> {
        self.producer().map(|stamp| stamp.base_sequence.plus(self.last_offset_delta()))
    }
}

impl fmt::Debug for BatchHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "batch {}..={} epoch {} crc {:08x} attributes {:#x} records {} bytes {}",
            self.base_offset(),
            self.last_offset(),
            self.epoch(),
            self.crc(),
            self.attributes(),
            self.records_count(),
            self.bytes_total(),
        )?;
        if let Some(stamp) = self.producer() {
            write!(f, " producer {}/{} seq {}", stamp.id, stamp.epoch, stamp.base_sequence)?;
        }
        Ok(())
    }
}
