//! Creating and deleting topics.

use std::collections::{BTreeMap, BTreeSet};

use record::stored::metadata::{ConfigRecord, RemoveTopicRecord, TopicRecord};
use types::encoding::Str;
use types::mutant::{Mutant, planted};
use types::{BrokerId, ErrorCode, PartitionIndex, TopicId, TopicName};

use super::names::{check_collision, check_name};
use super::{
    Controller, Decision, METADATA_TOPIC, NewId, PARTITIONS_PER_REQUEST_MAX, Refusal, duplicates,
};
use crate::config::{ConfigMap, Described, check_internal_topic, check_topic};
use crate::metadata::{MetadataRecord, PartitionInfo, ResourceKind, TopicInfo, partition_record};

/// A topic to create.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CreateTopic {
    /// Its name.
    pub name: Str,
    /// Partitions: -1 for the default.
    pub partitions_count: i32,
    /// Replicas: -1 for the default.
    pub replication_factor: i16,
    /// Partition numbers with their replicas, chosen by hand; then both counts must be -1.
    pub assignments: Vec<(PartitionIndex, Vec<BrokerId>)>,
    /// Configuration; a null value is an error.
    pub configs: Vec<(Str, Option<Str>)>,
}

/// What became of one topic of a request.
#[derive(Clone, Debug)]
pub struct CreatedTopic {
    /// Its name.
    pub name: Str,
    /// The topic, or why not.
    pub result: Result<TopicCreation, Refusal>,
}

/// A topic that was created, or would be.
#[derive(Clone, Debug)]
pub struct TopicCreation {
    /// Its identity.
    pub id: TopicId,
    /// Its partitions.
    pub partitions_count: i32,
    /// Its replicas.
    pub replication_factor: i16,
    /// Its configuration in force.
    pub configs: Vec<Described>,
}

/// A topic to delete: by name or by identity.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeleteTopic {
    /// Its name.
    pub name: Option<Str>,
    /// Its identity.
    pub id: Option<TopicId>,
}

/// What became of one topic of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeletedTopic {
    /// Its name: as asked for, or as found.
    pub name: Option<Str>,
    /// Its identity: as asked for, or as found.
    pub id: Option<TopicId>,
    /// Whether it is gone.
    pub result: Result<(), Refusal>,
}

impl Controller {
    /// Creates topics. Each stands for itself: one that is refused does not touch the others.
    pub fn create_topics(
        &self,
        topics: &[CreateTopic],
        validate_only: bool,
        new_id: NewId<'_>,
    ) -> Decision<Vec<CreatedTopic>> {
        let duplicates = duplicates(topics.iter().map(|topic| &topic.name));
        let mut series = self.series();
        let mut results = Vec::new();
        let mut partitions_left = PARTITIONS_PER_REQUEST_MAX;
        let mut answered = BTreeSet::new();
        for topic in topics {
            if duplicates.contains(&topic.name) {
                // One answer for all of its appearances.
                if answered.insert(&topic.name) {
                    let refusal = Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name.");
                    results.push(CreatedTopic { name: topic.name.clone(), result: Err(refusal) });
                }
                continue;
            }
            let created = series.controller.create_topic(topic, &mut partitions_left, new_id);
            let result = created.map(|(own, creation)| {
                // Later topics of the request collide with this one, and are placed after it.
                series.take(own);
                creation
            });
            results.push(CreatedTopic { name: topic.name.clone(), result });
        }
        let records = if validate_only { Vec::new() } else { series.records };
        (records, results)
    }

    fn create_topic(
        &self,
        topic: &CreateTopic,
        partitions_left: &mut usize,
        new_id: NewId<'_>,
    ) -> Result<(Vec<MetadataRecord>, TopicCreation), Refusal> {
        if *topic.name == *METADATA_TOPIC {
            let message = format!("Creation of internal topic {METADATA_TOPIC} is prohibited.");
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
        check_name(&topic.name)?;
        if self.image.topic(&topic.name).is_some() {
            let message = format!("Topic '{}' already exists.", topic.name);
            return Err(Refusal::new(ErrorCode::TopicAlreadyExists, message));
        }
        check_collision(&topic.name, &self.image)?;
        let values = topic_values(&topic.name, &topic.configs)?;
        let partitions = self.new_partitions(topic)?;
        *partitions_left =
            partitions_left.checked_sub(partitions.len()).ok_or_else(too_many_partitions)?;

        let id = TopicId(new_id());
        let name = TopicName::from(&*topic.name);
        let info = TopicInfo { id, name, partitions };
        let mut records =
            vec![MetadataRecord::Topic(TopicRecord { name: topic.name.clone(), topic_id: id.0 })];
        records.extend(values.iter().map(|(name, value)| {
            MetadataRecord::Config(ConfigRecord {
                resource_type: ResourceKind::Topic as i8,
                resource_name: topic.name.clone(),
                name: name.clone(),
                value: Some(value.clone()),
            })
        }));
        records.extend(info.partitions.iter().map(|(index, partition)| {
            MetadataRecord::Partition(partition_record(&info, *index, partition))
        }));
        let creation = TopicCreation {
            id,
            partitions_count: info.partitions_count(),
            replication_factor: info.replication_factor(),
            configs: self.defaults().node.describe_topic(&values),
        };
        Ok((records, creation))
    }

    fn new_partitions(
        &self,
        topic: &CreateTopic,
    ) -> Result<BTreeMap<PartitionIndex, PartitionInfo>, Refusal> {
        if !topic.assignments.is_empty() {
            return self.assigned_partitions(topic);
        }
        if topic.replication_factor < -1 || topic.replication_factor == 0 {
            let message =
                "Replication factor must be larger than 0, or -1 to use the default value.";
            return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
        }
        if topic.partitions_count < -1 || topic.partitions_count == 0 {
            let message = "Number of partitions was set to an invalid non-positive value.";
            return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
        }
        let defaults = self.defaults();
        let or_default = |given: i32, default: i32| if given == -1 { default } else { given };
        let count = or_default(topic.partitions_count, defaults.partitions_count);
        let factor =
            or_default(i32::from(topic.replication_factor), i32::from(defaults.replication_factor))
                as i16;
        // Before anything is placed: a request for two billion partitions costs nothing.
        if count as usize > PARTITIONS_PER_REQUEST_MAX {
            return Err(too_many_partitions());
        }
        let placed = self.place(0, count, factor)?;
        (0..).zip(placed).map(|(i, r)| Ok((PartitionIndex(i), self.new_partition(r, i)?))).collect()
    }

    fn assigned_partitions(
        &self,
        topic: &CreateTopic,
    ) -> Result<BTreeMap<PartitionIndex, PartitionInfo>, Refusal> {
        let both = |what: &str| {
            Err(Refusal::new(
                ErrorCode::InvalidRequest,
                format!(
                    "A manual partition assignment was specified, but {what} was not set to -1."
                ),
            ))
        };
        if topic.replication_factor != -1 {
            return both("replication factor");
        }
        if topic.partitions_count != -1 {
            return both("numPartitions");
        }
        if topic.assignments.len() > PARTITIONS_PER_REQUEST_MAX {
            return Err(too_many_partitions());
        }
        let mut partitions = BTreeMap::new();
        let mut factor = None;
        for (index, replicas) in &topic.assignments {
            if partitions.contains_key(index) {
                return Err(Refusal::new(
                    ErrorCode::InvalidReplicaAssignment,
                    format!("Found multiple manual partition assignments for partition {index}"),
                ));
            }
            self.check_assignment(replicas, factor)?;
            factor = Some(replicas.len());
            partitions.insert(*index, self.new_partition(replicas.clone(), index.0)?);
        }
        if !partitions.keys().map(|index| index.0).eq(0..partitions.len() as i32) {
            return Err(Refusal::new(
                ErrorCode::InvalidReplicaAssignment,
                "partitions should be a consecutive 0-based integer sequence",
            ));
        }
        Ok(partitions)
    }

    /// Deletes topics. Each stands for itself.
    pub fn delete_topics(&self, topics: &[DeleteTopic]) -> Decision<Vec<DeletedTopic>> {
        let names = duplicates(topics.iter().filter_map(|topic| topic.name.as_ref()));
        let mut ids = BTreeSet::new();
        let ids_twice: BTreeSet<TopicId> =
            topics.iter().filter_map(|topic| topic.id).filter(|id| !ids.insert(*id)).collect();
        // A topic meant by name and by id at once stays; its name is answered for both.
        let meant_twice: BTreeSet<TopicId> = topics
            .iter()
            .filter(|topic| topic.id.is_none())
            .filter_map(|topic| topic.name.as_ref().filter(|name| !names.contains(*name)))
            .filter_map(|name| self.image.topic(name).map(|found| found.id))
            .filter(|id| ids.contains(id))
            .collect();
        let is_deletion_on = self.defaults().is_topic_deletion_on;
        let mut answered = BTreeSet::new();
        let mut records = Vec::new();
        let mut results: Vec<DeletedTopic> = Vec::new();
        for topic in topics {
            let is_told_by_name = topic.id.is_some_and(|id| meant_twice.contains(&id));
            if topic.name.is_none() && is_told_by_name {
                continue;
            }
            let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
            let mut id = topic.id;
            let found = match (&topic.name, topic.id) {
                (Some(_), Some(_)) => invalid("You may not specify both topic name and topic id."),
                (None, None) => invalid("Neither topic name nor id were specified."),
                (Some(name), None) if names.contains(name) => invalid("Duplicate topic name."),
                (None, Some(id)) if ids_twice.contains(&id) => invalid("Duplicate topic id."),
                (Some(name), None) => self
                    .image
                    .topic(name)
                    .ok_or_else(|| Refusal::from(ErrorCode::UnknownTopicOrPartition)),
                (None, Some(id)) => self
                    .image
                    .topic_by_id(id)
                    .ok_or_else(|| Refusal::from(ErrorCode::UnknownTopicId)),
            };
            let found = found.and_then(|found| match is_deletion_on {
                true => Ok(found),
                false => Err(Refusal::from(ErrorCode::TopicDeletionDisabled)),
            });
            let result = found.and_then(|found| {
                id = Some(found.id);
                match meant_twice.contains(&found.id) && !planted(Mutant::MeantTwiceDeleted) {
                    true => {
                        invalid("The provided topic name maps to an ID that was already supplied.")
                    }
                    false => Ok(found),
                }
            });
            if let Ok(found) = &result {
                let record = RemoveTopicRecord { topic_id: found.id.0 };
                records.push(MetadataRecord::RemoveTopic(record));
            }
            let deleted = DeletedTopic {
                name: topic.name.clone().or(result.as_ref().ok().map(|t| (&*t.name.0).into())),
                id,
                result: result.map(|_| ()),
            };
            // One answer for all appearances of a name or id.
            if answered.insert((&topic.name, topic.id)) {
                results.push(deleted);
            }
        }
        (records, results)
    }
}

fn too_many_partitions() -> Refusal {
    let message = "Excessively large number of partitions per request.";
    Refusal::new(ErrorCode::PolicyViolation, message)
}

/// Values for a new topic, checked.
fn topic_values(topic: &str, configs: &[(Str, Option<Str>)]) -> Result<ConfigMap, Refusal> {
    let mut values = ConfigMap::new();
    for (name, value) in configs {
        let Some(value) = value else {
            let message = format!("Null value not supported for topic configs: {name}");
            return Err(Refusal::new(ErrorCode::InvalidConfig, message));
        };
        values.insert(name.clone(), value.clone());
    }
    let checked = match is_internal(topic) {
        true => check_internal_topic(&values),
        false => check_topic(&values),
    };
    checked.map_err(|error| Refusal::new(ErrorCode::InvalidConfig, error.to_string()))?;
    if is_internal(topic) {
        keep_internal(&mut values);
    }
    Ok(values)
}

/// Whether a topic is the broker's own.
pub(super) fn is_internal(topic: &str) -> bool {
    matches!(topic, "__consumer_offsets" | "__transaction_state" | "__share_group_state")
}

/// What the broker's own topics are whatever the defaults of topics are: synced, and never thrown away by age or size.
pub(super) fn keep_internal(values: &mut ConfigMap) {
    for (name, value) in [("durability", "sync"), ("cleanup.policy", "compact")] {
        values.entry(name.into()).or_insert_with(|| value.into());
    }
}
