//! Nodes leave on purpose, or without a majority.

use std::time::{Duration, Instant};

use cluster_tests::{Asker, Code, PATIENCE, TestCluster, Version, Watch};
use rustix::process::Signal;

use crate::{
    NODE_TIMEOUT, askers, assert_everywhere, assert_left_alone, part_of_the_machine, register,
};

/// How long a node with nothing to finish may take to leave.
const LEFT_WITHIN: Duration = Duration::from_secs(8);

/// How long its services may be found after it has left.
const GONE_WITHIN: Duration = Duration::from_secs(1);

/// How long others may wait for an answer while the leader leaves.
const GAP_MAX: Duration = Duration::from_secs(1);

/// How often a client asks.
const PERIOD: Duration = Duration::from_millis(5);

fn leave_and_come_back(cluster: &mut TestCluster, victim: usize) {
    let others: Vec<usize> = cluster.others(&[victim]).collect();
    let kept = register(cluster, others[0], "kept");
    let own = register(cluster, victim, "own");
    let watch = Watch::start(cluster.node(others[1]), &["kept"], PERIOD);

    cluster.node(victim).signal(Signal::TERM);
    own.expect_disconnect();
    let code = cluster.node_mut(victim).wait_for_exit(LEFT_WITHIN);
    let left_at = Instant::now();

    assert_eq!(code, Some(0), "{}", cluster.node(victim).log());
    for node in others {
        let mut asker = Asker::connect(cluster.node(node));
        asker.wait_for("own", Code::NotFound, GONE_WITHIN);
    }
    println!("gone {:?} after the end of the process", left_at.elapsed());
    let (sightings, unanswered) = watch.finish();
    let unsure: Vec<_> = sightings.iter().filter(|seen| seen.code != Code::Found).collect();
    assert!(unsure.is_empty() && unanswered == 0, "{unsure:?}, {unanswered} unanswered");
    let slowest = sightings.iter().map(cluster_tests::Sighting::took).max().unwrap_or_default();
    println!("slowest answer meanwhile: {slowest:?}");
    assert!(slowest <= GAP_MAX, "{slowest:?}");
    assert_left_alone(&kept);
    cluster.node_mut(victim).start();
    cluster.wait_until_ready();
    assert_everywhere(&mut askers(cluster), "kept", Code::Found);
    kept.disconnect();
}

#[test]
fn node_that_drains_is_gone_at_once_and_nobody_waits() {
    let _machine = part_of_the_machine();
    let mut cluster = TestCluster::start(&[]);

    let follower = cluster.follower();
    leave_and_come_back(&mut cluster, follower);
    let leader = cluster.leader();
    leave_and_come_back(&mut cluster, leader);
}

#[test]
fn all_nodes_drain_at_the_same_time() {
    let _machine = part_of_the_machine();
    let mut cluster = TestCluster::start(&[]);
    let workers = [0, 1, 2].map(|node| register(&cluster, node, "echo"));

    cluster.nodes().iter().for_each(|node| node.signal(Signal::TERM));

    for node in cluster.nodes_mut() {
        assert_eq!(node.wait_for_exit(LEFT_WITHIN), Some(0), "{}", node.log());
    }
    workers.iter().for_each(cluster_tests::RawWorker::expect_disconnect);
    drop(workers);
    cluster.nodes_mut().iter_mut().for_each(cluster_tests::ClusterNode::start);
    cluster.wait_until_ready();
    assert_everywhere(&mut askers(&cluster), "echo", Code::NotFound);
}

#[test]
fn minority_that_shall_fail_lets_its_workers_go() {
    let _machine = part_of_the_machine();
    let mut cluster = TestCluster::start(&[("cluster.minority", "fail")]);
    let worker = register(&cluster, 0, "echo");
    let stopped_at = Instant::now();
    cluster.node_mut(1).kill();
    cluster.node_mut(2).kill();

    let message = worker.socket.recv_within(PATIENCE);

    println!("the worker was let go after {:?}", stopped_at.elapsed());
    assert_eq!(message, Some(Version::V01.disconnect()));
    assert!(stopped_at.elapsed() > NODE_TIMEOUT / 2, "{:?}", stopped_at.elapsed());
}

/// The level that says that the process ends, or a part that it cannot do without.
const ERROR: &str = " ERROR ";

#[test]
fn clean_drains_log_no_error() {
    let _machine = part_of_the_machine();
    let mut cluster = TestCluster::start(&[]);

    for round in 0..10 {
        // A leader every other time: then the others call the node that ends.
        let victim = if round % 2 == 0 { cluster.leader() } else { cluster.follower() };
        cluster.node(victim).signal(Signal::TERM);
        let code = cluster.node_mut(victim).wait_for_exit(LEFT_WITHIN);
        assert_eq!(code, Some(0), "{}", cluster.node(victim).log());
        cluster.node_mut(victim).start();
        cluster.wait_until_ready();
    }
    cluster.nodes().iter().for_each(|node| node.signal(Signal::TERM));
    for node in cluster.nodes_mut() {
        assert_eq!(node.wait_for_exit(LEFT_WITHIN), Some(0), "{}", node.log());
        let log = node.log();
        let errors: Vec<&str> = log.lines().filter(|line| line.contains(ERROR)).collect();
        assert!(errors.is_empty() && log.contains(" INFO "), "{errors:#?}");
    }
}
