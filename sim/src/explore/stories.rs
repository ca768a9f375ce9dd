//! Stories in `testdata/quorum_*.txt`: the histories that taught consensus its rules, step by step. A line `> STEP` lets
//! one thing happen, as the search prints it; `> show` shows the nodes. To write what is shown anew run with
//! `UPDATE_EXPECT=1`, and read the difference.

use std::fmt::Write;
use std::path::Path;

use super::quorum::{Scope, World};
use super::{Model, try_act};

#[test]
fn stories() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with("quorum_"));
    files.sort();
    assert!(!files.is_empty(), "no story in {}", folder.display());
    for path in files {
        let expected = std::fs::read_to_string(&path).unwrap();
        let actual = play(&expected);
        if actual != expected {
            assert!(std::env::var("UPDATE_EXPECT").is_ok(), "{}:\n{actual}", path.display());
            std::fs::write(&path, &actual).unwrap();
        }
    }
}

/// The story with what it shows.
fn play(story: &str) -> String {
    let mut world = World::new(SCOPE);
    let mut told = String::new();
    for line in story.lines() {
        let Some(step) = line.strip_prefix("> ") else {
            if line.is_empty() || line.starts_with('#') {
                let _ = writeln!(told, "{line}");
            }
            continue;
        };
        let _ = writeln!(told, "{line}");
        match step.split_once(' ') {
            _ if step == "show" => told += &world.picture(),
            Some(("world", scope)) => world = World::new(scope_of(scope)),
            _ => {
                let actions = world.actions();
                let mut is_meant = actions.iter().filter(|action| action.to_string() == step);
                let Some(action) = is_meant.next() else {
                    let can: Vec<String> = actions.iter().map(ToString::to_string).collect();
                    panic!(
                        "after\n{told}this can happen:\n{}\n{}",
                        can.join("\n"),
                        world.picture()
                    );
                };
                let acted = try_act(&mut world, action);
                assert_eq!(acted, Ok(()), "after\n{told}{}", world.picture());
            }
        }
    }
    told
}

const SCOPE: Scope = Scope {
    nodes: 3,
    voters: 3,
    epochs: 9,
    records: 9,
    crashes: 9,
    changes: 9,
    snapshots: 9,
    resignations: 9,
    messages: 20,
    is_reduced: true,
};

/// The world of `nodes=4 voters=3`.
fn scope_of(text: &str) -> Scope {
    let mut scope = SCOPE;
    for (name, value) in text.split_whitespace().filter_map(|word| word.split_once('=')) {
        let value: i32 = value.parse().unwrap();
        match name {
            "nodes" => scope.nodes = value,
            "voters" => scope.voters = value,
            other => panic!("no part of a world: {other}"),
        }
    }
    scope
}
