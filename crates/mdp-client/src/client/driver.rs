//! The client's shell: runs the effects of its state machine on sockets.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use mdp_wire::{ServiceName, Version};

use crate::{
    CallOptions, ClientCounters, ClientOptions, ConnectError, Correlation, RequestId,
    bell::BellListener,
    client::{
        connections::ConnectionId,
        core::{ClientCore, ClientEffect, ClientInput, CoreSettings, Notice},
        outstanding::{Lane, NewRequest},
    },
    endpoint,
    socket::{self, Link, LinkEvent, LinkSettings, Room, Sent},
};

/// Messages read from one connection before the others, and the timers, get their turn.
const MESSAGES_PER_TURN_MAX: usize = 64;

/// State machine and sockets of one client, used by one thread.
#[derive(Debug)]
pub(crate) struct Driver {
    core: ClientCore,
    is_idempotent: bool,
    links: LinkSettings,
    link_by_connection: BTreeMap<ConnectionId, Link>,
    notices: VecDeque<Notice>,
    /// Connections whose socket could not be made or used, to be told to the core.
    failed: VecDeque<(ConnectionId, NotTaken)>,
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
        let settings = CoreSettings {
            endpoints,
            version: options.version,
            timeout: options.timeout,
            attempts: options.attempts,
            reconnect_min: options.reconnect_min,
            reconnect_max: options.reconnect_max,
            endpoints_refresh: options.endpoints_refresh,
            return_interval: options.return_interval,
        };
        let core = ClientCore::new(Instant::now(), settings, fastrand::u64(..));
        let links = LinkSettings {
            context: socket::context_or_new(options.context),
            connect_timeout: options.connect_timeout,
            zmtp_heartbeat: Some(options.zmtp_heartbeat),
            // The number of outstanding requests is limited, so this needs no limit of its own.
            outgoing_messages_max: 0,
            frame_bytes_max: options.reply_bytes_max,
        };
        Ok(Self {
            core,
            is_idempotent: options.idempotent,
            links,
            link_by_connection: BTreeMap::new(),
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
        let asked = NewRequest { lane, service, body, is_idempotent };
        let id = self.core.submit(Instant::now(), asked);
        self.run_effects();
        id
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
        // After reading: what came in time is not late because this thread was.
        self.core.handle_timeout(Instant::now());
        self.run_effects();
        Ok(())
    }

    pub(crate) fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    pub(crate) fn counters(&self) -> ClientCounters {
        self.core.counters()
    }

    fn wait(&self, patience: Patience<'_>) -> Result<Vec<(ConnectionId, Source)>, zmq::Error> {
        let mut sources = Vec::with_capacity(self.link_by_connection.len() * 2);
        let mut items = Vec::with_capacity(sources.capacity() + 1);
        for (connection, link) in &self.link_by_connection {
            sources.push((*connection, Source::Messages));
            items.push(link.poll_message(Room::NotNeeded));
            sources.push((*connection, Source::Events));
            items.push(link.poll_event());
        }
        let until = match patience {
            Patience::None => Some(Instant::now()),
            Patience::Io => self.core.poll_timeout(),
            Patience::IoOrBell(bell) => {
                items.push(bell.poll_ring());
                self.core.poll_timeout()
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
            let Some(link) = self.link_by_connection.get(&connection) else { return };
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
        while let Some(link) = self.link_by_connection.get(&connection) {
            let event = link.recv_event().unwrap_or(Some(LinkEvent::Down));
            let Some(event) = event else { return };
            let input = match event {
                LinkEvent::Up => ClientInput::Up { connection },
                LinkEvent::Down => {
                    // Replies that came before the end of the connection still count.
                    self.read_messages(connection, usize::MAX);
                    ClientInput::Down { connection }
                }
            };
            self.core.handle_input(Instant::now(), input);
            self.run_effects();
        }
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
                        drop(self.link_by_connection.remove(&connection));
                    }
                    ClientEffect::Notify(notice) => self.notices.push_back(notice),
                }
            }
            let Some((connection, id)) = self.failed.pop_front() else { return };
            self.core.handle_input(Instant::now(), ClientInput::NotTaken { connection, id });
        }
    }

    fn run_open(&mut self, connection: ConnectionId, endpoint: &str) {
        match Link::open(&self.links, endpoint) {
            Ok(link) => {
                tracing::debug!(endpoint, "connecting");
                self.link_by_connection.insert(connection, link);
            }
            Err(error) => {
                tracing::warn!(endpoint, %error, "no socket");
                self.failed.push_back((connection, None));
            }
        }
    }

    fn run_send(&mut self, connection: ConnectionId, id: Option<RequestId>, frames: Vec<Vec<u8>>) {
        let Some(link) = self.link_by_connection.get(&connection) else { return };
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
