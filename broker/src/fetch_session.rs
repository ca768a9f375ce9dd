//! Incremental fetch sessions (KIP-227): what a client reads from us is remembered, so that it sends only what changes
//! and is told only what changed.
//!
//! A session is taken out of the room while a request uses it and put back with the response: no lock is held over a
//! long poll, and a client that lost its connection finds the session gone and makes a new one. Epochs tell a repeated
//! or forgotten request from the next one. The room keeps a bounded number of sessions; a newcomer may displace one that
//! has been idle, or a smaller one that is no longer new, by Kafka's rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use types::{ErrorCode, Instant, LeaderEpoch, PartitionIndex, TopicId, TopicName};

/// The request wants a new session, or none.
const EPOCH_INITIAL: i32 = 0;
/// The request closes its session.
const EPOCH_FINAL: i32 = -1;
/// Partitions that all sessions together may remember; without room a client is served without a session.
const PARTITIONS_MAX: usize = 1_000_000;
/// Not a session.
pub(crate) const SESSION_NONE: i32 = 0;

/// A topic as a fetch names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum TopicKey {
    /// Up to version 12.
    Name(TopicName),
    /// From version 13.
    Id(TopicId),
}

/// One partition a client reads.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) topic: TopicKey,
    pub(crate) index: PartitionIndex,
    pub(crate) fetch_offset: i64,
    pub(crate) bytes_max: i32,
    /// The leader's term the client knows.
    pub(crate) leader_epoch: Option<LeaderEpoch>,
    /// Term of the last batch it has.
    pub(crate) fetched_epoch: Option<LeaderEpoch>,
    /// The topic that a name meant when the partition joined the session: a successor is another topic (P18).
    pub(crate) bound: Option<TopicId>,
    /// What the last response said, to leave out what has not changed.
    pub(crate) told: Option<Told>,
}

/// What a response said about a partition without records and errors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Told {
    pub(crate) high_watermark: i64,
    pub(crate) log_start: i64,
}

/// What the client asks of sessions in one request.
#[derive(Debug)]
pub(crate) struct SessionRequest {
    pub(crate) id: i32,
    pub(crate) epoch: i32,
    pub(crate) uses_topic_ids: bool,
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) forgotten: Vec<(TopicKey, PartitionIndex)>,
}

/// What to read and how to answer.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) kind: PlanKind,
}

/// How the answer of a fetch relates to sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PlanKind {
    /// No session: everything is answered.
    Sessionless,
    /// Everything is answered, and a session is begun if there is room.
    Full {
        /// Whether partitions are named by topic id.
        uses_topic_ids: bool,
    },
    /// Only what changed is answered.
    Incremental {
        /// The session, taken out of the room.
        id: i32,
        epoch: i32,
        uses_topic_ids: bool,
        created: Instant,
    },
}

/// The room of all sessions.
pub(crate) struct Sessions {
    slots_max: usize,
    evict_after: Duration,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    sessions: BTreeMap<i32, Session>,
    /// Partitions of all sessions.
    partitions: usize,
}

struct Session {
    epoch: i32,
    uses_topic_ids: bool,
    created: Instant,
    used: Instant,
    size: usize,
    /// `None` while a request uses it.
    wanted: Option<Vec<Wanted>>,
}

impl Sessions {
    pub(crate) fn new(slots_max: usize, evict_after: Duration) -> Sessions {
        Sessions { slots_max, evict_after, cache: Mutex::new(Cache::default()) }
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        // Each statement under the lock leaves the cache whole.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to read for `request`.
    pub(crate) fn begin(&self, request: SessionRequest, now: Instant) -> Result<Plan, ErrorCode> {
        let SessionRequest { id, epoch, uses_topic_ids, wanted, forgotten } = request;
        if epoch == EPOCH_INITIAL || epoch == EPOCH_FINAL {
            if id != SESSION_NONE {
                self.lock().remove(id);
            }
            let kind = if epoch == EPOCH_FINAL {
                PlanKind::Sessionless
            } else {
                PlanKind::Full { uses_topic_ids }
            };
            return Ok(Plan { wanted, kind });
        }
        let (mut known, created) = {
            let mut cache = self.lock();
            let session = cache.sessions.get_mut(&id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
            if session.epoch != epoch {
                return Err(ErrorCode::InvalidFetchSessionEpoch);
            }
            if session.uses_topic_ids != uses_topic_ids {
                return Err(ErrorCode::FetchSessionTopicIdError);
            }
            session.used = now;
            let taken = session.wanted.take().ok_or(ErrorCode::InvalidFetchSessionEpoch)?;
            (taken, session.created)
        };
        merge(&mut known, wanted, forgotten);
        if known.is_empty() {
            self.lock().remove(id);
            return Ok(Plan { wanted: known, kind: PlanKind::Sessionless });
        }
        let kind = PlanKind::Incremental { id, epoch, uses_topic_ids, created };
        Ok(Plan { wanted: known, kind })
    }

    /// Puts the session of a full fetch into the room under a fresh id, if there is room. `random` proposes ids.
    pub(crate) fn create(
        &self,
        wanted: Vec<Wanted>,
        uses_topic_ids: bool,
        now: Instant,
        mut random: impl FnMut() -> u64,
    ) -> i32 {
        if wanted.is_empty() || self.slots_max == 0 {
            return SESSION_NONE;
        }
        let mut cache = self.lock();
        if cache.sessions.len() >= self.slots_max
            && !cache.evict_for(wanted.len(), now, self.evict_after)
        {
            return SESSION_NONE;
        }
        if cache.partitions + wanted.len() > PARTITIONS_MAX {
            return SESSION_NONE;
        }
        let id = loop {
            let id = (random() & 0x7fff_ffff) as i32;
            if id != SESSION_NONE && !cache.sessions.contains_key(&id) {
                break id;
            }
        };
        let size = wanted.len();
        let wanted = Some(wanted);
        let session = Session { epoch: 1, uses_topic_ids, created: now, used: now, size, wanted };
        cache.sessions.insert(id, session);
        cache.partitions += size;
        id
    }

    /// Gives back a session that [`Sessions::begin`] took out; the next request carries the next epoch. Nothing happens
    /// if the session was closed or displaced meanwhile. One that has outgrown the room ends: its client begins anew.
    pub(crate) fn put_back(&self, id: i32, epoch: i32, wanted: Vec<Wanted>, now: Instant) {
        let mut cache = self.lock();
        let cache = &mut *cache;
        let Some(session) = cache.sessions.get_mut(&id).filter(|s| s.epoch == epoch) else {
            return;
        };
        let partitions = cache.partitions - session.size + wanted.len();
        if partitions > PARTITIONS_MAX && wanted.len() > session.size {
            return cache.remove(id);
        }
        cache.partitions = partitions;
        session.epoch = next_epoch(epoch);
        session.used = now;
        session.size = wanted.len();
        session.wanted = Some(wanted);
    }
}

impl Cache {
    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.partitions -= session.size;
        }
    }

    /// Makes room for a session of `size` partitions: displaces the one that was idle longest if that is long enough,
    /// else the smallest that is no longer new, if it is smaller than the newcomer.
    fn evict_for(&mut self, size: usize, now: Instant, evict_after: Duration) -> bool {
        let idle = self.sessions.iter().min_by_key(|(id, session)| (session.used, **id));
        if let Some((&id, session)) = idle
            && now.saturating_since(session.used) > evict_after
        {
            self.remove(id);
            return true;
        }
        let smallest = self
            .sessions
            .iter()
            .filter(|(_, session)| now.saturating_since(session.created) > evict_after)
            .min_by_key(|(id, session)| (session.size, **id));
        match smallest {
            Some((&id, session)) if session.size < size => {
                self.remove(id);
                true
            }
            _ => false,
        }
    }
}

/// Epochs run from 1; after the largest comes 1 again.
fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

/// Adds, changes and removes partitions of a session.
fn merge(
    known: &mut Vec<Wanted>,
    changed: Vec<Wanted>,
    forgotten: Vec<(TopicKey, PartitionIndex)>,
) {
    if !changed.is_empty() {
        let positions: BTreeMap<(TopicKey, PartitionIndex), usize> = known
            .iter()
            .enumerate()
            .map(|(position, wanted)| ((wanted.topic.clone(), wanted.index), position))
            .collect();
        for wanted in changed {
            match positions.get(&(wanted.topic.clone(), wanted.index)) {
                Some(&position) => {
                    let old = &mut known[position];
                    *old = Wanted { bound: old.bound, told: old.told, ..wanted };
                }
                None => known.push(wanted),
            }
        }
    }
    if !forgotten.is_empty() {
        let forgotten: BTreeSet<_> = forgotten.into_iter().collect();
        known.retain(|wanted| !forgotten.contains(&(wanted.topic.clone(), wanted.index)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(topic: &str, index: i32) -> Wanted {
        Wanted {
            topic: TopicKey::Name(topic.into()),
            index: PartitionIndex(index),
            fetch_offset: 0,
            bytes_max: 100,
            leader_epoch: None,
            fetched_epoch: None,
            bound: None,
            told: None,
        }
    }

    fn request(id: i32, epoch: i32, wanted: Vec<Wanted>) -> SessionRequest {
        SessionRequest { id, epoch, uses_topic_ids: false, wanted, forgotten: Vec::new() }
    }

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    fn room(slots: usize) -> (Sessions, impl FnMut() -> u64) {
        let mut next = 0;
        let random = move || {
            next += 1;
            next
        };
        (Sessions::new(slots, Duration::from_secs(120)), random)
    }

    #[test]
    fn a_session_remembers_and_counts_epochs() {
        let (sessions, random) = room(10);
        let plan =
            sessions.begin(request(0, 0, vec![wanted("a", 0), wanted("b", 0)]), at(0)).unwrap();
        assert_eq!(plan.kind, PlanKind::Full { uses_topic_ids: false });
        let id = sessions.create(plan.wanted, false, at(0), random);
        let mut next = request(id, 1, vec![Wanted { fetch_offset: 7, ..wanted("a", 0) }]);
        next.forgotten = vec![(TopicKey::Name("b".into()), PartitionIndex(0))];
        let plan = sessions.begin(next, at(1)).unwrap();
        assert_eq!(plan.wanted.len(), 1);
        assert_eq!(plan.wanted[0].fetch_offset, 7);
        // While it is in use, and with a wrong epoch afterwards, it is refused.
        let again = |epoch| sessions.begin(request(id, epoch, Vec::new()), at(1)).map(|_| ());
        assert_eq!(again(1), Err(ErrorCode::InvalidFetchSessionEpoch));
        sessions.put_back(id, 1, plan.wanted, at(1));
        assert_eq!(again(1), Err(ErrorCode::InvalidFetchSessionEpoch));
        assert_eq!(again(2), Ok(()));
        assert_eq!(
            sessions.begin(request(id + 1, 1, Vec::new()), at(1)).map(|_| ()),
            Err(ErrorCode::FetchSessionIdNotFound)
        );
    }

    #[test]
    fn forgetting_everything_and_the_final_epoch_end_a_session() {
        let (sessions, mut random) = room(10);
        let id = sessions.create(vec![wanted("a", 0)], false, at(0), &mut random);
        let mut next = request(id, 1, Vec::new());
        next.forgotten = vec![(TopicKey::Name("a".into()), PartitionIndex(0))];
        assert_eq!(sessions.begin(next, at(0)).unwrap().kind, PlanKind::Sessionless);
        let id = sessions.create(vec![wanted("a", 0)], false, at(0), &mut random);
        let closing = sessions.begin(request(id, -1, vec![wanted("a", 0)]), at(0)).unwrap();
        assert_eq!(closing.kind, PlanKind::Sessionless);
        assert_eq!(
            sessions.begin(request(id, 1, Vec::new()), at(0)).map(|_| ()),
            Err(ErrorCode::FetchSessionIdNotFound)
        );
    }

    #[test]
    fn a_full_room_displaces_the_idle_and_the_small() {
        let (sessions, mut random) = room(2);
        let first = sessions.create(vec![wanted("a", 0)], false, at(0), &mut random);
        sessions.create(vec![wanted("a", 0), wanted("a", 1)], false, at(0), &mut random);
        let none = sessions.create(vec![wanted("a", 0); 3], false, at(60), &mut random);
        assert_eq!(none, SESSION_NONE, "both are new and in use");
        for id in [first, first + 1] {
            let plan = sessions.begin(request(id, 1, Vec::new()), at(100)).unwrap();
            sessions.put_back(id, 1, plan.wanted, at(100));
        }
        let large = sessions.create(vec![wanted("a", 0); 3], false, at(130), &mut random);
        assert_ne!(large, SESSION_NONE, "the smallest is no longer new");
        assert!(sessions.begin(request(first, 2, Vec::new()), at(130)).is_err());
        let idle = sessions.create(vec![wanted("a", 0)], false, at(300), &mut random);
        assert_ne!(idle, SESSION_NONE, "one was idle");
    }

    #[test]
    fn sessions_together_remember_a_bounded_number_of_partitions() {
        let (sessions, mut random) = room(10);
        let many = |count: usize| vec![wanted("a", 0); count];
        let first = sessions.create(many(PARTITIONS_MAX - 1), false, at(0), &mut random);
        assert_ne!(first, SESSION_NONE);
        assert_eq!(sessions.create(many(2), false, at(0), &mut random), SESSION_NONE);
        let second = sessions.create(many(1), false, at(0), &mut random);
        assert_ne!(second, SESSION_NONE);
        // One that grows beyond the bound is over, and gives back what it had.
        let plan = sessions.begin(request(second, 1, vec![wanted("b", 0)]), at(1)).unwrap();
        sessions.put_back(second, 1, plan.wanted, at(1));
        assert_eq!(
            sessions.begin(request(second, 2, Vec::new()), at(1)).map(|_| ()),
            Err(ErrorCode::FetchSessionIdNotFound)
        );
        assert_ne!(sessions.create(many(1), false, at(1), &mut random), SESSION_NONE);
        // Closing gives room back too.
        sessions.begin(request(first, -1, Vec::new()), at(1)).unwrap();
        assert_ne!(sessions.create(many(2), false, at(1), &mut random), SESSION_NONE);
    }
}
