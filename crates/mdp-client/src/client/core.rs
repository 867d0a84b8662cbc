//! The client's state machine: outstanding requests, their attempts and connections. Sans I/O.

mod answers;
mod steering;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use mdp_wire::{ServiceName, Version};

use self::steering::Steering;
use crate::{
    CallError, ClientCounters, ConnectFailure, NoReplyCause, Reply, RequestId,
    backoff::Backoff,
    brokers::{BrokerSet, Brokers},
    client::{
        connections::{ConnectionId, Connections, Purpose},
        outstanding::{self, Lane, Leftover, NewRequest, Outstanding, Place},
    },
    listing::{Listing, MessageLimits},
    request_id::RequestIds,
};

/// How long a call that is to be given up waits for the reason why its last connection could not be made: the
/// broker may have held that for longer than such a call lasts, and is looked at once more.
const EXPLAINED_WITHIN: Duration = Duration::from_millis(300);

/// What the client does, apart from sockets.
#[derive(Clone, Debug)]
pub(crate) struct CoreSettings {
    pub(crate) endpoints: Vec<String>,
    pub(crate) version: Version,
    pub(crate) timeout: Duration,
    pub(crate) attempts: u32,
    pub(crate) reconnect_min: Duration,
    pub(crate) reconnect_max: Duration,
    /// Zero: nothing is learned.
    pub(crate) endpoints_refresh: Duration,
    /// Zero: the client stays where it is.
    pub(crate) return_interval: Duration,
    /// How long a client that never reached a broker tries to.
    pub(crate) unreachable_timeout: Duration,
    /// Until a broker says what it takes.
    pub(crate) limits: MessageLimits,
    /// How long an attempt waits at least for the handshake of its connection: with keys, as long as a broker
    /// holds a key that it does not know, so that it can say so. Zero without.
    pub(crate) handshake_min: Duration,
}

/// What happened outside.
#[derive(Debug)]
pub(crate) enum ClientInput {
    /// A message came.
    Received { connection: ConnectionId, frames: Vec<Vec<u8>> },
    /// The connection is established.
    Up { connection: ConnectionId },
    /// The connection could not be made, or was lost.
    Down { connection: ConnectionId },
    /// Why a connection to this endpoint could not be made.
    Examined { endpoint: String, failure: ConnectFailure },
    /// The socket did not take this request, and will take nothing more.
    NotTaken { connection: ConnectionId, id: Option<RequestId> },
    /// The caller does not wait for this request any more.
    Cancel { id: RequestId },
}

/// What the shell must do now, in this order.
#[derive(Debug)]
pub(crate) enum ClientEffect {
    /// Make a new socket and connect it.
    Open { connection: ConnectionId, endpoint: String },
    /// Send a message; `id` if it is a request of a caller.
    Send { connection: ConnectionId, id: Option<RequestId>, frames: Vec<Vec<u8>> },
    /// Close the socket and forget what it holds (linger 0).
    Close { connection: ConnectionId },
    /// Tell the caller.
    Notify(Notice),
}

/// What the caller is told.
#[derive(Debug)]
pub(crate) enum Notice {
    /// A part of a reply came (0.2).
    Partial { id: RequestId, frames: Vec<Vec<u8>> },
    /// The request is over.
    Done { id: RequestId, result: Result<Reply, CallError> },
}

/// All requests of one client.
///
/// After every `submit` and `handle_*` the shell runs the effects until there is none.
///
/// Until its connection is established a request has not left and can go to any other broker;
/// afterwards it stays where it is until it is answered, its time is over or its connection is
/// lost. A request that is not idempotent is given to the socket only then, so that this is sure;
/// others at once, so that the network need not wait for this thread.
#[derive(Debug)]
pub(crate) struct ClientCore {
    settings: CoreSettings,
    brokers: Brokers,
    steering: Steering,
    backoff: Backoff,
    rng: fastrand::Rng,
    /// When the next round over unreachable brokers may begin.
    next_round_at: Option<Instant>,
    ids: RequestIds,
    request_by_id: BTreeMap<RequestId, Outstanding>,
    connections: Connections,
    /// One entry per request: when it has to be looked at again.
    timers: BTreeSet<(Instant, RequestId)>,
    effects: VecDeque<ClientEffect>,
    counters: ClientCounters,
    /// A broker was reached once.
    was_up: bool,
}

impl ClientCore {
    /// `seed` is for pauses and request ids.
    pub(crate) fn new(now: Instant, mut settings: CoreSettings, seed: u64) -> Self {
        let endpoints = std::mem::take(&mut settings.endpoints);
        Self {
            brokers: Brokers::new(endpoints),
            steering: Steering::new(now),
            backoff: Backoff::new(settings.reconnect_min, settings.reconnect_max, seed),
            rng: fastrand::Rng::with_seed(seed),
            next_round_at: None,
            ids: RequestIds::new(seed),
            request_by_id: BTreeMap::new(),
            connections: Connections::default(),
            timers: BTreeSet::new(),
            effects: VecDeque::new(),
            counters: ClientCounters::default(),
            was_up: false,
            settings,
        }
    }

    /// Takes a request. Its end is a [`Notice::Done`].
    pub(crate) fn submit(&mut self, now: Instant, asked: NewRequest) -> RequestId {
        let id = self.ids.next_id();
        if let Err(error) = self.check_size(&asked) {
            self.notify(Notice::Done { id, result: Err(error) });
            return id;
        }
        let timeout = asked.timeout.unwrap_or(self.settings.timeout);
        let outstanding = Outstanding {
            submitted_at: now,
            attempt: 1,
            attempts_max: asked.attempts.unwrap_or(self.settings.attempts).max(1),
            timeout,
            attempt_ends_at: now + timeout,
            wakes_at: now,
            broker: self.steering.current,
            tried: BrokerSet::default(),
            unanswered: BrokerSet::default(),
            place: Place::Waiting,
            is_given: false,
            partial_count: 0,
            asked,
        };
        self.request_by_id.insert(id, outstanding);
        self.place(now, id);
        self.ask_if_due(now);
        self.review_search(now);
        id
    }

    /// What one message may hold.
    pub(crate) fn limits(&self) -> MessageLimits {
        self.brokers.limits().unwrap_or(self.settings.limits)
    }

    /// Takes the limits that a broker has told.
    pub(crate) fn learn_limits(&mut self, listing: &Listing) {
        if let Listing::Nodes(nodes) = listing {
            self.brokers.learn_limits(nodes);
        }
    }

    /// Bytes and frames of a request as a message.
    pub(crate) fn size(&self, lane: Lane, message: (&ServiceName, &[Vec<u8>])) -> (usize, usize) {
        outstanding::size(self.settings.version, lane, message)
    }

    fn check_size(&self, asked: &NewRequest) -> Result<(), CallError> {
        let limits = self.limits();
        let message = (&asked.service, asked.body.as_slice());
        let (bytes, frames) = self.size(asked.lane, message);
        if bytes <= limits.bytes_max && frames <= limits.frames_max {
            return Ok(());
        }
        let MessageLimits { bytes_max, frames_max } = limits;
        Err(CallError::RequestTooLarge { bytes, frames, bytes_max, frames_max })
    }

    pub(crate) fn handle_input(&mut self, now: Instant, input: ClientInput) {
        match input {
            ClientInput::Received { connection, frames } => {
                self.on_received(now, connection, frames);
            }
            ClientInput::Up { connection } => self.on_up(now, connection),
            ClientInput::Down { connection } => self.on_down(now, connection),
            ClientInput::Examined { endpoint, failure } => {
                self.brokers.on_examined(now, (&endpoint, failure), &mut self.rng);
            }
            ClientInput::NotTaken { connection, id } => {
                if let Some(request) = id.and_then(|id| self.request_by_id.get_mut(&id))
                    && request.place == Place::Sent(connection)
                {
                    request.place = Place::Unsent(connection);
                    self.counters.requests_sent = self.counters.requests_sent.saturating_sub(1);
                }
                self.on_down(now, connection);
            }
            ClientInput::Cancel { id } => self.on_cancel(now, id),
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            let Some(request) = self.request_by_id.get(&id) else { continue };
            match request.place {
                Place::Waiting if self.is_unreachable_for_long(now, id) => {
                    self.give_up(now, id, NoReplyCause::Unreachable);
                }
                Place::Waiting if now < request.attempt_ends_at => {
                    self.put_at(self.steering.current, id);
                    self.place(now, id);
                }
                Place::Unsent(connection) if self.is_in_handshake(now, connection) => {
                    self.wait_for_handshake(id, connection);
                }
                Place::Waiting | Place::Unsent(_) => {
                    self.on_attempt_over(now, id, NoReplyCause::Unreachable);
                }
                Place::Sent(_) => self.on_attempt_over(now, id, NoReplyCause::Timeout),
            }
        }
        self.review_search(now);
    }

    pub(crate) fn poll_effect(&mut self) -> Option<ClientEffect> {
        self.effects.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        [timer, self.search_timeout()].into_iter().flatten().min()
    }

    pub(crate) fn counters(&self) -> ClientCounters {
        self.counters
    }

    /// Puts a request on a connection to its broker, a new one if need be.
    fn place(&mut self, now: Instant, id: RequestId) {
        let Some(request) = self.request_by_id.get(&id) else { return };
        let (broker, lane, until) = (request.broker, request.asked.lane, request.attempt_ends_at);
        let reusable = self.connections.reusable(broker, lane);
        if reusable.is_none() && self.brokers.refused_until(now, broker).is_some() {
            return self.on_unreachable(now, id);
        }
        let connection = reusable.unwrap_or_else(|| self.open(now, broker, Purpose::Requests));
        self.connections.assign(connection, id, lane);
        let is_up = self.connections.is_up(connection);
        if let Some(request) = self.request_by_id.get_mut(&id) {
            request.place = Place::Unsent(connection);
            request.is_given = false;
            if is_up || request.asked.is_idempotent {
                self.give(id, connection);
            }
        }
        if is_up {
            self.on_sent(id, connection);
        }
        self.set_timer(id, until.max(now));
    }

    fn open(&mut self, now: Instant, broker: usize, purpose: Purpose) -> ConnectionId {
        let handshake_until = now + self.settings.handshake_min;
        let connection = self.connections.insert(broker, purpose, handshake_until);
        if let Some(open) = self.connections.get_mut(connection) {
            open.up = self.brokers.is_in_process(broker);
            self.was_up |= open.up;
        }
        let endpoint = self.brokers.endpoint(broker).to_owned();
        self.effects.push_back(ClientEffect::Open { connection, endpoint });
        connection
    }

    fn give(&mut self, id: RequestId, connection: ConnectionId) {
        let Some(request) = self.request_by_id.get_mut(&id) else { return };
        request.is_given = true;
        let frames = request.encode(self.settings.version, id);
        self.effects.push_back(ClientEffect::Send { connection, id: Some(id), frames });
    }

    fn is_in_handshake(&self, now: Instant, connection: ConnectionId) -> bool {
        self.connections.find(connection).is_some_and(|open| !open.up && open.handshake_until > now)
    }

    /// The time of the attempt is over, but the broker may still hold the connection: why the attempt
    /// fails, or whether it does, is known when the handshake ends.
    fn wait_for_handshake(&mut self, id: RequestId, connection: ConnectionId) {
        let until = self.connections.find(connection).map(|open| open.handshake_until);
        if let Some(until) = until {
            self.set_timer(id, until);
        }
    }

    /// The connection that has the request is established.
    fn on_sent(&mut self, id: RequestId, connection: ConnectionId) {
        let Some(request) = self.request_by_id.get_mut(&id) else { return };
        request.place = Place::Sent(connection);
        tracing::debug!(
            request = %id, service = %request.asked.service, attempt = request.attempt,
            endpoint = self.brokers.endpoint(request.broker), "request sent"
        );
        self.counters.requests_sent += 1;
    }

    fn on_up(&mut self, now: Instant, connection: ConnectionId) {
        let Some(open) = self.connections.get_mut(connection).filter(|open| !open.up) else {
            return;
        };
        open.up = true;
        self.was_up = true;
        let (broker, is_scout) = (open.broker, open.is_scout());
        let unsent: Vec<RequestId> = open.requests.iter().copied().collect();
        self.brokers.on_up(broker);
        self.backoff.reset();
        self.next_round_at = None;
        for id in unsent {
            self.renew_attempt(now, id);
            if self.request_by_id.get(&id).is_some_and(|request| !request.is_given) {
                self.give(id, connection);
            }
            self.on_sent(id, connection);
        }
        if is_scout {
            self.on_scout_up(now, connection);
        } else {
            self.ask(now, connection);
            if self.connections.up_at(self.steering.current).is_none() {
                self.move_to(now, broker);
            }
            self.rescue(now);
        }
        self.review_search(now);
    }

    /// A handshake that took longer than an attempt may take is no reason not to wait for a reply.
    fn renew_attempt(&mut self, now: Instant, id: RequestId) {
        let Some(request) = self.request_by_id.get_mut(&id) else { return };
        if request.attempt_ends_at <= now {
            let until = now + request.timeout;
            request.attempt_ends_at = until;
            self.set_timer(id, until);
        }
    }

    /// Known dead: its requests need not wait for their timeouts.
    fn on_down(&mut self, now: Instant, connection: ConnectionId) {
        let Some(lost) = self.connections.remove(connection) else { return };
        self.effects.push_back(ClientEffect::Close { connection });
        self.brokers.on_failed(now, lost.broker);
        let endpoint = self.brokers.endpoint(lost.broker);
        let waiting = lost.requests.len();
        if lost.up {
            tracing::debug!(endpoint, waiting, "connection lost");
            self.counters.connections_lost += 1;
        } else {
            tracing::debug!(endpoint, waiting, "endpoint unreachable");
            self.counters.endpoints_unreachable += 1;
        }
        let current = self.steering.current;
        if !lost.is_scout()
            && lost.broker == current
            && self.connections.up_at(current).is_none()
            && let Some(next) = self.next_broker(now, BrokerSet::default())
        {
            self.move_to(now, next);
        }
        for id in lost.requests {
            match self.request_by_id.get(&id).map(|request| request.place) {
                Some(Place::Sent(_)) => self.on_attempt_over(now, id, NoReplyCause::ConnectionLost),
                Some(Place::Unsent(_)) => self.on_unreachable(now, id),
                Some(Place::Waiting) | None => {}
            }
        }
        self.review_search(now);
    }

    /// The request never left, so the attempt goes on at the next broker; after a round over all
    /// of them in vain, with a pause.
    fn on_unreachable(&mut self, now: Instant, id: RequestId) {
        let Some(request) = self.request_by_id.get_mut(&id) else { return };
        request.place = Place::Waiting;
        request.tried.insert(request.broker);
        let (tried, attempt_ends_at) = (request.tried, request.attempt_ends_at);
        if let Some(next) = self.next_broker(now, tried) {
            self.put_at(next, id);
            return self.place(now, id);
        }
        let dialled_at = self.brokers.dialled_at(now);
        let mut until = self.round_over(now).max(dialled_at).min(attempt_ends_at);
        if let Some(request) = self.request_by_id.get_mut(&id) {
            request.tried = BrokerSet::default();
            if !self.was_up {
                let gives_up_at = request.submitted_at + self.settings.unreachable_timeout;
                until = until.min(gives_up_at.max(now));
                if gives_up_at <= now && !self.brokers.is_explained(request.broker) {
                    until = now + EXPLAINED_WITHIN;
                }
            }
        }
        self.set_timer(id, until);
    }

    /// Whether this client, which never reached a broker, has tried to for long enough. One that
    /// has reached a broker goes on for all of its attempts: its cluster may be restarting.
    fn is_unreachable_for_long(&self, now: Instant, id: RequestId) -> bool {
        let submitted_at = self.request_by_id.get(&id).map(|request| request.submitted_at);
        let timeout = self.settings.unreachable_timeout;
        !self.was_up && submitted_at.is_some_and(|submitted_at| now >= submitted_at + timeout)
    }

    /// When the next round may begin: one pause for all requests.
    fn round_over(&mut self, now: Instant) -> Instant {
        match self.next_round_at.filter(|at| *at > now) {
            Some(at) => at,
            None => *self.next_round_at.insert(now + self.backoff.next_pause()),
        }
    }

    /// Tries again with a new socket at the next broker (MDP7-14), or gives up.
    fn on_attempt_over(&mut self, now: Instant, id: RequestId, cause: NoReplyCause) {
        let Some(request) = self.request_by_id.get(&id) else { return };
        if cause == NoReplyCause::Timeout {
            self.counters.timeouts += 1;
        }
        if request.attempt >= request.attempts_max || !request.may_be_sent_again() {
            return self.give_up(now, id, cause);
        }
        if matches!(request.place, Place::Sent(_)) {
            self.counters.retries += 1;
        }
        self.leave_connection(id);
        let Some(request) = self.request_by_id.get_mut(&id) else { return };
        request.attempt += 1;
        request.attempt_ends_at = now + request.timeout;
        let last = request.broker;
        request.tried.insert(last);
        if cause == NoReplyCause::Timeout {
            request.unanswered.insert(last);
        }
        let tried = request.tried;
        let next = self.next_broker(now, tried).unwrap_or_else(|| self.begin_round(now, id, last));
        self.put_at(next, id);
        tracing::debug!(request = %id, %cause, endpoint = self.brokers.endpoint(next), "again");
        self.place(now, id);
    }

    fn give_up(&mut self, now: Instant, id: RequestId, cause: NoReplyCause) {
        let Some(request) = self.request_by_id.get(&id) else { return };
        let error = request.give_up(now, id, cause, &self.brokers);
        tracing::debug!(request = %id, %error, "given up");
        self.leave_connection(id);
        self.finish(now, id, Err(error));
    }

    /// Another round over the brokers, which begins with one that is not the last one, if any.
    fn begin_round(&mut self, now: Instant, id: RequestId, last: usize) -> usize {
        let mut tried = BrokerSet::default();
        tried.insert(last);
        if let Some(request) = self.request_by_id.get_mut(&id) {
            request.tried = tried;
        }
        self.next_broker(now, tried).unwrap_or(last)
    }

    fn put_at(&mut self, broker: usize, id: RequestId) {
        if let Some(request) = self.request_by_id.get_mut(&id) {
            request.broker = broker;
        }
    }

    /// The best broker for a request that was not served by these.
    fn next_broker(&self, now: Instant, tried: BrokerSet) -> Option<usize> {
        let is_open = |broker: &usize| {
            self.brokers.is_trusted(*broker)
                && !tried.contains(*broker)
                && self.brokers.refused_until(now, *broker).is_none()
        };
        self.brokers.best((0..self.brokers.len()).filter(is_open))
    }

    /// Requests that have not left need not wait for a broker that may never be reached: they go
    /// where fresh ones go.
    fn rescue(&mut self, now: Instant) {
        let current = self.steering.current;
        if self.connections.up_at(current).is_none() {
            return;
        }
        let is_stuck = |request: &Outstanding| match request.place {
            Place::Waiting => true,
            Place::Unsent(_) => request.broker != current,
            Place::Sent(_) => false,
        };
        let stuck = self.request_by_id.iter().filter(|(_, request)| is_stuck(request));
        for id in stuck.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.leave_connection(id);
            self.put_at(current, id);
            self.place(now, id);
        }
    }

    fn on_cancel(&mut self, now: Instant, id: RequestId) {
        self.leave_connection(id);
        self.forget(id);
        self.review_search(now);
    }

    /// A connection with an unanswered request is not used again: without an envelope a late
    /// reply could be taken for the answer to the next request.
    fn leave_connection(&mut self, id: RequestId) {
        let Some(request) = self.request_by_id.get_mut(&id) else { return };
        let Some(connection) = request.place.connection() else { return };
        request.place = Place::Waiting;
        if self.connections.retire(connection, id) == Leftover::Nothing {
            self.effects.push_back(ClientEffect::Close { connection });
        }
    }

    fn finish(&mut self, now: Instant, id: RequestId, result: Result<Reply, CallError>) {
        self.forget(id);
        self.notify(Notice::Done { id, result });
        if self.request_by_id.is_empty() {
            self.review_search(now);
        }
    }

    fn forget(&mut self, id: RequestId) {
        if let Some(request) = self.request_by_id.remove(&id) {
            self.timers.remove(&(request.wakes_at, id));
        }
    }

    fn notify(&mut self, notice: Notice) {
        self.effects.push_back(ClientEffect::Notify(notice));
    }

    fn set_timer(&mut self, id: RequestId, at: Instant) {
        if let Some(request) = self.request_by_id.get_mut(&id) {
            self.timers.remove(&(request.wakes_at, id));
            request.wakes_at = at;
            self.timers.insert((at, id));
        }
    }
}

#[cfg(test)]
mod tests;
