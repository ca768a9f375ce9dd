//! The broker over real sockets and files, asked in the protocol's own words: what each answer must say, in each version.
//!
//! Real clients ask only what they happen to ask; here every version of every request is a client of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod connections;
mod counting;
mod fetching;
mod peer;
mod producing;
mod starting;
mod topics;
mod versions;
