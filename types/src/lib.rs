//! Nouns and primitive encodings of Foretold.
//!
//! Every id, offset and epoch is a newtype, so that two of them cannot be exchanged by accident. Sentinels such as `-1`
//! live in `wire` alone: here absence is an `Option`. This crate knows nothing of the others.

pub mod encoding;
mod error_code;
mod ids;
pub mod mutant;
mod tally;
mod time;

pub use encoding::Str;
pub use error_code::ErrorCode;
pub use ids::{
    BrokerEpoch, BrokerId, ClusterId, CorrelationId, DirectoryId, Generation, GroupId, LeaderEpoch,
    LogId, MemberId, NodeId, Offset, ParseUuidError, PartitionEpoch, PartitionIndex, ProducerEpoch,
    ProducerId, QuorumEpoch, Sequence, TopicId, TopicName, TopicPartition, TransactionalId, Uuid,
};
pub use tally::{Counter, DURATION_BOUNDS, Durations, Histogram};
pub use time::{Instant, Timestamp};
