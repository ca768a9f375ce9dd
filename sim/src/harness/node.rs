//! A whole node and its clients, under every fault that one node can meet.
//!
//! ```text
//!  node 0            node 1                nodes 10..
//!  nemesis, finale   broker on a disk      producers, readers, group members, admins: each a machine of its own
//! ```
//!
//! Clients write down what they do and see; when all is quiet again the finale reads everything back and the checkers
//! judge the history. A client that dies leaves operations whose outcome nobody knows.

mod admin;
mod crowd;
mod defaults;
mod features;
mod finale;
mod full;
mod group;
mod machine;
mod memory;
mod produce;
mod quorum;
mod read;
mod replicas;
mod rude;
mod session;
mod settings;
mod telemetry;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use broker::Observer;
use client::{Client, ClientConfig, Versions};
use types::{Offset, Timestamp, TopicPartition};

use self::defaults::Retainer;
use crate::decisions::{Decisions, Kind};
use crate::disk::SimDisk;
use crate::exec::{Node, lock};
use crate::fault::FaultKind;
use crate::harness::Stage;
use crate::harness::values::{bytes_of, name_of, outcome_of, partition_of, value_of};
use crate::history::{Dated, Granted, History, Span};
use crate::net::ip_of;
use crate::scenario::LOG_DIRS_MAX;
use crate::world::SimEnv;

/// The node that serves.
const BROKER: Node = 1;
/// The first node of a client.
const CLIENTS: Node = 10;
/// Where the broker listens.
const PORT: u16 = 9092;

/// Its log directories, as many as the seed draws. The metadata lies in the first.
const LOG_DIRS: [&str; LOG_DIRS_MAX as usize] = ["/data", "/more", "/most"];

/// Segments that a topic with retention keeps of each partition.
const SEGMENTS_RETAINED: u64 = 20;

/// What a topic may store its batches in.
const CODECS: [&str; 5] = ["gzip", "snappy", "lz4", "zstd", "uncompressed"];

/// A topic that lives through the whole run.
#[derive(Clone, Debug)]
struct MainTopic {
    name: &'static str,
    partitions: i32,
    /// A power cut or disk error may take its tail back.
    fragile: bool,
    /// Retention may delete its head.
    retained: bool,
    /// Its records bear the broker's time of the append.
    dated: bool,
    /// What its batches are stored in; `None` keeps the producer's codec.
    codec: Option<&'static str>,
}

/// What all parts of the run share.
#[derive(Clone)]
struct Play {
    stage: Stage,
    shared: Arc<Shared>,
}

struct Shared {
    topics: Vec<MainTopic>,
    history: Mutex<History>,
    /// Groups of consumers by instance.
    groups: Mutex<BTreeMap<u32, Arc<str>>>,
    /// What each group member owns at present, by the member's number.
    seats: Mutex<BTreeMap<u32, Option<Granted>>>,
    /// Topics whose settings somebody began to change and was not answered.
    unsettled: Mutex<BTreeSet<String>>,
    /// What topics inherit from the broker.
    defaults: Mutex<defaults::Defaults>,
    /// Who says how much is kept of topics with retention.
    retainer: Retainer,
    counters: Mutex<Counters>,
    phase: tokio::sync::watch::Sender<Phase>,
    /// Partitions that were made while a device was dead.
    born: Mutex<Vec<TopicPartition>>,
    /// Newest epoch of the metadata quorum that was told of, and end of what is committed.
    quorum: Mutex<(i32, i64)>,
    /// Who tells how the broker stands, while its process lives.
    observer: Mutex<Weak<Observer<SimEnv>>>,
}

#[derive(Default)]
struct Counters {
    value: u64,
    instance: u32,
    turn: u32,
}

/// Which versions of requests a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Dialect {
    /// The newest of each.
    Newest,
    /// Some in a version of its own choice.
    Any,
    /// As `Any`, of those that can name a static member.
    Named,
}

/// What clients are to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Work.
    Work,
    /// Send no more; finish what is under way.
    Settle,
    /// Stop.
    Stop,
}

/// The scenario.
pub async fn play(stage: Stage) {
    let play = Play::new(stage.clone());
    stage.world.add_node(BROKER, "broker");
    stage.world.add_node(CLIENTS - 1, "judge");
    let disk = SimDisk::of_node(stage.world.decisions(), BROKER);
    disk.set_pace(Arc::new(stage.world.clock(BROKER)), stage.scenario.disk_latency);
    let mut machine = machine::Machine::new(&play, disk);
    machine.start();
    if play.prepare().await {
        stage.network.set_rates(stage.scenario.net.clone());
        play.employ();
        machine.trouble().await;
        machine.calm().await;
        play.finale().await;
        machine.judge_retention();
        machine.judge_sizes().await;
    }
    machine.retire();
}

impl Play {
    fn new(stage: Stage) -> Play {
        let fragile = stage.scenario.page_cache > 0 && stage.scenario.page_cache <= 1000;
        let dice = stage.dice(CLIENTS - 1);
        let topic = |name, partitions, fragile, retained| MainTopic {
            name,
            partitions,
            fragile,
            retained,
            dated: dice.choose(Kind::Operation, 2) == 1,
            codec: match dice.choose(Kind::Operation, 10) as usize {
                drawn @ 0..5 => Some(CODECS[drawn]),
                _ => None,
            },
        };
        let topics = vec![
            topic("alpha", 3, false, false),
            topic("beta", 1, fragile, false),
            topic("gamma", 2, false, true),
        ];
        let shared = Shared {
            topics,
            history: Mutex::default(),
            groups: Mutex::default(),
            seats: Mutex::default(),
            unsettled: Mutex::default(),
            defaults: Mutex::default(),
            retainer: Retainer::any(&dice),
            counters: Mutex::default(),
            phase: tokio::sync::watch::channel(Phase::Work).0,
            born: Mutex::default(),
            quorum: Mutex::default(),
            observer: Mutex::default(),
        };
        Play { stage, shared: Arc::new(shared) }
    }

    fn history<T>(&self, act: impl FnOnce(&mut History) -> T) -> T {
        act(&mut lock(&self.shared.history))
    }

    /// The next unique value, of a record whose value is filled up with `filling` bytes more ([`value_of`]).
    fn next_value(&self, filling: u16) -> u64 {
        let mut counters = lock(&self.shared.counters);
        counters.value += 1;
        counters.value << 16 | u64::from(filling)
    }

    /// A number for a new producer or consumer.
    fn next_instance(&self) -> u32 {
        let mut counters = lock(&self.shared.counters);
        counters.instance += 1;
        counters.instance
    }

    /// A number for a new turn of a consumer.
    fn next_turn(&self) -> u32 {
        let mut counters = lock(&self.shared.counters);
        counters.turn += 1;
        counters.turn
    }

    /// The log directories of the broker.
    fn log_dirs(&self) -> &'static [&'static str] {
        &LOG_DIRS[..self.stage.scenario.log_dirs as usize]
    }

    fn phase(&self) -> Phase {
        *self.shared.phase.borrow()
    }

    fn now(&self) -> u64 {
        self.stage.world.now_nanos()
    }

    fn span(&self, from: u64) -> Span {
        Span { from, to: self.now() }
    }

    /// Whether the run's faults may take back the tail of a fragile topic.
    fn loses_fragile(&self) -> bool {
        let scenario = &self.stage.scenario;
        let errors = [
            FaultKind::PowerCut,
            FaultKind::ErrorOnce,
            FaultKind::ErrorSticky,
            FaultKind::FailedSync,
            FaultKind::NoSpace,
            FaultKind::HangingSync,
        ];
        errors.iter().any(|kind| scenario.has(*kind))
    }

    /// Whether losing the tail of this partition is excused.
    fn is_excused(&self, partition: &str) -> bool {
        let fragile = |topic: &MainTopic| {
            topic.fragile && partition.rsplit_once('-').is_some_and(|(name, _)| name == topic.name)
        };
        self.stage.scenario.is_beyond_promise()
            || (self.loses_fragile() && self.shared.topics.iter().any(fragile))
    }

    /// Writes down what time a record has, if it is for the broker to date it.
    fn dated(
        &self,
        partition: &TopicPartition,
        offset: Offset,
        time: Option<Timestamp>,
        how: &'static str,
    ) {
        let topic = self.shared.topics.iter().find(|topic| topic.name == partition.topic.as_str());
        if topic.is_some_and(|topic| topic.dated) {
            let time = time.map(|time| time.0);
            let dated = Dated { partition: name_of(partition), offset: offset.0, time, how };
            self.history(|history| history.dated.push(dated));
        }
    }

    /// Every partition of the topics that live through the run.
    fn partitions(&self) -> Vec<TopicPartition> {
        let mut all = Vec::new();
        for topic in &self.shared.topics {
            all.extend((0..topic.partitions).map(|index| partition_of(topic.name, index)));
        }
        all
    }

    /// The same, and those that were made beside a dead device.
    fn all_partitions(&self) -> Vec<TopicPartition> {
        let mut all = self.partitions();
        all.extend(lock(&self.shared.born).iter().cloned());
        all
    }

    /// A client on a node of its own, with settings and request versions of its own.
    fn client(&self, node: Node, dice: &Decisions, dialect: Dialect) -> Client<SimEnv> {
        let disk = SimDisk::of_node(self.stage.world.decisions(), node);
        let env = SimEnv::new(&self.stage.world, &self.stage.network, &disk, node);
        let seconds =
            |low, high| Duration::from_millis(1000 * dice.between(Kind::Operation, low, high));
        let address = SocketAddr::new(ip_of(BROKER), PORT);
        let scaled = !self.stage.scenario.production;
        let config = ClientConfig {
            bootstrap: vec![address.to_string()],
            client_id: format!("client-{node}"),
            request_timeout: if scaled { seconds(2, 5) } else { Duration::from_secs(30) },
            connect_timeout: if scaled { seconds(1, 3) } else { Duration::from_secs(10) },
            operation_timeout: if scaled { seconds(5, 15) } else { Duration::from_secs(60) },
            retry_backoff: Duration::from_millis(50),
            metadata_age_max: seconds(5, 300),
            auto_create_topics: false,
            pinned: pinned(dice, dialect),
            ..ClientConfig::default()
        };
        Client::new(env, config)
    }

    /// Creates the topics that live through the run.
    async fn prepare(&self) -> bool {
        let dice = self.stage.dice(CLIENTS - 1);
        let client = self.client(CLIENTS - 1, &dice, Dialect::Newest);
        let admin = client::Admin::new(&client);
        for topic in &self.shared.topics {
            let mut new = client::admin::NewTopic::new(topic.name);
            new.partitions = Some(topic.partitions);
            let segment = self.stage.scenario.segment_bytes.to_string();
            if !self.stage.scenario.production {
                new.configs.insert("internal.segment.bytes".into(), segment);
            }
            if topic.fragile {
                new.configs.insert("durability".into(), "page-cache".into());
            }
            if let Some(codec) = topic.codec {
                new.configs.insert("compression.type".into(), codec.into());
            }
            if topic.dated {
                new.configs.insert("message.timestamp.type".into(), "LogAppendTime".into());
            }
            match (topic.retained, self.shared.retainer) {
                (true, Retainer::Topic) => {
                    let bytes = SEGMENTS_RETAINED * u64::from(self.stage.scenario.segment_bytes);
                    new.configs.insert("retention.bytes".into(), bytes.to_string());
                }
                // What a topic says itself counts, whatever it would inherit.
                (false, Retainer::Level(_)) => {
                    new.configs.insert("retention.bytes".into(), "-1".to_owned());
                }
                _ => {}
            }
            let mut left = 20;
            loop {
                let result = admin.create_topics(std::slice::from_ref(&new), false).await;
                let created = match &result {
                    Ok(results) => results.values().all(|result| match result {
                        Ok(_) => true,
                        Err(error) => {
                            error.error_code() == Some(types::ErrorCode::TopicAlreadyExists)
                        }
                    }),
                    Err(_) => false,
                };
                if created {
                    break;
                }
                left -= 1;
                if left == 0 {
                    let text = format!("topic {} cannot be created: {result:?}", topic.name);
                    self.stage.world.violation("L4", text);
                    return false;
                }
                self.stage.world.sleep(Duration::from_millis(500)).await;
            }
        }
        self.limit_by_default(&client, &dice).await && self.subscribe(&client, &dice).await
    }

    /// Puts the clients to work, each on a machine of its own that may die and come back.
    fn employ(&self) {
        let roles: [(&'static str, u32); 8] = [
            ("producer", 3),
            ("reader", 2),
            ("member", group::MEMBERS),
            ("admin", 1),
            ("churner", 1),
            ("rude producer", 1),
            ("rude member", 1),
            ("crowd", 1),
        ];
        let mut node = CLIENTS;
        for (role, count) in roles {
            for number in 0..count {
                self.stage.world.add_node(node, role);
                let play = self.clone();
                self.stage.spawn(0, "employer", async move {
                    play.keep_employed(node, role, number).await
                });
                node += 1;
            }
        }
    }

    /// Starts a client again whenever it has died.
    async fn keep_employed(&self, node: Node, role: &'static str, number: u32) {
        let dice = self.stage.dice(node);
        // When all is quiet every member is there: a group has somebody to become stable with (L7).
        let is_wanted = |phase| match role {
            "member" => phase != Phase::Stop,
            _ => phase == Phase::Work,
        };
        while is_wanted(self.phase()) {
            let play = self.clone();
            let (done, ended) = tokio::sync::oneshot::channel();
            let life = dice.clone();
            self.stage.spawn(node, role, async move {
                match role {
                    "producer" => play.produce(node, number, &life).await,
                    "reader" => play.read(node, &life).await,
                    "member" => play.join(node, number, &life).await,
                    "admin" => play.administer(node, &life).await,
                    "rude producer" => play.produce_rudely(node, &life).await,
                    "crowd" => play.crowd(node, &life).await,
                    "rude member" => play.join_rudely(node, &life).await,
                    _ => play.churn(node, &life).await,
                }
                _ = done.send(());
            });
            if ended.await.is_err() {
                self.stage.world.mark("client died");
                self.stage
                    .world
                    .sleep(Duration::from_millis(dice.choose(Kind::Delay, 3_000)))
                    .await;
                self.stage.world.revive(node);
            }
        }
    }
}

/// Chooses versions of requests.
fn pinned(dice: &Decisions, dialect: Dialect) -> Versions {
    let mut versions = Versions::new();
    if dialect == Dialect::Newest {
        return versions;
    }
    for key in [0i16, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 18, 19, 20, 22] {
        let Some(api) = wire::ApiKey::from_i16(key) else { continue };
        let (first, last) = api.stable_versions();
        // Older ones cannot say `group.instance.id`: to ask for them is an error of the program, and for good.
        let first = match (dialect, api) {
            (Dialect::Named, wire::ApiKey::JoinGroup) => 5,
            (Dialect::Named, wire::ApiKey::SyncGroup | wire::ApiKey::Heartbeat) => 3,
            (Dialect::Named, wire::ApiKey::OffsetCommit) => 7,
            _ => first,
        };
        if dice.choose(Kind::Operation, 2) == 1 {
            let version = dice.between(Kind::Operation, first as u64, last as u64);
            versions.insert(key, version as i16);
        }
    }
    versions
}
