//! Who in a classic group gets which partition: computed by the member that leads the group.
//!
//! Pure functions: the same members, subscriptions and partition counts give the same assignment in every client.
//! Each partition of a subscribed topic goes to exactly one member that subscribes to it (I68).

use std::collections::{BTreeMap, BTreeSet};

use types::{MemberId, PartitionIndex, TopicName, TopicPartition};

/// A way to share partitions out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AssignorKind {
    /// Per topic, each member gets a run of consecutive partitions.
    Range,
    /// All partitions of all topics, dealt out one by one.
    RoundRobin,
    /// As even as round-robin, but members keep what they have where that is possible.
    Sticky,
}

impl AssignorKind {
    /// Its name in the group protocol, shared with Kafka's own clients.
    pub const fn name(self) -> &'static str {
        match self {
            AssignorKind::Range => "range",
            AssignorKind::RoundRobin => "roundrobin",
            AssignorKind::Sticky => "sticky",
        }
    }

    /// The assignor of that name.
    pub fn from_name(name: &str) -> Option<AssignorKind> {
        [AssignorKind::Range, AssignorKind::RoundRobin, AssignorKind::Sticky]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// What an assignor knows of a member.
#[derive(Clone, Default, Debug)]
pub struct AssignorMember {
    /// The name of a static member.
    pub instance_id: Option<String>,
    /// What it subscribes to.
    pub topics: BTreeSet<TopicName>,
    /// What it had, and under which generation: for the sticky assignor.
    pub owned: Vec<TopicPartition>,
    /// The generation that gave it `owned`.
    pub generation: Option<i32>,
}

/// Members by id.
pub type Members = BTreeMap<MemberId, AssignorMember>;

/// Partitions by member; every member has an entry.
pub type Assignment = BTreeMap<MemberId, Vec<TopicPartition>>;

/// Shares out the partitions of `topics` (their counts) among `members`.
pub fn assign(
    kind: AssignorKind,
    members: &Members,
    topics: &BTreeMap<TopicName, usize>,
) -> Assignment {
    let mut assignment: Assignment =
        members.keys().map(|member| (member.clone(), Vec::new())).collect();
    match kind {
        AssignorKind::Range => range(members, topics, &mut assignment),
        AssignorKind::RoundRobin => round_robin(members, topics, &mut assignment),
        AssignorKind::Sticky => sticky(members, topics, &mut assignment),
    }
    assignment
}

/// Members in Kafka's order: static ones by instance id, then the others by member id.
fn in_order(members: &Members) -> Vec<&MemberId> {
    let mut order: Vec<&MemberId> = members.keys().collect();
    order.sort_by_key(|id| {
        let instance = members[*id].instance_id.as_ref();
        (instance.is_none(), instance, *id)
    });
    order
}

fn partitions_of(topic: &TopicName, count: usize) -> impl Iterator<Item = TopicPartition> + '_ {
    (0..count as i32)
        .map(|index| TopicPartition { topic: topic.clone(), partition: PartitionIndex(index) })
}

fn range(members: &Members, topics: &BTreeMap<TopicName, usize>, assignment: &mut Assignment) {
    let order = in_order(members);
    for (topic, &count) in topics {
        let takers: Vec<_> =
            order.iter().filter(|member| members[**member].topics.contains(topic)).collect();
        if takers.is_empty() {
            continue;
        }
        let (each, extra) = (count / takers.len(), count % takers.len());
        let mut partitions = partitions_of(topic, count);
        for (index, member) in takers.into_iter().enumerate() {
            let share = each + usize::from(index < extra);
            give(assignment, member).extend(partitions.by_ref().take(share));
        }
    }
}

fn round_robin(
    members: &Members,
    topics: &BTreeMap<TopicName, usize>,
    assignment: &mut Assignment,
) {
    let order = in_order(members);
    let mut next = 0;
    for (topic, &count) in topics {
        if !members.values().any(|member| member.topics.contains(topic)) {
            continue;
        }
        for partition in partitions_of(topic, count) {
            while !members[order[next % order.len()]].topics.contains(topic) {
                next += 1;
            }
            give(assignment, order[next % order.len()]).push(partition);
            next += 1;
        }
    }
}

/// Keeps what members had, gives the rest to whoever has least, then evens out.
fn sticky(members: &Members, topics: &BTreeMap<TopicName, usize>, assignment: &mut Assignment) {
    let mut owner = previous_owners(members, topics);
    for (partition, member) in &owner {
        give(assignment, member).push(partition.clone());
    }
    for (topic, &count) in topics {
        for partition in partitions_of(topic, count) {
            if owner.contains_key(&partition) {
                continue;
            }
            let taker =
                takers(members, topic).min_by_key(|member| (load(assignment, member), *member));
            if let Some(member) = taker {
                give(assignment, member).push(partition.clone());
                owner.insert(partition, member.clone());
            }
        }
    }
    even_out(members, topics, &mut owner, assignment);
    for partitions in assignment.values_mut() {
        partitions.sort();
    }
}

/// The partitions that still exist, with the member of the newest generation that had them and still wants them.
fn previous_owners(
    members: &Members,
    topics: &BTreeMap<TopicName, usize>,
) -> BTreeMap<TopicPartition, MemberId> {
    let mut owners: BTreeMap<TopicPartition, (i32, MemberId)> = BTreeMap::new();
    for (id, member) in members {
        let generation = member.generation.unwrap_or(-1);
        for partition in &member.owned {
            let count = topics.get(&partition.topic).copied().unwrap_or(0);
            let exists = (0..count as i32).contains(&partition.partition.0);
            if !exists || !member.topics.contains(&partition.topic) {
                continue;
            }
            let entry = owners.entry(partition.clone());
            let best = entry.or_insert_with(|| (generation, id.clone()));
            if generation > best.0 {
                *best = (generation, id.clone());
            }
        }
    }
    owners.into_iter().map(|(partition, (_, member))| (partition, member)).collect()
}

/// Moves partitions from members with many to members with at least two fewer. Each move makes the sum of squares of
/// the loads smaller, so this ends.
fn even_out(
    members: &Members,
    topics: &BTreeMap<TopicName, usize>,
    owner: &mut BTreeMap<TopicPartition, MemberId>,
    assignment: &mut Assignment,
) {
    loop {
        let mut moved = false;
        for (topic, &count) in topics {
            for partition in partitions_of(topic, count) {
                let Some(from) = owner.get(&partition).cloned() else { continue };
                let taker =
                    takers(members, topic).min_by_key(|member| (load(assignment, member), *member));
                let Some(to) = taker else { continue };
                if load(assignment, &from) < load(assignment, to) + 2 {
                    continue;
                }
                give(assignment, &from).retain(|other| *other != partition);
                give(assignment, to).push(partition.clone());
                owner.insert(partition, to.clone());
                moved = true;
            }
        }
        if !moved {
            return;
        }
    }
}

fn takers<'a>(members: &'a Members, topic: &'a TopicName) -> impl Iterator<Item = &'a MemberId> {
    members.iter().filter(|(_, member)| member.topics.contains(topic)).map(|(id, _)| id)
}

fn load(assignment: &Assignment, member: &MemberId) -> usize {
    assignment.get(member).map_or(0, Vec::len)
}

fn give<'a>(assignment: &'a mut Assignment, member: &MemberId) -> &'a mut Vec<TopicPartition> {
    assignment.get_mut(member).expect("every member has an entry")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(of: &[(&str, &[&str])]) -> Members {
        of.iter()
            .map(|(id, topics)| {
                let topics = topics.iter().map(|topic| TopicName::from(*topic)).collect();
                ((*id).into(), AssignorMember { topics, ..AssignorMember::default() })
            })
            .collect()
    }

    fn topics(of: &[(&str, usize)]) -> BTreeMap<TopicName, usize> {
        of.iter().map(|(topic, count)| (TopicName::from(*topic), *count)).collect()
    }

    fn show(assignment: &Assignment) -> String {
        let parts = assignment.iter().map(|(member, partitions)| {
            let list: Vec<_> = partitions.iter().map(ToString::to_string).collect();
            format!("{member}: {}", list.join(" "))
        });
        parts.collect::<Vec<_>>().join(" | ")
    }

    #[track_caller]
    fn check(kind: AssignorKind, members: &Members, of: &[(&str, usize)], expected: &str) {
        assert_eq!(show(&assign(kind, members, &topics(of))), expected);
    }

    #[test]
    fn range_gives_runs_per_topic() {
        let two = members(&[("a", &["t", "u"]), ("b", &["t", "u"])]);
        check(AssignorKind::Range, &two, &[("t", 3), ("u", 3)], "a: t-0 t-1 u-0 u-1 | b: t-2 u-2");
        let uneven = members(&[("a", &["t"]), ("b", &["t", "u"])]);
        check(AssignorKind::Range, &uneven, &[("t", 1), ("u", 2)], "a: t-0 | b: u-0 u-1");
    }

    #[test]
    fn static_members_come_first() {
        let mut two = members(&[("a", &["t"]), ("b", &["t"])]);
        two.get_mut("b").unwrap().instance_id = Some("i".into());
        check(AssignorKind::Range, &two, &[("t", 3)], "a: t-2 | b: t-0 t-1");
    }

    #[test]
    fn round_robin_deals_across_topics() {
        let two = members(&[("a", &["t", "u"]), ("b", &["t", "u"])]);
        check(
            AssignorKind::RoundRobin,
            &two,
            &[("t", 3), ("u", 3)],
            "a: t-0 t-2 u-1 | b: t-1 u-0 u-2",
        );
        let uneven = members(&[("a", &["t"]), ("b", &["t", "u"])]);
        check(AssignorKind::RoundRobin, &uneven, &[("t", 2), ("u", 2)], "a: t-0 | b: t-1 u-0 u-1");
    }

    #[test]
    fn sticky_moves_no_more_than_it_must() {
        let mut three = members(&[("a", &["t"]), ("b", &["t"]), ("c", &["t"])]);
        let had = |of: &[i32]| of.iter().map(|p| TopicPartition::new("t", *p)).collect::<Vec<_>>();
        three.get_mut("a").unwrap().owned = had(&[0, 2, 4]);
        three.get_mut("b").unwrap().owned = had(&[1, 3, 5]);
        check(AssignorKind::Sticky, &three, &[("t", 6)], "a: t-2 t-4 | b: t-3 t-5 | c: t-0 t-1");
        // A partition that two claim belongs to the newer generation.
        let mut two = members(&[("a", &["t"]), ("b", &["t"])]);
        two.get_mut("a").unwrap().owned = had(&[0]);
        two.get_mut("a").unwrap().generation = Some(1);
        two.get_mut("b").unwrap().owned = had(&[0]);
        two.get_mut("b").unwrap().generation = Some(2);
        check(AssignorKind::Sticky, &two, &[("t", 2)], "a: t-1 | b: t-0");
    }

    #[test]
    fn every_partition_goes_to_one_subscriber() {
        for kind in [AssignorKind::Range, AssignorKind::RoundRobin, AssignorKind::Sticky] {
            for count in 0..7 {
                let some = members(&[("a", &["t"]), ("b", &["t", "u"]), ("c", &["u"]), ("d", &[])]);
                let topics = topics(&[("t", count), ("u", 5), ("nobody", 3)]);
                let assignment = assign(kind, &some, &topics);
                let mut seen = BTreeSet::new();
                for (member, partitions) in &assignment {
                    for partition in partitions {
                        assert!(some[member].topics.contains(&partition.topic));
                        assert!(seen.insert(partition.clone()), "{kind:?}: {partition} twice");
                    }
                }
                assert_eq!(seen.len(), count + 5, "{kind:?}");
            }
        }
    }
}
