//! At random, where the states are too many to try them all.

use super::{Broken, Model, Story, catch, try_act};

/// Of so many rare events one happens.
const RARE: usize = 8;

/// Goes `steps` steps from `start`, each as `choose` says (out of so many), and lets the world come to rest; if a rule was
/// broken, the story of the steps that were needed.
pub fn walk<M: Model>(
    start: &M,
    steps: usize,
    mut choose: impl FnMut(usize) -> usize,
) -> Option<Story> {
    let mut state = start.clone();
    let mut way = Vec::new();
    for _ in 0..steps {
        let mut actions = state.actions();
        if actions.is_empty() {
            return None;
        }
        let action = actions.swap_remove(choose(actions.len()));
        if state.is_rare(&action) && choose(RARE) != 0 {
            continue;
        }
        way.push(action.clone());
        if try_act(&mut state, &action).is_err() {
            return Some(shortest(start, way));
        }
    }
    match try_settle(&state) {
        Ok(()) => None,
        Err(_) => Some(shortest(start, way)),
    }
}

fn try_settle<M: Model>(state: &M) -> Result<(), Broken> {
    let mut state = state.clone();
    catch(|| state.settle())
}

/// Leaves out what is not needed to break a rule: one step at a time, until each is.
fn shortest<M: Model>(start: &M, mut way: Vec<M::Action>) -> Story {
    let mut at = way.len();
    while at > 0 {
        at -= 1;
        let mut shorter = way.clone();
        shorter.remove(at);
        if let Some((needed, _)) = follow(start, &shorter) {
            way = needed;
            at = at.min(way.len());
        }
    }
    follow(start, &way).expect("each way that was kept breaks a rule").1
}

/// Does what can happen of `way`; if that breaks a rule, the steps up to there and their story.
fn follow<M: Model>(start: &M, way: &[M::Action]) -> Option<(Vec<M::Action>, Story)> {
    let mut state = start.clone();
    let mut done = Vec::new();
    for action in way {
        if !state.actions().contains(action) {
            continue;
        }
        done.push(action.clone());
        let picture = state.picture();
        if let Err(broken) = try_act(&mut state, action) {
            let steps = done.iter().map(M::Action::to_string).collect();
            return Some((done, Story { steps, picture, broken }));
        }
    }
    let (picture, broken) = (state.picture(), try_settle(&state).err()?);
    let steps = done.iter().map(M::Action::to_string).chain(["calm".to_owned()]).collect();
    Some((done, Story { steps, picture, broken }))
}
