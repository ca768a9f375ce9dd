//! What stands under the loop: madsim, which answers libc's clocks and entropy from the seed. Nothing else names it.

use std::cell::RefCell;
use std::future::Future;
use std::sync::Once;

use crate::exec::{Limits, World};

thread_local! {
    static PANIC_PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `main` as the scenario of `world` until it ends, breaks a rule or reaches a limit.
#[cfg(madsim)]
pub fn run(world: &World, limits: Limits, main: impl Future<Output = ()> + Send + 'static) {
    remember_panics();
    let seed = world.decisions().seed();
    let runtime = madsim::runtime::Runtime::with_seed_and_config(seed, madsim::Config::default());
    runtime.block_on(async { world.drive(limits, main, madsim::time::advance) });
}

/// Runs `main` as the scenario of `world` until it ends, breaks a rule or reaches a limit.
#[cfg(not(madsim))]
pub fn run(world: &World, limits: Limits, main: impl Future<Output = ()> + Send + 'static) {
    remember_panics();
    world.drive(limits, main, |_| {});
}

/// Where this thread last panicked.
pub(super) fn panic_place() -> String {
    PANIC_PLACE.with_borrow(String::clone)
}

/// Keeps the place of a panic for the report instead of printing it; threads of tests without a world print as usual.
fn remember_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            PANIC_PLACE.set(place);
            if std::env::var_os("RUST_BACKTRACE").is_some() {
                before(info);
            }
        }));
    });
}
