//! The client's shell: runs the effects of its state machine on sockets.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    net::SocketAddr,
    time::{Duration, Instant},
};

use mdp_wire::{ServiceName, Version};

use crate::{
    CallOptions, ClientCounters, ClientOptions, ConnectError, ConnectFailure, Correlation,
    RequestId,
    bell::BellListener,
    client::{
        connections::ConnectionId,
        core::{ClientCore, ClientEffect, ClientInput, CoreSettings, Notice},
        outstanding::{Lane, NewRequest},
    },
    dialer::{DialEvent, Dialed, Dialer},
    endpoint,
    keys::LinkKeys,
    listing::{Listing, MessageLimits},
    options::REQUEST_FRAMES_MAX,
    socket::{self, Link, LinkEvent, LinkSettings, Room, Sent},
};

/// Messages read from one connection before the others, and the timers, get their turn.
const MESSAGES_PER_TURN_MAX: usize = 64;

/// Messages without a request that are dropped before the next one. A socket holds about a thousand.
const UNASKED_MESSAGES_MAX: usize = 10_000;

/// State machine and sockets of one client, used by one thread.
#[derive(Debug)]
pub(crate) struct Driver {
    core: ClientCore,
    is_idempotent: bool,
    dialer: Dialer,
    socket_by_connection: BTreeMap<ConnectionId, Socket>,
    notices: VecDeque<Notice>,
    /// Connections whose socket could not be made or used, to be told to the core.
    failed: VecDeque<(ConnectionId, NotTaken)>,
}

/// One connection: a link, or what waits for one.
#[derive(Debug)]
struct Socket {
    endpoint: String,
    link: SocketLink,
    /// It was established once, so its end needs no explanation.
    was_up: bool,
}

#[derive(Debug)]
enum SocketLink {
    Open(Link),
    /// The name is being resolved until then. Outstanding requests are limited, and so are these.
    Resolving {
        until: Instant,
        unsent: Vec<(Option<RequestId>, Vec<Vec<u8>>)>,
    },
}

impl Socket {
    fn link(&self) -> Option<&Link> {
        match &self.link {
            SocketLink::Open(link) => Some(link),
            SocketLink::Resolving { .. } => None,
        }
    }
}

/// The message that a failed connection was to take.
type NotTaken = Option<RequestId>;

/// What a turn of the driver waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience<'a> {
    /// Nothing: only what is there already.
    None,
    /// A message, an event or a timer.
    Io,
    /// These, or the bell.
    IoOrBell(&'a BellListener),
}

/// The lane of pipelined requests, and how many of them are possible.
pub(crate) fn pipeline_lane(version: Version, correlation: Correlation) -> (Lane, usize) {
    match (version, correlation) {
        (Version::V01, Correlation::Envelope) => (Lane::Shared, crate::PIPELINED_REQUESTS_MAX),
        (Version::V02, _) | (Version::V01, Correlation::SocketPerRequest) => {
            (Lane::Exclusive, crate::CLIENT_SOCKETS_MAX)
        }
    }
}

impl Driver {
    pub(crate) fn new(options: ClientOptions) -> Result<Self, ConnectError> {
        let endpoints = endpoint::parse_all(&options.endpoints)?;
        if options.attempts == 0 {
            return Err(ConnectError::NoAttempts);
        }
        let keys = LinkKeys::of(options.key, options.server_key)?;
        let settings = CoreSettings {
            endpoints,
            version: options.version,
            timeout: options.timeout,
            attempts: options.attempts,
            reconnect_min: options.reconnect_min,
            reconnect_max: options.reconnect_max,
            endpoints_refresh: options.endpoints_refresh,
            return_interval: options.return_interval,
            unreachable_timeout: options.unreachable_timeout,
            limits: MessageLimits {
                bytes_max: options.request_bytes_max,
                frames_max: REQUEST_FRAMES_MAX,
            },
            handshake_min: match keys {
                None => Duration::ZERO,
                Some(_) => socket::handshake_timeout(options.connect_timeout, keys.as_ref()),
            },
        };
        let core = ClientCore::new(Instant::now(), settings, fastrand::u64(..));
        let links = LinkSettings {
            context: socket::context_or_new(options.context),
            connect_timeout: options.connect_timeout,
            tcp_keepalive: Some(options.tcp_keepalive),
            // The number of outstanding requests is limited, so this needs no limit of its own.
            outgoing_messages_max: 0,
            frame_bytes_max: options.reply_bytes_max,
            keys,
        };
        Ok(Self {
            core,
            is_idempotent: options.idempotent,
            dialer: Dialer::new(links).map_err(ConnectError::Thread)?,
            socket_by_connection: BTreeMap::new(),
            notices: VecDeque::new(),
            failed: VecDeque::new(),
        })
    }

    pub(crate) fn submit(
        &mut self,
        lane: Lane,
        service: ServiceName,
        body: Vec<Vec<u8>>,
        options: CallOptions,
    ) -> RequestId {
        let is_idempotent = options.is_idempotent(self.is_idempotent);
        let (timeout, attempts) = (options.timeout, options.attempts);
        let asked = NewRequest { lane, service, body, is_idempotent, timeout, attempts };
        let id = self.core.submit(Instant::now(), asked);
        self.run_effects();
        id
    }

    /// Whether a call is longer than brokers take, as far as that is known.
    pub(crate) fn is_too_large(&self, service: &ServiceName, body: &[Vec<u8>]) -> bool {
        let (bytes, frames) = self.core.size(Lane::Exclusive, (service, body));
        let limits = self.core.limits();
        bytes > limits.bytes_max || frames > limits.frames_max
    }

    /// Takes the limits that a broker has told.
    pub(crate) fn learn_limits(&mut self, listing: &Listing) {
        self.core.learn_limits(listing);
    }

    pub(crate) fn cancel(&mut self, id: RequestId) {
        self.core.handle_input(Instant::now(), ClientInput::Cancel { id });
        self.run_effects();
    }

    /// Waits, reads what is there, runs the timers that are due.
    pub(crate) fn turn(&mut self, patience: Patience<'_>) -> Result<(), zmq::Error> {
        for (connection, from) in self.wait(patience)? {
            match from {
                Source::Messages => self.read_messages(connection, MESSAGES_PER_TURN_MAX),
                Source::Events => self.read_events(connection),
            }
        }
        self.read_dialer();
        // After reading: what came in time is not late because this thread was.
        self.core.handle_timeout(Instant::now());
        self.run_effects();
        Ok(())
    }

    /// Drops what has come without being asked for, so that it is not taken for the answer to the
    /// next request: everything that a socket holds, not only the share of a turn.
    pub(crate) fn discard_unasked(&mut self) -> Result<(), zmq::Error> {
        self.turn(Patience::None)?;
        for connection in self.socket_by_connection.keys().copied().collect::<Vec<_>>() {
            self.read_messages(connection, UNASKED_MESSAGES_MAX);
            self.read_events(connection);
        }
        Ok(())
    }

    pub(crate) fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    pub(crate) fn counters(&self) -> ClientCounters {
        self.core.counters()
    }

    fn wait(&self, patience: Patience<'_>) -> Result<Vec<(ConnectionId, Source)>, zmq::Error> {
        let mut sources = Vec::with_capacity(self.socket_by_connection.len() * 2);
        let mut items = Vec::with_capacity(sources.capacity() + 2);
        for (connection, socket) in &self.socket_by_connection {
            let Some(link) = socket.link() else { continue };
            sources.push((*connection, Source::Messages));
            items.push(link.poll_message(Room::NotNeeded));
            sources.push((*connection, Source::Events));
            items.push(link.poll_event());
        }
        items.push(self.dialer.poll_wake());
        let until = match patience {
            Patience::None => Some(Instant::now()),
            Patience::Io => self.poll_timeout(),
            Patience::IoOrBell(bell) => {
                items.push(bell.poll_ring());
                self.poll_timeout()
            }
        };
        socket::wait(&mut items, until)?;
        if let Patience::IoOrBell(bell) = patience {
            bell.silence();
        }
        let ready = sources.into_iter().zip(&items).filter(|(_, item)| item.is_readable());
        Ok(ready.map(|(source, _)| source).collect())
    }

    fn read_messages(&mut self, connection: ConnectionId, count_max: usize) {
        for _ in 0..count_max {
            let socket = self.socket_by_connection.get(&connection);
            let Some(link) = socket.and_then(Socket::link) else { return };
            match link.recv() {
                Ok(Some(frames)) => {
                    let input = ClientInput::Received { connection, frames };
                    self.core.handle_input(Instant::now(), input);
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "receiving failed");
                    self.failed.push_back((connection, None));
                    return self.run_effects();
                }
            }
            self.run_effects();
        }
    }

    fn read_events(&mut self, connection: ConnectionId) {
        while let Some(socket) = self.socket_by_connection.get_mut(&connection) {
            let SocketLink::Open(link) = &socket.link else { return };
            let event = link.recv_event().unwrap_or(Some(LinkEvent::Down));
            let Some(event) = event else { return };
            let input = match event {
                LinkEvent::Up => {
                    socket.was_up = true;
                    ClientInput::Up { connection }
                }
                LinkEvent::Down => {
                    if !socket.was_up
                        && let Some(failure) = self.dialer.examine(&socket.endpoint, link)
                    {
                        let endpoint = socket.endpoint.clone();
                        let input = ClientInput::Examined { endpoint, failure };
                        self.core.handle_input(Instant::now(), input);
                    }
                    // Replies that came before the end of the connection still count.
                    self.read_messages(connection, usize::MAX);
                    ClientInput::Down { connection }
                }
            };
            self.core.handle_input(Instant::now(), input);
            self.run_effects();
        }
    }

    /// Takes what name servers said and examinations found, and gives up names that wait too long.
    fn read_dialer(&mut self) {
        while let Some(event) = self.dialer.poll_event() {
            match event {
                DialEvent::Resolved { endpoint, result } => {
                    self.on_resolved(&endpoint, result.as_deref());
                }
                DialEvent::Examined { endpoint, failure } => {
                    let input = ClientInput::Examined { endpoint, failure };
                    self.core.handle_input(Instant::now(), input);
                }
            }
        }
        let now = Instant::now();
        let is_late = |socket: &Socket| match socket.link {
            SocketLink::Resolving { until, .. } => until <= now,
            SocketLink::Open(_) => false,
        };
        let late = self.socket_by_connection.iter().filter(|(_, socket)| is_late(socket));
        for connection in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.fail(connection, ConnectFailure::NameUnanswered);
        }
        self.run_effects();
    }

    /// Connections that waited for this name are made, or not.
    fn on_resolved(&mut self, resolved: &str, result: Result<&[SocketAddr], &ConnectFailure>) {
        let waits = |socket: &Socket| socket.link().is_none() && socket.endpoint == resolved;
        let waiting = self.socket_by_connection.iter().filter(|(_, socket)| waits(socket));
        for connection in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
            let dialed = match result {
                Ok(addresses) => self.dialer.dial_resolved(resolved, addresses),
                Err(failure) => Dialed::Failed(failure.clone()),
            };
            let Some(socket) = self.socket_by_connection.get_mut(&connection) else { continue };
            match dialed {
                Dialed::Link(link) => {
                    let waited = mem::replace(&mut socket.link, SocketLink::Open(link));
                    let SocketLink::Resolving { unsent, .. } = waited else { continue };
                    unsent
                        .into_iter()
                        .for_each(|(id, frames)| self.run_send(connection, id, frames));
                }
                Dialed::Failed(failure) => self.fail(connection, failure),
                Dialed::Resolving => {}
            }
        }
    }

    /// A connection that cannot be made, and why.
    fn fail(&mut self, connection: ConnectionId, failure: ConnectFailure) {
        if let Some(socket) = self.socket_by_connection.get(&connection) {
            let endpoint = socket.endpoint.clone();
            tracing::debug!(endpoint, %failure, "no connection");
            let input = ClientInput::Examined { endpoint, failure };
            self.core.handle_input(Instant::now(), input);
        }
        self.failed.push_back((connection, None));
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let names = self.socket_by_connection.values().filter_map(|socket| match socket.link {
            SocketLink::Resolving { until, .. } => Some(until),
            SocketLink::Open(_) => None,
        });
        names.chain(self.core.poll_timeout()).min()
    }

    fn run_effects(&mut self) {
        loop {
            while let Some(effect) = self.core.poll_effect() {
                match effect {
                    ClientEffect::Open { connection, endpoint } => {
                        self.run_open(connection, &endpoint);
                    }
                    ClientEffect::Send { connection, id, frames } => {
                        self.run_send(connection, id, frames);
                    }
                    // Dropping a link closes its socket with linger 0.
                    ClientEffect::Close { connection } => {
                        drop(self.socket_by_connection.remove(&connection));
                    }
                    ClientEffect::Notify(notice) => self.notices.push_back(notice),
                }
            }
            let Some((connection, id)) = self.failed.pop_front() else { return };
            self.core.handle_input(Instant::now(), ClientInput::NotTaken { connection, id });
        }
    }

    fn run_open(&mut self, connection: ConnectionId, endpoint: &str) {
        tracing::debug!(endpoint, "connecting");
        let (link, failure) = match self.dialer.dial(endpoint) {
            Dialed::Link(link) => (SocketLink::Open(link), None),
            Dialed::Resolving => (self.resolving(), None),
            Dialed::Failed(failure) => (self.resolving(), Some(failure)),
        };
        let socket = Socket { endpoint: endpoint.to_owned(), link, was_up: false };
        self.socket_by_connection.insert(connection, socket);
        if let Some(failure) = failure {
            self.fail(connection, failure);
        }
    }

    fn resolving(&self) -> SocketLink {
        let until = Instant::now() + self.dialer.connect_timeout();
        SocketLink::Resolving { until, unsent: Vec::new() }
    }

    fn run_send(&mut self, connection: ConnectionId, id: Option<RequestId>, frames: Vec<Vec<u8>>) {
        let Some(socket) = self.socket_by_connection.get_mut(&connection) else { return };
        let link = match &mut socket.link {
            SocketLink::Open(link) => link,
            SocketLink::Resolving { unsent, .. } => return unsent.push((id, frames)),
        };
        match link.send(frames) {
            Ok(Sent::Yes) => {}
            // Without a high-water mark only a connection without a pipe refuses: a lost one.
            Ok(Sent::Full(_)) => self.failed.push_back((connection, id)),
            Err(error) => {
                tracing::warn!(%error, "sending failed");
                self.failed.push_back((connection, None));
            }
        }
    }
}

/// What of a connection is readable.
#[derive(Clone, Copy, Debug)]
enum Source {
    Messages,
    Events,
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// A name server that does not answer while the test runs, and one that does.
    fn half_dead(endpoint: &str) -> Result<Vec<SocketAddr>, ConnectFailure> {
        if endpoint.starts_with("tcp://dead.") {
            thread::sleep(Duration::from_secs(300));
        }
        let port = endpoint.rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.ok_or(ConnectFailure::Unknown)?;
        Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
    }

    #[test]
    fn name_that_is_not_resolved_holds_up_neither_other_endpoints_nor_the_end() {
        let router = zmq::Context::new().socket(zmq::ROUTER).unwrap();
        router.bind("tcp://127.0.0.1:*").unwrap();
        let bound = router.get_last_endpoint().unwrap().unwrap();
        let port = bound.rsplit(':').next().unwrap();
        let broker = thread::spawn(move || {
            let request = router.recv_multipart(0).unwrap();
            router.send_multipart(request, 0).unwrap();
            router
        });
        let options = ClientOptions::default()
            .endpoints(["dead.example:5555".to_owned(), format!("alive.example:{port}")])
            .connect_timeout(Duration::from_millis(200))
            .timeout(Duration::from_secs(60))
            .endpoints_refresh(Duration::ZERO)
            .return_interval(Duration::ZERO);
        let started_at = Instant::now();
        let mut driver = Driver::new(options).unwrap();
        driver.dialer.resolve_by(half_dead);
        let service = ServiceName::try_from("echo").unwrap();
        let body = vec![b"x".to_vec()];
        driver.submit(Lane::Exclusive, service, body, CallOptions::new());

        let result = loop {
            driver.turn(Patience::Io).unwrap();
            if let Some(Notice::Done { result, .. }) = driver.poll_notice() {
                break result;
            }
        };
        drop(driver);

        assert_eq!(result.unwrap().endpoint, format!("tcp://alive.example:{port}"));
        assert!(started_at.elapsed() < Duration::from_secs(10), "{:?}", started_at.elapsed());
        drop(broker.join().unwrap());
    }

    #[test]
    fn name_that_is_never_resolved_is_the_reason_of_the_failure() {
        let options = ClientOptions::default()
            .endpoints(["dead.example:5555"])
            .connect_timeout(Duration::from_millis(100))
            .unreachable_timeout(Duration::from_millis(50));
        let mut driver = Driver::new(options).unwrap();
        driver.dialer.resolve_by(half_dead);
        let service = ServiceName::try_from("echo").unwrap();
        driver.submit(Lane::Exclusive, service, Vec::new(), CallOptions::new());

        let error = loop {
            driver.turn(Patience::Io).unwrap();
            if let Some(Notice::Done { result, .. }) = driver.poll_notice() {
                break result.unwrap_err().to_string();
            }
        };

        assert!(error.contains("dead.example:5555: the name is not resolved in time"), "{error}");
    }
}
