//! Memory stays within the configured limits, whatever peers do.

use std::time::{Duration, Instant};

use cluster_tests::{NodeProcess, QUIET, RawClient, RawSocket, RawWorker, Version, scale};

use crate::{MIB, machine};

use Version::V01;

/// The node's own size, libzmq's buffers and what the allocator keeps, on top of a limit.
const BASE_BYTES: u64 = 40 * MIB;

/// What the node keeps of a service that has a request and no worker, besides the request.
const SERVICE_BYTES: u64 = 1_536;

/// How many messages libzmq takes for one peer before the node's own outgoing buffer.
const SEND_MESSAGES_MAX: u64 = 128;

/// How long a worker waits for more before it takes its job as done.
const NO_MORE_AFTER: Duration = Duration::from_secs(2);

/// How often a client that floods waits until the node has read what it sent.
const REQUESTS_PER_ROUND: u32 = 10_000;

/// Sends requests without reading replies; the node's peak may not pass the bound.
fn flood(node: &NodeProcess, requests: u32, service_of: impl Fn(u32) -> String) -> RawClient {
    let client = RawClient::connect(node, V01);
    for number in 0..requests {
        client.request(service_of(number), format!("{number:064}"));
        if number % REQUESTS_PER_ROUND == 0 {
            client.settle();
        }
    }
    client.settle();
    client
}

/// A worker and a client that behave, and are served while the node is full of other things.
struct Others {
    worker: RawWorker,
    client: RawClient,
}

impl Others {
    fn new(node: &NodeProcess) -> Self {
        let worker = RawWorker::register(node, V01, "well-behaved");
        Self { worker, client: RawClient::connect(node, V01) }
    }

    #[track_caller]
    fn assert_served(&self) {
        let started = Instant::now();
        for body in ["1", "2", "3"] {
            self.client.request("well-behaved", body);
            self.worker.serve(body, body);
            self.client.expect_reply("well-behaved", body);
        }
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }
}

#[track_caller]
fn assert_peak_below(node: &NodeProcess, bound: u64) {
    let peak = node.peak_rss_bytes();
    println!("peak {} MiB, allowed {}", peak / MIB, bound / MIB);
    assert!(peak < bound, "the node had {} MiB, allowed {}", peak / MIB, bound / MIB);
}

#[test]
fn requests_to_unknown_services_stay_within_memory() {
    let _machine = machine();
    let requests = scale().pick(100_000, 1_000_000);
    let limit = ("broker.max_queued_bytes", "64MiB");
    let node = NodeProcess::start(&[QUIET, limit]);
    let others = Others::new(&node);

    let _client = flood(&node, requests, |number| format!("unknown-service-{number}"));

    // `max_services`: 100,000.
    assert_peak_below(&node, 64 * MIB + 100_000 * SERVICE_BYTES + BASE_BYTES);
    others.assert_served();
}

#[test]
fn unknown_services_beyond_their_number_are_refused() {
    let _machine = machine();
    let mut node = NodeProcess::start(&[QUIET, ("broker.max_services", "1000")]);

    let _client = flood(&node, 100_000, |number| format!("unknown-service-{number}"));

    assert_peak_below(&node, BASE_BYTES);
    node.assert_alive();
}

#[test]
fn expired_requests_make_room_for_others() {
    let _machine = machine();
    let settings = [QUIET, ("broker.request_ttl", "500ms"), ("broker.max_services", "1000")];
    let node = NodeProcess::start(&settings);
    let others = Others::new(&node);
    let client = flood(&node, 10_000, |number| format!("unknown-service-{number}"));
    client.socket.expect_silence(Duration::from_secs(1));

    others.assert_served();
}

#[test]
fn two_hundred_thousand_waiting_requests_stay_within_memory() {
    let _machine = machine();
    let node = NodeProcess::start(&[QUIET, ("broker.request_ttl", "10m")]);
    let others = Others::new(&node);

    let client = flood(&node, 200_000, |_| "absent".to_owned());

    assert_peak_below(&node, 256 * MIB + BASE_BYTES);
    others.assert_served();
    // None of them is lost, and their order holds.
    let worker = RawWorker::register(&node, V01, "absent");
    for number in 0..1_000 {
        let body = format!("{number:064}");
        worker.serve(&body, &body);
        client.expect_reply("absent", &body);
    }
}

#[test]
fn waiting_requests_beyond_the_bytes_are_shed() {
    let _machine = machine();
    let node = NodeProcess::start(&[QUIET, ("broker.max_queued_bytes", "32MiB")]);
    let others = Others::new(&node);
    let polite = RawClient::connect(&node, V01);
    polite.request("absent", "of the polite client");
    polite.settle();

    // 256 MiB of bodies.
    let greedy = RawClient::connect(&node, V01);
    let body = vec![b'x'; 64 << 10];
    for number in 0..4_096 {
        greedy.request("absent", &body);
        if number % 64 == 0 {
            greedy.settle();
        }
    }
    greedy.settle();

    assert_peak_below(&node, 32 * MIB + BASE_BYTES);
    others.assert_served();
    let worker = RawWorker::register(&node, V01, "absent");
    worker.serve("of the polite client", "kept");
    polite.expect_reply("absent", "kept");
}

#[test]
fn worker_that_never_answers_keeps_memory_within_limits() {
    let _machine = machine();
    let limit = ("broker.max_queued_bytes", "64MiB");
    let node = NodeProcess::start(&[QUIET, limit]);
    let others = Others::new(&node);
    let worker = RawWorker::register(&node, V01, "stuck");

    let _client = flood(&node, scale().pick(100_000, 1_000_000), |_| "stuck".to_owned());

    let _held = worker.expect_work(format!("{:064}", 0));
    worker.settle();
    assert_peak_below(&node, 64 * MIB + BASE_BYTES);
    others.assert_served();
}

#[test]
fn clients_that_never_read_stay_within_memory() {
    const CLIENTS: u64 = 100;
    const REPLY_BYTES: u64 = 16 << 10;
    let _machine = machine();
    let node = NodeProcess::start(&[QUIET, ("broker.max_outgoing_bytes_per_peer", "512KiB")]);
    let others = Others::new(&node);
    let worker = RawWorker::register(&node, V01, "big");
    let context = zmq::Context::new();
    let narrow = |socket: &zmq::Socket| {
        socket.set_rcvhwm(1)?;
        socket.set_rcvbuf(4_096)
    };
    let clients: Vec<_> =
        (0..CLIENTS).map(|_| RawSocket::connect(&node, &context, zmq::DEALER, narrow)).collect();
    let before = node.rss_bytes();

    // 8 MiB of replies for each of them.
    for _ in 0..512 {
        for client in &clients {
            client.send(&V01.request("big", &[b"-"]));
        }
    }
    let reply = vec![b'x'; usize::try_from(REPLY_BYTES).unwrap()];
    let mut served: u64 = 0;
    while let Some(work) = worker.recv_command(NO_MORE_AFTER) {
        worker.answer(&work[3], &reply);
        served += 1;
    }

    // Most of them before their clients were given up.
    assert!(served > CLIENTS * SEND_MESSAGES_MAX, "only {served} were served");
    worker.settle();
    // The outgoing buffer of each, and libzmq's own between it and the connection.
    let each = MIB / 2 + SEND_MESSAGES_MAX * REPLY_BYTES;
    assert_peak_below(&node, before + CLIENTS * each + BASE_BYTES);
    others.assert_served();
}
