//! [`Ending`]: why a connection ended.

use thiserror::Error;

use crate::{
    COMMAND_BYTES_MAX, CurveError, Mechanism, NotZmtp3, ROUTING_ID_BYTES_MAX, StreamError,
};

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Ending {
    /// The peer does not speak ZMTP 3.
    #[error("the peer does not speak ZMTP 3: {}", not_zmtp3(*.0))]
    NotZmtp3(NotZmtp3),
    /// The peer asks for a mechanism that is not allowed here; `None`: for an unknown one.
    #[error("the peer asks for the mechanism {}, which is not allowed here", mechanism(*.0))]
    Mechanism(Option<Mechanism>),
    /// The peer's socket is no REQ, DEALER or ROUTER, or it does not say what it is.
    #[error("the peer's socket is none of REQ, DEALER, ROUTER")]
    SocketType,
    /// The routing id that the peer claims is too long.
    #[error(
        "the peer claims a routing id of {bytes} bytes; at most {ROUTING_ID_BYTES_MAX} are allowed"
    )]
    RoutingIdTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A message came before the handshake was complete.
    #[error("a message came before READY")]
    MessageBeforeReady,
    /// The handshake takes too many bytes.
    #[error("the handshake takes more than {max} bytes")]
    HandshakeTooLong {
        /// The limit.
        max: usize,
    },
    /// The handshake takes too long.
    #[error("the handshake was not complete in time")]
    HandshakeTimeout,
    /// A command does not have the form of one, or comes where it has no meaning.
    #[error("a command is malformed, or comes before READY")]
    BadCommand,
    /// The stream can not be read on.
    #[error("{0}")]
    Stream(StreamError),
    /// The peer said why it ends the connection.
    #[error("the peer ended the connection: {0}")]
    PeerError(Box<str>),
    /// CURVE can not go on.
    #[error("{0}")]
    Curve(CurveError),
    /// This side does not admit the key that the peer has shown to own, and has told it so.
    #[error("the peer's key is not admitted here")]
    KeyRefused,
    /// This side did not say in time whether it admits the peer's key. The peer is told nothing, so that it
    /// tries again.
    #[error("it was not decided in time whether the peer's key is admitted here")]
    AdmissionTimeout,
    /// The peer does not admit this side's key.
    #[error("the peer does not admit this side's key (ERROR 400)")]
    NotAdmitted,
    /// The peer said how long it may be silent at most, and was silent for longer.
    #[error("the peer was silent for longer than it promised (its PING's TTL)")]
    TtlExpired,
    /// The peer answered a PING before, and does not answer any more.
    #[error("the peer does not answer PINGs any more")]
    PongTimeout,
    /// It had ended before.
    #[error("the connection had ended before")]
    AlreadyEnded,
}

// A command that is too long is a matter of the stream.
const _: () = assert!(COMMAND_BYTES_MAX >= ROUTING_ID_BYTES_MAX + 64);

impl Ending {
    /// A word for metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::NotZmtp3(NotZmtp3::OlderZmtp) => "older_zmtp",
            Self::NotZmtp3(NotZmtp3::Http) => "http",
            Self::NotZmtp3(NotZmtp3::Tls) => "tls",
            Self::NotZmtp3(NotZmtp3::ProxyLine) => "proxy_line",
            Self::NotZmtp3(NotZmtp3::Unknown) => "unknown_protocol",
            Self::Mechanism(_) => "mechanism",
            Self::SocketType => "socket_type",
            Self::RoutingIdTooLong { .. } => "routing_id",
            Self::MessageBeforeReady => "message_before_ready",
            Self::HandshakeTooLong { .. } => "handshake_too_long",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::BadCommand => "bad_command",
            Self::Stream(StreamError::BadFlags(_)) => "bad_flags",
            Self::Stream(StreamError::MessageTooLarge { .. }) => "message_too_large",
            Self::Stream(StreamError::TooManyFrames { .. }) => "too_many_frames",
            Self::Stream(StreamError::CommandTooLarge { .. }) => "command_too_large",
            Self::Stream(StreamError::Curve(error)) | Self::Curve(error) => error.label(),
            Self::KeyRefused => "key_refused",
            Self::AdmissionTimeout => "admission_timeout",
            Self::NotAdmitted => "not_admitted",
            Self::PeerError(_) => "peer_error",
            Self::TtlExpired => "ttl_expired",
            Self::PongTimeout => "pong_timeout",
            Self::AlreadyEnded => "already_ended",
        }
    }

    /// The peer's own words, with what could disturb a log escaped.
    pub(super) fn peer_error(reason: &[u8]) -> Self {
        Self::PeerError(reason.escape_ascii().to_string().into())
    }
}

const fn not_zmtp3(what: NotZmtp3) -> &'static str {
    match what {
        NotZmtp3::OlderZmtp => "it speaks an older version (libzmq before 4.0)",
        NotZmtp3::Http => "it speaks HTTP",
        NotZmtp3::Tls => "it speaks TLS",
        NotZmtp3::ProxyLine => "a proxy sends the PROXY protocol's line",
        NotZmtp3::Unknown => "its first bytes are unknown",
    }
}

fn mechanism(mechanism: Option<Mechanism>) -> &'static str {
    mechanism.map_or("of an unknown name", Mechanism::name)
}
