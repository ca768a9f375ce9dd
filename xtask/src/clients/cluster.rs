//! Three real processes under load by clients of three languages: the leader is killed, a node stands still, all lose their power
//! at once, and one after the other is stopped and started. What was acknowledged is there, once, and nobody has to do anything
//! but start again what ended.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::broker::Broker;
use super::load::{Load, Own, Seen, grows, sizes};
use super::loopdisk::Loop;
use super::tools::Tools;
use crate::shell;

const NODES: usize = 3;
/// Of the topic that is written to; a record's number says which it is in.
const PARTITIONS: u64 = 6;
const DISK_MEGABYTES: u32 = 1024;
/// The exit code of a broker whose disk failed.
const DISK: i32 = 5;
/// How long a node that was killed stays dead.
const DEATH: Duration = Duration::from_secs(4);
/// How long a follower stands still, and a leader: longer than its session.
const FOLLOWER_PAUSE: Duration = Duration::from_secs(4);
const LEADER_PAUSE: Duration = Duration::from_secs(11);
/// How soon everybody is served again, and all replicas are in sync.
const RESUMES: Duration = Duration::from_secs(60);

const SETTINGS: [&str; 4] = [
    "auto.create.topics.enable=false",
    "log.segment.bytes=8388608",
    "log.journal.bytes=67108864",
    "group.initial.rebalance.delay.ms=0",
];

#[derive(Clone, Copy)]
enum Event {
    Kill,
    Pause,
    PowerCut,
    Roll,
}

const EVENTS: [Event; 4] = [Event::Kill, Event::Pause, Event::PowerCut, Event::Roll];

/// Three nodes, each on a file system of its own.
pub struct Cluster {
    nodes: Vec<Broker>,
    disks: Vec<Loop>,
    load: Load,
}

/// Runs `rounds` rounds; what was seen, in one line. `Ok(None)`: loop devices are not permitted here.
pub fn run(tools: &Arc<Tools>, binary: &Path, rounds: u32) -> Result<Option<String>, String> {
    let mut cluster = match Cluster::prepare(tools, binary)? {
        Ok(cluster) => cluster,
        Err(error) => {
            println!("  {error}");
            return Ok(None);
        }
    };
    let mut acknowledged = 0;
    for round in 0..u64::from(rounds) {
        let seen = cluster.round(round)?;
        println!("  round {}: {}", round + 1, seen.text);
        acknowledged += seen.acknowledged;
    }
    cluster.stop()?;
    Ok(Some(format!(
        "{rounds} rounds of kill, pause, power cut of all and rolling restart; {acknowledged} acknowledged, none lost, none twice"
    )))
}

impl Cluster {
    /// Starts three nodes as anybody would. The inner error: there are no loop devices here.
    pub fn prepare(tools: &Arc<Tools>, binary: &Path) -> Result<Result<Cluster, String>, String> {
        let home = tools.work.join("cluster");
        std::fs::create_dir_all(&home).map_err(|error| error.to_string())?;
        let mut disks = Vec::new();
        for place in 1..=NODES {
            match Loop::up(tools, home.join(place.to_string()), DISK_MEGABYTES) {
                Ok(disk) => disks.push(disk),
                Err(error) => return Ok(Err(error)),
            }
        }
        let log = tools.work.join("cluster.stderr");
        let (nodes, data) = (NODES.to_string(), home.display().to_string());
        let mut words = vec!["dev", "--nodes", &nodes, "--listen", "127.0.0.1:0", "--data", &data];
        words.extend(SETTINGS.iter().flat_map(|setting| ["--set", setting]));
        let mut launcher = Broker::new(binary, &words, &log);
        launcher.restart()?;
        launcher.stop()?;
        let node = |place: usize| {
            let file = home.join(format!("node{place}.properties")).display().to_string();
            let mut words = vec!["server", "--config", &file];
            words.extend(SETTINGS.iter().flat_map(|setting| ["--set", setting]));
            Broker::new(binary, &words, &tools.work.join(format!("node{place}.stderr")))
        };
        let mut nodes: Vec<Broker> = (1..=NODES).map(node).collect();
        Broker::restart_all(&mut nodes)?;
        let load = Load::new(tools.clone(), PathBuf::from(binary), launcher.bootstrap())?;
        Ok(Ok(Cluster { nodes, disks, load }))
    }

    /// One round with every event.
    pub fn round(&mut self, number: u64) -> Result<Seen, String> {
        let Cluster { nodes, disks, load } = self;
        let own = load.own.clone();
        load.round(number, EVENTS.len(), |step, topic, files| {
            let event = EVENTS[(step + number as usize) % EVENTS.len()];
            let mut scene = Scene { nodes, disks, own: &own, topic, files };
            scene.strike(event, number).map_err(|error| {
                let words: Vec<String> = nodes.iter().map(Broker::last_words).collect();
                format!("{error}\n{}", words.join("\n--\n"))
            })
        })
    }

    /// Stops all nodes.
    pub fn stop(&mut self) -> Result<(), String> {
        self.nodes.iter_mut().try_for_each(Broker::stop)
    }
}

/// A cluster under load.
struct Scene<'a> {
    nodes: &'a mut [Broker],
    disks: &'a [Loop],
    own: &'a Own,
    topic: &'a str,
    files: &'a [String],
}

impl Scene<'_> {
    /// Lets it happen, and waits until all is well again; what was seen.
    fn strike(&mut self, event: Event, round: u64) -> Result<String, String> {
        let begun = Instant::now();
        let said = match event {
            Event::Kill => {
                let leader = self.leader()?;
                self.nodes[leader].kill()?;
                let gap = self.longest_gap(DEATH)?;
                grows(self.files, &sizes(self.files), RESUMES)?;
                self.nodes[leader].restart()?;
                format!("kill of a leader, {:.1} s without an answer", gap.as_secs_f64())
            }
            Event::Pause => {
                let leader = self.leader()?;
                let (paused, who, pause) = match round % 2 {
                    0 => ((leader + 1) % NODES, "a follower", FOLLOWER_PAUSE),
                    _ => (leader, "a leader", LEADER_PAUSE),
                };
                self.signal(paused, "-STOP")?;
                let gap = self.longest_gap(pause)?;
                let grown = grows(self.files, &sizes(self.files), RESUMES);
                self.signal(paused, "-CONT")?;
                grown?;
                format!("pause of {who}, {:.1} s without an answer", gap.as_secs_f64())
            }
            Event::PowerCut => {
                self.disks.iter().try_for_each(Loop::cut)?;
                for node in &mut *self.nodes {
                    // It may have noticed that its disk is gone; other ends are not in order.
                    if let Some(status) = node.end().filter(|status| status.code() != Some(DISK)) {
                        return Err(format!("a node ended by itself with {status}"));
                    }
                }
                self.disks.iter().try_for_each(Loop::back)?;
                let took = Broker::restart_all(self.nodes)?;
                format!("power cut, all ready {:.1} s later", took.as_secs_f64())
            }
            Event::Roll => {
                for node in 0..NODES {
                    self.nodes[node].stop()?;
                    self.nodes[node].restart()?;
                    self.in_sync()?;
                }
                "rolling restart".to_owned()
            }
        };
        grows(self.files, &sizes(self.files), RESUMES)?;
        self.in_sync()?;
        self.nodes.iter_mut().try_for_each(Broker::is_running)?;
        Ok(format!("{said} ({:.0} s)", begun.elapsed().as_secs_f64()))
    }

    fn partitions(&self) -> Result<Vec<Value>, String> {
        let text = self.own.run(&["topic", "describe", self.topic, "--json"])?;
        let told: Value =
            serde_json::from_str(&text).map_err(|error| format!("{text}: {error}"))?;
        Ok(told[0]["partitions"].as_array().cloned().unwrap_or_default())
    }

    /// The node that leads the first partition.
    fn leader(&self) -> Result<usize, String> {
        let deadline = Instant::now() + RESUMES;
        loop {
            let partitions = self.partitions()?;
            let leader = partitions.first().and_then(|first| first["leader"].as_u64());
            match leader.map(|leader| leader as usize).filter(|leader| *leader < NODES) {
                Some(leader) => return Ok(leader),
                None if Instant::now() > deadline => return Err("nobody leads".to_owned()),
                None => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Waits until every partition has all its replicas in sync.
    fn in_sync(&self) -> Result<(), String> {
        let deadline = Instant::now() + RESUMES;
        loop {
            let partitions = self.partitions()?;
            let is_whole = |it: &Value| it["isr"].as_array().is_some_and(|isr| isr.len() == NODES);
            if !partitions.is_empty() && partitions.iter().all(is_whole) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("not all are in sync within {RESUMES:?}: {partitions:?}"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The longest time within `span` in which clients that write all the time were answered nothing for a partition that
    /// was led by whom it befell.
    fn longest_gap(&self, span: Duration) -> Result<Duration, String> {
        let mut tails: Vec<Tail> =
            self.files[..2].iter().map(|file| Tail::open(file)).collect::<Result<_, _>>()?;
        let begun = Instant::now();
        while begun.elapsed() < span {
            std::thread::sleep(Duration::from_millis(10));
            tails.iter_mut().try_for_each(Tail::look)?;
        }
        Ok(tails.iter().map(|tail| tail.longest.max(tail.last.elapsed())).max().unwrap_or_default())
    }

    fn signal(&self, node: usize, signal: &str) -> Result<(), String> {
        let pid = self.nodes[node].id().ok_or("the node does not run")?.to_string();
        shell::output(Command::new("kill").args([signal, &pid])).map(drop)
    }
}

/// The end of a file with the numbers of acknowledged records.
struct Tail {
    file: BufReader<File>,
    line: String,
    /// When one of the first partition came last, and the longest time between two.
    last: Instant,
    longest: Duration,
}

impl Tail {
    fn open(path: &str) -> Result<Tail, String> {
        let mut file = File::open(path).map_err(|error| format!("{path}: {error}"))?;
        file.seek(SeekFrom::End(0)).map_err(|error| error.to_string())?;
        let (file, line) = (BufReader::new(file), String::new());
        Ok(Tail { file, line, last: Instant::now(), longest: Duration::ZERO })
    }

    fn look(&mut self) -> Result<(), String> {
        while self.file.read_line(&mut self.line).map_err(|error| error.to_string())? > 0 {
            if !self.line.ends_with('\n') {
                return Ok(());
            }
            let number: Option<u64> = self.line.trim().parse().ok();
            if number.is_some_and(|number| number % PARTITIONS == 0) {
                self.longest = self.longest.max(self.last.elapsed());
                self.last = Instant::now();
            }
            self.line.clear();
        }
        Ok(())
    }
}
