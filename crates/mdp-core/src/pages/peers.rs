//! The pages about workers and connections.

use mdp_broker::WorkerActivity;
use mdp_transport::PublicKey;
use serde_json::{Value, json};

use super::{milliseconds, truncated};
use crate::{ConnectionReport, WorkerReport};

/// How many characters of a key are shown.
const KEY_CHARACTERS: usize = 8;

/// The page of `/api/v1/workers`: the workers of this node, in this order.
pub fn workers_page(workers: &[WorkerReport], is_truncated: bool) -> Value {
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
pub fn connections_page(connections: &[ConnectionReport], is_truncated: bool) -> Value {
    let connections = connections.iter().map(ConnectionReport::to_json).collect();
    truncated("connections", connections, is_truncated)
}

impl ConnectionReport {
    /// "worker" or "client"; `None`: it has not said what it is.
    const fn role(&self) -> Option<&'static str> {
        match (&self.peer.service, self.traffic.messages_in) {
            (Some(_), _) => Some("worker"),
            (None, 1..) => Some("client"),
            (None, 0) => None,
        }
    }

    fn to_json(&self) -> Value {
        let introduction = self.introduction.as_ref();
        json!({
            "id": self.id,
            "address": self.address.to_string(),
            "role": self.role(),
            "service": self.peer.service.as_ref().map(ToString::to_string),
            "waiting_requests": self.peer.waiting_requests,
            "routing_id": introduction.and_then(|peer| routing_id(&peer.routing_id)),
            "socket_type": introduction.map(|peer| peer.socket_type.name()),
            "zmtp": introduction.map(|peer| format!("3.{}", peer.minor)),
            "identity": self.identity.as_ref().map(|(_, name)| name),
            "key": self.identity.as_ref().map(|(key, _)| first_characters(key)),
            "mechanism": introduction.map(|peer| peer.mechanism.name()),
            "connected_ms": milliseconds(self.connected_for),
            "messages_in": self.traffic.messages_in,
            "messages_out": self.traffic.messages_out,
            "bytes_in": self.traffic.bytes_in,
            "bytes_out": self.traffic.bytes_out,
            "outgoing_bytes": self.outgoing_bytes,
        })
    }
}

/// As much of a key as tells it from others.
fn first_characters(key: &PublicKey) -> String {
    key.to_string().chars().take(KEY_CHARACTERS).collect()
}

/// A routing id as text, or in hexadecimal if it is none; `None` if the peer claims none.
fn routing_id(bytes: &[u8]) -> Option<String> {
    let text = str::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control));
    let hexadecimal =
        || bytes.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"));
    (!bytes.is_empty()).then(|| text.map_or_else(hexadecimal, str::to_owned))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mdp_broker::PeerStatus;
    use mdp_transport::{Mechanism, PeerAddress, PeerIntroduction, SocketType, Traffic};
    use mdp_wire::ServiceName;

    use super::*;

    fn connection(messages_in: u64, service: Option<&str>, id: &[u8]) -> Value {
        let service = service.map(|name| ServiceName::try_from(name.as_bytes()).unwrap());
        let report = ConnectionReport {
            id: 1_048_576,
            address: PeerAddress::from("10.0.0.7:5".parse::<std::net::SocketAddr>().unwrap()),
            connected_for: Duration::from_millis(1_500),
            introduction: Some(PeerIntroduction {
                socket_type: SocketType::Dealer,
                routing_id: id.into(),
                minor: 1,
                mechanism: Mechanism::Null,
                key: None,
            }),
            traffic: Traffic { messages_in, ..Traffic::default() },
            outgoing_bytes: 0,
            identity: Some((PublicKey::from_bytes([0; 32]), "billing".to_owned())),
            peer: PeerStatus { service, waiting_requests: 0 },
        };
        report.to_json()
    }

    #[test]
    fn role_is_what_the_peer_has_shown() {
        assert_eq!(connection(0, None, b"")["role"], Value::Null);
        assert_eq!(connection(1, None, b"")["role"], "client");
        assert_eq!(connection(1, Some("echo"), b"")["role"], "worker");
    }

    #[test]
    fn routing_ids_are_text_if_they_can_be() {
        assert_eq!(connection(0, None, b"")["routing_id"], Value::Null);
        assert_eq!(connection(0, None, b"client-1")["routing_id"], "client-1");
        assert_eq!(connection(0, None, b"\0\x80\0A\xa7")["routing_id"], "0x00800041a7");
        assert_eq!(connection(0, None, b"a\nb")["routing_id"], "0x610a62");
    }

    #[test]
    fn connection_tells_all_that_is_known_of_it() {
        let page = connection(1, Some("echo"), b"w");
        let expected = json!({
            "id": 1_048_576, "address": "10.0.0.7:5", "role": "worker", "service": "echo",
            "waiting_requests": 0, "routing_id": "w", "socket_type": "DEALER", "zmtp": "3.1",
            "identity": "billing", "key": "00000000",
            "mechanism": "NULL", "connected_ms": 1_500, "messages_in": 1, "messages_out": 0,
            "bytes_in": 0, "bytes_out": 0, "outgoing_bytes": 0,
        });
        assert_eq!(page, expected);
    }
}
