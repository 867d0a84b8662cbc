//! More connections than the system has files for.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use cluster_tests::{
    NodeProcess, PATIENCE, QUIET, RawClient, RawSocket, RawTcp, RawWorker, Version, free_port,
    hold_for, http_get, wait_until,
};

use crate::machine;

/// How many open files the node may have.
const OPEN_FILES: u32 = 64;
/// How many peers connect.
const PEERS: usize = 90;
/// How long the node is looked at.
const LOOKED_AT_FOR: Duration = Duration::from_secs(3);
/// A thread that spins has a whole core.
const CPU_SHARE_MAX: f64 = 0.3;

#[test]
fn node_without_a_file_left_serves_those_it_has_and_its_probes_and_rests() {
    let _machine = machine();
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let settings = [QUIET, ("admin.bind", &admin.to_string())];
    let node = NodeProcess::start_with_open_files(&settings, OPEN_FILES);
    let worker = RawWorker::register(&node, Version::V01, "echo");
    let client = RawClient::connect(&node, Version::V02);
    client.settle();

    // The kernel takes them all; the node takes as many as it has room for, and of those that say
    // nothing only a few.
    let silent: Vec<_> = (0..PEERS).map(|_| RawTcp::connect(&node)).collect();
    let context = zmq::Context::new();
    let dealer = || RawSocket::connect(&node, &context, zmq::DEALER, |_| Ok(()));
    let peers: Vec<_> = (0..PEERS).map(|_| dealer()).collect();
    let _full = node.wait_for_log(|line| line.contains("no more connections are taken"));

    let (started, cpu_before) = (Instant::now(), node.cpu_time());
    hold_for("probes and those who are there are served", LOOKED_AT_FOR, || {
        client.request("echo", "body");
        let address = worker.expect_work_after_heartbeats("body");
        worker.answer(&address, "answer");
        client.expect_reply("echo", "answer");
        http_get(admin, "/livez").is_ok_and(|page| page.status == 200)
    });
    let share = (node.cpu_time() - cpu_before).as_secs_f64() / started.elapsed().as_secs_f64();
    assert!(share < CPU_SHARE_MAX, "the node uses {share:.2} of a core");

    // There is room again when they are gone, for everybody.
    drop((silent, peers));
    let late = RawClient::connect(&node, Version::V01);
    late.settle();
    wait_until("a probe", PATIENCE, || http_get(admin, "/livez").is_ok());
}
