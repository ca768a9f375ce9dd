//! What members of a classic group tell each other through the coordinator: subscriptions and assignments.
//!
//! The coordinator does not look inside these bytes; members written in other languages do, so the layout is that of
//! Kafka's "consumer" protocol. A newer version only appends fields: an older reader takes what it knows.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use types::TopicPartition;
use types::encoding::{DecodeError, Reader};

/// The version written: with the partitions owned.
const VERSION: i16 = 1;

/// What a member wants, and what it has.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Subscription {
    pub topics: Vec<String>,
    pub user_data: Option<Bytes>,
    pub owned: Vec<TopicPartition>,
}

impl Subscription {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(VERSION);
        put_count(&mut out, self.topics.len());
        for topic in &self.topics {
            put_string(&mut out, topic);
        }
        put_bytes(&mut out, self.user_data.as_ref());
        put_partitions(&mut out, &self.owned);
        out.freeze()
    }

    pub fn decode(bytes: Bytes) -> Result<Subscription, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.i16()?;
        let topics = reader.array(false, |reader| Ok(reader.str(false)?.to_string()))?;
        let user_data = reader.nullable_bytes(false)?;
        let owned = if version >= 1 { read_partitions(&mut reader)? } else { Vec::new() };
        Ok(Subscription { topics, user_data, owned })
    }
}

/// The partitions given to a member.
pub(crate) fn encode_assignment(partitions: &[TopicPartition]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(VERSION);
    put_partitions(&mut out, partitions);
    put_bytes(&mut out, None);
    out.freeze()
}

/// The partitions in an assignment; empty bytes are an empty assignment.
pub(crate) fn decode_assignment(bytes: Bytes) -> Result<Vec<TopicPartition>, DecodeError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut reader = Reader::new(bytes);
    let _version = reader.i16()?;
    read_partitions(&mut reader)
}

/// What a sticky member remembers: its partitions and the generation that gave them.
pub(crate) fn encode_sticky(partitions: &[TopicPartition], generation: i32) -> Bytes {
    let mut out = BytesMut::new();
    put_partitions(&mut out, partitions);
    out.put_i32(generation);
    out.freeze()
}

/// What a sticky member remembered; without a generation when it was written by an old client.
pub(crate) fn decode_sticky(
    bytes: Bytes,
) -> Result<(Vec<TopicPartition>, Option<i32>), DecodeError> {
    let mut reader = Reader::new(bytes);
    let partitions = read_partitions(&mut reader)?;
    let generation = if reader.remaining() >= 4 { Some(reader.i32()?) } else { None };
    Ok((partitions, generation))
}

fn read_partitions(reader: &mut Reader) -> Result<Vec<TopicPartition>, DecodeError> {
    let topics = reader.array(false, |reader| {
        let topic = reader.str(false)?;
        let partitions = reader.array(false, Reader::i32)?;
        Ok((topic, partitions))
    })?;
    Ok(topics
        .into_iter()
        .flat_map(|(topic, partitions)| {
            partitions
                .into_iter()
                .map(move |partition| TopicPartition::new(topic.as_str(), partition))
        })
        .collect())
}

fn put_partitions(out: &mut BytesMut, partitions: &[TopicPartition]) {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(partition.topic.as_str()).or_default().push(partition.partition.0);
    }
    put_count(out, topics.len());
    for (topic, partitions) in topics {
        put_string(out, topic);
        put_count(out, partitions.len());
        for partition in partitions {
            out.put_i32(partition);
        }
    }
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_i32(i32::try_from(count).expect("what is assigned fits in memory"));
}

fn put_string(out: &mut BytesMut, text: &str) {
    out.put_i16(i16::try_from(text.len()).expect("a topic name has at most 249 bytes"));
    out.put_slice(text.as_bytes());
}

fn put_bytes(out: &mut BytesMut, bytes: Option<&Bytes>) {
    match bytes {
        Some(bytes) => {
            put_count(out, bytes.len());
            out.put_slice(bytes);
        }
        None => out.put_i32(-1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions(of: &[(&str, i32)]) -> Vec<TopicPartition> {
        of.iter().map(|(topic, partition)| TopicPartition::new(*topic, *partition)).collect()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let subscription = Subscription {
            topics: vec!["a".into(), "b".into()],
            user_data: Some(Bytes::from_static(b"u")),
            owned: partitions(&[("a", 0), ("a", 2), ("b", 1)]),
        };
        assert_eq!(Subscription::decode(subscription.encode()), Ok(subscription));
        let given = partitions(&[("a", 1), ("b", 0)]);
        assert_eq!(decode_assignment(encode_assignment(&given)), Ok(given.clone()));
        assert_eq!(decode_assignment(Bytes::new()), Ok(vec![]));
        assert_eq!(decode_sticky(encode_sticky(&given, 7)), Ok((given, Some(7))));
    }

    #[test]
    fn the_layout_is_that_of_kafka() {
        let subscription = Subscription { topics: vec!["t".into()], ..Subscription::default() };
        assert_eq!(
            &subscription.encode()[..],
            [0, 1, 0, 0, 0, 1, 0, 1, b't', 255, 255, 255, 255, 0, 0, 0, 0]
        );
        // Version 0 ends before the owned partitions, version 3 goes on after them.
        let old = Bytes::from_static(&[0, 0, 0, 0, 0, 1, 0, 1, b't', 255, 255, 255, 255]);
        assert_eq!(Subscription::decode(old), Ok(subscription.clone()));
        let new = Bytes::from_static(&[
            0, 3, 0, 0, 0, 1, 0, 1, b't', 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 9, 255, 255,
        ]);
        assert_eq!(Subscription::decode(new), Ok(subscription));
        assert!(Subscription::decode(Bytes::from_static(&[0, 1, 127, 255, 255, 255])).is_err());
    }
}
