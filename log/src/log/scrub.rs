//! Cold bytes are looked at before a reader asks for them: each batch's checksum, and that offsets follow one another.
//! What is found bad is quarantined as if a reader had met it (I14).

use env::{Disk, OpenMode};
use types::Offset;
use types::mutant::{Mutant, planted};

use super::read::SCAN_BYTES;
use super::{Damage, Log};
use crate::ReadError;
use crate::index::Mark;
use crate::layout::Kind;
use crate::walk::{Step, Walk};

/// What a look at a part of a segment gave.
#[derive(Debug)]
pub(crate) struct Scrubbed {
    /// Where to go on in the segment; `None` at its end.
    pub next: Option<Mark>,
    /// Bytes looked at.
    pub bytes: u64,
    /// Whether a range was found bad that was not known.
    pub is_damaged: bool,
}

impl<D: Disk> Log<D> {
    /// The first segment at or above `from` that is not appended to any more and safe on the disk.
    pub(crate) fn cold_segment(&self, from: Offset) -> Option<Offset> {
        let state = self.lock();
        let active = state.segments.back()?.base;
        let is_cold = |base: Offset, end: Offset| base < active && end <= state.stable.offset;
        let mut later = state.segments.iter().filter(|segment| segment.base >= from);
        later.find(|segment| is_cold(segment.base, segment.end)).map(|segment| segment.base)
    }

    /// Looks at about `bytes_max` bytes of a cold segment, from the batch at `from` on.
    pub(crate) async fn scrub(
        &self,
        segment: Offset,
        from: Mark,
        bytes_max: u64,
    ) -> Result<Scrubbed, ReadError> {
        let (generation, epochs, size, damages) = {
            let state = self.lock();
            let Some(at) = state.segments.iter().position(|other| other.base == segment) else {
                return Ok(Scrubbed { next: None, bytes: 0, is_damaged: false });
            };
            let damages = state.damages.iter().filter(|damage| damage.start.segment == segment);
            let damages: Vec<Damage> = damages.copied().collect();
            (state.generation, state.epochs.clone(), state.written_end(at).1, damages)
        };
        // What is known to be bad is passed over.
        let mut mark = from;
        for damage in &damages {
            if (damage.start.position..damage.end_position).contains(&mark.position) {
                mark = Mark { offset: damage.end, position: damage.end_position };
            }
        }
        let bad_ones = damages.iter().map(|damage| damage.start.position);
        let end = bad_ones.filter(|at| *at > mark.position).min().unwrap_or(size);
        // A handle of its own: readers' handles are few, and their readahead is not for us.
        let path = Kind::Log.path(&self.inner.path, segment);
        let file = self.inner.door.disk.open(&path, OpenMode::Read).await.map_err(ReadError::Io)?;
        let began = mark.position;
        let mut walk = Walk::new(file, began, end, SCAN_BYTES).from(mark.offset).once();
        if !planted(Mutant::ScrubberBlind) {
            walk = walk.verified();
        }
        let mut is_damaged = false;
        while mark.position - began < bytes_max {
            match walk.next().await.map_err(ReadError::Io)? {
                Step::Batch(at, header) if epochs.vouch_for(&header) => {
                    mark.offset = header.end_offset();
                    mark.position = at + header.bytes_total() as u64;
                }
                Step::End => break,
                Step::Batch(..) | Step::Bad => {
                    let error = self.report_damage(generation, segment, mark).await;
                    let ReadError::Quarantined(_) = error else { return Err(error) };
                    is_damaged = true;
                    break;
                }
            }
        }
        let mut state = self.lock();
        if state.generation == generation
            && let Some(segment) = state.segment(segment)
        {
            segment.sound.add(began, mark.position);
        }
        let next = Some(mark).filter(|mark| mark.position < size);
        Ok(Scrubbed { next, bytes: mark.position - began, is_damaged })
    }
}
