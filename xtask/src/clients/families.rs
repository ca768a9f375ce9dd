//! Client families: one program for each lives through the story of `xtask/clients/families/README.md` against one broker,
//! all at once; when all of them produce and consume without end, the broker is killed under them.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::broker::Broker;
use super::tools::Tools;
use crate::shell;

/// What a family's program is written in, and what of it differs between families.
enum Kind {
    /// Version of Apache Kafka's client.
    Java(&'static str),
    /// Module that wraps the client.
    Python(&'static str),
    Go,
    Node,
    Rust,
}

/// A family and how its program is made.
struct Family {
    name: &'static str,
    kind: Kind,
}

const FAMILIES: &[Family] = &[
    Family { name: "java-4", kind: Kind::Java("4.3.1") },
    Family { name: "java-3", kind: Kind::Java("3.9.1") },
    Family { name: "librdkafka", kind: Kind::Python("librdkafka") },
    Family { name: "kafka-python", kind: Kind::Python("kafka_python") },
    Family { name: "aiokafka", kind: Kind::Python("aio") },
    Family { name: "confluent-kafka-go", kind: Kind::Go },
    Family { name: "franz-go", kind: Kind::Go },
    Family { name: "kafka-go", kind: Kind::Go },
    Family { name: "sarama", kind: Kind::Go },
    Family { name: "kafkajs", kind: Kind::Node },
    Family { name: "rust-rdkafka", kind: Kind::Rust },
];

/// Members do not wait for others that might still come.
const SETTINGS: &[&str] = &["group.initial.rebalance.delay.ms=0", "offsets.topic.num.partitions=8"];
const KILLS: u32 = 3;
/// How long the broker serves between kills, and after the last before the families are told that it stays.
const UP: Duration = Duration::from_millis(1500);
/// For everything once the programs are built. They take half a minute; the waits within them end before this.
const LIMIT: Duration = Duration::from_secs(300);

/// The names that [`run`] takes.
pub fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|family| family.name)
}

/// Runs the family named, or all; what was seen.
pub fn run(tools: &Tools, binary: &Path, named: Option<&str>) -> Result<String, String> {
    let chosen = FAMILIES.iter().filter(|family| named.is_none_or(|name| family.name == name));
    let mut commands = Vec::new();
    let mut skipped = 0;
    let started = Instant::now();
    for family in chosen {
        match missing(family) {
            Some(program) => {
                skipped += 1;
                super::skip(&format!("{}: `{program}` is not on this machine", family.name))?;
            }
            None => commands.push((family.name, prepare(tools, family)?)),
        }
    }
    println!("  programs ready after {:.0} s", started.elapsed().as_secs_f64());
    let mut broker = Broker::start(binary, &tools.work.join("families-data"), SETTINGS)?;
    let mut story = Story::begin(tools, &broker.bootstrap(), commands)?;
    let deadline = Instant::now() + LIMIT;
    story.until(deadline, |told| told.waits)?;
    if story.told.iter().any(|told| told.waits && told.ended.is_none()) {
        for _ in 0..KILLS {
            std::thread::sleep(UP);
            broker.kill()?;
            broker.restart()?;
        }
        std::thread::sleep(UP);
        story.calm();
        story.until(deadline, |told| told.ended.is_some())?;
    }
    let faults = story.end();
    broker.stop()?;
    let passed = story.told.len() - faults.len();
    if faults.is_empty() {
        Ok(format!("{passed} families passed, {skipped} skipped, {KILLS} kills"))
    } else {
        Err(format!("{passed} passed, {skipped} skipped\n{}", faults.join("\n")))
    }
}

/// A program that the family wants and this machine lacks.
fn missing(family: &Family) -> Option<&'static str> {
    let wanted: &[&str] = match family.kind {
        Kind::Java(_) => &["javac", "java", "mvn"],
        Kind::Python(_) => &["python3"],
        // confluent-kafka-go links librdkafka.
        Kind::Go if family.name == "confluent-kafka-go" => &["go", "cc"],
        Kind::Go => &["go"],
        Kind::Node => &["node", "npm"],
        Kind::Rust => &["cargo", "cc", "make"],
    };
    wanted.iter().find(|program| !shell::exists(program)).copied()
}

/// Fetches and builds what is not there yet; the command that wants only the address.
fn prepare(tools: &Tools, family: &Family) -> Result<Command, String> {
    let sources = tools.programs.join("families");
    let base = tools.base.join("families");
    let mut command = match family.kind {
        Kind::Java(version) => java(&sources.join("java"), &base.join(family.name), version)?,
        Kind::Python(module) => {
            let mut command = Command::new(&tools.python);
            command.arg(sources.join("python/family.py")).arg(module);
            command
        }
        Kind::Go => {
            let program = base.join("go");
            let mut build = shell::command(&sources.join("go"), "go", &["build", "-o"]);
            shell::output(build.arg(&program).arg("."))?;
            Command::new(program)
        }
        Kind::Node => node(&sources.join("kafkajs"), &base.join("kafkajs"))?,
        Kind::Rust => {
            let target = base.join("rust-rdkafka");
            let crate_dir = sources.join("rust-rdkafka");
            let mut build =
                shell::command(&crate_dir, "cargo", &["build", "--release", "--locked", "--quiet"]);
            shell::output(build.env("CARGO_TARGET_DIR", &target))?;
            Command::new(target.join("release/family"))
        }
    };
    if matches!(family.kind, Kind::Java(_) | Kind::Go) {
        command.arg(family.name);
    }
    command.current_dir(&tools.work);
    Ok(command)
}

/// Apache Kafka's client in one version, and our program compiled against it.
fn java(sources: &Path, place: &Path, version: &str) -> Result<Command, String> {
    let classes = place.join("classes");
    once(place, &[&sources.join("Family.java"), &sources.join("pom.xml")], || {
        let mut fetch = shell::command(place, "mvn", &["-q", "-B", "dependency:copy-dependencies"]);
        fetch.arg("-f").arg(sources.join("pom.xml"));
        fetch.arg(format!("-Dkafka.version={version}"));
        fetch.arg(format!("-DoutputDirectory={}", place.join("jars").display()));
        shell::output(&mut fetch)?;
        // Apache's 4.x warns of calls that 3.x has no other for.
        let mut compile =
            shell::command(place, "javac", &["-Xlint:-removal", "-cp", "jars/*", "-d"]);
        shell::output(compile.arg(&classes).arg(sources.join("Family.java"))).map(drop)
    })?;
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp"]);
    command.arg(format!("{}:{}/jars/*", classes.display(), place.display())).arg("Family");
    Ok(command)
}

/// KafkaJS beside a copy of our program, where Node looks for it.
fn node(sources: &Path, place: &Path) -> Result<Command, String> {
    let files = ["package.json", "package-lock.json", "family.js"].map(|name| sources.join(name));
    once(place, &files.each_ref().map(PathBuf::as_path), || {
        for file in &files {
            let name = file.file_name().ok_or("a file has a name")?;
            fs::copy(file, place.join(name)).map_err(|error| error.to_string())?;
        }
        shell::output(&mut shell::command(place, "npm", &["ci", "--no-audit", "--no-fund"]))
            .map(drop)
    })?;
    let mut command = Command::new("node");
    command.arg(place.join("family.js"));
    Ok(command)
}

/// Makes `place` anew with `make`, unless it was made from the same sources before.
fn once(
    place: &Path,
    sources: &[&Path],
    make: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let mut text = String::new();
    for source in sources {
        text += &fs::read_to_string(source).map_err(|e| format!("{}: {e}", source.display()))?;
    }
    let stamp = place.join("made-from");
    if fs::read_to_string(&stamp).is_ok_and(|before| before == text) {
        return Ok(());
    }
    fs::create_dir_all(place).map_err(|error| error.to_string())?;
    make()?;
    fs::write(&stamp, text).map_err(|error| error.to_string())
}

/// What one family has told so far.
struct Told {
    name: &'static str,
    child: Child,
    stdin: Option<ChildStdin>,
    started: Instant,
    errors: PathBuf,
    /// It produces and consumes until the broker stays up.
    waits: bool,
    /// Its last line, and after how long.
    ended: Option<(String, Duration)>,
    last: String,
}

/// All families that run, and what they say.
struct Story {
    told: Vec<Told>,
    lines: Receiver<(usize, Option<String>)>,
}

impl Story {
    fn begin(
        tools: &Tools,
        bootstrap: &str,
        commands: Vec<(&'static str, Command)>,
    ) -> Result<Story, String> {
        let (sender, lines) = channel();
        let mut story = Story { told: Vec::new(), lines };
        for (index, (name, mut command)) in commands.into_iter().enumerate() {
            let errors = tools.work.join(format!("family-{name}.stderr"));
            let log = fs::File::create(&errors).map_err(|error| error.to_string())?;
            command.arg(bootstrap).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
            let mut child = command.spawn().map_err(|error| format!("{name}: {error}"))?;
            let stdin = child.stdin.take();
            pass_on(index, &mut child, sender.clone())?;
            story.told.push(Told {
                name,
                child,
                stdin,
                started: Instant::now(),
                errors,
                waits: false,
                ended: None,
                last: String::new(),
            });
        }
        Ok(story)
    }

    /// Listens until `reached` holds of every family that has not ended.
    fn until(&mut self, deadline: Instant, reached: impl Fn(&Told) -> bool) -> Result<(), String> {
        while self.told.iter().any(|told| told.ended.is_none() && !reached(told)) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok((index, line)) => self.told[index].hear(line),
                // Whoever has not ended is told of by `end`.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok(())
    }

    /// Tells all that the broker stays up.
    fn calm(&mut self) {
        for told in &mut self.told {
            if let Some(stdin) = &mut told.stdin {
                // One that has ended does not listen.
                let _ = stdin.write_all(b"calm\n");
            }
        }
    }

    /// Ends what still runs, prints a verdict each, and returns the faults.
    fn end(&mut self) -> Vec<String> {
        let mut faults = Vec::new();
        for told in &mut self.told {
            let _ = told.child.kill();
            let _ = told.child.wait();
            match &told.ended {
                Some((line, after)) if line.starts_with("ok ") => {
                    println!("  {}: {line} ({:.0} s)", told.name, after.as_secs_f64());
                }
                ended => {
                    let line = ended.as_ref().map_or("did not end in time", |(line, _)| line);
                    let said = fs::read_to_string(&told.errors).unwrap_or_default();
                    let tail: Vec<&str> = said.lines().rev().take(12).collect();
                    let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n    ");
                    println!("  {}: {line}", told.name);
                    faults.push(format!("{}: {line}\n    {tail}", told.name));
                }
            }
        }
        faults
    }
}

impl Told {
    /// One line of the program; `None`: it has ended.
    fn hear(&mut self, line: Option<String>) {
        match line {
            Some(line) if line == "failures" => self.waits = true,
            Some(line) => self.last = line,
            None => self.ended = Some((std::mem::take(&mut self.last), self.started.elapsed())),
        }
    }
}

/// Sends the lines of a child's output, and that it ended.
fn pass_on(
    index: usize,
    child: &mut Child,
    sender: Sender<(usize, Option<String>)>,
) -> Result<(), String> {
    let stdout = child.stdout.take().ok_or("no stdout")?;
    std::thread::spawn(move || {
        let lines = BufReader::new(stdout).lines().map_while(Result::ok).map(Some);
        for line in lines.chain([None]) {
            if sender.send((index, line)).is_err() {
                break;
            }
        }
    });
    Ok(())
}
