//! Keys of `server.properties`, and of broker resources.

use super::super::broker::RACK_AWARE;
use super::super::key::{ConfigKey, Kind, Range, Unit};
use super::{
    ALWAYS, FAST_LZ4, INTERNALS, JOURNAL, KERNEL, LISTENERS, NO_AUTHENTICATION, NO_COMPACTION,
    QUORUM, REPLICAS, RESERVED, THREADS, TOLD, UNCLEAN, WAITS, WITH_RETENTION, key,
};

/// Every key, sorted by name. Two lines each: what it may be, and what it does.
#[rustfmt::skip]
pub static BROKER: &[ConfigKey] = &[
    key("add.partitions.to.txn.retry.backoff.max.ms", Kind::Int, Some("100")).at_least(0).unit(Unit::Millis).missing()
        .help("Longest wait between attempts to add a partition to a transaction."),
    key("add.partitions.to.txn.retry.backoff.ms", Kind::Int, Some("20")).at_least(1).unit(Unit::Millis).missing()
        .help("First wait between attempts to add a partition to a transaction."),
    key("advertised.listeners", Kind::List, None)
        .help("Addresses that clients are told to connect to; the listeners themselves if unset."),
    key("alter.config.policy.class.name", Kind::Class, None).refused()
        .help("Plug-in that may veto configuration changes."),
    key("alter.log.dirs.replication.quota.window.num", Kind::Int, Some("11")).at_least(1).missing()
        .help("Samples kept for the quota on moves between log directories."),
    key("alter.log.dirs.replication.quota.window.size.seconds", Kind::Int, Some("1")).at_least(1).unit(Unit::Seconds).missing()
        .help("Length of one sample of the quota on moves between log directories."),
    key("authorizer.class.name", Kind::Text, Some("")).refused()
        .help("Plug-in that decides who may do what."),
    key("auto.balance", Kind::Bool, Some("true")).live()
        .help("Whether partitions move by themselves until all brokers have their share of bytes and of leaders, a new one too."),
    key("auto.create.topics.enable", Kind::Bool, Some("true"))
        .help("Whether a client that names a missing topic creates it."),
    key("auto.leader.rebalance.enable", Kind::Bool, Some("true"))
        .help("Whether leadership returns to preferred replicas by itself."),
    key("background.threads", Kind::Int, Some("10")).at_least(1).live().meaningless(THREADS)
        .help("Threads for background work."),
    key("broker.heartbeat.interval.ms", Kind::Int, Some("2000")).unit(Unit::Millis).at_least(100)
        .help("Interval of a broker's heartbeats to the controller."),
    key("broker.id", Kind::Int, Some("-1"))
        .help("Older name of node.id."),
    key("broker.rack", Kind::Text, None)
        .help("Rack of this broker, told to clients and used when replicas are placed."),
    key("broker.session.timeout.ms", Kind::Int, Some("9000")).unit(Unit::Millis).at_least(100)
        .help("How long a broker may be silent before the controller fences it."),
    key("client.quota.callback.class", Kind::Class, None).refused()
        .help("Plug-in that decides client quotas."),
    key("compression.gzip.level", Kind::Int, Some("-1")).range(Range::BetweenOr(1, 9, -1)).live()
        .help("Effort of gzip when compression.type is gzip."),
    key("compression.lz4.level", Kind::Int, Some("9")).range(Range::Between(1, 17)).live().meaningless(FAST_LZ4)
        .help("Effort of LZ4 when compression.type is lz4."),
    key("compression.type", Kind::Text, Some("producer")).range(Range::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"])).live()
        .help("Codec that topics store batches in; producer keeps what the producer chose."),
    key("compression.zstd.level", Kind::Int, Some("3")).range(Range::Between(-131_072, 22)).live()
        .help("Effort of Zstandard when compression.type is zstd."),
    key("config.providers", Kind::List, Some("")).live().refused()
        .help("Plug-ins that fetch configuration values from elsewhere."),
    key("connection.failed.authentication.delay.ms", Kind::Int, Some("100")).at_least(0).unit(Unit::Millis).meaningless(NO_AUTHENTICATION)
        .help("Delay before a connection that failed to authenticate is closed."),
    key("connections.max.idle.ms", Kind::Long, Some("600000")).unit(Unit::Millis)
        .help("How long a connection may be idle before it is closed."),
    key("connections.max.reauth.ms", Kind::Long, Some("0")).unit(Unit::Millis).refused()
        .help("How long an authenticated connection may live before it must authenticate again."),
    key("controlled.shutdown.enable", Kind::Bool, Some("true")).meaningless(ALWAYS)
        .help("Whether a stopping broker first hands its leaderships over."),
    key("controller.listener.names", Kind::List, None)
        .help("Listeners of the controller, which take no clients."),
    key("controller.performance.always.log.threshold.ms", Kind::Long, Some("2000")).at_least(0).unit(Unit::Millis).meaningless(INTERNALS).internal()
        .help("How slow a controller event must be to be logged."),
    key("controller.performance.sample.period.ms", Kind::Long, Some("60000")).at_least(100).unit(Unit::Millis).meaningless(INTERNALS).internal()
        .help("Period of the controller's performance report."),
    key("controller.quorum.append.linger.ms", Kind::Int, Some("25")).at_least(0).unit(Unit::Millis).meaningless(QUORUM)
        .help("How long the metadata leader gathers records before it writes them."),
    key("controller.quorum.auto.join.enable", Kind::Bool, Some("false"))
        .help("Whether a controller adds itself to the voters."),
    key("controller.quorum.bootstrap.servers", Kind::List, Some(""))
        .help("Whom to ask who decides, when nothing names voters and the directory does not know any."),
    key("controller.quorum.election.backoff.max.ms", Kind::Int, Some("1000")).at_least(0).unit(Unit::Millis).meaningless(QUORUM)
        .help("Longest wait before another metadata election."),
    key("controller.quorum.election.timeout.ms", Kind::Int, Some("1000")).at_least(100).unit(Unit::Millis)
        .help("How long to wait for votes in a metadata election."),
    key("controller.quorum.fetch.max.bytes", Kind::Int, Some("1048576")).at_least(1).unit(Unit::Bytes).meaningless(QUORUM)
        .help("Largest answer to a fetch from the metadata quorum."),
    key("controller.quorum.fetch.snapshot.max.bytes", Kind::Int, Some("1048576")).at_least(1).unit(Unit::Bytes).meaningless(QUORUM)
        .help("Largest answer to a snapshot fetch from the metadata quorum."),
    key("controller.quorum.fetch.timeout.ms", Kind::Int, Some("500")).at_least(100).unit(Unit::Millis)
        .help("How long a voter may hear nothing from the metadata leader. Kafka's default is 2000."),
    key("controller.quorum.request.timeout.ms", Kind::Int, Some("2000")).at_least(100).unit(Unit::Millis)
        .help("How long a request within the metadata quorum may take."),
    key("controller.quorum.retry.backoff.ms", Kind::Int, Some("20")).at_least(1).unit(Unit::Millis)
        .help("Wait before a request within the metadata quorum is repeated."),
    key("controller.quorum.voters", Kind::List, Some(""))
        .help("The voters of a static metadata quorum, as id@host:port."),
    key("controller.quota.window.num", Kind::Int, Some("11")).at_least(1).missing()
        .help("Samples kept for the quota on topic changes."),
    key("controller.quota.window.size.seconds", Kind::Int, Some("1")).at_least(1).unit(Unit::Seconds).missing()
        .help("Length of one sample of the quota on topic changes."),
    key("controller.socket.timeout.ms", Kind::Int, Some("30000")).unit(Unit::Millis).meaningless(QUORUM)
        .help("How long a request to the controller may take."),
    key("cordoned.log.dirs", Kind::List, Some("")).live_per_broker()
        .help("Log directories that take no new partitions."),
    key("create.topic.policy.class.name", Kind::Class, None).refused()
        .help("Plug-in that may veto new topics."),
    key("default.replication.factor", Kind::Int, Some("1"))
        .help("Replicas of a topic that is created without a number of its own."),
    key("delegation.token.expiry.check.interval.ms", Kind::Long, Some("3600000")).at_least(1).unit(Unit::Millis).refused()
        .help("Interval of the search for expired delegation tokens."),
    key("delegation.token.expiry.time.ms", Kind::Long, Some("86400000")).at_least(1).unit(Unit::Millis).refused()
        .help("Life of a delegation token before it must be renewed."),
    key("delegation.token.max.lifetime.ms", Kind::Long, Some("604800000")).at_least(1).unit(Unit::Millis).refused()
        .help("Longest life of a delegation token."),
    key("delegation.token.secret.key", Kind::Password, None).refused()
        .help("Key that signs delegation tokens."),
    key("delete.records.purgatory.purge.interval.requests", Kind::Int, Some("1")).meaningless(INTERNALS)
        .help("How many finished deletions of records are kept before they are purged."),
    key("delete.topic.enable", Kind::Bool, Some("true"))
        .help("Whether topics may be deleted."),
    key("disk.sync.timeout.ms", Kind::Long, Some("60000")).at_least(1000).unit(Unit::Millis)
        .help("How long a sync of a log directory may take before the directory counts as failed."),
    key("early.start.listeners", Kind::List, None).meaningless(LISTENERS)
        .help("Listeners that start before the authorizer is ready."),
    key("errors.deadletterqueue.auto.create.topics.enable", Kind::Bool, Some("false")).live().missing()
        .help("Whether the dead letter topic of a share group is created on demand."),
    key("errors.deadletterqueue.topic.name.prefix", Kind::Text, Some("dlq.")).live().missing()
        .help("Prefix that the name of a share group's dead letter topic must have."),
    key("fetch.max.bytes", Kind::Int, Some("57671680")).at_least(1024).unit(Unit::Bytes)
        .help("Most bytes in one answer to a fetch; a first batch above it is still given."),
    key("fetch.purgatory.purge.interval.requests", Kind::Int, Some("1000")).meaningless(INTERNALS)
        .help("How many finished fetches are kept before they are purged."),
    key("follower.fetch.last.tiered.offset.enable", Kind::Bool, Some("false")).live().missing()
        .help("Whether a new follower starts from the last tiered offset."),
    key("follower.replication.throttled.rate", Kind::Long, Some("9223372036854775807")).at_least(0).live()
        .help("Bytes per second that the broker's throttled followers fetch together while they are not in sync."),
    key("group.consumer.assignment.interval.ms", Kind::Int, Some("1000")).at_least(0).unit(Unit::Millis).live().missing()
        .help("Consumer protocol: assignment interval."),
    key("group.consumer.assignor.offload.enable", Kind::Bool, Some("true")).live().missing().internal()
        .help("Consumer protocol: assignor offload; on or off."),
    key("group.consumer.assignors", Kind::List, Some("uniform,range")).missing()
        .help("Consumer protocol: assignors."),
    key("group.consumer.heartbeat.interval.ms", Kind::Int, Some("5000")).at_least(1).unit(Unit::Millis).missing()
        .help("Consumer protocol: heartbeat interval."),
    key("group.consumer.max.assignment.interval.ms", Kind::Int, Some("15000")).at_least(0).unit(Unit::Millis).missing()
        .help("Consumer protocol: max assignment interval."),
    key("group.consumer.max.heartbeat.interval.ms", Kind::Int, Some("15000")).at_least(1).unit(Unit::Millis).missing()
        .help("Consumer protocol: max heartbeat interval."),
    key("group.consumer.max.session.timeout.ms", Kind::Int, Some("60000")).at_least(1).unit(Unit::Millis).missing()
        .help("Consumer protocol: max session timeout."),
    key("group.consumer.max.size", Kind::Int, Some("2147483647")).at_least(1).missing()
        .help("Consumer protocol: max size."),
    key("group.consumer.migration.policy", Kind::Text, Some("bidirectional")).range(Range::OneOfAnyCase(&["DISABLED", "DOWNGRADE", "UPGRADE", "BIDIRECTIONAL"])).missing()
        .help("Which way groups may change between the classic and the consumer protocol."),
    key("group.consumer.min.assignment.interval.ms", Kind::Int, Some("0")).at_least(0).unit(Unit::Millis).missing()
        .help("Consumer protocol: min assignment interval."),
    key("group.consumer.min.heartbeat.interval.ms", Kind::Int, Some("5000")).at_least(1).unit(Unit::Millis).missing()
        .help("Consumer protocol: min heartbeat interval."),
    key("group.consumer.min.session.timeout.ms", Kind::Int, Some("45000")).at_least(1).unit(Unit::Millis).missing()
        .help("Consumer protocol: min session timeout."),
    key("group.consumer.regex.refresh.interval.ms", Kind::Int, Some("600000")).at_least(10000).unit(Unit::Millis).missing().internal()
        .help("Consumer protocol: regex refresh interval."),
    key("group.consumer.session.timeout.ms", Kind::Int, Some("45000")).at_least(1).unit(Unit::Millis).missing()
        .help("Consumer protocol: session timeout."),
    key("group.coordinator.append.linger.ms", Kind::Int, Some("-1")).at_least(-1).unit(Unit::Millis).meaningless(INTERNALS)
        .help("How long a group coordinator gathers records before it writes them."),
    key("group.coordinator.background.threads", Kind::Int, Some("2")).at_least(1).meaningless(THREADS)
        .help("Threads for background work of group coordinators."),
    key("group.coordinator.cached.buffer.max.bytes", Kind::Int, Some("1048588")).at_least(524288).unit(Unit::Bytes).live().meaningless(INTERNALS)
        .help("Largest buffer that a group coordinator keeps."),
    key("group.coordinator.rebalance.protocols", Kind::List, Some("classic,consumer,streams")).range(Range::OneOf(&["consumer", "classic", "share", "streams"])).missing()
        .help("Group protocols that are on. The classic one is."),
    key("group.coordinator.threads", Kind::Int, Some("4")).at_least(1).meaningless(THREADS)
        .help("Threads of group coordinators."),
    key("group.initial.rebalance.delay.ms", Kind::Int, Some("3000")).unit(Unit::Millis)
        .help("How long the first rebalance of an empty group waits for more members."),
    key("group.max.session.timeout.ms", Kind::Int, Some("1800000")).unit(Unit::Millis)
        .help("Longest session time-out a member may ask for."),
    key("group.max.size", Kind::Int, Some("2147483647")).at_least(1)
        .help("Most members of one group."),
    key("group.min.session.timeout.ms", Kind::Int, Some("6000")).unit(Unit::Millis)
        .help("Shortest session time-out a member may ask for."),
    key("group.share.assignment.interval.ms", Kind::Int, Some("1000")).at_least(0).unit(Unit::Millis).live().missing()
        .help("Share groups: assignment interval."),
    key("group.share.assignor.offload.enable", Kind::Bool, Some("true")).live().missing().internal()
        .help("Share groups: assignor offload; on or off."),
    key("group.share.assignors", Kind::List, Some("simple")).missing()
        .help("Share groups: assignors."),
    key("group.share.delivery.count.limit", Kind::Int, Some("5")).range(Range::Between(2, 10)).missing()
        .help("Share groups: delivery count limit."),
    key("group.share.dlq.manager.class.name", Kind::Text, None).missing().internal()
        .help("Share groups: dlq manager class."),
    key("group.share.heartbeat.interval.ms", Kind::Int, Some("5000")).at_least(1).unit(Unit::Millis).missing()
        .help("Share groups: heartbeat interval."),
    key("group.share.initialize.retry.interval.ms", Kind::Int, Some("30000")).at_least(1).unit(Unit::Millis).missing().internal()
        .help("Share groups: initialize retry interval."),
    key("group.share.max.assignment.interval.ms", Kind::Int, Some("15000")).at_least(0).unit(Unit::Millis).missing()
        .help("Share groups: max assignment interval."),
    key("group.share.max.delivery.count.limit", Kind::Int, Some("10")).range(Range::Between(5, 25)).missing()
        .help("Share groups: max delivery count limit."),
    key("group.share.max.heartbeat.interval.ms", Kind::Int, Some("15000")).at_least(1).unit(Unit::Millis).missing()
        .help("Share groups: max heartbeat interval."),
    key("group.share.max.partition.max.record.locks", Kind::Int, Some("4000")).range(Range::Between(2000, 10_000)).missing()
        .help("Share groups: max partition max record locks."),
    key("group.share.max.record.lock.duration.ms", Kind::Int, Some("60000")).range(Range::Between(30_000, 3_600_000)).unit(Unit::Millis).missing()
        .help("Share groups: max record lock duration."),
    key("group.share.max.session.timeout.ms", Kind::Int, Some("60000")).at_least(1).unit(Unit::Millis).missing()
        .help("Share groups: max session timeout."),
    key("group.share.max.share.sessions", Kind::Int, Some("2000")).at_least(1).missing()
        .help("Share groups: max share sessions."),
    key("group.share.max.size", Kind::Int, Some("200")).range(Range::Between(1, 1000)).missing()
        .help("Share groups: max size."),
    key("group.share.min.assignment.interval.ms", Kind::Int, Some("0")).at_least(0).unit(Unit::Millis).missing()
        .help("Share groups: min assignment interval."),
    key("group.share.min.delivery.count.limit", Kind::Int, Some("2")).range(Range::Between(2, 5)).missing()
        .help("Share groups: min delivery count limit."),
    key("group.share.min.heartbeat.interval.ms", Kind::Int, Some("5000")).at_least(1).unit(Unit::Millis).missing()
        .help("Share groups: min heartbeat interval."),
    key("group.share.min.partition.max.record.locks", Kind::Int, Some("100")).range(Range::Between(100, 2000)).missing()
        .help("Share groups: min partition max record locks."),
    key("group.share.min.record.lock.duration.ms", Kind::Int, Some("15000")).range(Range::Between(1000, 30_000)).unit(Unit::Millis).missing()
        .help("Share groups: min record lock duration."),
    key("group.share.min.session.timeout.ms", Kind::Int, Some("45000")).at_least(1).unit(Unit::Millis).missing()
        .help("Share groups: min session timeout."),
    key("group.share.partition.max.record.locks", Kind::Int, Some("2000")).range(Range::Between(100, 10_000)).missing()
        .help("Share groups: partition max record locks."),
    key("group.share.persister.class.name", Kind::Text, None).missing().internal()
        .help("Share groups: persister class."),
    key("group.share.record.lock.duration.ms", Kind::Int, Some("30000")).range(Range::Between(1000, 3_600_000)).unit(Unit::Millis).missing()
        .help("Share groups: record lock duration."),
    key("group.share.session.timeout.ms", Kind::Int, Some("45000")).at_least(1).unit(Unit::Millis).missing()
        .help("Share groups: session timeout."),
    key("group.streams.acceptable.recovery.lag", Kind::Long, Some("10000")).at_least(0).missing().internal()
        .help("Streams groups: acceptable recovery lag."),
    key("group.streams.assignment.interval.ms", Kind::Int, Some("1000")).at_least(0).unit(Unit::Millis).live().missing()
        .help("Streams groups: assignment interval."),
    key("group.streams.assignor.offload.enable", Kind::Bool, Some("true")).live().missing().internal()
        .help("Streams groups: assignor offload; on or off."),
    key("group.streams.assignors", Kind::List, Some("sticky")).missing()
        .help("Streams groups: assignors."),
    key("group.streams.heartbeat.interval.ms", Kind::Int, Some("5000")).at_least(1).unit(Unit::Millis).missing()
        .help("Streams groups: heartbeat interval."),
    key("group.streams.initial.rebalance.delay.ms", Kind::Int, Some("3000")).at_least(0).unit(Unit::Millis).missing()
        .help("Streams groups: initial rebalance delay."),
    key("group.streams.max.assignment.interval.ms", Kind::Int, Some("15000")).at_least(0).unit(Unit::Millis).missing()
        .help("Streams groups: max assignment interval."),
    key("group.streams.max.heartbeat.interval.ms", Kind::Int, Some("15000")).at_least(1).unit(Unit::Millis).missing()
        .help("Streams groups: max heartbeat interval."),
    key("group.streams.max.session.timeout.ms", Kind::Int, Some("60000")).at_least(1).unit(Unit::Millis).missing()
        .help("Streams groups: max session timeout."),
    key("group.streams.max.size", Kind::Int, Some("2147483647")).at_least(1).missing()
        .help("Streams groups: max size."),
    key("group.streams.max.standby.replicas", Kind::Int, Some("2")).at_least(0).missing()
        .help("Streams groups: max standby replicas."),
    key("group.streams.max.warmup.replicas", Kind::Int, Some("20")).at_least(0).missing().internal()
        .help("Streams groups: max warmup replicas."),
    key("group.streams.min.assignment.interval.ms", Kind::Int, Some("0")).at_least(0).unit(Unit::Millis).missing()
        .help("Streams groups: min assignment interval."),
    key("group.streams.min.heartbeat.interval.ms", Kind::Int, Some("5000")).at_least(1).unit(Unit::Millis).missing()
        .help("Streams groups: min heartbeat interval."),
    key("group.streams.min.session.timeout.ms", Kind::Int, Some("45000")).at_least(1).unit(Unit::Millis).missing()
        .help("Streams groups: min session timeout."),
    key("group.streams.min.task.offset.interval.ms", Kind::Int, Some("15000")).at_least(1).unit(Unit::Millis).missing().internal()
        .help("Streams groups: min task offset interval."),
    key("group.streams.num.standby.replicas", Kind::Int, Some("0")).at_least(0).missing()
        .help("Streams groups: num standby replicas."),
    key("group.streams.num.warmup.replicas", Kind::Int, Some("2")).at_least(0).missing().internal()
        .help("Streams groups: num warmup replicas."),
    key("group.streams.rack.aware.assignment.tags", Kind::List, Some("")).missing()
        .help("Streams groups: rack aware assignment tags."),
    key("group.streams.session.timeout.ms", Kind::Int, Some("45000")).at_least(1).unit(Unit::Millis).missing()
        .help("Streams groups: session timeout."),
    key("group.streams.task.offset.interval.ms", Kind::Int, Some("60000")).at_least(1).unit(Unit::Millis).missing().internal()
        .help("Streams groups: task offset interval."),
    key("group.streams.topology.description.plugin.class", Kind::Class, None).missing()
        .help("Streams groups: topology description plugin."),
    key("initial.broker.registration.timeout.ms", Kind::Int, Some("60000")).unit(Unit::Millis).meaningless(WAITS)
        .help("How long a starting broker tries to register."),
    key("inter.broker.listener.name", Kind::Text, None)
        .help("Listener that brokers use among themselves."),
    key("internal.metadata.delete.delay.millis", Kind::Long, Some("60000")).unit(Unit::Millis).meaningless(INTERNALS).internal()
        .help("Delay before deleted metadata segments leave the disk."),
    key("internal.metadata.log.segment.bytes", Kind::Int, None).unit(Unit::Bytes).meaningless(INTERNALS).internal()
        .help("Size of a metadata segment, for tests."),
    key("internal.metadata.max.batch.size.in.bytes", Kind::Int, Some("8388608")).unit(Unit::Bytes).meaningless(INTERNALS).internal()
        .help("Largest batch of metadata records."),
    key("kafka.metrics.polling.interval.secs", Kind::Int, Some("10")).at_least(1).unit(Unit::Seconds).missing()
        .help("Interval at which metrics reporters are polled."),
    key("kafka.metrics.reporters", Kind::List, Some("")).missing()
        .help("Plug-ins that report metrics."),
    key("leader.imbalance.check.interval.seconds", Kind::Long, Some("300")).at_least(1).unit(Unit::Seconds)
        .help("Interval of the check for leaders off their preferred replica."),
    key("leader.replication.throttled.rate", Kind::Long, Some("9223372036854775807")).at_least(0).live()
        .help("Bytes per second that the broker's throttled leaders serve together to followers that are not in sync."),
    key("listener.security.protocol.map", Kind::Text, Some("SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT"))
        .help("Security protocol of each listener name."),
    key("listeners", Kind::List, Some("PLAINTEXT://:9092"))
        .help("Addresses to listen on, as NAME://HOST:PORT."),
    key("log.cleaner.backoff.ms", Kind::Long, Some("15000")).at_least(0).unit(Unit::Millis).live().meaningless(NO_COMPACTION)
        .help("Pause of the compactor when there is nothing to do."),
    key("log.cleaner.dedupe.buffer.size", Kind::Long, Some("134217728")).unit(Unit::Bytes).live().meaningless(NO_COMPACTION)
        .help("Memory of the compactor for keys."),
    key("log.cleaner.delete.retention.ms", Kind::Long, Some("86400000")).at_least(0).unit(Unit::Millis).live().meaningless(NO_COMPACTION)
        .help("How long compacted topics keep tombstones."),
    key("log.cleaner.enable", Kind::Bool, Some("true")).meaningless(NO_COMPACTION)
        .help("Whether the compactor runs."),
    key("log.cleaner.io.buffer.load.factor", Kind::Double, Some("0.9")).live().meaningless(NO_COMPACTION)
        .help("How full the compactor's key memory may get."),
    key("log.cleaner.io.buffer.size", Kind::Int, Some("524288")).at_least(0).unit(Unit::Bytes).live().meaningless(NO_COMPACTION)
        .help("Memory of the compactor for records."),
    key("log.cleaner.io.max.bytes.per.second", Kind::Double, Some("1.7976931348623157E308")).unit(Unit::Bytes).live().meaningless(NO_COMPACTION)
        .help("Bytes per second that the compactor may read and write."),
    key("log.cleaner.max.compaction.lag.ms", Kind::Long, Some("9223372036854775807")).at_least(1).unit(Unit::Millis).live().meaningless(NO_COMPACTION)
        .help("How long a record of a compacted topic may stay uncompacted."),
    key("log.cleaner.min.cleanable.ratio", Kind::Double, Some("0.5")).range(Range::Fraction(0.0, 1.0)).live().meaningless(NO_COMPACTION)
        .help("Share of uncompacted bytes from which a log is compacted."),
    key("log.cleaner.min.compaction.lag.ms", Kind::Long, Some("0")).at_least(0).unit(Unit::Millis).live().meaningless(NO_COMPACTION)
        .help("How long a record of a compacted topic stays uncompacted at least."),
    key("log.cleaner.threads", Kind::Int, Some("1")).at_least(0).live().meaningless(NO_COMPACTION)
        .help("Threads of the compactor."),
    key("log.cleanup.policy", Kind::List, Some("delete")).range(Range::OneOf(&["compact", "delete"])).live()
        .help("What happens to old segments: delete. Compaction is not there yet."),
    key("log.dir", Kind::List, Some("/tmp/kafka-logs"))
        .help("Directory of the data, if log.dirs is unset."),
    key("log.dir.failure.timeout.ms", Kind::Long, Some("30000")).at_least(1).unit(Unit::Millis).meaningless(TOLD)
        .help("How long a broker may fail to tell the controller of a failed directory."),
    key("log.dirs", Kind::List, None)
        .help("Directories of the data."),
    key("log.durability", Kind::Text, Some("sync")).range(Range::OneOf(&["sync", "page-cache"])).live()
        .help("When a write counts as committed: synced to disk (sync), or written to the page cache as Kafka does (page-cache)."),
    key("log.flush.interval.messages", Kind::Long, Some("9223372036854775807")).at_least(1).live()
        .help("Records after which a log is synced, where durability is page-cache."),
    key("log.flush.interval.ms", Kind::Long, None).unit(Unit::Millis).live()
        .help("Time after which a log is synced, where durability is page-cache."),
    key("log.flush.offset.checkpoint.interval.ms", Kind::Int, Some("60000")).at_least(0).unit(Unit::Millis).meaningless(JOURNAL)
        .help("Interval of the checkpoint of synced offsets."),
    key("log.flush.scheduler.interval.ms", Kind::Long, Some("9223372036854775807")).unit(Unit::Millis)
        .help("Time after which a log is synced, where durability is page-cache; log.flush.interval.ms comes first."),
    key("log.flush.start.offset.checkpoint.interval.ms", Kind::Int, Some("60000")).at_least(0).unit(Unit::Millis).meaningless(JOURNAL)
        .help("Interval of the checkpoint of log start offsets."),
    key("log.index.interval.bytes", Kind::Int, Some("4096")).at_least(0).unit(Unit::Bytes).live()
        .help("Bytes of a log between two entries of its index."),
    key("log.index.size.max.bytes", Kind::Int, Some("10485760")).at_least(4).unit(Unit::Bytes).live()
        .help("Largest size of a segment's offset index."),
    key("log.initial.task.delay.ms", Kind::Long, Some("30000")).at_least(0).unit(Unit::Millis).internal()
        .help("Delay of the first search for old segments after the start."),
    key("log.journal.bytes", Kind::Long, Some("268435456")).at_least(33554432).unit(Unit::Bytes)
        .help("Bytes of the journal of each log directory; recovery reads at most this much."),
    key("log.journal.file.bytes", Kind::Long, Some("33554432")).at_least(1048576).unit(Unit::Bytes)
        .help("Size of one file of the journal."),
    key("log.local.retention.bytes", Kind::Long, Some("-2")).at_least(-2).unit(Unit::Bytes).live().missing()
        .help("Bytes of a tiered partition that stay on local disk."),
    key("log.local.retention.ms", Kind::Long, Some("-2")).at_least(-2).unit(Unit::Millis).live().missing()
        .help("Time for which a tiered partition stays on local disk."),
    key("log.message.timestamp.after.max.ms", Kind::Long, Some("3600000")).at_least(0).unit(Unit::Millis).live()
        .help("How far in the future a record's timestamp may lie."),
    key("log.message.timestamp.before.max.ms", Kind::Long, Some("9223372036854775807")).at_least(0).unit(Unit::Millis).live()
        .help("How far in the past a record's timestamp may lie."),
    key("log.message.timestamp.type", Kind::Text, Some("CreateTime")).range(Range::OneOf(&["CreateTime", "LogAppendTime"])).live()
        .help("Who dates records: the producer (CreateTime) or the broker (LogAppendTime)."),
    key("log.preallocate", Kind::Bool, Some("false")).live().meaningless(RESERVED)
        .help("Whether segments are allocated in full when they are created."),
    key("log.record.validation", Kind::Text, Some("standard")).range(Range::OneOf(&["standard", "full"])).live()
        .help("How deep compressed batches are checked: standard takes them by their checksum, full expands them and walks the records."),
    key("log.remote.copy.lag.bytes", Kind::Long, Some("-1")).at_least(-1).unit(Unit::Bytes).live().missing()
        .help("Size-based delay before a segment is copied to remote storage."),
    key("log.remote.copy.lag.ms", Kind::Long, Some("0")).at_least(-1).unit(Unit::Millis).live().missing()
        .help("Time-based delay before a segment is copied to remote storage."),
    key("log.retention.bytes", Kind::Long, Some("-1")).unit(Unit::Bytes).live()
        .help("Bytes that a partition keeps; -1 is no limit."),
    key("log.retention.check.interval.ms", Kind::Long, Some("300000")).at_least(1).unit(Unit::Millis)
        .help("Interval of the search for old segments."),
    key("log.retention.hours", Kind::Int, Some("168")).range(Range::NotZero).unit(Unit::Hours)
        .help("Hours that records are kept; log.retention.minutes and log.retention.ms come first."),
    key("log.retention.minutes", Kind::Int, None).range(Range::NotZero).unit(Unit::Minutes)
        .help("Minutes that records are kept; log.retention.ms comes first."),
    key("log.retention.ms", Kind::Long, None).range(Range::NotZero).unit(Unit::Millis).live()
        .help("Milliseconds that records are kept; -1 is for ever."),
    key("log.roll.hours", Kind::Int, Some("168")).at_least(1).unit(Unit::Hours)
        .help("Hours after which a new segment starts; log.roll.ms comes first."),
    key("log.roll.jitter.hours", Kind::Int, Some("0")).at_least(0).unit(Unit::Hours)
        .help("Random part of log.roll.hours; log.roll.jitter.ms comes first."),
    key("log.roll.jitter.ms", Kind::Long, None).at_least(0).unit(Unit::Millis).live()
        .help("Random part of log.roll.ms, so that segments do not all roll at once."),
    key("log.roll.ms", Kind::Long, None).at_least(1).unit(Unit::Millis).live()
        .help("Milliseconds after which a new segment starts even if it is not full."),
    key("log.scrub.bytes.per.second", Kind::Long, Some("4194304")).at_least(0).unit(Unit::Bytes)
        .help("Rate at which each log directory's cold segments are read and their checksums verified, so that damage is found before a consumer meets it; 0 does not."),
    key("log.scrub.interval.ms", Kind::Long, Some("604800000")).at_least(1000).unit(Unit::Millis)
        .help("A round through all cold segments begins so long after the last one began."),
    key("log.segment.bytes", Kind::Int, Some("1073741824")).at_least(1048576).unit(Unit::Bytes).live()
        .help("Size of a segment."),
    key("log.segment.delete.delay.ms", Kind::Long, Some("60000")).at_least(0).unit(Unit::Millis).live()
        .help("Delay before the files of a deleted segment leave the disk."),
    key("log.space.reserve.bytes", Kind::Long, Some("67108864")).at_least(0).unit(Unit::Bytes)
        .help("Records are refused while the disk of a log directory has less than this left; group offsets, metadata and deletions go on, and may use a quarter as much that the directory holds for them."),
    key("max.connection.creation.rate", Kind::Int, Some("2147483647")).at_least(0).live().refused()
        .help("New connections per second that the broker takes."),
    key("max.connections", Kind::Int, Some("2147483647")).at_least(1).live()
        .help("Connections that the broker takes in all; those beyond wait. With none nobody could change it again."),
    key("max.connections.per.ip", Kind::Int, Some("2147483647")).at_least(0).live()
        .help("Connections that the broker takes from one address; those beyond are closed."),
    key("max.connections.per.ip.overrides", Kind::Text, Some("")).live()
        .help("Exceptions to max.connections.per.ip, as ADDRESS:COUNT; names are not looked up."),
    key("max.decompressed.message.bytes", Kind::Int, Some("2147483639")).range(Range::Between(1, 2_147_483_639)).unit(Unit::Bytes).live()
        .help("Largest expansion of a compressed batch that the broker looks into, up to 256 MiB."),
    key("max.incremental.fetch.session.cache.slots", Kind::Int, Some("1000")).at_least(0)
        .help("Incremental fetch sessions that the broker keeps."),
    key("max.request.partition.size.limit", Kind::Int, Some("2000")).at_least(1)
        .help("Most partitions in one answer to DescribeTopicPartitions."),
    key("message.max.bytes", Kind::Int, Some("1048588")).at_least(0).unit(Unit::Bytes).live()
        .help("Largest batch that topics accept."),
    key("metadata.log.dir", Kind::Text, None)
        .help("Directory of the metadata log; the first log directory if unset."),
    key("metadata.log.max.record.bytes.between.snapshots", Kind::Long, Some("20971520")).at_least(1).unit(Unit::Bytes)
        .help("Bytes of the metadata log between two snapshots, after which the log forgets what they hold."),
    key("metadata.log.max.snapshot.interval.ms", Kind::Long, Some("3600000")).at_least(0).unit(Unit::Millis)
        .help("Time after which there is another snapshot of the metadata log if anything has changed; 0: bytes alone count."),
    key("metadata.log.segment.bytes", Kind::Int, Some("1073741824")).at_least(8388608).unit(Unit::Bytes).meaningless(INTERNALS)
        .help("Size of a segment of the metadata log."),
    key("metadata.log.segment.ms", Kind::Long, Some("604800000")).unit(Unit::Millis).meaningless(INTERNALS)
        .help("Time after which a new segment of the metadata log starts."),
    key("metadata.max.idle.interval.ms", Kind::Int, Some("500")).at_least(0).unit(Unit::Millis).meaningless(QUORUM)
        .help("How long the metadata leader may write nothing."),
    key("metadata.max.retention.bytes", Kind::Long, Some("104857600")).unit(Unit::Bytes).meaningless(INTERNALS)
        .help("Bytes that the metadata log and its snapshots keep."),
    key("metadata.max.retention.ms", Kind::Long, Some("604800000")).unit(Unit::Millis).meaningless(INTERNALS)
        .help("Time that the metadata log and its snapshots are kept."),
    key("metric.reporters", Kind::List, None).live().missing()
        .help("Plug-ins that report metrics."),
    key("metrics.listen", Kind::Text, Some(""))
        .help("Where /metrics, /health/live and /health/ready are served over HTTP: HOST:PORT; PORT alone is on the loopback address only; empty is nowhere."),
    key("metrics.num.samples", Kind::Int, Some("2")).at_least(1).meaningless(INTERNALS)
        .help("Samples kept for each metric."),
    key("metrics.recording.level", Kind::Text, Some("INFO")).meaningless(INTERNALS)
        .help("How detailed metrics are."),
    key("metrics.sample.window.ms", Kind::Long, Some("30000")).at_least(1).unit(Unit::Millis).meaningless(INTERNALS)
        .help("Length of one sample of a metric."),
    key("min.insync.replicas", Kind::Int, Some("1")).at_least(1).live()
        .help("Replicas that must be in sync for a write with acks=all."),
    key("node.id", Kind::Int, None).at_least(0)
        .help("Number of this node in the cluster."),
    key("num.io.threads", Kind::Int, Some("8")).at_least(1).live().meaningless(THREADS)
        .help("Threads that serve requests."),
    key("num.network.threads", Kind::Int, Some("3")).at_least(1).live().meaningless(THREADS)
        .help("Threads that read and write sockets."),
    key("num.partitions", Kind::Int, Some("1")).at_least(1)
        .help("Partitions of a topic that is created without a number of its own."),
    key("num.recovery.threads.per.data.dir", Kind::Int, Some("2")).at_least(1).live().meaningless(THREADS)
        .help("Threads that recover logs at the start; recovery reads one journal, not every log."),
    key("num.replica.alter.log.dirs.threads", Kind::Int, None).meaningless(THREADS)
        .help("Threads that move replicas between directories."),
    key("num.replica.fetchers", Kind::Int, Some("1")).at_least(1).live().meaningless(REPLICAS)
        .help("Connections per broker for replication."),
    key("offset.metadata.max.bytes", Kind::Int, Some("4096")).unit(Unit::Bytes)
        .help("Largest text that a consumer may store with an offset."),
    key("offsets.commit.timeout.ms", Kind::Int, Some("5000")).at_least(1).unit(Unit::Millis)
        .help("How long an offset commit may wait for its record to be committed."),
    key("offsets.damage.accept", Kind::Bool, Some("false")).live()
        .help("Whether groups are served whose committed offsets may be older than what was acknowledged, because records of __consumer_offsets are damaged. Without it such groups wait."),
    key("offsets.load.buffer.size", Kind::Int, Some("5242880")).at_least(1).unit(Unit::Bytes).meaningless(INTERNALS)
        .help("Bytes read at once when a group coordinator loads."),
    key("offsets.retention.check.interval.ms", Kind::Long, Some("600000")).at_least(1).unit(Unit::Millis)
        .help("Interval of the search for expired offsets."),
    key("offsets.retention.minutes", Kind::Int, Some("10080")).at_least(1).unit(Unit::Minutes)
        .help("Minutes that the offsets of an empty group are kept."),
    key("offsets.topic.compression.codec", Kind::Int, Some("0")).missing()
        .help("Codec of the offsets topic."),
    key("offsets.topic.num.partitions", Kind::Int, Some("50")).at_least(1)
        .help("Partitions of the offsets topic when it is created."),
    key("offsets.topic.replication.factor", Kind::Short, Some("3")).at_least(1)
        .help("Replicas of the offsets topic when it is created."),
    key("offsets.topic.segment.bytes", Kind::Int, Some("104857600")).at_least(1).unit(Unit::Bytes)
        .help("Size of a segment of the offsets topic."),
    key("principal.builder.class", Kind::Class, None).live_per_broker().refused()
        .help("Plug-in that derives a principal from a connection."),
    key("process.roles", Kind::List, None).range(Range::OneOf(&["broker", "controller"]))
        .help("What this node is: broker, controller or both."),
    key("producer.id.expiration.check.interval.ms", Kind::Int, Some("600000")).at_least(1).unit(Unit::Millis).meaningless(WITH_RETENTION).internal()
        .help("Interval of the search for producers that have gone."),
    key("producer.id.expiration.ms", Kind::Int, Some("86400000")).at_least(1).unit(Unit::Millis).live()
        .help("How long a partition remembers an idle producer's sequences."),
    key("producer.purgatory.purge.interval.requests", Kind::Int, Some("1000")).meaningless(INTERNALS)
        .help("How many finished produce requests are kept before they are purged."),
    key("queued.max.request.bytes", Kind::Long, Some("-1")).unit(Unit::Bytes)
        .help("Bytes of large requests that all connections together may have on their way in; -1 is 128 MiB."),
    key("queued.max.requests", Kind::Int, Some("500")).at_least(1)
        .help("Requests of one connection that may wait for their answers; beyond it the connection is not read."),
    key("quota.window.num", Kind::Int, Some("11")).at_least(1).missing()
        .help("Samples kept for client quotas."),
    key("quota.window.size.seconds", Kind::Int, Some("1")).at_least(1).unit(Unit::Seconds).missing()
        .help("Length of one sample of client quotas."),
    key("remote.fetch.max.wait.ms", Kind::Int, Some("500")).at_least(1).unit(Unit::Millis).live().missing()
        .help("Tiered storage: fetch max wait."),
    key("remote.list.offsets.request.timeout.ms", Kind::Long, Some("30000")).at_least(1).unit(Unit::Millis).live().missing()
        .help("Tiered storage: list offsets request timeout."),
    key("remote.log.index.file.cache.total.size.bytes", Kind::Long, Some("1073741824")).at_least(1).unit(Unit::Bytes).live().missing()
        .help("Tiered storage: log index file cache total size bytes."),
    key("remote.log.index.file.cache.ttl.ms", Kind::Long, Some("900000")).at_least(-1).unit(Unit::Millis).missing().internal()
        .help("Tiered storage: log index file cache ttl."),
    key("remote.log.manager.copier.thread.pool.size", Kind::Int, Some("10")).at_least(1).live().missing()
        .help("Tiered storage: log manager copier thread pool size."),
    key("remote.log.manager.copy.max.bytes.per.second", Kind::Long, Some("9223372036854775807")).at_least(1).unit(Unit::Bytes).live().missing()
        .help("Tiered storage: log manager copy max bytes per second."),
    key("remote.log.manager.copy.quota.window.num", Kind::Int, Some("11")).at_least(1).missing()
        .help("Tiered storage: log manager copy quota window num."),
    key("remote.log.manager.copy.quota.window.size.seconds", Kind::Int, Some("1")).at_least(1).unit(Unit::Seconds).missing()
        .help("Tiered storage: log manager copy quota window size seconds."),
    key("remote.log.manager.expiration.thread.pool.size", Kind::Int, Some("10")).at_least(1).live().missing()
        .help("Tiered storage: log manager expiration thread pool size."),
    key("remote.log.manager.fetch.max.bytes.per.second", Kind::Long, Some("9223372036854775807")).at_least(1).unit(Unit::Bytes).live().missing()
        .help("Tiered storage: log manager fetch max bytes per second."),
    key("remote.log.manager.fetch.quota.window.num", Kind::Int, Some("11")).at_least(1).missing()
        .help("Tiered storage: log manager fetch quota window num."),
    key("remote.log.manager.fetch.quota.window.size.seconds", Kind::Int, Some("1")).at_least(1).unit(Unit::Seconds).missing()
        .help("Tiered storage: log manager fetch quota window size seconds."),
    key("remote.log.manager.follower.thread.pool.size", Kind::Int, Some("2")).at_least(1).live().missing()
        .help("Tiered storage: log manager follower thread pool size."),
    key("remote.log.manager.task.interval.ms", Kind::Long, Some("30000")).at_least(1).unit(Unit::Millis).missing()
        .help("Tiered storage: log manager task interval."),
    key("remote.log.manager.task.retry.backoff.max.ms", Kind::Long, Some("30000")).at_least(1).unit(Unit::Millis).missing().internal()
        .help("Tiered storage: log manager task retry backoff max."),
    key("remote.log.manager.task.retry.backoff.ms", Kind::Long, Some("500")).at_least(1).unit(Unit::Millis).missing().internal()
        .help("Tiered storage: log manager task retry backoff."),
    key("remote.log.manager.task.retry.jitter", Kind::Double, Some("0.2")).range(Range::Fraction(0.0, 0.5)).missing().internal()
        .help("Tiered storage: log manager task retry jitter."),
    key("remote.log.manager.thread.pool.size", Kind::Int, Some("2")).at_least(1).missing()
        .help("Tiered storage: log manager thread pool size."),
    key("remote.log.metadata.custom.metadata.max.bytes", Kind::Int, Some("128")).at_least(0).unit(Unit::Bytes).missing()
        .help("Tiered storage: log metadata custom metadata max bytes."),
    key("remote.log.metadata.manager.class.name", Kind::Text, None).range(Range::NotEmpty).missing()
        .help("Tiered storage: log metadata manager class."),
    key("remote.log.metadata.manager.class.path", Kind::Text, None).missing()
        .help("Tiered storage: log metadata manager class path."),
    key("remote.log.metadata.manager.impl.prefix", Kind::Text, Some("rlmm.config.")).range(Range::NotEmpty).missing()
        .help("Tiered storage: log metadata manager impl prefix."),
    key("remote.log.metadata.manager.listener.name", Kind::Text, None).range(Range::NotEmpty).missing()
        .help("Tiered storage: log metadata manager listener."),
    key("remote.log.reader.max.pending.tasks", Kind::Int, Some("100")).at_least(1).missing()
        .help("Tiered storage: log reader max pending tasks."),
    key("remote.log.reader.threads", Kind::Int, Some("10")).at_least(1).live().missing()
        .help("Tiered storage: log reader threads."),
    key("remote.log.storage.manager.class.name", Kind::Text, None).range(Range::NotEmpty).missing()
        .help("Tiered storage: log storage manager class."),
    key("remote.log.storage.manager.class.path", Kind::Text, None).missing()
        .help("Tiered storage: log storage manager class path."),
    key("remote.log.storage.manager.impl.prefix", Kind::Text, Some("rsm.config.")).range(Range::NotEmpty).missing()
        .help("Tiered storage: log storage manager impl prefix."),
    key("remote.log.storage.system.enable", Kind::Bool, Some("false")).refused()
        .help("Whether old segments may move to remote storage."),
    key("replica.alter.log.dirs.io.max.bytes.per.second", Kind::Long, Some("9223372036854775807")).at_least(0).unit(Unit::Bytes).live().missing()
        .help("Bytes per second for moves between log directories."),
    key("replica.fetch.backoff.ms", Kind::Int, Some("1000")).at_least(0).unit(Unit::Millis).meaningless(REPLICAS)
        .help("Wait after a failed fetch from a leader."),
    key("replica.fetch.max.bytes", Kind::Int, Some("1048576")).at_least(0).unit(Unit::Bytes)
        .help("Bytes per partition that a follower asks for."),
    key("replica.fetch.min.bytes", Kind::Int, Some("1")).unit(Unit::Bytes).meaningless(REPLICAS)
        .help("Fewest bytes that a follower waits for."),
    key("replica.fetch.response.max.bytes", Kind::Int, Some("10485760")).at_least(0).unit(Unit::Bytes)
        .help("Most bytes in one answer to a follower."),
    key("replica.fetch.wait.max.ms", Kind::Int, Some("500")).unit(Unit::Millis)
        .help("How long a follower's fetch waits for bytes."),
    key("replica.high.watermark.checkpoint.interval.ms", Kind::Long, Some("5000")).unit(Unit::Millis).meaningless(JOURNAL)
        .help("Interval of the checkpoint of high watermarks."),
    key("replica.lag.time.max.ms", Kind::Long, Some("30000")).unit(Unit::Millis)
        .help("How far behind a follower may be and stay in sync."),
    key("replica.selector.class", Kind::Text, None).range(Range::NothingOr(RACK_AWARE))
        .help("Who chooses the replica a consumer reads from: unset, it is the leader; org.apache.kafka.common.replica.RackAwareReplicaSelector sends a consumer with a client.rack to a replica in its rack, as broker.rack says."),
    key("replica.socket.receive.buffer.bytes", Kind::Int, Some("65536")).unit(Unit::Bytes).meaningless(REPLICAS)
        .help("Receive buffer of replication connections."),
    key("replica.socket.timeout.ms", Kind::Int, Some("30000")).unit(Unit::Millis).meaningless(REPLICAS)
        .help("How long a request between replicas may take."),
    key("replication.move.bytes.per.second", Kind::Long, Some("67108864")).at_least(0).unit(Unit::Bytes).live()
        .help("How fast replicas that move to this broker are filled, together, where no throttle is set for them; 0: as fast as they can."),
    key("replication.quota.window.num", Kind::Int, Some("11")).at_least(1).missing()
        .help("Samples kept for replication quotas."),
    key("replication.quota.window.size.seconds", Kind::Int, Some("1")).at_least(1).unit(Unit::Seconds).missing()
        .help("Length of one sample of replication quotas."),
    key("request.slow.log.ms", Kind::Long, Some("1000")).at_least(-1).unit(Unit::Millis).live()
        .help("Requests that take at least so long have a line in the log, at most one in ten seconds; what they wait for by design (a fetch for records, a join for members) is not counted. -1 is none."),
    key("request.timeout.ms", Kind::Int, Some("30000")).unit(Unit::Millis).meaningless(QUORUM)
        .help("How long a request to another broker may take."),
    key("sasl.client.callback.handler.class", Kind::Class, None).refused()
        .help("Java callback handler of SASL clients."),
    key("sasl.enabled.mechanisms", Kind::List, Some("GSSAPI")).live_per_broker().refused()
        .help("SASL mechanisms that clients may use."),
    key("sasl.jaas.config", Kind::Password, None).live_per_broker().refused()
        .help("Login configuration of SASL."),
    key("sasl.kerberos.kinit.cmd", Kind::Text, Some("/usr/bin/kinit")).live_per_broker().refused()
        .help("Path of kinit."),
    key("sasl.kerberos.min.time.before.relogin", Kind::Long, Some("60000")).live_per_broker().refused()
        .help("Shortest time between two Kerberos logins."),
    key("sasl.kerberos.principal.to.local.rules", Kind::List, Some("DEFAULT")).live_per_broker().refused()
        .help("How a Kerberos principal becomes a short name."),
    key("sasl.kerberos.service.name", Kind::Text, None).live_per_broker().refused()
        .help("Kerberos name of the service."),
    key("sasl.kerberos.ticket.renew.jitter", Kind::Double, Some("0.05")).live_per_broker().refused()
        .help("Random part of the Kerberos renewal time."),
    key("sasl.kerberos.ticket.renew.window.factor", Kind::Double, Some("0.8")).live_per_broker().refused()
        .help("Share of a ticket's life after which it is renewed."),
    key("sasl.login.callback.handler.class", Kind::Class, None).refused()
        .help("Java callback handler of SASL logins."),
    key("sasl.login.class", Kind::Class, None).refused()
        .help("Java class of SASL logins."),
    key("sasl.login.connect.timeout.ms", Kind::Int, None).unit(Unit::Millis).refused()
        .help("How long a connection to the login provider may take."),
    key("sasl.login.read.timeout.ms", Kind::Int, None).unit(Unit::Millis).refused()
        .help("How long a read from the login provider may take."),
    key("sasl.login.refresh.buffer.seconds", Kind::Short, Some("300")).unit(Unit::Seconds).live_per_broker().refused()
        .help("Time before expiry that a credential is refreshed at the latest."),
    key("sasl.login.refresh.min.period.seconds", Kind::Short, Some("60")).unit(Unit::Seconds).live_per_broker().refused()
        .help("Shortest time between two refreshes of a credential."),
    key("sasl.login.refresh.window.factor", Kind::Double, Some("0.8")).live_per_broker().refused()
        .help("Share of a credential's life after which it is refreshed."),
    key("sasl.login.refresh.window.jitter", Kind::Double, Some("0.05")).live_per_broker().refused()
        .help("Random part of the refresh time of a credential."),
    key("sasl.login.retry.backoff.max.ms", Kind::Long, Some("10000")).unit(Unit::Millis).refused()
        .help("Longest wait between attempts to log in."),
    key("sasl.login.retry.backoff.ms", Kind::Long, Some("100")).unit(Unit::Millis).refused()
        .help("First wait between attempts to log in."),
    key("sasl.mechanism.controller.protocol", Kind::Text, Some("GSSAPI")).refused()
        .help("SASL mechanism towards controllers."),
    key("sasl.mechanism.inter.broker.protocol", Kind::Text, Some("GSSAPI")).live_per_broker().refused()
        .help("SASL mechanism between brokers."),
    key("sasl.oauthbearer.allow.unverified.audience", Kind::Bool, Some("false")).refused()
        .help("OAuth: allow unverified audience."),
    key("sasl.oauthbearer.allow.unverified.issuer", Kind::Bool, Some("false")).refused()
        .help("OAuth: allow unverified issuer."),
    key("sasl.oauthbearer.assertion.algorithm", Kind::Text, Some("RS256")).range(Range::OneOfAnyCase(&["ES256", "RS256"])).refused()
        .help("OAuth: assertion algorithm."),
    key("sasl.oauthbearer.assertion.claim.aud", Kind::Text, None).refused()
        .help("OAuth: assertion claim aud."),
    key("sasl.oauthbearer.assertion.claim.exp.seconds", Kind::Int, Some("300")).range(Range::Between(0, 86_400)).unit(Unit::Seconds).refused()
        .help("OAuth: assertion claim exp seconds."),
    key("sasl.oauthbearer.assertion.claim.iss", Kind::Text, None).refused()
        .help("OAuth: assertion claim iss."),
    key("sasl.oauthbearer.assertion.claim.jti.include", Kind::Bool, Some("false")).refused()
        .help("OAuth: assertion claim jti include."),
    key("sasl.oauthbearer.assertion.claim.nbf.seconds", Kind::Int, Some("60")).range(Range::Between(0, 3600)).unit(Unit::Seconds).refused()
        .help("OAuth: assertion claim nbf seconds."),
    key("sasl.oauthbearer.assertion.claim.sub", Kind::Text, None).refused()
        .help("OAuth: assertion claim sub."),
    key("sasl.oauthbearer.assertion.file", Kind::Text, None).refused()
        .help("OAuth: assertion file."),
    key("sasl.oauthbearer.assertion.private.key.file", Kind::Text, None).refused()
        .help("OAuth: assertion private key file."),
    key("sasl.oauthbearer.assertion.private.key.passphrase", Kind::Password, None).refused()
        .help("OAuth: assertion private key passphrase."),
    key("sasl.oauthbearer.assertion.template.file", Kind::Text, None).refused()
        .help("OAuth: assertion template file."),
    key("sasl.oauthbearer.client.credentials.client.id", Kind::Text, None).refused()
        .help("OAuth: client credentials client id."),
    key("sasl.oauthbearer.client.credentials.client.secret", Kind::Password, None).refused()
        .help("OAuth: client credentials client secret."),
    key("sasl.oauthbearer.clock.skew.seconds", Kind::Int, Some("30")).unit(Unit::Seconds).refused()
        .help("OAuth: clock skew seconds."),
    key("sasl.oauthbearer.expected.audience", Kind::List, Some("")).refused()
        .help("OAuth: expected audience."),
    key("sasl.oauthbearer.expected.issuer", Kind::Text, None).refused()
        .help("OAuth: expected issuer."),
    key("sasl.oauthbearer.jwks.endpoint.refresh.ms", Kind::Long, Some("3600000")).unit(Unit::Millis).refused()
        .help("OAuth: jwks endpoint refresh."),
    key("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", Kind::Long, Some("10000")).unit(Unit::Millis).refused()
        .help("OAuth: jwks endpoint retry backoff max."),
    key("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", Kind::Long, Some("100")).unit(Unit::Millis).refused()
        .help("OAuth: jwks endpoint retry backoff."),
    key("sasl.oauthbearer.jwks.endpoint.url", Kind::Text, None).refused()
        .help("OAuth: jwks endpoint url."),
    key("sasl.oauthbearer.jwt.retriever.class", Kind::Class, None).refused()
        .help("OAuth: jwt retriever."),
    key("sasl.oauthbearer.jwt.validator.class", Kind::Class, None).refused()
        .help("OAuth: jwt validator."),
    key("sasl.oauthbearer.scope", Kind::Text, None).refused()
        .help("OAuth: scope."),
    key("sasl.oauthbearer.scope.claim.name", Kind::Text, Some("scope")).refused()
        .help("OAuth: scope claim."),
    key("sasl.oauthbearer.sub.claim.name", Kind::Text, Some("sub")).refused()
        .help("OAuth: sub claim."),
    key("sasl.oauthbearer.token.endpoint.url", Kind::Text, None).refused()
        .help("OAuth: token endpoint url."),
    key("sasl.server.callback.handler.class", Kind::Class, None).refused()
        .help("Java callback handler of SASL servers."),
    key("sasl.server.max.receive.size", Kind::Int, Some("524288")).refused()
        .help("Largest message of a SASL exchange."),
    key("security.inter.broker.protocol", Kind::Text, Some("PLAINTEXT")).range(Range::OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])).refused()
        .help("Security protocol between brokers."),
    key("security.providers", Kind::Text, None).refused()
        .help("Java security providers."),
    key("server.max.startup.time.ms", Kind::Long, Some("9223372036854775807")).at_least(0).unit(Unit::Millis).meaningless(INTERNALS).internal()
        .help("How long the start may take."),
    key("share.coordinator.append.linger.ms", Kind::Int, Some("-1")).at_least(-1).unit(Unit::Millis).missing()
        .help("How long a share coordinator gathers records before it writes them."),
    key("share.coordinator.cached.buffer.max.bytes", Kind::Int, Some("1048588")).at_least(524288).unit(Unit::Bytes).live().missing()
        .help("Largest buffer that a share coordinator keeps."),
    key("share.coordinator.cold.partition.snapshot.interval.ms", Kind::Int, Some("300000")).at_least(1).unit(Unit::Millis).missing().internal()
        .help("Interval of snapshots of idle share partitions."),
    key("share.coordinator.load.buffer.size", Kind::Int, Some("5242880")).at_least(1).unit(Unit::Bytes).missing()
        .help("Bytes read at once when a share coordinator loads."),
    key("share.coordinator.snapshot.update.records.per.snapshot", Kind::Int, Some("500")).range(Range::Between(0, 500)).missing()
        .help("Updates between two snapshots of a share partition."),
    key("share.coordinator.state.topic.compression.codec", Kind::Int, Some("0")).missing()
        .help("Codec of the share state topic."),
    key("share.coordinator.state.topic.min.isr", Kind::Short, Some("2")).at_least(1).missing()
        .help("In-sync replicas that the share state topic needs."),
    key("share.coordinator.state.topic.num.partitions", Kind::Int, Some("50")).at_least(1).missing()
        .help("Partitions of the share state topic when it is created."),
    key("share.coordinator.state.topic.prune.interval.ms", Kind::Int, Some("300000")).at_least(1).unit(Unit::Millis).missing().internal()
        .help("Interval of the pruning of the share state topic."),
    key("share.coordinator.state.topic.replication.factor", Kind::Short, Some("3")).at_least(1).missing()
        .help("Replicas of the share state topic when it is created."),
    key("share.coordinator.state.topic.segment.bytes", Kind::Int, Some("104857600")).at_least(1).unit(Unit::Bytes).missing()
        .help("Size of a segment of the share state topic."),
    key("share.coordinator.threads", Kind::Int, Some("1")).at_least(1).missing()
        .help("Threads of share coordinators."),
    key("share.coordinator.write.timeout.ms", Kind::Int, Some("5000")).at_least(1).unit(Unit::Millis).missing()
        .help("How long a write of share state may take."),
    key("share.fetch.purgatory.purge.interval.requests", Kind::Int, Some("1000")).missing()
        .help("How many finished share fetches are kept before they are purged."),
    key("socket.connection.setup.timeout.max.ms", Kind::Long, Some("30000")).unit(Unit::Millis).meaningless(QUORUM)
        .help("Longest wait for a connection to another node."),
    key("socket.connection.setup.timeout.ms", Kind::Long, Some("10000")).unit(Unit::Millis).meaningless(QUORUM)
        .help("First wait for a connection to another node."),
    key("socket.listen.backlog.size", Kind::Int, Some("50")).at_least(1).meaningless(KERNEL)
        .help("Connections that wait to be accepted."),
    key("socket.receive.buffer.bytes", Kind::Int, Some("102400")).unit(Unit::Bytes).meaningless(KERNEL)
        .help("Receive buffer of a socket; the kernel sizes it."),
    key("socket.request.max.bytes", Kind::Int, Some("104857600")).at_least(1).unit(Unit::Bytes)
        .help("Largest request."),
    key("socket.send.buffer.bytes", Kind::Int, Some("102400")).unit(Unit::Bytes).meaningless(KERNEL)
        .help("Send buffer of a socket; the kernel sizes it."),
    key("ssl.allow.dn.changes", Kind::Bool, Some("false")).refused()
        .help("Whether a new certificate may name another subject."),
    key("ssl.allow.san.changes", Kind::Bool, Some("false")).refused()
        .help("Whether a new certificate may name other alternative names."),
    key("ssl.cipher.suites", Kind::List, Some("")).live_per_broker().refused()
        .help("Cipher suites of TLS."),
    key("ssl.client.auth", Kind::Text, Some("none")).range(Range::OneOf(&["required", "requested", "none"])).live_per_broker().refused()
        .help("Whether clients must show a certificate."),
    key("ssl.enabled.protocols", Kind::List, Some("TLSv1.2,TLSv1.3")).live_per_broker().refused()
        .help("Versions of TLS that are on."),
    key("ssl.endpoint.identification.algorithm", Kind::Text, Some("https")).live_per_broker().refused()
        .help("How a server's name is checked against its certificate."),
    key("ssl.engine.factory.class", Kind::Class, None).live_per_broker().refused()
        .help("Plug-in that makes TLS engines."),
    key("ssl.key.password", Kind::Password, None).live_per_broker().refused()
        .help("Password of the private key."),
    key("ssl.keymanager.algorithm", Kind::Text, Some("SunX509")).live_per_broker().refused()
        .help("Java key manager algorithm."),
    key("ssl.keystore.certificate.chain", Kind::Password, None).live_per_broker().refused()
        .help("Certificate chain in PEM form."),
    key("ssl.keystore.key", Kind::Password, None).live_per_broker().refused()
        .help("Private key in PEM form."),
    key("ssl.keystore.location", Kind::Text, None).live_per_broker().refused()
        .help("File of the key store."),
    key("ssl.keystore.password", Kind::Password, None).live_per_broker().refused()
        .help("Password of the key store."),
    key("ssl.keystore.type", Kind::Text, Some("JKS")).live_per_broker().refused()
        .help("Format of the key store."),
    key("ssl.principal.mapping.rules", Kind::Text, Some("DEFAULT")).refused()
        .help("How a certificate's subject becomes a principal."),
    key("ssl.protocol", Kind::Text, Some("TLSv1.3")).live_per_broker().refused()
        .help("Version of TLS that is preferred."),
    key("ssl.provider", Kind::Text, None).live_per_broker().refused()
        .help("Java security provider for TLS."),
    key("ssl.secure.random.implementation", Kind::Text, None).live_per_broker().refused()
        .help("Java random source for TLS."),
    key("ssl.trustmanager.algorithm", Kind::Text, Some("PKIX")).live_per_broker().refused()
        .help("Java trust manager algorithm."),
    key("ssl.truststore.certificates", Kind::Password, None).live_per_broker().refused()
        .help("Trusted certificates in PEM form."),
    key("ssl.truststore.location", Kind::Text, None).live_per_broker().refused()
        .help("File of the trust store."),
    key("ssl.truststore.password", Kind::Password, None).live_per_broker().refused()
        .help("Password of the trust store."),
    key("ssl.truststore.type", Kind::Text, Some("JKS")).live_per_broker().refused()
        .help("Format of the trust store."),
    key("telemetry.max.bytes", Kind::Int, Some("1048576")).at_least(1).unit(Unit::Bytes)
        .help("Largest batch of metrics that a client may push."),
    key("transaction.abort.timed.out.transaction.cleanup.interval.ms", Kind::Int, Some("10000")).at_least(1).unit(Unit::Millis).missing()
        .help("Interval of the search for transactions that timed out."),
    key("transaction.max.timeout.ms", Kind::Int, Some("900000")).at_least(1).unit(Unit::Millis).missing()
        .help("Longest transaction time-out a producer may ask for."),
    key("transaction.partition.verification.enable", Kind::Bool, Some("true")).live().missing()
        .help("Whether a partition checks with the coordinator before it takes transactional records."),
    key("transaction.remove.expired.transaction.cleanup.interval.ms", Kind::Int, Some("3600000")).at_least(1).unit(Unit::Millis).missing()
        .help("Interval of the search for expired transactional ids."),
    key("transaction.state.log.load.buffer.size", Kind::Int, Some("5242880")).at_least(1).unit(Unit::Bytes).missing()
        .help("Bytes read at once when a transaction coordinator loads."),
    key("transaction.state.log.min.isr", Kind::Int, Some("2")).at_least(1).missing()
        .help("In-sync replicas that the transaction topic needs."),
    key("transaction.state.log.num.partitions", Kind::Int, Some("50")).at_least(1).missing()
        .help("Partitions of the transaction topic when it is created."),
    key("transaction.state.log.replication.factor", Kind::Short, Some("3")).at_least(1).missing()
        .help("Replicas of the transaction topic when it is created."),
    key("transaction.state.log.segment.bytes", Kind::Int, Some("104857600")).at_least(1).unit(Unit::Bytes).missing()
        .help("Size of a segment of the transaction topic."),
    key("transaction.two.phase.commit.enable", Kind::Bool, Some("false")).missing()
        .help("Whether producers may prepare transactions for an outside coordinator."),
    key("transactional.id.expiration.ms", Kind::Int, Some("604800000")).at_least(1).unit(Unit::Millis).missing()
        .help("How long an idle transactional id is remembered."),
    key("unclean.leader.election.enable", Kind::Bool, Some("false")).live()
        .help("Whether a replica that may lack committed records may lead."),
    key("unclean.leader.election.interval.ms", Kind::Long, Some("300000")).at_least(1).unit(Unit::Millis).meaningless(UNCLEAN).internal()
        .help("Interval of the search for partitions that need an unclean election."),
    key("unstable.api.versions.enable", Kind::Bool, Some("false")).missing().internal()
        .help("Whether unreleased API versions are served."),
    key("unstable.feature.versions.enable", Kind::Bool, Some("false")).missing().internal()
        .help("Whether unreleased feature levels may be chosen."),
];
