//! What one replica of a partition decides. Only leaders so far: a single node follows nobody.

mod leader;

pub use leader::{
    CommitRule, Effect, Event, FollowerEnds, Leader, LeaderStart, LocalEnds, MIN_ISR_DEFAULT,
};
