//! Data directories that older versions left, opened by this one: everything is there, and they go on from where they were.
//! `testdata/golden/make.py` says how they came to be.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::{GOLDEN, KEEP, Server, unpack};
use serde_json::Value;

/// Records of `consume --json` in the order of their partitions.
fn records(lines: &str) -> Vec<Value> {
    let mut records: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    records.sort_by_key(|record| (record["partition"].as_i64(), record["offset"].as_i64()));
    records
}

/// All that `old` says stands in `new` too; `new` may say more.
#[track_caller]
fn check_kept(old: &Value, new: &Value, place: &str) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in old {
                let place = format!("{place}.{name}");
                if name == "leader_epoch" {
                    // A start after a crash begins a new one.
                    assert!(value.as_i64() <= new[name].as_i64(), "{place}");
                } else {
                    check_kept(value, &new[name], &place);
                }
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            assert_eq!(old.len(), new.len(), "{place}");
            for (at, (old, new)) in old.iter().zip(new).enumerate() {
                check_kept(old, new, &format!("{place}[{at}]"));
            }
        }
        (old, new) => assert_eq!(old, new, "{place}"),
    }
}

fn check(server: &Server, expected: &Path) {
    let read = |name: &str| std::fs::read_to_string(expected.join(name)).unwrap();
    let parsed = |name: &str| serde_json::from_str::<Value>(&read(name)).unwrap();
    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir(expected).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name == "topics.json" {
            let old = parsed(&name);
            let topics: Vec<&str> = old
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|topic| topic["topic"].as_str())
                .collect();
            let new = server.json(&[&["topic", "describe"], &topics[..]].concat());
            check_kept(&old, &new, "topics");
            let listed = server.json(&["topic", "list"]);
            assert_eq!(listed.as_array().unwrap().len(), topics.len(), "a deleted topic is back");
            seen.insert("topics");
        } else if let Some(topic) = name.strip_suffix(".jsonl") {
            let arguments = ["consume", topic, "--from", "earliest", "--until-end", "--json"];
            let new = records(&server.ok(&arguments, ""));
            let old = records(&read(&name));
            assert_eq!(old.len(), new.len(), "records of {topic}");
            for (old, new) in old.iter().zip(&new) {
                check_kept(old, new, topic);
            }
            seen.insert("records");
        } else if let Some(group) = name.strip_prefix("group-") {
            let group = group.strip_suffix(".json").unwrap();
            check_kept(&parsed(&name), &server.json(&["group", "describe", group]), group);
            seen.insert("groups");
        } else {
            panic!("nothing knows what {name} expects");
        }
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}

#[test]
fn data_of_older_versions_is_served_as_it_was() {
    let mut count = 0;
    for entry in std::fs::read_dir(GOLDEN).unwrap() {
        let archive = entry.unwrap().path();
        if archive.extension().is_none_or(|extension| extension != "gz") {
            continue;
        }
        count += 1;
        let scratch = unpack(&archive);
        let (data, expected) = (scratch.join("data"), scratch.join("expected"));
        let server = Server::dev(&data, &KEEP);
        check(&server, &expected);
        server.stop();
        // What a first start made of it is read by a second one; and it goes on.
        let server = Server::dev(&data, &KEEP);
        check(&server, &expected);
        let end = |server: &Server| {
            let topic = server.json(&["topic", "describe", "segments"]);
            topic[0]["partitions"][1]["end_offset"].as_i64().unwrap()
        };
        let before = end(&server);
        server.ok(&["produce", "segments", "--partition", "1"], "one more\n");
        server.kill();
        let server = Server::dev(&data, &KEEP);
        assert_eq!(end(&server), before + 1, "{archive:?}");
        let from = before.to_string();
        let arguments =
            ["consume", "segments", "--partition", "1", "--from", &from, "--count", "1"];
        assert_eq!(server.ok(&arguments, ""), "one more\n", "{archive:?}");
    }
    assert!(count >= 3, "the golden directories are gone");
}
