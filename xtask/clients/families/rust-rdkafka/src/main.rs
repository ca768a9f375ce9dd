//! `family BOOTSTRAP`: the story of ../README.md with rust-rdkafka.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, error::KafkaError};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const PATIENCE: Duration = Duration::from_secs(90);
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

macro_rules! check {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(format!($($what)*).into());
        }
    };
}

/// A record as it is sent and as it comes back.
#[derive(Clone, Debug, PartialEq)]
struct Record {
    partition: i32,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    timestamp: i64,
}

/// What was acknowledged where, and what was not.
#[derive(Clone, Default)]
struct Answers {
    acked: Arc<Mutex<Vec<(usize, i64)>>>,
    faults: Arc<Mutex<Vec<KafkaError>>>,
}

impl ClientContext for Answers {}

impl ProducerContext for Answers {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<usize>) {
        match result {
            Ok(message) => self.acked.lock().expect("no panic holds it").push((*number, message.offset())),
            Err((fault, _)) => self.faults.lock().expect("no panic holds it").push(fault.clone()),
        }
    }
}

struct Client {
    bootstrap: String,
    admin: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    fn new(bootstrap: &str) -> Outcome<Client> {
        Ok(Client {
            bootstrap: bootstrap.to_owned(),
            admin: config(bootstrap).create()?,
            runtime: tokio::runtime::Builder::new_current_thread().build()?,
        })
    }

    fn producer(&self, codec: &str) -> Outcome<(ThreadedProducer<Answers>, Answers)> {
        let answers = Answers::default();
        let producer = config(&self.bootstrap)
            .set("enable.idempotence", "true")
            .set("compression.type", codec)
            .set("linger.ms", "5")
            .set("message.timeout.ms", "90000")
            .create_with_context(answers.clone())?;
        Ok((producer, answers))
    }

    fn produce(&self, topic: &str, codec: &str, records: &[Record]) -> Outcome<Vec<i64>> {
        let (producer, answers) = self.producer(codec)?;
        for (number, record) in records.iter().enumerate() {
            let mut row: BaseRecord<'_, [u8], [u8], Box<usize>> =
                BaseRecord::with_opaque_to(topic, Box::new(number)).partition(record.partition).timestamp(record.timestamp);
            row.key = record.key.as_deref();
            row.payload = record.value.as_deref();
            if !record.headers.is_empty() {
                row.headers = Some(record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                    headers.insert(Header { key, value: value.as_ref() })
                }));
            }
            producer.send(row).map_err(|(fault, _)| fault)?;
        }
        producer.flush(PATIENCE)?;
        let mut acked = answers.acked.lock().map_err(|_| "a panic")?.clone();
        check!(acked.len() == records.len(), "not acknowledged: {:?}", answers.faults);
        acked.sort_unstable();
        Ok(acked.into_iter().map(|(_, offset)| offset).collect())
    }

    fn consumer(&self, group: &str) -> Outcome<BaseConsumer> {
        let made = config(&self.bootstrap)
            .set("group.id", group)
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "500")
            .set("check.crcs", "true")
            .create()?;
        Ok(made)
    }

    fn consume(&self, topic: &str, ends: &BTreeMap<i32, i64>) -> Outcome<Vec<(i64, Record)>> {
        let consumer = self.consumer("nobody")?;
        let mut places = TopicPartitionList::new();
        let mut left: BTreeSet<i32> = BTreeSet::new();
        for (&partition, _) in ends.iter().filter(|(_, end)| **end > 0) {
            places.add_partition_offset(topic, partition, Offset::Beginning)?;
            left.insert(partition);
        }
        consumer.assign(&places)?;
        let mut rows = Vec::new();
        while !left.is_empty() {
            let message = consumer.poll(PATIENCE).ok_or("nothing comes")??;
            if message.offset() + 1 >= ends[&message.partition()] {
                left.remove(&message.partition());
            }
            rows.push((message.offset(), record_of(&message)));
        }
        Ok(rows)
    }

    fn create_topic(&self, topic: &str, partitions: i32, config: &[(&str, &str)]) -> Outcome<()> {
        let new = config
            .iter()
            .fold(NewTopic::new(topic, partitions, TopicReplication::Fixed(1)), |new, (name, value)| new.set(name, value));
        one(self.runtime.block_on(self.admin.create_topics([&new], &AdminOptions::new()))?)
    }

    fn config(&self, topic: &str, name: &str) -> Outcome<String> {
        let asked = [ResourceSpecifier::Topic(topic)];
        let found = self.runtime.block_on(self.admin.describe_configs(&asked, &AdminOptions::new()))?;
        let resource = found.into_iter().next().ok_or("no answer")??;
        let entry = resource.get(name).ok_or_else(|| format!("no {name}"))?;
        Ok(entry.value.clone().unwrap_or_default())
    }

    fn partitions(&self, topic: &str) -> Outcome<usize> {
        let found = self.admin.inner().fetch_metadata(Some(topic), PATIENCE)?;
        Ok(found.topics()[0].partitions().len())
    }

    fn topics(&self) -> Outcome<Vec<String>> {
        let found = self.admin.inner().fetch_metadata(None, PATIENCE)?;
        Ok(found.topics().iter().map(|topic| topic.name().to_owned()).collect())
    }

    /// State and members of a group, if it is there.
    fn group(&self, group: &str) -> Outcome<Option<(String, usize)>> {
        let found = self.admin.inner().fetch_group_list(None, PATIENCE)?;
        let found = found.groups().iter().find(|one| one.name() == group);
        Ok(found.map(|one| (one.state().to_owned(), one.members().len())))
    }
}

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("reconnect.backoff.max.ms", "500")
        .set("topic.metadata.refresh.interval.ms", "1000");
    config
}

/// The result about one topic or group.
fn one<T, K>(results: Vec<Result<T, (K, RDKafkaErrorCode)>>) -> Outcome<()> {
    match results.into_iter().next() {
        Some(Err((_, code))) => Err(code.to_string().into()),
        _ => Ok(()),
    }
}

fn record_of(message: &impl Message) -> Record {
    let headers = message.headers().map(|headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
    });
    Record {
        partition: message.partition(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
        timestamp: message.timestamp().to_millis().unwrap_or(-1),
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_millis() as i64)
}

/// When the records were made, by their timestamps. Recent: retention takes nothing.
fn base_time() -> i64 {
    static BASE: OnceLock<i64> = OnceLock::new();
    *BASE.get_or_init(|| now() - 3_600_000)
}

/// Keys, headers and values of every kind, some large; three partitions.
fn records_for(codec: &str) -> Vec<Record> {
    let record = |i: i64| {
        let key = (i % 7 != 0).then(|| format!("key-{i}").into_bytes());
        let is_null = i % 10 == 0 && key.is_some();
        let value = format!("{codec} value {i} ").repeat(if i % 40 == 1 { 1500 } else { 3 }).into_bytes();
        let header = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
        let headers = if i % 3 == 0 {
            Vec::new()
        } else {
            vec![header("trace", &i.to_string()), header("trace", "twice"), ("null".to_owned(), None)]
        };
        let value = (!is_null).then_some(value);
        Record { partition: (i % 3) as i32, key, value, headers, timestamp: base_time() + i * 1000 }
    };
    (0..240).map(record).collect()
}

fn numbered(numbers: std::ops::Range<i64>, partitions: i64) -> Vec<Record> {
    numbers
        .map(|n| Record {
            partition: (n % partitions) as i32,
            key: None,
            value: Some(n.to_string().into_bytes()),
            headers: Vec::new(),
            timestamp: base_time() + n,
        })
        .collect()
}

fn number(record: &Record) -> Outcome<i64> {
    Ok(std::str::from_utf8(record.value.as_deref().ok_or("no value")?)?.parse()?)
}

/// A member of a group: polls and commits on a thread of its own until it is told to leave.
struct Member {
    shared: Arc<Shared>,
    thread: JoinHandle<Outcome<()>>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<(i64, Record)>>,
    owned: Mutex<BTreeSet<i32>>,
    leaving: AtomicBool,
}

impl Member {
    fn join(client: &Client, group: &str, topic: &str) -> Outcome<Member> {
        let consumer = client.consumer(group)?;
        consumer.subscribe(&[topic])?;
        let shared = Arc::new(Shared::default());
        let inner = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            while !inner.leaving.load(Ordering::Relaxed) {
                let mut polled = 0;
                let end = Instant::now() + Duration::from_millis(200);
                while polled < 200 && Instant::now() < end {
                    // Errors are of brokers that are away: librdkafka comes back by itself.
                    if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
                        inner.seen.lock().map_err(|_| "a panic")?.push((message.offset(), record_of(&message)));
                        polled += 1;
                    }
                }
                let owned = consumer.assignment()?.elements().iter().map(|place| place.partition()).collect();
                *inner.owned.lock().map_err(|_| "a panic")? = owned;
                if polled > 0 {
                    // Rebalanced away, or the broker is away: it comes again.
                    let _ = consumer.commit_consumer_state(CommitMode::Sync);
                }
            }
            Ok(())
        });
        Ok(Member { shared, thread })
    }

    fn numbers(&self) -> BTreeSet<i64> {
        self.shared.seen.lock().expect("no panic holds it").iter().filter_map(|(_, row)| number(row).ok()).collect()
    }

    fn owned(&self) -> BTreeSet<i32> {
        self.shared.owned.lock().expect("no panic holds it").clone()
    }

    fn offsets_of(&self, partition: i32) -> BTreeSet<i64> {
        let seen = self.shared.seen.lock().expect("no panic holds it");
        seen.iter().filter(|(_, row)| row.partition == partition).map(|(offset, _)| *offset).collect()
    }

    fn leave(self) -> Outcome<Arc<Shared>> {
        self.shared.leaving.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "a member panicked")??;
        Ok(self.shared)
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) -> Outcome<()> {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        check!(Instant::now() < deadline, "waited {PATIENCE:?} for: {what}");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn produce_and_consume(client: &Client, topic: &str) -> Outcome<String> {
    client.create_topic(topic, 3, &[])?;
    let mut expected: BTreeMap<i32, Vec<(i64, Record)>> = BTreeMap::new();
    for codec in CODECS {
        let records = records_for(codec);
        let offsets = client.produce(topic, codec, &records)?;
        for (record, offset) in records.into_iter().zip(offsets) {
            let place = expected.entry(record.partition).or_default();
            check!(offset == place.len() as i64, "{codec}: offset {offset} in place of {}", place.len());
            place.push((offset, record));
        }
    }
    let ends = expected.iter().map(|(partition, rows)| (*partition, rows.len() as i64)).collect();
    let mut found: BTreeMap<i32, Vec<(i64, Record)>> = BTreeMap::new();
    for (offset, record) in client.consume(topic, &ends)? {
        found.entry(record.partition).or_default().push((offset, record));
    }
    check!(expected == found, "records differ");
    Ok(format!("{} codecs", CODECS.len()))
}

fn group(client: &Client, topic: &str, name: &str) -> Outcome<String> {
    client.create_topic(topic, 4, &[])?;
    let everything: BTreeSet<i32> = (0..4).collect();
    let produce = |numbers| client.produce(topic, "none", &numbered(numbers, 4)).map(drop);
    produce(0..400)?;
    let first = Member::join(client, name, topic)?;
    until("the first member has all", || first.owned() == everything)?;
    until("the first member reads all", || first.numbers().len() == 400)?;
    let second = Member::join(client, name, topic)?;
    until("two members share", || {
        let (a, b) = (first.owned(), second.owned());
        !a.is_empty() && !b.is_empty() && a.is_disjoint(&b) && a.union(&b).count() == 4
    })?;
    let described = client.group(name)?;
    check!(described == Some(("Stable".to_owned(), 2)), "group {described:?}");
    produce(400..800)?;
    until("two members read all", || first.numbers().union(&second.numbers()).count() == 800)?;
    let left = second.numbers();
    second.leave()?;
    until("the first member has all again", || first.owned() == everything)?;
    produce(800..1000)?;
    until("the one that is left reads all", || first.numbers().union(&left).count() == 1000)?;
    first.leave()?;
    let mut places = TopicPartitionList::new();
    places.add_partition_range(topic, 0, 3);
    let committed = client.consumer(name)?.committed_offsets(places, PATIENCE)?;
    check!(committed.elements().iter().all(|place| place.offset() == Offset::Offset(250)), "committed {committed:?}");
    let third = Member::join(client, name, topic)?;
    until("a third member has all", || third.owned() == everything)?;
    produce(1000..1100)?;
    until("a third member goes on", || third.numbers().len() >= 100)?;
    check!(third.numbers() == (1000..1100).collect(), "a member did not begin at the committed offsets");
    third.leave()?;
    Ok("3 members".to_owned())
}

fn admin(client: &Client, topic: &str, used_group: &str) -> Outcome<String> {
    let options = AdminOptions::new();
    client.create_topic(topic, 2, &[("retention.ms", "86400000")])?;
    until("two partitions", || client.partitions(topic).is_ok_and(|count| count == 2))?;
    check!(client.config(topic, "retention.ms")? == "86400000", "retention.ms");
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic))
        .set("retention.ms", "172800000")
        .set("max.message.bytes", "2000000");
    client.runtime.block_on(client.admin.alter_configs([&change], &options))?;
    check!(client.config(topic, "retention.ms")? == "172800000", "altered retention.ms");
    check!(client.config(topic, "max.message.bytes")? == "2000000", "altered max.message.bytes");

    let new = NewPartitions::new(topic, 5);
    one(client.runtime.block_on(client.admin.create_partitions([&new], &options))?)?;
    until("five partitions", || client.partitions(topic).is_ok_and(|count| count == 5))?;

    let record = |i: i64| Record { partition: 1, key: None, value: Some(b"x".to_vec()), headers: Vec::new(), timestamp: base_time() + i * 1000 };
    client.produce(topic, "none", &(0..100).map(record).collect::<Vec<_>>())?;
    let consumer = client.consumer("nobody")?;
    check!(consumer.fetch_watermarks(topic, 1, PATIENCE)? == (0, 100), "watermarks");
    for (time, expected) in [(base_time() + 40_001, Offset::Offset(41)), (base_time() + 1_000_000_000, Offset::End)] {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset(topic, 1, Offset::Offset(time))?;
        let found = consumer.offsets_for_times(asked, PATIENCE)?.elements()[0].offset();
        check!(found == expected, "offset {found:?} in place of {expected:?}");
    }

    let mut before = TopicPartitionList::new();
    before.add_partition_offset(topic, 1, Offset::Offset(30))?;
    let deleted = client.runtime.block_on(client.admin.delete_records(&before, &options))?;
    deleted.elements()[0].error()?;
    check!(consumer.fetch_watermarks(topic, 1, PATIENCE)?.0 == 30, "the log start after deleting records");

    let found = client.group(used_group)?;
    check!(found == Some(("Empty".to_owned(), 0)), "group {found:?}");
    one(client.runtime.block_on(client.admin.delete_groups(&[used_group], &options))?)?;
    check!(client.group(used_group)?.is_none(), "a deleted group is listed");

    one(client.runtime.block_on(client.admin.delete_topics(&[topic], &options))?)?;
    until("the topic is gone", || client.topics().is_ok_and(|names| !names.iter().any(|name| name == topic)))?;
    Ok("all".to_owned())
}

/// The broker is killed while we produce and consume; whoever runs us says when it stays up.
fn failures(client: &Client, topic: &str, name: &str) -> Outcome<String> {
    client.create_topic(topic, 2, &[])?;
    let reader = Member::join(client, name, topic)?;
    let calm = Arc::new(AtomicBool::new(false));
    let listener = Arc::clone(&calm);
    thread::spawn(move || {
        let _ = std::io::stdin().read_line(&mut String::new());
        listener.store(true, Ordering::Relaxed);
    });
    println!("failures");
    let senders = [client.producer("lz4")?, client.producer("lz4")?];
    let (mut sent, mut after) = (0, 0);
    while after < 100 {
        for (partition, (producer, _)) in senders.iter().enumerate() {
            let value = sent.to_string();
            let row: BaseRecord<'_, [u8], [u8], Box<usize>> =
                BaseRecord::with_opaque_to(topic, Box::new(sent)).partition(partition as i32).payload(value.as_bytes());
            producer.send(row).map_err(|(fault, _)| fault)?;
        }
        sent += 1;
        after += usize::from(calm.load(Ordering::Relaxed));
        thread::sleep(Duration::from_millis(10));
    }
    for (partition, (producer, answers)) in senders.iter().enumerate() {
        let partition = partition as i32;
        producer.flush(PATIENCE)?;
        let acked = answers.acked.lock().map_err(|_| "a panic")?.clone();
        check!(acked.len() == sent, "{} of {sent} acknowledged: {:?}", acked.len(), answers.faults);
        let (_, end) = client.consumer("nobody")?.fetch_watermarks(topic, partition, PATIENCE)?;
        check!(end == sent as i64, "{end} records of {sent}: twice or lost");
        let rows = client.consume(topic, &BTreeMap::from([(partition, end)]))?;
        for (at, (offset, row)) in rows.iter().enumerate() {
            check!(*offset == at as i64 && number(row)? == *offset, "partition {partition}: offset {at} holds {row:?}");
        }
        for (number, offset) in acked {
            check!(number as i64 == offset, "partition {partition}: {number} was acknowledged at {offset}");
        }
        until("the group has seen all", || reader.offsets_of(partition).len() as i64 == end)?;
    }
    reader.leave()?;
    Ok(format!("{} records", 2 * sent))
}

fn main() {
    let bootstrap = std::env::args().nth(1).expect("an address");
    let run = format!("rust-rdkafka-{}", now() % 1_000_000_000);
    let client = Client::new(&bootstrap).expect("a client");
    let named = |suffix: &str| format!("{run}-{suffix}");
    type Step<'a> = (&'a str, Box<dyn Fn() -> Outcome<String> + 'a>);
    let steps: [Step<'_>; 4] = [
        ("produce", Box::new(|| produce_and_consume(&client, &named("data")))),
        ("group", Box::new(|| group(&client, &named("shared"), &named("group")))),
        ("admin", Box::new(|| admin(&client, &named("admin"), &named("group")))),
        ("failures", Box::new(|| failures(&client, &named("failures"), &named("reader")))),
    ];
    let mut told = Vec::new();
    for (name, step) in steps {
        let started = Instant::now();
        match step() {
            Ok(seen) => told.push(format!("{name} {seen}")),
            Err(fault) => {
                println!("FAIL {name}: {fault}");
                std::process::exit(1);
            }
        }
        println!("step {name} {:.1} s", started.elapsed().as_secs_f64());
    }
    println!("ok {}", told.join("; "));
    std::process::exit(0);
}
