//! What a connection must survive, and what must end it.

use std::time::Duration;

use bytes::Bytes;
use wire::api_versions::ApiVersionsRequest;
use wire::fetch::{FetchPartition, FetchRequest, FetchTopic};
use wire::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};

use crate::peer::{Node, batch, create, produce, produce_request};

#[tokio::test]
async fn responses_leave_in_the_order_of_their_requests() {
    let node = Node::start(&[]).await;
    let mut peer = node.peer().await;
    create(&mut peer, "topic", 1, &[]).await;
    let fetch = FetchRequest {
        max_wait_ms: 300,
        min_bytes: 1,
        topics: vec![FetchTopic {
            topic: "topic".into(),
            partitions: vec![FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() }],
            ..Default::default()
        }],
        ..Default::default()
    };
    // The fetch waits for a record that the produce behind it brings.
    let first = peer.send(&fetch, 11).await;
    let second =
        peer.send(&produce_request("topic", 0, -1, batch(&["v"], None).to_bytes()), 9).await;
    let third = peer.send(&ApiVersionsRequest::default(), 0).await;
    let answer = peer.answer::<FetchRequest>(first, 11).await;
    assert_eq!(answer.responses[0].partitions[0].high_watermark, 1);
    peer.answer::<wire::produce::ProduceRequest>(second, 9).await;
    peer.answer::<ApiVersionsRequest>(third, 0).await;
    node.end().await;
}

#[tokio::test]
async fn what_is_not_the_protocol_ends_the_connection_and_nothing_else() {
    let node = Node::start(&[("socket.request.max.bytes", "2000000")]).await;
    let bad: [&'static [u8]; 7] = [
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
        b"\x7f\xff\xff\xff",
        // One byte more than socket.request.max.bytes.
        b"\0\x1e\x84\x81",
        // A key that does not exist; a version that does not; a body that ends too soon.
        b"\0\0\0\x0a\x03\xe7\0\0\0\0\0\x01\xff\xff",
        b"\0\0\0\x0a\0\x03\0\x63\0\0\0\x01\xff\xff",
        b"\0\0\0\x0b\0\x03\0\x09\0\0\0\x01\xff\xff\0",
    ];
    for bytes in bad {
        let mut peer = node.peer().await;
        peer.send_bytes(Bytes::from_static(bytes)).await;
        assert_eq!(peer.frame().await, None, "{bytes:?}");
    }
    let mut peer = node.peer().await;
    assert_eq!(peer.ask(&ApiVersionsRequest::default(), 0).await.error_code, 0);
    node.end().await;
}

#[tokio::test]
async fn an_error_without_an_answer_closes_the_connection() {
    let node = Node::start(&[("auto.create.topics.enable", "false")]).await;
    let mut peer = node.peer().await;
    create(&mut peer, "topic", 1, &[]).await;
    peer.send(&produce_request("topic", 0, 0, batch(&["a"], None).to_bytes()), 9).await;
    assert_eq!(produce(&mut peer, "topic", 0, &batch(&["b"], None)).await, (0, 1));
    peer.send(&produce_request("no-topic", 0, 0, batch(&["a"], None).to_bytes()), 9).await;
    assert_eq!(peer.frame().await, None);
    node.end().await;
}

#[tokio::test]
async fn idle_connections_end_and_slow_ones_too() {
    let node = Node::start(&[("connections.max.idle.ms", "300")]).await;
    let mut idle = node.peer().await;
    let mut slow = node.peer().await;
    slow.send_bytes(Bytes::from_static(b"\0\0\x01\0\0")).await;
    let both = async { (idle.frame().await, slow.frame().await) };
    let ended = tokio::time::timeout(Duration::from_secs(20), both).await;
    assert_eq!(ended.expect("both ended"), (None, None));
    node.end().await;
}

#[tokio::test]
async fn an_address_gets_so_many_connections_and_no_more() {
    let node = Node::start(&[("max.connections.per.ip", "2")]).await;
    let mut first = node.peer().await;
    let mut second = node.peer().await;
    assert_eq!(first.ask(&ApiVersionsRequest::default(), 0).await.error_code, 0);
    assert_eq!(second.ask(&ApiVersionsRequest::default(), 0).await.error_code, 0);
    let mut third = node.peer().await;
    assert_eq!(third.frame().await, None);
    drop(first);
    // The place is free once the broker has seen the end.
    let mut fourth = node.peer().await;
    for _ in 0..100 {
        let request = wire::request_frame(&ApiVersionsRequest::default(), 0, 1, None).unwrap();
        fourth.send_bytes(request).await;
        if fourth.frame().await.is_some() {
            break;
        }
        fourth = node.peer().await;
    }
    assert_eq!(second.ask(&ApiVersionsRequest::default(), 0).await.error_code, 0);
    node.end().await;
}

#[tokio::test]
async fn beyond_the_limit_of_all_connections_wait_until_it_is_raised() {
    let node = Node::start(&[("max.connections", "1")]).await;
    let mut first = node.peer().await;
    assert_eq!(first.ask(&ApiVersionsRequest::default(), 0).await.error_code, 0);
    let mut second = node.peer().await;
    let asked = second.send(&ApiVersionsRequest::default(), 0).await;
    let soon = tokio::time::timeout(Duration::from_millis(300), second.frame()).await;
    assert!(soon.is_err(), "neither served nor closed");
    let raised = AlterConfigsResource {
        resource_type: 4,
        configs: vec![AlterableConfig {
            name: "max.connections".into(),
            value: Some("2".into()),
            ..AlterableConfig::default()
        }],
        ..AlterConfigsResource::default()
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![raised], ..Default::default() };
    assert_eq!(first.ask(&request, 1).await.responses[0].error_code, 0);
    second.answer::<ApiVersionsRequest>(asked, 0).await;
    node.end().await;
}
