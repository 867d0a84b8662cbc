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
fn owner_that_never_answers_ends_the_connection_without_a_word() {
    for is_first_answered in [false, true] {
        let mut pair = shown();
        if is_first_answered {
            pair.server.answer(pair.now, None);
        }
        pass(&mut pair, ADMISSION_HELD_FOR);
        assert!(is_asked(&pair, true));
        pass(&mut pair, OWNER_ANSWERS_WITHIN);
        assert_eq!(pair.server.ended(), Some("admission_timeout"));
        assert_eq!(answer(&mut pair), 0, "an ERROR would keep a libzmq away for good");
        assert_eq!(pair.client.ended(), None);
    }
}

#[test]
fn late_answer_to_the_first_question_is_none_to_the_last() {
    let mut pair = shown();
    pass(&mut pair, ADMISSION_HELD_FOR);
    assert!(is_asked(&pair, true));
    let (now, id) = (pair.now, pair.server.id);
    pair.server.port.authenticated(now, id, false, None);
    pair.server.take_events();
    assert_eq!((pair.server.ended(), answer(&mut pair)), (None, 0));
    // Nor is an answer to the last question one to the first, which is all that was asked so far.
    let mut early = shown();
    early.server.port.authenticated(early.now, early.server.id, true, None);
    early.server.take_events();
    assert_eq!(early.server.ended(), None);
    // An identity is one whenever it is said.
    pair.server.port.authenticated(now, id, false, Some(KNOWN));
    pair.server.take_events();
    pair.exchange();
    assert!(pair.client.is_open() && pair.server.is_open());
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
    for beginning in
        [b"\0".as_slice(), b"\x01\0", b"\x02\0\0\0\0\0\x10\0\0body", b"\0\x26\x07MESSAGE"]
    {
        let mut pair = shown();
        pair.server.receive(pair.now, beginning);
        assert_eq!(pair.server.ended(), Some("curve_command"), "{beginning:?}");
        assert_eq!(pair.server.port.totals().incoming_bytes, 0);
    }
    pair.server.receive(pair.now, b"\x04\x05\x04PONG");
    assert_eq!(pair.server.ended(), Some("curve_command"));
    // What the owner says of it later is of no use.
    let (now, id) = (pair.now, pair.server.id);
    pair.server.port.authenticated(now, id, false, Some(KNOWN));
    assert!(!pair.server.is_open());
}
