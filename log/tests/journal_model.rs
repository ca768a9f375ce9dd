//! A journal against a `Vec`: random groups, marks, checkpoints, starts, crashes and failed syncs.

mod journal_support;

use journal_support::*;
use log::journal::{Frame, Position};
use proptest::prelude::*;
use sim::disk::{DiskFault, Garbage, Injection, Op, SimDisk};
use sim::plain::block_on;

#[derive(Clone, Debug)]
enum Act {
    Append(Vec<(u64, u32, u8)>),
    Mark,
    /// Everything but a part of the groups is needless.
    Checkpoint(u8),
    /// The process ends between two operations.
    Restart {
        power: bool,
    },
    /// It ends inside the next operations.
    Crash {
        at: u64,
        power: bool,
    },
    /// One of the next syncs fails; the page cache shows the bytes, the medium may not have them.
    FailSync {
        skip: u64,
        power: bool,
    },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let frame = (1..4u64, 61..30_000u32, any::<u8>());
    let act = prop_oneof![
        10 => prop::collection::vec(frame, 1..6).prop_map(Act::Append),
        2 => Just(Act::Mark),
        2 => any::<u8>().prop_map(Act::Checkpoint),
        1 => any::<bool>().prop_map(|power| Act::Restart { power }),
        2 => (1..12u64, any::<bool>()).prop_map(|(at, power)| Act::Crash { at, power }),
        1 => (0..4u64, any::<bool>()).prop_map(|(skip, power)| Act::FailSync { skip, power }),
    ];
    prop::collection::vec(act, 1..40)
}

/// Everything asked for and not yet declared needless, with the group of each step once it is acknowledged.
#[derive(Default)]
struct Model {
    steps: Vec<(Option<Position>, Step)>,
    durable: usize,
    /// A checkpoint that was tried may have made so many needless.
    perhaps_needless: usize,
    at: u64,
}

impl Model {
    fn check(&mut self, delivered: &[Step]) {
        let asked: Vec<Step> = self.steps.iter().map(|(_, step)| step.clone()).collect();
        let end = (self.durable.max(delivered.len())..=asked.len())
            .find(|&end| asked[end - delivered.len()..end] == *delivered);
        let end = end.unwrap_or_else(|| {
            panic!("asked {asked:?}, durable {}, delivered {delivered:?}", self.durable)
        });
        assert!(
            end - delivered.len() <= self.perhaps_needless,
            "needed frames are missing: asked {asked:?}, durable {}, needless {}, delivered {delivered:?}",
            self.durable,
            self.perhaps_needless
        );
        // What was not delivered at the start is needless, what was not at the end was never promised: both for good.
        self.steps.truncate(end);
        self.durable = end;
        self.needless(end - delivered.len());
    }

    fn needless(&mut self, count: usize) {
        self.steps.drain(..count);
        self.durable -= count;
        self.perhaps_needless = 0;
    }
}

fn frames_of(spec: &[(u64, u32, u8)], model: &mut Model) -> Vec<Frame> {
    let mut frames = Vec::new();
    for &(log, bytes, filler) in spec {
        if filler % 4 == 0 {
            frames.push(plain(log, filler / 4));
            continue;
        }
        frames.push(data(log, model.at, bytes as usize, filler));
        model.at += u64::from(bytes);
    }
    frames
}

fn run(seed: u64, acts: &[Act], garbage: Garbage) {
    let mut disk: SimDisk = disk(seed);
    disk.set_garbage(garbage);
    let mut model = Model::default();
    let mut journal = Some(block_on(open(&disk)).expect("opens").journal);
    let mut cut_power = false;
    for act in acts {
        let mut ends = None;
        if let Some(journal) = &mut journal {
            let failed = match act {
                Act::Append(spec) => {
                    let frames = frames_of(spec, &mut model);
                    model.steps.extend(steps(&frames).into_iter().map(|step| (None, step)));
                    match block_on(journal.append_group(frames)) {
                        Ok(position) => {
                            for (group, _) in &mut model.steps[model.durable..] {
                                *group = Some(position);
                            }
                            model.durable = model.steps.len();
                            false
                        }
                        Err(_) => true,
                    }
                }
                Act::Mark => block_on(journal.mark()).is_err(),
                Act::Checkpoint(part) => {
                    let count = model.steps.len() * usize::from(*part) / 255;
                    let whole = journal.next_position();
                    let position = model.steps.get(count).and_then(|(group, _)| *group);
                    let position = position.unwrap_or(whole);
                    let count =
                        model.steps.iter().take_while(|(group, _)| *group < Some(position)).count();
                    // Recovery may still deliver some of it: the group that it repeats counts as later.
                    model.perhaps_needless = model.perhaps_needless.max(count);
                    block_on(journal.checkpoint(position)).is_err()
                }
                Act::Restart { power } => {
                    ends = Some(*power);
                    false
                }
                Act::Crash { at, power } => {
                    cut_power = *power;
                    disk.crash_at(*at);
                    false
                }
                Act::FailSync { skip, power } => {
                    cut_power = *power;
                    disk.inject(Injection {
                        path: "journal".into(),
                        op: Op::Sync,
                        skip: *skip,
                        fault: DiskFault::FailedSync,
                    });
                    false
                }
            };
            if failed {
                assert!(journal.is_failed());
                ends = Some(cut_power);
            }
        }
        // Starts until one succeeds: crashes and failed syncs strike recovery too.
        while let Some(power) = ends.take() {
            journal = None;
            disk = if power { disk.power_cut() } else { disk.kill() };
            match block_on(open(&disk)) {
                Ok(replayed) => {
                    assert!(replayed.damages.is_empty(), "{:?}", replayed.damages);
                    model.check(&replayed.steps());
                    for ((group, _), (position, _)) in model.steps.iter_mut().zip(&replayed.frames)
                    {
                        *group = Some(*position);
                    }
                    journal = Some(replayed.journal);
                }
                Err(_) => ends = Some(!power),
            }
        }
    }
    let left = disk.fork(seed).power_cut();
    let replayed = block_on(open(&left)).expect("opens");
    assert!(replayed.damages.is_empty(), "{:?}", replayed.damages);
    model.check(&replayed.steps());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 192,
        max_shrink_iters: 4000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_journal_is_a_vec(seed in any::<u64>(), acts in acts(), whole in any::<bool>()) {
        run(seed, &acts, if whole { Garbage::WholeBlock } else { Garbage::WrittenBytes });
    }
}
