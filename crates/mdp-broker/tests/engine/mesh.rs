//! [`Mesh`]: several engines with links between them, in one virtual time.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use mdp_broker::{Effect, Input, LinkId, LinkRole, Settings};
use mdp_wire::{
    ServiceFrame, ServiceName,
    relay::{Forward, ForwardId, ToOrigin, ToOwner},
};

use crate::support::{BrokerTest, Bytes, Effects};

/// How often two nodes may answer each other before time passes.
const ROUNDS_MAX: usize = 1_000;

/// A message on its way between two nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OnWire {
    ToOwner(ToOwner<ServiceName, Bytes>),
    ToOrigin(ToOrigin<Bytes>),
}

/// Both directions of one connection, from an origin to an owner.
#[derive(Debug)]
struct Wire {
    origin: usize,
    owner: usize,
    to_owner: VecDeque<ToOwner<ServiceName, Bytes>>,
    to_origin: VecDeque<ToOrigin<Bytes>>,
}

/// Several engines; a link in each direction between any two of them.
#[derive(Debug)]
pub(crate) struct Mesh {
    pub(crate) nodes: Vec<BrokerTest>,
    wires: BTreeMap<LinkId, Wire>,
    last_link: u64,
    /// Whether messages arrive as soon as they are sent.
    pub(crate) delivers: bool,
    /// Everything that was ever sent between nodes, with the link.
    pub(crate) seen: Vec<(LinkId, OnWire)>,
}

impl Mesh {
    pub(crate) fn new(nodes: usize) -> Self {
        Self::with(nodes, &Settings::default())
    }

    pub(crate) fn with(nodes: usize, settings: &Settings) -> Self {
        let seeds = 1..=u8::try_from(nodes).unwrap();
        let nodes = seeds.map(|seed| BrokerTest::with_seed(settings.clone(), seed)).collect();
        let wires = BTreeMap::new();
        let mut mesh = Self { nodes, wires, last_link: 0, delivers: true, seen: Vec::new() };
        for origin in 0..mesh.nodes.len() {
            for owner in (0..mesh.nodes.len()).filter(|owner| *owner != origin) {
                mesh.connect(origin, owner);
            }
        }
        mesh
    }

    /// Makes a link, which must not be there.
    pub(crate) fn connect(&mut self, origin: usize, owner: usize) {
        assert_eq!(self.link(origin, owner), None);
        self.last_link += 1;
        let link = LinkId(self.last_link);
        let (to_owner, to_origin) = (VecDeque::new(), VecDeque::new());
        self.wires.insert(link, Wire { origin, owner, to_owner, to_origin });
        self.nodes[origin].input(Input::LinkUp { link, role: LinkRole::Origin });
        self.nodes[owner].input(Input::LinkUp { link, role: LinkRole::Owner });
        self.run();
    }

    pub(crate) fn link(&self, origin: usize, owner: usize) -> Option<LinkId> {
        let wire = self.wires.iter().find(|(_, w)| w.origin == origin && w.owner == owner);
        wire.map(|(link, _)| *link)
    }

    /// Ends a link with everything on its way. The unsent requests never left.
    pub(crate) fn cut(&mut self, origin: usize, owner: usize, unsent: Vec<ForwardId>) {
        let Some(link) = self.link(origin, owner) else { return };
        self.wires.remove(&link);
        self.nodes[origin].input(Input::LinkDown { link, unsent });
        self.nodes[owner].input(Input::LinkDown { link, unsent: Vec::new() });
        self.run();
    }

    /// Requests on their way from an origin to an owner.
    pub(crate) fn on_the_way(&self, origin: usize, owner: usize) -> Vec<ForwardId> {
        let link = self.link(origin, owner).unwrap();
        let forwards = self.wires[&link].to_owner.iter().filter_map(|message| match message {
            ToOwner::Forward(Forward { id, .. }) => Some(*id),
            ToOwner::Cancel(_) => None,
        });
        forwards.collect()
    }

    /// Puts what the engines want to say on the wires, and everything else where tests look.
    fn collect(&mut self) {
        for node in 0..self.nodes.len() {
            let effects = self.nodes[node].effects();
            let rest = effects.into_iter().filter_map(|effect| self.put_on_wire(node, effect));
            let rest = rest.collect();
            self.nodes[node].put_back(rest);
        }
    }

    /// Puts a message on its wire, if the effect is one and the wire is there.
    fn put_on_wire(&mut self, node: usize, effect: Effect<Bytes>) -> Option<Effect<Bytes>> {
        match effect {
            Effect::ToOwner { link, message } => {
                self.seen.push((link, OnWire::ToOwner(message.clone())));
                let wire = self.wires.get_mut(&link)?;
                assert_eq!(wire.origin, node);
                wire.to_owner.push_back(message);
                None
            }
            Effect::ToOrigin { link, message } => {
                self.seen.push((link, OnWire::ToOrigin(message.clone())));
                let wire = self.wires.get_mut(&link)?;
                assert_eq!(wire.owner, node);
                wire.to_origin.push_back(message);
                None
            }
            Effect::Send { .. }
            | Effect::Propose(_)
            | Effect::Lookup { .. }
            | Effect::Describe { .. }
            | Effect::Note(_)
            | Effect::Drained(_) => Some(effect),
        }
    }

    /// Delivers one message of a link in one direction; false if there is none.
    pub(crate) fn deliver_one(&mut self, link: LinkId, role: LinkRole) -> bool {
        self.collect();
        let Some(wire) = self.wires.get_mut(&link) else { return false };
        let (node, input) = match role {
            LinkRole::Owner => {
                let Some(message) = wire.to_owner.pop_front() else { return false };
                (wire.owner, Input::FromOrigin { link, message: received(message) })
            }
            LinkRole::Origin => {
                let Some(message) = wire.to_origin.pop_front() else { return false };
                (wire.origin, Input::FromOwner { link, message })
            }
        };
        self.nodes[node].input(input);
        self.collect();
        true
    }

    /// Delivers everything, and what is said to it.
    pub(crate) fn run(&mut self) {
        if !self.delivers {
            return self.collect();
        }
        for round in 0.. {
            assert!(round < ROUNDS_MAX, "the nodes never stop talking");
            self.collect();
            let mut is_done = true;
            for link in self.links() {
                for role in [LinkRole::Owner, LinkRole::Origin] {
                    is_done &= !self.deliver_one(link, role);
                }
            }
            if is_done {
                return;
            }
        }
    }

    pub(crate) fn links(&self) -> Vec<LinkId> {
        self.wires.keys().copied().collect()
    }

    /// Does something at one node, and delivers what comes of it.
    pub(crate) fn at(&mut self, node: usize, act: impl FnOnce(&mut BrokerTest)) {
        act(&mut self.nodes[node]);
        self.run();
    }

    /// Registers a worker of `echo`.
    pub(crate) fn worker(&mut self, node: usize, worker: &str) {
        self.at(node, |node| node.ready(worker, "echo"));
        let effects = self.effects(node);
        assert!(effects.contains(&crate::effects::heartbeat(worker)), "{worker} is registered");
        self.nodes[node].put_back(effects);
    }

    /// Lets time pass everywhere, in small steps, so that messages arrive meanwhile.
    pub(crate) fn advance(&mut self, duration: Duration) {
        const STEP: Duration = Duration::from_millis(1);
        let mut left = duration;
        while !left.is_zero() {
            let step = left.min(STEP);
            left -= step;
            for node in &mut self.nodes {
                node.advance(step);
            }
            self.run();
        }
    }

    /// Lets everything be told that may only be told after a while.
    pub(crate) fn settle(&mut self) {
        self.advance(Duration::from_millis(5));
    }

    /// The effects of a node since the last call, messages between nodes left out.
    pub(crate) fn effects(&mut self, node: usize) -> Effects {
        self.collect();
        self.nodes[node].effects()
    }

    pub(crate) fn sends(&mut self, node: usize) -> Effects {
        self.collect();
        self.nodes[node].sends()
    }

    /// The bodies of the requests that were forwarded, once for each time.
    pub(crate) fn forwarded_bodies(&self) -> Vec<String> {
        let bodies = self.seen.iter().filter_map(|(_, message)| match message {
            OnWire::ToOwner(ToOwner::Forward(forward)) => {
                Some(String::from_utf8_lossy(&forward.body.concat()).into_owned())
            }
            OnWire::ToOwner(ToOwner::Cancel(_)) | OnWire::ToOrigin(_) => None,
        });
        bodies.collect()
    }

    /// Nobody owes anything to anybody.
    pub(crate) fn assert_idle(&self) {
        for (number, node) in self.nodes.iter().enumerate() {
            let gauges = node.broker.gauges();
            let owed = (gauges.queued_requests, gauges.held_requests, gauges.forwarded_requests);
            assert_eq!((owed, gauges.queued_bytes), ((0, 0, 0), 0), "node {number}");
        }
    }

    /// The nodes that have a link as origin to this one.
    pub(crate) fn origins_of(&self, owner: usize) -> BTreeSet<usize> {
        self.wires.values().filter(|wire| wire.owner == owner).map(|wire| wire.origin).collect()
    }
}

/// As it looks after the wire.
fn received(message: ToOwner<ServiceName, Bytes>) -> ToOwner<ServiceFrame<Bytes>, Bytes> {
    match message {
        ToOwner::Forward(Forward { id, client, ttl, service, body }) => {
            let service = ServiceFrame::try_new(service.as_bytes().to_vec()).unwrap();
            // Whole milliseconds on the wire.
            let ttl = Duration::from_millis(u64::try_from(ttl.as_millis()).unwrap());
            ToOwner::Forward(Forward { id, client, ttl, service, body })
        }
        ToOwner::Cancel(id) => ToOwner::Cancel(id),
    }
}
