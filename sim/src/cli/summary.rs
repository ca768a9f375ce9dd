//! Many reports as one, and what all runs of this build have hit so far.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::report::RunReport;

/// Something to look at.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// The seed.
    pub seed: u64,
    /// The broken rule; `determinism` when two runs differ.
    pub rule: String,
    /// What was seen.
    pub text: String,
    /// The command that shows it again.
    pub replay: String,
}

/// Outcome of a range of seeds.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// Seeds run.
    pub seeds: u64,
    /// Broken rules.
    pub findings: Vec<Finding>,
    /// Real seconds.
    pub seconds: f64,
    /// Seeds per real second, each run twice.
    pub seeds_per_second: f64,
    /// Simulated seconds per CPU second of one process.
    pub simulated_per_real: f64,
    /// Median simulated seconds with client operations.
    pub busy_seconds_median: u64,
    /// Median client operations that ended well.
    pub operations_median: u64,
    /// Median CPU seconds of one run.
    pub cpu_seconds_median: f64,
    /// Median of faults that struck in one run.
    pub faults_median: u64,
    /// Simulated seconds in all.
    pub simulated_seconds: f64,
    /// Faults that struck, by number of the table.
    pub faults: BTreeMap<String, u64>,
    /// Marks hit.
    pub marks: BTreeMap<String, u64>,
    /// Runs of each scenario.
    pub scenarios: BTreeMap<String, u64>,
}

/// Gathers reports.
#[derive(Default)]
pub struct Gathering {
    /// The sum so far.
    pub summary: Summary,
    busy: Vec<u64>,
    operations: Vec<u64>,
    cpu_millis: Vec<u64>,
    struck: Vec<u64>,
}

impl Gathering {
    /// Adds one run.
    pub fn add(&mut self, report: &RunReport) {
        let summary = &mut self.summary;
        summary.seeds += 1;
        summary.simulated_seconds += report.simulated_seconds;
        *summary.scenarios.entry(report.scenario.clone()).or_default() += 1;
        for (from, to) in
            [(&report.faults, &mut summary.faults), (&report.marks, &mut summary.marks)]
        {
            for (name, times) in from {
                *to.entry(name.clone()).or_default() += times;
            }
        }
        self.busy.push(report.busy_seconds);
        self.operations.push(report.operations);
        self.cpu_millis.push((report.cpu_seconds * 1000.0) as u64);
        self.struck.push(report.faults.values().sum());
    }

    /// The sum.
    pub fn finish(mut self, took: Duration) -> Summary {
        let mut summary = self.summary;
        let cpu: u64 = self.cpu_millis.iter().sum();
        summary.seconds = took.as_secs_f64();
        summary.seeds_per_second = summary.seeds as f64 / summary.seconds.max(0.001);
        summary.simulated_per_real = summary.simulated_seconds / (cpu as f64 / 1000.0).max(0.001);
        summary.busy_seconds_median = median(&mut self.busy);
        summary.operations_median = median(&mut self.operations);
        summary.cpu_seconds_median = median(&mut self.cpu_millis) as f64 / 1000.0;
        summary.faults_median = median(&mut self.struck);
        summary
    }
}

fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

/// What all runs of this build have hit, kept beside the binary.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct Hits {
    /// Seeds run.
    pub seeds: u64,
    /// Faults by number of the table.
    pub faults: BTreeMap<String, u64>,
    /// Marks.
    pub marks: BTreeMap<String, u64>,
}

impl Hits {
    /// What was kept; nothing if nothing can be read.
    pub fn load() -> Hits {
        let text = path().and_then(|path| std::fs::read_to_string(path).ok());
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Adds a range of seeds and keeps the sum. A failure to write only loses statistics.
    pub fn add(summary: &Summary) {
        let mut hits = Hits::load();
        hits.seeds += summary.seeds;
        for (from, to) in [(&summary.faults, &mut hits.faults), (&summary.marks, &mut hits.marks)] {
            for (name, times) in from {
                *to.entry(name.clone()).or_default() += times;
            }
        }
        if let (Some(path), Ok(text)) = (path(), serde_json::to_string(&hits)) {
            _ = std::fs::write(path, text);
        }
    }
}

fn path() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.with_file_name("foretold-sim-hits.json"))
}
