//! `explore`: every history of small worlds, and random ones of larger worlds.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::cli::{ExploreArgs, USAGE, VIOLATION, plant};
use crate::decisions::{Decisions, Kind, Subsystem};
use crate::explore::{Report, Scope, Story, World, search, walk};

/// Steps of one walk.
const STEPS: usize = 400;

const NOTHING: Scope = Scope {
    nodes: 3,
    voters: 3,
    epochs: 2,
    records: 0,
    crashes: 0,
    changes: 0,
    snapshots: 0,
    resignations: 0,
    messages: 1,
    is_reduced: true,
};

/// Worlds that are searched to the end.
const SMALL: &[(&str, Scope)] = &[
    ("elections", Scope { epochs: 3, ..NOTHING }),
    ("messages", Scope { messages: 2, ..NOTHING }),
    ("power cuts", Scope { crashes: 1, ..NOTHING }),
    ("voters", Scope { voters: 2, changes: 1, ..NOTHING }),
    ("snapshots", Scope { crashes: 1, snapshots: 1, ..NOTHING }),
];

/// Worlds that are searched for as long as one likes.
const DEEP: &[(&str, Scope)] = &[
    ("records", Scope { crashes: 1, records: 1, ..NOTHING }),
    ("power cuts and messages", Scope { crashes: 1, messages: 2, ..NOTHING }),
    ("changes of voters", Scope { voters: 2, changes: 2, crashes: 1, ..NOTHING }),
    ("voters and messages", Scope { voters: 2, changes: 1, messages: 2, ..NOTHING }),
    ("four epochs", Scope { epochs: 4, ..NOTHING }),
];

const WIDE: Scope = Scope {
    epochs: 8,
    records: 6,
    crashes: 6,
    resignations: 2,
    messages: 8,
    is_reduced: false,
    ..NOTHING
};

/// Worlds that are walked through.
const LARGE: &[(&str, Scope)] = &[
    ("three nodes", WIDE),
    ("five nodes", Scope { nodes: 5, voters: 5, messages: 12, ..WIDE }),
    ("four nodes, changes", Scope { nodes: 4, changes: 4, snapshots: 2, ..WIDE }),
    ("five nodes, two voters", Scope { nodes: 5, voters: 2, changes: 6, snapshots: 4, ..WIDE }),
];

/// The one that planted bugs are hunted in.
#[cfg(madsim)]
pub const WALKED: &str = "four nodes, changes";

/// What was seen.
#[derive(Serialize, Deserialize, Default, Debug)]
pub struct Told {
    /// States of the worlds that were searched.
    pub states: u64,
    /// Walks through the others.
    pub walks: u64,
    /// Whether those were all.
    pub is_complete: bool,
    /// The rule that was broken, which ended it.
    pub rule: Option<String>,
}

/// Runs the command; exit code.
pub fn explore(args: &ExploreArgs) -> u8 {
    if let Err(code) = plant(args.mutant.as_deref()) {
        return code;
    }
    let names = SMALL.iter().chain(DEEP).chain(LARGE).map(|(name, _)| *name);
    if let Some(scope) =
        args.scope.as_deref().filter(|scope| !names.clone().any(|name| name == *scope))
    {
        eprintln!("no scope {scope:?}; there are {}", names.collect::<Vec<_>>().join("; "));
        return USAGE;
    }
    // Assertions that fail are told as part of the story.
    std::panic::set_hook(Box::new(|_| {}));
    let mut told = Told { is_complete: true, ..Told::default() };
    let story = look(args, &mut told);
    if !args.deep && story.is_none() && !told.is_complete {
        eprintln!(
            "a small world was not searched to the end: raise --states-max, or make it smaller"
        );
        return VIOLATION;
    }
    told.rule = story.as_ref().map(|story| story.broken.rule.to_owned());
    match (args.json, &story) {
        (true, _) => println!("{}", serde_json::to_string(&told).unwrap_or_default()),
        (false, Some(story)) => tell(story),
        (false, None) => {}
    }
    if story.is_some() { VIOLATION } else { 0 }
}

fn look(args: &ExploreArgs, told: &mut Told) -> Option<Story> {
    let wanted = |name: &str| args.scope.as_deref().is_none_or(|scope| scope == name);
    let say = |text: String, started: Instant| {
        if !args.json {
            println!("{text} ({:.1} s)", started.elapsed().as_secs_f64());
        }
    };
    let searched = if args.deep { DEEP } else { SMALL };
    for (name, scope) in searched.iter().filter(|(name, _)| wanted(name)) {
        let started = Instant::now();
        let report = search(&World::new(*scope), args.states_max);
        told.states += report.states;
        told.is_complete &= report.is_complete;
        say(format!("{name}: {}", figures(&report)), started);
        if report.story.is_some() {
            return report.story;
        }
    }
    for (name, scope) in LARGE.iter().filter(|(name, _)| wanted(name)) {
        let started = Instant::now();
        for number in args.first..args.first.saturating_add(args.walks) {
            let stream = Decisions::new(number).stream(0, Subsystem::Workload);
            let choose = |count| stream.choose(Kind::Operation, count as u64) as usize;
            told.walks += 1;
            let story = walk(&World::new(*scope), STEPS, choose);
            if story.is_some() {
                say(format!("{name}: walk {number} broke a rule"), started);
                return story;
            }
        }
        say(format!("{name}: {} walks", args.walks), started);
    }
    None
}

fn figures(report: &Report) -> String {
    let all = if report.is_complete { "all" } else { "the first" };
    format!("{all} {} states, {} steps, {} deep", report.states, report.steps, report.depth)
}

fn tell(story: &Story) {
    for (number, step) in story.steps.iter().enumerate() {
        println!("{:>4}  {step}", number + 1);
    }
    print!("{}", story.picture);
    println!("broken {}: {}", story.broken.rule, story.broken.text);
}
