//! What is due: heartbeats, expiries, requests that waited too long, refusals held back.

use std::time::Duration;

use mdp_mutants::{Mutant, is_on};
use mdp_wire::{Frame, worker::FromBroker};

use super::{Broker, workers::Farewell};
use crate::{
    DropReason, WorkerEnd,
    service::ServiceId,
    timers::TimerKey,
    worker::{WorkerId, WorkerState},
};

/// What a worker gets on top of interval x liveness: a sign of life may have been received by the
/// system and not been read yet.
pub(super) const EXPIRY_GRACE: Duration = Duration::from_millis(250);

/// How soon a proof is asked for again after the cluster could not give one.
pub(super) const PROOF_RETRY: Duration = Duration::from_millis(100);

/// How finely the expiry of waiting requests is timed: in so many steps of their time to live, but
/// none shorter than the other. Each step looks at every client that waits.
const EXPIRY_STEPS_PER_TTL: u32 = 128;
const EXPIRY_STEP_MIN: Duration = Duration::from_millis(10);

impl<F: Frame> Broker<F> {
    /// The one timer of a worker: it expires, or gets a heartbeat, or was heard or written to
    /// since the timer was set, which is the usual case.
    pub(super) fn on_worker_timer(&mut self, id: WorkerId) {
        let now = self.now();
        let Some(worker) = self.workers.find_mut(id) else { return };
        let Some(service) = self.services.find(worker.service) else { return };
        let policy = &service.policy;
        let heard = worker.last_heard;
        let (expires_at, is_registered) = match &worker.state {
            WorkerState::Registering { .. } => (heard.after(policy.expiry()), false),
            // AM-08: reference workers are silent while they work.
            WorkerState::Busy { since, .. } if !worker.heartbeats_while_busy => {
                (heard.max(*since).after(policy.busy_timeout), true)
            }
            WorkerState::Busy { .. } | WorkerState::Idle { .. } => {
                (heard.after(policy.expiry()), true)
            }
        };
        let expires_at = expires_at.after(EXPIRY_GRACE);
        if expires_at <= now {
            worker.timer_at = now;
            // AM-14: recovery is faster if the worker is told.
            return self.end_worker(id, WorkerEnd::Expired, Farewell::Disconnect);
        }
        let mut due = expires_at;
        let mut heartbeat = None;
        if is_registered {
            // MDP7-43, MDP7-44: to idle and busy workers, if nothing else was sent.
            if worker.last_sent.after(policy.heartbeat_interval) <= now {
                worker.last_sent = now;
                heartbeat = Some((worker.peer.clone(), worker.version));
            }
            due = due.min(worker.last_sent.after(policy.heartbeat_interval));
        }
        worker.timer_at = due;
        self.timers.insert(due, TimerKey::Worker(id));
        if let Some((peer, version)) = heartbeat
            && !is_on(Mutant::HeartbeatForgotten)
        {
            self.send_to_worker(peer, version, FromBroker::Heartbeat);
        }
    }

    /// The oldest requests have waited long enough (MDP7-17), or a proof is due to be asked for.
    pub(super) fn on_service_timer(&mut self, id: ServiceId) {
        let now = self.now();
        let Some(service) = self.services.find_mut(id) else { return };
        service.timer_at = None;
        if service.proof_retry_at.take_if(|at| *at <= now).is_some() {
            self.ask_for_proof(id);
        }
        let Some(service) = self.services.find_mut(id) else { return };
        if is_on(Mutant::TtlIgnored) {
            return;
        }
        for request in service.queue.take_expired(now) {
            self.count_dequeued(id, &request);
            // AM-10: MDP has no error reply.
            self.drop_request(&request, DropReason::Expired);
        }
        let Some(service) = self.services.find(id) else { return };
        let step = (service.policy.request_ttl / EXPIRY_STEPS_PER_TTL).max(EXPIRY_STEP_MIN);
        let retry_at = service.proof_retry_at;
        let oldest = service.queue.oldest_deadline().map(|at| at.max(now.after(step)));
        for at in [retry_at, oldest].into_iter().flatten() {
            self.arm_service(id, at);
        }
        self.release_if_unused(id);
    }

    pub(super) fn on_refusals_timer(&mut self) {
        while let Some((peer, version)) = self.refusals.pop_due(self.now()) {
            // It may have sent another READY meanwhile, which was accepted.
            if self.workers.id_of(&peer).is_none() {
                self.send_to_worker(peer, version, FromBroker::Disconnect);
            }
        }
        if let Some(due) = self.refusals.next() {
            self.timers.insert(due, TimerKey::Refusals);
        }
    }
}
