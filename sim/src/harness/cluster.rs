//! Several nodes that decide together, under every fault that befalls machines and the network between them.
//!
//! ```text
//!  node 0            nodes 1..=7                 nodes 10..
//!  nemesis, finale   brokers, voters, or both    administrators, producers, readers, members of a group
//! ```
//!
//! A judge looks at what each living process believes: who leads the metadata quorum, what is committed, and the metadata
//! that it serves by. When all is quiet again, what was answered must be so, on every node.

mod admin;
mod elections;
mod groups;
mod machine;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use broker::Observer;
use cluster::metadata::Image;
use types::{LeaderEpoch, NodeId, Offset, QuorumEpoch};

use crate::checker::require;
use crate::exec::{Node, lock};
use crate::harness::Stage;
use crate::history::{History, Outcome};
use crate::world::SimEnv;

/// The first node that serves; the others follow.
const FIRST: Node = 1;
/// The first node of a client.
const CLIENTS: Node = 10;
/// How many there are: administrators, producers, readers and members of a group, in this order.
const CLIENTS_COUNT: u32 = ADMINS_COUNT + PRODUCERS_COUNT + READERS_COUNT + 2;
const ADMINS_COUNT: u32 = 3;
const PRODUCERS_COUNT: u32 = 2;
const READERS_COUNT: u32 = 2;
/// Racks in which nodes and readers stand.
const RACKS_COUNT: u32 = 2;
/// Where clients and where controllers call.
const PORT: u16 = 9092;
const CONTROLLER_PORT: u16 = 9093;
/// How often the judge looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How soon after the last fault everybody knows a leader and the same metadata, and serves (L1, L2): a session and elections.
const SETTLES: Duration = Duration::from_secs(30);

/// What all parts of the run share.
#[derive(Clone)]
struct Play {
    stage: Stage,
    nodes: Arc<Vec<Node>>,
    /// Those that hold partitions.
    brokers: Arc<Vec<Node>>,
    /// Those that decide.
    voters: Arc<Vec<Node>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Who tells how a node stands, while its process lives.
    observers: Mutex<BTreeMap<Node, Weak<Observer<SimEnv>>>>,
    /// What the judge has seen.
    seen: Mutex<Seen>,
    /// Topics that were asked for or to be deleted, by name.
    topics: Mutex<BTreeMap<String, Topic>>,
    /// Producer ids that were told.
    producers: Mutex<Vec<i64>>,
    /// Told whenever a change is answered.
    answered: tokio::sync::Notify,
    stops: Mutex<bool>,
    names: Mutex<u32>,
    /// How often the disk was replaced that holds a node's partitions.
    disks: Mutex<BTreeMap<Node, u32>>,
    /// What producers and readers did and saw.
    history: Mutex<History>,
    /// Terms of the topic that does not sync that began without anybody known to hold everything.
    recovered: Mutex<BTreeSet<LeaderEpoch>>,
    /// The last number that was given to a producer, a reader, or a value.
    numbers: Mutex<u32>,
}

/// What a topic has been through.
#[derive(Clone, Debug, Default)]
struct Topic {
    created: Option<Outcome<()>>,
    deleted: Option<Outcome<()>>,
    /// The last value of a setting that was answered, and one that may be in force since.
    setting: Option<u64>,
    unsettled: Option<u64>,
}

/// What every process has to agree with.
#[derive(Default)]
struct Seen {
    /// Who led each epoch.
    leaders: BTreeMap<QuorumEpoch, NodeId>,
    /// The metadata at each offset.
    images: BTreeMap<Offset, Arc<Image>>,
    /// Epoch, what is committed, and what is served, in each living process.
    processes: BTreeMap<Node, (QuorumEpoch, Offset, Offset)>,
}

/// The scenario.
pub async fn play(stage: Stage) {
    let (mut brokers, controllers) = (stage.scenario.nodes, stage.scenario.controllers);
    if stage.scenario.moves {
        // There is somewhere to move to.
        brokers = brokers.max(records::REPLICAS as u32 + 1);
    }
    let range = |from: Node, count: u32| Arc::new((from..from + count).collect::<Vec<Node>>());
    let brokers = range(FIRST, brokers);
    let nodes = range(FIRST, brokers.len() as u32 + controllers);
    let voters = match controllers {
        0 => nodes.clone(),
        several => range(FIRST + brokers.len() as u32, several),
    };
    if controllers > 0 {
        stage.world.mark("separate roles");
    }
    let shared = Arc::default();
    let play = Play { stage: stage.clone(), nodes, brokers, voters, shared };
    let mut machines = machine::Machines::new(&play);
    stage.world.add_node(CLIENTS - 1, "judge");
    machines.start();
    let judge = play.clone();
    stage.spawn(0, "judge", async move { judge.watch().await });
    if play.settled("at the start").await && play.prepare().await {
        stage.network.set_rates(stage.scenario.net.clone());
        play.employ();
        machines.trouble().await;
        machines.calm().await;
        *lock(&play.shared.stops) = true;
        if play.settled("after the last fault").await {
            play.finale().await;
            play.judge_records().await;
        }
    }
    machines.retire();
}

impl Play {
    /// Where a node or a reader stands, if that matters.
    fn rack_of(&self, number: u32) -> Option<String> {
        self.stage.scenario.reads_nearby.then(|| format!("rack-{}", number % RACKS_COUNT))
    }

    /// Completes when every node serves by the same metadata, in which all are there, and knows who leads.
    async fn settled(&self, when: &str) -> bool {
        let until = self.stage.world.elapsed() + SETTLES;
        loop {
            let standing: Vec<_> = self.nodes.iter().map(|node| self.standing(*node)).collect();
            let first = standing.first().cloned().flatten();
            let agrees = first.as_ref().is_some_and(|first| {
                let all_there =
                    first.serving == self.brokers.len() && first.voters == self.voters.len();
                all_there
                    && first.leader.is_some()
                    && standing.iter().all(|s| s.as_ref() == Some(first))
            });
            if agrees {
                return true;
            }
            if self.stage.world.violated().is_some() {
                return false;
            }
            if self.stage.world.elapsed() > until {
                let text = format!("{when}, in {SETTLES:?}, the nodes do not agree: {standing:?}");
                self.stage.world.violation("L1", text);
                return false;
            }
            self.stage.world.sleep(Duration::from_millis(100)).await;
        }
    }

    fn standing(&self, node: Node) -> Option<Standing> {
        let observer = self.observer(node)?;
        let (quorum, view) = (observer.quorum(), observer.view());
        Some(Standing {
            leader: quorum.leader,
            epoch: quorum.epoch,
            offset: view.offset,
            serving: view.image.brokers().filter(|broker| !broker.is_fenced).count(),
            voters: quorum.voters.0.len(),
        })
    }

    fn observer(&self, node: Node) -> Option<Arc<Observer<SimEnv>>> {
        lock(&self.shared.observers).get(&node)?.upgrade()
    }

    /// Looks at every process, again and again.
    async fn watch(&self) {
        while self.stage.world.violated().is_none() {
            for node in self.nodes.iter() {
                self.look_at(*node);
            }
            self.stage.world.sleep(LOOK_INTERVAL).await;
        }
    }

    fn look_at(&self, node: Node) {
        let mut seen = lock(&self.shared.seen);
        let Some(observer) = self.observer(node) else {
            seen.processes.remove(&node);
            return;
        };
        let (quorum, view) = (observer.quorum(), observer.view());
        let now = (quorum.epoch, quorum.high_watermark, view.offset);
        let before = seen.processes.insert(node, now).unwrap_or(now);
        let verdict = require("I37", now.0 >= before.0, || {
            format!("node {node} goes back from epoch {} to {}", before.0, now.0)
        })
        .and_then(|()| {
            require("I46", now.1 >= before.1 && now.2 >= before.2, || {
                format!(
                    "node {node} knew {} committed and {} applied, and now {} and {}",
                    before.1, before.2, now.1, now.2
                )
            })
        });
        self.stage.judge(verdict);
        if let Some(leader) = quorum.leader {
            let known = *seen.leaders.entry(quorum.epoch).or_insert(leader);
            self.stage.judge(require("I37", known == leader, || {
                format!("epoch {} is led by {known}, and by {leader} for node {node}", quorum.epoch)
            }));
        }
        if view.offset >= Offset::ZERO {
            let known = seen.images.entry(view.offset).or_insert_with(|| view.image.clone());
            let is_same = **known == *view.image;
            self.stage.judge(require("I38", is_same, || {
                format!(
                    "at offset {} node {node} has {:?}, and another {known:?}",
                    view.offset, view.image
                )
            }));
        }
    }

    /// Everybody has what was answered, and nobody what was answered to be gone.
    async fn finale(&self) {
        self.stage.world.mark("cluster finale reached");
        let topics = lock(&self.shared.topics).clone();
        for node in self.nodes.iter() {
            let Some(observer) = self.observer(*node) else { continue };
            let image = observer.view().image.clone();
            for (name, topic) in &topics {
                let is_there = image.topic(name).is_some();
                let may_be = match (&topic.created, &topic.deleted) {
                    (Some(Outcome::Ok(())), None) => is_there,
                    (_, Some(Outcome::Ok(()))) => !is_there,
                    (Some(Outcome::Failed) | None, None) => !is_there,
                    _ => true,
                };
                self.stage.judge(require("I41", may_be, || {
                    format!("on node {node} topic {name} is there: {is_there}; it was {topic:?}")
                }));
                let resource = cluster::metadata::Resource::topic(name.as_str());
                let config = image.config(&resource);
                let set = config.get("retention.ms").and_then(|value| value.parse::<u64>().ok());
                let is_right =
                    !is_there || set == topic.setting || (set.is_some() && set == topic.unsettled);
                self.stage.judge(require("I41", is_right, || {
                    format!("on node {node} topic {name} has {set:?}, and was {topic:?}")
                }));
            }
        }
        let mut producers = lock(&self.shared.producers).clone();
        producers.sort_unstable();
        let twice = producers.windows(2).find(|pair| pair[0] == pair[1]);
        self.stage.judge(require("I45", twice.is_none(), || format!("told twice: {twice:?}")));
    }
}

/// What a node believes.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Standing {
    leader: Option<NodeId>,
    epoch: QuorumEpoch,
    offset: Offset,
    /// Brokers that may lead.
    serving: usize,
    /// Nodes that decide.
    voters: usize,
}
