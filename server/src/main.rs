//! Entry point: parses the command line, runs the command, turns its outcome into an exit code.

use std::process::ExitCode;

use clap::Parser;
use server::cli::Cli;

fn main() -> ExitCode {
    server::world::exit_on_panic();
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("foretold: {failed}");
            ExitCode::from(failed.code as u8)
        }
    }
}
