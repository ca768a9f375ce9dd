//! The scrubber finds rot in cold segments before any reader does, at its rate, and goes on after a restart.

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use env::Clock;
use log::{LogDir, ReadError};
use sim::disk::SimDisk;
use sim::plain;
use support::*;
use types::Offset;

/// A directory of two logs with a dozen segments each.
async fn fill(dir: &LogDir<SimDisk>) {
    for (name, id) in [("a", 1), ("b", 2)] {
        let log = dir.create(spec(name, id)).await.expect("created");
        for n in 0..48 {
            append(&log, batch(&[&format!("{n} {}", "x".repeat(900))]));
            log.flush().await.expect("flushed");
        }
    }
}

fn segments(world: &World, log: &str) -> Vec<(PathBuf, u64)> {
    let path = Path::new(DIR).join(log);
    let is_one = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "log");
    world.disk.files().into_iter().filter(|(p, _)| p.starts_with(&path) && is_one(p)).collect()
}

fn world(seed: u64, rate: u64) -> World {
    let mut world = World::new(seed);
    world.options.scrub_rate = Some(rate);
    world.options.scrub_interval = Duration::from_secs(3600);
    world
}

/// Runs `body` beside the committer and the scrubber.
fn scrubbed<T>(world: &World, body: impl AsyncFnOnce(LogDir<SimDisk>) -> T) -> T {
    world.with(async |dir| {
        let scrubber = dir.scrub(world.clock.clone());
        plain::beside(body(dir.clone()), scrubber).await
    })
}

#[test]
fn rot_is_found_before_any_reader_and_the_rest_is_served() {
    let mut world = world(1, 1 << 20);
    world.with(async |dir| {
        fill(&dir).await;
        dir.close().await.expect("closed");
    });
    world.kill();
    // Among the records of a batch: its header tells nothing of it.
    let (cold, bytes) = segments(&world, "b-0")[3].clone();
    world.disk.rot(&cold, bytes / 2 + 300, 4).expect("rots");
    scrubbed(&world, async |dir| {
        world.clock.sleep(Duration::from_secs(5)).await;
        let log = dir.log(&partition("b")).expect("recovered");
        let found = log.quarantined();
        assert_eq!(found.len(), 1, "{found:?}");
        let (start, end) = (found[0].start, found[0].end);
        assert!(end.since(start) == 1, "a rotten batch costs itself: {}", found[0]);
        let counts = dir.counts();
        assert_eq!((counts.scrub_rounds, counts.scrub_damaged, counts.scrub_unreadable), (1, 1, 0));
        let cold: u64 = ["a-0", "b-0"]
            .iter()
            .map(|name| {
                let all = segments(&world, name);
                all[..all.len() - 1].iter().map(|(_, bytes)| *bytes).sum::<u64>()
            })
            .sum();
        assert!(counts.scrubbed_bytes > cold * 9 / 10 && counts.scrubbed_bytes < cold);
        let read = read_from(&log, start, Offset(48), 1 << 20).await;
        assert!(matches!(read, Err(ReadError::Quarantined(range)) if range == found[0]));
        assert_eq!(
            read_from(&log, Offset(0), start, 1 << 20).await.expect("whole").len() as i64,
            start.0
        );
        let rest = read_from(&log, end, Offset(48), 1 << 20).await.expect("whole");
        assert_eq!(rest.len() as i64, 48 - end.0);
    });
}

#[test]
fn what_lay_still_is_checked_again_before_it_is_served() {
    // No rounds: readers alone look.
    let world = World::new(5);
    scrubbed(&world, async |dir| {
        fill(&dir).await;
        let log = dir.log(&partition("b")).expect("created");
        assert_eq!(read_from(&log, Offset(0), Offset(48), 1 << 20).await.expect("whole").len(), 48);
        world.clock.sleep(Duration::from_secs(25)).await;
        // The base offset of its first batch, which no checksum covers.
        let (cold, _) = segments(&world, "b-0")[3].clone();
        world.disk.rot(&cold, 2, 1).expect("rots");
        let read = read_from(&log, Offset(0), Offset(48), 1 << 20).await;
        let Err(ReadError::Quarantined(range)) = read else { panic!("served: {read:?}") };
        assert_eq!(range.end.since(range.start), 1, "a rotten batch costs itself: {range}");
        let rest = read_from(&log, range.end, Offset(48), 1 << 20).await.expect("whole");
        assert_eq!(rest.len() as i64, 48 - range.end.0);
    });
}

#[test]
fn what_this_process_wrote_is_looked_at_too() {
    let world = world(2, 1 << 20);
    scrubbed(&world, async |dir| {
        fill(&dir).await;
        // Cold is what a checkpoint has made safe.
        let log = dir.log(&partition("a")).expect("there");
        log.set_config(log::LogConfig { durability: log::Durability::PageCache, ..config() })
            .await
            .expect("changed");
        let (cold, bytes) = segments(&world, "a-0")[2].clone();
        world.disk.rot(&cold, bytes / 2 + 300, 1).expect("rots");
        assert!(log.quarantined().is_empty());
        world.clock.sleep(Duration::from_secs(3700)).await;
        assert_eq!(log.quarantined().len(), 1);
    });
}

#[test]
fn it_keeps_its_rate_and_goes_on_after_a_restart() {
    // 80 KB at 500 bytes a second: three minutes and more.
    let mut world = world(3, 500);
    world.with(async |dir| {
        fill(&dir).await;
        dir.close().await.expect("closed");
    });
    world.kill();
    let first = scrubbed(&world, async |dir| {
        world.clock.sleep(Duration::from_secs(100)).await;
        dir.counts().scrubbed_bytes
    });
    assert!((20_000..=60_000).contains(&first), "{first}");
    world.kill();
    scrubbed(&world, async |dir| {
        world.clock.sleep(Duration::from_secs(3000)).await;
        let counts = dir.counts();
        assert_eq!(counts.scrub_rounds, 1);
        let cold: u64 =
            segments(&world, "a-0").iter().chain(&segments(&world, "b-0")).map(|(_, b)| b).sum();
        assert!(
            counts.scrubbed_bytes < cold - first / 2,
            "it began anew: {}",
            counts.scrubbed_bytes
        );
    });
}

/// A device that refuses a part of a segment: readers were told of nothing but an error for all of it, again and again.
#[test]
fn what_the_device_refuses_is_quarantined_for_as_long_as_it_does() {
    for (seed, reads_first) in [(11, false), (12, true)] {
        let mut world = world(seed, 1 << 20);
        world.with(async |dir| {
            fill(&dir).await;
            dir.close().await.expect("closed");
        });
        world.kill();
        let all = segments(&world, "b-0");
        // In the middle of one, and the end of another, where an index is made sure of.
        let (middle, tail) = (all[3].clone(), all[6].clone());
        scrubbed(&world, async |dir| {
            let log = dir.log(&partition("b")).expect("recovered");
            let mut known = Vec::new();
            if reads_first {
                assert_eq!(read_all(&log).await.len(), 48);
                let read = log::Read {
                    from: Offset(0),
                    end: Offset(48),
                    bytes_max: 1 << 20,
                    at_least_one: true,
                };
                known = log.read(read).await.expect("read").parts;
            }
            world.disk.refuse(&middle.0, middle.1 / 2 + 300, middle.1 / 2 + 301).expect("there");
            world.disk.refuse(&tail.0, tail.1 - 1, tail.1).expect("there");
            // On its way to a socket.
            for part in known {
                let env::Part::File { file, offset, len } = part else { continue };
                _ = env::File::read_at(&file, offset, len).await;
            }
            let mut next = Offset(0);
            let mut served = 0;
            while next < Offset(48) {
                let read =
                    log::Read { from: next, end: Offset(48), bytes_max: 1500, at_least_one: true };
                match log.read(read).await {
                    Ok(slice) => {
                        served += slice.next_offset.since(next);
                        next = slice.next_offset;
                    }
                    Err(ReadError::Quarantined(range)) => {
                        assert!(range.is_unreadable && range.start == next, "{range}");
                        next = range.end;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            let lost: i64 =
                log.quarantined().iter().map(|range| range.end.since(range.start)).sum();
            assert_eq!((log.quarantined().len(), served + lost), (2, 48));
            assert!(lost <= 4, "{lost} records for two bytes");

            // It stays so, and is no damage that a checkpoint tells of.
            world.clock.sleep(Duration::from_secs(60)).await;
            assert_eq!(log.quarantined().len(), 2);
            // More of it is refused, then less: what is read again is served again.
            world.disk.refuse(&middle.0, 0, middle.1).expect("there");
            let lost = || -> i64 {
                log.quarantined().iter().map(|range| range.end.since(range.start)).sum()
            };
            let before = lost();
            // The first time it may be on its way to a socket.
            for offset in (0..48).chain(0..48) {
                let read = log::Read {
                    from: Offset(offset),
                    end: Offset(48),
                    bytes_max: 1,
                    at_least_one: true,
                };
                let Ok(slice) = log.read(read).await else { continue };
                for part in slice.parts {
                    let env::Part::File { file, offset, len } = part else { continue };
                    _ = env::File::read_at(&file, offset, len).await;
                }
            }
            assert!(lost() >= before + 2, "{:?}", log.quarantined());
            world.disk.refuse(&middle.0, middle.1 / 2 + 300, middle.1 / 2 + 301).expect("there");
            world.clock.sleep(Duration::from_secs(15)).await;
            assert!(log.quarantined().len() == 2 && lost() <= 4, "{:?}", log.quarantined());
            world.disk.mend(&middle.0).expect("there");
            world.disk.mend(&tail.0).expect("there");
            world.clock.sleep(Duration::from_secs(15)).await;
            assert!(log.quarantined().is_empty());
            assert_eq!(read_all(&log).await.len(), 48);
        });
    }
}
