//! Configuration: one table, and what its values resolve to.
//!
//! Every key that Kafka 4.4 knows stands in [`BROKER`], [`TOPIC`], [`GROUP`] or [`CLIENT_METRICS`], beside ours, with type, range, default,
//! whether it changes at run time, help, and what becomes of it here ([`Class`]): it works; it is meaningless here and
//! accepted with a notice; it is promised but missing, and refused where going on without it would break a promise. The
//! parser, the controller's validation and DescribeConfigs all read this table; nothing else knows a key's default.
//!
//! Values come in layers, the first that has one winning:
//!
//! ```text
//!  topic's own -> this broker's (dynamic) -> all brokers' (dynamic) -> server.properties -> the table's default
//!                 \________ under each synonym in turn: log.retention.ms, .minutes, .hours ________/
//! ```
//!
//! [`TopicSettings`] and [`BrokerSettings`] are the typed ends; everything else works with them.

mod broker;
mod client_metrics;
mod key;
mod layers;
mod table;
mod topic;
mod validate;

pub use broker::BrokerSettings;
pub use client_metrics::{ClientLabel, ClientMetricsSettings};
pub use key::{Class, ConfigError, ConfigKey, Kind, Range, Unit, Update, split_list};
pub use layers::{ConfigMap, Described, NodeConfigs, Source, Synonym};
pub use table::{BROKER, CLIENT_METRICS, GROUP, TOPIC, find, nearest};
pub use topic::{Durability, ReplicaList, TopicSettings};
pub use validate::{
    check_broker, check_client_metrics, check_group, check_internal_topic, check_static,
    check_topic,
};

#[cfg(test)]
mod tests;
