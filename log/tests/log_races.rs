//! A checkpoint or a reader beside a change of the same log: what each of them sees is the log before or after.

mod support;

use std::sync::Arc;
use std::time::Duration;

use env::Clock;
use log::{Durability, Log, LogDir, Read, ReadError};
use sim::disk::{DiskFault, FaultRates, Injection, Latency, Op, SimDisk};
use sim::plain::ManualClock;
use support::*;
use types::{Instant, LeaderEpoch, Offset};

const SECOND: Duration = Duration::from_secs(1);

/// A world whose disk takes time: each sync that [`hang`] orders takes two seconds.
fn slow_world(seed: u64, latency: Latency) -> World {
    let world = World::new(seed);
    world.disk.set_pace(Arc::new(world.clock.clone()), latency);
    world.disk.set_rates(FaultRates { hang: Some(2 * SECOND), ..FaultRates::default() });
    world
}

fn hang(world: &World, path: &str) {
    let fault = DiskFault::HangingSync;
    world.disk.inject(Injection { path: path.into(), op: Op::Sync, skip: 0, fault });
}

/// What a power cut now would leave, by the choices of `seed`.
fn if_power_failed(world: &World, seed: u64) -> World {
    World {
        disk: world.disk.fork(seed).power_cut(),
        clock: ManualClock::new(),
        options: world.options.clone(),
    }
}

/// Two epochs of five records each, all of it stable; the directory is closed.
fn two_epochs(world: &World) {
    world.with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        for i in 0..10 {
            try_append(&log, vec![batch(&["x"])], i / 5).expect("appends");
        }
        log.flush().await.expect("flushed");
        dir.close().await.expect("closes");
    });
}

/// A page-cache log whose bytes want a checkpoint in one second from now.
async fn checkpoint_in_a_second(dir: &LogDir<SimDisk>) -> Log<SimDisk> {
    let mut other = spec("other", 2);
    other.config.durability = Durability::PageCache;
    other.config.flush_ms = Some(SECOND);
    let other = dir.create(other).await.expect("created");
    append(&other, batch(&["y"]));
    other.write_out().await.expect("written");
    other
}

/// Once (found by the simulator, seed 323) memory was cut before the journal knew: a checkpoint of another log stored
/// the cut epochs with the old anchor, and after a power cut that lost the cut the second epoch was forgotten.
#[test]
fn i4_a_checkpoint_beside_a_truncation_tells_what_its_anchor_vouches_for() {
    let world = slow_world(1, Latency::default());
    two_epochs(&world);
    world.with(async |dir| {
        let log = dir.log(&partition("t")).expect("recovered");
        hang(&world, "other-0/");
        checkpoint_in_a_second(&dir).await;
        // The checkpoint runs from 1 s to 3 s, the truncation from 2 s to 4 s.
        world.clock.sleep(2 * SECOND).await;
        hang(&world, "journal");
        let truncation = log.truncate(Offset(5));
        let look = async {
            world.clock.sleep(SECOND + SECOND / 2).await;
            let mut uncut = 0;
            for seed in 0..20 {
                if_power_failed(&world, seed).with(async |dir| {
                    let log = dir.log(&partition("t")).expect("recovered");
                    let end = log.ends().log_end;
                    uncut += usize::from(end == Offset(10));
                    let newest = if end == Offset(10) { 1 } else { 0 };
                    assert_eq!(log.newest_epoch(), Some(LeaderEpoch(newest)), "ends at {end}");
                    let first = log.end_of_epoch(LeaderEpoch(0));
                    assert_eq!(first, Some((LeaderEpoch(0), Offset(5))), "ends at {end}");
                });
            }
            assert!(uncut > 0, "the cut is not durable yet");
        };
        let (truncated, ()) = tokio::join!(truncation, look);
        truncated.expect("cut");
    });
}

/// Once (found by the simulator, seeds 168 and 265) a checkpoint that began between a deletion's group and the deletion
/// itself stored the log as alive and freed the group: the log came back without its segments, in quarantine, and could
/// not be deleted again, because its files had been put aside under the name that it was to get.
#[test]
fn i81_a_checkpoint_beside_a_deletion_does_not_forget_it() {
    let world = slow_world(2, Latency::default());
    two_epochs(&world);
    world.with(async |dir| {
        let first = dir.create(spec("first", 3)).await.expect("created");
        let second = dir.log(&partition("t")).expect("recovered");
        let other = checkpoint_in_a_second(&dir).await;
        // The first deletion is under way until 2 s; the checkpoint waits for it from 1 s on, the second one comes next.
        let fault = DiskFault::HangingSync;
        world.disk.inject(Injection { path: DIR.into(), op: Op::SyncNames, skip: 0, fault });
        let (one, two) = tokio::join!(dir.delete(&first), dir.delete(&second));
        one.and(two).expect("deleted");
        assert!(world.clock.now() >= Instant::default() + 2 * SECOND);
        world.clock.sleep(SECOND).await;
        assert_eq!(other.ends().stable, Offset(1), "the checkpoint is done");
        for seed in 0..20 {
            if_power_failed(&world, seed).with(async |dir| {
                assert!(dir.log(&partition("t")).is_none(), "seed {seed}: deleted is deleted");
                assert!(dir.recovery().intact);
                dir.create(spec("t", 3)).await.expect("the name is free");
            });
        }
    });
}

/// Once a read that had found its place before a truncation took the bytes that were gone for damage: what was appended
/// there next was in quarantine.
#[test]
fn i14_a_read_beside_a_truncation_calls_nothing_damaged() {
    let latency = Latency { io: Duration::from_millis(1), sync: Duration::from_millis(3) };
    let world = slow_world(3, latency);
    world.disk.set_rates(FaultRates { slow: 200_000, ..FaultRates::default() });
    world.with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        for round in 0..100u32 {
            let value = "x".repeat(1 + round as usize % 7);
            while log.ends().log_end < Offset(40) {
                append(&log, batch(&[&value]));
            }
            let end = log.flush().await.expect("flushed").durable;
            let reading = async {
                world.clock.sleep(Duration::from_micros(300) * (round % 50)).await;
                for (from, bytes_max) in [(31, 200), (33, 1 << 20), (39, 1)] {
                    let read = Read { from: Offset(from), end, bytes_max, at_least_one: true };
                    match log.batches(read).await {
                        Ok(_) | Err(ReadError::OffsetOutOfRange { .. }) => {}
                        Err(error) => panic!("round {round}: {error}"),
                    }
                }
            };
            let (truncated, ()) = tokio::join!(log.truncate(Offset(20)), reading);
            truncated.expect("cut");
            assert!(log.quarantined().is_empty(), "round {round}: {:?}", log.quarantined());
        }
    });
}

/// Once (found by the simulator) a read whose segment retention took while it waited was answered with nothing, as if the
/// log ended there: a reader must learn that its offset is gone.
#[test]
fn i2_a_read_beside_a_raised_start_is_not_answered_with_nothing() {
    let latency = Latency { io: Duration::from_millis(1), sync: Duration::from_millis(3) };
    let world = slow_world(4, latency);
    world.disk.set_rates(FaultRates { slow: 200_000, ..FaultRates::default() });
    let mut gone = 0;
    world.with(async |dir| {
        for round in 0..30u32 {
            let mut small = spec(&format!("t{round}"), 10 + round as u8);
            small.config.segment_bytes = 300;
            let log = dir.create(small).await.expect("created");
            for _ in 0..40 {
                append(&log, batch(&["x"]));
            }
            let end = log.flush().await.expect("flushed").durable;
            // The start is raised after a checkpoint of its own: a read is always under way meanwhile.
            let reading = async {
                while log.ends().log_start < Offset(30) {
                    let (from, bytes_max) = (Offset(9), 200);
                    let read = Read { from, end, bytes_max, at_least_one: true };
                    match log.read(read).await {
                        Ok(slice) => assert!(slice.bytes > 0, "round {round}: nothing at {from}"),
                        Err(ReadError::OffsetOutOfRange { .. }) => gone += 1,
                        Err(error) => panic!("round {round}: {error}"),
                    }
                }
            };
            let (raised, ()) = tokio::join!(log.set_log_start(Offset(30), end), reading);
            raised.expect("raised");
        }
    });
    assert!(gone > 0, "the start was never raised beside a read");
}

/// A group is in the journal while its bytes are on their slow way to the segment, and a checkpoint begins and ends
/// meanwhile: no log counts the group yet, and replay needs it all the same (I11).
#[test]
fn a_checkpoint_frees_no_group_whose_bytes_are_still_being_written() {
    for seed in 0..60 {
        let latency = Latency { io: Duration::from_millis(1), sync: Duration::ZERO };
        let mut world = slow_world(seed, latency);
        world.options.journal_bytes_max = 2 * world.options.journal_file_bytes;
        world.disk.set_rates(FaultRates { slow: 100_000, ..FaultRates::default() });
        let count = 40 + seed as usize;
        world.with(async |dir| {
            let log = dir.create(spec("t", 1)).await.expect("created");
            for _ in 0..count {
                append(&log, batch(&["x"]));
                log.flush().await.expect("flushed");
            }
        });
        if_power_failed(&world, seed).with(async |dir| {
            let log = dir.log(&partition("t")).expect("recovered");
            assert_eq!(read_all(&log).await.len(), count, "seed {seed}");
        });
    }
}
