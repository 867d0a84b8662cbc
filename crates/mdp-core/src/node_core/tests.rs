//! A node that is alone, and its peers, over streams of bytes in memory, by a clock that only the test moves.

use std::{collections::BTreeMap, net::SocketAddr};

use mdp_broker::{Seed, Settings};
use mdp_catalog::{Boot, Endpoints, Epoch, Incarnation, NodeId, NodeName, NodeUp, SoftwareVersion};
use mdp_replica::Alone;
use mdp_transport::{ConnectionId, Flow, Transport};
use mdp_wire::{FrameSink as _, Part, Position};

use super::*;
use crate::{Connections, LinkState, Located, NodeEvent};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const TIMES: DrainTimes = DrainTimes { timeout: SECOND, announce: Duration::ZERO };

/// The end of a connection that is not the node's.
struct Peer {
    transport: Transport<()>,
    /// What the peer calls the connection.
    own: ConnectionId,
    /// What the node calls it.
    at_node: Option<ConnectionId>,
    /// Whether it reads nothing.
    is_stuck: bool,
    /// What it got.
    messages: Vec<Vec<Vec<u8>>>,
}

/// What surrounds the node.
struct Surroundings {
    now: Instant,
    peers: Vec<Peer>,
    has_said_bye: bool,
}

impl Peer {
    fn new(now: Instant) -> Self {
        let mut transport = Transport::new(now, TransportLimits::default());
        let address = PeerAddress::from(SocketAddr::from(([127, 0, 0, 1], 5555)));
        let own = transport.dialled(now, address).unwrap();
        Self { transport, own, at_node: None, is_stuck: false, messages: Vec::new() }
    }

    fn send(&mut self, frames: &[&[u8]]) {
        let last = frames.len() - 1;
        self.transport.send(self.own, None, |writer| {
            for (index, frame) in frames.iter().enumerate() {
                let position = if index == last { Position::Last } else { Position::More };
                let Ok(()) = writer.put(Part::Bytes(frame), position);
            }
        });
    }

    /// What the peer has written.
    fn take_output(&mut self, now: Instant) -> Vec<u8> {
        let bytes: Vec<u8> =
            self.transport.output(self.own).iter().flat_map(|piece| piece.to_vec()).collect();
        self.transport.transmitted(now, self.own, bytes.len());
        bytes
    }

    fn receive(&mut self, now: Instant, bytes: &[u8]) {
        let messages = &mut self.messages;
        self.transport.received(now, self.own, bytes, |_, message| {
            messages.push(message.frames.iter().map(|frame| frame.as_ref().to_vec()).collect());
            Flow::Continue
        });
    }
}

impl Shell for Surroundings {
    fn now(&self) -> Instant {
        self.now
    }

    fn unix_seconds(&self) -> u64 {
        0
    }

    fn read(&mut self, now: Instant, port: PortName, of: &mut impl Connections) -> ReadState {
        assert_eq!(port, PortName::Clients);
        for peer in &mut self.peers {
            let address = PeerAddress::from(SocketAddr::from(([127, 0, 0, 1], 40_000)));
            let id = *peer.at_node.get_or_insert_with(|| of.accepted(now, address).unwrap());
            let bytes = peer.take_output(now);
            of.received(now, id, &bytes, usize::MAX);
        }
        ReadState::Emptied
    }

    fn has_unread(&self, _port: PortName, _id: ConnectionId) -> bool {
        false
    }

    fn resume_writing<T>(&mut self, now: Instant, port: PortName, transport: &mut Transport<T>) {
        let ids: Vec<_> = self.peers.iter().filter_map(|peer| peer.at_node).collect();
        for id in ids {
            if transport.is_blocked(id) {
                self.write(now, id, transport);
            }
        }
        assert_eq!(port, PortName::Clients);
    }

    fn write_if_much<T>(&mut self, _: Instant, _: PortName, _: ConnectionId, _: &mut Transport<T>) {
    }

    fn flush<T>(&mut self, now: Instant, _port: PortName, transport: &mut Transport<T>) {
        while let Some(id) = transport.poll_writable() {
            self.write(now, id, transport);
        }
        while transport.poll_closing().is_some() {}
    }

    fn say_bye(&mut self, _port: PortName) {
        self.has_said_bye = true;
    }

    fn dial(&mut self, _: ConnectionId, _: SocketAddr, _: &mut impl Connections) {}

    fn locate(&mut self, _node: NodeName, _endpoint: String) -> Option<Located> {
        None
    }

    fn take_located(&mut self) -> Option<Located> {
        None
    }

    fn set_links(&mut self, _links: Vec<LinkState>) {}

    fn log(&mut self, _now: Instant, _event: &NodeEvent<'_>) {}
}

impl Surroundings {
    fn write<T>(&mut self, now: Instant, id: ConnectionId, transport: &mut Transport<T>) {
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.at_node == Some(id)) else {
            return;
        };
        if peer.is_stuck {
            return transport.blocked(now, id);
        }
        let bytes: Vec<u8> = transport.output(id).iter().flat_map(|piece| piece.to_vec()).collect();
        transport.transmitted(now, id, bytes.len());
        peer.receive(now, &bytes);
    }
}

/// A node with this many peers, which have introduced themselves.
fn node(peers: usize, drain: DrainTimes) -> (NodeCore<Alone>, Surroundings) {
    let now = crate::any_instant();
    let name: NodeName = "node-1".parse().unwrap();
    let up = NodeUp {
        node: name.clone(),
        node_id: NodeId(1),
        boot: Boot { process: 1, attempt: 0 },
        expected_epoch: Epoch(0),
        endpoints: Endpoints::default(),
        version: SoftwareVersion::default(),
    };
    let incarnation = Incarnation { node: name, epoch: Epoch(0) };
    let settings = Settings::default();
    let parts = NodeParts {
        messages: settings.decode,
        broker: Broker::new(incarnation, settings, Seed([7; 32]), now),
        replica: Replica::alone(up, now).unwrap(),
        links: None,
        connections: TransportLimits::default(),
        security: None,
        networks: Arc::default(),
        drain,
        version: "0.0.1",
    };
    let peers = (0..peers).map(|_| Peer::new(now)).collect();
    let mut shell = Surroundings { now, peers, has_said_bye: false };
    let mut node = NodeCore::new(now, parts);
    for _ in 0..4 {
        pass(&mut node, &mut shell, MILLISECOND);
    }
    (node, shell)
}

/// One turn, a while later.
fn pass(node: &mut NodeCore<Alone>, shell: &mut Surroundings, time: Duration) -> TurnEnd {
    shell.now += time;
    node.turn(shell)
}

/// A worker of `echo` at the first peer has a request of the second one.
fn busy(drain: DrainTimes) -> (NodeCore<Alone>, Surroundings) {
    let (mut node, mut shell) = node(2, drain);
    shell.peers[0].send(&[b"", b"MDPW01", b"\x01", b"echo"]);
    pass(&mut node, &mut shell, MILLISECOND);
    shell.peers[1].send(&[b"", b"MDPC01", b"echo", b"hello"]);
    pass(&mut node, &mut shell, MILLISECOND);
    (node, shell)
}

/// The worker replies to the request that it got last.
fn reply(shell: &mut Surroundings) {
    let request = shell.peers[0].messages.last().unwrap().clone();
    let [_, _, command, client, _, body] = request.as_slice() else { panic!("{request:?}") };
    assert_eq!(command, b"\x02");
    shell.peers[0].send(&[b"", b"MDPW01", b"\x03", client, b"", body]);
}

fn has_drained(end: &TurnEnd) -> bool {
    matches!(end, TurnEnd::Ended(NodeEnding::Drained(_)))
}

#[test]
fn request_goes_to_a_worker_and_its_reply_back_to_the_client() {
    let (mut node, mut shell) = busy(TIMES);
    reply(&mut shell);
    pass(&mut node, &mut shell, MILLISECOND);
    let expected: Vec<Vec<u8>> =
        vec![vec![], b"MDPC01".to_vec(), b"echo".to_vec(), b"hello".to_vec()];
    assert_eq!(shell.peers[1].messages, [expected]);
}

#[test]
fn heartbeat_that_has_come_counts_although_the_deadline_is_over_when_it_is_read() {
    let (mut node, mut shell) = node(2, TIMES);
    shell.peers[0].send(&[b"", b"MDPW01", b"\x01", b"echo"]);
    pass(&mut node, &mut shell, MILLISECOND);
    let expiry = Settings::default().service.expiry();
    let silent_since = shell.now;
    while shell.now + SECOND < silent_since + expiry {
        pass(&mut node, &mut shell, SECOND);
    }
    shell.peers[0].send(&[b"", b"MDPW01", b"\x04"]);
    pass(&mut node, &mut shell, SECOND);
    assert!(shell.now > silent_since + expiry);

    shell.peers[1].send(&[b"", b"MDPC01", b"echo", b"hello"]);
    pass(&mut node, &mut shell, MILLISECOND);
    reply(&mut shell);
    pass(&mut node, &mut shell, MILLISECOND);
    assert_eq!(shell.peers[1].messages.len(), 1);
    assert_eq!(node.broker().counters().expired_workers, 0);
}

#[test]
fn node_sleeps_until_something_is_due_and_no_longer_than_a_second() {
    let (mut node, mut shell) = node(1, TIMES);
    let end = pass(&mut node, &mut shell, MILLISECOND);
    let TurnEnd::Sleep { until } = end else { panic!("{end:?}") };
    assert!(until > shell.now && until <= shell.now + SLEEP_MAX, "{until:?}");
}

#[test]
fn drain_waits_for_the_reply_and_ends_when_all_have_closed() {
    let (mut node, mut shell) = busy(TIMES);
    node.drain(shell.now, &mut shell);
    for _ in 0..100 {
        assert!(!has_drained(&pass(&mut node, &mut shell, MILLISECOND)));
    }
    reply(&mut shell);
    pass(&mut node, &mut shell, MILLISECOND);
    assert_eq!(shell.peers[1].messages.len(), 1);
    assert!(shell.has_said_bye);
    let ids: Vec<_> = shell.peers.drain(..).filter_map(|peer| peer.at_node).collect();
    ids.iter().for_each(|id| node.clients.transport().closed(*id));
    let end = pass(&mut node, &mut shell, MILLISECOND);
    let TurnEnd::Ended(NodeEnding::Drained(drained)) = end else { panic!("{end:?}") };
    assert_eq!((drained.receipt.finished, drained.receipt.dropped), (1, 0));
}

#[test]
fn client_that_does_not_read_its_last_reply_holds_a_drain_up_for_a_second() {
    let (mut node, mut shell) = busy(TIMES);
    node.drain(shell.now, &mut shell);
    shell.peers[1].is_stuck = true;
    reply(&mut shell);
    let begun = shell.now;
    let mut ended = None;
    while ended.is_none() {
        let is_over = has_drained(&pass(&mut node, &mut shell, 10 * MILLISECOND));
        ended = is_over.then_some(shell.now);
        assert!(shell.now < begun + 3 * SECOND);
    }
    let took = ended.unwrap().saturating_duration_since(begun);
    assert!(took >= SECOND && took <= 1_300 * MILLISECOND, "{took:?}");
}

#[test]
fn announced_drain_serves_as_before_for_a_while() {
    let announce = 500 * MILLISECOND;
    let (mut node, mut shell) = busy(DrainTimes { announce, ..TIMES });
    reply(&mut shell);
    node.drain(shell.now, &mut shell);
    for _ in 0..40 {
        pass(&mut node, &mut shell, 10 * MILLISECOND);
    }
    shell.peers[1].send(&[b"", b"MDPC01", b"echo", b"again"]);
    pass(&mut node, &mut shell, MILLISECOND);
    reply(&mut shell);
    pass(&mut node, &mut shell, MILLISECOND);
    assert_eq!(shell.peers[1].messages.len(), 2);
    assert!(node.is_leaving() && !shell.has_said_bye);
}

#[test]
fn stop_ends_a_node_whatever_is_left_to_do() {
    let (mut node, mut shell) = busy(TIMES);
    node.drain(shell.now, &mut shell);
    reply(&mut shell);
    // The engine is done in the same turn.
    node.stop();
    let end = pass(&mut node, &mut shell, MILLISECOND);
    assert!(matches!(end, TurnEnd::Ended(NodeEnding::Stopped)), "{end:?}");
}

#[test]
fn request_that_comes_after_the_farewell_is_not_executed() {
    let (mut node, mut shell) = busy(TIMES);
    reply(&mut shell);
    node.drain(shell.now, &mut shell);
    while !shell.has_said_bye {
        pass(&mut node, &mut shell, MILLISECOND);
    }
    let requests = node.broker().counters().requests;
    shell.peers[1].send(&[b"", b"MDPC01", b"echo", b"late"]);
    pass(&mut node, &mut shell, MILLISECOND);
    assert_eq!(node.broker().counters().requests, requests);
}

#[test]
fn peers_are_called_what_their_connections_are() {
    let (mut node, _) = node(2, TIMES);
    let ids: BTreeMap<_, _> =
        node.clients.connections().map(|one| (one.id, crate::peer_id(one.id))).collect();
    assert_eq!(ids.len(), 2);
    assert!(ids.iter().all(|(id, peer)| crate::connection_id(peer) == *id));
    assert!(ids.keys().all(|id| node.kick(id.number())) && !node.kick(0));
}
