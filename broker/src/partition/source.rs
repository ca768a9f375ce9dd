//! Where consumers read a partition from: its leader, or a replica that follows (KIP-392).
//!
//! Both give what is committed as far as they know, by the same door of the log, which looks at what lay at rest before it is
//! served.

use std::time::Duration;

use env::Env;
use log::{Log, ReadError, Slice};
use types::mutant::{Mutant, planted};
use types::{ErrorCode, LeaderEpoch, TopicPartition};

use super::{Ends, FileOf, Line, Partition, Read, ReadFailed, Wait, Waiting};
use crate::error_map::error_code;
use crate::metrics::Traffic;
use crate::replication::{Awaited, Following, WaitingReader};
use crate::waiters::Signal;

/// A replica that consumers read from.
pub(crate) enum Source<E: Env> {
    /// It leads.
    Leader(Partition<E>),
    /// It follows.
    Follower(Following<E>),
}

impl<E: Env> Clone for Source<E> {
    fn clone(&self) -> Source<E> {
        match self {
            Source::Leader(leader) => Source::Leader(leader.clone()),
            Source::Follower(follower) => Source::Follower(follower.clone()),
        }
    }
}

/// A place among those who wait for records; dropping it gives it up.
pub(crate) enum Place<E: Env> {
    Leader { _waiting: Waiting<E> },
    Follower { _waiting: WaitingReader<E> },
}

impl<E: Env> Source<E> {
    /// Its log.
    pub(crate) fn log(&self) -> &Log<E::Disk> {
        match self {
            Source::Leader(leader) => leader.log(),
            Source::Follower(follower) => follower.log(),
        }
    }

    /// What clients do to its topic, counted.
    pub(crate) fn traffic(&self) -> &Traffic {
        match self {
            Source::Leader(leader) => leader.traffic(),
            Source::Follower(follower) => follower.traffic(),
        }
    }

    /// The term in which it leads or follows.
    pub(crate) fn term(&self) -> LeaderEpoch {
        match self {
            Source::Leader(leader) => leader.ends().leader_epoch,
            Source::Follower(follower) => follower.term(),
        }
    }

    /// The offsets now.
    pub(crate) fn ends(&self) -> Ends {
        match self {
            Source::Leader(leader) => leader.ends(),
            Source::Follower(follower) => ends_of(follower),
        }
    }

    /// Whether clients may be told how far it is; see [`Partition::check_telling`] and [`Following::check_telling`].
    pub(crate) fn check_telling(&self, session: Duration) -> Result<(), ErrorCode> {
        match self {
            Source::Leader(leader) => leader.check_telling(),
            Source::Follower(follower) => follower.check_telling(session),
        }
    }

    /// Waits until there is something else to say. `None`: there is already.
    pub(crate) fn wait(&self, awaited: Awaited, signal: &Signal) -> Option<Place<E>> {
        match self {
            Source::Leader(leader) => match leader.wait(Line::Committed, awaited.end, signal) {
                Ok(Wait::On(waiting)) => Some(Place::Leader { _waiting: waiting }),
                Ok(Wait::Over) | Err(_) => None,
            },
            Source::Follower(follower) => {
                let waiting = follower.wait(awaited, signal)?;
                Some(Place::Follower { _waiting: waiting })
            }
        }
    }

    /// Reads whole batches below the line of `read.isolation`, with the offsets at that moment.
    pub(crate) async fn read(&self, read: Read) -> Result<(Slice<FileOf<E>>, Ends), ReadFailed> {
        match self {
            Source::Leader(leader) => leader.read(read).await,
            Source::Follower(follower) => {
                let mut ends = ends_of(follower);
                if planted(Mutant::FollowerShowsAll) {
                    (ends.high_watermark, ends.last_stable) = (ends.log_end, ends.log_end);
                }
                read_below(follower.log(), ends, read).await
            }
        }
    }
}

/// The offsets of a replica that follows.
fn ends_of<E: Env>(follower: &Following<E>) -> Ends {
    let log = follower.log().ends();
    // What it knows of may be synced and not yet readable.
    let high_watermark = follower.high_watermark().min(log.written).max(log.log_start);
    Ends {
        log_start: log.log_start,
        // Without transactions everything committed is stable.
        last_stable: high_watermark,
        high_watermark,
        log_end: log.log_end.max(high_watermark),
        leader_epoch: follower.term(),
    }
}

/// Reads whole batches of `log` below the line of `read.isolation` in `ends`.
pub(super) async fn read_below<D: env::Disk>(
    log: &Log<D>,
    ends: Ends,
    read: Read,
) -> Result<(Slice<D::File>, Ends), ReadFailed> {
    let Read { from, bytes_max, at_least_one, isolation } = read;
    if from < ends.log_start || from > ends.log_end {
        return Err(ReadFailed { code: ErrorCode::OffsetOutOfRange, ends });
    }
    let end = ends.visible(isolation);
    if from >= end {
        return Ok((Slice { parts: Vec::new(), bytes: 0, next_offset: from }, ends));
    }
    match log.read(log::Read { from, end, bytes_max, at_least_one }).await {
        Ok(slice) => Ok((slice, ends)),
        Err(error) => {
            report(log.topic_partition(), &error);
            Err(ReadFailed { code: error_code(&error), ends })
        }
    }
}

/// Says once what the log was not the first to say.
pub(super) fn report(partition: &TopicPartition, error: &ReadError) {
    match error {
        ReadError::Io(_) => tracing::error!(%partition, %error, "a read failed"),
        // Whoever found the damage said so once; readers come back for ever.
        ReadError::Quarantined(_) => tracing::debug!(%partition, %error, "a read failed"),
        _ => {}
    }
}
