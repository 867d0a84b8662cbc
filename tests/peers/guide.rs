//! Workers of the ZeroMQ Guide that differ from 7/MDP, or that take the client address for a text. Their frames are
//! written here as they write them.

use cluster_tests::{NodeProcess, QUIET, RawSocket, ReqClient, frames};

/// Requests to each worker.
const REQUESTS: usize = 1_000;

/// What a worker makes of the client address and the body of a request: the frames of its reply.
type WriteReply = fn(&[u8], &[u8]) -> Vec<Vec<u8>>;

/// The PHP worker: `$reply->wrap($this->reply_to)` puts no empty frame behind the address.
fn reply_of_php(address: &[u8], body: &[u8]) -> Vec<Vec<u8>> {
    frames![b"", b"MDPW01", b"\x03", address, body]
}

/// The C++ worker: `wrap(reply_to.c_str(), "")` ends the address at its first zero byte.
fn reply_of_cpp(address: &[u8], body: &[u8]) -> Vec<Vec<u8>> {
    let text = address.split(|byte| *byte == 0).next().unwrap_or_default();
    frames![b"", b"MDPW01", b"\x03", text, b"", body]
}

/// A REQ client, as the Guide's is, sends its requests one after the other to one worker, which may see
/// each of them once.
fn serve_a_thousand(node: &NodeProcess, service: &str, identity: &[u8], write_reply: WriteReply) {
    let context = zmq::Context::new();
    let worker = RawSocket::connect(node, &context, zmq::DEALER, |socket| {
        if identity.is_empty() { Ok(()) } else { socket.set_identity(identity) }
    });
    worker.send(&frames![b"", b"MDPW01", b"\x01", service]);
    let heartbeat = frames![b"", b"MDPW01", b"\x04"];
    worker.expect(&heartbeat);
    let client = ReqClient::connect(node);
    for number in 0..REQUESTS {
        let body = format!("request {number}");
        client.request(service, &body);
        let request = std::iter::repeat_with(|| worker.recv()).find(|got| *got != heartbeat);
        let request = request.unwrap();
        let address = request[3].clone();
        assert_eq!(request, frames![b"", b"MDPW01", b"\x02", address, b"", body]);
        worker.send(&write_reply(&address, body.as_bytes()));
        client.expect_reply(service, &body);
    }
    // Nothing was given out twice, and the worker is still registered: no DISCONNECT came.
    worker.send(&frames![b"", b"MDPC01", b"mmi.service", service]);
    let answer = std::iter::repeat_with(|| worker.recv()).find(|got| *got != heartbeat);
    assert_eq!(answer, Some(frames![b"", b"MDPC01", b"mmi.service", b"200"]));
}

#[test]
fn php_worker_answers_a_thousand_of_a_thousand_requests_each_once() {
    let node = NodeProcess::start(&[QUIET]);

    serve_a_thousand(&node, "echo", b"", reply_of_php);

    let notes = node.log().iter().filter(|line| line.contains("lack the empty frame")).count();
    assert_eq!(notes, 1, "one line for the registration, not one for each reply");
}

#[test]
fn cpp_worker_answers_a_thousand_of_a_thousand_requests_each_once() {
    let node = NodeProcess::start(&[QUIET]);

    serve_a_thousand(&node, "echo", b"E961-3292", reply_of_cpp);
}

/// The same worker behind another node: what it lacks must not be seen in the reply to the client.
#[test]
fn php_worker_serves_clients_of_both_versions_and_bodies_of_many_frames() {
    use cluster_tests::{RawClient, RawWorker, Version};
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, Version::V01, "echo");
    for version in Version::BOTH {
        let client = RawClient::connect(&node, version);
        client.request("echo", "hello");
        let address = worker.expect_work("hello");

        worker.socket.send(&frames![b"", b"MDPW01", b"\x03", address, b"two", b"", b"three"]);

        client.socket.expect(&version.reply("echo", &[b"two", b"", b"three"]));
    }
}
