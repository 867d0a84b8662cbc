//! Nodes get keys and lose them again, one after the other, and beside nodes that know of none.

use std::time::Duration;

use cluster_tests::{NodeKeys, TestCluster, last_program, wait_until};

use crate::{
    Release::{Last, This},
    cluster_of,
    formats::everybody_serves_everybody,
    machine,
    rolling::{replace, under_calls},
};

/// How long links may take to be as they should be: keys are read every two seconds.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);
/// The connections between three nodes: each asks each of the two others, and brings it requests. Both ends count.
const LINKS_MIN: u64 = 8;

fn plain_links(cluster: &TestCluster) -> u64 {
    cluster.nodes().iter().map(|node| node.metric("cluster_plain_links")).sum()
}

#[test]
fn nodes_get_keys_and_lose_them_under_calls_and_lose_none() {
    let _machine = machine();
    let mut cluster = cluster_of([This; 3]);
    let keys = NodeKeys::of(&mut cluster);
    let mut cluster = cluster.started();

    let answered = under_calls(&mut cluster, |cluster| {
        assert!(plain_links(cluster) >= LINKS_MIN, "{}", plain_links(cluster));
        for security in ["prefer", "require", "prefer"] {
            for node in 0..3 {
                replace(cluster, node, |node| NodeKeys::set(node, security));
            }
            wait_until("no link is without a key", SETTLED_WITHIN, || plain_links(cluster) == 0);
        }
        // A node that has shown a key is called by it alone, as long as that is known.
        (0..3).for_each(|node| keys.remove(node));
        wait_until("all links are without", SETTLED_WITHIN, || plain_links(cluster) >= LINKS_MIN);
        for node in 0..3 {
            replace(cluster, node, |node| node.set("cluster.security", "off"));
        }
    });

    println!("{answered} calls answered, none failed");
    assert!(answered > 1_000, "{answered}");
}

#[test]
fn last_release_has_links_without_keys_with_nodes_that_prefer_them() {
    if last_program().is_none() {
        return;
    }
    let _machine = machine();
    let mut cluster = cluster_of([Last, This, This]);
    let _keys = NodeKeys::of(&mut cluster);
    for node in 1..3 {
        NodeKeys::set(cluster.node_mut(node), "prefer");
    }
    let cluster = cluster.started();

    everybody_serves_everybody(&cluster);
    for node in 1..3 {
        let plain = cluster.node(node).metric("cluster_plain_links");
        assert!((2..=4).contains(&plain), "{plain} links without keys");
    }
}
