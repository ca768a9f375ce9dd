//! `run` and `meta`: ranges of seeds, each twice or, in long sweeps, every so many-th.

use std::time::{Duration, Instant};

use crate::cli::progress::Progress;
use crate::cli::summary::{Finding, Gathering, Hits, Summary};
use crate::cli::supervisor::{Plan, run_all};
use crate::cli::{RunArgs, USAGE, VIOLATION};
use crate::exec::EVENTS_PER_MARK;
use crate::report::RunReport;

/// One seed's runs: the second is there to be the same.
struct Runs {
    first: Result<RunReport, String>,
    second: Option<Result<RunReport, String>>,
}

/// Runs seeds; exit code.
pub fn run(args: &RunArgs) -> u8 {
    let plan = match Plan::new(&args.setting) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("{error}");
            return USAGE;
        }
    };
    let summary = execute(args, &plan, args.twice_every);
    Hits::add(&summary);
    if args.json {
        println!("{}", serde_json::to_string(&summary).unwrap_or_default());
    } else {
        print(&summary, args.twice_every);
    }
    if summary.findings.is_empty() { 0 } else { VIOLATION }
}

/// Runs seeds with their traces and shows where two runs part; exit code.
pub fn meta(args: &RunArgs) -> u8 {
    let plan = match Plan::new(&args.setting) {
        Ok(plan) => Plan { trace: true, ..plan },
        Err(error) => {
            eprintln!("{error}");
            return USAGE;
        }
    };
    let summary = execute(args, &plan, 1);
    let parted: Vec<_> = summary.findings.iter().filter(|f| f.rule == "determinism").collect();
    if args.json {
        println!("{}", serde_json::to_string(&parted).unwrap_or_default());
    } else if parted.is_empty() {
        println!("{} seeds, each run twice: all traces are equal", summary.seeds);
    } else {
        parted.iter().for_each(|finding| println!("seed {}: {}", finding.seed, finding.text));
    }
    if parted.is_empty() { 0 } else { VIOLATION }
}

fn execute(args: &RunArgs, plan: &Plan, twice_every: u64) -> Summary {
    let mut seeds = seeds(args);
    let length = match (args.seed, &args.seeds, args.r#for) {
        (Some(_), ..) => Some(1),
        (_, Some(range), _) => Some(range.end - range.start),
        (.., Some(_)) => None,
        _ => Some(100),
    };
    let progress = Progress::new(length);
    let started = Instant::now();
    let mut gathering = Gathering::default();
    run_all(
        args.jobs,
        || seeds.next(),
        |seed| Runs {
            first: plan.run(seed),
            second: seed.is_multiple_of(twice_every).then(|| plan.run(seed)),
        },
        |seed, runs: Runs| {
            let findings = judge(seed, plan, &runs);
            if let Runs { first: Ok(report), .. } | Runs { second: Some(Ok(report)), .. } = &runs {
                gathering.add(report);
            }
            let clean = findings.is_empty();
            for finding in findings {
                progress.line(&format!("seed {seed} breaks {}: {}", finding.rule, finding.text));
                progress.line(&format!("  replay: {}", finding.replay));
                gathering.summary.findings.push(finding);
            }
            progress.show(&gathering.summary, started.elapsed());
            clean || args.keep_going
        },
    );
    progress.end();
    gathering.finish(started.elapsed())
}

fn judge(seed: u64, plan: &Plan, runs: &Runs) -> Vec<Finding> {
    let replay = replay(seed, plan);
    let finding = |rule: &str, text: String| Finding {
        seed,
        rule: rule.to_owned(),
        text,
        replay: replay.clone(),
    };
    let (first, second) = match (&runs.first, &runs.second) {
        (Err(text), _) | (_, Some(Err(text))) => return vec![finding("process", text.clone())],
        (Ok(first), Some(Ok(second))) => (first, second),
        (Ok(first), None) => (first, first),
    };
    let mut findings = Vec::new();
    if let Some((rule, text)) = &first.violation {
        findings.push(finding(rule, text.clone()));
    }
    if (&first.hash, first.events, &first.violation)
        != (&second.hash, second.events, &second.violation)
    {
        findings.push(finding("determinism", difference(first, second)));
    }
    findings
}

/// Where two runs part, as exactly as the kept hashes tell.
fn difference(first: &RunReport, second: &RunReport) -> String {
    let (a, b) = (&first.marks_of_trace, &second.marks_of_trace);
    if a.is_empty() {
        return format!(
            "two runs differ ({} and {} events); `meta --seed {}` finds where",
            first.events, second.events, first.seed
        );
    }
    // Hashes roll: once different, always different. Bisect.
    let (mut same, mut parted) = (0, a.len().min(b.len()));
    while same < parted {
        let middle = (same + parted) / 2;
        if a[middle] == b[middle] { same = middle + 1 } else { parted = middle }
    }
    let from = same as u64 * EVENTS_PER_MARK;
    format!("two runs part between event {from} and event {}", from + EVENTS_PER_MARK)
}

fn replay(seed: u64, plan: &Plan) -> String {
    let setting: String =
        plan.setting.arguments().iter().map(|argument| format!(" {argument}")).collect();
    let commit = commit().map_or(String::new(), |commit| format!("  # at {commit}"));
    format!("cargo sim replay {seed}{setting}{commit}")
}

/// The commit that is checked out, if this is a repository.
pub fn commit() -> Option<String> {
    let output = std::process::Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

fn seeds(args: &RunArgs) -> Box<dyn Iterator<Item = u64> + Send> {
    match (args.seed, &args.seeds, args.r#for) {
        (Some(seed), ..) => Box::new(std::iter::once(seed)),
        (_, Some(range), _) => Box::new(range.clone()),
        (.., Some(time)) => Box::new(timed(time)),
        _ => Box::new(0..100),
    }
}

/// Half of the seeds are always the same, half follow from the commit.
fn timed(time: Duration) -> impl Iterator<Item = u64> + Send {
    let started = Instant::now();
    let commit = commit().and_then(|commit| u64::from_str_radix(&commit, 16).ok()).unwrap_or(1);
    (0..)
        .map(
            move |n: u64| {
                if n.is_multiple_of(2) { n / 2 } else { (commit << 16).wrapping_add(n / 2) }
            },
        )
        .take_while(move |_| started.elapsed() < time)
}

fn print(summary: &Summary, twice_every: u64) {
    let which = if twice_every == 1 { "each" } else { &format!("every {twice_every}th") };
    println!(
        "{} seeds, {which} twice, in {:.1} s: {:.2} seeds/s, {:.0} simulated seconds per CPU second",
        summary.seeds, summary.seconds, summary.seeds_per_second, summary.simulated_per_real
    );
    println!(
        "median run: {} busy simulated seconds, {} operations, {} faults, {:.2} CPU seconds",
        summary.busy_seconds_median,
        summary.operations_median,
        summary.faults_median,
        summary.cpu_seconds_median
    );
    println!("scenarios {:?}", summary.scenarios);
    println!("faults {:?}", summary.faults);
    println!("marks {:?}", summary.marks);
    match summary.findings.len() {
        0 => println!("clean and deterministic"),
        count => println!("{count} findings"),
    }
}
