//! Replicas whose log directory is gone for good: its disk was replaced. They begin anew in another directory of this broker,
//! and fetch what they had from their leaders.
//!
//! A directory is known to be gone, and not only away, when every directory that this broker is told to use is there. The
//! controller is told before anything is created (AssignReplicasToDirs, key 73): from then on nobody counts on what such a
//! replica held. Where nobody else is known to have what is committed, a replica is left as it is: what it held may come back (E8).

use std::collections::BTreeMap;
use std::time::Duration;

use client::ClientError;
use cluster::controller::AssignReplica;
use env::{Clock, Env};
use log::LogDir;
use types::mutant::{Mutant, planted};
use types::{BrokerEpoch, DirectoryId, ErrorCode, TopicPartition};
use wire::assign_replicas_to_dirs::{
    AssignReplicasToDirsRequest, RequestDirectoryData, RequestPartitionData, RequestTopicData,
};

use crate::error_map::Refused;
use crate::metadata::MetadataUnavailable;
use crate::shared::{Shared, View};

/// Pause before what the controller has not done, or this broker does not know of yet, is asked for again.
const PAUSE: Duration = Duration::from_millis(500);
/// And before it is looked again at those that may not begin anew.
const LONG_PAUSE: Duration = Duration::from_secs(5);
/// Replicas in one request, and so in one change of the metadata.
const REPLICAS_MAX: usize = 1_000;

/// Finds homes for the replicas that have none, until all have one or the broker stops.
pub(crate) async fn run<E: Env>(broker: Shared<E>) {
    tokio::select! {
        biased;
        () = broker.stopping() => {}
        () = work(&broker) => {}
    }
}

async fn work<E: Env>(broker: &Shared<E>) {
    let (mut told, mut said) = (0, None);
    loop {
        let may_be_away = !broker.0.broken_dirs.is_empty();
        if planted(Mutant::HomesUnasked)
            || may_be_away
            || !broker.quorum().failed_directories.is_empty()
        {
            return;
        }
        let view = broker.view();
        let (homeless, waiting) = homeless(broker, &view);
        if homeless.is_empty() && waiting == 0 {
            return;
        }
        if homeless.is_empty() {
            // Until somebody else holds what is committed.
            broker.env().clock().sleep(LONG_PAUSE).await;
            continue;
        }
        if homeless.len() != told {
            told = homeless.len();
            tracing::warn!(
                replicas = told,
                "their log directory is none of this broker's any more: they begin anew in another one"
            );
        }
        if let Some(epoch) = view.image.broker(broker.broker_id()).map(|own| own.epoch)
            && let Err(error) = assign(broker, epoch, &homeless).await
        {
            let text = error.to_string();
            if said.as_ref() != Some(&text) {
                tracing::warn!(%error, "the controller does not take word of new homes of replicas yet");
            }
            said = Some(text);
        }
        broker.env().clock().sleep(PAUSE).await;
    }
}

/// Replicas of this broker that are registered to lie where nothing of it lies, of partitions whose committed records others
/// have; each with where it is to lie, which is where its log is if there is one. And how many there are of which only the lost
/// replica may hold them.
fn homeless<E: Env>(broker: &Shared<E>, view: &View<E>) -> (Vec<AssignReplica>, usize) {
    let (own, dirs) = (broker.broker_id(), broker.data_dirs());
    let mut load: BTreeMap<DirectoryId, usize> = dirs.iter().map(|dir| (dir.id(), 0)).collect();
    let cordoned: Vec<DirectoryId> = broker.cordoned_directories().collect();
    let (mut homeless, mut waiting) = (Vec::new(), 0);
    for (topic, index, partition) in view.image.partitions() {
        match partition.directory_of(own) {
            Some(home) if load.contains_key(&home) => *load.entry(home).or_default() += 1,
            Some(_) if partition.is_held_without(own) => {
                let id = TopicPartition { topic: topic.name.clone(), partition: index };
                homeless.push((topic.id, id));
            }
            // The only one stays the only one.
            Some(_) if partition.replicas.len() > 1 => waiting += 1,
            _ => {}
        }
    }
    let mut places = Vec::new();
    for (topic, id) in homeless.into_iter().take(REPLICAS_MAX) {
        let holds =
            |dir: &&LogDir<E::Disk>| dir.log(&id).is_some_and(|log| log.topic_id() == topic);
        let holder = dirs.iter().find(holds).map(LogDir::id);
        let rank = |dir: &DirectoryId, count: usize| (cordoned.contains(dir), count);
        let emptiest =
            || load.iter().min_by_key(|(dir, count)| rank(dir, **count)).map(|(dir, _)| *dir);
        let Some(directory) = holder.or_else(emptiest) else { continue };
        *load.entry(directory).or_default() += 1;
        places.push(AssignReplica { topic, index: id.partition, directory });
    }
    (places, waiting)
}

async fn assign<E: Env>(
    broker: &Shared<E>,
    epoch: BrokerEpoch,
    places: &[AssignReplica],
) -> Result<(), ClientError> {
    let (id, asked) = (broker.broker_id(), places.to_vec());
    let local =
        broker.metadata().change(move |controller| controller.assign_replicas(id, epoch, &asked));
    match local.await {
        Ok(outcome) => {
            let refused = |refusal| ClientError::check(Refused::from(refusal).code.as_i16(), None);
            outcome.map(drop).or_else(refused)
        }
        Err(MetadataUnavailable::NotController) => {
            let patience = broker.settings().quorum_request_timeout;
            let request = request(broker, epoch, places);
            let answer = broker.own_way().ask(broker, &request, patience).await?;
            ClientError::check(answer.error_code, None)
        }
        Err(MetadataUnavailable::Unknown) => {
            ClientError::check(ErrorCode::RequestTimedOut.as_i16(), None)
        }
    }
}

fn request<E: Env>(
    broker: &Shared<E>,
    epoch: BrokerEpoch,
    places: &[AssignReplica],
) -> AssignReplicasToDirsRequest {
    let mut directories: BTreeMap<DirectoryId, Vec<RequestTopicData>> = BTreeMap::new();
    for AssignReplica { topic, index, directory } in places {
        let topics = directories.entry(*directory).or_default();
        let partition = RequestPartitionData { partition_index: index.0 };
        match topics.last_mut() {
            Some(last) if last.topic_id == topic.0 => last.partitions.push(partition),
            _ => topics.push(RequestTopicData { topic_id: topic.0, partitions: vec![partition] }),
        }
    }
    let directories =
        directories.into_iter().map(|(id, topics)| RequestDirectoryData { id: id.0, topics });
    AssignReplicasToDirsRequest {
        broker_id: broker.broker_id().0,
        broker_epoch: epoch.0,
        directories: directories.collect(),
    }
}
