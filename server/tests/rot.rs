//! One bit flips in a file of a stopped node, in each kind of file: what it touches is never served, everything else is.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{GOLDEN, KEEP, Scratch, Server, unpack};
use serde_json::Value;

/// (partition, offset) and the record.
type Records = BTreeMap<(i64, i64), Value>;

/// A stopped node, and what it holds.
struct Node(Scratch);

impl Node {
    fn unpack() -> Node {
        Node(unpack(&Path::new(GOLDEN).join("0.1.0-stopped.tar.gz")))
    }

    fn expected(&self, topic: &str) -> Records {
        records(&std::fs::read_to_string(self.0.join(&format!("expected/{topic}.jsonl"))).unwrap())
    }

    /// A copy of its data in which one bit of `file` flipped, at three places in turn.
    fn rotten(&self, file: &str) -> impl Iterator<Item = (String, Copy)> {
        let length = std::fs::metadata(self.0.join("data").join(file)).unwrap().len();
        assert!(length > 0, "{file} is empty");
        [length / 5, length / 2, length - 3].into_iter().map(move |at| {
            let scratch = Scratch::new();
            let from = self.0.join("data");
            let status = Command::new("cp").arg("-a").arg(from).arg(scratch.path()).status();
            assert!(status.unwrap().success());
            let copy = Copy { file: scratch.join("data").join(file), at: at as usize, scratch };
            copy.flip();
            (format!("{file}, byte {at}"), copy)
        })
    }

    #[track_caller]
    fn check_whole(&self, server: &Server, topic: &str, place: &str) {
        let served =
            server.ok(&["consume", topic, "--from", "earliest", "--until-end", "--json"], "");
        assert!(records(&served) == self.expected(topic), "{place}: {topic} is not whole");
    }

    #[track_caller]
    fn check_group(&self, server: &Server, group: &str, place: &str) {
        let path = self.0.join(&format!("expected/group-{group}.json"));
        let old: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let new = server.json(&["group", "describe", group]);
        assert_eq!(new["positions"], old["positions"], "{place}");
    }
}

struct Copy {
    scratch: Scratch,
    file: PathBuf,
    at: usize,
}

impl Copy {
    fn data(&self) -> PathBuf {
        self.scratch.join("data")
    }

    fn flip(&self) {
        let mut bytes = std::fs::read(&self.file).unwrap();
        bytes[self.at] ^= 1 << (self.at % 8);
        std::fs::write(&self.file, bytes).unwrap();
    }
}

fn start(data: &Path) -> Result<Server, (Option<i32>, String)> {
    Server::try_dev(data, &KEEP)
}

#[track_caller]
fn records(lines: &str) -> Records {
    let mut records = Records::new();
    for line in lines.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let place = (record["partition"].as_i64().unwrap(), record["offset"].as_i64().unwrap());
        assert!(records.insert(place, record).is_none(), "served twice: {line}");
    }
    records
}

#[test]
fn what_can_be_made_again_harms_nothing() {
    let node = Node::unpack();
    for (file, topic) in [
        ("segments-0/00000000000000000700.index", "segments"),
        ("segments-0/00000000000000000000.timeindex", "segments"),
        ("segments-1/00000000000000000700.snapshot", "segments"),
        ("codec-lz4-0/00000000000000000100.snapshot", "codec-lz4"),
        ("checkpoint", "codec-none"),
        ("clean", "page-cache"),
        ("journal/00000000000000000008.journal", "codec-zstd"),
        ("recoded-0/partition.metadata", "recoded"),
        ("cluster-metadata/checkpoint", "stamped"),
        ("cluster-metadata/journal/00000000000000000001.journal", "cut-off"),
    ] {
        for (place, copy) in node.rotten(file) {
            let server = start(&copy.data()).unwrap_or_else(|why| panic!("{place}: {why:?}"));
            node.check_whole(&server, topic, &place);
            node.check_group(&server, "readers", &place);
        }
    }
}

#[test]
fn a_rotten_batch_is_not_served_and_all_others_are() {
    let node = Node::unpack();
    for (topic, partition, batch) in
        [("segments", 0, 50), ("codec-zstd", 1, 7), ("page-cache", 0, 7)]
    {
        let file = format!("{topic}-{partition}/00000000000000000000.log");
        let old = node.expected(topic);
        for (place, copy) in node.rotten(&file) {
            let server = start(&copy.data()).unwrap_or_else(|why| panic!("{place}: {why:?}"));
            let read = |from: &str, partition: i64| {
                let partition = partition.to_string();
                let what = ["consume", topic, "--partition", &partition, "--from", from];
                let output = server
                    .run(&[&what[..], &["--until-end", "--json", "--timeout", "1"]].concat(), "");
                let errors = String::from_utf8_lossy(&output.stderr).into_owned();
                (records(&String::from_utf8(output.stdout).unwrap()), output.status.code(), errors)
            };
            let before = read("earliest", partition);
            assert_eq!(before.1, Some(1), "{place}: {}", before.2);
            let damaged = before.0.keys().next_back().map_or(0, |(_, offset)| offset + 1);
            let words = format!("{topic}-{partition} at offset {damaged} cannot be read");
            assert!(before.2.contains(&words), "{place}: {}", before.2);
            let after = read(&(damaged + batch).to_string(), partition);
            assert_eq!(after.1, Some(0), "{place}: what lies behind is not served: {}", after.2);
            let other = read("earliest", 1 - partition);
            assert_eq!(other.1, Some(0), "{place}: {}", other.2);
            let mut served = before.0;
            served.extend(after.0);
            served.extend(other.0);
            for (at, record) in &served {
                assert_eq!(old.get(at), Some(record), "{place}");
            }
            assert!(
                (1..=batch).contains(&((old.len() - served.len()) as i64)),
                "{place}: more than a batch is lost"
            );
            // Who is told that a topic is damaged is told where, and where it goes on.
            let output = server.run(&["topic", "verify", topic, "--json"], "");
            assert_eq!(output.status.code(), Some(1), "{place}");
            let told: Value = serde_json::from_slice(&output.stdout).unwrap();
            let gap = &told["unreadable"][0];
            assert_eq!(told["unreadable"].as_array().map(Vec::len), Some(1), "{place}: {told}");
            assert_eq!((&gap["partition"], &gap["start"]), (&partition.into(), &damaged.into()));
            let lost = gap["end"].as_i64().unwrap() - damaged;
            assert_eq!(lost, (old.len() - served.len()) as i64, "{place}: {told}");
            assert_eq!(told["offsets"], served.len(), "{place}: {told}");
            let whole = server.ok(&["topic", "verify", "codec-gzip"], "");
            assert!(whole.contains("all readable"), "{whole}");
            node.check_whole(&server, "codec-gzip", &place);
            node.check_group(&server, "readers", &place);
        }
    }
}

/// Positions that may be older than those acknowledged are not given out: the group waits for whoever repairs its log, or
/// says that older ones will do.
#[test]
fn rotten_positions_are_not_given_out() {
    let node = Node::unpack();
    for (place, copy) in node.rotten("__consumer_offsets-0/00000000000000000000.log") {
        let server = start(&copy.data()).unwrap_or_else(|why| panic!("{place}: {why:?}"));
        server.fails(&["group", "describe", "readers", "--timeout", "1"], "COORDINATOR_LOAD");
        node.check_group(&server, "readers-2", &place);
        node.check_whole(&server, "codec-gzip", &place);
        server.ok(&["config", "set", "broker", "default", "offsets.damage.accept=true"], "");
        let deadline = Instant::now() + Duration::from_secs(30);
        while !server.run(&["group", "list", "--timeout", "1"], "").status.success() {
            assert!(Instant::now() < deadline, "{place}: the groups still wait");
        }
        node.check_group(&server, "readers-2", &place);
    }
}

/// Without its metadata a node does not know what it holds: it does not start, and destroys nothing.
#[test]
fn rotten_metadata_refuses_to_start_and_spoils_nothing() {
    let node = Node::unpack();
    let metadata = "cluster-metadata/__cluster_metadata-0/00000000000000000000.log";
    for (place, copy) in node.rotten(metadata) {
        let Err((code, errors)) = start(&copy.data()) else { panic!("{place}: it starts") };
        assert_eq!(code, Some(5), "{place}: {errors}");
        assert!(errors.contains("quarantined"), "{place}: {errors}");
        copy.flip();
        let server = start(&copy.data()).unwrap_or_else(|why| panic!("{place}: {why:?}"));
        node.check_whole(&server, "segments", &place);
        node.check_group(&server, "readers", &place);
    }
}
