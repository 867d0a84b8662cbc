//! What nodes propose, and what it changed.

use std::fmt;

use mdp_wire::ServiceName;
use thiserror::Error;

use crate::{
    Boot, Endpoints, Epoch, Incarnation, NodeId, NodeName, Seq, SoftwareVersion, VersionMisfit,
};

/// One entry of the replicated log: what should be true from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogEntry {
    /// A node begins a life; everything that its last life offered is void.
    NodeUp(NodeUp),
    /// The incarnation has at least one worker for each of these services.
    Offer {
        /// Who offers.
        incarnation: Incarnation,
        /// Rises within the incarnation.
        seq: Seq,
        /// The services.
        services: Vec<ServiceName>,
    },
    /// The incarnation has no worker left for any of these services.
    Withdraw {
        /// Who withdraws.
        incarnation: Incarnation,
        /// Rises within the incarnation.
        seq: Seq,
        /// The services.
        services: Vec<ServiceName>,
    },
    /// The incarnation leaves on purpose and offers nothing new.
    NodeDraining {
        /// Who leaves.
        incarnation: Incarnation,
        /// Rises within the incarnation.
        seq: Seq,
    },
    /// The incarnation is over; its offers are void.
    NodeGone {
        /// Whose life ended.
        incarnation: Incarnation,
    },
    /// Every member speaks this version; what it brought may be proposed from now on.
    SetClusterVersion {
        /// The version.
        version: SoftwareVersion,
    },
    /// The member with this id was removed for ever.
    Retire {
        /// Its id.
        node_id: NodeId,
    },
    /// The cluster's version must not rise above this one, or may rise again.
    Hold {
        /// The version; `None`: it may rise.
        at: Option<SoftwareVersion>,
    },
    /// Stands for what the next version brings, so that upgrades can be tested before there is one:
    /// only a build with the feature `test-next` writes or reads it.
    Mark {
        /// What is remembered.
        number: u64,
    },
}

/// The version of a cluster from which on [`CatalogEntry::Mark`] may be proposed.
pub const MARK_SINCE: SoftwareVersion = SoftwareVersion { major: 0, minor: 2, patch: 0 };

/// A node begins a life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeUp {
    /// The node's name.
    pub node: NodeName,
    /// Its identity as a member.
    pub node_id: NodeId,
    /// Which process it is, and which of its attempts: a repeated entry begins no second life.
    pub boot: Boot,
    /// The life that this one follows: [`Epoch`] zero for a node never seen (compare-and-set).
    pub expected_epoch: Epoch,
    /// Where it is reached.
    pub endpoints: Endpoints,
    /// Its version.
    pub version: SoftwareVersion,
}

impl fmt::Display for CatalogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeUp(up) => write!(f, "up {} after {}", up.node, up.expected_epoch.0),
            Self::Offer { incarnation, seq, services } => {
                write!(f, "{incarnation} #{} offers {}", seq.0, services.len())
            }
            Self::Withdraw { incarnation, seq, services } => {
                write!(f, "{incarnation} #{} withdraws {}", seq.0, services.len())
            }
            Self::NodeDraining { incarnation, .. } => write!(f, "{incarnation} drains"),
            Self::NodeGone { incarnation } => write!(f, "{incarnation} is gone"),
            Self::SetClusterVersion { version } => write!(f, "cluster version {version}"),
            Self::Retire { node_id } => write!(f, "member {node_id} removed"),
            Self::Hold { at: Some(version) } => write!(f, "hold at {version}"),
            Self::Hold { at: None } => f.write_str("no hold"),
            Self::Mark { number } => write!(f, "mark {number}"),
        }
    }
}

/// What an applied entry changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogChange {
    /// A node's new life began.
    NodeUp {
        /// The new life.
        incarnation: Incarnation,
    },
    /// The services are offered by this incarnation.
    Offered {
        /// Who offers.
        incarnation: Incarnation,
        /// The `seq` of the entry.
        seq: Seq,
        /// The services of the entry.
        services: Vec<ServiceName>,
    },
    /// The services are not offered by this incarnation any more.
    Withdrawn {
        /// Who withdrew.
        incarnation: Incarnation,
        /// The `seq` of the entry.
        seq: Seq,
        /// The services of the entry.
        services: Vec<ServiceName>,
    },
    /// The node leaves on purpose.
    NodeDraining {
        /// Who leaves.
        incarnation: Incarnation,
    },
    /// The incarnation is over and offers nothing.
    NodeGone {
        /// Whose life ended.
        incarnation: Incarnation,
    },
    /// The cluster's version rose.
    ClusterVersion {
        /// To this.
        version: SoftwareVersion,
    },
    /// A member was removed for ever, and with it the life that it had, if it had one.
    Retired {
        /// Its id.
        node_id: NodeId,
        /// The life that ended.
        ended: Option<Incarnation>,
    },
    /// The cluster's version is held at this one, or may rise again.
    Held {
        /// The version; `None`: it may rise.
        at: Option<SoftwareVersion>,
    },
    /// The next version's entry was applied.
    Marked,
}

/// Why an entry changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The entry speaks for a life that is not the node's current one.
    #[error("the incarnation is void")]
    VoidIncarnation,
    /// The entry is older than one that was applied.
    #[error("the entry's seq is not higher than the last applied")]
    StaleSeq,
    /// A draining node offers nothing new.
    #[error("the node is draining")]
    Draining,
    /// The node's epoch is not the expected one.
    #[error("the node's epoch is {actual:?}, not the expected one")]
    UnexpectedEpoch {
        /// What it is.
        actual: Epoch,
    },
    /// This very attempt of this process began a life already.
    #[error("this attempt began the life {epoch:?} already")]
    AlreadyUp {
        /// That life.
        epoch: Epoch,
    },
    /// The cluster's version never falls.
    #[error("the cluster's version is not lower already")]
    VersionNotHigher,
    /// The cluster's version is held where it is.
    #[error("the cluster's version is held at {at}")]
    VersionHeld {
        /// The version.
        at: SoftwareVersion,
    },
    /// A node that takes part would be too old for that version.
    #[error("a node runs version {version}")]
    OlderNode {
        /// Its version.
        version: SoftwareVersion,
    },
    /// The node's version can not take part in this cluster.
    #[error(transparent)]
    VersionMisfit(#[from] VersionMisfit),
    /// The cluster's version does not have such entries yet.
    #[error("the cluster's version has no such entries")]
    NotInThisVersion,
    /// The member was removed for ever.
    #[error("the member was removed")]
    RetiredMember,
}
