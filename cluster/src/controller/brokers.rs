//! Brokers: their registration, their terms as leaders, and the producer ids they hand out.

use record::stored::metadata::{
    BrokerRegistrationChangeRecord, MetadataRecord, ProducerIdsRecord, UnregisterBrokerRecord,
};
use types::encoding::Str;
use types::mutant::{Mutant, planted};
use types::{BrokerEpoch, BrokerId, DirectoryId, ErrorCode, ProducerId, Uuid};

use super::change::{Judge, Wish};
use super::liveness::{change_of, counts};
use super::{Controller, Decision, Refusal, duplicates};
use crate::metadata::{
    BrokerFeature, BrokerInfo, BrokerListener, PartitionInfo, TopicInfo, register,
};

/// Ids below this number name no directory, as in Kafka.
const RESERVED_DIRECTORIES: u128 = 100;

/// Producer ids that a broker gets at once, as in Kafka.
const PRODUCER_IDS_PER_BLOCK: i64 = 1000;

/// A broker that comes up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegisterBroker {
    /// Its id.
    pub id: BrokerId,
    /// The process: a random id that differs at each start.
    pub incarnation: Uuid,
    /// Where clients reach it.
    pub listeners: Vec<BrokerListener>,
    /// Its rack.
    pub rack: Option<Str>,
    /// Levels of features that it supports.
    pub features: Vec<BrokerFeature>,
    /// Its log directories.
    pub directories: Vec<DirectoryId>,
    /// The registration under which its last process ended cleanly. If that is not the one known, its logs may have lost
    /// what nobody was promised, so its terms as leader end here and clients can tell the old tail from the new (I16).
    pub stopped_epoch: Option<BrokerEpoch>,
    /// Whether what page-cache logs had not synced may be lost: the machine stopped, or the broker cannot tell (I28, P10).
    pub may_have_lost_unsynced: bool,
    /// Whether it may lead only when it has caught up with the metadata ([`Controller::unfence_broker`]).
    pub is_fenced: bool,
}

/// Producer ids that one broker may hand out. Nobody else ever gets them (I45).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerIdBlock {
    /// The first.
    pub first: ProducerId,
    /// How many.
    pub count: i64,
}

impl Controller {
    /// Registers a broker; what the process before it led and was in sync with is settled anew. `epoch` must be above every
    /// epoch before: the room gives the offset that the record will have in the metadata log, as Kafka does. Answers the
    /// epoch; the same process again, whose answer was lost, the one that it has.
    pub fn register_broker(
        &self,
        request: &RegisterBroker,
        epoch: BrokerEpoch,
    ) -> Decision<Result<BrokerEpoch, Refusal>> {
        let before = self.image.broker(request.id);
        if let Some(before) = before.filter(|before| before.incarnation == request.incarnation) {
            return (Vec::new(), Ok(before.epoch));
        }
        if let Err(refusal) = self.check_registration(request, epoch) {
            return (Vec::new(), Err(refusal));
        }
        let broker = BrokerInfo {
            id: request.id,
            epoch,
            incarnation: request.incarnation,
            listeners: request.listeners.clone(),
            features: request.features.clone(),
            rack: request.rack.clone(),
            is_fenced: request.is_fenced,
            is_stopping: false,
            directories: request.directories.clone(),
        };
        let was_stopped_cleanly =
            before.is_some_and(|before| request.stopped_epoch == Some(before.epoch));
        let records = vec![MetadataRecord::RegisterBroker(register(&broker))];
        let records = self.consequences(records, |judge, topic, _, partition| {
            judge.arrival(request, was_stopped_cleanly, topic, partition)
        });
        (records, Ok(epoch))
    }

    fn check_registration(
        &self,
        request: &RegisterBroker,
        epoch: BrokerEpoch,
    ) -> Result<(), Refusal> {
        let refuse = |code, message: String| Err(Refusal::new(code, message));
        if let Some(before) = self.image.broker(request.id)
            && before.epoch >= epoch
        {
            let message = format!(
                "Broker {} is registered with epoch {}, which is not before {epoch}.",
                request.id, before.epoch
            );
            return refuse(ErrorCode::StaleBrokerEpoch, message);
        }
        let invalid = |message| refuse(ErrorCode::InvalidRegistration, message);
        if request.directories.is_empty() {
            return invalid("No directories specified in request".to_owned());
        }
        if request.directories.iter().any(is_reserved) {
            return invalid("Reserved directory ID in request".to_owned());
        }
        if !duplicates(request.directories.iter()).is_empty() {
            return invalid("Duplicate directory ID in request".to_owned());
        }
        if let Some((other, directory)) = self.owner_of_any(request) {
            let message =
                format!("Broker {other} is already registered with directory {directory}");
            return invalid(message);
        }
        for (name, level) in self.image.features() {
            let known = request.features.iter().find(|feature| feature.name == *name);
            let (min, max) = known.map_or((0, 0), |known| (known.level_min, known.level_max));
            if !(min..=max).contains(level) {
                let message = format!(
                    "Unable to register because the broker does not support finalized version {level} of {name}. \
                     The broker wants a version between {min} and {max}, inclusive."
                );
                return refuse(ErrorCode::UnsupportedVersion, message);
            }
        }
        Ok(())
    }

    fn owner_of_any(&self, request: &RegisterBroker) -> Option<(BrokerId, DirectoryId)> {
        let others = self.image.brokers().filter(|broker| broker.id != request.id);
        others.into_iter().find_map(|broker| {
            let shared = request.directories.iter().find(|id| broker.directories.contains(id));
            shared.map(|directory| (broker.id, *directory))
        })
    }

    /// Log directories of a broker failed, and others are left: what is new goes to those. Its partitions stay assigned
    /// to it, and the next registration tells anew which directories work.
    pub fn give_up_directories(
        &self,
        id: BrokerId,
        epoch: BrokerEpoch,
        failed: &[DirectoryId],
    ) -> Result<Vec<MetadataRecord>, Refusal> {
        let broker = self.registered(id, epoch)?;
        let left = broker.directories.iter().filter(|known| !failed.contains(known));
        let log_dirs: Vec<Uuid> = left.map(|known| known.0).collect();
        // A record without directories says nothing of them.
        if log_dirs.is_empty()
            || log_dirs.len() == broker.directories.len()
            || planted(Mutant::FailedStillChosen)
        {
            return Ok(Vec::new());
        }
        let change = BrokerRegistrationChangeRecord { log_dirs, ..change_of(broker) };
        let lies_there = |partition: &PartitionInfo| {
            partition.directory_of(id).is_some_and(|own| failed.contains(&own))
        };
        let has_others = |partition: &PartitionInfo| partition.replicas.len() > 1;
        Ok(self.after(change, |partition| {
            has_others(partition) && counts(partition, id) && lies_there(partition)
        }))
    }

    /// Forgets a broker. What it holds stays assigned to it, and goes on without it.
    pub fn unregister_broker(&self, id: BrokerId) -> Decision<Result<(), Refusal>> {
        let Some(broker) = self.image.broker(id) else {
            let message = format!("Broker ID {id} is not currently registered");
            return (Vec::new(), Err(Refusal::new(ErrorCode::BrokerIdNotRegistered, message)));
        };
        let record = UnregisterBrokerRecord { broker_id: id.0, broker_epoch: broker.epoch.0 };
        let records = vec![MetadataRecord::UnregisterBroker(record)];
        let records = self
            .consequences(records, |_, _, _, partition| counts(partition, id).then(Wish::default));
        (records, Ok(()))
    }

    /// Hands a block of producer ids to a broker. It may use them once the record is committed, not before (I45).
    pub fn allocate_producer_ids(
        &self,
        broker: BrokerId,
        epoch: BrokerEpoch,
    ) -> Decision<Result<ProducerIdBlock, Refusal>> {
        if let Err(refusal) = self.registered(broker, epoch) {
            return (Vec::new(), Err(refusal));
        }
        let first = self.image.next_producer_id();
        let Some(next_producer_id) = first.checked_add(PRODUCER_IDS_PER_BLOCK) else {
            let message = "Exhausted all producerIds as the next block's end producerId has exceeded long type limit";
            return (Vec::new(), Err(Refusal::new(ErrorCode::UnknownServerError, message)));
        };
        let record =
            ProducerIdsRecord { broker_id: broker.0, broker_epoch: epoch.0, next_producer_id };
        let block = ProducerIdBlock { first: ProducerId(first), count: PRODUCER_IDS_PER_BLOCK };
        (vec![MetadataRecord::ProducerIds(record)], Ok(block))
    }
}

fn is_reserved(directory: &DirectoryId) -> bool {
    u128::from_be_bytes(directory.0.0) < RESERVED_DIRECTORIES
}

impl Judge<'_> {
    /// What a partition goes on as when a broker comes back (as this image knows it already).
    fn arrival(
        &self,
        request: &RegisterBroker,
        was_stopped_cleanly: bool,
        topic: &TopicInfo,
        partition: &PartitionInfo,
    ) -> Option<Wish> {
        let id = request.id;
        if !partition.replicas.contains(&id) {
            return None;
        }
        let goes_on = was_stopped_cleanly && self.is_there(id, partition);
        if !counts(partition, id) || goes_on {
            // Whoever waited for it waits no more.
            return partition.leader.is_none().then(Wish::default);
        }
        let is_only = partition.replicas.len() == 1;
        let may_have_lost = request.may_have_lost_unsynced && self.is_paged(topic) && !is_only;
        let others = partition.isr.iter().copied().filter(|other| *other != id);
        Some(Wish {
            isr: Some(others.collect()),
            lost: if may_have_lost { vec![id] } else { Vec::new() },
            ends_term: !was_stopped_cleanly && partition.leader == Some(id),
            ..Wish::default()
        })
    }
}
