//! The table itself: every key of Kafka 4.4, and ours. Names, types, defaults and ranges are facts of the protocol; what
//! each key does is said in our words, and what becomes of it here stands in its class.

mod broker;
mod client_metrics;
mod group;
mod topic;

pub use broker::BROKER;
pub use client_metrics::CLIENT_METRICS;
pub use group::GROUP;
pub use topic::TOPIC;

use super::key::{ConfigKey, Kind};

const REPLICAS: &str = "one connection to each other broker carries what all replicas ask there";
const QUORUM: &str = "controller.quorum.request.timeout.ms and the like are what counts";
const ALWAYS: &str = "a broker that stops always hands over what it leads";
const LISTENERS: &str = "each listener opens as soon as it can be served";
const WAITS: &str = "a broker asks until it is registered";
const TOLD: &str = "a failed directory is told at once";
const UNCLEAN: &str = "an election is held as soon as it is possible";
const THREADS: &str = "threads follow the number of processors";
const NO_AUTHENTICATION: &str = "no listener authenticates";
const INTERNALS: &str = "it tunes a mechanism that does not exist here";
const NO_COMPACTION: &str = "compaction is not there yet";
const JOURNAL: &str = "the journal of the log directory makes it needless";
const RESERVED: &str = "space is reserved before it is written";
const KERNEL: &str = "the kernel sizes it";
const FAST_LZ4: &str = "LZ4 is written in its fast form at every level";
const WITH_RETENTION: &str = "idle producers are forgotten whenever old segments are searched for";
const NO_TIERING: &str = "remote storage is not there yet";

/// Starts a row.
const fn key(name: &'static str, kind: Kind, default: Option<&'static str>) -> ConfigKey {
    ConfigKey::new(name, kind, default)
}

/// The row of `name` in a table.
pub fn find(table: &'static [ConfigKey], name: &str) -> Option<&'static ConfigKey> {
    table.binary_search_by(|key| key.name.cmp(name)).ok().map(|index| &table[index])
}

/// The name in `table` nearest to `name` by edit distance, if it is near enough to be a slip.
pub fn nearest(table: &'static [ConfigKey], name: &str) -> Option<&'static str> {
    // Names are short; an absurdly long one is no slip and not worth the work.
    if name.len() > 128 {
        return None;
    }
    let near_enough = (name.len() / 4).clamp(2, 6);
    let named = table
        .iter()
        .filter_map(|key| Some((edit_distance(name, key.name, near_enough)?, key.name)));
    named.min().map(|(_, name)| name)
}

/// Insertions, deletions and replacements of bytes that turn `a` into `b`, if they are no more than `most`. Whatever is
/// further off is told apart early: a client may send names by the thousand.
fn edit_distance(a: &str, b: &str, most: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > most {
        return None;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let cost = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], cost);
        }
        // No later row has less than the least of this one.
        if row.iter().all(|distance| *distance > most) {
            return None;
        }
    }
    Some(row[b.len()]).filter(|distance| *distance <= most)
}
