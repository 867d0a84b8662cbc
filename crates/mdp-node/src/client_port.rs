//! The port that clients and workers connect to: sockets around a [`Transport`]. It moves bytes and
//! decides nothing.

mod listener;

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    net::Shutdown,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    time::{Duration, Instant},
};

use mdp_broker::{Outgoing, PeerId};
use mdp_transport::{
    ConnectionId, ConnectionLimits, ConnectionStatus, Flow, Message, MessageWriter, PeerAddress,
    SharedFrame, Transport, TransportEvent, TransportLimits, TransportTotals,
};
use mdp_wire::{DecodeLimits, Token, worker::FromBroker};
use mio::{Events, Interest, net::TcpStream, unix::SourceFd};

use self::listener::{Accepted, Listener};
use crate::{BindError, Endpoint};

/// How many bytes of one connection are read in a turn.
const CONNECTION_BYTES_PER_TURN: usize = 64 * 1024;
/// How many bytes are read at once while no large message comes: what is read and left over when a turn
/// ends is kept by the connection.
const READ_BYTES: usize = 16 * 1024;
/// How many messages and bytes of all connections are read before other things get their turn. All that
/// are ready share the messages.
const MESSAGES_PER_TURN: usize = 128;
const BYTES_PER_TURN: usize = 1 << 20;
/// How many connections are taken in a turn.
const ACCEPTS_PER_TURN: usize = 64;
/// How much may wait for one peer before it is tried to be written, within a turn.
const WRITE_AT_ONCE_BYTES: usize = 256 * 1024;
/// How often it is said that there is no room for another connection.
const FULL_SAID_EVERY: Duration = Duration::from_secs(10);
/// How many events the poller tells at once.
const EVENTS_MAX: usize = 1_024;

const LISTENER: mio::Token = mio::Token(usize::MAX);
const BELL: mio::Token = mio::Token(usize::MAX - 1);

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
    listener: Listener,
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
    stream: TcpStream,
    /// Whether it is in the ready list.
    is_ready: bool,
    /// Whether the peer has closed its side: then it is read to the end.
    is_closing: bool,
    /// Bytes that were read when a turn was over.
    left_over: Vec<u8>,
}

impl ClientPort {
    /// A bound port. The bell is heard by [`poll`](Self::poll).
    pub(crate) fn bind(
        endpoint: &Endpoint,
        limits: TransportLimits,
        bell: BorrowedFd<'_>,
    ) -> Result<Self, BindError> {
        let mut listener = Listener::bind(endpoint)?;
        let poll = mio::Poll::new().map_err(BindError::Poller)?;
        let registry = poll.registry();
        registry
            .register(listener.source(), LISTENER, Interest::READABLE)
            .and_then(|()| {
                registry.register(&mut SourceFd(&bell.as_raw_fd()), BELL, Interest::READABLE)
            })
            .map_err(BindError::Poller)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            has_more_events: false,
            listener,
            sockets: Vec::new(),
            transport: Transport::new(Instant::now(), limits),
            ready: VecDeque::new(),
            scratch: vec![0; CONNECTION_BYTES_PER_TURN].into(),
            said_full_at: None,
        })
    }

    /// What was bound, with the real port.
    pub(crate) const fn endpoint(&self) -> &Endpoint {
        self.listener.endpoint()
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
            let id = match event.token() {
                LISTENER => {
                    self.listener.wake();
                    continue;
                }
                BELL => {
                    rang = true;
                    continue;
                }
                mio::Token(number) => {
                    ConnectionId::from_number(u64::try_from(number).unwrap_or(u64::MAX))
                }
            };
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
            || self.listener.has_more()
    }

    /// When something is to be done, news or not.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.transport.poll_timeout().into_iter().chain(self.listener.poll_timeout()).min()
    }

    /// Takes connections that wait.
    pub(crate) fn accept(&mut self, now: Instant) {
        for _ in 0..ACCEPTS_PER_TURN {
            if !self.listener.is_due(now) {
                return;
            }
            if self.transport.is_full() {
                self.say_full(now, &"there are as many as broker.max_connections allows");
                return self.listener.pause(now);
            }
            match self.listener.accept() {
                Accepted::Connection(stream, address) => self.add(now, stream, address),
                Accepted::Nothing => return,
                Accepted::NoRoom(error) => {
                    self.say_full(now, &error);
                    return self.listener.pause(now);
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

    fn add(&mut self, now: Instant, mut stream: TcpStream, address: PeerAddress) {
        let Some(id) = self.transport.accepted(now, address) else { return };
        self.close_ended();
        let number = usize::try_from(id.number()).unwrap_or(usize::MAX);
        let interest = Interest::READABLE | Interest::WRITABLE;
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
            *place = Some(Socket { id, stream, is_ready, is_closing, left_over });
        }
    }

    /// Reads what has come, each connection in its turn, and hands out the messages.
    pub(crate) fn read(&mut self, mut take: impl FnMut(Incoming)) -> ReadState {
        let (mut messages, mut bytes) = (0, 0);
        let share = MESSAGES_PER_TURN.checked_div(self.ready.len()).unwrap_or_default().max(1);
        for _ in 0..self.ready.len() {
            if messages >= MESSAGES_PER_TURN || bytes >= BYTES_PER_TURN {
                break;
            }
            let Some(id) = self.ready.pop_front() else { break };
            let (taken, state) = self.read_connection(id, share, &mut take);
            messages += taken.messages;
            bytes += taken.bytes;
            if let Some(socket) = socket_of(&mut self.sockets, id) {
                socket.is_ready = state == ReadState::MoreWaits;
                if socket.is_ready {
                    self.ready.push_back(id);
                }
            }
        }
        let is_empty = self.ready.is_empty() && !self.has_more_events;
        if is_empty { ReadState::Emptied } else { ReadState::MoreWaits }
    }

    /// Reads at most so many messages of one connection; returns what it had.
    fn read_connection(
        &mut self,
        id: ConnectionId,
        share: usize,
        take: &mut impl FnMut(Incoming),
    ) -> (Taken, ReadState) {
        let mut had = Taken::default();
        let from = peer_id(id);
        while had.bytes < CONNECTION_BYTES_PER_TURN && had.messages < share {
            let is_large = self.transport.input_bytes(id) >= READ_BYTES / 2;
            let room = if is_large { CONNECTION_BYTES_PER_TURN } else { READ_BYTES };
            let Some(socket) = socket_of(&mut self.sockets, id) else { break };
            let left_over = std::mem::take(&mut socket.left_over);
            let (input, is_last) = if left_over.is_empty() {
                match socket.read(self.scratch.get_mut(..room).unwrap_or_default()) {
                    Input::Bytes { count, is_last } => {
                        (self.scratch.get(..count).unwrap_or_default(), is_last)
                    }
                    Input::Nothing => return (had, ReadState::Emptied),
                    Input::Closed => {
                        self.transport.closed(id);
                        return (had, ReadState::Emptied);
                    }
                }
            } else {
                (left_over.as_slice(), false)
            };
            had.bytes += input.len();
            let now = Instant::now();
            let taken = self.transport.received(now, id, input, |address, message| {
                had.messages += 1;
                take(Incoming { now, from: from.clone(), address, message });
                if had.messages < share { Flow::Continue } else { Flow::Stop }
            });
            if taken < input.len() {
                socket.left_over = input.get(taken..).unwrap_or_default().to_vec();
            } else if is_last || self.transport.address(id).is_none() {
                return (had, ReadState::Emptied);
            }
        }
        (had, ReadState::MoreWaits)
    }

    /// Closes a connection on the word of a person; false if there is none with this number.
    pub(crate) fn kick(&mut self, number: u64) -> bool {
        self.transport.kick(ConnectionId::from_number(number))
    }

    /// All connections, for a person.
    pub(crate) fn connections(&self) -> impl Iterator<Item = ConnectionStatus<'_>> {
        self.transport.connections()
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
        if self.transport.output_bytes(id) > WRITE_AT_ONCE_BYTES && !self.transport.is_blocked(id) {
            self.write(now, id);
        }
    }

    /// Writes what waits, as far as the kernel takes it, and closes what ended.
    pub(crate) fn flush(&mut self, now: Instant) {
        while let Some(id) = self.transport.poll_writable() {
            self.write(now, id);
        }
        self.close_ended();
    }

    fn write(&mut self, now: Instant, id: ConnectionId) {
        loop {
            let output = self.transport.output(id);
            let Some(socket) = socket_of(&mut self.sockets, id).filter(|_| !output.is_empty())
            else {
                return;
            };
            match socket.stream.write_vectored(&output) {
                Ok(count) if count > 0 => {
                    drop(output);
                    self.transport.transmitted(now, id, count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    drop(output);
                    return self.transport.blocked(now, id);
                }
                // Nothing can be written any more, but what the peer said last may still be there: the
                // connection ends once that was read.
                Ok(_) | Err(_) => {
                    drop(output);
                    socket.is_closing = true;
                    if !std::mem::replace(&mut socket.is_ready, true) {
                        self.ready.push_back(id);
                    }
                    return self.transport.blocked(now, id);
                }
            }
        }
    }

    /// Closes the sockets of connections that ended.
    fn close_ended(&mut self) {
        while let Some(closing) = self.transport.poll_closing() {
            let place = self.sockets.get_mut(closing.id.slot());
            let socket = place.and_then(|it| it.take_if(|socket| socket.id == closing.id));
            let Some(mut socket) = socket else { continue };
            let output = closing.output();
            if output.is_empty() {
                continue;
            }
            // What has come is read first: closing a socket with something unread takes back what was
            // written. All of it is a courtesy, tried once.
            let tried = socket
                .stream
                .write_vectored(&output)
                .and_then(|_| socket.stream.shutdown(Shutdown::Write))
                .and_then(|()| socket.stream.read(&mut self.scratch));
            match tried {
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Pings the silent, ends those whose time is over.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let sockets = &self.sockets;
        let socket = |id: ConnectionId| sockets.get(id.slot())?.as_ref().filter(|it| it.id == id);
        self.transport.handle_timeout(now, |id| socket(id).is_some_and(|it| it.is_ready));
    }

    /// Says to all peers that nothing follows. They are read until they close their ends, because closing
    /// a socket with something unread takes back what was written.
    pub(crate) fn say_bye(&mut self) {
        for socket in self.sockets.iter_mut().flatten() {
            // A peer that is gone needs no farewell.
            match socket.stream.shutdown(Shutdown::Write) {
                Ok(()) | Err(_) => {}
            }
        }
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

    /// Whether nothing waits for anybody.
    pub(crate) const fn is_all_written(&self) -> bool {
        self.transport.is_all_written()
    }

    /// Sums over all connections.
    pub(crate) fn totals(&self) -> TransportTotals {
        self.transport.totals()
    }
}

/// How much a connection had.
#[derive(Clone, Copy, Default)]
struct Taken {
    messages: usize,
    bytes: usize,
}

/// What a read came to.
enum Input {
    /// So many bytes, and whether nothing more is there.
    Bytes {
        count: usize,
        is_last: bool,
    },
    Nothing,
    Closed,
}

impl Socket {
    fn read(&mut self, buffer: &mut [u8]) -> Input {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Input::Closed,
                // A short read emptied the socket, and the poller tells of what comes next. Only the
                // end of a stream that is closing is still to be seen.
                Ok(count) => {
                    let is_last = count < buffer.len() && !self.is_closing;
                    return Input::Bytes { count, is_last };
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Input::Nothing,
                Err(_) => return Input::Closed,
            }
        }
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

fn encode(message: Outgoing<SharedFrame>, writer: &mut MessageWriter<'_, Token>) {
    let encoded = match message {
        Outgoing::Client(reply) => reply.encode(writer),
        Outgoing::Worker { version, message } => message.encode(version, writer),
    };
    match encoded {
        Ok(()) => {}
    }
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
