//! Memory for large requests that are on their way in, one budget for all connections of a broker.
//!
//! A request may be as large as `socket.request.max.bytes`, and as many may be begun as there are connections: what each
//! may hold must be bounded together, or a few hundred connections that send half a request each fill the machine. Small
//! requests cost nothing here. A connection that gets no more memory is not read until others give theirs back. One
//! connection at a time may exceed the budget, so that many requests that are half here cannot wait for each other; and
//! while others wait, who takes too long to finish a request is given up ([`Share::is_wanted`]).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The budget.
pub(crate) struct Memory {
    bytes_max: usize,
    state: Mutex<State>,
    /// Told when bytes come back.
    freed: Notify,
}

#[derive(Default)]
struct State {
    used: usize,
    /// Whether a connection exceeds the budget.
    is_exceeded: bool,
    /// Connections that were refused and have not been granted since.
    waiting: usize,
}

/// What one connection holds of it; dropping it gives everything back.
pub(crate) struct Share {
    memory: Arc<Memory>,
    bytes: usize,
    exceeds: bool,
    waits: bool,
}

impl Memory {
    pub(crate) fn new(bytes_max: usize) -> Arc<Memory> {
        Arc::new(Memory { bytes_max, state: Mutex::default(), freed: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The counts are whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes when bytes have come back since this call. Ask for them before [`Share::hold`], or they may be missed.
    pub(crate) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }
}

impl Share {
    pub(crate) fn new(memory: Arc<Memory>) -> Share {
        Share { memory, bytes: 0, exceeds: false, waits: false }
    }

    /// Holds `bytes` in all from now on, if there is room for them; less is always granted.
    pub(crate) fn hold(&mut self, bytes: usize) -> bool {
        if bytes == self.bytes && !self.waits {
            return true;
        }
        let mut state = self.memory.lock();
        let used = state.used - self.bytes + bytes;
        let fits = bytes <= self.bytes || used <= self.memory.bytes_max || self.exceeds;
        if !fits && state.is_exceeded {
            state.waiting += usize::from(!self.waits);
            self.waits = true;
            return false;
        }
        let gives_back = bytes < self.bytes;
        if !fits {
            self.exceeds = true;
            state.is_exceeded = true;
        } else if self.exceeds && gives_back {
            self.exceeds = false;
            state.is_exceeded = false;
        }
        state.waiting -= usize::from(self.waits);
        self.waits = false;
        state.used = used;
        self.bytes = bytes;
        drop(state);
        if gives_back {
            self.memory.freed.notify_waiters();
        }
        true
    }

    /// Whether it holds bytes that others wait for.
    pub(crate) fn is_wanted(&self) -> bool {
        self.bytes > 0 && self.memory.lock().waiting > usize::from(self.waits)
    }

    /// Whether it holds anything.
    pub(crate) fn is_held(&self) -> bool {
        self.bytes > 0
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.memory.lock();
        state.used -= self.bytes;
        state.waiting -= usize::from(self.waits);
        if self.exceeds {
            state.is_exceeded = false;
        }
        drop(state);
        self.memory.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_may_exceed_the_budget_and_the_others_wait() {
        let memory = Memory::new(100);
        let share = || Share::new(memory.clone());
        let (mut a, mut b, mut c) = (share(), share(), share());
        assert!(a.hold(60) && b.hold(40));
        assert!(!a.is_wanted());
        // Nothing is left: the first to ask for more gets it, so that somebody can finish.
        assert!(a.hold(90));
        assert!(!b.hold(50));
        assert!(!c.hold(1));
        assert!(a.is_wanted() && b.is_wanted() && !c.is_wanted());
        assert!(a.hold(300), "whoever exceeds goes on");
        assert!(a.hold(0));
        assert!(b.hold(50) && c.hold(50));
        assert!(!b.is_wanted());
        assert!(c.hold(51), "again one");
        assert!(!b.hold(51));
        drop(c);
        assert!(b.hold(100));
        drop((a, b));
        let state = memory.lock();
        assert_eq!((state.used, state.waiting, state.is_exceeded), (0, 0, false));
    }
}
