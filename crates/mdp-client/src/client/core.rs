//! The client's state machine: outstanding requests, their attempts and connections. Sans I/O.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use mdp_wire::{ServiceName, Version};

use crate::{
    CallError, ClientCounters, NoReplyCause, Reply,
    client::{
        RequestId,
        connections::{ConnectionId, Connections},
        outstanding::{Lane, Leftover, Outstanding, Place},
        replies::{self, Part},
    },
};

/// What the client does, apart from sockets.
#[derive(Clone, Debug)]
pub(crate) struct CoreSettings {
    pub(crate) endpoints: Vec<String>,
    pub(crate) version: Version,
    pub(crate) timeout: Duration,
    pub(crate) attempts: u32,
    pub(crate) unreachable_pause: Duration,
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
    /// Nobody waits for this request any more.
    Cancel { id: RequestId },
}

/// What the shell must do now, in this order.
#[derive(Debug)]
pub(crate) enum ClientEffect {
    /// Make a new socket and connect it.
    Open { connection: ConnectionId, endpoint: String },
    /// Send a message.
    Send { connection: ConnectionId, frames: Vec<Vec<u8>> },
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
#[derive(Debug)]
pub(crate) struct ClientCore {
    settings: CoreSettings,
    /// Where fresh requests go: the endpoint that answered last and was not lost since.
    preferred: usize,
    last_request: u64,
    request_by_id: BTreeMap<RequestId, Outstanding>,
    connections: Connections,
    /// One entry per request: when it has to be looked at again.
    timers: BTreeSet<(Instant, RequestId)>,
    effects: VecDeque<ClientEffect>,
    counters: ClientCounters,
}

impl ClientCore {
    pub(crate) fn new(settings: CoreSettings) -> Self {
        Self {
            settings,
            preferred: 0,
            last_request: 0,
            request_by_id: BTreeMap::new(),
            connections: Connections::default(),
            timers: BTreeSet::new(),
            effects: VecDeque::new(),
            counters: ClientCounters::default(),
        }
    }

    /// Takes a request. Its end is a [`Notice::Done`].
    pub(crate) fn submit(
        &mut self,
        now: Instant,
        lane: Lane,
        service: ServiceName,
        body: Vec<Vec<u8>>,
    ) -> RequestId {
        self.last_request = self.last_request.saturating_add(1);
        let id = RequestId(self.last_request);
        let outstanding = Outstanding {
            service,
            body,
            lane,
            submitted_at: now,
            attempt: 1,
            attempt_ends_at: now + self.settings.timeout,
            wakes_at: now,
            endpoint: self.preferred,
            unreachable_in_row: 0,
            place: Place::Waiting,
            partial_count: 0,
        };
        self.request_by_id.insert(id, outstanding);
        self.place(now, id);
        id
    }

    pub(crate) fn handle_input(&mut self, now: Instant, input: ClientInput) {
        match input {
            ClientInput::Received { connection, frames } => {
                self.on_received(now, connection, frames);
            }
            ClientInput::Up { connection } => self.on_up(connection),
            ClientInput::Down { connection } => self.on_down(now, connection),
            ClientInput::Cancel { id } => self.on_cancel(id),
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            let Some(request) = self.request_by_id.get(&id) else { continue };
            match request.place {
                Place::Waiting if now < request.attempt_ends_at => self.place(now, id),
                Place::Waiting => self.on_attempt_over(now, id, NoReplyCause::Unreachable),
                Place::On(connection) => {
                    let was_up = self.connections.is_up(connection);
                    let cause =
                        if was_up { NoReplyCause::Timeout } else { NoReplyCause::Unreachable };
                    self.on_attempt_over(now, id, cause);
                }
            }
        }
    }

    pub(crate) fn poll_effect(&mut self) -> Option<ClientEffect> {
        self.effects.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    pub(crate) fn counters(&self) -> ClientCounters {
        self.counters
    }

    /// Puts a request on a connection to its endpoint, a new one if need be, and sends it.
    fn place(&mut self, now: Instant, id: RequestId) {
        let Some(request) = self.request_by_id.get_mut(&id) else { return };
        let reusable = self.connections.reusable(request.endpoint, request.lane);
        let connection = reusable.unwrap_or_else(|| {
            let connection = self.connections.insert(request.endpoint);
            let endpoint = endpoint_name(&self.settings, request.endpoint);
            self.effects.push_back(ClientEffect::Open { connection, endpoint });
            connection
        });
        self.connections.assign(connection, id, request.lane);
        request.place = Place::On(connection);
        let frames = request.encode(self.settings.version, id);
        self.effects.push_back(ClientEffect::Send { connection, frames });
        self.counters.requests_sent += 1;
        let until = request.attempt_ends_at;
        self.set_timer(id, until.max(now));
    }

    fn on_up(&mut self, connection: ConnectionId) {
        if let Some(open) = self.connections.get_mut(connection) {
            open.up = true;
            for id in &open.requests {
                if let Some(request) = self.request_by_id.get_mut(id) {
                    request.unreachable_in_row = 0;
                }
            }
        }
    }

    /// Known dead: its requests need not wait for their timeouts.
    fn on_down(&mut self, now: Instant, connection: ConnectionId) {
        let Some(lost) = self.connections.remove(connection) else { return };
        self.effects.push_back(ClientEffect::Close { connection });
        if lost.endpoint == self.preferred {
            self.preferred = self.endpoint_after(lost.endpoint);
        }
        let endpoint = endpoint_name(&self.settings, lost.endpoint);
        if lost.up {
            tracing::debug!(endpoint, waiting = lost.requests.len(), "connection lost");
            self.counters.connections_lost += 1;
        } else {
            tracing::debug!(endpoint, waiting = lost.requests.len(), "endpoint unreachable");
            self.counters.endpoints_unreachable += 1;
        }
        for id in lost.requests {
            if lost.up {
                self.on_attempt_over(now, id, NoReplyCause::ConnectionLost);
            } else {
                self.on_unreachable(now, id);
            }
        }
    }

    /// The request never left, so the attempt goes on at the next endpoint; after a round over
    /// all of them in vain, with a pause.
    fn on_unreachable(&mut self, now: Instant, id: RequestId) {
        let endpoint_count = self.settings.endpoints.len();
        let Some(request) = self.request_by_id.get_mut(&id) else { return };
        request.endpoint = next_of(request.endpoint, endpoint_count);
        request.unreachable_in_row = request.unreachable_in_row.saturating_add(1);
        request.place = Place::Waiting;
        if request.unreachable_in_row.is_multiple_of(endpoint_count) {
            let until = request.attempt_ends_at.min(now + self.settings.unreachable_pause);
            self.set_timer(id, until);
        } else {
            self.place(now, id);
        }
    }

    /// Tries again with a new socket at the next endpoint (MDP7-14), or gives up.
    fn on_attempt_over(&mut self, now: Instant, id: RequestId, cause: NoReplyCause) {
        self.leave_connection(id);
        let endpoint_count = self.settings.endpoints.len();
        let Some(request) = self.request_by_id.get_mut(&id) else { return };
        match cause {
            NoReplyCause::Timeout => self.counters.timeouts += 1,
            NoReplyCause::ConnectionLost | NoReplyCause::Unreachable => {}
        }
        if request.attempt >= self.settings.attempts || request.partial_count > 0 {
            let error = request.give_up(now, cause);
            self.finish(id, Err(error));
            return;
        }
        request.attempt += 1;
        request.attempt_ends_at = now + self.settings.timeout;
        request.endpoint = next_of(request.endpoint, endpoint_count);
        tracing::debug!(
            service = %request.service, attempt = request.attempt, %cause,
            endpoint = endpoint_name(&self.settings, request.endpoint), "trying again"
        );
        self.place(now, id);
    }

    fn on_received(&mut self, now: Instant, connection: ConnectionId, mut frames: Vec<Vec<u8>>) {
        let Some(open) = self.connections.get_mut(connection) else { return };
        let endpoint = open.endpoint;
        let answer = match replies::decode(self.settings.version, &mut frames) {
            Ok(answer) => answer,
            Err(defect) => {
                tracing::debug!(%defect, "message ignored");
                self.counters.replies_malformed += 1;
                return;
            }
        };
        let asked = answer.id.or_else(|| open.exclusive());
        let request = asked.and_then(|id| Some((id, self.request_by_id.get_mut(&id)?)));
        let Some((id, request)) = request.filter(|(_, request)| request.is_answered_by(&answer))
        else {
            tracing::debug!("reply ignored: nobody waits for it");
            self.counters.replies_unmatched += 1;
            return;
        };
        match answer.part {
            Part::Partial => {
                request.partial_count += 1;
                request.attempt_ends_at = now + self.settings.timeout;
                let until = request.attempt_ends_at;
                self.counters.partials += 1;
                self.set_timer(id, until);
                self.notify(Notice::Partial { id, frames: answer.body });
            }
            Part::Last => {
                let reply = Reply {
                    frames: answer.body,
                    endpoint: endpoint_name(&self.settings, endpoint),
                    attempts: request.attempt,
                    elapsed: now.saturating_duration_since(request.submitted_at),
                };
                self.counters.replies += 1;
                self.on_replied(id, endpoint, reply);
            }
        }
    }

    /// The endpoint that answers is the one to go on with.
    fn on_replied(&mut self, id: RequestId, endpoint: usize, reply: Reply) {
        let from = self.request_by_id.get(&id).map(|request| request.place);
        if let Some(Place::On(connection)) = from {
            self.connections.release(connection, id);
        }
        self.preferred = endpoint;
        self.finish(id, Ok(reply));
        for connection in self.connections.take_unneeded(endpoint) {
            self.effects.push_back(ClientEffect::Close { connection });
        }
    }

    fn on_cancel(&mut self, id: RequestId) {
        self.leave_connection(id);
        self.forget(id);
    }

    /// A connection with an unanswered request is not used again: without an envelope a late
    /// reply could be taken for the answer to the next request.
    fn leave_connection(&mut self, id: RequestId) {
        let Some(request) = self.request_by_id.get_mut(&id) else { return };
        let Place::On(connection) = request.place else { return };
        request.place = Place::Waiting;
        if self.connections.retire(connection, id) == Leftover::Nothing {
            self.effects.push_back(ClientEffect::Close { connection });
        }
    }

    fn finish(&mut self, id: RequestId, result: Result<Reply, CallError>) {
        self.forget(id);
        self.notify(Notice::Done { id, result });
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

    fn endpoint_after(&self, endpoint: usize) -> usize {
        next_of(endpoint, self.settings.endpoints.len())
    }
}

fn next_of(endpoint: usize, count: usize) -> usize {
    if endpoint + 1 < count { endpoint + 1 } else { 0 }
}

fn endpoint_name(settings: &CoreSettings, endpoint: usize) -> String {
    settings.endpoints.get(endpoint).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests;
