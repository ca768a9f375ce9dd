//! The contract with scripts: one ready line, the pid file, signals, exit codes, and errors that say what to do.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use common::{Mounted, Scratch, Server, check_failure, fill, foretold};
use rustix::process::Signal;

#[test]
fn the_ready_line_says_where_who_and_what() {
    let scratch = Scratch::new();
    let data = scratch.join("data with a blank");
    let mut server = Server::dev(&data, &[]);
    let pid = server.pid();
    let port = server.bootstrap.strip_prefix("127.0.0.1:").unwrap().parse::<u16>().unwrap();
    assert_ne!(port, 0);
    let expected = format!("ready bootstrap=127.0.0.1:{port} pid={pid} data={}\n", data.display());
    assert_eq!(server.ready, expected);
    assert_eq!(fs::read_to_string(data.join("pid")).unwrap(), format!("{pid}\n"));

    // Ready means that a produce sent now succeeds.
    server.ok(&["produce", "t"], "hello\n");

    server.signal(Signal::TERM);
    assert_eq!(server.wait(), (Some(0), String::new()), "nothing but the ready line on stdout");
    assert!(!data.join("pid").exists());
}

#[test]
fn interrupt_and_hangup_stop_cleanly_and_a_restart_finds_everything() {
    for signal in [Signal::INT, Signal::HUP] {
        let scratch = Scratch::new();
        let mut server = Server::dev(scratch.path(), &[]);
        server.ok(&["produce", "t"], "1\n2\n3\n");
        server.signal(signal);
        assert_eq!(server.wait().0, Some(0), "{signal:?}");
        let server = Server::dev(scratch.path(), &[]);
        let read = server.ok(&["consume", "t", "--from", "earliest", "--until-end"], "");
        assert_eq!(read, "1\n2\n3\n");
        server.stop();
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let scratch = Scratch::new();
    let lines: String = (0..500).map(|n| format!("{n}\n")).collect();
    for round in 1..=3 {
        let server = Server::dev(scratch.path(), &[]);
        server.ok(&["produce", "t"], &lines);
        server.kill();
        let server = Server::dev(scratch.path(), &[]);
        let read = server.ok(&["consume", "t", "--from", "earliest", "--until-end"], "");
        assert_eq!(read, lines.repeat(round));
        server.kill();
    }
}

/// Found by cutting the power of the disk that the log was on too: the first line that could not be written ended the
/// broker, and with the wrong code.
#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        std::process::Stdio::from(writer)
    };
    let scratch = Scratch::new();
    let data = scratch.path().to_str().unwrap();
    let args = ["dev", "--listen", "127.0.0.1:0", "--data", data];
    let server = Server::start_with_log(&args, closed());
    server.ok(&["produce", "t"], "hello\n");
    server.stop();

    let args = ["dev", "--listen", "127.0.0.1:0", "--data", data, "--set", "no.such.key=1"];
    let status = std::process::Command::new(common::FORETOLD).args(args).stderr(closed()).status();
    assert_eq!(status.unwrap().code(), Some(2));
}

#[test]
fn a_port_in_use_is_exit_code_3() {
    let scratch = Scratch::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = scratch.path().to_str().unwrap();
    let output = foretold(&["dev", "--listen", &address, "--data", data], "");
    check_failure(&output, 3, "another process listens there");
    let output = foretold(&["dev", "--listen", "203.0.113.1:0", "--data", data], "");
    check_failure(&output, 3, "does not have that address");
    let output = foretold(&["dev", "--listen", "no.such.host.invalid:0", "--data", data], "");
    check_failure(&output, 3, "not known here");
}

#[test]
fn a_directory_that_is_not_ours_is_exit_code_4() {
    let scratch = Scratch::new();
    let dev = |data: &std::path::Path| {
        foretold(&["dev", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()], "")
    };
    // Something else lives there.
    let foreign = scratch.join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("holiday.jpg"), "x").unwrap();
    check_failure(&dev(&foreign), 4, "name an empty directory");
    let mut left: Vec<_> =
        fs::read_dir(&foreign).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.retain(|name| name != ".lock");
    assert_eq!(left, ["holiday.jpg"], "it was left alone");

    // It is no directory at all.
    let file = scratch.join("file");
    fs::write(&file, "x").unwrap();
    check_failure(&dev(&file), 4, "is not a directory");

    // Another process uses it.
    let ours = scratch.join("ours");
    let server = Server::dev(&ours, &[]);
    check_failure(&dev(&ours), 4, "another directory");
    server.stop();

    // What the node knows of its topics is lost, and their records are not.
    let server = Server::dev(&ours, &[]);
    server.ok(&["produce", "t"], "x\n");
    server.stop();
    let (metadata, aside) = (ours.join("cluster-metadata"), ours.join("aside"));
    fs::rename(&metadata, &aside).unwrap();
    for _ in 0..2 {
        check_failure(&dev(&ours), 4, "the metadata is missing");
    }
    fs::remove_dir_all(&metadata).unwrap();
    fs::rename(&aside, &metadata).unwrap();
    let server = Server::dev(&ours, &[]);
    assert_eq!(server.ok(&["consume", "t", "--from", "earliest", "--until-end"], ""), "x\n");
    server.stop();
    let checkpoint = ours.join("checkpoint");
    let good = fs::read(&checkpoint).unwrap();
    fs::write(&checkpoint, "noise").unwrap();
    check_failure(&dev(&ours), 4, "restore it from a copy");
    fs::write(&checkpoint, good).unwrap();

    // A newer release wrote it.
    let meta = ours.join("meta.properties");
    let text = fs::read_to_string(&meta).unwrap();
    assert!(text.contains("foretold.format=1"), "{text}");
    let without_sum = |text: &str| -> String {
        let lines = text.lines().filter(|line| !line.starts_with("foretold.crc="));
        lines.map(|line| format!("{line}\n")).collect()
    };
    let newer = text.replace("foretold.format=1", "foretold.format=99");
    fs::write(&meta, without_sum(&newer)).unwrap();
    check_failure(&dev(&ours), 4, "newer");
    // Or a bit has flipped.
    fs::write(&meta, &newer).unwrap();
    check_failure(&dev(&ours), 4, "is not the checksum");

    // It belongs to another node.
    let other = text.replace("node.id=0", "node.id=7");
    fs::write(&meta, &other).unwrap();
    check_failure(&dev(&ours), 4, "is not the checksum");
    fs::write(&meta, without_sum(&other)).unwrap();
    check_failure(&dev(&ours), 4, "belongs to this node");
}

/// A node that serves, and says that it takes no records before there is space.
fn start_without_space(data: &Path, listen: &str) -> Child {
    let mut node = Command::new(common::FORETOLD)
        .args(["dev", "--listen", listen, "--data", data.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(node.stderr.take().unwrap()).lines();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || log.map_while(Result::ok).for_each(|line| drop(tell.send(line))));
    let lines = std::iter::from_fn(|| told.recv_timeout(Duration::from_secs(10)).ok());
    let mut before = Vec::new();
    for line in lines {
        if line.contains("not ready") && line.contains("there is space") {
            return node;
        }
        before.push(line);
    }
    node.kill().unwrap();
    node.wait().unwrap();
    panic!("{before:?}");
}

/// The journal's first file of a start, 32 MiB, did not fit into what is kept for a full disk: the start was refused.
#[test]
fn a_node_that_ended_on_a_full_disk_starts_again_without_a_byte_more() {
    let scratch = Scratch::new();
    let Some(disk) = Mounted::new(scratch.join("disk"), "size=200m") else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let data = disk.0.join("data");
    let server = Server::dev(&data, &[]);
    server.ok(&["topic", "create", "doomed"], "");
    server.ok(&["produce", "t"], "before\n");
    let address = server.bootstrap.clone();
    let hog = fill(&disk.0);
    server.kill();
    let ask = |args: &[&str], seconds: &str, input: &str| {
        foretold(&[args, &["--bootstrap", &address, "--timeout", seconds]].concat(), input)
    };
    let ok = |args: &[&str]| {
        let output = ask(args, "10", "");
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let mut node = None;
    for life in 0..4 {
        fs::remove_file(&hog).unwrap();
        // As an earlier release left it; later on rotten from end to end.
        let ballot = data.join("cluster-metadata/quorum-state");
        match life {
            0 | 1 => fs::remove_file(&ballot).unwrap_or_default(),
            2 => _ = fs::write(&ballot, [7; 8192]),
            _ => {}
        }
        fill(&disk.0);
        let started = node.insert(start_without_space(&data, &address));
        assert_eq!(ok(&["consume", "t", "--from", "earliest", "--until-end"]), "before\n");
        ok(&["group", "reset", "readers", "--topic", "t", "--to", "earliest"]);
        ok(&["topic", "create", &format!("born-{life}")]);
        if life == 0 {
            ok(&["topic", "delete", "doomed"]);
        }
        assert!(!ask(&["produce", "t"], "1", "refused\n").status.success());
        if life < 3 {
            let signal = if life == 1 { Signal::TERM } else { Signal::KILL };
            let pid = rustix::process::Pid::from_raw(started.id() as i32).unwrap();
            rustix::process::kill_process(pid, signal).unwrap();
            started.wait().unwrap();
        }
    }
    fs::remove_file(&hog).unwrap();
    let mut node = node.unwrap();
    let mut ready = String::new();
    BufReader::new(node.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert!(ready.starts_with("ready "), "{ready}");
    assert!(ask(&["produce", "t"], "10", "after\n").status.success());
    assert_eq!(ok(&["consume", "t", "--from", "earliest", "--until-end"]), "before\nafter\n");
    let pid = rustix::process::Pid::from_raw(node.id() as i32).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(node.wait().unwrap().code(), Some(0));
}

#[test]
fn ready_waits_for_space_on_a_disk_that_is_nearly_full() {
    let scratch = Scratch::new();
    let Some(disk) = Mounted::new(scratch.join("disk"), "size=90m") else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let data = disk.0.join("data");
    let mut node = start_without_space(&data, "127.0.0.1:0");
    let grown = ["-o", "remount,size=400m"];
    assert!(Command::new("mount").args(grown).arg(&disk.0).status().unwrap().success());
    let mut ready = String::new();
    BufReader::new(node.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let address = ready.strip_prefix("ready bootstrap=").and_then(|rest| rest.split(' ').next());
    let produced = foretold(&["produce", "t", "--bootstrap", address.unwrap()], "x\n");
    assert!(produced.status.success(), "{produced:?}");
    let pid = rustix::process::Pid::from_raw(node.id() as i32).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(node.wait().unwrap().code(), Some(0));
}

#[test]
fn a_wrong_configuration_is_exit_code_2() {
    let scratch = Scratch::new();
    let data = scratch.path().to_str().unwrap().to_owned();
    let dev = |set: &str| {
        foretold(&["dev", "--listen", "127.0.0.1:0", "--data", &data, "--set", set], "")
    };
    check_failure(&dev("num.partitons=3"), 2, "did you mean num.partitions?");
    check_failure(&dev("num.partitions=many"), 2, "num.partitions");
    check_failure(&dev("num.partitions"), 2, "key=value");
    check_failure(&dev("log.dirs=elsewhere"), 2, "two places");
    // Promised, missing, and not to be gone on without.
    check_failure(&dev("sasl.enabled.mechanisms=PLAIN"), 2, "not there yet");
    check_failure(&dev("listeners=SSL://127.0.0.1:0"), 2, "not there yet");
    check_failure(&dev("log.cleanup.policy=compact"), 2, "not there yet");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing was begun");

    check_failure(&foretold(&["dev", "--listen", "9092"], ""), 2, "HOST:PORT");
    check_failure(&foretold(&["server", "--config", "/no/such/file"], ""), 2, "/no/such/file");
    check_failure(&foretold(&["frobnicate"], ""), 2, "unrecognized subcommand");
    let broken = scratch.join("broken.properties");
    fs::write(&broken, "a=1\nb=\\u12\n").unwrap();
    check_failure(&foretold(&["server", "--config", broken.to_str().unwrap()], ""), 2, "line 2");
}

#[test]
fn the_stock_file_of_kafka_starts() {
    let scratch = Scratch::new();
    let stock = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/stock-server.properties");
    // Only the port and the place are moved, so that tests can run beside each other.
    let log_dirs = format!("log.dirs={}", scratch.join("data").display());
    let listeners = "listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0";
    let advertised = "advertised.listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0";
    let server = Server::start(&[
        "server", "--config", stock, "--set", &log_dirs, "--set", listeners, "--set", advertised,
    ]);
    server.ok(&["produce", "t"], "x\n");
    server.stop();
}

#[test]
fn two_listeners_are_both_announced_and_both_serve() {
    let scratch = Scratch::new();
    let server = Server::dev(
        scratch.path(),
        &[
            "--set",
            "listeners=INSIDE://127.0.0.1:0,OUTSIDE://127.0.0.1:0",
            "--set",
            "listener.security.protocol.map=INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT",
            "--set",
            "inter.broker.listener.name=INSIDE",
        ],
    );
    let addresses: Vec<String> = server.bootstrap.split(',').map(str::to_owned).collect();
    assert_eq!(addresses.len(), 2, "{}", server.ready);
    for address in &addresses {
        let output = foretold(&["produce", "t", "--bootstrap", address], "x\n");
        assert_eq!(output.status.code(), Some(0), "{address}");
    }
    server.stop();
}

#[test]
fn a_formatted_directory_keeps_its_cluster() {
    let scratch = Scratch::new();
    let data = scratch.join("data");
    let data = data.to_str().unwrap();
    let output = foretold(&["format", "--cluster-id", "one", "--data", data], "");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    // Again for the same cluster is no error, for another it is.
    let output = foretold(&["format", "--cluster-id", "one", "--data", data], "");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let output = foretold(&["format", "--cluster-id", "two", "--data", data], "");
    check_failure(&output, 4, "one");
    let server = Server::start(&["dev", "--listen", "127.0.0.1:0", "--data", data]);
    server.ok(&["produce", "t"], "x\n");
    server.stop();
}

#[test]
fn logs_are_json_where_that_is_asked_for() {
    let scratch = Scratch::new();
    let data = scratch.path().to_str().unwrap();
    let mut child = std::process::Command::new(common::FORETOLD)
        .args(["dev", "--listen", "127.0.0.1:0", "--data", data, "--log-format", "json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut ready).unwrap();
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let logs = String::from_utf8(output.stderr).unwrap();
    assert!(!logs.is_empty());
    for line in logs.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(event["level"].is_string(), "{line}");
    }
}

#[test]
fn the_small_commands_print_and_end() {
    let version = foretold(&["version"], "");
    let expected = format!("foretold {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(version.stdout).unwrap(), expected);
    for shell in ["bash", "zsh", "fish"] {
        let script = foretold(&["completion", shell], "");
        assert_eq!(script.status.code(), Some(0));
        assert!(String::from_utf8(script.stdout).unwrap().contains("foretold"), "{shell}");
    }
}
