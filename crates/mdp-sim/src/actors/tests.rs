//! Actors with one real engine, whose cluster agrees at once.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use mdp_broker::{Broker, Effect, Input, LookupOutcome, Outgoing, PeerId, PeerSource, Seed};
use mdp_catalog::{
    Boot, Catalog, CatalogEntry, Endpoints, Epoch, Incarnation, NodeId, NodeUp, SoftwareVersion,
};
use mdp_wire::{DecodeLimits, decode_at_broker};

use super::{Asker, Client, Intruder, Worker, Workload};
use crate::{
    Rng,
    actor::{Actor, ActorAction},
    observation::{Answer, Event, Parting},
    roster::Addresses,
};

/// How long a message takes.
const WAY: Duration = Duration::from_millis(1);
/// How finely time passes.
const STEP: Duration = Duration::from_millis(1);

/// One node and everybody around it.
struct Bench {
    now: Instant,
    broker: Broker<Vec<u8>>,
    catalog: Catalog,
    life: Incarnation,
    index: u64,
    actors: Vec<Box<dyn Actor>>,
    /// The name of each actor's connection, which rises.
    connections: Vec<Option<u32>>,
    last_connection: u32,
    to_broker: VecDeque<(Instant, u32, Vec<Vec<u8>>)>,
    to_actors: VecDeque<(Instant, u32, Vec<Vec<u8>>)>,
    events: Vec<Event>,
}

impl Bench {
    fn new(workload: &Workload, actors: Vec<Box<dyn Actor>>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let now = runtime.block_on(async { tokio::time::Instant::now().into_std() });
        let life = Incarnation { node: "node-1".parse().unwrap(), epoch: Epoch(1) };
        let mut catalog = Catalog::new();
        let up = NodeUp {
            node: life.node.clone(),
            node_id: NodeId(1),
            boot: Boot::default(),
            expected_epoch: Epoch(0),
            endpoints: Endpoints::default(),
            version: SoftwareVersion::default(),
        };
        catalog.apply(1, CatalogEntry::NodeUp(up)).unwrap();
        let broker = Broker::new(life.clone(), workload.settings(), Seed([7; 32]), now);
        Self {
            now,
            broker,
            catalog,
            life,
            index: 1,
            connections: vec![None; actors.len()],
            actors,
            last_connection: 0,
            to_broker: VecDeque::new(),
            to_actors: VecDeque::new(),
            events: Vec::new(),
        }
    }

    fn run(&mut self, length: Duration) {
        if self.last_connection == 0 {
            self.actors.iter_mut().for_each(|actor| actor.revive(self.now));
        }
        let end = self.now + length;
        while self.now < end {
            self.act();
            self.deliver();
            if self.broker.poll_timeout().is_some_and(|at| at <= self.now) {
                self.broker.handle_timeout(self.now);
                self.carry_out();
            }
            self.broker.audit().unwrap();
            self.now += STEP;
        }
    }

    fn act(&mut self) {
        let now = self.now;
        for actor in 0..self.actors.len() {
            if self.actors[actor].poll_timeout().is_some_and(|at| at <= now) {
                self.actors[actor].on_timeout(now);
            }
            while let Some(action) = self.actors[actor].poll_action() {
                match action {
                    ActorAction::Connect { node } => {
                        self.close(actor);
                        self.last_connection += 1;
                        self.connections[actor] = Some(self.last_connection);
                        self.actors[actor].on_connected(now, node);
                    }
                    ActorAction::Close => self.close(actor),
                    ActorAction::Send(frames) => {
                        let connection = self.connections[actor].unwrap();
                        self.to_broker.push_back((now + WAY, connection, frames));
                    }
                    ActorAction::Observe(observation) => self.events.push(observation.event),
                }
            }
        }
    }

    fn close(&mut self, actor: usize) {
        if let Some(connection) = self.connections[actor].take() {
            let peer = peer(connection);
            self.to_broker.retain(|(_, other, _)| *other != connection);
            self.input(Input::PeerLost { peer, unsent: None });
        }
    }

    fn deliver(&mut self) {
        while self.to_broker.front().is_some_and(|(at, ..)| *at <= self.now) {
            let (_, connection, mut frames) = self.to_broker.pop_front().unwrap();
            let from = peer(connection);
            match decode_at_broker(&mut frames, &DecodeLimits::default()) {
                Ok(message) => {
                    self.input(Input::Received { from, source: PeerSource::default(), message });
                }
                Err(error) => self.input(Input::Malformed { from, error }),
            }
        }
        while self.to_actors.front().is_some_and(|(at, ..)| *at <= self.now) {
            let (_, connection, frames) = self.to_actors.pop_front().unwrap();
            let actor = self.connections.iter().position(|other| *other == Some(connection));
            if let Some(actor) = actor {
                self.actors[actor].on_frames(self.now, frames);
            }
        }
    }

    fn input(&mut self, input: Input<Vec<u8>>) {
        self.broker.handle_input(self.now, input);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.broker.poll_effect() {
            match effect {
                Effect::Send { to, message } => {
                    let mut frames: Vec<Vec<u8>> = Vec::new();
                    match message {
                        Outgoing::Client(reply) => reply.encode(&mut frames).unwrap(),
                        Outgoing::Worker { version, message } => {
                            message.encode(version, &mut frames).unwrap();
                        }
                    }
                    let connection = u32::from_be_bytes(to.bytes()[..4].try_into().unwrap());
                    self.to_actors.push_back((self.now + WAY, connection, frames));
                }
                Effect::Propose(entry) => {
                    self.index += 1;
                    if let Ok(change) = self.catalog.apply(self.index, entry) {
                        self.broker.handle_input(self.now, Input::Committed(change));
                    }
                }
                Effect::Lookup { query, service, .. } => {
                    let outcome = if self.catalog.is_offered_by(&self.life, service.as_bytes()) {
                        LookupOutcome::OfferedHere
                    } else {
                        LookupOutcome::NotOffered
                    };
                    self.broker.handle_input(self.now, Input::LookedUp { query, outcome });
                }
                Effect::Describe { .. }
                | Effect::ToOwner { .. }
                | Effect::ToOrigin { .. }
                | Effect::Note(_)
                | Effect::Drained(_) => {}
            }
        }
    }

    fn count(&self, is_it: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|event| is_it(event)).count()
    }

    fn wrong(&self) -> Vec<&Event> {
        let is_wrong =
            |event: &&Event| matches!(event, Event::Wrong { .. } | Event::StrayReply { .. });
        self.events.iter().filter(is_wrong).collect()
    }
}

fn peer(connection: u32) -> PeerId {
    PeerId::from(connection.to_be_bytes().as_slice())
}

fn workload(seed: u64) -> Workload {
    Workload { deaths: 0, leaves: 0, ..Workload::draw(&mut Rng::new(seed)) }
}

fn everybody(workload: &Workload, seed: u64) -> Vec<Box<dyn Actor>> {
    let mut rng = Rng::new(seed);
    let nodes = || Addresses::new(1);
    let mut all: Vec<Box<dyn Actor>> = Vec::new();
    for (service, planned) in workload.services.iter().enumerate() {
        for _ in 0..planned.workers {
            all.push(Box::new(Worker::new(all.len(), nodes(), (service, workload), rng.fork())));
        }
    }
    for _ in 0..workload.clients {
        all.push(Box::new(Client::new(all.len(), nodes(), workload, rng.fork())));
    }
    for _ in 0..2 {
        all.push(Box::new(Asker::new(all.len(), nodes(), workload, rng.fork())));
    }
    all.push(Box::new(Intruder::new(all.len(), nodes(), rng.fork())));
    all
}

#[test]
fn everybody_gets_what_the_protocol_promises() {
    for seed in 0..40 {
        let workload = workload(seed);
        let mut bench = Bench::new(&workload, everybody(&workload, seed));
        bench.run(Duration::from_secs(20));

        assert_eq!(bench.wrong(), Vec::<&Event>::new(), "seed {seed}");
        let answered = bench.count(|event| matches!(event, Event::RequestAnswered { .. }));
        assert!(answered > 20, "seed {seed}: {answered} requests were answered");
        for wanted in [Answer::Found, Answer::NotFound] {
            let is_it = |event: &Event| matches!(event, Event::LookupAnswered { answer, .. } if *answer == wanted);
            assert!(bench.count(is_it) > 0, "seed {seed}: {wanted:?}");
        }
        let evicted = |event: &Event| matches!(event, Event::WorkerParted { parting, .. } if *parting != Parting::Left);
        assert_eq!(bench.count(evicted), 0, "seed {seed}");
        let forgotten = |event: &Event| matches!(event, Event::LookupForgotten { .. });
        assert_eq!(bench.count(forgotten), 0, "seed {seed}");
    }
}

#[test]
fn nobody_begins_anything_after_the_end() {
    for seed in 0..10 {
        let workload = workload(seed);
        let mut bench = Bench::new(&workload, everybody(&workload, seed));
        bench.run(Duration::from_secs(5));
        let now = bench.now;
        bench.actors.iter_mut().for_each(|actor| actor.settle(now, now + Duration::from_secs(1)));
        bench.run(Duration::from_secs(20));
        let before = bench.events.len();
        bench.run(Duration::from_secs(10));

        assert_eq!(bench.events.len(), before, "seed {seed}: {:?}", &bench.events[before..]);
        assert_eq!(bench.broker.gauges().queued_bytes, 0);
        let workers: usize = workload.services.iter().map(|service| service.workers).sum();
        assert_eq!(bench.broker.gauges().workers, workers, "seed {seed}");
    }
}

#[test]
fn silent_node_is_left_and_asked_again() {
    let workload = workload(3);
    let mut worker = Worker::new(0, Addresses::new(1), (0, &workload), Rng::new(1));
    let mut now = Bench::new(&workload, Vec::new()).now;
    let begun_at = now;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    worker.revive(now);
    while now < begun_at + workload.expiry() * 4 {
        now = worker.poll_timeout().unwrap().max(now);
        worker.on_timeout(now);
        while let Some(action) = worker.poll_action() {
            match action {
                ActorAction::Connect { node } => worker.on_connected(now, node),
                ActorAction::Observe(observation) => match observation.event {
                    Event::WorkerParted { parting: Parting::BrokerSilent, .. } => {
                        *counts.entry("parted").or_default() += 1;
                    }
                    Event::ReadySent { .. } => *counts.entry("ready").or_default() += 1,
                    other => panic!("{other:?}"),
                },
                ActorAction::Close | ActorAction::Send(_) => {}
            }
        }
    }
    assert!(counts["parted"] >= 2 && counts["ready"] >= counts["parted"], "{counts:?}");
}

#[test]
fn worker_that_dies_says_so_once() {
    let workload = workload(3);
    let mut worker = Worker::new(0, Addresses::new(1), (0, &workload), Rng::new(1));
    let now = Bench::new(&workload, Vec::new()).now;
    worker.revive(now);
    worker.on_timeout(now + Duration::from_secs(1));
    worker.on_connected(now + Duration::from_secs(1), 0);
    worker.die(now + Duration::from_secs(2));

    let mut partings = 0;
    while let Some(action) = worker.poll_action() {
        match action {
            ActorAction::Observe(observation) => {
                let parted =
                    matches!(observation.event, Event::WorkerParted { parting: Parting::Died, .. });
                partings += usize::from(parted);
            }
            ActorAction::Send(_) | ActorAction::Connect { .. } | ActorAction::Close => {
                panic!("a dead worker does {action:?}");
            }
        }
    }
    assert_eq!(partings, 1);
    assert_eq!(worker.poll_timeout(), None);
}
