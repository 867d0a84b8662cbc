//! Clients of a cluster whose nodes die, drain and come back.

use std::{
    thread,
    time::{Duration, Instant},
};

use mdp_client::{CallError, CallOptions, Client, ClientOptions, NoReplyCause, Version};

use crate::{
    node::{Listed, Node, list},
    support::{DEADLINE, FakeBroker, VERSIONS, call_in_thread, client_options, frames},
};

/// How often clients under test ask for endpoints.
const REFRESH: Duration = Duration::from_millis(50);

/// What a lost connection may cost on loopback, in the best of some tries.
const GAP_MAX: Duration = Duration::from_millis(100);

fn cluster_options(nodes: &[&Node]) -> ClientOptions {
    let endpoints: Vec<_> = nodes.iter().map(|node| node.endpoint.as_str()).collect();
    client_options(Version::V01, &endpoints).endpoints_refresh(REFRESH).return_interval(REFRESH)
}

/// Calls until one is answered by this node.
#[track_caller]
fn call_until_answered_by(client: &mut Client, node: &Node) {
    let deadline = Instant::now() + DEADLINE;
    while client.call("echo", "x").unwrap().endpoint != node.endpoint {
        assert!(Instant::now() < deadline, "never answered by {}", node.endpoint);
    }
}

#[test]
fn request_of_a_lost_connection_is_elsewhere_in_less_than_100_ms() {
    for version in VERSIONS {
        let gap = || {
            let (first, second) = (FakeBroker::start(), FakeBroker::start());
            let options = client_options(version, &[&first.endpoint, &second.endpoint]);
            let call = call_in_thread(options, "echo", "hello");
            first.recv();
            let lost = Instant::now();
            first.stop();
            let (peer, request) = second.recv();
            let gap = lost.elapsed();
            let reply = match version {
                Version::V01 => request,
                Version::V02 => frames![b"MDPC02", b"\x03", b"echo", b"hello"],
            };
            second.send(&peer, reply);
            assert_eq!(call.join().unwrap().unwrap().attempts, 2);
            gap
        };

        let best = (0..5).map(|_| gap()).min().unwrap();

        assert!(best < GAP_MAX, "{best:?}");
    }
}

#[test]
fn learned_node_takes_over_when_the_configured_one_dies() {
    let listed = Listed::default();
    let (a, b) = (Node::start(&listed), Node::start(&listed));
    list(&listed, &[&a, &b]);
    let mut client = Client::connect(cluster_options(&[&a])).unwrap();
    let first = client.call("echo", "x").unwrap();
    assert_eq!(first.endpoint, a.endpoint);
    // The answer to the question may come after that to the request.
    client.call("echo", "x").unwrap();

    a.stop();
    let reply = client.call("echo", "y").unwrap();

    assert_eq!(reply.endpoint, b.endpoint);
    assert!(reply.attempts <= 2, "{reply:?}");
}

#[test]
fn node_that_drains_is_left_without_a_retry_and_gone_back_to() {
    let listed = Listed::default();
    let (a, b) = (Node::start(&listed), Node::start(&listed));
    list(&listed, &[&a, &b]);
    let mut client = Client::connect(cluster_options(&[&a, &b])).unwrap();
    call_until_answered_by(&mut client, &a);

    list(&listed, &[&b]);
    call_until_answered_by(&mut client, &b);
    let before = a.requests();
    for _ in 0..100 {
        assert_eq!(client.call("echo", "x").unwrap().attempts, 1);
    }
    assert_eq!(a.requests(), before, "no more requests");

    list(&listed, &[&a, &b]);
    call_until_answered_by(&mut client, &a);

    let counters = client.counters();
    assert_eq!((counters.retries, counters.moves, counters.connections_lost), (0, 2, 0));
}

#[test]
fn unreachable_learned_endpoints_do_not_disturb() {
    let listed = Listed::default();
    let a = Node::start(&listed);
    // The first is refused, the second is no address, the third is not reached.
    let others = ["tcp://127.0.0.1:1", "nonsense", "tcp://192.0.2.1:5555"];
    *listed.lock().unwrap() = others.map(str::to_owned).to_vec();
    let mut client = Client::connect(cluster_options(&[&a])).unwrap();

    let end = Instant::now() + REFRESH * 10;
    while Instant::now() < end {
        let reply = client.call("echo", "x").unwrap();
        assert_eq!((reply.attempts, reply.endpoint), (1, a.endpoint.clone()));
    }

    assert_eq!(client.counters().moves, 0);
}

#[test]
fn learning_turned_off_asks_nothing() {
    let broker = FakeBroker::start();
    let call = call_in_thread(client_options(Version::V01, &[&broker.endpoint]), "echo", "x");

    let (peer, request) = broker.recv();
    assert_eq!(broker.recv_within(REFRESH), None);
    broker.send(&peer, request);

    call.join().unwrap().unwrap();
}

#[test]
fn question_is_a_request_of_its_own_and_501_is_respected() {
    let broker = FakeBroker::start();
    let options = client_options(Version::V01, &[&broker.endpoint])
        .endpoints_refresh(Duration::from_millis(1));
    let call = thread::spawn(move || {
        let mut client = Client::connect(options).unwrap();
        for _ in 0..3 {
            client.call("echo", "x").unwrap();
            thread::park_timeout(Duration::from_millis(2));
        }
    });

    let question = frames![b"", b"MDPC01", b"mmi.endpoints", b""];
    let mut questions = 0;
    for _ in 0..4 {
        let (peer, mut frames) = broker.recv();
        if frames == question {
            questions += 1;
            frames[3] = b"501".to_vec();
        }
        broker.send(&peer, frames);
    }

    call.join().unwrap();
    assert_eq!(questions, 1);
}

#[test]
fn request_that_is_not_idempotent_is_not_sent_twice() {
    for version in VERSIONS {
        let (first, second) = (FakeBroker::start(), FakeBroker::start());
        let options =
            client_options(version, &[&first.endpoint, &second.endpoint]).idempotent(false);
        let call = call_in_thread(options, "billing", "charge 5");

        first.recv();
        first.stop();

        let error = call.join().unwrap().unwrap_err();
        assert!(
            matches!(
                error,
                CallError::MayHaveBeenExecuted { cause: NoReplyCause::ConnectionLost, .. }
            ),
            "{error:?}"
        );
        assert_eq!(second.recv_within(Duration::from_millis(50)), None);
    }
}

#[test]
fn request_that_never_left_is_tried_elsewhere_whatever_it_is() {
    let broker = FakeBroker::start();
    let options = client_options(Version::V01, &["127.0.0.1:1", &broker.endpoint]);
    let call = thread::spawn(move || {
        let mut client = Client::connect(options).unwrap();
        let once = CallOptions::new().idempotent(false);
        client.call_with_options("billing", "charge 5", once)
    });

    let (peer, request) = broker.recv();
    broker.send(&peer, request);

    assert_eq!(call.join().unwrap().unwrap().attempts, 1);
}

#[test]
fn request_id_is_in_reply_and_error_and_in_the_envelope_of_pipelined_requests() {
    let broker = FakeBroker::start();
    let options = client_options(Version::V01, &[&broker.endpoint])
        .attempts(1)
        .timeout(Duration::from_millis(100));
    let mut client = Client::connect(options).unwrap();
    let mut pipeline = client.pipeline(2).unwrap();
    let id = pipeline.send("echo", "x").unwrap();
    let (peer, request) = broker.recv();
    broker.send(&peer, request.clone());
    let reply = pipeline.recv().unwrap().result.unwrap();
    drop(pipeline);

    let error = client.call("echo", "y").unwrap_err();

    assert_eq!(reply.request_id, id);
    let (own, number) =
        id.to_string().split_once('-').map(|(c, n)| (c.to_owned(), n.to_owned())).unwrap();
    let hex: String = request[0][..3].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((own.as_str(), number.as_str()), (hex.as_str(), "1"));
    assert_eq!(error.request_id().unwrap().to_string(), format!("{own}-2"));
    assert!(error.to_string().contains(&format!("(request {own}-2)")), "{error}");
}

/// One node after the other drains, restarts and is listed again, under load.
#[test]
fn rolling_restart_fails_no_request_and_stalls_none() {
    let listed = Listed::default();
    let mut nodes: Vec<Node> = (0..3).map(|_| Node::start(&listed)).collect();
    list(&listed, &nodes.iter().collect::<Vec<_>>());
    let options = cluster_options(&nodes.iter().collect::<Vec<_>>());
    let (done, until_done) = std::sync::mpsc::channel::<()>();
    let load = thread::spawn(move || {
        let mut client = Client::connect(options).unwrap();
        let mut pipeline = client.pipeline(50).unwrap();
        let mut worst = (Duration::ZERO, 0, 0);
        while until_done.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            while pipeline.len() < pipeline.limit() {
                pipeline.send("echo", "x").unwrap();
            }
            let reply = pipeline.recv().unwrap().result.unwrap();
            worst = (worst.0.max(reply.elapsed), worst.1.max(reply.attempts), worst.2 + 1);
        }
        drop(pipeline);
        (worst, client.counters())
    });

    for place in 0..nodes.len() {
        let others = nodes.iter().enumerate().filter(|(n, _)| *n != place).map(|(_, node)| node);
        list(&listed, &others.collect::<Vec<_>>());
        // A node waits for its clients to go away, for a time.
        thread::park_timeout(REFRESH * 4);
        let endpoint = nodes.remove(place).stop();
        thread::park_timeout(REFRESH);
        nodes.insert(place, Node::restart(&endpoint, &listed));
        list(&listed, &nodes.iter().collect::<Vec<_>>());
        thread::park_timeout(REFRESH * 4);
    }
    drop(done);

    let ((elapsed, attempts, replies), counters) = load.join().unwrap();
    assert!(replies > 100, "{replies}");
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
    assert!(attempts <= 2, "{attempts} attempts, {counters:?}");
}
