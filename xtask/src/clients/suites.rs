//! Other projects' own test suites, where the checkout has them beside it (`../shared/suites`). What fails there for a
//! reason we know stands in `xtask/clients/known-failures.txt`; anything else is ours to mend.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::broker::Broker;
use super::tools::Tools;

/// Runs one suite; `Ok(None)`: the suite is not there.
pub fn run(
    root: &Path,
    tools: &Tools,
    binary: &Path,
    name: &str,
) -> Result<Option<String>, String> {
    let suite = root.join("../shared/suites").join(name).join("run");
    if !suite.exists() {
        return Ok(None);
    }
    let known = fs::read_to_string(tools.programs.join("known-failures.txt")).unwrap_or_default();
    let known: BTreeSet<&str> = known
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.split_whitespace().next())
        .collect();
    let settings = [
        "group.initial.rebalance.delay.ms=0",
        "offsets.topic.num.partitions=8",
        "num.partitions=4",
    ];
    let mut broker = Broker::start(binary, &tools.work.join(format!("{name}-data")), &settings)?;
    let output = Command::new("bash")
        .arg(&suite)
        .arg(broker.bootstrap())
        .current_dir(&tools.work)
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut unknown = Vec::new();
    for line in text.lines() {
        let failed = line.strip_prefix("FAIL ").or_else(|| {
            line.strip_prefix("# fail ").map(|l| l.split_once("s ").map_or(l, |(_, rest)| rest))
        });
        if let Some(failed) = failed {
            let test = failed.split_whitespace().next().unwrap_or_default().trim_end_matches(':');
            if !known.contains(test) {
                unknown.push(line.to_owned());
            }
        }
    }
    broker.stop()?;
    let last = text.lines().last().unwrap_or_default().to_owned();
    if !last.contains("passed=") {
        return Err(format!("{name} gave no result: {last}"));
    }
    if unknown.is_empty() { Ok(Some(last)) } else { Err(format!("{last}\n{}", unknown.join("\n"))) }
}
