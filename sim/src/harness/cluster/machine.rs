//! The nodes' machines, and what befalls them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use broker::{
    Audience, Broker, BrokerConfig, InitialVoter, ListenerConfig, ListenerProtocol, QuorumVoter,
    Roles, StartError,
};
use cluster::config::{BrokerSettings, NodeConfigs};
use cluster::metadata::PartitionInfo;
use env::{Disk, Env};
use record::Batches;
use types::{BrokerId, ClusterId, DirectoryId, NodeId, Uuid};

use super::{CLIENTS, CLIENTS_COUNT, CONTROLLER_PORT, PORT, Play};
use crate::decisions::{Decisions, Kind};
use crate::disk::{FaultRates, SimDisk};
use crate::exec::{Node, lock};
use crate::fault::FaultKind;
use crate::net::ip_of;
use crate::scenario::Beginning;
use crate::world::SimEnv;

/// Where the metadata are when the disk of the partitions may be replaced; else they are in the one log directory.
const METADATA_DIR: &str = "/meta";
/// How long a broker is awaited to be given up before its disk is replaced.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(10);

/// A page that was used so long ago may have to come from the medium again.
const PAGE_STAYS: Duration = Duration::from_secs(25);

/// Of the largest values there are, so many in a second, where that is limited: slow, and not too slow for the time in which
/// all must be in sync again.
const CATCH_UP_VALUES: u64 = 400;

/// All machines.
pub(super) struct Machines {
    play: Play,
    dice: Decisions,
    machines: BTreeMap<Node, Machine>,
    /// Whose bits rot, if anybody's do.
    rotten: Option<Node>,
}

struct Machine {
    disk: SimDisk,
    stop: Arc<tokio::sync::Notify>,
}

impl Machines {
    /// Machines that are off.
    pub(super) fn new(play: &Play) -> Machines {
        let stage = &play.stage;
        let mut machines = BTreeMap::new();
        for node in play.nodes.iter() {
            stage.world.add_node(*node, "node");
            let disk = SimDisk::of_node(stage.world.decisions(), *node);
            disk.set_pace(Arc::new(stage.world.clock(*node)), stage.scenario.disk_latency);
            machines.insert(*node, Machine { disk, stop: Arc::default() });
        }
        let mut machines =
            Machines { play: play.clone(), dice: stage.nemesis(), machines, rotten: None };
        machines.rotten = stage.scenario.one_rots.then(|| machines.some_of(&play.brokers));
        machines
    }

    /// Starts every process.
    pub(super) fn start(&mut self) {
        for node in self.play.nodes.clone().iter() {
            self.start_one(*node);
        }
    }

    fn start_one(&mut self, node: Node) {
        let stage = &self.play.stage;
        let machine = self.machines.get_mut(&node).expect("a machine of this cluster");
        machine.stop = Arc::default();
        let env = SimEnv::new(&stage.world, &stage.network, &machine.disk, node);
        let (play, stop) = (self.play.clone(), machine.stop.clone());
        stage.spawn(node, "process", async move { play.serve(node, env, stop).await });
    }

    /// Faults strike until their time is over.
    pub(super) async fn trouble(&mut self) {
        let stage = self.play.stage.clone();
        let end = stage.world.elapsed() + stage.scenario.fault_time;
        let slow = FaultRates { slow: stage.scenario.disk.slow, ..FaultRates::default() };
        for (node, machine) in &self.machines {
            machine.disk.set_rates(slow.clone());
            if stage.scenario.has(FaultKind::WallOffset) {
                let hours = self.dice.choose(Kind::Fault, 48) as i64 - 24;
                stage.world.step_wall(*node, hours * 3_600_000);
                stage.struck(FaultKind::WallOffset);
            }
        }
        while stage.world.elapsed() < end && stage.world.violated().is_none() {
            let mean = stage.scenario.blow_mean;
            let pause =
                Duration::from_nanos(self.dice.choose(Kind::Fault, 2 * mean.as_nanos() as u64 + 1));
            stage.world.sleep(pause.min(end.saturating_sub(stage.world.elapsed()))).await;
            // Whoever died at an I/O operation comes back.
            for node in self.play.nodes.clone().iter().filter(|node| !stage.world.is_alive(**node))
            {
                self.restart(&[*node], false).await;
            }
            self.blow().await;
        }
    }

    fn some_node(&self) -> Node {
        self.some_of(&self.play.nodes)
    }

    fn some_of(&self, nodes: &[Node]) -> Node {
        nodes[self.dice.choose(Kind::Fault, nodes.len() as u64) as usize]
    }

    fn some_machine(&self) -> Node {
        match self.dice.choose(Kind::Fault, 4) {
            0 => CLIENTS + self.dice.choose(Kind::Fault, u64::from(CLIENTS_COUNT)) as Node,
            _ => self.some_node(),
        }
    }

    /// One blow of a kind that is on.
    async fn blow(&mut self) {
        let stage = self.play.stage.clone();
        let kinds = [
            FaultKind::Crash,
            FaultKind::Crash,
            FaultKind::PowerCut,
            FaultKind::Pause,
            FaultKind::Partition,
            FaultKind::OneWay,
            FaultKind::Isolate,
            FaultKind::Clog,
            FaultKind::Reset,
            FaultKind::WallStep,
            FaultKind::Drift,
        ];
        let rots = self.rotten.map(|_| FaultKind::BitRot);
        let wipes = stage.scenario.disks_replaced.then_some(FaultKind::Wipe);
        let on = kinds.into_iter().filter(|kind| stage.scenario.has(*kind));
        let on: Vec<FaultKind> = on.chain(rots).chain(wipes).collect();
        let Some(kind) = on.get(self.dice.choose(Kind::Fault, on.len() as u64) as usize) else {
            return;
        };
        let while_short = Duration::from_millis(self.dice.choose(Kind::Fault, 6_000));
        let clients: Vec<Node> = (CLIENTS..CLIENTS + CLIENTS_COUNT).collect();
        let all: Vec<Node> =
            self.play.nodes.iter().copied().chain(clients.iter().copied()).collect();
        match kind {
            FaultKind::Crash => self.crash().await,
            FaultKind::BitRot => self.rot(),
            FaultKind::Wipe => self.replace_disk().await,
            FaultKind::PowerCut => {
                // All machines at once, some, or one of them.
                let all = self.play.nodes.to_vec();
                let nodes: Vec<Node> = match self.dice.choose(Kind::Fault, 3) {
                    0 => all,
                    1 => {
                        all.into_iter().filter(|_| self.dice.choose(Kind::Fault, 2) == 0).collect()
                    }
                    _ => vec![self.some_node()],
                };
                if self.dice.choose(Kind::Fault, 2) == 0 {
                    // Right after an answer, when what is not synced yet is what was promised.
                    tokio::select! {
                        biased;
                        () = self.play.shared.answered.notified() => {}
                        () = stage.world.sleep(Duration::from_secs(2)) => {}
                    }
                }
                self.restart(&nodes, true).await;
            }
            FaultKind::Pause => {
                let node = self.some_machine();
                stage.world.pause(node);
                stage.struck(FaultKind::Pause);
                stage.world.sleep(while_short * 2).await;
                stage.world.resume(node);
            }
            FaultKind::Partition => {
                let (left, right): (Vec<Node>, Vec<Node>) =
                    all.iter().partition(|_| self.dice.choose(Kind::Fault, 2) == 0);
                stage.network.partition(&left, &right, false);
                stage.world.sleep(while_short).await;
                stage.network.heal();
            }
            FaultKind::OneWay => {
                let (from, to) = (self.some_node(), self.some_machine());
                if from != to {
                    stage.network.partition(&[from], &[to], true);
                    stage.world.sleep(while_short).await;
                    stage.network.heal();
                }
            }
            FaultKind::Isolate => {
                let node = self.some_node();
                let others: Vec<Node> = all.into_iter().filter(|other| *other != node).collect();
                stage.network.partition(&[node], &others, false);
                stage.world.sleep(while_short).await;
                stage.network.heal();
            }
            FaultKind::Clog => {
                let (from, to) = (self.some_node(), self.some_machine());
                if from != to {
                    stage.network.clog(from, to, while_short);
                }
            }
            FaultKind::Reset => stage.network.reset_one(self.some_node()),
            FaultKind::WallStep => {
                let hours = self.dice.choose(Kind::Fault, 48) as i64 - 24;
                stage.world.step_wall(self.some_node(), hours * 3_600_000);
                stage.struck(FaultKind::WallStep);
            }
            _ => {
                let ppm = self.dice.choose(Kind::Fault, 2_001) as i64 - 1_000;
                stage.world.set_drift(self.some_node(), ppm);
                stage.struck(FaultKind::Drift);
            }
        }
    }

    /// A bit of one node's copy flips, in a segment that is not appended to, and in records that every replica has synced.
    /// Media rot, memory does not: what the process has just used is still there.
    fn rot(&self) {
        let Some(node) = self.rotten else { return };
        let disk = &self.machines[&node].disk;
        let mut places = Vec::new();
        for partition in self.play.partitions() {
            let known = self.play.synced_everywhere(&partition);
            let log = self.play.log_dir(node).join(partition.to_string());
            let is_segment = |path: &Path| {
                path.parent() == Some(&log) && path.extension().is_some_and(|kind| kind == "log")
            };
            let segments = disk.files().into_iter().filter(|(path, _)| is_segment(path));
            // By name, and so by offset: the last one is appended to.
            for (path, _) in segments.rev().skip(1) {
                if disk.at_rest(&path).is_some_and(|rest| rest < PAGE_STAYS) {
                    continue;
                }
                let mut at = 0;
                let bytes = disk.peek(&path).unwrap_or_default();
                for batch in Batches::split(bytes).map_while(Result::ok) {
                    let end = at + batch.bytes_total() as u64;
                    places.extend((batch.end_offset() <= known).then(|| (path.clone(), at..end)));
                    at = end;
                }
            }
        }
        if places.is_empty() {
            return;
        }
        let chosen = self.dice.choose(Kind::Fault, places.len() as u64) as usize;
        let (path, bytes) = places.swap_remove(chosen);
        let at = bytes.start + self.dice.choose(Kind::Fault, bytes.end - bytes.start);
        if disk.rot(&path, at, 1 << self.dice.choose(Kind::Fault, 8)).is_ok() {
            self.play.stage.world.mark("a replica rotted");
        }
    }

    /// A broker dies, and comes back with an empty disk in the place of the one that held its partitions. Only when others are
    /// known to hold all that is committed: to lose the last copy is beyond any promise.
    async fn replace_disk(&mut self) {
        let stage = self.play.stage.clone();
        // One copy may be bad, not two.
        let node = self.rotten.unwrap_or_else(|| self.some_of(&self.play.brokers));
        stage.world.kill(node);
        stage.struck(FaultKind::Crash);
        let until = stage.world.elapsed() + GIVEN_UP_WITHIN;
        while stage.world.elapsed() < until && !self.play.is_dispensable(node) {
            stage.world.sleep(Duration::from_millis(200)).await;
        }
        if self.play.is_dispensable(node) {
            *lock(&self.play.shared.disks).entry(node).or_default() += 1;
            stage.struck(FaultKind::Wipe);
        }
        self.restart(&[node], false).await;
    }

    /// Something dies: mostly a node, at once or at one of its next I/O operations, or cleanly; sometimes a client.
    async fn crash(&mut self) {
        let stage = self.play.stage.clone();
        let node = self.some_node();
        match self.dice.choose(Kind::Fault, 8) {
            0 => {
                let client =
                    CLIENTS + self.dice.choose(Kind::Fault, u64::from(CLIENTS_COUNT)) as Node;
                stage.world.kill(client);
                stage.struck(FaultKind::Crash);
            }
            1 => {
                let scale = [5, 50, 1_000][self.dice.choose(Kind::Fault, 3) as usize];
                self.machines[&node].disk.crash_at(self.dice.choose(Kind::Fault, scale));
            }
            2 | 3 => {
                stage.world.mark("clean restart");
                self.machines[&node].stop.notify_one();
                tokio::select! {
                    biased;
                    () = stage.world.death(node) => {}
                    () = stage.world.sleep(Duration::from_secs(30)) => {}
                }
                self.restart(&[node], false).await;
            }
            4 => self.restart(&self.play.nodes.to_vec(), false).await,
            _ => self.restart(&[node], false).await,
        }
    }

    /// Ends what still lives of these, by process or by power, and starts them again a little later, each in its time.
    async fn restart(&mut self, nodes: &[Node], cut: bool) {
        let stage = self.play.stage.clone();
        for node in nodes {
            if cut {
                stage.network.power_off(*node);
            }
            stage.world.kill(*node);
            stage.struck(FaultKind::Crash);
            stage.world.mark(if cut { "power cut" } else { "kill" });
            let machine = self.machines.get_mut(node).expect("a machine of this cluster");
            machine.disk = if cut { machine.disk.power_cut() } else { machine.disk.kill() };
        }
        for node in nodes {
            let down = [50, 500, 5_000][self.dice.choose(Kind::Fault, 3) as usize];
            stage.world.sleep(Duration::from_millis(self.dice.choose(Kind::Fault, down))).await;
            stage.network.power_on(*node);
            stage.world.revive(*node);
            self.start_one(*node);
        }
    }

    /// No more faults; who is down is started.
    pub(super) async fn calm(&mut self) {
        let stage = self.play.stage.clone();
        stage.network.heal();
        stage.network.set_rates(stage.scenario.quiet_net());
        for node in CLIENTS..CLIENTS + CLIENTS_COUNT {
            stage.world.resume(node);
        }
        for node in self.play.nodes.clone().iter() {
            let machine = &self.machines[node];
            machine.disk.set_rates(FaultRates::default());
            machine.disk.crash_not();
            stage.world.set_drift(*node, 0);
            stage.world.reset_wall(*node);
            stage.world.resume(*node);
            if !stage.world.is_alive(*node) {
                self.restart(&[*node], false).await;
            }
        }
    }

    /// Ends the run of the machines.
    pub(super) fn retire(&self) {
        for machine in self.machines.values() {
            let of_metadata = |path: &Path, kind: &str| {
                path.extension().is_some_and(|found| found == kind)
                    && path.parent().is_some_and(|parent| parent.ends_with("cluster-metadata"))
            };
            let files = machine.disk.files();
            if files.iter().any(|(path, _)| of_metadata(path, "checkpoint")) {
                self.play.stage.world.mark("metadata snapshot written");
            }
            // It has no segment from the start on.
            let is_first = |path: &Path| path.ends_with(format!("{:020}.log", 0));
            let mut segments = files.iter().filter(|(path, _)| of_metadata(path, "log")).peekable();
            if segments.peek().is_some() && !segments.any(|(path, _)| is_first(path)) {
                self.play.stage.world.mark("metadata log begun anew");
            }
            self.play.stage.count_disk(machine.disk.counts());
        }
    }
}

impl Play {
    /// A node's process from start to end.
    async fn serve(&self, node: Node, env: SimEnv, stop: Arc<tokio::sync::Notify>) {
        let config = self.broker_config(node);
        if let Err(error) = self.format(node, &env, &config).await {
            let text = format!("the directories of node {node} cannot be formatted: {error}");
            self.stage.world.violation("L4", text);
            return;
        }
        let started = tokio::select! {
            biased;
            started = Broker::start(env.clone(), config) => started,
            // It may wait for the others for ever.
            () = stop.notified() => return self.stage.world.kill_soon(node),
        };
        let broker = match started {
            Ok(broker) => broker,
            Err(error) => {
                self.stage.world.violation("L4", format!("node {node} does not start: {error}"));
                return;
            }
        };
        self.stage.world.mark("node started");
        let observer = Arc::new(broker.observer().clone());
        lock(&self.shared.observers).insert(node, Arc::downgrade(&observer));
        // What the process before knew in memory is gone with it.
        lock(&self.shared.seen).processes.remove(&node);
        tokio::select! {
            biased;
            failure = broker.failed() => {
                let text = format!("node {node} failed without a fault: {failure}");
                self.stage.world.violation("I10", text);
            }
            () = self.watch_elections(&observer) => {}
            () = stop.notified() => broker.shutdown().await,
        }
        drop(observer);
        self.stage.world.kill_soon(node);
    }

    /// Says who decides at first, on a disk that holds nothing.
    async fn format(
        &self,
        node: Node,
        env: &SimEnv,
        config: &BrokerConfig,
    ) -> Result<(), StartError> {
        let identity = config.metadata_dir().join("meta.properties");
        let is_new = !env.disk().exists(&identity).await.unwrap_or(true);
        let initial = |voter: &Node| InitialVoter {
            voter: QuorumVoter {
                node: NodeId(*voter as i32),
                host: ip_of(*voter).to_string(),
                port: CONTROLLER_PORT,
            },
            directory: DirectoryId(Uuid([*voter as u8; 16])),
        };
        let beginning = match self.stage.scenario.beginning {
            Beginning::Standalone if self.voters[0] == node => broker::Beginning::Standalone,
            Beginning::Together if self.voters.contains(&node) => {
                broker::Beginning::Together(self.voters.iter().map(initial).collect())
            }
            _ => return Ok(()),
        };
        let cluster = config.cluster_id.clone().filter(|_| is_new);
        let Some(cluster) = cluster else { return Ok(()) };
        broker::format(env, config, cluster, &beginning).await.map(drop)
    }

    /// Where a node's partitions lie.
    fn log_dir(&self, node: Node) -> PathBuf {
        match lock(&self.shared.disks).get(&node) {
            None => PathBuf::from("/data"),
            Some(count) => PathBuf::from(format!("/data{count}")),
        }
    }

    /// Whether a broker is given up by the newest metadata, and others hold all that is committed of what it holds.
    fn is_dispensable(&self, node: Node) -> bool {
        let active = self.nodes.iter().filter(|other| **other != node);
        let active = active.filter_map(|other| self.observer(*other));
        let Some(observer) = active.into_iter().find(|known| known.quorum().is_active) else {
            return false;
        };
        let image = observer.view().image.clone();
        let id = BrokerId(node as i32);
        let has_others = |partition: &PartitionInfo| {
            let mut whole = partition.isr.iter().chain(&partition.elr);
            !partition.replicas.contains(&id) || whole.any(|other| *other != id)
        };
        let mut shared = image.partitions().filter(|(_, _, known)| known.replicas.len() > 1);
        image.broker(id).is_some_and(|known| known.is_fenced)
            && shared.all(|(_, _, partition)| has_others(partition))
    }

    /// How fast replicas that are not in sync catch up: where partitions move, slowly.
    fn catch_up_rate(&self) -> i64 {
        let scenario = &self.stage.scenario;
        let rate = (scenario.value_bytes_max * CATCH_UP_VALUES) as i64;
        if scenario.moves { rate } else { i64::MAX }
    }

    fn broker_config(&self, node: Node) -> BrokerConfig {
        let values = [
            ("auto.create.topics.enable", "false".to_owned()),
            ("auto.balance", self.stage.scenario.balances.to_string()),
            ("leader.imbalance.check.interval.seconds", "10".into()),
            ("broker.heartbeat.interval.ms", "500".into()),
            ("broker.session.timeout.ms", "3000".into()),
            ("disk.sync.timeout.ms", "60000".into()),
            ("leader.replication.throttled.rate", self.catch_up_rate().to_string()),
            ("follower.replication.throttled.rate", self.catch_up_rate().to_string()),
            (
                "controller.quorum.auto.join.enable",
                (self.stage.scenario.beginning != Beginning::Configured).to_string(),
            ),
            ("offsets.topic.num.partitions", "2".into()),
            ("group.initial.rebalance.delay.ms", "300".into()),
            ("group.min.session.timeout.ms", "1000".into()),
            ("log.segment.bytes", self.stage.scenario.segment_bytes.to_string()),
            (
                "metadata.log.max.record.bytes.between.snapshots",
                self.stage.scenario.metadata_snapshot_bytes.to_string(),
            ),
            ("log.journal.file.bytes", "65536".into()),
            ("log.journal.bytes", "262144".into()),
        ];
        let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
        let nearby = self
            .rack_of(node)
            .map(|rack| [("broker.rack", rack), ("replica.selector.class", selector.to_owned())]);
        let values = values.into_iter().chain(nearby.into_iter().flatten());
        let values = values.map(|(name, value)| (name.into(), value.as_str().into()));
        let settings = BrokerSettings::resolve(NodeConfigs::fixed(values.collect()));
        let listener = |name: &str, port: u16, audience: Audience| ListenerConfig {
            name: name.into(),
            bind: (ip_of(node), port).into(),
            advertised: None,
            protocol: ListenerProtocol::Plaintext,
            audience,
        };
        let voter = |node: &Node| QuorumVoter {
            node: NodeId(*node as i32),
            host: ip_of(*node).to_string(),
            port: CONTROLLER_PORT,
        };
        let roles = match (self.brokers.contains(&node), self.voters.contains(&node)) {
            (true, true) => Roles::Both,
            (true, false) => Roles::Broker,
            (false, _) => Roles::Controller,
        };
        let (all, first) = (&self.voters[..], &self.voters[..1]);
        let (voters, known): (&[Node], &[Node]) = match self.stage.scenario.beginning {
            Beginning::Configured => (all, &[]),
            Beginning::Joining if first == [node] => (first, &[]),
            Beginning::Joining | Beginning::Standalone => (&[], first),
            Beginning::Together => (&[], all),
        };
        let voters = voters.iter().map(voter).collect();
        let address = |node: &Node| (ip_of(*node).to_string(), CONTROLLER_PORT);
        let bootstrap = known.iter().filter(|other| **other != node).map(address).collect();
        let mut listeners = Vec::new();
        if roles.is_broker() {
            listeners.push(listener("PLAINTEXT", PORT, Audience::Clients));
        }
        if roles.is_controller() {
            listeners.push(listener("CONTROLLER", CONTROLLER_PORT, Audience::Controllers));
        }
        BrokerConfig {
            node_id: NodeId(node as i32),
            roles,
            cluster_id: Some(ClusterId("simulated-cluster".into())),
            listeners,
            log_dirs: vec![self.log_dir(node)],
            metadata_dir: self.stage.scenario.disks_replaced.then(|| METADATA_DIR.into()),
            voters,
            bootstrap,
            asks_who_decides: false,
            settings,
        }
    }
}
