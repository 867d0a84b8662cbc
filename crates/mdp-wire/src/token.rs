//! The client address that a worker sees.

use std::fmt;

/// The length of a [`Token`] in bytes.
pub const TOKEN_BYTES: usize = 16;

/// One accepted request, as named to a worker in the client address frame: 16 random bytes, none
/// of them zero, because some workers keep the frame as a C string.
///
/// Only the worker that holds the token may answer it, which covers late, forged and duplicate
/// replies and envelope stacks (AM-12, AM-13). A worker treats it as opaque, as 7/MDP asks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token([u8; TOKEN_BYTES]);

impl Token {
    /// A token with these bytes, which the caller took from a cryptographic generator.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; TOKEN_BYTES]) -> Self {
        Self(bytes)
    }

    /// The token that a client address frame may hold; `None` if its length is another.
    #[must_use]
    pub fn from_frame(address: &[u8]) -> Option<Self> {
        <[u8; TOKEN_BYTES]>::try_from(address).ok().map(Self)
    }

    /// Whether a client address frame holds this token.
    #[must_use]
    pub fn matches(&self, address: &[u8]) -> bool {
        self.0 == address
    }
}

impl AsRef<[u8]> for Token {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({self})")
    }
}
