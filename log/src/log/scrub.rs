//! Cold bytes are looked at before a reader asks for them: each batch's checksum, and that offsets follow one another.
//! What is found bad is quarantined as if a reader had met it (I14).

use std::io;

use env::{Disk, OpenMode};
use types::Offset;
use types::mutant::{Mutant, planted};

use super::read::SCAN_BYTES;
use super::{Damage, Log, Point};
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
    /// Whether a range was found bad that was not known, and whether that is because the device refuses it.
    pub found: Option<Finding>,
}

/// What is the matter with a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Finding {
    Damaged,
    Refused,
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

    /// Looks again at the ranges that the device refused to read; how many it still refuses. What can be read is served
    /// again, or known to be damaged.
    pub(crate) async fn look_again(&self) -> usize {
        let refused = || {
            let state = self.lock();
            let refused = state.damages.iter().filter(|damage| damage.is_unreadable);
            (state.generation, refused.copied().collect::<Vec<Damage>>())
        };
        let (generation, ranges) = refused();
        if planted(Mutant::RefusedForGood) {
            return ranges.len();
        }
        for range in ranges {
            let begin = mark_of(range.start);
            let Ok((good, rest)) = self.readable_part(&range).await else { continue };
            if rest == Some(Finding::Refused) && good == begin {
                continue;
            }
            let mut state = self.lock();
            if state.generation != generation {
                break;
            }
            state.damages.retain(|known| *known != range);
            let start = Point { offset: good.offset, position: good.position, ..range.start };
            if let Some(rest) = rest {
                let is_unreadable = rest == Finding::Refused;
                state.add_damage(Damage { start, is_unreadable, ..range });
            }
            tracing::warn!(
                partition = %self.inner.partition, start = %range.start.offset, end = %range.end,
                rest = ?rest, rest_start = %good.offset, "the device reads records again that it refused"
            );
        }
        refused().1.len()
    }

    /// How far whole batches lead from the beginning of the range, and what keeps them from its end.
    async fn readable_part(&self, range: &Damage) -> io::Result<(Mark, Option<Finding>)> {
        let path = Kind::Log.path(&self.inner.path, range.start.segment);
        let file = self.inner.door.disk.open(&path, OpenMode::Read).await?;
        let mut good = mark_of(range.start);
        let walk = Walk::new(file, good.position, range.end_position, SCAN_BYTES);
        let mut walk = walk.from(good.offset).once().verified();
        loop {
            match walk.next().await {
                Ok(Step::Batch(at, header)) => {
                    good.offset = header.end_offset();
                    good.position = at + header.bytes_total() as u64;
                }
                Ok(Step::End) if good.offset == range.end => return Ok((good, None)),
                Ok(Step::End | Step::Bad) => return Ok((good, Some(Finding::Damaged))),
                Err(_) => return Ok((good, Some(Finding::Refused))),
            }
        }
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
                return Ok(Scrubbed { next: None, bytes: 0, found: None });
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
        let mut found = None;
        while mark.position - began < bytes_max {
            match walk.next().await {
                Ok(Step::Batch(at, header)) if epochs.vouch_for(&header) => {
                    mark.offset = header.end_offset();
                    mark.position = at + header.bytes_total() as u64;
                }
                Ok(Step::End) => break,
                bad => {
                    let error = match bad {
                        Ok(_) => self.report_damage(generation, segment, mark).await,
                        Err(error) => {
                            self.report_unreadable(generation, segment, mark, error).await
                        }
                    };
                    let ReadError::Quarantined(range) = error else { return Err(error) };
                    let is_unreadable = range.is_unreadable;
                    found = Some(if is_unreadable { Finding::Refused } else { Finding::Damaged });
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
        Ok(Scrubbed { next, bytes: mark.position - began, found })
    }
}

fn mark_of(point: Point) -> Mark {
    Mark { offset: point.offset, position: point.position }
}
