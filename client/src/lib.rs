//! The client: producer, consumer and admin over an environment.
//!
//! Generic over [`env::Env`], so that the command line runs it on real sockets and the simulator on a false network. It
//! assumes the worst of that network: a connection may stall, break, or answer after its question was asked again on
//! another one. Every wait has a deadline and every queue a bound; dropping a handle ends the tasks behind it.
//!
//! ```text
//! Producer  Consumer  Admin      what a program asks for
//!        \     |     /
//!          Client               which broker: metadata, leaders, coordinators, retries
//!            |
//!        Connection             one ordered stream of requests to one broker: versions, correlation, time-outs
//! ```
//!
//! An operation ends in one of three ways, never two of them mixed up: it happened, it did not happen, or nobody can
//! tell ([`Certainty`]). The last one is what retries, checkers and users must treat with care.

pub mod admin;
pub mod assignor;
mod cluster;
mod connection;
mod consumer;
mod error;
mod metadata;
mod offsets;
mod partitioner;
mod producer;

pub use admin::Admin;
pub use assignor::AssignorKind;
pub use cluster::{Client, ClientConfig, Lane, Target};
pub use connection::{Connection, ConnectionSettings, Offered, Pending, Versions};
pub use consumer::{
    Consumer, ConsumerConfig, ConsumerRecord, Event, Polled, ResetPolicy, Subscription,
    decode_assignment, encode_assignment,
};
pub use error::{Certainty, ClientError};
pub use metadata::{Broker, Metadata, Partition, Topic};
pub use offsets::{FoundOffset, GroupOffset, Isolation, OffsetSpec, PerPartition};
pub use producer::{
    Acks, Compression, Delivery, DeliveryReport, Producer, ProducerConfig, ProducerRecord,
};
