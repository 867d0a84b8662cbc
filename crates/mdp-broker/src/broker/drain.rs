//! Leaving on purpose: no new work, the old finished, every worker told.

use std::time::{Duration, Instant};

use mdp_wire::{Frame, worker::FromBroker};

use super::{Broker, workers::Farewell};
use crate::{
    DropReason, Effect, Receipt, WorkerEnd,
    queue::Whose,
    service::ServiceId,
    time::Moment,
    timers::TimerKey,
    worker::{WorkerId, WorkerState},
};

/// How long the workers that this node has sent away may take to register at another one: requests that
/// nobody can serve wait for them, and the last one of each service stays.
const WORKERS_MOVE_MAX: Duration = Duration::from_secs(1);

/// A node that others can replace goes when its clients have asked for nothing for so long...
const CLIENTS_QUIET: Duration = Duration::from_millis(100);
/// ...but waits no longer than this for them to notice.
const CLIENTS_LEAVE_MAX: Duration = Duration::from_secs(2);

/// A drain that has begun.
#[derive(Debug)]
pub(super) struct Drain {
    began_at: Moment,
    deadline: Moment,
    /// When to look again whether it is done, or whether there is hope.
    step_at: Option<Moment>,
    receipt: Receipt,
    is_done: bool,
}

impl<F: Frame> Broker<F> {
    pub(super) fn on_drain(&mut self, deadline: Instant) {
        if self.drain.is_some() {
            return;
        }
        let (began_at, deadline) = (self.now(), self.clock.moment_of(deadline));
        let receipt = Receipt::default();
        let drain = Drain { began_at, deadline, step_at: None, receipt, is_done: false };
        self.drain = Some(drain);
        self.timers.insert(deadline, TimerKey::Drain);
        // Also when no other node is known: one may be heard of meanwhile.
        self.arm_drain_step(began_at.after(WORKERS_MOVE_MAX));
        for id in self.services.ids() {
            self.return_waiting(id);
            self.on_capacity_changed(id);
            self.drop_if_hopeless(id);
            self.release_if_unused(id);
        }
        self.end_free_workers(WorkerEnd::Draining);
    }

    /// Whether this is the last one of a service's workers, and the ones that were sent away are registered
    /// nowhere yet, as far as is known. As long as it stays, nobody is told that there are none.
    pub(super) fn stays_for_now(&self, id: WorkerId) -> bool {
        let (Some(drain), Some(worker)) = (&self.drain, self.workers.find(id)) else {
            return false;
        };
        let is_registered = !matches!(worker.state, WorkerState::Registering { .. });
        let is_last_of_several = self.services.find(worker.service).is_some_and(|service| {
            service.has_sent_away
                && service.registered_count() == 1
                && !service.is_served_elsewhere()
        });
        is_registered && is_last_of_several && self.is_hopeful(drain)
    }

    /// Lets the last worker of a service go, if it stayed and needs to no more.
    pub(super) fn let_last_worker_go(&mut self, id: ServiceId) {
        if self.drain.is_none() {
            return;
        }
        let Some(service) = self.services.find(id) else { return };
        for worker in service.idle.values().copied().collect::<Vec<_>>() {
            if !self.stays_for_now(worker) {
                self.end_worker(worker, WorkerEnd::Draining, Farewell::Disconnect);
            }
        }
    }

    /// Whether there is another node that clients and workers can go to.
    fn has_replacement(&self) -> bool {
        !self.links.to_owners.is_empty()
    }

    /// Whether a new request is refused, for this node leaves. Where clients can go nowhere else,
    /// every one is, so that there is an end; and after the end, when replies would be lost.
    pub(super) fn refuses_while_draining(&self, known: Option<ServiceId>) -> bool {
        self.drain.as_ref().is_some_and(|drain| {
            drain.is_done || !self.has_replacement() || self.is_hopeless(known)
        })
    }

    /// Whether this node drains, and the service has nobody who could serve what waits.
    fn is_hopeless(&self, known: Option<ServiceId>) -> bool {
        let Some(drain) = &self.drain else { return false };
        let service = known.and_then(|id| self.services.find(id));
        let is_served =
            service.is_some_and(|s| s.registered_count() > 0 || s.is_served_elsewhere());
        !is_served && !self.is_hopeful(drain)
    }

    fn is_hopeful(&self, drain: &Drain) -> bool {
        self.has_replacement() && self.now() < drain.began_at.after(WORKERS_MOVE_MAX)
    }

    /// Forgets the waiting requests of a service that nobody can serve, while this node drains.
    pub(super) fn drop_if_hopeless(&mut self, id: ServiceId) {
        if self.is_hopeless(Some(id)) {
            self.drop_queue(id, DropReason::Draining);
        }
    }

    fn arm_drain_step(&mut self, at: Moment) {
        let Some(drain) = &mut self.drain else { return };
        if drain.step_at.is_none_or(|armed| at < armed) {
            if let Some(armed) = drain.step_at.replace(at) {
                self.timers.remove(armed, TimerKey::DrainStep);
            }
            self.timers.insert(at, TimerKey::DrainStep);
        }
    }

    pub(super) fn on_drain_step(&mut self) {
        if let Some(drain) = &mut self.drain {
            drain.step_at = None;
        }
        for id in self.services.ids() {
            self.let_last_worker_go(id);
            self.drop_if_hopeless(id);
            self.release_if_unused(id);
        }
        let hopeful_until = self.drain.as_ref().map(|drain| drain.began_at.after(WORKERS_MOVE_MAX));
        if let Some(at) = hopeful_until.filter(|at| *at > self.now()) {
            self.arm_drain_step(at);
        }
    }

    /// Tells the workers that have no request.
    pub(super) fn end_free_workers(&mut self, end: WorkerEnd) {
        let is_free = |id: &WorkerId| {
            self.workers.find(*id).is_some_and(|worker| match worker.state {
                WorkerState::Registering { .. } | WorkerState::Idle { .. } => true,
                WorkerState::Busy { .. } => false,
            })
        };
        let free: Vec<WorkerId> = self.workers.ids().into_iter().filter(is_free).collect();
        for id in free {
            if end != WorkerEnd::Draining || !self.stays_for_now(id) {
                self.end_worker(id, end, Farewell::Disconnect);
            }
        }
    }

    /// Forgets every waiting request of a service.
    pub(super) fn drop_queue(&mut self, id: ServiceId, reason: DropReason) {
        while let Some(service) = self.services.find_mut(id)
            && let Some(request) = service.queue.pop_next(Whose::All)
        {
            self.count_dequeued(id, &request);
            self.drop_request(&request, reason);
        }
    }

    pub(super) fn count_finished_while_draining(&mut self) {
        if let Some(drain) = &mut self.drain {
            drain.receipt.finished += 1;
        }
    }

    pub(super) fn count_handed_over_while_draining(&mut self) {
        if let Some(drain) = &mut self.drain {
            drain.receipt.handed_over += 1;
        }
    }

    pub(super) fn count_dropped_while_draining(&mut self) {
        if let Some(drain) = &mut self.drain {
            drain.receipt.dropped += 1;
        }
    }

    /// Time is up: what is not finished is dropped.
    pub(super) fn on_drain_timer(&mut self) {
        for id in self.services.ids() {
            self.drop_queue(id, DropReason::Draining);
        }
        for id in self.workers.ids() {
            if let Some(request) = self.take_held(id) {
                self.drop_request(&request, DropReason::Draining);
            }
            self.end_worker(id, WorkerEnd::Draining, Farewell::Disconnect);
        }
        self.drop_forwarded(DropReason::Draining);
    }

    /// Workers whose refusal was held back hear it now: those that come back at once for ever
    /// would keep a drain from ending.
    pub(super) fn finish_drain_if_done(&mut self) {
        let is_idle = self.workers.len() == 0
            && self.totals.queued_requests == 0
            && self.totals.held_requests == 0
            && self.totals.forwarded_requests == 0;
        let (now, has_replacement) = (self.now(), self.has_replacement());
        let Some(drain) = &self.drain else { return };
        if drain.is_done || !is_idle {
            return;
        }
        // What a client sends to a closed socket it has to send again; so it gets time to leave.
        let quiet_at = self.last_request_at.after(CLIENTS_QUIET);
        let leave_at = quiet_at.min(drain.began_at.after(CLIENTS_LEAVE_MAX)).min(drain.deadline);
        if has_replacement && now < leave_at {
            return self.arm_drain_step(leave_at);
        }
        let (deadline, receipt) = (drain.deadline, drain.receipt);
        self.timers.remove(deadline, TimerKey::Drain);
        if let Some(drain) = &mut self.drain {
            drain.is_done = true;
            if let Some(step_at) = drain.step_at.take() {
                self.timers.remove(step_at, TimerKey::DrainStep);
            }
        }
        while let Some((peer, version)) = self.refusals.pop() {
            self.send_to_worker(peer, version, FromBroker::Disconnect);
        }
        self.effects.push_back(Effect::Drained(receipt));
    }
}
