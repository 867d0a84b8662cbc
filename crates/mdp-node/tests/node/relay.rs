//! Requests between nodes of one process: the links, and what clients and workers see of them.

use std::{thread, time::Instant};

use mdp_node::{LinkState, Node, NodeReport, ReportScope};
use mdp_wire::relay::{Hello, WIRE};
use serde_json::json;

use crate::{
    cluster::{DEADLINE, Trio, until},
    peers::{dealer, echo, next_reply, next_request, page, reply, request},
};

impl Trio {
    /// Links in all directions between the nodes that there are.
    fn wait_linked(&self) {
        let nodes: Vec<_> = self.nodes.iter().flatten().collect();
        let others = nodes.len() - 1;
        let is_linked = |link: &LinkState| link.to && link.from;
        until("all nodes have links", || {
            nodes.iter().all(|node| {
                node.view().relay_links().iter().filter(|link| is_linked(link)).count() == others
            })
        });
    }

    fn report(&self, number: usize) -> NodeReport {
        let view = self.node(number).view();
        let runtime = view.runtime().unwrap().clone();
        runtime.block_on(view.report(ReportScope::Totals, DEADLINE)).unwrap()
    }
}

#[test]
fn nodes_announce_where_they_take_requests_and_have_links() {
    let trio = Trio::new();
    trio.wait_linked();

    let status = page(&trio.dealer(0), "mmi.status");

    for (number, links) in [(0, json!(null)), (1, json!(true)), (2, json!(true))] {
        let node = &status["nodes"][number];
        let endpoint = trio.node(number).view().relay_endpoint().unwrap().to_owned();
        assert_eq!(node["relay_endpoint"], endpoint);
        assert_eq!((&node["relay_to"], &node["relay_from"]), (&links, &links));
    }
    let report = trio.report(0).relay.unwrap();
    assert_eq!((report.links.len(), report.unreachable_requests), (2, 0));
    assert!(report.totals.refused.keys().all(|reason| *reason == "not_ready"), "{report:?}");
}

#[test]
fn request_is_answered_by_a_worker_of_another_node() {
    const REQUESTS: usize = 300;
    let trio = Trio::new();
    trio.wait_linked();
    let worker = trio.worker(1, "echo");
    let worker = thread::spawn(move || echo(&worker, 2 * REQUESTS));

    for number in [0, 2] {
        let client = trio.dealer(number);
        for body in 0..REQUESTS {
            request(&client, "echo", &body.to_le_bytes());
        }
        for body in 0..REQUESTS {
            assert_eq!(next_reply(&client), body.to_le_bytes());
        }
    }

    worker.join().unwrap();
    let requests = u64::try_from(REQUESTS).unwrap();
    assert_eq!(trio.report(0).counters.forwarded, requests);
    assert_eq!(trio.report(1).counters.forwards_received, 2 * requests);
}

#[test]
fn links_come_back_with_a_node_that_comes_back() {
    let mut trio = Trio::new();
    trio.wait_linked();

    drop(trio.nodes[2].take());
    let is_gone = |link: &LinkState| link.node.as_str() != "node-3" || !(link.to || link.from);
    let view = trio.node(0).view();
    until("the loss is seen", || view.relay_links().iter().all(is_gone));
    trio.nodes[2] = Some(Node::start(trio.configs[2].clone()).unwrap());
    trio.wait_ready(2);
    trio.wait_linked();

    let worker = trio.worker(2, "echo");
    let worker = thread::spawn(move || echo(&worker, 1));
    let client = trio.dealer(0);
    request(&client, "echo", b"hello");
    assert_eq!(next_reply(&client), b"hello");
    worker.join().unwrap();
    assert!(trio.report(0).relay.unwrap().totals.lost.values().sum::<u64>() >= 2);
}

#[test]
fn reply_of_a_node_that_drains_is_not_lost() {
    let mut trio = Trio::new();
    trio.wait_linked();
    let worker = trio.worker(1, "echo");
    let client = trio.dealer(0);
    request(&client, "echo", b"hello");
    let (address, body) = next_request(&worker);

    let node = trio.nodes[1].take().unwrap();
    node.drain();
    let begun = Instant::now();
    reply(&worker, &address, &body);
    assert_eq!(next_reply(&client), b"hello");

    let receipt = node.wait().unwrap();
    assert_eq!(receipt.dropped, 0);
    assert!(begun.elapsed() < DEADLINE / 4, "{:?}", begun.elapsed());
}

/// Somebody who takes the place of a node at another one, so that the two have no link.
fn impostor(trio: &Trio, of: usize, at: usize) -> zmq::Socket {
    let status = page(&trio.dealer(at), "mmi.status");
    let hello = Hello {
        wire: WIRE,
        version: "0.0.9".to_owned(),
        cluster: status["cluster_id"].as_str().unwrap().to_owned(),
        node: trio.configs[of].name.as_str().to_owned(),
        epoch: u64::MAX,
        wanted: trio.configs[at].name.as_str().to_owned(),
        session: 1,
    };
    let mut frames: Vec<Vec<u8>> = Vec::new();
    hello.encode::<Vec<u8>, _>(&mut frames).unwrap();
    let impostor = dealer(&zmq::Context::new(), trio.node(at).view().relay_endpoint().unwrap());
    impostor.send_multipart(frames, 0).unwrap();
    impostor
}

#[test]
fn request_for_a_node_that_cannot_be_reached_waits_and_is_counted() {
    let trio = Trio::new();
    trio.wait_linked();
    let worker = trio.worker(1, "echo");
    let impostor = impostor(&trio, 0, 1);
    let state = |number: usize, other: &str| {
        let links = trio.node(number).view().relay_links();
        links.into_iter().find(|link| link.node.as_str() == other).unwrap()
    };
    until("node-1 has no link to node-2", || !state(0, "node-2").to);

    let client = trio.dealer(0);
    request(&client, "echo", b"hello");
    let unreachable = |number| trio.report(number).relay.unwrap().unreachable_requests;
    until("it is counted", || unreachable(0) == 1);
    assert_eq!((trio.asked(0, "echo").as_str(), unreachable(2)), ("200", 0));

    drop(impostor);
    let worker = thread::spawn(move || echo(&worker, 1));
    assert_eq!(next_reply(&client), b"hello");
    worker.join().unwrap();
    until("it is not counted any more", || unreachable(0) == 0);
}
