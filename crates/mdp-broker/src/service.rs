//! Services: those that have a local worker or a waiting request, and no others.

use std::collections::{BTreeMap, BTreeSet};

use mdp_wire::{ServiceName, ServiceNameRef};
use slab::Slab;

use crate::{QueryId, ServicePolicy, queue::Queue, time::Moment, worker::WorkerId};

/// Names a service while it is known; reused later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServiceId(usize);

/// What the catalog holds of this node's offer, as far as this node can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OfferState {
    /// It is not offered by this incarnation.
    Absent,
    /// It is offered by this incarnation.
    Offered,
    /// A proposal got lost, or its answer did: nothing is trusted until the next one is applied.
    Unknown,
}

/// One service.
#[derive(Debug)]
pub(crate) struct Service<F> {
    pub(crate) name: ServiceName,
    pub(crate) policy: ServicePolicy,
    pub(crate) queue: Queue<F>,
    /// Idle workers, the longest idle first (MDP7-03: least recently used).
    pub(crate) idle: BTreeMap<u64, WorkerId>,
    /// Workers whose registration is not proven yet.
    pub(crate) registering: BTreeSet<WorkerId>,
    /// All its workers: registering, idle and busy.
    pub(crate) worker_count: usize,
    pub(crate) offer: OfferState,
    /// The proposal in flight speaks of it.
    pub(crate) is_in_flight: bool,
    /// The open look-up that will prove registrations.
    pub(crate) proof: Option<QueryId>,
    /// When to ask for a proof again.
    pub(crate) proof_retry_at: Option<Moment>,
    /// Its entry in the timer table.
    pub(crate) timer_at: Option<Moment>,
}

impl<F> Service<F> {
    fn new(name: ServiceName, policy: ServicePolicy) -> Self {
        Self {
            name,
            policy,
            queue: Queue::default(),
            idle: BTreeMap::new(),
            registering: BTreeSet::new(),
            worker_count: 0,
            offer: OfferState::Absent,
            is_in_flight: false,
            proof: None,
            proof_retry_at: None,
            timer_at: None,
        }
    }

    /// Workers that can be given work, now or after their current request.
    pub(crate) fn registered_count(&self) -> usize {
        self.worker_count.saturating_sub(self.registering.len())
    }

    /// Whether the catalog has to be told something.
    pub(crate) fn needs_proposal(&self) -> bool {
        match (self.worker_count > 0, self.offer) {
            (true, OfferState::Offered) | (false, OfferState::Absent) => false,
            (true, OfferState::Absent | OfferState::Unknown)
            | (false, OfferState::Offered | OfferState::Unknown) => true,
        }
    }

    /// Whether nothing is left that it would be remembered for.
    pub(crate) fn is_unused(&self) -> bool {
        self.worker_count == 0
            && self.queue.is_empty()
            && self.offer == OfferState::Absent
            && !self.is_in_flight
    }
}

/// All known services.
#[derive(Debug)]
pub(crate) struct Services<F> {
    by_id: Slab<Service<F>>,
    id_by_name: BTreeMap<ServiceName, ServiceId>,
}

impl<F> Default for Services<F> {
    fn default() -> Self {
        Self { by_id: Slab::new(), id_by_name: BTreeMap::new() }
    }
}

impl<F> Services<F> {
    pub(crate) fn insert(&mut self, name: ServiceNameRef<'_>, policy: ServicePolicy) -> ServiceId {
        let name = name.to_owned();
        let id = ServiceId(self.by_id.insert(Service::new(name.clone(), policy)));
        self.id_by_name.insert(name, id);
        id
    }

    pub(crate) fn remove(&mut self, id: ServiceId) -> Option<Service<F>> {
        let service = self.by_id.try_remove(id.0)?;
        self.id_by_name.remove(service.name.as_bytes());
        Some(service)
    }

    pub(crate) fn id_of(&self, name: ServiceNameRef<'_>) -> Option<ServiceId> {
        self.id_by_name.get(name.as_bytes()).copied()
    }

    pub(crate) fn find(&self, id: ServiceId) -> Option<&Service<F>> {
        self.by_id.get(id.0)
    }

    pub(crate) fn find_mut(&mut self, id: ServiceId) -> Option<&mut Service<F>> {
        self.by_id.get_mut(id.0)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn ids(&self) -> Vec<ServiceId> {
        self.id_by_name.values().copied().collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ServiceId, &Service<F>)> {
        self.id_by_name.values().filter_map(|id| Some((*id, self.by_id.get(id.0)?)))
    }
}
