//! The metadata quorum: who decides for the cluster, and which decisions stand. SPEC.md section 12.
//!
//! Raft, with the log pulled by its followers (KIP-595), pre-vote (KIP-996), voters that are named by node and directory
//! and change one at a time (KIP-853). One [`Quorum`] per node; `broker` does for it what its effects ask for: stores the
//! ballot, writes the log, sends, and arms timers. A room of its own because consensus has to be small enough to be
//! searched exhaustively: `cargo sim explore` runs this very `step`.
//!
//! ```text
//!  Unattached --election time-out--> Prospective --majority would--> Candidate --majority--> Leader
//!      ^  ^--------- lost, or another epoch ---------|--------------------'                     |
//!      |                                                                                        |
//!      '---- Follower <--- any message that names the leader of its epoch       resigns, is deposed
//! ```
//!
//! Nothing here reads a clock: a timer is an effect that arms it and an event when it has run out, so that every order of
//! events can be tried.

mod message;
mod node;
mod role;
mod shape;
mod voters;

pub use message::{Answer, Begin, End, Fetch, Records, Refusal, Reply, Request, Span, Vote};
pub use node::Quorum;
pub use role::Role;
pub use shape::{Look, Position, Shape};
pub use voters::{Endpoint, ReplicaKey, Voter, VoterHistory, Voters};

use serde::{Deserialize, Serialize};
use types::{NodeId, Offset, QuorumEpoch};

/// What a node may never forget: stored durably before anything that depends on it leaves the node (I37, E32).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Ballot {
    /// The newest epoch it has been in.
    pub epoch: QuorumEpoch,
    /// Whom it voted for in that epoch.
    pub voted: Option<ReplicaKey>,
}

/// Which question a reply answers; chosen by who passes the question in.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Ticket(pub u64);

/// What time can do. A timer that is armed again begins anew; one that its node does not heed any more may run out unheard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Timer {
    /// `controller.quorum.election.timeout.ms`, and up to as much again by chance.
    Election,
    /// `controller.quorum.fetch.timeout.ms`.
    Fetch,
    /// One and a half of that, and not less than stalled devices take: a leader that no majority fetches from resigns.
    CheckQuorum,
    /// Half of that: a leader tells voters that do not fetch of its epoch.
    Announce,
    /// `controller.quorum.retry.backoff.ms`.
    Retry,
    /// The same, for an observer without a leader.
    Seek,
}

/// What can happen to a node, in the order of a record's life.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Event {
    /// It begins; once, before everything else.
    Start,
    /// A timer has run out.
    Timeout(Timer),
    /// Another node, or an operator, asks.
    Asked(Ticket, Request),
    /// What it asked another node was answered.
    Answered {
        /// Who answers.
        from: NodeId,
        /// What was asked.
        asked: Request,
        /// The answer.
        reply: Reply,
    },
    /// What it asked another node was not answered: no connection, or no time.
    Unanswered {
        /// Who was asked.
        to: NodeId,
        /// What.
        asked: Request,
    },
    /// Somebody who need not vote says who leads which epoch. Whoever knows a leader, or a later epoch, passes it over.
    Told(NodeId, QuorumEpoch),
    /// The leader's controller has decided so many records, which its room holds. A node that does not lead any more takes
    /// none: no [`Effect::AppendDecided`] follows.
    Decided(u32),
    /// The log is synced up to here, as it is now.
    Synced(Offset),
    /// A piece of a snapshot was fetched: the leader is there.
    Loading,
    /// The snapshot cannot be had.
    NotLoaded,
    /// A snapshot was fetched and is durable: where it ends, and who voted there.
    Loaded(Position, Voters),
    /// A snapshot of its own is durable: the log begins here now.
    Trimmed(Offset),
    /// It is to stop: a leader lets go of its epoch.
    Resign,
}

/// What a node wants done, in this order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Effect {
    /// Store durably, before anything that follows.
    Store(Ballot),
    /// Cut the log here, before anything that follows.
    Truncate(Offset),
    /// Empty the log: it begins at this place now, where the snapshot that was loaded ends.
    Restart(Position),
    /// Write the batches of the answer that was passed in.
    AppendFetched,
    /// Write the records that were decided, as one batch at the log's end, in the present epoch.
    AppendDecided,
    /// Write one control record at the log's end, in the present epoch.
    AppendControl(Control),
    /// Arm a timer.
    Arm(Timer),
    /// Ask another node.
    Send(NodeId, Request),
    /// Answer who asked. [`Answer::Records`] comes without records: they are those of the log as it is now, from the offset that
    /// was asked for. Who would rather wait for news drops the answer, and passes the question in again when there is some, or
    /// when the asker has waited long enough: an answer says what is so when it is given, and may not be kept (I38).
    Reply(Ticket, Reply),
    /// Fetch that snapshot from the leader, then say [`Event::Loaded`].
    FetchSnapshot(NodeId, Position),
    /// Everything below is committed.
    HighWatermark(Offset),
    /// Stop: the leader's log contradicts what this node knows to be committed. Carries the reason.
    Halt(String),
}

/// Records that the quorum writes for itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Control {
    /// The first record of an epoch.
    LeaderChange(NodeId),
    /// The voters from here on.
    Voters(Voters),
}

#[cfg(test)]
mod tests;
