//! 7/MDP, clients and requests: MDP7-01 to MDP7-20.

use cluster_tests::{
    NodeProcess, QUIET, RawClient, RawSocket, RawTcp, RawWorker, ReqClient, Version, frames,
};

use Version::V01;

#[test]
fn mdp7_01_one_socket_serves_clients_and_workers() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);

    client.request("echo", "hello");
    worker.serve("hello", "world");

    client.expect_reply("echo", "world");
}

#[test]
fn mdp7_02_clients_are_served_round_robin() {
    let node = NodeProcess::start(&[QUIET]);
    let (greedy, polite) = (RawClient::connect(&node, V01), RawClient::connect(&node, V01));
    for body in ["g1", "g2", "g3", "g4"] {
        greedy.request("echo", body);
    }
    greedy.settle();
    for body in ["p1", "p2"] {
        polite.request("echo", body);
    }
    polite.settle();

    let worker = RawWorker::register(&node, V01, "echo");

    let mut order = Vec::new();
    for _ in 0..6 {
        let work = worker.socket.recv();
        worker.answer(&work[3], &work[5]);
        order.push(work[5].escape_ascii().to_string());
    }
    // Who comes first is open.
    let fair = [["g1", "p1", "g2", "p2", "g3", "g4"], ["p1", "g1", "p2", "g2", "g3", "g4"]];
    assert!(fair.iter().any(|fair| *fair == order[..]), "{order:?}");
}

#[test]
fn mdp7_03_least_recently_used_worker_is_chosen() {
    let node = NodeProcess::start(&[QUIET]);
    let workers = ["1", "2", "3"].map(|_| RawWorker::register(&node, V01, "echo"));
    let client = RawClient::connect(&node, V01);

    for _ in 0..2 {
        for worker in &workers {
            client.request("echo", "x");
            worker.serve("x", "y");
            client.expect_reply("echo", "y");
        }
    }
}

#[test]
fn mdp7_05_peers_are_served_from_a_router() {
    let node = NodeProcess::start(&[QUIET]);

    let command = RawTcp::connect(&node).handshake();

    let metadata = command.escape_ascii().to_string();
    assert!(metadata.contains("Socket-Type\\x00\\x00\\x00\\x06ROUTER"), "{metadata}");
}

#[test]
fn mdp7_07_reply_reaches_only_the_asking_connection() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    let clients = [(); 3].map(|()| RawClient::connect(&node, V01));

    for (index, client) in clients.iter().enumerate() {
        client.request("echo", [u8::try_from(index).unwrap()]);
        client.settle();
    }
    for _ in &clients {
        let work = worker.socket.recv();
        worker.answer(&work[3], &work[5]);
    }

    for (index, client) in clients.iter().enumerate() {
        client.expect_reply("echo", [u8::try_from(index).unwrap()]);
    }
    for client in &clients {
        client.settle();
    }
}

#[test]
fn mdp7_09_request_with_fewer_than_four_frames_is_dropped() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);

    client.socket.send(&frames![b""]);
    client.socket.send(&frames![b"", b"MDPC01"]);
    client.socket.send(&frames![b"", b"MDPC01", b"echo"]);

    client.settle();
    worker.settle();
}

#[test]
fn mdp7_09_body_frames_pass_unchanged() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);
    let body: [&[u8]; 4] = [b"one", b"", b"MDPC01", &[0, 255, 10, 13]];

    client.socket.send(&V01.request("echo", &body));
    let work = worker.socket.recv();
    assert_eq!(work, V01.work(&work[3], &body));
    worker.socket.send(&V01.answer(&work[3], &body));

    client.socket.expect(&V01.reply("echo", &body));
}

#[test]
fn mdp7_10_client_reply_layout() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawSocket::dealer(&node);

    client.send(&frames![b"", b"MDPC01", b"echo", b"hello"]);
    worker.serve("hello", "world");

    client.expect(&frames![b"", b"\x4d\x44\x50\x43\x30\x31", b"echo", b"world"]);
}

#[test]
fn mdp7_11_req_client_is_served() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = ReqClient::connect(&node);

    for body in ["first", "second"] {
        client.request("echo", body);
        worker.serve(body, body);
        client.expect_reply("echo", body);
    }
}

#[test]
fn mdp7_13_dealer_client_without_empty_frame_is_dropped() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);

    client.socket.send(&frames![b"MDPC01", b"echo", b"hello"]);

    client.settle();
    worker.settle();
}

#[test]
fn mdp7_14_late_reply_to_a_closed_client_reaches_nobody() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    let gone = ReqClient::connect(&node);
    gone.request("echo", "first try");
    let address = worker.expect_work("first try");
    drop(gone);

    // As the Guide's client: a fresh socket, the same request again.
    let client = ReqClient::connect(&node);
    client.request("echo", "second try");
    worker.answer(&address, "late");
    worker.serve("second try", "in time");

    client.expect_reply("echo", "in time");
}

#[test]
fn mdp7_15_request_goes_to_a_worker_of_its_service_only() {
    let node = NodeProcess::start(&[QUIET]);
    let echo = RawWorker::register(&node, V01, "echo");
    let other = RawWorker::register(&node, V01, "echo2");
    let client = RawClient::connect(&node, V01);

    client.request("echo", "hello");

    echo.serve("hello", "world");
    client.expect_reply("echo", "world");
    other.settle();
}

#[test]
fn mdp7_16_request_waits_for_the_first_worker() {
    let node = NodeProcess::start(&[QUIET]);
    let client = RawClient::connect(&node, V01);
    client.request("echo", "early");
    client.settle();

    let worker = RawWorker::register(&node, V01, "echo");

    worker.serve("early", "late");
    client.expect_reply("echo", "late");
}

#[test]
fn mdp7_16_request_waits_while_all_workers_are_busy() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);

    for body in ["1", "2", "3"] {
        client.request("echo", body);
    }

    for body in ["1", "2", "3"] {
        worker.serve(body, body);
        client.expect_reply("echo", body);
    }
}

#[test]
fn mdp7_17_request_is_dropped_after_its_ttl() {
    let node = NodeProcess::start(&[QUIET, ("broker.request_ttl", "100ms")]);
    let client = RawClient::connect(&node, V01);
    client.request("echo", "early");
    client.expect_silence();

    let worker = RawWorker::register(&node, V01, "echo");

    worker.settle();
    client.settle();
}

#[test]
fn mdp7_17_ttl_of_zero_means_no_waiting() {
    let node = NodeProcess::start(&[QUIET, ("broker.request_ttl", "0s")]);
    let client = RawClient::connect(&node, V01);
    client.request("echo", "early");
    client.settle();
    let worker = RawWorker::register(&node, V01, "echo");
    worker.settle();

    client.request("echo", "in time");

    worker.serve("in time", "served");
    client.expect_reply("echo", "served");
}

#[test]
fn mdp7_17_ttl_can_be_set_per_service() {
    let file = "[[service]]\npattern = \"short.*\"\nrequest_ttl = \"100ms\"\n";
    let node = NodeProcess::start_with_file(&[QUIET], file);
    let client = RawClient::connect(&node, V01);
    client.request("short.lived", "1");
    client.request("long.lived", "2");
    client.expect_silence();

    let short = RawWorker::register(&node, V01, "short.lived");
    let long = RawWorker::register(&node, V01, "long.lived");

    long.serve("2", "served");
    client.expect_reply("long.lived", "served");
    short.settle();
}

#[test]
fn mdp7_19_worker_request_layout() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);

    client.request("echo", "hello");

    let work = worker.socket.recv();
    assert_eq!(work.len(), 6);
    assert_eq!(work[..3], frames![b"", b"\x4d\x44\x50\x57\x30\x31", b"\x02"]);
    assert!(!work[3].is_empty(), "the client address names somebody");
    assert_eq!(work[4..], frames![b"", b"hello"]);
}

#[test]
fn mdp7_20_worker_reply_layout() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);

    client.request("echo", "hello");
    let address = worker.expect_work("hello");
    worker.socket.send(&frames![b"", b"MDPW01", b"\x03", address, b"", b"wor", b"ld"]);

    client.socket.expect(&frames![b"", b"MDPC01", b"echo", b"wor", b"ld"]);
}
