//! 7/MDP, workers: MDP7-18, MDP7-22 to MDP7-40, MDP7-47 to MDP7-49.

use cluster_tests::{
    NodeProcess, QUIET, RawClient, RawSocket, RawWorker, ReqClient, Version, frames,
};

use Version::V01;

#[test]
fn mdp7_18_ready_has_exactly_four_frames() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawSocket::dealer(&node);

    for ready in [
        frames![b"", b"MDPW01", b"\x01"],
        frames![b"", b"MDPW01", b"\x01", b"echo", b""],
        frames![b"", b"MDPW01", b"\x01", b"echo", b"echo"],
    ] {
        worker.send(&ready);
        worker.expect(&frames![b"", b"MDPW01", b"\x05"]);
    }

    assert_eq!(RawClient::connect(&node, V01).lookup("echo"), "404");
    worker.send(&frames![b"", b"MDPW01", b"\x01", b"echo"]);
    worker.expect(&frames![b"", b"MDPW01", b"\x04"]);
}

#[test]
fn mdp7_22_disconnect_layout() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawSocket::dealer(&node);

    worker.send(&frames![b"", b"MDPW01", b"\x04"]);

    worker.expect(&frames![b"", b"\x4d\x44\x50\x57\x30\x31", b"\x05"]);
}

#[test]
fn mdp7_23_worker_command_without_empty_frame_is_invalid() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::connect(&node, V01);

    worker.socket.send(&frames![b"MDPW01", b"\x01", b"echo"]);

    worker.settle();
    assert_eq!(RawClient::connect(&node, V01).lookup("echo"), "404");
}

#[test]
fn mdp7_25_command_without_header_is_dropped() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::connect(&node, V01);

    worker.socket.send(&frames![b"", b"\x01", b"echo"]);

    worker.settle();
    assert_eq!(RawClient::connect(&node, V01).lookup("echo"), "404");
}

#[test]
fn mdp7_27_service_has_many_workers() {
    let node = NodeProcess::start(&[QUIET]);
    let first = RawWorker::register(&node, V01, "echo");
    let second = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);

    client.request("echo", "1");
    client.request("echo", "2");

    let (held_by_first, held_by_second) = (first.expect_work("1"), second.expect_work("2"));
    second.answer(&held_by_second, "b");
    client.expect_reply("echo", "b");
    first.answer(&held_by_first, "a");
    client.expect_reply("echo", "a");
}

#[test]
fn mdp7_29_ready_gets_no_frame_but_a_heartbeat() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::connect(&node, V01);

    worker.ready("echo");

    worker.expect_heartbeat();
    worker.settle();
}

#[test]
fn mdp7_31_disconnect_before_ready_is_allowed() {
    let node = NodeProcess::start(&[QUIET]);
    for version in Version::BOTH {
        let worker = RawWorker::connect(&node, version);

        worker.disconnect();

        worker.settle();
        worker.ready("echo");
        worker.expect_heartbeat();
    }
}

#[test]
fn mdp7_31_disconnect_ends_an_idle_registration() {
    let node = NodeProcess::start(&[QUIET]);
    let client = RawClient::connect(&node, V01);
    for version in Version::BOTH {
        let worker = RawWorker::register(&node, version, "echo");
        assert_eq!(client.lookup("echo"), "200");

        worker.disconnect();

        worker.settle();
        assert_eq!(client.lookup("echo"), "404");
    }
}

#[test]
fn mdp7_31_disconnect_while_busy_gives_the_request_back() {
    let node = NodeProcess::start(&[QUIET]);
    for version in Version::BOTH {
        let leaver = RawWorker::register(&node, version, "echo");
        let client = RawClient::connect(&node, V01);
        client.request("echo", "hello");
        let _held = leaver.expect_work("hello");

        leaver.disconnect();
        let worker = RawWorker::register(&node, version, "echo");

        worker.serve("hello", "world");
        client.expect_reply("echo", "world");
        worker.disconnect();
        worker.settle();
    }
}

#[test]
fn mdp7_32_worker_that_left_gets_nothing_more() {
    let node = NodeProcess::start(&[("broker.heartbeat_interval", "100ms")]);
    let client = RawClient::connect(&node, V01);
    for version in Version::BOTH {
        let service = format!("{version:?}");
        let worker = RawWorker::register(&node, version, &service);
        worker.disconnect();
        // Heartbeats that were on their way before the broker read DISCONNECT do not count.
        worker.socket.send(&frames![b"", b"MDPC01", b"mmi.settle", b"-"]);
        assert_eq!(
            worker.recv_command(cluster_tests::PATIENCE),
            Some(frames![b"", b"MDPC01", b"mmi.settle", b"501"])
        );

        client.request(&service, "hello");

        worker.expect_silence();
    }
}

#[test]
fn mdp7_33_peer_that_said_nothing_gets_nothing() {
    let node = NodeProcess::start(&[("broker.heartbeat_interval", "50ms")]);
    let worker = RawWorker::connect(&node, V01);
    let client = RawClient::connect(&node, V01);

    client.request("echo", "hello");
    client.settle();

    worker.expect_silence();
}

#[test]
fn mdp7_34_second_ready_is_answered_by_disconnect() {
    let node = NodeProcess::start(&[QUIET]);
    for version in Version::BOTH {
        for second in ["echo", "other"] {
            let worker = RawWorker::register(&node, version, "echo");

            worker.ready(second);

            worker.expect_disconnect();
            worker.settle();
            let client = RawClient::connect(&node, V01);
            assert_eq!(
                (client.lookup("echo"), client.lookup("other")),
                ("404".into(), "404".into())
            );
        }
    }
}

#[test]
fn mdp7_34_command_before_ready_is_answered_by_disconnect() {
    let node = NodeProcess::start(&[QUIET]);
    for version in Version::BOTH {
        let worker = RawWorker::connect(&node, version);

        worker.heartbeat();
        worker.expect_disconnect();
        worker.answer(b"somebody", "hello");
        worker.expect_disconnect();
        worker.socket.send(&version.work(b"somebody", &[b"hello"]));
        worker.expect_disconnect();
        if version == Version::V02 {
            worker.partial(b"somebody", "hello");
            worker.expect_disconnect();
        }

        worker.settle();
    }
}

#[test]
fn mdp7_34_command_out_of_place_is_answered_by_disconnect_then_silence() {
    let node = NodeProcess::start(&[("broker.heartbeat_interval", "100ms")]);
    let client = RawClient::connect(&node, V01);
    for version in Version::BOTH {
        let service = format!("{version:?}");
        let worker = RawWorker::register(&node, version, &service);

        worker.socket.send(&version.work(b"somebody", &[b"hello"]));

        worker.expect_disconnect_after_heartbeats();
        client.request(&service, "hello");
        client.settle();
        worker.expect_silence();
    }
}

#[test]
fn mdp7_34_reply_with_nothing_outstanding_is_answered_by_disconnect() {
    let node = NodeProcess::start(&[QUIET]);
    let client = RawClient::connect(&node, V01);
    for version in Version::BOTH {
        let worker = RawWorker::register(&node, version, "echo");

        worker.answer(b"somebody", "hello");

        worker.expect_disconnect();
        assert_eq!(client.lookup("echo"), "404");
    }
}

#[test]
fn mdp7_35_malformed_message_ends_the_registration_of_its_worker() {
    let node = NodeProcess::start(&[QUIET]);
    let client = RawClient::connect(&node, V01);
    for message in [
        frames![b"", b"MDPW01", b"\x09"],
        frames![b"", b"MDPW01", b"\x00"],
        frames![b"", b"MDPW01", b""],
        frames![b"", b"MDPW01", b"\x04\x04"],
        frames![b"", b"MDPW01"],
        frames![b"", b"MDPW99", b"\x04"],
        frames![b"", b"mdpw01", b"\x04"],
        frames![b"", b"MDPW01", b"\x03", b"somebody"],
        frames![b"x", b"", b"MDPW01", b"\x04"],
        frames![b"nonsense"],
        frames![b""],
    ] {
        let worker = RawWorker::register(&node, V01, "echo");

        worker.socket.send(&message);

        worker.expect_disconnect();
        assert_eq!(client.lookup("echo"), "404", "{message:?}");
    }
}

#[test]
fn mdp7_35_malformed_message_of_a_stranger_is_dropped() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::connect(&node, V01);
    for message in [
        frames![b"", b"MDPW01", b"\x09", b"echo"],
        frames![b"", b"MDPW01"],
        frames![b"", b"MDPW99", b"\x01", b"echo"],
        frames![b"", b"MDPW01", b"\x03", b"somebody"],
        frames![b"nonsense"],
        frames![b""],
    ] {
        worker.socket.send(&message);
        worker.settle();
    }

    worker.ready("echo");

    worker.expect_heartbeat();
}

#[test]
fn mdp7_38_worker_request_holds_one_address_frame() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    // Its envelope has two frames in front of the empty one.
    let client = RawSocket::dealer(&node);

    client.send(&frames![b"hop 1", b"hop 2", b"", b"MDPC01", b"echo", b"hello"]);

    worker.serve("hello", "world");
    client.expect(&frames![b"hop 1", b"hop 2", b"", b"MDPC01", b"echo", b"world"]);
}

#[test]
fn mdp7_39_reply_without_empty_frame_after_the_address_is_taken_as_meant() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);
    client.request("echo", "hello");
    let address = worker.expect_work("hello");

    worker.socket.send(&frames![b"", b"MDPW01", b"\x03", address, b"world"]);

    client.expect_reply("echo", "world");
    client.request("echo", "again");
    worker.serve("again", "and again");
    client.expect_reply("echo", "and again");
}

#[test]
fn mdp7_40_address_is_an_opaque_token_of_its_request() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = ReqClient::connect(&node);
    let mut addresses = Vec::new();

    for _ in 0..3 {
        client.request("echo", "hello");
        let address = worker.expect_work("hello");
        worker.answer(&address, "world");
        client.expect_reply("echo", "world");
        addresses.push(address);
    }

    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 3, "a token names one request, not one client");
    assert!(addresses.iter().all(|address| address.len() == 16 && !address.contains(&0)));
}

#[test]
fn mdp7_48_request_of_a_lost_worker_goes_to_another() {
    let node = NodeProcess::start(&[("broker.heartbeat_interval", "100ms")]);
    let client = RawClient::connect(&node, V01);
    for version in Version::BOTH {
        let service = format!("{version:?}");
        let lost = RawWorker::register(&node, version, &service);
        client.request(&service, "hello");
        let _held = lost.expect_work_after_heartbeats("hello");

        drop(lost);
        let worker = RawWorker::register(&node, version, &service);

        let address = worker.expect_work_after_heartbeats("hello");
        worker.answer(&address, "world");
        client.expect_reply(&service, "world");
    }
}

#[test]
fn mdp7_49_listener_open_to_the_network_is_warned_about() {
    let node = NodeProcess::start_at(&[QUIET], "tcp://0.0.0.0:0");

    let warnings: Vec<_> = node
        .log()
        .into_iter()
        .filter(|line| line.contains("WARN") && line.contains("0.0.0.0"))
        .collect();

    assert_eq!(warnings.len(), 1, "{:?}", node.log());
}

#[test]
fn mdp7_49_listener_on_loopback_is_not_warned_about() {
    let node = NodeProcess::start(&[QUIET]);

    assert!(!node.log().iter().any(|line| line.contains("WARN")), "{:?}", node.log());
}
