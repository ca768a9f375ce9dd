//! The rolling hash of a run: two runs of one seed are equal iff all their events are.

use serde::{Deserialize, Serialize};

/// Events between two kept hashes; `meta` bisects over these.
pub const EVENTS_PER_MARK: u64 = 4096;

/// 128 bits over every event so far.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Trace {
    /// Number of events.
    pub events: u64,
    /// Hash over them.
    pub hash: u128,
    /// The hash after every [`EVENTS_PER_MARK`] events.
    pub marks: Vec<u128>,
}

/// What happened, for the hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Event {
    /// A task was polled.
    Poll,
    /// A node was started, killed, paused or resumed.
    Node,
    /// Bytes were sent or received.
    Net,
    /// The state of a disk.
    Disk,
    /// A client operation began or ended.
    Operation,
    /// A state digest.
    State,
}

impl Default for Trace {
    fn default() -> Trace {
        Trace { events: 0, hash: 0x6a09_e667_f3bc_c908_bb67_ae85_84ca_a73b, marks: Vec::new() }
    }
}

impl Trace {
    /// Adds an event at true time `nanos`.
    pub fn add(&mut self, nanos: u64, node: u32, event: Event, value: u64) {
        self.events += 1;
        let first = u128::from(nanos) << 64 | u128::from(value);
        let second = u128::from(self.events) << 64 | u128::from(node) << 8 | event as u128;
        for word in [first, second] {
            let mixed = (self.hash ^ word).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
            self.hash = mixed ^ (mixed >> 61);
        }
        if self.events.is_multiple_of(EVENTS_PER_MARK) {
            self.marks.push(self.hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_difference_shows() {
        let base = |nanos, node, event, value| {
            let mut trace = Trace::default();
            trace.add(nanos, node, event, value);
            trace.hash
        };
        let hash = base(1, 2, Event::Poll, 3);
        assert_eq!(hash, base(1, 2, Event::Poll, 3));
        for other in [
            base(2, 2, Event::Poll, 3),
            base(1, 3, Event::Poll, 3),
            base(1, 2, Event::Net, 3),
            base(1, 2, Event::Poll, 4),
        ] {
            assert_ne!(hash, other);
        }
    }
}
