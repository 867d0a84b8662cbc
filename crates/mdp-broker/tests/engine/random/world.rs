//! One engine, its peers and its cluster; every step is shown to the model.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use mdp_broker::{
    Broker, Counters, Delivery, Effect, Gauges, Input, LookupOutcome, Minority, QueryId, Seed,
    ServicePolicy, ServiceRule, Settings,
};
use mdp_catalog::{Catalog, CatalogEntry, Epoch, Incarnation, NodeName};
use mdp_wire::{DecodeLimits, ServiceName};

use super::{model::Model, op::Op, peers::Peers};
use crate::support::{Bytes, Cluster, any_instant, node_up};

/// Small limits, so that all of them are reached; several policies.
pub(super) fn settings() -> Settings {
    let service = ServicePolicy {
        request_ttl: Duration::from_secs(10),
        busy_timeout: Duration::from_secs(20),
        max_attempts: 2,
        max_queued_requests: 6,
        ..ServicePolicy::default()
    };
    let rule = |pattern: &str, policy| ServiceRule { pattern: pattern.as_bytes().to_vec(), policy };
    let once = ServicePolicy { delivery: Delivery::AtMostOnce, ..service };
    let now = ServicePolicy { request_ttl: Duration::ZERO, ..service };
    let quick = ServicePolicy {
        busy_timeout: Duration::from_secs(1),
        heartbeat_interval: Duration::from_secs(1),
        max_attempts: 3,
        ..service
    };
    Settings {
        service,
        rules: vec![rule("once*", once), rule("now", now), rule("qui*ck", quick)],
        max_queued_requests: 12,
        max_queued_requests_per_client: 5,
        max_queued_bytes: 12_000,
        max_services: 5,
        max_workers: 8,
        minority: Minority::Fail,
        decode: DecodeLimits { message_bytes_max: 100, frames_max: 4, envelope_frames_max: 8 },
        ..Settings::default()
    }
}

/// The engine and everything around it.
pub(super) struct World {
    broker: Broker<Bytes>,
    model: Model,
    peers: Peers,
    now: Instant,
    cluster: Cluster,
    catalog: Catalog,
    incarnation: Incarnation,
    log_index: u64,
    /// What the cluster was told and asked, and has not taken up.
    pending: VecDeque<Effect<Bytes>>,
    asked: BTreeMap<QueryId, ServiceName>,
    /// The cluster takes this life of the node for over.
    is_gone: bool,
    is_drained: bool,
}

impl World {
    pub(super) fn new(settings: Settings) -> Self {
        let now = any_instant();
        let node: NodeName = "node-1".parse().unwrap();
        let incarnation = Incarnation { node, epoch: Epoch(0) };
        let mut catalog = Catalog::new();
        let incarnation = begin_life(&mut catalog, 1, &incarnation);
        Self {
            broker: Broker::new(incarnation.clone(), settings.clone(), Seed([7; 32]), now),
            model: Model::new(settings, now),
            peers: Peers::default(),
            now,
            cluster: Cluster::Answers,
            catalog,
            incarnation,
            log_index: 1,
            pending: VecDeque::new(),
            asked: BTreeMap::new(),
            is_gone: false,
            is_drained: false,
        }
    }

    pub(super) fn counters(&self) -> &Counters {
        self.broker.counters()
    }

    pub(super) fn ends(&self) -> impl Iterator<Item = &'static str> {
        self.model.ends.iter().copied()
    }

    /// Lets one thing happen, and all that follows from it.
    pub(super) fn run(&mut self, op: Op) -> Result<(), String> {
        if self.is_drained {
            return Ok(());
        }
        match op {
            Op::Wait { milliseconds } => self.wait(Duration::from_millis(milliseconds.into()))?,
            Op::Lag { milliseconds } => self.now += Duration::from_millis(milliseconds.into()),
            Op::Late { milliseconds } => {
                self.now += Duration::from_millis(milliseconds.into());
                self.time_out()?;
            }
            Op::Pause { seconds } => {
                self.now += Duration::from_secs(seconds.into());
                self.time_out()?;
            }
            Op::Drain { milliseconds } => {
                let deadline = self.now + Duration::from_millis(milliseconds.into());
                self.take(Input::Drain { deadline })?;
            }
            Op::Cluster(cluster) => self.cluster = cluster,
            Op::Release { count } => self.release(count.into())?,
            Op::Forget => self.pending.clear(),
            Op::AnswerAgain { pick } => self.answer_again(pick.into())?,
            Op::NewLife => self.begin_new_life()?,
            Op::Isolate => self.take(Input::Isolated)?,
            Op::Gone => {
                let incarnation = self.incarnation.clone();
                self.is_gone = true;
                self.apply(CatalogEntry::NodeGone { incarnation })?;
            }
            Op::Ready { .. }
            | Op::Request { .. }
            | Op::Mmi { .. }
            | Op::Answer { .. }
            | Op::Misanswer { .. }
            | Op::Say { .. }
            | Op::Storm { .. }
            | Op::Heartbeats
            | Op::Malformed { .. }
            | Op::Lose { .. } => {
                for input in self.peers.inputs(&op, &self.model) {
                    self.take(input)?;
                }
            }
        }
        self.settle()
    }

    /// In the end the cluster answers, and what it holds becomes what there is.
    fn converge(&mut self) -> Result<(), String> {
        self.cluster = Cluster::Answers;
        if self.is_gone {
            self.begin_new_life()?;
        }
        self.settle()?;
        // Longer than a lost proposal or look-up takes to be noticed.
        self.wait(Duration::from_millis(2_300))?;
        if self.is_drained {
            return Ok(());
        }
        let offered: BTreeSet<ServiceName> =
            self.catalog.services().map(|(name, _)| name.clone()).collect();
        self.model.check_converged(&offered)
    }

    /// Then all workers go, and all waiting is over: nothing is left.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        if self.is_drained {
            return Ok(());
        }
        self.converge()?;
        for peer in self.model.worker_peers() {
            self.take(Input::PeerLost { peer, unsent: None })?;
            self.settle()?;
        }
        self.wait(Duration::from_secs(30))?;
        self.settle()?;
        if self.is_drained {
            return Ok(());
        }
        self.model.check_over()?;
        match (self.broker.gauges(), self.broker.poll_timeout()) {
            (gauges, None) if gauges == Gauges::default() => Ok(()),
            (gauges, due) => Err(format!("something is left: {gauges:?}, timer {due:?}")),
        }
    }

    fn take(&mut self, input: Input<Bytes>) -> Result<(), String> {
        self.model.before_input(&self.broker, self.now, &input)?;
        self.broker.handle_input(self.now, input);
        self.look()
    }

    fn time_out(&mut self) -> Result<(), String> {
        self.model.before_timeout(&self.broker, self.now);
        self.broker.handle_timeout(self.now);
        self.look()?;
        self.model.check_in_time()?;
        match self.broker.poll_timeout() {
            Some(due) if due <= self.now => Err("a timer is due after all were handled".to_owned()),
            Some(_) | None => Ok(()),
        }
    }

    fn wait(&mut self, duration: Duration) -> Result<(), String> {
        let until = self.now + duration;
        while let Some(due) = self.broker.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.time_out()?;
            self.settle()?;
            if self.is_drained {
                return Ok(());
            }
        }
        self.now = until;
        Ok(())
    }

    /// Shows the effects to the model, and questions to the cluster.
    fn look(&mut self) -> Result<(), String> {
        let mut effects = Vec::new();
        while let Some(effect) = self.broker.poll_effect() {
            effects.push(effect);
        }
        self.model.after(&self.broker, &effects)?;
        for effect in effects {
            match effect {
                Effect::Lookup { query, ref service, .. } => {
                    self.asked.insert(query, service.clone());
                    self.pending.push_back(effect);
                }
                Effect::Propose(_) | Effect::Describe { .. } => self.pending.push_back(effect),
                Effect::Drained(_) => self.is_drained = true,
                Effect::Send { .. }
                | Effect::ToOwner { .. }
                | Effect::ToOrigin { .. }
                | Effect::Note(_) => {}
            }
        }
        Ok(())
    }

    /// The cluster takes up what it was told and asked, as it behaves at the moment.
    fn settle(&mut self) -> Result<(), String> {
        while self.cluster != Cluster::Withholds {
            let Some(question) = self.pending.pop_front() else { return Ok(()) };
            match (self.cluster, question) {
                (Cluster::Answers, question) => self.answer(question)?,
                (_, Effect::Lookup { query, .. } | Effect::Describe { query, .. }) => {
                    self.take(Input::LookedUp { query, outcome: LookupOutcome::NoQuorum })?;
                }
                (_, _) => {}
            }
        }
        Ok(())
    }

    fn release(&mut self, count: usize) -> Result<(), String> {
        for _ in 0..count {
            let Some(question) = self.pending.pop_front() else { return Ok(()) };
            self.answer(question)?;
        }
        Ok(())
    }

    fn answer(&mut self, question: Effect<Bytes>) -> Result<(), String> {
        match question {
            Effect::Propose(entry) => self.apply(entry),
            Effect::Lookup { query, service, .. } => {
                let outcome = self.outcome_of(&service);
                self.take(Input::LookedUp { query, outcome })
            }
            Effect::Describe { query, .. } => {
                self.take(Input::Described { query, json: b"{}".to_vec() })
            }
            Effect::Send { .. }
            | Effect::ToOwner { .. }
            | Effect::ToOrigin { .. }
            | Effect::Note(_)
            | Effect::Drained(_) => Ok(()),
        }
    }

    fn answer_again(&mut self, pick: usize) -> Result<(), String> {
        let count = self.asked.len().max(1);
        let Some((query, service)) = self.asked.iter().nth(pick % count) else { return Ok(()) };
        let (query, outcome) = (*query, self.outcome_of(service));
        self.take(Input::LookedUp { query, outcome })
    }

    fn outcome_of(&self, service: &ServiceName) -> LookupOutcome {
        if self.catalog.is_offered_by(&self.incarnation, service.as_bytes()) {
            LookupOutcome::OfferedHere
        } else {
            LookupOutcome::NotOffered
        }
    }

    fn apply(&mut self, entry: CatalogEntry) -> Result<(), String> {
        self.log_index += 1;
        match self.catalog.apply(self.log_index, entry) {
            Ok(change) => self.take(Input::Committed(change)),
            Err(_) => Ok(()),
        }
    }

    fn begin_new_life(&mut self) -> Result<(), String> {
        self.log_index += 1;
        self.is_gone = false;
        self.incarnation = begin_life(&mut self.catalog, self.log_index, &self.incarnation);
        let incarnation = self.incarnation.clone();
        self.take(Input::Committed(mdp_catalog::CatalogChange::NodeUp { incarnation }))
    }
}

fn begin_life(catalog: &mut Catalog, index: u64, old: &Incarnation) -> Incarnation {
    let node = old.node.clone();
    catalog.apply(index, node_up(&node, old.epoch)).unwrap();
    Incarnation { node, epoch: Epoch(index) }
}
