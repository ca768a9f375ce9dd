//! Keys of groups.

use super::super::key::{ConfigKey, Kind, Range, Unit};
use super::key;

/// Every key, sorted by name. Two lines each: what it may be, and what it does.
#[rustfmt::skip]
pub static GROUP: &[ConfigKey] = &[
    key("consumer.assignment.interval.ms", Kind::Int, Some("1000")).at_least(0).unit(Unit::Millis).live().missing().from(&["group.consumer.assignment.interval.ms"])
        .help("Consumer protocol: assignment interval."),
    key("consumer.assignor.offload.enable", Kind::Bool, Some("true")).live().missing().internal().from(&["group.consumer.assignor.offload.enable"])
        .help("Consumer protocol: assignor offload; on or off."),
    key("consumer.heartbeat.interval.ms", Kind::Int, Some("5000")).at_least(1).unit(Unit::Millis).live().missing().from(&["group.consumer.heartbeat.interval.ms"])
        .help("Consumer protocol: heartbeat interval."),
    key("consumer.session.timeout.ms", Kind::Int, Some("45000")).at_least(1).unit(Unit::Millis).live().missing().from(&["group.consumer.session.timeout.ms"])
        .help("Consumer protocol: session timeout."),
    key("errors.deadletterqueue.copy.record.enable", Kind::Bool, Some("false")).live().missing()
        .help("Dead letter topic of share groups: deadletterqueue copy record; on or off."),
    key("errors.deadletterqueue.topic.name", Kind::Text, Some("")).live().missing()
        .help("Dead letter topic of share groups: deadletterqueue topic."),
    key("share.assignment.interval.ms", Kind::Int, Some("1000")).at_least(0).unit(Unit::Millis).live().missing().from(&["group.share.assignment.interval.ms"])
        .help("Share groups: assignment interval."),
    key("share.assignor.offload.enable", Kind::Bool, Some("true")).live().missing().internal().from(&["group.share.assignor.offload.enable"])
        .help("Share groups: assignor offload; on or off."),
    key("share.auto.offset.reset", Kind::Text, Some("latest")).live().missing()
        .help("Share groups: auto offset reset."),
    key("share.delivery.count.limit", Kind::Int, Some("5")).at_least(2).live().missing().from(&["group.share.delivery.count.limit"])
        .help("Share groups: delivery count limit."),
    key("share.heartbeat.interval.ms", Kind::Int, Some("5000")).at_least(1).unit(Unit::Millis).live().missing().from(&["group.share.heartbeat.interval.ms"])
        .help("Share groups: heartbeat interval."),
    key("share.isolation.level", Kind::Text, Some("read_uncommitted")).range(Range::OneOf(&["read_committed", "read_uncommitted"])).live().missing()
        .help("Share groups: isolation level."),
    key("share.partition.max.record.locks", Kind::Int, Some("2000")).at_least(100).live().missing().from(&["group.share.partition.max.record.locks"])
        .help("Share groups: partition max record locks."),
    key("share.record.lock.duration.ms", Kind::Int, Some("30000")).at_least(1000).unit(Unit::Millis).live().missing().from(&["group.share.record.lock.duration.ms"])
        .help("Share groups: record lock duration."),
    key("share.renew.acknowledge.enable", Kind::Bool, Some("true")).live().missing()
        .help("Share groups: renew acknowledge; on or off."),
    key("share.session.timeout.ms", Kind::Int, Some("45000")).at_least(1).unit(Unit::Millis).live().missing().from(&["group.share.session.timeout.ms"])
        .help("Share groups: session timeout."),
    key("streams.acceptable.recovery.lag", Kind::Long, Some("10000")).at_least(0).live().missing().internal().from(&["group.streams.acceptable.recovery.lag"])
        .help("Streams groups: acceptable recovery lag."),
    key("streams.assignment.interval.ms", Kind::Int, Some("1000")).at_least(0).unit(Unit::Millis).live().missing().from(&["group.streams.assignment.interval.ms"])
        .help("Streams groups: assignment interval."),
    key("streams.assignor.name", Kind::Text, None).live().missing()
        .help("Streams groups: assignor."),
    key("streams.assignor.offload.enable", Kind::Bool, Some("true")).live().missing().internal().from(&["group.streams.assignor.offload.enable"])
        .help("Streams groups: assignor offload; on or off."),
    key("streams.heartbeat.interval.ms", Kind::Int, Some("5000")).at_least(1).unit(Unit::Millis).live().missing().from(&["group.streams.heartbeat.interval.ms"])
        .help("Streams groups: heartbeat interval."),
    key("streams.initial.rebalance.delay.ms", Kind::Int, Some("3000")).at_least(0).unit(Unit::Millis).live().missing().from(&["group.streams.initial.rebalance.delay.ms"])
        .help("Streams groups: initial rebalance delay."),
    key("streams.num.standby.replicas", Kind::Int, Some("0")).at_least(0).live().missing().from(&["group.streams.num.standby.replicas"])
        .help("Streams groups: num standby replicas."),
    key("streams.num.warmup.replicas", Kind::Int, Some("2")).at_least(0).live().missing().internal().from(&["group.streams.num.warmup.replicas"])
        .help("Streams groups: num warmup replicas."),
    key("streams.rack.aware.assignment.tags", Kind::List, Some("")).live().missing().from(&["group.streams.rack.aware.assignment.tags"])
        .help("Streams groups: rack aware assignment tags."),
    key("streams.session.timeout.ms", Kind::Int, Some("45000")).at_least(1).unit(Unit::Millis).live().missing().from(&["group.streams.session.timeout.ms"])
        .help("Streams groups: session timeout."),
    key("streams.task.offset.interval.ms", Kind::Int, Some("60000")).at_least(1).unit(Unit::Millis).live().missing().internal().from(&["group.streams.task.offset.interval.ms"])
        .help("Streams groups: task offset interval."),
];
