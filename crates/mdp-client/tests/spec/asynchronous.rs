//! The async client and worker.

use std::{sync::Arc, thread, time::Duration};

use futures_util::StreamExt as _;
use mdp_client::{
    Availability, CallError, CallOptions, NoReplyCause, StopHandle, Version,
    asynchronous::{Client, PARTS_WAITING_MAX, Request, Worker},
};
use tokio::{sync::Notify, time};

use crate::support::{
    DEADLINE, FakeBroker, VERSIONS, answer, client_options, disconnect, frames, heartbeat, ready,
    request, worker_options,
};

/// Runs a future with a deadline.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { time::timeout(DEADLINE, future).await.unwrap() })
}

/// Answers `count` requests by their own bodies.
fn echo(broker: FakeBroker, version: Version, count: usize) -> thread::JoinHandle<FakeBroker> {
    thread::spawn(move || {
        for _ in 0..count {
            let (peer, mut message) = broker.recv();
            if version == Version::V02 {
                message[1] = vec![3];
            }
            broker.send(&peer, message);
        }
        broker
    })
}

#[test]
fn many_calls_run_side_by_side() {
    for version in VERSIONS {
        let broker = FakeBroker::start();
        let client = Client::connect(client_options(version, &[&broker.endpoint])).unwrap();
        let fake = echo(broker, version, 200);

        block_on(async {
            let calls = (0..200).map(|n| {
                let client = client.clone();
                tokio::spawn(async move { (n, client.call("echo", n.to_string()).await.unwrap()) })
            });
            for call in calls.collect::<Vec<_>>() {
                let (n, reply) = call.await.unwrap();
                assert_eq!(reply.frames, frames![&n.to_string()]);
            }
        });

        assert_eq!(client.counters().replies, 200);
        drop(fake.join().unwrap());
    }
}

#[test]
fn calls_wait_for_their_turn_beyond_the_limit() {
    let broker = FakeBroker::start();
    let options = client_options(Version::V01, &[&broker.endpoint]).in_flight_max(2);
    let client = Client::connect(options).unwrap();
    let fake = thread::spawn(move || {
        let outstanding = broker.recv_all(Duration::from_millis(200));
        assert_eq!(outstanding.len(), 2);
        for (peer, request) in outstanding {
            broker.send(&peer, request);
        }
        let (peer, request) = broker.recv();
        broker.send(&peer, request);
        broker
    });

    let replies = block_on(async {
        tokio::join!(client.call("echo", "a"), client.call("echo", "b"), client.call("echo", "c"))
    });

    drop(fake.join().unwrap());
    let replies = [replies.0, replies.1, replies.2].map(|reply| reply.unwrap().frames);
    assert_eq!(replies, [frames![b"a"], frames![b"b"], frames![b"c"]]);
}

#[test]
fn call_that_failed_does_not_wait_for_its_turn_to_say_why() {
    let broker = FakeBroker::start();
    let options = client_options(Version::V01, &[&broker.endpoint]).in_flight_max(1).attempts(1);
    let client = Client::connect(options).unwrap();
    let call = |body: &'static str, timeout| {
        let client = client.clone();
        let once = CallOptions::new().timeout(timeout);
        async move { client.call_with_options("silent", body, once).await }
    };

    let error = block_on(async {
        let first = tokio::spawn(call("a", Duration::from_secs(1)));
        broker.recv();
        // Its turn comes with the end of the first, before that one can ask anything.
        let second = tokio::spawn(call("b", DEADLINE * 10));
        let error = first.await.unwrap().unwrap_err();
        second.abort();
        error
    });

    let CallError::NoReply { cause, .. } = error else { panic!("{error:?}") };
    assert_eq!(cause, NoReplyCause::Timeout);
}

#[test]
fn partial_replies_come_one_by_one() {
    let broker = FakeBroker::start();
    let client = Client::connect(client_options(Version::V02, &[&broker.endpoint])).unwrap();
    let (taken, was_taken) = std::sync::mpsc::channel();
    let fake = thread::spawn(move || {
        let (peer, _) = broker.recv();
        for part in ["a", "b"] {
            broker.send(&peer, frames![b"MDPC02", b"\x02", b"echo", part]);
            // The next part is sent when the caller has this one.
            was_taken.recv_timeout(DEADLINE).unwrap();
        }
        broker.send(&peer, frames![b"MDPC02", b"\x03", b"echo", b"end"]);
        broker
    });

    let (parts, last) = block_on(async {
        let mut parts = Vec::new();
        let reply = client.call_with("echo", "x", |part| {
            parts.push(part);
            taken.send(()).unwrap();
        });
        let last = reply.await.unwrap();
        (parts, last.frames)
    });

    drop(fake.join().unwrap());
    assert_eq!((parts, last), (vec![frames![b"a"], frames![b"b"]], frames![b"end"]));
}

#[test]
fn reply_is_a_stream_of_its_parts_and_its_end() {
    let broker = FakeBroker::start();
    let client = Client::connect(client_options(Version::V02, &[&broker.endpoint])).unwrap();
    let fake = thread::spawn(move || {
        let (peer, _) = broker.recv();
        for (command, body) in [(b"\x02", b"a"), (b"\x02", b"b"), (b"\x03", b"c")] {
            broker.send(&peer, frames![b"MDPC02", command, b"echo", body]);
        }
        broker
    });

    let parts = block_on(async {
        let replies = client.stream("echo", "x").await.unwrap();
        replies.map(Result::unwrap).collect::<Vec<_>>().await
    });

    drop(fake.join().unwrap());
    assert_eq!(parts, [frames![b"a"], frames![b"b"], frames![b"c"]]);
}

#[test]
fn parts_that_nobody_takes_end_their_call_only() {
    let broker = FakeBroker::start();
    let client = Client::connect(client_options(Version::V02, &[&broker.endpoint])).unwrap();
    let fake = thread::spawn(move || {
        let (peer, _) = broker.recv();
        for _ in 0..=PARTS_WAITING_MAX {
            broker.send(&peer, frames![b"MDPC02", b"\x02", b"echo", b"part"]);
        }
        let (peer, _) = broker.recv();
        broker.send(&peer, frames![b"MDPC02", b"\x03", b"echo", b"other"]);
        broker
    });

    let (error, other) = block_on(async {
        let mut untaken = client.stream("echo", "x").await.unwrap();
        while client.counters().partials <= PARTS_WAITING_MAX as u64 {
            tokio::task::yield_now().await;
        }
        let other = client.call("echo", "y").await.unwrap();
        untaken.next_part().await;
        (untaken.finish().await.unwrap_err(), other)
    });

    drop(fake.join().unwrap());
    assert!(matches!(error, CallError::PartsNotTaken { .. }), "{error:?}");
    assert_eq!(other.frames, frames![b"other"]);
}

#[test]
fn dropped_call_is_given_up() {
    let broker = FakeBroker::start();
    let options = client_options(Version::V01, &[&broker.endpoint]).in_flight_max(1);
    let client = Client::connect(options).unwrap();

    let reply = block_on(async {
        let dropped = time::timeout(Duration::from_millis(50), client.call("echo", "a")).await;
        assert!(dropped.is_err());
        // Its place in the limit is free again.
        let fake = thread::spawn(move || {
            let (peer, request) = broker.recv();
            if request.last() == Some(&b"a".to_vec()) {
                let (peer, request) = broker.recv();
                broker.send(&peer, request);
            } else {
                broker.send(&peer, request);
            }
            broker
        });
        let reply = client.call("echo", "b").await.unwrap();
        drop(fake.join().unwrap());
        reply
    });

    assert_eq!((reply.frames, reply.attempts), (frames![b"b"], 1));
}

#[test]
fn mmi_service_is_asked() {
    let broker = FakeBroker::start();
    let client = Client::connect(client_options(Version::V01, &[&broker.endpoint])).unwrap();
    let fake = thread::spawn(move || {
        let (peer, mut request) = broker.recv();
        *request.last_mut().unwrap() = b"200".to_vec();
        broker.send(&peer, request);
        broker
    });

    let availability = block_on(client.mmi_service("echo")).unwrap();

    drop(fake.join().unwrap());
    assert_eq!(availability, Availability::Offered);
}

#[test]
fn worker_heartbeats_while_its_handler_awaits() {
    for version in VERSIONS {
        let broker = FakeBroker::start();
        let options = worker_options(version, &[&broker.endpoint]);
        let stop = StopHandle::new();
        let stopper = stop.clone();
        let gate = Arc::new(Notify::new());
        let opener = Arc::clone(&gate);
        let fake = thread::spawn(move || {
            let peer = broker.expect(&ready(version));
            broker.send(&peer, request(version, "c", "x"));
            for _ in 0..6 {
                assert_eq!(broker.recv(), (peer.clone(), heartbeat(version)));
                broker.send(&peer, heartbeat(version));
            }
            opener.notify_one();
            assert_eq!(broker.expect(&answer(version, "c", "x")), peer);
            stopper.stop();
            assert_eq!(broker.expect(&disconnect(version)), peer);
        });

        let handler = move |request: Request| {
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                request.frames
            }
        };
        let counters = block_on(Worker::run(options, handler, &stop)).unwrap();

        fake.join().unwrap();
        assert_eq!((counters.requests, counters.replies), (1, 1));
    }
}

#[test]
fn worker_sends_parts_and_survives_panics() {
    let broker = FakeBroker::start();
    let options = worker_options(Version::V02, &[&broker.endpoint]);
    let stop = StopHandle::new();
    let stopper = stop.clone();
    let fake = thread::spawn(move || {
        let peer = broker.expect(&ready(Version::V02));
        broker.send(&peer, request(Version::V02, "c", "poison"));
        assert_eq!(broker.expect(&disconnect(Version::V02)), peer);
        let peer = broker.expect(&ready(Version::V02));
        broker.send(&peer, request(Version::V02, "c", "food"));
        let part = frames![b"MDPW02", b"\x03", b"c", b"", b"part"];
        broker.expect(&part);
        broker.expect(&answer(Version::V02, "c", "food"));
        stopper.stop();
        broker.expect(&disconnect(Version::V02));
    });

    let handler = |request: Request| async move {
        assert_ne!(request.frames, [b"poison"]);
        request.partial("part").await.unwrap();
        request.frames
    };
    let counters = block_on(Worker::run(options, handler, &stop)).unwrap();

    fake.join().unwrap();
    assert_eq!((counters.panics, counters.partials, counters.replies), (1, 1, 1));
}

#[test]
fn dropped_worker_leaves_and_its_stop_handle_is_unused() {
    let broker = FakeBroker::start();
    let options = worker_options(Version::V01, &[&broker.endpoint]);
    let stop = StopHandle::new();

    block_on(async {
        let worker = Worker::run(options, |request: Request| async { request.frames }, &stop);
        assert!(time::timeout(Duration::from_millis(200), worker).await.is_err());
    });

    broker.expect(&disconnect(Version::V01));
    assert!(!stop.is_stopped());
}
