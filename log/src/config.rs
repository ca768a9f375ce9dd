//! Settings of a log directory and of one log.
//!
//! Values arrive parsed and validated; names, defaults and ranges live in the configuration table of `cluster`. The
//! defaults here are Kafka's, so that tests and the metadata log need not repeat them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use types::{LeaderEpoch, PartitionIndex, TopicId, TopicName, TopicPartition};

/// When an append counts as kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// After the sync that covers it: survives a power cut.
    #[default]
    Sync,
    /// Once written to the page cache, as in Kafka: survives a kill of the process.
    PageCache,
}

/// Settings of one log. They may change while it lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogConfig {
    /// When an append counts as kept.
    pub durability: Durability,
    /// A segment rolls before it grows beyond this (`segment.bytes`).
    pub segment_bytes: u32,
    /// A segment rolls when its first append is older, by the broker's clock (`segment.ms`).
    pub segment_ms: Duration,
    /// At most this much is taken off `segment_ms`, differently per segment, so that logs do not roll together.
    pub segment_jitter: Duration,
    /// Bytes of batches between two index entries (`index.interval.bytes`).
    pub index_interval_bytes: u32,
    /// A segment rolls before one of its index files outgrows this (`segment.index.bytes`).
    pub index_bytes: u32,
    /// Segments older than this are deleted; `None` keeps them (`retention.ms`).
    pub retention_ms: Option<Duration>,
    /// Oldest segments are deleted while the rest holds at least this much; `None` keeps them (`retention.bytes`).
    pub retention_bytes: Option<u64>,
    /// How long files stay, renamed, after their deletion (`file.delete.delay.ms`).
    pub delete_delay: Duration,
    /// A page-cache log is synced after so many records; `Some(1)` makes every append wait for its sync.
    pub flush_messages: Option<u64>,
    /// A page-cache log is synced when its oldest unsynced append is older than this.
    pub flush_ms: Option<Duration>,
    /// State of a producer without a batch for so long, by broker time, is dropped (`producer.id.expiration.ms`).
    pub producer_id_expiration: Duration,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            durability: Durability::Sync,
            segment_bytes: 1 << 30,
            segment_ms: Duration::from_secs(7 * 24 * 3600),
            segment_jitter: Duration::ZERO,
            index_interval_bytes: 4096,
            index_bytes: 10 << 20,
            retention_ms: Some(Duration::from_secs(7 * 24 * 3600)),
            retention_bytes: None,
            delete_delay: Duration::from_secs(60),
            flush_messages: None,
            flush_ms: None,
            producer_id_expiration: Duration::from_secs(24 * 3600),
        }
    }
}

impl LogConfig {
    /// The durability appends really get: a flush on every message is the `sync` promise under Kafka's name.
    pub fn durability_effective(&self) -> Durability {
        match self.flush_messages {
            Some(0 | 1) => Durability::Sync,
            _ => self.durability,
        }
    }
}

/// Which log to create.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogSpec {
    /// Name of the topic; with the partition it names the directory.
    pub topic: TopicName,
    /// Identity of the topic.
    pub topic_id: TopicId,
    /// Partition within the topic.
    pub partition: PartitionIndex,
    /// Settings.
    pub config: LogConfig,
}

impl LogSpec {
    /// The partition by name.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition: self.partition }
    }
}

/// Settings of a log directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogDirOptions {
    /// Size of one journal file.
    pub journal_file_bytes: u64,
    /// The journal holds at most this much; recovery time follows it.
    pub journal_bytes_max: u64,
    /// Bytes of one commit group.
    pub group_bytes_max: usize,
    /// A sync that takes longer has failed (`disk.sync.timeout`).
    pub sync_timeout: Duration,
    /// Page-cache logs are synced in the background once so many bytes were written; bounds what a restart walks.
    pub paged_bytes_max: usize,
    /// Clients' appends are refused while so many bytes wait to be written (E12).
    pub queued_bytes_max: usize,
    /// Clients' appends are refused while the file system has less than this left (E11).
    pub space_reserve: u64,
    /// Reserved beside it for what must go on on a full disk: coordinators, changes of logs, checkpoints.
    pub ballast_bytes: u64,
    /// Bytes per second that the scrubber reads; `None`: it does not.
    pub scrub_rate: Option<u64>,
    /// A round of it begins so long after the last one began.
    pub scrub_interval: Duration,
    /// A directory without appends for so long is marked idle in its journal.
    pub idle_mark: Duration,
    /// The newest leader epoch that was given out for each partition: no batch of it has a newer one.
    pub newest_epochs: Arc<BTreeMap<(TopicId, PartitionIndex), LeaderEpoch>>,
    /// Settings of logs found on disk until [`crate::Log::set_config`] tells their own.
    pub log_config: LogConfig,
}

impl Default for LogDirOptions {
    fn default() -> LogDirOptions {
        LogDirOptions {
            journal_file_bytes: 16 << 20,
            journal_bytes_max: 256 << 20,
            group_bytes_max: 4 << 20,
            sync_timeout: Duration::from_secs(60),
            paged_bytes_max: 64 << 20,
            queued_bytes_max: 64 << 20,
            space_reserve: 64 << 20,
            ballast_bytes: 16 << 20,
            scrub_rate: None,
            scrub_interval: Duration::from_secs(7 * 24 * 3600),
            idle_mark: Duration::from_millis(50),
            newest_epochs: Arc::default(),
            log_config: LogConfig::default(),
        }
    }
}
