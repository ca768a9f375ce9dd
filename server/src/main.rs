//! Entry point: parses the command line, runs the command, turns its outcome into an exit code.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use server::cli::Cli;

fn main() -> ExitCode {
    server::world::exit_on_panic();
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            // Where nobody can read it the exit code must still be right.
            let _ = writeln!(std::io::stderr(), "foretold: {failed}");
            ExitCode::from(failed.code as u8)
        }
    }
}
