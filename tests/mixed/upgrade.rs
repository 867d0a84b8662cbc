//! The cluster's version: it rises after an upgrade, and what is older is refused from then on.

use std::{process::Command, time::Duration};

use cluster_tests::{ClusterNode, RawClient, RawWorker, TestCluster, Version, program, wait_until};
use serde_json::Value;

use crate::{
    Release::{self, Next, This},
    machine,
};

/// How long a change of the version may take to be known everywhere.
const KNOWN_WITHIN: Duration = Duration::from_secs(10);
/// How long a program that is refused may take to end.
const REFUSED_WITHIN: Duration = Duration::from_secs(10);
/// What a program that is too old ends with.
const EXIT_VERSION: i32 = 5;

fn cluster(releases: [Release; 3], settle: &str) -> TestCluster {
    let mut cluster = TestCluster::unstarted(&[("upgrade.settle", settle)]);
    for (node, release) in cluster.nodes_mut().iter_mut().zip(releases) {
        release.install(node);
    }
    cluster.started()
}

/// What `majordomo upgrade ACTION` prints, or says when it is refused.
fn try_upgrade(node: &ClusterNode, action: &str) -> Result<Value, String> {
    let mut command = Command::new(program());
    command.args(["upgrade", action, "--json", "--admin", &node.admin_url()]);
    let output = command.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}

fn upgrade(node: &ClusterNode, action: &str) -> Value {
    try_upgrade(node, action).unwrap()
}

fn state(node: &ClusterNode) -> (String, String) {
    let page = upgrade(node, "status");
    let text = |key: &str| page[key].as_str().unwrap_or("none").to_owned();
    (text("cluster_version"), text("state"))
}

#[track_caller]
fn wait_until_all_are_at(cluster: &TestCluster, release: Release, wanted: &str) {
    wait_until(&format!("all know {release:?}, {wanted}"), KNOWN_WITHIN, || {
        let known = (release.version().to_owned(), wanted.to_owned());
        cluster.nodes().iter().all(|node| state(node) == known)
    });
}

fn replace(cluster: &mut TestCluster, node: usize, release: Release) {
    cluster.node_mut(node).kill();
    release.install(cluster.node_mut(node));
    cluster.node_mut(node).start();
    cluster.wait_until_ready();
}

/// The format of the snapshot that a node makes now.
fn snapshot_format(node: &ClusterNode) -> u8 {
    let file = node.directory().join("snapshot.bin");
    let mut command = Command::new(program());
    command.args(["snapshot", "--admin", &node.admin_url(), "--output"]).arg(&file);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let format = std::fs::read(&file).unwrap()[1];
    std::fs::remove_file(file).unwrap();
    format
}

/// Starts a node with this version, which is refused.
fn is_refused(node: &mut ClusterNode) -> String {
    This.install(node);
    node.start();
    assert_eq!(node.wait_for_exit(REFUSED_WITHIN), Some(EXIT_VERSION), "{}", node.log());
    node.log()
}

fn serves(cluster: &TestCluster, origin: usize, owner: usize) {
    let worker = RawWorker::connect(cluster.node(owner), Version::V01);
    worker.ready("echo");
    worker.expect_heartbeat();
    let client = RawClient::connect(cluster.node(origin), Version::V01);
    client.request("echo", "hello");
    worker.serve("hello", "hello");
    client.expect_reply("echo", "hello");
    worker.disconnect();
}

#[test]
fn version_rises_by_itself_and_older_programs_are_refused_afterwards() {
    let _machine = machine();
    let mut cluster = cluster([This, This, This], "3s");
    wait_until_all_are_at(&cluster, This, "current");
    for (node, wanted) in [(0, "mixed"), (1, "mixed")] {
        replace(&mut cluster, node, Next);
        wait_until_all_are_at(&cluster, This, wanted);
        assert_eq!(snapshot_format(cluster.node(node)), 1);
    }

    replace(&mut cluster, 2, Next);
    wait_until_all_are_at(&cluster, Next, "current");
    assert_eq!(snapshot_format(cluster.node(0)), 2);

    // Its log, or its snapshot, holds what only the next version reads.
    cluster.node_mut(2).kill();
    let log = is_refused(cluster.node_mut(2));
    assert!(log.contains("0.2.0") || log.contains("newer"), "{log}");
    // An empty volume helps nobody: the leader refuses the program.
    cluster.node(2).lose_data();
    let log = is_refused(cluster.node_mut(2));
    assert!(log.contains("start version 0.2.0 or newer"), "{log}");
    let mut fourth = cluster.another_node("node-4");
    let log = is_refused(&mut fourth);
    assert!(log.contains("start version 0.2.0 or newer"), "{log}");
    serves(&cluster, 0, 1);

    // The right program gets the snapshot in the new format.
    Next.install(cluster.node_mut(2));
    cluster.node_mut(2).start();
    cluster.wait_until_ready();
    serves(&cluster, 2, 0);
}

#[test]
fn held_version_lets_nodes_go_back_until_it_is_made_final() {
    let _machine = machine();
    let mut cluster = cluster([This, This, This], "1s");
    wait_until_all_are_at(&cluster, This, "current");
    upgrade(cluster.node(1), "hold");
    for node in 0..3 {
        replace(&mut cluster, node, Next);
    }
    wait_until_all_are_at(&cluster, This, "held");

    replace(&mut cluster, 0, This);
    let refused = try_upgrade(cluster.node(2), "finalize").unwrap_err();
    assert!(refused.contains("node-1 still run version 0.1.0"), "{refused}");
    serves(&cluster, 0, 2);
    replace(&mut cluster, 0, Next);
    wait_until_all_are_at(&cluster, This, "held");

    upgrade(cluster.node(0), "finalize");
    wait_until_all_are_at(&cluster, Next, "current");
}

#[test]
fn leader_of_either_version_serves_followers_of_the_other() {
    let _machine = machine();
    for releases in [[Next, This, This], [This, Next, Next]] {
        let cluster = cluster(releases, "10m");
        for leader in 0..3 {
            let name = cluster.node(leader).name().to_owned();
            let mut command = Command::new(program());
            command.args(["leader", "transfer", &name, "--admin", &cluster.node(0).admin_url()]);
            assert!(command.output().unwrap().status.success());
            wait_until("it leads", KNOWN_WITHIN, || cluster.leader() == leader);
            serves(&cluster, leader, (leader + 1) % 3);
            serves(&cluster, (leader + 1) % 3, leader);
            assert_eq!(snapshot_format(cluster.node(leader)), 1);
        }
    }
}
