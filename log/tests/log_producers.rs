//! Idempotent producers at one log: I47 to I51, P6, P7, E47.

mod support;

use log::{AppendError, Log};
use sim::disk::SimDisk;
use support::*;
use types::{Offset, ProducerEpoch, ProducerId, Sequence};

fn send(
    log: &Log<SimDisk>,
    values: &[&str],
    id: i64,
    epoch: i16,
    sequence: i32,
) -> Result<(i64, bool), AppendError> {
    let appended = try_append(log, vec![stamped(values, id, epoch, sequence)], 0)?;
    Ok((appended.base_offset.0, appended.duplicate))
}

fn out_of_order(id: i64, sequence: i32, expected: i32) -> AppendError {
    AppendError::OutOfOrderSequence {
        id: ProducerId(id),
        sequence: Sequence(sequence),
        expected: Sequence(expected),
    }
}

fn fenced(id: i64, epoch: i16, newest: i16) -> AppendError {
    AppendError::ProducerFenced {
        id: ProducerId(id),
        epoch: ProducerEpoch(epoch),
        newest: ProducerEpoch(newest),
    }
}

#[test]
fn i48_i49_the_last_five_batches_are_answered_with_their_offsets() {
    World::new(1).with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        for n in 0..7 {
            assert_eq!(send(&log, &["a", "b"], 9, 0, n * 2), Ok((i64::from(n) * 2, false)));
        }
        for n in 2..7 {
            assert_eq!(send(&log, &["a", "b"], 9, 0, n * 2), Ok((i64::from(n) * 2, true)));
        }
        // P7: older ones are not appended again, and not taken for new.
        assert_eq!(send(&log, &["a", "b"], 9, 0, 2), Err(out_of_order(9, 2, 14)));
        // Part of a batch is no duplicate.
        assert_eq!(send(&log, &["a"], 9, 0, 12), Err(out_of_order(9, 12, 14)));
        // I47: a gap is refused, and the refusal changed nothing (I13).
        assert_eq!(send(&log, &["a"], 9, 0, 15), Err(out_of_order(9, 15, 14)));
        assert_eq!(log.ends().log_end, Offset(14));
        assert_eq!(send(&log, &["a"], 9, 0, 14), Ok((14, false)));
    });
}

/// Once (found by the simulator, cluster seed 774) a producer's first batch was refused while too few were in sync, and the
/// second, sent behind it, was stored: of a producer without state any sequence may be the first.
#[test]
fn i47_nothing_overtakes_a_batch_that_was_refused_for_now() {
    World::new(7).with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        log.turn_away(&[stamped(&["a"], 9, 0, 0)]);
        assert_eq!(send(&log, &["b"], 9, 0, 1), Err(out_of_order(9, 1, 0)));
        log.turn_away(&[stamped(&["b"], 9, 0, 1)]);
        assert_eq!(send(&log, &["c"], 9, 0, 2), Err(out_of_order(9, 2, 0)));
        assert_eq!(send(&log, &["of another"], 8, 0, 5), Ok((0, false)), "P6");
        assert_eq!(send(&log, &["a"], 9, 0, 0), Ok((1, false)));
        assert_eq!(send(&log, &["b"], 9, 0, 1), Ok((2, false)));
        // Once something is known of it, its sequence tells.
        log.turn_away(&[stamped(&["c"], 9, 0, 2)]);
        assert_eq!(send(&log, &["d"], 9, 0, 3), Err(out_of_order(9, 3, 2)));
        assert_eq!(send(&log, &["c"], 9, 0, 2), Ok((3, false)));
        // Whoever has given it up begins a new epoch.
        log.turn_away(&[stamped(&["x"], 7, 0, 0)]);
        assert_eq!(send(&log, &["y"], 7, 1, 0), Ok((4, false)));
    });
}

#[test]
fn i47_sequences_wrap_to_zero_also_inside_a_batch() {
    World::new(2).with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        // P6: a producer unknown here may begin anywhere.
        assert_eq!(send(&log, &["a"], 1, 0, i32::MAX - 1), Ok((0, false)));
        assert_eq!(send(&log, &["b", "c", "d"], 1, 0, i32::MAX), Ok((1, false)));
        assert_eq!(send(&log, &["b", "c", "d"], 1, 0, i32::MAX), Ok((1, true)));
        assert_eq!(send(&log, &["e"], 1, 0, 2), Ok((4, false)));
        assert_eq!(send(&log, &["x"], 2, 0, i32::MAX), Ok((5, false)));
        assert_eq!(send(&log, &["y"], 2, 0, 1), Err(out_of_order(2, 1, 0)));
        assert_eq!(send(&log, &["y"], 2, 0, 0), Ok((6, false)));
    });
}

#[test]
fn i50_an_older_epoch_is_fenced_and_a_newer_one_begins_at_zero() {
    World::new(3).with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        send(&log, &["a"], 1, 4, 0).expect("new");
        assert_eq!(send(&log, &["a"], 1, 3, 1), Err(fenced(1, 3, 4)));
        assert_eq!(send(&log, &["a"], 1, 5, 1), Err(out_of_order(1, 1, 0)));
        assert_eq!(send(&log, &["a"], 1, 5, 0), Ok((1, false)));
        assert_eq!(send(&log, &["a"], 1, 4, 1), Err(fenced(1, 4, 5)));
    });
}

#[test]
fn i51_state_is_rebuilt_after_every_kind_of_restart() {
    for how in ["kill", "power cut", "close", "snapshots lost"] {
        let mut world = World::new(4);
        world.with(async |dir| {
            let log = dir.create(spec("t", 1)).await.expect("created");
            for n in 0..200 {
                send(
                    &log,
                    &["a value of some length to fill segments"],
                    1 + i64::from(n % 3),
                    0,
                    n / 3,
                )
                .expect("new");
            }
            log.flush().await.expect("flushed");
            if how != "kill" {
                dir.close().await.expect("closes");
            }
        });
        match how {
            "kill" => world.kill(),
            _ => world.power_cut(),
        }
        if how == "snapshots lost" {
            let snapshots: Vec<_> = world.disk.files().into_iter().map(|(path, _)| path).collect();
            sim::plain::block_on(async {
                for path in
                    snapshots.iter().filter(|p| p.extension().is_some_and(|e| e == "snapshot"))
                {
                    env::Disk::remove_file(&world.disk, path).await.expect("removes");
                }
            });
        }
        world.with(async |dir| {
            let log = dir.log(&partition("t")).expect("recovered");
            let value = ["a value of some length to fill segments"];
            for n in 190..200 {
                let sent = send(&log, &value, 1 + i64::from(n % 3), 0, n / 3);
                assert_eq!(sent, Ok((i64::from(n), true)), "{how}");
            }
            assert_eq!(log.producers().len(), 3);
            assert_eq!(send(&log, &value, 1, 0, 67), Ok((200, false)), "{how}");
        });
    }
}

/// Once retention took segments before the producers of those that stay were saved: after a crash whoever had written
/// only there was forgotten, long before its state expired (KAFKA-9892).
#[test]
fn i51_a_producer_outlives_its_batches() {
    let world = World::new(8);
    world.with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        send(&log, &["a"], 1, 0, 0).expect("new");
        while log.ends().log_end < Offset(200) {
            append(&log, batch(&["a value of some length to fill segments"]));
        }
        let end = log.flush().await.expect("flushed").durable;
        log.set_log_start(end, end).await.expect("raised");
        assert_eq!(send(&log, &["a"], 1, 0, 0), Ok((0, true)));
    });
    for seed in 0..20 {
        let cut = World {
            disk: world.disk.fork(seed).power_cut(),
            clock: world.clock.clone(),
            options: world.options.clone(),
        };
        cut.with(async |dir| {
            let log = dir.log(&partition("t")).expect("recovered");
            assert_eq!(send(&log, &["a"], 1, 0, 0), Ok((0, true)), "seed {seed}");
        });
    }
}

#[test]
fn i51_a_cut_takes_back_what_producers_wrote_behind_it() {
    World::new(5).with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        for n in 0..100 {
            send(&log, &["a value of some length to fill segments"], 1, 0, n).expect("new");
        }
        log.truncate(Offset(40)).await.expect("cut");
        assert_eq!(log.ends().log_end, Offset(40));
        let value = ["a value of some length to fill segments"];
        assert_eq!(send(&log, &value, 1, 0, 39), Ok((39, true)));
        assert_eq!(send(&log, &value, 1, 0, 41), Err(out_of_order(1, 41, 40)));
        assert_eq!(send(&log, &value, 1, 0, 40), Ok((40, false)));
    });
}

#[test]
fn p6_producers_expire_by_the_brokers_clock() {
    let world = World::new(6);
    world.with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        send(&log, &["a"], 1, 0, 0).expect("new");
        let day = std::time::Duration::from_secs(24 * 3600);
        log.retain(NOW.saturating_add(day), Offset(0)).await.expect("nothing to do");
        assert_eq!(send(&log, &["a"], 1, 0, 5), Err(out_of_order(1, 5, 1)));
        let later = NOW.saturating_add(day + std::time::Duration::from_secs(1));
        log.retain(later, Offset(0)).await.expect("nothing to do");
        assert_eq!(log.producers(), Vec::new());
        assert_eq!(send(&log, &["a"], 1, 0, 5), Ok((1, false)));
    });
}

#[test]
fn several_batches_are_judged_together() {
    World::new(7).with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        let batches = || vec![stamped(&["a"], 1, 0, 0), stamped(&["b"], 1, 0, 1), batch(&["c"])];
        let first = try_append(&log, batches()[..2].to_vec(), 0).expect("new");
        assert_eq!((first.base_offset, first.last_offset), (Offset(0), Offset(1)));
        let again = try_append(&log, batches()[..2].to_vec(), 0).expect("known");
        assert_eq!(
            (again.base_offset, again.last_offset, again.duplicate),
            (Offset(0), Offset(1), true)
        );
        // Old and new together: nothing is appended (I13).
        assert!(try_append(&log, batches(), 0).is_err());
        let gap = vec![stamped(&["a"], 2, 0, 0), stamped(&["b"], 2, 0, 2)];
        assert_eq!(try_append(&log, gap, 0), Err(out_of_order(2, 2, 1)));
        assert_eq!(log.ends().log_end, Offset(2));
        assert_eq!(log.producers().len(), 1);
    });
}
