#![cfg(test)]
//! Hostile and odd peers: whatever they do, the node lives, serves the others, and stays small.

mod binds;
mod bytes;
mod connections;
mod guide;
mod messages;
mod readers;
mod refused;
mod transport;

use std::time::{Duration, Instant};

use cluster_tests::{NodeProcess, PATIENCE, RawClient, RawWorker, Version, wait_until};

/// No peer of these tests may make the node larger than this.
const RSS_BYTES_MAX: u64 = 100 << 20;

/// How long one call of a well-behaved client may take while others misbehave.
const CALL_MAX: Duration = Duration::from_secs(5);

/// The node lives, is small, and serves a client that behaves.
#[track_caller]
fn assert_serves(node: &mut NodeProcess) {
    node.assert_alive();
    let worker = RawWorker::register(node, Version::V01, "well-behaved");
    let client = RawClient::connect(node, Version::V02);
    let started = Instant::now();
    for body in ["1", "2", "3"] {
        client.request("well-behaved", body);
        let address = worker.expect_work_after_heartbeats(body);
        worker.answer(&address, body);
        client.expect_reply("well-behaved", body);
    }
    assert!(started.elapsed() < CALL_MAX, "three calls took {:?}", started.elapsed());
    worker.disconnect();
    client.wait_for_lookup("well-behaved", "404");
    let rss = node.rss_bytes();
    assert!(rss < RSS_BYTES_MAX, "the node has {rss} bytes");
}

/// Waits until a node has counted so many for a reason, by its own `mmi.status`.
#[track_caller]
fn wait_for_count(node: &NodeProcess, reason: &str, count: usize) {
    let client = RawClient::connect(node, Version::V01);
    let wanted = format!("\"{reason}\":{count}");
    wait_until(&wanted, PATIENCE, || {
        client.request("mmi.status", "");
        let answer = client.socket.recv();
        String::from_utf8_lossy(answer.last().unwrap()).contains(&wanted)
    });
}

/// Random bytes that are the same in every run (xorshift).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> usize {
        usize::try_from(self.next() % end).unwrap()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.next().to_le_bytes()[0]).take(length).collect()
    }
}
