//! [`Port`]: sockets around a [`Transport`]. It moves bytes and decides nothing.

mod dialling;
mod listener;
mod reading;
mod stream;
mod writing;

use std::{
    collections::VecDeque,
    io,
    time::{Duration, Instant},
};

use mdp_core::{Connections, PortName};
use mdp_transport::{ConnectionId, Transport};
use mio::{Interest, Registry, event::Event};

pub(crate) use self::{listener::ListenerSettings, reading::ConnectionShare};
use self::{
    listener::{Accepted, Listeners},
    reading::LARGE_READ_BYTES,
    stream::Stream,
};
use crate::{
    BindAddress, BindError,
    poller::{Poller, token},
};

/// How many connections are taken in a turn.
const ACCEPTS_PER_TURN: usize = 64;
/// How often it is said that there is no room for another connection.
const FULL_SAID_EVERY: Duration = Duration::from_secs(10);
/// What the poller calls the first listener; the others are below it, those of connections far below.
const FIRST_LISTENER: u64 = (1 << 62) - 1;

/// The sockets of one port.
#[derive(Debug)]
pub(crate) struct Port {
    name: PortName,
    share: ConnectionShare,
    /// What is said when no more connections are taken.
    limit: &'static str,
    registry: Registry,
    listeners: Listeners,
    /// By the slot of the connection.
    sockets: Vec<Option<Socket>>,
    /// Connections with something to read. The poller tells of news only, so what is left over must
    /// not be forgotten.
    ready: VecDeque<ConnectionId>,
    /// Connections that the kernel has room for again.
    writable: Vec<ConnectionId>,
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
    /// Whether the kernel took no more when something was written last.
    wants_room: bool,
    /// Whether the poller tells when more can be written.
    tells_room: bool,
    /// Why nothing can be written any more, if so.
    failure: Option<io::ErrorKind>,
    /// Bytes that were read when a turn was over.
    left_over: Vec<u8>,
}

impl Port {
    /// A bound port, whose sockets this poller watches.
    pub(crate) fn bind(
        (name, share): (PortName, ConnectionShare),
        settings: &ListenerSettings,
        addresses: &[BindAddress],
        poller: &Poller,
    ) -> Result<Self, BindError> {
        let mut listeners = Listeners::bind(settings, addresses)?;
        let registry = poller.registry().map_err(BindError::Poller)?;
        listeners
            .register(&registry, |index| token(name, FIRST_LISTENER - index))
            .map_err(BindError::Poller)?;
        Ok(Self {
            name,
            share,
            limit: settings.limit,
            registry,
            listeners,
            sockets: Vec::new(),
            ready: VecDeque::new(),
            writable: Vec::new(),
            scratch: vec![0; LARGE_READ_BYTES].into(),
            said_full_at: None,
        })
    }

    /// What was bound, with the real ports.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &BindAddress> {
        self.listeners.addresses()
    }

    /// The poller has news of a listener or a connection.
    pub(crate) fn wake(&mut self, number: u64, event: &Event) {
        if self.listeners.wake(FIRST_LISTENER - number.min(FIRST_LISTENER)) {
            return;
        }
        let id = ConnectionId::from_number(number);
        let Some(socket) = socket_of(&mut self.sockets, id) else { return };
        socket.is_closing |= event.is_read_closed() || event.is_error();
        if (event.is_readable() || socket.is_closing) && !socket.is_ready {
            socket.is_ready = true;
            self.ready.push_back(id);
        }
        if event.is_writable() && std::mem::replace(&mut socket.wants_room, false) {
            self.writable.push(id);
        }
    }

    /// Whether something may be read or written although the poller is silent.
    pub(crate) fn is_awake(&self) -> bool {
        !self.ready.is_empty() || !self.writable.is_empty() || self.listeners.has_more()
    }

    /// Whether a connection has something that was not read yet.
    pub(crate) fn has_unread(&self, id: ConnectionId) -> bool {
        let socket = self.sockets.get(id.slot()).and_then(Option::as_ref);
        socket.is_some_and(|socket| socket.id == id && socket.is_ready)
    }

    /// When something is to be done, news or not.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.listeners.poll_timeout()
    }

    /// Takes connections that wait.
    pub(crate) fn accept(&mut self, now: Instant, of: &mut impl Connections) {
        for _ in 0..ACCEPTS_PER_TURN {
            if !self.listeners.is_due(now) {
                return;
            }
            if of.transport().is_full() {
                let limit = self.limit;
                self.say_full(now, of.transport().totals().connections, &limit);
                return self.listeners.pause(now);
            }
            match self.listeners.accept() {
                Accepted::Connection(stream, address) => {
                    let Some(id) = of.accepted(now, address) else { continue };
                    self.add(id, stream, of.transport());
                }
                Accepted::Nothing => return,
                Accepted::NoRoom(error) => {
                    self.say_full(now, of.transport().totals().connections, &error);
                    return self.listeners.pause(now);
                }
            }
        }
    }

    fn say_full(&mut self, now: Instant, connections: usize, reason: &dyn std::fmt::Display) {
        let said = self.said_full_at.map(|at| now.saturating_duration_since(at));
        if said.is_none_or(|ago| ago >= FULL_SAID_EVERY) {
            self.said_full_at = Some(now);
            tracing::warn!(
                connections,
                "no more connections are taken: {reason}; those that come wait in the kernel"
            );
        }
    }

    /// Keeps the socket of a new connection.
    fn add<T>(&mut self, id: ConnectionId, mut stream: Stream, transport: &mut Transport<T>) {
        self.close_ended(transport);
        let tells_room = stream.may_always_tell_room();
        let (token, interest) = (token(self.name, id.number()), interest(tells_room));
        if self.registry.register(&mut stream, token, interest).is_err() {
            transport.closed(id);
            return;
        }
        let slot = id.slot();
        if self.sockets.len() <= slot {
            self.sockets.resize_with(slot + 1, || None);
        }
        if let Some(place) = self.sockets.get_mut(slot) {
            *place = Some(Socket {
                id,
                stream,
                is_ready: false,
                is_closing: false,
                wants_room: false,
                tells_room,
                failure: None,
                left_over: Vec::new(),
            });
        }
    }
}

/// What the poller is to tell of a connection.
fn interest(tells_room: bool) -> Interest {
    if tells_room { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
}

fn socket_of(sockets: &mut [Option<Socket>], id: ConnectionId) -> Option<&mut Socket> {
    sockets.get_mut(id.slot())?.as_mut().filter(|socket| socket.id == id)
}
