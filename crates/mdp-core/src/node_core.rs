//! [`NodeCore`]: a node without its sockets, threads and clock.
//!
//! A shell calls [`NodeCore::turn`] again and again. One turn reads what has come, does what follows from it,
//! and writes. The order of a turn is decided here, so that the simulator runs the very turn of a node.

mod drops;
mod effects;
mod leaving;
mod links;
mod report;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mdp_broker::{Access, Broker, Input, PeerId};
use mdp_mutants::{Mutant, is_on};
use mdp_replica::{Agreement, NewsState, Replica};
use mdp_transport::{PeerAddress, SharedFrame, TransportLimits};
use mdp_wire::{ClientNetworks, DecodeLimits, decode_at_broker};

pub use self::leaving::{DrainTimes, Drained, NodeEnding};
use self::{drops::DropLog, leaving::Phase};
use crate::{ClientSecurity, Clients, PortName, ReadState, RelayLinks, Shell, clients::FromPeer};

/// Timers wait until the client port was read empty, so that no peer expires whose sign of life is
/// waiting there; but not longer than this.
const TIMERS_STARVED_MAX: Duration = Duration::from_millis(50);
/// The longest sleep: the count of turns shows that the node lives.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// What a node is made of.
#[derive(Debug)]
pub struct NodeParts<A> {
    /// The engine.
    pub broker: Broker<SharedFrame>,
    /// The copy of the catalog.
    pub replica: Replica<A, SharedFrame>,
    /// The links with other nodes; `None`: the node is alone.
    pub links: Option<RelayLinks>,
    /// What connections of clients and workers may need.
    pub connections: TransportLimits,
    /// Who clients and workers have to be; `None`: nothing proves it, and all is allowed.
    pub security: Option<ClientSecurity>,
    /// What messages of clients and workers may be.
    pub messages: DecodeLimits,
    /// The addresses that clients are told by their network.
    pub networks: Arc<ClientNetworks>,
    /// How it drains.
    pub drain: DrainTimes,
    /// The version of this program.
    pub version: &'static str,
}

/// What is to be done after a turn.
#[derive(Clone, Debug)]
pub enum TurnEnd {
    /// The next turn, after a look at what has come.
    Again,
    /// Nothing until something comes, or until then.
    Sleep {
        /// When the next turn is due.
        until: Instant,
    },
    /// Nothing: the node has ended.
    Ended(NodeEnding),
}

/// A node without its sockets, threads and clock.
#[derive(Debug)]
pub struct NodeCore<A> {
    broker: Broker<SharedFrame>,
    replica: Replica<A, SharedFrame>,
    clients: Clients,
    links: Option<RelayLinks>,
    messages: DecodeLimits,
    networks: Arc<ClientNetworks>,
    drain: DrainTimes,
    version: &'static str,
    /// The frames of the message at hand; its memory is used again and again.
    frames: Vec<SharedFrame>,
    now: Instant,
    timers_ran_at: Instant,
    started_at: Instant,
    phase: Phase,
    drops: DropLog,
    /// The peer that was lost last, and where it connected from: what follows is said of it.
    last_lost: Option<(PeerId, PeerAddress)>,
}

impl<A: Agreement> NodeCore<A> {
    /// A node that begins to serve.
    #[must_use]
    pub fn new(now: Instant, parts: NodeParts<A>) -> Self {
        let NodeParts { mut broker, replica, links, connections, security, messages, .. } = parts;
        if let Some(security) = &security {
            broker.handle_input(now, Input::Access(Arc::clone(&security.access)));
        }
        Self {
            broker,
            replica,
            clients: Clients::new(now, connections, security),
            links,
            messages,
            networks: parts.networks,
            drain: parts.drain,
            version: parts.version,
            frames: Vec::with_capacity(16),
            now,
            timers_ran_at: now,
            started_at: now,
            phase: Phase::Serving,
            drops: DropLog::default(),
            last_lost: None,
        }
    }

    /// One turn: what has come, what is due, and all that follows.
    pub fn turn(&mut self, shell: &mut impl Shell) -> TurnEnd {
        self.begin_turn(shell);
        let news = self.read_news(shell);
        if is_on(Mutant::TimersBeforeReading) {
            self.run_timers(shell, ReadState::Emptied);
        }
        // Nodes first: many clients must not make them silent.
        let nodes = self.read_nodes(shell);
        let clients = self.read_clients(shell);
        self.tend_links(shell);
        self.run_timers(shell, clients);
        self.replica.flush(self.now);
        self.flush(shell);
        self.go_on_leaving(shell);
        if let Phase::Ended(ending) = &self.phase {
            return TurnEnd::Ended(ending.clone());
        }
        let is_all_read = [clients, nodes] == [ReadState::Emptied; 2];
        match is_all_read && news == NewsState::Emptied && !self.is_awake() {
            true => TurnEnd::Sleep { until: self.next_turn_at() },
            false => TurnEnd::Again,
        }
    }

    fn begin_turn(&mut self, shell: &mut impl Shell) {
        self.advance(shell.now());
        shell.resume_writing(self.now, PortName::Clients, self.clients.transport());
        if let Some(links) = &mut self.links {
            shell.resume_writing(self.now, PortName::Nodes, links.transport());
        }
    }

    fn advance(&mut self, now: Instant) {
        let before = std::mem::replace(&mut self.now, now);
        if now.saturating_duration_since(before) > 2 * SLEEP_MAX {
            // This process stood still: what came meanwhile is read before any deadline counts.
            self.timers_ran_at = now;
        }
    }

    /// What the cluster agreed on and answered, before new work.
    fn read_news(&mut self, shell: &mut impl Shell) -> NewsState {
        let news = self.replica.read_news(self.now);
        self.run_effects(shell);
        self.end_if_cluster_says_so();
        news
    }

    /// Takes new connections and reads a batch; what the engine decided about it leaves together, with
    /// one write for each connection.
    fn read_clients(&mut self, shell: &mut impl Shell) -> ReadState {
        let (now, is_deaf) = (self.now, self.is_deaf());
        let Self { broker, clients, frames, messages: limits, .. } = self;
        let mut reading = clients.reading(|incoming| {
            if is_deaf {
                return;
            }
            let FromPeer { now, from, source, message } = incoming;
            frames.clear();
            frames.extend(message.frames);
            let input = match decode_at_broker(frames, limits) {
                Ok(message) => Input::Received { from, source, message },
                Err(error) => Input::Malformed { from, error },
            };
            broker.handle_input(now, input);
        });
        let state = shell.read(now, PortName::Clients, &mut reading);
        self.now = shell.now();
        shell.compute(self.now, PortName::Clients, self.clients.transport());
        self.run_effects(shell);
        state
    }

    fn run_timers(&mut self, shell: &mut impl Shell, clients: ReadState) {
        let is_starved =
            self.now.saturating_duration_since(self.timers_ran_at) > TIMERS_STARVED_MAX;
        if clients == ReadState::MoreWaits && !is_starved {
            return;
        }
        self.now = shell.now();
        self.timers_ran_at = self.now;
        self.drops.look(self.now, &mut self.broker);
        self.clients.handle_timeout(self.now, |id| shell.has_unread(PortName::Clients, id));
        self.run_effects(shell);
        self.begin_drain_if_announced(shell);
        if self.broker.poll_timeout().is_some_and(|at| at <= self.now) {
            self.broker.handle_timeout(self.now);
            self.run_effects(shell);
        }
        if self.replica.poll_timeout().is_some_and(|at| at <= self.now) {
            self.replica.handle_timeout(self.now);
            self.run_effects(shell);
        }
    }

    /// Writes what waits for clients, workers and other nodes: one write for each connection.
    fn flush(&mut self, shell: &mut impl Shell) {
        shell.flush(self.now, PortName::Clients, self.clients.transport());
        if let Some(links) = &mut self.links {
            shell.flush(self.now, PortName::Nodes, links.transport());
        }
    }

    /// Whether there is something to do although nothing comes.
    fn is_awake(&self) -> bool {
        self.clients.has_events() || self.links.as_ref().is_some_and(RelayLinks::is_awake)
    }

    fn next_turn_at(&self) -> Instant {
        let due = [
            self.broker.poll_timeout(),
            self.replica.poll_timeout(),
            self.clients.poll_timeout(),
            self.links.as_ref().and_then(RelayLinks::poll_timeout),
            self.leaving_due(),
            Some(self.now + SLEEP_MAX),
        ];
        due.into_iter().flatten().min().unwrap_or(self.now)
    }

    /// Closes a connection of a client or worker on the word of a person; false if there is none with this
    /// number.
    pub fn kick(&mut self, connection: u64) -> bool {
        self.clients.kick(connection)
    }

    /// From now on this says who clients and workers are, and what they may do.
    pub fn set_access(&mut self, now: Instant, access: Arc<Access>) {
        self.clients.set_access(Arc::clone(&access));
        self.broker.handle_input(now, Input::Access(access));
    }

    /// The engine.
    #[must_use]
    pub const fn broker(&self) -> &Broker<SharedFrame> {
        &self.broker
    }

    /// The copy of the catalog.
    #[must_use]
    pub const fn replica(&self) -> &Replica<A, SharedFrame> {
        &self.replica
    }

    /// The links with other nodes; `None`: the node is alone.
    #[must_use]
    pub const fn links(&self) -> Option<&RelayLinks> {
        self.links.as_ref()
    }
}

#[cfg(test)]
mod tests;
