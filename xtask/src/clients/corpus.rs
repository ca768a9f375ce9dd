//! One gigabyte of real text, published by three clients and read back by groups in two languages, while the broker is
//! killed twenty times. Every byte must come back, once and in order.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::broker::Broker;
use super::tools::Tools;
use crate::shell;

const MEGABYTES: u64 = 1000;
const KILLS: u32 = 20;
const KILL_EVERY: Duration = Duration::from_millis(1500);
const LIMIT: Duration = Duration::from_secs(300);

struct Running {
    what: String,
    child: Child,
    expected: Option<String>,
}

/// Runs it; what was seen, in one line.
pub fn run(tools: &Tools, binary: &Path) -> Result<String, String> {
    let home = std::env::var("CARGO_HOME")
        .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")))
        .map_err(|_| "neither CARGO_HOME nor HOME is set")?;
    let dir = tools.work.join("corpus");
    fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
    let sources = format!("{home}/registry/src");
    let dir_text = dir.display().to_string();
    let megabytes = MEGABYTES.to_string();
    let made = shell::output(&mut tools.python("corpus.py", &[&dir_text, &megabytes, &sources]))?;
    let made: Value = serde_json::from_str(made.trim()).map_err(|error| error.to_string())?;

    let mut broker = Broker::start(binary, &tools.work.join("corpus-data"), &[])?;
    let boot = broker.bootstrap();
    let topics = [
        ("lines.txt", "lines", "java"),
        ("blocks-4096.bin", "blocks-4096", "librdkafka"),
        ("blocks-16384.bin", "blocks-16384", "kafka-python"),
    ];
    // Readers start beside the writers; one that finds no topic may not look again for minutes.
    for (_, topic, _) in topics {
        let mut create = Command::new(binary);
        shell::output(create.args(["topic", "create", topic, "--bootstrap", &boot]))?;
    }
    let mut running = Vec::new();
    for (file, topic, client) in topics {
        let path = dir.join(file);
        let path_text = path.display().to_string();
        let messages = made[file]["messages"].to_string();
        let digest = made[file]["sha256"].as_str().ok_or("no digest")?.to_owned();
        let publish = if client == "java" {
            let mut command = tools.java(
                "org.apache.kafka.tools.ConsoleProducer",
                &[
                    "--bootstrap-server",
                    &boot,
                    "--topic",
                    topic,
                    "--compression-codec",
                    "zstd",
                    "--message-send-max-retries",
                    "2147483647",
                    "--request-required-acks",
                    "all",
                    "--request-timeout-ms",
                    "15000",
                    "--max-block-ms",
                    "240000",
                    "--command-property",
                    "delivery.timeout.ms=240000",
                    "--command-property",
                    "linger.ms=20",
                    "--command-property",
                    "batch.size=65536",
                ],
            );
            command.stdin(fs::File::open(&path).map_err(|error| error.to_string())?);
            command
        } else {
            let block = topic.trim_start_matches("blocks-");
            tools.python("publish.py", &[client, &boot, topic, &path_text, block])
        };
        running.push(spawn(format!("{client} publishes {topic}"), publish, None)?);
        let reader = if client == "kafka-python" { "kafka-python" } else { "librdkafka" };
        let collect = tools
            .python("collect.py", &[reader, &boot, topic, &format!("python-{topic}"), &messages]);
        running.push(spawn(format!("{reader} reads {topic}"), collect, Some(digest.clone()))?);
        // The Java reader's output goes through sha256sum: nobody holds a gigabyte.
        let java = tools.java(
            "org.apache.kafka.tools.consumer.ConsoleConsumer",
            &[
                "--bootstrap-server",
                &boot,
                "--topic",
                topic,
                "--group",
                &format!("java-{topic}"),
                "--from-beginning",
                "--max-messages",
                &messages,
                "--command-property",
                "check.crcs=true",
            ],
        );
        running.push(spawn(format!("java reads {topic}"), digest_of(java), Some(digest))?);
    }

    let started = Instant::now();
    let (mut kills, mut slowest) = (0, Duration::ZERO);
    let mut next_kill = started + Duration::from_secs(4);
    let mut faults = Vec::new();
    while !running.is_empty() {
        if started.elapsed() > LIMIT {
            faults.extend(running.iter().map(|r| format!("{}: not finished in time", r.what)));
            break;
        }
        if kills < KILLS && Instant::now() >= next_kill {
            broker.kill()?;
            slowest = slowest.max(broker.restart()?);
            kills += 1;
            next_kill = Instant::now() + KILL_EVERY;
        }
        let mut index = 0;
        while index < running.len() {
            match running[index].child.try_wait().map_err(|error| error.to_string())? {
                None => index += 1,
                Some(_) => {
                    if let Err(fault) = finish(running.remove(index)) {
                        faults.push(fault);
                    }
                }
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    for mut left in running {
        let _ = left.child.kill();
        let _ = left.child.wait();
    }
    broker.stop()?;
    // A kill that no client notices shows nothing.
    if kills < KILLS {
        faults.push(format!("all clients were done after {kills} kills"));
    }
    if !faults.is_empty() {
        return Err(faults.join("\n"));
    }
    Ok(format!(
        "{MEGABYTES} MB by three clients, read back byte-equal by two languages, {kills} kills, slowest restart {} ms, {:.0} s",
        slowest.as_millis(),
        started.elapsed().as_secs_f64()
    ))
}

fn spawn(what: String, mut command: Command, expected: Option<String>) -> Result<Running, String> {
    if expected.is_some() {
        command.stdout(Stdio::piped());
    } else {
        command.stdout(Stdio::null());
    }
    let child =
        command.stderr(Stdio::piped()).spawn().map_err(|error| format!("{what}: {error}"))?;
    Ok(Running { what, child, expected })
}

/// The command with its output replaced by the output's SHA-256.
fn digest_of(command: Command) -> Command {
    let mut piped = Command::new("bash");
    piped.arg("-c").arg("set -o pipefail; \"$@\" | sha256sum").arg("bash");
    piped.arg(command.get_program()).args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        piped.current_dir(dir);
    }
    piped
}

fn finish(running: Running) -> Result<(), String> {
    let Running { what, child, expected } = running;
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let tail: String =
            stderr.chars().rev().take(600).collect::<Vec<_>>().into_iter().rev().collect();
        return Err(format!("{what}: {} {stdout} {tail}", output.status));
    }
    match expected {
        Some(digest) if !stdout.starts_with(&digest) => {
            Err(format!("{what}: bytes differ (digest {}, expected {digest})", stdout.trim()))
        }
        _ => {
            println!("  {what}: done");
            Ok(())
        }
    }
}
