//! How fast replicas that are not in sync catch up, where an operator has set a limit (`kafka-reassign-partitions --throttle`):
//! producers and the other replicas have the rest of the network and the disks.
//!
//! What is read or written at once may be large: it is paid for afterwards, by a pause. The debt is kept in bytes and looked
//! at again after a short while: a rate that was raised, or a replica that is in sync by now, need not wait for the old one.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use types::Instant;
use types::mutant::{Mutant, planted};

/// What was not used is kept for so long.
const KEPT: Duration = Duration::from_secs(1);
/// A pause is looked at again after so long.
const LOOK: Duration = Duration::from_millis(50);

/// One direction of this broker.
#[derive(Default)]
pub(crate) struct Throttle(Mutex<State>);

#[derive(Default)]
struct State {
    /// Bytes that have gone and are not paid for; what was not used is negative.
    debt: i128,
    /// Up to when it is counted.
    at: Instant,
}

impl Throttle {
    /// When to ask again whether more may go, if it may not now; `rate` bytes may in a second.
    pub(crate) fn pauses_until(&self, now: Instant, rate: u64) -> Option<Instant> {
        let state = self.paid(now, rate);
        let nanos = state.debt.max(0).saturating_mul(1_000_000_000) / i128::from(rate.max(1));
        let pause = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        (state.debt > 0).then(|| now + pause.clamp(Duration::from_millis(1), LOOK))
    }

    /// So many bytes have gone, of `rate` in a second.
    pub(crate) fn spend(&self, now: Instant, rate: u64, bytes: usize) {
        self.paid(now, rate).debt += bytes as i128;
    }

    /// What is left to pay at `now`.
    fn paid(&self, now: Instant, rate: u64) -> MutexGuard<'_, State> {
        // It is whole between any two statements.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let paid = |time: Duration| time.as_nanos() as i128 * i128::from(rate) / 1_000_000_000;
        let is_paid = state.debt <= 0 || !planted(Mutant::ThrottleUnpaid);
        state.debt -= if is_paid { paid(now.saturating_since(state.at)) } else { 0 };
        state.debt = state.debt.max(-paid(KEPT));
        state.at = state.at.max(now);
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::default() + Duration::from_millis(10_000 + millis)
    }

    #[test]
    fn what_goes_at_once_is_paid_for_by_a_pause() {
        let throttle = Throttle::default();
        assert_eq!(throttle.pauses_until(at(0), 1_000), None);
        // A second's worth was kept: five seconds' worth takes four.
        throttle.spend(at(0), 1_000, 5_000);
        assert_eq!(throttle.pauses_until(at(0), 1_000), Some(at(50)));
        assert_eq!(throttle.pauses_until(at(3_990), 1_000), Some(at(4_000)));
        assert_eq!(throttle.pauses_until(at(4_000), 1_000), None);
        throttle.spend(at(4_000), 1_000, 500);
        assert_eq!(throttle.pauses_until(at(4_490), 1_000), Some(at(4_500)));
        throttle.spend(at(60_000), 1_000, 900);
        assert_eq!(throttle.pauses_until(at(60_000), 1_000), None);
    }

    #[test]
    fn a_rate_that_is_raised_counts_at_once() {
        let throttle = Throttle::default();
        throttle.spend(at(0), 1, 1_000_001);
        assert_eq!(throttle.pauses_until(at(1_000), 1), Some(at(1_050)));
        assert_eq!(throttle.pauses_until(at(1_050), 1_000_000), Some(at(1_100)));
        assert_eq!(throttle.pauses_until(at(2_100), 1_000_000), None);
    }
}
