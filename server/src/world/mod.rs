//! The real world: `env` on tokio, POSIX files and TCP sockets. The only place of the product that holds them.
//!
//! Short operations that the page cache answers (positional writes, reads of cached ranges) run on the calling thread,
//! because a hop to another thread costs more than they do; whatever may wait for a device (syncs, cold reads, unlinks)
//! runs on threads for that.

mod direct;
mod disk;
mod net;
mod syncer;
mod threads;
mod way;

use std::future::Future;
use std::time::Duration;

use env::{Clock, Env, Rng, Spawn};
use tokio::sync::Semaphore;
use types::{Instant, Timestamp};

pub use disk::{RealDisk, RealFile};
pub use net::{RealConn, RealListener, RealNet};

/// The environment of a production process. Needs a tokio runtime with time and I/O around it.
#[derive(Clone)]
pub struct RealEnv {
    clock: RealClock,
    disk: RealDisk,
    net: RealNet,
    rng: RealRng,
    spawn: RealSpawn,
}

impl RealEnv {
    /// The world of this process; its monotonic clock starts now.
    pub fn new() -> RealEnv {
        RealEnv {
            clock: RealClock { start: tokio::time::Instant::now() },
            disk: RealDisk,
            net: RealNet::new(files_max()),
            rng: RealRng,
            spawn: RealSpawn,
        }
    }
}

impl Default for RealEnv {
    fn default() -> RealEnv {
        RealEnv::new()
    }
}

impl Env for RealEnv {
    type Clock = RealClock;
    type Disk = RealDisk;
    type Net = RealNet;
    type Rng = RealRng;
    type Spawn = RealSpawn;

    fn clock(&self) -> &RealClock {
        &self.clock
    }

    fn disk(&self) -> &RealDisk {
        &self.disk
    }

    fn net(&self) -> &RealNet {
        &self.net
    }

    fn rng(&self) -> &RealRng {
        &self.rng
    }

    fn spawner(&self) -> &RealSpawn {
        &self.spawn
    }
}

/// The machine's clocks.
#[derive(Clone)]
pub struct RealClock {
    start: tokio::time::Instant,
}

impl Clock for RealClock {
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn timestamp(&self) -> Timestamp {
        // A clock before 1970 is a clock that is wrong; zero keeps records valid.
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp(since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }

    async fn sleep_until(&self, deadline: Instant) {
        // Thirty years stand for "never": the timer wheel refuses instants beyond its range.
        let nanos = deadline.as_nanos().min(30 * 365 * 86_400 * 1_000_000_000);
        tokio::time::sleep_until(self.start + Duration::from_nanos(nanos)).await;
    }
}

/// The kernel's randomness.
#[derive(Clone)]
pub struct RealRng;

impl Rng for RealRng {
    fn fill(&self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let flags = rustix::rand::GetRandomFlags::empty();
            match rustix::rand::getrandom(&mut *bytes, flags) {
                Ok(filled) => bytes = &mut bytes[filled..],
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => panic!("the kernel gives no randomness: {errno}"),
            }
        }
    }
}

/// The tokio runtime around the caller.
#[derive(Clone)]
pub struct RealSpawn;

impl Spawn for RealSpawn {
    fn spawn(&self, _name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(future);
    }

    async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let turn = COMPUTING.acquire().await;
        let done = tokio::task::spawn_blocking(move || {
            // Held to the end of the work, whether or not who asked for it is still there.
            let _turn = turn;
            work()
        });
        match done.await.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(result) => result,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // The runtime ends, and with it whoever waits here.
            Err(Err(_)) => std::future::pending().await,
        }
    }
}

/// One computes at a time: whatever it is, the other cores serve.
static COMPUTING: Semaphore = Semaphore::const_new(1);

/// How many files and sockets this process may hold, after raising that to what the system lets it: a log keeps a file
/// open for each partition that is written.
fn files_max() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
        // Where it is not allowed, what was allowed before goes on.
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit = raised;
        }
    }
    limit.current.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX)
}

/// Makes every panic end the process with status 1 after its message: a broker that lost a room must not go on serving.
pub fn exit_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(1);
    }));
}
