//! Brokers: their registration, their terms as leaders, and the producer ids they hand out.

use record::stored::metadata::{
    BrokerRegistrationChangeRecord, MetadataRecord, PartitionChangeRecord, ProducerIdsRecord,
    UnregisterBrokerRecord,
};
use types::encoding::Str;
use types::mutant::{Mutant, planted};
use types::{BrokerEpoch, BrokerId, DirectoryId, ErrorCode, ProducerId, Uuid};

use super::features::FEATURES;
use super::{Controller, Decision, Refusal};
use crate::metadata::{BrokerFeature, BrokerInfo, BrokerListener, register};

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
    /// Its log directories.
    pub directories: Vec<DirectoryId>,
    /// Whether its process ended cleanly the last time. If not, its logs may have lost what nobody was promised, so its
    /// terms as leader end here and clients can tell the old tail from the new (I16).
    pub was_stopped_cleanly: bool,
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
    /// Registers a broker, unfenced. `epoch` must be above every epoch before: the room gives the offset that the record
    /// will have in the metadata log, as Kafka does. Answers the epoch.
    pub fn register_broker(
        &self,
        request: &RegisterBroker,
        epoch: BrokerEpoch,
    ) -> Decision<Result<BrokerEpoch, Refusal>> {
        let before = self.image.broker(request.id);
        if let Some(before) = before
            && before.epoch >= epoch
        {
            let message = format!(
                "Broker {} is registered with epoch {}, which is not before {epoch}.",
                request.id, before.epoch
            );
            return (Vec::new(), Err(Refusal::new(ErrorCode::StaleBrokerEpoch, message)));
        }
        if let Some((other, directory)) = self.owner_of_any(request) {
            let message = format!("Broker {other} already has the log directory {directory}.");
            return (
                Vec::new(),
                Err(Refusal::new(ErrorCode::DuplicateBrokerRegistration, message)),
            );
        }
        let features = FEATURES.iter().map(|feature| BrokerFeature {
            name: feature.name.into(),
            level_min: feature.level_min,
            level_max: feature.level_max,
        });
        let broker = BrokerInfo {
            id: request.id,
            epoch,
            incarnation: request.incarnation,
            listeners: request.listeners.clone(),
            features: features.collect(),
            rack: request.rack.clone(),
            is_fenced: false,
            is_stopping: false,
            directories: request.directories.clone(),
        };
        let mut records = vec![MetadataRecord::RegisterBroker(register(&broker))];
        if !request.was_stopped_cleanly {
            records.extend(self.renew_terms(request.id));
        }
        (records, Ok(epoch))
    }

    fn owner_of_any(&self, request: &RegisterBroker) -> Option<(BrokerId, DirectoryId)> {
        let others = self.image.brokers().filter(|broker| broker.id != request.id);
        others.into_iter().find_map(|broker| {
            let shared = request.directories.iter().find(|id| broker.directories.contains(id));
            shared.map(|directory| (broker.id, *directory))
        })
    }

    /// New leader epochs for all that `broker` leads.
    fn renew_terms(&self, broker: BrokerId) -> impl Iterator<Item = MetadataRecord> + '_ {
        self.image.topics().flat_map(move |topic| {
            let led = topic.partitions.iter().filter(move |(_, p)| p.leader == Some(broker));
            led.map(move |(index, _)| {
                MetadataRecord::PartitionChange(PartitionChangeRecord {
                    partition_id: index.0,
                    topic_id: topic.id.0,
                    leader: broker.0,
                    ..PartitionChangeRecord::default()
                })
            })
        })
    }

    /// One of a broker's log directories failed, and others are left: what is new goes to those. Its partitions stay assigned
    /// to it, and the next registration tells anew which directories work.
    pub fn give_up_directory(&self, id: BrokerId, directory: DirectoryId) -> Vec<MetadataRecord> {
        let Some(broker) = self.image.broker(id) else { return Vec::new() };
        let left = broker.directories.iter().filter(|known| **known != directory);
        let log_dirs: Vec<Uuid> = left.map(|known| known.0).collect();
        // A record without directories says nothing of them.
        if log_dirs.is_empty()
            || log_dirs.len() == broker.directories.len()
            || planted(Mutant::FailedStillChosen)
        {
            return Vec::new();
        }
        vec![MetadataRecord::BrokerRegistrationChange(BrokerRegistrationChangeRecord {
            broker_id: id.0,
            broker_epoch: broker.epoch.0,
            log_dirs,
            ..BrokerRegistrationChangeRecord::default()
        })]
    }

    /// Forgets a broker that holds no partition.
    pub fn unregister_broker(&self, id: BrokerId) -> Decision<Result<(), Refusal>> {
        let Some(broker) = self.image.broker(id) else {
            let message = format!("Broker ID {id} is not currently registered");
            return (Vec::new(), Err(Refusal::new(ErrorCode::BrokerIdNotRegistered, message)));
        };
        let record = UnregisterBrokerRecord { broker_id: id.0, broker_epoch: broker.epoch.0 };
        (vec![MetadataRecord::UnregisterBroker(record)], Ok(()))
    }

    /// Hands a block of producer ids to a broker. It may use them once the record is committed, not before (I45).
    pub fn allocate_producer_ids(
        &self,
        broker: BrokerId,
        epoch: BrokerEpoch,
    ) -> Decision<Result<ProducerIdBlock, Refusal>> {
        let refuse = |code, message: String| (Vec::new(), Err(Refusal::new(code, message)));
        match self.image.broker(broker) {
            None => {
                return refuse(
                    ErrorCode::BrokerIdNotRegistered,
                    format!("No broker with id {broker} found."),
                );
            }
            Some(known) if known.epoch != epoch => {
                let message =
                    format!("Expected broker epoch {}, but got broker epoch {epoch}", known.epoch);
                return refuse(ErrorCode::StaleBrokerEpoch, message);
            }
            Some(_) => {}
        }
        let first = self.image.next_producer_id();
        let Some(next_producer_id) = first.checked_add(PRODUCER_IDS_PER_BLOCK) else {
            return refuse(
                ErrorCode::UnknownServerError,
                "Exhausted all producerIds as the next block's end producerId has exceeded long type limit"
                    .to_owned(),
            );
        };
        let record =
            ProducerIdsRecord { broker_id: broker.0, broker_epoch: epoch.0, next_producer_id };
        let block = ProducerIdBlock { first: ProducerId(first), count: PRODUCER_IDS_PER_BLOCK };
        (vec![MetadataRecord::ProducerIds(record)], Ok(block))
    }
}
