//! In-sync sets on their way to the active controller: AlterPartition (56), of all partitions that want one at a time.
//!
//! One request is open at a time, so that the controller sees them in the order in which they were sent (I35). What is
//! not answered, or not by the active controller, is unknown: it may be carried out later, and its leader goes by that.
//! The controller may be in this very process: then it is asked without the network, by the same decisions.

use std::collections::BTreeMap;

use client::ClientError;
use cluster::controller::AlterPartition;
use cluster::replica::{Proposal, ProposalAnswer};
use env::Env;
use types::{BrokerEpoch, ErrorCode, PartitionEpoch, PartitionIndex, TopicId};
use wire::alter_partition::{
    AlterPartitionRequest, AlterPartitionResponse, BrokerState, RequestPartitionData,
    RequestTopicData,
};

use super::Place;
use crate::error_map::Refused;
use crate::metadata::MetadataUnavailable;
use crate::shared::Shared;

/// Asks for what leaders propose until the broker stops.
pub(crate) async fn run<E: Env>(broker: Shared<E>) {
    tokio::select! {
        biased;
        () = broker.stopping() => {}
        () = work(&broker) => {}
    }
}

async fn work<E: Env>(broker: &Shared<E>) {
    loop {
        let proposals = broker.desk().take_proposals();
        if proposals.is_empty() {
            broker.desk().proposed.notified().await;
            continue;
        }
        let (leaders, proposals): (Vec<_>, BTreeMap<Place, Proposal>) =
            proposals.into_iter().map(|(place, (leader, it))| (leader, (place, it))).unzip();
        let mut answers = ask(broker, &proposals).await;
        for (leader, (place, proposal)) in leaders.into_iter().zip(proposals) {
            let answer = answers.remove(&place).unwrap_or(ProposalAnswer::Unknown);
            if let Some(leader) = leader.upgrade() {
                leader.on_proposal_answered(proposal.base, answer);
            }
        }
    }
}

/// What became of each; nothing is known of those that are not there.
async fn ask<E: Env>(
    broker: &Shared<E>,
    proposals: &BTreeMap<Place, Proposal>,
) -> BTreeMap<Place, ProposalAnswer> {
    let id = broker.broker_id();
    let Some(epoch) = broker.view().image.broker(id).map(|own| own.epoch) else {
        return BTreeMap::new();
    };
    let wishes: Vec<AlterPartition> =
        proposals.iter().map(|(place, proposal)| wish(*place, proposal)).collect();
    let local =
        broker.metadata().change(move |controller| controller.alter_partitions(id, epoch, &wishes));
    match local.await {
        Ok(Ok(outcomes)) => {
            let answer = |outcome: Result<cluster::metadata::PartitionInfo, _>| match outcome {
                Ok(partition) => ProposalAnswer::Accepted(partition.epoch),
                Err(refusal) => refused(Refused::from(refusal).code),
            };
            proposals.keys().copied().zip(outcomes.into_iter().map(answer)).collect()
        }
        Err(MetadataUnavailable::NotController) => {
            let request = request(broker, epoch, proposals);
            let patience = broker.settings().quorum_request_timeout;
            let answered = broker.own_way().ask(broker, &request, patience).await;
            answered.and_then(answers).unwrap_or_else(|error| {
                tracing::debug!(%error, "in-sync sets were proposed, and it is not known what became of them");
                BTreeMap::new()
            })
        }
        // Refused as a whole, this process is known no more; else nobody knows.
        Ok(Err(_)) | Err(MetadataUnavailable::Unknown) => BTreeMap::new(),
    }
}

fn wish((topic, index): Place, proposal: &Proposal) -> AlterPartition {
    AlterPartition {
        topic,
        index,
        leader_epoch: proposal.term,
        epoch: proposal.base,
        isr: proposal.isr.clone(),
        is_recovering: proposal.is_recovering,
    }
}

fn request<E: Env>(
    broker: &Shared<E>,
    epoch: BrokerEpoch,
    proposals: &BTreeMap<Place, Proposal>,
) -> AlterPartitionRequest {
    let mut topics: Vec<RequestTopicData> = Vec::new();
    for ((topic, index), proposal) in proposals {
        let member = |(id, epoch): &(types::BrokerId, BrokerEpoch)| BrokerState {
            broker_id: id.0,
            broker_epoch: epoch.0,
        };
        let asked = RequestPartitionData {
            partition_index: index.0,
            leader_epoch: proposal.term.0,
            new_isr_with_epochs: proposal.isr.iter().map(member).collect(),
            leader_recovery_state: i8::from(proposal.is_recovering),
            partition_epoch: proposal.base.0,
            ..RequestPartitionData::default()
        };
        match topics.last_mut() {
            Some(last) if last.topic_id == topic.0 => last.partitions.push(asked),
            _ => topics.push(RequestTopicData { topic_id: topic.0, partitions: vec![asked] }),
        }
    }
    AlterPartitionRequest { broker_id: broker.broker_id().0, broker_epoch: epoch.0, topics }
}

fn answers(
    response: AlterPartitionResponse,
) -> Result<BTreeMap<Place, ProposalAnswer>, ClientError> {
    ClientError::check(response.error_code, None)?;
    let mut answers = BTreeMap::new();
    for topic in response.topics {
        for told in topic.partitions {
            let answer = match ErrorCode::from_i16(told.error_code) {
                Some(ErrorCode::None) => {
                    ProposalAnswer::Accepted(PartitionEpoch(told.partition_epoch))
                }
                Some(code) => refused(code),
                None => ProposalAnswer::Unknown,
            };
            answers.insert((TopicId(topic.topic_id), PartitionIndex(told.partition_index)), answer);
        }
    }
    Ok(answers)
}

fn refused(code: ErrorCode) -> ProposalAnswer {
    match code {
        // Whoever says so knows less than the leader, and another may know more.
        ErrorCode::NotController => ProposalAnswer::Unknown,
        code => ProposalAnswer::Refused(code),
    }
}
