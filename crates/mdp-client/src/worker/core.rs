//! The worker's state machine: one connection after the other, one request at a time. Sans I/O.

mod complaints;
mod learning;
mod rebalancing;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use mdp_wire::{
    ServiceName, Version,
    worker::{FromBroker, ToBroker},
};

use crate::{
    ConnectFailure, Registration, WorkerCounters,
    backoff::Backoff,
    brokers::{BrokerSet, Brokers},
    warnings::Complaint,
    worker::{
        executor::JobId,
        session::{Goal, Handler, Held, Question, Session},
    },
};

/// Requests that wait while the handler works. A worker has one at a time (A2), so a broker that
/// follows 7/MDP never needs this; brokers that send ahead get this much.
const REQUESTS_AHEAD_MAX: usize = 16;

/// What the worker does, apart from sockets.
#[derive(Clone, Debug)]
pub(crate) struct CoreSettings {
    pub(crate) endpoints: Vec<String>,
    pub(crate) service: ServiceName,
    pub(crate) version: Version,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) heartbeat_liveness: u32,
    /// Zero: nothing is learned.
    pub(crate) endpoints_refresh: Duration,
    /// Whether it may leave a good broker for a new one.
    pub(crate) rebalances: bool,
    /// How long the answer to READY is waited for at least: with keys, as long as a broker holds a key that it
    /// does not know, so that it can say so. Zero without.
    pub(crate) handshake_min: Duration,
}

/// What happened outside.
#[derive(Debug)]
pub(crate) enum WorkerInput {
    /// A message came.
    Received { frames: Vec<Vec<u8>> },
    /// The connection could not be made, or was lost.
    ConnectionLost,
    /// Why a connection to this endpoint could not be made.
    Examined { endpoint: String, failure: ConnectFailure },
    /// The handler has a part of the reply (0.2 only).
    Partial { job: JobId, body: Vec<Vec<u8>> },
    /// The handler has the reply.
    Final { job: JobId, body: Vec<Vec<u8>> },
    /// The handler panicked.
    Panicked { job: JobId },
    /// The handler returned an error.
    Failed { job: JobId, reason: String },
    /// Finish the current reply, then leave.
    Leave,
    /// Leave at once.
    LeaveNow,
}

/// What the shell must do now, in this order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WorkerEffect {
    /// Make a new socket and connect it.
    Open { endpoint: String },
    /// Send a message on the open socket.
    Send { frames: Vec<Vec<u8>> },
    /// Close the socket.
    Close { farewell: Farewell },
    /// Give a request to the handler, which is idle.
    Run { job: JobId, body: Vec<Vec<u8>> },
    /// Say this in the log, unless it was said a short time ago.
    Complain { complaint: Complaint },
    /// The worker has left; nothing follows.
    Finished,
}

/// What becomes of messages that a closed socket still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// They are dropped: nothing is sent after a DISCONNECT (MDP7-36).
    Silent,
    /// They are sent, our own DISCONNECT last.
    Flushed,
}

#[derive(Debug)]
enum State {
    /// No connection until then, and until the handler is idle.
    Waiting {
        until: Instant,
    },
    Connected(Session),
    Finished,
}

/// One connection's worth of worker.
///
/// After `new` and every `handle_*` the shell runs the effects until there is none.
#[derive(Debug)]
pub(crate) struct WorkerCore {
    settings: CoreSettings,
    backoff: Backoff,
    rng: fastrand::Rng,
    brokers: Brokers,
    broker: usize,
    /// Brokers that could not be reached since the last pause.
    tried: BrokerSet,
    /// Moves to the next endpoint without a pause since a connection lasted.
    hasty_moves: usize,
    state: State,
    handler: Handler,
    ahead: VecDeque<Held>,
    last_job: u64,
    leaving: bool,
    effects: VecDeque<WorkerEffect>,
    counters: WorkerCounters,
}

impl WorkerCore {
    /// `rng` chooses between brokers; two workers need different ones.
    pub(crate) fn new(
        now: Instant,
        mut settings: CoreSettings,
        backoff: Backoff,
        mut rng: fastrand::Rng,
    ) -> Self {
        let brokers = Brokers::new(std::mem::take(&mut settings.endpoints));
        let broker = brokers.choose(now, &mut rng, 0..brokers.len()).unwrap_or_default();
        let mut core = Self {
            settings,
            backoff,
            rng,
            brokers,
            broker,
            tried: BrokerSet::default(),
            hasty_moves: 0,
            state: State::Waiting { until: now },
            handler: Handler::Idle,
            ahead: VecDeque::new(),
            last_job: 0,
            leaving: false,
            effects: VecDeque::new(),
            counters: WorkerCounters::default(),
        };
        core.open(now);
        core
    }

    pub(crate) fn handle_input(&mut self, now: Instant, input: WorkerInput) {
        match input {
            WorkerInput::Received { frames } => self.on_received(now, frames),
            WorkerInput::ConnectionLost => self.on_connection_lost(now),
            WorkerInput::Examined { endpoint, failure } => self.on_examined(now, endpoint, failure),
            WorkerInput::Partial { job, body } => self.on_partial(now, job, body),
            WorkerInput::Final { job, body } => self.on_final(now, job, body),
            WorkerInput::Panicked { job } => self.on_panicked(now, job),
            WorkerInput::Failed { job, reason } => {
                tracing::warn!(service = %self.settings.service, reason, "handler failed");
                self.counters.failures += 1;
                // The reply is one empty frame.
                self.on_final(now, job, Vec::new());
            }
            WorkerInput::Leave => self.on_leave(now),
            WorkerInput::LeaveNow => self.leave(now),
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        match &mut self.state {
            State::Waiting { until } if *until <= now => self.open(now),
            State::Connected(session) if session.expires_at <= now => self.on_silence(now),
            State::Connected(session) => {
                let is_ask_due = session.ask_at.is_some_and(|at| at <= now);
                if session.heartbeat_at <= now {
                    self.counters.heartbeats_sent += 1;
                    self.send(now, ToBroker::Heartbeat);
                }
                if is_ask_due {
                    self.ask(now);
                }
            }
            State::Waiting { .. } | State::Finished => {}
        }
    }

    pub(crate) fn poll_effect(&mut self) -> Option<WorkerEffect> {
        self.effects.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match (&self.state, &self.handler) {
            (State::Waiting { until }, Handler::Idle) => Some(*until),
            // It is the handler that is waited for.
            (State::Waiting { .. }, Handler::Busy { .. }) | (State::Finished, _) => None,
            (State::Connected(session), _) => {
                let due = session.expires_at.min(session.heartbeat_at);
                Some(session.ask_at.map_or(due, |ask_at| due.min(ask_at)))
            }
        }
    }

    pub(crate) fn counters(&self) -> WorkerCounters {
        self.counters
    }

    /// Where the worker is registered, if it is.
    pub(crate) fn registration(&self) -> Option<Registration> {
        let State::Connected(session) = &self.state else { return None };
        let since = session.acknowledged_at?;
        Some(Registration { endpoint: self.brokers.endpoint(self.broker).to_owned(), since })
    }

    /// A fresh socket, then READY, once (MDP7-26, MDP7-28). A worker whose handler still works
    /// for a lost connection would only make the next request wait, so it comes back when it can
    /// serve.
    fn open(&mut self, now: Instant) {
        if !matches!(self.handler, Handler::Idle) {
            return;
        }
        let endpoint = self.brokers.endpoint(self.broker).to_owned();
        self.effects.push_back(WorkerEffect::Open { endpoint });
        self.state = State::Connected(Session {
            opened_at: now,
            acknowledged: false,
            acknowledged_at: None,
            heartbeat_at: now + self.settings.heartbeat_interval,
            expires_at: now + self.silence_max().max(self.settings.handshake_min),
            ask_at: None,
            question: Question::None,
            last_heartbeat_at: None,
            goal: Goal::Stay,
        });
        let service = self.settings.service.clone();
        self.send(now, ToBroker::Ready { service });
    }

    fn on_received(&mut self, now: Instant, mut frames: Vec<Vec<u8>>) {
        if self.is_for_client(&frames) {
            return self.on_answer(now, frames);
        }
        let decoded = FromBroker::<Vec<u8>, Vec<u8>>::decode(&mut frames);
        let silence_max = self.silence_max();
        let State::Connected(session) = &mut self.state else { return };
        let message = match decoded {
            Ok((version, message)) if version == self.settings.version => message,
            Ok((version, _)) => {
                tracing::debug!(%version, "message of another version ignored");
                self.counters.messages_malformed += 1;
                return;
            }
            Err(defect) => {
                tracing::debug!(%defect, "message ignored");
                self.counters.messages_malformed += 1;
                return;
            }
        };
        if message == FromBroker::Disconnect {
            return self.on_disconnect(now);
        }
        // Everything but DISCONNECT is a sign of life (MDP7-42), and the first one after READY
        // says that the broker has taken it.
        session.expires_at = now + silence_max;
        let gap = session.heartbeat_gap(now, &message);
        if !session.acknowledged {
            session.acknowledged = true;
            session.acknowledged_at = Some(now);
            let endpoint = self.brokers.endpoint(self.broker);
            tracing::info!(service = %self.settings.service, endpoint, "registered");
            self.counters.registrations += 1;
            self.brokers.on_up(self.broker);
            self.tried = BrokerSet::default();
            self.ask(now);
        }
        self.compare_heartbeats(gap);
        match message {
            FromBroker::Request { client, body } => {
                self.on_request(Held { client, body: body.into_iter().collect() });
            }
            FromBroker::Heartbeat => self.move_if_idle(now),
            FromBroker::Disconnect => {}
        }
    }

    fn on_request(&mut self, held: Held) {
        self.counters.requests += 1;
        match self.handler {
            Handler::Idle => self.run(held),
            Handler::Busy { .. } if self.ahead.len() < REQUESTS_AHEAD_MAX => {
                self.ahead.push_back(held);
            }
            Handler::Busy { .. } => {
                tracing::debug!("request dropped: too many at a time");
                self.counters.requests_dropped += 1;
            }
        }
    }

    fn run(&mut self, held: Held) {
        self.last_job = self.last_job.saturating_add(1);
        let job = JobId(self.last_job);
        self.handler = Handler::Busy { job, client: Some(held.client) };
        self.effects.push_back(WorkerEffect::Run { job, body: held.body });
    }

    fn on_partial(&mut self, now: Instant, job: JobId, body: Vec<Vec<u8>>) {
        let Some(client) = self.handler.client_of(job).cloned() else {
            self.counters.replies_stale += 1;
            return;
        };
        self.counters.partials += 1;
        self.send(now, ToBroker::Partial { client, body: body.into_iter().collect() });
    }

    fn on_final(&mut self, now: Instant, job: JobId, body: Vec<Vec<u8>>) {
        let Some(client) = self.handler.finish(job) else {
            tracing::debug!("reply dropped: its connection is gone");
            self.counters.replies_stale += 1;
            return self.on_handler_idle(now);
        };
        self.counters.replies += 1;
        self.send(now, ToBroker::Final { client, body: body.into_iter().collect() });
        self.on_handler_idle(now);
    }

    /// There is no reply to send, and none may be made up: the broker gives the request to another
    /// worker, if its policy allows that, when this one leaves.
    fn on_panicked(&mut self, now: Instant, job: JobId) {
        tracing::warn!(service = %self.settings.service, "handler panicked");
        self.counters.panics += 1;
        if self.handler.finish(job).is_none() || self.leaving {
            return self.on_handler_idle(now);
        }
        self.send(now, ToBroker::Disconnect);
        self.close(now, Farewell::Flushed);
        self.next_broker(now);
        self.wait(now);
    }

    fn on_handler_idle(&mut self, now: Instant) {
        if self.leaving {
            return self.leave(now);
        }
        if let Some(held) = self.ahead.pop_front() {
            return self.run(held);
        }
        if let State::Waiting { until } = self.state
            && until <= now
        {
            self.open(now);
        }
    }

    /// Nothing is sent on this socket any more, and it is replaced (MDP7-36, MDP7-37). After an
    /// acknowledged registration the broker drains: the next one is asked at once. As an answer
    /// to READY it is a refusal: the next one is asked after a pause.
    fn on_disconnect(&mut self, now: Instant) {
        self.counters.disconnects_received += 1;
        match self.end_session(now, "disconnected by the broker") {
            Some(Ended::Acknowledged) => self.go_on(now),
            Some(Ended::Unacknowledged) => {
                self.complain_of_refusal();
                self.next_broker(now);
                self.wait(now);
            }
            None => {}
        }
    }

    /// One that was acknowledged is replaced at once. Otherwise the next broker is tried at once
    /// until all were, then a pause is made.
    fn on_connection_lost(&mut self, now: Instant) {
        match self.end_session(now, "connection lost") {
            Some(Ended::Acknowledged) => {
                self.counters.connections_lost += 1;
                self.go_on(now);
            }
            Some(Ended::Unacknowledged) => {
                self.counters.connections_lost += 1;
                self.tried.insert(self.broker);
                self.next_broker(now);
                if self.tried.contains(self.broker) || self.leaving {
                    self.wait(now);
                } else {
                    self.go_now(now);
                }
            }
            None => {}
        }
    }

    fn end_session(&mut self, now: Instant, why: &'static str) -> Option<Ended> {
        let State::Connected(session) = &self.state else { return None };
        let acknowledged = session.acknowledged;
        let endpoint = self.brokers.endpoint(self.broker);
        if acknowledged {
            tracing::info!(service = %self.settings.service, endpoint, why, "registration over");
        } else {
            tracing::debug!(service = %self.settings.service, endpoint, why, "not registered");
        }
        self.close(now, Farewell::Silent);
        Some(if acknowledged { Ended::Acknowledged } else { Ended::Unacknowledged })
    }

    /// The next broker at once; but one that takes us and sends us away again may not make us
    /// spin.
    fn go_on(&mut self, now: Instant) {
        self.next_broker(now);
        if self.hasty_moves < self.brokers.len() && !self.leaving {
            self.hasty_moves += 1;
            self.go_now(now);
        } else {
            self.wait(now);
        }
    }

    fn go_now(&mut self, now: Instant) {
        if self.brokers.refused_until(now, self.broker).is_some() {
            return self.wait(now);
        }
        self.state = State::Waiting { until: now };
        self.open(now);
    }

    /// A broker that was silent for too long is lost (MDP7-45, MDP7-46). DISCONNECT is for the
    /// case that it only was slow.
    fn on_silence(&mut self, now: Instant) {
        self.complain_of_silence();
        self.counters.brokers_silent += 1;
        self.send(now, ToBroker::Disconnect);
        self.close(now, Farewell::Flushed);
        self.next_broker(now);
        self.wait(now);
    }

    fn on_leave(&mut self, now: Instant) {
        self.leaving = true;
        let is_working = self.handler.is_connected();
        if !is_working {
            self.leave(now);
        }
    }

    /// The reply, if there was one, has been sent; DISCONNECT is the last message.
    fn leave(&mut self, now: Instant) {
        match self.state {
            State::Connected(_) => {
                self.put(ToBroker::Disconnect);
                self.close(now, Farewell::Flushed);
            }
            State::Waiting { .. } => {}
            State::Finished => return,
        }
        self.state = State::Finished;
        self.effects.push_back(WorkerEffect::Finished);
    }

    /// Closes the connection: what belonged to it can be answered no more. If it was a good one,
    /// haste is allowed again and pauses are short.
    fn close(&mut self, now: Instant, farewell: Farewell) {
        if let State::Connected(session) = &self.state
            && session.acknowledged
            && now.saturating_duration_since(session.opened_at) >= self.settings.heartbeat_interval
        {
            self.hasty_moves = 0;
            self.backoff.reset();
        }
        self.brokers.on_failed(now, self.broker);
        self.handler.disconnect();
        self.ahead.clear();
        self.effects.push_back(WorkerEffect::Close { farewell });
    }

    /// A pause before the next connection. A worker that leaves needs none.
    fn wait(&mut self, now: Instant) {
        self.tried = BrokerSet::default();
        let until = now + self.backoff.next_pause();
        let until = self.brokers.refused_until(now, self.broker).unwrap_or(until).max(until);
        let pause = until.saturating_duration_since(now);
        self.state = State::Waiting { until };
        tracing::debug!(service = %self.settings.service, ?pause, "reconnecting after a pause");
        if self.leaving {
            self.leave(now);
        }
    }

    /// One at random, but those that could not be reached in this round, that leave or that failed
    /// a short time ago come last.
    fn next_broker(&mut self, now: Instant) {
        let tried = self.tried;
        let all = || 0..self.brokers.len();
        let untried = all().filter(|broker| !tried.contains(*broker));
        let next = self.brokers.choose(now, &mut self.rng, untried);
        if let Some(next) = next.or_else(|| self.brokers.choose(now, &mut self.rng, all())) {
            self.broker = next;
        }
    }

    /// Sends a message; the next heartbeat is due an interval later (MDP7-43, MDP7-44).
    fn send(&mut self, now: Instant, message: ToBroker<ServiceName, Vec<u8>>) {
        if let State::Connected(session) = &mut self.state {
            session.heartbeat_at = now + self.settings.heartbeat_interval;
            self.put(message);
        }
    }

    fn put(&mut self, message: ToBroker<ServiceName, Vec<u8>>) {
        let mut frames = Vec::new();
        // The only failure is a PARTIAL in 0.1, which `Request::partial` has refused.
        match message.encode(self.settings.version, &mut frames) {
            Ok(()) => self.effects.push_back(WorkerEffect::Send { frames }),
            Err(error) => tracing::debug!(?error, "message not sent"),
        }
    }

    fn silence_max(&self) -> Duration {
        self.settings.heartbeat_interval.saturating_mul(self.settings.heartbeat_liveness)
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// After the broker had taken the registration.
    Acknowledged,
    Unacknowledged,
}

#[cfg(test)]
mod tests;
