//! The client's state machine in virtual time.

mod steering;

use std::collections::BTreeMap;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(100);
const REFRESH: Duration = Duration::from_secs(1);
const RETURN: Duration = Duration::from_secs(3);

/// A core, its clock, and the sockets that a shell would have.
struct CoreTest {
    core: ClientCore,
    now: Instant,
    open: BTreeMap<ConnectionId, String>,
    /// Requests, and the connections that they were sent on.
    sent: Vec<(ConnectionId, Vec<Vec<u8>>)>,
    /// Connections on which `mmi.endpoints` was asked.
    asked: Vec<ConnectionId>,
    done: Vec<(RequestId, Result<Reply, CallError>)>,
}

fn settings(version: Version, endpoints: &[&str]) -> CoreSettings {
    CoreSettings {
        endpoints: endpoints.iter().map(|endpoint| format!("tcp://{endpoint}:1")).collect(),
        version,
        timeout: TIMEOUT,
        attempts: 3,
        reconnect_min: PAUSE,
        reconnect_max: PAUSE * 4,
        endpoints_refresh: REFRESH,
        return_interval: RETURN,
        unreachable_timeout: Duration::from_secs(60),
        limits: MessageLimits { bytes_max: 1_000, frames_max: 10 },
        handshake_min: Duration::ZERO,
    }
}

impl CoreTest {
    fn new(version: Version, endpoints: &[&str]) -> Self {
        Self::with(settings(version, endpoints))
    }

    fn with(settings: CoreSettings) -> Self {
        let now = Instant::now();
        let core = ClientCore::new(now, settings, 1);
        let (open, sent, asked, done) = Default::default();
        Self { core, now, open, sent, asked, done }
    }

    fn submit(&mut self, lane: Lane) -> RequestId {
        self.submit_as(lane, true)
    }

    fn submit_as(&mut self, lane: Lane, is_idempotent: bool) -> RequestId {
        self.submit_body(lane, is_idempotent, vec![b"x".to_vec()])
    }

    fn submit_body(&mut self, lane: Lane, is_idempotent: bool, body: Vec<Vec<u8>>) -> RequestId {
        let service = ServiceName::try_from("echo").unwrap();
        let asked =
            NewRequest { lane, service, body, is_idempotent, timeout: None, attempts: None };
        let id = self.core.submit(self.now, asked);
        self.run_effects();
        id
    }

    fn handle(&mut self, input: ClientInput) {
        self.core.handle_input(self.now, input);
        self.run_effects();
    }

    fn advance(&mut self, time: Duration) {
        self.now += time;
        self.core.handle_timeout(self.now);
        self.run_effects();
        assert!(self.core.poll_timeout().is_none_or(|at| at > self.now), "the shell would spin");
    }

    fn run_effects(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                ClientEffect::Open { connection, endpoint } => {
                    assert_eq!(self.open.insert(connection, endpoint), None, "opened twice");
                }
                ClientEffect::Send { connection, id, frames } => {
                    assert!(self.open.contains_key(&connection), "sent without a socket");
                    match id {
                        Some(_) => self.sent.push((connection, frames)),
                        None => self.asked.push(connection),
                    }
                }
                ClientEffect::Close { connection } => {
                    assert!(self.open.remove(&connection).is_some(), "closed twice");
                }
                ClientEffect::Notify(Notice::Done { id, result }) => self.done.push((id, result)),
                ClientEffect::Notify(Notice::Partial { .. }) => {}
            }
        }
    }

    /// Hosts of the open sockets, in the order of opening.
    fn hosts(&self) -> Vec<&str> {
        self.open.values().map(|endpoint| host(endpoint)).collect()
    }

    /// The last socket to this host.
    fn socket(&self, wanted: &str) -> ConnectionId {
        let mut sockets = self.open.iter().rev();
        *sockets.find(|(_, endpoint)| host(endpoint) == wanted).expect("a socket to it").0
    }

    fn up(&mut self, host: &str) -> ConnectionId {
        let connection = self.socket(host);
        self.handle(ClientInput::Up { connection });
        connection
    }

    fn down(&mut self, host: &str) {
        self.handle(ClientInput::Down { connection: self.socket(host) });
    }

    fn answer(&mut self, connection: ConnectionId, request: Vec<Vec<u8>>) {
        self.handle(ClientInput::Received { connection, frames: request });
    }

    /// Makes a request that is answered at this host.
    fn call(&mut self, wanted: &str) {
        let (sent, before) = (self.sent.len(), self.done.len());
        self.submit(Lane::Exclusive);
        if self.sent.len() == sent {
            self.up(wanted);
        }
        let (connection, request) = self.sent.last().unwrap().clone();
        assert_eq!(host(&self.open[&connection]), wanted);
        self.answer(connection, request);
        assert!(self.done[before].1.is_ok());
    }

    /// Answers `mmi.endpoints`.
    fn list(&mut self, connection: ConnectionId, hosts: &[&str]) {
        let nodes = hosts.iter().map(|host| format!(r#"{{"endpoint":"tcp://{host}:1"}}"#));
        let page = format!(r#"{{"endpoints":[{}]}}"#, nodes.collect::<Vec<_>>().join(","));
        self.answer_listing(connection, &["200", &page]);
    }

    /// Answers `mmi.endpoints` as this node, of which the others know hosts of the same name.
    fn list_as(&mut self, connection: ConnectionId, node: &str, hosts: &[&str]) {
        let entry = |host: &&str| format!(r#"{{"node":"{host}","endpoint":"tcp://{host}:1"}}"#);
        let nodes = hosts.iter().map(entry).collect::<Vec<_>>().join(",");
        let page = format!(r#"{{"endpoints":[{nodes}],"node":"{node}"}}"#);
        self.answer_listing(connection, &["200", &page]);
    }

    fn answer_listing(&mut self, connection: ConnectionId, body: &[&str]) {
        let body = body.iter().map(|frame| frame.as_bytes().to_vec());
        let head = [&b""[..], b"MDPC01", b"mmi.endpoints"].map(<[u8]>::to_vec);
        self.answer(connection, head.into_iter().chain(body).collect());
    }
}

fn host(endpoint: &str) -> &str {
    endpoint.strip_prefix("tcp://").and_then(|rest| rest.strip_suffix(":1")).unwrap()
}

#[test]
fn unreachable_round_is_followed_by_a_pause_with_jitter_that_grows() {
    let mut test = CoreTest::new(Version::V01, &["a", "b"]);
    test.core.settings.timeout = Duration::from_secs(60);
    test.submit(Lane::Exclusive);

    for longest in [PAUSE, PAUSE * 2, PAUSE * 4, PAUSE * 4] {
        assert_eq!(test.hosts(), ["a"]);
        test.down("a");
        assert_eq!(test.hosts(), ["b"]);
        test.down("b");
        assert_eq!(test.hosts(), [""; 0]);
        let pause = test.core.poll_timeout().unwrap() - test.now;
        assert!(pause >= longest / 2 && pause <= longest, "{pause:?} of {longest:?}");
        test.advance(pause);
    }
    assert!(test.core.counters().requests_sent == 0 && test.done.is_empty());

    test.up("a");
    test.down("a");
    test.down("b");
    let pause = test.core.poll_timeout().unwrap() - test.now;
    assert!(pause <= PAUSE, "{pause:?}: short again after a connection");
}

#[test]
fn all_requests_that_wait_have_one_pause() {
    let mut test = CoreTest::new(Version::V01, &["a"]);
    for _ in 0..10 {
        test.submit(Lane::Exclusive);
    }

    for connection in test.open.keys().copied().collect::<Vec<_>>() {
        test.handle(ClientInput::Down { connection });
    }

    let pause = test.core.poll_timeout().unwrap() - test.now;
    assert!(pause <= PAUSE, "{pause:?}");
    test.advance(pause);
    assert_eq!(test.hosts().len(), 10);
}

/// A broker counts every frame of a message and every byte of them.
#[test]
fn request_is_refused_exactly_if_its_message_is_beyond_the_limits() {
    let bytes_of = |frames: &[Vec<u8>]| frames.iter().map(Vec::len).sum::<usize>();
    for version in [Version::V01, Version::V02] {
        for lane in [Lane::Exclusive, Lane::Shared] {
            let mut test = CoreTest::new(version, &["a"]);
            let MessageLimits { bytes_max, frames_max } = test.core.limits();
            test.submit(lane);
            test.up("a");
            let (_, message) = &test.sent[0];
            let (head_frames, head_bytes) = (message.len() - 1, bytes_of(message) - 1);
            for (frames, bytes) in
                [(frames_max, bytes_max), (frames_max + 1, bytes_max), (frames_max, bytes_max + 1)]
            {
                let mut body = vec![Vec::new(); frames - head_frames];
                body[0] = vec![7; bytes - head_bytes];
                let id = test.submit_body(lane, true, body);

                let refused = test.done.iter().find(|(done, _)| *done == id);
                let refused = refused.map(|(_, result)| result.as_ref().unwrap_err());
                let fits = (frames, bytes) == (frames_max, bytes_max);
                assert_eq!(refused.is_none(), fits, "{version:?} {lane:?} {frames} {bytes}");
                if let Some(error) = refused {
                    let expected =
                        CallError::RequestTooLarge { bytes, frames, bytes_max, frames_max };
                    assert_eq!(format!("{error:?}"), format!("{expected:?}"));
                }
            }
        }
    }
}

#[test]
fn slow_request_moves_and_leaves_the_others_on_their_connection() {
    let mut test = CoreTest::new(Version::V01, &["a", "b"]);
    let slow = test.submit(Lane::Shared);
    let old = test.up("a");
    let slow_request = test.sent[0].1.clone();
    test.advance(TIMEOUT / 2);
    let other = test.submit(Lane::Shared);
    let other_request = test.sent[1].1.clone();
    assert_eq!(test.sent[1].0, old, "one socket for both");

    test.advance(TIMEOUT / 2);
    assert_eq!(test.hosts(), ["a", "b"]);
    test.up("b");
    assert_eq!(test.sent[2].1, slow_request);

    // The old connection serves what it has, also late; then it is closed.
    test.answer(old, slow_request);
    test.answer(old, other_request);
    let done: Vec<_> = test.done.iter().map(|(id, result)| (*id, result.is_ok())).collect();
    assert_eq!(done, [(slow, true), (other, true)]);
    assert!(!test.open.contains_key(&old));
}

#[test]
fn unanswered_request_takes_its_exclusive_connection_with_it() {
    let mut test = CoreTest::new(Version::V02, &["a"]);
    let id = test.submit(Lane::Exclusive);
    let old = test.up("a");

    test.handle(ClientInput::Cancel { id });

    assert_eq!(test.hosts(), [""; 0]);
    assert_eq!(test.core.poll_timeout(), None);
    test.submit(Lane::Exclusive);
    assert_ne!(test.up("a"), old);
}

#[test]
fn answered_connection_is_used_again() {
    let mut test = CoreTest::new(Version::V01, &["a", "b"]);
    test.submit(Lane::Exclusive);
    let connection = test.up("a");
    test.answer(connection, test.sent[0].1.clone());

    test.call("a");

    assert_eq!(test.sent[1].0, connection);
    assert_eq!(test.hosts(), ["a"]);
}

#[test]
fn message_before_the_event_says_that_a_connection_is_established() {
    let mut test = CoreTest::new(Version::V01, &["a"]);
    test.submit(Lane::Exclusive);
    let (connection, request) = test.sent[0].clone();

    test.answer(connection, request);
    test.up("a");

    assert!(test.done[0].1.is_ok());
    assert_eq!((test.asked, test.core.counters().requests_sent), (vec![connection], 1));
    assert_eq!(test.open.len(), 1, "it is used again");
}

#[test]
fn request_that_is_not_idempotent_leaves_only_when_its_connection_is_established() {
    let mut test = CoreTest::new(Version::V01, &["a", "b"]);
    test.submit_as(Lane::Exclusive, false);
    assert!(test.sent.is_empty());

    // Never sent, so it may go elsewhere whatever it is.
    test.down("a");
    assert!(test.sent.is_empty());
    test.up("b");

    assert_eq!(test.sent.len(), 1);
    assert!(test.done.is_empty());
}

#[test]
fn request_that_may_have_been_executed_is_not_sent_again() {
    for is_lost in [true, false] {
        let mut test = CoreTest::new(Version::V01, &["a", "b"]);
        let id = test.submit_as(Lane::Shared, false);
        let other = test.submit_as(Lane::Shared, true);
        test.up("a");

        if is_lost {
            test.down("a");
        } else {
            test.advance(TIMEOUT);
        }

        let [(done, Err(error))] = &test.done[..] else { panic!("{:?}", test.done) };
        let expected = if is_lost { NoReplyCause::ConnectionLost } else { NoReplyCause::Timeout };
        assert!(
            matches!(error, CallError::MayHaveBeenExecuted { cause, .. } if *cause == expected),
            "{error:?}"
        );
        assert_eq!((*done, error.request_id()), (id, Some(id)));
        assert!(error.to_string().contains(&id.to_string()), "{error}");
        test.up("b");
        let again = test.sent.last().unwrap().clone();
        assert_eq!(again.1[0], other.to_frame(), "the other one is sent again");
        assert_eq!((test.sent.len(), test.core.counters().retries), (3, 1));
    }
}

#[test]
fn request_that_the_socket_did_not_take_has_not_left() {
    let mut test = CoreTest::new(Version::V01, &["a", "b"]);
    let id = test.submit_as(Lane::Shared, false);
    let connection = test.up("a");

    test.handle(ClientInput::NotTaken { connection, id: Some(id) });

    assert!(test.done.is_empty());
    test.up("b");
    assert_eq!(test.core.counters().requests_sent, 1);
}

/// One random thing that the outside may do.
fn step(test: &mut CoreTest, luck: &mut fastrand::Rng, lane: Lane) {
    let open: Vec<_> = test.open.keys().copied().collect();
    let sent = test.sent.get(luck.usize(..test.sent.len().max(1))).cloned();
    match (luck.u8(..10), luck.choice(&open).copied(), sent) {
        (0 | 1, _, _) => {
            test.submit_as(lane, luck.bool());
        }
        (2, Some(connection), _) if !test.core.connections.is_up(connection) => {
            test.handle(ClientInput::Up { connection });
        }
        (3, Some(connection), _) => test.handle(ClientInput::Down { connection }),
        (4, Some(connection), Some((_, frames))) => test.answer(connection, frames),
        (5, _, Some((connection, mut frames))) => {
            // An answer where it belongs, in 0.2 a part or the end.
            if let Some(command) = frames.get_mut(1).filter(|command| command.len() == 1) {
                *command = vec![luck.u8(2..=3)];
            }
            test.answer(connection, frames);
        }
        (6, _, _) => test.advance(Duration::from_millis(luck.u64(..5_000))),
        (7, Some(connection), _) => {
            let hosts = ["a", "b", "c", "d", "e"];
            let count = luck.usize(..hosts.len());
            test.list(connection, &hosts[luck.usize(..=count)..count]);
        }
        (_, Some(connection), _) => {
            let frames = (0..luck.usize(..5)).map(|_| vec![luck.u8(..4); luck.usize(..3)]);
            let frames = frames.collect();
            test.answer(connection, frames);
        }
        (_, None, _) => {}
    }
}

#[test]
fn every_request_ends_exactly_once_whatever_happens() {
    for seed in 0..400 {
        let mut luck = fastrand::Rng::with_seed(seed);
        let (version, lane) = [
            (Version::V01, Lane::Shared),
            (Version::V01, Lane::Exclusive),
            (Version::V02, Lane::Exclusive),
        ][luck.usize(..3)];
        let mut test = CoreTest::new(version, &["a", "b", "c"][..luck.usize(1..=3)]);

        for _ in 0..200 {
            step(&mut test, &mut luck, lane);
        }
        // Silence from here on ends everything: all attempts, then the search for a broker.
        for _ in 0..(TIMEOUT.as_millis() * 4 / PAUSE.as_millis()) {
            test.advance(PAUSE);
        }

        let mut done: Vec<_> = test.done.iter().map(|(id, _)| id.number()).collect();
        done.sort_unstable();
        let all: Vec<_> = (1..test.core.ids.next_id().number()).collect();
        assert_eq!(done, all, "seed {seed}");
        assert_eq!(test.core.poll_timeout(), None, "seed {seed}");
        assert!(test.core.request_by_id.is_empty(), "seed {seed}");
    }
}

#[test]
fn request_that_brokers_would_drop_is_refused_before_it_is_sent() {
    let mut test = CoreTest::new(Version::V01, &["a"]);
    let submit = |test: &mut CoreTest, body: Vec<Vec<u8>>| {
        let service = ServiceName::try_from("echo").unwrap();
        let lane = Lane::Exclusive;
        let (is_idempotent, timeout, attempts) = (true, None, None);
        let asked = NewRequest { lane, service, body, is_idempotent, timeout, attempts };
        test.core.submit(test.now, asked);
        test.run_effects();
        test.done.pop().map(|(_, result)| result.unwrap_err().to_string())
    };

    // The header has 6 bytes and the name 4; with the empty one these are three frames.
    let bytes = submit(&mut test, vec![vec![b'x'; 991]]).unwrap();
    assert!(bytes.contains("1001 bytes") && bytes.contains("at most 1000 bytes"), "{bytes}");
    let frames = submit(&mut test, vec![Vec::new(); 8]).unwrap();
    assert!(frames.contains("11 frames") && frames.contains("in 10 frames"), "{frames}");
    assert_eq!(test.hosts(), [""; 0], "nothing is sent");

    assert_eq!(submit(&mut test, vec![vec![b'x'; 990]]), None);
    assert_eq!(test.hosts(), ["a"]);
    // What the broker says holds.
    let connection = test.up("a");
    let page = r#"{"endpoints":[],"max_message_bytes":2000,"max_message_frames":20}"#;
    test.answer_listing(connection, &["200", page]);
    assert_eq!(submit(&mut test, vec![vec![b'x'; 991]]), None);
    assert!(submit(&mut test, vec![vec![b'x'; 1_991]]).is_some());
}

const HANDSHAKE: Duration = Duration::from_secs(5);

impl CoreTest {
    fn refuse(&mut self, connection: ConnectionId) {
        let endpoint = self.open[&connection].clone();
        self.handle(ClientInput::Examined { endpoint, failure: ConnectFailure::NotAdmitted });
        self.handle(ClientInput::Down { connection });
    }

    fn only(&self) -> ConnectionId {
        assert_eq!(self.open.len(), 1, "{:?}", self.open);
        *self.open.keys().next().unwrap()
    }
}

#[test]
fn refused_client_does_not_connect_again_before_a_pause_that_grows() {
    let mut test = CoreTest::with(CoreSettings {
        timeout: Duration::from_secs(600),
        unreachable_timeout: Duration::from_secs(600),
        ..settings(Version::V01, &["a"])
    });
    test.submit(Lane::Exclusive);
    for full_s in [1, 2, 4, 8, 16, 30, 30] {
        let connection = test.only();
        test.refuse(connection);
        let full = Duration::from_secs(full_s);

        test.advance(full.mul_f64(0.49));
        assert!(test.open.is_empty(), "{full:?}");
        test.advance(full.mul_f64(0.52));
    }
}

#[test]
fn attempt_waits_for_the_handshake_of_its_connection() {
    let mut test = CoreTest::with(CoreSettings {
        timeout: Duration::from_secs(1),
        attempts: 1,
        handshake_min: HANDSHAKE,
        ..settings(Version::V01, &["a"])
    });
    test.submit(Lane::Exclusive);
    let connection = test.only();
    test.advance(Duration::from_secs(2));
    assert_eq!((test.only(), test.done.len()), (connection, 0));

    test.handle(ClientInput::Up { connection });
    test.advance(Duration::from_millis(900));
    assert_eq!(test.done.len(), 0, "its time begins anew when it leaves");
    test.advance(Duration::from_millis(200));
    assert_eq!(test.done.len(), 1);
}

#[test]
fn handshake_without_an_end_does_not_hold_up_an_attempt_forever() {
    let mut test = CoreTest::with(CoreSettings {
        timeout: Duration::from_secs(1),
        attempts: 1,
        handshake_min: HANDSHAKE,
        ..settings(Version::V01, &["a"])
    });
    test.submit(Lane::Exclusive);
    test.advance(Duration::from_secs(2));
    test.advance(HANDSHAKE);
    assert!(matches!(test.done[0].1, Err(CallError::Unreachable { .. })));
}
