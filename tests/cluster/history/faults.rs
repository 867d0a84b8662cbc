//! What goes wrong.

use std::time::Duration;

use cluster_tests::{Damage, Damages, TestCluster};

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

    /// Brings a fault about, and repairs it.
    pub(super) fn happen(self, cluster: &mut TestCluster, damages: &Damages) {
        let leader = cluster.leader();
        let victim = if self.hits_leader() { leader } else { cluster.follower() };
        match self {
            Self::KillLeader | Self::KillFollower => {
                damages.begin(&[victim], Damage::Killed);
                cluster.node_mut(victim).kill();
                let_pass(AWAY);
                cluster.node_mut(victim).start();
            }
            Self::CutLeader(length) | Self::CutFollower(length) => {
                damages.begin(&[victim], Damage::Silenced);
                cluster.links().cut_off(victim);
                let_pass(length);
                cluster.links().heal();
            }
            Self::FreezeLeader(length) | Self::FreezeFollower(length) => {
                damages.begin(&[victim], Damage::Silenced);
                cluster.node(victim).freeze();
                let_pass(length);
                cluster.node(victim).thaw();
            }
        }
        cluster.wait_until_ready();
        damages.end();
        println!("{self:?} of {}", cluster.node(victim).name());
    }
}
