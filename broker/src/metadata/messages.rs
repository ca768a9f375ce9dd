//! What nodes of the quorum say to each other, in Kafka's words: Vote (52), BeginQuorumEpoch (53), EndQuorumEpoch (54), Fetch (1)
//! of the metadata log; and how voters come and go: AddRaftVoter (80), RemoveRaftVoter (81), UpdateRaftVoter (82).
//!
//! Each message names the cluster, so that a node of another one changes nothing here. What a peer sends may be anything:
//! what makes no sense is no answer.

use bytes::Bytes;
use cluster::controller::METADATA_TOPIC;
use cluster::quorum::{
    Answer, Begin, End, Endpoint, Fetch, Position, Records, Refusal, ReplicaKey, Reply, Request,
    Span, Vote,
};
use record::{Batch, Batches};
use types::encoding::Str;
use types::{DirectoryId, ErrorCode, NodeId, Offset, QuorumEpoch};
use wire::{
    add_raft_voter, begin_quorum_epoch, end_quorum_epoch, fetch, fetch_snapshot, remove_raft_voter,
    update_raft_voter, vote,
};

use super::addresses::Address;
use super::log::{Content, TOPIC_ID};
use crate::config::CONTROLLER;

/// The metadata log has one partition.
const PARTITION: i32 = 0;
/// "None" in fields that name a node or an epoch.
const NOBODY: i32 = -1;
/// How much one answer to a fetch may hold, as in Kafka.
const FETCH_BYTES_MAX: i32 = 8 << 20;

/// Kafka's code for a refusal.
fn code_of(refusal: Refusal) -> ErrorCode {
    match refusal {
        Refusal::Fenced => ErrorCode::FencedLeaderEpoch,
        Refusal::NotLeader => ErrorCode::NotLeaderOrFollower,
        Refusal::WrongVoter => ErrorCode::InvalidVoterKey,
        Refusal::Inconsistent | Refusal::LastVoter => ErrorCode::InvalidRequest,
        Refusal::Busy | Refusal::Unnamed | Refusal::Lags => ErrorCode::RequestTimedOut,
        Refusal::DuplicateVoter => ErrorCode::DuplicateVoter,
        Refusal::VoterNotFound => ErrorCode::VoterNotFound,
    }
}

fn refusal_of(code: i16) -> Refusal {
    match ErrorCode::from_i16(code) {
        Some(ErrorCode::FencedLeaderEpoch) => Refusal::Fenced,
        Some(ErrorCode::NotLeaderOrFollower) => Refusal::NotLeader,
        Some(ErrorCode::InvalidVoterKey) => Refusal::WrongVoter,
        Some(ErrorCode::RequestTimedOut) => Refusal::Busy,
        _ => Refusal::Inconsistent,
    }
}

/// What every answer says of the epoch.
fn reply_of(epoch: i32, leader: i32, code: i16, body: impl FnOnce() -> Answer) -> Reply {
    let body = match code {
        0 => body(),
        code => Answer::Refused(refusal_of(code)),
    };
    let leader = (leader >= 0).then_some(NodeId(leader));
    Reply { epoch: QuorumEpoch(epoch), leader, body }
}

fn node_of(leader: Option<NodeId>) -> i32 {
    leader.map_or(NOBODY, |node| node.0)
}

fn refused(body: &Answer) -> i16 {
    match body {
        Answer::Refused(refusal) => code_of(*refusal).as_i16(),
        _ => 0,
    }
}

/// The one element of a list.
fn only<T>(list: Vec<T>) -> Option<T> {
    let [one] = <[T; 1]>::try_from(list).ok()?;
    Some(one)
}

pub(super) fn vote_request(cluster: &str, vote: &Vote) -> vote::VoteRequest {
    let partition = vote::RequestPartitionData {
        partition_index: PARTITION,
        replica_epoch: vote.epoch.0,
        replica_id: vote.candidate.node.0,
        replica_directory_id: vote.candidate.directory.0,
        voter_directory_id: vote.directory.unwrap_or_default().0,
        last_offset_epoch: vote.last.epoch.0,
        last_offset: vote.last.offset.0,
        pre_vote: vote.is_pre,
    };
    vote::VoteRequest {
        cluster_id: Some(cluster.into()),
        voter_id: vote.voter.0,
        topics: vec![vote::RequestTopicData {
            topic_name: METADATA_TOPIC.into(),
            partitions: vec![partition],
        }],
    }
}

/// What a Vote asks of node `me`; `None` if it makes no sense.
pub(super) fn vote_asked(request: vote::VoteRequest, me: NodeId) -> Option<Request> {
    let topic = only(request.topics).filter(|topic| topic.topic_name == METADATA_TOPIC)?;
    let asked = only(topic.partitions).filter(|asked| asked.partition_index == PARTITION)?;
    let directory = Some(DirectoryId(asked.voter_directory_id)).filter(|id| !id.0.is_zero());
    Some(Request::Vote(Vote {
        epoch: QuorumEpoch(asked.replica_epoch),
        candidate: replica(asked.replica_id, asked.replica_directory_id),
        // Version 0 does not say whom it means.
        voter: if request.voter_id == NOBODY { me } else { NodeId(request.voter_id) },
        directory,
        last: Position::new(asked.last_offset_epoch, asked.last_offset),
        is_pre: asked.pre_vote,
    }))
}

pub(super) fn vote_response(reply: &Reply) -> vote::VoteResponse {
    let partition = vote::ResponsePartitionData {
        partition_index: PARTITION,
        error_code: refused(&reply.body),
        leader_id: node_of(reply.leader),
        leader_epoch: reply.epoch.0,
        vote_granted: reply.body == Answer::Vote(true),
    };
    vote::VoteResponse {
        topics: vec![vote::ResponseTopicData {
            topic_name: METADATA_TOPIC.into(),
            partitions: vec![partition],
        }],
        ..vote::VoteResponse::default()
    }
}

pub(super) fn vote_answered(response: vote::VoteResponse) -> Result<Reply, ErrorCode> {
    check(response.error_code)?;
    let topic = only(response.topics).ok_or(ErrorCode::InvalidRequest)?;
    let told = only(topic.partitions).ok_or(ErrorCode::InvalidRequest)?;
    Ok(reply_of(told.leader_epoch, told.leader_id, told.error_code, || {
        Answer::Vote(told.vote_granted)
    }))
}

pub(super) fn begin_request(
    cluster: &str,
    begin: &Begin,
    voter: NodeId,
    directory: Option<DirectoryId>,
    leader_at: Option<Address>,
) -> begin_quorum_epoch::BeginQuorumEpochRequest {
    let partition = begin_quorum_epoch::RequestPartitionData {
        partition_index: PARTITION,
        voter_directory_id: directory.unwrap_or_default().0,
        leader_id: begin.leader.0,
        leader_epoch: begin.epoch.0,
    };
    let endpoint = leader_at.map(|(host, port)| begin_quorum_epoch::LeaderEndpoint {
        name: CONTROLLER.into(),
        host: (&*host).into(),
        port,
    });
    begin_quorum_epoch::BeginQuorumEpochRequest {
        cluster_id: Some(cluster.into()),
        voter_id: voter.0,
        leader_endpoints: endpoint.into_iter().collect(),
        topics: vec![begin_quorum_epoch::RequestTopicData {
            topic_name: METADATA_TOPIC.into(),
            partitions: vec![partition],
        }],
    }
}

/// What a BeginQuorumEpoch says to `me`.
pub(super) fn begin_asked(
    request: begin_quorum_epoch::BeginQuorumEpochRequest,
    me: ReplicaKey,
) -> Result<Request, ErrorCode> {
    let voter = request.voter_id;
    let topic = only(request.topics).filter(|topic| topic.topic_name == METADATA_TOPIC);
    let told = topic.and_then(|topic| only(topic.partitions)).ok_or(ErrorCode::InvalidRequest)?;
    let is_other = |id: types::Uuid| !id.is_zero() && id != me.directory.0;
    if (voter != NOBODY && voter != me.node.0) || is_other(told.voter_directory_id) {
        return Err(ErrorCode::InvalidVoterKey);
    }
    let (epoch, leader) = (QuorumEpoch(told.leader_epoch), NodeId(told.leader_id));
    Ok(Request::Begin(Begin { epoch, leader }))
}

pub(super) fn begin_response(reply: &Reply) -> begin_quorum_epoch::BeginQuorumEpochResponse {
    let partition = begin_quorum_epoch::ResponsePartitionData {
        partition_index: PARTITION,
        error_code: refused(&reply.body),
        leader_id: node_of(reply.leader),
        leader_epoch: reply.epoch.0,
    };
    begin_quorum_epoch::BeginQuorumEpochResponse {
        topics: vec![begin_quorum_epoch::ResponseTopicData {
            topic_name: METADATA_TOPIC.into(),
            partitions: vec![partition],
        }],
        ..begin_quorum_epoch::BeginQuorumEpochResponse::default()
    }
}

pub(super) fn begin_answered(
    response: begin_quorum_epoch::BeginQuorumEpochResponse,
) -> Result<Reply, ErrorCode> {
    check(response.error_code)?;
    let topic = only(response.topics).ok_or(ErrorCode::InvalidRequest)?;
    let told = only(topic.partitions).ok_or(ErrorCode::InvalidRequest)?;
    Ok(reply_of(told.leader_epoch, told.leader_id, told.error_code, || Answer::Done))
}

pub(super) fn end_request(cluster: &str, end: &End) -> end_quorum_epoch::EndQuorumEpochRequest {
    let candidate = |node: &NodeId| end_quorum_epoch::ReplicaInfo {
        candidate_id: node.0,
        ..end_quorum_epoch::ReplicaInfo::default()
    };
    let partition = end_quorum_epoch::RequestPartitionData {
        partition_index: PARTITION,
        leader_id: end.leader.0,
        leader_epoch: end.epoch.0,
        preferred_candidates: end.successors.iter().map(candidate).collect(),
        ..end_quorum_epoch::RequestPartitionData::default()
    };
    end_quorum_epoch::EndQuorumEpochRequest {
        cluster_id: Some(cluster.into()),
        topics: vec![end_quorum_epoch::RequestTopicData {
            topic_name: METADATA_TOPIC.into(),
            partitions: vec![partition],
        }],
        ..end_quorum_epoch::EndQuorumEpochRequest::default()
    }
}

pub(super) fn end_asked(request: end_quorum_epoch::EndQuorumEpochRequest) -> Option<Request> {
    let topic = only(request.topics).filter(|topic| topic.topic_name == METADATA_TOPIC)?;
    let told = only(topic.partitions)?;
    let candidates = told.preferred_candidates.iter().map(|known| known.candidate_id);
    let successors = candidates.chain(told.preferred_successors).map(NodeId);
    Some(Request::End(End {
        epoch: QuorumEpoch(told.leader_epoch),
        leader: NodeId(told.leader_id),
        successors: successors.collect(),
    }))
}

pub(super) fn end_response(reply: &Reply) -> end_quorum_epoch::EndQuorumEpochResponse {
    let partition = end_quorum_epoch::ResponsePartitionData {
        partition_index: PARTITION,
        error_code: refused(&reply.body),
        leader_id: node_of(reply.leader),
        leader_epoch: reply.epoch.0,
    };
    end_quorum_epoch::EndQuorumEpochResponse {
        topics: vec![end_quorum_epoch::ResponseTopicData {
            topic_name: METADATA_TOPIC.into(),
            partitions: vec![partition],
        }],
        ..end_quorum_epoch::EndQuorumEpochResponse::default()
    }
}

pub(super) fn end_answered(
    response: end_quorum_epoch::EndQuorumEpochResponse,
) -> Result<Reply, ErrorCode> {
    check(response.error_code)?;
    let topic = only(response.topics).ok_or(ErrorCode::InvalidRequest)?;
    let told = only(topic.partitions).ok_or(ErrorCode::InvalidRequest)?;
    Ok(reply_of(told.leader_epoch, told.leader_id, told.error_code, || Answer::Done))
}

/// A fetch that waits for news up to `wait_ms`; `high_watermark` is what the asker knows (KIP-1166).
pub(super) fn fetch_request(
    cluster: &str,
    asked: &Fetch,
    high_watermark: Offset,
    wait_ms: i32,
) -> fetch::FetchRequest {
    let partition = fetch::FetchPartition {
        partition: PARTITION,
        current_leader_epoch: asked.epoch.0,
        fetch_offset: asked.last.offset.0,
        last_fetched_epoch: asked.last.epoch.0,
        partition_max_bytes: FETCH_BYTES_MAX,
        replica_directory_id: asked.replica.directory.0,
        high_watermark: high_watermark.0,
        ..fetch::FetchPartition::default()
    };
    fetch::FetchRequest {
        cluster_id: Some(cluster.into()),
        replica_state: fetch::ReplicaState { replica_id: asked.replica.node.0, replica_epoch: -1 },
        max_wait_ms: wait_ms,
        min_bytes: 1,
        max_bytes: FETCH_BYTES_MAX,
        session_epoch: -1,
        topics: vec![fetch::FetchTopic {
            topic_id: TOPIC_ID.0,
            partitions: vec![partition],
            ..fetch::FetchTopic::default()
        }],
        ..fetch::FetchRequest::default()
    }
}

/// What a Fetch asks, and the high watermark that its sender knows.
pub(super) fn fetch_asked(request: &fetch::FetchRequest) -> Option<(Fetch, Offset)> {
    let [topic] = &request.topics[..] else { return None };
    let [asked] = &topic.partitions[..] else { return None };
    if topic.topic_id != TOPIC_ID.0 || asked.partition != PARTITION || asked.fetch_offset < 0 {
        return None;
    }
    let fetch = Fetch {
        epoch: QuorumEpoch(asked.current_leader_epoch),
        replica: replica(request.replica_state.replica_id, asked.replica_directory_id),
        last: Position::new(asked.last_fetched_epoch, asked.fetch_offset),
    };
    Some((fetch, Offset(asked.high_watermark)))
}

/// The answer to a fetch, with the batches that were read for it.
pub(super) fn fetch_response<R>(
    reply: &Reply,
    log_start: Offset,
    records: Option<R>,
) -> fetch::FetchResponse<R> {
    let mut partition = fetch::PartitionData {
        partition_index: PARTITION,
        error_code: refused(&reply.body),
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: log_start.0,
        current_leader: fetch::LeaderIdAndEpoch {
            leader_id: node_of(reply.leader),
            leader_epoch: reply.epoch.0,
        },
        records,
        ..Default::default()
    };
    match &reply.body {
        Answer::Records(records) => {
            partition.high_watermark = records.high_watermark.0;
            partition.last_stable_offset = records.high_watermark.0;
        }
        Answer::Diverging(shared) => {
            partition.diverging_epoch =
                fetch::EpochEndOffset { epoch: shared.epoch.0, end_offset: shared.offset.0 };
        }
        Answer::Snapshot(end) => {
            partition.snapshot_id =
                fetch::SnapshotId { end_offset: end.offset.0, epoch: end.epoch.0 };
        }
        Answer::Vote(_) | Answer::Done | Answer::Refused(_) => {}
    }
    fetch::FetchResponse {
        responses: vec![fetch::FetchableTopicResponse {
            topic_id: TOPIC_ID.0,
            partitions: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// What a leader answers to a fetch from `from` on, with its batches, each checked: they follow each other without a gap.
pub(super) fn fetch_answered(
    response: fetch::FetchResponse,
    from: Offset,
) -> Result<(Reply, Vec<Batch>), ErrorCode> {
    check(response.error_code)?;
    let topic = only(response.responses).ok_or(ErrorCode::InvalidRequest)?;
    let told = only(topic.partitions).ok_or(ErrorCode::InvalidRequest)?;
    let batches = match told.error_code {
        0 => checked(told.records.unwrap_or_default(), from)?,
        _ => Vec::new(),
    };
    let spans = batches.iter().map(span).collect::<Result<_, _>>()?;
    let (leader, diverging) = (&told.current_leader, &told.diverging_epoch);
    let body = || {
        if diverging.epoch >= 0 {
            Answer::Diverging(Position::new(diverging.epoch, diverging.end_offset))
        } else if told.snapshot_id.end_offset >= 0 {
            Answer::Snapshot(Position::new(told.snapshot_id.epoch, told.snapshot_id.end_offset))
        } else {
            Answer::Records(Records { high_watermark: Offset(told.high_watermark.max(0)), spans })
        }
    };
    Ok((reply_of(leader.leader_epoch, leader.leader_id, told.error_code, body), batches))
}

/// What a FetchSnapshot asks: a sign of life, and a piece: which snapshot, from where, how much.
pub(super) fn snapshot_asked(
    request: &fetch_snapshot::FetchSnapshotRequest,
) -> Option<(Fetch, Position, u64, usize)> {
    let [topic] = &request.topics[..] else { return None };
    let [asked] = &topic.partitions[..] else { return None };
    if &*topic.name != METADATA_TOPIC || asked.partition != PARTITION {
        return None;
    }
    let end = Position::new(asked.snapshot_id.epoch, asked.snapshot_id.end_offset);
    let fetch = Fetch {
        epoch: QuorumEpoch(asked.current_leader_epoch),
        replica: replica(request.replica_id, asked.replica_directory_id),
        last: end,
    };
    let position = u64::try_from(asked.position).ok()?;
    Some((fetch, end, position, usize::try_from(request.max_bytes).unwrap_or(0)))
}

/// The answer, with the piece and the size of the whole, or why there is none.
pub(super) fn snapshot_response(
    reply: &Reply,
    end: Position,
    position: u64,
    piece: Result<(u64, Bytes), ErrorCode>,
) -> fetch_snapshot::FetchSnapshotResponse {
    let mut partition = fetch_snapshot::ResponsePartitionSnapshot {
        index: PARTITION,
        error_code: refused(&reply.body),
        snapshot_id: fetch_snapshot::ResponseSnapshotId {
            end_offset: end.offset.0,
            epoch: end.epoch.0,
        },
        current_leader: fetch_snapshot::LeaderIdAndEpoch {
            leader_id: node_of(reply.leader),
            leader_epoch: reply.epoch.0,
        },
        position: position as i64,
        ..Default::default()
    };
    match piece {
        _ if partition.error_code != 0 => {}
        Ok((size, bytes)) => {
            partition.size = size as i64;
            partition.unaligned_records = Some(bytes);
        }
        Err(code) => partition.error_code = code.as_i16(),
    }
    fetch_snapshot::FetchSnapshotResponse {
        topics: vec![fetch_snapshot::ResponseTopicSnapshot {
            name: METADATA_TOPIC.into(),
            partitions: vec![partition],
        }],
        ..Default::default()
    }
}

/// What an AddRaftVoter asks; `None` if it names no replica or no place where it listens.
pub(super) fn voter_to_add(request: &add_raft_voter::AddRaftVoterRequest) -> Option<Request> {
    let key = replica(request.voter_id, request.voter_directory_id);
    let listeners = request.listeners.iter();
    let endpoints = listeners.map(|known| endpoint(&known.name, &known.host, known.port));
    let endpoints: Vec<Endpoint> = endpoints.collect();
    (is_named(key) && !endpoints.is_empty()).then_some(Request::AddVoter(key, endpoints))
}

/// What a RemoveRaftVoter asks; `None` if it names no replica.
pub(super) fn voter_to_remove(
    request: &remove_raft_voter::RemoveRaftVoterRequest,
) -> Option<Request> {
    let key = replica(request.voter_id, request.voter_directory_id);
    is_named(key).then_some(Request::RemoveVoter(key))
}

/// What an UpdateRaftVoter asks; `None` if it names no replica or no place where it listens.
pub(super) fn voter_to_update(
    request: &update_raft_voter::UpdateRaftVoterRequest,
) -> Option<Request> {
    let key = replica(request.voter_id, request.voter_directory_id);
    let listeners = request.listeners.iter();
    let endpoints = listeners.map(|known| endpoint(&known.name, &known.host, known.port));
    let endpoints: Vec<Endpoint> = endpoints.collect();
    (is_named(key) && !endpoints.is_empty()).then_some(Request::UpdateVoter(key, endpoints))
}

/// What became of a change of voters, and what to say of it.
pub(super) fn change_answered(reply: &Reply) -> Result<(), (ErrorCode, &'static str)> {
    let Answer::Refused(refusal) = reply.body else { return Ok(()) };
    let why = match refusal {
        Refusal::NotLeader | Refusal::Fenced => {
            "this node does not lead the metadata quorum, or does not any more"
        }
        Refusal::Busy => {
            "another change of the voters is under way, or the leader has just been elected: try again"
        }
        Refusal::Unnamed => {
            "a voter of controller.quorum.voters was never heard by this leader, so its directory is not known yet: start \
             its node first, or let its id be taken by one that runs"
        }
        Refusal::Lags => {
            "the replica has not fetched all that is committed: start its node and wait until it has"
        }
        Refusal::DuplicateVoter => "the node votes already, with this directory or another one",
        Refusal::VoterNotFound => "no such replica votes: check its directory id",
        Refusal::LastVoter => "nobody else votes",
        Refusal::WrongVoter | Refusal::Inconsistent => "the request makes no sense",
    };
    Err((code_of(refusal), why))
}

fn endpoint(listener: &Str, host: &Str, port: u16) -> Endpoint {
    Endpoint { listener: listener.clone(), host: host.clone(), port }
}

fn is_named(key: ReplicaKey) -> bool {
    key.node.0 >= 0 && !key.directory.0.is_zero()
}

fn checked(bytes: Bytes, from: Offset) -> Result<Vec<Batch>, ErrorCode> {
    let mut next = from;
    let mut batches = Vec::new();
    for batch in Batches::split(bytes) {
        let batch = batch.map_err(|_| ErrorCode::CorruptMessage)?;
        batch.check_crc().map_err(|_| ErrorCode::CorruptMessage)?;
        if batch.base_offset() != next || batch.leader_epoch().is_none() {
            return Err(ErrorCode::InvalidRequest);
        }
        next = batch.end_offset();
        batches.push(batch);
    }
    Ok(batches)
}

fn span(batch: &Batch) -> Result<Span, ErrorCode> {
    let voters = match batch.is_control() {
        true => match Content::of(batch).map_err(|_| ErrorCode::CorruptMessage)? {
            Content::Voters(voters) => Some(voters),
            _ => None,
        },
        false => None,
    };
    let epoch = batch.leader_epoch().unwrap_or_default();
    Ok(Span { epoch: QuorumEpoch(epoch.0), end: batch.end_offset(), voters })
}

fn replica(node: i32, directory: types::Uuid) -> ReplicaKey {
    ReplicaKey { node: NodeId(node), directory: DirectoryId(directory) }
}

fn check(code: i16) -> Result<(), ErrorCode> {
    match ErrorCode::from_i16(code) {
        Some(ErrorCode::None) => Ok(()),
        Some(code) => Err(code),
        None => Err(ErrorCode::UnknownServerError),
    }
}
