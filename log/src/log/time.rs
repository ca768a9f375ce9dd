//! Finding records by timestamp, as Kafka's ListOffsets asks.
//!
//! Time indexes say which segments and which stretch of one cannot hold the answer; from there batches are walked by
//! their headers, and only the batch that holds the answer is opened. Timestamps need not be in order (E38): the answer
//! is the first record in offset order that is late enough.

use std::io;
use std::ops::Range;

use env::{Disk, File, Spawn};
use record::{Batch, BatchHeader, Compression};
use types::{Offset, Timestamp};

use super::read::SCAN_BYTES;
use super::{Found, Log, Point, State};
use crate::ReadError;
use crate::index::Latest;
use crate::walk::{Step, Walk};

/// A batch is expanded to at most this much to look at its records' timestamps.
const EXPANDED_BYTES_MAX: usize = 256 << 20;

/// A stretch of a segment to look through.
struct Stretch {
    segment: Offset,
    position: u64,
    end: u64,
    next: Option<Offset>,
}

impl<D: Disk> Log<D> {
    /// The first record at or above the log start and below `end` whose timestamp is at least `target`. A compressed batch
    /// is expanded where `spawner` computes.
    pub async fn offset_for_timestamp(
        &self,
        target: Timestamp,
        end: Offset,
        spawner: &impl Spawn,
    ) -> Result<Option<Found>, ReadError> {
        let mut base = self.first_readable()?;
        while let Some(segment) = base {
            self.load_index(segment).await?;
            let stretch = self.lock().stretch(segment, Some(target));
            let Some(mut stretch) = stretch else { return Ok(None) };
            let late =
                |header: &BatchHeader| header.max_timestamp().is_some_and(|max| max >= target);
            while let Some((point, header)) = self.find(&stretch, end, late).await? {
                if let Some(found) = self.record_in(point, header, target, end, spawner).await? {
                    return Ok(Some(found));
                }
                // Its header promised more than its records hold, or they lie outside the range.
                stretch.position = point.position + header.bytes_total() as u64;
            }
            base = stretch.next.filter(|next| *next < end);
        }
        Ok(None)
    }

    /// The first record below `end` that bears the largest timestamp. A compressed batch is expanded where `spawner`
    /// computes.
    pub async fn max_timestamp_offset(
        &self,
        end: Offset,
        spawner: &impl Spawn,
    ) -> Result<Option<Found>, ReadError> {
        let mut largest: Option<(Timestamp, Offset)> = None;
        let mut base = self.first_readable()?;
        while let Some(segment) = base {
            self.load_index(segment).await?;
            let (stretch, known) = {
                let mut state = self.lock();
                let Some(stretch) = state.stretch(segment, None) else { break };
                (stretch, state.latest_of(segment, end))
            };
            let own = match known {
                Some(latest) => latest.map(|latest| (latest.timestamp, latest.batch)),
                None => self.latest_in(&stretch, end).await?,
            };
            if let Some((max, _)) = own
                && largest.is_none_or(|(largest, _)| largest < max)
            {
                largest = own;
            }
            base = stretch.next.filter(|next| *next < end);
        }
        let Some((max, batch)) = largest else { return Ok(None) };
        let Some((point, header)) = self.batch_at(batch).await? else { return Ok(None) };
        self.record_in(point, header, max, end, spawner).await
    }

    /// The largest timestamp of batches in the stretch that are readable and below `end`, by their headers.
    async fn latest_in(
        &self,
        stretch: &Stretch,
        end: Offset,
    ) -> Result<Option<(Timestamp, Offset)>, ReadError> {
        let log_start = self.lock().log_start;
        let mut latest: Option<(Timestamp, Offset)> = None;
        let file = self.segment_file(stretch.segment).await.map_err(ReadError::Io)?;
        let mut walk = Walk::new(file, stretch.position, stretch.end, SCAN_BYTES);
        while let Step::Batch(_, header) = walk.next().await.map_err(ReadError::Io)? {
            if header.end_offset() > end {
                break;
            }
            if header.end_offset() > log_start
                && let Some(max) = header.max_timestamp()
                && latest.is_none_or(|(latest, _)| latest < max)
            {
                latest = Some((max, header.base_offset()));
            }
        }
        Ok(latest)
    }

    fn first_readable(&self) -> Result<Option<Offset>, ReadError> {
        if self.inner.door.is_offline() {
            return Err(ReadError::Offline); // I10
        }
        let state = self.lock();
        if state.deleted {
            return Err(ReadError::Deleted);
        }
        let first = state.segment_of(state.log_start).or((!state.segments.is_empty()).then_some(0));
        Ok(first.map(|at| state.segments[at].base))
    }

    /// The first batch of the stretch, below `end` and not below the log start, that `wanted` wants.
    async fn find(
        &self,
        stretch: &Stretch,
        end: Offset,
        wanted: impl Fn(&BatchHeader) -> bool,
    ) -> Result<Option<(Point, BatchHeader)>, ReadError> {
        if stretch.position >= stretch.end {
            return Ok(None);
        }
        let log_start = self.lock().log_start;
        let file = self.segment_file(stretch.segment).await.map_err(ReadError::Io)?;
        let mut walk = Walk::new(file, stretch.position, stretch.end, SCAN_BYTES);
        while let Step::Batch(position, header) = walk.next().await.map_err(ReadError::Io)? {
            if header.base_offset() >= end {
                break;
            }
            if header.end_offset() > log_start && wanted(&header) {
                let offset = header.base_offset();
                return Ok(Some((Point { offset, segment: stretch.segment, position }, header)));
            }
        }
        Ok(None)
    }

    /// The first readable record of a batch, below `end`, whose timestamp is at least `target`.
    async fn record_in(
        &self,
        point: Point,
        header: BatchHeader,
        target: Timestamp,
        end: Offset,
        spawner: &impl Spawn,
    ) -> Result<Option<Found>, ReadError> {
        let readable = self.lock().log_start..end;
        let file = self.segment_file(point.segment).await.map_err(ReadError::Io)?;
        let bytes =
            file.read_at(point.position, header.bytes_total()).await.map_err(ReadError::Io)?;
        let batch = Batch::parse(bytes).map_err(|error| {
            ReadError::Io(io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
        })?;
        let is_plain = batch.compression().is_ok_and(|codec| codec == Compression::None);
        let look = move || first_of(&batch, target, &readable);
        // What a client made small may be large.
        Ok(if is_plain { look() } else { spawner.compute(look).await })
    }
}

/// The first readable record of a batch whose timestamp is at least `target`. A batch whose records cannot be read answers
/// its header's facts: a producer's nonsense must not make the log unsearchable.
fn first_of(batch: &Batch, target: Timestamp, readable: &Range<Offset>) -> Option<Found> {
    let leader_epoch = batch.leader_epoch();
    for record in batch.records(EXPANDED_BYTES_MAX) {
        let Ok(record) = record else {
            let timestamp = batch.max_timestamp().unwrap_or(Timestamp(-1));
            return Some(Found { offset: batch.base_offset(), timestamp, leader_epoch });
        };
        let Some(timestamp) = record.timestamp else { continue };
        if readable.contains(&record.offset) && timestamp >= target {
            return Some(Found { offset: record.offset, timestamp, leader_epoch });
        }
    }
    None
}

impl<F> State<F> {
    /// The largest timestamp of the segment at `base`, if its index tells: all of the segment is readable, and below `end`.
    fn latest_of(&self, base: Offset, end: Offset) -> Option<Option<Latest>> {
        let at = self.segment_of(base)?;
        let (written, position) = self.written_end(at);
        let index = self.segments[at].index.as_ref()?;
        let all = self.log_start <= base && written <= end && index.covered() >= position;
        all.then(|| index.latest())
    }

    /// What of the segment at `base` may hold a timestamp of at least `target`; its index is loaded.
    fn stretch(&mut self, base: Offset, target: Option<Timestamp>) -> Option<Stretch> {
        let at = self.segments.binary_search_by_key(&base, |segment| segment.base).ok()?;
        let next = self.segments.get(at + 1).map(|segment| segment.base);
        let (_, end) = self.written_end(at);
        let index = self.segments[at].index.as_ref()?;
        let position = match target {
            Some(target) => {
                // Beyond what the index covers anything may be.
                let late = index.latest().is_some_and(|latest| latest.timestamp >= target);
                if late { index.before_time(target).position } else { index.covered().min(end) }
            }
            None => 0,
        };
        Some(Stretch { segment: base, position, end, next })
    }
}
