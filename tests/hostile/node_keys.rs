//! Strangers, and nodes with stolen keys, at the ports of nodes that have keys.

use std::time::{Duration, Instant};

use cluster_tests::{
    NodeKey, NodeKeys, RawClient, RawSocket, RawWorker, TestCluster, Version, frames, wait_until,
};
use mdp_wire::relay::{Hello, RefusalReason, WireRange};

use crate::calls::{Ballot, Change, Reply, Request, STRANGER, Stranger, Vote};

/// Longer than any answer takes.
const SILENCE: Duration = Duration::from_secs(2);
/// How long the cluster may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);
/// How soon a removed key is of no use.
const OUT_WITHIN: Duration = Duration::from_secs(5);

/// Three nodes that let each other in by their keys alone.
fn cluster() -> (TestCluster, NodeKeys) {
    let mut cluster = TestCluster::unstarted(&[]);
    let keys = NodeKeys::of(&mut cluster);
    cluster.nodes_mut().iter_mut().for_each(|node| NodeKeys::set(node, "require"));
    (cluster.started(), keys)
}

fn assert_serves(cluster: &TestCluster, service: &str) {
    let worker = RawWorker::register(cluster.node(0), Version::V01, service);
    let client = RawClient::connect(cluster.node(2), Version::V01);
    client.wait_for_lookup(service, "200");
    client.request(service, "hello");
    worker.serve("hello", "world");
    client.expect_reply(service, "world");
}

fn cluster_endpoint(cluster: &TestCluster, node: usize) -> String {
    let peers = cluster.peers();
    let peer = peers.split(',').nth(node).and_then(|peer| peer.split_once('=')).unwrap();
    format!("tcp://{}", peer.1.trim_start_matches("tcp://"))
}

fn greeting(node: &str, wanted: &str) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let hello = Hello {
        wire: WireRange { min: 1, max: 1 },
        version: "0.1.0".to_owned(),
        cluster: "0".repeat(32),
        node: node.to_owned(),
        epoch: 1 << 40,
        wanted: wanted.to_owned(),
        session: u64::MAX,
    };
    let Ok(()) = hello.encode::<Vec<u8>, _>(&mut frames);
    frames
}

#[test]
fn three_nodes_that_require_keys_form_a_cluster_and_serve() {
    let (cluster, _keys) = cluster();

    assert_serves(&cluster, "echo");
    for node in cluster.nodes() {
        assert_eq!(node.metric("cluster_plain_links"), 0);
        assert_eq!(node.metric("cluster_node_keys"), 3);
        assert_eq!(node.metric("security_open_addresses"), 0);
    }
}

#[test]
fn node_without_a_key_or_with_anothers_is_kept_out_of_both_ports() {
    let (mut cluster, keys) = cluster();
    let stranger = NodeKey::random();
    let (calls, requests) = (cluster_endpoint(&cluster, 0), cluster.node(0).relay_endpoint());
    let server = keys.key(0).public.clone();
    let name = cluster.node(0).name().to_owned();
    let call = Stranger::hello_bytes();

    let ports = [
        (calls.as_str(), frames![b"12345678", &call]),
        (requests.as_str(), greeting("node-9", &name)),
    ];
    for (port, message) in &ports {
        let sockets = [
            ("no key", RawSocket::dealer(*port)),
            ("a key that no node has", stranger.dealer(*port, &server)),
            ("a node's key, to another one", keys.key(1).dealer(*port, &keys.key(2).public)),
        ];
        for (_, socket) in &sockets {
            socket.send(message);
        }
        for (who, socket) in &sockets {
            assert_eq!(socket.recv_within(SILENCE), None, "{who} at {port}");
        }
        // That says something about the ports only if a node is answered.
        let node = keys.key(1).dealer(*port, &server);
        node.send(message);
        assert!(node.recv_within(PATIENCE).is_some(), "{port}");
    }

    assert!(cluster.nodes_mut().iter_mut().all(cluster_tests::ClusterNode::is_running));
    assert_serves(&cluster, "echo");
}

#[test]
fn stolen_key_of_a_node_speaks_for_no_other_one() {
    let (cluster, keys) = cluster();
    let thief = keys.key(2);
    let port = |node: usize| cluster_endpoint(&cluster, node);
    let dial = |node: usize| thief.dealer(port(node).as_str(), &keys.key(node).public);
    let ids: Vec<u64> = (0..3).map(|node| Stranger::by(dial(node)).node.id).collect();
    let names: Vec<&str> = cluster.nodes().iter().map(|node| node.name()).collect();
    let term = cluster.term();
    let vote = Vote { term: term + 1, node_id: ids[0], committed: false };
    let requests = [
        Request::Vote(Ballot { vote, last: None, is_transfer: true }),
        Request::ReadIndex { vote: None },
        Request::Change(Change::Remove { name: names[0].to_owned() }),
        Request::Propose { entry: vec![1, 0, 0] },
    ];

    for request in &requests {
        let at = Stranger::by(dial(1));
        for (id, name) in [(ids[0], names[0]), (ids[0], names[2]), (STRANGER, names[0])] {
            let reply = at.ask_as(id, name, request.clone());
            assert!(matches!(reply, Reply::Refused(_)), "{request:?} as {name}: {reply:?}");
        }
    }
    let refused = "raft_refused_calls_total{reason=\"other_key\"}";
    assert!(cluster.node(1).metric(refused) >= 12, "{}", cluster.node(1).metric(refused));

    let requests = cluster.node(1).relay_endpoint();
    let socket = thief.dealer(requests.as_str(), &keys.key(1).public);
    socket.send(&greeting(names[0], names[1]));
    let answer = socket.recv_within(PATIENCE).unwrap();
    let wrong_node = RefusalReason::WrongNode.label();
    assert!(!answer.is_empty());
    let metric = format!("relay_refused_links_total{{reason=\"{wrong_node}\",role=\"owner\"}}");
    assert_eq!(cluster.node(1).metric(&metric), 1);

    assert_eq!(cluster.term(), term);
    assert_serves(&cluster, "echo");
}

#[test]
fn removed_key_closes_the_links_of_its_node_within_five_seconds() {
    let (cluster, keys) = cluster();
    let name = cluster.node(2).name();
    let links = |node: usize| {
        let of = |role| format!("relay_link_up{{peer=\"{name}\",role=\"{role}\"}}");
        cluster.node(node).metric(&of("origin")) + cluster.node(node).metric(&of("owner"))
    };
    wait_until("all links are there", PATIENCE, || links(0) + links(1) == 4);
    // A connection of its own is closed, too.
    let port = cluster_endpoint(&cluster, 0);
    let open = Stranger::by(keys.key(2).dealer(port.as_str(), &keys.key(0).public));

    let removed = Instant::now();
    keys.remove(2);
    wait_until("its links are closed", OUT_WITHIN, || links(0) + links(1) == 0);
    let left = OUT_WITHIN.saturating_sub(removed.elapsed());
    wait_until("its calls get no answer", left, || {
        !open.is_answered_within(Duration::from_millis(500))
    });
    assert_eq!(cluster.node(0).metric("cluster_node_keys"), 2);

    keys.add(2);
    wait_until("it is let in again", PATIENCE, || links(0) + links(1) == 4);
    assert_serves(&cluster, "echo");
}
