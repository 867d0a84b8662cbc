//! Which worker gets a request, and in which order.

use cluster_tests::{
    PATIENCE, QUIET, RawClient, RawWorker, TestCluster, frames, hold_for, wait_until,
};

use crate::{client, counted, counts, dropped, register};

/// How many requests one client sends before it reads.
const PIPELINED: u32 = 1_000;

/// How many requests of another client may be handed out before one that came later: those that
/// were on their way already.
const AHEAD_MAX: usize = 16;

/// CL-11: a request that waits on one node is dispatched when a worker registers at another.
#[test]
fn waiting_request_goes_to_a_worker_that_registers_elsewhere() {
    let cluster = TestCluster::start(&[QUIET]);
    let client = client(&cluster, 0);
    client.request("echo", "hello");
    client.settle();

    let worker = register(&cluster, 2, "echo");

    worker.serve("hello", "world");
    client.expect_reply("echo", "world");
}

/// CL-12: requests of one client that one worker of another node serves are handed out and answered
/// in their order, each once.
#[test]
fn order_of_a_client_holds_across_nodes() {
    let cluster = TestCluster::start(&[QUIET]);
    let worker = register(&cluster, 1, "echo");
    let client = client(&cluster, 0);
    for number in 0..PIPELINED {
        client.request("echo", number.to_be_bytes());
    }

    for number in 0..PIPELINED {
        worker.serve(number.to_be_bytes(), number.to_le_bytes());
    }

    for number in 0..PIPELINED {
        client.expect_reply("echo", number.to_le_bytes());
    }
    let each_once = [u64::from(PIPELINED), 0, 0];
    assert_eq!(counts(&cluster, counted::FORWARDED), each_once);
    assert_eq!(counts(&cluster, counted::RECEIVED), [0, u64::from(PIPELINED), 0]);
    assert_eq!(counts(&cluster, counted::DISPATCHED), [0, u64::from(PIPELINED), 0]);
}

/// CL-12, where the requests waited for the worker.
#[test]
fn order_of_waiting_requests_holds_across_nodes() {
    let cluster = TestCluster::start(&[QUIET]);
    let clients = [0, 1].map(|node| client(&cluster, node));
    for number in 0..PIPELINED {
        clients.iter().for_each(|client| client.request("echo", number.to_be_bytes()));
    }
    clients.iter().for_each(RawClient::settle);

    let worker = register(&cluster, 2, "echo");
    for _ in 0..PIPELINED * 2 {
        let work = worker.socket.recv();
        worker.answer(&work[3], &work[5]);
    }

    for client in clients {
        for number in 0..PIPELINED {
            client.expect_reply("echo", number.to_be_bytes());
        }
    }
}

/// CL-17: while the worker of the client's own node is busy, an idle one of another node is used.
#[test]
fn remote_worker_is_used_while_the_local_one_is_busy() {
    let cluster = TestCluster::start(&[QUIET]);
    let local = register(&cluster, 0, "echo");
    let remote = register(&cluster, 1, "echo");
    let client = client(&cluster, 0);
    client.request("echo", "first");
    let held = local.expect_work("first");

    for round in ["second", "third"] {
        client.request("echo", round);
        remote.serve(round, round);
        client.expect_reply("echo", round);
    }

    local.answer(&held, "first");
    client.expect_reply("echo", "first");
}

/// CL-18: where both are idle, the worker of the client's own node is preferred.
#[test]
fn local_worker_is_preferred() {
    let cluster = TestCluster::start(&[QUIET]);
    let workers = [0, 1, 2].map(|node| register(&cluster, node, "echo"));
    for (node, local) in workers.iter().enumerate() {
        let client = client(&cluster, node);
        for round in 0..50_u32 {
            client.request("echo", round.to_be_bytes());
            local.serve(round.to_be_bytes(), "done");
            client.expect_reply("echo", "done");
        }
    }

    assert_eq!(counts(&cluster, counted::FORWARDED), [0; 3]);
}

#[test]
fn workers_of_all_nodes_work_at_the_same_time() {
    let cluster = TestCluster::start(&[QUIET]);
    let workers: Vec<RawWorker> =
        [0, 0, 1, 1, 2, 2].map(|node| register(&cluster, node, "echo")).into();
    let client = client(&cluster, 0);
    for _ in &workers {
        client.request("echo", "hello");
    }

    // Nobody answers before everybody has one.
    let held: Vec<Vec<u8>> = workers.iter().map(|worker| worker.expect_work("hello")).collect();

    for (worker, address) in workers.iter().zip(held) {
        worker.answer(&address, "world");
    }
    workers.iter().for_each(|_| client.expect_reply("echo", "world"));
}

/// What another node has not started is taken back once a worker is free elsewhere.
#[test]
fn unstarted_request_is_taken_back_for_an_idle_worker() {
    let cluster = TestCluster::start(&[QUIET]);
    let remote = register(&cluster, 1, "echo");
    let client = client(&cluster, 0);
    let bodies = ["first", "second", "third"];
    bodies.iter().for_each(|body| client.request("echo", body));
    let held = remote.expect_work("first");

    let local = register(&cluster, 0, "echo");

    // In any order: two workers serve it now.
    let mut served = Vec::new();
    for _ in &bodies[1..] {
        let work = next_work(&local);
        local.answer(&work[3], &work[5]);
        client.expect_reply("echo", &work[5]);
        served.push(work[5].clone());
    }
    served.sort_unstable();
    assert_eq!(served, frames![b"second", b"third"]);
    remote.answer(&held, "first");
    client.expect_reply("echo", "first");
    remote.settle();
}

/// The frames of the next request that a worker gets.
fn next_work(worker: &RawWorker) -> Vec<Vec<u8>> {
    loop {
        let message = worker.socket.recv();
        let is_heartbeat = message.len() == 3;
        if !is_heartbeat {
            return message;
        }
    }
}

/// A relayed request takes part in the owner's round robin as the client it comes from.
#[test]
fn one_client_does_not_keep_out_those_of_other_nodes() {
    let cluster = TestCluster::start(&[QUIET]);
    let worker = register(&cluster, 1, "echo");
    let greedy = client(&cluster, 0);
    (0..500_u32).for_each(|_| greedy.request("echo", "much"));
    let mut held = worker.expect_work("much");
    greedy.settle();
    let modest = [client(&cluster, 0), client(&cluster, 1), client(&cluster, 2)];
    modest.iter().for_each(|client| client.request("echo", "little"));
    modest.iter().for_each(RawClient::settle);
    // The held one, the one behind it, and that of the third node.
    wait_until("its request to reach the owner", PATIENCE, || {
        cluster.node(1).metric(counted::RECEIVED) >= 3
    });

    let mut ahead = 0;
    let mut littles = 0;
    while littles < modest.len() {
        worker.answer(&held, "done");
        let work = next_work(&worker);
        held.clone_from(&work[3]);
        if work[5] == b"little" {
            littles += 1;
        } else {
            ahead += 1;
        }
        assert!(ahead <= AHEAD_MAX, "{littles} of {} after {ahead} others", modest.len());
    }

    worker.answer(&held, "done");
    modest.iter().for_each(|client| client.expect_reply("echo", "done"));
}

#[test]
fn request_that_waits_for_another_node_is_dropped_after_its_ttl() {
    let cluster = TestCluster::start(&[("broker.request_ttl", "1s")]);
    let worker = register(&cluster, 1, "echo");
    let client = client(&cluster, 0);
    client.request("echo", "first");
    let held = worker.expect_work("first");
    client.request("echo", "second");

    wait_until("it is dropped", PATIENCE, || {
        (0..3).map(|node| dropped(&cluster, node, "expired")).sum::<u64>() == 1
    });

    worker.answer(&held, "first");
    client.expect_reply("echo", "first");
    worker.settle();
    client.settle();
}

#[test]
fn service_that_nobody_offers_is_not_asked_for_elsewhere() {
    let cluster = TestCluster::start(&[QUIET]);
    let other = register(&cluster, 1, "other");
    let client = client(&cluster, 0);

    client.request("absent", "hello");
    client.settle();

    hold_for("nothing is forwarded", crate::LATE_HARM, || {
        counts(&cluster, counted::FORWARDED) == [0; 3]
    });
    other.settle();
}
