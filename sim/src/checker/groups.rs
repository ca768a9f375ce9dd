//! Rules of groups that a client can see: I64 to I66, I68, I70, I71, A13, A15.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::checker::{Verdict, require};
use crate::history::{Granted, History, Outcome, Partition};

/// I66 and A15: within one generation a partition has one owner.
pub fn i66_one_owner(history: &History) -> Verdict {
    let mut owners: BTreeMap<(&Arc<str>, i32, &Partition), &Arc<str>> = BTreeMap::new();
    for grant in &history.grants {
        for partition in &grant.partitions {
            // A static member that comes back takes its own place, and its predecessor is fenced (I72).
            let taker = grant.instance.as_ref().unwrap_or(&grant.member);
            let owner = owners.entry((&grant.group, grant.generation, partition)).or_insert(taker);
            require("I66", *owner == taker, || {
                format!(
                    "group {} generation {}: {partition} belongs to {owner} and to {taker}",
                    grant.group, grant.generation
                )
            })?;
        }
    }
    Ok(())
}

/// I65: a member never sees its group's generation go back; if it joins again within one, it is given the same.
pub fn i65_generations_rise(history: &History) -> Verdict {
    let mut newest: BTreeMap<(&Arc<str>, &Arc<str>), &Granted> = BTreeMap::new();
    for grant in &history.grants {
        let before = newest.insert((&grant.group, &grant.member), grant);
        let fits = before.is_none_or(|before| {
            before.generation < grant.generation
                || (before.generation == grant.generation && before.partitions == grant.partitions)
        });
        require("I65", fits, || format!("group {}: after {before:?} came {grant:?}", grant.group))?;
    }
    Ok(())
}

/// I68: the last generation of a group covers each of `partitions` once.
pub fn i68_all_covered(
    history: &History,
    group: &str,
    partitions: &BTreeSet<Partition>,
) -> Verdict {
    let last = history
        .grants
        .iter()
        .filter(|grant| &*grant.group == group)
        .map(|grant| grant.generation)
        .max();
    let mut covered: Vec<&Partition> = history
        .grants
        .iter()
        .filter(|grant| &*grant.group == group && Some(grant.generation) == last)
        .flat_map(|grant| &grant.partitions)
        .collect();
    covered.sort();
    let wanted: Vec<&Partition> = partitions.iter().collect();
    require("I68", covered == wanted, || {
        format!("group {group} generation {last:?} covers {covered:?} of {wanted:?}")
    })
}

/// I70, I64, I71: a group's offset is a register: a read answers a write that can have been the last one. A write whose
/// outcome is unknown may count, now or later, or never.
pub fn i70_register(history: &History) -> Verdict {
    for read in &history.reads {
        let writes: Vec<_> = history
            .commits
            .iter()
            .filter(|w| {
                w.group == read.group
                    && w.partition == read.partition
                    && w.outcome != Outcome::Failed
            })
            .collect();
        // A certain write that ended before the read began and that nothing certain has followed in time.
        let certain = |w: &&&crate::history::Committed| {
            w.outcome == Outcome::Ok(()) && w.span.to < read.span.from
        };
        let newest_begin = writes.iter().filter(certain).map(|w| w.span.from).max();
        let allowed = |w: &&&crate::history::Committed| {
            let begun = w.span.from < read.span.to;
            // An unknown write may take effect at any time after it began.
            let ended =
                if w.lingers || w.outcome == Outcome::Unknown { u64::MAX } else { w.span.to };
            begun && newest_begin.is_none_or(|newest| ended >= newest)
        };
        let fits = match read.offset {
            Some(offset) => writes.iter().filter(allowed).any(|w| w.offset == offset),
            None => newest_begin.is_none(),
        };
        require("I70", fits, || {
            let last: Vec<_> =
                writes.iter().rev().take(4).map(|w| (w.offset, w.span, w.outcome)).collect();
            format!(
                "group {} reads offset {:?} of {} at {:?}; its last writes were {last:?}",
                read.group, read.offset, read.partition, read.span
            )
        })?;
    }
    Ok(())
}

/// A13: no commit goes beyond what the group's consumers have polled.
pub fn a13_commit_within_polled(
    history: &History,
    consumers_of: &BTreeMap<u32, Arc<str>>,
) -> Verdict {
    let mut polled: BTreeMap<(&str, &Partition), i64> = BTreeMap::new();
    for poll in &history.polls {
        let Some(group) = consumers_of.get(&poll.consumer) else { continue };
        let end = poll.records.last().map_or(0, |(offset, _)| offset + 1);
        let place = polled.entry((group, &poll.partition)).or_default();
        *place = end.max(*place);
    }
    for commit in history.commits.iter().filter(|commit| commit.outcome == Outcome::Ok(())) {
        let end = polled.get(&(&*commit.group, &commit.partition)).copied().unwrap_or(0);
        // A consumer that found nothing to read may commit the position it began at.
        let began = history
            .reads
            .iter()
            .any(|r| r.group == commit.group && r.offset == Some(commit.offset));
        require("A13", commit.offset <= end || began, || {
            format!(
                "group {} committed {} of {}, polled up to {end}",
                commit.group, commit.offset, commit.partition
            )
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Committed, OffsetRead, Polled, Span};

    fn grant(generation: i32, member: &str, partitions: &[&str]) -> Granted {
        Granted {
            group: "g".into(),
            generation,
            member: member.into(),
            instance: None,
            partitions: partitions.iter().map(|p| (*p).into()).collect(),
            at: 0,
        }
    }

    fn write(offset: i64, from: u64, to: u64, outcome: Outcome<()>) -> Committed {
        let span = Span { from, to };
        Committed {
            group: "g".into(),
            partition: "t-0".into(),
            offset,
            span,
            outcome,
            lingers: false,
        }
    }

    fn read(offset: Option<i64>, from: u64, to: u64) -> OffsetRead {
        OffsetRead { group: "g".into(), partition: "t-0".into(), offset, span: Span { from, to } }
    }

    fn rule(verdict: Verdict) -> &'static str {
        verdict.err().map_or("ok", |broken| broken.rule)
    }

    #[test]
    fn i65_i66_i68_watch_assignments() {
        let with = |grants: Vec<Granted>| History { grants, ..History::default() };
        let good = with(vec![
            grant(1, "a", &["t-0", "t-1"]),
            grant(2, "a", &["t-0"]),
            grant(2, "b", &["t-1"]),
        ]);
        assert_eq!(rule(i66_one_owner(&good)), "ok");
        assert_eq!(rule(i65_generations_rise(&good)), "ok");
        let all = BTreeSet::from(["t-0".into(), "t-1".into()]);
        assert_eq!(rule(i68_all_covered(&good, "g", &all)), "ok");
        let named = |member| Granted { instance: Some("x".into()), ..grant(2, member, &["t-0"]) };
        assert_eq!(rule(i66_one_owner(&with(vec![named("x-1"), named("x-2")]))), "ok");
        let double = with(vec![grant(2, "a", &["t-0"]), grant(2, "b", &["t-0"])]);
        assert_eq!(rule(i66_one_owner(&double)), "I66");
        assert_eq!(rule(i68_all_covered(&double, "g", &all)), "I68");
        let again = with(vec![grant(2, "a", &["t-0"]), grant(2, "a", &["t-0"])]);
        assert_eq!(rule(i65_generations_rise(&again)), "ok");
        let other = with(vec![grant(2, "a", &["t-0"]), grant(2, "a", &["t-1"])]);
        assert_eq!(rule(i65_generations_rise(&other)), "I65");
        let back = with(vec![grant(2, "a", &[]), grant(1, "a", &[])]);
        assert_eq!(rule(i65_generations_rise(&back)), "I65");
    }

    #[test]
    fn i70_a_register_answers_its_last_write() {
        let check = |commits: Vec<Committed>, reads: Vec<OffsetRead>| {
            rule(i70_register(&History { commits, reads, ..History::default() }))
        };
        let ok = Outcome::Ok(());
        assert_eq!(check(vec![write(5, 0, 1, ok)], vec![read(Some(5), 2, 3)]), "ok");
        assert_eq!(check(vec![write(5, 0, 1, ok)], vec![read(None, 2, 3)]), "I70");
        assert_eq!(
            check(vec![write(5, 0, 1, ok), write(6, 2, 3, ok)], vec![read(Some(5), 4, 5)]),
            "I70"
        );
        assert_eq!(
            check(vec![write(5, 0, 1, ok), write(6, 2, 9, ok)], vec![read(Some(5), 4, 5)]),
            "ok"
        );
        assert_eq!(
            check(vec![write(5, 0, 1, ok), write(6, 2, 9, ok)], vec![read(Some(6), 4, 5)]),
            "ok"
        );
        assert_eq!(check(vec![write(5, 0, 1, Outcome::Unknown)], vec![read(None, 4, 5)]), "ok");
        let late = vec![write(5, 0, 1, Outcome::Unknown), write(6, 2, 3, ok)];
        assert_eq!(check(late, vec![read(Some(5), 4, 5)]), "ok", "it may arrive late");
        assert_eq!(check(vec![write(5, 0, 1, Outcome::Failed)], vec![read(Some(5), 4, 5)]), "I70");
    }

    #[test]
    fn a13_sees_a_commit_of_what_nobody_read() {
        let poll = Polled {
            consumer: 1,
            turn: 0,
            partition: "t-0".into(),
            records: vec![(0, 1), (1, 2)],
            span: Span::default(),
        };
        let groups = BTreeMap::from([(1, "g".into())]);
        let check = |offset| {
            let commits = vec![write(offset, 0, 1, Outcome::Ok(()))];
            let history = History { commits, polls: vec![poll.clone()], ..History::default() };
            rule(a13_commit_within_polled(&history, &groups))
        };
        assert_eq!(check(2), "ok");
        assert_eq!(check(3), "A13");
    }
}
