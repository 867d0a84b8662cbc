//! What can go wrong, and how often it does.

mod acts;
mod draw;

use std::time::Duration;

pub(crate) use self::draw::Situation;
use crate::{Rng, disk::Unsynced};

/// Kinds of faults; a seed has some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Crash,
    Outage,
    Pause,
    Partition,
    OneWay,
    Flap,
    PeerCut,
    Break,
    Loss,
    Twice,
    SlowNetwork,
    DiskFull,
    SyncError,
    SlowSync,
    Corruption,
    VolumeLoss,
    Skew,
    Drain,
    ActorDeath,
    ActorFreeze,
    Transfer,
    Snapshot,
}

const KINDS: [Kind; 22] = [
    Kind::Crash,
    Kind::Outage,
    Kind::Pause,
    Kind::Partition,
    Kind::OneWay,
    Kind::Flap,
    Kind::PeerCut,
    Kind::Break,
    Kind::Loss,
    Kind::Twice,
    Kind::SlowNetwork,
    Kind::DiskFull,
    Kind::SyncError,
    Kind::SlowSync,
    Kind::Corruption,
    Kind::VolumeLoss,
    Kind::Skew,
    Kind::Drain,
    Kind::ActorDeath,
    Kind::ActorFreeze,
    Kind::Transfer,
    Kind::Snapshot,
];

impl Kind {
    /// What it is called in reports.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Outage => "outage",
            Self::Pause => "pause",
            Self::Partition => "partition",
            Self::OneWay => "one_way_cut",
            Self::Flap => "flapping_link",
            Self::PeerCut => "peer_cut",
            Self::Break => "broken_connections",
            Self::Loss => "lost_calls",
            Self::Twice => "repeated_calls",
            Self::SlowNetwork => "slow_network",
            Self::DiskFull => "disk_full",
            Self::SyncError => "sync_error",
            Self::SlowSync => "slow_sync",
            Self::Corruption => "corruption",
            Self::VolumeLoss => "volume_loss",
            Self::Skew => "clock_rate",
            Self::Drain => "drain",
            Self::ActorDeath => "peer_death",
            Self::ActorFreeze => "peer_freeze",
            Self::Transfer => "leader_transfer",
            Self::Snapshot => "snapshot",
        }
    }
}

/// Which faults a run has, and how often.
#[derive(Clone, Debug)]
pub(crate) struct Appetite {
    /// Those that it has.
    pub(crate) kinds: Vec<Kind>,
    /// Between two of them at least and at most.
    pub(crate) gap: (Duration, Duration),
    /// How long one lasts at least and at most.
    pub(crate) lasts: (Duration, Duration),
    /// What crashes do to what was not synced.
    pub(crate) unsynced: Vec<Unsynced>,
}

impl Appetite {
    /// Some seeds have no faults, some all; most have a few.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let share = *rng.pick(&[0, 150, 300, 300, 500, 1_000]).expect("there are choices");
        let kinds = KINDS.into_iter().filter(|_| rng.chance(share)).collect();
        let millis = Duration::from_millis;
        let gap = *rng.pick(&[300, 1_000, 3_000]).expect("there are choices");
        let lasts = *rng.pick(&[500, 2_000, 6_000]).expect("there are choices");
        let mut unsynced = vec![Unsynced::Lost, Unsynced::Torn, Unsynced::Kept];
        unsynced.rotate_left(rng.below(3));
        unsynced.truncate(1 + rng.below(3));
        let gap = (millis(gap / 10), millis(gap * 2));
        Self { kinds, gap, lasts: (millis(20), millis(lasts)), unsynced }
    }
}

/// One thing that goes wrong.
#[derive(Clone, Debug)]
pub(crate) struct Act {
    pub(crate) kind: Kind,
    pub(crate) nodes: Vec<usize>,
    pub(crate) actors: Vec<usize>,
    /// The ways that are cut, by sites.
    pub(crate) ways: Vec<(usize, usize)>,
    /// How long it lasts; `None`: it is done at once.
    pub(crate) lasts: Option<Duration>,
    pub(crate) amount: u32,
    pub(crate) unsynced: Unsynced,
}

impl Act {
    /// The same, drawn for the nodes at these sites, with actors behind all nodes.
    pub(crate) fn at_sites(mut self, nodes: &[usize], first_actor: usize) -> Self {
        let site = |at: usize| match nodes.get(at) {
            Some(site) => *site,
            None => first_actor + at - nodes.len(),
        };
        self.nodes.iter_mut().for_each(|node| *node = site(*node));
        for (from, to) in &mut self.ways {
            (*from, *to) = (site(*from), site(*to));
        }
        self
    }
}
