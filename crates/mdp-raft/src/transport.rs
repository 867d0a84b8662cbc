//! How nodes call each other, without saying by what: sockets belong to the node.

use std::{fmt, future::Future, pin::Pin, time::Duration};

use thiserror::Error;

/// A future on the heap, for traits that are used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Which connection a call takes: bulk traffic must not delay heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Votes, heartbeats, log entries, reads.
    Control,
    /// Snapshots.
    Bulk,
}

/// A call came to nothing. Whether the other side got it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CallError {
    /// No answer came in time.
    #[error("no answer in time")]
    Timeout,
    /// The name of the other node has no address.
    #[error("its name has no address")]
    NoAddress,
    /// No program listens at the address.
    #[error("connection refused")]
    Refused,
    /// There is no connection, or it was lost.
    #[error("not connected")]
    Unreachable,
    /// Too many calls wait for this peer.
    #[error("too many calls wait")]
    Busy,
}

/// Carries calls to other nodes. Calls that come from them go to
/// [`Consensus::answer`](crate::Consensus::answer).
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Sends a request to the node at this address, such as `tcp://node-2:5556`, and waits for its
    /// answer, at most so long. A name that does not resolve is tried again until then.
    fn call(
        &self,
        endpoint: &str,
        lane: Lane,
        request: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, CallError>>;

    /// The same, to the node of this name: where nodes have keys, only the one with the key of the name may be there.
    fn call_node(
        &self,
        (_name, endpoint): (&str, &str),
        lane: Lane,
        request: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, CallError>> {
        self.call(endpoint, lane, request, timeout)
    }
}
