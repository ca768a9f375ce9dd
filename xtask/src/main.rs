//! Repository tasks. `cargo xtask` lists them.

use std::path::PathBuf;
use std::process::ExitCode;

mod ci;
mod clients;
mod fuzz;
mod generate;
mod shell;
mod simulation;
mod tidy;

const USAGE: &str = "\
cargo xtask TASK

  ci                 everything that CI runs: format, lints, tests, simulation, real clients, power cuts
  tidy               imports table, words, dead files, promises without a checker
  clients [NAME...] [--rounds N]
                     real Kafka clients and N real power cuts against a release build (`list` names the checks)
  fuzz [BODY...] [--minutes N] [--jobs N]
                     the fuzz bodies, guided by coverage, for so many core-minutes (30); resumable
  soak [--rounds N] [--hours N] [--seeds END]
                     kills, power cuts, full disks and stops under clients of three languages, and the
                     simulator's seeds beyond CI's; resumable
  gen [--check]      message and record structures from Kafka's published schemas
";

fn main() -> ExitCode {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let root = root.canonicalize().unwrap_or(root);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = match arguments.split_first() {
        Some((task, rest)) => (task.as_str(), rest),
        None => ("help", &[][..]),
    };
    let result = match task {
        "ci" => ci::run(&root),
        "tidy" => tidy::run(&root),
        "gen" => generate::run(&root, rest),
        "clients" => clients::run(&root, rest),
        "fuzz" => fuzz::run(&root, rest),
        "soak" => clients::soak::run(&root, rest),
        _ => {
            print!("{USAGE}");
            return if task == "help" { ExitCode::SUCCESS } else { ExitCode::from(2) };
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{task}: {error}");
            ExitCode::FAILURE
        }
    }
}
