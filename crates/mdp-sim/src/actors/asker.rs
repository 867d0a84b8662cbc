//! A client that asks the broker itself: `mmi.service`, one question at a time, and now and then a
//! name that does not exist.

use std::time::{Duration, Instant};

use super::{
    Workload,
    frames::{self, Dialect},
    outbox::Outbox,
};
use crate::{
    Rng,
    actor::{Actor, ActorAction},
    observation::{Answer, Event, QuestionId},
    roster::Addresses,
};

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// How long it waits before it connects again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(300));
/// How long an answer may take; the node itself gives up after a second.
const PATIENCE: Duration = Duration::from_millis(2_500);
/// After so many questions on the average it goes to another node.
const QUESTIONS_PER_NODE: u32 = 100;
/// Names that do not exist, of a thousand questions.
const OTHERS: u32 = 40;

/// Names of the broker's own, what is asked, and the code that must come, whatever happens.
const MMI: [(&str, &str, &str); 5] = [
    ("mmi.nothing", "x", "501"),
    ("mmi.", "x", "501"),
    ("mmi.services", "x", "501"),
    ("mmi.service", "mmi.service", "404"),
    ("mmi.service", "", "404"),
];

#[derive(Debug)]
enum State {
    Away { until: Instant },
    Connecting { until: Instant },
    Online { node: usize },
    Dead,
}

#[derive(Debug)]
struct Question {
    id: QuestionId,
    /// The name that was asked under.
    asked: &'static str,
    is_lookup: bool,
    deadline: Instant,
}

#[derive(Debug)]
pub(super) struct Asker {
    actor: usize,
    nodes: Addresses,
    services: Vec<String>,
    dialect: Dialect,
    ask_max: Duration,
    rng: Rng,
    outbox: Outbox,
    state: State,
    question: Option<Question>,
    next_at: Option<Instant>,
    next_number: u32,
    until: Option<Instant>,
}

impl Asker {
    pub(super) fn new(actor: usize, nodes: Addresses, workload: &Workload, mut rng: Rng) -> Self {
        Self {
            actor,
            nodes,
            services: workload.services.iter().map(|service| service.name.clone()).collect(),
            dialect: if rng.chance(500) { Dialect::V1 } else { Dialect::V2 },
            ask_max: workload.ask_max,
            rng,
            outbox: Outbox::default(),
            state: State::Dead,
            question: None,
            next_at: None,
            next_number: 0,
            until: None,
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now >= until)
    }

    fn wait(&mut self, now: Instant) {
        self.next_at = Some(now + self.rng.duration(Duration::from_millis(1), self.ask_max));
    }

    fn stay_away(&mut self, now: Instant) {
        self.state = State::Away { until: now + self.rng.duration(AGAIN.0, AGAIN.1) };
    }

    fn forget(&mut self, now: Instant) {
        if let Some(Question { id, .. }) = self.question.take() {
            self.outbox.saw(now, Event::LookupForgotten { id });
        }
    }

    fn ask(&mut self, now: Instant, node: usize) {
        let id = QuestionId { asker: self.actor, number: self.next_number };
        self.next_number += 1;
        let other = if self.rng.chance(OTHERS) { self.rng.pick(&MMI).copied() } else { None };
        let deadline = now + PATIENCE;
        let (asked, name) = match other {
            Some((asked, name, wanted)) => {
                self.outbox.saw(now, Event::MmiSent { id, node, wanted });
                (asked, name)
            }
            None => {
                let service = self.rng.below(self.services.len());
                self.outbox.saw(now, Event::LookupSent { id, service, node });
                ("mmi.service", self.services[service].as_str())
            }
        };
        self.outbox.send(frames::request(self.dialect, asked, name.as_bytes()));
        self.question = Some(Question { id, asked, is_lookup: other.is_none(), deadline });
    }

    fn on_answer(&mut self, now: Instant, frames: &[Vec<u8>]) -> Result<(), String> {
        let Some(reply) = frames::reply(self.dialect, frames) else {
            return Err(format!("no message to a client: {frames:?}"));
        };
        let Some(Question { id, asked, is_lookup, .. }) = self.question.take() else {
            return Err(format!("an answer without a question: {reply:?}"));
        };
        self.wait(now);
        let [body] = reply.body.as_slice() else {
            return Err(format!("not one frame: {reply:?}"));
        };
        if !reply.is_last || reply.service != asked.as_bytes() {
            return Err(format!("{asked} was asked: {reply:?}"));
        }
        let answer = match (is_lookup, body.as_slice()) {
            (false, code) => {
                let code = String::from_utf8_lossy(code).into_owned();
                self.outbox.saw(now, Event::MmiAnswered { id, code });
                return Ok(());
            }
            (true, b"200") => Answer::Found,
            (true, b"404") => Answer::NotFound,
            (true, b"503") => Answer::Unavailable,
            (true, _) => return Err(format!("an unknown code: {reply:?}")),
        };
        self.outbox.saw(now, Event::LookupAnswered { id, answer });
        Ok(())
    }

    fn on_online_timeout(&mut self, now: Instant, node: usize) {
        if let Some(question) = &self.question {
            if question.deadline <= now {
                self.forget(now);
                self.outbox.close();
                self.stay_away(now);
            }
            return;
        }
        if self.next_at.is_some_and(|at| at <= now) {
            self.wait(now);
            if self.is_over(now) {
                self.next_at = None;
            } else if self.rng.chance(1_000 / QUESTIONS_PER_NODE) {
                self.outbox.close();
                self.stay_away(now);
            } else {
                self.ask(now, node);
            }
        }
    }
}

impl Actor for Asker {
    fn on_connected(&mut self, now: Instant, node: usize) {
        if matches!(self.state, State::Connecting { .. }) {
            self.state = State::Online { node };
            self.wait(now);
        }
    }

    fn on_closed(&mut self, now: Instant) {
        if !matches!(self.state, State::Dead) {
            self.forget(now);
            self.stay_away(now);
        }
    }

    fn on_frames(&mut self, now: Instant, frames: Vec<Vec<u8>>) {
        if !matches!(self.state, State::Online { .. }) {
            return;
        }
        if let Err(what) = self.on_answer(now, &frames) {
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
            State::Online { .. } => match &self.question {
                Some(question) => Some(question.deadline),
                None => self.next_at,
            },
            State::Dead => None,
        }
    }

    fn poll_action(&mut self) -> Option<ActorAction> {
        self.outbox.pop()
    }

    fn die(&mut self, now: Instant) {
        self.forget(now);
        self.outbox.die();
        self.state = State::Dead;
    }

    fn revive(&mut self, now: Instant) {
        if matches!(self.state, State::Dead) {
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
