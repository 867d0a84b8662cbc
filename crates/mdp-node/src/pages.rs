//! The pages about the cluster and this node as JSON: one shape for `mmi.*` and for HTTP.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use mdp_broker::{Broker, Counters, Gauges, Page, ServiceStatus, WorkerActivity};
use mdp_catalog::{Catalog, NodeName, NodeRecord, NodeState, SoftwareVersion};
use mdp_raft::{ClusterStatus, MemberChange, MemberStatus, Role, UpgradeState, UpgradeStatus};
use mdp_wire::{ClientNetworks, DecodeLimits, ServiceName};
use serde::Serialize;
use serde_json::{Map, Value, json};

use mdp_replica::{Agreement, Replica};
use mdp_transport::{SharedFrame, TransportTotals};

use crate::{ConnectionReport, LinkState, NodeReport, WorkerReport, version::VERSION};

/// How many services one page of the directory names: writing it must not hold up the broker.
pub(crate) const DIRECTORY_SERVICES_MAX: usize = 10_000;

/// What the page about the cluster is written from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClusterFacts<'a> {
    /// This node.
    pub(crate) node: &'a NodeName,
    /// The catalog.
    pub(crate) catalog: &'a Catalog,
    /// The index up to which it was applied.
    pub(crate) applied_index: u64,
    /// What consensus says; `None`: the node is alone, and agrees with itself.
    pub(crate) status: Option<&'a ClusterStatus>,
    /// The links with other nodes.
    pub(crate) links: &'a [LinkState],
    /// The addresses that this node tells clients by their network.
    pub(crate) networks: &'a ClientNetworks,
}

/// What a page of the management interface tells about this node.
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

/// The page of `/api/v1/cluster`.
pub(crate) fn cluster_page(facts: &ClusterFacts<'_>) -> Value {
    let name = facts.node.as_str();
    let Some(status) = facts.status else {
        let nodes = facts.catalog.nodes();
        let nodes: Vec<Value> = nodes
            .map(|(name, record)| node_entry(facts, name, Some(record), Standing::Alone))
            .collect();
        return json!({
            "node": name,
            "cluster_id": null,
            "cluster_version": VERSION,
            "leader": name,
            "majority": true,
            "term": 1,
            "committed_index": facts.applied_index,
            "applied_index": facts.applied_index,
            "member_change": null,
            "nodes": nodes,
        });
    };
    let version = facts.catalog.cluster_version();
    json!({
        "node": name,
        "cluster_id": status.cluster_id,
        "cluster_version": (version != SoftwareVersion::default()).then(|| version.to_string()),
        "leader": status.leader.as_ref().map(NodeName::as_str),
        // Without one, all else is what this node knew last.
        "majority": status.leader.is_some(),
        "term": status.term,
        "committed_index": status.committed_index,
        "applied_index": facts.applied_index,
        "member_change": status.member_change.as_ref().map(member_change),
        "nodes": nodes(facts, status),
    })
}

/// A change of members that is in progress, also where no leader is.
fn member_change(change: &MemberChange) -> Value {
    json!({
        "from": change.from,
        "to": change.to,
        "joint": change.is_joint,
        "committed": change.is_committed,
        "lasts_for_ms": milliseconds(change.lasts_for),
        "text": change.to_string(),
    })
}

/// The page of `/api/v1/upgrade`: the cluster's version, and what becomes of it.
pub(crate) fn upgrade_page(facts: &ClusterFacts<'_>) -> Value {
    let Some(status) = facts.status else {
        let alone = UpgradeStatus { cluster_version: VERSION.parse().ok(), ..Default::default() };
        return upgrade(facts, Some(facts.node), &alone);
    };
    upgrade(facts, status.leader.as_ref(), &status.upgrade)
}

fn upgrade(facts: &ClusterFacts<'_>, leader: Option<&NodeName>, status: &UpgradeStatus) -> Value {
    let (state, waits_for) = match &status.state {
        UpgradeState::Current => ("current", &[][..]),
        UpgradeState::Mixed { older } => ("mixed", older.as_slice()),
        UpgradeState::Incomplete { down } => ("incomplete", down.as_slice()),
        UpgradeState::Held => ("held", &[][..]),
        UpgradeState::Settling => ("settling", &[][..]),
    };
    let text = |version: Option<SoftwareVersion>| version.map(|version| version.to_string());
    json!({
        "node": facts.node.as_str(),
        "version": VERSION,
        "leader": leader.map(NodeName::as_str),
        "cluster_version": text(status.cluster_version),
        "target": text(status.target),
        "state": state,
        "waits_for": waits_for,
        "settles_in_ms": status.settles_in.map(milliseconds),
        "held_at": text(status.held_at),
        "configured_hold": text(status.configured_hold),
    })
}

/// Every member, whether it has begun a life or not, and every other node that once had one.
fn nodes(facts: &ClusterFacts<'_>, status: &ClusterStatus) -> Vec<Value> {
    let catalog = facts.catalog;
    let members = status.members.iter();
    let is_member = |name: &NodeName| status.members.iter().any(|member| member.name == *name);
    let mut nodes: BTreeMap<&NodeName, Value> = members
        .map(|member| {
            let record = catalog.node(&member.name);
            (&member.name, node_entry(facts, &member.name, record, Standing::Member(member)))
        })
        .collect();
    let others = catalog.nodes().filter(|(name, _)| !is_member(name));
    nodes.extend(
        others.map(|(name, record)| {
            (name, node_entry(facts, name, Some(record), Standing::Stranger))
        }),
    );
    nodes.into_values().collect()
}

/// What a node is to the cluster.
#[derive(Clone, Copy, Debug)]
enum Standing<'a> {
    /// It is a cluster of its own.
    Alone,
    /// It belongs to it.
    Member(&'a MemberStatus),
    /// The catalog remembers it, the membership does not.
    Stranger,
}

fn node_entry(
    facts: &ClusterFacts<'_>,
    name: &NodeName,
    record: Option<&NodeRecord>,
    standing: Standing<'_>,
) -> Value {
    let (raft_id, role, endpoint, unheard) = match standing {
        Standing::Alone => (None, Some("voter"), None, None),
        Standing::Member(member) => {
            let role = match member.role {
                Role::Voter => "voter",
                Role::Learner => "learner",
            };
            (Some(member.node_id), Some(role), Some(&member.endpoint), member.unheard_for)
        }
        Standing::Stranger => (record.map(|record| record.node_id), None, None, None),
    };
    let endpoint = endpoint.or_else(|| record.map(|record| &record.endpoints.cluster));
    let or_null = |text: &String| (!text.is_empty()).then(|| text.clone());
    let state = match (record.map(|record| record.state), standing) {
        // A member that has never been up is not up.
        (None | Some(NodeState::Gone), _) => "gone",
        // Without a majority the catalog cannot say that its life is over.
        (Some(_), Standing::Member(member)) if member.is_unheard => "unheard",
        (Some(state), _) => state_label(state),
    };
    // No node has a link with itself.
    let links = (facts.node != name).then(|| facts.links.iter().find(|link| link.node == *name));
    json!({
        "name": name.as_str(),
        "raft_id": raft_id.map(|id| id.to_string()),
        "role": role,
        "state": state,
        "epoch": record.map_or(0, |record| record.epoch.0),
        "version": record.map(|record| record.version.to_string()),
        "client_endpoint": record.and_then(|record| or_null(&record.endpoints.client)),
        "client_networks": networks_page(facts, name),
        "cluster_endpoint": endpoint.and_then(or_null),
        "relay_endpoint": record.and_then(|record| or_null(&record.endpoints.relay)),
        "relay_to": links.map(|links| links.is_some_and(|links| links.to)),
        "relay_from": links.map(|links| links.is_some_and(|links| links.from)),
        "unheard_ms": unheard.map(milliseconds),
    })
}

/// The addresses that a node tells clients by their network, as far as this node knows, the smallest
/// networks first.
fn networks_page(facts: &ClusterFacts<'_>, name: &NodeName) -> Vec<Value> {
    let networks = facts.networks_of(name).into_iter().flat_map(ClientNetworks::iter);
    networks
        .map(|entry| json!({ "from": entry.from.to_string(), "address": entry.address }))
        .collect()
}

const fn state_label(state: NodeState) -> &'static str {
    match state {
        NodeState::Up => "up",
        NodeState::Draining => "draining",
        NodeState::Gone => "gone",
    }
}

/// Who offers what, cut where it gets too long: taken from a catalog that others wait for.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    services: Vec<(ServiceName, Vec<NodeName>)>,
    is_truncated: bool,
}

impl Directory {
    /// What is offered.
    pub(crate) fn of(catalog: &Catalog) -> Self {
        let services = catalog.services().take(DIRECTORY_SERVICES_MAX);
        Self {
            services: services
                .map(|(name, nodes)| (name.clone(), nodes.iter().cloned().collect()))
                .collect(),
            is_truncated: catalog.service_count() > DIRECTORY_SERVICES_MAX,
        }
    }

    /// What is offered, and for what else requests wait at this node: a service without any worker
    /// is what an operator looks for. `here` is what this node has, by name.
    pub(crate) fn with_waiting(catalog: &Catalog, here: &[ServiceStatus]) -> Self {
        let mut directory = Self::of(catalog);
        let is_listed = |name: &ServiceName| {
            directory.services.binary_search_by(|(listed, _)| listed.cmp(name)).is_ok()
        };
        let waiting = here.iter().filter(|status| status.queued > 0 && !is_listed(&status.name));
        // Those that the cut above has left out have nodes.
        let nodes = |name: &ServiceName| catalog.offering(name.as_bytes()).cloned().collect();
        let mut others: Vec<(ServiceName, Vec<NodeName>)> = waiting
            .take(DIRECTORY_SERVICES_MAX)
            .map(|status| (status.name.clone(), nodes(&status.name)))
            .collect();
        directory.services.append(&mut others);
        directory.services.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        directory
    }

    /// The page; `here` is what this node has, by name.
    pub(crate) fn page(&self, here: &[ServiceStatus]) -> Value {
        let find = |name: &ServiceName| {
            here.binary_search_by(|status| status.name.cmp(name)).ok().and_then(|at| here.get(at))
        };
        let services = self.services.iter().map(|(name, nodes)| {
            let status = find(name);
            json!({
                "name": name.to_string(),
                "nodes": nodes.iter().map(NodeName::as_str).collect::<Vec<_>>(),
                "workers": status.map_or(0, |status| status.workers),
                "idle": status.map_or(0, |status| status.idle),
                "queued": status.map_or(0, |status| status.queued),
            })
        });
        truncated("services", services.collect(), self.is_truncated)
    }
}

/// The page of `mmi.directory`, which names what is offered and nothing else. `here` is what this
/// node has, by name.
pub(crate) fn services_page(catalog: &Catalog, here: &[ServiceStatus]) -> Value {
    Directory::of(catalog).page(here)
}

/// The page of `/api/v1/workers`: the workers of this node, in this order.
pub(crate) fn workers_page(workers: &[WorkerReport], is_truncated: bool) -> Value {
    let workers: Vec<Value> = workers
        .iter()
        .map(|WorkerReport { status: worker, address }| {
            json!({
                "service": worker.service.to_string(),
                "connection": worker.peer.number(),
                "address": address.map(|address| address.to_string()),
                "version": worker.version.to_string(),
                "state": match worker.activity {
                    WorkerActivity::Registering => "registering",
                    WorkerActivity::Idle => "idle",
                    WorkerActivity::Busy => "busy",
                },
                "silent_ms": milliseconds(worker.silent_for),
            })
        })
        .collect();
    truncated("workers", workers, is_truncated)
}

/// The page of `/api/v1/connections`, in this order.
pub(crate) fn connections_page(connections: &[ConnectionReport], is_truncated: bool) -> Value {
    let connections = connections.iter().map(ConnectionReport::to_json).collect();
    truncated("connections", connections, is_truncated)
}

fn truncated(key: &str, entries: Vec<Value>, is_truncated: bool) -> Value {
    let mut page = Map::new();
    page.insert(key.to_owned(), Value::Array(entries));
    if is_truncated {
        page.insert("truncated".to_owned(), Value::Bool(true));
    }
    Value::Object(page)
}

/// The page of `mmi.endpoints`: where the client that asks can go, and who says so. A node that names
/// itself and is not in its own list drains or is gone; one that has no address to tell names nobody.
///
/// It says also what one message may hold, so that clients need not find out.
pub(crate) fn endpoints_page(
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
            services_page(cluster.catalog, &here)
        }
        Page::Endpoints => endpoints_page(cluster, view.asker, view.broker.message_limits()),
        Page::Status => {
            let numbers = NodeNumbers {
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

/// What a node says of itself in numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeNumbers<'a> {
    pub(crate) uptime: Duration,
    pub(crate) gauges: Gauges,
    pub(crate) counters: &'a Counters,
    pub(crate) connections: &'a TransportTotals,
}

/// The page of `mmi.status`: the page about the cluster, and this node in numbers.
pub(crate) fn status_page(cluster: &ClusterFacts<'_>, node: &NodeNumbers<'_>) -> Value {
    with_numbers(cluster_page(cluster), node)
}

impl<'a> NodeNumbers<'a> {
    pub(crate) const fn of(report: &'a NodeReport) -> Self {
        Self {
            uptime: report.uptime,
            gauges: report.gauges,
            counters: &report.counters,
            connections: &report.connections,
        }
    }
}

/// Adds this node in numbers to the page about the cluster.
pub(crate) fn with_numbers(mut page: Value, node: &NodeNumbers<'_>) -> Value {
    if let Some(page) = page.as_object_mut() {
        page.insert("version".to_owned(), Value::from(VERSION));
        page.insert("uptime_ms".to_owned(), Value::from(milliseconds(node.uptime)));
        page.insert("gauges".to_owned(), json!(gauges(node.gauges, node.connections)));
        page.insert("counters".to_owned(), json!(counters(node.counters, node.connections)));
    }
    page
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Serialize)]
struct GaugesPage {
    services: usize,
    workers: usize,
    idle: usize,
    queued: usize,
    held: usize,
    forwarded: usize,
    queued_bytes: usize,
    connections: usize,
    outgoing_messages: usize,
    outgoing_bytes: usize,
}

fn gauges(gauges: Gauges, connections: &TransportTotals) -> GaugesPage {
    GaugesPage {
        services: gauges.services,
        workers: gauges.workers,
        idle: gauges.idle_workers,
        queued: gauges.queued_requests,
        held: gauges.held_requests,
        forwarded: gauges.forwarded_requests,
        queued_bytes: gauges.queued_bytes,
        connections: connections.connections,
        outgoing_messages: connections.outgoing_messages,
        outgoing_bytes: connections.outgoing_bytes,
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
    forwarded: u64,
    returned: u64,
    recalled: u64,
    forwards_received: u64,
    forwards_replied: u64,
    registrations: u64,
    refused_registrations: u64,
    expired_workers: u64,
    pauses: u64,
    stalled_peers: u64,
    overflowed_peers: u64,
    /// By reason.
    dropped: Map<String, Value>,
    /// Connections that ended before their peer had introduced itself, by reason.
    connections_refused: Map<String, Value>,
    /// Connections that ended later, by reason.
    connections_lost: Map<String, Value>,
}

/// Counts by reason, without those of what never happened.
fn by_reason(counts: impl Iterator<Item = (&'static str, u64)>) -> Map<String, Value> {
    let happened = counts.filter(|(_, count)| *count > 0);
    happened.map(|(reason, count)| (reason.to_owned(), Value::from(count))).collect()
}

fn counters(counters: &Counters, connections: &TransportTotals) -> CountersPage {
    let mut dropped: Map<String, Value> = counters
        .dropped
        .iter()
        .map(|(reason, count)| (reason.label().to_owned(), Value::from(*count)))
        .collect();
    if connections.dropped_messages > 0 {
        dropped.insert("peer_not_reading".to_owned(), Value::from(connections.dropped_messages));
    }
    CountersPage {
        requests: counters.requests,
        mmi_requests: counters.mmi_requests,
        dispatched: counters.dispatched,
        replied: counters.replied,
        partials: counters.partials,
        redispatched: counters.redispatched,
        forwarded: counters.forwarded,
        returned: counters.returned,
        recalled: counters.recalled,
        forwards_received: counters.forwards_received,
        forwards_replied: counters.forwards_replied,
        registrations: counters.registrations,
        refused_registrations: counters.refused_registrations,
        expired_workers: counters.expired_workers,
        pauses: counters.pauses,
        stalled_peers: connections.lost("stalled"),
        overflowed_peers: connections.lost("overflow"),
        dropped,
        connections_refused: by_reason(connections.refused_by_reason()),
        connections_lost: by_reason(connections.lost_by_reason()),
    }
}

#[cfg(test)]
mod tests;
