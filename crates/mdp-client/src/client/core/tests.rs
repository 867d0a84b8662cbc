//! The client's state machine in virtual time.

use std::collections::BTreeMap;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(100);

/// A core, its clock, and the sockets that a shell would have.
struct CoreTest {
    core: ClientCore,
    now: Instant,
    open: BTreeMap<ConnectionId, String>,
    sent: Vec<(ConnectionId, Vec<Vec<u8>>)>,
    done: Vec<(RequestId, Result<Reply, CallError>)>,
}

impl CoreTest {
    fn new(version: Version, endpoints: &[&str]) -> Self {
        let core = ClientCore::new(CoreSettings {
            endpoints: endpoints.iter().map(|endpoint| (*endpoint).to_owned()).collect(),
            version,
            timeout: TIMEOUT,
            attempts: 3,
            unreachable_pause: PAUSE,
        });
        let (open, sent, done) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { core, now: Instant::now(), open, sent, done }
    }

    fn submit(&mut self, lane: Lane) -> RequestId {
        let service = ServiceName::try_from("echo").unwrap();
        let id = self.core.submit(self.now, lane, service, vec![b"x".to_vec()]);
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
    }

    fn run_effects(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                ClientEffect::Open { connection, endpoint } => {
                    assert_eq!(self.open.insert(connection, endpoint), None, "opened twice");
                }
                ClientEffect::Send { connection, frames } => {
                    assert!(self.open.contains_key(&connection), "sent without a socket");
                    self.sent.push((connection, frames));
                }
                ClientEffect::Close { connection } => {
                    assert!(self.open.remove(&connection).is_some(), "closed twice");
                }
                ClientEffect::Notify(Notice::Done { id, result }) => self.done.push((id, result)),
                ClientEffect::Notify(Notice::Partial { .. }) => {}
            }
        }
    }

    /// Endpoints of the open sockets, in the order of opening.
    fn endpoints(&self) -> Vec<&str> {
        self.open.values().map(String::as_str).collect()
    }

    fn last_connection(&self) -> ConnectionId {
        self.sent.last().unwrap().0
    }

    fn answer(&mut self, connection: ConnectionId, request: Vec<Vec<u8>>) {
        self.handle(ClientInput::Received { connection, frames: request });
    }
}

#[test]
fn unreachable_round_is_followed_by_a_pause() {
    let mut test = CoreTest::new(Version::V01, &["a", "b"]);
    test.submit(Lane::Exclusive);
    assert_eq!(test.endpoints(), ["a"]);

    test.handle(ClientInput::Down { connection: test.last_connection() });
    assert_eq!(test.endpoints(), ["b"]);
    test.handle(ClientInput::Down { connection: test.last_connection() });
    assert_eq!(test.endpoints(), [""; 0]);
    assert_eq!(test.core.poll_timeout(), Some(test.now + PAUSE));

    test.advance(PAUSE);
    assert_eq!(test.endpoints(), ["a"]);
    assert!(test.done.is_empty());
}

#[test]
fn slow_request_moves_and_leaves_the_others_on_their_connection() {
    let mut test = CoreTest::new(Version::V01, &["a", "b"]);
    let slow = test.submit(Lane::Shared);
    let (old, slow_request) = test.sent[0].clone();
    test.handle(ClientInput::Up { connection: old });
    test.advance(TIMEOUT / 2);
    let other = test.submit(Lane::Shared);
    let other_request = test.sent[1].1.clone();
    assert_eq!(test.sent[1].0, old, "one socket for both");

    test.advance(TIMEOUT / 2);
    assert_eq!(test.endpoints(), ["a", "b"]);
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
    let old = test.last_connection();
    test.handle(ClientInput::Up { connection: old });

    test.handle(ClientInput::Cancel { id });

    assert_eq!(test.endpoints(), [""; 0]);
    assert_eq!(test.core.poll_timeout(), None);
    test.submit(Lane::Exclusive);
    assert_ne!(test.last_connection(), old);
}

#[test]
fn answered_connection_is_used_again() {
    let mut test = CoreTest::new(Version::V01, &["a", "b"]);
    test.submit(Lane::Exclusive);
    let (connection, request) = test.sent[0].clone();
    test.handle(ClientInput::Up { connection });
    test.answer(connection, request);

    test.submit(Lane::Exclusive);

    assert_eq!(test.last_connection(), connection);
    assert_eq!(test.endpoints(), ["a"]);
}

/// One random thing that the outside may do.
fn step(test: &mut CoreTest, luck: &mut fastrand::Rng, lane: Lane) {
    let open: Vec<_> = test.open.keys().copied().collect();
    let sent = test.sent.get(luck.usize(..test.sent.len().max(1))).cloned();
    match (luck.u8(..8), luck.choice(&open).copied(), sent) {
        (0 | 1, _, _) => {
            test.submit(lane);
        }
        (2, Some(connection), _) => test.handle(ClientInput::Up { connection }),
        (3, Some(connection), _) => test.handle(ClientInput::Down { connection }),
        (4, Some(connection), Some((_, frames))) => test.answer(connection, frames),
        (5, _, Some((connection, mut frames))) => {
            // An answer where it belongs, in 0.2 a part or the end.
            if let Some(command) = frames.get_mut(1).filter(|command| command.len() == 1) {
                *command = vec![luck.u8(2..=3)];
            }
            test.answer(connection, frames);
        }
        (6, _, _) => test.advance(Duration::from_millis(luck.u64(..700))),
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
        // Silence from here on ends everything within all attempts.
        for _ in 0..(TIMEOUT.as_millis() * 3 / PAUSE.as_millis() + 3) {
            test.advance(PAUSE);
        }

        let mut done: Vec<_> = test.done.iter().map(|(id, _)| id.0).collect();
        done.sort_unstable();
        let all: Vec<_> = (1..=test.core.last_request).collect();
        assert_eq!(done, all, "seed {seed}");
        assert_eq!(test.core.poll_timeout(), None, "seed {seed}");
        assert!(test.core.request_by_id.is_empty(), "seed {seed}");
    }
}
