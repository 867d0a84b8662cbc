//! The whole cluster at one moment, as nobody in it can see it.

use std::time::Instant;

use mdp_broker::{Counters, Gauges};
use mdp_catalog::{Catalog, Incarnation};
use mdp_core::RelayTotals;
use mdp_raft::RaftView;

/// The cluster at one moment.
#[derive(Debug)]
pub(crate) struct ClusterView<'a> {
    /// The true time.
    pub(crate) now: Instant,
    /// The nodes, in the order of their numbers.
    pub(crate) nodes: Vec<NodeView<'a>>,
}

/// A node at one moment.
#[derive(Debug)]
pub(crate) struct NodeView<'a> {
    /// Its name in the catalog.
    pub(crate) name: &'a str,
    /// Whether it is to be a member.
    pub(crate) is_member: bool,
    /// Whether its process runs; nothing below is known if it does not.
    pub(crate) is_up: bool,
    /// Whether its process stands still.
    pub(crate) is_paused: bool,
    /// Whether it takes part, by its own account.
    pub(crate) is_ready: bool,
    /// Its Raft.
    pub(crate) raft: Option<RaftView>,
    /// The index up to which its answering copy was applied.
    pub(crate) applied_index: u64,
    /// Its answering copy.
    pub(crate) catalog: Option<&'a Catalog>,
    /// The life of its process, as far as it knows.
    pub(crate) life: Option<&'a Incarnation>,
    /// What its engine holds.
    pub(crate) gauges: Option<Gauges>,
    /// What its engine counted.
    pub(crate) counters: Option<&'a Counters>,
    /// Its links with other nodes.
    pub(crate) relay: Option<RelayView>,
}

/// The links of a node at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct RelayView {
    /// What they came to so far, and what waits in them.
    pub(crate) totals: RelayTotals,
    /// How many its engine knows.
    pub(crate) links: usize,
    /// How many connections there are.
    pub(crate) connections: usize,
}
