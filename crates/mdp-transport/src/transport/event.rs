//! What a [`Transport`](super::Transport) says, and what it is told at its beginning.

use std::time::{Duration, Instant};

use thiserror::Error;

use super::{ConnectionId, PeerAddress};
use crate::{ConnectionLimits, Ending, PeerIntroduction, PublicKey};

/// The limits of all connections together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportLimits {
    /// Those of each connection.
    pub connection: ConnectionLimits,
    /// How many connections there may be.
    pub connections_max: usize,
    /// How many of them may not have introduced themselves yet.
    pub strangers_max: usize,
    /// How many bytes may be allocated for messages of which a part has come, all together.
    pub incoming_bytes_max: usize,
    /// How many bytes may wait for one peer that does not read. One message may always wait.
    pub outgoing_bytes_per_peer_max: usize,
    /// The same for a peer that this side connected to.
    pub outgoing_bytes_per_dialled_max: usize,
    /// How many bytes may wait for all peers together.
    pub outgoing_bytes_max: usize,
    /// How long a peer may take nothing of what waits for it.
    pub stalled_after: Duration,
}

impl Default for TransportLimits {
    fn default() -> Self {
        Self {
            connection: ConnectionLimits::default(),
            connections_max: 65_536,
            strangers_max: 4_096,
            incoming_bytes_max: 256 << 20,
            outgoing_bytes_per_peer_max: 16 << 20,
            outgoing_bytes_per_dialled_max: 16 << 20,
            outgoing_bytes_max: 64 << 20,
            stalled_after: Duration::from_secs(10),
        }
    }
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Loss {
    /// The peer closed it, or the network did.
    #[error("the connection was closed")]
    Closed,
    /// The connection itself ended it.
    #[error("{0}")]
    Ended(Ending),
    /// Too much waited for the peer unread.
    #[error("too much waits for the peer unread")]
    Overflow,
    /// The peer took nothing for long.
    #[error("the peer reads nothing")]
    Stalled,
    /// Too much was allocated for messages of which a part had come, and most of it for this one.
    #[error("too many bytes of unfinished messages, most of them of this peer")]
    Greedy,
    /// Too many connections had not introduced themselves, and this one was the first to go: of a host that
    /// holds more than its share, or silent, or the oldest.
    #[error("too many connections have not introduced themselves")]
    Crowded,
    /// A person ended it.
    #[error("an operator closed the connection")]
    Kicked,
}

impl Loss {
    /// A word for metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Ended(ending) => ending.label(),
            Self::Overflow => "overflow",
            Self::Stalled => "stalled",
            Self::Greedy => "greedy",
            Self::Crowded => "crowded",
            Self::Kicked => "kicked",
        }
    }
}

/// What happened to a connection. Messages are not among it: they are handed out as they come.
#[derive(Debug, PartialEq, Eq)]
pub enum TransportEvent<T> {
    /// The peer introduced itself; messages may follow.
    Opened {
        /// Which.
        id: ConnectionId,
    },
    /// A peer has shown that it owns a key. It is answered by
    /// [`authenticated`](super::Transport::authenticated), at once or later.
    Authenticate {
        /// Which.
        id: ConnectionId,
        /// The key.
        key: PublicKey,
        /// Whether the peer is refused if the key has no identity now either, and not held. The answer says
        /// to which of the two questions it belongs.
        is_last: bool,
    },
    /// A peer that had introduced itself is gone.
    Lost {
        /// Which.
        id: ConnectionId,
        /// Where the peer is; `None`: it was gone before.
        address: Option<PeerAddress>,
        /// Why.
        why: Loss,
        /// The tags of messages for it of which no byte reached the kernel.
        unsent: Vec<T>,
    },
    /// A connection ended before its peer had introduced itself.
    Refused {
        /// Which.
        id: ConnectionId,
        /// Where it came from, or was to go.
        address: PeerAddress,
        /// Why.
        why: Loss,
    },
}

/// One connection, for a person.
#[derive(Clone, Debug)]
pub struct ConnectionStatus<'a> {
    /// Which.
    pub id: ConnectionId,
    /// Where it comes from.
    pub address: PeerAddress,
    /// Since when.
    pub since: Instant,
    /// What the peer said of itself; `None`: nothing yet.
    pub peer: Option<&'a PeerIntroduction>,
    /// Bytes and messages so far.
    pub traffic: Traffic,
    /// The bytes that wait for it.
    pub outgoing_bytes: usize,
}

/// How much came and left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that came, those of the handshake included.
    pub bytes_in: u64,
    /// Bytes that the kernel took.
    pub bytes_out: u64,
    /// Messages that came.
    pub messages_in: u64,
    /// Messages that were put into the queue.
    pub messages_out: u64,
}

/// Sums over all connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransportTotals {
    /// Connections now.
    pub connections: usize,
    /// Those of them that have not introduced themselves.
    pub strangers: usize,
    /// Connections that were accepted so far.
    pub accepted: u64,
    /// Bytes that are allocated for messages of which a part has come.
    pub incoming_bytes: usize,
    /// Bytes that wait for peers now.
    pub outgoing_bytes: usize,
    /// Messages that wait now, of which no byte was written.
    pub outgoing_messages: usize,
    /// Messages dropped because their peer was given up: it did not read them.
    pub dropped_messages: u64,
    /// Connections that ended before their peer had introduced itself, by reason.
    pub(super) refused: Vec<(&'static str, u64)>,
    /// Those that ended later, by reason.
    pub(super) lost: Vec<(&'static str, u64)>,
}

/// The reasons for which a connection can end before its peer has introduced itself.
const REFUSALS: [&str; 32] = [
    "admission_timeout",
    "bad_command",
    "bad_flags",
    "closed",
    "command_too_large",
    "crowded",
    "curve_command",
    "curve_cookie",
    "curve_initiate",
    "curve_nonce",
    "curve_ready",
    "curve_server_key",
    "curve_vouch",
    "curve_weak_key",
    "curve_welcome",
    "greedy",
    "handshake_timeout",
    "handshake_too_long",
    "http",
    "key_refused",
    "kicked",
    "mechanism",
    "message_before_ready",
    "message_too_large",
    "not_admitted",
    "older_zmtp",
    "peer_error",
    "proxy_line",
    "routing_id",
    "socket_type",
    "tls",
    "unknown_protocol",
];
/// The reasons for which it can end later.
const LOSSES: [&str; 17] = [
    "bad_command",
    "bad_flags",
    "closed",
    "command_too_large",
    "curve_message",
    "curve_nonce",
    "curve_nonces_exhausted",
    "curve_not_encrypted",
    "greedy",
    "kicked",
    "message_too_large",
    "overflow",
    "peer_error",
    "pong_timeout",
    "stalled",
    "too_many_frames",
    "ttl_expired",
];

impl TransportTotals {
    /// How many connections ended for this reason after their peer had introduced itself.
    #[must_use]
    pub fn lost(&self, reason: &str) -> u64 {
        count_of(&self.lost, reason)
    }

    /// Connections that ended before their peer had introduced itself: every reason, and how many.
    pub fn refused_by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REFUSALS.into_iter().map(|reason| (reason, count_of(&self.refused, reason)))
    }

    /// Connections that ended later: every reason, and how many.
    pub fn lost_by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        LOSSES.into_iter().map(|reason| (reason, count_of(&self.lost, reason)))
    }
}

fn count_of(counts: &[(&'static str, u64)], reason: &str) -> u64 {
    counts.iter().find(|(name, _)| *name == reason).map_or(0, |(_, count)| *count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CurveError, NotZmtp3, StreamError};

    /// Every reason that there is, and whether it is met before and after the handshake.
    fn reasons() -> Vec<(Loss, bool, bool)> {
        use CurveError as C;
        use Ending as E;
        let ended = Loss::Ended;
        let stream = |error| ended(E::Stream(error));
        let not_zmtp3 = |what| (ended(E::NotZmtp3(what)), true, false);
        let curve = |error| ended(E::Curve(error));
        vec![
            (Loss::Closed, true, true),
            (Loss::Overflow, false, true),
            (Loss::Stalled, false, true),
            (Loss::Crowded, true, false),
            (Loss::Greedy, true, true),
            (Loss::Kicked, true, true),
            not_zmtp3(NotZmtp3::OlderZmtp),
            not_zmtp3(NotZmtp3::Http),
            not_zmtp3(NotZmtp3::Tls),
            not_zmtp3(NotZmtp3::ProxyLine),
            not_zmtp3(NotZmtp3::Unknown),
            (ended(E::Mechanism(None)), true, false),
            (ended(E::SocketType), true, false),
            (ended(E::RoutingIdTooLong { bytes: 256 }), true, false),
            (ended(E::MessageBeforeReady), true, false),
            (ended(E::HandshakeTooLong { max: 1 }), true, false),
            (ended(E::HandshakeTimeout), true, false),
            (ended(E::BadCommand), true, true),
            (stream(StreamError::BadFlags(8)), true, true),
            (stream(StreamError::MessageTooLarge { bytes: 2, max: 1 }), true, true),
            (stream(StreamError::TooManyFrames { max: 1 }), false, true),
            (stream(StreamError::CommandTooLarge { bytes: 2, max: 1 }), true, true),
            (curve(C::Command), true, false),
            (curve(C::ServerKey), true, false),
            (curve(C::WeakKey), true, false),
            (curve(C::Cookie), true, false),
            (curve(C::Initiate), true, false),
            (curve(C::Vouch), true, false),
            (curve(C::Welcome), true, false),
            (curve(C::Ready), true, false),
            (stream(StreamError::Curve(C::Nonce)), true, true),
            (stream(StreamError::Curve(C::NotEncrypted)), false, true),
            (stream(StreamError::Curve(C::Message)), false, true),
            (curve(C::NoncesExhausted), false, true),
            (ended(E::KeyRefused), true, false),
            (ended(E::AdmissionTimeout), true, false),
            (ended(E::NotAdmitted), true, false),
            (ended(E::PeerError("no".into())), true, true),
            (ended(E::TtlExpired), false, true),
            (ended(E::PongTimeout), false, true),
            (ended(E::AlreadyEnded), false, false),
        ]
    }

    #[test]
    fn every_reason_that_is_met_is_counted_from_the_start() {
        let totals = TransportTotals::default();
        let labels = |counts: Vec<(&'static str, u64)>| -> Vec<_> {
            counts.into_iter().map(|(label, _)| label).collect()
        };
        let refused = labels(totals.refused_by_reason().collect());
        let lost = labels(totals.lost_by_reason().collect());
        for (why, is_refusal, is_loss) in reasons() {
            assert_eq!(refused.contains(&why.label()), is_refusal, "{why}");
            assert_eq!(lost.contains(&why.label()), is_loss, "{why}");
        }
        assert!(refused.is_sorted() && lost.is_sorted());
    }
}
