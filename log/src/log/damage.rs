//! Bytes that should be a batch and are none: how far the damage reaches.
//!
//! The index names a boundary behind it, but its marks lie an interval apart. Between the two the log goes on at the first
//! place from which sound batches, offset by offset, lead exactly to that boundary: nothing less is believed, since a
//! record may hold what looks like a batch. So one rotten batch costs that batch.

use std::io;

use env::{Disk, File};
use record::{BatchHeader, HEADER_LEN};
use types::Offset;

use super::read::SCAN_BYTES;
use super::{Damage, Log, Point};
use crate::ReadError;
use crate::index::Mark;
use crate::walk::{Step, Walk};

/// Places that are tried at most: each costs a walk over what follows, and a producer may have put many into its records.
const PLACES_MAX: usize = 64;

impl<D: Disk> Log<D> {
    /// The batch that should stand at `bad` does not: from there to where the log goes on the range is quarantined (I14),
    /// unless the log was cut since the `generation` in which it was read. Answers the error to give.
    pub(super) async fn report_damage(&self, generation: u64, bad: Mark) -> ReadError {
        let vanished = || ReadError::Io(io::Error::other("a segment vanished under a read"));
        let (base, known) = {
            let state = self.lock();
            if state.generation != generation {
                return vanished();
            }
            let Some(at) = state.segment_of(bad.offset) else { return vanished() };
            let segment = &state.segments[at];
            let Some(index) = &segment.index else { return vanished() };
            let (offset, position) = state.written_end(at);
            let mark = index.above_position(bad.position).filter(|mark| mark.position < position);
            (segment.base, mark.unwrap_or(Mark { offset, position }))
        };
        let next = match self.segment_file(base).await {
            // A device that cannot be read here leaves it at what is known.
            Ok(file) => goes_on(&file, bad, known).await.unwrap_or(known),
            Err(_) => known,
        };
        let mut state = self.lock();
        if state.generation != generation {
            return vanished();
        }
        let damage = Damage {
            start: Point { offset: bad.offset, segment: base, position: bad.position },
            end: next.offset,
            end_position: next.position,
        };
        if state.add_damage(damage) {
            tracing::error!(
                partition = %self.inner.partition, start = %bad.offset, end = %damage.end,
                "damaged bytes found: the range is quarantined"
            );
        }
        ReadError::Quarantined(self.describe(&state, &damage))
    }
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
