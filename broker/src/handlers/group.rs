//! Groups and their members: JoinGroup, SyncGroup, Heartbeat, LeaveGroup, DescribeGroups, ListGroups, DeleteGroups, and
//! FindCoordinator, which tells where a group is looked after.
//!
//! Each request becomes one event per group; the coordinator answers when it has decided and, where the decision is in
//! its log, when that is committed. Here sentinels turn into options and back, version by version.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use cluster::group::{
    Event, GroupDescription, GroupState, HeartbeatRequest, InstanceId, JoinRequest, JoinResponse,
    JoinedMember, LeaveRequest, LeaveResponse, LeavingMember, ListRequest, MemberDescription,
    Protocol, Response, SyncRequest, SyncResponse,
};
use env::{Env, Rng};
use types::{ErrorCode, Generation, GroupId, MemberId, Str};
use wire::delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};
use wire::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use wire::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use wire::heartbeat::HeartbeatResponse;
use wire::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use wire::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberResponse};
use wire::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use wire::sync_group::{SyncGroupRequest, SyncGroupResponse};

use super::metadata::address;
use super::{Reply, error_fields};
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::coordinator::{Answer, Groups, OFFSETS_TOPIC};
use crate::error_map::Refused;
use crate::shared::Shared;

/// How long FindCoordinator waits for the shard that it has just caused to exist.
const CREATION_PATIENCE: Duration = Duration::from_secs(5);

/// Operations on a group that a principal may be allowed, as a set of ACL operation numbers.
const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

/// A name, if it is not the wire's "none".
pub(super) fn named<T: From<Str>>(text: Str) -> Option<T> {
    (!text.is_empty()).then(|| T::from(text))
}

/// A generation, if it is not the wire's "none".
pub(super) fn generation(number: i32) -> Option<Generation> {
    (number >= 0).then_some(Generation(number))
}

pub(super) fn instance(name: Option<Str>) -> Option<InstanceId> {
    name.map(InstanceId)
}

/// A time span of the wire; a negative one is none at all.
fn millis(number: i32) -> Duration {
    Duration::from_millis(u64::try_from(number).unwrap_or(0))
}

/// What is kept beyond the request must not keep its whole frame.
fn kept(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// Whether the principal may do `operation` to the group, and the group has a name.
fn check(ctx: &RequestContext, operation: Operation, group: &str) -> Result<(), ErrorCode> {
    authorize(ctx, operation, Resource::Group(group)).map_err(|denied| denied.code)?;
    if group.is_empty() { Err(ErrorCode::InvalidGroupId) } else { Ok(()) }
}

/// Joins a group, or comes back to it.
pub(crate) async fn join_group<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: JoinGroupRequest,
) -> Reply<JoinGroupResponse> {
    let version = ctx.api_version;
    let refused = |error: ErrorCode, member: Option<MemberId>| {
        joined(version, JoinResponse { error, member, ..JoinResponse::default() })
    };
    let member = named::<MemberId>(request.member_id);
    if let Err(error) = check(ctx, Operation::Read, &request.group_id) {
        return Reply::Now(refused(error, member));
    }
    let group = GroupId::from(request.group_id);
    let rebalance_ms =
        if version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms };
    let protocol = |protocol: wire::join_group::JoinGroupRequestProtocol| Protocol {
        name: protocol.name,
        metadata: kept(&protocol.metadata),
    };
    let join = JoinRequest {
        group: group.clone(),
        member,
        instance: instance(request.group_instance_id),
        client_id: ctx.client_id().into(),
        client_host: ctx.host_text().into(),
        session_timeout: millis(request.session_timeout_ms),
        rebalance_timeout: millis(rebalance_ms),
        protocol_type: request.protocol_type,
        protocols: request.protocols.into_iter().map(protocol).collect(),
        requires_known_member: version >= 4,
        can_skip_assignment: version >= 9,
        fresh: broker.env().rng().uuid(),
    };
    let pending = broker.groups().submit(&group, |token| Event::Join(token, join)).await;
    Reply::later(async move {
        match pending.answer().await {
            Ok(Response::Join(response)) => joined(version, response),
            other => {
                joined(version, JoinResponse { error: error_of(other), ..JoinResponse::default() })
            }
        }
    })
}

fn joined(version: i16, response: JoinResponse) -> JoinGroupResponse {
    let member = |member: JoinedMember| JoinGroupResponseMember {
        member_id: member.member.into(),
        group_instance_id: member.instance.map(|instance| instance.0),
        metadata: member.metadata,
    };
    let protocol_name = match response.protocol {
        // Null can be said from version 7 on.
        None if version < 7 => Some(Str::EMPTY),
        protocol => protocol,
    };
    JoinGroupResponse {
        throttle_time_ms: 0,
        error_code: response.error.as_i16(),
        generation_id: response.generation.map_or(-1, |generation| generation.0),
        protocol_type: response.protocol_type,
        protocol_name,
        leader: response.leader.map(Str::from).unwrap_or_default(),
        skip_assignment: response.skip_assignment,
        member_id: response.member.map(Str::from).unwrap_or_default(),
        members: response.members.into_iter().map(member).collect(),
    }
}

/// Asks for the assignment, or brings it.
pub(crate) async fn sync_group<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: SyncGroupRequest,
) -> Reply<SyncGroupResponse> {
    let refused = |error: ErrorCode| synced(SyncResponse { error, ..SyncResponse::default() });
    let names = request.protocol_type.is_some() && request.protocol_name.is_some();
    if ctx.api_version >= 5 && !names {
        return Reply::Now(refused(ErrorCode::InconsistentGroupProtocol));
    }
    if let Err(error) = check(ctx, Operation::Read, &request.group_id) {
        return Reply::Now(refused(error));
    }
    let group = GroupId::from(request.group_id);
    let assignments = request.assignments.into_iter();
    let sync = SyncRequest {
        group: group.clone(),
        member: request.member_id.into(),
        instance: instance(request.group_instance_id),
        generation: generation(request.generation_id),
        protocol_type: request.protocol_type,
        protocol: request.protocol_name,
        assignments: assignments.map(|a| (a.member_id.into(), kept(&a.assignment))).collect(),
    };
    let pending = broker.groups().submit(&group, |token| Event::Sync(token, sync)).await;
    Reply::later(async move {
        match pending.answer().await {
            Ok(Response::Sync(response)) => synced(response),
            other => synced(SyncResponse { error: error_of(other), ..SyncResponse::default() }),
        }
    })
}

fn synced(response: SyncResponse) -> SyncGroupResponse {
    SyncGroupResponse {
        throttle_time_ms: 0,
        error_code: response.error.as_i16(),
        protocol_type: response.protocol_type,
        protocol_name: response.protocol,
        assignment: response.assignment,
    }
}

/// Says that a member is alive, and hears whether a rebalance is due.
pub(crate) async fn heartbeat<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: wire::heartbeat::HeartbeatRequest,
) -> Reply<HeartbeatResponse> {
    let response =
        |error: ErrorCode| HeartbeatResponse { throttle_time_ms: 0, error_code: error.as_i16() };
    if let Err(error) = check(ctx, Operation::Read, &request.group_id) {
        return Reply::Now(response(error));
    }
    let group = GroupId::from(request.group_id);
    let heartbeat = HeartbeatRequest {
        group: group.clone(),
        member: request.member_id.into(),
        instance: instance(request.group_instance_id),
        generation: generation(request.generation_id),
    };
    let pending = broker.groups().submit(&group, |token| Event::Heartbeat(token, heartbeat)).await;
    Reply::later(async move {
        response(match pending.answer().await {
            Ok(Response::Heartbeat(error)) => error,
            // The member can do nothing better than go on: its session begins when the log is loaded.
            Err(ErrorCode::CoordinatorLoadInProgress) => ErrorCode::None,
            other => error_of(other),
        })
    })
}

/// Members leave, or are removed by their static names.
pub(crate) async fn leave_group<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: LeaveGroupRequest,
) -> Reply<LeaveGroupResponse> {
    let version = ctx.api_version;
    if let Err(error) = check(ctx, Operation::Read, &request.group_id) {
        return Reply::Now(left(version, LeaveResponse { error, members: Vec::new() }));
    }
    let group = GroupId::from(request.group_id);
    let members = if version < 3 {
        vec![LeavingMember { member: named(request.member_id), instance: None }]
    } else {
        let leaving = |member: wire::leave_group::MemberIdentity| LeavingMember {
            member: named(member.member_id),
            instance: instance(member.group_instance_id),
        };
        request.members.into_iter().map(leaving).collect()
    };
    let leave = LeaveRequest { group: group.clone(), members };
    let pending = broker.groups().submit(&group, |token| Event::Leave(token, leave)).await;
    Reply::later(async move {
        match pending.answer().await {
            Ok(Response::Leave(response)) => left(version, response),
            other => left(version, LeaveResponse { error: error_of(other), members: Vec::new() }),
        }
    })
}

fn left(version: i16, response: LeaveResponse) -> LeaveGroupResponse {
    let mut error = response.error;
    if version < 3 && error.is_none() {
        // One member asked, and there is one place for what became of it.
        error = response.members.first().map_or(ErrorCode::None, |(_, error)| *error);
    }
    let member = |(leaving, error): (LeavingMember, ErrorCode)| MemberResponse {
        member_id: leaving.member.map(Str::from).unwrap_or_default(),
        group_instance_id: leaving.instance.map(|instance| instance.0),
        error_code: error.as_i16(),
    };
    let members =
        if version < 3 { Vec::new() } else { response.members.into_iter().map(member).collect() };
    LeaveGroupResponse { throttle_time_ms: 0, error_code: error.as_i16(), members }
}

/// Tells all about some groups.
pub(crate) async fn describe_groups<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: DescribeGroupsRequest,
) -> Reply<DescribeGroupsResponse> {
    let version = ctx.api_version;
    let operations = version >= 3 && request.include_authorized_operations;
    let mut pending = Vec::with_capacity(request.groups.len());
    // Once each: a short name may stand for a long description.
    let mut seen = BTreeSet::new();
    for name in request.groups.into_iter().filter(|name| seen.insert(name.clone())) {
        let group = GroupId::from(name.clone());
        let answer = match authorize(ctx, Operation::Describe, Resource::Group(&name)) {
            Ok(()) => {
                let event = |token| Event::Describe(token, group.clone());
                Ok(broker.groups().submit(&group, event).await)
            }
            Err(denied) => Err(denied.code),
        };
        pending.push((name, answer));
    }
    Reply::later(async move {
        let mut groups = Vec::with_capacity(pending.len());
        for (name, answer) in pending {
            let described = match answer {
                Err(error) => Err(error),
                Ok(pending) => match pending.answer().await {
                    Ok(Response::Describe(described)) => described,
                    other => Err(error_of(other)),
                },
            };
            groups.push(described_group(version, operations, name, described));
        }
        DescribeGroupsResponse { throttle_time_ms: 0, groups }
    })
}

fn described_group(
    version: i16,
    operations: bool,
    name: Str,
    described: Result<GroupDescription, ErrorCode>,
) -> DescribedGroup {
    let member = |member: MemberDescription| DescribedGroupMember {
        member_id: member.member.into(),
        group_instance_id: member.instance.map(|instance| instance.0),
        client_id: member.client_id,
        client_host: member.client_host,
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    };
    let mut group = DescribedGroup { group_id: name.clone(), ..DescribedGroup::default() };
    match described {
        Ok(description) => {
            group.group_state = description.state.name().into();
            group.protocol_type = description.protocol_type;
            group.protocol_data = description.protocol;
            group.members = description.members.into_iter().map(member).collect();
        }
        Err(ErrorCode::GroupIdNotFound) => {
            group.group_state = "Dead".into();
            if version >= 6 {
                group.error_code = ErrorCode::GroupIdNotFound.as_i16();
                group.error_message = Some(not_found(&name));
            }
        }
        Err(error) => group.error_code = error.as_i16(),
    }
    if operations && group.error_code == ErrorCode::None.as_i16() {
        group.authorized_operations = GROUP_OPERATIONS;
    }
    group
}

fn not_found(group: &str) -> Str {
    format!("Group {group} not found.").into()
}

/// Lists the groups this broker looks after.
pub(crate) async fn list_groups<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: ListGroupsRequest,
) -> Reply<ListGroupsResponse> {
    let set =
        |names: Vec<Str>| -> BTreeSet<String> { names.into_iter().map(String::from).collect() };
    let list = ListRequest { states: set(request.states_filter), types: set(request.types_filter) };
    let pending = broker.groups().submit_to_all(|token| Event::List(token, list.clone())).await;
    let ctx = ctx.clone();
    Reply::later(async move {
        let mut response = ListGroupsResponse::default();
        let all = authorize(&ctx, Operation::Describe, Resource::Cluster).is_ok();
        for pending in pending {
            match pending.answer().await {
                Ok(Response::List(groups)) => {
                    response.groups.extend(groups.into_iter().map(listed_group));
                }
                // That partition's groups are somebody else's to tell of.
                Err(ErrorCode::NotCoordinator) => {}
                other => {
                    let error_code = error_of(other).as_i16();
                    return ListGroupsResponse { error_code, ..ListGroupsResponse::default() };
                }
            }
        }
        if !all {
            let may = |group: &ListedGroup| {
                authorize(&ctx, Operation::Describe, Resource::Group(&group.group_id)).is_ok()
            };
            response.groups.retain(may);
        }
        response
    })
}

fn listed_group(group: cluster::group::ListedGroup) -> ListedGroup {
    ListedGroup {
        group_id: group.group.into(),
        protocol_type: group.protocol_type,
        group_state: GroupState::name(group.state).into(),
        group_type: "classic".into(),
    }
}

/// Forgets empty groups with their offsets.
pub(crate) async fn delete_groups<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: DeleteGroupsRequest,
) -> Reply<DeleteGroupsResponse> {
    let mut seen = BTreeSet::new();
    let mut pending = Vec::new();
    for name in request.groups_names {
        if !seen.insert(name.clone()) {
            continue;
        }
        let group = GroupId::from(name.clone());
        let answer = match authorize(ctx, Operation::Delete, Resource::Group(&name)) {
            Ok(()) => {
                let event = |token| Event::Delete(token, group.clone());
                Ok(broker.groups().submit(&group, event).await)
            }
            Err(denied) => Err(denied.code),
        };
        pending.push((name, answer));
    }
    Reply::later(async move {
        let mut results = Vec::with_capacity(pending.len());
        for (group_id, answer) in pending {
            let error = match answer {
                Err(error) => error,
                Ok(pending) => match pending.answer().await {
                    Ok(Response::Delete(error)) => error,
                    other => error_of(other),
                },
            };
            let error_message = match error {
                ErrorCode::GroupIdNotFound => Some(not_found(&group_id)),
                _ => None,
            };
            results.push(DeletableGroupResult {
                group_id,
                error_code: error.as_i16(),
                error_message,
            });
        }
        DeleteGroupsResponse { throttle_time_ms: 0, results }
    })
}

/// Tells which broker looks after a group. The topic that remembers groups is made when the first group asks.
pub(crate) async fn find_coordinator<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: FindCoordinatorRequest,
) -> Reply<FindCoordinatorResponse> {
    if ctx.api_version < 4 {
        let found = coordinator_of(ctx, broker, request.key_type, &request.key).await;
        let code = found.as_ref().err().map_or(ErrorCode::None, |refused| refused.code);
        let (node_id, host, port) = node(&found);
        // These versions name the code even where nothing is wrong.
        let message = found.err().and_then(|refused| refused.message);
        return Reply::Now(FindCoordinatorResponse {
            throttle_time_ms: 0,
            error_code: code.as_i16(),
            error_message: Some(message.unwrap_or_else(|| code.name().to_owned()).into()),
            node_id,
            host,
            port,
            coordinators: Vec::new(),
        });
    }
    let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
    for key in request.coordinator_keys {
        let found = coordinator_of(ctx, broker, request.key_type, &key).await;
        let (node_id, host, port) = node(&found);
        let (error_code, error_message) = error_fields(found.map(drop));
        coordinators.push(Coordinator { key, node_id, host, port, error_code, error_message });
    }
    Reply::Now(FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() })
}

/// A broker as the client's listener sees it: id, host and port.
type Node = (i32, Str, i32);

/// The node that was found, or the wire's "no node".
fn node(found: &Result<Node, Refused>) -> Node {
    found.as_ref().map_or((-1, Str::EMPTY, -1), Node::clone)
}

/// Who coordinates `key`: it serves, if that is this broker.
async fn coordinator_of<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    key_type: i8,
    key: &str,
) -> Result<Node, Refused> {
    let not_there = |what: &str, code: ErrorCode| {
        Refused::new(code, format!("{what} are not supported by this broker yet"))
    };
    const GROUP: i8 = 0;
    const TRANSACTION: i8 = 1;
    const SHARE: i8 = 2;
    match key_type {
        GROUP => {
            authorize(ctx, Operation::Describe, Resource::Group(key))
                .map_err(|denied| denied.code)?;
        }
        // Transactions and share groups are not there yet. The code is final: a retriable one would keep a client asking
        // until its own patience ends, with nothing said about the reason.
        TRANSACTION => {
            authorize(ctx, Operation::Describe, Resource::TransactionalId(key))
                .map_err(|denied| denied.code)?;
            // librdkafka, which speaks versions up to 2, takes one code as final here and shows the words beside it.
            let code = match ctx.api_version {
                ..=2 => ErrorCode::TransactionalIdAuthorizationFailed,
                3.. => ErrorCode::UnsupportedVersion,
            };
            return Err(not_there("transactions", code));
        }
        SHARE if ctx.api_version >= 6 => {
            return Err(not_there("share groups", ErrorCode::UnsupportedVersion));
        }
        _ => return Err(ErrorCode::InvalidRequest.into()),
    }
    if broker.view().topic(OFFSETS_TOPIC).is_none() {
        broker
            .create_internal_topic(OFFSETS_TOPIC)
            .await
            .map_err(|_| ErrorCode::CoordinatorNotAvailable)?;
        broker.groups().ready(broker.env(), key, CREATION_PATIENCE).await;
    }
    let view = broker.view();
    let topic = view.topic(OFFSETS_TOPIC).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let index = Groups::partition_of(key, topic.partitions_count());
    let serves = topic.partition(index).is_some_and(|led| led.check_serving().is_ok());
    let registered = view.image.topic_by_id(topic.id).and_then(|it| it.partitions.get(&index));
    let leader = registered.and_then(|it| it.leader);
    let leader = leader.filter(|leader| *leader != broker.broker_id() || serves);
    let found = leader.and_then(|leader| {
        let known = view.image.broker(leader).filter(|known| !known.is_fenced)?;
        let (host, port) = address(ctx, broker, known)?;
        Some((leader.0, host, port))
    });
    found.ok_or(ErrorCode::CoordinatorNotAvailable.into())
}

/// The error of an answer that is not the expected one.
pub(super) fn error_of(answer: Answer) -> ErrorCode {
    // An answer of another kind would be a mix-up of tokens.
    answer.err().unwrap_or(ErrorCode::UnknownServerError)
}
