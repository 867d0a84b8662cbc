//! The calls of other nodes, and the connections that they come by.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use mdp_transport::{ConnectionId, Ending, Loss, PeerAddress, SharedFrame, Transport};
use mdp_wire::{FrameSink as _, Part, Position};

use super::{
    CALLERS_MAX, CORRELATION_BYTES, CallTag, INCOMING_CALLS_BYTES_MAX, INCOMING_CALLS_MAX,
    LinkTotals,
};

/// How many complaints are remembered, so that each is logged once; of more, the oldest are forgotten.
const COMPLAINTS_MAX: usize = 64;

/// A call of another node.
#[derive(Debug)]
pub struct IncomingCall {
    /// Where its answer goes.
    pub caller: CallerId,
    /// What is asked.
    pub request: Vec<u8>,
}

/// Where the answer to a call of another node goes. The call is in progress until this is dropped or
/// answered.
#[derive(Debug)]
pub struct CallerId {
    connection: ConnectionId,
    correlation: [u8; CORRELATION_BYTES],
    _permit: Permit,
}

/// What all calls of others take that are in progress.
#[derive(Debug, Default)]
struct InProgress {
    calls: AtomicUsize,
    bytes: AtomicUsize,
}

/// One call's part of it.
#[derive(Debug)]
struct Permit {
    of: Arc<InProgress>,
    bytes: usize,
}

impl Permit {
    /// Takes a part, if there is room. One call has room whatever its size.
    fn take(of: &Arc<InProgress>, bytes: usize) -> Option<Self> {
        // Only one thread takes permits; those that give them back can only make room meanwhile.
        let (calls, taken) = (of.calls.load(Ordering::Acquire), of.bytes.load(Ordering::Acquire));
        let has_room =
            calls < INCOMING_CALLS_MAX && taken.saturating_add(bytes) <= INCOMING_CALLS_BYTES_MAX;
        (calls == 0 || has_room).then(|| {
            of.calls.fetch_add(1, Ordering::AcqRel);
            of.bytes.fetch_add(bytes, Ordering::AcqRel);
            Self { of: Arc::clone(of), bytes }
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.of.calls.fetch_sub(1, Ordering::AcqRel);
        self.of.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// The connections that other nodes made.
#[derive(Debug)]
pub(super) struct Incoming {
    /// Those that brought no call yet that was answered: any program can be behind them.
    visitors: BTreeSet<ConnectionId>,
    visitors_max: usize,
    /// The others.
    callers: BTreeSet<ConnectionId>,
    in_progress: Arc<InProgress>,
    is_serving: bool,
    complaints: VecDeque<(String, &'static str)>,
}

impl Incoming {
    pub(super) fn new(visitors_max: usize) -> Self {
        Self {
            visitors: BTreeSet::new(),
            visitors_max,
            callers: BTreeSet::new(),
            in_progress: Arc::default(),
            is_serving: false,
            complaints: VecDeque::new(),
        }
    }

    pub(super) const fn begin_serving(&mut self) {
        self.is_serving = true;
    }

    /// Another program connected. Of too many that brought no call, the oldest one has to go.
    pub(super) fn accepted(
        &mut self,
        now: Instant,
        address: PeerAddress,
        transport: &mut Transport<CallTag>,
    ) -> Option<ConnectionId> {
        if self.visitors.len() >= self.visitors_max
            && let Some(oldest) = self.visitors.pop_first()
        {
            transport.close(oldest);
        }
        let id = transport.accepted(now, address)?;
        self.visitors.insert(id);
        Some(id)
    }

    /// Takes a request; `None`: it is dropped.
    pub(super) fn on_request(
        &self,
        totals: &mut LinkTotals,
        (connection, correlation): (ConnectionId, [u8; CORRELATION_BYTES]),
        request: SharedFrame,
        allocated_bytes: usize,
    ) -> Option<IncomingCall> {
        totals.received += 1;
        let permit = Permit::take(&self.in_progress, allocated_bytes);
        let Some(permit) = permit.filter(|_| self.is_serving) else {
            totals.dropped += 1;
            return None;
        };
        let caller = CallerId { connection, correlation, _permit: permit };
        Some(IncomingCall { caller, request: request.into_vec() })
    }

    /// Sends an answer; one whose caller is gone comes back with the news of that.
    pub(super) fn answer(
        &mut self,
        caller: CallerId,
        answer: Vec<u8>,
        transport: &mut Transport<CallTag>,
    ) {
        let CallerId { connection, correlation, _permit: permit } = caller;
        drop(permit);
        if self.callers.len() < CALLERS_MAX && self.visitors.remove(&connection) {
            self.callers.insert(connection);
        }
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
        self.forget(id);
        totals.lost_answers = totals.lost_answers.saturating_add(unsent as u64);
        let Some(address) = address else { return };
        match why {
            Loss::Closed | Loss::Crowded | Loss::Kicked => {
                tracing::debug!(%address, reason = %why, "a connection of another node ended");
            }
            Loss::Ended(ending) if is_silence(ending) => {
                tracing::info!(%address, reason = %why, "a connection of another node ended");
            }
            Loss::Ended(_) | Loss::Overflow | Loss::Stalled | Loss::Greedy => {
                totals.malformed += u64::from(matches!(why, Loss::Ended(_)));
                if self.is_new_complaint(host(address), why.label()) {
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
            Loss::Closed | Loss::Crowded => tracing::debug!(%address, "nothing was said"),
            Loss::Ended(_) | Loss::Overflow | Loss::Stalled | Loss::Greedy | Loss::Kicked => {
                totals.malformed += 1;
                if self.is_new_complaint(host(address), why.label()) {
                    tracing::warn!(%address, reason = %why, "this is no node: its connection is closed");
                }
            }
        }
    }

    fn forget(&mut self, id: ConnectionId) {
        self.visitors.remove(&id);
        self.callers.remove(&id);
    }

    fn is_new_complaint(&mut self, who: String, what: &'static str) -> bool {
        if self.complaints.iter().any(|(other, label)| *other == who && *label == what) {
            return false;
        }
        self.complaints.push_back((who, what));
        if self.complaints.len() > COMPLAINTS_MAX {
            self.complaints.pop_front();
        }
        true
    }
}

/// Whether a connection ended because nothing was heard of the other side.
pub(super) const fn is_silence(ending: &Ending) -> bool {
    matches!(ending, Ending::PongTimeout | Ending::TtlExpired | Ending::HandshakeTimeout)
}

/// The machine, whatever port it uses.
fn host(address: PeerAddress) -> String {
    address.ip().map_or_else(|| address.to_string(), |ip| ip.to_string())
}
