//! One ordered table of deadlines: no list of workers or requests is ever scanned.

use std::collections::BTreeSet;

use crate::{service::ServiceId, time::Moment, worker::WorkerId};

/// What a deadline is for. Each key has at most one deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimerKey {
    /// Heartbeat to, or expiry of, a worker.
    Worker(WorkerId),
    /// The oldest waiting request of a service, or a proof to be asked for again.
    Service(ServiceId),
    /// The open question to the cluster whose time ends first.
    Queries,
    /// The proposal in flight.
    Proposal,
    /// The oldest refusal that was held back.
    Refusals,
    /// What other nodes are to be told.
    Load,
    /// A step of a drain.
    DrainStep,
    /// The end of a drain.
    Drain,
}

/// Deadlines in order. They are *lazy*: work that moves a deadline away leaves the entry, and the
/// owner looks again when it comes up. So traffic costs no change here.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    deadlines: BTreeSet<(Moment, TimerKey)>,
}

impl Timers {
    pub(crate) fn insert(&mut self, at: Moment, key: TimerKey) {
        self.deadlines.insert((at, key));
    }

    pub(crate) fn remove(&mut self, at: Moment, key: TimerKey) {
        self.deadlines.remove(&(at, key));
    }

    pub(crate) fn next(&self) -> Option<Moment> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    pub(crate) fn pop_due(&mut self, now: Moment) -> Option<TimerKey> {
        let (at, _) = self.deadlines.first()?;
        if *at > now {
            return None;
        }
        self.deadlines.pop_first().map(|(_, key)| key)
    }
}
