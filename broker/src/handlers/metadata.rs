//! Metadata (key 3): brokers, topics and who leads what, as the client's listener sees it; creates missing topics if asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cluster::metadata::{BrokerInfo, Image, PartitionInfo};
use env::Env;
use types::{BrokerId, ErrorCode, PartitionIndex, TopicId, TopicName, Uuid};
use wire::Str;
use wire::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};

use super::topics::{auto_create, check_name};
use super::{INTERNAL_TOPICS, OPERATIONS_UNKNOWN, Reply};
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::replication::Following;
use crate::shared::{Shared, TopicView, View};

/// From here on "no topics" and "all topics" are told apart.
const NO_TOPICS_VERSION_MIN: i16 = 1;
/// From here on topics may be asked for by id.
const TOPIC_ID_VERSION_MIN: i16 = 12;

/// Bits of the operations that a topic knows: read, write, create, delete, alter, describe and those on its configs.
pub(super) const TOPIC_OPERATIONS: i32 =
    1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
/// Bits of the operations that the cluster knows: create, alter, describe, cluster action, those on its configs, and
/// idempotent write.
pub(super) const CLUSTER_OPERATIONS: i32 =
    1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;

/// Metadata.
pub(super) async fn metadata<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: MetadataRequest,
) -> Reply<MetadataResponse> {
    if let Some(refusal) = refusal(ctx, &request) {
        return Reply::Now(refusal);
    }
    let is_all = match &request.topics {
        None => true,
        Some(topics) => topics.is_empty() && ctx.api_version < NO_TOPICS_VERSION_MIN,
    };
    let asked = request.topics.unwrap_or_default();
    let topic_operations = match request.include_topic_authorized_operations {
        true => TOPIC_OPERATIONS,
        false => OPERATIONS_UNKNOWN,
    };
    let topics = match is_all {
        true => all_topics(ctx, broker, topic_operations),
        false => {
            let creates = request.allow_auto_topic_creation && broker.settings().is_auto_create_on;
            some_topics(ctx, broker, asked, creates, topic_operations).await
        }
    };
    let image = broker.image();
    let brokers = image.brokers().filter(|info| !info.is_fenced);
    Reply::Now(MetadataResponse {
        brokers: brokers
            .filter_map(|info| {
                let (host, port) = address(ctx, broker, info)?;
                let node_id = info.id.0;
                let rack = info.rack.clone();
                Some(MetadataResponseBroker { node_id, host, port, rack })
            })
            .collect(),
        cluster_id: Some((&*broker.cluster_id().0).into()),
        controller_id: broker.contact_for_changes(&image).0,
        topics,
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => CLUSTER_OPERATIONS,
            false => OPERATIONS_UNKNOWN,
        },
        ..MetadataResponse::default()
    })
}

/// Where the clients of this listener reach a broker; `None` if it has no such listener.
pub(super) fn address<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    info: &BrokerInfo,
) -> Option<(Str, i32)> {
    if info.id == broker.broker_id() {
        let (host, port) = &ctx.listener.advertised;
        return Some((host.as_str().into(), i32::from(*port)));
    }
    let listener = info.listeners.iter().find(|l| *l.name == *ctx.listener.name.as_str())?;
    Some((listener.host.clone(), i32::from(listener.port)))
}

/// Versions 10 and 11 have a field for topic ids and no way to use it.
fn refusal(ctx: &RequestContext, request: &MetadataRequest) -> Option<MetadataResponse> {
    let topics = request.topics.as_deref().unwrap_or_default();
    let uses_ids = |topic: &MetadataRequestTopic| topic.name.is_none() || !topic.topic_id.is_zero();
    if ctx.api_version >= TOPIC_ID_VERSION_MIN || !topics.iter().any(uses_ids) {
        return None;
    }
    let refused = topics.iter().map(|topic| MetadataResponseTopic {
        error_code: ErrorCode::InvalidRequest.as_i16(),
        name: Some(topic.name.clone().unwrap_or_default()),
        topic_id: topic.topic_id,
        topic_authorized_operations: OPERATIONS_UNKNOWN,
        ..MetadataResponseTopic::default()
    });
    let topics = refused.collect();
    let cluster_authorized_operations = OPERATIONS_UNKNOWN;
    Some(MetadataResponse { topics, cluster_authorized_operations, ..Default::default() })
}

fn all_topics<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    operations: i32,
) -> Vec<MetadataResponseTopic> {
    let view = broker.view();
    let visible = view.topics().filter(|topic| {
        authorize(ctx, Operation::Describe, Resource::Topic(topic.name.as_str())).is_ok()
    });
    visible.map(|topic| known(broker, &view, topic, operations)).collect()
}

async fn some_topics<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    asked: Vec<MetadataRequestTopic>,
    creates: bool,
    operations: i32,
) -> Vec<MetadataResponseTopic> {
    let mut view = broker.view();
    // If any id is there, names do not count.
    let ids: BTreeSet<Uuid> =
        asked.iter().map(|topic| topic.topic_id).filter(|id| !id.is_zero()).collect();
    if !ids.is_empty() {
        let one = |id: Uuid| match view.topic_by_id(TopicId(id)) {
            Some(topic) => known(broker, &view, topic, operations),
            None => failed(ErrorCode::UnknownTopicId, None, id),
        };
        return ids.into_iter().map(one).collect();
    }
    let mut seen = BTreeSet::new();
    let names: Vec<Str> = asked
        .into_iter()
        .filter_map(|topic| topic.name)
        .filter(|name| seen.insert(name.clone()))
        .collect();
    let is_missing = |name: &Str| view.topic(name).is_none() && check_name(name).is_ok();
    let missing: Vec<TopicName> = names
        .iter()
        .filter(|name| is_missing(name))
        .filter(|name| authorize(ctx, Operation::Create, Resource::Topic(name)).is_ok())
        .map(|name| TopicName::from(&**name))
        .collect();
    let mut refused = BTreeMap::new();
    if creates && !missing.is_empty() {
        refused = auto_create(broker, missing).await.into_iter().collect();
        view = broker.view();
    }
    let one = |name: Str| {
        if let Err(denied) = authorize(ctx, Operation::Describe, Resource::Topic(&name)) {
            return failed(denied.code, Some(name), Uuid::ZERO);
        }
        if let Some(topic) = view.topic(&name) {
            return known(broker, &view, topic, operations);
        }
        let why = refused.get(&*name).copied();
        let code = match check_name(&name) {
            Ok(()) => why.unwrap_or(ErrorCode::UnknownTopicOrPartition),
            Err(refused) => refused.code,
        };
        failed(code, Some(name), Uuid::ZERO)
    };
    names.into_iter().map(one).collect()
}

fn failed(code: ErrorCode, name: Option<Str>, topic_id: Uuid) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: code.as_i16(),
        is_internal: name.as_deref().is_some_and(|name| INTERNAL_TOPICS.contains(&name)),
        name,
        topic_id,
        topic_authorized_operations: OPERATIONS_UNKNOWN,
        ..MetadataResponseTopic::default()
    }
}

fn known<E: Env>(
    broker: &Shared<E>,
    view: &View<E>,
    topic: &Arc<TopicView<E>>,
    operations: i32,
) -> MetadataResponseTopic {
    let partitions = view.image.topic_by_id(topic.id).map(|info| &info.partitions);
    let partitions = partitions.into_iter().flatten();
    MetadataResponseTopic {
        name: Some(topic.name.clone().into()),
        topic_id: topic.id.0,
        is_internal: INTERNAL_TOPICS.contains(&topic.name.as_str()),
        partitions: partitions
            .map(|(index, info)| {
                let state = PartitionState::of(broker, &view.image, topic, *index, info);
                MetadataResponsePartition {
                    error_code: state.code.as_i16(),
                    partition_index: index.0,
                    leader_id: state.leader.map_or(-1, |id| id.0),
                    leader_epoch: info.leader_epoch.0,
                    replica_nodes: ids(&info.replicas),
                    isr_nodes: ids(&info.isr),
                    offline_replicas: ids(&state.offline),
                }
            })
            .collect(),
        topic_authorized_operations: operations,
        ..MetadataResponseTopic::default()
    }
}

/// Who serves a partition now.
pub(super) struct PartitionState {
    pub(super) code: ErrorCode,
    pub(super) leader: Option<BrokerId>,
    pub(super) offline: Vec<BrokerId>,
}

impl PartitionState {
    pub(super) fn of<E: Env>(
        broker: &Shared<E>,
        image: &Image,
        topic: &TopicView<E>,
        index: PartitionIndex,
        info: &PartitionInfo,
    ) -> PartitionState {
        let us = broker.broker_id();
        let serves = topic.partition(index).is_some_and(|room| room.check_serving().is_ok());
        let works = |id: &BrokerId| match *id == us {
            true => serves || topic.following(index).is_some_and(Following::works),
            false => image.broker(*id).is_some_and(|known| {
                let home = info.directory_of(*id);
                !known.is_fenced && home.is_none_or(|home| known.directories.contains(&home))
            }),
        };
        let leader = info.leader.filter(|leader| *leader != us || serves);
        let code = match leader {
            Some(_) => ErrorCode::None,
            None => ErrorCode::LeaderNotAvailable,
        };
        let offline = info.replicas.iter().copied().filter(|id| !works(id)).collect();
        PartitionState { code, leader, offline }
    }
}

pub(super) fn ids(brokers: &[BrokerId]) -> Vec<i32> {
    brokers.iter().map(|broker| broker.0).collect()
}
