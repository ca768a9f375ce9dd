//! Keys of real files, layers of values, refusals that name the nearest key. `docs/configuration.md` is written from the
//! tables: run with `UPDATE_EXPECT=1` after a change of one, and read the difference.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use record::{Compression, TimestampType};

use super::*;
use crate::stories::{is_update, write};

fn map(values: &[(&str, &str)]) -> ConfigMap {
    values.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

fn parse(values: &[(&str, &str)]) -> Result<(BrokerSettings, Vec<String>), Vec<ConfigError>> {
    BrokerSettings::parse(values.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())))
}

fn first_error(values: &[(&str, &str)]) -> String {
    parse(values).unwrap_err()[0].to_string()
}

#[test]
fn tables_are_sorted_and_their_defaults_pass_their_own_checks() {
    for table in [BROKER, TOPIC, GROUP, CLIENT_METRICS] {
        for pair in table.windows(2) {
            assert!(pair[0].name < pair[1].name, "{} {}", pair[0].name, pair[1].name);
        }
        for key in table {
            if let Some(default) = key.default
                && !(key.range == Range::NotEmpty && default.is_empty())
            {
                assert_eq!(key.check(default), Ok(()), "{}", key.name);
            }
            assert!(key.help.ends_with('.') && key.help.len() > 10, "{}", key.name);
            for synonym in key.synonyms {
                assert!(find(BROKER, synonym).is_some(), "{synonym} of {}", key.name);
            }
        }
    }
}

#[test]
fn a_topics_default_equals_the_default_of_the_broker_keys_behind_it() {
    let node = NodeConfigs::default();
    for key in TOPIC.iter().filter(|key| !key.synonyms.is_empty()) {
        let from_broker = key.synonyms.iter().rev().find_map(|name| {
            let value = find(BROKER, name)?.default?;
            let fixed = NodeConfigs::fixed(map(&[(name, value)]));
            fixed.inherited(key)
        });
        let own = node.resolve(key, &ConfigMap::new());
        assert_eq!(from_broker, own, "{}", key.name);
    }
}

#[test]
fn kafkas_stock_server_properties_starts() {
    let stock = [
        ("process.roles", "broker,controller"),
        ("node.id", "1"),
        ("controller.quorum.bootstrap.servers", "localhost:9093"),
        ("listeners", "PLAINTEXT://:9092,CONTROLLER://:9093"),
        ("inter.broker.listener.name", "PLAINTEXT"),
        ("advertised.listeners", "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093"),
        ("controller.listener.names", "CONTROLLER"),
        (
            "listener.security.protocol.map",
            "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL",
        ),
        ("num.network.threads", "3"),
        ("num.io.threads", "8"),
        ("socket.send.buffer.bytes", "102400"),
        ("socket.receive.buffer.bytes", "102400"),
        ("socket.request.max.bytes", "104857600"),
        ("log.dirs", "/tmp/kraft-combined-logs"),
        ("num.partitions", "1"),
        ("num.recovery.threads.per.data.dir", "2"),
        ("offsets.topic.replication.factor", "1"),
        ("share.coordinator.state.topic.replication.factor", "1"),
        ("share.coordinator.state.topic.min.isr", "1"),
        ("transaction.state.log.replication.factor", "1"),
        ("transaction.state.log.min.isr", "1"),
        ("log.retention.hours", "168"),
        ("log.segment.bytes", "1073741824"),
        ("log.retention.check.interval.ms", "300000"),
    ];
    let (settings, notices) = parse(&stock).expect("it starts unchanged");
    assert_eq!(settings.offsets_replication_factor, 1);
    assert!(notices.iter().all(|notice| !notice.contains("num.network.threads")), "{notices:?}");
}

/// Kafka's own tests and those of its clients run brokers with such a limit.
#[test]
fn a_batch_limit_that_no_request_reaches_is_noticed() {
    let (settings, notices) = parse(&[("message.max.bytes", "200000000")]).expect("it starts");
    assert_eq!(settings.topic_defaults.batch_bytes_max, 200_000_000);
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].contains("socket.request.max.bytes, which is 104857600"), "{notices:?}");
}

#[test]
fn retention_takes_the_finest_unit_that_is_set() {
    let retention = |values: &[(&str, &str)]| parse(values).unwrap().0.topic_defaults.retention;
    let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
    assert_eq!(retention(&[]), hours(168));
    assert_eq!(retention(&[("log.retention.hours", "2")]), hours(2));
    let both = [("log.retention.hours", "2"), ("log.retention.minutes", "30")];
    assert_eq!(retention(&both), Some(Duration::from_secs(1800)));
    let all = [both[0], both[1], ("log.retention.ms", "5000")];
    assert_eq!(retention(&all), Some(Duration::from_secs(5)));
    assert_eq!(retention(&[("log.retention.hours", "-1")]), None);
    assert_eq!(retention(&[("log.retention.ms", "-1"), ("log.retention.hours", "2")]), None);
    for key in ["log.retention.hours", "log.retention.minutes", "log.retention.ms"] {
        let error = first_error(&[(key, "0")]);
        assert!(
            error.ends_with("that is not 0"),
            "as in Kafka, nothing is kept for no time: {error}"
        );
        assert_eq!(retention(&[(key, "-2")]), None);
    }
    let rolled = parse(&[("log.roll.hours", "1")]).unwrap().0.topic_defaults.segment_age;
    assert_eq!(rolled, Duration::from_secs(3600));
}

#[test]
fn layers_win_from_the_topic_down() {
    let mut node = NodeConfigs::fixed(map(&[("log.retention.hours", "1")]));
    let own = map(&[("retention.ms", "7")]);
    let millis = |own: &ConfigMap, node: &NodeConfigs| {
        TopicSettings::resolve(own, node).retention.unwrap().as_millis()
    };
    assert_eq!(millis(&own, &node), 7);
    assert_eq!(millis(&ConfigMap::new(), &node), 3_600_000);
    node.cluster = map(&[("log.retention.ms", "9")]).into();
    assert_eq!(millis(&ConfigMap::new(), &node), 9);
    node.broker = map(&[("log.retention.ms", "8")]).into();
    assert_eq!(millis(&ConfigMap::new(), &node), 8);

    let own = map(&[("retention.ms", " +7")]);
    let described = node.describe_topic(&own);
    let retention = described.iter().find(|d| d.key.name == "retention.ms").unwrap();
    assert_eq!((retention.value.as_deref(), retention.source), (Some("7"), Source::Topic));
    let shown: Vec<_> = retention
        .synonyms
        .iter()
        .map(|s| (s.name, s.value.clone().unwrap_or_default(), s.source))
        .collect();
    assert_eq!(
        shown,
        [
            ("retention.ms", " +7".to_owned(), Source::Topic),
            ("log.retention.ms", "8".to_owned(), Source::Broker),
            ("log.retention.ms", "9".to_owned(), Source::Cluster),
            ("log.retention.hours", "1".to_owned(), Source::Static),
            ("log.retention.hours", "168".to_owned(), Source::Default),
        ],
        "each as it was written"
    );
    let described = node.describe_topic(&ConfigMap::new());
    let retention = described.iter().find(|d| d.key.name == "retention.ms").unwrap();
    assert_eq!((retention.value.as_deref(), retention.source), (Some("8"), Source::Broker));
}

#[test]
fn synonyms_are_those_that_kafka_tells() {
    let told = |described: Vec<Described>, name: &str| {
        let found = described.into_iter().find(|one| one.key.name == name).unwrap();
        let told = found.synonyms.into_iter();
        told.map(|s| format!("{:?} {}={}", s.source, s.name, s.value.unwrap())).collect::<Vec<_>>()
    };
    let mut node = NodeConfigs::fixed(map(&[("log.retention.minutes", "3")]));
    assert_eq!(told(node.describe_broker(), "log.retention.ms"), [""; 0], "it has no value");
    node.cluster = map(&[("log.retention.ms", "9")]).into();
    assert_eq!(
        told(node.describe_broker(), "log.retention.ms"),
        [
            "Cluster log.retention.ms=9",
            "Static log.retention.minutes=3",
            "Default log.retention.hours=168"
        ]
    );
    assert_eq!(
        told(node.describe_broker(), "log.retention.hours"),
        ["Default log.retention.hours=168"]
    );
    let none = ConfigMap::new();
    assert_eq!(told(node.describe_topic(&none), "remote.log.copy.disable"), [""; 0]);
    assert_eq!(
        told(node.describe_group(&none), "share.auto.offset.reset"),
        ["Default share.auto.offset.reset=latest"]
    );
}

#[test]
fn typed_settings_of_a_topic() {
    let own = map(&[
        ("durability", "page-cache"),
        ("compression.type", "zstd"),
        ("compression.zstd.level", "7"),
        ("message.timestamp.type", "LogAppendTime"),
        ("max.message.bytes", "123"),
        ("retention.bytes", "-1"),
        ("internal.segment.bytes", "4096"),
        ("flush.messages", "1"),
    ]);
    assert_eq!(check_topic(&own), Ok(()));
    let settings = TopicSettings::resolve(&own, &NodeConfigs::default());
    assert_eq!(settings.durability, Durability::PageCache);
    assert_eq!(settings.codec.map(|codec| codec.compression()), Some(Compression::Zstd));
    assert_eq!(settings.timestamp_type, TimestampType::AppendTime);
    assert_eq!(settings.batch_bytes_max, 123);
    assert_eq!(settings.retention_bytes, None);
    assert_eq!(settings.segment_bytes, 4096);
    assert_eq!(settings.flush_records, Some(1));
    let defaults = TopicSettings::default();
    assert_eq!(defaults.flush_records, None);
    assert_eq!(defaults.flush_interval, None);
    assert_eq!(defaults.timestamp_before_max, None);
    assert_eq!(defaults.timestamp_after_max, Some(Duration::from_secs(3600)));
    assert_eq!(defaults.codec, None);
    assert_eq!(defaults.durability, Durability::Sync);
    assert!(defaults.is_deleted && !defaults.is_compacted);
}

#[test]
fn errors_say_what_to_do() {
    assert_eq!(
        first_error(&[("log.retention.hour", "1")]),
        "Unknown config name: log.retention.hour (did you mean log.retention.hours?)"
    );
    assert_eq!(first_error(&[("zzz", "1")]), "Unknown config name: zzz");
    assert_eq!(
        first_error(&[("num.partitions", "0")]),
        "Invalid value 0 for configuration num.partitions: must be a whole number from 1 to 2147483647"
    );
    assert_eq!(
        first_error(&[("log.segment.bytes", "1k")]),
        "Invalid value 1k for configuration log.segment.bytes: must be a whole number of bytes from 1048576 to 2147483647"
    );
    let hidden = first_error(&[("log.cleanup.policy", "compact")]);
    assert_eq!(hidden, "log.cleanup.policy=compact: compaction is not there yet");
    assert!(first_error(&[("ssl.keystore.location", "/x")]).contains("is not there yet"));
    assert!(first_error(&[("super.users", "User:a")]).contains("security"));
    assert!(first_error(&[("listener.name.a.sasl.jaas.config", "x")]).contains("security"));
    assert!(first_error(&[("group.min.session.timeout.ms", "9999999")]).contains("at most"));
    let selector = first_error(&[("replica.selector.class", "com.example.Nearest")]);
    assert!(selector.contains("must be empty, or org.apache.kafka.common.replica.RackAware"));
    assert!(parse(&[("replica.selector.class", "")]).is_ok());
    assert!(first_error(&[("max.connections.per.ip.overrides", "a")]).contains("ADDRESS:COUNT"));
    let name = [("max.connections.per.ip.overrides", "localhost:5")];
    assert!(first_error(&name).contains("not looked up"), "never a limit that limits nobody");
    assert!(first_error(&[("max.connections.per.ip", "0")]).contains("unless"));
    let both = parse(&[("zzz", "1"), ("num.partitions", "x")]).unwrap_err();
    assert_eq!(both.len(), 2, "all errors at once");
}

#[test]
fn what_is_not_there_yet_is_refused_on_topics_unless_it_asks_for_nothing() {
    let check = |name: &str, value: &str| check_topic(&map(&[(name, value)]));
    assert!(check("cleanup.policy", "compact").is_err());
    assert!(check("cleanup.policy", "compact,delete").is_err());
    assert_eq!(check("cleanup.policy", "delete"), Ok(()));
    assert_eq!(check("cleanup.policy", ""), Ok(()));
    assert!(check("remote.storage.enable", "true").is_err());
    assert_eq!(check("remote.storage.enable", "false"), Ok(()));
    assert_eq!(check("delete.retention.ms", "5"), Ok(()), "counts for compacted topics only");
    assert!(check("retention.ms", "-2").is_err());
    assert!(check("segment.bytes", "1000").is_err());
    assert!(check("compression.type", "lzma").is_err());
}

#[test]
fn run_time_changes_of_brokers_keep_to_their_level() {
    let values = map(&[("log.retention.ms", "5")]);
    assert_eq!(check_broker(&values, false), Ok(()));
    assert_eq!(check_broker(&values, true), Ok(()));
    let listeners = map(&[("listeners", "PLAINTEXT://:1")]);
    assert!(matches!(check_broker(&listeners, false), Err(ConfigError::CannotUpdate { .. })));
    let fixed = map(&[("num.partitions", "5")]);
    assert!(matches!(check_broker(&fixed, true), Err(ConfigError::CannotUpdate { .. })));
}

#[test]
fn secrets_are_never_shown() {
    let node = NodeConfigs::fixed(map(&[("ssl.key.password", "hush"), ("node.id", "3")]));
    let described = node.describe_broker();
    let secret = described.iter().find(|d| d.key.name == "ssl.key.password").unwrap();
    assert_eq!((secret.value.as_deref(), secret.source), (None, Source::Static));
    assert!(secret.synonyms.iter().all(|synonym| synonym.value.is_none()));
    let error = first_error(&[("ssl.key.password", "hush")]);
    assert!(!error.contains("hush"), "{error}");
}

#[test]
fn limits_per_address() {
    let (settings, _) = parse(&[
        ("max.connections.per.ip", "9"),
        ("max.connections.per.ip.overrides", "::1:5, [::2]:6, 10.0.0.1:2, 0:0:0:0:0:0:0:3:7"),
    ])
    .unwrap();
    assert_eq!(settings.connections_per_ip_max("::1".parse().unwrap()), 5);
    assert_eq!(settings.connections_per_ip_max("::2".parse().unwrap()), 6);
    assert_eq!(
        settings.connections_per_ip_max("::3".parse().unwrap()),
        7,
        "an address, not its text"
    );
    assert_eq!(settings.connections_per_ip_max("10.0.0.1".parse().unwrap()), 2);
    assert_eq!(settings.connections_per_ip_max("10.0.0.2".parse().unwrap()), 9);
}

/// Keys that no node resolves for itself: the controller decides by them (`controller::change`, tested there).
const READ_BY_CONTROLLERS: &[&str] = &["unclean.leader.election.enable"];

/// Keys that the process reads before there is a broker; `server/src/node.rs` checks them.
const READ_AT_THE_START: [&str; 14] = [
    "advertised.listeners",
    "broker.id",
    "controller.listener.names",
    "controller.quorum.bootstrap.servers",
    "controller.quorum.voters",
    "inter.broker.listener.name",
    "listener.security.protocol.map",
    "listeners",
    "log.dir",
    "log.dirs",
    "metadata.log.dir",
    "metrics.listen",
    "node.id",
    "process.roles",
];

/// A value that the key takes and that differs from its default.
fn another_value(key: &ConfigKey) -> String {
    let candidates = match key.range {
        Range::Replicas => vec!["0:1".to_owned()],
        Range::NothingOr(known) => vec![known.to_owned()],
        Range::OneOf(words) | Range::OneOfAnyCase(words) => {
            words.iter().map(|word| (*word).to_owned()).collect()
        }
        _ => {
            ["10.0.0.1:7", "true", "false", "7", "3", "0.25", "250", "2500", "1048576", "33554432"]
                .map(String::from)
                .to_vec()
        }
    };
    candidates
        .into_iter()
        .find(|value| key.check(value).is_ok() && !key.is_default(value))
        .unwrap_or_else(|| panic!("no value for {}", key.name))
}

/// Nothing is accepted, stored and ignored: what works changes what is resolved, and what does not says so.
#[test]
fn every_key_has_an_effect_or_an_answer() {
    // A level counts where its codec is chosen.
    let codec =
        |name: &str| name.strip_prefix("compression.")?.strip_suffix(".level").map(String::from);
    let resolved = |values: &ConfigMap| {
        let settings = BrokerSettings::resolve(NodeConfigs::fixed(values.clone()));
        format!("{:?}", BrokerSettings { node: NodeConfigs::default(), ..settings })
    };
    for key in BROKER {
        let value = match key.class {
            Class::Works if READ_AT_THE_START.contains(&key.name) => continue,
            Class::Works if READ_BY_CONTROLLERS.contains(&key.name) => continue,
            Class::Works => another_value(key),
            // Any other value than the default is noticed or refused.
            Class::Meaningless(_) | Class::Missing { .. } => {
                assert!(key.notice(&another_value(key)).is_some(), "{}", key.name);
                continue;
            }
        };
        let mut values = ConfigMap::new();
        values.extend(
            codec(key.name).map(|codec| ("compression.type".into(), codec.as_str().into())),
        );
        let before = resolved(&values);
        values.insert(key.name.into(), value.as_str().into());
        assert_ne!(before, resolved(&values), "{}={value} changes nothing", key.name);
    }
    let is_resolved =
        |key: &&ConfigKey| key.class == Class::Works && !READ_BY_CONTROLLERS.contains(&key.name);
    for key in TOPIC.iter().filter(is_resolved) {
        let mut own = ConfigMap::new();
        own.extend(codec(key.name).map(|codec| ("compression.type".into(), codec.as_str().into())));
        let before = TopicSettings::resolve(&own, &NodeConfigs::default());
        let value = another_value(key);
        own.insert(key.name.into(), value.as_str().into());
        let after = TopicSettings::resolve(&own, &NodeConfigs::default());
        assert_ne!(before, after, "{}={value} changes nothing", key.name);
    }
    for key in CLIENT_METRICS {
        let resolved = |own| format!("{:?}", ClientMetricsSettings::resolve(own));
        let value = if key.name == "match" { "client_id=x" } else { "250" };
        assert_ne!(resolved(&map(&[])), resolved(&map(&[(key.name, value)])), "{}", key.name);
    }
    for key in GROUP {
        assert_ne!(key.class, Class::Works, "{}: nobody resolves settings of groups yet", key.name);
    }
}

#[test]
fn levels_of_gzip_are_those_of_kafka() {
    let level = |value: &str| check_topic(&map(&[("compression.gzip.level", value)]));
    for good in ["-1", "1", "9"] {
        assert_eq!(level(good), Ok(()), "{good}");
    }
    for bad in ["0", "-2", "10"] {
        let error = level(bad).unwrap_err().to_string();
        assert!(error.contains("from 1 to 9, or -1"), "{error}");
    }
}

#[test]
fn the_page_of_all_keys_is_written_from_the_tables() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let page = page();
    if std::fs::read_to_string(&path).unwrap_or_default() == page {
        return;
    }
    assert!(
        is_update(),
        "docs/configuration.md is not what the tables say: run with UPDATE_EXPECT=1"
    );
    write(&path, &page);
}

fn page() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         Every key of Kafka 4.4 and ours, with its default and what becomes of it here. Written from\n\
         `cluster/src/config/table`; a test holds the two together.\n\n\
         - **works**: it does what is said.\n\
         - **no effect**: accepted with a line in the log, for the reason given.\n\
         - **not yet**: accepted at the start with a line in the log; on a topic or at run time it is an error.\n\
         - **refused**: any value but the default is an error: going on without it would break a promise.\n",
    );
    for (title, table) in [
        ("Brokers", BROKER),
        ("Topics", TOPIC),
        ("Groups", GROUP),
        ("Client metrics", CLIENT_METRICS),
    ] {
        let _ = write!(page, "\n## {title}\n\n| key | default | here | |\n|---|---|---|---|\n");
        for key in table.iter().filter(|key| !key.is_internal) {
            let here = match key.class {
                Class::Works => "works".to_owned(),
                Class::Meaningless(reason) => format!("no effect: {reason}"),
                Class::Missing { refuse: false } => "not yet".to_owned(),
                Class::Missing { refuse: true } => "refused".to_owned(),
            };
            let default = key.default.unwrap_or_default();
            let _ = writeln!(page, "| `{}` | {default} | {here} | {} |", key.name, key.help);
        }
    }
    page
}
