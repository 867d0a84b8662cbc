//! Why a broker could not be reached.

use thiserror::Error;

/// Why a connection to an endpoint could not be made. The text tells what to look at.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectFailure {
    /// The host is there, and no program listens at the port, or at the path of a Unix socket.
    #[error("connection refused; is a broker running there?")]
    Refused,
    /// The name has no address.
    #[error("the name cannot be resolved: {reason}")]
    NameUnknown {
        /// What the system's resolver says.
        reason: String,
    },
    /// The name server did not answer within the time for a connection.
    #[error("the name is not resolved in time; does the name server answer?")]
    NameUnanswered,
    /// No packet came back within the time for a connection.
    #[error("no answer in time; is the host up, and does a firewall let the port pass?")]
    TimedOut,
    /// The network or the host says that it cannot be reached.
    #[error("{reason}")]
    Unreachable {
        /// What the system says.
        reason: String,
    },
    /// An HTTP server answers.
    #[error(
        "this is an administration port, or another HTTP server; clients and workers need the \
         port of `broker.bind` (5555 by default)"
    )]
    Http,
    /// Something that speaks neither ZMTP nor HTTP answers, or nothing does.
    #[error("a program listens there that is no broker: it does not speak ZMTP")]
    NotZmtp,
    /// A ZeroMQ socket answers, and the handshake did not succeed.
    #[error("a ZeroMQ socket listens there, but the handshake with it failed")]
    Handshake,
    /// The address cannot be used.
    #[error("the address cannot be used: {reason}")]
    Address {
        /// What libzmq says.
        reason: String,
    },
    /// The cause was not found out.
    #[error("no connection")]
    Unknown,
}

/// An endpoint that could not be reached, and why.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}: {failure}", .endpoint.strip_prefix("tcp://").unwrap_or(.endpoint))]
#[non_exhaustive]
pub struct UnreachableEndpoint {
    /// The endpoint.
    pub endpoint: String,
    /// Why.
    pub failure: ConnectFailure,
}

/// Several of them in one line.
pub(crate) fn in_one_line(endpoints: &[UnreachableEndpoint]) -> String {
    let texts: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    texts.join("; ")
}
