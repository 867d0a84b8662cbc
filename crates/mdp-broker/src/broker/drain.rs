//! Leaving on purpose: no new work, the old finished, every worker told.

use std::time::Instant;

use mdp_wire::{Frame, worker::FromBroker};

use super::{Broker, workers::Farewell};
use crate::{
    DropReason, Effect, Receipt, WorkerEnd,
    service::ServiceId,
    time::Moment,
    timers::TimerKey,
    worker::{WorkerId, WorkerState},
};

/// A drain that has begun.
#[derive(Debug)]
pub(super) struct Drain {
    deadline: Moment,
    receipt: Receipt,
    is_done: bool,
}

impl<F: Frame> Broker<F> {
    pub(super) fn on_drain(&mut self, deadline: Instant) {
        if self.drain.is_some() {
            return;
        }
        let deadline = self.clock.moment_of(deadline);
        self.drain = Some(Drain { deadline, receipt: Receipt::default(), is_done: false });
        self.timers.insert(deadline, TimerKey::Drain);
        for id in self.services.ids() {
            let is_served = self.services.find(id).is_some_and(|s| s.registered_count() > 0);
            if !is_served {
                self.drop_queue(id, DropReason::Draining);
                self.release_if_unused(id);
            }
        }
        self.end_free_workers(WorkerEnd::Draining);
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
            self.end_worker(id, end, Farewell::Disconnect);
        }
    }

    /// Forgets every waiting request of a service.
    pub(super) fn drop_queue(&mut self, id: ServiceId, reason: DropReason) {
        while let Some(service) = self.services.find_mut(id)
            && let Some(request) = service.queue.pop_next()
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
    }

    /// Workers whose refusal was held back hear it now: those that come back at once for ever
    /// would keep a drain from ending.
    pub(super) fn finish_drain_if_done(&mut self) {
        let is_idle = self.totals.queued_requests == 0 && self.totals.held_requests == 0;
        let Some(drain) = &mut self.drain else { return };
        if drain.is_done || !is_idle {
            return;
        }
        drain.is_done = true;
        let (deadline, receipt) = (drain.deadline, drain.receipt);
        self.timers.remove(deadline, TimerKey::Drain);
        while let Some((peer, version)) = self.refusals.pop() {
            self.send_to_worker(peer, version, FromBroker::Disconnect);
        }
        self.effects.push_back(Effect::Drained(receipt));
    }
}
