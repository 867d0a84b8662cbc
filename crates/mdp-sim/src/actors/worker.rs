//! A worker: READY, heartbeats, jobs; sometimes it leaves or dies; it begins anew with another node
//! when its node is silent or sends it away.

use std::time::{Duration, Instant};

use super::{
    Workload,
    frames::{Dialect, FromBroker, Said},
    outbox::Outbox,
    worker_v1, worker_v2,
};
use crate::{
    Rng,
    actor::{Actor, ActorAction},
    observation::{Event, Parting, RegistrationId, RequestId},
    roster::Addresses,
};

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// How long a connection stays open after DISCONNECT was sent, so that it arrives.
const LINGER: Duration = Duration::from_millis(100);
/// How long a worker that comes and goes stays, and stays away: far longer than an operation takes.
const HELD: (Duration, Duration) = (Duration::from_millis(250), Duration::from_millis(1_500));
/// How long any worker waits before it comes again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(300));

/// What a worker is like.
#[derive(Debug)]
struct Habits {
    interval: Duration,
    expiry: Duration,
    comes_and_goes: bool,
    heartbeats_while_busy: bool,
    job_max: Duration,
    deaths: u32,
    leaves: u32,
}

#[derive(Debug)]
enum State {
    /// Without a connection; it wants one then.
    Away {
        until: Instant,
    },
    Connecting {
        until: Instant,
    },
    Serving(Session),
    /// It said DISCONNECT.
    Leaving {
        until: Instant,
    },
    Dead,
}

/// One registration.
#[derive(Debug)]
struct Session {
    id: RegistrationId,
    is_acknowledged: bool,
    node: usize,
    heard_at: Instant,
    heartbeat_at: Instant,
    leave_at: Option<Instant>,
    job: Option<Job>,
    /// A heartbeat was sent too late.
    was_late: bool,
}

/// One request.
#[derive(Debug)]
struct Job {
    address: Vec<u8>,
    request: RequestId,
    part: u32,
    parts: u32,
    due: Instant,
    end: JobEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JobEnd {
    Reply,
    ReplyAndLeave,
    Leave,
    Die,
}

#[derive(Debug)]
pub(super) struct Worker {
    actor: usize,
    nodes: Addresses,
    service: usize,
    name: String,
    dialect: Dialect,
    habits: Habits,
    rng: Rng,
    outbox: Outbox,
    registrations: u32,
    state: State,
    is_settled: bool,
}

impl Worker {
    pub(super) fn new(
        actor: usize,
        nodes: Addresses,
        (service, workload): (usize, &Workload),
        mut rng: Rng,
    ) -> Self {
        let planned = &workload.services[service];
        let habits = Habits {
            interval: workload.heartbeat_interval,
            expiry: workload.expiry(),
            comes_and_goes: planned.comes_and_goes,
            heartbeats_while_busy: rng.chance(500),
            job_max: workload.job_max,
            deaths: workload.deaths,
            leaves: workload.leaves,
        };
        Self {
            actor,
            nodes,
            service,
            name: planned.name.clone(),
            dialect: if rng.chance(500) { Dialect::V1 } else { Dialect::V2 },
            habits,
            rng,
            outbox: Outbox::default(),
            registrations: 0,
            state: State::Dead,
            is_settled: false,
        }
    }

    fn stay_away(&mut self, now: Instant, times: (Duration, Duration)) {
        self.state = State::Away { until: now + self.rng.duration(times.0, times.1) };
    }

    /// The registration is over; says so.
    fn part(&mut self, now: Instant, parting: Parting) -> bool {
        let State::Serving(session) = &self.state else { return false };
        let (id, was_healthy) = (session.id, !session.was_late);
        self.outbox.saw(now, Event::WorkerParted { id, parting, was_healthy });
        true
    }

    fn leave(&mut self, now: Instant) {
        self.outbox.send(match self.dialect {
            Dialect::V1 => worker_v1::disconnect(),
            Dialect::V2 => worker_v2::disconnect(),
        });
        self.part(now, Parting::Left);
        self.state = State::Leaving { until: now + LINGER };
    }

    fn connect(&mut self, now: Instant) {
        self.outbox.connect(self.nodes.pick(&mut self.rng));
        self.state = State::Connecting { until: now + CONNECT_MAX };
    }

    fn close(&mut self, now: Instant, times: (Duration, Duration)) {
        self.outbox.close();
        self.stay_away(now, times);
    }

    fn on_message(&mut self, now: Instant, message: FromBroker) {
        let State::Serving(session) = &mut self.state else { return };
        session.heard_at = now;
        if message == FromBroker::Disconnect {
            self.part(now, Parting::Disconnected);
            return self.close(now, AGAIN);
        }
        if !session.is_acknowledged {
            session.is_acknowledged = true;
            if self.habits.comes_and_goes && !self.is_settled {
                session.leave_at = Some(now + self.rng.duration(HELD.0, HELD.1));
            }
            self.outbox.saw(now, Event::Acknowledged { id: session.id });
        }
        if let FromBroker::Request { address, body } = message {
            self.begin_job(now, address, &body);
        }
    }

    fn begin_job(&mut self, now: Instant, address: Vec<u8>, body: &[Vec<u8>]) {
        let text = match body {
            [only] => std::str::from_utf8(only).ok(),
            _ => None,
        };
        let Some(request) = text.and_then(RequestId::parse) else {
            let what = format!("a request that nobody sent: {body:?}");
            return self.outbox.saw(now, Event::Wrong { actor: self.actor, what });
        };
        let job = self.plan_job(now, address, request);
        let State::Serving(session) = &mut self.state else { return };
        if let Some(other) = &session.job {
            let what = format!("{request} while it has {}", other.request);
            return self.outbox.saw(now, Event::Wrong { actor: self.actor, what });
        }
        session.job = Some(job);
        let (by, node) = (session.id, session.node);
        self.outbox.saw(now, Event::Executed { request, by, service: self.service, node });
    }

    fn plan_job(&mut self, now: Instant, address: Vec<u8>, request: RequestId) -> Job {
        let end = if self.is_settled {
            JobEnd::Reply
        } else if self.rng.chance(self.habits.deaths) {
            JobEnd::Die
        } else if self.rng.chance(self.habits.leaves) {
            if self.rng.chance(500) { JobEnd::Leave } else { JobEnd::ReplyAndLeave }
        } else {
            JobEnd::Reply
        };
        let has_parts = self.dialect == Dialect::V2 && self.rng.chance(300);
        let parts = if has_parts { u32::try_from(self.rng.between(2, 4)).unwrap_or(2) } else { 1 };
        let takes = self.rng.duration(Duration::ZERO, self.habits.job_max) / parts;
        Job { address, request, part: 0, parts, due: now + takes, end }
    }

    /// Sends the next part of the reply, or does what else the job ends with.
    fn work_on(&mut self, now: Instant) {
        let State::Serving(session) = &mut self.state else { return };
        let Some(job) = &mut session.job else { return };
        let is_last = job.part + 1 == job.parts;
        let end = if is_last { job.end } else { JobEnd::Reply };
        match end {
            JobEnd::Die => {
                session.job = None;
                self.part(now, Parting::Died);
                return self.close(now, AGAIN);
            }
            JobEnd::Leave => return self.leave(now),
            JobEnd::Reply | JobEnd::ReplyAndLeave => {}
        }
        let said = Said { request: job.request, by: session.id, part: job.part, is_last }.write();
        self.outbox.send(match (self.dialect, is_last) {
            (Dialect::V1, _) => worker_v1::reply(&job.address, &said),
            (Dialect::V2, true) => worker_v2::last(&job.address, &said),
            (Dialect::V2, false) => worker_v2::partial(&job.address, &said),
        });
        if is_last {
            session.job = None;
        } else {
            job.part += 1;
            job.due = now + self.rng.duration(Duration::ZERO, self.habits.job_max) / job.parts;
        }
        if end == JobEnd::ReplyAndLeave {
            self.leave(now);
        }
    }

    /// Everything that may be due in a session, the first thing first.
    fn on_session_timeout(&mut self, now: Instant) {
        let State::Serving(session) = &mut self.state else { return };
        if session.heard_at + self.habits.expiry <= now {
            self.part(now, Parting::BrokerSilent);
            return self.close(now, AGAIN);
        }
        if session.heartbeat_at <= now {
            session.was_late |= now > session.heartbeat_at + self.habits.interval / 2;
            session.heartbeat_at = now + self.habits.interval;
            if session.job.is_none() || self.habits.heartbeats_while_busy {
                self.outbox.send(match self.dialect {
                    Dialect::V1 => worker_v1::heartbeat(),
                    Dialect::V2 => worker_v2::heartbeat(),
                });
            }
        }
        if session.job.as_ref().is_some_and(|job| job.due <= now) {
            return self.work_on(now);
        }
        if session.job.is_none() && session.leave_at.is_some_and(|at| at <= now) {
            self.leave(now);
        }
    }

    fn session_timeout(&self, session: &Session) -> Instant {
        let job = session.job.as_ref().map(|job| job.due);
        let leave = session.leave_at.filter(|_| session.job.is_none());
        let silent = session.heard_at + self.habits.expiry;
        [job, leave, Some(silent)].into_iter().flatten().fold(session.heartbeat_at, Instant::min)
    }
}

impl Actor for Worker {
    fn on_connected(&mut self, now: Instant, node: usize) {
        if !matches!(self.state, State::Connecting { .. }) {
            return;
        }
        let id = RegistrationId { worker: self.actor, number: self.registrations };
        self.registrations += 1;
        self.state = State::Serving(Session {
            id,
            is_acknowledged: false,
            node,
            heard_at: now,
            heartbeat_at: now + self.habits.interval,
            leave_at: None,
            job: None,
            was_late: false,
        });
        self.outbox.saw(now, Event::ReadySent { id, service: self.service, node });
        self.outbox.send(match self.dialect {
            Dialect::V1 => worker_v1::ready(&self.name),
            Dialect::V2 => worker_v2::ready(&self.name),
        });
    }

    fn on_closed(&mut self, now: Instant) {
        match self.state {
            State::Serving(_) => {
                self.part(now, Parting::ConnectionLost);
                self.stay_away(now, AGAIN);
            }
            State::Connecting { .. } | State::Leaving { .. } => self.stay_away(now, AGAIN),
            State::Away { .. } | State::Dead => {}
        }
    }

    fn on_frames(&mut self, now: Instant, frames: Vec<Vec<u8>>) {
        if !matches!(self.state, State::Serving(_)) {
            return;
        }
        let read = match self.dialect {
            Dialect::V1 => worker_v1::read(&frames),
            Dialect::V2 => worker_v2::read(&frames),
        };
        match read {
            Some(message) => self.on_message(now, message),
            None => {
                let what = format!("no message to a worker: {frames:?}");
                self.outbox.saw(now, Event::Wrong { actor: self.actor, what });
            }
        }
    }

    fn on_timeout(&mut self, now: Instant) {
        match self.state {
            State::Away { until } if until <= now => self.connect(now),
            State::Connecting { until } if until <= now => self.close(now, AGAIN),
            State::Leaving { until } if until <= now => {
                let times = if self.habits.comes_and_goes { HELD } else { AGAIN };
                self.close(now, times);
            }
            State::Serving(_) => self.on_session_timeout(now),
            State::Away { .. } | State::Connecting { .. } | State::Leaving { .. } | State::Dead => {
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Away { until } | State::Connecting { until } | State::Leaving { until } => {
                Some(*until)
            }
            State::Serving(session) => Some(self.session_timeout(session)),
            State::Dead => None,
        }
    }

    fn poll_action(&mut self) -> Option<ActorAction> {
        self.outbox.pop()
    }

    fn die(&mut self, now: Instant) {
        self.part(now, Parting::Died);
        self.outbox.die();
        self.state = State::Dead;
    }

    fn revive(&mut self, now: Instant) {
        if matches!(self.state, State::Dead) {
            self.stay_away(now, AGAIN);
        }
    }

    fn is_worker(&self) -> bool {
        true
    }

    fn settle(&mut self, now: Instant, _until: Instant) {
        self.is_settled = true;
        self.revive(now);
        if let State::Serving(session) = &mut self.state {
            session.leave_at = None;
            if let Some(job) = &mut session.job {
                job.end = JobEnd::Reply;
            }
        }
    }
}
