//! Primitive encodings of the Kafka protocol: integers, variable-length integers, text, bytes, arrays, tagged fields.
//!
//! This is a room of its own because two crates that do not know each other need it: `wire` for messages and `record`
//! for batches and stored records. Decoding is where bytes from strangers enter, so the rules live here, once:
//!
//! - nothing panics; every failure is a [`DecodeError`];
//! - a length is compared with the bytes that remain before anything is reserved, and what arrays may reserve in one
//!   message is bounded by [`EXPANSION_MAX`] times its input;
//! - bytes are slices of the input, never copies. Whoever keeps one longer than the request copies it, or the whole
//!   frame stays in memory with it. Text ([`Str`]) is copied once and then shared.
//!
//! Most readers and writers take `flexible`: whether the message's version encodes lengths as unsigned variable-length
//! integers (length + 1, zero for null) or as plain big-endian integers (-1 for null).

mod error;
mod reader;
#[cfg(feature = "sampling")]
mod sample;
#[cfg(test)]
mod tests;
mod text;
mod varint;
mod writer;

pub use error::{DecodeError, EncodeError};
pub use reader::Reader;
pub use text::Str;
pub use varint::{
    read_unsigned_varint, read_varint, read_varlong, unsigned_varint_len, varint_len, varlong_len,
    write_unsigned_varint, write_varint, write_varlong,
};
pub use writer::{Tags, Writer};

/// Most elements an array may claim.
pub const ELEMENTS_MAX: usize = 1_000_000;

/// Most tagged fields a structure may carry.
pub const TAGS_MAX: usize = 10_000;

/// Longest text in bytes: what a signed 16-bit length can say, in either length encoding.
pub const TEXT_BYTES_MAX: usize = i16::MAX as usize;

/// How many bytes of memory arrays of one message may reserve for each byte of input.
pub const EXPANSION_MAX: usize = 64;

/// What arrays of one message may reserve besides, so that tiny messages need no exception.
pub const EXPANSION_SLACK: usize = 4096;
