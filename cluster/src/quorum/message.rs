//! What nodes of the quorum say to each other. `broker` puts it into Kafka's messages (Vote, BeginQuorumEpoch,
//! EndQuorumEpoch, Fetch, FetchSnapshot, AddRaftVoter, RemoveRaftVoter, UpdateRaftVoter).

use serde::{Deserialize, Serialize};
use types::{DirectoryId, NodeId, Offset, QuorumEpoch};

use super::shape::Position;
use super::voters::{Endpoint, ReplicaKey, Voters};

/// A question.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Request {
    /// A candidate asks for a vote, or whether it would get one.
    Vote(Vote),
    /// A leader says that its epoch has begun.
    Begin(Begin),
    /// A leader says that its epoch is over.
    End(End),
    /// A replica asks the leader for what follows the end of its log; that end is synced (I39).
    Fetch(Fetch),
    /// A replica asks the leader for a piece of a snapshot. The leader hears it by that, too; the room sends the piece.
    Snapshot(Fetch),
    /// A replica is to vote from now on.
    AddVoter(ReplicaKey, Vec<Endpoint>),
    /// A replica is to vote no more.
    RemoveVoter(ReplicaKey),
    /// A voter listens elsewhere from now on.
    UpdateVoter(ReplicaKey, Vec<Endpoint>),
}

impl Request {
    /// The epoch that its sender is in, if it says so.
    pub fn epoch(&self) -> Option<QuorumEpoch> {
        match self {
            Request::Vote(vote) => Some(vote.epoch),
            Request::Begin(begin) => Some(begin.epoch),
            Request::End(end) => Some(end.epoch),
            Request::Fetch(fetch) | Request::Snapshot(fetch) => Some(fetch.epoch),
            Request::AddVoter(..) | Request::RemoveVoter(_) | Request::UpdateVoter(..) => None,
        }
    }
}

/// A candidate asks for a vote.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Vote {
    /// The epoch it stands for; of a pre-vote the one it is in (KIP-996).
    pub epoch: QuorumEpoch,
    /// Who asks.
    pub candidate: ReplicaKey,
    /// Who is asked.
    pub voter: NodeId,
    /// Its directory, if the candidate knows it.
    pub directory: Option<DirectoryId>,
    /// End of the candidate's log.
    pub last: Position,
    /// Whether it only wants to know.
    pub is_pre: bool,
}

/// An epoch has begun.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Begin {
    /// The epoch.
    pub epoch: QuorumEpoch,
    /// Its leader.
    pub leader: NodeId,
}

/// An epoch is over.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct End {
    /// The epoch.
    pub epoch: QuorumEpoch,
    /// Who led it.
    pub leader: NodeId,
    /// The other voters, those whose logs are longest first: the first one stands at once.
    pub successors: Vec<NodeId>,
}

/// A replica wants more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Fetch {
    /// The epoch it is in.
    pub epoch: QuorumEpoch,
    /// Who asks.
    pub replica: ReplicaKey,
    /// The synced end of its log.
    pub last: Position,
}

/// An answer. Each says which epoch its sender is in, and who leads it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Reply {
    /// The epoch.
    pub epoch: QuorumEpoch,
    /// Its leader, if the sender knows it.
    pub leader: Option<NodeId>,
    /// The answer itself.
    pub body: Answer,
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// To Vote: whether it is granted.
    Vote(bool),
    /// Begin, End, Snapshot, a change of voters: done. A change is committed.
    Done,
    /// To Fetch: what follows.
    Records(Records),
    /// To Fetch: the logs part at this place at the latest.
    Diverging(Position),
    /// To Fetch: what follows is in this snapshot.
    Snapshot(Position),
    /// Nothing was done.
    Refused(Refusal),
}

/// Records that follow the end of a replica's log.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Records {
    /// End of what is committed.
    pub high_watermark: Offset,
    /// The batches, in order.
    pub spans: Vec<Span>,
}

/// What the quorum needs to know of a batch.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Span {
    /// Its epoch.
    pub epoch: QuorumEpoch,
    /// The offset after its last record.
    pub end: Offset,
    /// The set of voters that its one record holds.
    pub voters: Option<Voters>,
}

/// Why nothing was done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Refusal {
    /// The asker is in an epoch that is over.
    Fenced,
    /// The answerer does not lead.
    NotLeader,
    /// Another node is meant, or this one with another directory.
    WrongVoter,
    /// The message contradicts what the answerer knows of the epoch: two leaders, or one that is the answerer itself.
    Inconsistent,
    /// The leader has not committed anything yet, or another change of voters is under way: ask again.
    Busy,
    /// A voter that the configuration names was never heard, so nobody knows its directory: ask again when it was.
    Unnamed,
    /// The replica that is to vote lags: ask again when it has caught up.
    Lags,
    /// It votes already, or another replica of its node does.
    DuplicateVoter,
    /// It does not vote.
    VoterNotFound,
    /// Nobody would be left.
    LastVoter,
}
