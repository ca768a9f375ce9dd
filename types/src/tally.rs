//! Counters that many tasks add to and somebody reads now and then.
//!
//! An addition is one relaxed atomic operation and orders nothing. What is read together may be a few additions apart;
//! each number alone never goes back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Nothing counted yet.
    pub const fn new() -> Counter {
        Counter(AtomicU64::new(0))
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Its value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

const fn micros(count: u64) -> Duration {
    Duration::from_micros(count)
}

/// Upper bounds of the buckets of a [`Histogram`], inclusive; one bucket more has none.
pub const DURATION_BOUNDS: [Duration; 17] = [
    micros(50),
    micros(100),
    micros(250),
    micros(500),
    micros(1_000),
    micros(2_500),
    micros(5_000),
    micros(10_000),
    micros(25_000),
    micros(50_000),
    micros(100_000),
    micros(250_000),
    micros(500_000),
    micros(1_000_000),
    micros(2_500_000),
    micros(5_000_000),
    micros(10_000_000),
];

/// How long things took: how many took how long, in buckets, and all of them together.
#[derive(Default, Debug)]
pub struct Histogram {
    buckets: [Counter; DURATION_BOUNDS.len() + 1],
    nanos: Counter,
}

impl Histogram {
    /// Counts one that took so long.
    pub fn record(&self, took: Duration) {
        self.buckets[DURATION_BOUNDS.partition_point(|bound| *bound < took)].add(1);
        self.nanos.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// What was counted.
    pub fn durations(&self) -> Durations {
        let buckets = std::array::from_fn(|at| self.buckets[at].get());
        Durations { buckets, total: Duration::from_nanos(self.nanos.get()) }
    }
}

/// What a [`Histogram`] held at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Durations {
    /// How many took at most the bound of that place in [`DURATION_BOUNDS`], and more than the one before it; the last
    /// place holds those beyond all bounds.
    pub buckets: [u64; DURATION_BOUNDS.len() + 1],
    /// All of them together.
    pub total: Duration,
}

impl Durations {
    /// How many.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_as_long_as_a_bound_is_within_it() {
        let histogram = Histogram::default();
        for took in [0, 50, 51, 100, 10_000_000, 10_000_001, 3_600_000_000] {
            histogram.record(micros(took));
        }
        let seen = histogram.durations();
        assert_eq!((seen.buckets[0], seen.buckets[1], seen.buckets[2]), (2, 2, 0));
        assert_eq!((seen.buckets[16], seen.buckets[17]), (1, 2));
        assert_eq!((seen.count(), seen.total), (7, micros(3_620_000_202)));
        assert!(DURATION_BOUNDS.is_sorted());
    }
}
