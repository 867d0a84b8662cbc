//! Which formats nodes of two versions speak, and that they serve each other in them.

use cluster_tests::{RawClient, RawWorker, TestCluster, Version};

use crate::{
    Release::{Next, This},
    cluster_of, machine, made_links, sent_calls, wait_until_all_speak,
};

/// A request from every node to a worker at every node, and all nodes know every service.
pub(crate) fn everybody_serves_everybody(cluster: &TestCluster) {
    for owner in 0..cluster.nodes().len() {
        let service = format!("at-{owner}");
        let worker = RawWorker::connect(cluster.node(owner), Version::V01);
        worker.ready(&service);
        worker.expect_heartbeat();
        for origin in 0..cluster.nodes().len() {
            let client = RawClient::connect(cluster.node(origin), Version::V01);
            assert_eq!(client.lookup(&service), "200", "{service} asked at {origin}");
            let body = format!("{origin} to {owner}");
            client.request(&service, &body);
            worker.serve(&body, &body);
            client.expect_reply(&service, &body);
        }
        worker.disconnect();
    }
}

/// The versions that the nodes show in the view of one of them.
fn versions(cluster: &TestCluster) -> Vec<String> {
    let page = cluster.node(0).page("/api/v1/cluster").unwrap();
    let view: serde_json::Value = serde_json::from_str(&page.body).unwrap();
    let nodes = view["nodes"].as_array().unwrap();
    nodes.iter().map(|node| node["version"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn one_node_of_the_next_version_speaks_as_the_others_do() {
    let _machine = machine();
    let cluster = cluster_of([This, Next, This]).started();

    everybody_serves_everybody(&cluster);
    wait_until_all_speak(&cluster, &[0, 1, 2], 1);

    assert_eq!(versions(&cluster), [This, Next, This].map(|release| release.version()));
    for node in cluster.nodes() {
        assert_eq!((sent_calls(node, 2), made_links(node, 2)), (0, 0), "{}", node.name());
        assert!(made_links(node, 1) >= 4, "{} has too few links", node.name());
    }
}

#[test]
fn two_nodes_of_the_next_version_speak_its_formats_with_each_other_only() {
    let _machine = machine();
    let cluster = cluster_of([Next, This, Next]).started();

    everybody_serves_everybody(&cluster);

    let [first, old, second] = cluster.nodes() else { panic!("three nodes") };
    for node in [first, second] {
        assert!(made_links(node, 1) >= 2 && made_links(node, 2) >= 2, "{}", node.name());
    }
    assert!(sent_calls(first, 2) + sent_calls(second, 2) > 0);
    assert_eq!((sent_calls(old, 2), made_links(old, 2)), (0, 0));
}

#[test]
fn nodes_of_the_next_version_alone_speak_its_formats() {
    let _machine = machine();
    let cluster = cluster_of([Next, Next, Next]).started();

    everybody_serves_everybody(&cluster);
    wait_until_all_speak(&cluster, &[0, 1, 2], 2);

    assert!(
        cluster.nodes().iter().all(|node| made_links(node, 1) == 0 && made_links(node, 2) >= 4)
    );
}

#[test]
fn lost_volume_is_replaced_across_versions() {
    let _machine = machine();
    let mut cluster = cluster_of([Next, This, This]).started();
    let leader = cluster.leader();
    let victim = cluster.others(&[leader]).next().unwrap();

    cluster.node_mut(victim).kill();
    cluster.node(victim).lose_data();
    (if leader == 0 { This } else { Next }).install(cluster.node_mut(victim));
    cluster.node_mut(victim).start();
    cluster.wait_until_ready();

    everybody_serves_everybody(&cluster);
}
