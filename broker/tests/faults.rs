//! What producers and consumers are told while the disk stalls, fails or loses power (I10, I24, I31, E10).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker::{Audience, Broker, BrokerConfig, Failure, ListenerConfig, ListenerProtocol};
use bytes::{Buf, BytesMut};
use cluster::config::{BrokerSettings, NodeConfigs};
use env::{Clock, Conn, ConnReader, ConnWriter, Env, Net, Part};
use record::{BatchBuilder, BatchOptions};
use sim::decisions::Decisions;
use sim::disk::{DiskFault, Injection, Op, SimDisk};
use sim::exec::{self, Limits, World};
use sim::net::{Network, SimNet, ip_of};
use sim::world::SimEnv;
use types::{ErrorCode, NodeId};
use wire::create_topics::{CreatableTopic, CreateTopicsRequest};
use wire::delete_topics::DeleteTopicsRequest;
use wire::describe_log_dirs::DescribeLogDirsRequest;
use wire::fetch::{FetchPartition, FetchRequest, FetchTopic};
use wire::find_coordinator::FindCoordinatorRequest;
use wire::list_groups::ListGroupsRequest;
use wire::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use wire::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use wire::{Message, Reader, Request, ResponseHeader};

const BROKER: u32 = 1;
const CLIENT: u32 = 10;
const PORT: u16 = 9092;

/// A machine with a broker, and one for its clients.
#[derive(Clone)]
struct Bench {
    world: World,
    network: Network,
    disk: Arc<Mutex<SimDisk>>,
    /// Why the broker gave up, once it has.
    failure: Arc<Mutex<Option<Failure>>>,
    /// Its log directories.
    dirs: Arc<Mutex<Vec<&'static str>>>,
    /// Its `log.durability`.
    durability: Arc<Mutex<&'static str>>,
}

impl Bench {
    fn disk(&self) -> SimDisk {
        self.disk.lock().unwrap().clone()
    }

    fn env(&self, node: u32) -> SimEnv {
        SimEnv::new(&self.world, &self.network, &self.disk(), node)
    }

    async fn start(&self) {
        let (env, failure) = (self.env(BROKER), self.failure.clone());
        let config = BrokerConfig {
            roles: broker::Roles::default(),
            node_id: NodeId(0),
            cluster_id: None,
            listeners: vec![ListenerConfig {
                name: "PLAINTEXT".into(),
                bind: SocketAddr::new(ip_of(BROKER), PORT),
                advertised: None,
                protocol: ListenerProtocol::Plaintext,
                audience: Audience::Clients,
            }],
            log_dirs: self.dirs.lock().unwrap().iter().map(PathBuf::from).collect(),
            metadata_dir: None,
            bootstrap: Vec::new(),
            asks_who_decides: false,
            voters: Vec::new(),
            settings: BrokerSettings::resolve(NodeConfigs::fixed(
                [("log.durability".into(), (*self.durability.lock().unwrap()).into())].into(),
            )),
        };
        let (ready, serving) = tokio::sync::oneshot::channel();
        self.world.spawn(BROKER, "broker", async move {
            let broker = Broker::start(env, config).await.unwrap();
            let _ = ready.send(());
            let reason = broker.failed().await;
            *failure.lock().unwrap() = Some(reason);
        });
        serving.await.unwrap();
    }

    fn power_cut(&self) {
        self.world.kill(BROKER);
        self.network.power_off(BROKER);
        let after = self.disk().power_cut();
        *self.disk.lock().unwrap() = after;
        self.network.power_on(BROKER);
        self.world.revive(BROKER);
    }

    /// The next sync of the data directory's journal, not the metadata's, suffers `fault`.
    fn hurt_next_sync(&self, fault: DiskFault) {
        let path = "/data/journal".into();
        self.disk().inject(Injection { path, op: Op::Sync, skip: 0, fault });
    }

    async fn client(&self) -> Client {
        let net = self.env(CLIENT).net().clone();
        let conn = net.connect(SocketAddr::new(ip_of(BROKER), PORT)).await.unwrap();
        let (reader, writer) = conn.split();
        Client { reader, writer, buffer: BytesMut::new(), sent: 0 }
    }

    async fn sleep(&self, duration: Duration) {
        self.env(CLIENT).clock().sleep(duration).await;
    }
}

fn on_bench<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(Bench) -> F) {
    let decisions = Decisions::new(11);
    let world = World::new(&decisions);
    world.add_node(BROKER, "broker");
    world.add_node(CLIENT, "client");
    let network = Network::new(&world);
    let disk = Arc::new(Mutex::new(SimDisk::of_node(&decisions, BROKER)));
    let dirs = Arc::new(Mutex::new(vec!["/data"]));
    let durability = Arc::new(Mutex::new("sync"));
    let failure = Arc::default();
    let bench = Bench { world: world.clone(), network, disk, failure, dirs, durability };
    let done = Arc::new(Mutex::new(false));
    let finished = done.clone();
    let main = test(bench);
    exec::run(&world, Limits::default(), async move {
        main.await;
        *finished.lock().unwrap() = true;
    });
    assert!(world.violated().is_none(), "{:?}", world.violated());
    assert!(*done.lock().unwrap(), "the test reached its end");
}

struct Client {
    reader: <<SimNet as Net>::Conn as Conn>::Reader,
    writer: <<SimNet as Net>::Conn as Conn>::Writer,
    buffer: BytesMut,
    sent: i32,
}

impl Client {
    async fn send<R: Request>(&mut self, request: &R, version: i16) {
        self.sent += 1;
        let frame = wire::request_frame(request, version, self.sent, None).unwrap();
        self.writer.send(vec![Part::Mem(frame)]).await.unwrap();
    }

    async fn receive<R: Message>(&mut self, version: i16) -> R {
        loop {
            if let Some(length) = self.buffer.first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                if self.buffer.len() >= 4 + length {
                    self.buffer.advance(4);
                    let mut reader = Reader::new(self.buffer.split_to(length).freeze());
                    let header_version = R::API_KEY.response_header_version(version);
                    ResponseHeader::decode(&mut reader, header_version).unwrap();
                    return R::decode(&mut reader, version).unwrap();
                }
            }
            assert_ne!(self.reader.read(&mut self.buffer, 64 << 10).await.unwrap(), 0);
        }
    }

    async fn call<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.send(request, version).await;
        self.receive(version).await
    }

    async fn create_topic(&mut self) {
        self.create_partitions(1).await;
    }

    async fn create_partitions(&mut self, num_partitions: i32) {
        let topic = CreatableTopic {
            name: "t".into(),
            num_partitions,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        assert_eq!(self.call(&request, 7).await.topics[0].error_code, 0);
    }

    /// The answer to a commit of a group without members. The first question for a coordinator makes its topic.
    async fn commit(&mut self, group: &str) -> i16 {
        let question = FindCoordinatorRequest { key: group.into(), ..Default::default() };
        let found = self.call(&question, 3).await.error_code;
        if found != 0 {
            assert_eq!(found, ErrorCode::CoordinatorNotAvailable.as_i16());
        }
        let partitions =
            vec![OffsetCommitRequestPartition { committed_leader_epoch: -1, ..Default::default() }];
        let topic = OffsetCommitRequestTopic { name: "t".into(), partitions, ..Default::default() };
        let request = OffsetCommitRequest {
            group_id: group.into(),
            generation_id_or_member_epoch: -1,
            topics: vec![topic],
            ..Default::default()
        };
        self.call(&request, 8).await.topics[0].partitions[0].error_code
    }

    async fn delete_topic(&mut self) {
        let topic_names = vec!["t".into()];
        let request = DeleteTopicsRequest { topic_names, ..Default::default() };
        assert_eq!(self.call(&request, 5).await.responses[0].error_code, 0);
    }

    /// Code and base offset of one record produced with acks=all.
    async fn produce(&mut self) -> (i16, i64) {
        self.produce_to(0).await
    }

    async fn produce_to(&mut self, index: i32) -> (i16, i64) {
        let mut request = one_record();
        request.topic_data[0].partition_data[0].index = index;
        let answer = self.call(&request, 9).await;
        let told = &answer.responses[0].partition_responses[0];
        (told.error_code, told.base_offset)
    }

    /// High watermark, and bytes from offset 0.
    async fn fetch(&mut self) -> (i64, usize) {
        let request = FetchRequest {
            topics: vec![FetchTopic {
                topic: "t".into(),
                partitions: vec![FetchPartition {
                    partition_max_bytes: 1 << 20,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = self.call(&request, 11).await;
        let told = &answer.responses[0].partitions[0];
        (told.high_watermark, told.records.as_ref().map_or(0, |records| records.len()))
    }
}

fn one_record() -> ProduceRequest {
    let mut batch = BatchBuilder::new(BatchOptions::default());
    batch.push(None, None, Some(b"value"));
    let records = Some(batch.build().to_bytes());
    let partition_data = vec![PartitionProduceData { index: 0, records }];
    let topic = TopicProduceData { name: "t".into(), partition_data, ..Default::default() };
    ProduceRequest { acks: -1, timeout_ms: 2000, topic_data: vec![topic], ..Default::default() }
}

#[test]
fn nothing_is_answered_or_shown_before_its_sync() {
    on_bench(|bench| async move {
        bench.start().await;
        let mut producer = bench.client().await;
        let mut consumer = bench.client().await;
        producer.create_topic().await;
        assert_eq!(producer.produce().await, (0, 0));
        let (_, one) = consumer.fetch().await;
        // The disk hangs: the record is written, and neither acknowledged nor shown (I24, I31).
        bench.hurt_next_sync(DiskFault::HangingSync);
        producer.send(&one_record(), 9).await;
        bench.sleep(Duration::from_secs(1)).await;
        assert_eq!(consumer.fetch().await, (1, one));
        let answer: wire::produce::ProduceResponse = producer.receive(9).await;
        let told = &answer.responses[0].partition_responses[0];
        // It may commit later: a time-out is "unknown" (P8).
        assert_eq!(told.error_code, ErrorCode::RequestTimedOut.as_i16());
    });
}

#[test]
fn a_failed_sync_takes_the_directory_and_the_broker_down() {
    on_bench(|bench| async move {
        bench.start().await;
        let mut client = bench.client().await;
        client.create_topic().await;
        assert_eq!(client.produce().await, (0, 0));
        bench.hurt_next_sync(DiskFault::FailedSync);
        assert_eq!(client.produce().await.0, ErrorCode::KafkaStorageError.as_i16());
        // Nothing is tried again as if nothing had happened (I10).
        assert_eq!(client.produce().await, (ErrorCode::KafkaStorageError.as_i16(), -1));
        bench.sleep(Duration::from_secs(1)).await;
        let failure = bench.failure.lock().unwrap().clone();
        assert!(matches!(failure, Some(Failure::Disk { .. })), "{failure:?}");
    });
}

#[test]
fn what_was_acknowledged_is_there_after_a_power_cut() {
    on_bench(|bench| async move {
        bench.start().await;
        let mut client = bench.client().await;
        client.create_topic().await;
        for offset in 0..20 {
            assert_eq!(client.produce().await, (0, offset));
        }
        bench.power_cut();
        bench.start().await;
        let mut client = bench.client().await;
        assert_eq!(client.fetch().await.0, 20);
        assert_eq!(client.produce().await, (0, 20));
    });
}

/// A disk that is not mounted, or left out of `log.dirs`: the partitions in it are offline, not made anew without what they
/// held (E8, F4).
#[test]
fn a_missing_log_directory_takes_its_partitions_offline_and_nothing_else() {
    on_bench(|bench| async move {
        *bench.dirs.lock().unwrap() = vec!["/data", "/more"];
        bench.start().await;
        let mut client = bench.client().await;
        client.create_partitions(4).await;
        for index in 0..4 {
            assert_eq!(client.produce_to(index).await, (0, 0));
        }
        // Twice: what is missing stays missing also when the broker has registered without it.
        for offset in 1..3 {
            bench.power_cut();
            *bench.dirs.lock().unwrap() = vec!["/data", "/empty"];
            bench.start().await;
            let mut client = bench.client().await;
            let mut offline = 0;
            for index in 0..4 {
                match client.produce_to(index).await {
                    (0, at) => assert_eq!(at, offset),
                    refused => {
                        assert_eq!(refused, (ErrorCode::KafkaStorageError.as_i16(), -1));
                        offline += 1;
                    }
                }
            }
            assert_eq!(offline, 2);
        }
        bench.power_cut();
        *bench.dirs.lock().unwrap() = vec!["/data", "/more"];
        bench.start().await;
        let mut client = bench.client().await;
        let mut next = Vec::new();
        for index in 0..4 {
            next.push(client.produce_to(index).await);
        }
        next.sort();
        assert_eq!(next, [(0, 1), (0, 1), (0, 3), (0, 3)]);
    });
}

/// A disk that does not even open takes its own partitions offline; that of the metadata takes the node.
#[test]
fn a_directory_that_cannot_be_opened_is_offline_alone() {
    on_bench(|bench| async move {
        *bench.dirs.lock().unwrap() = vec!["/data", "/more"];
        bench.start().await;
        let mut client = bench.client().await;
        client.create_partitions(4).await;
        for index in 0..4 {
            assert_eq!(client.produce_to(index).await, (0, 0));
        }
        let broken = [
            ("/more/meta.properties", Op::Read),
            ("/more/.lock", Op::Open),
            ("/more/checkpoint", Op::Open),
            ("/more/journal", Op::Read),
            ("/more/journal", Op::Sync),
        ];
        for (offset, (path, op)) in (1..).zip(broken) {
            bench.power_cut();
            let (path, fault) = (path.to_owned(), DiskFault::ErrorOnce);
            bench.disk().inject(Injection { path, op, skip: 0, fault });
            bench.start().await;
            let mut client = bench.client().await;
            let mut offline = Vec::new();
            for index in 0..4 {
                match client.produce_to(index).await {
                    (0, at) => assert_eq!(at, offset),
                    refused => {
                        assert_eq!(refused, (ErrorCode::KafkaStorageError.as_i16(), -1));
                        offline.push(index);
                    }
                }
            }
            assert_eq!(offline.len(), 2, "{op:?} of {offset}");
            let told = client.call(&DescribeLogDirsRequest { topics: None }, 5).await;
            let codes: Vec<i16> = told.results.iter().map(|dir| dir.error_code).collect();
            assert_eq!(codes, [0, ErrorCode::KafkaStorageError.as_i16()]);
        }
        // Mended, it is as it was.
        bench.power_cut();
        bench.start().await;
        let mut client = bench.client().await;
        let mut next = Vec::new();
        for index in 0..4 {
            next.push(client.produce_to(index).await);
        }
        next.sort();
        assert_eq!(next, [(0, 1), (0, 1), (0, 6), (0, 6)]);
    });
}

/// What is created while a directory is offline lies in those that work, and is assigned to them: it is not made anew
/// elsewhere when its own is missing later (E8, E10).
#[test]
fn what_is_created_beside_a_failed_directory_belongs_to_the_others() {
    on_bench(|bench| async move {
        *bench.dirs.lock().unwrap() = vec!["/data", "/more", "/most"];
        bench.start().await;
        let mut client = bench.client().await;
        bench.disk().die(Path::new("/most"));
        client.create_partitions(3).await;
        // Whatever lies there finds out, and the topic is made once more without it.
        bench.sleep(Duration::from_secs(1)).await;
        client.delete_topic().await;
        client.create_partitions(6).await;
        for index in 0..6 {
            assert_eq!(client.produce_to(index).await, (0, 0));
        }
        bench.power_cut();
        bench.disk().revive();
        *bench.dirs.lock().unwrap() = vec!["/data", "/most"];
        bench.start().await;
        let mut client = bench.client().await;
        let mut offline = 0;
        for index in 0..6 {
            match client.produce_to(index).await {
                (0, at) => assert_eq!(at, 1),
                refused => {
                    assert_eq!(refused, (ErrorCode::KafkaStorageError.as_i16(), -1));
                    offline += 1;
                }
            }
        }
        assert_eq!(offline, 3);
    });
}

/// A log that cannot be given its settings for want of space is a log of a topic all the same: it waits, and is not taken for
/// the rest of a deletion.
#[test]
fn a_log_whose_settings_do_not_fit_on_the_disk_is_kept() {
    for skip in 0..4 {
        on_bench(move |bench| async move {
            bench.start().await;
            let mut client = bench.client().await;
            client.create_topic().await;
            assert_eq!(client.produce().await, (0, 0));
            bench.power_cut();
            *bench.durability.lock().unwrap() = "page-cache";
            // More often than there is space kept for.
            for _ in 0..500 {
                let (path, fault) = ("/data/checkpoint".to_owned(), DiskFault::NoSpace);
                bench.disk().inject(Injection { path, op: Op::Names, skip, fault });
            }
            bench.start().await;
            bench.power_cut();
            bench.disk().inject_no_more();
            bench.start().await;
            let mut client = bench.client().await;
            assert_eq!(client.fetch().await.0, 1, "{skip}");
            assert_eq!(client.produce().await, (0, 1), "{skip}");
        });
    }
}

/// A directory that fails takes the groups in it along and no others, and a list of groups is answered.
#[test]
fn groups_are_listed_beside_a_failed_directory() {
    on_bench(|bench| async move {
        *bench.dirs.lock().unwrap() = vec!["/data", "/more"];
        bench.start().await;
        let mut client = bench.client().await;
        client.create_topic().await;
        assert_eq!(client.commit("a").await, 0);
        assert_eq!(client.commit("b").await, 0);
        bench.disk().die(Path::new("/more"));
        let mut codes = vec![client.commit("a").await, client.commit("b").await];
        codes.sort();
        assert_eq!(codes, [0, ErrorCode::NotCoordinator.as_i16()]);
        bench.sleep(Duration::from_secs(3)).await;
        let told = client.call(&ListGroupsRequest::default(), 4).await;
        assert_eq!((told.error_code, told.groups.len()), (0, 1));
    });
}

/// Each directory tells what lies in it, as large as its files are; one that is offline tells that, and nothing else.
#[test]
fn log_directories_are_described_each_for_itself() {
    on_bench(|bench| async move {
        *bench.dirs.lock().unwrap() = vec!["/data", "/more"];
        bench.start().await;
        let mut client = bench.client().await;
        client.create_partitions(4).await;
        for index in [0, 1, 1, 2, 3] {
            assert_eq!(client.produce_to(index).await.0, 0);
        }
        let all = DescribeLogDirsRequest { topics: None };
        let told = client.call(&all, 5).await;
        assert_eq!(told.error_code, 0);
        let paths: Vec<&str> = told.results.iter().map(|dir| &*dir.log_dir).collect();
        assert_eq!(paths, ["/data", "/more"]);
        let files = bench.disk().files();
        let mut seen = Vec::new();
        for dir in &told.results {
            assert_eq!((dir.error_code, dir.is_cordoned), (0, false));
            assert!(0 < dir.usable_bytes && dir.usable_bytes < dir.total_bytes, "{dir:?}");
            let [topic] = &dir.topics[..] else { panic!("{dir:?}") };
            for log in &topic.partitions {
                let name = format!("{}/t-{}/", dir.log_dir, log.partition_index);
                let is_segment = |path: &str| path.starts_with(&name) && path.ends_with(".log");
                let held = files.iter().filter(|(path, _)| is_segment(&path.to_string_lossy()));
                let held: u64 = held.map(|(_, len)| len).sum();
                assert_eq!((log.partition_size as u64, log.offset_lag), (held, 0), "{name}");
                assert!(held > 0, "{name}");
                seen.push(log.partition_index);
            }
        }
        seen.sort();
        assert_eq!(seen, [0, 1, 2, 3]);

        bench.hurt_next_sync(DiskFault::FailedSync);
        let mut refused = 0;
        for index in 0..4 {
            refused += i32::from(client.produce_to(index).await.0 != 0);
        }
        assert_eq!(refused, 2);
        let told = client.call(&all, 5).await;
        let [failed, whole] = &told.results[..] else { panic!("{told:?}") };
        assert_eq!((&*failed.log_dir, &*whole.log_dir), ("/data", "/more"));
        assert_eq!(failed.error_code, ErrorCode::KafkaStorageError.as_i16());
        assert!(failed.topics.is_empty());
        assert_eq!((failed.total_bytes, failed.usable_bytes), (-1, -1));
        assert_eq!((whole.error_code, whole.topics[0].partitions.len()), (0, 2));
    });
}
