//! What a producer is told.

use bytes::{Bytes, BytesMut};
use record::{Batch, Codec, Compression};
use types::ErrorCode;

use crate::peer::{Node, batch, create, produce, produce_request};

/// Codes and base offsets of batches produced one after the other by producer 0.
#[tokio::test]
async fn sequences_decide_what_is_appended() {
    let node = Node::start(&[]).await;
    let mut peer = node.peer().await;
    create(&mut peer, "topic", 1, &[]).await;
    let duplicate = (0, 0);
    for (stamp, expected) in [
        ((0, 0, 0), (0, 0)),
        ((0, 0, 2), (0, 2)),
        // A retry is told the first offset (I49).
        ((0, 0, 0), duplicate),
        ((0, 0, 9), (ErrorCode::OutOfOrderSequenceNumber.as_i16(), -1)),
        ((0, 1, 0), (0, 4)),
        ((0, 0, 4), (ErrorCode::InvalidProducerEpoch.as_i16(), -1)),
    ] {
        let told = produce(&mut peer, "topic", 0, &batch(&["a", "b"], Some(stamp))).await;
        assert_eq!(told, expected, "{stamp:?}");
    }
    node.end().await;
}

#[tokio::test]
async fn each_bad_batch_has_its_code() {
    let node = Node::start(&[]).await;
    let mut peer = node.peer().await;
    create(&mut peer, "topic", 1, &[("max.message.bytes", "200")]).await;
    let good = batch(&["value"], None).to_bytes();
    let changed = |change: fn(&mut BytesMut)| {
        let mut bytes = BytesMut::from(&good[..]);
        change(&mut bytes);
        bytes.freeze()
    };
    let table: Vec<(&str, Bytes, ErrorCode)> = vec![
        ("no batch", Bytes::new(), ErrorCode::InvalidRecord),
        ("two batches", [&good[..], &good[..]].concat().into(), ErrorCode::InvalidRecord),
        ("wrong checksum", changed(|b| b[20] ^= 1), ErrorCode::CorruptMessage),
        ("too large", batch(&[&"x".repeat(200)], None).to_bytes(), ErrorCode::MessageTooLarge),
        ("old format", changed(|b| b[16] = 1), ErrorCode::InvalidRecord),
        ("cut", good.slice(..good.len() - 1), ErrorCode::InvalidRecord),
    ];
    for (name, records, code) in table {
        let answer = peer.ask(&produce_request("topic", 0, -1, records), 9).await;
        let told = &answer.responses[0].partition_responses[0];
        assert_eq!((told.error_code, told.base_offset), (code.as_i16(), -1), "{name}");
    }
    for (topic, partition, acks, code) in [
        ("no-topic", 0, -1, ErrorCode::UnknownTopicOrPartition),
        ("topic", 1, -1, ErrorCode::UnknownTopicOrPartition),
        ("topic", 0, 2, ErrorCode::InvalidRequiredAcks),
    ] {
        let answer = peer.ask(&produce_request(topic, partition, acks, good.clone()), 9).await;
        let told = &answer.responses[0].partition_responses[0];
        assert_eq!(told.error_code, code.as_i16(), "{topic}-{partition} acks {acks}");
    }
    // Nothing of all this was appended.
    assert_eq!(produce(&mut peer, "topic", 0, &Batch::parse(good).unwrap()).await, (0, 0));
    node.end().await;
}

#[tokio::test]
async fn zstd_needs_a_client_that_knows_it() {
    let node = Node::start(&[]).await;
    let mut peer = node.peer().await;
    create(&mut peer, "topic", 1, &[]).await;
    let plain = batch(&["value"], None);
    let packed = plain.recompressed(Codec::from(Compression::Zstd), &plain.payload()).unwrap();
    for (version, code) in [(6, ErrorCode::UnsupportedCompressionType), (7, ErrorCode::None)] {
        let answer = peer.ask(&produce_request("topic", 0, 1, packed.to_bytes()), version).await;
        assert_eq!(answer.responses[0].partition_responses[0].error_code, code.as_i16());
    }
    node.end().await;
}

#[tokio::test]
async fn a_topic_may_date_and_compress_for_itself() {
    let node = Node::start(&[]).await;
    let mut peer = node.peer().await;
    let configs = [("message.timestamp.type", "LogAppendTime"), ("compression.type", "gzip")];
    create(&mut peer, "topic", 1, &configs).await;
    let request = produce_request("topic", 0, -1, batch(&["value"], Some((0, 0, 0))).to_bytes());
    let answer = peer.ask(&request, 9).await;
    let told = &answer.responses[0].partition_responses[0];
    assert_eq!(told.error_code, 0);
    assert!(told.log_append_time_ms > 1_700_000_000_000);
    let partition = node.broker.shared().partition("topic", types::PartitionIndex(0)).unwrap();
    let stored = partition.batches(types::Offset(0), 1000).await.unwrap().unwrap();
    assert_eq!(stored[0].compression().unwrap(), Compression::Gzip);
    assert_eq!(stored[0].max_timestamp().unwrap().0, told.log_append_time_ms);
    // A retry is told when the original was appended.
    tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    let again = peer.ask(&request, 9).await;
    assert_eq!(again.responses[0].partition_responses[0], *told);
    node.end().await;
}
