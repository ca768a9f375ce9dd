//! Anomalies of client histories: A1 to A3, A9 to A13, and the invariants a client can see: I18, I23, I31, I32, I39, I44,
//! I45, L10.

use std::collections::{BTreeMap, BTreeSet};

use crate::checker::{Verdict, require};
use crate::history::{Dated, History, Outcome, Partition, Span};

/// A1: no two values at one offset; also I18 for what was read or acknowledged.
pub fn a1_one_value_per_offset(history: &History) -> Verdict {
    let mut known: BTreeMap<(Partition, i64), u64> = BTreeMap::new();
    for (partition, offset, value, how) in sightings(history) {
        let place = known.entry((partition.clone(), offset)).or_insert(value);
        require("A1", *place == value, || {
            format!("{partition} offset {offset} held value {place} and now, {how}, {value}")
        })?;
    }
    Ok(())
}

/// A2: a value of an idempotent producer is at one offset only.
pub fn a2_no_duplicates(history: &History) -> Verdict {
    let idempotent: BTreeSet<u64> =
        history.sends.iter().filter(|sent| sent.idempotent).map(|sent| sent.value).collect();
    let mut known: BTreeMap<u64, (Partition, i64)> = BTreeMap::new();
    for (partition, offset, value, how) in sightings(history) {
        if !idempotent.contains(&value) {
            continue;
        }
        let place = known.entry(value).or_insert((partition.clone(), offset));
        require("A2", *place == (partition.clone(), offset), || {
            format!(
                "value {value} is at {} offset {} and, {how}, at {partition} offset {offset}",
                place.0, place.1
            )
        })?;
    }
    Ok(())
}

/// Every (partition, offset, value) that somebody was told.
fn sightings(history: &History) -> impl Iterator<Item = (&Partition, i64, u64, &'static str)> {
    let sent = history.sends.iter().filter_map(|sent| match sent.outcome {
        Outcome::Ok(Some(offset)) => Some((&sent.partition, offset, sent.value, "acknowledged")),
        _ => None,
    });
    let polled = history.polls.iter().flat_map(|poll| {
        poll.records.iter().map(|(offset, value)| (&poll.partition, *offset, *value, "polled"))
    });
    let last = history.last.iter().flat_map(|(partition, _, records)| {
        records.iter().map(move |(offset, value)| (partition, *offset, *value, "read at the end"))
    });
    sent.chain(polled).chain(last)
}

/// A3, A12, I32, L10: everything promised and above the log start is in the last reads, at its offset.
pub fn a3_nothing_lost(history: &History) -> Verdict {
    let last: BTreeMap<&Partition, (i64, BTreeMap<u64, i64>)> = history
        .last
        .iter()
        .map(|(partition, start, records)| {
            (partition, (*start, records.iter().map(|(offset, value)| (*value, *offset)).collect()))
        })
        .collect();
    for sent in history.sends.iter().filter(|sent| sent.promised) {
        let (Outcome::Ok(offset), Some((start, found))) = (sent.outcome, last.get(&sent.partition))
        else {
            continue;
        };
        if offset.is_some_and(|offset| offset < *start) {
            continue;
        }
        let seen = found.get(&sent.value);
        let gone_with_retention = offset.is_none() && *start > 0;
        require("I32", seen.is_some() || gone_with_retention, || {
            format!(
                "value {} was acknowledged at {} offset {offset:?} in {:?} and is not in the log, {start} to {:?}; \
                 at its place is {:?}",
                sent.value,
                sent.partition,
                sent.span,
                found.values().max(),
                found.iter().find(|(_, at)| Some(**at) == offset).map(|(value, _)| value),
            )
        })?;
    }
    Ok(())
}

/// I18: what a consumer has read stays: it is in the last reads too. `excused` names partitions that may lose their tail.
pub fn i18_read_stays(history: &History, excused: impl Fn(&str) -> bool) -> Verdict {
    for (partition, start, records) in &history.last {
        let found: BTreeMap<i64, u64> = records.iter().copied().collect();
        for poll in history.polls.iter().filter(|poll| poll.partition == *partition) {
            for (offset, value) in poll.records.iter().filter(|(offset, _)| offset >= start) {
                require("I18", found.get(offset) == Some(value) || excused(partition), || {
                    format!(
                        "{partition} offset {offset} was read as value {value}, at the end it is {:?}",
                        found.get(offset)
                    )
                })?;
            }
        }
    }
    Ok(())
}

/// Nothing is invented: each value read was sent, to that partition, and did not certainly fail.
pub fn a4_nothing_invented(history: &History) -> Verdict {
    let sent: BTreeMap<u64, (&Partition, bool)> = history
        .sends
        .iter()
        .map(|sent| (sent.value, (&sent.partition, sent.outcome == Outcome::Failed)))
        .collect();
    for (partition, offset, value, how) in sightings(history) {
        let known = sent.get(&value);
        require("A4", known.is_some_and(|(to, _)| *to == partition), || {
            format!("{partition} offset {offset} holds value {value}, {how}, sent to {known:?}")
        })?;
        require("A4", known.is_some_and(|(_, failed)| !failed), || {
            format!(
                "{partition} offset {offset} holds value {value}, {how}, whose send failed for certain"
            )
        })?;
    }
    Ok(())
}

/// A9 and A10: within a poll, and from poll to poll of one turn, offsets go up by one.
pub fn a9_contiguous_polls(history: &History) -> Verdict {
    let mut next: BTreeMap<(u32, u32, &Partition), i64> = BTreeMap::new();
    for poll in &history.polls {
        let expected = next.entry((poll.consumer, poll.turn, &poll.partition));
        let mut expected = match expected {
            std::collections::btree_map::Entry::Occupied(entry) => Some(*entry.get()),
            std::collections::btree_map::Entry::Vacant(_) => None,
        };
        for (position, (offset, _)) in poll.records.iter().enumerate() {
            let rule = if position == 0 { "A10" } else { "A9" };
            require(rule, expected.is_none_or(|expected| expected == *offset), || {
                format!(
                    "consumer {} read {} offset {offset} after {:?}",
                    poll.consumer,
                    poll.partition,
                    expected.map(|expected| expected - 1)
                )
            })?;
            expected = Some(offset + 1);
        }
        if let Some(expected) = expected {
            next.insert((poll.consumer, poll.turn, &poll.partition), expected);
        }
    }
    Ok(())
}

/// A11: one idempotent producer, one partition: offsets in the order of sending.
pub fn a11_monotonic_sends(history: &History) -> Verdict {
    let mut newest: BTreeMap<(u32, &Partition), (i64, u64)> = BTreeMap::new();
    let mut sends: Vec<_> = history.sends.iter().filter(|sent| sent.idempotent).collect();
    sends.sort_by_key(|sent| sent.value);
    for sent in sends {
        let Outcome::Ok(Some(offset)) = sent.outcome else { continue };
        let place = newest.entry((sent.producer, &sent.partition)).or_insert((-1, 0));
        require("A11", offset > place.0, || {
            format!(
                "producer {} sent value {} to {} before {}, but their offsets are {} and {offset}",
                sent.producer, place.1, sent.partition, sent.value, place.0
            )
        })?;
        *place = (offset, sent.value);
    }
    Ok(())
}

/// I49: whatever a produce was answered, a retry too, and whatever was read: a dated record has one time.
pub fn i49_one_time_per_offset(history: &History) -> Verdict {
    let mut known: BTreeMap<(&Partition, i64), (i64, &'static str)> = BTreeMap::new();
    for Dated { partition, offset, time, how } in &history.dated {
        let Some(time) = *time else {
            let text = format!("{partition} offset {offset} is {how} without a time");
            return require("I49", false, || text);
        };
        let place = known.entry((partition, *offset)).or_insert((time, how));
        require("I49", place.0 == time, || {
            format!(
                "{partition} offset {offset} was {} with time {} and is {how} with {time}",
                place.1, place.0
            )
        })?;
    }
    Ok(())
}

/// I4: what a client was told of the epochs -1, 0, 1 and so on, each as (epoch, end offset): none ends nowhere; each other
/// is answered with one not above it, and no end lies before that of an earlier epoch. The sentinels are -1.
pub fn i4_epochs_told(partition: &str, ends: &[(i32, i64)]) -> Verdict {
    let mut last = 0;
    for (asked, (epoch, end)) in (-1..).zip(ends) {
        let is_none = (*epoch, *end) == (-1, -1);
        let is_sound = is_none || (0..=asked).contains(epoch) && *end >= last;
        require("I4", is_sound, || {
            format!(
                "{partition}: epoch {asked} is said to be {epoch} and to end at {end}: {ends:?}"
            )
        })?;
        last = last.max(*end);
    }
    Ok(())
}

/// I23 and I81: ends and starts told to clients do not go back. `excused` names partitions whose tail may be lost. A leader that
/// others have followed already may still tell what it knows, for `staleness` nanoseconds (I36).
pub fn i23_ends_told(history: &History, excused: impl Fn(&str) -> bool, staleness: u64) -> Verdict {
    let mut told: BTreeMap<&Partition, Vec<(Span, i64, i64)>> = BTreeMap::new();
    for end in &history.ends {
        told.entry(&end.partition).or_default().push((end.span, end.end, end.start));
    }
    for (partition, mut list) in told {
        list.sort();
        let (mut end_max, mut start_max) = ((0, 0), (0, 0));
        let mut ended: Vec<(u64, i64, i64)> =
            list.iter().map(|(span, end, start)| (span.to, *end, *start)).collect();
        ended.sort_unstable();
        let mut done = ended.into_iter().peekable();
        for (span, end, start) in list {
            // Only answers that had arrived before this question was asked bind it.
            while let Some((to, end, start)) = done.next_if(|(to, ..)| *to + staleness < span.from)
            {
                end_max = end_max.max((end, to));
                start_max = start_max.max((start, to));
            }
            require("I23", end >= end_max.0 || excused(partition), || {
                format!("{partition}: the high watermark was {} and is {end} later", end_max.0)
            })?;
            require("I81", start >= start_max.0, || {
                format!("{partition}: the log start was {} and is {start} later", start_max.0)
            })?;
        }
    }
    Ok(())
}

/// I31: a success with acks=all lies below every high watermark told later, or `staleness` nanoseconds later (I36).
pub fn i31_acknowledged_is_committed(
    history: &History,
    excused: impl Fn(&str) -> bool,
    staleness: u64,
) -> Verdict {
    let mut acknowledged: BTreeMap<&Partition, Vec<(u64, i64)>> = BTreeMap::new();
    for sent in history.sends.iter().filter(|sent| sent.promised) {
        if let Outcome::Ok(Some(offset)) = sent.outcome {
            acknowledged.entry(&sent.partition).or_default().push((sent.span.to, offset));
        }
    }
    for told in &history.ends {
        let list = acknowledged.get(&told.partition).map(Vec::as_slice).unwrap_or_default();
        for (at, offset) in list.iter().filter(|(at, _)| *at + staleness < told.span.from) {
            require("I31", told.end > *offset || excused(&told.partition), || {
                format!(
                    "{} offset {offset} was acknowledged at {at}, but the high watermark asked for at {} is {}",
                    told.partition, told.span.from, told.end
                )
            })?;
        }
    }
    Ok(())
}

/// I36: whoever serves a fetch, a follower too, knows of all that was acknowledged or told to be committed `staleness` nanoseconds
/// before it was asked.
pub fn i36_fetches_are_fresh(history: &History, staleness: u64) -> Verdict {
    let mut known: BTreeMap<&Partition, Vec<(u64, i64)>> = BTreeMap::new();
    for sent in history.sends.iter().filter(|sent| sent.promised) {
        if let Outcome::Ok(Some(offset)) = sent.outcome {
            known.entry(&sent.partition).or_default().push((sent.span.to, offset + 1));
        }
    }
    for told in &history.ends {
        known.entry(&told.partition).or_default().push((told.span.to, told.end));
    }
    for (partition, watermark, span) in &history.fetched {
        let list = known.get(partition).map(Vec::as_slice).unwrap_or_default();
        for (at, end) in list.iter().filter(|(at, _)| *at + staleness < span.from) {
            require("I36", watermark >= end, || {
                format!(
                    "{partition} was committed up to {end} at {at}, but a fetch asked for after {} tells {watermark}",
                    span.from
                )
            })?;
        }
    }
    Ok(())
}

/// I45: a producer id is handed out once.
pub fn i45_producer_ids(history: &History) -> Verdict {
    let mut known = BTreeSet::new();
    for producer in &history.producers {
        require("I45", known.insert(producer), || {
            format!("producer id and epoch {producer:?} were issued twice")
        })?;
    }
    Ok(())
}

/// I39 and I41: a topic whose creation was acknowledged is in every list that is asked for later, until its deletion is
/// asked for; one whose deletion was acknowledged is in none. I44: an identity belongs to one life.
pub fn i39_topics(history: &History) -> Verdict {
    let mut ids: BTreeMap<u128, usize> = BTreeMap::new();
    // Names whose topics may end at any time: a deletion of an earlier life is still on its way.
    let mut doomed: BTreeSet<&str> = BTreeSet::new();
    for (number, life) in history.topics.iter().enumerate() {
        let name: &str = &life.name;
        if let Some(id) = life.id {
            let other = *ids.entry(id).or_insert(number);
            require("I44", other == number, || {
                format!("topic id {id:x} of {name} was used before")
            })?;
        }
        let (created, outcome) = life.created;
        let lasts = outcome == Outcome::Ok(()) && !doomed.contains(name);
        for told in &history.topics_told {
            let found = told.topics.get(name);
            let is_there = lasts
                && created.to < told.span.from
                && life.deleted.is_none_or(|(span, _)| told.span.to < span.from);
            require("I39", !is_there || found.is_some(), || {
                format!(
                    "topic {name} was created in {created:?} and is not there in {:?}",
                    told.span
                )
            })?;
            let known = life.id.zip(found.copied().flatten());
            require("I44", !is_there || known.is_none_or(|(id, found)| id == found), || {
                format!("topic {name} was {:x?} and is {found:x?} in {:?}", life.id, told.span)
            })?;
            let is_gone = life.deleted.is_some_and(|(span, outcome)| {
                outcome == Outcome::Ok(()) && span.to < told.span.from
            });
            require("I39", !is_gone || known.is_none_or(|(id, found)| id != found), || {
                format!(
                    "topic {name} was deleted in {:?} and is there in {:?}",
                    life.deleted, told.span
                )
            })?;
        }
        if life.lingers {
            doomed.insert(name);
        }
    }
    Ok(())
}

/// I44: a fetch session that knew `topic` by name is told of each of its partitions that another topic has that name now,
/// before it reads the other. `answered` are the error codes of the partitions in the first answer since.
pub fn i44_told_of_successor(
    topic: &str,
    partitions: i32,
    answered: &BTreeMap<i32, i16>,
) -> Verdict {
    for index in 0..partitions {
        let code = answered.get(&index);
        require("I44", code.is_some_and(|code| *code != 0), || {
            format!(
                "a session reads on in {topic}-{index}, which is of another topic now: {code:?}"
            )
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{EndTold, Polled, Sent, TopicLife, TopicsTold};

    fn sent(value: u64, offset: i64) -> Sent {
        Sent {
            producer: 1,
            idempotent: true,
            promised: true,
            partition: "t-0".into(),
            value,
            span: Span { from: value, to: value + 1 },
            outcome: Outcome::Ok(Some(offset)),
        }
    }

    fn polled(turn: u32, records: &[(i64, u64)]) -> Polled {
        Polled {
            consumer: 1,
            turn,
            partition: "t-0".into(),
            records: records.to_vec(),
            span: Span::default(),
        }
    }

    fn history(sends: Vec<Sent>, polls: Vec<Polled>, last: &[(i64, u64)]) -> History {
        History { sends, polls, last: vec![("t-0".into(), 0, last.to_vec())], ..History::default() }
    }

    fn rule(verdict: Verdict) -> &'static str {
        verdict.err().map_or("ok", |broken| broken.rule)
    }

    #[test]
    fn a1_sees_two_values_at_one_offset() {
        let good = history(
            vec![sent(1, 0), sent(2, 1)],
            vec![polled(1, &[(0, 1), (1, 2)])],
            &[(0, 1), (1, 2)],
        );
        assert_eq!(rule(a1_one_value_per_offset(&good)), "ok");
        let bad = history(vec![sent(1, 0)], vec![polled(1, &[(0, 2)])], &[]);
        assert_eq!(rule(a1_one_value_per_offset(&bad)), "A1");
    }

    #[test]
    fn a2_sees_a_value_twice_unless_its_producer_may() {
        let bad = history(vec![sent(1, 0)], vec![], &[(0, 1), (1, 1)]);
        assert_eq!(rule(a2_no_duplicates(&bad)), "A2");
        let plain = Sent { idempotent: false, ..sent(1, 0) };
        assert_eq!(rule(a2_no_duplicates(&history(vec![plain], vec![], &[(0, 1), (1, 1)]))), "ok");
    }

    #[test]
    fn a3_sees_an_acknowledged_value_that_is_gone() {
        assert_eq!(rule(a3_nothing_lost(&history(vec![sent(1, 0)], vec![], &[(0, 1)]))), "ok");
        assert_eq!(rule(a3_nothing_lost(&history(vec![sent(1, 0)], vec![], &[]))), "I32");
        let unknown = Sent { outcome: Outcome::Unknown, ..sent(1, 0) };
        assert_eq!(rule(a3_nothing_lost(&history(vec![unknown], vec![], &[]))), "ok");
        let retained = History {
            last: vec![("t-0".into(), 5, vec![])],
            ..history(vec![sent(1, 0)], vec![], &[])
        };
        assert_eq!(rule(a3_nothing_lost(&retained)), "ok");
    }

    #[test]
    fn i4_sees_an_end_of_none_and_ends_that_go_back() {
        let check = |ends: &[(i32, i64)]| rule(i4_epochs_told("t-0", ends));
        assert_eq!(check(&[(-1, -1), (0, 3), (0, 3), (2, 9), (-1, -1)]), "ok");
        assert_eq!(check(&[(-1, 0), (0, 3)]), "I4");
        assert_eq!(check(&[(-1, -1), (1, 3)]), "I4", "above what was asked for");
        assert_eq!(check(&[(-1, -1), (0, 3), (1, 2)]), "I4");
    }

    #[test]
    fn i49_sees_a_record_with_two_times_or_none() {
        let check = |told: Option<i64>, read: i64| {
            let dated = |time, how| Dated { partition: "t-0".into(), offset: 7, time, how };
            let dated = vec![dated(told, "acknowledged"), dated(Some(read), "read")];
            rule(i49_one_time_per_offset(&History { dated, ..History::default() }))
        };
        assert_eq!(check(Some(1000), 1000), "ok");
        assert_eq!(check(Some(1003), 1000), "I49");
        assert_eq!(check(None, 1000), "I49");
    }

    #[test]
    fn a4_sees_values_from_nowhere_and_from_failed_sends() {
        assert_eq!(
            rule(a4_nothing_invented(&history(vec![], vec![polled(1, &[(0, 7)])], &[]))),
            "A4"
        );
        let failed = Sent { outcome: Outcome::Failed, ..sent(7, 0) };
        assert_eq!(
            rule(a4_nothing_invented(&history(vec![failed], vec![polled(1, &[(0, 7)])], &[]))),
            "A4"
        );
        assert_eq!(
            rule(a4_nothing_invented(&history(vec![sent(7, 0)], vec![polled(1, &[(0, 7)])], &[]))),
            "ok"
        );
    }

    #[test]
    fn a9_and_a10_see_skips_and_repeats() {
        let check = |polls: Vec<Polled>| rule(a9_contiguous_polls(&history(vec![], polls, &[])));
        assert_eq!(check(vec![polled(1, &[(0, 1), (1, 2)]), polled(1, &[(2, 3)])]), "ok");
        assert_eq!(check(vec![polled(1, &[(0, 1), (2, 2)])]), "A9");
        assert_eq!(check(vec![polled(1, &[(0, 1)]), polled(1, &[(2, 2)])]), "A10");
        assert_eq!(check(vec![polled(1, &[(0, 1)]), polled(1, &[(0, 1)])]), "A10");
        assert_eq!(check(vec![polled(1, &[(0, 1)]), polled(2, &[(7, 2)])]), "ok", "after a seek");
    }

    #[test]
    fn a11_sees_sends_out_of_order() {
        assert_eq!(
            rule(a11_monotonic_sends(&history(vec![sent(1, 0), sent(2, 1)], vec![], &[]))),
            "ok"
        );
        assert_eq!(
            rule(a11_monotonic_sends(&history(vec![sent(1, 4), sent(2, 1)], vec![], &[]))),
            "A11"
        );
    }

    #[test]
    fn i18_sees_what_was_read_and_went() {
        let check = |last: &[(i64, u64)]| {
            rule(i18_read_stays(&history(vec![], vec![polled(1, &[(0, 1)])], last), |_| false))
        };
        assert_eq!(check(&[(0, 1)]), "ok");
        assert_eq!(check(&[]), "I18");
    }

    #[test]
    fn i23_and_i31_watch_the_ends_told() {
        let told = |end, from, to| EndTold {
            partition: "t-0".into(),
            end,
            start: 0,
            span: Span { from, to },
        };
        let ends = |ends: Vec<EndTold>| History { ends, ..history(vec![sent(1, 3)], vec![], &[]) };
        let check = |list: Vec<EndTold>| rule(i23_ends_told(&ends(list), |_| false, 0));
        assert_eq!(check(vec![told(5, 0, 1), told(6, 2, 3)]), "ok");
        assert_eq!(check(vec![told(5, 0, 1), told(4, 2, 3)]), "I23");
        assert_eq!(check(vec![told(5, 0, 4), told(4, 2, 3)]), "ok", "they overlap");
        let check =
            |list: Vec<EndTold>| rule(i31_acknowledged_is_committed(&ends(list), |_| false, 0));
        assert_eq!(check(vec![told(4, 9, 10)]), "ok");
        assert_eq!(check(vec![told(3, 9, 10)]), "I31");
        assert_eq!(check(vec![told(3, 1, 10)]), "ok", "asked before the answer");
        let stale = ends(vec![told(3, 9, 10)]);
        assert_eq!(rule(i31_acknowledged_is_committed(&stale, |_| false, 7)), "ok");
        assert_eq!(rule(i31_acknowledged_is_committed(&stale, |_| false, 6)), "I31");
    }

    #[test]
    fn i36_watches_what_fetches_tell() {
        let check = |watermark, from, staleness| {
            let span = Span { from, to: from + 1 };
            let fetched = vec![("t-0".into(), watermark, span)];
            let told = EndTold {
                partition: "t-0".into(),
                end: 6,
                start: 0,
                span: Span { from: 20, to: 21 },
            };
            let history =
                History { fetched, ends: vec![told], ..history(vec![sent(1, 3)], vec![], &[]) };
            rule(i36_fetches_are_fresh(&history, staleness))
        };
        assert_eq!(check(4, 9, 0), "ok");
        assert_eq!(check(3, 9, 0), "I36");
        assert_eq!(check(3, 9, 7), "ok");
        assert_eq!(check(5, 30, 0), "I36", "another was told more");
        assert_eq!(check(6, 30, 0), "ok");
    }

    #[test]
    fn i39_and_i44_watch_lists_of_topics() {
        let span = |from, to| Span { from, to };
        let life = |id, from, deleted| TopicLife {
            name: "t".into(),
            id: Some(id),
            created: (span(from, from + 2), Outcome::Ok(())),
            deleted,
            lingers: false,
        };
        let told = |at, id: Option<u128>| TopicsTold {
            topics: id.into_iter().map(|id| ("t".into(), Some(id))).collect(),
            span: span(at, at + 2),
        };
        let check = |topics: &[TopicLife], told: TopicsTold| {
            let (topics, topics_told) = (topics.to_vec(), vec![told]);
            rule(i39_topics(&History { topics, topics_told, ..History::default() }))
        };
        let created = [life(7, 10, None)];
        assert_eq!(check(&created, told(20, Some(7))), "ok");
        assert_eq!(check(&created, told(20, None)), "I39");
        assert_eq!(check(&created, told(11, None)), "ok", "asked before the answer");
        assert_eq!(check(&created, told(20, Some(8))), "I44");
        let nameless =
            TopicsTold { topics: BTreeMap::from([("t".into(), None)]), ..told(20, None) };
        assert_eq!(check(&created, nameless), "ok", "an old version tells no identity");
        let deleted = [life(7, 10, Some((span(30, 32), Outcome::Ok(()))))];
        assert_eq!(check(&deleted, told(20, None)), "I39", "before its deletion");
        assert_eq!(check(&deleted, told(31, None)), "ok");
        assert_eq!(check(&deleted, told(40, None)), "ok");
        assert_eq!(check(&deleted, told(40, Some(7))), "I39");
        let [first] = deleted;
        let lives = [first, life(8, 50, None)];
        assert_eq!(check(&lives, told(60, Some(8))), "ok");
        assert_eq!(check(&lives, told(60, None)), "I39");
        let mut doomed = lives.clone();
        doomed[0].lingers = true;
        assert_eq!(check(&doomed, told(60, None)), "ok", "an old deletion may have arrived");
        assert_eq!(check(&[life(7, 10, None), life(7, 50, None)], told(1, None)), "I44");
    }

    #[test]
    fn i44_sees_a_session_that_reads_on_in_another_topic() {
        let check = |answered: &[(i32, i16)]| {
            rule(i44_told_of_successor("t", 2, &answered.iter().copied().collect()))
        };
        assert_eq!(check(&[(0, 3), (1, 3)]), "ok");
        assert_eq!(check(&[(0, 3), (1, 0)]), "I44");
        assert_eq!(check(&[(0, 3)]), "I44", "nothing is said of the other partition");
    }

    #[test]
    fn i45_sees_a_producer_id_twice() {
        let ids = History { producers: vec![(1, 0), (2, 0), (1, 0)], ..History::default() };
        assert_eq!(rule(i45_producer_ids(&ids)), "I45");
    }
}
