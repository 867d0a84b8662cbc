//! A cluster that nobody uses.

use std::time::{Duration, Instant};

use cluster_tests::{ClusterNode, TestCluster, is_release, look_for};

use crate::{askers, machine, register};

/// How long is measured.
const MEASURED_FOR: Duration = Duration::from_secs(10);

/// How much of one core a node of an optimised build may use. Usual is 1.6 to 2.3 on two shared cores, of
/// which consensus has nearly all; a timing is never held tighter than 1.6 times that.
const CPU_PERCENT_MAX: f64 = 3.5;

/// How long a cluster that has just started may have something to do.
const SETTLES_WITHIN: Duration = Duration::from_secs(3);

/// How often is measured: what else the machine does can only add to it.
const WINDOWS: usize = 3;

#[test]
fn idle_cluster_costs_little_and_its_log_does_not_grow() {
    let _machine = machine();
    let cluster = TestCluster::start(&[]);
    let _workers = [0, 1, 2].map(|node| register(&cluster, node, "echo"));
    let _askers = askers(&cluster);
    assert!(look_for(SETTLES_WITHIN, || None::<()>).is_none());
    cluster.wait_until_level();
    let before = cluster.node(0).expect_view();

    let mut least = f64::INFINITY;
    for _ in 0..WINDOWS {
        least = least.min(dearest_node(&cluster));
        if least < CPU_PERCENT_MAX {
            break;
        }
    }

    assert!(least < CPU_PERCENT_MAX || !is_release(), "a node uses {least:.2} % of a core");
    for node in cluster.nodes() {
        let after = node.expect_view();
        assert_eq!(after.committed_index, before.committed_index, "the log of {}", node.name());
        assert_eq!((after.term, after.leader), (before.term, before.leader.clone()));
    }
}

/// What the node that costs most uses of one core, in percent, while a window passes.
fn dearest_node(cluster: &TestCluster) -> f64 {
    let before: Vec<Duration> = cluster.nodes().iter().map(ClusterNode::cpu_time).collect();
    let started_at = Instant::now();
    assert!(look_for(MEASURED_FOR, || None::<()>).is_none());
    let measured_for = started_at.elapsed();
    let leader = cluster.node(cluster.leader()).name().to_owned();
    let mut dearest = 0.0_f64;
    for (node, before) in cluster.nodes().iter().zip(before) {
        let used = node.cpu_time() - before;
        let percent = used.as_secs_f64() / measured_for.as_secs_f64() * 100.0;
        let role = if node.name() == leader { "leader" } else { "follower" };
        println!("{} ({role}): {percent:.2} % of a core", node.name());
        dearest = dearest.max(percent);
    }
    dearest
}
