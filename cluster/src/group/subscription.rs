//! The one thing a coordinator reads inside a member's metadata: the topics of Kafka's consumer protocol.
//!
//! Every version of the subscription begins with the same two fields, a version and an array of topic names, so that
//! this much can be read of versions yet to come. What follows is the business of the members.

use std::collections::BTreeSet;

use types::TopicName;

/// Protocol type of consumers; others, such as `connect`, keep their metadata to themselves.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// Topics named by a member's metadata; `None` if it is no subscription.
pub(super) fn topics(metadata: &[u8]) -> Option<BTreeSet<TopicName>> {
    let (version, rest) = split::<2>(metadata)?;
    if i16::from_be_bytes(version) < 0 {
        return None;
    }
    let (count, mut rest) = split::<4>(rest)?;
    // A negative count reads as an empty array, as Kafka's consumers once wrote it.
    let count = i32::from_be_bytes(count).max(0);
    let mut topics = BTreeSet::new();
    for _ in 0..count {
        let (len, after) = split::<2>(rest)?;
        let len = usize::try_from(i16::from_be_bytes(len)).ok()?;
        let (name, after) = after.split_at_checked(len)?;
        topics.insert(TopicName::from(std::str::from_utf8(name).ok()?));
        rest = after;
    }
    Some(topics)
}

fn split<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    bytes.split_first_chunk::<N>().map(|(head, rest)| (*head, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_topics_of_any_version_and_refuses_what_is_none() {
        let names = |topics: Option<BTreeSet<TopicName>>| {
            topics.map(|topics| topics.iter().map(|t| t.to_string()).collect::<Vec<_>>())
        };
        let bytes = b"\x00\x03\x00\x00\x00\x02\x00\x01b\x00\x01a\xff\xff\xff\xff tail of version 3";
        assert_eq!(names(topics(bytes)), Some(vec!["a".into(), "b".into()]));
        assert_eq!(names(topics(b"\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff")), Some(vec![]));
        for cut in 0..bytes.len() - 24 {
            assert_eq!(topics(&bytes[..cut]), None, "cut at {cut}");
        }
        assert_eq!(topics(b"\xff\xff\x00\x00\x00\x00"), None);
        assert_eq!(topics(b"\x00\x00\x7f\xff\xff\xff\x00\x01"), None, "a count beyond the bytes");
        assert_eq!(topics(b"\x00\x00\x00\x00\x00\x01\x00\x01\xff"), None, "no UTF-8");
    }
}
