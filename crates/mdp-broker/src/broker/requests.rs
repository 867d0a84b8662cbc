//! Client requests: admission, queueing, hand-over to workers, replies.

use mdp_mutants::{Mutant, is_on};
use mdp_wire::{
    Body, Frame, ServiceFrame, ServiceNameRef, Token, Version,
    client::{self, Reply, ReplyCommand},
    relay::{ReturnCause, ToOrigin},
    worker::FromBroker,
};

use super::{Broker, Totals};
use crate::{
    Delivery, DropReason, Effect, Operation, Outgoing, PeerId, Settings, Subject,
    queue::Whose,
    request::{Arrival, ClientId, Request, Source},
    service::ServiceId,
    worker::{WorkerId, WorkerState},
};

/// How many waiting requests may be shed to make room for one.
const SHED_PER_REQUEST_MAX: usize = 64;

/// Whether a request was certainly not handed to a worker that is lost, or is out of sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandOver {
    /// It was, or may have been.
    Possible,
    /// The send failed, or its owner says so.
    Failed,
}

/// A part of a reply on its way to a client of 0.2.
#[derive(Debug)]
pub(super) struct PartialReply<F> {
    to: PeerId,
    envelope: Vec<F>,
    body: Body<F>,
}

impl Totals {
    /// Passes a part of a reply on. A 0.1 client knows only one reply, so its parts are kept.
    ///
    /// # Errors
    /// They are too large to be kept.
    pub(super) fn pass_partial<F: Frame>(
        &mut self,
        request: &mut Request<F>,
        body: Body<F>,
        settings: &Settings,
    ) -> Result<Option<PartialReply<F>>, DropReason> {
        if let (Version::V02, Source::Client(to)) = (request.version, &request.source) {
            request.is_partly_answered = true;
            let (to, envelope) = (to.clone(), request.envelope.clone());
            return Ok(Some(PartialReply { to, envelope, body }));
        }
        let bytes = body.iter().fold(0_usize, |sum, f| sum.saturating_add(f.as_ref().len()));
        let kept = request.kept_partial_bytes.saturating_add(bytes);
        let frames = request.kept_partials.len().saturating_add(body.len());
        let all = self.bytes.saturating_add(bytes);
        let is_too_large = kept > settings.decode.message_bytes_max
            || frames > settings.decode.frames_max
            || all > settings.max_queued_bytes;
        if is_too_large {
            return Err(DropReason::PartialsTooLarge);
        }
        self.bytes = all;
        request.bytes = request.bytes.saturating_add(bytes);
        request.kept_partial_bytes = kept;
        request.kept_partials.extend(body);
        Ok(None)
    }
}

impl<F: Frame> Broker<F> {
    pub(super) fn on_request(
        &mut self,
        from: PeerId,
        subject: Subject,
        message: client::Request<ServiceFrame<F>, F>,
    ) {
        // MMI8-02: the broker itself answers the whole namespace, whatever its state.
        if message.service.as_name().is_reserved() {
            return self.on_mmi_request((from, subject), message);
        }
        self.counters.requests += 1;
        self.last_request_at = self.now();
        let name = message.service.as_name();
        if !self.may((&from, subject), Operation::Call, name) {
            return self.drop_new(name, DropReason::NotAllowed);
        }
        let known = self.services.id_of(name);
        if self.refuses_while_draining(known) {
            return self.drop_new(name, DropReason::Draining);
        }
        let id = match known {
            Some(id) => id,
            None if self.services.len() >= self.settings.max_services => {
                return self.drop_new(name, DropReason::TooManyServices);
            }
            None => self.services.insert(name, *self.settings.policy_of(name.as_bytes())),
        };
        let Some(service) = self.services.find(id) else { return };
        let ttl = service.policy.request_ttl;
        let has_idle = !service.idle.is_empty() || service.best_owner().is_some();
        let arrival = Arrival(self.next_arrival);
        self.next_arrival = self.next_arrival.saturating_add(1);
        let now = self.now();
        let request = Request::new((from, subject), message, (arrival, now), now.after(ttl));
        let admitted = if has_idle || !ttl.is_zero() {
            self.admit(id, &request, has_idle)
        } else {
            Err(DropReason::Expired)
        };
        match admitted {
            Ok(()) => {
                self.totals.bytes = self.totals.bytes.saturating_add(request.bytes);
                self.usages.begin(subject);
                self.give_or_queue(id, request);
            }
            Err(reason) => {
                self.counters.drop(reason);
                self.name_dropped(id, reason);
                self.release_if_unused(id);
            }
        }
    }

    /// A request that is not accepted at all.
    fn drop_new(&mut self, service: ServiceNameRef<'_>, reason: DropReason) {
        self.counters.drop(reason);
        self.dropped_services.note(reason, &service.to_owned());
    }

    fn name_dropped(&mut self, id: ServiceId, reason: DropReason) {
        if let Some(service) = self.services.find(id) {
            self.dropped_services.note(reason, &service.name);
        }
    }

    /// Whether the limits and the quotas allow one more request. The byte budget may be made room in.
    fn admit(
        &mut self,
        id: ServiceId,
        request: &Request<F>,
        has_idle: bool,
    ) -> Result<(), DropReason> {
        let (now, waiting_bytes) = (self.now(), if has_idle { 0 } else { request.bytes });
        if !self.usages.allow_request(&self.access, request.subject, waiting_bytes, now) {
            let service = self.services.find(id).map(|service| service.name.clone());
            if let (Some(service), Source::Client(peer)) = (service, &request.source)
                && !self.on_over_quota((peer, request.subject), service.as_name())
            {
                return Err(DropReason::OverQuota);
            }
        }
        if !has_idle {
            let Some(service) = self.services.find(id) else { return Ok(()) };
            let of_client =
                self.clients.find(&request.client_id()).map_or(0, |entry| entry.requests);
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
        let asker = request.client_id();
        for _ in 0..SHED_PER_REQUEST_MAX {
            let bytes = self.totals.bytes.saturating_add(request.bytes);
            let fits = bytes <= self.settings.max_queued_bytes
                && self.totals.queued_requests < self.settings.max_queued_requests;
            if fits {
                return Ok(());
            }
            if self.clients.is_greediest_with(&asker, request.bytes) {
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
    fn take_newest_of(&mut self, client: &ClientId) -> Option<(ServiceId, Box<Request<F>>)> {
        let newest = |id: ServiceId| Some((self.services.find(id)?.queue.newest_of(client)?, id));
        let (_, id) = self.clients.find(client)?.services().filter_map(newest).max()?;
        let request = self.services.find_mut(id)?.queue.pop_newest_of(client)?;
        self.count_dequeued(id, &request);
        Some((id, request))
    }

    /// Hands the request to an idle worker, here or elsewhere, or lets it wait. Its bytes are counted
    /// already.
    pub(super) fn give_or_queue(&mut self, id: ServiceId, mut request: Box<Request<F>>) {
        let now = self.now();
        request.service = Some(id);
        let Some(service) = self.services.find_mut(id) else {
            return self.drop_request(&request, DropReason::Expired);
        };
        if let Some((_, worker)) = service.idle.pop_first() {
            self.totals.idle_workers = self.totals.idle_workers.saturating_sub(1);
            return self.hand_over(worker, request);
        }
        let is_expired = request.deadline <= now;
        if (request.is_own() || is_on(Mutant::ForwardedAgain))
            && !is_expired
            && let Some(owner) = service.best_owner()
        {
            return self.forward(id, owner, request);
        }
        if is_expired {
            self.drop_request(&request, DropReason::Expired);
            return self.release_if_unused(id);
        }
        let (deadline, source) = (request.deadline, request.source.clone());
        self.clients.add(&request.client_id(), id, request.bytes);
        self.usages.enqueue(request.subject, request.bytes);
        self.totals.queued_requests += 1;
        service.queue.insert(request);
        self.arm_service(id, deadline);
        self.on_forward_waits(id, &source);
    }

    /// Gives waiting requests to workers that have nothing to do, here or elsewhere, after anything
    /// that may have brought them together.
    pub(super) fn dispatch(&mut self, id: ServiceId) {
        let now = self.now();
        while let Some(request) = self.next_request(id) {
            self.count_dequeued(id, &request);
            if request.deadline <= now {
                self.drop_request(&request, DropReason::Expired);
            } else {
                self.give_or_queue(id, request);
            }
        }
    }

    /// The next waiting request that somebody can take.
    fn next_request(&mut self, id: ServiceId) -> Option<Box<Request<F>>> {
        let service = self.services.find_mut(id)?;
        if !service.idle.is_empty() {
            return service.queue.pop_next(Whose::All);
        }
        if !service.queue.has_own() {
            return None;
        }
        service.best_owner()?;
        service.queue.pop_next(Whose::Own)
    }

    fn hand_over(&mut self, id: WorkerId, mut request: Box<Request<F>>) {
        let token = self.tokens.next();
        let now = self.now();
        let Some(worker) = self.workers.find_mut(id) else {
            return self.drop_request(&request, DropReason::Expired);
        };
        request.attempts =
            request.attempts.saturating_add(u32::from(!is_on(Mutant::AttemptsNotCounted)));
        let waited = (request.attempts == 1).then(|| now.since(request.arrived_at));
        let (body, source) = (request.body.clone(), request.source.clone());
        worker.last_sent = now;
        let (to, version, service) = (worker.peer.clone(), worker.version, worker.service);
        worker.state = WorkerState::Busy { token, request, since: now };
        self.totals.held_requests += 1;
        self.counters.dispatched += 1;
        if let Some(waited) = waited {
            self.counters.queue_times.observe(waited);
        }
        self.count_forward_started(service, &source);
        self.send_to_worker(to, version, FromBroker::Request { client: token, body });
    }

    /// Passes a part of a reply on.
    pub(super) fn on_partial(&mut self, id: WorkerId, body: Body<F>) {
        let Some(worker) = self.workers.find_mut(id) else { return };
        let service = worker.service;
        let WorkerState::Busy { request, .. } = &mut worker.state else { return };
        if let Source::Origin { link, id, .. } = request.source {
            return self.reply_to_origin(link, ToOrigin::Reply { id, is_last: false, body });
        }
        match self.totals.pass_partial(request, body, &self.settings) {
            Ok(reply) => self.send_partial(service, reply),
            Err(reason) => self.on_partials_too_large(id, reason),
        }
    }

    pub(super) fn send_partial(&mut self, service: ServiceId, reply: Option<PartialReply<F>>) {
        if let Some(PartialReply { to, envelope, body }) = reply {
            self.counters.partials += 1;
            self.reply(to, Reply { command: ReplyCommand::Partial, envelope, service, body });
        }
    }

    /// The request cannot be answered as it asked to be, by no worker: it is dropped.
    fn on_partials_too_large(&mut self, id: WorkerId, reason: DropReason) {
        if let Some(request) = self.take_held(id) {
            self.drop_request(&request, reason);
        }
        self.end_worker_with_protocol_error(id);
    }

    /// Passes the reply on and frees the worker.
    pub(super) fn on_final(&mut self, id: WorkerId, body: Body<F>) {
        let Some(request) = self.take_held(id) else { return };
        let Some(service) = self.workers.find(id).map(|worker| worker.service) else { return };
        self.count_finished_while_draining();
        match request.source {
            Source::Client(_) => self.finish_request(service, *request, body),
            Source::Origin { link, id, .. } => {
                self.totals.bytes = self.totals.bytes.saturating_sub(request.bytes);
                self.counters.forwards_replied += 1;
                self.reply_to_origin(link, ToOrigin::Reply { id, is_last: true, body });
            }
        }
        self.on_worker_free(id);
    }

    /// Ends a request of a client of this node with its reply.
    pub(super) fn finish_request(
        &mut self,
        service: ServiceId,
        request: Request<F>,
        body: Body<F>,
    ) {
        if !is_on(Mutant::LeakedBytes) {
            self.totals.bytes = self.totals.bytes.saturating_sub(request.bytes);
        }
        let Source::Client(client) = request.source else { return };
        self.usages.end(request.subject);
        let client = self.client_to_answer(client);
        let body = if request.kept_partials.is_empty() {
            body
        } else {
            request.kept_partials.into_iter().chain(body).collect()
        };
        self.counters.replied += 1;
        let took = self.now().since(request.arrived_at);
        self.counters.request_times.observe(took);
        let command = ReplyCommand::last(request.version);
        let envelope = request.envelope;
        self.reply(client, Reply { command, envelope, service, body });
    }

    /// Who asked: always, but for a seeded bug.
    fn client_to_answer(&self, client: PeerId) -> PeerId {
        if !is_on(Mutant::WrongClient) {
            return client;
        }
        let other = self.workers.iter().find_map(|(_, worker)| match &worker.state {
            WorkerState::Busy { request, .. } => match request.client_id() {
                ClientId::Here(peer) => Some(peer),
                ClientId::Elsewhere { .. } => None,
            },
            WorkerState::Registering { .. } | WorkerState::Idle { .. } => None,
        });
        other.unwrap_or(client)
    }

    /// Sends a reply, or a part of one, to the node that the request came from, if it is there.
    fn reply_to_origin(&mut self, link: crate::LinkId, message: ToOrigin<F>) {
        if self.links.to_origins.contains_key(&link) {
            self.effects.push_back(Effect::ToOrigin { link, message });
        } else {
            self.counters.drop(DropReason::OriginGone);
        }
    }

    /// Takes the request from its worker, which is then neither busy nor idle.
    pub(super) fn take_held(&mut self, id: WorkerId) -> Option<Box<Request<F>>> {
        let worker = self.workers.find_mut(id)?;
        let service = worker.service;
        // Out of the idle order; the caller makes it idle or ends it.
        let out_of_order = WorkerState::Idle { order: u64::MAX };
        match std::mem::replace(&mut worker.state, out_of_order) {
            WorkerState::Busy { request, .. } => {
                self.totals.held_requests = self.totals.held_requests.saturating_sub(1);
                self.count_forward_ended(service, &request.source);
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

    /// Decides about the request of a lost worker or owner (AM-09): again to another, or not.
    /// About a request of another node, that node decides.
    pub(super) fn take_back(
        &mut self,
        id: ServiceId,
        mut request: Box<Request<F>>,
        hand_over: HandOver,
    ) {
        let Some(policy) = self.services.find(id).map(|service| service.policy) else {
            return self.drop_request(&request, DropReason::Expired);
        };
        if hand_over == HandOver::Failed {
            request.attempts = request.attempts.saturating_sub(1);
        }
        if let Source::Origin { link, id: forward, .. } = request.source
            && (hand_over == HandOver::Possible || !self.links.to_origins.contains_key(&link))
        {
            self.totals.bytes = self.totals.bytes.saturating_sub(request.bytes);
            return self.return_to_origin(link, forward, ReturnCause::WorkerLost);
        }
        let reason = if request.is_partly_answered && !is_on(Mutant::RepeatedAfterPartial) {
            Some(DropReason::PartiallyAnswered)
        } else if policy.delivery == Delivery::AtMostOnce
            && hand_over == HandOver::Possible
            && !is_on(Mutant::AtMostOnceRepeated)
        {
            Some(DropReason::OutcomeUnknown)
        } else if request.attempts >= policy.max_attempts {
            Some(DropReason::AttemptsExhausted)
        } else if request.deadline <= self.now() && hand_over == HandOver::Possible {
            Some(DropReason::Expired)
        } else if !self.is_still_allowed(id, request.subject) {
            Some(DropReason::NotAllowed)
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
        self.counters.redispatched += u64::from(hand_over == HandOver::Possible);
        self.give_or_queue(id, request);
    }

    /// Forgets what a vanished client has waiting: nobody is left to take the replies.
    pub(super) fn drop_requests_of(&mut self, client: &PeerId) {
        let client = ClientId::Here(client.clone());
        while let Some((id, request)) = self.take_newest_of(&client) {
            self.drop_request(&request, DropReason::ClientGone);
            self.release_if_unused(id);
        }
    }

    /// Forgets a request that is in no queue and with no worker. One of another node is returned.
    pub(super) fn drop_request(&mut self, request: &Request<F>, reason: DropReason) {
        self.totals.bytes = self.totals.bytes.saturating_sub(request.bytes);
        if let Source::Origin { link, id, .. } = request.source {
            let cause = if request.attempts > 0 {
                ReturnCause::WorkerLost
            } else if reason == DropReason::Expired {
                ReturnCause::Expired
            } else if reason == DropReason::Draining {
                ReturnCause::NoWorker
            } else {
                ReturnCause::NoRoom
            };
            return self.return_to_origin(link, id, cause);
        }
        self.usages.end(request.subject);
        self.counters.drop(reason);
        if let Some(id) = request.service {
            self.name_dropped(id, reason);
        }
        self.count_dropped_while_draining();
    }

    /// Keeps the sums when a request leaves a queue.
    pub(super) fn count_dequeued(&mut self, id: ServiceId, request: &Request<F>) {
        self.clients.remove(&request.client_id(), id, request.bytes);
        self.usages.dequeue(request.subject, request.bytes);
        self.totals.queued_requests = self.totals.queued_requests.saturating_sub(1);
        self.on_forward_dequeued(&request.source);
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
