//! What the rooms of a broker count while they work.
//!
//! Counting must cost a request next to nothing: a few relaxed additions when it arrives and when its answer leaves, one
//! or two per partition that it produced to or fetched from, nothing per record, and no look at the clock that was not
//! there before. Everything else is found when somebody asks ([`crate::Observer`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use types::{Counter, Histogram, TopicId};

/// One more than the largest key of a request.
const API_KEYS: usize = 128;

/// The counters of one broker.
pub(crate) struct Metrics {
    /// By key.
    apis: Vec<ApiTally>,
    topics: Mutex<Topics>,
}

/// Requests of one API.
#[derive(Default)]
pub(crate) struct ApiTally {
    /// Of whole requests, with their lengths.
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    /// From a request's last byte until its answer leaves; of those without an answer until they are done.
    pub(crate) latency: Histogram,
}

#[derive(Default)]
struct Topics {
    live: BTreeMap<TopicId, Arc<Traffic>>,
    /// What topics that were deleted had counted: the broker's sums do not go back.
    gone: TopicCounts,
}

/// What clients did to one topic.
#[derive(Default)]
pub(crate) struct Traffic {
    pub(crate) records_in: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) produces: Counter,
    pub(crate) produces_failed: Counter,
    pub(crate) fetches: Counter,
    pub(crate) fetches_failed: Counter,
}

/// What clients did to one topic or to all of them. Produces and fetches are counted per partition of a request.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TopicCounts {
    /// Records appended for producers; duplicates are not.
    pub records_in: u64,
    /// Bytes of their batches as they were sent.
    pub bytes_in: u64,
    /// Bytes of batches given to consumers.
    pub bytes_out: u64,
    /// Partitions of produce requests.
    pub produces: u64,
    /// Of these, those that were refused.
    pub produces_failed: u64,
    /// Partitions of fetch requests.
    pub fetches: u64,
    /// Of these, those that were refused.
    pub fetches_failed: u64,
}

/// Connections of one listener.
#[derive(Default, Debug)]
pub(crate) struct ConnectionTally {
    pub(crate) opened: Counter,
    pub(crate) closed: Counter,
    /// Those that one address had too many of.
    pub(crate) refused: Counter,
    /// Those that broke the protocol.
    pub(crate) broken: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Arc<Metrics> {
        let apis = (0..API_KEYS).map(|_| ApiTally::default()).collect();
        Arc::new(Metrics { apis, topics: Mutex::default() })
    }

    fn topics(&self) -> MutexGuard<'_, Topics> {
        // Counts are whole between any two statements.
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counters of an API; none of a key that is not one.
    pub(crate) fn api(&self, key: i16) -> Option<&ApiTally> {
        self.apis.get(usize::try_from(key).ok()?)
    }

    /// A request was answered, or is done without an answer.
    pub(crate) fn on_answered(&self, key: i16, took: Duration, bytes_out: usize) {
        if let Some(api) = self.api(key) {
            api.latency.record(took);
            api.bytes_out.add(bytes_out as u64);
        }
    }

    /// The counters of a topic that is served from now on, or was before.
    pub(crate) fn traffic(&self, topic: TopicId) -> Arc<Traffic> {
        self.topics().live.entry(topic).or_default().clone()
    }

    /// A topic is served no longer.
    pub(crate) fn forget(&self, topic: TopicId) {
        let mut topics = self.topics();
        if let Some(traffic) = topics.live.remove(&topic) {
            topics.gone.add(&traffic.counts());
        }
    }

    /// What was counted for all topics that there ever were.
    pub(crate) fn counts(&self) -> TopicCounts {
        let topics = self.topics();
        let mut all = topics.gone;
        topics.live.values().for_each(|traffic| all.add(&traffic.counts()));
        all
    }
}

impl Traffic {
    /// What was counted.
    pub(crate) fn counts(&self) -> TopicCounts {
        // What failed first: it is never more than what was tried.
        let (produces_failed, fetches_failed) =
            (self.produces_failed.get(), self.fetches_failed.get());
        TopicCounts {
            records_in: self.records_in.get(),
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            produces: self.produces.get(),
            produces_failed,
            fetches: self.fetches.get(),
            fetches_failed,
        }
    }
}

impl TopicCounts {
    fn add(&mut self, more: &TopicCounts) {
        self.records_in += more.records_in;
        self.bytes_in += more.bytes_in;
        self.bytes_out += more.bytes_out;
        self.produces += more.produces;
        self.produces_failed += more.produces_failed;
        self.fetches += more.fetches;
        self.fetches_failed += more.fetches_failed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_keep_what_deleted_topics_had() {
        let metrics = Metrics::new();
        let id = |n: u8| TopicId(types::Uuid::from_random([n; 16]));
        let (a, b) = (metrics.traffic(id(1)), metrics.traffic(id(2)));
        a.records_in.add(3);
        b.records_in.add(4);
        metrics.traffic(id(1)).bytes_in.add(5);
        metrics.forget(id(1));
        a.records_in.add(100);
        let all = metrics.counts();
        assert_eq!((all.records_in, all.bytes_in), (7, 5));
        metrics.on_answered(-1, Duration::ZERO, 1);
        metrics.on_answered(i16::MAX, Duration::ZERO, 1);
    }
}
