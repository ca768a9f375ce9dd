//! `cargo xtask ci`: everything that must be green before a change lands, in the order that fails soonest; and
//! `cargo xtask soak`: the long forms.

use std::path::Path;
use std::time::Instant;

use crate::{clients, shell, simulation, tidy};

/// Seeds that each run of CI simulates. `soak` goes on where this ends.
const SEEDS: u64 = 1000;

/// Runs every step; stops at the first failure.
pub fn run(root: &Path) -> Result<(), String> {
    let started = Instant::now();
    let minutes = || started.elapsed().as_secs_f64() / 60.0;
    let step = |name: &str| println!("== {name} (after {:.1} min)", minutes());
    let cargo = |arguments: &[&str]| shell::run(&mut shell::command(root, "cargo", arguments));
    step("tidy");
    tidy::run(root)?;
    step("format and lints");
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])?;
    // What only the simulating build compiles.
    let simulating = ["--config", "build.rustflags=['--cfg','madsim']"];
    let lint = ["clippy", "--package", "foretold-sim", "--all-targets", "--quiet"];
    cargo(&[&lint[..], &simulating, &["--", "-D", "warnings"]].concat())?;
    step("tests");
    cargo(&["test", "--workspace", "--quiet"])?;
    step("simulation");
    simulation::run(root, SEEDS)?;
    step("generated code");
    cargo(&["xtask", "gen", "--check"])?;
    step("clients");
    clients::run(root, &[])?;
    println!("ci: green in {:.1} min", minutes());
    Ok(())
}

/// The long forms: `--rounds N` (default 100) power cuts, ten thousand seeds. Seeds done stand in `target/soak`, so that
/// a second call goes on where the first ended.
pub fn soak(root: &Path, arguments: &[String]) -> Result<(), String> {
    let rounds = match arguments {
        [] => 100,
        [flag, count] if flag == "--rounds" => {
            count.parse().map_err(|_| "--rounds takes a number")?
        }
        _ => return Err("usage: cargo xtask soak [--rounds N]".to_owned()),
    };
    let state = root.join("target/soak");
    let done: u64 =
        std::fs::read_to_string(&state).ok().and_then(|t| t.trim().parse().ok()).unwrap_or(SEEDS);
    for from in (done..10_000).step_by(500) {
        let seeds = format!("{from}..{}", from + 500);
        shell::run(&mut shell::command(root, "cargo", &["sim", "run", "--seeds", &seeds]))?;
        std::fs::write(&state, (from + 500).to_string()).map_err(|error| error.to_string())?;
    }
    clients::powercuts(root, rounds)
}
