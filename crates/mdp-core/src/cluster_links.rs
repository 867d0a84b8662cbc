//! The links by which nodes call each other: requests and answers of consensus.
//!
//! A node connects to each other one once for each [`Lane`] ([`Peer`]), when it has something to ask, and
//! accepts the connections of the others ([`Incoming`]). A request is two frames, a correlation id and its
//! bytes; its answer carries the same id and comes by the same connection. An id is forgotten when the
//! call's time is up, so that an answer that comes later meets no call.
//!
//! The shell moves bytes between sockets and the [`Transport`], and does what
//! [`ClusterLinks::poll_action`] says: it connects, looks up names, and hands out the outcomes of calls.

mod calls;
mod complaints;
mod incoming;
mod peer;
mod totals;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use mdp_catalog::NodeName;
use mdp_raft::{CallError, Lane};
use mdp_transport::{
    ConnectionId, ConnectionLimits, Flow, Message, PeerAddress, PongRule, SharedFrame, Transport,
    TransportEvent, TransportLimits,
};

pub use self::{
    calls::{Call, CallReply},
    incoming::{CallerId, IncomingCall, IncomingLimits},
    totals::LinkTotals,
};
use self::{incoming::Incoming, peer::Peer};
use crate::{
    Connections, NodeKeys, Received,
    backoff::Jitter,
    node_keys::{LinkKeys, is_plain},
    relay_links::PEERS_MAX,
};

/// How many bytes the longest request or answer may have.
pub const CALL_BYTES_MAX: usize = 64 << 20;
/// How many calls to one node on one lane may have no answer yet.
pub const CALLS_PER_PEER_MAX: usize = 128;
/// How many bytes the requests among them may have that were not written yet. One may always wait.
const UNWRITTEN_BYTES_PER_PEER_MAX: usize = 128 << 20;
/// How many calls of others may be in progress; half as many of one connection. More are dropped: they would
/// be answered too late.
pub const INCOMING_CALLS_MAX: usize = 256;
/// How many bytes the requests of all of them may take. One may always be in.
pub const INCOMING_CALLS_BYTES_MAX: usize = 128 << 20;

/// How many connections this node makes: one on each lane to each other node.
const DIALLED_MAX: usize = 2 * PEERS_MAX;
/// How many bytes of unfinished messages of all connections may be allocated: those of four of the
/// longest.
const INCOMING_BYTES_MAX: usize = 4 * CALL_BYTES_MAX;
/// How many bytes of answers may wait for one node that does not read. One answer may always wait.
const ANSWERS_BYTES_PER_CALLER_MAX: usize = 64 << 20;
/// How many bytes may wait for all nodes together; beyond, the greediest one that reads nothing is lost.
const OUTGOING_BYTES_MAX: usize = 512 << 20;
/// How long a node may take nothing while something waits for it.
const STALLED_AFTER: Duration = Duration::from_secs(1);
/// How long a connection may take to introduce itself, from its beginning.
const INTRODUCTION_TIME_MAX: Duration = Duration::from_secs(1);
/// How often a connection is pinged, and how long the other side may be silent after that (rule 11 of
/// 0.1.0's libzmq, at both ends).
const PING_INTERVAL: Duration = Duration::from_millis(300);
const SILENT_MAX: Duration = Duration::from_secs(1);
/// A turn that is so late means that this process stood still, which is no fault of other nodes.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The shell has a turn at least this often.
const CALLED_EVERY: Duration = Duration::from_secs(1);

/// The frames of a request or answer: a correlation id and a body.
const CALL_FRAMES: usize = 2;
const CORRELATION_BYTES: usize = 8;

/// What a message is that leaves, for the case that no byte of it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallTag {
    /// The request with this id.
    Request(u64),
    /// An answer to another node.
    Answer,
}

/// What the shell is to do.
#[derive(Debug)]
pub enum ClusterAction<R> {
    /// Connect to an address. A connection that can not be made has [failed](Connections::failed).
    Dial {
        /// What the transport calls it.
        connection: ConnectionId,
        /// Where to.
        address: SocketAddr,
    },
    /// Find out what an endpoint stands for now, and say so ([`ClusterLinks::handle_located`]).
    Locate {
        /// Which node.
        peer: PeerKey,
    },
    /// Answer a call of another node ([`ClusterLinks::answer`]), or drop it.
    Serve(IncomingCall),
    /// Hand out the outcome of a call.
    Finish {
        /// Where to.
        reply: R,
        /// What it came to.
        outcome: Result<Vec<u8>, CallError>,
    },
}

/// Another node on one lane.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerKey {
    /// Where it takes calls, such as `tcp://node-2:5556`.
    pub endpoint: String,
    /// Which of its connections.
    pub lane: Lane,
    /// Its name, by which its key is known; `None`: it has none that is a name.
    pub node: Option<NodeName>,
}

/// Why a connection can not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DialError {
    /// No program listens at the address.
    Refused,
    /// Anything else: there is no route, say, or no descriptor.
    Failed,
}

/// What handling something needs.
struct Turn<'a, R> {
    now: Instant,
    transport: &'a mut Transport<CallTag>,
    keys: &'a mut LinkKeys,
    totals: &'a mut LinkTotals,
    actions: &'a mut VecDeque<ClusterAction<R>>,
    jitter: &'a mut Jitter,
}

/// This node's end of all connections by which nodes call each other. `R` is where the outcome of a call
/// goes.
#[derive(Debug)]
pub struct ClusterLinks<R> {
    transport: Transport<CallTag>,
    keys: LinkKeys,
    peers: BTreeMap<PeerKey, Peer<R>>,
    incoming: Incoming,
    totals: LinkTotals,
    actions: VecDeque<ClusterAction<R>>,
    jitter: Jitter,
    /// The correlation id of the next call.
    next_call: u64,
    /// When [`handle_timeout`](Self::handle_timeout) should be called next, at the latest.
    due: Option<Instant>,
}

impl<R: CallReply> ClusterLinks<R> {
    /// No connections. Others may make so many; `random` is any number, for waits that are not alike on
    /// all nodes.
    #[must_use]
    pub fn new(now: Instant, limits: IncomingLimits, random: u64) -> Self {
        Self {
            transport: Transport::new(now, transport_limits(limits)),
            keys: LinkKeys::default(),
            peers: BTreeMap::new(),
            incoming: Incoming::new(limits),
            totals: LinkTotals::default(),
            actions: VecDeque::new(),
            jitter: Jitter::new(random),
            next_call: 1,
            due: None,
        }
    }

    /// From now on calls of other nodes are handed out; those before are dropped.
    pub const fn begin_serving(&mut self) {
        self.incoming.begin_serving();
    }

    /// From now on nodes are known by these keys, and connections of other ones end. The transport must have
    /// [randomness](Transport::seed).
    pub fn set_keys(&mut self, now: Instant, keys: Arc<NodeKeys>) {
        let dialled = self.peers.values().filter_map(Peer::dialled).collect();
        self.keys.set(keys, &mut self.transport, &dialled);
        self.take_events(now);
    }

    /// Calls another node. The outcome comes when there is one, and at the call's deadline at the latest.
    pub fn call(&mut self, now: Instant, key: PeerKey, call: Call<R>) {
        let (id, is_full) = (self.next_call, self.peers.len() >= DIALLED_MAX);
        self.next_call = id.wrapping_add(1);
        let Self { transport, keys, peers, totals, actions, jitter, .. } = self;
        let mut turn = Turn { now, transport, keys, totals, actions, jitter };
        if let Some(peer) = peers.get_mut(&key) {
            return peer.call(&mut turn, id, call);
        }
        if is_full || call.request.len() > CALL_BYTES_MAX {
            tracing::debug!(endpoint = key.endpoint, is_full, "a node is not called");
            return turn.finish(call.reply, Err(CallError::Unreachable));
        }
        let mut peer = Peer::new(key.clone(), now);
        peer.call(&mut turn, id, call);
        peers.insert(key, peer);
    }

    /// Takes what an endpoint stands for now. Nothing: it stands for nothing, or that is not known.
    pub fn handle_located(&mut self, now: Instant, key: &PeerKey, addresses: &[SocketAddr]) {
        let Self { transport, keys, peers, totals, actions, jitter, .. } = self;
        let mut turn = Turn { now, transport, keys, totals, actions, jitter };
        if let Some(peer) = peers.get_mut(key) {
            peer.on_located(&mut turn, addresses);
        }
    }

    fn on_message(&mut self, now: Instant, id: ConnectionId, message: Message) {
        let allocated_bytes = message.allocated_bytes;
        let Some((correlation, body)) = split(message) else {
            self.totals.malformed += 1;
            return;
        };
        let Self { transport, keys, peers, incoming, totals, actions, jitter, .. } = self;
        match peers.values_mut().find(|peer| peer.is_on(id)) {
            Some(peer) => {
                let mut turn = Turn { now, transport, keys, totals, actions, jitter };
                peer.on_answer(&mut turn, u64::from_le_bytes(correlation), body);
            }
            None => {
                let turn = (now, keys.holder(transport, id), totals);
                let call = incoming.on_request(turn, (id, correlation), body, allocated_bytes);
                actions.extend(call.map(ClusterAction::Serve));
            }
        }
    }

    /// Sends the answer to a call of another node.
    pub fn answer(&mut self, now: Instant, caller: CallerId, answer: Vec<u8>) {
        self.incoming.answer(now, caller, answer, &mut self.transport);
    }

    /// Takes what happened to connections.
    fn take_events(&mut self, now: Instant) {
        let Self { transport, keys, peers, incoming, totals, actions, jitter, .. } = self;
        while let Some(event) = transport.poll_event() {
            let mut turn = Turn { now, transport, keys, totals, actions, jitter };
            let id = match &event {
                TransportEvent::Opened { id }
                | TransportEvent::Authenticate { id, .. }
                | TransportEvent::Lost { id, .. }
                | TransportEvent::Refused { id, .. } => *id,
            };
            let peer = peers.values_mut().find(|peer| peer.is_on(id));
            match (event, peer) {
                (TransportEvent::Opened { .. }, Some(peer)) => peer.on_opened(&mut turn),
                (TransportEvent::Opened { .. }, None) => {}
                (TransportEvent::Authenticate { id, key, is_last }, _) => {
                    turn.keys.authenticate(now, turn.transport, (id, key), is_last);
                }
                (TransportEvent::Lost { why, unsent, .. }, Some(peer)) => {
                    peer.on_lost(&mut turn, &why, unsent);
                }
                (TransportEvent::Refused { why, .. }, Some(peer)) => {
                    peer.on_refused(&mut turn, &why);
                }
                (TransportEvent::Lost { address, why, unsent, .. }, None) => {
                    incoming.on_lost(turn.totals, (id, address), &why, unsent.len());
                }
                (TransportEvent::Refused { address, why, .. }, None) => {
                    incoming.on_refused(turn.totals, (id, address), &why);
                }
            }
        }
    }

    /// Makes connections, sends calls, ends those whose time is up. To be called in every turn, after what
    /// came was read. Of connections with something unread it is not known whether they are silent.
    pub fn handle_timeout(&mut self, now: Instant, has_unread: impl Fn(ConnectionId) -> bool) {
        if self.due.is_some_and(|due| now > due + PAUSE_MIN) {
            tracing::debug!("nodes are given their time anew: this process stood still");
            self.transport.rearm(now);
        }
        self.transport.handle_timeout(now, &has_unread);
        self.take_events(now);
        let Self { transport, keys, peers, totals, actions, jitter, .. } = self;
        let mut turn = Turn { now, transport, keys, totals, actions, jitter };
        peers.retain(|_, peer| {
            let is_unread = peer.connection().is_some_and(&has_unread);
            peer.handle_timeout(&mut turn, is_unread);
            let stays = !peer.is_idle(now);
            if !stays {
                peer.close(&mut turn);
            }
            stays
        });
        let sleep_end = now + CALLED_EVERY;
        self.due = Some(self.poll_timeout().map_or(sleep_end, |at| at.min(sleep_end)));
    }

    /// What the shell is to do next.
    pub fn poll_action(&mut self) -> Option<ClusterAction<R>> {
        self.actions.pop_front()
    }

    /// Whether something is to be done although nothing comes and nothing is due.
    #[must_use]
    pub fn is_awake(&self) -> bool {
        self.transport.has_events()
            || !self.actions.is_empty()
            || self.peers.values().any(|peer| peer.can_send(&self.transport))
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let peers = self.peers.values().map(Peer::poll_timeout);
        peers.chain(self.transport.poll_timeout()).min()
    }

    /// What was counted.
    #[must_use]
    pub fn totals(&self) -> LinkTotals {
        let dialled = self.peers.values().filter_map(Peer::connection);
        let connections = dialled.chain(self.incoming.callers());
        let plain = connections.filter(|id| is_plain(&self.transport, *id)).count();
        let node_keys = self.keys.count() as u64;
        LinkTotals { plain_links: plain as u64, node_keys, ..self.totals }
    }
}

impl<R: CallReply> Connections for ClusterLinks<R> {
    type Tag = CallTag;

    fn transport(&mut self) -> &mut Transport<CallTag> {
        &mut self.transport
    }

    fn accepted(&mut self, now: Instant, address: PeerAddress) -> Option<ConnectionId> {
        self.incoming.accepted(now, address, &mut self.transport)
    }

    fn failed(&mut self, id: ConnectionId, error: io::ErrorKind) {
        let is_refused = error == io::ErrorKind::ConnectionRefused;
        let error = if is_refused { DialError::Refused } else { DialError::Failed };
        if let Some(peer) = self.peers.values_mut().find(|peer| peer.is_on(id)) {
            peer.on_dial_failed(error);
        }
        self.transport.closed(id);
    }

    fn received(
        &mut self,
        now: Instant,
        id: ConnectionId,
        input: &[u8],
        messages_max: usize,
    ) -> Received {
        let mut received = Received::default();
        while let Some(rest) = input.get(received.bytes..).filter(|rest| !rest.is_empty())
            && received.messages < messages_max
        {
            let mut next = None;
            received.bytes += self.transport.received(now, id, rest, |_, message| {
                next = Some(message);
                Flow::Stop
            });
            // What ends a connection comes after what it said before.
            if let Some(message) = next {
                received.messages += 1;
                self.on_message(now, id, message);
            }
            self.take_events(now);
        }
        received
    }
}

impl<R> Turn<'_, R> {
    fn finish(&mut self, reply: R, outcome: Result<Vec<u8>, CallError>) {
        self.actions.push_back(ClusterAction::Finish { reply, outcome });
    }
}

/// Correlation id and body; `None`: this is neither a request nor an answer.
fn split(message: Message) -> Option<([u8; CORRELATION_BYTES], SharedFrame)> {
    let mut frames = message.frames.into_iter();
    let (correlation, body) = (frames.next()?, frames.next()?);
    let correlation = correlation.as_ref().try_into().ok()?;
    frames.next().is_none().then_some((correlation, body))
}

fn transport_limits(incoming: IncomingLimits) -> TransportLimits {
    let IncomingLimits { visitors_max, callers_max } = incoming;
    TransportLimits {
        connection: ConnectionLimits {
            message_bytes_max: CALL_BYTES_MAX + CORRELATION_BYTES,
            // One more than a call has: what is no call is counted before it ends a connection.
            message_frames_max: CALL_FRAMES + 1,
            handshake_timeout: INTRODUCTION_TIME_MAX,
            ping_interval: PING_INTERVAL,
            pong_timeout: SILENT_MAX,
            pong_rule: PongRule::Always,
            ping_ttl: SILENT_MAX,
            ..ConnectionLimits::default()
        },
        connections_max: DIALLED_MAX + callers_max + visitors_max,
        strangers_max: visitors_max,
        incoming_bytes_max: INCOMING_BYTES_MAX,
        outgoing_bytes_per_peer_max: ANSWERS_BYTES_PER_CALLER_MAX,
        // Requests are bounded before they are handed over.
        outgoing_bytes_per_dialled_max: usize::MAX,
        outgoing_bytes_max: OUTGOING_BYTES_MAX,
        stalled_after: STALLED_AFTER,
    }
}

#[cfg(test)]
mod tests;
