//! Workers of a cluster whose nodes leave.

use std::time::{Duration, Instant};

use mdp_client::{Version, WorkerOptions};

use crate::{
    node::page,
    support::{
        FakeBroker, Gate, TestWorker, VERSIONS, answer, disconnect, endpoints, first_of, frames,
        heartbeat, ready, request, worker_options,
    },
};

/// From the DISCONNECT of one node to the READY at the next, in the best of some tries.
const MOVE_MAX: Duration = Duration::from_millis(200);

fn question(version: Version) -> Vec<Vec<u8>> {
    match version {
        Version::V01 => frames![b"", b"MDPC01", b"mmi.endpoints", b""],
        Version::V02 => frames![b"MDPC02", b"\x01", b"mmi.endpoints", b""],
    }
}

fn listing(version: Version, endpoints: &[&FakeBroker]) -> Vec<Vec<u8>> {
    let endpoints: Vec<_> = endpoints.iter().map(|broker| broker.endpoint.clone()).collect();
    let head = match version {
        Version::V01 => frames![b"", b"MDPC01", b"mmi.endpoints"],
        Version::V02 => frames![b"MDPC02", b"\x03", b"mmi.endpoints"],
    };
    head.into_iter().chain(page(&endpoints)).collect()
}

fn learning(version: Version, endpoints: &[&str]) -> WorkerOptions {
    worker_options(version, endpoints)
        .endpoints_refresh(Duration::from_secs(60))
        .reconnect_min(Duration::from_secs(60))
        .reconnect_max(Duration::from_secs(60))
}

#[test]
fn worker_that_is_sent_away_is_at_the_next_node_in_less_than_200_ms() {
    for version in VERSIONS {
        let time = || {
            let brokers = vec![FakeBroker::start(), FakeBroker::start()];
            let options = worker_options(version, &endpoints(&brokers));
            let _worker = TestWorker::start(options, |request| request.frames);
            let (first, peer, others) = first_of(brokers, version);
            let second = &others[0];
            first.send(&peer, heartbeat(version));
            let sent_away = Instant::now();
            first.send(&peer, disconnect(version));
            let peer = second.expect(&ready(version));
            second.send(&peer, request(version, "c", "x"));
            second.expect(&answer(version, "c", "x"));
            sent_away.elapsed()
        };

        let best = (0..5).map(|_| time()).min().unwrap();

        assert!(best < MOVE_MAX, "{best:?}");
    }
}

#[test]
fn worker_with_one_endpoint_learns_where_else_to_go() {
    for version in VERSIONS {
        let (first, second) = (FakeBroker::start(), FakeBroker::start());
        let options = learning(version, &[&first.endpoint]);
        let _worker = TestWorker::start(options, |request| request.frames);
        let peer = first.expect(&ready(version));
        first.send(&peer, heartbeat(version));
        assert_eq!(first.expect(&question(version)), peer, "on its own connection");

        // This node drains, so it does not list itself.
        first.send(&peer, listing(version, &[&second]));
        first.send(&peer, disconnect(version));

        let peer = second.expect(&ready(version));
        second.send(&peer, request(version, "c", "x"));
        assert_eq!(second.expect(&answer(version, "c", "x")), peer);
    }
}

#[test]
fn node_that_leaves_too_is_passed_over() {
    let brokers = vec![FakeBroker::start(), FakeBroker::start(), FakeBroker::start()];
    let options = learning(Version::V01, &endpoints(&brokers));
    let _worker = TestWorker::start(options, |request| request.frames);
    let (first, peer, others) = first_of(brokers, Version::V01);
    let (second, third) = (&others[0], &others[1]);
    first.send(&peer, heartbeat(Version::V01));
    first.expect(&question(Version::V01));

    first.send(&peer, listing(Version::V01, &[third]));
    first.send(&peer, disconnect(Version::V01));

    third.expect(&ready(Version::V01));
    assert_eq!(second.recv_within(Duration::from_millis(50)), None);
}

#[test]
fn answer_to_the_question_does_not_disturb_a_request() {
    let broker = FakeBroker::start();
    let (gate, handler) = Gate::new();
    let worker = TestWorker::start(learning(Version::V01, &[&broker.endpoint]), handler);
    let peer = broker.expect(&ready(Version::V01));

    broker.send(&peer, request(Version::V01, "c", "x"));
    gate.wait_until_begun();
    broker.expect(&question(Version::V01));
    broker.send(&peer, listing(Version::V01, &[&broker]));
    gate.end.send(()).unwrap();

    assert_eq!(broker.expect(&answer(Version::V01, "c", "x")), peer);
    worker.stop.stop();
    assert_eq!(broker.expect(&disconnect(Version::V01)), peer);
    let counters = worker.join();
    assert_eq!((counters.replies, counters.messages_malformed), (1, 0));
}
