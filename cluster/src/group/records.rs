//! Records of `__consumer_offsets`, in Kafka's own format, and what they mean when they are read back.
//!
//! Two kinds: a group with its members (key version 2), an offset of a group in a partition (key versions 0 and 1). No
//! value means: forget it. Values are written in the versions that Kafka 4.4 writes, and read in all that ever were:
//!
//! ```text
//!   key  2 | group                        value 3 | protocol type, generation, protocol?, leader?, since, members
//!   key  1 | group, topic, partition      value 4 | offset, leader epoch, metadata, commit time, topic id
//!                                         value 1 | ... with a time of its own to expire at
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use record::stored::frame;
use record::stored::group::{
    GroupMetadataKey, GroupMetadataValue, MemberMetadata, OffsetCommitKey, OffsetCommitValue,
};
use types::encoding::{DecodeError, EncodeError, Writer};
use types::mutant::{Mutant, planted};
use types::{
    Generation, GroupId, LeaderEpoch, MemberId, Offset, PartitionIndex, Str, Timestamp, TopicId,
    TopicName, Uuid,
};

use super::api::{GroupOffset, GroupRecord, InstanceId, Protocol};
use super::classic::{Group, Member, Phase};

const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;
const GROUP_VALUE: i16 = 3;
const OFFSET_VALUE: i16 = 4;
const OFFSET_VALUE_EXPIRING: i16 = 1;

/// What a record was about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Replayed {
    /// A group and its members.
    Group(GroupId),
    /// A committed offset.
    Offset(GroupId),
    /// A kind of record that is not for this machine.
    Unknown(i16),
}

/// Why a record could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecordError {
    /// Its bytes are not what its version says.
    Decode(DecodeError),
    /// It contradicts itself.
    Contradiction(&'static str),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::Decode(error) => error.fmt(f),
            RecordError::Contradiction(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for RecordError {}

impl From<DecodeError> for RecordError {
    fn from(error: DecodeError) -> RecordError {
        RecordError::Decode(error)
    }
}

/// The group as it is: members, and what they own.
pub(super) fn group(id: &GroupId, group: &Group) -> GroupRecord {
    let protocol = group.protocol.as_deref().unwrap_or_default();
    let member = |(id, member): (&MemberId, &Member)| MemberMetadata {
        member_id: id.into(),
        group_instance_id: member.instance.as_ref().map(|instance| instance.0.clone()),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        rebalance_timeout: millis(member.rebalance_timeout),
        session_timeout: millis(member.session_timeout),
        subscription: member.metadata(protocol).cloned().unwrap_or_default(),
        assignment: member.assignment.clone(),
    };
    let value = GroupMetadataValue {
        protocol: group.protocol.clone(),
        leader: group.leader.as_ref().map(Str::from),
        members: group.members.iter().map(member).collect(),
        ..without_members(group)
    };
    group_record(id, &value)
}

/// The number of a generation, taken: an empty group. Who reads it back knows that the generation is spent, and that
/// its members have to join again.
pub(super) fn generation(id: &GroupId, group: &Group) -> GroupRecord {
    group_record(id, &without_members(group))
}

fn without_members(group: &Group) -> GroupMetadataValue {
    GroupMetadataValue {
        protocol_type: group.protocol_type.clone().unwrap_or_default(),
        generation: group.generation.0,
        protocol: None,
        leader: None,
        current_state_timestamp: group.since.map_or(-1, Timestamp::as_millis),
        members: Vec::new(),
    }
}

fn group_record(id: &GroupId, value: &GroupMetadataValue) -> GroupRecord {
    let value = encoded(GROUP_VALUE, |w| value.encode(w, GROUP_VALUE));
    GroupRecord { key: group_key(id), value: Some(value) }
}

/// Forgets a group.
pub(super) fn group_tombstone(id: &GroupId) -> GroupRecord {
    GroupRecord { key: group_key(id), value: None }
}

/// A committed offset.
pub(super) fn offset(
    id: &GroupId,
    topic: &TopicName,
    partition: PartitionIndex,
    offset: &GroupOffset,
) -> GroupRecord {
    let expires = offset.expire_timestamp.is_some();
    let version = if expires { OFFSET_VALUE_EXPIRING } else { OFFSET_VALUE };
    let value = OffsetCommitValue {
        offset: offset.offset.0,
        leader_epoch: offset.leader_epoch.map_or(-1, |epoch| epoch.0),
        metadata: offset.metadata.clone(),
        commit_timestamp: offset.commit_timestamp.0,
        expire_timestamp: offset.expire_timestamp.map_or(-1, Timestamp::as_millis),
        topic_id: offset.topic_id.map_or(Uuid::ZERO, |TopicId(id)| id),
    };
    let value = encoded(version, |w| value.encode(w, version));
    GroupRecord { key: offset_key(id, topic, partition), value: Some(value) }
}

/// Forgets an offset.
pub(super) fn offset_tombstone(
    id: &GroupId,
    topic: &TopicName,
    partition: PartitionIndex,
) -> GroupRecord {
    GroupRecord { key: offset_key(id, topic, partition), value: None }
}

/// Forgets all offsets of a group.
pub(super) fn offset_tombstones(
    id: &GroupId,
    offsets: &BTreeMap<TopicName, BTreeMap<PartitionIndex, GroupOffset>>,
) -> Vec<GroupRecord> {
    let names = offsets.iter().flat_map(|(topic, partitions)| {
        partitions.keys().map(move |partition| (topic, *partition))
    });
    names.map(|(topic, partition)| offset_tombstone(id, topic, partition)).collect()
}

fn group_key(id: &GroupId) -> Bytes {
    let key = GroupMetadataKey { group: id.into() };
    encoded(GROUP_KEY, |w| key.encode(w, 0))
}

fn offset_key(id: &GroupId, topic: &TopicName, partition: PartitionIndex) -> Bytes {
    let key = OffsetCommitKey { group: id.into(), topic: topic.into(), partition: partition.0 };
    encoded(OFFSET_KEY, |w| key.encode(w, 0))
}

fn encoded(version: i16, write: impl FnOnce(&mut Writer) -> Result<(), EncodeError>) -> Bytes {
    let mut writer = frame::versioned(version);
    write(&mut writer).expect("every text came through the protocol, whose bound is the same");
    writer.into_bytes()
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// Applies a record to the groups.
pub(super) fn replay(
    groups: &mut BTreeMap<GroupId, Group>,
    key: &[u8],
    value: Option<&[u8]>,
) -> Result<Replayed, RecordError> {
    // Copies: what is kept of a record must not keep the batch it came in.
    let (kind, mut key) = frame::version_of(Bytes::copy_from_slice(key))?;
    let value = || value.map(|v| frame::version_of(Bytes::copy_from_slice(v))).transpose();
    match kind {
        0 | OFFSET_KEY => {
            let OffsetCommitKey { group: id, topic, partition } =
                OffsetCommitKey::decode(&mut key, 0)?;
            let (id, topic) = (GroupId::from(id), TopicName::from(topic));
            let partition = PartitionIndex(partition);
            match value()? {
                Some((version, mut value)) => {
                    let value = OffsetCommitValue::decode(&mut value, version)?;
                    let group = groups.entry(id.clone()).or_insert_with(|| Group::new(None));
                    group.offsets.entry(topic).or_default().insert(partition, read_offset(value));
                }
                None => {
                    if let Some(group) = groups.get_mut(&id) {
                        group.forget_offset(&topic, partition);
                    }
                }
            }
            Ok(Replayed::Offset(id))
        }
        GROUP_KEY => {
            let id = GroupId::from(GroupMetadataKey::decode(&mut key, 0)?.group);
            let new = match value()? {
                Some((version, mut value)) => {
                    Some(read_group(GroupMetadataValue::decode(&mut value, version)?)?)
                }
                None => None,
            };
            let offsets = groups.remove(&id).map(|group| group.offsets).unwrap_or_default();
            match new {
                Some(group) => {
                    groups.insert(id.clone(), Group { offsets, ..group });
                }
                // Offsets have tombstones of their own: without them they outlive their group.
                None if !offsets.is_empty() => {
                    groups.insert(id.clone(), Group { offsets, ..Group::new(None) });
                }
                None => {}
            }
            Ok(Replayed::Group(id))
        }
        other => Ok(Replayed::Unknown(other)),
    }
}

fn read_offset(value: OffsetCommitValue) -> GroupOffset {
    let OffsetCommitValue { leader_epoch, expire_timestamp, topic_id, .. } = value;
    GroupOffset {
        offset: Offset(value.offset),
        leader_epoch: (leader_epoch >= 0).then_some(LeaderEpoch(leader_epoch)),
        metadata: value.metadata,
        commit_timestamp: Timestamp(value.commit_timestamp),
        expire_timestamp: (expire_timestamp >= 0).then_some(Timestamp(expire_timestamp)),
        topic_id: (!topic_id.is_zero()).then_some(TopicId(topic_id)),
    }
}

fn read_group(value: GroupMetadataValue) -> Result<Group, RecordError> {
    let since = value.current_state_timestamp;
    let mut group = Group::new((since >= 0).then_some(Timestamp(since)));
    let regresses = planted(Mutant::GenerationRegresses);
    group.generation = Generation(if regresses { 0 } else { value.generation });
    group.protocol_type = (!value.protocol_type.is_empty()).then_some(value.protocol_type);
    for member in value.members {
        let protocol = value.protocol.clone();
        let protocol = protocol.ok_or(RecordError::Contradiction("members without a protocol"))?;
        let (id, member) = read_member(member, protocol);
        if let Some(instance) = &member.instance
            && group.statics.insert(instance.clone(), id.clone()).is_some()
        {
            return Err(RecordError::Contradiction("two members with one group.instance.id"));
        }
        group.count(&member, 1);
        if group.members.insert(id, member).is_some() {
            return Err(RecordError::Contradiction("two members with one id"));
        }
    }
    if !group.members.is_empty() {
        group.phase = Phase::Stable { unsynced: BTreeSet::new() };
        group.protocol = value.protocol;
        let leader = value.leader.map(MemberId::from);
        let known = leader.filter(|leader| group.members.contains_key(leader));
        group.leader = known.or_else(|| group.members.keys().next().cloned());
    }
    group.subscribed = if planted(Mutant::OffsetsExpireEarly) {
        Some(BTreeSet::new())
    } else {
        group.compute_subscribed()
    };
    Ok(group)
}

fn read_member(value: MemberMetadata, protocol: Str) -> (MemberId, Member) {
    let rebalance_timeout = match value.rebalance_timeout {
        -1 => value.session_timeout,
        timeout => timeout,
    };
    let member = Member {
        instance: value.group_instance_id.map(InstanceId),
        client_id: value.client_id,
        client_host: value.client_host,
        session_timeout: duration(value.session_timeout),
        rebalance_timeout: duration(rebalance_timeout),
        protocols: vec![Protocol { name: protocol, metadata: value.subscription }],
        assignment: value.assignment,
        joining: None,
        syncing: None,
        is_new: false,
    };
    (MemberId::from(value.member_id), member)
}

fn duration(millis: i32) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// Compares what a log gave back with what was decided.
pub(super) fn remembered(
    live: &BTreeMap<GroupId, Group>,
    log: &BTreeMap<GroupId, Group>,
) -> Result<(), String> {
    if !live.keys().eq(log.keys()) {
        let names = |groups: &BTreeMap<GroupId, Group>| {
            groups.keys().map(GroupId::as_str).collect::<Vec<_>>().join(", ")
        };
        return Err(format!("groups {} became {}", names(live), names(log)));
    }
    for (id, ours) in live {
        let theirs = &log[id];
        if ours.generation != theirs.generation {
            return Err(format!(
                "{id}: generation {} became {}",
                ours.generation, theirs.generation
            ));
        }
        if ours.offsets != theirs.offsets {
            return Err(format!("{id}: offsets {:?} became {:?}", ours.offsets, theirs.offsets));
        }
        let settled = matches!(ours.phase, Phase::Empty | Phase::Stable { .. });
        if settled && settled_state(ours) != settled_state(theirs) {
            return Err(format!("{id}: {ours} became {theirs}"));
        }
    }
    Ok(())
}

/// What a log keeps of a group that is not rebalancing.
#[derive(PartialEq)]
struct Settled<'a> {
    state: super::GroupState,
    since: Option<Timestamp>,
    protocol_type: Option<&'a str>,
    protocol: Option<&'a str>,
    leader: Option<&'a MemberId>,
    subscribed: Option<&'a BTreeSet<TopicName>>,
    members: Vec<SettledMember<'a>>,
}

#[derive(PartialEq)]
struct SettledMember<'a> {
    id: &'a MemberId,
    instance: Option<&'a InstanceId>,
    client: (&'a str, &'a str),
    timeouts: (Duration, Duration),
    metadata: Option<&'a Bytes>,
    assignment: &'a Bytes,
}

fn settled_state(group: &Group) -> Settled<'_> {
    let protocol = group.protocol.as_deref();
    Settled {
        state: group.state(),
        since: group.since.filter(|_| group.is_empty()),
        protocol_type: group.protocol_type.as_deref(),
        protocol,
        leader: group.leader.as_ref(),
        subscribed: group.subscribed.as_ref(),
        members: group.members.iter().map(|(id, m)| settled_member(id, m, protocol)).collect(),
    }
}

fn settled_member<'a>(
    id: &'a MemberId,
    member: &'a Member,
    protocol: Option<&str>,
) -> SettledMember<'a> {
    SettledMember {
        id,
        instance: member.instance.as_ref(),
        client: (&member.client_id, &member.client_host),
        timeouts: (member.session_timeout, member.rebalance_timeout),
        metadata: protocol.and_then(|protocol| member.metadata(protocol)),
        assignment: &member.assignment,
    }
}
