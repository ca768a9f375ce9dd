//! Every random choice of the simulator, in one place, so that a run is a list of numbers that can be kept and cut.
//!
//! A run draws from one ChaCha stream per (seed, node, subsystem): a new draw in one place does not shift the others. By
//! convention the choice 0 is the harmless one (no fault, first task, no delay): a tape entry that is deleted reads as 0,
//! which is what a shrinker relies on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// What a choice is about. Choices of one kind within one stream are numbered apart from the others on the tape.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// Which ready task runs next.
    Task,
    /// How long something takes.
    Delay,
    /// Whether, and which, fault strikes.
    Fault,
    /// What an unsynced page, sector, size or directory entry becomes in a power cut.
    Survival,
    /// What a workload does next.
    Operation,
    /// A property of the scenario, drawn before it starts.
    Scenario,
    /// Bytes for ids and payloads.
    Bytes,
}

/// Who draws: each has its own stream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Subsystem {
    /// The scenario.
    Scenario,
    /// The executor.
    Scheduler,
    /// A disk.
    Disk,
    /// The network.
    Net,
    /// Clocks.
    Clock,
    /// What breaks nodes and links.
    Nemesis,
    /// A workload; clients are told apart by their node number.
    Workload,
    /// The product's own randomness (`env::Rng`).
    Product,
    /// How long its computations take (`env::Spawn::compute`).
    Effort,
}

/// Name of one stream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
struct StreamName {
    node: u32,
    subsystem: Subsystem,
}

/// The non-zero choices of a run. Anything absent is 0.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Tape {
    /// The seed the run was drawn from.
    pub seed: u64,
    entries: BTreeMap<(StreamName, Kind), Vec<(u64, u64)>>,
}

impl Tape {
    /// Number of choices other than 0.
    pub fn len(&self) -> usize {
        self.entries.values().map(Vec::len).sum()
    }

    /// Whether every choice is 0.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The tape without choice number `index` in tape order: that choice becomes 0.
    #[must_use]
    pub fn without(&self, index: usize) -> Tape {
        let mut tape = self.clone();
        let mut left = index;
        for choices in tape.entries.values_mut() {
            if left < choices.len() {
                choices.remove(left);
                break;
            }
            left -= choices.len();
        }
        tape.entries.retain(|_, choices| !choices.is_empty());
        tape
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Draw,
    Record,
    Replay,
}

struct Stream {
    rng: ChaCha8Rng,
    counts: BTreeMap<Kind, u64>,
    /// What was recorded, or what is replayed.
    tape: BTreeMap<Kind, BTreeMap<u64, u64>>,
}

struct Shared {
    seed: u64,
    mode: Mode,
    replayed: Tape,
    streams: Mutex<BTreeMap<StreamName, Arc<Mutex<Stream>>>>,
}

/// One stream of choices; clones draw from the same stream.
#[derive(Clone)]
pub struct Decisions {
    shared: Arc<Shared>,
    stream: Arc<Mutex<Stream>>,
}

impl Decisions {
    /// The choices of `seed`, drawn and not kept.
    pub fn new(seed: u64) -> Decisions {
        Decisions::with_mode(seed, Mode::Draw, Tape::default())
    }

    /// The choices of `seed`, drawn and kept for [`Decisions::tape`].
    pub fn recording(seed: u64) -> Decisions {
        Decisions::with_mode(seed, Mode::Record, Tape::default())
    }

    /// The choices of `tape`; no random number is drawn.
    pub fn replaying(tape: Tape) -> Decisions {
        Decisions::with_mode(tape.seed, Mode::Replay, tape)
    }

    fn with_mode(seed: u64, mode: Mode, replayed: Tape) -> Decisions {
        let shared = Arc::new(Shared { seed, mode, replayed, streams: Mutex::default() });
        let stream = open_stream(&shared, StreamName { node: 0, subsystem: Subsystem::Scenario });
        Decisions { shared, stream }
    }

    /// The seed of the run.
    pub fn seed(&self) -> u64 {
        self.shared.seed
    }

    /// The stream of one subsystem of one node.
    pub fn stream(&self, node: u32, subsystem: Subsystem) -> Decisions {
        let stream = open_stream(&self.shared, StreamName { node, subsystem });
        Decisions { shared: self.shared.clone(), stream }
    }

    /// A choice in `0..n`; 0 when `n` is 0 or 1, without drawing.
    pub fn choose(&self, kind: Kind, n: u64) -> u64 {
        if n <= 1 {
            return 0;
        }
        self.decide(kind, n, |rng| uniform(rng, n))
    }

    /// A choice in `low..=high`.
    pub fn between(&self, kind: Kind, low: u64, high: u64) -> u64 {
        low + self.choose(kind, high.saturating_sub(low).saturating_add(1))
    }

    /// Yes in `per_million` of a million cases; never, without drawing, when that is 0.
    pub fn chance(&self, kind: Kind, per_million: u32) -> bool {
        if per_million == 0 {
            return false;
        }
        self.decide(kind, 2, |rng| u64::from(uniform(rng, 1_000_000) < u64::from(per_million))) == 1
    }

    /// Random bytes.
    pub fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.choose(Kind::Bytes, u64::MAX).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    /// What was chosen so far, if this run records.
    pub fn tape(&self) -> Tape {
        let mut tape = Tape { seed: self.shared.seed, entries: BTreeMap::new() };
        if self.shared.mode != Mode::Record {
            return tape;
        }
        for (name, stream) in lock(&self.shared.streams).iter() {
            for (kind, choices) in &lock(stream).tape {
                tape.entries
                    .insert((*name, *kind), choices.iter().map(|(k, v)| (*k, *v)).collect());
            }
        }
        tape
    }

    fn decide(&self, kind: Kind, n: u64, draw: impl FnOnce(&mut ChaCha8Rng) -> u64) -> u64 {
        let mut stream = lock(&self.stream);
        match self.shared.mode {
            Mode::Draw => draw(&mut stream.rng),
            Mode::Record => {
                let value = draw(&mut stream.rng);
                let ordinal = stream.next(kind);
                if value != 0 {
                    stream.tape.entry(kind).or_default().insert(ordinal, value);
                }
                value
            }
            Mode::Replay => {
                let ordinal = stream.next(kind);
                let value = stream.tape.get(&kind).and_then(|choices| choices.get(&ordinal));
                value.copied().filter(|value| *value < n).unwrap_or(0)
            }
        }
    }
}

impl Stream {
    fn next(&mut self, kind: Kind) -> u64 {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        *count - 1
    }
}

fn open_stream(shared: &Arc<Shared>, name: StreamName) -> Arc<Mutex<Stream>> {
    let mut streams = lock(&shared.streams);
    let stream = streams.entry(name).or_insert_with(|| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&shared.seed.to_le_bytes());
        key[8..12].copy_from_slice(&name.node.to_le_bytes());
        key[12..16].copy_from_slice(&(name.subsystem as u32).to_le_bytes());
        key[16..].copy_from_slice(b"foretold decides");
        let mut tape = BTreeMap::new();
        for ((owner, kind), choices) in &shared.replayed.entries {
            if *owner == name {
                tape.insert(*kind, choices.iter().copied().collect());
            }
        }
        let rng = ChaCha8Rng::from_seed(key);
        Arc::new(Mutex::new(Stream { rng, counts: BTreeMap::new(), tape }))
    });
    stream.clone()
}

/// Uniform in `0..n` by the multiply-shift method with rejection.
fn uniform(rng: &mut ChaCha8Rng, n: u64) -> u64 {
    loop {
        let wide = u128::from(rng.next_u64()) * u128::from(n);
        let low = wide as u64;
        if low >= n.wrapping_neg() % n {
            return (wide >> 64) as u64;
        }
    }
}

/// A panic while a lock is held is a violation already reported; the data stays readable for the report.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(decisions: &Decisions) -> Vec<u64> {
        (0..100)
            .map(|i| decisions.choose(if i % 3 == 0 { Kind::Fault } else { Kind::Delay }, 7))
            .collect()
    }

    #[test]
    fn one_seed_gives_the_same_choices_and_another_seed_others() {
        assert_eq!(draws(&Decisions::new(1)), draws(&Decisions::new(1)));
        assert_ne!(draws(&Decisions::new(1)), draws(&Decisions::new(2)));
    }

    #[test]
    fn streams_do_not_shift_each_other() {
        let quiet = Decisions::new(5);
        let busy = Decisions::new(5);
        let _ = draws(&busy.stream(1, Subsystem::Net));
        assert_eq!(
            draws(&quiet.stream(1, Subsystem::Disk)),
            draws(&busy.stream(1, Subsystem::Disk))
        );
    }

    #[test]
    fn a_replay_reads_the_tape_and_a_deleted_choice_is_harmless() {
        let recorded = Decisions::recording(9);
        let first = draws(&recorded.stream(3, Subsystem::Nemesis));
        let tape = recorded.tape();
        let replayed = Decisions::replaying(tape.clone());
        assert_eq!(draws(&replayed.stream(3, Subsystem::Nemesis)), first);

        let shorter = Decisions::replaying(tape.without(0));
        let cut = draws(&shorter.stream(3, Subsystem::Nemesis));
        let changed: Vec<usize> = (0..100).filter(|i| cut[*i] != first[*i]).collect();
        assert_eq!(changed.len(), 1, "one choice changed");
        assert_eq!(cut[changed[0]], 0);
    }

    #[test]
    fn choices_stay_in_their_range() {
        let decisions = Decisions::new(3);
        assert!((0..1000).all(|_| decisions.choose(Kind::Delay, 3) < 3));
        assert!((0..1000).all(|_| (4..=6).contains(&decisions.between(Kind::Delay, 4, 6))));
        assert!((0..1000).all(|_| !decisions.chance(Kind::Fault, 0)));
        assert!((0..1000).all(|_| decisions.chance(Kind::Fault, 1_000_000)));
    }
}
