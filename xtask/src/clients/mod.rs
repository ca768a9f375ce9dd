//! Real Kafka clients against a release build: what "compatible" and "durable" mean to the people who use it.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::shell;

mod broker;
mod cluster;
mod corpus;
mod crowd;
mod diskfull;
mod families;
mod load;
mod loopdisk;
mod powercut;
mod retention;
mod segments;
pub mod soak;
mod suites;
mod tools;

use tools::Tools;

/// The checks that run when none is named, in that order.
const NAMES: &[&str] =
    &["families", "corpus", "segments", "retention", "crowd", "diskfull", "powercut", "cluster"];
/// Other projects' suites: too long for every change, or with time limits of their own that a busy machine breaks
/// (kafka-python's `test_group`, on Kafka too). They run when named.
const LONG: &[&str] = &["kafka-python", "java-tools", "kafka-go", "rust-rdkafka"];
/// They run beside the others.
const MOSTLY_WAITS: &[&str] = &["retention"];
/// What stands before the name of one client family.
const FAMILY: &str = "families/";
/// Power cuts of one node, and rounds with three, in the ordinary run; `soak` makes more.
const CUTS: u32 = 5;
const CLUSTER_ROUNDS: u32 = 2;

/// Runs the checks named (those of [`NAMES`] when none is); `--rounds N` sets the number of power cuts, and of rounds with three
/// nodes.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let (chosen, rounds) = choose(arguments)?;
    if chosen == ["list"] {
        println!("{}\n{}", NAMES.join("\n"), LONG.join("\n"));
        families::names().for_each(|name| println!("{FAMILY}{name}"));
        return Ok(());
    }
    run_checks(root, &chosen, rounds)
}

/// Whether `word` names a check, or asks for the names.
fn is_check(word: &str) -> bool {
    let is_family = |name| families::names().any(|family| family == name);
    NAMES.contains(&word)
        || LONG.contains(&word)
        || word == "list"
        || word.strip_prefix(FAMILY).is_some_and(is_family)
}

/// The checks that `arguments` name, and how many rounds of what has rounds.
fn choose(arguments: &[String]) -> Result<(Vec<&str>, Option<u32>), String> {
    let (mut chosen, mut rounds) = (Vec::new(), None);
    let mut words = arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        if word == "--rounds" {
            let count = words.next().and_then(|count| count.parse().ok());
            rounds = Some(count.ok_or("--rounds takes a number")?);
        } else if is_check(word) {
            chosen.push(word);
        } else {
            let (names, long) = (NAMES.join(", "), LONG.join(", "));
            return Err(format!("no check `{word}`; there are: {names}, {long}"));
        }
    }
    if chosen.is_empty() {
        chosen = NAMES.to_vec();
    }
    Ok((chosen, rounds))
}

fn run_checks(root: &Path, chosen: &[&str], rounds: Option<u32>) -> Result<(), String> {
    let binary = build(root)?;
    let tools = match Tools::prepare(root) {
        Ok(tools) => Arc::new(tools),
        Err(error) => return skip(&format!("all client checks: {error}")),
    };
    let check = |name| {
        println!("== {name}");
        let started = Instant::now();
        let result = run_check(root, &tools, &binary, name, rounds);
        let seconds = started.elapsed().as_secs_f64();
        match &result {
            Ok(Some(seen)) => println!("{name}: {seen} ({seconds:.0} s)"),
            Ok(None) => {}
            Err(error) => println!("{name} FAILED after {seconds:.0} s:\n{error}"),
        }
        (name, result)
    };
    let check = &check;
    let results = std::thread::scope(|scope| {
        // One that mostly waits leaves the machine to the others.
        let (waiting, busy): (Vec<&str>, Vec<&str>) =
            chosen.iter().partition(|name| MOSTLY_WAITS.contains(name));
        let aside = waiting.into_iter().map(|name| (name, scope.spawn(move || check(name))));
        let aside: Vec<_> = aside.collect();
        let mut results: Vec<_> = busy.into_iter().map(check).collect();
        results.extend(aside.into_iter().map(|(name, done)| {
            done.join().unwrap_or_else(|_| (name, Err("it panicked".to_owned())))
        }));
        results
    });
    let (mut passed, mut failed, mut skipped) = (0, Vec::new(), 0);
    for (name, result) in results {
        match result {
            Ok(Some(_)) => passed += 1,
            Ok(None) => {
                skipped += 1;
                skip(name)?;
            }
            Err(_) => failed.push(name),
        }
    }
    println!("clients: {passed} passed, {} failed, {skipped} skipped", failed.len());
    if failed.is_empty() { Ok(()) } else { Err(failed.join(", ")) }
}

/// What was seen, in one line; `None` if it cannot run here.
fn run_check(
    root: &Path,
    tools: &Arc<Tools>,
    binary: &Path,
    name: &str,
    rounds: Option<u32>,
) -> Result<Option<String>, String> {
    match name {
        "families" => families::run(tools, binary, None).map(Some),
        "corpus" => corpus::run(tools, binary).map(Some),
        "segments" => segments::run(tools, binary).map(Some),
        "retention" => retention::run(tools, binary).map(Some),
        "crowd" => crowd::run(root, tools, binary).map(Some),
        "diskfull" => diskfull::run(tools, binary),
        "powercut" => powercut::run(tools, binary, rounds.unwrap_or(CUTS)),
        "cluster" => cluster::run(tools, binary, rounds.unwrap_or(CLUSTER_ROUNDS)),
        other => match other.strip_prefix(FAMILY) {
            Some(family) => families::run(tools, binary, Some(family)).map(Some),
            None => suites::run(root, tools, binary, other),
        },
    }
}

fn build(root: &Path) -> Result<std::path::PathBuf, String> {
    shell::run(&mut shell::command(
        root,
        "cargo",
        &["build", "--release", "--package", "foretold"],
    ))?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), std::path::PathBuf::from);
    Ok(target.join("release/foretold"))
}

/// Says what is skipped; on CI nothing may be but other projects' suites, which a checkout may lack.
fn skip(what: &str) -> Result<(), String> {
    println!("SKIPPED {what}");
    if std::env::var_os("CI").is_some() && !suites::is_one(what) {
        Err(format!("CI skips nothing: {what}"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_runs_and_nothing_else() {
        let choose_of = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            choose(&words).map(|(names, rounds)| (names.join(" "), rounds))
        };
        assert_eq!(choose_of(""), Ok((NAMES.join(" "), None)));
        assert_eq!(choose_of("java-tools"), Ok(("java-tools".to_owned(), None)));
        assert_eq!(choose_of("powercut --rounds 100"), Ok(("powercut".to_owned(), Some(100))));
        assert_eq!(choose_of("families/java-3"), Ok(("families/java-3".to_owned(), None)));
        assert!(choose_of("java").is_err());
        assert!(choose_of("families/java").is_err());
        assert!(choose_of("powercut --rounds").is_err());
    }
}
