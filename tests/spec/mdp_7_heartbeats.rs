//! 7/MDP, heartbeats and expiry: MDP7-21, MDP7-41 to MDP7-47.

use std::time::{Duration, Instant};

use cluster_tests::{NodeProcess, PATIENCE, RawClient, RawSocket, RawWorker, Version, frames};

use Version::V01;

/// Interval × liveness is 300 ms; the node adds 250 ms of grace.
const FAST: [(&str, &str); 2] =
    [("broker.heartbeat_interval", "100ms"), ("broker.heartbeat_liveness", "3")];

/// Before this, counted from its last sign of life, no worker of a [`FAST`] node may expire.
const EXPIRY_MIN: Duration = Duration::from_millis(300);

/// Leaves a worker that does its duty time to be late, as on a busy machine.
const PATIENT: [(&str, &str); 2] =
    [("broker.heartbeat_interval", "100ms"), ("broker.heartbeat_liveness", "10")];

/// Interval × liveness of a [`PATIENT`] node, with its grace.
const PATIENT_EXPIRY: Duration = Duration::from_millis(1_250);

#[test]
fn mdp7_21_heartbeat_layout() {
    let node = NodeProcess::start(&FAST);
    let worker = RawSocket::dealer(&node);

    worker.send(&frames![b"", b"MDPW01", b"\x01", b"echo"]);

    for _ in 0..3 {
        worker.expect(&frames![b"", b"\x4d\x44\x50\x57\x30\x31", b"\x04"]);
    }
}

#[test]
fn mdp7_41_heartbeat_right_behind_ready_is_legal() {
    let node = NodeProcess::start(&[cluster_tests::QUIET]);
    for version in Version::BOTH {
        let worker = RawWorker::connect(&node, version);

        worker.ready("echo");
        worker.heartbeat();

        worker.expect_heartbeat();
        worker.settle();
    }
}

#[test]
fn mdp7_42_every_command_is_a_sign_of_life() {
    let node = NodeProcess::start(&PATIENT);
    let client = RawClient::connect(&node, V01);
    for version in Version::BOTH {
        let worker = RawWorker::register(&node, version, "echo");

        // It never sends HEARTBEAT, only replies, for much longer than it may be silent.
        let until = Instant::now() + 2 * PATIENT_EXPIRY;
        while Instant::now() < until {
            client.request("echo", "hello");
            let address = worker.expect_work_after_heartbeats("hello");
            client.socket.expect_silence(Duration::from_millis(50));
            worker.answer(&address, "world");
            client.expect_reply("echo", "world");
        }

        assert_eq!(client.lookup("echo"), "200");
        worker.disconnect();
        client.wait_for_lookup("echo", "404");
    }
}

#[test]
fn mdp7_43_no_heartbeat_while_requests_flow() {
    let node = NodeProcess::start(&[("broker.heartbeat_interval", "800ms")]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);

    // Two intervals of requests that are never further apart than a fourth of one.
    for _ in 0..8 {
        client.request("echo", "hello");
        let address = worker.expect_work("hello");
        worker.socket.expect_silence(Duration::from_millis(200));
        worker.answer(&address, "world");
        client.expect_reply("echo", "world");
    }
}

#[test]
fn mdp7_44_idle_worker_gets_heartbeats_at_the_interval() {
    let node = NodeProcess::start(&FAST);
    for version in Version::BOTH {
        let worker = RawWorker::register(&node, version, "echo");
        let started = Instant::now();

        for _ in 0..10 {
            worker.expect_heartbeat();
            worker.heartbeat();
        }

        let took = started.elapsed();
        assert!(took >= Duration::from_millis(800), "ten intervals of 100 ms took {took:?}");
        assert!(took <= Duration::from_millis(3_000), "ten intervals of 100 ms took {took:?}");
    }
}

#[test]
fn mdp7_44_busy_worker_gets_heartbeats_too() {
    let node = NodeProcess::start(&FAST);
    for version in Version::BOTH {
        let worker = RawWorker::register(&node, version, "echo");
        let client = RawClient::connect(&node, V01);
        client.request("echo", "hello");
        let address = worker.expect_work_after_heartbeats("hello");

        for _ in 0..5 {
            worker.expect_heartbeat();
        }

        worker.answer(&address, "world");
        client.expect_reply("echo", "world");
        worker.disconnect();
    }
}

#[test]
fn mdp7_44_interval_can_be_set_per_service() {
    let file = "[[service]]\npattern = \"fast\"\nheartbeat_interval = \"100ms\"\n";
    let node = NodeProcess::start_with_file(&[cluster_tests::QUIET], file);
    let fast = RawWorker::register(&node, V01, "fast");
    let slow = RawWorker::register(&node, V01, "slow");

    for _ in 0..3 {
        fast.expect_heartbeat();
        fast.heartbeat();
    }

    slow.settle();
}

#[test]
fn mdp7_45_silent_worker_expires() {
    let node = NodeProcess::start(&FAST);
    let client = RawClient::connect(&node, V01);
    for version in Version::BOTH {
        let worker = RawWorker::register(&node, version, "echo");
        let registered = Instant::now();

        worker.expect_disconnect_after_heartbeats();

        let lived = registered.elapsed();
        assert!(lived >= EXPIRY_MIN, "it expired after {lived:?}");
        assert!(lived < Duration::from_secs(3), "it expired only after {lived:?}");
        assert_eq!(client.lookup("echo"), "404");
    }
}

#[test]
fn mdp7_45_worker_that_heartbeats_stays() {
    let node = NodeProcess::start(&PATIENT);
    let client = RawClient::connect(&node, V01);
    let worker = RawWorker::register(&node, V01, "echo");

    let until = Instant::now() + 2 * PATIENT_EXPIRY;
    while Instant::now() < until {
        worker.expect_heartbeat();
        worker.heartbeat();
    }

    assert_eq!(client.lookup("echo"), "200");
}

#[test]
fn mdp7_45_worker_whose_connection_is_gone_is_lost() {
    let node = NodeProcess::start(&FAST);
    let client = RawClient::connect(&node, V01);
    let worker = RawWorker::register(&node, V01, "echo");
    let left = Instant::now();

    drop(worker);

    client.wait_for_lookup("echo", "404");
    assert!(left.elapsed() < PATIENCE / 2);
}

#[test]
fn mdp7_47_expired_worker_gets_nothing_more() {
    let node = NodeProcess::start(&FAST);
    let client = RawClient::connect(&node, V01);
    for version in Version::BOTH {
        let service = format!("{version:?}");
        let worker = RawWorker::register(&node, version, &service);
        worker.expect_disconnect_after_heartbeats();

        client.request(&service, "hello");
        client.settle();

        worker.expect_silence();
    }
}
