//! A client: requests to services, several at a time; it goes to another node when a reply does not
//! come in time or the connection is lost, and checks that each reply is one to its own request.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::{
    Workload,
    frames::{self, Dialect, Reply, Said},
    outbox::Outbox,
};
use crate::{
    Rng,
    actor::{Actor, ActorAction},
    observation::{Event, RegistrationId, RequestId},
    roster::Addresses,
};

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// How long it waits before it connects again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(300));
/// How often a request is submitted.
const ROUNDS_MAX: u8 = 3;

#[derive(Debug)]
enum State {
    Away { until: Instant },
    Connecting { until: Instant },
    Online { node: usize },
    Dead,
}

/// A request without its reply.
#[derive(Debug)]
struct Open {
    /// Which of the services that are called.
    service: usize,
    deadline: Instant,
    /// How many parts came.
    parts: u32,
    by: Option<RegistrationId>,
}

#[derive(Debug)]
pub(super) struct Client {
    actor: usize,
    nodes: Addresses,
    /// Number and name.
    services: Vec<(usize, String)>,
    dialect: Dialect,
    patience: Duration,
    outstanding_max: usize,
    think_max: Duration,
    rng: Rng,
    outbox: Outbox,
    state: State,
    open: BTreeMap<RequestId, Open>,
    /// To be submitted once more: the last submission, and its service.
    again: VecDeque<(RequestId, usize)>,
    next_number: u32,
    next_at: Option<Instant>,
    until: Option<Instant>,
}

impl Client {
    pub(super) fn new(actor: usize, nodes: Addresses, workload: &Workload, mut rng: Rng) -> Self {
        let called = workload.services.iter().enumerate().filter(|(_, service)| service.is_called);
        Self {
            actor,
            nodes,
            services: called.map(|(number, service)| (number, service.name.clone())).collect(),
            dialect: if rng.chance(500) { Dialect::V1 } else { Dialect::V2 },
            patience: workload.client_patience,
            outstanding_max: workload.outstanding_max,
            think_max: workload.think_max,
            rng,
            outbox: Outbox::default(),
            state: State::Dead,
            open: BTreeMap::new(),
            again: VecDeque::new(),
            next_number: 0,
            next_at: None,
            until: None,
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now >= until)
    }

    fn think(&mut self, now: Instant) {
        let thinks = self.rng.duration(Duration::from_micros(500), self.think_max);
        self.next_at = Some(now + thinks);
    }

    fn stay_away(&mut self, now: Instant) {
        self.state = State::Away { until: now + self.rng.duration(AGAIN.0, AGAIN.1) };
    }

    /// All that is open is lost with the connection.
    fn lose(&mut self, now: Instant) {
        for (id, open) in std::mem::take(&mut self.open) {
            self.outbox.saw(now, Event::RequestLost { id });
            self.again.push_back((id, open.service));
        }
    }

    fn submit(&mut self, now: Instant, node: usize) {
        let (id, service) = match self.again.pop_front() {
            Some((last, _)) if last.round + 1 >= ROUNDS_MAX => return,
            Some((last, service)) => (RequestId { round: last.round + 1, ..last }, service),
            None => {
                let number = self.next_number;
                self.next_number += 1;
                let id = RequestId { client: self.actor, number, round: 0 };
                (id, self.rng.below(self.services.len()))
            }
        };
        let Some((number, name)) = self.services.get(service) else { return };
        self.outbox.saw(now, Event::RequestSent { id, service: *number, node });
        self.outbox.send(frames::request(self.dialect, name, id.to_string().as_bytes()));
        let deadline = now + self.patience;
        self.open.insert(id, Open { service, deadline, parts: 0, by: None });
    }

    fn on_reply(&mut self, now: Instant, reply: &Reply) -> Result<(), String> {
        let mut done = None;
        for (index, frame) in reply.body.iter().enumerate() {
            let Some(said) = Said::read(frame) else {
                let event = Event::StrayReply { client: self.actor, answers: None };
                self.outbox.saw(now, event);
                return Ok(());
            };
            let Some(open) = self.open.get_mut(&said.request) else {
                let answers = Some(said.request);
                self.outbox.saw(now, Event::StrayReply { client: self.actor, answers });
                return Ok(());
            };
            let is_last = index + 1 == reply.body.len() && reply.is_last;
            let named = self.services.get(open.service).map(|(_, name)| name.as_bytes());
            if said.part != open.parts || said.is_last != is_last {
                return Err(format!("{said:?} where part {} is due: {reply:?}", open.parts));
            }
            if open.by.is_some_and(|by| by != said.by) || named != Some(&reply.service) {
                return Err(format!("{said:?} does not belong to {open:?}: {reply:?}"));
            }
            if done.is_some_and(|(request, _)| request != said.request) {
                return Err(format!("two requests are answered by one reply: {reply:?}"));
            }
            open.parts += 1;
            open.by = Some(said.by);
            done = Some((said.request, said.by));
        }
        let Some((id, by)) = done else { return Err("an empty reply".to_owned()) };
        if reply.is_last {
            self.open.remove(&id);
            self.outbox.saw(now, Event::RequestAnswered { id, by });
            self.think(now);
        } else {
            self.outbox.saw(now, Event::RequestPartlyAnswered { id });
        }
        Ok(())
    }

    fn on_online_timeout(&mut self, now: Instant, node: usize) {
        let late = self.open.iter().find(|(_, open)| open.deadline <= now).map(|(id, _)| *id);
        if let Some(id) = late {
            let open = self.open.remove(&id);
            self.outbox.saw(now, Event::RequestTimedOut { id });
            self.again.extend(open.map(|open| (id, open.service)));
            self.lose(now);
            self.outbox.close();
            return self.stay_away(now);
        }
        if self.next_at.is_some_and(|at| at <= now) && self.open.len() < self.outstanding_max {
            if !self.is_over(now) {
                self.submit(now, node);
            }
            self.think(now);
        }
    }
}

impl Actor for Client {
    fn on_connected(&mut self, _now: Instant, node: usize) {
        if matches!(self.state, State::Connecting { .. }) {
            self.state = State::Online { node };
        }
    }

    fn on_closed(&mut self, now: Instant) {
        if !matches!(self.state, State::Dead) {
            self.lose(now);
            self.stay_away(now);
        }
    }

    fn on_frames(&mut self, now: Instant, frames: Vec<Vec<u8>>) {
        if !matches!(self.state, State::Online { .. }) {
            return;
        }
        let outcome = match frames::reply(self.dialect, &frames) {
            Some(reply) => self.on_reply(now, &reply),
            None => Err(format!("no message to a client: {frames:?}")),
        };
        if let Err(what) = outcome {
            self.outbox.saw(now, Event::Wrong { actor: self.actor, what });
        }
    }

    fn on_timeout(&mut self, now: Instant) {
        match self.state {
            State::Away { until } if until <= now => {
                self.outbox.connect(self.nodes.pick(&mut self.rng));
                self.state = State::Connecting { until: now + CONNECT_MAX };
            }
            State::Connecting { until } if until <= now => {
                self.outbox.close();
                self.stay_away(now);
            }
            State::Online { node } => self.on_online_timeout(now, node),
            State::Away { .. } | State::Connecting { .. } | State::Dead => {}
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Away { until } | State::Connecting { until } => Some(until),
            State::Online { .. } => {
                let late = self.open.values().map(|open| open.deadline).min();
                let has_room = self.open.len() < self.outstanding_max;
                let next = self.next_at.filter(|at| has_room && !self.is_over(*at));
                late.into_iter().chain(next).min()
            }
            State::Dead => None,
        }
    }

    fn poll_action(&mut self) -> Option<ActorAction> {
        self.outbox.pop()
    }

    fn die(&mut self, now: Instant) {
        self.lose(now);
        self.again.clear();
        self.outbox.die();
        self.state = State::Dead;
    }

    fn revive(&mut self, now: Instant) {
        if matches!(self.state, State::Dead) {
            self.think(now);
            self.stay_away(now);
        }
    }

    fn is_worker(&self) -> bool {
        false
    }

    fn settle(&mut self, now: Instant, until: Instant) {
        self.until = Some(until);
        self.revive(now);
    }
}
