//! What the feed brings, applied in one order: the catalog, this node's life, the rounds that ended.

use std::time::Instant;

use mdp_broker::{Input, LookupOutcome, QueryId};
use mdp_catalog::{Catalog, CatalogChange, CatalogEntry, Incarnation, NodeState, NodeUp, Refusal};
use mdp_raft::{News, RoundId, Stop};
use mdp_wire::ServiceName;

use super::Replica;

impl<A, F> Replica<A, F> {
    pub(super) fn on_news(&mut self, now: Instant, news: News) {
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
            Ok(change) => self.on_change(change),
            // Accepted there, refused here: the copies are not the same any more.
            Err(refusal) => {
                tracing::error!(index, %refusal, "this node's copy of the catalog is wrong");
                self.stop = Some(Stop::Fatal {
                    reason: format!("entry {index} was refused by this node's copy: {refusal}"),
                });
            }
        }
    }

    /// Begins the only life of a node without peers.
    pub(super) fn begin_own_life(&mut self, up: NodeUp) -> Result<(), Refusal> {
        let index = self.applied.saturating_add(1);
        let change = self.catalog.apply(index, CatalogEntry::NodeUp(up))?;
        self.on_change(change);
        self.on_applied(index);
        Ok(())
    }

    /// Applies what a node without peers agreed on with itself.
    pub(super) fn apply_own(&mut self, entry: CatalogEntry) {
        let index = self.applied.saturating_add(1);
        match self.catalog.apply(index, entry) {
            Ok(change) => {
                self.on_change(change);
                self.on_applied(index);
            }
            // Harmless: a repeated or outdated word changes nothing.
            Err(refusal) => tracing::debug!(%refusal, "the catalog refused an entry"),
        }
    }

    fn on_change(&mut self, change: CatalogChange) {
        if is_about_a_life(&change) {
            self.on_life(change);
        } else {
            self.answers.push_back(Input::Committed(change));
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
            | CatalogChange::ClusterVersion { .. }
            | CatalogChange::Held { .. }
            | CatalogChange::Marked => false,
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

    pub(super) fn outcome(&self, service: &ServiceName) -> LookupOutcome {
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
}

pub(super) fn without_quorum<F>(query: QueryId) -> Input<F> {
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
        | CatalogChange::ClusterVersion { .. }
        | CatalogChange::Held { .. }
        | CatalogChange::Marked => false,
    }
}
