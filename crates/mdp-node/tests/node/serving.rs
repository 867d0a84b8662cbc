//! Requests, replies, management, and errors at the start.

use std::time::{Duration, Instant};

use mdp_node::{Node, StartError};
use serde_json::json;

use crate::peers::{Cell, config, echo, next_reply, next_request, reply, request};

#[test]
fn request_of_0_1_is_answered() {
    let cell = Cell::new();
    let (worker, client) = (cell.worker("echo"), cell.dealer());

    request(&client, "echo", b"hello");
    echo(&worker, 1);

    assert_eq!(client.recv_multipart(0).unwrap(), [&b""[..], b"MDPC01", b"echo", b"hello"]);
}

#[test]
fn request_of_0_2_is_answered_in_parts() {
    let cell = Cell::new();
    let (worker, client) = (cell.dealer(), cell.dealer());
    worker.send_multipart(["MDPW02", "\x01", "echo"], 0).unwrap();
    assert_eq!(worker.recv_multipart(0).unwrap(), [&b"MDPW02"[..], b"\x05"]);

    client.send_multipart(["MDPC02", "\x01", "echo", "a", "b"], 0).unwrap();
    let frames = worker.recv_multipart(0).unwrap();
    let token = &frames[2];
    assert_eq!(frames, [&b"MDPW02"[..], b"\x02", token, b"", b"a", b"b"]);
    worker.send_multipart([&b"MDPW02"[..], b"\x03", token, b"", b"part"], 0).unwrap();
    worker.send_multipart([&b"MDPW02"[..], b"\x04", token, b"", b"end"], 0).unwrap();

    assert_eq!(client.recv_multipart(0).unwrap(), [&b"MDPC02"[..], b"\x02", b"echo", b"part"]);
    assert_eq!(client.recv_multipart(0).unwrap(), [&b"MDPC02"[..], b"\x03", b"echo", b"end"]);
}

#[test]
fn large_bodies_pass_both_ways() {
    let cell = Cell::new();
    let (worker, client) = (cell.worker("echo"), cell.dealer());
    for size in [0, 33, 34, 8_192, 100_000, 8 << 20] {
        let body: Vec<u8> = (0..size).map(|i: usize| u8::try_from(i % 251).unwrap()).collect();
        request(&client, "echo", &body);
        echo(&worker, 1);
        assert!(next_reply(&client) == body, "{size}");
    }
}

#[test]
fn request_of_a_worker_that_went_away_goes_to_the_next() {
    let cell = Cell::new();
    let (first, client) = (cell.worker("echo"), cell.dealer());
    request(&client, "echo", b"precious");
    assert_eq!(next_request(&first).1, b"precious");

    // Nothing is said: the connection ends, and the next heartbeat finds nobody (EHOSTUNREACH).
    drop(first);
    let second = cell.worker("echo");
    echo(&second, 1);

    assert_eq!(next_reply(&client), b"precious");
    assert_eq!(cell.page("mmi.status")["counters"]["redispatched"], 1);
}

#[test]
fn idle_worker_that_went_away_costs_no_request() {
    let cell = Cell::new();
    let (first, second) = (cell.worker("echo"), cell.worker("echo"));
    drop(first);

    let client = cell.dealer();
    for _ in 0..10 {
        request(&client, "echo", b"precious");
        let (address, body) = next_request(&second);
        reply(&second, &address, &body);
        assert_eq!(next_reply(&client), b"precious");
    }
}

#[test]
fn management_pages_tell_of_this_node() {
    let cell = Cell::new();
    let _worker = cell.worker("echo");

    let endpoint = json!({ "node": "node-1", "endpoint": cell.node.endpoint(), "epoch": 1 });
    let endpoints = json!({
        "node": "node-1",
        "endpoints": [endpoint],
        "max_message_bytes": 16_777_216,
        "max_message_frames": 1_024,
    });
    assert_eq!(cell.page("mmi.endpoints"), endpoints);
    let echo = json!({ "name": "echo", "nodes": ["node-1"], "workers": 1, "idle": 1, "queued": 0 });
    assert_eq!(cell.page("mmi.directory"), json!({ "services": [echo] }));
    assert_eq!(cell.page("mmi.status")["gauges"]["workers"], 1);
}

#[test]
fn malformed_and_oversized_messages_are_counted_and_disturb_nobody() {
    let mut config = config();
    config.settings.decode.message_bytes_max = 100_000;
    let cell = Cell::with(config);
    let (worker, client, hostile) = (cell.worker("echo"), cell.dealer(), cell.dealer());
    let (many, large) = (cell.dealer(), cell.dealer());

    hostile.send("rubbish", 0).unwrap();
    many.send_multipart(vec![""; 5_000], 0).unwrap();
    large.send_multipart(vec![vec![1_u8; 60_000]; 5], 0).unwrap();
    request(&hostile, "echo", b"and now a good one");
    echo(&worker, 1);
    assert_eq!(next_reply(&hostile), b"and now a good one");

    request(&client, "echo", b"hello");
    echo(&worker, 1);
    assert_eq!(next_reply(&client), b"hello");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let dropped = &cell.page("mmi.status")["counters"]["dropped"];
        let reasons = ["no_delimiter", "too_many_frames", "too_large"];
        if reasons.iter().all(|reason| dropped[reason] == 1) {
            break;
        }
        assert!(Instant::now() < deadline, "{dropped}");
    }
}

#[test]
fn used_and_wrong_addresses_are_refused_with_the_key_and_the_value() {
    let cell = Cell::new();
    let start = |bind: &str, advertise: &str| {
        let mut config = config();
        (config.bind, config.advertise) = (vec![bind.to_owned()], advertise.to_owned());
        Node::start(config).unwrap_err()
    };

    let error = start(cell.node.endpoint(), "");
    assert!(matches!(error, StartError::AddressInUse(_)) && error.is_configuration(), "{error}");
    assert!(error.to_string().contains(cell.node.endpoint()), "{error}");
    for (bind, advertise, words) in [
        ("127.0.0.1", "", "broker.bind: \"127.0.0.1\""),
        ("127.0.0.1:0", "x", "broker.advertise: \"x\""),
        ("127.0.0.1:0", "0.0.0.0:1", "broker.advertise = \"tcp://0.0.0.0:1\""),
    ] {
        let error = start(bind, advertise);
        assert!(error.to_string().contains(words) && error.is_configuration(), "{error}");
    }
    let mut none = config();
    none.bind.clear();
    let error = Node::start(none).unwrap_err();
    assert!(error.to_string().contains("broker.bind has 0 addresses: give 1 to 16"), "{error}");
    assert!(error.is_configuration());
}

#[test]
fn silent_worker_expires_on_time() {
    let mut config = config();
    config.settings.service.heartbeat_liveness = 3;
    let expiry = config.settings.service.expiry();
    let cell = Cell::with(config);
    let worker = cell.worker("echo");
    let registered = Instant::now();

    loop {
        let frames = worker.recv_multipart(0).unwrap();
        if frames[2] == b"\x05" {
            break;
        }
    }

    let silence = registered.elapsed();
    let late = Duration::from_secs(5);
    assert!(
        silence > expiry - Duration::from_millis(100) && silence < expiry + late,
        "{silence:?}"
    );
}
