//! The main path: append, commit, read, reopen.

mod support;

use support::*;
use types::Offset;

fn values(n: std::ops::Range<i64>) -> Vec<(i64, String)> {
    n.map(|i| (i, format!("value {i}"))).collect()
}

fn fill(log: &log::Log<sim::disk::SimDisk>, n: std::ops::Range<i64>) {
    for (_, value) in values(n) {
        append(log, batch(&[&value]));
    }
}

#[test]
fn what_was_flushed_is_there_after_a_power_cut() {
    let mut world = World::new(1);
    world.with(async |dir| {
        let log = dir.create(spec("events", 1)).await.expect("created");
        let seen = watch_ends(&log);
        fill(&log, 0..500);
        assert_eq!(log.ends().log_end, Offset(500));
        assert_eq!(log.ends().durable, Offset(0));
        let ends = log.flush().await.expect("flushed");
        assert_eq!(ends.durable, Offset(500));
        assert_eq!(seen.lock().unwrap().durable, Offset(500));
        for budget in [1, 70, 100, 333, 1000, 5000, 1 << 20] {
            let read = read_from(&log, Offset(0), Offset(500), budget).await.expect("readable");
            assert_eq!(read, values(0..500), "budget {budget}");
        }
    });
    world.power_cut();
    world.with(async |dir| {
        let log = dir.log(&partition("events")).expect("recovered");
        assert_eq!(read_all(&log).await, values(0..500));
        fill(&log, 500..900);
        log.flush().await.expect("flushed");
    });
    world.kill();
    world.with(async |dir| {
        let log = dir.log(&partition("events")).expect("recovered");
        assert_eq!(read_all(&log).await, values(0..900));
        dir.close().await.expect("closes");
    });
    world.power_cut();
    world.with(async |dir| {
        assert!(dir.recovery().clean);
        let log = dir.log(&partition("events")).expect("recovered");
        assert_eq!(read_all(&log).await, values(0..900));
    });
}

#[test]
fn a_page_cache_log_survives_a_kill() {
    let mut world = World::new(2);
    let paged = || {
        let mut spec = spec("events", 1);
        spec.config.durability = log::Durability::PageCache;
        spec
    };
    world.with(async |dir| {
        let log = dir.create(paged()).await.expect("created");
        for i in 0..300i64 {
            append(&log, batch(&[&format!("value {i}")]));
            log.write_out().await.expect("written");
        }
        assert_eq!(log.ends().written, Offset(300));
        assert_eq!(read_all(&log).await, values(0..300));
    });
    world.kill();
    world.with(async |dir| {
        let log = dir.log(&partition("events")).expect("recovered");
        assert_eq!(read_all(&log).await, values(0..300));
        log.flush().await.expect("flushed");
        assert_eq!(log.ends().durable, Offset(300));
    });
    world.power_cut();
    world.with(async |dir| {
        let log = dir.log(&partition("events")).expect("recovered");
        assert_eq!(read_all(&log).await, values(0..300));
    });
}
