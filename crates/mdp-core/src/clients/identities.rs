//! [`Identities`]: who the clients and workers are that have shown a key.

use std::{collections::BTreeMap, fmt, sync::Arc};

use mdp_broker::{Access, IdentityId, IdentityKey, Subject};
use mdp_transport::{ConnectionId, IdentityToken, Mechanisms, PublicKey, Transport};
use mdp_wire::Token;

/// Who peers of the client port have to be.
#[derive(Clone)]
pub struct ClientSecurity {
    /// Which mechanisms they may ask for.
    pub mechanisms: Mechanisms,
    /// Random bytes of this process.
    pub seed: [u8; 32],
    /// Whether handshakes are computed by others, who take the transport's jobs.
    pub jobs_outside: bool,
    /// Who may do what.
    pub access: Arc<Access>,
}

impl fmt::Debug for ClientSecurity {
    /// Without the random bytes, of which all short-term keys are made.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSecurity")
            .field("mechanisms", &self.mechanisms)
            .finish_non_exhaustive()
    }
}

/// The label of the client port among those that are handed the same random bytes.
const PORT_LABEL: &[u8; 8] = b"clients ";

/// Who the connected peers are.
#[derive(Debug)]
pub(super) struct Identities {
    access: Arc<Access>,
    keys: BTreeMap<ConnectionId, (IdentityKey, IdentityId)>,
    connections: BTreeMap<IdentityId, u64>,
}

impl Identities {
    /// Lets a port ask for keys.
    pub(super) fn new(transport: &mut Transport<Token>, security: ClientSecurity) -> Self {
        transport.seed(PORT_LABEL, &security.seed);
        transport.set_mechanisms(security.mechanisms);
        transport.set_jobs_outside(security.jobs_outside);
        let (keys, connections) = (BTreeMap::new(), BTreeMap::new());
        Self { access: security.access, keys, connections }
    }

    /// Who a connected peer is.
    pub(super) fn subject(&self, id: ConnectionId) -> Subject {
        self.keys.get(&id).map_or(Subject::Anonymous, |(_, identity)| Subject::Identity(*identity))
    }

    /// The identity of a key, for a peer that shows it now, in seconds of Unix time. `Err`: it has one, and
    /// as many connections as it may. Then nothing is answered: a refusal would keep a libzmq away for good.
    pub(super) fn admit(
        &self,
        key: IdentityKey,
        unix_now: u64,
    ) -> Result<Option<IdentityToken>, ()> {
        let Some(id) = self.access.admit(&key, unix_now) else { return Ok(None) };
        let count = self.connections.get(&id).copied().unwrap_or(0);
        let quotas = self.access.identity(id).map(|identity| identity.quotas);
        let max = quotas.and_then(|quotas| quotas.max_connections);
        if max.is_some_and(|max| count >= max) {
            return Err(());
        }
        Ok(Some(IdentityToken(u64::from(id.number()))))
    }

    /// A peer that has shown this key is connected.
    pub(super) fn insert(&mut self, id: ConnectionId, key: IdentityKey, token: IdentityToken) {
        let identity = IdentityId::from_number(u32::try_from(token.0).unwrap_or(u32::MAX));
        if self.keys.insert(id, (key, identity)).is_none() {
            *self.connections.entry(identity).or_default() += 1;
        }
    }

    /// A connection is gone.
    pub(super) fn remove(&mut self, id: ConnectionId) {
        let Some((_, identity)) = self.keys.remove(&id) else { return };
        if let Some(count) = self.connections.get_mut(&identity) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.connections.remove(&identity);
            }
        }
    }

    /// Who may do what is different now. Returns the connections whose key is not that of the same identity
    /// any more.
    pub(super) fn set_access(&mut self, access: Arc<Access>) -> Vec<ConnectionId> {
        self.access = access;
        let is_over = |(key, identity): &(IdentityKey, IdentityId)| {
            self.access.identity_of(key) != Some(*identity)
        };
        self.keys.iter().filter(|(_, entry)| is_over(entry)).map(|(id, _)| *id).collect()
    }

    /// The key that a peer has shown, and the name of its identity.
    pub(super) fn of(&self, id: ConnectionId) -> Option<(PublicKey, String)> {
        let (key, identity) = self.keys.get(&id)?;
        let name = self.access.identity(*identity).map(|identity| identity.name.to_string());
        Some((PublicKey::from_bytes(key.0), name.unwrap_or_default()))
    }

    /// How many peers have shown a key.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// How many identities there are.
    pub(super) fn known(&self) -> usize {
        self.access.identities().count()
    }
}
