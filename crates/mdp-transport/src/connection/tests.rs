use std::time::Duration;

use mdp_wire::{FrameSink as _, Part, Position};

use super::*;
use crate::{NotZmtp3, PongRule, SharedFrame, StreamError};

const SECOND: Duration = Duration::from_secs(1);

/// A connection under test, with the clock and the pool that its shell would have.
struct Subject {
    connection: Connection<u32>,
    pool: BufferPool,
    now: Instant,
}

impl Subject {
    fn new(side: Side, socket_type: SocketType, routing_id: &[u8]) -> Self {
        Self::with(ConnectionLimits::default(), side, socket_type, routing_id)
    }

    fn with(
        limits: ConnectionLimits,
        side: Side,
        socket_type: SocketType,
        routing_id: &[u8],
    ) -> Self {
        let mut pool = BufferPool::default();
        let now = start();
        let local = LocalSocket { socket_type, routing_id };
        let introduction = Introduction { side, local, limits };
        Self { connection: Connection::new(now, &introduction, &mut pool), pool, now }
    }

    fn accepting() -> Self {
        Self::new(Side::Accepting, SocketType::Router, &[])
    }

    /// After the handshake with a DEALER of a minor version.
    fn open(minor: u8) -> Self {
        let mut subject = Self::accepting();
        let events = subject.receive(&dealer(minor)).unwrap();
        assert!(matches!(events.as_slice(), [Event::Opened(_)]));
        subject.written();
        subject
    }

    /// The same, by the rules that hold between nodes.
    fn node() -> Self {
        let limits = ConnectionLimits {
            ping_interval: SECOND * 3 / 10,
            pong_timeout: SECOND,
            pong_rule: PongRule::Always,
            ping_ttl: SECOND,
            ..ConnectionLimits::default()
        };
        let mut subject = Self::with(limits, Side::Accepting, SocketType::Router, &[]);
        subject.receive(&dealer(1)).unwrap();
        subject.written();
        subject
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Ending> {
        let mut events = Vec::new();
        let take = |event| {
            events.push(event);
            Flow::Continue
        };
        let read = self.connection.received(self.now, bytes, &mut self.pool, take)?;
        assert_eq!(read, bytes.len());
        Ok(events)
    }

    /// What waits, written.
    fn written(&mut self) -> Vec<u8> {
        let bytes: Vec<u8> =
            self.connection.output().iter().flat_map(|slice| slice.to_vec()).collect();
        self.connection.transmitted(self.now, bytes.len(), &mut self.pool);
        assert_eq!(self.connection.output_bytes(), 0);
        bytes
    }

    fn send(&mut self, tag: u32, frames: &[&[u8]]) {
        let mut writer = self.connection.message(Some(tag), &mut self.pool);
        for (at, frame) in frames.iter().enumerate() {
            let last = at + 1 == frames.len();
            let position = if last { Position::Last } else { Position::More };
            let Ok(()) = writer.put(Part::<SharedFrame>::Bytes(frame), position);
        }
    }

    /// Time passes, and what is due is done as it becomes due.
    fn pass(&mut self, duration: Duration) -> Result<(), Ending> {
        let until = self.now + duration;
        while let Some(at) = self.connection.poll_timeout().filter(|at| *at <= until) {
            self.now = at;
            self.connection.handle_timeout(at, &mut self.pool)?;
        }
        self.now = until;
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "an instant can not be made from nothing")]
fn start() -> Instant {
    Instant::now()
}

/// Greeting and READY of a libzmq DEALER without a routing id.
fn dealer(minor: u8) -> Vec<u8> {
    let mut bytes = greeting::encode(Mechanism::Null, false).to_vec();
    bytes[11] = minor;
    bytes.extend_from_slice(
        b"\x04\x29\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00",
    );
    bytes
}

fn ready(socket_type: &[u8]) -> Vec<u8> {
    let mut body = b"\x05READY\x0bSocket-Type\0\0\0".to_vec();
    body.push(u8::try_from(socket_type.len()).unwrap());
    body.extend_from_slice(socket_type);
    let mut bytes = greeting::encode(Mechanism::Null, false).to_vec();
    bytes.extend_from_slice(&[4, u8::try_from(body.len()).unwrap()]);
    bytes.extend(body);
    bytes
}

#[test]
fn two_connections_introduce_themselves_however_the_bytes_are_cut() {
    for piece in [1, 5, 11, 12, 32, 64, 1_000] {
        let mut one = Subject::accepting();
        let mut other = Subject::new(Side::Dialling, SocketType::Dealer, b"name");
        let mut events = (Vec::new(), Vec::new());
        let mut bytes = (one.written(), other.written());
        while !bytes.0.is_empty() || !bytes.1.is_empty() {
            for part in bytes.1.chunks(piece) {
                events.0.extend(one.receive(part).unwrap());
            }
            for part in bytes.0.chunks(piece) {
                events.1.extend(other.receive(part).unwrap());
            }
            bytes = (one.written(), other.written());
        }
        let introduction = |socket_type, routing_id: &[u8]| {
            let (minor, mechanism) = (1, Mechanism::Null);
            let routing_id = routing_id.into();
            Event::Opened(PeerIntroduction { socket_type, routing_id, minor, mechanism, key: None })
        };
        assert_eq!(events.0, [introduction(SocketType::Dealer, b"name")], "{piece}");
        assert_eq!(events.1, [introduction(SocketType::Router, b"")], "{piece}");
        assert!(one.connection.is_open() && other.connection.is_open());
    }
}

#[test]
fn accepting_side_says_no_more_than_eleven_bytes_before_the_peer_named_its_mechanism() {
    let mut subject = Subject::accepting();
    assert_eq!(subject.written().len(), FIRST_BYTES);
    let greeting = greeting::encode(Mechanism::Null, false);
    subject.receive(&greeting[..31]).unwrap();
    assert_eq!(subject.written(), []);
    subject.receive(&greeting[31..32]).unwrap();
    assert_eq!(subject.written(), greeting[FIRST_BYTES..]);
    subject.receive(&greeting[32..]).unwrap();
    assert!(subject.written().starts_with(b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06ROUTER"));
}

#[test]
fn messages_pass_in_both_directions() {
    let mut subject = Subject::open(1);
    let events = subject.receive(b"\x01\x00\x00\x05hello\x00\x00").unwrap();
    let frames: Vec<Vec<Vec<u8>>> = events
        .iter()
        .map(|event| match event {
            Event::Message(message) => {
                message.frames.iter().map(|frame| frame.as_ref().to_vec()).collect()
            }
            Event::Opened(_) => panic!("opened twice"),
        })
        .collect();
    assert_eq!(frames, [vec![b"".to_vec(), b"hello".to_vec()], vec![b"".to_vec()]]);
    subject.send(1, &[b"", b"world"]);
    assert_eq!(subject.written(), b"\x01\x00\x00\x05world");
}

#[test]
fn reader_that_stops_is_given_the_next_message_when_the_bytes_come_again() {
    let mut subject = Subject::accepting();
    let mut stream = dealer(1);
    stream.extend_from_slice(b"\x00\x01a\x00\x01b");
    let mut rest = stream.as_slice();
    let mut events = 0;
    while !rest.is_empty() {
        let take = |_| {
            events += 1;
            Flow::Stop
        };
        let read = subject.connection.received(subject.now, rest, &mut subject.pool, take).unwrap();
        assert!(read > 0);
        rest = &rest[read..];
    }
    assert_eq!(events, 3);
}

#[test]
fn refusals_name_what_the_peer_is() {
    let mut curve = dealer(1);
    curve[12..17].copy_from_slice(b"CURVE");
    let mut unknown = dealer(1);
    unknown[12..16].copy_from_slice(b"ZZZZ");
    let mut long_id = greeting::encode(Mechanism::Null, false).to_vec();
    command::put_ready(SocketType::Dealer, &[1; 256], &mut long_id);
    let mut early = greeting::encode(Mechanism::Null, false).to_vec();
    early.extend_from_slice(b"\x00\x05hello");
    // The message goes on after the READY.
    let mut around = dealer(1);
    around.splice(64..64, *b"\x01\x05hello");
    around.extend_from_slice(b"\x00\x05world");
    let mut ping = greeting::encode(Mechanism::Null, false).to_vec();
    ping.extend_from_slice(b"\x04\x07\x04PING\0\0");
    let mut error = greeting::encode(Mechanism::Null, false).to_vec();
    error.extend_from_slice(b"\x04\x0b\x05ERROR\x04no\r\n");
    for (bytes, ending) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), Ending::NotZmtp3(NotZmtp3::Http)),
        (b"\x01\x00".to_vec(), Ending::NotZmtp3(NotZmtp3::OlderZmtp)),
        (curve, Ending::Mechanism(Some(Mechanism::Curve))),
        (unknown, Ending::Mechanism(None)),
        (ready(b"PUB"), Ending::SocketType),
        (ready(b"PUSH"), Ending::SocketType),
        (long_id, Ending::RoutingIdTooLong { bytes: 256 }),
        (early, Ending::MessageBeforeReady),
        (around, Ending::MessageBeforeReady),
        (ping, Ending::BadCommand),
        (error, Ending::PeerError(r"no\r\n".into())),
    ] {
        for piece in [bytes.len(), 1] {
            let mut subject = Subject::accepting();
            let outcome = bytes
                .chunks(piece)
                .try_for_each(|part| subject.receive(part).map(|events| assert_eq!(events, [])));
            assert_eq!(outcome, Err(ending.clone()), "{bytes:?}");
            assert!(!subject.connection.is_open());
            assert_eq!(subject.receive(b"more"), Err(Ending::AlreadyEnded));
            assert_eq!(subject.connection.poll_timeout(), None);
        }
    }
}

#[test]
fn peer_with_another_mechanism_gets_the_whole_greeting() {
    let mut subject = Subject::accepting();
    let mut curve = dealer(1);
    curve[12..17].copy_from_slice(b"CURVE");
    subject.receive(&curve[..64]).unwrap_err();
    // Only that keeps libzmq from coming back ten times a second.
    assert_eq!(subject.written(), greeting::encode(Mechanism::Null, false));
}

#[test]
fn peer_with_a_wrong_kind_of_socket_is_told_so() {
    let mut subject = Subject::accepting();
    subject.receive(&ready(b"PUB")).unwrap_err();
    let written = subject.written();
    assert!(written.ends_with(b"\x04\x1a\x05ERROR\x13Invalid socket type"), "{written:?}");
}

#[test]
fn handshake_has_a_bound_in_bytes_and_in_time() {
    let max = ConnectionLimits::default().handshake_bytes_max;
    for size in [u64::MAX, 1 << 20, 9_000] {
        let mut subject = Subject::accepting();
        let mut stream = greeting::encode(Mechanism::Null, false).to_vec();
        crate::FrameHeader { kind: crate::FrameKind::LastOfMessage, size }.encode(&mut stream);
        stream.extend(vec![0; 20_000]);
        let outcome = stream.chunks(100).try_for_each(|part| subject.receive(part).map(|_| ()));
        match outcome {
            Err(Ending::HandshakeTooLong { max: said }) => assert_eq!(said, max),
            Err(Ending::Stream(StreamError::MessageTooLarge { .. })) => assert!(size > 1 << 20),
            other => panic!("{other:?}"),
        }
        assert!(subject.connection.input_bytes() <= 2 * max);
    }
    let mut subject = Subject::accepting();
    assert_eq!(subject.pass(SECOND * 2), Ok(()));
    // Bytes do not prolong it.
    subject.receive(&dealer(1)[..20]).unwrap();
    assert_eq!(subject.pass(SECOND), Err(Ending::HandshakeTimeout));
}

#[test]
fn ping_is_answered_with_its_context_and_no_more() {
    let mut subject = Subject::open(1);
    subject.receive(b"\x04\x07\x04PING\0\0").unwrap();
    assert_eq!(subject.written(), b"\x04\x05\x04PONG");
    subject.receive(b"\x04\x0e\x04PING\0\0context").unwrap();
    assert_eq!(subject.written(), b"\x04\x0c\x04PONGcontext");
    // Without the two bytes of the TTL it is none.
    assert_eq!(subject.receive(b"\x04\x05\x04PING"), Err(Ending::BadCommand));
}

#[test]
fn pings_of_a_peer_that_does_not_read_fill_nothing() {
    let mut subject = Subject::open(1);
    for _ in 0..1_000 {
        subject.receive(b"\x04\x07\x04PING\0\0").unwrap();
    }
    assert_eq!(subject.connection.output_bytes(), PONGS_WAITING_MAX * 7);
    subject.written();
    subject.receive(b"\x04\x07\x04PING\0\0").unwrap();
    assert_eq!(subject.written(), b"\x04\x05\x04PONG");
}

#[test]
fn promised_ttl_is_honoured() {
    let mut subject = Subject::open(1);
    // 3 s.
    subject.receive(b"\x04\x07\x04PING\x00\x1e").unwrap();
    assert_eq!(subject.pass(SECOND * 2), Ok(()));
    subject.receive(b"\x00\x00").unwrap();
    assert_eq!(subject.pass(SECOND * 2), Ok(()));
    assert_eq!(subject.pass(SECOND), Err(Ending::TtlExpired));
}

#[test]
fn only_a_peer_that_answered_before_has_to_answer_again() {
    let ping = b"\x04\x07\x04PING\0\0";
    let pong = b"\x04\x05\x04PONG";
    // Never answered: asked again and again, and left in peace.
    let mut subject = Subject::open(1);
    assert_eq!(subject.pass(SECOND * 21), Ok(()));
    assert_eq!(subject.written(), ping.repeat(4));
    // It answers, and then does not.
    subject.receive(pong).unwrap();
    assert_eq!(subject.pass(SECOND * 5), Ok(()));
    assert_eq!(subject.written(), ping);
    assert_eq!(subject.pass(SECOND * 9), Ok(()));
    assert_eq!(subject.pass(SECOND), Err(Ending::PongTimeout));
    // Any message is as good as an answer.
    let mut subject = Subject::open(1);
    subject.receive(pong).unwrap();
    for _ in 0..5 {
        assert_eq!(subject.pass(SECOND * 14), Ok(()));
        subject.receive(b"\x00\x00").unwrap();
    }
    // A worker that may be silent.
    subject.connection.set_pong_required(false);
    assert_eq!(subject.pass(SECOND * 1_000), Ok(()));
}

#[test]
fn peer_that_is_known_to_answer_has_to_from_the_first_ping_on_and_is_promised_the_same() {
    let mut subject = Subject::node();
    for _ in 0..3 {
        assert_eq!(subject.pass(SECOND * 3 / 10), Ok(()));
        assert_eq!(subject.written(), b"\x04\x07\x04PING\x00\x0a");
    }
    assert_eq!(subject.pass(SECOND * 4 / 10), Err(Ending::PongTimeout));
}

#[test]
fn promise_of_a_ttl_is_kept_however_much_the_peer_says() {
    let mut subject = Subject::node();
    let mut pings = Vec::new();
    for _ in 0..30 {
        assert_eq!(subject.pass(SECOND / 10), Ok(()));
        subject.receive(b"\x00\x00").unwrap();
        pings.extend(subject.written());
    }
    assert_eq!(pings, b"\x04\x07\x04PING\x00\x0a".repeat(10));
}

#[test]
fn ping_that_waits_behind_a_large_message_can_not_be_answered_yet() {
    let mut subject = Subject::node();
    subject.send(1, &[&[7; 1 << 20]]);
    for _ in 0..20 {
        assert_eq!(subject.pass(SECOND / 2), Ok(()));
        subject.connection.transmitted(subject.now, 1 << 10, &mut subject.pool);
    }
    subject.written();
    assert_eq!(subject.pass(SECOND), Err(Ending::PongTimeout));
}

#[test]
fn answer_to_a_ping_is_due_from_when_the_ping_was_written() {
    let mut subject = Subject::node();
    assert_eq!(subject.pass(SECOND * 3 / 10), Ok(()));
    assert_eq!(subject.connection.output_bytes(), 9);
    // All but its last byte.
    subject.connection.transmitted(subject.now, 8, &mut subject.pool);
    assert_eq!(subject.pass(SECOND * 9 / 10), Ok(()));
    subject.written();
    assert_eq!(subject.pass(SECOND * 99 / 100), Ok(()));
    // Later PINGs put nothing off.
    subject.written();
    assert_eq!(subject.pass(SECOND / 100), Err(Ending::PongTimeout));
}

#[test]
fn peer_that_gets_its_time_anew_has_to_answer_the_next_ping() {
    let mut subject = Subject::node();
    assert_eq!(subject.pass(SECOND * 3 / 10), Ok(()));
    subject.written();
    assert_eq!(subject.pass(SECOND / 2), Ok(()));
    subject.connection.rearm(subject.now);
    assert_eq!(subject.pass(Duration::ZERO), Ok(()));
    subject.written();
    assert_eq!(subject.pass(SECOND * 99 / 100), Ok(()));
    assert_eq!(subject.pass(SECOND / 100), Err(Ending::PongTimeout));
}

#[test]
fn peer_of_zmtp_3_0_is_never_pinged() {
    let mut subject = Subject::open(0);
    assert_eq!(subject.pass(SECOND * 100), Ok(()));
    assert_eq!(subject.written(), []);
    assert_eq!(subject.connection.poll_timeout(), None);
}

#[test]
fn unknown_commands_are_ignored_and_an_error_ends_the_connection() {
    let mut subject = Subject::open(1);
    assert_eq!(subject.receive(b"\x04\x0a\x09SUBSCRIBE"), Ok(Vec::new()));
    let ending = Ending::PeerError("bye".into());
    assert_eq!(subject.receive(b"\x04\x0a\x05ERROR\x03bye"), Err(ending));
}

#[test]
fn idle_connection_owns_no_buffer() {
    let mut subject = Subject::open(1);
    subject.receive(b"\x01\x00\x00\x05hello").unwrap();
    subject.send(1, &[b"", b"world"]);
    subject.written();
    assert_eq!(subject.connection.input_bytes(), 0);
    let bytes = size_of::<Connection<u128>>();
    assert!(bytes <= 704, "{bytes}");
}

#[test]
fn messages_of_which_nothing_was_written_come_back() {
    let mut subject = Subject::open(1);
    subject.send(1, &[b"one"]);
    subject.send(2, &[b"two"]);
    subject.send(3, &[b"three"]);
    subject.connection.transmitted(subject.now, 6, &mut subject.pool);
    assert_eq!(subject.connection.into_unsent().collect::<Vec<u32>>(), [3]);
}
