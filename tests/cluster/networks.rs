//! Clients of different networks need different addresses of the same nodes.

use std::{net::IpAddr, time::Duration};

use cluster_tests::{ClusterNode, TestCluster, endpoints_told, has_ipv6, wait_until};
use serde_json::{Value, json};

use crate::part_of_the_machine;

/// How long nodes may take to tell each other their addresses when they are ready.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// The value of `broker.advertise_for` of a node: an address for each of three networks.
fn networks(name: &str) -> String {
    format!("127.0.0.0/8=tcp://{name}.wide:1,127.0.0.2/32=tcp://{name}.near:2,::1/128={name}.six:6")
}

/// A cluster that listens on IPv6, too. The third node has one address for all clients.
fn cluster() -> TestCluster {
    let mut cluster = TestCluster::unstarted(&[]);
    for (index, node) in cluster.nodes_mut().iter_mut().enumerate() {
        let (name, port) = (node.name().to_owned(), node.ports().broker);
        node.set("broker.bind", &format!("tcp://*:{port}"));
        if index < 2 {
            node.set("broker.advertise_for", &networks(&name));
        }
    }
    cluster.started()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The address that stands for all clients.
fn usual(node: &ClusterNode) -> String {
    format!("tcp://127.0.0.1:{}", node.ports().broker)
}

/// Waits until every node tells a client that connects from there these addresses of the nodes.
#[track_caller]
fn expect_told(cluster: &TestCluster, from: &str, expected: &[String]) {
    let names = cluster.nodes().iter().map(|node| node.name().to_owned());
    let expected: Vec<(String, String)> = names.zip(expected.iter().cloned()).collect();
    for node in cluster.nodes() {
        let mut told = Vec::new();
        let what = format!("{} tells a client from {from} {expected:?}", node.name());
        wait_until(&what, TOLD_WITHIN, || {
            told = endpoints_told(node, address(from));
            told == expected
        });
    }
}

#[test]
fn clients_of_each_network_are_told_its_addresses_of_all_nodes() {
    let _machine = part_of_the_machine();
    let cluster = cluster();
    let third = usual(cluster.node(2));
    let of = |suffix: &str| {
        vec![format!("tcp://node-1.{suffix}"), format!("tcp://node-2.{suffix}"), third.clone()]
    };

    expect_told(&cluster, "127.0.0.1", &of("wide:1"));
    expect_told(&cluster, "127.0.0.2", &of("near:2"));
    expect_told(&cluster, "127.0.0.3", &of("wide:1"));
    if has_ipv6() {
        expect_told(&cluster, "::1", &of("six:6"));
    }

    // Every node shows the addresses of all.
    for node in cluster.nodes() {
        let page = node.page("/api/v1/status").unwrap();
        let status: Value = serde_json::from_str(&page.body).unwrap();
        let told = json!([
            { "from": "::1/128", "address": "tcp://node-2.six:6" },
            { "from": "127.0.0.2/32", "address": "tcp://node-2.near:2" },
            { "from": "127.0.0.0/8", "address": "tcp://node-2.wide:1" },
        ]);
        assert_eq!(status["nodes"][1]["client_networks"], told, "{}", node.name());
        assert_eq!(status["nodes"][2]["client_networks"], json!([]), "{}", node.name());
        assert_eq!(status["nodes"][1]["client_endpoint"], usual(cluster.node(1)).as_str());
    }
}

#[test]
fn node_that_starts_with_other_addresses_by_network_is_known_by_these() {
    let _machine = part_of_the_machine();
    let mut cluster = cluster();
    let usual: Vec<String> = cluster.nodes().iter().map(usual).collect();
    let [_, second, third] = <[String; 3]>::try_from(usual).unwrap();
    let told =
        |second: &str| vec!["tcp://node-1.wide:1".to_owned(), second.to_owned(), third.clone()];

    cluster.node_mut(1).kill();
    cluster.node_mut(1).set("broker.advertise_for", "127.0.0.1/32=tcp://elsewhere:9");
    cluster.node_mut(1).start();
    cluster.wait_until_ready();
    expect_told(&cluster, "127.0.0.1", &told("tcp://elsewhere:9"));

    cluster.node_mut(1).kill();
    cluster.node_mut(1).set("broker.advertise_for", "");
    cluster.node_mut(1).start();
    cluster.wait_until_ready();
    expect_told(&cluster, "127.0.0.1", &told(&second));
}
