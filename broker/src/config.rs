//! What a broker must be told before it starts. Files and command lines are read by `server`; here are values.

use std::net::SocketAddr;
use std::path::PathBuf;

use types::{ClusterId, NodeId};

use crate::context::ListenerName;

/// Everything that [`crate::Broker::start`] needs.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// `node.id`.
    pub node_id: NodeId,
    /// The cluster this node must belong to; `None`: whatever the directory says, or a new one when it is empty (a sole
    /// voter formats itself).
    pub cluster_id: Option<ClusterId>,
    /// Where to listen. At least one; names are unique.
    pub listeners: Vec<ListenerConfig>,
    /// `log.dirs`: at least one.
    pub log_dirs: Vec<PathBuf>,
    /// `metadata.log.dir`; `None`: the first of `log_dirs`.
    pub metadata_dir: Option<PathBuf>,
    /// Every other setting of the broker, parsed and checked.
    pub settings: cluster::config::BrokerSettings,
}

/// One named listener.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Its name, such as `PLAINTEXT`.
    pub name: ListenerName,
    /// Address to listen on; port 0 takes any free port.
    pub bind: SocketAddr,
    /// Host and port that metadata gives to clients of this listener; `None`: the address really bound. Port 0 stands
    /// for the port really bound.
    pub advertised: Option<(String, u16)>,
    /// What is spoken on it.
    pub protocol: ListenerProtocol,
}

/// What is spoken on a listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenerProtocol {
    /// The Kafka protocol over plain TCP.
    Plaintext,
}

impl BrokerConfig {
    /// Where the metadata log lives.
    pub fn metadata_dir(&self) -> PathBuf {
        let first = || self.log_dirs.first().cloned().unwrap_or_default();
        self.metadata_dir.clone().unwrap_or_else(first)
    }
}
