//! [`NodeKeys`]: the keys of CURVE by which nodes know each other, and what links between nodes do with them.
//!
//! Each node has one key, under its name. Who accepts a connection learns by the handshake whose key the other side
//! has; who makes one names the key that it expects. So both know the other node by name before anything is said.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Instant,
};

use mdp_catalog::NodeName;
use mdp_transport::{
    ClientKeys, ConnectionId, ConnectionStatus, Ending, IdentityToken, KeyPair, Loss, Mechanism,
    Mechanisms, PeerAddress, PeerIntroduction, PublicKey, SecretKey, ServerKeys, Transport,
};

/// How many nodes may have keys: more than a cluster has, also while nodes are replaced.
pub const NODE_KEYS_MAX: usize = 256;
/// All nodes are alike to the transport: which node has a key is looked up by the key.
const NODE: IdentityToken = IdentityToken(0);

/// What protects the links between nodes: `cluster.security`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkSecurity {
    /// Nothing: NULL in both directions.
    #[default]
    Off,
    /// CURVE with every node that speaks it, NULL with the others.
    Prefer,
    /// CURVE alone.
    Require,
}

/// The keys of nodes: this one's own, and the public one of each.
#[derive(Clone, Debug, Default)]
pub struct NodeKeys {
    security: LinkSecurity,
    own: Option<SecretKey>,
    by_name: BTreeMap<NodeName, PublicKey>,
    by_key: BTreeMap<PublicKey, NodeName>,
}

/// Two nodes have the same key, so that it names neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedKey {
    /// One of them.
    pub first: NodeName,
    /// The other.
    pub second: NodeName,
}

impl NodeKeys {
    /// The keys of these nodes, and this node's own secret one.
    ///
    /// # Errors
    /// Two nodes have the same key.
    pub fn new(
        security: LinkSecurity,
        own: SecretKey,
        nodes: BTreeMap<NodeName, PublicKey>,
    ) -> Result<Self, SharedKey> {
        let mut by_key = BTreeMap::new();
        for (name, key) in &nodes {
            if let Some(first) = by_key.insert(*key, name.clone()) {
                return Err(SharedKey { first, second: name.clone() });
            }
        }
        Ok(Self { security, own: Some(own), by_name: nodes, by_key })
    }

    /// The nodes that have a key.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (&NodeName, &PublicKey)> {
        self.by_name.iter()
    }

    fn key_of(&self, name: &NodeName) -> Option<PublicKey> {
        self.by_name.get(name).copied()
    }

    fn mechanisms(&self) -> Mechanisms {
        let curve = self.own.clone().map(|own| ServerKeys::new(own, None));
        Mechanisms { null: self.security != LinkSecurity::Require, curve }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyHolder<'a> {
    /// Nothing shows it: the connection has no encryption.
    Unproven,
    /// The node that has the key of this name.
    Node(&'a NodeName),
    /// No node has this key any more.
    Removed,
}

/// What a connection that is to be made came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialled {
    /// It is being made.
    Connection(ConnectionId),
    /// There is no key by which to know the node, and without one it may not be called.
    NoKey,
    /// The transport has no room.
    NoRoom,
}

/// The keys, as the links of one port use them.
#[derive(Debug, Default)]
pub(crate) struct LinkKeys {
    keys: Arc<NodeKeys>,
    /// The nodes that were seen with CURVE: NULL is not enough for them any more.
    seen: BTreeSet<NodeName>,
}

impl LinkKeys {
    /// From now on these keys count; `dialled` names what this side connected to. Connections end
    ///
    /// * with keys that belong to no node any more, or to another one;
    /// * that are being made with a key that is not the node's any more: where it is refused, that takes seconds;
    /// * without encryption to nodes whose keys have become known, so that CURVE is tried with them.
    pub(crate) fn set<T>(
        &mut self,
        keys: Arc<NodeKeys>,
        transport: &mut Transport<T>,
        dialled: &BTreeMap<ConnectionId, NodeName>,
    ) {
        transport.set_mechanisms(keys.mechanisms());
        let before = std::mem::replace(&mut self.keys, keys);
        let keys = &self.keys;
        let of_node = |id: ConnectionId| {
            dialled.get(&id).map(|name| (before.key_of(name), keys.key_of(name)))
        };
        let is_over = |status: &ConnectionStatus<'_>| match status.peer {
            None => of_node(status.id).is_some_and(|(before, now)| before != now),
            Some(PeerIntroduction { key: Some(key), .. }) => {
                keys.by_key.get(key) != before.by_key.get(key)
            }
            Some(_) => {
                of_node(status.id).is_some_and(|(before, now)| before.is_none() && now.is_some())
            }
        };
        let over = transport.connections().filter(is_over).map(|status| status.id);
        let over: Vec<ConnectionId> = over.collect();
        for id in over {
            transport.kick(id);
        }
        // Without a key, NULL is what is left for a node: this is how a cluster gives up its keys.
        self.seen.retain(|name| keys.by_name.contains_key(name));
    }

    /// How many nodes have a key.
    pub(crate) fn count(&self) -> usize {
        self.keys.by_name.len()
    }

    /// Answers the transport's question whose key it is.
    pub(crate) fn authenticate<T>(
        &mut self,
        now: Instant,
        transport: &mut Transport<T>,
        (id, key): (ConnectionId, PublicKey),
        is_last: bool,
    ) {
        let name = self.keys.by_key.get(&key);
        transport.authenticated(now, id, is_last, name.map(|_| NODE));
        if let Some(name) = name {
            // A node that connects by CURVE accepts it, too.
            self.seen.insert(name.clone());
        }
    }

    /// Begins a connection to a node: with CURVE if that is known to be possible, or has to be.
    pub(crate) fn dial<T>(
        &self,
        now: Instant,
        transport: &mut Transport<T>,
        node: Option<&NodeName>,
        (address, is_plain): (SocketAddr, bool),
    ) -> Dialled {
        let NodeKeys { security, own, .. } = &*self.keys;
        let address = PeerAddress::from(address);
        let server = node.and_then(|node| self.keys.key_of(node)).filter(|_| !is_plain);
        let connection = match (security, own, server) {
            (LinkSecurity::Prefer | LinkSecurity::Require, Some(own), Some(server)) => {
                let keys = ClientKeys { own: KeyPair::from(own.clone()), server };
                transport.dialled_curve(now, address, &keys)
            }
            (LinkSecurity::Require, ..) => return Dialled::NoKey,
            (LinkSecurity::Off | LinkSecurity::Prefer, ..) => transport.dialled(now, address),
        };
        connection.map_or(Dialled::NoRoom, Dialled::Connection)
    }

    /// Whether a node that refused CURVE is to be called without it: it has never been seen with CURVE, links may be
    /// without it, and it says that it speaks NULL alone. A libzmq, which nodes of 0.1.0 have, may read this side's whole
    /// greeting before it has sent its own, and then closes without a word.
    pub(crate) fn allows_plain(&self, node: Option<&NodeName>, why: &Loss) -> bool {
        let is_null = *why == Loss::Ended(Ending::Mechanism(Some(Mechanism::Null)));
        self.keys.security == LinkSecurity::Prefer
            && (is_null || *why == Loss::Closed)
            && node
                .is_some_and(|node| !self.seen.contains(node) && self.keys.key_of(node).is_some())
    }

    /// A connection to a node is there. False: it is with a key that is not the node's any more.
    pub(crate) fn on_dialled_opened<T>(
        &mut self,
        transport: &Transport<T>,
        id: ConnectionId,
        node: Option<&NodeName>,
    ) -> bool {
        match (self.holder(transport, id), node) {
            (KeyHolder::Node(holder), Some(node)) if holder == node => {
                self.seen.insert(node.clone());
                true
            }
            (KeyHolder::Node(_) | KeyHolder::Removed, _) => false,
            (KeyHolder::Unproven, _) => self.keys.security != LinkSecurity::Require,
        }
    }

    /// Who is at the other end of an open connection.
    pub(crate) fn holder<T>(&self, transport: &Transport<T>, id: ConnectionId) -> KeyHolder<'_> {
        match transport.peer(id).and_then(|peer| peer.key) {
            None => KeyHolder::Unproven,
            Some(key) => self.keys.by_key.get(&key).map_or(KeyHolder::Removed, KeyHolder::Node),
        }
    }
}

/// Whether an open connection has no encryption.
pub(crate) fn is_plain<T>(transport: &Transport<T>, id: ConnectionId) -> bool {
    transport.peer(id).is_some_and(|peer| peer.mechanism == Mechanism::Null)
}

#[cfg(test)]
mod tests;
