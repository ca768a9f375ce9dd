//! What a broker says of itself: numbers that only rise, and lag that is what a client finds.

use std::collections::BTreeMap;

#[cfg(madsim)]
use broker::{Snapshot, TopicCounts};

use super::{Verdict, require};

/// Every number of a snapshot that may not go back while its process lives, by name.
#[cfg(madsim)]
pub fn rising(snapshot: &Snapshot) -> BTreeMap<String, u64> {
    let mut numbers = BTreeMap::new();
    let mut put = |name: String, number: u64| {
        numbers.insert(name, number);
    };
    let mut counts = |of: &str, counts: &TopicCounts| {
        let TopicCounts { records_in, bytes_in, bytes_out, produces, produces_failed, .. } =
            *counts;
        let TopicCounts { fetches, fetches_failed, .. } = *counts;
        let all =
            [records_in, bytes_in, bytes_out, produces, produces_failed, fetches, fetches_failed];
        for (place, number) in all.into_iter().enumerate() {
            put(format!("count {place} of {of}"), number);
        }
    };
    counts("all topics", &snapshot.traffic);
    for topic in &snapshot.topics {
        counts(&format!("topic {}", topic.id), &topic.counts);
    }
    for topic in &snapshot.topics {
        for partition in &topic.partitions {
            let Some(log) = &partition.log else { continue };
            let of = format!("{} {}", topic.id, partition.index);
            put(format!("log start of {of}"), log.log_start.0 as u64);
            put(format!("high watermark of {of}"), log.high_watermark.0 as u64);
        }
    }
    for api in &snapshot.apis {
        put(format!("requests of {}", api.name), api.latency.count());
        put(format!("bytes of {}", api.name), api.bytes_in + api.bytes_out);
    }
    for dir in &snapshot.directories {
        let of = dir.path.display();
        put(format!("groups of {of}"), dir.counts.groups.count());
        put(format!("batches of {of}"), dir.counts.batches);
        put(format!("bytes of {of}"), dir.counts.bytes);
    }
    for listener in &snapshot.listeners {
        put(format!("connections of {}", listener.name), listener.opened);
    }
    numbers
}

/// No number of an earlier snapshot is greater than it is later; what has gone (a deleted topic's) says nothing.
pub fn numbers_rise(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Verdict {
    for (name, was) in before {
        let Some(is) = after.get(name) else { continue };
        require("metrics", is >= was, || format!("{name} went from {was} back to {is}"))?;
    }
    Ok(())
}

/// Lag is the end less the offset, or nothing, for an end that lay between these two while it was computed.
pub fn lag_is_exact(of: &str, offset: i64, lag: Option<u64>, ends: (i64, i64)) -> Verdict {
    let least = (ends.0 - offset).max(0) as u64;
    let most = (ends.1 - offset).max(0) as u64;
    require("metrics", lag.is_some_and(|lag| (least..=most).contains(&lag)), || {
        format!("{of}: lag {lag:?} at offset {offset}, and ends {ends:?}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_goes_back_is_seen() {
        let of = |numbers: &[(&str, u64)]| {
            numbers.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
        };
        assert!(numbers_rise(&of(&[("a", 1), ("b", 2)]), &of(&[("a", 1), ("c", 0)])).is_ok());
        assert!(numbers_rise(&of(&[("a", 1), ("b", 2)]), &of(&[("a", 9), ("b", 1)])).is_err());
    }

    #[test]
    fn lag_that_no_end_explains_is_seen() {
        assert!(lag_is_exact("p", 3, Some(4), (7, 7)).is_ok());
        assert!(lag_is_exact("p", 9, Some(0), (7, 7)).is_ok());
        assert!(lag_is_exact("p", 3, Some(5), (7, 7)).is_err());
        assert!(lag_is_exact("p", 3, None, (7, 7)).is_err());
        assert!(lag_is_exact("p", 3, Some(5), (7, 8)).is_ok());
    }
}
