//! A broker to talk to, and a client that says exactly what a test wants it to say.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use broker::{Audience, Broker, BrokerConfig, ListenerConfig, ListenerProtocol};
use bytes::{Buf, Bytes, BytesMut};
use cluster::config::BrokerSettings;
use env::{Conn, ConnReader, ConnWriter, Disk, Env, Net, Part};
use record::{Batch, BatchBuilder, BatchOptions, ProducerStamp};
use server::world::RealEnv;
use types::{NodeId, ProducerEpoch, ProducerId, Sequence, Timestamp, Uuid};
use wire::{Reader, Request, ResponseHeader};

type RealConn = <<RealEnv as Env>::Net as Net>::Conn;

/// A broker in a directory of its own.
pub struct Node {
    pub broker: Broker<RealEnv>,
    pub dir: PathBuf,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

pub fn fresh_dir() -> PathBuf {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("foretold-protocol-{}-{number}", std::process::id()))
}

pub fn config(dir: &Path, settings: &[(&str, &str)]) -> BrokerConfig {
    let values = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    BrokerConfig {
        roles: broker::Roles::default(),
        node_id: NodeId(7),
        cluster_id: None,
        listeners: vec![ListenerConfig {
            name: "PLAINTEXT".into(),
            bind: "127.0.0.1:0".parse().unwrap(),
            advertised: None,
            protocol: ListenerProtocol::Plaintext,
            audience: Audience::Clients,
        }],
        log_dirs: vec![dir.to_owned()],
        metadata_dir: None,
        bootstrap: Vec::new(),
        asks_who_decides: false,
        voters: Vec::new(),
        settings: BrokerSettings::parse(values).unwrap().0,
    }
}

impl Node {
    pub async fn start(settings: &[(&str, &str)]) -> Node {
        Node::open(fresh_dir(), settings).await
    }

    pub async fn open(dir: PathBuf, settings: &[(&str, &str)]) -> Node {
        let broker = Broker::start(RealEnv::new(), config(&dir, settings)).await.unwrap();
        Node { broker, dir }
    }

    pub fn address(&self) -> SocketAddr {
        self.broker.listeners()[0].1
    }

    pub async fn peer(&self) -> Peer {
        Peer::connect(self.address()).await
    }

    /// Stops cleanly and leaves nothing behind.
    pub async fn end(self) {
        self.broker.shutdown().await;
        RealEnv::new().disk().remove_dir_all(&self.dir).await.unwrap();
    }
}

/// A connection that speaks whatever version it is told to.
pub struct Peer {
    reader: <RealConn as Conn>::Reader,
    writer: <RealConn as Conn>::Writer,
    received: BytesMut,
    next: i32,
}

impl Peer {
    pub async fn connect(address: SocketAddr) -> Peer {
        let (reader, writer) = RealEnv::new().net().connect(address).await.unwrap().split();
        Peer { reader, writer, received: BytesMut::new(), next: 1 }
    }

    /// Sends `request`, waits for the answer.
    pub async fn ask<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        let id = self.send(request, version).await;
        self.answer::<R>(id, version).await
    }

    /// Sends `request`; returns its correlation id.
    pub async fn send<R: Request>(&mut self, request: &R, version: i16) -> i32 {
        let id = self.next;
        self.next += 1;
        let frame = wire::request_frame(request, version, id, Some("test".into())).unwrap();
        self.send_bytes(frame).await;
        id
    }

    pub async fn send_bytes(&mut self, bytes: Bytes) {
        // The broker may have closed the connection: then no answer comes, which is what tests look at.
        let _ = self.writer.send(vec![Part::Mem(bytes)]).await;
    }

    /// The next frame, which must be the answer to request `id`.
    pub async fn answer<R: Request>(&mut self, id: i32, version: i16) -> R::Response {
        let frame = self.frame().await.expect("an answer, not the end of the connection");
        let mut reader = Reader::new(frame);
        let header_version = R::API_KEY.response_header_version(version);
        let header = ResponseHeader::decode(&mut reader, header_version).unwrap();
        assert_eq!(header.correlation_id, id);
        let answer = <R::Response as wire::Message>::decode(&mut reader, version).unwrap();
        reader.finish().unwrap();
        answer
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(length) = self.received.first_chunk::<4>() {
                let length = i32::from_be_bytes(*length) as usize;
                if self.received.len() >= 4 + length {
                    let mut frame = self.received.split_to(4 + length).freeze();
                    frame.advance(4);
                    return Some(frame);
                }
            }
            match self.reader.read(&mut self.received, 1 << 20).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}

/// A batch of records with these values.
pub fn batch(values: &[&str], producer: Option<(i64, i16, i32)>) -> Batch {
    let producer = producer.map(|(id, epoch, sequence)| ProducerStamp {
        id: ProducerId(id),
        epoch: ProducerEpoch(epoch),
        base_sequence: Sequence(sequence),
    });
    let mut builder = BatchBuilder::new(BatchOptions { producer, ..BatchOptions::default() });
    for value in values {
        builder.push(Some(Timestamp(1_700_000_000_000)), None, Some(value.as_bytes()));
    }
    builder.build()
}

pub async fn create(
    peer: &mut Peer,
    name: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> Uuid {
    use wire::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
    let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
        name: (*name).into(),
        value: Some((*value).into()),
    });
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: 1,
        configs: configs.collect(),
        ..Default::default()
    };
    let request =
        CreateTopicsRequest { topics: vec![topic], timeout_ms: 5000, ..Default::default() };
    let answer = peer.ask(&request, 7).await;
    assert_eq!(answer.topics[0].error_code, 0, "{:?}", answer.topics[0].error_message);
    answer.topics[0].topic_id
}

pub fn produce_request(
    topic: &str,
    partition: i32,
    acks: i16,
    records: Bytes,
) -> wire::produce::ProduceRequest {
    use wire::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
    ProduceRequest {
        acks,
        timeout_ms: 5000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData { index: partition, records: Some(records) }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Produces with acks=all in version 9; returns the error code and the base offset.
pub async fn produce(peer: &mut Peer, topic: &str, partition: i32, batch: &Batch) -> (i16, i64) {
    let request = produce_request(topic, partition, -1, batch.to_bytes());
    let answer = peer.ask(&request, 9).await;
    let told = &answer.responses[0].partition_responses[0];
    (told.error_code, told.base_offset)
}
