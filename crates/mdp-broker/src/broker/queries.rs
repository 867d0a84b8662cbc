//! The open questions to the cluster, in the order in which they were asked and by their deadlines.

use std::collections::{BTreeMap, BTreeSet};

use super::mmi::Query;
use crate::{QueryId, time::Moment};

/// The open questions. Each kind has its own time, so one that was asked later may be due earlier.
#[derive(Debug)]
pub(super) struct Queries<F> {
    by_id: BTreeMap<QueryId, Query<F>>,
    deadlines: BTreeSet<(Moment, QueryId)>,
    /// When the one timer of all of them is set for.
    timer_at: Option<Moment>,
}

impl<F> Default for Queries<F> {
    fn default() -> Self {
        Self { by_id: BTreeMap::new(), deadlines: BTreeSet::new(), timer_at: None }
    }
}

impl<F> Queries<F> {
    pub(super) fn insert(&mut self, id: QueryId, query: Query<F>) {
        self.deadlines.insert((query.deadline, id));
        self.by_id.insert(id, query);
    }

    pub(super) fn remove(&mut self, id: QueryId) -> Option<Query<F>> {
        let query = self.by_id.remove(&id)?;
        self.deadlines.remove(&(query.deadline, id));
        Some(query)
    }

    /// The next one that has no answer in time.
    pub(super) fn pop_due(&mut self, now: Moment) -> Option<(QueryId, Query<F>)> {
        let (deadline, id) = *self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        Some((id, self.remove(id)?))
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The timer came up.
    pub(super) const fn clear_timer(&mut self) {
        self.timer_at = None;
    }

    /// When the timer must be set for, if it is not set early enough, and where it stood.
    pub(super) fn set_timer(&mut self) -> Option<(Moment, Option<Moment>)> {
        let (due, _) = *self.deadlines.first()?;
        if self.timer_at.is_some_and(|at| at <= due) {
            return None;
        }
        Some((due, self.timer_at.replace(due)))
    }
}
