//! Layers of values, and the descriptions that clients get of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use types::encoding::Str;
use types::mutant::{Mutant, planted};

use super::key::{ConfigKey, Kind, Unit, parse_integer};
use super::table::{BROKER, CLIENT_METRICS, GROUP, TOPIC, find};

/// Values that were set, by name.
pub type ConfigMap = BTreeMap<Str, Str>;

/// Where a value comes from; the numbers are those of DescribeConfigs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(i8)]
pub enum Source {
    /// Set on the topic.
    Topic = 1,
    /// Set at run time on this broker.
    Broker = 2,
    /// Set at run time for all brokers.
    Cluster = 3,
    /// In `server.properties` or on the command line.
    Static = 4,
    /// The table's default.
    Default = 5,
    /// Set on the subscription to client metrics.
    ClientMetrics = 7,
    /// Set on the group.
    Group = 8,
}

/// One value that a key has in some layer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Synonym {
    /// Name under which it is set.
    pub name: &'static str,
    /// The value; `None` if there is none or it is a secret.
    pub value: Option<String>,
    /// The layer.
    pub source: Source,
}

/// A key and its value as clients are told.
#[derive(Clone, Debug)]
pub struct Described {
    /// The row of the table.
    pub key: &'static ConfigKey,
    /// The value in force; `None` if there is none or it is a secret.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: Source,
    /// Whether it cannot change at run time.
    pub is_read_only: bool,
    /// Every layer that has a value, the one in force first.
    pub synonyms: Vec<Synonym>,
}

/// The layers of one broker. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct NodeConfigs {
    /// From `server.properties` and the command line.
    pub fixed: Arc<ConfigMap>,
    /// Set at run time for all brokers.
    pub cluster: Arc<ConfigMap>,
    /// Set at run time for this broker.
    pub broker: Arc<ConfigMap>,
}

impl NodeConfigs {
    /// Layers of a broker that has nothing set at run time.
    pub fn fixed(values: ConfigMap) -> NodeConfigs {
        NodeConfigs { fixed: Arc::new(values), ..NodeConfigs::default() }
    }

    /// The layers, the nearest first.
    fn layers(&self) -> [(&ConfigMap, Source); 3] {
        let mut layers = [
            (&*self.broker, Source::Broker),
            (&*self.cluster, Source::Cluster),
            (&*self.fixed, Source::Static),
        ];
        if planted(Mutant::WrongLevelCounts) {
            layers.swap(0, 1);
        }
        layers
    }

    /// The value that is set for a broker key, if any.
    pub fn set_value(&self, name: &str) -> Option<&str> {
        self.layers().into_iter().find_map(|(layer, _)| layer.get(name)).map(|value| &**value)
    }

    /// The value of a broker key: what is set, else the table's default.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.set_value(name).or_else(|| find(BROKER, name).and_then(|key| key.default))
    }

    /// What a topic or group key defaults to on this broker: the first synonym that is set, in the key's unit.
    pub(super) fn inherited(&self, key: &ConfigKey) -> Option<String> {
        key.synonyms
            .iter()
            .find_map(|name| self.set_value(name).map(|value| in_unit_of(key, name, value.trim())))
    }

    /// Value of a topic or group key given what is set on the resource itself.
    pub(crate) fn resolve(&self, key: &ConfigKey, own: &ConfigMap) -> Option<String> {
        own.get(key.name)
            .map(|value| value.trim().to_owned())
            .or_else(|| self.inherited(key))
            .or_else(|| key.default.map(str::to_owned))
    }

    /// Describes a topic with these values of its own.
    pub fn describe_topic(&self, own: &ConfigMap) -> Vec<Described> {
        let keys = TOPIC.iter().filter(|key| !key.is_internal || own.contains_key(key.name));
        keys.map(|key| self.describe_resource(key, own, Source::Topic)).collect()
    }

    /// Describes a group with these values of its own.
    pub fn describe_group(&self, own: &ConfigMap) -> Vec<Described> {
        let keys = GROUP.iter().filter(|key| !key.is_internal);
        keys.map(|key| self.describe_resource(key, own, Source::Group)).collect()
    }

    /// Describes a subscription to client metrics with these values.
    pub fn describe_client_metrics(&self, own: &ConfigMap) -> Vec<Described> {
        let keys = CLIENT_METRICS.iter();
        keys.map(|key| self.describe_resource(key, own, Source::ClientMetrics)).collect()
    }

    /// Describes this broker.
    pub fn describe_broker(&self) -> Vec<Described> {
        let keys = BROKER.iter().filter(|key| !key.is_internal);
        keys.map(|key| Described {
            key,
            value: in_force(key, self.value(key.name)),
            source: self
                .layers()
                .into_iter()
                .find(|(layer, _)| layer.contains_key(key.name))
                .map_or(Source::Default, |(_, source)| source),
            is_read_only: key.update == super::Update::ReadOnly,
            synonyms: self.synonyms_of_broker(key),
        })
        .collect()
    }

    /// Describes what is set at run time for all brokers.
    pub fn describe_cluster(&self) -> Vec<Described> {
        let set = BROKER.iter().filter_map(|key| Some((key, self.cluster.get(key.name)?)));
        set.map(|(key, value)| {
            let (value, written) = (in_force(key, Some(value)), shown(key, Some(value)));
            let synonym = Synonym { name: key.name, value: written, source: Source::Cluster };
            Described {
                key,
                value,
                source: Source::Cluster,
                is_read_only: false,
                synonyms: vec![synonym],
            }
        })
        .collect()
    }

    fn describe_resource(
        &self,
        key: &'static ConfigKey,
        own: &ConfigMap,
        source: Source,
    ) -> Described {
        let set = own.get(key.name).map(|value| Synonym {
            name: key.name,
            value: shown(key, Some(value)),
            source,
        });
        let names = match key.synonyms {
            // Of keys that no broker key stands behind Kafka tells the default for groups only, by their own name.
            [] if source != Source::Group => &[],
            [] => std::slice::from_ref(&key.name),
            names => names,
        };
        let synonyms: Vec<Synonym> = set.into_iter().chain(self.synonyms(key, names)).collect();
        Described {
            key,
            value: in_force(key, self.resolve(key, own).as_deref()),
            source: synonyms.first().map_or(Source::Default, |synonym| synonym.source),
            is_read_only: false,
            synonyms,
        }
    }

    /// What a broker key would fall back to: also to keys of other units for the same (`log.retention.hours` behind
    /// `log.retention.ms`), once it has a value itself.
    fn synonyms_of_broker(&self, key: &'static ConfigKey) -> Vec<Synonym> {
        let family = TOPIC.iter().map(|topic| topic.synonyms);
        let family = family.into_iter().find(|names| names.contains(&key.name));
        let names = family.unwrap_or(std::slice::from_ref(&key.name));
        let synonyms = self.synonyms(key, names).into_iter();
        synonyms.skip_while(|synonym| synonym.name != key.name).collect()
    }

    /// Every value that is set under these names, nearest layer first, then the default; each as it was written.
    fn synonyms(&self, key: &ConfigKey, names: &'static [&'static str]) -> Vec<Synonym> {
        let mut synonyms = Vec::new();
        for (layer, source) in self.layers() {
            let set = names.iter().filter_map(|&name| Some((name, layer.get(name)?)));
            synonyms.extend(set.map(|(name, value)| Synonym {
                name,
                value: shown(key, Some(value)),
                source,
            }));
        }
        let default =
            names.iter().rev().find_map(|&name| Some((name, find(BROKER, name)?.default?)));
        let own = key.default.filter(|_| names.contains(&key.name)).map(|value| (key.name, value));
        if let Some((name, value)) = default.or(own) {
            synonyms.push(Synonym {
                name,
                value: shown(key, Some(value)),
                source: Source::Default,
            });
        }
        synonyms
    }
}

/// The value that counts, as clients may see it.
fn in_force(key: &ConfigKey, value: Option<&str>) -> Option<String> {
    shown(key, value).map(|value| key.canonical(&value))
}

/// A value as it was written, as far as clients may see it.
fn shown(key: &ConfigKey, value: Option<&str>) -> Option<String> {
    value.filter(|_| !key.is_sensitive()).map(str::to_owned)
}

/// `value` of the broker key `name`, in the unit of the topic key `key`: hours and minutes become milliseconds.
fn in_unit_of(key: &ConfigKey, name: &str, value: &str) -> String {
    let scale = match find(BROKER, name).map(|broker_key| broker_key.unit) {
        Some(Unit::Hours) => 3_600_000,
        Some(Unit::Minutes) => 60_000,
        Some(Unit::Seconds) => 1000,
        _ => return value.to_owned(),
    };
    match parse_integer(value) {
        Some(number) if key.unit == Unit::Millis && key.kind == Kind::Long => {
            // Less than nothing is "for ever" in every unit.
            if number < 0 { "-1".to_owned() } else { number.saturating_mul(scale).to_string() }
        }
        _ => value.to_owned(),
    }
}
