//! A log directory: one journal and the logs of its partitions.
//!
//! Acknowledgements wait for one sync that covers every dirty log of the directory; recovery time follows the journal's
//! bound, not the logs' size. This crate knows files and batches; it knows no network, no topic configuration names and
//! no replication: who leads, what is committed, and what a follower cuts or asks for is decided above.
//!
//! ```text
//!  append ──► queue ──► committer: segments (page cache), one journal group, one sync ──► listeners
//!                          │
//!                          └── checkpointer: syncs segments, raises stable ends, lets the journal recycle
//! ```

mod ballast;
mod config;
mod dir;
mod door;
mod epochs;
mod error;
mod index;
pub mod journal;
mod layout;
mod log;
mod producers;
mod walk;

pub use config::{Durability, LogConfig, LogDirOptions, LogSpec};
pub use dir::{DirCounts, LogDir, RecoveryReport, Stray};
pub use error::{AppendError, ChangeError, Failure, OpenError, Quarantined, ReadError};
pub use log::{
    Append, Appended, Ends, Found, Log, Origin, ProducerView, Read, Replicated, Retained, Slice,
};
