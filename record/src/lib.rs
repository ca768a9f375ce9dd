//! Stored bytes: what a partition's log consists of.
//!
//! A log is a run of record batches, format 2 ("magic 2"), exactly as they cross the wire: the broker stores what the
//! producer sent and consumers receive what is stored. This room knows the layout and nothing of where the bytes live.
//!
//! ```text
//!  0        8      12     16    17   21    23     27     35     43    51    53    57     61
//!  | base   | len- | epo- |magic| crc|attri|last  | base | max  | pro- |epoch| base |count | records ...
//!  | offset | gth  | ch   |     |    |butes|delta | time | time | ducer|     | seq. |      | (compressed as one)
//!  |<- patched by the leader ->|    |<------------- covered by the CRC32C --------------------------------->
//! ```
//!
//! - [`BatchHeader`] reads these 61 bytes; [`Batch`] is a header and its payload; [`Batches`] splits a run of them.
//! - Placing a batch ([`Batch::placed`]) gives it its offset and epoch without touching or copying the payload, since both
//!   fields lie outside the checksum.
//! - [`check_produced`] is the only gate between a client's bytes and a log.
//! - [`Batch::records`] and [`BatchBuilder`] are for those who care what is inside: coordinators, consumers, compaction.
//!
//! Invariants: nothing here panics on any input, and no allocation exceeds a small multiple of the input or the caller's
//! cap. A batch that [`check_produced`] accepted uncompressed can be read to its end (I1, I2).

mod batch;
mod builder;
mod check;
mod compression;
mod control;
mod error;
mod header;
mod records;
pub mod stored;
mod varint;

pub use batch::{Batch, Batches};
pub use builder::{BatchBuilder, BatchOptions};
pub use check::{ProduceRules, Validation, check_produced};
pub use compression::{Codec, Compression};
pub use control::{ControlRecord, TxnDecision};
pub use error::{BatchError, Compressed};
pub use header::{BATCH_OVERHEAD, BatchHeader, HEADER_LEN, ProducerStamp, TimestampType};
pub use records::{Record, RecordHeader, Records};
