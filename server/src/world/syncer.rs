//! Synced writes of one file with the shortest way there and back: for journals, where each group of appends waits for one.
//!
//! They go past the page cache where that is possible, and their end is told through a pipe that the runtime polls beside
//! its sockets: whoever waits goes on in the thread that polls, whereas a wake from a foreign thread also wakes a second
//! one, which finds nothing to do (docs/adr/0003).

use std::fs;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::net::unix::pipe;

use super::direct::Direct;
use super::threads;
use super::way::WAY;

/// Does the synced writes of one file, one at a time.
#[derive(Debug)]
pub(super) struct Syncer {
    waiting: tokio::sync::Mutex<Waiting>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Waiting {
    /// A write is under way, or was when its asker gave up.
    is_pending: bool,
    /// A byte comes at the end of each.
    ends: pipe::Receiver,
}

#[derive(Debug)]
struct Shared {
    bell: fs::File,
    /// Locked for as long as a write takes, by the thread that waits for it.
    device: Mutex<Device>,
    /// How the last write ended; locked for a moment only.
    ended: Mutex<Option<io::Result<()>>>,
}

#[derive(Debug)]
struct Device {
    direct: Option<Direct>,
}

impl Syncer {
    /// For `file`; needs a runtime around it.
    pub fn new(file: &fs::File) -> io::Result<Syncer> {
        let (bell, ends) = pipe::pipe()?;
        let shared = Shared {
            bell: fs::File::from(bell.into_nonblocking_fd()?),
            device: Mutex::new(Device { direct: Direct::of(file) }),
            ended: Mutex::new(None),
        };
        let waiting = tokio::sync::Mutex::new(Waiting { is_pending: false, ends });
        Ok(Syncer { waiting, shared: Arc::new(shared) })
    }

    /// Writes `data` at `offset` and syncs; `write` is for what cannot be written past the page cache.
    pub async fn write_and_sync(
        &self,
        offset: u64,
        data: Vec<Bytes>,
        write: impl FnOnce(u64, &[Bytes]) -> io::Result<()> + Send + 'static,
        sync: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let mut waiting = self.waiting.lock().await;
        if waiting.is_pending {
            // Of a write whose asker gave up: this one must come after it.
            drop(self.end(&mut waiting).await);
        }
        let shared = self.shared.clone();
        threads::run(Box::new(move || {
            let urgent = WAY.urgent();
            let written = lock(&shared.device).write(offset, &data, write);
            *lock(&shared.ended) = Some(written.and_then(|()| sync()));
            drop(urgent);
            // A pipe too full for one byte more wakes the reader all the same.
            let _ = (&shared.bell).write(&[0]);
        }))?;
        waiting.is_pending = true;
        self.end(&mut waiting).await
    }

    /// Waits for the write that is under way.
    async fn end(&self, waiting: &mut Waiting) -> io::Result<()> {
        loop {
            waiting.ends.readable().await?;
            match waiting.ends.try_read(&mut [0; 64]) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
            if let Some(result) = lock(&self.shared.ended).take() {
                waiting.is_pending = false;
                return result;
            }
        }
    }
}

impl Device {
    /// Writes past the page cache where that is possible, else with `cached`.
    fn write(
        &mut self,
        offset: u64,
        data: &[Bytes],
        cached: impl FnOnce(u64, &[Bytes]) -> io::Result<()>,
    ) -> io::Result<()> {
        let direct = self.direct.as_mut().filter(|_| Direct::fits(offset, data));
        match direct.map(|direct| direct.write_all_at(offset, data)) {
            // Some file systems open for direct writes and then refuse them, some devices want larger blocks.
            Some(Err(error)) if error.kind() == io::ErrorKind::InvalidInput => self.direct = None,
            Some(result) => return result,
            None => {}
        }
        cached(offset, data)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
