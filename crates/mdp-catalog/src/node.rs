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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names_are_dns_like() {
        assert_eq!("node-1".parse::<NodeName>().unwrap().as_str(), "node-1");
        for bad in ["", "a b", "a/b", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
    }
}
