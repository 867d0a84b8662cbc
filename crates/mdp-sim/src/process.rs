//! One process of a node: engine, replica and links, driven as the node's broker thread drives them.

use std::time::{Duration, Instant};

use mdp_broker::{Broker, Effect, Input, Note, Receipt};
use mdp_raft::{Consensus, News, Stop};
use mdp_replica::{NewsState, RaftAgreement, Replica};
use mdp_transport::SharedFrame;
use tokio::sync::mpsc::{Receiver, Sender};

use crate::{
    client_port::ClientPort,
    relay_port::RelayPort,
    turn::{Ended, Turn},
    wires::{Delivery, WireKind},
};

/// How long the last messages may wait for other nodes after a drain.
const FLUSH_MAX: Duration = Duration::from_secs(1);
/// How often is looked whether other nodes have closed their ends.
const FLUSH_STEP: Duration = Duration::from_millis(10);
/// The longest sleep of a broker thread.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// How a process ended by itself.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// It drained.
    Drained(Receipt),
    /// The cluster said that it can not go on.
    Stopped(Stop),
}

#[derive(Clone, Debug)]
enum Phase {
    Serving,
    Draining,
    /// The engine has nothing left to do; the cluster is told.
    Leaving(Receipt),
    /// Other nodes take their last messages.
    Flushing {
        until: Instant,
        look_at: Instant,
        receipt: Receipt,
    },
    Ended(Ending),
}

/// What a process is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) consensus: Consensus,
    pub(crate) broker: Broker<SharedFrame>,
    pub(crate) replica: Replica<RaftAgreement, SharedFrame>,
    /// The news from consensus, and its way on to the replica.
    pub(crate) news: Receiver<News>,
    pub(crate) to_replica: Sender<News>,
    pub(crate) clients: ClientPort,
    pub(crate) relay: RelayPort,
    pub(crate) drain_timeout: Duration,
}

/// One process of a node.
#[derive(Debug)]
pub(crate) struct Process {
    parts: Parts,
    phase: Phase,
    wants_drain: bool,
    /// When it wakes up at the latest.
    awake_at: Option<Instant>,
}

impl Process {
    pub(crate) const fn new(parts: Parts) -> Self {
        Self { parts, phase: Phase::Serving, wants_drain: false, awake_at: None }
    }

    /// Something arrived; it is read in the next turn.
    pub(crate) fn put(&mut self, delivery: Delivery) {
        match delivery.kind {
            WireKind::Front => self.parts.clients.put(delivery),
            WireKind::Relay => self.parts.relay.put(delivery),
        }
    }

    /// Whether something is to be done although nothing is due.
    pub(crate) fn is_awake(&self) -> bool {
        self.parts.clients.is_awake() || self.parts.relay.is_awake()
    }

    /// As SIGTERM does, with the next turn.
    pub(crate) const fn drain(&mut self) {
        self.wants_drain = true;
    }

    pub(crate) const fn is_leaving(&self) -> bool {
        self.wants_drain || !matches!(self.phase, Phase::Serving)
    }

    pub(crate) const fn broker(&self) -> &Broker<SharedFrame> {
        &self.parts.broker
    }

    pub(crate) const fn replica(&self) -> &Replica<RaftAgreement, SharedFrame> {
        &self.parts.replica
    }

    pub(crate) const fn consensus(&self) -> &Consensus {
        &self.parts.consensus
    }

    pub(crate) const fn relay(&self) -> &RelayPort {
        &self.parts.relay
    }

    /// When the next turn is due, by the machine's clock.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let flush = match self.phase {
            Phase::Flushing { look_at, .. } => Some(look_at),
            Phase::Serving | Phase::Draining | Phase::Leaving(_) | Phase::Ended(_) => None,
        };
        let Parts { broker, replica, clients, relay, .. } = &self.parts;
        let due = [
            broker.poll_timeout(),
            replica.poll_timeout(),
            clients.poll_timeout(),
            relay.poll_timeout(),
        ];
        due.into_iter().chain([flush, self.awake_at]).flatten().min()
    }

    /// One turn: what came, what is due, and all that follows. Returns how the process ended, if it did.
    pub(crate) fn turn(&mut self, turn: &mut Turn<'_>) -> Option<Ending> {
        if self.wants_drain && matches!(self.phase, Phase::Serving) {
            self.phase = Phase::Draining;
            self.parts.replica.begin_drain(turn.now);
            let deadline = turn.now + self.parts.drain_timeout;
            self.handle(turn, Input::Drain { deadline });
        }
        self.pass_news_on(turn);
        while self.parts.replica.read_news(turn.now) == NewsState::MoreWaits {
            self.run_effects(turn);
            self.pass_news_on(turn);
        }
        self.run_effects(turn);
        if let Some(stop) = self.parts.replica.take_stop() {
            self.phase = Phase::Ended(Ending::Stopped(stop));
        }
        self.read_relay(turn);
        self.read_clients(turn);
        if let Some(peers) = self.parts.replica.take_peers() {
            self.parts.relay.set_peers(turn.now, peers);
        }
        self.parts.relay.tend(turn);
        self.run_effects(turn);
        self.run_timers(turn);
        self.parts.replica.flush(turn.now);
        self.go_on_leaving(turn);
        self.parts.clients.flush(&mut turn.io());
        self.parts.relay.flush(turn);
        self.awake_at = Some(turn.now + SLEEP_MAX);
        match &self.phase {
            Phase::Ended(ending) => Some(ending.clone()),
            Phase::Serving | Phase::Draining | Phase::Leaving(_) | Phase::Flushing { .. } => None,
        }
    }

    fn pass_news_on(&mut self, turn: &mut Turn<'_>) {
        while let Ok(place) = self.parts.to_replica.try_reserve() {
            let Ok(news) = self.parts.news.try_recv() else { return };
            turn.truth.hear(&news);
            place.send(news);
        }
    }

    /// Nodes first, as many clients must not make them silent.
    fn read_relay(&mut self, turn: &mut Turn<'_>) {
        let Parts { relay, broker, .. } = &mut self.parts;
        let now = turn.now;
        relay.read(turn, |input| broker.handle_input(now, input));
        // What became of links is told when all effects have been run.
        self.run_effects(turn);
    }

    fn read_clients(&mut self, turn: &mut Turn<'_>) {
        let Parts { clients, broker, .. } = &mut self.parts;
        clients.read(turn, broker);
        self.run_effects(turn);
    }

    /// What came is read before any deadline counts.
    fn run_timers(&mut self, turn: &mut Turn<'_>) {
        if self.parts.clients.has_more() {
            return;
        }
        self.parts.clients.handle_timeout(turn.now);
        self.run_effects(turn);
        if self.parts.broker.poll_timeout().is_some_and(|at| at <= turn.now) {
            self.parts.broker.handle_timeout(turn.now);
            self.run_effects(turn);
        }
        if self.parts.replica.poll_timeout().is_some_and(|at| at <= turn.now) {
            self.parts.replica.handle_timeout(turn.now);
            self.run_effects(turn);
        }
    }

    fn go_on_leaving(&mut self, turn: &Turn<'_>) {
        if let Phase::Leaving(receipt) = self.phase
            && self.parts.replica.has_left()
        {
            let (until, look_at) = (turn.now + FLUSH_MAX, turn.now);
            self.phase = Phase::Flushing { until, look_at, receipt };
        }
        if let Phase::Flushing { until, look_at, receipt } = self.phase
            && look_at <= turn.now
        {
            let are_nodes_done = self.parts.relay.say_bye(turn.now);
            let is_done = self.parts.clients.is_all_written() && are_nodes_done;
            let is_done = is_done || turn.now >= until;
            self.phase = match is_done {
                true => Phase::Ended(Ending::Drained(receipt)),
                false => Phase::Flushing { until, look_at: turn.now + FLUSH_STEP, receipt },
            };
        }
    }

    fn handle(&mut self, turn: &mut Turn<'_>, input: Input<SharedFrame>) {
        self.parts.broker.handle_input(turn.now, input);
        self.run_effects(turn);
    }

    /// Runs what the engine decided, then tells it what came of that, until both are done.
    fn run_effects(&mut self, turn: &mut Turn<'_>) {
        loop {
            while let Some(effect) = self.parts.broker.poll_effect() {
                self.run_effect(turn, effect);
            }
            let Parts { broker, clients, relay, replica, .. } = &mut self.parts;
            let lost = clients.poll_lost(turn.now, broker);
            let told = lost.or_else(|| relay.poll_input(turn));
            let Some(input) = told.or_else(|| replica.poll_answer()) else { return };
            broker.handle_input(turn.now, input);
        }
    }

    fn run_effect(&mut self, turn: &mut Turn<'_>, effect: Effect<SharedFrame>) {
        let Parts { replica, clients, relay, .. } = &mut self.parts;
        match effect {
            Effect::Send { to, message } => clients.send(&to, message),
            Effect::ToOwner { link, message } => relay.send_to_owner(link, message),
            Effect::ToOrigin { link, message } => relay.send_to_origin(turn.now, link, message),
            Effect::Propose(entry) => replica.propose(entry),
            Effect::Lookup { query, service, purpose } => replica.lookup(query, service, purpose),
            Effect::Describe { query, .. } => {
                replica.answer(Input::Described { query, json: b"{}".as_slice().into() });
            }
            Effect::Note(note) => self.note(turn, &note),
            Effect::Drained(receipt) => {
                self.phase = Phase::Leaving(receipt);
                replica.leave(turn.now);
            }
        }
    }

    fn note(&mut self, turn: &mut Turn<'_>, note: &Note) {
        turn.notes.lines.push(format!("{note:?}"));
        let clients = &mut self.parts.clients;
        match note {
            Note::WorkerUp { peer, .. } => clients.let_be_silent(peer),
            Note::WorkerDown { peer, end, .. } => {
                // A lost connection is closed at the end of the turn.
                let ended = clients.wire_of(peer).map(|wire| Ended::Worker { wire, end: *end });
                turn.notes.ended.extend(ended);
            }
            _ => {}
        }
    }
}
