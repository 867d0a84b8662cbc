//! The links that carry requests between nodes, all of them in the broker thread.
//!
//! A link carries requests one way, from their origin to their owner, and is one TCP connection's
//! life. The owner's end is a ROUTER, the same for all origins ([`Incoming`]); the origin's end is a
//! DEALER of its own for each owner ([`Peer`]). When a connection ends, its socket is closed, and
//! nothing that it still had in it can reach a later link.
//!
//! Nothing here blocks: names are looked up by the resolver's threads, never by libzmq, whose thread
//! for I/O would be silent meanwhile.
//!
//! What libzmq does not take waits at the owner's end, bounded in bytes and time. The origin's end
//! has no such buffer: libzmq takes all for a connection that lives, without a limit of its own,
//! since the engine keeps every request that it forwarded, and counts them and their bytes.

mod backoff;
mod incoming;
mod ledger;
mod peer;
mod resolver;
mod status;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mdp_broker::{Input, LinkId};
use mdp_catalog::{Epoch, NodeName};
use mdp_replica::Peers;
use mdp_transport::SharedFrame;
use mdp_wire::{
    ClientNetworks, ServiceName,
    relay::{ToOrigin, ToOwner, WireRange},
};
use rustix::event::{PollFd, PollFlags};
use smallvec::SmallVec;
use tokio::sync::watch;

pub(crate) use self::resolver::Resolver;
pub use self::status::{LinkLoss, LinkState, RelayTotals};
use self::{
    backoff::Jitter,
    incoming::Incoming,
    ledger::Ledger,
    peer::{Attempt, Peer},
};
use crate::{
    BindError, Endpoint, SocketError,
    version::RELAY_WIRE,
    zeromq::{Context, Frame, FrameFlow, IoThreads, Socket, SocketOption},
};

/// How many bytes may wait for one origin that does not read, with overhead. One message may always
/// wait, whatever its size.
pub(crate) const LINK_BYTES_MAX: usize = 16 << 20;
/// How long an origin may take nothing while something waits for it.
const LINK_STALLED_AFTER: Duration = Duration::from_secs(1);
/// How long making a link may take, from the first packet to the answer to the greeting.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_millis(500);
/// How often an owner says something, if only that it is there.
const PING_INTERVAL: Duration = Duration::from_millis(300);
/// How long an owner may say nothing: its process may live although its broker thread does not.
const OWNER_SILENT_MAX: Duration = Duration::from_secs(2);
/// How long a link with a node that the catalog has given up may stay: its last replies may be on
/// their way behind the news of its end.
const RETIRED_LINK_MAX: Duration = Duration::from_secs(1);
/// A turn that is so late means that this process stood still, which is nobody else's fault.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest sleep of the broker thread.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// How many other nodes there can be.
const PEERS_MAX: usize = 64;
/// How many messages of one source are read before the others get their turn.
const SOURCE_BATCH_MAX: usize = 32;

/// How many messages libzmq keeps for an origin that does not read: what does not fit waits here.
const SEND_MESSAGES_MAX: i32 = 1_000;
/// No limit to what libzmq keeps until it is read here: what an origin may send, and so what an owner
/// may answer, is limited by what is told of capacity. A connection that is pinged, has reached such a
/// limit and then ends can make libzmq 4.3 abort the process (docs/decisions/0017).
const RECEIVE_MESSAGES_MAX: i32 = 0;
/// The longest frame: longer than any that a node accepts from its own peers
/// (`broker.max_message_bytes` is at most 1 GiB), for it would end a link that others need.
const FRAME_BYTES_MAX: i64 = (1 << 30) + (1 << 20);
/// How often a connection is pinged by libzmq, on either side.
const HEARTBEAT_MILLISECONDS: i32 = 300;
/// How long a pinged connection may be silent.
const HEARTBEAT_TIMEOUT_MILLISECONDS: i32 = 1_000;
/// How long a connection may take to introduce itself to libzmq.
const HANDSHAKE_MILLISECONDS_MAX: i32 = 500;
/// How long making a connection may take.
const CONNECT_MILLISECONDS_MAX: i32 = 500;
/// How many connections may wait to be accepted.
const BACKLOG_CONNECTIONS: i32 = 128;

/// Who this node is.
#[derive(Debug)]
struct Myself {
    node: NodeName,
    wire: WireRange,
    /// The addresses that clients are told by their network.
    networks: Arc<ClientNetworks>,
    /// The cluster's id and the current life, once there is one.
    life: Option<(String, Epoch)>,
}

/// What handling a message needs.
struct Turn<'a> {
    now: Instant,
    me: &'a Myself,
    ledger: &'a mut Ledger,
}

/// What was received.
#[derive(Debug)]
pub(crate) enum Received {
    /// Nothing; all sources are empty.
    Nothing,
    /// Something for [`RelayLinks::poll_input`], or nothing for the engine.
    Handled,
    /// A message for the engine.
    Message(Input<SharedFrame>),
}

/// What a node with peers opens its links with.
#[derive(Debug)]
pub(crate) struct RelaySettings {
    /// This node's name.
    pub(crate) node: NodeName,
    /// Where other nodes bring requests.
    pub(crate) bind: Endpoint,
    /// Which of libzmq's threads do the I/O.
    pub(crate) io_threads: IoThreads,
    /// The wire versions that this node speaks.
    pub(crate) wire: WireRange,
    /// The addresses that clients are told by their network, for the other nodes to tell theirs.
    pub(crate) networks: Arc<ClientNetworks>,
    /// Any number, for waits that are not alike on all nodes.
    pub(crate) random: u64,
}

impl RelaySettings {
    /// The settings of a node.
    pub(crate) fn new(node: NodeName, bind: Endpoint, random: u64) -> Self {
        let (io_threads, networks) = (IoThreads::RELAY, Arc::default());
        Self { node, bind, io_threads, wire: RELAY_WIRE, networks, random }
    }
}

/// This node's ends of all links.
#[derive(Debug)]
pub(crate) struct RelayLinks {
    context: Arc<Context>,
    io_threads: IoThreads,
    me: Myself,
    incoming: Incoming,
    peers: Vec<Peer>,
    resolver: Resolver,
    jitter: Jitter,
    ledger: Ledger,
    /// Rises with each attempt to make a link.
    session: u64,
    /// The frames of the message at hand; its memory is used again and again.
    frames: Vec<SharedFrame>,
    /// Whose turn it is: zero for the ROUTER, then the peers; and how many messages it had.
    source: usize,
    source_taken: usize,
    /// When the next call to [`tend`](Self::tend) should come at the latest.
    due: Option<Instant>,
    states: watch::Sender<Vec<LinkState>>,
}

impl RelayLinks {
    /// Binds the address; when this returns, other nodes can connect. They are refused until
    /// [`set_peers`](Self::set_peers).
    pub(crate) fn bind(
        context: &Arc<Context>,
        settings: RelaySettings,
        resolver: Resolver,
    ) -> Result<Self, BindError> {
        let RelaySettings { node, bind, io_threads, wire, networks, random } = settings;
        let incoming = Incoming::bind(context, &bind, &node, io_threads)?;
        Ok(Self {
            context: Arc::clone(context),
            io_threads,
            me: Myself { node, wire, networks, life: None },
            incoming,
            peers: Vec::new(),
            resolver,
            jitter: Jitter::new(random),
            ledger: Ledger::default(),
            session: 0,
            frames: Vec::with_capacity(16),
            source: 0,
            source_taken: 0,
            due: None,
            states: watch::Sender::default(),
        })
    }

    /// What was bound, with the real port.
    pub(crate) const fn endpoint(&self) -> &Endpoint {
        self.incoming.endpoint()
    }

    /// Which links there are, for other threads.
    pub(crate) fn watch(&self) -> watch::Receiver<Vec<LinkState>> {
        self.states.subscribe()
    }

    /// From now on there are these nodes, and no others.
    pub(crate) fn set_peers(&mut self, now: Instant, peers: Peers) {
        let Peers { cluster, epoch, nodes } = peers;
        self.me.life = Some((cluster, epoch));
        let ledger = &mut self.ledger;
        for peer in &mut self.peers {
            match nodes.iter().find(|(node, _)| node == peer.node()) {
                Some((_, endpoint)) if peer.is_at(endpoint) => peer.keep(),
                // Another process: the old one is not there any more.
                Some(_) => peer.end(LinkLoss::Left, ledger),
                None => peer.retire(now),
            }
        }
        self.peers.retain(|peer| !peer.is_over());
        ledger.limit_networks(|name| nodes.iter().any(|(node, _)| node == name));
        for (node, endpoint) in nodes {
            if self.peers.iter().any(|peer| *peer.node() == node) || node == self.me.node {
                continue;
            }
            let address = endpoint.parse::<Endpoint>().ok();
            let address = address.filter(|address| !address.is_wildcard() && address.port() != 0);
            match address {
                Some(address) if self.peers.len() < PEERS_MAX => {
                    self.peers.push(Peer::new(node, address, now));
                }
                Some(_) | None => {
                    tracing::warn!(%node, endpoint, "no address to bring requests to, or too many");
                }
            }
        }
        self.ledger.note_change();
    }

    /// Receives one message, or does something, without waiting.
    pub(crate) fn receive(&mut self, now: Instant) -> Result<Received, SocketError> {
        let Some(source) = self.next_source() else { return Ok(Received::Nothing) };
        self.source_taken += 1;
        let frames = &mut self.frames;
        let mut turn = Turn { now, me: &self.me, ledger: &mut self.ledger };
        match source.checked_sub(1) {
            None => self.incoming.receive(&mut turn, frames),
            Some(at) => match self.peers.get_mut(at) {
                Some(peer) => peer.receive(&mut turn, frames),
                None => Ok(Received::Handled),
            },
        }
    }

    /// The source whose turn it is, if any may have something.
    fn next_source(&mut self) -> Option<usize> {
        if self.source_taken >= SOURCE_BATCH_MAX || !self.is_source_awake(self.source) {
            self.source_taken = 0;
            let count = self.peers.len() + 1;
            let others = (1..=count).map(|step| (self.source + step) % count);
            let next = others.into_iter().find(|source| self.is_source_awake(*source));
            self.source = next.unwrap_or(0);
            next?;
        }
        Some(self.source)
    }

    fn is_source_awake(&self, source: usize) -> bool {
        match source.checked_sub(1) {
            None => self.incoming.is_awake(),
            Some(at) => self.peers.get(at).is_some_and(Peer::is_awake),
        }
    }

    /// Sends a request, or something about one, on a link where this node is the origin.
    pub(crate) fn send_to_owner(
        &mut self,
        link: LinkId,
        message: ToOwner<ServiceName, SharedFrame>,
    ) -> Result<(), SocketError> {
        match self.peers.iter_mut().find(|peer| peer.link() == Some(link)) {
            Some(peer) => peer.send(message, &mut self.ledger),
            None => {
                if let ToOwner::Forward(forward) = message {
                    self.ledger.add_unsent(link, forward.id);
                }
                Ok(())
            }
        }
    }

    /// Sends a reply, or something else, on a link where this node is the owner.
    pub(crate) fn send_to_origin(
        &mut self,
        now: Instant,
        link: LinkId,
        message: ToOrigin<SharedFrame>,
    ) -> Result<(), SocketError> {
        self.incoming.send(now, link, message, &mut self.ledger)
    }

    /// What the engine is to be told of links. All effects must have been run before.
    pub(crate) fn poll_input(&mut self) -> Option<Input<SharedFrame>> {
        self.ledger.poll_input()
    }

    /// Makes links, judges links, says that this node is there. To be called in every turn, after
    /// what came was read.
    pub(crate) fn tend(&mut self, now: Instant) -> Result<(), SocketError> {
        if self.due.is_some_and(|due| now > due + PAUSE_MIN) {
            tracing::debug!("links are given their time anew: this process stood still");
            self.incoming.rearm(now);
            self.peers.iter_mut().for_each(|peer| peer.rearm(now));
        }
        while let Some(resolved) = self.resolver.take() {
            if let Some(peer) = self.peers.iter_mut().find(|p| *p.node() == resolved.node) {
                peer.on_resolved(now, &resolved);
            }
        }
        self.look()?;
        self.incoming.tend(now, &mut self.ledger)?;
        for peer in &mut self.peers {
            peer.judge(now, &mut self.ledger);
            if peer.wants_connection(now) {
                self.session += 1;
                let attempt = peer.connect(now, self.session, &self.context, self.io_threads);
                if attempt == Attempt::WantsAddress {
                    peer.resolve(&self.resolver);
                }
            }
            peer.settle(now, &mut self.jitter);
        }
        self.peers.retain(|peer| !peer.is_over());
        self.due = Some(self.poll_timeout().map_or(now + SLEEP_MAX, |at| at.min(now + SLEEP_MAX)));
        self.publish();
        Ok(())
    }

    /// Asks the sockets that were used since they were asked last; true if one has something to do.
    /// To be called before a sleep: their descriptors tell of changes only.
    pub(crate) fn look(&mut self) -> Result<bool, SocketError> {
        self.incoming.look()?;
        for peer in &mut self.peers {
            peer.look(&self.me, &mut self.ledger)?;
        }
        let is_awake = self.incoming.is_awake() || self.peers.iter().any(Peer::is_awake);
        Ok(is_awake || self.ledger.has_inputs())
    }

    /// When [`tend`](Self::tend) has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let peers = self.peers.iter().map(Peer::poll_timeout);
        peers.chain(self.incoming.poll_timeout()).min()
    }

    /// Adds the descriptors of all sockets; [`wake`](Self::wake) takes what became of them.
    pub(crate) fn descriptors<'a>(
        &'a self,
        into: &mut SmallVec<[PollFd<'a>; 8]>,
    ) -> Result<(), SocketError> {
        into.push(PollFd::from_borrowed_fd(self.incoming.descriptor()?, PollFlags::IN));
        for descriptor in self.peers.iter().filter_map(Peer::descriptor) {
            into.push(PollFd::from_borrowed_fd(descriptor?, PollFlags::IN));
        }
        Ok(())
    }

    /// Notes which descriptors, in their order, have news.
    pub(crate) fn wake(&mut self, mut rang: impl Iterator<Item = bool>) {
        if rang.next() == Some(true) {
            self.incoming.wake();
        }
        let connected = self.peers.iter_mut().filter(|peer| peer.is_connected());
        connected.zip(rang).filter(|(_, rang)| *rang).for_each(|(peer, _)| peer.wake());
    }

    /// Notes that any socket may have news, because nobody looked at the descriptors.
    pub(crate) fn wake_all(&mut self) {
        self.incoming.wake();
        self.peers.iter_mut().for_each(Peer::wake);
    }

    /// Says to all origins that nothing follows, and waits for nothing; true if all are gone, which
    /// shows that they have read everything.
    pub(crate) fn say_bye(&mut self, now: Instant) -> Result<bool, SocketError> {
        self.incoming.say_bye(now, &mut self.ledger)
    }

    /// What was counted, and what waits.
    pub(crate) fn totals(&self) -> RelayTotals {
        let mut totals = self.ledger.totals().clone();
        (totals.waiting_messages, totals.waiting_bytes) = self.incoming.waiting();
        totals
    }

    /// Which links there are, by the other node.
    pub(crate) fn states(&self) -> Vec<LinkState> {
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

    /// Whether this node can send requests to every other one that takes part.
    pub(crate) fn has_all_links(&self) -> bool {
        self.peers.iter().all(|peer| peer.link().is_some())
    }

    /// Whether that node is another one, and this one cannot send requests to it.
    pub(crate) fn is_cut_off(&self, node: &NodeName) -> bool {
        *node != self.me.node
            && !self.peers.iter().any(|peer| peer.node() == node && peer.link().is_some())
    }

    fn publish(&mut self) {
        if self.ledger.take_change() {
            let states = self.states();
            self.states.send_replace(states);
        }
    }
}

/// The options that both kinds of sockets have.
fn configure(
    socket: &Socket,
    send_messages_max: i32,
    io_threads: IoThreads,
) -> Result<(), SocketError> {
    for (option, value) in [
        (SocketOption::Linger, 0),
        (SocketOption::SendHighWaterMark, send_messages_max),
        (SocketOption::ReceiveHighWaterMark, RECEIVE_MESSAGES_MAX),
        (SocketOption::HandshakeInterval, HANDSHAKE_MILLISECONDS_MAX),
        (SocketOption::HeartbeatInterval, HEARTBEAT_MILLISECONDS),
        (SocketOption::HeartbeatTimeout, HEARTBEAT_TIMEOUT_MILLISECONDS),
        (SocketOption::HeartbeatTtl, HEARTBEAT_TIMEOUT_MILLISECONDS),
    ] {
        socket.set(option, value)?;
    }
    socket.set_io_threads(io_threads)?;
    socket.set_frame_bytes_max(FRAME_BYTES_MAX)
}

/// Receives the frames of a message behind the one at hand. Of a message with too many, only so many
/// are kept that the decoder sees it. Returns the last one, which knows where it comes from.
fn receive_frames(
    socket: &mut Socket,
    mut has_more: bool,
    frames: &mut Vec<SharedFrame>,
) -> Result<Option<Frame>, SocketError> {
    let mut last = None;
    while has_more {
        let mut frame = Frame::new();
        // libzmq hands out whole messages only: this never has to wait.
        if socket.receive(&mut frame)? == FrameFlow::WouldWait {
            break;
        }
        has_more = frame.has_more();
        if frames.len() <= mdp_wire::relay::RELAY_FRAMES_MAX {
            frames.push(SharedFrame::from(frame.as_ref()));
        }
        last = Some(frame);
    }
    Ok(last)
}

#[cfg(test)]
mod tests;
