//! Breadth first, each state once.

use std::collections::VecDeque;
use std::hash::{BuildHasherDefault, DefaultHasher, Hasher};

use super::{Model, Story, tell, try_act};

/// What a search has seen.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Different states.
    pub states: u64,
    /// Steps between them.
    pub steps: u64,
    /// Steps from the first state to the last one looked at.
    pub depth: u32,
    /// Whether those were all.
    pub is_complete: bool,
    /// The shortest way to a broken rule.
    pub story: Option<Story>,
}

/// A state that was met first from another: which one, and by which of its actions.
#[derive(Clone, Copy)]
struct Origin {
    from: u32,
    action: u16,
    depth: u16,
}

/// A set of fingerprints: those are random enough to be their own hashes. Never iterated.
#[allow(clippy::disallowed_types, reason = "never iterated: its order does not matter")]
type Seen = std::collections::HashSet<u64, BuildHasherDefault<Fingerprint>>;

#[derive(Default)]
struct Fingerprint(u64);

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("only fingerprints are kept");
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

fn fingerprint(state: &impl Model) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// Tries everything that can follow `start`, up to `states_max` states. Two states with the same fingerprint of 64 bits are
/// taken for one: with ten million states that happens once in 400,000 searches.
pub fn search<M: Model>(start: &M, states_max: usize) -> Report {
    let mut seen = Seen::default();
    seen.insert(fingerprint(start));
    let mut origins = vec![Origin { from: 0, action: 0, depth: 0 }];
    let mut open = VecDeque::from([(0u32, start.clone())]);
    let mut report = Report { states: 1, is_complete: true, ..Report::default() };
    while let Some((at, state)) = open.pop_front() {
        let depth = origins[at as usize].depth;
        report.depth = u32::from(depth);
        for (number, action) in state.actions().iter().enumerate() {
            let mut next = state.clone();
            let acted = try_act(&mut next, action);
            report.steps += 1;
            if acted.is_err() {
                report.story = tell(start, way_to(&origins, at).into_iter().chain([number]));
                return report;
            }
            if !seen.insert(fingerprint(&next)) {
                continue;
            }
            if origins.len() == states_max {
                report.is_complete = false;
                return report;
            }
            open.push_back((origins.len() as u32, next));
            origins.push(Origin { from: at, action: number as u16, depth: depth + 1 });
            report.states += 1;
        }
    }
    report
}

fn way_to(origins: &[Origin], mut at: u32) -> Vec<usize> {
    let mut way = Vec::new();
    while at != 0 {
        let origin = origins[at as usize];
        way.push(usize::from(origin.action));
        at = origin.from;
    }
    way.reverse();
    way
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::super::Broken;
    use super::*;

    /// Two counters that may each be raised up to three; both at three is forbidden, or nothing is.
    #[derive(Clone, Hash)]
    struct Counters(u8, u8, bool);

    #[derive(Clone, PartialEq)]
    struct Raise(bool);

    impl fmt::Display for Raise {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(if self.0 { "first" } else { "second" })
        }
    }

    impl Model for Counters {
        type Action = Raise;

        fn actions(&self) -> Vec<Raise> {
            let both = [(self.0, Raise(true)), (self.1, Raise(false))];
            both.into_iter().filter(|(count, _)| *count < 3).map(|(_, raise)| raise).collect()
        }

        fn act(&mut self, action: &Raise) -> Result<(), Broken> {
            *if action.0 { &mut self.0 } else { &mut self.1 } += 1;
            match self.2 && self.0 + self.1 == 6 {
                true => Err(Broken::new("sum", "six")),
                false => Ok(()),
            }
        }

        fn settle(&mut self) -> Result<(), Broken> {
            Ok(())
        }

        fn is_rare(&self, _action: &Raise) -> bool {
            false
        }

        fn picture(&self) -> String {
            format!("{} {}", self.0, self.1)
        }
    }

    #[test]
    fn each_state_is_met_once() {
        let report = search(&Counters(0, 0, false), 1000);
        assert_eq!((report.states, report.steps, report.depth), (16, 24, 6));
        assert!(report.is_complete && report.story.is_none());
        let cut = search(&Counters(0, 0, false), 10);
        assert!(!cut.is_complete && cut.states == 10);
    }

    #[test]
    fn a_broken_rule_has_a_story() {
        let story = search(&Counters(0, 0, true), 1000).story.unwrap();
        assert_eq!((story.steps.len(), story.picture.as_str()), (6, "3 2"));
        assert_eq!(story.broken, Broken::new("sum", "six"));
        let walked = super::super::walk(&Counters(0, 0, true), 100, |count| count - 1).unwrap();
        assert_eq!(walked.broken, story.broken);
    }
}
