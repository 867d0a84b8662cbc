//! The node is small and starts at once.

use std::time::Duration;

use cluster_tests::{NodeProcess, RawClient, Version, is_release};

use crate::{MIB, machine};

/// Starts of which the quickest counts: the machine has other things to do.
const STARTS: usize = 5;

#[test]
fn node_serves_soon_after_its_start() {
    let _machine = machine();
    let allowed = Duration::from_millis(if is_release() { 100 } else { 1_000 });

    let quickest = (0..STARTS).map(|_| NodeProcess::start(&[]).started_in()).min().unwrap();

    println!("the quickest of {STARTS} starts: {quickest:?}");
    assert!(quickest < allowed, "the quickest of {STARTS} starts took {quickest:?}");
}

#[test]
fn idle_node_is_small() {
    let _machine = machine();
    let node = NodeProcess::start(&[]);

    RawClient::connect(&node, Version::V01).settle();

    let rss = node.rss_bytes();
    println!("idle: {} KiB", rss / 1_024);
    assert!(rss < 20 * MIB, "an idle node has {rss} bytes");
}
