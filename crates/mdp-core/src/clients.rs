//! The connections of clients and workers.

mod identities;

use std::{sync::Arc, time::Instant};

use mdp_broker::{Access, IdentityKey, Outgoing, PeerId, PeerSource, Subject};
use mdp_transport::{
    ConnectionId, ConnectionStatus, Flow, Message, MessageWriter, PeerAddress, PublicKey,
    SharedFrame, Transport, TransportEvent, TransportLimits, TransportTotals,
};
use mdp_wire::{Token, worker::FromBroker};

pub use self::identities::ClientSecurity;
use self::identities::Identities;
use crate::{Connections, Received, SecurityReport};

/// The connections of clients and workers, by what the engine calls them.
#[derive(Debug)]
pub struct Clients {
    transport: Transport<Token>,
    /// Who they are; `None`: nothing proves it, and all is allowed (mode "off").
    identities: Option<Identities>,
    /// Messages of peers without a key, where others show theirs.
    plain_messages: u64,
}

/// One message, and the peer that sent it.
#[derive(Debug)]
pub struct FromPeer {
    /// When.
    pub now: Instant,
    /// Which peer.
    pub from: PeerId,
    /// What is known of it.
    pub source: PeerSource,
    /// What.
    pub message: Message,
}

/// The connections while they are read.
#[derive(Debug)]
pub struct ReadingClients<'a, F> {
    transport: &'a mut Transport<Token>,
    identities: Option<&'a Identities>,
    plain_messages: &'a mut u64,
    take: F,
}

impl<F: FnMut(FromPeer)> Connections for ReadingClients<'_, F> {
    type Tag = Token;

    fn transport(&mut self) -> &mut Transport<Token> {
        self.transport
    }

    fn received(
        &mut self,
        now: Instant,
        id: ConnectionId,
        input: &[u8],
        messages_max: usize,
    ) -> Received {
        let (mut messages, from) = (0, peer_id(id));
        // Nothing is read of a peer that shows a key before it is known whose.
        let subject = self.identities.map_or(Subject::Unrestricted, |known| known.subject(id));
        let bytes = self.transport.received(now, id, input, |address, message| {
            messages += 1;
            let source = PeerSource { address: address.ip(), subject };
            (self.take)(FromPeer { now, from: from.clone(), source, message });
            if messages < messages_max { Flow::Continue } else { Flow::Stop }
        });
        if subject == Subject::Anonymous {
            *self.plain_messages += u64::try_from(messages).unwrap_or(u64::MAX);
        }
        Received { bytes, messages, is_turn_over: false }
    }
}

impl Clients {
    /// None yet.
    #[must_use]
    pub fn new(now: Instant, limits: TransportLimits, security: Option<ClientSecurity>) -> Self {
        let mut transport = Transport::new(now, limits);
        let identities = security.map(|security| Identities::new(&mut transport, security));
        Self { transport, identities, plain_messages: 0 }
    }

    /// The connections, for the shell: it writes what waits there, and says when one is closed.
    pub const fn transport(&mut self) -> &mut Transport<Token> {
        &mut self.transport
    }

    /// What the shell brings bytes to; messages are handed out.
    pub const fn reading<F: FnMut(FromPeer)>(&mut self, take: F) -> ReadingClients<'_, F> {
        let Self { transport, identities, plain_messages } = self;
        ReadingClients { transport, identities: identities.as_ref(), plain_messages, take }
    }

    /// Puts a message into the queue of a peer. One that does not read gets no heartbeats: unread
    /// messages prove as much, and heartbeats would pile up. Returns the connection that it waits on.
    pub fn send(&mut self, to: &PeerId, message: Outgoing<SharedFrame>) -> Option<ConnectionId> {
        let id = connection_id(to);
        if is_heartbeat(&message) && self.transport.is_blocked(id) {
            return None;
        }
        let token = request_token(&message);
        self.transport.send(id, token, |writer| encode(message, writer));
        Some(id)
    }

    /// The next thing that happened to a connection.
    pub fn poll_event(&mut self) -> Option<TransportEvent<Token>> {
        let event = self.transport.poll_event()?;
        if let (TransportEvent::Lost { id, .. }, Some(identities)) = (&event, &mut self.identities)
        {
            identities.remove(*id);
        }
        Some(event)
    }

    /// Answers whether the owner of a key is let in, in seconds of Unix time.
    pub fn authenticate(
        &mut self,
        (now, unix_now): (Instant, u64),
        id: ConnectionId,
        key: PublicKey,
        is_last: bool,
    ) {
        let Some(identities) = &mut self.identities else { return };
        let key = IdentityKey(*key.as_bytes());
        let Ok(identity) = identities.admit(key, unix_now) else { return };
        self.transport.authenticated(now, id, is_last, identity);
        if let Some(identity) = identity
            && self.transport.identity(id).is_some()
        {
            identities.insert(id, key, identity);
        }
    }

    /// Who may do what is different now: connections with keys that are not those of their identities any
    /// more end.
    pub fn set_access(&mut self, access: Arc<Access>) {
        let Some(identities) = &mut self.identities else { return };
        for id in identities.set_access(access) {
            self.transport.revoke(id);
        }
    }

    /// The key that a peer has shown, and the name of its identity.
    pub(crate) fn identity(&self, id: ConnectionId) -> Option<(PublicKey, String)> {
        self.identities.as_ref()?.of(id)
    }

    /// What became of keys; `None`: nothing proves who peers are.
    #[must_use]
    pub fn security(&self) -> Option<SecurityReport> {
        let identities = self.identities.as_ref()?;
        let (all, with_key) = (self.transport.totals(), identities.len());
        Some(SecurityReport {
            identities: identities.known(),
            curve_connections: with_key,
            plain_connections: all.connections.saturating_sub(all.strangers + with_key),
            plain_messages: self.plain_messages,
        })
    }

    /// Whether something happened that was not asked for yet.
    pub(crate) fn has_events(&self) -> bool {
        self.transport.has_events()
    }

    /// When something is to be done, news or not.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.transport.poll_timeout()
    }

    /// Pings the silent, ends those whose time is over.
    pub fn handle_timeout(&mut self, now: Instant, has_unread: impl Fn(ConnectionId) -> bool) {
        self.transport.handle_timeout(now, has_unread);
    }

    /// Closes a connection on the word of a person; false if there is none with this number.
    pub(crate) fn kick(&mut self, number: u64) -> bool {
        self.transport.kick(ConnectionId::from_number(number))
    }

    /// All connections, for a person.
    pub(crate) fn connections(&self) -> impl Iterator<Item = ConnectionStatus<'_>> {
        self.transport.connections()
    }

    /// A worker may be silent while it works (AM-08): its heartbeats tell whether it lives.
    pub(crate) fn let_be_silent(&mut self, peer: &PeerId) {
        self.transport.set_pong_required(connection_id(peer), false);
    }

    /// Where a peer connects from, if it is still there.
    #[must_use]
    pub fn address(&self, peer: &PeerId) -> Option<PeerAddress> {
        self.transport.address(connection_id(peer))
    }

    /// Whether no byte waits for any peer.
    #[must_use]
    pub const fn is_all_written(&self) -> bool {
        self.transport.is_all_written()
    }

    /// Whether all peers have closed their ends.
    pub(crate) const fn is_deserted(&self) -> bool {
        self.transport.is_empty()
    }

    /// Sums over all connections.
    #[must_use]
    pub fn totals(&self) -> TransportTotals {
        self.transport.totals()
    }
}

/// The engine's name of a connection.
#[must_use]
pub fn peer_id(id: ConnectionId) -> PeerId {
    PeerId::from(id.number())
}

/// The connection that the engine calls so.
#[must_use]
pub fn connection_id(peer: &PeerId) -> ConnectionId {
    ConnectionId::from_number(peer.number())
}

fn encode(message: Outgoing<SharedFrame>, writer: &mut MessageWriter<'_, Token>) {
    let Ok(()) = match message {
        Outgoing::Client(reply) => reply.encode(writer),
        Outgoing::Worker { version, message } => message.encode(version, writer),
    };
}

/// The token of a request for a worker.
const fn request_token(message: &Outgoing<SharedFrame>) -> Option<Token> {
    match message {
        Outgoing::Worker { message: FromBroker::Request { client, .. }, .. } => Some(*client),
        Outgoing::Client(_)
        | Outgoing::Worker { message: FromBroker::Heartbeat | FromBroker::Disconnect, .. } => None,
    }
}

const fn is_heartbeat(message: &Outgoing<SharedFrame>) -> bool {
    matches!(message, Outgoing::Worker { message: FromBroker::Heartbeat, .. })
}
