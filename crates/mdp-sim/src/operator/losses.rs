//! What is lost in the middle of a change of members: a voter, the leader or the node that was asked,
//! before and after each step; answers; and the count of how often a change was asked for, and where.

use std::time::{Duration, Instant};

use crate::{
    disk::Unsynced,
    faults::{Act, Kind},
    machine::node_name,
    network::cluster_address,
    roster::Place,
    world::{Event, World},
};

/// How long after a node was lost another one is asked to change the members, at most.
pub(super) const ASK_LATE_MAX: Duration = Duration::from_millis(1_500);
/// How long after a change was asked for a node is lost, at most: longer than all its steps take.
const LOSE_LATE_MAX: Duration = Duration::from_millis(600);
/// How long a node stays lost.
const LOST: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(15));
/// How long answers stay lost.
const UNANSWERED: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

impl World {
    /// The site of the node that leads, by its own account.
    fn leader(&self) -> Option<usize> {
        (0..self.machines.len())
            .find(|site| self.machines[*site].look(|raft| raft.inspect().leads) == Some(true))
    }

    /// The leader in the place of this one, often, if it is one of these.
    pub(super) fn prefer_leader(&mut self, site: usize, among: &[usize]) -> usize {
        let leader = self.leader().filter(|leader| among.contains(leader));
        leader.filter(|_| self.operator.rng.chance(500)).unwrap_or(site)
    }

    /// Perhaps a member is lost before a change is asked for.
    pub(super) fn lose_before(&mut self, now: Instant) {
        let members = self.roster.at(Place::Member);
        let is_lost = self.operator.rng.chance(500);
        if let Some(victim) = self.operator.rng.pick(&members).copied().filter(|_| is_lost) {
            self.lose(now, victim);
        }
    }

    /// Perhaps the leader, the asked node or any other is lost after a change was asked for, or their
    /// answers are; perhaps it is asked for again, or a transfer comes between.
    pub(super) fn lose_after(&mut self, now: Instant, (site, asked): (usize, usize)) {
        let leader = self.leader();
        let rng = &mut self.operator.rng;
        let victim = match rng.below(6) {
            0 | 1 => leader,
            2 => Some(asked),
            3 => rng.pick(&self.roster.running()).copied(),
            _ => None,
        };
        let at = now + rng.duration(Duration::ZERO, LOSE_LATE_MAX);
        let (is_unanswered, is_asked_again, is_transferred) =
            (rng.chance(200), rng.chance(400), rng.chance(200));
        if let Some(victim) = victim {
            self.lose(at, victim);
        }
        if let Some(leader) = leader.filter(|leader| is_unanswered && *leader != asked) {
            let lasts = self.operator.rng.duration(UNANSWERED.0, UNANSWERED.1);
            let mut act = act(Kind::OneWay, vec![leader, asked], lasts);
            act.ways = vec![(leader, asked)];
            self.events.push(at, Event::Lose(act));
        }
        if is_asked_again
            && let Some(other) = self.operator.rng.pick(&self.roster.running()).copied()
            && let Some(consensus) = self.machines[other].consensus().cloned()
        {
            let name = node_name(site);
            let asking = async move { drop(consensus.remove_member(name).await) };
            self.machines[other].host().spawn(asking);
        }
        if is_transferred {
            self.transfer_leader(asked);
        }
    }

    /// A person may ask for what nodes that join do by themselves.
    pub(super) fn ask_for_what_happens_anyway(&mut self, sites: &[usize]) {
        if !self.plan.changes.losses || !self.operator.rng.chance(100) {
            return;
        }
        let running = self.roster.running();
        let Some(asked) = self.operator.rng.pick(&running).copied() else { return };
        let Some(site) = self.operator.rng.pick(sites).copied() else { return };
        let is_added = self.operator.rng.chance(500);
        let Some(consensus) = self.machines[asked].consensus().cloned() else { return };
        let asking = async move {
            let name = node_name(site);
            drop(match is_added {
                true => consensus.add_member(name, cluster_address(site)).await,
                false => consensus.promote_member(name).await,
            });
        };
        self.machines[asked].host().spawn(asking);
    }

    /// A node is killed then, and started again later.
    fn lose(&mut self, at: Instant, victim: usize) {
        let lasts = self.operator.rng.duration(LOST.0, LOST.1);
        self.events.push(at, Event::Lose(act(Kind::Crash, vec![victim], lasts)));
    }

    /// A member loses its volume now, and is started again soon; perhaps another is lost meanwhile.
    pub(super) fn lose_volume(&mut self, now: Instant, site: usize) {
        let lasts = self.operator.rng.duration(UNANSWERED.0, UNANSWERED.1);
        self.begin(now, act(Kind::VolumeLoss, vec![site], lasts));
        let others = self.roster.at(Place::Member);
        let is_lost = self.operator.rng.chance(500);
        if let Some(victim) = self.operator.rng.pick(&others).copied().filter(|_| is_lost)
            && victim != site
        {
            let at = now + self.operator.rng.duration(Duration::ZERO, ASK_LATE_MAX * 4);
            self.lose(at, victim);
        }
    }
}

const fn act(kind: Kind, nodes: Vec<usize>, lasts: Duration) -> Act {
    Act {
        kind,
        nodes,
        actors: Vec::new(),
        ways: Vec::new(),
        lasts: Some(lasts),
        amount: 0,
        unsynced: Unsynced::Lost,
    }
}
