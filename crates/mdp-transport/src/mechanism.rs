//! How two peers make sure of each other.

/// A security mechanism of ZMTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Mechanism {
    /// None: neither encryption nor authentication (23/ZMTP, "The NULL Security Mechanism").
    Null,
    /// User name and password in clear text. Never accepted; known, so that it can be named.
    Plain,
    /// 26/CURVEZMQ: encryption, and authentication by keys.
    Curve,
}

impl Mechanism {
    const ALL: [Self; 3] = [Self::Null, Self::Plain, Self::Curve];

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Plain => "PLAIN",
            Self::Curve => "CURVE",
        }
    }

    /// The mechanism of a name that is padded with zeros.
    pub(crate) fn from_name(padded: &[u8]) -> Option<Self> {
        let is_it = |mechanism: &Self| {
            padded
                .strip_prefix(mechanism.name().as_bytes())
                .is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
        };
        Self::ALL.into_iter().find(is_it)
    }
}
