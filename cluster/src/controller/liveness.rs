//! Brokers that come and go: what becomes of the partitions they hold.

use std::collections::BTreeSet;

use record::stored::metadata::BrokerRegistrationChangeRecord;
use types::{BrokerId, DirectoryId, PartitionIndex, TopicId};

use super::Controller;
use super::change::Wish;
use crate::metadata::{BrokerInfo, MetadataRecord, PartitionInfo};

/// What [`BrokerRegistrationChangeRecord`] calls a broker that may not lead any more, and one that may again.
const FENCED: i8 = 1;
const UNFENCED: i8 = -1;

impl Controller {
    /// A broker is not heard of: it leads nothing and is in sync with nothing until it is.
    pub fn fence_broker(&self, id: BrokerId) -> Vec<MetadataRecord> {
        let Some(broker) = self.image.broker(id).filter(|broker| !broker.is_fenced) else {
            return Vec::new();
        };
        let change = BrokerRegistrationChangeRecord { fenced: FENCED, ..change_of(broker) };
        self.after(change, |partition| counts(partition, id))
    }

    /// A broker has caught up with the metadata: it may lead, and partitions without a leader may have waited for it.
    pub fn unfence_broker(&self, id: BrokerId) -> Vec<MetadataRecord> {
        let Some(broker) = self.image.broker(id).filter(|broker| broker.is_fenced) else {
            return Vec::new();
        };
        let change = BrokerRegistrationChangeRecord { fenced: UNFENCED, ..change_of(broker) };
        self.after(change, |partition| {
            partition.leader.is_none() && partition.replicas.contains(&id)
        })
    }

    /// A broker wants to stop: others lead what they can, and go on without it. What only it can lead it leads until it is
    /// gone.
    pub fn stop_broker(&self, id: BrokerId) -> Vec<MetadataRecord> {
        let Some(broker) = self.image.broker(id).filter(|broker| !broker.is_stopping) else {
            return Vec::new();
        };
        let change =
            BrokerRegistrationChangeRecord { in_controlled_shutdown: 1, ..change_of(broker) };
        let records = vec![MetadataRecord::BrokerRegistrationChange(change)];
        self.consequences(records, |judge, _, _, partition| {
            let others = partition.isr.iter().copied().filter(|other| *other != id);
            let isr: Vec<BrokerId> = others.collect();
            let can_go_on = isr.iter().any(|other| judge.may_lead(*other, partition));
            let holds = partition.isr.contains(&id);
            (holds && can_go_on).then(|| Wish { isr: Some(isr), ..Wish::default() })
        })
    }

    /// Whether nothing is led by a broker that others could lead: it may stop.
    pub fn may_stop(&self, id: BrokerId) -> bool {
        let judge = self.judge();
        self.image.partitions().filter(|(_, _, partition)| partition.leader == Some(id)).all(
            |(_, _, partition)| {
                let mut others = partition.isr.iter().filter(|other| **other != id);
                !others.any(|other| judge.may_lead(*other, partition))
            },
        )
    }

    /// Where replicas of a broker lie from now on. One that was elsewhere before begins anew, unless it is the only one (I28).
    /// What the broker does not hold is passed over.
    pub fn assign_directories(
        &self,
        id: BrokerId,
        places: &[(TopicId, PartitionIndex, DirectoryId)],
    ) -> Vec<MetadataRecord> {
        let judge = self.judge();
        let mut records = Vec::new();
        let mut seen = BTreeSet::new();
        for (topic, index, directory) in places.iter().rev() {
            let Some(topic) = self.image.topic_by_id(*topic) else { continue };
            let Some(before) = topic.partitions.get(index) else { continue };
            if !before.replicas.contains(&id) || !seen.insert((topic.id, *index)) {
                continue;
            }
            let old = before.directory_of(id).filter(|old| *old != DirectoryId::default());
            let is_only = before.replicas.len() == 1;
            let is_elsewhere = !is_only && old.is_some_and(|old| old != *directory);
            let lost = if is_elsewhere { vec![id] } else { Vec::new() };
            let wish = Wish { directory: Some((id, *directory)), lost, ..Wish::default() };
            records.extend(judge.change(topic, *index, before, &wish).1);
        }
        records
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
