//! The metadata log: records in, after their own sync; all of them out again at the start.
//!
//! An ordinary log in a directory of its own, with its own journal: changes of metadata never queue behind produce
//! traffic, and a failed data directory does not take the metadata along. One change is one batch, so that a crash
//! leaves all of it or nothing.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use cluster::config::BrokerSettings;
use cluster::metadata::{MetadataRecord, record_version};
use env::{Clock, Env, Spawn};
use log::{Append, LogConfig, LogDir, LogDirOptions, LogSpec, Origin, Read};
use record::{BatchBuilder, BatchOptions};
use types::mutant::{Mutant, planted};
use types::{DirectoryId, LeaderEpoch, Offset, PartitionIndex, TopicId, Uuid};

use crate::start::StartError;

/// Name of the log, as in Kafka.
const TOPIC: &str = "__cluster_metadata";
/// Its topic id, as in Kafka.
const TOPIC_ID: TopicId = TopicId(Uuid(1u128.to_be_bytes()));
/// Its directory within the metadata directory.
pub(crate) const DIRECTORY: &str = "cluster-metadata";
/// Term of the sole voter.
const QUORUM_EPOCH: LeaderEpoch = LeaderEpoch(1);
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
            topic: TOPIC.into(),
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

    /// Whether nothing was ever written to it.
    pub(crate) fn is_new(&self) -> bool {
        self.log.ends().written == Offset::ZERO
    }

    /// Gives the records of every batch to `apply`; returns the end offset.
    pub(crate) async fn replay(
        &self,
        mut apply: impl FnMut(&[MetadataRecord]) -> Result<(), MetadataLogFailed>,
    ) -> Result<Offset, MetadataLogFailed> {
        let ends = self.log.ends();
        let mut from = ends.log_start;
        while from < ends.durable {
            let read =
                Read { from, end: ends.durable, bytes_max: REPLAY_BYTES, at_least_one: true };
            let batches = self.log.batches(read).await.map_err(failed)?;
            if batches.is_empty() {
                return Err(MetadataLogFailed(format!("no batch at offset {from}")));
            }
            for batch in batches {
                let mut records = Vec::new();
                for record in batch.records(BATCH_BYTES_MAX) {
                    let value = record.map_err(failed)?.value.unwrap_or_default();
                    records.push(MetadataRecord::decode(value).map_err(failed)?);
                }
                apply(&records)?;
                from = batch.end_offset();
            }
        }
        Ok(from)
    }

    /// Appends the records of one change as one batch; they are not committed before [`MetadataLog::flush`].
    pub(crate) fn append(&self, records: &[MetadataRecord]) -> Result<(), MetadataLogFailed> {
        let now = self.env.clock().timestamp();
        let mut batch = BatchBuilder::new(BatchOptions::default());
        for record in records {
            let value = record.encode(record_version(record)).map_err(failed)?;
            batch.push(Some(now), None, Some(&value));
        }
        let append = Append {
            batches: vec![batch.build()],
            leader_epoch: QUORUM_EPOCH,
            now,
            origin: Origin::Coordinator,
        };
        self.log.append(append).map_err(failed)?;
        Ok(())
    }

    /// Commits everything appended: it is synced by the sole voter, which is this node (I39). Returns the offset of the
    /// last record.
    pub(crate) async fn flush(&self) -> Result<Offset, MetadataLogFailed> {
        let end = self.log.ends().log_end;
        if !planted(Mutant::MetadataAckBeforeSync) {
            let ends = self.log.flush().await.map_err(failed)?;
            assert!(ends.durable >= end, "a flush covers what was appended (I39)");
        }
        Ok(Offset(end.0 - 1))
    }
}
