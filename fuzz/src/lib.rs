//! Fuzz bodies: each takes any bytes, must neither panic nor hang, and checks what it can about the answer.
//!
//! The same functions run under cargo-fuzz (coverage-guided, at night) and in `tests/smoke.rs` (a corpus and seeded
//! mutations, with every test run). A body that finds its input meaningless returns; a broken promise panics.

mod batches;
mod journal;
mod messages;
mod stored;

pub use batches::record_batches;
pub use journal::log_journal;
pub use messages::{wire_request, wire_response};
pub use stored::{stored_coordinator, stored_metadata, stored_structure};

/// A fuzz body.
pub type Body = fn(&[u8]);

/// Every body by name.
pub const BODIES: &[(&str, Body)] = &[
    ("wire_request", wire_request),
    ("wire_response", wire_response),
    ("stored_coordinator", stored_coordinator),
    ("stored_metadata", stored_metadata),
    ("stored_structure", stored_structure),
    ("record_batches", record_batches),
    ("log_journal", log_journal),
];
