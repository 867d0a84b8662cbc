//! What must follow from what happened: a second, plain account of peers, requests and answers.
//!
//! The model cannot see the queues. It knows who may be told what, and holds the engine's sums
//! against its own: every request is answered, dropped and counted, waiting or held.

mod checks;
mod effects;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use mdp_broker::{
    Broker, Input, LookupOutcome, PeerId, QueryId, ServicePolicy, Settings, WorkerEnd,
};
use mdp_catalog::{CatalogChange, Epoch, Seq};
use mdp_wire::{
    AtBroker, Body, DecodeError, ServiceFrame, ServiceName, Token, Version,
    client::{self, Reply, ReplyCommand},
    worker::ToBroker,
};

use super::peers::number_of;
use crate::support::Bytes;

/// How long a refusal may be held back.
const REFUSAL_DELAY: Duration = Duration::from_millis(250);

/// A worker that is registered, or whose READY was accepted.
#[derive(Debug)]
struct Worker {
    version: Version,
    service: ServiceName,
    ready_step: u64,
    /// The cluster has said, after its READY, that the service is offered here.
    is_proven: bool,
    /// When it was acknowledged.
    up_step: Option<u64>,
    last_heard: Duration,
    last_sent: Duration,
    heartbeats_while_busy: bool,
    held: Option<Held>,
}

/// The request that a worker has.
#[derive(Debug)]
struct Held {
    token: Token,
    number: u64,
    since: Duration,
    /// Partial replies for a 0.1 client.
    parts: Vec<Bytes>,
}

#[derive(Debug)]
struct Request {
    asker: Asker,
    body: Body<Bytes>,
    arrived_step: u64,
    deadline: Duration,
    attempts: u32,
    was_handed_over: bool,
    /// A hand-over failed in this step.
    unsent_step: Option<u64>,
    /// A worker that was lost may have worked on it.
    is_maybe_done: bool,
    is_partly_answered: bool,
    is_held: bool,
    /// It was answered, or must not be handed over any more.
    is_over: bool,
}

/// Who gets an answer, and how.
#[derive(Clone, Debug)]
struct Asker {
    client: PeerId,
    version: Version,
    envelope: Vec<Bytes>,
    service: ServiceName,
}

impl Asker {
    fn reply(&self, command: ReplyCommand, body: Body<Bytes>) -> ToClient {
        let (envelope, service) = (self.envelope.clone(), self.service.clone());
        (self.client.clone(), Reply { command, envelope, service, body })
    }

    fn last_reply(&self, body: Body<Bytes>) -> ToClient {
        self.reply(ReplyCommand::last(self.version), body)
    }

    fn code(&self, code: &str) -> ToClient {
        self.last_reply(std::iter::once(code.as_bytes().to_vec()).collect())
    }
}

type ToClient = (PeerId, Reply<ServiceName, Bytes>);

/// An open question of a client to the cluster.
#[derive(Debug)]
struct Question {
    asker: Asker,
    deadline: Duration,
}

/// A READY whose answer may be held back.
#[derive(Debug, PartialEq, Eq)]
struct Owed {
    peer: PeerId,
    version: Version,
    due: Duration,
}

/// A READY of a peer that is not registered.
#[derive(Debug)]
struct Ready {
    peer: PeerId,
    version: Version,
    service: ServiceName,
}

/// What has to come of one step.
#[derive(Debug, Default)]
struct Expected {
    is_timeout: bool,
    is_isolated: bool,
    workers_before: BTreeSet<PeerId>,
    to_clients: Vec<ToClient>,
    /// The registration that ends.
    end: Option<(PeerId, WorkerEnd)>,
    /// DISCONNECT in this very step.
    told: Vec<(PeerId, Version)>,
    ready: Option<Ready>,
    /// A question that must go to the cluster now.
    question: Option<Asker>,
    lost_client: Option<PeerId>,
}

/// Totals, to be compared with the engine's counters.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    requests: u64,
    mmi_requests: u64,
    dispatched: u64,
    replied: u64,
    partials: u64,
    registrations: u64,
    pauses: u64,
}

/// The account.
#[derive(Debug)]
pub(super) struct Model {
    settings: Settings,
    started_at: Instant,
    last_call_at: Instant,
    step: u64,
    /// The engine's time: since the start, pauses taken out.
    now: Duration,
    paused: Duration,
    is_draining: bool,
    /// What the engine kept before this step.
    bytes_before: usize,
    workers: BTreeMap<PeerId, Worker>,
    /// Workers without work, the longest idle first.
    idle: BTreeMap<ServiceName, VecDeque<PeerId>>,
    requests: BTreeMap<u64, Request>,
    /// The last request that was handed over for the first time.
    last_first: BTreeMap<(PeerId, ServiceName), u64>,
    tokens: Vec<Token>,
    proposed_in: BTreeMap<(Epoch, Seq), u64>,
    asked_in: BTreeMap<QueryId, (u64, ServiceName)>,
    questions: BTreeMap<QueryId, Question>,
    owed: Vec<Owed>,
    services_up: BTreeSet<ServiceName>,
    counts: Counts,
    expected: Expected,
    pub(super) ends: BTreeSet<&'static str>,
}

impl Model {
    pub(super) fn new(settings: Settings, started_at: Instant) -> Self {
        Self {
            settings,
            started_at,
            last_call_at: started_at,
            step: 0,
            now: Duration::ZERO,
            paused: Duration::ZERO,
            is_draining: false,
            bytes_before: 0,
            workers: BTreeMap::new(),
            idle: BTreeMap::new(),
            requests: BTreeMap::new(),
            last_first: BTreeMap::new(),
            tokens: Vec::new(),
            proposed_in: BTreeMap::new(),
            asked_in: BTreeMap::new(),
            questions: BTreeMap::new(),
            owed: Vec::new(),
            services_up: BTreeSet::new(),
            counts: Counts::default(),
            expected: Expected::default(),
            ends: BTreeSet::new(),
        }
    }

    // What the peers need to know.

    pub(super) fn worker_peers(&self) -> Vec<PeerId> {
        self.workers.keys().cloned().collect()
    }

    pub(super) fn worker_versions(&self) -> Vec<(PeerId, Version)> {
        self.workers.iter().map(|(peer, worker)| (peer.clone(), worker.version)).collect()
    }

    pub(super) fn busy(&self) -> Vec<(PeerId, Version, Token)> {
        let busy = self.workers.iter().filter_map(|(peer, worker)| {
            worker.held.as_ref().map(|held| (peer.clone(), worker.version, held.token))
        });
        busy.collect()
    }

    pub(super) fn token_of(&self, peer: &PeerId) -> Option<Token> {
        Some(self.workers.get(peer)?.held.as_ref()?.token)
    }

    /// The first token that was given.
    pub(super) fn any_token(&self) -> Option<Token> {
        self.tokens.first().copied()
    }

    /// Any token that was ever given.
    pub(super) fn token(&self, pick: u8) -> Option<Bytes> {
        let count = self.tokens.len().max(1);
        self.tokens.get(usize::from(pick) % count).map(|token| token.as_ref().to_vec())
    }

    // What goes in.

    pub(super) fn before_timeout(&mut self, broker: &Broker<Bytes>, now: Instant) {
        self.begin_step(broker, now);
        self.expected.is_timeout = true;
        let due = |question: &Question| question.deadline <= self.now;
        let overdue: Vec<QueryId> =
            self.questions.iter().filter(|(_, q)| due(q)).map(|(id, _)| *id).collect();
        for query in overdue {
            self.expect_answer(query, "503");
        }
    }

    pub(super) fn before_input(
        &mut self,
        broker: &Broker<Bytes>,
        now: Instant,
        input: &Input<Bytes>,
    ) -> Result<(), String> {
        self.begin_step(broker, now);
        match input {
            Input::Received { from, message: AtBroker::Client(request), .. } => {
                self.on_request(from, request)?;
            }
            Input::Received { from, message: AtBroker::Worker { version, message }, .. } => {
                self.on_worker_message(from, *version, message);
            }
            Input::Malformed { from, error } => self.on_malformed(from, error),
            Input::PeerLost { peer, unsent } => self.on_peer_lost(peer, *unsent),
            Input::Committed(change) => self.on_committed(change),
            Input::LookedUp { query, outcome } => self.on_looked_up(*query, *outcome),
            Input::Described { query, json } => {
                if let Some(question) = self.questions.remove(query) {
                    let body = [b"200".to_vec(), json.clone()].into_iter().collect();
                    self.expected.to_clients.push(question.asker.last_reply(body));
                }
            }
            Input::LinkUp { .. }
            | Input::LinkDown { .. }
            | Input::FromOrigin { .. }
            | Input::FromOwner { .. } => return Err("a node without links hears others".to_owned()),
            Input::Access(_) => return Err("a node without identities hears of them".to_owned()),
            Input::Isolated => self.expected.is_isolated = true,
            Input::Drain { .. } => self.is_draining = true,
        }
        Ok(())
    }

    fn begin_step(&mut self, broker: &Broker<Bytes>, now: Instant) {
        self.step += 1;
        self.bytes_before = broker.gauges().queued_bytes;
        self.expected = Expected {
            workers_before: self.workers.keys().cloned().collect(),
            ..Expected::default()
        };
        let awake_at = self.last_call_at;
        self.last_call_at = now;
        let due = broker.poll_timeout();
        let overdue = due.map_or(Duration::ZERO, |due| now.duration_since(due.max(awake_at)));
        if overdue > self.settings.service.heartbeat_interval {
            self.paused += overdue;
            self.counts.pauses += 1;
        }
        let elapsed = now.duration_since(self.started_at);
        self.now = elapsed - self.paused;
    }

    fn policy(&self, service: &ServiceName) -> ServicePolicy {
        *self.settings.policy_of(service.as_bytes())
    }

    fn on_request(
        &mut self,
        from: &PeerId,
        request: &client::Request<ServiceFrame<Bytes>, Bytes>,
    ) -> Result<(), String> {
        let service = request.service.as_name().to_owned();
        let asker = Asker {
            client: from.clone(),
            version: request.version,
            envelope: request.envelope.clone(),
            service: service.clone(),
        };
        if service.is_reserved() {
            self.on_mmi(asker, &request.body);
            return Ok(());
        }
        self.counts.requests += 1;
        let number = number_of(&request.body).ok_or("a request without a number")?;
        let request = Request {
            asker,
            body: request.body.clone(),
            arrived_step: self.step,
            deadline: self.now + self.policy(&service).request_ttl,
            attempts: 0,
            was_handed_over: false,
            unsent_step: None,
            is_maybe_done: false,
            is_partly_answered: false,
            is_held: false,
            is_over: self.is_draining,
        };
        self.requests.insert(number, request);
        Ok(())
    }

    fn on_mmi(&mut self, asker: Asker, body: &Body<Bytes>) {
        self.counts.mmi_requests += 1;
        let about = body.last().and_then(|name| ServiceName::try_from(name.as_slice()).ok());
        match (asker.service.as_bytes(), about) {
            (b"mmi.service", Some(name)) if !name.is_reserved() => {
                self.expected.question = Some(asker);
            }
            (b"mmi.status", _) => self.expected.question = Some(asker),
            (b"mmi.service", _) => self.expected.to_clients.push(asker.code("404")),
            (b"mmi.echo", _) => self.expected.to_clients.push(asker.last_reply(body.clone())),
            (_, _) => self.expected.to_clients.push(asker.code("501")),
        }
    }

    fn expect_answer(&mut self, query: QueryId, code: &str) {
        if let Some(question) = self.questions.remove(&query) {
            self.expected.to_clients.push(question.asker.code(code));
        }
    }

    fn on_worker_message(
        &mut self,
        from: &PeerId,
        version: Version,
        message: &ToBroker<ServiceFrame<Bytes>, Bytes>,
    ) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(from) else {
            return self.on_stranger(from, version, message);
        };
        worker.last_heard = now;
        let breaks_rules = Some((from.clone(), WorkerEnd::ProtocolError));
        // MDP7-32: a worker that leaves hears nothing, whatever version it says so in.
        if worker.version != version && *message != ToBroker::Disconnect {
            self.expected.end = breaks_rules;
            return;
        }
        match message {
            ToBroker::Heartbeat => {
                let interval =
                    self.settings.policy_of(worker.service.as_bytes()).heartbeat_interval;
                let is_long_busy = worker.held.as_ref().is_some_and(|h| now - h.since >= interval);
                worker.heartbeats_while_busy |= is_long_busy;
            }
            ToBroker::Disconnect => self.expected.end = Some((from.clone(), WorkerEnd::Left)),
            ToBroker::Ready { .. } | ToBroker::Request => self.expected.end = breaks_rules,
            ToBroker::Partial { client, .. }
            | ToBroker::Final { client, .. }
            | ToBroker::Undelimited { client, .. }
                if !worker.held.as_ref().is_some_and(|held| held.token.matches(client)) =>
            {
                self.expected.end = breaks_rules;
            }
            ToBroker::Partial { body, .. } => self.on_partial(from, body),
            ToBroker::Final { body, .. } | ToBroker::Undelimited { body, .. } => {
                self.on_final(from, body);
            }
        }
    }

    fn on_stranger(
        &mut self,
        from: &PeerId,
        version: Version,
        message: &ToBroker<ServiceFrame<Bytes>, Bytes>,
    ) {
        match message {
            ToBroker::Ready { service } => {
                let service = service.as_name().to_owned();
                self.expected.ready = Some(Ready { peer: from.clone(), version, service });
            }
            ToBroker::Disconnect | ToBroker::Undelimited { .. } => {}
            ToBroker::Heartbeat
            | ToBroker::Partial { .. }
            | ToBroker::Final { .. }
            | ToBroker::Request => self.expected.told.push((from.clone(), version)),
        }
    }

    fn on_partial(&mut self, from: &PeerId, body: &Body<Bytes>) {
        let Some(worker) = self.workers.get_mut(from) else { return };
        let Some(held) = &mut worker.held else { return };
        let Some(request) = self.requests.get_mut(&held.number) else { return };
        if request.asker.version == Version::V02 {
            self.counts.partials += 1;
            request.is_partly_answered = true;
            let reply = request.asker.reply(ReplyCommand::Partial, body.clone());
            return self.expected.to_clients.push(reply);
        }
        held.parts.extend(body.iter().cloned());
        let limits = self.settings.decode;
        let bytes: usize = held.parts.iter().map(Vec::len).sum();
        let more = body.iter().map(Vec::len).sum::<usize>();
        let is_too_large = bytes > limits.message_bytes_max
            || held.parts.len() > limits.frames_max
            || self.bytes_before + more > self.settings.max_queued_bytes;
        if is_too_large {
            (request.is_over, request.is_held) = (true, false);
            worker.held = None;
            self.expected.end = Some((from.clone(), WorkerEnd::ProtocolError));
        }
    }

    fn on_final(&mut self, from: &PeerId, body: &Body<Bytes>) {
        let Some(worker) = self.workers.get_mut(from) else { return };
        let Some(held) = worker.held.take() else { return };
        let Some(request) = self.requests.get_mut(&held.number) else { return };
        self.counts.replied += 1;
        (request.is_over, request.is_held) = (true, false);
        let body = held.parts.into_iter().chain(body.iter().cloned()).collect();
        self.expected.to_clients.push(request.asker.last_reply(body));
        self.idle.entry(worker.service.clone()).or_default().push_back(from.clone());
    }

    /// AM-21: the request of that worker is over, without a reply.
    fn on_bad_answer(&mut self, from: &PeerId) {
        let held = self.workers.get_mut(from).and_then(|worker| worker.held.take());
        if let Some(request) = held.and_then(|held| self.requests.get_mut(&held.number)) {
            (request.is_over, request.is_held) = (true, false);
        }
    }

    fn on_malformed(&mut self, from: &PeerId, error: &DecodeError) {
        match (self.workers.contains_key(from), error) {
            (true, error) => {
                if let DecodeError::BadAnswer { address, .. } = error
                    && self.token_of(from) == Some(*address)
                {
                    self.on_bad_answer(from);
                }
                self.expected.end = Some((from.clone(), WorkerEnd::ProtocolError));
            }
            (false, DecodeError::BadReady { version, .. }) => self.owe(from, *version),
            (false, DecodeError::Malformed(_) | DecodeError::BadAnswer { .. }) => {}
        }
    }

    fn on_peer_lost(&mut self, peer: &PeerId, unsent: Option<Token>) {
        self.expected.lost_client = Some(peer.clone());
        let Some(worker) = self.workers.get(peer) else { return };
        self.expected.end = Some((peer.clone(), WorkerEnd::ConnectionLost));
        let held = worker.held.as_ref().filter(|held| unsent == Some(held.token));
        if let Some(request) = held.and_then(|held| self.requests.get_mut(&held.number)) {
            request.attempts -= 1;
            request.unsent_step = Some(self.step);
        }
    }

    fn on_committed(&mut self, change: &CatalogChange) {
        let CatalogChange::Offered { incarnation, seq, services } = change else { return };
        let Some(step) = self.proposed_in.get(&(incarnation.epoch, *seq)).copied() else { return };
        for service in services {
            self.prove(service, step);
        }
    }

    fn on_looked_up(&mut self, query: QueryId, outcome: LookupOutcome) {
        match outcome {
            LookupOutcome::OfferedHere | LookupOutcome::OfferedElsewhere => {
                self.expect_answer(query, "200");
            }
            LookupOutcome::NotOffered => self.expect_answer(query, "404"),
            LookupOutcome::NoQuorum => self.expect_answer(query, "503"),
        }
        if outcome == LookupOutcome::OfferedHere
            && let Some((step, service)) = self.asked_in.get(&query).cloned()
        {
            self.prove(&service, step);
        }
    }

    /// The cluster speaks of a moment not before this step.
    fn prove(&mut self, service: &ServiceName, step: u64) {
        let proven = |worker: &&mut Worker| worker.service == *service && worker.ready_step <= step;
        self.workers.values_mut().filter(proven).for_each(|worker| worker.is_proven = true);
    }

    fn owe(&mut self, peer: &PeerId, version: Version) {
        let due = self.now + REFUSAL_DELAY;
        self.owed.push(Owed { peer: peer.clone(), version, due });
    }
}
