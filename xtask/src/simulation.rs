//! The simulator's part of CI: the first thousand seeds, every seed that ever failed (`sim/seeds/once-failed.txt`), and every
//! history of the small worlds. Any finding fails.

use std::fs;
use std::path::Path;

use crate::shell;

/// A seed that once failed, in the scenario that it draws or in a named one.
#[derive(PartialEq, Eq, Debug)]
struct Once {
    seed: u64,
    scenario: Option<String>,
}

/// Runs the seeds `0..count`, those that once failed, and the exhaustive search.
pub fn run(root: &Path, count: u64) -> Result<(), String> {
    let list = root.join("sim/seeds/once-failed.txt");
    let text = fs::read_to_string(&list).map_err(|error| format!("{}: {error}", list.display()))?;
    let once = once_failed(&text)?;
    sweep(root, &["--seeds", &format!("0..{count}")])?;
    let further = once.iter().filter(|once| once.seed >= count || once.scenario.is_some());
    for Once { seed, scenario } in further {
        let seed = seed.to_string();
        let mut arguments = vec!["--seed", &seed];
        if let Some(scenario) = scenario {
            arguments.extend(["--scenario", scenario]);
        }
        sweep(root, &arguments)?;
    }
    shell::run(&mut shell::command(root, "cargo", &["sim", "explore"]))
}

fn sweep(root: &Path, seeds: &[&str]) -> Result<(), String> {
    let mut arguments = vec!["sim", "run", "--keep-going"];
    arguments.extend(seeds);
    shell::run(&mut shell::command(root, "cargo", &arguments))
}

/// `SEED RULE WHAT IT WAS` or `SCENARIO:SEED RULE WHAT IT WAS` on each line that is no comment.
fn once_failed(text: &str) -> Result<Vec<Once>, String> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let name = line.split_whitespace().next().unwrap_or_default();
            let (scenario, seed) = match name.split_once(':') {
                Some((scenario, seed)) => (Some(scenario.to_owned()), seed),
                None => (None, name),
            };
            let seed = seed.parse().map_err(|_| format!("no seed begins this line: {line}"))?;
            Ok(Once { seed, scenario })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_may_name_its_scenario() {
        let text =
            "# seed rule what it was\n86 L7 a group is gone\n\ndirectory:181 I2 an empty read\n";
        let once = |seed, scenario: Option<&str>| Once { seed, scenario: scenario.map(Into::into) };
        assert_eq!(once_failed(text), Ok(vec![once(86, None), once(181, Some("directory"))]));
        assert!(once_failed("L7 86").is_err());
    }
}
