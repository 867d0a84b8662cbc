//! What `mmi.endpoints` tells clients that connect from different addresses of this machine.

use std::net::{IpAddr, TcpListener};

use crate::{ClusterNode, PATIENCE, RawSocket, frames};

/// The addresses of nodes by their names, as this node tells them to a client that connects from there.
#[must_use]
#[track_caller]
pub fn endpoints_told(node: &ClusterNode, from: IpAddr) -> Vec<(String, String)> {
    let port = node.ports().broker;
    let endpoint = match from {
        // libzmq's way to name the address to connect from.
        IpAddr::V4(from) => format!("tcp://{from}:0;127.0.0.1:{port}"),
        IpAddr::V6(to) => format!("tcp://[{to}]:{port}"),
    };
    let options = |socket: &zmq::Socket| socket.set_ipv6(from.is_ipv6());
    let context = zmq::Context::new();
    let client = RawSocket::connect(endpoint.as_str(), &context, zmq::DEALER, options);
    client.send(&frames![b"", b"MDPC01", b"mmi.endpoints", b""]);
    let answer = client.recv_within(PATIENCE);
    let answer = answer.unwrap_or_else(|| panic!("{} does not answer {from}", node.name()));
    let [.., code, page] = answer.as_slice() else { panic!("{answer:?}") };
    assert_eq!(code, b"200");
    let page: serde_json::Value = serde_json::from_slice(page).unwrap();
    let text =
        |entry: &serde_json::Value, key: &str| entry.get(key).unwrap().as_str().unwrap().to_owned();
    let entries = page.get("endpoints").unwrap().as_array().unwrap().iter();
    entries.map(|entry| (text(entry, "node"), text(entry, "endpoint"))).collect()
}

/// Whether this machine has the loopback address of IPv6.
#[must_use]
pub fn has_ipv6() -> bool {
    TcpListener::bind(("::1", 0)).is_ok()
}
