//! A data directory's identity: whose it is, which cluster it belongs to, and that nobody else uses it.

use std::fmt;
use std::path::PathBuf;

use types::{ClusterId, DirectoryId, NodeId};

/// Content of `meta.properties`, in Kafka's form (version 1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetaProperties {
    /// `cluster.id`.
    pub cluster_id: ClusterId,
    /// `node.id`.
    pub node_id: NodeId,
    /// `directory.id`.
    pub directory_id: DirectoryId,
}

/// Why a data directory cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DirectoryError {
    /// It holds something else than a Foretold data directory.
    Foreign {
        /// Which directory.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// Another process uses it.
    Locked {
        /// Which directory.
        path: PathBuf,
    },
    /// It was written by a newer release.
    Newer {
        /// Which directory.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// It belongs to another cluster or node.
    OtherCluster {
        /// Which directory.
        path: PathBuf,
        /// What was found, and what was expected.
        reason: String,
    },
    /// Its identity cannot be read.
    Damaged {
        /// Which directory.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DirectoryError::Foreign { path, reason } => {
                write!(f, "{} is not a Foretold data directory: {reason}", path.display())
            }
            DirectoryError::Locked { path } => {
                write!(f, "{} is in use by another process", path.display())
            }
            DirectoryError::Newer { path, reason } => {
                write!(f, "{} was written by a newer release: {reason}", path.display())
            }
            DirectoryError::OtherCluster { path, reason } => {
                write!(f, "{} belongs elsewhere: {reason}", path.display())
            }
            DirectoryError::Damaged { path, reason } => {
                write!(f, "the identity of {} cannot be read: {reason}", path.display())
            }
        }
    }
}

impl std::error::Error for DirectoryError {}
