//! A cluster of one node: it agrees with itself at once.

use std::{collections::VecDeque, time::Instant};

use mdp_broker::{Input, LookupOutcome, LookupPurpose, Page, QueryId};
use mdp_catalog::{
    Boot, Catalog, CatalogEntry, Endpoints, Epoch, Incarnation, NodeId, NodeName, NodeUp, Refusal,
};
use mdp_raft::Stop;
use mdp_replica::{NewsState, Peers, ReadTotals};
use mdp_transport::SharedFrame;
use mdp_wire::ServiceName;

use crate::{
    cluster::{Cluster, View},
    pages::{self, ClusterFacts},
    version::VERSION,
};

/// The index of the entry that begins the only life of a node without peers.
const FIRST_INDEX: u64 = 1;

/// The catalog of a node without peers.
#[derive(Debug)]
pub(crate) struct LocalCluster {
    catalog: Catalog,
    incarnation: Incarnation,
    /// The number of entries applied, which stands for the log index.
    index: u64,
    answers: VecDeque<Input<SharedFrame>>,
    totals: ReadTotals,
    started_at: Instant,
}

impl LocalCluster {
    /// A catalog in which this node is up.
    pub(crate) fn new(
        node: NodeName,
        client_endpoint: String,
        now: Instant,
    ) -> Result<Self, Refusal> {
        let catalog = catalog_of(node.clone(), client_endpoint)?;
        Ok(Self {
            catalog,
            incarnation: Incarnation { node, epoch: Epoch(FIRST_INDEX) },
            index: FIRST_INDEX,
            answers: VecDeque::new(),
            totals: ReadTotals::default(),
            started_at: now,
        })
    }

    /// This life of this node.
    pub(crate) const fn incarnation(&self) -> &Incarnation {
        &self.incarnation
    }
}

/// A catalog in which only this node is, and is up.
pub(crate) fn catalog_of(node: NodeName, client_endpoint: String) -> Result<Catalog, Refusal> {
    let mut catalog = Catalog::new();
    let up = CatalogEntry::NodeUp(NodeUp {
        node,
        node_id: NodeId::default(),
        boot: Boot::default(),
        expected_epoch: Epoch::default(),
        endpoints: Endpoints { client: client_endpoint, ..Endpoints::default() },
        version: VERSION.parse().unwrap_or_default(),
    });
    catalog.apply(FIRST_INDEX, up)?;
    Ok(catalog)
}

impl Cluster for LocalCluster {
    fn propose(&mut self, entry: CatalogEntry) {
        let index = self.index.saturating_add(1);
        match self.catalog.apply(index, entry) {
            Ok(change) => {
                self.index = index;
                self.answers.push_back(Input::Committed(change));
            }
            // Harmless: a repeated or outdated word changes nothing.
            Err(refusal) => tracing::debug!(%refusal, "the catalog refused an entry"),
        }
    }

    fn lookup(&mut self, query: QueryId, service: ServiceName, _purpose: LookupPurpose) {
        let service = service.as_bytes();
        let outcome = if self.catalog.is_offered_by(&self.incarnation, service) {
            LookupOutcome::OfferedHere
        } else if self.catalog.is_offered(service) {
            LookupOutcome::OfferedElsewhere
        } else {
            LookupOutcome::NotOffered
        };
        self.totals.lookups += 1;
        self.answers.push_back(Input::LookedUp { query, outcome });
    }

    fn flush(&mut self, _now: Instant) {}

    fn describe(&mut self, query: QueryId, page: Page, view: &View<'_>) {
        let facts = ClusterFacts {
            node: &self.incarnation.node,
            catalog: &self.catalog,
            applied_index: self.index,
            status: None,
            links: view.links,
            networks: view.networks,
        };
        let json = pages::page(page, &facts, view, self.started_at);
        self.answers.push_back(Input::Described { query, json });
    }

    fn read_news(&mut self, _now: Instant) -> NewsState {
        NewsState::Emptied
    }

    fn poll_answer(&mut self) -> Option<Input<SharedFrame>> {
        self.answers.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn handle_timeout(&mut self, _now: Instant) {}

    fn begin_drain(&mut self, _now: Instant) {}

    fn leave(&mut self, _now: Instant) {}

    fn has_left(&self) -> bool {
        true
    }

    fn leader_moved(&self) -> bool {
        false
    }

    fn take_peers(&mut self) -> Option<Peers> {
        None
    }

    fn is_only_offered_by(
        &self,
        _service: &ServiceName,
        _is_one: &dyn Fn(&NodeName) -> bool,
    ) -> bool {
        false
    }

    fn take_stop(&mut self) -> Option<Stop> {
        None
    }

    fn applied_index(&self) -> u64 {
        self.index
    }

    fn read_totals(&self) -> ReadTotals {
        self.totals
    }
}

#[cfg(test)]
mod tests;
