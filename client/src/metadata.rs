//! What the client knows of the cluster: an immutable snapshot, replaced as a whole.
//!
//! A snapshot grows by merging answers. Within one topic id a partition's leader epoch never goes back: a broker that
//! lags behind must not send the client to a deposed leader again (KIP-320).

use std::collections::{BTreeMap, BTreeSet};

use types::{
    BrokerId, ErrorCode, Instant, LeaderEpoch, PartitionIndex, TopicId, TopicName, TopicPartition,
};

use crate::ClientError;

/// Where a broker listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broker {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The rack it stands in, if told.
    pub rack: Option<String>,
}

/// One partition as the cluster last described it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Partition {
    /// Its leader, if it has one.
    pub leader: Option<BrokerId>,
    /// The leader's term, if told.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Brokers with a replica.
    pub replicas: Vec<BrokerId>,
    /// In-sync replicas.
    pub isr: Vec<BrokerId>,
    /// Replicas that are offline.
    pub offline: Vec<BrokerId>,
}

/// One topic as the cluster last described it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topic {
    /// Its identity, if told.
    pub id: Option<TopicId>,
    /// Whether it belongs to the broker itself.
    pub is_internal: bool,
    /// Why it has no partitions here, if so.
    pub error: Option<ErrorCode>,
    /// Its partitions.
    pub partitions: BTreeMap<PartitionIndex, Partition>,
    /// When this was learnt.
    pub learnt: Instant,
}

/// A snapshot of the cluster.
#[derive(Clone, Default, Debug)]
pub struct Metadata {
    /// The cluster's id, if told.
    pub cluster_id: Option<String>,
    /// The broker that takes admin requests, if told.
    pub controller: Option<BrokerId>,
    /// Brokers by id.
    pub brokers: BTreeMap<BrokerId, Broker>,
    /// Topics by name: those that were asked for.
    pub topics: BTreeMap<TopicName, Topic>,
    /// Counts the answers merged so far.
    pub version: u64,
}

impl Metadata {
    /// The partition, if the topic is known to have it.
    pub fn partition(&self, partition: &TopicPartition) -> Option<&Partition> {
        self.topics.get(&partition.topic)?.partitions.get(&partition.partition)
    }

    /// The partition's leader, if it has one and its address is known.
    pub fn leader(&self, partition: &TopicPartition) -> Option<BrokerId> {
        let leader = self.partition(partition)?.leader?;
        self.brokers.contains_key(&leader).then_some(leader)
    }

    /// Why [`Metadata::leader`] knows none.
    pub(crate) fn without_leader(&self, partition: &TopicPartition) -> ClientError {
        match self.topics.get(&partition.topic) {
            Some(Topic { error: Some(code), .. }) => ClientError::code(*code),
            Some(topic) if topic.partitions.contains_key(&partition.partition) => {
                ClientError::code(ErrorCode::LeaderNotAvailable)
            }
            Some(topic) => ClientError::Protocol {
                code: ErrorCode::UnknownTopicOrPartition,
                message: Some(format!(
                    "{} has {} partitions, counted from 0, and no partition {}",
                    partition.topic,
                    topic.partitions.len(),
                    partition.partition
                )),
            },
            None => ClientError::code(ErrorCode::UnknownTopicOrPartition),
        }
    }

    /// The topic's identity, if told.
    pub fn topic_id(&self, topic: &TopicName) -> Option<TopicId> {
        self.topics.get(topic)?.id
    }

    /// The name that goes with an identity.
    pub fn topic_name(&self, id: TopicId) -> Option<&TopicName> {
        self.topics.iter().find(|(_, topic)| topic.id == Some(id)).map(|(name, _)| name)
    }

    /// How many partitions the topic has, if it is known.
    pub fn partitions_count(&self, topic: &TopicName) -> Option<usize> {
        self.topics.get(topic).filter(|topic| topic.error.is_none()).map(|t| t.partitions.len())
    }

    /// This snapshot with a newer answer merged in. `asked` names the topics the answer speaks about; `None` means all,
    /// and topics that are not in the answer are forgotten.
    pub(crate) fn merged(&self, answer: Metadata, asked: Option<&BTreeSet<TopicName>>) -> Metadata {
        let mut topics = if asked.is_some() { self.topics.clone() } else { BTreeMap::new() };
        for (name, mut topic) in answer.topics {
            if let Some(known) = self.topics.get(&name) {
                keep_newer_leaders(known, &mut topic);
            }
            topics.insert(name, topic);
        }
        Metadata {
            cluster_id: answer.cluster_id.or_else(|| self.cluster_id.clone()),
            controller: answer.controller,
            brokers: answer.brokers,
            topics,
            version: self.version + 1,
        }
    }
}

/// Keeps what is known of a partition where the answer comes from an older term of the same topic.
fn keep_newer_leaders(known: &Topic, topic: &mut Topic) {
    if known.id != topic.id {
        return;
    }
    for (index, partition) in &mut topic.partitions {
        let Some(before) = known.partitions.get(index) else { continue };
        if before.leader_epoch > partition.leader_epoch && partition.leader_epoch.is_some() {
            *partition = before.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(id: u8, leader: i32, epoch: i32) -> Metadata {
        let partition = Partition {
            leader: Some(BrokerId(leader)),
            leader_epoch: Some(LeaderEpoch(epoch)),
            replicas: vec![],
            isr: vec![],
            offline: vec![],
        };
        let topic = Topic {
            id: Some(TopicId(types::Uuid([id; 16]))),
            is_internal: false,
            error: None,
            partitions: BTreeMap::from([(PartitionIndex(0), partition)]),
            learnt: Instant(0),
        };
        let broker = Broker { host: "h".into(), port: 1, rack: None };
        Metadata {
            brokers: (0..3).map(|id| (BrokerId(id), broker.clone())).collect(),
            topics: BTreeMap::from([("t".into(), topic)]),
            ..Metadata::default()
        }
    }

    fn leader(metadata: &Metadata) -> Option<i32> {
        metadata.leader(&TopicPartition::new("t", 0)).map(|broker| broker.0)
    }

    #[test]
    fn a_lagging_answer_does_not_bring_a_deposed_leader_back() {
        let asked = BTreeSet::from([TopicName::from("t")]);
        let known = snapshot(1, 2, 7);
        assert_eq!(leader(&known.merged(snapshot(1, 0, 6), Some(&asked))), Some(2));
        assert_eq!(leader(&known.merged(snapshot(1, 0, 8), Some(&asked))), Some(0));
        // Another topic under the same name starts its own terms.
        assert_eq!(leader(&known.merged(snapshot(2, 0, 0), Some(&asked))), Some(0));
    }

    #[test]
    fn an_answer_about_all_topics_forgets_the_rest() {
        let known = snapshot(1, 2, 7);
        assert!(known.merged(Metadata::default(), None).topics.is_empty());
        let asked = BTreeSet::from([TopicName::from("u")]);
        assert!(!known.merged(Metadata::default(), Some(&asked)).topics.is_empty());
    }
}
