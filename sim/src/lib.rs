//! A seeded false world under the product: disk, network, clocks, faults, workloads, checkers.
//!
//! Half of this crate is plain Rust that any test can use ([`decisions`], [`disk`], [`plain`]); the other half runs whole
//! nodes on the executor and is compiled with `--cfg madsim` only. SIMULATION in ARCHITECTURE.md says how they fit.

pub mod decisions;
pub mod disk;
pub mod exec;
pub mod plain;
