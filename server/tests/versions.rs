//! Every stable version of every request that is served, asked of the built program with state behind it: topics with
//! records of two leader epochs, a group with members and committed offsets. An answer that its version cannot carry
//! would end the connection instead (ListOffsets before version 4 once did: it has no place for the leader's epoch), so
//! that a client of that age gets nowhere at all.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::collections::BTreeSet;

use bytes::Bytes;
use client::{Client, ClientConfig, Target};
use common::{Scratch, Server};
use record::{Batch, BatchBuilder, BatchOptions, Compression};
use server::world::RealEnv;
use types::{ErrorCode, Timestamp, Uuid};
use wire::{ApiKey, Request, Str};

const TIME: i64 = 1_700_000_000_000;
/// Records in partition 0 of `topic`, half of them from before the restart.
const RECORDS: i64 = 6;

/// A broker that was restarted once, and the client that asks.
struct World {
    client: Client<RealEnv>,
    topic: Uuid,
    node: i32,
    port: i32,
    server: Server,
    scratch: Scratch,
}

impl World {
    async fn open() -> World {
        let scratch = Scratch::new();
        let settings = ["--set", "group.initial.rebalance.delay.ms=0"];
        let server = Server::dev(scratch.path(), &settings);
        let lines =
            |from: i64| (0..RECORDS / 2).map(|n| format!("{}\n", from + n)).collect::<String>();
        server.ok(&["topic", "create", "topic", "--partitions", "2"], "");
        server.ok(&["produce", "topic", "--partition", "0"], &lines(0));
        server.stop();
        let server = Server::dev(scratch.path(), &settings);
        server.ok(&["produce", "topic", "--partition", "0"], &lines(RECORDS / 2));
        let config =
            ClientConfig { bootstrap: vec![server.bootstrap.clone()], ..ClientConfig::default() };
        let client = Client::new(RealEnv::new(), config);
        let port = server.bootstrap.rsplit(':').next().unwrap().parse().unwrap();
        let mut world = World { client, topic: Uuid::ZERO, node: 0, port, server, scratch };
        let known = world.metadata().await;
        world.topic = known.topics[0].topic_id;
        world.node = known.brokers[0].node_id;
        world
    }

    /// All topics.
    async fn metadata(&self) -> wire::metadata::MetadataResponse {
        self.ask(wire::metadata::MetadataRequest { topics: None, ..Default::default() }, 12).await
    }

    /// One request in one version.
    async fn ask<R: Request>(&self, request: R, version: i16) -> R::Response {
        match self.client.raw(Target::Any, request, Some(version)).await {
            Ok(answer) => answer,
            Err(error) => panic!("{} version {version}: {error}", R::API_KEY.name()),
        }
    }

    /// What is asked, in each version; each answer with its version.
    async fn each<R: Request>(&self, request: impl Fn(i16) -> R) -> Vec<(i16, R::Response)> {
        let (first, last) = R::API_KEY.stable_versions();
        let mut answers = Vec::new();
        for version in first..=last {
            answers.push((version, self.ask(request(version), version).await));
        }
        answers
    }

    fn name(&self, is_named: bool) -> (Str, Uuid) {
        if is_named { ("topic".into(), Uuid::ZERO) } else { (Str::EMPTY, self.topic) }
    }

    /// Checks that the broker has seen no reason to close a connection, and ends it.
    async fn end(self) {
        drop(self.client);
        self.server.stop();
    }
}

fn batch(compression: Compression) -> Batch {
    let mut builder =
        BatchBuilder::new(BatchOptions { codec: compression.into(), ..BatchOptions::default() });
    builder.push(Some(Timestamp(TIME)), None, Some(b"value"));
    builder.push(Some(Timestamp(TIME + 1)), Some(b"key"), None);
    builder.build()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

const NONE: i16 = ErrorCode::None.as_i16();

#[test]
fn versions_and_the_cluster_are_told_in_every_version() {
    runtime().block_on(async {
        let world = World::open().await;
        let ask = |version: i16| wire::api_versions::ApiVersionsRequest {
            client_software_name: if version >= 3 { "test".into() } else { Str::EMPTY },
            client_software_version: if version >= 3 { "1".into() } else { Str::EMPTY },
            ..Default::default()
        };
        for (version, answer) in world.each(ask).await {
            assert_eq!(answer.error_code, NONE, "version {version}");
            let told: BTreeSet<i16> = answer.api_keys.iter().map(|key| key.api_key).collect();
            let live: BTreeSet<i16> = (0..=3)
                .chain(8..=16)
                .chain(18..=23)
                .chain([32, 33, 35, 37, 42, 43, 44, 45, 46, 47, 55, 57, 60, 64, 71, 72, 74, 75])
                .chain([80, 81, 94])
                .collect();
            assert_eq!(told, live);
            let produce = &answer.api_keys[0];
            assert_eq!(produce.api_key, ApiKey::Produce.as_i16());
            // librdkafka does not compress unless it is told of version 0, which nobody serves.
            assert_eq!((produce.min_version, produce.max_version), (0, 13));
            assert!(version < 3 || !answer.finalized_features.is_empty());
        }

        use wire::metadata::{MetadataRequest, MetadataRequestTopic};
        let named = |name: &str| MetadataRequestTopic {
            name: Some(name.to_owned().into()),
            ..Default::default()
        };
        let ask = |names: Option<&[&str]>, version: i16| MetadataRequest {
            topics: names.map(|names| names.iter().map(|name| named(name)).collect()),
            allow_auto_topic_creation: version < 4,
            include_topic_authorized_operations: version >= 8,
            include_cluster_authorized_operations: (8..=10).contains(&version),
        };
        for (version, answer) in
            world.each(|version| ask(Some(&["topic", "not a name"]), version)).await
        {
            let broker = &answer.brokers[0];
            assert_eq!(
                (broker.node_id, &*broker.host, broker.port),
                (world.node, "127.0.0.1", world.port)
            );
            assert_eq!(answer.controller_id, if version >= 1 { world.node } else { -1 });
            assert_eq!(answer.cluster_id.is_some(), version >= 2);
            let topic = &answer.topics[0];
            assert_eq!((topic.error_code, topic.name.as_deref()), (NONE, Some("topic")));
            assert_eq!(topic.topic_id.is_zero(), version < 10);
            assert_eq!(topic.topic_authorized_operations > 0, version >= 8);
            assert_eq!(answer.cluster_authorized_operations > 0, (8..=10).contains(&version));
            assert_eq!(topic.partitions.len(), 2);
            for partition in &topic.partitions {
                assert_eq!((partition.error_code, partition.leader_id), (NONE, world.node));
                assert_eq!(partition.leader_epoch >= 0, version >= 7);
                assert_eq!(
                    (&partition.replica_nodes, &partition.isr_nodes),
                    (&vec![world.node], &vec![world.node])
                );
            }
            assert_eq!(answer.topics[1].error_code, ErrorCode::InvalidTopicException.as_i16());
        }
        // No topics at all: all of them before version 1, none from then on. Null: all of them.
        for (version, answer) in world.each(|version| ask(Some(&[]), version)).await {
            assert_eq!(answer.topics.len(), usize::from(version == 0), "version {version}");
        }
        for version in 1..=ApiKey::Metadata.stable_versions().1 {
            assert_eq!(
                world.ask(ask(None, version), version).await.topics.len(),
                1,
                "version {version}"
            );
        }
        // By id where ids may be asked for; a refusal where they stand in the request to no purpose.
        for version in 10..=ApiKey::Metadata.stable_versions().1 {
            let by_id = |topic_id: Uuid| MetadataRequest {
                topics: Some(vec![MetadataRequestTopic { topic_id, name: None }]),
                ..Default::default()
            };
            let (known, unknown) = (by_id(world.topic), by_id(Uuid([5; 16])));
            let request = |request: MetadataRequest| {
                let topics = request.topics.map(|topics| {
                    let name = |mut topic: MetadataRequestTopic| {
                        topic.name = if version < 12 { Some("topic".into()) } else { None };
                        topic
                    };
                    topics.into_iter().map(name).collect()
                });
                MetadataRequest { topics, ..request }
            };
            let answers = [
                world.ask(request(known), version).await,
                world.ask(request(unknown), version).await,
            ];
            let codes = answers.map(|answer| answer.topics[0].error_code);
            let expected = match version {
                10..=11 => [ErrorCode::InvalidRequest; 2],
                _ => [ErrorCode::None, ErrorCode::UnknownTopicId],
            };
            assert_eq!(codes, expected.map(|code| code.as_i16()), "version {version}");
        }

        use wire::describe_cluster::DescribeClusterRequest;
        let ask = |_| DescribeClusterRequest {
            include_cluster_authorized_operations: true,
            ..Default::default()
        };
        for (version, answer) in world.each(ask).await {
            assert_eq!((answer.error_code, answer.brokers.len()), (NONE, 1), "version {version}");
            assert!(answer.cluster_authorized_operations > 0);
            assert_eq!(answer.controller_id, world.node);
        }
        use wire::describe_quorum::{
            DescribeQuorumRequest, RequestPartitionData, RequestTopicData,
        };
        let topic = |name: &str, partitions: &[i32]| RequestTopicData {
            topic_name: name.to_owned().into(),
            partitions: partitions
                .iter()
                .map(|index| RequestPartitionData { partition_index: *index })
                .collect(),
        };
        // Whatever else is asked, alone or with it, is not there.
        let metadata = "__cluster_metadata";
        for topics in [
            vec![topic(metadata, &[0, 1])],
            vec![topic(metadata, &[0, 0])],
            vec![topic("topic", &[0])],
            vec![topic(metadata, &[0]), topic(metadata, &[0])],
        ] {
            let ask = |_| DescribeQuorumRequest { topics: topics.clone() };
            for (version, answer) in world.each(ask).await {
                let mut told = answer.topics.iter().flat_map(|topic| &topic.partitions);
                let unknown = ErrorCode::UnknownTopicOrPartition.as_i16();
                assert!(told.all(|partition| partition.error_code == unknown), "{version}");
            }
        }
        let ask = |_| DescribeQuorumRequest { topics: vec![topic(metadata, &[0])] };
        for (version, answer) in world.each(ask).await {
            assert_eq!(answer.error_code, NONE, "version {version}");
            let metadata = &answer.topics[0].partitions[0];
            assert_eq!(metadata.leader_id, world.node);
            assert!(metadata.leader_epoch > 0 && metadata.high_watermark > 0);
            let [voter] = &metadata.current_voters[..] else { panic!("{metadata:?}") };
            assert_eq!(
                (voter.replica_id, voter.log_end_offset),
                (world.node, metadata.high_watermark)
            );
            assert_eq!(voter.last_caught_up_timestamp > 0, version >= 1);
            assert_eq!(!voter.replica_directory_id.is_zero(), version >= 2);
            assert_eq!(answer.nodes.len(), usize::from(version >= 2));
        }

        use wire::elect_leaders::{ElectLeadersRequest, TopicPartitions};
        type Named = &'static [(&'static str, &'static [i32])];
        let elect = |election_type: i8, named: Option<Named>| {
            move |version: i16| ElectLeadersRequest {
                election_type: if version >= 1 { election_type } else { 0 },
                topic_partitions: named.map(|named| {
                    let topics = named.iter().map(|(topic, partitions)| TopicPartitions {
                        topic: (*topic).to_owned().into(),
                        partitions: partitions.to_vec(),
                    });
                    topics.collect()
                }),
                timeout_ms: 1000,
            }
        };
        // One replica leads already, and nothing is elected; of all partitions only what was needed is told of.
        let named: Named = &[("absent", &[0]), ("topic", &[0, 7])];
        for election_type in [0, 1] {
            for (version, answer) in world.each(elect(election_type, Some(named))).await {
                assert_eq!(answer.error_code, NONE, "version {version}");
                let told = answer.replica_election_results.iter();
                let codes: Vec<i16> = told
                    .flat_map(|topic| &topic.partition_result)
                    .map(|told| told.error_code)
                    .collect();
                let unknown = ErrorCode::UnknownTopicOrPartition.as_i16();
                let needless = ErrorCode::ElectionNotNeeded.as_i16();
                assert_eq!(codes, [unknown, needless, unknown], "version {version}");
            }
            for (version, answer) in world.each(elect(election_type, None)).await {
                assert!(answer.replica_election_results.is_empty(), "version {version}");
            }
        }
        for (version, answer) in world.each(elect(7, Some(named))).await {
            let refused = ErrorCode::InvalidRequest.as_i16();
            assert_eq!(answer.error_code, if version >= 1 { refused } else { NONE });
        }

        use wire::alter_partition_reassignments::{
            AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
        };
        let reassign = |name: &str, partition_index: i32, replicas: Option<Vec<i32>>| {
            let partitions = vec![ReassignablePartition { partition_index, replicas }];
            ReassignableTopic { name: name.to_owned().into(), partitions }
        };
        let node = world.node;
        let ask = |_| AlterPartitionReassignmentsRequest {
            topics: vec![
                reassign("absent", 0, Some(vec![node])),
                reassign("topic", 0, Some(vec![node])),
                reassign("topic", 1, Some(vec![node + 1])),
                reassign("topic", 7, Some(vec![node])),
                reassign("topic", 1, Some(vec![node])),
            ],
            ..Default::default()
        };
        for (version, answer) in world.each(ask).await {
            assert_eq!(answer.error_code, NONE, "version {version}");
            let told = answer.responses.iter().flat_map(|topic| &topic.partitions);
            let told: Vec<_> = told.map(|told| (told.partition_index, told.error_code)).collect();
            let unknown = ErrorCode::UnknownTopicOrPartition.as_i16();
            let repeated = ErrorCode::InvalidRequest.as_i16();
            let expected = [(0, unknown), (0, NONE), (1, repeated), (7, unknown), (1, repeated)];
            assert_eq!(told, expected, "version {version}");
        }
        let cases = [
            (Some(vec![node + 1]), ErrorCode::InvalidReplicaAssignment),
            (Some(vec![]), ErrorCode::InvalidReplicaAssignment),
            (Some(vec![node, node]), ErrorCode::InvalidReplicaAssignment),
            (None, ErrorCode::NoReassignmentInProgress),
        ];
        for (replicas, expected) in cases {
            let ask = |_| AlterPartitionReassignmentsRequest {
                topics: vec![reassign("topic", 1, replicas.clone())],
                ..Default::default()
            };
            for (version, answer) in world.each(ask).await {
                let told = &answer.responses[0].partitions[0];
                assert_eq!(told.error_code, expected.as_i16(), "version {version}: {replicas:?}");
                assert!(told.error_message.is_some() || replicas.is_none());
            }
        }
        use wire::list_partition_reassignments::{
            ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics,
        };
        let asked = ListPartitionReassignmentsTopics {
            name: "topic".into(),
            partition_indexes: vec![0, 1],
        };
        for topics in [None, Some(vec![asked])] {
            let ask = |_| ListPartitionReassignmentsRequest {
                topics: topics.clone(),
                ..Default::default()
            };
            for (version, answer) in world.each(ask).await {
                assert_eq!(
                    (answer.error_code, answer.topics.len()),
                    (NONE, 0),
                    "version {version}"
                );
            }
        }

        use wire::describe_log_dirs::{DescribableLogDirTopic, DescribeLogDirsRequest};
        let ask = |topics: Option<&[(&str, &[i32])]>| DescribeLogDirsRequest {
            topics: topics.map(|topics| {
                let asked = topics.iter().map(|(topic, partitions)| DescribableLogDirTopic {
                    topic: (*topic).to_owned().into(),
                    partitions: partitions.to_vec(),
                });
                asked.collect()
            }),
        };
        // Null: everything. None: nothing. What is asked for, as far as it is there.
        let all = world.each(|_| ask(None)).await;
        let none = world.each(|_| ask(Some(&[]))).await;
        let some = [("topic", &[1, 7][..]), ("absent", &[0][..])];
        let some = world.each(|_| ask(Some(&some))).await;
        let cases = [(all, &[0, 1][..]), (none, &[][..]), (some, &[1][..])];
        for (answers, expected) in cases {
            for (version, answer) in answers {
                let [dir] = &answer.results[..] else { panic!("{answer:?}") };
                assert_eq!((answer.error_code, dir.error_code), (NONE, NONE), "version {version}");
                assert_eq!(&*dir.log_dir, world.scratch.path().to_string_lossy());
                assert!(!dir.is_cordoned);
                let is_told = version >= 4;
                assert_eq!((dir.total_bytes > 0, dir.usable_bytes > 0), (is_told, is_told));
                assert!(dir.usable_bytes <= dir.total_bytes, "version {version}");
                let told: Vec<i32> = dir
                    .topics
                    .iter()
                    .flat_map(|topic| &topic.partitions)
                    .inspect(|told| assert_eq!((told.offset_lag, told.is_future_key), (0, false)))
                    .inspect(|told| assert_eq!(told.partition_size > 0, told.partition_index == 0))
                    .map(|told| told.partition_index)
                    .collect();
                assert_eq!(told, expected, "version {version}");
                assert!(dir.topics.iter().all(|topic| &*topic.name == "topic"));
            }
        }

        use wire::describe_topic_partitions::{DescribeTopicPartitionsRequest, TopicRequest};
        let ask = |_| DescribeTopicPartitionsRequest {
            topics: vec![
                TopicRequest { name: "absent".into() },
                TopicRequest { name: "topic".into() },
            ],
            response_partition_limit: 1,
            cursor: None,
        };
        for (_, answer) in world.each(ask).await {
            assert_eq!(answer.topics[0].error_code, ErrorCode::UnknownTopicOrPartition.as_i16());
            assert_eq!(answer.topics[1].partitions.len(), 1);
            assert_eq!(answer.next_cursor.unwrap().partition_index, 1);
        }
        world.end().await;
    });
}

#[test]
fn records_are_written_and_read_in_every_version() {
    runtime().block_on(async {
        let world = World::open().await;
        use wire::offset_for_leader_epoch::{
            OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
        };
        let ask = |leader_epoch: i32, current_leader_epoch: i32| {
            move |_| OffsetForLeaderEpochRequest {
                topics: vec![OffsetForLeaderTopic {
                    topic: "topic".into(),
                    partitions: vec![OffsetForLeaderPartition {
                        partition: 0,
                        current_leader_epoch,
                        leader_epoch,
                    }],
                }],
                ..Default::default()
            }
        };
        let mut now = 0;
        for (version, answer) in world.each(ask(i32::MAX - 1, -1)).await {
            let told = &answer.topics[0].partitions[0];
            assert_eq!((told.error_code, told.end_offset), (NONE, -1), "version {version}");
        }
        for (version, answer) in world.each(ask(0, -1)).await {
            let told = &answer.topics[0].partitions[0];
            assert_eq!(told.error_code, NONE, "version {version}");
            assert!([RECORDS / 2, RECORDS].contains(&told.end_offset), "{told:?}");
        }
        for (_, answer) in world.each(ask(0, 1000)).await {
            assert_eq!(
                answer.topics[0].partitions[0].error_code,
                ErrorCode::UnknownLeaderEpoch.as_i16()
            );
        }
        let known = world.metadata().await;
        if let Some(partition) = known.topics[0].partitions.iter().find(|p| p.partition_index == 0)
        {
            now = partition.leader_epoch;
        }

        use wire::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
        // Last, first, the greatest timestamp, on this disk, tiered, not uploaded; at a time; later than all.
        for (timestamp, since, expected) in [
            (-1, 1, Some(RECORDS)),
            (-2, 1, Some(0)),
            (-3, 7, None),
            (-4, 8, Some(0)),
            (-5, 9, Some(-1)),
            (-6, 11, Some(-1)),
            (1, 1, Some(0)),
            (i64::MAX, 1, Some(-1)),
        ] {
            let ask = |version: i16| ListOffsetsRequest {
                replica_id: -1,
                isolation_level: i8::from(version >= 2),
                topics: vec![ListOffsetsTopic {
                    name: "topic".into(),
                    partitions: vec![ListOffsetsPartition {
                        timestamp,
                        current_leader_epoch: if version >= 4 { now } else { -1 },
                        ..Default::default()
                    }],
                }],
                timeout_ms: 1000,
            };
            for (version, answer) in world.each(ask).await {
                let told = &answer.topics[0].partitions[0];
                let what = format!("version {version}, timestamp {timestamp}: {told:?}");
                if version < since {
                    assert_eq!(told.error_code, ErrorCode::UnsupportedVersion.as_i16(), "{what}");
                    continue;
                }
                assert_eq!(told.error_code, NONE, "{what}");
                match expected {
                    Some(offset) => assert_eq!(told.offset, offset, "{what}"),
                    None => assert!((0..RECORDS).contains(&told.offset), "{what}"),
                }
                assert_eq!(told.leader_epoch >= 0, version >= 4 && told.offset >= 0, "{what}");
            }
        }

        use wire::fetch::{FetchPartition, FetchRequest, FetchTopic};
        let ask = |version: i16, offset: i64, epochs: (i32, i32), session: (i32, i32)| {
            let (topic, topic_id) = world.name(version < 13);
            let (session_id, session_epoch) = if version >= 7 { session } else { (0, -1) };
            FetchRequest {
                max_wait_ms: 10,
                min_bytes: 1,
                isolation_level: i8::from(version % 2 == 0),
                session_id,
                session_epoch,
                topics: vec![FetchTopic {
                    topic,
                    topic_id,
                    partitions: vec![FetchPartition {
                        fetch_offset: offset,
                        partition_max_bytes: 1 << 20,
                        current_leader_epoch: if version >= 9 { epochs.0 } else { -1 },
                        last_fetched_epoch: if version >= 12 { epochs.1 } else { -1 },
                        log_start_offset: -1,
                        ..Default::default()
                    }],
                }],
                ..Default::default()
            }
        };
        for epochs in [(-1, -1), (now, 0), (now, now)] {
            for (version, answer) in world.each(|version| ask(version, 0, epochs, (0, -1))).await {
                let told = &answer.responses[0].partitions[0];
                assert_eq!(
                    (told.error_code, told.high_watermark),
                    (NONE, RECORDS),
                    "version {version}"
                );
                assert!(
                    told.records.as_ref().is_some_and(|bytes| !bytes.is_empty()),
                    "version {version}"
                );
                assert_eq!(told.log_start_offset, if version >= 5 { 0 } else { -1 });
            }
        }
        // Beyond the end, from an unknown term, and after records that this log never had.
        for (version, answer) in world.each(|version| ask(version, 99, (-1, -1), (0, -1))).await {
            let code = answer.responses[0].partitions[0].error_code;
            assert_eq!(code, ErrorCode::OffsetOutOfRange.as_i16(), "version {version}");
        }
        for (version, answer) in world.each(|version| ask(version, 0, (now + 1, -1), (0, -1))).await
        {
            let code = answer.responses[0].partitions[0].error_code;
            let expected =
                if version >= 9 { ErrorCode::UnknownLeaderEpoch } else { ErrorCode::None };
            assert_eq!(code, expected.as_i16(), "version {version}");
        }
        for (version, answer) in world.each(|version| ask(version, 5, (-1, 0), (0, -1))).await {
            assert_eq!(answer.responses[0].partitions[0].error_code, NONE, "version {version}");
        }
        // A session: begun, gone on with, unknown.
        for version in 7..=ApiKey::Fetch.stable_versions().1 {
            let first = world.ask(ask(version, 0, (-1, -1), (0, 0)), version).await;
            assert_eq!(first.error_code, NONE);
            assert_ne!(first.session_id, 0, "version {version}");
            let mut next = ask(version, 0, (-1, -1), (first.session_id, 1));
            next.topics.clear();
            let next = world.ask(next, version).await;
            assert_eq!((next.error_code, next.session_id), (NONE, first.session_id));
            let lost =
                world.ask(ask(version, 0, (-1, -1), (first.session_id ^ 1, 1)), version).await;
            assert_eq!(lost.error_code, ErrorCode::FetchSessionIdNotFound.as_i16());
        }

        use wire::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
        let ask = |version: i16, acks: i16, index: i32, records: Bytes| {
            let (name, topic_id) = world.name(version < 13);
            let partition_data = vec![PartitionProduceData { index, records: Some(records) }];
            ProduceRequest {
                acks,
                timeout_ms: 5000,
                topic_data: vec![TopicProduceData { name, topic_id, partition_data }],
                transactional_id: None,
            }
        };
        let mut next = 0;
        for acks in [1, -1] {
            for (version, answer) in world
                .each(|version| ask(version, acks, 1, batch(Compression::Gzip).to_bytes()))
                .await
            {
                let told = &answer.responses[0].partition_responses[0];
                assert_eq!((told.error_code, told.base_offset), (NONE, next), "version {version}");
                assert_eq!(told.log_start_offset, if version >= 5 { 0 } else { -1 });
                next += 2;
            }
        }
        // Refused, each for its own reason: no such partition, bytes that are no batch, a codec that is too new.
        for (version, answer) in
            world.each(|version| ask(version, -1, 9, batch(Compression::None).to_bytes())).await
        {
            let told = &answer.responses[0].partition_responses[0];
            assert_eq!(
                told.error_code,
                ErrorCode::UnknownTopicOrPartition.as_i16(),
                "version {version}"
            );
        }
        let mut broken = batch(Compression::None).to_bytes().to_vec();
        *broken.last_mut().unwrap() ^= 1;
        for (version, answer) in
            world.each(|version| ask(version, -1, 1, broken.clone().into())).await
        {
            let told = &answer.responses[0].partition_responses[0];
            assert_eq!(told.error_code, ErrorCode::CorruptMessage.as_i16(), "version {version}");
        }
        for (version, answer) in
            world.each(|version| ask(version, -1, 1, batch(Compression::Zstd).to_bytes())).await
        {
            let expected =
                if version < 7 { ErrorCode::UnsupportedCompressionType } else { ErrorCode::None };
            assert_eq!(
                answer.responses[0].partition_responses[0].error_code,
                expected.as_i16(),
                "version {version}"
            );
        }

        use wire::init_producer_id::InitProducerIdRequest;
        let mut seen = BTreeSet::new();
        for (version, answer) in world.each(|_| InitProducerIdRequest::default()).await {
            assert_eq!((answer.error_code, answer.producer_epoch), (NONE, 0), "version {version}");
            assert!(seen.insert(answer.producer_id), "one id for two producers");
        }

        use wire::delete_records::{
            DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
        };
        for offset in [2, -1] {
            let ask = |_| DeleteRecordsRequest {
                topics: vec![DeleteRecordsTopic {
                    name: "topic".into(),
                    partitions: vec![DeleteRecordsPartition { partition_index: 0, offset }],
                }],
                timeout_ms: 5000,
            };
            for (version, answer) in world.each(ask).await {
                let told = &answer.topics[0].partitions[0];
                let low = if offset < 0 { RECORDS } else { offset };
                assert_eq!((told.error_code, told.low_watermark), (NONE, low), "version {version}");
            }
        }
        world.end().await;
    });
}

#[test]
fn groups_work_in_every_version() {
    runtime().block_on(async {
        let world = World::open().await;
        use wire::find_coordinator::FindCoordinatorRequest;
        for key_type in [0, 1] {
            let ask = |version: i16| FindCoordinatorRequest {
                key: if version < 4 { "group".into() } else { Str::EMPTY },
                key_type: if version >= 1 { key_type } else { 0 },
                coordinator_keys: if version < 4 {
                    Vec::new()
                } else {
                    vec!["group".into(), "other".into()]
                },
            };
            for (version, answer) in world.each(ask).await {
                let (code, node, port) = match version {
                    0..=3 => (answer.error_code, answer.node_id, answer.port),
                    _ => {
                        assert_eq!(answer.coordinators.len(), 2);
                        let told = &answer.coordinators[0];
                        (told.error_code, told.node_id, told.port)
                    }
                };
                if key_type == 0 || version == 0 {
                    assert_eq!(
                        (code, node, port),
                        (NONE, world.node, world.port),
                        "version {version}"
                    );
                } else {
                    assert_ne!(code, NONE, "transactions have no coordinator yet");
                }
            }
        }

        // One life of a member per version: join, sync, heartbeat, commit, fetch, describe, leave.
        for version in 0..=ApiKey::JoinGroup.stable_versions().1 {
            let other =
                |key: ApiKey| version.clamp(key.stable_versions().0, key.stable_versions().1);
            let group: Str = format!("group-{version}").into();
            let (member, generation) = join(&world, &group, version).await;
            let protocol = |version: i16| (version >= 5).then(|| Str::from("range"));

            use wire::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
            let sync_version = other(ApiKey::SyncGroup);
            let sync = SyncGroupRequest {
                group_id: group.clone(),
                generation_id: generation,
                member_id: member.clone(),
                protocol_type: (sync_version >= 5).then(|| "consumer".into()),
                protocol_name: protocol(sync_version),
                assignments: vec![SyncGroupRequestAssignment {
                    member_id: member.clone(),
                    assignment: Bytes::from_static(b"yours"),
                }],
                ..Default::default()
            };
            let answer = world.ask(sync, sync_version).await;
            assert_eq!(
                (answer.error_code, &*answer.assignment),
                (NONE, &b"yours"[..]),
                "version {version}"
            );
            assert_eq!(answer.protocol_name.as_deref(), protocol(sync_version).as_deref());

            use wire::heartbeat::HeartbeatRequest;
            let beat = |member_id: Str| {
                let group_id = group.clone();
                move |_| HeartbeatRequest {
                    group_id: group_id.clone(),
                    generation_id: generation,
                    member_id: member_id.clone(),
                    group_instance_id: None,
                }
            };
            for (version, answer) in world.each(beat(member.clone())).await {
                assert_eq!(answer.error_code, NONE, "version {version}");
            }
            for (version, answer) in world.each(beat("nobody".into())).await {
                assert_eq!(
                    answer.error_code,
                    ErrorCode::UnknownMemberId.as_i16(),
                    "version {version}"
                );
            }

            commit_and_fetch(&world, &group, &member, generation).await;
            describe(&world, &group, &member).await;

            use wire::leave_group::{LeaveGroupRequest, MemberIdentity};
            let leave_version = other(ApiKey::LeaveGroup);
            let leave = |member_id: Str| match leave_version {
                0..=2 => {
                    LeaveGroupRequest { group_id: group.clone(), member_id, members: Vec::new() }
                }
                _ => LeaveGroupRequest {
                    group_id: group.clone(),
                    members: vec![MemberIdentity { member_id, ..Default::default() }],
                    ..Default::default()
                },
            };
            for (member, code) in
                [("nobody".into(), ErrorCode::UnknownMemberId), (member, ErrorCode::None)]
            {
                let answer = world.ask(leave(member), leave_version).await;
                let told = if leave_version < 3 {
                    answer.error_code
                } else {
                    answer.members[0].error_code
                };
                assert_eq!(told, code.as_i16(), "version {leave_version}");
            }
        }

        use wire::offset_delete::{
            OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
        };
        let ask = |_| OffsetDeleteRequest {
            group_id: "group-0".into(),
            topics: vec![OffsetDeleteRequestTopic {
                name: "topic".into(),
                partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
            }],
        };
        for (_, answer) in world.each(ask).await {
            assert_eq!(
                (answer.error_code, answer.topics[0].partitions[0].error_code),
                (NONE, NONE)
            );
        }
        use wire::delete_groups::DeleteGroupsRequest;
        let ask = |version: i16| DeleteGroupsRequest {
            groups_names: vec![format!("group-{version}").into(), "absent".into()],
        };
        for (version, answer) in world.each(ask).await {
            let codes: Vec<i16> = answer.results.iter().map(|result| result.error_code).collect();
            assert_eq!(codes, [NONE, ErrorCode::GroupIdNotFound.as_i16()], "version {version}");
        }
        world.end().await;
    });
}

/// Joins alone; its member id and generation.
async fn join(world: &World, group: &Str, version: i16) -> (Str, i32) {
    use wire::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
    let ask = |member_id: Str, protocol_type: &str| JoinGroupRequest {
        group_id: group.clone(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: if version >= 1 { 30_000 } else { -1 },
        member_id,
        protocol_type: protocol_type.to_owned().into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: Bytes::from_static(b"metadata"),
        }],
        reason: (version >= 8).then(|| "because".into()),
        ..Default::default()
    };
    let mut answer = world.ask(ask(Str::EMPTY, "consumer"), version).await;
    if version >= 4 {
        assert_eq!(answer.error_code, ErrorCode::MemberIdRequired.as_i16());
        assert!(!answer.member_id.is_empty());
        answer = world.ask(ask(answer.member_id, "consumer"), version).await;
    }
    assert_eq!((answer.error_code, answer.generation_id), (NONE, 1), "version {version}");
    assert_eq!(
        (&answer.leader, answer.protocol_name.as_deref()),
        (&answer.member_id, Some("range"))
    );
    assert_eq!(answer.members[0].metadata, Bytes::from_static(b"metadata"));
    // What does not go together is refused, in words of this version.
    let refused = world.ask(ask("nobody".into(), "consumer"), version).await;
    assert_eq!(refused.error_code, ErrorCode::UnknownMemberId.as_i16(), "version {version}");
    let refused = world.ask(ask(Str::EMPTY, "connect"), version).await;
    assert_eq!(
        refused.error_code,
        ErrorCode::InconsistentGroupProtocol.as_i16(),
        "version {version}"
    );
    (answer.member_id, answer.generation_id)
}

async fn commit_and_fetch(world: &World, group: &Str, member: &Str, generation: i32) {
    use wire::offset_commit::{
        OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    };
    let ask = |version: i16| {
        let (name, topic_id) = world.name(version < 10);
        let one =
            |partition_index: i32, committed_metadata: Option<Str>| OffsetCommitRequestPartition {
                partition_index,
                committed_offset: i64::from(version),
                committed_leader_epoch: if version >= 6 && partition_index == 0 { 0 } else { -1 },
                committed_metadata,
            };
        OffsetCommitRequest {
            group_id: group.clone(),
            generation_id_or_member_epoch: generation,
            member_id: member.clone(),
            topics: vec![OffsetCommitRequestTopic {
                name,
                topic_id,
                partitions: vec![one(0, Some("note".into())), one(1, None), one(7, None)],
            }],
            ..Default::default()
        }
    };
    for (version, answer) in world.each(ask).await {
        let mut told: Vec<(i32, i16)> = answer.topics[0]
            .partitions
            .iter()
            .map(|one| (one.partition_index, one.error_code))
            .collect();
        told.sort_unstable();
        let unknown = ErrorCode::UnknownTopicOrPartition.as_i16();
        assert_eq!(told, [(0, NONE), (1, NONE), (7, unknown)], "version {version}");
    }
    let last = i64::from(ApiKey::OffsetCommit.stable_versions().1);

    use wire::offset_fetch::{
        OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic,
        OffsetFetchRequestTopics,
    };
    for is_all in [false, true] {
        let ask = |version: i16| match version {
            0..=7 => OffsetFetchRequest {
                group_id: group.clone(),
                topics: (!is_all || version < 2).then(|| {
                    vec![OffsetFetchRequestTopic {
                        name: "topic".into(),
                        partition_indexes: vec![0, 1],
                    }]
                }),
                require_stable: version >= 7,
                ..Default::default()
            },
            _ => OffsetFetchRequest {
                groups: vec![OffsetFetchRequestGroup {
                    group_id: group.clone(),
                    topics: (!is_all).then(|| {
                        let (name, topic_id) = world.name(version < 10);
                        vec![OffsetFetchRequestTopics {
                            name,
                            topic_id,
                            partition_indexes: vec![0, 1],
                        }]
                    }),
                    ..Default::default()
                }],
                require_stable: true,
                ..Default::default()
            },
        };
        for (version, answer) in world.each(ask).await {
            let told: Vec<(i64, i32, Option<Str>, i16)> = if version < 8 {
                let partitions = answer.topics[0].partitions.clone().into_iter();
                partitions
                    .map(|p| {
                        (p.committed_offset, p.committed_leader_epoch, p.metadata, p.error_code)
                    })
                    .collect()
            } else {
                let partitions = answer.groups[0].topics[0].partitions.clone().into_iter();
                partitions
                    .map(|p| {
                        (p.committed_offset, p.committed_leader_epoch, p.metadata, p.error_code)
                    })
                    .collect()
            };
            let epoch = if version >= 5 { 0 } else { -1 };
            let expected =
                [(last, epoch, Some("note".into()), NONE), (last, -1, Some(Str::EMPTY), NONE)];
            assert_eq!(told, expected, "version {version}, all {is_all}");
        }
    }
}

async fn describe(world: &World, group: &Str, member: &Str) {
    use wire::describe_groups::DescribeGroupsRequest;
    let ask = |version: i16| DescribeGroupsRequest {
        groups: vec![group.clone(), "absent".into()],
        include_authorized_operations: version >= 3,
    };
    for (version, answer) in world.each(ask).await {
        let told = &answer.groups[0];
        assert_eq!((told.error_code, &*told.group_state), (NONE, "Stable"), "version {version}");
        assert_eq!((&*told.protocol_type, &*told.protocol_data), ("consumer", "range"));
        assert_eq!(told.authorized_operations > 0, version >= 3);
        assert_eq!(&told.members[0].member_id, member);
        assert_eq!(&*told.members[0].member_assignment, b"yours");
        let absent = &answer.groups[1];
        let code = if version >= 6 { ErrorCode::GroupIdNotFound } else { ErrorCode::None };
        assert_eq!((absent.error_code, &*absent.group_state), (code.as_i16(), "Dead"));
        assert_eq!(absent.error_message.is_some(), version >= 6);
    }
    use wire::list_groups::ListGroupsRequest;
    let ask = |version: i16| ListGroupsRequest {
        states_filter: if version >= 4 { vec!["Stable".into()] } else { Vec::new() },
        types_filter: if version >= 5 { vec!["classic".into()] } else { Vec::new() },
    };
    for (version, answer) in world.each(ask).await {
        assert_eq!(answer.error_code, NONE);
        let told = answer.groups.iter().find(|told| told.group_id == *group).expect("it is listed");
        assert_eq!(&*told.protocol_type, "consumer");
        assert_eq!(&*told.group_state, if version >= 4 { "Stable" } else { "" });
    }
}

#[test]
fn topics_and_settings_change_in_every_version() {
    runtime().block_on(async {
        let world = World::open().await;
        use wire::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
        let ask = |version: i16| {
            let one = |name: String, value: &str| CreatableTopic {
                name: name.into(),
                num_partitions: if version >= 4 { -1 } else { 1 },
                replication_factor: if version >= 4 { -1 } else { 1 },
                configs: vec![CreatableTopicConfig {
                    name: "retention.ms".into(),
                    value: Some(value.to_owned().into()),
                }],
                ..Default::default()
            };
            CreateTopicsRequest {
                topics: vec![
                    one(format!("made-{version}"), "1000"),
                    one("topic".into(), "1"),
                    one("bad".into(), "x"),
                ],
                timeout_ms: 5000,
                validate_only: false,
            }
        };
        for (version, answer) in world.each(ask).await {
            let code = |name: &str| {
                answer.topics.iter().find(|topic| &*topic.name == name).unwrap().error_code
            };
            assert_eq!(code(&format!("made-{version}")), NONE, "version {version}");
            assert_eq!(code("topic"), ErrorCode::TopicAlreadyExists.as_i16(), "version {version}");
            assert_eq!(code("bad"), ErrorCode::InvalidConfig.as_i16(), "version {version}");
            let made = answer.topics.iter().find(|topic| topic.error_code == NONE).unwrap();
            assert_eq!(made.topic_id.is_zero(), version < 7);
            assert_eq!(
                made.configs.as_ref().is_some_and(|configs| !configs.is_empty()),
                version >= 5
            );
        }

        use wire::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
        let ask = |version: i16| CreatePartitionsRequest {
            topics: vec![
                CreatePartitionsTopic {
                    name: "topic".into(),
                    count: 3 + i32::from(version),
                    assignments: None,
                },
                CreatePartitionsTopic { name: "absent".into(), count: 3, assignments: None },
            ],
            timeout_ms: 5000,
            validate_only: false,
        };
        for (version, answer) in world.each(ask).await {
            let codes: BTreeSet<i16> =
                answer.results.iter().map(|result| result.error_code).collect();
            let expected = [NONE, ErrorCode::UnknownTopicOrPartition.as_i16()];
            assert_eq!(codes, expected.into(), "version {version}");
        }

        use wire::incremental_alter_configs::{
            AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
        };
        let ask = |_| {
            let one =
                |resource: &str, value: Option<&str>, config_operation: i8| AlterConfigsResource {
                    resource_type: 2,
                    resource_name: resource.to_owned().into(),
                    configs: vec![AlterableConfig {
                        name: "retention.ms".into(),
                        config_operation,
                        value: value.map(|value| value.to_owned().into()),
                    }],
                };
            IncrementalAlterConfigsRequest {
                resources: vec![
                    one("topic", Some("123456"), 0),
                    one("made-2", None, 1),
                    one("made-3", Some("x"), 0),
                ],
                validate_only: false,
            }
        };
        for (version, answer) in world.each(ask).await {
            for told in &answer.responses {
                let code = if &*told.resource_name == "made-3" {
                    ErrorCode::InvalidConfig
                } else {
                    ErrorCode::None
                };
                assert_eq!(told.error_code, code.as_i16(), "version {version}: {told:?}");
            }
        }

        replaces_settings(&world).await;
        lists_what_has_settings(&world).await;
        changes_features(&world).await;

        use wire::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
        let node = world.node.to_string();
        let ask = |version: i16| DescribeConfigsRequest {
            resources: [(2, "topic"), (4, node.as_str()), (4, ""), (2, "absent")]
                .map(|(resource_type, name)| DescribeConfigsResource {
                    resource_type,
                    resource_name: name.to_owned().into(),
                    configuration_keys: None,
                })
                .into(),
            include_synonyms: true,
            include_documentation: version >= 3,
        };
        for (version, answer) in world.each(ask).await {
            let codes: Vec<i16> = answer.results.iter().map(|result| result.error_code).collect();
            let unknown = ErrorCode::UnknownTopicOrPartition.as_i16();
            assert_eq!(codes, [NONE, NONE, NONE, unknown], "version {version}");
            let retention = answer.results[0]
                .configs
                .iter()
                .find(|config| &*config.name == "retention.ms")
                .unwrap();
            assert_eq!((retention.value.as_deref(), retention.config_source), (Some("123456"), 1));
            assert!(!retention.synonyms.is_empty());
            assert_eq!(retention.config_type != 0, version >= 3);
            assert_eq!(retention.documentation.is_some(), version >= 3);
            assert!(!answer.results[1].configs.is_empty());
        }

        use wire::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
        let ask = |version: i16| {
            let names = [format!("made-{}", version + 1), "absent".to_owned()].map(Str::from);
            match version {
                6 => DeleteTopicsRequest {
                    topics: names
                        .map(|name| DeleteTopicState { name: Some(name), topic_id: Uuid::ZERO })
                        .into(),
                    timeout_ms: 5000,
                    ..Default::default()
                },
                _ => DeleteTopicsRequest {
                    topic_names: names.into(),
                    timeout_ms: 5000,
                    ..Default::default()
                },
            }
        };
        for (version, answer) in world.each(ask).await {
            for told in &answer.responses {
                let is_absent = told.name.as_deref() == Some("absent");
                let code =
                    if is_absent { ErrorCode::UnknownTopicOrPartition } else { ErrorCode::None };
                assert_eq!(told.error_code, code.as_i16(), "version {version}: {told:?}");
            }
        }
        // By id, and by an id that nobody has: there is no name to tell then.
        let by_id = |topic_id: Uuid| DeleteTopicState { name: None, topic_id };
        let topics = vec![by_id(world.topic), by_id(Uuid([5; 16]))];
        let answer = world
            .ask(DeleteTopicsRequest { topics, timeout_ms: 5000, ..Default::default() }, 6)
            .await;
        let codes: BTreeSet<(bool, i16)> =
            answer.responses.iter().map(|told| (told.name.is_some(), told.error_code)).collect();
        assert_eq!(codes, [(true, NONE), (false, ErrorCode::UnknownTopicId.as_i16())].into());
        world.end().await;
    });
}

/// AlterConfigs in every version: what is not named goes back to its default, each resource stands for itself.
async fn replaces_settings(world: &World) {
    use wire::alter_configs::{AlterConfigsRequest, AlterConfigsResource, AlterableConfig};
    use wire::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
    let node = world.node.to_string();
    let set = async |kind: i8, name: &str| -> Vec<(String, String)> {
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: kind,
                resource_name: name.to_owned().into(),
                configuration_keys: None,
            }],
            ..Default::default()
        };
        let answer = world.ask(request, 4).await;
        let own = answer.results[0].configs.iter().filter(|c| [1, 2, 3].contains(&c.config_source));
        // All brokers have a value of this one from the start, as in Kafka with ELR (P12).
        let own = own.filter(|c| &*c.name != "min.insync.replicas");
        own.map(|c| (c.name.to_string(), c.value.as_deref().unwrap().to_owned())).collect()
    };
    let resource = |kind: i8, name: &str, configs: &[(&str, Option<&str>)]| AlterConfigsResource {
        resource_type: kind,
        resource_name: name.to_owned().into(),
        configs: configs
            .iter()
            .map(|(name, value)| AlterableConfig {
                name: (*name).to_owned().into(),
                value: value.map(|value| value.to_owned().into()),
            })
            .collect(),
    };
    let told = async |resources: Vec<AlterConfigsResource>, validate_only: bool, version: i16| {
        let answer = world.ask(AlterConfigsRequest { resources, validate_only }, version).await;
        let told = answer.responses.into_iter();
        told.map(|told| (told.resource_name.to_string(), told.error_code, told.error_message))
            .collect::<Vec<_>>()
    };
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let (retention, bytes) = (("retention.ms", Some("5000")), ("max.message.bytes", Some("6000")));
    let name = "made-7";
    for version in 0..=2 {
        let ok = [(name.to_owned(), NONE, None)];
        assert_eq!(told(vec![resource(2, name, &[retention, bytes])], false, version).await, ok);
        let both = owned(&[("max.message.bytes", "6000"), ("retention.ms", "5000")]);
        let mut now = set(2, name).await;
        now.sort();
        assert_eq!(now, both, "version {version}");
        // Only looked at.
        assert_eq!(told(vec![resource(2, name, &[])], true, version).await, ok);
        assert_eq!(set(2, name).await.len(), 2, "version {version}");
        assert_eq!(told(vec![resource(2, name, &[retention])], false, version).await, ok);
        assert_eq!(set(2, name).await, owned(&[("retention.ms", "5000")]), "version {version}");
        assert_eq!(told(vec![resource(2, name, &[])], false, version).await, ok);
        assert_eq!(set(2, name).await, [], "version {version}");

        // Each for itself, and answered where it was asked.
        let broker = |bytes: &str| vec![resource(4, &node, &[("message.max.bytes", Some(bytes))])];
        let mut many = vec![
            resource(2, "absent", &[retention]),
            resource(2, name, &[retention, ("max.message.bytes", None), ("x", None)]),
            resource(99, "z", &[]),
            resource(2, name, &[]),
            resource(4, "999", &[]),
            resource(2, "made-6", &[retention, retention]),
            resource(2, "made-5", &[("no.such", Some("1"))]),
            resource(8, &node, &[]),
        ];
        many.extend(broker("2000000"));
        let answered = told(many, false, version).await;
        let words: Vec<&str> =
            answered.iter().map(|(_, _, message)| message.as_deref().unwrap_or("")).collect();
        let codes: Vec<ErrorCode> =
            answered.iter().map(|told| ErrorCode::from_i16(told.1).unwrap()).collect();
        use ErrorCode::{InvalidConfig, InvalidRequest, None as Done, UnknownTopicOrPartition};
        let expected = [
            (UnknownTopicOrPartition, "The topic 'absent' does not exist."),
            (InvalidRequest, "Each resource must appear at most once."),
            (InvalidRequest, "Unknown resource type 99"),
            (InvalidRequest, "Each resource must appear at most once."),
            (InvalidRequest, "Unexpected broker id, expected 0, but received 999"),
            (InvalidRequest, "Error due to duplicate config keys"),
            (InvalidConfig, "Unknown topic config name: no.such"),
            (InvalidRequest, "levels of loggers cannot be told or changed at run time"),
            (Done, ""),
        ];
        assert_eq!((codes, words), expected.into_iter().unzip(), "version {version}");
        let (message, size) = ("message.max.bytes".to_owned(), "2000000".to_owned());
        assert!(set(4, &node).await.contains(&(message, size)), "version {version}");
        let nulls = [retention, ("max.message.bytes", None), ("x", None)];
        let answered = told(vec![resource(2, name, &nulls)], false, version).await;
        assert_eq!(answered[0].1, InvalidRequest.as_i16());
        let words = "Null value not supported for : max.message.bytes, x";
        assert_eq!(answered[0].2.as_deref(), Some(words));
        assert_eq!(told(vec![resource(4, &node, &[])], false, version).await[0].1, NONE);
        assert!(!set(4, &node).await.iter().any(|(name, _)| name == "message.max.bytes"));
    }
}

/// ListConfigResources: version 0 tells of client metrics only, version 1 of the kinds that are asked for.
async fn lists_what_has_settings(world: &World) {
    use wire::alter_configs::{AlterConfigsRequest, AlterConfigsResource, AlterableConfig};
    use wire::list_config_resources::ListConfigResourcesRequest;
    let listed = async |kinds: &[i8], version: i16| {
        let request = ListConfigResourcesRequest { resource_types: kinds.to_vec() };
        let answer = world.ask(request, version).await;
        let found = answer.config_resources.into_iter();
        let found: Vec<_> = found.map(|r| (r.resource_type, r.resource_name.to_string())).collect();
        (ErrorCode::from_i16(answer.error_code).unwrap(), found)
    };
    let set_group = async |values: &[(&str, &str)]| {
        let configs = values.iter().map(|(name, value)| AlterableConfig {
            name: (*name).to_owned().into(),
            value: Some((*value).to_owned().into()),
        });
        let resource = AlterConfigsResource {
            resource_type: 32,
            resource_name: "group".into(),
            configs: configs.collect(),
        };
        let request = AlterConfigsRequest { resources: vec![resource], validate_only: false };
        world.ask(request, 2).await.responses[0].error_code
    };
    let none = (ErrorCode::None, Vec::new());
    assert_eq!(listed(&[], 0).await, none);
    assert_eq!(listed(&[16], 1).await, none);
    assert_eq!(listed(&[32], 1).await, none);
    let node = world.node.to_string();
    let nodes = |kind: i8| vec![(kind, node.clone())];
    assert_eq!(listed(&[4], 1).await, (ErrorCode::None, nodes(4)));
    assert_eq!(listed(&[8, 8], 1).await, (ErrorCode::None, nodes(8)));
    let known = world.metadata().await.topics.into_iter();
    let topics: Vec<_> = known.map(|topic| (2, topic.name.unwrap().to_string())).collect();
    assert!(topics.len() > 1);
    assert_eq!(listed(&[2], 1).await, (ErrorCode::None, topics.clone()));
    let all = [nodes(8), nodes(4), topics].concat();
    assert_eq!(listed(&[], 1).await, (ErrorCode::None, all.clone()));
    assert_eq!(listed(&[32, 16, 8, 4, 2], 1).await, (ErrorCode::None, all.clone()));
    for kinds in [&[0][..], &[1], &[64], &[2, 99]] {
        assert_eq!(listed(kinds, 1).await, (ErrorCode::UnsupportedVersion, Vec::new()));
    }
    // A group is listed while it has settings of its own; no other value of this one is taken yet.
    assert_eq!(set_group(&[("consumer.session.timeout.ms", "45000")]).await, NONE);
    let group = vec![(32, "group".to_owned())];
    assert_eq!(listed(&[32], 1).await, (ErrorCode::None, group.clone()));
    assert_eq!(listed(&[], 1).await, (ErrorCode::None, [group, all].concat()));
    assert_eq!(set_group(&[]).await, NONE);
    assert_eq!(listed(&[32], 1).await, none);
}

/// UpdateFeatures: what is on stays on, and what is not there is refused for all.
async fn changes_features(world: &World) {
    use wire::update_features::{FeatureUpdateKey, UpdateFeaturesRequest};
    const LEVEL: i16 = 33;
    let update = |feature: &str, level: i16, upgrade_type: i8| FeatureUpdateKey {
        feature: feature.to_owned().into(),
        max_version_level: level,
        upgrade_type,
        ..Default::default()
    };
    let invalid = ErrorCode::InvalidUpdateVersion.as_i16();
    for version in 0..=2 {
        let told = async |feature_updates: Vec<FeatureUpdateKey>| {
            let request = UpdateFeaturesRequest { feature_updates, ..Default::default() };
            let answer = world.ask(request, version).await;
            let named = answer.results.into_iter().map(|named| named.feature.to_string());
            let message = answer.error_message.map(|message| message.to_string());
            (answer.error_code, message.unwrap_or_default(), named.collect::<Vec<_>>())
        };
        let (code, _, named) = told(vec![update("metadata.version", LEVEL, 1)]).await;
        assert_eq!((code, named.len()), (NONE, usize::from(version < 2)), "version {version}");
        let both = vec![update("metadata.version", LEVEL, 1), update("group.version", 1, 1)];
        let (code, message, named) = told(both).await;
        assert_eq!((code, named.len()), (invalid, 0), "version {version}");
        let expected = "The update failed for all features since the following feature had an error: \
                        Invalid update version 1 for feature group.version. Local controller does \
                        not support this feature.";
        assert_eq!(message, expected);
        if version > 0 {
            let (code, message, _) = told(vec![update("metadata.version", LEVEL, 0)]).await;
            assert_eq!(code, invalid);
            assert!(message.contains("does not support the given upgrade type"), "{message}");
        }
    }
}

/// By default a compressed batch is taken by its header and checksum. Records that nobody can expand are told of, each batch for
/// itself; what lies between is readable.
#[test]
fn records_that_nobody_can_expand_are_told_of_and_no_others() {
    use wire::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
    runtime().block_on(async {
        let world = World::open().await;
        let good = batch(Compression::Gzip).to_bytes();
        let mut bad = good.to_vec();
        bad[record::HEADER_LEN..].fill(7);
        let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bad[21..]) as u32;
        bad[17..21].copy_from_slice(&sum.to_be_bytes());
        for records in [bad.clone().into(), good.clone(), bad.into(), good] {
            let partition_data = vec![PartitionProduceData { index: 1, records: Some(records) }];
            let (name, topic_id) = world.name(true);
            let request = ProduceRequest {
                acks: -1,
                timeout_ms: 5000,
                topic_data: vec![TopicProduceData { name, topic_id, partition_data }],
                transactional_id: None,
            };
            let answer = world.ask(request, 12).await;
            assert_eq!(answer.responses[0].partition_responses[0].error_code, NONE);
        }
        let output = world.server.run(&["topic", "verify", "topic", "--json"], "");
        assert_eq!(output.status.code(), Some(1));
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let gaps = told["unreadable"].as_array().unwrap();
        let gap = |gap: &serde_json::Value| {
            ["partition", "start", "end"].map(|name| gap[name].as_i64().unwrap())
        };
        assert_eq!(gaps.iter().map(gap).collect::<Vec<_>>(), [[1, 0, 2], [1, 4, 6]], "{told}");
        assert_eq!(told["offsets"], RECORDS + 4);
    });
}
