//! Finding records by timestamp, as Kafka's ListOffsets asks.
//!
//! Time indexes say which segments and which stretch of one cannot hold the answer; what is left is short as a rule, and is
//! walked with its checksums: a rotten header tells a wrong time, or hides what lies behind it (I14). Timestamps need not
//! be in order (E38): the answer is the first readable record in offset order that is late enough.

use std::io;
use std::ops::{ControlFlow, Range};

use env::{Disk, File, Spawn};
use record::{Batch, BatchHeader, Compression};
use types::mutant::{Mutant, planted};
use types::{Offset, Timestamp};

use super::read::SCAN_BYTES;
use super::{Damage, Found, Log, Point, State};
use crate::ReadError;
use crate::index::{Latest, Mark};
use crate::walk::{Step, Walk};

/// A batch is expanded to at most this much to look at its records' timestamps.
const EXPANDED_BYTES_MAX: usize = 256 << 20;

/// A stretch of a segment to look through.
struct Stretch {
    segment: Offset,
    from: Mark,
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
                stretch.from = behind(point.position, &header);
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
        loop {
            let damages = self.lock().damages.len();
            let Some((max, batch)) = self.largest(end).await? else { return Ok(None) };
            if let Some((point, header)) = self.sound_at(batch).await? {
                return self.record_in(point, header, max, end, spawner).await;
            }
            // An index knew what has rotted since; its segment is walked now.
            if self.lock().damages.len() == damages {
                return Ok(None);
            }
        }
    }

    /// The largest timestamp below `end`, and the base offset of the first batch that bears it.
    async fn largest(&self, end: Offset) -> Result<Option<(Timestamp, Offset)>, ReadError> {
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
        Ok(largest)
    }

    /// The largest timestamp of batches in the stretch that are readable and below `end`.
    async fn latest_in(
        &self,
        stretch: &Stretch,
        end: Offset,
    ) -> Result<Option<(Timestamp, Offset)>, ReadError> {
        let mut latest: Option<(Timestamp, Offset)> = None;
        self.search(stretch, |_, header| {
            if header.end_offset() > end {
                return ControlFlow::Break(());
            }
            if let Some(max) = header.max_timestamp()
                && latest.is_none_or(|(latest, _)| latest < max)
            {
                latest = Some((max, header.base_offset()));
            }
            ControlFlow::Continue(())
        })
        .await?;
        Ok(latest)
    }

    /// The batch that begins at `offset`, if it is sound.
    async fn sound_at(&self, offset: Offset) -> Result<Option<(Point, BatchHeader)>, ReadError> {
        let segment = {
            let state = self.lock();
            let Some(at) = state.segment_of(offset) else { return Ok(None) };
            state.segments[at].base
        };
        self.load_index(segment).await?;
        let stretch = {
            let mut state = self.lock();
            let Some(stretch) = state.stretch(segment, None) else { return Ok(None) };
            let index = state.segment(segment).and_then(|segment| segment.index.as_ref());
            let from = index.map_or(stretch.from, |index| index.floor(offset));
            Stretch { from, ..stretch }
        };
        self.find(&stretch, offset.next(), |header| header.base_offset() == offset).await
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
        let found = self.search(stretch, |position, header| {
            if header.base_offset() >= end {
                return ControlFlow::Break(None);
            }
            if !wanted(header) {
                return ControlFlow::Continue(());
            }
            let offset = header.base_offset();
            let point = Point { offset, segment: stretch.segment, position };
            ControlFlow::Break(Some((point, *header)))
        });
        Ok(found.await?.flatten())
    }

    /// Shows `visit` the sound batches of the stretch that end above the log start, with their positions and in order, until
    /// it breaks. Damage, and what the device refuses, is passed over, and told of if it was not known.
    async fn search<T>(
        &self,
        stretch: &Stretch,
        mut visit: impl FnMut(u64, &BatchHeader) -> ControlFlow<T>,
    ) -> Result<Option<T>, ReadError> {
        let segment = stretch.segment;
        let mut from = stretch.from;
        while from.position < stretch.end {
            let (generation, log_start, damage) = {
                let state = self.lock();
                (state.generation, state.log_start, state.damage_beyond(segment, from.position))
            };
            if let Some(damage) = damage.filter(|damage| damage.start.position <= from.position) {
                from = Mark { offset: damage.end, position: damage.end_position };
                continue;
            }
            let end = damage.map_or(stretch.end, |damage| damage.start.position.min(stretch.end));
            let file = self.segment_file(segment).await.map_err(ReadError::Io)?;
            let mut walk = Walk::new(file, from.position, end, SCAN_BYTES).from(from.offset);
            if !planted(Mutant::TimesByHeaders) {
                walk = walk.verified();
            }
            let bad = loop {
                match walk.next().await {
                    Ok(Step::Batch(position, header)) if self.lock().epochs.vouch_for(&header) => {
                        if header.end_offset() > log_start
                            && let ControlFlow::Break(found) = visit(position, &header)
                        {
                            return Ok(Some(found));
                        }
                        from = behind(position, &header);
                    }
                    Ok(Step::End) => break None,
                    bad => break Some(bad.err()),
                }
            };
            if let Some(refused) = bad {
                let error = match refused {
                    None => self.report_damage(generation, segment, from).await,
                    Some(error) => self.report_unreadable(generation, segment, from, error).await,
                };
                let damage = self.lock().damage_beyond(segment, from.position);
                if damage.is_none_or(|damage| damage.start.position > from.position) {
                    return Err(error);
                }
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
        let sound = Batch::parse(bytes).and_then(|batch| batch.check_crc().map(|()| batch));
        let batch = sound.map_err(|error| {
            ReadError::Io(io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
        })?;
        let is_plain = batch.compression().is_ok_and(|codec| codec == Compression::None);
        let look = move || first_of(&batch, target, &readable);
        // What a client made small may be large.
        Ok(if is_plain { look() } else { spawner.compute(look).await })
    }
}

/// The boundary behind a batch.
fn behind(position: u64, header: &BatchHeader) -> Mark {
    Mark { offset: header.end_offset(), position: position + header.bytes_total() as u64 }
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
        let is_sound = self.damages.iter().all(|damage| damage.start.segment != base);
        (all && is_sound).then(|| index.latest())
    }

    /// What of the segment at `base` may hold a timestamp of at least `target`; its index is loaded.
    fn stretch(&mut self, base: Offset, target: Option<Timestamp>) -> Option<Stretch> {
        let at = self.segments.binary_search_by_key(&base, |segment| segment.base).ok()?;
        let next = self.segments.get(at + 1).map(|segment| segment.base);
        let (_, end) = self.written_end(at);
        let index = self.segments[at].index.as_ref()?;
        let is_late = |target| index.latest().is_some_and(|latest| latest.timestamp >= target);
        let from = match target {
            None => Mark { offset: base, position: 0 },
            Some(target) if is_late(target) => index.before_time(target),
            // Beyond what the index covers anything may be.
            Some(_) if index.covered() < end => index.floor_position(index.covered()),
            Some(_) => Mark { offset: base, position: end },
        };
        Some(Stretch { segment: base, from, end, next })
    }

    /// The first damage of the segment at `base` that ends beyond byte `position`.
    fn damage_beyond(&self, base: Offset, position: u64) -> Option<Damage> {
        let damages = self.damages.iter().filter(|damage| damage.start.segment == base);
        let beyond = damages.filter(|damage| damage.end_position > position);
        beyond.min_by_key(|damage| damage.start.position).copied()
    }
}
