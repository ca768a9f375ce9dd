//! When the next group begins: at once, or when those that the last one answered are back.
//!
//! A producer that keeps n requests in flight sends the next ones as soon as it hears of the last. Whoever starts the next
//! sync in the same instant syncs without them: half of the requests in each group, twice the syncs, and every request
//! waits for two. So the committer waits until as many appends have come as the last group held, for half as long as that
//! group took at most. Who does not come back in time is not waited for again soon: a wrong guess costs at least
//! [`REST_MIN`] groups of rest, each further one twice as many, so that open loops and leaving producers delay nobody.
//!
//! A single append waits for nothing, and neither does an idle directory.

use std::time::Duration;

/// Groups without a wait after the first wrong guess.
const REST_MIN: u32 = 16;
/// And after many.
const REST_MAX: u32 = 4096;
/// No wait is longer, however slow the disk is.
const PATIENCE_MAX: Duration = Duration::from_millis(5);

/// What the committer remembers of its last groups.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Appends of the last group.
    answered: usize,
    /// How long it took.
    took: Duration,
    /// Groups that begin without a wait.
    rest: u32,
    /// How many those are after the next wrong guess.
    penalty: u32,
}

/// What to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Awaited {
    /// Until so many appends are queued.
    pub appends: usize,
    /// But no longer than this.
    pub patience: Duration,
}

impl Pace {
    /// A group of so many appends was answered.
    pub fn on_group(&mut self, appends: usize, took: Duration) {
        self.answered = appends;
        self.took = took;
    }

    /// What the next group, for which `queued` appends are there already, should wait for.
    pub fn next(&mut self, queued: usize) -> Option<Awaited> {
        let appends = queued + std::mem::take(&mut self.answered);
        if appends == queued || appends < 2 {
            return None;
        }
        if let Some(rest) = self.rest.checked_sub(1) {
            self.rest = rest;
            return None;
        }
        Some(Awaited { appends, patience: (self.took / 2).min(PATIENCE_MAX) })
    }

    /// Whether they came in time.
    pub fn on_waited(&mut self, came: bool) {
        if came {
            self.penalty -= self.penalty.div_ceil(8);
        } else {
            self.penalty = (self.penalty * 2).clamp(REST_MIN, REST_MAX);
            self.rest = self.penalty;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_millis(2);

    #[test]
    fn the_answered_are_awaited_for_half_of_what_a_group_takes() {
        let mut pace = Pace::default();
        assert_eq!(pace.next(3), None, "nobody was answered");
        pace.on_group(1, TOOK);
        assert_eq!(pace.next(0), None, "one comes alone anyway");
        pace.on_group(1, TOOK);
        assert_eq!(pace.next(4), Some(Awaited { appends: 5, patience: TOOK / 2 }));
        pace.on_waited(true);
        assert_eq!(pace.next(5), None, "no group was answered since");
        pace.on_group(5, TOOK * 100);
        assert_eq!(pace.next(0), Some(Awaited { appends: 5, patience: PATIENCE_MAX }));
    }

    #[test]
    fn wrong_guesses_grow_rare() {
        let (mut pace, mut waits) = (Pace::default(), 0);
        for _ in 0..100_000 {
            pace.on_group(3, TOOK);
            if pace.next(2).is_some() {
                pace.on_waited(false);
                waits += 1;
            }
        }
        assert!(waits < 40, "{waits} waits in vain");
        // And right ones are made again after that.
        for _ in 0..=REST_MAX {
            pace.on_group(3, TOOK);
            pace.next(2);
        }
        pace.on_waited(true);
        pace.on_group(3, TOOK);
        assert!(pace.next(2).is_some());
    }
}
