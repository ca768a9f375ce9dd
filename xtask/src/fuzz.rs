//! `cargo xtask fuzz`: the bodies of `fuzz/`, guided by coverage.
//!
//! Needs nothing but the pinned toolchain and a C++ compiler: rustc's own pass counts coverage, and the engine is
//! compiled from source as a dependency. One program holds all bodies; it runs in slices of a minute, always of the body
//! that had the least so far. Under `target/fuzz` stand the minutes of each body, so that a second call goes on, and what
//! the engine added to the corpus. A minute is one of a processor, however long it took beside other work.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::shell;

const USAGE: &str = "usage: cargo xtask fuzz [BODY...] [--minutes N] [--jobs N]";
/// Core-minutes of a call that names none.
const MINUTES: f64 = 30.0;
/// Longest turn of one body, in seconds.
const SLICE: f64 = 60.0;
/// What the compiler is told: count edges and trace comparisons, as the engine reads them.
const FLAGS: &str = "--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

/// What a call was asked for.
#[derive(PartialEq, Debug)]
struct Asked {
    bodies: Vec<String>,
    minutes: f64,
    jobs: usize,
}

/// What is known while slices run.
struct Progress {
    file: PathBuf,
    /// Core-minutes of each body, over all calls.
    minutes: BTreeMap<String, f64>,
    running: BTreeSet<String>,
    findings: Vec<String>,
    /// Seconds of this call that no slice has taken yet.
    left: f64,
    /// Seconds of one slice.
    slice: f64,
}

/// Runs what `arguments` ask for.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let asked = asked(arguments)?;
    let binary = build(root)?;
    let base = target(root).join("fuzz");
    let known = bodies(&binary)?;
    if let Some(stranger) = asked.bodies.iter().find(|body| !known.contains(body)) {
        return Err(format!("no body `{stranger}`; there are: {}", known.join(" ")));
    }
    let chosen = if asked.bodies.is_empty() { known } else { asked.bodies.clone() };
    let file = base.join("minutes");
    let stood = fs::read_to_string(&file).unwrap_or_default();
    let progress = Mutex::new(Progress {
        minutes: minutes_in(&stood),
        file,
        running: BTreeSet::new(),
        findings: Vec::new(),
        left: asked.minutes * 60.0,
        slice: SLICE.min(asked.minutes * 60.0 / chosen.len() as f64).max(1.0),
    });
    std::thread::scope(|scope| {
        for _ in 0..asked.jobs {
            scope.spawn(|| {
                // A lock taken in the loop's own condition would be held through its body.
                let next = || lock(&progress).next(&chosen);
                while let Some((body, seconds)) = next() {
                    let mut taken = 0.0;
                    let result = slice(root, &base, &binary, &body, seconds, &mut taken);
                    lock(&progress).on_slice(&body, seconds, taken, result);
                }
            });
        }
    });
    let progress = progress.into_inner().unwrap_or_else(PoisonError::into_inner);
    for finding in &progress.findings {
        println!("{finding}");
    }
    let total: f64 = progress.minutes.values().sum();
    let (bodies, findings) = (chosen.len(), progress.findings.len());
    println!("fuzz: {total:.1} core-minutes, {bodies} bodies, {findings} findings");
    if findings == 0 { Ok(()) } else { Err(format!("{findings} findings")) }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Progress {
    /// The body whose turn it is, and for how many seconds. A body with a finding has no more turns in this call: it
    /// would find the same again.
    fn next(&mut self, chosen: &[String]) -> Option<(String, f64)> {
        if self.left < 1.0 {
            return None;
        }
        let done = |body: &String| self.minutes.get(body).copied().unwrap_or_default();
        let has_finding =
            |body: &str| self.findings.iter().any(|f| f.split(':').next() == Some(body));
        let waiting = chosen.iter().filter(|b| !self.running.contains(*b) && !has_finding(b));
        let body = waiting.min_by(|a, b| done(a).total_cmp(&done(b)))?.clone();
        let seconds = self.slice.min(self.left);
        self.left -= seconds;
        self.running.insert(body.clone());
        Some((body, seconds))
    }

    /// A slice has ended that was to take `seconds`, and has taken `taken` of a processor.
    fn on_slice(&mut self, body: &str, seconds: f64, taken: f64, result: Result<String, String>) {
        self.running.remove(body);
        self.left += (seconds - taken).max(0.0);
        *self.minutes.entry(body.to_owned()).or_default() += taken / 60.0;
        let lines = self.minutes.iter().map(|(body, minutes)| format!("{body} {minutes:.3}\n"));
        if let Err(error) = fs::write(&self.file, lines.collect::<String>()) {
            println!("{}: {error}", self.file.display());
        }
        let total: f64 = self.minutes.values().sum();
        let seen = result.unwrap_or_else(|finding| {
            self.findings.push(format!("{body}: {finding}"));
            "FINDING".to_owned()
        });
        println!("  {body}: {seen}; {total:.1} core-minutes in all");
    }
}

fn asked(arguments: &[String]) -> Result<Asked, String> {
    let mut asked = Asked { bodies: Vec::new(), minutes: MINUTES, jobs: 1 };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|n| n.parse().ok()).filter(|n: &f64| *n > 0.0);
        match word.as_str() {
            "--minutes" => asked.minutes = number().ok_or(USAGE)?,
            "--jobs" => asked.jobs = number().ok_or(USAGE)? as usize,
            flag if flag.starts_with('-') => return Err(USAGE.to_owned()),
            body => asked.bodies.push(body.to_owned()),
        }
    }
    Ok(asked)
}

fn minutes_in(text: &str) -> BTreeMap<String, f64> {
    let line = |line: &str| {
        let (body, minutes) = line.split_once(' ')?;
        Some((body.to_owned(), minutes.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from)
}

/// Builds the program; where it is.
fn build(root: &Path) -> Result<PathBuf, String> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    if !shell::exists(&compiler) {
        return Err(format!("no C++ compiler `{compiler}` (CXX names one): the engine needs it"));
    }
    let version = shell::output(&mut shell::command(root, "rustc", &["-vV"]))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or("rustc names no host")?;
    // With a target named, the flags leave build scripts and macros alone.
    let arguments =
        ["build", "--profile", "fuzz", "--package", "foretold-fuzz", "--bin", "body", "--target"];
    let mut cargo = shell::command(root, "cargo", &arguments);
    shell::run(cargo.arg(host).env("RUSTFLAGS", FLAGS))?;
    Ok(target(root).join(host).join("fuzz/body"))
}

/// The names of all bodies, as the program tells them when it is asked for none.
fn bodies(binary: &Path) -> Result<Vec<String>, String> {
    let output = Command::new(binary)
        .env("BODY", "")
        .output()
        .map_err(|error| format!("{}: {error}", binary.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let names = said.lines().find_map(|line| line.split_once("is none of: ")).map(|(_, n)| n);
    let names = names.ok_or_else(|| format!("{} names no bodies: {said}", binary.display()))?;
    Ok(names.split_whitespace().map(str::to_owned).collect())
}

/// Lets a body run: what was seen, or what was found. `taken` are the processor's seconds.
fn slice(
    root: &Path,
    base: &Path,
    binary: &Path,
    body: &str,
    seconds: f64,
    taken: &mut f64,
) -> Result<String, String> {
    let (seeds, corpus) = (base.join("seeds").join(body), base.join("corpus").join(body));
    let found = base.join("found").join(body);
    for dir in [&seeds, &corpus, &found] {
        fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    }
    let started = Instant::now();
    let failed = |error| format!("{}: {error}", binary.display());
    let mut child = Command::new(binary)
        .arg(format!("-max_total_time={}", seconds.ceil()))
        .args(["-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/", found.display()))
        .args([&corpus, &seeds])
        // The engine's own hook ends the process at the first panic, also where the simulator would catch it.
        .env("RUST_BACKTRACE", "1")
        .env("BODY", body)
        .env("SEEDS", &seeds)
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut said = Vec::new();
    child
        .stderr
        .take()
        .map(|mut stderr| stderr.read_to_end(&mut said))
        .transpose()
        .map_err(failed)?;
    // It has closed its output and is about to end, or has ended and not been waited for.
    *taken = processor_seconds(&child).unwrap_or(started.elapsed().as_secs_f64());
    let status = child.wait().map_err(failed)?;
    let said = String::from_utf8_lossy(&said);
    let stat = |name: &str| said.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("?").trim();
    if status.success() {
        return Ok(format!("{} runs", stat("stat::number_of_executed_units:")));
    }
    let panicked = said.lines().position(|line| line.contains("panicked at"));
    let tail = said.lines().skip(panicked.unwrap_or_default());
    let tail: Vec<&str> =
        if panicked.is_some() { tail.take(3).collect() } else { last(tail.collect(), 12) };
    let mut kept = Vec::new();
    for entry in fs::read_dir(&found).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if ["crash-", "timeout-", "oom-"].iter().any(|kind| name.starts_with(kind)) {
            let place = root.join("fuzz/findings").join(body);
            let moved = fs::create_dir_all(&place)
                .and_then(|()| fs::copy(entry.path(), place.join(&name)))
                .and_then(|_| fs::remove_file(entry.path()));
            moved.map_err(|error| format!("{}: {error}", place.display()))?;
            kept.push(format!("fuzz/findings/{body}/{name}"));
        }
    }
    Err(format!("{}; {}\n{}", status, kept.join(" "), tail.join("\n")))
}

/// What a process has used of the processors; `None` where the system does not say.
fn processor_seconds(child: &Child) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).ok()?;
    seconds_in(&stat)
}

/// The sum of `utime` and `stime` in a line of proc(5), which has ticks of 10 ms.
fn seconds_in(stat: &str) -> Option<f64> {
    // The second field is a name in parentheses, which may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>);
    let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    Some((user + system) as f64 / 100.0)
}

fn last(mut lines: Vec<&str>, count: usize) -> Vec<&str> {
    lines.split_off(lines.len().saturating_sub(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_fuzzed_body_has_its_turn() {
        let mut progress = Progress {
            file: PathBuf::new(),
            minutes: minutes_in("a 2.5\nb 0.5\nnonsense\n"),
            running: BTreeSet::new(),
            findings: vec!["d: signal; x".to_owned()],
            left: 100.0,
            slice: SLICE,
        };
        let chosen = ["a", "b", "c", "d"].map(str::to_owned);
        assert_eq!(progress.next(&chosen), Some(("c".to_owned(), 60.0)));
        assert_eq!(progress.next(&chosen), Some(("b".to_owned(), 40.0)));
        assert_eq!(progress.next(&chosen), None, "the time is used up");
    }

    #[test]
    fn a_minute_is_one_of_a_processor() {
        let stat = "7 (a b) c) R 1 7 7 0 -1 4194304 1 2 3 4 5930 61 0 0 39 19 1 0 99 0";
        assert_eq!(seconds_in(stat), Some(59.91));
        assert_eq!(seconds_in("nonsense"), None);
        let mut progress = Progress {
            file: PathBuf::from("/dev/null"),
            minutes: BTreeMap::new(),
            running: BTreeSet::new(),
            findings: Vec::new(),
            left: 0.0,
            slice: SLICE,
        };
        progress.on_slice("a", 60.0, 15.0, Ok("1 runs".to_owned()));
        assert_eq!((progress.left, progress.minutes["a"]), (45.0, 0.25));
    }

    #[test]
    fn bodies_minutes_and_jobs_are_understood() {
        let asked_of =
            |line: &str| asked(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let asked = Asked { bodies: vec!["a".to_owned(), "b".to_owned()], minutes: 1.5, jobs: 2 };
        assert_eq!(asked_of("a --minutes 1.5 b --jobs 2"), Ok(asked));
        assert_eq!(asked_of("--minutes"), Err(USAGE.to_owned()));
        assert_eq!(asked_of("--minuts 3"), Err(USAGE.to_owned()));
    }
}
