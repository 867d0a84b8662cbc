//! The thread that owns the client port, the links and the engine: the only place that sleeps.

mod relay;
mod report;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mdp_broker::{Broker, Effect, Input, Note, PeerId, Receipt};
use mdp_raft::Stop;
use mdp_replica::{Agreement, NewsState, Replica};
use mdp_transport::{
    self as transport, Loss, PeerAddress, SharedFrame, StreamError, TransportEvent,
};
use mdp_wire::{ClientNetworks, DecodeError, DecodeLimits, Defect, decode_at_broker};
use thiserror::Error;

use crate::{
    client_port::{ClientPort, Incoming, peer_id},
    inbox::{INBOX_BATCH_MAX, Inbox, Message},
    notes,
    pages::{self, View},
    poller::{Poller, PortName},
    port::ReadState,
    relay_port::RelayPort,
};

/// Timers wait until the client port was read empty, so that no peer expires whose sign of life is
/// waiting there; but not longer than this.
const TIMERS_STARVED_MAX: Duration = Duration::from_millis(50);
/// The longest sleep: the count of turns shows that the thread lives.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// How long the last replies may wait for slow peers after a drain.
const FLUSH_MAX: Duration = Duration::from_secs(1);
/// How long clients and workers have to close their ends after that.
const FAREWELL_MAX: Duration = Duration::from_millis(200);
/// How often is looked whether other nodes have closed their ends.
const FLUSH_STEP_MAX: Duration = Duration::from_millis(10);

/// The broker thread cannot go on.
#[derive(Debug, Error)]
pub enum BrokerThreadError {
    /// Waiting failed.
    #[error("cannot wait for connections: {0}")]
    Wait(std::io::Error),
}

/// When and how long to drain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DrainTimes {
    /// How long everything may take, from the call to the end of waiting for workers.
    pub(crate) timeout: Duration,
    /// How long to go on as before, so that a load balancer can notice.
    pub(crate) announce: Duration,
}

/// How a broker thread ended.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// It drained.
    Drained(Drained),
    /// It was told to stop.
    Stopped,
    /// The cluster said that this node can not go on.
    Cluster(Stop),
}

/// What a drain came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drained {
    /// What the engine says.
    pub(crate) receipt: Receipt,
    /// Whether another node leads because of it.
    pub(crate) leader_moved: bool,
    /// How long it took since it was asked.
    pub(crate) took: Duration,
}

/// Whether and how this node is leaving.
#[derive(Clone, Debug)]
enum Phase {
    Serving,
    /// It will drain, but does not show it yet.
    Announcing {
        asked_at: Instant,
    },
    Draining {
        asked_at: Instant,
    },
    /// The engine has nothing left to do; the cluster is told.
    Leaving {
        asked_at: Instant,
        receipt: Receipt,
    },
    Ended(Ending),
}

/// Everything that the broker thread owns.
#[derive(Debug)]
pub(crate) struct BrokerThread<A> {
    pub(crate) broker: Broker<SharedFrame>,
    pub(crate) poller: Poller,
    pub(crate) clients: ClientPort,
    /// `None`: the node is alone.
    pub(crate) relay: Option<RelayPort>,
    pub(crate) replica: Replica<A, SharedFrame>,
    pub(crate) inbox: Inbox,
    /// The addresses that clients are told by their network.
    pub(crate) networks: Arc<ClientNetworks>,
    pub(crate) limits: DecodeLimits,
    pub(crate) drain: DrainTimes,
    /// Rises with every turn: the thread lives.
    pub(crate) turns: Arc<AtomicU64>,
    pub(crate) started_at: Instant,
}

impl<A: Agreement> BrokerThread<A> {
    /// Serves until it is drained or stopped.
    pub(crate) fn run(self) -> Result<Ending, BrokerThreadError> {
        let now = Instant::now();
        let frames = Vec::with_capacity(16);
        let phase = Phase::Serving;
        let (drops, notes) = (notes::DropLog::default(), notes::NoteLog::default());
        Running { it: self, frames, now, timers_ran_at: now, phase, drops, notes, last_lost: None }
            .run()
    }
}

/// A broker thread at work.
struct Running<A> {
    it: BrokerThread<A>,
    /// The frames of the message at hand; its memory is used again and again.
    frames: Vec<SharedFrame>,
    now: Instant,
    timers_ran_at: Instant,
    phase: Phase,
    drops: notes::DropLog,
    notes: notes::NoteLog,
    /// The peer that was lost last, and where it connected from: what follows is said of it.
    last_lost: Option<(PeerId, PeerAddress)>,
}

impl<A: Agreement> Running<A> {
    fn run(mut self) -> Result<Ending, BrokerThreadError> {
        loop {
            self.it.turns.fetch_add(1, Ordering::Relaxed);
            let before = std::mem::replace(&mut self.now, Instant::now());
            if self.now.saturating_duration_since(before) > 2 * SLEEP_MAX {
                // This process stood still: what came meanwhile is read before any deadline counts.
                self.timers_ran_at = self.now;
            }
            self.read_inbox();
            let news = self.read_news();
            // Nodes first: many clients must not make them silent.
            let relay = self.read_relay();
            let clients = self.read_clients();
            self.tend_relay();
            self.run_timers(clients);
            self.it.replica.flush(self.now);
            self.write();
            self.end_if_left();
            if let Phase::Ended(ending) = &self.phase {
                let ending = ending.clone();
                if let Ending::Drained(_) = ending {
                    self.flush()?;
                }
                return Ok(ending);
            }
            let is_all_read = [clients, relay] == [ReadState::Emptied; 2];
            if is_all_read && news == NewsState::Emptied {
                self.wait()?;
            } else {
                // Looks what has come, without waiting.
                self.poll(Duration::ZERO)?;
            }
        }
    }

    fn read_inbox(&mut self) {
        for _ in 0..INBOX_BATCH_MAX {
            match self.it.inbox.take() {
                None => return,
                Some(Message::Drain) => self.handle_drain(),
                Some(Message::Stop) => self.phase = Phase::Ended(Ending::Stopped),
                Some(Message::Report { scope, reply }) => {
                    // Whoever asked may have gone.
                    match reply.send(Box::new(self.report(scope))) {
                        Ok(()) | Err(_) => {}
                    }
                }
                Some(Message::Kick { connection, reply }) => {
                    match reply.send(self.it.clients.kick(connection)) {
                        Ok(()) | Err(_) => {}
                    }
                }
            }
        }
        self.it.inbox.ring_again();
    }

    fn handle_drain(&mut self) {
        match self.phase {
            Phase::Serving if self.it.drain.announce.is_zero() => self.begin_drain(self.now),
            Phase::Serving => self.phase = Phase::Announcing { asked_at: self.now },
            Phase::Announcing { .. }
            | Phase::Draining { .. }
            | Phase::Leaving { .. }
            | Phase::Ended(_) => {}
        }
    }

    fn begin_drain(&mut self, asked_at: Instant) {
        self.phase = Phase::Draining { asked_at };
        self.it.replica.begin_drain(self.now);
        self.handle(Input::Drain { deadline: asked_at + self.it.drain.timeout });
    }

    /// What the cluster agreed on and answered, before new work.
    fn read_news(&mut self) -> NewsState {
        let news = self.it.replica.read_news(self.now);
        self.run_effects();
        if let Some(stop) = self.it.replica.take_stop() {
            self.phase = Phase::Ended(Ending::Cluster(stop));
        }
        news
    }

    /// Takes new connections and reads a batch; what the engine decided about it leaves together, with
    /// one write for each connection.
    fn read_clients(&mut self) -> ReadState {
        let Self { it, frames, .. } = self;
        it.clients.accept(self.now);
        let (broker, limits) = (&mut it.broker, &it.limits);
        let state = it.clients.read(|incoming| {
            let Incoming { now, from, address, message } = incoming;
            frames.clear();
            frames.extend(message.frames);
            let input = match decode_at_broker(frames, limits) {
                Ok(message) => Input::Received { from, source: address.ip(), message },
                Err(error) => Input::Malformed { from, error },
            };
            broker.handle_input(now, input);
        });
        self.now = Instant::now();
        self.run_effects();
        if self.it.poller.has_more() { ReadState::MoreWaits } else { state }
    }

    /// Writes what waits for clients, workers and other nodes: one write for each connection.
    fn write(&mut self) {
        self.it.clients.flush(self.now);
        if let Some(relay) = &mut self.it.relay {
            relay.flush(self.now);
        }
    }

    fn run_timers(&mut self, clients: ReadState) {
        let is_starved =
            self.now.saturating_duration_since(self.timers_ran_at) > TIMERS_STARVED_MAX;
        if clients == ReadState::MoreWaits && !is_starved {
            return;
        }
        self.now = Instant::now();
        self.timers_ran_at = self.now;
        self.drops.look(self.now, &mut self.it.broker);
        self.it.clients.handle_timeout(self.now);
        self.run_effects();
        if let Phase::Announcing { asked_at } = self.phase
            && self.now >= asked_at + self.it.drain.announce
        {
            self.begin_drain(asked_at);
        }
        if self.it.broker.poll_timeout().is_some_and(|at| at <= self.now) {
            self.it.broker.handle_timeout(self.now);
            self.run_effects();
        }
        if self.it.replica.poll_timeout().is_some_and(|at| at <= self.now) {
            self.it.replica.handle_timeout(self.now);
            self.run_effects();
        }
    }

    fn end_if_left(&mut self) {
        if let Phase::Leaving { asked_at, receipt } = self.phase
            && self.it.replica.has_left()
        {
            let took = Instant::now().saturating_duration_since(asked_at);
            let leader_moved = self.it.replica.leader_moved();
            self.phase = Phase::Ended(Ending::Drained(Drained { receipt, leader_moved, took }));
        }
    }

    fn handle(&mut self, input: Input<SharedFrame>) {
        self.it.broker.handle_input(self.now, input);
        self.run_effects();
    }

    /// Runs what the engine decided, then tells it what came of that, until both are done.
    fn run_effects(&mut self) {
        loop {
            while let Some(effect) = self.it.broker.poll_effect() {
                self.run_effect(effect);
            }
            let Some(input) = self.poll_input() else { return };
            self.it.broker.handle_input(self.now, input);
        }
    }

    /// What came of the effects, once all of them have been run.
    fn poll_input(&mut self) -> Option<Input<SharedFrame>> {
        if let Some(lost) = self.poll_lost() {
            return Some(lost);
        }
        let told = self.it.relay.as_mut().and_then(|relay| relay.poll_input(self.now));
        told.or_else(|| self.it.replica.poll_answer())
    }

    /// The next client or worker whose connection is gone.
    fn poll_lost(&mut self) -> Option<Input<SharedFrame>> {
        loop {
            match self.it.clients.poll_event()? {
                TransportEvent::Opened { .. } => {}
                TransportEvent::Refused { address, why, .. } => {
                    self.notes.log_refused(self.now, address, &why);
                }
                TransportEvent::Lost { id, address, why, unsent } => {
                    let peer = peer_id(id);
                    if let Some(address) = address {
                        self.notes.log_lost(self.now, &peer, address, &why);
                        self.last_lost = Some((peer.clone(), address));
                    }
                    if let Some(defect) = beyond_limits(&why).filter(|_| unsent.is_empty()) {
                        let (from, error) = (peer.clone(), DecodeError::Malformed(defect));
                        self.it.broker.handle_input(self.now, Input::Malformed { from, error });
                    }
                    // A worker has at most one request.
                    return Some(Input::PeerLost { peer, unsent: unsent.into_iter().last() });
                }
            }
        }
    }

    /// Where a peer connects from, or connected from until a moment ago.
    fn address_of(&self, peer: &PeerId) -> Option<PeerAddress> {
        let lost = self.last_lost.as_ref().filter(|(lost, _)| lost == peer);
        self.it.clients.address(peer).or_else(|| lost.map(|(_, address)| *address))
    }

    fn run_effect(&mut self, effect: Effect<SharedFrame>) {
        match effect {
            Effect::Send { to, message } => self.it.clients.send(self.now, &to, message),
            Effect::ToOwner { link, message } => {
                if let Some(relay) = &mut self.it.relay {
                    relay.send_to_owner(self.now, link, message);
                }
            }
            Effect::ToOrigin { link, message } => {
                if let Some(relay) = &mut self.it.relay {
                    relay.send_to_origin(self.now, link, message);
                }
            }
            Effect::Propose(entry) => self.it.replica.propose(entry),
            Effect::Lookup { query, service, purpose } => {
                self.it.replica.lookup(query, service, purpose);
            }
            Effect::Describe { query, page, asker } => {
                let asker = self.it.clients.address(&asker).and_then(PeerAddress::ip);
                let connections = self.it.clients.totals();
                let links = self.it.relay.as_ref().map(RelayPort::states).unwrap_or_default();
                let (broker, links) = (&self.it.broker, links.as_slice());
                let (networks, now) = (&*self.it.networks, self.now);
                let view = View { broker, connections, links, networks, asker, now };
                let json = pages::page(page, &self.it.replica, &view);
                self.it.replica.answer(Input::Described { query, json });
            }
            Effect::Note(note) => {
                if let Note::WorkerUp { peer, .. } = &note {
                    self.it.clients.let_be_silent(peer);
                }
                let address = notes::peer_of(&note).and_then(|peer| self.address_of(peer));
                self.notes.log(self.now, &note, address);
            }
            Effect::Drained(receipt) => {
                let asked_at = match self.phase {
                    Phase::Draining { asked_at }
                    | Phase::Announcing { asked_at }
                    | Phase::Leaving { asked_at, .. } => asked_at,
                    Phase::Serving | Phase::Ended(_) => self.now,
                };
                self.phase = Phase::Leaving { asked_at, receipt };
                self.it.replica.leave(self.now);
            }
        }
    }

    /// Sleeps until something may have to be done.
    fn wait(&mut self) -> Result<(), BrokerThreadError> {
        let is_relay_awake = self.it.relay.as_ref().is_some_and(RelayPort::is_awake);
        if is_relay_awake || self.it.clients.is_awake() {
            return self.poll(Duration::ZERO);
        }
        let announced = match self.phase {
            Phase::Announcing { asked_at } => Some(asked_at + self.it.drain.announce),
            Phase::Serving | Phase::Draining { .. } | Phase::Leaving { .. } | Phase::Ended(_) => {
                None
            }
        };
        let due = [
            self.it.broker.poll_timeout(),
            self.it.replica.poll_timeout(),
            self.it.clients.poll_timeout(),
            self.it.relay.as_ref().and_then(RelayPort::poll_timeout),
            announced,
        ];
        let due = due.into_iter().flatten().min();
        let sleep = due.map_or(SLEEP_MAX, |at| at.saturating_duration_since(Instant::now()));
        self.poll(sleep.min(SLEEP_MAX))
    }

    /// Waits for news of any port, or the bell.
    fn poll(&mut self, sleep: Duration) -> Result<(), BrokerThreadError> {
        let BrokerThread { poller, clients, relay, .. } = &mut self.it;
        let clients = (PortName::Clients, clients.sockets());
        let rang = match relay {
            None => poller.poll(sleep, &mut [clients]),
            Some(relay) => poller.poll(sleep, &mut [clients, (PortName::Nodes, relay.sockets())]),
        };
        if rang.map_err(BrokerThreadError::Wait)? {
            self.it.inbox.silence();
        }
        let now = Instant::now();
        self.it.clients.write_where_room(now);
        if let Some(relay) = &mut self.it.relay {
            relay.write_where_room(now);
        }
        Ok(())
    }

    /// Waits until clients and workers have closed their ends, for what they were sent last would be lost
    /// if this one closed with something of theirs unread.
    fn say_bye_to_clients(&mut self) -> Result<(), BrokerThreadError> {
        let deadline = Instant::now() + FAREWELL_MAX;
        self.it.clients.say_bye();
        while !self.it.clients.is_deserted() && Instant::now() < deadline {
            self.it.clients.read(drop);
            self.it.clients.flush(Instant::now());
            self.poll(FLUSH_STEP_MAX)?;
        }
        Ok(())
    }

    /// Gives slow peers and other nodes a last chance to take what was meant for them.
    fn flush(&mut self) -> Result<(), BrokerThreadError> {
        let deadline = Instant::now() + FLUSH_MAX;
        loop {
            self.now = Instant::now();
            // What comes now goes back, for there are no workers any more.
            self.read_clients();
            self.read_relay();
            let are_nodes_done = self.say_bye();
            self.write();
            if self.it.clients.is_all_written() && are_nodes_done {
                return self.say_bye_to_clients();
            }
            if self.now >= deadline {
                let totals = self.it.clients.totals();
                if totals.outgoing_messages > 0 {
                    let messages = totals.outgoing_messages;
                    tracing::warn!(messages, "replies dropped: not read in time");
                }
                return self.say_bye_to_clients();
            }
            self.poll(FLUSH_STEP_MAX)?;
        }
    }
}

/// Whether a peer was lost because of a message beyond the limits, which the engine never sees.
const fn beyond_limits(why: &Loss) -> Option<Defect> {
    let Loss::Ended(transport::Ending::Stream(error)) = why else { return None };
    match error {
        StreamError::MessageTooLarge { .. } => Some(Defect::TooLarge),
        StreamError::TooManyFrames { .. } => Some(Defect::TooManyFrames),
        StreamError::BadFlags(_) | StreamError::CommandTooLarge { .. } => None,
    }
}
