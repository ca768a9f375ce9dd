//! Damaged ranges, and what another copy of the log gives for them (I14).

mod support;

use std::path::Path;

use log::{ChangeError, LogDir, Read};
use record::{Batch, Batches};
use sim::disk::{DiskFault, Injection, Op, SimDisk};
use support::*;
use types::{LeaderEpoch, Offset};

/// The batches of a segment, and where each begins.
fn batches_of(world: &World, segment: &Path) -> Vec<(u64, Batch)> {
    let mut at = 0;
    let batches = Batches::split(world.disk.peek(segment).expect("there")).map(|batch| {
        let batch = batch.expect("whole");
        at += batch.bytes_total() as u64;
        (at - batch.bytes_total() as u64, batch)
    });
    batches.collect()
}

/// A log of 400 records with bits flipped in some batches of its third segment, and what stood in them.
fn damaged(seed: u64, rotten: &[usize], at: u64) -> (World, Vec<Batch>) {
    let world = closed(seed);
    let segment = files(&world.disk, ".log").swap_remove(2);
    let batches = batches_of(&world, &segment);
    for place in rotten {
        world.disk.rot(&segment, batches[*place].0 + at, 4).expect("rots");
    }
    (world, rotten.iter().map(|place| batches[*place].1.clone()).collect())
}

/// Reads all of it, past whatever is damaged: which ranges are.
async fn find(dir: &LogDir<SimDisk>) -> Vec<(Offset, Offset)> {
    let log = dir.log(&partition("events")).expect("recovered");
    let mut from = Offset(0);
    while from < Offset(400) {
        let read = Read { from, end: Offset(400), bytes_max: 1 << 20, at_least_one: true };
        from = match log.batches(read).await {
            Ok(batches) => batches.last().expect("some").end_offset(),
            Err(log::ReadError::Quarantined(range)) => range.end,
            Err(error) => panic!("{error}"),
        };
    }
    log.quarantined_offsets()
}

async fn check_whole(dir: &LogDir<SimDisk>) {
    let log = dir.log(&partition("events")).expect("recovered");
    assert_eq!(log.quarantined_offsets(), []);
    assert_eq!(read_all(&log).await, values(0..400));
    for from in [100, 133, 199, 250] {
        let tail = read_from(&log, Offset(from), Offset(400), 300).await.expect("readable");
        assert_eq!(tail, values(from..400));
    }
}

/// Whatever has rotted of a batch, the batch as another replica has it makes the log whole, at once and after a restart.
#[test]
fn i14_a_batch_of_another_copy_heals() {
    for at in [0, 8, 12, 17, 21, 40, 62, 75] {
        let (mut world, mut lost) = damaged(at, &[3], at);
        let lost = lost.remove(0);
        let start = lost.base_offset();
        world.with(async |dir| {
            assert_eq!(find(&dir).await, [(start, lost.end_offset())], "byte {at}");
            let log = dir.log(&partition("events")).expect("recovered");
            assert_eq!(log.heal(start, vec![lost.clone()]).await, Ok(None));
            check_whole(&dir).await;
            let again = log.heal(start, vec![lost.clone()]).await;
            assert_eq!(again, Err(ChangeError::Unfit { start }), "nothing is damaged any more");
        });
        world.power_cut();
        world.with(async |dir| check_whole(&dir).await);
    }
}

/// Only what stood there is put there.
#[test]
fn i14_nothing_else_heals() {
    let (world, lost) = damaged(5, &[3, 4], 70);
    world.with(async |dir| {
        let [first, second] = &lost[..] else { panic!("two") };
        let (start, end) = (first.base_offset(), second.end_offset());
        let found = find(&dir).await;
        assert!(found == [(start, end)] || found.len() == 2, "{found:?}");
        let log = dir.log(&partition("events")).expect("recovered");
        let mut bytes = first.to_bytes().to_vec();
        *bytes.last_mut().expect("some") ^= 1;
        let rotten = Batch::parse(bytes.into()).expect("a header");
        let alien = batch(&["another value"]).placed(start, LeaderEpoch(0));
        let of_later = first.placed(start, LeaderEpoch(7));
        for unfit in [vec![rotten], vec![alien], vec![of_later], vec![second.clone()], vec![]] {
            let healed = log.heal(start, unfit).await;
            assert_eq!(healed, Err(ChangeError::Unfit { start }));
        }
        assert_eq!(log.quarantined_offsets(), found, "nothing has changed");
        // One after the other, as far as a peer gives it.
        for batch in &lost {
            let left = log.heal(batch.base_offset(), vec![batch.clone()]).await.expect("fits");
            assert!(left.is_none() || left == Some(batch.end_offset()));
        }
        check_whole(&dir).await;
    });
}

/// A power cut or a death at any moment leaves the range damaged, or whole.
#[test]
fn i14_a_crash_in_a_repair() {
    for at in 1.. {
        let (mut world, mut lost) = damaged(at, &[2], 66);
        let lost = lost.remove(0);
        let start = lost.base_offset();
        sim::plain::run(&world.clock, async {
            let dir = world.open().await.expect("opens");
            let body = async {
                find(&dir).await;
                world.disk.crash_at(at);
                let log = dir.log(&partition("events")).expect("recovered");
                drop(log.heal(start, vec![lost.clone()]).await);
            };
            sim::plain::beside(body, dir.run(world.clock.clone())).await;
        });
        let has_crashed = world.disk.has_crashed();
        if at % 2 == 0 {
            world.kill()
        } else {
            world.power_cut()
        }
        world.with(async |dir| {
            let log = dir.log(&partition("events")).expect("recovered");
            if !find(&dir).await.is_empty() {
                assert_eq!(log.heal(start, vec![lost.clone()]).await, Ok(None), "crash at {at}");
            }
            check_whole(&dir).await;
        });
        if !has_crashed {
            return;
        }
    }
}

/// What the device does not take stays damaged, and the rest of the directory goes on.
#[test]
fn i14_a_range_that_cannot_be_written_costs_nothing_else() {
    let (world, mut lost) = damaged(9, &[2], 66);
    let lost = lost.remove(0);
    let start = lost.base_offset();
    world.with(async |dir| {
        let found = find(&dir).await;
        let log = dir.log(&partition("events")).expect("recovered");
        let fault = DiskFault::ErrorOnce;
        world.disk.inject(Injection { path: ".log".into(), op: Op::Write, skip: 0, fault });
        let refused = log.heal(start, vec![lost.clone()]).await;
        assert!(matches!(refused, Err(ChangeError::Unwritable { .. })), "{refused:?}");
        assert!(!dir.is_offline());
        assert_eq!(log.quarantined_offsets(), found);
        assert_eq!(log.heal(start, vec![lost.clone()]).await, Ok(None));
        check_whole(&dir).await;
    });
}
