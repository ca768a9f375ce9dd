//! CreateTopics, DeleteTopics and CreatePartitions (keys 19, 20, 37), and topics that create themselves.
//!
//! The controller decides; its records are committed, and the partitions serve, before the answer leaves.

use cluster::controller::{
    CreateTopic, CreatedTopic, DeleteTopic, DeletedTopic, GrowTopic, Refusal,
};
use env::{Env, Rng};
use types::{BrokerId, ErrorCode, PartitionIndex, TopicId, TopicName, Uuid};
use wire::Str;
use wire::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopicResult,
};
use wire::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreatableTopicConfigs, CreatableTopicResult,
    CreateTopicsRequest, CreateTopicsResponse,
};
use wire::delete_topics::{DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse};

use super::{Reply, error_fields, is_decided_elsewhere};
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::coordinator::OFFSETS_TOPIC;
use crate::error_map::Refused;
use crate::shared::Shared;

/// From here on topics are deleted by id or name, each in a structure of its own.
const DELETE_BY_ID_VERSION_MIN: i16 = 6;
/// From here on the answer to CreateTopics tells the configuration.
const CONFIGS_VERSION_MIN: i16 = 5;

/// The least `segment.bytes` of a topic.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;

/// Whether a topic may have this name.
pub(super) fn check_name(name: &str) -> Result<(), Refused> {
    Ok(cluster::controller::check_name(name)?)
}

/// CreateTopics.
pub(super) async fn create_topics<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: CreateTopicsRequest,
) -> Reply<CreateTopicsResponse> {
    let validate_only = request.validate_only;
    let names: Vec<Str> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    let (allowed, denied): (Vec<_>, Vec<_>) = request
        .topics
        .into_iter()
        .partition(|topic| authorize(ctx, Operation::Create, Resource::Topic(&topic.name)).is_ok());
    let wanted: Vec<CreateTopic> = allowed.into_iter().map(wanted).collect();
    let created = create(broker, wanted, validate_only).await;
    let mut topics: Vec<CreatableTopicResult> = match created {
        Ok(created) => created.into_iter().map(|topic| creation(ctx, topic)).collect(),
        Err(refused) => names.into_iter().map(|name| refusal(name, refused.clone())).collect(),
    };
    let code = ErrorCode::TopicAuthorizationFailed;
    topics.extend(denied.into_iter().map(|topic| refusal(topic.name, code.into())));
    Reply::Now(CreateTopicsResponse { topics, ..CreateTopicsResponse::default() })
}

fn wanted(topic: CreatableTopic) -> CreateTopic {
    let assignments = topic.assignments.into_iter().map(|assignment| {
        let replicas = assignment.broker_ids.into_iter().map(BrokerId).collect();
        (PartitionIndex(assignment.partition_index), replicas)
    });
    CreateTopic {
        name: topic.name,
        partitions_count: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments.collect(),
        configs: topic.configs.into_iter().map(|config| (config.name, config.value)).collect(),
    }
}

async fn create<E: Env>(
    broker: &Shared<E>,
    topics: Vec<CreateTopic>,
    validate_only: bool,
) -> Result<Vec<CreatedTopic>, Refused> {
    let rng = broker.env().rng().clone();
    let decide = move |controller: &cluster::controller::Controller| {
        controller.create_topics(&topics, validate_only, &mut || rng.uuid())
    };
    Ok(broker.metadata().change(decide).await?)
}

fn creation(ctx: &RequestContext, topic: CreatedTopic) -> CreatableTopicResult {
    let creation = match topic.result {
        Ok(creation) => creation,
        Err(refusal_) => return refusal(topic.name, refusal_.into()),
    };
    let configs = creation.configs.into_iter().map(|described| CreatableTopicConfigs {
        name: described.key.name.into(),
        value: described.value.map(Into::into),
        read_only: described.is_read_only,
        config_source: described.source as i8,
        is_sensitive: described.key.is_sensitive(),
    });
    let tells = ctx.api_version >= CONFIGS_VERSION_MIN;
    CreatableTopicResult {
        name: topic.name,
        topic_id: creation.id.0,
        num_partitions: creation.partitions_count,
        replication_factor: creation.replication_factor,
        configs: Some(if tells { configs.collect() } else { Vec::new() }),
        ..CreatableTopicResult::default()
    }
}

fn refusal(name: Str, refused: Refused) -> CreatableTopicResult {
    let (error_code, error_message) = error_fields(Err(refused));
    CreatableTopicResult {
        name,
        error_code,
        error_message,
        num_partitions: -1,
        replication_factor: -1,
        configs: Some(Vec::new()),
        ..CreatableTopicResult::default()
    }
}

/// Creates topics with the broker's defaults for whoever named them; returns those that are not there afterwards.
pub(crate) async fn auto_create<E: Env>(
    broker: &Shared<E>,
    names: Vec<TopicName>,
) -> Vec<(TopicName, ErrorCode)> {
    let wanted: Vec<CreateTopic> = names.iter().map(|name| template(broker, name)).collect();
    if is_decided_elsewhere(broker) {
        return ask_for(broker, wanted).await;
    }
    match create(broker, wanted, false).await {
        Ok(created) => created
            .into_iter()
            .filter_map(|topic| match topic.result {
                Err(refusal) if refusal.code != ErrorCode::TopicAlreadyExists => {
                    Some((topic.name.into(), refusal.code))
                }
                _ => None,
            })
            .collect(),
        // Clients ask again.
        Err(_) => names.into_iter().map(|name| (name, ErrorCode::LeaderNotAvailable)).collect(),
    }
}

/// Asks the active controller for topics; returns those that are not known here afterwards.
async fn ask_for<E: Env>(
    broker: &Shared<E>,
    wanted: Vec<CreateTopic>,
) -> Vec<(TopicName, ErrorCode)> {
    let names: Vec<TopicName> = wanted.iter().map(|topic| topic.name.clone().into()).collect();
    let topic = |topic: CreateTopic| CreatableTopic {
        name: topic.name,
        num_partitions: topic.partitions_count,
        replication_factor: topic.replication_factor,
        assignments: Vec::new(),
        configs: topic
            .configs
            .into_iter()
            .map(|(name, value)| CreatableTopicConfig { name, value })
            .collect(),
    };
    let request = CreateTopicsRequest {
        topics: wanted.into_iter().map(topic).collect(),
        ..CreateTopicsRequest::default()
    };
    let patience = broker.settings().quorum_request_timeout;
    let asked = broker.own_way().ask(broker, &request, patience).await;
    let view = broker.view();
    let code = |name: &TopicName| {
        let results = asked.iter().flat_map(|answer| &answer.topics);
        let mut results = results.filter(|result| *result.name == *name.as_str());
        let code = results.next().and_then(|result| ErrorCode::from_i16(result.error_code));
        match code {
            Some(
                ErrorCode::None
                | ErrorCode::TopicAlreadyExists
                | ErrorCode::NotController
                | ErrorCode::RequestTimedOut,
            )
            | None => {
                // It is there soon, or was not asked for: clients ask again.
                view.topic(name.as_str()).is_none().then_some(ErrorCode::LeaderNotAvailable)
            }
            refused => refused,
        }
    };
    names.into_iter().filter_map(|name| code(&name).map(|code| (name, code))).collect()
}

/// What a topic that nobody described looks like.
fn template<E: Env>(broker: &Shared<E>, name: &TopicName) -> CreateTopic {
    let settings = broker.settings();
    let name_text: Str = name.clone().into();
    if name.as_str() != OFFSETS_TOPIC {
        return CreateTopic {
            name: name_text,
            partitions_count: -1,
            replication_factor: -1,
            ..CreateTopic::default()
        };
    }
    // Groups wait while there are fewer brokers than replicas, as in Kafka; but one node is meant to work alone.
    let is_alone = broker.is_alone() && broker.image().brokers().count() <= 1;
    let most = if is_alone { 1 } else { i16::MAX };
    let config = |name: &str, value: &str| (name.into(), Some(value.into()));
    // The least that users may ask for is more than the operator's setting of this topic may be.
    let segment_bytes = match settings.offsets_segment_bytes < SEGMENT_BYTES_MIN {
        true => "internal.segment.bytes",
        false => "segment.bytes",
    };
    CreateTopic {
        name: name_text,
        partitions_count: settings.offsets_partitions_count,
        replication_factor: settings.offsets_replication_factor.min(most),
        assignments: Vec::new(),
        configs: vec![
            config("cleanup.policy", "compact"),
            config("compression.type", "producer"),
            config(segment_bytes, &settings.offsets_segment_bytes.to_string()),
            // Whatever the default of topics is: who was told that an offset is committed relies on it.
            config("durability", "sync"),
        ],
    }
}

/// DeleteTopics.
pub(super) async fn delete_topics<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: DeleteTopicsRequest,
) -> Reply<DeleteTopicsResponse> {
    let wanted: Vec<DeleteTopic> = match ctx.api_version >= DELETE_BY_ID_VERSION_MIN {
        true => request
            .topics
            .into_iter()
            .map(|topic| {
                let id = (!topic.topic_id.is_zero()).then_some(TopicId(topic.topic_id));
                DeleteTopic { name: topic.name, id }
            })
            .collect(),
        false => {
            let names = request.topic_names.into_iter();
            names.map(|name| DeleteTopic { name: Some(name), id: None }).collect()
        }
    };
    let refuse = |topic: DeleteTopic, refused: Refused| {
        deletion(DeletedTopic {
            name: topic.name,
            id: topic.id,
            result: Err(Refusal { code: refused.code, message: refused.message }),
        })
    };
    if !broker.settings().is_topic_deletion_on {
        let code = match ctx.api_version < 3 {
            true => ErrorCode::InvalidRequest,
            false => ErrorCode::TopicDeletionDisabled,
        };
        let responses = wanted.into_iter().map(|topic| refuse(topic, code.into())).collect();
        return Reply::Now(DeleteTopicsResponse { responses, ..Default::default() });
    }
    let view = broker.view();
    let (allowed, denied): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|topic| {
        let by_id = topic.id.and_then(|id| view.topic_by_id(id)).map(|found| found.name.as_str());
        let name = topic.name.as_deref().or(by_id).unwrap_or_default();
        authorize(ctx, Operation::Delete, Resource::Topic(name)).is_ok()
    });
    let asked = allowed.clone();
    let deleted = broker.metadata().change(move |controller| controller.delete_topics(&allowed));
    let mut responses: Vec<DeletableTopicResult> = match deleted.await {
        Ok(deleted) => deleted.into_iter().map(deletion).collect(),
        Err(error) => asked.into_iter().map(|topic| refuse(topic, error.into())).collect(),
    };
    let code = ErrorCode::TopicAuthorizationFailed;
    responses.extend(denied.into_iter().map(|topic| refuse(topic, code.into())));
    Reply::Now(DeleteTopicsResponse { responses, ..DeleteTopicsResponse::default() })
}

fn deletion(topic: DeletedTopic) -> DeletableTopicResult {
    let (error_code, error_message) = error_fields(topic.result.map_err(Into::into));
    DeletableTopicResult {
        name: topic.name,
        topic_id: topic.id.map_or(Uuid::ZERO, |id| id.0),
        error_code,
        error_message,
    }
}

/// CreatePartitions.
pub(super) async fn create_partitions<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: CreatePartitionsRequest,
) -> Reply<CreatePartitionsResponse> {
    let validate_only = request.validate_only;
    let (allowed, denied): (Vec<_>, Vec<_>) = request
        .topics
        .into_iter()
        .partition(|topic| authorize(ctx, Operation::Alter, Resource::Topic(&topic.name)).is_ok());
    let wanted: Vec<GrowTopic> = allowed
        .into_iter()
        .map(|topic| GrowTopic {
            name: topic.name,
            partitions_count: topic.count,
            assignments: topic.assignments.map(|assignments| {
                let replicas = |ids: Vec<i32>| ids.into_iter().map(BrokerId).collect();
                assignments.into_iter().map(|given| replicas(given.broker_ids)).collect()
            }),
        })
        .collect();
    let names: Vec<Str> = wanted.iter().map(|topic| topic.name.clone()).collect();
    let grown = broker
        .metadata()
        .change(move |controller| controller.create_partitions(&wanted, validate_only))
        .await;
    let mut results: Vec<(Str, Result<(), Refused>)> = match grown {
        Ok(grown) => {
            grown.into_iter().map(|(name, result)| (name, result.map_err(Into::into))).collect()
        }
        Err(error) => names.into_iter().map(|name| (name, Err(error.into()))).collect(),
    };
    let code = ErrorCode::TopicAuthorizationFailed;
    results.extend(denied.into_iter().map(|topic| (topic.name, Err(code.into()))));
    let results = results.into_iter().map(|(name, result)| {
        let (error_code, error_message) = error_fields(result);
        CreatePartitionsTopicResult { name, error_code, error_message }
    });
    let results = results.collect();
    Reply::Now(CreatePartitionsResponse { results, ..CreatePartitionsResponse::default() })
}
