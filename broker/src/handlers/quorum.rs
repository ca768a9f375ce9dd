//! DescribeQuorum (key 55): who leads the metadata quorum, who votes, and how far each is.

use cluster::controller::METADATA_TOPIC;
use env::{Clock, Env};
use types::{BrokerId, ErrorCode};
use wire::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, ReplicaState,
    ResponsePartitionData, ResponseTopicData,
};

use super::Reply;
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::shared::Shared;

/// DescribeQuorum. The leader is this node, whose log is committed as far as it is told of.
pub(super) async fn describe_quorum<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: DescribeQuorumRequest,
) -> Reply<DescribeQuorumResponse> {
    if authorize(ctx, Operation::Describe, Resource::Cluster).is_err() {
        return Reply::Now(DescribeQuorumResponse {
            error_code: ErrorCode::ClusterAuthorizationFailed.as_i16(),
            ..DescribeQuorumResponse::default()
        });
    }
    let (quorum, view) = (broker.quorum(), broker.view());
    let end = view.offset.next().0;
    let now = broker.env().clock().timestamp().0;
    let has_directories = ctx.api_version >= 2;
    let voter = ReplicaState {
        replica_id: quorum.leader.node.0,
        replica_directory_id: match has_directories {
            true => quorum.leader.directory.0,
            false => Default::default(),
        },
        log_end_offset: end,
        last_fetch_timestamp: if ctx.api_version >= 1 { now } else { -1 },
        last_caught_up_timestamp: if ctx.api_version >= 1 { now } else { -1 },
    };
    // As in Kafka: nothing else may be asked with it.
    let is_alone = matches!(&request.topics[..], [topic] if topic.partitions.len() == 1);
    let partition = |topic: &str, index: i32| match (topic, index) {
        (METADATA_TOPIC, 0) if is_alone => ResponsePartitionData {
            partition_index: index,
            leader_id: quorum.leader.node.0,
            leader_epoch: quorum.epoch.0,
            high_watermark: end,
            current_voters: vec![voter.clone()],
            ..ResponsePartitionData::default()
        },
        _ => ResponsePartitionData {
            partition_index: index,
            error_code: ErrorCode::UnknownTopicOrPartition.as_i16(),
            ..ResponsePartitionData::default()
        },
    };
    let topics = request.topics.iter().map(|topic| ResponseTopicData {
        partitions: topic
            .partitions
            .iter()
            .map(|asked| partition(&topic.topic_name, asked.partition_index))
            .collect(),
        topic_name: topic.topic_name.clone(),
    });
    let registered = view.image.broker(BrokerId(quorum.leader.node.0));
    let listeners = registered.into_iter().flat_map(|info| &info.listeners).map(|listener| {
        Listener { name: listener.name.clone(), host: listener.host.clone(), port: listener.port }
    });
    let node = Node { node_id: quorum.leader.node.0, listeners: listeners.collect() };
    Reply::Now(DescribeQuorumResponse {
        topics: topics.collect(),
        nodes: if has_directories { vec![node] } else { Vec::new() },
        ..DescribeQuorumResponse::default()
    })
}
