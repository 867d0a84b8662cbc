//! What a node says of itself in numbers.

use std::time::Duration;

use mdp_broker::{Counters, Gauges};
use mdp_transport::TransportTotals;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{ClusterFacts, cluster_page, milliseconds};
use crate::NodeReport;

/// What a node says of itself in numbers.
#[derive(Clone, Copy, Debug)]
pub struct NodeNumbers<'a> {
    /// The version of its program.
    pub version: &'a str,
    /// For how long it has been running.
    pub uptime: Duration,
    /// What the engine holds now.
    pub gauges: Gauges,
    /// What the engine counted.
    pub counters: &'a Counters,
    /// The connections of clients and workers.
    pub connections: &'a TransportTotals,
}

/// The page of `mmi.status`: the page about the cluster, and this node in numbers.
pub fn status_page(cluster: &ClusterFacts<'_>, node: &NodeNumbers<'_>) -> Value {
    with_numbers(cluster_page(cluster), node)
}

impl<'a> NodeNumbers<'a> {
    /// What a report of this program says.
    #[must_use]
    pub const fn of(report: &'a NodeReport, version: &'a str) -> Self {
        Self {
            version,
            uptime: report.uptime,
            gauges: report.gauges,
            counters: &report.counters,
            connections: &report.connections,
        }
    }
}

/// Adds this node in numbers to the page about the cluster.
pub fn with_numbers(mut page: Value, node: &NodeNumbers<'_>) -> Value {
    if let Some(page) = page.as_object_mut() {
        page.insert("version".to_owned(), Value::from(node.version));
        page.insert("uptime_ms".to_owned(), Value::from(milliseconds(node.uptime)));
        page.insert("gauges".to_owned(), json!(gauges(node.gauges, node.connections)));
        page.insert("counters".to_owned(), json!(counters(node.counters, node.connections)));
    }
    page
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
