//! A node and its peers.

use std::time::Duration;

use mdp_node::{Node, NodeConfig};
use serde_json::Value;

/// How long anything may take that must happen.
pub(crate) const DEADLINE_MS: i32 = 20_000;

/// A node and a context for its peers.
pub(crate) struct Cell {
    pub(crate) node: Node,
    pub(crate) context: zmq::Context,
}

pub(crate) fn config() -> NodeConfig {
    let mut config = NodeConfig::new("node-1".parse().unwrap());
    config.bind = vec!["tcp://127.0.0.1:0".to_owned()];
    config.settings.service.heartbeat_interval = Duration::from_millis(250);
    config.settings.service.heartbeat_liveness = 20;
    config
}

impl Cell {
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    pub(crate) fn with(config: NodeConfig) -> Self {
        Self { node: Node::start(config).unwrap(), context: zmq::Context::new() }
    }

    /// A DEALER that waits for what must come.
    pub(crate) fn dealer(&self) -> zmq::Socket {
        self.dealer_that_buffers(1_000)
    }

    /// A DEALER whose libzmq reads ahead so many messages.
    pub(crate) fn dealer_that_buffers(&self, messages: i32) -> zmq::Socket {
        let dealer = self.context.socket(zmq::DEALER).unwrap();
        dealer.set_rcvhwm(messages).unwrap();
        connect(&dealer, self.node.endpoint());
        dealer
    }

    /// A 0.1 worker whose registration is acknowledged.
    pub(crate) fn worker(&self, service: &str) -> zmq::Socket {
        worker(self.dealer(), service)
    }

    /// Asks a page of the management interface.
    pub(crate) fn page(&self, page: &str) -> Value {
        self::page(&self.dealer(), page)
    }
}

/// A DEALER that is connected to a node, and waits for what must come.
pub(crate) fn dealer(context: &zmq::Context, endpoint: &str) -> zmq::Socket {
    let dealer = context.socket(zmq::DEALER).unwrap();
    connect(&dealer, endpoint);
    dealer
}

fn connect(dealer: &zmq::Socket, endpoint: &str) {
    dealer.set_linger(0).unwrap();
    dealer.set_rcvtimeo(DEADLINE_MS).unwrap();
    dealer.set_sndtimeo(DEADLINE_MS).unwrap();
    dealer.connect(endpoint).unwrap();
}

/// Registers a 0.1 worker, and waits until that is acknowledged.
pub(crate) fn worker(dealer: zmq::Socket, service: &str) -> zmq::Socket {
    dealer.send_multipart(["", "MDPW01", "\x01", service], 0).unwrap();
    assert_eq!(dealer.recv_multipart(0).unwrap(), [&b""[..], b"MDPW01", b"\x04"]);
    dealer
}

/// Asks a page of the management interface.
pub(crate) fn page(client: &zmq::Socket, page: &str) -> Value {
    client.send_multipart(["", "MDPC01", page, ""], 0).unwrap();
    let [_, _, name, code, json] = <[Vec<u8>; 5]>::try_from(client.recv_multipart(0).unwrap())
        .unwrap_or_else(|frames| panic!("{frames:?}"));
    assert_eq!((name.as_slice(), code.as_slice()), (page.as_bytes(), &b"200"[..]));
    serde_json::from_slice(&json).unwrap()
}

/// The next message that is no heartbeat.
pub(crate) fn next_command(worker: &zmq::Socket) -> Vec<Vec<u8>> {
    loop {
        let frames = worker.recv_multipart(0).unwrap();
        if frames.get(2).map(Vec::as_slice) != Some(b"\x04") {
            return frames;
        }
    }
}

/// The client address and the body of the next request of a 0.1 worker.
pub(crate) fn next_request(worker: &zmq::Socket) -> (Vec<u8>, Vec<u8>) {
    let frames = next_command(worker);
    let [empty, header, command, client, delimiter, body] =
        <[Vec<u8>; 6]>::try_from(frames).unwrap_or_else(|frames| panic!("{frames:?}"));
    assert_eq!(
        (empty.len(), header.as_slice(), command.as_slice()),
        (0, &b"MDPW01"[..], &b"\x02"[..])
    );
    assert!(delimiter.is_empty());
    (client, body)
}

pub(crate) fn reply(worker: &zmq::Socket, client: &[u8], body: &[u8]) {
    worker.send_multipart([&b""[..], b"MDPW01", b"\x03", client, b"", body], 0).unwrap();
}

pub(crate) fn request(client: &zmq::Socket, service: &str, body: &[u8]) {
    client.send_multipart([&b""[..], b"MDPC01", service.as_bytes(), body], 0).unwrap();
}

/// The body of the next 0.1 reply.
pub(crate) fn next_reply(client: &zmq::Socket) -> Vec<u8> {
    let frames = client.recv_multipart(0).unwrap();
    let [_, header, _, body] =
        <[Vec<u8>; 4]>::try_from(frames).unwrap_or_else(|frames| panic!("{frames:?}"));
    assert_eq!(header, b"MDPC01");
    body
}

/// Answers requests with their own bodies, up to the one whose body is `stop`.
pub(crate) fn echo_until_stop(worker: &zmq::Socket) {
    loop {
        let (client, body) = next_request(worker);
        reply(worker, &client, &body);
        if body == b"stop" {
            return;
        }
    }
}

/// Answers so many requests with their own bodies; heartbeats go by.
pub(crate) fn echo(worker: &zmq::Socket, count: usize) {
    for _ in 0..count {
        let (client, body) = next_request(worker);
        reply(worker, &client, &body);
    }
}
