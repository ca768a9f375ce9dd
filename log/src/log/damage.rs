//! Bytes that should be a batch and are none: how far the damage reaches.
//!
//! The index names a boundary behind it, but its marks lie an interval apart. Between the two the log goes on at the first
//! place from which sound batches, offset by offset, lead exactly to that boundary: nothing less is believed, since a
//! record may hold what looks like a batch. So one rotten batch costs that batch.
//!
//! Where it begins is not believed of whoever met it, either: a walk by headers alone passes a rotten one whose lengths or
//! offsets are wrong, and stumbles later. The first bad batch is looked for from the boundary before, by checksums.

use std::io;

use env::{Disk, File};
use record::{BatchHeader, HEADER_LEN};
use types::Offset;
use types::mutant::{Mutant, planted};

use super::read::SCAN_BYTES;
use super::{Damage, Log, Point};
use crate::ReadError;
use crate::epochs::Epochs;
use crate::index::Mark;
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
        let mut bad = Mark { offset: whole.start.offset, position: whole.start.position };
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
        let (from, end, epochs) = loop {
            {
                let state = self.lock();
                let at = state.segments.iter().position(|other| other.base == segment);
                let Some(at) = at.filter(|_| state.generation == generation) else {
                    return vanished();
                };
                if let Some(index) = &state.segments[at].index {
                    let (offset, position) = state.written_end(at);
                    let mut from = state.boundary(segment, index, bad.position);
                    if from.position == bad.position && from.offset != bad.offset {
                        // The boundary is sound: the batch before it tells a wrong end offset.
                        from = state.boundary(segment, index, bad.position.saturating_sub(1));
                    }
                    break (from, Mark { offset, position }, state.epochs.clone());
                }
            }
            // Others who read have let go of it: few are kept. Loading it may find the damage, too.
            if let Err(error) = Box::pin(self.load_index(segment)).await {
                return error;
            }
        };
        let (bad, next) = match self.segment_file(segment).await {
            _ if is_unreadable => (bad, self.known_above(segment, bad, end)),
            Ok(file) => {
                let bad = match first_bad(&file, from, end, &epochs).await {
                    Ok(first) if first.position > bad.position || first == end => {
                        let reason = "bytes are read differently a second time";
                        return ReadError::Io(io::Error::other(reason));
                    }
                    Ok(first) => first,
                    Err(_) => bad,
                };
                let known = self.known_above(segment, bad, end);
                (bad, goes_on(&file, bad, known).await.unwrap_or(known))
            }
            // A device that cannot be read here leaves it at what is known.
            Err(_) => (bad, self.known_above(segment, bad, end)),
        };
        let mut state = self.lock();
        if state.generation != generation {
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
            if is_unreadable {
                self.inner.door.unreadable.notify_one();
            }
        }
        ReadError::Quarantined(self.describe(&state, &damage))
    }

    /// The first boundary behind `bad` that the index of its segment knows; the segment's `end` without one.
    fn known_above(&self, segment: Offset, bad: Mark, end: Mark) -> Mark {
        let mut state = self.lock();
        let index = state.segment(segment).and_then(|segment| segment.index.as_ref());
        let mark = index.and_then(|index| index.above_position(bad.position));
        mark.filter(|mark| mark.position < end.position).unwrap_or(end)
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
    let mut tried = 0;
    for place in places.filter(|place| *place < room) {
        let position = bad.position + place as u64;
        let header = match bytes.get(place..place + HEADER_LEN) {
            Some(header) => BatchHeader::parse(header),
            None => BatchHeader::parse(&file.read_at(position, HEADER_LEN).await?),
        };
        let Ok(header) = header else { continue };
        let offset = header.base_offset();
        let total = header.bytes_total();
        if offset <= bad.offset || header.end_offset() > known.offset || total > room - place {
            continue;
        }
        tried += 1;
        if tried > PLACES_MAX {
            break;
        }
        let mark = Mark { offset, position };
        if leads_to(file, mark, known).await? {
            return Ok(mark);
        }
    }
    Ok(known)
}

/// Whether sound batches stand from `from` to exactly `to`.
async fn leads_to<F: File>(file: &F, from: Mark, to: Mark) -> io::Result<bool> {
    let mut walk = Walk::new(file.clone(), from.position, to.position, SCAN_BYTES)
        .from(from.offset)
        .verified();
    let mut end: Offset = from.offset;
    loop {
        match walk.next().await? {
            Step::Batch(_, header) => end = header.end_offset(),
            Step::Bad => return Ok(false),
            Step::End => return Ok(end == to.offset),
        }
    }
}
