//! The metadata quorum: what its nodes ask each other, and DescribeQuorum (key 55) for everybody.

use std::time::Duration;

use cluster::controller::METADATA_TOPIC;
use cluster::quorum::{ReplicaKey, Voter};
use env::{Clock, Env, Part};
use record::Batch;
use types::{BrokerId, ErrorCode, NodeId, QuorumEpoch, Timestamp, Uuid};
use wire::add_raft_voter::{AddRaftVoterRequest, AddRaftVoterResponse};
use wire::begin_quorum_epoch::{BeginQuorumEpochRequest, BeginQuorumEpochResponse};
use wire::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, ReplicaState,
    ResponsePartitionData, ResponseTopicData,
};
use wire::end_quorum_epoch::{EndQuorumEpochRequest, EndQuorumEpochResponse};
use wire::fetch::FetchRequest;
use wire::fetch_snapshot::{FetchSnapshotRequest, FetchSnapshotResponse};
use wire::remove_raft_voter::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use wire::update_raft_voter::{UpdateRaftVoterRequest, UpdateRaftVoterResponse};
use wire::vote::{VoteRequest, VoteResponse};

use super::fetch::Answer;
use super::{FORWARD_TIME, Records, Reply};
use crate::config::Audience;
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::peer;
use crate::shared::{QuorumInfo, Shared};

/// From here on answers say where the leader is; those to fetches.
const ENDPOINTS_VERSION_MIN: i16 = 1;
const FETCH_ENDPOINTS_VERSION_MIN: i16 = 16;
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
        Ok(()) => {
            let mut response = broker.metadata().vote(request).await;
            if ctx.api_version < ENDPOINTS_VERSION_MIN {
                response.node_endpoints.clear();
            }
            response
        }
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
        Ok(()) => {
            let mut response = broker.metadata().begin_epoch(request).await;
            if ctx.api_version < ENDPOINTS_VERSION_MIN {
                response.node_endpoints.clear();
            }
            response
        }
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
        Ok(()) => {
            let mut response = broker.metadata().end_epoch(request).await;
            if ctx.api_version < ENDPOINTS_VERSION_MIN {
                response.node_endpoints.clear();
            }
            response
        }
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
    // What votes is a node with a directory: with another one it is somebody else.
    let votes = |directory| {
        let directory = types::DirectoryId(directory);
        broker.quorum().voters.contains(ReplicaKey { node, directory })
    };
    if let Some(partition) = partition
        && votes(partition.replica_directory_id)
    {
        let epoch = QuorumEpoch(partition.current_leader_epoch);
        broker.desk().on_voter_heard(node, epoch, ctx.connection, ctx.received);
    }
    let (metadata, version) = (broker.metadata().clone(), ctx.api_version);
    Reply::later(async move {
        let mut response: Answer<E> = metadata.fetch(request).await;
        if version < FETCH_ENDPOINTS_VERSION_MIN {
            response.node_endpoints.clear();
        }
        response
    })
}

/// AddRaftVoter.
pub(super) async fn add_raft_voter<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: AddRaftVoterRequest,
) -> Reply<AddRaftVoterResponse> {
    if let Err(denied) = authorize(ctx, Operation::Alter, Resource::Cluster) {
        let error_code = denied.code.as_i16();
        return Reply::Now(AddRaftVoterResponse { error_code, ..Default::default() });
    }
    let (broker, patience) = (broker.clone(), patience(request.timeout_ms));
    Reply::later(async move {
        // One that nobody reaches would be elected, and nobody could follow it.
        let first = request.listeners.first().filter(|_| broker.quorum().is_active);
        if let Some(at) = first
            && let Err(error) = peer::reach(&broker, &at.host, at.port).await
        {
            return AddRaftVoterResponse {
                error_code: ErrorCode::RequestTimedOut.as_i16(),
                error_message: Some(format!("{}:{}: {error}", at.host, at.port).as_str().into()),
                ..Default::default()
            };
        }
        let changing = broker.metadata().add_voter(request);
        broker.env().timeout(patience, changing).await.unwrap_or_else(|| AddRaftVoterResponse {
            error_code: ErrorCode::RequestTimedOut.as_i16(),
            ..Default::default()
        })
    })
}

/// RemoveRaftVoter.
pub(super) async fn remove_raft_voter<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: RemoveRaftVoterRequest,
) -> Reply<RemoveRaftVoterResponse> {
    if let Err(denied) = authorize(ctx, Operation::Alter, Resource::Cluster) {
        let error_code = denied.code.as_i16();
        return Reply::Now(RemoveRaftVoterResponse { error_code, ..Default::default() });
    }
    let broker = broker.clone();
    Reply::later(async move {
        let changing = broker.metadata().remove_voter(request);
        let changed = broker.env().timeout(patience(i32::MAX), changing).await;
        changed.unwrap_or_else(|| RemoveRaftVoterResponse {
            error_code: ErrorCode::RequestTimedOut.as_i16(),
            ..Default::default()
        })
    })
}

/// UpdateRaftVoter.
pub(super) async fn update_raft_voter<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: UpdateRaftVoterRequest,
) -> Reply<UpdateRaftVoterResponse> {
    if let Err(denied) = authorize(ctx, Operation::ClusterAction, Resource::Cluster) {
        let error_code = denied.code.as_i16();
        return Reply::Now(UpdateRaftVoterResponse { error_code, ..Default::default() });
    }
    let broker = broker.clone();
    Reply::later(async move {
        let changing = broker.metadata().update_voter(request);
        let changed = broker.env().timeout(patience(i32::MAX), changing).await;
        changed.unwrap_or_else(|| UpdateRaftVoterResponse {
            error_code: ErrorCode::RequestTimedOut.as_i16(),
            ..Default::default()
        })
    })
}

/// How long a change of voters is waited for: as its asker says, and no longer than others are.
fn patience(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0)).min(FORWARD_TIME)
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
        // Who votes alone may have no listener for other voters; whoever wants to join has no use for another one.
        let listeners: Vec<Listener> = own.collect();
        let listeners = match listeners.is_empty() && ctx.listener.audience == Audience::Clients {
            true => others.collect(),
            false => listeners,
        };
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
