//! [`Replica`]: the copy of the catalog that answers, and what it waits for.

mod feed;

use std::{collections::VecDeque, time::Instant};

use mdp_broker::{Input, LookupPurpose, QueryId};
use mdp_catalog::{
    Catalog, CatalogEntry, Epoch, Incarnation, NodeName, NodeState, NodeUp, Refusal,
};
use mdp_raft::{ClusterStatus, News, Stop};
use mdp_wire::ServiceName;
use tokio::sync::mpsc::{self, Receiver};

use self::feed::without_quorum;
use crate::{
    Agreement, Alone, Consistency, IsolationWatch, Membership, Proposed, ReadTotals,
    leaving::Leaving,
    reads::{LookupRefused, Reads},
};

/// How many pieces of news are taken in one turn of its owner.
const NEWS_BATCH_MAX: usize = 64;

/// Whether the news was read until nothing was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewsState {
    /// Nothing waits.
    Emptied,
    /// There is more: come again, but do other things first.
    MoreWaits,
}

/// What links need to know of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers {
    /// The cluster's id.
    pub cluster: String,
    /// The current life of this node, or its last one.
    pub epoch: Epoch,
    /// Every other node that takes part, and where it takes requests.
    pub nodes: Vec<(NodeName, String)>,
}

/// A node's copy of the catalog. `A` is how it agrees with others, `F` a frame of the engine.
#[derive(Debug)]
pub struct Replica<A, F> {
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
    answers: VecDeque<Input<F>>,
    started_at: Instant,
}

impl<F> Replica<Alone, F> {
    /// The catalog of a node without peers, in which it is up.
    ///
    /// # Errors
    /// No catalog takes such a node.
    pub fn alone(up: NodeUp, now: Instant) -> Result<Self, Refusal> {
        let membership = Membership {
            node: up.node.clone(),
            process: up.boot.process,
            consistency: Consistency::Linearizable,
            isolation: None,
        };
        let (_, no_news) = mpsc::channel(1);
        let mut replica = Self::new(Alone, no_news, membership, now);
        replica.begin_own_life(up)?;
        Ok(replica)
    }
}

impl<A: Agreement, F> Replica<A, F> {
    /// An empty copy, filled by the feed.
    pub fn new(agreement: A, news: Receiver<News>, membership: Membership, now: Instant) -> Self {
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

    /// Asks to make an entry true. It may be lost.
    ///
    /// What a void life says changes nothing: the engine says it again when it has another.
    pub fn propose(&mut self, entry: CatalogEntry) {
        if self.life.is_some() && speaker(&entry) == self.life.as_ref() {
            self.agree(entry);
        }
    }

    fn agree(&mut self, entry: CatalogEntry) {
        match self.agreement.propose(entry) {
            Proposed::Sent => {}
            Proposed::Agreed(entry) => self.apply_own(entry),
        }
    }

    /// Asks whether a service is offered, as of a moment after this call.
    pub fn lookup(&mut self, query: QueryId, service: ServiceName, purpose: LookupPurpose) {
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

    /// Sends off the questions that were collected. To be called once in a turn, when all that there
    /// was to read was read; it costs nothing when there are none.
    pub fn flush(&mut self, now: Instant) {
        if let Some(round) = self.reads.begin_round(now) {
            self.agreement.read(round);
        }
    }

    /// Takes what the feed brought, a bounded part of it.
    pub fn read_news(&mut self, now: Instant) -> NewsState {
        for _ in 0..NEWS_BATCH_MAX {
            match self.news.try_recv() {
                Ok(news) => self.on_news(now, news),
                Err(_) => {
                    // The end of this life may be what leaving waits for.
                    self.go_on_leaving(now);
                    return NewsState::Emptied;
                }
            }
        }
        NewsState::MoreWaits
    }

    /// The next answer or piece of news for the engine, in the order in which this copy changed.
    pub fn poll_answer(&mut self) -> Option<Input<F>> {
        self.answers.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let leaving = self.leaving.as_ref().and_then(Leaving::poll_timeout);
        let watch = self.membership.isolation.as_ref().map(IsolationWatch::poll_timeout);
        [leaving, watch].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
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
        self.go_on_leaving(now);
    }

    fn go_on_leaving(&mut self, now: Instant) {
        while let Some(leaving) = &mut self.leaving
            && leaving.wants_proposal(now, self.life.is_some())
            && let Some(incarnation) = self.life.clone()
        {
            self.agree(CatalogEntry::NodeGone { incarnation });
        }
    }

    /// The node leaves on purpose: others should lead.
    pub fn begin_drain(&mut self, _now: Instant) {
        let handing_over = self.agreement.begin_leaving();
        self.leaving.get_or_insert_with(|| Leaving::new(handing_over));
    }

    /// The node has nothing left to do: its life may end, in the catalog too.
    pub fn leave(&mut self, now: Instant) {
        if let Some(leaving) = &mut self.leaving {
            leaving.end(now);
        }
        self.go_on_leaving(now);
    }

    /// Whether that is done, or was given up.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.leaving.as_ref().is_none_or(Leaving::is_over)
    }

    /// Whether the cluster has another leader because this node left.
    #[must_use]
    pub fn leader_moved(&self) -> bool {
        self.leaving.as_ref().is_some_and(Leaving::leader_moved)
    }

    /// Which other nodes there are, once after each change.
    ///
    /// Before this process has begun a life, it takes part in nothing.
    pub fn take_peers(&mut self) -> Option<Peers> {
        if !self.have_peers_changed {
            return None;
        }
        let epoch = self.last_epoch?;
        let cluster = self.agreement.status()?.cluster_id?;
        self.have_peers_changed = false;
        let others = self.catalog.nodes().filter(|(name, record)| {
            **name != self.membership.node
                && record.state != NodeState::Gone
                && !record.endpoints.relay.is_empty()
        });
        let nodes = others.map(|(name, record)| (name.clone(), record.endpoints.relay.clone()));
        Some(Peers { cluster, epoch, nodes: nodes.collect() })
    }

    /// Whether a service is offered, and only by nodes of which this is true.
    #[must_use]
    pub fn is_only_offered_by(
        &self,
        service: &ServiceName,
        is_one: &dyn Fn(&NodeName) -> bool,
    ) -> bool {
        let mut nodes = self.catalog.offering(service.as_bytes()).peekable();
        nodes.peek().is_some() && nodes.all(is_one)
    }

    /// Why this node can not go on, once.
    pub fn take_stop(&mut self) -> Option<Stop> {
        self.stop.take()
    }

    /// The index up to which this copy was applied; zero: nothing came yet.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        self.applied
    }

    /// What the questions came to.
    #[must_use]
    pub fn read_totals(&self) -> ReadTotals {
        self.reads.totals()
    }

    /// What consensus says of the cluster; `None`: there is none.
    #[must_use]
    pub fn status(&self) -> Option<ClusterStatus> {
        self.agreement.status()
    }
}

impl<A: Agreement, F> Replica<A, F> {
    /// Whether an answer from this copy, as it is, will do.
    const fn may_answer_at_once(&self, purpose: LookupPurpose) -> bool {
        match (purpose, self.membership.consistency) {
            _ if A::IS_ALONE => true,
            // Before anything came, this copy is not old but empty.
            (LookupPurpose::Availability, Consistency::Local) => self.applied > 0,
            (LookupPurpose::Availability, Consistency::Linearizable)
            | (LookupPurpose::Proof, _) => false,
        }
    }
}

impl<A, F> Replica<A, F> {
    /// Puts something for the engine behind what waits for it.
    pub fn answer(&mut self, input: Input<F>) {
        self.answers.push_back(input);
    }

    /// This node's name.
    #[must_use]
    pub const fn node(&self) -> &NodeName {
        &self.membership.node
    }

    /// The catalog, as far as applied here.
    #[must_use]
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// This process's current life, as far as applied here.
    #[must_use]
    pub const fn life(&self) -> Option<&Incarnation> {
        self.life.as_ref()
    }

    /// When this copy was made.
    #[must_use]
    pub const fn started_at(&self) -> Instant {
        self.started_at
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
        | CatalogEntry::Retire { .. }
        | CatalogEntry::Hold { .. }
        | CatalogEntry::Mark { .. } => None,
    }
}

#[cfg(test)]
mod tests;
