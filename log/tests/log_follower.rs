//! A follower's log: fed with what its leader has stored it is the same log (I17), whatever it refuses changes nothing
//! (I13), and it can be cut, or begun anew elsewhere, at any time (I4, I8, I12).

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use env::Clock;
use log::{AppendError, ChangeError, Durability, Log, LogDir, Origin, Read, ReadError, Replicated};
use record::Batch;
use sim::disk::{DiskFault, FaultRates, Injection, Latency, Op, SimDisk};
use support::*;
use types::{LeaderEpoch, Offset};

const LAST: i64 = i64::MAX - 2;

fn replicate(log: &Log<SimDisk>, batches: Vec<Batch>) -> Result<Offset, AppendError> {
    log.append_replicated(Replicated { batches, now: NOW, origin: Origin::Client })
}

/// A batch as a leader stored it.
fn placed(values: &[&str], offset: i64, epoch: i32) -> Batch {
    batch(values).placed(Offset(offset), LeaderEpoch(epoch))
}

/// What a leader answers a follower that asks for at most `bytes_max`.
async fn fetch(leader: &Log<SimDisk>, from: Offset, bytes_max: usize) -> Vec<Batch> {
    let end = leader.ends().written;
    let read = Read { from, end, bytes_max, at_least_one: true };
    leader.batches(read).await.expect("readable")
}

/// Fetches in steps of `bytes_max` until nothing is missing.
async fn catch_up(leader: &Log<SimDisk>, follower: &Log<SimDisk>, bytes_max: usize) {
    while follower.ends().log_end < leader.ends().written {
        let batches = fetch(leader, follower.ends().log_end, bytes_max).await;
        let end = replicate(follower, batches).expect("the leader's batches fit");
        assert_eq!(end, follower.ends().log_end);
        follower.write_out().await.expect("written");
    }
}

/// All bytes that a log serves.
async fn bytes_of_log(log: &Log<SimDisk>) -> Bytes {
    let ends = log.ends();
    let mut all = BytesMut::new();
    let mut from = ends.log_start;
    while from < ends.written {
        let read = Read { from, end: ends.written, bytes_max: 1 << 20, at_least_one: true };
        let slice = log.read(read).await.expect("readable");
        all.extend_from_slice(&bytes_of(slice.parts).await);
        from = slice.next_offset;
    }
    all.freeze()
}

async fn assert_same(leader: &Log<SimDisk>, follower: &Log<SimDisk>) {
    assert_eq!(follower.ends().log_end, leader.ends().log_end);
    assert_eq!(bytes_of_log(follower).await, bytes_of_log(leader).await, "I17");
    assert_eq!(follower.epochs(), leader.epochs(), "I4");
    assert_eq!(follower.producers(), leader.producers(), "I51");
}

/// Batches of two producers, of none, and of five epochs, over many segments.
fn lead(log: &Log<SimDisk>) {
    for i in 0..200 {
        let value = format!("value {i} {}", "x".repeat(i as usize * 7 % 300));
        let batch = match i % 3 {
            0 => stamped(&[&value], 7, (i / 100) as i16, i % 100 / 3),
            1 => stamped(&[&value, "and"], 8, 0, i / 3 * 2),
            _ => batch(&[&value]),
        };
        _ = try_append(log, vec![batch], i / 40);
    }
}

#[test]
fn i17_a_follower_holds_what_its_leader_holds() {
    for (seed, bytes_max) in [1, 700, 5000, 1 << 20].into_iter().enumerate() {
        for durability in [Durability::Sync, Durability::PageCache] {
            let mut world = World::new(seed as u64);
            world.with(async |dir| {
                let leader = dir.create(spec("leader", 1)).await.expect("created");
                let mut followed = spec("follower", 2);
                followed.config.durability = durability;
                // Its segments are its own.
                followed.config.segment_bytes = 3000;
                let follower = dir.create(followed).await.expect("created");
                lead(&leader);
                leader.flush().await.expect("flushed");
                catch_up(&leader, &follower, bytes_max).await;
                let end = follower.flush().await.expect("flushed").durable;
                assert_eq!(end, leader.ends().durable);
                assert_same(&leader, &follower).await;
            });
            world.power_cut();
            world.with(async |dir| {
                let leader = dir.log(&partition("leader")).expect("recovered");
                let follower = dir.log(&partition("follower")).expect("recovered");
                assert_same(&leader, &follower).await;
                // It leads next: a duplicate is known for one (I49), and what follows is taken.
                let again = stamped(&["value 99"], 7, 0, 33);
                assert!(try_append(&follower, vec![again], 9).is_err(), "of an older epoch");
                let again = stamped(&[&format!("value 198 {}", "x".repeat(186))], 7, 1, 32);
                let told = try_append(&follower, vec![again], 9).expect("known");
                assert!(told.duplicate && told.base_offset < follower.ends().log_end);
                let next = try_append(&follower, vec![stamped(&["new"], 7, 1, 33)], 9);
                assert!(!next.expect("follows").duplicate);
            });
        }
    }
}

#[test]
fn i13_what_does_not_fit_changes_nothing() {
    let world = World::new(1);
    world.with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        let first = vec![placed(&["a", "b"], 0, 3), placed(&["c"], 2, 5)];
        assert_eq!(replicate(&log, first), Ok(Offset(3)), "two epochs at once");
        let before = (log.ends().log_end, log.epochs(), log.producers());
        let out_of_place = |expected, found| {
            let (expected, found) = (Offset(expected), Offset(found));
            Err(AppendError::OutOfPlace { expected, found })
        };
        let fenced = |epoch, newest| {
            let (epoch, newest) = (LeaderEpoch(epoch), LeaderEpoch(newest));
            Err(AppendError::LeaderEpochFenced { epoch, newest })
        };
        let rows = [
            (vec![placed(&["x"], 4, 5)], out_of_place(3, 4)),
            (vec![placed(&["x"], 2, 5)], out_of_place(3, 2)),
            (vec![placed(&["x"], 3, 5), placed(&["y"], 5, 5)], out_of_place(4, 5)),
            (vec![placed(&["x"], 3, 5), placed(&["y"], 3, 5)], out_of_place(4, 3)),
            (vec![placed(&["x"], 3, 4)], fenced(4, 5)),
            (vec![placed(&["x"], 3, -1)], fenced(-1, 5)),
            (vec![placed(&["x"], 3, 7), placed(&["y"], 4, 6)], fenced(6, 7)),
        ];
        for (batches, refusal) in rows {
            assert_eq!(replicate(&log, batches), refusal);
            assert_eq!((log.ends().log_end, log.epochs(), log.producers()), before);
        }
        assert_eq!(replicate(&log, Vec::new()), Ok(Offset(3)), "no news are no error");
        let empty = dir.create(spec("u", 2)).await.expect("created");
        assert_eq!(replicate(&empty, vec![placed(&["x"], 0, -1)]), fenced(-1, 0));

        // The end of all offsets is refused before it is reached.
        log.reset(Offset(LAST - 1)).await.expect("reset");
        let exhausted = Err(AppendError::OffsetsExhausted);
        let two = placed(&["x", "y"], LAST - 1, 5);
        assert_eq!(replicate(&log, vec![two]), exhausted);
        assert_eq!(replicate(&log, vec![placed(&["x"], LAST - 1, 5)]), Ok(Offset(LAST)));
        assert_eq!(replicate(&log, vec![placed(&["x"], LAST, 5)]), exhausted);
        assert_eq!(log.flush().await.expect("flushed").durable, Offset(LAST));

        dir.delete(&empty).await.expect("deleted");
        assert_eq!(replicate(&empty, vec![placed(&["x"], 0, 1)]), Err(AppendError::Deleted));
        assert_eq!(empty.reset(Offset(1)).await, Err(ChangeError::Deleted));
    });
}

/// E11, E12: a follower waits for the disk as a client does; the metadata's may go on where there is no space.
#[test]
fn e12_back_pressure_holds_for_followers() {
    let mut world = World::new(2);
    world.options.queued_bytes_max = 100;
    world.options.space_reserve = 1 << 20;
    world.with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        let large = "x".repeat(200);
        replicate(&log, vec![placed(&[&large], 0, 1)]).expect("taken");
        for origin in [Origin::Client, Origin::Coordinator] {
            let append = Replicated { batches: vec![placed(&["x"], 1, 1)], now: NOW, origin };
            assert_eq!(log.append_replicated(append), Err(AppendError::Busy));
        }
        log.flush().await.expect("flushed");
        replicate(&log, vec![placed(&["x"], 1, 1)]).expect("taken");
        log.flush().await.expect("flushed");

        world.disk.fill(500 << 10);
        while dir.has_space() {
            world.clock.sleep(Duration::from_secs(1)).await;
            let more = placed(&[&large], log.ends().log_end.0, 1);
            _ = replicate(&log, vec![more]);
            log.flush().await.expect("flushed");
        }
        let next = placed(&["x"], log.ends().log_end.0, 1);
        assert_eq!(replicate(&log, vec![next.clone()]), Err(AppendError::NoSpace));
        let append = Replicated { batches: vec![next], now: NOW, origin: Origin::Coordinator };
        log.append_replicated(append).expect("the metadata goes on");
        log.flush().await.expect("flushed");
        // A log is emptied without a block more than that.
        log.reset(Offset(3)).await.expect("reset");
    });
}

/// What the leader accepted when its segments were larger is taken, read, cut and recovered.
#[test]
fn a_batch_larger_than_a_segment_has_one_to_itself() {
    for durability in [Durability::Sync, Durability::PageCache] {
        let mut world = World::new(3);
        let large = "y".repeat(200_000);
        let all = |log: &Log<SimDisk>| (log.ends().log_start, log.ends().log_end);
        let values = |read: Vec<(i64, String)>| -> Vec<usize> {
            read.into_iter().map(|(_, value)| value.len()).collect()
        };
        let wanted = vec![1, large.len(), large.len(), 1, 1];
        world.with(async |dir| {
            let mut small = spec("t", 1);
            small.config.durability = durability;
            let log = dir.create(small).await.expect("created");
            assert!(matches!(
                try_append(&log, vec![batch(&[&large])], 0),
                Err(AppendError::TooLarge { .. })
            ));
            for (offset, value) in ["a", &large, &large, "b", "c"].into_iter().enumerate() {
                replicate(&log, vec![placed(&[value], offset as i64, 1)]).expect("taken");
            }
            log.write_out().await.expect("written");
            log.flush().await.expect("flushed");
            assert_eq!(values(read_from(&log, Offset(0), Offset(5), 1).await.expect("")), wanted);
            assert_eq!(values(read_all(&log).await), wanted);
        });
        world.power_cut();
        world.with(async |dir| {
            let log = dir.log(&partition("t")).expect("recovered");
            assert_eq!(values(read_all(&log).await), wanted);
            log.truncate(Offset(2)).await.expect("cut");
            assert_eq!(values(read_all(&log).await), wanted[..2]);
            replicate(&log, vec![placed(&["d"], 2, 1)]).expect("taken");
            log.write_out().await.expect("written");
            dir.close().await.expect("closes");
        });
        world.kill();
        world.with(async |dir| {
            let log = dir.log(&partition("t")).expect("recovered");
            assert_eq!(values(read_all(&log).await), [1, large.len(), 1]);
            assert_eq!(all(&log), (Offset(0), Offset(3)));
        });
    }
}

/// No leader accepts what is larger than any segment may be set to be. (Its bytes are never touched.)
#[test]
fn a_batch_larger_than_any_segment_is_refused() {
    let world = World::new(4);
    world.with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        let mut bytes = BytesMut::zeroed(1 << 31);
        bytes[8..12].copy_from_slice(&(i32::MAX - 11).to_be_bytes());
        bytes[16] = 2;
        let batch = Batch::parse(bytes.freeze()).expect("a header");
        assert!(matches!(replicate(&log, vec![batch]), Err(AppendError::TooLarge { .. })));
    });
}

/// I4: the term that a replica began as a leader, and in which it wrote nothing, binds nobody. Its successor may have
/// batches of older epochs that this replica never had.
#[test]
fn i4_a_term_without_records_gives_way_to_what_was_written() {
    let world = World::new(5);
    world.with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        replicate(&log, vec![placed(&["a"], 0, 3)]).expect("taken");
        log.begin_epoch(LeaderEpoch(5)).expect("begins");
        assert!(replicate(&log, vec![placed(&["b"], 1, 2)]).is_err());
        assert_eq!(log.newest_epoch(), Some(LeaderEpoch(5)), "I13");
        replicate(&log, vec![placed(&["b"], 1, 3), placed(&["c"], 2, 4)]).expect("taken");
        let epochs = [(LeaderEpoch(3), Offset(0)), (LeaderEpoch(4), Offset(2))];
        assert_eq!(log.epochs(), epochs);
    });
}

/// A leader's `written` runs ahead of its sync, is told of, and can be read: a follower syncs beside it, not after it.
#[test]
fn what_is_written_is_served_before_it_is_synced() {
    let world = World::new(6);
    world.disk.set_pace(Arc::new(world.clock.clone()), Latency::default());
    let hang = FaultRates { hang: Some(Duration::from_secs(2)), ..FaultRates::default() };
    world.disk.set_rates(hang);
    world.with(async |dir| {
        let leader = dir.create(spec("leader", 1)).await.expect("created");
        let follower = dir.create(spec("follower", 2)).await.expect("created");
        let told = watch_ends(&leader);
        let (path, op, fault) = ("journal".into(), Op::Sync, DiskFault::HangingSync);
        world.disk.inject(Injection { path, op, skip: 0, fault });
        append(&leader, batch(&["a", "b"]));
        world.clock.sleep(Duration::from_secs(1)).await;
        let ends = *told.lock().expect("not poisoned");
        assert_eq!((ends.durable, ends.written), (Offset(0), Offset(2)));
        assert_eq!(leader.ends(), ends);
        catch_up(&leader, &follower, 1).await;
        assert_eq!(leader.ends().durable, Offset(0));
        world.clock.sleep(Duration::from_secs(2)).await;
        assert_eq!(told.lock().expect("not poisoned").durable, Offset(2));
        follower.flush().await.expect("flushed");
        assert_same(&leader, &follower).await;
    });
}

/// Cut at whatever is neither written nor synced yet, beside appends that are queued and refused.
#[test]
fn i8_a_cut_takes_what_is_still_queued() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.with(async |dir| {
            let log = dir.create(spec("t", 1)).await.expect("created");
            let told = watch_ends(&log);
            for i in 0..10 {
                let batches = vec![placed(&["x"], i, i as i32)];
                replicate(&log, batches).expect("taken");
            }
            replicate(&log, vec![stamped(&["y"], 7, 0, 0).placed(Offset(10), LeaderEpoch(10))])
                .expect("taken");
            let (cut, flushed, refused) =
                tokio::join!(log.truncate(Offset(seed as i64 % 10)), log.flush(), async {
                    replicate(&log, vec![placed(&["z"], 11, 10)])
                });
            cut.expect("cut");
            let ends = flushed.expect("who waits for what goes hears of it");
            // It came before the cut was begun, and went with the rest.
            assert!(refused.is_ok());
            let end = Offset(seed as i64 % 10);
            assert_eq!((ends.log_end, log.ends().log_end, log.ends().durable), (end, end, end));
            assert_eq!(*told.lock().expect("not poisoned"), log.ends());
            let newest = (end > Offset(0)).then_some(LeaderEpoch(end.0 as i32 - 1));
            assert_eq!(log.newest_epoch(), newest, "I4");
            assert!(log.producers().is_empty(), "I51");
            replicate(&log, vec![placed(&["w"], end.0, 20)]).expect("taken");
            log.flush().await.expect("flushed");
        });
        world.power_cut();
        world.with(async |dir| {
            let log = dir.log(&partition("t")).expect("recovered");
            let read = read_all(&log).await;
            assert_eq!(read.len(), seed as usize % 10 + 1, "I8");
            assert_eq!(read.last().map(|(_, value)| value.as_str()), Some("w"));
        });
    }
}

/// I14: a follower repairs a damaged range by cutting there and asking its leader again, whether or not anybody had read it.
#[test]
fn i14_a_damaged_range_is_cut_and_fetched_again() {
    for is_known in [true, false] {
        for offset in [250, 399] {
            let world = closed(7);
            let segment = files(&world.disk, ".log").into_iter().rfind(|path| {
                let base = path.file_stem().and_then(|name| name.to_str()).expect("a name");
                base.parse::<i64>().expect("an offset") <= offset
            });
            let segment = segment.expect("there");
            let batches = record::Batches::split(world.disk.peek(&segment).expect("there"));
            let before = batches.map(|batch| batch.expect("whole"));
            let before = before.take_while(|batch| batch.base_offset() < Offset(offset));
            let at: usize = before.map(|batch| batch.bytes_total()).sum();
            // A length that is wrong, so that headers alone lead nowhere.
            world.disk.rot(&segment, at as u64 + 9, 1).expect("rots");
            world.with(async |dir| {
                let log = dir.log(&partition("events")).expect("recovered");
                if is_known {
                    read_from(&log, Offset(offset), Offset(400), 100).await.expect_err("rotten");
                }
                log.truncate(Offset(offset)).await.expect("cut");
                assert!(log.quarantined().is_empty());
                assert_eq!(log.ends().log_end, Offset(offset));
                assert_eq!(read_all(&log).await, values(0..offset));
                replicate(&log, vec![placed(&["again"], offset, 0)]).expect("taken");
                log.flush().await.expect("flushed");
                assert_eq!(read_all(&log).await.len() as i64, offset + 1);
            });
        }
    }
}

/// Ten epochs of records over several segments, some of them queued only.
async fn filled(dir: &LogDir<SimDisk>, durability: Durability) -> Log<SimDisk> {
    let mut spec = spec("t", 1);
    spec.config.durability = durability;
    spec.config.segment_bytes = 600;
    let log = dir.create(spec).await.expect("created");
    for i in 0..40 {
        let batch = stamped(&["old"], 7, 0, i).placed(Offset(i64::from(i)), LeaderEpoch(i / 4));
        replicate(&log, vec![batch]).expect("taken");
        if i == 20 {
            log.flush().await.expect("flushed");
        }
    }
    log
}

fn assert_empty(log: &Log<SimDisk>, at: i64) {
    let ends = log.ends();
    let all = [ends.log_start, ends.stable, ends.durable, ends.written, ends.log_end];
    assert_eq!(all, [Offset(at); 5]);
    assert!(log.epochs().is_empty() && log.producers().is_empty() && log.quarantined().is_empty());
    assert_eq!(log.bytes_total(), 0);
}

/// I12: forward, backward, to where it stands or where one of its segments begins: nothing is left, and the log goes on.
#[test]
fn i12_a_reset_empties_a_log_and_lets_it_begin_anywhere() {
    for durability in [Durability::Sync, Durability::PageCache] {
        for (seed, &to) in [0, 7, 12, 40, 1000, LAST - 10].iter().enumerate() {
            for stop in 0..3 {
                let mut world = World::new(seed as u64);
                world.with(async |dir| {
                    let log = filled(&dir, durability).await;
                    let told = watch_ends(&log);
                    log.reset(Offset(to)).await.expect("reset");
                    assert_empty(&log, to);
                    assert_eq!(*told.lock().expect("not poisoned"), log.ends());
                    let read =
                        Read { from: Offset(3), end: Offset(40), bytes_max: 1, at_least_one: true };
                    if to != 0 {
                        let gone = log.read(read).await;
                        assert!(matches!(gone, Err(ReadError::OffsetOutOfRange { .. })));
                    }
                    assert!(
                        log.read(Read { from: Offset(to), ..read }).await.expect("").bytes == 0
                    );
                    if stop == 2 {
                        dir.close().await.expect("closes");
                    }
                });
                if stop == 0 {
                    world.kill()
                } else {
                    world.power_cut()
                }
                world.with(async |dir| {
                    let log = dir.log(&partition("t")).expect("recovered");
                    assert!(dir.recovery().intact);
                    assert_empty(&log, to);
                    // Older epochs than before, and producers anew: it is another log.
                    for i in 0..9 {
                        let batch = stamped(&["new"], 7, 0, 100 + i);
                        let batch = batch.placed(Offset(to + i64::from(i)), LeaderEpoch(2));
                        replicate(&log, vec![batch]).expect("taken");
                    }
                    log.write_out().await.expect("written");
                    log.flush().await.expect("flushed");
                });
                world.power_cut();
                world.with(async |dir| {
                    let log = dir.log(&partition("t")).expect("recovered");
                    let wanted: Vec<_> = (0..9).map(|i| (to + i, "new".to_owned())).collect();
                    assert_eq!(read_all(&log).await, wanted);
                    assert_eq!(log.ends().log_start, Offset(to));
                    assert_eq!(log.epochs(), [(LeaderEpoch(2), Offset(to))]);
                    let last = log.producers()[0].last_sequence.map(|sequence| sequence.0);
                    assert_eq!(last, Some(108));
                });
            }
        }
        let world = World::new(9);
        world.with(async |dir| {
            let log = filled(&dir, durability).await;
            for to in [-1, i64::MIN, LAST + 1, i64::MAX] {
                let refused = log.reset(Offset(to)).await;
                assert!(matches!(refused, Err(ChangeError::OffsetOutOfRange { .. })), "{to}");
            }
            assert_eq!(log.ends().log_end, Offset(40), "I13");
        });
    }
}

/// I12, I6: the process dies at each change of the disk on the way: the log is the one before or the one after, whole.
#[test]
fn i12_a_reset_happens_or_does_not() {
    let (mut before, mut after) = (0, 0);
    for durability in [Durability::Sync, Durability::PageCache] {
        for to in [8, 1000] {
            for n in 0..180 {
                let mut world = World::new(n);
                let mut is_done = false;
                world.with(async |dir| {
                    let log = filled(&dir, durability).await;
                    log.write_out().await.expect("written");
                    log.flush().await.expect("flushed");
                    world.disk.crash_at(n / 6);
                    if log.reset(Offset(to)).await.is_ok() {
                        is_done = true;
                        for i in 0..9 {
                            _ = replicate(&log, vec![placed(&["new"], to + i, 2)]);
                        }
                        _ = log.write_out().await;
                        _ = log.flush().await;
                        _ = dir.close().await;
                    }
                });
                for _ in 0..2 {
                    if n % 2 == 0 {
                        world.kill()
                    } else {
                        world.power_cut()
                    }
                    world.with(async |dir| {
                        assert!(dir.recovery().intact, "{to} {n}");
                        let log = dir.log(&partition("t")).expect("recovered");
                        let read = read_all(&log).await;
                        let ends = log.ends();
                        if ends.log_start == Offset(to) {
                            after += 1;
                            assert!(read.iter().all(|(_, value)| value == "new"), "{to} {n}");
                            assert_eq!(ends.log_end, Offset(to + read.len() as i64));
                            assert!(log.epochs().len() <= 1 && log.producers().is_empty());
                        } else {
                            before += 1;
                            assert!(!is_done, "{to} {n}: what was answered is done");
                            assert_eq!((read.len(), ends.log_end), (40, Offset(40)), "{to} {n}");
                            assert_eq!(log.epochs().len(), 10);
                        }
                    });
                }
            }
        }
    }
    assert!(before > 10 && after > 500, "{before} before, {after} after");
}

/// A reader that holds a range of the emptied log keeps its bytes; one that looks for its place meets an empty log, not damage.
#[test]
fn i14_a_read_beside_a_reset_calls_nothing_damaged() {
    let latency = Latency { io: Duration::from_millis(1), sync: Duration::from_millis(3) };
    let world = World::new(8);
    world.disk.set_pace(Arc::new(world.clock.clone()), latency);
    world.disk.set_rates(FaultRates { slow: 200_000, ..FaultRates::default() });
    world.with(async |dir| {
        let log = dir.create(spec("t", 1)).await.expect("created");
        for round in 0..100u32 {
            let value = "x".repeat(1 + round as usize % 7);
            while log.ends().log_end < Offset(40) {
                let next = log.ends().log_end.0;
                replicate(&log, vec![placed(&[&value], next, round as i32)]).expect("taken");
            }
            let end = log.flush().await.expect("flushed").durable;
            let slice = log
                .read(Read { from: Offset(10), end, bytes_max: 500, at_least_one: true })
                .await
                .expect("readable");
            let reading = async {
                world.clock.sleep(Duration::from_micros(300) * (round % 50)).await;
                for (from, bytes_max) in [(11, 200), (33, 1 << 20), (39, 1)] {
                    let read = Read { from: Offset(from), end, bytes_max, at_least_one: true };
                    match log.batches(read).await {
                        Ok(_) | Err(ReadError::OffsetOutOfRange { .. }) => {}
                        Err(error) => panic!("round {round}: {error}"),
                    }
                }
            };
            let (reset, ()) = tokio::join!(log.reset(Offset(i64::from(round) % 11)), reading);
            reset.expect("reset");
            assert!(log.quarantined().is_empty(), "round {round}: {:?}", log.quarantined());
            let held = record::Batches::split(bytes_of(slice.parts).await);
            assert!(held.map(|batch| batch.expect("whole")).all(|batch| batch.crc_ok()));
        }
    });
}
