//! Elections that an operator asks for: ElectLeaders.

use types::encoding::Str;
use types::mutant::{Mutant, planted};
use types::{ErrorCode, PartitionIndex};

use super::change::{Election, Wish};
use super::{Controller, Decision, Recovery, Refusal, duplicates};

/// A partition whose leader is to be elected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ElectLeaders {
    /// Its topic.
    pub topic: Str,
    /// The partition.
    pub index: PartitionIndex,
}

impl Controller {
    /// Elects the first replica of each partition, or with `is_unclean` any that is there where no clean one is, by what is known
    /// of their logs: records may be lost then (I30). Each stands for itself.
    pub fn elect_leaders(
        &self,
        partitions: &[ElectLeaders],
        is_unclean: bool,
        recovery: &Recovery,
    ) -> Decision<Vec<Result<(), Refusal>>> {
        let judge = self.judge();
        let repeated = duplicates(partitions.iter().map(|asked| (&asked.topic, asked.index)));
        let mut records = Vec::new();
        let mut elect = |asked: &ElectLeaders| -> Result<(), Refusal> {
            if repeated.contains(&(&asked.topic, asked.index)) {
                return Err(ErrorCode::InvalidRequest.into());
            }
            let topic = self.image.topic(&asked.topic);
            let found = topic.and_then(|topic| Some((topic, topic.partitions.get(&asked.index)?)));
            let (topic, before) = found.ok_or_else(|| unknown(asked))?;
            let preferred = before.replicas.first().copied();
            let is_settled = match is_unclean {
                true => before.leader.is_some(),
                false => before.leader == preferred,
            };
            if is_settled && !planted(Mutant::NeedlessElection) {
                return Err(ErrorCode::ElectionNotNeeded.into());
            }
            let election = match is_unclean {
                true => Election::Unclean(recovery.longest(self, topic.id, asked.index, before)),
                false => Election::Preferred,
            };
            let wish = Wish { election, ..Wish::default() };
            let (after, record) = judge.change(topic, asked.index, before, &wish);
            records.extend(record);
            match is_unclean {
                true if after.leader.is_none() => {
                    Err(ErrorCode::EligibleLeadersNotAvailable.into())
                }
                false if after.leader != preferred => {
                    Err(ErrorCode::PreferredLeaderNotAvailable.into())
                }
                _ => Ok(()),
            }
        };
        let answers = partitions.iter().map(&mut elect).collect();
        (records, answers)
    }
}

fn unknown(asked: &ElectLeaders) -> Refusal {
    let message = format!("No such partition as {}-{}", asked.topic, asked.index);
    Refusal::new(ErrorCode::UnknownTopicOrPartition, message)
}
