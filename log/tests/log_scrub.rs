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
