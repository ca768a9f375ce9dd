//! Fuzz bodies: each takes any bytes, must neither panic nor hang nor hold much memory, and checks what it can about the
//! answer.
//!
//! The same functions run coverage-guided (`cargo xtask fuzz`, or `BODY=wire_request cargo fuzz run body -s none`) and in
//! `tests/smoke.rs` (seeds, seeded mutations of them and everything that was ever found, with each test run). A body that
//! finds its input meaningless returns; a broken promise panics.
//!
//! The corpus is made from [`Body::seeds`]; what the engine adds stays in `target/fuzz`. An input that once broke a
//! promise lies in `fuzz/findings/BODY/` under a name that says what it was.

mod batches;
mod directory;
mod groups;
mod journal;
mod memory;
mod messages;
mod metadata;
mod node;
mod seeds;
mod settings;
mod stored;
mod telemetry;

use std::path::PathBuf;

/// A fuzz body.
pub struct Body {
    /// Its name.
    pub name: &'static str,
    /// Takes any bytes.
    pub take: fn(&[u8]),
    /// Good bytes, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Memory that it may hold, whatever the input.
    pub bytes_max: usize,
    /// Mutated seeds in the smoke test: fewer where a run is dear.
    pub runs: usize,
}

/// Memory of a body that decodes: a multiple of what inputs measure, far below what they can claim.
const DECODER: usize = 16 << 20;

/// Every body.
pub const BODIES: &[Body] = &[
    body("wire_request", messages::wire_request, seeds::requests, DECODER, 40_000),
    body("wire_response", messages::wire_response, seeds::responses, DECODER, 40_000),
    body("wire_header", messages::wire_header, seeds::headers, DECODER, 40_000),
    body("stored_coordinator", stored::stored_coordinator, seeds::coordinators, DECODER, 40_000),
    body("stored_metadata", stored::stored_metadata, seeds::metadata, DECODER, 40_000),
    body("stored_structure", stored::stored_structure, seeds::structures, DECODER, 40_000),
    body("record_batches", batches::record_batches, seeds::batches, DECODER, 40_000),
    body("record_codecs", batches::record_codecs, seeds::codecs, DECODER, 5_000),
    body("group_records", groups::group_records, seeds::group_records, DECODER, 1_000),
    body("consumer_protocol", groups::consumer_protocol, seeds::protocols, DECODER, 2_000),
    body("metadata_log", metadata::metadata_log, seeds::metadata_log, DECODER, 5_000),
    body("server_properties", settings::server_properties, seeds::files, DECODER, 3_000),
    body("settings", settings::settings, seeds::settings, DECODER, 500),
    body("pushed_metrics", telemetry::pushed_metrics, telemetry::pushes, DECODER, 20_000),
    body("command_line", settings::command_line, seeds::command_lines, DECODER, 100),
    body("log_journal", journal::log_journal, seeds::edits, 64 << 20, 1_500),
    body("log_directory", directory::log_directory, seeds::edits, 64 << 20, 600),
    body("identity", node::identity, seeds::identities, 64 << 20, 500),
    body("broker_connection", node::broker_connection, seeds::streams, 512 << 20, 200),
    body("client_answers", node::client_answers, seeds::answers, 512 << 20, 200),
];

const fn body(
    name: &'static str,
    take: fn(&[u8]),
    seeds: fn() -> Vec<Vec<u8>>,
    bytes_max: usize,
    runs: usize,
) -> Body {
    Body { name, take, seeds, bytes_max, runs }
}

/// The body that the environment variable `BODY` names. Panics with all names if it names none.
pub fn chosen() -> &'static Body {
    let name = std::env::var("BODY").unwrap_or_default();
    let names = || BODIES.iter().map(|body| body.name).collect::<Vec<_>>().join(" ");
    let found = BODIES.iter().find(|body| body.name == name);
    found.unwrap_or_else(|| panic!("BODY=`{name}` is none of: {}", names()))
}

/// Gives `data` to `body` and looks at the memory that it took.
pub fn run(body: &Body, data: &[u8]) {
    let peak = memory::peak_of(|| (body.take)(data));
    assert!(peak <= body.bytes_max, "{} of {} bytes held {peak}", body.name, data.len());
}

/// Makes the seeds of the chosen body in the directory that `SEEDS` names, if it names one, and what a body makes once.
pub fn prepare() {
    let body = chosen();
    if let Some(dir) = std::env::var_os("SEEDS").map(PathBuf::from) {
        for (number, seed) in (body.seeds)().into_iter().enumerate() {
            let path = dir.join(format!("seed-{number:05}"));
            std::fs::write(&path, seed).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        }
    }
    // What it makes once does not count as memory of an input.
    (body.take)(&[]);
    (body.take)(&[0; 64]);
}
