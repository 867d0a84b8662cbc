//! The calls of other nodes: a ROUTER, and the answers that go back through it.

use std::{
    os::fd::BorrowedFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use mdp_wire::Position;

use super::{INCOMING_CALLS_MAX, configure, correlation_of};
use crate::{
    BindError, Endpoint, SocketError,
    binding::bind,
    zeromq::{Context, Frame, FrameFlow, Socket, SocketOption},
};

/// How many connections may wait to be accepted.
const BACKLOG_CONNECTIONS: i32 = 128;

/// Where the calls of other nodes arrive. Only the side that connects pings, and tells this one
/// how long it may be silent.
#[derive(Debug)]
pub(super) struct Incoming {
    socket: Socket,
    endpoint: Endpoint,
    in_progress: Arc<AtomicUsize>,
}

/// A call of another node.
#[derive(Debug)]
pub(super) struct IncomingCall {
    pub(super) caller: CallerId,
    pub(super) request: Vec<u8>,
}

/// Where the answer to a call goes.
#[derive(Debug)]
pub(super) struct CallerId {
    routing_id: Frame,
    correlation: Frame,
}

/// What was received.
#[derive(Debug)]
pub(super) enum Received {
    Nothing,
    Malformed,
    Call(IncomingCall),
}

/// A call that is being answered: it counts until it is dropped.
#[derive(Debug)]
pub(super) struct InProgress(Arc<AtomicUsize>);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Incoming {
    pub(super) fn bind(context: &Arc<Context>, endpoint: &Endpoint) -> Result<Self, BindError> {
        let socket = Socket::router(context).map_err(BindError::Socket)?;
        configure(&socket).and_then(|()| configure_router(&socket)).map_err(BindError::Socket)?;
        let endpoint = bind(&socket, "cluster.bind", endpoint)?;
        Ok(Self { socket, endpoint, in_progress: Arc::default() })
    }

    pub(super) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn descriptor(&self) -> Result<BorrowedFd<'_>, SocketError> {
        self.socket.descriptor()
    }

    pub(super) fn is_readable(&self) -> Result<bool, SocketError> {
        self.socket.is_readable()
    }

    /// Receives one message without waiting.
    pub(super) fn receive(&mut self) -> Result<Received, SocketError> {
        let mut routing_id = Frame::new();
        if self.socket.receive(&mut routing_id)? == FrameFlow::WouldWait {
            return Ok(Received::Nothing);
        }
        let mut frames = Vec::with_capacity(2);
        let mut has_more = routing_id.has_more();
        let mut is_too_long = false;
        while has_more {
            let mut frame = Frame::new();
            // libzmq hands out whole messages only: this never has to wait.
            if self.socket.receive(&mut frame)? == FrameFlow::WouldWait {
                break;
            }
            has_more = frame.has_more();
            if frames.len() < 2 {
                frames.push(frame);
            } else {
                is_too_long = true;
            }
        }
        let Ok([correlation, request]) = <[Frame; 2]>::try_from(frames) else {
            return Ok(Received::Malformed);
        };
        if is_too_long || correlation_of(&correlation).is_none() {
            return Ok(Received::Malformed);
        }
        let caller = CallerId { routing_id, correlation };
        Ok(Received::Call(IncomingCall { caller, request: request.as_ref().to_vec() }))
    }

    /// Takes one of the places for calls in progress, if one is free.
    pub(super) fn begin(&self) -> Option<InProgress> {
        let begun = InProgress(Arc::clone(&self.in_progress));
        (self.in_progress.fetch_add(1, Ordering::AcqRel) < INCOMING_CALLS_MAX).then_some(begun)
    }

    /// Sends an answer; false if its caller is gone, or reads nothing.
    pub(super) fn answer(&mut self, to: CallerId, answer: &[u8]) -> Result<bool, SocketError> {
        match self.socket.send(to.routing_id, Position::More) {
            Ok(FrameFlow::Done) => {}
            Ok(FrameFlow::WouldWait) | Err(SocketError::UNREACHABLE) => return Ok(false),
            Err(error) => return Err(error),
        }
        let correlation = self.socket.send(to.correlation, Position::More)?;
        let answer = self.socket.send_bytes(answer, Position::Last)?;
        Ok(correlation == FrameFlow::Done && answer == FrameFlow::Done)
    }
}

fn configure_router(socket: &Socket) -> Result<(), SocketError> {
    for (option, value) in
        [(SocketOption::RouterMandatory, 1), (SocketOption::Backlog, BACKLOG_CONNECTIONS)]
    {
        socket.set(option, value)?;
    }
    Ok(())
}
