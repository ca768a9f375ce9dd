//! What the tests of logs share: batches, a directory on a false disk, and reading everything back.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use env::{Clock, Disk, File, OpenMode, Part};
use log::{
    Append, AppendError, Appended, Log, LogConfig, LogDir, LogDirOptions, LogSpec, Origin, Read,
    ReadError,
};
use record::{Batch, BatchBuilder, BatchOptions, Batches, ProducerStamp};
use sim::decisions::Decisions;
use sim::disk::{SimDisk, SimFile};
use sim::plain::{self, ManualClock};
use types::{
    DirectoryId, LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence,
    Timestamp, TopicId, TopicName, TopicPartition, Uuid,
};

/// Where the directory lies.
pub const DIR: &str = "/data/logs";
/// Its identity.
pub const DIRECTORY: DirectoryId = DirectoryId(Uuid([7; 16]));
/// Wall time of records that tests do not date.
pub const NOW: Timestamp = Timestamp(1_767_225_600_000);

/// A world: a disk and a clock.
pub struct World {
    pub disk: SimDisk,
    pub clock: ManualClock,
    pub options: LogDirOptions,
}

impl World {
    pub fn new(seed: u64) -> World {
        #[cfg(feature = "mutants")]
        types::mutant::plant_from_environment();
        let disk = SimDisk::new(&Decisions::new(seed));
        plain::block_on(async {
            disk.create_dir_all(Path::new("/data")).await.expect("creates");
            disk.sync_dir(Path::new("/")).await.expect("syncs");
        });
        World { disk, clock: ManualClock::new(), options: options() }
    }

    /// Opens the directory and runs `body` beside its committer.
    pub fn with<T>(&self, body: impl AsyncFnOnce(LogDir<SimDisk>) -> T) -> T {
        plain::run(&self.clock, async {
            let dir = self.open().await.expect("the directory opens");
            plain::beside(body(dir.clone()), dir.run(self.clock.clone())).await
        })
    }

    pub async fn open(&self) -> Result<LogDir<SimDisk>, log::OpenError> {
        let path = Path::new(DIR);
        LogDir::open(self.disk.clone(), &self.clock, path, DIRECTORY, self.options.clone()).await
    }

    /// Another course of the world from here on.
    pub fn fork(&self, seed: u64) -> World {
        let disk = self.disk.fork(seed);
        World { disk, clock: self.clock.clone(), options: self.options.clone() }
    }

    pub fn power_cut(&mut self) {
        self.disk = self.disk.power_cut();
    }

    pub fn kill(&mut self) {
        self.disk = self.disk.kill();
    }
}

/// Small journal, no free-space reserve, no ballast.
pub fn options() -> LogDirOptions {
    LogDirOptions {
        journal_file_bytes: 64 << 10,
        journal_bytes_max: 512 << 10,
        space_reserve: 0,
        ballast_bytes: 0,
        log_config: config(),
        ..LogDirOptions::default()
    }
}

/// Tiny segments and a dense index.
pub fn config() -> LogConfig {
    LogConfig { segment_bytes: 1 << 12, index_interval_bytes: 128, ..LogConfig::default() }
}

pub fn topic_id(n: u8) -> TopicId {
    TopicId(Uuid([n; 16]))
}

pub fn spec(topic: &str, id: u8) -> LogSpec {
    LogSpec {
        topic: TopicName::from(topic),
        topic_id: topic_id(id),
        partition: PartitionIndex(0),
        config: config(),
    }
}

pub fn partition(topic: &str) -> TopicPartition {
    TopicPartition::new(topic, 0)
}

/// A batch with one record per value, all dated `time`.
pub fn batch_at(values: &[&str], time: Timestamp) -> Batch {
    build(values, time, None)
}

pub fn batch(values: &[&str]) -> Batch {
    build(values, NOW, None)
}

/// A batch of an idempotent producer.
pub fn stamped(values: &[&str], id: i64, epoch: i16, sequence: i32) -> Batch {
    stamped_at(values, NOW, id, epoch, sequence)
}

/// The same, all dated `time`.
pub fn stamped_at(values: &[&str], time: Timestamp, id: i64, epoch: i16, sequence: i32) -> Batch {
    let stamp = ProducerStamp {
        id: ProducerId(id),
        epoch: ProducerEpoch(epoch),
        base_sequence: Sequence(sequence),
    };
    build(values, time, Some(stamp))
}

fn build(values: &[&str], time: Timestamp, producer: Option<ProducerStamp>) -> Batch {
    let mut builder = BatchBuilder::new(BatchOptions { producer, ..BatchOptions::default() });
    for value in values {
        builder.push(Some(time), None, Some(value.as_bytes()));
    }
    builder.build()
}

pub fn try_append(
    log: &Log<SimDisk>,
    batches: Vec<Batch>,
    epoch: i32,
) -> Result<Appended, AppendError> {
    log.append(Append {
        batches,
        leader_epoch: LeaderEpoch(epoch),
        now: NOW,
        origin: Origin::Client,
    })
}

pub fn append(log: &Log<SimDisk>, batch: Batch) -> Appended {
    try_append(log, vec![batch], 0).expect("the append is good")
}

/// The bytes of a slice.
pub async fn bytes_of(parts: Vec<Part<SimFile>>) -> Bytes {
    let mut bytes = BytesMut::new();
    for part in parts {
        match part {
            Part::Mem(mem) => bytes.extend_from_slice(&mem),
            Part::File { file, offset, len } => {
                let read = file.read_at(offset, len).await.expect("reads");
                assert_eq!(read.len(), len, "a part lies within its file");
                bytes.extend_from_slice(&read);
            }
        }
    }
    bytes.freeze()
}

/// Reads from `from` to `end` in steps of `budget` bytes; each step must be whole batches that follow the last.
pub async fn read_from(
    log: &Log<SimDisk>,
    from: Offset,
    end: Offset,
    budget: usize,
) -> Result<Vec<(i64, String)>, ReadError> {
    let mut values = Vec::new();
    let mut next = from;
    while next < end {
        let slice =
            log.read(Read { from: next, end, bytes_max: budget, at_least_one: true }).await?;
        assert!(slice.bytes > 0, "nothing at {next} of {end}: {log:?}");
        let bytes = bytes_of(slice.parts).await;
        assert_eq!(bytes.len(), slice.bytes);
        let mut count = 0;
        for batch in Batches::split(bytes) {
            let batch = batch.expect("whole batches");
            assert!(batch.crc_ok(), "I1");
            assert!(batch.base_offset() <= next || count > 0);
            assert!(
                count == 0 || batch.base_offset() == next,
                "I2: a gap before {}",
                batch.base_offset()
            );
            next = batch.end_offset();
            count += 1;
            for record in batch.records(1 << 20) {
                let record = record.expect("readable");
                if record.offset >= from {
                    let value = String::from_utf8(record.value.expect("a value").to_vec());
                    values.push((record.offset.0, value.expect("text")));
                }
            }
        }
        assert!(count == 1 || slice.bytes <= budget, "{} bytes for {budget}", slice.bytes);
        assert_eq!(next, slice.next_offset);
    }
    Ok(values)
}

/// All that a log holds.
pub async fn read_all(log: &Log<SimDisk>) -> Vec<(i64, String)> {
    let ends = log.ends();
    read_from(log, ends.log_start, ends.written, 1 << 20).await.expect("readable")
}

/// A listener that keeps the newest ends.
pub fn watch_ends(log: &Log<SimDisk>) -> Arc<std::sync::Mutex<log::Ends>> {
    let seen = Arc::new(std::sync::Mutex::new(log.ends()));
    let target = seen.clone();
    log.set_listener(Arc::new(move |ends| *target.lock().expect("not poisoned") = ends));
    seen
}

pub fn wall(clock: &ManualClock) -> Timestamp {
    clock.timestamp()
}

/// Records `value N` and their offsets.
pub fn values(n: std::ops::Range<i64>) -> Vec<(i64, String)> {
    n.map(|i| (i, format!("value {i}"))).collect()
}

/// Appends them.
pub fn fill(log: &Log<SimDisk>, n: std::ops::Range<i64>) {
    for (_, value) in values(n) {
        append(log, batch(&[&value]));
    }
}

/// Where the log of `events` lies.
pub fn log_dir() -> PathBuf {
    Path::new(DIR).join("events-0")
}

/// Files of the log with this suffix, in order.
pub fn files(disk: &SimDisk, suffix: &str) -> Vec<PathBuf> {
    let files = disk.files().into_iter().map(|(path, _)| path);
    files
        .filter(|path| path.starts_with(log_dir()) && path.to_string_lossy().ends_with(suffix))
        .collect()
}

/// Makes `content` durable at `path`.
pub fn put(disk: &SimDisk, path: &Path, content: &[u8]) {
    plain::block_on(async {
        let file = disk.open(path, OpenMode::Create).await.expect("opens");
        file.set_len(0).await.expect("cuts");
        file.write_at(0, vec![Bytes::copy_from_slice(content)]).await.expect("writes");
        file.sync_data().await.expect("syncs");
        disk.sync_dir(path.parent().expect("a directory")).await.expect("syncs");
    });
}

/// Removes a file for good.
pub fn remove(disk: &SimDisk, path: &Path) {
    plain::block_on(async {
        disk.remove_file(path).await.expect("removes");
        disk.sync_dir(path.parent().expect("a directory")).await.expect("syncs");
    });
}

/// A log of 400 records over many segments, with an idempotent producer, cleanly closed: all derived files are saved.
pub fn closed(seed: u64) -> World {
    let world = World::new(seed);
    world.with(async |dir| {
        let log = dir.create(spec("events", 1)).await.expect("created");
        for i in 0..400 {
            append(&log, stamped(&[&format!("value {i}")], 7, 0, i));
        }
        log.flush().await.expect("flushed");
        dir.close().await.expect("closes");
    });
    world
}
