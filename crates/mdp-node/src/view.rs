//! [`NodeView`]: what other threads can see of a running node, for pages, probes and metrics.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mdp_catalog::NodeName;
use mdp_core::{NodeReport, ReportScope};
use mdp_raft::Consensus;
use mdp_wire::ClientNetworks;
use thiserror::Error;
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
};

use crate::{
    Drainer, LinkState, LinkTotals,
    bell::Ringer,
    cluster_link::LinkCounters,
    inbox::{Message, Postbox},
    security::{IdentityReader, IdentityStatus},
};

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
    /// `None`: nothing proves who clients and workers are.
    pub(crate) identities: Option<IdentityReader>,
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

    /// Where the broker thread is told something.
    pub(crate) const fn postbox(&self) -> &Postbox {
        &self.postbox
    }

    /// What wakes the broker thread.
    pub(crate) const fn ringer(&self) -> &Ringer {
        self.postbox.ringer()
    }

    /// For the broker thread, to show that it lives.
    pub(crate) fn turns_counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.turns)
    }

    /// What is known of the files of identities; `None`: nothing proves who clients and workers are.
    #[must_use]
    pub fn identities(&self) -> Option<IdentityStatus> {
        self.facts.identities.as_ref().map(IdentityReader::status)
    }

    /// Has the files of identities read now.
    pub fn read_identities(&self) {
        if let Some(reader) = &self.facts.identities {
            reader.read_now();
        }
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
