//! Looks up the names of nodes, on the runtime's own threads.

use std::{
    net::SocketAddr,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
};

use mdp_catalog::NodeName;
use tokio::runtime::Handle;

use crate::{Endpoint, bell::Ringer};

/// How many outcomes may wait for the broker thread: one for each other node. One that does not fit
/// is lost, and its name is looked up again.
const OUTCOMES_MAX: usize = super::PEERS_MAX;

/// What a name stands for now.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) node: NodeName,
    pub(super) endpoint: Endpoint,
    /// Empty: it stands for nothing, or nobody knows.
    pub(super) addresses: Vec<SocketAddr>,
}

/// Looks up the names of nodes, and wakes the broker thread when one was found.
#[derive(Debug)]
pub(crate) struct Resolver {
    runtime: Handle,
    ringer: Ringer,
    sender: SyncSender<Resolved>,
    outcomes: Receiver<Resolved>,
}

impl Resolver {
    /// A resolver that rings when it has an outcome.
    pub(crate) fn new(runtime: Handle, ringer: Ringer) -> Self {
        let (sender, outcomes) = sync_channel(OUTCOMES_MAX);
        Self { runtime, ringer, sender, outcomes }
    }

    /// Begins to look up the host of an endpoint, if it is a name.
    pub(super) fn begin(&self, node: &NodeName, endpoint: &Endpoint) {
        let Some(host) = endpoint.host_name() else { return };
        let (name, sender, ringer) =
            ((host.to_owned(), endpoint.port()), self.sender.clone(), self.ringer.clone());
        let (node, endpoint) = (node.clone(), endpoint.clone());
        self.runtime.spawn(async move {
            let addresses = tokio::net::lookup_host(name).await;
            let addresses = addresses.map(Iterator::collect).unwrap_or_default();
            if sender.try_send(Resolved { node, endpoint, addresses }).is_ok() {
                ringer.ring();
            }
        });
    }

    /// The next outcome.
    pub(super) fn take(&self) -> Option<Resolved> {
        self.outcomes.try_recv().ok()
    }
}
