//! The connections of clients and workers.

use std::time::Instant;

use mdp_broker::{Outgoing, PeerId};
use mdp_transport::{
    ConnectionId, ConnectionStatus, Flow, Message, MessageWriter, PeerAddress, SharedFrame,
    Transport, TransportEvent, TransportLimits, TransportTotals,
};
use mdp_wire::{Token, worker::FromBroker};

use crate::{Connections, Received};

/// The connections of clients and workers, by what the engine calls them.
#[derive(Debug)]
pub struct Clients {
    transport: Transport<Token>,
}

/// One message, and the peer that sent it.
#[derive(Debug)]
pub struct FromPeer {
    /// When.
    pub now: Instant,
    /// Which peer.
    pub from: PeerId,
    /// Where it connects from.
    pub address: PeerAddress,
    /// What.
    pub message: Message,
}

/// The connections while they are read.
#[derive(Debug)]
pub struct ReadingClients<'a, F> {
    transport: &'a mut Transport<Token>,
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
        let bytes = self.transport.received(now, id, input, |address, message| {
            messages += 1;
            (self.take)(FromPeer { now, from: from.clone(), address, message });
            if messages < messages_max { Flow::Continue } else { Flow::Stop }
        });
        Received { bytes, messages, is_turn_over: false }
    }
}

impl Clients {
    /// None yet.
    #[must_use]
    pub fn new(now: Instant, limits: TransportLimits) -> Self {
        Self { transport: Transport::new(now, limits) }
    }

    /// The connections, for the shell: it writes what waits there, and says when one is closed.
    pub const fn transport(&mut self) -> &mut Transport<Token> {
        &mut self.transport
    }

    /// What the shell brings bytes to; messages are handed out.
    pub const fn reading<F: FnMut(FromPeer)>(&mut self, take: F) -> ReadingClients<'_, F> {
        ReadingClients { transport: &mut self.transport, take }
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
        self.transport.poll_event()
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
