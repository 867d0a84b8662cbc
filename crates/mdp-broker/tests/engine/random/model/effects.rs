//! What comes out, effect by effect.

use mdp_broker::{Broker, Delivery, Effect, Note, Outgoing, PeerId, WorkerEnd};
use mdp_catalog::CatalogEntry;
use mdp_wire::{Body, ServiceName, Token, Version, worker::FromBroker};

use super::{super::peers::number_of, Held, Model, Owed, Question, ToClient, Worker};
use crate::support::Bytes;

/// What else a silent worker gets, for signs of life that were not read yet.
const GRACE: std::time::Duration = std::time::Duration::from_millis(250);

/// An error with what it is about.
macro_rules! ensure {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            return Err(format!($($message)*));
        }
    };
}
pub(super) use ensure;

impl Model {
    /// Compares the effects of a step with what has to come of it.
    pub(in super::super) fn after(
        &mut self,
        broker: &Broker<Bytes>,
        effects: &[Effect<Bytes>],
    ) -> Result<(), String> {
        self.decide_ready(broker)?;
        let mut to_clients: Vec<ToClient> = Vec::new();
        let mut is_drained = false;
        for effect in effects {
            match effect {
                Effect::Send { to, message: Outgoing::Client(reply) } => {
                    to_clients.push((to.clone(), reply.clone()));
                }
                Effect::Send { to, message: Outgoing::Worker { version, message } } => {
                    self.on_send(to, *version, message)?;
                }
                Effect::Propose(entry) => self.on_propose(entry)?,
                Effect::Lookup { query, service, .. } => {
                    self.asked_in.insert(*query, (self.step, service.clone()));
                    self.on_question(*query);
                }
                Effect::Describe { query, .. } => self.on_question(*query),
                Effect::Note(note) => self.on_note(note)?,
                Effect::ToOwner { .. } | Effect::ToOrigin { .. } => {
                    return Err("a node without links relays".to_owned());
                }
                Effect::Drained(_) => is_drained = true,
            }
        }
        ensure!(
            to_clients == self.expected.to_clients,
            "clients get {to_clients:?}, not {:?}",
            self.expected.to_clients
        );
        self.check_step(broker)?;
        if is_drained { self.check_drained(broker) } else { Ok(()) }
    }

    /// Whether a stranger's READY was accepted shows in the number of workers.
    fn decide_ready(&mut self, broker: &Broker<Bytes>) -> Result<(), String> {
        let Some(ready) = self.expected.ready.take() else { return Ok(()) };
        if broker.gauges().workers == self.workers.len() {
            self.owe(&ready.peer, ready.version);
            return Ok(());
        }
        ensure!(!ready.service.is_reserved(), "a worker for {:?}", ready.service);
        ensure!(!self.is_draining, "a worker registers while the node drains");
        let worker = Worker {
            version: ready.version,
            service: ready.service,
            ready_step: self.step,
            is_proven: false,
            up_step: None,
            last_heard: self.now,
            last_sent: self.now,
            heartbeats_while_busy: false,
            held: None,
        };
        self.workers.insert(ready.peer, worker);
        Ok(())
    }

    fn on_question(&mut self, query: mdp_broker::QueryId) {
        if let Some(asker) = self.expected.question.take() {
            let deadline = self.now + self.settings.read_timeout;
            self.questions.insert(query, Question { asker, deadline });
        }
    }

    fn on_propose(&mut self, entry: &CatalogEntry) -> Result<(), String> {
        let (incarnation, seq) = match entry {
            CatalogEntry::Offer { incarnation, seq, .. }
            | CatalogEntry::Withdraw { incarnation, seq, .. } => (incarnation, seq),
            CatalogEntry::NodeDraining { incarnation, seq } if self.is_draining => {
                (incarnation, seq)
            }
            CatalogEntry::NodeUp(_)
            | CatalogEntry::NodeDraining { .. }
            | CatalogEntry::NodeGone { .. }
            | CatalogEntry::SetClusterVersion { .. }
            | CatalogEntry::Retire { .. }
            | CatalogEntry::Hold { .. }
            | CatalogEntry::Mark { .. } => return Err(format!("proposed {entry:?}")),
        };
        let key = (incarnation.epoch, *seq);
        let last = self.proposed_in.last_key_value().map(|(key, _)| *key);
        ensure!(last.is_none_or(|last| last < key), "proposed {key:?} after {last:?}");
        self.proposed_in.insert(key, self.step);
        Ok(())
    }

    fn on_note(&mut self, note: &Note) -> Result<(), String> {
        match note {
            Note::ServiceUp { service } => {
                ensure!(self.services_up.insert(service.clone()), "{service:?} is up twice");
            }
            Note::ServiceDown { service } => {
                ensure!(self.services_up.remove(service), "{service:?} is down twice");
            }
            Note::WorkerUp { peer, service } => self.on_worker_up(peer, service)?,
            Note::WorkerDown { peer, service, end, .. } => {
                self.on_worker_down(peer, service, *end)?;
            }
            Note::RegistrationRefused { peer, .. } => {
                ensure!(self.owed.iter().any(|o| o.peer == *peer), "{peer:?} is refused");
            }
            Note::Denied { .. } => return Err("a peer without restrictions is denied".to_owned()),
            Note::Paused { .. } | Note::UndelimitedReply { .. } | Note::BadAnswer { .. } => {}
        }
        Ok(())
    }

    fn on_worker_up(&mut self, peer: &PeerId, service: &ServiceName) -> Result<(), String> {
        let Some(worker) = self.workers.get_mut(peer) else {
            return Err(format!("{peer:?} is up, and sent no READY"));
        };
        ensure!(worker.service == *service, "{peer:?} is up for {service:?}");
        ensure!(worker.is_proven, "{peer:?} is acknowledged without a proof");
        ensure!(worker.up_step.is_none(), "{peer:?} is acknowledged twice");
        worker.up_step = Some(self.step);
        self.counts.registrations += 1;
        self.idle.entry(service.clone()).or_default().push_back(peer.clone());
        Ok(())
    }

    fn on_worker_down(
        &mut self,
        peer: &PeerId,
        service: &ServiceName,
        end: WorkerEnd,
    ) -> Result<(), String> {
        let Some(worker) = self.workers.remove(peer) else {
            return Err(format!("{peer:?} is down, and was not registered"));
        };
        ensure!(worker.service == *service, "{peer:?} is down for {service:?}");
        if self.expected.end == Some((peer.clone(), end)) {
            self.expected.end = None;
        } else {
            let is_due = match end {
                WorkerEnd::Expired => {
                    self.expected.is_timeout && self.expires_at(&worker) <= self.now
                }
                WorkerEnd::Draining => {
                    self.is_draining && (worker.held.is_none() || self.expected.is_timeout)
                }
                WorkerEnd::Isolated => self.expected.is_isolated,
                WorkerEnd::Left
                | WorkerEnd::ConnectionLost
                | WorkerEnd::ProtocolError
                | WorkerEnd::NotAllowed => false,
            };
            ensure!(is_due, "{peer:?} ends by {end:?}: {worker:?} at {:?}", self.now);
        }
        if let Some(idle) = self.idle.get_mut(service) {
            idle.retain(|other| other != peer);
        }
        if let Some(held) = worker.held
            && let Some(request) = self.requests.get_mut(&held.number)
        {
            request.is_held = false;
            request.is_maybe_done |= request.unsent_step != Some(self.step);
            request.is_over |= end == WorkerEnd::Draining;
        }
        let (name, is_told) = match end {
            WorkerEnd::Left => ("left", false),
            WorkerEnd::ConnectionLost => ("connection lost", false),
            WorkerEnd::Expired => ("expired", true),
            WorkerEnd::ProtocolError => ("protocol error", true),
            WorkerEnd::Draining => ("draining", true),
            WorkerEnd::Isolated => ("isolated", true),
            WorkerEnd::NotAllowed => ("not allowed", true),
        };
        self.ends.insert(name);
        if is_told {
            self.expected.told.push((peer.clone(), worker.version));
        }
        Ok(())
    }

    /// When a worker has been silent for too long.
    pub(super) fn expires_at(&self, worker: &Worker) -> std::time::Duration {
        let policy = self.policy(&worker.service);
        let limit = match &worker.held {
            Some(held) if !worker.heartbeats_while_busy => {
                worker.last_heard.max(held.since) + policy.busy_timeout
            }
            Some(_) | None => worker.last_heard + policy.expiry(),
        };
        limit + GRACE
    }

    fn on_send(
        &mut self,
        to: &PeerId,
        version: Version,
        message: &FromBroker<Token, Bytes>,
    ) -> Result<(), String> {
        let (now, step) = (self.now, self.step);
        let Some(worker) = self.workers.get_mut(to) else {
            ensure!(*message == FromBroker::Disconnect, "{to:?}, not registered, gets {message:?}");
            return self.on_disconnect(to, version);
        };
        ensure!(worker.version == version, "{to:?} is written to in {version}");
        let Some(up_step) = worker.up_step else {
            return Err(format!("{to:?}, not acknowledged, gets {message:?}"));
        };
        let silence = now - worker.last_sent;
        worker.last_sent = now;
        match message {
            FromBroker::Request { client, body } => self.on_hand_over(to, *client, body),
            FromBroker::Heartbeat => {
                let interval =
                    self.settings.policy_of(worker.service.as_bytes()).heartbeat_interval;
                ensure!(up_step == step || silence >= interval, "{to:?} gets HEARTBEAT too soon");
                Ok(())
            }
            FromBroker::Disconnect => Err(format!("{to:?} gets DISCONNECT and stays registered")),
        }
    }

    fn on_disconnect(&mut self, to: &PeerId, version: Version) -> Result<(), String> {
        let told = (to.clone(), version);
        if let Some(at) = self.expected.told.iter().position(|other| *other == told) {
            self.expected.told.remove(at);
            return Ok(());
        }
        let is_owed = |owed: &Owed| owed.peer == *to && owed.version == version;
        let Some(at) = self.owed.iter().position(is_owed) else {
            return Err(format!("{to:?} gets DISCONNECT ({version}) for nothing"));
        };
        self.owed.remove(at);
        Ok(())
    }

    fn on_hand_over(
        &mut self,
        to: &PeerId,
        token: Token,
        body: &Body<Bytes>,
    ) -> Result<(), String> {
        let number = number_of(body).ok_or("a request without a number")?;
        let Some(worker) = self.workers.get_mut(to) else { return Ok(()) };
        let Some(request) = self.requests.get_mut(&number) else {
            return Err(format!("request {number} comes from nowhere"));
        };
        let service = worker.service.clone();
        let next_idle = self.idle.get_mut(&service).and_then(std::collections::VecDeque::pop_front);
        ensure!(next_idle.as_ref() == Some(to), "{to:?} gets work, {next_idle:?} is idle longer");
        ensure!(worker.held.is_none(), "{to:?} has two requests");
        ensure!(!self.tokens.contains(&token), "a token is given twice");
        ensure!(request.asker.service == service, "{number} goes to another service");
        ensure!(request.body == *body, "{number} is not what the client sent");
        ensure!(!request.is_over && !request.is_held, "{number} is handed over again: {request:?}");
        ensure!(!request.is_partly_answered, "{number} has reached its client in part");
        let policy = *self.settings.policy_of(service.as_bytes());
        ensure!(
            policy.delivery == Delivery::AtLeastOnce || !request.is_maybe_done,
            "{number} may be worked on at most once"
        );
        request.attempts += 1;
        ensure!(request.attempts <= policy.max_attempts, "{number} is tried too often");
        let is_fresh = request.arrived_step == self.step || request.unsent_step == Some(self.step);
        ensure!(is_fresh || self.now < request.deadline, "{number} has waited too long");
        if !std::mem::replace(&mut request.was_handed_over, true) {
            let key = (request.asker.client.clone(), service);
            let last = self.last_first.insert(key, number);
            ensure!(last.is_none_or(|last| last < number), "{number} is out of order, {last:?}");
        }
        request.is_held = true;
        self.tokens.push(token);
        self.counts.dispatched += 1;
        worker.held = Some(Held { token, number, since: self.now, parts: Vec::new() });
        Ok(())
    }
}
