#![cfg(test)]
//! Leaving on purpose: SIGTERM finishes what was begun and takes nothing new.

use std::time::{Duration, Instant};

use cluster_tests::{NodeProcess, PATIENCE, QUIET, RawClient, RawWorker, Version};
use rustix::process::Signal;

use Version::{V01, V02};

/// A drain that nothing holds up ends within this time.
const PROMPT: Duration = Duration::from_secs(5);

#[track_caller]
fn assert_ends_well(node: &mut NodeProcess) {
    let status = node.wait_for_exit(PROMPT);
    assert_eq!(status.code(), Some(0), "{:?}", node.log());
}

/// The drain receipt in the log.
#[track_caller]
fn receipt(node: &NodeProcess) -> String {
    node.wait_for_log(|line| line.contains("drained") && line.contains("finished"))
}

#[test]
fn idle_node_ends_at_once_with_a_receipt() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut node = NodeProcess::start(&[QUIET]);

        node.signal(signal);

        assert_ends_well(&mut node);
        assert!(receipt(&node).contains("dropped"), "{}", receipt(&node));
    }
}

#[test]
fn idle_workers_are_disconnected() {
    let mut node = NodeProcess::start(&[QUIET]);
    let workers = Version::BOTH.map(|version| RawWorker::register(&node, version, "echo"));

    node.signal(Signal::TERM);

    workers.iter().for_each(RawWorker::expect_disconnect);
    assert_ends_well(&mut node);
}

#[test]
fn held_request_is_finished_before_the_end() {
    for version in Version::BOTH {
        let mut node = NodeProcess::start(&[QUIET]);
        let busy = RawWorker::register(&node, version, "echo");
        let client = RawClient::connect(&node, V01);
        client.request("echo", "hello");
        let address = busy.expect_work("hello");
        let idle = RawWorker::register(&node, version, "echo");

        node.signal(Signal::TERM);
        idle.expect_disconnect();
        busy.expect_silence();
        busy.answer(&address, "world");

        client.expect_reply("echo", "world");
        busy.expect_disconnect();
        assert_ends_well(&mut node);
        let receipt = receipt(&node);
        assert!(number_after(&receipt, "finished") == 1, "{receipt}");
    }
}

#[test]
fn partial_replies_pass_while_draining() {
    let mut node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V02, "echo");
    let client = RawClient::connect(&node, V02);
    client.request("echo", "hello");
    let address = worker.expect_work("hello");
    let idle = RawWorker::register(&node, V02, "echo");
    node.signal(Signal::TERM);
    idle.expect_disconnect();

    worker.partial(&address, "part");
    worker.answer(&address, "end");

    let part = client.socket.recv();
    assert_eq!(part.last(), Some(&b"part".to_vec()));
    client.expect_reply("echo", "end");
    assert_ends_well(&mut node);
}

#[test]
fn waiting_requests_are_dropped_and_counted() {
    let mut node = NodeProcess::start(&[QUIET]);
    let client = RawClient::connect(&node, V01);
    for _ in 0..3 {
        client.request("absent", "hello");
    }
    client.settle();

    node.signal(Signal::TERM);

    assert_ends_well(&mut node);
    let receipt = receipt(&node);
    assert!(number_after(&receipt, "dropped") == 3, "{receipt}");
}

#[test]
fn large_replies_arrive_before_the_end() {
    let mut node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);
    client.request("echo", "hello");
    let address = worker.expect_work("hello");
    let body = vec![b'x'; 10 << 20];

    node.signal(Signal::TERM);
    worker.answer(&address, &body);

    client.expect_reply("echo", &body);
    worker.expect_disconnect();
    assert_ends_well(&mut node);
}

#[test]
fn ready_while_draining_is_disconnected_after_a_while() {
    let mut node = NodeProcess::start(&[QUIET]);
    let busy = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);
    client.request("echo", "hello");
    let address = busy.expect_work("hello");
    let idle = RawWorker::register(&node, V01, "echo");
    node.signal(Signal::TERM);
    idle.expect_disconnect();

    for version in Version::BOTH {
        let late = RawWorker::connect(&node, version);
        let asked = Instant::now();
        late.ready("echo");
        late.expect_disconnect();

        let took = asked.elapsed();
        assert!(took >= Duration::from_millis(250), "it was disconnected after {took:?}");
        assert!(took < Duration::from_secs(3), "it was disconnected after {took:?}");
    }

    busy.answer(&address, "world");
    client.expect_reply("echo", "world");
    assert_ends_well(&mut node);
}

#[test]
fn heartbeats_and_mmi_go_on_while_draining() {
    let mut node = NodeProcess::start(&[("broker.heartbeat_interval", "100ms")]);
    let busy = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);
    client.request("echo", "hello");
    let address = busy.expect_work_after_heartbeats("hello");
    let idle = RawWorker::register(&node, V01, "echo");
    node.signal(Signal::TERM);
    idle.expect_disconnect_after_heartbeats();

    for _ in 0..3 {
        busy.expect_heartbeat();
    }
    assert_eq!(client.ask("mmi.nothing", "x"), "501");

    busy.answer(&address, "world");
    client.expect_reply("echo", "world");
    busy.expect_disconnect_after_heartbeats();
    assert_ends_well(&mut node);
}

#[test]
fn second_signal_ends_the_node_at_once() {
    let mut node = NodeProcess::start(&[QUIET]);
    let busy = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);
    client.request("echo", "hello");
    let _held = busy.expect_work("hello");
    let idle = RawWorker::register(&node, V01, "echo");
    node.signal(Signal::TERM);
    idle.expect_disconnect();

    node.signal(Signal::TERM);

    // The first alone would wait for the held request for 20 s.
    let _status = node.wait_for_exit(PROMPT);
}

#[test]
fn drain_ends_at_its_timeout() {
    let mut node = NodeProcess::start(&[QUIET, ("drain.timeout", "500ms")]);
    let busy = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);
    client.request("echo", "hello");
    let _held = busy.expect_work("hello");

    node.signal(Signal::TERM);

    let _status = node.wait_for_exit(PATIENCE);
    let receipt = receipt(&node);
    assert!(number_after(&receipt, "dropped") == 1, "{receipt}");
}

/// The number behind a name, as `finished=1` or `"finished":1`.
fn number_after(receipt: &str, name: &str) -> u64 {
    let (_, rest) = receipt.split_once(name).unwrap_or_else(|| panic!("no {name} in {receipt}"));
    let digits = rest.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}
