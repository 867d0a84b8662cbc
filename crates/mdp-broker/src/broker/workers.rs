//! What workers send: commands in and out of place, and the end of a registration.

use mdp_mutants::{Mutant, is_on};
use mdp_wire::{
    Body, DecodeError, Defect, Frame, ServiceFrame, Version,
    worker::{FromBroker, ToBroker},
};

use super::{Broker, registration::Caller, requests::HandOver};
use crate::{
    DropReason, Minority, Note, PeerId, PeerSource, RegistrationRefusal, WorkerEnd,
    timers::TimerKey,
    worker::{WorkerId, WorkerState},
};

/// Whether the worker is told that its registration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// DISCONNECT is sent.
    Disconnect,
    /// Nothing more is sent (MDP7-32), or nothing can be.
    None,
}

impl<F: Frame> Broker<F> {
    pub(super) fn on_worker_message(
        &mut self,
        from: Caller,
        message: ToBroker<ServiceFrame<F>, F>,
    ) {
        match self.workers.id_of(&from.peer) {
            Some(id) => self.on_registered_worker(id, from.version, message),
            None => self.on_unregistered_peer(from, message),
        }
    }

    fn on_unregistered_peer(&mut self, from: Caller, message: ToBroker<ServiceFrame<F>, F>) {
        match message {
            ToBroker::Ready { service } => self.on_ready(from, &service),
            // MDP7-34: so that a worker which outlived a restart of this node registers again.
            ToBroker::Heartbeat
            | ToBroker::Partial { .. }
            | ToBroker::Final { .. }
            | ToBroker::Request => {
                self.counters.drop(DropReason::NotRegistered);
                self.send_to_worker(from.peer, from.version, FromBroker::Disconnect);
            }
            // Only the token that a worker holds makes it a reply (AM-21).
            ToBroker::Undelimited { .. } => {
                self.counters.drop(DropReason::Malformed(Defect::NoAddressDelimiter));
            }
            // MDP7-31: allowed at all times.
            ToBroker::Disconnect => {}
        }
    }

    fn on_registered_worker(
        &mut self,
        id: WorkerId,
        version: Version,
        message: ToBroker<ServiceFrame<F>, F>,
    ) {
        let now = self.now();
        let Some(worker) = self.workers.find_mut(id) else { return };
        // MDP7-42: every command is a sign of life.
        worker.last_heard = now;
        let has_its_version = worker.version == version;
        match message {
            // MDP7-32, in either version: nothing is sent to a worker that said it leaves.
            ToBroker::Disconnect => self.end_worker(id, WorkerEnd::Left, Farewell::None),
            // AM-01.
            _ if !has_its_version => self.end_worker_with_protocol_error(id),
            ToBroker::Heartbeat => self.on_heartbeat(id),
            // MDP7-28, AM-15: READY is sent once by each connection.
            ToBroker::Ready { .. } | ToBroker::Request => self.end_worker_with_protocol_error(id),
            ToBroker::Partial { client, body } => {
                if self.holds_token(id, client.as_ref()) {
                    self.on_partial(id, body);
                } else {
                    self.on_unknown_token(id);
                }
            }
            ToBroker::Final { client, body } => {
                if self.holds_token(id, client.as_ref()) {
                    self.on_final(id, body);
                } else {
                    self.on_unknown_token(id);
                }
            }
            ToBroker::Undelimited { client, body } => {
                if self.holds_token(id, client.as_ref()) {
                    self.on_undelimited(id, body);
                } else {
                    self.on_unknown_token(id);
                }
            }
        }
    }

    /// AM-21: it names the request that this worker has, so it is the reply to it. Were it refused,
    /// the request would be executed again and again, and never be answered.
    fn on_undelimited(&mut self, id: WorkerId, mut body: Body<F>) {
        self.counters.undelimited_replies += 1;
        let Some(worker) = self.workers.find_mut(id) else { return };
        if !std::mem::replace(&mut worker.is_undelimited, true)
            && let Some(service) = self.services.find(worker.service)
        {
            let (peer, service) = (worker.peer.clone(), service.name.clone());
            self.note(Note::UndelimitedReply { peer, service });
        }
        if body.is_empty() {
            body.push(F::from(&[]));
        }
        self.on_final(id, body);
    }

    /// AM-21: its request was executed, but there is no reply to pass on. Another worker would do
    /// it a second time, and probably answer alike.
    fn on_bad_answer(&mut self, id: WorkerId, defect: Defect) {
        let request = self.take_held(id);
        if let Some(request) = &request {
            self.drop_request(request, DropReason::BadAnswer);
        }
        if let Some(worker) = self.workers.find(id)
            && let Some(service) = self.services.find(worker.service)
        {
            let (peer, service) = (worker.peer.clone(), service.name.clone());
            let held = request.map(|request| request.to_held());
            self.note(Note::BadAnswer { peer, service, defect, held });
        }
        self.end_worker_with_protocol_error(id);
    }

    /// AM-13: late, forged or repeated replies reach nobody.
    fn on_unknown_token(&mut self, id: WorkerId) {
        self.counters.drop(DropReason::UnknownToken);
        self.end_worker_with_protocol_error(id);
    }

    /// A worker that heartbeats while it works can be held to it (AM-08). The first heartbeat
    /// after the hand-over may have crossed the request, so only a later one tells.
    fn on_heartbeat(&mut self, id: WorkerId) {
        let now = self.now();
        let Some(worker) = self.workers.find_mut(id) else { return };
        let WorkerState::Busy { since, .. } = &worker.state else { return };
        let interval = self
            .services
            .find(worker.service)
            .map_or(self.settings.service.heartbeat_interval, |s| s.policy.heartbeat_interval);
        if now.since(*since) >= interval {
            worker.heartbeats_while_busy = true;
        }
    }

    pub(super) fn on_malformed(&mut self, from: PeerId, error: DecodeError) {
        self.counters.drop(DropReason::Malformed(error.defect()));
        match (self.workers.id_of(&from), error) {
            (Some(id), DecodeError::BadAnswer { address, defect })
                if self.holds_token(id, address.as_ref()) =>
            {
                self.on_bad_answer(id, defect);
            }
            // A worker with a request that sends more than is allowed sends its answer (AM-21). The transport
            // ends its connection before it has read under which address.
            (
                Some(id),
                DecodeError::Malformed(defect @ (Defect::TooLarge | Defect::TooManyFrames)),
            ) if self.is_busy(id) => {
                self.on_bad_answer(id, defect);
            }
            // MDP7-35: the sender is no longer trusted as a peer (AM-01).
            (Some(id), _) => self.end_worker_with_protocol_error(id),
            (None, DecodeError::BadReady { version, .. }) => {
                let from = Caller { peer: from, source: PeerSource::default(), version };
                self.refuse(from, None, RegistrationRefusal::BadReady);
            }
            (None, DecodeError::Malformed(_) | DecodeError::BadAnswer { .. }) => {}
        }
    }

    fn is_busy(&self, id: WorkerId) -> bool {
        let worker = self.workers.find(id);
        worker.is_some_and(|worker| matches!(worker.state, WorkerState::Busy { .. }))
    }

    pub(super) fn on_peer_lost(&mut self, peer: &PeerId, unsent: Option<mdp_wire::Token>) {
        if let Some(id) = self.workers.id_of(peer) {
            let hand_over = self.hand_over_of(id, unsent);
            self.end_worker_after(id, WorkerEnd::ConnectionLost, Farewell::None, hand_over);
        }
        self.drop_requests_of(peer);
    }

    /// The cluster may have given up this node, and nobody here would know. Free workers go first:
    /// none of them may get what a busy one had, and go with it.
    pub(super) fn on_isolated(&mut self) {
        match self.settings.minority {
            Minority::Serve => {}
            Minority::Fail => {
                self.end_free_workers(WorkerEnd::Isolated);
                for id in self.workers.ids() {
                    self.end_worker(id, WorkerEnd::Isolated, Farewell::Disconnect);
                }
            }
        }
    }

    pub(super) fn end_worker_with_protocol_error(&mut self, id: WorkerId) {
        self.end_worker(id, WorkerEnd::ProtocolError, Farewell::Disconnect);
    }

    pub(super) fn end_worker(&mut self, id: WorkerId, end: WorkerEnd, farewell: Farewell) {
        self.end_worker_after(id, end, farewell, HandOver::Possible);
    }

    /// Forgets a worker everywhere. Its request goes back (AM-09), its service may be withdrawn.
    fn end_worker_after(
        &mut self,
        id: WorkerId,
        end: WorkerEnd,
        farewell: Farewell,
        hand_over: HandOver,
    ) {
        let held = self.take_held(id);
        let Some(worker) = self.workers.remove(id) else { return };
        self.usages.remove_worker(worker.subject);
        self.timers.remove(worker.timer_at, TimerKey::Worker(id));
        let service_id = worker.service;
        if let Some(service) = self.services.find_mut(service_id) {
            service.worker_count = service.worker_count.saturating_sub(1);
            if service.worker_count == 0 {
                let left = self.totals.services_with_workers.saturating_sub(1);
                self.totals.services_with_workers = left;
            }
            let was_registered = !service.registering.remove(&id);
            if let WorkerState::Idle { order } = worker.state
                && !is_on(Mutant::DeadWorkerStaysIdle)
                && service.idle.remove(&order).is_some()
            {
                self.totals.idle_workers = self.totals.idle_workers.saturating_sub(1);
            }
            service.has_sent_away |= was_registered && end == WorkerEnd::Draining;
            let name = service.name.clone();
            let was_last = was_registered && service.registered_count() == 0;
            let peer = worker.peer.clone();
            // One that it never got is not its own.
            let was_handed_over = hand_over == HandOver::Possible;
            let held = held.as_ref().filter(|_| was_handed_over).map(|request| request.to_held());
            self.note(Note::WorkerDown { peer, service: name.clone(), end, held });
            if was_last {
                self.note(Note::ServiceDown { service: name });
            }
        }
        if end == WorkerEnd::Expired {
            self.counters.expired_workers += 1;
        }
        if farewell == Farewell::Disconnect {
            self.send_to_worker(worker.peer, worker.version, FromBroker::Disconnect);
        }
        if let Some(request) = held {
            self.take_back(service_id, request, hand_over);
        }
        self.on_worker_count_changed(service_id);
    }

    /// A worker finished: more work, or the idle list, or farewell while this node drains.
    pub(super) fn on_worker_free(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.find_mut(id) else { return };
        let service_id = worker.service;
        let Some(service) = self.services.find_mut(service_id) else { return };
        // While this node drains, others go on if they can.
        let is_needed = !service.queue.is_empty() && !service.is_served_elsewhere();
        if self.drain.is_some() && !is_needed && !self.stays_for_now(id) {
            return self.end_worker(id, WorkerEnd::Draining, Farewell::Disconnect);
        }
        let Some(worker) = self.workers.find_mut(id) else { return };
        let Some(service) = self.services.find_mut(service_id) else { return };
        let order = self.next_idle_order;
        self.next_idle_order = order.saturating_add(1);
        worker.state = WorkerState::Idle { order };
        service.idle.insert(order, id);
        self.totals.idle_workers += 1;
        self.on_capacity_changed(service_id);
        self.dispatch(service_id);
        self.recall(service_id);
        // What waited had waited too long: no work after all.
        let is_idle = self.workers.find(id).is_some_and(|worker| match worker.state {
            WorkerState::Idle { .. } => true,
            WorkerState::Registering { .. } | WorkerState::Busy { .. } => false,
        });
        if self.drain.is_some() && is_idle && !self.stays_for_now(id) {
            self.end_worker(id, WorkerEnd::Draining, Farewell::Disconnect);
        }
    }
}
