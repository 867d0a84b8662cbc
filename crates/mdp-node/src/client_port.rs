//! The port that clients and workers connect to.

use std::time::Instant;

use mdp_broker::{Outgoing, PeerId};
use mdp_core::{Connections, Received};
use mdp_transport::{
    ConnectionId, ConnectionLimits, ConnectionStatus, Flow, Message, MessageWriter, PeerAddress,
    SharedFrame, Transport, TransportEvent, TransportLimits, TransportTotals,
};
use mdp_wire::{DecodeLimits, Token, worker::FromBroker};

use crate::{
    BindAddress, BindError,
    poller::{Poller, PortName},
    port::{ConnectionShare, ListenerSettings, Port, ReadState},
};

const LISTENERS: ListenerSettings = ListenerSettings {
    key: "broker.bind",
    // After a restart, all peers come at once.
    backlog_connections: 4_096,
};
/// What is said when no more connections are taken.
const LIMIT: &str = "there are as many as broker.max_connections allows";

/// One message, and who sent it.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) now: Instant,
    pub(crate) from: PeerId,
    pub(crate) address: PeerAddress,
    pub(crate) message: Message,
}

/// The port and its connections.
#[derive(Debug)]
pub(crate) struct ClientPort {
    port: Port,
    transport: Transport<Token>,
}

/// The connections while they are read.
struct Reading<'a, F> {
    transport: &'a mut Transport<Token>,
    take: F,
}

impl<F: FnMut(Incoming)> Connections for Reading<'_, F> {
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
            (self.take)(Incoming { now, from: from.clone(), address, message });
            if messages < messages_max { Flow::Continue } else { Flow::Stop }
        });
        Received { bytes, messages, is_turn_over: false }
    }
}

impl ClientPort {
    /// A bound port, whose sockets this poller watches.
    pub(crate) fn bind(
        addresses: &[BindAddress],
        limits: TransportLimits,
        poller: &Poller,
    ) -> Result<Self, BindError> {
        let whose = (PortName::Clients, ConnectionShare::OF_MANY);
        let port = Port::bind(whose, &LISTENERS, addresses, poller)?;
        Ok(Self { port, transport: Transport::new(Instant::now(), limits) })
    }

    /// Its sockets, for the poller.
    pub(crate) const fn sockets(&mut self) -> &mut Port {
        &mut self.port
    }

    /// What was bound, with the real ports.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &BindAddress> {
        self.port.addresses()
    }

    /// Whether something is to be done although the poller is silent.
    pub(crate) fn is_awake(&self) -> bool {
        self.port.is_awake() || self.transport.has_events()
    }

    /// When something is to be done, news or not.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.transport.poll_timeout().into_iter().chain(self.port.poll_timeout()).min()
    }

    /// Takes connections that wait.
    pub(crate) fn accept(&mut self, now: Instant) {
        let mut reading = Reading { transport: &mut self.transport, take: drop };
        self.port.accept(now, LIMIT, &mut reading);
    }

    /// Reads what has come, each connection in its turn, and hands out the messages.
    pub(crate) fn read(&mut self, take: impl FnMut(Incoming)) -> ReadState {
        self.port.read(&mut Reading { transport: &mut self.transport, take })
    }

    /// Puts a message into the queue of a peer. One that does not read gets no heartbeats: unread
    /// messages prove as much, and heartbeats would pile up.
    pub(crate) fn send(&mut self, now: Instant, to: &PeerId, message: Outgoing<SharedFrame>) {
        let id = connection_id(to);
        if is_heartbeat(&message) && self.transport.is_blocked(id) {
            return;
        }
        let token = request_token(&message);
        self.transport.send(id, token, |writer| encode(message, writer));
        self.port.write_if_much(now, id, &mut self.transport);
    }

    /// Writes what waits, as far as the kernel takes it, and closes what ended.
    pub(crate) fn flush(&mut self, now: Instant) {
        self.port.flush(now, &mut self.transport);
    }

    /// Writes what waited for room in the kernel; after each look at the poller.
    pub(crate) fn write_where_room(&mut self, now: Instant) {
        self.port.write_where_room(now, &mut self.transport);
    }

    /// Closes a connection on the word of a person; false if there is none with this number.
    pub(crate) fn kick(&mut self, number: u64) -> bool {
        self.transport.kick(ConnectionId::from_number(number))
    }

    /// All connections, for a person.
    pub(crate) fn connections(&self) -> impl Iterator<Item = ConnectionStatus<'_>> {
        self.transport.connections()
    }

    /// Pings the silent, ends those whose time is over.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let port = &self.port;
        self.transport.handle_timeout(now, |id| port.has_unread(id));
    }

    /// Whether all peers have closed their ends.
    pub(crate) const fn is_deserted(&self) -> bool {
        self.transport.is_empty()
    }

    /// The next thing that happened to a connection.
    pub(crate) fn poll_event(&mut self) -> Option<TransportEvent<Token>> {
        self.transport.poll_event()
    }

    /// A worker may be silent while it works (AM-08): its heartbeats tell whether it lives.
    pub(crate) fn let_be_silent(&mut self, peer: &PeerId) {
        self.transport.set_pong_required(connection_id(peer), false);
    }

    /// Where a peer connects from, if it is still there.
    pub(crate) fn address(&self, peer: &PeerId) -> Option<PeerAddress> {
        self.transport.address(connection_id(peer))
    }

    /// Whether no byte waits for any peer.
    pub(crate) const fn is_all_written(&self) -> bool {
        self.transport.is_all_written()
    }

    /// Says to all peers that nothing follows.
    pub(crate) fn say_bye(&mut self) {
        self.port.say_bye();
    }

    /// Sums over all connections.
    pub(crate) fn totals(&self) -> TransportTotals {
        self.transport.totals()
    }
}

/// The limits of the transport that follow from those of the decoder.
pub(crate) fn connection_limits(decode: &DecodeLimits) -> ConnectionLimits {
    ConnectionLimits {
        message_bytes_max: decode.message_bytes_max,
        message_frames_max: decode.frames_max,
        ..ConnectionLimits::default()
    }
}

/// The engine's name of a connection.
pub(crate) fn peer_id(id: ConnectionId) -> PeerId {
    PeerId::from(id.number())
}

fn connection_id(peer: &PeerId) -> ConnectionId {
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

#[cfg(test)]
mod tests;
