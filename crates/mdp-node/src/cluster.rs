//! [`Cluster`]: where the broker thread takes its proposals and questions.

use std::{net::IpAddr, time::Instant};

use mdp_broker::{Broker, Input, LookupPurpose, Page, QueryId};
use mdp_catalog::{CatalogEntry, NodeName};
use mdp_raft::Stop;
use mdp_replica::{NewsState, Peers, ReadTotals};
use mdp_wire::{ClientNetworks, ServiceName};

use mdp_transport::{SharedFrame, TransportTotals};

use crate::LinkState;

/// Where the broker thread takes its proposals and questions.
///
/// Nothing here waits: an answer comes, if it comes, from [`Cluster::poll_answer`], in the order in
/// which the answering copy of the catalog changed.
pub(crate) trait Cluster {
    /// Asks to make an entry true. It may be lost.
    fn propose(&mut self, entry: CatalogEntry);
    /// Asks whether a service is offered, as of a moment after this call.
    fn lookup(&mut self, query: QueryId, service: ServiceName, purpose: LookupPurpose);
    /// Sends off the questions that were collected. To be called once in a turn, when all that there
    /// was to read was read; it costs nothing when there are none.
    fn flush(&mut self, now: Instant);
    /// Asks for a page.
    fn describe(&mut self, query: QueryId, page: Page, view: &View<'_>);
    /// Takes what came from other threads, a bounded part of it.
    fn read_news(&mut self, now: Instant) -> NewsState;
    /// The next answer or piece of news.
    fn poll_answer(&mut self) -> Option<Input<SharedFrame>>;
    /// When to call [`Cluster::handle_timeout`].
    fn poll_timeout(&self) -> Option<Instant>;
    /// Does what is due.
    fn handle_timeout(&mut self, now: Instant);
    /// The node leaves on purpose: others should lead.
    fn begin_drain(&mut self, now: Instant);
    /// The node has nothing left to do: its life may end, in the catalog too.
    fn leave(&mut self, now: Instant);
    /// Whether that is done, or was given up.
    fn has_left(&self) -> bool;
    /// Whether the cluster has another leader because this node left.
    fn leader_moved(&self) -> bool;
    /// Which other nodes there are, once after each change.
    fn take_peers(&mut self) -> Option<Peers>;
    /// Whether a service is offered, and only by nodes of which this is true.
    fn is_only_offered_by(&self, service: &ServiceName, is_one: &dyn Fn(&NodeName) -> bool)
    -> bool;
    /// Why this node can not go on, once.
    fn take_stop(&mut self) -> Option<Stop>;
    /// The index up to which the copy of the catalog that answers was applied.
    fn applied_index(&self) -> u64;
    /// What the questions came to.
    fn read_totals(&self) -> ReadTotals;
}

/// What a page can tell about this node.
#[derive(Debug)]
pub(crate) struct View<'a> {
    /// The engine.
    pub(crate) broker: &'a Broker<SharedFrame>,
    /// The connections of clients and workers.
    pub(crate) connections: TransportTotals,
    /// The links with other nodes.
    pub(crate) links: &'a [LinkState],
    /// The addresses that this node tells clients by their network.
    pub(crate) networks: &'a ClientNetworks,
    /// Where the client that asked for the page connects from, if that is an IP address.
    pub(crate) asker: Option<IpAddr>,
    /// Now.
    pub(crate) now: Instant,
}
