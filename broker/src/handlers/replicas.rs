//! Who leads partitions and which brokers hold them, as operators ask for it: ElectLeaders (key 43),
//! AlterPartitionReassignments (key 45), ListPartitionReassignments (key 46).

use std::collections::BTreeMap;

use cluster::controller::{Controller, ElectLeaders, Reassign, Recovery, Refusal};
use env::Env;
use types::{BrokerId, ErrorCode, PartitionIndex};
use wire::Str;
use wire::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use wire::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};
use wire::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment, OngoingTopicReassignment,
};

use super::metadata::ids;
use super::{Reply, error_fields};
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::error_map::Refused;
use crate::shared::Shared;

/// From here on an answer to ElectLeaders has an error for the whole request.
const ELECTION_ERROR_VERSION_MIN: i16 = 1;
/// `election_type` of the wire.
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// An outcome for each partition, by topic.
type Outcomes = BTreeMap<Str, Vec<(PartitionIndex, Result<(), Refusal>)>>;

/// ElectLeaders. Each partition stands for itself; of all of them (no list) only those that needed an election are answered.
pub(super) async fn elect_leaders<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: ElectLeadersRequest,
) -> Reply<ElectLeadersResponse> {
    let refuse = |code: ErrorCode| {
        let has_error = ctx.api_version >= ELECTION_ERROR_VERSION_MIN;
        let error_code = if has_error { code.as_i16() } else { 0 };
        Reply::Now(ElectLeadersResponse { error_code, ..ElectLeadersResponse::default() })
    };
    if authorize(ctx, Operation::Alter, Resource::Cluster).is_err() {
        return refuse(ErrorCode::ClusterAuthorizationFailed);
    }
    let is_unclean = match request.election_type {
        PREFERRED => false,
        UNCLEAN => true,
        _ => return refuse(ErrorCode::InvalidRequest),
    };
    let named = request.topic_partitions.map(|topics| {
        let of_topic = topics.into_iter().flat_map(|topic| {
            let name = topic.topic;
            topic.partitions.into_iter().map(move |index| ElectLeaders {
                topic: name.clone(),
                index: PartitionIndex(index),
            })
        });
        of_topic.collect::<Vec<_>>()
    });
    let decide = move |controller: &Controller, recovery: &Recovery| {
        let is_all = named.is_none();
        let asked = named.unwrap_or_else(|| {
            let all = controller.image().partitions();
            let asked = all
                .map(|(topic, index, _)| ElectLeaders { topic: topic.name.as_str().into(), index });
            asked.collect()
        });
        let (records, answers) = controller.elect_leaders(&asked, is_unclean, recovery);
        let mut outcomes = Outcomes::new();
        for (asked, answer) in asked.into_iter().zip(answers) {
            let is_needed = answer.as_ref().err().map(|refusal| refusal.code)
                != Some(ErrorCode::ElectionNotNeeded);
            if is_needed || !is_all {
                outcomes.entry(asked.topic).or_default().push((asked.index, answer));
            }
        }
        (records, outcomes)
    };
    let Ok(outcomes) = broker.metadata().elect(decide).await else {
        return refuse(ErrorCode::RequestTimedOut);
    };
    let results = outcomes.into_iter().map(|(topic, partitions)| ReplicaElectionResult {
        topic,
        partition_result: partitions
            .into_iter()
            .map(|(index, outcome)| {
                let (error_code, error_message) = error_fields(outcome.map_err(Refused::from));
                PartitionResult { partition_id: index.0, error_code, error_message }
            })
            .collect(),
    });
    Reply::Now(ElectLeadersResponse {
        replica_election_results: results.collect(),
        ..ElectLeadersResponse::default()
    })
}

/// AlterPartitionReassignments. Each partition stands for itself.
pub(super) async fn alter_partition_reassignments<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: AlterPartitionReassignmentsRequest,
) -> Reply<AlterPartitionReassignmentsResponse> {
    let may_resize = request.allow_replication_factor_change;
    let refuse = |refused: Refused| {
        let (error_code, error_message) = error_fields(Err(refused));
        Reply::Now(AlterPartitionReassignmentsResponse {
            error_code,
            error_message,
            allow_replication_factor_change: may_resize,
            ..AlterPartitionReassignmentsResponse::default()
        })
    };
    if let Err(denied) = authorize(ctx, Operation::Alter, Resource::Cluster) {
        return refuse(denied.code.into());
    }
    let of_topic = request.topics.into_iter().flat_map(|topic| {
        let name = topic.name;
        topic.partitions.into_iter().map(move |partition| Reassign {
            topic: name.clone(),
            index: PartitionIndex(partition.partition_index),
            replicas: partition
                .replicas
                .map(|replicas| replicas.into_iter().map(BrokerId).collect()),
        })
    });
    let asked: Vec<Reassign> = of_topic.collect();
    let decide = move |controller: &Controller| {
        let (records, answers) = controller.reassign(&asked, may_resize);
        let mut outcomes = Outcomes::new();
        for (asked, answer) in asked.into_iter().zip(answers) {
            outcomes.entry(asked.topic).or_default().push((asked.index, answer));
        }
        (records, outcomes)
    };
    let outcomes = match broker.metadata().change(decide).await {
        Ok(outcomes) => outcomes,
        Err(unavailable) => return refuse(unavailable.into()),
    };
    let responses = outcomes.into_iter().map(|(name, partitions)| ReassignableTopicResponse {
        name,
        partitions: partitions
            .into_iter()
            .map(|(index, outcome)| {
                let (error_code, error_message) = error_fields(outcome.map_err(Refused::from));
                let partition_index = index.0;
                ReassignablePartitionResponse { partition_index, error_code, error_message }
            })
            .collect(),
    });
    Reply::Now(AlterPartitionReassignmentsResponse {
        responses: responses.collect(),
        allow_replication_factor_change: may_resize,
        ..AlterPartitionReassignmentsResponse::default()
    })
}

/// ListPartitionReassignments. What is asked for and does not move, or is not there, is left out.
pub(super) async fn list_partition_reassignments<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: ListPartitionReassignmentsRequest,
) -> Reply<ListPartitionReassignmentsResponse> {
    if let Err(denied) = authorize(ctx, Operation::Describe, Resource::Cluster) {
        let (error_code, error_message) = error_fields(Err(denied.code.into()));
        return Reply::Now(ListPartitionReassignmentsResponse {
            error_code,
            error_message,
            ..ListPartitionReassignmentsResponse::default()
        });
    }
    let is_asked = |name: &str, index: PartitionIndex| {
        request.topics.as_ref().is_none_or(|topics| {
            topics
                .iter()
                .any(|topic| &*topic.name == name && topic.partition_indexes.contains(&index.0))
        })
    };
    let image = broker.image();
    let mut topics: BTreeMap<Str, Vec<OngoingPartitionReassignment>> = BTreeMap::new();
    for (topic, index, partition) in image.partitions() {
        let name = topic.name.as_str();
        if partition.is_moving() && is_asked(name, index) {
            topics.entry(name.into()).or_default().push(OngoingPartitionReassignment {
                partition_index: index.0,
                replicas: ids(&partition.replicas),
                adding_replicas: ids(&partition.adding),
                removing_replicas: ids(&partition.removing),
            });
        }
    }
    let topics = topics.into_iter();
    let topics = topics.map(|(name, partitions)| OngoingTopicReassignment { name, partitions });
    Reply::Now(ListPartitionReassignmentsResponse {
        topics: topics.collect(),
        ..ListPartitionReassignmentsResponse::default()
    })
}
