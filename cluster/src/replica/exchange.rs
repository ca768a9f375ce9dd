//! What leader and follower say to each other about one partition. One fetch carries the questions of many.

use serde::{Deserialize, Serialize};
use types::{ErrorCode, LeaderEpoch, Offset};

use super::lineage::{Position, Run};

/// What a follower asks, and tells of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Question {
    /// The term in which it follows.
    pub term: LeaderEpoch,
    /// The end of its log: what follows this is wanted.
    pub position: Position,
    /// Where its log begins.
    pub log_start: Offset,
    /// End of what it has synced.
    pub durable: Offset,
}

/// What the leader says to a question.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// The position is one of its log: the records that come along follow it, if there are any.
    Follows {
        /// End of what is committed.
        high_watermark: Offset,
        /// Where the leader's log begins.
        log_start: Offset,
        /// Whether clients may be told of that: the watermark has reached the term's start (I24).
        is_shown: bool,
    },
    /// The logs part: this is the most that they share of the last epoch that both may have.
    Parts(Run),
    /// The position lies outside of the leader's log, which begins here.
    OutOfRange {
        /// Where it begins.
        log_start: Offset,
    },
    /// It is not answered.
    Refused(ErrorCode),
}
