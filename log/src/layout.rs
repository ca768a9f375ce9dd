//! Names of files and directories, and the envelope of every small file.
//!
//! ```text
//!  P/journal/…                        the journal
//!  P/checkpoint                       directory checkpoint: logs, their stable ends, epochs and damage
//!  P/clean                            clean-stop marker (E6)
//!  P/<topic>-<partition>/             a log
//!      partition.metadata             whose it is
//!      <base>.log .index .timeindex   a segment and its indexes
//!      <offset>.snapshot              producers as of that offset
//!  P/<topic>-<partition>.<log id>-delete   a deleted log, to be removed
//! ```
//!
//! A small file is `magic (4) version (2) zero (2) length (4) crc32c (4) payload`, all big-endian; the checksum covers
//! the payload. A newer version is refused by name; anything else that does not fit is [`Unsealed::Damaged`], for the
//! caller to decide: derived files are rebuilt (E3, E4), the others are errors.

use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use crc_fast::CrcAlgorithm;
use types::{LogId, Offset, TopicPartition};

pub(crate) const BALLAST_FILE: &str = "ballast";
pub(crate) const CHECKPOINT_FILE: &str = "checkpoint";
pub(crate) const CLEAN_FILE: &str = "clean";
pub(crate) const JOURNAL_DIR: &str = "journal";
pub(crate) const SCRUB_FILE: &str = "scrub";
pub(crate) const METADATA_FILE: &str = "partition.metadata";

pub(crate) const MAGIC_INDEX: [u8; 4] = *b"FTLi";
pub(crate) const MAGIC_TIME_INDEX: [u8; 4] = *b"FTLt";
pub(crate) const MAGIC_SNAPSHOT: [u8; 4] = *b"FTLs";
pub(crate) const MAGIC_METADATA: [u8; 4] = *b"FTLm";
pub(crate) const MAGIC_CHECKPOINT: [u8; 4] = *b"FTLc";
pub(crate) const MAGIC_SCRUB: [u8; 4] = *b"FTLq";
pub(crate) const MAGIC_CLEAN: [u8; 4] = *b"FTLx";

/// Version of every small file of this release.
pub(crate) const VERSION: u16 = 1;

/// Bytes in front of the payload of a small file.
pub(crate) const ENVELOPE_BYTES: usize = 16;

/// CRC32C of `bytes`.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// Puts `payload` into the envelope of a small file.
pub(crate) fn seal(magic: [u8; 4], payload: &[u8]) -> Bytes {
    let mut file = BytesMut::with_capacity(ENVELOPE_BYTES + payload.len());
    file.put_slice(&magic);
    file.put_u16(VERSION);
    file.put_u16(0);
    file.put_u32(u32::try_from(payload.len()).expect("small files are small"));
    file.put_u32(crc32c(payload));
    file.put_slice(payload);
    file.freeze()
}

/// What a small file turned out to be.
#[derive(Debug)]
pub(crate) enum Unsealed {
    /// The payload, checked.
    Whole(Bytes),
    /// Written by a newer release.
    Newer(u16),
    /// Not such a file, or torn, or rotten.
    Damaged,
}

/// Takes the payload out of a small file.
pub(crate) fn unseal(magic: [u8; 4], mut file: Bytes) -> Unsealed {
    if file.len() < ENVELOPE_BYTES || file[..4] != magic {
        return Unsealed::Damaged;
    }
    file.advance(4);
    let version = file.get_u16();
    if version > VERSION {
        return Unsealed::Newer(version);
    }
    file.advance(2);
    let length = file.get_u32() as usize;
    let crc = file.get_u32();
    if version == 0 || file.len() < length {
        return Unsealed::Damaged;
    }
    file.truncate(length);
    if crc32c(&file) == crc { Unsealed::Whole(file) } else { Unsealed::Damaged }
}

/// Directory of a partition's log.
pub(crate) fn log_dir(parent: &Path, partition: &TopicPartition) -> PathBuf {
    parent.join(partition.to_string())
}

/// Longest name a file system takes.
const NAME_BYTES_MAX: usize = 255;

/// `path` with a suffix to its last name, of which as much is kept as a file system takes. Legal names are ASCII.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let kept = name.get(..NAME_BYTES_MAX - suffix.len()).unwrap_or(&name);
    path.with_file_name(format!("{kept}{suffix}"))
}

/// Where the deleted log at `path` waits for its removal.
pub(crate) fn deleted_dir(path: &Path, log: LogId) -> PathBuf {
    with_suffix(path, &format!(".{:016x}-delete", log.0))
}

/// Where the directory at `path`, which is in the way of a new log, is put.
pub(crate) fn stray_dir(path: &Path, log: LogId) -> PathBuf {
    with_suffix(path, &format!(".{:016x}-stray", log.0))
}

/// Where a deleted file waits for its removal.
pub(crate) fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ASIDE);
    PathBuf::from(name)
}

/// Suffix of deleted files.
pub(crate) const ASIDE: &str = ".deleted";

/// The partition whose log's directory has that name, if it is one.
pub(crate) fn log_dir_partition(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    if !partition.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let partition = TopicPartition::new(topic, partition.parse().ok()?);
    is_legal(&partition).then_some(partition)
}

/// Whether a directory name is that of a partition's log.
pub(crate) fn is_log_dir(name: &str) -> bool {
    log_dir_partition(name).is_some()
}

/// Whether a directory name is that of a deleted log.
pub(crate) fn is_deleted_dir(name: &str) -> bool {
    let Some(rest) = name.strip_suffix("-delete") else { return false };
    let Some((_, id)) = rest.rsplit_once('.') else { return false };
    id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The files of a segment, and the snapshots.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    Log,
    Index,
    TimeIndex,
    Snapshot,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Log, Kind::Index, Kind::TimeIndex, Kind::Snapshot];

    fn suffix(self) -> &'static str {
        match self {
            Kind::Log => ".log",
            Kind::Index => ".index",
            Kind::TimeIndex => ".timeindex",
            Kind::Snapshot => ".snapshot",
        }
    }

    /// Path of the file of this kind at `base`.
    pub(crate) fn path(self, dir: &Path, base: Offset) -> PathBuf {
        dir.join(format!("{:020}{}", base.0, self.suffix()))
    }

    /// What a file name means; `None` for files that are not a segment's.
    pub(crate) fn parse(name: &str) -> Option<(Kind, Offset)> {
        Kind::ALL.into_iter().find_map(|kind| {
            let digits = name.strip_suffix(kind.suffix())?;
            let valid = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
            let base = digits.parse().ok()?;
            valid.then_some((kind, Offset(base)))
        })
    }
}

/// Whether the partition's name can be a directory's: Kafka's rule for topic names, kept here because a path is made.
pub(crate) fn is_legal(partition: &TopicPartition) -> bool {
    let name = partition.topic.as_str();
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !name.is_empty()
        && name.len() <= 249
        && name != "."
        && name != ".."
        && name.bytes().all(legal)
        && partition.partition.0 >= 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_open_only_whole() {
        let file = seal(MAGIC_CLEAN, b"payload");
        assert!(matches!(unseal(MAGIC_CLEAN, file.clone()), Unsealed::Whole(p) if p == "payload"));
        assert!(matches!(unseal(MAGIC_INDEX, file.clone()), Unsealed::Damaged));
        for len in 0..file.len() {
            assert!(matches!(unseal(MAGIC_CLEAN, file.slice(..len)), Unsealed::Damaged));
        }
        for at in 0..file.len() {
            let mut bad = BytesMut::from(&file[..]);
            bad[at] ^= 0x40;
            let verdict = unseal(MAGIC_CLEAN, bad.freeze());
            // The two zero bytes are not looked at; the version's high byte makes it a newer file.
            match at {
                4 | 5 => assert!(matches!(verdict, Unsealed::Newer(_))),
                6 | 7 => assert!(matches!(verdict, Unsealed::Whole(_))),
                _ => assert!(matches!(verdict, Unsealed::Damaged), "byte {at}"),
            }
        }
    }

    #[test]
    fn names_parse_back() {
        let path = Kind::TimeIndex.path(Path::new("d"), Offset(42));
        assert_eq!(path, Path::new("d/00000000000000000042.timeindex"));
        assert_eq!(
            Kind::parse("00000000000000000042.timeindex"),
            Some((Kind::TimeIndex, Offset(42)))
        );
        for foreign in ["42.log", "0000000000000000004x.log", "00000000000000000042.txnindex", "x"]
        {
            assert_eq!(Kind::parse(foreign), None, "{foreign}");
        }
        let deleted = deleted_dir(Path::new("a.b-3"), LogId(9));
        assert!(is_deleted_dir(deleted.to_str().unwrap()));
        for foreign in ["cluster-metadata", "journal", "lost+found", "x-", "x-99999999999", "-3"] {
            assert!(!is_log_dir(foreign), "{foreign}");
        }
        assert!(is_log_dir("a.b-3") && is_log_dir("my-delete-3"));
        assert!(!is_deleted_dir("my-delete-3"));
        assert!(!is_deleted_dir("x-delete"));
    }

    #[test]
    fn names_that_escape_the_directory_are_refused() {
        for bad in ["", ".", "..", "a/b", "a\\b", "é", "a b"] {
            assert!(!is_legal(&TopicPartition::new(bad, 0)), "{bad}");
        }
        assert!(is_legal(&TopicPartition::new("__consumer_offsets", 49)));
    }
}
