//! DEALER sockets of libzmq, as users have them.

use std::{os::fd::RawFd, time::Duration};

use mdp_wire::Part;
use zmq::{DONTWAIT, Message, SNDMORE, Socket};

use super::{FrameSockets, streams::Target};
use crate::{
    BenchError, PeerKeys,
    poller::{self, Poller},
};

/// How many messages are taken from one socket before the others and the clock get their turn.
const BATCH_MAX: usize = 256;
/// How long the last messages may take to leave.
const LINGER_MS: i32 = 1_000;

/// Sockets and what waits for them.
pub(crate) struct LibzmqSockets {
    sockets: Vec<Socket>,
    poller: Poller,
}

/// A frame that libzmq owns.
pub(crate) struct ZmqFrame(Message);

impl AsRef<[u8]> for ZmqFrame {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl FrameSockets for LibzmqSockets {
    type Frame = ZmqFrame;
    type Message = Vec<ZmqFrame>;
    type Writer<'a> = &'a Socket;

    fn connect(endpoint: &str, count: usize, keys: Option<&PeerKeys>) -> Result<Self, BenchError> {
        let endpoint = Target::of(endpoint)?.endpoint_of_one(endpoint)?;
        let sockets = poller::dealers(&endpoint, count, keys)?;
        let mut poller = Poller::new()?;
        for (index, socket) in sockets.iter().enumerate() {
            poller.add(index, socket)?;
            poller.look_again(index);
        }
        Ok(Self { sockets, poller })
    }

    fn watch(&self, index: usize, descriptor: RawFd) -> Result<(), BenchError> {
        self.poller.add_descriptor(index, descriptor)
    }

    fn wait(&mut self, timeout: Duration, ready: &mut Vec<usize>) -> Result<(), BenchError> {
        self.poller.wait(timeout, ready)
    }

    fn receive(
        &mut self,
        index: usize,
        messages: &mut Vec<Vec<ZmqFrame>>,
    ) -> Result<bool, BenchError> {
        let Some(socket) = self.sockets.get(index) else { return Ok(true) };
        for _ in 0..BATCH_MAX {
            let mut frames = Vec::new();
            let Some(count) = poller::receive(socket, &mut frames)? else { return Ok(true) };
            frames.truncate(count);
            messages.push(frames.into_iter().map(ZmqFrame).collect());
        }
        self.poller.look_again(index);
        Ok(true)
    }

    fn send(
        &mut self,
        index: usize,
        encode: impl FnOnce(&mut &Socket) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        let Some(mut socket) = self.sockets.get(index) else { return Ok(()) };
        encode(&mut socket)?;
        self.poller.look_again(index);
        Ok(())
    }

    fn put(
        socket: &mut &Socket,
        part: Part<'_, ZmqFrame>,
        is_last: bool,
    ) -> Result<(), BenchError> {
        let flags = if is_last { DONTWAIT } else { DONTWAIT | SNDMORE };
        match part {
            Part::Bytes(bytes) => socket.send(bytes, flags)?,
            Part::Frame(ZmqFrame(message)) => socket.send(message, flags)?,
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BenchError> {
        Ok(())
    }

    fn linger(&mut self) -> Result<(), BenchError> {
        for socket in &self.sockets {
            socket.set_linger(LINGER_MS)?;
        }
        Ok(())
    }
}
