//! Leaders change who is in sync: AlterPartition, by comparing and setting (I27).

use types::mutant::{Mutant, planted};
use types::{
    BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, PartitionEpoch, PartitionIndex, TopicId,
};

use super::change::Wish;
use super::{Controller, Decision, Refusal, duplicates};
use crate::metadata::{PartitionInfo, TopicInfo};

/// Who is in sync with a partition, as its leader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AlterPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub index: PartitionIndex,
    /// The term in which the leader says so.
    pub leader_epoch: LeaderEpoch,
    /// The registration that it changes.
    pub epoch: PartitionEpoch,
    /// The replicas in sync, and for each the registration that the leader knows; itself included.
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
    /// Whether it is still recovering from an unclean election.
    pub is_recovering: bool,
}

impl Controller {
    /// Changes who is in sync with partitions that `broker` leads. Each stands for itself, and is answered with its registration.
    pub fn alter_partitions(
        &self,
        broker: BrokerId,
        epoch: BrokerEpoch,
        wishes: &[AlterPartition],
    ) -> Decision<Result<Vec<Result<PartitionInfo, Refusal>>, Refusal>> {
        if self.registered(broker, epoch).is_err() {
            return (Vec::new(), Err(ErrorCode::StaleBrokerEpoch.into()));
        }
        let judge = self.judge();
        let repeated = duplicates(wishes.iter().map(|wish| (wish.topic, wish.index)));
        let mut records = Vec::new();
        let mut answers = Vec::with_capacity(wishes.len());
        for wish in wishes {
            let allowed = match repeated.contains(&(wish.topic, wish.index)) {
                true => Err(ErrorCode::InvalidRequest.into()),
                false => self.allow(broker, wish),
            };
            let answer = allowed.and_then(|(topic, before)| {
                let isr = wish.isr.iter().map(|(id, _)| *id).collect();
                let is_recovered = !wish.is_recovering;
                let asked =
                    Wish { isr: Some(isr), is_heard: true, is_recovered, ..Wish::default() };
                let (mut after, change) = judge.change(topic, wish.index, before, &asked);
                if let Some(record) = change {
                    // What applying the record will make of the epochs.
                    after.epoch = PartitionEpoch(before.epoch.0 + 1);
                    records.push(record);
                }
                match after.leader == Some(broker) && after.replicas == before.replicas {
                    true => Ok(after),
                    // The end of a reassignment: a new term begins, whose leader learns of it from the metadata.
                    false => Err(ErrorCode::NewLeaderElected.into()),
                }
            });
            answers.push(answer);
        }
        (records, Ok(answers))
    }

    /// The partition, if this leader may change it so.
    fn allow(
        &self,
        broker: BrokerId,
        wish: &AlterPartition,
    ) -> Result<(&TopicInfo, &PartitionInfo), Refusal> {
        let refuse = |code: ErrorCode| Err(Refusal::from(code));
        let Some(topic) = self.image.topic_by_id(wish.topic) else {
            return refuse(ErrorCode::UnknownTopicId);
        };
        let Some(partition) = topic.partitions.get(&wish.index) else {
            return refuse(ErrorCode::UnknownTopicOrPartition);
        };
        // Whoever knows more than this controller speaks to one that has been replaced.
        if wish.leader_epoch > partition.leader_epoch || wish.epoch > partition.epoch {
            return refuse(ErrorCode::NotController);
        }
        if !planted(Mutant::DeposedChangesIsr) {
            if wish.leader_epoch < partition.leader_epoch {
                return refuse(ErrorCode::FencedLeaderEpoch);
            }
            if partition.leader != Some(broker) {
                return refuse(ErrorCode::InvalidRequest);
            }
            if wish.epoch < partition.epoch {
                return refuse(ErrorCode::InvalidUpdateVersion);
            }
        }
        let is_distinct = duplicates(wish.isr.iter().map(|(id, _)| *id)).is_empty();
        let is_replica = |(id, _): &(BrokerId, BrokerEpoch)| partition.replicas.contains(id);
        let has_leader = wish.isr.iter().any(|(id, _)| *id == broker);
        let begins_again = wish.is_recovering && !partition.is_recovering;
        let is_alone = wish.isr.len() == 1;
        if !is_distinct
            || !wish.isr.iter().all(is_replica)
            || !has_leader
            || begins_again
            || wish.is_recovering && !is_alone
        {
            return refuse(ErrorCode::InvalidRequest);
        }
        // I26: who joins is registered as the leader knows it, and may lead.
        let judge = self.judge();
        let is_current = |(id, epoch): &(BrokerId, BrokerEpoch)| {
            let is_known = self.image.broker(*id).is_some_and(|known| known.epoch == *epoch);
            let is_known = is_known || planted(Mutant::StaleReplicaJoins);
            is_known && (partition.isr.contains(id) || judge.may_lead(*id, partition))
        };
        match wish.isr.iter().all(is_current) {
            true => Ok((topic, partition)),
            false => refuse(ErrorCode::IneligibleReplica),
        }
    }
}
