//! The step from one image to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use record::stored::metadata::{
    BrokerRegistrationChangeRecord, ConfigRecord, MetadataRecord, PartitionChangeRecord,
    PartitionRecord, ProducerIdsRecord, RegisterBrokerRecord, RemoveTopicRecord, TopicRecord,
};
use types::encoding::Str;
use types::{
    BrokerEpoch, BrokerId, DirectoryId, LeaderEpoch, PartitionEpoch, PartitionIndex, TopicId,
    TopicName, Uuid,
};

use super::image::{
    BrokerFeature, BrokerInfo, BrokerListener, Image, PartitionInfo, Resource, ResourceKind,
    TopicInfo,
};

/// A leader field that changes nothing.
const NO_LEADER_CHANGE: i32 = -2;
/// A leader field that means "none".
const NO_LEADER: i32 = -1;
/// A recovery state that changes nothing.
const NO_RECOVERY_CHANGE: i8 = -1;

/// An image in the making, and what its records have touched so far.
#[derive(Clone, Debug)]
pub struct Delta {
    image: Image,
    /// Topics that were created or changed; those removed later are not among them.
    pub topics_changed: BTreeSet<TopicId>,
    /// Topics that were there before and are gone, with their names. A name may belong to a successor already.
    pub topics_removed: BTreeMap<TopicId, TopicName>,
    /// Resources whose values changed.
    pub configs_changed: BTreeSet<Resource>,
    /// Brokers that registered, changed or left.
    pub brokers_changed: BTreeSet<BrokerId>,
    /// Whether a feature level changed.
    pub has_features_changed: bool,
    /// Whether producer ids were handed out.
    pub has_producer_ids_changed: bool,
}

/// A record that makes no sense where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ApplyError {
    /// It speaks of something that is not there, or is there already, or holds impossible values.
    Inconsistent {
        /// Key of the record.
        key: i16,
        /// What is wrong.
        what: String,
    },
    /// This release does not know what to do with it.
    Unsupported {
        /// Key of the record.
        key: i16,
    },
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApplyError::Inconsistent { key, what } => {
                write!(f, "metadata record of type {key} makes no sense: {what}")
            }
            ApplyError::Unsupported { key } => {
                write!(f, "metadata record of type {key} needs a newer release")
            }
        }
    }
}

impl std::error::Error for ApplyError {}

impl Delta {
    /// Starts from `image`.
    pub fn new(image: Image) -> Delta {
        Delta {
            image,
            topics_changed: BTreeSet::new(),
            topics_removed: BTreeMap::new(),
            configs_changed: BTreeSet::new(),
            brokers_changed: BTreeSet::new(),
            has_features_changed: false,
            has_producer_ids_changed: false,
        }
    }

    /// The image so far.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The image, and what led there.
    pub fn finish(self) -> (Image, Delta) {
        (self.image.clone(), self)
    }

    /// Applies one record. After an error the delta is of no use.
    pub fn apply(&mut self, record: &MetadataRecord) -> Result<(), ApplyError> {
        let key = record.key();
        let inconsistent = |what: String| ApplyError::Inconsistent { key, what };
        match record {
            MetadataRecord::FeatureLevel(record) => {
                let features = Arc::make_mut(&mut self.image.features);
                // Level 0 is "off", which is the same as absent.
                if record.feature_level == 0 {
                    features.remove(&record.name);
                } else {
                    features.insert(record.name.clone(), record.feature_level);
                }
                self.has_features_changed = true;
                Ok(())
            }
            MetadataRecord::Topic(record) => self.on_topic(record).map_err(inconsistent),
            MetadataRecord::Partition(record) => self.on_partition(record).map_err(inconsistent),
            MetadataRecord::PartitionChange(record) => {
                self.on_partition_change(record).map_err(inconsistent)
            }
            MetadataRecord::RemoveTopic(record) => {
                self.on_remove_topic(record).map_err(inconsistent)
            }
            MetadataRecord::Config(record) => self.on_config(record).map_err(inconsistent),
            MetadataRecord::RegisterBroker(record) => {
                self.on_register(record).map_err(inconsistent)
            }
            MetadataRecord::UnregisterBroker(record) => {
                self.with_broker(record.broker_id, record.broker_epoch).map_err(inconsistent)?;
                Arc::make_mut(&mut self.image.brokers).remove(&BrokerId(record.broker_id));
                Ok(())
            }
            MetadataRecord::FenceBroker(record) => {
                self.set_fenced(record.id, record.epoch, true).map_err(inconsistent)
            }
            MetadataRecord::UnfenceBroker(record) => {
                self.set_fenced(record.id, record.epoch, false).map_err(inconsistent)
            }
            MetadataRecord::BrokerRegistrationChange(record) => {
                self.on_registration_change(record).map_err(inconsistent)
            }
            MetadataRecord::ProducerIds(record) => {
                self.on_producer_ids(record).map_err(inconsistent)
            }
            MetadataRecord::NoOp(_) => Ok(()),
            _ => Err(ApplyError::Unsupported { key }),
        }
    }

    fn on_topic(&mut self, record: &TopicRecord) -> Result<(), String> {
        let (id, name) = (TopicId(record.topic_id), TopicName::from(&*record.name));
        if record.topic_id.is_zero() || self.image.topics.contains_key(&id) {
            return Err(format!("topic id {id} of {name} is taken (I44)"));
        }
        if self.image.topic_ids.contains_key(&name) {
            return Err(format!("topic {name} is there already"));
        }
        let topic = TopicInfo { id, name: name.clone(), partitions: BTreeMap::new() };
        Arc::make_mut(&mut self.image.topics).insert(id, Arc::new(topic));
        Arc::make_mut(&mut self.image.topic_ids).insert(name, id);
        self.topics_changed.insert(id);
        Ok(())
    }

    fn topic(&mut self, id: Uuid) -> Result<&mut TopicInfo, String> {
        let id = TopicId(id);
        // Looking first keeps a stray record from copying the map.
        if !self.image.topics.contains_key(&id) {
            return Err(format!("there is no topic {id}"));
        }
        self.topics_changed.insert(id);
        let topic = Arc::make_mut(&mut self.image.topics).get_mut(&id);
        Ok(Arc::make_mut(topic.expect("it was there a line before")))
    }

    fn on_partition(&mut self, record: &PartitionRecord) -> Result<(), String> {
        let index = PartitionIndex(record.partition_id);
        let partition = partition_of(record)?;
        let topic = self.topic(record.topic_id)?;
        if topic.partitions.contains_key(&index) {
            return Err(format!("partition {}-{index} is there already", topic.name));
        }
        if index.0 != topic.partitions_count() {
            return Err(format!("partition {}-{index} leaves a gap", topic.name));
        }
        topic.partitions.insert(index, partition);
        Ok(())
    }

    fn on_partition_change(&mut self, record: &PartitionChangeRecord) -> Result<(), String> {
        let index = PartitionIndex(record.partition_id);
        let topic = self.topic(record.topic_id)?;
        let name = topic.name.clone();
        let Some(before) = topic.partitions.get(&index) else {
            return Err(format!("there is no partition {name}-{index}"));
        };
        let mut after = before.clone();
        let set = |field: &mut Vec<BrokerId>, ids: &Option<Vec<i32>>| {
            if let Some(ids) = ids {
                *field = brokers(ids);
            }
        };
        set(&mut after.replicas, &record.replicas);
        set(&mut after.isr, &record.isr);
        set(&mut after.removing, &record.removing_replicas);
        set(&mut after.adding, &record.adding_replicas);
        set(&mut after.elr, &record.eligible_leader_replicas);
        set(&mut after.last_known_elr, &record.last_known_elr);
        if let Some(ids) = &record.directories {
            after.directories = ids.iter().copied().map(DirectoryId).collect();
        }
        if record.leader != NO_LEADER_CHANGE {
            after.leader = leader(record.leader);
            after.leader_epoch = LeaderEpoch(after.leader_epoch.0.saturating_add(1));
        }
        if record.leader_recovery_state != NO_RECOVERY_CHANGE {
            after.is_recovering = record.leader_recovery_state != 0;
        }
        after.epoch = PartitionEpoch(after.epoch.0.saturating_add(1));
        check_partition(&after).map_err(|what| format!("partition {name}-{index}: {what}"))?;
        topic.partitions.insert(index, after);
        Ok(())
    }

    fn on_remove_topic(&mut self, record: &RemoveTopicRecord) -> Result<(), String> {
        let id = TopicId(record.topic_id);
        let Some(name) = self.image.topics.get(&id).map(|topic| topic.name.clone()) else {
            return Err(format!("there is no topic {id}"));
        };
        Arc::make_mut(&mut self.image.topics).remove(&id);
        Arc::make_mut(&mut self.image.topic_ids).remove(&name);
        // A topic's values go with it: its successor starts without.
        let resource = Resource::topic(&*name.0);
        if self.image.configs.contains_key(&resource) {
            Arc::make_mut(&mut self.image.configs).remove(&resource);
            self.configs_changed.insert(resource);
        }
        self.topics_changed.remove(&id);
        self.topics_removed.insert(id, name);
        Ok(())
    }

    fn on_config(&mut self, record: &ConfigRecord) -> Result<(), String> {
        let Some(kind) = ResourceKind::from_i8(record.resource_type) else {
            return Err(format!("resource type {} is unknown", record.resource_type));
        };
        let resource = Resource { kind, name: record.resource_name.clone() };
        let configs = Arc::make_mut(&mut self.image.configs);
        match &record.value {
            Some(value) => {
                let values = configs.entry(resource.clone()).or_default();
                Arc::make_mut(values).insert(record.name.clone(), value.clone());
            }
            None => {
                if let Some(values) = configs.get_mut(&resource) {
                    Arc::make_mut(values).remove(&record.name);
                    if values.is_empty() {
                        configs.remove(&resource);
                    }
                }
            }
        }
        self.configs_changed.insert(resource);
        Ok(())
    }

    fn on_register(&mut self, record: &RegisterBrokerRecord) -> Result<(), String> {
        let id = BrokerId(record.broker_id);
        if let Some(before) = self.image.brokers.get(&id)
            && before.epoch.0 >= record.broker_epoch
        {
            return Err(format!(
                "broker {id} registers with epoch {} after {} (I43)",
                record.broker_epoch, before.epoch
            ));
        }
        let listeners = record.end_points.iter().map(|end_point| BrokerListener {
            name: end_point.name.clone(),
            host: end_point.host.clone(),
            port: end_point.port,
            security_protocol: end_point.security_protocol,
        });
        let features = record.features.iter().map(|feature| BrokerFeature {
            name: feature.name.clone(),
            level_min: feature.min_supported_version,
            level_max: feature.max_supported_version,
        });
        let mut directories: Vec<DirectoryId> =
            record.log_dirs.iter().copied().map(DirectoryId).collect();
        directories.sort();
        let broker = BrokerInfo {
            id,
            epoch: BrokerEpoch(record.broker_epoch),
            incarnation: record.incarnation_id,
            listeners: listeners.collect(),
            features: features.collect(),
            rack: record.rack.clone(),
            is_fenced: record.fenced,
            is_stopping: record.in_controlled_shutdown,
            directories,
        };
        Arc::make_mut(&mut self.image.brokers).insert(id, Arc::new(broker));
        self.brokers_changed.insert(id);
        Ok(())
    }

    fn with_broker(&mut self, id: i32, epoch: i64) -> Result<&mut BrokerInfo, String> {
        let id = BrokerId(id);
        let Some(epoch_now) = self.image.brokers.get(&id).map(|broker| broker.epoch) else {
            return Err(format!("broker {id} is not registered"));
        };
        if epoch_now.0 != epoch {
            return Err(format!("broker {id} has epoch {epoch_now}, not {epoch}"));
        }
        self.brokers_changed.insert(id);
        let broker = Arc::make_mut(&mut self.image.brokers).get_mut(&id);
        Ok(Arc::make_mut(broker.expect("it was there a line before")))
    }

    fn set_fenced(&mut self, id: i32, epoch: i64, is_fenced: bool) -> Result<(), String> {
        self.with_broker(id, epoch)?.is_fenced = is_fenced;
        Ok(())
    }

    fn on_registration_change(
        &mut self,
        record: &BrokerRegistrationChangeRecord,
    ) -> Result<(), String> {
        let broker = self.with_broker(record.broker_id, record.broker_epoch)?;
        // -1: it became unfenced, 1: fenced, 0: no change.
        match record.fenced {
            1 => broker.is_fenced = true,
            -1 => broker.is_fenced = false,
            _ => {}
        }
        if record.in_controlled_shutdown == 1 {
            broker.is_stopping = true;
        }
        if !record.log_dirs.is_empty() {
            broker.directories = record.log_dirs.iter().copied().map(DirectoryId).collect();
            broker.directories.sort();
        }
        Ok(())
    }

    fn on_producer_ids(&mut self, record: &ProducerIdsRecord) -> Result<(), String> {
        if record.next_producer_id <= self.image.next_producer_id {
            return Err(format!(
                "next producer id goes from {} to {} (I45)",
                self.image.next_producer_id, record.next_producer_id
            ));
        }
        self.image.next_producer_id = record.next_producer_id;
        self.has_producer_ids_changed = true;
        Ok(())
    }

    /// Whether nothing was touched.
    pub fn is_empty(&self) -> bool {
        self.topics_changed.is_empty()
            && self.topics_removed.is_empty()
            && self.configs_changed.is_empty()
            && self.brokers_changed.is_empty()
            && !self.has_features_changed
            && !self.has_producer_ids_changed
    }

    /// Whether values of all brokers or of this one changed.
    pub fn has_broker_config_changed(&self, broker: BrokerId) -> bool {
        self.configs_changed.contains(&Resource::all_brokers())
            || self.configs_changed.contains(&Resource::broker(broker))
    }

    /// Whether what clients are to tell of themselves may have changed.
    pub fn has_client_metrics_changed(&self) -> bool {
        let mut changed = self.configs_changed.iter();
        changed.any(|resource| resource.kind == ResourceKind::ClientMetrics)
    }

    /// Topics whose own values changed.
    pub fn topic_configs_changed(&self) -> impl Iterator<Item = &Str> {
        let topics = self.configs_changed.iter().filter(|r| r.kind == ResourceKind::Topic);
        topics.map(|resource| &resource.name)
    }
}

fn partition_of(record: &PartitionRecord) -> Result<PartitionInfo, String> {
    let optional = |ids: &Option<Vec<i32>>| ids.as_deref().map(brokers).unwrap_or_default();
    let partition = PartitionInfo {
        replicas: brokers(&record.replicas),
        directories: record.directories.iter().copied().map(DirectoryId).collect(),
        isr: brokers(&record.isr),
        elr: optional(&record.eligible_leader_replicas),
        last_known_elr: optional(&record.last_known_elr),
        adding: brokers(&record.adding_replicas),
        removing: brokers(&record.removing_replicas),
        leader: leader(record.leader),
        is_recovering: record.leader_recovery_state != 0,
        leader_epoch: LeaderEpoch(record.leader_epoch),
        epoch: PartitionEpoch(record.partition_epoch),
    };
    check_partition(&partition)?;
    Ok(partition)
}

/// What every registration must satisfy (I29).
fn check_partition(partition: &PartitionInfo) -> Result<(), String> {
    if partition.leader_epoch.0 < 0 || partition.epoch.0 < 0 {
        return Err("its epochs are negative".to_owned());
    }
    let holds = |ids: &[BrokerId]| ids.iter().all(|id| partition.replicas.contains(id));
    let is_distinct = |ids: &[BrokerId]| ids.iter().collect::<BTreeSet<_>>().len() == ids.len();
    if partition.replicas.is_empty() || !is_distinct(&partition.replicas) {
        return Err("its replicas are none, or repeat".to_owned());
    }
    for (name, ids) in [("ISR", &partition.isr), ("ELR", &partition.elr)] {
        if !holds(ids) || !is_distinct(ids) {
            return Err(format!("members of its {name} are no replicas, or repeat (I29)"));
        }
    }
    let moving = [&partition.adding[..], &partition.removing[..]].concat();
    if !holds(&moving) || !is_distinct(&moving) {
        return Err("what it adds and removes are no replicas, or repeat".to_owned());
    }
    if partition.isr.iter().any(|id| partition.elr.contains(id)) {
        return Err("its ISR and ELR overlap (I29)".to_owned());
    }
    if partition.leader.is_some_and(|leader| !partition.isr.contains(&leader)) {
        return Err("its leader is not in sync".to_owned());
    }
    if !partition.directories.is_empty() && partition.directories.len() != partition.replicas.len()
    {
        return Err("it has as many directories as replicas, or none".to_owned());
    }
    Ok(())
}

fn brokers(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

fn leader(id: i32) -> Option<BrokerId> {
    (id != NO_LEADER).then_some(BrokerId(id))
}
