//! Who votes, asked of others: what a node does that knows nobody of its cluster but some addresses
//! (`controller.quorum.bootstrap.servers`). Once its log names voters, it goes by those; if none of them leads for long, because
//! it was away while all of them were replaced, it asks those addresses again who does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::QuorumInfo;
use client::{ClientError, Connection, ConnectionSettings};
use cluster::controller::METADATA_TOPIC;
use cluster::quorum::{Endpoint, Voter, Voters};
use env::{Clock, Env};
use tokio::sync::{mpsc, watch};
use types::{ClusterId, NodeId, QuorumEpoch};
use wire::describe_cluster::DescribeClusterRequest;
use wire::describe_quorum::{self, DescribeQuorumRequest, DescribeQuorumResponse};

/// How long one address is tried.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause before all are tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// A word of what is wrong, every so many rounds.
const ROUNDS_PER_WORD: u32 = 20;
/// For so long a node finds its leader among those that it knows.
const LEADERLESS: Duration = Duration::from_secs(3);
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// What Kafka calls the nodes that decide, where a cluster is described.
const CONTROLLERS: i8 = 2;

/// Asks one after the other until one of them knows others than this node: it does not vote before its log says so.
pub(super) async fn voters<E: Env>(env: &E, me: NodeId, servers: &[(String, u16)]) -> Voters {
    for round in 0.. {
        for (host, port) in servers {
            match ask(env, me, host, *port).await {
                Ok(mut voters) if voters.nodes().any(|node| node != me) => {
                    voters.0.remove(&me);
                    let nodes: Vec<NodeId> = voters.nodes().collect();
                    tracing::info!(?nodes, "{host}:{port} says who decides in this cluster");
                    return voters;
                }
                Ok(_) if round % ROUNDS_PER_WORD == 0 => {
                    tracing::warn!("{host}:{port} knows nobody else who decides in this cluster");
                }
                Ok(_) => {}
                Err(error) if round % ROUNDS_PER_WORD == 0 => {
                    tracing::warn!(
                        %error,
                        "{host}:{port} does not say who decides in this cluster; if this node is to begin one, format its \
                         directories with --standalone"
                    );
                }
                Err(_) => {}
            }
        }
        env.clock().sleep(PAUSE).await;
    }
    Voters::default()
}

/// Who leads, told by an address of the configuration.
pub(super) struct Told {
    pub(super) leader: NodeId,
    pub(super) epoch: QuorumEpoch,
    pub(super) host: Arc<str>,
    pub(super) port: u16,
}

/// Asks `servers` who leads `cluster` whenever this node has had no leader for long, until its room ends.
pub(super) async fn seek_leader<E: Env>(
    env: E,
    me: NodeId,
    cluster: ClusterId,
    servers: Vec<(String, u16)>,
    mut quorum: watch::Receiver<Arc<QuorumInfo>>,
    found: mpsc::Sender<Told>,
) {
    loop {
        let has_none = |known: &Arc<QuorumInfo>| known.leader.is_none();
        if quorum.wait_for(has_none).await.is_err() {
            return;
        }
        let found_one = quorum.wait_for(|known| known.leader.is_some());
        match env.timeout(LEADERLESS, found_one).await {
            Some(Ok(_)) => continue,
            Some(Err(_)) => return,
            None => {}
        }
        for (host, port) in &servers {
            match leader(&env, me, &cluster, host, *port).await {
                Ok(Some(told)) if told.leader != me => {
                    tracing::info!(leader = %told.leader, epoch = %told.epoch, "{host}:{port} says who leads");
                    if found.send(told).await.is_err() {
                        return;
                    }
                    break;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "{host}:{port} does not say who leads the metadata quorum");
                }
            }
        }
    }
}

/// Whom the node at an address follows, if it is of this cluster.
async fn leader<E: Env>(
    env: &E,
    me: NodeId,
    cluster: &ClusterId,
    host: &str,
    port: u16,
) -> Result<Option<Told>, ClientError> {
    let connection = connect(env, me, host, port).await?;
    let version = connection.version::<DescribeClusterRequest>(None, i16::MAX)?;
    let request = DescribeClusterRequest { endpoint_type: CONTROLLERS, ..Default::default() };
    let described = connection.ask(env, &request, version, PATIENCE).await?;
    if described.cluster_id.as_str() != &*cluster.0 {
        tracing::error!(
            "{host}:{port} is of another cluster: check controller.quorum.bootstrap.servers"
        );
        return Ok(None);
    }
    let answer = describe(env, &connection).await?;
    let partition = answer.topics.first().and_then(|topic| topic.partitions.first());
    let Some((leader, epoch)) = partition.map(|known| (known.leader_id, known.leader_epoch)) else {
        return Ok(None);
    };
    let nodes = answer.nodes.iter().filter(|node| node.node_id == leader);
    let at = nodes.flat_map(|node| &node.listeners).next();
    Ok(at.map(|at| Told {
        leader: NodeId(leader),
        epoch: QuorumEpoch(epoch),
        host: at.host.as_str().into(),
        port: at.port,
    }))
}

async fn ask<E: Env>(env: &E, me: NodeId, host: &str, port: u16) -> Result<Voters, ClientError> {
    let connection = connect(env, me, host, port).await?;
    Ok(voters_of(describe(env, &connection).await?))
}

async fn connect<E: Env>(
    env: &E,
    me: NodeId,
    host: &str,
    port: u16,
) -> Result<Connection, ClientError> {
    let settings = ConnectionSettings {
        client_id: format!("joiner-{me}").into(),
        connect_timeout: PATIENCE,
        request_timeout: PATIENCE,
        answer_bytes_max: ANSWER_BYTES_MAX,
        versions_version: None,
    };
    Connection::open(env, host, port, &settings).await
}

async fn describe<E: Env>(
    env: &E,
    connection: &Connection,
) -> Result<DescribeQuorumResponse, ClientError> {
    let version = connection.version::<DescribeQuorumRequest>(None, i16::MAX)?;
    let request = DescribeQuorumRequest {
        topics: vec![describe_quorum::RequestTopicData {
            topic_name: METADATA_TOPIC.into(),
            partitions: vec![describe_quorum::RequestPartitionData::default()],
        }],
    };
    let answer = connection.ask(env, &request, version, PATIENCE).await?;
    ClientError::check(answer.error_code, None)?;
    Ok(answer)
}

fn voters_of(answer: DescribeQuorumResponse) -> Voters {
    let voters = answer.nodes.into_iter().filter_map(|node| {
        let endpoints = node.listeners.into_iter().map(|known| Endpoint {
            listener: known.name,
            host: known.host,
            port: known.port,
        });
        let endpoints: Vec<Endpoint> = endpoints.collect();
        // Its directory is learnt from the log.
        let voter = Voter { directory: None, endpoints };
        (!voter.endpoints.is_empty()).then_some((NodeId(node.node_id), voter))
    });
    Voters(voters.collect::<BTreeMap<NodeId, Voter>>())
}
