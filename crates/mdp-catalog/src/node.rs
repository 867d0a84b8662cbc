//! Names and lives of nodes.

use std::{fmt, str::FromStr, sync::Arc};

use thiserror::Error;

/// The longest node name: that of a DNS label (RFC 1035), because a pod's name is a node's name.
pub const NODE_NAME_BYTES_MAX: usize = 63;

/// The name of a node: letters, digits, `-`, `_` and `.`, at most [`NODE_NAME_BYTES_MAX`] bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Text that is not a node name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "node name {name:?} is not valid: use 1 to {NODE_NAME_BYTES_MAX} letters, digits, '-', '_' or '.'"
)]
pub struct NodeNameError {
    name: String,
}

impl FromStr for NodeName {
    type Err = NodeNameError;

    fn from_str(name: &str) -> Result<Self, NodeNameError> {
        let is_allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > NODE_NAME_BYTES_MAX || !name.bytes().all(is_allowed) {
            return Err(NodeNameError { name: name.to_owned() });
        }
        Ok(Self(Arc::from(name)))
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// Names one member of the cluster: a random number made with its data directory, never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One attempt of one process to begin a life: a repeated one begins no second life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Boot {
    /// Random per process.
    pub process: u64,
    /// Rises with each attempt of the process.
    pub attempt: u32,
}

/// Where a node is reached; empty: nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// By clients and workers.
    pub client: String,
    /// By other nodes, for consensus.
    pub cluster: String,
    /// By other nodes, for requests.
    pub relay: String,
}

/// A version of the program: `major.minor.patch`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SoftwareVersion {
    /// Changes that are not compatible.
    pub major: u16,
    /// Nodes of neighbouring numbers work together.
    pub minor: u16,
    /// Corrections only.
    pub patch: u16,
}

/// Text that is not a version.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is no version: write three numbers, as in 0.3.1")]
pub struct SoftwareVersionError {
    text: String,
}

impl FromStr for SoftwareVersion {
    type Err = SoftwareVersionError;

    fn from_str(text: &str) -> Result<Self, SoftwareVersionError> {
        let mut numbers = text.split('.').map(str::parse::<u16>);
        match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch)), None) => {
                Ok(Self { major, minor, patch })
            }
            _ => Err(SoftwareVersionError { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for SoftwareVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Counts the lives of nodes: the log index of the entry that began the life, never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Orders what one incarnation says; an entry whose `seq` is not higher than the last is ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// One life of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation {
    /// Which node.
    pub node: NodeName,
    /// Which of its lives.
    pub epoch: Epoch,
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node, self.epoch.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_three_numbers() {
        let version = SoftwareVersion { major: 0, minor: 3, patch: 11 };
        assert_eq!("0.3.11".parse(), Ok(version));
        assert_eq!(version.to_string(), "0.3.11");
        for bad in ["", "1", "1.2", "1.2.3.4", "1.2.x", "1.2.70000"] {
            assert!(bad.parse::<SoftwareVersion>().is_err(), "{bad}");
        }
    }

    #[test]
    fn node_names_are_dns_like() {
        assert_eq!("node-1".parse::<NodeName>().unwrap().as_str(), "node-1");
        for bad in ["", "a b", "a/b", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
    }
}
