//! A run from its beginning to its end: faults, then health, then rest.

use std::time::{Duration, Instant};

use super::{Event, World};
use crate::{
    Outcome, Summary, disk::DiskTrouble, faults::Situation, machine::TRUE_RATE,
    observation::Event as Seen, trace::Who,
};

/// Within this time everybody is there at the beginning.
const BEGINNING: Duration = Duration::from_secs(2);
/// How long clients go on after the last fault.
const HEALTHY: Duration = Duration::from_secs(10);
/// How long after that everything may take to come to rest: the patience of clients and the time that
/// the slowest node needs to take part again, and more.
const REST_MAX: Duration = Duration::from_secs(20);
/// How long a change of members may take once nothing is wrong: an attempt that is lost, another one, and
/// the time that a node needs to notice.
const CHANGE_MAX: Duration = Duration::from_secs(20);
/// How long rest must last.
const REST: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(100);

impl World {
    /// The whole run.
    pub(crate) async fn run(mut self) -> Outcome {
        let began_at = self.began_at;
        self.begin_all(began_at);
        self.run_until(began_at + self.plan.safety).await;
        let now = tokio::time::Instant::now().into_std();
        if self.violation.is_none() {
            self.heal(now);
            self.finish_changes(now + CHANGE_MAX).await;
            let now = tokio::time::Instant::now().into_std();
            self.settle(now);
            self.run_until(now + HEALTHY).await;
            self.come_to_rest().await;
        }
        self.outcome()
    }

    fn begin_all(&mut self, now: Instant) {
        for node in self.roster.members() {
            let delay = self.rng.duration(Duration::ZERO, BEGINNING / 4);
            self.events.push(now + delay, Event::Start { node });
        }
        for actor in 0..self.crew.len() {
            let delay = self.rng.duration(Duration::ZERO, BEGINNING);
            self.events.push(now + delay, Event::Revive { actor });
        }
        self.has_faults = true;
        let first = self.plan.appetite.next_gap(&mut self.rng);
        self.events.push(now + BEGINNING / 2 + first, Event::Fault);
        self.events.push(now, Event::Look);
        if !self.plan.changes.kinds.is_empty() {
            self.events.push(now + BEGINNING, Event::Operate);
        }
    }

    pub(super) fn next_fault(&mut self, now: Instant) {
        if !self.has_faults {
            return;
        }
        let gap = self.plan.appetite.next_gap(&mut self.rng);
        self.events.push(now + gap, Event::Fault);
        let members = self.roster.members();
        let others_are_ready = members.iter().all(|node| self.is_ready(*node));
        let running = self.roster.running();
        let workers = self.crew.workers();
        let situation = Situation {
            nodes: running.len(),
            actors: self.crew.len(),
            workers: &workers,
            can_lose_a_volume: members.len() > 2
                && self.volume_at_risk.is_none()
                && self.operator.is_idle()
                && self.are_members_settled()
                && others_are_ready,
        };
        let plan = std::sync::Arc::clone(&self.plan);
        if let Some(act) = plan.appetite.next_act(&mut self.rng, situation) {
            self.count_fault();
            self.begin(now, act.at_sites(&running, self.machines.len()));
        }
    }

    pub(crate) const fn has_faults(&self) -> bool {
        self.has_faults
    }

    pub(crate) const fn count_fault(&mut self) {
        self.faults += 1;
    }

    /// Ends every fault: everything runs, is connected and goes right.
    fn heal(&mut self, now: Instant) {
        self.note(now, Who::World, "heal".to_owned());
        self.has_faults = false;
        self.network.mend_all();
        self.network.set_weather(self.plan.weather);
        for node in 0..self.machines.len() {
            self.machines[node].disk.set_trouble(DiskTrouble::default());
            self.machines[node].set_rate(TRUE_RATE);
            self.resume(now, node);
            self.start_if_off(now, node);
        }
        for actor in 0..self.crew.len() {
            self.crew.thaw(actor);
            self.crew.revive(now, actor);
        }
    }

    /// Lets the operator end what was begun.
    async fn finish_changes(&mut self, deadline: Instant) {
        while self.violation.is_none() && !self.operator.is_idle() {
            let now = tokio::time::Instant::now().into_std();
            if now >= deadline {
                let doing = self.operator.doing();
                return self.fail(now, "members_change", format!("not done: {doing}"));
            }
            self.run_until(now + STEP).await;
        }
    }

    /// From now on all must be well, and soon everything has been said.
    fn settle(&mut self, now: Instant) {
        self.crew.settle(now, now + HEALTHY);
        self.observe(now, Seen::Healed);
    }

    /// Waits until nothing is left to do, and lets everything be judged then.
    async fn come_to_rest(&mut self) {
        let mut now = tokio::time::Instant::now().into_std();
        let deadline = now + REST_MAX;
        let mut idle_since = None;
        while self.violation.is_none() {
            if !self.is_idle() {
                idle_since = None;
            }
            if self.is_idle() && now >= *idle_since.get_or_insert(now) + REST {
                return self.look_at_the_end(now);
            }
            if now >= deadline {
                let what = self.why_not_idle();
                return self.fail(now, "comes_to_rest", what);
            }
            self.run_until(now + STEP).await;
            now = tokio::time::Instant::now().into_std();
        }
    }

    fn outcome(self) -> Outcome {
        let now = tokio::time::Instant::now().into_std();
        let simulated = now.saturating_duration_since(self.began_at);
        let steps = self.trace.steps();
        let (answered, looked_up) = (self.tally.answered, self.tally.looked_up);
        let ((calls, newer_calls), (links, newer_links)) =
            (self.network.calls(), self.network.links());
        let changes = self.operator.done();
        let summary = Summary {
            faults: self.faults,
            changes,
            answered,
            looked_up,
            calls,
            newer_calls,
            links,
            newer_links,
            upgraded: u64::from(self.truth.has_risen()),
        };
        let verdict = match self.violation {
            Some(violation) => Err(Box::new(violation)),
            None => Ok(summary),
        };
        Outcome { trace: self.trace.hash(), steps, simulated, verdict }
    }
}
