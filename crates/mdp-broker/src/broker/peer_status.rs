//! What one peer has and does, for a person who looks at connections.

use mdp_wire::{Frame, ServiceName};

use super::Broker;
use crate::{PeerId, request::ClientId};

/// What one peer is to the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStatus {
    /// The service that it offers; `None`: it is no worker.
    pub service: Option<ServiceName>,
    /// Its requests that wait for a worker at this node.
    pub waiting_requests: usize,
}

impl<F: Frame> Broker<F> {
    /// What a peer is to the engine: nothing, if it has neither registered nor a request that waits.
    #[must_use]
    pub fn peer_status(&self, peer: &PeerId) -> PeerStatus {
        let worker = self.workers.id_of(peer).and_then(|id| self.workers.find(id));
        let service = worker.and_then(|worker| self.services.find(worker.service));
        let client = self.clients.find(&ClientId::Here(peer.clone()));
        PeerStatus {
            service: service.map(|service| service.name.clone()),
            waiting_requests: client.map_or(0, |client| client.requests),
        }
    }
}
