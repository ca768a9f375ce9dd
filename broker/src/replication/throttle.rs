//! How fast replicas that are not in sync catch up, where an operator has set a limit (`kafka-reassign-partitions --throttle`):
//! producers and the other replicas have the rest of the network and the disks.
//!
//! What is read or written at once may be large: it is paid for afterwards, by a pause.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use types::Instant;

/// What was not used is kept for so long.
const KEPT: Duration = Duration::from_secs(1);

/// One direction of this broker.
#[derive(Default)]
pub(crate) struct Throttle {
    /// Up to this moment everything is used up.
    paid_until: Mutex<Option<Instant>>,
}

impl Throttle {
    /// When more may go, if not now.
    pub(crate) fn pauses_until(&self, now: Instant) -> Option<Instant> {
        let paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        paid_until.filter(|until| *until > now)
    }

    /// So many bytes have gone, of `rate` in a second.
    pub(crate) fn spend(&self, now: Instant, rate: u64, bytes: usize) {
        let nanos = (bytes as u128 * 1_000_000_000) / u128::from(rate.max(1));
        let taken = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        let least = now.saturating_sub(KEPT);
        *paid_until = Some(paid_until.map_or(least, |until| until.max(least)) + taken);
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
        assert_eq!(throttle.pauses_until(at(0)), None);
        // A second's worth was kept: five seconds' worth takes four.
        throttle.spend(at(0), 1_000, 5_000);
        assert_eq!(throttle.pauses_until(at(0)), Some(at(4_000)));
        assert_eq!(throttle.pauses_until(at(4_000)), None);
        throttle.spend(at(4_000), 1_000, 500);
        assert_eq!(throttle.pauses_until(at(4_000)), Some(at(4_500)));
        throttle.spend(at(60_000), 1_000, 900);
        assert_eq!(throttle.pauses_until(at(60_000)), None);
    }
}
