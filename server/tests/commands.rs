//! The commands that talk to a broker: topics, groups, settings, records.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Scratch, Server, check_failure, foretold};
use rustix::process::Signal;
use serde_json::{Value, json};

fn server() -> (Scratch, Server) {
    let scratch = Scratch::new();
    let server = Server::dev(scratch.path(), &["--set", "group.initial.rebalance.delay.ms=0"]);
    (scratch, server)
}

#[test]
fn topics_live_from_create_to_delete() {
    let (_scratch, server) = server();
    server
        .ok(&["topic", "create", "a", "b", "--partitions", "3", "--set", "retention.ms=60000"], "");
    server.fails(&["topic", "create", "a"], "TOPIC_ALREADY_EXISTS");
    server.ok(&["topic", "create", "a", "--if-not-exists"], "");
    server.fails(&["topic", "create", "a/b"], "INVALID_TOPIC_EXCEPTION");
    check_failure(&server.run(&["produce", "a b"], "x\n"), 1, "1 to 249 letters");
    server.fails(&["topic", "create", "c", "--set", "cleanup.policy=compact"], "INVALID_CONFIG");
    server.fails(&["topic", "create", "c", "--replication", "3"], "INVALID_REPLICATION_FACTOR");
    server.ok(&["topic", "create", "c", "--dry-run"], "");

    let list = server.json(&["topic", "list"]);
    let names: Vec<&str> =
        list.as_array().unwrap().iter().map(|t| t["topic"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b"]);

    server.ok(&["produce", "a", "--partition", "1"], "x\ny\n");
    let described = server.json(&["topic", "describe", "a"]);
    assert_eq!(described[0]["configs"], json!({ "retention.ms": "60000" }));
    assert_eq!(described[0]["partitions"][1]["end_offset"], 2);
    assert_eq!(described[0]["partitions"][0]["isr"], json!([0]));

    server.ok(&["topic", "alter", "a", "--partitions", "5", "--set", "max.message.bytes=2000"], "");
    server.fails(&["topic", "alter", "a", "--partitions", "2"], "INVALID_PARTITIONS");
    let described = server.json(&["topic", "describe", "a"]);
    assert_eq!(described[0]["partitions"].as_array().unwrap().len(), 5);
    server.ok(&["topic", "alter", "a", "--unset", "retention.ms"], "");
    let described = server.json(&["topic", "describe", "a"]);
    assert_eq!(described[0]["configs"], json!({ "max.message.bytes": "2000" }));

    server.ok(&["topic", "delete", "a"], "");
    server.fails(&["topic", "delete", "a"], "UNKNOWN_TOPIC_OR_PARTITION");
    server.ok(&["topic", "delete", "a", "--if-exists"], "");
    server.fails(&["topic", "describe", "a"], "there is no such topic");
    assert!(server.ok(&["topic", "list"], "").starts_with("TOPIC"), "a table for people");
}

#[test]
fn records_come_back_as_they_were_sent() {
    let (_scratch, server) = server();
    let many: String = (0..50_000).map(|n| format!("{n}\n")).collect();
    server.ok(&["produce", "many"], &many);
    assert!(server.ok(&["consume", "many", "--from", "earliest", "--until-end"], "") == many);
    let lines: String = (0..2000).map(|n| format!("line {n}\n")).collect();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("t-{codec}");
        server.ok(&["produce", &topic, "--compression", codec], &lines);
        let read = server.ok(&["consume", &topic, "--from", "earliest", "--until-end"], "");
        assert_eq!(read, lines, "{codec}");
    }
    for acks in ["0", "1", "all"] {
        server.ok(&["produce", "acks", "--acks", acks], "x\n");
    }
    let read = server.ok(&["consume", "acks", "--from", "earliest", "-n", "3"], "");
    assert_eq!(read, "x\nx\nx\n");

    server.ok(&["produce", "keyed", "-k", "=", "--header", "h=v"], "a=1\nb=\n");
    let read = server.ok(&["consume", "keyed", "--from", "earliest", "-n", "2", "--json"], "");
    let records: Vec<Value> =
        read.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records[0]["key"], "a");
    assert_eq!(records[0]["headers"], json!([["h", "v"]]));
    assert_eq!(records[1]["value"], "");
    assert_eq!(records[1]["offset"], 1);
}

#[test]
fn reading_begins_where_it_is_told_to() {
    let (_scratch, server) = server();
    server.ok(&["produce", "t"], "0\n1\n2\n3\n4\n");
    let consume = |from: &str| server.ok(&["consume", "t", "--from", from, "--until-end"], "");
    assert_eq!(consume("3"), "3\n4\n");
    assert_eq!(consume("latest"), "");
    assert_eq!(consume("1h ago"), "0\n1\n2\n3\n4\n");
    assert_eq!(consume("2001-01-01T00:00:00Z"), "0\n1\n2\n3\n4\n");
    assert_eq!(consume("2999-01-01T00:00:00Z"), "");
    assert_eq!(consume("99"), "", "past the end there is nothing yet");
    let args = ["consume", "t", "--from", "99", "--count", "1", "--bootstrap", &server.bootstrap];
    let mut waiting =
        Command::new(common::FORETOLD).args(args).stdout(Stdio::piped()).spawn().unwrap();
    // Until it has found the end and sees what comes after it.
    for next in 5.. {
        if waiting.try_wait().unwrap().is_some() {
            break;
        }
        server.ok(&["produce", "t"], &format!("{next}\n"));
    }
    let read = String::from_utf8(waiting.wait_with_output().unwrap().stdout).unwrap();
    let read: u32 = read.trim().parse().unwrap();
    assert!(read >= 5, "nor is it read from the beginning: {read}");
    server.fails(&["consume", "nowhere", "--count", "1"], "there is no topic");
    server.fails(&["consume", "t", "--partition", "7", "--count", "1"], "no partition 7");
    let group = ["consume", "t", "--group", "g", "--from", "3"];
    check_failure(&server.run(&group, ""), 2, "group reset");
}

#[test]
fn groups_keep_their_place() {
    let (_scratch, server) = server();
    server.ok(&["topic", "create", "t", "--partitions", "2"], "");
    server.ok(&["produce", "t", "--partition", "0"], "a\nb\nc\n");
    server.ok(&["produce", "t", "--partition", "1"], "x\n");
    let consume = |count: &str| {
        let args = ["consume", "t", "--group", "g", "--from", "earliest", "--count", count];
        let mut lines: Vec<String> = server.ok(&args, "").lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(consume("4"), ["a", "b", "c", "x"]);
    server.ok(&["produce", "t", "--partition", "1"], "y\n");
    assert_eq!(consume("1"), ["y"]);

    let list = server.json(&["group", "list"]);
    assert_eq!(list[0]["group"], "g");
    assert_eq!(list[0]["state"], "Empty");
    let described = server.json(&["group", "describe", "g"]);
    let lag: i64 = described["positions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|position| position["lag"].as_i64().unwrap())
        .sum();
    assert_eq!(lag, 0);

    let plan = server.json(&["group", "reset", "g", "--topic", "t:0", "--to", "1", "--dry-run"]);
    assert_eq!(plan, json!([{ "topic": "t", "partition": 0, "from": 3, "to": 1 }]));
    server.ok(&["group", "reset", "g", "--topic", "t:0", "--to", "1"], "");
    assert_eq!(consume("2"), ["b", "c"]);
    server.ok(&["group", "reset", "g", "--to", "earliest"], "");
    assert_eq!(consume("5").len(), 5);

    server.ok(&["group", "delete", "g"], "");
    server.fails(&["group", "describe", "g"], "there is no such group");
    server.fails(&["group", "delete", "g"], "GROUP_ID_NOT_FOUND");
}

#[test]
fn a_member_that_is_told_to_stop_leaves_its_group() {
    let (_scratch, server) = server();
    server.ok(&["produce", "t"], "a\n");
    // Who runs the tests under nohup has every child ignore it.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
    let hears_hangup = u64::from_str_radix(ignored, 16).unwrap() & 1 == 0;
    let signals = [Signal::TERM, Signal::INT, Signal::HUP];
    for signal in signals.into_iter().take(if hears_hangup { 3 } else { 2 }) {
        let args = ["consume", "t", "--group", "g", "--from", "earliest"];
        let mut member = Command::new(common::FORETOLD)
            .args(args)
            .args(["--bootstrap", &server.bootstrap])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let state = || server.json(&["group", "list"])[0]["state"].clone();
        while state() != "Stable" {
            std::thread::sleep(Duration::from_millis(50));
        }
        let pid = rustix::process::Pid::from_raw(member.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        assert_eq!(member.wait().unwrap().code(), Some(0), "{signal:?}");
        assert_eq!(state(), "Empty", "{signal:?}");
    }
}

#[test]
fn publishing_gives_up_when_its_time_has_passed_without_success() {
    let (_scratch, server) = server();
    server.ok(&["topic", "create", "t"], "");
    let lines = "x\n".repeat(1_000_000);
    // A partition may yet come, so it is asked for again.
    let args = ["produce", "t", "--partition", "7", "--timeout", "1", "--json"];
    let output = server.run(&args, &lines);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["acknowledged"], 0, "{report}");
    let lost = report["failed"].as_u64().unwrap() + report["unknown"].as_u64().unwrap();
    assert!(lost < 1_000_000, "{report}");
    let error = report["error"].as_str().unwrap();
    assert!(error.contains("t has 1 partitions, counted from 0, and no partition 7"), "{error}");
}

#[test]
fn a_topic_needs_no_more_replicas_than_it_has() {
    let (_scratch, server) = server();
    server.ok(&["topic", "create", "t", "--set", "min.insync.replicas=2"], "");
    server.ok(&["produce", "t", "--acks", "all"], "x\n");
}

#[test]
fn settings_are_shown_set_and_unset() {
    let (_scratch, server) = server();
    server.ok(&["topic", "create", "t"], "");
    server.ok(&["config", "set", "topic", "t", "retention.ms=5000"], "");
    let get = |key: &str| server.json(&["config", "get", "topic", "t", key])[0].clone();
    assert_eq!(get("retention.ms")["value"], "5000");
    assert_eq!(get("retention.ms")["source"], "topic");
    server.ok(&["config", "unset", "topic", "t", "retention.ms"], "");
    assert_eq!(get("retention.ms")["source"], "default");
    server.fails(&["config", "set", "topic", "t", "retention.mss=1"], "retention.ms");
    server.fails(&["config", "set", "topic", "t", "retention.ms=soon"], "retention.ms");
    server.fails(&["config", "get", "topic", "t", "nonsense"], "there is no setting");
    server.fails(&["config", "get", "topic", "missing"], "UNKNOWN_TOPIC_OR_PARTITION");
    let broker = server.json(&["config", "get", "broker", "0", "log.durability"]);
    assert_eq!(broker[0]["value"], "sync");
    let wrong = server.run(&["config", "get", "broker", "first"], "");
    check_failure(&wrong, 2, "is not a broker");
}

#[test]
fn what_topics_inherit_counts_at_once_and_after_a_restart_the_nearest_first() {
    let scratch = Scratch::new();
    let start = || Server::dev(scratch.path(), &["--set", "message.max.bytes=100000"]);
    let large = format!("{}\n", "x".repeat(5000));
    let takes_large =
        |server: &Server| server.run(&["produce", "t", "--json"], &large).status.code() == Some(0);
    let told = |server: &Server| {
        let told = server.json(&["config", "get", "topic", "t", "max.message.bytes"])[0].clone();
        (told["value"].as_str().unwrap().to_owned(), told["source"].as_str().unwrap().to_owned())
    };
    let is = |value: &str, source: &str| (value.to_owned(), source.to_owned());

    let server = start();
    server.ok(&["topic", "create", "t"], "");
    assert!(takes_large(&server));
    assert_eq!(told(&server), is("100000", "static"));
    server.ok(&["config", "set", "broker", "default", "message.max.bytes=1000"], "");
    assert!(!takes_large(&server));
    assert_eq!(told(&server), is("1000", "cluster"));
    server.ok(&["config", "set", "broker", "0", "message.max.bytes=20000"], "");
    assert!(takes_large(&server));
    assert_eq!(told(&server), is("20000", "broker"));
    server.ok(&["config", "set", "topic", "t", "max.message.bytes=2000"], "");
    assert!(!takes_large(&server));
    server.kill();

    let server = start();
    assert!(!takes_large(&server));
    server.ok(&["config", "unset", "topic", "t", "max.message.bytes"], "");
    assert_eq!(told(&server), is("20000", "broker"));
    assert!(takes_large(&server));
    server.ok(&["config", "unset", "broker", "0", "message.max.bytes"], "");
    assert_eq!(told(&server), is("1000", "cluster"));
    assert!(!takes_large(&server));
    server.ok(&["config", "unset", "broker", "default", "message.max.bytes"], "");
    assert_eq!(told(&server), is("100000", "static"));
    assert!(takes_large(&server));
}

#[test]
fn changes_tell_scripts_what_they_did() {
    let (_scratch, server) = server();
    server.ok(&["topic", "create", "t"], "");
    let told = server.json(&["config", "set", "topic", "t", "retention.ms=5000", "--dry-run"]);
    let settings = json!({"retention.ms": "5000"});
    let expected = json!({"resource": "topic", "name": "t", "settings": settings, "dry_run": true});
    assert_eq!(told, expected);
    let told = server.json(&["config", "unset", "broker", "default", "log.retention.ms"]);
    assert_eq!(told["settings"], json!({"log.retention.ms": null}));
    let told = server.json(&["topic", "alter", "t", "--partitions", "3", "--set", "flush.ms=9"]);
    let expected = json!({"topic": "t", "partitions": 3, "settings": {"flush.ms": "9"}});
    assert_eq!(told, expected);
    server.ok(&["produce", "t"], "x\n");
    server.ok(&["consume", "t", "--group", "g", "--from", "earliest", "--count", "1"], "");
    assert_eq!(server.json(&["group", "delete", "g"]), json!({"deleted": ["g"]}));
}

#[test]
fn disks_are_listed_with_what_lies_in_them() {
    let (scratch, server) = server();
    server.ok(&["topic", "create", "t", "--partitions", "2"], "");
    server.ok(&["produce", "t", "--partition", "1"], &"x\n".repeat(100));
    let dirs = server.json(&["disk", "list"]);
    assert_eq!(dirs.as_array().unwrap().len(), 1);
    assert_eq!(dirs[0]["directory"], scratch.path().to_str().unwrap());
    assert_eq!((&dirs[0]["broker"], &dirs[0]["error"]), (&json!(0), &Value::Null));
    assert!(dirs[0]["bytes_free"].as_u64().unwrap() > 0);
    let logs = dirs[0]["logs"].as_array().unwrap();
    let bytes = |index| {
        let log = logs.iter().find(|log| log["topic"] == "t" && log["partition"] == index);
        log.unwrap()["bytes"].as_u64().unwrap()
    };
    assert_eq!(bytes(0), 0);
    assert!(bytes(1) > 100);
    let table = server.ok(&["disk", "list", "--logs", "--broker", "0"], "");
    assert!(table.lines().nth(1).unwrap().starts_with("t-1 "), "the largest first: {table}");
    assert!(server.ok(&["disk", "list"], "").contains("works"));
}

#[test]
fn a_record_over_the_limit_is_refused_and_the_rest_is_not() {
    let (_scratch, server) = server();
    server.ok(&["topic", "create", "t", "--set", "max.message.bytes=1000"], "");
    let lines = format!("small\n{}\nsmall too\n", "x".repeat(5000));
    let output = server.run(&["produce", "t", "--json"], &lines);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["acknowledged"], &report["failed"]), (&json!(2), &json!(1)), "{report}");
    let read = server.ok(&["consume", "t", "--from", "earliest", "--until-end"], "");
    assert_eq!(read, "small\nsmall too\n");
}

#[test]
fn without_a_broker_the_error_says_how_to_get_one() {
    for args in [&["topic", "list"][..], &["group", "list"], &["produce", "t"]] {
        let mut args = args.to_vec();
        args.extend(["--bootstrap", "127.0.0.1:1", "--timeout", "1"]);
        check_failure(&foretold(&args, "x\n"), 1, "foretold dev");
    }
    // Somebody listens there and understands nothing.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in other.incoming() {
            let _ = std::io::Read::read(&mut stream.unwrap(), &mut [0; 4]);
        }
    });
    let args = ["topic", "list", "--bootstrap", &address, "--timeout", "1"];
    check_failure(&foretold(&args, ""), 1, "is a plain listener of a broker");
    let output = foretold(&["topic", "list", "--bootstrap", "nonsense"], "");
    check_failure(&output, 2, "host:port");
}

#[test]
fn top_shows_what_happens_now() {
    let (_scratch, server) = server();
    server.ok(&["topic", "create", "orders", "--partitions", "2"], "");
    server.ok(&["produce", "orders"], "a\nb\nc\n");
    server.ok(&["consume", "orders", "--group", "g", "--from", "earliest", "--count", "2"], "");
    let told = server.ok(&["top", "--count", "2", "--interval", "0.2", "--json"], "");
    let looks: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(looks.len(), 2);
    assert_eq!(looks[0]["topics"][0]["records_per_second"], Value::Null);
    assert_eq!(looks[1]["topics"][0]["records_per_second"], 0.0);
    assert_eq!(looks[1]["topics"][0]["topic"], "orders");
    assert_eq!(looks[1]["topics"][0]["end_offsets"], 3);
    assert!(looks[1]["topics"][0]["bytes"].as_u64().unwrap() > 0);
    assert_eq!(
        (&looks[1]["groups"][0]["group"], &looks[1]["groups"][0]["lag"]),
        (&json!("g"), &json!(1))
    );
    assert!(looks[1]["disks"][0]["bytes_total"].as_u64().unwrap() > 0);
    let shown = server.ok(&["top", "--count", "1"], "");
    assert!(shown.contains("ORDERS") || shown.contains("orders"), "{shown}");
    check_failure(&server.run(&["top", "--interval", "0"], ""), 2, "0.1 to 3600");
}

/// Runs a command whose standard output and error are a terminal; what it shows there.
fn on_a_terminal(args: &[&str]) -> String {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::io::Read;
    let here = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&here).unwrap();
    unlockpt(&here).unwrap();
    let name = ptsname(&here, Vec::new()).unwrap().into_string().unwrap();
    let there = std::fs::File::options().read(true).write(true).open(name).unwrap();
    let mut child = Command::new(common::FORETOLD)
        .args(args)
        .stdin(Stdio::null())
        .stdout(there.try_clone().unwrap())
        .stderr(there)
        .spawn()
        .unwrap();
    let mut shown = Vec::new();
    // The last one to close the other end makes reading fail.
    let _ = std::fs::File::from(here).read_to_end(&mut shown);
    let shown = String::from_utf8(shown).unwrap();
    assert!(child.wait().unwrap().success(), "{shown}");
    shown
}

#[test]
fn a_terminal_is_served_like_a_pipe() {
    let (_scratch, server) = server();
    let list = on_a_terminal(&["topic", "list", "--bootstrap", &server.bootstrap]);
    assert_eq!(list.lines().count(), 1, "nothing but the heading: {list}");
    let top = on_a_terminal(&["top", "-n", "2", "--interval", "0.2", "-b", &server.bootstrap]);
    assert_eq!(top.matches("\x1b[H").count(), 2, "drawn twice in place: {top}");
}
