//! What a broker must be told before it starts. Files and command lines are read by `server`; here are values.

use std::net::SocketAddr;
use std::path::PathBuf;

use cluster::quorum::{Endpoint, ReplicaKey, Voter, Voters};
use types::{ClusterId, NodeId};

use crate::context::ListenerName;

/// What the listener of a voter is called where nothing names it.
pub(crate) const CONTROLLER: &str = "CONTROLLER";

/// Everything that [`crate::Broker::start`] needs.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// `node.id`.
    pub node_id: NodeId,
    /// `process.roles`.
    pub roles: Roles,
    /// The cluster this node must belong to; `None`: whatever the directory says, or a new one when it is empty (a sole
    /// voter formats itself).
    pub cluster_id: Option<ClusterId>,
    /// Where to listen. At least one, for clients if it is a broker; names are unique.
    pub listeners: Vec<ListenerConfig>,
    /// `log.dirs`: at least one. What is no broker keeps nothing in them but the metadata, in one.
    pub log_dirs: Vec<PathBuf>,
    /// `metadata.log.dir`; `None`: the first of `log_dirs`.
    pub metadata_dir: Option<PathBuf>,
    /// `controller.quorum.voters`: who decides for a cluster that begins. Empty: this node alone. A directory that knows its
    /// voters goes by those.
    pub voters: Vec<QuorumVoter>,
    /// `controller.quorum.bootstrap.servers`, without this node's own: whom a node asks who votes when nothing names voters and
    /// its directory does not know any. Empty: it begins a cluster, alone.
    pub bootstrap: Vec<(String, u16)>,
    /// Whether `controller.quorum.bootstrap.servers` was set and nothing names voters, whomever it names: who decides is to be
    /// said when the directories are formatted.
    pub asks_who_decides: bool,
    /// Every other setting of the broker, parsed and checked.
    pub settings: cluster::config::BrokerSettings,
}

/// What a node is to its cluster.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Roles {
    /// It holds partitions, and may decide.
    #[default]
    Both,
    /// It holds partitions, and others decide.
    Broker,
    /// It decides, and others hold partitions.
    Controller,
}

impl Roles {
    /// Whether it holds partitions.
    pub fn is_broker(self) -> bool {
        self != Roles::Controller
    }

    /// Whether it may decide.
    pub fn is_controller(self) -> bool {
        self != Roles::Broker
    }
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

/// Who votes as long as the metadata log names nobody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Founders {
    /// These do.
    These(Voters),
    /// Whoever listens there knows.
    Ask(Vec<(String, u16)>),
}

impl BrokerConfig {
    /// Who votes where the directory does not say so, this node being `me`, at `endpoints` for the others.
    pub(crate) fn founders(&self, me: ReplicaKey, endpoints: &[Endpoint]) -> Founders {
        let voter = |voter: &QuorumVoter| {
            let endpoint = Endpoint {
                listener: CONTROLLER.into(),
                host: voter.host.as_str().into(),
                port: voter.port,
            };
            (voter.node, Voter { directory: None, endpoints: vec![endpoint] })
        };
        let own = Voter { directory: Some(me.directory), endpoints: endpoints.to_vec() };
        let alone = Voters([(me.node, own)].into());
        match &self.voters[..] {
            [] if !self.bootstrap.is_empty() => Founders::Ask(self.bootstrap.clone()),
            [] => Founders::These(alone),
            [named] if named.node == me.node => Founders::These(alone),
            several => Founders::These(Voters(several.iter().map(voter).collect())),
        }
    }

    /// Whether others decide with this node, or for it.
    pub(crate) fn is_of_several(&self) -> bool {
        let others = self.voters.iter().any(|voter| voter.node != self.node_id);
        others || !self.bootstrap.is_empty() || !self.roles.is_controller()
    }

    /// Where the metadata log lives.
    pub fn metadata_dir(&self) -> PathBuf {
        let first = || self.log_dirs.first().cloned().unwrap_or_default();
        self.metadata_dir.clone().unwrap_or_else(first)
    }
}
