use std::time::{Duration, Instant};

use mdp_transport::{
    Mechanism, Mechanisms, PeerIntroduction, ServerKeys, SocketType, TransportEvent,
    TransportLimits,
};

use crate::pair::{
    End, GREETING_BYTES, KNOWN, Pair, address, client_key, client_keys, curve_only, mixed, port,
    secret, server_key, wire_frames,
};

fn introduction(socket_type: SocketType, key: mdp_transport::PublicKey) -> PeerIntroduction {
    let mechanism = Mechanism::Curve;
    PeerIntroduction { socket_type, routing_id: [].into(), minor: 1, mechanism, key: Some(key) }
}

#[test]
fn both_sides_know_each_others_keys() {
    let pair = Pair::open();
    let client = pair.server.port.peer(pair.server.id).unwrap();
    assert_eq!(*client, introduction(SocketType::Dealer, client_key()));
    let server = pair.client.port.peer(pair.client.id).unwrap();
    assert_eq!(*server, introduction(SocketType::Router, server_key()));
    assert_eq!(pair.server.port.identity(pair.server.id), Some(KNOWN));
    assert_eq!(pair.server.port.totals().strangers, 0);
}

#[test]
fn commands_have_the_lengths_of_the_specification() {
    let pair = Pair::open();
    let lengths = |bytes: &[u8]| -> Vec<usize> {
        wire_frames(&bytes[GREETING_BYTES..]).iter().map(Vec::len).collect()
    };
    // Their bodies: 200 and 257 with 35 bytes of properties; 168 and 30 with 35. An INITIATE has a long header.
    assert_eq!(lengths(&pair.passed[0]), [2 + 200, 9 + 257 + 35]);
    assert_eq!(lengths(&pair.passed[1]), [2 + 168, 2 + 30 + 35]);
    assert_eq!(&pair.passed[0][12..33], b"CURVE\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(&pair.passed[1][12..33], b"CURVE\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01");
}

#[test]
fn same_seed_gives_the_same_bytes_and_another_one_others() {
    let run = |seed| {
        let now = Instant::now();
        let server = End::accepting(now, 10, curve_only());
        let client = End::dialling(now, seed, &client_keys(server_key()));
        let mut pair = Pair::of(now, client, server);
        pair.exchange();
        assert!(pair.client.is_open());
        pair.passed
    };
    assert_eq!(run(20), run(20));
    assert_ne!(run(20), run(21));
}

#[test]
fn handshake_is_the_same_wherever_it_is_cut() {
    let whole = Pair::open().passed;
    for pieces in [vec![1], vec![63, 2], vec![100], vec![7, 300]] {
        let mut pair = Pair::new();
        pair.pieces = pieces;
        pair.exchange();
        assert!(pair.client.is_open() && pair.server.is_open());
        assert_eq!(pair.passed, whole);
    }
}

#[test]
fn server_serves_two_keys_while_one_is_rotated() {
    let now = Instant::now();
    let keys = ServerKeys::new(secret(1), Some(secret(2)));
    for number in [1, 2] {
        let mechanisms = Mechanisms { null: false, curve: Some(keys.clone()) };
        let server = End::accepting(now, 10, mechanisms);
        let client = End::dialling(now, 20, &client_keys(secret(number).public()));
        let mut pair = Pair::of(now, client, server);
        pair.exchange();
        assert!(pair.client.is_open() && pair.server.is_open(), "{number}");
    }
}

#[test]
fn keys_that_change_between_welcome_and_initiate_end_no_handshake() {
    let mut pair = Pair::new();
    let greeting = pair.intercept();
    pair.server.receive(pair.now, &greeting);
    let answer = pair.server.written(pair.now);
    pair.client.receive(pair.now, &answer);
    let hello = pair.intercept();
    pair.server.receive(pair.now, &hello);
    let curve = Some(ServerKeys::new(secret(2), None));
    pair.server.port.set_mechanisms(Mechanisms { null: false, curve });
    pair.exchange();
    assert!(pair.client.is_open() && pair.server.is_open());
}

#[test]
fn peer_that_knows_another_server_key_is_refused() {
    let now = Instant::now();
    let server = End::accepting(now, 10, curve_only());
    let client = End::dialling(now, 20, &client_keys(secret(9).public()));
    let mut pair = Pair::of(now, client, server);
    pair.exchange();
    assert_eq!(pair.server.ended(), Some("curve_server_key"));
    assert!(!pair.client.is_open());
}

#[test]
fn computations_can_be_done_elsewhere() {
    let now = Instant::now();
    let mut server = End::accepting(now, 10, curve_only());
    server.port.set_jobs_outside(true);
    let client = End::dialling(now, 20, &client_keys(server_key()));
    let mut pair = Pair::of(now, client, server);
    let mut jobs = 0;
    loop {
        pair.exchange();
        let Some(job) = pair.server.port.poll_job() else { break };
        jobs += 1;
        assert!(!pair.server.is_open());
        let result = std::thread::spawn(|| job.run()).join().unwrap();
        pair.server.port.job_done(now, result);
        pair.server.take_events();
        pair.server.answer(now, Some(KNOWN));
    }
    assert_eq!(jobs, 2);
    assert!(pair.client.is_open() && pair.server.is_open());
}

#[test]
fn result_for_a_connection_that_ended_is_dropped() {
    let mut pair = Pair::new();
    pair.server.port.set_jobs_outside(true);
    pair.exchange();
    let job = pair.server.port.poll_job().unwrap();
    pair.server.port.closed(pair.server.id);
    pair.server.port.job_done(pair.now, job.run());
    pair.server.take_events();
    assert_eq!(pair.server.ended(), Some("closed"));
    assert_eq!(pair.server.port.totals().connections, 0);
    assert_eq!(pair.server.port.totals().outgoing_bytes, 0);
}

#[test]
fn peer_that_does_not_wait_for_the_answer_is_refused() {
    for is_outside in [true, false] {
        let mut pair = Pair::new();
        pair.server.port.set_jobs_outside(is_outside);
        let greeting = pair.intercept();
        pair.server.receive(pair.now, &greeting);
        let answer = pair.server.written(pair.now);
        pair.client.receive(pair.now, &answer);
        let hello = pair.intercept();
        pair.server.receive(pair.now, &[hello.as_slice(), &hello].concat());
        assert_eq!(pair.server.ended(), Some("curve_command"), "{is_outside}");
    }
}

/// What a peer may begin with: a frame of a message, short and long, a command, a box, and the first byte of
/// each.
const BEGINNINGS: [&[u8]; 7] = [
    b"\0\x05he",
    b"\x01\0",
    b"\x02\0\0\0\0\0\x10\0\0body",
    b"\x04\x64\x04PI",
    b"\0",
    b"\x02",
    b"\x04",
];

#[test]
fn not_one_byte_is_kept_of_a_message_that_is_begun_before_ready() {
    for (beginning, jobs) in BEGINNINGS.into_iter().flat_map(|it| [(it, 1), (it, 2)]) {
        let mut pair = Pair::new();
        let now = pair.now;
        pair.server.port.set_jobs_outside(true);
        pair.exchange();
        for _ in 1..jobs {
            let job = pair.server.port.poll_job().unwrap();
            pair.server.port.job_done(now, job.run());
            pair.exchange();
        }
        let job = pair.server.port.poll_job().unwrap();
        pair.server.receive(now, beginning);
        assert_eq!(pair.server.ended(), Some("curve_command"), "{beginning:?} {jobs}");
        let totals = pair.server.port.totals();
        assert_eq!((totals.incoming_bytes, totals.connections), (0, 0));
        pair.server.port.job_done(now, job.run());
        assert!(!pair.server.port.has_events());
    }
}

#[test]
fn null_and_curve_live_on_one_port_if_both_are_allowed() {
    let now = Instant::now();
    let mut server = End::accepting(now, 10, mixed());
    let client = End::dialling(now, 20, &client_keys(server_key()));
    server.receive(now, &[]);
    let mut pair = Pair::of(now, client, server);
    pair.exchange();
    assert!(pair.client.is_open());
    // A second connection of the same port, with NULL.
    pair.server.accept_another(now);
    let mut port = port(now, 20, TransportLimits::default());
    let id = port.dialled(now, address()).unwrap();
    pair.client = End::new(port, id);
    pair.exchange();
    assert!(pair.client.is_open());
    let peer = pair.server.port.peer(pair.server.id).unwrap();
    assert_eq!((peer.mechanism, peer.key), (Mechanism::Null, None));
}

#[test]
fn mechanism_that_is_not_allowed_is_answered_with_the_own_one() {
    let now = Instant::now();
    let null = || {
        let mut port = port(now, 20, TransportLimits::default());
        let id = port.dialled(now, address()).unwrap();
        End::new(port, id)
    };
    let curve = || End::dialling(now, 20, &client_keys(server_key()));
    for (mechanisms, client, answer) in [
        (curve_only(), null(), b"CURVE\0".as_slice()),
        (Mechanisms::default(), curve(), b"NULL\0"),
        (Mechanisms { null: false, curve: None }, null(), b"NULL\0"),
        (Mechanisms { null: false, curve: None }, curve(), b"NULL\0"),
    ] {
        let server = End::accepting(now, 10, mechanisms);
        let mut pair = Pair::of(now, client, server);
        pair.exchange();
        assert_eq!(pair.server.ended(), Some("mechanism"));
        assert!(pair.passed[1][12..].starts_with(answer));
        assert!(!pair.client.is_open());
    }
}

#[test]
fn curve_is_not_spoken_without_randomness() {
    let now = Instant::now();
    let mut port = crate::pair::Port::new(now, TransportLimits::default());
    port.set_mechanisms(curve_only());
    assert_eq!(port.dialled_curve(now, address(), &client_keys(server_key())), None);
    let id = port.accepted(now, address()).unwrap();
    let client = End::dialling(now, 20, &client_keys(server_key()));
    let mut pair = Pair::of(now, client, End::new(port, id));
    pair.exchange();
    assert_eq!(pair.server.ended(), Some("mechanism"));
}

#[test]
fn handshake_has_three_seconds_and_a_silent_peer_no_more() {
    let mut pair = Pair::new();
    let greeting = pair.intercept();
    pair.server.receive(pair.now, &greeting);
    pair.pass(Duration::from_millis(1_500));
    assert_eq!(pair.server.ended(), None);
    pair.pass(Duration::from_millis(1_500));
    assert_eq!(pair.server.ended(), Some("handshake_timeout"));
}

#[test]
fn peer_that_is_not_known_makes_the_port_keep_little() {
    let mut pair = Pair::new();
    let greeting = pair.intercept();
    pair.server.receive(pair.now, &greeting);
    pair.server.receive(pair.now, b"\x04\xc9");
    assert_eq!(pair.server.ended(), Some("command_too_large"), "a HELLO has 200 bytes");

    let mut pair = Pair::new();
    let now = pair.now;
    let greeting = pair.intercept();
    pair.server.receive(now, &greeting);
    let answer = pair.server.written(now);
    pair.client.receive(now, &answer);
    let hello = pair.intercept();
    pair.server.receive(now, &hello);
    pair.server.receive(now, b"\x06\0\0\0\0\0\0\x04\0");
    for _ in 0..1_023 {
        pair.server.receive(now, b"x");
    }
    assert_eq!(pair.server.ended(), None);
    let kept = pair.server.port.input_bytes(pair.server.id);
    assert!(kept <= 2_048, "{kept} bytes are kept");
    pair.server.receive(now, b"x");
    assert_eq!(pair.server.ended(), Some("curve_command"));

    let mut pair = Pair::new();
    let greeting = pair.intercept();
    pair.server.receive(pair.now, &greeting);
    pair.server.receive(pair.now, b"\0\x05hello");
    assert_eq!(pair.server.ended(), Some("message_before_ready"));
}

#[test]
fn owner_is_told_the_key_before_anything_else() {
    let mut pair = Pair::new();
    let now = pair.now;
    for _ in 0..3 {
        let bytes = pair.client.written(now);
        pair.server.receive(now, &bytes);
        let bytes = pair.server.written(now);
        pair.client.receive(now, &bytes);
    }
    let id = pair.server.id;
    let asked = TransportEvent::Authenticate { id, key: client_key(), is_last: false };
    assert_eq!(pair.server.events, [asked]);
    assert!(pair.server.port.peer(id).is_none() && !pair.client.is_open());
}
