//! Decisions: metadata, replication, groups. No I/O, no async, no clock.
//!
//! Everything here is a plain value: an event goes in, records or effects come out. `broker` owns the rooms that feed
//! these values and do what they ask for; the simulator, proptest and exhaustive search run them without a broker.
//!
//! - [`config`]: the one table of every configuration key, and what its values resolve to.
//! - [`metadata`]: the image of the cluster, and the records that change it.
//! - [`controller`]: admin operations as pure functions from an image to records and answers.
//! - [`replica`]: what a partition's replica decides; the high watermark.
//! - [`group`]: consumer groups.
//! - [`quorum`]: the consensus on the metadata log.
//! - [`telemetry`]: what clients measure of themselves.

pub mod config;
pub mod controller;
pub mod group;
pub mod metadata;
pub mod quorum;
pub mod replica;
#[cfg(test)]
mod stories;
pub mod telemetry;
