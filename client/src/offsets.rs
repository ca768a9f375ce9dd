//! Offsets: of logs (where they begin and end, what was written when) and of groups (where they stand).
//!
//! Shared by consumers and admins. Each function is one attempt and speaks every version of its request; callers retry.

use std::collections::BTreeMap;
use std::time::Duration;

use env::Env;
use types::{GroupId, LeaderEpoch, Offset, Timestamp, TopicId, TopicName, TopicPartition};

use crate::cluster::{Client, Lane, Target};
use crate::error::ClientError;
use crate::metadata::Metadata;

/// Which offset of a log is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OffsetSpec {
    /// The log start offset.
    Earliest,
    /// The end: the high watermark, or the last stable offset for a read-committed reader.
    Latest,
    /// The first record with this timestamp or a later one.
    Timestamp(Timestamp),
    /// The record with the largest timestamp.
    MaxTimestamp,
}

impl OffsetSpec {
    fn on_wire(self) -> i64 {
        match self {
            OffsetSpec::Latest => -1,
            OffsetSpec::Earliest => -2,
            OffsetSpec::MaxTimestamp => -3,
            OffsetSpec::Timestamp(timestamp) => timestamp.0,
        }
    }
}

/// Whether a reader sees records of open and aborted transactions.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Isolation {
    /// It sees everything below the high watermark.
    #[default]
    ReadUncommitted,
    /// It sees only what is decided and committed.
    ReadCommitted,
}

impl Isolation {
    pub(crate) fn on_wire(self) -> i8 {
        match self {
            Isolation::ReadUncommitted => 0,
            Isolation::ReadCommitted => 1,
        }
    }
}

/// An offset found in a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FoundOffset {
    /// The offset.
    pub offset: Offset,
    /// The timestamp of its record, when the question was about timestamps.
    pub timestamp: Option<Timestamp>,
    /// The term its record was appended in, if told.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// A group's position in a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupOffset {
    /// The offset to be read next.
    pub offset: Offset,
    /// The term of the record before it, if known.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Text stored with it.
    pub metadata: String,
}

impl GroupOffset {
    /// A position and nothing else.
    pub fn at(offset: Offset) -> GroupOffset {
        GroupOffset { offset, leader_epoch: None, metadata: String::new() }
    }
}

/// Who commits offsets.
#[derive(Clone, Default, Debug)]
pub(crate) struct Committer {
    pub member_id: String,
    pub generation: Option<i32>,
    pub instance_id: Option<String>,
}

/// Results per partition.
pub type PerPartition<T> = BTreeMap<TopicPartition, Result<T, ClientError>>;

/// Asks one leader; all `partitions` should be led by it. `None`: no record is that young.
pub(crate) async fn list<E: Env>(
    client: &Client<E>,
    target: &Target,
    lane: Lane,
    partitions: &BTreeMap<TopicPartition, OffsetSpec>,
    isolation: Isolation,
) -> Result<PerPartition<Option<FoundOffset>>, ClientError> {
    use wire::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
    let metadata = client.current();
    let topics = by_topic(partitions.iter().map(|(partition, spec)| (partition, *spec)));
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level: isolation.on_wire(),
        topics: topics
            .into_iter()
            .map(|(topic, partitions)| ListOffsetsTopic {
                name: topic.as_str().into(),
                partitions: partitions
                    .into_iter()
                    .map(|(index, spec)| ListOffsetsPartition {
                        partition_index: index,
                        current_leader_epoch: epoch_on_wire(
                            metadata
                                .partition(&TopicPartition::new(topic.clone(), index))
                                .and_then(|partition| partition.leader_epoch),
                        ),
                        timestamp: spec.on_wire(),
                    })
                    .collect(),
            })
            .collect(),
        timeout_ms: millis(client.config().request_timeout),
    };
    let timeout = client.config().request_timeout;
    let answer = client.ask(target, lane, &request, i16::MAX, timeout).await?;
    let mut found = BTreeMap::new();
    for topic in answer.topics {
        for partition in topic.partitions {
            let result = ClientError::check(partition.error_code, None).map(|()| {
                (partition.offset >= 0).then_some(FoundOffset {
                    offset: Offset(partition.offset),
                    timestamp: (partition.timestamp >= 0).then_some(Timestamp(partition.timestamp)),
                    leader_epoch: epoch_from_wire(partition.leader_epoch),
                })
            });
            found.insert(TopicPartition::new(&*topic.name, partition.partition_index), result);
        }
    }
    Ok(found)
}

/// Asks one leader where the terms of positions end: smaller than the position means the log was cut.
pub(crate) async fn epoch_ends<E: Env>(
    client: &Client<E>,
    target: &Target,
    lane: Lane,
    partitions: &BTreeMap<TopicPartition, LeaderEpoch>,
) -> Result<PerPartition<Option<(LeaderEpoch, Offset)>>, ClientError> {
    use wire::offset_for_leader_epoch::{
        OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
    };
    let metadata = client.current();
    let topics = by_topic(partitions.iter().map(|(partition, epoch)| (partition, *epoch)));
    let request = OffsetForLeaderEpochRequest {
        replica_id: -1,
        topics: topics
            .into_iter()
            .map(|(topic, partitions)| OffsetForLeaderTopic {
                topic: topic.as_str().into(),
                partitions: partitions
                    .into_iter()
                    .map(|(index, epoch)| OffsetForLeaderPartition {
                        partition: index,
                        current_leader_epoch: epoch_on_wire(
                            metadata
                                .partition(&TopicPartition::new(topic.clone(), index))
                                .and_then(|partition| partition.leader_epoch),
                        ),
                        leader_epoch: epoch.0,
                    })
                    .collect(),
            })
            .collect(),
    };
    let timeout = client.config().request_timeout;
    let answer = client.ask(target, lane, &request, i16::MAX, timeout).await?;
    let mut ends = BTreeMap::new();
    for topic in answer.topics {
        for partition in topic.partitions {
            let result = ClientError::check(partition.error_code, None).map(|()| {
                let epoch = epoch_from_wire(partition.leader_epoch)?;
                (partition.end_offset >= 0).then_some((epoch, Offset(partition.end_offset)))
            });
            ends.insert(TopicPartition::new(&*topic.topic, partition.partition), result);
        }
    }
    Ok(ends)
}

/// A group's positions; `None` as `partitions` means all it has.
pub(crate) async fn fetch_group<E: Env>(
    client: &Client<E>,
    group: &GroupId,
    lane: Lane,
    partitions: Option<&[TopicPartition]>,
    require_stable: bool,
) -> Result<PerPartition<Option<GroupOffset>>, ClientError> {
    use wire::offset_fetch::{
        OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic,
        OffsetFetchRequestTopics,
    };
    let target = Target::Group(group.clone());
    let metadata = client.current();
    let connection = client.connection(&target, lane).await?;
    let named = partitions.map(|of| by_topic(of.iter().map(|partition| (partition, ()))));
    let ids_known = named
        .as_ref()
        .is_none_or(|topics| topics.keys().all(|topic| metadata.topic_id(topic).is_some()));
    let version_max = if ids_known && partitions.is_some() { i16::MAX } else { 9 };
    let version = connection
        .version::<OffsetFetchRequest>(client.pinned::<OffsetFetchRequest>(), version_max)?;
    let mut request = OffsetFetchRequest {
        require_stable: require_stable && version >= 7,
        ..OffsetFetchRequest::default()
    };
    let indexes = |of: Vec<(i32, ())>| of.into_iter().map(|(index, ())| index).collect::<Vec<_>>();
    if version >= 8 {
        request.groups = vec![OffsetFetchRequestGroup {
            group_id: group.as_str().into(),
            topics: named.map(|topics| {
                topics
                    .into_iter()
                    .map(|(topic, of)| OffsetFetchRequestTopics {
                        topic_id: id_on_wire(&metadata, &topic),
                        name: topic.as_str().into(),
                        partition_indexes: indexes(of),
                    })
                    .collect()
            }),
            member_epoch: -1,
            ..OffsetFetchRequestGroup::default()
        }];
    } else {
        request.group_id = group.as_str().into();
        request.topics = named.map(|topics| {
            topics
                .into_iter()
                .map(|(topic, of)| OffsetFetchRequestTopic {
                    name: topic.as_str().into(),
                    partition_indexes: indexes(of),
                })
                .collect()
        });
    }
    let timeout = client.config().request_timeout;
    let answer = connection.ask(client.env(), &request, version, timeout).await?;
    let mut found = BTreeMap::new();
    let mut add = |name: &str, index, code, offset, epoch, text: Option<String>| {
        let result = ClientError::check(code, None).map(|()| {
            (offset >= 0).then(|| GroupOffset {
                offset: Offset(offset),
                leader_epoch: epoch_from_wire(epoch),
                metadata: text.unwrap_or_default(),
            })
        });
        found.insert(TopicPartition::new(name, index), result);
    };
    ClientError::check(answer.error_code, None)?;
    for topic in answer.topics {
        for p in topic.partitions {
            let text = p.metadata.map(|text| text.to_string());
            let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
            add(&topic.name, p.partition_index, p.error_code, offset, epoch, text);
        }
    }
    for group in answer.groups {
        ClientError::check(group.error_code, None)?;
        for topic in group.topics {
            let name = name_from_wire(&metadata, version >= 10, topic.topic_id, &topic.name);
            let Some(name) = name else { continue };
            for p in topic.partitions {
                let text = p.metadata.map(|text| text.to_string());
                let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
                add(name.as_str(), p.partition_index, p.error_code, offset, epoch, text);
            }
        }
    }
    Ok(found)
}

/// Stores a group's positions.
pub(crate) async fn commit_group<E: Env>(
    client: &Client<E>,
    group: &GroupId,
    lane: Lane,
    committer: &Committer,
    offsets: &BTreeMap<TopicPartition, GroupOffset>,
) -> Result<PerPartition<()>, ClientError> {
    use wire::offset_commit::{
        OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    };
    let target = Target::Group(group.clone());
    let metadata = client.current();
    let connection = client.connection(&target, lane).await?;
    let topics = by_topic(offsets.iter());
    let ids_known = topics.keys().all(|topic| metadata.topic_id(topic).is_some());
    let version_max = if ids_known { i16::MAX } else { 9 };
    let pinned = client.pinned::<OffsetCommitRequest>();
    let version = connection.version::<OffsetCommitRequest>(pinned, version_max)?;
    let request = OffsetCommitRequest {
        group_id: group.as_str().into(),
        generation_id_or_member_epoch: committer.generation.unwrap_or(-1),
        member_id: committer.member_id.as_str().into(),
        group_instance_id: committer.instance_id.as_deref().map(Into::into),
        topics: topics
            .into_iter()
            .map(|(topic, partitions)| OffsetCommitRequestTopic {
                topic_id: id_on_wire(&metadata, &topic),
                name: topic.as_str().into(),
                partitions: partitions
                    .into_iter()
                    .map(|(index, offset)| OffsetCommitRequestPartition {
                        partition_index: index,
                        committed_offset: offset.offset.0,
                        committed_leader_epoch: epoch_on_wire(offset.leader_epoch),
                        committed_metadata: Some(offset.metadata.as_str().into()),
                    })
                    .collect(),
            })
            .collect(),
        ..OffsetCommitRequest::default()
    };
    let timeout = client.config().request_timeout;
    let answer = connection.ask(client.env(), &request, version, timeout).await?;
    let mut results = BTreeMap::new();
    for topic in answer.topics {
        let name = name_from_wire(&metadata, version >= 10, topic.topic_id, &topic.name);
        let Some(name) = name else { continue };
        for partition in topic.partitions {
            let result = ClientError::check(partition.error_code, None);
            results.insert(TopicPartition::new(name.clone(), partition.partition_index), result);
        }
    }
    Ok(results)
}

/// Groups partitions by topic.
pub(crate) fn by_topic<'a, T>(
    partitions: impl IntoIterator<Item = (&'a TopicPartition, T)>,
) -> BTreeMap<TopicName, Vec<(i32, T)>> {
    let mut topics: BTreeMap<TopicName, Vec<(i32, T)>> = BTreeMap::new();
    for (partition, value) in partitions {
        topics.entry(partition.topic.clone()).or_default().push((partition.partition.0, value));
    }
    topics
}

pub(crate) fn epoch_on_wire(epoch: Option<LeaderEpoch>) -> i32 {
    epoch.map_or(-1, |epoch| epoch.0)
}

pub(crate) fn epoch_from_wire(epoch: i32) -> Option<LeaderEpoch> {
    (epoch >= 0).then_some(LeaderEpoch(epoch))
}

pub(crate) fn id_on_wire(metadata: &Metadata, topic: &TopicName) -> types::Uuid {
    metadata.topic_id(topic).map(|id| id.0).unwrap_or_default()
}

pub(crate) fn name_from_wire(
    metadata: &Metadata,
    by_id: bool,
    id: types::Uuid,
    name: &str,
) -> Option<TopicName> {
    if by_id { metadata.topic_name(TopicId(id)).cloned() } else { Some(name.into()) }
}

pub(crate) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
