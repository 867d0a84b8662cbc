//! A network between both that records and alters: one test for each attack.

use std::time::Instant;

use mdp_transport::TransportEvent;

use crate::pair::{
    End, GREETING_BYTES, KNOWN, Pair, client_keys, mixed, secret, server_key, wire_frames,
};

/// A pair with two messages of the client on the wire, as frames: two each.
fn with_messages() -> (Pair, Vec<Vec<u8>>) {
    let mut pair = Pair::open();
    pair.client.send(&[b"one".to_vec(), b"two".to_vec()]);
    pair.client.send(&[b"three".to_vec(), b"four".to_vec()]);
    let frames = wire_frames(&pair.intercept());
    assert_eq!(frames.len(), 4);
    (pair, frames)
}

/// The server gets these frames; how many messages it took and why it ended.
fn give(pair: &mut Pair, frames: &[&[u8]]) -> (usize, Option<&'static str>) {
    for frame in frames {
        pair.server.receive(pair.now, frame);
    }
    (pair.server.messages.len(), pair.server.ended())
}

#[test]
fn replayed_frame_ends_the_connection() {
    let (mut pair, f) = with_messages();
    assert_eq!(give(&mut pair, &[&f[0], &f[1], &f[0]]), (1, Some("curve_nonce")));
    let (mut pair, f) = with_messages();
    assert_eq!(give(&mut pair, &[&f[0], &f[0]]), (0, Some("curve_nonce")));
}

#[test]
fn frame_that_is_left_out_ends_the_connection() {
    // Without the last frame of one message and the first of the next, a third message came out.
    let (mut pair, f) = with_messages();
    assert_eq!(give(&mut pair, &[&f[0], &f[3]]), (0, Some("curve_nonce")));
    let (mut pair, f) = with_messages();
    assert_eq!(give(&mut pair, &[&f[1]]), (0, Some("curve_nonce")));
    let (mut pair, f) = with_messages();
    assert_eq!(give(&mut pair, &[&f[2], &f[3]]), (0, Some("curve_nonce")));
}

#[test]
fn frames_that_change_places_end_the_connection() {
    let (mut pair, f) = with_messages();
    assert_eq!(give(&mut pair, &[&f[2], &f[3], &f[0], &f[1]]), (0, Some("curve_nonce")));
}

#[test]
fn frame_under_another_number_ends_the_connection() {
    let (mut pair, f) = with_messages();
    let mut moved = f[1].clone();
    moved[10..18].copy_from_slice(&3_u64.to_be_bytes());
    assert_eq!(give(&mut pair, &[&moved]), (0, Some("curve_message")));
}

#[test]
fn no_altered_bit_lets_a_message_through() {
    let (_, f) = with_messages();
    for at in 0..f[0].len() {
        // The lowest bit outside the box has no meaning: the flags inside say whether more frames follow.
        for bit in usize::from(at == 0)..8 {
            let (mut pair, f) = with_messages();
            let mut altered = f[0].clone();
            altered[at] ^= 1 << bit;
            let rest = [f[1].as_slice(), &f[2], &f[3]].concat();
            let (count, ended) = give(&mut pair, &[&altered, &rest]);
            assert_eq!(count, 0, "{at} {bit}");
            // A larger size makes it wait for more; nothing comes out in any case.
            assert!(ended.is_some() || at == 1 || at == 0, "{at} {bit}");
        }
    }
}

#[test]
fn large_frame_is_checked_as_small_ones_are() {
    let (mut pair, _) = with_messages();
    pair.client.send(&[vec![7; 100_000]]);
    let large = wire_frames(&pair.intercept()).pop().unwrap();
    for at in [9, 20, 30, 41, 42, 99_000, large.len() - 1] {
        let (mut pair, f) = with_messages();
        let mut altered = large.clone();
        altered[at] ^= 1;
        let (count, ended) = give(&mut pair, &[&f[0], &f[1], &f[2], &f[3], &altered]);
        assert_eq!(count, 2);
        assert!(ended.is_some_and(|label| label.starts_with("curve_")), "{at} {ended:?}");
        // And when it comes in pieces, of which each is decrypted at once.
        let (mut pair, f) = with_messages();
        give(&mut pair, &[&f[0], &f[1], &f[2], &f[3]]);
        for piece in altered.chunks(3_000) {
            if pair.server.ended().is_none() {
                pair.server.receive(pair.now, piece);
            }
        }
        assert_eq!((pair.server.messages.len(), pair.server.ended()), (2, ended));
        assert_eq!(pair.server.port.totals().incoming_bytes, 0);
    }
}

#[test]
fn large_frame_under_another_number_is_refused_when_its_beginning_has_come() {
    let (mut pair, f) = with_messages();
    pair.client.send(&[vec![7; 100_000]]);
    let large = wire_frames(&pair.intercept()).pop().unwrap();
    assert_eq!(give(&mut pair, &[&f[0], &large[..9 + 31]]), (0, None));
    assert_eq!(give(&mut pair, &[&large[9 + 31..9 + 32]]), (0, Some("curve_nonce")));
}

#[test]
fn own_frames_that_come_back_end_the_connection() {
    // Reflection: numbers fit, keys do not.
    let mut pair = Pair::open();
    pair.client.send(&[b"a".to_vec()]);
    pair.client.send(&[b"b".to_vec()]);
    let frames = wire_frames(&pair.intercept());
    let mut reflected = frames[0].clone();
    reflected[10..18].copy_from_slice(&2_u64.to_be_bytes());
    pair.client.receive(pair.now, &reflected);
    assert_eq!(pair.client.ended(), Some("curve_message"));
    assert!(pair.client.messages.is_empty());

    // And the commands of the handshake.
    let mut pair = Pair::new();
    let greeting = pair.intercept();
    pair.client.receive(pair.now, &greeting);
    let hello = pair.intercept();
    pair.client.receive(pair.now, &hello);
    assert_eq!(pair.client.ended(), Some("curve_command"));
}

#[test]
fn frames_of_another_connection_end_this_one() {
    // Splice: the same peers, the same numbers.
    let (_, f) = with_messages();
    let now = Instant::now();
    let server = End::accepting(now, 10, mixed());
    let client = End::dialling(now, 21, &client_keys(server_key()));
    let mut pair = Pair::of(now, client, server);
    pair.exchange();
    assert_eq!(give(&mut pair, &[&f[0]]), (0, Some("curve_message")));
}

#[test]
fn recorded_session_can_not_be_played_once_more() {
    let mut pair = Pair::open();
    pair.client.send(&[b"pay".to_vec()]);
    pair.exchange();
    let recorded = pair.passed[0].clone();
    assert_eq!(pair.server.messages.len(), 1);
    // On another connection of the same port, while its cookie key is the same.
    pair.server.accept_another(pair.now);
    pair.server.events.clear();
    let initiate_at = GREETING_BYTES + 202;
    pair.server.receive(pair.now, &recorded[..initiate_at]);
    pair.server.receive(pair.now, &recorded[initiate_at..initiate_at + 301]);
    pair.server.answer(pair.now, Some(KNOWN));
    assert_eq!(pair.server.ended(), Some("curve_cookie"));
    assert!(!pair.server.is_open());
    assert_eq!(pair.server.messages.len(), 1);
}

#[test]
fn cut_connection_gives_no_part_of_a_message() {
    // Truncation.
    for cut in 0..40 {
        let (mut pair, f) = with_messages();
        let bytes = f.concat();
        pair.server.receive(pair.now, &bytes[..cut]);
        pair.server.port.closed(pair.server.id);
        pair.server.take_events();
        assert!(pair.server.messages.is_empty());
        assert_eq!(pair.server.ended(), Some("closed"));
    }
}

#[test]
fn server_with_another_key_is_shown_no_key_of_the_client() {
    // The network leads the client to a server of its own.
    let now = Instant::now();
    let curve = Some(mdp_transport::ServerKeys::new(secret(9), None));
    let server = End::accepting(now, 10, mdp_transport::Mechanisms { null: false, curve });
    let client = End::dialling(now, 20, &client_keys(server_key()));
    let mut pair = Pair::of(now, client, server);
    pair.exchange();
    assert!(!pair.client.is_open() && !pair.server.is_open());
    let asked = |event: &TransportEvent<u32>| matches!(event, TransportEvent::Authenticate { .. });
    assert!(!pair.server.events.iter().any(asked), "the client's key stays unknown");
    assert_eq!(pair.passed[0].len(), GREETING_BYTES + 202, "nothing leaves but a HELLO");
}

#[test]
fn welcome_for_another_hello_or_altered_is_refused() {
    // Of the same server, with the same seed, for a client with another one or the same.
    let welcome = |seed: u8| {
        let now = Instant::now();
        let server = End::accepting(now, 10, mixed());
        let client = End::dialling(now, seed, &client_keys(server_key()));
        let mut pair = Pair::of(now, client, server);
        pair.exchange();
        wire_frames(&pair.passed[1][GREETING_BYTES..]).remove(0)
    };
    let mut altered = welcome(20);
    altered[40] ^= 1;
    for (welcome, ended) in [
        (welcome(20), None),
        (welcome(21), Some("curve_welcome")),
        (altered, Some("curve_welcome")),
    ] {
        let mut pair = Pair::new();
        let greeting = pair.intercept();
        pair.server.receive(pair.now, &greeting);
        let answer = pair.server.written(pair.now);
        pair.client.receive(pair.now, &answer);
        let _hello = pair.intercept();
        pair.client.receive(pair.now, &welcome);
        assert_eq!(pair.client.ended(), ended);
    }
}

#[test]
fn downgrade_ends_the_connection_of_the_client() {
    // The network says NULL for the client, to a server that allows both.
    let now = Instant::now();
    let server = End::accepting(now, 10, mixed());
    let client = End::dialling(now, 20, &client_keys(server_key()));
    let mut pair = Pair::of(now, client, server);
    let mut greeting = pair.intercept();
    greeting[12..17].copy_from_slice(b"NULL\0");
    pair.server.receive(now, &greeting);
    let answer = pair.server.written(now);
    pair.client.receive(now, &answer);
    assert_eq!(pair.client.ended(), Some("mechanism"));
    assert!(pair.intercept().is_empty(), "the client says nothing in clear text");
}

#[test]
fn altered_commands_of_the_handshake_end_it() {
    let whole = Pair::open().passed;
    for direction in [0, 1] {
        for at in (GREETING_BYTES..whole[direction].len()).step_by(3) {
            let mut pair = Pair::new();
            let mut passed = 0;
            for _ in 0..6 {
                let mut bytes = [pair.client.written(pair.now), pair.server.written(pair.now)];
                let count = bytes[direction].len();
                if (passed..passed + count).contains(&at) {
                    bytes[direction][at - passed] ^= 1;
                }
                passed += count;
                pair.server.receive(pair.now, &bytes[0]);
                pair.server.answer(pair.now, Some(KNOWN));
                pair.client.receive(pair.now, &bytes[1]);
            }
            // Padding of a HELLO has no meaning.
            let is_padding = direction == 0 && (74..146).contains(&at);
            assert_eq!(pair.client.is_open(), is_padding, "{direction} {at}");
        }
    }
}

#[test]
fn frame_that_is_not_encrypted_ends_the_connection() {
    for bytes in [
        b"\0\x05hello".as_slice(),
        b"\x04\x05\x04PONG",
        b"\x04\x07\x04PING\0\0",
        b"\x01\x28this frame is long enough to be encrypted, or is it?",
    ] {
        let mut pair = Pair::open();
        pair.server.receive(pair.now, bytes);
        assert_eq!(pair.server.ended(), Some("curve_not_encrypted"));
        let mut pair = Pair::open();
        pair.client.receive(pair.now, bytes);
        assert_eq!(pair.client.ended(), Some("curve_not_encrypted"));
    }
}

#[test]
fn error_in_clear_text_is_not_believed_once_the_client_is_open() {
    let mut pair = Pair::open();
    pair.client.receive(pair.now, b"\x04\x0a\x05ERROR\x03400");
    assert_eq!(pair.client.ended(), Some("curve_not_encrypted"), "as any clear text");
}
