//! 7/MDP, what binds clients.

use std::time::{Duration, Instant};

use mdp_client::{CallError, Client, NoReplyCause, Version};

use crate::support::{DEADLINE, FakeBroker, SLACK, call_in_thread, client_options, frames};

#[test]
fn mdp7_09_request_is_empty_frame_header_service_and_body() {
    let broker = FakeBroker::start();
    let options = client_options(Version::V01, &[&broker.endpoint]);
    let call = std::thread::spawn(move || {
        Client::connect(options).unwrap().call("echo", ["one", "", "three"])
    });

    let (peer, request) = broker.recv();

    assert_eq!(request, frames![b"", b"MDPC01", b"echo", b"one", b"", b"three"]);
    broker.send(&peer, frames![b"", b"MDPC01", b"echo", b"done"]);
    assert_eq!(call.join().unwrap().unwrap().frames, frames![b"done"]);
}

#[test]
fn mdp7_09_empty_body_is_sent_as_one_empty_frame() {
    let broker = FakeBroker::start();
    let options = client_options(Version::V01, &[&broker.endpoint]);
    let call = std::thread::spawn(move || {
        Client::connect(options).unwrap().call("echo", Vec::<Vec<u8>>::new())
    });

    let (peer, request) = broker.recv();

    assert_eq!(request, frames![b"", b"MDPC01", b"echo", b""]);
    broker.send(&peer, request);
    assert_eq!(call.join().unwrap().unwrap().frames, frames![b""]);
}

#[test]
fn mdp7_11_synchronous_client_talks_to_router() {
    // The frames of a REQ client, one request at a time on one connection.
    let broker = FakeBroker::start();
    let options = client_options(Version::V01, &[&broker.endpoint]);
    let calls = std::thread::spawn(move || {
        let mut client = Client::connect(options).unwrap();
        ["a", "b"].map(|body| client.call("echo", body).unwrap().frames)
    });

    let (first, request) = broker.recv();
    assert_eq!(request, frames![b"", b"MDPC01", b"echo", b"a"]);
    assert_eq!(broker.recv_within(Duration::from_millis(100)), None, "it waits for the reply");
    broker.send(&first, request);
    let (second, request) = broker.recv();
    assert_eq!(request, frames![b"", b"MDPC01", b"echo", b"b"]);
    broker.send(&second, request);

    assert_eq!(first, second);
    assert_eq!(calls.join().unwrap(), [frames![b"a"], frames![b"b"]]);
}

#[test]
fn mdp7_12_pipelining_client_sends_before_it_has_replies() {
    let broker = FakeBroker::start();
    let mut client = Client::connect(client_options(Version::V01, &[&broker.endpoint])).unwrap();
    let mut pipeline = client.pipeline(3).unwrap();

    let ids = ["a", "b", "c"].map(|body| pipeline.send("echo", body).unwrap());
    pipeline.try_recv().unwrap();
    let requests = [broker.recv(), broker.recv(), broker.recv()];

    // In any order, and each finds its request.
    for (peer, request) in requests.into_iter().rev() {
        broker.send(&peer, request);
    }
    let mut replies = Vec::new();
    while let Some(completion) = pipeline.recv() {
        replies.push((completion.id, completion.result.unwrap().frames));
    }
    replies.sort();
    let bodies = [frames![b"a"], frames![b"b"], frames![b"c"]];
    assert_eq!(replies, ids.into_iter().zip(bodies).collect::<Vec<_>>());
}

#[test]
fn mdp7_13_dealer_client_adds_the_empty_frame() {
    // In front of it stands the request's id, which the broker gives back.
    let broker = FakeBroker::start();
    let mut client = Client::connect(client_options(Version::V01, &[&broker.endpoint])).unwrap();
    let mut pipeline = client.pipeline(2).unwrap();

    pipeline.send("echo", "a").unwrap();
    pipeline.send("echo", "b").unwrap();
    let (first_peer, mut first) = broker.recv();
    let (second_peer, mut second) = broker.recv();

    let ids = [first.remove(0), second.remove(0)];
    assert_eq!(first, frames![b"", b"MDPC01", b"echo", b"a"]);
    assert_eq!(second, frames![b"", b"MDPC01", b"echo", b"b"]);
    assert!(ids.iter().all(|id| !id.is_empty()), "{ids:?}");
    assert_ne!(ids[0], ids[1]);
    assert_eq!(first_peer, second_peer, "one socket");
}

#[test]
fn mdp7_14_silence_is_answered_by_a_fresh_socket_and_then_given_up() {
    let broker = FakeBroker::start();
    let timeout = Duration::from_millis(200);
    let options = client_options(Version::V01, &[&broker.endpoint]).timeout(timeout).attempts(3);
    let started = Instant::now();
    let call = call_in_thread(options, "echo", "hello");

    let mut peers = Vec::new();
    for attempt in 0..3 {
        let (peer, request) = broker.recv();
        assert_eq!(request, frames![b"", b"MDPC01", b"echo", b"hello"]);
        assert!(started.elapsed() >= timeout * attempt, "attempt {attempt} came too early");
        peers.push(peer);
    }

    let error = call.join().unwrap().unwrap_err();
    let CallError::NoReply { service, attempts, elapsed, cause, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!((service.as_bytes(), attempts), (&b"echo"[..], 3));
    assert_eq!(cause, NoReplyCause::Timeout);
    assert!(elapsed >= timeout * 3 && elapsed < timeout * 3 + SLACK, "{elapsed:?}");
    peers.dedup();
    assert_eq!(peers.len(), 3, "each attempt has its own connection");
    // No attempt after the last one; but the broker is asked whether the service has a worker.
    let after: Vec<_> = broker.recv_all(timeout).into_iter().map(|(_, frames)| frames).collect();
    assert_eq!(after, [frames![b"", b"MDPC01", b"mmi.service", b"echo"]]);
}

#[test]
fn mdp7_14_old_socket_is_closed_when_a_new_one_is_used() {
    let broker = FakeBroker::start();
    let options =
        client_options(Version::V01, &[&broker.endpoint]).timeout(Duration::from_millis(700));
    let call = call_in_thread(options, "echo", "hello");

    let (old, request) = broker.recv();
    let (new, _) = broker.recv();

    // The ROUTER refuses peers that are gone; the close may need a moment to arrive.
    let end = Instant::now() + DEADLINE;
    while broker.try_send(&old, frames![b"", b"MDPC01", b"echo", b"late"]).is_ok() {
        assert!(Instant::now() < end, "the old connection is still there");
        std::thread::yield_now();
    }
    broker.send(&new, request);
    let reply = call.join().unwrap().unwrap();
    assert_eq!((reply.frames, reply.attempts), (frames![b"hello"], 2));
}

#[test]
fn mdp7_25_reply_without_its_header_is_ignored() {
    let broker = FakeBroker::start();
    let mut client = Client::connect(client_options(Version::V01, &[&broker.endpoint])).unwrap();
    let fake = std::thread::spawn(move || {
        let (peer, request) = broker.recv();
        broker.send(&peer, frames![b"", b"MDPC99", b"echo", b"wrong"]);
        broker.send(&peer, frames![b"", b"MDPW01", b"\x04"]);
        broker.send(&peer, frames![b""]);
        broker.send(&peer, frames![b"MDPC02", b"\x03", b"echo", b"wrong"]);
        broker.send(&peer, request);
        broker
    });

    let reply = client.call("echo", "right").unwrap();

    drop(fake.join().unwrap());
    assert_eq!(reply.frames, frames![b"right"]);
    assert_eq!(client.counters().replies_malformed, 4);
}
