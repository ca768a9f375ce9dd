//! What a broker says of itself: exact numbers, of requests whose bytes and records are known.

use std::time::Duration;

use broker::{ApiSnapshot, Snapshot, TopicSnapshot};
use types::{ErrorCode, Offset, Uuid};
use wire::fetch::{FetchPartition, FetchRequest, FetchTopic};
use wire::find_coordinator::FindCoordinatorRequest;
use wire::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};

use crate::peer::{Node, Peer, batch, create, produce};

fn api<'a>(snapshot: &'a Snapshot, name: &str) -> &'a ApiSnapshot {
    snapshot.apis.iter().find(|api| api.name == name).unwrap()
}

fn topic<'a>(snapshot: &'a Snapshot, name: &str) -> &'a TopicSnapshot {
    snapshot.topics.iter().find(|topic| topic.name.as_str() == name).unwrap()
}

async fn fetch(peer: &mut Peer, topic: &str, offset: i64) {
    let partition =
        FetchPartition { fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() };
    let topic =
        FetchTopic { topic: topic.into(), topic_id: Uuid::ZERO, partitions: vec![partition] };
    let request = FetchRequest { session_epoch: -1, topics: vec![topic], ..Default::default() };
    peer.ask(&request, 12).await;
}

/// Commits offset `offset` of partition 0 for a group without members.
async fn commit(peer: &mut Peer, group: &str, topic: &str, offset: i64) {
    let find = FindCoordinatorRequest {
        coordinator_keys: vec![group.into()],
        ..FindCoordinatorRequest::default()
    };
    peer.ask(&find, 4).await;
    let request = OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: topic.into(),
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: offset,
                committed_leader_epoch: -1,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    for _ in 0..200 {
        let answer = peer.ask(&request, 8).await;
        let code = ErrorCode::from_i16(answer.topics[0].partitions[0].error_code).unwrap();
        if code.is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the coordinator does not serve");
}

#[tokio::test]
async fn what_clients_did_is_counted() {
    let node = Node::start(&[("offsets.topic.num.partitions", "2")]).await;
    let mut peer = node.peer().await;
    create(&mut peer, "topic", 1, &[]).await;
    create(&mut peer, "other", 1, &[]).await;
    let three = batch(&["a", "b", "c"], Some((5, 0, 0)));
    let size = three.bytes_total() as u64;
    assert_eq!(produce(&mut peer, "topic", 0, &three).await, (0, 0));
    let before = node.broker.observer().snapshot().await;
    // A duplicate is a request, but no record more.
    assert_eq!(produce(&mut peer, "topic", 0, &three).await, (0, 0));
    // Out of order: refused.
    let gap = batch(&["d"], Some((5, 0, 9)));
    assert_ne!(produce(&mut peer, "topic", 0, &gap).await.0, 0);
    assert_eq!(produce(&mut peer, "other", 0, &batch(&["e"], None)).await, (0, 0));
    fetch(&mut peer, "topic", 0).await;
    fetch(&mut peer, "topic", 3).await;
    fetch(&mut peer, "topic", 77).await;
    commit(&mut peer, "readers", "topic", 1).await;

    let after = node.broker.observer().snapshot().await;
    let counts = topic(&after, "topic").counts;
    assert_eq!((counts.records_in, counts.bytes_in, counts.bytes_out), (3, size, size));
    assert_eq!((counts.produces, counts.produces_failed), (3, 1));
    assert_eq!((counts.fetches, counts.fetches_failed), (3, 1));
    assert_eq!(after.traffic.records_in, 4);
    let log = topic(&after, "topic").partitions[0].log.clone().unwrap();
    assert_eq!((log.log_start, log.high_watermark, log.log_end), (Offset(0), Offset(3), Offset(3)));
    assert_eq!((log.bytes, &log.quarantined[..]), (size, &[][..]));

    let (produced, earlier) = (api(&after, "Produce"), api(&before, "Produce"));
    assert_eq!((earlier.latency.count(), produced.latency.count()), (1, 4));
    assert!(produced.bytes_in > 3 * size && produced.latency.total > earlier.latency.total);
    assert_eq!(api(&after, "Fetch").latency.count(), 3);
    assert!(api(&after, "Fetch").bytes_out > size);
    let [listener] = &after.listeners[..] else { panic!("{:?}", after.listeners) };
    assert_eq!((listener.open, listener.opened, listener.refused, listener.broken), (1, 1, 0, 0));

    let [data, metadata] = &after.directories[..] else { panic!("{:?}", after.directories) };
    assert!(metadata.is_metadata && !data.is_metadata && !data.counts.is_offline);
    assert!(data.counts.groups.count() >= 3 && data.counts.batches >= 3);
    assert!(data.counts.bytes >= size);

    assert_eq!((after.groups.len(), after.coordinators_silent), (1, 0));
    let progress = &after.groups[0].offsets[0];
    assert_eq!((progress.offset, progress.lag), (Offset(1), Some(2)));

    // What was deleted stays in the sums, and its group's offset counts for no successor.
    let delete = wire::delete_topics::DeleteTopicsRequest {
        topic_names: vec!["topic".into()],
        timeout_ms: 5000,
        ..Default::default()
    };
    assert_eq!(peer.ask(&delete, 5).await.responses[0].error_code, 0);
    create(&mut peer, "topic", 1, &[]).await;
    let end = node.broker.observer().snapshot().await;
    assert_eq!(end.traffic.records_in, 4);
    assert_eq!(topic(&end, "topic").counts.records_in, 0);
    assert!(end.groups.iter().all(|group| group.offsets.is_empty()));

    // Who breaks the protocol is counted where it came in.
    let mut rude = node.peer().await;
    rude.send_bytes(bytes::Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n")).await;
    assert!(rude.frame().await.is_none());
    // The line in the log, and the count, come after the last byte.
    while node.broker.observer().snapshot().await.listeners[0].broken == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let end = node.broker.observer().snapshot().await;
    assert_eq!((end.listeners[0].opened, end.listeners[0].broken), (2, 1));
    drop(peer);
    node.end().await;
}
