//! Which replies count, how large they may be, and what `mmi.service` says.

use std::{sync::mpsc, time::Duration};

use mdp_client::{
    Availability, CLIENT_SOCKETS_MAX, CallError, Client, ClientOptions, ConnectError, Correlation,
    PipelineError, Version,
};

use crate::support::{DEADLINE, FakeBroker, client_options, frames};

#[test]
fn replies_of_another_service_are_ignored_and_counted() {
    let broker = FakeBroker::start();
    let mut client = Client::connect(client_options(Version::V01, &[&broker.endpoint])).unwrap();
    let fake = std::thread::spawn(move || {
        let (peer, request) = broker.recv();
        broker.send(&peer, frames![b"", b"MDPC01", b"ECHO", b"wrong"]);
        broker.send(&peer, frames![b"", b"MDPC01", b"echo2", b"wrong"]);
        broker.send(&peer, request);
        broker
    });

    let reply = client.call("echo", "right").unwrap();

    drop(fake.join().unwrap());
    assert_eq!(reply.frames, frames![b"right"]);
    assert_eq!((client.counters().replies_unmatched, client.counters().replies), (2, 1));
}

#[test]
fn replies_with_another_id_are_ignored_and_counted() {
    let broker = FakeBroker::start();
    let mut client = Client::connect(client_options(Version::V01, &[&broker.endpoint])).unwrap();
    let mut pipeline = client.pipeline(1).unwrap();
    pipeline.send("echo", "right").unwrap();

    let (peer, mut request) = broker.recv();
    broker.send(&peer, frames![b"\xff\xff\xff\xff\xff\xff\xff\xff", b"", b"MDPC01", b"echo", b"x"]);
    broker.send(&peer, frames![b"", b"MDPC01", b"echo", b"no id"]);
    broker.send(&peer, frames![b"short", b"", b"MDPC01", b"echo", b"x"]);
    let id = request[0].clone();
    broker.send(&peer, frames![&id, b"", b"MDPC01", b"other", b"x"]);
    broker.send(&peer, request.clone());
    // The same reply again belongs to nobody.
    broker.send(&peer, std::mem::take(&mut request));
    let reply = pipeline.recv().unwrap().result.unwrap();

    assert_eq!(reply.frames, frames![b"right"]);
    drop(pipeline);
    assert_eq!(client.counters().replies_malformed, 1);
    assert!(client.counters().replies_unmatched >= 3, "{:?}", client.counters());
}

#[test]
fn reply_that_came_unasked_is_not_taken_for_the_next_answer() {
    // Over inproc, where a message that was sent is there.
    let context = zmq::Context::new();
    let router = context.socket(zmq::ROUTER).unwrap();
    router.bind("inproc://unasked").unwrap();
    let options = client_options(Version::V01, &["inproc://unasked"]);
    let mut client = Client::connect(options.context(context)).unwrap();
    let (sent, both_sent) = mpsc::channel();
    let fake = std::thread::spawn(move || {
        let request = router.recv_multipart(0).unwrap();
        router.send_multipart(&request, 0).unwrap();
        router.send_multipart(&request, 0).unwrap();
        sent.send(()).unwrap();
        let request = router.recv_multipart(0).unwrap();
        router.send_multipart(&request, 0).unwrap();
        router
    });

    let first = client.call("echo", "first").unwrap();
    both_sent.recv_timeout(DEADLINE).unwrap();
    let second = client.call("echo", "second").unwrap();

    drop(fake.join().unwrap());
    assert_eq!((first.frames, second.frames), (frames![b"first"], frames![b"second"]));
    assert_eq!(client.counters().replies_unmatched, 1);
}

#[test]
fn reply_larger_than_the_limit_is_an_error() {
    let broker = FakeBroker::start();
    let options = client_options(Version::V02, &[&broker.endpoint]).reply_bytes_max(1_000);
    let mut client = Client::connect(options).unwrap();
    let fake = std::thread::spawn(move || {
        let (peer, _) = broker.recv();
        for _ in 0..3 {
            let part = vec![b'x'; 400];
            broker.send(&peer, frames![b"MDPC02", b"\x02", b"echo", &part]);
        }
        broker
    });

    let error = client.call("echo", "x").unwrap_err();

    drop(fake.join().unwrap());
    assert!(matches!(error, CallError::ReplyTooLarge { bytes_max: 1_000, .. }), "{error:?}");
}

#[test]
fn mmi_service_codes_are_told_apart() {
    for version in [Version::V01, Version::V02] {
        let broker = FakeBroker::start();
        let mut client = Client::connect(client_options(version, &[&broker.endpoint])).unwrap();
        let fake = std::thread::spawn(move || {
            for code in ["200", "404", "501"] {
                let (peer, request) = broker.recv();
                let reply = match version {
                    Version::V01 => {
                        assert_eq!(request, frames![b"", b"MDPC01", b"mmi.service", b"echo"]);
                        frames![b"", b"MDPC01", b"mmi.service", code]
                    }
                    Version::V02 => {
                        assert_eq!(request, frames![b"MDPC02", b"\x01", b"mmi.service", b"echo"]);
                        frames![b"MDPC02", b"\x03", b"mmi.service", code]
                    }
                };
                broker.send(&peer, reply);
            }
            broker
        });

        let answers = [(); 3].map(|()| client.mmi_service("echo").unwrap());

        drop(fake.join().unwrap());
        let unknown = Availability::Unknown("501".to_owned());
        assert_eq!(answers, [Availability::Offered, Availability::NotOffered, unknown]);
    }
}

#[test]
fn socket_per_request_needs_no_envelope() {
    let broker = FakeBroker::start();
    let options = client_options(Version::V01, &[&broker.endpoint])
        .correlation(Correlation::SocketPerRequest);
    let mut client = Client::connect(options).unwrap();
    let mut pipeline = client.pipeline(2).unwrap();

    pipeline.send("echo", "a").unwrap();
    pipeline.send("echo", "b").unwrap();
    let [first, second] = [broker.recv(), broker.recv()];

    assert_ne!(first.0, second.0);
    for (peer, request) in [first, second] {
        assert_eq!(request[..3], frames![b"", b"MDPC01", b"echo"]);
        broker.send(&peer, request);
    }
    let mut bodies: Vec<_> =
        std::iter::from_fn(|| pipeline.recv()).map(|done| done.result.unwrap().frames).collect();
    bodies.sort();
    assert_eq!(bodies, [frames![b"a"], frames![b"b"]]);
}

#[test]
fn pipeline_holds_its_limit() {
    let broker = FakeBroker::start();
    let mut client = Client::connect(client_options(Version::V01, &[&broker.endpoint])).unwrap();
    let mut pipeline = client.pipeline(1).unwrap();

    pipeline.send("echo", "a").unwrap();
    let refused = pipeline.send("echo", "b");

    assert!(matches!(refused, Err(PipelineError::Full { limit: 1 })), "{refused:?}");
    let (peer, request) = broker.recv();
    broker.send(&peer, request);
    assert_eq!(pipeline.recv().unwrap().result.unwrap().frames, frames![b"a"]);
    assert!(pipeline.is_empty());
    pipeline.send("echo", "b").unwrap();
}

#[test]
fn pipeline_limits_are_checked() {
    let mut client = Client::connect(client_options(Version::V02, &["127.0.0.1:1"])).unwrap();

    for limit in [0, CLIENT_SOCKETS_MAX + 1] {
        let refused = client.pipeline(limit).err();
        assert!(
            matches!(refused, Some(PipelineError::LimitOutOfRange { max: CLIENT_SOCKETS_MAX, .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn dropped_pipeline_leaves_a_usable_client() {
    let broker = FakeBroker::start();
    let mut client = Client::connect(client_options(Version::V01, &[&broker.endpoint])).unwrap();
    let mut pipeline = client.pipeline(10).unwrap();
    pipeline.send("echo", "given up").unwrap();
    let (peer, late) = broker.recv();
    drop(pipeline);

    let fake = std::thread::spawn(move || {
        let sent = broker.try_send(&peer, late);
        assert!(sent.is_ok() || sent == Err(zmq::Error::EHOSTUNREACH));
        let (peer, request) = broker.recv();
        broker.send(&peer, request);
        broker
    });
    let reply = client.call("echo", "kept").unwrap();

    drop(fake.join().unwrap());
    assert_eq!(reply.frames, frames![b"kept"]);
}

#[test]
fn names_and_options_that_cannot_be_used_are_errors() {
    let mut client = Client::connect(client_options(Version::V01, &["127.0.0.1:1"])).unwrap();

    assert!(matches!(client.call("", "x"), Err(CallError::InvalidService(_))));
    assert!(matches!(client.call([b'x'; 256], "x"), Err(CallError::InvalidService(_))));
    let none = ClientOptions::default().attempts(0);
    assert!(matches!(Client::connect(none), Err(ConnectError::NoAttempts)));
    let options = client_options(Version::V01, &["nowhere"]);
    assert!(matches!(Client::connect(options), Err(ConnectError::Endpoint(_))));
}

#[test]
fn a_thousand_pipelined_requests_are_answered_in_order() {
    let broker = FakeBroker::start();
    let mut client = Client::connect(client_options(Version::V01, &[&broker.endpoint])).unwrap();
    let fake = std::thread::spawn(move || {
        for _ in 0..1_000 {
            let (peer, request) = broker.recv();
            broker.send(&peer, request);
        }
        // Until the client has read all of it.
        assert_eq!(broker.recv_within(Duration::from_millis(200)), None);
        broker
    });
    let mut pipeline = client.pipeline(1_000).unwrap();

    let sent: Vec<_> =
        (0..1_000).map(|n| (pipeline.send("echo", n.to_string()).unwrap(), n)).collect();
    let answered: Vec<_> = std::iter::from_fn(|| pipeline.recv())
        .map(|done| (done.id, done.result.unwrap().frames))
        .collect();

    drop(fake.join().unwrap());
    let expected: Vec<_> = sent.iter().map(|(id, n)| (*id, frames![&n.to_string()])).collect();
    assert_eq!(answered, expected);
}
