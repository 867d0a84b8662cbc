//! The connections of one process with other nodes: the node's own links, over virtual connections
//! instead of sockets. It moves bytes and decides nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use mdp_broker::{Input, LinkId, LinkRole};
use mdp_catalog::NodeName;
use mdp_core::{Connections, Located, Received, RelayAction, RelayLinks, Tag};
use mdp_replica::Peers;
use mdp_transport::{ConnectionId, PeerAddress, SharedFrame, Transport};
use mdp_wire::{
    ServiceName,
    relay::{ToOrigin, ToOwner},
};

use crate::{
    Rng,
    network::{relay_socket, site_of, site_of_socket},
    plan::RelayPlan,
    port::{Port, ReadLimits},
    turn::{Ended, Turn},
    view::RelayView,
    wires::{Delivery, WireKind},
};

/// A process's ends of all connections with other nodes.
#[derive(Debug)]
pub(crate) struct RelayPort {
    port: Port,
    links: RelayLinks,
    /// How long it takes at most to look up where a node is.
    locate_max: Duration,
    rng: Rng,
    /// What is being looked up, and when the answer comes.
    locating: VecDeque<(Instant, Located)>,
    /// The links that the engine knows.
    told: BTreeMap<LinkId, (LinkRole, NodeName)>,
}

/// The links while their connections are read.
struct Reading<'a, F> {
    links: &'a mut RelayLinks,
    take: F,
}

impl<F: FnMut(Input<SharedFrame>)> Connections for Reading<'_, F> {
    type Tag = Tag;

    fn transport(&mut self) -> &mut Transport<Tag> {
        self.links.transport()
    }

    fn accepted(&mut self, now: Instant, address: PeerAddress) -> Option<ConnectionId> {
        self.links.accepted(now, address)
    }

    fn received(
        &mut self,
        now: Instant,
        id: ConnectionId,
        input: &[u8],
        messages_max: usize,
    ) -> Received {
        self.links.received(now, id, (input, messages_max), &mut self.take)
    }
}

impl RelayPort {
    pub(crate) const fn new(site: usize, links: RelayLinks, plan: RelayPlan, rng: Rng) -> Self {
        let limits = ReadLimits::of_nodes(plan.messages_per_turn);
        Self {
            port: Port::new(WireKind::Relay, site, limits),
            links,
            locate_max: plan.locate_max,
            rng,
            locating: VecDeque::new(),
            told: BTreeMap::new(),
        }
    }

    /// Something arrived; it is read in the next turn.
    pub(crate) fn put(&mut self, delivery: Delivery) {
        self.port.put(delivery);
    }

    /// Whether something is to be done although nothing comes and nothing is due.
    pub(crate) fn is_awake(&self) -> bool {
        self.port.is_awake() || self.links.is_awake()
    }

    /// When something is to be done, news or not.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let located = self.locating.iter().map(|(at, _)| *at);
        located.chain(self.links.poll_timeout()).min()
    }

    /// From now on there are these nodes, and no others.
    pub(crate) fn set_peers(&mut self, now: Instant, peers: Peers) {
        self.links.set_peers(now, peers);
    }

    /// Takes new connections and reads what has come, as much as belongs into one turn; what is for the
    /// engine is handed out.
    pub(crate) fn read(&mut self, turn: &mut Turn<'_>, take: impl FnMut(Input<SharedFrame>)) {
        let Self { port, links, .. } = self;
        port.read(&mut turn.io(), &mut Reading { links, take });
    }

    pub(crate) fn send_to_owner(
        &mut self,
        link: LinkId,
        message: ToOwner<ServiceName, SharedFrame>,
    ) {
        self.links.send_to_owner(link, message);
    }

    pub(crate) fn send_to_origin(
        &mut self,
        now: Instant,
        link: LinkId,
        message: ToOrigin<SharedFrame>,
    ) {
        self.links.send_to_origin(now, link, message);
    }

    /// What the engine is to be told of links, when all effects have been run.
    pub(crate) fn poll_input(&mut self, turn: &mut Turn<'_>) -> Option<Input<SharedFrame>> {
        let input = self.links.poll_input(turn.now)?;
        match &input {
            Input::LinkUp { link, role } => self.note_up(turn, *link, *role),
            Input::LinkDown { link, unsent } => self.note_down(turn, *link, unsent.len()),
            _ => {}
        }
        Some(input)
    }

    fn note_up(&mut self, turn: &mut Turn<'_>, link: LinkId, role: LinkRole) {
        let (node, version) = self.links.find_link(link).expect("it was just made");
        let way = match role {
            LinkRole::Origin => "to",
            LinkRole::Owner => "from",
        };
        turn.notes.lines.push(format!("link {} {way} {node}", link.0));
        if role == LinkRole::Origin {
            turn.wires.count_link(version);
        }
        self.told.insert(link, (role, node.clone()));
    }

    fn note_down(&mut self, turn: &mut Turn<'_>, link: LinkId, unsent: usize) {
        let (role, node) = self.told.remove(&link).expect("it was there");
        let line = format!("link {} with {node} is over, {unsent} requests not sent", link.0);
        turn.notes.lines.push(line);
        if role == LinkRole::Origin {
            turn.notes.ended.push(Ended::Link { owner: node });
        }
    }

    /// Makes links and checks their deadlines, after what came was read.
    pub(crate) fn tend(&mut self, turn: &mut Turn<'_>) {
        while let Some((_, located)) = self.locating.pop_front_if(|(at, _)| *at <= turn.now) {
            self.links.handle_located(turn.now, &located);
        }
        let Self { links, port, .. } = self;
        links.tend(turn.now, |id| port.has_unread(id));
        while let Some(action) = self.links.poll_action() {
            self.run_action(turn, action);
        }
    }

    fn run_action(&mut self, turn: &mut Turn<'_>, action: RelayAction) {
        match action {
            RelayAction::Dial { connection, address } => self.dial(turn, connection, address),
            RelayAction::Locate { node, endpoint } => {
                let addresses = site_of(&endpoint).map(relay_socket).into_iter().collect();
                let located = Located { node, endpoint, addresses };
                if self.locate_max.is_zero() {
                    return self.links.handle_located(turn.now, &located);
                }
                // One after the other, as a thread that looks them up answers.
                let took = self.rng.duration(Duration::ZERO, self.locate_max);
                let before = self.locating.back().map_or(turn.now, |(at, _)| *at);
                self.locating.push_back((before.max(turn.now) + took, located));
            }
        }
    }

    fn dial(&mut self, turn: &mut Turn<'_>, id: ConnectionId, address: SocketAddr) {
        let Some(to) = site_of_socket(address) else { return self.links.transport().closed(id) };
        self.port.dial(&mut turn.io(), id, to);
    }

    /// Writes what waits, as much as fits, and closes what ended.
    pub(crate) fn flush(&mut self, turn: &mut Turn<'_>) {
        self.port.flush(&mut turn.io(), self.links.transport());
    }

    /// Tells every origin that nothing follows; true when all are gone.
    pub(crate) fn say_bye(&mut self, now: Instant) -> bool {
        self.links.say_bye(now)
    }

    /// What it came to so far, and what there is now.
    pub(crate) fn view(&self) -> RelayView {
        let (links, connections) = (self.told.len(), self.port.connections());
        RelayView { totals: self.links.totals(), links, connections }
    }
}
