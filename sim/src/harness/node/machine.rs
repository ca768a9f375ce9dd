//! The broker's machine, and what befalls it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use broker::{Audience, Broker, BrokerConfig, ListenerConfig, ListenerProtocol, Observer};
use client::Admin;
use cluster::config::{BrokerSettings, NodeConfigs};
use env::{Clock, Env};
use types::{BrokerId, NodeId, TopicPartition};

use super::{BROKER, CLIENTS, Dialect, LOG_DIRS, PORT, Phase, Play, crowd};
use crate::checker::{metrics, require};
use crate::decisions::{Decisions, Kind};
use crate::disk::{FaultRates, SimDisk};
use crate::exec::{Node, lock};
use crate::fault::FaultKind;
use crate::net::ip_of;
use crate::world::SimEnv;

/// Later than any steps of the clock lead to: 24 days.
const PRODUCERS_EXPIRE_MS: i32 = 24 * 86_400_000;

/// How often the broker's own counts are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Client machines in a run.
const CLIENTS_COUNT: u32 = 14;

/// The broker's machine.
pub struct Machine {
    play: Play,
    disk: SimDisk,
    dice: Decisions,
    /// How often its disk was filled.
    fillings: u64,
    stop: Arc<tokio::sync::Notify>,
}

impl Machine {
    /// A machine that is off.
    pub fn new(play: &Play, disk: SimDisk) -> Machine {
        let dice = play.stage.nemesis();
        Machine { play: play.clone(), disk, dice, fillings: 0, stop: Arc::default() }
    }

    /// Starts the broker's process.
    pub fn start(&mut self) {
        let stage = &self.play.stage;
        let env = SimEnv::new(&stage.world, &stage.network, &self.disk, BROKER);
        let play = self.play.clone();
        self.stop = Arc::default();
        let stop = self.stop.clone();
        let errors = DiskErrors::from_now_on(&self.disk);
        stage.spawn(BROKER, "process", async move { play.serve(env, stop, errors).await });
    }

    fn has_disk_errors(&self) -> bool {
        self.has_failing_disk() || self.play.stage.scenario.has(FaultKind::NoSpace)
    }

    fn has_failing_disk(&self) -> bool {
        let scenario = &self.play.stage.scenario;
        let codes = ["D2", "D3", "D4", "D6", "D9", "D10"];
        scenario.faults.iter().any(|kind| codes.contains(&kind.code()))
    }

    /// Faults strike until their time is over.
    pub async fn trouble(&mut self) {
        let stage = self.play.stage.clone();
        let end = stage.world.elapsed() + stage.scenario.fault_time;
        self.disk.set_rates(stage.scenario.disk.clone());
        self.unsettle_clocks();
        while stage.world.elapsed() < end && stage.world.violated().is_none() {
            let mean = stage.scenario.blow_mean;
            let pause =
                Duration::from_nanos(self.dice.choose(Kind::Fault, 2 * mean.as_nanos() as u64 + 1));
            let pause = pause.min(end.saturating_sub(stage.world.elapsed()));
            let died = tokio::select! {
                biased;
                () = stage.world.death(BROKER) => true,
                () = stage.world.sleep(pause) => false,
            };
            if died {
                stage.world.mark("broker ended by itself");
                self.restart(self.cuts_power()).await;
            } else {
                self.blow().await;
            }
        }
    }

    fn unsettle_clocks(&self) {
        let stage = &self.play.stage;
        if stage.scenario.has(FaultKind::WallOffset) {
            for node in [BROKER, CLIENTS, CLIENTS + 1, CLIENTS + 2] {
                let day = 86_400_000;
                let offset = self.dice.choose(Kind::Fault, 2 * day) as i64 - day as i64;
                stage.world.step_wall(node, offset);
                stage.struck(FaultKind::WallOffset);
            }
        }
    }

    fn step_wall(&self) {
        let hours = self.dice.choose(Kind::Fault, 48) as i64 - 24;
        self.play.stage.world.step_wall(BROKER, hours * 3_600_000);
        self.play.stage.struck(FaultKind::WallStep);
    }

    fn cuts_power(&self) -> bool {
        let scenario = &self.play.stage.scenario;
        scenario.has(FaultKind::PowerCut)
            && self.dice.choose(Kind::Fault, 1000) < scenario.power_cuts
    }

    /// One blow of a kind that is on.
    async fn blow(&mut self) {
        let stage = self.play.stage.clone();
        let kinds = [
            FaultKind::Crash,
            FaultKind::Crash,
            FaultKind::Pause,
            FaultKind::Partition,
            FaultKind::OneWay,
            FaultKind::Isolate,
            FaultKind::Clog,
            FaultKind::Reset,
            FaultKind::WallStep,
            FaultKind::Drift,
            FaultKind::NoSpace,
        ];
        let mut on: Vec<FaultKind> =
            kinds.into_iter().filter(|kind| stage.scenario.has(*kind)).collect();
        on.extend(self.has_mortal_devices().then_some(FaultKind::ErrorSticky));
        let Some(kind) = on.get(self.dice.choose(Kind::Fault, on.len() as u64) as usize) else {
            return;
        };
        let while_short = Duration::from_millis(self.dice.choose(Kind::Fault, 6_000));
        let all: Vec<Node> = (CLIENTS - 1..CLIENTS + CLIENTS_COUNT).collect();
        match kind {
            FaultKind::Crash => self.crash().await,
            FaultKind::Pause => {
                let node =
                    if self.dice.choose(Kind::Fault, 3) == 0 { self.some_client() } else { BROKER };
                stage.world.pause(node);
                stage.struck(FaultKind::Pause);
                // Also beyond every time limit that the paused process keeps.
                let scale = [1, 2, 2, 5][self.dice.choose(Kind::Fault, 4) as usize];
                stage.world.sleep(while_short * scale).await;
                stage.world.resume(node);
            }
            FaultKind::Partition => {
                let half = all.len() / 2;
                stage.network.partition(&[&[BROKER], &all[..half]].concat(), &all[half..], false);
                stage.world.sleep(while_short).await;
                stage.network.heal();
            }
            FaultKind::OneWay => {
                let client = self.some_client();
                if self.dice.choose(Kind::Fault, 2) == 0 {
                    stage.network.partition(&[BROKER], &[client], true);
                } else {
                    stage.network.partition(&[client], &[BROKER], true);
                }
                stage.world.sleep(while_short).await;
                stage.network.heal();
            }
            FaultKind::Isolate => {
                stage.network.partition(&[BROKER], &all, false);
                stage.world.sleep(while_short).await;
                stage.network.heal();
            }
            FaultKind::Clog => {
                let client = self.some_client();
                stage.network.clog(BROKER, client, while_short);
                stage.network.clog(client, BROKER, while_short);
            }
            FaultKind::Reset => stage.network.reset_one(BROKER),
            FaultKind::WallStep => self.step_wall(),
            FaultKind::Drift => {
                let ppm = self.dice.choose(Kind::Fault, 2_001) as i64 - 1_000;
                stage.world.set_drift(BROKER, ppm);
                stage.struck(FaultKind::Drift);
            }
            FaultKind::ErrorSticky => match self.dice.choose(Kind::Fault, 3) {
                0 => self.disk.revive(),
                _ => self.disk.die(Path::new(self.some_device())),
            },
            _ => {
                // Down to the last block, and then it is the journal, a segment or the metadata that finds no space first.
                let left = [0, 40_000, 400_000][self.dice.choose(Kind::Fault, 3) as usize];
                let left = self.dice.choose(Kind::Fault, left + 1);
                self.disk.fill(left);
                self.fillings += 1;
                // One that dies meanwhile comes back without a block more (E11).
                if stage.scenario.has(FaultKind::Crash) && self.dice.choose(Kind::Fault, 3) == 0 {
                    stage.world.sleep(while_short / 8).await;
                    self.restart_full().await;
                }
                if stage.world.is_alive(BROKER) {
                    let looking = self.play.look_at_full_disk(self.fillings);
                    tokio::join!(biased; stage.world.sleep(while_short), looking);
                }
                self.disk.set_space(1 << 40, 0);
            }
        }
    }

    /// Whether log directories lose their devices. Without the metadata's there is no node, so that one stays.
    fn has_mortal_devices(&self) -> bool {
        self.play.log_dirs().len() > 1 && self.play.stage.scenario.has(FaultKind::ErrorSticky)
    }

    fn some_device(&self) -> &'static str {
        let mortal = &self.play.log_dirs()[1..];
        mortal[self.dice.choose(Kind::Fault, mortal.len() as u64) as usize]
    }

    fn some_client(&self) -> Node {
        CLIENTS + self.dice.choose(Kind::Fault, u64::from(CLIENTS_COUNT)) as Node
    }

    /// Something dies: mostly the broker, at once or at one of its next I/O operations; sometimes a client.
    async fn crash(&mut self) {
        let stage = self.play.stage.clone();
        match self.dice.choose(Kind::Fault, 6) {
            0 => {
                let node = self.some_client();
                stage.world.kill(node);
                stage.struck(FaultKind::Crash);
            }
            1 => {
                let scale = [5, 50, 1_000][self.dice.choose(Kind::Fault, 3) as usize];
                self.disk.crash_at(self.dice.choose(Kind::Fault, scale));
            }
            2 => {
                self.stop_cleanly().await;
                self.restart(false).await;
            }
            _ => self.restart(self.cuts_power()).await,
        }
    }

    async fn stop_cleanly(&self) {
        let stage = &self.play.stage;
        stage.world.mark("clean restart");
        self.stop.notify_one();
        tokio::select! {
            biased;
            () = stage.world.death(BROKER) => {}
            () = stage.world.sleep(Duration::from_secs(15)) => {
                let excused = self.has_disk_errors() || stage.scenario.has(FaultKind::Pause);
                if !excused {
                    stage.world.violation("L4", "a clean stop takes more than 15 s".into());
                }
            }
        }
    }

    /// The same on a disk that is full, and stays so; again and again, because each start could need a little more.
    async fn restart_full(&mut self) {
        for round in 0..8 {
            if self.dice.choose(Kind::Fault, 3) == 0 {
                self.stop_cleanly().await;
            }
            self.go_down(false);
            // What the process had deleted and not closed is free now.
            self.disk.fill(0);
            self.come_up().await;
            self.play.stage.world.mark("restart on a full disk");
            if round == 0 && self.dice.choose(Kind::Fault, 3) != 0 {
                break;
            }
            let life = self.dice.choose(Kind::Fault, 2_000);
            self.play.stage.world.sleep(Duration::from_millis(life)).await;
        }
    }

    /// Kills the broker if it still lives, by process or by power, and starts it again a little later, on a disk that has
    /// space.
    async fn restart(&mut self, cut: bool) {
        self.go_down(cut);
        self.disk.set_space(1 << 40, 0);
        self.come_up().await;
    }

    fn go_down(&mut self, cut: bool) {
        let stage = self.play.stage.clone();
        if cut {
            stage.network.power_off(BROKER);
        }
        stage.world.kill(BROKER);
        stage.struck(FaultKind::Crash);
        stage.world.mark(if cut { "power cut" } else { "kill" });
        self.disk = if cut { self.disk.power_cut() } else { self.disk.kill() };
        for (path, _) in self.disk.files() {
            _ = self.disk.mend(&path);
        }
    }

    async fn come_up(&mut self) {
        let stage = self.play.stage.clone();
        let down = [50, 500, 5_000][self.dice.choose(Kind::Fault, 3) as usize];
        stage.world.sleep(Duration::from_millis(self.dice.choose(Kind::Fault, down))).await;
        if stage.scenario.has(FaultKind::WallStep) && self.dice.choose(Kind::Fault, 2) == 1 {
            // A machine may come up with a wrong clock, and loads its groups by it.
            self.step_wall();
        }
        stage.network.power_on(BROKER);
        stage.world.revive(BROKER);
        self.start();
    }

    /// No more faults; a broker that is down is started.
    pub async fn calm(&mut self) {
        let stage = self.play.stage.clone();
        self.disk.set_rates(FaultRates::default());
        self.disk.crash_not();
        self.disk.set_space(1 << 40, 0);
        stage.network.heal();
        stage.network.set_rates(stage.scenario.quiet_net());
        for node in std::iter::once(BROKER).chain(CLIENTS - 1..CLIENTS + CLIENTS_COUNT) {
            stage.world.set_drift(node, 0);
            stage.world.reset_wall(node);
            stage.world.resume(node);
        }
        if self.has_mortal_devices() && !stage.scenario.is_beyond_promise() {
            self.lose_devices().await;
        }
        // Whatever was broken is put right by a last restart, or was never broken. A disk that was full needs none (E11).
        if self.has_failing_disk() || !stage.world.is_alive(BROKER) {
            self.disk.revive();
            self.restart(false).await;
            self.disk.set_rates(FaultRates::default());
            stage.world.reset_wall(BROKER);
        }
        self.play.shared.phase.send_replace(Phase::Settle);
    }

    /// One device dies on a node that was whole; another one is not there at the next start.
    async fn lose_devices(&mut self) {
        self.disk.revive();
        self.restart(false).await;
        self.play.stage.world.reset_wall(BROKER);
        self.serves().await;
        let dead = self.some_device();
        self.disk.die(Path::new(dead));
        let (lost, served) = self.apart(dead);
        if !self.play.look_beside_dead_device(dead, &lost, &served).await {
            return;
        }
        self.disk.revive();
        let other = self.play.log_dirs()[1..].iter().find(|path| **path != dead);
        if let Some(missing) = other {
            // What lies there is not made anew where it does not lie (E8): the finale reads all of it.
            // After a power cut names of files may be missing that the journal brings back.
            let (_, served) = self.apart(missing);
            self.disk.die(Path::new(missing));
            let cut = self.cuts_power();
            self.restart(cut).await;
            self.play.stage.world.reset_wall(BROKER);
            self.serves().await;
            if self.play.looks_served(&served).await {
                self.play.stage.world.mark("started beside a dead device");
            }
            self.disk.revive();
        }
    }

    /// Completes once the broker's process has come so far; a later question finds out if it never does.
    async fn serves(&self) {
        for _ in 0..100 {
            if lock(&self.play.shared.observer).upgrade().is_some() {
                return;
            }
            self.play.stage.world.sleep(Duration::from_millis(100)).await;
        }
    }

    /// The partitions in this directory, and those elsewhere.
    fn apart(&self, path: &str) -> (Vec<TopicPartition>, Vec<TopicPartition>) {
        let files = self.disk.files();
        let lies_there = |id: &TopicPartition| {
            let log = Path::new(path).join(id.to_string());
            files.iter().any(|(file, _)| file.starts_with(&log))
        };
        self.play.all_partitions().into_iter().partition(lies_there)
    }

    /// What a topic's retention does not keep is gone from the disk: less than one segment more than it asks for is left
    /// (a setting is carried out or refused, never ignored). The finale has left it time.
    pub fn judge_retention(&self) {
        let stage = &self.play.stage;
        if stage.scenario.production || stage.scenario.is_beyond_promise() {
            return;
        }
        let segment = u64::from(stage.scenario.segment_bytes);
        let left = self.segment_bytes();
        for topic in self.play.shared.topics.iter().filter(|topic| topic.retained) {
            for index in 0..topic.partitions {
                let log = format!("{}-{index}", topic.name);
                let bytes: u64 = left.get(&log).into_iter().flat_map(BTreeMap::values).sum();
                let most = (super::SEGMENTS_RETAINED + 1) * segment;
                let verdict = require("retention", bytes <= most, || {
                    format!("{log} holds {bytes} bytes, and is to keep {most}")
                });
                stage.judge(verdict);
            }
        }
    }

    /// Nothing is written any more: each log lies in one directory, which tells it as large as its segments are on the disk.
    pub async fn judge_sizes(&self) {
        let stage = &self.play.stage;
        if stage.scenario.is_beyond_promise() || stage.world.violated().is_some() {
            return;
        }
        let client = self.play.client(CLIENTS - 1, &stage.dice(CLIENTS - 1), Dialect::Newest);
        let admin = Admin::new(&client);
        let all = self.play.all_partitions();
        let mut last = String::new();
        // Retention may be at work between two looks, and the first question may find a connection that has idled out.
        for _ in 0..5 {
            match admin.describe_log_dirs(BrokerId(0), Some(&all)).await {
                Ok(dirs) => {
                    let held = self.segment_bytes();
                    let mut told = BTreeMap::<String, BTreeMap<PathBuf, u64>>::new();
                    for dir in &dirs {
                        for (id, bytes) in &dir.logs {
                            told.entry(id.to_string())
                                .or_default()
                                .insert(PathBuf::from(&dir.path), *bytes);
                        }
                    }
                    let is_told = |id: &TopicPartition| {
                        let name = id.to_string();
                        let (Some(told), empty) = (told.get(&name), BTreeMap::new()) else {
                            return false;
                        };
                        let held = held.get(&name).unwrap_or(&empty);
                        told.len() == 1
                            && held.keys().all(|dir| told.contains_key(dir))
                            && told.iter().all(|(dir, bytes)| held.get(dir).unwrap_or(&0) == bytes)
                    };
                    let paths: Vec<_> = dirs.iter().map(|dir| dir.path.as_str()).collect();
                    if paths == self.play.log_dirs()
                        && dirs.iter().all(|dir| dir.error.is_none())
                        && all.iter().all(is_told)
                    {
                        stage.world.mark("log directories told");
                        return;
                    }
                    last = format!("told {dirs:?}, and the disk holds {held:?}");
                }
                Err(error) => last = error.to_string(),
            }
            stage.world.sleep(Duration::from_secs(1)).await;
        }
        stage.judge(require("sizes", false, || last));
    }

    /// Bytes in the segments of each log, by the log directories that hold any of it.
    fn segment_bytes(&self) -> BTreeMap<String, BTreeMap<PathBuf, u64>> {
        let mut held = BTreeMap::<String, BTreeMap<PathBuf, u64>>::new();
        for (path, len) in self.disk.files() {
            if path.extension().is_some_and(|extension| extension == "log")
                && let Some(log) = path.parent()
                && let (Some(name), Some(dir)) = (log.file_name(), log.parent())
            {
                let dirs = held.entry(name.to_string_lossy().into_owned()).or_default();
                *dirs.entry(dir.to_owned()).or_default() += len;
            }
        }
        held
    }

    /// Ends the run of this machine.
    pub fn retire(&self) {
        self.play.stage.count_disk(self.disk.counts());
    }
}

/// Errors that befall each log directory's device in one life of a broker. Those of the metadata's excuse its end, and each
/// excuses that its own directory is offline (E10); that the disk is full excuses neither (E11).
struct DiskErrors {
    disk: SimDisk,
    /// How many there were before.
    before: [u64; LOG_DIRS.len()],
}

impl DiskErrors {
    fn from_now_on(disk: &SimDisk) -> DiskErrors {
        let before = LOG_DIRS.map(|dir| disk.errors_on(Path::new(dir)));
        DiskErrors { disk: disk.clone(), before }
    }

    /// Whether there were any on the device of a path.
    fn have_struck(&self, path: &Path) -> bool {
        let known = LOG_DIRS.iter().zip(self.before).find(|(dir, _)| path.starts_with(dir));
        known.is_some_and(|(_, before)| self.disk.errors_on(path) > before)
    }
}

impl Play {
    /// The broker's process from start to end.
    async fn serve(&self, env: SimEnv, stop: Arc<tokio::sync::Notify>, errors: DiskErrors) {
        let is_excused = || {
            self.stage.scenario.is_beyond_promise() || errors.have_struck(Path::new(LOG_DIRS[0]))
        };
        let config = self.broker_config();
        let broker = match Broker::start(env.clone(), config).await {
            Ok(broker) => broker,
            Err(error) => {
                self.stage.world.mark("broker did not start");
                if !is_excused() {
                    self.stage.world.violation("L4", format!("the broker does not start: {error}"));
                }
                _ = env.disk();
                self.stage.world.kill_soon(BROKER);
                return;
            }
        };
        self.stage.world.mark("broker started");
        let observer = Arc::new(broker.observer().clone());
        *lock(&self.shared.observer) = Arc::downgrade(&observer);
        tokio::select! {
            biased;
            failure = broker.failed() => {
                self.stage.world.mark("broker failed");
                if !is_excused() {
                    self.stage.world.violation("I10", format!("the broker failed without a fault: {failure}"));
                }
            }
            () = stop.notified() => broker.shutdown().await,
            () = self.watch(&env, &observer, &errors) => unreachable!("it watches to the end"),
        }
        self.stage.world.kill_soon(BROKER);
    }

    /// Looks now and then at what the broker counts, and at its directories: none is offline without a reason (E10).
    async fn watch(&self, env: &SimEnv, observer: &Observer<SimEnv>, errors: &DiskErrors) {
        let mut before = BTreeMap::new();
        loop {
            env.clock().sleep(LOOK_INTERVAL).await;
            let snapshot = observer.snapshot().await;
            let after = metrics::rising(&snapshot);
            self.stage.judge(metrics::numbers_rise(&before, &after));
            before = after;
            let offline = snapshot.directories.iter().filter(|dir| dir.counts.is_offline);
            for dir in offline.filter(|_| !self.stage.scenario.is_beyond_promise()) {
                self.stage.judge(require("E10", errors.have_struck(&dir.path), || {
                    format!(
                        "{} is offline, and no fault of its disk has struck",
                        dir.path.display()
                    )
                }));
            }
        }
    }

    fn broker_config(&self) -> BrokerConfig {
        let scenario = &self.stage.scenario;
        let mut values = vec![
            ("auto.create.topics.enable", "false".to_owned()),
            ("offsets.topic.replication.factor", "1".into()),
            // The crowd is the last of the clients.
            (
                "max.connections.per.ip.overrides",
                format!("{}:{}", ip_of(CLIENTS + CLIENTS_COUNT - 1), crowd::CONNECTIONS_MAX),
            ),
            // The wall clock is stepped by up to a day, again and again. A producer whose state has expired by then may
            // be answered with a second copy of what it sends again (P6), which no history tells from a lost state: here
            // none expires. The directory's scenario judges those that do.
            ("producer.id.expiration.ms", PRODUCERS_EXPIRE_MS.to_string()),
        ];
        if !scenario.production {
            values.extend([
                ("offsets.topic.num.partitions", "3".into()),
                ("offsets.topic.segment.bytes", scenario.segment_bytes.to_string()),
                ("group.initial.rebalance.delay.ms", "300".into()),
                ("group.min.session.timeout.ms", "500".into()),
                ("log.retention.check.interval.ms", "1000".into()),
                ("log.initial.task.delay.ms", "500".into()),
                ("log.segment.delete.delay.ms", "1000".into()),
                ("log.space.reserve.bytes", (16 << 20).to_string()),
                ("log.scrub.interval.ms", "5000".into()),
                (
                    "metadata.log.max.record.bytes.between.snapshots",
                    scenario.metadata_snapshot_bytes.to_string(),
                ),
                ("log.journal.file.bytes", scenario.journal_bytes.0.to_string()),
                ("log.journal.bytes", scenario.journal_bytes.1.to_string()),
                ("disk.sync.timeout.ms", "10000".into()),
            ]);
        }
        if scenario.offsets_expire {
            values.extend([
                ("offsets.retention.minutes", "1".to_owned()),
                (
                    "offsets.retention.check.interval.ms",
                    scenario.offsets_check.as_millis().to_string(),
                ),
            ]);
        }
        let values = values.into_iter().map(|(name, value)| (name.into(), value.as_str().into()));
        let settings = BrokerSettings::resolve(NodeConfigs::fixed(values.collect()));
        BrokerConfig {
            roles: broker::Roles::default(),
            node_id: NodeId(0),
            cluster_id: None,
            listeners: vec![ListenerConfig {
                name: "PLAINTEXT".into(),
                bind: (ip_of(BROKER), PORT).into(),
                advertised: None,
                protocol: ListenerProtocol::Plaintext,
                audience: Audience::Clients,
            }],
            log_dirs: self.log_dirs().iter().map(PathBuf::from).collect(),
            metadata_dir: None,
            bootstrap: Vec::new(),
            asks_who_decides: false,
            voters: Vec::new(),
            settings,
        }
    }
}
