//! Partitions that move to other brokers: AlterPartitionReassignments.
//!
//! First the partition has the old replicas and the new ones; when all that are added are in sync, and enough of those that
//! stay, the others leave (I34). Until then it can be taken back.

use std::collections::BTreeMap;

use types::encoding::Str;
use types::{BrokerId, DirectoryId, ErrorCode, PartitionIndex};

use super::change::{Assignment, Wish};
use super::{Controller, Decision, Refusal, duplicates};
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

impl Controller {
    /// Begins to move partitions, or takes that back. Each stands for itself. `may_resize`: whether a partition may have
    /// another number of replicas than before.
    pub fn reassign(
        &self,
        partitions: &[Reassign],
        may_resize: bool,
    ) -> Decision<Vec<Result<(), Refusal>>> {
        let judge = self.judge();
        let repeated = duplicates(partitions.iter().map(|asked| (&asked.topic, asked.index)));
        let unknown = |message| Refusal::new(ErrorCode::UnknownTopicOrPartition, message);
        let mut records = Vec::new();
        let mut held = BTreeMap::new();
        let mut begin = |asked: &Reassign| -> Result<(), Refusal> {
            let Reassign { topic: name, index, replicas } = asked;
            if repeated.contains(&(name, *index)) {
                return Err(ErrorCode::InvalidRequest.into());
            }
            let topic = self.image.topic(name);
            let topic =
                topic.ok_or_else(|| unknown(format!("Unable to find a topic named {name}.")))?;
            let before = topic.partitions.get(index);
            let before = before
                .ok_or_else(|| unknown(format!("Unable to find partition {name}:{index}.")))?;
            let assignment = match replicas {
                Some(replicas) => self.move_to(before, replicas, may_resize, &mut held)?,
                None => take_back(before)?,
            };
            let wish = Wish { assignment: Some(keeps(before, assignment)?), ..Wish::default() };
            records.extend(judge.change(topic, *index, before, &wish).1);
            Ok(())
        };
        let answers = partitions.iter().map(&mut begin).collect();
        (records, answers)
    }

    fn move_to(
        &self,
        before: &PartitionInfo,
        target: &[BrokerId],
        may_resize: bool,
        held: &mut BTreeMap<DirectoryId, usize>,
    ) -> Result<Assignment, Refusal> {
        self.check_assignment(target, None)?;
        let old = settled(before);
        if !may_resize && old.len() != target.len() {
            let message =
                format!("The replication factor is changed from {} to {}", old.len(), target.len());
            return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
        }
        let adding: Vec<BrokerId> = target.iter().copied().filter(|id| !old.contains(id)).collect();
        let homes = adding.iter().map(|id| (*id, self.emptiest_directory(*id, held))).collect();
        let removing: Vec<BrokerId> =
            old.iter().copied().filter(|id| !target.contains(id)).collect();
        let replicas = target.iter().chain(&removing).copied().collect();
        Ok(Assignment { replicas, adding, removing, homes })
    }
}

/// The replicas before any reassignment that is under way.
fn settled(partition: &PartitionInfo) -> Vec<BrokerId> {
    let all = partition.replicas.iter().copied();
    all.filter(|id| !partition.adding.contains(id)).collect()
}

fn take_back(before: &PartitionInfo) -> Result<Assignment, Refusal> {
    if !before.is_moving() {
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
