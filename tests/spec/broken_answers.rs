//! AM-21: a worker that answers has executed its request, whatever its answer lacks.

use cluster_tests::{NodeProcess, QUIET, RawClient, RawWorker, Version, frames};

use Version::{V01, V02};

/// What follows the address in a reply, and the body that the client gets.
type Frames<'a> = &'a [&'a [u8]];

#[test]
fn am_21_reply_of_0_1_is_taken_as_meant_whatever_it_lacks_behind_the_address() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::register(&node, V01, "echo");
    let client = RawClient::connect(&node, V01);
    let cases: [(Frames<'_>, Frames<'_>); 5] = [
        (&[b"world"], &[b"world"]),
        (&[b"not empty", b"world"], &[b"not empty", b"world"]),
        (&[b"a", b"", b"b"], &[b"a", b"", b"b"]),
        (&[b""], &[b""]),
        (&[], &[b""]),
    ];
    for (rest, body) in cases {
        client.request("echo", "hello");
        let address = worker.expect_work("hello");

        let head: [&[u8]; 4] = [b"", b"MDPW01", b"\x03", &address];
        let reply: Vec<Vec<u8>> = head.iter().chain(rest).map(|frame| frame.to_vec()).collect();
        worker.socket.send(&reply);

        client.socket.expect(&V01.reply("echo", body));
    }
    // Another address than the one it holds is still refused, with or without the empty frame.
    client.request("echo", "hello");
    let _address = worker.expect_work("hello");
    worker.socket.send(&frames![b"", b"MDPW01", b"\x03", [7; 16], b"world"]);
    worker.expect_disconnect();
}

#[test]
fn am_21_request_that_its_worker_answered_is_not_given_to_another() {
    let node = NodeProcess::start(&[QUIET, ("broker.max_message_bytes", "1MiB")]);
    let half = vec![b'x'; 600 << 10];
    let many = vec![b"x".as_slice(); 1_024];
    let broken = |version: Version, address: &[u8]| match version {
        V01 => vec![V01.answer(address, &[&half, &half]), V01.answer(address, &many)],
        V02 => vec![
            V02.answer(address, &[&half, &half]),
            V02.answer(address, &many),
            frames![b"MDPW02", b"\x04", address, b"not empty", b"world"],
            frames![b"MDPW02", b"\x04", address, b""],
            frames![b"MDPW02", b"\x04", address],
            frames![b"MDPW02", b"\x03", address, b"a part"],
        ],
    };
    for version in Version::BOTH {
        for index in 0..broken(version, b"").len() {
            let bad = RawWorker::register(&node, version, "echo");
            let client = RawClient::connect(&node, version);
            client.request("echo", "hello");
            let address = bad.expect_work("hello");

            bad.socket.send(&broken(version, &address)[index]);

            // Beyond the limits the connection itself ends, and nobody is known on the next one.
            if index >= 2 {
                bad.expect_disconnect();
            }
            client.wait_for_lookup("echo", "404");
            let other = RawWorker::register(&node, version, "echo");
            other.settle();
            client.settle();
            other.disconnect();
            other.settle();
        }
    }
}
