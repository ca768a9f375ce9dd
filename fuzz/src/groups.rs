//! What groups remember and what their members say: a coordinator's log, replayed; subscriptions and assignments.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use client::{Subscription, decode_assignment, encode_assignment};
use cluster::group::{Effect, Event, GroupSettings, Groups, JoinRequest, Now, Protocol, Token};
use types::{GroupId, Instant, Timestamp, Uuid};

/// A coordinator's log: records of one byte of key length, one of value length (255: a tombstone), key, value. What is
/// decided after it was loaded is remembered by who loads the log again (I64).
pub(crate) fn group_records(data: &[u8]) {
    let mut log: Vec<(Bytes, Option<Bytes>)> = Vec::new();
    let mut rest = data;
    while let [key_len, value_len, after @ ..] = rest {
        let (key, after) = after.split_at(usize::from(*key_len).min(after.len()));
        let is_tombstone = *value_len == u8::MAX;
        let value_len = if is_tombstone { 0 } else { usize::from(*value_len) };
        let (value, after) = after.split_at(value_len.min(after.len()));
        let value = (!is_tombstone).then(|| Bytes::copy_from_slice(value));
        log.push((Bytes::copy_from_slice(key), value));
        rest = after;
    }
    let replay = |log: &[(Bytes, Option<Bytes>)]| {
        let mut groups = Groups::new(GroupSettings::default());
        for (key, value) in log {
            // A record that cannot be read is passed over.
            let _ = groups.replay(key, value.as_deref());
        }
        groups
    };
    let mut groups = replay(&log);
    assert_eq!(groups.remembered_by(&replay(&log)), Ok(()), "I64");
    let mut effects = Vec::new();
    for (seconds, event) in [(0, Event::Loaded), (0, Event::Survey(Token(1))), (7200, Event::Tick)]
    {
        let now = at(seconds);
        groups.step(now, event, &mut effects);
        for effect in effects.drain(..) {
            if let Effect::Append { records, .. } = effect {
                log.extend(records.into_iter().map(|record| (record.key, record.value)));
            }
        }
    }
    assert_eq!(groups.remembered_by(&replay(&log)), Ok(()), "I64");
}

fn at(seconds: u64) -> Now {
    let timestamp = Timestamp(1_767_225_600_000 + seconds as i64 * 1000);
    Now { instant: Instant(seconds * 1_000_000_000), timestamp }
}

/// A member's subscription and assignment, as its leader and its coordinator read them.
pub(crate) fn consumer_protocol(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(subscription) = Subscription::decode(bytes.clone()) {
        let again = Subscription::decode(subscription.encode()).expect("what was encoded");
        assert_eq!(again.topics, subscription.topics);
        assert_eq!(again.user_data, subscription.user_data);
        assert_eq!(sorted(again.owned), sorted(subscription.owned));
    }
    if let Ok(partitions) = decode_assignment(bytes.clone()) {
        let again = decode_assignment(encode_assignment(&partitions)).expect("what was encoded");
        assert_eq!(sorted(again), sorted(partitions));
    }
    let mut groups = Groups::new(GroupSettings::default());
    let mut effects = Vec::new();
    let join = JoinRequest {
        group: GroupId::from("g"),
        member: None,
        instance: None,
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_secs(10),
        protocol_type: "consumer".into(),
        protocols: vec![Protocol { name: "range".into(), metadata: bytes }],
        requires_known_member: false,
        can_skip_assignment: false,
        fresh: Uuid([1; 16]),
    };
    groups.step(at(0), Event::Join(Token(1), join), &mut effects);
    groups.step(at(4), Event::Tick, &mut effects);
    groups.step(at(5), Event::Describe(Token(2), GroupId::from("g")), &mut effects);
    groups.step(at(7200), Event::Tick, &mut effects);
}

fn sorted<T: Ord>(of: Vec<T>) -> BTreeSet<T> {
    of.into_iter().collect()
}
