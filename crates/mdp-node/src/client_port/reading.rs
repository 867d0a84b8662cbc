//! What peers send: each connection is read in its turn, so much and no more.

use std::{
    io::{self, Read as _},
    time::Instant,
};

use mdp_transport::{ConnectionId, Flow};

use super::{ClientPort, Incoming, ReadState, Socket, peer_id, socket_of};

/// How many bytes of one connection are read in a turn.
pub(super) const CONNECTION_BYTES_PER_TURN: usize = 64 * 1024;
/// How many bytes are read at once while no large message comes: what is read and left over when a turn
/// ends is kept by the connection.
const READ_BYTES: usize = 16 * 1024;
/// How many messages and bytes of all connections are read before other things get their turn. All that
/// are ready share the messages.
const MESSAGES_PER_TURN: usize = 128;
const BYTES_PER_TURN: usize = 1 << 20;

impl ClientPort {
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
                    let is_last = count < buffer.len()
                        && !self.is_closing
                        && self.stream.is_emptied_by_a_short_read();
                    return Input::Bytes { count, is_last };
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Input::Nothing,
                Err(_) => return Input::Closed,
            }
        }
    }
}
