//! Admin operations: what an operator or a broker asks of the cluster, decided on one image.
//!
//! Every operation takes `&self` and gives the records that would carry it out, together with its answer. Nothing changes
//! until the metadata room takes the records in with [`Controller::apply`]; so validating only is deciding without taking
//! in. All records of one operation belong into one batch of the metadata log: they commit together or not at all (I41).
//!
//! The image here runs ahead of the committed one: decisions may be pipelined, and if the log fails the whole controller is
//! dropped. Error codes and messages are Kafka's where clients and tools depend on them. Randomness comes in as a value.

mod balance;
mod brokers;
mod change;
mod configs;
mod elections;
mod features;
mod isr;
mod liveness;
mod names;
mod partitions;
mod placement;
mod reassign;
mod recovery;
mod sessions;
mod topics;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use types::mutant::{Mutant, planted};
use types::{BrokerEpoch, BrokerId, DirectoryId, ErrorCode, Uuid};

pub use balance::Holdings;
pub use brokers::{ProducerIdBlock, RegisterBroker};
pub use configs::{AlterConfigs, Altered, ConfigChange, ConfigOp, SetConfigs, notice_of};
pub use elections::ElectLeaders;
pub use features::{FEATURES, FeatureChange, SupportedFeature, supported};
pub use isr::AlterPartition;
pub use liveness::AssignReplica;
pub use names::check_name;
pub use partitions::GrowTopic;
pub use reassign::Reassign;
pub use recovery::{LOG_ENDS_MAX, LogEndAnswer, LogEndQuestion, Recovered, Recovery};
pub use sessions::{Heartbeat, HeartbeatAnswer, Sessions};
pub use topics::{CreateTopic, CreatedTopic, DeleteTopic, DeletedTopic, TopicCreation};

use crate::config::{BrokerSettings, ConfigMap};
use crate::metadata::{ApplyError, BrokerInfo, Delta, Image, MetadataRecord};

/// Partitions that one request may create: a mutation limit that keeps a batch of metadata records small.
pub const PARTITIONS_PER_REQUEST_MAX: usize = 10_000;

/// Name of the metadata log, which is no topic that clients can touch.
pub const METADATA_TOPIC: &str = "__cluster_metadata";

/// Why an operation was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Kafka's code.
    pub code: ErrorCode,
    /// What the user reads; `None` where Kafka sends its standard text.
    pub message: Option<String>,
}

impl Refusal {
    fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal { code, message: Some(message.into()) }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Refusal {
        Refusal { code, message: None }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{}: {message}", self.code.name()),
            None => f.write_str(self.code.name()),
        }
    }
}

impl std::error::Error for Refusal {}

/// Records to commit, and the answer once they are.
pub type Decision<T> = (Vec<MetadataRecord>, T);

/// Where fresh ids come from.
pub type NewId<'a> = &'a mut dyn FnMut() -> Uuid;

/// Decides on admin operations. Not cheap to clone, and there is one per cluster.
#[derive(Debug)]
pub struct Controller {
    image: Image,
    /// Values of `server.properties`: the controller's own are the cluster's defaults.
    fixed: Arc<ConfigMap>,
    /// Log directories that take nothing new, as their brokers say with their heartbeats (KIP-1066).
    cordoned: BTreeMap<BrokerId, Vec<DirectoryId>>,
}

impl Controller {
    /// A controller on `image`, with the values of `server.properties`.
    pub fn new(image: Image, fixed: Arc<ConfigMap>) -> Controller {
        Controller { image, fixed, cordoned: BTreeMap::new() }
    }

    /// Another one on the same image, for what is thought out aside.
    pub fn fork(&self) -> Controller {
        let (image, fixed) = (self.image.clone(), self.fixed.clone());
        Controller { image, fixed, cordoned: self.cordoned.clone() }
    }

    /// A broker says which of its directories take nothing new. Soft state: a new controller hears it with the next heartbeat.
    pub fn set_cordoned(&mut self, id: BrokerId, directories: Vec<DirectoryId>) {
        match directories.is_empty() {
            true => drop(self.cordoned.remove(&id)),
            false => drop(self.cordoned.insert(id, directories)),
        }
    }

    /// The directories of a broker that take something new.
    fn open_directories<'a>(
        &'a self,
        broker: &'a BrokerInfo,
    ) -> impl Iterator<Item = DirectoryId> + Clone + 'a {
        let cordoned = self.cordoned.get(&broker.id);
        let is_open = move |id: &DirectoryId| cordoned.is_none_or(|known| !known.contains(id));
        broker.directories.iter().copied().filter(is_open)
    }

    /// Whether nothing new is to come to a broker.
    fn is_cordoned(&self, broker: &BrokerInfo) -> bool {
        self.open_directories(broker).next().is_none()
    }

    /// The newest image, which may run ahead of the committed one.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Takes in records that it decided, or that were read from the log. After an error the image has stopped part of the
    /// way, and the controller is of no use: a log that makes no sense is not gone on with.
    pub fn apply<'a>(
        &mut self,
        records: impl IntoIterator<Item = &'a MetadataRecord>,
    ) -> Result<Delta, ApplyError> {
        // Taking the image out leaves its maps without a second owner, so that a replay copies none of them.
        let mut delta = Delta::new(std::mem::take(&mut self.image));
        let applied = records.into_iter().try_for_each(|record| delta.apply(record));
        let (image, delta) = delta.finish();
        self.image = image;
        applied.map(|()| delta)
    }

    /// The broker, if that is its registration now (I35).
    fn registered(&self, id: BrokerId, epoch: BrokerEpoch) -> Result<&BrokerInfo, Refusal> {
        let Some(broker) = self.image.broker(id) else {
            let message = format!("No broker with id {id} found.");
            return Err(Refusal::new(ErrorCode::BrokerIdNotRegistered, message));
        };
        if broker.epoch != epoch && !planted(Mutant::StaleBrokerBelieved) {
            let message =
                format!("Expected broker epoch {}, but got broker epoch {epoch}", broker.epoch);
            return Err(Refusal::new(ErrorCode::StaleBrokerEpoch, message));
        }
        Ok(broker)
    }

    /// Begins several decisions that are one batch.
    fn series(&self) -> Series {
        Series { controller: self.fork(), records: Vec::new() }
    }

    /// The cluster's defaults: fixed values below those set for all brokers.
    fn defaults(&self) -> BrokerSettings {
        // No broker has this id: values of single brokers are none of the cluster's.
        BrokerSettings::resolve(self.image.node_configs(self.fixed.clone(), BrokerId(-1)))
    }
}

/// Decisions one after the other, each on what those before it lead to.
struct Series {
    controller: Controller,
    records: Vec<MetadataRecord>,
}

impl Series {
    fn take(&mut self, records: Vec<MetadataRecord>) {
        self.controller.apply(&records).expect("the controller's own records make sense");
        self.records.extend(records);
    }
}

/// What stands more than once in a request.
fn duplicates<K: Ord + Copy>(asked: impl Iterator<Item = K>) -> std::collections::BTreeSet<K> {
    let mut seen = std::collections::BTreeSet::new();
    asked.filter(|one| !seen.insert(*one)).collect()
}

#[cfg(test)]
mod tests;
