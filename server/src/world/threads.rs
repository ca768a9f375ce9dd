//! Threads that wait for devices, so that those of the runtime never do.
//!
//! Tokio has such a pool, but wakes a thread while it holds the lock that this thread then wants: twice the context
//! switches for each sync (docs/adr/0003).

use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// Threads that may wait for a device at the same time: syncs, cold reads, unlinks.
const THREADS_MAX: usize = 64;
/// Stack of one: no recursion depends on input.
const STACK_BYTES: usize = 256 * 1024;
/// A thread without work ends after this.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

static THREADS: Threads = Threads {
    work: Mutex::new(Work { jobs: VecDeque::new(), count: 0, idle: 0 }),
    wake: Condvar::new(),
};

struct Threads {
    work: Mutex<Work>,
    wake: Condvar,
}

pub(super) type Job = Box<dyn FnOnce() + Send>;

struct Work {
    jobs: VecDeque<Job>,
    /// Threads there are.
    count: usize,
    /// Threads that wait for a job.
    idle: usize,
}

/// Runs `work`, which may wait for a device, on a thread that may.
pub(super) async fn wait_for<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (answer, result) = oneshot::channel();
    // Who asked may be gone.
    run(Box::new(move || drop(answer.send(work()))))?;
    result.await.map_err(io::Error::other)?
}

/// Runs `job` on one of the threads.
pub(super) fn run(job: Job) -> io::Result<()> {
    THREADS.run(job)
}

impl Threads {
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&'static self, job: Job) -> io::Result<()> {
        let mut work = self.work();
        work.jobs.push_back(job);
        if work.idle >= work.jobs.len() || work.count == THREADS_MAX {
            drop(work);
            self.wake.notify_one();
            return Ok(());
        }
        let thread = std::thread::Builder::new().name("foretold-disk".into());
        match thread.stack_size(STACK_BYTES).spawn(|| self.serve()) {
            Ok(_) => work.count += 1,
            // Those that there are will come to it.
            Err(_) if work.count > 0 => {}
            Err(error) => {
                work.jobs.pop_back();
                return Err(error);
            }
        }
        Ok(())
    }

    fn serve(&self) {
        let mut work = self.work();
        loop {
            if let Some(job) = work.jobs.pop_front() {
                drop(work);
                job();
                work = self.work();
                continue;
            }
            work.idle += 1;
            let is_idle = |work: &mut Work| work.jobs.is_empty();
            let waited = self.wake.wait_timeout_while(work, KEEP_ALIVE, is_idle);
            let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            work = woken;
            work.idle -= 1;
            if timeout.timed_out() && work.jobs.is_empty() {
                work.count -= 1;
                return;
            }
        }
    }
}
