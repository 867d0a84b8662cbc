//! Looks up the names of nodes, on the runtime's own threads.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use mdp_catalog::NodeName;
use mdp_core::{Located, PEERS_MAX};
use tokio::runtime::Handle;

use crate::{Endpoint, bell::Ringer};

/// How many outcomes may wait for the broker thread: one for each other node. One that does not fit
/// is lost, and its name is looked up again.
const OUTCOMES_MAX: usize = PEERS_MAX;

/// Looks up the names of nodes, and wakes the broker thread when one was found.
#[derive(Debug)]
pub(crate) struct Resolver {
    runtime: Handle,
    ringer: Ringer,
    sender: SyncSender<Located>,
    outcomes: Receiver<Located>,
}

impl Resolver {
    /// A resolver that rings when it has an outcome.
    pub(crate) fn new(runtime: Handle, ringer: Ringer) -> Self {
        let (sender, outcomes) = sync_channel(OUTCOMES_MAX);
        Self { runtime, ringer, sender, outcomes }
    }

    /// Where a node is, if that needs no look-up; else one is begun.
    pub(crate) fn begin(&self, node: NodeName, endpoint: String) -> Option<Located> {
        let parsed = endpoint.parse::<Endpoint>().ok();
        let parsed = parsed.filter(|parsed| !parsed.is_wildcard() && parsed.port() != 0);
        let name = parsed.as_ref().and_then(|parsed| Some((parsed.host_name()?, parsed.port())));
        let Some((host, port)) = name else {
            let addresses = parsed.and_then(|parsed| parsed.socket_address()).into_iter().collect();
            return Some(Located { node, endpoint, addresses });
        };
        let (name, sender, ringer) =
            ((host.to_owned(), port), self.sender.clone(), self.ringer.clone());
        self.runtime.spawn(async move {
            let addresses = tokio::net::lookup_host(name).await;
            let addresses = addresses.map(Iterator::collect).unwrap_or_default();
            if sender.try_send(Located { node, endpoint, addresses }).is_ok() {
                ringer.ring();
            }
        });
        None
    }

    /// The next outcome.
    pub(crate) fn take(&self) -> Option<Located> {
        self.outcomes.try_recv().ok()
    }
}
