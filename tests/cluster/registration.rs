//! A registration that was acknowledged is seen on every node at once, and so is its end.

use std::time::{Duration, Instant};

use cluster_tests::{Asker, Code, Durations, RawWorker, TestCluster, Version, scale};

use crate::{askers, assert_everywhere, everywhere, machine, random, register};

use Code::{Found, NotFound};

/// How long after DISCONNECT a service may be found at most, in 99 of 100 cases. The target is
/// 100 ms; this leaves room for a machine that does other work.
const REMOVED_WITHIN: Duration = Duration::from_millis(500);

/// How long it may take in any case.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(5);

/// How many names are used in turn.
const SERVICES: usize = 40;

/// One worker of each version at each node.
fn workers(cluster: &TestCluster) -> Vec<[RawWorker; 2]> {
    let of = |node| Version::BOTH.map(|version| RawWorker::connect(node, version));
    cluster.nodes().iter().map(of).collect()
}

/// Takes leave and asks until no node finds the service. Once a node says so, every later question
/// must get the same answer, on any node.
fn remove(worker: &RawWorker, askers: &mut [Asker], service: &str) -> Duration {
    let started_at = Instant::now();
    worker.disconnect();
    let mut was_gone = false;
    while started_at.elapsed() < REMOVAL_PATIENCE {
        let codes = everywhere(askers, service);
        let gone = codes.iter().filter(|code| **code == Some(NotFound)).count();
        if gone == codes.len() {
            return started_at.elapsed();
        }
        assert!(!was_gone, "{service} was gone and is back: {codes:?}");
        assert!(codes.iter().flatten().all(|code| code.is_certain()), "{service}: {codes:?}");
        was_gone = gone > 0;
    }
    panic!("{service} is found {REMOVAL_PATIENCE:?} after its worker left");
}

/// CL-02, CL-03: a registration is seen on every node at once, and so is its end.
#[test]
fn registration_is_seen_by_every_node_at_once() {
    let _machine = machine();
    let mut random = random();
    let cluster = TestCluster::start(&[]);
    let (mut askers, workers) = (askers(&cluster), workers(&cluster));
    let mut removals = Durations::default();
    for round in 0..scale().pick(500, 10_000) {
        let service = format!("service-{}", round % SERVICES);
        let node = random.usize(0..workers.len());
        let mut worker = &workers[node][random.usize(0..2)];

        worker.ready(&service);
        worker.expect_heartbeat();
        assert_everywhere(&mut askers, &service, Found);

        // Sometimes another worker takes over before the first one leaves.
        if random.u8(0..4) == 0 {
            let other = &workers[(node + 1) % workers.len()][random.usize(0..2)];
            other.ready(&service);
            other.expect_heartbeat();
            worker.disconnect();
            assert_everywhere(&mut askers, &service, Found);
            worker.settle();
            assert_everywhere(&mut askers, &service, Found);
            worker = other;
        }

        removals.add(remove(worker, &mut askers, &service));
    }
    println!("DISCONNECT to 404 on every node: {removals}");
    assert!(removals.percentile(99) <= REMOVED_WITHIN, "{removals}");
}

/// CL-05: one of several workers leaves.
#[test]
fn service_with_workers_on_all_nodes_is_found_until_the_last_one_leaves() {
    let _machine = machine();
    let cluster = TestCluster::start(&[]);
    let mut askers = askers(&cluster);
    let workers = [0, 1, 2].map(|node| register(&cluster, node, "echo"));
    let [first, second, last] = &workers;
    for worker in [first, second] {
        worker.disconnect();
        worker.settle();

        for _ in 0..50 {
            assert_everywhere(&mut askers, "echo", Found);
        }
    }

    let took = remove(last, &mut askers, "echo");
    assert!(took < REMOVAL_PATIENCE);
}

/// CL-04: a worker expires.
#[test]
fn silent_worker_is_gone_on_every_node() {
    let _machine = machine();
    // 300 ms of silence.
    let cluster = TestCluster::start(&[("broker.heartbeat_interval", "100ms")]);
    let mut askers = askers(&cluster);
    let worker = register(&cluster, 0, "echo");
    let registered_at = Instant::now();
    assert_everywhere(&mut askers, "echo", Found);

    for asker in &mut askers {
        asker.wait_for("echo", NotFound, Duration::from_secs(2));
    }

    println!("a silent worker is gone after {:?}", registered_at.elapsed());
    worker.expect_disconnect_after_heartbeats();
}
