//! [`NodeView`]: what other threads can see of a running node, for pages, probes and metrics.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mdp_broker::{Counters, Gauges, ServiceStatus};
use mdp_catalog::{Catalog, NodeName};
use mdp_raft::Consensus;
use mdp_replica::ReadTotals;
use mdp_transport::TransportTotals;
use mdp_wire::ClientNetworks;
use thiserror::Error;
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
};

use crate::{
    ConnectionReport, Drainer, LinkState, LinkTotals, RelayTotals, WorkerReport,
    bell::Ringer,
    cluster_link::LinkCounters,
    inbox::{Message, Postbox},
};

/// How many services one report names: collecting them must not hold up the broker.
pub const REPORT_SERVICES_MAX: usize = 20_000;
/// How many services with waiting requests every report names.
pub const REPORT_WAITING_MAX: usize = 20;
/// How many workers one report names.
pub const REPORT_WORKERS_MAX: usize = 20_000;
/// How many connections one report names.
pub const REPORT_CONNECTIONS_MAX: usize = 20_000;

/// How much a report tells: what is not asked for costs the broker thread nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportScope {
    /// Sums and counters.
    Totals,
    /// Also each service of this node.
    Services,
    /// Also each worker of this node.
    Workers,
    /// Also each connection of a client or worker.
    Connections,
}

/// What the broker thread says of itself.
#[derive(Clone, Debug)]
pub struct NodeReport {
    /// What the engine holds now.
    pub gauges: Gauges,
    /// How many bytes its requests may have.
    pub queued_bytes_max: usize,
    /// What the engine counted since the start.
    pub counters: Counters,
    /// The connections of clients and workers.
    pub connections: TransportTotals,
    /// What the questions to the cluster came to.
    pub reads: ReadTotals,
    /// The links with other nodes; `None`: the node is alone.
    pub relay: Option<RelayReport>,
    /// The index up to which the copy of the catalog that answers was applied.
    pub applied_index: u64,
    /// The catalog of a node without peers, if the services were asked for. That of others is asked of
    /// consensus.
    pub catalog: Option<Box<Catalog>>,
    /// How long the node has been running.
    pub uptime: Duration,
    /// The services with the most waiting requests, those with the most first, at most
    /// [`REPORT_WAITING_MAX`].
    pub waiting: Vec<ServiceStatus>,
    /// The services that have workers or requests here, by name, at most [`REPORT_SERVICES_MAX`];
    /// none unless asked for.
    pub services: Vec<ServiceStatus>,
    /// The workers of this node, by service and peer, at most [`REPORT_WORKERS_MAX`]; none unless
    /// asked for.
    pub workers: Vec<WorkerReport>,
    /// The connections of clients and workers, the oldest first, at most [`REPORT_CONNECTIONS_MAX`];
    /// none unless asked for.
    pub peers: Vec<ConnectionReport>,
}

/// The links with other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelayReport {
    /// Which there are, by the other node.
    pub links: Vec<LinkState>,
    /// What they came to, and what waits in them.
    pub totals: RelayTotals,
    /// Requests that wait for services which only nodes offer that this one has no link to.
    pub unreachable_requests: usize,
}

/// No report came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReportError {
    /// Too much waits for the broker thread.
    #[error("too much waits for the broker thread; try again")]
    Busy,
    /// The broker thread did not answer in time.
    #[error("the broker thread did not answer in time")]
    Timeout,
    /// The broker thread has ended.
    #[error("the node has stopped")]
    Stopped,
}

/// A handle that sees a running node. Cheap to clone, and it keeps nothing alive.
#[derive(Clone, Debug)]
pub struct NodeView {
    facts: Arc<NodeFacts>,
    postbox: Postbox,
    drainer: Drainer,
    turns: Arc<AtomicU64>,
    cluster: Option<ClusterHandles>,
}

#[derive(Clone, Debug)]
struct ClusterHandles {
    consensus: Consensus,
    runtime: Handle,
    link: Arc<LinkCounters>,
    relay: watch::Receiver<Vec<LinkState>>,
}

/// What does not change while a node runs.
#[derive(Debug)]
pub(crate) struct NodeFacts {
    pub(crate) name: NodeName,
    pub(crate) endpoints: Vec<String>,
    pub(crate) advertised: String,
    pub(crate) networks: Arc<ClientNetworks>,
    pub(crate) cluster_endpoint: Option<String>,
    pub(crate) relay_endpoint: Option<String>,
    pub(crate) drain_timeout: Duration,
}

impl NodeView {
    pub(crate) fn new(facts: NodeFacts, postbox: Postbox) -> Self {
        Self {
            facts: Arc::new(facts),
            drainer: Drainer::new(postbox.clone()),
            postbox,
            turns: Arc::default(),
            cluster: None,
        }
    }

    /// From now on the node has peers.
    pub(crate) fn join(
        &mut self,
        consensus: Consensus,
        runtime: Handle,
        link: Arc<LinkCounters>,
        relay: watch::Receiver<Vec<LinkState>>,
    ) {
        self.cluster = Some(ClusterHandles { consensus, runtime, link, relay });
    }

    /// Tells the broker thread to end at once; false if it does not listen.
    pub(crate) fn stop(&self) -> bool {
        self.postbox.post(Message::Stop).is_ok()
    }

    /// What wakes the broker thread.
    pub(crate) const fn ringer(&self) -> &Ringer {
        self.postbox.ringer()
    }

    /// For the broker thread, to show that it lives.
    pub(crate) fn turns_counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.turns)
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &NodeName {
        &self.facts.name
    }

    /// Where clients and workers connect, as bound: at least one address.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        &self.facts.endpoints
    }

    /// The address that clients are told; empty if there is none.
    #[must_use]
    pub fn advertised(&self) -> &str {
        &self.facts.advertised
    }

    /// The addresses that clients of some networks are told instead.
    #[must_use]
    pub fn networks(&self) -> &ClientNetworks {
        &self.facts.networks
    }

    /// The same, to be kept.
    pub(crate) fn shared_networks(&self) -> Arc<ClientNetworks> {
        Arc::clone(&self.facts.networks)
    }

    /// Where other nodes connect, as bound; `None` for a node without peers.
    #[must_use]
    pub fn cluster_endpoint(&self) -> Option<&str> {
        self.facts.cluster_endpoint.as_deref()
    }

    /// How long a drain may take, besides telling the others.
    #[must_use]
    pub fn drain_timeout(&self) -> Duration {
        self.facts.drain_timeout
    }

    /// Where other nodes bring requests, as bound; `None` for a node without peers.
    #[must_use]
    pub fn relay_endpoint(&self) -> Option<&str> {
        self.facts.relay_endpoint.as_deref()
    }

    /// The links with other nodes; none for a node without peers.
    #[must_use]
    pub fn relay_links(&self) -> Vec<LinkState> {
        self.cluster.as_ref().map(|cluster| cluster.relay.borrow().clone()).unwrap_or_default()
    }

    /// A number that rises at least once in a second while the broker thread works.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Whether the node was asked to drain.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drainer.is_asked()
    }

    /// For asking the node to drain.
    #[must_use]
    pub const fn drainer(&self) -> &Drainer {
        &self.drainer
    }

    /// This node's part in its cluster; `None` for a node without peers.
    #[must_use]
    pub fn consensus(&self) -> Option<&Consensus> {
        self.cluster.as_ref().map(|cluster| &cluster.consensus)
    }

    /// The runtime of consensus; `None` for a node without peers.
    #[must_use]
    pub fn runtime(&self) -> Option<&Handle> {
        self.cluster.as_ref().map(|cluster| &cluster.runtime)
    }

    /// What the calls between nodes came to; `None` for a node without peers.
    #[must_use]
    pub fn link_totals(&self) -> Option<LinkTotals> {
        self.cluster.as_ref().map(|cluster| cluster.link.totals())
    }

    /// Asks the broker thread to close a connection; false if there is none with this number. Needs a
    /// tokio runtime with time.
    ///
    /// # Errors
    /// The broker thread is overloaded, late, or gone.
    pub async fn kick(&self, connection: u64, timeout: Duration) -> Result<bool, ReportError> {
        let (reply, answer) = oneshot::channel();
        self.postbox.post(Message::Kick { connection, reply })?;
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(was_there)) => Ok(was_there),
            Ok(Err(_)) => Err(ReportError::Stopped),
            Err(_) => Err(ReportError::Timeout),
        }
    }

    /// Asks the broker thread for a report. Needs a tokio runtime with time.
    ///
    /// # Errors
    /// The broker thread is overloaded, late, or gone.
    pub async fn report(
        &self,
        scope: ReportScope,
        timeout: Duration,
    ) -> Result<NodeReport, ReportError> {
        let (reply, answer) = oneshot::channel();
        self.postbox.post(Message::Report { scope, reply })?;
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(report)) => {
                let mut report = *report;
                report.services.sort_unstable_by(|a, b| a.name.cmp(&b.name));
                report.workers.sort_unstable_by(|a, b| a.order().cmp(&b.order()));
                Ok(report)
            }
            Ok(Err(_)) => Err(ReportError::Stopped),
            Err(_) => Err(ReportError::Timeout),
        }
    }
}
