//! The shape of the metadata log: where its epochs begin and how far it is synced. Elections and fetches need no more of it.
//!
//! ```text
//!  start          epoch 4       epoch 6          durable     end
//!  ---|--------------|-------------|-----------------|---------|-->
//!     | before it: a snapshot      | synced          | written
//! ```
//!
//! Log matching (I17) makes a [`Position`] stand for everything before it: two logs whose record before an offset has the
//! same epoch are the same up to there.

use serde::{Deserialize, Serialize};
use types::{Offset, QuorumEpoch};

/// A place in the log: everything below `offset`, the last record of it in `epoch`. Of two logs the one whose end is the
/// greater is the more up to date (Raft, section 5.4.1).
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Position {
    /// Epoch of the record before `offset`; 0 if there is none.
    pub epoch: QuorumEpoch,
    /// The offset.
    pub offset: Offset,
}

impl Position {
    /// The position of that epoch and offset.
    pub fn new(epoch: i32, offset: i64) -> Position {
        Position { epoch: QuorumEpoch(epoch), offset: Offset(offset) }
    }
}

/// What a log knows of another's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    /// It is a place in this log, too.
    Matches,
    /// The logs part before it: at this place at the latest.
    Diverges(Position),
    /// What follows it, or where they part, is in a snapshot only.
    BeforeStart,
}

/// The shape of one log.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Shape {
    start: Position,
    /// The first offset of each epoch, ascending; those of epochs that begin below `start` are forgotten.
    epochs: Vec<Position>,
    end: Offset,
    durable: Offset,
}

impl Shape {
    /// A log without records that begins at `start`, where a snapshot ends.
    pub fn new(start: Position) -> Shape {
        Shape { start, epochs: Vec::new(), end: start.offset, durable: start.offset }
    }

    /// Where it begins.
    pub fn start(&self) -> Position {
        self.start
    }

    /// End of what is written.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// End of what is synced.
    pub fn durable(&self) -> Offset {
        self.durable
    }

    /// Its end as a position.
    pub fn last(&self) -> Position {
        let epoch = self.epochs.last().map_or(self.start.epoch, |first| first.epoch);
        Position { epoch, offset: self.end }
    }

    /// The end of what is synced as a position.
    pub fn synced(&self) -> Position {
        let epoch = self.epoch_before(self.durable).unwrap_or(self.start.epoch);
        Position { epoch, offset: self.durable }
    }

    /// Records of `epoch` were written; the log ends at `end` now.
    pub fn append(&mut self, epoch: QuorumEpoch, end: Offset) {
        let last = self.last();
        assert!(epoch >= last.epoch, "epoch {epoch} behind {} (I3)", last.epoch);
        assert!(end > last.offset, "an append of nothing at {end}");
        if epoch > last.epoch {
            self.epochs.push(Position { epoch, offset: last.offset });
        }
        self.end = end;
    }

    /// Everything below `end` is synced, of what the log holds now.
    pub fn sync(&mut self, end: Offset) {
        self.durable = self.durable.max(end.min(self.end));
    }

    /// The log ends at `end` now.
    pub fn truncate(&mut self, end: Offset) {
        assert!(self.start.offset <= end && end <= self.end, "no end of this log: {end}");
        self.epochs.retain(|first| first.offset < end);
        self.end = end;
        self.durable = self.durable.min(end);
    }

    /// A snapshot holds everything below `start`: the log forgets it.
    pub fn trim(&mut self, start: Offset) {
        let epoch = self.epoch_before(start).expect("a log is trimmed within its bounds");
        self.epochs.retain(|first| first.offset >= start);
        self.start = Position { epoch, offset: start };
        // The snapshot is durable, whatever of the log was.
        self.durable = self.durable.max(start);
    }

    /// Epoch of the record before `offset`; `None` outside the log.
    pub fn epoch_before(&self, offset: Offset) -> Option<QuorumEpoch> {
        if offset < self.start.offset || offset > self.end {
            return None;
        }
        let later = self.epochs.partition_point(|first| first.offset < offset);
        Some(later.checked_sub(1).map_or(self.start.epoch, |at| self.epochs[at].epoch))
    }

    /// Where the records of the last epoch that is at most `epoch` end; `None` if they end before the log begins.
    pub fn end_of(&self, epoch: QuorumEpoch) -> Option<Position> {
        let later = self.epochs.partition_point(|first| first.epoch <= epoch);
        let end = self.epochs.get(later).map_or(self.end, |next| next.offset);
        match later.checked_sub(1) {
            Some(at) => Some(Position { epoch: self.epochs[at].epoch, offset: end }),
            None if self.start.epoch <= epoch => {
                Some(Position { epoch: self.start.epoch, offset: end })
            }
            None => None,
        }
    }

    /// Whether `position` is a place in this log; if not, where to look next. Each answer is below `position`, so that who
    /// cuts its log there and asks again comes to an end.
    pub fn look(&self, position: Position) -> Look {
        if position.offset < self.start.offset {
            return Look::BeforeStart;
        }
        if self.epoch_before(position.offset) == Some(position.epoch) {
            return Look::Matches;
        }
        let shared = self.end_of(position.epoch);
        let shared = shared.filter(|shared| *shared < position);
        // A log that is right never gets here with its own end: the record before the place has another epoch.
        let shared =
            shared.or_else(|| self.end_of(QuorumEpoch(position.epoch.0.saturating_sub(1))));
        shared.map_or(Look::BeforeStart, Look::Diverges)
    }

    /// Where a follower cuts its log when the leader's parts from it at `shared`.
    pub fn cut_for(&self, shared: Position) -> Offset {
        self.end_of(shared.epoch).map_or(self.start.offset, |own| own.offset.min(shared.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Epoch 1 from 0, epoch 3 from 4, epoch 4 from 6; ends at 7.
    fn shape() -> Shape {
        let mut shape = Shape::default();
        for (epoch, end) in [(1, 4), (3, 6), (4, 7)] {
            shape.append(QuorumEpoch(epoch), Offset(end));
        }
        shape
    }

    #[test]
    fn places_are_found_or_lead_back() {
        let rows = [
            (Position::new(0, 0), Look::Matches),
            (Position::new(1, 1), Look::Matches),
            (Position::new(1, 4), Look::Matches),
            (Position::new(3, 5), Look::Matches),
            (Position::new(4, 7), Look::Matches),
            (Position::new(4, 9), Look::Diverges(Position::new(4, 7))),
            (Position::new(1, 6), Look::Diverges(Position::new(1, 4))),
            (Position::new(2, 6), Look::Diverges(Position::new(1, 4))),
            (Position::new(9, 2), Look::Diverges(Position::new(4, 7))),
            // No right log has this: epoch 3 begins at 4 everywhere.
            (Position::new(3, 2), Look::Diverges(Position::new(1, 4))),
        ];
        for (position, expected) in rows {
            assert_eq!(shape().look(position), expected, "{position:?}");
        }
    }

    #[test]
    fn a_trimmed_log_knows_where_it_begins() {
        let mut shape = shape();
        shape.trim(Offset(5));
        assert_eq!(shape.start(), Position::new(3, 5));
        assert_eq!(shape.look(Position::new(3, 5)), Look::Matches);
        assert_eq!(shape.look(Position::new(3, 4)), Look::BeforeStart);
        assert_eq!(shape.look(Position::new(2, 6)), Look::BeforeStart);
        assert_eq!(shape.look(Position::new(3, 9)), Look::Diverges(Position::new(3, 6)));
        shape.trim(Offset(7));
        assert_eq!(shape.last(), Position::new(4, 7));
    }

    #[test]
    fn a_cut_takes_the_epochs_behind_it_along() {
        let mut shape = shape();
        shape.sync(Offset(7));
        // The leader has epoch 2, which this log lacks: everything of epoch 1 may be shared.
        assert_eq!(shape.cut_for(Position::new(2, 5)), Offset(4));
        assert_eq!(shape.cut_for(Position::new(3, 5)), Offset(5));
        shape.truncate(Offset(4));
        assert_eq!((shape.last(), shape.durable()), (Position::new(1, 4), Offset(4)));
    }
}
