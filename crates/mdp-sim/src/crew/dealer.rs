//! The one connection of a client or worker, as the socket of a library makes it.

use std::time::{Duration, Instant};

use mdp_core::{Connections, Received};
use mdp_transport::{
    ConnectionId, ConnectionLimits, Flow, PeerAddress, SharedFrame, Transport, TransportEvent,
    TransportLimits,
};
use mdp_wire::{FrameSink as _, Part, Position};

use crate::{
    network::client_socket,
    port::{Io, Port, ReadLimits},
    wires::{Delivery, WireId, WireKind},
};

/// The frames of a message.
pub(super) type Frames = Vec<Vec<u8>>;

/// How long libzmq waits for the end of a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// Beyond any run: libzmq sends no PINGs by itself.
const NEVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A connection to a node.
#[derive(Debug)]
pub(super) struct Dealer {
    pub(super) node: usize,
    pub(super) wire: WireId,
    id: ConnectionId,
    port: Port,
    transport: Transport<()>,
}

/// What came of a connection.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Whether messages may be exchanged from now on.
    pub(super) is_open: bool,
    pub(super) messages: Vec<Frames>,
    /// Whether it is gone, after all that.
    pub(super) is_over: bool,
}

/// The connection while it is read.
struct Reading<'a> {
    transport: &'a mut Transport<()>,
    messages: &'a mut Vec<Frames>,
}

impl Connections for Reading<'_> {
    type Tag = ();

    fn transport(&mut self) -> &mut Transport<()> {
        self.transport
    }

    fn received(
        &mut self,
        now: Instant,
        id: ConnectionId,
        input: &[u8],
        messages_max: usize,
    ) -> Received {
        let before = self.messages.len();
        let bytes = self.transport.received(now, id, input, |_, message| {
            let frames = message.frames.iter().map(|frame| frame.as_ref().to_vec());
            self.messages.push(frames.collect());
            if self.messages.len() - before < messages_max { Flow::Continue } else { Flow::Stop }
        });
        let messages = self.messages.len() - before;
        Received { bytes, messages, is_turn_over: false }
    }
}

impl Dealer {
    /// Begins to connect from a site to a node.
    pub(super) fn dial(io: &mut Io<'_>, site: usize, node: usize) -> Self {
        let connection = ConnectionLimits {
            handshake_timeout: HANDSHAKE_TIMEOUT,
            ping_interval: NEVER,
            ..ConnectionLimits::default()
        };
        let limits = TransportLimits { connection, ..TransportLimits::default() };
        let mut transport = Transport::new(io.now, limits);
        let address = PeerAddress::from(client_socket(node));
        let id = transport.dialled(io.now, address).expect("it is the first one");
        let mut port = Port::new(WireKind::Front, site, ReadLimits::OF_MANY);
        let wire = port.dial(io, id, node);
        Self { node, wire, id, port, transport }
    }

    /// Something arrived; it is read in the next turn.
    pub(super) fn put(&mut self, delivery: Delivery) {
        self.port.put(delivery);
    }

    /// Whether something is to be done although nothing comes and nothing is due.
    pub(super) fn is_awake(&self) -> bool {
        self.port.is_awake() || self.transport.has_events()
    }

    /// When something is to be done, news or not.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.transport.poll_timeout()
    }

    /// Reads what has come, and does what is due.
    pub(super) fn read(&mut self, io: &mut Io<'_>) -> News {
        let Self { port, transport, .. } = self;
        let mut news = News::default();
        port.resume_writing(io, transport);
        port.read(io, &mut Reading { transport, messages: &mut news.messages });
        transport.handle_timeout(io.now, |id| port.has_unread(id));
        while let Some(event) = transport.poll_event() {
            match event {
                TransportEvent::Opened { .. } => news.is_open = true,
                // Only CURVE asks for an identity, and this peer does not speak it.
                TransportEvent::Authenticate { .. } => {}
                TransportEvent::Lost { .. } | TransportEvent::Refused { .. } => news.is_over = true,
            }
        }
        news
    }

    /// Puts a message into the queue.
    pub(super) fn send(&mut self, frames: Frames) {
        let last = frames.len().saturating_sub(1);
        self.transport.send(self.id, None, |writer| {
            for (index, frame) in frames.into_iter().enumerate() {
                let position = if index == last { Position::Last } else { Position::More };
                let Ok(()) = writer.put(Part::Frame(SharedFrame::from(frame)), position);
            }
        });
    }

    /// Writes what waits, as much as fits.
    pub(super) fn flush(&mut self, io: &mut Io<'_>) {
        self.port.flush(io, &mut self.transport);
    }

    /// The connection ends; what was sent and does not fit is lost.
    pub(super) fn close(mut self, io: &mut Io<'_>) {
        self.transport.close(self.id);
        self.flush(io);
    }
}
