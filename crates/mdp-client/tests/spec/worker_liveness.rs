//! 7/MDP, heartbeats and silence. 18/MDP has the same rules with other bytes.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    FakeBroker, Gate, INTERVAL, SILENCE_MAX, SLACK, TestWorker, VERSIONS, answer, disconnect,
    heartbeat, impatient_options, ready, request, worker_options,
};

#[test]
fn mdp7_41_heartbeats_come_after_ready_only() {
    for version in VERSIONS {
        let broker = FakeBroker::start();
        let _worker = TestWorker::echo(version, &[&broker.endpoint]);

        let (first, frames) = broker.recv();
        assert_eq!(frames, ready(version));
        let (second, frames) = broker.recv();
        assert_eq!((second, frames), (first, heartbeat(version)));
    }
}

#[test]
fn mdp7_42_every_command_is_a_sign_of_life() {
    // Requests alone, without any HEARTBEAT, for longer than the silence that is allowed.
    for version in VERSIONS {
        let broker = FakeBroker::start();
        let options = worker_options(version, &[&broker.endpoint]).heartbeat_liveness(15);
        let worker = TestWorker::start(options, |request| request.frames);
        let peer = broker.expect(&ready(version));

        let end = Instant::now() + INTERVAL * 15 * 2;
        while Instant::now() < end {
            broker.send(&peer, request(version, "c", "x"));
            assert_eq!(broker.expect(&answer(version, "c", "x")), peer);
            assert!(broker.recv_all(INTERVAL).iter().all(|(from, _)| *from == peer));
        }

        worker.stop.stop();
        assert_eq!(worker.join().brokers_silent, 0);
    }
}

#[test]
fn mdp7_43_no_heartbeat_is_sent_while_replies_flow() {
    for version in VERSIONS {
        let broker = FakeBroker::start();
        let options =
            worker_options(version, &[&broker.endpoint]).heartbeat_interval(Duration::from_secs(2));
        let worker = TestWorker::start(options, |request| request.frames);
        let peer = broker.expect(&ready(version));

        // For longer than an interval, with pauses far below it.
        let end = Instant::now() + Duration::from_millis(2_500);
        while Instant::now() < end {
            broker.send(&peer, request(version, "c", "x"));
            assert_eq!(broker.recv(), (peer.clone(), answer(version, "c", "x")));
            assert_eq!(broker.recv_within(Duration::from_millis(100)), None);
        }

        worker.stop.stop();
        assert_eq!(worker.join().heartbeats_sent, 0);
    }
}

#[test]
fn mdp7_44_heartbeats_are_sent_at_every_interval() {
    for version in VERSIONS {
        let broker = FakeBroker::start();
        let _worker = TestWorker::echo(version, &[&broker.endpoint]);
        let peer = broker.expect(&ready(version));

        let started = Instant::now();
        for _ in 0..10 {
            assert_eq!(broker.recv(), (peer.clone(), heartbeat(version)));
            broker.send(&peer, heartbeat(version));
        }

        // Not early; late only as far as the machine is loaded.
        let elapsed = started.elapsed();
        assert!(elapsed > INTERVAL * 7 && elapsed < INTERVAL * 10 + SLACK, "{elapsed:?}");
    }
}

#[test]
fn mdp7_44_heartbeats_are_sent_while_the_handler_works() {
    for version in VERSIONS {
        let broker = FakeBroker::start();
        let (gate, handler) = Gate::new();
        let _worker = TestWorker::start(worker_options(version, &[&broker.endpoint]), handler);
        let peer = broker.expect(&ready(version));
        broker.send(&peer, request(version, "c", "x"));
        gate.wait_until_begun();

        for _ in 0..8 {
            assert_eq!(broker.recv(), (peer.clone(), heartbeat(version)));
            broker.send(&peer, heartbeat(version));
        }

        gate.end.send(()).unwrap();
        assert_eq!(broker.expect(&answer(version, "c", "x")), peer);
    }
}

#[test]
fn mdp7_45_broker_that_is_silent_for_several_intervals_is_left() {
    for version in VERSIONS {
        let broker = FakeBroker::start();
        let options = impatient_options(version, &[&broker.endpoint]);
        let _worker = TestWorker::start(options, |request| request.frames);
        let peer = broker.expect(&ready(version));
        let said = Instant::now();
        broker.send(&peer, heartbeat(version));

        // The broker may only have been slow, so it is told.
        assert_eq!(broker.expect(&disconnect(version)), peer);

        let silent = said.elapsed();
        assert!(silent >= SILENCE_MAX && silent < SILENCE_MAX + SLACK, "{silent:?}");
    }
}

#[test]
fn mdp7_46_worker_begins_again_when_the_broker_is_lost() {
    for version in VERSIONS {
        let broker = FakeBroker::start();
        let options = impatient_options(version, &[&broker.endpoint]);
        let _worker = TestWorker::start(options, |request| request.frames);
        let mut peers = Vec::new();

        // Silent each time.
        for _ in 0..3 {
            peers.push(broker.expect(&ready(version)));
        }

        peers.sort();
        peers.dedup();
        assert_eq!(peers.len(), 3);
        let again = broker.expect(&ready(version));
        broker.send(&again, request(version, "c", "x"));
        assert_eq!(broker.expect(&answer(version, "c", "x")), again);
    }
}

#[test]
fn mdp7_46_broker_that_restarts_gets_a_ready() {
    for version in VERSIONS {
        let broker = FakeBroker::start();
        let _worker = TestWorker::echo(version, &[&broker.endpoint]);
        let peer = broker.expect(&ready(version));
        broker.send(&peer, heartbeat(version));

        let endpoint = broker.stop();
        thread::yield_now();
        let broker = FakeBroker::bind(&endpoint);

        let (peer, frames) = broker.recv();
        assert_eq!(frames, ready(version), "READY is the first message to the new broker");
        broker.send(&peer, request(version, "c", "x"));
        assert_eq!(broker.expect(&answer(version, "c", "x")), peer);
    }
}
