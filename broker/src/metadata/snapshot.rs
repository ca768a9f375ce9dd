//! Snapshots: files beside the metadata log that hold what everything below a place of it has come to, so that the log may forget
//! it (KIP-630).
//!
//! ```text
//!  <end offset, 20 digits>-<epoch, 10 digits>.checkpoint
//!    SnapshotHeader | who votes | batches of records that lead from nothing to the image | SnapshotFooter
//! ```
//!
//! Kafka's own form: record batches, offsets from 0, in the epoch of the last record that is held. A file is written aside,
//! synced and renamed; the footer shows that all of it is there.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use client::{ClientError, Connection, ConnectionSettings};
use cluster::controller::METADATA_TOPIC;
use cluster::metadata::{Delta, Image, MetadataRecord, record_version, snapshot as records_of};
use cluster::quorum::{Position, ReplicaKey, Voters};
use env::{Disk, Env, File, OpenMode};
use record::stored::control::{SnapshotFooterRecord, SnapshotHeaderRecord};
use record::{BatchBuilder, BatchOptions, Batches, ControlRecord};
use tokio::sync::mpsc;
use types::encoding::Writer;
use types::mutant::{Mutant, planted};
use types::{ClusterId, LeaderEpoch, Offset, QuorumEpoch, Timestamp};
use wire::fetch_snapshot::{
    FetchSnapshotRequest, RequestPartitionSnapshot, RequestSnapshotId, RequestTopicSnapshot,
};

use super::addresses::Address;
use super::log::{
    BATCH_BYTES_MAX, MetadataLogFailed, VOTERS, control_batch, failed, voters_batch, voters_of,
};

/// Types of its first and its last record.
const HEADER: i16 = 3;
const FOOTER: i16 = 4;
/// Records in one batch.
const BATCH_RECORDS: usize = 500;
/// What is fetched at once, and no snapshot is larger than this.
pub(super) const PIECE_BYTES: usize = 1 << 20;
const SNAPSHOT_BYTES_MAX: usize = 1 << 30;
/// What else an answer holds.
const ANSWER_BYTES_EXTRA: usize = 64 << 10;
pub(super) const ENDING: &str = ".checkpoint";
/// Of a file that is not whole yet.
const ASIDE: &str = ".tmp";

/// What a snapshot holds.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Snapshot {
    /// Everything below this place of the log.
    pub(super) end: Position,
    /// Who votes there.
    pub(super) voters: Voters,
    /// What all of it has come to.
    pub(super) image: Image,
}

/// What became of a snapshot.
pub(super) enum Snapshotted {
    /// One of its own is durable, or is not.
    Written(Position, Result<(), String>),
    /// What the one before it holds is forgotten.
    Forgotten,
    /// In that attempt another piece of the leader's has come.
    Piece(u64),
    /// In that attempt it has come and is durable, or cannot be had.
    Fetched(u64, Result<Snapshot, String>),
}

/// The bytes of a snapshot of `image`, as it is at `end`.
pub(super) fn encode(
    end: Position,
    voters: &Voters,
    image: &Image,
    now: Timestamp,
) -> Result<Bytes, MetadataLogFailed> {
    let mut bytes = BytesMut::new();
    let mut next = Offset::ZERO;
    let mut put = |builder: BatchBuilder| {
        let batch = builder.build().placed(next, LeaderEpoch(end.epoch.0));
        next = batch.end_offset();
        bytes.extend_from_slice(&batch.to_bytes());
    };
    let header = SnapshotHeaderRecord { version: 0, last_contained_log_timestamp: now.0 };
    let mut value = Writer::new();
    header.encode(&mut value, 0).map_err(failed)?;
    put(control_batch(HEADER, value, now));
    put(voters_batch(voters, now).map_err(failed)?);
    let mut records = records_of(image);
    if planted(Mutant::SnapshotLacksConfigs) {
        records.retain(|record| !matches!(record, MetadataRecord::Config(_)));
    }
    for records in records.chunks(BATCH_RECORDS) {
        let mut batch = BatchBuilder::new(BatchOptions::default());
        for record in records {
            let value = record.encode(record_version(record)).map_err(failed)?;
            batch.push(Some(now), None, Some(&value));
        }
        put(batch);
    }
    let mut value = Writer::new();
    SnapshotFooterRecord { version: 0 }.encode(&mut value, 0).map_err(failed)?;
    put(control_batch(FOOTER, value, now));
    Ok(bytes.freeze())
}

/// Reads one that ends at `end`.
pub(super) fn decode(end: Position, bytes: Bytes) -> Result<Snapshot, MetadataLogFailed> {
    let broken = |what: &str| MetadataLogFailed(format!("the snapshot at {} {what}", end.offset));
    let mut delta = Delta::new(Image::empty());
    let mut voters = None;
    let (mut next, mut has_ended) = (Offset::ZERO, false);
    for batch in Batches::split(bytes) {
        let batch = batch.map_err(failed)?;
        batch.check_crc().map_err(failed)?;
        let (is_first, is_control) = (next == Offset::ZERO, batch.is_control());
        if batch.base_offset() != next || has_ended || is_first && !is_control {
            return Err(broken("is not in order"));
        }
        next = batch.end_offset();
        for record in batch.records(BATCH_BYTES_MAX) {
            let record = record.map_err(failed)?;
            if !is_control {
                let value = record.value.unwrap_or_default();
                let record = MetadataRecord::decode(value).map_err(failed)?;
                delta.apply(&record).map_err(failed)?;
                continue;
            }
            match ControlRecord::parse(&record).map_err(failed)? {
                ControlRecord::Quorum(HEADER) if is_first => {}
                ControlRecord::Quorum(VOTERS) => {
                    voters = Some(voters_of(record.value.unwrap_or_default())?);
                }
                ControlRecord::Quorum(FOOTER) => has_ended = true,
                _ => return Err(broken("holds a record of a newer release")),
            }
        }
    }
    let voters = voters.filter(|_| has_ended).ok_or_else(|| broken("is not whole"))?;
    Ok(Snapshot { end, voters, image: delta.finish().0 })
}

/// Where the snapshot that ends at `end` lies.
pub(super) fn path(dir: &Path, end: Position) -> PathBuf {
    dir.join(format!("{:020}-{:010}{ENDING}", end.offset.0, end.epoch.0))
}

/// Removes what was left aside, at a start: later somebody may be about to write it.
pub(super) async fn tidy<D: Disk>(disk: &D, dir: &Path) -> io::Result<()> {
    let names = disk.list(dir).await?.into_iter().map(|entry| entry.name);
    for name in names.filter(|name| name.contains(ENDING) && name.ends_with(ASIDE)) {
        disk.remove_file(&dir.join(name)).await?;
    }
    Ok(())
}

/// Where those in `dir` end, ascending.
pub(super) async fn list<D: Disk>(disk: &D, dir: &Path) -> io::Result<Vec<Position>> {
    let place = |name: &str| {
        let (end, epoch) = name.strip_suffix(ENDING)?.split_once('-')?;
        Some(Position::new(epoch.parse().ok()?, end.parse().ok()?))
    };
    let entries = disk.list(dir).await?;
    let mut found: Vec<Position> = entries.iter().filter_map(|entry| place(&entry.name)).collect();
    found.sort_by_key(|end| end.offset);
    Ok(found)
}

/// Stores one; `attempt` tells apart those that are about to store the same. Durable when it returns; otherwise nothing of it
/// stays.
pub(super) async fn store<D: Disk>(
    disk: &D,
    dir: &Path,
    end: Position,
    attempt: u64,
    bytes: Bytes,
) -> io::Result<()> {
    let path = path(dir, end);
    let aside = dir.join(format!("{:020}{ENDING}-{attempt}{ASIDE}", end.offset.0));
    let stored = async {
        let file = disk.open(&aside, OpenMode::Create).await?;
        file.write_at(0, vec![bytes]).await?;
        file.sync_data().await?;
        disk.rename(&aside, &path).await?;
        disk.sync_dir(dir).await
    };
    let stored = stored.await;
    if stored.is_err() {
        // It may not be there.
        let _ = disk.remove_file(&aside).await;
    }
    stored
}

/// Reads the one that ends at `end`.
pub(super) async fn load<D: Disk>(
    disk: &D,
    dir: &Path,
    end: Position,
) -> Result<Snapshot, MetadataLogFailed> {
    decode(end, disk.read_all(&path(dir, end)).await.map_err(failed)?)
}

/// A piece of the one that ends at `end`, from `position` on, and its size. Error `NotFound`.
pub(super) async fn piece<D: Disk>(
    disk: &D,
    dir: &Path,
    end: Position,
    position: u64,
    bytes_max: usize,
) -> io::Result<(u64, Bytes)> {
    let file = disk.open(&path(dir, end), OpenMode::Read).await?;
    let size = file.len().await?;
    let left = usize::try_from(size.saturating_sub(position)).unwrap_or(usize::MAX);
    let bytes = file.read_at(position, left.min(bytes_max)).await?;
    Ok((size, bytes))
}

/// Removes those before `end`.
pub(super) async fn remove_before<D: Disk>(disk: &D, dir: &Path, end: Position) -> io::Result<()> {
    for old in list(disk, dir).await?.into_iter().filter(|old| old.offset < end.offset) {
        disk.remove_file(&path(dir, old)).await?;
    }
    Ok(())
}

/// A leader's snapshot that is to be fetched.
pub(super) struct Fetching {
    pub(super) cluster: ClusterId,
    pub(super) me: ReplicaKey,
    /// The epoch in which it was named.
    pub(super) epoch: QuorumEpoch,
    /// Where the leader is, if that is known.
    pub(super) address: Option<Address>,
    pub(super) end: Position,
    pub(super) attempt: u64,
    pub(super) patience: Duration,
}

impl Fetching {
    /// Fetches it piece by piece, each of which is told, looks whether it is whole, and stores it.
    pub(super) async fn run<E: Env>(
        self,
        env: &E,
        dir: &Path,
        told: &mpsc::Sender<Snapshotted>,
    ) -> Result<Snapshot, String> {
        let text = |error: ClientError| error.to_string();
        let (host, port) = self.address.as_ref().ok_or("no address of the leader is known")?;
        let settings = ConnectionSettings {
            client_id: format!("snapshot-{}", self.me.node).into(),
            connect_timeout: self.patience,
            request_timeout: self.patience,
            answer_bytes_max: 2 * PIECE_BYTES + ANSWER_BYTES_EXTRA,
            versions_version: None,
        };
        let connection = Connection::open(env, host, *port, &settings).await.map_err(text)?;
        let version = connection.version::<FetchSnapshotRequest>(None, i16::MAX).map_err(text)?;
        let mut bytes = BytesMut::new();
        loop {
            let request = self.request(bytes.len() as i64);
            let answer =
                connection.ask(env, &request, version, self.patience).await.map_err(text)?;
            ClientError::check(answer.error_code, None).map_err(text)?;
            let mut told_of = answer.topics.into_iter().flat_map(|topic| topic.partitions);
            let piece = told_of.next().ok_or("the leader answers nothing")?;
            ClientError::check(piece.error_code, None).map_err(text)?;
            let more = piece.unaligned_records.unwrap_or_default();
            let size = usize::try_from(piece.size).unwrap_or(0);
            if more.is_empty() || size > SNAPSHOT_BYTES_MAX || bytes.len() + more.len() > size {
                return Err(format!("{} bytes of {size} behind {}", more.len(), bytes.len()));
            }
            bytes.extend_from_slice(&more);
            // A room that has ended wants no snapshot.
            let _ = told.send(Snapshotted::Piece(self.attempt)).await;
            if bytes.len() == size {
                break;
            }
        }
        let bytes = bytes.freeze();
        let snapshot = decode(self.end, bytes.clone()).map_err(|error| error.to_string())?;
        let stored = store(env.disk(), dir, self.end, self.attempt, bytes).await;
        stored.map_err(|error| error.to_string())?;
        Ok(snapshot)
    }

    fn request(&self, position: i64) -> FetchSnapshotRequest {
        let partition = RequestPartitionSnapshot {
            partition: 0,
            current_leader_epoch: self.epoch.0,
            snapshot_id: RequestSnapshotId {
                end_offset: self.end.offset.0,
                epoch: self.end.epoch.0,
            },
            position,
            replica_directory_id: self.me.directory.0,
        };
        FetchSnapshotRequest {
            cluster_id: Some((&*self.cluster.0).into()),
            replica_id: self.me.node.0,
            max_bytes: PIECE_BYTES as i32,
            topics: vec![RequestTopicSnapshot {
                name: METADATA_TOPIC.into(),
                partitions: vec![partition],
            }],
        }
    }
}

#[cfg(test)]
mod tests {
    use record::stored::metadata::TopicRecord;
    use types::{DirectoryId, NodeId, Uuid};

    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_nothing_less() {
        let mut delta = Delta::new(Image::empty());
        for number in 0..700_u128 {
            let topic = TopicRecord {
                name: format!("t{number}").as_str().into(),
                topic_id: Uuid((number + 1).to_be_bytes()),
            };
            delta.apply(&MetadataRecord::Topic(topic)).expect("makes sense");
        }
        let (image, _) = delta.finish();
        let key = ReplicaKey { node: NodeId(3), directory: DirectoryId(Uuid([3; 16])) };
        let (end, voters) = (Position::new(7, 4711), Voters::of([key]));
        let bytes = encode(end, &voters, &image, Timestamp(1)).expect("encoded");
        let read = decode(end, bytes.clone()).expect("whole");
        assert_eq!((&read.voters, read.end), (&voters, end));
        assert_eq!(read.image, image);
        for len in (0..bytes.len()).step_by(97) {
            assert!(decode(end, bytes.slice(..len)).is_err(), "cut at {len}");
        }
        for at in (0..bytes.len()).step_by(131) {
            let mut rotten = bytes.to_vec();
            rotten[at] ^= 0x20;
            let read = decode(end, rotten.into());
            // The epoch of a batch is outside its checksum, and nothing rests on it here.
            assert!(read.is_err() || read == decode(end, bytes.clone()), "bit at {at}");
        }
    }
}
