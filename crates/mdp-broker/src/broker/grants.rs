//! Grants at work: what is asked is decided, counted and noted, and what is not granted any more ends.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use mdp_wire::{Frame, ServiceNameRef};

use super::{Broker, workers::Farewell};
use crate::{
    Access, Decision, Denial, DropReason, IdentityName, Note, Operation, PeerId, Question, Subject,
    WorkerEnd, service::ServiceId, time::Moment, worker::WorkerId,
};

/// How often it is noted that a subject is denied something of one kind.
const NOTED_EVERY: Duration = Duration::from_secs(10);
/// Of how many subjects and kinds it is remembered when that was.
const NOTED_MAX: usize = 10_000;

/// When denials were noted last.
#[derive(Debug, Default)]
pub(super) struct NotedDenials(BTreeMap<(Subject, Denial), Moment>);

impl NotedDenials {
    fn is_due(&mut self, subject: Subject, denial: Denial, now: Moment) -> bool {
        let is_over = |at: &Moment| now.since(*at) >= NOTED_EVERY;
        if self.0.get(&(subject, denial)).is_some_and(|at| !is_over(at)) {
            return false;
        }
        if self.0.len() >= NOTED_MAX {
            self.0.retain(|_, at| !is_over(at));
        }
        if self.0.len() < NOTED_MAX {
            self.0.insert((subject, denial), now);
        }
        true
    }
}

impl<F: Frame> Broker<F> {
    /// Whether a subject may do this with a service. Subjects without restrictions cost nothing.
    pub(super) fn may(
        &mut self,
        (peer, subject): (&PeerId, Subject),
        operation: Operation,
        service: ServiceNameRef<'_>,
    ) -> bool {
        let decision = self.access.decide(subject, operation, service.as_bytes());
        let denial = match operation {
            Operation::Call => Denial::Call,
            Operation::Register => Denial::Register,
            Operation::See => Denial::Question,
        };
        self.count_decision((peer, subject), decision, (denial, Some(service)))
    }

    /// Whether a subject may ask this of the management interface.
    pub(super) fn may_ask(
        &mut self,
        (peer, subject): (&PeerId, Subject),
        question: Question,
    ) -> bool {
        let decision = self.access.decide_question(subject, question);
        self.count_decision((peer, subject), decision, (Denial::Question, None))
    }

    /// Whether the rate of a subject allows one more question.
    pub(super) fn has_turn(
        &mut self,
        asker: (&PeerId, Subject),
        service: ServiceNameRef<'_>,
    ) -> bool {
        let now = self.now();
        self.usages.allow_question(&self.access, asker.1, now) || self.on_over_quota(asker, service)
    }

    /// Whether `mmi.status` tells a subject everything.
    pub(super) fn is_told_all(&self, subject: Subject) -> bool {
        self.access.decide_question(subject, Question::FullStatus).is_done()
    }

    /// Whether a subject is shown that there is a service, or what requests wait for it.
    #[must_use]
    pub fn may_see(&self, subject: Subject, service: ServiceNameRef<'_>) -> bool {
        self.access.decide(subject, Operation::See, service.as_bytes()).is_done()
    }

    /// A subject's quota is used up. Returns whether what it asks for is done all the same.
    pub(super) fn on_over_quota(
        &mut self,
        asker: (&PeerId, Subject),
        service: ServiceNameRef<'_>,
    ) -> bool {
        let decision = self.access.beyond_quota();
        self.count_decision(asker, decision, (Denial::Quota, Some(service)))
    }

    fn count_decision(
        &mut self,
        (peer, subject): (&PeerId, Subject),
        decision: Decision,
        (denial, service): (Denial, Option<ServiceNameRef<'_>>),
    ) -> bool {
        let counts = match decision {
            Decision::Allowed => return true,
            Decision::Reported => &mut self.counters.reported_denials,
            Decision::Denied => &mut self.counters.denials,
        };
        *counts.entry(denial).or_default() += 1;
        let now = self.now();
        if self.noted_denials.is_due(subject, denial, now) {
            let note = Note::Denied {
                peer: peer.clone(),
                identity: self.name_of(subject),
                denial,
                service: service.map(ServiceNameRef::to_owned),
                is_done: decision.is_done(),
            };
            self.note(note);
        }
        decision.is_done()
    }

    /// The name of a subject's identity, if it has one.
    fn name_of(&self, subject: Subject) -> Option<IdentityName> {
        let Subject::Identity(id) = subject else { return None };
        self.access.identity(id).map(|identity| identity.name.clone())
    }

    /// Grants are others from now on. What was accepted under the old ones and is not allowed any more ends: no
    /// request goes to a worker without both grants.
    pub(super) fn on_access(&mut self, access: Arc<Access>) {
        self.access = access;
        self.end_workers_without_grants();
        for id in self.services.ids() {
            self.drop_requests_without_grants(id);
        }
    }

    fn end_workers_without_grants(&mut self) {
        let is_denied = |(_, worker): &(WorkerId, &crate::worker::Worker<F>)| {
            let Some(service) = self.services.find(worker.service) else { return false };
            let name = service.name.as_bytes();
            !self.access.decide(worker.subject, Operation::Register, name).is_done()
        };
        let denied = self.workers.iter().filter(is_denied);
        let mut denied: Vec<(bool, WorkerId)> =
            denied.map(|(id, worker)| (worker.is_busy(), id)).collect();
        // Free ones first: what a busy one had must not go to another one that ends.
        denied.sort_unstable();
        for (_, id) in denied {
            self.end_worker(id, WorkerEnd::NotAllowed, Farewell::Disconnect);
        }
    }

    fn drop_requests_without_grants(&mut self, id: ServiceId) {
        let Some(service) = self.services.find_mut(id) else { return };
        let (access, name) = (&self.access, service.name.as_bytes().to_vec());
        let denied = service.queue.take_where(|request| {
            !access.decide(request.subject, Operation::Call, &name).is_done()
        });
        for request in denied {
            self.count_dequeued(id, &request);
            self.drop_request(&request, DropReason::NotAllowed);
        }
        self.release_if_unused(id);
    }

    /// Whether the one who asked may still call the service.
    pub(super) fn is_still_allowed(&self, id: ServiceId, subject: Subject) -> bool {
        let name = self.services.find(id).map(|service| service.name.as_bytes());
        name.is_some_and(|name| self.access.decide(subject, Operation::Call, name).is_done())
    }
}
