//! [`Connections`]: what the sockets of a port bring bytes to.

use std::{io, time::Instant};

use mdp_transport::{ConnectionId, PeerAddress, Transport};

/// What some bytes came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// How many of them were taken; the others come again.
    pub bytes: usize,
    /// How many messages they completed.
    pub messages: usize,
    /// Whether nothing more may be read before all effects of the engine were run and
    /// [`RelayLinks::poll_input`](crate::RelayLinks::poll_input) has nothing left: a link came or went.
    pub is_turn_over: bool,
}

/// What the connections of a port belong to.
pub trait Connections {
    /// What messages that leave are called.
    type Tag;

    /// The state of all connections.
    fn transport(&mut self) -> &mut Transport<Self::Tag>;

    /// Takes a new connection; `None`: there is no room for it.
    fn accepted(&mut self, now: Instant, address: PeerAddress) -> Option<ConnectionId> {
        self.transport().accepted(now, address)
    }

    /// Takes the end of a connection that can not be made, or is broken.
    fn failed(&mut self, id: ConnectionId, _error: io::ErrorKind) {
        self.transport().closed(id);
    }

    /// Takes bytes of a connection: at most `messages_max` messages.
    fn received(
        &mut self,
        now: Instant,
        id: ConnectionId,
        input: &[u8],
        messages_max: usize,
    ) -> Received;
}
