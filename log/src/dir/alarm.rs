//! One timer for deadlines that are mostly forgotten before they come.
//!
//! A timer that is set for every group and dropped with it costs a system call each time, which wakes a thread only to
//! tell it to wake earlier. This one stays set: a later deadline waits for the earlier one to pass and is set then.

use std::future::Future;
use std::pin::Pin;

use env::Clock;
use types::Instant;

pub(super) struct Alarm<'a, C> {
    clock: &'a C,
    set: Option<Set<'a>>,
}

struct Set<'a> {
    at: Instant,
    timer: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
}

impl<'a, C: Clock> Alarm<'a, C> {
    pub fn new(clock: &'a C) -> Alarm<'a, C> {
        Alarm { clock, set: None }
    }

    /// Completes once `deadline` has come. Dropping it is harmless.
    pub async fn at(&mut self, deadline: Instant) {
        while self.clock.now() < deadline {
            let set = match &mut self.set {
                Some(set) if set.at <= deadline => set,
                none_or_later => {
                    let timer = Box::pin(self.clock.sleep_until(deadline));
                    none_or_later.insert(Set { at: deadline, timer })
                }
            };
            set.timer.as_mut().await;
            self.set = None;
        }
    }
}
