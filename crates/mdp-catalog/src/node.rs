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

impl SoftwareVersion {
    /// This version without its corrections: what a cluster's version is, for corrections change no
    /// format.
    #[must_use]
    pub const fn minor_release(self) -> Self {
        Self { patch: 0, ..self }
    }

    /// Whether a node of this version may be a member of a cluster of that version: it has the same
    /// minor release, or the one after it. A cluster that has no version yet takes everybody.
    ///
    /// # Errors
    /// It is too old or too new.
    pub fn fits(self, cluster: Self) -> Result<(), VersionMisfit> {
        let (node, theirs) = (self.minor_release(), cluster.minor_release());
        let is_next = node.major == theirs.major && node.minor == theirs.minor.saturating_add(1)
            || node.major == theirs.major.saturating_add(1) && node.minor == 0;
        if cluster == Self::default() || node == theirs || is_next {
            return Ok(());
        }
        Err(VersionMisfit { node: self, cluster })
    }
}

/// A version that can not take part in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{}", self.text())]
pub struct VersionMisfit {
    /// That of the node.
    pub node: SoftwareVersion,
    /// That of the cluster.
    pub cluster: SoftwareVersion,
}

impl VersionMisfit {
    fn text(&self) -> String {
        let Self { node, cluster } = self;
        if node < cluster {
            return format!(
                "the cluster's version is {cluster}, which version {node} does not speak: start \
                 version {cluster} or newer"
            );
        }
        format!(
            "the cluster's version is {cluster}, and {node} is more than one minor version newer: \
             upgrade by one minor version at a time"
        )
    }
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
    fn version_fits_a_cluster_of_its_own_or_the_last_minor_release() {
        let version = |text: &str| text.parse::<SoftwareVersion>().unwrap();
        for (node, cluster) in [("0.1.4", "0.1.0"), ("0.2.0", "0.1.0"), ("1.0.3", "0.9.0")] {
            assert_eq!(version(node).fits(version(cluster)), Ok(()), "{node} in {cluster}");
        }
        assert_eq!(version("7.1.0").fits(SoftwareVersion::default()), Ok(()));
        for (node, cluster, reason) in [
            ("0.1.9", "0.2.0", "start version 0.2.0 or newer"),
            ("0.3.0", "0.1.0", "one minor version at a time"),
            ("1.1.0", "0.9.0", "one minor version at a time"),
        ] {
            let misfit = version(node).fits(version(cluster)).unwrap_err().to_string();
            assert!(misfit.contains(reason), "{misfit}");
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
