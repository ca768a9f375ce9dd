//! Growing topics.

use std::collections::BTreeSet;

use types::encoding::Str;
use types::{BrokerId, ErrorCode, PartitionIndex};

use super::{Controller, Decision, PARTITIONS_PER_REQUEST_MAX, Refusal, duplicates};
use crate::metadata::{MetadataRecord, partition_record};

/// A topic that is to have more partitions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GrowTopic {
    /// Its name.
    pub name: Str,
    /// Partitions it is to have in all.
    pub partitions_count: i32,
    /// Replicas of each new partition, chosen by hand.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

impl Controller {
    /// Adds partitions to topics. Each topic stands for itself.
    pub fn create_partitions(
        &self,
        topics: &[GrowTopic],
        validate_only: bool,
    ) -> Decision<Vec<(Str, Result<(), Refusal>)>> {
        let duplicates = duplicates(topics.iter().map(|topic| &topic.name));
        let mut answered = BTreeSet::new();
        let mut records = Vec::new();
        let mut results: Vec<(Str, Result<(), Refusal>)> = Vec::new();
        let mut partitions_left = PARTITIONS_PER_REQUEST_MAX;
        for topic in topics {
            let result = if duplicates.contains(&topic.name) {
                Err(Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name."))
            } else {
                self.grow_topic(topic, &mut partitions_left).map(|own| records.extend(own))
            };
            if answered.insert(&topic.name) {
                results.push((topic.name.clone(), result));
            }
        }
        if validate_only {
            records.clear();
        }
        (records, results)
    }

    fn grow_topic(
        &self,
        topic: &GrowTopic,
        partitions_left: &mut usize,
    ) -> Result<Vec<MetadataRecord>, Refusal> {
        let found = self.image.topic(&topic.name);
        let info = found.ok_or(Refusal::from(ErrorCode::UnknownTopicOrPartition))?;
        let invalid = |message| Err(Refusal::new(ErrorCode::InvalidPartitions, message));
        let (before, after) = (info.partitions_count(), topic.partitions_count);
        if after == before {
            return invalid(format!("Topic already has {before} partition(s)."));
        }
        if after < before {
            return invalid(format!(
                "The topic {} currently has {before} partition(s); {after} would not be an increase.",
                topic.name
            ));
        }
        let added = after - before;
        if let Some(assignments) = &topic.assignments
            && assignments.len() != added as usize
        {
            return Err(Refusal::new(
                ErrorCode::InvalidReplicaAssignment,
                format!(
                    "Attempted to add {added} additional partition(s), but only {} assignment(s) \
                     were specified.",
                    assignments.len()
                ),
            ));
        }
        *partitions_left = partitions_left.checked_sub(added as usize).ok_or_else(|| {
            let message = "Excessively large number of partitions per request.";
            Refusal::new(ErrorCode::PolicyViolation, message)
        })?;
        let factor = info.replication_factor();
        let placed = match &topic.assignments {
            Some(assignments) => {
                for replicas in assignments {
                    self.check_assignment(replicas, Some(factor.max(0) as usize))?;
                }
                assignments.clone()
            }
            None => self.place(before, added, factor)?,
        };
        let indexes = before..after;
        let records = indexes.zip(placed).map(|(index, replicas)| {
            let partition = self.new_partition(replicas, index)?;
            let record = partition_record(info, PartitionIndex(index), &partition);
            Ok(MetadataRecord::Partition(record))
        });
        records.collect()
    }
}
