//! A topic's settings, told to its logs.

use cluster::config::{Durability, TopicSettings};
use log::LogConfig;
use std::time::Duration;
use types::mutant::{Mutant, planted};

/// The settings of a log of a topic with `topic`, on a broker whose producers' state expires after
/// `producer_id_expiration`.
pub(crate) fn log_config(topic: &TopicSettings, producer_id_expiration: Duration) -> LogConfig {
    if planted(Mutant::ConfigIgnored) {
        return LogConfig { producer_id_expiration, ..LogConfig::default() };
    }
    let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    // A compacted topic without `delete` keeps everything: until compaction exists it only grows.
    let deletes = topic.is_deleted;
    LogConfig {
        durability: match topic.durability {
            Durability::Sync => log::Durability::Sync,
            Durability::PageCache => log::Durability::PageCache,
        },
        segment_bytes: small(topic.segment_bytes),
        segment_ms: topic.segment_age,
        segment_jitter: topic.segment_jitter,
        index_interval_bytes: small(topic.index_interval_bytes),
        index_bytes: small(topic.segment_index_bytes),
        retention_ms: topic.retention.filter(|_| deletes),
        retention_bytes: topic.retention_bytes.filter(|_| deletes),
        delete_delay: topic.file_delete_delay,
        flush_messages: topic.flush_records,
        flush_ms: topic.flush_interval,
        producer_id_expiration,
    }
}
