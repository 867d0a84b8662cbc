//! Services: those that have a worker, here or where requests can be forwarded to, or a request.

use std::collections::{BTreeMap, BTreeSet};

use mdp_wire::{ServiceName, ServiceNameRef, relay::ForwardId};
use slab::Slab;

use crate::{
    Delivery, LinkId, QueryId, ServicePolicy, queue::Queue, time::Moment, worker::WorkerId,
};

/// How many requests may wait at an owner for one of its workers, so that none of them is idle for
/// a journey between two requests; for fewer workers, as many as there are.
const PREFETCH_PER_OWNER_MAX: u32 = 64;

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

/// A node that has, or had, workers for a service, as this node knows it as an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) link: LinkId,
    /// As it said last.
    pub(crate) workers: u32,
    /// As it said last.
    pub(crate) share: u32,
    /// It had no room for one, and has said nothing of the service since.
    pub(crate) is_full: bool,
    /// How many requests it has from here.
    pub(crate) outstanding: u32,
}

impl Owner {
    /// How many more requests would find an idle worker.
    pub(crate) const fn idle(&self) -> u32 {
        if self.is_full { 0 } else { self.share.saturating_sub(self.outstanding) }
    }

    /// How many requests from here must be waiting there.
    const fn excess(&self) -> u32 {
        self.outstanding.saturating_sub(self.share)
    }

    fn may_prefetch(&self) -> bool {
        !self.is_full && self.excess() < self.workers.min(PREFETCH_PER_OWNER_MAX)
    }
}

/// A node whose requests for a service are executed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) link: LinkId,
    /// How many of its requests workers have.
    pub(crate) started: u32,
    /// The capacity that it was told last: workers and share.
    pub(crate) told: (u32, u32),
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
    /// Nodes that requests can be forwarded to, or that have some.
    pub(crate) owners: Vec<Owner>,
    /// Forwarded requests that wait at their owner, as it said, and were not asked back.
    pub(crate) waiting_elsewhere: BTreeSet<(LinkId, ForwardId)>,
    /// How many forwarded requests were asked back and are on their way.
    pub(crate) recalled: usize,
    /// Nodes that were told of capacity, or whose requests workers have.
    pub(crate) origins: Vec<Origin>,
    /// What origins may use may have changed since they were told.
    pub(crate) is_capacity_news: bool,
    /// This node drains, and has sent workers of it away.
    pub(crate) has_sent_away: bool,
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
            owners: Vec::new(),
            waiting_elsewhere: BTreeSet::new(),
            recalled: 0,
            origins: Vec::new(),
            is_capacity_news: false,
            has_sent_away: false,
        }
    }

    pub(crate) fn owner_mut(&mut self, link: LinkId) -> Option<&mut Owner> {
        self.owners.iter_mut().find(|owner| owner.link == link)
    }

    /// Whether another node has workers, and can be reached.
    pub(crate) fn is_served_elsewhere(&self) -> bool {
        self.owners.iter().any(|owner| owner.workers > 0)
    }

    /// Where to forward the next request: to the most idle workers, or else to where the fewest
    /// requests from here wait for each worker. Under at-most-once none is sent ahead: a link that
    /// is lost takes what waits behind it.
    pub(crate) fn best_owner(&self) -> Option<LinkId> {
        let idle = self.owners.iter().filter(|owner| owner.idle() > 0).max_by_key(|o| o.idle());
        let best = idle.or_else(|| match self.policy.delivery {
            Delivery::AtMostOnce => None,
            Delivery::AtLeastOnce => {
                let open = self.owners.iter().filter(|owner| owner.may_prefetch());
                open.min_by_key(|o| u64::from(o.excess()) * 1_024 / u64::from(o.workers.max(1)))
            }
        });
        best.map(|owner| owner.link)
    }

    pub(crate) fn origin_mut(&mut self, link: LinkId) -> Option<&mut Origin> {
        self.origins.iter_mut().find(|origin| origin.link == link)
    }

    /// A worker has got a request of this origin.
    pub(crate) fn count_started(&mut self, link: LinkId) {
        match self.origin_mut(link) {
            Some(origin) => origin.started = origin.started.saturating_add(1),
            None => self.origins.push(Origin { link, started: 1, told: (0, 0) }),
        }
    }

    /// A worker has a request of this origin no more.
    pub(crate) fn count_ended(&mut self, link: LinkId) {
        if let Some(origin) = self.origin_mut(link) {
            origin.started = origin.started.saturating_sub(1);
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
            && self.owners.is_empty()
            && self.origins.is_empty()
            && !self.is_capacity_news
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
