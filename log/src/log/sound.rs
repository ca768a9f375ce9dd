//! Which bytes of a segment need no look before they are served.
//!
//! What was there when the process started may have rotten while nobody looked; the medium is believed by checksum alone
//! (I1). So a range is checked before it is first served, and remembered: reads go by file ranges after that. What this
//! process wrote itself is believed.

use std::collections::BTreeMap;

/// Ranges remembered per segment; readers move forward, so few do.
const RANGES_MAX: usize = 16;

/// What is known about the bytes of one segment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Sound {
    /// Bytes that were there when the process started; what follows it wrote itself.
    found: u64,
    /// Ranges of them that were checked: start and end. No two touch.
    checked: BTreeMap<u64, u64>,
}

impl Sound {
    /// A segment of which `size` bytes were found.
    pub fn found(size: u64) -> Sound {
        Sound { found: size, checked: BTreeMap::new() }
    }

    /// Whether `start..end` can be served as it is.
    pub fn covers(&self, start: u64, end: u64) -> bool {
        let end = end.min(self.found);
        let before = self.checked.range(..=start).next_back();
        start >= end || before.is_some_and(|(_, checked_end)| *checked_end >= end)
    }

    /// `start..end` was checked.
    pub fn add(&mut self, start: u64, end: u64) {
        let (mut start, mut end) = (start, end.min(self.found));
        if start >= end {
            return;
        }
        let touching: Vec<u64> = self
            .checked
            .range(..=end)
            .filter(|(_, checked_end)| **checked_end >= start)
            .map(|(checked_start, _)| *checked_start)
            .collect();
        for place in touching {
            if let Some(checked_end) = self.checked.remove(&place) {
                start = start.min(place);
                end = end.max(checked_end);
            }
        }
        self.checked.insert(start, end);
        if self.checked.len() > RANGES_MAX
            && let Some(shortest) = self
                .checked
                .iter()
                .min_by_key(|(start, end)| *end - *start)
                .map(|(start, _)| *start)
        {
            self.checked.remove(&shortest);
        }
    }

    /// The segment ends at `position` now; what follows will be written anew.
    pub fn cut(&mut self, position: u64) {
        self.found = self.found.min(position);
        self.checked.retain(|start, _| *start < position);
        if let Some(mut last) = self.checked.last_entry() {
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
        assert_eq!(sound.checked.len(), 1);
        sound.add(90, 300);
        assert!(sound.covers(90, 300));
        sound.cut(25);
        assert!(sound.covers(0, 25) && sound.covers(0, 200));
        assert_eq!(Sound::default(), Sound::found(0));
    }

    #[test]
    fn few_ranges_are_remembered() {
        let mut sound = Sound::found(10_000);
        for start in (0..5000).step_by(100) {
            sound.add(start, start + 10);
        }
        sound.add(6000, 7000);
        assert_eq!(sound.checked.len(), RANGES_MAX);
        assert!(sound.covers(6000, 7000), "the long ones");
    }
}
