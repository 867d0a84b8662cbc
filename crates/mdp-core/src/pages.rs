//! The pages about the cluster and this node as JSON: one shape for `mmi.*` and for HTTP.

mod cluster;
mod directory;
mod numbers;
mod peers;

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use mdp_broker::{Broker, Page, ServiceStatus, Subject};
use mdp_catalog::{Catalog, NodeName, NodeRecord, NodeState};
use mdp_raft::ClusterStatus;
use mdp_replica::{Agreement, Replica};
use mdp_transport::{SharedFrame, TransportTotals};
use mdp_wire::{ClientNetworks, DecodeLimits, ServiceName};
use serde_json::{Map, Value, json};

pub use self::{
    cluster::{cluster_page, upgrade_page},
    directory::{DIRECTORY_SERVICES_MAX, Directory},
    numbers::{NodeNumbers, status_page, with_numbers},
    peers::{connections_page, workers_page},
};
use crate::LinkState;

/// What the page about the cluster is written from.
#[derive(Clone, Copy, Debug)]
pub struct ClusterFacts<'a> {
    /// The version of this program.
    pub version: &'a str,
    /// This node.
    pub node: &'a NodeName,
    /// The catalog.
    pub catalog: &'a Catalog,
    /// The index up to which it was applied.
    pub applied_index: u64,
    /// What consensus says; `None`: the node is alone, and agrees with itself.
    pub status: Option<&'a ClusterStatus>,
    /// The links with other nodes.
    pub links: &'a [LinkState],
    /// The addresses that this node tells clients by their network.
    pub networks: &'a ClientNetworks,
}

/// What a page of the management interface tells about this node.
#[derive(Debug)]
pub(crate) struct View<'a> {
    /// The version of this program.
    pub(crate) version: &'a str,
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
    /// Who the client has shown to be: it is told of what it may see.
    pub(crate) subject: Subject,
    /// Now.
    pub(crate) now: Instant,
}

impl ClusterFacts<'_> {
    /// The addresses that a node tells clients by their network; `None`: this node does not know them.
    fn networks_of(&self, name: &NodeName) -> Option<&ClientNetworks> {
        if name == self.node {
            return Some(self.networks);
        }
        let link = self.links.iter().find(|link| link.node == *name)?;
        link.networks.as_deref()
    }

    /// The address at which a client that connects from there reaches a node; `None`: there is none to
    /// tell.
    fn address_for<'a>(
        &'a self,
        asker: Option<IpAddr>,
        name: &NodeName,
        record: &'a NodeRecord,
    ) -> Option<&'a str> {
        let address = match self.networks_of(name) {
            Some(networks) => networks.address_for(asker),
            // This node has just started and has no link to that one. A client which cannot use the
            // one address of this node for all others could not use that one's, either: a worker
            // would leave a good node for an address that it cannot reach.
            None => self.networks.address_for(asker).map(|_| ""),
        };
        address.or(Some(&record.endpoints.client)).filter(|address| !address.is_empty())
    }
}

/// The page of `mmi.endpoints`: where the client that asks can go, and who says so. A node that names
/// itself and is not in its own list drains or is gone; one that has no address to tell names no node.
///
/// It says also what one message may hold, so that clients need not find out.
pub fn endpoints_page(
    facts: &ClusterFacts<'_>,
    asker: Option<IpAddr>,
    limits: DecodeLimits,
) -> Value {
    let ClusterFacts { catalog, node, .. } = facts;
    let own = catalog.node(node);
    let is_named = own.is_none_or(|record| facts.address_for(asker, node, record).is_some());
    let endpoints: Vec<Value> = catalog
        .nodes()
        .filter(|(_, record)| record.state == NodeState::Up)
        .filter_map(|(name, record)| {
            let endpoint = facts.address_for(asker, name, record)?;
            // The epoch tells workers that a node has started again since they asked last.
            let epoch = record.epoch.0;
            Some(json!({ "node": name.as_str(), "endpoint": endpoint, "epoch": epoch }))
        })
        .collect();
    json!({
        "node": is_named.then(|| node.as_str()),
        "endpoints": endpoints,
        "max_message_bytes": limits.message_bytes_max,
        "max_message_frames": limits.frames_max,
    })
}

/// A page of the management interface, as this node's copy of the catalog has it.
pub(crate) fn page<A: Agreement>(
    page: Page,
    replica: &Replica<A, SharedFrame>,
    view: &View<'_>,
) -> Vec<u8> {
    let status = replica.status();
    let cluster = &ClusterFacts {
        version: view.version,
        node: replica.node(),
        catalog: replica.catalog(),
        applied_index: replica.applied_index(),
        status: status.as_ref(),
        links: view.links,
        networks: view.networks,
    };
    let page = match page {
        Page::Directory => {
            let mut here: Vec<ServiceStatus> = view.broker.services().collect();
            here.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            let may_see = |name: &ServiceName| view.broker.may_see(view.subject, name.as_name());
            Directory::visible(cluster.catalog, may_see).page(&here)
        }
        Page::Endpoints => endpoints_page(cluster, view.asker, view.broker.message_limits()),
        Page::StatusInBrief => {
            let mut page = endpoints_page(cluster, view.asker, view.broker.message_limits());
            if let Some(page) = page.as_object_mut() {
                page.insert("version".to_owned(), Value::from(view.version));
            }
            page
        }
        Page::Status => {
            let numbers = NodeNumbers {
                version: view.version,
                uptime: view.now.saturating_duration_since(replica.started_at()),
                gauges: view.broker.gauges(),
                counters: view.broker.counters(),
                connections: &view.connections,
            };
            status_page(cluster, &numbers)
        }
    };
    page.to_string().into_bytes()
}

fn truncated(key: &str, entries: Vec<Value>, is_truncated: bool) -> Value {
    let mut page = Map::new();
    page.insert(key.to_owned(), Value::Array(entries));
    if is_truncated {
        page.insert("truncated".to_owned(), Value::Bool(true));
    }
    Value::Object(page)
}

/// A duration in the unit of all pages.
#[must_use]
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
