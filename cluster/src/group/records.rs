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
use types::encoding::{DecodeError, EncodeError, Reader, Tags, Writer};
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
    /// A value version from the future.
    Version(i16),
    /// It contradicts itself.
    Contradiction(&'static str),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::Decode(error) => error.fmt(f),
            RecordError::Version(version) => write!(f, "value version {version} is not known"),
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
    let members = group.members.len();
    group_record(id, group, group.protocol.as_ref(), group.leader.as_ref(), members)
}

/// The number of a generation, taken: an empty group. Who reads it back knows that the generation is spent, and that
/// its members have to join again.
pub(super) fn generation(id: &GroupId, group: &Group) -> GroupRecord {
    group_record(id, group, None, None, 0)
}

fn group_record(
    id: &GroupId,
    group: &Group,
    protocol: Option<&Str>,
    leader: Option<&MemberId>,
    members: usize,
) -> GroupRecord {
    let value = encoded(|w| {
        w.i16(GROUP_VALUE);
        w.str(group.protocol_type.as_deref().unwrap_or_default(), false)?;
        w.i32(group.generation.0);
        w.nullable_str(&protocol.cloned(), false)?;
        w.nullable_str(&leader.cloned().map(Str::from), false)?;
        w.i64(group.since.map_or(-1, Timestamp::as_millis));
        w.i32(i32::try_from(members).unwrap_or(i32::MAX));
        for (id, member) in group.members.iter().take(members) {
            w.str(id.as_str(), false)?;
            w.nullable_str(&member.instance.clone().map(|instance| instance.0), false)?;
            w.str(&member.client_id, false)?;
            w.str(&member.client_host, false)?;
            w.i32(millis(member.rebalance_timeout));
            w.i32(millis(member.session_timeout));
            let metadata = protocol.and_then(|protocol| member.metadata(protocol));
            w.bytes(metadata.map_or(&[], |metadata| metadata), false)?;
            w.bytes(&member.assignment, false)?;
        }
        Ok(())
    });
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
    let value = encoded(|w| {
        if let Some(expire) = offset.expire_timestamp {
            w.i16(OFFSET_VALUE_EXPIRING);
            w.i64(offset.offset.0);
            w.str(&offset.metadata, false)?;
            w.i64(offset.commit_timestamp.0);
            w.i64(expire.0);
            return Ok(());
        }
        w.i16(OFFSET_VALUE);
        w.i64(offset.offset.0);
        w.i32(offset.leader_epoch.map_or(-1, |epoch| epoch.0));
        w.str(&offset.metadata, true)?;
        w.i64(offset.commit_timestamp.0);
        let mut tags = Tags::new();
        if let Some(TopicId(id)) = offset.topic_id {
            tags.field(0, |w| {
                w.uuid(id);
                Ok(())
            })?;
        }
        w.tags(tags);
        Ok(())
    });
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
    let of_topic = |(topic, partitions): (&TopicName, &BTreeMap<PartitionIndex, GroupOffset>)| {
        partitions
            .keys()
            .map(|partition| offset_tombstone(id, topic, *partition))
            .collect::<Vec<_>>()
    };
    offsets.iter().flat_map(of_topic).collect()
}

fn group_key(id: &GroupId) -> Bytes {
    encoded(|w| {
        w.i16(GROUP_KEY);
        w.str(id.as_str(), false)
    })
}

fn offset_key(id: &GroupId, topic: &TopicName, partition: PartitionIndex) -> Bytes {
    encoded(|w| {
        w.i16(OFFSET_KEY);
        w.str(id.as_str(), false)?;
        w.str(topic.as_str(), false)?;
        w.i32(partition.0);
        Ok(())
    })
}

fn encoded(write: impl FnOnce(&mut Writer) -> Result<(), EncodeError>) -> Bytes {
    let mut writer = Writer::new();
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
    let mut key = Reader::new(Bytes::copy_from_slice(key));
    match key.i16()? {
        0 | OFFSET_KEY => {
            let id = GroupId::from(key.str(false)?);
            let topic = TopicName::from(key.str(false)?);
            let partition = PartitionIndex(key.i32()?);
            match value {
                Some(value) => {
                    let offset = read_offset(value)?;
                    let group = groups.entry(id.clone()).or_insert_with(|| Group::new(None));
                    group.offsets.entry(topic).or_default().insert(partition, offset);
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
            let id = GroupId::from(key.str(false)?);
            let new = value.map(read_group).transpose()?;
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

fn read_offset(value: &[u8]) -> Result<GroupOffset, RecordError> {
    let mut r = Reader::new(Bytes::copy_from_slice(value));
    let version = r.i16()?;
    if !(0..=OFFSET_VALUE).contains(&version) {
        return Err(RecordError::Version(version));
    }
    let flexible = version >= 4;
    let offset = Offset(r.i64()?);
    let leader_epoch = if version >= 3 { r.i32()? } else { -1 };
    let metadata = r.str(flexible)?;
    let commit_timestamp = Timestamp(r.i64()?);
    let expire_timestamp = if version == OFFSET_VALUE_EXPIRING { r.i64()? } else { -1 };
    let mut topic_id = Uuid::ZERO;
    if flexible {
        r.tags(|r, tag| {
            if tag == 0 {
                topic_id = r.uuid()?;
            }
            Ok(tag == 0)
        })?;
    }
    Ok(GroupOffset {
        offset,
        leader_epoch: (leader_epoch >= 0).then_some(LeaderEpoch(leader_epoch)),
        metadata,
        commit_timestamp,
        expire_timestamp: (expire_timestamp >= 0).then_some(Timestamp(expire_timestamp)),
        topic_id: (!topic_id.is_zero()).then_some(TopicId(topic_id)),
    })
}

fn read_group(value: &[u8]) -> Result<Group, RecordError> {
    let mut r = Reader::new(Bytes::copy_from_slice(value));
    let version = r.i16()?;
    if !(0..=4).contains(&version) {
        return Err(RecordError::Version(version));
    }
    let flexible = version >= 4;
    let protocol_type = r.str(flexible)?;
    let generation = r.i32()?;
    let protocol = r.nullable_str(flexible)?;
    let leader = r.nullable_str(flexible)?.map(MemberId::from);
    let since = if version >= 2 { r.i64()? } else { -1 };
    let members = r.array(flexible, |r| read_member(r, version, protocol.as_ref()))?;
    if flexible {
        r.skip_tags()?;
    }
    let mut group = Group::new((since >= 0).then_some(Timestamp(since)));
    group.generation =
        Generation(if planted(Mutant::GenerationRegresses) { 0 } else { generation });
    group.protocol_type = (!protocol_type.is_empty()).then_some(protocol_type);
    for (id, member) in members {
        if member.protocols.is_empty() {
            return Err(RecordError::Contradiction("members without a protocol"));
        }
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
        group.protocol = protocol;
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

fn read_member(
    r: &mut Reader,
    version: i16,
    protocol: Option<&Str>,
) -> Result<(MemberId, Member), DecodeError> {
    let flexible = version >= 4;
    let id = MemberId::from(r.str(flexible)?);
    let instance = if version >= 3 { r.nullable_str(flexible)? } else { None };
    let client_id = r.str(flexible)?;
    let client_host = r.str(flexible)?;
    let rebalance_timeout = if version >= 1 { r.i32()? } else { -1 };
    let session_timeout = r.i32()?;
    let rebalance_timeout =
        if rebalance_timeout == -1 { session_timeout } else { rebalance_timeout };
    let metadata = r.bytes(flexible)?;
    let assignment = r.bytes(flexible)?;
    if flexible {
        r.skip_tags()?;
    }
    let protocols = protocol.map(|name| Protocol { name: name.clone(), metadata });
    let member = Member {
        instance: instance.map(InstanceId),
        client_id,
        client_host,
        session_timeout: duration(session_timeout),
        rebalance_timeout: duration(rebalance_timeout),
        protocols: protocols.into_iter().collect(),
        assignment,
        joining: None,
        syncing: None,
        is_new: false,
    };
    Ok((id, member))
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
