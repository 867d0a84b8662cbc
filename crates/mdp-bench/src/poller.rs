//! Many ZeroMQ sockets on one thread, at a cost that depends on those with news only.
//!
//! `zmq::poll` asks every socket, which costs more than the load itself with 1,000 workers. A
//! socket's descriptor is edge-triggered instead: it says that something may have happened. The
//! rule that makes this safe: the last operation on a socket is a receive that found nothing.
//! Whoever sends, or stops early, calls [`Poller::look_again`].

use std::{io, os::fd::RawFd, time::Duration};

use mio::{Events, Interest, Token, unix::SourceFd};
use zmq::{Context, Socket, SocketType};

use crate::{BenchError, PeerKeys};

/// A libzmq context holds 1,023 sockets, of which it uses some itself.
const SOCKETS_PER_CONTEXT_MAX: usize = 1_000;

/// How many sockets one wait can report.
const EVENTS_MAX: usize = 1_024;

/// Waits for sockets, each known by its index.
pub(crate) struct Poller {
    poll: mio::Poll,
    events: Events,
    /// Sockets that must be read whatever the descriptors say.
    again: Vec<usize>,
}

impl Poller {
    pub(crate) fn new() -> Result<Self, BenchError> {
        let poll = mio::Poll::new().map_err(BenchError::Poll)?;
        Ok(Self { poll, events: Events::with_capacity(EVENTS_MAX), again: Vec::new() })
    }

    pub(crate) fn add(&self, index: usize, socket: &Socket) -> Result<(), BenchError> {
        self.add_descriptor(index, socket.get_fd()?)
    }

    /// Anything else that becomes readable.
    pub(crate) fn add_descriptor(&self, index: usize, descriptor: RawFd) -> Result<(), BenchError> {
        let mut source = SourceFd(&descriptor);
        let registry = self.poll.registry();
        registry.register(&mut source, Token(index), Interest::READABLE).map_err(BenchError::Poll)
    }

    /// The socket will be among the next ready ones.
    pub(crate) fn look_again(&mut self, index: usize) {
        if self.again.last() != Some(&index) {
            self.again.push(index);
        }
    }

    /// Fills `ready` with the sockets to read, after at most `timeout`.
    pub(crate) fn wait(
        &mut self,
        timeout: Duration,
        ready: &mut Vec<usize>,
    ) -> Result<(), BenchError> {
        ready.clear();
        ready.append(&mut self.again);
        let timeout = if ready.is_empty() { timeout } else { Duration::ZERO };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            Err(error) => return Err(BenchError::Poll(error)),
        }
        ready.extend(self.events.iter().map(|event| event.token().0));
        Ok(())
    }
}

/// Opens DEALER sockets to one endpoint, in as many contexts as they need.
pub(crate) fn dealers(
    endpoint: &str,
    count: usize,
    keys: Option<&PeerKeys>,
) -> Result<Vec<Socket>, BenchError> {
    let mut sockets = Vec::with_capacity(count);
    let mut context = Context::new();
    for index in 0..count {
        if index > 0 && index.is_multiple_of(SOCKETS_PER_CONTEXT_MAX) {
            context = Context::new();
        }
        let socket = context.socket(SocketType::DEALER)?;
        socket.set_linger(0)?;
        // The window is the limit; a high-water mark would only hide it.
        socket.set_sndhwm(0)?;
        socket.set_rcvhwm(0)?;
        // Without this it takes no address of version 6; those of version 4 it takes as before.
        socket.set_ipv6(true)?;
        if let Some(PeerKeys { own, server }) = keys {
            socket.set_curve_serverkey(server.as_bytes())?;
            socket.set_curve_publickey(own.public().as_bytes())?;
            socket.set_curve_secretkey(own.to_z85().as_bytes())?;
        }
        socket.connect(endpoint)?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Receives all frames of one message into `frames` and returns how many there are; `None` when
/// there is no message. Frames beyond the count are left over from earlier messages.
pub(crate) fn receive(
    socket: &Socket,
    frames: &mut Vec<zmq::Message>,
) -> Result<Option<usize>, zmq::Error> {
    let mut count = 0;
    loop {
        if count == frames.len() {
            frames.push(zmq::Message::new());
        }
        let Some(frame) = frames.get_mut(count) else { return Ok(None) };
        match socket.recv(frame, zmq::DONTWAIT) {
            Ok(()) => {}
            // A multipart message arrives whole: only its first frame can be missing.
            Err(zmq::Error::EAGAIN) if count == 0 => return Ok(None),
            Err(zmq::Error::EINTR) => continue,
            Err(error) => return Err(error),
        }
        count += 1;
        if !frame.get_more() {
            return Ok(Some(count));
        }
    }
}

/// Takes a frame out and leaves an empty one behind.
pub(crate) fn take(frame: &mut zmq::Message) -> zmq::Message {
    std::mem::replace(frame, zmq::Message::new())
}

/// Sends a received frame on without copying it, and leaves an empty one behind.
pub(crate) fn forward(
    socket: &Socket,
    frame: &mut zmq::Message,
    flags: i32,
) -> Result<(), zmq::Error> {
    socket.send(take(frame), flags | zmq::DONTWAIT)
}
