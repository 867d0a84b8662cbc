//! Nodes of two versions, which speak different formats.

use mdp_wire::relay::WireRange;

use super::harness::{TestCluster, TestNode, patient, seed_list};

const OLD: WireRange = WireRange { min: 1, max: 1 };
const NEXT: WireRange = WireRange { min: 1, max: 2 };
const NAMES: [&str; 3] = ["n1", "n2", "n3"];

async fn cluster(formats: [WireRange; 3]) -> TestCluster {
    let mut cluster = TestCluster::empty();
    for (name, formats) in NAMES.into_iter().zip(formats) {
        cluster.set_formats(name, formats);
        cluster.add(name, seed_list(&NAMES)).await;
    }
    cluster.wait_ready(&NAMES).await;
    cluster
}

/// How many calls a node sent in a format.
fn sent(node: &TestNode, format: u16) -> u64 {
    let formats = node.status().call_formats;
    formats.iter().find(|(sent, _)| *sent == format).map_or(0, |(_, count)| *count)
}

/// Waits until nobody is called in this format any more: some calls in another one, and none in it.
async fn becomes_silent(cluster: &TestCluster, format: u16) {
    let all = |format| -> u64 { cluster.nodes().map(|node| sent(node, format)).sum() };
    let other = 3 - format;
    let mut seen = (all(format), all(other));
    patient(|| {
        let now = (all(format), all(other));
        if now.0 != seen.0 {
            seen = now;
        }
        now.1 >= seen.1 + 50
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_the_next_version_speak_its_format_once_they_know_each_other() {
    let cluster = cluster([NEXT; 3]).await;

    becomes_silent(&cluster, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_two_versions_speak_the_older_format() {
    let cluster = cluster([OLD, NEXT, OLD]).await;

    patient(|| cluster.nodes().map(|node| sent(node, 1)).sum::<u64>() > 200).await;

    assert_eq!(cluster.nodes().map(|node| sent(node, 2)).sum::<u64>(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrade_and_rollback_change_the_format_as_they_go() {
    let mut cluster = cluster([OLD; 3]).await;
    for (formats, silent) in [(NEXT, 1), (OLD, 2)] {
        for name in NAMES {
            cluster.kill(name).await;
            cluster.set_formats(name, formats);
            cluster.restart(name).await;
            cluster.wait_ready(&NAMES).await;
        }
        becomes_silent(&cluster, silent).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_without_a_common_format_waits_and_says_why() {
    let mut cluster = TestCluster::empty();
    cluster.set_formats("n2", WireRange { min: 2, max: 2 });
    for name in ["n1", "n2"] {
        cluster.add(name, seed_list(&["n1", "n2"])).await;
    }

    let waits = |name: &str| {
        let not_ready = cluster.node(name).status().not_ready;
        not_ready.into_iter().find(|reason| reason.code == "wire_format")
    };
    patient(|| waits("n1").is_some()).await;

    let text = waits("n1").unwrap().text;
    assert!(text.contains("n2 speaks the formats 2 to 2"), "{text}");
}
