//! Peers that read slowly or never.

use std::time::Duration;

use cluster_tests::{NodeProcess, QUIET, RawClient, RawSocket, RawWorker, Version};

use crate::{assert_serves, wait_for_count};

use Version::V01;

/// How long nothing comes when nothing more will.
const QUIET_PATIENCE: Duration = Duration::from_millis(500);

/// A client whose connection takes in almost nothing until the client reads.
fn narrow_client(node: &NodeProcess) -> RawSocket {
    RawSocket::connect(node, &zmq::Context::new(), zmq::DEALER, |socket| {
        socket.set_rcvhwm(1)?;
        socket.set_rcvbuf(4_096)
    })
}

#[test]
fn client_that_reads_slowly_gets_everything_in_order() {
    const REQUESTS: u32 = 500;
    let mut node = NodeProcess::start(&[QUIET, ("broker.max_outgoing_bytes_per_peer", "64MiB")]);
    let worker = RawWorker::register(&node, V01, "big");
    let client = narrow_client(&node);
    let padding = vec![b'x'; 64 << 10];

    for number in 0..REQUESTS {
        client.send(&V01.request("big", &[&number.to_be_bytes()]));
    }
    for number in 0..REQUESTS {
        let address = worker.expect_work(number.to_be_bytes());
        worker.socket.send(&V01.answer(&address, &[&number.to_be_bytes(), &padding]));
    }
    worker.settle();
    assert_serves(&mut node);

    for number in 0..REQUESTS {
        client.expect(&V01.reply("big", &[&number.to_be_bytes(), &padding]));
    }
}

#[test]
fn client_that_never_reads_costs_its_own_limit_only() {
    const REQUESTS: u32 = 500;
    let mut node = NodeProcess::start(&[QUIET, ("broker.max_outgoing_bytes_per_peer", "4MiB")]);
    let worker = RawWorker::register(&node, V01, "big");
    let deaf = narrow_client(&node);
    let padding = vec![b'x'; 64 << 10];

    // 32 MiB of replies that nobody takes. What still waits when the client is given up is dropped.
    for number in 0..REQUESTS {
        deaf.send(&V01.request("big", &[&number.to_be_bytes()]));
    }
    let mut number = 0_u32;
    while let Some(work) = worker.socket.recv_within(QUIET_PATIENCE) {
        assert_eq!(work[5], number.to_be_bytes());
        worker.socket.send(&V01.answer(&work[3], &[&padding]));
        number += 1;
    }

    assert!((64..REQUESTS).contains(&number), "{number} were answered");
    wait_for_count(&node, "overflow", 1);
    worker.settle();
    assert_serves(&mut node);
    let rss = node.peak_rss_bytes();
    assert!(rss < 50 << 20, "the node had {rss} bytes");
}

#[test]
fn worker_that_never_reads_does_not_keep_the_others_from_work() {
    let mut node = NodeProcess::start(&[QUIET]);
    let deaf = narrow_client(&node);
    deaf.send(&V01.ready("echo"));
    let client = RawClient::connect(&node, V01);
    client.wait_for_lookup("echo", "200");
    let body = vec![b'x'; 1 << 20];
    client.request("echo", &body);
    client.settle();

    let worker = RawWorker::register(&node, V01, "echo");
    for _ in 0..10 {
        client.request("echo", "hello");
        worker.serve("hello", "world");
        client.expect_reply("echo", "world");
    }

    worker.socket.expect_silence(Duration::from_millis(1));
    assert_serves(&mut node);
}
