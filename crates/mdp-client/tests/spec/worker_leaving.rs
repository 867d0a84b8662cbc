//! How workers leave.

use std::time::{Duration, Instant};

use mdp_client::{Request, Version};

use crate::support::{
    DEADLINE, FakeBroker, Gate, SILENCE_MAX, SLACK, TestWorker, VERSIONS, answer, disconnect,
    endpoints, first_of, frames, heartbeat, ready, request, worker_options,
};

#[test]
fn worker_finishes_its_reply_before_it_leaves() {
    for version in VERSIONS {
        let broker = FakeBroker::start();
        let (gate, handler) = Gate::new();
        let worker = TestWorker::start(worker_options(version, &[&broker.endpoint]), handler);
        let peer = broker.expect(&ready(version));
        broker.send(&peer, request(version, "c", "last"));
        gate.wait_until_begun();

        worker.stop.stop();
        // It goes on heartbeating, and does nothing else, until the handler is done.
        for _ in 0..5 {
            assert_eq!(broker.recv(), (peer.clone(), heartbeat(version)));
            broker.send(&peer, heartbeat(version));
        }
        gate.end.send(()).unwrap();

        let (_, reply) = broker.recv_other_than(&heartbeat(version));
        assert_eq!(reply, answer(version, "c", "last"));
        assert_eq!(broker.recv(), (peer, disconnect(version)));
        assert_eq!(worker.join().replies, 1);
        assert_eq!(broker.recv_within(SILENCE_MAX), None, "DISCONNECT is the last message");
    }
}

#[test]
fn all_connections_of_a_worker_leave() {
    let broker = FakeBroker::start();
    let options = worker_options(Version::V01, &[&broker.endpoint]).concurrency(5);
    let worker = TestWorker::start(options, |request| request.frames);
    let mut peers = [(); 5].map(|()| broker.expect(&ready(Version::V01)));

    worker.stop.stop();

    let mut left = [(); 5].map(|()| broker.expect(&disconnect(Version::V01)));
    peers.sort();
    left.sort();
    assert_eq!(peers, left);
    worker.join();
}

#[test]
fn stop_now_does_not_wait_for_the_handler() {
    let broker = FakeBroker::start();
    let (gate, handler) = Gate::new();
    let worker = TestWorker::start(worker_options(Version::V01, &[&broker.endpoint]), handler);
    let peer = broker.expect(&ready(Version::V01));
    broker.send(&peer, request(Version::V01, "c", "x"));
    gate.wait_until_begun();

    let asked = Instant::now();
    worker.stop.stop_now();

    let (_, frames) = broker.recv_other_than(&heartbeat(Version::V01));
    assert_eq!(frames, disconnect(Version::V01));
    assert_eq!(worker.join().replies, 0);
    assert!(asked.elapsed() < SLACK, "{:?}", asked.elapsed());
}

#[test]
fn large_replies_are_flushed_before_a_worker_returns() {
    // More than libzmq's queue and the kernel's buffers take at once.
    const PARTS: usize = 100;
    const PART_BYTES: usize = 1 << 20;
    let broker = FakeBroker::start();
    let options = worker_options(Version::V02, &[&broker.endpoint]).linger(Duration::from_secs(10));
    let worker = TestWorker::start(options, |request: Request| {
        (0..PARTS).for_each(|_| request.partial(vec![b'x'; PART_BYTES]).unwrap());
        request.frames
    });
    let peer = broker.expect(&ready(Version::V02));

    broker.send(&peer, request(Version::V02, "c", "x"));
    worker.stop.stop();
    let leaving = std::thread::spawn(move || worker.join());

    let mut parts = 0;
    loop {
        let (_, received) = broker.recv_other_than(&heartbeat(Version::V02));
        if received == disconnect(Version::V02) {
            break;
        }
        if received != answer(Version::V02, "c", "x") {
            assert_eq!(received[..4], frames![b"MDPW02", b"\x03", b"c", b""]);
            assert_eq!(received[4].len(), PART_BYTES);
            parts += 1;
        }
    }
    let counters = leaving.join().unwrap();
    // Either the request came before the stop and was answered whole, or it was not begun.
    assert_eq!(parts, if counters.requests == 1 { PARTS } else { 0 });
}

#[test]
fn used_stop_handle_ends_a_worker_at_its_start() {
    let broker = FakeBroker::start();
    let stop = mdp_client::StopHandle::new();
    stop.stop();
    let options = worker_options(Version::V01, &[&broker.endpoint]);

    let counters = mdp_client::Worker::run(options, |request| request.frames, &stop).unwrap();

    assert_eq!(counters, mdp_client::WorkerCounters::default());
}

/// The broker reads nothing until the worker has left it, so that libzmq's queue is full by then.
#[test]
fn what_a_worker_says_last_arrives_although_it_is_elsewhere_already() {
    const PARTS: usize = 8;
    // More than the kernel takes.
    const REPLY_BYTES: usize = 32 << 20;
    let brokers = [FakeBroker::start_slow(), FakeBroker::start_slow()];
    let options = worker_options(Version::V02, &endpoints(&brokers))
        // So many heartbeats that they fill the queue, and do not end the connection.
        .heartbeat_interval(Duration::from_millis(30))
        .heartbeat_liveness(60)
        .linger(DEADLINE);
    let worker = TestWorker::start(options, |request| {
        (0..PARTS).for_each(|_| request.partial("part").unwrap());
        vec![vec![0; REPLY_BYTES]]
    });
    let (left, peer, others) = first_of(brokers.into(), Version::V02);

    left.send(&peer, request(Version::V02, "client", "x"));
    // It has left the silent one, whose link it could not empty.
    let (_, frames) = others[0].recv();
    assert_eq!(frames, ready(Version::V02));

    let is_last = disconnect(Version::V02);
    let mut said = vec![left.recv().1];
    while said.last() != Some(&is_last) {
        said.push(left.recv().1);
    }
    let of = |command: u8| said.iter().filter(|frames| frames[1] == [command]).collect::<Vec<_>>();
    let (parts, replies, heartbeats) = (of(3), of(4), of(5));
    assert_eq!((parts.len(), replies.len()), (PARTS, 1));
    assert_eq!(replies[0].last().unwrap().len(), REPLY_BYTES);
    assert!(heartbeats.len() > 32, "the queue was not full: {}", heartbeats.len());
    drop(worker);
}
