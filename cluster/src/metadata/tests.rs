//! The image after any records equals a model, and survives its own snapshot (I40).

use proptest::prelude::*;
use record::stored::metadata::{
    ConfigRecord, PartitionChangeRecord, RemoveTopicRecord, TopicRecord,
};
use types::{LeaderEpoch, PartitionEpoch, PartitionIndex, TopicId, Uuid};

use super::*;

fn topic(name: &str, id: u8) -> MetadataRecord {
    MetadataRecord::Topic(TopicRecord { name: name.into(), topic_id: Uuid([id; 16]) })
}

fn partition(id: u8, index: i32) -> MetadataRecord {
    MetadataRecord::Partition(record::stored::metadata::PartitionRecord {
        partition_id: index,
        topic_id: Uuid([id; 16]),
        replicas: vec![0],
        isr: vec![0],
        leader: 0,
        leader_epoch: 0,
        partition_epoch: 0,
        ..Default::default()
    })
}

fn config(topic: &str, name: &str, value: Option<&str>) -> MetadataRecord {
    MetadataRecord::Config(ConfigRecord {
        resource_type: 2,
        resource_name: topic.into(),
        name: name.into(),
        value: value.map(Into::into),
    })
}

fn remove(id: u8) -> MetadataRecord {
    MetadataRecord::RemoveTopic(RemoveTopicRecord { topic_id: Uuid([id; 16]) })
}

#[test]
fn a_topic_comes_changes_and_goes() {
    let records = [topic("a", 1), partition(1, 0), partition(1, 1), config("a", "x", Some("1"))];
    let (image, delta) = Image::empty().apply(&records).unwrap();
    let id = TopicId(Uuid([1; 16]));
    assert_eq!(image.topic("a").unwrap().partitions_count(), 2);
    assert_eq!(delta.topics_changed.iter().copied().collect::<Vec<_>>(), [id]);

    let change =
        PartitionChangeRecord { partition_id: 1, topic_id: id.0, leader: 0, ..Default::default() };
    let (image, _) = image.apply(&[MetadataRecord::PartitionChange(change)]).unwrap();
    let changed = image.partition(id, PartitionIndex(1)).unwrap();
    assert_eq!((changed.leader_epoch, changed.epoch), (LeaderEpoch(1), PartitionEpoch(1)));

    let (after, delta) = image.apply(&[remove(1)]).unwrap();
    assert!(after.topic("a").is_none() && after.topic_by_id(id).is_none());
    assert!(after.config(&Resource::topic("a")).is_empty(), "values go with their topic");
    assert_eq!(delta.topics_removed.len(), 1);
    assert!(image.topic("a").is_some(), "images are immutable");
}

#[test]
fn a_name_may_return_but_not_an_id() {
    let (image, _) = Image::empty().apply(&[topic("a", 1), partition(1, 0)]).unwrap();
    let (image, delta) = image.apply(&[remove(1), topic("a", 2), partition(2, 0)]).unwrap();
    assert_eq!(image.topic_id("a"), Some(TopicId(Uuid([2; 16]))));
    assert_eq!((delta.topics_changed.len(), delta.topics_removed.len()), (1, 1));
    assert!(image.apply(&[topic("b", 2)]).is_err());
    assert!(image.apply(&[topic("a", 3)]).is_err());
}

#[test]
fn records_that_make_no_sense_are_errors() {
    let (image, _) = Image::empty().apply(&[topic("a", 1), partition(1, 0)]).unwrap();
    let broken = |edit: fn(&mut record::stored::metadata::PartitionRecord)| {
        let MetadataRecord::Partition(mut record) = partition(1, 1) else { unreachable!() };
        edit(&mut record);
        MetadataRecord::Partition(record)
    };
    for record in [
        partition(9, 0),
        partition(1, 0),
        partition(1, 2),
        partition(1, -1),
        remove(9),
        config("a", "x", None).clone(),
        broken(|r| r.replicas.clear()),
        broken(|r| r.isr = vec![5]),
        broken(|r| r.leader = 3),
        broken(|r| r.leader_epoch = -1),
        broken(|r| r.replicas = vec![0, 0]),
        broken(|r| r.directories = vec![Uuid::ZERO; 3]),
        MetadataRecord::AccessControlEntry(Default::default()),
        MetadataRecord::FenceBroker(Default::default()),
    ] {
        let result = image.apply(std::iter::once(&record));
        let is_harmless = matches!(record, MetadataRecord::Config(_));
        assert_eq!(result.is_ok(), is_harmless, "{record:?}");
    }
}

proptest! {
    /// I40: a snapshot leads to the image it was taken of, whatever led there; each record survives its encoding.
    #[test]
    fn a_snapshot_gives_the_same_image(
        steps in prop::collection::vec((0u8..6, 1u8..5, 0i32..3), 0..60),
    ) {
        let mut image = Image::empty();
        for (kind, id, number) in steps {
            let name = format!("t{id}");
            let record = match kind {
                0 => topic(&name, id),
                1 => partition(id, number),
                2 => config(&name, &format!("k{number}"), Some("v")),
                3 => config(&name, &format!("k{number}"), None),
                4 => remove(id),
                _ => MetadataRecord::ProducerIds(record::stored::metadata::ProducerIdsRecord {
                    broker_id: 0,
                    broker_epoch: 0,
                    next_producer_id: image.next_producer_id() + i64::from(number) * 1000,
                }),
            };
            if let Ok((next, _)) = image.apply(std::iter::once(&record)) {
                image = next;
            }
        }
        let records: Vec<MetadataRecord> = snapshot(&image)
            .iter()
            .map(|record| {
                let bytes = record.encode(record_version(record)).unwrap();
                MetadataRecord::decode(bytes).unwrap()
            })
            .collect();
        let (loaded, _) = Image::empty().apply(&records).unwrap();
        prop_assert_eq!(loaded, image);
    }
}
