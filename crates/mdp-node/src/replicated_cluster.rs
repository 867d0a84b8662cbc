//! A cluster of several nodes: the copy of the catalog that answers, and what it waits for.
//!
//! This copy, and no other, is what "applied here" means: what the log brings, and which rounds of
//! reads ended at which index, reach it in one order.

mod agreement;
mod isolation;
mod leaving;
mod reads;

use std::{collections::VecDeque, time::Instant};

use mdp_broker::{Input, LookupOutcome, LookupPurpose, Page, QueryId};
use mdp_catalog::{Catalog, CatalogChange, CatalogEntry, Epoch, Incarnation, NodeName, NodeState};
use mdp_raft::{News, RoundId, Stop};
use mdp_wire::ServiceName;
use tokio::sync::mpsc::Receiver;

pub(crate) use self::{
    agreement::{Agreement, RaftAgreement},
    isolation::IsolationWatch,
};
use self::{
    leaving::Leaving,
    reads::{LookupRefused, Reads},
};
use crate::{
    Consistency, ReadTotals,
    cluster::{Cluster, NewsState, View},
    pages::{self, ClusterFacts},
    relay_link::Peers,
    zeromq::Frame,
};

/// How many pieces of news are taken in one turn of the broker thread.
const NEWS_BATCH_MAX: usize = 64;

/// What a node must know of itself to take part.
#[derive(Debug)]
pub(crate) struct Membership {
    /// Its name.
    pub(crate) node: NodeName,
    /// By what the catalog tells this process from every other one under that name.
    pub(crate) process: u64,
    /// How right `mmi.service` has to be.
    pub(crate) consistency: Consistency,
    /// Whether a long isolation is told to the engine; `None`: nobody wants to know.
    pub(crate) isolation: Option<IsolationWatch>,
}

/// The catalog of a node that has peers.
#[derive(Debug)]
pub(crate) struct ReplicatedCluster<A> {
    agreement: A,
    news: Receiver<News>,
    membership: Membership,
    catalog: Catalog,
    /// The index up to which the catalog was applied; zero: nothing came yet.
    applied: u64,
    /// This process's current life, as far as applied here.
    life: Option<Incarnation>,
    /// The current life of this process, or its last one.
    last_epoch: Option<Epoch>,
    /// Whether the nodes are not those that were told last.
    have_peers_changed: bool,
    reads: Reads,
    leaving: Option<Leaving>,
    stop: Option<Stop>,
    answers: VecDeque<Input<Frame>>,
    started_at: Instant,
}

impl<A: Agreement> ReplicatedCluster<A> {
    /// An empty copy, filled by the feed.
    pub(crate) fn new(
        agreement: A,
        news: Receiver<News>,
        membership: Membership,
        now: Instant,
    ) -> Self {
        Self {
            agreement,
            news,
            membership,
            catalog: Catalog::new(),
            applied: 0,
            life: None,
            last_epoch: None,
            have_peers_changed: false,
            reads: Reads::default(),
            leaving: None,
            stop: None,
            answers: VecDeque::new(),
            started_at: now,
        }
    }

    fn on_news(&mut self, now: Instant, news: News) {
        match news {
            News::Applied { index, entries } => {
                for (index, entry) in entries {
                    self.apply(index, entry);
                }
                self.on_applied(index);
            }
            News::Replaced { index, catalog } => {
                self.replace(*catalog);
                self.on_applied(index);
            }
            News::Read { round, index } => self.on_read(now, round, index),
            News::Stopped(stop) => self.stop = Some(stop),
        }
    }

    fn apply(&mut self, index: u64, entry: CatalogEntry) {
        match self.catalog.apply(index, entry) {
            Ok(change) if is_about_a_life(&change) => self.on_life(change),
            Ok(change) => self.answers.push_back(Input::Committed(change)),
            // Accepted there, refused here: the copies are not the same any more.
            Err(refusal) => {
                tracing::error!(index, %refusal, "this node's copy of the catalog is wrong");
                self.stop = Some(Stop::Fatal {
                    reason: format!("entry {index} was refused by this node's copy: {refusal}"),
                });
            }
        }
    }

    /// A life under this node's name is not always this process's: what the one before, or another
    /// one, says of its life must not look like this engine's own word.
    fn on_life(&mut self, change: CatalogChange) {
        self.have_peers_changed = true;
        let is_under_our_name = match &change {
            CatalogChange::NodeUp { incarnation } | CatalogChange::NodeGone { incarnation } => {
                incarnation.node == self.membership.node
            }
            CatalogChange::Retired { ended, .. } => {
                ended.as_ref().is_some_and(|ended| ended.node == self.membership.node)
            }
            CatalogChange::Offered { .. }
            | CatalogChange::Withdrawn { .. }
            | CatalogChange::NodeDraining { .. }
            | CatalogChange::ClusterVersion { .. } => false,
        };
        if is_under_our_name {
            self.tell_life();
        } else {
            self.answers.push_back(Input::Committed(change));
        }
    }

    /// The engine is told of its own life only; its offers it states again by itself.
    fn replace(&mut self, catalog: Catalog) {
        self.catalog = catalog;
        self.have_peers_changed = true;
        self.tell_life();
    }

    fn tell_life(&mut self) {
        let life = self.current_life();
        let before = std::mem::replace(&mut self.life, life);
        if self.life == before {
            return;
        }
        self.last_epoch = self.life.as_ref().map(|life| life.epoch).or(self.last_epoch);
        let change = match (&self.life, before) {
            (Some(life), _) => CatalogChange::NodeUp { incarnation: life.clone() },
            (None, Some(incarnation)) => CatalogChange::NodeGone { incarnation },
            (None, None) => return,
        };
        self.answers.push_back(Input::Committed(change));
    }

    fn on_applied(&mut self, index: u64) {
        self.applied = self.applied.max(index);
        while let Some(lookups) = self.reads.pop_ready(self.applied) {
            for (query, service) in &lookups {
                let outcome = self.outcome(service);
                self.answers.push_back(Input::LookedUp { query: *query, outcome });
            }
            self.reads.reuse(lookups);
        }
    }

    fn on_read(&mut self, now: Instant, round: RoundId, index: Option<u64>) {
        if let Some(watch) = &mut self.membership.isolation {
            watch.on_read(now, index.is_some());
        }
        match index {
            Some(index) => {
                self.reads.on_index(round, index);
                self.on_applied(0);
            }
            None => {
                let lookups = self.reads.on_no_quorum(round);
                for (query, _) in lookups {
                    self.answers.push_back(without_quorum(query));
                }
            }
        }
    }

    fn outcome(&self, service: &ServiceName) -> LookupOutcome {
        let service = service.as_bytes();
        let here = self.life.as_ref();
        if here.is_some_and(|life| self.catalog.is_offered_by(life, service)) {
            LookupOutcome::OfferedHere
        } else if self.catalog.is_offered(service) {
            LookupOutcome::OfferedElsewhere
        } else {
            LookupOutcome::NotOffered
        }
    }

    fn current_life(&self) -> Option<Incarnation> {
        let node = &self.membership.node;
        let record = self.catalog.node(node)?;
        let is_ours =
            record.boot.process == self.membership.process && record.state != NodeState::Gone;
        is_ours.then(|| Incarnation { node: node.clone(), epoch: record.epoch })
    }

    /// Whether an answer from this copy, as it is, will do.
    fn may_answer_at_once(&self, purpose: LookupPurpose) -> bool {
        match (purpose, self.membership.consistency) {
            // Before anything came, this copy is not old but empty.
            (LookupPurpose::Availability, Consistency::Local) => self.applied > 0,
            (LookupPurpose::Availability, Consistency::Linearizable)
            | (LookupPurpose::Proof, _) => false,
        }
    }
}

fn without_quorum(query: QueryId) -> Input<Frame> {
    Input::LookedUp { query, outcome: LookupOutcome::NoQuorum }
}

const fn is_about_a_life(change: &CatalogChange) -> bool {
    match change {
        CatalogChange::NodeUp { .. }
        | CatalogChange::NodeGone { .. }
        | CatalogChange::Retired { .. } => true,
        CatalogChange::Offered { .. }
        | CatalogChange::Withdrawn { .. }
        | CatalogChange::NodeDraining { .. }
        | CatalogChange::ClusterVersion { .. } => false,
    }
}

/// Whose word an entry is, if it is one that an engine says.
const fn speaker(entry: &CatalogEntry) -> Option<&Incarnation> {
    match entry {
        CatalogEntry::Offer { incarnation, .. }
        | CatalogEntry::Withdraw { incarnation, .. }
        | CatalogEntry::NodeDraining { incarnation, .. }
        | CatalogEntry::NodeGone { incarnation } => Some(incarnation),
        CatalogEntry::NodeUp(_)
        | CatalogEntry::SetClusterVersion { .. }
        | CatalogEntry::Retire { .. } => None,
    }
}

impl<A: Agreement> Cluster for ReplicatedCluster<A> {
    /// What a void life says changes nothing: the engine says it again when it has another.
    fn propose(&mut self, entry: CatalogEntry) {
        if self.life.is_some() && speaker(&entry) == self.life.as_ref() {
            self.agreement.propose(entry);
        }
    }

    fn lookup(&mut self, query: QueryId, service: ServiceName, purpose: LookupPurpose) {
        if self.may_answer_at_once(purpose) {
            let outcome = self.outcome(&service);
            self.reads.count_answered_at_once();
            return self.answers.push_back(Input::LookedUp { query, outcome });
        }
        match self.reads.push(query, service) {
            Ok(()) => {}
            Err(LookupRefused) => self.answers.push_back(without_quorum(query)),
        }
    }

    fn flush(&mut self, now: Instant) {
        if let Some(round) = self.reads.begin_round(now) {
            self.agreement.read(round);
        }
    }

    fn describe(&mut self, query: QueryId, page: Page, view: &View<'_>) {
        let status = self.agreement.status();
        let facts = ClusterFacts {
            node: &self.membership.node,
            catalog: &self.catalog,
            applied_index: self.applied,
            status: Some(&status),
            links: view.links,
        };
        let json = pages::page(page, &facts, view, self.started_at);
        self.answers.push_back(Input::Described { query, json });
    }

    fn read_news(&mut self, now: Instant) -> NewsState {
        for _ in 0..NEWS_BATCH_MAX {
            match self.news.try_recv() {
                Ok(news) => self.on_news(now, news),
                Err(_) => return NewsState::Emptied,
            }
        }
        NewsState::MoreWaits
    }

    fn poll_answer(&mut self) -> Option<Input<Frame>> {
        self.answers.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let leaving = self.leaving.as_ref().and_then(Leaving::poll_timeout);
        let watch = self.membership.isolation.as_ref().map(IsolationWatch::poll_timeout);
        [leaving, watch].into_iter().flatten().min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        if let Some(watch) = &mut self.membership.isolation
            && watch.poll_timeout() <= now
        {
            if watch.on_tick(now) {
                self.answers.push_back(Input::Isolated);
            }
            if let Some(round) = self.reads.begin_probe(now) {
                self.agreement.read(round);
            }
        }
        if let Some(leaving) = &mut self.leaving
            && leaving.wants_proposal(now, self.life.is_some())
            && let Some(incarnation) = self.life.clone()
        {
            self.agreement.propose(CatalogEntry::NodeGone { incarnation });
        }
    }

    fn begin_drain(&mut self, _now: Instant) {
        let handing_over = self.agreement.begin_leaving();
        self.leaving.get_or_insert_with(|| Leaving::new(handing_over));
    }

    fn leave(&mut self, now: Instant) {
        if let Some(leaving) = &mut self.leaving {
            leaving.end(now);
        }
    }

    fn has_left(&self) -> bool {
        self.leaving.as_ref().is_none_or(Leaving::is_over)
    }

    fn leader_moved(&self) -> bool {
        self.leaving.as_ref().is_some_and(Leaving::leader_moved)
    }

    /// Before this process has begun a life, it takes part in nothing.
    fn take_peers(&mut self) -> Option<Peers> {
        if !self.have_peers_changed {
            return None;
        }
        let epoch = self.last_epoch?;
        let cluster = self.agreement.status().cluster_id?;
        self.have_peers_changed = false;
        let others = self.catalog.nodes().filter(|(name, record)| {
            **name != self.membership.node
                && record.state != NodeState::Gone
                && !record.endpoints.relay.is_empty()
        });
        let nodes = others.map(|(name, record)| (name.clone(), record.endpoints.relay.clone()));
        Some(Peers { cluster, epoch, nodes: nodes.collect() })
    }

    fn is_only_offered_by(
        &self,
        service: &ServiceName,
        is_one: &dyn Fn(&NodeName) -> bool,
    ) -> bool {
        let mut nodes = self.catalog.offering(service.as_bytes()).peekable();
        nodes.peek().is_some() && nodes.all(is_one)
    }

    fn take_stop(&mut self) -> Option<Stop> {
        self.stop.take()
    }

    fn applied_index(&self) -> u64 {
        self.applied
    }

    fn read_totals(&self) -> ReadTotals {
        self.reads.totals()
    }
}

#[cfg(test)]
mod tests;
