//! The management interface, 8/MMI: answered by the broker itself, never by a worker.

use std::time::Duration;

use mdp_wire::{
    Body, Frame, ServiceFrame, ServiceName, Version,
    client::{self, Reply, ReplyCommand},
};

use super::Broker;
use crate::{
    DropReason, Effect, Extensions, LookupOutcome, LookupPurpose, OnNoQuorum, Operation, Outgoing,
    Page, PeerId, QueryId, Question, Subject, service::ServiceId, time::Moment, timers::TimerKey,
};

/// How many questions to the cluster may be open.
const QUERIES_MAX: usize = 100_000;

/// How long a proof of registrations waits for the cluster before it is asked for again. Not
/// `mmi.read_timeout`: that is for clients that ask `mmi.service`, and may be an hour, for which no
/// worker should wait because one answer was lost. A second is longer than an election.
const PROOF_TIMEOUT: Duration = Duration::from_secs(1);

const FOUND: &[u8] = b"200";
/// Not of 8/MMI, which knows no identities: the asker may neither call nor register the service.
const FORBIDDEN: &[u8] = b"403";
const NOT_FOUND: &[u8] = b"404";
const NOT_IMPLEMENTED: &[u8] = b"501";
const UNAVAILABLE: &[u8] = b"503";

/// Who asked, and how to answer.
#[derive(Debug)]
pub(super) struct Asker<F> {
    client: PeerId,
    subject: Subject,
    version: Version,
    envelope: Vec<F>,
    /// The `mmi.*` name, given back as it came.
    service: ServiceName,
}

/// What an open question to the cluster is for.
#[derive(Debug)]
pub(super) enum Purpose<F> {
    /// `mmi.service`.
    Availability(Asker<F>),
    /// One of the pages.
    Page(Asker<F>),
    /// The proof of registrations.
    Proof(ServiceId),
}

/// An open question to the cluster.
#[derive(Debug)]
pub(super) struct Query<F> {
    purpose: Purpose<F>,
    asked_at: Moment,
    pub(super) deadline: Moment,
}

impl<F: Frame> Broker<F> {
    /// MMI answers never wait behind queued requests, and create no service (protocol.md 6.6).
    pub(super) fn on_mmi_request(
        &mut self,
        (from, subject): (PeerId, Subject),
        message: client::Request<ServiceFrame<F>, F>,
    ) {
        self.counters.mmi_requests += 1;
        let client::Request { version, envelope, service, body } = message;
        let name = service.as_name().to_owned();
        let asker = Asker { client: from, subject, version, envelope, service: name };
        // A question costs as much as a request, and more than one page of a large cluster does.
        if !self.has_turn((&asker.client, subject), asker.service.as_name()) {
            return;
        }
        let page = match (service.as_ref(), self.settings.extensions) {
            (b"mmi.service", _) => return self.on_mmi_service(asker, &body),
            (b"mmi.echo", Extensions::On) => return self.answer(asker, body),
            (b"mmi.directory", Extensions::On) => {
                if !self.may_ask((&asker.client, subject), Question::Directory) {
                    return self.answer_code(asker, FORBIDDEN);
                }
                Page::Directory
            }
            (b"mmi.endpoints", Extensions::On) => Page::Endpoints,
            // Who may not have all of it is told what any client needs: that is no denial.
            (b"mmi.status", Extensions::On) => match self.is_told_all(subject) {
                true => Page::Status,
                false => Page::StatusInBrief,
            },
            // MMI8-05.
            _ => return self.answer_code(asker, NOT_IMPLEMENTED),
        };
        if let Some(asker) = self.refuse_if_too_many(asker) {
            let client = asker.client.clone();
            let query = self.open_query(Purpose::Page(asker));
            self.effects.push_back(Effect::Describe { query, page, asker: client, subject });
        }
    }

    /// MMI8-04: whether any worker, idle or busy, is registered for the service on any node.
    fn on_mmi_service(&mut self, asker: Asker<F>, body: &Body<F>) {
        // AM-04: the last body frame is the name.
        let name = body.last().and_then(|frame| ServiceName::try_from(frame.as_ref()).ok());
        match name {
            // AM-06: nobody can register a reserved name; nor one that is not a name.
            None => self.answer_code(asker, NOT_FOUND),
            Some(name) if name.is_reserved() => self.answer_code(asker, NOT_FOUND),
            // Before the look-up: not even its time tells whether there is one.
            Some(name)
                if !self.may((&asker.client, asker.subject), Operation::See, name.as_name()) =>
            {
                self.answer_code(asker, FORBIDDEN);
            }
            Some(name) => {
                if let Some(asker) = self.refuse_if_too_many(asker) {
                    self.ask(name, Purpose::Availability(asker));
                }
            }
        }
    }

    /// Asks the cluster whether a service is offered.
    pub(super) fn ask(&mut self, service: ServiceName, purpose: Purpose<F>) -> QueryId {
        let wanted_for = match purpose {
            Purpose::Availability(_) | Purpose::Page(_) => LookupPurpose::Availability,
            Purpose::Proof(_) => LookupPurpose::Proof,
        };
        let query = self.open_query(purpose);
        self.effects.push_back(Effect::Lookup { query, service, purpose: wanted_for });
        query
    }

    fn open_query(&mut self, purpose: Purpose<F>) -> QueryId {
        let query = self.new_query_id();
        let asked_at = self.now();
        let time = match purpose {
            Purpose::Availability(_) | Purpose::Page(_) => self.settings.read_timeout,
            Purpose::Proof(_) => PROOF_TIMEOUT,
        };
        let deadline = asked_at.after(time);
        self.queries.insert(query, Query { purpose, asked_at, deadline });
        self.set_queries_timer();
        query
    }

    fn set_queries_timer(&mut self) {
        if let Some((due, before)) = self.queries.set_timer() {
            if let Some(before) = before {
                self.timers.remove(before, TimerKey::Queries);
            }
            self.timers.insert(due, TimerKey::Queries);
        }
    }

    /// Gives the asker back if there is room for one more question.
    fn refuse_if_too_many(&mut self, asker: Asker<F>) -> Option<Asker<F>> {
        if self.queries.len() < QUERIES_MAX {
            return Some(asker);
        }
        self.counters.drop(DropReason::TooManyQueries);
        self.answer_unavailable(asker);
        None
    }

    pub(super) fn on_looked_up(&mut self, id: QueryId, outcome: LookupOutcome) {
        let Some(query) = self.queries.remove(id) else { return };
        match query.purpose {
            Purpose::Proof(service) => self.on_proof(service, id, outcome),
            Purpose::Page(asker) => self.answer_unavailable(asker),
            Purpose::Availability(asker) => {
                let took = self.now().since(query.asked_at);
                self.counters.lookup_times.observe(took);
                self.on_availability(asker, outcome);
            }
        }
    }

    fn on_availability(&mut self, asker: Asker<F>, outcome: LookupOutcome) {
        match outcome {
            // AM-05: idle and busy workers count, on every node.
            LookupOutcome::OfferedHere | LookupOutcome::OfferedElsewhere => {
                self.answer_code(asker, FOUND);
            }
            LookupOutcome::NotOffered => self.answer_code(asker, NOT_FOUND),
            LookupOutcome::NoQuorum => self.answer_unavailable(asker),
        }
    }

    pub(super) fn on_described(&mut self, id: QueryId, json: &[u8]) {
        let Some(query) = self.queries.remove(id) else { return };
        match query.purpose {
            Purpose::Page(asker) => {
                let body = [F::from(FOUND), F::from(json)].into_iter().collect();
                self.answer(asker, body);
            }
            Purpose::Availability(asker) => self.answer_unavailable(asker),
            Purpose::Proof(service) => self.on_proof(service, id, LookupOutcome::NoQuorum),
        }
    }

    /// Those that are due have no answer in time; one timer serves all.
    pub(super) fn on_queries_timer(&mut self) {
        let now = self.now();
        self.queries.clear_timer();
        while let Some((id, query)) = self.queries.pop_due(now) {
            match query.purpose {
                Purpose::Proof(service) => self.on_proof(service, id, LookupOutcome::NoQuorum),
                Purpose::Availability(asker) | Purpose::Page(asker) => {
                    self.answer_unavailable(asker);
                }
            }
        }
        self.set_queries_timer();
    }

    /// Never a guess: this node does not know.
    fn answer_unavailable(&mut self, asker: Asker<F>) {
        match self.settings.on_no_quorum {
            OnNoQuorum::Answer503 => self.answer_code(asker, UNAVAILABLE),
            OnNoQuorum::Silent => {}
        }
    }

    fn answer_code(&mut self, asker: Asker<F>, code: &[u8]) {
        self.answer(asker, [F::from(code)].into_iter().collect());
    }

    /// MMI8-06: a normal reply, whose service is the `mmi.*` name; over 0.2 one FINAL (AM-19).
    fn answer(&mut self, asker: Asker<F>, body: Body<F>) {
        let Asker { client, version, envelope, service, .. } = asker;
        let command = ReplyCommand::last(version);
        let message = Outgoing::Client(Reply { command, envelope, service, body });
        self.effects.push_back(Effect::Send { to: client, message });
    }
}
