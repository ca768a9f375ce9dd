//! The tokio runtime and the allocator, sized so that an idle broker stays small.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::exit::Failed;

/// Threads of the runtime that may wait: for a name to be resolved, for a line from a terminal. Devices have others.
const BLOCKING_THREADS_MAX: usize = 8;

/// Stack of a runtime thread: our futures are on the heap, and no recursion depends on input.
const STACK_BYTES: usize = 1024 * 1024;

/// The runtime of a broker.
pub fn for_server() -> Result<Runtime, Failed> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    build(Builder::new_multi_thread().worker_threads(workers))
}

/// The runtime of a command that talks to a broker.
pub fn for_client() -> Result<Runtime, Failed> {
    build(Builder::new_multi_thread().worker_threads(1))
}

fn build(builder: &mut Builder) -> Result<Runtime, Failed> {
    builder
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_keep_alive(Duration::from_secs(5))
        .thread_stack_size(STACK_BYTES)
        .thread_name("foretold")
        .build()
        .map_err(|error| Failed::runtime(format!("cannot start threads: {error}")))
}
