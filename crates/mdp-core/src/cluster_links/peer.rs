//! One other node on one lane: the connection to it, and the calls that go there.

use std::{
    fmt::Display,
    net::SocketAddr,
    time::{Duration, Instant},
};

use mdp_catalog::NodeName;
use mdp_raft::CallError;
use mdp_transport::{ConnectionId, Ending, Loss, SharedFrame, SocketType, Transport};
use mdp_wire::{FrameSink as _, Part, Position};

use super::{
    CALL_BYTES_MAX, CALLS_PER_PEER_MAX, CallTag, ClusterAction, DialError, PeerKey, Turn,
    UNWRITTEN_BYTES_PER_PEER_MAX,
    calls::{Call, CallReply, Calls},
    incoming::is_silence,
};
use crate::node_keys::Dialled;

/// How long a connection may go unused before it is closed.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How long making a connection may take, without introductions.
const CONNECT_TIME_MAX: Duration = Duration::from_millis(500);
/// How soon a name is looked up again while its node can not be reached: it may have moved.
const LOCATE_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// When a look-up that says nothing is given up.
const LOCATE_TIME_MAX: Duration = Duration::from_secs(15);
/// How many addresses of one name are tried.
const ADDRESSES_MAX: usize = 16;
/// How many bytes may wait on the connection when the next request is handed over. What is not handed over
/// can still be given up.
const AHEAD_BYTES_MAX: usize = 256 << 10;

/// One other node on one lane.
#[derive(Debug)]
pub(super) struct Peer<R> {
    key: PeerKey,
    calls: Calls<R>,
    stage: Stage,
    connection: Option<ConnectionId>,
    /// What its endpoint stood for when it last stood for anything.
    addresses: Vec<SocketAddr>,
    /// Where the last attempt went.
    address: Option<SocketAddr>,
    /// Where a node has just said that it speaks no CURVE, and may be called without.
    plain_at: Option<SocketAddr>,
    /// Whether the last attempt was without.
    is_plain: bool,
    /// When its endpoint may be looked up next.
    locate_at: Instant,
    /// Attempts that failed since the last connection.
    failures: u32,
    /// Why the attempt at hand fails, as the shell says it.
    dial_error: Option<DialError>,
    /// What calls are told that could not be sent.
    obstacle: CallError,
    used_at: Instant,
    has_warned_of_name: bool,
    has_warned_of_program: bool,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// There is none. If requests wait, the next attempt is made then.
    Closed { until: Instant },
    /// Its address is looked up.
    Locating { until: Instant },
    /// It is being made; `first_bytes` waited when that began.
    Connecting { until: Instant, first_bytes: usize },
    /// Both sides introduce themselves; the transport knows for how long at most.
    Introducing,
    /// Requests can be sent.
    Open,
}

impl<R: CallReply> Peer<R> {
    pub(super) const fn new(key: PeerKey, now: Instant) -> Self {
        Self {
            key,
            calls: Calls::new(),
            stage: Stage::Closed { until: now },
            connection: None,
            addresses: Vec::new(),
            address: None,
            plain_at: None,
            is_plain: false,
            locate_at: now,
            failures: 0,
            dial_error: None,
            obstacle: CallError::Timeout,
            used_at: now,
            has_warned_of_name: false,
            has_warned_of_program: false,
        }
    }

    pub(super) const fn connection(&self) -> Option<ConnectionId> {
        self.connection
    }

    /// Its connection, and the name of the node that it is to.
    pub(super) fn dialled(&self) -> Option<(ConnectionId, NodeName)> {
        self.connection.zip(self.key.node.clone())
    }

    /// Whether this is its connection.
    pub(super) fn is_on(&self, id: ConnectionId) -> bool {
        self.connection == Some(id)
    }

    /// Takes a call, or refuses it.
    pub(super) fn call(&mut self, turn: &mut Turn<'_, R>, id: u64, call: Call<R>) {
        if call.request.len() > CALL_BYTES_MAX {
            return turn.finish(call.reply, Err(CallError::Unreachable));
        }
        let unwritten = self.calls.unwritten_bytes();
        let has_bytes =
            unwritten == 0 || unwritten + call.request.len() <= UNWRITTEN_BYTES_PER_PEER_MAX;
        if self.calls.len() >= CALLS_PER_PEER_MAX || !has_bytes {
            turn.totals.refused += 1;
            return turn.finish(call.reply, Err(CallError::Busy));
        }
        if self.calls.len() == 0 && !self.is_waiting(turn.now) {
            // What kept earlier calls from being sent was long ago.
            self.obstacle = CallError::Timeout;
        }
        self.used_at = turn.now;
        self.calls.push(id, call);
        self.send(turn);
    }

    /// Whether the last attempt failed a moment ago.
    fn is_waiting(&self, now: Instant) -> bool {
        matches!(self.stage, Stage::Closed { until } if until > now)
    }

    /// Takes an answer.
    pub(super) fn on_answer(&mut self, turn: &mut Turn<'_, R>, id: u64, answer: SharedFrame) {
        match self.calls.answered(id) {
            None => turn.totals.late_answers += 1,
            // The caller may have given up meanwhile.
            Some(reply) if reply.is_abandoned() => turn.totals.late_answers += 1,
            Some(reply) => {
                turn.totals.answered += 1;
                self.has_warned_of_program = false;
                turn.finish(reply, Ok(answer.into_vec()));
            }
        }
    }

    /// Hands requests to the connection while that is ready for them.
    fn send(&mut self, turn: &mut Turn<'_, R>) {
        while self.can_send(turn.transport)
            && let Some(connection) = self.connection
            && let Some((id, request)) = self.calls.hand_over(turn.now)
        {
            turn.transport.send(connection, Some(CallTag::Request(id)), |writer| {
                let Ok(()) = writer.put(Part::Bytes(&id.to_le_bytes()), Position::More);
                let Ok(()) = writer.put(Part::Frame(request), Position::Last);
            });
        }
    }

    /// Whether the next request that waits can be handed to the connection.
    pub(super) fn can_send(&self, transport: &Transport<CallTag>) -> bool {
        self.stage == Stage::Open
            && self.calls.has_waiting()
            && self.connection.is_some_and(|id| transport.output_bytes(id) <= AHEAD_BYTES_MAX)
    }

    /// Counts the requests that were written since.
    fn note_written(&mut self, turn: &mut Turn<'_, R>) {
        if let (Stage::Open, Some(connection)) = (self.stage, self.connection) {
            let unwritten = turn.transport.output_messages(connection);
            turn.totals.sent += self.calls.note_unwritten(unwritten);
        }
    }

    /// Does what is due. Whether a connection with something unread is there is not known yet.
    pub(super) fn handle_timeout(&mut self, turn: &mut Turn<'_, R>, is_unread: bool) {
        let now = turn.now;
        self.note_written(turn);
        while let Some(expired) = self.calls.pop_expired(now) {
            turn.totals.timed_out += 1;
            let error = if expired.is_written { CallError::Timeout } else { self.obstacle };
            turn.finish(expired.reply, Err(error));
        }
        match self.stage {
            Stage::Closed { until } if until <= now && self.calls.has_waiting() => self.begin(turn),
            // Whether there is an address is not known.
            Stage::Locating { until } if until <= now => self.fail(turn, CallError::Timeout),
            Stage::Connecting { until, first_bytes } if until <= now && !is_unread => {
                // The kernel takes the first bytes when there is a connection. Others may wait by now.
                let is_made = self.connection.is_some_and(|id| {
                    let transport = &turn.transport;
                    transport.bytes_in(id) > 0 || transport.output_bytes(id) < first_bytes
                });
                if is_made {
                    self.stage = Stage::Introducing;
                } else {
                    self.fail(turn, CallError::Timeout);
                }
            }
            Stage::Closed { .. }
            | Stage::Locating { .. }
            | Stage::Connecting { .. }
            | Stage::Introducing
            | Stage::Open => {}
        }
        self.send(turn);
    }

    /// Begins an attempt. It waits for a name server only if there never was an address: a slow or dead
    /// one keeps no node away that is where it was.
    fn begin(&mut self, turn: &mut Turn<'_, R>) {
        let is_asked = self.locate(turn);
        if !self.addresses.is_empty() {
            self.dial(turn);
        } else if is_asked {
            self.stage = Stage::Locating { until: self.locate_at };
        } else {
            self.stage = Stage::Closed { until: self.locate_at };
        }
    }

    /// Has its endpoint looked up, unless that is under way or was done a moment ago.
    fn locate(&mut self, turn: &mut Turn<'_, R>) -> bool {
        let is_due = turn.now >= self.locate_at;
        if is_due {
            self.locate_at = turn.now + LOCATE_TIME_MAX;
            turn.actions.push_back(ClusterAction::Locate { peer: self.key.clone() });
        }
        is_due
    }

    /// Takes what its endpoint stands for now. What it stood for is kept if that is nothing: the name
    /// server may have failed, and not the node.
    pub(super) fn on_located(&mut self, turn: &mut Turn<'_, R>, addresses: &[SocketAddr]) {
        self.locate_at = turn.now + LOCATE_AGAIN_AFTER;
        if addresses.is_empty() {
            if !std::mem::replace(&mut self.has_warned_of_name, true) {
                let endpoint = &self.key.endpoint;
                tracing::warn!(endpoint, "the name of a node has no address; it is tried again");
            }
            if self.addresses.is_empty() {
                self.obstacle = CallError::NoAddress;
                self.stage = Stage::Closed { until: self.locate_at };
            }
            return;
        }
        self.has_warned_of_name = false;
        self.addresses = addresses.iter().copied().take(ADDRESSES_MAX).collect();
        if let Stage::Locating { .. } = self.stage {
            self.dial(turn);
        }
    }

    /// Connects to the address after the one that was tried last; after a loss, to the one that worked.
    fn dial(&mut self, turn: &mut Turn<'_, R>) {
        let plain_at = self.plain_at.take();
        self.is_plain = plain_at.is_some();
        let worked = self.address.filter(|at| self.failures == 0 && self.addresses.contains(at));
        let next = worked.or_else(|| crate::next_address(&self.addresses, self.address));
        let Some(address) = plain_at.or(next) else { return };
        self.address = Some(address);
        self.dial_error = None;
        let how = (address, self.is_plain);
        let node = self.key.node.as_ref();
        let connection = match turn.keys.dial(turn.now, turn.transport, node, how) {
            Dialled::Connection(connection) => connection,
            Dialled::NoRoom => return self.fail(turn, CallError::Unreachable),
            Dialled::NoKey => {
                self.complain("cluster.keys_dir has no key of it");
                return self.fail(turn, CallError::Unreachable);
            }
        };
        tracing::debug!(endpoint = self.key.endpoint, %address, "connecting");
        self.connection = Some(connection);
        let first_bytes = turn.transport.output_bytes(connection);
        self.stage = Stage::Connecting { until: turn.now + CONNECT_TIME_MAX, first_bytes };
        turn.actions.push_back(ClusterAction::Dial { connection, address });
    }

    /// The connection that is being made can not be made.
    pub(super) const fn on_dial_failed(&mut self, error: DialError) {
        self.dial_error = Some(error);
    }

    /// The connection is there. Nodes take calls at a ROUTER; one that is something else may even be this
    /// side itself: TCP can connect a port with itself.
    pub(super) fn on_opened(&mut self, turn: &mut Turn<'_, R>) {
        let peer = self.connection.and_then(|id| turn.transport.peer(id));
        if peer.is_none_or(|peer| peer.socket_type != SocketType::Router) {
            turn.totals.malformed += 1;
            self.complain("its socket is no ROUTER");
            return self.fail(turn, CallError::Unreachable);
        }
        let node = self.key.node.as_ref();
        if let Some(id) = self.connection
            && !turn.keys.on_dialled_opened(turn.transport, id, node)
        {
            return self.fail(turn, CallError::Unreachable);
        }
        self.stage = Stage::Open;
        self.failures = 0;
        self.obstacle = CallError::Timeout;
        self.send(turn);
    }

    /// The connection is gone, with these requests of which nothing was sent.
    pub(super) fn on_lost(&mut self, turn: &mut Turn<'_, R>, why: &Loss, unsent: Vec<CallTag>) {
        let endpoint = &self.key.endpoint;
        tracing::debug!(endpoint, reason = %why, "the connection to a node is lost");
        self.count_wrong(turn, why);
        turn.totals.sent += self.calls.take_back(unsent);
        self.fail(turn, CallError::Unreachable);
    }

    /// The connection ended before the other node had introduced itself.
    pub(super) fn on_refused(&mut self, turn: &mut Turn<'_, R>, why: &Loss) {
        let is_there = !self.is_plain && self.dial_error.is_none();
        if is_there && turn.keys.allows_plain(self.key.node.as_ref(), why) {
            // It is called without encryption, at once.
            self.close(turn);
            (self.plain_at, self.stage) = (self.address, Stage::Closed { until: turn.now });
            return;
        }
        let obstacle = match (self.dial_error, why) {
            (Some(DialError::Refused), _) => CallError::Refused,
            // It is there, and does not answer.
            (None, Loss::Ended(Ending::HandshakeTimeout)) => CallError::Timeout,
            (Some(DialError::Failed) | None, _) => CallError::Unreachable,
        };
        self.count_wrong(turn, why);
        self.fail(turn, obstacle);
    }

    /// Counts what is there if it speaks something else than a node.
    fn count_wrong(&mut self, turn: &mut Turn<'_, R>, why: &Loss) {
        let Loss::Ended(ending) = why else { return };
        if !is_silence(ending) {
            turn.totals.malformed += 1;
            self.complain(ending);
        }
    }

    /// Says once that what is there is no node.
    fn complain(&mut self, reason: impl Display) {
        if !std::mem::replace(&mut self.has_warned_of_program, true) {
            let endpoint = &self.key.endpoint;
            tracing::warn!(endpoint, %reason, "what is there is no node; it is tried again");
        }
    }

    /// The attempt failed, or the connection is gone.
    fn fail(&mut self, turn: &mut Turn<'_, R>, obstacle: CallError) {
        let was_open = self.stage == Stage::Open;
        self.close(turn);
        for reply in self.calls.take_written() {
            turn.totals.lost += 1;
            turn.finish(reply, Err(CallError::Unreachable));
        }
        self.obstacle = obstacle;
        self.failures = if was_open { 0 } else { self.failures.saturating_add(1) };
        self.stage = Stage::Closed { until: turn.now + turn.jitter.wait(self.failures) };
    }

    /// Closes the connection, if there is one; what was not sent waits for the next.
    pub(super) fn close(&mut self, turn: &mut Turn<'_, R>) {
        if let Some(connection) = self.connection.take() {
            let unsent = turn.transport.close(connection);
            turn.totals.sent += self.calls.take_back(unsent);
        }
    }

    /// Whether it was not called for long.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.calls.len() == 0 && now.saturating_duration_since(self.used_at) >= IDLE_MAX
    }

    /// When there is something to do even if nothing happens.
    pub(super) fn poll_timeout(&self) -> Instant {
        let stage = match self.stage {
            Stage::Closed { until } => self.calls.has_waiting().then_some(until),
            Stage::Locating { until } | Stage::Connecting { until, .. } => Some(until),
            Stage::Introducing | Stage::Open => None,
        };
        let idle = self.used_at + IDLE_MAX;
        match [stage, self.calls.next_deadline()].into_iter().flatten().min() {
            None => idle,
            Some(due) => due,
        }
    }
}
