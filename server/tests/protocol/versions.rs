//! Every version of every request gets an answer that its client can read.

use types::ErrorCode;
use wire::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use wire::{ApiKey, Reader, Request, ResponseHeader};

use crate::peer::{Node, Peer, batch, create, produce_request};

async fn ask_all<R: Request>(peer: &mut Peer, request: impl Fn(i16) -> R) -> Vec<R::Response> {
    let (first, last) = R::API_KEY.stable_versions();
    let mut answers = Vec::new();
    for version in first..=last {
        answers.push(peer.ask(&request(version), version).await);
    }
    answers
}

#[tokio::test]
async fn each_version_of_each_request_is_answered() {
    let node = Node::start(&[]).await;
    let mut peer = node.peer().await;
    let id = create(&mut peer, "topic", 2, &[]).await;

    for answer in ask_all(&mut peer, |_| ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: "1".into(),
        ..Default::default()
    })
    .await
    {
        assert_eq!(answer.error_code, 0);
        assert!(answer.api_keys.iter().any(|key| key.api_key == ApiKey::Produce.as_i16()));
    }

    use wire::metadata::{MetadataRequest, MetadataRequestTopic};
    for answer in ask_all(&mut peer, |version| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some("topic".into()),
            ..Default::default()
        }]),
        allow_auto_topic_creation: version < 4,
        include_topic_authorized_operations: version >= 8,
        include_cluster_authorized_operations: (8..=10).contains(&version),
    })
    .await
    {
        assert_eq!(answer.topics[0].error_code, 0);
        assert_eq!(answer.topics[0].partitions.len(), 2);
        assert_eq!(answer.brokers[0].node_id, 7);
        assert_eq!(answer.brokers[0].port, i32::from(node.address().port()));
    }

    for (count, answer) in (0..).zip(
        ask_all(&mut peer, |version| {
            let mut request = produce_request("topic", 0, -1, batch(&["v"], None).to_bytes());
            if version >= 13 {
                request.topic_data[0].name = "".into();
                request.topic_data[0].topic_id = id;
            }
            request
        })
        .await,
    ) {
        let told = &answer.responses[0].partition_responses[0];
        assert_eq!((told.error_code, told.base_offset), (0, count));
    }

    use wire::fetch::{FetchPartition, FetchRequest, FetchTopic};
    for answer in ask_all(&mut peer, |version| FetchRequest {
        max_wait_ms: 10,
        min_bytes: 1,
        topics: vec![FetchTopic {
            topic: if version < 13 { "topic".into() } else { "".into() },
            topic_id: if version < 13 { types::Uuid::ZERO } else { id },
            partitions: vec![FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() }],
        }],
        ..Default::default()
    })
    .await
    {
        let told = &answer.responses[0].partitions[0];
        assert_eq!((told.error_code, told.high_watermark), (0, 11));
        assert_eq!(
            told.records.as_ref().map(|bytes| bytes.len()),
            Some(11 * batch(&["v"], None).bytes_total())
        );
    }

    use wire::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
    for answer in ask_all(&mut peer, |_| ListOffsetsRequest {
        topics: vec![ListOffsetsTopic {
            name: "topic".into(),
            partitions: vec![ListOffsetsPartition { timestamp: -1, ..Default::default() }],
        }],
        ..Default::default()
    })
    .await
    {
        let told = &answer.topics[0].partitions[0];
        assert_eq!((told.error_code, told.offset), (0, 11));
    }

    use wire::offset_for_leader_epoch::{
        OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
    };
    for answer in ask_all(&mut peer, |_| OffsetForLeaderEpochRequest {
        topics: vec![OffsetForLeaderTopic {
            topic: "topic".into(),
            partitions: vec![OffsetForLeaderPartition::default()],
        }],
        ..Default::default()
    })
    .await
    {
        let told = &answer.topics[0].partitions[0];
        assert_eq!((told.error_code, told.leader_epoch, told.end_offset), (0, 0, 11));
    }

    use wire::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
    for answer in ask_all(&mut peer, |_| DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: "topic".into(),
            partitions: vec![DeleteRecordsPartition { partition_index: 0, offset: 3 }],
        }],
        timeout_ms: 1000,
    })
    .await
    {
        let told = &answer.topics[0].partitions[0];
        assert_eq!((told.error_code, told.low_watermark), (0, 3));
    }

    use wire::init_producer_id::InitProducerIdRequest;
    let ids: Vec<i64> = ask_all(&mut peer, |_| InitProducerIdRequest::default())
        .await
        .into_iter()
        .map(|answer| answer.producer_id)
        .collect();
    assert_eq!(ids, (0..ids.len() as i64).collect::<Vec<_>>());

    use wire::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
    for answer in ask_all(&mut peer, |version| DescribeConfigsRequest {
        resources: [(2, "topic"), (4, "7"), (4, ""), (32, "group")]
            .map(|(kind, name)| DescribeConfigsResource {
                resource_type: kind,
                resource_name: name.into(),
                ..Default::default()
            })
            .into(),
        include_synonyms: true,
        include_documentation: version >= 3,
    })
    .await
    {
        for result in &answer.results {
            assert_eq!(result.error_code, 0, "{:?}", result.error_message);
        }
        assert!(answer.results[0].configs.iter().any(|config| &*config.name == "retention.ms"));
    }

    use wire::incremental_alter_configs::{
        AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
    };
    for answer in ask_all(&mut peer, |_| IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: 2,
            resource_name: "topic".into(),
            configs: vec![AlterableConfig {
                name: "retention.ms".into(),
                config_operation: 0,
                value: Some("1234567".into()),
            }],
        }],
        validate_only: false,
    })
    .await
    {
        assert_eq!(answer.responses[0].error_code, 0);
    }

    use wire::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
    for answer in ask_all(&mut peer, |version| CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: "topic".into(),
            count: 3 + i32::from(version),
            assignments: None,
        }],
        timeout_ms: 1000,
        validate_only: false,
    })
    .await
    {
        assert_eq!(answer.results[0].error_code, 0);
    }

    use wire::describe_cluster::DescribeClusterRequest;
    for answer in ask_all(&mut peer, |_| DescribeClusterRequest::default()).await {
        assert_eq!((answer.error_code, answer.brokers.len()), (0, 1));
    }

    use wire::describe_topic_partitions::DescribeTopicPartitionsRequest;
    for answer in ask_all(&mut peer, |_| DescribeTopicPartitionsRequest::default()).await {
        assert_eq!(answer.topics[0].partitions.len(), 6);
    }

    use wire::create_topics::{CreatableTopic, CreateTopicsRequest};
    for answer in ask_all(&mut peer, |version| CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: format!("made-{version}").into(),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        }],
        timeout_ms: 1000,
        validate_only: false,
    })
    .await
    {
        assert_eq!(answer.topics[0].error_code, 0);
    }

    use wire::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
    for answer in ask_all(&mut peer, |version| {
        let name = format!("made-{}", version + 1);
        DeleteTopicsRequest {
            topics: match version {
                6 => {
                    vec![DeleteTopicState { name: Some(name.clone().into()), ..Default::default() }]
                }
                _ => Vec::new(),
            },
            topic_names: if version < 6 { vec![name.into()] } else { Vec::new() },
            timeout_ms: 1000,
        }
    })
    .await
    {
        assert_eq!(answer.responses[0].error_code, 0, "{answer:?}");
    }
    node.end().await;
}

#[tokio::test]
async fn a_newer_client_learns_which_versions_there_are() {
    let node = Node::start(&[]).await;
    let mut peer = node.peer().await;
    // Key 18 in version 99, correlation id 5, no client id.
    let frame = b"\0\0\0\x0a\0\x12\0\x63\0\0\0\x05\xff\xff";
    peer.send_bytes(bytes::Bytes::from_static(frame)).await;
    let mut reader = Reader::new(peer.frame().await.unwrap());
    assert_eq!(ResponseHeader::decode(&mut reader, 0).unwrap().correlation_id, 5);
    let answer = ApiVersionsResponse::decode(&mut reader, 0).unwrap();
    assert_eq!(answer.error_code, ErrorCode::UnsupportedVersion.as_i16());
    // The connection goes on.
    assert_eq!(peer.ask(&ApiVersionsRequest::default(), 0).await.error_code, 0);
    node.end().await;
}
