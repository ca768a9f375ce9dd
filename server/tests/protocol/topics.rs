//! Topics that create themselves, and paging through many.

use wire::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, RequestCursor, TopicRequest,
};
use wire::metadata::{MetadataRequest, MetadataRequestTopic};

use types::ErrorCode;

use crate::peer::{Node, batch, create, produce};

fn ask(name: &str, creates: bool) -> MetadataRequest {
    MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { name: Some(name.into()), ..Default::default() }]),
        allow_auto_topic_creation: creates,
        ..Default::default()
    }
}

#[tokio::test]
async fn metadata_creates_a_topic_that_serves_at_once() {
    let node = Node::start(&[("num.partitions", "3")]).await;
    let mut peer = node.peer().await;
    let missing = peer.ask(&ask("new", false), 12).await;
    assert_eq!(missing.topics[0].error_code, ErrorCode::UnknownTopicOrPartition.as_i16());
    let bad = peer.ask(&ask("no/topic", true), 12).await;
    assert_eq!(bad.topics[0].error_code, ErrorCode::InvalidTopicException.as_i16());
    let made = peer.ask(&ask("new", true), 12).await;
    assert_eq!((made.topics[0].error_code, made.topics[0].partitions.len()), (0, 3));
    assert_eq!(produce(&mut peer, "new", 2, &batch(&["v"], None)).await, (0, 0));
    // None are asked for: none are told. All are asked for: all are told.
    let none = MetadataRequest { topics: Some(vec![]), ..Default::default() };
    assert_eq!(peer.ask(&none, 12).await.topics.len(), 0);
    assert_eq!(peer.ask(&none, 0).await.topics.len(), 1);
    let all = MetadataRequest { topics: None, ..Default::default() };
    assert_eq!(peer.ask(&all, 12).await.topics.len(), 1);
    node.end().await;
}

#[tokio::test]
async fn many_partitions_come_page_by_page() {
    let node = Node::start(&[]).await;
    let mut peer = node.peer().await;
    create(&mut peer, "a", 3, &[]).await;
    create(&mut peer, "b", 2, &[]).await;
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let request = DescribeTopicPartitionsRequest {
            topics: ["b", "a", "c"].map(|name| TopicRequest { name: name.into() }).into(),
            response_partition_limit: 2,
            cursor,
        };
        let page = peer.ask(&request, 0).await;
        for topic in &page.topics {
            for partition in &topic.partitions {
                let name = topic.name.as_deref().unwrap_or_default();
                seen.push(format!("{name}-{}", partition.partition_index));
            }
        }
        let Some(next) = page.next_cursor else {
            let last = page.topics.last().unwrap();
            assert_eq!(last.error_code, ErrorCode::UnknownTopicOrPartition.as_i16());
            break;
        };
        cursor = Some(RequestCursor {
            topic_name: next.topic_name,
            partition_index: next.partition_index,
        });
    }
    assert_eq!(seen, ["a-0", "a-1", "a-2", "b-0", "b-1"]);
    node.end().await;
}
