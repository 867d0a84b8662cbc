//! Peers that only come and go, or only come.

use std::time::{Duration, Instant};

use cluster_tests::{
    NodeProcess, PATIENCE, QUIET, RawClient, RawSocket, RawTcp, RawWorker, Version, frames,
    zmtp_frame,
};

use crate::assert_serves;

#[test]
fn connections_without_a_handshake_are_closed() {
    let mut node = NodeProcess::start(&[QUIET]);
    let mut silent: Vec<_> = (0..200).map(|_| RawTcp::connect(&node)).collect();

    assert_serves(&mut node);

    for tcp in &mut silent {
        assert!(tcp.is_closed_within(PATIENCE), "a silent connection stays open");
    }
}

#[test]
fn half_closed_connections_are_closed() {
    let mut node = NodeProcess::start(&[QUIET]);
    let mut half: Vec<_> = (0..50).map(|_| RawTcp::dealer(&node)).collect();
    half.iter_mut().for_each(RawTcp::half_close);

    assert_serves(&mut node);

    for tcp in &mut half {
        assert!(tcp.is_closed_within(PATIENCE), "a half-closed connection stays open");
    }
}

#[test]
fn message_that_never_ends_holds_up_nobody() {
    let mut node = NodeProcess::start(&[QUIET]);
    let mut stuck: Vec<_> = (0..50).map(|_| RawTcp::dealer(&node)).collect();
    for tcp in &mut stuck {
        // A frame that says more will follow, then the head of one of 1 MiB, then nothing.
        assert!(tcp.send(&zmtp_frame(b"", true)));
        assert!(tcp.send(&[2, 0, 0, 0, 0, 0, 0x10, 0, 0]));
    }

    assert_serves(&mut node);
}

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    let mut node = NodeProcess::start(&[QUIET]);
    assert_serves(&mut node);
    let (files, rss) = (open_files(&node), node.rss_bytes());

    for round in 0..1_000 {
        let mut tcp = RawTcp::dealer(&node);
        if round % 2 == 0 {
            assert!(tcp.send(&zmtp_frame(b"MDPW02", true)));
            assert!(tcp.send(&zmtp_frame(b"\x01", true)));
            assert!(tcp.send(&zmtp_frame(format!("service-{round}").as_bytes(), false)));
        }
    }

    let client = RawClient::connect(&node, Version::V01);
    let deadline = Instant::now() + PATIENCE;
    while open_files(&node) > files + 5 {
        assert!(Instant::now() < deadline, "{} files, {files} before", open_files(&node));
        client.socket.expect_silence(Duration::from_millis(20));
    }
    assert_serves(&mut node);
    let grown = node.rss_bytes().saturating_sub(rss);
    assert!(grown < 20 << 20, "grown by {grown} bytes");
}

#[test]
fn vanished_worker_is_noticed_and_its_request_goes_to_another() {
    // Silence alone ends nobody here.
    let settings = [("broker.heartbeat_interval", "500ms"), ("broker.heartbeat_liveness", "1000")];
    let mut node = NodeProcess::start(&settings);
    let client = RawClient::connect(&node, Version::V02);
    let mut vanishing = RawTcp::dealer(&node);
    let ready = [(&b"MDPW02"[..], true), (b"\x01", true), (b"echo", false)];
    assert!(vanishing.send(&ready.map(|(body, more)| zmtp_frame(body, more)).concat()));
    client.wait_for_lookup("echo", "200");
    client.request("echo", "hello");
    vanishing.read_until(b"hello");
    vanishing.vanish();

    let worker = RawWorker::register(&node, Version::V02, "echo");

    let address = worker.expect_work_after_heartbeats("hello");
    worker.answer(&address, "world");
    client.expect_reply("echo", "world");
    assert_serves(&mut node);
}

#[test]
fn flood_that_breaks_off_unread_does_no_harm() {
    let mut node = NodeProcess::start(&[QUIET]);
    let request = [(&b""[..], true), (b"MDPC01", true), (b"nobody", true), (&[b'x'; 200], false)];
    let request = request.map(|(body, more)| zmtp_frame(body, more)).concat().repeat(200);
    for _ in 0..40 {
        let mut flood: Vec<RawTcp> = (0..5).map(|_| RawTcp::dealer(&node)).collect();
        for tcp in &mut flood {
            assert!(tcp.send(&request));
            tcp.reset_when_closed();
        }
    }
    assert_serves(&mut node);
}

#[test]
fn sockets_of_other_kinds_do_no_harm() {
    let mut node = NodeProcess::start(&[QUIET]);
    let context = zmq::Context::new();
    for kind in [zmq::ROUTER, zmq::PUSH, zmq::PUB, zmq::SUB, zmq::PAIR, zmq::REP] {
        let _socket = RawSocket::connect(&node, &context, kind, |_| Ok(()));
    }
    // ROUTER and DEALER may talk; a ROUTER that knows nobody sends to nobody.
    let probing =
        RawSocket::connect(&node, &context, zmq::DEALER, |socket| socket.set_probe_router(true));
    probing.send(&frames![b"", b"MDPC01", b"mmi.echo", b"x"]);
    probing.expect(&frames![b"", b"MDPC01", b"mmi.echo", b"x"]);

    assert_serves(&mut node);
}

fn open_files(node: &NodeProcess) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().count()
}
