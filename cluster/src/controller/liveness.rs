//! Brokers that come and go: what becomes of the partitions they hold.

use record::stored::metadata::BrokerRegistrationChangeRecord;
use types::mutant::{Mutant, planted};
use types::{BrokerEpoch, BrokerId, DirectoryId, ErrorCode, PartitionIndex, TopicId};

use super::change::Wish;
use super::{Controller, Decision, Refusal};
use crate::metadata::{BrokerInfo, MetadataRecord, PartitionInfo};

/// What [`BrokerRegistrationChangeRecord`] calls a broker that may not lead any more, and one that may again.
const FENCED: i8 = 1;
const UNFENCED: i8 = -1;

/// Where a replica of a broker lies from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AssignReplica {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub index: PartitionIndex,
    /// The directory, or one that is none of the broker's if the replica is lost.
    pub directory: DirectoryId,
}

impl Controller {
    /// Brokers are not heard of: they lead nothing and are in sync with nothing until they are. Those whose registration is
    /// another one, or fenced already, are passed over (I35).
    pub fn fence_brokers(&self, brokers: &[(BrokerId, BrokerEpoch)]) -> Vec<MetadataRecord> {
        let known = brokers.iter().filter_map(|(id, epoch)| self.registered(*id, *epoch).ok());
        let unfenced: Vec<&BrokerInfo> = known.filter(|broker| !broker.is_fenced).collect();
        if unfenced.is_empty() {
            return Vec::new();
        }
        let changes = unfenced.iter().map(|broker| {
            let change = BrokerRegistrationChangeRecord { fenced: FENCED, ..change_of(broker) };
            MetadataRecord::BrokerRegistrationChange(change)
        });
        self.consequences(changes.collect(), |_, _, _, partition| {
            let is_touched = unfenced.iter().any(|broker| counts(partition, broker.id));
            is_touched.then(Wish::default)
        })
    }

    /// A broker has caught up with the metadata: it may lead, and partitions without a leader may have waited for it.
    pub fn unfence_broker(
        &self,
        id: BrokerId,
        epoch: BrokerEpoch,
    ) -> Result<Vec<MetadataRecord>, Refusal> {
        let broker = self.registered(id, epoch)?;
        if !broker.is_fenced {
            return Ok(Vec::new());
        }
        let change = BrokerRegistrationChangeRecord { fenced: UNFENCED, ..change_of(broker) };
        Ok(self.after(change, |partition| {
            partition.leader.is_none() && partition.replicas.contains(&id)
        }))
    }

    /// A broker wants to stop: others lead what they can, and go on without it. What only it can lead it leads until it is
    /// gone.
    pub fn stop_broker(
        &self,
        id: BrokerId,
        epoch: BrokerEpoch,
    ) -> Result<Vec<MetadataRecord>, Refusal> {
        let broker = self.registered(id, epoch)?;
        if broker.is_stopping {
            return Ok(Vec::new());
        }
        let change =
            BrokerRegistrationChangeRecord { in_controlled_shutdown: 1, ..change_of(broker) };
        let records = vec![MetadataRecord::BrokerRegistrationChange(change)];
        Ok(self.consequences(records, |judge, _, _, partition| {
            let others = partition.isr.iter().copied().filter(|other| *other != id);
            let isr: Vec<BrokerId> = others.collect();
            let can_go_on = isr.iter().any(|other| judge.may_lead(*other, partition));
            let holds = partition.isr.contains(&id);
            (holds && can_go_on).then(|| Wish { isr: Some(isr), ..Wish::default() })
        }))
    }

    /// Whether nothing is led by a broker that others could lead: it may stop.
    pub(super) fn may_stop(&self, id: BrokerId) -> bool {
        let judge = self.judge();
        self.led_by(id).all(|partition| {
            let mut others = partition.isr.iter().filter(|other| **other != id);
            !others.any(|other| judge.may_lead(*other, partition))
        })
    }

    /// Whether a broker leads anything.
    pub(super) fn leads_any(&self, id: BrokerId) -> bool {
        self.led_by(id).next().is_some()
    }

    fn led_by(&self, id: BrokerId) -> impl Iterator<Item = &PartitionInfo> {
        let all = self.image.partitions().map(|(_, _, partition)| partition);
        all.filter(move |partition| partition.leader == Some(id))
    }

    /// Where replicas of a broker lie from now on, each answered for itself. One whose directory is gone begins anew in
    /// another, unless nobody else may hold what is committed (KAFKA_STORAGE_ERROR, I28); one whose directory works has been
    /// moved with all it holds. Of one that is named twice the last place counts.
    pub fn assign_replicas(
        &self,
        id: BrokerId,
        epoch: BrokerEpoch,
        places: &[AssignReplica],
    ) -> Decision<Result<Vec<Result<(), Refusal>>, Refusal>> {
        let Ok(broker) = self.registered(id, epoch) else {
            return (Vec::new(), Err(ErrorCode::StaleBrokerEpoch.into()));
        };
        let mut series = self.series();
        let mut assign = |place: &AssignReplica| -> Result<(), Refusal> {
            let controller = &series.controller;
            let topic = controller.image.topic_by_id(place.topic);
            let topic = topic.ok_or(ErrorCode::UnknownTopicId)?;
            let before = topic.partitions.get(&place.index);
            let before = before.ok_or(ErrorCode::UnknownTopicOrPartition)?;
            if !before.replicas.contains(&id) {
                return Err(ErrorCode::NotLeaderOrFollower.into());
            }
            let old = before.directory_of(id).filter(|old| *old != place.directory);
            let is_gone = old.is_some_and(|old| !broker.directories.contains(&old));
            if is_gone && !before.is_held_without(id) {
                // What lay there may come back, and nobody else is known to have it (E8).
                return Err(ErrorCode::KafkaStorageError.into());
            }
            let is_emptied = is_gone;
            let directory = Some((id, place.directory));
            let emptied = is_emptied.then_some(id);
            let wish = match planted(Mutant::EmptiedAwaited) {
                true => Wish { directory, lost: Vec::from_iter(emptied), ..Wish::default() },
                false => Wish { directory, emptied, ..Wish::default() },
            };
            let (_, change) = controller.judge().change(topic, place.index, before, &wish);
            series.take(change.into_iter().collect());
            Ok(())
        };
        let answers = places.iter().map(&mut assign).collect();
        (series.records, Ok(answers))
    }

    /// The change of a broker's registration, and what it makes of the partitions that it `touches`.
    pub(super) fn after(
        &self,
        change: BrokerRegistrationChangeRecord,
        touches: impl Fn(&PartitionInfo) -> bool,
    ) -> Vec<MetadataRecord> {
        let records = vec![MetadataRecord::BrokerRegistrationChange(change)];
        self.consequences(records, |_, _, _, partition| touches(partition).then(Wish::default))
    }
}

/// Whether it matters for a partition what becomes of the broker.
pub(super) fn counts(partition: &PartitionInfo, id: BrokerId) -> bool {
    partition.leader == Some(id) || partition.isr.contains(&id) || partition.elr.contains(&id)
}

pub(super) fn change_of(broker: &BrokerInfo) -> BrokerRegistrationChangeRecord {
    BrokerRegistrationChangeRecord {
        broker_id: broker.id.0,
        broker_epoch: broker.epoch.0,
        ..BrokerRegistrationChangeRecord::default()
    }
}
