use std::time::Duration;

use mdp_transport::{ADMISSION_HELD_FOR, OWNER_ANSWERS_WITHIN, TransportEvent};

use crate::pair::{KNOWN, Pair, client_key};

const MILLISECOND: Duration = Duration::from_millis(1);

/// A pair whose client has shown its key.
fn shown() -> Pair {
    let mut pair = Pair::new();
    for _ in 0..3 {
        let bytes = pair.client.written(pair.now);
        pair.server.receive(pair.now, &bytes);
        let bytes = pair.server.written(pair.now);
        pair.client.receive(pair.now, &bytes);
    }
    pair
}

/// In pieces of half a second: a port that is called less often believes that it stood still.
fn pass(pair: &mut Pair, mut time: Duration) {
    while time > Duration::ZERO {
        let step = time.min(Duration::from_millis(500));
        pair.pass(step);
        time -= step;
    }
}

fn is_asked(pair: &Pair, is_last: bool) -> bool {
    let (id, key) = (pair.server.id, client_key());
    pair.server.events.contains(&TransportEvent::Authenticate { id, key, is_last })
}

/// What the server says goes to the client.
fn answer(pair: &mut Pair) -> usize {
    let bytes = pair.server.written(pair.now);
    if !bytes.is_empty() {
        pair.client.receive(pair.now, &bytes);
    }
    bytes.len()
}

#[test]
fn key_that_is_not_admitted_is_held_silent_and_then_refused_by_name() {
    let mut pair = shown();
    assert!(is_asked(&pair, false));
    pair.server.answer(pair.now, None);
    pass(&mut pair, ADMISSION_HELD_FOR - MILLISECOND);
    assert_eq!((pair.server.ended(), answer(&mut pair)), (None, 0));
    pass(&mut pair, MILLISECOND);
    assert!(is_asked(&pair, true));
    pair.server.answer(pair.now, None);
    assert_eq!(pair.server.ended(), Some("key_refused"));
    assert!(answer(&mut pair) > 0);
    assert_eq!(pair.client.ended(), Some("not_admitted"));
}

#[test]
fn key_that_is_made_known_meanwhile_is_admitted() {
    let mut pair = shown();
    pair.server.answer(pair.now, None);
    pass(&mut pair, ADMISSION_HELD_FOR);
    assert!(is_asked(&pair, true));
    pair.server.answer(pair.now, Some(KNOWN));
    answer(&mut pair);
    assert!(pair.client.is_open() && pair.server.is_open());

    // Or before the owner is asked once more.
    let mut pair = shown();
    pair.server.answer(pair.now, None);
    pass(&mut pair, MILLISECOND);
    let (now, id) = (pair.now, pair.server.id);
    pair.server.port.authenticated(now, id, false, Some(KNOWN));
    pair.exchange();
    assert!(pair.client.is_open());
    pass(&mut pair, 2 * ADMISSION_HELD_FOR);
    assert_eq!(pair.server.ended(), None);
}

#[test]
fn owner_that_never_answers_sends_no_peer_away_for_good() {
    let mut pair = shown();
    pass(&mut pair, ADMISSION_HELD_FOR);
    assert!(is_asked(&pair, true));
    pass(&mut pair, OWNER_ANSWERS_WITHIN);
    assert_eq!(pair.server.ended(), Some("key_unanswered"));
    // Nothing is said: after an ERROR a libzmq would not come back.
    assert_eq!(answer(&mut pair), 0);
}

#[test]
fn late_answer_to_the_first_question_refuses_nothing() {
    let mut pair = shown();
    let (now, id) = (pair.now, pair.server.id);
    pass(&mut pair, ADMISSION_HELD_FOR);
    assert!(is_asked(&pair, true));
    pair.server.port.authenticated(now, id, false, None);
    pair.server.take_events();
    assert_eq!(pair.server.ended(), None);
    pair.server.port.authenticated(now, id, true, Some(KNOWN));
    pair.exchange();
    assert!(pair.client.is_open());
}

#[test]
fn command_that_begins_in_clear_text_while_the_peer_is_held_ends_in_no_box() {
    let mut pair = shown();
    pair.server.receive(pair.now, b"\x04\x05\x04PO");
    assert_eq!(pair.server.ended(), None);
    pair.server.answer(pair.now, Some(KNOWN));
    assert_eq!(pair.server.ended(), Some("curve_command"));
    assert!(!pair.server.is_open());
    assert_eq!(pair.server.port.totals().outgoing_bytes, 0);
}

#[test]
fn message_that_begins_before_the_ready_is_refused_at_its_first_bytes() {
    for is_held in [false, true] {
        let mut pair = if is_held { shown() } else { Pair::new() };
        if !is_held {
            pair.server.port.set_jobs_outside(true);
            pair.exchange();
        }
        // A message of 64 KiB in clear text: its header alone is enough.
        pair.server.receive(pair.now, b"\x02\0\0\0\0\0\x01\0\0");
        assert_eq!(pair.server.ended(), Some("message_before_ready"), "{is_held}");
        assert_eq!(pair.server.port.totals().incoming_bytes, 0);
    }
}

#[test]
fn answer_that_was_not_asked_for_changes_nothing() {
    let mut pair = Pair::new();
    let (now, id) = (pair.now, pair.server.id);
    pair.server.port.authenticated(now, id, false, Some(KNOWN));
    pair.server.port.authenticated(now, id, true, None);
    pair.exchange();
    pair.server.port.authenticated(now, id, true, None);
    assert!(pair.client.is_open());
    assert_eq!(pair.server.ended(), None);
}

#[test]
fn peer_that_speaks_while_it_is_held_is_refused() {
    let mut pair = shown();
    pair.server.receive(pair.now, b"\x04\x05\x04PONG");
    assert_eq!(pair.server.ended(), Some("curve_command"));
    // What the owner says of it later is of no use.
    let (now, id) = (pair.now, pair.server.id);
    pair.server.port.authenticated(now, id, false, Some(KNOWN));
    assert!(!pair.server.is_open());
}
