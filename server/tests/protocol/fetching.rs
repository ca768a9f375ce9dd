//! What a consumer is told.

use types::{ErrorCode, Uuid};
use wire::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic};

use crate::peer::{Node, Peer, batch, create, produce};

fn topic(name: &str, id: Uuid, offsets: &[i64]) -> FetchTopic {
    let partitions = (0..).zip(offsets).map(|(partition, offset)| FetchPartition {
        partition,
        fetch_offset: *offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    });
    FetchTopic { topic: name.into(), topic_id: id, partitions: partitions.collect() }
}

fn request(session: (i32, i32), topics: Vec<FetchTopic>) -> FetchRequest {
    FetchRequest {
        session_id: session.0,
        session_epoch: session.1,
        max_wait_ms: 20,
        min_bytes: 1,
        topics,
        ..Default::default()
    }
}

/// Partition, code and bytes of what was answered.
fn told(answer: &FetchResponse) -> Vec<(i32, i16, usize)> {
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    partitions
        .map(|p| (p.partition_index, p.error_code, p.records.as_ref().map_or(0, |r| r.len())))
        .collect()
}

#[tokio::test]
async fn a_session_tells_only_what_changed() {
    let node = Node::start(&[]).await;
    let mut peer = node.peer().await;
    create(&mut peer, "topic", 3, &[]).await;
    let one = batch(&["v"], None);
    let size = one.bytes_total();
    produce(&mut peer, "topic", 1, &one).await;
    let all = vec![topic("topic", Uuid::ZERO, &[0, 0, 0])];
    let full = peer.ask(&request((0, 0), all.clone()), 12).await;
    assert_eq!(told(&full), [(0, 0, 0), (1, 0, size), (2, 0, 0)]);
    let id = full.session_id;
    assert_ne!(id, 0);
    // It went on to offset 1 of partition 1, and nothing is new.
    let mut moved = topic("topic", Uuid::ZERO, &[0, 1]);
    moved.partitions.remove(0);
    let quiet = peer.ask(&request((id, 1), vec![moved]), 12).await;
    assert_eq!((told(&quiet), quiet.session_id), (vec![], id));
    produce(&mut peer, "topic", 2, &one).await;
    let news = peer.ask(&request((id, 2), vec![]), 12).await;
    assert_eq!(told(&news), [(2, 0, size)]);
    // Forgotten, it is not told any more.
    let mut forget = request((id, 3), vec![]);
    forget.forgotten_topics_data =
        vec![ForgottenTopic { topic: "topic".into(), partitions: vec![2], ..Default::default() }];
    assert_eq!(told(&peer.ask(&forget, 12).await), []);
    let wrong = peer.ask(&request((id, 3), vec![]), 12).await;
    assert_eq!(wrong.error_code, ErrorCode::InvalidFetchSessionEpoch.as_i16());
    let unknown = peer.ask(&request((id + 1, 1), vec![]), 12).await;
    assert_eq!(unknown.error_code, ErrorCode::FetchSessionIdNotFound.as_i16());
    node.end().await;
}

async fn fetch_by_id(peer: &mut Peer, id: Uuid) -> i16 {
    let answer = peer.ask(&request((0, -1), vec![topic("", id, &[0])]), 13).await;
    answer.responses[0].partitions[0].error_code
}

#[tokio::test]
async fn a_deleted_topic_is_not_its_successor() {
    use wire::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
    let node = Node::start(&[]).await;
    let mut peer = node.peer().await;
    let old = create(&mut peer, "topic", 1, &[]).await;
    produce(&mut peer, "topic", 0, &batch(&["old"], None)).await;
    let by_name = vec![topic("topic", Uuid::ZERO, &[0])];
    let session = peer.ask(&request((0, 0), by_name), 12).await.session_id;
    let delete = DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some("topic".into()), ..Default::default() }],
        timeout_ms: 1000,
        ..Default::default()
    };
    assert_eq!(peer.ask(&delete, 6).await.responses[0].error_code, 0);
    let new = create(&mut peer, "topic", 1, &[]).await;
    assert_ne!(old, new);
    assert_eq!(fetch_by_id(&mut peer, old).await, ErrorCode::UnknownTopicId.as_i16());
    assert_eq!(fetch_by_id(&mut peer, new).await, 0);
    // By name the session says once that its topic is gone (P18).
    let first = peer.ask(&request((session, 1), vec![]), 12).await;
    assert_eq!(told(&first), [(0, ErrorCode::UnknownTopicOrPartition.as_i16(), 0)]);
    let second = peer.ask(&request((session, 2), vec![]), 12).await;
    assert_eq!(told(&second), [(0, 0, 0)]);
    node.end().await;
}

#[tokio::test]
async fn offsets_epochs_and_budgets_have_their_rules() {
    let node = Node::start(&[]).await;
    let mut peer = node.peer().await;
    create(&mut peer, "topic", 2, &[]).await;
    let one = batch(&["v"], None);
    let size = one.bytes_total();
    for partition in [0, 0, 1, 1] {
        produce(&mut peer, "topic", partition, &one).await;
    }
    let ask = |offset, epoch, bytes| {
        let mut asked = topic("topic", Uuid::ZERO, &[offset]);
        asked.partitions[0].current_leader_epoch = epoch;
        asked.partitions[0].partition_max_bytes = bytes;
        request((0, -1), vec![asked])
    };
    for (offset, epoch, bytes, expected) in [
        (0, -1, 1000, (0, 0, 2 * size)),
        (1, -1, 1000, (0, 0, size)),
        (2, -1, 1000, (0, 0, 0)),
        (3, -1, 1000, (0, ErrorCode::OffsetOutOfRange.as_i16(), 0)),
        (-1, -1, 1000, (0, ErrorCode::OffsetOutOfRange.as_i16(), 0)),
        (0, 1, 1000, (0, ErrorCode::UnknownLeaderEpoch.as_i16(), 0)),
        // The first batch is whole, however small the budget.
        (0, 0, 1, (0, 0, size)),
    ] {
        let answer = peer.ask(&ask(offset, epoch, bytes), 12).await;
        assert_eq!(told(&answer), [expected], "offset {offset} epoch {epoch} bytes {bytes}");
    }
    // One budget for all partitions: the second gets what the first leaves, in whole batches.
    let mut both = request((0, -1), vec![topic("topic", Uuid::ZERO, &[0, 0])]);
    both.max_bytes = 3 * size as i32 + 5;
    assert_eq!(told(&peer.ask(&both, 12).await), [(0, 0, 2 * size), (1, 0, size)]);
    both.max_bytes = 1;
    assert_eq!(told(&peer.ask(&both, 12).await), [(0, 0, size), (1, 0, 0)]);
    node.end().await;
}
