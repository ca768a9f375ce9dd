//! One function per API: takes the context, the broker and the decoded request, gives a [`Reply`].
//!
//! A handler runs to its end before the next request of its connection starts; what must wait for an offset, a deadline
//! or other members is returned as [`Reply::Later`], so that the connection goes on with what was pipelined behind it.
//! Dropping a parked reply (the connection closed) must be harmless. [`dispatch`] is the one place that knows which
//! requests are served, and in which versions.

mod api_versions;
mod cluster;
mod configs;
mod controllers;
mod features;
mod fetch;
mod follower_fetch;
mod group;
mod list_offsets;
mod log_dirs;
mod metadata;
mod offset;
mod produce;
mod producer_id;
mod quorum;
mod records;
mod replicas;
mod telemetry;
mod topics;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use env::{Env, Part};
use log::Slice;
use types::{CorrelationId, ErrorCode, Instant};
use wire::{
    ApiKey, DecodeError, EncodeError, Message, Piece, Reader, Request, RequestHeader,
    ResponseHeader, Str,
};

use crate::config::Audience;
use crate::connection::Response;
use crate::context::{ConnectionId, Principal, QuotaHandle, RequestContext};
use crate::error_map::Refused;
use crate::shared::{ListenerInfo, Shared};

pub(crate) use topics::auto_create;

/// Topics of the broker's own; clients may not write to them.
pub(crate) const INTERNAL_TOPICS: [&str; 3] =
    ["__consumer_offsets", "__transaction_state", "__share_group_state"];
/// "Not asked for" in fields that list the operations a principal may do.
pub(crate) const OPERATIONS_UNKNOWN: i32 = i32::MIN;

/// The requests that are served, all in every version that Kafka's brokers serve.
pub(crate) const SERVED: [ApiKey; 40] = [
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::SyncGroup,
    ApiKey::DescribeGroups,
    ApiKey::ListGroups,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::DeleteRecords,
    ApiKey::InitProducerId,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::DescribeConfigs,
    ApiKey::AlterConfigs,
    ApiKey::DescribeLogDirs,
    ApiKey::CreatePartitions,
    ApiKey::DeleteGroups,
    ApiKey::ElectLeaders,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::AlterPartitionReassignments,
    ApiKey::ListPartitionReassignments,
    ApiKey::OffsetDelete,
    ApiKey::DescribeQuorum,
    ApiKey::UpdateFeatures,
    ApiKey::DescribeCluster,
    ApiKey::UnregisterBroker,
    ApiKey::GetTelemetrySubscriptions,
    ApiKey::PushTelemetry,
    ApiKey::ListConfigResources,
    ApiKey::DescribeTopicPartitions,
    ApiKey::AddRaftVoter,
    ApiKey::RemoveRaftVoter,
    ApiKey::UnregisterController,
];

/// The requests that are served where controllers call.
pub(crate) const SERVED_TO_CONTROLLERS: [ApiKey; 29] = [
    ApiKey::Fetch,
    ApiKey::ApiVersions,
    ApiKey::Vote,
    ApiKey::BeginQuorumEpoch,
    ApiKey::EndQuorumEpoch,
    ApiKey::DescribeQuorum,
    ApiKey::FetchSnapshot,
    ApiKey::AlterPartition,
    ApiKey::Envelope,
    ApiKey::BrokerRegistration,
    ApiKey::BrokerHeartbeat,
    ApiKey::AllocateProducerIds,
    ApiKey::AssignReplicasToDirs,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::CreatePartitions,
    ApiKey::DescribeConfigs,
    ApiKey::AlterConfigs,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::ElectLeaders,
    ApiKey::AlterPartitionReassignments,
    ApiKey::ListPartitionReassignments,
    ApiKey::UpdateFeatures,
    ApiKey::DescribeCluster,
    ApiKey::UnregisterBroker,
    ApiKey::AddRaftVoter,
    ApiKey::RemoveRaftVoter,
    ApiKey::UpdateRaftVoter,
    ApiKey::UnregisterController,
];

/// What only the active controller can answer: another node passes it on.
const FORWARDED: [ApiKey; 13] = [
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::CreatePartitions,
    ApiKey::AlterConfigs,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::ElectLeaders,
    ApiKey::AlterPartitionReassignments,
    ApiKey::ListPartitionReassignments,
    ApiKey::UpdateFeatures,
    ApiKey::DescribeQuorum,
    ApiKey::UnregisterBroker,
    ApiKey::AddRaftVoter,
    ApiKey::RemoveRaftVoter,
];
/// How long a controller is looked for on behalf of a client.
const FORWARD_TIME: Duration = Duration::from_secs(30);

/// The requests that are served to those who call at a listener.
pub(crate) fn served(audience: Audience) -> &'static [ApiKey] {
    match audience {
        Audience::Clients => &SERVED,
        Audience::Controllers => &SERVED_TO_CONTROLLERS,
    }
}

/// A response that waits; polled by the connection's own task.
pub type Parked<R> = Pin<Box<dyn Future<Output = R> + Send>>;

/// What a handler gives back.
pub enum Reply<R> {
    /// The response is here.
    Now(R),
    /// It comes when something happens; those behind it wait for their turn.
    Later(Parked<R>),
    /// There is none (Produce with acks=0).
    Silent,
    /// The connection must end; the reason is logged.
    Close(String),
}

impl<R> Reply<R> {
    /// A reply that waits for `future`.
    pub fn later(future: impl Future<Output = R> + Send + 'static) -> Reply<R> {
        Reply::Later(Box::pin(future))
    }

    /// The reply with its response, now or later, turned into another.
    pub fn map<T>(self, turn: impl FnOnce(R) -> T + Send + 'static) -> Reply<T>
    where
        R: 'static,
    {
        match self {
            Reply::Now(response) => Reply::Now(turn(response)),
            Reply::Later(parked) => Reply::later(async move { turn(parked.await) }),
            Reply::Silent => Reply::Silent,
            Reply::Close(reason) => Reply::Close(reason),
        }
    }
}

/// The other end of a connection, as far as it is known.
pub(crate) struct Client {
    id: ConnectionId,
    listener: Arc<ListenerInfo>,
    peer: SocketAddr,
    /// The client id of the last request, kept so that each request shares it.
    client_id: Option<Arc<str>>,
    software: Option<Arc<(String, String)>>,
}

impl Client {
    pub(crate) fn new(id: ConnectionId, listener: Arc<ListenerInfo>, peer: SocketAddr) -> Client {
        Client { id, listener, peer, client_id: None, software: None }
    }

    /// Whose request another broker has passed on.
    fn behind(ctx: &RequestContext, host: &[u8]) -> Client {
        let v4 = <[u8; 4]>::try_from(host).map(IpAddr::from);
        let host = v4.or_else(|_| <[u8; 16]>::try_from(host).map(IpAddr::from));
        let peer = SocketAddr::new(host.unwrap_or(ctx.host), ctx.port);
        Client::new(ctx.connection, ctx.listener.clone(), peer)
    }

    /// Where it came in.
    pub(crate) fn listener(&self) -> &ListenerInfo {
        &self.listener
    }

    /// Its address.
    pub(crate) fn host(&self) -> IpAddr {
        self.peer.ip().to_canonical()
    }

    /// What it calls itself.
    pub(crate) fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref()
    }

    fn context(&mut self, header: &RequestHeader, received: Instant) -> RequestContext {
        let name = header.client_id.as_deref();
        if self.client_id.as_deref() != name {
            self.client_id = name.map(Into::into);
        }
        RequestContext {
            connection: self.id,
            listener: self.listener.clone(),
            principal: Principal::Anonymous,
            host: self.host(),
            port: self.peer.port(),
            client_id: self.client_id.clone(),
            client_software: self.software.clone(),
            api_key: header.request_api_key,
            api_version: header.request_api_version,
            correlation_id: CorrelationId(header.correlation_id),
            received,
            quota: QuotaHandle,
        }
    }
}

/// Record data of a response: whole batches in memory or in files.
#[derive(Clone, Debug)]
pub(crate) struct Records<F> {
    parts: Vec<Part<F>>,
    bytes: usize,
}

impl<F> wire::Records for Records<F> {
    fn len(&self) -> usize {
        self.bytes
    }
}

impl<F> From<Slice<F>> for Records<F> {
    fn from(slice: Slice<F>) -> Records<F> {
        Records { parts: slice.parts, bytes: slice.bytes }
    }
}

/// An encoded response; an error means that it cannot be said in the client's version.
pub(crate) type Encoded<E> = Result<Response<E>, EncodeError>;

/// Runs the request in `frame` and encodes its response.
pub(crate) async fn dispatch<E: Env>(
    broker: &Shared<E>,
    client: &mut Client,
    received: Instant,
    frame: Bytes,
) -> Reply<Encoded<E>> {
    let mut reader = Reader::new(frame.clone());
    let header = match RequestHeader::of_frame(&mut reader) {
        Ok(header) => header,
        Err(error) => return Reply::Close(format!("malformed request header: {error}")),
    };
    let audience = client.listener.audience;
    let is_passed_on = audience == Audience::Clients
        && header.api_key().is_some_and(|key| FORWARDED.contains(&key))
        && is_decided_elsewhere(broker);
    if is_passed_on {
        let ctx = client.context(&header, received);
        let deadline = received + FORWARD_TIME;
        let forwarding = broker.clients_way().forward(broker, &ctx, frame, deadline);
        return match Box::pin(forwarding).await {
            Ok(answer) => Reply::Now(Ok(vec![Part::Mem(answer)])),
            // Nobody knows whether it was done: so it is when a connection breaks.
            Err(error) => Reply::Close(format!("the active controller did not answer: {error}")),
        };
    }
    match header.api_key() {
        Some(key) if served(audience).contains(&key) => {}
        Some(key) => return Reply::Close(format!("{} is not served", key.name())),
        None => return Reply::Close(format!("unknown api key {}", header.request_api_key)),
    }
    drop(frame);
    execute(broker, client, received, header, reader).await
}

/// Whether another node of the quorum decides.
fn is_decided_elsewhere<E: Env>(broker: &Shared<E>) -> bool {
    !broker.quorum().is_active && !broker.is_alone()
}

/// Runs a request that may be answered here.
async fn execute<E: Env>(
    broker: &Shared<E>,
    client: &mut Client,
    received: Instant,
    header: RequestHeader,
    mut reader: Reader,
) -> Reply<Encoded<E>> {
    let (version, correlation_id) = (header.request_api_version, header.correlation_id);
    let Some(key) = header.api_key() else {
        return Reply::Close(format!("unknown api key {}", header.request_api_key));
    };
    let (first, last) = key.stable_versions();
    if !(first..=last).contains(&version) {
        if key == ApiKey::ApiVersions {
            // A newer client asks in its own dialect first and learns ours from this answer.
            return Reply::Now(encode::<E, _>(&wire::api_versions_fallback(), 0, correlation_id));
        }
        return Reply::Close(format!("unsupported version {version} of {}", key.name()));
    }
    let ctx = client.context(&header, received);
    macro_rules! decode {
        () => {
            match decode(&mut reader, version) {
                Ok(request) => request,
                Err(error) => return Reply::Close(format!("malformed {}: {error}", key.name())),
            }
        };
    }
    macro_rules! serve {
        ($handler:path) => {
            $handler(&ctx, broker, decode!())
                .await
                .map(move |response| encode::<E, _>(&response, version, correlation_id))
        };
    }
    // The future of a rare handler is boxed, so that it does not make every connection larger.
    macro_rules! serve_boxed {
        ($handler:path) => {
            Box::pin($handler(&ctx, broker, decode!()))
                .await
                .map(move |response| encode::<E, _>(&response, version, correlation_id))
        };
    }
    match key {
        ApiKey::Produce => serve!(produce::produce),
        ApiKey::Fetch if client.listener.audience == Audience::Controllers => {
            quorum::fetch_metadata(&ctx, broker, decode!())
                .map(move |answer| splice::<E>(answer, version, correlation_id))
        }
        ApiKey::Vote => serve_boxed!(quorum::vote),
        ApiKey::BeginQuorumEpoch => serve_boxed!(quorum::begin_quorum_epoch),
        ApiKey::EndQuorumEpoch => serve_boxed!(quorum::end_quorum_epoch),
        ApiKey::FetchSnapshot => serve_boxed!(quorum::fetch_snapshot),
        ApiKey::Envelope => serve_boxed!(controllers::envelope),
        ApiKey::AlterPartition => serve_boxed!(controllers::alter_partition),
        ApiKey::BrokerRegistration => serve_boxed!(controllers::broker_registration),
        ApiKey::BrokerHeartbeat => serve_boxed!(controllers::broker_heartbeat),
        ApiKey::AllocateProducerIds => serve_boxed!(controllers::allocate_producer_ids),
        ApiKey::AssignReplicasToDirs => serve_boxed!(controllers::assign_replicas_to_dirs),
        ApiKey::Fetch => {
            let request: wire::fetch::FetchRequest = decode!();
            let answer = match follower_fetch::is_of_follower(version, &request) {
                true => Box::pin(follower_fetch::serve(&ctx, broker, request)).await,
                false => fetch::fetch(&ctx, broker, request).await,
            };
            answer.map(move |answer| splice::<E>(answer, version, correlation_id))
        }
        ApiKey::ListOffsets => serve_boxed!(list_offsets::list_offsets),
        ApiKey::Metadata => serve_boxed!(metadata::metadata),
        ApiKey::OffsetCommit => serve_boxed!(offset::offset_commit),
        ApiKey::OffsetFetch => serve_boxed!(offset::offset_fetch),
        ApiKey::FindCoordinator => serve_boxed!(group::find_coordinator),
        ApiKey::JoinGroup => serve_boxed!(group::join_group),
        ApiKey::Heartbeat => serve_boxed!(group::heartbeat),
        ApiKey::LeaveGroup => serve_boxed!(group::leave_group),
        ApiKey::SyncGroup => serve_boxed!(group::sync_group),
        ApiKey::DescribeGroups => serve_boxed!(group::describe_groups),
        ApiKey::ListGroups => serve_boxed!(group::list_groups),
        ApiKey::DeleteGroups => serve_boxed!(group::delete_groups),
        ApiKey::OffsetDelete => serve_boxed!(offset::offset_delete),
        ApiKey::ApiVersions => {
            let request: wire::api_versions::ApiVersionsRequest = decode!();
            client.software = api_versions::software(version, &request);
            let response = api_versions::api_versions(&ctx, broker, request);
            Reply::Now(encode::<E, _>(&response, version, correlation_id))
        }
        ApiKey::CreateTopics => serve_boxed!(topics::create_topics),
        ApiKey::DeleteTopics => serve_boxed!(topics::delete_topics),
        ApiKey::CreatePartitions => serve_boxed!(topics::create_partitions),
        ApiKey::DeleteRecords => serve_boxed!(records::delete_records),
        ApiKey::InitProducerId => serve_boxed!(producer_id::init_producer_id),
        ApiKey::OffsetForLeaderEpoch => serve_boxed!(records::offset_for_leader_epoch),
        ApiKey::DescribeConfigs => serve_boxed!(configs::describe_configs),
        ApiKey::DescribeLogDirs => serve_boxed!(log_dirs::describe_log_dirs),
        ApiKey::AlterConfigs => serve_boxed!(configs::alter_configs),
        ApiKey::IncrementalAlterConfigs => serve_boxed!(configs::incremental_alter_configs),
        ApiKey::GetTelemetrySubscriptions => {
            serve_boxed!(telemetry::get_telemetry_subscriptions)
        }
        ApiKey::PushTelemetry => serve_boxed!(telemetry::push_telemetry),
        ApiKey::ListConfigResources => serve_boxed!(configs::list_config_resources),
        ApiKey::UpdateFeatures => serve_boxed!(features::update_features),
        ApiKey::ElectLeaders => serve_boxed!(replicas::elect_leaders),
        ApiKey::AlterPartitionReassignments => {
            serve_boxed!(replicas::alter_partition_reassignments)
        }
        ApiKey::ListPartitionReassignments => {
            serve_boxed!(replicas::list_partition_reassignments)
        }
        ApiKey::AddRaftVoter => serve_boxed!(quorum::add_raft_voter),
        ApiKey::RemoveRaftVoter => serve_boxed!(quorum::remove_raft_voter),
        ApiKey::UpdateRaftVoter => serve_boxed!(quorum::update_raft_voter),
        ApiKey::UnregisterBroker => serve_boxed!(controllers::unregister_broker),
        ApiKey::UnregisterController => serve_boxed!(controllers::unregister_controller),
        ApiKey::DescribeQuorum => serve_boxed!(quorum::describe_quorum),
        ApiKey::DescribeCluster => serve_boxed!(cluster::describe_cluster),
        ApiKey::DescribeTopicPartitions => serve_boxed!(cluster::describe_topic_partitions),
        _ => Reply::Close(format!("unknown api key {}", header.request_api_key)),
    }
}

fn decode<R: Request>(reader: &mut Reader, version: i16) -> Result<R, DecodeError> {
    R::decode(reader, version)
}

fn encode<E: Env, M: Message>(response: &M, version: i16, correlation_id: i32) -> Encoded<E> {
    Ok(vec![Part::Mem(wire::response_frame(response, version, correlation_id)?)])
}

/// Encodes a fetch's answer around its records, which stay where they are.
fn splice<E: Env>(answer: fetch::Answer<E>, version: i16, correlation_id: i32) -> Encoded<E> {
    let (pieces, _) = wire::splice(answer, ResponseHeader { correlation_id }, version)?;
    let mut parts = Vec::with_capacity(pieces.len() + 2);
    for piece in pieces {
        match piece {
            Piece::Mem(bytes) => parts.push(Part::Mem(bytes)),
            Piece::Records(records) => parts.extend(records.parts),
        }
    }
    Ok(parts)
}

/// `code` as the wire's number, with Kafka's rule that a success has no message.
pub(crate) fn error_fields(result: Result<(), Refused>) -> (i16, Option<Str>) {
    match result {
        Ok(()) => (ErrorCode::None.as_i16(), None),
        Err(refused) => (refused.code.as_i16(), refused.message.map(Into::into)),
    }
}
