//! What one replica of a partition decides: a [`Leader`] which records are committed and who is in sync, a [`Follower`] what
//! to ask for and what to give up. They know each other only by [`Question`] and [`Answer`].

mod exchange;
mod follower;
mod leader;
mod lineage;

pub use exchange::{Answer, Question};
pub use follower::{
    Effect as FollowerEffect, Event as FollowerEvent, Follower, FollowerStart, RETRY, RETRY_MAX,
    Term,
};
pub use leader::{
    BACK_WITHIN, CommitRule, EARLY_MAX, EARLY_MIN, Effect, Event, FollowerEnds, Leader,
    LeaderStart, Limits, LocalEnds, MIN_ISR_DEFAULT, PROPOSE_AGAIN, Peer, Proposal, ProposalAnswer,
    Registration,
};
pub use lineage::{Lineage, Position, Run};

#[cfg(test)]
mod tests;
