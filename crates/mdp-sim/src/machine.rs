//! A machine that runs a node: its disk, its clock, and one process after the other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mdp_broker::{Broker, Seed as BrokerSeed};
use mdp_catalog::{Endpoints, Epoch, Incarnation, NodeName};
use mdp_core::{NodeCore, NodeEnding, NodeParts, RelayLinks, RelaySettings};
use mdp_raft::{ConsensusConfig, NEWS_MAX, News, Seed, StorageError, news};
use mdp_replica::{Membership, Replica};
use mdp_transport::{ConnectionLimits, TransportLimits};
use mdp_wire::{ClientNetworks, DecodeLimits};
use tokio::sync::{
    Notify,
    mpsc::{self, Receiver},
};

use crate::{
    Rng,
    calls::Calls,
    disk::{Disk, Unsynced},
    hosts::{Consensus, Host},
    network::{Network, client_address, cluster_address, relay_address},
    plan::Plan,
    port::Io,
    ports::Ports,
    process::{Parts, Process},
    release::Releases,
    shared::Shared,
    truth::Truth,
    turn::{Notes, Turn},
    wires::{Arrival, Delivery, WireKind, Wires},
};

/// The rate of a clock that goes right, in parts per million.
pub(crate) const TRUE_RATE: u32 = 1_000_000;

/// How many connections without a link a node allows.
const VISITORS_MAX: usize = 64;
/// How long all members must have run a newer version before the cluster's version rises.
const UPGRADE_SETTLE: Duration = Duration::from_secs(2);

/// Which machines have news, and how the world is woken for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bells {
    rung: Arc<AtomicU64>,
    /// The same for their links.
    links_rung: Arc<AtomicU64>,
    notify: Arc<Notify>,
}

impl Bells {
    fn ring(&self, site: usize) {
        self.rung.fetch_or(1 << site, Ordering::Relaxed);
        self.notify.notify_one();
    }

    pub(crate) fn ring_links(&self, site: usize) {
        self.links_rung.fetch_or(1 << site, Ordering::Relaxed);
        self.notify.notify_one();
    }

    /// The machines that have news since this was asked last, as bits, and those whose links have.
    pub(crate) fn take(&self) -> (u64, u64) {
        let taken = |rung: &AtomicU64| rung.swap(0, Ordering::Relaxed);
        (taken(&self.rung), taken(&self.links_rung))
    }

    pub(crate) async fn rung(&self) {
        self.notify.notified().await;
    }
}

/// What a process that starts has come to.
type Started = Arc<Shared<Option<Result<Consensus, StorageError>>>>;

#[derive(Debug)]
enum State {
    Off,
    Starting { started: Started, feed: Receiver<News> },
    Up(Box<Process>),
}

/// How a process that was started ended at once, or later by itself.
#[derive(Debug)]
pub(crate) enum Turned {
    /// Nothing special.
    Nothing,
    /// It takes part now.
    Up,
    /// It could not use its disk.
    Refused(StorageError),
    /// It ended by itself.
    Ended(NodeEnding),
}

/// A machine that runs a node.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) site: usize,
    pub(crate) name: NodeName,
    pub(crate) disk: Disk,
    plan: Arc<Plan>,
    network: Network,
    bells: Bells,
    rng: Rng,
    host: Host,
    rate: u32,
    releases: Releases,
    /// The calls of the process, from its very beginning.
    calls: Option<Calls>,
    state: State,
}

impl Machine {
    pub(crate) fn new(
        site: usize,
        plan: &Arc<Plan>,
        network: &Network,
        bells: &Bells,
        rng: &mut Rng,
    ) -> Self {
        let mut rng = rng.fork();
        Self {
            site,
            name: node_name(site),
            disk: Disk::new(plan.sync, rng.fork()),
            plan: Arc::clone(plan),
            network: network.clone(),
            bells: bells.clone(),
            host: Host::new(rng.number()),
            rng,
            rate: TRUE_RATE,
            releases: Releases::draw(plan.seed, site, plan.nodes),
            calls: None,
            state: State::Off,
        }
    }

    /// From its next start on it runs the next version. `false`: it does already.
    pub(crate) fn upgrade(&mut self) -> bool {
        self.releases.upgrade()
    }

    /// Starts a process, which takes part some turns later.
    pub(crate) fn start(&mut self) {
        self.releases.change();
        self.host = Host::new(self.rng.number());
        if self.rate != TRUE_RATE {
            self.host.set_rate(self.rate);
        }
        let (bells, site) = (self.bells.clone(), self.site);
        let (sender, feed) = news(move || bells.ring(site));
        let calls = Calls::new(self.site, &self.bells, &self.host);
        let caller = calls.caller(&self.network);
        self.calls = Some(calls);
        let volume = Arc::new(self.disk.mount());
        let starting = Consensus::start_on(self.config(), Arc::new(caller), sender, volume);
        let started = Started::default();
        let (result, bells) = (Arc::clone(&started), self.bells.clone());
        tokio::spawn(self.host.run(async move {
            let outcome = starting.await;
            *result.lock() = Some(outcome);
            bells.ring(site);
        }));
        self.state = State::Starting { started, feed };
    }

    fn config(&self) -> ConsensusConfig {
        let times = &self.plan.times;
        let seeds = (0..self.plan.nodes)
            .map(|site| Seed { name: node_name(site), endpoint: cluster_address(site) });
        ConsensusConfig {
            name: self.name.clone(),
            data_dir: format!("/{}", self.name).into(),
            seeds: seeds.collect(),
            endpoints: Endpoints {
                client: client_address(self.site),
                cluster: cluster_address(self.site),
                relay: relay_address(self.site),
            },
            version: self.releases.now().version(),
            formats: self.releases.now().call_formats(),
            heartbeat_interval: times.heartbeat_interval,
            election_timeout_min: times.election_timeout_min,
            election_timeout_max: times.election_timeout_max,
            node_timeout: times.node_timeout,
            read_timeout: times.read_timeout,
            upgrade_settle: UPGRADE_SETTLE,
            upgrade_hold: self.releases.hold(),
        }
    }

    /// Kills the process, if there is one, as a power cut does.
    pub(crate) fn crash(&mut self, true_now: Instant, wires: &mut Wires, unsynced: Unsynced) {
        self.disk.crash(unsynced);
        self.end(true_now, wires);
    }

    /// Nothing of the process is left.
    fn end(&mut self, true_now: Instant, wires: &mut Wires) {
        self.calls = None;
        self.state = State::Off;
        self.host.kill();
        wires.close_all_at(true_now, self.site);
    }

    pub(crate) fn pause(&self) {
        self.host.pause();
    }

    pub(crate) fn resume(&self) {
        self.host.resume();
        self.bells.ring(self.site);
        self.bells.ring_links(self.site);
    }

    pub(crate) fn set_rate(&mut self, rate: u32) {
        self.rate = rate;
        self.host.set_rate(rate);
    }

    pub(crate) fn drain(&mut self) {
        if let State::Up(process) = &mut self.state {
            process.drain();
            self.bells.ring(self.site);
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.is_on() && self.host.is_paused()
    }

    pub(crate) const fn host(&self) -> &Host {
        &self.host
    }

    /// Whether there is a process.
    pub(crate) const fn is_on(&self) -> bool {
        !matches!(self.state, State::Off)
    }

    pub(crate) const fn process(&self) -> Option<&Process> {
        match &self.state {
            State::Up(process) => Some(process),
            State::Off | State::Starting { .. } => None,
        }
    }

    pub(crate) fn consensus(&self) -> Option<&Consensus> {
        self.process().map(Process::consensus)
    }

    /// Looks at its consensus by its own clock, if it takes part.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Consensus) -> T) -> Option<T> {
        self.consensus().map(|consensus| self.host.look(|| look(consensus)))
    }

    /// What arrived. Nobody is there: the other end is told so.
    pub(crate) fn put(&mut self, true_now: Instant, wires: &mut Wires, delivery: Delivery) {
        // The system takes a connection for a process that has not looked yet.
        let accept = |wires: &mut Wires| {
            if delivery.arrival == Arrival::Opened {
                wires.accept(true_now, delivery.wire);
            }
        };
        match (&mut self.state, &mut self.calls) {
            (_, Some(calls)) if delivery.kind == WireKind::Cluster => {
                accept(wires);
                calls.put(delivery);
            }
            (State::Up(process), _) => {
                accept(wires);
                process.put(delivery);
            }
            (State::Off | State::Starting { .. }, _) => {
                wires.close(true_now, delivery.wire, delivery.side);
            }
        }
    }

    /// When the next turn is due, in true time.
    pub(crate) fn next_at(&self, true_now: Instant) -> Option<Instant> {
        if self.is_paused() {
            return None;
        }
        let process = self.process()?;
        if process.is_awake() {
            return Some(true_now);
        }
        Some(self.true_time_of(process.poll_timeout()?, true_now))
    }

    /// When the next turn of its links is due, in true time.
    pub(crate) fn links_next_at(&self, true_now: Instant) -> Option<Instant> {
        if self.is_paused() {
            return None;
        }
        let calls = self.calls.as_ref()?;
        if calls.is_awake() {
            return Some(true_now);
        }
        Some(self.true_time_of(calls.poll_timeout()?, true_now))
    }

    /// When the machine's clock will show that time.
    fn true_time_of(&self, due: Instant, true_now: Instant) -> Instant {
        if self.rate == TRUE_RATE && self.host.now() == tokio::time::Instant::from_std(true_now) {
            return due;
        }
        let ahead = due.saturating_duration_since(self.host.now().into_std());
        let nanoseconds = ahead.as_nanos() * u128::from(TRUE_RATE) / u128::from(self.rate) + 1_000;
        let ahead = u64::try_from(nanoseconds).unwrap_or(u64::MAX);
        true_now + Duration::from_nanos(ahead)
    }

    /// One turn of its links, if it has any and does not stand still.
    pub(crate) fn turn_links(&mut self, true_now: Instant, wires: &mut Wires) {
        if self.is_paused() {
            return;
        }
        let now = self.host.now().into_std();
        if let Some(calls) = &mut self.calls {
            calls.turn(&mut Io { now, true_now, wires });
        }
    }

    /// One turn of the process, if it has one and does not stand still.
    pub(crate) async fn turn(
        &mut self,
        true_now: Instant,
        wires: &mut Wires,
        (notes, truth): (&mut Notes, &mut Truth),
    ) -> Turned {
        if self.is_paused() {
            return Turned::Nothing;
        }
        if let State::Starting { .. } = self.state {
            return self.go_on_starting(true_now, wires);
        }
        let State::Up(process) = &mut self.state else { return Turned::Nothing };
        let now = self.host.now().into_std();
        let mut turn = Turn { now, true_now, wires, notes, truth };
        let ending = self.host.run(async { process.turn(&mut turn) }).await;
        match ending {
            None => Turned::Nothing,
            Some(ending) => {
                // It ends as processes do; what it wrote is in the hands of the system.
                self.disk.crash(Unsynced::Kept);
                self.end(true_now, turn.wires);
                Turned::Ended(ending)
            }
        }
    }

    fn go_on_starting(&mut self, true_now: Instant, wires: &mut Wires) -> Turned {
        let State::Starting { started, .. } = &self.state else { return Turned::Nothing };
        let Some(outcome) = started.lock().take() else { return Turned::Nothing };
        let State::Starting { feed, .. } = std::mem::replace(&mut self.state, State::Off) else {
            return Turned::Nothing;
        };
        let consensus = match outcome {
            Ok(consensus) => consensus,
            Err(error) => {
                self.end(true_now, wires);
                return Turned::Refused(error);
            }
        };
        if let Some(calls) = &mut self.calls {
            calls.serve(consensus.clone());
        }
        let process = self.make_process(consensus, feed);
        self.state = State::Up(Box::new(process));
        self.bells.ring(self.site);
        Turned::Up
    }

    fn make_process(&self, consensus: Consensus, feed: Receiver<News>) -> Process {
        let now = self.host.now().into_std();
        let settings = self.plan.settings.clone();
        let messages = settings.decode;
        let mut seed = [0; 32];
        for part in seed.chunks_mut(8) {
            part.copy_from_slice(&self.host.random().to_le_bytes());
        }
        let incarnation = Incarnation { node: self.name.clone(), epoch: Epoch(0) };
        let membership = Membership {
            node: self.name.clone(),
            process: consensus.boot_process(),
            consistency: self.plan.consistency,
            isolation: self.plan.isolation(now),
        };
        let (to_core, copy) = mpsc::channel(NEWS_MAX);
        let (random, networks) = (self.host.random(), Arc::default());
        let parts = NodeParts {
            broker: Broker::new(incarnation, settings, BrokerSeed(seed), now),
            replica: Replica::new(consensus.clone(), copy, membership, now),
            links: Some(RelayLinks::new(now, self.relay_settings(random, &networks))),
            connections: connection_limits(&messages),
            security: None,
            messages,
            networks,
            drain: self.plan.times.drain,
            version: self.releases.now().name(),
        };
        Process::new(Parts {
            consensus,
            core: NodeCore::new(now, parts),
            ports: Ports::new(self.site, self.plan.relay, Rng::new(random)),
            news: feed,
            to_core,
        })
    }

    fn relay_settings(&self, random: u64, networks: &Arc<ClientNetworks>) -> RelaySettings {
        let release = self.releases.now();
        RelaySettings {
            node: self.name.clone(),
            version: release.name(),
            wire: release.relay_wire(),
            networks: Arc::clone(networks),
            message_bytes_max: DecodeLimits::default().message_bytes_max,
            visitors_max: VISITORS_MAX,
            random,
        }
    }
}

/// What connections of clients and workers may need, as far as it follows from what messages may be.
fn connection_limits(messages: &DecodeLimits) -> TransportLimits {
    let connection = ConnectionLimits {
        message_bytes_max: messages.message_bytes_max,
        message_frames_max: messages.frames_max,
        ..ConnectionLimits::default()
    };
    TransportLimits { connection, ..TransportLimits::default() }
}

/// The name of the node at a site.
pub(crate) fn node_name(site: usize) -> NodeName {
    format!("node-{}", site + 1).parse().expect("it is a name")
}
