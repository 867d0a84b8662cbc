//! Clients and workers with keys, and what they say when they are refused.

use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use mdp_client::{
    CallError, CallOptions, Client, ClientOptions, ConnectError, ConnectFailure, KeysError,
    Mechanism, NoReplyCause, Version, WorkerError,
};

use crate::{
    curve_broker::{CurveBroker, Port, secret, server_key},
    support::{
        DEADLINE, TestWorker, VERSIONS, answer, client_options, heartbeat, ready, request,
        worker_options,
    },
};

/// The number of the key of every client and worker here.
const OWN: u8 = 3;

/// Long enough for a broker that holds an unknown key, on a loaded machine.
const HELD_AT_MOST: Duration = Duration::from_secs(15);

fn options(broker: &CurveBroker) -> ClientOptions {
    client_options(Version::V01, &[&broker.endpoint])
}

fn options_with_keys(broker: &CurveBroker) -> ClientOptions {
    options(broker).keys(secret(OWN), server_key())
}

/// Why the only broker could not be reached.
fn failure_of(options: ClientOptions) -> ConnectFailure {
    let error = Client::connect(options).unwrap().call("echo", "hello").unwrap_err();
    let CallError::Unreachable { mut endpoints, .. } = error else { panic!("{error}") };
    assert_eq!(endpoints.len(), 1);
    endpoints.remove(0).failure
}

#[test]
fn client_with_keys_is_answered_by_a_broker_that_admits_its_key() {
    for version in VERSIONS {
        let broker = CurveBroker::start(Port::Curve, [secret(OWN).public()], |mut message| {
            // FINAL, where the request says REQUEST.
            if message[0] == b"MDPC02" {
                message[1] = b"\x03".to_vec();
            }
            vec![message]
        });
        let options = options_with_keys(&broker).version(version);
        let mut client = Client::connect(options).unwrap();

        let body = vec![b"a".to_vec(), vec![], vec![7; 100_000]];
        assert_eq!(client.call("echo", body.clone()).unwrap().frames, body, "{version}");
        assert_eq!(client.call("echo", "again").unwrap().frames, [b"again"], "{version}");
        assert_eq!(broker.connected().len(), 1, "{version}");
    }
}

#[test]
fn pipeline_with_keys_is_answered() {
    let broker = CurveBroker::echo(Port::Curve, [secret(OWN).public()]);
    let mut client = Client::connect(options_with_keys(&broker)).unwrap();
    let mut pipeline = client.pipeline(10).unwrap();
    for _ in 0..10 {
        pipeline.send("echo", "hello").unwrap();
    }
    let replies = std::iter::from_fn(|| pipeline.recv());
    assert_eq!(replies.filter(|reply| reply.result.is_ok()).count(), 10);
}

#[test]
fn key_that_no_broker_knows_is_not_admitted_and_said_so() {
    let broker = CurveBroker::echo(Port::Curve, [secret(9).public()]);
    let began = Instant::now();
    // Attempts are shorter than the time for which the key is held.
    let options = options_with_keys(&broker).timeout(Duration::from_millis(500));

    assert_eq!(failure_of(options), ConnectFailure::NotAdmitted);

    assert!(began.elapsed() < HELD_AT_MOST, "{:?}", began.elapsed());
    broker.wait_for_ending("key_refused");
    assert_eq!(broker.connected().len(), 1);
}

#[test]
fn key_that_is_made_known_while_it_is_held_is_admitted_by_the_same_connection() {
    let broker = CurveBroker::echo(Port::Curve, []);
    let mut client = Client::connect(options_with_keys(&broker)).unwrap();
    let caller = thread::spawn(move || client.call("echo", "hello"));

    broker.wait_for_connection();
    broker.admit(secret(OWN).public());

    assert_eq!(caller.join().unwrap().unwrap().frames, [b"hello"]);
    assert_eq!(broker.connected().len(), 1);
}

#[test]
fn connection_that_is_closed_after_the_key_was_shown_counts_as_not_admitted() {
    let broker = CurveBroker::echo(Port::CurveUnanswered, []);
    assert_eq!(failure_of(options_with_keys(&broker)), ConnectFailure::NotAdmitted);
    broker.wait_for_ending("admission_timeout");
}

#[test]
fn client_without_keys_at_a_broker_with_keys_only_has_the_wrong_mechanism() {
    let broker = CurveBroker::echo(Port::Curve, []);
    let failure = failure_of(options(&broker));
    assert_eq!(failure, ConnectFailure::WrongMechanism { offered: Mechanism::Null });
}

#[test]
fn client_with_keys_at_a_broker_without_keys_has_the_wrong_mechanism() {
    let broker = CurveBroker::echo(Port::Null, []);
    let failure = failure_of(options_with_keys(&broker));
    assert_eq!(failure, ConnectFailure::WrongMechanism { offered: Mechanism::Curve });
}

#[test]
fn broker_with_another_key_than_the_expected_one_is_named() {
    let broker = CurveBroker::echo(Port::Curve, [secret(OWN).public()]);
    let failure = failure_of(options(&broker).keys(secret(OWN), secret(9).public()));
    assert_eq!(failure, ConnectFailure::WrongServerKey);
    broker.wait_for_ending("curve_server_key");
}

#[test]
fn broker_that_is_not_there_is_said_to_be_so_with_keys_too() {
    let options = client_options(Version::V01, &["tcp://127.0.0.1:1"]);
    let failure = failure_of(options.keys(secret(OWN), server_key()));
    assert_eq!(failure, ConnectFailure::Refused);
}

#[test]
fn caller_that_repeats_refused_calls_does_not_connect_each_time() {
    let broker = CurveBroker::echo(Port::Curve, []);
    let options = options(&broker).unreachable_timeout(Duration::from_millis(20));
    let mut client = Client::connect(options).unwrap();
    let began = Instant::now();
    let mut calls = 0;
    while began.elapsed() < Duration::from_secs(2) {
        client.call("echo", "hello").unwrap_err();
        calls += 1;
    }
    // At once, and after pauses of up to 1 and 2 s, of which a half may be missing.
    assert!(broker.connected().len() <= 3, "{:?}", broker.connected());
    assert!((3..=200).contains(&calls), "{calls}");
}

#[test]
fn refused_broker_does_not_hold_up_calls_to_another_one() {
    let refusing = CurveBroker::echo(Port::Curve, []);
    let admitting = CurveBroker::echo(Port::Curve, [secret(OWN).public()]);
    let endpoints = [refusing.endpoint.as_str(), admitting.endpoint.as_str()];
    let options = client_options(Version::V01, &endpoints).keys(secret(OWN), server_key());

    let reply = Client::connect(options).unwrap().call("echo", "hello").unwrap();

    assert_eq!(reply.endpoint, admitting.endpoint);
    assert!(reply.elapsed < Duration::from_secs(3), "{:?}", reply.elapsed);
}

/// Drops every request, and says why when it is asked.
fn forbidding() -> CurveBroker {
    CurveBroker::start(Port::Curve, [secret(OWN).public()], |mut message| {
        // Behind the envelope, if there is one.
        let service = message.iter().position(|frame| frame == b"mmi.service");
        service.map_or_else(Vec::new, |service| {
            message.truncate(service + 1);
            message.push(b"403".to_vec());
            vec![message]
        })
    })
}

fn impatient(broker: &CurveBroker) -> Client {
    let timeout = Duration::from_millis(100);
    Client::connect(options_with_keys(broker).timeout(timeout).attempts(2)).unwrap()
}

#[test]
fn call_that_is_not_allowed_says_so_after_its_last_attempt() {
    let broker = forbidding();
    let error = impatient(&broker).call("billing", "charge").unwrap_err();
    assert!(matches!(&error, CallError::NotAllowed { request_id: Some(_), .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.starts_with("not allowed: ") && text.contains("`billing`"), "{text}");
}

#[test]
fn call_that_asks_first_and_is_not_allowed_fails_at_once() {
    let broker = forbidding();
    let options = CallOptions::new().fail_fast(true);
    let called = impatient(&broker).call_with_options("billing", "charge", options);
    let error = called.unwrap_err();
    assert!(matches!(error, CallError::NotAllowed { request_id: None, .. }), "{error:?}");
}

#[test]
fn call_that_may_have_been_executed_is_not_said_to_be_dropped() {
    let broker = forbidding();
    let options = CallOptions::new().idempotent(false);
    let called = impatient(&broker).call_with_options("billing", "charge", options);
    let error = called.unwrap_err();
    let CallError::MayHaveBeenExecuted { cause, .. } = error else { panic!("{error:?}") };
    assert_eq!(cause, NoReplyCause::NotAllowed);
}

#[test]
fn worker_with_keys_registers_and_answers() {
    let (told, replies) = mpsc::channel();
    let told = Mutex::new(told);
    let broker = CurveBroker::start(Port::Curve, [secret(OWN).public()], move |message| {
        if message == ready(Version::V01) {
            return vec![heartbeat(Version::V01), request(Version::V01, "client", "hello")];
        }
        told.lock().unwrap().send(message).ok();
        Vec::new()
    });
    let options = worker_options(Version::V01, &[&broker.endpoint]);
    let _worker =
        TestWorker::start(options.keys(secret(OWN), server_key()), |request| request.frames);

    let end = Instant::now() + DEADLINE;
    while replies.recv_timeout(DEADLINE).unwrap() != answer(Version::V01, "client", "hello") {
        assert!(Instant::now() < end, "no reply came");
    }
}

#[test]
fn worker_whose_key_is_not_admitted_comes_back_and_registers_when_it_is() {
    let (told, readies) = mpsc::channel();
    let told = Mutex::new(told);
    let broker = Arc::new(CurveBroker::start(Port::Curve, [], move |message| {
        told.lock().unwrap().send(message).ok();
        vec![heartbeat(Version::V01)]
    }));
    // Silence that would make a broker lost is shorter than the time for which the key is held.
    let options = worker_options(Version::V01, &[&broker.endpoint]).heartbeat_liveness(3);
    let _worker =
        TestWorker::start(options.keys(secret(OWN), server_key()), |request| request.frames);

    broker.wait_for_ending("key_refused");
    assert_eq!(broker.connected().len(), 1);
    broker.admit(secret(OWN).public());

    assert_eq!(readies.recv_timeout(DEADLINE).unwrap(), ready(Version::V01));
}

#[test]
fn refused_worker_does_not_spin() {
    let broker = CurveBroker::echo(Port::Curve, []);
    let options = worker_options(Version::V01, &[&broker.endpoint]);
    let worker = TestWorker::start(options, |request| request.frames);

    broker.wait_for_ending("mechanism");
    thread::sleep(Duration::from_secs(2));
    drop(worker);

    assert!(broker.connected().len() <= 3, "{:?}", broker.connected());
}

#[test]
fn one_key_without_the_other_is_refused() {
    let client = ClientOptions::default().key(Some(secret(OWN)));
    let refused = Client::connect(client).unwrap_err();
    assert!(matches!(refused, ConnectError::Keys(KeysError::NoServerKey)), "{refused}");

    let options = worker_options(Version::V01, &["127.0.0.1:1"]).server_key(Some(server_key()));
    let stop = mdp_client::StopHandle::new();
    let refused = mdp_client::Worker::run(options, |_| "", &stop).unwrap_err();
    assert!(matches!(refused, WorkerError::Keys(KeysError::NoKey)), "{refused}");
}

#[cfg(feature = "tokio")]
#[tokio::test]
async fn async_client_with_keys_is_answered_and_told_what_it_may_not_call() {
    use mdp_client::asynchronous;

    let broker = CurveBroker::echo(Port::Curve, [secret(OWN).public()]);
    let client = asynchronous::Client::connect(options_with_keys(&broker)).unwrap();
    assert_eq!(client.call("echo", "hello").await.unwrap().frames, [b"hello"]);

    let broker = forbidding();
    let options = options_with_keys(&broker).timeout(Duration::from_millis(100)).attempts(1);
    let client = asynchronous::Client::connect(options).unwrap();
    let error = client.call("billing", "charge").await.unwrap_err();
    assert!(matches!(error, CallError::NotAllowed { request_id: Some(_), .. }), "{error:?}");
    let options = CallOptions::new().fail_fast(true);
    let error = client.call_with_options("billing", "charge", options).await.unwrap_err();
    assert!(matches!(error, CallError::NotAllowed { request_id: None, .. }), "{error:?}");
}
