//! DescribeCluster (key 60) and DescribeTopicPartitions (key 75): metadata as admin clients ask for it.

use std::collections::BTreeSet;

use env::Env;
use types::{ErrorCode, PartitionIndex};
use wire::Str;
use wire::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use wire::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic, ResponseCursor,
};

use super::metadata::{CLUSTER_OPERATIONS, PartitionState, TOPIC_OPERATIONS, address, ids};
use super::topics::check_name;
use super::{INTERNAL_TOPICS, OPERATIONS_UNKNOWN, Reply};
use crate::config::Audience;
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::shared::{Shared, TopicView, View};

/// `endpoint_type` of the wire.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// DescribeCluster.
pub(super) async fn describe_cluster<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: DescribeClusterRequest,
) -> Reply<DescribeClusterResponse> {
    let refuse = |code: ErrorCode, message: String| {
        Reply::Now(DescribeClusterResponse {
            error_code: code.as_i16(),
            error_message: Some(message.into()),
            cluster_authorized_operations: OPERATIONS_UNKNOWN,
            ..DescribeClusterResponse::default()
        })
    };
    let audience = ctx.listener.audience;
    match (request.endpoint_type, audience) {
        (BROKERS, Audience::Clients) | (CONTROLLERS, Audience::Controllers) => {}
        (CONTROLLERS, Audience::Clients) => {
            let message = "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER";
            return refuse(ErrorCode::MismatchedEndpointType, message.to_owned());
        }
        (BROKERS, Audience::Controllers) => {
            let message = "The request was sent to an endpoint of type CONTROLLER, but we wanted an endpoint of type BROKER";
            return refuse(ErrorCode::MismatchedEndpointType, message.to_owned());
        }
        (other, _) => {
            let message = format!("Unsupported endpoint type {other}");
            return refuse(ErrorCode::UnsupportedEndpointType, message);
        }
    }
    let operations = match request.include_cluster_authorized_operations {
        true => CLUSTER_OPERATIONS,
        false => OPERATIONS_UNKNOWN,
    };
    if audience == Audience::Controllers {
        return Reply::Now(controllers(broker, operations));
    }
    let image = broker.image();
    let shown = image.brokers().filter(|info| !info.is_fenced || request.include_fenced_brokers);
    let brokers = shown.filter_map(|info| {
        let (host, port) = address(ctx, broker, info)?;
        Some(DescribeClusterBroker {
            broker_id: info.id.0,
            host,
            port,
            rack: info.rack.clone(),
            is_fenced: info.is_fenced,
        })
    });
    Reply::Now(DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: (&*broker.cluster_id().0).into(),
        controller_id: broker.contact_for_changes(&image).0,
        brokers: brokers.collect(),
        cluster_authorized_operations: operations,
        ..DescribeClusterResponse::default()
    })
}

/// The nodes that decide, and which of them does: for tools that ask them alone (`--bootstrap-controller`).
fn controllers<E: Env>(broker: &Shared<E>, operations: i32) -> DescribeClusterResponse {
    let quorum = broker.quorum();
    let nodes = quorum.voters.nodes().filter_map(|node| {
        let (host, port) = broker.metadata().address_of(node)?;
        Some(DescribeClusterBroker {
            broker_id: node.0,
            host: (&*host).into(),
            port: port.into(),
            ..DescribeClusterBroker::default()
        })
    });
    DescribeClusterResponse {
        endpoint_type: CONTROLLERS,
        cluster_id: (&*broker.cluster_id().0).into(),
        controller_id: quorum.leader.map_or(-1, |node| node.0),
        brokers: nodes.collect(),
        cluster_authorized_operations: operations,
        ..DescribeClusterResponse::default()
    }
}

/// DescribeTopicPartitions: topics in the order of their names, a bounded number of partitions at a time.
pub(super) async fn describe_topic_partitions<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: DescribeTopicPartitionsRequest,
) -> Reply<DescribeTopicPartitionsResponse> {
    let view = broker.view();
    let (cursor_topic, cursor_partition) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.clone(), cursor.partition_index),
        None => (Str::EMPTY, 0),
    };
    if cursor_partition < 0 {
        return Reply::Now(refuse_all(&request));
    }
    let is_all = request.topics.is_empty();
    let named = request.topics.into_iter().map(|topic| topic.name);
    let names: BTreeSet<Str> = match is_all {
        true => view.topics().map(|topic| topic.name.clone().into()).collect(),
        false => named.collect(),
    };
    let most = broker.settings().described_partitions_max;
    let asked = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let mut left = most.min(asked).max(1);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names.range(cursor_topic.clone()..) {
        if left == 0 {
            let topic_name = name.clone();
            response.next_cursor = Some(ResponseCursor { topic_name, partition_index: 0 });
            break;
        }
        let first = if *name == cursor_topic { cursor_partition } else { 0 };
        let allowed = authorize(ctx, Operation::Describe, Resource::Topic(name));
        let code = match (allowed, view.topic(name)) {
            (Err(denied), _) => denied.code,
            (Ok(()), Some(topic)) => {
                let (described, next) = describe(broker, &view, topic, first, left);
                left -= described.partitions.len();
                response.topics.push(described);
                if let Some(next) = next {
                    let topic_name = name.clone();
                    let partition_index = next.0;
                    response.next_cursor = Some(ResponseCursor { topic_name, partition_index });
                    break;
                }
                continue;
            }
            (Ok(()), None) => {
                check_name(name).err().map_or(ErrorCode::UnknownTopicOrPartition, |r| r.code)
            }
        };
        if !is_all {
            response.topics.push(failed(code, name.clone()));
        }
    }
    Reply::Now(response)
}

fn refuse_all(request: &DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let topics = request.topics.iter();
    let topics = topics.map(|topic| failed(ErrorCode::InvalidRequest, topic.name.clone()));
    DescribeTopicPartitionsResponse { topics: topics.collect(), ..Default::default() }
}

fn failed(code: ErrorCode, name: Str) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: code.as_i16(),
        is_internal: INTERNAL_TOPICS.contains(&&*name),
        name: Some(name),
        topic_authorized_operations: OPERATIONS_UNKNOWN,
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

/// At most `most` partitions of a topic from `first` on, and the one to go on with.
fn describe<E: Env>(
    broker: &Shared<E>,
    view: &View<E>,
    topic: &TopicView<E>,
    first: i32,
    most: usize,
) -> (DescribeTopicPartitionsResponseTopic, Option<PartitionIndex>) {
    let info = view.image.topic_by_id(topic.id);
    let mut rest = info.into_iter().flat_map(|info| info.partitions.range(PartitionIndex(first)..));
    let partitions = rest.by_ref().take(most).map(|(index, info)| {
        let state = PartitionState::of(broker, &view.image, topic, *index, info);
        DescribeTopicPartitionsResponsePartition {
            error_code: state.code.as_i16(),
            partition_index: index.0,
            leader_id: state.leader.map_or(-1, |id| id.0),
            leader_epoch: info.leader_epoch.0,
            replica_nodes: ids(&info.replicas),
            isr_nodes: ids(&info.isr),
            eligible_leader_replicas: Some(ids(&info.elr)),
            last_known_elr: Some(ids(&info.last_known_elr)),
            offline_replicas: ids(&state.offline),
        }
    });
    let described = DescribeTopicPartitionsResponseTopic {
        name: Some(topic.name.clone().into()),
        topic_id: topic.id.0,
        is_internal: INTERNAL_TOPICS.contains(&topic.name.as_str()),
        partitions: partitions.collect(),
        topic_authorized_operations: TOPIC_OPERATIONS,
        ..DescribeTopicPartitionsResponseTopic::default()
    };
    let next = rest.next().map(|(index, _)| *index);
    (described, next)
}
