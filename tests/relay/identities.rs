//! Peers of different nodes that look the same, and peers that are connected to two nodes.

use std::time::Duration;

use cluster_tests::{
    Asker, Code, PATIENCE, RawClient, RawSocket, RawWorker, Reachable, TestCluster, Version, frames,
};

use crate::{LATE_HARM, client, counted, counts, crew::Crew, register, wait_for_dropped};

use Version::V01;

/// An identity that everybody uses; none: each node gives one by itself, and to the first peer of
/// each the same, as far as libzmq does.
const IDENTITIES: [Option<&[u8]>; 2] = [None, Some(b"same")];

fn client_as(cluster: &TestCluster, node: usize, identity: Option<&[u8]>) -> RawClient {
    match identity {
        Some(id) => RawClient::connect_as(cluster.node(node), V01, id),
        None => client(cluster, node),
    }
}

fn register_as(
    cluster: &TestCluster,
    node: usize,
    service: &str,
    identity: Option<&[u8]>,
) -> RawWorker {
    let worker = match identity {
        Some(id) => RawWorker::connect_as(cluster.node(node), V01, id),
        None => RawWorker::connect(cluster.node(node), V01),
    };
    worker.ready(service);
    worker.expect_heartbeat();
    worker
}

/// CL-13: two clients on two nodes with the same routing id each get their own replies.
#[test]
fn clients_with_the_same_routing_id_get_their_own_replies() {
    for identity in IDENTITIES {
        let cluster = TestCluster::start(&[]);
        let clients = [0, 1].map(|node| client_as(&cluster, node, identity));
        let worker = register(&cluster, 2, "echo");
        for round in 0..100 {
            let bodies = [0, 1].map(|node| format!("{node} {round}"));
            for (client, body) in clients.iter().zip(&bodies) {
                client.request("echo", body);
            }

            for _ in &clients {
                let work = worker.socket.recv();
                worker.answer(&work[3], &work[5]);
            }

            for (client, body) in clients.iter().zip(&bodies) {
                client.expect_reply("echo", body);
            }
        }
        clients.iter().for_each(RawClient::settle);
    }
}

/// CL-14: of two workers on two nodes with the same routing id, the one that leaves is removed, and
/// no other.
#[test]
fn worker_that_leaves_takes_nobody_of_its_name_along() {
    for identity in IDENTITIES {
        let cluster = TestCluster::start(&[]);
        let [leaving, staying] = [0, 1].map(|node| register_as(&cluster, node, "echo", identity));

        leaving.disconnect();
        leaving.settle();

        for node in 0..3 {
            let client = client(&cluster, node);
            assert_eq!(client.lookup("echo"), "200");
            client.request("echo", "hello");
            staying.serve("hello", "world");
            client.expect_reply("echo", "world");
        }
        leaving.settle();
        assert_eq!(counts(&cluster, counted::DISPATCHED), [0, 3, 0]);
    }
}

/// CL-15: workers with the same explicit identity on two nodes are both usable.
#[test]
fn workers_with_the_same_identity_are_two() {
    let cluster = TestCluster::start(&[]);
    let workers = [0, 1].map(|node| register_as(&cluster, node, "echo", Some(b"same")));
    let client = client(&cluster, 2);
    for round in 0..20_u32 {
        let bodies = [round, round + 1_000].map(u32::to_be_bytes);
        bodies.iter().for_each(|body| client.request("echo", body));

        // Each has one at the same time.
        let work = workers.each_ref().map(|worker| worker.socket.recv());
        for (worker, work) in workers.iter().zip(&work) {
            worker.answer(&work[3], &work[5]);
        }

        let mut replies =
            [client.socket.recv(), client.socket.recv()].map(|reply| reply[3].clone());
        replies.sort_unstable();
        assert_eq!(replies, bodies.map(|body| body.to_vec()));
    }
}

/// CL-16: a node restarts while a worker of its own has a request; whoever gets the old client's
/// routing id does not get the late reply.
#[test]
fn late_reply_reaches_no_client_of_the_next_life() {
    let mut cluster = TestCluster::start(&[]);
    let worker = register(&cluster, 0, "echo");
    let old = client_as(&cluster, 0, Some(b"same"));
    old.request("echo", "old");
    let address = worker.expect_work("old");

    cluster.node_mut(0).kill();
    drop(old);
    cluster.node_mut(0).start();
    cluster.node(0).wait_until_ready();
    let new = client_as(&cluster, 0, Some(b"same"));
    new.request("echo", "new");
    new.settle();
    worker.answer(&address, "late");

    worker.expect_disconnect();
    new.settle();
    worker.ready("echo");
    worker.expect_heartbeat();
    worker.serve("new", "in time");
    new.expect_reply("echo", "in time");
}

/// CL-16, with the worker on another node, which goes on.
#[test]
fn late_reply_to_a_node_that_restarted_is_dropped() {
    let mut cluster = TestCluster::start(&[]);
    let worker = register(&cluster, 1, "echo");
    let old = client_as(&cluster, 0, Some(b"same"));
    old.request("echo", "old");
    let address = worker.expect_work("old");

    cluster.node_mut(0).kill();
    drop(old);
    cluster.node_mut(0).start();
    cluster.node(0).wait_until_ready();
    let new = client_as(&cluster, 0, Some(b"same"));
    new.request("echo", "new");
    new.settle();
    worker.answer(&address, "late");

    worker.serve("new", "in time");
    new.expect_reply("echo", "in time");
    new.socket.expect_silence(LATE_HARM);
    wait_for_dropped(&cluster, &["origin_gone", "late_reply"], 1);
}

/// A socket that is connected to two nodes.
fn between(cluster: &TestCluster, nodes: [usize; 2]) -> RawSocket {
    let socket = RawSocket::dealer(cluster.node(nodes[0]));
    socket.zmq().connect(&cluster.node(nodes[1]).endpoint()).unwrap();
    socket
}

/// CL-22: each reply to a client that is connected to two nodes matches its request.
#[test]
fn client_of_two_nodes_gets_the_reply_to_each_request() {
    const REQUESTS: u32 = 500;
    let cluster = TestCluster::start(&[]);
    let mut crew = Crew::new("echo");
    [1, 2, 2].iter().for_each(|node| crew.hire(&[cluster.node(*node).endpoint()]));
    crew.wait_until_registered(3);
    let client = between(&cluster, [0, 1]);
    for number in 0..REQUESTS {
        let number = number.to_be_bytes();
        client.send(&frames![number, b"", b"MDPC01", b"echo", number]);
    }

    let mut answered: Vec<u32> = (0..REQUESTS)
        .map(|_| {
            let reply = client.recv();
            let number = <[u8; 4]>::try_from(reply[0].as_slice()).unwrap();
            assert_eq!(reply, frames![number, b"", b"MDPC01", b"echo", number]);
            u32::from_be_bytes(number)
        })
        .collect();

    answered.sort_unstable();
    assert!(answered.into_iter().eq(0..REQUESTS), "a reply is missing or came twice");
    let [first, second, third] = counts(&cluster, counted::REQUESTS);
    assert_eq!((first + second, third), (u64::from(REQUESTS), 0));
    assert!(first > 0 && second > 0, "{first} and {second}");
    assert_eq!(crew.leave().len(), REQUESTS as usize);
}

/// CL-23: READY of a worker that is connected to two nodes reaches one; the other answers its
/// HEARTBEAT with DISCONNECT; nobody else notices.
#[test]
fn worker_of_two_nodes_belongs_to_one() {
    for version in Version::BOTH {
        let cluster = TestCluster::start(&[]);
        let worker = RawWorker { socket: between(&cluster, [0, 1]), version };
        let other = register(&cluster, 2, "echo");
        // What is sent goes to both in turn.
        worker.ready("both");
        worker.expect_heartbeat();
        worker.heartbeat();

        worker.expect_disconnect();

        for node in cluster.nodes() {
            assert_eq!(Asker::connect(node).lookup("both"), Code::Found);
        }
        let client = client(&cluster, 1);
        client.request("both", "hello");
        let address = worker.expect_work("hello");
        client.request("echo", "hello");
        other.serve("hello", "world");
        client.expect_reply("echo", "world");
        // This goes to the right node, and the same once more to the wrong one.
        worker.answer(&address, "right");
        client.expect_reply("both", "right");
        worker.answer(&address, "wrong");
        worker.expect_disconnect();
        client.socket.expect_silence(Duration::from_millis(100));
        client.settle();
        worker.disconnect();
        Asker::connect(cluster.node(2)).wait_for("both", Code::NotFound, PATIENCE);
        assert_eq!(Asker::connect(cluster.node(0)).lookup("echo"), Code::Found);
    }
}
