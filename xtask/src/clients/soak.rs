//! `cargo xtask soak`: hours of everything at once. Each round writes by clients of three languages into one topic and reads it
//! by one group of all three, while the broker is killed, stopped, cut from power and left without disk space, and other
//! topics come, are retained and go. The account is exact: what was acknowledged was received, once, at one place. Between
//! rounds the simulator goes on with the seeds that CI leaves out.
//!
//! What was done stands in `target/soak/state`: a second call goes on.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::broker::Broker;
use super::tools::Tools;
use crate::ci::SEEDS;
use crate::shell;

const USAGE: &str = "usage: cargo xtask soak [--rounds N] [--hours N] [--seeds END]";
/// Rounds, and the end of the seeds, when nothing else is said.
const ROUNDS: u64 = 100;
const SEEDS_END: u64 = 10_000;
/// Seeds between two rounds.
const SEEDS_AT_ONCE: u64 = 100;
/// CI runs each of its seeds twice; here more seeds are worth more than more repetitions.
const TWICE_EVERY: &str = "8";
/// The broker's file system: small, so that it is soon full.
const DISK_MEGABYTES: &str = "1536";
/// The exit code of a broker whose disk failed.
const DISK: i32 = 5;
/// How soon clients must be served again once there is space.
const RESUMES: Duration = Duration::from_secs(30);
/// How soon each language must have begun.
const BEGINS: Duration = Duration::from_secs(180);
const LANGUAGES: [&str; 3] = ["python", "java", "rust"];

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
             acknowledged, all received once; seeds {SEEDS}..{} clean; {hours:.2} h in this call",
            of("rounds"),
            of("kill"),
            of("power-cut"),
            of("full-disk"),
            of("stop"),
            of("acknowledged"),
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
    let mut asked = Asked { rounds: ROUNDS, seeds_end: SEEDS_END, hours: f64::INFINITY };
    for pair in arguments.chunks(2) {
        let [flag, value] = pair else { return Err(USAGE.to_owned()) };
        let number: f64 = value.parse().map_err(|_| USAGE)?;
        match flag.as_str() {
            "--rounds" => asked.rounds = number as u64,
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
    let last = state.get("rounds") + asked.rounds;
    let mut stage =
        if asked.rounds > 0 { Some(Stage::prepare(root, state.get("rounds"))?) } else { None };
    loop {
        let (mut is_idle, is_time_left) = (true, hours() < asked.hours);
        if let Some(stage) = &mut stage
            && state.get("rounds") < last
            && is_time_left
        {
            stage.round(&mut state)?;
            state.add("rounds", 1);
            state.save()?;
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
    if let Some(stage) = &mut stage {
        stage.broker.stop()?;
    }
    println!("{}", state.verdict(hours()));
    Ok(())
}

/// A broker on a file system of its own.
struct Stage {
    broker: Broker,
    disk: Loop,
    tools: Tools,
    binary: PathBuf,
    /// The topic of the round before, and the files with what was acknowledged in it: what one round spared a later one
    /// may have taken.
    before: Option<(String, Vec<String>)>,
}

/// A file system on a loop device, unmounted at the end.
struct Loop {
    python: PathBuf,
    program: PathBuf,
    mount: PathBuf,
}

impl Loop {
    fn power(&self, what: &str) -> Result<(), String> {
        let mut command = Command::new(&self.python);
        command.arg(&self.program).arg(what).arg(&self.mount);
        shell::output(command.arg(DISK_MEGABYTES)).map(drop)
    }

    /// Takes every block that is left.
    fn fill(&self) -> Result<(), String> {
        let mut file =
            fs::File::create(self.mount.join("filler")).map_err(|error| error.to_string())?;
        for block in [1 << 20, 4096] {
            let zeros = vec![0; block];
            while file.write_all(&zeros).and_then(|()| file.sync_data()).is_ok() {}
        }
        Ok(())
    }

    fn free(&self) -> Result<(), String> {
        fs::remove_file(self.mount.join("filler")).map_err(|error| error.to_string())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Err(error) = self.power("down") {
            println!("  {error}");
        }
    }
}

/// A client that runs until its standard input closes.
struct Running {
    what: String,
    child: Child,
    complaints: PathBuf,
}

impl Running {
    /// What it prints may be read when it is over; what it complains of goes to `complaints`.
    fn start(what: String, command: &mut Command, complaints: &Path) -> Result<Running, String> {
        let file = fs::OpenOptions::new().create(true).append(true).open(complaints);
        let child = file
            .and_then(|file| {
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file).spawn()
            })
            .map_err(|error| format!("{what}: {error}"))?;
        Ok(Running { what, child, complaints: complaints.to_owned() })
    }

    /// The end of what it complained of.
    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.complaints).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    /// An error if it is over: nothing that happens to the broker may end a client.
    fn check(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            ended => {
                let words = self.last_words();
                Err(format!("{}: ended by itself, {ended:?}\n{words}", self.what))
            }
        }
    }

    /// Lets it end, and waits for it; what it printed.
    fn end(&mut self, limit: Duration) -> Result<String, String> {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + limit;
        loop {
            match self.child.try_wait().map_err(|error| error.to_string())? {
                Some(status) => {
                    let mut text = String::new();
                    if let Some(mut stdout) = self.child.stdout.take() {
                        std::io::Read::read_to_string(&mut stdout, &mut text)
                            .map_err(|error| error.to_string())?;
                    }
                    let said = format!("{}: {status} {text}\n{}", self.what, self.last_words());
                    return if status.success() { Ok(text) } else { Err(said) };
                }
                None if Instant::now() > deadline => {
                    return Err(format!("{}: did not end within {limit:?}", self.what));
                }
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stage {
    fn prepare(root: &Path, rounds: u64) -> Result<Stage, String> {
        let binary = super::build(root)?;
        let tools = Tools::prepare(root)?;
        tools.compile_java("Soak.java")?;
        let disk = Loop {
            python: tools.python.clone(),
            program: tools.programs.join("powercut.py"),
            mount: tools.work.join("disk"),
        };
        disk.power("up").map_err(|error| format!("no loop-mounted file system here: {error}"))?;
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
        let data = disk.mount.join("data");
        let broker = Broker::start_with_log(&binary, &data, &log, &settings)?;
        Ok(Stage { broker, disk, tools, binary, before: None })
    }

    fn path(&self, name: &str) -> String {
        self.tools.work.join(name).display().to_string()
    }

    fn complaints(&self) -> PathBuf {
        self.tools.work.join("clients.stderr")
    }

    /// A part of the round in the language named.
    fn part(&self, language: &str, words: &[&str]) -> Command {
        if language != "java" {
            return self.tools.python("soak.py", words);
        }
        self.tools.java("Soak", words)
    }

    fn senders(&self, topic: &str, round: u64) -> Result<Vec<Running>, String> {
        let (boot, binary) = (self.broker.bootstrap(), self.binary.display().to_string());
        let sender = |(number, language): (usize, &&str)| {
            let first = (number as u64 + 1) * 1_000_000_000_000 + round * 100_000_000;
            let (first, file) = (first.to_string(), self.acked(topic, language));
            let send = if *language == "rust" { "send-own" } else { "send" };
            let mut words = vec![send, &boot, topic, &first, &file];
            if *language == "rust" {
                words.push(&binary);
            }
            let what = format!("{language} writes {topic}");
            Running::start(what, &mut self.part(language, &words), &self.complaints())
        };
        LANGUAGES.iter().enumerate().map(sender).collect()
    }

    /// The members of one group.
    fn readers(&self, topic: &str) -> Result<Vec<Running>, String> {
        let boot = self.broker.bootstrap();
        let reader = |language: &&str| {
            let (what, file) = (format!("{language} reads {topic}"), self.read(topic, language));
            if *language != "rust" {
                let words = ["read", &boot, topic, topic, &file];
                return Running::start(what, &mut self.part(language, &words), &self.complaints());
            }
            let out = fs::File::create(&file).map_err(|error| error.to_string())?;
            let mut command = Command::new(&self.binary);
            command.args(["consume", topic, "--group", topic, "--from", "earliest", "--json"]);
            command.args(["--bootstrap", &boot, "--timeout", "600"]);
            let child = command
                .stdin(Stdio::null())
                .stdout(out)
                .stderr(Stdio::null())
                .spawn()
                .map_err(|error| format!("{what}: {error}"))?;
            Ok(Running { what, child, complaints: self.complaints() })
        };
        LANGUAGES.iter().map(reader).collect()
    }

    fn acked(&self, topic: &str, language: &str) -> String {
        self.path(&format!("{topic}-{language}.acked"))
    }

    fn read(&self, topic: &str, language: &str) -> String {
        self.path(&format!("{topic}-{language}.read"))
    }

    fn round(&mut self, state: &mut State) -> Result<(), String> {
        let number = state.get("rounds");
        let started = Instant::now();
        let topic = format!("soak-{number}");
        self.own(&["topic", "create", &topic, "--partitions", "6"])?;
        let mut senders = self.senders(&topic, number)?;
        let mut readers = self.readers(&topic)?;
        let boot = self.broker.bootstrap();
        let churn = ["churn", &boot, &format!("churn-{number}")];
        let mut churn = self.part("python", &churn);
        let mut churn = Running::start("churn".to_owned(), &mut churn, &self.complaints())?;
        let files: Vec<String> = LANGUAGES.iter().map(|of| self.acked(&topic, of)).collect();
        // A round in which a language acknowledges nothing would promise nothing.
        grows(&files, &sizes(&[]), BEGINS)?;
        let mut seen = Vec::new();
        for step in 0..EVENTS.len() {
            let event = EVENTS[(step + number as usize) % EVENTS.len()];
            // The moment differs from event to event; it must not follow the clients' rhythm.
            let pause = 1500 + (number * 977 + step as u64 * 373) % 2500;
            std::thread::sleep(Duration::from_millis(pause));
            let took = self.strike(event, &files).map_err(|error| self.explained(event, &error))?;
            seen.push(format!("{} {:.1} s", event.name(), took.as_secs_f64()));
            state.add(event.name(), 1);
            senders.iter_mut().chain(&mut readers).try_for_each(Running::check)?;
        }
        std::thread::sleep(Duration::from_secs(2));
        for sender in &mut senders {
            sender.end(Duration::from_secs(180))?;
        }
        let churned = churn.end(Duration::from_secs(180))?;
        let reads: Vec<String> = LANGUAGES.iter().map(|of| self.read(&topic, of)).collect();
        let account = self.account(&files, &reads)?;
        for reader in readers.iter_mut().filter(|reader| !reader.what.starts_with("rust")) {
            reader.end(Duration::from_secs(60))?;
        }
        drop(readers);
        if let Some((topic, files)) = self.before.take() {
            let words = [&["reread", &boot, &topic][..], &texts(&files)].concat();
            shell::output(&mut self.part("python", &words))?;
            self.own(&["topic", "delete", &topic])?;
            files.iter().for_each(|file| drop(fs::remove_file(file)));
        }
        reads.iter().for_each(|file| drop(fs::remove_file(file)));
        state.add("acknowledged", account["acknowledged"].as_u64().unwrap_or_default());
        println!(
            "  round {}: {}; {} acknowledged, {} received by one group in three languages, none lost, none twice; \
             topics {} ({:.0} s)",
            number + 1,
            seen.join(", "),
            account["acknowledged"],
            account["received"],
            churned.trim(),
            started.elapsed().as_secs_f64()
        );
        self.before = Some((topic, files));
        Ok(())
    }

    /// What became of everything acknowledged; an error if anything is lost, or anywhere twice.
    fn account(&self, acked: &[String], reads: &[String]) -> Result<Value, String> {
        let words = [&["account", "120"][..], &texts(acked), &["--"], &texts(reads)].concat();
        let text = shell::output(&mut self.part("python", &words))?;
        serde_json::from_str(text.trim()).map_err(|error| format!("{text}: {error}"))
    }

    fn own(&self, words: &[&str]) -> Result<String, String> {
        let boot = self.broker.bootstrap();
        let words = [words, &["--bootstrap", &boot, "--timeout", "30"]].concat();
        shell::output(Command::new(&self.binary).args(words))
    }

    fn explained(&self, event: Event, error: &str) -> String {
        format!("{}: {error}\n{}", event.name(), self.broker.last_words())
    }

    /// Lets it happen; how long until the broker served again.
    fn strike(&mut self, event: Event, files: &[String]) -> Result<Duration, String> {
        match event {
            Event::Kill => {
                self.broker.kill()?;
                self.broker.restart()
            }
            Event::Stop => {
                self.broker.stop()?;
                self.broker.restart()
            }
            Event::PowerCut => {
                self.disk.power("cut")?;
                // It may have noticed that its disk is gone; other ends are not in order.
                if let Some(status) = self.broker.end().filter(|s| s.code() != Some(DISK)) {
                    return Err(format!("the broker ended by itself with {status}"));
                }
                self.disk.power("back")?;
                self.broker.restart()
            }
            Event::FullDisk => {
                self.disk.fill()?;
                std::thread::sleep(Duration::from_secs(4));
                let still = self.broker.is_running();
                self.disk.free()?;
                still?;
                let freed = Instant::now();
                grows(files, &sizes(files), RESUMES)?;
                self.broker.is_running()?;
                Ok(freed.elapsed())
            }
        }
    }
}

fn texts(of: &[String]) -> Vec<&str> {
    of.iter().map(String::as_str).collect()
}

/// Bytes of files, which may not be there yet.
fn sizes(files: &[String]) -> Vec<u64> {
    files.iter().map(|path| fs::metadata(path).map_or(0, |metadata| metadata.len())).collect()
}

/// Waits until every file is larger than it was.
fn grows(files: &[String], before: &[u64], limit: Duration) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    loop {
        let now = sizes(files);
        let grown = |at: usize| now[at] > before.get(at).copied().unwrap_or_default();
        match (0..files.len()).find(|at| !grown(*at)) {
            None => return Ok(()),
            Some(at) if Instant::now() > deadline => {
                return Err(format!("nothing is acknowledged within {limit:?}: {}", files[at]));
            }
            Some(_) => std::thread::sleep(Duration::from_millis(100)),
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
        let all = Asked { rounds: ROUNDS, seeds_end: SEEDS_END, hours: f64::INFINITY };
        assert_eq!(asked_of(""), Ok(all));
        let some = Asked { rounds: 3, seeds_end: 0, hours: 0.5 };
        assert_eq!(asked_of("--rounds 3 --hours 0.5 --seeds 0"), Ok(some));
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
