//! Workers, nodes and links are lost while a worker of another node has a request.

use cluster_tests::{PATIENCE, RawWorker, Tap, TestCluster, wait_until};

use crate::{LATE_HARM, client, dropped, has_link, register, wait_for_dropped};

/// A request that was handed to a worker is not given to another one.
const AT_MOST_ONCE: (&str, &str) = ("broker.delivery", "at-most-once");

/// `broker.max_attempts`, as built in.
const ATTEMPTS_MAX: usize = 3;

/// CL-09: the request of a node that was killed goes to a worker of another node.
#[test]
fn request_of_a_killed_node_is_answered_by_another_worker() {
    let mut cluster = TestCluster::start(&[]);
    let lost = register(&cluster, 0, "echo");
    let client = client(&cluster, 1);
    client.request("echo", "hello");
    let first = lost.expect_work("hello");
    let second = register(&cluster, 1, "echo");

    cluster.node_mut(0).kill();

    let address = second.expect_work("hello");
    assert_ne!(first, address, "the same address for another attempt");
    second.answer(&address, "world");
    client.expect_reply("echo", "world");
    client.socket.expect_silence(LATE_HARM);
}

/// CL-10: a client whose own node was killed asks another one; a worker may see that twice.
#[test]
fn client_of_a_killed_node_is_served_by_another_node() {
    let mut cluster = TestCluster::start(&[]);
    let worker = register(&cluster, 2, "echo");
    let before = client(&cluster, 0);
    before.request("echo", "hello");
    let first = worker.expect_work("hello");

    cluster.node_mut(0).kill();
    let after = client(&cluster, 1);
    after.request("echo", "hello");
    after.settle();
    worker.answer(&first, "first");

    worker.serve("hello", "second");
    after.expect_reply("echo", "second");
    after.socket.expect_silence(LATE_HARM);
    before.socket.expect_silence(LATE_HARM);
}

#[test]
fn request_of_a_lost_remote_worker_goes_to_another_one() {
    let cluster = TestCluster::start(&[]);
    let lost = register(&cluster, 1, "echo");
    let client = client(&cluster, 0);
    client.request("echo", "hello");
    let _held = lost.expect_work("hello");
    let second = register(&cluster, 2, "echo");

    lost.disconnect();

    second.serve("hello", "world");
    client.expect_reply("echo", "world");
    assert_eq!(cluster.node(0).metric("broker_redispatched_requests_total"), 1);
}

#[test]
fn request_is_given_to_three_remote_workers_at_most() {
    let cluster = TestCluster::start(&[]);
    let client = client(&cluster, 0);
    client.request("echo", "hello");
    for attempt in 0..ATTEMPTS_MAX {
        let worker = register(&cluster, 1 + attempt % 2, "echo");
        let _held = worker.expect_work("hello");
        worker.disconnect();
        worker.settle();
    }

    wait_for_dropped(&cluster, &["attempts_exhausted"], 1);

    let last = register(&cluster, 0, "echo");
    last.expect_silence();
    client.settle();
}

#[test]
fn partly_answered_request_is_not_begun_again() {
    let cluster = TestCluster::start(&[]);
    let lost = RawWorker::register(cluster.node(1), cluster_tests::Version::V02, "echo");
    let client = cluster_tests::RawClient::connect(cluster.node(0), cluster_tests::Version::V02);
    client.request("echo", "hello");
    let address = lost.expect_work("hello");
    lost.partial(&address, "part");
    assert_eq!(client.socket.recv().last(), Some(&b"part".to_vec()));
    let other = register(&cluster, 2, "echo");

    lost.disconnect();

    wait_for_dropped(&cluster, &["partially_answered"], 1);
    other.expect_silence();
    client.settle();
}

/// CL-09, where only the link between two nodes is cut.
#[test]
fn request_behind_a_cut_link_is_answered_by_another_worker() {
    let cluster = TestCluster::start_linked(&[]);
    let behind = register(&cluster, 1, "echo");
    let client = client(&cluster, 0);
    client.request("echo", "hello");
    let first = behind.expect_work("hello");
    let other = register(&cluster, 2, "echo");

    cluster.relays().turn_both(0, 1, Tap::Held);

    other.serve("hello", "world");
    client.expect_reply("echo", "world");
    wait_until("both ends know of the cut", PATIENCE, || !has_link(&cluster, 0, 1));
    behind.answer(&first, "late");
    wait_for_dropped(&cluster, &["origin_gone"], 1);
    cluster.heal();
    // The worker behind the cut is free, and is found again.
    other.disconnect();
    client.request("echo", "again");
    behind.serve("again", "once more");
    client.expect_reply("echo", "once more");
    client.socket.expect_silence(LATE_HARM);
}

/// A cut in one direction only is a cut.
#[test]
fn request_behind_a_link_that_is_cut_one_way_is_answered_by_another_worker() {
    for (from, to) in [(0, 1), (1, 0)] {
        let cluster = TestCluster::start_linked(&[]);
        let behind = register(&cluster, 1, "echo");
        let client = client(&cluster, 0);
        client.request("echo", "hello");
        let _held = behind.expect_work("hello");
        let other = register(&cluster, 2, "echo");

        cluster.relays().turn(from, to, Tap::Held);

        other.serve("hello", "world");
        client.expect_reply("echo", "world");
        cluster.heal();
        client.socket.expect_silence(LATE_HARM);
    }
}

#[test]
fn at_most_once_request_of_a_killed_node_is_not_repeated() {
    let mut cluster = TestCluster::start(&[AT_MOST_ONCE]);
    let lost = register(&cluster, 1, "echo");
    let client = client(&cluster, 0);
    client.request("echo", "hello");
    let _held = lost.expect_work("hello");
    let other = register(&cluster, 2, "echo");

    cluster.node_mut(1).kill();

    wait_until("its outcome is given up", PATIENCE, || {
        dropped(&cluster, 0, "outcome_unknown") == 1
    });
    other.expect_silence();
    client.settle();
}

#[test]
fn at_most_once_request_of_a_lost_remote_worker_is_not_repeated() {
    let cluster = TestCluster::start(&[AT_MOST_ONCE]);
    let lost = register(&cluster, 1, "echo");
    let client = client(&cluster, 0);
    client.request("echo", "hello");
    let _held = lost.expect_work("hello");
    let other = register(&cluster, 2, "echo");

    lost.disconnect();

    wait_for_dropped(&cluster, &["outcome_unknown"], 1);
    other.expect_silence();
    client.settle();
}

#[test]
fn at_most_once_request_behind_a_cut_link_is_not_repeated() {
    let cluster = TestCluster::start_linked(&[AT_MOST_ONCE]);
    let behind = register(&cluster, 1, "echo");
    let client = client(&cluster, 0);
    client.request("echo", "hello");
    let address = behind.expect_work("hello");
    let other = register(&cluster, 2, "echo");

    cluster.relays().turn_both(0, 1, Tap::Held);

    wait_until("its outcome is given up", PATIENCE, || {
        dropped(&cluster, 0, "outcome_unknown") == 1
    });
    behind.answer(&address, "late");
    cluster.heal();
    other.expect_silence();
    client.socket.expect_silence(LATE_HARM);
    client.settle();
    behind.settle();
}

/// What the lost worker provably never had is given to another one.
#[test]
fn at_most_once_request_that_was_not_started_goes_elsewhere() {
    let cluster = TestCluster::start(&[AT_MOST_ONCE]);
    let lost = register(&cluster, 1, "echo");
    let client = client(&cluster, 0);
    let bodies = ["first", "second", "third"];
    bodies.iter().for_each(|body| client.request("echo", body));
    let _held = lost.expect_work("first");
    client.settle();

    lost.disconnect();

    let other = register(&cluster, 2, "echo");
    for body in ["second", "third"] {
        other.serve(body, body);
        client.expect_reply("echo", body);
    }
    assert_eq!(dropped(&cluster, 0, "outcome_unknown"), 1);
}
