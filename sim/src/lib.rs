//! A seeded false world under the product: disk, network, clocks, faults, workloads, checkers.
//!
//! The lower half is plain Rust that any test can use: [`decisions`] (every random choice), [`disk`], [`net`], [`exec`]
//! (nodes and virtual time), [`plain`] (the disk alone, in ordinary tests), [`explore`] (decisions, without a world). The upper half runs the product and is
//! compiled with `--cfg madsim` only, so that `log` can test itself on the false disk without waiting for `broker`.

pub mod checker;
pub mod cli;
pub mod decisions;
pub mod disk;
pub mod exec;
pub mod explore;
pub mod fault;
#[cfg(madsim)]
pub mod harness;
pub mod history;
pub mod mark;
pub mod net;
pub mod plain;
pub mod report;
pub mod scenario;
pub mod world;
