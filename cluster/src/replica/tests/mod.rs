//! Replication as a whole: leaders, followers and the controller among faults (I16 to I26, I31, I32, L2 to L5).

mod judge;
mod steps;
mod stories;
mod world;

use proptest::prelude::*;

use self::steps::{Step, steps};
use self::world::World;
use super::CommitRule;

fn config() -> ProptestConfig {
    let cases = if cfg!(feature = "mutants") { 6000 } else { 1000 };
    let sound = ProptestConfig { cases, ..ProptestConfig::default() };
    match cfg!(feature = "mutants") {
        // What a planted bug breaks is nothing to remember.
        true => ProptestConfig { failure_persistence: None, ..sound },
        false => sound,
    }
}

fn play(rule: CommitRule, min_isr: usize, steps: &[Step]) -> World {
    let mut world = World::new(rule, min_isr);
    for step in steps {
        world.step(*step);
    }
    world.settle();
    world
}

proptest! {
    #![proptest_config(config())]

    /// With what is synced nothing that was committed is lost, whatever fails.
    #[test]
    fn nothing_committed_is_lost_by_what_is_synced(min_isr in 1..4usize, steps in steps(false)) {
        play(CommitRule::Durable, min_isr, &steps);
    }

    /// With what is written neither, while not all who hold it lose power together.
    #[test]
    fn nothing_committed_is_lost_by_what_is_written(min_isr in 1..4usize, steps in steps(false)) {
        play(CommitRule::Written, min_isr, &steps);
    }

    /// An unclean election loses what its leader lacks, and nothing else; all agree afterwards.
    #[test]
    fn an_unclean_election_loses_what_its_leader_lacks(
        is_durable: bool,
        min_isr in 1..4usize,
        steps in steps(true),
    ) {
        let rule = if is_durable { CommitRule::Durable } else { CommitRule::Written };
        play(rule, min_isr, &steps);
    }
}
