//! What peers send: each connection is read in its turn, so much and no more.

use std::{
    io::{self, Read as _},
    time::Instant,
};

use mdp_core::{Connections, ReadState};
use mdp_transport::ConnectionId;

use super::{Port, Socket, socket_of};

/// How many bytes are read at once while a large message comes.
pub(super) const LARGE_READ_BYTES: usize = 64 * 1024;
/// How many bytes are read at once while no large message comes: what is read and left over when a turn
/// ends is kept by the connection.
const READ_BYTES: usize = 16 * 1024;
/// How many messages and bytes of all connections are read before other things get their turn. All that
/// are ready share the messages.
pub(super) const MESSAGES_PER_TURN: usize = 128;
pub(super) const BYTES_PER_TURN: usize = 1 << 20;

/// What one connection may have in a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionShare {
    /// At most this number of bytes.
    pub(super) bytes: usize,
    /// At least this number of messages, however many connections are ready.
    pub(super) messages_min: usize,
}

impl ConnectionShare {
    /// One of many clients and workers.
    pub(crate) const OF_MANY: Self = Self { bytes: LARGE_READ_BYTES, messages_min: 1 };
    /// Another node, which may have the requests of many clients and the replies of many workers.
    pub(crate) const OF_A_NODE: Self =
        Self { bytes: BYTES_PER_TURN, messages_min: MESSAGES_PER_TURN };
}

impl Port {
    /// Reads what has come, each connection in its turn.
    pub(crate) fn read(&mut self, of: &mut impl Connections) -> ReadState {
        let (mut messages, mut bytes) = (0, 0);
        let share = MESSAGES_PER_TURN.checked_div(self.ready.len()).unwrap_or_default();
        let share = share.max(self.share.messages_min);
        for _ in 0..self.ready.len() {
            if messages >= MESSAGES_PER_TURN || bytes >= BYTES_PER_TURN {
                break;
            }
            let Some(id) = self.ready.pop_front() else { break };
            let taken = self.read_connection(id, share, of);
            messages += taken.messages;
            bytes += taken.bytes;
            if let Some(socket) = socket_of(&mut self.sockets, id) {
                socket.is_ready = taken.state == ReadState::MoreWaits;
                if socket.is_ready {
                    self.ready.push_back(id);
                }
            }
            if taken.is_turn_over {
                return ReadState::MoreWaits;
            }
        }
        if self.ready.is_empty() { ReadState::Emptied } else { ReadState::MoreWaits }
    }

    /// Reads at most `share` messages of one connection.
    fn read_connection(
        &mut self,
        id: ConnectionId,
        share: usize,
        of: &mut impl Connections,
    ) -> Taken {
        let mut had =
            Taken { messages: 0, bytes: 0, state: ReadState::Emptied, is_turn_over: false };
        while had.bytes < self.share.bytes && had.messages < share && !had.is_turn_over {
            let is_large = of.transport().input_bytes(id) >= READ_BYTES / 2;
            let room = if is_large { LARGE_READ_BYTES } else { READ_BYTES };
            let Some(socket) = socket_of(&mut self.sockets, id) else { return had };
            let left_over = std::mem::take(&mut socket.left_over);
            let (input, is_last) = if left_over.is_empty() {
                match socket.read(self.scratch.get_mut(..room).unwrap_or_default()) {
                    Input::Bytes { count, is_last } => {
                        (self.scratch.get(..count).unwrap_or_default(), is_last)
                    }
                    Input::Nothing => return had,
                    Input::Closed(None) => {
                        of.transport().closed(id);
                        return had;
                    }
                    Input::Closed(Some(error)) => {
                        of.failed(id, error);
                        return had;
                    }
                }
            } else {
                (left_over.as_slice(), false)
            };
            had.bytes += input.len();
            let received = of.received(Instant::now(), id, input, share - had.messages);
            had.messages += received.messages;
            had.is_turn_over = received.is_turn_over;
            if received.bytes < input.len() {
                socket.left_over = input.get(received.bytes..).unwrap_or_default().to_vec();
            } else if is_last || of.transport().address(id).is_none() {
                return had;
            }
        }
        had.state = ReadState::MoreWaits;
        had
    }
}

/// What a connection had.
#[derive(Clone, Copy)]
struct Taken {
    messages: usize,
    bytes: usize,
    state: ReadState,
    is_turn_over: bool,
}

/// What a read came to.
enum Input {
    /// How many bytes, and whether nothing more is there.
    Bytes {
        count: usize,
        is_last: bool,
    },
    Nothing,
    /// Nothing follows, because of an error if so.
    Closed(Option<io::ErrorKind>),
}

impl Socket {
    fn read(&mut self, buffer: &mut [u8]) -> Input {
        loop {
            match self.stream.read(buffer) {
                // The error is told once: a write may have had it.
                Ok(0) => return Input::Closed(self.failure),
                // A short read emptied the socket, and the poller tells of what comes next. Only the
                // end of a stream that is closing is still to be seen.
                Ok(count) => {
                    let is_last = count < buffer.len()
                        && !self.is_closing
                        && self.stream.is_emptied_by_a_short_read();
                    return Input::Bytes { count, is_last };
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Input::Nothing,
                Err(error) => return Input::Closed(Some(error.kind())),
            }
        }
    }
}
