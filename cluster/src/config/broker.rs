//! What a broker's keys resolve to.

use std::net::IpAddr;
use std::time::Duration;

use super::key::{ConfigError, parse_bool, parse_integer, split_list};
use super::layers::{ConfigMap, NodeConfigs};
use super::table::{BROKER, find};
use super::topic::{Durability, TopicSettings};
use super::validate::check_static;

/// The one value of `replica.selector.class` that is none.
pub(super) const RACK_AWARE: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";

/// A broker's configuration in force. Its layers are kept: topics resolve against them.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    /// The layers all this comes from.
    pub node: NodeConfigs,
    /// What a topic without values of its own gets.
    pub topic_defaults: TopicSettings,

    /// `auto.create.topics.enable`.
    pub is_auto_create_on: bool,
    /// `delete.topic.enable`.
    pub is_topic_deletion_on: bool,
    /// `num.partitions`.
    pub partitions_count: i32,
    /// `default.replication.factor`.
    pub replication_factor: i16,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// `replica.selector.class`: whether consumers are sent to replicas in their rack.
    pub sends_readers_nearby: bool,

    /// `socket.request.max.bytes`.
    pub request_bytes_max: usize,
    /// `queued.max.requests`.
    pub queued_requests_max: usize,
    /// `queued.max.request.bytes`; `None` is the built-in budget.
    pub queued_request_bytes_max: Option<usize>,
    /// `max.connections`.
    pub connections_max: usize,
    /// `max.connections.per.ip`; see [`BrokerSettings::connections_per_ip_max`] for one address.
    pub connections_per_ip: usize,
    /// `max.connections.per.ip.overrides`: addresses and their limits.
    pub connections_per_ip_overrides: Vec<(IpAddr, usize)>,
    /// `connections.max.idle.ms`; `None` is for ever.
    pub connections_idle_max: Option<Duration>,
    /// `request.slow.log.ms`; `None` is never.
    pub request_slow: Option<Duration>,
    /// `fetch.max.bytes`.
    pub fetch_bytes_max: usize,
    /// `max.incremental.fetch.session.cache.slots`.
    pub fetch_sessions_max: usize,
    /// `max.request.partition.size.limit`.
    pub described_partitions_max: usize,

    /// `offsets.topic.num.partitions`.
    pub offsets_partitions_count: i32,
    /// `offsets.topic.replication.factor`.
    pub offsets_replication_factor: i16,
    /// `offsets.topic.segment.bytes`.
    pub offsets_segment_bytes: u64,
    /// `offsets.retention.minutes`.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval: Duration,
    /// `offsets.commit.timeout.ms`.
    pub offsets_commit_timeout: Duration,
    /// `offsets.damage.accept`.
    pub is_offsets_damage_accepted: bool,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_bytes_max: usize,
    /// `group.initial.rebalance.delay.ms`.
    pub group_initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`.
    pub group_session_timeout_min: Duration,
    /// `group.max.session.timeout.ms`.
    pub group_session_timeout_max: Duration,
    /// `group.max.size`.
    pub group_size_max: usize,

    /// `log.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
    /// `log.initial.task.delay.ms`.
    pub retention_check_delay: Duration,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration: Duration,
    /// `telemetry.max.bytes`.
    pub telemetry_bytes_max: usize,
    /// `log.journal.bytes`.
    pub journal_bytes: u64,
    /// `log.journal.file.bytes`.
    pub journal_file_bytes: u64,
    /// `log.space.reserve.bytes`.
    pub space_reserve: u64,
    /// `log.scrub.bytes.per.second`; `None`: nothing is scrubbed.
    pub scrub_rate: Option<u64>,
    /// `log.scrub.interval.ms`.
    pub scrub_interval: Duration,
    /// `disk.sync.timeout.ms`.
    pub disk_sync_timeout: Duration,

    /// `broker.heartbeat.interval.ms`.
    pub heartbeat_interval: Duration,
    /// `broker.session.timeout.ms`.
    pub broker_session_timeout: Duration,
    /// `replica.lag.time.max.ms`.
    pub replica_lag_max: Duration,
    /// `replica.fetch.wait.max.ms`.
    pub replica_fetch_wait: Duration,
    /// `replica.fetch.max.bytes`.
    pub replica_fetch_bytes: usize,
    /// `replica.fetch.response.max.bytes`.
    pub replica_response_bytes: usize,
    /// `metadata.log.max.record.bytes.between.snapshots`.
    pub metadata_snapshot_bytes: u64,
    /// `metadata.log.max.snapshot.interval.ms`; `None`: time alone is no reason.
    pub metadata_snapshot_interval: Option<Duration>,
    /// `replication.move.bytes.per.second`; `None` is no limit.
    pub move_rate: Option<u64>,
    /// `auto.balance`.
    pub is_auto_balance_on: bool,
    /// `auto.leader.rebalance.enable` and `leader.imbalance.check.interval.seconds`; `None`: leaders stay where they are.
    pub leader_rebalance_interval: Option<Duration>,
    /// `cordoned.log.dirs`: paths of log directories, or `*` for all.
    pub cordoned: Vec<String>,
    /// `leader.replication.throttled.rate` in bytes per second; `None` is no limit.
    pub leader_throttle: Option<u64>,
    /// `follower.replication.throttled.rate` in bytes per second; `None` is no limit.
    pub follower_throttle: Option<u64>,
    /// `controller.quorum.auto.join.enable`.
    pub quorum_auto_join: bool,
    /// `controller.quorum.election.timeout.ms`.
    pub quorum_election_timeout: Duration,
    /// `controller.quorum.fetch.timeout.ms`.
    pub quorum_fetch_timeout: Duration,
    /// `controller.quorum.request.timeout.ms`.
    pub quorum_request_timeout: Duration,
    /// `controller.quorum.retry.backoff.ms`.
    pub quorum_retry_backoff: Duration,
}

impl BrokerSettings {
    /// Settings from `server.properties` and command line. Also notices for the operator about keys that change nothing.
    /// All errors are given at once.
    pub fn parse(
        values: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(BrokerSettings, Vec<String>), Vec<ConfigError>> {
        let values: ConfigMap = values
            .into_iter()
            .map(|(name, value)| (name.as_str().into(), value.trim().into()))
            .collect();
        let notices = check_static(&values)?;
        Ok((BrokerSettings::resolve(NodeConfigs::fixed(values)), notices))
    }

    /// Settings from layers that were checked before; again after a change at run time.
    pub fn resolve(node: NodeConfigs) -> BrokerSettings {
        let get = Lookup(&node);
        BrokerSettings {
            topic_defaults: TopicSettings::resolve(&ConfigMap::new(), &node),
            is_auto_create_on: get.flag("auto.create.topics.enable"),
            is_topic_deletion_on: get.flag("delete.topic.enable"),
            partitions_count: get.integer("num.partitions") as i32,
            replication_factor: get.integer("default.replication.factor") as i16,
            rack: node.value("broker.rack").map(str::to_owned),
            sends_readers_nearby: node
                .value("replica.selector.class")
                .is_some_and(|class| class.trim() == RACK_AWARE),
            request_bytes_max: get.size("socket.request.max.bytes"),
            queued_requests_max: get.size("queued.max.requests"),
            queued_request_bytes_max: usize::try_from(get.integer("queued.max.request.bytes")).ok(),
            connections_max: get.size("max.connections"),
            connections_per_ip: get.size("max.connections.per.ip"),
            connections_per_ip_overrides: overrides(
                node.value("max.connections.per.ip.overrides").unwrap_or_default(),
            ),
            connections_idle_max: get.duration_or_never("connections.max.idle.ms"),
            request_slow: get.duration_or_never("request.slow.log.ms"),
            fetch_bytes_max: get.size("fetch.max.bytes"),
            fetch_sessions_max: get.size("max.incremental.fetch.session.cache.slots"),
            described_partitions_max: get.size("max.request.partition.size.limit"),
            offsets_partitions_count: get.integer("offsets.topic.num.partitions") as i32,
            offsets_replication_factor: get.integer("offsets.topic.replication.factor") as i16,
            offsets_segment_bytes: get.size("offsets.topic.segment.bytes") as u64,
            offsets_retention: Duration::from_secs(
                60 * get.size("offsets.retention.minutes") as u64,
            ),
            offsets_retention_check_interval: get.duration("offsets.retention.check.interval.ms"),
            offsets_commit_timeout: get.duration("offsets.commit.timeout.ms"),
            is_offsets_damage_accepted: get.flag("offsets.damage.accept"),
            offset_metadata_bytes_max: get.size("offset.metadata.max.bytes"),
            group_initial_rebalance_delay: get.duration("group.initial.rebalance.delay.ms"),
            group_session_timeout_min: get.duration("group.min.session.timeout.ms"),
            group_session_timeout_max: get.duration("group.max.session.timeout.ms"),
            group_size_max: get.size("group.max.size"),
            retention_check_interval: get.duration("log.retention.check.interval.ms"),
            retention_check_delay: get.duration("log.initial.task.delay.ms"),
            producer_id_expiration: get.duration("producer.id.expiration.ms"),
            telemetry_bytes_max: get.size("telemetry.max.bytes"),
            journal_bytes: get.size("log.journal.bytes") as u64,
            journal_file_bytes: get.size("log.journal.file.bytes") as u64,
            space_reserve: get.size("log.space.reserve.bytes") as u64,
            scrub_rate: Some(get.size("log.scrub.bytes.per.second") as u64)
                .filter(|rate| *rate > 0),
            scrub_interval: get.duration("log.scrub.interval.ms"),
            disk_sync_timeout: get.duration("disk.sync.timeout.ms"),
            heartbeat_interval: get.duration("broker.heartbeat.interval.ms"),
            broker_session_timeout: get.duration("broker.session.timeout.ms"),
            replica_lag_max: get.duration("replica.lag.time.max.ms"),
            replica_fetch_wait: get.duration("replica.fetch.wait.max.ms"),
            replica_fetch_bytes: get.size("replica.fetch.max.bytes"),
            replica_response_bytes: get.size("replica.fetch.response.max.bytes"),
            metadata_snapshot_bytes: get.size("metadata.log.max.record.bytes.between.snapshots")
                as u64,
            metadata_snapshot_interval: Some(get.duration("metadata.log.max.snapshot.interval.ms"))
                .filter(|interval| !interval.is_zero()),
            move_rate: Some(get.size("replication.move.bytes.per.second") as u64)
                .filter(|rate| *rate > 0),
            is_auto_balance_on: get.flag("auto.balance"),
            leader_rebalance_interval: Some(Duration::from_secs(
                get.size("leader.imbalance.check.interval.seconds") as u64,
            ))
            .filter(|_| get.flag("auto.leader.rebalance.enable")),
            cordoned: split_list(node.value("cordoned.log.dirs").unwrap_or_default())
                .map(str::to_owned)
                .collect(),
            leader_throttle: throttle(get.integer("leader.replication.throttled.rate")),
            follower_throttle: throttle(get.integer("follower.replication.throttled.rate")),
            quorum_auto_join: get.flag("controller.quorum.auto.join.enable"),
            quorum_election_timeout: get.duration("controller.quorum.election.timeout.ms"),
            quorum_fetch_timeout: get.duration("controller.quorum.fetch.timeout.ms"),
            quorum_request_timeout: get.duration("controller.quorum.request.timeout.ms"),
            quorum_retry_backoff: get.duration("controller.quorum.retry.backoff.ms"),
            node,
        }
    }

    /// Value of any broker key in force, as text: for keys that others read (`listeners`, `log.dirs`).
    pub fn value(&self, name: &str) -> Option<&str> {
        self.node.value(name)
    }

    /// What a topic with these values of its own gets.
    pub fn topic(&self, own: &ConfigMap) -> TopicSettings {
        TopicSettings::resolve(own, &self.node)
    }

    /// Default durability of topics.
    pub fn durability(&self) -> Durability {
        self.topic_defaults.durability
    }

    /// Connections that the broker takes from `address`.
    pub fn connections_per_ip_max(&self, address: IpAddr) -> usize {
        let found = self.connections_per_ip_overrides.iter().find(|(host, _)| *host == address);
        found.map_or(self.connections_per_ip, |(_, limit)| *limit)
    }
}

impl Default for BrokerSettings {
    fn default() -> BrokerSettings {
        BrokerSettings::resolve(NodeConfigs::default())
    }
}

/// `ADDRESS:COUNT,...`; an address of version 6 has colons of its own, and brackets if its author likes.
pub(super) fn parse_override(item: &str) -> Option<(IpAddr, usize)> {
    let (host, count) = item.rsplit_once(':')?;
    let host = host.trim();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let address: IpAddr = host.parse().ok()?;
    Some((address.to_canonical(), count.trim().parse().ok()?))
}

fn overrides(text: &str) -> Vec<(IpAddr, usize)> {
    split_list(text).filter_map(parse_override).collect()
}

struct Lookup<'a>(&'a NodeConfigs);

impl Lookup<'_> {
    fn integer(&self, name: &str) -> i64 {
        let key = find(BROKER, name).expect("settings name keys of the table");
        let set = self.0.set_value(name).and_then(|value| parse_integer(value.trim()));
        set.or_else(|| parse_integer(key.default?)).unwrap_or(0)
    }

    fn size(&self, name: &str) -> usize {
        self.integer(name).max(0) as usize
    }

    fn flag(&self, name: &str) -> bool {
        let key = find(BROKER, name).expect("settings name keys of the table");
        let set = self.0.set_value(name).and_then(|value| parse_bool(value.trim()));
        set.or_else(|| parse_bool(key.default?)).unwrap_or(false)
    }

    fn duration(&self, name: &str) -> Duration {
        Duration::from_millis(self.integer(name).max(0) as u64)
    }

    fn duration_or_never(&self, name: &str) -> Option<Duration> {
        u64::try_from(self.integer(name)).ok().map(Duration::from_millis)
    }
}
/// A rate; the largest there is stands for none.
fn throttle(rate: i64) -> Option<u64> {
    u64::try_from(rate).ok().filter(|_| rate != i64::MAX)
}
