//! What holds after every step.

use std::collections::BTreeSet;

use mdp_broker::{Broker, Counters, DropReason};
use mdp_wire::ServiceName;

use super::{Counts, Model, Owed, effects::ensure};
use crate::support::Bytes;

/// Why a request, and not a reply or a command, was dropped.
const fn is_of_request(reason: DropReason) -> bool {
    match reason {
        DropReason::Expired
        | DropReason::AttemptsExhausted
        | DropReason::OutcomeUnknown
        | DropReason::PartiallyAnswered
        | DropReason::PartialsTooLarge
        | DropReason::BadAnswer
        | DropReason::QueueFull
        | DropReason::ServiceQueueFull
        | DropReason::ClientQueueFull
        | DropReason::Shed
        | DropReason::TooManyServices
        | DropReason::ClientGone
        | DropReason::Draining
        | DropReason::NotAllowed
        | DropReason::OverQuota => true,
        DropReason::Malformed(_)
        | DropReason::TooManyQueries
        | DropReason::RepeatedForward
        | DropReason::OriginGone
        | DropReason::LateReply
        | DropReason::UnknownToken
        | DropReason::NotRegistered => false,
    }
}

fn dropped_requests(counters: &Counters) -> u64 {
    let of_requests = counters.dropped.iter().filter(|(reason, _)| is_of_request(**reason));
    of_requests.map(|(_, count)| count).sum()
}

impl Model {
    pub(super) fn check_step(&mut self, broker: &Broker<Bytes>) -> Result<(), String> {
        broker.audit()?;
        self.check_expected()?;
        self.check_counters(broker.counters(), broker)?;
        self.check_gauges(broker)?;
        let up = self.workers.values().filter(|worker| worker.up_step.is_some());
        let up = up.map(|worker| worker.service.clone()).collect();
        ensure!(self.services_up == up, "noted as up {:?}, up {up:?}", self.services_up);
        Ok(())
    }

    fn check_expected(&mut self) -> Result<(), String> {
        let expected = &self.expected;
        ensure!(expected.end.is_none(), "no end of a registration: {:?}", expected.end);
        ensure!(expected.told.is_empty(), "no DISCONNECT to {:?}", expected.told);
        ensure!(expected.question.is_none(), "the cluster is not asked: {:?}", expected.question);
        if let Some(lost) = self.expected.lost_client.take() {
            let waiting = self.requests.values_mut().filter(|r| !r.is_held);
            waiting.filter(|r| r.asker.client == lost).for_each(|request| request.is_over = true);
        }
        Ok(())
    }

    /// Conservation: every request is answered, dropped with a counted reason, waiting or held.
    fn check_counters(&self, counters: &Counters, broker: &Broker<Bytes>) -> Result<(), String> {
        let counted = Counts {
            requests: counters.requests,
            mmi_requests: counters.mmi_requests,
            dispatched: counters.dispatched,
            replied: counters.replied,
            partials: counters.partials,
            registrations: counters.registrations,
            pauses: counters.pauses,
        };
        ensure!(counted == self.counts, "counters {counted:?}, counted {:?}", self.counts);
        let gauges = broker.gauges();
        let kept = u64::try_from(gauges.queued_requests + gauges.held_requests).unwrap_or(u64::MAX);
        let known = counters.replied + dropped_requests(counters) + kept;
        ensure!(
            counters.requests == known,
            "of {} requests {known} are answered, dropped or kept: {counters:?} {gauges:?}",
            counters.requests
        );
        Ok(())
    }

    fn check_gauges(&self, broker: &Broker<Bytes>) -> Result<(), String> {
        let gauges = broker.gauges();
        let held = self.workers.values().filter(|worker| worker.held.is_some()).count();
        let is_idle = |w: &&super::Worker| w.up_step.is_some() && w.held.is_none();
        let idle = self.workers.values().filter(is_idle).count();
        let counted = (gauges.workers, gauges.held_requests, gauges.idle_workers);
        let ours = (self.workers.len(), held, idle);
        ensure!(counted == ours, "workers, held, idle are {counted:?}, counted {ours:?}");
        let settings = &self.settings;
        ensure!(gauges.queued_bytes <= settings.max_queued_bytes, "too many bytes: {gauges:?}");
        ensure!(gauges.workers <= settings.max_workers, "too many workers: {gauges:?}");
        // Services with workers and services with requests only are bounded one by one.
        let services_max = 2 * settings.max_services;
        ensure!(gauges.services <= services_max, "too many services: {gauges:?}");
        // Requests that come back from lost workers wait again, whatever the limit.
        let queued_max = settings.max_queued_requests + settings.max_workers;
        ensure!(gauges.queued_requests <= queued_max, "too many requests: {gauges:?}");
        Ok(())
    }

    /// After all timers were handled: heartbeats are sent, silent workers are gone.
    pub(in super::super) fn check_in_time(&mut self) -> Result<(), String> {
        for (peer, worker) in &self.workers {
            let interval = self.policy(&worker.service).heartbeat_interval;
            let silence = self.now - worker.last_sent;
            ensure!(
                worker.up_step.is_none() || silence < interval,
                "{peer:?} has heard nothing for {silence:?}"
            );
            // A busy worker is looked at once in an interval.
            let slack = if worker.held.is_some() { interval } else { std::time::Duration::ZERO };
            ensure!(
                self.now < self.expires_at(worker) + slack,
                "{peer:?} is silent and still registered: {worker:?} at {:?}",
                self.now
            );
        }
        let overdue = self.owed.iter().find(|owed| owed.due <= self.now && !self.is_void(owed));
        ensure!(overdue.is_none(), "a refusal is held back for too long: {overdue:?}");
        self.owed.retain(|owed| owed.due > self.now);
        Ok(())
    }

    pub(super) fn check_drained(&self, broker: &Broker<Bytes>) -> Result<(), String> {
        let gauges = broker.gauges();
        ensure!(self.is_draining, "drained without a drain");
        ensure!(
            gauges.workers == 0 && gauges.queued_requests == 0 && gauges.queued_bytes == 0,
            "drained with {gauges:?}"
        );
        let waiting = self.owed.iter().find(|owed| !self.is_void(owed));
        ensure!(waiting.is_none(), "drained, and a worker waits for an answer: {waiting:?}");
        Ok(())
    }

    /// Its worker had registered meanwhile, when it was due.
    fn is_void(&self, owed: &Owed) -> bool {
        owed.due <= self.now && self.expected.workers_before.contains(&owed.peer)
    }

    /// The cluster has answered everything: workers are acknowledged, and the catalog is right.
    pub(in super::super) fn check_converged(
        &self,
        offered: &BTreeSet<ServiceName>,
    ) -> Result<(), String> {
        let waiting = self.workers.iter().find(|(_, worker)| worker.up_step.is_none());
        ensure!(waiting.is_none(), "a worker is never acknowledged: {waiting:?}");
        // A draining node offers nothing anew.
        let is_right = self.services_up == *offered
            || (self.is_draining && offered.is_subset(&self.services_up));
        ensure!(is_right, "up {:?}, offered {offered:?}", self.services_up);
        Ok(())
    }

    /// Nobody waits for anything.
    pub(in super::super) fn check_over(&self) -> Result<(), String> {
        ensure!(self.workers.is_empty(), "workers are left: {:?}", self.workers);
        ensure!(self.questions.is_empty(), "questions are left: {:?}", self.questions);
        ensure!(self.owed.is_empty(), "refusals are left: {:?}", self.owed);
        Ok(())
    }
}
