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

/// What a second look at a refused range told.
struct Again {
    refused: Vec<Damage>,
    damaged: Option<Mark>,
}

/// So many refusals in a row are met mark by mark; behind them the steps grow, and this is the first.
const PATIENCE: u32 = 32;
const STEP_BYTES: u64 = 4 << 10;

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
            let Ok(Again { refused, damaged }) = self.ask_again(&range).await else { continue };
            if refused == [range] {
                continue;
            }
            {
                let mut state = self.lock();
                if state.generation != generation {
                    break;
                }
                let Some(at) = state.damages.iter().position(|known| *known == range) else {
                    continue;
                };
                state.damages.remove(at);
                for still in &refused {
                    state.add_damage(*still);
                }
                state.drop_partial_index(range.start.segment);
            }
            tracing::warn!(
                partition = %self.inner.partition, start = %range.start.offset, end = %range.end,
                refused_still = refused.len(), damaged = damaged.is_some(),
                "the device reads records again that it refused"
            );
            if let Some(bad) = damaged {
                self.report_damage(generation, range.start.segment, bad).await;
            }
        }
        refused().1.len()
    }

    /// What of the range the device refuses still, and the first place where what it reads is damaged. Behind many refusals
    /// the steps grow: a device that is dead answers slowly. What is stepped over counts as refused.
    async fn ask_again(&self, range: &Damage) -> io::Result<Again> {
        let segment = range.start.segment;
        // By its marks, if it has any, a range is taken apart.
        _ = self.load_index(segment).await;
        let path = Kind::Log.path(&self.inner.path, segment);
        let file = self.inner.door.disk.open(&path, OpenMode::Read).await?;
        let end = Mark { offset: range.end, position: range.end_position };
        let mut again = Again { refused: Vec::new(), damaged: None };
        let epochs = self.lock().epochs.clone();
        let (mut at, mut step, mut refusals) = (range.start.mark(), 0, 0);
        while at.position < end.position {
            let walk = Walk::new(file.clone(), at.position, end.position, SCAN_BYTES);
            let mut walk = walk.from(at.offset).once().verified();
            let began = at.position;
            let stopped = loop {
                match walk.next().await {
                    Ok(Step::Batch(position, header)) if epochs.vouch_for(&header) => {
                        at.offset = header.end_offset();
                        at.position = position + header.bytes_total() as u64;
                    }
                    stopped => break stopped,
                }
            };
            match stopped {
                Err(_) => {
                    refusals = if at.position > began { 1 } else { refusals + 1 };
                    step = if refusals > PATIENCE { 2 * step + STEP_BYTES } else { 0 };
                    let beyond = Mark { position: at.position + step, ..at };
                    let next = self.lock().known_above(segment, beyond, end);
                    let start = Point { offset: at.offset, segment, position: at.position };
                    let still =
                        Damage { start, end: next.offset, end_position: next.position, ..*range };
                    match again.refused.last_mut() {
                        Some(last) if last.end == at.offset => {
                            (last.end, last.end_position) = (still.end, still.end_position);
                        }
                        _ => again.refused.push(still),
                    }
                    at = next;
                }
                Ok(Step::End) if at.offset == end.offset => break,
                // What is behind is looked at by readers: it is told from what is damaged there.
                Ok(_) => {
                    again.damaged = Some(at);
                    break;
                }
            }
        }
        Ok(again)
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
