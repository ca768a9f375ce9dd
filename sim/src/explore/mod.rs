//! Exhaustive search: every order of events in a small scope, on the product's own decisions.
//!
//! Random seeds meet the common histories of large worlds; this meets all histories of small ones, the rare ones included:
//! three nodes, a few records, a few crashes. A [`Model`] says what can happen next, and does it with the shipped `step`
//! functions; [`search`] goes through its states breadth first, so that what it finds is told in the fewest steps, and
//! [`walk`] goes at random where the states are too many.

mod calm;
mod quorum;
mod search;
#[cfg(test)]
mod stories;
mod walk;

use std::fmt::Display;
use std::hash::Hash;

pub use quorum::{Scope, World};
pub use search::{Report, search};
pub use walk::walk;

/// A world small enough to try everything in it.
pub trait Model: Clone + Hash {
    /// One thing that can happen.
    type Action: Clone + PartialEq + Display;

    /// All that can happen now, always in the same order. Empty at the edge of the scope.
    fn actions(&self) -> Vec<Self::Action>;

    /// Lets it happen; tells the rule that it broke.
    fn act(&mut self, action: &Self::Action) -> Result<(), Broken>;

    /// Lets everything come to rest, with nothing going wrong any more; tells what did not.
    fn settle(&mut self) -> Result<(), Broken>;

    /// Whether a walk should seldom let it happen: what stops more than it moves.
    fn is_rare(&self, action: &Self::Action) -> bool;

    /// The state in a few lines.
    fn picture(&self) -> String;
}

/// A rule was broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Which: its number in SPEC.md.
    pub rule: &'static str,
    /// How.
    pub text: String,
}

impl Broken {
    /// `rule` was broken in this way.
    pub fn new(rule: &'static str, text: impl Into<String>) -> Broken {
        Broken { rule, text: text.into() }
    }
}

/// How a rule came to be broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Story {
    /// What happened, in order.
    pub steps: Vec<String>,
    /// The state before the last step.
    pub picture: String,
    /// What the last step broke.
    pub broken: Broken,
}

/// Lets it happen; an assertion of the product that fails is a broken rule, too.
fn try_act<M: Model>(state: &mut M, action: &M::Action) -> Result<(), Broken> {
    catch(|| state.act(action))
}

fn catch(act: impl FnOnce() -> Result<(), Broken>) -> Result<(), Broken> {
    let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
    acted.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Broken::new("assertion", text.unwrap_or_default()))
    })
}

/// The story of the actions with these numbers.
fn tell<M: Model>(start: &M, numbers: impl IntoIterator<Item = usize>) -> Option<Story> {
    let mut state = start.clone();
    let mut steps = Vec::new();
    for number in numbers {
        let mut actions = state.actions();
        let action = actions.swap_remove(number);
        steps.push(action.to_string());
        let before = state.picture();
        if let Err(broken) = try_act(&mut state, &action) {
            return Some(Story { steps, picture: before, broken });
        }
    }
    None
}
