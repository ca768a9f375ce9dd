//! Reads from the device give way to synced writes: somebody waits for each of those, whereas who reads cold data reads
//! megabytes (docs/adr/0004).
//!
//! A piece is asked for when no synced write is under way, or as soon as one has ended: behind writers who leave no gap
//! readers still come forward, by one piece for each write. Nothing waits here for longer than [`PATIENCE`].

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The devices of this process. One for all: which directories share a device is not known.
pub(super) static WAY: Way = Way::new();

/// A synced write that takes longer hangs, and reads are then not what makes it late.
const PATIENCE: Duration = Duration::from_millis(2);
/// Writers who were there so recently will come again.
const RECENT: Duration = Duration::from_millis(50);

pub(super) struct Way {
    traffic: Mutex<Traffic>,
    ended: Condvar,
}

struct Traffic {
    /// Synced writes under way.
    under_way: usize,
    /// Synced writes that have ended.
    ended: u64,
    /// Reads that wait for an end.
    waiting: usize,
    /// When the last synced write ended.
    last: Option<Instant>,
}

/// What a read finds on its way to the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Room {
    /// Nobody writes.
    Free,
    /// Synced writes come and go: the next may be near.
    Gap,
    /// One has just ended, and others leave no gap.
    Turn,
}

/// A synced write is under way for as long as this lives.
pub(super) struct Urgent<'a>(&'a Way);

impl Way {
    const fn new() -> Way {
        let traffic = Traffic { under_way: 0, ended: 0, waiting: 0, last: None };
        Way { traffic: Mutex::new(traffic), ended: Condvar::new() }
    }

    /// Says that a synced write begins.
    pub fn urgent(&self) -> Urgent<'_> {
        self.traffic().under_way += 1;
        Urgent(self)
    }

    /// Waits until a read may be asked of the device.
    pub fn give(&self) -> Room {
        let mut traffic = self.traffic();
        if traffic.under_way == 0 {
            let is_recent = traffic.last.is_some_and(|last| last.elapsed() < RECENT);
            return if is_recent { Room::Gap } else { Room::Free };
        }
        let ended = traffic.ended;
        traffic.waiting += 1;
        let is_taken = |traffic: &mut Traffic| traffic.under_way > 0 && traffic.ended == ended;
        let waited = self.ended.wait_timeout_while(traffic, PATIENCE, is_taken);
        waited.unwrap_or_else(PoisonError::into_inner).0.waiting -= 1;
        Room::Turn
    }

    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Urgent<'_> {
    fn drop(&mut self) {
        let mut traffic = self.0.traffic();
        traffic.under_way -= 1;
        traffic.ended += 1;
        traffic.last = Some(Instant::now());
        let is_awaited = traffic.waiting > 0;
        drop(traffic);
        if is_awaited {
            self.0.ended.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_waits_for_one_write_and_not_for_the_next() {
        let way = Way::new();
        assert_eq!(way.give(), Room::Free);
        let first = way.urgent();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| way.give());
            while way.traffic().waiting == 0 && !reader.is_finished() {
                std::thread::yield_now();
            }
            let _next = way.urgent();
            drop(first);
            assert_eq!(reader.join().unwrap(), Room::Turn);
        });
        assert_eq!(way.give(), Room::Gap);
        let traffic = way.traffic();
        assert_eq!((traffic.under_way, traffic.waiting), (0, 0));
    }

    #[test]
    fn a_write_that_hangs_keeps_no_reader() {
        let way = Way::new();
        let _hanging = way.urgent();
        assert_eq!(way.give(), Room::Turn);
    }
}
