//! The simulator's part of CI: some hundred seeds, every finding judged against the list of those that are known and not
//! mended yet (`sim/seeds/open-findings.txt`: seed, rule, what is known). A finding that is not on the list fails; a
//! line whose finding is gone is reported, so that the list shrinks.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::shell;

/// Runs the seeds `0..count`.
pub fn run(root: &Path, count: u64) -> Result<(), String> {
    let open = open_findings(
        &fs::read_to_string(root.join("sim/seeds/open-findings.txt")).unwrap_or_default(),
    );
    let seeds = format!("0..{count}");
    let mut command =
        shell::command(root, "cargo", &["sim", "run", "--seeds", &seeds, "--keep-going", "--json"]);
    println!("$ cargo sim run --seeds {seeds} --keep-going --json");
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let summary: Value = text
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str(line).ok())
        .ok_or_else(|| format!("the simulator gave no summary ({})", output.status))?;
    let findings = summary["findings"].as_array().cloned().unwrap_or_default();
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
    for (seed, rule) in open.difference(&seen) {
        println!(
            "closed: seed {seed} no longer breaks {rule}; take its line out of sim/seeds/open-findings.txt"
        );
    }
    println!(
        "simulation: {count} seeds, {} open findings, {unknown} new",
        findings.len() - unknown
    );
    match unknown {
        0 if output.status.success() || !findings.is_empty() => Ok(()),
        0 => Err(format!("the simulator ended with {}", output.status)),
        new => Err(format!("{new} findings that nobody has named")),
    }
}

/// Seed and rule of each line; the rest of a line is for people.
fn open_findings(text: &str) -> BTreeSet<(u64, String)> {
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
            open_findings("# seed rule what is known\n86 L7 a group without members is gone\n\n");
        assert_eq!(open.into_iter().collect::<Vec<_>>(), [(86, "L7".to_owned())]);
    }
}
