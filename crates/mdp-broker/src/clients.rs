//! What each client has waiting, of this node or of others, so that one cannot crowd out the rest.

use std::collections::{BTreeMap, BTreeSet};

use crate::{request::ClientId, service::ServiceId};

/// What one client has waiting, over all services.
#[derive(Debug, Default)]
pub(crate) struct ClientUse {
    pub(crate) requests: usize,
    pub(crate) bytes: usize,
    requests_by_service: BTreeMap<ServiceId, usize>,
}

impl ClientUse {
    /// The power of two that its bytes reach.
    fn level(&self) -> u32 {
        usize::BITS - self.bytes.leading_zeros()
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = ServiceId> {
        self.requests_by_service.keys().copied()
    }
}

/// The clients that have something waiting; others leave no trace.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    by_peer: BTreeMap<ClientId, ClientUse>,
    /// Clients by the power of two that their bytes reach: the greediest is found at once, and a
    /// client moves only when it doubles or halves.
    by_level: BTreeMap<u32, BTreeSet<ClientId>>,
}

impl Clients {
    pub(crate) fn find(&self, client: &ClientId) -> Option<&ClientUse> {
        self.by_peer.get(client)
    }

    pub(crate) fn add(&mut self, client: &ClientId, service: ServiceId, bytes: usize) {
        let mut old_level = None;
        let entry = match self.by_peer.get_mut(client) {
            Some(entry) => {
                old_level = Some(entry.level());
                entry
            }
            None => self.by_peer.entry(client.clone()).or_default(),
        };
        entry.requests += 1;
        entry.bytes = entry.bytes.saturating_add(bytes);
        *entry.requests_by_service.entry(service).or_default() += 1;
        let new_level = entry.level();
        self.change_level(client, old_level, Some(new_level));
    }

    pub(crate) fn remove(&mut self, client: &ClientId, service: ServiceId, bytes: usize) {
        let Some(entry) = self.by_peer.get_mut(client) else { return };
        let old_level = entry.level();
        entry.requests = entry.requests.saturating_sub(1);
        entry.bytes = entry.bytes.saturating_sub(bytes);
        if let Some(count) = entry.requests_by_service.get_mut(&service) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                entry.requests_by_service.remove(&service);
            }
        }
        let new_level = (entry.requests > 0).then(|| entry.level());
        if new_level.is_none() {
            self.by_peer.remove(client);
        }
        self.change_level(client, Some(old_level), new_level);
    }

    fn change_level(&mut self, client: &ClientId, old: Option<u32>, new: Option<u32>) {
        if old == new {
            return;
        }
        if let Some(old) = old
            && let Some(peers) = self.by_level.get_mut(&old)
        {
            peers.remove(client);
            if peers.is_empty() {
                self.by_level.remove(&old);
            }
        }
        if let Some(new) = new {
            self.by_level.entry(new).or_default().insert(client.clone());
        }
    }

    /// A client with the most bytes waiting, to within a factor of two.
    pub(crate) fn greediest(&self) -> Option<&ClientId> {
        self.by_level.last_key_value().and_then(|(_, peers)| peers.first())
    }

    /// Whether the client would be among the greediest with so many more bytes.
    pub(crate) fn is_greediest_with(&self, client: &ClientId, more_bytes: usize) -> bool {
        let bytes = self.find(client).map_or(0, |entry| entry.bytes).saturating_add(more_bytes);
        let level = usize::BITS - bytes.leading_zeros();
        self.by_level.last_key_value().is_none_or(|(highest, _)| level >= *highest)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ClientId, &ClientUse)> {
        self.by_peer.iter()
    }
}
