//! What one run has to say: the line between a simulating process and its supervisor.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Outcome of one run.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct RunReport {
    /// The seed.
    pub seed: u64,
    /// Name of the scenario.
    pub scenario: String,
    /// The broken rule, if any, and what was seen.
    pub violation: Option<(String, String)>,
    /// Trace hash, 32 hexadecimal digits.
    pub hash: String,
    /// Events in the trace.
    pub events: u64,
    /// The hash after every 4,096 events; only on request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks_of_trace: Vec<String>,
    /// Simulated seconds.
    pub simulated_seconds: f64,
    /// Simulated seconds in which at least one client operation ended.
    pub busy_seconds: u64,
    /// CPU seconds of the process.
    pub cpu_seconds: f64,
    /// Client operations that ended well.
    pub operations: u64,
    /// Client operations that failed or whose outcome is not known.
    pub operations_failed: u64,
    /// Polls of tasks.
    pub polls: u64,
    /// Faults that struck, by number of the table.
    pub faults: BTreeMap<String, u64>,
    /// Marks hit.
    pub marks: BTreeMap<String, u64>,
    /// One line about what was drawn.
    pub drawn: String,
}
