//! Workers with several endpoints, and brokers that refuse, leave or die.

use std::time::{Duration, Instant};

use mdp_client::{Request, Version, WorkerOptions};

use crate::support::{
    FakeBroker, Gate, INTERVAL, REFUSED, SILENCE_MAX, SLACK, TestWorker, VERSIONS, answer,
    disconnect, endpoints, first_of, frozen_endpoint, heartbeat, impatient_options, ready, request,
    worker_options,
};

/// Pauses that no test would wait for.
fn patient_options(version: Version, endpoints: &[&str]) -> WorkerOptions {
    worker_options(version, endpoints)
        .heartbeat_interval(Duration::from_secs(60))
        .reconnect_min(Duration::from_secs(60))
        .reconnect_max(Duration::from_secs(60))
}

#[test]
fn disconnect_after_an_acknowledged_registration_leads_to_the_next_endpoint_at_once() {
    for version in VERSIONS {
        let brokers = vec![FakeBroker::start(), FakeBroker::start()];
        let options = patient_options(version, &endpoints(&brokers));
        let _worker = TestWorker::start(options, |request| request.frames);

        let (first, peer, others) = first_of(brokers, version);
        let second = &others[0];
        first.send(&peer, heartbeat(version));
        first.send(&peer, disconnect(version));

        let peer = second.expect(&ready(version));
        second.send(&peer, request(version, "c", "x"));
        assert_eq!(second.expect(&answer(version, "c", "x")), peer);
    }
}

#[test]
fn disconnect_as_the_answer_to_ready_leads_to_a_pause() {
    for version in VERSIONS {
        let brokers = vec![FakeBroker::start(), FakeBroker::start()];
        let options = patient_options(version, &endpoints(&brokers))
            .reconnect_min(Duration::from_millis(400));
        let _worker = TestWorker::start(options, |request| request.frames);

        let (first, peer, others) = first_of(brokers, version);
        let second = &others[0];
        let refused = Instant::now();
        first.send(&peer, disconnect(version));
        second.expect(&ready(version));

        // Half of the pause is fixed, the other half random.
        let pause = refused.elapsed();
        assert!(pause >= Duration::from_millis(200), "{pause:?}");
        assert!(pause < Duration::from_millis(400) + SLACK, "{pause:?}");
    }
}

#[test]
fn refused_worker_backs_off_more_and_more() {
    let broker = FakeBroker::start();
    let options = worker_options(Version::V01, &[&broker.endpoint])
        .reconnect_min(Duration::from_millis(20))
        .reconnect_max(Duration::from_secs(60));
    let _worker = TestWorker::start(options, |request| request.frames);

    let started = Instant::now();
    for _ in 0..6 {
        let peer = broker.expect(&ready(Version::V01));
        broker.send(&peer, disconnect(Version::V01));
    }

    // Five pauses of at least 10, 20, 40, 80 and 160 ms.
    assert!(started.elapsed() >= Duration::from_millis(310), "{:?}", started.elapsed());
}

#[test]
fn broker_that_takes_and_drops_a_worker_at_once_does_not_make_it_spin() {
    let broker = FakeBroker::start();
    let options = worker_options(Version::V01, &[&broker.endpoint])
        .heartbeat_interval(Duration::from_secs(60))
        .reconnect_max(Duration::from_secs(60));
    let _worker = TestWorker::start(options, |request| request.frames);

    let started = Instant::now();
    for _ in 0..7 {
        let peer = broker.expect(&ready(Version::V01));
        broker.send(&peer, heartbeat(Version::V01));
        broker.send(&peer, disconnect(Version::V01));
    }

    // Once more at once, then with pauses as after a refusal.
    assert!(started.elapsed() >= Duration::from_millis(310), "{:?}", started.elapsed());
}

#[test]
fn broker_that_dies_is_followed_by_the_next_at_once() {
    for version in VERSIONS {
        let brokers = vec![FakeBroker::start(), FakeBroker::start()];
        let options = patient_options(version, &endpoints(&brokers));
        let _worker = TestWorker::start(options, |request| request.frames);

        let (first, peer, others) = first_of(brokers, version);
        let second = &others[0];
        first.send(&peer, request(version, "c", "x"));
        first.expect(&answer(version, "c", "x"));
        first.stop();

        second.expect(&ready(version));
    }
}

#[test]
fn silent_broker_is_followed_by_the_next() {
    let brokers = vec![FakeBroker::start(), FakeBroker::start()];
    let options = impatient_options(Version::V01, &endpoints(&brokers));
    let worker = TestWorker::start(options, |request| request.frames);

    let (_silent, _, others) = first_of(brokers, Version::V01);
    let other = &others[0];
    let peer = other.expect(&ready(Version::V01));

    other.send(&peer, request(Version::V01, "c", "x"));
    other.expect(&answer(Version::V01, "c", "x"));
    worker.stop.stop();
    assert!(worker.join().brokers_silent >= 1);
}

#[test]
fn dead_and_frozen_endpoints_are_passed_over() {
    let broker = FakeBroker::start();
    let (_listener, frozen) = frozen_endpoint();
    let options = worker_options(Version::V01, &[REFUSED[0], &frozen, &broker.endpoint])
        .connect_timeout(Duration::from_millis(100));
    let started = Instant::now();
    let _worker = TestWorker::start(options, |request| request.frames);

    broker.expect(&ready(Version::V01));

    assert!(started.elapsed() < Duration::from_secs(1) + SLACK);
}

#[test]
fn reply_of_a_lost_connection_is_dropped_and_the_worker_comes_back() {
    let brokers = vec![FakeBroker::start(), FakeBroker::start()];
    let (gate, handler) = Gate::new();
    let options = worker_options(Version::V01, &endpoints(&brokers));
    let worker = TestWorker::start(options, handler);

    let (first, peer, others) = first_of(brokers, Version::V01);
    let second = &others[0];
    first.send(&peer, request(Version::V01, "c", "old"));
    gate.wait_until_begun();
    first.stop();
    // A worker that cannot serve does not register.
    assert_eq!(second.recv_within(SILENCE_MAX), None);
    gate.end.send(()).unwrap();

    let (peer, frames) = second.recv();
    assert_eq!(frames, ready(Version::V01));
    second.send(&peer, request(Version::V01, "c", "new"));
    gate.wait_until_begun();
    gate.end.send(()).unwrap();
    let (_, frames) = second.recv_other_than(&heartbeat(Version::V01));
    assert_eq!(frames, answer(Version::V01, "c", "new"));
    worker.stop.stop();
    let counters = worker.join();
    assert_eq!((counters.replies_stale, counters.replies), (1, 1));
}

#[test]
fn panicking_handler_gives_its_request_back_and_the_worker_goes_on() {
    for version in VERSIONS {
        let broker = FakeBroker::start();
        let options = worker_options(version, &[&broker.endpoint]);
        let worker = TestWorker::start(options, |request: Request| {
            assert_ne!(request.frames, [b"poison"]);
            request.frames
        });
        let peer = broker.expect(&ready(version));

        broker.send(&peer, request(version, "c", "poison"));

        let (from, frames) = broker.recv_other_than(&heartbeat(version));
        assert_eq!((from, frames), (peer, disconnect(version)), "no reply is made up");
        let peer = broker.expect(&ready(version));
        broker.send(&peer, request(version, "c", "food"));
        assert_eq!(broker.expect(&answer(version, "c", "food")), peer);
        worker.stop.stop();
        assert_eq!(worker.join().panics, 1);
    }
}

#[test]
fn requests_sent_ahead_are_answered_one_after_the_other() {
    let broker = FakeBroker::start();
    let worker = TestWorker::echo(Version::V01, &[&broker.endpoint]);
    let peer = broker.expect(&ready(Version::V01));

    for n in 0..10 {
        broker.send(&peer, request(Version::V01, &format!("c{n}"), &n.to_string()));
    }

    for n in 0..10 {
        let (_, frames) = broker.recv_other_than(&heartbeat(Version::V01));
        assert_eq!(frames, answer(Version::V01, &format!("c{n}"), &n.to_string()));
    }
    worker.stop.stop();
    assert_eq!(worker.join().requests_dropped, 0);
}

#[test]
fn worker_without_any_broker_can_be_stopped() {
    let options = worker_options(Version::V01, &REFUSED);
    let worker = TestWorker::start(options, |request| request.frames);
    std::thread::park_timeout(INTERVAL);

    worker.stop.stop();

    assert!(worker.join().connections_lost > 0);
}
