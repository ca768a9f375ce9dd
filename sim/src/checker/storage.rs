//! Rules of storage, I1 to I14, I18, I47 to I51 and I81, over plain pictures of one log.

use std::collections::BTreeMap;

use crate::checker::{Verdict, require};

/// Who produced a batch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Stamp {
    /// Producer id.
    pub id: i64,
    /// Producer epoch.
    pub epoch: i16,
    /// First sequence.
    pub base: i32,
    /// Last sequence.
    pub last: i32,
}

/// A batch as seen in a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// First offset.
    pub base: i64,
    /// Last offset.
    pub last: i64,
    /// Leader epoch.
    pub epoch: i32,
    /// Identity of the content: checksum (upper half) and size.
    pub digest: u64,
    /// Whether the checksum holds.
    pub crc_ok: bool,
    /// Its producer, if idempotent.
    pub stamp: Option<Stamp>,
}

impl Seen {
    /// Its size in the log.
    pub fn bytes(&self) -> u64 {
        self.digest & u64::from(u32::MAX)
    }
}

/// I1: every batch handed out has a valid checksum.
pub fn i1_checksums(log: &str, batches: &[Seen]) -> Verdict {
    for batch in batches {
        require("I1", batch.crc_ok, || {
            format!("{log}: batch at {} has a wrong checksum", batch.base)
        })?;
    }
    Ok(())
}

/// I2: offsets are contiguous; a walk neither skips nor repeats. `from` is where the walk began.
pub fn i2_contiguous(log: &str, from: i64, batches: &[Seen]) -> Verdict {
    let mut expected: Option<i64> = None;
    for batch in batches {
        require("I2", batch.base <= batch.last, || {
            format!("{log}: batch {batch:?} ends before it begins")
        })?;
        match expected {
            Some(expected) => require("I2", batch.base == expected, || {
                format!("{log}: batch at {} follows end {expected}", batch.base)
            })?,
            None => require("I2", batch.base <= from && batch.last >= from, || {
                format!("{log}: a walk from {from} begins with {}..={}", batch.base, batch.last)
            })?,
        }
        expected = Some(batch.last + 1);
    }
    Ok(())
}

/// I3: epochs do not decrease along a log.
pub fn i3_epochs(log: &str, batches: &[Seen]) -> Verdict {
    for pair in batches.windows(2) {
        require("I3", pair[0].epoch <= pair[1].epoch, || {
            format!("{log}: epoch {} at {} follows {}", pair[1].epoch, pair[1].base, pair[0].epoch)
        })?;
    }
    Ok(())
}

/// I4: the epoch cache answers as the log does. `ends` holds, for each epoch asked, the answer (epoch, end offset).
pub fn i4_epoch_cache(
    log: &str,
    batches: &[Seen],
    log_end: i64,
    newest: Option<i32>,
    ends: &[(i32, Option<(i32, i64)>)],
) -> Verdict {
    let mut starts: BTreeMap<i32, i64> = BTreeMap::new();
    for batch in batches {
        starts.entry(batch.epoch).or_insert(batch.base);
    }
    // A leader that has not appended yet has begun its epoch at the log end.
    if let Some(newest) = newest {
        starts.entry(newest).or_insert(log_end);
    }
    for (asked, answer) in ends {
        require("I4", *asked >= 0 || answer.is_none(), || {
            format!("{log}: there is no epoch {asked}, and its end is {answer:?}")
        })?;
        let Some((found, _)) = starts.range(..=*asked).next_back() else { continue };
        let end = starts.range(asked + 1..).next().map_or(log_end, |(_, start)| *start);
        require("I4", *answer == Some((*found, end)), || {
            format!("{log}: end of epoch {asked} is {answer:?}, the log says ({found}, {end})")
        })?;
    }
    Ok(())
}

/// What an append of batches that a leader has stored must meet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fit {
    /// They follow the log and each other.
    Fits,
    /// One begins elsewhere than where it would have to.
    OutOfPlace {
        /// Where it would have to begin.
        expected: i64,
        /// Where it begins.
        found: i64,
    },
    /// The epoch of one is older than what it follows.
    Fenced,
}

/// I2, I3: how `batches` fit a log that ends at `end` with a batch of epoch `newest`.
pub fn i2_fit(end: i64, newest: Option<i32>, batches: &[Seen]) -> Fit {
    let (mut expected, mut newest) = (end, newest.unwrap_or(0));
    for batch in batches {
        if batch.base != expected {
            return Fit::OutOfPlace { expected, found: batch.base };
        }
        if batch.epoch < newest {
            return Fit::Fenced;
        }
        (expected, newest) = (batch.last + 1, batch.epoch);
    }
    Fit::Fits
}

/// What is known of a log before a crash.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// Batches appended, in order, from the log start.
    pub batches: Vec<Seen>,
    /// What must survive: the durable end after a power cut, the written end after a kill.
    pub must_end: i64,
    /// The log start as last confirmed.
    pub start: i64,
    /// The furthest log start asked for.
    pub start_asked: i64,
    /// A truncation that was under way.
    pub truncating: Option<i64>,
    /// A reset that was under way.
    pub resetting: Option<i64>,
    /// What else may help whoever reads the verdict.
    pub note: String,
}

/// I7, I8, I11, I12: what a recovered log must be: a prefix, batch by batch, of the log before, at least up to what was
/// announced, with the log start where it was or on its way. A batch truncated before would show as a difference.
pub fn i7_recovered(log: &str, before: &Before, start: i64, end: i64, after: &[Seen]) -> Verdict {
    // I12: it was reset or it was not; nothing in between.
    if let Some(to) = before.resetting
        && (start, end) == (to, to)
        && after.is_empty()
    {
        return Ok(());
    }
    let must_end = before.truncating.map_or(before.must_end, |to| before.must_end.min(to));
    require("I7", end >= must_end, || {
        format!(
            "{log}: recovered to {end}, although {must_end} had been announced ({})",
            before.note
        )
    })?;
    require("I11", start >= before.start, || {
        format!("{log}: log start went back from {} to {start}", before.start)
    })?;
    let start_max = before.start_asked.max(before.start);
    let known_end = before.batches.last().map_or(before.start, |batch| batch.last + 1);
    require("I81", start <= start_max.max(end.min(known_end)), || {
        format!("{log}: log start {start} is beyond {start_max} that was asked for")
    })?;
    require("I7", end <= known_end.max(start), || {
        format!("{log}: recovered to {end}, but nothing beyond {known_end} was ever appended")
    })?;
    let mut known = before.batches.iter().filter(|batch| batch.last >= start).peekable();
    for batch in after {
        while known.peek().is_some_and(|old| old.last < batch.base) {
            known.next();
        }
        let old = known.next();
        require("I8", old.is_some_and(|old| old == batch), || {
            format!("{log}: recovered {batch:?}, but the log had {old:?}")
        })?;
    }
    let reached = after.last().map_or(start, |batch| batch.last + 1);
    require("I7", reached == end || after.is_empty() && end <= start, || {
        format!("{log}: says it ends at {end}, reading ends at {reached}")
    })
}

/// I13: a refused append changes nothing.
pub fn i13_unchanged(log: &str, before: (i64, usize), after: (i64, usize)) -> Verdict {
    require("I13", before == after, || {
        format!("{log}: a refused append moved (log end, producers) from {before:?} to {after:?}")
    })
}

/// I11, I22, I81 over two looks at one log in one process: ends are ordered and, without truncation, do not go back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EndsSeen {
    /// Log start.
    pub start: i64,
    /// Synced in segments.
    pub stable: i64,
    /// Survives a power cut.
    pub durable: i64,
    /// Readable.
    pub written: i64,
    /// Next offset.
    pub end: i64,
}

/// Ends are ordered, and move forward between two looks with no truncation in between.
pub fn i11_ends(log: &str, earlier: Option<EndsSeen>, now: EndsSeen) -> Verdict {
    let EndsSeen { start, stable, durable, written, end } = now;
    require(
        "I11",
        stable <= durable && durable <= written && written <= end && start <= end,
        || format!("{log}: ends are out of order: {now:?}"),
    )?;
    let Some(old) = earlier else { return Ok(()) };
    let back = start < old.start || durable < old.durable || written < old.written || end < old.end;
    require("I11", !back, || format!("{log}: ends went back from {old:?} to {now:?}"))
}

/// I10: after a failure no durable end moves.
pub fn i10_no_progress(log: &str, failed: bool, before: i64, after: i64) -> Verdict {
    require("I10", !failed || after <= before, || {
        format!("{log}: durable end moved from {before} to {after} after the directory failed")
    })
}

/// I14: damage is told of exactly the offsets whose bytes are bad; both as first offsets and ends.
pub fn i14_reported(log: &str, bad: &[(i64, i64)], told: &[(i64, i64)]) -> Verdict {
    let (bad, told) = (joined(bad), joined(told));
    require("I14", bad == told, || format!("{log}: bad are {bad:?}, told is of {told:?}"))
}

/// Ranges in order, those that touch as one.
fn joined(ranges: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable();
    let mut joined: Vec<(i64, i64)> = Vec::new();
    for (start, end) in sorted {
        match joined.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => joined.push((start, end)),
        }
    }
    joined
}

/// I18: what was committed is still there: each (offset, content) of `committed` at or above `start` is in the log.
pub fn i18_committed(
    log: &str,
    committed: &BTreeMap<i64, u64>,
    start: i64,
    batches: &[Seen],
) -> Verdict {
    let found: BTreeMap<i64, u64> =
        batches.iter().map(|batch| (batch.base, batch.digest)).collect();
    for (base, digest) in committed.range(start..) {
        require("I18", found.get(base) == Some(digest), || {
            format!("{log}: committed batch {digest:x} at {base} is {:?} now", found.get(base))
        })?;
    }
    Ok(())
}

/// I47, I48, I50: sequences of each producer follow each other, no batch is there twice, no old epoch writes after a newer
/// one. `complete`: the log holds its whole history, so that the first sequence of each producer must be 0.
pub fn i47_sequences(log: &str, batches: &[Seen], complete: bool) -> Verdict {
    let mut newest: BTreeMap<i64, (i16, i32)> = BTreeMap::new();
    for batch in batches {
        let Some(stamp) = batch.stamp else { continue };
        match newest.get(&stamp.id) {
            Some((epoch, _)) if stamp.epoch < *epoch => require("I50", false, || {
                format!("{log}: {stamp:?} at {} after epoch {epoch}", batch.base)
            })?,
            Some((epoch, last)) if stamp.epoch == *epoch => {
                let follows = if *last == i32::MAX { 0 } else { last + 1 };
                let rule = if stamp.base <= *last { "I48" } else { "I47" };
                require(rule, stamp.base == follows, || {
                    format!("{log}: {stamp:?} at {} follows sequence {last}", batch.base)
                })?;
            }
            Some(_) => require("I47", stamp.base == 0, || {
                format!("{log}: the first of a new epoch, {stamp:?} at {}, is not 0", batch.base)
            })?,
            None if complete => require("I47", stamp.base == 0, || {
                format!("{log}: the first of a producer, {stamp:?} at {}, is not 0", batch.base)
            })?,
            None => {}
        }
        newest.insert(stamp.id, (stamp.epoch, stamp.last));
    }
    Ok(())
}

/// What an append of an idempotent batch must answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// It is new.
    Fresh,
    /// It is one of the last five: the original's base offset.
    Duplicate(i64),
    /// It does not follow.
    OutOfOrder,
    /// Its epoch is old.
    Fenced,
}

/// I49, I51, P6, P7: what `stamp` must meet, given the batches of the log. `None`: the producer is not known any more, and
/// both answers are right.
pub fn i49_expected(batches: &[Seen], stamp: Stamp) -> Option<Expected> {
    let mine: Vec<(&Seen, Stamp)> = batches
        .iter()
        .filter_map(|batch| batch.stamp.filter(|s| s.id == stamp.id).map(|s| (batch, s)))
        .collect();
    let (_, newest) = mine.last()?;
    if stamp.epoch < newest.epoch {
        return Some(Expected::Fenced);
    }
    if stamp.epoch > newest.epoch {
        return Some(if stamp.base == 0 { Expected::Fresh } else { Expected::OutOfOrder });
    }
    let same = mine.iter().rev().take_while(|(_, s)| s.epoch == stamp.epoch).take(5);
    for (batch, known) in same {
        if (known.base, known.last) == (stamp.base, stamp.last) {
            return Some(Expected::Duplicate(batch.base));
        }
    }
    let follows = if newest.last == i32::MAX { 0 } else { newest.last + 1 };
    Some(if stamp.base == follows { Expected::Fresh } else { Expected::OutOfOrder })
}

/// I81: retention removed nothing at or above the high watermark, and the log start only moves forward.
pub fn i81_start(log: &str, old: i64, new: i64, high_watermark: i64) -> Verdict {
    require("I81", new >= old, || format!("{log}: log start went back from {old} to {new}"))?;
    require("I81", new <= high_watermark, || {
        format!("{log}: log start {new} is beyond the high watermark {high_watermark}")
    })
}

/// What retention was to keep, and what it took.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// `retention.bytes`.
    pub bytes_wanted: Option<u64>,
    /// `retention.ms`.
    pub ms_wanted: Option<i64>,
    /// The broker's clock.
    pub now: i64,
    /// The broker's time of the youngest append that was taken.
    pub youngest_taken: Option<i64>,
    /// Bytes left in the log.
    pub bytes_kept: u64,
}

/// E37: retention takes only what is too old, or what is more than is to be kept; records without a timestamp are as old
/// as their append, never older.
pub fn e37_retained(log: &str, retention: Retention) -> Verdict {
    let Retention { bytes_wanted, ms_wanted, now, youngest_taken, bytes_kept } = retention;
    let Some(youngest) = youngest_taken else { return Ok(()) };
    let too_much = bytes_wanted.is_some_and(|wanted| bytes_kept >= wanted);
    let too_old = ms_wanted.is_some_and(|wanted| youngest.saturating_add(wanted) < now);
    require("E37", too_much || too_old, || format!("{log}: retention took too much: {retention:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(base: i64, last: i64) -> Seen {
        Seen { base, last, epoch: 1, digest: base as u64, crc_ok: true, stamp: None }
    }

    fn stamped(base: i64, epoch: i16, sequence: i32) -> Seen {
        let stamp = Stamp { id: 7, epoch, base: sequence, last: sequence };
        Seen { stamp: Some(stamp), ..batch(base, base) }
    }

    fn rule(verdict: Verdict) -> &'static str {
        verdict.err().map_or("ok", |broken| broken.rule)
    }

    #[test]
    fn i1_sees_a_wrong_checksum() {
        assert_eq!(rule(i1_checksums("p", &[batch(0, 1)])), "ok");
        assert_eq!(rule(i1_checksums("p", &[Seen { crc_ok: false, ..batch(0, 1) }])), "I1");
    }

    #[test]
    fn i2_sees_gaps_overlaps_and_a_late_start() {
        assert_eq!(rule(i2_contiguous("p", 1, &[batch(0, 1), batch(2, 5)])), "ok");
        assert_eq!(rule(i2_contiguous("p", 0, &[batch(0, 1), batch(3, 5)])), "I2");
        assert_eq!(rule(i2_contiguous("p", 0, &[batch(0, 1), batch(1, 5)])), "I2");
        assert_eq!(rule(i2_contiguous("p", 0, &[batch(2, 5)])), "I2");
        assert_eq!(rule(i2_contiguous("p", 2, &[batch(0, 1), batch(2, 3)])), "I2");
    }

    #[test]
    fn i3_sees_an_epoch_that_goes_back() {
        let newer = Seen { epoch: 2, ..batch(2, 3) };
        assert_eq!(rule(i3_epochs("p", &[batch(0, 1), newer])), "ok");
        assert_eq!(rule(i3_epochs("p", &[newer, batch(4, 5)])), "I3");
    }

    #[test]
    fn i4_compares_the_cache_with_the_log() {
        let log = [batch(0, 1), Seen { epoch: 3, ..batch(2, 4) }];
        let good = [(1, Some((1, 2))), (2, Some((1, 2))), (3, Some((3, 5)))];
        assert_eq!(rule(i4_epoch_cache("p", &log, 5, Some(3), &good)), "ok");
        assert_eq!(rule(i4_epoch_cache("p", &log, 5, Some(5), &[(4, Some((3, 5)))])), "ok");
        assert_eq!(rule(i4_epoch_cache("p", &log, 5, Some(3), &[(1, Some((1, 5)))])), "I4");
        assert_eq!(rule(i4_epoch_cache("p", &log, 5, Some(3), &[(3, None)])), "I4");
        assert_eq!(rule(i4_epoch_cache("p", &log, 5, Some(3), &[(-1, None)])), "ok");
        assert_eq!(rule(i4_epoch_cache("p", &log, 5, Some(3), &[(-1, Some((-1, 0)))])), "I4");
    }

    #[test]
    fn i2_knows_what_follows_a_log() {
        let newer = Seen { epoch: 2, ..batch(2, 3) };
        assert_eq!(i2_fit(0, None, &[batch(0, 1), newer]), Fit::Fits);
        assert_eq!(i2_fit(9, Some(5), &[]), Fit::Fits);
        let gap = Fit::OutOfPlace { expected: 2, found: 3 };
        assert_eq!(i2_fit(0, Some(1), &[batch(0, 1), batch(3, 4)]), gap);
        let overlap = Fit::OutOfPlace { expected: 1, found: 0 };
        assert_eq!(i2_fit(1, Some(1), &[batch(0, 1)]), overlap);
        assert_eq!(i2_fit(0, Some(2), &[batch(0, 1)]), Fit::Fenced);
        assert_eq!(i2_fit(2, Some(1), &[newer, batch(4, 4)]), Fit::Fenced);
    }

    #[test]
    fn i7_sees_loss_invention_resurrection_and_a_start_that_goes_back() {
        let before = Before {
            batches: vec![batch(0, 1), batch(2, 5), batch(6, 6)],
            must_end: 6,
            start: 0,
            start_asked: 2,
            truncating: None,
            resetting: None,
            note: String::new(),
        };
        let all = before.batches.clone();
        let check =
            |start, end, after: &[Seen]| rule(i7_recovered("p", &before, start, end, after));
        assert_eq!(check(0, 7, &all), "ok");
        assert_eq!(check(0, 6, &all[..2]), "ok");
        assert_eq!(check(2, 6, &all[1..2]), "ok");
        assert_eq!(check(0, 2, &all[..1]), "I7");
        assert_eq!(check(0, 8, &all), "I7");
        assert_eq!(check(0, 7, &all[..2]), "I7");
        assert_eq!(check(0, 7, &[all[0], Seen { digest: 99, ..all[1] }, all[2]]), "I8");
        let truncating = Before { truncating: Some(2), ..before.clone() };
        assert_eq!(rule(i7_recovered("p", &truncating, 0, 2, &all[..1])), "ok");
        let resetting = Before { resetting: Some(90), ..before.clone() };
        let reset =
            |start, end, after: &[Seen]| rule(i7_recovered("p", &resetting, start, end, after));
        assert_eq!(reset(90, 90, &[]), "ok");
        assert_eq!(reset(0, 7, &all), "ok");
        assert_eq!(reset(90, 91, &[batch(90, 90)]), "I81");
        assert_eq!(reset(0, 90, &all), "I7");
        assert_eq!(reset(2, 2, &[]), "I7");
        assert_eq!(check(90, 90, &[]), "I81");
        let moved = Before { start: 1, ..before.clone() };
        assert_eq!(rule(i7_recovered("p", &moved, 0, 7, &all)), "I11");
        assert_eq!(rule(i7_recovered("p", &before, 6, 6, &[])), "ok");
    }

    #[test]
    fn i10_i11_i13_and_i81_see_moves_that_must_not_be() {
        let ends = EndsSeen { start: 0, stable: 1, durable: 2, written: 3, end: 4 };
        assert_eq!(rule(i11_ends("p", None, ends)), "ok");
        assert_eq!(rule(i11_ends("p", None, EndsSeen { durable: 4, ..ends })), "I11");
        assert_eq!(rule(i11_ends("p", Some(ends), EndsSeen { end: 3, ..ends })), "I11");
        assert_eq!(rule(i10_no_progress("p", true, 5, 5)), "ok");
        assert_eq!(rule(i10_no_progress("p", true, 5, 6)), "I10");
        assert_eq!(rule(i10_no_progress("p", false, 5, 6)), "ok");
        assert_eq!(rule(i13_unchanged("p", (4, 1), (4, 1))), "ok");
        assert_eq!(rule(i13_unchanged("p", (4, 1), (5, 1))), "I13");
        assert_eq!(rule(i81_start("p", 3, 4, 4)), "ok");
        assert_eq!(rule(i81_start("p", 3, 2, 4)), "I81");
        assert_eq!(rule(i81_start("p", 3, 5, 4)), "I81");
    }

    #[test]
    fn i14_sees_damage_that_is_not_told_and_what_is_told_beyond_it() {
        let bad = [(7, 9), (3, 5), (9, 10)];
        assert_eq!(rule(i14_reported("p", &bad, &[(3, 5), (7, 10)])), "ok");
        assert_eq!(rule(i14_reported("p", &bad, &[(7, 10)])), "I14");
        assert_eq!(rule(i14_reported("p", &bad, &[(3, 5), (7, 9)])), "I14");
        assert_eq!(rule(i14_reported("p", &bad, &[(3, 6), (7, 10)])), "I14");
        assert_eq!(rule(i14_reported("p", &[], &[(3, 5)])), "I14");
    }

    #[test]
    fn i18_sees_a_committed_batch_that_changed_or_went() {
        let committed = BTreeMap::from([(0, 0), (2, 2)]);
        assert_eq!(rule(i18_committed("p", &committed, 0, &[batch(0, 1), batch(2, 3)])), "ok");
        assert_eq!(rule(i18_committed("p", &committed, 2, &[batch(2, 3)])), "ok");
        assert_eq!(rule(i18_committed("p", &committed, 0, &[batch(0, 1)])), "I18");
        let other = Seen { digest: 9, ..batch(2, 3) };
        assert_eq!(rule(i18_committed("p", &committed, 0, &[batch(0, 1), other])), "I18");
    }

    #[test]
    fn e37_sees_what_retention_should_have_kept() {
        let sound = Retention {
            bytes_wanted: Some(100),
            ms_wanted: Some(10),
            now: 50,
            youngest_taken: Some(45),
            bytes_kept: 100,
        };
        assert_eq!(rule(e37_retained("p", sound)), "ok");
        let short = Retention { bytes_kept: 99, ..sound };
        assert_eq!(rule(e37_retained("p", short)), "E37");
        assert_eq!(rule(e37_retained("p", Retention { youngest_taken: Some(39), ..short })), "ok");
        assert_eq!(rule(e37_retained("p", Retention { youngest_taken: None, ..short })), "ok");
        let forever = Retention { bytes_wanted: None, ms_wanted: None, ..sound };
        assert_eq!(rule(e37_retained("p", forever)), "E37");
    }

    #[test]
    fn i47_i48_i50_follow_each_producer() {
        let check = |batches: &[Seen]| rule(i47_sequences("p", batches, true));
        assert_eq!(check(&[stamped(0, 0, 0), stamped(1, 0, 1), stamped(2, 1, 0)]), "ok");
        assert_eq!(check(&[stamped(0, 0, 0), stamped(1, 0, 2)]), "I47");
        assert_eq!(check(&[stamped(0, 0, 0), stamped(1, 0, 1), stamped(2, 0, 1)]), "I48");
        assert_eq!(check(&[stamped(0, 1, 0), stamped(1, 0, 0)]), "I50");
        assert_eq!(check(&[stamped(0, 0, 5)]), "I47");
        assert_eq!(rule(i47_sequences("p", &[stamped(0, 0, 5)], false)), "ok");
        let wrapped = [stamped(0, 0, i32::MAX), stamped(1, 0, 0)];
        assert_eq!(rule(i47_sequences("p", &wrapped, false)), "ok");
    }

    #[test]
    fn i49_knows_the_answer_to_every_append() {
        let log: Vec<Seen> = (0..7).map(|n| stamped(i64::from(n), 1, n)).collect();
        let expect = |epoch, base, last| i49_expected(&log, Stamp { id: 7, epoch, base, last });
        assert_eq!(expect(1, 7, 7), Some(Expected::Fresh));
        assert_eq!(expect(1, 6, 6), Some(Expected::Duplicate(6)));
        assert_eq!(expect(1, 2, 2), Some(Expected::Duplicate(2)));
        assert_eq!(expect(1, 1, 1), Some(Expected::OutOfOrder), "only the last five are known");
        assert_eq!(expect(1, 8, 8), Some(Expected::OutOfOrder));
        assert_eq!(expect(0, 7, 7), Some(Expected::Fenced));
        assert_eq!(expect(2, 0, 0), Some(Expected::Fresh));
        assert_eq!(expect(2, 7, 7), Some(Expected::OutOfOrder));
        assert_eq!(i49_expected(&log, Stamp { id: 8, epoch: 0, base: 0, last: 0 }), None);
    }
}
