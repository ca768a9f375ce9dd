//! POSIX files. Handles stay open as long as a clone lives, so that a writeback error is reported to the sync that
//! covers the write and not lost with a closed descriptor.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use env::{DirEntry, Disk, File, OpenMode, Space};
use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::{Errno, ReadWriteFlags};

/// The machine's file systems.
#[derive(Clone)]
pub struct RealDisk;

/// An open file.
#[derive(Clone, Debug)]
pub struct RealFile(pub(super) Arc<fs::File>);

/// Most buffers the kernel takes in one vectored call (IOV_MAX on Linux).
const BUFFERS_MAX: usize = 1024;

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

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(error)),
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
        Ok(RealFile(Arc::new(options.open(path).map_err(explained)?)))
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
        blocking(move || fs::rename(from, to)).await
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || fs::remove_file(path)).await
    }

    async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || fs::remove_dir_all(path)).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || fs::File::open(path)?.sync_all()).await
    }

    async fn sync_all(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || Ok(rustix::fs::syncfs(fs::File::open(path)?)?)).await
    }

    async fn space(&self, path: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(Space { total: stat.f_blocks * stat.f_frsize, available: stat.f_bavail * stat.f_frsize })
    }

    async fn lock(&self, path: &Path) -> io::Result<RealFile> {
        let file = self.open(path, OpenMode::Create).await?;
        rustix::fs::flock(&*file.0, FlockOperation::NonBlockingLockExclusive)?;
        Ok(file)
    }

    async fn exists(&self, path: &Path) -> io::Result<bool> {
        fs::exists(path)
    }
}

impl RealFile {
    /// Writes all buffers from `offset` with as few calls as the kernel allows.
    fn write_all_at(&self, mut offset: u64, data: &[Bytes]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = data.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let batch = &rest[..rest.len().min(BUFFERS_MAX)];
            match rustix::io::pwritev(&*self.0, batch, offset) {
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
            match self.0.read_at(&mut buffer[filled..], offset) {
                Ok(0) => break,
                Ok(read) => {
                    filled += read;
                    offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Reads what the page cache holds of the range; fewer bytes than asked mean "not cached" or the end of the file.
    fn read_cached_at(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let mut slices = [IoSliceMut::new(buffer)];
        // File systems without support answer EOPNOTSUPP: the caller then takes the slow way.
        rustix::io::preadv2(&*self.0, &mut slices, offset, ReadWriteFlags::NOWAIT).unwrap_or(0)
    }

    /// Whether the first and last byte of the range are in the page cache: sending it will hardly wait for the device.
    pub(super) fn is_cached(&self, offset: u64, len: usize) -> bool {
        let mut byte = [0u8];
        len == 0
            || (self.read_cached_at(offset, &mut byte) == 1
                && self.read_cached_at(offset + len as u64 - 1, &mut byte) == 1)
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
            buffer = blocking(move || {
                let read = file.read_full_at(offset + cached as u64, &mut buffer[cached..])?;
                buffer.truncate(cached + read);
                Ok(buffer)
            })
            .await?;
        }
        Ok(buffer.freeze())
    }

    async fn sync_data(&self) -> io::Result<()> {
        let file = self.0.clone();
        blocking(move || file.sync_data()).await
    }

    async fn write_and_sync(&self, offset: u64, data: Vec<Bytes>) -> io::Result<()> {
        let file = self.clone();
        blocking(move || {
            file.write_all_at(offset, &data)?;
            file.0.sync_data()
        })
        .await
    }

    async fn set_len(&self, len: u64) -> io::Result<()> {
        let file = self.0.clone();
        blocking(move || file.set_len(len)).await
    }

    async fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let file = self.0.clone();
        blocking(move || {
            match rustix::fs::fallocate(&*file, FallocateFlags::KEEP_SIZE, offset, len) {
                // A file system that cannot reserve reports the lack of space at the write itself.
                Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
                Err(errno) => Err(errno.into()),
            }
        })
        .await
    }

    async fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
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
}
