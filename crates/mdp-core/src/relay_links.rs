//! The links that carry requests between nodes.
//!
//! A link carries requests one way, from their origin to their owner, and is one connection's life. The
//! origin connects ([`Peer`]), the owner accepts ([`Incoming`]). When a connection ends, nothing that it
//! still had in it can reach a later link.
//!
//! The shell moves bytes between sockets and the [`Transport`], and does what [`RelayLinks::poll_action`]
//! says: it connects, and looks up names.
//!
//! What an origin does not read waits at the owner's end, bounded in bytes and time. The origin's end has
//! no bound of its own, since the engine keeps every request that it forwarded, and counts them and their
//! bytes.

mod incoming;
mod keys;
mod ledger;
mod peer;
mod status;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use mdp_broker::{Input, LinkId};
use mdp_catalog::{Epoch, NodeName};
use mdp_mutants::{Mutant, is_on};
use mdp_replica::Peers;
use mdp_transport::{
    ConnectionId, ConnectionLimits, Flow, Loss, Message, PeerAddress, PongRule, SharedFrame,
    Transport, TransportEvent, TransportLimits,
};
use mdp_wire::{
    ClientNetworks, ServiceName,
    relay::{ForwardId, RELAY_FRAMES_MAX, ToOrigin, ToOwner, WireRange},
};

pub use self::status::{LinkLoss, LinkState, RelayTotals};
use self::{incoming::Incoming, ledger::Ledger, peer::Peer};
use crate::{
    Connections, Received,
    backoff::Jitter,
    node_keys::{LinkKeys, is_plain},
};

/// How many other nodes there can be.
pub const PEERS_MAX: usize = 64;
/// How many bytes may wait for one origin, and how many of the longest messages at least. One that reads may
/// be behind by much for a moment: all workers may reply at once. One that does not read is given up
/// after [`LINK_STALLED_AFTER`].
const LINK_BYTES_MAX: usize = 256 << 20;
const LINK_MESSAGES_MIN: usize = 4;
/// How long another node may take nothing while something waits for it.
const LINK_STALLED_AFTER: Duration = Duration::from_secs(1);
/// How long making a link may take, from the first packet to the answer to the greeting.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_millis(500);
/// The same with keys: the handshake takes two more turns of both sides, and some computing.
const CURVE_TIME_MAX: Duration = Duration::from_secs(1);
/// How often an owner says something, if only that it is there.
const PING_INTERVAL: Duration = Duration::from_millis(300);
/// How long an owner may say nothing: one of 0.1.0 answers pings although its broker thread stands still.
const OWNER_SILENT_MAX: Duration = Duration::from_secs(2);
/// How long a link with a node that the catalog has given up may stay: its last replies may be on
/// their way behind the news of its end.
const RETIRED_LINK_MAX: Duration = Duration::from_secs(1);
/// A turn that is so late means that this process stood still, which is no fault of other nodes.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest sleep of the broker thread.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// How long the other node's end of a connection is silent until it is pinged, and how long it may then go
/// on being silent (rule 11 of 0.1.0's libzmq, at both ends).
const CONNECTION_PING_INTERVAL: Duration = Duration::from_millis(300);
const CONNECTION_SILENT_MAX: Duration = Duration::from_secs(1);
/// How long one may stay.
const VISIT_TIME_MAX: Duration = Duration::from_secs(3);
/// How many bytes a message of a visitor may have: that of a greeting is far less.
const VISITOR_MESSAGE_BYTES_MAX: usize = 64 << 10;
/// How many bytes a message of a linked node may have: more than any that a node accepts from its own
/// peers (`broker.max_message_bytes` is at most 1 GiB), for it would end a link that others need.
const LINK_MESSAGE_BYTES_MAX: usize = (1 << 30) + (1 << 20);
/// How many bytes of unfinished messages of all nodes may be allocated: that of two of the longest.
const INCOMING_BYTES_MAX: usize = 2 * LINK_MESSAGE_BYTES_MAX;

/// Who this node is.
#[derive(Debug)]
struct Myself {
    node: NodeName,
    version: &'static str,
    wire: WireRange,
    /// The addresses that clients are told by their network.
    networks: Arc<ClientNetworks>,
    /// The cluster's id and the current life, once there is one.
    life: Option<(String, Epoch)>,
}

/// What a message is that leaves, for the case that no byte of it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// A request.
    Forward(ForwardId),
    /// A reply, or another message about a request of the other node.
    ToOrigin,
}

/// What handling something needs.
struct Turn<'a> {
    now: Instant,
    me: &'a Myself,
    transport: &'a mut Transport<Tag>,
    keys: &'a mut LinkKeys,
    ledger: &'a mut Ledger,
    actions: &'a mut VecDeque<RelayAction>,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayAction {
    /// Connect to an address. A connection that can not be made has [failed](Connections::failed).
    Dial {
        /// What the transport calls it.
        connection: ConnectionId,
        /// Where to.
        address: SocketAddr,
    },
    /// Find out where a node is, and say so ([`RelayLinks::handle_located`]).
    Locate {
        /// Which.
        node: NodeName,
        /// Where it takes requests, as the catalog says.
        endpoint: String,
    },
}

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Which.
    pub node: NodeName,
    /// What was asked for.
    pub endpoint: String,
    /// What that stands for now. Empty: for nothing, or the look-up failed.
    pub addresses: Vec<SocketAddr>,
}

/// What a node with peers makes its links with.
#[derive(Clone, Debug)]
pub struct RelaySettings {
    /// This node's name.
    pub node: NodeName,
    /// The version of this program, for people.
    pub version: &'static str,
    /// The wire versions that this node speaks.
    pub wire: WireRange,
    /// The addresses that clients are told by their network, for the other nodes to tell theirs.
    pub networks: Arc<ClientNetworks>,
    /// The longest message that this node takes from its own clients and workers, in bytes.
    pub message_bytes_max: usize,
    /// How many connections there may be that belong to no link: those that have not greeted yet, and those
    /// that were refused.
    pub visitors_max: usize,
    /// Any number, for waits that are not alike on all nodes.
    pub random: u64,
}

/// The links while they are read.
#[derive(Debug)]
pub struct ReadingLinks<'a, F> {
    links: &'a mut RelayLinks,
    take: F,
}

impl<F: FnMut(Instant, Input<SharedFrame>)> Connections for ReadingLinks<'_, F> {
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
        let take = &mut self.take;
        self.links.received(now, id, (input, messages_max), |input| take(now, input))
    }
}

/// This node's ends of all links.
#[derive(Debug)]
pub struct RelayLinks {
    me: Myself,
    transport: Transport<Tag>,
    keys: LinkKeys,
    incoming: Incoming,
    peers: Vec<Peer>,
    jitter: Jitter,
    ledger: Ledger,
    actions: VecDeque<RelayAction>,
    /// Rises with each attempt to make a link.
    session: u64,
    /// The frames of the message at hand; its memory is used again and again.
    frames: Vec<SharedFrame>,
    /// When the next call to [`tend`](Self::tend) should come at the latest.
    due: Option<Instant>,
}

impl RelayLinks {
    /// No links. Other nodes are refused until [`set_peers`](Self::set_peers).
    #[must_use]
    pub fn new(now: Instant, settings: RelaySettings) -> Self {
        let limits = transport_limits(&settings);
        let RelaySettings { node, version, wire, networks, visitors_max, random, .. } = settings;
        Self {
            me: Myself { node, version, wire, networks, life: None },
            transport: Transport::new(now, limits),
            keys: LinkKeys::default(),
            incoming: Incoming::new(visitors_max),
            peers: Vec::new(),
            jitter: Jitter::new(random),
            ledger: Ledger::default(),
            actions: VecDeque::new(),
            session: 0,
            frames: Vec::with_capacity(16),
            due: None,
        }
    }

    /// The connections, for the shell: it writes what waits there, and says when one is closed.
    pub const fn transport(&mut self) -> &mut Transport<Tag> {
        &mut self.transport
    }

    /// What the shell brings bytes to; what is for the engine is handed out.
    pub const fn reading<F>(&mut self, take: F) -> ReadingLinks<'_, F>
    where
        F: FnMut(Instant, Input<SharedFrame>),
    {
        ReadingLinks { links: self, take }
    }

    /// From now on there are these nodes, and no others.
    pub fn set_peers(&mut self, now: Instant, peers: Peers) {
        let Peers { cluster, epoch, nodes } = peers;
        self.me.life = Some((cluster, epoch));
        let Self { me, transport, keys, ledger, actions, .. } = self;
        let mut turn = Turn { now, me, transport, keys, ledger, actions };
        for peer in &mut self.peers {
            match nodes.iter().find(|(node, _)| node == peer.node()) {
                Some((_, endpoint)) if peer.is_at(endpoint) => peer.keep(),
                // Another process: the old one is not there any more.
                Some(_) => peer.end(LinkLoss::Left, &mut turn),
                None => peer.retire(&mut turn),
            }
        }
        self.peers.retain(|peer| !peer.is_over());
        self.ledger.limit_networks(|name| nodes.iter().any(|(node, _)| node == name));
        for (node, endpoint) in nodes {
            if self.peers.iter().any(|peer| *peer.node() == node) || node == self.me.node {
                continue;
            }
            if self.peers.len() < PEERS_MAX {
                self.peers.push(Peer::new(node, endpoint, now));
            } else {
                tracing::warn!(%node, PEERS_MAX, "too many nodes: no requests go to this one");
            }
        }
        self.ledger.note_change();
    }

    /// Another program connected. `None`: there is no room for it.
    pub fn accepted(&mut self, now: Instant, address: PeerAddress) -> Option<ConnectionId> {
        self.incoming.accepted(now, address, &mut self.transport)
    }

    /// Takes bytes that were read, and hands out what they complete for the engine: at most this
    /// number of messages.
    pub fn received(
        &mut self,
        now: Instant,
        id: ConnectionId,
        (input, messages_max): (&[u8], usize),
        mut take: impl FnMut(Input<SharedFrame>),
    ) -> Received {
        let mut received = Received::default();
        while let Some(rest) = input.get(received.bytes..).filter(|rest| !rest.is_empty())
            && received.messages < messages_max
            && !received.is_turn_over
        {
            let mut next = None;
            received.bytes += self.transport.received(now, id, rest, |_, message| {
                next = Some(message);
                Flow::Stop
            });
            // Who has just introduced itself may have said more.
            self.take_events(now);
            if let Some(message) = next {
                received.messages += 1;
                if let Some(input) = self.on_message(now, id, message) {
                    take(input);
                }
            }
            received.is_turn_over = self.ledger.has_inputs();
        }
        received
    }

    fn on_message(
        &mut self,
        now: Instant,
        id: ConnectionId,
        message: Message,
    ) -> Option<Input<SharedFrame>> {
        let Self { me, transport, keys, incoming, peers, ledger, actions, frames, .. } = self;
        let mut turn = Turn { now, me, transport, keys, ledger, actions };
        frames.clear();
        frames.extend(message.frames);
        match peers.iter_mut().find(|peer| peer.is_on(id)) {
            Some(peer) => peer.on_message(&mut turn, frames),
            None => incoming.on_message(&mut turn, id, frames),
        }
    }

    /// Takes what happened to connections.
    fn take_events(&mut self, now: Instant) {
        let Self { me, transport, keys, incoming, peers, ledger, actions, .. } = self;
        while let Some(event) = transport.poll_event() {
            let mut turn = Turn { now, me, transport, keys, ledger, actions };
            let id = match &event {
                TransportEvent::Opened { id }
                | TransportEvent::Authenticate { id, .. }
                | TransportEvent::Lost { id, .. }
                | TransportEvent::Refused { id, .. } => *id,
            };
            let peer = peers.iter_mut().find(|peer| peer.is_on(id));
            match (event, peer) {
                (TransportEvent::Opened { .. }, Some(peer)) => peer.greet(&mut turn),
                (TransportEvent::Opened { .. }, None) => {}
                (TransportEvent::Authenticate { id, key, is_last }, _) => {
                    turn.keys.authenticate(now, turn.transport, (id, key), is_last);
                }
                (TransportEvent::Lost { .. }, _) if is_on(Mutant::LostLinkStays) => {}
                (TransportEvent::Lost { why, unsent, .. }, Some(peer)) => {
                    complain(peer.node().as_str(), &why, turn.ledger);
                    peer.fail(loss_of(&why), forwards(unsent), &mut turn);
                }
                (TransportEvent::Lost { address, why, unsent, .. }, None) => {
                    let who = incoming.name_of(id, address);
                    complain(&who, &why, turn.ledger);
                    incoming.on_lost(id, loss_of(&why), unsent.len(), turn.ledger);
                }
                (TransportEvent::Refused { why, .. }, Some(peer))
                    if !peer.is_plain() && turn.keys.allows_plain(Some(peer.node()), &why) =>
                {
                    peer.dial_plain(&mut turn);
                }
                (TransportEvent::Refused { why, .. }, Some(peer)) => {
                    complain(peer.node().as_str(), &why, turn.ledger);
                    peer.fail(loss_of(&why), Vec::new(), &mut turn);
                }
                (TransportEvent::Refused { address, why, .. }, None) => {
                    incoming.on_refused(id, address, &why, turn.ledger);
                }
            }
        }
    }

    /// Sends a request, or something about one, on a link where this node is the origin. Returns the
    /// connection that it waits on.
    pub fn send_to_owner(
        &mut self,
        link: LinkId,
        message: ToOwner<ServiceName, SharedFrame>,
    ) -> Option<ConnectionId> {
        match self.peers.iter_mut().find(|peer| peer.link() == Some(link)) {
            Some(peer) => peer.send(message, &mut self.transport),
            None => {
                if let ToOwner::Forward(forward) = message {
                    self.ledger.add_unsent(link, forward.id);
                }
                None
            }
        }
    }

    /// Sends a reply, or something else, on a link where this node is the owner. Returns the connection
    /// that it waits on.
    pub fn send_to_origin(
        &mut self,
        now: Instant,
        link: LinkId,
        message: ToOrigin<SharedFrame>,
    ) -> Option<ConnectionId> {
        let Some(id) = self.incoming.send(now, link, message, &mut self.transport) else {
            self.ledger.add_undelivered(1);
            return None;
        };
        Some(id)
    }

    /// What the engine is to be told of links. All effects must have been run before.
    pub fn poll_input(&mut self, now: Instant) -> Option<Input<SharedFrame>> {
        self.take_events(now);
        self.ledger.poll_input()
    }

    /// What the shell is to do next.
    pub fn poll_action(&mut self) -> Option<RelayAction> {
        self.actions.pop_front()
    }

    /// Takes where a node is.
    pub fn handle_located(&mut self, now: Instant, located: &Located) {
        let Self { me, transport, keys, peers, ledger, actions, .. } = self;
        let mut turn = Turn { now, me, transport, keys, ledger, actions };
        if let Some(peer) = peers.iter_mut().find(|peer| *peer.node() == located.node) {
            peer.on_located(&mut turn, located);
        }
    }

    /// Makes links, judges links, says that this node is there. To be called in every turn, after
    /// what came was read. Whether a connection with something unread is silent is not known.
    pub fn tend(&mut self, now: Instant, has_unread: impl Fn(ConnectionId) -> bool) {
        if self.due.is_some_and(|due| now > due + PAUSE_MIN) && !is_on(Mutant::PauseCountsOnLinks) {
            tracing::debug!("links are given their time anew: this process stood still");
            self.incoming.rearm(now);
            self.peers.iter_mut().for_each(|peer| peer.rearm(now));
            self.transport.rearm(now);
        }
        self.transport.handle_timeout(now, &has_unread);
        self.take_events(now);
        let Self { me, transport, keys, incoming, peers, ledger, actions, jitter, .. } = self;
        let mut turn = Turn { now, me, transport, keys, ledger, actions };
        incoming.tend(&mut turn);
        for peer in peers.iter_mut() {
            peer.judge(&mut turn, peer.connection().is_some_and(&has_unread));
            if peer.wants_connection(now) {
                self.session += 1;
                peer.begin(&mut turn, self.session);
            }
            peer.settle(now, jitter);
        }
        peers.retain(|peer| !peer.is_over());
        self.due = Some(self.poll_timeout().map_or(now + SLEEP_MAX, |at| at.min(now + SLEEP_MAX)));
    }

    /// Whether something is to be done although nothing comes and nothing is due.
    #[must_use]
    pub fn is_awake(&self) -> bool {
        self.ledger.has_inputs() || self.transport.has_events() || !self.actions.is_empty()
    }

    /// When [`tend`](Self::tend) has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let peers = self.peers.iter().map(Peer::poll_timeout);
        peers.chain(self.incoming.poll_timeout()).chain(self.transport.poll_timeout()).min()
    }

    /// Says to all origins that nothing follows, and waits for nothing; true if all are gone, which
    /// shows that they have read everything.
    pub fn say_bye(&mut self, now: Instant) -> bool {
        self.take_events(now);
        self.incoming.say_bye(&mut self.transport)
    }

    /// What was counted, and what waits.
    #[must_use]
    pub fn totals(&self) -> RelayTotals {
        let mut totals = self.ledger.totals().clone();
        (totals.waiting_messages, totals.waiting_bytes) = self.incoming.waiting(&self.transport);
        let dialled = self.peers.iter().filter_map(Peer::connection);
        let connections = dialled.chain(self.incoming.connections());
        totals.plain_links = connections.filter(|id| is_plain(&self.transport, *id)).count();
        totals
    }

    /// Which links there are, by the other node, if that is not what it was when this was asked last.
    pub fn take_changed_states(&mut self) -> Option<Vec<LinkState>> {
        self.ledger.take_change().then(|| self.states())
    }

    /// Which links there are, by the other node.
    #[must_use]
    pub fn states(&self) -> Vec<LinkState> {
        let peers = self.peers.iter();
        let mut states: Vec<LinkState> = peers
            .map(|peer| LinkState {
                node: peer.node().clone(),
                to: peer.link().is_some(),
                from: self.incoming.has(peer.node()),
                networks: self.ledger.networks(peer.node()),
            })
            .collect();
        let others =
            self.incoming.nodes().filter(|node| self.peers.iter().all(|p| p.node() != *node));
        states.extend(others.map(|node| LinkState {
            node: node.clone(),
            to: false,
            from: true,
            networks: self.ledger.networks(node),
        }));
        states.sort_unstable_by(|a, b| a.node.cmp(&b.node));
        states
    }

    /// The other node of a link, and the wire version of everything on it.
    #[must_use]
    pub fn find_link(&self, link: LinkId) -> Option<(&NodeName, u16)> {
        let outgoing = self.peers.iter().find(|peer| peer.link() == Some(link));
        let outgoing = outgoing.and_then(|peer| Some((peer.node(), peer.wire()?)));
        outgoing.or_else(|| self.incoming.find_link(link))
    }

    /// Whether this node can send requests to every other one that takes part.
    #[must_use]
    pub fn has_all_links(&self) -> bool {
        self.peers.iter().all(|peer| peer.link().is_some())
    }

    /// Whether that node is another one, and this one cannot send requests to it.
    #[must_use]
    pub fn is_cut_off(&self, node: &NodeName) -> bool {
        *node != self.me.node
            && !self.peers.iter().any(|peer| peer.node() == node && peer.link().is_some())
    }
}

/// The limits of all connections between nodes: a link in each direction with each, and visitors.
fn transport_limits(settings: &RelaySettings) -> TransportLimits {
    let longest = settings.message_bytes_max;
    TransportLimits {
        connection: ConnectionLimits {
            message_bytes_max: VISITOR_MESSAGE_BYTES_MAX,
            // One more than the decoder takes, which says what is wrong.
            message_frames_max: RELAY_FRAMES_MAX + 1,
            handshake_timeout: VISIT_TIME_MAX,
            ping_interval: CONNECTION_PING_INTERVAL,
            pong_timeout: CONNECTION_SILENT_MAX,
            pong_rule: PongRule::Always,
            ping_ttl: CONNECTION_SILENT_MAX,
            ..ConnectionLimits::default()
        },
        connections_max: 2 * PEERS_MAX + settings.visitors_max,
        strangers_max: settings.visitors_max,
        incoming_bytes_max: INCOMING_BYTES_MAX,
        outgoing_bytes_per_peer_max: LINK_BYTES_MAX.max(longest.saturating_mul(LINK_MESSAGES_MIN)),
        // The engine bounds what it forwards.
        outgoing_bytes_per_dialled_max: usize::MAX,
        outgoing_bytes_max: usize::MAX,
        stalled_after: LINK_STALLED_AFTER,
    }
}

/// What the end of a connection means for its link.
const fn loss_of(why: &Loss) -> LinkLoss {
    use mdp_transport::Ending;
    match why {
        Loss::Overflow => LinkLoss::Overflowed,
        Loss::Stalled => LinkLoss::Stalled,
        Loss::Ended(Ending::PongTimeout | Ending::TtlExpired) => LinkLoss::Silent,
        Loss::Ended(Ending::HandshakeTimeout)
        | Loss::Closed
        | Loss::Greedy
        | Loss::Crowded
        | Loss::Kicked
        | Loss::Revoked => LinkLoss::Disconnected,
        Loss::Ended(_) => LinkLoss::Malformed,
    }
}

/// Logs and counts a connection that ended because of what came.
fn complain(who: &str, why: &Loss, ledger: &mut Ledger) {
    if loss_of(why) == LinkLoss::Malformed && ledger.malformed(who) {
        tracing::warn!(who, reason = %why, "a connection between nodes ends: no node sends this");
    }
}

/// The requests among messages that were not sent.
fn forwards(unsent: Vec<Tag>) -> Vec<ForwardId> {
    let forwards = unsent.into_iter().filter_map(|tag| match tag {
        Tag::Forward(id) => Some(id),
        Tag::ToOrigin => None,
    });
    forwards.collect()
}

#[cfg(test)]
mod tests;
