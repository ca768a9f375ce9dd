//! Stored records: what the internal logs hold, in Kafka's own formats.
//!
//! Offsets and groups, transactions, share state and cluster metadata are records in ordinary logs. Their keys and values
//! are Kafka's byte by byte, so that Kafka's tools read our logs and ours read Kafka's. Generated from Kafka's
//! schemas (`cargo xtask gen`); only the framing is written by hand ([`frame`]).
//!
//! | log | key | value |
//! |---|---|---|
//! | `__consumer_offsets`, `__transaction_state`, `__share_group_state` | record type i16, key | version i16, value; none: deleted |
//! | `__cluster_metadata` | none | frame version, record key, version (unsigned varints), record |
//! | control records | version i16, type i16 | version i16 inside the record |

pub mod frame;
#[allow(missing_docs, reason = "fields are named and explained by Kafka")]
#[allow(clippy::field_reassign_with_default, reason = "the same shape for every structure")]
mod generated;

pub use generated::*;
