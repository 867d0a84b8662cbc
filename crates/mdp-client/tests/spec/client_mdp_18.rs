//! 18/MDP, what binds clients.

use std::time::Duration;

use mdp_client::{CallError, Client, NoReplyCause, Version};

use crate::support::{FakeBroker, call_in_thread, client_options, frames};

fn final_reply(body: &str) -> Vec<Vec<u8>> {
    frames![b"MDPC02", b"\x03", b"echo", body]
}

fn partial_reply(body: &str) -> Vec<Vec<u8>> {
    frames![b"MDPC02", b"\x02", b"echo", body]
}

#[test]
fn mdp18_01_request_is_header_command_service_and_body() {
    let broker = FakeBroker::start();
    let options = client_options(Version::V02, &[&broker.endpoint]);
    let call =
        std::thread::spawn(move || Client::connect(options).unwrap().call("echo", ["one", "two"]));

    let (peer, request) = broker.recv();

    assert_eq!(request, frames![b"MDPC02", b"\x01", b"echo", b"one", b"two"]);
    broker.send(&peer, final_reply("done"));
    assert_eq!(call.join().unwrap().unwrap().frames, frames![b"done"]);
}

#[test]
fn mdp18_04_client_uses_a_dealer() {
    // A REQ could neither send without an empty frame nor receive twice for one request.
    let broker = FakeBroker::start();
    let options = client_options(Version::V02, &[&broker.endpoint]);
    let calls = std::thread::spawn(move || {
        let mut client = Client::connect(options).unwrap();
        ["a", "b"].map(|body| client.call("echo", body).unwrap().frames)
    });

    for body in ["a", "b"] {
        let (peer, request) = broker.recv();
        assert_eq!(request, frames![b"MDPC02", b"\x01", b"echo", body]);
        broker.send(&peer, partial_reply("part"));
        broker.send(&peer, final_reply(body));
    }

    assert_eq!(calls.join().unwrap(), [frames![b"part", b"a"], frames![b"part", b"b"]]);
}

#[test]
fn mdp18_05_any_number_of_partials_is_accepted() {
    for count in [0, 1, 100] {
        let broker = FakeBroker::start();
        let options = client_options(Version::V02, &[&broker.endpoint]);
        let call = std::thread::spawn(move || {
            let mut parts = Vec::new();
            let mut client = Client::connect(options).unwrap();
            let last = client.call_with("echo", "x", |part| parts.push(part)).unwrap();
            (parts, last.frames)
        });

        let (peer, _) = broker.recv();
        let expected: Vec<_> = (0..count).map(|part| frames![&part.to_string()]).collect();
        for part in 0..count {
            broker.send(&peer, partial_reply(&part.to_string()));
        }
        broker.send(&peer, final_reply("end"));

        assert_eq!(call.join().unwrap(), (expected, frames![b"end"]));
    }
}

#[test]
fn mdp18_05_partials_keep_a_request_alive() {
    let broker = FakeBroker::start();
    let timeout = Duration::from_millis(1_500);
    let options = client_options(Version::V02, &[&broker.endpoint]).timeout(timeout).attempts(1);
    let call = call_in_thread(options, "echo", "x");

    let (peer, _) = broker.recv();
    for _ in 0..6 {
        assert_eq!(broker.recv_within(timeout / 5), None);
        broker.send(&peer, partial_reply("p"));
    }
    broker.send(&peer, final_reply("end"));

    let reply = call.join().unwrap().unwrap();
    assert_eq!(reply.frames.len(), 7);
    assert!(reply.elapsed > timeout, "{:?}", reply.elapsed);
}

#[test]
fn mdp18_13_reply_that_breaks_off_is_an_error_and_not_asked_for_again() {
    let broker = FakeBroker::start();
    let options =
        client_options(Version::V02, &[&broker.endpoint]).timeout(Duration::from_millis(700));
    let call = call_in_thread(options, "echo", "x");

    let (peer, _) = broker.recv();
    broker.send(&peer, partial_reply("p"));

    let error = call.join().unwrap().unwrap_err();
    let CallError::Interrupted { partials, cause, .. } = error else { panic!("{error:?}") };
    assert_eq!((partials, cause), (1, NoReplyCause::Timeout));
    assert_eq!(broker.recv_within(Duration::from_millis(300)), None);
}

#[test]
fn pipelined_requests_have_a_socket_each() {
    let broker = FakeBroker::start();
    let mut client = Client::connect(client_options(Version::V02, &[&broker.endpoint])).unwrap();
    let mut pipeline = client.pipeline(2).unwrap();

    let ids = ["a", "b"].map(|body| pipeline.send("echo", body).unwrap());
    let [first, second] = [broker.recv(), broker.recv()];
    assert_ne!(first.0, second.0);
    for (peer, mut frames) in [second, first] {
        let body = frames.pop().unwrap();
        broker.send(&peer, final_reply(&String::from_utf8(body).unwrap()));
    }

    let mut replies = Vec::new();
    while let Some(completion) = pipeline.recv() {
        replies.push((completion.id, completion.result.unwrap().frames));
    }
    replies.sort();
    assert_eq!(replies, [(ids[0], frames![b"a"]), (ids[1], frames![b"b"])]);
}
