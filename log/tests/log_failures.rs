//! A disk that fails, fills or stalls: E10, E11, E12, I10, I13; and changes of durability.

mod support;

use std::future::Future;
use std::time::Duration;

use env::Clock;
use log::{AppendError, ChangeError, Durability, ReadError};
use sim::disk::{DiskFault, Injection, Latency, Op};
use sim::plain;
use support::*;
use types::Offset;

fn inject(world: &World, path: &str, op: Op, fault: DiskFault) {
    world.disk.inject(Injection { path: path.into(), op, skip: 0, fault });
}

#[test]
fn e10_a_failed_sync_takes_the_directory_offline_for_good() {
    let mut world = World::new(1);
    world.with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        append(&log, batch(&["kept"]));
        log.flush().await.expect("flushed");
        let seen = watch_ends(&log);
        inject(&world, "journal", Op::Sync, DiskFault::FailedSync);
        append(&log, batch(&["lost"]));
        assert_eq!(log.flush().await, Err(ChangeError::Offline));
        // I10: no end moved, and nothing depends on the directory any more.
        assert_eq!(seen.lock().unwrap().durable, Offset(1));
        assert!(dir.failure().borrow().is_some());
        assert_eq!(try_append(&log, vec![batch(&["refused"])], 0), Err(AppendError::Offline));
        let read = log
            .read(log::Read { from: Offset(0), end: Offset(1), bytes_max: 100, at_least_one: true })
            .await;
        assert!(matches!(read, Err(ReadError::Offline)));
        assert!(matches!(dir.create(spec("u", 2)).await, Err(ChangeError::Offline)));
        assert_eq!(log.truncate(Offset(0)).await, Err(ChangeError::Offline));
        assert_eq!(dir.close().await, Err(ChangeError::Offline));
    });
    world.kill();
    world.with(async |dir| {
        let log = dir.log(&partition("t")).expect("recovered");
        let read = read_all(&log).await;
        assert_eq!(read[0], (0, "kept".to_owned()));
        append(&log, batch(&["again"]));
        log.flush().await.expect("flushed");
    });
}

#[test]
fn e10_a_write_error_in_a_segment_takes_the_directory_offline() {
    let world = World::new(2);
    world.with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        inject(&world, ".log", Op::Write, DiskFault::ErrorOnce);
        append(&log, batch(&["lost"]));
        assert_eq!(log.flush().await, Err(ChangeError::Offline));
        assert_eq!(log.ends().durable, Offset(0));
        assert_eq!(try_append(&log, vec![batch(&["refused"])], 0), Err(AppendError::Offline));
    });
}

#[test]
fn e10_a_sync_that_hangs_beyond_the_time_out_has_failed() {
    let world = World::new(3);
    world.with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        inject(&world, "journal", Op::Sync, DiskFault::HangingSync);
        append(&log, batch(&["lost"]));
        let before = world.clock.now();
        assert_eq!(log.flush().await, Err(ChangeError::Offline));
        assert!(world.clock.now() - before >= world.options.sync_timeout);
    });
}

/// A process that is stopped or suspended cannot hear its disk meanwhile: when it goes on the disk has most of its time left.
#[test]
fn e10_a_process_that_stood_still_does_not_blame_its_disk() {
    let world = World::new(5);
    world.with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        inject(&world, "journal", Op::Sync, DiskFault::HangingSync);
        append(&log, batch(&["lost"]));
        let before = world.clock.now();
        let hour = Duration::from_secs(3600);
        let stands_still = async {
            world.clock.sleep(Duration::from_millis(1)).await;
            world.clock.advance(hour);
        };
        assert_eq!(plain::beside(log.flush(), stands_still).await, Err(ChangeError::Offline));
        let left = world.options.sync_timeout / 4 * 3;
        assert!(world.clock.now() - before >= hour + left, "{:?}", world.clock.now() - before);
    });
}

#[test]
fn e11_a_nearly_full_disk_refuses_clients_early_and_recovers_without_a_restart() {
    let mut world = World::new(4);
    world.options.space_reserve = 1 << 20;
    world.disk.set_space(64 << 20, 0);
    world.with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        append(&log, batch(&["kept"]));
        log.flush().await.expect("flushed");
        // Half a MiB less than what the reserve wants.
        let free = env::Disk::space(&world.disk, std::path::Path::new(DIR)).await.expect("tells");
        world.disk.set_space(64 << 20, free.available - (1 << 19));
        // Noticed at the latest after an eighth of the reserve.
        let value = "x".repeat(3000);
        let mut refused = None;
        for _ in 0..100 {
            match try_append(&log, vec![batch(&[&value])], 0) {
                Ok(_) => drop(log.flush().await),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        assert_eq!(refused, Some(AppendError::NoSpace));
        // I13: the refusal changed nothing.
        let ends = log.ends();
        assert!(try_append(&log, vec![batch(&["refused"])], 0).is_err());
        assert_eq!(log.ends(), ends);
        // Offsets, metadata and deletion go on.
        let coordinator = log::Append {
            batches: vec![batch(&["offset"])],
            leader_epoch: types::LeaderEpoch(0),
            now: NOW,
            origin: log::Origin::Coordinator,
        };
        log.append(coordinator).expect("the reserve is for coordinators");
        log.set_log_start(Offset(1), ends.durable).await.expect("deletes");
        log.truncate(Offset(1)).await.expect("cuts");
        world.disk.set_space(64 << 20, 0);
        world.clock.sleep(Duration::from_secs(1)).await;
        append(&log, batch(&["welcome"]));
        log.flush().await.expect("flushed");
    });
}

#[test]
fn e11_bytes_queued_on_a_full_disk_are_written_when_there_is_space() {
    for durability in [Durability::Sync, Durability::PageCache] {
        let mut world = World::new(5);
        world.disk.set_space(64 << 20, 0);
        world.with(async |dir| {
            let mut spec = spec("t", 1);
            spec.config.durability = durability;
            let log = dir.create(spec).await.expect("created");
            append(&log, batch(&["kept"]));
            log.flush().await.expect("flushed");
            world.disk.set_space(64 << 20, 64 << 20);
            let value = "x".repeat(3000);
            for _ in 0..5 {
                append(&log, batch(&[&value]));
            }
            if durability == Durability::PageCache {
                assert_eq!(log.write_out().await, Err(ChangeError::NoSpace));
            }
            world.clock.sleep(Duration::from_secs(1)).await;
            assert!(log.ends().written < Offset(6));
            assert_eq!(log.ends().log_end, Offset(6));
            assert!(dir.failure().borrow().is_none());
            assert_eq!(try_append(&log, vec![batch(&["refused"])], 0), Err(AppendError::NoSpace));
            world.disk.set_space(64 << 20, 0);
            world.clock.sleep(Duration::from_secs(1)).await;
            assert_eq!(log.flush().await.expect("flushed").durable, Offset(6));
            assert_eq!(read_all(&log).await.len(), 6);
        });
        world.power_cut();
        world.with(async |dir| {
            let log = dir.log(&partition("t")).expect("recovered");
            assert_eq!(read_all(&log).await.len(), 6);
        });
    }
}

#[test]
fn e11_a_full_disk_can_be_closed() {
    let world = World::new(6);
    world.disk.set_space(64 << 20, 0);
    world.with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        append(&log, batch(&["kept"]));
        log.flush().await.expect("flushed");
        world.disk.set_space(64 << 20, 64 << 20);
        append(&log, batch(&["never acknowledged"]));
        // Whatever the answer, it comes.
        drop(dir.close().await);
    });
}

#[test]
fn e12_a_slow_disk_pushes_back() {
    let mut world = World::new(7);
    world.options.queued_bytes_max = 10_000;
    world.with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        let value = "x".repeat(3000);
        let mut accepted = 0;
        // Nobody writes while this test does not await.
        while try_append(&log, vec![batch(&[&value])], 0).is_ok() {
            accepted += 1;
        }
        assert_eq!(accepted, 4);
        assert_eq!(try_append(&log, vec![batch(&["x"])], 0), Err(AppendError::Busy));
        log.flush().await.expect("flushed");
        append(&log, batch(&["welcome"]));
    });
}

#[test]
fn i13_a_batch_larger_than_a_segment_changes_nothing() {
    World::new(8).with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        let huge = "x".repeat(5000);
        let ends = log.ends();
        let batches = vec![stamped(&["a"], 1, 0, 0), stamped(&[&huge], 1, 0, 1)];
        let bytes = batches[1].bytes_total();
        let refused = AppendError::TooLarge { bytes, bytes_max: 4096 };
        assert_eq!(try_append(&log, batches, 0), Err(refused));
        assert_eq!(log.ends(), ends);
        assert!(log.producers().is_empty());
    });
}

#[test]
fn durability_changes_both_ways_without_a_gap() {
    let mut world = World::new(9);
    let mut paged = spec("t", 1);
    paged.config.durability = Durability::PageCache;
    world.with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        append(&log, batch(&["0"]));
        append(&log, batch(&["1"]));
        log.flush().await.expect("flushed");
        log.truncate(Offset(1)).await.expect("cut");
        append(&log, batch(&["one"]));
        log.set_config(paged.config.clone()).await.expect("changed");
        append(&log, batch(&["2"]));
        log.write_out().await.expect("written");
    });
    world.kill();
    world.with(async |dir| {
        let log = dir.log(&partition("t")).expect("recovered");
        assert_eq!(log.config().durability, Durability::PageCache);
        let values: Vec<String> =
            read_all(&log).await.into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, ["0", "one", "2"]);
        append(&log, batch(&["3"]));
        log.set_config(config()).await.expect("changed");
        // I9: everything is durable once the change is answered.
        assert_eq!(log.ends().durable, Offset(4));
    });
    world.power_cut();
    world.with(async |dir| {
        let log = dir.log(&partition("t")).expect("recovered");
        assert_eq!(log.config().durability, Durability::Sync);
        assert_eq!(read_all(&log).await.len(), 4);
    });
}

#[test]
fn flush_settings_strengthen_a_page_cache_log() {
    let mut world = World::new(10);
    world.with(async |dir| {
        let mut every = spec("every", 1);
        every.config.durability = Durability::PageCache;
        every.config.flush_messages = Some(1);
        let every = dir.create(every).await.expect("created");
        append(&every, batch(&["a"]));
        every.write_out().await.expect("nothing to do");
        let mut some = spec("some", 2);
        some.config.durability = Durability::PageCache;
        some.config.flush_messages = Some(3);
        let some = dir.create(some).await.expect("created");
        let mut timed = spec("timed", 3);
        timed.config.durability = Durability::PageCache;
        timed.config.flush_ms = Some(Duration::from_secs(5));
        let timed = dir.create(timed).await.expect("created");
        for value in ["a", "b", "c"] {
            append(&some, batch(&[value]));
            some.write_out().await.expect("written");
            append(&timed, batch(&[value]));
            timed.write_out().await.expect("written");
        }
        world.clock.sleep(Duration::from_secs(1)).await;
        assert_eq!(every.ends().durable, Offset(1));
        assert_eq!(some.ends().durable, Offset(3));
        world.clock.sleep(Duration::from_secs(5)).await;
        assert_eq!(timed.ends().durable, Offset(3));
    });
    world.power_cut();
    world.with(async |dir| {
        for name in ["some", "timed"] {
            let log = dir.log(&partition(name)).expect("recovered");
            assert_eq!(log.ends().log_end, Offset(3), "{name}");
        }
    });
}

/// A checkpoint that found no space has synced the segments and recorded nothing: who asks later gets another one.
#[test]
fn a_page_cache_log_becomes_a_sync_log_after_a_checkpoint_without_space() {
    let mut world = World::new(11);
    world.disk.set_space(64 << 20, 0);
    let mut paged = spec("t", 1);
    paged.config.durability = Durability::PageCache;
    world.with(async |dir| {
        let log = dir.create(paged.clone()).await.expect("created");
        append(&log, batch(&["0"]));
        log.write_out().await.expect("written");
        world.disk.set_space(64 << 20, 64 << 20);
        assert_eq!(log.flush().await, Err(ChangeError::NoSpace));
        world.disk.set_space(64 << 20, 0);
        world.clock.sleep(Duration::from_secs(1)).await;
        log.set_config(config()).await.expect("changed");
        assert_eq!(log.ends().durable, Offset(1));
    });
    world.power_cut();
    world.with(async |dir| {
        let log = dir.log(&partition("t")).expect("recovered");
        assert_eq!(read_all(&log).await.len(), 1);
    });
}

/// Whoever appends to a page-cache log writes what is queued. If it leaves halfway (its client has gone), somebody else
/// does, and readers need not wait for the next append.
#[test]
fn an_append_whose_writer_has_left_is_written() {
    let world = World::new(12);
    let latency = Latency { io: Duration::from_millis(1), sync: Duration::from_millis(1) };
    world.disk.set_pace(std::sync::Arc::new(world.clock.clone()), latency);
    let mut paged = spec("t", 1);
    paged.config.durability = Durability::PageCache;
    world.with(async |dir| {
        let log = dir.create(paged.clone()).await.expect("created");
        append(&log, batch(&["0"]));
        {
            let mut write = Box::pin(log.write_out());
            let polled = std::future::poll_fn(|context| {
                std::task::Poll::Ready(write.as_mut().poll(context).is_pending())
            });
            assert!(polled.await, "it waits for the disk");
        }
        world.clock.sleep(Duration::from_secs(1)).await;
        assert_eq!(log.ends().written, Offset(1));
        assert_eq!(read_all(&log).await.len(), 1);
    });
}
