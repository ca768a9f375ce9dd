//! Writes past the page cache (`O_DIRECT`): a journal group is on its way to the device at once, without the pages,
//! dirty marks and writeback that a sync of cached bytes costs (docs/adr/0003).

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use bytes::Bytes;
use rustix::fs::OFlags;

/// Offset, length and memory of a direct write are multiples of this: whatever the logical block size of a device is, it
/// divides a page.
const ALIGNMENT: usize = 4096;
/// Bytes of one write; more go in several.
const CHUNK_BYTES: usize = 512 << 10;

/// A second descriptor of a file, for direct writes, and an aligned buffer for them.
#[derive(Debug)]
pub(super) struct Direct {
    file: fs::File,
    buffer: Vec<u8>,
}

impl Direct {
    /// `None` where the file system knows no such writes.
    pub fn of(file: &fs::File) -> Option<Direct> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = OFlags::DIRECT.bits().cast_signed();
        let file = OpenOptions::new().write(true).custom_flags(flags).open(path).ok()?;
        Some(Direct { file, buffer: Vec::new() })
    }

    /// Whether a write can be a direct one.
    pub fn fits(offset: u64, data: &[Bytes]) -> bool {
        let bytes = data.iter().map(Bytes::len).sum::<usize>();
        offset.is_multiple_of(ALIGNMENT as u64) && bytes.is_multiple_of(ALIGNMENT)
    }

    /// Writes all buffers from `offset`.
    pub fn write_all_at(&mut self, mut offset: u64, data: &[Bytes]) -> io::Result<()> {
        let bytes = data.iter().map(Bytes::len).sum::<usize>().min(CHUNK_BYTES);
        if self.buffer.len() < bytes + ALIGNMENT {
            self.buffer = vec![0; bytes + ALIGNMENT];
        }
        // Nothing moves the buffer meanwhile.
        let start = self.buffer.as_ptr().align_offset(ALIGNMENT);
        let chunk = &mut self.buffer[start..start + bytes];
        let mut filled = 0;
        for mut rest in data.iter().map(|piece| &piece[..]) {
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(chunk.len() - filled));
                chunk[filled..filled + now.len()].copy_from_slice(now);
                (filled, rest) = (filled + now.len(), later);
                if filled == chunk.len() {
                    self.file.write_all_at(chunk, offset)?;
                    offset += filled as u64;
                    filled = 0;
                }
            }
        }
        self.file.write_all_at(&chunk[..filled], offset)
    }
}
