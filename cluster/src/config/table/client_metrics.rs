//! Keys of subscriptions to client metrics (KIP-714).

use super::super::key::{ConfigKey, Kind, Range, Unit};
use super::key;

/// Every key, sorted by name. Two lines each: what it may be, and what it does.
#[rustfmt::skip]
pub static CLIENT_METRICS: &[ConfigKey] = &[
    key("interval.ms", Kind::Int, Some("300000")).range(Range::Between(100, 3_600_000)).unit(Unit::Millis).live()
        .help("How often clients push."),
    key("match", Kind::List, Some("")).live()
        .help("Which clients: LABEL=PATTERN for each label that must match, of client_instance_id, client_id, client_software_name, client_software_version, client_source_address and client_source_port; all if empty."),
    key("metrics", Kind::List, Some("")).live()
        .help("Which metrics, by beginnings of their names; * is all."),
];
