//! What every node answers by itself: `mmi.*`, the administration port, the command line.

use std::time::Duration;

use cluster_tests::{
    Asker, ClusterNode, ClusterView, Code, RawWorker, TestCluster, Version, majordomo,
};
use serde_json::Value;

use crate::{LOCAL_WITHIN, askers, assert_everywhere, part_of_the_machine, register};

/// Names of `mmi.*` that nobody has, as 8/MMI and this broker know them.
const UNKNOWN: [&str; 7] =
    ["mmi.x", "mmi.", "mmi.Service", "mmi.service ", "mmi.services", "mmi.\0", "mmi.mmi."];

/// Names that nobody may register.
const RESERVED: [&str; 5] = ["mmi.", "mmi.service", "mmi.echo", "mmi.mine", "mmi.\0"];

fn assert_namespace_is_the_brokers_own(node: &ClusterNode) {
    let mut asker = Asker::connect(node);
    for name in UNKNOWN {
        let answer = asker.answer_to(name, "echo", LOCAL_WITHIN);
        assert_eq!(
            answer,
            Some(vec![b"501".to_vec()]),
            "{} of {}",
            name.escape_debug(),
            node.name()
        );
    }
    for version in Version::BOTH {
        for name in RESERVED {
            let worker = RawWorker::connect(node, version);
            worker.ready(name);
            let refusal = worker.socket.recv_within(LOCAL_WITHIN);
            assert_eq!(refusal, Some(version.disconnect()), "{name:?} at {}", node.name());
        }
    }
    let echo = asker.answer_to("mmi.echo", "body", LOCAL_WITHIN);
    assert_eq!(echo, Some(vec![b"body".to_vec()]));
    assert_eq!(
        asker.answer_to("mmi.service", "mmi.echo", LOCAL_WITHIN),
        Some(vec![b"404".to_vec()])
    );
}

/// A page of 8/MMI.
#[track_caller]
fn mmi_page(node: &ClusterNode, name: &str) -> Value {
    let answer = Asker::connect(node).answer_to(name, "", LOCAL_WITHIN);
    let [code, json] = <[Vec<u8>; 2]>::try_from(answer.unwrap()).unwrap();
    assert_eq!(code, b"200", "{name} of {}", node.name());
    serde_json::from_slice(&json).unwrap()
}

fn texts(value: &Value, list: &str, key: &str) -> Vec<String> {
    let items = value[list].as_array().unwrap_or_else(|| panic!("no {list} in {value}"));
    items.iter().map(|item| item[key].as_str().unwrap().to_owned()).collect()
}

/// Every line must be a comment or a sample.
fn assert_is_metrics(text: &str) {
    let samples: Vec<&str> =
        text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    assert!(samples.len() > 10, "{text}");
    for sample in samples {
        let (name, value) = sample.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{sample}");
        assert!(name.starts_with(|c: char| c.is_ascii_lowercase()), "{sample}");
        assert_eq!(name.contains('{'), name.ends_with('}'), "{sample}");
    }
}

/// CL-07: what a node decides alone.
#[test]
fn namespace_is_the_brokers_own_with_and_without_a_majority() {
    let _machine = part_of_the_machine();
    let mut cluster = TestCluster::start(&[]);
    cluster.nodes().iter().for_each(assert_namespace_is_the_brokers_own);

    cluster.node_mut(1).kill();
    cluster.node_mut(2).kill();
    cluster.node(0).wait_for_reason("no_leader");

    assert_namespace_is_the_brokers_own(cluster.node(0));
}

#[test]
fn pages_of_every_node_tell_of_the_whole_cluster() {
    let _machine = part_of_the_machine();
    let cluster = TestCluster::start(&[]);
    let _workers = [register(&cluster, 0, "everywhere"), register(&cluster, 1, "everywhere")];
    let _worker = register(&cluster, 2, "only-here");
    cluster.wait_until_level();
    let leader = cluster.node(cluster.leader()).name().to_owned();
    for node in cluster.nodes() {
        let directory = mmi_page(node, "mmi.directory");
        assert_eq!(texts(&directory, "services", "name"), ["everywhere", "only-here"]);
        let nodes = &directory["services"][0]["nodes"];
        assert_eq!(*nodes, serde_json::json!(["node-1", "node-2"]), "{directory}");

        let endpoints = mmi_page(node, "mmi.endpoints").to_string();
        for other in cluster.nodes() {
            let port = other.ports().broker.to_string();
            assert!(endpoints.contains(&port), "{} is not in {endpoints}", other.name());
        }

        let status = mmi_page(node, "mmi.status");
        let view = ClusterView::parse(&status.to_string()).unwrap();
        assert_eq!((view.node.as_str(), view.leader.as_ref()), (node.name(), Some(&leader)));
        assert_eq!(Some(&view), node.view().as_ref());
        assert_eq!(view.nodes.len(), 3);
        assert!(view.nodes.iter().all(|other| other.role == "voter" && other.state == "up"));
        assert!(status["version"].is_string(), "{status}");

        let services: Value =
            serde_json::from_str(&node.page("/api/v1/services").unwrap().body).unwrap();
        assert_eq!(texts(&services, "services", "name"), ["everywhere", "only-here"]);
        let workers = node.page("/api/v1/workers").unwrap();
        assert_eq!(workers.status, 200);
        assert_is_metrics(&node.page("/metrics").unwrap().body);
    }
}

#[test]
fn probes_tell_life_from_readiness() {
    let _machine = part_of_the_machine();
    let mut cluster = TestCluster::start(&[]);
    assert_eq!(cluster.node(0).page("/readyz").unwrap().status, 200);
    cluster.node_mut(1).kill();
    cluster.node_mut(2).kill();

    cluster.node(0).wait_for_reason("no_leader");

    assert_eq!(cluster.node(0).page("/readyz").unwrap().status, 503);
    // Restarting a node that waits for others would help nobody.
    assert_eq!(cluster.node(0).page("/livez").unwrap().status, 200);
    assert!(cluster.node(0).page("/metrics").unwrap().status == 200);
    assert_eq!(cluster.node(0).page("/nothing").unwrap().status, 404);
}

#[test]
fn command_line_shows_the_cluster_and_saves_its_catalog() {
    let _machine = part_of_the_machine();
    let cluster = TestCluster::start(&[]);
    let _worker = register(&cluster, 1, "echo");
    for node in cluster.nodes() {
        let url = node.admin_url();
        let status = majordomo(&["status", "--admin", &url]);
        assert_eq!(status.code, Some(0), "{status:?}");
        for other in cluster.nodes() {
            assert!(status.stdout.contains(other.name()), "{}", status.stdout);
        }
        let json = majordomo(&["status", "--admin", &url, "--json"]);
        assert_eq!(ClusterView::parse(&json.stdout).unwrap().node, node.name());
        let members = majordomo(&["member", "list", "--admin", &url]);
        assert!(members.code == Some(0) && members.stdout.contains("voter"), "{members:?}");
        let services = majordomo(&["services", "--admin", &url]);
        assert!(services.code == Some(0) && services.stdout.contains("echo"), "{services:?}");

        let file = node.directory().join("catalog.snapshot").display().to_string();
        let saved = majordomo(&["snapshot", "--output", &file, "--admin", &url]);
        assert_eq!(saved.code, Some(0), "{saved:?}");
        assert!(std::fs::metadata(&file).unwrap().len() > 0);
    }
    // A snapshot takes nothing away.
    assert_everywhere(&mut askers(&cluster), "echo", Code::Found);
    let nobody = majordomo(&["status", "--admin", "http://127.0.0.1:1"]);
    assert_eq!(nobody.code, Some(3), "{nobody:?}");
}

#[test]
fn local_consistency_answers_without_a_majority() {
    let _machine = part_of_the_machine();
    let mut cluster = TestCluster::start(&[("mmi.consistency", "local")]);
    let _worker = register(&cluster, 0, "echo");
    let mut asker = Asker::connect(cluster.node(0));
    cluster.node_mut(1).kill();
    cluster.node_mut(2).kill();
    cluster.node(0).wait_for_reason("no_leader");

    assert_eq!(asker.lookup("echo"), Code::Found);
    assert_eq!(asker.lookup("absent"), Code::NotFound);
}

#[test]
fn worker_at_a_node_without_a_majority_is_not_acknowledged() {
    let _machine = part_of_the_machine();
    let mut cluster = TestCluster::start(&[]);
    cluster.node_mut(1).kill();
    cluster.node_mut(2).kill();
    cluster.node(0).wait_for_reason("no_leader");
    let worker = RawWorker::connect(cluster.node(0), Version::V01);

    worker.ready("echo");

    // Longer than an election timeout and a read.
    worker.socket.expect_silence(Duration::from_secs(2));
    cluster.node_mut(1).start();
    worker.expect_heartbeat();
    assert_eq!(Asker::connect(cluster.node(0)).lookup("echo"), Code::Found);
}
