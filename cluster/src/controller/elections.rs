//! Elections that an operator asks for: ElectLeaders.

use types::encoding::Str;
use types::{ErrorCode, PartitionIndex};

use super::change::{Election, Wish};
use super::{Controller, Decision, Refusal, duplicates};

/// A partition whose leader is to be elected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ElectLeaders {
    /// Its topic.
    pub topic: Str,
    /// The partition.
    pub index: PartitionIndex,
}

impl Controller {
    /// Elects the first replica of each partition, or with `is_unclean` any that is there where no clean one is: records may
    /// be lost then (I30). Each stands for itself.
    pub fn elect_leaders(
        &self,
        partitions: &[ElectLeaders],
        is_unclean: bool,
    ) -> Decision<Vec<Result<(), Refusal>>> {
        let judge = self.judge();
        let repeated = duplicates(partitions.iter().map(|asked| (&asked.topic, asked.index)));
        let mut records = Vec::new();
        let mut answers = Vec::with_capacity(partitions.len());
        for asked in partitions {
            if repeated.contains(&(&asked.topic, asked.index)) {
                answers.push(Err(ErrorCode::InvalidRequest.into()));
                continue;
            }
            let topic = self.image.topic(&asked.topic);
            let found = topic.and_then(|topic| Some((topic, topic.partitions.get(&asked.index)?)));
            let Some((topic, before)) = found else {
                answers.push(Err(unknown(asked)));
                continue;
            };
            let preferred = before.replicas.first().copied();
            let is_settled = match is_unclean {
                true => before.leader.is_some(),
                false => before.leader == preferred,
            };
            if is_settled {
                answers.push(Err(ErrorCode::ElectionNotNeeded.into()));
                continue;
            }
            let election = if is_unclean { Election::Unclean } else { Election::Preferred };
            let wish = Wish { election, ..Wish::default() };
            let after = judge.settle(topic, before, &wish);
            records.extend(judge.record(topic, asked.index, before, &after, false));
            answers.push(match (is_unclean, after.leader) {
                (true, Some(_)) => Ok(()),
                (true, None) => Err(ErrorCode::EligibleLeadersNotAvailable.into()),
                (false, leader) if leader == preferred => Ok(()),
                (false, _) => Err(ErrorCode::PreferredLeaderNotAvailable.into()),
            });
        }
        (records, answers)
    }
}

fn unknown(asked: &ElectLeaders) -> Refusal {
    let message = format!("No such partition as {}-{}", asked.topic, asked.index);
    Refusal::new(ErrorCode::UnknownTopicOrPartition, message)
}
