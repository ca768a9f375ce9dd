//! Walking a segment from batch to batch, by headers alone or with every checksum verified.

use std::io;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use env::File;
use record::{BatchHeader, HEADER_LEN};
use types::Offset;

/// How much of a batch's records is asked for at least.
const PIECE_BYTES: usize = 4 << 10;

/// First byte of a batch that its checksum covers.
const CRC_START: u64 = 21;

/// A walk through bytes `position..end` of a segment file. Each batch must begin where the one before it ended (I2): base
/// offsets lie outside the checksums.
pub(crate) struct Walk<F> {
    file: F,
    position: u64,
    end: u64,
    /// The offset that must come next, once it is known.
    expected: Option<Offset>,
    chunk: Bytes,
    chunk_at: u64,
    chunk_bytes: usize,
    verify: bool,
    /// What is read will not be read again.
    once: bool,
}

/// The next step of a walk.
#[derive(Debug)]
pub(crate) enum Step {
    /// A batch at this position.
    Batch(u64, BatchHeader),
    /// Here should be a batch, and there is none, or its checksum is wrong.
    Bad,
    /// The end.
    End,
}

impl<F: File> Walk<F> {
    /// A walk by headers that reads at most `chunk_bytes` at a time.
    pub fn new(file: F, position: u64, end: u64, chunk_bytes: usize) -> Walk<F> {
        let chunk_bytes = chunk_bytes.max(HEADER_LEN);
        let (expected, chunk) = (None, Bytes::new());
        let (verify, once) = (false, false);
        Walk { file, position, end, expected, chunk, chunk_at: 0, chunk_bytes, verify, once }
    }

    /// The same walk, whose first batch must begin at `offset`.
    pub fn from(mut self, offset: Offset) -> Walk<F> {
        self.expected = Some(offset);
        self
    }

    /// The same walk, checking every batch's CRC.
    pub fn verified(mut self) -> Walk<F> {
        self.verify = true;
        self
    }

    /// The same walk, by somebody who does not come back.
    pub fn once(mut self) -> Walk<F> {
        self.once = true;
        self
    }

    /// Up to `len` bytes at `position`, from the chunk or the file.
    async fn bytes(&mut self, position: u64, len: usize) -> io::Result<Bytes> {
        let inside = position >= self.chunk_at
            && position + len as u64 <= self.chunk_at + self.chunk.len() as u64;
        if !inside {
            let left = usize::try_from(self.end - position).unwrap_or(usize::MAX);
            let wanted = self.chunk_bytes.max(len).min(left);
            self.chunk = match self.read(position, wanted).await {
                // A part that the device refuses must not hide the rest; it is asked for no more at once from here on.
                Err(_) if wanted > len.min(left) => {
                    self.chunk_bytes = HEADER_LEN;
                    self.read(position, len.min(left)).await?
                }
                chunk => chunk?,
            };
            self.chunk_at = position;
        }
        let start = (position - self.chunk_at) as usize;
        Ok(self.chunk.slice(start..self.chunk.len().min(start + len)))
    }

    async fn read(&self, position: u64, len: usize) -> io::Result<Bytes> {
        match self.once {
            true => self.file.read_once_at(position, len).await,
            false => self.file.read_at(position, len).await,
        }
    }

    /// The next batch. After anything else the walk is over.
    pub async fn next(&mut self) -> io::Result<Step> {
        let at = self.position;
        if at >= self.end {
            return Ok(Step::End);
        }
        if self.end - at < HEADER_LEN as u64 {
            return Ok(Step::Bad);
        }
        let Ok(header) = BatchHeader::parse(&self.bytes(at, HEADER_LEN).await?) else {
            return Ok(Step::Bad);
        };
        if self.expected.is_some_and(|expected| expected != header.base_offset()) {
            return Ok(Step::Bad);
        }
        let total = header.bytes_total() as u64;
        if total > self.end - at || (self.verify && !self.crc_ok(at, &header).await?) {
            return Ok(Step::Bad);
        }
        self.position = at + total;
        self.expected = Some(header.end_offset());
        Ok(Step::Batch(at, header))
    }

    async fn crc_ok(&mut self, at: u64, header: &BatchHeader) -> io::Result<bool> {
        let end = at + header.bytes_total() as u64;
        let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        let mut position = at + CRC_START;
        while position < end {
            // The rest of the chunk first, then chunk by chunk: memory does not follow the batch's claimed size.
            let in_chunk = (self.chunk_at + self.chunk.len() as u64).saturating_sub(position);
            let len = match in_chunk {
                0 => self.chunk_bytes.max(PIECE_BYTES) as u64,
                some => some,
            };
            let piece = self.bytes(position, len.min(end - position) as usize).await?;
            if piece.is_empty() {
                return Ok(false);
            }
            digest.update(&piece);
            position += piece.len() as u64;
        }
        Ok(digest.finalize() as u32 == header.crc())
    }
}
