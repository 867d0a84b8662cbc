//! What goes wrong, and who must know of it: operations of a node that was faulted have other rules.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use cluster_tests::{READY_PATIENCE, TestCluster, look_for};

use super::let_pass;

/// How long a killed node stays away.
const AWAY: Duration = Duration::from_millis(500);

/// Something that goes wrong with one node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    KillLeader,
    KillFollower,
    CutLeader(Duration),
    CutFollower(Duration),
    FreezeLeader(Duration),
    FreezeFollower(Duration),
}

impl Fault {
    /// Any of them, shorter or longer than `cluster.node_timeout`.
    pub(super) fn any(random: &mut fastrand::Rng) -> Self {
        let length = Duration::from_millis(random.u64(200..6_000));
        let all = [
            Self::KillLeader,
            Self::KillFollower,
            Self::CutLeader(length),
            Self::CutFollower(length),
            Self::FreezeLeader(length),
            Self::FreezeFollower(length),
        ];
        random.choice(all).unwrap()
    }

    const fn hits_leader(self) -> bool {
        matches!(self, Self::KillLeader | Self::CutLeader(_) | Self::FreezeLeader(_))
    }
}

/// What a fault does to the workers of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// They lose their connections: their registrations end.
    Killed,
    /// They keep them: their registrations may end, and may begin again by themselves.
    Silenced,
}

/// A fault that happened, or is happening.
#[derive(Clone, Copy, Debug)]
pub(super) struct Happened {
    node: usize,
    pub(super) damage: Damage,
    pub(super) at: Instant,
    over_at: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    happened: Mutex<Vec<Happened>>,
}

impl Faults {
    /// Brings a fault about, and repairs it.
    pub(super) fn happen(&self, cluster: &mut TestCluster, fault: Fault) {
        let leader = cluster.leader();
        let victim = if fault.hits_leader() { leader } else { cluster.follower() };
        match fault {
            Fault::KillLeader | Fault::KillFollower => {
                self.begin(victim, Damage::Killed);
                cluster.node_mut(victim).kill();
                let_pass(AWAY);
                cluster.node_mut(victim).start();
            }
            Fault::CutLeader(length) | Fault::CutFollower(length) => {
                self.begin(victim, Damage::Silenced);
                cluster.links().cut_off(victim);
                let_pass(length);
                cluster.links().heal();
            }
            Fault::FreezeLeader(length) | Fault::FreezeFollower(length) => {
                self.begin(victim, Damage::Silenced);
                cluster.node(victim).freeze();
                let_pass(length);
                cluster.node(victim).thaw();
            }
        }
        cluster.wait_until_ready();
        self.end(victim);
        println!("{fault:?} of {}", cluster.node(victim).name());
    }

    fn begin(&self, node: usize, damage: Damage) {
        let happened = Happened { node, damage, at: Instant::now(), over_at: None };
        self.happened.lock().unwrap().push(happened);
    }

    fn end(&self, node: usize) {
        for fault in self.happened.lock().unwrap().iter_mut().filter(|fault| fault.node == node) {
            fault.over_at.get_or_insert_with(Instant::now);
        }
    }

    /// The first fault of a node that was not over at this moment.
    pub(super) fn since(&self, node: usize, moment: Instant) -> Option<Happened> {
        let happened = self.happened.lock().unwrap();
        let overlaps = |fault: &&Happened| {
            fault.node == node && fault.over_at.is_none_or(|over_at| over_at >= moment)
        };
        happened.iter().find(overlaps).copied()
    }

    pub(super) fn is_well(&self, node: usize) -> bool {
        self.since(node, Instant::now()).is_none()
    }

    /// Waits until nothing is wrong with the node any more.
    pub(super) fn wait_until_over(&self, node: usize) {
        let over = look_for(READY_PATIENCE * 2, || self.is_well(node).then_some(()));
        assert!(over.is_some(), "node {node} did not come back");
    }
}
