//! Who votes, asked of others: what a node does that knows nobody of its cluster but some addresses
//! (`controller.quorum.bootstrap.servers`). Once its log names voters, it goes by those.

use std::collections::BTreeMap;
use std::time::Duration;

use client::{ClientError, Connection, ConnectionSettings};
use cluster::controller::METADATA_TOPIC;
use cluster::quorum::{Endpoint, Voter, Voters};
use env::{Clock, Env};
use types::NodeId;
use wire::describe_quorum::{self, DescribeQuorumRequest, DescribeQuorumResponse};

/// How long one address is tried.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause before all are tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// A word of what is wrong, every so many rounds.
const ROUNDS_PER_WORD: u32 = 20;
const ANSWER_BYTES_MAX: usize = 1 << 20;

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

async fn ask<E: Env>(env: &E, me: NodeId, host: &str, port: u16) -> Result<Voters, ClientError> {
    let settings = ConnectionSettings {
        client_id: format!("joiner-{me}").into(),
        connect_timeout: PATIENCE,
        request_timeout: PATIENCE,
        answer_bytes_max: ANSWER_BYTES_MAX,
        versions_version: None,
    };
    let connection = Connection::open(env, host, port, &settings).await?;
    let version = connection.version::<DescribeQuorumRequest>(None, i16::MAX)?;
    let request = DescribeQuorumRequest {
        topics: vec![describe_quorum::RequestTopicData {
            topic_name: METADATA_TOPIC.into(),
            partitions: vec![describe_quorum::RequestPartitionData::default()],
        }],
    };
    let answer = connection.ask(env, &request, version, PATIENCE).await?;
    ClientError::check(answer.error_code, None)?;
    Ok(voters_of(answer))
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
