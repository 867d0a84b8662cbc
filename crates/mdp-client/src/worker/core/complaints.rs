//! What a worker that is not registered, or will not stay so, says in the log.

use std::time::{Duration, Instant};

use super::{State, WorkerCore, WorkerEffect};
use crate::{ConnectFailure, UnreachableEndpoint, warnings::Complaint};

/// How many times longer than the broker's the worker's heartbeat interval may be. Brokers take a
/// worker for dead after three of their own intervals.
const INTERVAL_RATIO_MAX: u32 = 2;

impl WorkerCore {
    /// A connection could not be made. While the worker is registered elsewhere that is no news.
    pub(super) fn on_examined(&mut self, now: Instant, endpoint: String, failure: ConnectFailure) {
        self.brokers.on_examined(now, (&endpoint, failure.clone()), &mut self.rng);
        self.wait_after_refusal(now);
        let is_registered = match &self.state {
            State::Connected(session) => session.acknowledged,
            State::Waiting { .. } | State::Finished => false,
        };
        if !is_registered && !self.leaving {
            self.complain(&UnreachableEndpoint { endpoint, failure }.to_string());
        }
    }

    /// The reason of a failure may be found out after its pause has begun.
    fn wait_after_refusal(&mut self, now: Instant) {
        if !matches!(self.state, State::Waiting { .. })
            || self.brokers.refused_until(now, self.broker).is_none()
        {
            return;
        }
        self.next_broker(now);
        let refused_until = self.brokers.refused_until(now, self.broker);
        if let (State::Waiting { until }, Some(refused_until)) = (&mut self.state, refused_until) {
            *until = refused_until.max(*until);
        }
    }

    /// A DISCONNECT came as the answer to READY.
    pub(super) fn complain_of_refusal(&mut self) {
        let endpoint = self.brokers.endpoint(self.broker).to_owned();
        self.complain(&format!(
            "{endpoint} refuses the worker: it is about to leave its cluster, is full, or does not \
             allow the service; its log tells which"
        ));
    }

    pub(super) fn complain_of_silence(&mut self) {
        let endpoint = self.brokers.endpoint(self.broker).to_owned();
        let (silence_max, is_acknowledged) = match &self.state {
            State::Connected(session) => (self.silence_max(), session.acknowledged),
            State::Waiting { .. } | State::Finished => return,
        };
        let text = if is_acknowledged {
            format!("{endpoint} was silent for {silence_max:?}, and is left")
        } else {
            format!(
                "{endpoint} does not answer READY within {silence_max:?}: its cluster has no \
                 majority, or this is not the port for workers"
            )
        };
        self.complain(&text);
    }

    /// A broker that sends heartbeats much more often than this worker expects them as often.
    pub(super) fn compare_heartbeats(&mut self, brokers: Option<Duration>) {
        let own = self.settings.heartbeat_interval;
        match brokers {
            Some(brokers) if own > brokers.saturating_mul(INTERVAL_RATIO_MAX) => {
                let endpoint = self.brokers.endpoint(self.broker).to_owned();
                let reason = format!(
                    "the heartbeat interval of {own:?} is too long for {endpoint}, which sends \
                     heartbeats much more often: it takes a worker that is silent for three of its \
                     intervals for dead; use its interval or a shorter one"
                );
                self.complain_of(&reason, Some(brokers));
            }
            Some(_) | None => {}
        }
    }

    fn complain(&mut self, reason: &str) {
        self.complain_of(reason, None);
    }

    /// What is measured is not the same twice, so it is no part of the text.
    fn complain_of(&mut self, reason: &str, broker_interval: Option<Duration>) {
        let text = format!("worker of `{}` not served: {reason}", self.settings.service);
        let complaint = Complaint { text, broker_interval };
        self.effects.push_back(WorkerEffect::Complain { complaint });
    }
}
