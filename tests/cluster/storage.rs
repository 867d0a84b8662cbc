//! The disk of a node fails under it: it stops with a message, and the cluster goes on.

use std::time::{Duration, Instant};

use cluster_tests::{
    Asker, ClusterNode, Code, FailingCalls, RawWorker, SmallDisk, TestCluster, Version,
    is_without_root,
};

use crate::{askers, assert_everywhere, part_of_the_machine, register};

/// The small disk of one node.
const DISK_BYTES: u64 = 32 << 20;

/// How long it may take until a node needs more room than it has.
const FULL_WITHIN: Duration = Duration::from_secs(60);

/// How long a node may live after a write has failed.
const STOPS_WITHIN: Duration = Duration::from_secs(5);

/// Registers and leaves under long names until the node has ended.
fn change_until_ended(cluster: &mut TestCluster, at: usize, victim: usize, patience: Duration) {
    let worker = RawWorker::connect(cluster.node(at), Version::V01);
    let deadline = Instant::now() + patience;
    let mut number = 0;
    while cluster.node_mut(victim).is_running() {
        assert!(Instant::now() < deadline, "the node lives on after {number} changes");
        worker.ready(format!("{number:0200}"));
        worker.expect_heartbeat();
        worker.disconnect();
        number += 1;
    }
    println!("ended after {number} changes");
}

/// The node must have ended by itself, with a message that names its directory and the reason.
#[track_caller]
fn assert_stopped(node: &mut ClusterNode, data_dir: &str, reason: &str) {
    let code = node.wait_for_exit(STOPS_WITHIN);
    let log = node.log();
    assert!(code.is_some_and(|code| code != 0), "exit code {code:?}: {log}");
    let message = log.lines().rfind(|line| line.contains(reason));
    let message = message.unwrap_or_else(|| panic!("no message with {reason:?}: {log}"));
    println!("exit code {code:?}: {message}");
    assert!(message.contains("data directory") || message.contains(data_dir), "{message}");
}

#[test]
fn full_disk_stops_the_node_and_the_cluster_goes_on() {
    let _machine = part_of_the_machine();
    if is_without_root() {
        return;
    }
    let mut cluster = TestCluster::unstarted(&[]);
    let data_dir = cluster.node(2).data_dir();
    let disk = SmallDisk::mount(&data_dir, DISK_BYTES);
    cluster.nodes_mut().iter_mut().for_each(ClusterNode::start);
    cluster.wait_until_ready();
    let _worker = register(&cluster, 0, "echo");

    disk.fill();
    change_until_ended(&mut cluster, 0, 2, FULL_WITHIN);

    let data_dir_text = data_dir.display().to_string();
    assert_stopped(cluster.node_mut(2), &data_dir_text, "No space left on device");
    for node in [0, 1] {
        let mut asker = Asker::connect(cluster.node(node));
        asker.wait_for("echo", Code::Found, STOPS_WITHIN);
    }

    // With room again it goes on by itself.
    std::fs::remove_file(data_dir.join("ballast")).unwrap();
    cluster.node_mut(2).start();
    cluster.wait_until_ready();
    assert_everywhere(&mut askers(&cluster), "echo", Code::Found);
    cluster.kill_all();
}

#[test]
fn failing_fsync_stops_the_leader_and_the_cluster_goes_on() {
    let _machine = part_of_the_machine();
    if is_without_root() {
        return;
    }
    let mut cluster = TestCluster::start(&[]);
    let victim = cluster.leader();
    let at = cluster.follower();
    let _worker = register(&cluster, at, "echo");

    let pid = cluster.node(victim).pid();
    let failing = FailingCalls::inject(pid, "fsync,fdatasync", "EIO");
    change_until_ended(&mut cluster, at, victim, FULL_WITHIN);

    let data_dir = cluster.node(victim).data_dir().display().to_string();
    assert_stopped(cluster.node_mut(victim), &data_dir, "Input/output error");
    drop(failing);
    for node in cluster.others(&[victim]) {
        let mut asker = Asker::connect(cluster.node(node));
        asker.wait_for("echo", Code::Found, STOPS_WITHIN);
    }
    cluster.node_mut(victim).start();
    cluster.wait_until_ready();
    assert_everywhere(&mut askers(&cluster), "echo", Code::Found);
}
