//! What peers can do to the port itself: nothing, to anybody but themselves.

use std::{
    thread,
    time::{Duration, Instant},
};

use cluster_tests::{
    NodeProcess, PATIENCE, QUIET, RawClient, RawTcp, RawWorker, Version, frames, zmtp_frame,
};

use crate::{assert_serves, wait_for_count};

use Version::{V01, V02};

/// A PING without a time to live, and one that is cut off.
const PING: &[u8] = b"\x04\x07\x04PING\0\0";
const CUT_PING: &[u8] = b"\x04\x05\x04PING";
/// How soon the end of a connection has to be known.
const KNOWN_WITHIN: Duration = Duration::from_millis(10);

/// A request for a service that nobody offers, as bytes.
fn request_bytes() -> Vec<u8> {
    [
        zmtp_frame(b"", true),
        zmtp_frame(b"MDPC01", true),
        zmtp_frame(b"mmi.service", true),
        zmtp_frame(b"echo", false),
    ]
    .concat()
}

#[test]
fn peers_that_ping_pipeline_and_vanish_do_not_end_the_node() {
    let mut node = NodeProcess::start(&[QUIET]);
    let flood: Vec<u8> = (0..200).flat_map(|_| [request_bytes(), PING.to_vec()].concat()).collect();
    for _ in 0..10 {
        let mut peers: Vec<RawTcp> = (0..60).map(|_| RawTcp::dealer(&node)).collect();
        for peer in &mut peers {
            peer.reset_when_closed();
            let _taken = peer.send(&flood);
        }
    }
    assert_serves(&mut node);
}

#[test]
fn claimed_routing_ids_take_nothing_from_anybody() {
    let mut node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    let waiting = RawClient::connect(&node, V01);
    waiting.request("echo", "whose?");
    let address = worker.expect_work("whose?");

    // What libzmq called its peers by itself: a zero, and the next numbers.
    let claims: Vec<RawClient> = (0..200_u32)
        .map(|number| [&[0], number.to_be_bytes().as_slice()].concat())
        .map(|id| RawClient::connect_as(&node, V01, &id))
        .collect();
    for claim in &claims {
        assert_eq!(claim.lookup("echo"), "200");
    }
    let anonymous: Vec<RawClient> = (0..20).map(|_| RawClient::connect(&node, V02)).collect();
    for client in &anonymous {
        assert_eq!(client.lookup("echo"), "200");
    }

    worker.answer(&address, "mine");
    waiting.expect_reply("echo", "mine");
    claims.iter().take(5).for_each(RawClient::expect_silence);
    claims.iter().for_each(RawClient::settle);
    assert_serves(&mut node);
}

/// All processes of the Guide's C++ programs have one routing id.
#[test]
fn clients_and_workers_with_one_routing_id_get_what_is_theirs() {
    const ROUNDS: usize = 1_000;
    let node = NodeProcess::start(&[QUIET]);
    let id = b"E961-3292";
    let workers = [0, 1].map(|_| RawWorker::connect_as(&node, V01, id));
    for (number, worker) in workers.iter().enumerate() {
        worker.ready(format!("echo-{number}"));
        worker.expect_heartbeat();
    }
    let clients = [0, 1].map(|_| RawClient::connect_as(&node, V01, id));
    thread::scope(|scope| {
        for worker in workers {
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    let work = worker.socket.recv();
                    worker.answer(&work[3], &work[5]);
                }
            });
        }
        for (number, client) in clients.into_iter().enumerate() {
            scope.spawn(move || {
                let service = format!("echo-{number}");
                for round in 0..ROUNDS {
                    let body = format!("{number} {round}");
                    client.request(&service, &body);
                    client.expect_reply(&service, &body);
                }
            });
        }
    });
}

/// With one routing id for both, a broker that goes by it gives a client the worker's request.
#[test]
fn client_with_a_workers_routing_id_gets_no_request() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::connect_as(&node, V01, b"same");
    worker.ready("echo");
    worker.expect_heartbeat();
    let client = RawClient::connect_as(&node, V01, b"same");
    client.request("echo", "hello");

    worker.serve("hello", "world");
    client.expect_reply("echo", "world");
    client.expect_silence();
}

#[test]
fn messages_without_end_are_cut_off_before_they_cost_anything() {
    let mut node = NodeProcess::start(&[QUIET]);
    assert_serves(&mut node);
    let before = node.rss_bytes();
    let part = [zmtp_frame(&[b'x'; 200], true), Vec::new()].concat().repeat(100);
    let empty = zmtp_frame(b"", true).repeat(20_000);
    for endless in [part, empty] {
        let mut tcp = RawTcp::dealer(&node);
        let started = Instant::now();
        while tcp.send(&endless) {
            assert!(started.elapsed() < PATIENCE, "it is not cut off");
        }
    }
    let grown = node.peak_rss_bytes().saturating_sub(before);
    assert!(grown < 20 << 20, "grown by {grown} bytes");
    assert_serves(&mut node);
}

#[test]
fn handshakes_have_limits() {
    let mut node = NodeProcess::start(&[QUIET]);
    let greeting = || {
        let mut greeting = vec![0; 64];
        greeting[0] = 0xff;
        greeting[9] = 0x7f;
        greeting[10] = 3;
        greeting[12..16].copy_from_slice(b"NULL");
        greeting
    };
    // A READY with a property of 15 MiB, and one with a routing id of 300 bytes.
    let mut long = RawTcp::connect(&node);
    assert!(long.send(&greeting()));
    let _taken = long.send(&[&[6, 0, 0, 0, 0, 0, 0xf0, 0, 0][..], &[b'x'; 9_000]].concat());
    assert!(long.is_closed_within(PATIENCE));
    wait_for_count(&node, "command_too_large", 1);

    let mut command = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\x01\x2c".to_vec();
    command.extend_from_slice(&[7; 300]);
    let mut named = RawTcp::connect(&node);
    assert!(named.send(&greeting()));
    let size = u64::try_from(command.len()).unwrap().to_be_bytes();
    let _taken = named.send(&[&[6][..], &size, &command].concat());
    assert!(named.is_closed_within(PATIENCE));
    wait_for_count(&node, "routing_id", 1);
    assert_serves(&mut node);
}

#[test]
fn whoever_speaks_something_else_is_told_of_in_the_log() {
    let mut node = NodeProcess::start(&[QUIET]);
    let speaks = |bytes: &[u8]| {
        let mut tcp = RawTcp::connect(&node);
        let _taken = tcp.send(bytes);
        assert!(tcp.is_closed_within(PATIENCE));
    };
    let greeting = |mechanism: &[u8], socket_type: &[u8]| {
        let mut bytes = vec![0; 64];
        bytes[0] = 0xff;
        bytes[9] = 0x7f;
        bytes[10] = 3;
        bytes[12..12 + mechanism.len()].copy_from_slice(mechanism);
        let length = u8::try_from(22 + socket_type.len()).unwrap();
        bytes.extend_from_slice(&[4, length]);
        bytes.extend_from_slice(b"\x05READY\x0bSocket-Type\0\0\0");
        bytes.push(u8::try_from(socket_type.len()).unwrap());
        bytes.extend_from_slice(socket_type);
        bytes
    };
    let cases: [(&str, Vec<u8>, &str); 7] = [
        ("http", b"GET / HTTP/1.1\r\n\r\n".to_vec(), "admin.bind"),
        ("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), "without TLS"),
        ("proxy_line", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n".to_vec(), "PROXY protocol"),
        ("older_zmtp", b"\x01\x00\x05\x01abcd".to_vec(), "update"),
        ("mechanism", greeting(b"CURVE", b"DEALER"), "without keys"),
        ("socket_type", greeting(b"NULL", b"PUB"), "REQ or DEALER"),
        ("unknown_protocol", b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec(), "which program"),
    ];
    for (reason, bytes, advice) in cases {
        speaks(&bytes);
        let line = node.wait_for_log(|line| line.contains(&format!("reason=\"{reason}\"")));
        assert!(line.contains("WARN") && line.contains("127.0.0.1:"), "{line}");
        assert!(line.contains(advice), "{line}");
        wait_for_count(&node, reason, 1);
    }
    assert_serves(&mut node);
}

#[test]
fn ping_that_is_cut_off_is_answered_with_nothing_of_ours() {
    let node = NodeProcess::start(&[QUIET]);
    let mut tcp = RawTcp::dealer(&node);
    assert!(tcp.send(b"\x04\x09\x04PING\0\0ab"));
    tcp.read_until(b"\x04\x07\x04PONGab");
    assert!(tcp.send(CUT_PING));
    assert!(tcp.is_closed_within(PATIENCE));
}

#[test]
fn worker_that_is_killed_is_known_at_once() {
    let node = NodeProcess::start(&[QUIET]);
    let client = RawClient::connect(&node, V01);
    let mut known_after: Vec<Duration> = (0..40)
        .map(|round| {
            let mut worker = RawTcp::dealer(&node);
            worker.reset_when_closed();
            let ready = frames![b"", b"MDPW01", b"\x01", b"echo"];
            for (at, frame) in ready.iter().enumerate() {
                assert!(worker.send(&zmtp_frame(frame, at + 1 < ready.len())));
            }
            client.wait_for_lookup("echo", "200");
            // Every second one has a request, which goes to another worker.
            let next = (round % 2 == 1).then(|| {
                client.request("echo", "hello");
                worker.read_until(b"hello");
                RawWorker::register(&node, V01, "echo")
            });
            let killed_at = Instant::now();
            drop(worker);
            match next {
                None => client.wait_for_lookup("echo", "404"),
                Some(next) => {
                    let address = next.expect_work("hello");
                    let known = killed_at.elapsed();
                    next.answer(&address, "world");
                    client.expect_reply("echo", "world");
                    next.disconnect();
                    client.wait_for_lookup("echo", "404");
                    return known;
                }
            }
            killed_at.elapsed()
        })
        .collect();
    known_after.sort_unstable();
    println!("known after {:?}, at most {:?}", known_after[20], known_after[39]);
    assert!(known_after[20] <= KNOWN_WITHIN, "{known_after:?}");
    // A heartbeat would take seconds.
    assert!(known_after[39] < Duration::from_secs(1), "{known_after:?}");
}
