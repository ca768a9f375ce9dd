//! One seed in this process: for the supervisor, and for people who look closer.

use std::io::IsTerminal as _;

use crate::cli::{OneArgs, ReplayArgs, USAGE, VIOLATION, plant};
use crate::decisions::Decisions;
use crate::harness;
use crate::report::RunReport;
use crate::scenario::{Fixed, Recording};

/// Runs one seed and prints its report as one line.
pub fn one(args: &OneArgs) -> u8 {
    if let Err(code) = plant(args.mutant.as_deref()) {
        return code;
    }
    let fixed = match args.setting.fixed() {
        Ok(fixed) => fixed,
        Err(error) => return wrong(&error),
    };
    let report = simulate(Decisions::new(args.seed), fixed, args.trace);
    match serde_json::to_string(&report) {
        Ok(line) => println!("{line}"),
        Err(error) => eprintln!("the report cannot be written: {error}"),
    }
    u8::from(report.violation.is_some())
}

fn wrong(error: &str) -> u8 {
    eprintln!("{error}");
    USAGE
}

/// Lines of a replay bear the time of the run.
struct SimulatedTime;

impl tracing_subscriber::fmt::time::FormatTime for SimulatedTime {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(w, "{:.6}", crate::exec::log_time().as_secs_f64())
    }
}

/// Runs one seed or tape with the product's log on stderr.
pub fn replay(args: &ReplayArgs) -> u8 {
    if let Err(code) = plant(args.mutant.as_deref()) {
        return code;
    }
    let (decisions, fixed) = match given(args) {
        Ok(given) => given,
        Err(error) => return wrong(&error),
    };
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_timer(SimulatedTime);
    log.with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).init();
    eprintln!("seed {}", decisions.seed());
    let report = simulate(decisions.clone(), fixed.clone(), false);
    if args.json {
        println!("{}", serde_json::to_string(&report).unwrap_or_default());
    } else {
        print(&report);
    }
    if let Some(path) = &args.tape {
        let recording = Recording { fixed, tape: decisions.tape() };
        if let Err(error) = std::fs::write(path, recording.encode()) {
            return wrong(&format!("cannot write {}: {error}", path.display()));
        }
    }
    if report.violation.is_some() { VIOLATION } else { 0 }
}

/// The choices that are asked for, and what is not chosen.
fn given(args: &ReplayArgs) -> Result<(Decisions, Fixed), String> {
    if let Ok(seed) = args.what.parse() {
        let fixed = args.setting.fixed()?;
        return Ok(match args.tape {
            Some(_) => (Decisions::recording(seed), fixed),
            None => (Decisions::new(seed), fixed),
        });
    }
    let read = std::fs::read(&args.what);
    let bytes = read.map_err(|error| format!("{} is no seed and no file: {error}", args.what))?;
    let Recording { fixed, tape } = Recording::decode(&bytes)
        .ok_or_else(|| format!("{} is no tape of this version of the simulator", args.what))?;
    Ok((Decisions::replaying(tape), fixed))
}

/// Runs on a thread of its own: what this thread hashed before must not show in the run.
fn simulate(decisions: Decisions, fixed: Fixed, keep_trace: bool) -> RunReport {
    let seed = decisions.seed();
    let run = std::thread::Builder::new()
        .stack_size(64 << 20)
        .spawn(move || harness::run(&decisions, &fixed, keep_trace));
    match run.map(std::thread::JoinHandle::join) {
        Ok(Ok(report)) => report,
        other => {
            let text =
                format!("the simulator itself failed: {:?}", other.map(|joined| joined.is_err()));
            RunReport { seed, violation: Some(("simulator".into(), text)), ..RunReport::default() }
        }
    }
}

fn print(report: &RunReport) {
    println!("seed {}: {}", report.seed, report.drawn);
    println!(
        "{:.1} simulated seconds ({} busy), {} operations ({} failed), {} events, {:.2} CPU seconds, hash {}",
        report.simulated_seconds,
        report.busy_seconds,
        report.operations,
        report.operations_failed,
        report.events,
        report.cpu_seconds,
        report.hash,
    );
    println!("faults {:?}", report.faults);
    println!("marks {:?}", report.marks);
    match &report.violation {
        Some((rule, text)) => println!("VIOLATION of {rule}: {text}"),
        None => println!("clean"),
    }
}
