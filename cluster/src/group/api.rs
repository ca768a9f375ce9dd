//! What goes into and comes out of the group machine: requests as events, answers and records as effects.
//!
//! The shapes follow Kafka's requests, but hold no sentinel of the wire: a missing generation, member id or instance id
//! is an `Option`, and one event concerns one group. Whoever holds the socket translates.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use types::{
    ErrorCode, Generation, GroupId, Instant, LeaderEpoch, MemberId, Offset, PartitionIndex, Str,
    Timestamp, TopicId, TopicName, Uuid,
};

use super::GroupState;

/// Both clocks at one moment: the monotonic one drives timeouts, the wall clock dates commits and expiry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Now {
    /// Monotonic time.
    pub instant: Instant,
    /// Wall-clock time.
    pub timestamp: Timestamp,
}

/// Names one request until its reply leaves; chosen by the caller, unique among its open requests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Token(pub u64);

/// Number of an append, counted from 1 by the machine. A reply names the append that must be committed before it leaves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug, Serialize, Deserialize)]
pub struct AppendNumber(pub u64);

impl AppendNumber {
    /// Before the first append: nothing to wait for.
    pub const NONE: AppendNumber = AppendNumber(0);
}

/// `group.instance.id`: the name that a static member keeps over restarts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct InstanceId(pub Str);

impl From<&str> for InstanceId {
    fn from(text: &str) -> InstanceId {
        InstanceId(Str::from(text))
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the machine is told, in the order of a group's life.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Event {
    /// The log has been replayed to its end: sessions of the members found there begin now.
    Loaded,
    /// JoinGroup.
    Join(Token, JoinRequest),
    /// SyncGroup.
    Sync(Token, SyncRequest),
    /// Heartbeat.
    Heartbeat(Token, HeartbeatRequest),
    /// LeaveGroup.
    Leave(Token, LeaveRequest),
    /// OffsetCommit.
    CommitOffsets(Token, CommitOffsetsRequest),
    /// OffsetFetch, one group of it.
    FetchOffsets(Token, FetchOffsetsRequest),
    /// OffsetDelete.
    DeleteOffsets(Token, DeleteOffsetsRequest),
    /// DescribeGroups, one group of it.
    Describe(Token, GroupId),
    /// ListGroups.
    List(Token, ListRequest),
    /// DeleteGroups, one group of it.
    Delete(Token, GroupId),
    /// How all groups stand.
    Survey(Token),
    /// These topics are gone: offsets committed for them mean nothing any more.
    TopicsDeleted(Vec<(TopicName, TopicId)>),
    /// Time has passed; see [`super::Groups::next_deadline`].
    Tick,
}

/// What the machine wants done, in order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Effect {
    /// Append these records, as one unit and in this order, before any later effect. If that fails the machine's state
    /// is ahead of its log: drop it and load again.
    Append {
        /// Its number; appends are numbered without gaps.
        number: AppendNumber,
        /// Keys and values in Kafka's format.
        records: Vec<GroupRecord>,
    },
    /// Answer a request once all appends up to `after` are committed.
    Reply {
        /// Which request.
        token: Token,
        /// The append the answer speaks of.
        after: AppendNumber,
        /// The answer.
        response: Response,
    },
}

/// A record of `__consumer_offsets`; no value: a tombstone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupRecord {
    /// Encoded key, with its version.
    pub key: Bytes,
    /// Encoded value, with its version.
    pub value: Option<Bytes>,
}

impl GroupRecord {
    /// Bytes of key and value.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// Answers, one kind per kind of request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as the requests they answer")]
pub enum Response {
    Join(JoinResponse),
    Sync(SyncResponse),
    Heartbeat(ErrorCode),
    Leave(LeaveResponse),
    CommitOffsets(Result<Vec<TopicErrors>, ErrorCode>),
    FetchOffsets(Result<Vec<TopicOffsets>, ErrorCode>),
    DeleteOffsets(Result<Vec<TopicErrors>, ErrorCode>),
    Describe(Result<GroupDescription, ErrorCode>),
    List(Vec<ListedGroup>),
    Delete(ErrorCode),
    Survey(Vec<SurveyedGroup>),
}

/// One way of assigning that a member offers, with what it wants its leader to know.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Protocol {
    /// Name of the assignor.
    pub name: Str,
    /// Opaque to us but for the consumer protocol's topics.
    pub metadata: Bytes,
}

/// JoinGroup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The group.
    pub group: GroupId,
    /// Who rejoins; absent for a newcomer.
    pub member: Option<MemberId>,
    /// The static member's name.
    pub instance: Option<InstanceId>,
    /// Client id of the connection.
    pub client_id: Str,
    /// Host of the connection, as Kafka prints it: `/127.0.0.1`.
    pub client_host: Str,
    /// Silence after which the member is dead.
    pub session_timeout: Duration,
    /// How long a rebalance waits for this member.
    pub rebalance_timeout: Duration,
    /// `consumer`, `connect`, ...
    pub protocol_type: Str,
    /// What it offers, best first.
    pub protocols: Vec<Protocol>,
    /// Whether a newcomer must come back with the id it is given (version 4 and later).
    pub requires_known_member: bool,
    /// Whether the client understands that a leader may skip the assignment (version 9 and later).
    pub can_skip_assignment: bool,
    /// Fresh random bits for a new member id: there is no randomness in here.
    pub fresh: Uuid,
}

/// Answer to JoinGroup.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct JoinResponse {
    /// What went wrong, if anything.
    pub error: ErrorCode,
    /// The generation joined; absent with an error.
    pub generation: Option<Generation>,
    /// The protocol type.
    pub protocol_type: Option<Str>,
    /// The chosen protocol.
    pub protocol: Option<Str>,
    /// Who leads.
    pub leader: Option<MemberId>,
    /// The leader may skip the assignment (a static leader came back).
    pub skip_assignment: bool,
    /// The member answered; the id to come back with after MEMBER_ID_REQUIRED.
    pub member: Option<MemberId>,
    /// All members; for the leader alone.
    pub members: Vec<JoinedMember>,
}

/// A member as its leader sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JoinedMember {
    /// The member.
    pub member: MemberId,
    /// Its static name.
    pub instance: Option<InstanceId>,
    /// Its metadata for the chosen protocol.
    pub metadata: Bytes,
}

/// SyncGroup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SyncRequest {
    /// The group.
    pub group: GroupId,
    /// The member.
    pub member: MemberId,
    /// Its static name.
    pub instance: Option<InstanceId>,
    /// The generation it joined.
    pub generation: Option<Generation>,
    /// The protocol type it believes in (version 5 and later).
    pub protocol_type: Option<Str>,
    /// The protocol it believes in (version 5 and later).
    pub protocol: Option<Str>,
    /// From the leader: who gets what.
    pub assignments: Vec<(MemberId, Bytes)>,
}

/// Answer to SyncGroup.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SyncResponse {
    /// What went wrong, if anything.
    pub error: ErrorCode,
    /// The protocol type.
    pub protocol_type: Option<Str>,
    /// The chosen protocol.
    pub protocol: Option<Str>,
    /// What this member owns.
    pub assignment: Bytes,
}

/// Heartbeat.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeartbeatRequest {
    /// The group.
    pub group: GroupId,
    /// The member.
    pub member: MemberId,
    /// Its static name.
    pub instance: Option<InstanceId>,
    /// Its generation.
    pub generation: Option<Generation>,
}

/// LeaveGroup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeaveRequest {
    /// The group.
    pub group: GroupId,
    /// Who leaves.
    pub members: Vec<LeavingMember>,
}

/// One member that leaves: itself by its id, or removed by an operator by its static name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeavingMember {
    /// Its id; absent when an operator removes a static member.
    pub member: Option<MemberId>,
    /// Its static name.
    pub instance: Option<InstanceId>,
}

/// Answer to LeaveGroup.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LeaveResponse {
    /// What went wrong with the whole request.
    pub error: ErrorCode,
    /// Per member, in the order of the request.
    pub members: Vec<(LeavingMember, ErrorCode)>,
}

/// OffsetCommit. Topics and partitions are known to exist.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CommitOffsetsRequest {
    /// The group.
    pub group: GroupId,
    /// The member; absent from outside.
    pub member: Option<MemberId>,
    /// Its static name.
    pub instance: Option<InstanceId>,
    /// Its generation; absent from outside.
    pub generation: Option<Generation>,
    /// Keep the offsets this long, instead of the group's retention (versions 2 to 4).
    pub retention: Option<Duration>,
    /// Whether an unknown group is answered GROUP_ID_NOT_FOUND (version 9 and later) or ILLEGAL_GENERATION.
    pub knows_group_not_found: bool,
    /// What to commit.
    pub topics: Vec<CommitTopic>,
}

/// Offsets to commit in one topic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CommitTopic {
    /// Its name.
    pub topic: TopicName,
    /// Its identity now: the offset does not outlive it.
    pub topic_id: Option<TopicId>,
    /// Its partitions.
    pub partitions: Vec<CommitPartition>,
}

/// An offset to commit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CommitPartition {
    /// The partition.
    pub partition: PartitionIndex,
    /// The next offset to read.
    pub offset: Offset,
    /// Leader epoch of the last record read.
    pub leader_epoch: Option<LeaderEpoch>,
    /// What the client wants kept with it.
    pub metadata: Str,
}

/// Errors per partition of one topic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TopicErrors {
    /// The topic.
    pub topic: TopicName,
    /// Per partition, in the order of the request.
    pub partitions: Vec<(PartitionIndex, ErrorCode)>,
}

/// OffsetFetch of one group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FetchOffsetsRequest {
    /// The group.
    pub group: GroupId,
    /// Which; `None` for all the group has.
    pub topics: Option<Vec<FetchTopic>>,
}

/// Partitions of one topic to fetch offsets of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FetchTopic {
    /// Its name.
    pub topic: TopicName,
    /// Its identity now; an offset committed for a predecessor of the same name is not returned (E58).
    pub topic_id: Option<TopicId>,
    /// Its partitions.
    pub partitions: Vec<PartitionIndex>,
}

/// Committed offsets of one topic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TopicOffsets {
    /// The topic.
    pub topic: TopicName,
    /// Its partitions; no offset: none committed.
    pub partitions: Vec<(PartitionIndex, Option<GroupOffset>)>,
}

/// The committed offset of a group in a partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupOffset {
    /// The next offset to read.
    pub offset: Offset,
    /// Leader epoch of the last record read.
    pub leader_epoch: Option<LeaderEpoch>,
    /// What the client wanted kept with it.
    pub metadata: Str,
    /// When it was committed.
    pub commit_timestamp: Timestamp,
    /// When it expires whatever the group's retention says (commits of versions 2 to 4).
    pub expire_timestamp: Option<Timestamp>,
    /// The topic's identity, if known when it was committed.
    pub topic_id: Option<TopicId>,
}

/// OffsetDelete.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeleteOffsetsRequest {
    /// The group.
    pub group: GroupId,
    /// Which offsets.
    pub topics: Vec<(TopicName, Vec<PartitionIndex>)>,
}

/// Filters of ListGroups; empty sets let everything through.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ListRequest {
    /// State names, in any case of letters. A name that is no state lets nothing through.
    pub states: BTreeSet<String>,
    /// Type names, in any case of letters.
    pub types: BTreeSet<String>,
}

/// A group in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListedGroup {
    /// The group.
    pub group: GroupId,
    /// Its protocol type; empty for a group that only stores offsets.
    pub protocol_type: Str,
    /// Its state.
    pub state: GroupState,
}

/// How a group stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SurveyedGroup {
    /// The group.
    pub group: GroupId,
    /// Its state.
    pub state: GroupState,
    /// How many members it has.
    pub members_count: usize,
    /// Its committed offsets.
    pub offsets: Vec<SurveyedOffset>,
}

/// How far a group has come in a partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SurveyedOffset {
    /// The topic.
    pub topic: TopicName,
    /// The topic's identity, if known when the offset was committed.
    pub topic_id: Option<TopicId>,
    /// The partition.
    pub partition: PartitionIndex,
    /// The next offset to read.
    pub offset: Offset,
}

/// A group in detail.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupDescription {
    /// Its state.
    pub state: GroupState,
    /// Its protocol type; empty for a group that only stores offsets.
    pub protocol_type: Str,
    /// Its protocol; empty unless stable.
    pub protocol: Str,
    /// Its members.
    pub members: Vec<MemberDescription>,
}

/// A member in detail.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemberDescription {
    /// The member.
    pub member: MemberId,
    /// Its static name.
    pub instance: Option<InstanceId>,
    /// Client id of the connection it joined by.
    pub client_id: Str,
    /// Host it joined from.
    pub client_host: Str,
    /// Its metadata for the chosen protocol; empty unless the group is stable.
    pub metadata: Bytes,
    /// What it owns.
    pub assignment: Bytes,
}
