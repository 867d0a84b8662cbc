//! The figures and their bounds.

use std::{collections::BTreeMap, fmt, time::Duration};

use cluster_tests::{Durations, scale};

/// How much longer it may take where other programs build and test: in the short form only.
const STARVED: Duration = Duration::from_secs(1);

/// `cluster.node_timeout`, as built in, and a second.
const NODE_GONE: Duration = Duration::from_secs(4);

/// Until there is a new leader, in all but one of a hundred cases.
const NEW_LEADER: Duration = Duration::from_millis(1_600);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Figure {
    LeaderKilled,
    LeaderKilledGone,
    FollowerKilled,
    FollowerKilledGone,
    PartitionMajority,
    PartitionMinority,
    PartitionHealed,
    LeaderHearsNobody,
    NobodyHearsLeader,
    Frozen1,
    Frozen10,
    Frozen30,
    Drained,
    DrainedGone,
    DrainedExit,
    WorkerKilled,
    WorkerKilledCalled,
    WorkerFrozen,
}

impl Figure {
    const fn name(self) -> &'static str {
        match self {
            Self::LeaderKilled => "leader killed: gap",
            Self::LeaderKilledGone => "leader killed: its services gone",
            Self::FollowerKilled => "follower killed: gap",
            Self::FollowerKilledGone => "follower killed: its services gone",
            Self::PartitionMajority => "leader partitioned: gap of the majority",
            Self::PartitionMinority => "leader partitioned: last answer of the minority",
            Self::PartitionHealed => "partition healed: gap of the minority",
            Self::LeaderHearsNobody => "one-way cut, leader hears nobody: gap",
            Self::NobodyHearsLeader => "one-way cut, nobody hears the leader: gap",
            Self::Frozen1 => "leader frozen for 1 s: gap",
            Self::Frozen10 => "leader frozen for 10 s: gap",
            Self::Frozen30 => "leader frozen for 30 s: gap",
            Self::Drained => "leader drained: gap",
            Self::DrainedGone => "leader drained: its services gone",
            Self::DrainedExit => "leader drained: its end",
            Self::WorkerKilled => "worker killed, idle: 404",
            Self::WorkerKilledCalled => "worker killed, called: 404 after the call",
            Self::WorkerFrozen => "worker frozen, idle: 404",
        }
    }

    /// Of 99 in a hundred.
    const fn bound(self) -> Duration {
        match self {
            Self::LeaderKilled
            | Self::FollowerKilled
            | Self::PartitionMajority
            | Self::LeaderHearsNobody
            | Self::NobodyHearsLeader
            | Self::Frozen1
            | Self::Frozen10
            | Self::Frozen30 => NEW_LEADER,
            // The new leader grants every node a full period.
            Self::LeaderKilledGone => NEW_LEADER.saturating_add(NODE_GONE),
            Self::FollowerKilledGone => NODE_GONE,
            Self::PartitionMinority | Self::Drained => Duration::from_secs(1),
            Self::PartitionHealed => Duration::from_secs(2),
            Self::DrainedGone | Self::DrainedExit => Duration::from_secs(10),
            // Three heartbeats of a second, a quarter of one, and the commit.
            Self::WorkerKilled => Duration::from_millis(3_300),
            Self::WorkerKilledCalled => Duration::from_millis(50),
            Self::WorkerFrozen => Duration::from_millis(3_800),
        }
    }

    /// Of half of them, where that is promised, too.
    const fn bound_of_half(self) -> Option<Duration> {
        match self {
            Self::LeaderKilled => Some(Duration::from_millis(800)),
            _ => None,
        }
    }

    fn holds(self, durations: &Durations) -> bool {
        let starved = scale().pick(STARVED, Duration::ZERO);
        let half =
            self.bound_of_half().is_none_or(|bound| durations.percentile(50) <= bound + starved);
        half && durations.percentile(99) <= self.bound() + starved
    }
}

/// What was measured.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: BTreeMap<Figure, Durations>,
}

impl Table {
    pub(super) fn add(&mut self, figure: Figure, duration: Duration) {
        println!("{:<52}{duration:>10.1?}", figure.name());
        self.rows.entry(figure).or_default().add(duration);
    }

    #[track_caller]
    pub(super) fn assert_within_bounds(&self) {
        let beyond: Vec<&str> = self
            .rows
            .iter()
            .filter(|(figure, durations)| !figure.holds(durations))
            .map(|(figure, _)| figure.name())
            .collect();
        assert!(beyond.is_empty(), "beyond their bounds: {beyond:#?}");
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |duration: Duration| format!("{} ms", duration.as_millis());
        let heads = ["n", "p50", "p99", "max", "bound"];
        let [n, rest @ ..] = heads;
        write!(f, "{:<52}{n:>5}", "milliseconds without, or until")?;
        rest.iter().try_for_each(|head| write!(f, "{head:>11}"))?;
        for (figure, durations) in &self.rows {
            write!(f, "\n{:<52}{:>5}", figure.name(), durations.count())?;
            for percent in [50, 99, 100] {
                write!(f, "{:>11}", ms(durations.percentile(percent)))?;
            }
            write!(f, "{:>11}", ms(figure.bound()))?;
            if !figure.holds(durations) {
                write!(f, "  beyond")?;
            }
        }
        Ok(())
    }
}
