//! Stories in `testdata/replica_*.txt`: lines that begin with `>` are commands, the others what came of them. To write the
//! outcome anew run with `UPDATE_EXPECT=1`, and read the difference.
//!
//! ```text
//! > begin sync 2                       a partition with that durability and `min.insync.replicas`
//! > append 0 ; sync 0 1 ; run 2        steps, several at once; `leader` stands for who leads by the metadata
//! ```
//!
//! Shown are what the metadata say, and of each replica its role and its log: each record's value and epoch.

use std::fmt::Write;
use std::path::Path;

use super::steps::{LEADER, Step};
use super::world::World;
use crate::replica::CommitRule;

#[test]
fn stories() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let is_ours = |name: &str| name.starts_with("replica_");
    let mut files: Vec<_> = folder
        .read_dir()
        .expect("testdata is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.file_name().is_some_and(|name| is_ours(&name.to_string_lossy())))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no story in {}", folder.display());
    for path in files {
        let expected = std::fs::read_to_string(&path).expect("readable");
        let actual = play(&expected);
        if actual == expected {
            continue;
        }
        if update() {
            write(&path, &actual);
        } else {
            let line = actual.lines().zip(expected.lines()).position(|(a, e)| a != e);
            panic!("{} differs from line {:?}:\n{actual}", path.display(), line.map(|at| at + 1));
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a test that rewrites its expectations when asked")]
fn update() -> bool {
    std::env::var("UPDATE_EXPECT").is_ok()
}

#[allow(clippy::disallowed_methods, reason = "a test that rewrites its expectations when asked")]
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("writable");
}

fn play(story: &str) -> String {
    let mut out = String::new();
    let mut world = World::new(CommitRule::Durable, 1);
    for line in story.lines().filter(|line| line.starts_with(['>', '#']) || line.is_empty()) {
        let _ = writeln!(out, "{line}");
        let Some(commands) = line.strip_prefix("> ") else { continue };
        for command in commands.split(" ; ") {
            let words: Vec<&str> = command.split_whitespace().collect();
            match words[0] {
                "begin" => {
                    let is_durable = words[1] == "sync";
                    let rule = if is_durable { CommitRule::Durable } else { CommitRule::Written };
                    world = World::new(rule, words[2].parse().unwrap());
                }
                "settle" => world.settle(),
                _ => world.step(parse(&words)),
            }
        }
        for told in std::mem::take(&mut world.told) {
            let _ = writeln!(out, "  {told}");
        }
        for line in world.picture().lines() {
            let _ = writeln!(out, "  {line}");
        }
    }
    out
}

fn parse(words: &[&str]) -> Step {
    let number = |at: usize| match words[at] {
        "leader" => LEADER,
        text => text.parse().unwrap(),
    };
    match words[0] {
        "append" => Step::Append(number(1)),
        "sync" => Step::Sync(number(1), number(2)),
        "ask" => Step::Ask(number(1)),
        "deliver" => Step::Deliver(number(1)),
        "copy" => Step::Copy(number(1)),
        "lose" => Step::Lose(number(1)),
        "io" => Step::Io(number(1)),
        "hear" => Step::Hear(number(1), number(2)),
        "cut-off" => Step::CutOff(number(1)),
        "heal" => Step::Heal(number(1)),
        "kill" => Step::Kill(number(1)),
        "power-cut" => Step::PowerCut(number(1), number(2)),
        "stop" => Step::Stop(number(1)),
        "start" => Step::Start(number(1)),
        "fence" => Step::Fence(number(1)),
        "unfence" => Step::Unfence(number(1)),
        "tick" => Step::Tick(words[1].parse().unwrap()),
        "reset" => Step::Reset(number(1)),
        "time-out" => Step::TimeOut(number(1)),
        "new-controller" => Step::NewController,
        "min-isr" => Step::MinIsr(number(1)),
        "prefer" => Step::Prefer,
        "unclean" => Step::Unclean,
        "trim" => Step::Trim(number(1)),
        "run" => Step::Run(number(1)),
        verb => panic!("no command {verb}"),
    }
}
