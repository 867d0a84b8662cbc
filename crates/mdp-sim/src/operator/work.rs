//! The operator at work.

use std::time::{Duration, Instant};

use mdp_catalog::NodeName;
use mdp_raft::ChangeError;

use super::{
    Answer, Change, Job, MEMBERS_MIN, MEMBERS_MIN_OF_LOSSES, SEEDS_MIN, SPARES, Stage,
    losses::ASK_LATE_MAX,
};
use crate::{
    disk::Unsynced,
    hosts::Consensus,
    machine::node_name,
    observation::Event as Seen,
    roster::Place,
    trace::Who,
    world::{Event, World},
};

/// How often the operator looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long a node may take to answer: longer than it tries itself.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long to wait before a node is asked again, from and to.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How long after a removal the machine is turned off, at most.
const OFF_MAX: Duration = Duration::from_secs(3);

impl World {
    /// The operator's next look, and what follows from it.
    pub(crate) fn operate(&mut self, now: Instant) {
        match self.operator.job.take() {
            None => self.begin_change(now),
            Some(job) => {
                let fault = job.fault();
                self.operator.job = self.go_on(now, job);
                if self.operator.job.is_none() {
                    self.operator.done += 1;
                    self.observe(now, Seen::FaultEnded(fault));
                    let pause =
                        self.operator.rng.duration(LOOK_INTERVAL, self.plan.changes.gap_max);
                    self.operator.next_at = Some(now + pause);
                }
            }
        }
        self.events.push(now + LOOK_INTERVAL, Event::Operate);
    }

    fn begin_change(&mut self, now: Instant) {
        let is_time = self.operator.next_at.is_none_or(|at| at <= now);
        let some_are_ready = self.roster.members().into_iter().any(|site| self.is_ready(site));
        if !is_time || !self.has_faults() || self.volume_at_risk.is_some() || !some_are_ready {
            return;
        }
        let Some(change) = self.operator.rng.pick(&self.plan.changes.kinds).copied() else {
            return;
        };
        let job = match change {
            Change::Grow => self.begin_to_grow(now),
            Change::Shrink => self.begin_to_shrink(now),
            Change::Return => self.begin_to_return(now),
            Change::Replace => self.begin_to_replace(now),
        };
        if let Some(job) = job {
            self.count_fault();
            self.observe(now, Seen::FaultBegan(job.fault()));
            self.operator.job = Some(job);
        }
    }

    /// Machines with empty volumes are started; their nodes know the seeds, and do the rest.
    fn begin_to_grow(&mut self, now: Instant) -> Option<Job> {
        for site in self.roster.at(Place::Removed) {
            if self.operator.rng.chance(500) {
                self.machines[site].disk.wipe();
                self.roster.set(site, Place::Vacant);
            }
        }
        let mut sites = self.roster.at(Place::Vacant);
        self.operator.rng.shuffle(&mut sites);
        sites.truncate(1 + self.operator.rng.below(SPARES));
        sites.sort_unstable();
        for site in &sites {
            self.roster.set(*site, Place::Joining);
            self.start_if_off(now, *site);
            if self.operator.rng.chance(500) {
                self.addresses.add(*site);
            }
        }
        (!sites.is_empty()).then_some(Job::Joining { sites })
    }

    fn begin_to_shrink(&mut self, now: Instant) -> Option<Job> {
        let mut members = self.roster.at(Place::Member);
        let seeds = members.iter().filter(|site| **site < self.plan.nodes).count();
        let losses = self.plan.changes.losses;
        if members.len() <= if losses { MEMBERS_MIN_OF_LOSSES } else { MEMBERS_MIN } {
            return None;
        }
        members.retain(|site| *site >= self.plan.nodes || seeds > SEEDS_MIN);
        let mut site = *self.operator.rng.pick(&members)?;
        if losses {
            site = self.prefer_leader(site, &members);
            self.lose_before(now);
        }
        self.roster.set(site, Place::Leaving);
        let at = if losses {
            now + self.operator.rng.duration(Duration::ZERO, ASK_LATE_MAX)
        } else {
            now
        };
        if self.operator.rng.chance(500) {
            self.addresses.remove(site);
        }
        Some(Job::Removing { site, stage: Stage::Asking { at } })
    }

    /// A member loses its volume, if the cluster can bear that.
    fn begin_to_replace(&mut self, now: Instant) -> Option<Job> {
        let members = self.roster.at(Place::Member);
        let all_are_ready = members.iter().all(|site| self.is_ready(*site));
        if members.len() < MEMBERS_MIN || !all_are_ready || !self.are_members_settled() {
            return None;
        }
        let site = *self.operator.rng.pick(&members)?;
        self.lose_volume(now, site);
        Some(Job::Replacing { site })
    }

    fn begin_to_return(&mut self, now: Instant) -> Option<Job> {
        let site = *self.operator.rng.pick(&self.roster.at(Place::Removed))?;
        self.roster.set(site, Place::Returning);
        self.start_if_off(now, site);
        Some(Job::Returning { site })
    }

    /// What is left to do.
    fn go_on(&mut self, now: Instant, job: Job) -> Option<Job> {
        match job {
            Job::Joining { sites } if sites.iter().all(|site| self.has_joined(*site)) => {
                for site in sites {
                    self.roster.set(site, Place::Member);
                    self.addresses.add(site);
                    self.note(now, Who::Node(site), "has joined".to_owned());
                }
                None
            }
            Job::Removing { site, stage } => {
                let stage = self.go_on_removing(now, site, stage)?;
                Some(Job::Removing { site, stage })
            }
            Job::Returning { site } if self.roster.place(site) == Place::Removed => {
                self.observe(now, Seen::MemberLeft { node: site });
                None
            }
            Job::Replacing { site } if self.volume_at_risk != Some(site) => None,
            Job::Joining { sites } => {
                self.ask_for_what_happens_anyway(&sites);
                Some(Job::Joining { sites })
            }
            job @ (Job::Returning { .. } | Job::Replacing { .. }) => Some(job),
        }
    }

    /// Whether it takes part, and everybody who runs takes it for a voter.
    fn has_joined(&self, site: usize) -> bool {
        let Some(id) = self.machines[site].look(|raft| raft.inspect().id) else { return false };
        let members = self.roster.members().into_iter();
        let mut rafts = members.filter_map(|other| self.machines[other].look(Consensus::inspect));
        self.is_ready(site)
            && rafts.all(|raft| raft.voters.last().is_some_and(|voters| voters.contains(&id)))
    }

    fn go_on_removing(&mut self, now: Instant, site: usize, stage: Stage) -> Option<Stage> {
        let again = now + self.operator.rng.duration(ASK_AGAIN.0, ASK_AGAIN.1);
        let gone =
            Stage::Gone { off_at: now + self.operator.rng.duration(Duration::ZERO, OFF_MAX) };
        match stage {
            Stage::Asking { at } if at <= now => {
                let answer = self.ask_to_remove(now, site);
                Some(answer.map_or(Stage::Asking { at: again }, |answer| Stage::Waiting {
                    answer,
                    until: now + ANSWER_MAX,
                }))
            }
            Stage::Waiting { answer, until } => {
                let answered = answer.lock().take();
                if let Some(answered) = &answered {
                    self.note(now, Who::Node(site), format!("removal: {answered:?}"));
                }
                match answered {
                    Some(Ok(())) => Some(gone),
                    // An attempt whose end nobody heard of may have done it.
                    Some(Err(ChangeError::UnknownMember { .. })) if self.is_unknown(site) => {
                        Some(gone)
                    }
                    Some(Err(_)) => Some(Stage::Asking { at: again }),
                    // Where the asked process ended, the end of the connection tells.
                    None if until <= now || std::sync::Arc::strong_count(&answer) == 1 => {
                        Some(Stage::Asking { at: again })
                    }
                    None => Some(Stage::Waiting { answer, until }),
                }
            }
            Stage::Gone { off_at } if off_at <= now => {
                self.turn_off(now, site);
                None
            }
            stage @ (Stage::Asking { .. } | Stage::Gone { .. }) => Some(stage),
        }
    }

    /// Asks any node that runs; it forwards this to the leader.
    fn ask_to_remove(&mut self, now: Instant, site: usize) -> Option<Answer> {
        let running = self.roster.running();
        let asked = *self.operator.rng.pick(&running)?;
        if self.plan.changes.losses {
            self.lose_after(now, (site, asked));
        }
        let machine = self.machines.get(asked).filter(|machine| !machine.is_paused())?;
        let consensus = machine.consensus().cloned()?;
        let name = node_name(site);
        let answer = Answer::default();
        let result = std::sync::Arc::clone(&answer);
        let asking = async move {
            let outcome = consensus.remove_member(name).await;
            *result.lock() = Some(outcome);
        };
        machine.host().spawn(asking);
        Some(answer)
    }

    /// Whether no other node that runs takes it for a member.
    fn is_unknown(&self, site: usize) -> bool {
        let name: NodeName = node_name(site);
        let others = self.roster.members().into_iter();
        let mut rafts = others.filter_map(|other| self.machines[other].look(Consensus::status));
        rafts.all(|status| status.members.iter().all(|member| member.name != name))
    }

    /// The machine of a node that was removed.
    fn turn_off(&mut self, now: Instant, site: usize) {
        self.crash(now, site, Unsynced::Kept);
        self.addresses.remove(site);
        if self.operator.rng.chance(500) {
            self.machines[site].disk.wipe();
            self.roster.set(site, Place::Vacant);
        } else {
            self.roster.set(site, Place::Removed);
        }
        self.observe(now, Seen::MemberLeft { node: site });
    }
}
