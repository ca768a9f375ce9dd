//! Real power cuts: the broker's data lies on a file system of its own that is shut down, unsynced bytes and all, under
//! load. Every acknowledged record must be there afterwards, round after round, on the same data.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::broker::Broker;
use super::loopdisk::Loop;
use super::tools::Tools;
use crate::shell;

/// The exit code of a broker whose disk failed.
const DISK: i32 = 5;

/// Runs `rounds` cuts; what was seen, in one line. `Ok(None)`: loop devices are not permitted here.
pub fn run(tools: &Tools, binary: &Path, rounds: u32) -> Result<Option<String>, String> {
    let disk = match Loop::up(tools, tools.work.join("powercut"), 2048) {
        Ok(disk) => disk,
        Err(error) => {
            println!("  {error}");
            return Ok(None);
        }
    };
    cut_rounds(tools, binary, &disk, rounds).map(Some)
}

fn cut_rounds(tools: &Tools, binary: &Path, disk: &Loop, rounds: u32) -> Result<String, String> {
    let acked = tools.work.join("acked.txt").display().to_string();
    // The log must outlive the cut: it says how the broker took it.
    let log = tools.work.join("powercut.stderr");
    let mut broker = Broker::start_with_log(binary, &disk.mount().join("data"), &log, &[])?;
    let boot = broker.bootstrap();
    let read = |first: u64| {
        let first = first.to_string();
        shell::output(&mut tools.python("acked.py", &["read", &boot, &acked, &first]))
            .map_err(|error| format!("records from {first} on: {error}"))
    };
    for round in 0..rounds {
        let first = u64::from(round) * 10_000_000;
        let mut sender = tools
            .python("acked.py", &["send", &boot, &first.to_string(), "30", &acked])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        // A round in which nothing was acknowledged would promise nothing.
        let promised = size(&acked);
        let deadline = Instant::now() + Duration::from_secs(20);
        while size(&acked) == promised && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        // The moment differs from round to round; it must not follow the sender's rhythm.
        std::thread::sleep(Duration::from_millis(700 + u64::from(round) * 373 % 1500));
        if let Ok(Some(status)) = sender.try_wait() {
            return Err(format!("round {round}: the sender ended early, {status}"));
        }
        disk.cut()?;
        // It may have noticed that its disk is gone; other ends are not in order.
        if let Some(status) = broker.end().filter(|status| status.code() != Some(DISK)) {
            return Err(format!("round {round}: the broker ended by itself with {status}"));
        }
        // The sender sees its connection go; SIGTERM would lose its last lines, so it gets the time to write them.
        std::thread::sleep(Duration::from_millis(300));
        shell::output(
            std::process::Command::new("kill").args(["-TERM", &sender.id().to_string()]),
        )?;
        let _ = sender.wait();
        disk.back()?;
        broker.restart()?;
        let seen = read(first)?;
        println!("  round {}: {}", round + 1, seen.trim());
        if seen.starts_with("acked=0 ") {
            return Err(format!("round {round}: nothing was acknowledged before the cut"));
        }
    }
    // What one cut spared a later one may have taken.
    let all = read(0)?;
    broker.stop()?;
    Ok(format!("{rounds} power cuts, {}", all.trim()))
}

/// Bytes of a file, which may not be there yet.
fn size(path: &str) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}
