//! Timestamps and retention: ListOffsets by time, E37, E38, I81.

mod support;

use std::time::Duration;

use log::{Durability, Log, LogConfig};
use sim::disk::SimDisk;
use sim::plain::Here;
use support::*;
use types::{Offset, Timestamp};

fn at(minutes: i64) -> Timestamp {
    Timestamp(NOW.0 + minutes * 60_000)
}

fn put(log: &Log<SimDisk>, time: Timestamp, now: Timestamp) {
    let value = "x".repeat(300);
    log.append(log::Append {
        batches: vec![batch_at(&[&value], time)],
        leader_epoch: types::LeaderEpoch(0),
        now,
        origin: log::Origin::Client,
    })
    .expect("good");
}

async fn find(log: &Log<SimDisk>, target: Timestamp) -> Option<i64> {
    let end = log.ends().written;
    log.offset_for_timestamp(target, end, &Here)
        .await
        .expect("searchable")
        .map(|found| found.offset.0)
}

#[test]
fn e38_the_first_record_late_enough_is_found_in_any_order_of_timestamps() {
    let times: Vec<i64> = (0..150).map(|n| (n * 7919) % 97).collect();
    let mut world = World::new(1);
    let model = |target: i64| times.iter().position(|time| *time >= target).map(|at| at as i64);
    let check = async |log: &Log<SimDisk>| {
        for target in 0..100 {
            assert_eq!(find(log, at(target)).await, model(target), "{target}");
        }
        let largest =
            log.max_timestamp_offset(log.ends().written, &Here).await.expect("searchable");
        let max = times.iter().max().copied().unwrap_or(0);
        let first = times.iter().position(|time| *time == max).unwrap_or(0);
        let largest = largest.map(|found| (found.offset.0, found.timestamp));
        assert_eq!(largest, Some((first as i64, at(max))));
    };
    world.with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        times.iter().for_each(|time| put(&log, at(*time), NOW));
        log.flush().await.expect("flushed");
        check(&log).await;
    });
    world.power_cut();
    world.with(async |dir| {
        let log = dir.log(&partition("t")).expect("recovered");
        check(&log).await;
        log.set_log_start(Offset(60), Offset(150)).await.expect("raised");
        let above = times[60..].iter().position(|time| *time >= 50).map(|at| at as i64 + 60);
        assert_eq!(find(&log, at(50)).await, above);
        for end in [150, 149, 101, 61] {
            let readable = &times[60..end];
            let max = readable.iter().max().copied().expect("some");
            let first = readable.iter().position(|time| *time == max).expect("there");
            let found =
                log.max_timestamp_offset(Offset(end as i64), &Here).await.expect("searchable");
            let found = found.map(|found| (found.offset.0, found.timestamp));
            assert_eq!(found, Some((first as i64 + 60, at(max))), "below {end}");
        }
        dir.close().await.expect("closes");
    });
    world.kill();
    world.with(async |dir| {
        let log = dir.log(&partition("t")).expect("recovered");
        assert_eq!(log.ends().log_start, Offset(60));
        let above = times[60..].iter().position(|time| *time >= 50).map(|at| at as i64 + 60);
        assert_eq!(find(&log, at(50)).await, above);
    });
}

#[test]
fn a_record_inside_a_batch_is_found() {
    World::new(2).with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        let mut builder = record::BatchBuilder::new(record::BatchOptions::default());
        for minute in [5, 3, 8, 1] {
            builder.push(Some(at(minute)), None, Some(b"v"));
        }
        append(&log, builder.build());
        log.flush().await.expect("flushed");
        assert_eq!(find(&log, at(4)).await, Some(0));
        assert_eq!(find(&log, at(6)).await, Some(2));
        assert_eq!(find(&log, at(9)).await, None);
        // Nothing at or above the end asked for counts.
        assert!(
            log.offset_for_timestamp(at(6), Offset(0), &Here).await.expect("searchable").is_none()
        );
    });
}

/// I14: whichever bit of a batch's header flips, a look-up by time finds the first readable record that is late enough. By
/// headers alone it found the rotten one, or passed by all that lies behind it in its segment.
#[test]
fn i14_a_rotten_header_misleads_no_look_up_by_time() {
    let world = World::new(4);
    world.with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        (0..40).for_each(|minute| put(&log, at(minute), NOW));
        log.flush().await.expect("flushed");
        dir.close().await.expect("closes");
    });
    let segments: Vec<_> = world.disk.files().into_iter().map(|(path, _)| path).collect();
    let is_segment = |path: &&std::path::PathBuf| {
        path.to_string_lossy().contains("t-0") && path.to_string_lossy().ends_with(".log")
    };
    let segment = segments.iter().filter(is_segment).nth(1).expect("several");
    let batches = record::Batches::split(world.disk.peek(segment).expect("there"));
    let batches: Vec<_> = batches.map(|batch| batch.expect("whole")).collect();
    assert!(batches.len() > 2, "{} batches", batches.len());
    let mut place = 0;
    for rotten in &batches {
        let lost = rotten.base_offset().0;
        for bit in 0..8 * record::HEADER_LEN as u64 {
            let fork = world.fork(bit);
            fork.disk.rot(segment, place + bit / 8, 1 << (bit % 8)).expect("rots");
            fork.with(async |dir| {
                let log = dir.log(&partition("t")).expect("recovered");
                // Damage that is known misleads no more than damage that is not.
                if bit % 3 == 0 {
                    let read = log::Read {
                        from: Offset(lost),
                        end: Offset(40),
                        bytes_max: 1,
                        at_least_one: true,
                    };
                    assert!(log.read(read).await.is_err(), "bit {bit} of {lost}");
                }
                for target in [lost - 1, lost, lost + 1] {
                    let right = if target == lost { lost + 1 } else { target };
                    let found = find(&log, at(target)).await;
                    assert_eq!(found, Some(right), "bit {bit} of {lost}, minute {target}");
                }
                for (end, right) in [(40, 39), (lost + 1, lost - 1)] {
                    let found = log.max_timestamp_offset(Offset(end), &Here).await;
                    let found = found.expect("searchable").map(|found| found.offset.0);
                    assert_eq!(found, Some(right), "bit {bit} of {lost}, largest below {end}");
                }
            });
        }
        place += rotten.bytes_total() as u64;
    }
}

fn keep(ms: Option<u64>, bytes: Option<u64>) -> LogConfig {
    LogConfig { retention_ms: ms.map(Duration::from_millis), retention_bytes: bytes, ..config() }
}

const HOUR: u64 = 3_600_000;

#[test]
fn i81_retention_deletes_by_size_but_never_at_the_watermark() {
    let mut world = World::new(3);
    world.with(async |dir| {
        let mut spec = spec("t", 1);
        spec.config = keep(None, Some(10_000));
        let log = dir.create(spec).await.expect("created");
        (0..100).for_each(|_| put(&log, NOW, NOW));
        log.flush().await.expect("flushed");
        let total = log.bytes_total();
        assert_eq!(log.retain(NOW, Offset(0)).await.expect("runs").segments, 0);
        let some = log.retain(NOW, Offset(30)).await.expect("runs");
        assert!(some.segments > 0 && some.log_start <= Offset(30), "{some:?}");
        let all = log.retain(NOW, Offset(100)).await.expect("runs");
        assert_eq!(all.bytes + some.bytes, total - log.bytes_total());
        assert!(log.bytes_total() >= 10_000 && log.bytes_total() < 10_000 + 4096);
        assert_eq!(log.ends().log_start, all.log_start);
        let read = read_all(&log).await;
        assert_eq!(read.first().map(|(offset, _)| *offset), Some(all.log_start.0));
        assert_eq!(read.len() as i64, 100 - all.log_start.0);
    });
    world.power_cut();
    world.with(async |dir| {
        let log = dir.log(&partition("t")).expect("recovered");
        let read = read_all(&log).await;
        assert_eq!(read.len() as i64, 100 - log.ends().log_start.0);
        assert!(log.ends().log_start > Offset(60));
    });
}

#[test]
fn retention_by_time_rolls_and_empties_an_expired_log() {
    let mut world = World::new(4);
    world.with(async |dir| {
        let mut spec = spec("t", 1);
        spec.config = keep(Some(HOUR), None);
        let log = dir.create(spec).await.expect("created");
        (0..30).for_each(|minute| put(&log, at(minute), at(minute)));
        log.flush().await.expect("flushed");
        assert_eq!(log.retain(at(60), Offset(30)).await.expect("runs").segments, 0);
        let some = log.retain(at(80), Offset(30)).await.expect("runs");
        assert!(some.log_start > Offset(0) && some.log_start <= Offset(20), "{some:?}");
        let all = log.retain(at(100), Offset(30)).await.expect("runs");
        assert_eq!(all.log_start, Offset(30));
        assert_eq!(log.bytes_total(), 0);
        put(&log, at(101), at(101));
        log.flush().await.expect("flushed");
        assert_eq!(read_all(&log).await.len(), 1);
    });
    world.power_cut();
    world.with(async |dir| {
        let log = dir.log(&partition("t")).expect("recovered");
        assert_eq!((log.ends().log_start, log.ends().log_end), (Offset(30), Offset(31)));
        assert_eq!(read_all(&log).await.len(), 1);
    });
}

/// Retention that empties a log takes its last segment, in which the checkpoint says that the log ends: a crash then must
/// not be told as damage.
#[test]
fn a_log_that_retention_emptied_is_whole_after_a_crash() {
    let cases = [Durability::Sync, Durability::PageCache].map(|d| [(d, false), (d, true)]);
    for (durability, power) in cases.into_iter().flatten() {
        let mut world = World::new(8);
        let mut spec = spec("t", 1);
        spec.config = LogConfig { durability, ..keep(Some(HOUR), None) };
        world.with(async |dir| {
            let log = dir.create(spec.clone()).await.expect("created");
            (0..5).for_each(|_| put(&log, at(0), at(0)));
            log.flush().await.expect("flushed");
            dir.close().await.expect("closes");
        });
        world.kill();
        world.with(async |dir| {
            let log = dir.create(spec.clone()).await.expect("there");
            let gone = log.retain(at(100), Offset(5)).await.expect("runs");
            assert_eq!(gone.log_start, Offset(5));
            if !power {
                put(&log, at(101), at(101));
                log.write_out().await.expect("written");
                if durability == Durability::Sync {
                    log.flush().await.expect("flushed");
                }
            }
        });
        let kept = i64::from(!power);
        if power {
            world.power_cut();
        } else {
            world.kill();
        }
        for life in 0..2 {
            world.with(async |dir| {
                assert!(dir.recovery().intact, "{:?}", dir.recovery());
                let log = dir.log(&partition("t")).expect("recovered");
                assert_eq!(log.ends().log_start, Offset(5));
                assert_eq!(log.ends().log_end, Offset(5 + kept + life), "{durability:?}");
                put(&log, at(101), at(101));
                log.write_out().await.expect("written");
                if durability == Durability::Sync {
                    log.flush().await.expect("flushed");
                }
                assert_eq!(read_all(&log).await.len() as i64, kept + life + 1);
            });
            world.kill();
        }
    }
}

#[test]
fn e37_timestamps_from_the_future_keep_nothing_for_longer() {
    World::new(5).with(async |dir| {
        let mut spec = spec("t", 1);
        spec.config = keep(Some(HOUR), None);
        let log = dir.create(spec).await.expect("created");
        (0..30).for_each(|_| put(&log, at(1_000_000), at(0)));
        log.flush().await.expect("flushed");
        assert_eq!(log.retain(at(59), Offset(30)).await.expect("runs").segments, 0);
        assert_eq!(log.retain(at(61), Offset(30)).await.expect("runs").log_start, Offset(30));
    });
}

/// A machine whose battery is empty starts in 1986 and learns the time later: nothing has become forty years old by that,
/// whether the broker was stopped or died, and whether something was appended meanwhile.
#[test]
fn e37_a_clock_that_was_far_behind_for_a_while_makes_nothing_old() {
    for dies in [false, true] {
        for appends in [false, true] {
            let mut world = World::new(8);
            let mut spec = spec("t", 1);
            spec.config = LogConfig { segment_bytes: 1 << 20, ..keep(Some(HOUR), None) };
            let today = wall(&world.clock);
            let decades = 40 * 365 * 86_400_000;
            for start in 0..3 {
                world.with(async |dir| {
                    let log = dir.create(spec.clone()).await.expect("there");
                    if start == 0 {
                        (0..30).for_each(|_| put(&log, today, today));
                    }
                    if start == 1 && appends {
                        put(&log, Timestamp(today.0 - decades), wall(&world.clock));
                    }
                    log.flush().await.expect("flushed");
                    let now = wall(&world.clock);
                    let end = log.ends().written;
                    let removed = log.retain(now, end).await.expect("runs").segments;
                    assert_eq!(removed, 0, "start {start}, dies {dies}, appends {appends}");
                    if !dies {
                        dir.close().await.expect("closes");
                    }
                });
                if dies {
                    world.power_cut();
                }
                world.clock.step_wall(if start == 0 { -decades } else { decades });
            }
        }
    }
}

#[test]
fn unknown_timestamps_are_not_old_also_after_a_restart() {
    let mut world = World::new(6);
    let mut old = spec("t", 1);
    old.config = keep(Some(HOUR), None);
    world.with(async |dir| {
        let log = dir.create(old.clone()).await.expect("created");
        (0..30).for_each(|_| put(&log, Timestamp(-1), at(0)));
        log.flush().await.expect("flushed");
        assert_eq!(log.retain(at(10), Offset(30)).await.expect("runs").segments, 0);
    });
    world.power_cut();
    world.with(async |dir| {
        let log = dir.create(old.clone()).await.expect("there");
        let now = wall(&world.clock);
        let kept =
            log.retain(now.saturating_add(Duration::from_millis(HOUR / 2)), Offset(30)).await;
        assert_eq!(kept.expect("runs").segments, 0);
        // The broker's time counts where there is no other: here since the restart, which lost it.
        let gone =
            log.retain(now.saturating_add(Duration::from_millis(2 * HOUR)), Offset(30)).await;
        assert_eq!(gone.expect("runs").log_start, Offset(30));
    });
}

#[test]
fn segments_roll_by_the_brokers_time() {
    World::new(7).with(async |dir| {
        let mut spec = spec("t", 1);
        spec.config.segment_bytes = 1 << 20;
        spec.config.segment_ms = Duration::from_millis(HOUR);
        spec.config.retention_bytes = Some(0);
        let log = dir.create(spec).await.expect("created");
        put(&log, at(0), at(0));
        put(&log, at(0), at(59));
        put(&log, at(0), at(60));
        log.flush().await.expect("flushed");
        assert_eq!(log.retain(at(60), Offset(3)).await.expect("runs").log_start, Offset(2));
    });
}
