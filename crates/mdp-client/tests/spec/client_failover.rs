//! Clients with several endpoints, some of which are dead.

use std::{
    thread,
    time::{Duration, Instant},
};

use mdp_client::{CallError, CallOptions, Client, ConnectFailure, NoReplyCause, Version};

use crate::support::{
    FakeBroker, REFUSED, SLACK, VERSIONS, call_in_thread, client_options, frames, free_endpoint,
    frozen_endpoint,
};

#[test]
fn unreachable_endpoints_are_passed_over_at_once_and_cost_no_attempt() {
    let broker = FakeBroker::start();
    let options = client_options(Version::V01, &[REFUSED[0], REFUSED[1], &broker.endpoint])
        .timeout(Duration::from_secs(60))
        .attempts(1);
    let call = call_in_thread(options, "echo", "hello");

    let (peer, request) = broker.recv();
    broker.send(&peer, request);

    let reply = call.join().unwrap().unwrap();
    assert_eq!((reply.attempts, &reply.endpoint), (1, &broker.endpoint));
    assert!(reply.elapsed < SLACK, "{:?}", reply.elapsed);
}

#[test]
fn frozen_endpoint_is_passed_over_after_the_connect_timeout() {
    let broker = FakeBroker::start();
    let (_listener, frozen) = frozen_endpoint();
    let options = client_options(Version::V01, &[&frozen, &broker.endpoint])
        .timeout(Duration::from_secs(60))
        .connect_timeout(Duration::from_millis(200));
    let call = call_in_thread(options, "echo", "hello");

    let (peer, request) = broker.recv();
    broker.send(&peer, request);

    let reply = call.join().unwrap().unwrap();
    assert_eq!((reply.attempts, &reply.endpoint), (1, &broker.endpoint));
    assert!(reply.elapsed >= Duration::from_millis(200));
    assert!(reply.elapsed < Duration::from_millis(200) + SLACK, "{:?}", reply.elapsed);
}

#[test]
fn broker_that_dies_with_the_request_is_followed_by_the_next_at_once() {
    for version in VERSIONS {
        let (first, second) = (FakeBroker::start(), FakeBroker::start());
        let options = client_options(version, &[&first.endpoint, &second.endpoint])
            .timeout(Duration::from_secs(60));
        let call = call_in_thread(options, "echo", "hello");

        let (_, request) = first.recv();
        first.stop();
        let (peer, repeated) = second.recv();
        assert_eq!(request, repeated);
        let reply = match version {
            Version::V01 => repeated,
            Version::V02 => frames![b"MDPC02", b"\x03", b"echo", b"hello"],
        };
        second.send(&peer, reply);

        let reply = call.join().unwrap().unwrap();
        assert_eq!((reply.attempts, &reply.endpoint), (2, &second.endpoint));
        assert!(reply.elapsed < SLACK, "{:?}", reply.elapsed);
    }
}

#[test]
fn silent_broker_is_followed_by_the_next_after_the_timeout() {
    let (silent, answering) = (FakeBroker::start(), FakeBroker::start());
    // For connecting, asking and answering, on a busy machine too: one that takes longer is passed over.
    let timeout = Duration::from_secs(2);
    let options =
        client_options(Version::V01, &[&silent.endpoint, &answering.endpoint]).timeout(timeout);
    let mut client = Client::connect(options).unwrap();
    let fake = thread::spawn(move || {
        for _ in 0..2 {
            let (peer, request) = answering.recv();
            answering.send(&peer, request);
        }
        answering
    });

    let first = client.call("echo", "a").unwrap();
    let second = client.call("echo", "b").unwrap();

    drop(fake.join().unwrap());
    assert_eq!(first.attempts, 2);
    assert!(first.elapsed >= timeout);
    assert_eq!(second.attempts, 1, "the client stays with the broker that answered");
    assert_eq!(silent.recv_all(Duration::from_millis(50)).len(), 1);
}

#[test]
fn connection_that_was_lost_while_idle_is_replaced() {
    let broker = FakeBroker::start();
    let mut client = Client::connect(
        client_options(Version::V01, &[&broker.endpoint]).timeout(Duration::from_secs(60)),
    )
    .unwrap();
    let fake = thread::spawn(move || {
        let (peer, request) = broker.recv();
        broker.send(&peer, request);
        broker
    });

    client.call("echo", "a").unwrap();
    // Not before the reply has come.
    let endpoint = fake.join().unwrap().stop();
    let broker = FakeBroker::bind(&endpoint);
    let fake = thread::spawn(move || {
        let (peer, request) = broker.recv();
        broker.send(&peer, request);
        broker
    });
    let reply = client.call("echo", "b").unwrap();

    drop(fake.join().unwrap());
    // One attempt more if the request was sent before the loss was known.
    assert!(reply.attempts <= 2 && reply.elapsed < SLACK, "{reply:?}");
    assert_eq!(reply.frames, frames![b"b"]);
    assert_eq!(client.counters().connections_lost, 1);
}

#[test]
fn request_waits_for_a_broker_that_starts_late() {
    let endpoint = free_endpoint();
    let options = client_options(Version::V01, &[&endpoint])
        .timeout(Duration::from_secs(60))
        .unreachable_timeout(Duration::from_secs(60));
    let call = call_in_thread(options, "echo", "hello");

    // Two rounds in vain at least.
    thread::park_timeout(Duration::from_millis(60));
    let broker = FakeBroker::bind(&endpoint);
    let (peer, request) = broker.recv();
    broker.send(&peer, request);

    assert_eq!(call.join().unwrap().unwrap().attempts, 1);
}

#[test]
fn nothing_reachable_is_said_so_after_all_attempts() {
    let timeout = Duration::from_millis(150);
    let options = client_options(Version::V01, &REFUSED).timeout(timeout).attempts(2);
    let started = Instant::now();

    let mut client = Client::connect(options).unwrap();
    let error = client.call("echo", "hello").unwrap_err();

    let CallError::Unreachable { attempts, ref endpoints, .. } = error else { panic!("{error:?}") };
    assert_eq!(attempts, 2);
    assert!(endpoints.iter().all(|one| one.failure == ConnectFailure::Refused), "{endpoints:?}");
    let said: Vec<_> = endpoints.iter().map(|one| one.endpoint.as_str()).collect();
    assert_eq!(said, REFUSED);
    let elapsed = started.elapsed();
    assert!(elapsed >= timeout * 2 && elapsed < timeout * 2 + SLACK, "{elapsed:?}");
    // With a pause of 10 to 20 ms after each round of two endpoints.
    let tried = client.counters().endpoints_unreachable;
    assert!((2..=80).contains(&tried), "{tried}");
}

#[test]
fn client_that_never_reached_a_broker_says_so_after_the_time_for_that() {
    let options = client_options(Version::V01, &REFUSED)
        .timeout(Duration::from_secs(60))
        .unreachable_timeout(Duration::from_millis(300));
    let started = Instant::now();

    let error = Client::connect(options).unwrap().call("echo", "hello").unwrap_err();

    let elapsed = started.elapsed();
    assert!(matches!(error, CallError::Unreachable { attempts: 1, .. }), "{error:?}");
    assert!(error.to_string().contains("127.0.0.1:1: connection refused"), "{error}");
    let limit = Duration::from_millis(300);
    assert!(elapsed >= limit && elapsed < limit + SLACK, "{elapsed:?}");
}

#[test]
fn client_that_reached_a_broker_before_waits_for_all_of_its_attempts() {
    let broker = FakeBroker::start();
    // The time to be reached at all: less than the attempts take together, and enough for a busy machine.
    let unreachable_timeout = Duration::from_secs(2);
    let (timeout, attempts) = (Duration::from_secs(1), 3);
    let options = client_options(Version::V01, &[&broker.endpoint])
        .timeout(timeout)
        .attempts(attempts)
        .unreachable_timeout(unreachable_timeout);
    let mut client = Client::connect(options).unwrap();
    let fake = thread::spawn(move || {
        let (peer, request) = broker.recv();
        broker.send(&peer, request);
        broker
    });
    client.call("echo", "x").unwrap();
    fake.join().unwrap().stop();
    let started = Instant::now();

    let error = client.call("echo", "y").unwrap_err();

    assert!(matches!(error, CallError::Unreachable { attempts: 3, .. }), "{error:?}");
    assert!(started.elapsed() > unreachable_timeout, "{:?}", started.elapsed());
}

#[test]
fn call_may_have_a_time_limit_and_attempts_of_its_own() {
    let broker = FakeBroker::start();
    let options = client_options(Version::V01, &[&broker.endpoint])
        .timeout(Duration::from_secs(60))
        .attempts(5);
    let mut client = Client::connect(options).unwrap();
    // Enough to connect.
    let timeout = Duration::from_millis(500);
    let quick = CallOptions::new().timeout(timeout).attempts(2);
    let started = Instant::now();

    let error = client.call_with_options("echo", "x", quick).unwrap_err();

    let CallError::NoReply { attempts, cause, .. } = error else { panic!("{error:?}") };
    // The broker does not answer `mmi.service` either.
    assert_eq!((attempts, cause), (2, NoReplyCause::Timeout));
    assert!(started.elapsed() < timeout * 2 + SLACK, "{:?}", started.elapsed());
}

#[test]
fn broker_is_asked_whether_a_worker_is_there_when_none_answers() {
    for (code, expected) in [
        ("200", NoReplyCause::WorkerSlow),
        ("404", NoReplyCause::NoWorker),
        ("503", NoReplyCause::NoMajority),
        ("501", NoReplyCause::Timeout),
    ] {
        let broker = FakeBroker::start();
        // Enough to connect: a request that did not leave needs no question.
        let options = client_options(Version::V01, &[&broker.endpoint])
            .timeout(Duration::from_secs(1))
            .attempts(1);
        let call = call_in_thread(options, "echo", "x");
        broker.recv();

        let (peer, question) = broker.recv();
        assert_eq!(question, frames![b"", b"MDPC01", b"mmi.service", b"echo"]);
        broker.send(&peer, frames![b"", b"MDPC01", b"mmi.service", code]);

        let error = call.join().unwrap().unwrap_err();
        let CallError::NoReply { cause, .. } = error else { panic!("{error:?}") };
        assert_eq!(cause, expected);
    }
}

#[test]
fn fail_fast_asks_first_and_sends_nothing_without_a_worker() {
    let broker = FakeBroker::start();
    let options = client_options(Version::V01, &[&broker.endpoint]);
    let call = thread::spawn(move || {
        let fail_fast = CallOptions::new().fail_fast(true);
        Client::connect(options).unwrap().call_with_options("echo", "x", fail_fast)
    });

    let (peer, question) = broker.recv();
    assert_eq!(question, frames![b"", b"MDPC01", b"mmi.service", b"echo"]);
    broker.send(&peer, frames![b"", b"MDPC01", b"mmi.service", b"404"]);

    assert!(matches!(call.join().unwrap(), Err(CallError::NoWorker { .. })));
    assert_eq!(broker.recv_within(Duration::from_millis(50)), None);
}

#[test]
fn pipelined_requests_move_to_the_next_broker_together() {
    let (first, second) = (FakeBroker::start(), FakeBroker::start());
    let mut client = Client::connect(
        client_options(Version::V01, &[&first.endpoint, &second.endpoint])
            .timeout(Duration::from_secs(60)),
    )
    .unwrap();
    let mut pipeline = client.pipeline(10).unwrap();
    for n in 0..10 {
        pipeline.send("echo", n.to_string()).unwrap();
    }

    let fake = thread::spawn(move || {
        for _ in 0..10 {
            first.recv();
        }
        first.stop();
        let mut peers = Vec::new();
        for _ in 0..10 {
            let (peer, request) = second.recv();
            second.send(&peer, request);
            peers.push(peer);
        }
        (second, peers)
    });
    let bodies: Vec<_> =
        std::iter::from_fn(|| pipeline.recv()).map(|done| done.result.unwrap().frames).collect();

    let (second, mut peers) = fake.join().unwrap();
    drop(second);
    let expected: Vec<_> = (0..10).map(|n| frames![&n.to_string()]).collect();
    assert_eq!(bodies, expected);
    peers.dedup();
    assert_eq!(peers.len(), 1, "over one new connection");
}
