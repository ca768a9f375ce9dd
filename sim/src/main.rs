//! `foretold-sim`: runs the product in a false world and judges it.

fn main() -> std::process::ExitCode {
    sim::cli::main()
}
