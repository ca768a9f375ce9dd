//! Committed offsets: OffsetCommit, OffsetFetch, OffsetDelete.
//!
//! Topics and partitions are checked here against one picture of the metadata, with the topic's identity; the group's
//! coordinator decides about the rest. An offset is committed together with the identity of its topic, whatever the
//! client's version says, so that it is never returned for a successor of the same name (E58).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cluster::group::{
    CommitOffsetsRequest, CommitPartition, CommitTopic, DeleteOffsetsRequest, Event,
    FetchOffsetsRequest, FetchTopic, GroupOffset, Response, TopicErrors, TopicOffsets,
};
use env::Env;
use types::{
    ErrorCode, GroupId, LeaderEpoch, Offset, PartitionIndex, Str, TopicId, TopicName, Uuid,
};
use wire::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use wire::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};
use wire::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};

use super::Reply;
use super::group::{error_of, generation, instance, named};
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::coordinator::Pending;
use crate::shared::{Shared, TopicView, View};

/// Commits offsets of a group.
pub(crate) async fn offset_commit<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: OffsetCommitRequest,
) -> Reply<OffsetCommitResponse> {
    let by_id = ctx.api_version >= 10;
    let mut answer = CommitAnswer::default();
    if let Err(denied) = authorize(ctx, Operation::Read, Resource::Group(&request.group_id)) {
        for topic in &request.topics {
            answer.refuse(topic, denied.code);
        }
        return Reply::Now(answer.response(by_id));
    }
    let view = broker.view();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        match committable(ctx, &view, &topic) {
            Err(code) => answer.refuse(&topic, code),
            Ok(known) => {
                let topic = answer.commit_topic(&known, topic);
                if !topic.partitions.is_empty() {
                    topics.push(topic);
                }
            }
        }
    }
    if topics.is_empty() {
        return Reply::Now(answer.response(by_id));
    }
    let group = GroupId::from(request.group_id);
    let retention = u64::try_from(request.retention_time_ms).ok().map(Duration::from_millis);
    let asked: Vec<(TopicName, Vec<PartitionIndex>)> = topics
        .iter()
        .map(|topic| (topic.topic.clone(), topic.partitions.iter().map(|p| p.partition).collect()))
        .collect();
    let commit = CommitOffsetsRequest {
        group: group.clone(),
        member: named(request.member_id),
        instance: instance(request.group_instance_id),
        generation: generation(request.generation_id_or_member_epoch),
        retention,
        knows_group_not_found: ctx.api_version >= 9,
        topics,
    };
    let pending = broker.groups().submit(&group, |token| Event::CommitOffsets(token, commit)).await;
    let (env, patience) = (broker.env().clone(), broker.settings().offsets_commit_timeout);
    Reply::later(async move {
        match env.timeout(patience, pending.answer()).await {
            // Its record may be committed yet; the client commits again.
            None => answer.fail(asked, ErrorCode::CoordinatorNotAvailable),
            Some(Ok(Response::CommitOffsets(Ok(committed)))) => answer.add(committed),
            Some(Ok(Response::CommitOffsets(Err(code)))) => answer.fail(asked, code),
            Some(other) => answer.fail(asked, error_of(other)),
        }
        answer.response(by_id)
    })
}

/// The topic to commit offsets of, if the principal may know it and it exists.
fn committable<E: Env>(
    ctx: &RequestContext,
    view: &View<E>,
    topic: &OffsetCommitRequestTopic,
) -> Result<Arc<TopicView<E>>, ErrorCode> {
    let known = if ctx.api_version >= 10 {
        view.topic_by_id(TopicId(topic.topic_id)).ok_or(ErrorCode::UnknownTopicId)
    } else {
        view.topic(&topic.name).ok_or(ErrorCode::UnknownTopicOrPartition)
    };
    let name = known.map_or(&*topic.name, |known| known.name.as_str());
    authorize(ctx, Operation::Read, Resource::Topic(name)).map_err(|denied| denied.code)?;
    known.cloned()
}

/// What becomes of each partition of an OffsetCommit, topic by topic in the order of the request.
#[derive(Default)]
struct CommitAnswer {
    topics: Vec<OffsetCommitResponseTopic>,
    /// Place in `topics` by name, for those handed to the coordinator.
    places: BTreeMap<TopicName, usize>,
}

impl CommitAnswer {
    fn refuse(&mut self, topic: &OffsetCommitRequestTopic, code: ErrorCode) {
        let partition = |partition_index| OffsetCommitResponsePartition {
            partition_index,
            error_code: code.as_i16(),
        };
        let partitions = topic.partitions.iter().map(|p| partition(p.partition_index)).collect();
        let (name, topic_id) = (topic.name.clone(), topic.topic_id);
        self.topics.push(OffsetCommitResponseTopic { name, topic_id, partitions });
    }

    /// Refuses partitions that do not exist; the others are to be committed.
    fn commit_topic<E: Env>(
        &mut self,
        known: &TopicView<E>,
        topic: OffsetCommitRequestTopic,
    ) -> CommitTopic {
        let mut refused = Vec::new();
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            if !(0..known.partitions_count()).contains(&partition.partition_index) {
                refused.push(OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: ErrorCode::UnknownTopicOrPartition.as_i16(),
                });
                continue;
            }
            let epoch = partition.committed_leader_epoch;
            partitions.push(CommitPartition {
                partition: PartitionIndex(partition.partition_index),
                offset: Offset(partition.committed_offset),
                leader_epoch: (epoch >= 0).then_some(LeaderEpoch(epoch)),
                metadata: partition.committed_metadata.unwrap_or_default(),
            });
        }
        self.places.entry(known.name.clone()).or_insert(self.topics.len());
        self.topics.push(OffsetCommitResponseTopic {
            name: (&known.name).into(),
            topic_id: topic.topic_id,
            partitions: refused,
        });
        CommitTopic { topic: known.name.clone(), topic_id: Some(known.id), partitions }
    }

    fn add(&mut self, committed: Vec<TopicErrors>) {
        for TopicErrors { topic, partitions } in committed {
            let Some(at) = self.places.get(&topic) else { continue };
            self.topics[*at].partitions.extend(partitions.into_iter().map(|(index, code)| {
                OffsetCommitResponsePartition {
                    partition_index: index.0,
                    error_code: code.as_i16(),
                }
            }));
        }
    }

    fn fail(&mut self, asked: Vec<(TopicName, Vec<PartitionIndex>)>, code: ErrorCode) {
        let refused = |(topic, partitions): (TopicName, Vec<PartitionIndex>)| TopicErrors {
            topic,
            partitions: partitions.into_iter().map(|index| (index, code)).collect(),
        };
        self.add(asked.into_iter().map(refused).collect());
    }

    fn response(mut self, by_id: bool) -> OffsetCommitResponse {
        for topic in &mut self.topics {
            if by_id {
                topic.name = Str::EMPTY;
            } else {
                topic.topic_id = Uuid::ZERO;
            }
        }
        OffsetCommitResponse { throttle_time_ms: 0, topics: self.topics }
    }
}

/// Tells the committed offsets of groups.
pub(crate) async fn offset_fetch<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: OffsetFetchRequest,
) -> Reply<OffsetFetchResponse> {
    let version = ctx.api_version;
    if version >= 8 {
        let mut pending = Vec::with_capacity(request.groups.len());
        // All that a group has is told once: a short name may stand for much.
        let mut seen = BTreeSet::new();
        let mut is_new = |group: &OffsetFetchRequestGroup| {
            group.topics.is_some() || seen.insert(group.group_id.clone())
        };
        for group in request.groups.into_iter().filter(|group| is_new(group)) {
            pending.push(fetch_group(ctx, broker, group).await);
        }
        return Reply::later(async move {
            let mut groups = Vec::with_capacity(pending.len());
            for group in pending {
                groups.push(group.answer(version).await);
            }
            OffsetFetchResponse { groups, ..OffsetFetchResponse::default() }
        });
    }
    let topics = request.topics.map(|topics| {
        let topic = |topic: wire::offset_fetch::OffsetFetchRequestTopic| OffsetFetchRequestTopics {
            name: topic.name,
            topic_id: Uuid::ZERO,
            partition_indexes: topic.partition_indexes,
        };
        topics.into_iter().map(topic).collect()
    });
    let group = OffsetFetchRequestGroup {
        group_id: request.group_id,
        topics,
        ..OffsetFetchRequestGroup::default()
    };
    let pending = fetch_group(ctx, broker, group).await;
    Reply::later(async move { one_group(pending.answer(version).await) })
}

/// A group's part of an OffsetFetch on its way.
struct FetchedGroup<E: Env> {
    group: Str,
    pending: Result<Pending, ErrorCode>,
    /// What was asked for by topic and partition; absent if all was asked for.
    asked: Option<Vec<OffsetFetchRequestTopics>>,
    /// Topics whose id is not known.
    unknown: Vec<OffsetFetchResponseTopics>,
    view: Arc<View<E>>,
    ctx: RequestContext,
}

async fn fetch_group<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: OffsetFetchRequestGroup,
) -> FetchedGroup<E> {
    let view = broker.view();
    let mut unknown = Vec::new();
    let group = GroupId::from(&request.group_id);
    let denied = authorize(ctx, Operation::Describe, Resource::Group(&request.group_id)).err();
    let topics = request.topics.as_ref().map(|topics| {
        let mut known = Vec::with_capacity(topics.len());
        for topic in topics {
            match fetchable(ctx, &view, topic) {
                Ok(topic) => known.push(topic),
                Err(code) => unknown.push(refused_topic(topic, code)),
            }
        }
        known
    });
    let pending = match denied {
        Some(denied) => Err(denied.code),
        None => {
            let fetch = FetchOffsetsRequest { group: group.clone(), topics };
            Ok(broker.groups().submit(&group, |token| Event::FetchOffsets(token, fetch)).await)
        }
    };
    let (group, asked) = (request.group_id, request.topics);
    FetchedGroup { group, pending, asked, unknown, view, ctx: ctx.clone() }
}

/// The topic to fetch offsets of. A name may be unknown: its offsets are told all the same; an id may not.
fn fetchable<E: Env>(
    ctx: &RequestContext,
    view: &View<E>,
    topic: &OffsetFetchRequestTopics,
) -> Result<FetchTopic, ErrorCode> {
    let (name, topic_id) = if ctx.api_version >= 10 {
        let known = view.topic_by_id(TopicId(topic.topic_id)).ok_or(ErrorCode::UnknownTopicId)?;
        (known.name.clone(), Some(known.id))
    } else {
        (TopicName::from(&topic.name), view.topic(&topic.name).map(|known| known.id))
    };
    authorize(ctx, Operation::Describe, Resource::Topic(name.as_str()))
        .map_err(|denied| denied.code)?;
    let partitions = topic.partition_indexes.iter().map(|index| PartitionIndex(*index)).collect();
    Ok(FetchTopic { topic: name, topic_id, partitions })
}

fn refused_topic(topic: &OffsetFetchRequestTopics, code: ErrorCode) -> OffsetFetchResponseTopics {
    let partition = |index: &i32| OffsetFetchResponsePartitions {
        error_code: code.as_i16(),
        ..fetched_partition(PartitionIndex(*index), None)
    };
    OffsetFetchResponseTopics {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic.partition_indexes.iter().map(partition).collect(),
    }
}

fn fetched_partition(
    index: PartitionIndex,
    offset: Option<GroupOffset>,
) -> OffsetFetchResponsePartitions {
    let epoch = offset.as_ref().and_then(|offset| offset.leader_epoch);
    OffsetFetchResponsePartitions {
        partition_index: index.0,
        committed_offset: offset.as_ref().map_or(-1, |offset| offset.offset.0),
        committed_leader_epoch: epoch.map_or(-1, |epoch| epoch.0),
        metadata: Some(offset.map(|offset| offset.metadata).unwrap_or_default()),
        error_code: ErrorCode::None.as_i16(),
    }
}

impl<E: Env> FetchedGroup<E> {
    async fn answer(self, version: i16) -> OffsetFetchResponseGroup {
        let fetched = match self.pending {
            Err(code) => Err(code),
            Ok(pending) => match pending.answer().await {
                Ok(Response::FetchOffsets(fetched)) => fetched,
                other => Err(match error_of(other) {
                    // Old consumers give up on this one, but look for the coordinator after the other.
                    ErrorCode::CoordinatorNotAvailable => ErrorCode::NotCoordinator,
                    code => code,
                }),
            },
        };
        let mut group = OffsetFetchResponseGroup {
            group_id: self.group,
            ..OffsetFetchResponseGroup::default()
        };
        match fetched {
            Ok(fetched) => {
                let all = self.asked.is_none();
                let topics = fetched
                    .into_iter()
                    .filter_map(|topic| fetched_topic(&self.ctx, &self.view, version, all, topic));
                group.topics = topics.chain(self.unknown).collect();
            }
            Err(code) => {
                group.error_code = code.as_i16();
                if version < 2 {
                    // There is no place for an error but the partitions.
                    let asked = self.asked.unwrap_or_default();
                    group.topics = asked.iter().map(|topic| refused_topic(topic, code)).collect();
                }
            }
        }
        group
    }
}

/// A topic of the answer. When everything was asked for, what cannot be named now is left out.
fn fetched_topic<E: Env>(
    ctx: &RequestContext,
    view: &View<E>,
    version: i16,
    all: bool,
    fetched: TopicOffsets,
) -> Option<OffsetFetchResponseTopics> {
    let known = view.topic(fetched.topic.as_str());
    let id = known.map(|known| known.id);
    if all {
        authorize(ctx, Operation::Describe, Resource::Topic(fetched.topic.as_str())).ok()?;
    }
    let topic_id = match id {
        Some(TopicId(id)) if version >= 10 => id,
        None if version >= 10 => return None,
        _ => Uuid::ZERO,
    };
    let of_predecessor = |offset: &GroupOffset| matches!((offset.topic_id, id), (Some(then), Some(now)) if then != now);
    let partitions = fetched.partitions.into_iter().filter_map(|(index, offset)| {
        if all && offset.as_ref().is_some_and(of_predecessor) {
            return None;
        }
        Some(fetched_partition(index, offset))
    });
    let partitions: Vec<_> = partitions.collect();
    if all && partitions.is_empty() {
        return None;
    }
    let name = if version >= 10 { Str::EMPTY } else { fetched.topic.into() };
    Some(OffsetFetchResponseTopics { name, topic_id, partitions })
}

/// The answer of a version that knows one group only.
fn one_group(group: OffsetFetchResponseGroup) -> OffsetFetchResponse {
    let partition = |p: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: p.partition_index,
        committed_offset: p.committed_offset,
        committed_leader_epoch: p.committed_leader_epoch,
        metadata: p.metadata,
        error_code: p.error_code,
    };
    let topic = |topic: OffsetFetchResponseTopics| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(partition).collect(),
    };
    OffsetFetchResponse {
        error_code: group.error_code,
        topics: group.topics.into_iter().map(topic).collect(),
        ..OffsetFetchResponse::default()
    }
}

/// Forgets offsets of a group that does not read their topics.
pub(crate) async fn offset_delete<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: OffsetDeleteRequest,
) -> Reply<OffsetDeleteResponse> {
    let refused = |code: ErrorCode| OffsetDeleteResponse {
        error_code: code.as_i16(),
        ..OffsetDeleteResponse::default()
    };
    if let Err(denied) = authorize(ctx, Operation::Delete, Resource::Group(&request.group_id)) {
        return Reply::Now(refused(denied.code));
    }
    if request.group_id.is_empty() {
        return Reply::Now(refused(ErrorCode::InvalidGroupId));
    }
    let group = GroupId::from(request.group_id);
    let view = broker.view();
    let mut answers: BTreeMap<TopicName, Vec<(PartitionIndex, ErrorCode)>> = BTreeMap::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let allowed = authorize(ctx, Operation::Read, Resource::Topic(&topic.name));
        let count = match (&allowed, view.topic(&topic.name)) {
            (Ok(()), Some(known)) => known.partitions_count(),
            _ => 0,
        };
        let code = allowed.err().map_or(ErrorCode::UnknownTopicOrPartition, |denied| denied.code);
        let mut known = Vec::new();
        let mut unknown = Vec::new();
        for partition in topic.partitions {
            if (0..count).contains(&partition.partition_index) {
                known.push(PartitionIndex(partition.partition_index));
            } else {
                unknown.push((PartitionIndex(partition.partition_index), code));
            }
        }
        let name = TopicName::from(topic.name);
        if !unknown.is_empty() {
            answers.entry(name.clone()).or_default().extend(unknown);
        }
        if !known.is_empty() {
            topics.push((name, known));
        }
    }
    let delete = DeleteOffsetsRequest { group: group.clone(), topics };
    let pending = broker.groups().submit(&group, |token| Event::DeleteOffsets(token, delete)).await;
    Reply::later(async move {
        match pending.answer().await {
            Ok(Response::DeleteOffsets(Ok(deleted))) => {
                for TopicErrors { topic, partitions } in deleted {
                    answers.entry(topic).or_default().extend(partitions);
                }
                OffsetDeleteResponse {
                    topics: answers.into_iter().map(deleted_topic).collect(),
                    ..OffsetDeleteResponse::default()
                }
            }
            Ok(Response::DeleteOffsets(Err(code))) => refused(code),
            other => refused(error_of(other)),
        }
    })
}

fn deleted_topic(
    (topic, partitions): (TopicName, Vec<(PartitionIndex, ErrorCode)>),
) -> OffsetDeleteResponseTopic {
    let partition = |(index, code): (PartitionIndex, ErrorCode)| OffsetDeleteResponsePartition {
        partition_index: index.0,
        error_code: code.as_i16(),
    };
    OffsetDeleteResponseTopic {
        name: topic.into(),
        partitions: partitions.into_iter().map(partition).collect(),
    }
}
