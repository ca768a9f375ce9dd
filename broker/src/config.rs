//! What a broker must be told before it starts. Files and command lines are read by `server`; here are values.

use std::net::SocketAddr;
use std::path::PathBuf;

use cluster::quorum::{Endpoint, ReplicaKey, Voter, Voters};
use types::{ClusterId, NodeId};

use crate::context::ListenerName;

/// What the listener of a voter is called where nothing names it.
const CONTROLLER: &str = "CONTROLLER";

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
    /// `controller.quorum.voters`: who decides for a cluster that begins. Empty: this node alone. A directory that knows its
    /// voters goes by those.
    pub voters: Vec<QuorumVoter>,
    /// Every other setting of the broker, parsed and checked.
    pub settings: cluster::config::BrokerSettings,
}

/// One of the nodes that decide.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuorumVoter {
    /// Its `node.id`.
    pub node: NodeId,
    /// Host of its listener for controllers.
    pub host: String,
    /// Port of it.
    pub port: u16,
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
    /// Who calls there.
    pub audience: Audience,
}

/// Who calls at a listener, and so what is answered there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Audience {
    /// Clients, tools, and other brokers for what they hold.
    Clients,
    /// Nodes of the metadata quorum, and brokers for what the active controller decides (`controller.listener.names`).
    Controllers,
}

/// What is spoken on a listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenerProtocol {
    /// The Kafka protocol over plain TCP.
    Plaintext,
}

impl BrokerConfig {
    /// The voters of a cluster that begins, this node being `me`.
    pub(crate) fn founders(&self, me: ReplicaKey) -> Voters {
        let voter = |voter: &QuorumVoter| {
            let endpoint = Endpoint {
                listener: CONTROLLER.into(),
                host: voter.host.as_str().into(),
                port: voter.port,
            };
            (voter.node, Voter { directory: None, endpoints: vec![endpoint] })
        };
        match &self.voters[..] {
            [] => Voters::of([me]),
            [alone] if alone.node == me.node => Voters::of([me]),
            several => Voters(several.iter().map(voter).collect()),
        }
    }

    /// Where the metadata log lives.
    pub fn metadata_dir(&self) -> PathBuf {
        let first = || self.log_dirs.first().cloned().unwrap_or_default();
        self.metadata_dir.clone().unwrap_or_else(first)
    }
}
