//! What members of a classic group tell each other through the coordinator: subscriptions and assignments.
//!
//! The coordinator does not look inside these bytes; members written in other languages do, so the layout is that of
//! Kafka's "consumer" protocol. A newer version only appends fields: a reader takes what it knows.

use std::collections::BTreeMap;

use bytes::Bytes;
use record::stored::consumer::{
    ConsumerProtocolAssignment, ConsumerProtocolAssignmentTopicPartition,
    ConsumerProtocolSubscription, ConsumerProtocolSubscriptionTopicPartition,
};
use types::TopicPartition;
use types::encoding::{DecodeError, EncodeError, Reader, Str, Writer};

/// The version written: with the partitions owned, and known to every client that still runs.
const VERSION: i16 = 1;

/// What a member wants, and what it has.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Subscription {
    /// The topics it wants to read.
    pub topics: Vec<String>,
    /// What its assignor remembers.
    pub user_data: Option<Bytes>,
    /// The partitions that it has and would like to keep.
    pub owned: Vec<TopicPartition>,
}

impl Subscription {
    /// The bytes that a member joins with.
    pub fn encode(&self) -> Bytes {
        let topics = by_topic(&self.owned).into_iter();
        let subscription = ConsumerProtocolSubscription {
            topics: self.topics.iter().map(Str::from).collect(),
            user_data: self.user_data.clone(),
            owned_partitions: topics
                .map(|(topic, partitions)| ConsumerProtocolSubscriptionTopicPartition {
                    topic,
                    partitions,
                })
                .collect(),
            ..ConsumerProtocolSubscription::default()
        };
        versioned(|writer| subscription.encode(writer, VERSION))
    }

    /// Reads what a member joined with. An error means that the bytes are not in the form of Kafka's consumer protocol.
    pub fn decode(bytes: Bytes) -> Result<Subscription, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = known(reader.i16()?, ConsumerProtocolSubscription::VERSIONS);
        let read = ConsumerProtocolSubscription::decode(&mut reader, version)?;
        let owned = read.owned_partitions.into_iter().map(|topic| (topic.topic, topic.partitions));
        Ok(Subscription {
            topics: read.topics.into_iter().map(String::from).collect(),
            user_data: read.user_data,
            owned: flat(owned),
        })
    }
}

/// The partitions given to a member.
pub fn encode_assignment(partitions: &[TopicPartition]) -> Bytes {
    let topics = by_topic(partitions).into_iter();
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: topics
            .map(|(topic, partitions)| ConsumerProtocolAssignmentTopicPartition {
                topic,
                partitions,
            })
            .collect(),
        user_data: None,
    };
    versioned(|writer| assignment.encode(writer, VERSION))
}

/// The partitions in an assignment as leaders write it and coordinators store it; empty bytes are an empty assignment.
/// An error means that the bytes are not in the form of Kafka's consumer protocol.
pub fn decode_assignment(bytes: Bytes) -> Result<Vec<TopicPartition>, DecodeError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut reader = Reader::new(bytes);
    let version = known(reader.i16()?, ConsumerProtocolAssignment::VERSIONS);
    let read = ConsumerProtocolAssignment::decode(&mut reader, version)?;
    Ok(flat(read.assigned_partitions.into_iter().map(|topic| (topic.topic, topic.partitions))))
}

/// What a sticky member remembers: its partitions and the generation that gave them. Kafka keeps this layout in its
/// assignor, beside the protocol's schemas.
pub(crate) fn encode_sticky(partitions: &[TopicPartition], generation: i32) -> Bytes {
    let topics: Vec<(Str, Vec<i32>)> = by_topic(partitions).into_iter().collect();
    let mut writer = Writer::new();
    let written = writer.array(&topics, false, |writer, (topic, partitions)| {
        writer.str(topic, false)?;
        writer.array(partitions, false, |writer, partition| {
            writer.i32(*partition);
            Ok(())
        })
    });
    written.expect(FITS);
    writer.i32(generation);
    writer.into_bytes()
}

/// What a sticky member remembered; without a generation when it was written by an old client.
pub(crate) fn decode_sticky(
    bytes: Bytes,
) -> Result<(Vec<TopicPartition>, Option<i32>), DecodeError> {
    let mut reader = Reader::new(bytes);
    let topics = reader.array(false, |reader| {
        let topic = reader.str(false)?;
        Ok((topic, reader.array(false, Reader::i32)?))
    })?;
    let generation = if reader.remaining() >= 4 { Some(reader.i32()?) } else { None };
    Ok((flat(topics), generation))
}

const FITS: &str = "names of topics are short, and what is assigned fits in memory";

/// A version, then what `write` writes.
fn versioned(write: impl FnOnce(&mut Writer) -> Result<(), EncodeError>) -> Bytes {
    let mut writer = Writer::new();
    writer.i16(VERSION);
    write(&mut writer).expect(FITS);
    writer.into_bytes()
}

/// The newest version we know that `version` extends.
fn known(version: i16, (lowest, newest): (i16, i16)) -> i16 {
    version.clamp(lowest, newest)
}

fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<Str, Vec<i32>> {
    let mut topics: BTreeMap<Str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        let topic = Str::from(partition.topic.as_str());
        topics.entry(topic).or_default().push(partition.partition.0);
    }
    topics
}

fn flat(topics: impl IntoIterator<Item = (Str, Vec<i32>)>) -> Vec<TopicPartition> {
    let each = |(topic, partitions): (Str, Vec<i32>)| {
        partitions.into_iter().map(move |partition| TopicPartition::new(topic.as_str(), partition))
    };
    topics.into_iter().flat_map(each).collect()
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
