//! The scrubber: reads what nobody has read for long, slowly, so that rot is found while there is still somebody to ask
//! for another copy, and not by the one consumer that needs it.
//!
//! One per directory. A round goes through the cold segments of all logs, by name; the next one begins an interval after
//! the last one began. Where it is stands in a small file, so that a restart goes on instead of beginning anew; the file
//! is neither synced nor missed. Beside the rounds it asks again for what the device refused to read, whoever met it.

use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use env::{Clock, Disk, File, OpenMode};
use types::mutant::{Mutant, planted};
use types::{DirectoryId, Offset, PartitionIndex, Timestamp, TopicName, TopicPartition};

use super::Inner;
use crate::ReadError;
use crate::index::Mark;
use crate::layout::{self, MAGIC_SCRUB, SCRUB_FILE, Unsealed};
use crate::log::{Finding, Log, TURN};

/// How much is looked at at once.
const STEP_BYTES: u64 = 256 << 10;
/// What a refusal counts for at least: a device that has one may have many.
const REFUSED_BYTES: u64 = 4 << 10;
/// How often the place is written down.
const NOTE_PAUSE: Duration = Duration::from_secs(60);
/// How often what the device refused to read is asked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// How far the scrubber has come.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Cursor {
    /// When the round began, by the wall clock.
    began: Timestamp,
    /// The log, and its first segment that was not looked at; `None` after the last.
    at: Option<(TopicPartition, Offset)>,
}

/// Runs until the directory has failed or closed; drop it to end it earlier.
pub(super) async fn run<D: Disk, C: Clock>(dir: &Arc<Inner<D>>, clock: &C) {
    tokio::join!(biased; rounds(dir, clock), look_again(dir, clock), turns(dir, clock));
}

/// What readers believe grows old.
async fn turns<D: Disk, C: Clock>(dir: &Arc<Inner<D>>, clock: &C) {
    while !dir.door.is_offline() && !dir.door.is_shut() {
        clock.sleep(TURN).await;
        dir.door.turn.fetch_add(1, Ordering::Relaxed);
    }
}

/// Looks again at what the device refused to read: it may have been a cable, or a path to another machine's disk.
async fn look_again<D: Disk, C: Clock>(dir: &Arc<Inner<D>>, clock: &C) {
    while !dir.door.is_offline() && !dir.door.is_shut() {
        dir.door.unreadable.notified().await;
        let mut refused = 1;
        while refused > 0 && !dir.door.is_offline() && !dir.door.is_shut() {
            clock.sleep(LOOK_AGAIN).await;
            refused = 0;
            let logs: Vec<Log<D>> = dir.registry().logs.values().cloned().collect();
            for log in logs {
                refused += log.look_again().await;
            }
        }
    }
}

/// Round after round, if there is to be any.
async fn rounds<D: Disk, C: Clock>(dir: &Arc<Inner<D>>, clock: &C) {
    let options = &dir.door.options;
    let (Some(rate), interval) = (options.scrub_rate, options.scrub_interval) else { return };
    let mut cursor = dir.find_cursor().await.unwrap_or(Cursor {
        began: clock.timestamp(),
        at: dir.first_log(None).map(|log| (log.inner.partition.clone(), Offset::ZERO)),
    });
    let mut noted = clock.now();
    while !dir.door.is_offline() && !dir.door.is_shut() {
        let Some((partition, from)) = cursor.at.clone() else {
            dir.note_cursor(&cursor).await;
            // The wall clock says when across restarts; it may jump, so that its word is not taken for longer.
            let since = clock.timestamp().0.saturating_sub(cursor.began.0).max(0) as u64;
            clock.sleep(interval.saturating_sub(Duration::from_millis(since))).await;
            cursor.began = clock.timestamp();
            cursor.at = dir.first_log(None).map(|log| (log.inner.partition.clone(), Offset::ZERO));
            if cursor.at.is_none() {
                clock.sleep(interval).await;
            }
            continue;
        };
        // The log may be gone: then it is the one after it.
        let Some(log) = dir.first_log(Some(&partition)) else {
            cursor.at = None;
            dir.door.tally.scrub_rounds.add(1);
            continue;
        };
        let from = if log.inner.partition == partition { from } else { Offset::ZERO };
        match log.cold_segment(from) {
            Some(base) => {
                dir.scrub_segment(clock, rate, &log, base).await;
                cursor.at = Some((log.inner.partition.clone(), Offset(base.0 + 1)));
            }
            None => {
                let next = dir.log_after(&log.inner.partition);
                cursor.at = next.map(|log| (log.inner.partition.clone(), Offset::ZERO));
                dir.door.tally.scrub_rounds.add(u64::from(cursor.at.is_none()));
            }
        }
        if clock.now().saturating_since(noted) >= NOTE_PAUSE {
            noted = clock.now();
            dir.note_cursor(&cursor).await;
        }
    }
}

impl<D: Disk> Inner<D> {
    /// Looks at a segment at the given rate, in bytes per second.
    async fn scrub_segment<C: Clock>(&self, clock: &C, rate: u64, log: &Log<D>, base: Offset) {
        let tally = &self.door.tally;
        let mut next = Some(Mark { offset: base, position: 0 });
        while let Some(mark) = next.take() {
            if self.door.is_offline() || self.door.is_shut() {
                return;
            }
            match log.scrub(base, mark, STEP_BYTES).await {
                Ok(scrubbed) => {
                    tally.scrubbed_bytes.add(scrubbed.bytes);
                    let mut least = 1;
                    match scrubbed.found {
                        Some(Finding::Damaged) => tally.scrub_damaged.add(1),
                        Some(Finding::Refused) => {
                            tally.scrub_unreadable.add(1);
                            least = REFUSED_BYTES;
                        }
                        None => {}
                    }
                    next = scrubbed.next;
                    let mut nanos =
                        scrubbed.bytes.max(least).saturating_mul(1_000_000_000) / rate.max(1);
                    if planted(Mutant::ScrubberUnpaced) {
                        nanos = 1;
                    }
                    clock.sleep(Duration::from_nanos(nanos)).await;
                }
                // Deleted or cut meanwhile.
                Err(ReadError::Io(error)) if error.kind() != io::ErrorKind::NotFound => {
                    tally.scrub_unreadable.add(1);
                    tracing::error!(
                        partition = %log.inner.partition, segment = %base, near = %mark.offset, %error,
                        "a segment cannot be read"
                    );
                }
                Err(_) => {}
            }
        }
    }

    /// The log of that name, or the first after it; the first of all for `None`.
    fn first_log(&self, from: Option<&TopicPartition>) -> Option<Log<D>> {
        let from = from.map_or(Bound::Unbounded, Bound::Included);
        let registry = self.registry();
        registry.logs.range((from, Bound::Unbounded)).next().map(|(_, log)| log.clone())
    }

    fn log_after(&self, partition: &TopicPartition) -> Option<Log<D>> {
        let registry = self.registry();
        let mut later = registry.logs.range((Bound::Excluded(partition), Bound::Unbounded));
        later.next().map(|(_, log)| log.clone())
    }

    /// Where an earlier process was, if it said so.
    async fn find_cursor(&self) -> Option<Cursor> {
        let file = self.door.disk.read_all(&self.door.path.join(SCRUB_FILE)).await.ok()?;
        Cursor::decode(file, self.id)
    }

    /// Writes down where it is. Without that a restart begins anew.
    async fn note_cursor(&self, cursor: &Cursor) {
        let path = self.door.path.join(SCRUB_FILE);
        let noted = async {
            let file = self.door.disk.open(&path, OpenMode::Create).await?;
            file.write_at(0, vec![cursor.encode(self.id)]).await
        };
        if let Err(error) = noted.await {
            tracing::debug!(path = %path.display(), %error, "the scrubber's place is not written down");
        }
    }
}

impl Cursor {
    fn encode(&self, directory: DirectoryId) -> Bytes {
        let mut payload = BytesMut::new();
        payload.put_slice(&directory.0.0);
        payload.put_i64(self.began.0);
        if let Some((partition, base)) = &self.at {
            payload.put_i32(partition.partition.0);
            payload.put_i64(base.0);
            payload.put_slice(partition.topic.as_str().as_bytes());
        }
        layout::seal(MAGIC_SCRUB, &payload)
    }

    fn decode(file: Bytes, directory: DirectoryId) -> Option<Cursor> {
        let Unsealed::Whole(mut payload) = layout::unseal(MAGIC_SCRUB, file) else { return None };
        if payload.len() < 24 || payload.split_to(16)[..] != directory.0.0 {
            return None;
        }
        let began = Timestamp(payload.get_i64());
        if payload.len() < 12 {
            return Some(Cursor { began, at: None });
        }
        let (partition, base) = (PartitionIndex(payload.get_i32()), Offset(payload.get_i64()));
        let topic = TopicName::from(std::str::from_utf8(&payload).ok()?);
        Some(Cursor { began, at: Some((TopicPartition { topic, partition }, base)) })
    }
}
