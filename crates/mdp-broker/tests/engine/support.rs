//! [`BrokerTest`]: one engine in virtual time, with named peers and a cluster that answers.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use mdp_broker::{
    Broker, Effect, Input, LookupOutcome, Outgoing, PeerId, PeerSource, Seed, ServicePolicy,
    ServiceRule, Settings, Subject,
};
use mdp_catalog::{
    Boot, Catalog, CatalogEntry, Endpoints, Epoch, Incarnation, NodeId, NodeName, NodeUp,
    SoftwareVersion,
};
use mdp_wire::{
    AtBroker, DecodeError, ServiceFrame, ServiceName, Token, Version,
    client::Request,
    worker::{FromBroker, ToBroker},
};

pub(crate) type Bytes = Vec<u8>;
pub(crate) type Effects = Vec<Effect<Bytes>>;

/// The interval of the default settings; liveness is 3.
pub(crate) const INTERVAL: Duration = Duration::from_millis(2_500);
/// When a silent worker expires: interval x liveness and the engine's grace.
pub(crate) const EXPIRY: Duration = Duration::from_millis(3 * 2_500 + 250);

/// How the cluster behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cluster {
    /// Proposals are applied and questions answered at once.
    Answers,
    /// Nothing is answered until [`BrokerTest::release_cluster`].
    Withholds,
    /// Proposals get lost, and nobody knows anything.
    NoQuorum,
}

/// One engine with everything around it.
///
/// A peer whose name begins with a capital letter speaks 0.2, every other one 0.1.
#[derive(Debug)]
pub(crate) struct BrokerTest {
    pub(crate) broker: Broker<Bytes>,
    pub(crate) cluster: Cluster,
    pub(crate) catalog: Catalog,
    incarnation: Incarnation,
    log_index: u64,
    now: Instant,
    started_at: Instant,
    effects: Effects,
    /// Questions and proposals that the cluster has not answered.
    withheld: VecDeque<Effect<Bytes>>,
    /// The token of the last request that each worker got.
    tokens: BTreeMap<PeerId, Token>,
    /// Who peers have shown to be; others are not asked.
    subjects: BTreeMap<PeerId, Subject>,
}

pub(crate) fn peer(name: &str) -> PeerId {
    PeerId::from(name.as_bytes())
}

/// An entry by which a node begins a life after this one.
pub(crate) fn node_up(node: &NodeName, expected_epoch: Epoch) -> CatalogEntry {
    CatalogEntry::NodeUp(NodeUp {
        node: node.clone(),
        node_id: NodeId(1),
        // A repeated attempt would begin no life.
        boot: Boot { process: 7, attempt: u32::try_from(expected_epoch.0).unwrap() },
        expected_epoch,
        endpoints: Endpoints::default(),
        version: SoftwareVersion::default(),
    })
}

pub(crate) fn service(name: &str) -> ServiceName {
    ServiceName::try_from(name).unwrap()
}

pub(crate) fn version_of(peer: &str) -> Version {
    if peer.starts_with(|c: char| c.is_ascii_uppercase()) { Version::V02 } else { Version::V01 }
}

/// Default settings with one changed policy for every service.
pub(crate) fn with_policy(change: impl FnOnce(&mut ServicePolicy)) -> Settings {
    let mut settings = Settings::default();
    change(&mut settings.service);
    settings
}

/// Default settings with a rule for one service.
pub(crate) fn with_rule(pattern: &str, change: impl FnOnce(&mut ServicePolicy)) -> Settings {
    let mut policy = ServicePolicy::default();
    change(&mut policy);
    let rules = vec![ServiceRule { pattern: pattern.as_bytes().to_vec(), policy }];
    Settings { rules, ..Settings::default() }
}

#[expect(clippy::disallowed_methods, reason = "a first instant; time passes by the test's word")]
pub(crate) fn any_instant() -> Instant {
    Instant::now()
}

impl BrokerTest {
    pub(crate) fn new() -> Self {
        Self::with(Settings::default())
    }

    pub(crate) fn with(settings: Settings) -> Self {
        Self::with_seed(settings, 1)
    }

    pub(crate) fn with_seed(settings: Settings, seed: u8) -> Self {
        let node: NodeName = "node-1".parse().unwrap();
        let mut catalog = Catalog::new();
        catalog.apply(1, node_up(&node, Epoch(0))).unwrap();
        let incarnation = Incarnation { node, epoch: Epoch(1) };
        let now = any_instant();
        Self {
            broker: Broker::new(incarnation.clone(), settings, Seed([seed; 32]), now),
            cluster: Cluster::Answers,
            catalog,
            incarnation,
            log_index: 1,
            now,
            started_at: now,
            effects: Vec::new(),
            withheld: VecDeque::new(),
            tokens: BTreeMap::new(),
            subjects: BTreeMap::new(),
        }
    }

    // What happens outside.

    pub(crate) fn input(&mut self, input: Input<Bytes>) {
        self.broker.handle_input(self.now, input);
        self.run_effects();
    }

    /// Lets time pass as a shell does: every timer is handled at its very moment.
    pub(crate) fn advance(&mut self, duration: Duration) {
        let until = self.now + duration;
        while let Some(due) = self.broker.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.broker.handle_timeout(self.now);
            self.run_effects();
        }
        self.now = until;
    }

    /// Lets time pass unnoticed: the process stands still, or is busy with other things.
    pub(crate) fn skip(&mut self, duration: Duration) {
        self.now += duration;
    }

    pub(crate) fn handle_timeout(&mut self) {
        self.broker.handle_timeout(self.now);
        self.run_effects();
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// Since the start, whatever the engine made of it.
    pub(crate) fn elapsed(&self) -> Duration {
        self.now.duration_since(self.started_at)
    }

    /// A worker says something in the version of its name.
    pub(crate) fn say(&mut self, worker: &str, message: ToBroker<ServiceFrame<Bytes>, Bytes>) {
        self.say_in(version_of(worker), worker, message);
    }

    pub(crate) fn say_in(
        &mut self,
        version: Version,
        worker: &str,
        message: ToBroker<ServiceFrame<Bytes>, Bytes>,
    ) {
        let message = AtBroker::Worker { version, message };
        let source = self.source_of(worker);
        self.input(Input::Received { from: peer(worker), source, message });
    }

    /// From now on a peer has shown to be this one.
    pub(crate) fn is(&mut self, name: &str, subject: Subject) {
        self.subjects.insert(peer(name), subject);
    }

    fn source_of(&self, name: &str) -> PeerSource {
        let subject = self.subjects.get(&peer(name)).copied().unwrap_or_default();
        PeerSource { address: None, subject }
    }

    pub(crate) fn ready(&mut self, worker: &str, service: &str) {
        let service = ServiceFrame::try_new(service.as_bytes().to_vec()).unwrap();
        self.say(worker, ToBroker::Ready { service });
    }

    /// Registers a worker that then waits for work; what that caused is looked at elsewhere.
    pub(crate) fn worker(&mut self, worker: &str, service: &str) {
        self.ready(worker, service);
        let heartbeat = crate::effects::heartbeat(worker);
        assert!(self.effects().contains(&heartbeat), "{worker} is registered");
    }

    pub(crate) fn heartbeat(&mut self, worker: &str) {
        self.say(worker, ToBroker::Heartbeat);
    }

    pub(crate) fn disconnect(&mut self, worker: &str) {
        self.say(worker, ToBroker::Disconnect);
    }

    /// The worker answers the last request that it got.
    pub(crate) fn reply(&mut self, worker: &str, body: &str) {
        let token = self.token(worker);
        self.reply_to(worker, token, body);
    }

    pub(crate) fn reply_to(&mut self, worker: &str, token: Token, body: &str) {
        let client = token.as_ref().to_vec();
        self.say(worker, ToBroker::Final { client, body: body_of(body) });
    }

    pub(crate) fn partial(&mut self, worker: &str, body: &str) {
        let client = self.token(worker).as_ref().to_vec();
        self.say(worker, ToBroker::Partial { client, body: body_of(body) });
    }

    pub(crate) fn request(&mut self, client: &str, service: &str, body: &str) {
        self.request_from(client, &[], service, body);
    }

    /// A request with frames in front of its delimiter.
    pub(crate) fn request_from(
        &mut self,
        client: &str,
        envelope: &[&str],
        service: &str,
        body: &str,
    ) {
        let message = AtBroker::Client(Request {
            version: version_of(client),
            envelope: envelope.iter().map(|frame| frame.as_bytes().to_vec()).collect(),
            service: ServiceFrame::try_new(service.as_bytes().to_vec()).unwrap(),
            body: body_of(body),
        });
        let source = self.source_of(client);
        self.input(Input::Received { from: peer(client), source, message });
    }

    pub(crate) fn malformed(&mut self, from: &str, error: impl Into<DecodeError>) {
        self.input(Input::Malformed { from: peer(from), error: error.into() });
    }

    pub(crate) fn lost(&mut self, name: &str) {
        self.input(Input::PeerLost { peer: peer(name), unsent: None });
    }

    /// The connection went away before the worker's last request was handed over.
    pub(crate) fn lost_unsent(&mut self, worker: &str) {
        let unsent = Some(self.token(worker));
        self.input(Input::PeerLost { peer: peer(worker), unsent });
    }

    pub(crate) fn drain(&mut self, time: Duration) {
        self.input(Input::Drain { deadline: self.now + time });
    }

    // The cluster.

    /// Applies an entry as if any node had proposed it, and tells the engine.
    pub(crate) fn apply(&mut self, entry: CatalogEntry) {
        self.log_index += 1;
        if let Ok(change) = self.catalog.apply(self.log_index, entry) {
            self.input(Input::Committed(change));
        }
    }

    /// The cluster answers everything that it withheld, in order.
    pub(crate) fn release_cluster(&mut self) {
        for effect in std::mem::take(&mut self.withheld) {
            self.answer(effect);
        }
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        self.incarnation.clone()
    }

    /// As [`release_cluster`](Self::release_cluster) does for one effect.
    fn answer(&mut self, effect: Effect<Bytes>) {
        match effect {
            Effect::Propose(entry) => self.apply(entry),
            Effect::Lookup { query, service, .. } => {
                let outcome = self.look_up(&service);
                self.input(Input::LookedUp { query, outcome });
            }
            Effect::Describe { query, .. } => {
                self.input(Input::Described { query, json: b"{}".to_vec() });
            }
            Effect::Send { .. }
            | Effect::ToOwner { .. }
            | Effect::ToOrigin { .. }
            | Effect::Note(_)
            | Effect::Drained(_) => {}
        }
    }

    fn look_up(&self, service: &ServiceName) -> LookupOutcome {
        if self.catalog.is_offered_by(&self.incarnation, service.as_bytes()) {
            LookupOutcome::OfferedHere
        } else if self.catalog.is_offered(service.as_bytes()) {
            LookupOutcome::OfferedElsewhere
        } else {
            LookupOutcome::NotOffered
        }
    }

    /// Contract 1: all effects first, then whatever comes of them.
    fn run_effects(&mut self) {
        let mut questions = Vec::new();
        while let Some(effect) = self.broker.poll_effect() {
            match &effect {
                Effect::Send { to, message: Outgoing::Worker { message, .. } } => {
                    if let FromBroker::Request { client, .. } = message {
                        self.tokens.insert(to.clone(), *client);
                    }
                }
                Effect::Propose(_) | Effect::Lookup { .. } | Effect::Describe { .. } => {
                    questions.push(effect.clone());
                }
                Effect::Send { message: Outgoing::Client(_), .. }
                | Effect::ToOwner { .. }
                | Effect::ToOrigin { .. }
                | Effect::Note(_)
                | Effect::Drained(_) => {}
            }
            self.effects.push(effect);
        }
        self.broker.audit().unwrap();
        for question in questions {
            match self.cluster {
                Cluster::Answers => self.answer(question),
                Cluster::Withholds => self.withheld.push_back(question),
                Cluster::NoQuorum => self.answer_without_quorum(&question),
            }
        }
    }

    fn answer_without_quorum(&mut self, question: &Effect<Bytes>) {
        if let Effect::Lookup { query, .. } | Effect::Describe { query, .. } = question {
            let outcome = LookupOutcome::NoQuorum;
            self.input(Input::LookedUp { query: *query, outcome });
        }
    }

    // What came of it.

    /// Every effect since the last call.
    pub(crate) fn effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// Effects that somebody took and did not want.
    pub(crate) fn put_back(&mut self, mut effects: Effects) {
        effects.append(&mut self.effects);
        self.effects = effects;
    }

    /// The effects since the last call that are messages to peers.
    pub(crate) fn sends(&mut self) -> Effects {
        let is_send = |effect: &Effect<Bytes>| matches!(effect, Effect::Send { .. });
        self.effects().into_iter().filter(is_send).collect()
    }

    /// The token of the last request that the worker got.
    pub(crate) fn token(&self, worker: &str) -> Token {
        self.tokens[&peer(worker)]
    }
}

/// A body: one frame for each part between `|`.
pub(crate) fn body_of(body: &str) -> mdp_wire::Body<Bytes> {
    body.split('|').map(|frame| frame.as_bytes().to_vec()).collect()
}
