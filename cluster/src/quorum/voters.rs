//! Who votes. The newest set in the log counts, committed or not (Raft dissertation, section 4.1): so sets change by one
//! voter at a time, and each shares a majority with the one before (I42).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use types::encoding::Str;
use types::{DirectoryId, NodeId, Offset};

/// A replica of the metadata log: a node with the directory its log lies in. A wiped disk is another replica (I42).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ReplicaKey {
    /// The node.
    pub node: NodeId,
    /// Its metadata directory.
    pub directory: DirectoryId,
}

impl fmt::Display for ReplicaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.node)
    }
}

/// Where a voter listens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    /// Name of the listener.
    pub listener: Str,
    /// Host.
    pub host: Str,
    /// Port.
    pub port: u16,
}

/// A voter.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Voter {
    /// The directory of its log; `None` until the first leader has learned it (`controller.quorum.voters` does not say).
    pub directory: Option<DirectoryId>,
    /// Where it listens.
    pub endpoints: Vec<Endpoint>,
}

/// The voters at one place of the log.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Voters(pub BTreeMap<NodeId, Voter>);

impl Voters {
    /// Those replicas, reached by whatever way the caller knows.
    pub fn of(keys: impl IntoIterator<Item = ReplicaKey>) -> Voters {
        let voter =
            |key: ReplicaKey| Voter { directory: Some(key.directory), endpoints: Vec::new() };
        Voters(keys.into_iter().map(|key| (key.node, voter(key))).collect())
    }

    /// Whether that replica votes.
    pub fn contains(&self, key: ReplicaKey) -> bool {
        let voter = self.0.get(&key.node);
        voter.is_some_and(|voter| voter.directory.is_none_or(|own| own == key.directory))
    }

    /// Their nodes.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.0.keys().copied()
    }

    /// How many make a majority.
    pub fn majority(&self) -> usize {
        self.0.len() / 2 + 1
    }
}

/// The sets of voters along the log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct VoterHistory {
    /// Those before the first change.
    base: Voters,
    /// Whether those are known from the log, and not from a configuration or by asking.
    is_base_written: bool,
    /// Offset of each change and what it made of them, ascending.
    changes: Vec<(Offset, Voters)>,
}

impl VoterHistory {
    /// A log whose voters are `base` until it says otherwise.
    pub fn new(base: Voters) -> VoterHistory {
        VoterHistory { base, is_base_written: true, changes: Vec::new() }
    }

    /// The same, of a log that does not say that these are its voters: its first leader will write so.
    pub fn unwritten(base: Voters) -> VoterHistory {
        VoterHistory { is_base_written: false, ..VoterHistory::new(base) }
    }

    /// Whether the log says who votes.
    pub fn is_written(&self) -> bool {
        self.is_base_written || !self.changes.is_empty()
    }

    /// The set that counts.
    pub fn newest(&self) -> &Voters {
        self.changes.last().map_or(&self.base, |(_, voters)| voters)
    }

    /// Offset of the newest change that the log holds.
    pub fn last_change(&self) -> Option<Offset> {
        self.changes.last().map(|(offset, _)| *offset)
    }

    /// The set before the newest change, if that is not below `high_watermark` and so may be taken back.
    pub fn before_uncommitted(&self, high_watermark: Offset) -> Option<&Voters> {
        let (last, before) = self.changes.split_last()?;
        let previous = before.last().map_or(&self.base, |(_, voters)| voters);
        (last.0 >= high_watermark).then_some(previous)
    }

    /// The set in force below `offset`.
    pub fn at(&self, offset: Offset) -> &Voters {
        let before = self.changes.partition_point(|(at, _)| *at < offset);
        before.checked_sub(1).map_or(&self.base, |last| &self.changes[last].1)
    }

    /// The log holds a change at `offset`.
    pub fn push(&mut self, offset: Offset, voters: Voters) {
        assert!(self.last_change() < Some(offset), "changes of voters come in order");
        self.changes.push((offset, voters));
    }

    /// The log ends at `end` now.
    pub fn truncate(&mut self, end: Offset) {
        self.changes.retain(|(offset, _)| *offset < end);
    }

    /// A snapshot holds everything below `start`.
    pub fn trim(&mut self, start: Offset) {
        let base = self.at(start).clone();
        self.is_base_written |= self.changes.first().is_some_and(|(offset, _)| *offset < start);
        self.changes.retain(|(offset, _)| *offset >= start);
        self.base = base;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Uuid;

    fn key(node: i32) -> ReplicaKey {
        ReplicaKey { node: NodeId(node), directory: DirectoryId(Uuid([node as u8; 16])) }
    }

    #[test]
    fn a_wiped_disk_is_no_voter() {
        let voters = Voters::of([key(1), key(2)]);
        let wiped = ReplicaKey { directory: key(9).directory, ..key(1) };
        assert!(voters.contains(key(1)) && !voters.contains(wiped) && !voters.contains(key(3)));
        let unnamed = Voters([(NodeId(1), Voter::default())].into());
        assert!(unnamed.contains(key(1)) && unnamed.contains(wiped));
    }

    #[test]
    fn the_newest_set_counts_until_it_is_cut_off() {
        let (one, two, three) =
            (Voters::of([key(1)]), Voters::of([key(1), key(2)]), Voters::of([key(2)]));
        let mut history = VoterHistory::new(one.clone());
        history.push(Offset(3), two.clone());
        history.push(Offset(7), three.clone());
        assert_eq!((history.at(Offset(3)), history.at(Offset(4))), (&one, &two));
        assert_eq!((history.newest(), history.last_change()), (&three, Some(Offset(7))));
        history.truncate(Offset(7));
        assert_eq!(history.newest(), &two);
        history.trim(Offset(5));
        assert_eq!((history.newest(), history.last_change()), (&two, None));
    }

    #[test]
    fn majorities() {
        let majority = |count: i32| Voters::of((0..count).map(key)).majority();
        assert_eq!([1, 2, 3, 4, 5].map(majority), [1, 2, 2, 3, 3]);
    }
}
