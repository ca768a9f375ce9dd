//! `cargo xtask soak`: hours of everything at once. Each round writes by clients of three languages into one topic and reads it
//! by one group of all three, while the broker is killed, stopped, cut from power and left without disk space, and other
//! topics come, are retained and go. The account is exact: what was acknowledged was received, once, at one place. Between
//! rounds the simulator goes on with the seeds that CI leaves out.
//!
//! What was done stands in `target/soak/state`: a second call goes on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::broker::Broker;
use super::cluster::Cluster;
use super::load::{Load, grows, sizes};
use super::loopdisk::Loop;
use super::tools::Tools;
use crate::ci::SEEDS;
use crate::shell;

const USAGE: &str = "usage: cargo xtask soak [--rounds N] [--cluster N] [--hours N] [--seeds END]";
/// Rounds, and the end of the seeds, when nothing else is said.
const ROUNDS: u64 = 100;
const CLUSTER_ROUNDS: u64 = 50;
const SEEDS_END: u64 = 10_000;
/// Seeds between two rounds.
const SEEDS_AT_ONCE: u64 = 100;
/// CI runs each of its seeds twice; here more seeds are worth more than more repetitions.
const TWICE_EVERY: &str = "8";
/// The broker's file system: small, so that it is soon full.
const DISK_MEGABYTES: u32 = 1536;
/// The exit code of a broker whose disk failed.
const DISK: i32 = 5;
/// How soon clients must be served again once there is space.
const RESUMES: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
    Kill,
    PowerCut,
    FullDisk,
    Stop,
}

/// What happens in a round; each begins elsewhere in the list.
const EVENTS: [Event; 6] =
    [Event::Kill, Event::PowerCut, Event::FullDisk, Event::Stop, Event::Kill, Event::PowerCut];

impl Event {
    fn name(self) -> &'static str {
        match self {
            Event::Kill => "kill",
            Event::PowerCut => "power-cut",
            Event::FullDisk => "full-disk",
            Event::Stop => "stop",
        }
    }
}

/// What a call was asked for.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Asked {
    rounds: u64,
    cluster_rounds: u64,
    seeds_end: u64,
    hours: f64,
}

/// What all calls have done so far, by name.
struct State {
    file: PathBuf,
    counts: BTreeMap<String, u64>,
}

impl State {
    fn load(dir: &Path) -> Result<State, String> {
        let file = dir.join("state");
        fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let text = fs::read_to_string(&file).unwrap_or_default();
        Ok(State { file, counts: counts_in(&text) })
    }

    fn get(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or_default()
    }

    fn add(&mut self, name: &str, count: u64) {
        *self.counts.entry(name.to_owned()).or_default() += count;
    }

    fn save(&self) -> Result<(), String> {
        let lines = self.counts.iter().map(|(name, count)| format!("{name} {count}\n"));
        fs::write(&self.file, lines.collect::<String>()).map_err(|error| error.to_string())
    }

    /// The one line at the end.
    fn verdict(&self, hours: f64) -> String {
        let of = |name: &str| self.get(name);
        format!(
            "soak: {} rounds, {} kills, {} power cuts, {} full disks, {} clean stops; {} records \
             acknowledged, all received once; three nodes: {} rounds, {} records; seeds {SEEDS}..{} clean; \
             {hours:.2} h in this call",
            of("rounds"),
            of("kill"),
            of("power-cut"),
            of("full-disk"),
            of("stop"),
            of("acknowledged"),
            of("cluster-rounds"),
            of("cluster-acknowledged"),
            of("seeds").max(SEEDS)
        )
    }
}

fn counts_in(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (name, count) = line.split_once(' ')?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

fn asked(arguments: &[String]) -> Result<Asked, String> {
    let mut asked = Asked {
        rounds: ROUNDS,
        cluster_rounds: CLUSTER_ROUNDS,
        seeds_end: SEEDS_END,
        hours: f64::INFINITY,
    };
    for pair in arguments.chunks(2) {
        let [flag, value] = pair else { return Err(USAGE.to_owned()) };
        let number: f64 = value.parse().map_err(|_| USAGE)?;
        match flag.as_str() {
            "--rounds" => asked.rounds = number as u64,
            "--cluster" => asked.cluster_rounds = number as u64,
            "--seeds" => asked.seeds_end = number as u64,
            "--hours" => asked.hours = number,
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(asked)
}

/// Runs rounds and seeds in turn, until all that was asked for is done or the time is over.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let asked = asked(arguments)?;
    let started = Instant::now();
    let hours = || started.elapsed().as_secs_f64() / 3600.0;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let mut state = State::load(&target.join("soak"))?;
    let tools = Arc::new(Tools::prepare(root)?);
    let binary = super::build(root)?;
    let mut alone = Turns::new("rounds", asked.rounds, &state);
    let mut cluster = Turns::new("cluster-rounds", asked.cluster_rounds, &state);
    let mut one = None;
    let mut three = None;
    loop {
        let mut is_idle = true;
        if alone.are_left(&state) && hours() < asked.hours {
            let stage = match &mut one {
                Some(stage) => stage,
                None => one.insert(Stage::prepare(&tools, &binary, state.get("rounds"))?),
            };
            stage.round(&mut state)?;
            alone.done(&mut state)?;
            is_idle = false;
        }
        if cluster.are_left(&state) && hours() < asked.hours {
            let stage = match &mut three {
                Some(stage) => stage,
                None => three.insert(Cluster::prepare(&tools, &binary)??),
            };
            let number = state.get("cluster-rounds");
            let seen = stage.round(number)?;
            state.add("cluster-acknowledged", seen.acknowledged);
            println!("  cluster round {}: {}", number + 1, seen.text);
            cluster.done(&mut state)?;
            is_idle = false;
        }
        let from = state.get("seeds").max(SEEDS);
        if from < asked.seeds_end && hours() < asked.hours {
            let to = (from + SEEDS_AT_ONCE).min(asked.seeds_end);
            let seeds = format!("{from}..{to}");
            let sweep = ["sim", "run", "--twice-every", TWICE_EVERY, "--seeds", &seeds];
            shell::run(&mut shell::command(root, "cargo", &sweep))?;
            state.counts.insert("seeds".to_owned(), to);
            state.save()?;
            is_idle = false;
        }
        if is_idle {
            break;
        }
    }
    if let Some(stage) = &mut one {
        stage.broker.stop()?;
    }
    if let Some(stage) = &mut three {
        stage.stop()?;
    }
    println!("{}", state.verdict(hours()));
    Ok(())
}

/// Rounds of one kind: so many in this call, after those before.
struct Turns {
    name: &'static str,
    last: u64,
}

impl Turns {
    fn new(name: &'static str, count: u64, state: &State) -> Turns {
        Turns { name, last: state.get(name) + count }
    }

    fn are_left(&self, state: &State) -> bool {
        state.get(self.name) < self.last
    }

    fn done(&mut self, state: &mut State) -> Result<(), String> {
        state.add(self.name, 1);
        state.save()
    }
}

/// A broker on a file system of its own.
struct Stage {
    broker: Broker,
    disk: Loop,
    load: Load,
}

impl Stage {
    fn prepare(tools: &Arc<Tools>, binary: &Path, rounds: u64) -> Result<Stage, String> {
        let disk = Loop::up(tools, tools.work.join("disk"), DISK_MEGABYTES)?;
        let settings = [
            // A producer asks for the topics it once wrote to, and would bring back those that were deleted.
            "auto.create.topics.enable=false",
            "log.segment.bytes=8388608",
            "log.journal.bytes=67108864",
            "log.retention.check.interval.ms=1000",
            "log.segment.delete.delay.ms=1000",
            "group.initial.rebalance.delay.ms=0",
        ];
        let log = tools.work.join(format!("broker-{rounds}.stderr"));
        let data = disk.mount().join("data");
        let broker = Broker::start_with_log(binary, &data, &log, &settings)?;
        let load = Load::new(tools.clone(), binary.to_owned(), broker.bootstrap())?;
        Ok(Stage { broker, disk, load })
    }

    fn round(&mut self, state: &mut State) -> Result<(), String> {
        let number = state.get("rounds");
        let Stage { broker, disk, load } = self;
        let seen = load.round(number, EVENTS.len(), |step, _, files| {
            let event = EVENTS[(step + number as usize) % EVENTS.len()];
            let took = strike(broker, disk, event, files)
                .map_err(|error| format!("{}: {error}\n{}", event.name(), broker.last_words()))?;
            state.add(event.name(), 1);
            Ok(format!("{} {:.1} s", event.name(), took.as_secs_f64()))
        })?;
        state.add("acknowledged", seen.acknowledged);
        println!("  round {}: {}", number + 1, seen.text);
        Ok(())
    }
}

/// Lets it happen; how long until the broker served again.
fn strike(
    broker: &mut Broker,
    disk: &Loop,
    event: Event,
    files: &[String],
) -> Result<Duration, String> {
    match event {
        Event::Kill => {
            broker.kill()?;
            broker.restart()
        }
        Event::Stop => {
            broker.stop()?;
            broker.restart()
        }
        Event::PowerCut => {
            disk.cut()?;
            // It may have noticed that its disk is gone; other ends are not in order.
            if let Some(status) = broker.end().filter(|s| s.code() != Some(DISK)) {
                return Err(format!("the broker ended by itself with {status}"));
            }
            disk.back()?;
            broker.restart()
        }
        Event::FullDisk => {
            disk.fill()?;
            std::thread::sleep(Duration::from_secs(4));
            let still = broker.is_running();
            disk.free()?;
            still?;
            let freed = Instant::now();
            grows(files, &sizes(files), RESUMES)?;
            broker.is_running()?;
            Ok(freed.elapsed())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_understood() {
        let asked_of =
            |line: &str| asked(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let all = Asked {
            rounds: ROUNDS,
            cluster_rounds: CLUSTER_ROUNDS,
            seeds_end: SEEDS_END,
            hours: f64::INFINITY,
        };
        assert_eq!(asked_of(""), Ok(all));
        let some = Asked { rounds: 3, cluster_rounds: 2, seeds_end: 0, hours: 0.5 };
        assert_eq!(asked_of("--rounds 3 --cluster 2 --hours 0.5 --seeds 0"), Ok(some));
        assert_eq!(asked_of("--rounds"), Err(USAGE.to_owned()));
        assert_eq!(asked_of("--rounds x"), Err(USAGE.to_owned()));
    }

    #[test]
    fn a_second_call_goes_on() {
        let counts = counts_in("kill 4\nrounds 2\nnonsense\n");
        let state = State { file: PathBuf::new(), counts };
        assert_eq!((state.get("rounds"), state.get("seeds")), (2, 0));
        assert!(state.verdict(0.5).starts_with("soak: 2 rounds, 4 kills, 0 power cuts"));
    }
}
