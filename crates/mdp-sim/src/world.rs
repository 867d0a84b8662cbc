//! A whole cluster and everybody around it, in one thread and one virtual time.

mod looks;
mod phases;
mod tally;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mdp_core::{Drained, NodeEnding};
use mdp_raft::{Stop, StorageError};

use self::tally::Tally;
use crate::{
    Options, Rng, Violation,
    actors::cast,
    crew::Crew,
    faults::Act,
    invariants::{self, Invariant},
    machine::{Bells, Machine, Turned},
    network::Network,
    observation::{Event as Seen, Observation},
    operator::Operator,
    plan::Plan,
    queue::Queue,
    roster::{Addresses, Place, Roster},
    trace::{Trace, Who, mix},
    truth::{Agreed, Truth},
    turn::{Ended, Notes},
    wires::{Arrival, Delivery, Wires},
};

/// How often everything is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How soon an operator starts a process that ended, from and to.
const OPERATOR_DELAY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));
/// How often things may follow from each other without time passing.
const ROUNDS_MAX: usize = 10_000;

/// Something that is to happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// The next fault.
    Fault,
    /// A node or an answer is lost in the middle of a change of members.
    Lose(Act),
    /// A fault ends.
    End(Act),
    /// Ways are cut.
    Cut(Vec<(usize, usize)>),
    /// Ways are mended.
    Mend(Vec<(usize, usize)>),
    /// A node is started, unless it runs.
    Start { node: usize },
    /// The operator looks whether members are to be changed.
    Operate,
    /// An actor's process begins.
    Revive { actor: usize },
    /// Everything is looked at.
    Look,
}

/// A whole cluster and everybody around it.
pub(crate) struct World {
    pub(crate) plan: Arc<Plan>,
    pub(crate) network: Network,
    pub(crate) wires: Wires,
    pub(crate) machines: Vec<Machine>,
    /// What each of them is for.
    pub(crate) roster: Roster,
    /// The nodes that clients and workers know.
    pub(crate) addresses: Addresses,
    pub(crate) operator: Operator,
    pub(crate) crew: Crew,
    pub(crate) events: Queue<Event>,
    pub(crate) rng: Rng,
    /// A node whose volume is lost, or may be, until it takes part again.
    pub(crate) volume_at_risk: Option<usize>,
    /// Whether faults may come.
    has_faults: bool,
    bells: Bells,
    trace: Trace,
    judges: Vec<Box<dyn Invariant>>,
    began_at: Instant,
    violation: Option<Violation>,
    faults: u64,
    tally: Tally,
    truth: Truth,
    seen: Vec<(usize, Observation)>,
    notes: Notes,
}

impl World {
    /// Everything is off.
    pub(crate) fn new(plan: Plan, options: &Options) -> Self {
        let now = tokio::time::Instant::now().into_std();
        let mut rng = Rng::new(plan.seed ^ 0x005e_ed0f_7e57);
        let addresses = Addresses::new(plan.nodes);
        let actors = cast(&plan.workload, &addresses, &mut rng.fork());
        let truth = Truth::new(plan.workload.service_names());
        let plan = Arc::new(plan);
        let sites = plan.nodes + plan.changes.spares;
        let network = Network::new(sites + actors.len(), plan.weather, rng.fork());
        let bells = Bells::default();
        let machines: Vec<_> =
            (0..sites).map(|site| Machine::new(site, &plan, &network, &bells, &mut rng)).collect();
        Self {
            wires: Wires::new(network.clone(), plan.ways()),
            crew: Crew::new(actors, sites),
            judges: invariants::all(&plan),
            roster: Roster::new(plan.nodes, plan.changes.spares),
            addresses,
            operator: Operator::new(plan.seed),
            plan,
            network,
            machines,
            events: Queue::new(),
            rng,
            volume_at_risk: None,
            has_faults: false,
            bells,
            trace: Trace::new(options.is_loud),
            began_at: now,
            violation: None,
            faults: 0,
            tally: Tally::default(),
            truth,
            seen: Vec::new(),
            notes: Notes::default(),
        }
    }

    /// Lets time pass until then, or until something is wrong.
    pub(crate) async fn run_until(&mut self, end: Instant) {
        loop {
            let now = tokio::time::Instant::now().into_std();
            self.step(now).await;
            if self.violation.is_some() || now >= end {
                return;
            }
            let next = self.next_at(now).map_or(end, |at| at.min(end));
            tokio::select! {
                biased;
                () = self.bells.rung() => {}
                () = tokio::time::sleep_until(next.into()) => {}
            }
        }
    }

    fn next_at(&self, now: Instant) -> Option<Instant> {
        let machines = self.machines.iter();
        let machines = machines
            .flat_map(|machine| [machine.next_at(now), machine.links_next_at(now)])
            .flatten()
            .min();
        let due = [self.events.next_at(), self.wires.next_at(), self.crew.next_at(now), machines];
        due.into_iter().flatten().min()
    }

    /// Everything that is due now, and what follows from it.
    async fn step(&mut self, now: Instant) {
        for round in 0.. {
            assert!(round < ROUNDS_MAX, "seed {}: this never ends", self.plan.seed);
            let mut is_quiet = true;
            while self.violation.is_none()
                && let Some(event) = self.events.pop_due(now)
            {
                self.run_event(now, event);
                is_quiet = false;
            }
            while let Some(delivery) = self.wires.pop_due(now) {
                self.deliver(now, delivery);
                is_quiet = false;
            }
            is_quiet &= !self.run_crew(now);
            is_quiet &= !self.run_machines(now).await;
            if is_quiet || self.violation.is_some() {
                return;
            }
        }
    }

    fn run_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Fault => self.next_fault(now),
            Event::Lose(act) if self.has_faults => {
                self.count_fault();
                self.begin(now, act);
            }
            Event::End(act) if self.has_faults => self.end(now, &act),
            Event::Cut(ways) if self.has_faults => {
                ways.iter().for_each(|(from, to)| self.network.cut(*from, *to));
            }
            Event::Mend(ways) if self.has_faults => {
                ways.iter().for_each(|(from, to)| self.network.mend(*from, *to));
            }
            // Healed already.
            Event::Lose(_) | Event::End(_) | Event::Cut(_) | Event::Mend(_) => {}
            Event::Start { node } => self.start_if_off(now, node),
            Event::Operate => self.operate(now),
            Event::Revive { actor } => self.crew.revive(now, actor),
            Event::Look => {
                self.look(now);
                self.events.push(now + LOOK_INTERVAL, Event::Look);
            }
        }
    }

    fn deliver(&mut self, now: Instant, delivery: Delivery) {
        let digest = match &delivery.arrival {
            Arrival::Opened => 1,
            Arrival::Accepted => 2,
            Arrival::Closed => 3,
            Arrival::Bytes(bytes) => {
                let of = |byte: Option<&u8>| byte.copied().map_or(0, u64::from);
                mix(4, &[bytes.len() as u64, of(bytes.first()), of(bytes.last())])
            }
            Arrival::Writable => 5,
        };
        self.trace.stir(&[delivery.wire.0, delivery.site as u64, digest]);
        self.trace.whisper(self.since(now), || {
            let who = self.who_is_at(delivery.site);
            (who, format!("connection {}: {}", delivery.wire.0, shown(&delivery.arrival)))
        });
        match delivery.site < self.machines.len() {
            true => self.machines[delivery.site].put(now, &mut self.wires, delivery),
            false => self.crew.put(delivery),
        }
    }

    fn who_is_at(&self, site: usize) -> Who {
        match site < self.machines.len() {
            true => Who::Node(site),
            false => Who::Actor(site - self.machines.len()),
        }
    }

    fn run_crew(&mut self, now: Instant) -> bool {
        let mut seen = std::mem::take(&mut self.seen);
        self.crew.run(now, &mut self.wires, &mut seen);
        let any = !seen.is_empty();
        for (actor, observation) in seen.drain(..) {
            self.trace.note(
                now.saturating_duration_since(self.began_at),
                Who::Actor(actor),
                format!("{:?}", observation.event),
            );
            self.tally.take(&observation.event);
            self.judge(now, |judge| judge.on_event(&observation));
        }
        self.seen = seen;
        any
    }

    async fn run_machines(&mut self, now: Instant) -> bool {
        let (rung, links_rung) = self.bells.take();
        let mut any = false;
        for node in 0..self.machines.len() {
            let machine = &mut self.machines[node];
            if links_rung & (1 << node) != 0
                || machine.links_next_at(now).is_some_and(|at| at <= now)
            {
                machine.turn_links(now, &mut self.wires);
                any = true;
            }
            let is_due = rung & (1 << node) != 0
                || self.machines[node].next_at(now).is_some_and(|at| at <= now);
            if !is_due {
                continue;
            }
            any = true;
            let mut notes = std::mem::take(&mut self.notes);
            let turned = {
                let heard = (&mut notes, &mut self.truth);
                self.machines[node].turn(now, &mut self.wires, heard).await
            };
            for line in notes.lines.drain(..) {
                self.note(now, Who::Node(node), line);
            }
            for ended in notes.ended.drain(..) {
                self.on_ended(now, node, ended);
            }
            self.notes = notes;
            self.hear_truth(now);
            self.on_turned(now, node, turned);
        }
        any
    }

    /// What a node gave up.
    fn on_ended(&mut self, now: Instant, node: usize, ended: Ended) {
        match ended {
            Ended::Worker { wire, end } => {
                if let Some(id) = self.crew.registration(wire) {
                    self.observe(now, Seen::WorkerEnded { id, node, end });
                }
            }
            Ended::Link { owner } => {
                let owner = self.machines.iter().position(|machine| machine.name == owner);
                if let Some(owner) = owner {
                    self.observe(now, Seen::LinkEnded { origin: node, owner });
                }
            }
        }
    }

    /// What was agreed on, before anything that follows from it.
    fn hear_truth(&mut self, now: Instant) {
        while let Some(Agreed { index, offered }) = self.truth.poll() {
            self.observe(now, Seen::Agreed { index, offered });
        }
        if let Some(wrong) = self.truth.take_wrong() {
            self.fail(now, "one_log", wrong);
        }
    }

    fn on_turned(&mut self, now: Instant, node: usize, turned: Turned) {
        match turned {
            Turned::Nothing => {}
            Turned::Up => self.observe(now, Seen::NodeStarted { node }),
            Turned::Refused(error) => self.on_refused(now, node, &error),
            Turned::Ended(NodeEnding::Drained(Drained { receipt, .. })) => {
                self.observe(now, Seen::NodeDrained { node, receipt });
                self.start_later(now, node);
            }
            Turned::Ended(NodeEnding::Stopped) => {
                self.fail(now, "no_node_gives_up", "it was told to stop".to_owned());
            }
            Turned::Ended(NodeEnding::Cluster(stop)) => {
                self.observe(now, Seen::NodeStopped { node, reason: stop.to_string() });
                match stop {
                    Stop::Storage { .. } => {}
                    Stop::Removed => self.on_removed(now, node),
                    Stop::Version { .. } => self.on_too_old(now, node, &stop),
                    Stop::Superseded { .. } | Stop::ForeignCluster { .. } | Stop::Fatal { .. } => {
                        self.fail(now, "no_node_gives_up", stop.to_string());
                    }
                }
                self.start_later(now, node);
            }
        }
    }

    /// Only one that an operator removed may be told so.
    fn on_removed(&mut self, now: Instant, node: usize) {
        match self.roster.place(node) {
            Place::Returning => self.roster.set(node, Place::Removed),
            Place::Leaving => {}
            Place::Vacant | Place::Joining | Place::Member | Place::Removed => {
                self.fail(now, "members_stay", format!("node {node} is told that it was removed"));
            }
        }
    }

    /// The cluster's version rose while the node was no member: its operator installs the newer one.
    fn on_too_old(&mut self, now: Instant, node: usize, stop: &Stop) {
        let was_away = self.roster.place(node) != Place::Member;
        if !(was_away && self.truth.has_risen() && self.machines[node].upgrade()) {
            self.fail(now, "no_node_gives_up", stop.to_string());
        }
    }

    /// As docs/operating.md says: a damaged directory is moved away.
    fn on_refused(&mut self, now: Instant, node: usize, error: &StorageError) {
        self.note(now, Who::Node(node), format!("refused to start: {error}"));
        match error {
            StorageError::Corrupt { .. } if self.volume_at_risk == Some(node) => {
                self.machines[node].disk.wipe();
            }
            StorageError::Io { .. } => {}
            StorageError::Corrupt { .. }
            | StorageError::Locked { .. }
            | StorageError::ForeignNode { .. }
            | StorageError::Newer { .. } => {
                self.fail(now, "sound_disks_are_accepted", error.to_string());
            }
        }
        self.start_later(now, node);
    }

    fn start_later(&mut self, now: Instant, node: usize) {
        let delay = self.rng.duration(OPERATOR_DELAY.0, OPERATOR_DELAY.1);
        self.events.push(now + delay, Event::Start { node });
    }

    pub(crate) fn note(&mut self, now: Instant, who: Who, what: String) {
        self.trace.note(now.saturating_duration_since(self.began_at), who, what);
    }

    /// Notes something and tells the judges.
    pub(crate) fn observe(&mut self, now: Instant, event: Seen) {
        self.note(now, Who::World, format!("{event:?}"));
        let observation = Observation::new(now, event);
        self.judge(now, |judge| judge.on_event(&observation));
    }

    fn judge(
        &mut self,
        now: Instant,
        mut ask: impl FnMut(&mut Box<dyn Invariant>) -> Result<(), String>,
    ) {
        let mut judges = std::mem::take(&mut self.judges);
        for judge in &mut judges {
            if let Err(what) = ask(judge) {
                self.fail(now, judge.name(), what);
            }
        }
        self.judges = judges;
    }

    /// The first thing that is wrong counts.
    pub(crate) fn fail(&mut self, now: Instant, invariant: &str, what: String) {
        if self.violation.is_none() {
            self.note(now, Who::World, format!("VIOLATION {invariant}: {what}"));
            self.violation = Some(Violation {
                seed: self.plan.seed,
                step: self.trace.steps(),
                at: self.since(now),
                invariant: invariant.to_owned(),
                what,
                window: self.trace.window(),
            });
        }
    }

    fn since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began_at)
    }
}

fn shown(arrival: &Arrival) -> String {
    match arrival {
        Arrival::Bytes(bytes) => format!("{} bytes: {}", bytes.len(), bytes.escape_ascii()),
        Arrival::Opened | Arrival::Accepted | Arrival::Writable | Arrival::Closed => {
            format!("{arrival:?}")
        }
    }
}
