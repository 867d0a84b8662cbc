//! Leaving on purpose.

use std::{thread, time::Duration};

use mdp_node::{Node, NodeError};

use crate::peers::{Cell, config, next_command, next_reply, next_request, reply, request};

const DISCONNECT: [&[u8]; 3] = [b"", b"MDPW01", b"\x05"];

#[test]
fn drain_finishes_the_held_request_and_disconnects_workers() {
    let cell = Cell::new();
    let (busy, client) = (cell.worker("echo"), cell.dealer());
    request(&client, "echo", b"held");
    let (address, body) = next_request(&busy);
    let idle = cell.worker("echo");

    cell.node.drain();
    cell.node.drain();

    assert_eq!(next_command(&idle), DISCONNECT);
    reply(&busy, &address, &body);
    assert_eq!(next_reply(&client), b"held");
    assert_eq!(next_command(&busy), DISCONNECT);
    let receipt = cell.node.wait().unwrap();
    assert_eq!((receipt.finished, receipt.handed_over, receipt.dropped), (1, 0, 0));
    assert!(!receipt.leader_moved && receipt.took_ms < 10_000);
}

#[test]
fn drain_ends_at_its_timeout_and_says_what_it_dropped() {
    let mut config = config();
    config.drain_timeout = Duration::from_millis(300);
    let cell = Cell::with(config);
    let (worker, client) = (cell.worker("echo"), cell.dealer());
    request(&client, "echo", b"held for ever");
    next_request(&worker);

    cell.node.drain();

    let receipt = cell.node.wait().unwrap();
    assert_eq!((receipt.finished, receipt.dropped), (0, 1));
    assert!((300..10_000).contains(&receipt.took_ms), "{receipt:?}");
    assert_eq!(next_command(&worker), DISCONNECT);
}

#[test]
fn announced_drain_serves_on_as_before_for_a_while() {
    let mut config = config();
    config.drain_announce = Duration::from_millis(1_500);
    let cell = Cell::with(config);
    let (drainer, client) = (cell.node.drainer(), cell.dealer());

    thread::spawn(move || drainer.drain()).join().unwrap();

    let worker = cell.worker("echo");
    request(&client, "echo", b"still");
    let (address, body) = next_request(&worker);
    reply(&worker, &address, &body);
    assert_eq!(next_reply(&client), b"still");
    assert_eq!(next_command(&worker), DISCONNECT);
    assert!(cell.node.wait().unwrap().took_ms >= 1_500);
}

#[test]
fn last_replies_reach_a_client_that_reads_after_the_drain() {
    let cell = Cell::new();
    let (worker, client) = (cell.worker("echo"), cell.dealer());
    for number in 0..100_u8 {
        request(&client, "echo", &[number; 1_000]);
    }
    for _ in 0..99 {
        let (address, body) = next_request(&worker);
        reply(&worker, &address, &body);
    }
    let (address, body) = next_request(&worker);

    cell.node.drain();
    reply(&worker, &address, &body);

    assert_eq!(cell.node.wait().unwrap().dropped, 0);
    for number in 0..100_u8 {
        assert_eq!(next_reply(&client), [number; 1_000]);
    }
}

#[test]
fn idle_node_drains_at_once_and_its_port_is_free() {
    let node = Node::start(config()).unwrap();
    let endpoint = node.endpoint().to_owned();
    node.drain();
    assert!(node.wait().unwrap().took_ms < 5_000);

    let mut again = config();
    again.bind = vec![endpoint.clone()];
    let node = Node::start(again).unwrap();
    assert_eq!(node.endpoint(), endpoint);
    drop(node);
}

#[test]
fn broker_thread_shows_that_it_lives() {
    let cell = Cell::new();
    let turns = cell.node.turns();
    for _ in 0..3 {
        drop(cell.page("mmi.status"));
    }
    assert!(cell.node.turns() > turns);

    cell.node.drain();
    assert!(!matches!(cell.node.wait(), Err(NodeError::Panicked)));
}
