use std::time::Duration;

use mdp_wire::{FrameSink as _, Part, Position};

use super::*;
use crate::{ConnectionLimits, SharedFrame};

type Port = Transport<u32>;

/// A greeting for NULL, and a READY of a DEALER.
fn introduction() -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[0] = 0xff;
    bytes[9] = 0x7f;
    bytes[10] = 3;
    bytes[11] = 1;
    bytes[12..16].copy_from_slice(b"NULL");
    bytes.extend_from_slice(b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06DEALER");
    bytes
}

fn address(port: u16) -> PeerAddress {
    PeerAddress::from(std::net::SocketAddr::from(([127, 0, 0, 1], port)))
}

/// A connection whose peer has introduced itself, with nothing to write.
fn open(port: &mut Port, now: Instant) -> ConnectionId {
    let id = port.accepted(now, address(1)).unwrap();
    assert_eq!(receive(port, now, id, &introduction()), [] as [usize; 0]);
    while let Some(id) = port.poll_writable() {
        let count = port.output_bytes(id);
        port.transmitted(now, id, count);
    }
    assert_eq!(port.poll_event(), Some(TransportEvent::Opened { id }));
    id
}

/// The sizes of the messages that some bytes complete.
fn receive(port: &mut Port, now: Instant, id: ConnectionId, bytes: &[u8]) -> Vec<usize> {
    let mut sizes = Vec::new();
    port.received(now, id, bytes, |_, message| {
        sizes.push(message.frames.iter().map(SharedFrame::len).sum());
        Flow::Continue
    });
    sizes
}

fn send(port: &mut Port, id: ConnectionId, tag: u32, bytes: usize) {
    port.send(id, Some(tag), |writer| {
        let body = vec![7; bytes];
        let Ok(()) = writer.put(Part::Bytes(&body), Position::Last);
    });
}

fn lost(id: ConnectionId, why: Loss, unsent: &[u32]) -> TransportEvent<u32> {
    TransportEvent::Lost { id, address: Some(address(1)), why, unsent: unsent.to_vec() }
}

#[expect(clippy::disallowed_methods, reason = "an instant can not be made from nothing")]
fn port(limits: TransportLimits) -> (Port, Instant) {
    let now = Instant::now();
    (Port::new(now, limits), now)
}

#[test]
fn numbers_are_never_used_again_and_slots_are() {
    let (mut port, now) = port(TransportLimits::default());
    let first = open(&mut port, now);
    port.closed(first);
    // Until its socket is closed, nothing else has its place.
    let second = port.accepted(now, address(2)).unwrap();
    assert_ne!(second.slot(), first.slot());
    assert_eq!(port.poll_closing().unwrap().id, first);
    let third = port.accepted(now, address(3)).unwrap();
    assert_eq!(third.slot(), first.slot());
    assert!(third > second && second > first);
    assert_eq!(receive(&mut port, now, first, &introduction()), [] as [usize; 0]);
    assert!(port.peer(third).is_none(), "what comes for the old one is not the new one's");
}

#[test]
fn reader_that_has_had_enough_gets_the_rest_later() {
    let (mut port, now) = port(TransportLimits::default());
    let id = open(&mut port, now);
    let input = [b"\0\x01a".as_slice(), b"\0\x02bb"].concat();
    let taken = port.received(now, id, &input, |_, _| Flow::Stop);
    assert_eq!(taken, 3);
    assert_eq!(receive(&mut port, now, id, &input[taken..]), [2]);
}

#[test]
fn message_that_no_byte_of_was_written_comes_back_when_the_peer_is_lost() {
    let (mut port, now) = port(TransportLimits::default());
    let id = open(&mut port, now);
    send(&mut port, id, 1, 10);
    send(&mut port, id, 2, 10);
    assert_eq!(port.poll_writable(), Some(id));
    assert_eq!(port.poll_writable(), None);
    port.transmitted(now, id, 1);
    port.closed(id);
    assert_eq!(port.poll_event(), Some(lost(id, Loss::Closed, &[2])));
    let closing = port.poll_closing().unwrap();
    assert!(closing.output().is_empty(), "what is said to be unsent is not sent");
    let totals = port.totals();
    assert_eq!((totals.outgoing_bytes, totals.outgoing_messages), (0, 0));
    assert_eq!((totals.connections, totals.dropped_messages), (0, 0));

    // What comes after its loss was told is told again; before, together with it.
    send(&mut port, id, 3, 10);
    let gone = TransportEvent::Lost { id, address: None, why: Loss::Closed, unsent: vec![3] };
    assert_eq!(port.poll_event(), Some(gone));
}

#[test]
fn peer_that_reads_nothing_is_lost_by_bytes_or_by_time() {
    let limits = TransportLimits {
        outgoing_bytes_per_peer_max: 1_000,
        connection: ConnectionLimits {
            ping_interval: Duration::from_secs(60),
            ..Default::default()
        },
        ..TransportLimits::default()
    };
    let (mut port, now) = port(limits);
    let id = open(&mut port, now);
    // One message may always wait.
    send(&mut port, id, 1, 5_000);
    assert_eq!(port.poll_writable(), Some(id));
    port.blocked(now, id);
    assert!(port.is_blocked(id));
    send(&mut port, id, 2, 1);
    assert_eq!(port.poll_event(), Some(lost(id, Loss::Overflow, &[1, 2])));

    let slow = open(&mut port, now);
    send(&mut port, slow, 3, 500);
    port.blocked(now, slow);
    let mut at = now;
    for second in 1..=9 {
        at = now + Duration::from_secs(second);
        port.handle_timeout(at, |_| false);
    }
    port.transmitted(at, slow, 1);
    for second in 10..=18 {
        port.handle_timeout(now + Duration::from_secs(second), |_| false);
        assert_eq!(port.poll_event(), None, "{second}");
    }
    port.handle_timeout(now + Duration::from_secs(19), |_| false);
    assert_eq!(port.poll_event(), Some(lost(slow, Loss::Stalled, &[])));
}

#[test]
fn greediest_peer_is_lost_when_all_together_have_too_much() {
    let limits = TransportLimits { outgoing_bytes_max: 10_000, ..TransportLimits::default() };
    let (mut port, now) = port(limits);
    let ids = [3_000, 6_000, 500].map(|bytes| {
        let id = open(&mut port, now);
        send(&mut port, id, 1, bytes);
        assert_eq!(port.poll_writable(), Some(id));
        port.blocked(now, id);
        id
    });
    assert_eq!(port.poll_event(), None);
    send(&mut port, ids[2], 2, 1_000);
    assert_eq!(port.poll_event(), Some(lost(ids[1], Loss::Overflow, &[1])));
    assert!(port.totals().outgoing_bytes < 10_000);
    assert_eq!(port.totals().lost, [("overflow", 1)]);
    assert_eq!(port.totals().dropped_messages, 1);
}

#[test]
fn connections_have_a_limit_and_strangers_a_smaller_one() {
    let limits =
        TransportLimits { connections_max: 4, strangers_max: 2, ..TransportLimits::default() };
    let (mut port, now) = port(limits);
    let known = open(&mut port, now);
    let strangers: Vec<_> =
        (2..=4).map(|number| port.accepted(now, address(number)).unwrap()).collect();
    let crowded = |at: usize, number| TransportEvent::Refused {
        id: strangers[at],
        address: address(number),
        why: Loss::Crowded,
    };
    assert_eq!(port.poll_event(), Some(crowded(0, 2)));
    assert_eq!(port.totals().strangers, 2);
    assert!(port.accepted(now, address(5)).is_some());
    assert_eq!(port.poll_event(), Some(crowded(1, 3)));
    assert_eq!(port.totals().connections, 3);
    receive(&mut port, now, ConnectionId::from_number(0), b"nobody");
    let last = port.table.iter().map(|(id, _)| id).max().unwrap();
    receive(&mut port, now, last, &introduction());
    assert_eq!(port.poll_event(), Some(TransportEvent::Opened { id: last }));
    assert!(port.accepted(now, address(6)).is_some());
    assert!(port.totals().connections == 4 && port.is_full());
    assert_eq!(port.accepted(now, address(9)), None);
    port.closed(known);
    assert!(!port.is_full());
}

#[test]
fn silent_stranger_is_refused_in_time() {
    let (mut port, now) = port(TransportLimits::default());
    port.accepted(now, address(1)).unwrap();
    port.handle_timeout(now + Duration::from_secs(1), |_| false);
    port.handle_timeout(now + Duration::from_millis(2_900), |_| false);
    assert_eq!(port.poll_event(), None);
    assert_eq!(port.poll_timeout(), Some(now + Duration::from_secs(3)));
    port.handle_timeout(now + Duration::from_secs(3), |_| false);
    let Some(TransportEvent::Refused { why, .. }) = port.poll_event() else { panic!() };
    assert_eq!(why.label(), "handshake_timeout");
    assert_eq!(port.totals().refused, [("handshake_timeout", 1)]);
}

#[test]
fn last_words_are_for_those_that_have_not_introduced_themselves() {
    let (mut port, now) = port(TransportLimits::default());
    let id = port.accepted(now, address(1)).unwrap();
    let mut bytes = introduction();
    bytes[12..17].copy_from_slice(b"PLAIN");
    assert_eq!(receive(&mut port, now, id, &bytes), [] as [usize; 0]);
    let closing = port.poll_closing().unwrap();
    let words: usize = closing.output().iter().map(|slice| slice.len()).sum();
    assert_eq!(words, 64, "the whole greeting tells a libzmq not to come back");
}

#[test]
fn silent_peer_is_pinged_and_one_that_stops_answering_is_lost() {
    let (mut port, now) = port(TransportLimits::default());
    let id = open(&mut port, now);
    let seconds = |count| now + Duration::from_secs(count);
    for second in 1..=5 {
        port.handle_timeout(seconds(second), |_| false);
    }
    assert_eq!(port.poll_writable(), Some(id));
    port.transmitted(seconds(5), id, port.output_bytes(id));
    assert_eq!(receive(&mut port, seconds(6), id, b"\x04\x05\x04PONG"), [] as [usize; 0]);
    for second in 7..=20 {
        port.handle_timeout(seconds(second), |_| false);
        port.transmitted(seconds(second), id, port.output_bytes(id));
        assert_eq!(port.poll_event(), None, "{second}");
    }
    port.handle_timeout(seconds(21), |_| false);
    let Some(TransportEvent::Lost { why, .. }) = port.poll_event() else { panic!() };
    assert_eq!(why.label(), "pong_timeout");
}

#[test]
fn message_for_a_peer_whose_loss_is_not_told_yet_is_told_with_it() {
    let (mut port, now) = port(TransportLimits::default());
    let id = open(&mut port, now);
    port.closed(id);
    send(&mut port, id, 7, 10);
    assert_eq!(port.poll_event(), Some(lost(id, Loss::Closed, &[7])));
    assert_eq!(port.poll_event(), None);
}

#[test]
fn unfinished_messages_have_a_limit_together() {
    let limits = TransportLimits { incoming_bytes_max: 100_000, ..TransportLimits::default() };
    let (mut port, now) = port(limits);
    // A frame of 1 MiB, of which some has come.
    let begin = |bytes: usize| [&[2, 0, 0, 0, 0, 0, 0x10, 0, 0][..], &vec![7; bytes]].concat();
    let ids = [20_000, 60_000, 1_000].map(|bytes| {
        let id = open(&mut port, now);
        assert_eq!(receive(&mut port, now, id, &begin(bytes)), [] as [usize; 0]);
        id
    });
    assert_eq!(port.poll_event(), None);
    assert_eq!(receive(&mut port, now, ids[2], &[7; 30_000]), [] as [usize; 0]);
    assert_eq!(port.poll_event(), Some(lost(ids[1], Loss::Greedy, &[])));
    assert!(port.totals().incoming_bytes < 100_000);
    port.closed(ids[0]);
    port.closed(ids[2]);
    assert_eq!(port.totals().incoming_bytes, 0);
}

#[test]
fn whoever_has_something_unread_is_not_silent() {
    let (mut port, now) = port(TransportLimits::default());
    port.accepted(now, address(1)).unwrap();
    for second in 1..=4 {
        port.handle_timeout(now + Duration::from_secs(second), |_| true);
    }
    assert_eq!(port.poll_event(), None);
    port.handle_timeout(now + Duration::from_secs(5), |_| false);
    assert!(matches!(port.poll_event(), Some(TransportEvent::Refused { .. })));
}

#[test]
fn promise_of_a_ttl_is_kept_however_much_is_unread() {
    let connection = ConnectionLimits {
        ping_interval: Duration::from_millis(300),
        ping_ttl: Duration::from_secs(1),
        ..ConnectionLimits::default()
    };
    let (mut port, begun) = port(TransportLimits { connection, ..TransportLimits::default() });
    let id = open(&mut port, begun);

    let mut pinged_at = Vec::new();
    for step in 1..=200 {
        let now = begun + Duration::from_millis(10) * step;
        port.handle_timeout(now, |_| true);
        while let Some(id) = port.poll_writable() {
            let count = port.output_bytes(id);
            port.transmitted(now, id, count);
            pinged_at.push(now);
        }
    }

    let gaps = pinged_at.windows(2).map(|pair| pair[1].saturating_duration_since(pair[0]));
    assert!(gaps.max().unwrap() < Duration::from_millis(500), "{pinged_at:?}");
    assert_eq!(port.address(id), Some(address(1)));
}

#[test]
fn one_message_may_wait_however_large_and_behind_what_was_written() {
    let limits = TransportLimits { outgoing_bytes_per_peer_max: 1_000, ..Default::default() };
    let (mut port, now) = port(limits);
    let id = open(&mut port, now);
    send(&mut port, id, 1, 10);
    send(&mut port, id, 2, 5_000);
    assert_eq!(port.poll_writable(), Some(id));
    // The first leaves whole, the second in part.
    port.transmitted(now, id, 100);
    port.blocked(now, id);
    assert_eq!(port.poll_event(), None);
    assert_eq!(port.totals().outgoing_messages, 0);
}

/// A greeting for NULL, and a READY of a ROUTER.
fn introduction_of_a_router() -> Vec<u8> {
    let mut bytes = introduction();
    bytes.truncate(64);
    bytes.extend_from_slice(b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06ROUTER");
    bytes
}

#[test]
fn dialled_connection_greets_first_and_crowds_nobody_out() {
    let limits = TransportLimits { strangers_max: 1, ..TransportLimits::default() };
    let (mut port, now) = port(limits);
    let id = port.dialled(now, address(1)).unwrap();
    let stranger = port.accepted(now, address(2)).unwrap();
    assert_eq!(port.poll_event(), None);
    assert_eq!(port.poll_writable(), Some(id));
    let greeting: Vec<u8> = port.output(id).iter().flat_map(|slice| slice.to_vec()).collect();
    assert_eq!((greeting.len(), greeting[10], &greeting[12..16]), (64, 3, &b"NULL"[..]));
    port.transmitted(now, id, 64);
    receive(&mut port, now, id, &introduction_of_a_router());
    assert_eq!(port.poll_event(), Some(TransportEvent::Opened { id }));
    let ready: Vec<u8> = port.output(id).iter().flat_map(|slice| slice.to_vec()).collect();
    assert!(ready.windows(6).any(|part| part == b"DEALER"), "{ready:?}");
    port.closed(stranger);
    assert_eq!(port.totals().strangers, 0);
}

#[test]
fn peer_that_can_not_be_reached_is_told_of_by_its_number() {
    let (mut port, now) = port(TransportLimits::default());
    let id = port.dialled(now, address(1)).unwrap();
    port.closed(id);
    let refused = TransportEvent::Refused { id, address: address(1), why: Loss::Closed };
    assert_eq!(port.poll_event(), Some(refused));
}

#[test]
fn closing_on_purpose_tells_only_what_was_not_sent() {
    let (mut port, now) = port(TransportLimits::default());
    let id = open(&mut port, now);
    send(&mut port, id, 7, 10);
    assert_eq!(port.close(id), [7]);
    assert_eq!(port.close(id), []);
    assert_eq!(port.poll_event(), None);
    assert!(port.poll_closing().unwrap().output().is_empty());
    assert!(port.is_empty() && port.is_all_written());
    assert_eq!((port.totals().outgoing_messages, port.totals().lost), (0, Vec::new()));
}

#[test]
fn length_of_messages_can_be_allowed_later() {
    let limits = TransportLimits {
        connection: ConnectionLimits { message_bytes_max: 10, ..ConnectionLimits::default() },
        ..TransportLimits::default()
    };
    let (mut port, now) = port(limits);
    let [known, unknown] = [(); 2].map(|()| open(&mut port, now));
    port.set_message_bytes_max(known, 20);
    let message = [&b"\x00\x14"[..], &[7; 20]].concat();
    assert_eq!(receive(&mut port, now, known, &message), [20]);
    assert_eq!(receive(&mut port, now, unknown, &message), [] as [usize; 0]);
    assert_eq!(port.totals().lost, [("message_too_large", 1)]);
}

#[test]
fn more_may_wait_for_a_peer_that_was_dialled() {
    let limits = TransportLimits {
        outgoing_bytes_per_peer_max: 10_000,
        outgoing_bytes_per_dialled_max: 1_000_000,
        ..TransportLimits::default()
    };
    let (mut port, now) = port(limits);
    let accepted = open(&mut port, now);
    let dialled = port.dialled(now, address(1)).unwrap();
    receive(&mut port, now, dialled, &introduction_of_a_router());
    assert_eq!(port.poll_event(), Some(TransportEvent::Opened { id: dialled }));
    for id in [accepted, dialled] {
        port.blocked(now, id);
        for tag in 0..20 {
            send(&mut port, id, tag, 1_000);
        }
    }
    let Some(TransportEvent::Lost { id, why, .. }) = port.poll_event() else { panic!() };
    assert_eq!((id, why), (accepted, Loss::Overflow));
    assert_eq!(port.poll_event(), None);
}
