//! The end of a log that the journal does not know: its batches, as far as they are whole and in order (E1).
//!
//! A batch's checksum does not cover its leader epoch. Batches of several bear one another out: epochs never fall along a
//! log, and none is newer than the newest that was given out. One batch whose epoch cannot be true has a rotten one, and
//! goes on with that of its neighbours; anything else that cannot be true ends the log (I3, I14).

use std::collections::BTreeMap;
use std::io;

use env::{Disk, File};
use types::mutant::{Mutant, planted};
use types::{LeaderEpoch, Offset};

use super::Opening;
use super::redo::Redo;
use crate::log::{Point, SCAN_BYTES};
use crate::walk::{Step, Walk};

/// First byte of a batch that holds its leader epoch.
const EPOCH_AT: u64 = 12;

/// Batches in a row whose headers name the same epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    /// As it stands; one below zero is none.
    epoch: i32,
    batches: u64,
    /// Where the first of them begins.
    start: Point,
}

impl<D: Disk> Opening<D> {
    /// The journal knows nothing of a page-cache log's data, and not all of a log whose frames it lost: such a log goes
    /// on as far as its batches are whole and in order. What is found is written again: after a failed sync the page
    /// cache may show bytes that are not on the medium, and a sync would call them safe (I10).
    pub(super) async fn extend(
        &mut self,
        redo: &mut Redo<D::File>,
        segments: &BTreeMap<Offset, u64>,
    ) -> io::Result<()> {
        // Epochs of records below the start bind nobody any more.
        let is_forgotten = redo.stored.log_start >= redo.end.offset;
        let known = redo.stored.epochs.iter().filter(|epoch| epoch.start < redo.end.offset);
        let known = known.map(|epoch| epoch.epoch).max().filter(|_| !is_forgotten);
        let stored = &redo.stored;
        let place = (stored.topic_id, stored.partition.partition);
        let given = self.door.options.newest_epochs.get(&place).copied();
        let Found { runs, pieces, end } = self.look(redo, segments).await?;
        let epochs = bear_out(&runs, known, given);
        let end = runs.get(epochs.len()).map_or(end, |run| run.start);
        for (start, piece_end) in pieces.into_iter().take_while(|(start, _)| *start <= end) {
            self.rewrite(redo, start, piece_end.min(end)).await?;
        }
        for (run, epoch) in runs.iter().zip(epochs).filter(|(run, epoch)| run.epoch != epoch.0) {
            let (partition, offset) = (&redo.stored.partition, run.start.offset);
            tracing::warn!(
                %partition, %offset, found = run.epoch, %epoch,
                "the leader epoch of a batch has rotted: it has that of its neighbours again"
            );
            let file = redo.file(&self.disk, run.start.segment).await?;
            let bytes = epoch.0.to_be_bytes().to_vec().into();
            file.write_at(run.start.position + EPOCH_AT, vec![bytes]).await?;
        }
        Ok(())
    }

    /// The whole batches from the log's end on.
    async fn look(
        &mut self,
        redo: &mut Redo<D::File>,
        segments: &BTreeMap<Offset, u64>,
    ) -> io::Result<Found> {
        let mut found = Found { runs: Vec::new(), pieces: Vec::new(), end: redo.end };
        let end = &mut found.end;
        loop {
            // What lies below the log start may be gone already; the log goes on in the segment that holds the start.
            let start = redo.stored.log_start;
            if end.offset <= start
                && let Some((&base, _)) = segments.range(..=start).next_back()
                && base > end.segment
            {
                *end = Point { offset: base, segment: base, position: 0 };
            }
            let Some(&len) = segments.get(&end.segment) else { return Ok(found) };
            let from = *end;
            if len > end.position {
                let file = redo.file(&self.disk, end.segment).await?;
                let beyond = Offset(end.segment.0 + 1);
                let next = segments.range(beyond..).next().map(|(base, _)| *base);
                let mut walk =
                    Walk::new(file, end.position, len, SCAN_BYTES).from(end.offset).verified();
                while let Step::Batch(position, header) = walk.next().await? {
                    // A batch that reaches into the next segment was cut, and the log began again there.
                    if next.is_some_and(|next| header.end_offset() > next) {
                        break;
                    }
                    let epoch = header.epoch();
                    match found.runs.last_mut() {
                        Some(run) if run.epoch == epoch => run.batches += 1,
                        _ if header.end_offset() <= start => {}
                        _ => found.runs.push(Run { epoch, batches: 1, start: *end }),
                    }
                    end.offset = header.end_offset();
                    end.position = position + header.bytes_total() as u64;
                }
            }
            found.pieces.push((from, *end));
            let next = end.offset;
            if next == end.segment || !segments.contains_key(&next) {
                return Ok(found);
            }
            *end = Point { offset: next, segment: next, position: 0 };
        }
    }

    /// Takes the log on from `start` to `end`, in the same segment, and writes again what lies there.
    async fn rewrite(
        &mut self,
        redo: &mut Redo<D::File>,
        start: Point,
        end: Point,
    ) -> io::Result<()> {
        if redo.end.segment != start.segment && redo.end.offset == start.offset {
            redo.roll(start.segment);
        }
        redo.end = end;
        self.report.walked_bytes += end.position - start.position;
        if start == end {
            return Ok(());
        }
        let file = redo.file(&self.disk, end.segment).await?;
        redo.touched.insert(end.segment);
        self.has_rewritten = true;
        let mut at = start.position;
        while at < end.position {
            let wanted = (end.position - at).min(SCAN_BYTES as u64) as usize;
            let bytes = file.read_at(at, wanted).await?;
            if bytes.is_empty() {
                break;
            }
            at += bytes.len() as u64;
            file.write_at(at - bytes.len() as u64, vec![bytes]).await?;
        }
        Ok(())
    }
}

/// What lies beyond the known end of a log.
struct Found {
    runs: Vec<Run>,
    /// Where it lies, from where to where in each segment, in order.
    pieces: Vec<(Point, Point)>,
    end: Point,
}

/// The epochs that the batches of `runs` go on with, as far as these are taken for a log's that bore `known` last and was
/// given none beyond `given`. One batch alone is taken for rotten if others bear out that its epoch cannot be: the most
/// batches whose epochs can all be true are believed. Of its neighbours' epochs it gets the one that fewer bits tell from
/// its own. A batch older than what precedes it, with nothing newer behind it, is what a power cut has left; and more than
/// one batch that are out of order are no rot.
fn bear_out(
    runs: &[Run],
    known: Option<LeaderEpoch>,
    given: Option<LeaderEpoch>,
) -> Vec<LeaderEpoch> {
    if planted(Mutant::EpochRotBelieved) {
        return runs.iter().map(|run| LeaderEpoch(run.epoch)).collect();
    }
    let least = known.map_or(if given.is_some() { 0 } else { -1 }, |known| known.0);
    let most = given.map_or(i32::MAX, |given| given.0.max(least));
    let can_be = |run: &Run| run.epoch >= least && (run.epoch <= most || run.batches > 1);
    // By the last epoch of an order: the batches in it, and its last run. A later epoch stands for more batches, or goes.
    let mut orders: BTreeMap<i32, (u64, usize)> = BTreeMap::new();
    let mut before = vec![None; runs.len()];
    for (at, run) in runs.iter().enumerate().filter(|(_, run)| can_be(run)) {
        let longest = orders.range(..=run.epoch).next_back().map(|(_, order)| *order);
        let batches = run.batches + longest.map_or(0, |(batches, _)| batches);
        before[at] = longest.map(|(_, last)| last);
        while let Some((&epoch, _)) =
            orders.range(run.epoch..).next().filter(|(_, (fewer, _))| *fewer <= batches)
        {
            orders.remove(&epoch);
        }
        orders.insert(run.epoch, (batches, at));
    }
    let mut believed = vec![false; runs.len()];
    let mut next = orders.last_key_value().map(|(_, (_, last))| *last);
    while let Some(at) = next {
        believed[at] = true;
        next = before[at];
    }
    let mut last = known.map(|known| known.0);
    let mut epochs = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        if !believed[at] {
            let later = runs[at..].iter().zip(&believed[at..]).find(|(_, believed)| **believed);
            let later = later.map(|(run, _)| run.epoch);
            let next = later.or(given.map(|_| most).filter(|most| run.epoch > *most));
            let bits = |epoch: &i32| (epoch ^ run.epoch).count_ones();
            let nearest = last.into_iter().chain(next).min_by_key(bits);
            match nearest.filter(|_| next.is_some() && run.batches == 1) {
                Some(nearest) => last = Some(nearest),
                None => break,
            }
        } else {
            last = Some(run.epoch);
        }
        epochs.extend(last.map(LeaderEpoch));
    }
    epochs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The epochs of logs that bore `known` and were given `given`: batches of one epoch each.
    fn borne(known: i32, given: i32, epochs: &[i32]) -> Vec<i32> {
        let mut runs: Vec<Run> = Vec::new();
        for &epoch in epochs {
            match runs.last_mut() {
                Some(run) if run.epoch == epoch => run.batches += 1,
                _ => runs.push(Run { epoch, batches: 1, start: Point::default() }),
            }
        }
        let some = |epoch: i32| (epoch >= 0).then_some(LeaderEpoch(epoch));
        let batches = runs.iter().map(|run| run.batches as usize);
        let told = bear_out(&runs, some(known), some(given));
        told.iter().zip(batches).flat_map(|(epoch, n)| vec![epoch.0; n]).collect()
    }

    #[test]
    fn epochs_that_can_be_are_believed() {
        for epochs in [&[][..], &[1], &[1, 1, 2, 2, 5], &[0, 3, 4]] {
            assert_eq!(borne(-1, 5, epochs), epochs);
            assert_eq!(borne(-1, -1, epochs), epochs);
        }
        // More than one batch that nobody was to write is no rot: who leads will refuse to go on (I16).
        assert_eq!(borne(1, 1, &[1, 7, 7]), [1, 7, 7]);
        // What was never placed stays so.
        assert_eq!(borne(-1, -1, &[-1, -1]), [-1, -1]);
    }

    #[test]
    fn each_bit_of_one_epoch_among_equal_ones_is_healed() {
        for epoch in [0, 1, 6, 28, i32::MAX] {
            for bit in 0..32 {
                for at in 0..4 {
                    let mut epochs = [epoch; 4];
                    epochs[at] ^= 1 << bit;
                    // The last one, if older than those before, is not told from what a power cut has left.
                    let kept = if at == 3 && epochs[3] < epoch { 3 } else { 4 };
                    let told = borne(epoch, epoch, &epochs);
                    assert_eq!(told, vec![epoch; kept], "bit {bit} of {at}");
                    // Nobody knows which epochs were given out: only the last one may be what it says.
                    if at < 3 {
                        assert_eq!(borne(epoch, -1, &epochs), [epoch; 4], "bit {bit} of {at}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_most_batches_that_can_be_in_order_are_believed() {
        assert_eq!(borne(1, 3, &[1, 1, 3, 3, 3, 2, 3]), [1, 1, 3, 3, 3, 3, 3]);
        assert_eq!(borne(1, 3, &[1, 3, 1, 1, 2, 3]), [1, 1, 1, 1, 2, 3]);
        // The bits tell whose it was.
        assert_eq!(borne(1, 6, &[1, 22, 6, 6]), [1, 6, 6, 6]);
        assert_eq!(borne(1, 6, &[1, 17, 6, 6]), [1, 1, 6, 6]);
        assert_eq!(borne(1, 6, &[1, 1, 22]), [1, 1, 6]);
    }

    #[test]
    fn what_is_no_rot_ends_the_log() {
        // Older than what precedes it: what stood there before.
        assert_eq!(borne(2, 2, &[2, 2, 1]), [2, 2]);
        assert_eq!(borne(2, 2, &[1, 1]), []);
        // More than one batch out of order.
        assert_eq!(borne(1, 4, &[1, 1, 4, 4, 2, 2, 2]), [1, 1]);
    }
}
