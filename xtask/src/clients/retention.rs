//! Retention by size and by time is seen to delete, also after a restart, and never the newest records.

use std::path::Path;
use std::time::{Duration, Instant};

use super::broker::Broker;
use super::tools::Tools;
use crate::shell;

/// Bytes of a record with its padding and its share of the batch, about.
const RECORD_BYTES: i64 = 1010;
const SEGMENT_BYTES: i64 = 1_048_576;
const KEPT_BYTES: i64 = 3_000_000;

/// Runs it; what was seen, in one line.
pub fn run(tools: &Tools, binary: &Path) -> Result<String, String> {
    let settings = ["log.retention.check.interval.ms=500", "log.segment.delete.delay.ms=100"];
    let mut broker = Broker::start(binary, &tools.work.join("retention-data"), &settings)?;
    let boot = broker.bootstrap();
    let create = |topic: &str, config: &str| {
        let arguments =
            [&boot, "create", topic, "1", &format!("segment.bytes={SEGMENT_BYTES}"), config];
        shell::output(&mut tools.python("admin.py", &arguments)).map(|_| ())
    };
    let fill = |topic: &str, megabytes: &str| {
        shell::output(&mut tools.python("admin.py", &[&boot, "fill", topic, megabytes])).map(|_| ())
    };
    create("by-size", &format!("retention.bytes={KEPT_BYTES}"))?;
    create("by-time", "retention.ms=3000")?;
    fill("by-size", "8")?;
    fill("by-time", "4")?;
    let size_start = wait_for(tools, &boot, "by-size", |start, end| is_kept(start, end, 8000))?;
    wait_for(tools, &boot, "by-time", |start, end| start == 4000 && end == 4000)?;

    broker.kill()?;
    broker.restart()?;
    let after = offsets(tools, &boot, "by-size")?;
    if after.0 < size_start || !is_kept(after.0, after.1, 8000) {
        return Err(format!(
            "after a kill the log is {}..{}, before it began at {size_start}",
            after.0, after.1
        ));
    }
    fill("by-size", "4")?;
    fill("by-time", "2")?;
    let (now, _) = offsets(tools, &boot, "by-size")?;
    let later = wait_for(tools, &boot, "by-size", |start, end| is_kept(start, end, 12000))?;
    wait_for(tools, &boot, "by-time", |start, end| start == 6000 && end == 6000)?;
    broker.stop()?;
    Ok(format!(
        "by size the start moved {size_start} -> {} -> {later}, by time everything aged left, also after a kill",
        now.max(after.0)
    ))
}

/// Whether the log ends where it should and holds what `retention.bytes` keeps: at least that, less than one segment more
/// (and a batch, by which a segment may be smaller than its limit).
fn is_kept(start: i64, end: i64, expected_end: i64) -> bool {
    let bytes = (end - start) * RECORD_BYTES;
    end == expected_end && (KEPT_BYTES..KEPT_BYTES + SEGMENT_BYTES + 100_000).contains(&bytes)
}

fn offsets(tools: &Tools, boot: &str, topic: &str) -> Result<(i64, i64), String> {
    let text = shell::output(&mut tools.python("admin.py", &[boot, "offsets", topic]))?;
    let numbers: Vec<i64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [start, end] => Ok((start, end)),
        _ => Err(format!("offsets of {topic}: {text}")),
    }
}

fn wait_for(
    tools: &Tools,
    boot: &str,
    topic: &str,
    is_right: impl Fn(i64, i64) -> bool,
) -> Result<i64, String> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let (start, end) = offsets(tools, boot, topic)?;
        if is_right(start, end) {
            return Ok(start);
        }
        if Instant::now() > deadline {
            return Err(format!("{topic} stays at {start}..{end}"));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
