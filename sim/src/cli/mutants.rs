//! `mutants`: does each checker bite? Plants every bug in turn and counts the seeds until it is seen. A bug that is too rare
//! for seeds is to be seen by a named test of `log` or `cluster`: a schedule that leads straight to it. Bugs of the quorum are hunted by
//! [`crate::explore`].

use std::process::{Command, Stdio};
use std::time::Instant;

use serde::Serialize;
use types::mutant::Mutant;

use crate::cli::explore::{Told, WALKED};
use crate::cli::supervisor::{Plan, run_all};
use crate::cli::{MutantArgs, USAGE, VIOLATION};

/// Bugs of what the exhaustive search runs, and seeds do not.
const EXPLORED: &[Mutant] = &[
    Mutant::VoteNotStored,
    Mutant::VoteForShorterLog,
    Mutant::QuorumCountsUnsynced,
    Mutant::FetchBeforeSync,
    Mutant::CommitsOldEpoch,
    Mutant::VoterChangesOverlap,
    Mutant::RemovalCountsAtOnce,
];

/// Bugs of what seeds do not run yet, or do not judge: named tests of `cluster` see them.
const TESTED: &[Mutant] = &[
    Mutant::MinIsrChangeUnheard,
    Mutant::MinIsrOfFile,
    Mutant::LostStaysEligible,
    Mutant::LastLeaderElected,
    Mutant::RecoversWithoutAll,
    Mutant::LostForgotten,
    Mutant::EmptiedAwaited,
    Mutant::BalanceForgetsRacks,
    Mutant::DeposedChangesIsr,
    Mutant::MoveEndsEarly,
    Mutant::StaleReplicaJoins,
    Mutant::StaleBrokerBelieved,
    Mutant::TwinRegisters,
    Mutant::NewControllerFences,
    Mutant::UnfencedBehind,
    Mutant::StopsUnheard,
    Mutant::ProposedForgotten,
    Mutant::JoinsBelowEpochStart,
    Mutant::ShrinkCountsAtOnce,
    Mutant::AnswerCountsAsMetadata,
    Mutant::TruncateToHighWatermark,
    Mutant::CommittedGivenUp,
    Mutant::CutByLeaderAlone,
    Mutant::UnsyncedReportedDurable,
    Mutant::VotersUnwritten,
    Mutant::FollowerServesForEver,
];

/// A walk costs a small part of what a seed costs.
const WALKS_PER_SEED: u64 = 10;

/// What became of one bug.
#[derive(Serialize, Debug)]
struct Hunt {
    mutant: String,
    /// Seeds to find it, one number per search; the limit when it was not found.
    seeds: Vec<u64>,
    found: usize,
    /// Rules that saw it.
    rules: Vec<String>,
    /// Named tests that see it; asked for only when seeds do not.
    tests: Vec<String>,
}

impl Hunt {
    fn new(mutant: &str) -> Hunt {
        let (seeds, rules, tests) = (Vec::new(), Vec::new(), Vec::new());
        Hunt { mutant: mutant.to_owned(), seeds, found: 0, rules, tests }
    }

    /// One search has ended: after so many tries, with a broken rule or without.
    fn note(&mut self, tried: u64, rule: Option<String>) {
        self.found += usize::from(rule.is_some());
        self.seeds.push(tried);
        self.rules.extend(rule.filter(|rule| !self.rules.contains(rule)));
    }

    /// Whether most searches found it.
    fn is_found_by_seeds(&self) -> bool {
        self.found * 2 > self.seeds.len()
    }

    fn found_by(&self) -> String {
        let rules = if self.rules.is_empty() { "nobody".into() } else { self.rules.join(" ") };
        match self.tests.first() {
            Some(test) => format!("{rules}, test {test} and {} more", self.tests.len() - 1),
            None => rules,
        }
    }
}

/// Builds with planted bugs and hunts each; exit code.
pub fn mutants(args: &MutantArgs) -> u8 {
    let plan = match build()
        .and_then(|binary| Plan::new(&args.setting).map(|plan| Plan { binary, ..plan }))
    {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("{error}");
            return USAGE;
        }
    };
    let wanted = |mutant: &&Mutant| args.mutant.as_deref().is_none_or(|name| name == mutant.name());
    let chosen: Vec<_> = Mutant::ALL.iter().filter(wanted).collect();
    if chosen.is_empty() {
        eprintln!("no such bug");
        return USAGE;
    }
    let mut hunts = Vec::new();
    for mutant in chosen {
        let started = Instant::now();
        // Who names a scenario wants to know whether that one sees it.
        let is_free = args.setting.scenario.is_none();
        let mut hunt = match *mutant {
            mutant if is_free && EXPLORED.contains(&mutant) => explore(mutant, args, &plan),
            mutant if is_free && TESTED.contains(&mutant) => Hunt::new(mutant.name()),
            mutant => hunt(mutant, args, &plan),
        };
        if !hunt.is_found_by_seeds() {
            hunt.tests = tests_that_see(*mutant);
        }
        if !args.json {
            let mut seeds = hunt.seeds.clone();
            seeds.sort_unstable();
            println!(
                "{:<32} {:>2}/{} found, median {:>5} seeds, by {} ({:.0} s)",
                hunt.mutant,
                hunt.found,
                args.searches,
                seeds.get(seeds.len() / 2).copied().unwrap_or_default(),
                hunt.found_by(),
                started.elapsed().as_secs_f64(),
            );
        }
        hunts.push(hunt);
    }
    if args.json {
        println!("{}", serde_json::to_string(&hunts).unwrap_or_default());
    }
    let missed = hunts.iter().any(|hunt| !hunt.is_found_by_seeds() && hunt.tests.is_empty());
    if missed { VIOLATION } else { 0 }
}

fn hunt(mutant: Mutant, args: &MutantArgs, plan: &Plan) -> Hunt {
    let plan = Plan { mutant: Some(mutant.name().to_owned()), ..plan.clone() };
    let mut hunt = Hunt::new(plan.mutant.as_deref().unwrap_or_default());
    for search in 0..args.searches {
        let first = search * 1_000_000;
        let mut seeds = first..first + args.seeds_max;
        let mut tried = 0;
        let mut rule = None;
        run_all(
            args.jobs,
            || seeds.next(),
            |seed| plan.run(seed),
            |_, outcome| {
                if rule.is_none() {
                    tried += 1;
                    rule = match outcome {
                        Ok(report) => report.violation.map(|(rule, _)| rule),
                        Err(_) => Some("process".to_owned()),
                    };
                }
                rule.is_none()
            },
        );
        hunt.note(tried, rule);
    }
    hunt
}

/// Hunts by walks instead of seeds.
fn explore(mutant: Mutant, args: &MutantArgs, plan: &Plan) -> Hunt {
    let mut hunt = Hunt::new(mutant.name());
    for search in 0..args.searches {
        let (first, walks) = (search * 1_000_000, (args.seeds_max * WALKS_PER_SEED).to_string());
        let output = Command::new(&plan.binary)
            .args(["explore", "--scope", WALKED, "--mutant", mutant.name(), "--walks", &walks])
            .args(["--first", &first.to_string(), "--json"])
            .output();
        let told =
            output.ok().and_then(|output| serde_json::from_slice::<Told>(&output.stdout).ok());
        let told = told.unwrap_or_default();
        hunt.note(told.walks, told.rule);
    }
    hunt
}

/// The tests of `log` and `cluster` that fail with the bug planted.
fn tests_that_see(mutant: Mutant) -> Vec<String> {
    let output = Command::new("cargo")
        .args(["test", "--quiet", "--no-fail-fast", "--package", "foretold-log"])
        .args(["--package", "foretold-cluster", "--features"])
        .args(["foretold-log/mutants,foretold-cluster/mutants", "--tests"])
        .args(["--", "--test-threads", "1"])
        .env("FORETOLD_MUTANT", mutant.name())
        .stderr(Stdio::null())
        .output();
    let Ok(output) = output else { return Vec::new() };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // Each failed test has a heading of its own.
    let name =
        |line: &str| Some(line.strip_prefix("---- ")?.strip_suffix(" stdout ----")?.to_owned());
    text.lines().filter_map(name).collect()
}

/// One build with the `mutants` feature, beside the ordinary one.
fn build() -> Result<std::path::PathBuf, String> {
    if cfg!(feature = "mutants") {
        return std::env::current_exe().map_err(|error| error.to_string());
    }
    let output = Command::new("cargo")
        .args(["build", "--profile", "sim", "--package", "foretold-sim", "--features", "mutants"])
        .args([
            "--config",
            "build.rustflags=['--cfg','madsim']",
            "--message-format",
            "json-render-diagnostics",
        ])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        return Err("the build with planted bugs failed".into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let built =
        text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let binary = built
        .filter(|message| message["target"]["name"] == "foretold-sim")
        .filter_map(|message| message["executable"].as_str().map(std::path::PathBuf::from))
        .next_back()
        .ok_or("cargo does not say where the binary is")?;
    // The next ordinary build overwrites that path: keep a copy.
    let copy = binary.with_file_name("foretold-sim-mutants");
    std::fs::copy(&binary, &copy)
        .map_err(|error| format!("cannot copy {}: {error}", binary.display()))?;
    Ok(copy)
}
