//! Fetch sessions: the broker remembers which partitions a consumer reads, and each fetch names only what changed.
//!
//! One session per broker, and pure bookkeeping: what the broker is known to remember, and what the next request must
//! say so that it remembers what we want. Whenever the two sides may disagree the session is closed and begun anew.
//!
//! ```text
//! none --full fetch, epoch 0--> (id, 1) --changes only--> (id, 2) --> ...
//!   ^                             |
//!   +------ any error ------------+    the next full fetch names the old id, which closes it
//! ```

use std::collections::{BTreeMap, BTreeSet};

use types::{LeaderEpoch, Offset, TopicId, TopicPartition};

/// What a session remembers of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    pub offset: Offset,
    pub leader_epoch: Option<LeaderEpoch>,
    pub topic_id: Option<TopicId>,
}

/// What a request says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Saying {
    pub session_id: i32,
    pub session_epoch: i32,
    /// Partitions named in the request.
    pub named: BTreeMap<TopicPartition, Wanted>,
    /// Partitions to be forgotten, with the topic id the broker knows them by.
    pub forgotten: BTreeMap<TopicPartition, Option<TopicId>>,
    /// Whether a partition that the answer does not name is one without news.
    pub is_incremental: bool,
}

/// One broker's session.
#[derive(Debug, Default)]
pub(super) struct Session {
    id: i32,
    /// Epoch of the next request; 0 begins a session.
    epoch: i32,
    known: BTreeMap<TopicPartition, Wanted>,
}

impl Session {
    /// What to say so that the broker answers for exactly `wanted`.
    pub fn say(&mut self, wanted: BTreeMap<TopicPartition, Wanted>) -> Saying {
        // The broker knows a topic by name or by id, for all of a session's life.
        let ids = wanted.values().map(|partition| partition.topic_id.is_some());
        let known_ids = self.known.values().map(|partition| partition.topic_id.is_some());
        let kinds: BTreeSet<bool> = ids.chain(known_ids).collect();
        if self.epoch == 0 || kinds.len() > 1 {
            self.epoch = 0;
            self.known = wanted.clone();
            return Saying {
                session_id: self.id,
                session_epoch: 0,
                named: wanted,
                forgotten: BTreeMap::new(),
                is_incremental: false,
            };
        }
        let mut named = BTreeMap::new();
        let mut forgotten = BTreeMap::new();
        for (partition, known) in &self.known {
            match wanted.get(partition) {
                Some(now) if now.topic_id == known.topic_id => {}
                // A topic created anew is another topic: the old one goes.
                _ => drop(forgotten.insert(partition.clone(), known.topic_id)),
            }
        }
        for (partition, now) in &wanted {
            if self.known.get(partition) != Some(now) {
                named.insert(partition.clone(), *now);
            }
        }
        self.known = wanted;
        Saying {
            session_id: self.id,
            session_epoch: self.epoch,
            named,
            forgotten,
            is_incremental: true,
        }
    }

    /// The broker answered, with this session id.
    pub fn on_answer(&mut self, session_id: i32) {
        if session_id == 0 {
            // It keeps no session for us: every fetch is a full one.
            *self = Session::default();
            return;
        }
        self.id = session_id;
        self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
    }

    /// Something went wrong: what the broker remembers is not known.
    pub fn on_error(&mut self) {
        self.epoch = 0;
        self.known.clear();
    }

    /// The broker no longer has the session: there is nothing to close either.
    pub fn on_gone(&mut self) {
        *self = Session::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(of: &[(&str, i32, i64, u8)]) -> BTreeMap<TopicPartition, Wanted> {
        of.iter()
            .map(|(topic, partition, offset, id)| {
                let topic_id = (*id > 0).then_some(TopicId(types::Uuid([*id; 16])));
                let offset = Offset(*offset);
                let partition = TopicPartition::new(*topic, *partition);
                (partition, Wanted { offset, leader_epoch: None, topic_id })
            })
            .collect()
    }

    #[track_caller]
    fn check(saying: &Saying, session: (i32, i32), named: &[&str], forgotten: &[&str]) {
        assert_eq!((saying.session_id, saying.session_epoch), session);
        let shown: Vec<_> = saying.named.keys().map(ToString::to_string).collect();
        assert_eq!(shown, named);
        let shown: Vec<_> = saying.forgotten.keys().map(ToString::to_string).collect();
        assert_eq!(shown, forgotten);
    }

    #[test]
    fn only_changes_are_said() {
        let mut session = Session::default();
        check(
            &session.say(wanted(&[("t", 0, 5, 1), ("t", 1, 5, 1)])),
            (0, 0),
            &["t-0", "t-1"],
            &[],
        );
        session.on_answer(9);
        check(&session.say(wanted(&[("t", 0, 5, 1), ("t", 1, 6, 1)])), (9, 1), &["t-1"], &[]);
        session.on_answer(9);
        check(&session.say(wanted(&[("t", 1, 6, 1)])), (9, 2), &[], &["t-0"]);
        session.on_answer(9);
        check(&session.say(wanted(&[("t", 0, 5, 1), ("t", 1, 6, 1)])), (9, 3), &["t-0"], &[]);
    }

    #[test]
    fn after_an_error_the_old_session_is_closed_and_a_new_one_begun() {
        let mut session = Session::default();
        session.say(wanted(&[("t", 0, 5, 1)]));
        session.on_answer(9);
        session.say(wanted(&[("t", 0, 6, 1)]));
        session.on_error();
        check(&session.say(wanted(&[("t", 0, 6, 1)])), (9, 0), &["t-0"], &[]);
        session.on_gone();
        check(&session.say(wanted(&[("t", 0, 6, 1)])), (0, 0), &["t-0"], &[]);
    }

    #[test]
    fn a_broker_without_sessions_gets_full_fetches() {
        let mut session = Session::default();
        for _ in 0..2 {
            check(&session.say(wanted(&[("t", 0, 5, 0)])), (0, 0), &["t-0"], &[]);
            session.on_answer(0);
        }
    }

    #[test]
    fn a_topic_created_anew_replaces_the_old_one() {
        let mut session = Session::default();
        session.say(wanted(&[("t", 0, 5, 1)]));
        session.on_answer(9);
        check(&session.say(wanted(&[("t", 0, 0, 2)])), (9, 1), &["t-0"], &["t-0"]);
        session.on_answer(9);
        // From ids to names there is no way within one session.
        check(&session.say(wanted(&[("t", 0, 0, 0)])), (9, 0), &["t-0"], &[]);
    }
}
