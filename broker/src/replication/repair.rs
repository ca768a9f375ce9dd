//! Repair: what is damaged in a log here is fetched from another replica, and put in its place (I14).
//!
//! ```text
//!  damaged range --Fetch, RepairsUntil--> leader, then whoever else is in sync --> committed batches --> log.heal
//! ```
//!
//! A Fetch with a tagged field of ours: it asks whoever holds a replica, leading or not, for committed records of a range, and
//! neither side learns more from it. What was committed is the same in every replica (I17), so a range is asked for once its
//! end is known to be committed here.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use client::{ClientError, Connection};
use cluster::metadata::PartitionInfo;
use env::Env;
use log::{ChangeError, Log, LogDir};
use record::Batch;
use types::mutant::{Mutant, planted};
use types::{BrokerId, Offset, TopicId, TopicPartition};
use wire::fetch::{FetchPartition, FetchRequest, FetchTopic, ReplicaState};

use super::fetcher::{ANSWER_BYTES_EXTRA, SESSION_NONE, checked};
use crate::peer;
use crate::shared::Shared;

/// How much of a range is repaired at once.
pub(crate) const REPAIR_BYTES: usize = 8 << 20;
/// An answer to that.
pub(super) const ANSWER_BYTES_MAX: usize = REPAIR_BYTES + ANSWER_BYTES_EXTRA;
/// Pause before what could not be repaired is tried again; it doubles as long as nothing is, up to the other.
const PAUSE: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(40);

/// A damaged range.
type Range = (TopicPartition, Offset);

/// Repairs the logs of one directory until the broker stops or the directory fails.
pub(crate) async fn run<E: Env>(broker: Shared<E>, dir: LogDir<E::Disk>) {
    tokio::select! {
        biased;
        () = broker.stopping() => {}
        () = work(&broker, &dir) => {}
    }
}

async fn work<E: Env>(broker: &Shared<E>, dir: &LogDir<E::Disk>) {
    let (mut before, mut said): (BTreeSet<Range>, BTreeSet<Range>) = Default::default();
    let mut pause = PAUSE;
    while !dir.is_offline() {
        let mut left = BTreeSet::new();
        for log in dir.logs() {
            for (start, end) in log.damaged_bytes() {
                if !mend(broker, &log, start, end).await {
                    left.insert((log.topic_partition().clone(), start));
                }
            }
        }
        // The first time everybody may just have been about to start.
        said.retain(|range| left.contains(range));
        for range in left.intersection(&before).filter(|range| said.insert((*range).clone())) {
            let (partition, start) = range;
            tracing::warn!(
                %partition, %start,
                "no other replica gives what is damaged here: it is asked for again and again"
            );
        }
        let has_healed = before.difference(&left).next().is_some();
        before = left;
        if before.is_empty() {
            dir.damaged().await;
            pause = PAUSE;
        } else {
            let is_new = broker.env().timeout(pause, dir.damaged()).await.is_some();
            pause = if is_new || has_healed { PAUSE } else { PAUSE_MAX.min(2 * pause) };
        }
    }
}

/// Repairs one range; whether nothing is left to do.
async fn mend<E: Env>(
    broker: &Shared<E>,
    log: &Log<E::Disk>,
    mut start: Offset,
    end: Offset,
) -> bool {
    let (topic, index) = (log.topic_id(), log.topic_partition().partition);
    let view = broker.view();
    let Some(known) = view.image.topic_by_id(topic).and_then(|it| it.partitions.get(&index)) else {
        // Gone, or not known yet.
        return false;
    };
    let own = broker.broker_id();
    if known.replicas == [own] || planted(Mutant::DamageLeft) {
        // There is nobody to ask.
        return true;
    }
    let committed = view.topic_by_id(topic).and_then(|served| {
        let leads = served.partition(index).map(|leader| leader.ends().high_watermark);
        leads.or_else(|| served.following(index).map(|follower| follower.high_watermark()))
    });
    if committed.is_none_or(|committed| end > committed) {
        return false;
    }
    for peer in peers(known, own) {
        let connection = match peer::connect(broker, peer, "repair", ANSWER_BYTES_MAX).await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::debug!(%peer, %error, "a replica that could repair damage is not reached");
                continue;
            }
        };
        loop {
            let healed = match ask(broker, &connection, (topic, log.topic_partition()), start, end)
                .await
            {
                Ok(batches) => log.heal(start, batches).await,
                Err(error) => {
                    tracing::debug!(%peer, %error, "a replica does not give what is damaged here");
                    break;
                }
            };
            match healed {
                Ok(None) => return true,
                Ok(Some(next)) => start = next,
                Err(error @ ChangeError::Unfit { .. }) => {
                    tracing::debug!(partition = %log.topic_partition(), %peer, %error, "a replica holds something else");
                    break;
                }
                Err(_) => return false,
            }
        }
    }
    false
}

/// Whoever is sure to have it: the leader, and who is in sync.
fn peers(known: &PartitionInfo, own: BrokerId) -> Vec<BrokerId> {
    let leader = known.leader.into_iter();
    let others = known.isr.iter().copied().filter(|id| Some(*id) != known.leader);
    leader.chain(others).filter(|id| *id != own).collect()
}

/// Asks for committed records from `start` up to `end`; whoever is asked looks at what it gives.
pub(super) async fn ask<E: Env>(
    broker: &Shared<E>,
    connection: &Connection,
    (topic, partition): (TopicId, &TopicPartition),
    start: Offset,
    end: Offset,
) -> Result<Vec<Batch>, ClientError> {
    let view = broker.view();
    let own = view.image.broker(broker.broker_id());
    let asked = FetchPartition {
        partition: partition.partition.0,
        current_leader_epoch: -1,
        fetch_offset: start.0,
        last_fetched_epoch: -1,
        partition_max_bytes: REPAIR_BYTES as i32,
        repairs_until: end.0,
        ..FetchPartition::default()
    };
    let request = FetchRequest {
        replica_state: ReplicaState {
            replica_id: broker.broker_id().0,
            replica_epoch: own.map_or(-1, |own| own.epoch.0),
        },
        max_bytes: REPAIR_BYTES as i32,
        session_epoch: SESSION_NONE,
        topics: vec![FetchTopic {
            topic_id: topic.0,
            partitions: vec![asked],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    };
    let patience = broker.settings().quorum_request_timeout;
    let version = connection.version::<FetchRequest>(None, i16::MAX)?;
    let response = connection.ask(broker.env(), &request, version, patience).await?;
    ClientError::check(response.error_code, None)?;
    let mut records = Bytes::new();
    for told in response.responses.into_iter().flat_map(|topic| topic.partitions) {
        ClientError::check(told.error_code, None)?;
        records = told.records.unwrap_or_default();
    }
    checked(records, start).map_err(|code| ClientError::Protocol { code, message: None })
}
