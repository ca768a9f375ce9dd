//! What a topic's keys resolve to.

use std::collections::BTreeSet;
use std::time::Duration;

use record::{Codec, Compression, ProduceRules, TimestampType, Validation};

use types::{BrokerId, PartitionIndex};

use super::key::{parse_integer, split_list};
use super::layers::{ConfigMap, NodeConfigs};
use super::table::{TOPIC, find};
use crate::replica::CommitRule;

/// Kafka's default allows 2 GiB per record, which it streams. We expand in memory, so no batch that must be looked into may
/// grow beyond this: 256 times a batch of the default size.
const EXPANDED_BYTES_MAX: usize = 256 << 20;

/// When a write counts as committed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Durability {
    /// Once a power cut cannot take it back.
    #[default]
    Sync,
    /// Once it is written to the page cache, as in Kafka.
    PageCache,
}

impl Durability {
    /// The rule by which a partition's watermark advances.
    pub fn commit_rule(self) -> CommitRule {
        match self {
            Durability::Sync => CommitRule::Durable,
            Durability::PageCache => CommitRule::Written,
        }
    }
}

/// A topic's configuration in force on one broker.
#[derive(Clone, PartialEq, Debug)]
pub struct TopicSettings {
    /// `durability`.
    pub durability: Durability,
    /// `retention.ms`; `None` is for ever.
    pub retention: Option<Duration>,
    /// `retention.bytes` of each partition; `None` is no limit.
    pub retention_bytes: Option<u64>,
    /// Whether `cleanup.policy` deletes old segments.
    pub is_deleted: bool,
    /// Whether `cleanup.policy` keeps the newest record per key. Internal topics only, and not carried out yet.
    pub is_compacted: bool,
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.ms`.
    pub segment_age: Duration,
    /// `segment.jitter.ms`.
    pub segment_jitter: Duration,
    /// `segment.index.bytes`.
    pub segment_index_bytes: u64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u64,
    /// `file.delete.delay.ms`.
    pub file_delete_delay: Duration,
    /// `flush.messages`; `None` is never.
    pub flush_records: Option<u64>,
    /// `flush.ms`; `None` is never.
    pub flush_interval: Option<Duration>,
    /// `max.message.bytes`.
    pub batch_bytes_max: usize,
    /// `max.decompressed.message.bytes`.
    pub expanded_bytes_max: usize,
    /// `compression.type` and its level; `None` keeps the producer's.
    pub codec: Option<Codec>,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`; `None` is any.
    pub timestamp_before_max: Option<Duration>,
    /// `message.timestamp.after.max.ms`; `None` is any.
    pub timestamp_after_max: Option<Duration>,
    /// `min.insync.replicas`.
    pub min_insync_replicas: usize,
    /// `record.validation`.
    pub validation: Validation,
    /// `leader.replication.throttled.replicas`.
    pub throttled_leaders: ReplicaList,
    /// `follower.replication.throttled.replicas`.
    pub throttled_followers: ReplicaList,
}

/// Replicas of a topic, as a list of a setting names them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReplicaList {
    /// All.
    All,
    /// These: each partition's, and the broker's that holds it.
    These(BTreeSet<(PartitionIndex, BrokerId)>),
}

impl ReplicaList {
    /// `PARTITION:BROKER,...`, or `*`. `None` if it is neither.
    pub fn parse(text: &str) -> Option<ReplicaList> {
        if text.trim() == "*" {
            return Some(ReplicaList::All);
        }
        let replica = |item: &str| {
            let (partition, broker) = item.split_once(':')?;
            let number = |text: &str| text.trim().parse().ok().filter(|id: &i32| *id >= 0);
            Some((PartitionIndex(number(partition)?), BrokerId(number(broker)?)))
        };
        split_list(text).map(replica).collect::<Option<_>>().map(ReplicaList::These)
    }

    /// Whether that replica is named.
    pub fn names(&self, partition: PartitionIndex, broker: BrokerId) -> bool {
        match self {
            ReplicaList::All => true,
            ReplicaList::These(replicas) => replicas.contains(&(partition, broker)),
        }
    }
}

impl TopicSettings {
    /// Settings of a topic with these values of its own, on a broker with these layers. A value that does not parse, which
    /// the controller never lets in, counts as the default.
    pub fn resolve(own: &ConfigMap, node: &NodeConfigs) -> TopicSettings {
        let lookup = Lookup { own, node };
        let segment_bytes = own
            .get("internal.segment.bytes")
            .and_then(|value| parse_integer(value.trim()))
            .unwrap_or_else(|| lookup.integer("segment.bytes"));
        let cleanup = lookup.text("cleanup.policy");
        let has_policy = |policy| split_list(&cleanup).any(|item| item == policy);
        TopicSettings {
            durability: match lookup.text("durability").as_str() {
                "page-cache" => Durability::PageCache,
                _ => Durability::Sync,
            },
            retention: lookup.duration_or_never("retention.ms"),
            retention_bytes: u64::try_from(lookup.integer("retention.bytes")).ok(),
            is_deleted: has_policy("delete"),
            is_compacted: has_policy("compact"),
            segment_bytes: segment_bytes.max(1) as u64,
            segment_age: lookup.duration("segment.ms"),
            segment_jitter: lookup.duration("segment.jitter.ms"),
            segment_index_bytes: lookup.integer("segment.index.bytes").max(4) as u64,
            index_interval_bytes: lookup.integer("index.interval.bytes").max(0) as u64,
            file_delete_delay: lookup.duration("file.delete.delay.ms"),
            flush_records: Some(lookup.integer("flush.messages"))
                .filter(|&records| records != i64::MAX)
                .map(|records| records.max(1) as u64),
            flush_interval: lookup.duration_or_never("flush.ms"),
            batch_bytes_max: lookup.integer("max.message.bytes").max(0) as usize,
            expanded_bytes_max: (lookup.integer("max.decompressed.message.bytes").max(0) as usize)
                .min(EXPANDED_BYTES_MAX),
            codec: lookup.codec(),
            timestamp_type: match lookup.text("message.timestamp.type").as_str() {
                "LogAppendTime" => TimestampType::AppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max: lookup.duration_or_never("message.timestamp.before.max.ms"),
            timestamp_after_max: lookup.duration_or_never("message.timestamp.after.max.ms"),
            min_insync_replicas: lookup.integer("min.insync.replicas").max(1) as usize,
            validation: match lookup.text("record.validation").as_str() {
                "full" => Validation::Full,
                _ => Validation::Standard,
            },
            throttled_leaders: lookup.replicas("leader.replication.throttled.replicas"),
            throttled_followers: lookup.replicas("follower.replication.throttled.replicas"),
        }
    }

    /// What a produced batch is checked against.
    pub fn produce_rules(&self) -> ProduceRules {
        ProduceRules {
            bytes_max: self.batch_bytes_max,
            expanded_bytes_max: self.expanded_bytes_max,
            timestamp_type: self.timestamp_type,
            timestamp_before_max: self.timestamp_before_max,
            timestamp_after_max: self.timestamp_after_max,
            keys_required: self.is_compacted,
            validation: self.validation,
            codec: self.codec,
        }
    }
}

impl Default for TopicSettings {
    fn default() -> TopicSettings {
        TopicSettings::resolve(&ConfigMap::new(), &NodeConfigs::default())
    }
}

struct Lookup<'a> {
    own: &'a ConfigMap,
    node: &'a NodeConfigs,
}

impl Lookup<'_> {
    fn replicas(&self, key: &str) -> ReplicaList {
        let nobody = ReplicaList::These(BTreeSet::new());
        ReplicaList::parse(&self.text(key)).unwrap_or(nobody)
    }

    fn text(&self, name: &str) -> String {
        let key = find(TOPIC, name).expect("settings name keys of the table");
        self.node.resolve(key, self.own).unwrap_or_default()
    }

    fn integer(&self, name: &str) -> i64 {
        let key = find(TOPIC, name).expect("settings name keys of the table");
        let default = || parse_integer(key.default.unwrap_or("0")).unwrap_or(0);
        parse_integer(&self.text(name)).unwrap_or_else(default)
    }

    fn duration(&self, name: &str) -> Duration {
        Duration::from_millis(self.integer(name).max(0) as u64)
    }

    /// Less than nothing and the largest number both mean "never".
    fn duration_or_never(&self, name: &str) -> Option<Duration> {
        let millis = self.integer(name);
        (0..i64::MAX).contains(&millis).then(|| Duration::from_millis(millis as u64))
    }

    fn codec(&self) -> Option<Codec> {
        let compression: Compression = self.text("compression.type").parse().ok()?;
        Some(match compression {
            Compression::None | Compression::Snappy => compression.into(),
            Compression::Gzip | Compression::Lz4 | Compression::Zstd => {
                let name = format!("compression.{compression}.level");
                Codec::with_level(compression, self.integer(&name) as i32)
            }
        })
    }
}
