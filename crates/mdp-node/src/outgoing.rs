//! Messages for peers that cannot take them now: back-pressure is not loss.
//!
//! libzmq keeps a few messages for each peer and then says that the peer is full. From there on
//! everything for the peer waits here, in order and bounded in bytes, and is tried again on a
//! timer. A peer that goes beyond the bounds, or takes nothing for long, is given up as lost.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    convert::Infallible,
    time::{Duration, Instant},
};

use mdp_broker::{Outgoing, PeerId};
use mdp_wire::{FrameSink, Part, Position, Token, worker::FromBroker};

use crate::{
    SocketError,
    router::{Door, Router, SendOutcome, encode},
    zeromq::Frame,
};

/// When a full peer is tried for the first time; the wait doubles while it stays full.
const RETRY_AFTER_MIN: Duration = Duration::from_micros(250);
/// The longest wait between two tries.
const RETRY_AFTER_MAX: Duration = Duration::from_millis(20);
/// A peer that took nothing for so long is given up.
pub(crate) const PEER_STALLED_AFTER: Duration = Duration::from_secs(10);
/// The most that one wait between two tries counts: a longer one means that this process stood
/// still, which is not the peer's fault.
const STALL_STEP_MAX: Duration = Duration::from_millis(200);
/// How many peers are tried in one turn of the broker thread.
const RETRY_PEERS_MAX: usize = 64;
/// How many messages one peer is given before the next peer's turn.
const RETRY_MESSAGES_MAX: usize = 256;
/// Messages up to this size are kept as bytes in one piece, larger ones as they are.
const PACKED_BYTES_MAX: usize = 1_024;
/// What the allocator adds to each piece of memory, about.
const ALLOCATION_OVERHEAD_BYTES: usize = 16;

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutgoingLimits {
    /// For one peer, in bytes with overhead. One message may always wait, whatever its size.
    pub(crate) peer_bytes_max: usize,
    /// For all peers together, in bytes with overhead.
    pub(crate) bytes_max: usize,
}

/// What waits, and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutgoingTotals {
    /// Messages that wait now.
    pub messages: usize,
    /// Their bytes with overhead.
    pub bytes: usize,
    /// Peers given up because too much waited for them.
    pub overflowed_peers: u64,
    /// Peers given up because they took nothing for long.
    pub stalled_peers: u64,
    /// Messages dropped because their peer was given up or went away.
    pub dropped_messages: u64,
}

/// A peer that messages waited for in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LostPeer {
    /// Who.
    pub(crate) peer: PeerId,
    /// Why.
    pub(crate) reason: LossReason,
    /// The request that was not handed over.
    pub(crate) unsent: Option<Token>,
}

/// Why a peer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LossReason {
    /// Its connection is gone.
    Gone,
    /// Too much waited for it.
    Overflow,
    /// It took nothing for long.
    Stalled,
}

/// The messages that wait, by peer.
#[derive(Debug)]
pub(crate) struct OutgoingBuffers {
    limits: OutgoingLimits,
    buffer_by_peer: BTreeMap<PeerId, Buffer>,
    /// Every buffer once, by the time of its next try.
    schedule: BTreeSet<(Instant, PeerId)>,
    lost: VecDeque<LostPeer>,
    totals: OutgoingTotals,
    /// Memory for packing, used again and again.
    packing: Vec<u8>,
}

impl OutgoingBuffers {
    pub(crate) const fn new(limits: OutgoingLimits) -> Self {
        Self {
            limits,
            buffer_by_peer: BTreeMap::new(),
            schedule: BTreeSet::new(),
            lost: VecDeque::new(),
            totals: OutgoingTotals {
                messages: 0,
                bytes: 0,
                overflowed_peers: 0,
                stalled_peers: 0,
                dropped_messages: 0,
            },
            packing: Vec::new(),
        }
    }

    /// Whether messages wait for the peer, so that the next one must wait behind them.
    pub(crate) fn holds(&self, peer: &PeerId) -> bool {
        !self.buffer_by_peer.is_empty() && self.buffer_by_peer.contains_key(peer)
    }

    /// Whether nothing waits for anybody.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer_by_peer.is_empty()
    }

    /// What waits, and what became of it.
    pub(crate) const fn totals(&self) -> OutgoingTotals {
        self.totals
    }

    /// When [`OutgoingBuffers::retry`] has something to do.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        self.schedule.first().map(|(at, _)| *at)
    }

    /// The next peer that was given up.
    pub(crate) fn poll_lost(&mut self) -> Option<LostPeer> {
        self.lost.pop_front()
    }

    /// Keeps a message until the peer can take it.
    pub(crate) fn keep(&mut self, now: Instant, peer: &PeerId, message: Outgoing<Frame>) {
        let unsent = request_token(&message);
        let is_new = !self.buffer_by_peer.contains_key(peer);
        // Unread messages prove as much as a heartbeat would, and heartbeats would pile up.
        if !is_new && is_heartbeat(&message) {
            return;
        }
        let kept = Kept::new(message, &mut self.packing);
        let bytes = kept.bytes();
        let buffer = self.buffer_by_peer.entry(peer.clone()).or_insert_with(|| Buffer::new(now));
        if is_new {
            self.schedule.insert((buffer.retry_at, peer.clone()));
        }
        buffer.push(kept, unsent);
        let is_over = buffer.queue.len() > 1 && buffer.bytes > self.limits.peer_bytes_max;
        self.totals.messages += 1;
        self.totals.bytes += bytes;
        if is_over {
            self.give_up(&peer.clone(), LossReason::Overflow);
        }
        while self.totals.bytes > self.limits.bytes_max && self.give_up_greediest() {}
    }

    /// Notes that a peer for which nothing waited is gone.
    pub(crate) fn lose(&mut self, peer: &PeerId, unsent: Option<Token>) {
        let lost = LostPeer { peer: peer.clone(), reason: LossReason::Gone, unsent };
        self.lost.push_back(lost);
    }

    /// Tries the peers that are due, those that wait longest first.
    pub(crate) fn retry(&mut self, now: Instant, router: &mut Router) -> Result<(), SocketError> {
        for _ in 0..RETRY_PEERS_MAX {
            match self.schedule.first() {
                Some((at, _)) if *at <= now => {}
                Some(_) | None => break,
            }
            let Some((_, peer)) = self.schedule.pop_first() else { break };
            self.retry_peer(now, peer, router)?;
        }
        Ok(())
    }

    fn retry_peer(
        &mut self,
        now: Instant,
        peer: PeerId,
        router: &mut Router,
    ) -> Result<(), SocketError> {
        let Some(buffer) = self.buffer_by_peer.get_mut(&peer) else { return Ok(()) };
        let (messages, bytes) = (buffer.queue.len(), buffer.bytes);
        let door = buffer.drain_into(&peer, router)?;
        let is_stalled = buffer.reschedule(now, buffer.queue.len() < messages);
        self.totals.messages -= messages - buffer.queue.len();
        self.totals.bytes -= bytes - buffer.bytes;
        match door {
            Door::Gone => self.give_up(&peer, LossReason::Gone),
            Door::Full if is_stalled => self.give_up(&peer, LossReason::Stalled),
            Door::Open if buffer.queue.is_empty() => {
                self.buffer_by_peer.remove(&peer);
            }
            Door::Full | Door::Open => {
                self.schedule.insert((buffer.retry_at, peer));
            }
        }
        Ok(())
    }

    fn give_up(&mut self, peer: &PeerId, reason: LossReason) {
        let Some(buffer) = self.buffer_by_peer.remove(peer) else { return };
        self.schedule.remove(&(buffer.retry_at, peer.clone()));
        self.totals.messages -= buffer.queue.len();
        self.totals.bytes -= buffer.bytes;
        self.totals.dropped_messages += u64::try_from(buffer.queue.len()).unwrap_or(u64::MAX);
        match reason {
            LossReason::Gone => {}
            LossReason::Overflow => self.totals.overflowed_peers += 1,
            LossReason::Stalled => self.totals.stalled_peers += 1,
        }
        let unsent = buffer.request.map(|(_, token)| token);
        self.lost.push_back(LostPeer { peer: peer.clone(), reason, unsent });
    }

    /// Gives up the peer that most waits for; false if nothing waits. It looks at every buffer,
    /// but each time frees at least its share of the whole.
    fn give_up_greediest(&mut self) -> bool {
        let greediest = self.buffer_by_peer.iter().max_by_key(|(_, buffer)| buffer.bytes);
        let Some(peer) = greediest.map(|(peer, _)| peer.clone()) else { return false };
        self.give_up(&peer, LossReason::Overflow);
        true
    }
}

/// What waits for one peer.
#[derive(Debug)]
struct Buffer {
    queue: VecDeque<Kept>,
    bytes: usize,
    /// The number of the first message in the queue; they are counted from zero.
    first: u64,
    /// The number and the token of the request that waits. A worker has at most one.
    request: Option<(u64, Token)>,
    retry_at: Instant,
    retry_after: Duration,
    tried_at: Instant,
    stalled: Duration,
}

impl Buffer {
    fn new(now: Instant) -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            first: 0,
            request: None,
            retry_at: now + RETRY_AFTER_MIN,
            retry_after: RETRY_AFTER_MIN,
            tried_at: now,
            stalled: Duration::ZERO,
        }
    }

    fn push(&mut self, kept: Kept, unsent: Option<Token>) {
        if let Some(token) = unsent {
            let waiting = u64::try_from(self.queue.len()).unwrap_or(u64::MAX);
            self.request = Some((self.first.saturating_add(waiting), token));
        }
        self.bytes += kept.bytes();
        self.queue.push_back(kept);
    }

    /// Sends what the peer takes, at most [`RETRY_MESSAGES_MAX`]; the last answer is the result.
    fn drain_into(&mut self, peer: &PeerId, router: &mut Router) -> Result<Door, SocketError> {
        for _ in 0..RETRY_MESSAGES_MAX {
            let Some(kept) = self.queue.pop_front() else { break };
            let bytes = kept.bytes();
            let (door, back) = kept.send(peer, router)?;
            if let Some(kept) = back {
                self.queue.push_front(kept);
                return Ok(door);
            }
            self.bytes -= bytes;
            self.request = self.request.filter(|(number, _)| *number != self.first);
            self.first = self.first.saturating_add(1);
        }
        Ok(Door::Open)
    }

    /// Sets the time of the next try; true if the peer has taken nothing for too long.
    fn reschedule(&mut self, now: Instant, took_some: bool) -> bool {
        if took_some {
            self.stalled = Duration::ZERO;
            self.retry_after = RETRY_AFTER_MIN;
        } else {
            let waited = now.saturating_duration_since(self.tried_at);
            self.stalled += waited.min(STALL_STEP_MAX);
            self.retry_after = (self.retry_after * 2).min(RETRY_AFTER_MAX);
        }
        self.tried_at = now;
        self.retry_at = now + self.retry_after;
        self.stalled >= PEER_STALLED_AFTER
    }
}

/// One message that waits.
#[derive(Debug)]
enum Kept {
    /// Its frames in one piece: each a length of four bytes, then its bytes.
    Packed(Box<[u8]>),
    /// As it came.
    Whole(Box<Whole>),
}

#[derive(Debug)]
struct Whole {
    payload_bytes: usize,
    message: Outgoing<Frame>,
}

impl Kept {
    fn new(message: Outgoing<Frame>, packing: &mut Vec<u8>) -> Self {
        let payload_bytes = payload_bytes(&message);
        if payload_bytes > PACKED_BYTES_MAX {
            return Self::Whole(Box::new(Whole { payload_bytes, message }));
        }
        packing.clear();
        match encode(message, &mut Packer(packing)) {
            Ok(()) => Self::Packed(Box::from(packing.as_slice())),
        }
    }

    fn bytes(&self) -> usize {
        let owned = match self {
            Self::Packed(packed) => packed.len(),
            Self::Whole(whole) => whole.payload_bytes + size_of::<Whole>(),
        };
        owned + size_of::<Self>() + ALLOCATION_OVERHEAD_BYTES
    }

    /// Sends the message, or gives it back with the reason.
    fn send(self, peer: &PeerId, router: &mut Router) -> Result<(Door, Option<Self>), SocketError> {
        match self {
            Self::Packed(packed) => {
                let door = router.open(peer)?;
                if door != Door::Open {
                    return Ok((door, Some(Self::Packed(packed))));
                }
                unpack(&packed, router)?;
                Ok((Door::Open, None))
            }
            Self::Whole(mut whole) => {
                let (door, message) = match router.send(peer, whole.message)? {
                    SendOutcome::Sent => return Ok((Door::Open, None)),
                    SendOutcome::Full(message) => (Door::Full, message),
                    SendOutcome::Gone(message) => (Door::Gone, message),
                };
                whole.message = message;
                Ok((door, Some(Self::Whole(whole))))
            }
        }
    }
}

/// Writes a message in one piece.
struct Packer<'a>(&'a mut Vec<u8>);

impl FrameSink<Frame> for Packer<'_> {
    type Error = Infallible;

    fn put(&mut self, part: Part<'_, Frame>, _position: Position) -> Result<(), Infallible> {
        let bytes = part.as_ref();
        // A packed message is far smaller than what four bytes can count.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Sends the frames of a message in one piece.
fn unpack(mut packed: &[u8], router: &mut Router) -> Result<(), SocketError> {
    while let Some((length, rest)) = packed.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let Some((frame, rest)) = rest.split_at_checked(length) else { break };
        let position = if rest.is_empty() { Position::Last } else { Position::More };
        router.put(frame, position)?;
        packed = rest;
    }
    Ok(())
}

/// The frames that pass through, each with what it costs to keep as it came.
fn payload_bytes(message: &Outgoing<Frame>) -> usize {
    let sum = |frames: &[Frame]| {
        frames.iter().map(|frame| frame.len() + size_of::<Frame>()).sum::<usize>()
    };
    match message {
        Outgoing::Client(reply) => sum(&reply.envelope) + sum(&reply.body),
        Outgoing::Worker { message, .. } => match message {
            FromBroker::Request { body, .. } => sum(body),
            FromBroker::Heartbeat | FromBroker::Disconnect => 0,
        },
    }
}

/// The token of a request for a worker.
pub(crate) const fn request_token(message: &Outgoing<Frame>) -> Option<Token> {
    match message {
        Outgoing::Worker { message: FromBroker::Request { client, .. }, .. } => Some(*client),
        Outgoing::Client(_)
        | Outgoing::Worker { message: FromBroker::Heartbeat | FromBroker::Disconnect, .. } => None,
    }
}

const fn is_heartbeat(message: &Outgoing<Frame>) -> bool {
    matches!(message, Outgoing::Worker { message: FromBroker::Heartbeat, .. })
}

#[cfg(test)]
mod tests;
