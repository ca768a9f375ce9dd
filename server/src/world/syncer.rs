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

/// Does the synced writes of one file, one at a time.
#[derive(Debug)]
pub(super) struct Syncer {
    waiting: tokio::sync::Mutex<Waiting>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Waiting {
    /// The number of the last write.
    last: u64,
    /// A byte comes at the end of each.
    ends: pipe::Receiver,
}

#[derive(Debug)]
struct Shared {
    bell: fs::File,
    device: Mutex<Device>,
}

#[derive(Debug)]
struct Device {
    direct: Option<Direct>,
    /// The last write that has ended, by number.
    ended: Option<(u64, io::Result<()>)>,
}

impl Syncer {
    /// For `file`; needs a runtime around it.
    pub fn new(file: &fs::File) -> io::Result<Syncer> {
        let (bell, ends) = pipe::pipe()?;
        let bell = fs::File::from(bell.into_nonblocking_fd()?);
        let device = Mutex::new(Device { direct: Direct::of(file), ended: None });
        let waiting = tokio::sync::Mutex::new(Waiting { last: 0, ends });
        Ok(Syncer { waiting, shared: Arc::new(Shared { bell, device }) })
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
        waiting.last += 1;
        let (number, shared) = (waiting.last, self.shared.clone());
        threads::run(Box::new(move || {
            let mut device = shared.device();
            let written = device.write(offset, &data, write);
            device.ended = Some((number, written.and_then(|()| sync())));
            drop(device);
            // A pipe too full for one byte more wakes the reader all the same.
            let _ = (&shared.bell).write(&[0]);
        }))?;
        loop {
            waiting.ends.readable().await?;
            match waiting.ends.try_read(&mut [0; 64]) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
            // Not the end of an earlier write, for which nobody waited until then.
            let ended = self.shared.device().ended.take_if(|(ended, _)| *ended == number);
            if let Some((_, result)) = ended {
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

impl Shared {
    fn device(&self) -> MutexGuard<'_, Device> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direct_write_that_the_file_system_refuses_goes_through_the_page_cache() {
        let path = std::env::temp_dir().join(format!("foretold-refused-{}", std::process::id()));
        let file = fs::File::create(&path).unwrap();
        let mut device = Device { direct: Direct::of(&file), ended: None };
        let page = [Bytes::from(vec![1; 4096])];
        // No file has such a place: refused as an unaligned write is.
        let mut cached = Vec::new();
        let write = |offset, data: &[Bytes]| {
            cached.push((offset, data.concat()));
            Ok(())
        };
        device.write(1 << 63, &page, write).unwrap();
        assert_eq!(cached, [(1 << 63, vec![1; 4096])]);
        assert!(device.direct.is_none(), "not tried again");
        std::fs::remove_file(path).unwrap();
    }
}
