//! What a node says of itself: what is not asked for costs it nothing.

use std::time::Instant;

use mdp_broker::{DropReason, PeerId, ServiceStatus};
use mdp_replica::Agreement;

use super::NodeCore;
use crate::{
    ConnectionReport, NodeReport, REPORT_CONNECTIONS_MAX, REPORT_SERVICES_MAX, REPORT_WAITING_MAX,
    REPORT_WORKERS_MAX, ReportScope, WorkerReport,
};

impl<A: Agreement> NodeCore<A> {
    /// What this node says of itself.
    #[must_use]
    pub fn report(&self, now: Instant, scope: ReportScope) -> NodeReport {
        let broker = &self.broker;
        let relay = self.relay_report();
        let mut counters = broker.counters().clone();
        if let Some(undelivered) = relay.as_ref().map(|relay| relay.totals.undelivered) {
            *counters.dropped.entry(DropReason::OriginGone).or_default() += undelivered;
        }
        NodeReport {
            gauges: broker.gauges(),
            queued_bytes_max: broker.queued_bytes_max(),
            counters,
            connections: self.clients.totals(),
            security: self.clients.security(),
            reads: self.replica.read_totals(),
            relay,
            applied_index: self.replica.applied_index(),
            uptime: now.saturating_duration_since(self.started_at),
            waiting: broker.waiting_services(REPORT_WAITING_MAX),
            catalog: match scope {
                ReportScope::Services if A::IS_ALONE => {
                    Some(Box::new(self.replica.catalog().first_services(REPORT_SERVICES_MAX)))
                }
                ReportScope::Services
                | ReportScope::Totals
                | ReportScope::Workers
                | ReportScope::Connections => None,
            },
            services: match scope {
                ReportScope::Services | ReportScope::Workers => self.services(),
                ReportScope::Totals | ReportScope::Connections => Vec::new(),
            },
            workers: match scope {
                ReportScope::Workers => self.workers(),
                ReportScope::Totals | ReportScope::Services | ReportScope::Connections => {
                    Vec::new()
                }
            },
            peers: match scope {
                ReportScope::Connections => self.peers(now),
                ReportScope::Totals | ReportScope::Services | ReportScope::Workers => Vec::new(),
            },
        }
    }

    fn services(&self) -> Vec<ServiceStatus> {
        let broker = &self.broker;
        // Those with waiting requests are never left out for others.
        let waiting = broker.waiting_services(REPORT_SERVICES_MAX).into_iter();
        let others = broker.services().filter(|service| service.queued == 0);
        waiting.chain(others).take(REPORT_SERVICES_MAX).collect()
    }

    fn workers(&self) -> Vec<WorkerReport> {
        let workers = self.broker.workers().take(REPORT_WORKERS_MAX);
        workers
            .map(|status| WorkerReport { address: self.clients.address(&status.peer), status })
            .collect()
    }

    fn peers(&self, now: Instant) -> Vec<ConnectionReport> {
        let mut connections: Vec<_> = self.clients.connections().collect();
        // Places in the table are used again: what is left out shall be the newest.
        connections.sort_unstable_by_key(|connection| connection.id);
        connections
            .into_iter()
            .take(REPORT_CONNECTIONS_MAX)
            .map(|connection| ConnectionReport {
                id: connection.id.number(),
                address: connection.address,
                connected_for: now.saturating_duration_since(connection.since),
                introduction: connection.peer.cloned(),
                traffic: connection.traffic,
                outgoing_bytes: connection.outgoing_bytes,
                identity: self.clients.identity(connection.id),
                peer: self.broker.peer_status(&PeerId::from(connection.id.number())),
            })
            .collect()
    }
}
