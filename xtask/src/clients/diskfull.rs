//! A real file system that is full to the last block, under a real broker and real clients: producers wait, group offsets
//! and topics go on, and everything resumes by itself once there is room.

use std::path::Path;

use super::broker::Broker;
use super::tools::Tools;
use crate::shell;

/// Size of the file system, in MiB.
const SIZE_MIB: &str = "200";
/// A journal and a reserve that leave most of it to records.
const SETTINGS: [&str; 3] = [
    "log.journal.bytes=33554432",
    "log.journal.file.bytes=4194304",
    "log.space.reserve.bytes=16777216",
];

/// Runs it; what was seen, in one line. `Ok(None)`: loop devices are not permitted here.
pub fn run(tools: &Tools, binary: &Path) -> Result<Option<String>, String> {
    let mount = tools.work.join("diskfull");
    let place = mount.display().to_string();
    let volume =
        |words: &[&str]| shell::output(&mut tools.python("powercut.py", words)).map(|_| ());
    if let Err(error) = volume(&["up", &place, SIZE_MIB]) {
        println!("  no loop-mounted file system here: {error}");
        return Ok(None);
    }
    let result = fill(tools, binary, &mount, &place);
    volume(&["down", &place])?;
    result.map(Some)
}

fn fill(tools: &Tools, binary: &Path, mount: &Path, place: &str) -> Result<String, String> {
    let log = tools.work.join("diskfull.stderr");
    let mut broker = Broker::start_with_log(binary, &mount.join("data"), &log, &SETTINGS)?;
    let boot = broker.bootstrap();
    let seen = shell::output(&mut tools.python("diskfull.py", &[&boot, place]));
    // A broker that has ended, or started anew, would hide that it did not resume.
    broker.stop()?;
    let told = std::fs::read_to_string(&log).map_err(|error| error.to_string())?;
    let warnings = told.lines().filter(|line| line.contains("nearly full")).count();
    match (seen, warnings) {
        (Err(error), _) => Err(error),
        (Ok(seen), 1..=3) => Ok(format!("{}, told in {warnings} lines", seen.trim())),
        (Ok(_), lines) => Err(format!("that the disk is full is told in {lines} lines:\n{told}")),
    }
}
