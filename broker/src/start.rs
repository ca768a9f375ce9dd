//! The life of a broker: from an empty or existing directory to serving, and back to a clean stop.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use env::Env;

use crate::config::BrokerConfig;
use crate::context::ListenerName;
use crate::directory::DirectoryError;
use crate::shared::{Failure, Shared};

/// A running broker.
pub struct Broker<E: Env> {
    shared: Shared<E>,
    listeners: Vec<(ListenerName, SocketAddr)>,
}

/// Why a broker did not start. `server` maps each variant to an exit code.
#[derive(Debug)]
pub enum StartError {
    /// The configuration cannot work.
    Config(String),
    /// A listener could not be bound.
    Address {
        /// Which listener.
        listener: ListenerName,
        /// Where it should listen.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// A data directory is not usable by this node.
    Directory(DirectoryError),
    /// The disk failed.
    Disk {
        /// Where.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(reason) => f.write_str(reason),
            StartError::Address { listener, address, error } => {
                write!(f, "listener {listener} cannot listen on {address}: {error}")
            }
            StartError::Directory(error) => error.fmt(f),
            StartError::Disk { path, reason } => write!(f, "{}: {reason}", path.display()),
        }
    }
}

impl std::error::Error for StartError {}

impl From<DirectoryError> for StartError {
    fn from(error: DirectoryError) -> StartError {
        StartError::Directory(error)
    }
}

impl<E: Env> Broker<E> {
    /// Opens the directories (formatting empty ones), recovers, listens. When this returns, a produce sent now succeeds
    /// without a retry.
    pub async fn start(env: E, config: BrokerConfig) -> Result<Broker<E>, StartError> {
        let _ = (env, config);
        Err(StartError::Config("the broker is being built".into()))
    }

    /// Its listeners with the addresses really bound.
    pub fn listeners(&self) -> &[(ListenerName, SocketAddr)] {
        &self.listeners
    }

    /// What its handlers see; for tests and tools in the same process.
    pub fn shared(&self) -> &Shared<E> {
        &self.shared
    }

    /// Stops accepting, lets requests in flight finish for a short while, closes the logs cleanly.
    pub async fn shutdown(self) {}

    /// Completes when the broker cannot go on, with the reason.
    pub async fn failed(&self) -> Failure {
        let mut receiver = self.shared.0.failure.subscribe();
        loop {
            if let Some(failure) = receiver.borrow_and_update().clone() {
                return failure;
            }
            if receiver.changed().await.is_err() {
                // The sender lives in `shared`, which we hold.
                unreachable!("a running broker keeps its failure channel");
            }
        }
    }
}
