//! The engine: its five doors, and the state behind them.

mod audit;
mod drain;
mod grants;
mod links;
mod mmi;
mod offers;
mod origin;
mod owner;
mod peer_status;
mod queries;
mod registration;
mod requests;
mod timeouts;
mod workers;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use mdp_catalog::Incarnation;
use mdp_wire::{AtBroker, DecodeLimits, Frame, ServiceName, Token, Version, worker::FromBroker};

pub use self::peer_status::PeerStatus;
use self::{
    drain::Drain, grants::NotedDenials, links::Links, offers::Offers, queries::Queries,
    registration::Caller,
};
use crate::{
    Access, Counters, DropReason, Effect, Gauges, Input, Note, Outgoing, PeerId, QueryId, Seed,
    Settings,
    clients::Clients,
    drops::DroppedServices,
    refusals::Refusals,
    service::{Service, ServiceId, Services},
    time::{Clock, Moment},
    timers::{TimerKey, Timers},
    tokens::TokenSource,
    usage::Usages,
    worker::{WorkerState, Workers},
};

/// What a service has on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceStatus {
    /// Its name.
    pub name: ServiceName,
    /// Registered workers, idle or busy.
    pub workers: usize,
    /// Workers that wait for work.
    pub idle: usize,
    /// Requests that wait for a worker.
    pub queued: usize,
}

impl ServiceStatus {
    fn of<F: Frame>(service: &Service<F>) -> Self {
        Self {
            name: service.name.clone(),
            workers: service.registered_count(),
            idle: service.idle.len(),
            queued: service.queue.len(),
        }
    }
}

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerActivity {
    /// Its registration is not proven yet.
    Registering,
    /// It waits for work.
    Idle,
    /// It has a request.
    Busy,
}

/// One worker of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Which connection.
    pub peer: PeerId,
    /// What it offers.
    pub service: ServiceName,
    /// The version of its READY.
    pub version: Version,
    /// What it does.
    pub activity: WorkerActivity,
    /// How long it has been silent.
    pub silent_for: Duration,
}

/// Sums over all services, kept as they change.
#[derive(Debug, Default)]
struct Totals {
    queued_requests: usize,
    held_requests: usize,
    forwarded_requests: usize,
    /// Of waiting, held and forwarded requests, with [`crate::request::REQUEST_OVERHEAD_BYTES`] each.
    bytes: usize,
    idle_workers: usize,
    services_with_workers: usize,
}

/// One node's broker. See the crate documentation for the contract.
#[derive(Debug)]
pub struct Broker<F> {
    incarnation: Incarnation,
    settings: Settings,
    clock: Clock,
    timers: Timers,
    tokens: TokenSource,
    services: Services<F>,
    workers: Workers<F>,
    clients: Clients,
    links: Links<F>,
    offers: Offers,
    queries: Queries<F>,
    next_query: QueryId,
    next_arrival: u64,
    next_idle_order: u64,
    /// When a client last asked for a service.
    last_request_at: Moment,
    refusals: Refusals,
    access: Arc<Access>,
    usages: Usages,
    noted_denials: NotedDenials,
    drain: Option<Drain>,
    totals: Totals,
    counters: Counters,
    dropped_services: DroppedServices,
    effects: VecDeque<Effect<F>>,
}

impl<F: Frame> Broker<F> {
    /// A broker without peers, in the life that the cluster gave to this node.
    #[must_use]
    pub fn new(incarnation: Incarnation, settings: Settings, seed: Seed, now: Instant) -> Self {
        let clock = Clock::new(now);
        Self {
            incarnation,
            settings,
            timers: Timers::default(),
            tokens: TokenSource::new(seed),
            services: Services::default(),
            workers: Workers::default(),
            clients: Clients::default(),
            links: Links::default(),
            offers: Offers::default(),
            queries: Queries::default(),
            next_query: QueryId(1),
            next_arrival: 1,
            next_idle_order: 1,
            last_request_at: clock.now(),
            refusals: Refusals::new(clock.now(), seed.hash_key()),
            access: Arc::default(),
            usages: Usages::default(),
            noted_denials: NotedDenials::default(),
            drain: None,
            totals: Totals::default(),
            counters: Counters::default(),
            dropped_services: DroppedServices::default(),
            effects: VecDeque::new(),
            clock,
        }
    }

    /// Takes something that happened outside. Infallible: a bad peer is an effect, not an error.
    pub fn handle_input(&mut self, now: Instant, input: Input<F>) {
        self.advance(now);
        match input {
            Input::Received { from, source, message: AtBroker::Client(request) } => {
                self.on_request(from, source.subject, request);
            }
            Input::Received { from, source, message: AtBroker::Worker { version, message } } => {
                self.on_worker_message(Caller { peer: from, source, version }, message);
            }
            Input::Malformed { from, error } => self.on_malformed(from, error),
            Input::PeerLost { peer, unsent } => self.on_peer_lost(&peer, unsent),
            Input::Committed(change) => self.on_committed(change),
            Input::LookedUp { query, outcome } => self.on_looked_up(query, outcome),
            Input::Described { query, json } => self.on_described(query, &json),
            Input::LinkUp { link, role } => self.on_link_up(link, role),
            Input::LinkDown { link, unsent } => self.on_link_down(link, unsent),
            Input::FromOrigin { link, message } => self.on_from_origin(link, message),
            Input::FromOwner { link, message } => self.on_from_owner(link, message),
            Input::Access(access) => self.on_access(access),
            Input::Isolated => self.on_isolated(),
            Input::Drain { deadline } => self.on_drain(deadline),
        }
        self.settle();
    }

    /// Does what is due: heartbeats, expiries, deadlines.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        while let Some(key) = self.timers.pop_due(self.clock.now()) {
            self.on_timer(key);
        }
        self.settle();
    }

    /// The next thing that the shell must do, until `None`.
    pub fn poll_effect(&mut self) -> Option<Effect<F>> {
        self.effects.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next().map(|moment| self.clock.instant_of(moment))
    }

    /// What was counted since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The services of dropped requests since the last call, for each reason the first of them, at
    /// most [`DROPPED_SERVICES_MAX`](crate::DROPPED_SERVICES_MAX).
    pub fn take_dropped_services(&mut self) -> BTreeMap<DropReason, Vec<ServiceName>> {
        self.dropped_services.take()
    }

    /// What one message may hold.
    #[must_use]
    pub const fn message_limits(&self) -> DecodeLimits {
        self.settings.decode
    }

    /// What the broker holds now.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        Gauges {
            services: self.services.len(),
            workers: self.workers.len(),
            idle_workers: self.totals.idle_workers,
            queued_requests: self.totals.queued_requests,
            held_requests: self.totals.held_requests,
            forwarded_requests: self.totals.forwarded_requests,
            queued_bytes: self.totals.bytes,
            oldest_request_age: self.oldest_request_age(),
        }
    }

    /// How many bytes waiting, held and forwarded requests may have: `broker.max_queued_bytes`.
    #[must_use]
    pub const fn queued_bytes_max(&self) -> usize {
        self.settings.max_queued_bytes
    }

    /// Looks at each client of each service once.
    fn oldest_request_age(&self) -> Duration {
        let now = self.clock.now();
        let oldest = self.services.iter().filter_map(|(_, service)| service.queue.oldest());
        oldest.min().map_or(Duration::ZERO, |arrived_at| now.since(arrived_at))
    }

    /// What each known service has on this node, by name.
    pub fn services(&self) -> impl Iterator<Item = ServiceStatus> {
        self.services.iter().map(|(_, service)| ServiceStatus::of(service))
    }

    /// The services with waiting requests, those with the most first, at most this many.
    #[must_use]
    pub fn waiting_services(&self, max: usize) -> Vec<ServiceStatus> {
        if self.totals.queued_requests == 0 {
            return Vec::new();
        }
        let services = self.services.iter().map(|(_, service)| service);
        let mut waiting: Vec<_> = services.filter(|service| !service.queue.is_empty()).collect();
        let order = |service: &&Service<F>| (Reverse(service.queue.len()), service.name.clone());
        if waiting.len() > max {
            waiting.select_nth_unstable_by_key(max, order);
            waiting.truncate(max);
        }
        waiting.sort_unstable_by_key(order);
        waiting.into_iter().map(ServiceStatus::of).collect()
    }

    /// What each worker does, in no order.
    pub fn workers(&self) -> impl Iterator<Item = WorkerStatus> {
        let now = self.clock.now();
        self.workers.iter().filter_map(move |(_, worker)| {
            Some(WorkerStatus {
                peer: worker.peer.clone(),
                service: self.services.find(worker.service)?.name.clone(),
                version: worker.version,
                activity: match worker.state {
                    WorkerState::Registering { .. } => WorkerActivity::Registering,
                    WorkerState::Idle { .. } => WorkerActivity::Idle,
                    WorkerState::Busy { .. } => WorkerActivity::Busy,
                },
                silent_for: now.since(worker.last_heard),
            })
        })
    }

    fn advance(&mut self, now: Instant) {
        let pause =
            self.clock.advance(now, self.timers.next(), self.settings.service.heartbeat_interval);
        if let Some(pause) = pause {
            self.counters.pauses += 1;
            let milliseconds = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            self.effects.push_back(Effect::Note(Note::Paused { milliseconds }));
        }
    }

    /// What follows from any change: tell the cluster and the other nodes, end the drain.
    fn settle(&mut self) {
        self.propose_if_needed();
        self.tell_origins_if_due();
        if self.drain.is_some() {
            self.finish_drain_if_done();
        }
    }

    fn on_timer(&mut self, key: TimerKey) {
        match key {
            TimerKey::Worker(worker) => self.on_worker_timer(worker),
            TimerKey::Service(service) => self.on_service_timer(service),
            TimerKey::Queries => self.on_queries_timer(),
            TimerKey::Proposal => self.on_proposal_timer(),
            TimerKey::Refusals => self.on_refusals_timer(),
            TimerKey::Load => self.on_load_timer(),
            TimerKey::DrainStep => self.on_drain_step(),
            TimerKey::Drain => self.on_drain_timer(),
        }
    }

    fn now(&self) -> Moment {
        self.clock.now()
    }

    fn new_query_id(&mut self) -> QueryId {
        let query = self.next_query;
        self.next_query = QueryId(query.0.saturating_add(1));
        query
    }

    fn send_to_worker(&mut self, to: PeerId, version: Version, message: FromBroker<Token, F>) {
        self.effects.push_back(Effect::Send { to, message: Outgoing::Worker { version, message } });
    }

    fn note(&mut self, note: Note) {
        self.effects.push_back(Effect::Note(note));
    }

    /// Sets the timer of a service, if it has none or a later one.
    fn arm_service(&mut self, id: ServiceId, at: Moment) {
        let Some(service) = self.services.find_mut(id) else { return };
        match service.timer_at {
            Some(armed) if armed <= at => return,
            Some(armed) => self.timers.remove(armed, TimerKey::Service(id)),
            None => {}
        }
        service.timer_at = Some(at);
        self.timers.insert(at, TimerKey::Service(id));
    }

    /// Forgets a service that has neither workers nor requests nor an offer.
    fn release_if_unused(&mut self, id: ServiceId) {
        if !self.services.find(id).is_some_and(|service| service.is_unused()) {
            return;
        }
        let Some(service) = self.services.remove(id) else { return };
        if let Some(at) = service.timer_at {
            self.timers.remove(at, TimerKey::Service(id));
        }
        self.offers.forget(id);
    }
}

/// The services whose offer differs from what the catalog holds.
type Dirty = BTreeSet<ServiceId>;
