//! Changing configuration: in steps (incremental), or all at once (the older request).

use std::collections::BTreeSet;

use record::stored::metadata::ConfigRecord;
use types::encoding::Str;
use types::mutant::{Mutant, planted};
use types::{BrokerId, ErrorCode};

use super::change::MIN_ISR;
use super::names::check_name;
use super::topics::{is_internal, keep_internal};
use super::{Controller, Decision, METADATA_TOPIC, Refusal};
use crate::config::{
    BROKER, CLIENT_METRICS, ConfigError, ConfigKey, ConfigMap, GROUP, Kind, TOPIC, check_broker,
    check_client_metrics, check_group, check_internal_topic, check_topic, find, split_list,
};
use crate::metadata::{MetadataRecord, Resource, ResourceKind};

/// Largest value; the record's text has a length of 16 bits in Kafka.
const VALUE_LEN_MAX: usize = i16::MAX as usize;

/// What to do with one key; the numbers are Kafka's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i8)]
pub enum ConfigOp {
    /// Set it.
    Set = 0,
    /// Go back to the default.
    Delete = 1,
    /// Add elements to a list.
    Append = 2,
    /// Take elements off a list.
    Subtract = 3,
}

impl ConfigOp {
    /// The operation with that number.
    pub fn from_i8(number: i8) -> Option<ConfigOp> {
        match number {
            0 => Some(ConfigOp::Set),
            1 => Some(ConfigOp::Delete),
            2 => Some(ConfigOp::Append),
            3 => Some(ConfigOp::Subtract),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            ConfigOp::Set => "SET",
            ConfigOp::Delete => "DELETE",
            ConfigOp::Append => "APPEND",
            ConfigOp::Subtract => "SUBTRACT",
        }
    }
}

/// A change of one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigChange {
    /// The key.
    pub name: Str,
    /// What to do.
    pub op: ConfigOp,
    /// With which value; not used to delete.
    pub value: Option<Str>,
}

/// Changes of one resource, in steps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AlterConfigs {
    /// The resource.
    pub resource: Resource,
    /// The steps.
    pub changes: Vec<ConfigChange>,
}

/// All values that a resource is to have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetConfigs {
    /// The resource.
    pub resource: Resource,
    /// Its values; what is not here goes back to the default.
    pub values: Vec<(Str, Option<Str>)>,
}

/// What became of each resource, in the order of asking; one that is named twice is answered once.
pub type Altered = Vec<(Resource, Result<(), Refusal>)>;

impl Controller {
    /// Changes values in steps. Each resource stands for itself and changes as a whole or not at all.
    pub fn incremental_alter_configs(
        &self,
        requests: &[AlterConfigs],
        validate_only: bool,
    ) -> Decision<Altered> {
        let resources = requests.iter().map(|request| &request.resource);
        self.alter(resources, validate_only, |index, before| {
            let request = &requests[index];
            check_keys(request.changes.iter().map(|change| &change.name))?;
            let set = request.changes.iter().filter(|change| change.op != ConfigOp::Delete);
            check_nulls(set.map(|change| (&change.name, &change.value)))?;
            let mut values = before.clone();
            for change in &request.changes {
                change.apply(request.resource.kind, self, &mut values)?;
            }
            Ok(values)
        })
    }

    /// Replaces all values of resources. Each stands for itself.
    pub fn alter_configs(&self, requests: &[SetConfigs], validate_only: bool) -> Decision<Altered> {
        let resources = requests.iter().map(|request| &request.resource);
        self.alter(resources, validate_only, |index, before| {
            let request = &requests[index];
            check_keys(request.values.iter().map(|(name, _)| name))?;
            check_nulls(request.values.iter().map(|(name, value)| (name, value)))?;
            let values = request.values.iter();
            let values = values.filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
            if planted(Mutant::UnnamedSettingsStay) {
                return Ok(before.clone().into_iter().chain(values).collect());
            }
            Ok(values.collect())
        })
    }

    fn alter<'a>(
        &self,
        resources: impl Iterator<Item = &'a Resource> + Clone,
        validate_only: bool,
        after: impl Fn(usize, &ConfigMap) -> Result<ConfigMap, Refusal>,
    ) -> Decision<Altered> {
        let mut seen = BTreeSet::new();
        let duplicates: BTreeSet<&Resource> =
            resources.clone().filter(|resource| !seen.insert(*resource)).collect();
        let mut answered = BTreeSet::new();
        let mut records = Vec::new();
        let mut results: Altered = Vec::new();
        for (index, resource) in resources.enumerate() {
            let result = if duplicates.contains(resource) {
                Err(Refusal::new(ErrorCode::InvalidRequest, "Duplicate resource."))
            } else {
                self.alter_resource(resource, |before| after(index, before))
                    .map(|own| records.extend(own))
            };
            if answered.insert(resource) {
                results.push((resource.clone(), result));
            }
        }
        if validate_only {
            return (Vec::new(), results);
        }
        (self.with_elections(records), results)
    }

    fn alter_resource(
        &self,
        resource: &Resource,
        after: impl FnOnce(&ConfigMap) -> Result<ConfigMap, Refusal>,
    ) -> Result<Vec<MetadataRecord>, Refusal> {
        self.check_resource(resource)?;
        let before = self.image.config(resource);
        let mut after = after(&before)?;
        if resource.kind == ResourceKind::Topic && is_internal(&resource.name) {
            keep_internal(&mut after);
        }
        // What stays as it is was let in before, perhaps by an older release: only the rest is judged.
        let changed: ConfigMap = after
            .iter()
            .filter(|(name, value)| before.get(*name) != Some(*value))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        check_values(resource, &changed)?;
        // Leaders and controller would count by different numbers (P12).
        let is_changed = before.get(MIN_ISR) != after.get(MIN_ISR);
        let is_set = after.contains_key(MIN_ISR);
        if resource.kind == ResourceKind::Broker && is_changed {
            let is_default = resource.name.is_empty();
            if !is_default && is_set {
                let message =
                    "Broker-level min.insync.replicas cannot be altered while ELR is enabled.";
                return Err(Refusal::new(ErrorCode::InvalidConfig, message));
            }
            if is_default && !is_set && !planted(Mutant::MinIsrOfFile) {
                let message =
                    "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.";
                return Err(Refusal::new(ErrorCode::InvalidConfig, message));
            }
        }
        let gone = before.keys().filter(|name| !after.contains_key(*name));
        let sets = changed.iter().map(|(name, value)| (name, Some(value.clone())));
        let changes = gone.map(|name| (name, None)).chain(sets);
        let records = changes.map(|(name, value)| {
            MetadataRecord::Config(ConfigRecord {
                resource_type: resource.kind as i8,
                resource_name: resource.name.clone(),
                name: name.clone(),
                value,
            })
        });
        Ok(records.collect())
    }

    /// Makes `min.insync.replicas` one value for all, which leaders and controller read in the metadata alone: where all
    /// brokers have none, what this controller's file says becomes theirs, and no broker keeps one of its own (P12).
    pub(super) fn one_min_isr(&self) -> Vec<MetadataRecord> {
        let all = Resource::all_brokers();
        let of_all =
            match self.image.config(&all).contains_key(MIN_ISR) {
                true => None,
                false => self.fixed.get(MIN_ISR).map(|value| value.to_string()).or_else(|| {
                    find(BROKER, MIN_ISR).and_then(|key| key.default).map(str::to_owned)
                }),
            };
        let of_all = of_all.map(|value| (all, Some(value.into())));
        let own = self.image.configured().filter(|(resource, values)| {
            let is_single = resource.kind == ResourceKind::Broker && !resource.name.is_empty();
            is_single && values.contains_key(MIN_ISR)
        });
        let changes = of_all.into_iter().chain(own.map(|(resource, _)| (resource.clone(), None)));
        let records = changes.map(|(resource, value)| {
            MetadataRecord::Config(ConfigRecord {
                resource_type: resource.kind as i8,
                resource_name: resource.name,
                name: MIN_ISR.into(),
                value,
            })
        });
        self.with_elections(records.collect())
    }

    /// Refuses a resource that cannot have values.
    fn check_resource(&self, resource: &Resource) -> Result<(), Refusal> {
        let invalid = |message: String| Err(Refusal::new(ErrorCode::InvalidRequest, message));
        match resource.kind {
            ResourceKind::Topic if resource.name.is_empty() => {
                return invalid("Default topic resources are not allowed.".to_owned());
            }
            ResourceKind::Topic => {
                check_name(&resource.name)?;
                if *resource.name == *METADATA_TOPIC || self.image.topic(&resource.name).is_none() {
                    return Err(Refusal::new(
                        ErrorCode::UnknownTopicOrPartition,
                        format!("The topic '{}' does not exist.", resource.name),
                    ));
                }
            }
            ResourceKind::Broker if resource.name.is_empty() => {}
            ResourceKind::Broker => {
                let Ok(id) = resource.name.parse() else {
                    return invalid(format!(
                        "Node id must be an integer, but it is: {}",
                        resource.name
                    ));
                };
                if self.image.broker(BrokerId(id)).is_none() {
                    return Err(Refusal::new(
                        ErrorCode::BrokerIdNotRegistered,
                        format!("No broker with id {id} found."),
                    ));
                }
            }
            ResourceKind::Group => {
                if resource.name.is_empty() {
                    return invalid("Default group resources are not allowed.".to_owned());
                }
            }
            ResourceKind::ClientMetrics => {
                if resource.name.is_empty() {
                    return invalid("Subscription name can't be empty".to_owned());
                }
            }
        }
        Ok(())
    }
}

impl ConfigChange {
    fn apply(
        &self,
        kind: ResourceKind,
        controller: &Controller,
        values: &mut ConfigMap,
    ) -> Result<(), Refusal> {
        if self.op == ConfigOp::Delete {
            values.remove(&self.name);
            return Ok(());
        }
        let Some(value) = &self.value else {
            return check_nulls([(&self.name, &None)].into_iter());
        };
        if self.op == ConfigOp::Set {
            values.insert(self.name.clone(), value.clone());
            return Ok(());
        }
        let key = key_of(kind, &self.name);
        if key.is_none_or(|key| key.kind != Kind::List) {
            return Err(Refusal::new(
                ErrorCode::InvalidConfig,
                format!(
                    "Can't {} to key {} because its type is not LIST.",
                    self.op.name(),
                    self.name
                ),
            ));
        }
        let before = match (values.get(&self.name), kind) {
            (Some(set), _) => set.to_string(),
            // A list grows from what is in force, not from nothing.
            (None, ResourceKind::Topic) => key
                .and_then(|key| controller.defaults().node.resolve(key, values))
                .unwrap_or_default(),
            (None, _) => key.and_then(|key| key.default).unwrap_or_default().to_owned(),
        };
        let given: Vec<&str> = split_list(value).collect();
        let mut items: Vec<&str> = split_list(&before).collect();
        match self.op {
            ConfigOp::Append => {
                for item in given {
                    if !items.contains(&item) {
                        items.push(item);
                    }
                }
            }
            _ => items.retain(|item| !given.contains(item)),
        }
        values.insert(self.name.clone(), items.join(",").into());
        Ok(())
    }
}

/// A line for the operator if the value that `record` sets changes nothing.
pub fn notice_of(record: &ConfigRecord) -> Option<String> {
    let key = key_of(ResourceKind::from_i8(record.resource_type)?, &record.name)?;
    let notice = key.notice(record.value.as_ref()?)?;
    Some(format!("{}: {notice}", record.resource_name))
}

fn key_of(kind: ResourceKind, name: &str) -> Option<&'static ConfigKey> {
    match kind {
        ResourceKind::Topic => find(TOPIC, name),
        ResourceKind::Broker => find(BROKER, name),
        ResourceKind::Group => find(GROUP, name),
        ResourceKind::ClientMetrics => find(CLIENT_METRICS, name),
    }
}

fn check_keys<'a>(names: impl Iterator<Item = &'a Str>) -> Result<(), Refusal> {
    if super::duplicates(names).is_empty() {
        return Ok(());
    }
    Err(Refusal::new(ErrorCode::InvalidRequest, "Error due to duplicate config keys"))
}

fn check_values(resource: &Resource, values: &ConfigMap) -> Result<(), Refusal> {
    if let Some((name, _)) = values.iter().find(|(_, value)| value.len() > VALUE_LEN_MAX) {
        return Err(Refusal::new(
            ErrorCode::InvalidConfig,
            format!(
                "The configuration value of {name} cannot be added because it exceeds the maximum \
                 value size of {VALUE_LEN_MAX} bytes."
            ),
        ));
    }
    let checked = match resource.kind {
        ResourceKind::Topic if is_internal(&resource.name) => check_internal_topic(values),
        ResourceKind::Topic => check_topic(values),
        ResourceKind::Broker => check_broker(values, !resource.name.is_empty()),
        ResourceKind::Group => check_group(values),
        ResourceKind::ClientMetrics => check_client_metrics(values),
    };
    checked.map_err(|error| {
        let code = match (&error, resource.kind) {
            // A broker judges values of its own keys before the controller does, in Kafka, and says so by this code.
            (ConfigError::CannotUpdate { .. }, _)
            | (ConfigError::Invalid { .. }, ResourceKind::Broker)
            | (ConfigError::Unknown { .. }, ResourceKind::ClientMetrics) => {
                ErrorCode::InvalidRequest
            }
            (ConfigError::Invalid { name, .. }, ResourceKind::ClientMetrics) if name != "match" => {
                ErrorCode::InvalidRequest
            }
            _ => ErrorCode::InvalidConfig,
        };
        Refusal::new(code, error.to_string())
    })
}

/// Refuses values that are null, where one is needed.
fn check_nulls<'a>(
    values: impl Iterator<Item = (&'a Str, &'a Option<Str>)>,
) -> Result<(), Refusal> {
    let nulls = values.filter(|(_, value)| value.is_none()).map(|(name, _)| name.to_string());
    let nulls: Vec<String> = nulls.collect();
    if nulls.is_empty() {
        return Ok(());
    }
    let message = format!("Null value not supported for : {}", nulls.join(", "));
    Err(Refusal::new(ErrorCode::InvalidRequest, message))
}
