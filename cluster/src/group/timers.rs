//! Deadlines of one coordinator: at most one per name, the earliest first.
//!
//! Owned by the machine rather than by its room, so that the room needs one sleep for all groups, and so that the same
//! events always fire in the same order.

use std::collections::{BTreeMap, BTreeSet};

use types::{GroupId, Instant, MemberId};

/// What a deadline is for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    /// Look for expired offsets in all groups.
    OffsetsExpiry,
    /// The rebalance waits no longer for members to join.
    Join(GroupId),
    /// The group waits no longer for members to ask for their assignment.
    Sync(GroupId),
    /// The member has been silent for too long.
    Session(GroupId, MemberId),
}

/// Named deadlines.
#[derive(Clone, Default, Debug)]
pub(super) struct Timers {
    by_time: BTreeSet<(Instant, Timer)>,
    by_name: BTreeMap<Timer, Instant>,
}

impl Timers {
    /// Sets the deadline of `timer`, replacing an earlier one.
    pub(super) fn set(&mut self, timer: Timer, deadline: Instant) {
        self.cancel(&timer);
        self.by_time.insert((deadline, timer.clone()));
        self.by_name.insert(timer, deadline);
    }

    /// Forgets `timer`.
    pub(super) fn cancel(&mut self, timer: &Timer) {
        if let Some((name, deadline)) = self.by_name.remove_entry(timer) {
            self.by_time.remove(&(deadline, name));
        }
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(deadline, _)| *deadline)
    }

    /// Takes the earliest timer that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.by_time.pop_first()?;
        self.by_name.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_deadline_and_the_earliest_fires_first() {
        let (join, sync) = (Timer::Join("g".into()), Timer::Sync("g".into()));
        let mut timers = Timers::default();
        timers.set(join.clone(), Instant(10));
        timers.set(sync.clone(), Instant(20));
        timers.set(join.clone(), Instant(30));
        assert_eq!(timers.next(), Some(Instant(20)));
        assert_eq!(timers.pop_due(Instant(19)), None);
        assert_eq!(timers.pop_due(Instant(30)), Some(sync));
        timers.cancel(&join);
        assert_eq!(timers.pop_due(Instant(40)), None);
        assert_eq!(timers.next(), None);
    }
}
