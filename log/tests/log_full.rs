//! E11: on a disk that somebody else has filled to the last block, what must go on goes on: coordinators' appends, new
//! logs, log starts, deletions, checkpoints. What is deleted makes room at once, and nothing is opened again for that. Nor
//! does a process that died there need more to come back.

mod support;

use std::path::Path;
use std::time::Duration;

use env::{Clock, Disk};
use log::{Append, AppendError, LogDir, Origin};
use sim::disk::SimDisk;
use sim::plain;
use support::*;
use types::{LeaderEpoch, Offset};

const TOTAL: u64 = 64 << 20;

fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.options.space_reserve = 1 << 20;
    world.options.ballast_bytes = 512 << 10;
    world.disk.set_space(TOTAL, 0);
    world
}

/// Somebody else takes all that is left.
async fn fill(world: &World) {
    world.disk.set_space(TOTAL, 0);
    let free = world.disk.space(Path::new(DIR)).await.expect("tells");
    world.disk.set_space(TOTAL, free.available);
}

async fn coordinate(world: &World, dir: &LogDir<SimDisk>, value: &str) {
    let log = dir.log(&partition("offsets")).expect("it is there");
    let append = Append {
        batches: vec![batch(&[value])],
        leader_epoch: LeaderEpoch(0),
        now: NOW,
        origin: Origin::Coordinator,
    };
    log.append(append).expect("coordinators may always append");
    tokio::select! {
        biased;
        flushed = log.flush() => drop(flushed.expect("and it becomes durable")),
        () = world.clock.sleep(Duration::from_secs(60)) => panic!("it waits for space"),
    }
}

#[test]
fn what_must_go_on_goes_on_without_a_block_of_free_space() {
    for seed in 0..5 {
        let mut world = world(seed);
        world.with(async |dir| {
            let log = dir.create(spec("data", 1)).await.expect("created");
            dir.create(spec("offsets", 2)).await.expect("created");
            dir.create(spec("doomed", 3)).await.expect("created");
            coordinate(&world, &dir, "before").await;
            let value = "x".repeat(3000);
            for _ in 0..20 {
                append(&log, batch(&[&value]));
            }
            log.flush().await.expect("flushed");
            fill(&world).await;
            // Whoever finds no space closes the door to clients.
            for n in 0..100 {
                coordinate(&world, &dir, &format!("{n}")).await;
            }
            dir.create(spec("new", 4)).await.expect("a log needs little");
            assert_eq!(try_append(&log, vec![batch(&["refused"])], 0), Err(AppendError::NoSpace));
            assert!(!dir.has_space() && !*dir.space().borrow());
            let doomed = dir.log(&partition("doomed")).expect("it is there");
            dir.delete(&doomed).await.expect("deleted");
            assert_eq!(read_all(&log).await.len(), 20);
            assert!(dir.failure().borrow().is_none());

            // What a log start frees is free at once, not after `file.delete.delay.ms`.
            let free = async || world.disk.space(Path::new(DIR)).await.expect("tells").available;
            let before = free().await;
            log.set_log_start(Offset(15), Offset(20)).await.expect("deletes");
            world.clock.sleep(Duration::from_secs(1)).await;
            assert!(free().await > before, "{} after {before}", free().await);

            world.disk.set_space(TOTAL, 0);
            world.clock.sleep(Duration::from_secs(1)).await;
            assert!(dir.has_space() && *dir.space().borrow());
            append(&log, batch(&["welcome"]));
            assert_eq!(log.flush().await.expect("flushed").durable, Offset(21));
        });
        world.power_cut();
        world.with(async |dir| {
            let offsets = dir.log(&partition("offsets")).expect("recovered");
            assert_eq!(read_all(&offsets).await.len(), 101);
            assert!(
                dir.log(&partition("new")).is_some() && dir.log(&partition("doomed")).is_none()
            );
            assert_eq!(read_all(&dir.log(&partition("data")).expect("recovered")).await.len(), 6);
        });
    }
}

#[test]
fn what_was_kept_for_a_full_disk_is_kept_over_restarts_and_taken_back() {
    let mut world = world(7);
    let held = |world: &World| {
        let files = world.disk.files();
        let ballast = files.iter().find(|(path, _)| path.ends_with("ballast"));
        ballast.map_or(0, |(_, bytes)| *bytes)
    };
    world.with(async |dir| {
        dir.create(spec("offsets", 2)).await.expect("created");
    });
    assert_eq!(held(&world), 512 << 10);
    world.kill();
    plain::block_on(fill(&world));
    world.with(async |dir| {
        for n in 0..30 {
            coordinate(&world, &dir, &format!("{n} {}", "y".repeat(3000))).await;
        }
        let spent = held(&world);
        assert!(spent < 512 << 10 && spent > 0, "{spent} are left");
        world.disk.set_space(TOTAL, 0);
        world.clock.sleep(Duration::from_secs(15)).await;
        assert_eq!(held(&world), 512 << 10);
    });
}

/// A process that was killed on a full disk was refused its start: a new file of the journal, whole, did not fit the ballast.
#[test]
fn a_directory_opens_again_and_again_on_a_full_disk() {
    for (seed, is_stopped) in (0..6).zip([true, false].into_iter().cycle()) {
        let mut world = world(seed);
        world.options.space_reserve = 8 << 20;
        world.options.ballast_bytes = 2 << 20;
        world.options.journal_file_bytes = 4 << 20;
        world.options.journal_bytes_max = 32 << 20;
        world.with(async |dir| {
            let log = dir.create(spec("data", 1)).await.expect("created");
            dir.create(spec("offsets", 2)).await.expect("created");
            append(&log, batch(&["before"]));
            log.flush().await.expect("flushed");
            fill(&world).await;
        });
        for life in 0..10 {
            world.kill();
            plain::block_on(fill(&world));
            world.with(async |dir| {
                assert!(!dir.has_space(), "life {life}");
                let log = dir.log(&partition("data")).expect("it is there");
                assert_eq!(read_all(&log).await.len(), 1);
                // More than a short file takes.
                for n in 0..100 {
                    coordinate(&world, &dir, &format!("{life} {n}")).await;
                }
                let refused = try_append(&log, vec![batch(&["refused"])], 0);
                assert_eq!(refused, Err(AppendError::NoSpace));
                if is_stopped {
                    dir.close().await.expect("closes");
                }
            });
        }
        world.power_cut();
        world.disk.set_space(TOTAL, 0);
        world.with(async |dir| {
            world.clock.sleep(Duration::from_secs(15)).await;
            assert!(dir.has_space());
            let log = dir.log(&partition("data")).expect("it is there");
            append(&log, batch(&["after"]));
            assert_eq!(log.flush().await.expect("flushed").durable, Offset(2));
            let offsets = dir.log(&partition("offsets")).expect("it is there");
            assert_eq!(read_all(&offsets).await.len(), 1000);
        });
    }
}
