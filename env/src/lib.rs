//! The outside world as traits: everything that a broker or client needs from an operating system.
//!
//! The same `log`, `broker` and `client` code runs on the real world (`server`) and on a false one (`sim`). Dispatch is
//! static: one [`Env`] gathers the parts as associated types, methods return `impl Future + Send`. Each method here is a
//! place where crash bugs live, so each is modelled in the simulator. Implementations live in `server` and `sim` alone.

mod disk;
mod net;

use std::future::Future;
use std::time::Duration;

pub use disk::{DirEntry, Disk, File, OpenMode, Space, is_full};
pub use net::{Conn, ConnReader, ConnWriter, Listener, Net, Part};
use types::{Instant, Timestamp};

/// One process' view of the outside. Cloning is cheap; clones see the same world.
pub trait Env: Clone + Send + Sync + 'static {
    /// Source of time.
    type Clock: Clock;
    /// Durable storage.
    type Disk: Disk;
    /// The network; it can send ranges of the disk's files.
    type Net: Net<File = <Self::Disk as Disk>::File>;
    /// Source of randomness.
    type Rng: Rng;
    /// Where tasks run.
    type Spawn: Spawn;

    /// The clocks of this process.
    fn clock(&self) -> &Self::Clock;
    /// The disk of this process.
    fn disk(&self) -> &Self::Disk;
    /// The network of this process.
    fn net(&self) -> &Self::Net;
    /// Randomness for ids and jitter; not for secrets in the simulator.
    fn rng(&self) -> &Self::Rng;
    /// The task spawner of this process.
    fn spawner(&self) -> &Self::Spawn;

    /// Runs `future` for at most `duration`; `None` when the time ran out first.
    fn timeout<F: Future + Send>(
        &self,
        duration: Duration,
        future: F,
    ) -> impl Future<Output = Option<F::Output>> + Send {
        async move {
            let deadline = self.clock().now() + duration;
            tokio::select! {
                biased;
                output = future => Some(output),
                () = self.clock().sleep_until(deadline) => None,
            }
        }
    }
}

/// Monotonic and wall time.
pub trait Clock: Clone + Send + Sync + 'static {
    /// Monotonic time: drives every timeout, session and lease. Never goes back.
    fn now(&self) -> Instant;

    /// Wall time: dates records and drives retention; it may jump either way.
    fn timestamp(&self) -> Timestamp;

    /// Completes once [`Clock::now`] has reached `deadline`.
    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()> + Send;

    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send {
        self.sleep_until(self.now() + duration)
    }
}

/// Random bits.
pub trait Rng: Clone + Send + Sync + 'static {
    /// Fills `bytes` with random bits.
    fn fill(&self, bytes: &mut [u8]);

    /// A uniformly random number.
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A random version 4 UUID.
    fn uuid(&self) -> types::Uuid {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        types::Uuid::from_random(bytes)
    }
}

/// Where tasks run.
pub trait Spawn: Clone + Send + Sync + 'static {
    /// Runs `future` to its end in the background. `name` is for traces. A task that panics takes the process down:
    /// a panic is a programmer's error, and a broker that lost a room must not go on serving.
    fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static);

    /// Does `work`, which may compute for long, such as expanding what a client has compressed, where no task waits for it.
    fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + Send {
        async move { work() }
    }
}
