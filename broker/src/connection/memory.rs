//! Memory for large requests that are on their way in, one budget for all connections of a broker.
//!
//! A request may be as large as `socket.request.max.bytes`, and as many may be begun as there are connections: what each
//! may hold must be bounded together, or a few hundred connections that send half a request each fill the machine. Small
//! requests cost nothing here, and the largest may take half of it only, so that a producer's ordinary request finds room
//! beside them. A connection that gets no more memory is not read until others give theirs back. One
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

    /// Bytes held now.
    pub(crate) fn used(&self) -> usize {
        self.lock().used
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

    /// Holds `bytes` in all from now on, for a request that is among the largest or not, if there is room for them; less is
    /// always granted.
    pub(crate) fn hold(&mut self, bytes: usize, is_huge: bool) -> bool {
        if bytes == self.bytes && !self.waits {
            return true;
        }
        let mut state = self.memory.lock();
        let bytes_max = self.memory.bytes_max / if is_huge { 2 } else { 1 };
        let gives_back = bytes < self.bytes;
        // What exceeds the budget is not counted, or nobody else would find room beside it.
        let others = state.used - if self.exceeds { 0 } else { self.bytes };
        let fits = gives_back || others + bytes <= bytes_max;
        if !fits && !self.exceeds && state.is_exceeded {
            state.waiting += usize::from(!self.waits);
            self.waits = true;
            return false;
        }
        let was_exceeding = self.exceeds;
        self.exceeds = !gives_back && (was_exceeding || !fits);
        if self.exceeds != was_exceeding {
            state.is_exceeded = self.exceeds;
        }
        state.waiting -= usize::from(self.waits);
        self.waits = false;
        state.used = others + if self.exceeds { 0 } else { bytes };
        self.bytes = bytes;
        drop(state);
        if gives_back || self.exceeds != was_exceeding {
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
        state.used -= if self.exceeds { 0 } else { self.bytes };
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
        assert!(a.hold(60, false) && b.hold(40, false));
        assert!(!a.is_wanted());
        // Nothing is left: the first to ask for more gets it, so that somebody can finish, and leaves its part to others.
        assert!(a.hold(90, false));
        assert!(b.hold(100, false));
        assert!(!b.hold(101, false) && !c.hold(1, false));
        assert!(a.is_wanted() && b.is_wanted() && !c.is_wanted());
        assert!(a.hold(300, false), "whoever exceeds goes on");
        assert!(a.hold(0, false));
        assert!(b.hold(101, false), "again one");
        assert!(c.hold(1, false) && !b.is_wanted());
        drop(b);
        let mut huge = share();
        assert!(huge.hold(49, true));
        assert!(a.hold(50, false), "there is room beside the largest");
        drop((a, c, huge));
        let state = memory.lock();
        assert_eq!((state.used, state.waiting, state.is_exceeded), (0, 0, false));
    }
}
