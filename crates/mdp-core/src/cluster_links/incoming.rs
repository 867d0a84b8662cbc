//! The calls of other nodes, and the connections that they come by.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use mdp_catalog::NodeName;
use mdp_transport::{ConnectionId, Ending, Loss, PeerAddress, SharedFrame, Transport};
use mdp_wire::{FrameSink as _, Part, Position};

use super::{
    CORRELATION_BYTES, CallTag, INCOMING_CALLS_BYTES_MAX, INCOMING_CALLS_MAX, LinkTotals,
    complaints::Complaints,
};
use crate::node_keys::KeyHolder;

/// A call of another node.
#[derive(Debug)]
pub struct IncomingCall {
    /// Where its answer goes.
    pub caller: CallerId,
    /// What is asked.
    pub request: Vec<u8>,
    /// The node whose key the caller has shown; `None`: its connection has no encryption.
    pub node: Option<NodeName>,
}

/// Where the answer to a call of another node goes. The call is in progress until this is dropped or
/// answered.
#[derive(Debug)]
pub struct CallerId {
    connection: ConnectionId,
    correlation: [u8; CORRELATION_BYTES],
    _permit: Permit,
}

/// What some calls of others take that are in progress.
#[derive(Debug, Default)]
struct InProgress {
    calls: AtomicUsize,
    bytes: AtomicUsize,
}

impl InProgress {
    /// Whether there is room for another call. One has room whatever its size.
    fn has_room(&self, bytes: usize, share: Share) -> bool {
        // Only one thread adds calls; those that take them away can only make room meanwhile.
        let (calls, taken) =
            (self.calls.load(Ordering::Acquire), self.bytes.load(Ordering::Acquire));
        let has_bytes = taken.saturating_add(bytes) <= INCOMING_CALLS_BYTES_MAX / share.0;
        calls == 0 || (calls < INCOMING_CALLS_MAX / share.0 && has_bytes)
    }

    fn add(&self, bytes: usize) {
        self.calls.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    fn subtract(&self, bytes: usize) {
        self.calls.fetch_sub(1, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    fn is_none(&self) -> bool {
        self.calls.load(Ordering::Acquire) == 0
    }
}

/// The part of all that may be in progress, as its divisor. One connection can not keep out the calls of all
/// others, such as heartbeats, and neither can all programs together that were never answered.
#[derive(Clone, Copy, Debug)]
struct Share(usize);

impl Share {
    const ALL: Self = Self(1);
    const OF_ONE_CONNECTION: Self = Self(2);
    const OF_VISITORS: Self = Self(4);
}

/// One call's part of everything that it counts for.
#[derive(Debug)]
struct Permit {
    of: Vec<Arc<InProgress>>,
    bytes: usize,
}

impl Permit {
    /// Takes a part of each, if all have room.
    fn take<const N: usize>(of: [(&Arc<InProgress>, Share); N], bytes: usize) -> Option<Self> {
        let has_room = of.iter().all(|(in_progress, share)| in_progress.has_room(bytes, *share));
        has_room.then(|| {
            let of = of.map(|(in_progress, _)| Arc::clone(in_progress));
            of.iter().for_each(|in_progress| in_progress.add(bytes));
            Self { of: of.into(), bytes }
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.of.iter().for_each(|in_progress| in_progress.subtract(self.bytes));
    }
}

/// How many connections of other programs are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IncomingLimits {
    /// Those that brought no call yet that was answered.
    pub visitors_max: usize,
    /// The others: two for each other node, and as many more, since a node that comes back may do so before
    /// its old connections are known to be lost.
    pub callers_max: usize,
}

/// A connection that brought a call that was answered.
#[derive(Debug)]
struct Caller {
    called_at: Instant,
    in_progress: Arc<InProgress>,
}

/// The connections that other nodes made.
#[derive(Debug)]
pub(super) struct Incoming {
    limits: IncomingLimits,
    /// Those that brought no call yet that was answered, and their calls: any program can be behind them.
    visitors: BTreeMap<ConnectionId, Arc<InProgress>>,
    /// The others. Any program can be behind them too, but it has to be busier than nodes are.
    callers: BTreeMap<ConnectionId, Caller>,
    in_progress: Arc<InProgress>,
    in_progress_of_visitors: Arc<InProgress>,
    is_serving: bool,
    complaints: Complaints,
}

impl Incoming {
    pub(super) fn new(limits: IncomingLimits) -> Self {
        Self {
            limits,
            visitors: BTreeMap::new(),
            callers: BTreeMap::new(),
            in_progress: Arc::default(),
            in_progress_of_visitors: Arc::default(),
            is_serving: false,
            complaints: Complaints::default(),
        }
    }

    /// The connections that brought a call that was answered.
    pub(super) fn callers(&self) -> impl Iterator<Item = ConnectionId> {
        self.callers.keys().copied()
    }

    pub(super) const fn begin_serving(&mut self) {
        self.is_serving = true;
    }

    /// Another program connected. Of too many that brought no call, one has to go.
    pub(super) fn accepted(
        &mut self,
        now: Instant,
        address: PeerAddress,
        transport: &mut Transport<CallTag>,
    ) -> Option<ConnectionId> {
        if self.visitors.len() >= self.limits.visitors_max
            && let Some(id) = self.visitor_to_end(transport)
        {
            self.visitors.remove(&id);
            transport.close(id);
        }
        let id = transport.accepted(now, address)?;
        self.visitors.insert(id, Arc::default());
        Some(id)
    }

    /// The oldest of those that did not introduce themselves, while they are most: a crowd of them ends no
    /// node that did. Otherwise the oldest of the others: a crowd of those lets newcomers say who they are.
    fn visitor_to_end(&self, transport: &Transport<CallTag>) -> Option<ConnectionId> {
        let is_stranger = |id: &&ConnectionId| transport.peer(**id).is_none();
        let strangers = self.visitors.keys().filter(is_stranger).count();
        let are_strangers_most = strangers > self.visitors.len() / 2;
        let mut oldest_first = self.visitors.keys();
        oldest_first.find(|id| is_stranger(id) == are_strangers_most).copied()
    }

    /// The connection is one of those that brought a call that was answered. Of too many, the one goes that
    /// brought none for the longest time, so that each node always gets in.
    fn promote(
        &mut self,
        connection: ConnectionId,
        now: Instant,
        transport: &mut Transport<CallTag>,
    ) {
        let Some(in_progress) = self.visitors.remove(&connection) else { return };
        if self.callers.len() >= self.limits.callers_max {
            let idlest = self
                .callers
                .iter()
                .min_by_key(|(_, caller)| (!caller.in_progress.is_none(), caller.called_at));
            if let Some(id) = idlest.map(|(id, _)| *id) {
                self.callers.remove(&id);
                transport.close(id);
            }
        }
        self.callers.insert(connection, Caller { called_at: now, in_progress });
    }

    /// Takes a request; `None`: it is dropped.
    pub(super) fn on_request(
        &mut self,
        turn: (Instant, KeyHolder<'_>, &mut LinkTotals),
        (connection, correlation): (ConnectionId, [u8; CORRELATION_BYTES]),
        request: SharedFrame,
        allocated_bytes: usize,
    ) -> Option<IncomingCall> {
        let (now, holder, totals) = turn;
        totals.received += 1;
        let node = match holder {
            KeyHolder::Unproven => None,
            KeyHolder::Node(node) => Some(node.clone()),
            // Its connection ends.
            KeyHolder::Removed => {
                totals.dropped += 1;
                return None;
            }
        };
        let all = (&self.in_progress, Share::ALL);
        let permit = if let Some(caller) = self.callers.get_mut(&connection) {
            caller.called_at = now;
            let one = (&caller.in_progress, Share::OF_ONE_CONNECTION);
            Permit::take([all, one], allocated_bytes)
        } else {
            self.visitors.get(&connection).and_then(|in_progress| {
                let visitors = (&self.in_progress_of_visitors, Share::OF_VISITORS);
                let one = (in_progress, Share::OF_ONE_CONNECTION);
                Permit::take([all, visitors, one], allocated_bytes)
            })
        };
        let Some(permit) = permit.filter(|_| self.is_serving) else {
            totals.dropped += 1;
            return None;
        };
        let caller = CallerId { connection, correlation, _permit: permit };
        Some(IncomingCall { caller, request: request.into_vec(), node })
    }

    /// Sends an answer; one whose caller is gone comes back with the news of that.
    pub(super) fn answer(
        &mut self,
        now: Instant,
        caller: CallerId,
        answer: Vec<u8>,
        transport: &mut Transport<CallTag>,
    ) {
        let CallerId { connection, correlation, _permit: permit } = caller;
        drop(permit);
        self.promote(connection, now, transport);
        transport.send(connection, Some(CallTag::Answer), |writer| {
            let Ok(()) = writer.put(Part::Bytes(&correlation), Position::More);
            let Ok(()) = writer.put(Part::Frame(answer.into()), Position::Last);
        });
    }

    /// A connection is gone, with answers of which nothing was sent.
    pub(super) fn on_lost(
        &mut self,
        totals: &mut LinkTotals,
        (id, address): (ConnectionId, Option<PeerAddress>),
        why: &Loss,
        unsent: usize,
    ) {
        let was_caller = self.forget(id);
        totals.lost_answers = totals.lost_answers.saturating_add(unsent as u64);
        let Some(address) = address else { return };
        match why {
            Loss::Ended(ending) if is_silence(ending) && was_caller => {
                tracing::info!(%address, reason = %why, "a connection of another node ended");
            }
            Loss::Ended(ending) if is_silence(ending) => {
                tracing::debug!(%address, reason = %why, "a connection without a call ended");
            }
            Loss::Closed | Loss::Crowded | Loss::Kicked | Loss::Revoked => {
                tracing::debug!(%address, reason = %why, "a connection of another node ended");
            }
            Loss::Ended(_) | Loss::Overflow | Loss::Stalled | Loss::Greedy => {
                totals.malformed += u64::from(matches!(why, Loss::Ended(_)));
                if self.complaints.is_new(address, why.label()) {
                    tracing::warn!(%address, reason = %why, "a connection of another node is closed");
                }
            }
        }
    }

    /// A connection ended before the other side had introduced itself.
    pub(super) fn on_refused(
        &mut self,
        totals: &mut LinkTotals,
        (id, address): (ConnectionId, PeerAddress),
        why: &Loss,
    ) {
        self.forget(id);
        match why {
            // Looks whether the port is open.
            Loss::Closed | Loss::Crowded | Loss::Ended(Ending::HandshakeTimeout) => {
                tracing::debug!(%address, reason = %why, "nothing was said");
            }
            Loss::Ended(_)
            | Loss::Overflow
            | Loss::Stalled
            | Loss::Greedy
            | Loss::Kicked
            | Loss::Revoked => {
                totals.malformed += 1;
                if self.complaints.is_new(address, why.label()) {
                    tracing::warn!(%address, reason = %why, "this is no node: its connection is closed");
                }
            }
        }
    }

    /// Returns whether it had brought a call that was answered.
    fn forget(&mut self, id: ConnectionId) -> bool {
        self.visitors.remove(&id);
        self.callers.remove(&id).is_some()
    }
}

/// Whether a connection ended because nothing was heard of the other side.
pub(super) const fn is_silence(ending: &Ending) -> bool {
    matches!(ending, Ending::PongTimeout | Ending::TtlExpired | Ending::HandshakeTimeout)
}
