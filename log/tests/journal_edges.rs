//! The edge cases of CORRECTNESS.md that a journal alone can show, each by its number.

mod journal_support;

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use env::{Disk, File, OpenMode};
use journal_support::*;
use log::journal::{FrameKind, Journal, JournalError, JournalOptions, Position, Tail};
use sim::disk::{DiskFault, Injection, Op, SimDisk};
use sim::plain::block_on;
use types::{DirectoryId, Uuid};

async fn write_over(disk: &SimDisk, path: &Path, offset: u64, bytes: &[u8]) {
    let file = disk.open(path, OpenMode::Write).await.expect("opens");
    file.write_and_sync(offset, vec![Bytes::copy_from_slice(bytes)]).await.expect("writes");
}

#[test]
fn what_was_appended_comes_back_in_order() {
    block_on(async {
        let disk = disk(1);
        let mut first = open(&disk).await.expect("opens");
        assert!(first.frames.is_empty());
        let a = vec![plain(1, 0), data(1, 0, 200, 1), data(2, 0, 9000, 2)];
        let b = vec![
            data(1, 200, 61, 3),
            plain(2, 1),
            plain(2, 2),
            plain(1, 3),
            plain(1, 4),
            plain(2, 5),
        ];
        assert_eq!(first.journal.append_group(a.clone()).await.expect("appends"), Position(1));
        first.journal.append_group(b.clone()).await.expect("appends");
        let disk = disk.power_cut();
        let second = open(&disk).await.expect("opens");
        let all: Vec<_> = a.into_iter().chain(b).collect();
        assert_eq!(second.steps(), steps(&all));
        assert!(second.damages.is_empty());
        assert_eq!(second.report.tail, Tail::Clean);
    });
}

#[test]
fn e1_a_torn_group_is_cut_and_never_comes_back() {
    for seed in 0..200 {
        block_on(async {
            let disk = disk(seed);
            let mut journal = open(&disk).await.expect("opens").journal;
            let kept = vec![data(1, 0, 3000, 1)];
            journal.append_group(kept.clone()).await.expect("appends");
            let torn = vec![data(1, 3000, 9000, 2), data(2, 0, 9000, 3)];
            disk.crash_at(1);
            journal.append_group(torn.clone()).await.expect_err("the machine stops");
            let disk = disk.power_cut();
            let second = open(&disk).await.expect("opens");
            assert!(second.damages.is_empty(), "a tear is no corruption: {:?}", second.damages);
            let all: Vec<_> = kept.iter().chain(&torn).cloned().collect();
            let delivered = second.steps();
            assert!(!delivered.is_empty(), "what was acknowledged is there (I7)");
            assert_eq!(delivered[..], steps(&all)[..delivered.len()]);
            let mut journal = second.journal;
            let later = vec![data(1, 3000, 500, 9)];
            journal.append_group(later.clone()).await.expect("appends");
            let disk = disk.power_cut();
            let third = open(&disk).await.expect("opens");
            let expected: Vec<_> = delivered.into_iter().chain(steps(&later)).collect();
            assert_eq!(third.steps(), expected, "seed {seed}");
            assert!(third.damages.is_empty());
        });
    }
}

/// Three groups of which the disk kept the first and the third, when the third knew only the first to be durable.
#[test]
fn e1_unsynced_groups_that_survive_out_of_order_are_a_tear() {
    block_on(async {
        let disk = disk(3);
        let mut journal = open(&disk).await.expect("opens").journal;
        for at in 0..3 {
            journal.append_group(vec![data(1, at * 100, 100, at as u8)]).await.expect("appends");
        }
        let path = newest_file(&disk);
        let groups = groups(&disk, &path);
        let [.., (_, first, _), (second_at, _, _), (third_at, third, _)] = groups[..] else {
            panic!("three groups")
        };
        // Forge what a writer with several groups in flight would have left.
        let mut head = disk.peek(&path).expect("there")[third_at as usize..][..96].to_vec();
        head[32..40].copy_from_slice(&first.to_le_bytes());
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
        digest.update(&DIRECTORY.0.0);
        digest.update(&SECRET.to_le_bytes());
        digest.update(&head[..88]);
        let check = digest.finalize().to_le_bytes();
        head[88..].copy_from_slice(&check);
        write_over(&disk, &path, third_at, &head).await;
        write_over(&disk, &path, second_at, &[0; 96]).await;

        let disk = disk.power_cut();
        let second = open(&disk).await.expect("opens");
        assert!(second.damages.is_empty(), "{:?}", second.damages);
        assert_eq!(second.steps(), steps(&[data(1, 0, 100, 0)]));
        let mut journal = second.journal;
        assert!(journal.next_position() > Position(third), "numbers are never used twice");
        journal.append_group(vec![data(1, 100, 70, 8)]).await.expect("appends");
        let third = open(&disk.power_cut()).await.expect("opens");
        assert_eq!(third.steps(), steps(&[data(1, 0, 100, 0), data(1, 100, 70, 8)]), "I8");
        assert!(third.damages.is_empty());
    });
}

/// I14: the range is reported, frames before and behind it are delivered.
#[test]
fn e1_a_hole_below_a_durable_point_is_corruption_and_cuts_nothing() {
    // Where in the group the flip hits, and whether the frame can still be named.
    for (at, named) in [(4, false), (20, false), (100, false), (300, true), (4000, true)] {
        block_on(async {
            let disk = disk(4);
            let mut journal = open(&disk).await.expect("opens").journal;
            let a = vec![data(1, 0, 500, 1)];
            let b = vec![data(1, 500, 5000, 2), data(2, 0, 5000, 3)];
            let c = vec![data(1, 5500, 500, 4)];
            for group in [&a, &b, &c] {
                journal.append_group(group.clone()).await.expect("appends");
            }
            let path = newest_file(&disk);
            let (b_at, number, _) = groups(&disk, &path)[1];
            disk.rot(&path, b_at + at, 0x10).expect("rots");
            let disk = disk.power_cut();
            let second = open(&disk).await.expect("opens");
            assert_eq!(second.damages.len(), 1, "at {at}");
            let damage = &second.damages[0];
            assert_eq!((damage.first, damage.last), (Position(number), Position(number)));
            let mut expected = a.clone();
            if named {
                let key = damage.frame.as_ref().expect("the table is whole");
                assert_eq!((key.log.0, key.position, key.bytes), (1, 500, 5000));
                expected.push(b[1].clone());
            } else {
                assert!(damage.frame.is_none());
            }
            expected.extend(c.clone());
            assert_eq!(second.steps(), steps(&expected), "at {at}");
            // It stays reported until a checkpoint passes it.
            let disk = disk.kill();
            let again = open(&disk).await.expect("opens");
            assert_eq!(again.damages.len(), 1);
            assert_eq!(again.steps(), steps(&expected));
            let mut journal = again.journal;
            journal.checkpoint(journal.next_position()).await.expect("checkpoints");
            let clean = open(&disk.kill().power_cut()).await.expect("opens");
            assert!(clean.frames.is_empty() && clean.damages.is_empty());
        });
    }
}

#[test]
fn e2_rot_in_the_last_group_is_told_once_a_mark_follows_it() {
    for marked in [false, true] {
        block_on(async {
            let disk = disk(5);
            let mut journal = open(&disk).await.expect("opens").journal;
            journal.append_group(vec![data(1, 0, 500, 1)]).await.expect("appends");
            journal.append_group(vec![data(1, 500, 500, 2)]).await.expect("appends");
            assert!(journal.needs_mark());
            if marked {
                journal.mark().await.expect("marks");
                assert!(!journal.needs_mark());
            }
            let path = newest_file(&disk);
            let (at, _, _) = *groups(&disk, &path)
                .iter()
                .rfind(|(_, _, frames)| *frames > 0)
                .expect("a group with frames");
            disk.rot(&path, at + 400, 1).expect("rots");
            let second = open(&disk.power_cut()).await.expect("opens");
            assert_eq!(second.damages.len(), usize::from(marked));
            assert_eq!(second.steps(), steps(&[data(1, 0, 500, 1)]));
        });
    }
}

/// The journal's part of E7: a crash at every change while a file is created, begun, recycled or removed.
#[test]
fn e7_a_crash_while_files_change_loses_nothing() {
    for at in 1..60 {
        for power in [false, true] {
            block_on(async {
                let disk = disk(at);
                let mut journal = open(&disk).await.expect("opens").journal;
                let mut acknowledged = Vec::new();
                let mut kept_from = 0;
                disk.crash_at(at);
                for round in 0..20u64 {
                    let frame = data(1, round * 20_000, 20_000, round as u8);
                    match journal.append_group(vec![frame.clone()]).await {
                        Ok(_) => acknowledged.push(frame),
                        Err(_) => break,
                    }
                    if round % 6 == 5 {
                        // A checkpoint that fails may still have become durable.
                        kept_from = acknowledged.len();
                        if journal.checkpoint(journal.next_position()).await.is_err() {
                            break;
                        }
                    }
                }
                let disk = if power { disk.power_cut() } else { disk.kill() };
                let second = open(&disk).await.expect("opens");
                assert!(second.damages.is_empty(), "change {at}: {:?}", second.damages);
                let delivered = second.steps();
                let needed = steps(&acknowledged[kept_from..]);
                let begin = delivered.iter().position(|step| Some(step) == needed.first());
                if let Some(begin) = begin {
                    assert!(delivered[begin..].starts_with(&needed), "change {at}");
                } else {
                    assert!(needed.is_empty(), "change {at}: acknowledged frames are gone");
                }
            });
        }
    }
}

#[test]
fn e8_another_directory_a_newer_release_and_lost_headers_are_refused() {
    block_on(async {
        let disk = disk(6);
        let mut journal = open(&disk).await.expect("opens").journal;
        journal.append_group(vec![data(1, 0, 500, 1)]).await.expect("appends");
        drop(journal);

        let other = DirectoryId(Uuid([8; 16]));
        let refused = Journal::recover(&disk, Path::new(DIR), other, options()).await;
        assert!(matches!(refused, Err(JournalError::Foreign { found }) if found == DIRECTORY));

        let fork = disk.fork(1);
        for (path, _) in files(&fork) {
            for copy in [0, 4096] {
                write_over(&fork, &path, copy + 8, &9u32.to_le_bytes()).await;
            }
        }
        let refused = open(&fork).await;
        assert!(matches!(refused, Err(JournalError::Newer { version: 9, .. })));

        let fork = disk.fork(2);
        for (path, _) in files(&fork) {
            for copy in [0, 4096] {
                write_over(&fork, &path, copy, &[0; 104]).await;
            }
        }
        assert!(matches!(open(&fork).await, Err(JournalError::HeadersLost)));

        // One copy, or one file's header of several, is enough.
        let fork = disk.fork(3);
        for (path, _) in files(&fork) {
            write_over(&fork, &path, 0, &[0; 104]).await;
        }
        assert_eq!(open(&fork).await.expect("opens").steps(), steps(&[data(1, 0, 500, 1)]));
        let fork = disk.fork(4);
        drop(open(&fork).await.expect("opens"));
        let fork = fork.kill();
        let path = newest_file(&fork);
        for copy in [0, 4096] {
            write_over(&fork, &path, copy, &[0; 104]).await;
        }
        assert_eq!(open(&fork).await.expect("opens").steps(), steps(&[data(1, 0, 500, 1)]));
    });
}

/// A release reads what its predecessor wrote: the first version knew no RESET, and differs in nothing else.
#[test]
fn a_journal_of_the_first_version_is_read() {
    block_on(async {
        let disk = disk(7);
        let mut journal = open(&disk).await.expect("opens").journal;
        let kept = vec![plain(1, 0), data(1, 0, 500, 1), plain(1, 1)];
        journal.append_group(kept.clone()).await.expect("appends");
        drop(journal);
        for (path, _) in files(&disk) {
            let mut header = disk.peek(&path).expect("there")[..104].to_vec();
            header[8..12].copy_from_slice(&1u32.to_le_bytes());
            let check = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &header[..96]);
            header[96..].copy_from_slice(&check.to_le_bytes());
            write_over(&disk, &path, 0, &header).await;
            write_over(&disk, &path, 4096, &header).await;
        }
        let mut second = open(&disk).await.expect("opens");
        assert_eq!(second.steps(), steps(&kept));
        second.journal.append_group(vec![plain(1, 5)]).await.expect("appends");
        let third = open(&disk.power_cut()).await.expect("opens");
        assert_eq!(third.steps(), steps(&[kept, vec![plain(1, 5)]].concat()));
    });
}

/// I10: the pages of a failed sync look written to the next process. They are made durable before anyone hears of them.
#[test]
fn e10_a_failed_sync_fails_the_journal_for_good() {
    for seed in 0..100 {
        block_on(async {
            let disk = disk(seed);
            let mut journal = open(&disk).await.expect("opens").journal;
            let kept = data(1, 0, 500, 1);
            journal.append_group(vec![kept.clone()]).await.expect("appends");
            disk.inject(Injection {
                path: "journal".into(),
                op: Op::Sync,
                skip: 0,
                fault: DiskFault::FailedSync,
            });
            let lost = data(1, 500, 9000, 2);
            let error = journal.append_group(vec![lost.clone()]).await;
            assert!(matches!(error, Err(JournalError::Io { .. })));
            assert!(journal.is_failed());
            for _ in 0..2 {
                let error = journal.append_group(vec![lost.clone()]).await;
                assert!(matches!(error, Err(JournalError::Failed)));
                assert!(matches!(journal.mark().await, Err(JournalError::Failed)));
                let error = journal.checkpoint(Position(1)).await;
                assert!(matches!(error, Err(JournalError::Failed)));
            }
            let disk = disk.kill();
            let second = open(&disk).await.expect("opens");
            let seen = second.steps();
            assert!(seen.starts_with(&steps(std::slice::from_ref(&kept))));
            let third = open(&disk.power_cut()).await.expect("opens");
            assert_eq!(third.steps(), seen, "seed {seed}: what was delivered is durable");
            assert!(third.damages.is_empty(), "{:?}", third.damages);
        });
    }
}

#[test]
fn e10_a_dropped_append_fails_the_journal() {
    block_on(async {
        let disk = disk(8);
        let mut journal = open(&disk).await.expect("opens").journal;
        disk.inject(Injection {
            path: "journal".into(),
            op: Op::Sync,
            skip: 0,
            fault: DiskFault::HangingSync,
        });
        {
            let mut append = pin!(journal.append_group(vec![data(1, 0, 500, 1)]));
            let mut context = Context::from_waker(Waker::noop());
            assert!(matches!(append.as_mut().poll(&mut context), Poll::Pending));
        }
        assert!(journal.is_failed(), "a time-out is a failure");
        let error = journal.append_group(vec![data(1, 0, 500, 1)]).await;
        assert!(matches!(error, Err(JournalError::Failed)));
    });
}

/// The journal's part of E11: it says so before it writes, and goes on when there is space, without a restart.
#[test]
fn e11_a_full_disk_is_refused_before_anything_is_written() {
    block_on(async {
        let disk = disk(9);
        let mut journal = open(&disk).await.expect("opens").journal;
        let used: u64 = files(&disk).iter().map(|(_, len)| len).sum::<u64>() + (1 << 20);
        disk.set_space(used.next_multiple_of(4096), 0);
        let mut acknowledged = Vec::new();
        let refused = loop {
            let at = acknowledged.len() as u64;
            let frame = data(1, at * 20_000, 20_000, at as u8);
            match journal.append_group(vec![frame.clone()]).await {
                Ok(_) => acknowledged.push(frame),
                Err(error) => break error,
            }
            assert!(at < 1000, "the disk is small");
        };
        assert!(matches!(refused, JournalError::NoSpace), "{refused}");
        assert!(!journal.is_failed());
        // A crash now loses nothing, and recovery finds the file that was kept for it.
        let fork = disk.fork(1).power_cut();
        assert_eq!(open(&fork).await.expect("opens").steps(), steps(&acknowledged));
        // A checkpoint gives space back on the full disk.
        journal.checkpoint(journal.next_position()).await.expect("checkpoints");
        for at in 0..10 {
            journal.append_group(vec![data(2, at * 20_000, 20_000, 1)]).await.expect("appends");
        }
    });
}

#[test]
fn a_group_larger_than_a_file_spans_files_and_a_batch_larger_than_a_file_gets_its_own() {
    block_on(async {
        let disk = disk(10);
        let mut journal = open(&disk).await.expect("opens").journal;
        journal.append_group(vec![data(1, 0, 500, 1)]).await.expect("appends");
        let many: Vec<_> = (0..40).map(|at| data(2, at * 7000, 7000, at as u8)).collect();
        journal.append_group(many.clone()).await.expect("appends");
        let big = data(3, 0, 3 << 20, 5);
        journal.append_group(vec![big.clone(), data(4, 0, 100, 1)]).await.expect("appends");
        journal.append_group(vec![data(5, 0, 100, 1)]).await.expect("appends");
        let disk = disk.power_cut();
        let second = open(&disk).await.expect("opens");
        let mut all = vec![data(1, 0, 500, 1)];
        all.extend(many);
        all.extend([big, data(4, 0, 100, 1), data(5, 0, 100, 1)]);
        assert_eq!(second.steps(), steps(&all));
        assert!(second.damages.is_empty());
        // A file of another size is not kept.
        let mut journal = second.journal;
        journal.checkpoint(journal.next_position()).await.expect("checkpoints");
        assert!(files(&disk).iter().all(|(_, len)| *len <= 64 << 10), "{:?}", files(&disk));
    });
}

#[test]
fn a_large_frame_comes_back_in_frames_of_a_bounded_size() {
    block_on(async {
        let disk = disk(11);
        let options = JournalOptions { file_bytes: 8 << 20, ..options() };
        let mut journal = open_with(&disk, options).await.expect("opens").journal;
        let mut pieces = Vec::new();
        for at in 0..30u64 {
            // Cut across batch boundaries: the pieces need not be batches.
            let batch = batch(at as i64, 100_000, at as u8);
            pieces.extend([batch.slice(..30), batch.slice(30..70_000), batch.slice(70_000..)]);
        }
        let frame = log::journal::Frame { kind: FrameKind::Data(pieces), ..data(1, 64, 61, 0) };
        journal.append_group(vec![frame.clone()]).await.expect("appends");
        let second = open_with(&disk.power_cut(), options).await.expect("opens");
        assert_eq!(second.steps(), steps(&[frame]));
        assert!(second.frames.len() >= 3);
        for (_, frame) in &second.frames {
            let FrameKind::Data(pieces) = &frame.kind else { panic!("only data") };
            assert!(pieces.iter().map(Bytes::len).sum::<usize>() <= 1 << 20);
        }
    });
}

#[test]
fn frames_that_hold_no_whole_batches_are_refused_and_change_nothing() {
    block_on(async {
        let disk = disk(12);
        let mut journal = open(&disk).await.expect("opens").journal;
        let whole = batch(0, 100, 1);
        for bad in [whole.slice(..99), whole.slice(..40), Bytes::new(), Bytes::from(vec![0; 80])] {
            let mut frame = data(1, 0, 61, 0);
            frame.kind = FrameKind::Data(vec![bad]);
            let error = journal.append_group(vec![frame]).await;
            assert!(matches!(error, Err(JournalError::InvalidFrame(_))));
        }
        assert!(matches!(
            journal.append_group(Vec::new()).await,
            Err(JournalError::InvalidFrame(_))
        ));
        journal.append_group(vec![data(1, 0, 61, 0)]).await.expect("appends");
    });
}

#[test]
fn checkpoints_keep_the_number_of_files_bounded() {
    block_on(async {
        let disk = disk(13);
        let mut journal = open(&disk).await.expect("opens").journal;
        for round in 0..400u64 {
            journal.append_group(vec![data(1, round * 9000, 9000, 1)]).await.expect("appends");
            if journal.needs_checkpoint() {
                let live = journal.bytes_live();
                journal.checkpoint(journal.checkpoint_target()).await.expect("checkpoints");
                assert!(journal.bytes_live() < live, "round {round}");
            }
            assert!(journal.bytes_live() <= 512 << 10);
        }
        let bytes: u64 = files(&disk).iter().map(|(_, len)| len).sum();
        assert!(bytes <= 512 << 10, "{bytes}");
    });
}
