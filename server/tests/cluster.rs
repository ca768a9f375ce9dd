//! Three real processes: what is acknowledged outlives the death of any of them, and nobody has to do anything but start it
//! again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::{Scratch, Server, check_failure, foretold};
use rustix::process::{Pid, Signal, kill_process};

/// Kills the node with this data directory.
fn kill(data: &std::path::Path) {
    let pid: i32 = std::fs::read_to_string(data.join("pid")).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// Lines `from..to`, one record each.
fn lines(from: u32, to: u32) -> String {
    (from..to).map(|number| format!("{number}\n")).collect()
}

#[test]
fn what_is_acknowledged_outlives_the_death_of_any_node() {
    let scratch = Scratch::new();
    let data = scratch.join("three");
    let cluster = Server::dev(&data, &["--nodes", "3"]);
    assert_eq!(cluster.bootstrap.split(',').count(), 3, "{}", cluster.ready);
    cluster.ok(&["topic", "create", "t", "--partitions", "3"], "");
    let text = described(&cluster).to_string();
    assert!(text.contains("[0,1,2]") && text.contains("[1,2,0]"), "{text}");
    let mut again = Vec::new();
    let mut sent = 0;
    for node in 1..=3 {
        cluster.ok(&["produce", "t"], &lines(sent, sent + 500));
        kill(&data.join(node.to_string()));
        cluster.ok(&["produce", "t", "--timeout", "60"], &lines(sent + 500, sent + 1000));
        sent += 1000;
        let file = data.join(format!("node{node}.properties"));
        again.push(Server::start(&["server", "--config", file.to_str().unwrap()]));
        all_in_sync(&cluster);
    }
    let read = cluster.ok(&["consume", "t", "--from", "earliest", "--until-end"], "");
    let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
    for line in read.lines() {
        *counts.entry(line.parse().unwrap()).or_default() += 1;
    }
    let expected: BTreeMap<u32, u32> = (0..sent).map(|number| (number, 1)).collect();
    assert_eq!(counts, expected);
    again.into_iter().for_each(Server::stop);
    cluster.stop();
}

/// One bit of one replica flips while its node is down: nobody ever sees it, and it is whole again soon after.
#[test]
fn a_bit_that_flips_in_one_replica_is_repaired_from_another() {
    let scratch = Scratch::new();
    let data = scratch.join("three");
    let cluster = Server::dev(
        &data,
        &[
            "--nodes",
            "3",
            "--set",
            "log.segment.bytes=1048576",
            "--set",
            "log.scrub.interval.ms=1000",
        ],
    );
    cluster.ok(&["topic", "create", "t", "--partitions", "1"], "");
    let text: String =
        (0..20_000).map(|number| format!("{number} {}\n", "x".repeat(100))).collect();
    cluster.ok(&["produce", "t"], &text);
    all_in_sync(&cluster);
    let segment = |node: &str| {
        let log = data.join(node).join("t-0");
        let files = std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|kind| kind == "log")).min().unwrap()
    };
    kill(&data.join("2"));
    let path = segment("2");
    let mut bytes = std::fs::read(&path).unwrap();
    let place = bytes.len() / 2;
    bytes[place] ^= 0x10;
    std::fs::write(&path, &bytes).unwrap();
    let file = data.join("node2.properties");
    let again = Server::start(&[
        "server",
        "--config",
        file.to_str().unwrap(),
        "--set",
        "log.segment.bytes=1048576",
        "--set",
        "log.scrub.interval.ms=1000",
    ]);
    let until = Instant::now() + Duration::from_secs(60);
    while std::fs::read(&path).unwrap() != std::fs::read(segment("1")).unwrap() {
        assert!(Instant::now() < until, "the bit is wrong still");
        std::thread::sleep(Duration::from_millis(100));
    }
    let read = cluster.ok(&["consume", "t", "--from", "earliest", "--until-end"], "");
    assert_eq!(read, text);
    again.stop();
    cluster.stop();
}

/// A node that was away while the others changed and forgot much begins with a snapshot of the leader, and so does everybody
/// who starts again.
#[test]
fn a_node_that_was_away_for_long_is_given_a_snapshot_of_the_metadata() {
    let scratch = Scratch::new();
    let data = scratch.join("three");
    let often = ["--set", "metadata.log.max.record.bytes.between.snapshots=10000"];
    let three = [&["--nodes", "3"], &often[..]].concat();
    let cluster = Server::dev(&data, &three);
    kill(&data.join("3"));
    let is_kept = |number: u32| !number.is_multiple_of(3);
    for number in 0..45 {
        let name = format!("t{number}");
        cluster.ok(&["topic", "create", &name, "--partitions", "8"], "");
        if !is_kept(number) {
            cluster.ok(&["topic", "delete", &name], "");
        }
    }
    let file = data.join("node3.properties");
    let log = scratch.join("node3.log");
    let args = [&["server", "--config", file.to_str().unwrap()], &often[..]].concat();
    let again = Server::start_with_log(&args, std::fs::File::create(&log).unwrap().into());
    let kept: Vec<String> = (0..45).filter(|n| is_kept(*n)).map(|n| format!("t{n}")).collect();
    let knows_all = |server: &Server| {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let topics: serde_json::Value =
                serde_json::from_str(&server.ok(&["topic", "list", "--json"], "")).unwrap();
            let mut known: Vec<String> = topics.as_array().unwrap().iter().map(name_of).collect();
            known.retain(|name| name.starts_with('t'));
            known.sort_by_key(|name| name[1..].parse::<u32>().unwrap());
            if known == kept {
                return;
            }
            assert!(Instant::now() < until, "{known:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    knows_all(&again);
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("the metadata go on from a snapshot of the leader"), "{said}");
    cluster.ok(&["produce", "t1"], &lines(0, 100));
    let nodes = ["1", "2", "3"].map(|node| data.join(node));
    for node in &nodes {
        let metadata = std::fs::read_dir(node.join("cluster-metadata")).unwrap();
        let snapshots = metadata.filter(|entry| {
            entry.as_ref().unwrap().path().extension().is_some_and(|kind| kind == "checkpoint")
        });
        assert!(snapshots.count() > 0, "{node:?}");
        kill(node);
    }
    drop(again);
    drop(cluster);
    let cluster = Server::dev(&data, &three);
    knows_all(&cluster);
    let read = cluster.ok(&["consume", "t1", "--from", "earliest", "--until-end"], "");
    assert_eq!(read.lines().count(), 100);
    cluster.stop();
}

/// What a list says that a topic is called.
fn name_of(topic: &serde_json::Value) -> String {
    topic["topic"].as_str().unwrap().to_owned()
}

/// What whoever is asked knows of the topic. A node may hear of it a moment after it was created by another.
fn described(cluster: &Server) -> serde_json::Value {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let output = cluster.run(&["topic", "describe", "t", "--json"], "");
        if output.status.success() {
            return serde_json::from_slice(&output.stdout).unwrap();
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("no such topic") && Instant::now() < until, "{said}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until every partition has all its replicas in sync.
fn all_in_sync(cluster: &Server) {
    let until = Instant::now() + Duration::from_secs(90);
    loop {
        let described = described(cluster);
        let partitions = described[0]["partitions"].as_array().unwrap();
        let isr = |it: &serde_json::Value| it["isr"].as_array().map_or(0, Vec::len);
        if partitions.iter().all(|partition| isr(partition) == 3) {
            return;
        }
        assert!(Instant::now() < until, "{described}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_node_of_several_does_not_begin_a_cluster_of_its_own() {
    let scratch = Scratch::new();
    let file = scratch.join("node.properties");
    let data = scratch.join("data");
    let text = format!(
        "node.id=1\nlisteners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:19999\n\
         controller.listener.names=CONTROLLER\n\
         controller.quorum.voters=1@127.0.0.1:19999,2@127.0.0.1:19998\nlog.dirs={}\n",
        data.display()
    );
    std::fs::write(&file, text).unwrap();
    let output = foretold(&["server", "--config", file.to_str().unwrap()], "");
    check_failure(&output, 2, "foretold format --cluster-id");
}
