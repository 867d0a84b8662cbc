//! Defects known from other brokers, where no clause has a test for them already.

use std::time::Duration;

use cluster_tests::{
    NodeProcess, PATIENCE, QUIET, RawClient, RawSocket, RawWorker, Version, frames,
};

use Version::{V01, V02};

const FAST: [(&str, &str); 2] =
    [("broker.heartbeat_interval", "100ms"), ("broker.heartbeat_liveness", "3")];

#[test]
fn names_that_look_like_mmi_are_ordinary() {
    let node = NodeProcess::start(&[QUIET]);
    let client = RawClient::connect(&node, V01);
    for name in ["mail", "invoice", "mice.", "imm.service", "service.mmi.", "mmi_service"] {
        let worker = RawWorker::register(&node, V01, name);

        client.request(name, "hello");

        worker.serve("hello", "world");
        client.expect_reply(name, "world");
    }
}

#[test]
fn worker_identity_says_nothing_about_mmi() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::connect_as(&node, V01, b"mmi.worker");

    worker.ready("echo");

    worker.expect_heartbeat();
    assert_eq!(RawClient::connect(&node, V01).lookup("echo"), "200");
}

#[test]
fn name_with_a_nul_is_another_name() {
    let node = NodeProcess::start(&[QUIET]);
    let plain = RawWorker::register(&node, V01, "s");
    let with_nul = RawWorker::register(&node, V01, "s\0");
    let client = RawClient::connect(&node, V01);

    client.request("s\0", "to nul");
    with_nul.serve("to nul", "1");
    client.expect_reply("s\0", "1");
    client.request("s", "to plain");
    plain.serve("to plain", "2");
    client.expect_reply("s", "2");

    with_nul.disconnect();
    with_nul.settle();
    assert_eq!((client.lookup("s\0"), client.lookup("s")), ("404".into(), "200".into()));
}

#[test]
fn silent_worker_behind_a_live_one_expires() {
    // The live one may be late, as on a busy machine; the silent one may not.
    let file = "[[service]]\npattern = \"live\"\nheartbeat_liveness = 100\n";
    let node = NodeProcess::start_with_file(&FAST, file);
    let live = RawWorker::register(&node, V01, "live");
    let silent = RawWorker::register(&node, V01, "silent");
    let client = RawClient::connect(&node, V01);

    let mut seen = None;
    for _ in 0..100 {
        live.expect_heartbeat();
        live.heartbeat();
        seen = silent.recv_command(Duration::from_millis(1));
        if seen.is_some() {
            break;
        }
    }

    assert_eq!(seen, Some(V01.disconnect()));
    assert_eq!((client.lookup("live"), client.lookup("silent")), ("200".into(), "404".into()));
}

#[test]
fn busy_worker_that_dies_is_noticed() {
    let node = NodeProcess::start(&FAST);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);
    client.request("echo", "hello");
    let _held = worker.expect_work_after_heartbeats("hello");
    assert_eq!(client.lookup("echo"), "200");

    drop(worker);

    client.wait_for_lookup("echo", "404");
}

#[test]
fn duplicate_reply_reaches_nobody() {
    let node = NodeProcess::start(&[QUIET]);
    for version in Version::BOTH {
        let worker = RawWorker::register(&node, version, "echo");
        let client = RawClient::connect(&node, version);
        client.request("echo", "hello");
        let address = worker.expect_work("hello");
        worker.answer(&address, "world");
        client.expect_reply("echo", "world");

        worker.answer(&address, "world again");

        worker.expect_disconnect();
        client.settle();
    }
}

#[test]
fn duplicate_reply_does_not_answer_the_next_request() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);
    client.request("echo", "1");
    client.request("echo", "2");
    let address = worker.expect_work("1");

    worker.answer(&address, "first");
    worker.answer(&address, "second");

    client.expect_reply("echo", "first");
    let held = worker.expect_work("2");
    assert_ne!(held, address);
    worker.expect_disconnect();
    client.settle();
}

#[test]
fn worker_is_idle_once_however_often_it_speaks() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    for _ in 0..10 {
        worker.heartbeat();
    }
    worker.settle();
    let client = RawClient::connect(&node, V01);

    for body in ["1", "2", "3"] {
        client.request("echo", body);
    }

    let address = worker.expect_work("1");
    worker.settle();
    worker.answer(&address, "-");
    worker.serve("2", "-");
    worker.serve("3", "-");
}

#[test]
fn waiting_request_is_dispatched_after_a_final() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V02, "echo");
    let client = RawClient::connect(&node, V02);
    client.request("echo", "1");
    client.request("echo", "2");

    worker.serve("1", "a");
    worker.serve("2", "b");

    client.expect_reply("echo", "a");
    client.expect_reply("echo", "b");
}

#[test]
fn reply_carries_the_service_that_was_asked() {
    let node = NodeProcess::start(&[QUIET]);
    let (a, b) = (RawWorker::register(&node, V02, "a"), RawWorker::register(&node, V02, "b"));
    let client = RawClient::connect(&node, V01);
    client.request("a", "1");
    client.request("b", "2");
    let (for_a, for_b) = (a.expect_work("1"), b.expect_work("2"));

    b.answer(&for_b, "y");
    client.expect_reply("b", "y");
    a.answer(&for_a, "x");
    client.expect_reply("a", "x");
}

#[test]
fn bad_command_does_not_make_a_stranger_known() {
    let node = NodeProcess::start(&[QUIET]);
    for version in Version::BOTH {
        let worker = RawWorker::connect(&node, version);
        worker.heartbeat();
        worker.expect_disconnect();
        worker.socket.send(&frames![b"", b"MDPW01", b"\x77"]);

        worker.ready("echo");

        worker.expect_heartbeat();
        worker.disconnect();
    }
}

#[test]
fn removed_worker_gets_no_heartbeats() {
    let node = NodeProcess::start(&[("broker.heartbeat_interval", "50ms")]);
    let worker = RawWorker::register(&node, V01, "echo");
    worker.socket.send(&frames![b"", b"MDPW01", b"\x77"]);
    worker.expect_disconnect_after_heartbeats();

    worker.expect_silence();
}

#[test]
fn busy_worker_may_leave_and_the_node_lives() {
    let mut node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);
    client.request("echo", "hello");
    let _held = worker.expect_work("hello");

    worker.disconnect();

    worker.settle();
    assert_eq!(client.lookup("echo"), "404");
    node.assert_alive();
}

#[test]
fn mmi_answers_do_not_wait_behind_requests() {
    let node = NodeProcess::start(&[QUIET]);
    let client = RawClient::connect(&node, V01);
    for _ in 0..1_000 {
        client.request("absent", "waits");
    }

    assert_eq!(client.lookup("absent"), "404");
}

#[test]
fn worker_may_also_ask_as_a_client() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "front");
    let back = RawWorker::register(&node, V01, "back");
    let client = RawClient::connect(&node, V01);
    client.request("front", "hello");
    let address = worker.expect_work("hello");

    worker.socket.send(&V01.request("back", &[b"help"]));
    back.serve("help", "done");
    worker.socket.expect(&V01.reply("back", &[b"done"]));
    worker.answer(&address, "world");

    client.expect_reply("front", "world");
}

#[test]
fn worker_that_reappears_after_a_restart_of_the_broker_is_disconnected() {
    for version in Version::BOTH {
        let node = NodeProcess::start(&[QUIET]);
        let worker = RawWorker::register(&node, version, "echo");
        let client = RawClient::connect(&node, version);
        client.request("echo", "hello");
        let address = worker.expect_work("hello");

        let node = node.restart();
        // Its DEALER keeps the queue and comes back under another routing id, without READY.
        worker.answer(&address, "late");

        worker.expect_disconnect();
        assert_eq!(RawClient::connect(&node, version).lookup("echo"), "404");
    }
}

#[test]
fn reply_across_a_restart_reaches_no_new_client() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);
    client.request("echo", "hello");
    let address = worker.expect_work("hello");
    drop(client);

    let node = node.restart();
    let clients = [(); 3].map(|()| RawClient::connect(&node, V01));
    clients.iter().for_each(RawClient::settle);
    worker.answer(&address, "late");
    worker.expect_disconnect();

    clients.iter().for_each(RawClient::settle);
}

#[test]
fn empty_reply_body_frame_is_a_body() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);
    client.request("echo", "");

    worker.serve("", "");

    client.expect_reply("echo", "");
}

#[test]
fn dialects_of_02_are_refused_without_harm() {
    let mut node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V02, "echo");
    let peer = RawSocket::dealer(&node);
    for message in [
        // With an empty frame in front, as several implementations send it.
        frames![b"", b"MDPC02", b"echo", b"hello"],
        frames![b"", b"MDPW02", b"\x01", b"echo"],
        // Text commands.
        frames![b"MDPW02", b"READY", b"echo"],
        frames![b"", b"MDPW01", b"READY", b"echo"],
        // Version 3 of another project.
        frames![b"MDPC03", b"\x02", b"echo", b"", b"", b"", b"hello", b"", b""],
        frames![b"C", b"{\"service\":\"echo\"}"],
        frames![[0xaa, 0xa4, 1], b"echo"],
    ] {
        peer.send(&message);
    }
    peer.send(&V01.request("mmi.settle", &[b"-"]));

    assert_eq!(peer.recv_within(PATIENCE), Some(V01.reply("mmi.settle", &[b"501"])));
    worker.settle();
    node.assert_alive();
}
