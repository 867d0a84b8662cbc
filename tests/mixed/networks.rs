//! Addresses by network, told by nodes of several versions.

use std::{net::IpAddr, time::Duration};

use cluster_tests::{ClusterNode, TestCluster, endpoints_told, last_program, wait_until};

use crate::{
    Release::{self, Last, Next, This},
    cluster_of, machine,
};

/// How long nodes may take to tell each other their addresses when they are ready.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// Where the client connects from.
const CLIENT: [u8; 4] = [127, 0, 0, 1];

/// Gives a node an address for the client's network, if its release knows the key. A release of before
/// does not start with it.
fn set_networks(node: &mut ClusterNode, release: Release) -> String {
    let own = format!("tcp://{}.inside:1", node.name());
    match release {
        This | Next => {
            node.set("broker.advertise_for", &format!("127.0.0.0/8={own}"));
            own
        }
        Last => {
            node.unset("broker.advertise_for");
            format!("tcp://127.0.0.1:{}", node.ports().broker)
        }
    }
}

/// Nodes of these versions, and the addresses that the client is to be told.
fn cluster_with_networks(releases: [Release; 3]) -> (TestCluster, Vec<String>) {
    let mut cluster = cluster_of(releases);
    let nodes = cluster.nodes_mut().iter_mut().zip(releases);
    let told = nodes.map(|(node, release)| set_networks(node, release)).collect();
    (cluster.started(), told)
}

#[track_caller]
fn expect_told(node: &ClusterNode, expected: &[String]) {
    let what = format!("{} tells {expected:?}", node.name());
    wait_until(&what, TOLD_WITHIN, || {
        let told = endpoints_told(node, IpAddr::from(CLIENT)).into_iter();
        told.map(|(_, endpoint)| endpoint).eq(expected.iter().cloned())
    });
}

#[test]
fn nodes_of_this_version_and_the_next_tell_each_others_addresses() {
    let _machine = machine();
    let (cluster, told) = cluster_with_networks([This, Next, Next]);

    cluster.nodes().iter().for_each(|node| expect_told(node, &told));
}

/// What the last release itself tells is its own matter: 0.1.0 tells one address of each node.
#[test]
fn node_of_the_last_release_is_told_by_its_one_address() {
    if last_program().is_none() {
        return;
    }
    let _machine = machine();
    let (mut cluster, mut told) = cluster_with_networks([This, Last, This]);
    let ask = |cluster: &TestCluster, told: &[String]| {
        [0, 2].iter().for_each(|node| expect_told(cluster.node(*node), told));
        assert_eq!(endpoints_told(cluster.node(1), IpAddr::from(CLIENT)).len(), 3);
    };
    ask(&cluster, &told);

    // Forth and back.
    for release in [This, Last] {
        cluster.node_mut(1).kill();
        release.install(cluster.node_mut(1));
        told[1] = set_networks(cluster.node_mut(1), release);
        cluster.node_mut(1).start();
        cluster.wait_until_ready();
        ask(&cluster, &told);
    }
}
