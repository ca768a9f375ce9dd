//! Whether values may be set: at the start, on a topic, on a broker, on a group.

use super::broker::parse_override;
use super::client_metrics::parse_match;
use super::key::{Class, ConfigError, ConfigKey, Update, split_list};
use super::layers::ConfigMap;
use super::table::{BROKER, CLIENT_METRICS, GROUP, TOPIC, find, nearest};

/// Prefix of keys for one listener, as in `listener.name.external.ssl.client.auth`.
const LISTENER_PREFIX: &str = "listener.name.";

/// Keys that Kafka's own plug-ins read and its table does not list; all touch security.
const PLUG_IN_KEYS: [&str; 2] = ["super.users", "allow.everyone.if.no.acl.found"];

/// Checks the values of `server.properties`. Notices for the operator, or everything that is wrong.
pub fn check_static(values: &ConfigMap) -> Result<Vec<String>, Vec<ConfigError>> {
    let mut notices = Vec::new();
    let mut errors = Vec::new();
    for (name, value) in values {
        let checked = match find(BROKER, name) {
            Some(key) => key.check(value).and_then(|()| check_present(key, value)).map(|()| key),
            None => Err(unknown_static(name)),
        };
        match checked {
            Ok(key) => notices.extend(key.notice(value)),
            Err(error) => errors.push(error),
        }
    }
    errors.extend(check_relations(values).err());
    notices.extend(larger_than_a_request(values));
    if errors.is_empty() { Ok(notices) } else { Err(errors) }
}

fn unknown_static(name: &str) -> ConfigError {
    if name.starts_with(LISTENER_PREFIX) || PLUG_IN_KEYS.contains(&name) {
        let what = format!("{name} touches security and is not there yet");
        return ConfigError::NotThereYet { name: name.to_owned(), what };
    }
    ConfigError::Unknown { of: "", name: name.to_owned(), nearest: nearest(BROKER, name) }
}

/// Refuses what is promised and missing, where going on without it would break a promise.
fn check_present(key: &ConfigKey, value: &str) -> Result<(), ConfigError> {
    let not_there = |what: String| ConfigError::NotThereYet { name: key.name.to_owned(), what };
    if matches!(key.name, "cleanup.policy" | "log.cleanup.policy")
        && split_list(value).any(|policy| policy == "compact")
    {
        return Err(not_there(format!("{}={value}: compaction is not there yet", key.name)));
    }
    if key.name == "max.connections.per.ip.overrides" {
        let bad = split_list(value).find(|item| parse_override(item).is_none());
        return bad.map_or(Ok(()), |item| {
            Err(ConfigError::Invalid {
                name: key.name.to_owned(),
                value: item.to_owned(),
                expected: "ADDRESS:COUNT, separated by commas; names are not looked up".to_owned(),
            })
        });
    }
    match key.class {
        Class::Missing { refuse: true } if !key.is_default(value) => Err(not_there(format!(
            "{} is not there yet: with this value a promise would be broken; remove it to go on without",
            key.name
        ))),
        _ => Ok(()),
    }
}

/// A limit for batches that no request can reach: harmless, and Kafka starts with it too.
fn larger_than_a_request(values: &ConfigMap) -> Option<String> {
    let (batch, request) = ("message.max.bytes", "socket.request.max.bytes");
    let (batch_bytes, request_bytes) = (number(values, batch)?, number(values, request)?);
    (batch_bytes > request_bytes).then(|| {
        format!("{batch}={batch_bytes}: a request is at most {request}, which is {request_bytes}")
    })
}

/// The number set for `name`, or the table's default.
fn number(values: &ConfigMap, name: &str) -> Option<i64> {
    let set = values.get(name).map(|value| value.trim());
    set.or_else(|| find(BROKER, name)?.default)?.parse().ok()
}

/// Values that must agree with one another.
fn check_relations(values: &ConfigMap) -> Result<(), ConfigError> {
    let at_most = |low: &str, high: &str| match (number(values, low), number(values, high)) {
        (Some(less), Some(more)) if less > more => Err(ConfigError::Invalid {
            name: low.to_owned(),
            value: less.to_string(),
            expected: format!("at most {high}, which is {more}"),
        }),
        _ => Ok(()),
    };
    at_most("group.min.session.timeout.ms", "group.max.session.timeout.ms")?;
    at_most("log.journal.file.bytes", "log.journal.bytes")?;
    let (limit, exceptions) = ("max.connections.per.ip", "max.connections.per.ip.overrides");
    if number(values, limit) == Some(0) && values.get(exceptions).is_none_or(|set| set.is_empty()) {
        return Err(ConfigError::Invalid {
            name: limit.to_owned(),
            value: "0".to_owned(),
            expected: format!("at least 1, unless {exceptions} is set"),
        });
    }
    Ok(())
}

/// Checks values that a user sets on a topic, the whole of them after a change.
pub fn check_topic(values: &ConfigMap) -> Result<(), ConfigError> {
    for (name, value) in values {
        check_present(check_topic_value(name, value)?, value)?;
    }
    Ok(())
}

/// Checks values of one of the broker's own topics: they may ask for compaction, without which they only grow, and are
/// synced whatever anyone says.
pub fn check_internal_topic(values: &ConfigMap) -> Result<(), ConfigError> {
    for (name, value) in values {
        let key = check_topic_value(name, value)?;
        match key.name {
            "cleanup.policy" => {}
            "durability" if value.trim() != "sync" => {
                return Err(ConfigError::Invalid {
                    name: name.to_string(),
                    value: value.to_string(),
                    expected: "sync: others rely on what this topic remembers".to_owned(),
                });
            }
            _ => check_present(key, value)?,
        }
    }
    Ok(())
}

fn check_topic_value(name: &str, value: &str) -> Result<&'static ConfigKey, ConfigError> {
    let key = find(TOPIC, name).ok_or_else(|| unknown("topic ", name, TOPIC))?;
    key.check(value)?;
    // A topic that asks for something we lack gets an error, not a surprise.
    check_missing(key, value)?;
    Ok(key)
}

/// Checks values that a user sets at run time on one broker, or on all (`per_broker` false).
pub fn check_broker(values: &ConfigMap, per_broker: bool) -> Result<(), ConfigError> {
    for (name, value) in values {
        let key = find(BROKER, name).ok_or_else(|| unknown("", name, BROKER))?;
        let cannot = |reason| ConfigError::CannotUpdate { name: name.to_string(), reason };
        match key.update {
            Update::ReadOnly => return Err(cannot("Cannot update these configs dynamically")),
            Update::PerBroker if !per_broker => {
                return Err(cannot(
                    "Cannot update these configs at default cluster level, broker id must be specified",
                ));
            }
            Update::PerBroker | Update::ClusterWide => {}
        }
        key.check(value)?;
        check_missing(key, value)?;
        check_present(key, value)?;
    }
    Ok(())
}

/// Checks values that a user sets on a group.
pub fn check_group(values: &ConfigMap) -> Result<(), ConfigError> {
    for (name, value) in values {
        let key = find(GROUP, name).ok_or_else(|| unknown("group ", name, GROUP))?;
        key.check(value)?;
        check_missing(key, value)?;
    }
    Ok(())
}

/// Checks values that a user sets on a subscription to client metrics.
pub fn check_client_metrics(values: &ConfigMap) -> Result<(), ConfigError> {
    for (name, value) in values {
        let of = "client metrics ";
        let key = find(CLIENT_METRICS, name).ok_or_else(|| unknown(of, name, CLIENT_METRICS))?;
        key.check(value)?;
        if key.name == "match"
            && let Some(item) = split_list(value).find(|item| parse_match(item).is_none())
        {
            return Err(ConfigError::Invalid {
                name: name.to_string(),
                value: item.to_owned(),
                expected: "LABEL=PATTERN for labels that clients have".to_owned(),
            });
        }
    }
    Ok(())
}

fn check_missing(key: &ConfigKey, value: &str) -> Result<(), ConfigError> {
    match key.class {
        Class::Missing { .. } if !key.is_default(value) => Err(ConfigError::NotThereYet {
            name: key.name.to_owned(),
            what: format!("{} is not there yet", key.name),
        }),
        _ => Ok(()),
    }
}

fn unknown(of: &'static str, name: &str, table: &'static [ConfigKey]) -> ConfigError {
    ConfigError::Unknown { of, name: name.to_owned(), nearest: nearest(table, name) }
}
