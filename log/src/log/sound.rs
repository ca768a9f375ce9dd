//! Which bytes of a segment need no look before they are served.
//!
//! The medium is believed by checksum alone (I1): what it holds may have rotten while nobody looked. A page that was written
//! or read a moment ago is served from memory, and one that was not may come from the medium again. So bytes are believed for
//! a while after this process wrote or checked them, and then checked before they are served; reads go by file ranges in
//! either case. Time is told in turns: what is believed was written or checked in this turn or the one before.

use std::collections::BTreeMap;
use std::time::Duration;

use types::mutant::{Mutant, planted};

/// How long a turn is: a page stays in memory for that long after it was used, unless the machine is about to die of want.
pub(crate) const TURN: Duration = Duration::from_secs(10);
/// Ranges remembered per segment and turn; readers move forward, so few do.
const RANGES_MAX: usize = 16;

/// What is known about the bytes of one segment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Sound {
    /// Bytes that were there when the process started, or were written before the last turn.
    old: u64,
    /// Bytes that were there when this turn began.
    ripe: u64,
    turn: u64,
    /// Ranges of the old bytes that were checked in this turn.
    checked: Ranges,
    /// And in the one before.
    before: Ranges,
}

/// Starts and ends. No two touch.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Sound {
    /// A segment of which `size` bytes were found.
    pub fn found(size: u64) -> Sound {
        Sound { old: size, ripe: size, ..Sound::default() }
    }

    /// It is `turn` now, and the segment has `size` bytes.
    pub fn grow_old(&mut self, turn: u64, size: u64) {
        if self.turn >= turn || planted(Mutant::BelievedForEver) {
            return;
        }
        // Nobody looked for longer than a turn: when what is there was written is not known.
        let is_next = self.turn + 1 == turn;
        self.old = if is_next { self.ripe } else { size };
        self.before = if is_next { std::mem::take(&mut self.checked) } else { Ranges::default() };
        self.checked = Ranges::default();
        (self.ripe, self.turn) = (size, turn);
    }

    /// Whether `start..end` can be served as it is.
    pub fn covers(&self, start: u64, end: u64) -> bool {
        let end = end.min(self.old);
        start >= end || self.checked.cover(start, end) || self.before.cover(start, end)
    }

    /// `start..end` was checked.
    pub fn add(&mut self, start: u64, end: u64) {
        self.checked.add(start, end);
    }

    /// The segment ends at `position` now; what follows will be written anew.
    pub fn cut(&mut self, position: u64) {
        self.old = self.old.min(position);
        self.ripe = self.ripe.min(position);
        self.checked.cut(position);
        self.before.cut(position);
    }
}

impl Ranges {
    fn cover(&self, start: u64, end: u64) -> bool {
        let before = self.0.range(..=start).next_back();
        before.is_some_and(|(_, checked_end)| *checked_end >= end)
    }

    fn add(&mut self, mut start: u64, mut end: u64) {
        if start >= end {
            return;
        }
        let touching: Vec<u64> = self
            .0
            .range(..=end)
            .filter(|(_, checked_end)| **checked_end >= start)
            .map(|(checked_start, _)| *checked_start)
            .collect();
        for place in touching {
            if let Some(checked_end) = self.0.remove(&place) {
                start = start.min(place);
                end = end.max(checked_end);
            }
        }
        self.0.insert(start, end);
        if self.0.len() > RANGES_MAX
            && let Some(shortest) =
                self.0.iter().min_by_key(|(start, end)| *end - *start).map(|(start, _)| *start)
        {
            self.0.remove(&shortest);
        }
    }

    fn cut(&mut self, position: u64) {
        self.0.retain(|start, _| *start < position);
        if let Some(mut last) = self.0.last_entry() {
            let end = last.get_mut();
            *end = position.min(*end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_found_and_not_checked_needs_a_look() {
        let mut sound = Sound::found(100);
        assert!(!sound.covers(0, 10) && !sound.covers(90, 200));
        assert!(sound.covers(100, 200), "written by this process");
        sound.add(0, 10);
        sound.add(20, 30);
        assert!(sound.covers(0, 10) && sound.covers(3, 7) && sound.covers(20, 30));
        assert!(!sound.covers(5, 25));
        sound.add(10, 20);
        assert!(sound.covers(0, 30));
        assert_eq!(sound.checked.0.len(), 1);
        sound.add(90, 300);
        assert!(sound.covers(90, 300));
        sound.cut(25);
        assert!(sound.covers(0, 25) && sound.covers(0, 200));
        assert_eq!(Sound::default(), Sound::found(0));
    }

    #[test]
    fn what_was_written_or_checked_is_believed_for_a_turn_or_two() {
        let mut sound = Sound::default();
        sound.grow_old(1, 100);
        assert!(sound.covers(0, 100));
        sound.grow_old(2, 150);
        assert!(!sound.covers(99, 120) && sound.covers(100, 150), "what is from before turn 1");
        sound.add(0, 150);
        sound.grow_old(3, 200);
        assert!(sound.covers(0, 150), "checked in turn 2");
        sound.grow_old(4, 200);
        assert!(!sound.covers(0, 10) && !sound.covers(150, 160) && sound.covers(200, 210));
        sound.add(0, 10);
        sound.grow_old(6, 300);
        assert!(!sound.covers(0, 10) && !sound.covers(290, 300), "nobody looked in turn 5");
    }

    #[test]
    fn few_ranges_are_remembered() {
        let mut sound = Sound::found(10_000);
        for start in (0..5000).step_by(100) {
            sound.add(start, start + 10);
        }
        sound.add(6000, 7000);
        assert_eq!(sound.checked.0.len(), RANGES_MAX);
        assert!(sound.covers(6000, 7000), "the long ones");
    }
}
