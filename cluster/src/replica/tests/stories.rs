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

use super::steps::{LEADER, Step};
use super::world::World;
use crate::replica::CommitRule;

#[test]
fn stories() {
    crate::stories::check("replica_", play);
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
