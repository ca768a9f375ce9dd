//! One classic group: who is in it, what they agreed on, what they have read.
//!
//! A plain value with the questions that can be asked of it. It changes in `rebalance` and `offsets`; here is what must
//! hold between two changes ([`Group::check`]).
//!
//! ```text
//!            first member             all joined, or time is up          the leader assigned
//!   Empty ------------------> Preparing --------------------> Completing ------------------> Stable
//!     ^                        |  ^  ^                            |                            |
//!     +--- nobody joined ------+  |  +--- a member failed to sync, left, changed its mind -----+
//!                                 +------------------------------+
//! ```
//!
//! A group that is deleted is no longer there; there is no dead state.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use types::{ErrorCode, Generation, Instant, MemberId, PartitionIndex, Str, Timestamp, TopicName};

use super::api::{
    AppendNumber, GroupDescription, GroupOffset, InstanceId, JoinedMember, MemberDescription,
    Protocol, Token,
};
use super::subscription::{self, CONSUMER_PROTOCOL_TYPE};

/// State of a group, by Kafka's names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum GroupState {
    /// No members; offsets may be left.
    Empty,
    /// Members are joining.
    PreparingRebalance,
    /// Members have joined; the leader has yet to assign.
    CompletingRebalance,
    /// Everyone may know what it owns.
    Stable,
}

impl GroupState {
    /// The protocol's name of the state.
    pub const fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A phase with the data that only it has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Empty,
    Preparing {
        /// The group was empty before: it waits for the delay even if all known members have joined.
        from_empty: bool,
        /// While the delay of a first rebalance may still be extended: until when at most.
        extensible: Option<Instant>,
    },
    Completing {
        /// Who has not asked for its assignment yet.
        unsynced: BTreeSet<MemberId>,
    },
    Stable {
        /// Who has not asked for its assignment yet.
        unsynced: BTreeSet<MemberId>,
    },
}

/// A member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Member {
    pub(super) instance: Option<InstanceId>,
    pub(super) client_id: Str,
    pub(super) client_host: Str,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    /// Never empty; distinct names, best first.
    pub(super) protocols: Vec<Protocol>,
    pub(super) assignment: Bytes,
    /// A JoinGroup that waits for the others.
    pub(super) joining: Option<Token>,
    /// A SyncGroup that waits for the leader.
    pub(super) syncing: Option<Token>,
    /// It has not been answered yet and cannot send heartbeats: it may expire while it waits.
    pub(super) is_new: bool,
}

impl Member {
    /// Its metadata for `protocol`.
    pub(super) fn metadata(&self, protocol: &str) -> Option<&Bytes> {
        self.protocols.iter().find(|p| &*p.name == protocol).map(|p| &p.metadata)
    }

    /// A member that waits for an answer of ours need not send heartbeats, unless it is new.
    pub(super) fn has_satisfied_heartbeat(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }
}

/// A group and its committed offsets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Group {
    pub(super) phase: Phase,
    /// When the phase began; absent in records of very old brokers.
    pub(super) since: Option<Timestamp>,
    pub(super) generation: Generation,
    pub(super) protocol_type: Option<Str>,
    pub(super) protocol: Option<Str>,
    pub(super) leader: Option<MemberId>,
    pub(super) members: BTreeMap<MemberId, Member>,
    /// Index of the static members in `members`: asked on every one of their heartbeats.
    pub(super) statics: BTreeMap<InstanceId, MemberId>,
    /// Newcomers that were given an id and have yet to come back with it.
    pub(super) pending: BTreeSet<MemberId>,
    /// How many members offer each protocol: asked on every join.
    pub(super) supported: BTreeMap<Str, usize>,
    /// Topics the members subscribe to, if that can be known: read once per generation.
    pub(super) subscribed: Option<BTreeSet<TopicName>>,
    pub(super) offsets: BTreeMap<TopicName, BTreeMap<PartitionIndex, GroupOffset>>,
    /// The newest append about this group.
    pub(super) appended: AppendNumber,
}

impl Group {
    /// A group without members, protocol or offsets.
    pub(super) fn new(since: Option<Timestamp>) -> Group {
        Group {
            phase: Phase::Empty,
            since,
            generation: Generation(0),
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending: BTreeSet::new(),
            supported: BTreeMap::new(),
            subscribed: None,
            offsets: BTreeMap::new(),
            appended: AppendNumber::NONE,
        }
    }

    /// Its state by Kafka's names.
    pub(super) fn state(&self) -> GroupState {
        match self.phase {
            Phase::Empty => GroupState::Empty,
            Phase::Preparing { .. } => GroupState::PreparingRebalance,
            Phase::Completing { .. } => GroupState::CompletingRebalance,
            Phase::Stable { .. } => GroupState::Stable,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.phase == Phase::Empty
    }

    /// Whether its members are consumers, whose metadata names topics.
    pub(super) fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    pub(super) fn is_leader(&self, member: &MemberId) -> bool {
        self.leader.as_ref() == Some(member)
    }

    /// Whether a member that offers these could join: one protocol that all members share.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|protocol| self.support(&protocol.name) == self.members.len())
    }

    fn support(&self, protocol: &str) -> usize {
        self.supported.get(protocol).copied().unwrap_or(0)
    }

    /// The protocol most members prefer among those that all support. Kafka leaves ties to chance; here the name
    /// decides. The group has members, and joining kept one common protocol.
    pub(super) fn select_protocol(&self) -> Str {
        let mut votes: BTreeMap<&Str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let preferred =
                member.protocols.iter().find(|p| self.support(&p.name) == self.members.len());
            let preferred =
                preferred.expect("all members share a protocol: checked when they join");
            *votes.entry(&preferred.name).or_default() += 1;
        }
        let mut best: Option<(&Str, usize)> = None;
        for (name, count) in votes {
            if best.is_none_or(|(_, most)| count > most) {
                best = Some((name, count));
            }
        }
        best.expect("a group that selects a protocol has members").0.clone()
    }

    /// Topics the members subscribe to. Unknown without a consumer protocol or if a member's metadata does not parse.
    pub(super) fn compute_subscribed(&self) -> Option<BTreeSet<TopicName>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        let mut all = BTreeSet::new();
        for member in self.members.values() {
            all.extend(subscription::topics(member.metadata(self.protocol.as_deref()?)?)?);
        }
        Some(all)
    }

    /// Whether members read `topic`, as far as one can know: in doubt they do.
    pub(super) fn is_subscribed(&self, topic: &TopicName) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.uses_consumer_protocol(),
        }
    }

    /// Refuses a member that is not there, or a static one whose name has passed to another (I72).
    pub(super) fn validate_member(
        &self,
        member: &str,
        instance: Option<&InstanceId>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.statics.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if current.as_str() != member => {
                    return Err(ErrorCode::FencedInstanceId);
                }
                Some(_) => {}
            }
        }
        if self.members.contains_key(member) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// The longest time any member wants a rebalance to wait.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    pub(super) fn has_all_joined(&self) -> bool {
        self.pending.is_empty() && self.members.values().all(|member| member.joining.is_some())
    }

    pub(super) fn joining_count(&self) -> usize {
        self.members.values().filter(|member| member.joining.is_some()).count()
    }

    /// Adds a member. It shares a protocol with all others.
    pub(super) fn add(&mut self, id: MemberId, protocol_type: &Str, member: Member) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.clone());
        }
        assert_eq!(
            self.protocol_type.as_ref(),
            Some(protocol_type),
            "members share a protocol type: {id}"
        );
        self.pending.remove(&id);
        if let Some(instance) = &member.instance {
            let other = self.statics.insert(instance.clone(), id.clone());
            assert_eq!(other, None, "one member per group.instance.id {instance} (I72)");
        }
        self.count(&member, 1);
        self.leader.get_or_insert_with(|| id.clone());
        let other = self.members.insert(id, member);
        assert_eq!(other, None, "a member joins once");
    }

    /// Takes a member out; another leads if it led.
    pub(super) fn remove(&mut self, id: &MemberId) -> Option<Member> {
        self.pending.remove(id);
        if let Phase::Completing { unsynced } | Phase::Stable { unsynced } = &mut self.phase {
            unsynced.remove(id);
        }
        let member = self.members.remove(id)?;
        self.count(&member, -1);
        if let Some(instance) = &member.instance {
            self.statics.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Counts what a member offers in or out of `supported`.
    pub(super) fn count(&mut self, member: &Member, change: isize) {
        for protocol in &member.protocols {
            let count = self.supported.entry(protocol.name.clone()).or_default();
            *count = count.checked_add_signed(change).expect("counted in before it is counted out");
            if *count == 0 {
                self.supported.remove(&protocol.name);
            }
        }
    }

    /// The members as the leader sees them.
    pub(super) fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let joined = |(id, member): (&MemberId, &Member)| JoinedMember {
            member: id.clone(),
            instance: member.instance.clone(),
            metadata: member.metadata(protocol).cloned().unwrap_or_default(),
        };
        self.members.iter().map(joined).collect()
    }

    /// The group as DescribeGroups shows it: protocol and metadata only when stable.
    pub(super) fn describe(&self) -> GroupDescription {
        let stable = matches!(self.phase, Phase::Stable { .. });
        let protocol = self.protocol.clone().filter(|_| stable);
        let describe = |(id, member): (&MemberId, &Member)| MemberDescription {
            member: id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: protocol
                .as_deref()
                .and_then(|name| member.metadata(name))
                .cloned()
                .unwrap_or_default(),
            assignment: member.assignment.clone(),
        };
        GroupDescription {
            state: self.state(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            members: self.members.iter().map(describe).collect(),
            protocol: protocol.clone().unwrap_or_default(),
        }
    }

    /// Everything that must hold between two steps. Looks at every member: for tests and the simulator.
    pub(super) fn check(&self, id: &str) {
        let statics: BTreeMap<_, _> = self
            .members
            .iter()
            .filter_map(|(member, m)| m.instance.clone().map(|instance| (instance, member.clone())))
            .collect();
        assert_eq!(self.statics, statics, "{id}: one live member per group.instance.id (I72)");
        let mut supported: BTreeMap<Str, usize> = BTreeMap::new();
        for protocol in self.members.values().flat_map(|member| &member.protocols) {
            *supported.entry(protocol.name.clone()).or_default() += 1;
        }
        assert_eq!(self.supported, supported, "{id}: protocols are counted");
        assert_eq!(self.leader.is_some(), !self.members.is_empty(), "{id}: members have a leader");
        if let Some(leader) = &self.leader {
            assert!(self.members.contains_key(leader), "{id}: the leader {leader} is a member");
            assert!(
                supported.values().any(|count| *count == self.members.len()),
                "{id}: members share a protocol"
            );
        }
        assert!(
            self.pending.iter().all(|member| !self.members.contains_key(member)),
            "{id}: a pending newcomer is no member yet"
        );
        let preparing = matches!(self.phase, Phase::Preparing { .. });
        let completing = matches!(self.phase, Phase::Completing { .. });
        for (member, m) in &self.members {
            assert!(m.joining.is_none() || preparing, "{id}: {member} waits to join in {self}");
            assert!(m.syncing.is_none() || completing, "{id}: {member} waits to sync in {self}");
        }
        match &self.phase {
            Phase::Empty => assert!(
                self.members.is_empty() && self.protocol.is_none(),
                "{id}: an empty group has neither members nor a protocol"
            ),
            Phase::Preparing { .. } => {}
            Phase::Completing { unsynced } | Phase::Stable { unsynced } => {
                assert!(!self.members.is_empty(), "{id}: {} has members", self.state());
                assert!(
                    unsynced.iter().all(|member| self.members.contains_key(member)),
                    "{id}: who must still sync is a member"
                );
                let protocol = self.protocol.as_deref().expect("a generation has a protocol");
                assert!(
                    self.members.values().all(|member| member.metadata(protocol).is_some()),
                    "{id}: every member offers the chosen protocol {protocol}"
                );
            }
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} generation {}", self.state(), self.generation)?;
        if let Some(protocol) = &self.protocol {
            write!(f, " {protocol}")?;
        }
        for (id, member) in &self.members {
            let leads = if self.is_leader(id) { "*" } else { "" };
            let waits = match (member.joining, member.syncing) {
                (Some(_), _) => " joining",
                (None, Some(_)) => " syncing",
                (None, None) => "",
            };
            write!(f, " [{id}{leads}{waits}]")?;
        }
        if !self.pending.is_empty() {
            write!(f, " pending {}", self.pending.len())?;
        }
        let offsets: usize = self.offsets.values().map(BTreeMap::len).sum();
        if offsets > 0 {
            write!(f, " offsets {offsets}")?;
        }
        Ok(())
    }
}
