//! Partitions that move to other brokers: AlterPartitionReassignments.
//!
//! First the partition has the old replicas and the new ones; when all that are added are in sync, and enough of those that
//! stay, the others leave (I34). Until then it can be taken back.

use types::encoding::Str;
use types::{BrokerId, ErrorCode, PartitionIndex};

use super::change::{Assignment, Wish};
use super::{Controller, Decision, Refusal};
use crate::metadata::PartitionInfo;

/// A partition that is to move, or to stay after all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reassign {
    /// Its topic.
    pub topic: Str,
    /// The partition.
    pub index: PartitionIndex,
    /// Where to, preferred leader first; `None` takes back what is under way.
    pub replicas: Option<Vec<BrokerId>>,
}

/// A partition on its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reassignment {
    /// Its topic.
    pub topic: Str,
    /// The partition.
    pub index: PartitionIndex,
    /// All replicas, new and old.
    pub replicas: Vec<BrokerId>,
    /// Those that come.
    pub adding: Vec<BrokerId>,
    /// Those that go.
    pub removing: Vec<BrokerId>,
}

impl Controller {
    /// Begins to move partitions, or takes that back. Each stands for itself. `may_resize`: whether a partition may have
    /// another number of replicas than before.
    pub fn reassign(
        &self,
        partitions: &[Reassign],
        may_resize: bool,
    ) -> Decision<Vec<Result<(), Refusal>>> {
        let judge = self.judge();
        let mut records = Vec::new();
        let mut answers = Vec::with_capacity(partitions.len());
        for asked in partitions {
            let place = (&asked.topic, asked.index);
            if partitions.iter().filter(|other| (&other.topic, other.index) == place).count() > 1 {
                answers.push(Err(ErrorCode::InvalidRequest.into()));
                continue;
            }
            let topic = self.image.topic(&asked.topic);
            let found = topic.and_then(|topic| Some((topic, topic.partitions.get(&asked.index)?)));
            let Some((topic, before)) = found else {
                answers.push(Err(ErrorCode::UnknownTopicOrPartition.into()));
                continue;
            };
            let assignment = match &asked.replicas {
                Some(replicas) => self.move_to(before, asked.index, replicas, may_resize),
                None => take_back(before),
            };
            let assignment = assignment.and_then(|assignment| keeps(before, assignment));
            answers.push(assignment.map(|assignment| {
                let wish = Wish { assignment: Some(assignment), ..Wish::default() };
                records.extend(judge.change(topic, asked.index, before, &wish));
            }));
        }
        (records, answers)
    }

    /// What is under way, of all partitions or of those named.
    pub fn reassignments(&self) -> Vec<Reassignment> {
        let moving = self.partitions().filter(|(_, _, partition)| is_moving(partition));
        let told = moving.map(|(topic, index, partition)| Reassignment {
            topic: topic.name.as_str().into(),
            index,
            replicas: partition.replicas.clone(),
            adding: partition.adding.clone(),
            removing: partition.removing.clone(),
        });
        told.collect()
    }

    fn move_to(
        &self,
        before: &PartitionInfo,
        index: PartitionIndex,
        target: &[BrokerId],
        may_resize: bool,
    ) -> Result<Assignment, Refusal> {
        self.check_assignment(target, None)?;
        let old = settled(before);
        if !may_resize && old.len() != target.len() {
            let message =
                format!("The replication factor is changed from {} to {}", old.len(), target.len());
            return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
        }
        let adding: Vec<BrokerId> = target.iter().copied().filter(|id| !old.contains(id)).collect();
        let homes = adding.iter().map(|id| (*id, self.directory_of(*id, index.0))).collect();
        let removing: Vec<BrokerId> =
            old.iter().copied().filter(|id| !target.contains(id)).collect();
        let replicas = target.iter().chain(&removing).copied().collect();
        Ok(Assignment { replicas, adding, removing, homes })
    }
}

fn is_moving(partition: &PartitionInfo) -> bool {
    !partition.adding.is_empty() || !partition.removing.is_empty()
}

/// The replicas before any reassignment that is under way.
fn settled(partition: &PartitionInfo) -> Vec<BrokerId> {
    let all = partition.replicas.iter().copied();
    all.filter(|id| !partition.adding.contains(id)).collect()
}

fn take_back(before: &PartitionInfo) -> Result<Assignment, Refusal> {
    if !is_moving(before) {
        return Err(ErrorCode::NoReassignmentInProgress.into());
    }
    Ok(Assignment { replicas: settled(before), ..Assignment::default() })
}

/// The assignment, unless it takes away all that hold what is committed, or may.
fn keeps(before: &PartitionInfo, assignment: Assignment) -> Result<Assignment, Refusal> {
    let in_question = match before.isr.is_empty() && before.elr.is_empty() {
        true => before.last_known_elr.clone(),
        false => [&before.isr[..], &before.elr[..]].concat(),
    };
    if in_question.is_empty() || in_question.iter().any(|id| assignment.replicas.contains(id)) {
        return Ok(assignment);
    }
    let message = "None of these replicas holds what is committed: records would be lost.";
    Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message))
}
