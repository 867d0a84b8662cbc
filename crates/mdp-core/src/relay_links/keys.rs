//! Keys of nodes on the links that carry requests.

use std::{sync::Arc, time::Instant};

use super::{RelayLinks, peer::Peer};
use crate::NodeKeys;

impl RelayLinks {
    /// From now on nodes are known by these keys, and connections of other ones end. The transport must have
    /// [randomness](mdp_transport::Transport::seed).
    pub fn set_keys(&mut self, now: Instant, keys: Arc<NodeKeys>) {
        let dialled = self.peers.iter().filter_map(Peer::dialled).collect();
        self.keys.set(keys, &mut self.transport, &dialled);
        self.take_events(now);
    }
}
