//! [`CurveError`]: what is wrong with a peer's CURVE.

use thiserror::Error;

/// Why CURVE can not go on with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CurveError {
    /// A command of the handshake has not the form that 26/CURVEZMQ gives it, or is not the one that
    /// comes next.
    #[error("a command of the CURVE handshake is malformed, or comes out of order")]
    Command,
    /// The box of a HELLO does not open: the peer knows another server key, or the HELLO was altered.
    #[error("the HELLO is not for a key of this server: the peer knows another server key")]
    ServerKey,
    /// A public key is one of the few with which nothing secret can be agreed on (RFC 7748, 6.1).
    #[error(
        "a public key of the peer is one of small order: nothing secret can be agreed on with it"
    )]
    WeakKey,
    /// The cookie of an INITIATE was not given to this connection, or is too old, or was altered.
    #[error("the INITIATE has no valid cookie of this connection")]
    Cookie,
    /// The box of an INITIATE does not open.
    #[error("the INITIATE can not be decrypted")]
    Initiate,
    /// The peer does not show that it owns the public key that it names.
    #[error("the INITIATE does not prove that the peer owns the key that it names")]
    Vouch,
    /// The box of a WELCOME does not open: it is not from the server with the key that is known.
    #[error("the WELCOME is not from the server whose key is known")]
    Welcome,
    /// The box of a READY does not open.
    #[error("the READY can not be decrypted")]
    Ready,
    /// A frame is no MESSAGE command: it is not encrypted.
    #[error("a frame is not encrypted")]
    NotEncrypted,
    /// The box of a MESSAGE does not open.
    #[error("a frame can not be decrypted, or was altered")]
    Message,
    /// A frame was repeated, left out, or moved.
    #[error("a frame was repeated, left out or moved: its number is not the next one")]
    Nonce,
    /// This side has sent as many frames as it has numbers for.
    #[error("all numbers for frames of this connection are used")]
    NoncesExhausted,
}

impl CurveError {
    /// A word for metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Command => "curve_command",
            Self::ServerKey => "curve_server_key",
            Self::WeakKey => "curve_weak_key",
            Self::Cookie => "curve_cookie",
            Self::Initiate => "curve_initiate",
            Self::Vouch => "curve_vouch",
            Self::Welcome => "curve_welcome",
            Self::Ready => "curve_ready",
            Self::NotEncrypted => "curve_not_encrypted",
            Self::Message => "curve_message",
            Self::Nonce => "curve_nonce",
            Self::NoncesExhausted => "curve_nonces_exhausted",
        }
    }
}
