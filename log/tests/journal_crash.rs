//! Crash at every change that the journal makes to the disk, in recovery too, and look at what is left (I6-I9, E7).

mod journal_support;

use journal_support::*;
use log::journal::{Frame, Journal};
use sim::disk::{Garbage, SimDisk};
use sim::plain::block_on;

/// What was asked for and what was promised.
#[derive(Clone, Default)]
struct History {
    /// Every frame asked for, in order, as steps.
    asked: Vec<Step>,
    /// So many of them were acknowledged or announced.
    durable: usize,
    /// A checkpoint that succeeded made the first so many needless.
    needless: usize,
    /// A checkpoint that was tried may have made so many needless.
    perhaps_needless: usize,
}

impl History {
    /// `delivered` is a whole stretch of what was asked for: all that is durable and needed, nothing that is not.
    fn check(&mut self, delivered: &[Step], story: &str) {
        let fits = |&end: &usize| {
            end >= delivered.len() && self.asked[end - delivered.len()..end] == *delivered
        };
        let ends = self.durable.max(delivered.len())..=self.asked.len();
        let end = ends.clone().find(fits);
        let end = end.unwrap_or_else(|| {
            panic!("{story}: asked {:?} durable {}, got {delivered:?}", self.asked, self.durable)
        });
        let start = end - delivered.len();
        assert!(start <= self.perhaps_needless, "{story}: needed frames are missing");
        assert!(start >= self.needless, "{story}: a checkpoint was forgotten");
        self.asked.truncate(end);
        self.durable = end;
    }
}

enum Act {
    Append(Vec<Frame>),
    Mark,
    /// Everything but the last so many groups is needless.
    Checkpoint(usize),
}

fn script() -> Vec<Act> {
    let mut acts = Vec::new();
    let mut at = 0;
    let mut filler = 0;
    let mut next = |bytes: usize| {
        let frame = data(1 + filler % 3, at, bytes, filler as u8);
        at += bytes as u64;
        filler += 1;
        frame
    };
    acts.push(Act::Append(vec![plain(1, 0), next(300)]));
    acts.push(Act::Append(vec![next(5_000)]));
    acts.push(Act::Mark);
    acts.push(Act::Append(vec![next(20_000), plain(1, 1), next(9_000)]));
    acts.push(Act::Append(vec![next(30_000)]));
    acts.push(Act::Checkpoint(1));
    acts.push(Act::Append(vec![next(61)]));
    acts.push(Act::Append((0..5).map(|_| next(22_000)).collect()));
    acts.push(Act::Mark);
    acts.push(Act::Checkpoint(0));
    acts.push(Act::Append(vec![next(70_000), plain(2, 2)]));
    acts.push(Act::Append(vec![next(45_000)]));
    acts.push(Act::Append(vec![next(45_000)]));
    acts.push(Act::Checkpoint(2));
    acts.push(Act::Append(vec![next(45_000)]));
    acts.push(Act::Append(vec![next(100), next(100), plain(3, 4)]));
    acts
}

async fn play(journal: &mut Journal<SimDisk>, acts: &[Act], history: &mut History) {
    let mut groups = Vec::new();
    for act in acts {
        match act {
            Act::Append(frames) => {
                let begin = history.asked.len();
                history.asked.extend(steps(frames));
                let Ok(position) = journal.append_group(frames.clone()).await else { return };
                history.durable = history.asked.len();
                groups.push((position, begin));
            }
            Act::Mark => {
                if journal.mark().await.is_err() {
                    return;
                }
            }
            Act::Checkpoint(kept) => {
                let at = groups.len() - kept;
                let whole = (journal.next_position(), history.asked.len());
                let (position, begin) = groups.get(at).copied().unwrap_or(whole);
                history.perhaps_needless = begin;
                if journal.checkpoint(position).await.is_err() {
                    return;
                }
                history.needless = begin;
            }
        }
    }
}

fn cut(disk: &SimDisk, power: bool) -> SimDisk {
    if power { disk.power_cut() } else { disk.kill() }
}

/// Recovers, crashing at change `at` of recovery if that comes; then again to the end.
async fn recover(disk: SimDisk, at: u64, power: bool, history: &mut History, story: &str) -> bool {
    disk.crash_at(at);
    let first = open(&disk).await;
    let has_crashed = disk.has_crashed();
    if let Ok(replayed) = &first {
        assert!(replayed.damages.is_empty(), "{story}: {:?}", replayed.damages);
        history.check(&replayed.steps(), story);
    }
    drop(first);
    let disk = cut(&disk, power);
    // What recovery repeats it may deliver although a checkpoint came after it.
    let mut replayed = open(&disk).await.expect("recovers");
    assert!(replayed.damages.is_empty(), "{story}: {:?}", replayed.damages);
    history.check(&replayed.steps(), story);

    let more = vec![data(9, 0, 200, 200), data(9, 200, 30_000, 201)];
    history.asked.extend(steps(&more));
    replayed.journal.append_group(more).await.expect("goes on");
    history.durable = history.asked.len();
    let disk = cut(&disk, !power);
    let last = open(&disk).await.expect("recovers");
    assert!(last.damages.is_empty(), "{story}: {:?}", last.damages);
    history.check(&last.steps(), story);
    has_crashed
}

fn crash_everywhere(garbage: Garbage, power: bool, seeds: std::ops::Range<u64>) {
    let acts = script();
    for seed in seeds {
        for at in 1.. {
            let disk = disk(seed * 1000 + at);
            disk.set_garbage(garbage);
            let mut history = History::default();
            block_on(async {
                let mut journal = open(&disk).await.expect("opens").journal;
                disk.crash_at(at);
                play(&mut journal, &acts, &mut history).await;
            });
            let has_crashed = disk.has_crashed();
            let left = cut(&disk, power);
            for again in 1.. {
                let story = format!("seed {seed}, change {at}, then {again}");
                let mut history = history.clone();
                let fork = left.fork(seed + again);
                if !block_on(recover(fork, again, power, &mut history, &story)) {
                    break;
                }
            }
            if !has_crashed {
                assert!(at > 30, "the script changes the disk often");
                break;
            }
        }
    }
}

#[test]
fn power_cut_at_every_change_with_torn_sectors() {
    crash_everywhere(Garbage::default(), true, 0..3);
}

#[test]
fn power_cut_at_every_change_with_garbled_blocks() {
    crash_everywhere(Garbage::WholeBlock, true, 3..6);
}

#[test]
fn kill_at_every_change() {
    crash_everywhere(Garbage::default(), false, 6..8);
}

/// The very first start: nothing was promised, but the directory must open again.
#[test]
fn power_cut_at_every_change_of_the_first_start() {
    for seed in 0..20 {
        let mut at = 1;
        while block_on(async {
            let disk = disk(seed);
            disk.crash_at(at);
            let _ = open(&disk).await;
            let has_crashed = disk.has_crashed();
            let mut second = open(&disk.power_cut()).await.expect("opens");
            assert!(second.frames.is_empty() && second.damages.is_empty());
            second.journal.append_group(vec![data(1, 0, 100, 1)]).await.expect("appends");
            has_crashed
        }) {
            at += 1;
        }
        assert!(at > 3, "a start changes the disk");
    }
}
