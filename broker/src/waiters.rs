//! Who waits for which offset of one partition.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;
use types::Offset;

/// Wakes one waiting response; shared by all partitions it waits on. A wake-up says "look again", nothing else.
#[derive(Clone, Default)]
pub(crate) struct Signal(Arc<Notify>);

impl Signal {
    /// Completes after a wake-up; one that came before it waited counts.
    pub(crate) async fn woken(&self) {
        self.0.notified().await;
    }

    fn wake(&self) {
        self.0.notify_one();
    }
}

/// Names one entry of [`Waiters`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Ticket {
    end: Offset,
    ordinal: u64,
}

/// Signals by the end offset that must be reached.
#[derive(Default)]
pub(crate) struct Waiters {
    by_end: BTreeMap<Ticket, Signal>,
    next: u64,
}

impl Waiters {
    /// Wakes `signal` once, when `end` is reached.
    pub(crate) fn add(&mut self, end: Offset, signal: Signal) -> Ticket {
        let ticket = Ticket { end, ordinal: self.next };
        self.next += 1;
        self.by_end.insert(ticket, signal);
        ticket
    }

    /// Forgets a waiter that left; nothing to do if it was woken.
    pub(crate) fn remove(&mut self, ticket: Ticket) {
        self.by_end.remove(&ticket);
    }

    /// Takes out those whose end is at most `reached`. The caller wakes them outside its lock.
    pub(crate) fn take_reached(&mut self, reached: Offset) -> Woken {
        match self.by_end.first_key_value() {
            Some((first, _)) if first.end <= reached => {}
            _ => return Woken(BTreeMap::new()),
        }
        let beyond = self.by_end.split_off(&Ticket { end: reached.next(), ordinal: 0 });
        Woken(std::mem::replace(&mut self.by_end, beyond))
    }

    /// Takes out everyone.
    pub(crate) fn take_all(&mut self) -> Woken {
        Woken(std::mem::take(&mut self.by_end))
    }
}

/// Waiters to wake.
#[must_use]
pub(crate) struct Woken(BTreeMap<Ticket, Signal>);

impl Woken {
    /// The furthest first: a connection waits for its oldest response, and finds the younger ones ready when that wakes it.
    pub(crate) fn wake(self) {
        for signal in self.0.into_values().rev() {
            signal.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_whose_end_is_reached_are_taken() {
        let mut waiters = Waiters::default();
        let early = waiters.add(Offset(5), Signal::default());
        waiters.add(Offset(5), Signal::default());
        waiters.add(Offset(9), Signal::default());
        assert_eq!(waiters.take_reached(Offset(4)).0.len(), 0);
        waiters.remove(early);
        assert_eq!(waiters.take_reached(Offset(5)).0.len(), 1);
        assert_eq!(waiters.take_reached(Offset(8)).0.len(), 0);
        assert_eq!(waiters.take_all().0.len(), 1);
    }
}
