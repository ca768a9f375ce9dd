//! Stories in `testdata/controller_*.txt`: lines that begin with `>` are commands, the others what came of them. To write
//! the outcome anew run with `UPDATE_EXPECT=1`, and read the difference.
//!
//! ```text
//! > broker 0 epoch=5 rack=a dirs=1,2 unclean     registers
//! > create t partitions=3 factor=1 assign=0:0,1/1:1,0 retention.ms=5 ; u     several at once; `check` validates only
//! > delete t ; id:1                 by name, or by the number of the topic's id
//! > grow t 5 assign=0/0
//! > alter topic:t retention.ms=5 -flush.ms cleanup.policy+=compact ; broker: log.retention.ms=5
//! > set topic:t retention.ms=5      all values at once
//! > lose 1 1002                     a log directory of broker 1
//! > fence 1 | unfence 1 | stop 1      a broker goes, comes, wants to go; epoch= of another registration
//! > broker 1 epoch=9 fenced unclean lost    comes back after its machine has lost what was not synced
//! > place 1 t-0 1005             its replica lies in another directory
//! > isr t-0 by=0 1,2              the leader's in-sync set; epoch= version= when it is behind; stale: members registered before
//! > elect preferred t-0 | elect unclean t-0
//! > move t-0 3,4 resize | stay t-0  reassigns, takes back
//! > register 1 epoch=9 process=7      registers if no other process of that id is heard of; again, if it is the same
//! > beat 1 has=10 end=12 fence stop failed=1001     a heartbeat, by default with its registration applied
//! > wait 9000ms | expire | refused 1 | controller 0 process=7     time, and a new controller, in broker 0 if it names one
//! > ask | tell 1 t-0 3:90 hw=95 | recover      how far logs reach, by the term of the last record and the end; `-:0` of an empty one
//! > file min.insync.replicas=2      what the controller's file says
//! > written broker:1 min.insync.replicas=2      records as an older release has written them, unjudged
//! > ids 0 5 | feature metadata.version 33 | bootstrap | show
//! ```
//!
//! Every decision is applied; validating only must give no records, and the same answer as doing.

mod balance;
mod model;
mod partitions;
mod sessions;

use std::fmt::Write;

use proptest::prelude::*;
use record::stored::metadata::{ConfigRecord, TopicRecord};
use types::{BrokerEpoch, BrokerId, DirectoryId, Instant, PartitionIndex, TopicId, Uuid};

use self::sessions::SESSION_TIMEOUT;
use super::*;
use crate::metadata::{BrokerListener, Resource, ResourceKind, record_version, snapshot};

#[test]
fn stories() {
    crate::stories::check("controller_", play);
}

/// Ids in the order of their making: number 1 is all zeros but for its last byte.
fn numbered(number: u128) -> Uuid {
    Uuid(number.to_be_bytes())
}

struct Teller {
    controller: Controller,
    sessions: Sessions,
    recovery: Recovery,
    now: Instant,
    ids: u128,
    out: String,
}

fn play(story: &str) -> String {
    let mut teller = Teller::new();
    for line in story.lines().filter(|line| line.starts_with(['>', '#']) || line.is_empty()) {
        let _ = writeln!(teller.out, "{line}");
        if let Some(command) = line.strip_prefix("> ") {
            teller.run(command);
        }
    }
    teller.out
}

impl Teller {
    fn new() -> Teller {
        #[cfg(feature = "mutants")]
        types::mutant::plant_from_environment();
        let controller = Controller::new(Image::empty(), Arc::default());
        let now = Instant::default();
        let sessions = Sessions::new(now, SESSION_TIMEOUT, None, controller.image());
        Teller {
            controller,
            sessions,
            recovery: Recovery::default(),
            now,
            ids: 0,
            out: String::new(),
        }
    }

    fn run(&mut self, command: &str) {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        let check_only = verb == "check";
        let (verb, rest) = if check_only { rest.split_once(' ').unwrap() } else { (verb, rest) };
        let parts: Vec<Vec<&str>> =
            rest.split(" ; ").map(|part| part.split_whitespace().collect()).collect();
        let words = &parts[0];
        match verb {
            "create" => {
                let topics: Vec<CreateTopic> = parts.iter().map(|part| create(part)).collect();
                let mut ids = self.ids;
                let mut new_id = || {
                    ids += 1;
                    numbered(ids)
                };
                let (records, answers) =
                    self.controller.create_topics(&topics, check_only, &mut new_id);
                if !check_only {
                    self.ids = ids;
                }
                for answer in answers {
                    let text = answer.result.map(|creation| {
                        let set: Vec<String> = creation
                            .configs
                            .iter()
                            .filter(|c| c.source == crate::config::Source::Topic)
                            .map(|c| format!("{}={}", c.key.name, c.value.clone().unwrap()))
                            .collect();
                        let (count, factor) =
                            (creation.partitions_count, creation.replication_factor);
                        format!("{count} partitions x {factor} {}", set.join(" "))
                    });
                    self.say(&answer.name, text.as_deref().map_err(Clone::clone));
                }
                self.take(records, check_only);
            }
            "delete" => {
                let topics: Vec<DeleteTopic> = parts
                    .iter()
                    .map(|part| match part.first().and_then(|word| word.strip_prefix("id:")) {
                        Some(id) => DeleteTopic {
                            name: part.get(1).map(|name| (*name).into()),
                            id: Some(TopicId(numbered(id.parse().unwrap()))),
                        },
                        None => DeleteTopic { name: part.first().map(|n| (*n).into()), id: None },
                    })
                    .collect();
                let (records, answers) = self.controller.delete_topics(&topics);
                for answer in answers {
                    let name = answer.name.as_deref().unwrap_or("(unknown)").to_owned();
                    self.say(&name, answer.result.map(|()| "gone"));
                }
                self.take(records, false);
            }
            "grow" => {
                let topics: Vec<GrowTopic> = parts
                    .iter()
                    .map(|part| GrowTopic {
                        name: part[0].into(),
                        partitions_count: part[1].parse().unwrap(),
                        assignments: option(part, "assign")
                            .map(|text| text.split('/').map(brokers).collect()),
                    })
                    .collect();
                let (records, answers) = self.controller.create_partitions(&topics, check_only);
                for (name, result) in answers {
                    self.say(&name, result.map(|()| "grown"));
                }
                self.take(records, check_only);
            }
            "alter" => {
                let requests: Vec<AlterConfigs> = parts
                    .iter()
                    .map(|part| AlterConfigs {
                        resource: resource(part[0]),
                        changes: part[1..].iter().map(|word| change(word)).collect(),
                    })
                    .collect();
                let (records, answers) =
                    self.controller.incremental_alter_configs(&requests, check_only);
                self.altered(answers);
                self.take(records, check_only);
            }
            "set" => {
                let requests: Vec<SetConfigs> = parts
                    .iter()
                    .map(|part| SetConfigs {
                        resource: resource(part[0]),
                        values: part[1..]
                            .iter()
                            .map(|word| match word.split_once('=') {
                                Some((name, value)) => (name.into(), Some(value.into())),
                                None => ((*word).into(), None),
                            })
                            .collect(),
                    })
                    .collect();
                let (records, answers) = self.controller.alter_configs(&requests, check_only);
                self.altered(answers);
                self.take(records, check_only);
            }
            "broker" => self.broker(words, false),
            "register" => self.broker(words, true),
            "lose" => {
                let number = |word: &str| word.parse::<u128>().unwrap();
                let id = BrokerId(words[0].parse().unwrap());
                let directory = DirectoryId(numbered(number(words[1])));
                let epoch = self.epoch(id, words);
                let result = self.controller.give_up_directories(id, epoch, &[directory]);
                self.settle("directory", result);
            }
            "leave" => {
                let id = BrokerId(words[0].parse().unwrap());
                let (records, result) = self.controller.unregister_broker(id);
                self.say("broker", result.map(|()| "gone"));
                self.take(records, false);
            }
            "ids" => {
                let broker = BrokerId(words[0].parse().unwrap());
                let epoch = BrokerEpoch(words[1].parse().unwrap());
                let (records, result) = self.controller.allocate_producer_ids(broker, epoch);
                let text = result.map(|block| format!("{} from {}", block.count, block.first));
                self.say("ids", text.as_deref().map_err(Clone::clone));
                self.take(records, false);
            }
            "feature" => {
                let change = FeatureChange {
                    name: words[0].into(),
                    level: words[1].parse().unwrap(),
                    is_downgrade: words.contains(&"downgrade"),
                };
                let (records, answers) = self.controller.update_features(&[change], check_only);
                for (name, result) in answers {
                    self.say(&name, result.map(|()| "set"));
                }
                self.take(records, check_only);
            }
            "bootstrap" => {
                let records = self.controller.bootstrap();
                self.take(records, false);
            }
            "file" => {
                let values = words.iter().map(|word| word.split_once('=').unwrap());
                self.controller.fixed =
                    Arc::new(values.map(|(name, value)| (name.into(), value.into())).collect());
            }
            "written" => {
                let Resource { kind, name: resource_name } = resource(words[0]);
                let changes = words[1..].iter().map(|word| change(word));
                let records = changes.map(|ConfigChange { name, value, .. }| {
                    let (resource_type, resource_name) = (kind as i8, resource_name.clone());
                    let record = ConfigRecord { resource_type, resource_name, name, value };
                    MetadataRecord::Config(record)
                });
                self.take(records.collect(), false);
            }
            "show" => self.show(),
            "wait" | "beat" | "refused" | "expire" | "controller" => self.session(verb, words),
            _ => self.partition(verb, words),
        }
    }

    fn broker(&mut self, words: &[&str], is_heard: bool) {
        let id: i32 = words[0].parse().unwrap();
        let directories = option(words, "dirs").unwrap_or("100");
        let listener = BrokerListener {
            name: "PLAINTEXT".into(),
            host: "localhost".into(),
            port: 9092,
            security_protocol: 0,
        };
        let epoch = BrokerEpoch(option(words, "epoch").unwrap_or("1").parse().unwrap());
        // Another process each time, unless the story says which.
        let process = option(words, "process").map_or(epoch.0 as u128, |p| p.parse().unwrap());
        let before = self.controller.image().broker(BrokerId(id)).map(|before| before.epoch);
        let stopped = option(words, "stopped").map(|epoch| BrokerEpoch(epoch.parse().unwrap()));
        let mut features = supported();
        if let Some(level) = option(words, "level") {
            features[0].level_max = level.parse().unwrap();
        }
        let request = RegisterBroker {
            id: BrokerId(id),
            incarnation: numbered(process),
            listeners: vec![listener],
            rack: option(words, "rack").map(Into::into),
            features,
            directories: directories
                .split(',')
                .filter(|number| !number.is_empty())
                .map(|number| number.parse::<i64>().unwrap() + 1000 * i64::from(id))
                .map(|number| DirectoryId(numbered(number as u128)))
                .collect(),
            stopped_epoch: stopped.or(before.filter(|_| !words.contains(&"unclean"))),
            may_have_lost_unsynced: words.contains(&"lost"),
            is_fenced: words.contains(&"fenced"),
        };
        let (records, result) = match is_heard {
            true => self.sessions.register(self.now, &self.controller, &request, epoch),
            false => self.controller.register_broker(&request, epoch),
        };
        let text = match result {
            Ok(told) if told != epoch => Ok(format!("registered as {told} before")),
            result => result.map(|_| "registered".to_owned()),
        };
        self.say("broker", text.as_deref().map_err(Clone::clone));
        self.take(records, false);
    }

    fn altered(&mut self, answers: Vec<(Resource, Result<(), Refusal>)>) {
        for (resource, result) in answers {
            let name = format!("{:?} {}", resource.kind, resource.name).to_lowercase();
            self.say(&name, result.map(|()| "altered"));
        }
    }

    fn say(&mut self, name: &str, result: Result<&str, Refusal>) {
        let name = if name.len() > 40 { "(long)" } else { name };
        let text = match result {
            Ok(text) => text.trim().to_owned(),
            Err(refusal) => refusal.to_string(),
        };
        let _ = writeln!(self.out, "{name}: {}", text.replace(&"x".repeat(250), "(long)"));
    }

    /// The registration that a line means: the present one, unless it names another.
    fn epoch(&self, id: BrokerId, words: &[&str]) -> BrokerEpoch {
        let known = self.controller.image().broker(id).map_or(BrokerEpoch(0), |known| known.epoch);
        option(words, "epoch").map_or(known, |epoch| BrokerEpoch(epoch.parse().unwrap()))
    }

    /// Takes in what was decided, or says why not.
    fn settle(&mut self, name: &str, result: Result<Vec<MetadataRecord>, Refusal>) {
        match result {
            Ok(records) => self.take(records, false),
            Err(refusal) => self.say(name, Err(refusal)),
        }
    }

    /// Takes records in, through their encoding.
    fn take(&mut self, records: Vec<MetadataRecord>, check_only: bool) {
        assert!(!check_only || records.is_empty(), "validating only changes nothing");
        let records: Vec<MetadataRecord> = records
            .iter()
            .map(|r| MetadataRecord::decode(r.encode(record_version(r)).unwrap()).unwrap())
            .collect();
        let delta = self.controller.apply(&records);
        let delta = delta.expect("the controller's own records make sense");
        self.recovery.on_change(self.controller.image(), &delta);
        let (loaded, _) = Image::empty().apply(&snapshot(self.controller.image())).unwrap();
        assert_eq!(&loaded, self.controller.image(), "I40");
        if !records.is_empty() {
            let _ = writeln!(self.out, "  {} records", records.len());
        }
    }

    fn show(&mut self) {
        let image = self.controller.image().clone();
        for broker in image.brokers() {
            let fenced = if broker.is_fenced { " fenced" } else { "" };
            let _ = writeln!(self.out, "  broker {} epoch {}{fenced}", broker.id, broker.epoch);
        }
        for topic in image.topics() {
            let id = u128::from_be_bytes(topic.id.0.0);
            let _ = writeln!(self.out, "  topic {} id {id}", topic.name);
            for (index, partition) in &topic.partitions {
                let numbers = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
                let _ = writeln!(
                    self.out,
                    "    {index}: replicas {:?} isr {:?} leader {} epochs {}/{} directory {}{}",
                    numbers(&partition.replicas),
                    numbers(&partition.isr),
                    partition.leader.map_or(-1, |leader| leader.0),
                    partition.leader_epoch,
                    partition.epoch,
                    partition.directories.first().map_or(0, |d| u128::from_be_bytes(d.0.0)),
                    partitions::rest(partition),
                );
            }
        }
        for (resource, values) in image.configured() {
            let values: Vec<String> = values.iter().map(|(n, v)| format!("{n}={v}")).collect();
            let _ = writeln!(
                self.out,
                "  {:?} '{}': {}",
                resource.kind,
                resource.name,
                values.join(" ")
            );
        }
        for (name, level) in image.features() {
            let _ = writeln!(self.out, "  feature {name} {level}");
        }
    }
}

fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn brokers(text: &str) -> Vec<BrokerId> {
    let ids = text.split(',').filter(|id| !id.is_empty());
    ids.map(|id| BrokerId(id.parse().unwrap())).collect()
}

fn create(words: &[&str]) -> CreateTopic {
    let mut topic = CreateTopic {
        name: match words[0] {
            "(empty)" => "".into(),
            "(long)" => "x".repeat(250).into(),
            name => name.replace('~', " ").into(),
        },
        partitions_count: -1,
        replication_factor: -1,
        ..CreateTopic::default()
    };
    for word in &words[1..] {
        match word.split_once('=') {
            Some(("partitions", count)) => topic.partitions_count = count.parse().unwrap(),
            Some(("factor", count)) => topic.replication_factor = count.parse().unwrap(),
            Some(("assign", text)) => {
                topic.assignments = text
                    .split('/')
                    .map(|part| {
                        let (index, replicas) = part.split_once(':').unwrap();
                        (PartitionIndex(index.parse().unwrap()), brokers(replicas))
                    })
                    .collect();
            }
            Some((name, value)) => topic.configs.push((name.into(), Some(value.into()))),
            None => topic.configs.push(((*word).into(), None)),
        }
    }
    topic
}

fn resource(word: &str) -> Resource {
    let (kind, name) = word.split_once(':').unwrap();
    let kind = match kind {
        "topic" => ResourceKind::Topic,
        "broker" => ResourceKind::Broker,
        "group" => ResourceKind::Group,
        _ => ResourceKind::ClientMetrics,
    };
    Resource { kind, name: name.replace('~', " ").into() }
}

fn change(word: &str) -> ConfigChange {
    let (name, op, value) = if let Some(name) = word.strip_prefix('-') {
        (name, ConfigOp::Delete, None)
    } else if let Some((name, value)) = word.split_once("+=") {
        (name, ConfigOp::Append, Some(value))
    } else if let Some((name, value)) = word.split_once("-=") {
        (name, ConfigOp::Subtract, Some(value))
    } else if let Some((name, value)) = word.split_once('=') {
        (name, ConfigOp::Set, Some(value))
    } else {
        (word, ConfigOp::Set, None)
    };
    let value = value.map(|value| value.replace("(long)", &"x".repeat(40_000)));
    ConfigChange { name: name.into(), op, value: value.map(Into::into) }
}

proptest! {
    /// Placement spreads: every partition has distinct replicas, and no broker leads two more than another.
    #[test]
    fn placement_is_even(count in 1i32..6, factor in 1i16..6, partitions in 1i32..40, racks in 1i32..4) {
        let mut teller = Teller::new();
        for id in 0..count {
            teller.run(&format!("broker {id} rack=r{}", id % racks));
        }
        let placed = teller.controller.place(0, partitions, factor);
        if i32::from(factor) > count {
            prop_assert!(placed.is_err());
            return Ok(());
        }
        let placed = placed.unwrap();
        prop_assert_eq!(placed.len(), partitions as usize);
        let mut leads = vec![0; count as usize];
        for replicas in &placed {
            let distinct: std::collections::BTreeSet<_> = replicas.iter().collect();
            prop_assert_eq!(distinct.len(), factor as usize);
            leads[replicas[0].0 as usize] += 1;
        }
        prop_assert!(leads.iter().max().unwrap() - leads.iter().min().unwrap() <= 1);
    }

    /// Whatever is asked, what the controller decides makes sense to every image, and validating decides the same.
    #[test]
    fn any_request_leads_to_a_sound_image(
        steps in prop::collection::vec(("[ab._]{1,2}", -2i32..4, -2i16..3, 0u8..4), 1..20),
    ) {
        let mut teller = Teller::new();
        teller.run("broker 0");
        for (name, partitions, factor, kind) in steps {
            match kind {
                0 | 1 => {
                    let command = format!("create {name} partitions={partitions} factor={factor}");
                    let at = teller.out.len();
                    teller.run(&format!("check {command}"));
                    let checked = teller.out[at..].to_owned();
                    let at = teller.out.len();
                    teller.run(&command);
                    prop_assert!(teller.out[at..].starts_with(&checked));
                }
                2 => teller.run(&format!("grow {name} {partitions}")),
                _ => teller.run(&format!("delete {name}")),
            }
        }
    }
}

/// Sketch: a directory of 20,000 topics must open in well under a second, so a replay may not copy maps per record.
#[test]
fn a_long_replay_is_linear() {
    let mut controller = Controller::new(Image::empty(), Arc::default());
    for number in 1..20_000u128 {
        let record = TopicRecord { name: format!("t{number}").into(), topic_id: numbered(number) };
        controller.apply(&[MetadataRecord::Topic(record)]).unwrap();
    }
    assert_eq!(controller.image().topics_count(), 19_999);
}
