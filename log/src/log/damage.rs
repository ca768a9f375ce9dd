//! Bytes that should be a batch and are none: how far the damage reaches.
//!
//! The index names a boundary behind it, but its marks lie an interval apart. Between the two the log goes on at the first
//! place from which sound batches, offset by offset, lead exactly to that boundary: nothing less is believed, since a
//! record may hold what looks like a batch. So one rotten batch costs that batch.
//!
//! Where it begins is not believed of whoever met it, either: a walk by headers alone passes a rotten one whose lengths or
//! offsets are wrong, and stumbles later. The first bad batch is looked for from the boundary before, by checksums.

use std::collections::BTreeSet;
use std::io;

use env::{Disk, File};
use record::{BatchHeader, HEADER_LEN};
use types::Offset;
use types::mutant::{Mutant, planted};

use super::read::SCAN_BYTES;
use super::{Damage, Log, Point, State};
use crate::ReadError;
use crate::epochs::Epochs;
use crate::index::{Index, Mark};
use crate::walk::{Step, Walk};

/// EIO, ENODATA, EBADMSG, EUCLEAN, EREMOTEIO.
const REFUSALS: [i32; 5] = [5, 61, 74, 117, 121];

/// Whether the device, or the file system by a checksum of its own, refuses a range.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| REFUSALS.contains(&code))
}

/// Places that are tried at most: each costs a walk over what follows, and a producer may have put many into its records.
const PLACES_MAX: usize = 64;

impl<D: Disk> Log<D> {
    /// The batch that should stand at `bad` does not, or one before it tells a wrong end: the first that is bad, to where the
    /// log goes on, is quarantined (I14), unless the log was cut since the `generation` in which it was read, or all is
    /// sound at a second look. Answers the error to give.
    pub(crate) async fn report_damage(
        &self,
        generation: u64,
        segment: Offset,
        bad: Mark,
    ) -> ReadError {
        self.quarantine(generation, segment, bad, false).await
    }

    /// The same of a range that was quarantined as a whole, when nothing was known yet by which to tell sound batches in it.
    pub(crate) async fn narrow(&self, whole: Damage) {
        let (generation, epochs) = {
            let mut state = self.lock();
            state.damages.retain(|damage| *damage != whole);
            (state.generation, state.epochs.clone())
        };
        let mut bad = whole.start.mark();
        let end = Mark { offset: whole.end, position: whole.end_position };
        if let Ok(file) = self.segment_file(whole.start.segment).await {
            bad = first_bad(&file, bad, end, &epochs).await.unwrap_or(bad);
        }
        let told = self.report_damage(generation, whole.start.segment, bad).await;
        if !matches!(told, ReadError::Quarantined(_)) {
            tracing::error!(
                partition = %self.inner.partition, start = %bad.offset, end = %whole.end, error = %told,
                "durable records are missing: quarantined"
            );
            self.lock().add_damage(whole);
        }
    }

    /// The index of a segment that could not be walked to its end, from the batches around the damage: what was made by headers
    /// alone may hold a rotten one, and one that is appended to grows without a gap.
    pub(crate) async fn rebuild_index(&self, base: Offset, interval: u32) -> io::Result<()> {
        let file = self.segment_file(base).await?;
        let mut at = Mark { offset: base, position: 0 };
        if let Some(segment) = self.lock().segment(base) {
            segment.index = Some(Box::new(Index::new(base, interval)));
        }
        loop {
            let (end, size, generation) = {
                let mut state = self.lock();
                let of_segment = |damage: &&Damage| damage.start.segment == base;
                let reaches = |damage: &&Damage| damage.end_position > at.position;
                let next = state.damages.iter().filter(of_segment).filter(reaches);
                let next = next.min_by_key(|damage| damage.start.position).copied();
                let generation = state.generation;
                let Some(segment) = state.segment(base) else { return Ok(()) };
                let (size, Some(index)) = (segment.size, &mut segment.index) else { return Ok(()) };
                match next {
                    Some(damage) if damage.start.position <= at.position => {
                        index.skip_to(damage.end_position);
                        at = Mark { offset: damage.end, position: damage.end_position };
                        continue;
                    }
                    next => (next.map_or(size, |damage| damage.start.position), size, generation),
                }
            };
            if at.position >= end {
                return Ok(());
            }
            let walk = Walk::new(file.clone(), at.position, end, SCAN_BYTES);
            let mut walk = walk.from(at.offset).verified();
            while let Step::Batch(position, header) = walk.next().await? {
                if let Some(index) = self.lock().segment(base).and_then(|it| it.index.as_mut()) {
                    index.add(&header);
                }
                at.offset = header.end_offset();
                at.position = position + header.bytes_total() as u64;
            }
            if at.position < end {
                let told = self.report_damage(generation, base, at).await;
                let is_known = self.lock().damages.iter().any(|damage| {
                    damage.start.segment == base
                        && (damage.start.position..damage.end_position).contains(&at.position)
                });
                if !matches!(told, ReadError::Quarantined(_)) || !is_known {
                    // Places and offsets contradict each other: readers find out what is the matter.
                    if let Some(index) = self.lock().segment(base).and_then(|it| it.index.as_mut())
                    {
                        index.skip_to(size);
                    }
                    return Ok(());
                }
            }
        }
    }

    /// The device refuses to read the batch at `bad`, for the reason of `error`: the range up to the next mark is quarantined
    /// for as long as it does. Any other error is answered as it is.
    pub(super) async fn report_unreadable(
        &self,
        generation: u64,
        segment: Offset,
        bad: Mark,
        error: io::Error,
    ) -> ReadError {
        if is_refusal(&error) && !planted(Mutant::RefusalHidesRest) {
            return self.quarantine(generation, segment, bad, true).await;
        }
        ReadError::Io(error)
    }

    async fn quarantine(
        &self,
        generation: u64,
        segment: Offset,
        bad: Mark,
        is_unreadable: bool,
    ) -> ReadError {
        let vanished = || ReadError::Io(io::Error::other("a segment vanished under a read"));
        let (from, end, known, epochs) = loop {
            {
                let mut state = self.lock();
                let at = state.segments.iter().position(|other| other.base == segment);
                let Some(at) = at.filter(|_| state.generation == generation) else {
                    return vanished();
                };
                if let Some(index) = &state.segments[at].index {
                    let (offset, position) = state.written_end(at);
                    let from = state.boundary_before(segment, index, bad);
                    let (end, epochs) = (Mark { offset, position }, state.epochs.clone());
                    break (from, end, state.known_above(segment, bad, end), epochs);
                }
            }
            // Others who read have let go of it: few are kept. Loading it may find the damage, too.
            if let Err(error) = Box::pin(self.load_index(segment)).await {
                return error;
            }
        };
        let (bad, next) = match self.segment_file(segment).await {
            _ if is_unreadable => (bad, known),
            Ok(file) => {
                let bad = match first_bad(&file, from, end, &epochs).await {
                    Ok(first) if first.position > bad.position || first == end => {
                        let reason = "bytes are read differently a second time";
                        return ReadError::Io(io::Error::other(reason));
                    }
                    Ok(first) => first,
                    Err(_) => bad,
                };
                let known = self.lock().known_above(segment, bad, known);
                (bad, goes_on(&file, bad, known).await.unwrap_or(known))
            }
            // A device that cannot be read here leaves it at what is known.
            Err(_) => (bad, known),
        };
        let mut state = self.lock();
        // Retention may have taken it.
        if state.generation != generation || state.segment(segment).is_none() {
            return vanished();
        }
        let damage = Damage {
            start: Point { offset: bad.offset, segment, position: bad.position },
            end: next.offset,
            end_position: next.position,
            is_unreadable,
        };
        if state.add_damage(damage) {
            tracing::error!(
                partition = %self.inner.partition, start = %bad.offset, end = %damage.end,
                "{} the range is quarantined",
                if is_unreadable { "the device refuses to read records:" } else { "damaged bytes found:" }
            );
            self.inner.door.damaged.notify_one();
            if is_unreadable {
                self.inner.door.unreadable.notify_one();
            }
        }
        ReadError::Quarantined(self.describe(&state, &damage))
    }
}

impl<F> State<F> {
    /// The last boundary from which batches may have led a walk to `bad`: one that lies before it but tells a later offset, or
    /// tells another one of its place, is behind the batch that told a wrong length or wrong offsets.
    fn boundary_before(&self, base: Offset, index: &Index, bad: Mark) -> Mark {
        let leads = |mark: &Mark| {
            *mark == bad || (mark.position < bad.position && mark.offset < bad.offset)
        };
        let ends = self.damages.iter().filter(|damage| damage.start.segment == base);
        let ends = ends.map(|damage| Mark { offset: damage.end, position: damage.end_position });
        let marks = [
            index.floor_position(bad.position),
            index.floor_position(bad.position.saturating_sub(1)),
            index.floor(Offset(bad.offset.0 - 1)),
        ];
        let begin = Mark { offset: base, position: 0 };
        ends.chain(marks).filter(leads).max_by_key(|mark| mark.position).unwrap_or(begin)
    }

    /// The first boundary behind `bad` that is known, of the index or where other damage begins; `end` without one.
    pub(super) fn known_above(&mut self, segment: Offset, bad: Mark, end: Mark) -> Mark {
        let damages = self.damages.iter().filter(|damage| damage.start.segment == segment);
        let begins = damages.map(|damage| damage.start.mark());
        let begins = begins.filter(|mark| mark.position > bad.position);
        let begins = begins.min_by_key(|mark| mark.position);
        let index = self.segment(segment).and_then(|segment| segment.index.as_ref());
        let mark = index.and_then(|index| index.above_position(bad.position));
        let marks = [mark, begins, Some(end)].into_iter().flatten();
        marks.min_by_key(|mark| mark.position).unwrap_or(end)
    }
}

/// The first batch from the boundary `from` on that is bad, where it should stand; `end` if there is none.
async fn first_bad<F: File>(file: &F, from: Mark, end: Mark, epochs: &Epochs) -> io::Result<Mark> {
    let mut first = from;
    let mut walk = Walk::new(file.clone(), from.position, end.position, SCAN_BYTES)
        .from(from.offset)
        .verified();
    while let Step::Batch(at, header) = walk.next().await? {
        if !epochs.vouch_for(&header) {
            break;
        }
        first = Mark { offset: header.end_offset(), position: at + header.bytes_total() as u64 };
    }
    Ok(first)
}

/// Where the log goes on behind `bad`, at `known` at the latest.
async fn goes_on<F: File>(file: &F, bad: Mark, known: Mark) -> io::Result<Mark> {
    let room = usize::try_from(known.position.saturating_sub(bad.position)).unwrap_or(usize::MAX);
    let bytes = file.read_at(bad.position, room.min(SCAN_BYTES)).await?;
    // What the batch says of its own length, in case only its records are rotten; then every place behind its header.
    let told = BatchHeader::parse(&bytes).ok().map(|header| header.bytes_total());
    let places = told.into_iter().chain(1..bytes.len().saturating_sub(HEADER_LEN));
    // A place where a walk has passed leads where that led.
    let (mut tried, mut passed) = (0, BTreeSet::new());
    for place in places.filter(|place| *place < room) {
        let position = bad.position + place as u64;
        let header = match bytes.get(place..place + HEADER_LEN) {
            Some(header) => BatchHeader::parse(header),
            None => BatchHeader::parse(&file.read_at(position, HEADER_LEN).await?),
        };
        let Ok(header) = header else { continue };
        let offset = header.base_offset();
        let total = header.bytes_total();
        let is_outside = header.end_offset() > known.offset || total > room - place;
        if offset <= bad.offset || is_outside || passed.contains(&position) {
            continue;
        }
        tried += 1;
        if tried > PLACES_MAX {
            break;
        }
        let mark = Mark { offset, position };
        if leads_to(file, mark, known, &mut passed).await? {
            return Ok(mark);
        }
    }
    Ok(known)
}

/// Whether sound batches stand from `from` to exactly `to`. Notes where the nearer ones begin.
async fn leads_to<F: File>(
    file: &F,
    from: Mark,
    to: Mark,
    passed: &mut BTreeSet<u64>,
) -> io::Result<bool> {
    let mut walk = Walk::new(file.clone(), from.position, to.position, SCAN_BYTES)
        .from(from.offset)
        .verified();
    let mut end: Offset = from.offset;
    loop {
        match walk.next().await? {
            Step::Batch(at, header) => {
                end = header.end_offset();
                if at < from.position + SCAN_BYTES as u64 {
                    passed.insert(at);
                }
            }
            Step::Bad => return Ok(false),
            Step::End => return Ok(end == to.offset),
        }
    }
}
