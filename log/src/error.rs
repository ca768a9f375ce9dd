//! What can go wrong in a log directory, one small enum per door.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TopicPartition};

/// Why a log directory went offline. Final for this process: nothing is retried (I10, E10).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The directory.
    pub path: PathBuf,
    /// What was being done.
    pub doing: Arc<str>,
    /// The system's answer.
    pub kind: io::ErrorKind,
    /// The system's answer in words.
    pub message: Arc<str>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "log directory {} is offline: {}: {}",
            self.path.display(),
            self.doing,
            self.message
        )
    }
}

impl std::error::Error for Failure {}

/// An append changed nothing (I13).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AppendError {
    /// The directory is offline.
    Offline,
    /// The log was deleted.
    Deleted,
    /// The file system is nearly full; retry later (E11).
    NoSpace,
    /// Too many bytes wait for the disk; retry later (E12).
    Busy,
    /// A batch alone is larger than a segment may be.
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        bytes_max: u64,
    },
    /// The batch's leader epoch is older than the log's newest (I3).
    LeaderEpochFenced {
        /// The epoch of the append.
        epoch: LeaderEpoch,
        /// The newest of the log.
        newest: LeaderEpoch,
    },
    /// A newer incarnation of the producer has written here (I50).
    ProducerFenced {
        /// The producer.
        id: ProducerId,
        /// The epoch it used.
        epoch: ProducerEpoch,
        /// The newest seen.
        newest: ProducerEpoch,
    },
    /// The batch does not follow the producer's last one (I47), or is an old duplicate.
    OutOfOrderSequence {
        /// The producer.
        id: ProducerId,
        /// The sequence it sent.
        sequence: Sequence,
        /// The sequence that would follow.
        expected: Sequence,
    },
    /// A leader's batch does not begin where the log, or the batch before it, ends (I2).
    OutOfPlace {
        /// Where it would have to begin.
        expected: Offset,
        /// Where it begins.
        found: Offset,
    },
    /// No more offsets: the log has reached the end of the number range.
    OffsetsExhausted,
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppendError::Offline => f.write_str("the log directory is offline"),
            AppendError::Deleted => f.write_str("the log was deleted"),
            AppendError::NoSpace => f.write_str("the disk is nearly full"),
            AppendError::Busy => f.write_str("too many bytes wait for the disk"),
            AppendError::TooLarge { bytes, bytes_max } => {
                write!(f, "a batch of {bytes} bytes does not fit a segment of {bytes_max}")
            }
            AppendError::LeaderEpochFenced { epoch, newest } => {
                write!(f, "leader epoch {epoch} is older than the log's {newest}")
            }
            AppendError::ProducerFenced { id, epoch, newest } => {
                write!(f, "producer {id} epoch {epoch} is fenced by epoch {newest}")
            }
            AppendError::OutOfOrderSequence { id, sequence, expected } => {
                write!(f, "producer {id} sent sequence {sequence}, expected {expected}")
            }
            AppendError::OutOfPlace { expected, found } => {
                write!(f, "a batch begins at offset {found} where the log goes on at {expected}")
            }
            AppendError::OffsetsExhausted => f.write_str("the log has no offsets left"),
        }
    }
}

impl std::error::Error for AppendError {}

/// A read gave nothing.
#[derive(Debug)]
pub enum ReadError {
    /// The offset is below the log start or beyond the end asked for.
    OffsetOutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// First readable offset.
        log_start: Offset,
        /// End of what is written.
        end: Offset,
    },
    /// Bytes that were durable are bad, or the device refuses them: the range is quarantined, the rest of the log is served (I14).
    Quarantined(Quarantined),
    /// The log was deleted.
    Deleted,
    /// The directory is offline.
    Offline,
    /// The system refused the read.
    Io(io::Error),
}

/// A range of a log whose bytes were durable once and are bad now (I14).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quarantined {
    /// The partition.
    pub partition: TopicPartition,
    /// First offset of the range.
    pub start: Offset,
    /// End offset of the range.
    pub end: Offset,
    /// Whether the device refuses to read it: it is read again from time to time, and served if that succeeds.
    pub is_unreadable: bool,
    /// Leader epoch before the range.
    pub epoch: Option<LeaderEpoch>,
}

impl Quarantined {
    /// Whether `offset` is in the range.
    pub fn contains(&self, offset: Offset) -> bool {
        (self.start..self.end).contains(&offset)
    }
}

impl fmt::Display for Quarantined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_unreadable { "cannot be read" } else { "are damaged" };
        write!(
            f,
            "{} offsets {} to {} (exclusive) {what} and are quarantined; leader epoch before them: ",
            self.partition, self.start, self.end
        )?;
        match self.epoch {
            Some(epoch) => write!(f, "{epoch}"),
            None => f.write_str("none"),
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::OffsetOutOfRange { offset, log_start, end } => {
                write!(f, "offset {offset} lies outside {log_start}..{end}")
            }
            ReadError::Quarantined(range) => fmt::Display::fmt(range, f),
            ReadError::Deleted => f.write_str("the log was deleted"),
            ReadError::Offline => f.write_str("the log directory is offline"),
            ReadError::Io(error) => write!(f, "the log cannot be read: {error}"),
        }
    }
}

impl std::error::Error for ReadError {}

/// A change of a log (create, delete, truncate, log start, flush) did not happen or is not durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChangeError {
    /// The directory is offline.
    Offline,
    /// The directory is closing.
    Closed,
    /// The log was deleted.
    Deleted,
    /// The file system is full; the bytes stay queued and are written when there is space (E11).
    NoSpace,
    /// The offset is none of the log, or none that a log may have.
    OffsetOutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// The log's end.
        log_end: Offset,
    },
    /// Another topic id holds the directory of this partition: it must be deleted first (I44).
    Occupied(TopicPartition),
    /// The name cannot be a directory's.
    BadName(TopicPartition),
    /// What belongs in a damaged range cannot be written there: it stays damaged.
    Unwritable {
        /// First offset of the range.
        start: Offset,
        /// Why.
        reason: String,
    },
    /// The batches are not what stood in the damaged range, or there is none.
    Unfit {
        /// First offset of the range.
        start: Offset,
    },
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChangeError::Offline => f.write_str("the log directory is offline"),
            ChangeError::Closed => f.write_str("the log directory is closing"),
            ChangeError::Deleted => f.write_str("the log was deleted"),
            ChangeError::NoSpace => f.write_str("the disk is full"),
            ChangeError::OffsetOutOfRange { offset, log_end } => {
                write!(f, "offset {offset} lies beyond the log's end {log_end}")
            }
            ChangeError::Occupied(partition) => {
                write!(f, "the directory of {partition} belongs to another topic id")
            }
            ChangeError::BadName(partition) => write!(f, "{partition} cannot name a directory"),
            ChangeError::Unwritable { start, reason } => {
                write!(f, "the damaged range at offset {start} cannot be written: {reason}")
            }
            ChangeError::Unfit { start } => {
                write!(f, "no damaged range at offset {start} held these batches")
            }
        }
    }
}

impl std::error::Error for ChangeError {}

/// A log directory cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The system refused.
    Io {
        /// What was being done.
        doing: String,
        /// The system's answer.
        error: io::Error,
    },
    /// A file was written by a newer release.
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u16,
    },
    /// A file that must be there, or be ours, is not (E8).
    Foreign {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Io { doing, error } => write!(f, "{doing}: {error}"),
            OpenError::Newer { path, version } => {
                write!(f, "{} has version {version}: written by a newer release", path.display())
            }
            OpenError::Foreign { path, reason } => write!(f, "{}: {reason}", path.display()),
        }
    }
}

impl std::error::Error for OpenError {}
