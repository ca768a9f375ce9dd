//! Rot and arbitrary bytes: never a panic, never a frame that nobody wrote, and what is missing is reported.

mod journal_support;

use std::path::Path;

use env::{Disk, File, OpenMode};
use journal_support::*;
use log::journal::{Damage, Frame, Position};
use sim::disk::{DiskFault, Injection, Op, SimDisk};
use sim::plain::block_on;

/// Several laps with groups of one and of many frames; the last group with frames is marked. Returns the disk and each
/// frame with its group.
async fn small_journal(seed: u64) -> (SimDisk, Vec<(Position, Frame)>) {
    let disk = disk(seed);
    let mut journal = open(&disk).await.expect("opens").journal;
    let mut written = Vec::new();
    let mut at = 0;
    let groups = [
        vec![plain(1, 0), data(1, 0, 300, 1)],
        vec![data(2, 0, 5_000, 2), plain(2, 1), data(1, 300, 100, 3)],
        vec![data(3, 0, 40_000, 4)],
        vec![data(3, 40_000, 20_000, 5), data(2, 5_000, 61, 6)],
        vec![plain(3, 3), plain(3, 4), plain(3, 5)],
    ];
    for frames in groups {
        let position = journal.append_group(frames.clone()).await.expect("appends");
        written.extend(frames.into_iter().map(|frame| (position, frame)));
        at += 1;
        if at == 2 {
            journal.mark().await.expect("marks");
        }
    }
    journal.mark().await.expect("marks");
    (disk.power_cut(), written)
}

fn covers(damage: &Damage, position: Position, frame: &Frame) -> bool {
    let in_range = damage.first <= position && position <= damage.last;
    in_range
        && damage.frame.as_ref().is_none_or(|key| {
            key.log == frame.log && key.position == frame.position && key.kind == frame.kind.name()
        })
}

/// Every frame written is delivered in its order or reported; nothing else is delivered.
fn check(replayed: &Replayed, written: &[(Position, Frame)], story: &str) {
    let mut delivered = replayed.steps().into_iter().peekable();
    for (position, frame) in written {
        let step = steps(std::slice::from_ref(frame)).remove(0);
        if delivered.peek() == Some(&step) {
            delivered.next();
            continue;
        }
        let is_reported = replayed.damages.iter().any(|damage| covers(damage, *position, frame));
        assert!(is_reported, "{story}: {step:?} is silently gone, {:?}", replayed.damages);
    }
    assert_eq!(delivered.next(), None, "{story}: invented");
}

/// Every byte that a group or header uses, one bit each; of the padding a sample.
#[test]
fn a_flipped_bit_anywhere_loses_nothing_silently() {
    let (disk, written) = block_on(small_journal(1));
    for (path, _) in files(&disk) {
        let bytes = disk.peek(&path).expect("there");
        for at in 0..bytes.len() {
            // Payload and padding are much alike: a sample of them will do.
            let dense = at % 4096 < 512 || at % 37 == 0;
            if !dense || (bytes[at] == 0 && at % 11 != 0) {
                continue;
            }
            let fork = disk.fork(at as u64);
            fork.rot(&path, at as u64, 1 << (at % 8)).expect("rots");
            let replayed = block_on(open(&fork)).expect("opens");
            check(&replayed, &written, &format!("{path:?} byte {at}"));
            assert!(replayed.damages.len() <= 1, "one fault, one report");
        }
    }
}

/// A sector, a block or a whole file of garbage; recovery says what is gone, and a checkpoint ends the matter.
#[test]
fn garbage_in_place_of_a_range_loses_nothing_silently() {
    let (disk, written) = block_on(small_journal(2));
    // A start begins another lap: every group before it has a witness in another file.
    drop(block_on(open(&disk)).expect("opens"));
    let disk = disk.power_cut();
    let newest = newest_file(&disk);
    for (path, len) in files(&disk) {
        for (unit, from) in [(512u64, 0), (4096, 0), (16_384, 8192), (len, 8192), (len, 0)] {
            if path == newest && unit > 4096 {
                continue;
            }
            let mut at = from;
            while at < len {
                let fork = disk.fork(at);
                let count = unit.min(len - at) as usize;
                let garbage: Vec<u8> = (0..count).map(|byte| (byte * 31 % 251) as u8).collect();
                block_on(async {
                    let file = fork.open(&path, OpenMode::Write).await.expect("opens");
                    file.write_and_sync(at, vec![garbage.into()]).await.expect("writes");
                });
                let mut replayed = block_on(open(&fork)).expect("opens");
                check(&replayed, &written, &format!("{path:?} bytes {at}+{unit}"));
                let journal = &mut replayed.journal;
                block_on(journal.checkpoint(journal.next_position())).expect("checkpoints");
                let again = block_on(open(&fork.kill())).expect("opens");
                assert!(again.damages.is_empty() && again.frames.is_empty());
                at += unit;
            }
        }
    }
}

/// A sector that cannot be read where acknowledged groups may have been is an error, not a tear; elsewhere it is damage.
#[test]
fn a_read_error_is_never_taken_for_a_tear() {
    let (disk, written) = block_on(small_journal(3));
    let mut refused = 0;
    for skip in 0..60 {
        for fault in [DiskFault::ErrorOnce, DiskFault::ErrorSticky] {
            let fork = disk.fork(skip);
            fork.inject(Injection { path: ".journal".into(), op: Op::Read, skip, fault });
            match block_on(open(&fork)) {
                Ok(replayed) => check(&replayed, &written, &format!("read {skip}")),
                Err(_) => refused += 1,
            }
            // What failed once may be whole again.
            let again = block_on(open(&disk.fork(skip))).expect("opens");
            check(&again, &written, "again");
        }
    }
    assert!(refused > 0, "sticky errors are seen");
}

/// Rot that only the reader sees: the same rules.
#[test]
fn a_bit_flipped_on_read_invents_nothing() {
    let (disk, written) = block_on(small_journal(4));
    for skip in 0..80 {
        let fork = disk.fork(skip);
        let fault = DiskFault::BitRot;
        fork.inject(Injection { path: ".journal".into(), op: Op::Read, skip, fault });
        let replayed = block_on(open(&fork)).expect("opens");
        let all: Vec<Frame> = written.iter().map(|(_, frame)| frame.clone()).collect();
        let all = steps(&all);
        for step in replayed.steps() {
            assert!(all.contains(&step), "read {skip}: invented {step:?}");
        }
    }
}

/// Bytes of any kind in the files: an error or an empty journal, in bounded memory and time.
#[test]
fn arbitrary_bytes_are_survived() {
    let (disk, _) = block_on(small_journal(5));
    let template: Vec<_> = files(&disk)
        .iter()
        .map(|(path, _)| (path.clone(), disk.peek(path).expect("there")))
        .collect();
    let mut state = 0x1234_5678_9abc_def0u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..400u64 {
        let fork = disk.fork(round);
        for (path, bytes) in &template {
            let mut bytes = bytes.to_vec();
            let changes = if bytes.is_empty() { 0 } else { random() % 200 };
            for _ in 0..changes {
                let at = (random() as usize) % bytes.len();
                match random() % 4 {
                    0 => bytes[at] = random() as u8,
                    1 => bytes[at] = 0xff,
                    2 => {
                        let from = (random() as usize) % bytes.len();
                        let count = 4096.min(bytes.len() - from.max(at));
                        bytes.copy_within(from..from + count, at);
                    }
                    _ => {
                        let len = 8.min(bytes.len() - at);
                        bytes[at..at + len].copy_from_slice(&random().to_le_bytes()[..len]);
                    }
                }
            }
            bytes.truncate((random() as usize) % (bytes.len() + 1));
            block_on(replace(&fork, path, bytes));
        }
        let _ = block_on(open(&fork));
    }
    for round in 0..200u64 {
        let fork = disk.fork(round);
        for (path, bytes) in &template {
            let noise: Vec<u8> = (0..bytes.len()).map(|_| random() as u8).collect();
            block_on(replace(&fork, path, noise));
        }
        assert!(block_on(open(&fork)).is_err(), "noise is no journal");
    }
}

async fn replace(disk: &SimDisk, path: &Path, bytes: Vec<u8>) {
    let file = disk.open(path, OpenMode::Write).await.expect("opens");
    file.set_len(0).await.expect("cuts");
    file.write_and_sync(0, vec![bytes.into()]).await.expect("writes");
}
