//! This node as the owner of requests: its workers execute what other nodes forward.
//!
//! A forwarded request takes its place in the round robin as the client that it came from, and is
//! never forwarded again. What comes of it is told to its origin, which decides.

use std::collections::BTreeMap;

use mdp_wire::{
    Frame, ServiceFrame,
    relay::{Capacity, Forward, ForwardId, Load, ReturnCause, ToOrigin, ToOwner},
};

use super::Broker;
use crate::{
    DropReason, Effect, LinkId,
    request::{Arrival, ClientId, Request, Source},
    service::ServiceId,
};

/// A link where this node is the owner.
#[derive(Debug, Default)]
pub(super) struct OriginLink {
    last_id: Option<ForwardId>,
    /// Its requests that no worker has yet.
    pub(super) waiting: BTreeMap<ForwardId, Waiting>,
    newly_waiting: Vec<ForwardId>,
    newly_started: Vec<ForwardId>,
}

/// A forwarded request that waits for a worker.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) service: ServiceId,
    client: u64,
    /// The origin knows that it waits.
    is_told: bool,
}

impl OriginLink {
    /// What the origin is to be told of its requests.
    pub(super) fn take_news(&mut self) -> Load {
        let mut waiting = std::mem::take(&mut self.newly_waiting);
        waiting.retain(|id| match self.waiting.get_mut(id) {
            Some(place) => !std::mem::replace(&mut place.is_told, true),
            None => false,
        });
        let started = std::mem::take(&mut self.newly_started);
        Load { capacity: Vec::<Capacity>::new(), waiting, started }
    }
}

impl<F: Frame> Broker<F> {
    pub(super) fn on_from_origin(&mut self, link: LinkId, message: ToOwner<ServiceFrame<F>, F>) {
        match message {
            ToOwner::Forward(forward) => self.on_forward(link, forward),
            ToOwner::Cancel(id) => self.on_cancel(link, id),
        }
    }

    fn on_forward(&mut self, link: LinkId, forward: Forward<ServiceFrame<F>, F>) {
        self.counters.forwards_received += 1;
        let Some(origin) = self.links.to_origins.get_mut(&link) else {
            return self.counters.drop(DropReason::OriginGone);
        };
        if Some(forward.id) <= origin.last_id {
            return self.counters.drop(DropReason::RepeatedForward);
        }
        origin.last_id = Some(forward.id);
        let service = self.services.id_of(forward.service.as_name());
        let is_served =
            |id: &ServiceId| self.services.find(*id).is_some_and(|s| s.registered_count() > 0);
        let Some(id) = service.filter(is_served).filter(|_| self.drain.is_none()) else {
            return self.return_to_origin(link, forward.id, ReturnCause::NoWorker);
        };
        let arrival = Arrival(self.next_arrival);
        self.next_arrival = self.next_arrival.saturating_add(1);
        let now = self.now();
        let deadline = now.after(forward.ttl);
        let request = Request::forwarded(link, forward, (arrival, now), deadline);
        if self.has_room_for(id, &request) {
            self.totals.bytes = self.totals.bytes.saturating_add(request.bytes);
            self.give_or_queue(id, request);
        } else if let Source::Origin { id: forward, .. } = request.source {
            // It sends no more until it is told something, so it is with the next change.
            if let Some(service) = self.services.find_mut(id) {
                service.forget_told(link);
            }
            self.return_to_origin(link, forward, ReturnCause::NoRoom);
        }
    }

    /// Whether the limits allow one more request of another node. None is shed for it: it can wait
    /// where it came from.
    fn has_room_for(&self, id: ServiceId, request: &Request<F>) -> bool {
        let Some(service) = self.services.find(id) else { return false };
        let bytes = self.totals.bytes.saturating_add(request.bytes);
        let has_queue_room = self.totals.queued_requests < self.settings.max_queued_requests
            && service.queue.len() < service.policy.max_queued_requests;
        bytes <= self.settings.max_queued_bytes && (!service.idle.is_empty() || has_queue_room)
    }

    /// A forwarded request begins to wait.
    pub(super) fn on_forward_waits(&mut self, service: ServiceId, source: &Source) {
        let Source::Origin { link, id, client } = *source else { return };
        if let Some(origin) = self.links.to_origins.get_mut(&link) {
            origin.waiting.insert(id, Waiting { service, client, is_told: false });
            origin.newly_waiting.push(id);
            self.links.has_news = true;
        }
    }

    /// A forwarded request waits no more.
    pub(super) fn on_forward_dequeued(&mut self, source: &Source) {
        let Source::Origin { link, id, .. } = *source else { return };
        let Some(origin) = self.links.to_origins.get_mut(&link) else { return };
        // If it has not started but is returned, the origin hears that first.
        if origin.waiting.remove(&id).is_some_and(|place| place.is_told) {
            origin.newly_started.push(id);
            self.links.has_news = true;
        }
    }

    /// A worker has a request, or has it no more.
    pub(super) fn count_forward_started(&mut self, service: ServiceId, source: &Source) {
        if let Source::Origin { link, .. } = *source
            && let Some(service) = self.services.find_mut(service)
        {
            service.count_started(link);
        }
        self.on_capacity_changed(service);
    }

    pub(super) fn count_forward_ended(&mut self, service: ServiceId, source: &Source) {
        if let Source::Origin { link, .. } = *source
            && let Some(service) = self.services.find_mut(service)
        {
            service.count_ended(link);
            if !self.links.to_origins.contains_key(&link) {
                service.origins.retain(|origin| origin.link != link || origin.started > 0);
            }
        }
        self.on_capacity_changed(service);
    }

    fn on_cancel(&mut self, link: LinkId, id: ForwardId) {
        if let Some(request) = self.take_waiting_forward(link, id) {
            self.totals.bytes = self.totals.bytes.saturating_sub(request.bytes);
            self.return_to_origin(link, id, ReturnCause::Cancelled);
        }
    }

    fn take_waiting_forward(&mut self, link: LinkId, id: ForwardId) -> Option<Box<Request<F>>> {
        let place = self.links.to_origins.get(&link)?.waiting.get(&id)?;
        let (service, client) = (place.service, place.client);
        let asker = ClientId::Elsewhere { origin: link, client };
        let request = self.services.find_mut(service)?.queue.take_forward(&asker, id)?;
        self.count_dequeued(service, &request);
        Some(request)
    }

    /// Nobody here will execute these: their origins find somebody else.
    pub(super) fn return_waiting(&mut self, service: ServiceId) {
        let of_service = |(link, origin): (&LinkId, &OriginLink)| {
            let ids = origin.waiting.iter().filter(|(_, place)| place.service == service);
            ids.map(|(id, _)| (*link, *id)).collect::<Vec<_>>()
        };
        let waiting: Vec<_> = self.links.to_origins.iter().flat_map(of_service).collect();
        for (link, id) in waiting {
            if let Some(request) = self.take_waiting_forward(link, id) {
                self.totals.bytes = self.totals.bytes.saturating_sub(request.bytes);
                self.return_to_origin(link, id, ReturnCause::NoWorker);
            }
        }
    }

    /// Says that there will be no reply from here.
    pub(super) fn return_to_origin(&mut self, link: LinkId, id: ForwardId, cause: ReturnCause) {
        if !self.links.to_origins.contains_key(&link) {
            self.count_dropped_while_draining();
            return self.counters.drop(DropReason::OriginGone);
        }
        if cause.was_handed_over() {
            self.count_dropped_while_draining();
        } else {
            self.count_handed_over_while_draining();
        }
        let message = ToOrigin::Return { id, cause };
        self.effects.push_back(Effect::ToOrigin { link, message });
    }

    /// The origin is gone: what it has waiting is dropped here, for it, or its clients, go
    /// elsewhere; what workers have is finished for nobody.
    pub(super) fn on_origin_lost(&mut self, link: LinkId, origin: OriginLink) {
        for (id, place) in origin.waiting {
            let asker = ClientId::Elsewhere { origin: link, client: place.client };
            let of_service = self.services.find_mut(place.service);
            let taken = of_service.and_then(|service| service.queue.take_forward(&asker, id));
            if let Some(request) = taken {
                self.count_dequeued(place.service, &request);
                self.drop_request(&request, DropReason::OriginGone);
            }
        }
        for id in self.services.ids() {
            if let Some(service) = self.services.find_mut(id) {
                service.origins.retain(|origin| origin.link != link || origin.started > 0);
                if let Some(origin) = service.origin_mut(link) {
                    origin.told = (0, 0);
                }
            }
            self.release_if_unused(id);
        }
    }
}
