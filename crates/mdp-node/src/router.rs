//! The front-end socket: a ROUTER that clients and workers connect to.

use std::{net::IpAddr, os::fd::BorrowedFd, sync::Arc};

use mdp_broker::{Outgoing, PeerId};
use mdp_wire::{DecodeLimits, FrameSink, Part, Position};

use crate::{
    BindError, Endpoint, SocketError,
    binding::bind,
    zeromq::{Context, Frame, FrameFlow, IoThreads, Socket, SocketOption},
};

/// How many messages libzmq keeps for a peer that does not read, whatever their size: small, so
/// that slow readers cost little, but more than the usual window of a client that does read. What
/// does not fit waits in [`Outgoing`](crate::outgoing), which counts bytes.
const SEND_MESSAGES_MAX: i32 = 128;
/// How many messages of a peer libzmq keeps until they are read here, whatever their size. The
/// kernel's buffers, and then the peer's, hold the rest.
const RECEIVE_MESSAGES_MAX: i32 = 256;
/// How long a connection may take to introduce itself: silent ones cost a descriptor.
const HANDSHAKE_MILLISECONDS_MAX: i32 = 3_000;
/// How long what was sent may go unanswered by the peer's machine. Connections are not pinged: libzmq
/// 4.3 can abort the process when it pings a connection that it does not read (docs/decisions/0017).
/// Workers are sent heartbeats, so one whose machine is gone is noticed by this.
const TCP_UNANSWERED_MILLISECONDS_MAX: i32 = 10_000;
/// How long a connection is idle before TCP looks whether it lives, and how often, and how long.
const TCP_KEEPALIVE_IDLE_SECONDS: i32 = 30;
const TCP_KEEPALIVE_INTERVAL_SECONDS: i32 = 5;
const TCP_KEEPALIVE_COUNT: i32 = 4;
/// How many connections may wait to be accepted: after a restart, all peers come at once.
const BACKLOG_CONNECTIONS: i32 = 4_096;
/// How long unsent messages live after the socket is closed.
const LINGER_MILLISECONDS: i32 = 1_000;

/// What became of a message.
#[derive(Debug)]
pub(crate) enum SendOutcome {
    /// libzmq took it, which does not mean that it arrives.
    Sent,
    /// The peer has too much unread; here is the message back.
    Full(Outgoing<Frame>),
    /// There is no such peer any more; here is the message back.
    Gone(Outgoing<Frame>),
}

/// The size of a message beyond the limits, and where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Oversized {
    /// Frames, the routing id not counted.
    pub(crate) frames: usize,
    /// Of all frames together.
    pub(crate) bytes: usize,
    /// Where the peer connects from.
    pub(crate) address: Option<IpAddr>,
}

/// The front-end socket.
#[derive(Debug)]
pub(crate) struct Router {
    socket: Socket,
    endpoint: Endpoint,
    limits: DecodeLimits,
    /// The frame that routing ids are received into.
    id: Frame,
    /// Whether nothing was sent since the socket was read empty: sending can take the news of a
    /// message off the descriptor, so that the socket itself must be asked before a sleep.
    is_quiet: bool,
    /// The message that was received last, if it is beyond the limits.
    oversized: Option<Oversized>,
}

impl Router {
    /// A bound socket; this is the one place where it is configured.
    pub(crate) fn bind(
        context: &Arc<Context>,
        endpoint: &Endpoint,
        limits: DecodeLimits,
        io_threads: IoThreads,
    ) -> Result<Self, BindError> {
        let socket = Socket::router(context).map_err(BindError::Socket)?;
        configure(&socket, endpoint, limits)
            .and_then(|()| socket.set_io_threads(io_threads))
            .map_err(BindError::Socket)?;
        let endpoint = bind(&socket, "broker.bind", endpoint)?;
        Ok(Self { socket, endpoint, limits, id: Frame::new(), is_quiet: false, oversized: None })
    }

    /// What was bound, with the real port.
    pub(crate) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether a message can be received although the descriptor may be silent.
    pub(crate) fn is_readable(&self) -> Result<bool, SocketError> {
        if self.is_quiet { Ok(false) } else { self.socket.is_readable() }
    }

    /// Becomes readable when something may have come.
    pub(crate) fn descriptor(&self) -> Result<BorrowedFd<'_>, SocketError> {
        self.socket.descriptor()
    }

    /// Receives one message into `frames`, which must be empty, without waiting.
    ///
    /// Of a message that is beyond the limits, only so much is kept that the decoder sees which.
    pub(crate) fn receive(
        &mut self,
        frames: &mut Vec<Frame>,
    ) -> Result<Option<PeerId>, SocketError> {
        if self.socket.receive(&mut self.id)? == FrameFlow::WouldWait {
            self.is_quiet = true;
            return Ok(None);
        }
        let peer = PeerId::from(self.id.as_ref());
        let mut has_more = self.id.has_more();
        let (mut count, mut bytes) = (0_usize, 0_usize);
        while has_more {
            let mut frame = Frame::new();
            // libzmq hands out whole messages only: this never has to wait.
            if self.socket.receive(&mut frame)? == FrameFlow::WouldWait {
                break;
            }
            has_more = frame.has_more();
            let is_within = self.is_within(count, bytes);
            count = count.saturating_add(1);
            bytes = bytes.saturating_add(frame.len());
            if is_within {
                frames.push(frame);
            }
        }
        self.oversized = (!self.is_within(count, bytes)).then(|| Oversized {
            frames: count,
            bytes,
            address: frames.first().and_then(Frame::peer_address),
        });
        Ok(Some(peer))
    }

    const fn is_within(&self, frames: usize, bytes: usize) -> bool {
        frames <= self.limits.frames_max && bytes <= self.limits.message_bytes_max
    }

    /// What is said of the message that was received last, if it is beyond the limits.
    pub(crate) const fn take_oversized(&mut self) -> Option<Oversized> {
        self.oversized.take()
    }

    /// Sends a message without waiting. The routing id goes first: libzmq says with it whether the
    /// peer can take the message, before a frame of it is given away.
    pub(crate) fn send(
        &mut self,
        to: &PeerId,
        message: Outgoing<Frame>,
    ) -> Result<SendOutcome, SocketError> {
        match self.open(to)? {
            Door::Open => encode(message, &mut Wire::new(&mut self.socket))?,
            Door::Full => return Ok(SendOutcome::Full(message)),
            Door::Gone => return Ok(SendOutcome::Gone(message)),
        }
        Ok(SendOutcome::Sent)
    }

    /// Names the peer of the message that follows; nothing follows unless the answer is
    /// [`Door::Open`], and then all of it does, by [`Router::put`].
    pub(crate) fn open(&mut self, to: &PeerId) -> Result<Door, SocketError> {
        self.is_quiet = false;
        match self.socket.send_bytes(&to.bytes(), Position::More) {
            Ok(FrameFlow::Done) => Ok(Door::Open),
            Ok(FrameFlow::WouldWait) => Ok(Door::Full),
            Err(SocketError::UNREACHABLE) => Ok(Door::Gone),
            Err(error) => Err(error),
        }
    }

    /// Sends one frame of the message that [`Router::open`] began.
    pub(crate) fn put(&mut self, bytes: &[u8], position: Position) -> Result<(), SocketError> {
        Wire::new(&mut self.socket).put(Part::Bytes(bytes), position)
    }
}

/// Whether a peer can take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// It can.
    Open,
    /// It has too much unread.
    Full,
    /// It is not connected any more.
    Gone,
}

/// Encodes a message into any sink.
pub(crate) fn encode<K: FrameSink<Frame>>(
    message: Outgoing<Frame>,
    sink: &mut K,
) -> Result<(), K::Error> {
    match message {
        Outgoing::Client(reply) => reply.encode(sink),
        Outgoing::Worker { version, message } => message.encode(version, sink),
    }
}

/// Where the frames of a message go once its routing id was taken.
pub(crate) struct Wire<'a> {
    socket: &'a mut Socket,
}

impl<'a> Wire<'a> {
    /// The frames go to this socket.
    pub(crate) const fn new(socket: &'a mut Socket) -> Self {
        Self { socket }
    }
}

impl FrameSink<Frame> for Wire<'_> {
    type Error = SocketError;

    fn put(&mut self, part: Part<'_, Frame>, position: Position) -> Result<(), SocketError> {
        let flow = match part {
            Part::Bytes(bytes) => self.socket.send_bytes(bytes, position)?,
            Part::Frame(frame) => self.socket.send(frame, position)?,
        };
        match flow {
            FrameFlow::Done => Ok(()),
            // A peer that took the routing id takes the message: a torn one would be an error of
            // the socket that nothing can mend.
            FrameFlow::WouldWait => Err(SocketError::WOULD_WAIT),
        }
    }
}

fn configure(
    socket: &Socket,
    endpoint: &Endpoint,
    limits: DecodeLimits,
) -> Result<(), SocketError> {
    for (option, value) in [
        (SocketOption::RouterMandatory, 1),
        // A worker with a fixed identity that comes back after its network was cut must get in.
        (SocketOption::RouterHandover, 1),
        (SocketOption::Linger, LINGER_MILLISECONDS),
        (SocketOption::SendHighWaterMark, SEND_MESSAGES_MAX),
        (SocketOption::ReceiveHighWaterMark, RECEIVE_MESSAGES_MAX),
        (SocketOption::HandshakeInterval, HANDSHAKE_MILLISECONDS_MAX),
        (SocketOption::TcpUnanswered, TCP_UNANSWERED_MILLISECONDS_MAX),
        (SocketOption::TcpKeepalive, 1),
        (SocketOption::TcpKeepaliveIdle, TCP_KEEPALIVE_IDLE_SECONDS),
        (SocketOption::TcpKeepaliveInterval, TCP_KEEPALIVE_INTERVAL_SECONDS),
        (SocketOption::TcpKeepaliveCount, TCP_KEEPALIVE_COUNT),
        (SocketOption::Backlog, BACKLOG_CONNECTIONS),
        (SocketOption::Ipv6, i32::from(endpoint.is_ipv6())),
    ] {
        socket.set(option, value)?;
    }
    // libzmq's limit is for one frame, and it closes the connection of a longer one without a word. The
    // decoder sums the frames up; what is not far beyond its limit is received, so that it is counted
    // and logged, and the peer keeps its connection.
    let frame_bytes_max = limits.message_bytes_max.saturating_mul(2);
    socket.set_frame_bytes_max(i64::try_from(frame_bytes_max).unwrap_or(i64::MAX))
}

#[cfg(test)]
pub(crate) mod tests;
