//! An image as records: what a snapshot of the metadata log holds. Loading it gives the same image (I40).

use record::stored::metadata::{
    BrokerEndpoint, BrokerFeature, ConfigRecord, FeatureLevelRecord, MetadataRecord,
    PartitionRecord, ProducerIdsRecord, RegisterBrokerRecord, TopicRecord,
};
use types::{BrokerId, PartitionIndex};

use super::image::{BrokerInfo, Image, PartitionInfo, TopicInfo};

/// Records that lead from the empty image to `image`, in an order in which each makes sense.
pub fn snapshot(image: &Image) -> Vec<MetadataRecord> {
    let mut records = Vec::new();
    for (name, level) in image.features() {
        let record = FeatureLevelRecord { name: name.clone(), feature_level: *level };
        records.push(MetadataRecord::FeatureLevel(record));
    }
    records.extend(image.brokers().map(|broker| MetadataRecord::RegisterBroker(register(broker))));
    for topic in image.topics() {
        let record = TopicRecord { name: (&*topic.name.0).into(), topic_id: topic.id.0 };
        records.push(MetadataRecord::Topic(record));
        let partitions = topic.partitions.iter();
        records.extend(partitions.map(|(index, partition)| {
            MetadataRecord::Partition(partition_record(topic, *index, partition))
        }));
    }
    for (resource, values) in image.configured() {
        records.extend(values.iter().map(|(name, value)| {
            MetadataRecord::Config(ConfigRecord {
                resource_type: resource.kind as i8,
                resource_name: resource.name.clone(),
                name: name.clone(),
                value: Some(value.clone()),
            })
        }));
    }
    if image.next_producer_id() > 0 {
        records.push(MetadataRecord::ProducerIds(ProducerIdsRecord {
            broker_id: -1,
            broker_epoch: -1,
            next_producer_id: image.next_producer_id(),
        }));
    }
    records
}

/// The record that registers `broker`.
pub(crate) fn register(broker: &BrokerInfo) -> RegisterBrokerRecord {
    let end_points = broker.listeners.iter().map(|listener| BrokerEndpoint {
        name: listener.name.clone(),
        host: listener.host.clone(),
        port: listener.port,
        security_protocol: listener.security_protocol,
    });
    let features = broker.features.iter().map(|feature| BrokerFeature {
        name: feature.name.clone(),
        min_supported_version: feature.level_min,
        max_supported_version: feature.level_max,
    });
    RegisterBrokerRecord {
        broker_id: broker.id.0,
        incarnation_id: broker.incarnation,
        broker_epoch: broker.epoch.0,
        end_points: end_points.collect(),
        features: features.collect(),
        rack: broker.rack.clone(),
        fenced: broker.is_fenced,
        in_controlled_shutdown: broker.is_stopping,
        log_dirs: broker.directories.iter().map(|directory| directory.0).collect(),
        ..RegisterBrokerRecord::default()
    }
}

/// The record that registers a partition.
pub(crate) fn partition_record(
    topic: &TopicInfo,
    index: PartitionIndex,
    partition: &PartitionInfo,
) -> PartitionRecord {
    let optional = |ids: &[BrokerId]| (!ids.is_empty()).then(|| numbers(ids));
    PartitionRecord {
        partition_id: index.0,
        topic_id: topic.id.0,
        replicas: numbers(&partition.replicas),
        isr: numbers(&partition.isr),
        removing_replicas: numbers(&partition.removing),
        adding_replicas: numbers(&partition.adding),
        leader: partition.leader.map_or(-1, |leader| leader.0),
        leader_recovery_state: i8::from(partition.is_recovering),
        leader_epoch: partition.leader_epoch.0,
        partition_epoch: partition.epoch.0,
        directories: partition.directories.iter().map(|directory| directory.0).collect(),
        eligible_leader_replicas: optional(&partition.elr),
        last_known_elr: optional(&partition.last_known_elr),
    }
}

fn numbers(ids: &[BrokerId]) -> Vec<i32> {
    ids.iter().map(|id| id.0).collect()
}
