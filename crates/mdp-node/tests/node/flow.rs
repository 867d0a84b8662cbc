//! Back-pressure is not loss, and slow readers disturb nobody.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::peers::{Cell, config, echo, echo_until_stop, next_reply, request};

#[test]
fn hundred_thousand_requests_sent_before_reading_are_all_answered_in_order() {
    const REQUESTS: usize = 100_000;
    let cell = Cell::new();
    let (worker, client) = (cell.worker("echo"), cell.dealer());
    client.set_sndhwm(0).unwrap();
    let worker = thread::spawn(move || echo(&worker, REQUESTS));

    for number in 0..REQUESTS {
        request(&client, "echo", &number.to_le_bytes());
    }
    for number in 0..REQUESTS {
        assert_eq!(next_reply(&client), number.to_le_bytes(), "{number}");
    }
    worker.join().unwrap();
}

#[test]
fn replies_wait_for_a_client_that_pauses() {
    const REQUESTS: usize = 200;
    let cell = Cell::new();
    let (worker, client) = (cell.worker("echo"), cell.dealer_that_buffers(1));
    // Together more than the buffers of both kernels hold, less than the bound for one peer.
    let body = |number: usize| vec![u8::try_from(number).unwrap(); 100_000];
    for number in 0..REQUESTS {
        request(&client, "echo", &body(number));
    }
    echo(&worker, REQUESTS);
    assert!(cell.page("mmi.status")["gauges"]["outgoing_messages"].as_u64() > Some(10));

    for number in 0..REQUESTS {
        assert!(next_reply(&client) == body(number), "{number}");
    }
    assert_eq!(cell.page("mmi.status")["gauges"]["outgoing_messages"], 0);
}

#[test]
fn client_that_never_reads_disturbs_nobody_and_is_given_up() {
    let mut config = config();
    config.max_outgoing_bytes_per_peer = 1 << 20;
    let cell = Cell::with(config);
    let (worker, client) = (cell.worker("echo"), cell.dealer());
    let deaf = cell.dealer_that_buffers(1);
    let worker = thread::spawn(move || echo_until_stop(&worker));
    for _ in 0..500 {
        request(&deaf, "echo", &[7; 64 * 1024]);
    }

    let mut slowest = Duration::ZERO;
    for _ in 0..500 {
        let asked = Instant::now();
        request(&client, "echo", b"hello");
        assert_eq!(next_reply(&client), b"hello");
        slowest = slowest.max(asked.elapsed());
    }
    request(&client, "echo", b"stop");
    worker.join().unwrap();

    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    let status = cell.page("mmi.status");
    assert!(status["counters"]["overflowed_peers"].as_u64() > Some(0), "{status}");
    assert!(status["counters"]["dropped"]["peer_not_reading"].as_u64() > Some(0), "{status}");
}
