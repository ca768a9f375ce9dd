//! Planting a bug from outside: `cargo sim mutants` runs these tests with each bug that seeds do not find.

use types::mutant::{Mutant, plant};

/// Plants the bug that `FORETOLD_MUTANT` names, if it names one.
#[allow(clippy::disallowed_methods, reason = "whoever runs the tests says which bug to plant")]
pub fn from_environment() {
    if let Ok(name) = std::env::var("FORETOLD_MUTANT") {
        plant(Mutant::ALL.iter().copied().find(|mutant| mutant.name() == name));
    }
}
