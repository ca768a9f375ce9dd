//! A whole broker, and a whole client, in the false world: bytes from the network reach everything behind it. The broker
//! answers in the order of asking and serves whoever comes next; the client ends every operation.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use broker::{Audience, Broker, BrokerConfig, ListenerConfig, ListenerProtocol};
use bytes::{Buf, Bytes, BytesMut};
use client::{Admin, Client, ClientConfig, Consumer, ConsumerConfig, Producer, ProducerConfig};
use client::{ProducerRecord, ResetPolicy};
use cluster::config::BrokerSettings;
use env::{Clock, Conn, ConnReader, ConnWriter, Disk, Env, Listener, Net, Part};
use sim::decisions::Decisions;
use sim::disk::SimDisk;
use sim::exec::{self, Limits, World};
use sim::net::{Network, SimNet, ip_of};
use sim::world::SimEnv;
use types::{BrokerId, ClusterId, GroupId, NodeId, TopicName, TopicPartition};
use wire::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use wire::create_topics::{CreatableTopic, CreateTopicsRequest};
use wire::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use wire::{ApiKey, Message, Reader, RequestHeader, ResponseHeader, Writer};

const BROKER: u32 = 1;
const CLIENT: u32 = 2;
const PORT: u16 = 9092;
const DATA: &str = "/data";
/// Virtual time that a connection or an operation may take.
const PATIENCE: Duration = Duration::from_secs(120);

type SimConn = <SimNet as Net>::Conn;
type Reading = <SimConn as Conn>::Reader;

/// Two machines and a network without faults.
#[derive(Clone)]
struct Scene {
    world: World,
    network: Network,
    disk: SimDisk,
}

impl Scene {
    /// `life` counts those on one disk: random identities of a second one that repeat the first's are no broker's fault.
    fn on(disk: &SimDisk, life: u64) -> Scene {
        let world = World::new(&Decisions::new(life));
        world.add_node(BROKER, "broker");
        world.add_node(CLIENT, "client");
        let network = Network::new(&world);
        Scene { world, network, disk: disk.clone() }
    }

    fn env(&self, node: u32) -> SimEnv {
        SimEnv::new(&self.world, &self.network, &self.disk, node)
    }

    /// Runs `play`; panics if it breaks a rule of the world or does not come to its end.
    fn run(&self, play: impl Future<Output = ()> + Send + 'static) {
        let ended = Arc::new(Mutex::new(false));
        let end = ended.clone();
        let limits = Limits { time: Duration::from_secs(3600), polls: 2_000_000 };
        exec::run(&self.world, limits, async move {
            play.await;
            *end.lock().expect("no panic holds it") = true;
        });
        assert!(self.world.violated().is_none(), "{:?}", self.world.violated());
        assert!(*ended.lock().expect("no panic holds it"), "it did not come to its end");
    }

    /// Starts the broker; returns when it serves.
    async fn start(&self) {
        let (env, config) = (self.env(BROKER), config());
        let (ready, serving) = tokio::sync::oneshot::channel();
        self.world.spawn(BROKER, "broker", async move {
            let broker = Broker::start(env, config).await.expect("it starts");
            let _ = ready.send(());
            let failure = broker.failed().await;
            panic!("the broker gave up: {failure:?}");
        });
        serving.await.expect("it serves");
    }

    async fn connect(&self) -> SimConn {
        let net = self.env(CLIENT).net().clone();
        net.connect(SocketAddr::new(ip_of(BROKER), PORT)).await.expect("connects")
    }

    async fn sleep(&self, duration: Duration) {
        self.env(CLIENT).clock().sleep(duration).await;
    }
}

fn config() -> BrokerConfig {
    let settings = [
        ("offsets.topic.num.partitions", "1"),
        ("num.partitions", "1"),
        ("log.journal.bytes", "33554432"),
        ("log.journal.file.bytes", "4194304"),
    ];
    let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let (settings, _) = BrokerSettings::parse(settings).expect("sound settings");
    BrokerConfig {
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
        log_dirs: vec![PathBuf::from(DATA)],
        metadata_dir: None,
        bootstrap: Vec::new(),
        asks_who_decides: false,
        voters: Vec::new(),
        settings,
    }
}

/// A file that says whose a directory is (first byte even), or the name of a cluster (odd), in a directory of its own.
pub(crate) fn identity(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let (rest, is_file) = (rest.to_vec(), choice % 2 == 0);
    let scene = Scene::on(&SimDisk::new(&Decisions::new(1)), 1);
    let env = scene.env(BROKER);
    scene.run(async move {
        let (disk, file) = (env.disk().clone(), Path::new(DATA).join("meta.properties"));
        if is_file {
            disk.create_dir_all(Path::new(DATA)).await.expect("creates");
            disk.replace(&file, Bytes::from(rest.clone())).await.expect("writes");
        }
        let before = disk.read_all(&file).await.ok();
        let name = match &before {
            Some(_) => "c".to_owned(),
            // The command line takes an id without blanks around it, and none that is empty.
            None => String::from_utf8_lossy(&rest).trim().to_owned(),
        };
        if name.is_empty() {
            return;
        }
        let config = config();
        let format = || {
            broker::format(
                &env,
                &config,
                ClusterId(name.as_str().into()),
                &broker::Beginning::Configured,
            )
        };
        let formatted = format().await.is_ok();
        let after = disk.read_all(&file).await.ok();
        assert!(before.is_none() || after == before, "a file that is there stays as it is");
        if formatted {
            format().await.expect("what was formatted is formatted");
            assert_eq!(disk.read_all(&file).await.ok(), after);
        }
    });
}

/// A data directory with a topic in it, closed in order.
fn formatted() -> &'static SimDisk {
    static FORMATTED: OnceLock<SimDisk> = OnceLock::new();
    FORMATTED.get_or_init(|| {
        let scene = Scene::on(&SimDisk::new(&Decisions::new(1)), 1);
        let play = scene.clone();
        scene.run(async move {
            play.start().await;
            let (mut reader, mut writer) = play.connect().await.split();
            let topic = CreatableTopic {
                name: "topic".into(),
                num_partitions: 1,
                replication_factor: 1,
                ..CreatableTopic::default()
            };
            let request =
                CreateTopicsRequest { topics: vec![topic], timeout_ms: 5000, ..Default::default() };
            let frame = wire::request_frame(&request, 7, 1, None).expect("can be said");
            writer.send(vec![Part::Mem(frame)]).await.expect("sends");
            next_frame(&mut reader, &mut BytesMut::new()).await.expect("an answer");
        });
        scene.disk.kill()
    })
}

/// The next frame without its length; `None` when the connection is over.
async fn next_frame(reader: &mut Reading, buffer: &mut BytesMut) -> Option<Bytes> {
    loop {
        if let Some(head) = buffer.first_chunk::<4>() {
            let bytes = u32::from_be_bytes(*head) as usize;
            if buffer.len() >= 4 + bytes {
                buffer.advance(4);
                return Some(buffer.split_to(bytes).freeze());
            }
        }
        match reader.read(buffer, 64 << 10).await {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// Correlation ids of the whole frames in a stream.
fn asked(mut stream: &[u8]) -> Vec<i32> {
    let mut ids = Vec::new();
    while let Some((head, rest)) = stream.split_first_chunk::<4>() {
        let Some((frame, rest)) =
            usize::try_from(i32::from_be_bytes(*head)).ok().and_then(|n| rest.split_at_checked(n))
        else {
            break;
        };
        let Some(id) = frame.get(4..8) else { break };
        ids.push(i32::from_be_bytes(id.try_into().expect("four bytes")));
        stream = rest;
    }
    ids
}

/// A connection's bytes, sent in pieces as long as the first byte says (0: all at once). Answers are to what was asked, in
/// the order of asking; and the next client is served.
pub(crate) fn broker_connection(data: &[u8]) {
    let Some((piece, stream)) = data.split_first() else { return };
    let piece = if *piece == 0 { stream.len() } else { usize::from(*piece) };
    let stream = Bytes::copy_from_slice(stream);
    let scene = Scene::on(&formatted().fork(1), 2);
    let play = scene.clone();
    scene.run(async move {
        play.start().await;
        let (mut reader, mut writer) = play.connect().await.split();
        let ids = asked(&stream);
        let receiving = async {
            let (mut buffer, mut ids) = (BytesMut::new(), ids.into_iter());
            while let Some(frame) = next_frame(&mut reader, &mut buffer).await {
                let header = ResponseHeader::decode(&mut Reader::new(frame), 0).expect("a header");
                let was_asked = ids.any(|id| id == header.correlation_id);
                assert!(was_asked, "an answer to {} at this place", header.correlation_id);
            }
        };
        let sending = async {
            let mut rest = stream.clone();
            while !rest.is_empty() {
                let part = rest.split_to(piece.min(rest.len()));
                if writer.send(vec![Part::Mem(part)]).await.is_err() {
                    return;
                }
            }
            let _ = writer.shutdown().await;
        };
        // Long polls may outlast anybody's patience.
        tokio::select! {
            biased;
            ((), ()) = async { tokio::join!(biased; receiving, sending) } => {}
            () = play.sleep(PATIENCE) => {}
        }
        let (mut reader, mut writer) = play.connect().await.split();
        let frame = wire::request_frame(&ApiVersionsRequest::default(), 0, 77, None);
        writer.send(vec![Part::Mem(frame.expect("can be said"))]).await.expect("sends");
        tokio::select! {
            biased;
            answer = async { next_frame(&mut reader, &mut BytesMut::new()).await } => {
                answer.expect("the next client is answered");
            }
            () = play.sleep(PATIENCE) => panic!("the next client is not answered"),
        }
    });
}

/// What a broker answers that is not to be trusted: two bytes choose what the client does and which questions are answered
/// rightly, then come answers of two bytes of length each. Without any left it closes the connection.
pub(crate) fn client_answers(data: &[u8]) {
    let [choice, right, answers @ ..] = data else { return };
    let (choice, right) = (*choice, *right);
    let scene = Scene::on(&SimDisk::new(&Decisions::new(1)), 1);
    let net = scene.env(BROKER).net().clone();
    let answers = Arc::new(Mutex::new(Bytes::copy_from_slice(answers)));
    let world = scene.world.clone();
    let play = scene.clone();
    scene.run(async move {
        let address = SocketAddr::new(ip_of(BROKER), PORT);
        let mut listener = net.bind(address).await.expect("binds");
        let spawner = world.clone();
        world.spawn(BROKER, "liar", async move {
            while let Ok(conn) = listener.accept().await {
                let answers = answers.clone();
                spawner.spawn(BROKER, "lie", lie(conn, answers, right));
            }
        });
        let client = Client::new(
            play.env(CLIENT),
            ClientConfig {
                bootstrap: vec![address.to_string()],
                operation_timeout: Duration::from_secs(5),
                request_timeout: Duration::from_secs(2),
                answer_bytes_max: 1 << 20,
                ..ClientConfig::default()
            },
        );
        ask(&client, choice).await;
        client.close();
    });
}

/// Answers one connection out of `answers`.
async fn lie(conn: SimConn, answers: Arc<Mutex<Bytes>>, right: u8) {
    let (mut reader, mut writer) = conn.split();
    let mut buffer = BytesMut::new();
    while let Some(frame) = next_frame(&mut reader, &mut buffer).await {
        let header = RequestHeader::of_frame(&mut Reader::new(frame)).expect("our client's header");
        let key = header.api_key().expect("our client's key");
        let (version, id) = (header.request_api_version, header.correlation_id);
        let answer = match key {
            ApiKey::ApiVersions if right & 1 != 0 => framed(&versions(), version, id),
            ApiKey::Metadata if right & 2 != 0 => framed(&topics(), version, id),
            _ => {
                let mut answers = answers.lock().expect("no panic holds it");
                if answers.len() < 2 {
                    return;
                }
                let bytes = usize::from(answers.get_u16()).min(answers.len());
                let body = answers.split_to(bytes);
                let mut writer = Writer::new();
                let of_header = key.response_header_version(version);
                let header = ResponseHeader { correlation_id: id };
                header.encode(&mut writer, of_header).expect("can be said");
                writer.raw(&body);
                let body = writer.into_bytes();
                [&(body.len() as u32).to_be_bytes()[..], &body].concat().into()
            }
        };
        if writer.send(vec![Part::Mem(answer)]).await.is_err() {
            return;
        }
    }
}

fn framed<M: Message>(message: &M, version: i16, id: i32) -> Bytes {
    wire::response_frame(message, version, id).expect("can be said")
}

fn versions() -> ApiVersionsResponse {
    let of = |key: ApiKey| {
        let (min_version, max_version) = key.stable_versions();
        ApiVersion { api_key: key.as_i16(), min_version, max_version }
    };
    ApiVersionsResponse { api_keys: ApiKey::all().map(of).collect(), ..Default::default() }
}

fn topics() -> MetadataResponse {
    let host = ip_of(BROKER).to_string();
    let broker = MetadataResponseBroker {
        node_id: 0,
        host: host.as_str().into(),
        port: i32::from(PORT),
        rack: None,
    };
    let partition = |partition_index| MetadataResponsePartition {
        partition_index,
        replica_nodes: vec![0],
        isr_nodes: vec![0],
        ..MetadataResponsePartition::default()
    };
    let topic = MetadataResponseTopic {
        name: Some("topic".into()),
        topic_id: types::Uuid([1; 16]),
        partitions: vec![partition(0), partition(1)],
        ..MetadataResponseTopic::default()
    };
    MetadataResponse { brokers: vec![broker], topics: vec![topic], ..Default::default() }
}

/// One operation of a client; however it ends, it ends.
async fn ask(client: &Client<SimEnv>, choice: u8) {
    let admin = Admin::new(client);
    let (topic, group) = (TopicName::from("topic"), GroupId::from("group"));
    match choice % 12 {
        0 => drop(admin.list_topics().await),
        1 => drop(admin.list_groups().await),
        2 => drop(admin.describe_group(&group).await),
        3 => drop(admin.describe_cluster().await),
        4 => drop(admin.describe_log_dirs(BrokerId(0), None).await),
        5 => drop(admin.init_producer_id().await),
        6 => {
            let Ok(producer) = Producer::new(
                client,
                ProducerConfig {
                    delivery_timeout: Duration::from_secs(5),
                    ..ProducerConfig::default()
                },
            ) else {
                return;
            };
            if let Ok(delivery) = producer.send(ProducerRecord::new(topic, "value")).await {
                let _ = delivery.await;
            }
            producer.close().await;
        }
        7 => drop(admin.delete_groups(std::slice::from_ref(&group)).await),
        8 => drop(admin.group_offsets(&group).await),
        9 => drop(admin.describe_topics(std::slice::from_ref(&topic)).await),
        10 => consume(client, None).await,
        _ => consume(client, Some(group)).await,
    }
}

async fn consume(client: &Client<SimEnv>, group: Option<GroupId>) {
    let is_member = group.is_some();
    let config = ConsumerConfig { group, reset: ResetPolicy::Earliest, ..Default::default() };
    let Ok(mut consumer) = Consumer::new(client, config) else { return };
    let begun = match is_member {
        true => consumer.subscribe(vec![TopicName::from("topic")]).await,
        false => consumer.assign(vec![TopicPartition::new("topic", 0)]),
    };
    if begun.is_err() {
        return;
    }
    for _ in 0..4 {
        let _ = consumer.poll(Duration::from_secs(2)).await;
    }
    let _ = consumer.commit().await;
    let _ = consumer.close().await;
}
