//! The metadata log: batches in, as the leader decides them or as they were fetched from it; all of them out again at the start.
//!
//! An ordinary log in a directory of its own, with its own journal: changes of metadata never queue behind produce
//! traffic, and a failed data directory does not take the metadata along. One change is one batch, so that a crash
//! leaves all of it or nothing.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cluster::config::BrokerSettings;
use cluster::controller::METADATA_TOPIC;
use cluster::metadata::{MetadataRecord, record_version};
use cluster::quorum::{Control, Endpoint, Position, ReplicaKey, Shape, Voter, Voters};
use env::{Clock, Env, Spawn};
use log::{Append, LogConfig, LogDir, LogDirOptions, LogSpec, Origin, Read, Replicated};
use record::stored::control::{
    self, KRaftVersionFeature, LeaderChangeMessage, LeaderChangeMessageVoter, VotersRecord,
    VotersRecordVoter,
};
use record::{Batch, BatchBuilder, BatchOptions, ControlRecord};
use types::encoding::{EncodeError, Reader, Writer};
use types::mutant::{Mutant, planted};
use types::{
    DirectoryId, LeaderEpoch, NodeId, Offset, PartitionIndex, QuorumEpoch, Timestamp, TopicId, Uuid,
};

use crate::start::StartError;

/// Its topic id, as in Kafka.
pub(super) const TOPIC_ID: TopicId = TopicId(Uuid(1u128.to_be_bytes()));
/// Its directory within the metadata directory.
pub(crate) const DIRECTORY: &str = "cluster-metadata";
/// Types of the quorum's own records: a leader has begun its epoch; who votes.
const LEADER_CHANGE: i16 = 2;
pub(super) const VOTERS: i16 = 6;
/// How much of the log one answer to a fetch holds.
const FETCH_BYTES: usize = 1 << 20;
/// How much of the log is read at once while it is replayed.
const REPLAY_BYTES: usize = 1 << 20;
/// Small enough that what a snapshot holds soon leaves the disk, large enough for any change.
const SEGMENT_BYTES: u32 = 64 << 20;
/// Records of one batch expand to no more than this.
pub(super) const BATCH_BYTES_MAX: usize = 1 << 30;
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
}

impl<E: Env> Clone for MetadataLog<E> {
    fn clone(&self) -> MetadataLog<E> {
        MetadataLog { env: self.env.clone(), dir: self.dir.clone(), log: self.log.clone() }
    }
}

/// The log cannot be read or written any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct MetadataLogFailed(pub(crate) String);

impl fmt::Display for MetadataLogFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(super) fn failed(error: impl fmt::Display) -> MetadataLogFailed {
    MetadataLogFailed(error.to_string())
}

impl<E: Env> MetadataLog<E> {
    /// Opens the log in `path`, which belongs to the directory `id`.
    pub(crate) async fn open(
        env: &E,
        path: PathBuf,
        id: DirectoryId,
        settings: &BrokerSettings,
    ) -> Result<MetadataLog<E>, StartError> {
        let config = LogConfig {
            retention_ms: None,
            segment_ms: Duration::from_secs(7 * 86_400),
            segment_bytes: SEGMENT_BYTES,
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
        Ok(MetadataLog { env: env.clone(), dir, log })
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &LogDir<E::Disk> {
        &self.dir
    }

    /// The offset of the next record.
    pub(crate) fn end(&self) -> Offset {
        self.log.ends().log_end
    }

    /// The epoch of the record before `offset`, if the log holds it.
    pub(super) fn epoch_before(&self, offset: Offset) -> Option<QuorumEpoch> {
        let ends = self.log.ends();
        if offset <= ends.log_start || offset > ends.log_end {
            return None;
        }
        self.log.epoch_at(Offset(offset.0 - 1)).map(|epoch| QuorumEpoch(epoch.0))
    }

    /// Where it begins.
    pub(super) fn start(&self) -> Offset {
        self.log.ends().log_start
    }

    /// Where its epochs begin behind `start`, up to which a snapshot holds everything, and how far it is synced.
    pub(super) fn shape(&self, start: Position) -> Shape {
        let ends = self.log.ends();
        let mut shape = Shape::new(start);
        let starts = self.log.epochs();
        let next = starts.iter().skip(1).map(|(_, start)| *start).chain([ends.log_end]);
        for (&(epoch, begin), end) in starts.iter().zip(next) {
            if end > begin.max(start.offset) {
                shape.append(QuorumEpoch(epoch.0), end);
            }
        }
        shape.sync(ends.durable);
        shape
    }

    /// Gives every batch from `from` on to `take`, with what it says.
    pub(super) async fn replay(
        &self,
        mut from: Offset,
        mut take: impl FnMut(&Batch, Content),
    ) -> Result<(), MetadataLogFailed> {
        let ends = self.log.ends();
        while from < ends.durable {
            let batches = self.read(from, ends.durable, REPLAY_BYTES).await?;
            if batches.is_empty() {
                return Err(MetadataLogFailed(format!("no batch at offset {from}")));
            }
            for batch in batches {
                from = batch.end_offset();
                let content = Content::of(&batch)?;
                take(&batch, content);
            }
        }
        Ok(())
    }

    /// The batches from `from` on that are written, synced or not: what is fetched counts when the fetcher has synced it.
    pub(super) async fn written_from(&self, from: Offset) -> Result<Vec<Batch>, MetadataLogFailed> {
        let end = self.log.ends().written;
        if from >= end {
            return Ok(Vec::new());
        }
        self.read(from, end, FETCH_BYTES).await
    }

    async fn read(
        &self,
        from: Offset,
        end: Offset,
        bytes_max: usize,
    ) -> Result<Vec<Batch>, MetadataLogFailed> {
        let read = Read { from, end, bytes_max, at_least_one: true };
        self.log.batches(read).await.map_err(failed)
    }

    /// Appends batches as the leader's log has them.
    pub(super) fn append_fetched(&self, batches: Vec<Batch>) -> Result<(), MetadataLogFailed> {
        let now = self.env.clock().timestamp();
        let append = Replicated { batches, now, origin: Origin::Coordinator };
        self.log.append_replicated(append).map_err(failed)?;
        Ok(())
    }

    /// Cuts what a leader has that is not this log's.
    pub(super) async fn truncate(&self, end: Offset) -> Result<(), MetadataLogFailed> {
        self.log.truncate(end).await.map_err(failed)
    }

    /// Empties the log: it begins at `start`, where a snapshot ends.
    pub(super) async fn restart(&self, start: Offset) -> Result<(), MetadataLogFailed> {
        self.log.reset(start).await.map_err(failed)
    }

    /// Forgets what a snapshot holds, below `start`; waits for the log's own syncs.
    pub(super) async fn forget(&self, start: Offset) -> Result<(), MetadataLogFailed> {
        self.log.set_log_start(start, start).await.map(drop).map_err(failed)
    }

    /// Tells `moved` whenever its ends have moved.
    pub(super) fn listen(&self, moved: impl Fn() + Send + Sync + 'static) {
        self.log.set_listener(Arc::new(move |_| moved()));
    }

    /// End of what is synced, as the log is now.
    pub(super) fn synced(&self) -> Offset {
        match planted(Mutant::MetadataAckBeforeSync) {
            true => self.log.ends().log_end,
            false => self.log.ends().durable,
        }
    }

    /// End of what may be read.
    pub(super) fn written(&self) -> Offset {
        self.log.ends().written
    }

    /// Appends the records of one change as one batch; its size.
    pub(super) fn append(
        &self,
        records: &[MetadataRecord],
        epoch: QuorumEpoch,
    ) -> Result<usize, MetadataLogFailed> {
        let now = self.env.clock().timestamp();
        let mut batch = BatchBuilder::new(BatchOptions::default());
        for record in records {
            let value = record.encode(record_version(record)).map_err(failed)?;
            batch.push(Some(now), None, Some(&value));
        }
        self.append_batch(batch, epoch)
    }

    /// Appends a record of the quorum's own: `leader` leads, elected by `voters`.
    pub(super) fn append_control(
        &self,
        control: &Control,
        epoch: QuorumEpoch,
        leader: ReplicaKey,
        voters: &Voters,
    ) -> Result<(), MetadataLogFailed> {
        let now = self.env.clock().timestamp();
        let batch = match control {
            Control::LeaderChange(_) => leader_change_batch(leader, voters, now),
            Control::Voters(voters) => voters_batch(voters, now),
        };
        self.append_batch(batch.map_err(failed)?, epoch).map(drop)
    }

    fn append_batch(
        &self,
        batch: BatchBuilder,
        epoch: QuorumEpoch,
    ) -> Result<usize, MetadataLogFailed> {
        let batch = batch.build();
        let bytes = batch.bytes_total();
        let append = Append {
            batches: vec![batch],
            leader_epoch: LeaderEpoch(epoch.0),
            now: self.env.clock().timestamp(),
            origin: Origin::Coordinator,
        };
        self.log.append(append).map_err(failed)?;
        Ok(bytes)
    }
}

/// What a batch of the metadata log says.
pub(super) enum Content {
    /// One change of the metadata.
    Records(Vec<MetadataRecord>),
    /// A leader's epoch begins; these voted or could have.
    LeaderChange(Voters),
    /// These vote from here on.
    Voters(Voters),
}

impl Content {
    /// Reads a batch.
    pub(super) fn of(batch: &Batch) -> Result<Content, MetadataLogFailed> {
        let mut records = Vec::new();
        for record in batch.records(BATCH_BYTES_MAX) {
            let record = record.map_err(failed)?;
            let offset = record.offset;
            if !batch.is_control() {
                let value = record.value.unwrap_or_default();
                records.push(MetadataRecord::decode(value).map_err(failed)?);
                continue;
            }
            let kind = ControlRecord::parse(&record).map_err(failed)?;
            let value = record.value.unwrap_or_default();
            match kind {
                ControlRecord::Quorum(LEADER_CHANGE) => {
                    return Ok(Content::LeaderChange(electorate(value)?));
                }
                ControlRecord::Quorum(VOTERS) => return Ok(Content::Voters(voters_of(value)?)),
                other => {
                    let reason =
                        format!("the record at offset {offset} is {other:?}, of a newer release");
                    return Err(MetadataLogFailed(reason));
                }
            }
        }
        Ok(Content::Records(records))
    }
}

pub(super) fn control_batch(kind: i16, value: Writer, now: Timestamp) -> BatchBuilder {
    let key = [0_i16.to_be_bytes(), kind.to_be_bytes()].concat();
    let options = BatchOptions { is_control: true, ..BatchOptions::default() };
    let mut batch = BatchBuilder::new(options);
    batch.push(Some(now), Some(&key), Some(&value.into_bytes()));
    batch
}

fn leader_change_batch(
    leader: ReplicaKey,
    voters: &Voters,
    now: Timestamp,
) -> Result<BatchBuilder, EncodeError> {
    let own = (leader.node, Some(leader.directory));
    let others = voters.0.iter().map(|(node, voter)| (*node, voter.directory));
    let voter = |(node, directory): (NodeId, Option<DirectoryId>)| LeaderChangeMessageVoter {
        voter_id: node.0,
        voter_directory_id: directory.unwrap_or_default().0,
    };
    let known = others.map(|known| if known.0 == own.0 { own } else { known });
    let change = LeaderChangeMessage {
        version: 1,
        leader_id: leader.node.0,
        voters: known.map(voter).collect(),
        // It has its own vote; whose else, nothing rests on.
        granting_voters: vec![voter(own)],
    };
    let mut value = Writer::new();
    change.encode(&mut value, 1)?;
    Ok(control_batch(LEADER_CHANGE, value, now))
}

/// The voters that a leader change names.
fn electorate(value: Bytes) -> Result<Voters, MetadataLogFailed> {
    // The version is its first field, too.
    let version = value.first_chunk().map_or(0, |bytes| i16::from_be_bytes(*bytes));
    let change = LeaderChangeMessage::decode(&mut Reader::new(value), version).map_err(failed)?;
    let voter = |voter: &LeaderChangeMessageVoter| {
        let directory = Some(DirectoryId(voter.voter_directory_id)).filter(|id| !id.0.is_zero());
        (NodeId(voter.voter_id), Voter { directory, endpoints: Vec::new() })
    };
    Ok(Voters(change.voters.iter().map(voter).collect()))
}

pub(super) fn voters_batch(voters: &Voters, now: Timestamp) -> Result<BatchBuilder, EncodeError> {
    let voter = |(node, voter): (&NodeId, &Voter)| VotersRecordVoter {
        voter_id: node.0,
        voter_directory_id: voter.directory.unwrap_or_default().0,
        endpoints: voter.endpoints.iter().map(stored_endpoint).collect(),
        kraft_version_feature: KRaftVersionFeature {
            min_supported_version: 0,
            max_supported_version: 1,
        },
    };
    let record = VotersRecord { version: 0, voters: voters.0.iter().map(voter).collect() };
    let mut value = Writer::new();
    record.encode(&mut value, 0)?;
    Ok(control_batch(VOTERS, value, now))
}

fn stored_endpoint(endpoint: &Endpoint) -> control::Endpoint {
    control::Endpoint {
        name: endpoint.listener.clone(),
        host: endpoint.host.clone(),
        port: endpoint.port,
    }
}

pub(super) fn voters_of(value: Bytes) -> Result<Voters, MetadataLogFailed> {
    let record = VotersRecord::decode(&mut Reader::new(value), 0).map_err(failed)?;
    let voter = |voter: VotersRecordVoter| {
        let directory = Some(DirectoryId(voter.voter_directory_id)).filter(|id| !id.0.is_zero());
        let endpoints = voter.endpoints.into_iter().map(|endpoint| Endpoint {
            listener: endpoint.name,
            host: endpoint.host,
            port: endpoint.port,
        });
        (NodeId(voter.voter_id), Voter { directory, endpoints: endpoints.collect() })
    };
    Ok(Voters(record.voters.into_iter().map(voter).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(node: i32) -> ReplicaKey {
        ReplicaKey { node: NodeId(node), directory: DirectoryId(Uuid([node as u8; 16])) }
    }

    #[test]
    fn what_the_quorum_writes_is_read_again() {
        let mut voters = Voters::of([key(3), key(4)]);
        voters.0.get_mut(&NodeId(4)).expect("there").endpoints =
            vec![Endpoint { listener: "CONTROLLER".into(), host: "h".into(), port: 9 }];
        let batch = voters_batch(&voters, Timestamp(1)).expect("encoded").build();
        assert!(matches!(Content::of(&batch), Ok(Content::Voters(read)) if read == voters));
        voters.0.insert(NodeId(3), Voter::default());
        voters.0.insert(NodeId(4), Voter::default());
        let batch = leader_change_batch(key(3), &voters, Timestamp(1)).expect("encoded").build();
        let Ok(Content::LeaderChange(read)) = Content::of(&batch) else { panic!("not read") };
        voters
            .0
            .insert(NodeId(3), Voter { directory: Some(key(3).directory), endpoints: Vec::new() });
        assert_eq!(read, voters);
    }
}
