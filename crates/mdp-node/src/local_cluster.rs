//! A cluster of one node: it agrees with itself at once.

use std::{collections::VecDeque, time::Instant};

use mdp_broker::{Broker, Counters, Gauges, Input, LookupOutcome, Page, QueryId};
use mdp_catalog::{
    Catalog, CatalogChange, CatalogEntry, Epoch, Incarnation, NodeName, NodeState, Refusal,
};
use mdp_wire::ServiceName;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{outgoing::OutgoingTotals, zeromq::Frame};

/// How many services one page of the directory names: writing it must not hold up the broker.
const DIRECTORY_SERVICES_MAX: usize = 10_000;

/// Where the broker thread takes its proposals and questions.
///
/// Nothing here waits: an answer comes, if it comes, from [`Cluster::poll_answer`], in the order in
/// which the answering copy of the catalog changed.
pub(crate) trait Cluster {
    /// Asks to make an entry true. It may be lost.
    fn propose(&mut self, entry: CatalogEntry);
    /// Asks whether a service is offered, as of a moment after this call.
    fn lookup(&mut self, query: QueryId, service: &ServiceName);
    /// Asks for a page.
    fn describe(&mut self, query: QueryId, page: Page, view: &View<'_>);
    /// The next answer or piece of news.
    fn poll_answer(&mut self) -> Option<Input<Frame>>;
}

/// What a page can tell about this node.
#[derive(Debug)]
pub(crate) struct View<'a> {
    /// The engine.
    pub(crate) broker: &'a Broker<Frame>,
    /// What waits for slow peers.
    pub(crate) outgoing: OutgoingTotals,
    /// Now.
    pub(crate) now: Instant,
}

/// The catalog of a node without peers.
#[derive(Debug)]
pub(crate) struct LocalCluster {
    catalog: Catalog,
    incarnation: Incarnation,
    /// The number of entries applied, which stands for the log index.
    index: u64,
    answers: VecDeque<Input<Frame>>,
    started_at: Instant,
}

impl LocalCluster {
    /// A catalog in which this node is up.
    pub(crate) fn new(
        node: NodeName,
        client_endpoint: String,
        now: Instant,
    ) -> Result<Self, Refusal> {
        let mut catalog = Catalog::new();
        let index = 1;
        let entry = CatalogEntry::NodeUp {
            node: node.clone(),
            expected_epoch: Epoch::default(),
            client_endpoint,
        };
        let incarnation = match catalog.apply(index, entry)? {
            CatalogChange::NodeUp { incarnation } => incarnation,
            CatalogChange::Offered { .. }
            | CatalogChange::Withdrawn { .. }
            | CatalogChange::NodeDraining { .. }
            | CatalogChange::NodeGone { .. } => Incarnation { node, epoch: Epoch(index) },
        };
        Ok(Self { catalog, incarnation, index, answers: VecDeque::new(), started_at: now })
    }

    /// This life of this node.
    pub(crate) const fn incarnation(&self) -> &Incarnation {
        &self.incarnation
    }

    fn directory(&self, view: &View<'_>) -> Value {
        let mut known: Vec<_> = view.broker.services().collect();
        known.sort_by(|a, b| a.name.cmp(&b.name));
        let local = |name: &ServiceName| {
            known.binary_search_by(|status| status.name.cmp(name)).ok().and_then(|i| known.get(i))
        };
        let services: Vec<Value> = self
            .catalog
            .services()
            .take(DIRECTORY_SERVICES_MAX)
            .map(|(name, nodes)| {
                let status = local(name);
                json!({
                    "name": name.to_string(),
                    "nodes": nodes.iter().map(NodeName::as_str).collect::<Vec<_>>(),
                    "workers": status.map_or(0, |status| status.workers),
                    "idle": status.map_or(0, |status| status.idle),
                    "queued": status.map_or(0, |status| status.queued),
                })
            })
            .collect();
        if self.catalog.services().nth(DIRECTORY_SERVICES_MAX).is_some() {
            return json!({ "services": services, "truncated": true });
        }
        json!({ "services": services })
    }

    fn endpoints(&self) -> Value {
        let endpoints: Vec<Value> = self
            .catalog
            .nodes()
            .filter(|(_, record)| record.state == NodeState::Up)
            .filter(|(_, record)| !record.client_endpoint.is_empty())
            .map(|(name, record)| {
                json!({ "node": name.as_str(), "endpoint": record.client_endpoint })
            })
            .collect();
        json!({ "endpoints": endpoints })
    }

    fn status(&self, view: &View<'_>) -> Value {
        let name = self.incarnation.node.as_str();
        let version = env!("CARGO_PKG_VERSION");
        let nodes: Vec<Value> = self
            .catalog
            .nodes()
            .map(|(name, record)| {
                json!({
                    "name": name.as_str(),
                    "raft_id": null,
                    "role": "voter",
                    "state": state_label(record.state),
                    "epoch": record.epoch.0,
                    "version": version,
                    "client_endpoint": record.client_endpoint,
                    "cluster_endpoint": null,
                    "relay_endpoint": null,
                })
            })
            .collect();
        let uptime = view.now.saturating_duration_since(self.started_at);
        json!({
            "node": name,
            "cluster_id": null,
            "cluster_version": version,
            "leader": name,
            "term": 1,
            "committed_index": self.index,
            "applied_index": self.index,
            "nodes": nodes,
            "version": version,
            "uptime_ms": u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX),
            "gauges": gauges(view.broker.gauges(), view.outgoing),
            "counters": counters(view.broker.counters(), view.outgoing),
        })
    }
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

    fn lookup(&mut self, query: QueryId, service: &ServiceName) {
        let service = service.as_bytes();
        let outcome = if self.catalog.is_offered_by(&self.incarnation, service) {
            LookupOutcome::OfferedHere
        } else if self.catalog.is_offered(service) {
            LookupOutcome::OfferedElsewhere
        } else {
            LookupOutcome::NotOffered
        };
        self.answers.push_back(Input::LookedUp { query, outcome });
    }

    fn describe(&mut self, query: QueryId, page: Page, view: &View<'_>) {
        let json = match page {
            Page::Directory => self.directory(view),
            Page::Endpoints => self.endpoints(),
            Page::Status => self.status(view),
        };
        self.answers.push_back(Input::Described { query, json: json.to_string().into_bytes() });
    }

    fn poll_answer(&mut self) -> Option<Input<Frame>> {
        self.answers.pop_front()
    }
}

const fn state_label(state: NodeState) -> &'static str {
    match state {
        NodeState::Up => "up",
        NodeState::Draining => "draining",
        NodeState::Gone => "gone",
    }
}

#[derive(Serialize)]
struct GaugesPage {
    services: usize,
    workers: usize,
    idle: usize,
    queued: usize,
    held: usize,
    queued_bytes: usize,
    outgoing_messages: usize,
    outgoing_bytes: usize,
}

fn gauges(gauges: Gauges, outgoing: OutgoingTotals) -> GaugesPage {
    GaugesPage {
        services: gauges.services,
        workers: gauges.workers,
        idle: gauges.idle_workers,
        queued: gauges.queued_requests,
        held: gauges.held_requests,
        queued_bytes: gauges.queued_bytes,
        outgoing_messages: outgoing.messages,
        outgoing_bytes: outgoing.bytes,
    }
}

#[derive(Serialize)]
struct CountersPage {
    requests: u64,
    mmi_requests: u64,
    dispatched: u64,
    replied: u64,
    partials: u64,
    redispatched: u64,
    registrations: u64,
    refused_registrations: u64,
    expired_workers: u64,
    pauses: u64,
    stalled_peers: u64,
    overflowed_peers: u64,
    /// By reason.
    dropped: Map<String, Value>,
}

fn counters(counters: &Counters, outgoing: OutgoingTotals) -> CountersPage {
    let mut dropped: Map<String, Value> = counters
        .dropped
        .iter()
        .map(|(reason, count)| (reason.label().to_owned(), Value::from(*count)))
        .collect();
    if outgoing.dropped_messages > 0 {
        dropped.insert("peer_not_reading".to_owned(), Value::from(outgoing.dropped_messages));
    }
    CountersPage {
        requests: counters.requests,
        mmi_requests: counters.mmi_requests,
        dispatched: counters.dispatched,
        replied: counters.replied,
        partials: counters.partials,
        redispatched: counters.redispatched,
        registrations: counters.registrations,
        refused_registrations: counters.refused_registrations,
        expired_workers: counters.expired_workers,
        pauses: counters.pauses,
        stalled_peers: outgoing.stalled_peers,
        overflowed_peers: outgoing.overflowed_peers,
        dropped,
    }
}

#[cfg(test)]
mod tests;
