//! ZMTP by [`mdp_transport`] over non-blocking streams.

use std::{
    net::TcpListener,
    os::fd::RawFd,
    time::{Duration, Instant},
};

use mdp_transport::{
    BufferPool, Connection, ConnectionLimits, Event, Flow, Introduction, LocalSocket,
    MessageFrames, MessageWriter, SharedFrame, Side, SocketType,
};
use mdp_wire::{FrameSink as _, Part, Position};

use super::{
    FrameSockets,
    streams::{Input, Output, Streams, Target, unreachable},
};
use crate::{BenchError, PeerKeys};

/// How many connections are opened before their handshakes are completed: a broker keeps few that
/// have not introduced themselves.
const HANDSHAKES_MAX: usize = 128;
/// How long the handshakes of so many may take.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// From this size on, bytes are written from where they lie.
const LARGE_BYTES: usize = 1_024;
/// What comes back is what was sent: the broker's limits are the ones that count.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Connections on one thread. An idle one owns no buffer.
pub(crate) struct RawSockets {
    streams: Streams,
    connections: Vec<Option<Entry>>,
    pool: BufferPool,
    /// Connections with something to write that was not tried.
    listed: Vec<usize>,
}

struct Entry {
    connection: Connection<()>,
    is_listed: bool,
}

/// What came of what was read.
enum Reading {
    Open,
    Closed,
    /// What came is not what a broker says.
    Refused(String),
}

impl RawSockets {
    pub(crate) fn new() -> Result<Self, BenchError> {
        Ok(Self {
            streams: Streams::new()?,
            connections: Vec::new(),
            pool: BufferPool::default(),
            listed: Vec::new(),
        })
    }

    /// Waits for connections, under an index that is far from theirs.
    pub(crate) fn listen(&self, index: usize, listener: &TcpListener) -> Result<(), BenchError> {
        self.streams.watch_listener(index, listener)
    }

    /// Takes the connections that wait.
    pub(crate) fn accept(&mut self, listener: &TcpListener) -> Result<(), BenchError> {
        for index in self.streams.accept(listener)? {
            self.add(index, Side::Accepting, SocketType::Router);
        }
        Ok(())
    }

    /// Fills `ready` with what is to be read or accepted, after at most `timeout`; without one, when
    /// there is any.
    pub(crate) fn wait_for_news(
        &mut self,
        timeout: Option<Duration>,
        ready: &mut Vec<usize>,
    ) -> Result<(), BenchError> {
        self.streams.wait(timeout, ready)?;
        self.list_writable();
        Ok(())
    }

    fn add(&mut self, index: usize, side: Side, socket_type: SocketType) {
        let introduction = Introduction {
            side,
            local: LocalSocket { socket_type, routing_id: &[] },
            limits: ConnectionLimits {
                message_bytes_max: MESSAGE_BYTES_MAX,
                ..ConnectionLimits::default()
            },
        };
        let connection = Connection::new(Instant::now(), &introduction, &mut self.pool);
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, || None);
        }
        if let Some(place) = self.connections.get_mut(index) {
            *place = Some(Entry { connection, is_listed: false });
        }
        self.list(index);
    }

    /// Completes the handshakes of these connections.
    fn shake_hands(&mut self, endpoint: &str, opening: &[usize]) -> Result<(), BenchError> {
        let deadline = Instant::now() + HANDSHAKE_DEADLINE;
        let (mut ready, mut messages) = (Vec::new(), Vec::new());
        while let Some(missing) = opening.iter().find(|index| !self.is_open(**index)) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.connections.get(*missing).is_none_or(Option::is_none) {
                return Err(unreachable(endpoint, String::from("no ZMTP handshake came about")));
            }
            self.flush()?;
            self.wait(left, &mut ready)?;
            for &index in &ready {
                match self.read(index, &mut messages) {
                    Reading::Open => {}
                    Reading::Closed => {
                        let reason = String::from("the connection was closed at once");
                        return Err(unreachable(endpoint, reason));
                    }
                    Reading::Refused(reason) => return Err(unreachable(endpoint, reason)),
                }
            }
        }
        Ok(())
    }

    fn is_open(&self, index: usize) -> bool {
        matches!(self.connections.get(index), Some(Some(entry)) if entry.connection.is_open())
    }

    fn read(&mut self, index: usize, messages: &mut Vec<MessageFrames>) -> Reading {
        let Some(Some(entry)) = self.connections.get_mut(index) else { return Reading::Open };
        let input = match self.streams.read(index) {
            Input::Bytes(bytes) => bytes,
            Input::Nothing => return Reading::Open,
            Input::Closed => {
                self.close(index);
                return Reading::Closed;
            }
        };
        let taken = entry.connection.received(Instant::now(), input, &mut self.pool, |event| {
            if let Event::Message(message) = event {
                messages.push(message.frames);
            }
            Flow::Continue
        });
        match taken {
            Ok(_) => {
                // A PING is answered, a greeting too.
                if entry.connection.output_bytes() > 0 {
                    self.list(index);
                }
                Reading::Open
            }
            Err(ending) => {
                self.close(index);
                Reading::Refused(ending.to_string())
            }
        }
    }

    fn close(&mut self, index: usize) {
        self.streams.close(index);
        if let Some(place) = self.connections.get_mut(index) {
            *place = None;
        }
    }

    fn list(&mut self, index: usize) {
        if let Some(Some(entry)) = self.connections.get_mut(index)
            && !std::mem::replace(&mut entry.is_listed, true)
        {
            self.listed.push(index);
        }
    }

    fn list_writable(&mut self) {
        while let Some(index) = self.streams.poll_writable() {
            self.list(index);
        }
    }

    fn write(&mut self, index: usize) {
        let Self { streams, connections, pool, .. } = self;
        let Some(Some(entry)) = connections.get_mut(index) else { return };
        entry.is_listed = false;
        while entry.connection.output_bytes() > 0 {
            let written = streams.write(index, &entry.connection.output());
            match written {
                Output::Written(count) => {
                    entry.connection.transmitted(Instant::now(), count, pool);
                }
                Output::Blocked | Output::Closed => return,
            }
        }
    }
}

impl FrameSockets for RawSockets {
    type Frame = SharedFrame;
    type Message = MessageFrames;
    type Writer<'a> = MessageWriter<'a, ()>;

    fn connect(
        endpoint: &str,
        count: usize,
        _no_curve: Option<&PeerKeys>,
    ) -> Result<Self, BenchError> {
        let target = Target::of(endpoint)?;
        let mut sockets = Self::new()?;
        let mut opening = Vec::new();
        for opened in 1..=count {
            let index = sockets.streams.connect(endpoint, &target)?;
            sockets.add(index, Side::Dialling, SocketType::Dealer);
            opening.push(index);
            if opening.len() == HANDSHAKES_MAX || opened == count {
                sockets.shake_hands(endpoint, &opening)?;
                opening.clear();
            }
        }
        Ok(sockets)
    }

    fn watch(&self, index: usize, descriptor: RawFd) -> Result<(), BenchError> {
        self.streams.watch(index, descriptor)
    }

    fn wait(&mut self, timeout: Duration, ready: &mut Vec<usize>) -> Result<(), BenchError> {
        self.wait_for_news(Some(timeout), ready)
    }

    fn receive(
        &mut self,
        index: usize,
        messages: &mut Vec<MessageFrames>,
    ) -> Result<bool, BenchError> {
        Ok(matches!(self.read(index, messages), Reading::Open))
    }

    fn send(
        &mut self,
        index: usize,
        encode: impl FnOnce(&mut MessageWriter<'_, ()>) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        let Some(Some(entry)) = self.connections.get_mut(index) else { return Ok(()) };
        encode(&mut entry.connection.message(None, &mut self.pool))?;
        self.list(index);
        Ok(())
    }

    fn put(
        writer: &mut MessageWriter<'_, ()>,
        part: Part<'_, SharedFrame>,
        is_last: bool,
    ) -> Result<(), BenchError> {
        let position = if is_last { Position::Last } else { Position::More };
        let part = match part {
            Part::Bytes(bytes) if bytes.len() >= LARGE_BYTES => Part::Frame(bytes.into()),
            part @ (Part::Bytes(_) | Part::Frame(_)) => part,
        };
        let Ok(()) = writer.put(part, position);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BenchError> {
        let mut listed = std::mem::take(&mut self.listed);
        listed.drain(..).for_each(|index| self.write(index));
        self.listed = listed;
        Ok(())
    }

    fn linger(&mut self) -> Result<(), BenchError> {
        // What the kernel has taken leaves after the connection is closed.
        self.flush()
    }
}
