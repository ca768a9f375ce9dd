//! The simulator's part of CI: some hundred seeds, and every seed that ever failed (`sim/seeds/once-failed.txt`: seed,
//! rule, what it was). Every finding is judged against the list of those that are known and not mended yet
//! (`sim/seeds/open-findings.txt`: seed, rule, what is known). A finding that is not on the list fails; a line whose
//! finding is gone is reported, so that the list shrinks.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::shell;

/// Runs the seeds `0..count`, and those that once failed.
pub fn run(root: &Path, count: u64) -> Result<(), String> {
    let list = |name: &str| {
        let path = root.join("sim/seeds").join(name);
        fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let open = findings_in(&list("open-findings.txt")?);
    let mut findings = sweep(root, &["--seeds", &format!("0..{count}")])?;
    let once: BTreeSet<u64> =
        findings_in(&list("once-failed.txt")?).into_iter().map(|(seed, _)| seed).collect();
    let further: Vec<u64> = once.into_iter().filter(|seed| *seed >= count).collect();
    for seed in &further {
        findings.extend(sweep(root, &["--seed", &seed.to_string()])?);
    }
    let (mut unknown, mut seen) = (0, BTreeSet::new());
    for finding in &findings {
        let key = (
            finding["seed"].as_u64().unwrap_or_default(),
            finding["rule"].as_str().unwrap_or("?").to_owned(),
        );
        let is_open = open.contains(&key);
        println!(
            "{} seed {} breaks {}: {}\n  replay: {}",
            if is_open { "open:" } else { "NEW:" },
            key.0,
            key.1,
            finding["text"].as_str().unwrap_or_default(),
            finding["replay"].as_str().unwrap_or_default()
        );
        unknown += usize::from(!is_open);
        seen.insert(key);
    }
    let was_run = |seed: u64| seed < count || further.contains(&seed);
    for (seed, rule) in open.difference(&seen).filter(|(seed, _)| was_run(*seed)) {
        println!(
            "closed: seed {seed} no longer breaks {rule}; take its line out of sim/seeds/open-findings.txt"
        );
    }
    println!(
        "simulation: {} seeds, {} open findings, {unknown} new",
        count + further.len() as u64,
        findings.len() - unknown
    );
    match unknown {
        0 => Ok(()),
        new => Err(format!("{new} findings that nobody has named")),
    }
}

/// What a run of the simulator has found.
fn sweep(root: &Path, seeds: &[&str]) -> Result<Vec<Value>, String> {
    let mut arguments = vec!["sim", "run", "--keep-going", "--json"];
    arguments.extend(seeds);
    println!("$ cargo {}", arguments.join(" "));
    let mut command = shell::command(root, "cargo", &arguments);
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let summary: Value = text
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str(line).ok())
        .ok_or_else(|| format!("the simulator gave no summary ({})", output.status))?;
    let findings = summary["findings"].as_array().cloned().unwrap_or_default();
    if findings.is_empty() && !output.status.success() {
        return Err(format!("the simulator ended with {}", output.status));
    }
    Ok(findings)
}

/// Seed and rule of each line; the rest of a line is for people.
fn findings_in(text: &str) -> BTreeSet<(u64, String)> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.parse().ok()?, words.next()?.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_no_findings() {
        let open =
            findings_in("# seed rule what is known\n86 L7 a group without members is gone\n\n");
        assert_eq!(open.into_iter().collect::<Vec<_>>(), [(86, "L7".to_owned())]);
    }
}
