//! Reading: a contiguous walk over whole batches, by file ranges wherever the index names a boundary.
//!
//! A range begins at the batch that holds the offset and ends at a batch boundary within the budget. The index gives
//! boundaries for nothing; headers are walked only between two of its marks. A batch that does not fit ends the read: it
//! is never skipped (the next segment is read only after the last batch of this one). A damaged range is never read past
//! nor served: the read ends before it, or answers [`ReadError::Quarantined`] (I14).

use std::io;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use env::{Disk, File, OpenMode, Part};
use record::{Batch, BatchHeader, Batches, TimestampType};
use types::mutant::{Mutant, planted};
use types::{Offset, Timestamp};

use super::damage::is_refusal;
use super::{Damage, Log, Point, Read, Slice, Sound, State};
use crate::index::{Index, Mark};
use crate::layout::Kind;
use crate::walk::{Step, Walk};
use crate::{Quarantined, ReadError};

/// How much is read at a time to find a batch boundary.
const WALK_BYTES: usize = 16 * 1024;
/// How much is read at a time to rebuild an index.
pub(crate) const SCAN_BYTES: usize = 512 * 1024;
/// Indexes of older segments kept in memory per log.
const INDEXES_KEPT: usize = 4;

/// Where in a segment to look.
enum Plan {
    /// Nothing more to read.
    Done,
    /// The index of this segment must be loaded first.
    Load(Offset),
    /// Look here.
    Look(Look),
}

struct Look {
    segment: Offset,
    generation: u64,
    /// A boundary at or before the offset wanted.
    start: Mark,
    /// Nothing at or beyond this is readable now: the end asked for, the end of the segment, or damage.
    bound: Bound,
    /// What the damage is, if it is what bounds.
    damage: Option<Damage>,
    /// How many damaged ranges are known.
    damages: usize,
}

#[derive(Clone, Copy)]
struct Bound {
    /// Batches end at or below this offset.
    offset: Offset,
    /// And at or below this byte. `exact` if a batch ends right here.
    position: u64,
    exact: bool,
}

impl<D: Disk> Log<D> {
    /// Reads whole batches in a contiguous walk. Empty when `from` is the end.
    pub async fn read(&self, read: Read) -> Result<Slice<D::File>, ReadError> {
        loop {
            let generation = self.lock().generation;
            let result = self.read_once(read).await;
            // What was found may have been cut off meanwhile, and what was not found is no damage: look again.
            if self.lock().generation == generation {
                let found = result.as_ref().is_ok_and(|slice| slice.bytes > 0);
                if !found {
                    // Retention may have taken it while the read waited: that is no empty answer and no I/O error.
                    self.admit_read(read.from)?;
                }
                return result;
            }
        }
    }

    async fn read_once(&self, read: Read) -> Result<Slice<D::File>, ReadError> {
        let mut slice = Slice { parts: Vec::new(), bytes: 0, next_offset: read.from };
        self.admit_read(read.from)?;
        loop {
            let look = match self.plan(slice.next_offset, read.end)? {
                Plan::Done => return Ok(slice),
                Plan::Load(segment) => {
                    self.load_index(segment).await?;
                    continue;
                }
                Plan::Look(look) => look,
            };
            let first = slice.bytes == 0;
            // Damage that was not known may lie beside what is asked for: now the look goes around it.
            let is_beside = |range: &Quarantined| {
                !(range.start..range.end).contains(&slice.next_offset)
                    && self.lock().damages.len() > look.damages
            };
            let budget = read.bytes_max.saturating_sub(slice.bytes);
            let at_least_one = first && read.at_least_one;
            let found = match self.cut(&look, slice.next_offset, budget, at_least_one).await {
                Ok(Some(found)) => self.checked(look.segment, found).await.map(Some),
                nothing => nothing,
            };
            let found = match found {
                // What was read before the damage is whole.
                Err(ReadError::Quarantined(_)) if !first => return Ok(slice),
                Err(ReadError::Quarantined(range)) if is_beside(&range) => continue,
                found => found?,
            };
            let Some(found) = found else {
                if let Some(damage) = look.damage.filter(|_| first) {
                    // Nothing lies before the damage but what the offset asked for is in it, or right before it.
                    if look.bound.offset <= read.from {
                        return Err(self.quarantined_error(&damage));
                    }
                }
                if planted(Mutant::ReadSkipsSegment)
                    && let Some(next) = self.next_segment(look.segment)
                    && next < read.end
                {
                    slice.next_offset = next;
                    continue;
                }
                return Ok(slice);
            };
            slice.bytes += found.bytes;
            slice.next_offset = found.next;
            slice.parts.push(Part::File {
                file: found.file,
                offset: found.start.position,
                len: found.bytes,
            });
            let at_bound = found.next >= look.bound.offset;
            if !at_bound || look.damage.is_some() || slice.bytes >= read.bytes_max {
                return Ok(slice);
            }
        }
    }

    /// Reads and parses batches, checking each CRC and epoch (I1, I4): for coordinators, for loading state, and for whoever is
    /// to have no doubt.
    pub async fn batches(&self, read: Read) -> Result<Vec<Batch>, ReadError> {
        loop {
            let generation = self.lock().generation;
            let result = self.batches_once(read, generation).await;
            if self.lock().generation == generation {
                return result;
            }
        }
    }

    async fn batches_once(&self, read: Read, generation: u64) -> Result<Vec<Batch>, ReadError> {
        let slice = self.read(read).await?;
        let epochs = self.lock().epochs.clone();
        let mut batches = Vec::new();
        for part in slice.parts {
            let (bytes, mut position) = match part {
                Part::Mem(bytes) => (bytes, 0),
                Part::File { file, offset, len } => {
                    (file.read_at(offset, len).await.map_err(ReadError::Io)?, offset)
                }
            };
            for batch in Batches::split(bytes) {
                let next = batches.last().map(|last: &Batch| last.end_offset());
                match batch {
                    Ok(batch) if batch.crc_ok() && epochs.vouch_for(batch.header()) => {
                        position += batch.bytes_total() as u64;
                        batches.push(batch);
                    }
                    bad => {
                        let offset =
                            next.or(bad.ok().map(|b| b.base_offset())).unwrap_or(read.from);
                        let segment = {
                            let state = self.lock();
                            state.segment_of(offset).map_or(offset, |at| state.segments[at].base)
                        };
                        let bad = Mark { offset, position };
                        let error = self.report_damage(generation, segment, bad).await;
                        return if batches.is_empty() { Err(error) } else { Ok(batches) };
                    }
                }
            }
        }
        Ok(batches)
    }

    fn admit_read(&self, from: Offset) -> Result<(), ReadError> {
        if self.inner.door.is_offline() {
            return Err(ReadError::Offline); // I10
        }
        let state = self.lock();
        if state.deleted {
            return Err(ReadError::Deleted);
        }
        let (log_start, end) = (state.log_start, state.written.offset);
        if from < log_start || from > end {
            return Err(ReadError::OffsetOutOfRange { offset: from, log_start, end });
        }
        Ok(())
    }

    fn quarantined_error(&self, damage: &Damage) -> ReadError {
        let state = self.lock();
        ReadError::Quarantined(self.describe(&state, damage))
    }

    fn next_segment(&self, base: Offset) -> Option<Offset> {
        let state = self.lock();
        state.segments.iter().map(|segment| segment.base).find(|next| *next > base)
    }

    fn plan(&self, from: Offset, end: Offset) -> Result<Plan, ReadError> {
        let state = self.lock();
        if state.deleted {
            return Err(ReadError::Deleted);
        }
        let end = end.min(state.written.offset);
        if from >= end {
            return Ok(Plan::Done);
        }
        let Some(at) = state.segment_of(from) else { return Ok(Plan::Done) };
        let segment = &state.segments[at];
        let Some(index) = &segment.index else { return Ok(Plan::Load(segment.base)) };
        let (bound, damage) = state.bound(at, index, from, end);
        Ok(Plan::Look(Look {
            segment: segment.base,
            generation: state.generation,
            start: state.floor(segment.base, index, from),
            bound,
            damage,
            damages: state.damages.len(),
        }))
    }

    /// Finds the range of the segment to return: from the batch that holds `from`, at most `budget` bytes.
    async fn cut(
        &self,
        look: &Look,
        from: Offset,
        budget: usize,
        at_least_one: bool,
    ) -> Result<Option<Found<D::File>>, ReadError> {
        let bound = look.bound;
        let file = self.segment_file(look.segment).await.map_err(ReadError::Io)?;
        let mut start = look.start;
        let mut walk = None;
        if start.offset < from {
            let mut headers = Walk::new(file.clone(), start.position, bound.position, WALK_BYTES)
                .from(start.offset);
            loop {
                let step = match headers.next().await {
                    Ok(step) => step,
                    Err(error) => {
                        let (generation, segment) = (look.generation, look.segment);
                        return Err(self
                            .report_unreadable(generation, segment, start, error)
                            .await);
                    }
                };
                match step {
                    Step::Batch(at, header) if header.end_offset() <= from => {
                        start = Mark {
                            offset: header.end_offset(),
                            position: at + header.bytes_total() as u64,
                        };
                    }
                    Step::Batch(at, header) => {
                        start = Mark { offset: header.base_offset(), position: at };
                        walk = Some((headers, header));
                        break;
                    }
                    Step::End if bound.offset <= from => return Ok(None),
                    // At the end, `from` was passed by: a header tells wrong offsets.
                    Step::Bad | Step::End => {
                        return Err(self.report_damage(look.generation, look.segment, start).await);
                    }
                }
            }
        }
        if start.position >= bound.position {
            return Ok(None);
        }
        let limit = start.position.saturating_add(budget as u64);
        if bound.exact && bound.position <= limit {
            return Ok(Some(Found::new(file, start, bound.position, bound.offset)));
        }
        // The furthest boundary that the index knows, then header by header.
        let mark = {
            let mut state = self.lock();
            let stale = state.generation != look.generation;
            let segment = state.segment(look.segment).filter(|_| !stale);
            let Some(segment) = segment else { return Ok(None) };
            segment.index.as_ref().map(|index| {
                let by_budget = index.floor_position(limit.min(bound.position));
                let by_offset = index.floor(bound.offset);
                if by_budget.position < by_offset.position { by_budget } else { by_offset }
            })
        };
        let mut cut = start;
        if let Some(mark) = mark.filter(|mark| mark.position > start.position) {
            cut = mark;
            walk = None;
        }
        let (mut headers, mut pending) = match walk {
            Some((headers, header)) => (headers, Some((start.position, header))),
            None => {
                let headers = Walk::new(file.clone(), cut.position, bound.position, WALK_BYTES);
                (headers.from(cut.offset), None)
            }
        };
        loop {
            let (at, header) = match pending.take() {
                Some(step) => step,
                None => match headers.next().await {
                    Ok(Step::Batch(at, header)) => (at, header),
                    Ok(Step::End) => break,
                    Ok(Step::Bad) | Err(_) if cut.position > start.position => break,
                    bad => {
                        let (generation, segment) = (look.generation, look.segment);
                        return Err(match bad {
                            Ok(_) => self.report_damage(generation, segment, cut).await,
                            Err(error) => {
                                self.report_unreadable(generation, segment, cut, error).await
                            }
                        });
                    }
                },
            };
            let end = at + header.bytes_total() as u64;
            let fits = end <= limit || (at_least_one && cut == start);
            if header.end_offset() > bound.offset || !fits {
                break;
            }
            cut = Mark { offset: header.end_offset(), position: end };
            if end >= limit {
                break;
            }
        }
        if cut.position > start.position {
            return Ok(Some(Found::new(file, start, cut.position, cut.offset)));
        }
        // No reader may be left without an answer for ever because a header tells too large an offset.
        if at_least_one && start.offset < bound.offset {
            let mut walk = Walk::new(file, start.position, bound.position, WALK_BYTES)
                .from(start.offset)
                .verified();
            if matches!(walk.next().await.map_err(ReadError::Io)?, Step::Bad) {
                return Err(self.report_damage(look.generation, look.segment, start).await);
            }
        }
        Ok(None)
    }

    /// What of `found` is sound: all of it, or what lies before the first batch whose checksum is wrong, which is reported
    /// (I1, I14). Looks at bytes that may have come from the medium since they were last believed.
    async fn checked(
        &self,
        segment: Offset,
        mut found: Found<D::File>,
    ) -> Result<Found<D::File>, ReadError> {
        let (start, end) = (found.start.position, found.start.position + found.bytes as u64);
        let (generation, epochs) = {
            let mut state = self.lock();
            // On its way to a socket it could not be read: nothing of the segment is believed without a look any more.
            let has_failed = found.file.take_read_failure();
            let turn = self.inner.door.turn.load(Ordering::Relaxed);
            let Some(segment) = state.segment(segment) else { return Ok(found) };
            if has_failed {
                segment.sound = Sound::found(segment.size);
            }
            segment.sound.grow_old(turn, segment.size);
            if segment.sound.covers(start, end) {
                return Ok(found);
            }
            (state.generation, state.epochs.clone())
        };
        let mut good = found.start;
        let walk = Walk::new(found.file.clone(), start, end, SCAN_BYTES);
        // Offsets and epochs lie outside the checksums: the ones must follow one another, the others be those that are known.
        let mut walk = walk.from(found.start.offset).verified();
        let stopped = loop {
            match walk.next().await {
                Ok(Step::Batch(at, header)) if epochs.vouch_for(&header) => {
                    good.offset = header.end_offset();
                    good.position = at + header.bytes_total() as u64;
                }
                Ok(Step::Batch(..) | Step::Bad) => break Some(None),
                Ok(Step::End) => break None,
                Err(error) => break Some(Some(error)),
            }
        };
        {
            let mut state = self.lock();
            if state.generation != generation {
                // It was cut meanwhile: the caller looks again.
                return Ok(found);
            }
            if let Some(segment) = state.segment(segment) {
                segment.sound.add(start, good.position);
            }
        }
        let error = match stopped {
            None => return Ok(found),
            Some(None) => self.report_damage(generation, segment, good).await,
            Some(Some(error)) => self.report_unreadable(generation, segment, good, error).await,
        };
        if good.position == start {
            return Err(error);
        }
        found.bytes = usize::try_from(good.position - start).expect("part of what fits");
        found.next = good.offset;
        Ok(found)
    }

    /// Loads the index of an older segment, or rebuilds it by walking the segment (E3).
    pub(crate) async fn load_index(&self, base: Offset) -> Result<(), ReadError> {
        let (generation, size, trusted, interval) = {
            let mut state = self.lock();
            let (generation, interval) = (state.generation, state.config.index_interval_bytes);
            let Some(segment) = state.segment(base).filter(|segment| segment.index.is_none())
            else {
                return Ok(());
            };
            // Files that were not cut yet tell of what a truncation took.
            let trusted = if segment.index_checked { segment.size } else { 0 };
            (generation, segment.size, trusted, interval)
        };
        let (index, ages) =
            self.read_index(base, size, trusted, interval).await.map_err(ReadError::Io)?;
        let (found, refused) = self.walk_end(&index, base, size).await.map_err(ReadError::Io)?;
        let is_short = {
            let mut state = self.lock();
            if state.generation != generation {
                return Ok(()); // Of a segment that was cut meanwhile.
            }
            let mut is_short = false;
            if let Some(segment) = state.segment(base)
                && segment.index.is_none()
            {
                segment.index = Some(Box::new(index));
                segment.ages.last_append = segment.ages.last_append.or(ages.last_append);
                is_short = found.offset < segment.end;
            }
            state.forget_indexes(base);
            is_short
        };
        // What is missing at its end (a short file, a rotten header) was durable: no read may step over it (E8, I14).
        if is_short {
            let error = match refused {
                None => self.report_damage(generation, base, found).await,
                Some(error) => self.report_unreadable(generation, base, found, error).await,
            };
            if let ReadError::Io(error) = error {
                return Err(ReadError::Io(error));
            }
        }
        Ok(())
    }

    /// Where the batches of a segment really end: from the last mark of its index on. Or how far they can be read, and why
    /// the device refuses what follows.
    pub(crate) async fn walk_end(
        &self,
        index: &Index,
        base: Offset,
        size: u64,
    ) -> io::Result<(Mark, Option<io::Error>)> {
        let mut end = self.lock().boundary(base, index, size);
        let file = self.segment_file(base).await?;
        let mut walk = Walk::new(file, end.position, size, WALK_BYTES).from(end.offset);
        loop {
            match walk.next().await {
                Ok(Step::Batch(position, header)) => {
                    end.offset = header.end_offset();
                    end.position = position + header.bytes_total() as u64;
                }
                Ok(Step::Bad | Step::End) => return Ok((end, None)),
                Err(error) if is_refusal(&error) => return Ok((end, Some(error))),
                Err(error) => return Err(error),
            }
        }
    }

    /// The index of a segment of `size` bytes, from its files as far as they describe at most `trusted` bytes, the rest
    /// from the segment itself. Ends early at bytes that are no batch, or that the device refuses.
    pub(crate) async fn read_index(
        &self,
        base: Offset,
        size: u64,
        trusted: u64,
        interval: u32,
    ) -> io::Result<(Index, crate::index::Ages)> {
        let disk = &self.inner.door.disk;
        let trusted = if planted(Mutant::StaleIndexKept) { u64::MAX } else { trusted };
        let offsets = read_derived(disk, &Kind::Index.path(&self.inner.path, base)).await;
        let times = read_derived(disk, &Kind::TimeIndex.path(&self.inner.path, base)).await;
        let (mut index, ages) = Index::from_files(base, interval, trusted, &offsets, &times);
        if index.covered() < size {
            let file = self.segment_file(base).await?;
            let start = self.lock().boundary(base, &index, index.covered());
            let mut walk = Walk::new(file, start.position, size, SCAN_BYTES).from(start.offset);
            loop {
                match walk.next().await {
                    Ok(Step::Batch(at, header)) if at >= index.covered() => index.add(&header),
                    Ok(Step::Batch(..)) => {}
                    Ok(Step::Bad | Step::End) => break,
                    Err(error) if is_refusal(&error) => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok((index, ages))
    }

    /// When the batch that holds `offset`, or the first one after it if that was removed, was made as its producer or the
    /// broker stamped it; `None` at the end, for a batch without a time, and where the bytes are bad. Reads one header.
    pub async fn time_of_batch(&self, offset: Offset) -> Result<Option<Timestamp>, ReadError> {
        let from = offset.max(self.lock().log_start);
        let found = self.batch_at(from).await?;
        Ok(found.and_then(|(_, header)| match header.timestamp_type() {
            TimestampType::CreateTime => header.base_timestamp(),
            TimestampType::AppendTime => header.max_timestamp(),
        }))
    }

    /// The header of the batch that holds `offset`, and where it stands.
    pub(crate) async fn batch_at(
        &self,
        offset: Offset,
    ) -> Result<Option<(Point, BatchHeader)>, ReadError> {
        loop {
            let look = match self.plan(offset, Offset(i64::MAX))? {
                Plan::Done => return Ok(None),
                Plan::Load(segment) => {
                    self.load_index(segment).await?;
                    continue;
                }
                Plan::Look(look) => look,
            };
            let file = self.segment_file(look.segment).await.map_err(ReadError::Io)?;
            let mut walk = Walk::new(file, look.start.position, look.bound.position, WALK_BYTES)
                .from(look.start.offset);
            loop {
                match walk.next().await.map_err(ReadError::Io)? {
                    Step::Batch(position, header) if header.end_offset() > offset => {
                        let point =
                            Point { offset: header.base_offset(), segment: look.segment, position };
                        return Ok(Some((point, header)));
                    }
                    Step::Batch(..) => {}
                    Step::Bad | Step::End => return Ok(None),
                }
            }
        }
    }

    /// Where the batch that holds `offset` begins, or the damage that it lies in.
    pub(crate) async fn boundary_at(&self, offset: Offset) -> Option<Point> {
        for _ in 0..2 {
            let holds = |damage: &&Damage| (damage.start.offset..damage.end).contains(&offset);
            let damage = self.lock().damages.iter().find(holds).copied();
            if let Some(damage) = damage {
                return Some(damage.start);
            }
            if let Ok(Some((point, _))) = self.batch_at(offset).await {
                return Some(point);
            }
            // Whoever reads finds out what is rotten, and where the log goes on.
            let end = Offset(i64::MAX);
            let read = Read { from: offset, end, bytes_max: 1, at_least_one: true };
            drop(self.read(read).await);
        }
        None
    }
}

/// A derived file; whatever cannot be read is as good as missing.
pub(crate) async fn read_derived<D: Disk>(disk: &D, path: &std::path::Path) -> Bytes {
    match disk.open(path, OpenMode::Read).await {
        Ok(file) => match file.len().await {
            Ok(len) => {
                let len = usize::try_from(len).unwrap_or(0);
                file.read_at(0, len).await.unwrap_or_default()
            }
            Err(_) => Bytes::new(),
        },
        Err(_) => Bytes::new(),
    }
}

struct Found<F> {
    file: F,
    start: Mark,
    bytes: usize,
    next: Offset,
}

impl<F> Found<F> {
    fn new(file: F, start: Mark, end: u64, next: Offset) -> Found<F> {
        let bytes = usize::try_from(end - start.position).expect("a segment is below 4 GiB");
        Found { file, start, bytes, next }
    }
}

impl<F> State<F> {
    /// End of what can be read of a segment.
    pub(crate) fn written_end(&self, at: usize) -> (Offset, u64) {
        let segment = &self.segments[at];
        if segment.base == self.written.segment {
            (self.written.offset, self.written.position)
        } else if segment.end <= self.written.offset {
            (segment.end, segment.size)
        } else {
            (segment.base, 0)
        }
    }

    /// The last boundary at or below `offset` in the segment at `base`, the end of damage included.
    fn floor(&self, base: Offset, index: &Index, offset: Offset) -> Mark {
        let floor = index.floor(offset);
        let after_damage = self
            .damages
            .iter()
            .filter(|damage| damage.start.segment == base && damage.end <= offset)
            .map(|damage| Mark { offset: damage.end, position: damage.end_position })
            .max_by_key(|mark| mark.position);
        let recent = self
            .recent
            .iter()
            .filter(|point| point.segment == base && point.offset <= offset)
            .map(|point| Mark { offset: point.offset, position: point.position })
            .max_by_key(|mark| mark.position);
        let marks = [Some(floor), after_damage, recent];
        marks.into_iter().flatten().max_by_key(|mark| mark.position).unwrap_or(floor)
    }

    /// The last boundary known at or below byte `position` of the segment at `base`: a mark, or the end of damage.
    pub(crate) fn boundary(&self, base: Offset, index: &Index, position: u64) -> Mark {
        let damages = self.damages.iter().filter(|damage| damage.start.segment == base);
        damages
            .map(|damage| Mark { offset: damage.end, position: damage.end_position })
            .filter(|mark| mark.position <= position)
            .chain([index.floor_position(position)])
            .max_by_key(|mark| mark.position)
            .unwrap_or(Mark { offset: base, position: 0 })
    }

    /// A segment must end where the next one begins, or the log. What is missing (a lost segment, a short file, what lies
    /// behind a rotten header) was durable and is quarantined, so that no read steps over it (E8, I14).
    pub(crate) fn check_end(&mut self, base: Offset, found: Mark) -> Option<Damage> {
        let segment = self.segment(base)?;
        let (end, end_position) = (segment.end, segment.size);
        let known =
            self.damages.iter().any(|damage| damage.start.segment == base && damage.end >= end);
        if known || (found.offset == end && found.position == end_position) {
            return None;
        }
        let mut found = found;
        if found.offset >= end {
            // A header told too much: any behind the last boundary may be it.
            let at = self.segments.iter().position(|it| it.base == base)?;
            let index = self.segments[at].index.as_ref()?;
            found = self.boundary(base, index, end_position.saturating_sub(1));
        }
        let start = Point { offset: found.offset, segment: base, position: found.position };
        let damage = Damage { start, end, end_position, is_unreadable: false };
        self.add_damage(damage);
        Some(damage)
    }

    /// Remembers a damaged range; `false` if it was known, or continues one that was.
    pub(crate) fn add_damage(&mut self, damage: Damage) -> bool {
        let start = damage.start.offset;
        if self.damages.iter().any(|known| known.start.offset <= start && start < known.end) {
            return false;
        }
        // A device may refuse a great part, of which a reader finds one index interval after the other.
        let follows = |known: &&mut Damage| {
            (known.end, known.end_position) == (start, damage.start.position)
                && known.start.segment == damage.start.segment
        };
        if damage.is_unreadable
            && let Some(before) = self.damages.iter_mut().filter(|d| d.is_unreadable).find(follows)
        {
            (before.end, before.end_position) = (damage.end, damage.end_position);
            return false;
        }
        self.damages.push(damage);
        self.damages.sort_by_key(|damage| damage.start.offset);
        true
    }

    /// What bounds a read of the segment at `at` that starts at `from`.
    fn bound(
        &self,
        at: usize,
        index: &Index,
        from: Offset,
        end: Offset,
    ) -> (Bound, Option<Damage>) {
        let base = self.segments[at].base;
        let damage = self
            .damages
            .iter()
            .find(|damage| damage.start.segment == base && damage.end > from)
            .filter(|damage| damage.start.offset < end);
        if let Some(damage) = damage {
            let Point { offset, position, .. } = damage.start;
            return (Bound { offset, position, exact: true }, Some(*damage));
        }
        let (written, position) = self.written_end(at);
        let bound = if end >= written {
            Bound { offset: written, position, exact: true }
        } else if let Some(recent) =
            self.recent.iter().find(|point| point.offset == end && point.segment == base)
        {
            Bound { offset: end, position: recent.position, exact: true }
        } else {
            let floor = index.floor(end);
            let exact = floor.offset == end;
            Bound { offset: end, position: if exact { floor.position } else { position }, exact }
        };
        (bound, None)
    }

    /// Drops the index of an older segment that could not be read to its end: it is loaded anew.
    pub(crate) fn drop_partial_index(&mut self, base: Offset) {
        let active = self.segments.len().saturating_sub(1);
        let segment = self.segments.iter_mut().take(active).find(|segment| segment.base == base);
        if let Some(segment) = segment
            && segment.index.as_ref().is_some_and(|index| index.covered() != segment.size)
        {
            segment.index = None;
        }
    }

    /// Drops indexes of older segments beyond the number kept, but not that of `base`.
    pub(crate) fn forget_indexes(&mut self, base: Offset) {
        let active = self.segments.len().saturating_sub(1);
        let mut kept = 0;
        for segment in self.segments.iter_mut().take(active).rev() {
            // Files that hold more than is believed (a truncation, a crash) must not be read in its place.
            let droppable = segment.base != base
                && segment.index_checked
                && !segment.unsynced
                && segment.snapshot.is_none()
                && segment
                    .index
                    .as_ref()
                    .is_some_and(|index| index.covered() == segment.size && index.unsaved() == 0);
            kept += usize::from(droppable);
            if droppable && kept > INDEXES_KEPT {
                segment.index = None;
            }
        }
    }
}
