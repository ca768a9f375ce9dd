//! Real Kafka clients against a release build: what "compatible" and "durable" mean to the people who use it.

use std::path::Path;
use std::time::Instant;

use crate::shell;

mod broker;
mod corpus;
mod powercut;
mod retention;
mod segments;
mod suites;
mod tools;

use tools::Tools;

/// Names of the checks that always run, in that order.
const NAMES: &[&str] = &["corpus", "segments", "retention", "powercut"];
/// Other projects' suites take too long for every change: they run when named.
const SUITES: &[&str] = &["kafka-python", "java-tools", "kafka-go"];
/// Power cuts in the ordinary run; `soak` makes more.
const CUTS: u32 = 5;

/// Runs the checks named (all when none is).
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    if arguments.first().is_some_and(|name| name == "list") {
        println!("{}\n{}", NAMES.join("\n"), SUITES.join("\n"));
        return Ok(());
    }
    for name in arguments {
        if !NAMES.contains(&name.as_str()) && !SUITES.contains(&name.as_str()) {
            let (names, suites) = (NAMES.join(", "), SUITES.join(", "));
            return Err(format!("no check `{name}`; there are: {names}, {suites}"));
        }
    }
    let chosen: Vec<&str> = NAMES
        .iter()
        .copied()
        .filter(|n| arguments.is_empty() || arguments.iter().any(|a| a == n))
        .collect();
    let binary = build(root)?;
    let tools = match Tools::prepare(root) {
        Ok(tools) => tools,
        Err(error) => return skip(&format!("all client checks: {error}")),
    };
    let (mut passed, mut failed, mut skipped) = (0, Vec::new(), 0);
    for name in chosen {
        println!("== {name}");
        let started = Instant::now();
        let result = match name {
            "corpus" => corpus::run(&tools, &binary).map(Some),
            "segments" => segments::run(&tools, &binary).map(Some),
            "retention" => retention::run(&tools, &binary).map(Some),
            "powercut" => powercut::run(&tools, &binary, CUTS),
            suite => suites::run(root, &tools, &binary, suite),
        };
        let seconds = started.elapsed().as_secs_f64();
        match result {
            Ok(Some(seen)) => {
                passed += 1;
                println!("{name}: {seen} ({seconds:.0} s)");
            }
            Ok(None) => {
                skipped += 1;
                skip(name)?;
            }
            Err(error) => {
                println!("{name} FAILED after {seconds:.0} s:\n{error}");
                failed.push(name);
            }
        }
    }
    println!("clients: {passed} passed, {} failed, {skipped} skipped", failed.len());
    if failed.is_empty() { Ok(()) } else { Err(failed.join(", ")) }
}

/// Power cuts in number, for the soak.
pub fn powercuts(root: &Path, rounds: u32) -> Result<(), String> {
    let binary = build(root)?;
    let tools = Tools::prepare(root)?;
    match powercut::run(&tools, &binary, rounds)? {
        Some(seen) => println!("{seen}"),
        None => skip("powercut")?,
    }
    Ok(())
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

/// Says what is skipped; on CI nothing may be.
fn skip(what: &str) -> Result<(), String> {
    println!("SKIPPED {what}");
    if std::env::var_os("CI").is_some()
        && !what.starts_with("kafka-python")
        && !what.starts_with("java-tools")
    {
        Err(format!("CI skips nothing: {what}"))
    } else {
        Ok(())
    }
}
