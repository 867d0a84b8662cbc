//! [`FrameSockets`]: connections that carry messages of several frames.

pub(crate) mod libzmq;
pub(crate) mod raw;
pub(crate) mod streams;

use std::{os::fd::RawFd, time::Duration};

use mdp_wire::Part;

use crate::{BenchError, PeerKeys};

/// All connections of one thread, each known by its index.
pub(crate) trait FrameSockets: Sized + Send + 'static {
    /// One frame as it came from the network.
    type Frame: AsRef<[u8]> + Send + 'static;
    /// The frames of one message.
    type Message: IntoIterator<Item = Self::Frame> + Send;
    /// Takes the frames of one message that leaves.
    type Writer<'a>;

    /// Connects to a broker, with keys if there are any.
    fn connect(endpoint: &str, count: usize, keys: Option<&PeerKeys>) -> Result<Self, BenchError>;

    fn watch(&self, index: usize, descriptor: RawFd) -> Result<(), BenchError>;

    fn wait(&mut self, timeout: Duration, ready: &mut Vec<usize>) -> Result<(), BenchError>;

    /// Appends what has come on one connection; false if that is closed.
    fn receive(
        &mut self,
        index: usize,
        messages: &mut Vec<Self::Message>,
    ) -> Result<bool, BenchError>;

    /// Puts a message into the queue of a connection.
    fn send(
        &mut self,
        index: usize,
        encode: impl FnOnce(&mut Self::Writer<'_>) -> Result<(), BenchError>,
    ) -> Result<(), BenchError>;

    /// Puts one frame of a message into its writer.
    fn put(
        writer: &mut Self::Writer<'_>,
        part: Part<'_, Self::Frame>,
        is_last: bool,
    ) -> Result<(), BenchError>;

    fn flush(&mut self) -> Result<(), BenchError>;

    fn linger(&mut self) -> Result<(), BenchError>;
}
