#![cfg(test)]
//! Three real processes, and requests that enter at one of them and are executed at another: what
//! clients and workers see of it while all is well, and while workers, nodes and links are lost.
//!
//! Every test has a cluster of its own, and none measures, so they run at the same time. What needs all
//! of the machine is in the program beside this one, `delivery`.

mod clock;
mod crew;
mod delivery;
mod dispatch;
mod drain;
mod failure;
mod frames;
mod identities;
mod intruders;
mod late;
mod partition;
mod rolling;

use std::time::Duration;

use cluster_tests::{PATIENCE, RawClient, RawWorker, TestCluster, Version, wait_until};
use serde_json::Value;

/// `cluster.node_timeout`, as built in.
const NODE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long after a node was lost its services may be found, whatever it was.
const GONE_WITHIN: Duration = NODE_TIMEOUT.saturating_add(Duration::from_secs(3));

/// How long a link may be silent before both ends know that it is gone.
const LINK_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the wrong has time to happen.
const LATE_HARM: Duration = Duration::from_secs(1);

/// What nodes count, as `/metrics` names it.
mod counted {
    /// Requests of this node's clients that went to another node, a second time counted again.
    pub(super) const FORWARDED: &str = "relay_forwarded_requests_total";
    /// Requests that other nodes sent to this one.
    pub(super) const RECEIVED: &str = "relay_received_requests_total";
    /// Requests given to a worker of this node.
    pub(super) const DISPATCHED: &str = "broker_dispatched_requests_total";
    /// Requests that wait for services which only nodes offer that this one has no link to.
    pub(super) const UNREACHABLE: &str = "relay_unreachable_requests";
    /// Requests of clients.
    pub(super) const REQUESTS: &str = "broker_requests_total";
}

/// Registers a worker of 7/MDP at a node of the cluster.
#[track_caller]
fn register(cluster: &TestCluster, node: usize, service: &str) -> RawWorker {
    RawWorker::register(cluster.node(node), Version::V01, service)
}

/// A client of 7/MDP at a node of the cluster.
fn client(cluster: &TestCluster, node: usize) -> RawClient {
    RawClient::connect(cluster.node(node), Version::V01)
}

/// How many messages a node dropped for this reason.
#[track_caller]
fn dropped(cluster: &TestCluster, node: usize, reason: &str) -> u64 {
    let name = format!("broker_dropped_messages_total{{reason=\"{reason}\"}}");
    cluster.node(node).metric(&name)
}

/// Waits until the nodes together have dropped so many messages for one of these reasons.
#[track_caller]
fn wait_for_dropped(cluster: &TestCluster, reasons: &[&str], count: u64) {
    let what = format!("{count} dropped because of {reasons:?}");
    wait_until(&what, PATIENCE, || {
        let of = |reason: &&str| (0..3).map(|node| dropped(cluster, node, reason)).sum::<u64>();
        reasons.iter().map(of).sum::<u64>() >= count
    });
}

/// Whether one of two nodes says that the first can send requests to the second.
fn has_link(cluster: &TestCluster, origin: usize, owner: usize) -> bool {
    let says = |node: usize, of: usize, what: &str| {
        let page = cluster.node(node).page("/api/v1/cluster").unwrap();
        let view: Value = serde_json::from_str(&page.body).unwrap();
        let name = cluster.node(of).name();
        let of_name = |node: &&Value| node["name"] == name;
        let node = view["nodes"].as_array().unwrap().iter().find(of_name).unwrap();
        node[what].as_bool().unwrap_or_else(|| panic!("no {what} in {node}"))
    };
    says(origin, owner, "relay_to") || says(owner, origin, "relay_from")
}

/// What nodes count of something, in their order.
#[track_caller]
fn counts(cluster: &TestCluster, name: &str) -> [u64; 3] {
    [0, 1, 2].map(|node| cluster.node(node).metric(name))
}
