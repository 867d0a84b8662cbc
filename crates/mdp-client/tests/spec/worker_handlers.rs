//! What handlers return, and where a worker shows that it is registered.

use std::time::{Duration, Instant};

use mdp_client::{Request, StopHandle, Version, Worker, WorkerObserver};

use crate::support::{
    DEADLINE, FakeBroker, VERSIONS, answer, disconnect, heartbeat, ready, request, worker_options,
};

#[test]
fn handler_that_fails_is_answered_with_one_empty_frame() {
    for version in VERSIONS {
        let broker = FakeBroker::start();
        let options = worker_options(version, &[&broker.endpoint]);
        let stop = StopHandle::new();
        let stopper = stop.clone();
        let worker = std::thread::spawn(move || {
            let handler = |request: Request| -> Result<String, std::string::FromUtf8Error> {
                Ok(String::from_utf8(request.frames.concat())?.to_uppercase())
            };
            Worker::run(options, handler, &stopper)
        });
        let peer = broker.expect(&ready(version));

        broker.send(&peer, request(version, "c1", "good"));
        broker.expect(&answer(version, "c1", "GOOD"));
        let mut bad = request(version, "c2", "");
        *bad.last_mut().unwrap() = vec![0xff];
        broker.send(&peer, bad);
        let from = broker.expect(&answer(version, "c2", ""));

        assert_eq!(from, peer, "it stays registered");
        stop.stop();
        let counters = worker.join().unwrap().unwrap();
        assert_eq!((counters.replies, counters.failures, counters.panics), (2, 1, 0));
    }
}

#[test]
fn observer_sees_where_a_worker_is_registered_and_since_when() {
    let version = Version::V01;
    let broker = FakeBroker::start();
    let observer = WorkerObserver::new();
    let options =
        worker_options(version, &[&broker.endpoint]).observer(observer.clone()).concurrency(2);
    let stop = StopHandle::new();
    let stopper = stop.clone();
    let before = Instant::now();
    let worker = std::thread::spawn(move || {
        Worker::run(options, |request: Request| request.frames, &stopper)
    });
    let first = broker.expect(&ready(version));
    let second = broker.expect(&ready(version));
    assert!(!observer.is_registered(), "READY alone is no registration");

    broker.send(&first, heartbeat(version));
    assert!(observer.wait_until_registered(DEADLINE));
    broker.send(&second, heartbeat(version));
    let wait_for = |count| {
        let end = Instant::now() + DEADLINE;
        while observer.registrations().len() != count {
            assert!(Instant::now() < end, "{:?}", observer.registrations());
            std::thread::yield_now();
        }
    };
    wait_for(2);
    let registrations = observer.registrations();
    assert!(registrations.iter().all(|one| one.endpoint == broker.endpoint));
    assert!(registrations.iter().all(|one| one.since >= before && one.since <= Instant::now()));

    broker.send(&first, disconnect(version));
    wait_for(1);
    stop.stop();
    worker.join().unwrap().unwrap();
    assert!(!observer.is_registered());
    assert!(!observer.wait_until_registered(Duration::from_millis(1)));
}
