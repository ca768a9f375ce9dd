//! The journal of one log directory: what makes an append durable with one sync, whatever number of logs it touches.
//!
//! It is a room of its own because its bytes decide what survives a power cut; it knows frames, groups and files, and
//! nothing of segments, indexes or producers. Written byte by byte in SPEC.md, section "Journal".
//!
//! ```text
//!  file (one lap):  | header | header copy | group | group | group ........ | zeros or an older lap |
//!  group:           | head: number, durable, oldest, previous | frame table | batches as they are | padding |
//!                   ^ fresh 4 KiB block
//! ```
//!
//! - A group is written and synced in one hop. Its head names the last group known durable before it (E2): a hole below
//!   that point is corruption and is reported, a hole above it is a torn tail (E1, I14).
//! - Heads are checksummed with a secret of the directory and name their lap and place, so that neither the older content
//!   of a recycled file nor a payload that looks like a group is believed. Payload is covered by the batches' own CRCs.
//! - A failed or dropped write or sync fails the journal for good (I10, E10).
//! - Group numbers are never reused. Recovery ends by repeating the last group, whose durability nothing proves yet, in
//!   a fresh file: what the page cache shows after a failed sync may not be on the medium.

mod format;
mod recovery;
mod writer;

use std::fmt;
use std::io;

use bytes::Bytes;
use types::{DirectoryId, LeaderEpoch, LogId, Offset, PartitionIndex, TopicId, TopicName};

pub use format::{BatchChain, DATA_FRAME_BYTES, extent_check};
pub use recovery::Recovery;
pub use writer::Journal;

/// The number of a group. Positions grow along the journal and are never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group {}", self.0)
    }
}

/// How a journal lays out its files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JournalOptions {
    /// Size of one file; rounded to blocks, at least [`JournalOptions::FILE_BYTES_MIN`].
    pub file_bytes: u64,
    /// Bound of the bytes that recovery has to replay. The journal asks for checkpoints to keep it.
    pub total_bytes: u64,
    /// Random bits that salt the checksums; drawn once, when the journal is created, and kept in its files.
    pub secret: u64,
}

impl JournalOptions {
    /// The smallest file: two headers and some groups.
    pub const FILE_BYTES_MIN: u64 = 64 * 1024;
}

impl Default for JournalOptions {
    fn default() -> JournalOptions {
        JournalOptions { file_bytes: 16 << 20, total_bytes: 256 << 20, secret: 0 }
    }
}

/// One change of one log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// The log it belongs to.
    pub log: LogId,
    /// Base offset of the segment it concerns.
    pub segment_base: Offset,
    /// Byte position in that segment.
    pub position: u64,
    /// What changes.
    pub kind: FrameKind,
}

/// What a frame changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FrameKind {
    /// Batches that stand at the frame's position. The pieces put together are one or more whole batches. A frame larger
    /// than [`DATA_FRAME_BYTES`] comes back as several, split between batches.
    Data(Vec<Bytes>),
    /// A run of batches that went straight to the segment and was synced there before this frame was written.
    Extent {
        /// Bytes from the frame's position.
        len: u64,
        /// [`extent_check`] of the run.
        check: u64,
    },
    /// The log ends at `end`: bytes from the frame's position on, and all later segments, are no more (I8).
    Truncate {
        /// The new end of the log.
        end: Offset,
    },
    /// The log starts at `offset`: older segments may be unlinked.
    LogStart {
        /// The new start of the log.
        offset: Offset,
    },
    /// The log is empty and begins at `offset`: all its segments are no more.
    Reset {
        /// Start and end of the log.
        offset: Offset,
    },
    /// The log exists from here on.
    Create {
        /// The topic's name.
        topic: TopicName,
        /// The topic's identity.
        topic_id: TopicId,
        /// Which partition.
        partition: PartitionIndex,
        /// Leader epoch at creation.
        epoch: LeaderEpoch,
        /// The log's own bits; the journal only keeps them.
        flags: u16,
    },
    /// The log is no more; its directory may be unlinked.
    Delete,
}

impl FrameKind {
    /// Whether to do it again removes what was there.
    pub(crate) fn removes(&self) -> bool {
        matches!(self, FrameKind::Truncate { .. } | FrameKind::Reset { .. } | FrameKind::Delete)
    }

    /// The kind's name in logs and reports.
    pub fn name(&self) -> &'static str {
        match self {
            FrameKind::Data(_) => "DATA",
            FrameKind::Extent { .. } => "EXTENT",
            FrameKind::Truncate { .. } => "TRUNCATE",
            FrameKind::LogStart { .. } => "LOG_START",
            FrameKind::Reset { .. } => "RESET",
            FrameKind::Create { .. } => "CREATE",
            FrameKind::Delete => "DELETE",
        }
    }
}

/// What recovery found next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// An intact frame, to be redone.
    Frame {
        /// The group that holds it.
        position: Position,
        /// The frame.
        frame: Frame,
    },
    /// Frames that were durable and cannot be read any more (I14). What follows is intact and still delivered.
    Damaged(Damage),
}

/// A part of the journal that was proven durable and is unreadable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// First group concerned.
    pub first: Position,
    /// Last group concerned.
    pub last: Position,
    /// The one frame that is unreadable; `None` when the groups' frame tables are lost, so that any log of the directory
    /// may be concerned.
    pub frame: Option<FrameKey>,
    /// Name of the file in which it begins.
    pub file: String,
    /// Where in that file it begins.
    pub offset: u64,
}

/// Which frame it is, without its content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrameKey {
    /// The log it belongs to.
    pub log: LogId,
    /// Base offset of its segment.
    pub segment_base: Offset,
    /// Byte position in that segment.
    pub position: u64,
    /// Bytes of payload.
    pub bytes: u64,
    /// The kind's name.
    pub kind: &'static str,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "journal file {} at byte {}: ", self.file, self.offset)?;
        match &self.frame {
            Some(key) => write!(
                f,
                "{} frame of log {}, segment {}, bytes {}+{} in {} is unreadable",
                key.kind, key.log, key.segment_base, key.position, key.bytes, self.first
            ),
            None => write!(f, "{} to {} are unreadable", self.first, self.last),
        }
    }
}

/// How the journal ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tail {
    /// After a whole group.
    Clean,
    /// In a group that was never acknowledged (E1).
    Torn {
        /// The group.
        position: Position,
        /// How many of its frames were whole and delivered.
        frames: u64,
    },
}

/// What recovery read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Groups delivered, whole or in part.
    pub groups: u64,
    /// Frames delivered.
    pub frames: u64,
    /// Payload bytes delivered.
    pub bytes: u64,
    /// Damaged items delivered.
    pub damaged: u64,
    /// How the journal ended.
    pub tail: Tail,
}

/// Why the journal cannot go on.
#[derive(Debug)]
pub enum JournalError {
    /// No space for another file. Nothing was written; the journal is as it was (E11, I13).
    NoSpace,
    /// A frame breaks the rules; nothing was written.
    InvalidFrame(&'static str),
    /// The journal failed before, or an operation on it was abandoned halfway (I10).
    Failed,
    /// The files belong to another log directory (E8).
    Foreign {
        /// The directory they name.
        found: DirectoryId,
    },
    /// A file was written by a newer release.
    Newer {
        /// The file.
        file: String,
        /// Its version.
        version: u32,
    },
    /// There are groups, but no file header is readable: nothing can be verified.
    HeadersLost,
    /// Reading, writing or syncing failed.
    Io {
        /// What was being done.
        doing: &'static str,
        /// The cause.
        error: io::Error,
    },
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JournalError::NoSpace => f.write_str("no space for another journal file"),
            JournalError::InvalidFrame(why) => write!(f, "a frame cannot be journaled: {why}"),
            JournalError::Failed => {
                f.write_str("the journal has failed and stays failed until a restart")
            }
            JournalError::Foreign { found } => {
                write!(f, "the journal belongs to another log directory, {found}")
            }
            JournalError::Newer { file, version } => {
                write!(f, "journal file {file} has version {version}, written by a newer release")
            }
            JournalError::HeadersLost => {
                f.write_str("the journal holds data but none of its file headers is readable")
            }
            JournalError::Io { doing, error } => write!(f, "{doing} the journal failed: {error}"),
        }
    }
}

impl std::error::Error for JournalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            JournalError::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}
