//! The kinds of faults.

use cluster_tests::Means;

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The leader is cut off from all others.
    PartitionLeader,
    /// A follower is.
    PartitionFollower,
    /// A node hears nobody, and is heard.
    CutInward,
    /// Nobody hears a node, which hears all.
    CutOutward,
    /// Two nodes do not reach each other; both reach the third.
    CutPair,
    /// A node is cut off again and again, for less than a second.
    Flapping,
    /// A third of a node's packets are lost.
    Loss,
    /// A node's packets are late, and overtake each other.
    Delay,
    /// The leader is killed.
    KillLeader,
    /// A follower is.
    KillFollower,
    /// The leader stands still.
    FreezeLeader,
    /// A follower does.
    FreezeFollower,
    /// A node's disk is full.
    DiskFull,
    /// A node's disk does not synchronise.
    SyncError,
    /// A node is killed and loses writes that it had not synchronised.
    LostWrites,
    /// A node's wall clock jumps an hour ahead and an hour back.
    ClockJump,
}

impl Kind {
    /// All of them.
    pub(super) const ALL: [Self; 16] = [
        Self::PartitionLeader,
        Self::PartitionFollower,
        Self::CutInward,
        Self::CutOutward,
        Self::CutPair,
        Self::Flapping,
        Self::Loss,
        Self::Delay,
        Self::KillLeader,
        Self::KillFollower,
        Self::FreezeLeader,
        Self::FreezeFollower,
        Self::DiskFull,
        Self::SyncError,
        Self::LostWrites,
        Self::ClockJump,
    ];

    /// As a table says it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::PartitionLeader => "leader partitioned",
            Self::PartitionFollower => "follower partitioned",
            Self::CutInward => "one-way cut: hears nobody",
            Self::CutOutward => "one-way cut: nobody hears it",
            Self::CutPair => "two nodes cut",
            Self::Flapping => "flapping links",
            Self::Loss => "30 % of packets lost",
            Self::Delay => "packets late and reordered",
            Self::KillLeader => "leader killed",
            Self::KillFollower => "follower killed",
            Self::FreezeLeader => "leader frozen",
            Self::FreezeFollower => "follower frozen",
            Self::DiskFull => "disk full",
            Self::SyncError => "fsync error",
            Self::LostWrites => "unsynchronised writes lost",
            Self::ClockJump => "wall clock +-1 h",
        }
    }

    const fn means(self) -> Means {
        match self {
            Self::PartitionLeader
            | Self::PartitionFollower
            | Self::CutInward
            | Self::CutOutward
            | Self::CutPair
            | Self::Flapping => Means::Cut,
            Self::Loss => Means::Loss,
            Self::Delay => Means::Delay,
            Self::KillLeader | Self::KillFollower | Self::FreezeLeader | Self::FreezeFollower => {
                Means::Signals
            }
            Self::DiskFull => Means::SmallDisk,
            Self::SyncError => Means::FailingCalls,
            Self::LostWrites => Means::LostWrites,
            Self::ClockJump => Means::WallClock,
        }
    }

    /// Whether nobody said to do without it.
    pub(super) fn is_possible(self) -> bool {
        !self.means().is_left_out()
    }
}
