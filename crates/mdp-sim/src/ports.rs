//! What surrounds the core of a process: virtual sockets, and look-ups that take their time. It moves bytes
//! and decides nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use mdp_broker::{LinkId, LinkRole, Note};
use mdp_catalog::NodeName;
use mdp_core::{
    Connections, LinkState, Located, NodeEvent, PortName, ReadState, RelayTotals, Shell,
    connection_id,
};
use mdp_transport::{ConnectionId, Transport};

use crate::{
    Rng,
    network::{relay_socket, site_of, site_of_socket},
    plan::RelayPlan,
    port::{Port, ReadLimits},
    turn::{Ended, Turn},
    view::RelayView,
    wires::{Delivery, WireKind},
};

/// What surrounds the core of a process.
#[derive(Debug)]
pub(crate) struct Ports {
    clients: Port,
    nodes: Port,
    /// How long it takes at most to look up where a node is.
    locate_max: Duration,
    rng: Rng,
    /// What is being looked up, and when the answer comes.
    locating: VecDeque<(Instant, Located)>,
    /// The links that the engine knows.
    links: BTreeMap<LinkId, (LinkRole, NodeName)>,
}

/// The same during a turn.
#[derive(Debug)]
pub(crate) struct PortsInTurn<'a, 'b> {
    ports: &'a mut Ports,
    turn: &'a mut Turn<'b>,
}

impl Ports {
    pub(crate) const fn new(site: usize, plan: RelayPlan, rng: Rng) -> Self {
        let limits = ReadLimits::of_nodes(plan.messages_per_turn);
        Self {
            clients: Port::new(WireKind::Front, site, ReadLimits::OF_MANY),
            nodes: Port::new(WireKind::Relay, site, limits),
            locate_max: plan.locate_max,
            rng,
            locating: VecDeque::new(),
            links: BTreeMap::new(),
        }
    }

    /// Something arrived; it is read in the next turn.
    pub(crate) fn put(&mut self, delivery: Delivery) {
        match delivery.kind {
            WireKind::Front => self.clients.put(delivery),
            WireKind::Relay => self.nodes.put(delivery),
            // Calls have links of their own.
            WireKind::Cluster => {}
        }
    }

    /// Whether something may be read or written although nothing comes.
    pub(crate) fn is_awake(&self) -> bool {
        self.clients.is_awake() || self.nodes.is_awake()
    }

    /// When the next look-up ends.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.locating.front().map(|(at, _)| *at)
    }

    pub(crate) const fn in_turn<'a, 'b>(
        &'a mut self,
        turn: &'a mut Turn<'b>,
    ) -> PortsInTurn<'a, 'b> {
        PortsInTurn { ports: self, turn }
    }

    /// What the links came to so far, and what there is now.
    pub(crate) fn view(&self, totals: RelayTotals) -> RelayView {
        let (links, connections) = (self.links.len(), self.nodes.connections());
        RelayView { totals, links, connections }
    }

    const fn port(&mut self, name: PortName) -> &mut Port {
        match name {
            PortName::Clients => &mut self.clients,
            PortName::Nodes => &mut self.nodes,
        }
    }
}

impl Shell for PortsInTurn<'_, '_> {
    /// No identity of a plan has an end.
    fn unix_seconds(&self) -> u64 {
        0
    }

    fn now(&self) -> Instant {
        self.turn.now
    }

    fn read(&mut self, _now: Instant, port: PortName, of: &mut impl Connections) -> ReadState {
        let port = self.ports.port(port);
        port.read(&mut self.turn.io(), of);
        if port.has_more() { ReadState::MoreWaits } else { ReadState::Emptied }
    }

    fn has_unread(&self, port: PortName, id: ConnectionId) -> bool {
        match port {
            PortName::Clients => self.ports.clients.has_unread(id),
            PortName::Nodes => self.ports.nodes.has_unread(id),
        }
    }

    fn resume_writing<T>(&mut self, _now: Instant, port: PortName, transport: &mut Transport<T>) {
        self.ports.port(port).resume_writing(&mut self.turn.io(), transport);
    }

    fn write_if_much<T>(
        &mut self,
        _now: Instant,
        _port: PortName,
        _id: ConnectionId,
        _transport: &mut Transport<T>,
    ) {
        // Nothing in a simulation is much.
    }

    fn flush<T>(&mut self, _now: Instant, port: PortName, transport: &mut Transport<T>) {
        self.ports.port(port).flush(&mut self.turn.io(), transport);
    }

    fn say_bye(&mut self, port: PortName) {
        self.ports.port(port).say_bye(&mut self.turn.io());
    }

    fn dial(&mut self, id: ConnectionId, address: SocketAddr, of: &mut impl Connections) {
        match site_of_socket(address) {
            Some(to) => {
                self.ports.nodes.dial(&mut self.turn.io(), id, to);
            }
            None => of.failed(id, io::ErrorKind::AddrNotAvailable),
        }
    }

    fn locate(&mut self, node: NodeName, endpoint: String) -> Option<Located> {
        let Self { ports, turn } = self;
        let addresses = site_of(&endpoint).map(relay_socket).into_iter().collect();
        let located = Located { node, endpoint, addresses };
        if ports.locate_max.is_zero() {
            return Some(located);
        }
        // One after the other, as a thread that looks them up answers.
        let took = ports.rng.duration(Duration::ZERO, ports.locate_max);
        let before = ports.locating.back().map_or(turn.now, |(at, _)| *at);
        ports.locating.push_back((before.max(turn.now) + took, located));
        None
    }

    fn take_located(&mut self) -> Option<Located> {
        let now = self.turn.now;
        let located = self.ports.locating.pop_front_if(|(at, _)| *at <= now);
        located.map(|(_, located)| located)
    }

    fn set_links(&mut self, _links: Vec<LinkState>) {}

    fn log(&mut self, _now: Instant, event: &NodeEvent<'_>) {
        match event {
            NodeEvent::Note { note, .. } => self.note(note),
            NodeEvent::LinkUp { link, role, node, wire } => {
                self.note_up(*link, *role, node, *wire);
            }
            NodeEvent::LinkDown { link, unsent } => self.note_down(*link, *unsent),
            NodeEvent::Refused { address, why } => {
                self.turn.notes.lines.push(format!("{address} refused: {why}"));
            }
            NodeEvent::Lost { peer, why, .. } => {
                self.turn.notes.lines.push(format!("peer {peer} lost: {why}"));
            }
        }
    }
}

impl PortsInTurn<'_, '_> {
    fn note(&mut self, note: &Note) {
        let Self { ports, turn } = self;
        turn.notes.lines.push(format!("{note:?}"));
        // The socket of a lost connection is closed at the end of the turn.
        if let Note::WorkerDown { peer, end, .. } = note
            && let Some(wire) = ports.clients.wire_of(connection_id(peer))
        {
            turn.notes.ended.push(Ended::Worker { wire, end: *end });
        }
    }

    fn note_up(&mut self, link: LinkId, role: LinkRole, node: &NodeName, wire: u16) {
        let way = match role {
            LinkRole::Origin => "to",
            LinkRole::Owner => "from",
        };
        self.turn.notes.lines.push(format!("link {} {way} {node}", link.0));
        if role == LinkRole::Origin {
            self.turn.wires.count_link(wire);
        }
        self.ports.links.insert(link, (role, node.clone()));
    }

    fn note_down(&mut self, link: LinkId, unsent: usize) {
        let (role, node) = self.ports.links.remove(&link).expect("it was there");
        let line = format!("link {} with {node} is over, {unsent} requests not sent", link.0);
        self.turn.notes.lines.push(line);
        if role == LinkRole::Origin {
            self.turn.notes.ended.push(Ended::Link { owner: node });
        }
    }
}
