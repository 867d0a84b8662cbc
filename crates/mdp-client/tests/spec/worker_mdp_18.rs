//! 18/MDP, what binds workers.

use mdp_client::{PartialError, Request, Version};

use crate::support::{
    DEADLINE, FakeBroker, Gate, TestWorker, answer, frames, heartbeat, ready, request,
    worker_options,
};

const V02: Version = Version::V02;

fn partial(client: &str, body: &str) -> Vec<Vec<u8>> {
    frames![b"MDPW02", b"\x03", client, b"", body]
}

#[test]
fn mdp18_07_ready_has_exactly_3_frames() {
    let broker = FakeBroker::start();
    let _worker = TestWorker::echo(V02, &[&broker.endpoint]);

    assert_eq!(broker.recv().1, frames![b"MDPW02", b"\x01", b"echo"]);
}

#[test]
fn mdp18_09_partial_has_address_empty_frame_and_body() {
    let broker = FakeBroker::start();
    let options = worker_options(V02, &[&broker.endpoint]);
    let _worker = TestWorker::start(options, |request: Request| {
        request.partial(["one", "two"]).unwrap();
        request.frames
    });
    let peer = broker.expect(&ready(V02));

    broker.send(&peer, request(V02, "c", "x"));

    let (_, frames) = broker.recv_other_than(&heartbeat(V02));
    assert_eq!(frames, frames![b"MDPW02", b"\x03", b"c", b"", b"one", b"two"]);
}

#[test]
fn mdp18_10_final_has_address_empty_frame_and_body() {
    let broker = FakeBroker::start();
    let options = worker_options(V02, &[&broker.endpoint]);
    let _worker = TestWorker::start(options, |_| frames![b"one", b"two"]);
    let peer = broker.expect(&ready(V02));

    broker.send(&peer, request(V02, "c", "x"));

    let (_, frames) = broker.recv_other_than(&heartbeat(V02));
    assert_eq!(frames, frames![b"MDPW02", b"\x04", b"c", b"", b"one", b"two"]);
}

#[test]
fn mdp18_11_heartbeat_has_exactly_2_frames() {
    let broker = FakeBroker::start();
    let _worker = TestWorker::echo(V02, &[&broker.endpoint]);

    assert_eq!(broker.recv_other_than(&ready(V02)).1, frames![b"MDPW02", b"\x05"]);
}

#[test]
fn mdp18_12_disconnect_has_exactly_2_frames() {
    let broker = FakeBroker::start();
    let worker = TestWorker::echo(V02, &[&broker.endpoint]);
    broker.expect(&ready(V02));

    worker.stop.stop();

    assert_eq!(broker.recv_other_than(&heartbeat(V02)).1, frames![b"MDPW02", b"\x06"]);
}

#[test]
fn mdp18_13_request_is_answered_by_partials_in_order_and_one_final() {
    for count in [0, 1, 200] {
        let broker = FakeBroker::start();
        let options = worker_options(V02, &[&broker.endpoint]);
        let _worker = TestWorker::start(options, move |request: Request| {
            (0..count).for_each(|n| request.partial(n.to_string()).unwrap());
            request.frames
        });
        let peer = broker.expect(&ready(V02));

        // Twice: the first final ends the first request.
        for body in ["first", "second"] {
            broker.send(&peer, request(V02, "c", body));
            for n in 0..count {
                let (_, frames) = broker.recv_other_than(&heartbeat(V02));
                assert_eq!(frames, partial("c", &n.to_string()));
            }
            assert_eq!(broker.recv_other_than(&heartbeat(V02)).1, answer(V02, "c", body));
        }
    }
}

#[test]
fn mdp18_13_partials_are_sent_before_the_handler_returns() {
    let broker = FakeBroker::start();
    let (gate, wait) = Gate::new();
    let options = worker_options(V02, &[&broker.endpoint]);
    let _worker = TestWorker::start(options, move |request: Request| {
        request.partial("early").unwrap();
        wait(request)
    });
    let peer = broker.expect(&ready(V02));

    broker.send(&peer, request(V02, "c", "late"));
    assert_eq!(broker.recv_other_than(&heartbeat(V02)).1, partial("c", "early"));
    gate.began.recv_timeout(DEADLINE).unwrap();
    gate.end.send(()).unwrap();

    assert_eq!(broker.recv_other_than(&heartbeat(V02)).1, answer(V02, "c", "late"));
}

#[test]
fn mdp18_14_partial_and_final_hold_the_address_of_their_request() {
    let broker = FakeBroker::start();
    let options = worker_options(V02, &[&broker.endpoint]);
    let _worker = TestWorker::start(options, |request: Request| {
        request.partial("part").unwrap();
        request.frames
    });
    let peer = broker.expect(&ready(V02));

    for client in ["a", "b"] {
        broker.send(&peer, request(V02, client, "end"));
        assert_eq!(broker.recv_other_than(&heartbeat(V02)).1, partial(client, "part"));
        assert_eq!(broker.recv_other_than(&heartbeat(V02)).1, answer(V02, client, "end"));
    }
}

#[test]
fn partial_is_an_error_in_01() {
    let broker = FakeBroker::start();
    let options = worker_options(Version::V01, &[&broker.endpoint]);
    let _worker = TestWorker::start(options, |request: Request| {
        assert_eq!(request.partial("part"), Err(PartialError::NotIn01));
        frames![b"refused"]
    });
    let peer = broker.expect(&ready(Version::V01));

    broker.send(&peer, request(Version::V01, "c", "x"));

    let (_, frames) = broker.recv_other_than(&heartbeat(Version::V01));
    assert_eq!(frames, answer(Version::V01, "c", "refused"));
}
