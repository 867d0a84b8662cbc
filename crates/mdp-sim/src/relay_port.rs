//! The connections of one process with other nodes: the node's own links, over virtual connections
//! instead of sockets. It moves bytes and decides nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    io::IoSlice,
    net::SocketAddr,
    time::{Duration, Instant},
};

use mdp_broker::{Input, LinkId, LinkRole};
use mdp_catalog::NodeName;
use mdp_core::{Located, RelayAction, RelayLinks};
use mdp_replica::Peers;
use mdp_transport::{ConnectionId, PeerAddress, SharedFrame};
use mdp_wire::{
    ServiceName,
    relay::{ToOrigin, ToOwner},
};

use crate::{
    Rng,
    network::{caller_socket, relay_socket, site_of, site_of_socket},
    plan::RelayPlan,
    turn::{Ended, Turn},
    view::RelayView,
    wires::{Arrival, Delivery, Side, WireId, WireKind},
};

/// A process's ends of all connections with other nodes.
#[derive(Debug)]
pub(crate) struct RelayPort {
    site: usize,
    links: RelayLinks,
    plan: RelayPlan,
    rng: Rng,
    sockets: BTreeMap<ConnectionId, Socket>,
    connections: BTreeMap<WireId, ConnectionId>,
    /// What came and was not read yet.
    unread: VecDeque<Delivery>,
    /// Connections that more can be written to than when it was tried last.
    writable: Vec<ConnectionId>,
    /// What is being looked up, and when the answer comes.
    locating: VecDeque<(Instant, Located)>,
    /// The links that the engine knows.
    told: BTreeMap<LinkId, (LinkRole, NodeName)>,
}

/// An end of a connection.
#[derive(Clone, Copy, Debug)]
struct Socket {
    wire: WireId,
    side: Side,
    /// Whether the other machine has taken the connection.
    is_connected: bool,
}

impl RelayPort {
    pub(crate) const fn new(site: usize, links: RelayLinks, plan: RelayPlan, rng: Rng) -> Self {
        Self {
            site,
            links,
            plan,
            rng,
            sockets: BTreeMap::new(),
            connections: BTreeMap::new(),
            unread: VecDeque::new(),
            writable: Vec::new(),
            locating: VecDeque::new(),
            told: BTreeMap::new(),
        }
    }

    /// Something arrived; it is read in the next turn.
    pub(crate) fn put(&mut self, delivery: Delivery) {
        self.unread.push_back(delivery);
    }

    /// Whether something is to be done although nothing comes and nothing is due.
    pub(crate) fn is_awake(&self) -> bool {
        !self.unread.is_empty() || !self.writable.is_empty() || self.links.is_awake()
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
    pub(crate) fn read(&mut self, turn: &mut Turn<'_>, mut take: impl FnMut(Input<SharedFrame>)) {
        let mut messages = 0;
        while messages < self.plan.messages_per_turn
            && let Some(delivery) = self.unread.pop_front()
        {
            let wire = delivery.wire;
            match (delivery.arrival, self.connections.get(&wire).copied()) {
                (Arrival::Opened, _) => self.take_connection(turn, wire),
                (Arrival::Bytes(mut bytes), Some(id)) => {
                    let messages_max = self.plan.messages_per_turn - messages;
                    let received =
                        self.links.received(turn.now, id, (&bytes, messages_max), &mut take);
                    turn.wires.read(turn.true_now, wire, delivery.side, received.bytes);
                    messages += received.messages;
                    if received.bytes < bytes.len() {
                        bytes.drain(..received.bytes);
                        let arrival = Arrival::Bytes(bytes);
                        self.unread.push_front(Delivery { arrival, ..delivery });
                    }
                    if received.is_turn_over {
                        return;
                    }
                }
                (Arrival::Accepted | Arrival::Writable, Some(id)) => {
                    if let Some(socket) = self.sockets.get_mut(&id) {
                        socket.is_connected = true;
                    }
                    self.writable.push(id);
                }
                (Arrival::Closed, Some(id)) => self.links.transport().closed(id),
                // Of a connection that was closed here meanwhile.
                (
                    Arrival::Accepted
                    | Arrival::Bytes(_)
                    | Arrival::Writable
                    | Arrival::Closed
                    | Arrival::Frames(_),
                    _,
                ) => {}
            }
        }
    }

    fn take_connection(&mut self, turn: &mut Turn<'_>, wire: WireId) {
        let Some(caller) = turn.wires.caller(wire) else { return };
        let address = PeerAddress::from(caller_socket(caller));
        match self.links.accepted(turn.now, address) {
            Some(id) => {
                self.add(id, Socket { wire, side: Side::Callee, is_connected: true });
            }
            None => turn.wires.close(turn.true_now, wire, Side::Callee),
        }
    }

    fn add(&mut self, id: ConnectionId, socket: Socket) {
        self.connections.insert(socket.wire, id);
        self.sockets.insert(id, socket);
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
        let Self { links, unread, sockets, .. } = self;
        links.tend(turn.now, |id| {
            let socket = sockets.get(&id);
            socket.is_some_and(|socket| unread.iter().any(|other| other.wire == socket.wire))
        });
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
                if self.plan.locate_max.is_zero() {
                    return self.links.handle_located(turn.now, &located);
                }
                // One after the other, as a thread that looks them up answers.
                let took = self.rng.duration(Duration::ZERO, self.plan.locate_max);
                let before = self.locating.back().map_or(turn.now, |(at, _)| *at);
                self.locating.push_back((before.max(turn.now) + took, located));
            }
        }
    }

    fn dial(&mut self, turn: &mut Turn<'_>, id: ConnectionId, address: SocketAddr) {
        let Some(to) = site_of_socket(address) else { return self.links.transport().closed(id) };
        let wire = turn.wires.open(turn.true_now, WireKind::Relay, self.site, to);
        self.add(id, Socket { wire, side: Side::Caller, is_connected: false });
    }

    /// Writes what waits, as much as fits, and closes what ended.
    pub(crate) fn flush(&mut self, turn: &mut Turn<'_>) {
        for id in std::mem::take(&mut self.writable) {
            if self.links.transport().is_blocked(id) {
                self.write(turn, id);
            }
        }
        while let Some(id) = self.links.transport().poll_writable() {
            self.write(turn, id);
        }
        while let Some(closing) = self.links.transport().poll_closing() {
            let Some(socket) = self.sockets.remove(&closing.id) else { continue };
            self.connections.remove(&socket.wire);
            let last_words = joined(&closing.output());
            turn.wires.write(turn.true_now, socket.wire, socket.side, &last_words);
            turn.wires.close(turn.true_now, socket.wire, socket.side);
        }
    }

    fn write(&mut self, turn: &mut Turn<'_>, id: ConnectionId) {
        let Some(Socket { wire, side, is_connected }) = self.sockets.get(&id).copied() else {
            return;
        };
        let transport = self.links.transport();
        loop {
            let output = joined(&transport.output(id));
            if output.is_empty() {
                return;
            }
            let taken = match is_connected {
                true => turn.wires.write(turn.true_now, wire, side, &output),
                false => Some(0),
            };
            match taken {
                // A connection that is lost ends once all that came before was read.
                None | Some(0) => return transport.blocked(turn.now, id),
                Some(count) => transport.transmitted(turn.now, id, count),
            }
        }
    }

    /// Tells every origin that nothing follows; true when all are gone.
    pub(crate) fn say_bye(&mut self, now: Instant) -> bool {
        self.links.say_bye(now)
    }

    /// What it came to so far, and what there is now.
    pub(crate) fn view(&self) -> RelayView {
        let (links, connections) = (self.told.len(), self.sockets.len());
        RelayView { totals: self.links.totals(), links, connections }
    }
}

fn joined(pieces: &[IoSlice<'_>]) -> Vec<u8> {
    pieces.iter().map(|piece| &**piece).collect::<Vec<_>>().concat()
}
