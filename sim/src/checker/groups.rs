//! Rules of groups that a client can see: I65 to I72, A13, L7. What the coordinator's log says is compared with what it
//! tells in `node::memory` (I64).
//!
//! A group that is empty and has no offsets left is forgotten, and a successor of its name counts its generations from
//! the start. Where a run's settings allow that ([`Lives::may_be_forgotten`]), rules that compare two moments ask
//! whether the group is known to have had members in between ([`Lives::is_live`]); elsewhere they hold without an if.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::checker::{Verdict, require};
use crate::history::{Committed, Granted, History, Outcome, Partition};

/// When groups are known to have had members. The broker gives a member id once, so whoever was granted partitions under
/// an id and had a commit accepted under it later was a member all the time in between.
pub struct Lives {
    /// Whether a group without members may lose its offsets, and its name, within the run.
    may_be_forgotten: bool,
    /// Disjoint intervals in order, by group.
    known: BTreeMap<Arc<str>, Vec<(u64, u64)>>,
}

impl Lives {
    /// What `history` proves.
    pub fn of(history: &History, may_be_forgotten: bool) -> Lives {
        type Member<'a> = (&'a Arc<str>, &'a Arc<str>);
        let mut members: BTreeMap<Member, (u64, u64)> = BTreeMap::new();
        for grant in &history.grants {
            members.entry((&grant.group, &grant.member)).or_insert((grant.at, grant.at));
        }
        for commit in history.commits.iter().filter(|commit| commit.outcome == Outcome::Ok(())) {
            if let Some((_, proven)) = members.get_mut(&(&commit.group, &commit.member)) {
                // It was accepted after it was asked for, nobody knows when.
                *proven = commit.span.from.max(*proven);
            }
        }
        let mut all: Vec<_> =
            members.into_iter().map(|((group, _), (from, to))| (group, from, to)).collect();
        all.sort();
        let mut known: BTreeMap<Arc<str>, Vec<(u64, u64)>> = BTreeMap::new();
        for (group, from, to) in all {
            let of_group = known.entry(group.clone()).or_default();
            match of_group.last_mut() {
                Some((_, end)) if from <= *end => *end = to.max(*end),
                _ => of_group.push((from, to)),
            }
        }
        Lives { may_be_forgotten, known }
    }

    /// Whether the group surely had members all the time.
    pub fn is_live(&self, group: &str, from: u64, to: u64) -> bool {
        let known = self.known.get(group).into_iter().flatten();
        known.into_iter().any(|(begin, end)| *begin <= from && to <= *end)
    }

    /// Whether the group may have been forgotten, and begun anew, between two moments.
    fn may_be_another(&self, group: &str, one: u64, other: u64) -> bool {
        self.may_be_forgotten && !self.is_live(group, one.min(other), one.max(other))
    }
}

/// Who a grant is to. A static member that comes back takes its own place, and its predecessor is fenced (I72).
fn taker(grant: &Granted) -> &Arc<str> {
    grant.instance.as_ref().unwrap_or(&grant.member)
}

/// I66 and A15: within one generation a partition has one owner.
pub fn i66_one_owner(history: &History, lives: &Lives) -> Verdict {
    let mut owners: BTreeMap<(&Arc<str>, i32, &Partition), &Granted> = BTreeMap::new();
    for grant in &history.grants {
        for partition in &grant.partitions {
            let key = (&grant.group, grant.generation, partition);
            let Some(before) = owners.insert(key, grant) else { continue };
            let (owner, taker) = (taker(before), taker(grant));
            let fits = owner == taker || lives.may_be_another(&grant.group, before.at, grant.at);
            require("I66", fits, || {
                format!(
                    "group {} generation {}: {partition} belongs to {owner} and to {taker}",
                    grant.group, grant.generation
                )
            })?;
        }
    }
    Ok(())
}

/// I65: generations rise. A member, which has its id for good, never sees its group's generation go back, and if it joins
/// again within one it is given the same. A consumer is given no generation older than one that was known to anybody
/// before that consumer began.
pub fn i65_generations_rise(history: &History, lives: &Lives) -> Verdict {
    let mut newest: BTreeMap<(&Arc<str>, &Arc<str>), &Granted> = BTreeMap::new();
    for grant in &history.grants {
        require("I65", !grant.member.is_empty(), || format!("a grant to nobody: {grant:?}"))?;
        let before = newest.insert((&grant.group, &grant.member), grant);
        let fits = before.is_none_or(|before| {
            before.generation < grant.generation
                || (before.generation == grant.generation && before.partitions == grant.partitions)
        });
        require("I65", fits, || format!("group {}: after {before:?} came {grant:?}", grant.group))?;
        let newer = history.grants.iter().find(|other| {
            other.group == grant.group
                && other.at < grant.born
                && other.generation > grant.generation
                && !lives.may_be_another(&grant.group, other.at, grant.at)
        });
        require("I65", newer.is_none(), || format!("{grant:?} goes back behind {newer:?}"))?;
    }
    Ok(())
}

/// What clocks may differ over one session, in nanoseconds: 45 s at 1,000 ppm (C2), rounded up.
const SESSION_SLACK: u64 = 50_000_000;

/// I67: nobody reads a partition that has passed to another: whoever owned it has let go, has left, or knows by its own
/// clock that it is fenced.
pub fn i67_let_go_first(history: &History) -> Verdict {
    let mut of_consumer: BTreeMap<u32, Vec<&Granted>> = BTreeMap::new();
    for grant in &history.grants {
        of_consumer.entry(grant.consumer).or_default().push(grant);
    }
    for poll in &history.polls {
        let Some(grants) = of_consumer.get(&poll.consumer) else { continue };
        let now = poll.span.to;
        let own = grants.iter().rev().find(|grant| grant.at <= now);
        let Some(own) = own.filter(|own| own.partitions.contains(&poll.partition)) else {
            return require("I67", false, || {
                format!(
                    "consumer {} reads {} at {now} and owns {own:?}",
                    poll.consumer, poll.partition
                )
            });
        };
        let passed = history.grants.iter().find(|other| {
            other.group == own.group
                && taker(other) != taker(own)
                && other.generation > own.generation
                && other.at >= own.at
                && other.at + SESSION_SLACK <= now
                && other.partitions.contains(&poll.partition)
        });
        require("I67", passed.is_none(), || {
            format!("{} of {own:?} is read at {now}, after {passed:?}", poll.partition)
        })?;
    }
    Ok(())
}

/// I68: what the members of one generation own covers each of `partitions` once.
pub fn i68_all_covered(owned: &[Granted], partitions: &BTreeSet<Partition>) -> Verdict {
    let mut covered: Vec<&Partition> = owned.iter().flat_map(|grant| &grant.partitions).collect();
    covered.sort();
    let wanted: Vec<&Partition> = partitions.iter().collect();
    require("I68", covered == wanted, || {
        format!("{covered:?} of {wanted:?} are covered by {owned:?}")
    })
}

/// A group as its coordinator describes it: state, and members with their static names.
pub struct Described {
    /// By Kafka's names.
    pub state: String,
    /// Id and static name.
    pub members: Vec<(String, Option<String>)>,
}

/// L7, I72: the group is stable, it consists of exactly those who live, and all of them are in one generation. `seats`
/// has what each living member owns, `None` if it owns nothing yet. Answers the grants, or what is still missing.
pub fn l7_settled(
    described: &Described,
    seats: &[Option<Granted>],
) -> Result<Vec<Granted>, String> {
    let Some(grants) = seats.iter().cloned().collect::<Option<Vec<Granted>>>() else {
        return Err(format!("a member owns nothing: {seats:?}"));
    };
    let live: BTreeSet<&str> = grants.iter().map(|grant| &*grant.member).collect();
    let members: BTreeSet<&str> = described.members.iter().map(|(id, _)| id.as_str()).collect();
    if described.state != "Stable" || live != members || live.len() != described.members.len() {
        return Err(format!(
            "{} with members {members:?}, of which {live:?} live",
            described.state
        ));
    }
    let named: Vec<&String> =
        described.members.iter().filter_map(|(_, name)| name.as_ref()).collect();
    if named.iter().collect::<BTreeSet<_>>().len() != named.len() {
        return Err(format!("two members with one name: {named:?}"));
    }
    if grants.iter().any(|grant| grant.generation != grants[0].generation) {
        return Err(format!("in several generations: {grants:?}"));
    }
    Ok(grants)
}

/// I70: a group's offset is a register: a read answers a write that can have been the last one. A write whose outcome is
/// unknown may count, now or later, or never. I71: while the group is live its register is not emptied.
pub fn i70_register(history: &History, lives: &Lives) -> Verdict {
    for read in &history.reads {
        let writes: Vec<&Committed> = history
            .commits
            .iter()
            .filter(|w| {
                w.group == read.group
                    && w.partition == read.partition
                    && w.outcome != Outcome::Failed
            })
            .collect();
        // A certain write that ended before the read began and that nothing certain has followed in time.
        let certain = |w: &&&Committed| w.outcome == Outcome::Ok(()) && w.span.to < read.span.from;
        let newest_begin = writes.iter().filter(certain).map(|w| w.span.from).max();
        let allowed = |w: &&&Committed| {
            let begun = w.span.from < read.span.to;
            // An unknown write may take effect at any time after it began.
            let ended =
                if w.lingers || w.outcome == Outcome::Unknown { u64::MAX } else { w.span.to };
            begun && newest_begin.is_none_or(|newest| ended >= newest)
        };
        let last = || -> Vec<_> {
            writes.iter().rev().take(4).map(|w| (w.offset, w.span, w.outcome)).collect()
        };
        match (read.offset, newest_begin) {
            (Some(offset), _) => {
                require("I70", writes.iter().filter(allowed).any(|w| w.offset == offset), || {
                    format!(
                        "group {} reads offset {offset} of {} at {:?}; its last writes were {:?}",
                        read.group,
                        read.partition,
                        read.span,
                        last()
                    )
                })?;
            }
            (None, None) => {}
            (None, Some(newest)) => {
                let expired = lives.may_be_another(&read.group, newest, read.span.to);
                let rule = if lives.may_be_forgotten { "I71" } else { "I70" };
                require(rule, expired, || {
                    format!(
                        "group {} has no offset of {} at {:?}; its last writes were {:?}",
                        read.group,
                        read.partition,
                        read.span,
                        last()
                    )
                })?;
            }
        }
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
    use crate::history::{OffsetRead, Polled, Span};

    fn grant(generation: i32, member: &str, partitions: &[&str]) -> Granted {
        Granted {
            group: "g".into(),
            generation,
            consumer: member.bytes().map(u32::from).sum(),
            born: 0,
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
            member: "a".into(),
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

    fn with(grants: Vec<Granted>) -> History {
        History { grants, ..History::default() }
    }

    /// Where groups are never forgotten.
    fn strict(history: &History) -> Lives {
        Lives::of(history, false)
    }

    #[test]
    fn i65_i66_i68_watch_assignments() {
        let i65 = |history: &History| rule(i65_generations_rise(history, &strict(history)));
        let i66 = |history: &History| rule(i66_one_owner(history, &strict(history)));
        let good = with(vec![
            grant(1, "a", &["t-0", "t-1"]),
            grant(2, "a", &["t-0"]),
            grant(2, "b", &["t-1"]),
        ]);
        assert_eq!(i66(&good), "ok");
        assert_eq!(i65(&good), "ok");
        let all = BTreeSet::from(["t-0".into(), "t-1".into()]);
        assert_eq!(rule(i68_all_covered(&good.grants[1..], &all)), "ok");
        assert_eq!(rule(i68_all_covered(&good.grants[2..], &all)), "I68");
        let named = |member| Granted { instance: Some("x".into()), ..grant(2, member, &["t-0"]) };
        assert_eq!(i66(&with(vec![named("x-1"), named("x-2")])), "ok");
        let double = with(vec![grant(2, "a", &["t-0"]), grant(2, "b", &["t-0"])]);
        assert_eq!(i66(&double), "I66");
        assert_eq!(rule(i68_all_covered(&double.grants, &all)), "I68");
        let again = with(vec![grant(2, "a", &["t-0"]), grant(2, "a", &["t-0"])]);
        assert_eq!(i65(&again), "ok");
        let other = with(vec![grant(2, "a", &["t-0"]), grant(2, "a", &["t-1"])]);
        assert_eq!(i65(&other), "I65");
        let back = with(vec![grant(2, "a", &[]), grant(1, "a", &[])]);
        assert_eq!(i65(&back), "I65");
        assert_eq!(i65(&with(vec![grant(2, "", &[])])), "I65");
        let born = |born| Granted { born, at: 20, ..grant(1, "b", &[]) };
        let known = Granted { at: 10, ..grant(2, "a", &[]) };
        assert_eq!(i65(&with(vec![known.clone(), born(5)])), "ok", "it may have learnt late");
        assert_eq!(i65(&with(vec![known, born(15)])), "I65");
    }

    #[test]
    fn i66_a_group_that_was_forgotten_counts_anew() {
        let at = |member, at| Granted { at, ..grant(1, member, &["t-0"]) };
        let mut history = with(vec![at("a", 10), at("b", 50)]);
        let check = |history: &History| rule(i66_one_owner(history, &Lives::of(history, true)));
        assert_eq!(check(&history), "ok", "all may have left in between");
        history.commits = vec![write(5, 60, 61, Outcome::Ok(()))];
        assert_eq!(check(&history), "I66", "a was there all the time");
        history.commits = vec![write(5, 60, 61, Outcome::Unknown)];
        assert_eq!(check(&history), "ok", "what may have failed proves nothing");
    }

    #[test]
    fn i67_sees_who_reads_on() {
        let at = |generation, member, at| Granted { at, ..grant(generation, member, &["t-0"]) };
        let read = |member: &str, to| Polled {
            consumer: grant(0, member, &[]).consumer,
            turn: 0,
            partition: "t-0".into(),
            records: vec![(0, 1)],
            span: Span { from: 0, to },
        };
        let check = |grants: Vec<Granted>, polls: Vec<Polled>| {
            rule(i67_let_go_first(&History { grants, polls, ..History::default() }))
        };
        let late = 100 + SESSION_SLACK;
        let passed = vec![at(1, "a", 10), at(2, "b", 100)];
        assert_eq!(check(passed.clone(), vec![read("a", 99), read("b", late)]), "ok");
        assert_eq!(check(passed.clone(), vec![read("a", late)]), "I67");
        let back = [passed, vec![at(3, "a", 200)]].concat();
        assert_eq!(check(back, vec![read("a", late)]), "ok");
        let learnt_late = vec![at(2, "a", 10), at(1, "b", 100)];
        assert_eq!(check(learnt_late, vec![read("a", late)]), "ok");
        let nothing = vec![grant(1, "a", &["t-1"])];
        assert_eq!(check(nothing, vec![read("a", 10)]), "I67");
    }

    #[test]
    fn l7_wants_those_who_live_and_no_others() {
        let described = |state: &str, members: &[&str]| Described {
            state: state.into(),
            members: members.iter().map(|id| ((*id).to_owned(), None)).collect(),
        };
        let seats = [Some(grant(2, "a", &["t-0"])), Some(grant(2, "b", &["t-1"]))];
        let check = |described: &Described, seats: &[Option<Granted>]| {
            l7_settled(described, seats).map(|grants| grants.len()).unwrap_or(0)
        };
        assert_eq!(check(&described("Stable", &["a", "b"]), &seats), 2);
        assert_eq!(check(&described("PreparingRebalance", &["a", "b"]), &seats), 0);
        assert_eq!(check(&described("Stable", &["a", "b", "ghost"]), &seats), 0);
        assert_eq!(check(&described("Empty", &[]), &seats), 0);
        assert_eq!(check(&described("Stable", &["a", "b"]), &[seats[0].clone(), None]), 0);
        let apart = [seats[0].clone(), Some(grant(3, "b", &["t-1"]))];
        assert_eq!(check(&described("Stable", &["a", "b"]), &apart), 0);
        let name = Some("same".to_owned());
        let twins = Described {
            state: "Stable".into(),
            members: vec![("a".into(), name.clone()), ("b".into(), name)],
        };
        assert_eq!(check(&twins, &seats), 0);
    }

    #[test]
    fn i71_a_live_group_keeps_its_offsets() {
        let check = |last_proof| {
            let commits = vec![
                write(5, 20, 21, Outcome::Ok(())),
                write(0, last_proof, last_proof + 1, Outcome::Ok(())),
            ];
            let grants = vec![Granted { at: 10, ..grant(1, "a", &["t-0"]) }];
            let reads = vec![read(None, 30, 31)];
            let history = History { grants, commits, reads, ..History::default() };
            rule(i70_register(&history, &Lives::of(&history, true)))
        };
        assert_eq!(check(40), "I71");
        assert_eq!(check(25), "ok", "it may have been empty when its offset was read");
    }

    #[test]
    fn i70_a_register_answers_its_last_write() {
        let check = |commits: Vec<Committed>, reads: Vec<OffsetRead>| {
            let history = History { commits, reads, ..History::default() };
            rule(i70_register(&history, &strict(&history)))
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
