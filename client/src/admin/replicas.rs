//! Who holds what, and who decides: the metadata quorum, moves of replicas, elections, brokers that will not come back.

use std::collections::BTreeMap;

use env::Env;
use types::{BrokerId, ErrorCode, NodeId, Timestamp, TopicPartition, Uuid};

use super::Admin;
use crate::cluster::{Lane, Target};
use crate::error::ClientError;
use crate::offsets::{PerPartition, by_topic};

/// The metadata quorum.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedQuorum {
    /// The active controller.
    pub leader: NodeId,
    /// Its epoch.
    pub epoch: i32,
    /// End of what is committed.
    pub high_watermark: i64,
    /// Who decides.
    pub voters: Vec<QuorumReplica>,
    /// Who follows without a voice.
    pub observers: Vec<QuorumReplica>,
    /// Where voters listen.
    pub addresses: BTreeMap<NodeId, String>,
}

/// A replica of the metadata log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuorumReplica {
    /// The node.
    pub node: NodeId,
    /// Its metadata directory, if it is known.
    pub directory: Option<Uuid>,
    /// End of its log, if it was heard.
    pub end: Option<i64>,
    /// When it last had all there was, if it was heard.
    pub caught_up: Option<Timestamp>,
}

/// Replicas of a partition that are on their way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Move {
    /// All replicas, those that come and those that go included.
    pub replicas: Vec<BrokerId>,
    /// Those that come.
    pub adding: Vec<BrokerId>,
    /// Those that go.
    pub removing: Vec<BrokerId>,
}

/// Which election.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Election {
    /// The first replica leads, if it is in sync.
    Preferred,
    /// Any replica leads where none in sync is there: what only others have is lost.
    Unclean,
}

impl<E: Env> Admin<E> {
    /// The metadata quorum, as its leader knows it.
    pub async fn describe_quorum(&self) -> Result<DescribedQuorum, ClientError> {
        use wire::describe_quorum::{
            DescribeQuorumRequest, ReplicaState, RequestPartitionData, RequestTopicData,
        };
        let (_, timeout) = self.times();
        let topic = RequestTopicData {
            topic_name: "__cluster_metadata".into(),
            partitions: vec![RequestPartitionData::default()],
        };
        let request = DescribeQuorumRequest { topics: vec![topic] };
        let target = Target::Any;
        let replica = |state: ReplicaState| QuorumReplica {
            node: NodeId(state.replica_id),
            directory: Some(state.replica_directory_id).filter(|id| !id.is_zero()),
            end: Some(state.log_end_offset).filter(|end| *end >= 0),
            caught_up: Some(Timestamp(state.last_caught_up_timestamp)).filter(|at| at.0 >= 0),
        };
        self.client
            .retrying(&target, || async {
                let asking = self.client.ask(&target, Lane::MAIN, &request, i16::MAX, timeout);
                let answer = asking.await?;
                ClientError::check(answer.error_code, answer.error_message.as_deref())?;
                let nothing = ClientError::code(ErrorCode::UnknownServerError);
                let topic = answer.topics.into_iter().next();
                let told = topic.and_then(|topic| topic.partitions.into_iter().next());
                let told = told.ok_or(nothing)?;
                ClientError::check(told.error_code, told.error_message.as_deref())?;
                let addresses = answer.nodes.into_iter().filter_map(|node| {
                    let listener = node.listeners.first()?;
                    Some((NodeId(node.node_id), format!("{}:{}", listener.host, listener.port)))
                });
                Ok(DescribedQuorum {
                    leader: NodeId(told.leader_id),
                    epoch: told.leader_epoch,
                    high_watermark: told.high_watermark,
                    voters: told.current_voters.into_iter().map(replica).collect(),
                    observers: told.observers.into_iter().map(replica).collect(),
                    addresses: addresses.collect(),
                })
            })
            .await
    }

    /// Begins to move partitions to these brokers, the preferred leader first, or takes back what is under way (`None`). It
    /// goes on after the answer: see [`Admin::list_moves`].
    pub async fn move_replicas(
        &self,
        moves: &BTreeMap<TopicPartition, Option<Vec<BrokerId>>>,
    ) -> Result<PerPartition<()>, ClientError> {
        use wire::alter_partition_reassignments::{
            AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
        };
        let (timeout_ms, timeout) = self.times();
        let topics = by_topic(moves).into_iter().map(|(topic, partitions)| ReassignableTopic {
            name: topic.as_str().into(),
            partitions: partitions
                .into_iter()
                .map(|(partition_index, replicas)| ReassignablePartition {
                    partition_index,
                    replicas: replicas.as_ref().map(|ids| ids.iter().map(|id| id.0).collect()),
                })
                .collect(),
        });
        let request = AlterPartitionReassignmentsRequest {
            timeout_ms,
            allow_replication_factor_change: true,
            topics: topics.collect(),
        };
        let target = Target::Controller;
        let answer = self
            .change(&target, || self.client.ask(&target, Lane::MAIN, &request, i16::MAX, timeout))
            .await?;
        ClientError::check(answer.error_code, answer.error_message.as_deref())?;
        self.client.expect_change();
        let results = answer.responses.into_iter().flat_map(|topic| {
            let name = topic.name;
            topic.partitions.into_iter().map(move |told| {
                let id = TopicPartition::new(name.as_str(), told.partition_index);
                (id, ClientError::check(told.error_code, told.error_message.as_deref()))
            })
        });
        Ok(results.collect())
    }

    /// Partitions that are on their way.
    pub async fn list_moves(&self) -> Result<BTreeMap<TopicPartition, Move>, ClientError> {
        use wire::list_partition_reassignments::ListPartitionReassignmentsRequest;
        let (timeout_ms, timeout) = self.times();
        let request = ListPartitionReassignmentsRequest { timeout_ms, topics: None };
        let target = Target::Controller;
        let brokers = |ids: Vec<i32>| ids.into_iter().map(BrokerId).collect();
        self.client
            .retrying(&target, || async {
                let asking = self.client.ask(&target, Lane::MAIN, &request, i16::MAX, timeout);
                let answer = asking.await?;
                ClientError::check(answer.error_code, answer.error_message.as_deref())?;
                let moves = answer.topics.into_iter().flat_map(|topic| {
                    let name = topic.name;
                    topic.partitions.into_iter().map(move |told| {
                        let id = TopicPartition::new(name.as_str(), told.partition_index);
                        let replicas = brokers(told.replicas);
                        let adding = brokers(told.adding_replicas);
                        (id, Move { replicas, adding, removing: brokers(told.removing_replicas) })
                    })
                });
                Ok(moves.collect())
            })
            .await
    }

    /// Elects leaders of these partitions, or of all (`None`) that need it. A partition that needs none is told so by
    /// [`ErrorCode::ElectionNotNeeded`] if it was named.
    pub async fn elect_leaders(
        &self,
        election: Election,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<PerPartition<()>, ClientError> {
        use wire::elect_leaders::{ElectLeadersRequest, TopicPartitions};
        let (timeout_ms, timeout) = self.times();
        let topics = partitions.map(|partitions| {
            let topics = by_topic(partitions.iter().map(|partition| (partition, ())));
            let asked = topics.into_iter().map(|(topic, partitions)| TopicPartitions {
                topic: topic.as_str().into(),
                partitions: partitions.into_iter().map(|(index, ())| index).collect(),
            });
            asked.collect()
        });
        let election_type = match election {
            Election::Preferred => 0,
            Election::Unclean => 1,
        };
        let request = ElectLeadersRequest { election_type, topic_partitions: topics, timeout_ms };
        let target = Target::Controller;
        let answer = self
            .change(&target, || self.client.ask(&target, Lane::MAIN, &request, i16::MAX, timeout))
            .await?;
        ClientError::check(answer.error_code, None)?;
        self.client.expect_change();
        let results = answer.replica_election_results.into_iter().flat_map(|topic| {
            let name = topic.topic;
            topic.partition_result.into_iter().map(move |told| {
                let id = TopicPartition::new(name.as_str(), told.partition_id);
                (id, ClientError::check(told.error_code, told.error_message.as_deref()))
            })
        });
        Ok(results.collect())
    }

    /// Forgets a broker that will not come back.
    pub async fn unregister_broker(&self, id: BrokerId) -> Result<(), ClientError> {
        use wire::unregister_broker::UnregisterBrokerRequest;
        let (_, timeout) = self.times();
        let request = UnregisterBrokerRequest { broker_id: id.0 };
        let target = Target::Controller;
        let answer = self
            .change(&target, || self.client.ask(&target, Lane::MAIN, &request, i16::MAX, timeout))
            .await?;
        ClientError::check(answer.error_code, answer.error_message.as_deref())
    }

    /// Gives a controller that follows the metadata log a voice, or takes it away (`listens_at` is `None`).
    pub async fn change_voter(
        &self,
        node: NodeId,
        directory: Uuid,
        listens_at: Option<(&str, &str, u16)>,
    ) -> Result<(), ClientError> {
        use wire::add_raft_voter::{AddRaftVoterRequest, Listener};
        use wire::remove_raft_voter::RemoveRaftVoterRequest;
        let (timeout_ms, timeout) = self.times();
        let target = Target::Any;
        let (voter_id, voter_directory_id) = (node.0, directory);
        let Some((name, host, port)) = listens_at else {
            let request = RemoveRaftVoterRequest { cluster_id: None, voter_id, voter_directory_id };
            let answer = self
                .change(&target, || {
                    self.client.ask(&target, Lane::MAIN, &request, i16::MAX, timeout)
                })
                .await?;
            return ClientError::check(answer.error_code, answer.error_message.as_deref());
        };
        let request = AddRaftVoterRequest {
            cluster_id: None,
            timeout_ms,
            voter_id,
            voter_directory_id,
            listeners: vec![Listener { name: name.into(), host: host.into(), port }],
            ack_when_committed: true,
        };
        let answer = self
            .change(&target, || self.client.ask(&target, Lane::MAIN, &request, i16::MAX, timeout))
            .await?;
        ClientError::check(answer.error_code, answer.error_message.as_deref())
    }
}
