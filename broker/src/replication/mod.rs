//! What the partitions of this broker want of others: of the active controller, and of time.
//!
//! A room of its own because it serves all partitions at once: one request carries the proposals of many leaders, one timer
//! their deadlines. Partitions leave what they want at the [`Desk`]; nobody waits there.

mod proposals;
mod ticks;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cluster::replica::Proposal;
use tokio::sync::Notify;
use types::{Instant, PartitionIndex, TopicId};

pub(crate) use proposals::run as send_proposals;
pub(crate) use ticks::run as tick;

/// A partition.
pub(crate) type Place = (TopicId, PartitionIndex);

/// Where partitions leave what they want; at most one thing of each kind for each.
#[derive(Default)]
pub(crate) struct Desk {
    state: Mutex<Wanted>,
    proposed: Notify,
    timed: Notify,
}

#[derive(Default)]
struct Wanted {
    proposals: BTreeMap<Place, Proposal>,
    deadlines: BTreeMap<Place, Instant>,
    /// When the one timer goes off.
    wakes_at: Option<Instant>,
}

impl Desk {
    /// A leader wants this in-sync set. What it wanted before on an older registration is settled.
    pub(crate) fn propose(&self, place: Place, proposal: Proposal) {
        {
            let proposals = &mut self.lock().proposals;
            let is_newest =
                proposals.get(&place).is_none_or(|waiting| waiting.base <= proposal.base);
            if !is_newest {
                return;
            }
            proposals.insert(place, proposal);
        }
        self.proposed.notify_one();
    }

    /// A leader wants to be told of the time at `deadline`.
    pub(crate) fn wake_at(&self, place: Place, deadline: Option<Instant>) {
        let mut wanted = self.lock();
        let Some(deadline) = deadline else {
            wanted.deadlines.remove(&place);
            return;
        };
        wanted.deadlines.insert(place, deadline);
        // Deadlines move on with every append: the timer is disturbed only by one that comes before all others.
        if wanted.wakes_at.is_none_or(|at| deadline < at) {
            wanted.wakes_at = Some(deadline);
            drop(wanted);
            self.timed.notify_one();
        }
    }

    fn take_proposals(&self) -> BTreeMap<Place, Proposal> {
        std::mem::take(&mut self.lock().proposals)
    }

    /// Those whose time has come, and when the next one's will.
    fn take_due(&self, now: Instant) -> (Vec<Place>, Option<Instant>) {
        let mut wanted = self.lock();
        let deadlines = &mut wanted.deadlines;
        let is_due = |(place, at): (&Place, &Instant)| (*at <= now).then_some(*place);
        let due: Vec<Place> = deadlines.iter().filter_map(is_due).collect();
        deadlines.retain(|_, at| *at > now);
        wanted.wakes_at = deadlines.values().min().copied();
        (due, wanted.wakes_at)
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        // Every statement under this lock leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
