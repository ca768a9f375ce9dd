//! The false disk in ordinary tests: a clock that is moved by hand and an executor of one page.
//!
//! Nothing here sleeps. [`block_on`] panics when a future can never finish; [`run`] lets the clock jump to its next timer
//! instead, so that code with time-outs runs as fast as it computes.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use types::{Instant, Timestamp};

use crate::decisions::{Decisions, Subsystem};

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Runs a future to its end. Panics when it waits for something that no one will do.
pub fn block_on<F: Future>(future: F) -> F::Output {
    drive(future, || false)
}

/// Runs a future to its end; whenever everything waits, `clock` jumps to its next timer.
pub fn run<F: Future>(clock: &ManualClock, future: F) -> F::Output {
    drive(future, || clock.jump())
}

fn drive<F: Future>(future: F, mut idle: impl FnMut() -> bool) -> F::Output {
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(flag.clone());
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        while flag.0.swap(false, Ordering::SeqCst) {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
        }
        assert!(idle() || flag.0.load(Ordering::SeqCst), "the future waits for ever");
    }
}

/// Runs `main` to its end while `background` (a committer, say) runs beside it. `background` may end before.
pub async fn beside<F: Future>(main: F, background: impl Future<Output = ()>) -> F::Output {
    let mut main = pin!(main);
    let mut background = pin!(background);
    let mut running = true;
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = main.as_mut().poll(context) {
            return Poll::Ready(output);
        }
        if running && background.as_mut().poll(context).is_ready() {
            running = false;
        }
        // The background may have made the main future ready within this very poll; its waker says so.
        Poll::Pending
    })
    .await
}

#[derive(Default)]
struct ClockState {
    now: Instant,
    wall_offset_ms: i64,
    next_timer: u64,
    timers: BTreeMap<(Instant, u64), Waker>,
}

/// A clock that moves when it is told to.
#[derive(Clone, Default)]
pub struct ManualClock(Arc<Mutex<ClockState>>);

impl ManualClock {
    /// A clock at instant 0 whose wall time is 2026-01-01.
    pub fn new() -> ManualClock {
        let clock = ManualClock::default();
        clock.state().wall_offset_ms = 1_767_225_600_000;
        clock
    }

    /// Moves both clocks forward and wakes what was due.
    pub fn advance(&self, duration: Duration) {
        let deadline = self.state().now + duration;
        self.advance_to(deadline);
    }

    /// Moves the wall clock alone, either way.
    pub fn step_wall(&self, millis: i64) {
        self.state().wall_offset_ms += millis;
    }

    /// Jumps to the next timer; whether there was one.
    pub fn jump(&self) -> bool {
        let next = self.state().timers.keys().next().map(|(deadline, _)| *deadline);
        if let Some(deadline) = next {
            self.advance_to(deadline);
        }
        next.is_some()
    }

    fn advance_to(&self, deadline: Instant) {
        let mut due = Vec::new();
        {
            let mut state = self.state();
            state.now = state.now.max(deadline);
            let now = state.now;
            while let Some(entry) = state.timers.first_entry() {
                if entry.key().0 > now {
                    break;
                }
                due.push(entry.remove());
            }
        }
        due.into_iter().for_each(Waker::wake);
    }

    fn state(&self) -> MutexGuard<'_, ClockState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl env::Clock for ManualClock {
    fn now(&self) -> Instant {
        self.state().now
    }

    fn timestamp(&self) -> Timestamp {
        let state = self.state();
        Timestamp(state.wall_offset_ms + (state.now.0 / 1_000_000) as i64)
    }

    async fn sleep_until(&self, deadline: Instant) {
        ManualSleep { clock: self.clone(), deadline, timer: None }.await;
    }
}

impl crate::disk::Pace for ManualClock {
    fn pause(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let deadline = self.state().now + duration;
        Box::pin(ManualSleep { clock: self.clone(), deadline, timer: None })
    }

    fn now(&self) -> Instant {
        self.state().now
    }
}

struct ManualSleep {
    clock: ManualClock,
    deadline: Instant,
    timer: Option<u64>,
}

impl Future for ManualSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock.clone();
        let mut state = clock.state();
        if state.now >= self.deadline {
            return Poll::Ready(());
        }
        let number = *self.timer.get_or_insert_with(|| {
            state.next_timer += 1;
            state.next_timer
        });
        state.timers.insert((self.deadline, number), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for ManualSleep {
    fn drop(&mut self) {
        if let Some(number) = self.timer {
            self.clock.state().timers.remove(&(self.deadline, number));
        }
    }
}

/// Randomness of the product, drawn from the decisions.
#[derive(Clone)]
pub struct SeededRng(Decisions);

impl SeededRng {
    /// The product's randomness on one node.
    pub fn new(decisions: &Decisions, node: u32) -> SeededRng {
        SeededRng(decisions.stream(node, Subsystem::Product))
    }
}

impl env::Rng for SeededRng {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }
}

/// Where a test computes: at once, and nothing beside it.
#[derive(Clone, Copy, Debug)]
pub struct Here;

impl env::Spawn for Here {
    fn spawn(&self, name: &'static str, _future: impl Future<Output = ()> + Send + 'static) {
        panic!("{name}: nothing runs in the background here");
    }
}
