//! [`Identity`]: a name with keys, grants and quotas.

use std::{fmt, str::FromStr};

use thiserror::Error;

use crate::pattern::Patterns;

/// The longest name of an identity, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// The public key of CURVE that a peer has shown to own (26/CURVEZMQ).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityKey(pub [u8; 32]);

/// The name of an identity: 1 to 63 letters, digits, `-`, `_` or `.`, of which the first is a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityName(Box<str>);

/// A text is no name of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("use 1 to 63 letters, digits, '-', '_' or '.', beginning with a letter or digit")]
pub struct IdentityNameError;

impl IdentityName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdentityName {
    type Err = IdentityNameError;

    fn from_str(text: &str) -> Result<Self, IdentityNameError> {
        let begins = text.starts_with(|first: char| first.is_ascii_alphanumeric());
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if begins && text.len() <= NAME_BYTES_MAX && text.bytes().all(is_allowed) {
            Ok(Self(text.into()))
        } else {
            Err(IdentityNameError)
        }
    }
}

impl fmt::Display for IdentityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an identity may do. The default is nothing but what any peer that is let in may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Which services it may call.
    pub call: Patterns,
    /// Of which services it may be a worker.
    pub register: Patterns,
    /// Whether it may ask `mmi.directory`, which shows it what it may call or register.
    pub directory: bool,
    /// Whether `mmi.status` tells it everything.
    pub full_status: bool,
}

/// How much an identity may use, all its connections to a node together; `None`: as much as anyone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Requests without a reply.
    pub max_in_flight: Option<u64>,
    /// Requests a second.
    pub max_requests_per_second: Option<u64>,
    /// Bytes of requests that wait.
    pub max_queued_bytes: Option<u64>,
    /// Registered workers.
    pub max_workers: Option<u64>,
    /// Connections.
    pub max_connections: Option<u64>,
}

/// A name with keys, grants and quotas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub name: IdentityName,
    /// Its keys: one, and two while one is rotated. Without any nothing can be done in its name.
    pub keys: Vec<IdentityKey>,
    /// What it may do.
    pub grants: Grants,
    /// How much it may use.
    pub quotas: Quotas,
    /// The last second, in Unix time, in which it is let in; `None`: there is no end.
    pub not_after: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_words() {
        for right in ["a", "billing", "Billing-2_x.y", "7", &"x".repeat(63)] {
            assert_eq!(right.parse::<IdentityName>().unwrap().to_string(), right);
        }
        let long = "x".repeat(64);
        for wrong in ["", ".hidden", "-x", "_", "a b", "a/b", "a\n", "\u{e9}", &long] {
            assert_eq!(wrong.parse::<IdentityName>(), Err(IdentityNameError), "{wrong:?}");
        }
    }
}
