//! Where the leader epochs of a log begin: enough to find where two replicas part.
//!
//! ```text
//!  start       epoch 3          epoch 5                    end
//!  ---|-----------|----------------|------------------------|-->
//! ```
//!
//! Log matching (I17) makes a [`Position`] stand for everything before it: two logs whose record before an offset has the
//! same epoch are the same up to there. A follower is led back epoch by epoch, never to a high watermark (KIP-101, KIP-279).

use serde::{Deserialize, Serialize};
use types::mutant::{Mutant, planted};
use types::{LeaderEpoch, Offset};

/// A place in a log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Position {
    /// Epoch of the record before `offset`; `None` if the log has none.
    pub epoch: Option<LeaderEpoch>,
    /// The offset.
    pub offset: Offset,
}

/// Records of one epoch, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Run {
    /// Their epoch.
    pub epoch: LeaderEpoch,
    /// Where they end.
    pub end: Offset,
}

/// What a log knows of another's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look {
    /// It is a place in this log, too.
    Matches,
    /// The logs part, at the end of this epoch here at the latest.
    Parts(Run),
    /// It lies before this log begins, or nothing of it is left here.
    OutOfRange,
}

/// The epochs of one log.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Lineage {
    start: Offset,
    /// The first offset of each epoch that has records, both ascending.
    epochs: Vec<(LeaderEpoch, Offset)>,
    end: Offset,
}

impl Lineage {
    /// The log from `start` to `end` with these beginnings of epochs, oldest first; an epoch without records counts for nothing.
    pub fn new(
        start: Offset,
        epochs: impl IntoIterator<Item = (LeaderEpoch, Offset)>,
        end: Offset,
    ) -> Lineage {
        assert!(start <= end, "a log that ends at {end} before it starts at {start}");
        let epochs = epochs.into_iter().filter(|(_, first)| *first < end).collect();
        let lineage = Lineage { start, epochs, end };
        assert!(lineage.epochs.is_sorted(), "epochs go back: {lineage:?} (I3)");
        lineage
    }

    /// Where it begins.
    pub fn start(&self) -> Offset {
        self.start
    }

    /// Where it ends.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Its end as a position.
    pub fn last(&self) -> Position {
        Position { epoch: self.epochs.last().map(|(epoch, _)| *epoch), offset: self.end }
    }

    /// Records were appended.
    pub(super) fn append(&mut self, run: Run) {
        let last = self.last();
        assert!(last.epoch <= Some(run.epoch), "epoch {} behind {last:?} (I3)", run.epoch);
        assert!(run.end > self.end, "an append of nothing at {}", run.end);
        if last.epoch < Some(run.epoch) {
            self.epochs.push((run.epoch, self.end));
        }
        self.end = run.end;
    }

    /// The log ends at `end` now.
    pub(super) fn truncate(&mut self, end: Offset) {
        assert!(self.start <= end && end <= self.end, "no end of this log: {end}");
        self.epochs.retain(|(_, first)| *first < end);
        self.end = end;
    }

    /// The log begins at `start` now.
    pub(super) fn trim(&mut self, start: Offset) {
        assert!(start <= self.end, "a log that ends at {} begins at {start}", self.end);
        let later = self.epochs.partition_point(|(_, first)| *first <= start);
        self.epochs.drain(..later.saturating_sub(1));
        self.start = self.start.max(start);
        if self.start == self.end {
            self.epochs.clear();
        }
    }

    /// Where the records of the last epoch that is at most `epoch` end. An epoch older than all has ended before the log begins.
    pub(super) fn end_of(&self, epoch: LeaderEpoch) -> Run {
        let later = self.epochs.partition_point(|(known, _)| *known <= epoch);
        let known = later.checked_sub(1).map_or(epoch, |at| self.epochs[at].0);
        let end = match self.epochs.get(later) {
            Some((_, first)) => (*first).max(self.start),
            None if later == 0 => self.start,
            None => self.end,
        };
        Run { epoch: known, end }
    }

    /// Whether `position` is a place in this log; if not, where to look next. Who cuts its log there and asks again comes to
    /// an end, since each answer takes records away.
    pub(super) fn look(&self, position: Position) -> Look {
        if position.offset < self.start {
            return Look::OutOfRange;
        }
        match position.epoch {
            None if position.offset <= self.end => Look::Matches,
            None => Look::OutOfRange,
            Some(epoch) => {
                let shared = self.end_of(epoch);
                let is_here = shared.epoch == epoch && position.offset <= shared.end;
                if is_here { Look::Matches } else { Look::Parts(shared) }
            }
        }
    }

    /// Where a follower cuts its log when the leader's has `shared` of what they have in common.
    pub(super) fn cut_for(&self, shared: Run) -> Offset {
        if planted(Mutant::CutByLeaderAlone) {
            return shared.end.clamp(self.start, self.end);
        }
        self.end_of(shared.epoch).end.min(shared.end).max(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(epoch: i32, end: i64) -> Run {
        Run { epoch: LeaderEpoch(epoch), end: Offset(end) }
    }

    fn at(epoch: i32, offset: i64) -> Position {
        Position { epoch: (epoch > 0).then_some(LeaderEpoch(epoch)), offset: Offset(offset) }
    }

    /// Epoch 1 from 0, epoch 3 from 4, epoch 4 from 6; ends at 7.
    fn lineage() -> Lineage {
        let mut lineage = Lineage::default();
        for (epoch, end) in [(1, 4), (3, 6), (4, 7)] {
            lineage.append(run(epoch, end));
        }
        lineage
    }

    #[test]
    fn places_are_found_or_lead_back() {
        let rows = [
            (at(0, 0), Look::Matches),
            (at(0, 7), Look::Matches),
            (at(0, 8), Look::OutOfRange),
            (at(1, 1), Look::Matches),
            (at(1, 4), Look::Matches),
            (at(3, 5), Look::Matches),
            (at(4, 7), Look::Matches),
            (at(4, 9), Look::Parts(run(4, 7))),
            (at(1, 6), Look::Parts(run(1, 4))),
            (at(2, 6), Look::Parts(run(1, 4))),
            (at(9, 2), Look::Parts(run(4, 7))),
        ];
        for (position, expected) in rows {
            assert_eq!(lineage().look(position), expected, "{position:?}");
        }
    }

    #[test]
    fn a_trimmed_log_answers_for_what_is_left() {
        let mut lineage = lineage();
        lineage.trim(Offset(5));
        assert_eq!(lineage.look(at(3, 4)), Look::OutOfRange);
        assert_eq!(lineage.look(at(3, 5)), Look::Matches);
        assert_eq!(lineage.look(at(3, 9)), Look::Parts(run(3, 6)));
        assert_eq!(lineage.look(at(1, 5)), Look::Matches, "below the start nothing is compared");
        assert_eq!(lineage.look(at(1, 6)), Look::Parts(run(1, 5)));
        lineage.trim(Offset(7));
        assert_eq!(lineage.last(), at(0, 7));
        assert_eq!(lineage.look(at(4, 8)), Look::Parts(run(4, 7)));
    }

    #[test]
    fn a_cut_takes_the_epochs_behind_it_along() {
        let mut lineage = lineage();
        // The leader has epoch 2, which this log lacks: everything of epoch 1 may be shared.
        assert_eq!(lineage.cut_for(run(2, 5)), Offset(4));
        assert_eq!(lineage.cut_for(run(3, 5)), Offset(5));
        lineage.truncate(Offset(4));
        assert_eq!(lineage.last(), at(1, 4));
        assert_eq!(lineage.cut_for(run(0, 0)), Offset(0));
    }
}
