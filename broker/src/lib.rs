//! The rooms of a broker: they own state and do the I/O that the decisions of `cluster` ask for.
//!
//! ```text
//!  connection ─┬─ handlers ─┬─ partition    one log and its high watermark; parked acks, fetch waiters
//!              │            ├─ metadata     one task: its seat in the quorum, changes in, image out
//!              │            ├─ replication  what leaders want of the controller, and their one timer
//!              │            └─ coordinator  groups, on partitions of __consumer_offsets
//!              └─ context, authorize        who asks, and whether they may
//!
//!  lifecycle: this broker's word to the active controller     controller: the way there over the network
//!  balance: what the active controller lets move by itself
//! ```
//!
//! Generic over `env::Env`: the same code runs on the real world (`server`) and on a false one (`sim`). A room is
//! entered by its door alone: a bounded message, or a method that takes the room's own short lock; one door call per
//! decision, no lock across an await. Every request carries a [`RequestContext`] and passes [`authorize`].

mod balance;
mod beginning;
mod config;
mod connection;
mod context;
mod controller;
pub mod coordinator;
mod directory;
mod error_map;
mod fetch_session;
pub mod handlers;
mod lifecycle;
mod log_ends;
mod membership;
pub mod metadata;
mod metrics;
pub mod partition;
mod peer;
mod replication;
mod retention;
mod shared;
mod snapshot;
mod start;
mod together;
mod vigil;
mod waiters;

pub use beginning::{Beginning, InitialVoter, format};
pub use config::{Audience, BrokerConfig, ListenerConfig, ListenerProtocol, QuorumVoter, Roles};
pub use context::{
    ConnectionId, Denied, ListenerName, Operation, Principal, QuotaHandle, RequestContext,
    Resource, authorize,
};
pub use directory::{DirectoryError, MetaProperties};
pub use error_map::{Refused, ToErrorCode, error_code};
pub use metadata::{FollowerInfo, QuorumInfo};
pub use metrics::TopicCounts;
pub use shared::{Failure, ListenerInfo, Shared, TopicView, View};
pub use snapshot::{
    ApiSnapshot, ClientSnapshot, Degraded, DirectorySnapshot, GroupProgress, GroupSnapshot,
    ListenerSnapshot, Observer, PartitionLog, PartitionSnapshot, Snapshot, TopicSnapshot,
};
pub use start::{Broker, StartError};
