//! The port of one process that clients and workers connect to, over virtual connections.

use std::time::Instant;

use mdp_broker::{Broker, Input, Outgoing, PeerId};
use mdp_core::{Connections, Received};
use mdp_transport::{
    ConnectionId, ConnectionLimits, Ending, Flow, Loss, Message, MessageWriter, SharedFrame,
    StreamError, Transport, TransportEvent, TransportLimits,
};
use mdp_wire::{DecodeError, DecodeLimits, Defect, Token, decode_at_broker, worker::FromBroker};

use crate::{
    port::{Io, Port, ReadLimits},
    turn::Turn,
    wires::{Delivery, WireId, WireKind},
};

/// A process's ends of all connections with clients and workers.
#[derive(Debug)]
pub(crate) struct ClientPort {
    port: Port,
    transport: Transport<Token>,
    decode: DecodeLimits,
    /// The frames of the message at hand.
    frames: Vec<SharedFrame>,
}

/// The connections while they are read.
struct Reading<'a> {
    transport: &'a mut Transport<Token>,
    decode: &'a DecodeLimits,
    frames: &'a mut Vec<SharedFrame>,
    broker: &'a mut Broker<SharedFrame>,
}

impl Connections for Reading<'_> {
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
        let Self { transport, decode, frames, broker } = self;
        let mut messages = 0;
        let bytes = transport.received(now, id, input, |address, message: Message| {
            messages += 1;
            frames.clear();
            frames.extend(message.frames);
            let from = peer_id(id);
            let input = match decode_at_broker(frames, decode) {
                Ok(message) => Input::Received { from, source: address.ip(), message },
                Err(error) => Input::Malformed { from, error },
            };
            broker.handle_input(now, input);
            if messages < messages_max { Flow::Continue } else { Flow::Stop }
        });
        Received { bytes, messages, is_turn_over: false }
    }
}

impl ClientPort {
    pub(crate) fn new(now: Instant, site: usize, decode: DecodeLimits) -> Self {
        let connection = ConnectionLimits {
            message_bytes_max: decode.message_bytes_max,
            message_frames_max: decode.frames_max,
            ..ConnectionLimits::default()
        };
        let limits = TransportLimits { connection, ..TransportLimits::default() };
        Self {
            port: Port::new(WireKind::Front, site, ReadLimits::OF_MANY),
            transport: Transport::new(now, limits),
            decode,
            frames: Vec::new(),
        }
    }

    /// Something arrived; it is read in the next turn.
    pub(crate) fn put(&mut self, delivery: Delivery) {
        self.port.put(delivery);
    }

    /// Whether something is to be done although nothing comes and nothing is due.
    pub(crate) fn is_awake(&self) -> bool {
        self.port.is_awake() || self.transport.has_events()
    }

    /// Whether something was not read yet.
    pub(crate) fn has_more(&self) -> bool {
        self.port.has_more()
    }

    /// When something is to be done, news or not.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.transport.poll_timeout()
    }

    /// Takes new connections and reads what has come, as much as belongs into one turn.
    pub(crate) fn read(&mut self, turn: &mut Turn<'_>, broker: &mut Broker<SharedFrame>) {
        let Self { port, transport, decode, frames } = self;
        port.read(&mut turn.io(), &mut Reading { transport, decode, frames, broker });
    }

    /// Puts a message into the queue of a peer. One that does not read gets no heartbeats.
    pub(crate) fn send(&mut self, to: &PeerId, message: Outgoing<SharedFrame>) {
        let id = connection_id(to);
        if is_heartbeat(&message) && self.transport.is_blocked(id) {
            return;
        }
        let token = request_token(&message);
        self.transport.send(id, token, |writer| encode(message, writer));
    }

    /// The next client or worker whose connection is gone.
    pub(crate) fn poll_lost(
        &mut self,
        now: Instant,
        broker: &mut Broker<SharedFrame>,
    ) -> Option<Input<SharedFrame>> {
        loop {
            match self.transport.poll_event()? {
                TransportEvent::Opened { .. } | TransportEvent::Refused { .. } => {}
                TransportEvent::Lost { id, why, unsent, .. } => {
                    let peer = peer_id(id);
                    if let Some(defect) = beyond_limits(&why).filter(|_| unsent.is_empty()) {
                        let (from, error) = (peer.clone(), DecodeError::Malformed(defect));
                        broker.handle_input(now, Input::Malformed { from, error });
                    }
                    // A worker has at most one request.
                    return Some(Input::PeerLost { peer, unsent: unsent.into_iter().last() });
                }
            }
        }
    }

    /// Pings the silent, ends those whose time is over.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let port = &self.port;
        self.transport.handle_timeout(now, |id| port.has_unread(id));
    }

    /// A worker may be silent while it works (AM-08): its heartbeats tell whether it lives.
    pub(crate) fn let_be_silent(&mut self, peer: &PeerId) {
        self.transport.set_pong_required(connection_id(peer), false);
    }

    /// Writes what waits, as much as fits, and closes what ended.
    pub(crate) fn flush(&mut self, io: &mut Io<'_>) {
        self.port.flush(io, &mut self.transport);
    }

    /// Whether no byte waits for any peer.
    pub(crate) const fn is_all_written(&self) -> bool {
        self.transport.is_all_written()
    }

    /// The virtual connection of a peer.
    pub(crate) fn wire_of(&self, peer: &PeerId) -> Option<WireId> {
        self.port.wire_of(connection_id(peer))
    }
}

fn peer_id(id: ConnectionId) -> PeerId {
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

/// Whether a peer was lost because of a message beyond the limits, which the engine never sees.
const fn beyond_limits(why: &Loss) -> Option<Defect> {
    let Loss::Ended(Ending::Stream(error)) = why else { return None };
    match error {
        StreamError::MessageTooLarge { .. } => Some(Defect::TooLarge),
        StreamError::TooManyFrames { .. } => Some(Defect::TooManyFrames),
        StreamError::BadFlags(_) | StreamError::CommandTooLarge { .. } => None,
    }
}
