//! Bits that flip in the segments of a stopped node: what they hit is never served, and everything else is (I1, I14).

mod support;

use log::{Read, ReadError};
use sim::plain;
use support::*;
use types::Offset;

/// Base offsets lie outside the batches' checksums. One that has rotted where an index must be rebuilt neither stops the
/// broker nor moves a record to another offset.
#[test]
fn e3_a_rotten_offset_is_quarantined_and_misplaces_nothing() {
    let world = closed(12);
    for suffix in [".index", ".timeindex"] {
        files(&world.disk, suffix).iter().for_each(|path| remove(&world.disk, path));
    }
    let segment = &files(&world.disk, ".log")[2];
    let batches = record::Batches::split(world.disk.peek(segment).expect("there"));
    let batches: Vec<_> = batches.map(|batch| batch.expect("whole")).collect();
    let first = batches[0].base_offset();
    let places = batches.iter().scan(0, |at, batch| {
        let place = *at;
        *at += batch.bytes_total() as u64;
        Some(place)
    });
    let rotten = batches.len() / 2;
    let place = places.collect::<Vec<_>>()[rotten];
    let lost = batches[rotten].base_offset();
    for at in 0..8 {
        for mask in [0x80, 0x02, 0x01] {
            let fork = world.fork(at);
            fork.disk.rot(segment, place + at, mask).expect("rots");
            fork.with(async |dir| {
                let log = dir.log(&partition("events")).expect("recovered");
                let before = read_from(&log, Offset(0), lost, 1 << 20).await.expect("readable");
                assert_eq!(before, values(0..lost.0), "byte {at}");
                let damaged = read_from(&log, lost, lost.next(), 1 << 20).await;
                assert!(
                    matches!(damaged, Err(ReadError::Quarantined(_))),
                    "byte {at}: {damaged:?}"
                );
                let after = first.plus(batches.len() as i64);
                let rest = read_from(&log, after, Offset(400), 1 << 20).await.expect("readable");
                assert_eq!(rest, values(after.0..400), "byte {at}");
                // Looking for a time walks headers too.
                let late = types::Timestamp(NOW.0 + 1);
                assert!(
                    log.offset_for_timestamp(late, Offset(400), &plain::Here)
                        .await
                        .expect("runs")
                        .is_none()
                );
            });
        }
    }
}

/// I1, I14: a bit that flips in a segment while the node is stopped is never served, wherever it is: not from the first
/// read on, and not after others were read before it. What lies around the batch is.
#[test]
fn i1_a_bit_that_flips_in_a_stopped_node_is_never_served() {
    let world = closed(13);
    let segment = &files(&world.disk, ".log")[2];
    let batches = record::Batches::split(world.disk.peek(segment).expect("there"));
    let batches: Vec<_> = batches.map(|batch| batch.expect("whole")).collect();
    let rotten = batches.len() / 2;
    let place: usize = batches[..rotten].iter().map(|batch| batch.bytes_total()).sum();
    let lost = batches[rotten].base_offset();
    let count = batches[rotten].records_count() as usize;
    let bytes = batches[rotten].bytes_total() as u64;
    // The leader epoch lies outside the checksum; the log's own epochs vouch for it.
    for at in (0..bytes).step_by(3).chain(12..16) {
        let fork = world.fork(at);
        fork.disk.rot(segment, place as u64 + at, 1 << (at % 8)).expect("rots");
        fork.with(async |dir| {
            let log = dir.log(&partition("events")).expect("recovered");
            let mut seen = Vec::new();
            let mut from = Offset(0);
            while from < Offset(400) {
                let read = Read { from, end: Offset(400), bytes_max: 700, at_least_one: true };
                match log.read(read).await {
                    Ok(slice) => {
                        from = slice.next_offset;
                        for batch in record::Batches::split(bytes_of(slice.parts).await) {
                            let batch = batch.expect("whole");
                            assert!(batch.crc_ok(), "byte {at}: {} is served", batch.base_offset());
                            seen.push(batch.base_offset().0);
                        }
                    }
                    Err(ReadError::Quarantined(_)) => from = from.next(),
                    Err(error) => panic!("byte {at}: {error}"),
                }
            }
            assert!(!seen.contains(&lost.0), "byte {at}: {lost} is served");
            let missing = (0..400).filter(|offset| !seen.contains(offset)).count();
            assert_eq!(missing, count, "byte {at}: that many records are not served");
            assert!(seen.is_sorted() && seen.windows(2).all(|pair| pair[0] != pair[1]));
        });
    }
}

/// I14: whichever bit of a batch's header flips, and wherever the first read begins, the batch alone is lost. A walk by
/// headers passes one that tells a wrong length or wrong offsets and stumbles later, or finds nothing and says nothing; the
/// damage used to be told of the batch behind it, and of all up to the segment's end where the index has no mark left.
#[test]
fn i14_a_rotten_header_costs_its_batch_wherever_reading_begins() {
    let world = World::new(14);
    world.with(async |dir| {
        let log = dir.create(spec("events", 1)).await.expect("created");
        for i in 0..40 {
            let texts: Vec<String> =
                (0..5).map(|n| format!("{i} {n} {}", "x".repeat(40))).collect();
            append(&log, batch(&texts.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        log.flush().await.expect("flushed");
        dir.close().await.expect("closes");
    });
    let segment = &files(&world.disk, ".log")[1];
    let batches = record::Batches::split(world.disk.peek(segment).expect("there"));
    let batches: Vec<_> = batches.map(|batch| batch.expect("whole")).collect();
    assert!(batches.len() > 3, "{} batches", batches.len());
    let mut place = 0;
    for rotten in &batches {
        let (lost, behind) = (rotten.base_offset(), rotten.end_offset());
        for bit in 0..8 * record::HEADER_LEN as u64 {
            // Offsets that are told wrong mislead a reader by where it comes from.
            let is_offset = matches!(bit / 8, 0..8 | 23..27);
            let near = Offset(lost.0 - 7 + (bit % 17) as i64);
            let inside = (lost.0..behind.0).map(Offset).filter(|from| is_offset && *from != near);
            for from in inside.chain([near]) {
                let fork = world.fork(bit);
                fork.disk.rot(segment, place + bit / 8, 1 << (bit % 8)).expect("rots");
                fork.with(async |dir| {
                    let log = dir.log(&partition("events")).expect("recovered");
                    let what = format!("bit {bit} of {lost}..{behind} flipped, read from {from}");
                    let read = Read { from, end: Offset(200), bytes_max: 1, at_least_one: true };
                    match log.read(read).await {
                        Ok(slice) => {
                            assert!(from < lost || from >= behind, "{what}: it is served");
                            assert_eq!(slice.next_offset.0, (from.0 / 5 + 1) * 5, "{what}");
                        }
                        Err(ReadError::Quarantined(range)) => {
                            assert_eq!((range.start, range.end), (lost, behind), "{what}");
                            assert!(from >= lost && from < behind, "{what}: {range}");
                        }
                        Err(error) => panic!("{what}: {error}"),
                    }
                });
            }
        }
        place += rotten.bytes_total() as u64;
    }
}

/// I14: the same in the segment that is appended to, where the index need not have a mark behind the batch. What lies behind
/// it is served, found by its time, and counts for its producer.
#[test]
fn i14_a_rotten_header_costs_its_batch_in_the_last_segment() {
    let world = World::new(16);
    let times = |n: i64| types::Timestamp(NOW.0 + n * 1000);
    world.with(async |dir| {
        let mut wide = spec("events", 1);
        wide.config.segment_bytes = 1 << 20;
        wide.config.index_interval_bytes = 2000;
        let log = dir.create(wide).await.expect("created");
        for n in 0..40 {
            append(&log, stamped_at(&["one", "two", "three"], times(n), 5, 0, 3 * n as i32));
        }
        log.flush().await.expect("flushed");
        dir.close().await.expect("closes");
    });
    let segment = &files(&world.disk, ".log")[0];
    let batches = record::Batches::split(world.disk.peek(segment).expect("there"));
    let batches: Vec<_> = batches.map(|batch| batch.expect("whole")).collect();
    let mut place = 0;
    for (n, rotten) in batches.iter().enumerate() {
        let (lost, behind) = (rotten.base_offset(), rotten.end_offset());
        for bit in (0..8 * record::HEADER_LEN as u64).filter(|_| [3, 30, 38, 39].contains(&n)) {
            let fork = world.fork(bit);
            if bit % 5 == 4 {
                for suffix in [".index", ".timeindex"] {
                    files(&fork.disk, suffix).iter().for_each(|path| remove(&fork.disk, path));
                }
            }
            fork.disk.rot(segment, place + bit / 8, 1 << (bit % 8)).expect("rots");
            fork.with(async |dir| {
                let what = format!("bit {bit} of {lost}..{behind}");
                let log = dir.log(&partition("events")).expect("recovered");
                let before = read_from(&log, Offset(0), lost, 1 << 20).await.expect(&what);
                assert_eq!(before.len() as i64, lost.0, "{what}");
                let met = read_from(&log, lost, behind, 1 << 20).await;
                let Err(ReadError::Quarantined(range)) = met else { panic!("{what}: {met:?}") };
                assert_eq!((range.start, range.end), (lost, behind), "{what}");
                let rest = read_from(&log, behind, Offset(120), 1 << 20).await.expect(&what);
                assert_eq!(rest.len() as i64, 120 - behind.0, "{what}");
                for late in
                    [n as i64 + 1, 39].into_iter().filter(|late| (n as i64) < *late && *late < 40)
                {
                    let found = log.offset_for_timestamp(times(late), Offset(120), &plain::Here);
                    let found = found.await.expect(&what).map(|found| found.offset.0);
                    assert_eq!(found, Some(3 * late), "{what}, time {late}");
                }
                if n < 39 {
                    let next = stamped_at(&["four"], times(50), 5, 0, 120);
                    assert_eq!(append(&log, next).base_offset.0, 120, "{what}");
                    let again = stamped_at(&["one", "two", "three"], times(39), 5, 0, 117);
                    let again = try_append(&log, vec![again], 0).expect(&what);
                    assert!(again.duplicate, "{what}");
                    log.flush().await.expect(&what);
                    let found = log.offset_for_timestamp(times(45), Offset(121), &plain::Here);
                    let found = found.await.expect(&what).map(|found| found.offset.0);
                    assert_eq!(found, Some(120), "{what}");
                }
                dir.close().await.expect("closes");
            });
            // The damage is known now; an index made anew leads around it.
            for suffix in [".index", ".timeindex"] {
                files(&fork.disk, suffix).iter().for_each(|path| remove(&fork.disk, path));
            }
            fork.with(async |dir| {
                let what = format!("bit {bit} of {lost}..{behind}, once more");
                let log = dir.log(&partition("events")).expect("recovered");
                let end = log.ends().log_end;
                append(&log, batch(&["five"]));
                log.flush().await.expect(&what);
                let rest = read_from(&log, behind, end.next(), 1 << 20).await.expect(&what);
                assert_eq!(rest.len() as i64, end.0 + 1 - behind.0, "{what}");
                log.truncate(behind.plus(3).min(end)).await.expect(&what);
                append(&log, batch(&["six"]));
                log.flush().await.expect(&what);
            });
        }
        place += rotten.bytes_total() as u64;
    }
}

/// I14: two rotten batches in the segment that is appended to cost two batches, with an index and without.
#[test]
fn i14_two_rotten_batches_in_the_last_segment_cost_two() {
    let world = World::new(18);
    world.with(async |dir| {
        let mut wide = spec("events", 1);
        wide.config.segment_bytes = 1 << 20;
        wide.config.index_interval_bytes = 2000;
        let log = dir.create(wide).await.expect("created");
        for _ in 0..40 {
            append(&log, batch(&["one", "two", "three"]));
        }
        log.flush().await.expect("flushed");
        dir.close().await.expect("closes");
    });
    let segment = &files(&world.disk, ".log")[0];
    let bytes = world.disk.peek(segment).expect("there").len() as u64 / 40;
    for has_index in [true, false] {
        let fork = world.fork(u64::from(has_index));
        fork.disk.rot(segment, 5 * bytes + bytes - 3, 1).expect("rots"); // a record
        fork.disk.rot(segment, 38 * bytes + 10, 1).expect("rots"); // a length
        if !has_index {
            files(&fork.disk, ".index").iter().for_each(|path| remove(&fork.disk, path));
        }
        fork.with(async |dir| {
            let log = dir.log(&partition("events")).expect("recovered");
            let mut lost = Vec::new();
            let mut next = Offset(0);
            while next < Offset(120) {
                let read = Read { from: next, end: Offset(120), bytes_max: 1, at_least_one: true };
                match log.read(read).await {
                    Ok(slice) => next = slice.next_offset,
                    Err(ReadError::Quarantined(range)) => {
                        lost.push((range.start.0, range.end.0));
                        next = range.end;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(lost, [(15, 18), (114, 117)], "index: {has_index}");
        });
    }
}

/// I4, I14: the epoch of the batch in which the log starts is known, too.
#[test]
fn i14_a_rotten_epoch_is_found_in_the_batch_that_holds_the_log_start() {
    let world = World::new(15);
    world.with(async |dir| {
        let log = dir.create(spec("events", 1)).await.expect("created");
        for _ in 0..40 {
            append(&log, batch(&["one", "two", "three"]));
        }
        log.flush().await.expect("flushed");
        log.set_log_start(Offset(1), Offset(120)).await.expect("raised");
        dir.close().await.expect("closes");
    });
    world.disk.rot(&files(&world.disk, ".log")[0], 15, 1).expect("rots");
    world.with(async |dir| {
        let log = dir.log(&partition("events")).expect("recovered");
        let read = read_from(&log, Offset(1), Offset(3), 1 << 20).await;
        assert!(matches!(read, Err(ReadError::Quarantined(_))), "{read:?}");
        let rest = read_from(&log, Offset(3), Offset(120), 1 << 20).await.expect("whole");
        assert_eq!(rest.len(), 117);
    });
}

/// A bit that flips in the frame that created a log costs nothing: the log's card and its segments say what it is. What the
/// journal tells of later is done again to it, and a log that was deleted since does not come back.
#[test]
fn i14_a_log_whose_creation_has_rotted_goes_on() {
    let mut world = World::new(31);
    world.with(async |dir| {
        for (topic, id) in [("gone", 1), ("events", 2), ("others", 3)] {
            let log = dir.create(spec(topic, id)).await.expect("created");
            fill(&log, 0..40);
            log.flush().await.expect("flushed");
        }
        let gone = dir.log(&partition("gone")).expect("there");
        dir.delete(&gone).await.expect("deleted");
        let log = dir.log(&partition("events")).expect("there");
        fill(&log, 40..60);
        log.flush().await.expect("flushed");
    });
    world.kill();
    let paths = world.disk.files().into_iter().map(|(path, _)| path);
    let mut journals =
        paths.filter(|path| path.parent().is_some_and(|dir| dir.ends_with("journal")));
    let journal = &journals.next().expect("a journal");
    let bytes = world.disk.peek(journal).expect("there");
    let mut rotten = 0;
    // The creations are among the first groups; each name stands in its frame.
    for name in ["gone", "events", "others"] {
        let found = bytes.windows(name.len()).position(|window| window == name.as_bytes());
        let place = found.expect("its creation is in the journal") as u64;
        for at in place - 24..place + name.len() as u64 {
            let fork = world.fork(at);
            fork.disk.rot(journal, at, 1 << (at % 8)).expect("rots");
            fork.with(async |dir| {
                assert!(!dir.recovery().intact, "byte {at} is told of");
                for (topic, end) in [("events", 60), ("others", 40)] {
                    let log = dir.log(&partition(topic)).expect("known");
                    assert_eq!(read_all(&log).await, values(0..end), "{topic}, byte {at}");
                }
                if let Some(gone) = dir.log(&partition("gone")) {
                    panic!("{:?} came back, byte {at}", gone.ends());
                }
            });
            rotten += 1;
        }
    }
    assert!(rotten > 50);
}
