//! Our client through a network that resets connections, stalls them and swallows answers: what an idempotent producer
//! was told is true, and a group reads everything although its members lose their connections all the time.
//!
//! The simulator does this with seeds and on a false clock; here it is done once with real sockets in between.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use client::admin::{Admin, NewTopic};
use client::{
    Client, ClientConfig, Consumer, ConsumerConfig, Delivery, DeliveryReport, Producer,
    ProducerConfig, ProducerRecord, ResetPolicy,
};
use common::{Scratch, Server};
use server::world::RealEnv;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A stream of numbers that look random and are the same in every run.
struct Numbers(AtomicU64);

impl Numbers {
    fn next(&self) -> u64 {
        let mut x = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

/// What stands between clients and broker.
struct Proxy {
    target: String,
    is_bad: AtomicBool,
    numbers: Numbers,
    broken: AtomicU64,
}

impl Proxy {
    async fn run(self: Arc<Proxy>, listener: TcpListener) {
        loop {
            let Ok((from, _)) = listener.accept().await else { continue };
            tokio::spawn(self.clone().carry(from));
        }
    }

    async fn carry(self: Arc<Proxy>, from: TcpStream) {
        let Ok(to) = TcpStream::connect(&self.target).await else { return };
        let (from_reader, from_writer) = from.into_split();
        let (to_reader, to_writer) = to.into_split();
        let questions = tokio::spawn(self.clone().pipe(from_reader, to_writer));
        self.clone().pipe(to_reader, from_writer).await;
        questions.abort();
    }

    /// Carries bytes one way until it is time to break.
    async fn pipe(
        self: Arc<Proxy>,
        mut reader: tokio::net::tcp::OwnedReadHalf,
        mut writer: tokio::net::tcp::OwnedWriteHalf,
    ) {
        let mut left = 2_000 + (self.numbers.next() % 16_000) as usize;
        let mut buffer = vec![0; 4096];
        loop {
            let Ok(got @ 1..) = reader.read(&mut buffer).await else { return };
            let is_bad = self.is_bad.load(Ordering::Relaxed);
            if is_bad && got >= left {
                self.broken.fetch_add(1, Ordering::Relaxed);
                let rest = left.min(got);
                match self.numbers.next() % 3 {
                    0 => return,
                    1 => drop(writer.write_all(&buffer[..rest]).await),
                    // Half-open: the other side hears nothing any more.
                    _ => std::future::pending().await,
                }
                return;
            }
            left = if is_bad { left - got } else { left };
            if writer.write_all(&buffer[..got]).await.is_err() {
                return;
            }
        }
    }
}

fn client_of(bootstrap: &str) -> Client<RealEnv> {
    let config = ClientConfig {
        bootstrap: vec![bootstrap.to_owned()],
        request_timeout: Duration::from_millis(300),
        retry_backoff: Duration::from_millis(10),
        retry_backoff_max: Duration::from_millis(100),
        ..ClientConfig::default()
    };
    Client::new(RealEnv::new(), config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_or_reordered_by_a_bad_network() {
    let scratch = Scratch::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = listener.local_addr().unwrap().to_string();
    let advertised = format!("advertised.listeners=PLAINTEXT://{through}");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let direct = format!("127.0.0.1:{port}");
    let server = Server::start(&[
        "dev",
        "--listen",
        &direct,
        "--data",
        scratch.path().to_str().unwrap(),
        "--set",
        &advertised,
        "--set",
        "group.min.session.timeout.ms=100",
        "--set",
        "group.initial.rebalance.delay.ms=0",
    ]);
    let proxy = Arc::new(Proxy {
        target: direct,
        is_bad: AtomicBool::new(true),
        numbers: Numbers(AtomicU64::new(7)),
        broken: AtomicU64::new(0),
    });
    tokio::spawn(proxy.clone().run(listener));

    let client = client_of(&through);
    let topic = NewTopic { partitions: Some(2), ..NewTopic::new("t") };
    let _ = Admin::new(&client).create_topics(&[topic], false).await;
    let config = ProducerConfig { batch_bytes: 2048, ..ProducerConfig::default() };
    let producer = Producer::new(&client, config).unwrap();
    let mut deliveries: Vec<(i32, String, Delivery)> = Vec::new();
    for number in 0..2000 {
        let partition = number % 2;
        let value = format!("{number} {}", "x".repeat(100));
        let record = ProducerRecord {
            partition: Some(partition),
            ..ProducerRecord::new("t", value.clone())
        };
        deliveries.push((partition, value, producer.send(record).await.unwrap()));
    }
    let mut expected: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for (partition, value, delivery) in deliveries {
        match delivery.await {
            DeliveryReport::Ok { .. } => expected.entry(partition).or_default().push(value),
            // With two minutes for each record no fate stays open here.
            other => panic!("{value}: {other:?}"),
        }
    }
    assert!(proxy.broken.load(Ordering::Relaxed) > 20, "the network was too good");

    // Two members read it all through the same network.
    let config = ConsumerConfig {
        group: Some("g".into()),
        reset: ResetPolicy::Earliest,
        auto_commit: Some(Duration::from_millis(100)),
        heartbeat_interval: Duration::from_millis(200),
        session_timeout: Duration::from_secs(5),
        rebalance_timeout: Duration::from_secs(5),
        partition_bytes_max: 8192,
        fetch_wait_max: Duration::from_millis(50),
        poll_records_max: 100,
        ..ConsumerConfig::default()
    };
    let read: Arc<Mutex<BTreeMap<(i32, i64), String>>> = Arc::default();
    let members = (0..2).map(|_| {
        let (client, config, read) = (client_of(&through), config.clone(), read.clone());
        async move {
            let mut consumer = Consumer::new(&client, config).unwrap();
            consumer.subscribe(vec!["t".into()]).await.unwrap();
            let limit = Instant::now() + Duration::from_secs(90);
            while read.lock().unwrap().len() < 2000 && Instant::now() < limit {
                let polled = consumer.poll(Duration::from_millis(100)).await.unwrap();
                let mut read = read.lock().unwrap();
                for record in polled.records {
                    let place = (record.partition.partition.0, record.offset.0);
                    let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                    // A record may be read twice around a rebalance, but never differently.
                    let seen = read.insert(place, value.clone());
                    assert!(seen.is_none_or(|seen| seen == value), "{place:?}");
                }
            }
            let _ = consumer.close().await;
        }
    });
    let members: Vec<_> = members.map(tokio::spawn).collect();
    for member in members {
        member.await.unwrap();
    }
    let read = read.lock().unwrap();
    for (partition, values) in expected {
        let stored: Vec<&String> =
            read.iter().filter(|((of, _), _)| *of == partition).map(|(_, value)| value).collect();
        let (got, sent) = (stored.len(), values.len());
        assert!(stored.into_iter().eq(&values), "partition {partition}: {got} of {sent}");
    }
    server.stop();
}
