//! How old the bytes are that a follower lacks.
//!
//! Marks, ascending: at this time the log ended here. The byte at an offset is about as old as the last mark at or below
//! it, and never younger than told. One row of marks serves all followers, and says nothing of each append.

use std::time::Duration;

use types::{Instant, Offset};

/// Time between two marks: how much older a byte may seem than it is.
const GRAIN: Duration = Duration::from_millis(25);

/// Marks kept. Every second one is dropped when there are more, so that old ones lie farther apart.
const MARKS_MAX: usize = 64;

#[derive(Clone, Debug)]
pub(super) struct Ages {
    marks: Vec<(Offset, Instant)>,
}

impl Ages {
    /// All there is, is as old as `now`.
    pub(super) fn new(now: Instant) -> Ages {
        Ages { marks: vec![(Offset::ZERO, now)] }
    }

    /// The log ended at `end`, and goes on.
    pub(super) fn goes_on(&mut self, now: Instant, end: Offset) {
        let (last, at) = self.marks[self.marks.len() - 1];
        if end <= last || now - at < GRAIN {
            return;
        }
        if self.marks.len() == MARKS_MAX {
            let mut index = 0;
            self.marks.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
        self.marks.push((end, now));
    }

    /// Nobody asks for bytes below `end` any more.
    pub(super) fn forget(&mut self, end: Offset) {
        let later = self.marks.partition_point(|(offset, _)| *offset <= end);
        self.marks.drain(..later.saturating_sub(1));
    }

    /// Since when the byte at `offset` is there.
    pub(super) fn since(&self, offset: Offset) -> Instant {
        let later = self.marks.partition_point(|(mark, _)| *mark <= offset);
        self.marks[later.saturating_sub(1)].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    #[test]
    fn a_byte_is_as_old_as_the_mark_before_it() {
        let mut ages = Ages::new(ms(0));
        for (at, end) in [(1000, 10), (1010, 20), (1030, 30), (5000, 40)] {
            ages.goes_on(ms(at), Offset(end));
        }
        let rows = [(0, 0), (9, 0), (10, 1000), (25, 1000), (30, 1030), (39, 1030), (99, 5000)];
        for (offset, since) in rows {
            assert_eq!(ages.since(Offset(offset)), ms(since), "{offset}");
        }
        ages.forget(Offset(35));
        assert_eq!(ages.since(Offset(35)), ms(1030));
        assert_eq!(ages.marks.len(), 2);
    }

    #[test]
    fn marks_are_bounded_and_never_make_a_byte_younger() {
        let mut ages = Ages::new(ms(0));
        for step in 1..10_000u64 {
            ages.goes_on(ms(step * 30), Offset(step as i64));
            assert!(ages.marks.len() <= MARKS_MAX);
        }
        for step in 1..10_000u64 {
            assert!(ages.since(Offset(step as i64)) <= ms(step * 30));
        }
        assert_eq!(ages.since(Offset(9_999)), ms(9_999 * 30), "what is new is told exactly");
    }
}
