//! A cluster of several nodes: its [`Replica`], and the pages that are written from it.

use std::time::Instant;

use mdp_broker::{Input, LookupPurpose, Page, QueryId};
use mdp_catalog::{CatalogEntry, NodeName};
use mdp_raft::Stop;
use mdp_replica::{Agreement, NewsState, Peers, ReadTotals, Replica};
use mdp_transport::SharedFrame;
use mdp_wire::ServiceName;

use crate::{
    cluster::{Cluster, View},
    pages::{self, ClusterFacts},
};

/// The catalog of a node that has peers.
#[derive(Debug)]
pub(crate) struct ReplicatedCluster<A> {
    replica: Replica<A, SharedFrame>,
}

impl<A: Agreement> ReplicatedCluster<A> {
    pub(crate) const fn new(replica: Replica<A, SharedFrame>) -> Self {
        Self { replica }
    }
}

impl<A: Agreement> Cluster for ReplicatedCluster<A> {
    fn propose(&mut self, entry: CatalogEntry) {
        self.replica.propose(entry);
    }

    fn lookup(&mut self, query: QueryId, service: ServiceName, purpose: LookupPurpose) {
        self.replica.lookup(query, service, purpose);
    }

    fn flush(&mut self, now: Instant) {
        self.replica.flush(now);
    }

    fn describe(&mut self, query: QueryId, page: Page, view: &View<'_>) {
        let status = self.replica.status();
        let facts = ClusterFacts {
            node: self.replica.node(),
            catalog: self.replica.catalog(),
            applied_index: self.replica.applied_index(),
            status: Some(&status),
            links: view.links,
            networks: view.networks,
        };
        let json = pages::page(page, &facts, view, self.replica.started_at());
        self.replica.answer(Input::Described { query, json });
    }

    fn read_news(&mut self, now: Instant) -> NewsState {
        self.replica.read_news(now)
    }

    fn poll_answer(&mut self) -> Option<Input<SharedFrame>> {
        self.replica.poll_answer()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.replica.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.replica.handle_timeout(now);
    }

    fn begin_drain(&mut self, now: Instant) {
        self.replica.begin_drain(now);
    }

    fn leave(&mut self, now: Instant) {
        self.replica.leave(now);
    }

    fn has_left(&self) -> bool {
        self.replica.has_left()
    }

    fn leader_moved(&self) -> bool {
        self.replica.leader_moved()
    }

    fn take_peers(&mut self) -> Option<Peers> {
        self.replica.take_peers()
    }

    fn is_only_offered_by(
        &self,
        service: &ServiceName,
        is_one: &dyn Fn(&NodeName) -> bool,
    ) -> bool {
        self.replica.is_only_offered_by(service, is_one)
    }

    fn take_stop(&mut self) -> Option<Stop> {
        self.replica.take_stop()
    }

    fn applied_index(&self) -> u64 {
        self.replica.applied_index()
    }

    fn read_totals(&self) -> ReadTotals {
        self.replica.read_totals()
    }
}

#[cfg(test)]
mod tests;
