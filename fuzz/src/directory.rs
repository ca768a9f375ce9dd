//! Recovery of a log directory from damage anywhere: segments, indexes, producer snapshots, checkpoint, clean-stop marker,
//! `partition.metadata`, journal. What is served is what was written (I1, I18), where it was written; recovery again loses
//! nothing of it (I6); and as long as only bytes of segments changed, everything that they do not touch is served (I14).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use env::{Clock, Disk, File, OpenMode};
use log::{
    Append, Durability, Log, LogConfig, LogDir, LogDirOptions, LogSpec, Origin, Read, ReadError,
};
use record::{Batch, BatchBuilder, BatchOptions, Batches, ProducerStamp};
use sim::decisions::Decisions;
use sim::disk::SimDisk;
use sim::plain::{self, ManualClock};
use types::{
    DirectoryId, LeaderEpoch, PartitionIndex, ProducerEpoch, ProducerId, Sequence, TopicId,
    TopicName, Uuid,
};

const DIR: &str = "/data/logs";
const DIRECTORY: DirectoryId = DirectoryId(Uuid([7; 16]));
const LOGS: [(&str, Durability); 3] =
    [("a", Durability::Sync), ("b", Durability::PageCache), ("c", Durability::Sync)];

/// Topic, base offset, the batch's bytes.
type Served = BTreeMap<(String, i64), Bytes>;

/// How the last process ended.
struct Template {
    disk: SimDisk,
    written: Served,
}

fn options() -> LogDirOptions {
    LogDirOptions {
        journal_file_bytes: 64 << 10,
        journal_bytes_max: 512 << 10,
        space_reserve: 0,
        log_config: config(Durability::Sync),
        ..LogDirOptions::default()
    }
}

fn config(durability: Durability) -> LogConfig {
    LogConfig {
        durability,
        segment_bytes: 1 << 11,
        index_interval_bytes: 128,
        ..LogConfig::default()
    }
}

async fn open(disk: &SimDisk, clock: &ManualClock) -> Result<LogDir<SimDisk>, log::OpenError> {
    LogDir::open(disk.clone(), clock, Path::new(DIR), DIRECTORY, options()).await
}

fn batch(number: i32) -> Batch {
    let stamp = ProducerStamp {
        id: ProducerId(i64::from(number % 2)),
        epoch: ProducerEpoch(0),
        base_sequence: Sequence(number / 2 * 2),
    };
    let options = BatchOptions { producer: Some(stamp), ..BatchOptions::default() };
    let mut builder = BatchBuilder::new(options);
    for record in 0..2 {
        let value = format!("value {number}.{record} {}", "x".repeat(40));
        let time = types::Timestamp(1_767_225_600_000 + i64::from(number));
        builder.push(Some(time), Some(b"key"), Some(value.as_bytes()));
    }
    builder.build()
}

async fn fill(dir: &LogDir<SimDisk>, clock: &ManualClock) {
    for (at, (topic, durability)) in LOGS.into_iter().enumerate() {
        let spec = LogSpec {
            topic: TopicName::from(topic),
            topic_id: TopicId(Uuid([at as u8 + 1; 16])),
            partition: PartitionIndex(0),
            config: config(durability),
        };
        let log = dir.create(spec).await.expect("creates");
        for number in 0..24 {
            let leader_epoch = LeaderEpoch(number / 10);
            let append = Append {
                batches: vec![batch(number)],
                leader_epoch,
                now: clock.timestamp(),
                origin: Origin::Client,
            };
            log.append(append).expect("takes it");
        }
        // What was flushed is in the segments; what follows lies in the journal alone.
        match at {
            2 => clock.sleep(Duration::from_secs(1)).await,
            _ => drop(log.flush().await.expect("flushes")),
        }
    }
}

/// Stopped in order; killed; cut from power.
fn templates() -> &'static [Template; 3] {
    static TEMPLATES: OnceLock<[Template; 3]> = OnceLock::new();
    TEMPLATES.get_or_init(|| {
        [0, 1, 2].map(|end| {
            let (disk, clock) = (SimDisk::new(&Decisions::new(1)), ManualClock::new());
            plain::run(&clock, async {
                disk.create_dir_all(Path::new("/data")).await.expect("creates");
                disk.sync_dir(Path::new("/")).await.expect("syncs");
                let dir = open(&disk, &clock).await.expect("opens");
                let work = async {
                    fill(&dir, &clock).await;
                    if end == 0 {
                        dir.close().await.expect("closes");
                    }
                };
                plain::beside(work, dir.run(clock.clone())).await;
            });
            let disk = if end == 2 { disk.power_cut() } else { disk.kill() };
            let written = recover(&disk.fork(1)).expect("opens");
            assert!(end == 2 || written.len() == 24 * LOGS.len(), "{} batches", written.len());
            Template { disk, written }
        })
    })
}

/// Opens the directory and reads everything that it serves.
fn recover(disk: &SimDisk) -> Result<Served, log::OpenError> {
    let clock = ManualClock::new();
    plain::run(&clock, async {
        let dir = open(disk, &clock).await?;
        let mut served = Served::new();
        for log in dir.logs() {
            read(&log, &mut served).await;
        }
        Ok(served)
    })
}

async fn read(log: &Log<SimDisk>, served: &mut Served) {
    let ends = log.ends();
    let mut from = ends.log_start;
    while from < ends.log_end {
        let read = Read { from, end: ends.log_end, bytes_max: 1 << 20, at_least_one: true };
        let batches = match log.batches(read).await {
            Ok(batches) if batches.is_empty() => return,
            Ok(batches) => batches,
            Err(ReadError::Quarantined(range)) => {
                let end = range.end;
                assert!(end > from, "a quarantined range goes on");
                from = end;
                continue;
            }
            Err(_) => return,
        };
        for batch in batches {
            assert!(batch.crc_ok(), "I1");
            from = batch.end_offset();
            let topic = log.topic_partition().topic.to_string();
            served.insert((topic, batch.base_offset().0), batch.to_bytes());
        }
    }
}

/// One byte chooses how the last process ended and whether the segments alone are damaged; then edits of six bytes: file,
/// where (two bytes), what (one), and with what (two).
pub(crate) fn log_directory(data: &[u8]) {
    let Some((choice, edits)) = data.split_first() else { return };
    let template = &templates()[usize::from(choice % 3)];
    let is_rot = choice / 3 % 2 == 0;
    let disk = template.disk.fork(1);
    let mut paths: Vec<PathBuf> = disk.files().into_iter().map(|(path, _)| path).collect();
    if is_rot {
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    }
    let mut touched: Vec<(PathBuf, u64)> = Vec::new();
    plain::block_on(async {
        for edit in edits.chunks_exact(6).take(if is_rot { 1 } else { 8 }) {
            let path = &paths[usize::from(edit[0]) % paths.len()];
            let file = disk.open(path, OpenMode::Write).await.expect("a file of the template");
            let len = file.len().await.expect("the disk is sound");
            let place = u64::from(u16::from_le_bytes([edit[1], edit[2]]));
            let at = if len == 0 { 0 } else { place % len };
            match edit[3] % 4 {
                1 if !is_rot => file.set_len(at).await.expect("the disk is sound"),
                2 if !is_rot => {
                    let noise = Bytes::from(vec![edit[4]; 1 + usize::from(edit[5]) * 16]);
                    file.write_at(at, vec![noise]).await.expect("the disk is sound");
                }
                _ => {
                    let old = file.read_at(at, 1).await.expect("the disk is sound");
                    let new = old.first().copied().unwrap_or(0) ^ edit[4].max(1);
                    let bytes = Bytes::copy_from_slice(&[new]);
                    file.write_at(at, vec![bytes]).await.expect("the disk is sound");
                    touched.push((path.clone(), at));
                }
            }
        }
    });
    let Ok(served) = recover(&disk) else {
        assert!(!is_rot, "damage in a segment keeps a directory from opening");
        return;
    };
    let is_single = edits.len() < 12 || is_rot;
    for (place, bytes) in &served {
        judge(template, place, bytes, is_single);
    }
    if is_rot {
        let hit = damaged(&template.disk, &touched);
        // What the page cache keeps is promised to be found damaged, not to leave the rest (SPEC section 1).
        let is_promised = |place: &&(String, i64)| LOGS.contains(&(&*place.0, Durability::Sync));
        for place in template.written.keys().filter(is_promised) {
            let bytes = &template.written[place];
            assert!(
                served.get(place) == Some(bytes) || hit.contains(place),
                "{place:?} is not served: {touched:?} touched {hit:?}"
            );
        }
    }
    let again = recover(&disk.kill()).expect("what was recovered opens");
    // A start after a clean stop leaves a segment that was cut off since as it is, what is missing unserved; one after a
    // kill replays the journal over it. So later starts may serve more, never less, nor anything else.
    for (place, bytes) in &served {
        assert!(again.get(place) == Some(bytes), "I6: recovery again lost {place:?}");
    }
    for (place, bytes) in &again {
        judge(template, place, bytes, is_single);
    }
    assert!(!is_rot || again.len() == served.len(), "I6: recovery changed what it recovered");
}

/// What a damaged checkpoint or journal made unknown may be missing; nothing else may be there. A batch's leader epoch (bytes
/// 12 to 15) lies outside its checksum: the log's own epochs and its journal vouch for it, unless these are damaged too. In
/// what the page cache keeps, there is no journal.
fn judge(template: &Template, place: &(String, i64), bytes: &Bytes, is_single: bool) {
    let written =
        template.written.get(place).unwrap_or_else(|| panic!("{place:?} was never written"));
    let is_sound = match is_single && LOGS.contains(&(&*place.0, Durability::Sync)) {
        true => written == bytes,
        false => written[..12] == bytes[..12] && written[16..] == bytes[16..],
    };
    assert!(is_sound, "{place:?} is {bytes:?}, written was {written:?}");
}

/// The batches that contain a touched byte.
fn damaged(disk: &SimDisk, touched: &[(PathBuf, u64)]) -> Vec<(String, i64)> {
    let mut hit = Vec::new();
    for (path, at) in touched {
        let bytes = disk.peek(path).expect("a file of the template");
        let topic = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let topic = topic.trim_end_matches("-0").to_owned();
        let mut start = 0;
        for batch in Batches::split(bytes) {
            let Ok(batch) = batch else { break };
            let end = start + batch.bytes_total() as u64;
            if (start..end).contains(at) {
                hit.push((topic.clone(), batch.base_offset().0));
            }
            start = end;
        }
    }
    hit
}
