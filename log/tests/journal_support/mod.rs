//! What the journal's tests share: batches, single operations to compare, opening and reading back.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use env::Disk;
use log::journal::{
    Damage, Frame, FrameKind, Item, Journal, JournalError, JournalOptions, Position, Report,
};
use sim::decisions::Decisions;
use sim::disk::SimDisk;
use sim::plain::block_on;
use types::{DirectoryId, LeaderEpoch, LogId, Offset, PartitionIndex, TopicId, Uuid};

/// Where the journal lies.
pub const DIR: &str = "/data/journal";
/// The directory it belongs to.
pub const DIRECTORY: DirectoryId = DirectoryId(Uuid([7; 16]));
/// Salt of the checksums in tests that forge bytes.
pub const SECRET: u64 = 0x5eed_5eed_5eed_5eed;

/// A disk with an empty log directory on it.
pub fn disk(seed: u64) -> SimDisk {
    #[cfg(feature = "mutants")]
    types::mutant::plant_from_environment();
    let disk = SimDisk::new(&Decisions::new(seed));
    block_on(async {
        disk.create_dir_all(Path::new("/data")).await.expect("creates");
        disk.sync_dir(Path::new("/")).await.expect("syncs");
    });
    disk
}

/// Small files, so that laps change often.
pub fn options() -> JournalOptions {
    JournalOptions { file_bytes: 64 << 10, total_bytes: 512 << 10, secret: SECRET }
}

/// A batch of `bytes` bytes with a right CRC. Only what the journal looks at is filled in.
pub fn batch(base: i64, bytes: usize, filler: u8) -> Bytes {
    assert!(bytes >= 61, "a batch has a header");
    let mut batch = vec![filler; bytes];
    batch[..8].copy_from_slice(&base.to_be_bytes());
    batch[8..12].copy_from_slice(&(bytes as i32 - 12).to_be_bytes());
    batch[12..16].copy_from_slice(&3i32.to_be_bytes());
    batch[16] = 2;
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[21..]) as u32;
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(batch)
}

/// A DATA frame of log `log` with one batch.
pub fn data(log: u64, position: u64, bytes: usize, filler: u8) -> Frame {
    let batch = batch(position as i64, bytes, filler);
    Frame { log: LogId(log), segment_base: Offset(0), position, kind: FrameKind::Data(vec![batch]) }
}

/// A frame without payload, of a kind that `which` picks.
pub fn plain(log: u64, which: u8) -> Frame {
    let kind = match which % 6 {
        0 => FrameKind::Create {
            topic: "orders".into(),
            topic_id: TopicId(Uuid([which; 16])),
            partition: PartitionIndex(i32::from(which)),
            epoch: LeaderEpoch(4),
            flags: 0x8001,
        },
        1 => FrameKind::Truncate { end: Offset(i64::from(which)) },
        2 => FrameKind::LogStart { offset: Offset(i64::from(which)) },
        3 => FrameKind::Extent { len: 5_000_000, check: u64::from(which) },
        5 => FrameKind::Reset { offset: Offset(i64::from(which)) },
        _ => FrameKind::Delete,
    };
    Frame { log: LogId(log), segment_base: Offset(9), position: 77, kind }
}

/// The smallest thing that recovery may deliver: one batch, or a frame without payload.
#[derive(Clone, PartialEq, Eq)]
pub enum Step {
    /// A batch at its place.
    Batch(u64, i64, u64, Bytes),
    /// Another frame.
    Plain(Frame),
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Batch(log, _, position, bytes) => {
                write!(f, "log {log} {position}+{} of {:?}", bytes.len(), bytes.last())
            }
            Step::Plain(frame) => write!(f, "log {} {}", frame.log, frame.kind.name()),
        }
    }
}

/// `frames` as steps; how batches are grouped into frames is the journal's business.
pub fn steps(frames: &[Frame]) -> Vec<Step> {
    let mut steps = Vec::new();
    for frame in frames {
        let FrameKind::Data(pieces) = &frame.kind else {
            steps.push(Step::Plain(frame.clone()));
            continue;
        };
        let whole = Bytes::from(pieces.concat());
        let mut at = 0;
        while at < whole.len() {
            let length = i32::from_be_bytes(whole[at + 8..at + 12].try_into().expect("four bytes"));
            let end = at + 12 + length as usize;
            steps.push(Step::Batch(
                frame.log.0,
                frame.segment_base.0,
                frame.position + at as u64,
                whole.slice(at..end),
            ));
            at = end;
        }
    }
    steps
}

/// What recovery delivered.
pub struct Replayed {
    pub frames: Vec<(Position, Frame)>,
    pub damages: Vec<Damage>,
    pub report: Report,
    pub journal: Journal<SimDisk>,
}

impl Replayed {
    pub fn steps(&self) -> Vec<Step> {
        let frames: Vec<Frame> = self.frames.iter().map(|(_, frame)| frame.clone()).collect();
        steps(&frames)
    }
}

/// Recovers the journal on `disk`.
pub async fn open(disk: &SimDisk) -> Result<Replayed, JournalError> {
    open_with(disk, options()).await
}

/// Recovers the journal on `disk` with other options.
pub async fn open_with(disk: &SimDisk, options: JournalOptions) -> Result<Replayed, JournalError> {
    let mut recovery = Journal::recover(disk, Path::new(DIR), DIRECTORY, options).await?;
    let mut frames = Vec::new();
    let mut damages = Vec::new();
    while let Some(item) = recovery.next().await? {
        match item {
            Item::Frame { position, frame } => frames.push((position, frame)),
            Item::Damaged(damage) => damages.push(damage),
        }
    }
    let (journal, report) = recovery.finish().await?;
    Ok(Replayed { frames, damages, report, journal })
}

/// The journal's files.
pub fn files(disk: &SimDisk) -> Vec<(PathBuf, u64)> {
    disk.files().into_iter().filter(|(path, _)| path.starts_with(DIR)).collect()
}

/// The file of the newest lap.
pub fn newest_file(disk: &SimDisk) -> PathBuf {
    let lap = |path: &PathBuf| {
        let bytes = disk.peek(path).expect("the file is there");
        bytes.get(40..48).map(|lap| u64::from_le_bytes(lap.try_into().expect("eight bytes")))
    };
    files(disk).into_iter().map(|(path, _)| path).max_by_key(lap).expect("there is a file")
}

/// Where in `path` the groups of its present lap begin, with their numbers and frame counts.
pub fn groups(disk: &SimDisk, path: &Path) -> Vec<(u64, u64, u32)> {
    let bytes = disk.peek(path).expect("the file is there");
    let Some(lap) = bytes.get(40..48) else { return Vec::new() };
    let mut groups = Vec::new();
    for at in (8192..bytes.len()).step_by(4096) {
        if &bytes[at..at + 4] == b"FTGR" && &bytes[at + 8..at + 16] == lap {
            let number = u64::from_le_bytes(bytes[at + 16..at + 24].try_into().expect("eight"));
            let frames = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().expect("four"));
            groups.push((at as u64, number, frames));
        }
    }
    groups
}
