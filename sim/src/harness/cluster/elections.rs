//! A judge of elections where nobody is known to hold everything (P11): whoever leads then has the longest log of those that held
//! everything last, each as it lies there at that moment.
//!
//! It looks when the first process serves by the metadata that say so. Before the new leader serves by them, too, nobody cuts
//! or lengthens a log: a look that comes late sees less, and blames nobody wrongly.

use cluster::metadata::{Image, PartitionInfo};
use types::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionIndex, TopicPartition};

use super::Play;
use super::records::PAGED;
use crate::checker::require;
use crate::exec::{Node, lock};
use crate::harness::values::partition_of;
use crate::world::SimEnv;

/// The only partition of the topic that does not sync.
const INDEX: i32 = 0;

/// Where a log ends.
type End = (Option<LeaderEpoch>, Offset);

impl Play {
    /// Follows what a process serves by, for as long as it lives.
    pub(super) async fn watch_elections(&self, observer: &broker::Observer<SimEnv>) {
        let mut views = observer.watch();
        while self.stage.scenario.paged_topic.is_some() {
            let (offset, image) = {
                let view = views.borrow_and_update();
                (view.offset, view.image.clone())
            };
            if offset >= Offset::ZERO {
                self.look_at_election(&image);
            }
            if views.changed().await.is_err() {
                break;
            }
        }
        std::future::pending().await
    }

    fn look_at_election(&self, image: &Image) {
        let topic = image.topic(PAGED);
        let partition = topic.and_then(|topic| topic.partitions.get(&PartitionIndex(INDEX)));
        let Some(partition) = partition.filter(|partition| partition.is_recovering) else { return };
        let Some(leader) = partition.leader else { return };
        if !lock(&self.shared.recovered).insert(partition.leader_epoch) {
            return;
        }
        self.stage.world.mark("recovered without a clean leader");
        let Some(longest) = self.end_as_registered(leader, image) else { return };
        for id in &partition.last_known_elr {
            let Some(end) = self.end_as_registered(*id, image) else { continue };
            self.stage.judge(require("P11", end <= longest, || said(partition, *id, end, longest)));
        }
    }

    /// Where the log of a broker ends, if the process that lives is the one that is registered.
    fn end_as_registered(&self, id: BrokerId, image: &Image) -> Option<End> {
        let observer = self.observer(Node::try_from(id.0).ok()?)?;
        let epoch = |image: &Image| -> Option<BrokerEpoch> { Some(image.broker(id)?.epoch) };
        // What a process serves by has its own registration.
        let view = observer.view();
        if view.offset < Offset::ZERO || epoch(&view.image)? != epoch(image)? {
            return None;
        }
        let partition: TopicPartition = partition_of(PAGED, INDEX);
        let log = observer.data_dirs().iter().find_map(|dir| dir.log(&partition))?;
        let end = log.ends().written;
        let mut epochs = log.epochs().into_iter().filter(|(_, first)| *first < end);
        Some((epochs.next_back().map(|(epoch, _)| epoch), end))
    }
}

fn said(partition: &PartitionInfo, id: BrokerId, end: End, longest: End) -> String {
    format!("the log of {id} ends at {end:?}, that of the leader at {longest:?}: {partition:?}")
}
