//! The two wire versions and their header frames.

use std::fmt;

/// A version of the protocol on the wire. Peers of both versions may be mixed on one broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 7/MDP: headers `MDPC01` and `MDPW01`.
    V01,
    /// 18/MDP: headers `MDPC02` and `MDPW02`.
    V02,
}

impl Version {
    /// The header frame of the client sub-protocol.
    #[must_use]
    pub const fn client_header(self) -> &'static [u8; 6] {
        match self {
            Self::V01 => b"MDPC01",
            Self::V02 => b"MDPC02",
        }
    }

    /// The header frame of the worker sub-protocol.
    #[must_use]
    pub const fn worker_header(self) -> &'static [u8; 6] {
        match self {
            Self::V01 => b"MDPW01",
            Self::V02 => b"MDPW02",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V01 => "0.1",
            Self::V02 => "0.2",
        })
    }
}
