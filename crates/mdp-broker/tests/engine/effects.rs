//! Short forms of effects, to be compared with what the engine says.

use std::time::Duration;

use mdp_broker::{
    Effect, HeldRequest, LookupPurpose, Note, Outgoing, QueryId, Receipt, RegistrationRefusal,
    WorkerEnd,
};
use mdp_catalog::{CatalogEntry, Seq};
use mdp_wire::{
    Token,
    client::{Reply, ReplyCommand},
    worker::FromBroker,
};

use crate::support::{BrokerTest, Bytes, body_of, peer, service, version_of};

fn to_worker(worker: &str, message: FromBroker<Token, Bytes>) -> Effect<Bytes> {
    let message = Outgoing::Worker { version: version_of(worker), message };
    Effect::Send { to: peer(worker), message }
}

pub(crate) fn heartbeat(worker: &str) -> Effect<Bytes> {
    to_worker(worker, FromBroker::Heartbeat)
}

pub(crate) fn disconnect(worker: &str) -> Effect<Bytes> {
    to_worker(worker, FromBroker::Disconnect)
}

fn to_client(client: &str, command: ReplyCommand, name: &str, body: &str) -> Effect<Bytes> {
    let (envelope, service) = (Vec::new(), service(name));
    let message = Outgoing::Client(Reply { command, envelope, service, body: body_of(body) });
    Effect::Send { to: peer(client), message }
}

/// The last or only reply, in the client's version.
pub(crate) fn reply(client: &str, name: &str, body: &str) -> Effect<Bytes> {
    to_client(client, ReplyCommand::last(version_of(client)), name, body)
}

pub(crate) fn partial(client: &str, name: &str, body: &str) -> Effect<Bytes> {
    to_client(client, ReplyCommand::Partial, name, body)
}

/// A question that a client asked.
pub(crate) fn lookup(query: u64, name: &str) -> Effect<Bytes> {
    let purpose = LookupPurpose::Availability;
    Effect::Lookup { query: QueryId(query), service: service(name), purpose }
}

/// A question that registrations wait for.
pub(crate) fn proof(query: u64, name: &str) -> Effect<Bytes> {
    let purpose = LookupPurpose::Proof;
    Effect::Lookup { query: QueryId(query), service: service(name), purpose }
}

pub(crate) fn service_up(name: &str) -> Effect<Bytes> {
    Effect::Note(Note::ServiceUp { service: service(name) })
}

pub(crate) fn service_down(name: &str) -> Effect<Bytes> {
    Effect::Note(Note::ServiceDown { service: service(name) })
}

pub(crate) fn worker_up(worker: &str, name: &str) -> Effect<Bytes> {
    Effect::Note(Note::WorkerUp { peer: peer(worker), service: service(name) })
}

pub(crate) fn worker_down(worker: &str, name: &str, end: WorkerEnd) -> Effect<Bytes> {
    Effect::Note(Note::WorkerDown { peer: peer(worker), service: service(name), end, held: None })
}

/// The same of a worker that had a request of this client, at this attempt.
pub(crate) fn worker_down_with(
    (worker, name): (&str, &str),
    end: WorkerEnd,
    (client, attempt): (&str, u32),
) -> Effect<Bytes> {
    let held = Some(HeldRequest { client: Some(peer(client)), id: None, attempt });
    Effect::Note(Note::WorkerDown { peer: peer(worker), service: service(name), end, held })
}

pub(crate) fn refused(
    worker: &str,
    name: Option<&str>,
    refusal: RegistrationRefusal,
) -> Effect<Bytes> {
    let service = name.map(service);
    Effect::Note(Note::RegistrationRefused { peer: peer(worker), source: None, service, refusal })
}

pub(crate) fn paused(duration: Duration) -> Effect<Bytes> {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap();
    Effect::Note(Note::Paused { milliseconds })
}

pub(crate) fn drained(finished: u64, dropped: u64) -> Effect<Bytes> {
    Effect::Drained(Receipt { finished, handed_over: 0, dropped })
}

impl BrokerTest {
    /// The request that the worker got last, with this body.
    pub(crate) fn work(&self, worker: &str, body: &str) -> Effect<Bytes> {
        let message = FromBroker::Request { client: self.token(worker), body: body_of(body) };
        to_worker(worker, message)
    }

    pub(crate) fn offer(&self, seq: u64, name: &str) -> Effect<Bytes> {
        let (incarnation, services) = (self.incarnation(), vec![service(name)]);
        Effect::Propose(CatalogEntry::Offer { incarnation, seq: Seq(seq), services })
    }

    /// This incarnation says that it leaves.
    pub(crate) fn leaves(&self, seq: u64) -> Effect<Bytes> {
        let incarnation = self.incarnation();
        Effect::Propose(CatalogEntry::NodeDraining { incarnation, seq: Seq(seq) })
    }

    pub(crate) fn withdraw(&self, seq: u64, name: &str) -> Effect<Bytes> {
        let (incarnation, services) = (self.incarnation(), vec![service(name)]);
        Effect::Propose(CatalogEntry::Withdraw { incarnation, seq: Seq(seq), services })
    }
}
