//! READY, and the proof without which a worker hears nothing but DISCONNECT (design: an
//! acknowledgement that 7/MDP allows).

use mdp_mutants::{Mutant, is_on};
use mdp_wire::{Frame, ServiceFrame, ServiceNameRef, Version, worker::FromBroker};

use super::Broker;
use crate::{
    LookupOutcome, Note, Operation, PeerId, PeerSource, QueryId, RegistrationRefusal,
    refusals::Pace,
    service::{OfferState, ServiceId},
    timers::TimerKey,
    worker::{Worker, WorkerId, WorkerState},
};

/// A peer that sent a worker's command.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) peer: PeerId,
    /// What is known of it.
    pub(super) source: PeerSource,
    /// The version of its command.
    pub(super) version: Version,
}

impl<F: Frame> Broker<F> {
    pub(super) fn on_ready(&mut self, from: Caller, service: &ServiceFrame<F>) {
        let name = service.as_name();
        // MMI8-03: refused locally, with or without a quorum.
        let refusal = if name.is_reserved() && !is_on(Mutant::ReservedNameAccepted) {
            Some(RegistrationRefusal::ReservedName)
        } else if !self.may((&from.peer, from.source.subject), Operation::Register, name) {
            Some(RegistrationRefusal::NotAllowed)
        } else if self.drain.is_some() {
            Some(RegistrationRefusal::Draining)
        } else if self.workers.len() >= self.settings.max_workers {
            Some(RegistrationRefusal::TooManyWorkers)
        } else if self.totals.services_with_workers >= self.settings.max_services
            && !self.has_workers(name)
        {
            // Services that only have requests do not count: a flood of requests to names that
            // nobody offers must not keep workers out.
            Some(RegistrationRefusal::TooManyServices)
        } else if !self.usages.allow_worker(&self.access, from.source.subject)
            && !self.on_over_quota((&from.peer, from.source.subject), name)
        {
            Some(RegistrationRefusal::OverQuota)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return self.refuse(from, Some(name), refusal);
        }
        let service_id = match self.services.id_of(name) {
            Some(id) => id,
            None => self.services.insert(name, *self.settings.policy_of(name.as_bytes())),
        };
        self.register(from, service_id);
    }

    fn has_workers(&self, name: ServiceNameRef<'_>) -> bool {
        let service = self.services.id_of(name).and_then(|id| self.services.find(id));
        service.is_some_and(|service| service.worker_count > 0)
    }

    fn register(&mut self, from: Caller, service_id: ServiceId) {
        let Caller { peer, source: PeerSource { subject, .. }, version } = from;
        let now = self.now();
        let Some(service) = self.services.find_mut(service_id) else { return };
        let timer_at = now.after(service.policy.expiry()).after(super::timeouts::EXPIRY_GRACE);
        let worker = Worker {
            peer,
            subject,
            version,
            service: service_id,
            state: WorkerState::Registering {
                proven_by_seq: self.offers.next_seq(),
                proven_by_query: self.next_query,
            },
            last_heard: now,
            last_sent: now,
            heartbeats_while_busy: false,
            is_undelimited: false,
            timer_at,
        };
        self.usages.add_worker(subject);
        let id = self.workers.insert(worker);
        self.timers.insert(timer_at, TimerKey::Worker(id));
        service.registering.insert(id);
        service.worker_count += 1;
        if service.worker_count == 1 {
            self.totals.services_with_workers += 1;
        }
        self.on_worker_count_changed(service_id);
        self.ask_for_proof(service_id);
        if is_on(Mutant::EarlyHeartbeat) {
            self.acknowledge_if(service_id, |_, _| true);
        }
    }

    /// Answers a READY that cannot register, now or a little later (protocol.md 6.7).
    pub(super) fn refuse(
        &mut self,
        from: Caller,
        service: Option<ServiceNameRef<'_>>,
        refusal: RegistrationRefusal,
    ) {
        let Caller { peer, source: PeerSource { address: source, .. }, version } = from;
        self.counters.refused_registrations += 1;
        let now = self.now();
        let pace = self.refusals.take(source, service.map_or(b"", |name| name.as_bytes()), now);
        if pace == Pace::First {
            let (peer, service) = (peer.clone(), service.map(ServiceNameRef::to_owned));
            self.note(Note::RegistrationRefused { peer, source, service, refusal });
        }
        // A worker that comes back at once to a draining node should rather find another one.
        if pace != Pace::Beyond && refusal != RegistrationRefusal::Draining {
            return self.send_to_worker(peer, version, FromBroker::Disconnect);
        }
        if let Some(due) = self.refusals.delay(peer, version, now) {
            self.timers.insert(due, TimerKey::Refusals);
        }
    }

    /// Asks the cluster whether the offer still stands, if that is what registrations wait for.
    /// Where a proposal is needed or in flight, its result is the proof.
    pub(super) fn ask_for_proof(&mut self, id: ServiceId) {
        let Some(service) = self.services.find(id) else { return };
        let is_settled = service.offer == OfferState::Offered && !service.is_in_flight;
        let is_asked = service.proof.is_some() || service.proof_retry_at.is_some();
        if service.registering.is_empty() || !is_settled || is_asked {
            return;
        }
        let name = service.name.clone();
        let query = self.ask(name, super::mmi::Purpose::Proof(id));
        if let Some(service) = self.services.find_mut(id) {
            service.proof = Some(query);
        }
    }

    /// The answer to [`ask_for_proof`](Self::ask_for_proof), or that there is none in time.
    pub(super) fn on_proof(&mut self, id: ServiceId, query: QueryId, outcome: LookupOutcome) {
        let Some(service) = self.services.find_mut(id) else { return };
        if service.proof != Some(query) {
            return;
        }
        service.proof = None;
        match outcome {
            LookupOutcome::OfferedHere if service.offer == OfferState::Offered => {
                self.acknowledge_if(id, |_, by_query| {
                    by_query <= query || is_on(Mutant::OldProofCounts)
                });
                self.ask_for_proof(id);
            }
            // The answer is about an offer that has changed since; the proposal will tell.
            LookupOutcome::OfferedHere => {}
            // The offer is void, and this node did not know: it makes a new one.
            LookupOutcome::OfferedElsewhere | LookupOutcome::NotOffered => {
                service.offer = OfferState::Unknown;
                self.on_worker_count_changed(id);
            }
            LookupOutcome::NoQuorum => {
                let at = self.now().after(super::timeouts::PROOF_RETRY);
                if let Some(service) = self.services.find_mut(id) {
                    service.proof_retry_at = Some(at);
                }
                self.arm_service(id, at);
            }
        }
    }

    /// Acknowledges the workers of a service whose proof this is.
    pub(super) fn acknowledge_if(
        &mut self,
        id: ServiceId,
        is_proven: impl Fn(mdp_catalog::Seq, QueryId) -> bool,
    ) {
        let Some(service) = self.services.find(id) else { return };
        let proven = |worker: &WorkerId| match self.workers.find(*worker)?.state {
            WorkerState::Registering { proven_by_seq, proven_by_query } => {
                is_proven(proven_by_seq, proven_by_query).then_some(*worker)
            }
            WorkerState::Idle { .. } | WorkerState::Busy { .. } => None,
        };
        let workers: Vec<WorkerId> = service.registering.iter().filter_map(proven).collect();
        for worker in workers {
            self.acknowledge(id, worker);
        }
    }

    /// The first frame that tells a worker that it is registered is a HEARTBEAT (MDP7-41).
    fn acknowledge(&mut self, id: ServiceId, worker_id: WorkerId) {
        let now = self.now();
        let Some(service) = self.services.find_mut(id) else { return };
        let Some(worker) = self.workers.find_mut(worker_id) else { return };
        service.registering.remove(&worker_id);
        worker.last_sent = now;
        let interval = service.policy.heartbeat_interval;
        let (peer, version, name) = (worker.peer.clone(), worker.version, service.name.clone());
        let heartbeat_at = now.after(interval);
        if heartbeat_at < worker.timer_at {
            self.timers.remove(worker.timer_at, TimerKey::Worker(worker_id));
            worker.timer_at = heartbeat_at;
            self.timers.insert(heartbeat_at, TimerKey::Worker(worker_id));
        }
        if service.registered_count() == 1 {
            self.note(Note::ServiceUp { service: name.clone() });
        }
        self.counters.registrations += 1;
        self.note(Note::WorkerUp { peer: peer.clone(), service: name });
        self.send_to_worker(peer, version, FromBroker::Heartbeat);
        self.on_worker_free(worker_id);
    }
}
