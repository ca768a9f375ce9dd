//! The false disk keeps exactly what was synced, and never more by accident.

use std::path::Path;

use bytes::Bytes;
use env::{Disk, File, OpenMode};

use super::*;
use crate::plain::block_on;

const FILE: &str = "/dir/file";

fn disk(seed: u64) -> SimDisk {
    SimDisk::new(&Decisions::new(seed))
}

fn bytes(byte: u8, len: usize) -> Vec<Bytes> {
    vec![Bytes::from(vec![byte; len])]
}

/// A disk with a durable file of `len` bytes `a`.
async fn prepared(seed: u64, len: usize) -> (SimDisk, SimFile) {
    let disk = disk(seed);
    disk.create_dir_all(Path::new("/dir")).await.unwrap();
    disk.sync_dir(Path::new("/")).await.unwrap();
    let file = disk.open(Path::new(FILE), OpenMode::CreateNew).await.unwrap();
    disk.sync_dir(Path::new("/dir")).await.unwrap();
    file.write_at(0, bytes(b'a', len)).await.unwrap();
    file.sync_data().await.unwrap();
    (disk, file)
}

#[test]
fn what_was_synced_survives_every_power_cut() {
    for seed in 0..200 {
        block_on(async {
            let (disk, file) = prepared(seed, 10_000).await;
            file.write_at(10_000, bytes(b'b', 9_000)).await.unwrap();
            assert!(disk.is_durable(Path::new(FILE), 0, 10_000));
            assert!(!disk.is_durable(Path::new(FILE), 0, 10_001));
            let disk = disk.power_cut();
            let now = disk.read_all(Path::new(FILE)).await.unwrap();
            assert!(now.len() >= 10_000 && now.len() <= 19_000);
            assert!(now[..10_000].iter().all(|b| *b == b'a'));
        });
    }
}

#[test]
fn unsynced_bytes_survive_in_part_out_of_order_and_as_garbage() {
    let (mut whole, mut none, mut holes, mut garbage) = (0, 0, 0, 0);
    for seed in 0..300 {
        block_on(async {
            let (disk, file) = prepared(seed, 3 * PAGE_BYTES).await;
            file.write_at(0, bytes(b'b', 3 * PAGE_BYTES)).await.unwrap();
            let disk = disk.power_cut();
            let now = disk.read_all(Path::new(FILE)).await.unwrap();
            let new = now.iter().filter(|b| **b == b'b').count();
            let old = now.iter().filter(|b| **b == b'a').count();
            whole += usize::from(new == now.len());
            none += usize::from(old == now.len());
            garbage += usize::from(new + old < now.len());
            holes += usize::from(now[0] == b'a' && now[2 * PAGE_BYTES] == b'b');
        });
    }
    assert!(whole > 0 && none > 0 && holes > 0 && garbage > 0, "{whole} {none} {holes} {garbage}");
}

#[test]
fn a_sector_keeps_the_bytes_that_did_not_change_unless_asked_otherwise() {
    let mut harmed = 0;
    for seed in 0..300 {
        block_on(async {
            for garbage in [Garbage::WrittenBytes, Garbage::WholeBlock] {
                let (disk, file) = prepared(seed, 1000).await;
                disk.set_garbage(garbage);
                file.write_at(1000, bytes(b'b', 50)).await.unwrap();
                let disk = disk.power_cut();
                let now = disk.read_all(Path::new(FILE)).await.unwrap();
                let kept = now[..1000].iter().all(|b| *b == b'a');
                assert!(kept || garbage == Garbage::WholeBlock);
                harmed += usize::from(!kept);
            }
        });
    }
    assert!(harmed > 0);
}

#[test]
fn a_kill_keeps_the_page_cache_and_ends_the_handles() {
    block_on(async {
        let (disk, file) = prepared(1, 10).await;
        file.write_at(10, bytes(b'b', 10)).await.unwrap();
        let lock = disk.lock(Path::new("/dir/.lock")).await.unwrap();
        let again = disk.lock(Path::new("/dir/.lock")).await.err().unwrap();
        assert_eq!(again.kind(), io::ErrorKind::WouldBlock);
        let next = disk.kill();
        assert!(file.write_at(0, bytes(b'c', 1)).await.is_err());
        assert!(disk.list(Path::new("/")).await.is_err());
        next.lock(Path::new("/dir/.lock")).await.unwrap();
        drop((lock, file, disk));
        let now = next.read_all(Path::new(FILE)).await.unwrap();
        assert_eq!(&now[..], b"aaaaaaaaaabbbbbbbbbb");
    });
}

#[test]
fn a_name_is_durable_once_its_directory_is_synced() {
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..100 {
        block_on(async {
            let disk = disk(seed);
            disk.create_dir_all(Path::new("/a/b")).await.unwrap();
            disk.sync_dir(Path::new("/")).await.unwrap();
            let file = disk.open(Path::new("/a/b/f"), OpenMode::Create).await.unwrap();
            file.write_at(0, bytes(b'x', 5)).await.unwrap();
            file.sync_data().await.unwrap();
            disk.sync_dir(Path::new("/a/b")).await.unwrap();
            assert!(!disk.is_durable(Path::new("/a/b/f"), 0, 5), "/a was not synced");
            let disk = disk.power_cut();
            assert!(disk.exists(Path::new("/a")).await.unwrap());
            let there = disk.exists(Path::new("/a/b/f")).await.unwrap();
            lost += usize::from(!there);
            kept += usize::from(there);
        });
    }
    assert!(lost > 0 && kept > 0);
}

#[test]
fn replace_leaves_the_old_or_the_new_file() {
    for seed in 0..40 {
        for crash in 0..12 {
            block_on(async {
                let (disk, _) = prepared(seed, 5).await;
                disk.crash_at(crash);
                let result = disk.replace(Path::new(FILE), Bytes::from_static(b"new")).await;
                assert_eq!(result.is_err(), disk.has_crashed());
                let disk = disk.power_cut();
                let now = disk.read_all(Path::new(FILE)).await.unwrap();
                assert!(&now[..] == b"new" || (result.is_err() && &now[..] == b"aaaaa"));
            });
        }
    }
}

#[test]
fn a_failed_sync_is_not_made_good_by_the_next_one() {
    let mut lost = 0;
    for seed in 0..50 {
        block_on(async {
            let (disk, file) = prepared(seed, 5).await;
            disk.inject(Injection {
                path: "file".into(),
                op: Op::Sync,
                skip: 0,
                fault: DiskFault::FailedSync,
            });
            file.write_at(0, bytes(b'b', 5)).await.unwrap();
            assert!(file.sync_data().await.is_err());
            assert!(file.sync_data().await.is_ok());
            assert_eq!(disk.counts().of(DiskFault::FailedSync), 1);
            let disk = disk.power_cut();
            lost += usize::from(&disk.read_all(Path::new(FILE)).await.unwrap()[..] == b"aaaaa");
        });
    }
    assert!(lost > 10);
}

#[test]
fn bytes_written_during_a_sync_are_not_covered_by_it() {
    let clock = crate::plain::ManualClock::new();
    let decisions = Decisions::new(4);
    let disk = SimDisk::new(&decisions);
    let latency = Latency { io: Duration::ZERO, sync: Duration::from_millis(10) };
    disk.set_pace(Arc::new(clock.clone()), latency);
    crate::plain::run(&clock, async {
        let file = disk.open(Path::new("/f"), OpenMode::Create).await.unwrap();
        disk.sync_dir(Path::new("/")).await.unwrap();
        file.write_at(0, bytes(b'a', 100)).await.unwrap();
        let late = file.clone();
        let write = async move { late.write_at(50, bytes(b'b', 100)).await.unwrap() };
        let (synced, ()) = tokio::join!(file.sync_data(), write);
        synced.unwrap();
        assert!(!disk.is_durable(Path::new("/f"), 0, 100), "the middle was written again");
        assert!(!disk.is_durable(Path::new("/f"), 100, 50));
        file.sync_data().await.unwrap();
        assert!(disk.is_durable(Path::new("/f"), 0, 150));
    });
}

#[test]
fn bytes_that_a_sync_covered_stay_sound_when_their_page_is_written_during_it() {
    for seed in 0..200 {
        let clock = crate::plain::ManualClock::new();
        let disk = SimDisk::new(&Decisions::new(seed));
        let latency = Latency { io: Duration::ZERO, sync: Duration::from_millis(10) };
        disk.set_pace(Arc::new(clock.clone()), latency);
        crate::plain::run(&clock, async {
            let file = disk.open(Path::new("/f"), OpenMode::Create).await.unwrap();
            disk.sync_dir(Path::new("/")).await.unwrap();
            file.write_at(0, bytes(b'a', 100)).await.unwrap();
            let late = file.clone();
            let write = async move { late.write_at(100, bytes(b'b', 100)).await.unwrap() };
            let (synced, ()) = tokio::join!(file.sync_data(), write);
            synced.unwrap();
            assert!(disk.is_durable(Path::new("/f"), 0, 100), "seed {seed}");
            let cut = disk.power_cut();
            let now = cut.read_all(Path::new("/f")).await.unwrap();
            assert!(now[..100].iter().all(|b| *b == b'a'), "seed {seed}");
        });
    }
}

#[test]
fn an_older_sync_that_ends_later_takes_nothing_back() {
    for seed in 0..50 {
        let clock = crate::plain::ManualClock::new();
        let disk = SimDisk::new(&Decisions::new(seed));
        let latency = Latency { io: Duration::ZERO, sync: Duration::from_millis(10) };
        disk.set_pace(Arc::new(clock.clone()), latency);
        crate::plain::run(&clock, async {
            let file = disk.open(Path::new("/f"), OpenMode::Create).await.unwrap();
            disk.sync_dir(Path::new("/")).await.unwrap();
            file.write_at(0, bytes(b'a', 100)).await.unwrap();
            let late = file.clone();
            let second = async move {
                late.write_at(50, bytes(b'b', 100)).await.unwrap();
                late.sync_data().await.unwrap();
            };
            let (first, ()) = tokio::join!(file.sync_data(), second);
            first.unwrap();
            assert!(disk.is_durable(Path::new("/f"), 0, 150), "seed {seed}");
        });
    }
}

#[test]
fn a_full_disk_refuses_and_recovers_when_space_returns() {
    block_on(async {
        let (disk, file) = prepared(1, 5).await;
        disk.set_space(1 << 20, 1 << 20);
        let full = file.write_at(PAGE_BYTES as u64, bytes(b'b', 10)).await.unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        file.write_at(5, bytes(b'b', 10)).await.unwrap();
        assert!(disk.counts().of(DiskFault::NoSpace) > 0);
        disk.set_space(1 << 20, 0);
        file.allocate(0, 10 * PAGE_BYTES as u64).await.unwrap();
        assert_eq!(file.len().await.unwrap(), 15, "reserving does not change the size");
        disk.set_space(1 << 20, 1 << 20);
        file.write_at(9 * PAGE_BYTES as u64, bytes(b'b', 10)).await.unwrap();
    });
}

#[test]
fn a_removed_file_gives_its_space_back_when_its_last_handle_closes() {
    block_on(async {
        let (disk, file) = prepared(1, 100_000).await;
        let free = disk.space(Path::new("/")).await.unwrap().available;
        disk.remove_file(Path::new(FILE)).await.unwrap();
        assert_eq!(disk.space(Path::new("/")).await.unwrap().available, free);
        assert_eq!(file.read_at(0, 1).await.unwrap(), Bytes::from_static(b"a"));
        drop(file);
        assert!(disk.space(Path::new("/")).await.unwrap().available > free);
    });
}

#[test]
fn cutting_and_extending_reads_zeros() {
    block_on(async {
        let (_disk, file) = prepared(1, 10_000).await;
        file.set_len(5_000).await.unwrap();
        file.set_len(20_000).await.unwrap();
        let now = file.read_at(0, 30_000).await.unwrap();
        assert_eq!(now.len(), 20_000);
        assert!(now[..5_000].iter().all(|b| *b == b'a'));
        assert!(now[5_000..].iter().all(|b| *b == 0));
    });
}

#[test]
fn a_fork_shows_what_a_power_cut_would_leave_and_disturbs_nothing() {
    block_on(async {
        let (disk, file) = prepared(1, 5).await;
        file.write_at(0, bytes(b'b', 5)).await.unwrap();
        for seed in 0..20 {
            let cut = disk.fork(seed).power_cut();
            assert_eq!(cut.read_all(Path::new(FILE)).await.unwrap().len(), 5);
        }
        file.sync_data().await.unwrap();
        assert!(disk.is_durable(Path::new(FILE), 0, 5));
    });
}

/// The model: every byte either as the last sync left it or as it was written since (garbage switched off by writing
/// whole history into a set per byte).
#[test]
fn random_operations_never_lose_a_synced_byte() {
    for seed in 0..300 {
        let choices = Decisions::new(seed).stream(7, Subsystem::Workload);
        block_on(async {
            let (disk, file) = prepared(seed, 1).await;
            let (mut now, mut synced) = (vec![b'a'], vec![b'a']);
            let mut touched = vec![false];
            for step in 0..choices.between(Kind::Operation, 1, 30) {
                match choices.choose(Kind::Operation, 6) {
                    0 => {
                        file.sync_data().await.unwrap();
                        synced.clone_from(&now);
                        touched = vec![false; now.len()];
                    }
                    1 => {
                        let len = choices.choose(Kind::Operation, 20_000) as usize;
                        file.set_len(len as u64).await.unwrap();
                        let end = now.len().min(touched.len());
                        touched[len.min(end)..end].fill(true);
                        now.resize(len, 0);
                        touched.resize(touched.len().max(len), true);
                    }
                    _ => {
                        let at = choices.choose(Kind::Operation, 20_000) as usize;
                        let len = choices.between(Kind::Operation, 1, 9_000) as usize;
                        let value = b'b' + (step % 20) as u8;
                        file.write_at(at as u64, bytes(value, len)).await.unwrap();
                        now.resize(now.len().max(at + len), 0);
                        touched.resize(touched.len().max(at + len), true);
                        now[at..at + len].fill(value);
                        touched[at..at + len].fill(true);
                    }
                }
                let seen = file.read_at(0, 40_000).await.unwrap();
                assert_eq!(&seen[..], &now[..], "seed {seed}");
            }
            let disk = disk.power_cut();
            let left = disk.read_all(Path::new(FILE)).await.unwrap();
            assert!(left.len() >= synced.len().min(now.len()), "seed {seed}");
            for (at, byte) in left.iter().enumerate() {
                if !touched.get(at).copied().unwrap_or(true) {
                    assert_eq!(*byte, synced[at], "seed {seed}, byte {at}");
                }
            }
        });
    }
}
