//! The partition room: one partition's log with its high watermark, the acks parked on it and the readers waiting for it.
//!
//! ```text
//!  log_start      last_stable     high_watermark      log_end
//!  ----|---------------|-----------------|---------------|---->
//!      | readable, read-committed        | appended, not yet committed
//! ```
//!
//! The log assigns offsets and checks producers under its own short lock; this room moves the high watermark when the
//! log says that bytes were written or became durable (I22), and wakes who waits for it. One door call per decision: an
//! ack is parked by the very call that finds its offset uncommitted.

use std::sync::Arc;

use crate::pending::{Appended, Batch, Log};
use env::{Disk, Env, Part};
use types::{ErrorCode, LeaderEpoch, Offset, PartitionIndex, TopicId, TopicName};

/// The file type of the world `E`.
pub type FileOf<E> = <<E as Env>::Disk as Disk>::File;

/// Door of one partition; cheap to clone.
pub struct Partition<E: Env>(pub(crate) Arc<Room<E>>);

pub(crate) struct Room<E: Env> {
    pub(crate) topic: TopicName,
    pub(crate) topic_id: TopicId,
    pub(crate) index: PartitionIndex,
    pub(crate) log: Log<E::Disk>,
}

impl<E: Env> Clone for Partition<E> {
    fn clone(&self) -> Partition<E> {
        Partition(self.0.clone())
    }
}

/// The picture's four offsets at one moment, and the leader's term.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ends {
    /// First offset readable.
    pub log_start: Offset,
    /// End of what read-committed consumers may see.
    pub last_stable: Offset,
    /// End of what is committed.
    pub high_watermark: Offset,
    /// Next offset to be assigned.
    pub log_end: Offset,
    /// Term of this leader.
    pub leader_epoch: LeaderEpoch,
}

/// The partition stopped serving (deleted, directory offline, broker stopping) before the offset was committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gone {
    /// What to tell the client.
    pub code: ErrorCode,
}

/// How long an answer to an append waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acks {
    /// 0: there is no answer.
    None,
    /// 1: after the leader's own append (and its sync, in a log that syncs).
    Leader,
    /// -1: after the records are committed.
    All,
}

/// One append to a partition.
#[derive(Clone, Debug)]
pub struct Append {
    /// The batches, checked; offsets and leader epoch are assigned here.
    pub batches: Vec<Batch>,
    /// Who appends.
    pub origin: Origin,
    /// What must hold before it is answered.
    pub acks: Acks,
}

/// Who appends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A producer.
    Client,
    /// A coordinator of this broker.
    Coordinator,
}

/// Why an append was refused; nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppendRefused {
    /// Kafka's code.
    pub code: ErrorCode,
    /// What the client should read, where the code does not say it all.
    pub message: Option<String>,
}

/// What was read.
#[derive(Debug)]
pub struct Slice<F> {
    /// Whole batches, as bytes or file ranges.
    pub parts: Vec<Part<F>>,
    /// Their length.
    pub bytes: usize,
    /// Where the next read goes on.
    pub next_offset: Offset,
}

impl<E: Env> Partition<E> {
    /// Name of its topic.
    pub fn topic(&self) -> &TopicName {
        &self.0.topic
    }

    /// Identity of its topic.
    pub fn topic_id(&self) -> TopicId {
        self.0.topic_id
    }

    /// Its index.
    pub fn index(&self) -> PartitionIndex {
        self.0.index
    }

    /// Appends; returns when the bytes are queued (sync) or written (page cache). The answer to the client may leave
    /// once [`Partition::committed`] of the returned last offset's successor completes.
    pub async fn append(&self, append: Append) -> Result<Appended, AppendRefused> {
        let _ = append;
        Err(AppendRefused { code: ErrorCode::KafkaStorageError, message: None })
    }

    /// Completes once everything below `end` is committed. Dropping it is harmless.
    pub async fn committed(&self, end: Offset) -> Result<(), Gone> {
        let _ = end;
        Err(Gone { code: ErrorCode::KafkaStorageError })
    }

    /// The offsets now.
    pub fn ends(&self) -> Ends {
        Ends {
            log_start: Offset::ZERO,
            last_stable: Offset::ZERO,
            high_watermark: Offset::ZERO,
            log_end: Offset::ZERO,
            leader_epoch: LeaderEpoch(0),
        }
    }

    /// Whole committed batches from the one that holds `from` on, at least one if there is any, then up to `bytes_max`:
    /// for coordinators. Empty at the high watermark.
    pub async fn batches(&self, from: Offset, bytes_max: usize) -> Result<Vec<Batch>, ErrorCode> {
        let _ = (from, bytes_max);
        Err(ErrorCode::KafkaStorageError)
    }
}
