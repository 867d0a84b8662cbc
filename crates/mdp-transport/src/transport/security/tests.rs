use super::*;
use crate::{Flow, KeyPair, SecretKey, TransportLimits, curve::JobKind};

type Port = Transport<u32>;

/// The labels of both ports.
const SERVER: &[u8; 8] = b"server  ";
const CLIENT: &[u8; 8] = b"client  ";

fn address() -> PeerAddress {
    PeerAddress::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)))
}

fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

/// A port that accepts and hands its jobs out, and one that dials it, with a connection each.
fn pair(seed: u8) -> ((Port, ConnectionId), (Port, ConnectionId), Instant) {
    #[expect(clippy::disallowed_methods, reason = "an instant can not be made from nothing")]
    let now = Instant::now();
    let mut server = Port::new(now, TransportLimits::default());
    server.seed(SERVER, &[seed; 32]);
    server.set_jobs_outside(true);
    let curve = Some(ServerKeys::new(secret(1), None));
    server.set_mechanisms(Mechanisms { null: false, curve });
    let accepted = server.accepted(now, address()).unwrap();
    let mut client = Port::new(now, TransportLimits::default());
    client.seed(CLIENT, &[seed + 100; 32]);
    let keys = ClientKeys { own: KeyPair::from(secret(3)), server: secret(1).public() };
    let dialled = client.dialled_curve(now, address(), &keys).unwrap();
    ((server, accepted), (client, dialled), now)
}

/// What one port has written goes to the other one.
fn pass(now: Instant, from: &mut (Port, ConnectionId), to: &mut (Port, ConnectionId)) {
    let bytes: Vec<u8> = from.0.output(from.1).iter().flat_map(|slice| slice.to_vec()).collect();
    from.0.transmitted(now, from.1, bytes.len());
    assert_eq!(to.0.received(now, to.1, &bytes, |_, _| Flow::Continue), bytes.len());
}

/// The job of a connection whose peer has said HELLO.
fn with_job(seed: u8) -> ((Port, ConnectionId), (Port, ConnectionId), Instant, CurveJob) {
    let (mut server, mut client, now) = pair(seed);
    for _ in 0..2 {
        pass(now, &mut client, &mut server);
        pass(now, &mut server, &mut client);
    }
    let job = server.0.poll_job().unwrap();
    (server, client, now, job)
}

#[test]
fn result_of_another_port_is_ignored_though_the_connection_has_the_same_number() {
    let (mut server, mut client, now, job) = with_job(1);
    let (other, _, _, foreign) = with_job(2);
    assert_eq!((server.1, job.id()), (other.1, foreign.id()));
    server.0.job_done(now, foreign.run());
    assert_eq!((server.0.output_bytes(server.1), server.0.has_events()), (0, false));
    // And the own one still counts.
    server.0.job_done(now, job.run());
    pass(now, &mut server, &mut client);
    pass(now, &mut client, &mut server);
    let job = server.0.poll_job().unwrap();
    server.0.job_done(now, job.run());
    assert!(matches!(server.0.poll_event(), Some(TransportEvent::Authenticate { .. })));
}

#[test]
fn result_of_a_job_of_another_kind_is_ignored() {
    let (mut server, _, now, job) = with_job(1);
    let mut result = job.run();
    result.place.kind = JobKind::Initiate;
    server.0.job_done(now, result);
    assert_eq!((server.0.output_bytes(server.1), server.0.has_events()), (0, false));
}

#[test]
fn result_before_a_job_was_asked_for_is_ignored() {
    let (mut server, _, now, job) = with_job(1);
    let mut result = job.run();
    let silent = server.0.accepted(now, address()).unwrap();
    let greeting = server.0.output_bytes(silent);
    result.place.id = silent;
    server.0.job_done(now, result);
    assert_eq!((server.0.output_bytes(silent), server.0.has_events()), (greeting, false));
}

#[test]
fn jobs_of_connections_that_ended_do_not_pile_up() {
    let (mut server, mut client, now) = pair(1);
    pass(now, &mut client, &mut server);
    pass(now, &mut server, &mut client);
    let hello: Vec<u8> = client.0.output(client.1).iter().flat_map(|it| it.to_vec()).collect();
    let greeting = crate::greeting::encode(crate::Mechanism::Curve, false);
    let bytes = [greeting.as_slice(), &hello].concat();
    for _ in 0..10 * JOBS_KEPT {
        let id = server.0.accepted(now, address()).unwrap();
        server.0.received(now, id, &bytes, |_, _| Flow::Continue);
        server.0.closed(id);
        assert!(server.0.poll_closing().is_some());
    }
    assert!(server.0.security.jobs.len() <= 2 * JOBS_KEPT + 1);
    // Those that are still waited for stay.
    pass(now, &mut client, &mut server);
    assert_eq!(server.0.poll_job().unwrap().id(), server.1);
}

#[test]
fn same_seed_at_two_ports_gives_other_keys() {
    let hello = |label| {
        let (mut server, mut client, now) = pair(1);
        let keys = ClientKeys { own: KeyPair::from(secret(3)), server: secret(1).public() };
        client.0 = Port::new(now, TransportLimits::default());
        client.0.seed(label, &[7; 32]);
        client.1 = client.0.dialled_curve(now, address(), &keys).unwrap();
        pass(now, &mut client, &mut server);
        pass(now, &mut server, &mut client);
        client.0.output(client.1).iter().flat_map(|slice| slice.to_vec()).collect::<Vec<u8>>()
    };
    assert_eq!(hello(CLIENT), hello(CLIENT));
    assert_ne!(hello(CLIENT), hello(SERVER), "the short-term public key is another one");
}

/// How a secret would show: as a list of numbers, or in hexadecimal digits, or as Z85. Of each the first part.
fn traces(secret: &[u8]) -> Vec<String> {
    let start = &secret[..8];
    let list: Vec<String> = start.iter().map(u8::to_string).collect();
    let hex = |digits: fn(&u8) -> String| start.iter().map(digits).collect::<String>();
    vec![
        list.join(","),
        hex(|byte| format!("{byte:02x}")),
        hex(|byte| format!("{byte:02X}")),
        start.escape_ascii().to_string(),
    ]
}

/// No secret of the handshake under way is in what a thing shows of itself.
fn check_shown(secrets: &[Vec<u8>], thing: &dyn std::fmt::Debug) {
    for shown in [format!("{thing:?}"), format!("{thing:#?}")] {
        let shown = shown.replace(char::is_whitespace, "");
        for secret in secrets {
            for trace in traces(secret) {
                assert!(!shown.contains(&trace), "{trace} is in {shown}");
            }
        }
    }
}

#[test]
fn nothing_shows_a_secret_at_any_step_of_a_handshake() {
    let (mut server, mut client, now) = pair(1);
    let mut at_server = Entropy::new(SERVER, &[1; 32]);
    let mut at_client = Entropy::new(CLIENT, &[101; 32]);
    let cookie_key = at_server.draw::<32>().to_vec();
    let short_terms =
        [at_server.draw::<64>()[..32].to_vec(), at_client.draw::<48>()[..32].to_vec()];
    let mut secrets = vec![vec![1; 32], vec![3; 32], vec![101; 32], cookie_key];
    secrets.extend(short_terms);
    for _ in 0..4 {
        pass(now, &mut client, &mut server);
        check_shown(&secrets, &server.0);
        check_shown(&secrets, &client.0);
        if let Some(job) = server.0.poll_job() {
            check_shown(&secrets, &job);
            let result = job.run();
            check_shown(&secrets, &result);
            server.0.job_done(now, result);
        }
        if let Some(TransportEvent::Authenticate { id, is_last, .. }) = server.0.poll_event() {
            server.0.authenticated(now, id, is_last, Some(IdentityToken(1)));
        }
        check_shown(&secrets, &server.0);
        pass(now, &mut server, &mut client);
    }
    assert!(server.0.peer(server.1).is_some() && client.0.peer(client.1).is_some());
    check_shown(&secrets, &server.0);
    check_shown(&secrets, &client.0);
    let keys = ServerKeys::new(secret(1), Some(secret(3)));
    check_shown(&secrets, &keys);
    check_shown(&secrets, &Mechanisms { null: false, curve: Some(keys) });
    check_shown(
        &secrets,
        &ClientKeys { own: KeyPair::from(secret(3)), server: secret(1).public() },
    );
}

#[test]
fn check_of_what_is_shown_sees_a_secret() {
    let secret: Vec<u8> = (1..33).collect();
    let seen = |thing: &dyn std::fmt::Debug| {
        let shown = format!("{thing:#?}").replace(char::is_whitespace, "");
        traces(&secret).iter().any(|trace| shown.contains(trace))
    };
    assert!(
        seen(&secret) && seen(&secret.iter().map(|it| format!("{it:02x}")).collect::<String>())
    );
}
