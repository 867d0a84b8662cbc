//! Three nodes in one process: what only shows when consensus, link and engine work together.

use std::{
    net::TcpListener,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use mdp_broker::Minority;
use mdp_node::{ClusterConfig, Node, NodeConfig, NodeError, Seed};
use tempfile::TempDir;

use crate::peers::{DEADLINE_MS, config, dealer, next_command, page, worker};

/// How long anything may take that must happen.
pub(crate) const DEADLINE: Duration = Duration::from_millis(DEADLINE_MS.unsigned_abs() as u64);

/// Three nodes and a context for their peers.
pub(crate) struct Trio {
    pub(crate) configs: Vec<NodeConfig>,
    pub(crate) nodes: Vec<Option<Node>>,
    context: zmq::Context,
    _dir: TempDir,
}

/// Ports that were free a moment ago.
fn free_ports() -> Vec<u16> {
    let listeners: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

fn seeds(ports: &[u16]) -> Vec<Seed> {
    let seed = |(number, port): (usize, &u16)| Seed {
        name: format!("node-{number}").parse().unwrap(),
        endpoint: format!("127.0.0.1:{port}"),
    };
    (1..).zip(ports).map(seed).collect()
}

fn node_config(seeds: &[Seed], number: usize, dir: &Path, minority: Minority) -> NodeConfig {
    let mut node = config();
    node.name = seeds[number].name.clone();
    let mut cluster = ClusterConfig::new(seeds.to_vec(), dir.join(node.name.as_str()));
    cluster.bind = seeds[number].endpoint.clone();
    cluster.minority = minority;
    cluster.node_timeout = Duration::from_secs(2);
    node.cluster = Some(cluster);
    node
}

impl Trio {
    pub(crate) fn new() -> Self {
        Self::with(Minority::Serve)
    }

    /// All three, ready.
    fn with(minority: Minority) -> Self {
        let dir = TempDir::new().unwrap();
        let seeds = seeds(&free_ports());
        let configs: Vec<_> =
            (0..3).map(|number| node_config(&seeds, number, dir.path(), minority)).collect();
        let start = |config: &NodeConfig| Some(Node::start(config.clone()).unwrap());
        let nodes = configs.iter().map(start).collect();
        let trio = Self { configs, nodes, context: zmq::Context::new(), _dir: dir };
        (0..3).for_each(|number| trio.wait_ready(number));
        trio
    }

    pub(crate) fn node(&self, number: usize) -> &Node {
        self.nodes[number].as_ref().unwrap()
    }

    pub(crate) fn wait_ready(&self, number: usize) {
        let view = self.node(number).view();
        until("the node is ready", || view.consensus().unwrap().status().not_ready.is_empty());
    }

    fn leader(&self) -> usize {
        let leader = |node: &Option<Node>| {
            let view = node.as_ref()?.view();
            view.consensus().unwrap().status().leader
        };
        let name = self.nodes.iter().find_map(leader).unwrap();
        self.configs.iter().position(|config| config.name == name).unwrap()
    }

    pub(crate) fn dealer(&self, number: usize) -> zmq::Socket {
        dealer(&self.context, self.node(number).endpoint())
    }

    pub(crate) fn worker(&self, number: usize, service: &str) -> zmq::Socket {
        worker(self.dealer(number), service)
    }

    /// What `mmi.service` says of a service at a node.
    pub(crate) fn asked(&self, number: usize, service: &str) -> String {
        let client = self.dealer(number);
        client.send_multipart(["", "MDPC01", "mmi.service", service], 0).unwrap();
        let frames = client.recv_multipart(0).unwrap();
        String::from_utf8(frames.last().unwrap().clone()).unwrap()
    }
}

pub(crate) fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < DEADLINE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn service_is_known_everywhere_from_the_first_heartbeat_on() {
    let trio = Trio::new();
    for round in 0..12 {
        let (at, service) = (round % 3, format!("echo-{round}"));
        let worker = trio.worker(at, &service);
        for number in 0..3 {
            assert_eq!(trio.asked(number, &service), "200", "{service} at {number}");
        }
        worker.send_multipart(["", "MDPW01", "\x05"], 0).unwrap();
        for number in 0..3 {
            until("the service is gone", || trio.asked(number, &service) == "404");
        }
    }
}

#[test]
fn pages_of_every_node_tell_of_the_same_cluster() {
    let trio = Trio::new();
    let _worker = trio.worker(1, "echo");

    for number in 0..3 {
        let client = || trio.dealer(number);
        let status = page(&client(), "mmi.status");
        assert_eq!(status["node"], trio.configs[number].name.as_str());
        assert_eq!(status["leader"], trio.configs[trio.leader()].name.as_str());
        assert_eq!(status["cluster_id"].as_str().map(str::len), Some(32));
        let nodes = status["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 3);
        for node in nodes {
            assert_eq!((&node["role"], &node["state"]), (&"voter".into(), &"up".into()), "{node}");
        }
        let directory = page(&client(), "mmi.directory");
        assert_eq!(directory["services"][0]["nodes"], serde_json::json!(["node-2"]));
        let endpoints = page(&client(), "mmi.endpoints");
        assert_eq!(endpoints["node"], trio.configs[number].name.as_str());
        assert_eq!(endpoints["endpoints"][2]["endpoint"], trio.node(2).endpoint());
    }
}

#[test]
fn drain_moves_the_leader_and_takes_the_offers_back() {
    let mut trio = Trio::new();
    let leader = trio.leader();
    let _worker = trio.worker(leader, "echo");

    let node = trio.nodes[leader].take().unwrap();
    node.drain();
    let receipt = node.wait().unwrap();

    assert!(receipt.leader_moved, "{receipt:?}");
    assert!(receipt.took_ms < 5_000, "{receipt:?}");
    let other = (leader + 1) % 3;
    assert_eq!(trio.asked(other, "echo"), "404");
    let status = page(&trio.dealer(other), "mmi.status");
    assert_eq!(status["nodes"][leader]["state"], "gone");
}

#[test]
fn node_that_comes_back_has_a_new_life() {
    let mut trio = Trio::new();
    let epoch = |trio: &Trio| page(&trio.dealer(0), "mmi.status")["nodes"][2]["epoch"].as_u64();
    let first = epoch(&trio).unwrap();

    drop(trio.nodes[2].take());
    trio.nodes[2] = Some(Node::start(trio.configs[2].clone()).unwrap());
    trio.wait_ready(2);

    let _worker = trio.worker(2, "echo");
    assert_eq!(trio.asked(0, "echo"), "200");
    assert!(epoch(&trio).unwrap() > first);
}

#[test]
fn node_without_a_quorum_never_guesses() {
    let mut trio = Trio::new();
    let _worker = trio.worker(0, "echo");
    drop(trio.nodes[1].take());
    drop(trio.nodes[2].take());

    let asked_at = Instant::now();
    assert_eq!(trio.asked(0, "echo"), "503");
    assert!(asked_at.elapsed() < Duration::from_millis(1_500), "{:?}", asked_at.elapsed());
    assert_eq!(trio.asked(0, "nothing"), "503");

    let client = trio.dealer(0);
    client.send_multipart(["", "MDPC01", "mmi.other", "x"], 0).unwrap();
    assert_eq!(client.recv_multipart(0).unwrap().last().unwrap(), b"501");
    let reserved = trio.dealer(0);
    reserved.send_multipart(["", "MDPW01", "\x01", "mmi.mine"], 0).unwrap();
    assert_eq!(reserved.recv_multipart(0).unwrap()[2], b"\x05");
    let unheard = trio.dealer(0);
    unheard.set_rcvtimeo(1_500).unwrap();
    unheard.send_multipart(["", "MDPW01", "\x01", "echo"], 0).unwrap();
    assert!(unheard.recv_multipart(0).is_err(), "a READY was acknowledged without a quorum");
}

#[test]
fn isolated_node_that_is_to_fail_sends_its_workers_away() {
    let mut trio = Trio::with(Minority::Fail);
    let worker = trio.worker(0, "echo");
    drop(trio.nodes[1].take());
    drop(trio.nodes[2].take());

    assert_eq!(next_command(&worker)[2], b"\x05");
}

#[test]
fn second_process_under_a_name_is_told_that_the_data_directory_is_used() {
    let trio = Trio::new();
    let mut config = trio.configs[0].clone();
    config.cluster.as_mut().unwrap().bind = "127.0.0.1:0".to_owned();

    let error = Node::start(config).unwrap_err();

    assert!(error.to_string().contains("another process uses it"), "{error}");
}

#[test]
fn node_that_is_alone_among_its_seeds_waits_and_says_why() {
    let dir = TempDir::new().unwrap();
    let seeds = seeds(&free_ports());
    let node = Node::start(node_config(&seeds, 0, dir.path(), Minority::Serve)).unwrap();
    let context = zmq::Context::new();
    let client = dealer(&context, node.endpoint());

    client.send_multipart(["", "MDPC01", "mmi.service", "echo"], 0).unwrap();
    assert_eq!(client.recv_multipart(0).unwrap().last().unwrap(), b"503");
    let status = page(&client, "mmi.status");
    assert_eq!((&status["leader"], &status["cluster_id"]), (&().into(), &().into()), "{status}");
    let reasons = node.view().consensus().unwrap().status().not_ready;
    assert!(!reasons.is_empty());

    node.drain();
    let receipt = node.wait();
    assert!(matches!(receipt, Ok(_) | Err(NodeError::Stopped)), "{receipt:?}");
}

#[test]
fn report_tells_what_the_broker_thread_holds() {
    let trio = Trio::new();
    let _worker = trio.worker(0, "echo");
    let view = trio.node(0).view();
    let runtime = view.runtime().unwrap();

    let scope = mdp_node::ReportScope::Workers;
    let report = runtime.block_on(view.report(scope, DEADLINE)).unwrap();

    assert_eq!((report.gauges.workers, report.workers.len(), report.services.len()), (1, 1, 1));
    assert!(report.applied_index > 0);
    assert!(view.link_totals().unwrap().answered > 0);
    assert!(!view.is_draining());
}
