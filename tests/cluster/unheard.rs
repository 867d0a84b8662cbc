//! What is said of nodes that are down, with a majority and without.

use std::time::{Duration, Instant};

use cluster_tests::{TestCluster, majordomo, wait_until};
use serde_json::Value;

use crate::part_of_the_machine;

/// `cluster.node_timeout` here.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How long a node may take to say it.
const SAID_WITHIN: Duration = Duration::from_secs(10);

/// What each page says without a majority.
const LAST_KNOWN: &str = "last known, no majority";

fn page(cluster: &TestCluster, node: usize) -> Value {
    let page = cluster.node(node).page("/api/v1/cluster").unwrap();
    serde_json::from_str(&page.body).unwrap()
}

fn states(page: &Value) -> Vec<&str> {
    page["nodes"].as_array().unwrap().iter().map(|node| node["state"].as_str().unwrap()).collect()
}

/// What the commands print that ask this node.
fn commands(cluster: &TestCluster, node: usize) -> Vec<(&'static str, String)> {
    let admin = cluster.node(node).admin_url();
    let run = |name, arguments: &[&str]| {
        let finished = majordomo(&[arguments, &["--admin", &admin]].concat());
        assert_eq!(finished.code, Some(0), "{name}: {}", finished.stderr);
        (name, finished.stdout)
    };
    vec![
        run("status", &["status"]),
        run("member list", &["member", "list"]),
        run("upgrade status", &["upgrade", "status"]),
        run("top", &["top", "--once", "--interval", "1s"]),
    ]
}

#[test]
fn nodes_that_are_down_are_unheard_and_the_rest_is_the_last_known() {
    let _machine = part_of_the_machine();
    let mut cluster = TestCluster::start(&[("cluster.node_timeout", "1s")]);
    for (name, text) in commands(&cluster, 1) {
        assert!(!text.contains(LAST_KNOWN) && !text.contains("unheard"), "{name}: {text}");
    }
    assert_eq!(page(&cluster, 1)["majority"], true);

    let down_since = Instant::now();
    cluster.node_mut(0).kill();
    cluster.node_mut(2).kill();

    wait_until("both are unheard", SAID_WITHIN, || {
        states(&page(&cluster, 1)) == ["unheard", "up", "unheard"]
    });
    let shown = page(&cluster, 1);
    assert_eq!(shown["majority"], false);
    let most = u64::try_from(down_since.elapsed().as_millis()).unwrap();
    for other in [0, 2] {
        let unheard = shown["nodes"][other]["unheard_ms"].as_u64().unwrap();
        // The last heartbeat came a moment before.
        assert!((1_000..=most + 500).contains(&unheard), "{unheard} of {most} ms");
    }
    let reason = "MajordomoMemberUnheard sees it without a leader, too";
    assert!(
        cluster
            .node(1)
            .page("/metrics")
            .unwrap()
            .body
            .contains("majordomo_raft_member_unheard_seconds{member=\"node-3\"}"),
        "{reason}"
    );
    for (name, text) in commands(&cluster, 1) {
        assert!(text.contains(LAST_KNOWN), "{name}: {text}");
        let of = |node| text.lines().find(|line| line.starts_with(node)).unwrap_or_default();
        let is_unheard = |node| of(node).contains("unheard ") && !of(node).contains(" up ");
        assert!(is_unheard("node-1") && is_unheard("node-3"), "{name}: {text}");
    }

    let services = majordomo(&["services", "--admin", &cluster.node(1).admin_url()]);
    assert!(services.stdout.starts_with(LAST_KNOWN), "{services:?}");

    cluster.node_mut(0).start();

    wait_until("two are up, and the third is gone", SAID_WITHIN + TIMEOUT, || {
        let shown = page(&cluster, 1);
        shown["majority"] == true && states(&shown) == ["up", "up", "gone"]
    });
    for (name, text) in commands(&cluster, 1) {
        assert!(!text.contains(LAST_KNOWN), "{name}: {text}");
    }
}
