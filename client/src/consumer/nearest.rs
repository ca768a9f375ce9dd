//! Reading from a replica nearby (KIP-392): whom a leader has sent a consumer to, for one partition, and until when.
//!
//! The leader is asked again when the time is over, when it is another one, and whenever the replica does not answer as it
//! should: only what a leader says of a position counts.

use types::{BrokerId, Instant, TopicPartition};

use super::Assigned;
use crate::metadata::Metadata;

/// A replica nearby.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Nearest {
    pub(super) broker: BrokerId,
    until: Instant,
}

impl Assigned {
    /// The replica to ask for records, if it is not the leader.
    pub(super) fn nearest(
        &mut self,
        now: Instant,
        metadata: &Metadata,
        partition: &TopicPartition,
    ) -> Option<BrokerId> {
        let known = metadata.partition(partition);
        let is_there = |broker: &BrokerId| {
            let offline = known.is_some_and(|known| known.offline.contains(broker));
            metadata.brokers.contains_key(broker) && !offline
        };
        self.nearest = self.nearest.filter(|it| now < it.until && is_there(&it.broker));
        self.nearest.map(|it| it.broker)
    }

    /// The leader says who is nearer.
    pub(super) fn sent_to(&mut self, broker: BrokerId, until: Instant) {
        if self.nearest.is_none_or(|it| it.broker != broker) {
            self.nearest = Some(Nearest { broker, until });
        }
    }

    /// `broker` does not serve it as it should: the leader is asked. Whether it was the one nearby.
    pub(super) fn sent_back_by(&mut self, broker: BrokerId) -> bool {
        let is_nearest = self.nearest.is_some_and(|it| it.broker == broker);
        if is_nearest {
            self.nearest = None;
        }
        is_nearest
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use types::PartitionIndex;

    use super::super::State;
    use super::*;
    use crate::metadata::{Broker, Partition, Topic};

    fn metadata(offline: &[i32]) -> Metadata {
        let partition = Partition {
            leader: Some(BrokerId(0)),
            leader_epoch: None,
            replicas: vec![BrokerId(0), BrokerId(1)],
            isr: vec![],
            offline: offline.iter().map(|id| BrokerId(*id)).collect(),
        };
        let topic = Topic {
            id: None,
            is_internal: false,
            error: None,
            partitions: BTreeMap::from([(PartitionIndex(0), partition)]),
            learnt: Instant(0),
        };
        let broker = Broker { host: "h".into(), port: 1, rack: None };
        Metadata {
            brokers: (0..2).map(|id| (BrokerId(id), broker.clone())).collect(),
            topics: BTreeMap::from([("t".into(), topic)]),
            ..Metadata::default()
        }
    }

    #[test]
    fn it_is_asked_until_its_time_is_over_or_it_is_gone() {
        let (mut assigned, t) =
            (Assigned::new(State::Ready, 1, Instant(0)), TopicPartition::new("t", 0));
        let at = |ms: u64| Instant(0) + Duration::from_millis(ms);
        assert_eq!(assigned.nearest(at(0), &metadata(&[]), &t), None);
        assigned.sent_to(BrokerId(1), at(100));
        assigned.sent_to(BrokerId(1), at(500));
        assert_eq!(assigned.nearest(at(99), &metadata(&[]), &t), Some(BrokerId(1)));
        assert_eq!(assigned.nearest(at(100), &metadata(&[]), &t), None, "no later than said first");
        assigned.sent_to(BrokerId(1), at(500));
        assert!(!assigned.sent_back_by(BrokerId(0)) && assigned.sent_back_by(BrokerId(1)));
        assert!(!assigned.sent_back_by(BrokerId(1)), "an answer that was on its way");
        assigned.sent_to(BrokerId(1), at(500));
        assert_eq!(assigned.nearest(at(101), &metadata(&[1]), &t), None);
        assigned.sent_to(BrokerId(7), at(500));
        assert_eq!(assigned.nearest(at(101), &metadata(&[]), &t), None);
    }
}
