//! Where the nodes of the quorum are called.
//!
//! What this node's operator says comes first (`controller.quorum.voters`: machines move), then what was last heard from the
//! quorum itself (each answer says where the leader is, KIP-853: a node whose log has not come far enough may hear of a leader
//! that the log does not know), then what the log says. Where nobody is found, the next of them is tried.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cluster::quorum::Voters;
use types::NodeId;
use types::mutant::{Mutant, planted};

use crate::config::BrokerConfig;

/// More nodes than any quorum has.
const HEARD_MAX: usize = 64;
/// The operator, the quorum, the log.
const SOURCES: usize = 3;

/// Host and port.
pub(crate) type Address = (Arc<str>, u16);

/// All that is known.
#[derive(Debug)]
pub(crate) struct Addresses {
    me: NodeId,
    own: Option<Address>,
    named: BTreeMap<NodeId, Address>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    heard: BTreeMap<NodeId, Address>,
    /// Where a node was not found since all that is known was tried last.
    missed: BTreeMap<NodeId, Vec<Address>>,
}

impl Addresses {
    /// Those that `config` names, and this node's own.
    pub(crate) fn new(config: &BrokerConfig, own: Option<Address>) -> Addresses {
        let named = config.voters.iter().map(|voter| {
            let address = (Arc::from(voter.host.as_str()), voter.port);
            (voter.node, address)
        });
        let (me, named) = (config.node_id, named.collect());
        Addresses { me, own, named, state: Mutex::default() }
    }

    /// Where `node` is called.
    pub(crate) fn of(&self, node: NodeId, voters: &Voters) -> Option<Address> {
        if node == self.me && self.own.is_some() {
            return self.own.clone();
        }
        let mut state = self.lock();
        let written = voters.0.get(&node).and_then(|voter| voter.endpoints.first());
        let written = written.map(|endpoint| (endpoint.host.as_str().into(), endpoint.port));
        let named = self.named.get(&node).cloned();
        let known = [named, state.heard.get(&node).cloned(), written];
        let known: Vec<Address> = known.into_iter().flatten().collect();
        if let Some(missed) = state.missed.get_mut(&node) {
            missed.retain(|address| known.contains(address));
        }
        let missed = state.missed.get(&node);
        let is_left = |address: &&Address| missed.is_none_or(|missed| !missed.contains(address));
        if let Some(address) = known.iter().find(is_left) {
            return Some(address.clone());
        }
        state.missed.remove(&node);
        known.into_iter().next()
    }

    /// The quorum says where a node is.
    pub(super) fn hear(&self, node: NodeId, host: &str, port: u16) {
        // This one knows best where it is itself.
        if node == self.me || planted(Mutant::LeaderUnplaced) {
            return;
        }
        let heard = &mut self.lock().heard;
        if heard.len() < HEARD_MAX || heard.contains_key(&node) {
            heard.insert(node, (host.into(), port));
        }
    }

    /// A node was not found at `address`: the next time it is called elsewhere, if that is known, and then here again.
    pub(super) fn on_missed(&self, node: NodeId, address: &Address) {
        let missed = &mut self.lock().missed;
        let places = missed.entry(node).or_default();
        if places.len() < SOURCES && !places.contains(address) {
            places.push(address.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // It is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use cluster::quorum::{Endpoint, Voter};

    use super::*;

    #[test]
    fn who_is_not_found_is_called_elsewhere() {
        let at = |host: &str| (Arc::from(host), 1);
        let addresses = Addresses {
            me: NodeId(1),
            own: Some(at("own")),
            named: [(NodeId(2), at("named"))].into(),
            state: Mutex::default(),
        };
        let endpoint = Endpoint { listener: "C".into(), host: "written".into(), port: 1 };
        let voter = Voter { directory: None, endpoints: vec![endpoint] };
        let voters = Voters([(NodeId(2), voter)].into());
        let of = |node| addresses.of(NodeId(node), &voters).map(|(host, _)| host.to_string());
        assert_eq!(of(2).as_deref(), Some("named"));
        addresses.on_missed(NodeId(2), &at("named"));
        assert_eq!(of(2).as_deref(), Some("written"));
        addresses.hear(NodeId(2), "heard", 1);
        assert_eq!(of(2).as_deref(), Some("heard"));
        addresses.on_missed(NodeId(2), &at("heard"));
        assert_eq!(of(2).as_deref(), Some("written"), "every one has its turn");
        addresses.on_missed(NodeId(2), &at("written"));
        assert_eq!(of(2).as_deref(), Some("named"), "and then again");
        addresses.on_missed(NodeId(2), &at("named"));
        assert_eq!(of(2).as_deref(), Some("heard"));
        addresses.hear(NodeId(1), "elsewhere", 1);
        assert_eq!((of(1).as_deref(), of(3)), (Some("own"), None));
    }
}
