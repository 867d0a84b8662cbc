//! What a node says of itself when it is asked.

use std::time::Duration;

use mdp_broker::{Counters, Gauges, PeerStatus, ServiceStatus, WorkerStatus};
use mdp_catalog::Catalog;
use mdp_replica::ReadTotals;
use mdp_transport::{PeerAddress, PeerIntroduction, PublicKey, Traffic, TransportTotals};
use mdp_wire::ServiceName;

use crate::{LinkState, RelayTotals};

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
    /// Who is connected; `None`: nothing proves who peers are.
    pub security: Option<SecurityReport>,
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

/// Who is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecurityReport {
    /// How many identities there are.
    pub identities: usize,
    /// Connections whose peers have shown a key.
    pub curve_connections: usize,
    /// Connections whose peers have not.
    pub plain_connections: usize,
    /// Messages that came on such connections.
    pub plain_messages: u64,
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

/// One worker of a node, and where it connects from.
#[derive(Clone, Debug)]
pub struct WorkerReport {
    /// What it is and does.
    pub status: WorkerStatus,
    /// Where it connects from.
    pub address: Option<PeerAddress>,
}

/// One connection of a client or worker.
#[derive(Clone, Debug)]
pub struct ConnectionReport {
    /// Its number, which no other connection of this process ever has.
    pub id: u64,
    /// Where it comes from.
    pub address: PeerAddress,
    /// For how long it has been there.
    pub connected_for: Duration,
    /// What the peer said of itself; `None`: nothing yet.
    pub introduction: Option<PeerIntroduction>,
    /// Bytes and messages so far.
    pub traffic: Traffic,
    /// The bytes that wait for it.
    pub outgoing_bytes: usize,
    /// The key that the peer has shown, and the name of its identity.
    pub identity: Option<(PublicKey, String)>,
    /// What it is to the engine.
    pub peer: PeerStatus,
}

impl WorkerReport {
    /// What a list of workers is ordered by.
    #[must_use]
    pub fn order(&self) -> (&ServiceName, u64) {
        (&self.status.service, self.status.peer.number())
    }
}
