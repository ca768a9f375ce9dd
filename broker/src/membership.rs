//! This node's voice in the metadata quorum: that the other voters know where it listens, and that it gets a voice if it is to
//! have one by itself (`controller.quorum.auto.join.enable`).

use std::time::Duration;

use client::ClientError;
use cluster::quorum::{Endpoint, ReplicaKey, Voters};
use env::{Clock, Env};
use types::encoding::Str;
use wire::add_raft_voter::{self, AddRaftVoterRequest};
use wire::remove_raft_voter::RemoveRaftVoterRequest;
use wire::update_raft_voter::{self, UpdateRaftVoterRequest};

use crate::controller::ControllerWay;
use crate::shared::Shared;

/// Pause before what was refused, or is on its way to this node, is asked for again.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a change of voters may take: the new one has to answer first.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks after it until the broker stops; this node listens for other voters at `endpoints`.
pub(crate) async fn run<E: Env>(broker: Shared<E>, endpoints: Vec<Endpoint>) {
    if endpoints.is_empty() {
        return;
    }
    tokio::select! {
        biased;
        () = broker.stopping() => {}
        () = work(&broker, &endpoints) => {}
    }
}

async fn work<E: Env>(broker: &Shared<E>, endpoints: &[Endpoint]) {
    let mut quorum = broker.metadata().watch_quorum();
    let joins = broker.settings().quorum_auto_join;
    // A change of voters takes a while: heartbeats do not queue behind it.
    let way = ControllerWay::default();
    let mut said = None;
    loop {
        let known = quorum.borrow_and_update().clone();
        let wanted = wanted(&known.voters, broker.metadata().replica(), endpoints, joins);
        let Some(wanted) = wanted.filter(|_| known.leader.is_some()) else {
            // The room ends with the process.
            if quorum.changed().await.is_err() {
                return;
            }
            continue;
        };
        match ask(broker, &way, &wanted, endpoints).await {
            Ok(()) => {
                tracing::info!("the voters of the metadata quorum change: {}", wanted.text());
                said = None;
            }
            Err(error) => {
                let error = error.to_string();
                if said.as_ref() != Some(&error) {
                    tracing::info!(%error, "not yet: {}", wanted.text());
                }
                said = Some(error);
            }
        }
        broker.env().clock().sleep(PAUSE).await;
    }
}

/// What a node wants changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wanted {
    /// It is to vote.
    Add(ReplicaKey),
    /// It votes by a directory that it has no more.
    Remove(ReplicaKey),
    /// It listens elsewhere than is written.
    Update(ReplicaKey),
}

impl Wanted {
    fn text(self) -> &'static str {
        match self {
            Wanted::Add(_) => "this node votes",
            Wanted::Remove(_) => "the directory that this node had before votes no more",
            Wanted::Update(_) => "this node's address",
        }
    }
}

fn wanted(voters: &Voters, me: ReplicaKey, endpoints: &[Endpoint], joins: bool) -> Option<Wanted> {
    let Some(voter) = voters.0.get(&me.node) else {
        return joins.then_some(Wanted::Add(me));
    };
    match voter.directory {
        // The leader finds out by itself.
        None => None,
        Some(own) if own == me.directory => {
            (voter.endpoints != endpoints).then_some(Wanted::Update(me))
        }
        Some(directory) => joins.then_some(Wanted::Remove(ReplicaKey { directory, ..me })),
    }
}

async fn ask<E: Env>(
    broker: &Shared<E>,
    way: &ControllerWay,
    wanted: &Wanted,
    endpoints: &[Endpoint],
) -> Result<(), ClientError> {
    let cluster_id = Some(Str::from(&*broker.cluster_id().0));
    let is_here = broker.quorum().is_active;
    let (metadata, env) = (broker.metadata(), broker.env());
    let late = || ClientError::check(types::ErrorCode::RequestTimedOut.as_i16(), None);
    match *wanted {
        Wanted::Add(ReplicaKey { node, directory }) => {
            let listener = |known: &Endpoint| add_raft_voter::Listener {
                name: known.listener.clone(),
                host: known.host.clone(),
                port: known.port,
            };
            let request = AddRaftVoterRequest {
                cluster_id,
                timeout_ms: PATIENCE.as_millis() as i32,
                voter_id: node.0,
                voter_directory_id: directory.0,
                listeners: endpoints.iter().map(listener).collect(),
                ack_when_committed: false,
            };
            let answer = way.ask(broker, &request, PATIENCE).await?;
            ClientError::check(answer.error_code, answer.error_message.as_deref())
        }
        Wanted::Remove(ReplicaKey { node, directory }) => {
            let request = RemoveRaftVoterRequest {
                cluster_id,
                voter_id: node.0,
                voter_directory_id: directory.0,
            };
            let answer = way.ask(broker, &request, PATIENCE).await?;
            ClientError::check(answer.error_code, answer.error_message.as_deref())
        }
        Wanted::Update(ReplicaKey { node, directory }) => {
            let listener = |known: &Endpoint| update_raft_voter::Listener {
                name: known.listener.clone(),
                host: known.host.clone(),
                port: known.port,
            };
            let request = UpdateRaftVoterRequest {
                cluster_id,
                current_leader_epoch: broker.quorum().epoch.0,
                voter_id: node.0,
                voter_directory_id: directory.0,
                listeners: endpoints.iter().map(listener).collect(),
                ..UpdateRaftVoterRequest::default()
            };
            let answer = match is_here {
                true => env.timeout(PATIENCE, metadata.update_voter(request)).await,
                false => Some(way.ask(broker, &request, PATIENCE).await?),
            };
            answer.map_or_else(late, |answer| ClientError::check(answer.error_code, None))
        }
    }
}

#[cfg(test)]
mod tests {
    use cluster::quorum::Voter;
    use types::{DirectoryId, NodeId, Uuid};

    use super::*;

    #[test]
    fn a_node_wants_what_is_not_so() {
        let key = |node: i32, directory: u8| ReplicaKey {
            node: NodeId(node),
            directory: DirectoryId(Uuid([directory; 16])),
        };
        let endpoint = |port| Endpoint { listener: "C".into(), host: "h".into(), port };
        let voter = |directory: Option<u8>, port| Voter {
            directory: directory.map(|id| key(0, id).directory),
            endpoints: vec![endpoint(port)],
        };
        let of = |voter: Voter| Voters([(NodeId(1), voter)].into());
        let (me, own) = (key(1, 7), [endpoint(1)]);
        assert_eq!(wanted(&of(voter(Some(7), 1)), me, &own, true), None);
        assert_eq!(wanted(&of(voter(None, 2)), me, &own, true), None);
        assert_eq!(wanted(&of(voter(Some(7), 2)), me, &own, false), Some(Wanted::Update(me)));
        let old = key(1, 8);
        assert_eq!(wanted(&of(voter(Some(8), 1)), me, &own, true), Some(Wanted::Remove(old)));
        assert_eq!(wanted(&of(voter(Some(8), 1)), me, &own, false), None);
        let other = Voters::of([key(2, 2)]);
        assert_eq!(wanted(&other, me, &own, true), Some(Wanted::Add(me)));
        assert_eq!(wanted(&other, me, &own, false), None);
    }
}
