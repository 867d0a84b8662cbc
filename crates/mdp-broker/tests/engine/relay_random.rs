//! Three nodes, any order of events: every request is answered once, or its end is counted.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use mdp_broker::{Delivery, DropReason, Effect, LinkRole, Outgoing, ServiceRule, Settings};
use mdp_wire::{Token, worker::FromBroker};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngSeed, TestRunner},
};

use crate::{mesh::Mesh, random::number, support::with_policy};

const NODES: usize = 3;
const WORKERS: u8 = 3;
const SERVICES: [&str; 2] = ["echo", "once"];
const MAX_ATTEMPTS: usize = 3;
const STEPS_MAX: usize = 120;

#[derive(Clone, Debug)]
enum Op {
    Request { node: usize, client: u8, service: usize },
    Ready { node: usize, worker: u8 },
    Reply { node: usize, worker: u8 },
    Partial { node: usize, worker: u8 },
    Lose { node: usize, worker: u8, is_unsent: bool },
    Leave { node: usize, worker: u8 },
    Cut { origin: usize, owner: usize, is_unsent: bool },
    Connect { origin: usize, owner: usize },
    Deliver { pick: usize, role: bool, count: u8 },
    Advance { milliseconds: u16 },
}

fn op() -> impl Strategy<Value = Op> {
    let (node, worker) = (0..NODES, 0..WORKERS);
    let pair = || (0..NODES, 0..NODES);
    prop_oneof![
        6 => (node.clone(), 0..3_u8, 0..SERVICES.len())
            .prop_map(|(node, client, service)| Op::Request { node, client, service }),
        3 => (node.clone(), worker.clone()).prop_map(|(node, worker)| Op::Ready { node, worker }),
        5 => (node.clone(), worker.clone()).prop_map(|(node, worker)| Op::Reply { node, worker }),
        1 => (node.clone(), worker.clone()).prop_map(|(node, worker)| Op::Partial { node, worker }),
        1 => (node.clone(), worker.clone(), any::<bool>())
            .prop_map(|(node, worker, is_unsent)| Op::Lose { node, worker, is_unsent }),
        1 => (node, worker).prop_map(|(node, worker)| Op::Leave { node, worker }),
        1 => (pair(), any::<bool>())
            .prop_map(|((origin, owner), is_unsent)| Op::Cut { origin, owner, is_unsent }),
        1 => pair().prop_map(|(origin, owner)| Op::Connect { origin, owner }),
        9 => (any::<prop::sample::Index>(), any::<bool>(), 1..6_u8).prop_map(|(pick, role, count)| {
            Op::Deliver { pick: pick.index(64), role, count }
        }),
        2 => (1..400_u16).prop_map(|milliseconds| Op::Advance { milliseconds }),
    ]
}

fn settings() -> Settings {
    let quick = |policy: &mut mdp_broker::ServicePolicy| {
        policy.request_ttl = Duration::from_secs(2);
        policy.max_queued_requests = 8;
    };
    let mut settings = with_policy(quick);
    let mut policy = settings.service;
    policy.delivery = Delivery::AtMostOnce;
    settings.rules = vec![ServiceRule { pattern: b"once".to_vec(), policy }];
    settings.max_queued_bytes = 40_000;
    settings
}

/// What became of one request.
#[derive(Debug, Default)]
struct Story {
    client: String,
    node: usize,
    service: usize,
    executions: usize,
    replies: usize,
}

/// Three nodes and everybody around them.
struct World {
    mesh: Mesh,
    stories: Vec<Story>,
    /// What each worker works on: the token and the number of the request.
    work: BTreeMap<(usize, String), (Token, usize)>,
    registered: BTreeSet<(usize, String)>,
}

impl World {
    fn new() -> Self {
        let mut mesh = Mesh::with(NODES, &settings());
        mesh.delivers = false;
        let (work, registered) = (BTreeMap::new(), BTreeSet::new());
        Self { mesh, stories: Vec::new(), work, registered }
    }

    fn act(&mut self, op: &Op) {
        match *op {
            Op::Request { node, client, service } => self.request(node, client, service),
            Op::Ready { node, worker } => self.ready(node, worker),
            Op::Reply { node, worker } => {
                let name = worker_name(worker);
                if let Some((token, number)) = self.work.remove(&(node, name.clone())) {
                    self.mesh.at(node, |n| n.reply_to(&name, token, &number.to_string()));
                }
            }
            Op::Partial { node, worker } => {
                let name = worker_name(worker);
                if self.work.contains_key(&(node, name.clone())) && is_v02(worker) {
                    self.mesh.at(node, |n| n.partial(&name, "part"));
                }
            }
            Op::Lose { node, worker, is_unsent } => self.lose(node, worker, is_unsent),
            Op::Leave { node, worker } => {
                let name = worker_name(worker);
                self.work.remove(&(node, name.clone()));
                if self.registered.remove(&(node, name.clone())) {
                    self.mesh.at(node, |n| n.disconnect(&name));
                }
            }
            Op::Cut { origin, owner, is_unsent } => {
                if origin != owner && self.mesh.link(origin, owner).is_some() {
                    let on_the_way = self.mesh.on_the_way(origin, owner);
                    self.mesh.cut(origin, owner, if is_unsent { on_the_way } else { Vec::new() });
                }
            }
            Op::Connect { origin, owner } => self.connect(origin, owner),
            Op::Deliver { pick, role, count } => {
                let links = self.mesh.links();
                let Some(link) = links.get(pick % links.len().max(1)) else { return };
                let role = if role { LinkRole::Origin } else { LinkRole::Owner };
                for _ in 0..count {
                    self.mesh.deliver_one(*link, role);
                }
            }
            Op::Advance { milliseconds } => {
                for node in &mut self.mesh.nodes {
                    node.advance(Duration::from_millis(milliseconds.into()));
                }
            }
        }
        self.look();
    }

    fn request(&mut self, node: usize, client: u8, service: usize) {
        let client = format!("{}{client}", if client == 0 { "C" } else { "c" });
        let number = self.stories.len();
        self.stories.push(Story { client: client.clone(), node, service, ..Story::default() });
        let body = number.to_string();
        self.mesh.at(node, |n| n.request(&client, SERVICES[service], &body));
    }

    fn ready(&mut self, node: usize, worker: u8) {
        let name = worker_name(worker);
        if self.registered.insert((node, name.clone())) {
            let service = SERVICES[usize::from(worker) % SERVICES.len()];
            self.mesh.at(node, |n| n.ready(&name, service));
        }
    }

    fn lose(&mut self, node: usize, worker: u8, is_unsent: bool) {
        let name = worker_name(worker);
        let had = self.work.remove(&(node, name.clone()));
        self.registered.remove(&(node, name.clone()));
        match had {
            // It was never executed after all.
            Some((_, number)) if is_unsent => {
                self.stories[number].executions -= 1;
                self.mesh.at(node, |n| n.lost_unsent(&name));
            }
            Some(_) | None => self.mesh.at(node, |n| n.lost(&name)),
        }
    }

    fn connect(&mut self, origin: usize, owner: usize) {
        if origin != owner && self.mesh.link(origin, owner).is_none() {
            self.mesh.connect(origin, owner);
        }
    }

    /// Reads what the nodes said to their peers.
    fn look(&mut self) {
        for node in 0..NODES {
            for effect in self.mesh.sends(node) {
                let Effect::Send { to, message } = effect else { continue };
                let name = String::from_utf8(to.bytes().to_vec()).unwrap();
                match message {
                    Outgoing::Worker { message: FromBroker::Request { client, body }, .. } => {
                        let number = number_of(&body.concat());
                        self.stories[number].executions += 1;
                        self.work.insert((node, name), (client, number));
                    }
                    Outgoing::Worker { message: FromBroker::Disconnect, .. } => {
                        self.registered.remove(&(node, name.clone()));
                        self.work.remove(&(node, name));
                    }
                    Outgoing::Worker { message: FromBroker::Heartbeat, .. } => {}
                    Outgoing::Client(reply) => self.on_reply(node, &name, &reply),
                }
            }
        }
    }

    fn on_reply(
        &mut self,
        node: usize,
        client: &str,
        reply: &mdp_wire::client::Reply<mdp_wire::ServiceName, Vec<u8>>,
    ) {
        if reply.command == mdp_wire::client::ReplyCommand::Partial {
            return;
        }
        // Parts kept for a 0.1 client come first.
        let number = number_of(reply.body.last().unwrap());
        let story = &mut self.stories[number];
        story.replies += 1;
        assert_eq!((story.node, story.client.as_str()), (node, client), "a reply to its asker");
        assert_eq!(reply.service.as_bytes(), SERVICES[story.service].as_bytes());
    }

    fn check(&self) {
        for (number, story) in self.stories.iter().enumerate() {
            let most = if SERVICES[story.service] == "once" { 1 } else { MAX_ATTEMPTS };
            assert!(story.executions <= most, "request {number}: {story:?}");
            assert!(story.replies <= 1, "request {number}: {story:?}");
        }
    }

    /// Everything is mended, and there are workers everywhere: all must come to an end.
    fn heal(&mut self) {
        for origin in 0..NODES {
            for owner in 0..NODES {
                self.connect(origin, owner);
            }
        }
        self.mesh.delivers = true;
        for node in 0..NODES {
            for worker in 0..2 {
                self.ready(node, worker);
            }
        }
        for _ in 0..200 {
            self.mesh.settle();
            self.look();
            for ((node, name), (token, number)) in std::mem::take(&mut self.work) {
                self.mesh.at(node, |n| n.reply_to(&name, token, &number.to_string()));
            }
            self.look();
        }
        self.mesh.assert_idle();
        self.check();
        self.check_ends();
    }

    /// Whatever got no reply was counted where it entered.
    fn check_ends(&self) {
        for node in 0..NODES {
            let of_node = || self.stories.iter().filter(|story| story.node == node);
            let (asked, replied) =
                (of_node().count(), of_node().filter(|s| s.replies == 1).count());
            let counters = self.mesh.nodes[node].broker.counters();
            let ends = [
                DropReason::Expired,
                DropReason::AttemptsExhausted,
                DropReason::OutcomeUnknown,
                DropReason::PartiallyAnswered,
                DropReason::PartialsTooLarge,
                DropReason::QueueFull,
                DropReason::ServiceQueueFull,
                DropReason::ClientQueueFull,
                DropReason::Shed,
            ];
            let dropped: u64 = ends.iter().map(|reason| counters.dropped(*reason)).sum();
            let dropped = usize::try_from(dropped).unwrap();
            assert_eq!(asked, replied + dropped, "node {node}: {counters:?}");
        }
    }
}

fn worker_name(worker: u8) -> String {
    format!("{}{worker}", if is_v02(worker) { "W" } else { "w" })
}

fn is_v02(worker: u8) -> bool {
    worker == 0
}

fn number_of(body: &[u8]) -> usize {
    std::str::from_utf8(body).unwrap().parse().unwrap()
}

/// How often the rarer things happened.
#[derive(Debug, Default)]
struct Coverage {
    forwarded: u64,
    returned: u64,
    recalled: u64,
    redispatched: u64,
    replied_elsewhere: u64,
    late_or_orphaned: u64,
}

impl Coverage {
    fn add(&mut self, world: &World) {
        for node in &world.mesh.nodes {
            let counters = node.broker.counters();
            self.forwarded += counters.forwarded;
            self.returned += counters.returned;
            self.recalled += counters.recalled;
            self.redispatched += counters.redispatched;
            self.replied_elsewhere += counters.forwards_replied;
            self.late_or_orphaned += counters.dropped(DropReason::OriginGone);
        }
    }

    fn assert_wide(&self) {
        let counts = [
            self.forwarded,
            self.returned,
            self.recalled,
            self.redispatched,
            self.replied_elsewhere,
            self.late_or_orphaned,
        ];
        assert!(counts.iter().all(|count| *count > 100), "{self:?}");
    }
}

#[test]
fn whatever_happens_between_nodes_every_request_has_one_end() {
    let cases = u32::try_from(number("MAJORDOMO_CASES", 3_000)).unwrap();
    let rng_seed = RngSeed::Fixed(number("MAJORDOMO_SEED", 1));
    let config = Config { cases, rng_seed, failure_persistence: None, ..Config::default() };
    let coverage = RefCell::new(Coverage::default());

    let outcome = TestRunner::new(config).run(&vec(op(), 1..STEPS_MAX), |ops| {
        let mut world = World::new();
        for op in &ops {
            world.act(op);
            world.check();
        }
        world.heal();
        coverage.borrow_mut().add(&world);
        Ok(())
    });

    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    if cases >= 1_000 {
        coverage.borrow().assert_wide();
    }
}
