//! [`Wire`]: where the frames of a message between nodes go.

use mdp_transport::SharedFrame;
use mdp_wire::{FrameSink, Part, Position};

use super::{FrameFlow, Socket, SocketError};

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

impl FrameSink<SharedFrame> for Wire<'_> {
    type Error = SocketError;

    fn put(&mut self, part: Part<'_, SharedFrame>, position: Position) -> Result<(), SocketError> {
        match self.socket.send_bytes(part.as_ref(), position)? {
            FrameFlow::Done => Ok(()),
            // A peer that took the routing id takes the message: a torn one would be an error of
            // the socket that nothing can mend.
            FrameFlow::WouldWait => Err(SocketError::WOULD_WAIT),
        }
    }
}
