//! What nodes propose, and what it changed.

use mdp_wire::ServiceName;
use thiserror::Error;

use crate::{Epoch, Incarnation, NodeName, Seq};

/// One entry of the replicated log: what should be true from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogEntry {
    /// A node begins a life; everything that its last life offered is void.
    NodeUp {
        /// The node.
        node: NodeName,
        /// The life that this one follows: [`Epoch`] zero for a node never seen (compare-and-set).
        expected_epoch: Epoch,
        /// Where clients and workers reach the node.
        client_endpoint: String,
    },
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
}
