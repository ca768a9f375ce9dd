//! The epoch cache: where each leader epoch of a log begins (I4).
//!
//! Derivable from the batches' headers; kept so that "where does epoch e end?" needs no reading. Entries are strictly
//! increasing in epoch and in start offset: an epoch that appended nothing before the next one began leaves no entry.

use record::BatchHeader;
use types::mutant::{Mutant, planted};
use types::{LeaderEpoch, Offset};

/// The first offset of an epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EpochStart {
    pub epoch: LeaderEpoch,
    pub start: Offset,
}

/// Where each leader epoch begins.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Epochs {
    entries: Vec<EpochStart>,
}

impl Epochs {
    /// A cache of entries that were stored; those out of order are dropped with what follows them (E5).
    pub fn from_stored(stored: impl IntoIterator<Item = EpochStart>) -> Epochs {
        let mut epochs = Epochs::default();
        for entry in stored {
            let in_order = epochs
                .entries
                .last()
                .is_none_or(|last| last.epoch < entry.epoch && last.start < entry.start);
            if !in_order || entry.epoch.0 < 0 {
                break;
            }
            epochs.entries.push(entry);
        }
        epochs
    }

    /// The entries in order.
    pub fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    /// The newest epoch.
    pub fn newest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|entry| entry.epoch)
    }

    /// Epoch `epoch` begins at `start`, unless it is known already. An epoch in which nothing was appended before
    /// `start` disappears (E5, E21).
    pub fn begin(&mut self, epoch: LeaderEpoch, start: Offset) {
        if self.newest().is_some_and(|newest| newest >= epoch) {
            return;
        }
        self.truncate_end(start);
        self.entries.push(EpochStart { epoch, start });
    }

    /// The log now ends at `end`: later epochs are gone, and so is one that began exactly there (KAFKA-10706).
    pub fn truncate_end(&mut self, end: Offset) {
        self.entries.retain(|entry| entry.start < end);
    }

    /// The log now starts at `start`.
    pub fn truncate_start(&mut self, start: Offset) {
        let keep = self.entries.iter().rposition(|entry| entry.start <= start);
        if let Some(keep) = keep {
            self.entries.drain(..keep);
            self.entries[0].start = start;
        }
    }

    /// The largest epoch not above `epoch` and where it ends, in a log that ends at `log_end`; the answer to
    /// OffsetForLeaderEpoch. `None` when `epoch` is newer than all, none at all (negative), or there is none.
    pub fn end_of(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<(LeaderEpoch, Offset)> {
        let is_none = epoch.0 < 0 && !planted(Mutant::NoEpochAnswered);
        if is_none || self.newest()? < epoch {
            return None;
        }
        let next = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let end = self.entries.get(next).map_or(log_end, |entry| entry.start);
        // Older than all: the epoch itself, ending where the oldest known one starts.
        let floor = next.checked_sub(1).map_or(epoch, |floor| self.entries[floor].epoch);
        Some((floor, end))
    }

    /// The epoch of the batch at `offset`.
    pub fn at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let next = self.entries.partition_point(|entry| entry.start <= offset);
        next.checked_sub(1).map(|index| self.entries[index].epoch)
    }

    /// Whether a batch bears the epoch that is known of its offsets (I4): its own checksum does not cover it. Of a batch that
    /// lies before the oldest epoch known there is nothing to say; one in which the log starts ends behind it.
    pub fn vouch_for(&self, header: &BatchHeader) -> bool {
        let bears = header.leader_epoch();
        self.at(header.last_offset()).is_none_or(|known| known.0 < 0 || bears == Some(known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> Epochs {
        Epochs::from_stored(
            entries.iter().map(|&(e, s)| EpochStart { epoch: LeaderEpoch(e), start: Offset(s) }),
        )
    }

    #[test]
    fn an_epoch_without_records_leaves_no_entry() {
        let mut cache = epochs(&[(1, 0)]);
        cache.begin(LeaderEpoch(2), Offset(10));
        cache.begin(LeaderEpoch(4), Offset(10));
        assert_eq!(cache, epochs(&[(1, 0), (4, 10)]));
        cache.begin(LeaderEpoch(4), Offset(20));
        cache.begin(LeaderEpoch(3), Offset(20));
        assert_eq!(cache, epochs(&[(1, 0), (4, 10)]));
    }

    #[test]
    fn truncation_drops_what_begins_at_the_new_end() {
        let mut cache = epochs(&[(1, 0), (2, 10), (3, 20)]);
        cache.truncate_end(Offset(20));
        assert_eq!(cache, epochs(&[(1, 0), (2, 10)]));
        cache.truncate_end(Offset(11));
        assert_eq!(cache, epochs(&[(1, 0), (2, 10)]));
        cache.truncate_start(Offset(15));
        assert_eq!(cache, epochs(&[(2, 15)]));
        cache.truncate_end(Offset(0));
        assert_eq!(cache, Epochs::default());
    }

    #[test]
    fn ends_of_epochs_as_kafka_answers() {
        let cache = epochs(&[(2, 5), (4, 10), (7, 30)]);
        let end = |epoch| cache.end_of(LeaderEpoch(epoch), Offset(50)).map(|(e, o)| (e.0, o.0));
        assert_eq!(end(1), Some((1, 5)));
        assert_eq!(end(2), Some((2, 10)));
        assert_eq!(end(5), Some((4, 30)));
        assert_eq!(end(7), Some((7, 50)));
        assert_eq!(end(8), None);
        assert_eq!(end(-1), None);
        assert_eq!(Epochs::default().end_of(LeaderEpoch(0), Offset(0)), None);
        assert_eq!(cache.at(Offset(4)), None);
        assert_eq!(cache.at(Offset(29)), Some(LeaderEpoch(4)));
    }

    #[test]
    fn stored_entries_out_of_order_are_dropped() {
        assert_eq!(epochs(&[(1, 0), (2, 0), (3, 5)]), epochs(&[(1, 0)]));
        assert_eq!(epochs(&[(5, 10), (4, 20)]), epochs(&[(5, 10)]));
    }
}
