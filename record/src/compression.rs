//! The four codecs, as Kafka frames them.
//!
//! Expanding never trusts a size that the input states: output grows as it is produced and stops at the caller's cap, so
//! that a small request cannot claim a large memory. Compressing writes the framing every client reads: gzip, the chunked
//! snappy framing of the Java client (raw snappy is read too), LZ4 frames with independent blocks, zstd frames.

use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;

use bytes::{BufMut, Bytes, BytesMut};

use crate::BatchError;
use crate::error::Compressed;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4 frame format.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// Every codec.
    pub const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    /// Number of the codec in a batch's attributes.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The codec with that number.
    pub const fn from_id(id: u8) -> Result<Compression, BatchError> {
        match id {
            0 => Ok(Compression::None),
            1 => Ok(Compression::Gzip),
            2 => Ok(Compression::Snappy),
            3 => Ok(Compression::Lz4),
            4 => Ok(Compression::Zstd),
            _ => Err(BatchError::UnknownCompression(id)),
        }
    }

    /// Its name in configurations.
    pub const fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    /// Expands `input` to at most `cap` bytes; an error if it would be more, or is not what this codec wrote.
    pub fn expand(self, input: &[u8], cap: usize) -> Result<Bytes, BatchError> {
        match self {
            Compression::None if input.len() > cap => {
                Err(BatchError::ExpandsTooFar { bytes_max: cap })
            }
            Compression::None => Ok(Bytes::copy_from_slice(input)),
            Compression::Gzip => {
                self.read_capped(flate2::bufread::MultiGzDecoder::new(input), input.len(), cap)
            }
            Compression::Snappy => expand_snappy(input, cap),
            Compression::Lz4 if !input.starts_with(&LZ4_MAGIC) => Err(self.damaged()),
            Compression::Lz4 => {
                self.read_capped(lz4_flex::frame::FrameDecoder::new(input), input.len(), cap)
            }
            Compression::Zstd => {
                let decoder =
                    zstd::stream::read::Decoder::with_buffer(input).map_err(|_| self.damaged())?;
                self.read_capped(decoder, input.len(), cap)
            }
        }
    }

    fn read_capped(
        self,
        reader: impl Read,
        input_len: usize,
        cap: usize,
    ) -> Result<Bytes, BatchError> {
        let mut out = Vec::with_capacity(input_len.saturating_mul(2).min(cap));
        // One byte beyond the cap tells "exactly the cap" from "more".
        let mut reader = reader.take((cap as u64).saturating_add(1));
        reader.read_to_end(&mut out).map_err(|_| self.damaged())?;
        if out.len() > cap {
            return Err(BatchError::ExpandsTooFar { bytes_max: cap });
        }
        Ok(Bytes::from(out))
    }

    fn damaged(self) -> BatchError {
        BatchError::BadCompression(Compressed(self.name()))
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Compression {
    type Err = ();

    fn from_str(name: &str) -> Result<Compression, ()> {
        // Topics call it "uncompressed", producers "none".
        if name == "uncompressed" {
            return Ok(Compression::None);
        }
        Compression::ALL.into_iter().find(|codec| codec.name() == name).ok_or(())
    }
}

/// A codec and how hard it tries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Codec {
    compression: Compression,
    level: Option<i32>,
}

impl From<Compression> for Codec {
    fn from(compression: Compression) -> Codec {
        Codec { compression, level: None }
    }
}

impl Codec {
    /// `compression` at `level`, clamped to the codec's range: gzip 1-9 (-1 is its default), zstd -131072-22. Snappy has no
    /// levels; LZ4 accepts one and writes the fast form.
    pub fn with_level(compression: Compression, level: i32) -> Codec {
        Codec { compression, level: Some(level) }
    }

    /// Which codec.
    pub fn compression(self) -> Compression {
        self.compression
    }

    /// Appends the compressed form of `input` to `out`.
    pub(crate) fn compress(self, input: &[u8], out: &mut BytesMut) -> Result<(), BatchError> {
        let damaged = |_| self.compression.damaged();
        match self.compression {
            Compression::None => out.extend_from_slice(input),
            Compression::Gzip => {
                let level = match self.level {
                    None | Some(-1) => flate2::Compression::default(),
                    Some(level) => flate2::Compression::new(level.clamp(1, 9) as u32),
                };
                let mut encoder = flate2::write::GzEncoder::new(out.writer(), level);
                encoder.write_all(input).map_err(damaged)?;
                encoder.finish().map_err(damaged)?;
            }
            Compression::Snappy => compress_snappy(input, out)?,
            Compression::Lz4 => {
                let info = lz4_flex::frame::FrameInfo::new()
                    .block_size(lz4_flex::frame::BlockSize::Max64KB)
                    .block_mode(lz4_flex::frame::BlockMode::Independent);
                let mut encoder =
                    lz4_flex::frame::FrameEncoder::with_frame_info(info, out.writer());
                encoder.write_all(input).map_err(damaged)?;
                encoder.finish().map_err(|_| self.compression.damaged())?;
            }
            Compression::Zstd => {
                let level = self.level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
                let bytes =
                    zstd::bulk::compress(input, level.clamp(-131_072, 22)).map_err(damaged)?;
                out.extend_from_slice(&bytes);
            }
        }
        Ok(())
    }
}

/// Front of an LZ4 frame. The library reads the legacy frame too, whose blocks are twice as large; no Kafka client does.
const LZ4_MAGIC: [u8; 4] = *b"\x04\x22\x4d\x18";

/// Front of the Java client's snappy framing; two version numbers of four bytes follow, then chunks with their length.
const XERIAL_MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const XERIAL_HEADER_LEN: usize = 16;
const XERIAL_CHUNK_LEN: usize = 32 * 1024;

/// A snappy element of three bytes gives at most 64: what an honest length can be at most.
const SNAPPY_RATIO_MAX: usize = 22;

fn expand_snappy(input: &[u8], cap: usize) -> Result<Bytes, BatchError> {
    let damaged = || Compression::Snappy.damaged();
    let mut out = Vec::new();
    if !input.starts_with(&XERIAL_MAGIC) {
        expand_snappy_chunk(input, &mut out, cap)?;
        return Ok(Bytes::from(out));
    }
    let mut rest = input.get(XERIAL_HEADER_LEN..).ok_or_else(damaged)?;
    while !rest.is_empty() {
        // Streams may be written one after the other, each with its header.
        if rest.starts_with(&XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER_LEN..).ok_or_else(damaged)?;
            continue;
        }
        let (length, tail) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (chunk, tail) = tail.split_at_checked(length).ok_or_else(damaged)?;
        expand_snappy_chunk(chunk, &mut out, cap)?;
        rest = tail;
    }
    Ok(Bytes::from(out))
}

fn expand_snappy_chunk(chunk: &[u8], out: &mut Vec<u8>, cap: usize) -> Result<(), BatchError> {
    let damaged = || Compression::Snappy.damaged();
    let length = snap::raw::decompress_len(chunk).map_err(|_| damaged())?;
    if length > chunk.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err(damaged());
    }
    let start = out.len();
    if length > cap - start {
        return Err(BatchError::ExpandsTooFar { bytes_max: cap });
    }
    out.resize(start + length, 0);
    let written =
        snap::raw::Decoder::new().decompress(chunk, &mut out[start..]).map_err(|_| damaged())?;
    if written == length { Ok(()) } else { Err(damaged()) }
}

fn compress_snappy(input: &[u8], out: &mut BytesMut) -> Result<(), BatchError> {
    out.extend_from_slice(&XERIAL_MAGIC);
    out.put_u32(1);
    out.put_u32(1);
    let mut encoder = snap::raw::Encoder::new();
    for chunk in input.chunks(XERIAL_CHUNK_LEN) {
        let bytes = encoder.compress_vec(chunk).map_err(|_| Compression::Snappy.damaged())?;
        out.put_u32(bytes.len() as u32);
        out.extend_from_slice(&bytes);
    }
    Ok(())
}
