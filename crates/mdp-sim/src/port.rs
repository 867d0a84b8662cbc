//! [`Port`]: virtual sockets around a [`Transport`], as a node has real ones. It moves bytes and decides
//! nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, IoSlice},
    time::Instant,
};

use mdp_core::{Connections, Received};
use mdp_transport::{ConnectionId, PeerAddress, Transport};

use crate::{
    network::caller_socket,
    wires::{Arrival, Delivery, Side, WireId, WireKind, Wires},
};

/// What a port moves bytes by, and when.
#[derive(Debug)]
pub(crate) struct Io<'a> {
    /// By the machine's clock.
    pub(crate) now: Instant,
    /// By no machine's clock.
    pub(crate) true_now: Instant,
    pub(crate) wires: &'a mut Wires,
}

/// What is read in a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadLimits {
    /// So many messages of all connections. Those that are ready share them.
    pub(crate) messages: usize,
    /// So many of each connection that is read, however many are ready.
    pub(crate) messages_min: usize,
    /// So many bytes of one connection.
    pub(crate) bytes: usize,
}

impl ReadLimits {
    /// Of many clients and workers, as the product reads them.
    pub(crate) const OF_MANY: Self = Self { messages: 128, messages_min: 1, bytes: 64 << 10 };

    /// Of nodes, which may have the requests of many clients and the replies of many workers.
    pub(crate) const fn of_nodes(messages: usize) -> Self {
        Self { messages, messages_min: messages, bytes: 1 << 20 }
    }
}

/// The sockets of one port.
#[derive(Debug)]
pub(crate) struct Port {
    kind: WireKind,
    site: usize,
    limits: ReadLimits,
    sockets: BTreeMap<WireId, Socket>,
    wires: BTreeMap<ConnectionId, WireId>,
    /// Whether no connections are taken any more.
    is_stopped: bool,
    /// Connections of others that were not taken yet.
    waiting: VecDeque<WireId>,
    /// Connections with something to read.
    ready: VecDeque<WireId>,
    /// Connections that more can be written to than when it was tried last.
    writable: Vec<ConnectionId>,
}

#[derive(Debug)]
struct Socket {
    /// `None`: it was not taken yet.
    id: Option<ConnectionId>,
    side: Side,
    /// Whether the other machine has taken the connection.
    is_connected: bool,
    /// What came and was not read yet, in the pieces in which it came.
    unread: VecDeque<Vec<u8>>,
    /// Whether nothing follows.
    is_closed: bool,
    /// Whether it is in the ready list.
    is_ready: bool,
}

impl Socket {
    const fn new(id: Option<ConnectionId>, side: Side) -> Self {
        let is_connected = matches!(side, Side::Callee);
        let unread = VecDeque::new();
        Self { id, side, is_connected, unread, is_closed: false, is_ready: false }
    }
}

impl Port {
    /// A port of this site without connections.
    pub(crate) const fn new(kind: WireKind, site: usize, limits: ReadLimits) -> Self {
        Self {
            kind,
            site,
            limits,
            sockets: BTreeMap::new(),
            wires: BTreeMap::new(),
            is_stopped: false,
            waiting: VecDeque::new(),
            ready: VecDeque::new(),
            writable: Vec::new(),
        }
    }

    /// Something arrived; it is read in the next turn.
    pub(crate) fn put(&mut self, delivery: Delivery) {
        let Delivery { wire, side, arrival, .. } = delivery;
        if arrival == Arrival::Opened {
            self.sockets.insert(wire, Socket::new(None, side));
            if !self.is_stopped {
                self.waiting.push_back(wire);
            }
            return;
        }
        // What comes of a connection that was closed here meanwhile is for no one.
        let Some(socket) = self.sockets.get_mut(&wire) else { return };
        match arrival {
            Arrival::Opened => {}
            Arrival::Accepted | Arrival::Writable => {
                socket.is_connected = true;
                self.writable.extend(socket.id);
            }
            Arrival::Bytes(bytes) => socket.unread.push_back(bytes),
            Arrival::Closed => socket.is_closed = true,
        }
        self.look(wire);
    }

    /// Puts a connection into the ready list, if it belongs there.
    fn look(&mut self, wire: WireId) {
        let Some(socket) = self.sockets.get_mut(&wire) else { return };
        let has_unread = socket.is_closed || !socket.unread.is_empty();
        if socket.id.is_some() && has_unread && !socket.is_ready {
            socket.is_ready = true;
            self.ready.push_back(wire);
        }
    }

    /// Whether something may be read or written although nothing comes.
    pub(crate) fn is_awake(&self) -> bool {
        !self.waiting.is_empty() || !self.writable.is_empty() || self.has_more()
    }

    /// Whether any connection has something that was not read yet.
    pub(crate) fn has_more(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether this connection has something that was not read yet.
    pub(crate) fn has_unread(&self, id: ConnectionId) -> bool {
        let socket = self.wires.get(&id).and_then(|wire| self.sockets.get(wire));
        socket.is_some_and(|socket| socket.is_ready)
    }

    /// The virtual connection that this one is.
    pub(crate) fn wire_of(&self, id: ConnectionId) -> Option<WireId> {
        self.wires.get(&id).copied()
    }

    /// How many connections there are.
    pub(crate) fn connections(&self) -> usize {
        self.wires.len()
    }

    /// Takes new connections and reads what has come, each connection in its turn.
    pub(crate) fn read(&mut self, io: &mut Io<'_>, of: &mut impl Connections) {
        while let Some(wire) = self.waiting.pop_front() {
            self.take_connection(io, wire, of);
        }
        let share = self.limits.messages.checked_div(self.ready.len()).unwrap_or_default();
        let share = share.max(self.limits.messages_min);
        let mut messages = 0;
        for _ in 0..self.ready.len() {
            if messages >= self.limits.messages {
                return;
            }
            let Some(wire) = self.ready.pop_front() else { return };
            let had = self.read_connection(io, wire, share, of);
            messages += had.messages;
            if had.is_turn_over {
                return;
            }
        }
    }

    fn take_connection(&mut self, io: &mut Io<'_>, wire: WireId, of: &mut impl Connections) {
        let caller = io.wires.caller(wire).map(|site| PeerAddress::from(caller_socket(site)));
        let Some(socket) = self.sockets.get_mut(&wire) else { return };
        socket.id = caller.and_then(|address| of.accepted(io.now, address));
        match socket.id {
            Some(id) => {
                self.wires.insert(id, wire);
                self.look(wire);
            }
            None => {
                io.wires.close(io.true_now, wire, socket.side);
                self.sockets.remove(&wire);
            }
        }
    }

    /// Reads at most so many messages of one connection.
    fn read_connection(
        &mut self,
        io: &mut Io<'_>,
        wire: WireId,
        share: usize,
        of: &mut impl Connections,
    ) -> Received {
        let mut had = Received::default();
        let Some(socket) = self.sockets.get_mut(&wire) else { return had };
        let Some(id) = socket.id else { return had };
        socket.is_ready = false;
        while had.messages < share && had.bytes < self.limits.bytes && !had.is_turn_over {
            let Some(mut input) = socket.unread.pop_front() else {
                if socket.is_closed && socket.is_connected {
                    of.transport().closed(id);
                } else if socket.is_closed {
                    of.failed(id, io::ErrorKind::ConnectionRefused);
                }
                return had;
            };
            let received = of.received(io.now, id, &input, share - had.messages);
            io.wires.read(io.true_now, wire, socket.side, received.bytes);
            had.bytes += received.bytes;
            had.messages += received.messages;
            had.is_turn_over = received.is_turn_over;
            if received.bytes < input.len() {
                input.drain(..received.bytes);
                socket.unread.push_front(input);
            }
        }
        self.look(wire);
        had
    }

    /// Begins to connect to a site.
    pub(crate) fn dial(&mut self, io: &mut Io<'_>, id: ConnectionId, to: usize) -> WireId {
        let wire = io.wires.open(io.true_now, self.kind, self.site, to);
        self.wires.insert(id, wire);
        self.sockets.insert(wire, Socket::new(Some(id), Side::Caller));
        wire
    }

    /// Writes what waited for the other end to read, where it has read since.
    pub(crate) fn resume_writing<T>(&mut self, io: &mut Io<'_>, transport: &mut Transport<T>) {
        for id in std::mem::take(&mut self.writable) {
            if transport.is_blocked(id) {
                self.write(io, id, transport);
            }
        }
    }

    /// Says to all peers that nothing follows, and takes no new ones; they are still read.
    pub(crate) fn say_bye(&mut self, io: &mut Io<'_>) {
        self.is_stopped = true;
        self.waiting.clear();
        for (wire, socket) in self.sockets.iter().filter(|(_, socket)| socket.id.is_some()) {
            io.wires.finish(io.true_now, *wire, socket.side);
        }
    }

    /// Writes what waits, as much as fits, and closes what ended.
    pub(crate) fn flush<T>(&mut self, io: &mut Io<'_>, transport: &mut Transport<T>) {
        while let Some(id) = transport.poll_writable() {
            self.write(io, id, transport);
        }
        while let Some(closing) = transport.poll_closing() {
            let Some(wire) = self.wires.remove(&closing.id) else { continue };
            let Some(socket) = self.sockets.remove(&wire) else { continue };
            self.ready.retain(|other| *other != wire);
            let last_words = joined(&closing.output());
            io.wires.write(io.true_now, wire, socket.side, &last_words);
            io.wires.close(io.true_now, wire, socket.side);
        }
    }

    fn write<T>(&self, io: &mut Io<'_>, id: ConnectionId, transport: &mut Transport<T>) {
        let Some(wire) = self.wire_of(id) else { return };
        let Some(socket) = self.sockets.get(&wire) else { return };
        loop {
            let output = joined(&transport.output(id));
            if output.is_empty() {
                return;
            }
            let taken = match socket.is_connected {
                true => io.wires.write(io.true_now, wire, socket.side, &output),
                false => Some(0),
            };
            match taken {
                // A connection that is lost ends once all that came before was read.
                None | Some(0) => return transport.blocked(io.now, id),
                Some(count) => transport.transmitted(io.now, id, count),
            }
        }
    }
}

fn joined(pieces: &[IoSlice<'_>]) -> Vec<u8> {
    pieces.iter().map(|piece| &**piece).collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests;
