//! Local workers: one entry per connection, from READY to the end of the registration.

use std::collections::{BTreeMap, BTreeSet};

use mdp_catalog::Seq;
use mdp_wire::{Token, Version};
use slab::Slab;

use crate::{PeerId, QueryId, Subject, request::Request, service::ServiceId, time::Moment};

/// Names a worker while it is registered or registering; reused later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WorkerId(usize);

/// What a worker does.
#[derive(Debug)]
pub(crate) enum WorkerState<F> {
    /// Its registration is not proven; it is sent nothing but DISCONNECT.
    Registering {
        /// An applied offer proves it if its `seq` is at least this.
        proven_by_seq: Seq,
        /// A look-up proves it if its id is at least this.
        proven_by_query: QueryId,
    },
    /// It waits for work. Workers of a service are used in this order, the longest idle first.
    Idle {
        /// When it became idle, counted over all workers.
        order: u64,
    },
    /// It has one request.
    Busy {
        /// What only this worker may answer.
        token: Token,
        /// The request, kept to be given to another worker.
        request: Box<Request<F>>,
        /// When it was handed over.
        since: Moment,
    },
}

/// One worker.
#[derive(Debug)]
pub(crate) struct Worker<F> {
    pub(crate) peer: PeerId,
    /// Who it is.
    pub(crate) subject: Subject,
    pub(crate) version: Version,
    pub(crate) service: ServiceId,
    pub(crate) state: WorkerState<F>,
    pub(crate) last_heard: Moment,
    pub(crate) last_sent: Moment,
    /// It is known to heartbeat while it works, so its silence means something then too (AM-08).
    pub(crate) heartbeats_while_busy: bool,
    /// Its replies lack the empty frame behind the address, and that was noted (AM-21).
    pub(crate) is_undelimited: bool,
    /// Its entry in the timer table.
    pub(crate) timer_at: Moment,
}

impl<F> Worker<F> {
    /// Whether it has a request.
    pub(crate) const fn is_busy(&self) -> bool {
        match self.state {
            WorkerState::Busy { .. } => true,
            WorkerState::Registering { .. } | WorkerState::Idle { .. } => false,
        }
    }
}

/// All local workers.
#[derive(Debug)]
pub(crate) struct Workers<F> {
    by_id: Slab<Worker<F>>,
    id_by_peer: BTreeMap<PeerId, WorkerId>,
}

impl<F> Default for Workers<F> {
    fn default() -> Self {
        Self { by_id: Slab::new(), id_by_peer: BTreeMap::new() }
    }
}

impl<F> Workers<F> {
    pub(crate) fn insert(&mut self, worker: Worker<F>) -> WorkerId {
        let peer = worker.peer.clone();
        let id = WorkerId(self.by_id.insert(worker));
        self.id_by_peer.insert(peer, id);
        id
    }

    pub(crate) fn remove(&mut self, id: WorkerId) -> Option<Worker<F>> {
        let worker = self.by_id.try_remove(id.0)?;
        self.id_by_peer.remove(&worker.peer);
        Some(worker)
    }

    pub(crate) fn id_of(&self, peer: &PeerId) -> Option<WorkerId> {
        self.id_by_peer.get(peer).copied()
    }

    pub(crate) fn find(&self, id: WorkerId) -> Option<&Worker<F>> {
        self.by_id.get(id.0)
    }

    pub(crate) fn find_mut(&mut self, id: WorkerId) -> Option<&mut Worker<F>> {
        self.by_id.get_mut(id.0)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn ids(&self) -> BTreeSet<WorkerId> {
        self.by_id.iter().map(|(id, _)| WorkerId(id)).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (WorkerId, &Worker<F>)> {
        self.by_id.iter().map(|(id, worker)| (WorkerId(id), worker))
    }
}
