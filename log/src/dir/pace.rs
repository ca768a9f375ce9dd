//! When the next group begins: at once, or when those that the last one answered are back.
//!
//! A producer that keeps n requests in flight sends the next ones as soon as it hears of the last. Whoever starts the next
//! sync in the same instant syncs without them: half of the requests in each group, twice the syncs, and every request
//! waits for two. So the committer waits until as many appends have come as the last group held, for half as long as that
//! group took at most. Who does not come back in time is not waited for again soon: a wrong guess costs at least
//! [`REST_MIN`] groups of rest, each further one twice as many, so that open loops and leaving producers delay nobody.
//!
//! A single append waits for nothing, and neither does an idle directory.
//!
//! Many small appends of senders who do not wait for answers (a thousand partitions, a linger time) need no group as soon
//! as the device is free: each costs the same however much is in it. Where a group holds [`CROWD`] appends or more, a space
//! of [`SPACING`] is left before the next. It costs such senders that latency alone, but those who do wait for answers
//! throughput; which kind they are cannot be seen, so it is tried: [`Trial`] compares what arrives per second with spaces
//! and without.

use std::time::Duration;

use types::Instant;

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
    /// Groups that begin without waiting for those who were answered.
    rest: u32,
    /// How many those are after the next wrong guess.
    penalty: u32,
    /// Whether the last wait was for those who were answered.
    is_guess: bool,
    trial: Trial,
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
    /// A group of so many appends was answered at `now`.
    pub fn on_group(&mut self, appends: usize, took: Duration, now: Instant) {
        self.answered = appends;
        self.took = took;
        self.trial.on_group(appends, now);
    }

    /// What the next group, for which `queued` appends are there already, should wait for.
    pub fn next(&mut self, queued: usize) -> Option<Awaited> {
        let answered = std::mem::take(&mut self.answered);
        let appends = queued + answered;
        if answered == 0 || appends < 2 {
            return None;
        }
        self.is_guess = self.rest == 0;
        if self.is_guess {
            return Some(Awaited { appends, patience: (self.took / 2).min(PATIENCE_MAX) });
        }
        self.rest -= 1;
        (self.trial.is_spaced && answered >= CROWD)
            .then_some(Awaited { appends: answered * 4, patience: SPACING })
    }

    /// Whether they came in time.
    pub fn on_waited(&mut self, came: bool) {
        if !self.is_guess {
            return;
        }
        if came {
            self.penalty -= self.penalty.div_ceil(8);
        } else {
            self.penalty = (self.penalty * 2).clamp(REST_MIN, REST_MAX);
            self.rest = self.penalty;
        }
    }
}

/// Appends in a group from which on it pays to leave a space before the next one.
const CROWD: usize = 8;
/// That space.
const SPACING: Duration = Duration::from_micros(500);
/// Groups of a stretch without spaces, to compare with.
const PLAIN: u32 = 128;
/// And after spaces were found to cost throughput, at least and at most.
const PLAIN_SHUNNED: (u32, u32) = (256, 16_384);
/// Groups of a stretch with spaces, at first and at most.
const SPACED: (u32, u32) = (16, 1024);

/// Compares stretches of groups with and without spaces between them.
#[derive(Debug)]
struct Trial {
    is_spaced: bool,
    /// Groups left in this stretch.
    left: u32,
    appends: u64,
    since: Option<Instant>,
    /// Appends of the last stretch without spaces, and how long it was.
    plain: (u64, Duration),
    /// Groups of the next stretch with spaces.
    length: u32,
    /// Groups without spaces once those are found to cost throughput.
    shunned: u32,
}

impl Default for Trial {
    fn default() -> Trial {
        Trial {
            is_spaced: false,
            left: PLAIN,
            appends: 0,
            since: None,
            plain: (0, Duration::ZERO),
            length: SPACED.0,
            shunned: PLAIN_SHUNNED.0,
        }
    }
}

impl Trial {
    fn on_group(&mut self, appends: usize, now: Instant) {
        let Some(since) = self.since else {
            self.since = Some(now);
            return;
        };
        self.appends += appends as u64;
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return;
        }
        let (appends, took) = (std::mem::take(&mut self.appends), now.saturating_since(since));
        self.since = Some(now);
        if !self.is_spaced {
            self.plain = (appends, took);
            self.is_spaced = true;
            self.left = self.length;
            return;
        }
        let (plain_appends, plain_took) = self.plain;
        // Appends per second, both sides multiplied by both times: less than nine tenths of what came before?
        let is_slower = u128::from(appends) * plain_took.as_nanos() * 10
            < u128::from(plain_appends) * took.as_nanos() * 9;
        self.is_spaced = false;
        if is_slower {
            self.left = self.shunned;
            self.length = SPACED.0;
            self.shunned = (self.shunned * 2).min(PLAIN_SHUNNED.1);
        } else {
            self.left = PLAIN;
            self.length = (self.length * 2).min(SPACED.1);
            self.shunned = PLAIN_SHUNNED.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_millis(2);
    const START: Instant = Instant(0);

    #[test]
    fn the_answered_are_awaited_for_half_of_what_a_group_takes() {
        let mut pace = Pace::default();
        assert_eq!(pace.next(3), None, "nobody was answered");
        pace.on_group(1, TOOK, START);
        assert_eq!(pace.next(0), None, "one comes alone anyway");
        pace.on_group(1, TOOK, START);
        assert_eq!(pace.next(4), Some(Awaited { appends: 5, patience: TOOK / 2 }));
        pace.on_waited(true);
        assert_eq!(pace.next(5), None, "no group was answered since");
        pace.on_group(5, TOOK * 100, START);
        assert_eq!(pace.next(0), Some(Awaited { appends: 5, patience: PATIENCE_MAX }));
    }

    #[test]
    fn wrong_guesses_grow_rare() {
        let (mut pace, mut waits) = (Pace::default(), 0);
        for _ in 0..100_000 {
            pace.on_group(3, TOOK, START);
            if pace.next(2).is_some() {
                pace.on_waited(false);
                waits += 1;
            }
        }
        assert!(waits < 40, "{waits} waits in vain");
        // And right ones are made again after that.
        for _ in 0..=REST_MAX {
            pace.on_group(3, TOOK, START);
            pace.next(2);
        }
        pace.on_waited(true);
        pace.on_group(3, TOOK, START);
        assert!(pace.next(2).is_some());
    }

    /// Four seconds of senders, each of whom sends again `gaps` after it was answered or, in an open loop, after it sent.
    /// Groups and appends per second.
    fn play(mut pace: Pace, senders: usize, is_open: bool, gaps: fn(usize) -> u64) -> (f64, f64) {
        const GROUP: u64 = 300_000;
        const STEP: u64 = 20_000;
        let mut next: Vec<u64> =
            (0..senders).map(|n| gaps(n) * n as u64 / senders as u64).collect();
        let (mut now, mut groups, mut total, mut turn) = (0_u64, 0_u64, 0_u64, 0);
        while now < 4_000_000_000 {
            let queued = |now: u64, next: &[u64]| next.iter().filter(|at| **at <= now).count();
            if let Some(awaited) = pace.next(queued(now, &next)) {
                let deadline = now + u64::try_from(awaited.patience.as_nanos()).unwrap();
                while now < deadline && queued(now, &next) < awaited.appends {
                    now += STEP;
                }
                pace.on_waited(queued(now, &next) >= awaited.appends);
            }
            let taken: Vec<usize> = (0..senders).filter(|n| next[*n] <= now).collect();
            if taken.is_empty() {
                now += STEP;
                continue;
            }
            let mut appends = 0;
            for n in taken {
                turn += 1;
                appends += 1;
                if is_open {
                    next[n] += gaps(turn);
                    while next[n] <= now {
                        next[n] += gaps(turn);
                        appends += 1;
                    }
                } else {
                    next[n] = now + GROUP + gaps(turn);
                }
            }
            now += GROUP;
            groups += 1;
            total += appends as u64;
            pace.on_group(appends, Duration::from_nanos(GROUP), Instant(now));
        }
        (groups as f64 / 4.0, total as f64 / 4.0)
    }

    /// Never leaves a space.
    fn plain() -> Pace {
        Pace { trial: Trial { left: u32::MAX, ..Trial::default() }, ..Pace::default() }
    }

    #[test]
    fn open_loops_of_many_share_groups_and_lose_no_throughput() {
        // 500 senders, one append every 10 ms or so: 50,000 a second.
        let gaps = |n: usize| 9_500_000 + (n as u64 * 7919 % 1_000_000);
        let (groups, appends) = play(Pace::default(), 500, true, gaps);
        let (groups_plain, appends_plain) = play(plain(), 500, true, gaps);
        assert!(appends > appends_plain * 0.98, "{appends} appends/s, {appends_plain} plain");
        assert!(groups < groups_plain * 0.5, "{groups} groups/s, {groups_plain} plain");
    }

    #[test]
    fn who_waits_for_answers_is_not_slowed_down() {
        // Sixteen in flight whose next append comes 0 to 0.6 ms after the answer, never all at once.
        let gaps = |n: usize| (n as u64 * 7919 % 61) * 10_000;
        let (_, appends) = play(Pace::default(), 16, false, gaps);
        let (_, appends_plain) = play(plain(), 16, false, gaps);
        assert!(appends > appends_plain * 0.95, "{appends} appends/s, {appends_plain} plain");
    }

    #[test]
    fn few_appends_never_wait_for_a_space() {
        let mut pace = Pace::default();
        for n in 0..10_000_u64 {
            pace.on_group(CROWD - 1, TOOK, Instant(n * 2_000_000));
            if pace.next(0).is_some() {
                assert!(pace.is_guess);
                pace.on_waited(false);
            }
        }
    }
}
