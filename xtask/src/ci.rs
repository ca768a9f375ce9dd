//! `cargo xtask ci`: everything that must be green before a change lands, in the order that fails soonest.

use std::path::Path;
use std::time::Instant;

use crate::{clients, shell, simulation, tidy};

/// Seeds that each run of CI simulates. `soak` goes on where this ends.
pub const SEEDS: u64 = 1000;

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
