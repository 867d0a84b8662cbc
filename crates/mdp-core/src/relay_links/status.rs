//! What links came to, for pages and metrics.

use std::{collections::BTreeMap, sync::Arc};

use mdp_broker::LinkRole;
use mdp_catalog::NodeName;
use mdp_wire::{ClientNetworks, relay::RefusalReason};

/// The links with one other node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// The other node.
    pub node: NodeName,
    /// Whether this node can send requests to it.
    pub to: bool,
    /// Whether it can send requests to this node.
    pub from: bool,
    /// The addresses that it tells its clients by network, as it said when a link to it was made last;
    /// none for one of 0.1.0. `None`: there was no link since this process started.
    pub networks: Option<Arc<ClientNetworks>>,
}

/// Why a link ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkLoss {
    /// Its connection is gone.
    Disconnected,
    /// The other node said nothing for long.
    Silent,
    /// The origin took nothing for long.
    Stalled,
    /// Too much waited for the origin.
    Overflowed,
    /// The other node made a newer one.
    Replaced,
    /// The other node leaves, or the catalog has given it up.
    Left,
    /// The other node said something that is no message.
    Malformed,
    /// The other node refused it.
    Refused,
}

impl LinkLoss {
    /// Every reason, in the order of declaration.
    pub const ALL: [Self; 8] = [
        Self::Disconnected,
        Self::Silent,
        Self::Stalled,
        Self::Overflowed,
        Self::Replaced,
        Self::Left,
        Self::Malformed,
        Self::Refused,
    ];

    /// The value of the metric label `reason`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::Silent => "silent",
            Self::Stalled => "stalled",
            Self::Overflowed => "overflowed",
            Self::Replaced => "replaced",
            Self::Left => "left",
            Self::Malformed => "malformed",
            Self::Refused => "refused",
        }
    }

    /// Whether it is part of the usual life of a cluster.
    pub(super) const fn is_usual(self) -> bool {
        match self {
            Self::Left | Self::Replaced => true,
            Self::Disconnected
            | Self::Silent
            | Self::Stalled
            | Self::Overflowed
            | Self::Malformed
            | Self::Refused => false,
        }
    }
}

/// What links came to, since the start, and what waits in them now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelayTotals {
    /// Links that were made, by their wire version.
    pub made: BTreeMap<u16, u64>,
    /// Links that ended, by reason.
    pub lost: BTreeMap<LinkLoss, u64>,
    /// Links that this node refused to make, by the reason's label.
    pub refused: BTreeMap<&'static str, u64>,
    /// Links that other nodes refused to this one, by the reason's label.
    pub refused_here: BTreeMap<&'static str, u64>,
    /// Messages that were none.
    pub malformed: u64,
    /// Replies, and other messages, for origins that were gone before the engine knew.
    pub undelivered: u64,
    /// Messages that wait for origins that do not read.
    pub waiting_messages: usize,
    /// Their bytes with overhead.
    pub waiting_bytes: usize,
    /// Connections of links that have no encryption, now.
    pub plain_links: usize,
}

impl RelayTotals {
    pub(super) fn count_refused(&mut self, role: LinkRole, reason: RefusalReason) {
        let by_reason = match role {
            LinkRole::Owner => &mut self.refused,
            LinkRole::Origin => &mut self.refused_here,
        };
        *by_reason.entry(reason.label()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loss_is_listed_once() {
        let position = |loss| match loss {
            LinkLoss::Disconnected => 0,
            LinkLoss::Silent => 1,
            LinkLoss::Stalled => 2,
            LinkLoss::Overflowed => 3,
            LinkLoss::Replaced => 4,
            LinkLoss::Left => 5,
            LinkLoss::Malformed => 6,
            LinkLoss::Refused => 7,
        };
        assert_eq!(LinkLoss::ALL.map(position), [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
