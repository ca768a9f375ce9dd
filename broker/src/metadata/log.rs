//! The metadata log: records in, after their own sync; all of them out again at the start.
//!
//! An ordinary log in a directory of its own, with its own journal: changes of metadata never queue behind produce
//! traffic, and a failed data directory does not take the metadata along. One change is one batch, so that a crash
//! leaves all of it or nothing.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use cluster::config::BrokerSettings;
use cluster::controller::METADATA_TOPIC;
use cluster::metadata::{MetadataRecord, record_version};
use cluster::quorum::{Position, ReplicaKey, Shape};
use env::{Clock, Env, Spawn};
use log::{Append, LogConfig, LogDir, LogDirOptions, LogSpec, Origin, Read};
use record::stored::control::{LeaderChangeMessage, LeaderChangeMessageVoter};
use record::{Batch, BatchBuilder, BatchOptions, ControlRecord};
use types::encoding::{Reader, Writer};
use types::mutant::{Mutant, planted};
use types::{
    DirectoryId, LeaderEpoch, NodeId, Offset, PartitionIndex, QuorumEpoch, Timestamp, TopicId, Uuid,
};

use crate::start::StartError;

/// Its topic id, as in Kafka.
const TOPIC_ID: TopicId = TopicId(Uuid(1u128.to_be_bytes()));
/// Its directory within the metadata directory.
pub(crate) const DIRECTORY: &str = "cluster-metadata";
/// What a control record of type 2 says: a leader has begun its epoch.
const LEADER_CHANGE: i16 = 2;
/// How much of the log is read at once while it is replayed.
const REPLAY_BYTES: usize = 1 << 20;
/// Records of one batch expand to no more than this.
const BATCH_BYTES_MAX: usize = 1 << 30;
/// The metadata log is small: so is its journal.
const JOURNAL_FILE_BYTES: u64 = 4 << 20;
const JOURNAL_BYTES_MAX: u64 = 16 << 20;
/// What it holds for a full disk: thousands of changes.
const BALLAST_BYTES: u64 = 4 << 20;

/// The metadata log of one node.
pub(crate) struct MetadataLog<E: Env> {
    env: E,
    dir: LogDir<E::Disk>,
    log: log::Log<E::Disk>,
    node: NodeId,
}

/// The log cannot be read or written any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct MetadataLogFailed(pub(crate) String);

impl fmt::Display for MetadataLogFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn failed(error: impl fmt::Display) -> MetadataLogFailed {
    MetadataLogFailed(error.to_string())
}

impl<E: Env> MetadataLog<E> {
    /// Opens the log of `node` in `path`, which belongs to the directory `id`.
    pub(crate) async fn open(
        env: &E,
        path: PathBuf,
        id: DirectoryId,
        node: NodeId,
        settings: &BrokerSettings,
    ) -> Result<MetadataLog<E>, StartError> {
        let config = LogConfig {
            retention_ms: None,
            segment_ms: Duration::from_secs(7 * 86_400),
            ..LogConfig::default()
        };
        let options = LogDirOptions {
            journal_file_bytes: JOURNAL_FILE_BYTES,
            journal_bytes_max: JOURNAL_BYTES_MAX,
            sync_timeout: settings.disk_sync_timeout,
            // No client appends to it: there is nothing to refuse, only what it needs to go on.
            space_reserve: 0,
            ballast_bytes: BALLAST_BYTES.min(settings.space_reserve),
            log_config: config.clone(),
            ..LogDirOptions::default()
        };
        let path = path.join(DIRECTORY);
        let dir = LogDir::open(env.disk().clone(), env.clock(), &path, id, options)
            .await
            .map_err(|error| StartError::open(&path, error))?;
        let (runner, clock) = (dir.clone(), env.clock().clone());
        env.spawner().spawn("metadata-log", async move { runner.run(clock).await });
        let spec = LogSpec {
            topic: METADATA_TOPIC.into(),
            topic_id: TOPIC_ID,
            partition: PartitionIndex(0),
            config,
        };
        let log = dir
            .create(spec)
            .await
            .map_err(|error| StartError::Disk { path, reason: error.to_string() })?;
        Ok(MetadataLog { env: env.clone(), dir, log, node })
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &LogDir<E::Disk> {
        &self.dir
    }

    /// The offset of the next record.
    pub(crate) fn end(&self) -> Offset {
        self.log.ends().log_end
    }

    /// Where its epochs begin, and how far it is synced.
    pub(super) fn shape(&self) -> Shape {
        let ends = self.log.ends();
        // Snapshots will say what lies before; until there are any, nothing does.
        let mut shape = Shape::new(Position::new(0, ends.log_start.0));
        let starts = self.log.epochs();
        let next = starts.iter().skip(1).map(|(_, start)| *start).chain([ends.log_end]);
        for (&(epoch, start), end) in starts.iter().zip(next) {
            if end > start.max(ends.log_start) {
                shape.append(QuorumEpoch(epoch.0), end);
            }
        }
        shape.sync(ends.durable);
        shape
    }

    /// Gives the records of every batch to `apply`, but for those of the quorum itself; whether there were any.
    pub(crate) async fn replay(
        &self,
        mut apply: impl FnMut(&[MetadataRecord]) -> Result<(), MetadataLogFailed>,
    ) -> Result<bool, MetadataLogFailed> {
        let ends = self.log.ends();
        let mut from = ends.log_start;
        let mut has_records = false;
        while from < ends.durable {
            let read =
                Read { from, end: ends.durable, bytes_max: REPLAY_BYTES, at_least_one: true };
            let batches = self.log.batches(read).await.map_err(failed)?;
            if batches.is_empty() {
                return Err(MetadataLogFailed(format!("no batch at offset {from}")));
            }
            for batch in batches {
                from = batch.end_offset();
                if batch.is_control() {
                    check_control(&batch, self.node)?;
                    continue;
                }
                let mut records = Vec::new();
                for record in batch.records(BATCH_BYTES_MAX) {
                    let value = record.map_err(failed)?.value.unwrap_or_default();
                    records.push(MetadataRecord::decode(value).map_err(failed)?);
                }
                apply(&records)?;
                has_records = true;
            }
        }
        Ok(has_records)
    }

    /// Appends the records of one change as one batch.
    pub(super) fn append(
        &self,
        records: &[MetadataRecord],
        epoch: QuorumEpoch,
    ) -> Result<(), MetadataLogFailed> {
        let now = self.env.clock().timestamp();
        let mut batch = BatchBuilder::new(BatchOptions::default());
        for record in records {
            let value = record.encode(record_version(record)).map_err(failed)?;
            batch.push(Some(now), None, Some(&value));
        }
        self.append_batch(batch, epoch)
    }

    /// Appends the first record of an epoch that `leader`, the only voter, leads.
    pub(super) fn append_leader_change(
        &self,
        epoch: QuorumEpoch,
        leader: ReplicaKey,
    ) -> Result<(), MetadataLogFailed> {
        let voter = LeaderChangeMessageVoter {
            voter_id: leader.node.0,
            voter_directory_id: leader.directory.0,
        };
        let now = self.env.clock().timestamp();
        self.append_batch(leader_change_batch(leader, vec![voter], now)?, epoch)
    }

    fn append_batch(
        &self,
        batch: BatchBuilder,
        epoch: QuorumEpoch,
    ) -> Result<(), MetadataLogFailed> {
        let append = Append {
            batches: vec![batch.build()],
            leader_epoch: LeaderEpoch(epoch.0),
            now: self.env.clock().timestamp(),
            origin: Origin::Coordinator,
        };
        self.log.append(append).map_err(failed)?;
        Ok(())
    }

    /// Syncs everything appended; returns where that ends.
    pub(super) async fn flush(&self) -> Result<Offset, MetadataLogFailed> {
        let end = self.log.ends().log_end;
        if !planted(Mutant::MetadataAckBeforeSync) {
            let ends = self.log.flush().await.map_err(failed)?;
            assert!(ends.durable >= end, "a flush covers what was appended (I39)");
        }
        Ok(end)
    }
}

/// The first record of an epoch that `leader` leads, elected by all of `voters`.
fn leader_change_batch(
    leader: ReplicaKey,
    voters: Vec<LeaderChangeMessageVoter>,
    now: Timestamp,
) -> Result<BatchBuilder, MetadataLogFailed> {
    let change = LeaderChangeMessage {
        version: 1,
        leader_id: leader.node.0,
        granting_voters: voters.clone(),
        voters,
    };
    let mut value = Writer::new();
    change.encode(&mut value, 1).map_err(failed)?;
    let key = [0_i16.to_be_bytes(), LEADER_CHANGE.to_be_bytes()].concat();
    let options = BatchOptions { is_control: true, ..BatchOptions::default() };
    let mut batch = BatchBuilder::new(options);
    batch.push(Some(now), Some(&key), Some(&value.into_bytes()));
    Ok(batch)
}

/// Of the quorum's own records this release knows those of a quorum in which `node` votes alone.
fn check_control(batch: &Batch, node: NodeId) -> Result<(), MetadataLogFailed> {
    for record in batch.records(BATCH_BYTES_MAX) {
        let record = record.map_err(failed)?;
        let offset = record.offset;
        let control = ControlRecord::parse(&record).map_err(failed)?;
        let change = (control == ControlRecord::Quorum(LEADER_CHANGE))
            .then(|| leader_change(record.value.unwrap_or_default()))
            .transpose()?;
        let is_alone = change.is_some_and(|change| {
            let voters: Vec<i32> = change.voters.iter().map(|voter| voter.voter_id).collect();
            change.leader_id == node.0 && voters == [node.0]
        });
        if !is_alone {
            return Err(MetadataLogFailed(format!(
                "the record at offset {offset} is of a quorum of other nodes than {node} alone, which this release cannot join"
            )));
        }
    }
    Ok(())
}

fn leader_change(value: Bytes) -> Result<LeaderChangeMessage, MetadataLogFailed> {
    // The version is its first field, too.
    let version = value.first_chunk().map_or(0, |bytes| i16::from_be_bytes(*bytes));
    LeaderChangeMessage::decode(&mut Reader::new(value), version).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_change_of_other_voters_is_refused() {
        let me = ReplicaKey { node: NodeId(3), directory: DirectoryId(Uuid([9; 16])) };
        let batch = |voters: &[i32]| {
            let voters = voters.iter().map(|id| LeaderChangeMessageVoter {
                voter_id: *id,
                voter_directory_id: Uuid::ZERO,
            });
            leader_change_batch(me, voters.collect(), Timestamp(1)).expect("encoded").build()
        };
        assert_eq!(check_control(&batch(&[3]), me.node), Ok(()));
        for (voters, node) in [(&[3][..], 4), (&[3, 4], 3), (&[], 3), (&[4], 3)] {
            assert!(check_control(&batch(voters), NodeId(node)).is_err(), "{voters:?}");
        }
    }
}
