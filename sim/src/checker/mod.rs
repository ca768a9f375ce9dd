//! The judges. Each is a pure function named after its rule in SPEC (I for invariants, A for anomalies of histories, L for
//! liveness), takes plain values and answers what it saw; unit tests feed it hand-made good and bad states.

pub mod storage;

/// A broken rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Its number.
    pub rule: &'static str,
    /// What was seen.
    pub text: String,
}

/// What a checker answers.
pub type Verdict = Result<(), Broken>;

/// Fails with `text` unless `holds`.
pub fn require(rule: &'static str, holds: bool, text: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Broken { rule, text: text() }) }
}

/// A checker, for the list.
pub struct Checker {
    /// The rule it watches.
    pub rule: &'static str,
    /// What it looks at.
    pub text: &'static str,
}
