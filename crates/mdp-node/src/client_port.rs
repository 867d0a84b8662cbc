//! The port that clients and workers connect to: sockets around a [`Transport`]. It moves bytes and
//! decides nothing.

mod listener;
mod reading;
mod stream;
mod writing;

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    time::{Duration, Instant},
};

use mdp_broker::PeerId;
use mdp_transport::{
    ConnectionId, ConnectionLimits, ConnectionStatus, Message, PeerAddress, Transport,
    TransportEvent, TransportLimits, TransportTotals,
};
use mdp_wire::{DecodeLimits, Token};
use mio::{Events, Interest, unix::SourceFd};

use self::{
    listener::{Accepted, Listeners},
    reading::CONNECTION_BYTES_PER_TURN,
    stream::Stream,
};
use crate::{BindAddress, BindError};

/// How many connections are taken in a turn.
const ACCEPTS_PER_TURN: usize = 64;
/// How often it is said that there is no room for another connection.
const FULL_SAID_EVERY: Duration = Duration::from_secs(10);
/// How many events the poller tells at once.
const EVENTS_MAX: usize = 1_024;

const BELL: mio::Token = mio::Token(usize::MAX);
/// The tokens of the others are below it; those of connections are their numbers.
const FIRST_LISTENER: mio::Token = mio::Token(usize::MAX - 1);

/// Whether everything was read that was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadState {
    /// Nothing is left.
    Emptied,
    /// Something may be left.
    MoreWaits,
}

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
    poll: mio::Poll,
    events: Events,
    /// Whether there were as many events as the poller can tell at once.
    has_more_events: bool,
    listeners: Listeners,
    /// By the slot of the connection.
    sockets: Vec<Option<Socket>>,
    transport: Transport<Token>,
    /// Connections with something to read. The poller tells of news only, so what is left over must
    /// not be forgotten.
    ready: VecDeque<ConnectionId>,
    scratch: Box<[u8]>,
    /// When it was last said that there are as many connections as there may be.
    said_full_at: Option<Instant>,
}

#[derive(Debug)]
struct Socket {
    id: ConnectionId,
    stream: Stream,
    /// Whether it is in the ready list.
    is_ready: bool,
    /// Whether the peer has closed its side: then it is read to the end.
    is_closing: bool,
    /// Whether the poller tells when more can be written.
    tells_room: bool,
    /// Bytes that were read when a turn was over.
    left_over: Vec<u8>,
}

impl ClientPort {
    /// A bound port. The bell is heard by [`poll`](Self::poll).
    pub(crate) fn bind(
        addresses: &[BindAddress],
        limits: TransportLimits,
        bell: BorrowedFd<'_>,
    ) -> Result<Self, BindError> {
        let mut listeners = Listeners::bind(addresses)?;
        let poll = mio::Poll::new().map_err(BindError::Poller)?;
        let registry = poll.registry();
        listeners
            .register(registry, FIRST_LISTENER)
            .and_then(|()| {
                registry.register(&mut SourceFd(&bell.as_raw_fd()), BELL, Interest::READABLE)
            })
            .map_err(BindError::Poller)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            has_more_events: false,
            listeners,
            sockets: Vec::new(),
            transport: Transport::new(Instant::now(), limits),
            ready: VecDeque::new(),
            scratch: vec![0; CONNECTION_BYTES_PER_TURN].into(),
            said_full_at: None,
        })
    }

    /// What was bound, with the real ports.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &BindAddress> {
        self.listeners.addresses()
    }

    /// Readable when [`poll`](Self::poll) has news.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.poll.registry().as_fd()
    }

    /// Waits for news; true if the bell rang.
    pub(crate) fn poll(&mut self, timeout: Duration) -> io::Result<bool> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Ok(()) => {}
            // A process that stood still is told so first of all; what has come meanwhile is asked for.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.poll.poll(&mut self.events, Some(Duration::ZERO))?;
            }
            Err(error) => return Err(error),
        }
        let (mut count, mut rang, mut writable) = (0, false, Vec::new());
        for event in &self.events {
            count += 1;
            let mio::Token(number) = event.token();
            if event.token() == BELL {
                rang = true;
                continue;
            }
            if self.listeners.wake(FIRST_LISTENER.0.saturating_sub(number)) {
                continue;
            }
            let id = ConnectionId::from_number(u64::try_from(number).unwrap_or(u64::MAX));
            let Some(socket) = socket_of(&mut self.sockets, id) else { continue };
            socket.is_closing |= event.is_read_closed() || event.is_error();
            if (event.is_readable() || socket.is_closing) && !socket.is_ready {
                socket.is_ready = true;
                self.ready.push_back(id);
            }
            if event.is_writable() && self.transport.is_blocked(id) {
                writable.push(id);
            }
        }
        self.has_more_events = count == EVENTS_MAX;
        let now = Instant::now();
        for id in writable {
            self.write(now, id);
        }
        Ok(rang)
    }

    /// Whether something may be read although the poller is silent, or was to be told.
    pub(crate) fn is_awake(&self) -> bool {
        !self.ready.is_empty()
            || self.has_more_events
            || self.transport.has_events()
            || self.listeners.has_more()
    }

    /// When something is to be done, news or not.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.transport.poll_timeout().into_iter().chain(self.listeners.poll_timeout()).min()
    }

    /// Takes connections that wait.
    pub(crate) fn accept(&mut self, now: Instant) {
        for _ in 0..ACCEPTS_PER_TURN {
            if !self.listeners.is_due(now) {
                return;
            }
            if self.transport.is_full() {
                self.say_full(now, &"there are as many as broker.max_connections allows");
                return self.listeners.pause(now);
            }
            match self.listeners.accept() {
                Accepted::Connection(stream, address) => self.add(now, stream, address),
                Accepted::Nothing => return,
                Accepted::NoRoom(error) => {
                    self.say_full(now, &error);
                    return self.listeners.pause(now);
                }
            }
        }
    }

    fn say_full(&mut self, now: Instant, reason: &dyn std::fmt::Display) {
        let said = self.said_full_at.map(|at| now.saturating_duration_since(at));
        if said.is_none_or(|ago| ago >= FULL_SAID_EVERY) {
            self.said_full_at = Some(now);
            let connections = self.transport.totals().connections;
            tracing::warn!(
                connections,
                "no more connections are taken: {reason}; those that come wait in the kernel"
            );
        }
    }

    fn add(&mut self, now: Instant, mut stream: Stream, address: PeerAddress) {
        let Some(id) = self.transport.accepted(now, address) else { return };
        self.close_ended();
        let number = usize::try_from(id.number()).unwrap_or(usize::MAX);
        let tells_room = stream.may_always_tell_room();
        let interest = interest(tells_room);
        if self.poll.registry().register(&mut stream, mio::Token(number), interest).is_err() {
            self.transport.closed(id);
            return;
        }
        let slot = id.slot();
        if self.sockets.len() <= slot {
            self.sockets.resize_with(slot + 1, || None);
        }
        if let Some(place) = self.sockets.get_mut(slot) {
            let (is_ready, is_closing, left_over) = (false, false, Vec::new());
            *place = Some(Socket { id, stream, is_ready, is_closing, tells_room, left_over });
        }
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
        let sockets = &self.sockets;
        let socket = |id: ConnectionId| sockets.get(id.slot())?.as_ref().filter(|it| it.id == id);
        self.transport.handle_timeout(now, |id| socket(id).is_some_and(|it| it.is_ready));
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

/// What the poller is to tell of a connection.
fn interest(tells_room: bool) -> Interest {
    if tells_room { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
}

fn socket_of(sockets: &mut [Option<Socket>], id: ConnectionId) -> Option<&mut Socket> {
    sockets.get_mut(id.slot())?.as_mut().filter(|socket| socket.id == id)
}

/// The engine's name of a connection.
pub(crate) fn peer_id(id: ConnectionId) -> PeerId {
    PeerId::from(id.number())
}

fn connection_id(peer: &PeerId) -> ConnectionId {
    ConnectionId::from_number(peer.number())
}

#[cfg(test)]
mod tests;
