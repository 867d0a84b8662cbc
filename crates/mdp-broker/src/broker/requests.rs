//! Client requests: admission, queueing, hand-over to workers, replies.

use mdp_wire::{
    Body, Frame, ServiceFrame, Token, Version,
    client::{self, Reply, ReplyCommand},
    worker::FromBroker,
};

use super::Broker;
use crate::{
    Delivery, DropReason, Effect, Outgoing, PeerId,
    request::{Arrival, Request},
    service::ServiceId,
    worker::{WorkerId, WorkerState},
};

/// How many waiting requests may be shed to make room for one.
const SHED_PER_REQUEST_MAX: usize = 64;

/// How many waiting requests may keep receive buffers of the transport alive (18 KiB each at
/// worst). Beyond that small frames are copied, so that memory follows the byte budget.
const ATTACHED_REQUESTS_MAX: usize = 1_024;

/// Whether a request was certainly not handed to the worker that is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandOver {
    /// It was, or may have been.
    Possible,
    /// The send failed.
    Failed,
}

impl<F: Frame> Broker<F> {
    pub(super) fn on_request(
        &mut self,
        from: PeerId,
        message: client::Request<ServiceFrame<F>, F>,
    ) {
        // MMI8-02: the broker itself answers the whole namespace, whatever its state.
        if message.service.as_name().is_reserved() {
            return self.on_mmi_request(from, message);
        }
        self.counters.requests += 1;
        if self.drain.is_some() {
            return self.counters.drop(DropReason::Draining);
        }
        let name = message.service.as_name();
        let known = self.services.id_of(name);
        let id = match known {
            Some(id) => id,
            None if self.services.len() >= self.settings.max_services => {
                return self.counters.drop(DropReason::TooManyServices);
            }
            None => self.services.insert(name, *self.settings.policy_of(name.as_bytes())),
        };
        let Some(service) = self.services.find(id) else { return };
        let (ttl, has_idle) = (service.policy.request_ttl, !service.idle.is_empty());
        let arrival = Arrival(self.next_arrival);
        self.next_arrival = self.next_arrival.saturating_add(1);
        let request = Request::new(from, message, arrival, self.now().after(ttl));
        let admitted = if has_idle || !ttl.is_zero() {
            self.admit(id, &request, has_idle)
        } else {
            Err(DropReason::Expired)
        };
        match admitted {
            Ok(()) => {
                self.totals.bytes = self.totals.bytes.saturating_add(request.bytes);
                self.give_or_queue(id, request);
            }
            Err(reason) => {
                self.counters.drop(reason);
                self.release_if_unused(id);
            }
        }
    }

    /// Whether the limits allow one more request. The byte budget may be made room in.
    fn admit(
        &mut self,
        id: ServiceId,
        request: &Request<F>,
        has_idle: bool,
    ) -> Result<(), DropReason> {
        if !has_idle {
            let Some(service) = self.services.find(id) else { return Ok(()) };
            let of_client = self.clients.find(&request.client).map_or(0, |entry| entry.requests);
            if of_client >= self.settings.max_queued_requests_per_client {
                return Err(DropReason::ClientQueueFull);
            }
            if service.queue.len() >= service.policy.max_queued_requests {
                return Err(DropReason::ServiceQueueFull);
            }
            if self.totals.queued_requests >= self.settings.max_queued_requests {
                return self.make_room(id, request, DropReason::QueueFull);
            }
        }
        if self.totals.bytes.saturating_add(request.bytes) > self.settings.max_queued_bytes {
            return self.make_room(id, request, DropReason::Shed);
        }
        Ok(())
    }

    /// Sheds the newest requests of the client that has the most waiting, until this one fits.
    /// A client that has the most itself gets no room.
    fn make_room(
        &mut self,
        id: ServiceId,
        request: &Request<F>,
        full: DropReason,
    ) -> Result<(), DropReason> {
        for _ in 0..SHED_PER_REQUEST_MAX {
            let bytes = self.totals.bytes.saturating_add(request.bytes);
            let fits = bytes <= self.settings.max_queued_bytes
                && self.totals.queued_requests < self.settings.max_queued_requests;
            if fits {
                return Ok(());
            }
            if self.clients.is_greediest_with(&request.client, request.bytes) {
                return Err(full);
            }
            let Some(greediest) = self.clients.greediest().cloned() else { return Err(full) };
            let Some((of, shed)) = self.take_newest_of(&greediest) else { return Err(full) };
            self.drop_request(&shed, DropReason::Shed);
            // The service that the room is made for will be used.
            if of != id {
                self.release_if_unused(of);
            }
        }
        Err(full)
    }

    /// The newest waiting request of a client, over all services.
    fn take_newest_of(&mut self, client: &PeerId) -> Option<(ServiceId, Box<Request<F>>)> {
        let newest = |id: ServiceId| Some((self.services.find(id)?.queue.newest_of(client)?, id));
        let (_, id) = self.clients.find(client)?.services().filter_map(newest).max()?;
        let request = self.services.find_mut(id)?.queue.pop_newest_of(client)?;
        self.count_dequeued(id, &request);
        Some((id, request))
    }

    /// Hands the request to an idle worker, or lets it wait. Its bytes are counted already.
    pub(super) fn give_or_queue(&mut self, id: ServiceId, mut request: Box<Request<F>>) {
        let now = self.now();
        let Some(service) = self.services.find_mut(id) else {
            return self.drop_request(&request, DropReason::Expired);
        };
        if let Some((_, worker)) = service.idle.pop_first() {
            self.totals.idle_workers = self.totals.idle_workers.saturating_sub(1);
            return self.hand_over(worker, request);
        }
        if request.deadline <= now {
            self.drop_request(&request, DropReason::Expired);
            return self.release_if_unused(id);
        }
        if self.totals.queued_requests >= ATTACHED_REQUESTS_MAX {
            request.detach();
        }
        let deadline = request.deadline;
        self.clients.add(&request.client, id, request.bytes);
        self.totals.queued_requests += 1;
        service.queue.insert(request);
        self.arm_service(id, deadline);
    }

    /// Gives waiting requests to idle workers, after anything that may have brought them together.
    pub(super) fn dispatch(&mut self, id: ServiceId) {
        let now = self.now();
        loop {
            let Some(service) = self.services.find_mut(id) else { return };
            if service.idle.is_empty() {
                return;
            }
            let Some(request) = service.queue.pop_next() else { return };
            self.count_dequeued(id, &request);
            if request.deadline <= now {
                self.drop_request(&request, DropReason::Expired);
                continue;
            }
            self.give_or_queue(id, request);
        }
    }

    fn hand_over(&mut self, id: WorkerId, mut request: Box<Request<F>>) {
        let token = self.tokens.next();
        let now = self.now();
        let Some(worker) = self.workers.find_mut(id) else {
            return self.drop_request(&request, DropReason::Expired);
        };
        request.attempts = request.attempts.saturating_add(1);
        let body = request.body.clone();
        worker.last_sent = now;
        let (to, version) = (worker.peer.clone(), worker.version);
        worker.state = WorkerState::Busy { token, request, since: now };
        self.totals.held_requests += 1;
        self.counters.dispatched += 1;
        self.send_to_worker(to, version, FromBroker::Request { client: token, body });
    }

    /// Passes a part of a reply on. A 0.1 client knows only one reply, so its parts are kept.
    pub(super) fn on_partial(&mut self, id: WorkerId, body: Body<F>) {
        let Some(worker) = self.workers.find_mut(id) else { return };
        let WorkerState::Busy { request, .. } = &mut worker.state else { return };
        match request.version {
            Version::V02 => {
                request.is_partly_answered = true;
                let (to, envelope) = (request.client.clone(), request.envelope.clone());
                let (command, service) = (ReplyCommand::Partial, worker.service);
                self.counters.partials += 1;
                self.reply(to, Reply { command, envelope, service, body });
            }
            Version::V01 => {
                let bytes =
                    body.iter().fold(0_usize, |sum, f| sum.saturating_add(f.as_ref().len()));
                let kept = request.kept_partial_bytes.saturating_add(bytes);
                let frames = request.kept_partials.len().saturating_add(body.len());
                let limits = self.settings.decode;
                let all = self.totals.bytes.saturating_add(bytes);
                let is_too_large = kept > limits.message_bytes_max
                    || frames > limits.frames_max
                    || all > self.settings.max_queued_bytes;
                if is_too_large {
                    return self.on_partials_too_large(id);
                }
                self.totals.bytes = all;
                request.bytes = request.bytes.saturating_add(bytes);
                request.kept_partial_bytes = kept;
                request.kept_partials.extend(body);
            }
        }
    }

    /// The request cannot be answered as it asked to be, by no worker: it is dropped.
    fn on_partials_too_large(&mut self, id: WorkerId) {
        if let Some(request) = self.take_held(id) {
            self.drop_request(&request, DropReason::PartialsTooLarge);
        }
        self.end_worker_with_protocol_error(id);
    }

    /// Passes the reply on and frees the worker.
    pub(super) fn on_final(&mut self, id: WorkerId, body: Body<F>) {
        let Some(request) = self.take_held(id) else { return };
        let request = *request;
        let Some(service) = self.workers.find(id).map(|worker| worker.service) else { return };
        self.totals.bytes = self.totals.bytes.saturating_sub(request.bytes);
        let body = if request.kept_partials.is_empty() {
            body
        } else {
            request.kept_partials.into_iter().chain(body).collect()
        };
        self.counters.replied += 1;
        self.count_finished_while_draining();
        let command = ReplyCommand::last(request.version);
        let envelope = request.envelope;
        self.reply(request.client, Reply { command, envelope, service, body });
        self.on_worker_free(id);
    }

    /// Takes the request from its worker, which is then neither busy nor idle.
    pub(super) fn take_held(&mut self, id: WorkerId) -> Option<Box<Request<F>>> {
        let worker = self.workers.find_mut(id)?;
        // Out of the idle order; the caller makes it idle or ends it.
        let out_of_order = WorkerState::Idle { order: u64::MAX };
        match std::mem::replace(&mut worker.state, out_of_order) {
            WorkerState::Busy { request, .. } => {
                self.totals.held_requests = self.totals.held_requests.saturating_sub(1);
                Some(request)
            }
            other @ (WorkerState::Registering { .. } | WorkerState::Idle { .. }) => {
                worker.state = other;
                None
            }
        }
    }

    fn reply(&mut self, to: PeerId, reply: Reply<ServiceId, F>) {
        let Reply { command, envelope, service, body } = reply;
        let Some(service) = self.services.find(service) else { return };
        let service = service.name.clone();
        let message = Outgoing::Client(Reply { command, envelope, service, body });
        self.effects.push_back(Effect::Send { to, message });
    }

    /// Decides about the request of a lost worker (AM-09): again to another, or not.
    pub(super) fn take_back(
        &mut self,
        id: ServiceId,
        mut request: Box<Request<F>>,
        hand_over: HandOver,
    ) {
        let Some(policy) = self.services.find(id).map(|service| service.policy) else { return };
        if hand_over == HandOver::Failed {
            request.attempts = request.attempts.saturating_sub(1);
        }
        let reason = if request.is_partly_answered {
            Some(DropReason::PartiallyAnswered)
        } else if policy.delivery == Delivery::AtMostOnce && hand_over == HandOver::Possible {
            Some(DropReason::OutcomeUnknown)
        } else if request.attempts >= policy.max_attempts {
            Some(DropReason::AttemptsExhausted)
        } else if request.deadline <= self.now() && hand_over == HandOver::Possible {
            Some(DropReason::Expired)
        } else {
            None
        };
        if let Some(reason) = reason {
            return self.drop_request(&request, reason);
        }
        self.totals.bytes = self.totals.bytes.saturating_sub(request.kept_partial_bytes);
        request.bytes = request.bytes.saturating_sub(request.kept_partial_bytes);
        request.kept_partials = Vec::new();
        request.kept_partial_bytes = 0;
        self.counters.redispatched += 1;
        self.give_or_queue(id, request);
    }

    /// Forgets what a vanished client has waiting: nobody is left to take the replies.
    pub(super) fn drop_requests_of(&mut self, client: &PeerId) {
        while let Some((id, request)) = self.take_newest_of(client) {
            self.drop_request(&request, DropReason::ClientGone);
            self.release_if_unused(id);
        }
    }

    /// Forgets a request that is in no queue and with no worker.
    pub(super) fn drop_request(&mut self, request: &Request<F>, reason: DropReason) {
        self.totals.bytes = self.totals.bytes.saturating_sub(request.bytes);
        self.counters.drop(reason);
        self.count_dropped_while_draining();
    }

    /// Keeps the sums when a request leaves a queue.
    pub(super) fn count_dequeued(&mut self, id: ServiceId, request: &Request<F>) {
        self.clients.remove(&request.client, id, request.bytes);
        self.totals.queued_requests = self.totals.queued_requests.saturating_sub(1);
    }

    /// Whether this is the token of the request that the worker has.
    pub(super) fn holds_token(&self, id: WorkerId, address: &[u8]) -> bool {
        self.workers.find(id).is_some_and(|worker| match &worker.state {
            WorkerState::Busy { token, .. } => token.matches(address),
            WorkerState::Registering { .. } | WorkerState::Idle { .. } => false,
        })
    }

    /// Whether this request, the one on its way to the worker, was certainly not handed over.
    pub(super) fn hand_over_of(&self, id: WorkerId, unsent: Option<Token>) -> HandOver {
        let holds = unsent.is_some_and(|token| self.holds_token(id, token.as_ref()));
        if holds { HandOver::Failed } else { HandOver::Possible }
    }
}
