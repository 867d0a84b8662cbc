//! Why a broker could not be reached.

use mdp_transport::Mechanism;
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
    /// The broker does not admit the key (ERROR 400, or it ends the connection once the key is shown).
    #[error(
        "not admitted: the broker knows no identity with this key, or its time is over; make the public \
         key known to all nodes (`security.identities_dir`)"
    )]
    NotAdmitted,
    /// The broker has another key than the one that was expected, so nothing was sent to it.
    #[error(
        "wrong server key: the broker there has another one; compare it with the public key of the cluster \
         (`majordomo key show`)"
    )]
    WrongServerKey,
    /// The broker and this side have no mechanism in common.
    #[error("wrong mechanism: {}", wrong_mechanism(*.offered))]
    WrongMechanism {
        /// What this side asked for, and the broker does not speak.
        offered: Mechanism,
    },
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

impl ConnectFailure {
    /// Whether the broker is there and will say the same again, until a person changes keys or settings.
    pub(crate) const fn is_refusal(&self) -> bool {
        match self {
            Self::NotAdmitted | Self::WrongServerKey | Self::WrongMechanism { .. } => true,
            Self::Refused
            | Self::NameUnknown { .. }
            | Self::NameUnanswered
            | Self::TimedOut
            | Self::Unreachable { .. }
            | Self::Http
            | Self::NotZmtp
            | Self::Handshake
            | Self::Address { .. }
            | Self::Unknown => false,
        }
    }
}

const fn wrong_mechanism(offered: Mechanism) -> &'static str {
    match offered {
        Mechanism::Curve => {
            "the broker speaks NULL only (`security.mode` is \"off\"), and this side has keys: leave them out, \
             or let the broker have one"
        }
        Mechanism::Null | Mechanism::Plain | _ => {
            "the broker speaks CURVE only (`security.mode` is \"on\"), and this side has no keys: give a key and \
             the public key of the broker (`key` and `server_key`; --key and --server-key)"
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_mechanism_says_what_the_broker_speaks_and_what_to_do() {
        let with_keys = ConnectFailure::WrongMechanism { offered: Mechanism::Curve }.to_string();
        assert!(
            with_keys.starts_with("wrong mechanism: the broker speaks NULL only"),
            "{with_keys}"
        );
        assert!(with_keys.contains("leave them out"), "{with_keys}");
        let without = ConnectFailure::WrongMechanism { offered: Mechanism::Null }.to_string();
        assert!(without.starts_with("wrong mechanism: the broker speaks CURVE only"), "{without}");
        assert!(without.contains("--key and --server-key"), "{without}");
    }
}
