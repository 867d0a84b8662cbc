//! A safe and thin face of libzmq's C interface, for the sockets between nodes.
//!
//! The crate `zmq` is not enough here: it hides the message pointer, takes a message even when it
//! could not be sent, and panics on error numbers that it does not know.

mod error;
mod frame;
mod socket;

pub use error::SocketError;
pub(crate) use frame::Frame;
pub(crate) use socket::{
    Context, FrameFlow, IoThreads, Socket, SocketOption, library_has_curve, library_version,
};
