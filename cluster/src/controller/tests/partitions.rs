//! Partitions whose brokers come, go and lag: commands for the stories, and a model that knows who holds what.

use std::collections::BTreeMap;

use proptest::prelude::*;
use types::{BrokerEpoch, BrokerId, DirectoryId, PartitionIndex, TopicId};

use super::super::{AlterPartition, AssignReplica, ElectLeaders, Reassign};
use super::{Teller, brokers, numbered, option};
use crate::metadata::PartitionInfo;

/// What a story shows of a partition only where there is something to show.
pub(super) fn rest(partition: &PartitionInfo) -> String {
    let mut text = String::new();
    let lists = [
        ("elr", &partition.elr),
        ("last", &partition.last_known_elr),
        ("adding", &partition.adding),
        ("removing", &partition.removing),
    ];
    for (name, ids) in lists.into_iter().filter(|(_, ids)| !ids.is_empty()) {
        text += &format!(" {name} {:?}", ids.iter().map(|id| id.0).collect::<Vec<_>>());
    }
    if partition.is_recovering {
        text += " recovering";
    }
    text
}

fn named(word: &str) -> (&str, PartitionIndex) {
    let (topic, index) = word.rsplit_once('-').unwrap();
    (topic, PartitionIndex(index.parse().unwrap()))
}

impl Teller {
    pub(super) fn partition(&mut self, verb: &str, words: &[&str]) {
        let broker = || BrokerId(words[0].parse().unwrap());
        match verb {
            "fence" => {
                let epoch = self.epoch(broker(), words);
                self.take(self.controller.fence_brokers(&[(broker(), epoch)]), false);
            }
            "unfence" => {
                let epoch = self.epoch(broker(), words);
                self.settle("broker", self.controller.unfence_broker(broker(), epoch));
            }
            "stop" => {
                let epoch = self.epoch(broker(), words);
                self.settle("broker", self.controller.stop_broker(broker(), epoch));
                let text = if self.controller.may_stop(broker()) { "may stop" } else { "leads" };
                self.say("broker", Ok(text));
            }
            "place" => {
                let (topic, index) = named(words[1]);
                let topic = self.controller.image().topic(topic);
                let topic = topic.map_or(TopicId(numbered(99)), |topic| topic.id);
                let directory = DirectoryId(numbered(words[2].parse().unwrap()));
                let places = [AssignReplica { topic, index, directory }];
                let epoch = self.epoch(broker(), words);
                let (records, answer) = self.controller.assign_replicas(broker(), epoch, &places);
                let answer = answer.and_then(|answers| answers[0].clone());
                self.say(words[1], answer.map(|()| "placed"));
                self.take(records, false);
            }
            "isr" => self.isr(words),
            "elect" => {
                let (topic, index) = named(words[1]);
                let asked = ElectLeaders { topic: topic.into(), index };
                let is_unclean = words[0] == "unclean";
                let (records, answers) = self.controller.elect_leaders(&[asked], is_unclean);
                self.say(words[1], answers[0].clone().map(|()| "elected"));
                self.take(records, false);
            }
            "move" | "stay" => {
                let (topic, index) = named(words[0]);
                let replicas = (verb == "move").then(|| brokers(words[1]));
                let asked = Reassign { topic: topic.into(), index, replicas };
                let may_resize = words.contains(&"resize");
                let (records, answers) = self.controller.reassign(&[asked], may_resize);
                self.say(words[0], answers[0].clone().map(|()| "moves"));
                self.take(records, false);
            }
            _ => panic!("no command {verb}"),
        }
    }

    fn isr(&mut self, words: &[&str]) {
        let (name, index) = named(words[0]);
        let image = self.controller.image().clone();
        let topic = image.topic(name).unwrap();
        let partition = &topic.partitions[&index];
        let by = option(words, "by").map(|id| BrokerId(id.parse().unwrap()));
        let by = by.or(partition.leader).unwrap();
        let known = |id: BrokerId| image.broker(id).map_or(BrokerEpoch(0), |broker| broker.epoch);
        let age = if words.contains(&"stale") { 1 } else { 0 };
        let isr = brokers(words[1]).into_iter().map(|id| (id, BrokerEpoch(known(id).0 - age)));
        let mut wish = AlterPartition {
            topic: topic.id,
            index,
            leader_epoch: partition.leader_epoch,
            epoch: partition.epoch,
            isr: isr.collect(),
            is_recovering: words.contains(&"recovering"),
        };
        if let Some(epoch) = option(words, "epoch") {
            wish.leader_epoch.0 = epoch.parse().unwrap();
        }
        if let Some(version) = option(words, "version") {
            wish.epoch.0 = version.parse().unwrap();
        }
        let (records, answer) = self.controller.alter_partitions(by, known(by), &[wish]);
        let answer = answer.and_then(|answers| answers[0].clone());
        let text = answer.map(|partition| format!("{:?}", partition.isr));
        self.say(words[0], text.as_deref().map_err(Clone::clone));
        self.take(records, false);
    }
}

/// A partition with what each replica holds: records by number, in order.
struct Model {
    teller: Teller,
    logs: BTreeMap<BrokerId, Vec<u32>>,
    committed: Vec<u32>,
    records: u32,
    /// What the leader knows of its partition, and how many it wants in sync; it may lag.
    view: (PartitionInfo, usize),
    /// Whom it has asked to be in sync, and may be for all it knows.
    pending: Vec<BrokerId>,
    /// What it has asked for, on its way.
    asked: Option<(BrokerId, AlterPartition)>,
    /// What is wanted in sync now.
    min_isr: usize,
    /// A broker came back without what it had reported.
    is_lossy: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Fence(i32),
    Unfence(i32),
    Stop(i32),
    /// A broker comes back, with so many records less.
    Return {
        id: i32,
        lost: usize,
    },
    /// The directory of a replica fails, and is replaced by an empty one.
    Replace(i32),
    Append,
    Fetch(i32),
    Commit,
    /// The leader hears what the metadata tell of its partition.
    Learn,
    /// The leader asks for an in-sync set: those of four that the bits name, if they have caught up.
    Isr(u8),
    /// The controller hears of it.
    Hear,
    /// It hears of it when one of those in question has come back without what it had (I26).
    HearLate(i32),
    Prefer,
    Unclean,
    MinIsr(usize),
    DefaultMinIsr(usize),
    Move(Vec<i32>),
    Stay,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = 0..4i32;
    let step = prop_oneof![
        2 => id.clone().prop_map(Step::Fence),
        8 => id.clone().prop_map(Step::Unfence),
        2 => id.clone().prop_map(Step::Stop),
        2 => (id.clone(), 0..4usize).prop_map(|(id, lost)| Step::Return { id, lost }),
        1 => id.clone().prop_map(Step::Replace),
        6 => Just(Step::Append),
        12 => id.prop_map(Step::Fetch),
        8 => Just(Step::Commit),
        8 => Just(Step::Learn),
        12 => (0..16u8).prop_map(Step::Isr),
        12 => Just(Step::Hear),
        2 => (0..4i32).prop_map(Step::HearLate),
        2 => Just(Step::Prefer),
        1 => Just(Step::Unclean),
        2 => (1..4usize).prop_map(Step::MinIsr),
        1 => (1..4usize).prop_map(Step::DefaultMinIsr),
        2 => prop::sample::subsequence(vec![0, 1, 2, 3], 2..4).prop_shuffle().prop_map(Step::Move),
        2 => Just(Step::Stay),
    ];
    prop::collection::vec(step, 1..80)
}

impl Model {
    fn new(has_own_min: bool) -> Model {
        let mut teller = Teller::new();
        for id in 0..4 {
            teller.run(&format!("broker {id} epoch={}", id + 1));
        }
        teller.run("alter broker: min.insync.replicas=2");
        let own = if has_own_min { " min.insync.replicas=2" } else { "" };
        teller.run(&format!("create t assign=0:0,1,2 durability=page-cache{own}"));
        let logs = (0..4).map(|id| (BrokerId(id), Vec::new())).collect();
        let view = (partition_of(&teller), 2);
        Model {
            teller,
            logs,
            committed: Vec::new(),
            records: 0,
            view,
            pending: Vec::new(),
            asked: None,
            min_isr: 2,
            is_lossy: false,
        }
    }

    fn partition(&self) -> PartitionInfo {
        partition_of(&self.teller)
    }

    fn epoch(&self, id: i32) -> i64 {
        self.teller.controller.image().broker(BrokerId(id)).unwrap().epoch.0
    }

    fn step(&mut self, step: &Step, has_own_min: bool) {
        let before = self.partition();
        match step {
            Step::Fence(id) => self.teller.run(&format!("fence {id}")),
            Step::Unfence(id) => self.teller.run(&format!("unfence {id}")),
            Step::Stop(id) => self.teller.run(&format!("stop {id}")),
            Step::Return { id, lost } => self.come_back(*id, *lost),
            Step::Replace(id) => {
                let (dirs, epoch) = (self.directories(*id), self.epoch(*id) + 100);
                let fresh = dirs.parse::<i64>().unwrap() + 1;
                self.logs.insert(BrokerId(*id), Vec::new());
                self.is_lossy = true;
                self.teller.run(&format!("broker {id} epoch={epoch} dirs={fresh} fenced unclean"));
                self.teller.run(&format!("place {id} t-0 {}", fresh + 1000 * i64::from(*id)));
            }
            Step::Append => {
                if let Some(leader) = before.leader {
                    self.records += 1;
                    self.logs.get_mut(&leader).unwrap().push(self.records);
                }
            }
            Step::Fetch(id) => {
                let id = BrokerId(*id);
                if let Some(leader) = before.leader.filter(|_| before.replicas.contains(&id)) {
                    let log = self.logs[&leader].clone();
                    self.logs.insert(id, log);
                }
            }
            Step::Commit => self.commit(&before),
            Step::Learn => self.learn(&before),
            Step::Isr(bits) => self.ask(&before, *bits),
            Step::Hear => self.hear(),
            Step::HearLate(id) => {
                self.ask(&before, 0b1111);
                self.come_back(*id, usize::MAX);
                self.teller.run(&format!("unfence {id}"));
                self.hear();
            }
            Step::Prefer => self.teller.run("elect preferred t-0"),
            Step::Unclean => self.teller.run("elect unclean t-0"),
            Step::MinIsr(wanted) if has_own_min => {
                self.teller.run(&format!("alter topic:t min.insync.replicas={wanted}"));
                self.min_isr = *wanted;
            }
            Step::DefaultMinIsr(wanted) => {
                self.teller.run(&format!("alter broker: min.insync.replicas={wanted}"));
                self.min_isr = if has_own_min { self.min_isr } else { *wanted };
            }
            Step::MinIsr(_) => {}
            Step::Move(ids) => {
                let ids: Vec<String> = ids.iter().map(i32::to_string).collect();
                self.teller.run(&format!("move t-0 {} resize", ids.join(",")));
            }
            Step::Stay => self.teller.run("stay t-0"),
        }
        let after = self.partition();
        let is_unclean = matches!(step, Step::Unclean) && after.leader_epoch != before.leader_epoch;
        if is_unclean && after.is_recovering {
            // What nobody has any more is given up, as the operator wanted.
            let log = &self.logs[&after.leader.unwrap()];
            let kept = self.committed.iter().zip(log).take_while(|(own, other)| own == other);
            self.committed.truncate(kept.count());
        }
        if after.leader_epoch != before.leader_epoch {
            self.learn(&after);
        }
        self.check(&before, step);
    }

    /// A broker registers again, with so many records less.
    fn come_back(&mut self, id: i32, lost: usize) {
        let log = self.logs.get_mut(&BrokerId(id)).unwrap();
        log.truncate(log.len().saturating_sub(lost));
        self.is_lossy |= lost > 0;
        let told = if lost > 0 { "unclean lost" } else { "unclean" };
        let (dirs, epoch) = (self.directories(id), self.epoch(id) + 100);
        self.teller.run(&format!("broker {id} epoch={epoch} dirs={dirs} fenced {told}"));
    }

    /// The directory of a broker, by its number within it.
    fn directories(&self, id: i32) -> String {
        let known = self.teller.controller.image().broker(BrokerId(id)).unwrap();
        let number = u128::from_be_bytes(known.directories[0].0.0) - 1000 * id as u128;
        number.to_string()
    }

    fn learn(&mut self, partition: &PartitionInfo) {
        self.view = (partition.clone(), self.min_isr);
        // What was asked of this very registration may still come true.
        if self.asked.as_ref().is_none_or(|(_, wish)| wish.epoch != partition.epoch) {
            self.pending.clear();
        }
    }

    /// A leader commits what all hold that are in sync, or may be for all it knows, if they are enough (I21).
    fn commit(&mut self, partition: &PartitionInfo) {
        let (view, min_isr) = &self.view;
        let Some(leader) = partition.leader else { return };
        if view.isr.len() < *min_isr.min(&view.replicas.len()) {
            return;
        }
        let log = &self.logs[&leader];
        let shared = |id: &BrokerId| {
            log.iter().zip(&self.logs[id]).take_while(|(own, other)| own == other).count()
        };
        let end = view.isr.iter().chain(&self.pending).map(shared).min().unwrap();
        if end > self.committed.len() {
            self.committed = log[..end].to_vec();
        }
    }

    /// A leader takes in who has all it has (I26), and lets go of whom it likes.
    fn ask(&mut self, partition: &PartitionInfo, bits: u8) {
        let Some(leader) = partition.leader else { return };
        let view = &self.view.0;
        let may_join = |id: &BrokerId| view.isr.contains(id) || self.logs[id] == self.logs[&leader];
        let named = view.replicas.iter().filter(|id| bits >> id.0 & 1 == 1 || **id == leader);
        let isr: Vec<BrokerId> = named.copied().filter(|id| may_join(id)).collect();
        self.pending.extend(isr.iter().copied());
        let topic = self.teller.controller.image().topic("t").unwrap().id;
        let wish = AlterPartition {
            topic,
            index: PartitionIndex(0),
            leader_epoch: view.leader_epoch,
            epoch: view.epoch,
            isr: isr.into_iter().map(|id| (id, BrokerEpoch(self.epoch(id.0)))).collect(),
            is_recovering: false,
        };
        self.asked = Some((leader, wish));
    }

    fn hear(&mut self) {
        let Some((leader, wish)) = self.asked.take() else { return };
        let epoch = BrokerEpoch(self.epoch(leader.0));
        let (records, _) = self.teller.controller.alter_partitions(leader, epoch, &[wish]);
        self.teller.take(records, false);
    }

    fn check(&self, before: &PartitionInfo, step: &Step) {
        let after = self.partition();
        let image = self.teller.controller.image();
        let holds_all = |id: &BrokerId| self.logs[id].starts_with(&self.committed);
        for id in after.isr.iter().chain(&after.elr) {
            assert!(
                holds_all(id),
                "I20: {id} is in sync or eligible without everything committed, after {step:?}: {after:?}"
            );
        }
        for id in &after.isr {
            assert!(!image.broker(*id).unwrap().is_fenced, "I29: {id} is fenced, after {step:?}");
        }
        let min_isr = self.min_isr.min(after.replicas.len());
        assert!(after.isr.len() < min_isr || after.elr.is_empty(), "I29: {after:?}");
        assert!(
            before.is_recovering || !after.is_recovering || matches!(step, Step::Unclean),
            "I30: nobody asked for an unclean election"
        );
        if after.leader != before.leader || after.replicas != before.replicas {
            assert!(after.leader_epoch > before.leader_epoch, "I27: {after:?}");
        }
        assert!(after == *before || after.epoch > before.epoch, "I27: {after:?}");
        if let Step::Return { id, .. } = step
            && before.leader == Some(BrokerId(*id))
        {
            assert!(after.leader_epoch > before.leader_epoch, "I16: {after:?}");
        }
        if !before.adding.is_empty() && after.adding.is_empty() && matches!(step, Step::Hear) {
            let has_all = before.adding.iter().all(|id| after.isr.contains(id));
            assert!(has_all && after.isr.len() >= min_isr, "I34: {after:?}");
        }
        let are_known = [&before.isr[..], &before.elr, &before.last_known_elr].concat();
        let mut forgotten = are_known.iter().filter(|id| {
            let lists = [&after.isr, &after.elr, &after.last_known_elr];
            after.replicas.contains(id) && !lists.iter().any(|list| list.contains(id))
        });
        assert!(after.isr.len() >= min_isr || forgotten.next().is_none(), "I28: {after:?}");
        // Who holds everything is not forgotten, as far as it is known; and who could lead does.
        let known = after.isr.iter().chain(&after.elr).chain(&after.last_known_elr);
        let held = after.replicas.iter().any(holds_all);
        assert!(
            self.is_lossy || !held || known.clone().any(holds_all),
            "nobody known holds everything, after {step:?}: {after:?}"
        );
        let is_there = |id: &BrokerId| {
            let broker = image.broker(*id).unwrap();
            !broker.is_fenced
                && after.directory_of(*id).is_none_or(|own| {
                    own == DirectoryId::default() || broker.directories.contains(&own)
                })
        };
        let electable = after.isr.iter().chain(&after.elr).find(|id| is_there(id));
        assert!(
            after.leader.is_some() || electable.is_none(),
            "L2: {electable:?} could lead, after {step:?}: {after:?}"
        );
    }
}

fn partition_of(teller: &Teller) -> PartitionInfo {
    teller.controller.image().topic("t").unwrap().partitions[&PartitionIndex(0)].clone()
}

fn config() -> ProptestConfig {
    let sound = ProptestConfig { cases: 1000, ..ProptestConfig::default() };
    match cfg!(feature = "mutants") {
        // What a planted bug breaks is nothing to remember.
        true => ProptestConfig { failure_persistence: None, ..sound },
        false => sound,
    }
}

proptest! {
    #![proptest_config(config())]

    /// Whatever brokers and operators do, who may be elected holds everything that is committed.
    #[test]
    fn who_may_be_elected_holds_what_is_committed(steps in steps(), has_own_min: bool) {
        let mut model = Model::new(has_own_min);
        for step in &steps {
            model.step(step, has_own_min);
        }
    }
}
