//! Commands about a cluster, in front of one that has a single member.

use std::{fs, net::TcpListener, path::Path, process::Command, time::Instant};

use rustix::process::Signal;
use tempfile::{TempDir, tempdir};

use crate::program::{Broker, PATIENCE, majordomo, printed, printed_json, stderr};

/// A cluster of one.
struct Cluster {
    node: Broker,
    directory: TempDir,
    peers: String,
}

impl Cluster {
    /// Starts it and waits until its node is ready.
    fn start() -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let peers = format!("node-1={address}");
        let directory = tempdir().unwrap();
        let mut serve = configured(directory.path(), &peers, &["serve", "--bind", "127.0.0.1:0"]);
        serve.env("MAJORDOMO__CLUSTER__BIND", address.to_string());
        let mut node = Broker::start_with(serve);
        node.process.wait_for_line(|line| line.contains("takes part in its cluster"));
        Self { node, directory, peers }
    }
}

fn configured(directory: &Path, peers: &str, args: &[&str]) -> Command {
    let mut command = majordomo(args);
    command.current_dir(directory);
    command.env("MAJORDOMO__NODE__DATA_DIR", directory.join("data"));
    command.env("MAJORDOMO__CLUSTER__PEERS", peers);
    command
}

#[test]
fn members_are_listed_added_and_removed() {
    let cluster = Cluster::start();
    let names = || {
        let page = printed_json(&cluster.node.ask(&["member", "list", "--json"]));
        let nodes = page["nodes"].as_array().unwrap().clone();
        nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(), ["node-1"]);
    let list = cluster.node.ask(&["member", "list"]);
    let row = printed(&list).lines().nth(1).unwrap().to_owned();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells.get(..4), Some(&["node-1", "voter", "up", "yes"][..]), "{row}");

    let unknown = cluster.node.ask(&["member", "remove", "node-9"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(stderr(&unknown).contains("node-9"), "{}", stderr(&unknown));
    assert!(stderr(&unknown).contains("node-1"), "{}", stderr(&unknown));
}

#[test]
fn leader_is_logged_and_shown() {
    let cluster = Cluster::start();

    let log = cluster.node.process.seen();
    assert!(log.lines().any(|line| line.contains("node-1 leads")), "{log}");
    let status = printed_json(&cluster.node.ask(&["status", "--json"]));
    assert_eq!((&status["leader"], &status["ready"]), (&"node-1".into(), &true.into()));
    assert!(status["term"].as_u64().unwrap() > 0, "{status}");
    assert!(status["nodes"][0]["epoch"].as_u64().unwrap() > 0, "{status}");
}

#[test]
fn snapshot_is_saved_under_its_index() {
    let cluster = Cluster::start();
    let file = cluster.directory.path().join("saved");

    let output = file.to_str().unwrap();
    let saved = printed_json(&cluster.node.ask(&["snapshot", "--json", "--output", output]));

    assert!(saved["index"].as_u64().unwrap() > 0, "{saved}");
    assert_eq!(saved["bytes"], fs::read(&file).unwrap().len());
}

#[test]
fn node_begins_a_new_cluster_when_a_person_forces_it() {
    let mut cluster = Cluster::start();
    let before = printed_json(&cluster.node.ask(&["status", "--json"]));
    let (directory, peers) = (cluster.directory.path(), cluster.peers.as_str());
    let recover = ["recover", "--force-new-cluster", "--json"];

    let running = configured(directory, peers, &recover).output().unwrap();
    assert_eq!(running.status.code(), Some(4), "{}", stderr(&running));
    assert!(stderr(&running).contains("another process uses it"), "{}", stderr(&running));

    cluster.node.process.signal(Signal::KILL);
    cluster.node.process.wait_for_end();
    let recovered = printed_json(&configured(directory, peers, &recover).output().unwrap());
    assert_ne!(recovered["cluster_id"], before["cluster_id"]);
    assert_eq!(recovered["node"], "node-1");

    let nowhere = configured(directory, "", &recover).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(2), "{}", stderr(&nowhere));
}

#[test]
fn data_directory_that_cannot_be_used_ends_with_4() {
    let directory = tempdir().unwrap();
    fs::write(directory.path().join("data"), "a file").unwrap();
    let args = ["serve", "--bind", "127.0.0.1:0"];
    let mut serve = configured(directory.path(), "node-1=127.0.0.1:1", &args);
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();

    let output = serve.env("MAJORDOMO__CLUSTER__BIND", address.to_string()).output().unwrap();

    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(stderr(&output).contains("node.data_dir"), "{}", stderr(&output));
}

#[test]
fn node_that_waits_for_others_says_so_and_is_not_ready() {
    let directory = tempdir().unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let peers = format!("node-1={address},node-2=127.0.0.1:1,node-3=127.0.0.1:2");
    let args = ["serve", "--bind", "127.0.0.1:0"];
    let mut serve = configured(directory.path(), &peers, &args);
    serve.env("MAJORDOMO__CLUSTER__BIND", address.to_string());
    let mut node = Broker::start_with(serve);

    node.process.wait_for_line(|line| line.contains("not ready: "));
    let status = printed_json(&node.ask(&["status", "--json"]));
    let start = Instant::now();
    let transfer = node.ask(&["leader", "transfer"]);

    assert_eq!((&status["ready"], &status["leader"]), (&false.into(), &serde_json::Value::Null));
    assert!(start.elapsed() < PATIENCE);
    assert_eq!(transfer.status.code(), Some(1), "{}", stderr(&transfer));
    assert!(stderr(&transfer).contains("node-1 says: "), "{}", stderr(&transfer));
}
