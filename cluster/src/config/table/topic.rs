//! Keys of topics.

use super::super::key::{ConfigKey, Kind, Range, Unit};
use super::{FAST_LZ4, INTERNALS, NO_COMPACTION, NO_TIERING, RESERVED, key};

/// Every key, sorted by name. Two lines each: what it may be, and what it does.
#[rustfmt::skip]
pub static TOPIC: &[ConfigKey] = &[
    key("cleanup.policy", Kind::List, Some("delete")).range(Range::OneOf(&["compact", "delete"])).live().from(&["log.cleanup.policy"])
        .help("What happens to old segments: delete. Compaction is not there yet."),
    key("compression.gzip.level", Kind::Int, Some("-1")).range(Range::BetweenOr(1, 9, -1)).live().from(&["compression.gzip.level"])
        .help("Effort of gzip when compression.type is gzip."),
    key("compression.lz4.level", Kind::Int, Some("9")).range(Range::Between(1, 17)).live().meaningless(FAST_LZ4).from(&["compression.lz4.level"])
        .help("Effort of LZ4 when compression.type is lz4."),
    key("compression.type", Kind::Text, Some("producer")).range(Range::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"])).live().from(&["compression.type"])
        .help("Codec that batches are stored in; producer keeps what the producer chose."),
    key("compression.zstd.level", Kind::Int, Some("3")).range(Range::Between(-131_072, 22)).live().from(&["compression.zstd.level"])
        .help("Effort of Zstandard when compression.type is zstd."),
    key("delete.retention.ms", Kind::Long, Some("86400000")).at_least(0).unit(Unit::Millis).live().meaningless(NO_COMPACTION).from(&["log.cleaner.delete.retention.ms"])
        .help("How long a compacted topic keeps tombstones."),
    key("durability", Kind::Text, Some("sync")).range(Range::OneOf(&["sync", "page-cache"])).live().from(&["log.durability"])
        .help("When a write counts as committed: synced to disk (sync), or written to the page cache as Kafka does (page-cache)."),
    key("errors.deadletterqueue.group.enable", Kind::Bool, Some("false")).live().missing()
        .help("Whether share groups may use the topic as dead letter topic."),
    key("file.delete.delay.ms", Kind::Long, Some("60000")).at_least(0).unit(Unit::Millis).live().from(&["log.segment.delete.delay.ms"])
        .help("Delay before the files of a deleted segment leave the disk."),
    key("flush.messages", Kind::Long, Some("9223372036854775807")).at_least(1).live().from(&["log.flush.interval.messages"])
        .help("Records after which the log is synced, where durability is page-cache."),
    key("flush.ms", Kind::Long, Some("9223372036854775807")).at_least(0).unit(Unit::Millis).live().from(&["log.flush.interval.ms", "log.flush.scheduler.interval.ms"])
        .help("Time after which the log is synced, where durability is page-cache."),
    key("follower.replication.throttled.replicas", Kind::List, Some("")).range(Range::Replicas).live()
        .help("Followers that catch up no faster than follower.replication.throttled.rate: PARTITION:BROKER,..., or * for all."),
    key("index.interval.bytes", Kind::Int, Some("4096")).at_least(0).unit(Unit::Bytes).live().from(&["log.index.interval.bytes"])
        .help("Bytes of the log between two entries of its index."),
    key("internal.segment.bytes", Kind::Int, None).unit(Unit::Bytes).live().internal()
        .help("Size of a segment without the lower bound of segment.bytes, for tests."),
    key("leader.replication.throttled.replicas", Kind::List, Some("")).range(Range::Replicas).live()
        .help("Leaders that let others catch up no faster than leader.replication.throttled.rate: PARTITION:BROKER,..., or * for all."),
    key("local.retention.bytes", Kind::Long, Some("-2")).at_least(-2).unit(Unit::Bytes).live().meaningless(NO_TIERING).from(&["log.local.retention.bytes"])
        .help("Bytes of a tiered partition that stay on local disk."),
    key("local.retention.ms", Kind::Long, Some("-2")).at_least(-2).unit(Unit::Millis).live().meaningless(NO_TIERING).from(&["log.local.retention.ms"])
        .help("Time for which a tiered partition stays on local disk."),
    key("max.compaction.lag.ms", Kind::Long, Some("9223372036854775807")).at_least(1).unit(Unit::Millis).live().meaningless(NO_COMPACTION).from(&["log.cleaner.max.compaction.lag.ms"])
        .help("How long a record of a compacted topic may stay uncompacted."),
    key("max.decompressed.message.bytes", Kind::Int, Some("2147483639")).range(Range::Between(1, 2_147_483_639)).unit(Unit::Bytes).live().from(&["max.decompressed.message.bytes"])
        .help("Largest expansion of a compressed batch that the broker looks into, up to 256 MiB."),
    key("max.message.bytes", Kind::Int, Some("1048588")).at_least(0).unit(Unit::Bytes).live().from(&["message.max.bytes"])
        .help("Largest batch that the topic accepts."),
    key("message.downconversion.enable", Kind::Bool, Some("true")).live().meaningless(INTERNALS).internal()
        .help("Whether old consumers get converted batches; no consumer is that old."),
    key("message.timestamp.after.max.ms", Kind::Long, Some("3600000")).at_least(0).unit(Unit::Millis).live().from(&["log.message.timestamp.after.max.ms"])
        .help("How far in the future a record's timestamp may lie."),
    key("message.timestamp.before.max.ms", Kind::Long, Some("9223372036854775807")).at_least(0).unit(Unit::Millis).live().from(&["log.message.timestamp.before.max.ms"])
        .help("How far in the past a record's timestamp may lie."),
    key("message.timestamp.type", Kind::Text, Some("CreateTime")).range(Range::OneOf(&["CreateTime", "LogAppendTime"])).live().from(&["log.message.timestamp.type"])
        .help("Who dates records: the producer (CreateTime) or the broker (LogAppendTime)."),
    key("min.cleanable.dirty.ratio", Kind::Double, Some("0.5")).range(Range::Fraction(0.0, 1.0)).live().meaningless(NO_COMPACTION).from(&["log.cleaner.min.cleanable.ratio"])
        .help("Share of uncompacted bytes from which the log is compacted."),
    key("min.compaction.lag.ms", Kind::Long, Some("0")).at_least(0).unit(Unit::Millis).live().meaningless(NO_COMPACTION).from(&["log.cleaner.min.compaction.lag.ms"])
        .help("How long a record of a compacted topic stays uncompacted at least."),
    key("min.insync.replicas", Kind::Int, Some("1")).at_least(1).live().from(&["min.insync.replicas"])
        .help("Replicas that must be in sync for a write with acks=all."),
    key("preallocate", Kind::Bool, Some("false")).live().meaningless(RESERVED).from(&["log.preallocate"])
        .help("Whether segments are allocated in full when they are created."),
    key("record.validation", Kind::Text, Some("standard")).range(Range::OneOf(&["standard", "full"])).live().from(&["log.record.validation"])
        .help("How deep compressed batches are checked: standard takes them by their checksum, full expands them and walks the records."),
    key("remote.copy.lag.bytes", Kind::Long, Some("-1")).at_least(-1).unit(Unit::Bytes).live().meaningless(NO_TIERING).from(&["log.remote.copy.lag.bytes"])
        .help("Size-based delay before a segment is copied to remote storage."),
    key("remote.copy.lag.ms", Kind::Long, Some("0")).at_least(-1).unit(Unit::Millis).live().meaningless(NO_TIERING).from(&["log.remote.copy.lag.ms"])
        .help("Time-based delay before a segment is copied to remote storage."),
    key("remote.log.copy.disable", Kind::Bool, Some("false")).live().missing()
        .help("Whether copying to remote storage stops."),
    key("remote.log.delete.on.disable", Kind::Bool, Some("false")).live().missing()
        .help("Whether the remote copy goes when tiering is switched off."),
    key("remote.storage.enable", Kind::Bool, Some("false")).live().refused()
        .help("Whether old segments move to remote storage."),
    key("retention.bytes", Kind::Long, Some("-1")).unit(Unit::Bytes).live().from(&["log.retention.bytes"])
        .help("Bytes that a partition keeps; -1 is no limit."),
    key("retention.ms", Kind::Long, Some("604800000")).at_least(-1).unit(Unit::Millis).live().from(&["log.retention.ms", "log.retention.minutes", "log.retention.hours"])
        .help("Time that records are kept; -1 is for ever."),
    key("segment.bytes", Kind::Int, Some("1073741824")).at_least(1048576).unit(Unit::Bytes).live().from(&["log.segment.bytes"])
        .help("Size of a segment."),
    key("segment.index.bytes", Kind::Int, Some("10485760")).at_least(4).unit(Unit::Bytes).live().from(&["log.index.size.max.bytes"])
        .help("Largest size of a segment's offset index."),
    key("segment.jitter.ms", Kind::Long, Some("0")).at_least(0).unit(Unit::Millis).live().from(&["log.roll.jitter.ms", "log.roll.jitter.hours"])
        .help("Random part of segment.ms, so that segments do not all roll at once."),
    key("segment.ms", Kind::Long, Some("604800000")).at_least(1).unit(Unit::Millis).live().from(&["log.roll.ms", "log.roll.hours"])
        .help("Time after which a new segment starts even if it is not full."),
    key("unclean.leader.election.enable", Kind::Bool, Some("false")).live().from(&["unclean.leader.election.enable"])
        .help("Whether a replica that may lack committed records may lead."),
];
