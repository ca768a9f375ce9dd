//! POSIX files. Handles stay open as long as a clone lives, so that a writeback error is reported to the sync that
//! covers the write and not lost with a closed descriptor.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use env::{DirEntry, Disk, File, OpenMode, Space};
use rustix::fs::{Advice, FallocateFlags, FlockOperation};
use rustix::io::{Errno, ReadWriteFlags};

use super::syncer::Syncer;
use super::threads::wait_for;
use super::way::{Room, WAY};

/// The machine's file systems.
#[derive(Clone)]
pub struct RealDisk;

/// An open file.
#[derive(Clone, Debug)]
pub struct RealFile(Arc<Open>);

#[derive(Debug)]
struct Open {
    file: fs::File,
    /// Where the last read from the device ended: who begins there reads on.
    cold_end: AtomicU64,
    /// A range could not be read.
    read_failed: AtomicBool,
    /// For synced writes, once there are some.
    syncer: OnceLock<Syncer>,
}

impl Drop for Open {
    fn drop(&mut self) {
        FILES_OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Descriptors are the process's, and so is their count.
static FILES_OPEN: AtomicUsize = AtomicUsize::new(0);

/// Files that this process holds open.
pub(super) fn files_open() -> usize {
    FILES_OPEN.load(Ordering::Relaxed)
}

/// A process that was killed holds its locks until its last write has ended: whoever restarts it at once waits so long.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_POLL: Duration = Duration::from_millis(5);

/// Most buffers the kernel takes in one vectored call (IOV_MAX on Linux).
const BUFFERS_MAX: usize = 1024;

/// What the page cache does not hold is asked of the device in pieces of this size, the next one while one is on its way.
/// The kernel's own readahead is as large as the device's setting says (often 8 MiB), and a sync waits behind all of it.
const PIECE_BYTES: usize = 128 << 10;

/// The same between two synced writes that leave a gap: the next one waits for such a piece at most.
const GAP_PIECE_BYTES: usize = 64 << 10;

/// How many pieces beyond what is asked are fetched for who reads on.
const PIECES_AHEAD: usize = 4;

/// A lack of descriptors is nothing of the disk's: whoever reads the error must know what to raise.
fn explained(error: io::Error) -> io::Error {
    match Errno::from_io_error(&error) {
        Some(Errno::MFILE | Errno::NFILE) => io::Error::new(
            error.kind(),
            format!("{error}: raise the limit of open files (ulimit -n)"),
        ),
        _ => error,
    }
}

impl Disk for RealDisk {
    type File = RealFile;

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<RealFile> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => &mut options,
            OpenMode::Write => options.write(true),
            OpenMode::Create => options.write(true).create(true).truncate(false),
            OpenMode::CreateNew => options.write(true).create_new(true),
        };
        let file = options.open(path).map_err(explained)?;
        FILES_OPEN.fetch_add(1, Ordering::Relaxed);
        let (cold_end, read_failed) = (AtomicU64::new(0), AtomicBool::new(false));
        Ok(RealFile(Arc::new(Open { file, cold_end, read_failed, syncer: OnceLock::new() })))
    }

    async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Removed between the listing and the look.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_dir = metadata.is_dir();
            entries.push(DirEntry { name, is_dir, len: if is_dir { 0 } else { metadata.len() } });
        }
        entries.sort();
        Ok(entries)
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        wait_for(move || fs::rename(from, to)).await
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        wait_for(move || fs::remove_file(path)).await
    }

    async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        wait_for(move || fs::remove_dir_all(path)).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        wait_for(move || fs::File::open(path)?.sync_all()).await
    }

    async fn sync_all(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        wait_for(move || Ok(rustix::fs::syncfs(fs::File::open(path)?)?)).await
    }

    async fn space(&self, path: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(Space { total: stat.f_blocks * stat.f_frsize, available: stat.f_bavail * stat.f_frsize })
    }

    async fn lock(&self, path: &Path) -> io::Result<RealFile> {
        let file = self.open(path, OpenMode::Create).await?;
        let deadline = tokio::time::Instant::now() + LOCK_PATIENCE;
        loop {
            match rustix::fs::flock(file.as_fs(), FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(LOCK_POLL).await;
                }
                result => return Ok(result.map(|()| file)?),
            }
        }
    }

    async fn exists(&self, path: &Path) -> io::Result<bool> {
        fs::exists(path)
    }
}

impl RealFile {
    pub(super) fn as_fs(&self) -> &fs::File {
        &self.0.file
    }

    /// Writes all buffers from `offset` with as few calls as the kernel allows.
    fn write_all_at(&self, mut offset: u64, data: &[Bytes]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = data.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let batch = &rest[..rest.len().min(BUFFERS_MAX)];
            match rustix::io::pwritev(self.as_fs(), batch, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Reads until `buffer` is full or the file ends.
    fn read_full_at(&self, mut offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.as_fs().read_at(&mut buffer[filled..], offset) {
                Ok(0) => break,
                Ok(read) => {
                    filled += read;
                    offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.note_read_failure();
                    return Err(error);
                }
            }
        }
        Ok(filled)
    }

    /// Reads what the page cache holds of the range; fewer bytes than asked mean "not cached" or the end of the file.
    fn read_cached_at(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let mut slices = [IoSliceMut::new(buffer)];
        // File systems without support answer EOPNOTSUPP: the caller then takes the slow way.
        rustix::io::preadv2(self.as_fs(), &mut slices, offset, ReadWriteFlags::NOWAIT).unwrap_or(0)
    }

    /// Whether the page cache holds the range, by a look at each piece: sending it will hardly wait for the device.
    pub(super) fn is_cached(&self, offset: u64, len: usize) -> bool {
        let Some(last) = len.checked_sub(1) else { return true };
        let mut byte = [0u8];
        let mut looks = (0..last).step_by(PIECE_BYTES).chain([last]);
        looks.all(|at| self.read_cached_at(offset + at as u64, &mut byte) == 1)
    }

    /// A range could not be read: who reads next looks closer.
    pub(super) fn note_read_failure(&self) {
        self.0.read_failed.store(true, Ordering::Relaxed);
    }

    /// Brings the range into the page cache, on a thread that may wait.
    pub(super) async fn warm(&self, offset: u64, len: usize) -> io::Result<()> {
        let file = self.clone();
        wait_for(move || {
            let mut scratch = vec![0; PIECE_BYTES.min(len)];
            file.for_pieces(offset, len, |at, piece| {
                file.read_full_at(offset + at as u64, &mut scratch[..piece])
            })?;
            Ok(())
        })
        .await
    }

    /// Reads until `buffer` is full or the file ends, as [`PIECE_BYTES`] says.
    fn read_cold_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.for_pieces(offset, buffer.len(), |at, piece| {
            self.read_full_at(offset + at as u64, &mut buffer[at..at + piece])
        })
    }

    /// Calls `read` for each piece of the range, with its place in it and its length, while the device is at work for the
    /// next ones; how many bytes there were.
    fn for_pieces(
        &self,
        offset: u64,
        len: usize,
        mut read: impl FnMut(usize, usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        // Advice that a file system does not take is none that the reading needs.
        let advise = |offset: u64, len: usize, advice| {
            let _ = rustix::fs::fadvise(self.as_fs(), offset, NonZeroU64::new(len as u64), advice);
        };
        advise(0, 0, Advice::Random);
        let end = offset + len as u64;
        let reads_on = self.0.cold_end.swap(end, Ordering::Relaxed) == offset && offset > 0;
        let ahead = if reads_on { PIECES_AHEAD * PIECE_BYTES } else { 0 };
        let mut at = 0;
        while at < len {
            let room = WAY.give();
            let piece = if room == Room::Gap { GAP_PIECE_BYTES } else { PIECE_BYTES };
            let piece = piece.min(len - at);
            let next = at + piece;
            if room != Room::Free {
                // One piece at a time: what is in the device's queue is served before the next synced write.
            } else if next < len {
                advise(offset + next as u64, PIECE_BYTES.min(len - next), Advice::WillNeed);
            } else if ahead > 0 {
                advise(end, ahead, Advice::WillNeed);
            }
            let done = read(at, piece)?;
            if done < piece {
                return Ok(at + done);
            }
            at = next;
        }
        Ok(len)
    }
}

impl File for RealFile {
    async fn write_at(&self, offset: u64, data: Vec<Bytes>) -> io::Result<()> {
        self.write_all_at(offset, &data)
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let mut buffer = BytesMut::zeroed(len);
        let cached = self.read_cached_at(offset, &mut buffer);
        if cached < len {
            let file = self.clone();
            buffer = wait_for(move || {
                let read = file.read_cold_at(offset + cached as u64, &mut buffer[cached..])?;
                buffer.truncate(cached + read);
                Ok(buffer)
            })
            .await?;
        }
        Ok(buffer.freeze())
    }

    async fn read_once_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let file = self.clone();
        let buffer = wait_for(move || {
            let mut buffer = BytesMut::zeroed(len);
            let cached = file.read_cached_at(offset, &mut buffer);
            if cached < len {
                // Without readahead: what it fetches would look like somebody else's next time.
                rustix::fs::fadvise(file.as_fs(), 0, None, Advice::Random)?;
                let from = offset + cached as u64;
                WAY.give();
                let read = file.read_full_at(from, &mut buffer[cached..])?;
                buffer.truncate(cached + read);
                if let Some(fetched) = NonZeroU64::new(read as u64) {
                    rustix::fs::fadvise(file.as_fs(), from, Some(fetched), Advice::DontNeed)?;
                }
            }
            io::Result::Ok(buffer)
        });
        Ok(buffer.await?.freeze())
    }

    fn take_read_failure(&self) -> bool {
        self.0.read_failed.swap(false, Ordering::Relaxed)
    }

    async fn sync_data(&self) -> io::Result<()> {
        let file = self.clone();
        wait_for(move || {
            let _urgent = WAY.urgent();
            file.as_fs().sync_data()
        })
        .await
    }

    async fn write_and_sync(&self, offset: u64, data: Vec<Bytes>) -> io::Result<()> {
        let syncer = match self.0.syncer.get() {
            Some(syncer) => syncer,
            None => {
                let syncer = Syncer::new(self.as_fs()).map_err(explained)?;
                self.0.syncer.get_or_init(|| syncer)
            }
        };
        let (file, same) = (self.clone(), self.clone());
        let write = move |offset, data: &[Bytes]| file.write_all_at(offset, data);
        // Of the descriptor that other writes go through: it hears of their failures.
        let sync = move || same.as_fs().sync_data();
        syncer.write_and_sync(offset, data, write, sync).await
    }

    async fn set_len(&self, len: u64) -> io::Result<()> {
        let file = self.clone();
        wait_for(move || file.as_fs().set_len(len)).await
    }

    async fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let file = self.clone();
        wait_for(move || {
            match rustix::fs::fallocate(file.as_fs(), FallocateFlags::KEEP_SIZE, offset, len) {
                // A file system that cannot reserve reports the lack of space at the write itself.
                Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
                Err(errno) => Err(errno.into()),
            }
        })
        .await
    }

    async fn len(&self) -> io::Result<u64> {
        Ok(self.as_fs().metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn vectored_writes_read_back_and_stop_at_the_end() {
        let dir = std::env::temp_dir().join(format!("foretold-disk-{}", std::process::id()));
        RealDisk.create_dir_all(&dir).await.unwrap();
        let path = dir.join("file");
        let file = RealDisk.open(&path, OpenMode::Create).await.unwrap();
        let parts: Vec<Bytes> =
            (0..3000u32).map(|n| Bytes::from(n.to_be_bytes().to_vec())).collect();
        file.write_at(8, parts.clone()).await.unwrap();
        file.sync_data().await.unwrap();
        let read = file.read_at(8, 20_000).await.unwrap();
        assert_eq!(read, parts.concat());
        assert!(file.read_at(1 << 20, 10).await.unwrap().is_empty());
        RealDisk.replace(&path, Bytes::from_static(b"new")).await.unwrap();
        assert_eq!(RealDisk.read_all(&path).await.unwrap(), "new");
        let held = RealDisk.lock(&dir.join("lock")).await.unwrap();
        let second = RealDisk.lock(&dir.join("lock")).await.unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
        drop(held);
        RealDisk.remove_dir_all(&dir).await.unwrap();
    }

    #[tokio::test]
    async fn cold_ranges_of_any_size_are_read_and_warmed() {
        let path = std::env::temp_dir().join(format!("foretold-cold-{}", std::process::id()));
        let file = RealDisk.open(&path, OpenMode::Create).await.unwrap();
        let len = 5 * PIECE_BYTES + 777;
        let content: Vec<u8> = (0..len as u32).flat_map(|n| [(n % 251) as u8]).collect();
        file.write_at(0, vec![Bytes::from(content.clone())]).await.unwrap();
        file.sync_data().await.unwrap();
        let chill = || rustix::fs::fadvise(file.as_fs(), 0, None, Advice::DontNeed).unwrap();
        let ranges = [
            (0, PIECE_BYTES),
            (PIECE_BYTES, PIECE_BYTES),
            (3, 3 * PIECE_BYTES),
            (2 * PIECE_BYTES - 1, 2),
            (17, 1),
            (len - 1, 1),
            (0, len),
        ];
        for (from, size) in ranges {
            chill();
            let read = file.read_at(from as u64, size).await.unwrap();
            assert!(read == content[from..from + size], "{size} bytes from {from}");
            chill();
            file.warm(from as u64, size).await.unwrap();
            assert!(file.is_cached(from as u64, size), "{size} bytes from {from}");
        }
        chill();
        // The end of the file is the end of the read; a range beyond it is warm as far as it can be.
        assert_eq!(file.read_at(1, len * 2).await.unwrap(), content[1..]);
        file.warm(1, len * 2).await.unwrap();
        assert!(!file.is_cached(1, len * 2) && file.is_cached(0, 0));
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn synced_writes_of_any_size_and_place_read_back() {
        let path = std::env::temp_dir().join(format!("foretold-synced-{}", std::process::id()));
        let file = RealDisk.open(&path, OpenMode::Create).await.unwrap();
        let mut expected = vec![0; 3 << 20];
        // Whole pages, in several pieces and more than go in one write; then odd places, beside and over them.
        let writes =
            [(0, 8192), (4096, 1 << 20), (2 << 20, (1 << 20) - 4096), (100, 5000), (8192, 3)];
        for (number, (offset, len)) in writes.into_iter().enumerate() {
            let bytes: Vec<u8> = (0..len).map(|at| (at % 251 + number) as u8).collect();
            expected[offset..offset + len].copy_from_slice(&bytes);
            let pieces = bytes.chunks(len / 3 + 1).map(Bytes::copy_from_slice).collect();
            file.write_and_sync(offset as u64, pieces).await.unwrap();
            let read = file.read_at(offset as u64, len).await.unwrap();
            assert!(read == bytes, "{len} bytes at {offset}");
        }
        let len = file.len().await.unwrap() as usize;
        assert!(file.read_at(0, 3 << 20).await.unwrap() == expected[..len]);
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn a_synced_write_that_nobody_waits_for_answers_no_other() {
        let path = std::env::temp_dir().join(format!("foretold-abandoned-{}", std::process::id()));
        let file = RealDisk.open(&path, OpenMode::Create).await.unwrap();
        for round in 0..100u64 {
            let page = |byte| vec![Bytes::from(vec![byte; 4096])];
            tokio::select! {
                biased;
                _ = file.write_and_sync(round * 8192, page(1)) => {}
                () = std::future::ready(()) => {}
            }
            file.write_and_sync(round * 8192 + 4096, page(2)).await.unwrap();
            let read = file.read_at(round * 8192, 8192).await.unwrap();
            assert!(read[..4096] == [1; 4096] && read[4096..] == [2; 4096], "round {round}");
        }
        std::fs::remove_file(path).unwrap();
    }
}
