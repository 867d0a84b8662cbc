use std::time::{Duration, Instant};

use mdp_transport::{ConnectionLimits, LARGE_FRAME_BYTES, TransportLimits};
use proptest::{collection::vec, prelude::*};

use crate::pair::{End, Frames, Pair, client_keys, curve_only, server_key, wire_frames};

/// How much longer than its frame a box is.
const OVERHEAD: usize = 33;

fn body(size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

#[test]
fn frames_of_every_size_arrive_both_ways() {
    let around = |size: usize| size.saturating_sub(1)..size + 2;
    let sizes = [0, 31, 63, 255 - OVERHEAD, 255, 1_024, 4_096, 8 * 1_024]
        .into_iter()
        .chain([LARGE_FRAME_BYTES - OVERHEAD, LARGE_FRAME_BYTES, 32 * 1_024])
        .chain([64 * 1_024 - OVERHEAD, 64 * 1_024])
        .flat_map(around);
    let mut pair = Pair::open();
    for size in sizes {
        let message: Frames = vec![body(size), vec![], body(size / 2)];
        pair.client.send(&message);
        pair.server.send(&message);
        pair.exchange();
        assert_eq!(pair.server.messages.pop(), Some(message.clone()), "{size}");
        assert_eq!(pair.client.messages.pop(), Some(message), "{size}");
    }
    assert_eq!((pair.client.ended(), pair.server.ended()), (None, None));
}

#[test]
fn large_frames_are_the_same_wherever_they_are_cut() {
    for pieces in [vec![1_000], vec![31, 64, 1], vec![65_536], vec![16_384, 33, 7]] {
        let mut pair = Pair::open();
        pair.pieces = pieces;
        let message: Frames = vec![body(300_000), body(3), body(16_400), body(100_001)];
        pair.client.send(&message);
        pair.client.send(&message);
        pair.exchange();
        assert_eq!(pair.server.messages, [message.clone(), message]);
        assert_eq!(pair.server.port.totals().incoming_bytes, 0);
    }
}

#[test]
fn boxes_travel_as_frames_without_a_flag_and_nothing_shines_through() {
    let mut pair = Pair::open();
    pair.client.send(&[b"first".to_vec(), b"second".to_vec()]);
    let frames = wire_frames(&pair.intercept());
    let sizes: Vec<_> = frames.iter().map(|frame| (frame[0], usize::from(frame[1]))).collect();
    assert_eq!(sizes, [(0, OVERHEAD + 5), (0, OVERHEAD + 6)]);
    for (number, frame) in (3_u64..).zip(&frames) {
        assert_eq!(&frame[2..10], b"\x07MESSAGE");
        assert_eq!(frame[10..18], number.to_be_bytes(), "after HELLO and INITIATE");
        assert!(!frame.windows(5).any(|part| part == b"first" || part == b"secon"));
    }
}

#[test]
fn signs_of_life_are_in_boxes() {
    let mut pair = Pair::open();
    let handshake = pair.passed[1].len();
    for _ in 0..12 {
        pair.pass(Duration::from_millis(500));
        pair.exchange();
    }
    let sizes: Vec<_> = wire_frames(&pair.passed[1][handshake..])
        .iter()
        .map(|frame| (frame[0], frame.len()))
        .collect();
    // A PING and a PONG.
    assert!(sizes.contains(&(0, 2 + OVERHEAD + 7)), "{sizes:?}");
    assert!(sizes.contains(&(0, 2 + OVERHEAD + 5)), "{sizes:?}");
    assert_eq!((pair.client.ended(), pair.server.ended()), (None, None));
}

fn limited(limits: ConnectionLimits) -> Pair {
    let now = Instant::now();
    let limits = TransportLimits { connection: limits, ..TransportLimits::default() };
    let server = End::accepting_with(now, 10, curve_only(), limits);
    let client = End::dialling(now, 20, &client_keys(server_key()));
    let mut pair = Pair::of(now, client, server);
    pair.exchange();
    assert!(pair.client.is_open());
    pair
}

#[test]
fn limits_count_what_is_in_the_boxes() {
    for max in [100, 10_000, 100_000] {
        let limits = ConnectionLimits { message_bytes_max: max, ..ConnectionLimits::default() };
        let mut pair = limited(limits);
        pair.client.send(&[body(max / 2), body(max - max / 2)]);
        pair.client.send(&[body(max)]);
        pair.exchange();
        assert_eq!((pair.server.messages.len(), pair.server.ended()), (2, None));
        pair.client.send(&[body(max / 2), body(max - max / 2 + 1)]);
        pair.exchange();
        assert_eq!(pair.server.ended(), Some("message_too_large"), "{max}");
    }
    let limits = ConnectionLimits { message_frames_max: 3, ..ConnectionLimits::default() };
    let mut pair = limited(limits);
    pair.client.send(&[vec![], vec![], vec![]]);
    pair.client.send(&[vec![], vec![], vec![], vec![]]);
    pair.exchange();
    assert_eq!(pair.server.messages.len(), 1);
    assert_eq!(pair.server.ended(), Some("too_many_frames"));
}

#[test]
fn large_frame_beyond_the_limit_is_refused_when_its_size_is_said() {
    let limits = ConnectionLimits { message_bytes_max: 10_000, ..ConnectionLimits::default() };
    let mut pair = limited(limits);
    pair.client.send(&[body(10_001)]);
    let bytes = pair.intercept();
    pair.server.receive(pair.now, &bytes[..9]);
    assert_eq!(pair.server.ended(), Some("message_too_large"));
}

proptest! {
    #[test]
    fn any_cut_of_the_stream_gives_the_same_messages(
        messages in vec(vec(prop_oneof![0..40_usize, 200..300_usize, 16_000..17_000_usize], 1..5), 1..6),
        pieces in vec(1..20_000_usize, 1..6),
    ) {
        let mut pair = Pair::open();
        pair.pieces = pieces;
        let messages: Vec<Frames> = messages
            .into_iter()
            .map(|sizes| sizes.into_iter().map(body).collect())
            .collect();
        for message in &messages {
            pair.client.send(message);
            pair.server.send(message);
        }
        pair.exchange();
        prop_assert_eq!(&pair.server.messages, &messages);
        prop_assert_eq!(&pair.client.messages, &messages);
        let totals = pair.server.port.totals();
        prop_assert_eq!((totals.incoming_bytes, totals.outgoing_bytes), (0, 0));
    }
}
