//! Ten thousand connections on one broker: its memory and the fairness among those that work, by `crowd` of `bench/`.

use std::path::Path;

use super::broker::Broker;
use super::tools::Tools;
use crate::shell;

/// Runs it; what was seen, in one line.
pub fn run(root: &Path, tools: &Tools, binary: &Path) -> Result<String, String> {
    let build = ["build", "--release", "--quiet", "--package", "foretold-bench", "--bin", "crowd"];
    shell::run(&mut shell::command(root, "cargo", &build))?;
    let mut broker = Broker::start(binary, &tools.work.join("crowd-data"), &[])?;
    let pid = broker.id().ok_or("the broker does not run")?.to_string();
    let arguments = ["--bootstrap", &broker.bootstrap(), "--pid", &pid];
    let seen =
        shell::output(&mut shell::command(root, binary.with_file_name("crowd"), &arguments))?;
    broker.stop()?;
    Ok(seen.trim().to_owned())
}
