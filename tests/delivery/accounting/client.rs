//! A client that writes down every submission and what became of it.

use std::{
    collections::{HashMap, VecDeque},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use cluster_tests::{
    Delivery, Outcome, RawSocket, Stray, Submission, SubmissionId, Version, now_ns,
};

use super::{CLIENT_PATIENCE, Progress, SERVICES};

/// How often a request that may be repeated is submitted.
const ROUNDS_MAX: u8 = 4;

/// How long the client waits at most before it looks after its connections.
const TURN: Duration = Duration::from_millis(20);

/// How often the client of a dead node tries to connect again.
const RECONNECT_MILLISECONDS: i32 = 50;

/// What a client wrote down.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) submissions: Vec<Submission>,
    pub(super) strays: Vec<Stray>,
}

/// A connection to a node, and another that tells what becomes of it.
struct Connection {
    endpoint: String,
    socket: RawSocket,
    monitor: zmq::Socket,
    is_up: bool,
}

/// Submissions by their place in the log.
#[derive(Default)]
struct Open {
    by_id: HashMap<SubmissionId, usize>,
    /// In the order in which they are given up; some have been answered.
    deadlines: VecDeque<(Instant, SubmissionId)>,
    /// Replies that may still come.
    given_up: HashMap<SubmissionId, usize>,
}

pub(super) struct Client {
    number: u32,
    context: zmq::Context,
    connections: Vec<Connection>,
    random: fastrand::Rng,
    open: Open,
    log: Log,
    monitors: u32,
}

impl Client {
    pub(super) fn new(number: u32, endpoints: &[String], random: fastrand::Rng) -> Self {
        let context = zmq::Context::new();
        let mut client = Self {
            number,
            connections: Vec::new(),
            random,
            open: Open::default(),
            log: Log::default(),
            monitors: 0,
            context,
        };
        for endpoint in endpoints {
            let connection = client.connect(endpoint);
            client.connections.push(connection);
        }
        client
    }

    /// A new socket each time: what was handed to an old one is never sent.
    fn connect(&mut self, endpoint: &str) -> Connection {
        self.monitors += 1;
        let address = format!("inproc://monitor-{}-{}", self.number, self.monitors);
        let socket = RawSocket::connect(endpoint, &self.context, zmq::DEALER, |socket| {
            socket.set_reconnect_ivl(RECONNECT_MILLISECONDS)?;
            let events = zmq::SocketEvent::HANDSHAKE_SUCCEEDED as i32
                | zmq::SocketEvent::DISCONNECTED as i32;
            socket.monitor(&address, events)
        });
        let monitor = self.context.socket(zmq::PAIR).unwrap();
        monitor.connect(&address).unwrap();
        Connection { endpoint: endpoint.to_owned(), socket, monitor, is_up: false }
    }

    /// Submits so many requests, so many a second, and waits for what becomes of them.
    pub(super) fn run(mut self, requests: u32, per_second: u32, progress: &Progress) -> Log {
        let _guard = progress.abandon_on_panic();
        let period = Duration::from_secs(1) / per_second;
        let mut due_at = Instant::now();
        for request in 0..requests {
            // No faster after a pause than before it.
            due_at = (due_at + period).max(Instant::now() - period * 10);
            while Instant::now() < due_at || !self.connections.iter().any(|one| one.is_up) {
                if progress.is_abandoned() {
                    return self.log;
                }
                self.turn(due_at.saturating_duration_since(Instant::now()).min(TURN));
            }
            let id = SubmissionId { client: self.number, request, round: 0 };
            let service = self.random.usize(0..SERVICES.len());
            self.submit(id, service);
        }
        progress.submitting.fetch_sub(1, Ordering::SeqCst);
        while !self.open.by_id.is_empty() && !progress.is_abandoned() {
            self.turn(TURN);
        }
        self.log
    }

    fn submit(&mut self, id: SubmissionId, service: usize) {
        let up: Vec<usize> =
            (0..self.connections.len()).filter(|node| self.connections[*node].is_up).collect();
        // All are down only for a moment; then any will do.
        let node = self.random.choice(up).unwrap_or_default();
        let (name, _) = SERVICES[service];
        let request = Version::V01.request(name, &[id.to_string().as_bytes()]);
        let sent_at = now_ns();
        self.connections[node].socket.send(&request);
        let outcome = Outcome::Silence { until: u64::MAX };
        self.open.by_id.insert(id, self.log.submissions.len());
        self.open.deadlines.push_back((Instant::now() + CLIENT_PATIENCE, id));
        self.log.submissions.push(Submission { id, service, node, sent_at, outcome });
    }

    /// Waits for a message, takes all that are there, and looks after connections and deadlines.
    fn turn(&mut self, patience: Duration) {
        let mut items: Vec<zmq::PollItem<'_>> =
            self.connections.iter().map(|one| one.socket.zmq().as_poll_item(zmq::POLLIN)).collect();
        let milliseconds = i64::try_from(patience.as_millis()).unwrap();
        match zmq::poll(&mut items, milliseconds) {
            Ok(_) | Err(zmq::Error::EINTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
        for node in 0..self.connections.len() {
            // What came before the end of a connection counts.
            while let Some(reply) = self.connections[node].receive() {
                self.on_reply(node, &reply);
            }
            self.look_after(node);
        }
        self.give_up();
    }

    fn on_reply(&mut self, node: usize, reply: &[Vec<u8>]) {
        let at = now_ns();
        let body = reply.last().cloned().unwrap_or_default();
        let text = String::from_utf8_lossy(&body).into_owned();
        let answers = SubmissionId::parse(&text).ok_or_else(|| text.clone());
        let place = answers.as_ref().ok().and_then(|id| self.open.by_id.get(id).copied());
        if let (Ok(id), Some(place)) = (&answers, place) {
            let submission = &mut self.log.submissions[place];
            let (name, _) = SERVICES[submission.service];
            // From the node that was asked, and nothing but what was asked for.
            if submission.node == node && reply == Version::V01.reply(name, &[body.as_slice()]) {
                submission.outcome = Outcome::Answered { at };
                self.open.by_id.remove(id);
                return;
            }
        }
        let late = answers.as_ref().ok().and_then(|id| self.open.given_up.remove(id));
        if let Some(place) = late {
            self.log.submissions[place].outcome = Outcome::Answered { at };
            return;
        }
        self.log.strays.push(Stray { client: self.number, node, at, answers });
    }

    /// Notes whether the connection came up or broke; in place of a broken one there is a new one.
    fn look_after(&mut self, node: usize) {
        while let Some(event) = self.connections[node].event() {
            if event == zmq::SocketEvent::HANDSHAKE_SUCCEEDED.to_raw() {
                self.connections[node].is_up = true;
                continue;
            }
            // Replies may have come after the last look.
            while let Some(reply) = self.connections[node].receive() {
                self.on_reply(node, &reply);
            }
            let endpoint = self.connections[node].endpoint.clone();
            self.connections[node] = self.connect(&endpoint);
            self.on_connection_lost(node);
            return;
        }
    }

    fn on_connection_lost(&mut self, node: usize) {
        let outcome = Outcome::ConnectionLost { at: now_ns() };
        let submissions = &self.log.submissions;
        let is_lost = |place: &usize| submissions[*place].node == node;
        let lost: Vec<usize> = self.open.by_id.values().copied().filter(is_lost).collect();
        // No reply can come any more to those that were given up, either.
        self.open.given_up.retain(|_, place| submissions[*place].node != node);
        lost.into_iter().for_each(|place| self.lose(place, outcome));
    }

    fn give_up(&mut self) {
        while let Some((deadline, id)) = self.open.deadlines.front().copied() {
            if Instant::now() < deadline {
                return;
            }
            self.open.deadlines.pop_front();
            if let Some(place) = self.open.by_id.get(&id).copied() {
                self.open.given_up.insert(id, place);
                self.lose(place, Outcome::Silence { until: now_ns() });
            }
        }
    }

    /// Writes the loss down; what may be repeated is submitted again.
    fn lose(&mut self, place: usize, outcome: Outcome) {
        let submission = &mut self.log.submissions[place];
        submission.outcome = outcome;
        let Submission { id, service, .. } = *submission;
        self.open.by_id.remove(&id);
        let (_, delivery) = SERVICES[service];
        let round = id.round + 1;
        if delivery == Delivery::AtLeastOnce && round < ROUNDS_MAX {
            self.submit(SubmissionId { round, ..id }, service);
        }
    }
}

impl Connection {
    fn receive(&self) -> Option<Vec<Vec<u8>>> {
        match self.socket.zmq().recv_multipart(zmq::DONTWAIT) {
            Ok(message) => Some(message),
            Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => None,
            Err(error) => panic!("receive: {error}"),
        }
    }

    /// The next event of the connection.
    fn event(&self) -> Option<u16> {
        let frames = match self.monitor.recv_multipart(zmq::DONTWAIT) {
            Ok(frames) => frames,
            Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => return None,
            Err(error) => panic!("monitor: {error}"),
        };
        let event = frames.first().and_then(|frame| frame.first_chunk::<2>());
        event.map(|bytes| u16::from_ne_bytes(*bytes))
    }
}
