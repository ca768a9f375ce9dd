//! Partitions of which nobody is known to hold everything go on with the longest log there is (P11): what `cluster::controller`
//! decides of them becomes a change like any other, which nobody waits for.

use cluster::controller::Recovered;
use cluster::metadata::MetadataRecord;

use super::{Active, Answer, MetadataUnavailable};

/// Decides where nobody need be waited for any more, and tells what may be lost once that is settled.
pub(super) fn recover(
    active: Result<&mut Active, MetadataUnavailable>,
) -> (Vec<MetadataRecord>, Answer) {
    let Ok(Active { controller, recovery, .. }) = active else {
        return (Vec::new(), Box::new(|_| {}));
    };
    let (records, recovered) = recovery.decide(controller);
    let named = recovered.into_iter().map(|one| {
        let topic = controller.image().topic_by_id(one.topic);
        let name = topic.map_or_else(|| one.topic.to_string(), |topic| topic.name.to_string());
        (format!("{name}-{}", one.index), one)
    });
    let named: Vec<(String, Recovered)> = named.collect();
    let tell: Answer = Box::new(move |settled| {
        for (partition, one) in named.iter().filter(|_| settled.is_ok()) {
            tracing::warn!(
                %partition, leader = %one.leader, term = %one.leader_epoch, sound_to = %one.sound_end,
                log_end = %one.log_end, known_committed_to = %one.committed_end,
                "all its replicas may have lost what they had not synced: it goes on with the longest log there is. What was \
                 committed may be missing from where the log is sound to"
            );
        }
    });
    (records, tell)
}
