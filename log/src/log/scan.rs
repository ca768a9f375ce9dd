//! Walking a whole log by its headers, and producer state from the nearest snapshot: for recovery and truncation.

use std::io;

use env::Disk;
use record::BatchHeader;
use types::{Offset, Timestamp};

use super::Log;
use super::read::{SCAN_BYTES, read_derived};
use crate::index::Mark;
use crate::layout::Kind;
use crate::producers::Producers;
use crate::walk::{Step, Walk};

impl<D: Disk> Log<D> {
    /// Shows `visit` every batch that ends beyond `from`, in order. Damaged ranges are passed over. Answers the bytes
    /// walked.
    pub(crate) async fn scan(
        &self,
        from: Offset,
        mut visit: impl FnMut(&BatchHeader),
    ) -> io::Result<u64> {
        let mut walked = 0;
        let mut base = {
            let state = self.lock();
            let first = state.segment_of(from).or((!state.segments.is_empty()).then_some(0));
            first.map(|at| state.segments[at].base)
        };
        while let Some(segment) = base {
            // An index saves walking the part before `from`; without one the whole segment is walked.
            let (mark, next, size, mut damages) = {
                let state = self.lock();
                let Some(at) = state.segment_of(segment) else { break };
                let size = state.written_end(at).1;
                let index = state.segments[at].index.as_ref();
                let first = Mark { offset: segment, position: 0 };
                let mark = index.map_or(first, |index| index.floor(from));
                let next = state.segments.get(at + 1).map(|next| next.base);
                let damages: Vec<_> =
                    state.damages.iter().filter(|d| d.start.segment == segment).copied().collect();
                (mark, next, size, damages.into_iter().peekable())
            };
            let Mark { mut offset, mut position } = mark;
            while position < size {
                while damages.next_if(|damage| damage.end_position <= position).is_some() {}
                let end = damages.peek().map_or(size, |damage| damage.start.position.max(position));
                let file = self.segment_file(segment).await?;
                let mut walk = Walk::new(file, position, end, SCAN_BYTES).from(offset);
                while let Step::Batch(at, header) = walk.next().await? {
                    walked += header.bytes_total() as u64;
                    position = at + header.bytes_total() as u64;
                    if header.end_offset() > from {
                        visit(&header);
                    }
                }
                match damages.next() {
                    Some(damage) => {
                        position = damage.end_position.max(position + 1);
                        offset = damage.end;
                    }
                    None => break,
                }
            }
            base = next;
        }
        Ok(walked)
    }

    /// The newest usable producer snapshot at or below `end`, and the offset from which batches must be added. Damaged
    /// snapshots, and those of a segment that is gone, are passed over (E4).
    pub(crate) async fn nearest_snapshot(
        &self,
        end: Offset,
        now: Timestamp,
    ) -> io::Result<(Producers, Offset)> {
        let first = self.lock().segments.front().map_or(end, |segment| segment.base);
        let disk = &self.inner.door.disk;
        let mut offsets: Vec<Offset> = disk
            .list(&self.inner.path)
            .await?
            .iter()
            .filter_map(|entry| Kind::parse(&entry.name))
            .filter(|(kind, offset)| *kind == Kind::Snapshot && *offset <= end && *offset >= first)
            .map(|(_, offset)| offset)
            .collect();
        offsets.sort();
        while let Some(offset) = offsets.pop() {
            let file = read_derived(disk, &Kind::Snapshot.path(&self.inner.path, offset)).await;
            if let Some(mut producers) = Producers::from_snapshot(file, offset) {
                producers.clamp_times(now);
                return Ok((producers, offset));
            }
        }
        Ok((Producers::default(), Offset::ZERO))
    }

    /// Producer state as of `end`.
    pub(crate) async fn rebuild_producers(
        &self,
        end: Offset,
        now: Timestamp,
    ) -> io::Result<Producers> {
        let (mut producers, from) = self.nearest_snapshot(end, now).await?;
        self.scan(from, |header| {
            if header.base_offset() >= from && header.end_offset() <= end {
                producers.add(header, now);
            }
        })
        .await?;
        Ok(producers)
    }
}
