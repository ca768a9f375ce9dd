//! The metadata quorum: what its nodes ask each other, and DescribeQuorum (key 55) for everybody.

use cluster::controller::METADATA_TOPIC;
use cluster::quorum::{ReplicaKey, Voter};
use env::{Clock, Env, Part};
use record::Batch;
use types::{BrokerId, ErrorCode, NodeId, QuorumEpoch, Timestamp, Uuid};
use wire::begin_quorum_epoch::{BeginQuorumEpochRequest, BeginQuorumEpochResponse};
use wire::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, ReplicaState,
    ResponsePartitionData, ResponseTopicData,
};
use wire::end_quorum_epoch::{EndQuorumEpochRequest, EndQuorumEpochResponse};
use wire::fetch::FetchRequest;
use wire::fetch_snapshot::{FetchSnapshotRequest, FetchSnapshotResponse};
use wire::vote::{VoteRequest, VoteResponse};

use super::fetch::Answer;
use super::{Records, Reply};
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::shared::{QuorumInfo, Shared};

/// From here on replicas are named with their directories.
const DIRECTORIES_VERSION_MIN: i16 = 2;
/// From here on it is told when replicas fetched.
const TIMES_VERSION_MIN: i16 = 1;

impl<F> From<Vec<Batch>> for Records<F> {
    fn from(batches: Vec<Batch>) -> Records<F> {
        let parts: Vec<Part<F>> = batches.iter().map(|batch| Part::Mem(batch.to_bytes())).collect();
        let bytes = parts.iter().map(Part::len).sum();
        Records { parts, bytes }
    }
}

/// Vote.
pub(super) async fn vote<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: VoteRequest,
) -> Reply<VoteResponse> {
    Reply::Now(match authorize(ctx, Operation::ClusterAction, Resource::Cluster) {
        Ok(()) => broker.metadata().vote(request).await,
        Err(denied) => VoteResponse { error_code: denied.code.as_i16(), ..VoteResponse::default() },
    })
}

/// BeginQuorumEpoch.
pub(super) async fn begin_quorum_epoch<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: BeginQuorumEpochRequest,
) -> Reply<BeginQuorumEpochResponse> {
    Reply::Now(match authorize(ctx, Operation::ClusterAction, Resource::Cluster) {
        Ok(()) => broker.metadata().begin_epoch(request).await,
        Err(denied) => BeginQuorumEpochResponse {
            error_code: denied.code.as_i16(),
            ..BeginQuorumEpochResponse::default()
        },
    })
}

/// EndQuorumEpoch.
pub(super) async fn end_quorum_epoch<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: EndQuorumEpochRequest,
) -> Reply<EndQuorumEpochResponse> {
    Reply::Now(match authorize(ctx, Operation::ClusterAction, Resource::Cluster) {
        Ok(()) => broker.metadata().end_epoch(request).await,
        Err(denied) => EndQuorumEpochResponse {
            error_code: denied.code.as_i16(),
            ..EndQuorumEpochResponse::default()
        },
    })
}

/// FetchSnapshot.
pub(super) async fn fetch_snapshot<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: FetchSnapshotRequest,
) -> Reply<FetchSnapshotResponse> {
    Reply::Now(match authorize(ctx, Operation::ClusterAction, Resource::Cluster) {
        Ok(()) => broker.metadata().fetch_snapshot(broker.env().disk(), request).await,
        Err(denied) => FetchSnapshotResponse {
            error_code: denied.code.as_i16(),
            ..FetchSnapshotResponse::default()
        },
    })
}

/// Fetch of the metadata log: waits for news aside, so that the connection goes on.
pub(super) fn fetch_metadata<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: FetchRequest,
) -> Reply<Answer<E>> {
    if let Err(denied) = authorize(ctx, Operation::ClusterAction, Resource::Cluster) {
        return Reply::Now(Answer::<E> {
            error_code: denied.code.as_i16(),
            ..Answer::<E>::default()
        });
    }
    let partition = request.topics.first().and_then(|topic| topic.partitions.first());
    let node = NodeId(request.replica_state.replica_id);
    if let Some(partition) = partition
        && broker.quorum().voters.0.contains_key(&node)
    {
        let epoch = QuorumEpoch(partition.current_leader_epoch);
        broker.desk().on_voter_heard(node, epoch, ctx.connection, ctx.received);
    }
    let metadata = broker.metadata().clone();
    Reply::later(async move { metadata.fetch(request).await })
}

/// DescribeQuorum. Only the leader knows how far the others are.
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
    let view = broker.view();
    let now = broker.env().clock().timestamp();
    let quorum = Told {
        quorum: &broker.quorum(),
        me: broker.metadata().replica(),
        now,
        version: ctx.api_version,
    };
    // As in Kafka: nothing else may be asked with it.
    let is_alone = matches!(&request.topics[..], [topic] if topic.partitions.len() == 1);
    let partition = |topic: &str, index: i32| match (topic, index) {
        (METADATA_TOPIC, 0) if is_alone => quorum.partition(),
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
    let node = |(node, voter): (&NodeId, &Voter)| {
        let own = voter.endpoints.iter().map(|endpoint| Listener {
            name: endpoint.listener.clone(),
            host: endpoint.host.clone(),
            port: endpoint.port,
        });
        let registered = view.image.broker(BrokerId(node.0));
        let others = registered.into_iter().flat_map(|info| &info.listeners).map(|known| {
            Listener { name: known.name.clone(), host: known.host.clone(), port: known.port }
        });
        // Who votes alone has no listener for other voters.
        let listeners: Vec<Listener> = own.collect();
        let listeners = if listeners.is_empty() { others.collect() } else { listeners };
        Node { node_id: node.0, listeners }
    };
    let nodes = quorum.quorum.voters.0.iter().map(node);
    Reply::Now(DescribeQuorumResponse {
        topics: topics.collect(),
        nodes: if ctx.api_version >= DIRECTORIES_VERSION_MIN {
            nodes.collect()
        } else {
            Vec::new()
        },
        ..DescribeQuorumResponse::default()
    })
}

/// The quorum, as it is told in a version.
struct Told<'a> {
    quorum: &'a QuorumInfo,
    me: ReplicaKey,
    now: Timestamp,
    version: i16,
}

impl Told<'_> {
    fn partition(&self) -> ResponsePartitionData {
        let quorum = self.quorum;
        let leader = quorum.leader.map_or(-1, |node| node.0);
        if quorum.leader != Some(self.me.node) {
            return ResponsePartitionData {
                error_code: ErrorCode::NotLeaderOrFollower.as_i16(),
                leader_id: leader,
                leader_epoch: quorum.epoch.0,
                ..ResponsePartitionData::default()
            };
        }
        let voter = |(node, voter): (&NodeId, &Voter)| {
            let known = quorum.followers.iter().find(|known| known.replica.node == *node);
            let directory = voter.directory.or(known.map(|known| known.replica.directory));
            let replica = ReplicaKey { node: *node, directory: directory.unwrap_or_default() };
            match known {
                _ if *node == self.me.node => {
                    self.replica(self.me, quorum.end.0, self.now, self.now)
                }
                Some(known) => self.replica(replica, known.end.0, known.fetched, known.caught_up),
                None => self.replica(replica, -1, Timestamp(-1), Timestamp(-1)),
            }
        };
        let observers =
            quorum.followers.iter().filter(|known| !quorum.voters.contains(known.replica));
        ResponsePartitionData {
            leader_id: leader,
            leader_epoch: quorum.epoch.0,
            high_watermark: quorum.high_watermark.0,
            current_voters: quorum.voters.0.iter().map(voter).collect(),
            observers: observers
                .map(|known| {
                    self.replica(known.replica, known.end.0, known.fetched, known.caught_up)
                })
                .collect(),
            ..ResponsePartitionData::default()
        }
    }

    fn replica(
        &self,
        key: ReplicaKey,
        end: i64,
        fetched: Timestamp,
        caught_up: Timestamp,
    ) -> ReplicaState {
        let has_times = self.version >= TIMES_VERSION_MIN;
        let time = |time: Timestamp| if has_times { time.0 } else { -1 };
        let directory = match self.version >= DIRECTORIES_VERSION_MIN {
            true => key.directory.0,
            false => Uuid::ZERO,
        };
        ReplicaState {
            replica_id: key.node.0,
            replica_directory_id: directory,
            log_end_offset: end,
            last_fetch_timestamp: time(fetched),
            last_caught_up_timestamp: time(caught_up),
        }
    }
}
