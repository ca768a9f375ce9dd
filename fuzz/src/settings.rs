//! What people write: configuration files, settings, command lines.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::Parser;
use cluster::config::{
    self, BrokerSettings, ConfigMap, NodeConfigs, TopicSettings, check_broker, check_group,
    check_internal_topic, check_topic,
};
use server::properties;
use server::{cli::Cli, node};

/// A file in Java's properties form: what was read is written and read again.
pub(crate) fn server_properties(data: &[u8]) {
    let Ok(entries) = properties::parse(&properties::decode(data)) else { return };
    let mut text = String::new();
    for entry in &entries {
        let escaped = |part: &str| {
            let mut out = String::new();
            for unit in part.encode_utf16() {
                write!(out, "\\u{unit:04x}").expect("a string takes all");
            }
            out
        };
        writeln!(text, "{}={}", escaped(&entry.key), escaped(&entry.value)).expect("as above");
    }
    let again = properties::parse(&text).expect("what was escaped can be read");
    let pairs = |entries: Vec<properties::Entry>| {
        entries.into_iter().map(|entry| (entry.key, entry.value)).collect::<Vec<_>>()
    };
    // A line that is nothing but a separator has an empty key.
    assert_eq!(pairs(again), pairs(entries));
}

/// Settings of topics, brokers and groups, one `key=value` a line: what is accepted can be used, and is accepted when it
/// is read back.
pub(crate) fn settings(data: &[u8]) {
    let Ok(entries) = properties::parse(&properties::decode(data)) else { return };
    let values: ConfigMap = entries
        .iter()
        .map(|entry| (entry.key.as_str().into(), entry.value.as_str().into()))
        .collect();
    for (name, value) in &values {
        for table in [config::BROKER, config::TOPIC, config::GROUP] {
            if let Some(key) = config::find(table, name) {
                let _ = (key.expected(), key.notice(value), key.is_default(value));
                if key.check(value).is_ok() {
                    assert_eq!(key.check(value.trim()), Ok(()), "{name}={value:?} without blanks");
                }
            }
        }
    }
    let fixed = NodeConfigs::fixed(ConfigMap::new());
    for check in [check_topic, check_internal_topic] {
        if check(&values).is_ok() {
            let _ = TopicSettings::resolve(&values, &fixed).produce_rules();
            let _ = fixed.describe_topic(&values);
        }
    }
    if check_group(&values).is_ok() {
        let _ = fixed.describe_group(&values);
    }
    for per_broker in [false, true] {
        if check_broker(&values, per_broker).is_ok() {
            let _ = BrokerSettings::resolve(NodeConfigs::fixed(values.clone()));
        }
    }
    let keys: BTreeMap<String, String> =
        entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
    if let Ok((settings, _)) = BrokerSettings::parse(keys.clone()) {
        let _ = settings.topic(&ConfigMap::new()).produce_rules();
    }
    // Names are looked up: a body asks nobody.
    let asks = |(key, value): (&String, &String)| {
        let word = value.replace("PLAINTEXT", "").replace("localhost", "");
        (key.contains("listen") || key.contains("host")) && word.contains(char::is_alphabetic)
    };
    if !keys.iter().any(asks) {
        let _ = node::plan(&keys, None);
    }
}

/// A command line, one word a line. Every time, size and offset is read while it is parsed.
pub(crate) fn command_line(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = Cli::try_parse_from(std::iter::once("foretold").chain(text.split('\n')));
}
