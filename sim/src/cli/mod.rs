//! The command line of `foretold-sim`.

mod explore;
mod list;
#[cfg(madsim)]
mod mutants;
#[cfg(madsim)]
mod progress;
#[cfg(madsim)]
mod run;
#[cfg(madsim)]
mod single;
#[cfg_attr(not(madsim), allow(dead_code, reason = "only simulating builds gather"))]
mod summary;
#[cfg(madsim)]
mod supervisor;

use std::ops::Range;
#[cfg(madsim)]
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

#[cfg(madsim)]
use crate::scenario::Fixed;
use crate::scenario::Name;

/// Exit code when a rule was broken.
const VIOLATION: u8 = 1;
/// Exit code for a wrong command line.
const USAGE: u8 = 2;

/// Runs the product in a false world and judges it.
#[derive(Parser, Debug)]
#[command(name = "foretold-sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run seeds, each twice in two processes whose traces must be equal.
    Run(RunArgs),
    /// Run seeds twice and find the first difference of their traces.
    Meta(RunArgs),
    /// Run one seed or tape again, with the product's own log on stderr (RUST_LOG).
    Replay(ReplayArgs),
    /// Show scenarios, faults, checkers and marks, with how often each has been hit.
    List(ListArgs),
    /// Plant each bug in turn and count the seeds until a checker sees it.
    Mutants(MutantArgs),
    /// Try every history of small worlds of the metadata quorum, and random ones of larger worlds.
    Explore(ExploreArgs),
    /// Run one seed in this process and print its report.
    #[command(hide = true)]
    One(OneArgs),
}

/// Which seeds.
#[derive(Args, Clone, Debug)]
struct RunArgs {
    /// One seed.
    #[arg(long, conflicts_with_all = ["seeds", "for"])]
    seed: Option<u64>,
    /// Seeds A..B, B excluded.
    #[arg(long, value_parser = parse_seeds, conflicts_with = "for")]
    seeds: Option<Range<u64>>,
    /// Run for so long (90s, 10m, 1h): half of the seeds are fixed, half follow from the commit.
    #[arg(long, value_parser = parse_duration)]
    r#for: Option<Duration>,
    #[command(flatten)]
    setting: Setting,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Go on after a violation.
    #[arg(long)]
    keep_going: bool,
    /// Processes side by side.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Run only every Nth seed twice (`run`): a long sweep covers more seeds in its time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    twice_every: u64,
}

#[derive(Args, Debug)]
struct ReplayArgs {
    /// A seed, or a file that --tape has written.
    #[arg(value_name = "SEED|FILE")]
    what: String,
    /// Write the choices of the run to this file: replaying it draws no random number.
    #[arg(long, value_name = "FILE")]
    tape: Option<PathBuf>,
    #[command(flatten)]
    setting: Setting,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// The bug to plant (builds with the `mutants` feature).
    #[arg(long)]
    mutant: Option<String>,
}

#[derive(Args, Debug)]
struct ListArgs {
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Clone, Debug)]
struct MutantArgs {
    /// Only this bug.
    #[arg(long)]
    mutant: Option<String>,
    /// Give up after so many seeds.
    #[arg(long, default_value_t = 2000)]
    seeds_max: u64,
    /// Searches per bug, from different first seeds; the median counts.
    #[arg(long, default_value_t = 3)]
    searches: u64,
    #[command(flatten)]
    setting: Setting,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Processes side by side.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

/// Which worlds.
#[derive(Args, Clone, Debug)]
struct ExploreArgs {
    /// Only the scope of this name.
    #[arg(long)]
    scope: Option<String>,
    /// Search larger worlds, which have more states than anybody waits for.
    #[arg(long)]
    deep: bool,
    /// Give a scope up after so many states.
    #[arg(long, default_value_t = 4_000_000)]
    states_max: usize,
    /// Random walks in each of the larger worlds.
    #[arg(long, default_value_t = 20_000)]
    walks: u64,
    /// The first walk; each has a number of its own.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// The bug to plant (builds with the `mutants` feature).
    #[arg(long)]
    mutant: Option<String>,
}

#[derive(Args, Debug)]
struct OneArgs {
    #[arg(long)]
    seed: u64,
    #[command(flatten)]
    setting: Setting,
    #[arg(long)]
    trace: bool,
    #[arg(long)]
    mutant: Option<String>,
}

/// What a run does not draw.
#[derive(Args, Clone, Default, Debug)]
struct Setting {
    /// Only this scenario.
    #[arg(long, value_parser = parse_scenario)]
    scenario: Option<Name>,
    /// Nodes of a cluster (3 to 7), in the scenario that has one.
    #[arg(long)]
    nodes: Option<u32>,
    /// A JSON object of what is fixed instead of drawn, such as {"faults": ["K1", "D7"], "page_cache": 0}; see
    /// `cargo sim list` for the kinds of fault.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[cfg(madsim)]
impl Setting {
    /// Reads the file.
    fn fixed(&self) -> Result<Fixed, String> {
        let mut fixed = match &self.config {
            Some(path) => {
                let shown = path.display();
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("cannot read {shown}: {error}"))?;
                let fixed: Fixed =
                    serde_json::from_str(&text).map_err(|error| format!("{shown}: {error}"))?;
                fixed.check().map_err(|error| format!("{shown}: {error}"))?;
                fixed
            }
            None => Fixed::default(),
        };
        if self.scenario.is_some() {
            fixed.scenario = self.scenario;
        }
        if self.nodes.is_some() {
            fixed.nodes = self.nodes;
        }
        fixed.check()?;
        Ok(fixed)
    }

    /// The same on a command line.
    fn arguments(&self) -> Vec<String> {
        let scenario = self.scenario.map(|name| ["--scenario".into(), name.text().into()]);
        let shown = |path: &Path| path.display().to_string();
        let config = self.config.as_deref().map(|path| ["--config".into(), shown(path)]);
        let nodes = self.nodes.map(|count| ["--nodes".into(), count.to_string()]);
        scenario.into_iter().chain(config).chain(nodes).flatten().collect()
    }
}

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("seeds are written A..B")?;
    let number = |text: &str| text.trim().parse::<u64>().map_err(|e| format!("{text}: {e}"));
    let (from, to) = (number(from)?, number(to)?);
    if from >= to {
        return Err("the range is empty: B is excluded".into());
    }
    Ok(from..to)
}

fn parse_scenario(text: &str) -> Result<Name, String> {
    let names: Vec<_> = Name::ALL.iter().map(|name| name.text()).collect();
    Name::parse(text).ok_or_else(|| format!("no such scenario; there are {}", names.join(", ")))
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| "a number and a unit, such as 10m")?;
    let seconds = match unit {
        "s" | "" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("the unit is s, m or h".into()),
    };
    Ok(Duration::from_secs(number * seconds))
}

#[cfg(feature = "mutants")]
/// Plants a bug by its name, or says why not.
fn plant(mutant: Option<&str>) -> Result<(), u8> {
    use types::mutant::Mutant;
    let Some(name) = mutant else { return Ok(()) };
    match Mutant::ALL.iter().find(|mutant| mutant.name() == name) {
        Some(mutant) => {
            types::mutant::plant(Some(*mutant));
            Ok(())
        }
        None => {
            eprintln!("no such bug: {name}");
            Err(USAGE)
        }
    }
}

#[cfg(not(feature = "mutants"))]
/// Plants a bug by its name, or says why not.
fn plant(mutant: Option<&str>) -> Result<(), u8> {
    if mutant.is_none() {
        return Ok(());
    }
    eprintln!("this build has no planted bugs: `cargo sim mutants` makes one that has");
    Err(USAGE)
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            _ = error.print();
            return ExitCode::from(code);
        }
    };
    ExitCode::from(dispatch(cli.command))
}

#[cfg(madsim)]
fn dispatch(command: Command) -> u8 {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Meta(args) => run::meta(&args),
        Command::Replay(args) => single::replay(&args),
        Command::List(args) => list::list(args.json),
        Command::Mutants(args) => mutants::mutants(&args),
        Command::Explore(args) => explore::explore(&args),
        Command::One(args) => single::one(&args),
    }
}

#[cfg(not(madsim))]
fn dispatch(command: Command) -> u8 {
    match command {
        Command::List(args) => list::list(args.json),
        Command::Explore(args) => explore::explore(&args),
        _ => {
            eprintln!("this build cannot simulate: use `cargo sim`, which sets --cfg madsim");
            USAGE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_half_open_and_durations_have_units() {
        assert_eq!(parse_seeds("0..1000"), Ok(0..1000));
        assert!(parse_seeds("5..5").is_err());
        assert!(parse_seeds("5").is_err());
        assert_eq!(parse_duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert!(parse_duration("x").is_err());
        assert_eq!(parse_scenario("node"), Ok(Name::Node));
        assert!(parse_scenario("nude").is_err());
    }
}
