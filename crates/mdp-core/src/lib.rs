//! What a node decides, without I/O.
//!
//! The crate opens no socket, reads no clock, starts no thread and draws no randomness: a [`Shell`]
//! moves bytes between sockets and [`NodeCore`], says what time it is, and looks up names. The calls between
//! nodes go by [`ClusterLinks`], which have a thread of their own in a node.

mod backoff;
mod clients;
mod cluster_links;
mod connections;
mod node_core;
mod node_keys;
pub mod pages;
mod relay_links;
mod reports;
mod shell;

use std::net::SocketAddr;

pub use clients::{ClientSecurity, Clients, FromPeer, ReadingClients, connection_id, peer_id};
pub use cluster_links::{
    CALL_BYTES_MAX, CALLS_PER_PEER_MAX, Call, CallReply, CallTag, CallerId, ClusterAction,
    ClusterLinks, INCOMING_CALLS_BYTES_MAX, INCOMING_CALLS_MAX, IncomingCall, IncomingLimits,
    LinkTotals, PeerKey,
};
pub use connections::{Connections, Received};
pub use node_core::{DrainTimes, Drained, NodeCore, NodeEnding, NodeParts, TurnEnd};
pub use node_keys::{LinkSecurity, NODE_KEYS_MAX, NodeKeys, SharedKey};
pub use relay_links::{
    LinkLoss, LinkState, Located, PEERS_MAX, ReadingLinks, RelayAction, RelayLinks, RelaySettings,
    RelayTotals, Tag,
};
pub use reports::{
    ConnectionReport, NodeReport, REPORT_CONNECTIONS_MAX, REPORT_SERVICES_MAX, REPORT_WAITING_MAX,
    REPORT_WORKERS_MAX, RelayReport, ReportScope, SecurityReport, WorkerReport,
};
pub use shell::{NodeEvent, PortName, ReadState, Shell};

/// The address to connect to while the current one does not answer: the one after it, or the first.
fn next_address(addresses: &[SocketAddr], current: Option<SocketAddr>) -> Option<SocketAddr> {
    let after_current = addresses.iter().skip_while(|address| Some(**address) != current).nth(1);
    after_current.or_else(|| addresses.first()).copied()
}

/// A first instant for tests, in which time passes by the test's word.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an instant can not be made from nothing")]
fn any_instant() -> std::time::Instant {
    std::time::Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_name_take_turns() {
        let [a, b, c] = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"].map(|a| a.parse().unwrap());

        assert_eq!(next_address(&[], Some(a)), None);
        assert_eq!(next_address(&[a, b], None), Some(a));
        assert_eq!(next_address(&[a, b], Some(a)), Some(b));
        assert_eq!(next_address(&[a, b], Some(b)), Some(a));
        assert_eq!(next_address(&[a, b], Some(c)), Some(a));
        assert_eq!(next_address(&[a], Some(a)), Some(a));
    }
}
