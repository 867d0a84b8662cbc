//! Workers of our own library spread over the nodes again after rolling restarts.

use std::{thread, time::Duration};

use cluster_tests::{AtEnd, Reachable, TestCluster, wait_until};
use mdp_client::{Request, StopHandle, Worker, WorkerOptions};
use rustix::process::Signal;

use crate::{machine, workers_at, workers_of};

const SERVICE: &str = "echo";

/// Workers, as many as a deployment may have replicas.
const WORKERS: usize = 12;

/// Connections of each of them, which choose their nodes independently: 72 in all. See
/// [`CROWDED_PER_CENT`].
const CONNECTIONS: usize = 6;

/// No node may have more than this part of the workers.
///
/// Each connection is at each of the three nodes with the probability of 1/3, so one of the nodes has 44
/// of 72 or more in 3 * P(Bin(72, 1/3) >= 44) < 5 of a million runs.
const CROWDED_PER_CENT: usize = 60;

const ROLLING_RESTARTS: usize = 3;

/// How often workers ask where they could go.
const REFRESH: Duration = Duration::from_secs(1);

/// How long a node may take to leave.
const LEFT_WITHIN: Duration = Duration::from_secs(22);

/// How long it may take until all workers are where they want to be.
const SPREAD_WITHIN: Duration = Duration::from_secs(20);

fn work(endpoints: Vec<String>, stop: &StopHandle) {
    let options = WorkerOptions::default()
        .endpoints(endpoints)
        .endpoints_refresh(REFRESH)
        .service(SERVICE.into())
        .concurrency(CONNECTIONS);
    Worker::run(options, |request: Request| request.frames, stop).unwrap();
}

fn counts(cluster: &TestCluster) -> Vec<usize> {
    (0..cluster.nodes().len()).map(|node| workers_at(cluster, node, SERVICE)).collect()
}

#[test]
fn no_node_is_crowded_or_without_workers_after_rolling_restarts() {
    let _machine = machine();
    let mut cluster = TestCluster::start(&[("broker.heartbeat_interval", "2500ms")]);
    let endpoints: Vec<String> = cluster.nodes().iter().map(Reachable::endpoint).collect();
    let stop = StopHandle::new();
    let total = WORKERS * CONNECTIONS;
    let is_spread = |counts: &[usize]| {
        counts.iter().sum::<usize>() == total
            && counts.iter().all(|count| *count > 0 && count * 100 <= total * CROWDED_PER_CENT)
    };
    let after = thread::scope(|scope| {
        let stop = &stop;
        let _ending = AtEnd::new(|| stop.stop());
        for _ in 0..WORKERS {
            let endpoints = endpoints.clone();
            scope.spawn(move || work(endpoints, stop));
        }
        for round in 0..ROLLING_RESTARTS {
            // As a StatefulSet does: the last one first.
            for node in (0..cluster.nodes().len()).rev() {
                wait_until("all workers are registered", SPREAD_WITHIN, || {
                    workers_of(&cluster, SERVICE) == total
                });
                cluster.node(node).signal(Signal::TERM);
                assert_eq!(cluster.node_mut(node).wait_for_exit(LEFT_WITHIN), Some(0));
                cluster.node_mut(node).start();
                cluster.wait_until_ready();
            }
            println!("{round}: {:?}", counts(&cluster));
        }
        wait_until("all workers are spread", SPREAD_WITHIN, || is_spread(&counts(&cluster)));
        counts(&cluster)
    });
    println!("in the end: {after:?}");
    assert_eq!(after.len(), 3);
}
