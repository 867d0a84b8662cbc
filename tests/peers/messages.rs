//! Peers that speak ZMTP and send too much.

use std::time::Duration;

use cluster_tests::{NodeProcess, PATIENCE, QUIET, RawClient, RawTcp, RawWorker, Version, frames};

use crate::{assert_serves, wait_for_count};

use Version::{V01, V02};

const ONE_MIB: (&str, &str) = ("broker.max_message_bytes", "1MiB");

#[test]
fn frame_above_the_limit_closes_the_connection() {
    let mut node = NodeProcess::start(&[QUIET, ONE_MIB]);
    let mut tcp = RawTcp::dealer(&node);

    // The head of a frame of 2^40 bytes.
    assert!(tcp.send(&[2, 0, 0, 1, 0, 0, 0, 0, 0]));
    let _taken = tcp.send(&[0; 1_000]);

    assert!(tcp.is_closed_within(PATIENCE));
    assert_serves(&mut node);
}

#[test]
fn message_above_the_limit_closes_the_connection_and_what_comes_next_is_taken() {
    let mut node = NodeProcess::start(&[QUIET, ONE_MIB]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);
    let half = vec![b'x'; 600 << 10];

    client.socket.send(&V01.request("echo", &[&half, &half]));
    wait_for_count(&node, "message_too_large", 1);
    worker.settle();
    // libzmq connects again by itself.
    client.request("echo", &half);

    worker.serve(&half, "taken");
    client.expect_reply("echo", "taken");
    assert_serves(&mut node);
}

/// The lines about messages beyond the limits.
fn oversized_lines(node: &NodeProcess) -> Vec<String> {
    node.log().into_iter().filter(|line| line.contains("connection closed: a message")).collect()
}

#[test]
fn message_beyond_the_limits_is_logged_with_its_peer_and_size() {
    let node = NodeProcess::start(&[QUIET, ONE_MIB]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);
    let long = vec![b'x'; 1_500 << 10];
    let expected = long.len() + "MDPC01".len() + "echo".len();

    client.socket.send(&V01.request("echo", &[&long]));

    let line = node.wait_for_log(|line| line.contains("connection closed: a message"));
    for wanted in ["127.0.0.1:", &expected.to_string(), "1048576", "message_too_large"] {
        assert!(line.contains(wanted), "{wanted}: {line}");
    }
    // Another one: what a libzmq sends before it sees that its connection has ended is lost with it.
    let client = RawClient::connect(&node, V01);
    client.request("echo", "short");
    worker.serve("short", "taken");
    client.expect_reply("echo", "taken");
}

#[test]
fn burst_of_messages_beyond_the_limits_is_a_few_lines() {
    let node = NodeProcess::start(&[QUIET]);
    let frames = vec![b"x".as_slice(); 1_025];

    for count in 1..=100 {
        let client = RawClient::connect(&node, V01);
        client.socket.send(&V01.request("echo", &frames));
        wait_for_count(&node, "too_many_frames", count);
    }

    let lines = oversized_lines(&node);
    assert!((1..=12).contains(&lines.len()), "{} lines for 100 messages", lines.len());
    assert!(lines[0].contains("more than 1024 frames"), "the limit is told: {}", lines[0]);
}

#[test]
fn answer_above_the_limit_ends_its_worker() {
    let mut node = NodeProcess::start(&[QUIET, ONE_MIB]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);
    client.request("echo", "hello");
    let address = worker.expect_work("hello");
    let half = vec![b'x'; 600 << 10];

    worker.socket.send(&V01.answer(&address, &[&half, &half]));

    wait_for_count(&node, "message_too_large", 1);
    assert_eq!(client.lookup("echo"), "404");
    // On its next connection nobody knows it.
    worker.heartbeat();
    worker.expect_disconnect();
    assert_serves(&mut node);
}

#[test]
fn message_of_too_many_frames_closes_the_connection() {
    let mut node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V02, "echo");
    let client = RawClient::connect(&node, V02);
    let body = |frames: usize| vec![b"x".as_slice(); frames];

    // 1,024 frames with the three in front of the body.
    client.socket.send(&V02.request("echo", &body(1_021)));
    let work = worker.socket.recv();
    assert_eq!(work.len(), 3 + 1 + 1_021);
    worker.answer(&work[2], "taken");
    client.expect_reply("echo", "taken");

    for (count, frames) in [1_022, 10_000, 100_000].into_iter().enumerate() {
        let client = RawClient::connect(&node, V02);
        client.socket.send(&V02.request("echo", &body(frames)));
        wait_for_count(&node, "too_many_frames", count + 1);
    }
    worker.settle();
    assert_serves(&mut node);
}

#[test]
fn fifty_thousand_mmi_names_leave_nothing_behind() {
    let mut node = NodeProcess::start(&[QUIET]);
    assert_serves(&mut node);
    let before = node.rss_bytes();
    let client = RawClient::connect(&node, V01);

    for chunk in 0..50 {
        let names = (0..1_000).map(|index| format!("mmi.{}", chunk * 1_000 + index));
        for name in names.clone() {
            client.request(name, "x");
        }
        for name in names {
            client.expect_reply(name, "501");
        }
    }

    let grown = node.peak_rss_bytes().saturating_sub(before);
    assert!(grown < 20 << 20, "grown by {grown} bytes");
    assert_serves(&mut node);
}

#[test]
fn fifty_thousand_names_asked_of_mmi_service_leave_nothing_behind() {
    let mut node = NodeProcess::start(&[QUIET]);
    assert_serves(&mut node);
    let before = node.rss_bytes();
    let client = RawClient::connect(&node, V01);

    for chunk in 0..50 {
        for index in 0..1_000 {
            client.request("mmi.service", format!("name-{}", chunk * 1_000 + index));
        }
        for _ in 0..1_000 {
            client.expect_reply("mmi.service", "404");
        }
    }

    let grown = node.peak_rss_bytes().saturating_sub(before);
    assert!(grown < 20 << 20, "grown by {grown} bytes");
    assert_serves(&mut node);
}

#[test]
fn mmi_questions_sent_before_the_first_answer_is_read_are_answered() {
    let node = NodeProcess::start(&[QUIET]);
    let client = RawClient::connect(&node, V01);

    for _ in 0..50_000 {
        client.request("mmi.nothing", "x");
    }

    for _ in 0..50_000 {
        client.expect_reply("mmi.nothing", "501");
    }
}

#[test]
fn heartbeats_without_end_hold_up_nobody() {
    let mut node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "noisy");
    for _ in 0..100_000 {
        worker.heartbeat();
    }

    assert_serves(&mut node);

    worker.socket.expect_silence(Duration::from_millis(1));
    worker.socket.send(&frames![b"", b"MDPC01", b"mmi.service", b"noisy"]);
    worker.socket.expect(&frames![b"", b"MDPC01", b"mmi.service", b"200"]);
}
