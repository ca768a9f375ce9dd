//! Durable storage: files with positional I/O, and directories whose entries need a sync of their own.
//!
//! Assumptions about the medium stand in SPEC.md. In short: only what [`File::sync_data`] (for bytes and size) and
//! [`Disk::sync_dir`] (for creation, rename and removal) confirmed survives a power cut; anything else may survive in
//! part, in any order. A failed sync is final: the pages may be clean afterwards, so trying again proves nothing (I10).

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

/// How to open a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// An existing file, for reading only.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A file for reading and writing, created empty if it is not there.
    Create,
    /// A file for reading and writing that must not be there yet.
    CreateNew,
}

/// One entry of a directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DirEntry {
    /// Name within the directory.
    pub name: String,
    /// Whether it is itself a directory.
    pub is_dir: bool,
    /// Size in bytes of a file; 0 for a directory.
    pub len: u64,
}

/// Space of the file system that holds a path, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// Size of the file system.
    pub total: u64,
    /// What this process may still allocate.
    pub available: u64,
}

/// A file system as one process sees it.
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file; clones share the handle.
    type File: File;

    /// Opens a file. Errors: `NotFound`, `AlreadyExists`, `PermissionDenied`, `StorageFull`, other I/O errors.
    fn open(
        &self,
        path: &Path,
        mode: OpenMode,
    ) -> impl Future<Output = io::Result<Self::File>> + Send;

    /// Creates a directory and its missing parents. Durable after [`Disk::sync_dir`] of each parent.
    fn create_dir_all(&self, path: &Path) -> impl Future<Output = io::Result<()>> + Send;

    /// Entries of a directory, sorted by name.
    fn list(&self, path: &Path) -> impl Future<Output = io::Result<Vec<DirEntry>>> + Send;

    /// Renames a file or directory, replacing a file at `to`. Atomic; durable after [`Disk::sync_dir`] of the parents.
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>> + Send;

    /// Removes a file. Durable after [`Disk::sync_dir`].
    fn remove_file(&self, path: &Path) -> impl Future<Output = io::Result<()>> + Send;

    /// Removes a directory and all in it. Not atomic.
    fn remove_dir_all(&self, path: &Path) -> impl Future<Output = io::Result<()>> + Send;

    /// Makes creations, renames and removals in the directory durable.
    fn sync_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>> + Send;

    /// Syncs everything dirty on the file system that holds `path` (`syncfs`): for a mass of dirty segments.
    fn sync_all(&self, path: &Path) -> impl Future<Output = io::Result<()>> + Send;

    /// Space of the file system that holds `path`.
    fn space(&self, path: &Path) -> impl Future<Output = io::Result<Space>> + Send;

    /// Takes the exclusive lock of the file at `path` (created if missing), held until the returned file is dropped or
    /// the process ends. Error `WouldBlock` when another process holds it.
    fn lock(&self, path: &Path) -> impl Future<Output = io::Result<Self::File>> + Send;

    /// Whether something exists at `path`.
    fn exists(&self, path: &Path) -> impl Future<Output = io::Result<bool>> + Send;

    /// The whole content of a small file. Error `NotFound` when there is none.
    fn read_all(&self, path: &Path) -> impl Future<Output = io::Result<Bytes>> + Send {
        async move {
            let file = self.open(path, OpenMode::Read).await?;
            let len = file.len().await?;
            file.read_at(0, usize::try_from(len).map_err(io::Error::other)?).await
        }
    }

    /// Replaces the file at `path` with `content` so that a crash leaves the old or the new one, never a mix: writes a
    /// neighbour `*.tmp`, syncs it, renames it over `path`, syncs the directory.
    fn replace(&self, path: &Path, content: Bytes) -> impl Future<Output = io::Result<()>> + Send {
        async move {
            let mut temporary = PathBuf::from(path).into_os_string();
            temporary.push(".tmp");
            let temporary = PathBuf::from(temporary);
            let file = self.open(&temporary, OpenMode::Create).await?;
            file.set_len(0).await?;
            file.write_at(0, vec![content]).await?;
            file.sync_data().await?;
            self.rename(&temporary, path).await?;
            let parent = path.parent().ok_or_else(|| io::Error::other("a file has a directory"))?;
            self.sync_dir(parent).await
        }
    }
}

/// An open file with positional I/O. Buffers are owned, so that an implementation may hand them to the kernel.
#[allow(
    clippy::len_without_is_empty,
    reason = "a length that costs a system call has no cheap is_empty"
)]
pub trait File: Clone + Send + Sync + 'static {
    /// Writes the buffers one after the other from `offset`, all of them or an error; extends the file as needed.
    /// After an error any part may have been written. The bytes are visible to readers when this returns; they are
    /// durable after [`File::sync_data`].
    fn write_at(
        &self,
        offset: u64,
        data: Vec<Bytes>,
    ) -> impl Future<Output = io::Result<()>> + Send;

    /// Reads up to `len` bytes from `offset`; fewer only at the end of the file.
    fn read_at(&self, offset: u64, len: usize) -> impl Future<Output = io::Result<Bytes>> + Send;

    /// [`File::read_at`] for who will not read the range again, and shall not push out what others read: what it had to
    /// fetch from the device does not stay in memory. Use a handle of its own.
    fn read_once_at(
        &self,
        offset: u64,
        len: usize,
    ) -> impl Future<Output = io::Result<Bytes>> + Send {
        self.read_at(offset, len)
    }

    /// Whether a read has failed since this was asked last, if only on its way to a socket, where nobody could be told.
    fn take_read_failure(&self) -> bool {
        false
    }

    /// Makes written bytes and the file's size durable. An error is final (I10).
    fn sync_data(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// [`File::write_at`], then [`File::sync_data`], in one hop to the device.
    fn write_and_sync(
        &self,
        offset: u64,
        data: Vec<Bytes>,
    ) -> impl Future<Output = io::Result<()>> + Send {
        async move {
            self.write_at(offset, data).await?;
            self.sync_data().await
        }
    }

    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64) -> impl Future<Output = io::Result<()>> + Send;

    /// Reserves blocks for `offset..offset + len` without changing the size; error `StorageFull` when there are none.
    fn allocate(&self, offset: u64, len: u64) -> impl Future<Output = io::Result<()>> + Send;

    /// Size in bytes.
    fn len(&self) -> impl Future<Output = io::Result<u64>> + Send;
}

/// Whether `error` says that there is no space left, on the disk or in what this user may have of it.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
