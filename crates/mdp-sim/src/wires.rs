//! Connections: bytes in order, and the end of the connection.
//!
//! As with TCP, what is sent over a way that is cut waits, and arrives when the way is mended, unless
//! the connection was given up meanwhile. Bytes that are not read fill a window, and then no more are
//! taken.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crate::{Rng, network::Network, queue::Queue};

/// How long a caller waits until its connection is taken.
const ACCEPT_TIME_MAX: Duration = Duration::from_secs(3);
/// How long a way may be cut before both ends take the connection for lost: the time that TCP may go
/// unanswered.
const CUT_MAX: Duration = Duration::from_secs(10);

/// Names a connection; never reused in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WireId(pub(crate) u64);

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Who opened it.
    Caller,
    /// Who was called.
    Callee,
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }

    const fn at(self) -> usize {
        match self {
            Self::Caller => 0,
            Self::Callee => 1,
        }
    }
}

/// Whom a connection is between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireKind {
    /// A client or worker, and a node.
    Front,
    /// Two nodes, for requests.
    Relay,
    /// Two nodes, for calls.
    Cluster,
}

/// What arrives at an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The connection: only at the callee.
    Opened,
    /// The callee took the connection: only at the caller.
    Accepted,
    /// Some of the bytes that were written, wherever messages begin in them.
    Bytes(Vec<u8>),
    /// More can be written than a moment ago.
    Writable,
    /// The end of the connection; nothing follows.
    Closed,
}

/// Something arrived.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) wire: WireId,
    pub(crate) kind: WireKind,
    pub(crate) site: usize,
    pub(crate) side: Side,
    pub(crate) arrival: Arrival,
}

#[derive(Debug)]
struct Wire {
    kind: WireKind,
    /// Of the caller and the callee.
    sites: [usize; 2],
    /// To the caller, and to the callee.
    lanes: [Lane; 2],
    /// Whether the ends still are there.
    is_open: [bool; 2],
    /// When the caller gives up, unless the callee has taken it.
    accepted_until: Option<Instant>,
}

#[derive(Debug)]
struct Lane {
    waiting: VecDeque<Arrival>,
    /// For how many of those there is an event.
    scheduled: usize,
    last_at: Instant,
    cut_since: Option<Instant>,
    /// What comes now comes from the end's own machine.
    is_local: bool,
    /// Whether the writer has said that nothing follows.
    is_finished: bool,
    /// How many bytes were written and are not read yet.
    unread_bytes: usize,
    /// Whether the writer wants to know when it can write again.
    is_writer_waiting: bool,
}

/// How bytes travel.
#[derive(Debug)]
pub(crate) struct ByteWays {
    /// How many bytes may be written one way before they are read.
    pub(crate) window_bytes: usize,
    /// Cuts what is written at once into pieces, at any places; `None`: it stays in one piece.
    pub(crate) cuts: Option<Rng>,
}

/// How bytes travel over each kind of connection.
#[derive(Debug)]
pub(crate) struct Ways {
    pub(crate) front: ByteWays,
    pub(crate) relay: ByteWays,
    pub(crate) cluster: ByteWays,
}

impl Ways {
    const fn of(&mut self, kind: WireKind) -> &mut ByteWays {
        match kind {
            WireKind::Front => &mut self.front,
            WireKind::Relay => &mut self.relay,
            WireKind::Cluster => &mut self.cluster,
        }
    }
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Wires {
    network: Network,
    ways: Ways,
    wires: BTreeMap<WireId, Wire>,
    due: Queue<(WireId, Side)>,
    last: u64,
}

impl Wires {
    pub(crate) const fn new(network: Network, ways: Ways) -> Self {
        Self { network, ways, wires: BTreeMap::new(), due: Queue::new(), last: 0 }
    }

    /// Opens a connection. The callee is told, or the caller that there is nobody.
    pub(crate) fn open(&mut self, now: Instant, kind: WireKind, from: usize, to: usize) -> WireId {
        self.last += 1;
        let id = WireId(self.last);
        let wire = Wire {
            kind,
            sites: [from, to],
            lanes: [Lane::new(now), Lane::new(now)],
            is_open: [true; 2],
            accepted_until: Some(now + ACCEPT_TIME_MAX),
        };
        self.wires.insert(id, wire);
        self.put(now, id, Side::Callee, Arrival::Opened);
        id
    }

    /// Two nodes have agreed on the version of what they send over a connection.
    pub(crate) fn count_link(&self, version: u16) {
        self.network.count_link(version);
    }

    /// The callee takes the connection.
    pub(crate) fn accept(&mut self, now: Instant, id: WireId) {
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.accepted_until = None;
            self.put(now, id, Side::Caller, Arrival::Accepted);
        }
    }

    /// Writes bytes from this end, as many as fit; `None`: the connection is lost. If not all fit, the
    /// writer is told when more do. What is written to an end that was closed is gone.
    pub(crate) fn write(
        &mut self,
        now: Instant,
        id: WireId,
        from: Side,
        bytes: &[u8],
    ) -> Option<usize> {
        let wire = self.wires.get_mut(&id).filter(|wire| wire.is_open[from.at()])?;
        let to = from.other();
        let lane = &mut wire.lanes[to.at()];
        if lane.is_finished {
            return None;
        }
        if !wire.is_open[to.at()] || lane.is_local {
            return Some(bytes.len());
        }
        let kind = wire.kind;
        let room = self.ways.of(kind).window_bytes.saturating_sub(lane.unread_bytes);
        let (taken, rest) = bytes.split_at(bytes.len().min(room));
        lane.is_writer_waiting |= !rest.is_empty();
        lane.unread_bytes += taken.len();
        let mut left = taken;
        while !left.is_empty() {
            let (piece, others) = left.split_at(self.ways.of(kind).next_piece(left.len()));
            self.put(now, id, to, Arrival::Bytes(piece.to_vec()));
            left = others;
        }
        Some(taken.len())
    }

    /// This end has read so many bytes: there is room for others.
    pub(crate) fn read(&mut self, now: Instant, id: WireId, side: Side, count: usize) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        let lane = &mut wire.lanes[side.at()];
        lane.unread_bytes = lane.unread_bytes.saturating_sub(count);
        if lane.is_writer_waiting && lane.unread_bytes <= self.ways.of(wire.kind).window_bytes / 2 {
            lane.is_writer_waiting = false;
            self.put(now, id, side.other(), Arrival::Writable);
        }
    }

    /// Where the connection was made from.
    pub(crate) fn caller(&self, id: WireId) -> Option<usize> {
        self.wires.get(&id).map(|wire| wire.sites[Side::Caller.at()])
    }

    /// Says that nothing follows from this end, which still reads what the other one sends until that closes,
    /// too.
    pub(crate) fn finish(&mut self, now: Instant, id: WireId, side: Side) {
        if self.wires.get(&id).is_some_and(|wire| wire.is_open[side.at()]) {
            self.finish_lane(now, id, side.other());
        }
    }

    fn finish_lane(&mut self, now: Instant, id: WireId, to: Side) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        if !std::mem::replace(&mut wire.lanes[to.at()].is_finished, true) {
            self.put(now, id, to, Arrival::Closed);
        }
    }

    /// Closes this end; the other is told behind what was sent.
    pub(crate) fn close(&mut self, now: Instant, id: WireId, side: Side) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        if std::mem::replace(&mut wire.is_open[side.at()], false) {
            let lane = &mut wire.lanes[side.at()];
            lane.waiting.clear();
            if lane.unread_bytes > 0 {
                // As TCP does: with something unread, what was written and has not arrived is taken back.
                let other = &mut wire.lanes[side.other().at()];
                other.waiting.retain(|arrival| *arrival == Arrival::Closed);
            }
            self.finish_lane(now, id, side.other());
        }
        self.forget_if_over(id);
    }

    /// The process at this site is gone: so are its ends.
    pub(crate) fn close_all_at(&mut self, now: Instant, site: usize) {
        for (id, side) in self.ends_at(site) {
            self.close(now, id, side);
        }
    }

    /// Both ends find the connection lost, with all that was on its way.
    pub(crate) fn break_off(&mut self, now: Instant, id: WireId) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        for side in [Side::Caller, Side::Callee] {
            let lane = &mut wire.lanes[side.at()];
            lane.waiting.clear();
            if wire.is_open[side.at()] {
                lane.waiting.push_back(Arrival::Closed);
                lane.is_local = true;
                lane.scheduled += 1;
                self.due.push(now, (id, side));
            }
        }
        self.forget_if_over(id);
    }

    /// The connections that this site has an end of.
    pub(crate) fn ends_at(&self, site: usize) -> Vec<(WireId, Side)> {
        let ends = self
            .wires
            .iter()
            .flat_map(|(id, wire)| [Side::Caller, Side::Callee].map(|side| (*id, side, wire)));
        let here =
            ends.filter(|(_, side, wire)| wire.sites[side.at()] == site && wire.is_open[side.at()]);
        here.map(|(id, side, _)| (id, side)).collect()
    }

    pub(crate) fn ids(&self) -> Vec<WireId> {
        self.wires.keys().copied().collect()
    }

    fn put(&mut self, now: Instant, id: WireId, to: Side, arrival: Arrival) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        if !wire.is_open[to.at()] {
            return;
        }
        let lane = &mut wire.lanes[to.at()];
        if lane.is_local {
            return;
        }
        lane.waiting.push_back(arrival);
        lane.scheduled += 1;
        lane.last_at = lane.last_at.max(now + self.network.latency());
        self.due.push(lane.last_at, (id, to));
    }

    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.due.next_at()
    }

    /// The next thing that arrives, if it is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Delivery> {
        while let Some((id, side)) = self.due.pop_due(now) {
            let Some(wire) = self.wires.get_mut(&id) else { continue };
            let from = wire.sites[side.other().at()];
            let (kind, site) = (wire.kind, wire.sites[side.at()]);
            let lane = &mut wire.lanes[side.at()];
            lane.scheduled = lane.scheduled.saturating_sub(1);
            if !lane.is_local && self.network.is_cut(from, site) {
                continue;
            }
            let Some(arrival) = lane.waiting.pop_front() else { continue };
            // An end that has only finished still reads: this one stays open until its process closes it.
            if arrival == Arrival::Closed && (lane.is_local || !wire.is_open[side.other().at()]) {
                wire.is_open[side.at()] = false;
                self.forget_if_over(id);
            }
            return Some(Delivery { wire: id, kind, site, side, arrival });
        }
        None
    }

    /// Lets go on what can, and gives up what has been cut for too long. To be called often.
    pub(crate) fn tend(&mut self, now: Instant) {
        let mut lost = Vec::new();
        for (id, wire) in &mut self.wires {
            if wire.accepted_until.is_some_and(|until| now >= until) {
                lost.push(*id);
            }
            for side in [Side::Caller, Side::Callee] {
                let (from, to) = (wire.sites[side.other().at()], wire.sites[side.at()]);
                let is_cut = self.network.is_cut(from, to);
                let lane = &mut wire.lanes[side.at()];
                if lane.cut_for(now, is_cut) > CUT_MAX {
                    lost.push(*id);
                }
                while !is_cut && lane.scheduled < lane.waiting.len() {
                    lane.scheduled += 1;
                    lane.last_at = lane.last_at.max(now + self.network.latency());
                    self.due.push(lane.last_at, (*id, side));
                }
            }
        }
        for id in lost {
            self.break_off(now, id);
        }
    }

    fn forget_if_over(&mut self, id: WireId) {
        if self.wires.get(&id).is_some_and(|wire| wire.is_open == [false; 2]) {
            self.wires.remove(&id);
        }
    }
}

impl Lane {
    const fn new(now: Instant) -> Self {
        Self {
            waiting: VecDeque::new(),
            scheduled: 0,
            last_at: now,
            cut_since: None,
            is_local: false,
            is_finished: false,
            unread_bytes: 0,
            is_writer_waiting: false,
        }
    }

    /// For how long nothing has come through.
    fn cut_for(&mut self, now: Instant, is_cut: bool) -> Duration {
        if !is_cut {
            self.cut_since = None;
        }
        let since = if is_cut { *self.cut_since.get_or_insert(now) } else { now };
        now.saturating_duration_since(since)
    }
}

impl ByteWays {
    /// How long the first piece is of so many bytes.
    fn next_piece(&mut self, bytes: usize) -> usize {
        self.cuts.as_mut().map_or(bytes, |rng| 1 + rng.below(bytes))
    }
}

#[cfg(test)]
mod tests;
