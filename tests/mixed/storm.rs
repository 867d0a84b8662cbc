//! Links with the last release under what makes a node late: very many registrations, and messages as long as
//! they may be. A node of the last release pings each connection every 300 ms, and closes one that does not
//! answer for a second.

use std::time::Instant;

use cluster_tests::{
    RawClient, RawTcp, RawWorker, Reachable as _, TestCluster, Version, last_program,
    raise_file_limit, scale, zmtp_frame,
};

use crate::{
    Release::{Last, This},
    cluster_of, machine, made_links,
};

/// Files of the test besides the connections.
const OTHER_FILES: u64 = 1_024;
/// How many services the workers share.
const SERVICES: usize = 1_000;
/// The longest body: what stands around it counts for `broker.max_message_bytes`, too.
const BODY_BYTES: usize = (16 << 20) - 1_024;
/// How many of those go each way.
const BODIES: usize = 4;

/// READY over 0.2.
fn ready(number: usize) -> Vec<u8> {
    let service = format!("storm-{}", number % SERVICES);
    let frames = [(&b"MDPW02"[..], true), (&b"\x01"[..], true), (service.as_bytes(), false)];
    frames.iter().flat_map(|(body, more)| zmtp_frame(body, *more)).collect()
}

/// Very many workers register at one node.
fn storm(cluster: &TestCluster, node: usize, count: usize) -> Vec<RawTcp> {
    let endpoint = cluster.node(node).endpoint();
    let mut workers: Vec<_> = (0..count).map(|_| RawTcp::dealer(endpoint.as_str())).collect();
    let began = Instant::now();
    for (number, worker) in workers.iter_mut().enumerate() {
        assert!(worker.send(&ready(number)));
    }
    let heartbeat = [zmtp_frame(b"MDPW02", true), zmtp_frame(b"\x05", false)].concat();
    workers.iter_mut().for_each(|worker| worker.read_until(&heartbeat));
    println!("{count} workers registered in {:?}", began.elapsed());
    workers
}

/// Requests and replies of the longest size, from clients of one node to a worker of another.
fn long_messages(cluster: &TestCluster, origin: usize, owner: usize) {
    let service = format!("long-{origin}-{owner}");
    let worker = RawWorker::connect(cluster.node(owner), Version::V01);
    worker.ready(&service);
    worker.expect_heartbeat();
    let client = RawClient::connect(cluster.node(origin), Version::V01);
    client.wait_for_lookup(&service, "200");
    let body = vec![b'x'; BODY_BYTES];
    for _ in 0..BODIES {
        client.request(&service, &body);
        worker.serve(&body, &body);
        client.expect_reply(&service, &body);
    }
    worker.disconnect();
}

#[test]
fn links_with_the_last_release_live_through_a_storm_of_registrations_and_the_longest_messages() {
    if last_program().is_none() {
        return;
    }
    let _machine = machine();
    let count = scale().pick(2_000, 10_000);
    raise_file_limit(u64::try_from(count).unwrap() + OTHER_FILES);
    let cluster = cluster_of([Last, This, This]).started();
    // Links are made before anything is asked for.
    long_messages(&cluster, 0, 1);
    let state = || {
        let links: Vec<u64> = cluster.nodes().iter().map(|node| made_links(node, 1)).collect();
        (cluster.term(), links)
    };
    let before = state();
    assert!(before.1.iter().all(|links| *links >= 4), "{before:?}");

    for node in [1, 0] {
        let workers = storm(&cluster, node, count);
        for (origin, owner) in [(0, 1), (1, 0), (2, 0)] {
            long_messages(&cluster, origin, owner);
        }
        drop(workers);
    }

    assert_eq!(state(), before, "a link was lost and made again, or there was an election");
}
