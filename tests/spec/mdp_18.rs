//! 18/MDP (0.2). What it takes over from 7/MDP (MDP18-15) is driven in both versions by the tests
//! of 7/MDP.

use cluster_tests::{NodeProcess, QUIET, RawClient, RawSocket, RawWorker, Version, frames};

use Version::{V01, V02};

#[test]
fn mdp18_01_request_layout() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V02, "echo");
    let client = RawSocket::dealer(&node);

    client.send(&frames![b"\x4d\x44\x50\x43\x30\x32", b"\x01", b"echo", b"hel", b"", b"lo"]);

    let work = worker.socket.recv();
    assert_eq!(work, V02.work(&work[2], &[b"hel", b"", b"lo"]));
}

#[test]
fn mdp18_01_other_requests_are_dropped() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V02, "echo");
    let client = RawClient::connect(&node, V02);
    for message in [
        frames![b"MDPC02"],
        frames![b"MDPC02", b"\x01"],
        frames![b"MDPC02", b"\x01", b"echo"],
        frames![b"MDPC02", b"\x02", b"echo", b"hello"],
        frames![b"MDPC02", b"\x03", b"echo", b"hello"],
        frames![b"MDPC02", b"", b"echo", b"hello"],
        frames![b"MDPC02", b"\x01\x01", b"echo", b"hello"],
        frames![b"MDPC02", b"echo", b"hello"],
        frames![b"", b"MDPC02", b"\x01", b"echo", b"hello"],
    ] {
        client.socket.send(&message);
        client.settle();
    }

    worker.settle();
}

#[test]
fn mdp18_02_client_partial_layout() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V02, "echo");
    let client = RawClient::connect(&node, V02);

    client.request("echo", "hello");
    let address = worker.expect_work("hello");
    worker.socket.send(&V02.partial(&address, &[b"wor", b"ld"]));

    client.socket.expect(&frames![b"MDPC02", b"\x02", b"echo", b"wor", b"ld"]);
}

#[test]
fn mdp18_03_client_final_layout() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V02, "echo");
    let client = RawClient::connect(&node, V02);

    client.request("echo", "hello");
    worker.serve("hello", "world");

    client.socket.expect(&frames![b"MDPC02", b"\x03", b"echo", b"world"]);
}

#[test]
fn mdp18_06_nothing_follows_final() {
    let node = NodeProcess::start(&[QUIET]);
    let client = RawClient::connect(&node, V02);
    for command in [b"\x03", b"\x04"] {
        let worker = RawWorker::register(&node, V02, "echo");
        client.request("echo", "hello");
        let address = worker.expect_work("hello");
        worker.answer(&address, "last");
        client.expect_reply("echo", "last");

        worker.socket.send(&frames![b"MDPW02", command, address, b"", b"one more"]);

        worker.expect_disconnect();
        client.settle();
    }
}

#[test]
fn mdp18_07_ready_has_exactly_three_frames() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawSocket::dealer(&node);

    for ready in [
        frames![b"MDPW02", b"\x01"],
        frames![b"MDPW02", b"\x01", b"echo", b""],
        frames![b"MDPW02", b"\x01", b"echo", b"echo"],
    ] {
        worker.send(&ready);
        worker.expect(&frames![b"MDPW02", b"\x06"]);
    }

    assert_eq!(RawClient::connect(&node, V02).lookup("echo"), "404");
    worker.send(&frames![b"MDPW02", b"\x01", b"echo"]);
    worker.expect(&frames![b"MDPW02", b"\x05"]);
}

#[test]
fn mdp18_08_worker_request_layout() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V02, "echo");
    let client = RawClient::connect(&node, V02);

    client.request("echo", "hello");

    let work = worker.socket.recv();
    assert_eq!(work.len(), 5);
    assert_eq!(work[..2], frames![b"\x4d\x44\x50\x57\x30\x32", b"\x02"]);
    assert_eq!(work[2].len(), 16);
    assert_eq!(work[3..], frames![b"", b"hello"]);
}

#[test]
fn mdp18_09_worker_partial_with_too_few_frames_is_invalid() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V02, "echo");
    let client = RawClient::connect(&node, V02);
    client.request("echo", "hello");
    let address = worker.expect_work("hello");

    worker.socket.send(&frames![b"MDPW02", b"\x03", address, b""]);

    worker.expect_disconnect();
    client.settle();
}

#[test]
fn mdp18_10_worker_final_with_too_few_frames_is_invalid() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V02, "echo");
    let client = RawClient::connect(&node, V02);
    client.request("echo", "hello");
    let address = worker.expect_work("hello");

    worker.socket.send(&frames![b"MDPW02", b"\x04", address, b""]);

    worker.expect_disconnect();
    client.settle();
}

#[test]
fn mdp18_11_heartbeat_layout() {
    let node = NodeProcess::start(&[("broker.heartbeat_interval", "100ms")]);
    let worker = RawSocket::dealer(&node);

    worker.send(&frames![b"MDPW02", b"\x01", b"echo"]);

    for _ in 0..3 {
        worker.expect(&frames![b"\x4d\x44\x50\x57\x30\x32", b"\x05"]);
    }
}

#[test]
fn mdp18_12_disconnect_layout() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawSocket::dealer(&node);

    worker.send(&frames![b"MDPW02", b"\x05"]);

    worker.expect(&frames![b"\x4d\x44\x50\x57\x30\x32", b"\x06"]);
}

#[test]
fn mdp18_12_disconnect_of_a_worker_ends_its_registration() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawSocket::dealer(&node);
    let client = RawClient::connect(&node, V02);
    worker.send(&frames![b"MDPW02", b"\x01", b"echo"]);
    worker.expect(&frames![b"MDPW02", b"\x05"]);

    worker.send(&frames![b"MDPW02", b"\x06"]);

    client.wait_for_lookup("echo", "404");
}

#[test]
fn mdp18_13_partials_come_in_order_before_the_final() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V02, "echo");
    let client = RawClient::connect(&node, V02);

    client.request("echo", "count");
    client.request("echo", "next");
    let address = worker.expect_work("count");
    for part in 0..100_u8 {
        worker.partial(&address, [part]);
    }
    worker.answer(&address, "end");

    for part in 0..100_u8 {
        client.socket.expect(&frames![b"MDPC02", b"\x02", b"echo", [part]]);
    }
    client.expect_reply("echo", "end");
    worker.serve("next", "served");
    client.expect_reply("echo", "served");
}

#[test]
fn mdp18_13_partial_does_not_free_the_worker() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V02, "echo");
    let client = RawClient::connect(&node, V02);
    client.request("echo", "1");
    client.request("echo", "2");
    let address = worker.expect_work("1");

    worker.partial(&address, "part");

    client.socket.expect(&frames![b"MDPC02", b"\x02", b"echo", b"part"]);
    worker.settle();
    worker.answer(&address, "end");
    client.expect_reply("echo", "end");
    worker.serve("2", "served");
}

#[test]
fn mdp18_13_partly_answered_request_is_not_given_to_another() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V02, "echo");
    let client = RawClient::connect(&node, V02);
    client.request("echo", "hello");
    let address = worker.expect_work("hello");
    worker.partial(&address, "part");
    client.socket.expect(&frames![b"MDPC02", b"\x02", b"echo", b"part"]);

    worker.disconnect();
    worker.settle();

    RawWorker::register(&node, V02, "echo").settle();
    client.settle();
}

#[test]
fn mdp18_14_answer_without_empty_frame_after_the_address_is_invalid() {
    let node = NodeProcess::start(&[QUIET]);
    let client = RawClient::connect(&node, V02);
    for (index, command) in [b"\x03", b"\x04"].into_iter().enumerate() {
        let service = format!("echo-{index}");
        let worker = RawWorker::register(&node, V02, &service);
        client.request(&service, "hello");
        let address = worker.expect_work("hello");

        worker.socket.send(&frames![b"MDPW02", command, address, b"not empty", b"world"]);

        worker.expect_disconnect();
        client.settle();
    }
}

#[test]
fn mdp18_15_both_versions_share_a_service() {
    let node = NodeProcess::start(&[QUIET]);
    let (old, new) =
        (RawWorker::register(&node, V01, "echo"), RawWorker::register(&node, V02, "echo"));
    let (old_client, new_client) = (RawClient::connect(&node, V01), RawClient::connect(&node, V02));

    new_client.request("echo", "from new");
    new_client.settle();
    old_client.request("echo", "from old");

    old.serve("from new", "a");
    new.serve("from old", "b");
    new_client.expect_reply("echo", "a");
    old_client.expect_reply("echo", "b");
}
