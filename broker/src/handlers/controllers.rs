//! What brokers ask of the active controller: AlterPartition (56), BrokerRegistration (62), BrokerHeartbeat (63),
//! AllocateProducerIds (67), AssignReplicasToDirs (73), and Envelope (58), in which they pass on what their clients ask.

use bytes::{Bytes, BytesMut};
use cluster::controller::{AlterPartition, AssignReplica, Heartbeat, Refusal, RegisterBroker};
use cluster::metadata::{BrokerFeature, BrokerListener};
use env::{Env, Part};
use types::{
    BrokerEpoch, BrokerId, DirectoryId, ErrorCode, LeaderEpoch, Offset, PartitionEpoch,
    PartitionIndex, TopicId,
};
use wire::allocate_producer_ids::{AllocateProducerIdsRequest, AllocateProducerIdsResponse};
use wire::alter_partition::{
    self, AlterPartitionRequest, AlterPartitionResponse, RequestPartitionData,
};
use wire::assign_replicas_to_dirs::{
    self, AssignReplicasToDirsRequest, AssignReplicasToDirsResponse,
};
use wire::broker_heartbeat::{BrokerHeartbeatRequest, BrokerHeartbeatResponse};
use wire::broker_registration::{BrokerRegistrationRequest, BrokerRegistrationResponse};
use wire::envelope::{EnvelopeRequest, EnvelopeResponse};
use wire::unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use wire::unregister_controller::{UnregisterControllerRequest, UnregisterControllerResponse};
use wire::{Reader, RequestHeader};

use super::{Client, FORWARDED, Reply, error_fields, execute};
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::error_map::{Refused, ToErrorCode};
use crate::lifecycle;
use crate::log_ends;
use crate::shared::Shared;

/// BrokerRegistration.
pub(super) async fn broker_registration<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: BrokerRegistrationRequest,
) -> Reply<BrokerRegistrationResponse> {
    let registered = async {
        authorize(ctx, Operation::ClusterAction, Resource::Cluster)
            .map_err(|denied| denied.code)?;
        if request.cluster_id.as_str() != &*broker.cluster_id().0 {
            return Err(ErrorCode::InconsistentClusterId);
        }
        let listeners = request.listeners.iter().map(|listener| BrokerListener {
            name: listener.name.clone(),
            host: listener.host.clone(),
            port: listener.port,
            security_protocol: listener.security_protocol,
        });
        let features = request.features.iter().map(|feature| BrokerFeature {
            name: feature.name.clone(),
            level_min: feature.min_supported_version,
            level_max: feature.max_supported_version,
        });
        let stopped = request.previous_broker_epoch;
        let stopped_epoch = (stopped >= 0).then_some(BrokerEpoch(stopped));
        let registration = RegisterBroker {
            id: BrokerId(request.broker_id),
            incarnation: request.incarnation_id,
            listeners: listeners.collect(),
            rack: request.rack.clone(),
            features: features.collect(),
            directories: request.log_dirs.iter().map(|id| DirectoryId(*id)).collect(),
            stopped_epoch,
            // Who did not stop cleanly cannot tell whether its machine ran on.
            may_have_lost_unsynced: stopped_epoch.is_none(),
            is_fenced: true,
        };
        flat(broker.metadata().register(registration).await)
    };
    Reply::Now(match registered.await {
        Ok(epoch) => BrokerRegistrationResponse {
            broker_epoch: epoch.0,
            ..BrokerRegistrationResponse::default()
        },
        Err(code) => BrokerRegistrationResponse {
            error_code: code.as_i16(),
            ..BrokerRegistrationResponse::default()
        },
    })
}

/// UnregisterBroker: a broker that will not come back is forgotten.
pub(super) async fn unregister_broker<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: UnregisterBrokerRequest,
) -> Reply<UnregisterBrokerResponse> {
    let forgotten = async {
        authorize(ctx, Operation::Alter, Resource::Cluster).map_err(|denied| denied.code)?;
        let id = BrokerId(request.broker_id);
        let decided =
            broker.metadata().change(move |decides| decides.unregister_broker(id)).await?;
        decided.map_err(Refused::from)
    };
    let (error_code, error_message) = error_fields(forgotten.await);
    Reply::Now(UnregisterBrokerResponse { error_code, error_message, ..Default::default() })
}

/// UnregisterController. Controllers are not registered here: who votes is what the metadata log says.
pub(super) async fn unregister_controller<E: Env>(
    ctx: &RequestContext,
    _: &Shared<E>,
    request: UnregisterControllerRequest,
) -> Reply<UnregisterControllerResponse> {
    let code = match authorize(ctx, Operation::Alter, Resource::Cluster) {
        Ok(()) => ErrorCode::UnknownControllerId,
        Err(denied) => denied.code,
    };
    let id = request.controller_id;
    let message = format!(
        "Controller {id} has no registration to be forgotten; a voter is removed by RemoveRaftVoter (kafka-metadata-quorum \
         remove-controller)"
    );
    Reply::Now(UnregisterControllerResponse {
        error_code: code.as_i16(),
        error_message: Some(message.into()),
        ..Default::default()
    })
}

/// BrokerHeartbeat.
pub(super) async fn broker_heartbeat<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: BrokerHeartbeatRequest,
) -> Reply<BrokerHeartbeatResponse> {
    let heard = async {
        authorize(ctx, Operation::ClusterAction, Resource::Cluster)
            .map_err(|denied| denied.code)?;
        let heartbeat = Heartbeat {
            id: BrokerId(request.broker_id),
            epoch: BrokerEpoch(request.broker_epoch),
            metadata_end: Offset(request.current_metadata_offset.saturating_add(1)),
            wants_fence: request.want_fence,
            wants_stop: request.want_shut_down,
            failed_directories: request
                .offline_log_dirs
                .iter()
                .map(|id| DirectoryId(*id))
                .collect(),
            cordoned_directories: request
                .cordoned_log_dirs
                .map(|dirs| dirs.into_iter().map(DirectoryId).collect()),
            log_ends: log_ends::read_answers(&request.log_end_answers),
        };
        let unconfirmed = lifecycle::unconfirmed(broker);
        let answer = flat(broker.metadata().heartbeat(heartbeat).await)?;
        Ok::<_, ErrorCode>((answer, unconfirmed))
    };
    Reply::Now(match heard.await {
        Ok((answer, unconfirmed)) => BrokerHeartbeatResponse {
            is_caught_up: answer.is_caught_up,
            is_fenced: answer.is_fenced,
            should_shut_down: answer.should_stop,
            metadata_end: answer.metadata_end.0,
            // Rounded up: it may have been longer than it is told, never shorter.
            unconfirmed_ms: unconfirmed
                .map_or(-1, |time| i64::try_from(time.as_millis()).map_or(-1, |millis| millis + 1)),
            log_end_questions: log_ends::write_questions(&answer.questions),
            ..BrokerHeartbeatResponse::default()
        },
        Err(code) => BrokerHeartbeatResponse {
            error_code: code.as_i16(),
            ..BrokerHeartbeatResponse::default()
        },
    })
}

/// AlterPartition.
pub(super) async fn alter_partition<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: AlterPartitionRequest,
) -> Reply<AlterPartitionResponse> {
    let mut wishes = Vec::new();
    for topic in &request.topics {
        let id = TopicId(topic.topic_id);
        wishes.extend(topic.partitions.iter().map(|asked| wish(id, asked)));
    }
    let places: Vec<_> = wishes.iter().map(|wish| (wish.topic, wish.index)).collect();
    let altered = async {
        authorize(ctx, Operation::ClusterAction, Resource::Cluster)
            .map_err(|denied| denied.code)?;
        let (id, epoch) = (BrokerId(request.broker_id), BrokerEpoch(request.broker_epoch));
        let altering = broker
            .metadata()
            .change(move |controller| controller.alter_partitions(id, epoch, &wishes));
        flat(altering.await)
    };
    let answers = match altered.await {
        Ok(answers) => answers,
        Err(code) => {
            let error_code = code.as_i16();
            return Reply::Now(AlterPartitionResponse { error_code, ..Default::default() });
        }
    };
    let mut topics: Vec<alter_partition::ResponseTopicData> = Vec::new();
    for ((topic, index), answer) in places.into_iter().zip(answers) {
        let mut told = alter_partition::ResponsePartitionData {
            partition_index: index.0,
            ..Default::default()
        };
        match answer {
            Ok(partition) => {
                told.leader_id = partition.leader.map_or(-1, |leader| leader.0);
                told.leader_epoch = partition.leader_epoch.0;
                told.isr = partition.isr.iter().map(|id| id.0).collect();
                told.leader_recovery_state = i8::from(partition.is_recovering);
                told.partition_epoch = partition.epoch.0;
            }
            Err(refusal) => told.error_code = Refused::from(refusal).code.as_i16(),
        }
        match topics.last_mut() {
            Some(last) if last.topic_id == topic.0 => last.partitions.push(told),
            _ => topics.push(alter_partition::ResponseTopicData {
                topic_id: topic.0,
                partitions: vec![told],
            }),
        }
    }
    Reply::Now(AlterPartitionResponse { topics, ..Default::default() })
}

fn wish(topic: TopicId, asked: &RequestPartitionData) -> AlterPartition {
    let with_epochs = asked.new_isr_with_epochs.iter();
    let isr =
        with_epochs.map(|member| (BrokerId(member.broker_id), BrokerEpoch(member.broker_epoch)));
    AlterPartition {
        topic,
        index: PartitionIndex(asked.partition_index),
        leader_epoch: LeaderEpoch(asked.leader_epoch),
        epoch: PartitionEpoch(asked.partition_epoch),
        // Version 2 names no registrations, and so makes nobody a member: it is refused for want of the leader.
        isr: isr.collect(),
        is_recovering: asked.leader_recovery_state != 0,
    }
}

/// AllocateProducerIds.
pub(super) async fn allocate_producer_ids<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: AllocateProducerIdsRequest,
) -> Reply<AllocateProducerIdsResponse> {
    let allocated = async {
        authorize(ctx, Operation::ClusterAction, Resource::Cluster)
            .map_err(|denied| denied.code)?;
        let (id, epoch) = (BrokerId(request.broker_id), BrokerEpoch(request.broker_epoch));
        let allocating =
            broker.metadata().change(move |controller| controller.allocate_producer_ids(id, epoch));
        flat(allocating.await)
    };
    Reply::Now(match allocated.await {
        Ok(block) => AllocateProducerIdsResponse {
            producer_id_start: block.first.0,
            producer_id_len: i32::try_from(block.count).unwrap_or(i32::MAX),
            ..AllocateProducerIdsResponse::default()
        },
        Err(code) => AllocateProducerIdsResponse {
            error_code: code.as_i16(),
            ..AllocateProducerIdsResponse::default()
        },
    })
}

/// AssignReplicasToDirs. Each replica stands for itself; the answer is made like the request.
pub(super) async fn assign_replicas_to_dirs<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: AssignReplicasToDirsRequest,
) -> Reply<AssignReplicasToDirsResponse> {
    let mut places = Vec::new();
    for directory in &request.directories {
        for topic in &directory.topics {
            places.extend(topic.partitions.iter().map(|partition| AssignReplica {
                topic: TopicId(topic.topic_id),
                index: PartitionIndex(partition.partition_index),
                directory: DirectoryId(directory.id),
            }));
        }
    }
    let assigned = async {
        authorize(ctx, Operation::ClusterAction, Resource::Cluster)
            .map_err(|denied| denied.code)?;
        let (id, epoch) = (BrokerId(request.broker_id), BrokerEpoch(request.broker_epoch));
        let assigning = broker
            .metadata()
            .change(move |controller| controller.assign_replicas(id, epoch, &places));
        flat(assigning.await)
    };
    let mut codes = match assigned.await {
        Ok(answers) => answers.into_iter().map(|answer| match answer {
            Ok(()) => ErrorCode::None.as_i16(),
            Err(refusal) => Refused::from(refusal).code.as_i16(),
        }),
        Err(code) => {
            let error_code = code.as_i16();
            return Reply::Now(AssignReplicasToDirsResponse { error_code, ..Default::default() });
        }
    };
    let mut partition = |asked: &assign_replicas_to_dirs::RequestPartitionData| {
        assign_replicas_to_dirs::ResponsePartitionData {
            partition_index: asked.partition_index,
            error_code: codes.next().unwrap_or_default(),
        }
    };
    let mut topic = |asked: &assign_replicas_to_dirs::RequestTopicData| {
        assign_replicas_to_dirs::ResponseTopicData {
            topic_id: asked.topic_id,
            partitions: asked.partitions.iter().map(&mut partition).collect(),
        }
    };
    let directory = |asked: &assign_replicas_to_dirs::RequestDirectoryData| {
        assign_replicas_to_dirs::ResponseDirectoryData {
            id: asked.id,
            topics: asked.topics.iter().map(&mut topic).collect(),
        }
    };
    Reply::Now(AssignReplicasToDirsResponse {
        directories: request.directories.iter().map(directory).collect(),
        ..Default::default()
    })
}

/// Envelope: a client's request, passed on by its broker. The answer is framed as the client is to get it.
pub(super) async fn envelope<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: EnvelopeRequest,
) -> Reply<EnvelopeResponse> {
    let refuse = |code: ErrorCode| {
        Reply::Now(EnvelopeResponse { error_code: code.as_i16(), ..EnvelopeResponse::default() })
    };
    if let Err(denied) = authorize(ctx, Operation::ClusterAction, Resource::Cluster) {
        return refuse(denied.code);
    }
    if !broker.quorum().is_active {
        return refuse(ErrorCode::NotController);
    }
    let mut reader = Reader::new(request.request_data);
    let header = RequestHeader::of_frame(&mut reader).ok();
    let header =
        header.filter(|header| header.api_key().is_some_and(|key| FORWARDED.contains(&key)));
    let Some(header) = header else { return refuse(ErrorCode::InvalidRequest) };
    let mut client = Client::behind(ctx, &request.client_host_address);
    let reply = match Box::pin(execute(broker, &mut client, ctx.received, header, reader)).await {
        Reply::Now(encoded) => encoded,
        Reply::Later(parked) => parked.await,
        Reply::Silent | Reply::Close(_) => return refuse(ErrorCode::InvalidRequest),
    };
    match reply.ok().and_then(unframed) {
        Some(answer) => Reply::Now(EnvelopeResponse { response_data: Some(answer), error_code: 0 }),
        None => refuse(ErrorCode::UnknownServerError),
    }
}

/// A response without its length.
fn unframed<F>(parts: Vec<Part<F>>) -> Option<Bytes> {
    let mut bytes = BytesMut::new();
    for part in parts {
        match part {
            Part::Mem(part) => bytes.extend_from_slice(&part),
            Part::File { .. } => return None,
        }
    }
    (bytes.len() >= 4).then(|| bytes.freeze().slice(4..))
}

fn flat<T>(outcome: Result<Result<T, Refusal>, impl ToErrorCode>) -> Result<T, ErrorCode> {
    match outcome {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(refusal)) => Err(Refused::from(refusal).code),
        Err(unavailable) => Err(unavailable.code()),
    }
}
