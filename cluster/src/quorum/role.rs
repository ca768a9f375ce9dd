//! What a node is to the quorum in its epoch.

use std::collections::{BTreeMap, BTreeSet};

use types::{NodeId, Offset};

use super::shape::Position;
use super::voters::{ReplicaKey, Voters};
use super::{Ticket, Timer};

/// Observers whose progress a leader remembers: more than any cluster has. Without a place here one still gets its records.
const OBSERVERS_MAX: usize = 1000;

/// A node's part.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// It knows of no leader, and waits or looks for one.
    Unattached,
    /// It asks whether it would be elected, and stays in its epoch.
    Prospective(Poll),
    /// It stands in its epoch.
    Candidate(Poll),
    /// It has been elected in its epoch.
    Leader(Leader),
    /// It fetches from a leader.
    Follower(Follower),
}

/// The votes of an election.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Poll {
    granted: BTreeSet<NodeId>,
    rejected: BTreeSet<NodeId>,
}

impl Poll {
    /// Notes an answer of a voter; the last one counts.
    pub(super) fn note(&mut self, voter: NodeId, granted: bool) {
        let (to, from) = match granted {
            true => (&mut self.granted, &mut self.rejected),
            false => (&mut self.rejected, &mut self.granted),
        };
        to.insert(voter);
        from.remove(&voter);
    }

    /// Whether it is won or lost; `None` as long as it is open.
    pub(super) fn outcome(&self, voters: &Voters) -> Option<bool> {
        let count = |of: &BTreeSet<NodeId>| voters.nodes().filter(|node| of.contains(node)).count();
        if count(&self.granted) >= voters.majority() {
            return Some(true);
        }
        let left = voters.0.len() - count(&self.rejected);
        (left < voters.majority()).then_some(false)
    }
}

/// A leader's knowledge.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Leader {
    /// Where its epoch begins.
    pub(super) epoch_start: Offset,
    /// The synced ends of those that fetched in its epoch.
    pub(super) ends: BTreeMap<ReplicaKey, Offset>,
    /// Voters that it heard since it last knew a majority behind it.
    heard: BTreeSet<NodeId>,
    /// Those that fetched since it last told all of its epoch.
    told: BTreeSet<ReplicaKey>,
    /// Who waits for a change of voters, and where that is in the log.
    pub(super) change: Option<(Ticket, Offset)>,
}

impl Leader {
    pub(super) fn new(epoch_start: Offset) -> Leader {
        Leader {
            epoch_start,
            ends: BTreeMap::new(),
            heard: BTreeSet::new(),
            told: BTreeSet::new(),
            change: None,
        }
    }

    /// A replica has fetched from `end`; from where the logs part, or a snapshot (`None`).
    pub(super) fn on_fetched(&mut self, replica: ReplicaKey, end: Option<Offset>, voters: &Voters) {
        let votes = voters.contains(replica);
        if votes {
            self.heard.insert(replica.node);
        }
        if !votes && !self.ends.contains_key(&replica) && self.ends.len() >= OBSERVERS_MAX {
            return;
        }
        self.told.insert(replica);
        if let Some(end) = end {
            // One replica per node: the newest directory is the one it has now.
            self.ends.retain(|key, _| key.node != replica.node || *key == replica);
            self.ends.insert(replica, end);
        }
    }

    /// Whether a majority was heard, itself included; if so it begins to listen anew.
    pub(super) fn takes_majority(&mut self, me: ReplicaKey, voters: &Voters) -> bool {
        let own = usize::from(voters.contains(me));
        let others = voters.nodes().filter(|node| *node != me.node && self.heard.contains(node));
        let has_majority = own + others.count() >= voters.majority();
        if has_majority {
            self.heard.clear();
        }
        has_majority
    }

    /// Voters that have to be told of its epoch (again). Observers that have not fetched since the last time are forgotten.
    pub(super) fn untold(&mut self, me: NodeId, voters: &Voters) -> Vec<NodeId> {
        let told = std::mem::take(&mut self.told);
        self.ends.retain(|key, _| told.contains(key) || voters.contains(*key));
        let is_told = |node: &NodeId| told.iter().any(|key| key.node == *node);
        voters.nodes().filter(|node| *node != me && !is_told(node)).collect()
    }

    /// The end that a majority has synced; `own` is the leader's.
    pub(super) fn synced_by_majority(
        &self,
        me: ReplicaKey,
        own: Offset,
        voters: &Voters,
    ) -> Offset {
        let end_of = |node: &NodeId| {
            if *node == me.node && voters.contains(me) {
                return own;
            }
            let ends = self.ends.iter().filter(|(key, _)| key.node == *node);
            let ends = ends.filter(|(key, _)| voters.contains(**key));
            ends.map(|(_, end)| *end).max().unwrap_or(Offset::ZERO)
        };
        let mut ends: Vec<Offset> = voters.0.keys().map(end_of).collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        ends.get(voters.majority() - 1).copied().unwrap_or(Offset::ZERO)
    }

    /// The other voters, those with the longest logs first.
    pub(super) fn successors(&self, me: NodeId, voters: &Voters) -> Vec<NodeId> {
        let end_of = |node: &NodeId| {
            self.ends.iter().filter(|(key, _)| key.node == *node).map(|(_, end)| *end).max()
        };
        let mut others: Vec<NodeId> = voters.nodes().filter(|node| *node != me).collect();
        others.sort_by_key(|node| std::cmp::Reverse(end_of(node)));
        others
    }
}

/// A follower's fetching: one question at a time.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Follower {
    /// Whom it follows.
    pub(super) leader: NodeId,
    /// Whether that leader has answered within the last fetch time-out: then nobody else is wanted.
    pub(super) is_attached: bool,
    /// What it waits for.
    pub(super) waits: FetchWait,
}

/// What a follower waits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum FetchWait {
    /// The leader's answer.
    Answer,
    /// The sync of what it got: only what is synced is reported (I39).
    Sync,
    /// A snapshot that ends here.
    Snapshot(Position),
    /// A pause after an answer that did not help: [`Timer::Retry`].
    Pause,
}

impl Role {
    /// Whether a timer means anything to it.
    pub(super) fn heeds(&self, timer: Timer) -> bool {
        match self {
            Role::Unattached => matches!(timer, Timer::Election | Timer::Seek),
            Role::Prospective(_) | Role::Candidate(_) => timer == Timer::Election,
            Role::Leader(_) => matches!(timer, Timer::CheckQuorum | Timer::Announce),
            Role::Follower(follower) => {
                timer == Timer::Fetch || timer == Timer::Retry && follower.waits == FetchWait::Pause
            }
        }
    }
}
