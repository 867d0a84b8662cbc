//! [`Peers`]: how clients and workers talk to a broker. Below it are sockets and a protocol, above
//! it is the load ([`crate::clients`], [`crate::workers`]), which is the same for all of them.

pub(crate) mod mdp;
pub(crate) mod nats;

use std::{os::fd::RawFd, time::Duration};

use mdp_wire::{Body, Version};
use serde::{Deserialize, Serialize};

use crate::{BenchError, PeerKeys};

/// What clients and workers are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerKind {
    /// MDP over plain non-blocking sockets and [`mdp_transport`], which costs the machine little.
    #[default]
    Raw,
    /// MDP over sockets of libzmq, as users have them.
    Libzmq,
    /// The text protocol of NATS over plain sockets: workers are a queue group, and each client has
    /// an inbox.
    Nats,
}

impl std::fmt::Display for PeerKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Raw => "plain sockets",
            Self::Libzmq => "sockets of libzmq",
            Self::Nats => "plain sockets, protocol of NATS",
        })
    }
}

/// The connections of one thread: all clients, or all workers.
pub(crate) trait Peers: Sized + Send + 'static {
    /// Part of a message as it came from the network.
    type Frame: AsRef<[u8]> + Send + 'static;

    /// Opens this many connections; messages may be sent at once.
    /// Connects to a broker, with keys if there are any.
    fn connect(
        endpoint: &str,
        count: usize,
        version: Version,
        keys: Option<&PeerKeys>,
    ) -> Result<Self, BenchError>;

    /// Lets [`wait`](Self::wait) end when this becomes readable, too.
    fn watch(&self, index: usize, descriptor: RawFd) -> Result<(), BenchError>;

    /// Fills `ready` with the connections to read, after at most `timeout`.
    fn wait(&mut self, timeout: Duration, ready: &mut Vec<usize>) -> Result<(), BenchError>;

    /// Appends what has come on one connection to `inbox`. What is left over makes the connection
    /// ready again.
    fn receive(
        &mut self,
        index: usize,
        inbox: &mut Vec<Received<Self::Frame>>,
    ) -> Result<(), BenchError>;

    /// Puts a message into the queue of a connection, unless that is closed.
    fn send(&mut self, index: usize, message: Sent<'_, Self::Frame>) -> Result<(), BenchError>;

    /// Writes what waits, with one call for each connection.
    fn flush(&mut self) -> Result<(), BenchError>;

    /// Waits until the broker has taken what was sent, if requests would be lost otherwise.
    fn settle(&mut self) -> Result<(), BenchError>;

    /// Lets the last messages leave when the connections are closed.
    fn linger(&mut self) -> Result<(), BenchError>;
}

/// What a client or a worker sends.
#[derive(Debug)]
pub(crate) enum Sent<'a, F> {
    Request { service: &'a [u8], body: &'a [u8] },
    Ready { service: &'a [u8] },
    Reply { to: F, body: Body<F> },
    Heartbeat,
    Disconnect,
}

/// What a client or a worker gets.
#[derive(Debug)]
pub(crate) enum Received<F> {
    /// For a client; with the name of the service, if the protocol has it in replies.
    Reply { service: Option<F>, body: F },
    /// For a worker.
    Request {
        /// Where the reply goes.
        from: F,
        body: Body<F>,
    },
    /// The broker does not want this worker.
    Disconnect,
    /// Nothing of interest to a worker, and nothing that a client should get.
    Other,
    /// The connection is gone.
    Closed,
}
