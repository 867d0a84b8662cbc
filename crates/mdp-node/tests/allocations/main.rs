#![cfg(test)]
//! What a request and its reply allocate on their way through a node, from the socket to the socket.
//!
//! The peers are plain sockets with buffers that are made before anything counts, so that what this
//! process allocates is what the node does.

use std::{
    alloc::System,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use mdp_node::{Node, NodeConfig};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const DEADLINE: Duration = Duration::from_secs(20);
/// What is not counted: queues and buffers grow to the size that they keep.
const WARM_UP: u32 = 500;
const REQUESTS: u32 = 2_000;
/// Where the token of a request is, and how long it is: behind an empty frame, the header and a
/// command, each with two bytes in front, and its own two.
const TOKEN_AT: usize = 2 + (2 + 6) + (2 + 1) + 2;
const TOKEN_BYTES: usize = 16;

/// One peer, and room for what it sends and gets.
struct Peer {
    stream: TcpStream,
    sends: Vec<u8>,
    gets: Vec<u8>,
}

impl Peer {
    fn connect(node: &Node) -> Self {
        let address = node.endpoint().to_string();
        let mut stream = TcpStream::connect(address.trim_start_matches("tcp://")).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut greeting = [0; 64];
        (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
        greeting[12..16].copy_from_slice(b"NULL");
        stream.write_all(&greeting).unwrap();
        stream.write_all(b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER").unwrap();
        stream.read_exact(&mut greeting).unwrap();
        let mut ready = [0; 2];
        stream.read_exact(&mut ready).unwrap();
        stream.read_exact(&mut vec![0; usize::from(ready[1])]).unwrap();
        Self { stream, sends: Vec::new(), gets: Vec::new() }
    }

    fn send(&mut self) {
        self.stream.write_all(&self.sends).unwrap();
    }

    fn receive(&mut self) {
        self.stream.read_exact(&mut self.gets).unwrap();
    }
}

/// A message as it is on the wire.
fn message(frames: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        let more = u8::from(index + 1 < frames.len());
        match u8::try_from(frame.len()) {
            Ok(length) => bytes.extend([more, length]),
            Err(_) => {
                bytes.push(more | 2);
                bytes.extend(u64::try_from(frame.len()).unwrap().to_be_bytes());
            }
        }
        bytes.extend_from_slice(frame);
    }
    bytes
}

/// How much is allocated for each request with a body of this size.
fn allocations(body_bytes: usize) -> f64 {
    let mut config = NodeConfig::new("node-1".parse().unwrap());
    config.bind = vec!["tcp://127.0.0.1:0".to_owned()];
    // No heartbeat comes in between.
    config.settings.service.heartbeat_interval = Duration::from_secs(100);
    let node = Node::start(config).unwrap();
    let (mut worker, mut client) = (Peer::connect(&node), Peer::connect(&node));
    worker.sends = message(&[b"", b"MDPW01", b"\x01", b"echo"]);
    worker.send();
    let acknowledged = message(&[b"", b"MDPW01", b"\x04"]);
    worker.gets = vec![0; acknowledged.len()];
    worker.receive();
    assert_eq!(worker.gets, acknowledged);

    let body = vec![b'x'; body_bytes];
    let token = [0; TOKEN_BYTES];
    client.sends = message(&[b"", b"MDPC01", b"echo", &body]);
    client.gets.clone_from(&client.sends);
    worker.sends = message(&[b"", b"MDPW01", b"\x03", &token, b"", &body]);
    worker.gets.clone_from(&worker.sends);
    let mut ask = |count: u32| {
        for _ in 0..count {
            client.send();
            worker.receive();
            let token = TOKEN_AT..TOKEN_AT + TOKEN_BYTES;
            worker.sends[token.clone()].copy_from_slice(&worker.gets[token]);
            worker.send();
            client.receive();
        }
    };

    ask(WARM_UP);
    let region = Region::new(ALLOCATOR);
    ask(REQUESTS);
    let change = region.change();

    assert_eq!(client.gets, client.sends);
    let allocated = u32::try_from(change.allocations + change.reallocations).unwrap();
    f64::from(allocated) / f64::from(REQUESTS)
}

/// A guard: what was measured, and a twentieth.
#[test]
fn request_and_its_reply_allocate_no_more_than_they_did() {
    let measured = [(64, 3.0), (16 * 1_024, 7.0)];

    let allocations = measured.map(|(body_bytes, _)| allocations(body_bytes));

    for ((body_bytes, before), now) in measured.into_iter().zip(allocations) {
        let is_kept = now <= before * 1.05;
        assert!(
            is_kept,
            "{body_bytes} bytes: {now} allocations a request, not {before}; {allocations:?}"
        );
    }
}
