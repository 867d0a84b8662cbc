//! This node as the origin of requests: they are forwarded to a node that has workers.
//!
//! A forwarded request stays with its origin until its last reply: only the origin dispatches it
//! again and counts attempts.

use std::collections::{BTreeMap, BTreeSet};

use mdp_mutants::{Mutant, is_on};
use mdp_wire::{
    Body, Frame,
    relay::{Capacity, Forward, ForwardId, Load, ReturnCause, ToOrigin, ToOwner},
};

use super::{Broker, requests::HandOver};
use crate::{
    DropReason, Effect, LinkId,
    request::{ClientId, Request},
    service::{Owner, ServiceId},
};

/// A link where this node is the origin.
#[derive(Debug)]
pub(super) struct OwnerLink<F> {
    last_id: u64,
    pub(super) forwarded: BTreeMap<ForwardId, Forwarded<F>>,
}

impl<F> Default for OwnerLink<F> {
    fn default() -> Self {
        Self { last_id: 0, forwarded: BTreeMap::new() }
    }
}

/// A request that another node has.
#[derive(Debug)]
pub(super) struct Forwarded<F> {
    pub(super) service: ServiceId,
    pub(super) request: Box<Request<F>>,
    /// It was asked back, and neither came back nor was said to have started.
    is_recalled: bool,
}

impl<F: Frame> Broker<F> {
    /// Gives a request to another node.
    pub(super) fn forward(&mut self, id: ServiceId, to: LinkId, mut request: Box<Request<F>>) {
        let now = self.now();
        let (Some(service), Some(link)) =
            (self.services.find_mut(id), self.links.to_owners.get_mut(&to))
        else {
            return self.drop_request(&request, DropReason::Expired);
        };
        if let Some(owner) = service.owner_mut(to) {
            owner.outstanding = owner.outstanding.saturating_add(1);
        }
        link.last_id = link.last_id.saturating_add(1);
        let forward_id = ForwardId(link.last_id);
        request.attempts =
            request.attempts.saturating_add(u32::from(!is_on(Mutant::AttemptsNotCounted)));
        let waited = (request.attempts == 1).then(|| now.since(request.arrived_at));
        let forward = Forward {
            id: forward_id,
            client: number_of(&request.client_id()),
            ttl: request.deadline.since(now),
            service: service.name.clone(),
            body: request.body.clone(),
        };
        link.forwarded.insert(forward_id, Forwarded { service: id, request, is_recalled: false });
        self.totals.forwarded_requests += 1;
        self.counters.forwarded += 1;
        if let Some(waited) = waited {
            self.counters.queue_times.observe(waited);
        }
        let message = ToOwner::Forward(forward);
        self.effects.push_back(Effect::ToOwner { link: to, message });
    }

    pub(super) fn on_from_owner(&mut self, link: LinkId, message: ToOrigin<F>) {
        if !self.links.to_owners.contains_key(&link) {
            return;
        }
        match message {
            ToOrigin::Load(load) => self.on_load(link, load),
            ToOrigin::Reply { id, is_last: false, body } => {
                self.on_forwarded_partial(link, id, body);
            }
            ToOrigin::Reply { id, is_last: true, body } => self.on_forwarded_final(link, id, body),
            ToOrigin::Return { id, cause } => self.on_returned(link, id, cause),
        }
    }

    fn on_load(&mut self, link: LinkId, load: Load) {
        for id in load.waiting {
            let of_link = self.links.to_owners.get(&link);
            let Some(forwarded) = of_link.and_then(|of| of.forwarded.get(&id)) else { continue };
            let of_service = forwarded.service;
            if let Some(service) = self.services.find_mut(of_service) {
                service.waiting_elsewhere.insert((link, id));
            }
            self.recall(of_service);
        }
        for id in load.started {
            self.on_started(link, id);
        }
        for capacity in load.capacity {
            self.on_capacity(link, &capacity);
        }
    }

    fn on_started(&mut self, link: LinkId, id: ForwardId) {
        let of_link = self.links.to_owners.get_mut(&link);
        let Some(forwarded) = of_link.and_then(|of| of.forwarded.get_mut(&id)) else { return };
        let was_recalled = std::mem::replace(&mut forwarded.is_recalled, false);
        if let Some(service) = self.services.find_mut(forwarded.service) {
            service.waiting_elsewhere.remove(&(link, id));
            service.recalled = service.recalled.saturating_sub(usize::from(was_recalled));
        }
    }

    fn on_capacity(&mut self, link: LinkId, capacity: &Capacity) {
        let name = capacity.service.as_name();
        let id = match self.services.id_of(name) {
            Some(id) => id,
            None if capacity.workers == 0 => return,
            None => self.services.insert(name, *self.settings.policy_of(name.as_bytes())),
        };
        let Some(service) = self.services.find_mut(id) else { return };
        match service.owner_mut(link) {
            Some(owner) => {
                (owner.workers, owner.share) = (capacity.workers, capacity.share);
                owner.is_full = false;
            }
            None => {
                let (workers, share) = (capacity.workers, capacity.share);
                let owner = Owner { link, workers, share, is_full: false, outstanding: 0 };
                service.owners.push(owner);
            }
        }
        self.forget_idle_owner(id, link);
        self.dispatch(id);
        self.recall(id);
        self.let_last_worker_go(id);
        self.drop_if_hopeless(id);
        self.release_if_unused(id);
    }

    /// An owner that has no workers and no requests from here is none.
    fn forget_idle_owner(&mut self, id: ServiceId, link: LinkId) {
        if let Some(service) = self.services.find_mut(id) {
            let is_left = |o: &Owner| o.link != link || o.workers > 0 || o.outstanding > 0;
            service.owners.retain(is_left);
        }
    }

    /// Asks waiting requests back from their owners when workers elsewhere have nothing to do: the
    /// newest, which would have waited longest.
    pub(super) fn recall(&mut self, id: ServiceId) {
        let Some(service) = self.services.find(id) else { return };
        if service.waiting_elsewhere.is_empty() || !service.queue.is_empty() {
            return;
        }
        let idle_at = |owner: &Owner| usize::try_from(owner.idle()).unwrap_or(usize::MAX);
        let idle_at_owners = service.owners.iter().fold(0, |sum: usize, owner| {
            let has_some_waiting = service.waiting_elsewhere.iter().any(|(l, _)| *l == owner.link);
            // What waits there starts there by itself.
            sum.saturating_add(if has_some_waiting { 0 } else { idle_at(owner) })
        });
        let idle = service.idle.len().saturating_add(idle_at_owners);
        let count = idle.saturating_sub(service.recalled);
        let newest = service.waiting_elsewhere.iter().rev().take(count).copied();
        for (link, forward) in newest.collect::<Vec<_>>() {
            let of_link = self.links.to_owners.get_mut(&link);
            if let Some(forwarded) = of_link.and_then(|of| of.forwarded.get_mut(&forward)) {
                forwarded.is_recalled = true;
            }
            if let Some(service) = self.services.find_mut(id) {
                service.waiting_elsewhere.remove(&(link, forward));
                service.recalled = service.recalled.saturating_add(1);
            }
            self.counters.recalled += 1;
            let message = ToOwner::Cancel(forward);
            self.effects.push_back(Effect::ToOwner { link, message });
            if is_on(Mutant::DoubleDispatch)
                && let Some(forwarded) = self.take_forwarded(link, forward)
            {
                self.take_back(id, forwarded.request, HandOver::Failed);
            }
        }
    }

    /// Takes the request from its owner, as far as this node is concerned.
    fn take_forwarded(&mut self, link: LinkId, id: ForwardId) -> Option<Forwarded<F>> {
        let forwarded = self.links.to_owners.get_mut(&link)?.forwarded.remove(&id)?;
        self.on_forwarded_ended(link, id, &forwarded);
        Some(forwarded)
    }

    /// Keeps the sums when another node has a request no more.
    fn on_forwarded_ended(&mut self, link: LinkId, id: ForwardId, forwarded: &Forwarded<F>) {
        self.totals.forwarded_requests = self.totals.forwarded_requests.saturating_sub(1);
        let Some(service) = self.services.find_mut(forwarded.service) else { return };
        service.waiting_elsewhere.remove(&(link, id));
        service.recalled = service.recalled.saturating_sub(usize::from(forwarded.is_recalled));
        if let Some(owner) = service.owner_mut(link) {
            owner.outstanding = owner.outstanding.saturating_sub(1);
        }
    }

    fn on_forwarded_partial(&mut self, link: LinkId, id: ForwardId, body: Body<F>) {
        let of_link = self.links.to_owners.get_mut(&link);
        let Some(forwarded) = of_link.and_then(|of| of.forwarded.get_mut(&id)) else {
            return self.counters.drop(DropReason::LateReply);
        };
        let service = forwarded.service;
        let request = &mut forwarded.request;
        let passed = self.totals.pass_partial(request, body, &self.settings);
        match passed {
            Ok(reply) => self.send_partial(service, reply),
            // Its owner goes on for nobody; what it says of it from here on is late.
            Err(reason) => {
                if let Some(forwarded) = self.take_forwarded(link, id) {
                    self.drop_request(&forwarded.request, reason);
                    self.on_forwarded_room(link, service);
                }
            }
        }
    }

    fn on_forwarded_final(&mut self, link: LinkId, id: ForwardId, body: Body<F>) {
        let Some(forwarded) = self.take_forwarded(link, id) else {
            return self.counters.drop(DropReason::LateReply);
        };
        self.count_handed_over_while_draining();
        self.finish_request(forwarded.service, *forwarded.request, body);
        self.on_forwarded_room(link, forwarded.service);
    }

    fn on_returned(&mut self, link: LinkId, id: ForwardId, cause: ReturnCause) {
        let Some(forwarded) = self.take_forwarded(link, id) else {
            return self.counters.drop(DropReason::LateReply);
        };
        let service = forwarded.service;
        if let Some(owner) =
            self.services.find_mut(service).and_then(|service| service.owner_mut(link))
        {
            match cause {
                // No more of it until the owner says what it has.
                ReturnCause::NoWorker => (owner.workers, owner.share) = (0, 0),
                ReturnCause::NoRoom => owner.is_full = true,
                ReturnCause::Cancelled | ReturnCause::Expired | ReturnCause::WorkerLost => {}
            }
        }
        let hand_over = if cause.was_handed_over() {
            HandOver::Possible
        } else {
            self.counters.returned += 1;
            HandOver::Failed
        };
        self.take_back(service, forwarded.request, hand_over);
        self.on_forwarded_room(link, service);
    }

    /// An owner has room for one more, or nothing from here any more.
    fn on_forwarded_room(&mut self, link: LinkId, service: ServiceId) {
        self.forget_idle_owner(service, link);
        self.dispatch(service);
        self.drop_if_hopeless(service);
        self.release_if_unused(service);
    }

    /// Forgets every request that another node has: this node leaves, and takes no more replies.
    pub(super) fn drop_forwarded(&mut self, reason: DropReason) {
        let ids_of = |(link, owner): (&LinkId, &OwnerLink<F>)| {
            owner.forwarded.keys().map(|id| (*link, *id)).collect::<Vec<_>>()
        };
        let all: Vec<_> = self.links.to_owners.iter().flat_map(ids_of).collect();
        for (link, id) in all {
            if let Some(forwarded) = self.take_forwarded(link, id) {
                self.drop_request(&forwarded.request, reason);
                self.forget_idle_owner(forwarded.service, link);
                self.release_if_unused(forwarded.service);
            }
        }
    }

    /// The link is lost, and whatever was not certainly unsent may have been executed.
    pub(super) fn on_owner_lost(
        &mut self,
        link: LinkId,
        owner: OwnerLink<F>,
        unsent: &BTreeSet<ForwardId>,
    ) {
        let mut of_owner = Vec::new();
        for id in self.services.ids() {
            let Some(service) = self.services.find_mut(id) else { continue };
            if let Some(owner) = service.owner_mut(link) {
                // Nothing more of it. It stays until the last of its requests is taken back, for a
                // service without owners may be forgotten when the first of them is dropped.
                (owner.workers, owner.share) = (0, 0);
                of_owner.push(id);
            }
        }
        for (forward, forwarded) in owner.forwarded {
            self.on_forwarded_ended(link, forward, &forwarded);
            if is_on(Mutant::LinkLossIgnored) {
                self.totals.bytes = self.totals.bytes.saturating_sub(forwarded.request.bytes);
                continue;
            }
            let is_unsent = unsent.contains(&forward);
            let hand_over = if is_unsent { HandOver::Failed } else { HandOver::Possible };
            self.take_back(forwarded.service, forwarded.request, hand_over);
        }
        for id in of_owner {
            self.forget_idle_owner(id, link);
            self.drop_if_hopeless(id);
            self.release_if_unused(id);
        }
    }
}

/// A number that tells this node's clients apart at an owner; two that share one share a line.
fn number_of(asker: &ClientId) -> u64 {
    match asker {
        ClientId::Here(peer) => {
            let mix =
                |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
            peer.bytes().iter().fold(0xcbf2_9ce4_8422_2325, mix)
        }
        ClientId::Elsewhere { client, .. } => *client,
    }
}
