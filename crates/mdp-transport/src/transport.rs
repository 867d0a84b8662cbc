//! [`Transport`]: all connections of one port, and what they may take together.

mod address;
mod clock;
mod event;
mod outgoing;
mod security;
mod strangers;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use mdp_mutants::{Mutant, is_on};

use self::{
    clock::AwakeClock,
    security::{Admission, Security},
    strangers::Strangers,
    table::Table,
};
use crate::{
    BufferPool, Connection, Event, Flow, Introduction, LocalSocket, Message, OutputSlices,
    PeerIntroduction, Side, SocketType, connection::MechanismChoice,
};
pub use address::{LocalPeer, LocalProcess, PeerAddress};
pub use event::{
    ConnectionStatus, Loss, Traffic, TransportEvent, TransportLimits, TransportTotals,
};
pub use security::{IdentityToken, Mechanisms};
pub use table::ConnectionId;

/// When a connection is looked at again whose time would be over, but that has something unread.
const UNREAD_LOOKED_AT_AFTER: Duration = Duration::from_millis(100);

/// All connections of a port: those that peers made to it, and those that it made to peers. `T` names
/// messages that leave.
///
/// 1. [`accepted`](Self::accepted) for each new connection of a peer, [`dialled`](Self::dialled) for each
///    that this side begins to make.
/// 2. [`received`](Self::received) with what was read; [`closed`](Self::closed) when there is no more.
/// 3. [`send`](Self::send) for what leaves.
/// 4. [`poll_writable`](Self::poll_writable) names the connections with something to write:
///    [`output`](Self::output), [`transmitted`](Self::transmitted), and [`blocked`](Self::blocked) if
///    the kernel takes no more.
/// 5. [`poll_event`](Self::poll_event), and [`poll_closing`](Self::poll_closing): what the shell closes.
/// 6. [`handle_timeout`](Self::handle_timeout) at [`poll_timeout`](Self::poll_timeout), and at least
///    once a second: a process that does not call for longer stood still, and that time does not count.
#[derive(Debug)]
pub struct Transport<T> {
    limits: TransportLimits,
    security: Security,
    table: Table<T>,
    pool: BufferPool,
    clock: AwakeClock,
    events: VecDeque<TransportEvent<T>>,
    /// Those with output that was not tried to be written.
    writable: VecDeque<ConnectionId>,
    /// Those that ended and whose sockets are not closed yet.
    closing: VecDeque<Closing<T>>,
    /// Those that have not introduced themselves.
    strangers: Strangers,
    /// Those that the kernel takes no more for.
    blocked: BTreeSet<ConnectionId>,
    /// Each connection with a deadline once, at its deadline or before.
    schedule: BTreeSet<(Instant, ConnectionId)>,
    /// What is allocated for messages of which a part has come.
    incoming_bytes: usize,
    outgoing_bytes: usize,
    outgoing_messages: usize,
    accepted: u64,
    dropped_messages: u64,
    refused: BTreeMap<&'static str, u64>,
    lost: BTreeMap<&'static str, u64>,
}

/// A connection, and what the table knows of it.
#[derive(Debug)]
struct Entry<T> {
    connection: Connection<T>,
    address: PeerAddress,
    since: Instant,
    peer: Option<PeerIntroduction>,
    traffic: Traffic,
    /// Whether it is among the writable ones.
    is_listed: bool,
    /// Since when the kernel has taken nothing, if it takes no more.
    blocked_since: Option<Instant>,
    /// Where it is in the schedule.
    scheduled: Option<Instant>,
    /// The peer has shown its key and is not admitted so far.
    admission: Option<Box<Admission>>,
    /// What the owner made of its key.
    identity: Option<IdentityToken>,
}

/// A socket to close, after what is said last has been written.
#[derive(Debug)]
pub struct Closing<T> {
    /// Which.
    pub id: ConnectionId,
    /// `None`: nothing may be written any more.
    last_words: Option<Box<Connection<T>>>,
}

impl<T> Closing<T> {
    /// What tells the peer why; it is tried once.
    #[must_use]
    pub fn output(&self) -> OutputSlices<'_> {
        self.last_words.as_ref().map(|connection| connection.output()).unwrap_or_default()
    }
}

impl<T> Transport<T> {
    /// A port without connections.
    #[must_use]
    pub fn new(now: Instant, limits: TransportLimits) -> Self {
        Self {
            limits,
            security: Security::new(),
            table: Table::new(),
            pool: BufferPool::default(),
            clock: AwakeClock::new(now),
            events: VecDeque::new(),
            writable: VecDeque::new(),
            closing: VecDeque::new(),
            strangers: Strangers::default(),
            blocked: BTreeSet::new(),
            schedule: BTreeSet::new(),
            incoming_bytes: 0,
            outgoing_bytes: 0,
            outgoing_messages: 0,
            accepted: 0,
            dropped_messages: 0,
            refused: BTreeMap::new(),
            lost: BTreeMap::new(),
        }
    }

    /// Whether another connection has no room.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.table.len() >= self.limits.connections_max
    }

    /// A peer connected. `None`: there is no room for it.
    pub fn accepted(&mut self, now: Instant, address: PeerAddress) -> Option<ConnectionId> {
        if self.is_full() {
            return None;
        }
        let now = self.clock.awake(now);
        if self.strangers.len() >= self.limits.strangers_max
            && let Some(first) = self.strangers.first_to_go(self.limits.strangers_max)
        {
            self.end(first, Loss::Crowded);
        }
        let id = self.insert(now, self.security.accepting(), address)?;
        self.accepted += 1;
        self.strangers.insert(id, address);
        Some(id)
    }

    /// This side begins to connect to a peer. `None`: there is no room for it. What is written before the
    /// connection is there waits; one that can not be made is [`closed`](Self::closed).
    pub fn dialled(&mut self, now: Instant, address: PeerAddress) -> Option<ConnectionId> {
        if self.is_full() {
            return None;
        }
        let now = self.clock.awake(now);
        self.insert(now, MechanismChoice::DialNull, address)
    }

    fn insert(
        &mut self,
        now: Instant,
        choice: MechanismChoice,
        address: PeerAddress,
    ) -> Option<ConnectionId> {
        let (side, socket_type) = match choice {
            MechanismChoice::Accepting { .. } => (Side::Accepting, SocketType::Router),
            MechanismChoice::DialNull | MechanismChoice::DialCurve(_) => {
                (Side::Dialling, SocketType::Dealer)
            }
        };
        let local = LocalSocket { socket_type, routing_id: &[] };
        let introduction = Introduction { side, local, limits: self.limits.connection };
        let connection = Connection::with_choice(now, &introduction, choice, &mut self.pool);
        let first_bytes = connection.output_bytes();
        let id = self.table.insert(Entry {
            connection,
            address,
            since: now,
            peer: None,
            traffic: Traffic::default(),
            is_listed: false,
            blocked_since: None,
            scheduled: None,
            admission: None,
            identity: None,
        })?;
        self.outgoing_bytes += first_bytes;
        self.list(id);
        self.reschedule(id);
        Some(id)
    }

    /// Takes bytes that were read, hands out the messages that they complete, and returns how many
    /// were taken: all of them, unless `take` says to stop.
    pub fn received(
        &mut self,
        now: Instant,
        id: ConnectionId,
        input: &[u8],
        mut take: impl FnMut(PeerAddress, Message) -> Flow,
    ) -> usize {
        let now = self.clock.awake(now);
        let Some(entry) = self.table.get_mut(id) else { return input.len() };
        let before = entry.connection.output_bytes();
        let input_before = entry.connection.input_bytes();
        let (mut opened, mut messages) = (None, 0);
        let address = entry.address;
        let outcome = entry.connection.received(now, input, &mut self.pool, |event| match event {
            Event::Opened(peer) => {
                opened = Some(peer);
                Flow::Continue
            }
            Event::Message(message) => {
                messages += 1;
                take(address, message)
            }
        });
        let has_output = entry.connection.output_bytes() > before;
        self.outgoing_bytes += entry.connection.output_bytes() - before;
        entry.traffic.messages_in += messages;
        self.incoming_bytes -= input_before;
        self.incoming_bytes += entry.connection.input_bytes();
        let taken = outcome.as_ref().copied().unwrap_or(input.len());
        entry.traffic.bytes_in += u64::try_from(taken).unwrap_or(u64::MAX);
        if let Some(peer) = opened {
            entry.peer = Some(peer);
            self.strangers.remove(id);
            self.events.push_back(TransportEvent::Opened { id });
        }
        let is_introduced = entry.peer.is_some();
        if let Err(ending) = outcome {
            self.end(id, Loss::Ended(ending));
            return taken;
        }
        if has_output {
            self.list(id);
        }
        self.reschedule(id);
        if !is_introduced {
            self.begin_pending_job(now, id);
        }
        if self.incoming_bytes > self.limits.incoming_bytes_max {
            self.end_greediest_sender();
        }
        taken
    }

    /// Ends the connection that most is allocated for. It looks at all of them, and each time frees at
    /// least its share of the whole.
    fn end_greediest_sender(&mut self) {
        let greediest = self.table.iter().max_by_key(|(_, entry)| entry.connection.input_bytes());
        if let Some(id) = greediest.map(|(id, _)| id) {
            self.end(id, Loss::Greedy);
        }
    }

    /// How many bytes are allocated for a message of which a part has come.
    #[must_use]
    pub fn input_bytes(&self, id: ConnectionId) -> usize {
        self.table.get(id).map_or(0, |entry| entry.connection.input_bytes())
    }

    /// How many bytes have come from a peer.
    #[must_use]
    pub fn bytes_in(&self, id: ConnectionId) -> u64 {
        self.table.get(id).map_or(0, |entry| entry.traffic.bytes_in)
    }

    /// The socket was closed by the peer or the network, and has nothing more to read.
    pub fn closed(&mut self, id: ConnectionId) {
        self.end(id, Loss::Closed);
    }

    /// Ends a connection on the word of a person; false if there is none.
    pub fn kick(&mut self, id: ConnectionId) -> bool {
        let is_there = self.table.get(id).is_some();
        self.end(id, Loss::Kicked);
        is_there
    }

    /// Closes a connection that this side wants no longer; no event tells of it. What is still to be written is
    /// not. Returns the tags of the messages of which no byte reached the kernel.
    pub fn close(&mut self, id: ConnectionId) -> Vec<T> {
        let Some(entry) = self.take(id) else { return Vec::new() };
        self.strangers.remove(id);
        self.closing.push_back(Closing { id, last_words: None });
        entry.connection.into_unsent().collect()
    }

    /// From now on messages of this peer may have at most this number of bytes.
    pub fn set_message_bytes_max(&mut self, id: ConnectionId, bytes: usize) {
        if let Some(entry) = self.table.get_mut(id) {
            entry.connection.set_message_bytes_max(bytes);
        }
    }

    /// Whether a peer that stops answering PINGs is lost; by default it is, if it answered one before.
    pub fn set_pong_required(&mut self, id: ConnectionId, is_required: bool) {
        if let Some(entry) = self.table.get_mut(id) {
            entry.connection.set_pong_required(is_required);
        }
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<TransportEvent<T>> {
        self.events.pop_front()
    }

    /// Whether something happened that was not asked for yet.
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// The next socket to close, which the shell does before it calls anything else: what it keeps
    /// under the [slot](ConnectionId::slot) of the connection may belong to another one then.
    pub fn poll_closing(&mut self) -> Option<Closing<T>> {
        let closing = self.closing.pop_front()?;
        self.table.release(closing.id);
        Some(closing)
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do, at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.schedule.first().map(|(at, _)| self.clock.to_shell(*at))
    }

    /// Pings silent peers, and ends connections whose time is over. Of those that have something unread
    /// it is not known whether they are silent: they are looked at again later.
    pub fn handle_timeout(&mut self, now: Instant, has_unread: impl Fn(ConnectionId) -> bool) {
        let now = self.clock.awake(now);
        self.forget_old_keys(now);
        while let Some((at, id)) = self.schedule.first().copied()
            && at <= now
        {
            self.schedule.pop_first();
            let Some(entry) = self.table.get_mut(id) else { continue };
            entry.scheduled = None;
            if entry.admission.as_ref().is_some_and(|admission| admission.deadline <= now) {
                self.on_admission_due(now, id);
                continue;
            }
            let is_stalled = entry.blocked_since.is_some_and(|since| {
                now.saturating_duration_since(since) >= self.limits.stalled_after
            });
            if is_stalled {
                self.end(id, Loss::Stalled);
                continue;
            }
            let before = entry.connection.output_bytes();
            let is_unread = has_unread(id);
            let outcome = if is_unread {
                entry.connection.keep_promise(now, &mut self.pool);
                entry.scheduled = Some(now + UNREAD_LOOKED_AT_AFTER);
                self.schedule.insert((now + UNREAD_LOOKED_AT_AFTER, id));
                Ok(())
            } else {
                entry.connection.handle_timeout(now, &mut self.pool)
            };
            self.outgoing_bytes += entry.connection.output_bytes() - before;
            match outcome {
                Ok(()) if entry.connection.output_bytes() > before => self.list(id),
                Ok(()) => {}
                Err(ending) => self.end(id, Loss::Ended(ending)),
            }
            if !is_unread {
                self.reschedule(id);
            }
        }
    }

    /// This process stood still, longer than peers may: no peer was silent or took nothing meanwhile, as far
    /// as it knows.
    pub fn rearm(&mut self, now: Instant) {
        let now = self.clock.awake(now);
        let ids: Vec<_> = self.table.iter().map(|(id, _)| id).collect();
        for id in ids {
            let Some(entry) = self.table.get_mut(id) else { continue };
            entry.connection.rearm(now);
            entry.blocked_since = entry.blocked_since.map(|_| now);
            self.reschedule(id);
        }
    }

    /// All connections, for a person.
    pub fn connections(&self) -> impl Iterator<Item = ConnectionStatus<'_>> {
        self.table.iter().map(|(id, entry)| ConnectionStatus {
            id,
            address: entry.address,
            since: self.clock.to_shell(entry.since),
            peer: entry.peer.as_ref(),
            traffic: entry.traffic,
            outgoing_bytes: entry.connection.output_bytes(),
        })
    }

    /// Where a peer connects from.
    #[must_use]
    pub fn address(&self, id: ConnectionId) -> Option<PeerAddress> {
        self.table.get(id).map(|entry| entry.address)
    }

    /// What a peer said of itself.
    #[must_use]
    pub fn peer(&self, id: ConnectionId) -> Option<&PeerIntroduction> {
        self.table.get(id)?.peer.as_ref()
    }

    /// Whether there is no connection.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// Sums over all connections.
    #[must_use]
    pub fn totals(&self) -> TransportTotals {
        let list = |counts: &BTreeMap<&'static str, u64>| {
            counts.iter().map(|(reason, count)| (*reason, *count)).collect()
        };
        TransportTotals {
            connections: self.table.len(),
            strangers: self.strangers.len(),
            accepted: self.accepted,
            incoming_bytes: self.incoming_bytes,
            outgoing_bytes: self.outgoing_bytes,
            outgoing_messages: self.outgoing_messages,
            dropped_messages: self.dropped_messages,
            refused: list(&self.refused),
            lost: list(&self.lost),
        }
    }

    /// Notes that there is something to write, unless the kernel has no room anyway.
    fn list(&mut self, id: ConnectionId) {
        if let Some(entry) = self.table.get_mut(id)
            && !entry.is_listed
            && entry.blocked_since.is_none()
        {
            entry.is_listed = true;
            self.writable.push_back(id);
        }
    }

    /// Puts a connection into the schedule, if it has to be looked at before it would be. Deadlines
    /// move into the future with every byte: one that is looked at too early is put in again.
    fn reschedule(&mut self, id: ConnectionId) {
        let Some(entry) = self.table.get_mut(id) else { return };
        let stalled = entry.blocked_since.map(|since| since + self.limits.stalled_after);
        let admission = entry.admission.as_ref().map(|admission| admission.deadline);
        let due = [entry.connection.poll_timeout(), stalled, admission].into_iter().flatten().min();
        let Some(due) = due else { return };
        match entry.scheduled {
            Some(at) if at <= due => return,
            Some(at) => _ = self.schedule.remove(&(at, id)),
            None => {}
        }
        entry.scheduled = Some(due);
        self.schedule.insert((due, id));
    }

    /// Ends a connection. Of an open one nothing is written any more: what is told to be unsent must
    /// stay so.
    fn end(&mut self, id: ConnectionId, why: Loss) {
        let Some(entry) = self.take(id) else { return };
        if matches!(why, Loss::Overflow | Loss::Stalled) {
            let messages = entry.connection.output_messages();
            self.dropped_messages += u64::try_from(messages).unwrap_or(u64::MAX);
        }
        let Entry { connection, address, peer, .. } = entry;
        if peer.is_none() {
            self.strangers.remove(id);
            *self.refused.entry(why.label()).or_default() += 1;
            self.events.push_back(TransportEvent::Refused { id, address, why });
            self.closing.push_back(Closing { id, last_words: Some(Box::new(connection)) });
            return;
        }
        *self.lost.entry(why.label()).or_default() += 1;
        let unsent = match is_on(Mutant::UnsentForgotten) {
            false => connection.into_unsent().collect(),
            true => Vec::new(),
        };
        let address = Some(address);
        self.events.push_back(TransportEvent::Lost { id, address, why, unsent });
        self.closing.push_back(Closing { id, last_words: None });
    }

    /// Takes a connection out of the table, with all that is counted of it.
    fn take(&mut self, id: ConnectionId) -> Option<Entry<T>> {
        let entry = self.table.remove(id)?;
        if let Some(at) = entry.scheduled {
            self.schedule.remove(&(at, id));
        }
        self.blocked.remove(&id);
        self.outgoing_bytes -= entry.connection.output_bytes();
        self.outgoing_messages -= entry.connection.output_messages();
        self.incoming_bytes -= entry.connection.input_bytes();
        Some(entry)
    }
}

#[cfg(test)]
mod tests;
