//! Two million records over many small segments, read from the start by three clients with odd fetch sizes; then again
//! after a kill, and once more after the index files were cut, stretched and removed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::broker::Broker;
use super::tools::Tools;
use crate::shell;

const RECORDS: u64 = 2_000_000;

/// Runs it; what was seen, in one line.
pub fn run(tools: &Tools, binary: &Path) -> Result<String, String> {
    let data = tools.work.join("segments-data");
    let mut broker = Broker::start(binary, &data, &[])?;
    let boot = broker.bootstrap();
    shell::output(
        &mut tools.python("admin.py", &[&boot, "create", "many", "1", "segment.bytes=1048576"]),
    )?;
    shell::output(
        &mut tools.python("millions.py", &["produce", &boot, "many", "0", &RECORDS.to_string()]),
    )?;
    let segments = count(&data.join("many-0"), "log")?;
    if segments < 50 {
        return Err(format!("{segments} segments: the topic should have many"));
    }
    read_all(tools, &boot, RECORDS)?;
    broker.kill()?;
    broker.restart()?;
    read_all(tools, &boot, RECORDS)?;

    // Index files are written when segments are checkpointed; a clean stop checkpoints all.
    broker.stop()?;
    let spoiled = spoil_indexes(&data.join("many-0"))?;
    if spoiled < segments {
        return Err(format!("{spoiled} index files beside {segments} segments"));
    }
    broker.restart()?;
    shell::output(
        &mut tools.python("millions.py", &["produce", &boot, "many", &RECORDS.to_string(), "1000"]),
    )?;
    read(tools, &boot, "librdkafka", RECORDS + 1000, 300_007)?;
    broker.stop()?;
    Ok(format!(
        "{RECORDS} records in {segments} segments by three clients, by all again after a kill, and with {spoiled} spoiled indexes"
    ))
}

fn read_all(tools: &Tools, boot: &str, records: u64) -> Result<(), String> {
    let python = tools
        .python(
            "millions.py",
            &["read", "kafka-python", boot, "many", &records.to_string(), "33333"],
        )
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    read(tools, boot, "librdkafka", records, 1_237)?;
    let java = tools.java(
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        &[
            "--bootstrap-server",
            boot,
            "--topic",
            "many",
            "--partition",
            "0",
            "--offset",
            "earliest",
            "--max-messages",
            &records.to_string(),
            "--timeout-ms",
            "60000",
            "--formatter-property",
            "print.offset=true",
            "--command-property",
            "max.partition.fetch.bytes=99991",
            "--command-property",
            "fetch.max.bytes=99991",
        ],
    );
    // Offset:N<TAB>N....: both numbers must be the line's own.
    let lines = format!(
        "$2 != NR-1 || $3 != NR-1 {{print \"line\", NR, $0; exit 1}} END {{if (NR != {records}) exit 1}}"
    );
    let mut check = Command::new("bash");
    check
        .arg("-c")
        .arg("set -o pipefail; lines=$1; shift; \"$@\" | tr ':. ' '\\t' | awk -F'\\t' \"$lines\"");
    check.arg("bash").arg(lines).arg(java.get_program()).args(java.get_args());
    shell::output(&mut check)?;
    let python = python.wait_with_output().map_err(|error| error.to_string())?;
    if python.status.success() {
        return Ok(());
    }
    Err(format!("kafka-python: {} {}", python.status, String::from_utf8_lossy(&python.stderr)))
}

fn read(tools: &Tools, boot: &str, client: &str, records: u64, fetch: u64) -> Result<(), String> {
    let arguments = ["read", client, boot, "many", &records.to_string(), &fetch.to_string()];
    shell::output(&mut tools.python("millions.py", &arguments)).map(|_| ())
}

fn count(dir: &Path, ending: &str) -> Result<usize, String> {
    let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    Ok(entries.flatten().filter(|e| e.path().extension().is_some_and(|x| x == ending)).count())
}

/// Cuts, stretches and removes index files in turn.
fn spoil_indexes(dir: &Path) -> Result<usize, String> {
    let mut spoiled = 0;
    for entry in fs::read_dir(dir).map_err(|error| error.to_string())?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|ending| ending == "index" || ending == "timeindex") {
            let bytes = fs::read(&path).map_err(|error| error.to_string())?;
            let result = match spoiled % 3 {
                0 => fs::write(&path, &bytes[..bytes.len() / 2]),
                1 => fs::write(&path, [&bytes[..], &[0x41; 777]].concat()),
                _ => fs::remove_file(&path),
            };
            result.map_err(|error| error.to_string())?;
            spoiled += 1;
        }
    }
    Ok(spoiled)
}
