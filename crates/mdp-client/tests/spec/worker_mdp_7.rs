//! 7/MDP, what binds workers: layouts, opening and closing.

use std::time::Duration;

use mdp_client::{Version, Worker, WorkerError, WorkerOptions};

use crate::support::{
    FakeBroker, Gate, INTERVAL, SILENCE_MAX, TestWorker, VERSIONS, answer, disconnect, endpoints,
    first_of, frames, heartbeat, impatient_options, ready, request, worker_options,
};

#[test]
fn mdp7_18_ready_has_exactly_4_frames() {
    let broker = FakeBroker::start();
    let _worker = TestWorker::echo(Version::V01, &[&broker.endpoint]);

    assert_eq!(broker.recv().1, frames![b"", b"MDPW01", b"\x01", b"echo"]);
}

#[test]
fn mdp7_20_reply_has_address_empty_frame_and_body() {
    let broker = FakeBroker::start();
    let _worker = TestWorker::start(worker_options(Version::V01, &[&broker.endpoint]), |_| {
        frames![b"one", b"", b"three"]
    });

    let (peer, _) = broker.recv();
    broker.send(&peer, frames![b"", b"MDPW01", b"\x02", b"client-7", b"", b"ask"]);

    let reply = frames![b"", b"MDPW01", b"\x03", b"client-7", b"", b"one", b"", b"three"];
    assert_eq!(broker.recv_other_than(&heartbeat(Version::V01)).1, reply);
}

#[test]
fn mdp7_20_empty_reply_still_has_a_body_frame() {
    let broker = FakeBroker::start();
    let options = worker_options(Version::V01, &[&broker.endpoint]);
    let _worker = TestWorker::start(options, |_| Vec::new());

    let (peer, _) = broker.recv();
    broker.send(&peer, request(Version::V01, "c", "x"));

    let reply = frames![b"", b"MDPW01", b"\x03", b"c", b"", b""];
    assert_eq!(broker.recv_other_than(&heartbeat(Version::V01)).1, reply);
}

#[test]
fn mdp7_21_heartbeat_has_exactly_3_frames() {
    let broker = FakeBroker::start();
    let _worker = TestWorker::echo(Version::V01, &[&broker.endpoint]);

    let (_, frames) = broker.recv_other_than(&ready(Version::V01));

    assert_eq!(frames, frames![b"", b"MDPW01", b"\x04"]);
}

#[test]
fn mdp7_22_disconnect_has_exactly_3_frames() {
    let broker = FakeBroker::start();
    let worker = TestWorker::echo(Version::V01, &[&broker.endpoint]);
    broker.expect(&ready(Version::V01));

    worker.stop.stop();

    let (_, frames) = broker.recv_other_than(&heartbeat(Version::V01));
    assert_eq!(frames, frames![b"", b"MDPW01", b"\x05"]);
}

#[test]
fn mdp7_24_one_dealer_talks_to_one_broker_only() {
    let brokers = vec![FakeBroker::start(), FakeBroker::start()];
    let worker = TestWorker::echo(Version::V01, &endpoints(&brokers));

    // Opened by the worker ...
    let (first, peer, others) = first_of(brokers, Version::V01);
    let second = &others[0];
    for n in 0..5 {
        first.send(&peer, request(Version::V01, "c", &n.to_string()));
        let (from, reply) = first.recv_other_than(&heartbeat(Version::V01));
        assert_eq!((from, reply), (peer.clone(), answer(Version::V01, "c", &n.to_string())));
    }
    // ... and closed by it.
    worker.stop.stop();
    assert_eq!(first.expect(&disconnect(Version::V01)), peer);
    worker.join();
    assert_eq!(first.recv_within(Duration::from_millis(50)), None);
    assert_eq!(second.recv_within(Duration::from_millis(50)), None, "the other heard nothing");
}

#[test]
fn mdp7_26_opening_is_a_fresh_socket_and_ready() {
    for version in VERSIONS {
        let broker = FakeBroker::start();
        let _worker = TestWorker::echo(version, &[&broker.endpoint]);

        let (first, frames) = broker.recv();
        assert_eq!(frames, ready(version), "READY comes first");
        broker.send(&first, heartbeat(version));
        broker.send(&first, disconnect(version));

        assert_ne!(broker.expect(&ready(version)), first);
    }
}

#[test]
fn mdp7_27_a_service_has_as_many_workers_as_asked_for() {
    let broker = FakeBroker::start();
    let (gate, handler) = Gate::new();
    let options = worker_options(Version::V01, &[&broker.endpoint]).concurrency(3);
    let _worker = TestWorker::start(options, handler);

    let mut peers = [(); 3].map(|()| broker.expect(&ready(Version::V01)));
    for peer in &peers {
        broker.send(peer, request(Version::V01, "c", "x"));
    }
    // All of them work at the same time.
    (0..3).for_each(|_| gate.wait_until_begun());
    (0..3).for_each(|_| gate.end.send(()).unwrap());

    let mut answered = [(); 3].map(|()| broker.expect(&answer(Version::V01, "c", "x")));
    peers.sort();
    answered.sort();
    assert_eq!(answered, peers);
    assert!(peers[0] != peers[1] && peers[1] != peers[2]);
}

#[test]
fn mdp7_28_ready_is_sent_once_per_connection() {
    for version in VERSIONS {
        let broker = FakeBroker::start();
        let _worker =
            TestWorker::start(impatient_options(version, &[&broker.endpoint]), |request| {
                request.frames
            });

        // Acknowledged, used, silent and left: one READY each.
        let peer = broker.expect(&ready(version));
        broker.send(&peer, heartbeat(version));
        broker.send(&peer, request(version, "c", "x"));
        let heard = broker.recv_all(SILENCE_MAX * 4);

        let mut readies: Vec<_> =
            heard.iter().filter(|(_, frames)| *frames == ready(version)).map(|(p, _)| p).collect();
        assert!(!readies.is_empty(), "it came back after the silence");
        assert!(!readies.contains(&&peer), "not on the old connection");
        let count = readies.len();
        readies.sort();
        readies.dedup();
        assert_eq!(readies.len(), count, "a READY per connection");
    }
}

#[test]
fn mdp7_30_registration_counts_as_done_without_acknowledgement() {
    for version in VERSIONS {
        let broker = FakeBroker::start();
        let _worker = TestWorker::echo(version, &[&broker.endpoint]);

        let peer = broker.expect(&ready(version));
        broker.send(&peer, request(version, "c", "at once"));
        assert_eq!(broker.expect(&answer(version, "c", "at once")), peer);

        // Until DISCONNECT.
        broker.send(&peer, disconnect(version));
        assert_ne!(broker.expect(&ready(version)), peer);
    }
}

#[test]
fn mdp7_31_worker_may_leave_before_the_broker_said_anything() {
    for version in VERSIONS {
        let broker = FakeBroker::start();
        let worker = TestWorker::echo(version, &[&broker.endpoint]);
        let peer = broker.expect(&ready(version));

        worker.stop.stop();

        assert_eq!(broker.expect(&disconnect(version)), peer);
        assert_eq!(worker.join().registrations, 0);
    }
}

#[test]
fn mdp7_36_nothing_is_sent_after_disconnect_was_received() {
    for version in VERSIONS {
        let broker = FakeBroker::start();
        let (gate, handler) = Gate::new();
        let _worker = TestWorker::start(worker_options(version, &[&broker.endpoint]), handler);

        let peer = broker.expect(&ready(version));
        broker.send(&peer, request(version, "c", "x"));
        gate.wait_until_begun();
        broker.send(&peer, disconnect(version));
        // Heartbeats that crossed the DISCONNECT are no fault.
        broker.recv_all(INTERVAL);
        gate.end.send(()).unwrap();

        // The handler's reply belongs to the old connection and is not sent on any.
        let later = broker.recv_all(SILENCE_MAX / 2);
        assert_eq!(later.first().map(|(_, frames)| frames), Some(&ready(version)));
        for (from, frames) in later {
            assert_ne!(from, peer, "{frames:?}");
            assert!(frames == ready(version) || frames == heartbeat(version), "{frames:?}");
        }
    }
}

#[test]
fn mdp7_37_disconnect_is_followed_by_a_new_socket() {
    for version in VERSIONS {
        let broker = FakeBroker::start();
        let _worker = TestWorker::echo(version, &[&broker.endpoint]);
        let mut peers = Vec::new();

        for _ in 0..4 {
            let peer = broker.expect(&ready(version));
            broker.send(&peer, heartbeat(version));
            broker.send(&peer, disconnect(version));
            peers.push(peer);
        }

        peers.sort();
        peers.dedup();
        assert_eq!(peers.len(), 4);
        let old = &peers[0];
        assert_eq!(broker.try_send(old, heartbeat(version)), Err(zmq::Error::EHOSTUNREACH));
    }
}

#[test]
fn mdp7_38_reply_holds_the_one_client_address_unchanged() {
    for version in VERSIONS {
        let broker = FakeBroker::start();
        let _worker = TestWorker::echo(version, &[&broker.endpoint]);
        let peer = broker.expect(&ready(version));
        let address: Vec<u8> = (0..=255).collect();

        let (head, command) = match version {
            Version::V01 => (frames![b"", b"MDPW01"], b"\x03"),
            Version::V02 => (frames![b"MDPW02"], b"\x04"),
        };
        let rest = frames![&address, b"", b"body"];
        broker.send(&peer, [head.clone(), frames![b"\x02"], rest.clone()].concat());

        broker.expect(&[head, frames![command], rest].concat());
    }
}

#[test]
fn mdp7_39_request_without_the_empty_frame_is_no_request() {
    for version in VERSIONS {
        let broker = FakeBroker::start();
        let worker = TestWorker::echo(version, &[&broker.endpoint]);
        let peer = broker.expect(&ready(version));

        let mut malformed = request(version, "c", "malformed");
        let empty = malformed.len() - 2;
        malformed[empty] = b"not empty".to_vec();
        broker.send(&peer, malformed);
        broker.send(&peer, request(version, "c", "well-formed"));

        // The reply has its own empty frame after the address.
        let (_, reply) = broker.recv_other_than(&heartbeat(version));
        assert_eq!(reply, answer(version, "c", "well-formed"));
        worker.stop.stop();
        assert_eq!(worker.join().messages_malformed, 1);
    }
}

#[test]
fn messages_of_the_other_version_are_ignored() {
    let broker = FakeBroker::start();
    let worker = TestWorker::echo(Version::V02, &[&broker.endpoint]);
    let peer = broker.expect(&ready(Version::V02));

    broker.send(&peer, request(Version::V01, "c", "wrong"));
    broker.send(&peer, disconnect(Version::V01));
    broker.send(&peer, request(Version::V02, "c", "right"));

    assert_eq!(broker.expect(&answer(Version::V02, "c", "right")), peer);
    worker.stop.stop();
    assert_eq!(worker.join().messages_malformed, 2);
}

#[test]
fn options_that_cannot_be_used_are_errors() {
    let refused = |change: fn(&mut WorkerOptions)| {
        let mut options = worker_options(Version::V01, &["127.0.0.1:1"]);
        change(&mut options);
        Worker::run(options, |request| request.frames, &mdp_client::StopHandle::new()).unwrap_err()
    };

    let error = refused(|options| options.service = Vec::new());
    assert!(matches!(error, WorkerError::InvalidService(_)), "{error}");
    let error = refused(|options| options.service = b"mmi.service".to_vec());
    assert!(matches!(error, WorkerError::ReservedService { .. }), "{error}");
    let error = refused(|options| options.endpoints.clear());
    assert!(matches!(error, WorkerError::Endpoint(_)), "{error}");
    let error = refused(|options| options.concurrency = 0);
    assert!(matches!(error, WorkerError::ConcurrencyOutOfRange { got: 0, .. }), "{error}");
    let error = refused(|options| options.heartbeat_liveness = 0);
    assert!(matches!(error, WorkerError::NoHeartbeat), "{error}");
}
