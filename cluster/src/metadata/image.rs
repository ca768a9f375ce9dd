//! The picture itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use types::encoding::Str;
use types::{
    BrokerEpoch, BrokerId, DirectoryId, LeaderEpoch, PartitionEpoch, PartitionIndex, TopicId,
    TopicName, Uuid,
};

use super::Delta;
use crate::config::{ConfigMap, NodeConfigs};
use crate::metadata::{ApplyError, MetadataRecord};

/// Everything the metadata log says, at one offset. Cloning copies a few pointers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Image {
    pub(super) features: Arc<BTreeMap<Str, i16>>,
    pub(super) brokers: Arc<BTreeMap<BrokerId, Arc<BrokerInfo>>>,
    pub(super) topics: Arc<BTreeMap<TopicId, Arc<TopicInfo>>>,
    pub(super) topic_ids: Arc<BTreeMap<TopicName, TopicId>>,
    pub(super) configs: Arc<BTreeMap<Resource, Arc<ConfigMap>>>,
    /// First producer id that was never handed out.
    pub(super) next_producer_id: i64,
}

/// A registered broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerInfo {
    /// Its id.
    pub id: BrokerId,
    /// This registration.
    pub epoch: BrokerEpoch,
    /// The process that registered.
    pub incarnation: Uuid,
    /// Where it can be reached.
    pub listeners: Vec<BrokerListener>,
    /// Which feature levels it supports.
    pub features: Vec<BrokerFeature>,
    /// Its rack.
    pub rack: Option<Str>,
    /// Whether it may lead nothing for now.
    pub is_fenced: bool,
    /// Whether it is about to stop.
    pub is_stopping: bool,
    /// Its log directories, sorted.
    pub directories: Vec<DirectoryId>,
}

/// A listener of a broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerListener {
    /// Its name.
    pub name: Str,
    /// Host that clients connect to.
    pub host: Str,
    /// Port that clients connect to.
    pub port: u16,
    /// Kafka's number of its security protocol; 0 is PLAINTEXT.
    pub security_protocol: i16,
}

/// Levels of a feature that a broker supports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerFeature {
    /// The feature.
    pub name: Str,
    /// Lowest level.
    pub level_min: i16,
    /// Highest level.
    pub level_max: i16,
}

/// A topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicInfo {
    /// Its identity.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// Its partitions; numbered from 0 without gaps once its creation is complete.
    pub partitions: BTreeMap<PartitionIndex, PartitionInfo>,
}

impl PartitionInfo {
    /// The log directory in which `broker` keeps its replica, if the registration says so.
    pub fn directory_of(&self, broker: BrokerId) -> Option<DirectoryId> {
        let at = self.replicas.iter().position(|id| *id == broker)?;
        self.directories.get(at).copied().filter(|directory| !directory.0.is_zero())
    }
}

impl PartitionInfo {
    /// Whether others than `broker` hold what is committed, or held it last.
    pub fn is_held_without(&self, broker: BrokerId) -> bool {
        let whole = self.isr.iter().chain(&self.elr);
        // Those of the past count only where nobody of the present is known.
        let known = if whole.clone().next().is_none() { &self.last_known_elr[..] } else { &[] };
        whole.chain(known).any(|id| *id != broker)
    }
}

impl TopicInfo {
    /// Number of partitions.
    pub fn partitions_count(&self) -> i32 {
        self.partitions.len() as i32
    }

    /// Replicas of its first partition.
    pub fn replication_factor(&self) -> i16 {
        self.partitions.values().next().map_or(0, |partition| partition.replicas.len() as i16)
    }
}

/// A partition's registration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionInfo {
    /// The brokers that hold it, preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// For each replica the directory it lies in; zero is "the broker chooses".
    pub directories: Vec<DirectoryId>,
    /// In-sync replicas.
    pub isr: Vec<BrokerId>,
    /// Replicas outside the ISR that hold all committed records.
    pub elr: Vec<BrokerId>,
    /// Last known ELR, for a recovery by hand.
    pub last_known_elr: Vec<BrokerId>,
    /// Replicas that a reassignment adds.
    pub adding: Vec<BrokerId>,
    /// Replicas that a reassignment removes.
    pub removing: Vec<BrokerId>,
    /// The leader, if there is one.
    pub leader: Option<BrokerId>,
    /// Whether the leader came from an unclean election and has not recovered yet.
    pub is_recovering: bool,
    /// The leader's term.
    pub leader_epoch: LeaderEpoch,
    /// Version of this registration.
    pub epoch: PartitionEpoch,
}

impl PartitionInfo {
    /// Whether it is on its way to other replicas.
    pub fn is_moving(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }
}

/// What configuration can belong to; the numbers are Kafka's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(i8)]
pub enum ResourceKind {
    /// A topic, by name.
    Topic = 2,
    /// A broker by its id, or all brokers by the empty name.
    Broker = 4,
    /// A client metrics subscription.
    ClientMetrics = 16,
    /// A group, by name.
    Group = 32,
}

impl ResourceKind {
    /// The kind with that number.
    pub fn from_i8(number: i8) -> Option<ResourceKind> {
        match number {
            2 => Some(ResourceKind::Topic),
            4 => Some(ResourceKind::Broker),
            16 => Some(ResourceKind::ClientMetrics),
            32 => Some(ResourceKind::Group),
            _ => None,
        }
    }
}

/// Something that has configuration.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Resource {
    /// What it is.
    pub kind: ResourceKind,
    /// Its name.
    pub name: Str,
}

impl Resource {
    /// The topic `name`.
    pub fn topic(name: impl Into<Str>) -> Resource {
        Resource { kind: ResourceKind::Topic, name: name.into() }
    }

    /// The broker `id`.
    pub fn broker(id: BrokerId) -> Resource {
        Resource { kind: ResourceKind::Broker, name: id.to_string().into() }
    }

    /// All brokers.
    pub fn all_brokers() -> Resource {
        Resource { kind: ResourceKind::Broker, name: "".into() }
    }

    /// The group `name`.
    pub fn group(name: impl Into<Str>) -> Resource {
        Resource { kind: ResourceKind::Group, name: name.into() }
    }
}

impl Image {
    /// The image before the first record.
    pub fn empty() -> Image {
        Image::default()
    }

    /// The image after `records`, and what they touched. On an error nothing has happened.
    pub fn apply<'a>(
        &self,
        records: impl IntoIterator<Item = &'a MetadataRecord>,
    ) -> Result<(Image, Delta), ApplyError> {
        let mut delta = Delta::new(self.clone());
        for record in records {
            delta.apply(record)?;
        }
        Ok(delta.finish())
    }

    /// Finalized feature levels.
    pub fn features(&self) -> &BTreeMap<Str, i16> {
        &self.features
    }

    /// Registered brokers.
    pub fn brokers(&self) -> impl Iterator<Item = &BrokerInfo> {
        self.brokers.values().map(|broker| &**broker)
    }

    /// A registered broker.
    pub fn broker(&self, id: BrokerId) -> Option<&BrokerInfo> {
        self.brokers.get(&id).map(|broker| &**broker)
    }

    /// Topics, in the order of their names.
    pub fn topics(&self) -> impl Iterator<Item = &TopicInfo> {
        self.topic_ids.values().filter_map(|id| self.topic_by_id(*id))
    }

    /// Number of topics.
    pub fn topics_count(&self) -> usize {
        self.topic_ids.len()
    }

    /// Number of partitions of all topics.
    pub fn partitions_count(&self) -> usize {
        self.topics.values().map(|topic| topic.partitions.len()).sum()
    }

    /// Identity of the topic that has this name now.
    pub fn topic_id(&self, name: &str) -> Option<TopicId> {
        self.topic_ids.get(name).copied()
    }

    /// The topic that has this name now.
    pub fn topic(&self, name: &str) -> Option<&TopicInfo> {
        self.topic_by_id(self.topic_id(name)?)
    }

    /// A topic by identity.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&TopicInfo> {
        self.topics.get(&id).map(|topic| &**topic)
    }

    /// Every partition of every topic.
    pub fn partitions(&self) -> impl Iterator<Item = (&TopicInfo, PartitionIndex, &PartitionInfo)> {
        self.topics().flat_map(|topic| {
            topic.partitions.iter().map(move |(index, partition)| (topic, *index, partition))
        })
    }

    /// A partition.
    pub fn partition(&self, id: TopicId, index: PartitionIndex) -> Option<&PartitionInfo> {
        self.topic_by_id(id)?.partitions.get(&index)
    }

    /// Values set on a resource; empty if none are.
    pub fn config(&self, resource: &Resource) -> Arc<ConfigMap> {
        self.configs.get(resource).cloned().unwrap_or_default()
    }

    /// Resources with values set.
    pub fn configured(&self) -> impl Iterator<Item = (&Resource, &ConfigMap)> {
        self.configs.iter().map(|(resource, values)| (resource, &**values))
    }

    /// The layers of a broker: its fixed ones below what is set at run time.
    pub fn node_configs(&self, fixed: Arc<ConfigMap>, broker: BrokerId) -> NodeConfigs {
        NodeConfigs {
            fixed,
            cluster: self.config(&Resource::all_brokers()),
            broker: self.config(&Resource::broker(broker)),
        }
    }

    /// First producer id that was never handed out (I45).
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }
}
