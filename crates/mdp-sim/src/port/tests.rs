use std::time::Duration;

use mdp_transport::{Flow, SharedFrame, TransportLimits};
use mdp_wire::{FrameSink as _, Part, Position};

use super::*;
use crate::{
    Rng,
    network::{Network, Weather, client_socket},
    wires::{ByteWays, Ways},
};

const NODE: usize = 0;

/// A port and its connections.
struct Sockets {
    port: Port,
    of: Hearing,
}

/// Connections, and the texts that came over them.
struct Hearing {
    transport: Transport<()>,
    texts: Vec<String>,
}

impl Connections for Hearing {
    type Tag = ();

    fn transport(&mut self) -> &mut Transport<()> {
        &mut self.transport
    }

    fn received(
        &mut self,
        now: Instant,
        id: ConnectionId,
        input: &[u8],
        messages_max: usize,
    ) -> Received {
        let before = self.texts.len();
        let bytes = self.transport.received(now, id, input, |_, message| {
            self.texts.push(String::from_utf8(message.frames[0].as_ref().to_vec()).unwrap());
            if self.texts.len() - before < messages_max { Flow::Continue } else { Flow::Stop }
        });
        Received { bytes, messages: self.texts.len() - before, is_turn_over: false }
    }
}

impl Sockets {
    fn new(site: usize, limits: ReadLimits, now: Instant) -> Self {
        let transport = Transport::new(now, TransportLimits::default());
        let of = Hearing { transport, texts: Vec::new() };
        Self { port: Port::new(WireKind::Front, site, limits), of }
    }

    fn turn(&mut self, io: &mut Io<'_>) {
        self.port.resume_writing(io, &mut self.of.transport);
        self.port.read(io, &mut self.of);
        self.port.flush(io, &mut self.of.transport);
    }

    fn send(&mut self, id: ConnectionId, text: &str) {
        self.of.transport.send(id, None, |writer| {
            let frame = SharedFrame::from(text.as_bytes());
            let Ok(()) = writer.put(Part::Frame(frame), Position::Last);
        });
    }
}

/// A node and its peers, each with a connection.
struct Scene {
    wires: Wires,
    now: Instant,
    node: Sockets,
    peers: Vec<(Sockets, ConnectionId)>,
}

impl Scene {
    fn new(peers: usize, limits: ReadLimits, ways: ByteWays) -> Self {
        let millis = Duration::from_millis;
        let weather = Weather { min: millis(1), max: millis(2), slow: 0, lost: 0, twice: 0 };
        let network = Network::new(1 + peers, weather, Rng::new(1));
        let none = || ByteWays { window_bytes: 1, cuts: None };
        let ways = Ways { front: ways, relay: none(), cluster: none() };
        let mut wires = Wires::new(network, ways);
        let now = tokio::time::Instant::now().into_std();
        let node = Sockets::new(NODE, limits, now);
        let peers = (1..=peers).map(|site| {
            let mut peer = Sockets::new(site, ReadLimits::OF_MANY, now);
            let address = PeerAddress::from(client_socket(NODE));
            let id = peer.of.transport.dialled(now, address).unwrap();
            peer.port.dial(&mut Io { now, true_now: now, wires: &mut wires }, id, NODE);
            (peer, id)
        });
        let peers = peers.collect();
        let mut scene = Self { wires, now, node, peers };
        scene.go_on();
        scene
    }

    fn io(&mut self) -> (Io<'_>, &mut Sockets, &mut Vec<(Sockets, ConnectionId)>) {
        let Self { wires, now, node, peers } = self;
        (Io { now: *now, true_now: *now, wires }, node, peers)
    }

    /// Everything arrives that is on its way, and peers read and write.
    fn peers_go_on(&mut self) {
        self.now += Duration::from_millis(10);
        let (mut io, node, peers) = self.io();
        while let Some(delivery) = io.wires.pop_due(io.now) {
            match delivery.site {
                NODE => {
                    if delivery.arrival == Arrival::Opened {
                        io.wires.accept(io.now, delivery.wire);
                    }
                    node.port.put(delivery);
                }
                site => peers[site - 1].0.port.put(delivery),
            }
        }
        peers.iter_mut().for_each(|(peer, _)| peer.turn(&mut io));
    }

    fn node_turns(&mut self) {
        let (mut io, node, _) = self.io();
        node.turn(&mut io);
    }

    fn go_on(&mut self) {
        for _ in 0..60 {
            self.peers_go_on();
            self.node_turns();
        }
    }

    fn send(&mut self, peer: usize, texts: &[&str]) {
        let (sockets, id) = &mut self.peers[peer];
        texts.iter().for_each(|text| sockets.send(*id, text));
    }
}

const WIDE: ByteWays = ByteWays { window_bytes: 1 << 20, cuts: None };

#[test]
fn messages_arrive_whatever_the_pieces_and_the_window() {
    for window_bytes in [10, 1 << 20] {
        let cuts = Some(Rng::new(3));
        let mut scene = Scene::new(1, ReadLimits::OF_MANY, ByteWays { window_bytes, cuts });
        scene.send(0, &["one", "two", "three"]);
        scene.go_on();
        assert_eq!(scene.node.of.texts, ["one", "two", "three"]);
    }
}

#[test]
fn connections_that_are_ready_share_the_messages_of_a_turn() {
    let limits = ReadLimits { messages: 2, ..ReadLimits::OF_MANY };
    let mut scene = Scene::new(2, limits, WIDE);
    scene.send(0, &["a", "b", "c"]);
    scene.send(1, &["x", "y"]);
    scene.peers_go_on();
    scene.peers_go_on();
    let mut turns = Vec::new();
    while scene.node.port.has_more() {
        scene.node_turns();
        turns.push(std::mem::take(&mut scene.node.of.texts));
    }
    turns.iter_mut().for_each(|texts| texts.sort());
    assert_eq!(turns, [vec!["a", "x"], vec!["b", "y"], vec!["c"]]);
}

#[test]
fn connection_with_something_unread_says_so() {
    let mut scene = Scene::new(1, ReadLimits { messages: 1, ..ReadLimits::OF_MANY }, WIDE);
    scene.send(0, &["a", "b"]);
    scene.peers_go_on();
    scene.peers_go_on();
    let id = scene.node.of.transport.connections().next().unwrap().id;
    assert!(scene.node.port.has_unread(id));
    scene.node_turns();
    assert!(scene.node.port.has_unread(id), "one of two");
    scene.node_turns();
    assert!(!scene.node.port.has_unread(id));
}

#[test]
fn end_of_a_connection_comes_behind_its_messages() {
    let mut scene = Scene::new(1, ReadLimits::OF_MANY, WIDE);
    scene.send(0, &["last"]);
    let (mut io, _, peers) = scene.io();
    let (peer, id) = &mut peers[0];
    peer.turn(&mut io);
    peer.of.transport.close(*id);
    peer.turn(&mut io);
    scene.go_on();
    assert_eq!(scene.node.of.texts, ["last"]);
    assert!(scene.node.of.transport.is_empty());
    assert_eq!(scene.node.port.connections(), 0);
}
