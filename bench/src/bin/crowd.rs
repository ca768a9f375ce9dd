//! A crowd at the door of one broker, and what it costs: `crowd --bootstrap HOST:PORT --pid PID [--connections N]
//! [--seconds N]`. What was seen in one line; an error, and exit code 1, if a bound does not hold.
//!
//! ```text
//!  N idle          have asked once, as every client does, and stay
//!  half of them    then wait for records that do not come (long polls)
//!  a twentieth     ask for much, pipelined, and read nothing
//!  a fifth         announce a large request and send little of it, then a byte now and then
//!  equal clients   produce and fetch as fast as they are answered, beside all that
//! ```
//!
//! Bounds: the broker's memory stays within 300 MB, and the slowest tenth of the equal clients gets at least half of what
//! the median gets. Plain threads and blocking sockets: the crowd itself must not be what is measured.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use record::{BatchBuilder, BatchOptions};
use types::Timestamp;
use wire::api_versions::ApiVersionsRequest;
use wire::create_topics::{CreatableTopic, CreateTopicsRequest};
use wire::fetch::{FetchPartition, FetchRequest, FetchTopic};
use wire::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use wire::{Message, Reader, Request, ResponseHeader};

/// What the broker may hold, in MB of 1,000,000 bytes.
const MEMORY_MB_MAX: f64 = 300.0;
/// Equal clients of each kind.
const EQUALS: usize = 50;
/// What a connection must answer within.
const PATIENCE: Duration = Duration::from_secs(20);
/// Topic with records, and one without.
const FULL: &str = "crowd-full";
const EMPTY: &str = "crowd-empty";
/// Bytes of records in [`FULL`].
const FULL_BYTES: usize = 64 << 20;
/// What the slow announce, and how much of it they send at once: all kinds of thresholds lie between.
const ANNOUNCED_BYTES: i32 = 50 << 20;
const BEGUN_BYTES: [usize; 5] = [6, 6_000, 60_000, 120_000, 1_000_000];

type Failed = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    match Plan::parse(std::env::args().skip(1)).and_then(|plan| plan.run()) {
        Ok(seen) => {
            println!("{seen}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("crowd: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Plan {
    broker: SocketAddr,
    pid: u32,
    connections: usize,
    time: Duration,
}

impl Plan {
    fn parse(words: impl Iterator<Item = String>) -> Result<Plan, Failed> {
        let words: Vec<String> = words.collect();
        let value = |name: &str| {
            let at = words.iter().position(|word| word == name)?;
            words.get(at + 1).map(String::as_str)
        };
        Ok(Plan {
            broker: value("--bootstrap").ok_or("--bootstrap HOST:PORT is missing")?.parse()?,
            pid: value("--pid").ok_or("--pid PID is missing")?.parse()?,
            connections: value("--connections").unwrap_or("10000").parse()?,
            time: Duration::from_secs(value("--seconds").unwrap_or("3").parse()?),
        })
    }

    fn run(&self) -> Result<String, Failed> {
        let mut seen = Vec::new();
        let mut note = |what: &str, count: usize| -> Result<(), Failed> {
            seen.push(format!("{count} {what} {:.0} MB", self.memory_mb("VmRSS:")?));
            Ok(())
        };
        self.prepare()?;
        note("at first", 0)?;
        let mut crowd = Vec::with_capacity(self.connections);
        for number in 0..self.connections {
            let mut link = Link::connect(self.broker)
                .map_err(|error| format!("connection {number}: {error}"))?;
            link.ask(&ApiVersionsRequest::default(), 0)
                .map_err(|error| format!("connection {number}: {error}"))?;
            crowd.push(link);
        }
        note("idle", crowd.len())?;
        let polls = self.connections / 2;
        for link in &mut crowd[..polls] {
            link.send(&fetch(EMPTY, 0, 60_000, 1 << 20), 12)?;
        }
        // The last one's answer says that the broker has seen those before it, or nearly all.
        self.settle()?;
        note("of them polling", polls)?;
        let readers = self.connections / 20;
        for link in &mut crowd[polls..polls + readers] {
            for _ in 0..4 {
                link.send(&fetch(FULL, 0, 0, 50 << 20), 12)?;
            }
        }
        self.settle()?;
        note("of them reading nothing", readers)?;
        let slow = self.connections / 5;
        let mut loris = crowd.split_off(self.connections - slow);
        for (number, link) in loris.iter_mut().enumerate() {
            link.begin(BEGUN_BYTES[number % BEGUN_BYTES.len()])?;
        }
        self.settle()?;
        note("of them sending slowly", slow)?;
        let fairness = self.compete(&mut loris)?;
        let peak = self.memory_mb("VmHWM:")?;
        let seen = format!("{}; {fairness}; peak {peak:.0} MB", seen.join(", "));
        if peak > MEMORY_MB_MAX {
            return Err(format!("the broker holds more than {MEMORY_MB_MAX} MB: {seen}").into());
        }
        drop(crowd);
        Ok(seen)
    }

    /// Topics, and records in one of them.
    fn prepare(&self) -> Result<(), Failed> {
        let mut link = Link::connect(self.broker)?;
        let topic = |name: &str| CreatableTopic {
            name: name.into(),
            num_partitions: 1,
            replication_factor: 1,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic(FULL), topic(EMPTY), topic("crowd-written")],
            ..CreateTopicsRequest::default()
        };
        let answer = link.ask(&request, 5)?;
        if let Some(refused) = answer.topics.iter().find(|topic| topic.error_code != 0) {
            return Err(format!("{}: error {}", refused.name.as_str(), refused.error_code).into());
        }
        let records = batch(900, 1_000);
        for _ in 0..FULL_BYTES / records.len() {
            link.produce(FULL, &records)?;
        }
        Ok(())
    }

    /// What is on its way has arrived.
    fn settle(&self) -> Result<(), Failed> {
        let mut link = Link::connect(self.broker)?;
        for _ in 0..10 {
            link.ask(&ApiVersionsRequest::default(), 0)?;
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Lets equal clients work while the slow send a byte now and then. How fair it was; an error if it was not.
    fn compete(&self, slow: &mut [Link]) -> Result<String, Failed> {
        let is_over = AtomicBool::new(false);
        let records = batch(1, 1_000);
        let (produced, fetched) = std::thread::scope(|scope| {
            let work = |is_producer: bool| {
                let (records, is_over) = (&records, &is_over);
                scope.spawn(move || -> Result<u64, Failed> {
                    let mut link = Link::connect(self.broker)?;
                    let mut done = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        if is_producer {
                            link.produce("crowd-written", records)?;
                        } else {
                            link.ask(&fetch(FULL, (done as i64 % 50) * 900, 0, 100_000), 12)?;
                        }
                        done += 1;
                    }
                    Ok(done)
                })
            };
            let producers: Vec<_> = (0..EQUALS).map(|_| work(true)).collect();
            let readers: Vec<_> = (0..EQUALS).map(|_| work(false)).collect();
            let end = Instant::now() + self.time;
            while Instant::now() < end {
                for link in slow.iter_mut() {
                    // The broker may give up who takes too long.
                    let _ = link.stream.write(&[0]);
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            is_over.store(true, Ordering::Relaxed);
            let join = |threads: Vec<std::thread::ScopedJoinHandle<'_, Result<u64, Failed>>>| {
                let counts: Result<Vec<u64>, Failed> = threads
                    .into_iter()
                    .map(|thread| thread.join().map_err(|_| "a client panicked")?)
                    .collect();
                counts
            };
            Ok::<_, Failed>((join(producers)?, join(readers)?))
        })?;
        let (produced, fetched) = (Shares::of(produced), Shares::of(fetched));
        let text = format!("{EQUALS} producers {produced}, {EQUALS} readers {fetched}");
        if produced.is_fair() && fetched.is_fair() { Ok(text) } else { Err(text.into()) }
    }

    /// A figure of the broker's process.
    fn memory_mb(&self, name: &str) -> Result<f64, Failed> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no such figure")?;
        Ok(kib.parse::<f64>()? * 1024.0 / 1e6)
    }
}

/// What equal clients got.
struct Shares {
    slowest: f64,
    median: f64,
}

impl Shares {
    fn of(mut counts: Vec<u64>) -> Shares {
        counts.sort_unstable();
        let tenth = counts.len().div_ceil(10);
        let slowest = counts[..tenth].iter().sum::<u64>() as f64 / tenth as f64;
        Shares { slowest, median: counts[counts.len() / 2] as f64 }
    }

    fn is_fair(&self) -> bool {
        self.median > 0.0 && self.slowest * 2.0 >= self.median
    }
}

impl std::fmt::Display for Shares {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "slowest tenth {:.0}, median {:.0} requests", self.slowest, self.median)
    }
}

/// One connection.
struct Link {
    stream: TcpStream,
    next: i32,
}

impl Link {
    fn connect(broker: SocketAddr) -> io::Result<Link> {
        let stream = TcpStream::connect_timeout(&broker, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Link { stream, next: 0 })
    }

    fn send<Q: Request>(&mut self, request: &Q, version: i16) -> Result<(), Failed> {
        self.next += 1;
        let frame = wire::request_frame(request, version, self.next, Some("crowd".into()))
            .map_err(|error| format!("{error:?}"))?;
        Ok(self.stream.write_all(&frame)?)
    }

    fn ask<Q: Request>(&mut self, request: &Q, version: i16) -> Result<Q::Response, Failed> {
        self.send(request, version)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length))?];
        self.stream.read_exact(&mut frame)?;
        let mut reader = Reader::new(Bytes::from(frame));
        let answer =
            ResponseHeader::decode(&mut reader, Q::API_KEY.response_header_version(version))
                .and_then(|_| Q::Response::decode(&mut reader, version));
        answer.map_err(|error| format!("an answer cannot be read: {error:?}").into())
    }

    fn produce(&mut self, topic: &str, records: &Bytes) -> Result<(), Failed> {
        let data = PartitionProduceData { index: 0, records: Some(records.clone()) };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![TopicProduceData {
                name: topic.into(),
                partition_data: vec![data],
                ..TopicProduceData::default()
            }],
            ..ProduceRequest::default()
        };
        let answer = self.ask(&request, 9)?;
        match answer.responses[0].partition_responses[0].error_code {
            0 => Ok(()),
            code => Err(format!("produce: error {code}").into()),
        }
    }

    /// Sends the first `bytes` of a request that is announced as large.
    fn begin(&mut self, bytes: usize) -> io::Result<()> {
        let mut head = ANNOUNCED_BYTES.to_be_bytes().to_vec();
        // Produce, version 9.
        head.extend_from_slice(&[0, 0, 0, 9]);
        head.resize(bytes.max(head.len()), 0);
        // As much as fits: the broker may read no more of it.
        self.stream.set_nonblocking(true)?;
        match self.stream.write(&head) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }
}

fn fetch(topic: &str, from: i64, max_wait_ms: i32, bytes_max: i32) -> FetchRequest {
    let partition = FetchPartition {
        fetch_offset: from,
        partition_max_bytes: bytes_max,
        ..FetchPartition::default()
    };
    FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: bytes_max,
        topics: vec![FetchTopic {
            topic: topic.into(),
            partitions: vec![partition],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    }
}

fn batch(records: usize, record_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let value = vec![b'v'; record_bytes];
    for _ in 0..records {
        builder.push(Some(Timestamp(1_700_000_000_000)), None, Some(&value));
    }
    builder.build().to_bytes()
}
