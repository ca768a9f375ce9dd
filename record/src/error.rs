//! Why bytes are not a batch, or not one that may be stored.
//!
//! One small enum for the whole room. `broker/src/error_map.rs` maps each variant to one protocol code, so variants are
//! split where the protocol tells them apart: damaged bytes, a rule broken by the producer, a size limit, a time bound.

use std::fmt;

/// What is wrong with a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BatchError {
    /// The bytes end inside a batch: `needed` bytes, of which `available` are there.
    Partial {
        /// Size of the batch, or of its header if not even that is complete.
        needed: usize,
        /// What is there.
        available: usize,
    },
    /// The length field cannot be that of a batch.
    BadLength(i32),
    /// Not format 2. Formats 0 and 1 ended with Kafka 4.
    UnsupportedMagic(i8),
    /// The checksum does not match the content.
    BadCrc {
        /// What the header says.
        stored: u32,
        /// What the content gives.
        computed: u32,
    },
    /// Base offset or last offset delta cannot be: negative, or past the end of the offset space.
    BadOffsets,
    /// Attribute bits that mean nothing here, or that a producer may not set.
    BadAttributes(i16),
    /// A compression type the protocol does not know.
    UnknownCompression(u8),
    /// The number of records is not positive, or disagrees with the last offset delta.
    BadCount {
        /// The header's number of records.
        count: i32,
        /// The header's last offset delta.
        last_offset_delta: i32,
    },
    /// A client sent a base offset other than 0.
    ClientOffset(i64),
    /// A client sent a control batch.
    ClientControl,
    /// Producer id, epoch, sequence and the transactional bit do not go together.
    BadProducer,
    /// A timestamp outside the topic's bounds.
    BadTimestamp {
        /// The offending timestamp in milliseconds.
        timestamp: i64,
        /// The broker's clock then, in milliseconds.
        now: i64,
    },
    /// A batch that says the broker dated it.
    DatedByBroker,
    /// The batch is larger than the topic allows.
    TooLarge {
        /// Size in bytes.
        bytes: usize,
        /// The limit in bytes.
        bytes_max: usize,
    },
    /// Decompression would give more than the caller's cap.
    ExpandsTooFar {
        /// The cap in bytes.
        bytes_max: usize,
    },
    /// The compressed payload cannot be decompressed.
    BadCompression(Compressed),
    /// The record at this index is malformed: its fields do not fill its length, or a length is negative.
    BadRecord {
        /// Index within the batch, from 0.
        index: u32,
    },
    /// Bytes are left after the last record.
    TrailingBytes(usize),
    /// A record of a compacted topic has no key.
    KeyMissing {
        /// Index within the batch, from 0.
        index: u32,
    },
    /// A control record whose key or value is not of a known form.
    BadControl,
}

/// Name of the codec that refused its input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compressed(pub &'static str);

impl BatchError {
    /// Whether more bytes could make the input whole: the ordinary end of a fetch answer cut by its byte limit.
    pub fn is_partial(&self) -> bool {
        matches!(self, BatchError::Partial { .. })
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchError::Partial { needed, available } => {
                write!(f, "the batch needs {needed} bytes and {available} are there")
            }
            BatchError::BadLength(length) => write!(f, "batch length {length} is impossible"),
            BatchError::UnsupportedMagic(magic) => {
                write!(f, "record format {magic} is not supported; only format 2 is")
            }
            BatchError::BadCrc { stored, computed } => {
                write!(f, "checksum is {computed:08x}, the header says {stored:08x}")
            }
            BatchError::BadOffsets => f.write_str("impossible base offset or last offset delta"),
            BatchError::BadAttributes(bits) => {
                write!(f, "attributes {bits:#06x} hold bits that a producer may not set")
            }
            BatchError::UnknownCompression(id) => write!(f, "unknown compression type {id}"),
            BatchError::BadCount { count, last_offset_delta } => {
                write!(
                    f,
                    "records count {count} disagrees with last offset delta {last_offset_delta}"
                )
            }
            BatchError::ClientOffset(offset) => {
                write!(f, "the base offset of a produced batch must be 0, not {offset}")
            }
            BatchError::ClientControl => f.write_str("clients may not write control batches"),
            BatchError::BadProducer => f.write_str(
                "producer id, epoch, sequence and transactional flag do not go together",
            ),
            BatchError::BadTimestamp { timestamp, now } => {
                let (apart, side, key) = match now.checked_sub(*timestamp) {
                    Some(apart @ 0..) => (apart, "behind", "message.timestamp.before.max.ms"),
                    _ => (
                        timestamp.saturating_sub(*now),
                        "ahead of",
                        "message.timestamp.after.max.ms",
                    ),
                };
                write!(
                    f,
                    "timestamp {timestamp} is {apart} ms {side} this broker's clock ({now}), more than \
                     {key} of the topic allows: set the clock that is wrong, or that bound"
                )
            }
            BatchError::DatedByBroker => f.write_str(
                "only the broker may say that it dated a batch (timestamp type LogAppendTime)",
            ),
            BatchError::TooLarge { bytes, bytes_max } => {
                write!(f, "the batch has {bytes} bytes, the topic takes at most {bytes_max}")
            }
            BatchError::ExpandsTooFar { bytes_max } => {
                write!(f, "the batch expands to more than {bytes_max} bytes")
            }
            BatchError::BadCompression(Compressed(codec)) => {
                write!(f, "the payload is not valid {codec}")
            }
            BatchError::BadRecord { index } => {
                write!(f, "record {index} of the batch is malformed")
            }
            BatchError::TrailingBytes(count) => {
                write!(f, "{count} bytes follow the last record of the batch")
            }
            BatchError::KeyMissing { index } => {
                write!(f, "record {index} has no key, which a compacted topic demands")
            }
            BatchError::BadControl => f.write_str("the control record is of no known form"),
        }
    }
}

impl std::error::Error for BatchError {}
