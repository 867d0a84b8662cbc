//! Who changes the number of members, as docs/operating.md says: one change at a time, and none while
//! a volume is lost.

mod losses;
mod work;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mdp_raft::ChangeError;

use crate::{Rng, observation::Fault, shared::Shared};

/// Makes the draws of changes independent of all others: a seed without changes is as it was.
const SALT: u64 = 0x06e0_7a70_0c4a_96e5;

/// The same for the losses.
const LOSSES_SALT: u64 = 0x1057_c0de_0b5e_55ed;

/// How many of a thousand seeds with several nodes lose nodes and answers in the middle of changes.
const LOSSES: u32 = 250;
/// How many of those have the other faults, too.
const LOSSES_AND_FAULTS: u32 = 250;
/// How few members there may be when nodes are lost in the middle of changes.
const MEMBERS_MIN_OF_LOSSES: usize = 2;

/// How many of a thousand seeds with several nodes have changes of members.
const CHANGED: u32 = 300;
/// How many machines there are beyond three nodes.
const SPARES: usize = 2;
/// How few members there may be: any one may be lost.
const MEMBERS_MIN: usize = 3;
/// How few of the seeds may be members: one that lost its volume finds the cluster by another.
const SEEDS_MIN: usize = 2;

/// A change of the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nodes that were none join by themselves.
    Grow,
    /// A member is removed, and its machine turned off.
    Shrink,
    /// One that was removed is started again with its old volume.
    Return,
    /// A member loses its volume, and comes back as another one under its name.
    Replace,
}

impl Change {
    /// What it is called in reports.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Grow => "grow",
            Self::Shrink => "shrink",
            Self::Return => "return",
            Self::Replace => "replace",
        }
    }
}

/// Which changes of members a seed has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    /// Those that it has.
    pub(crate) kinds: Vec<Change>,
    /// How many machines there are beside those of the nodes that begin.
    pub(crate) spares: usize,
    /// Between two of them at most.
    pub(crate) gap_max: Duration,
    /// Whether nodes and answers are lost, and changes are asked for twice, in the middle of them.
    pub(crate) losses: bool,
    /// Whether there are no other faults.
    pub(crate) is_alone: bool,
}

impl Changes {
    /// Some seeds with several nodes have changes.
    pub(crate) fn draw(seed: u64, nodes: usize) -> Self {
        let mut losses = Rng::new(seed ^ LOSSES_SALT);
        if nodes >= MEMBERS_MIN && losses.chance(LOSSES) {
            return Self {
                kinds: vec![
                    Change::Grow,
                    Change::Shrink,
                    Change::Shrink,
                    Change::Return,
                    Change::Replace,
                ],
                spares: if nodes == MEMBERS_MIN { SPARES } else { 0 },
                gap_max: Duration::from_millis(*losses.pick(&[300, 1_000]).expect("choices")),
                losses: true,
                is_alone: !losses.chance(LOSSES_AND_FAULTS),
            };
        }
        let mut rng = Rng::new(seed ^ SALT);
        if nodes < MEMBERS_MIN || !rng.chance(CHANGED) {
            return Self::default();
        }
        let spares = if nodes == MEMBERS_MIN { SPARES } else { 0 };
        let mut kinds = Vec::new();
        // What makes the others possible is always there.
        let (grows, shrinks) = (spares > 0 || rng.chance(700), spares == 0 || rng.chance(700));
        kinds.extend(grows.then_some(Change::Grow));
        kinds.extend(shrinks.then_some(Change::Shrink));
        kinds.extend((shrinks && rng.chance(700)).then_some(Change::Return));
        let gap_max = Duration::from_millis(*rng.pick(&[500, 2_000, 5_000]).expect("choices"));
        Self { kinds, spares, gap_max, losses: false, is_alone: false }
    }
}

/// What came of asking a node to remove another one.
type Answer = Arc<Shared<Option<Result<(), ChangeError>>>>;

/// What is being done.
#[derive(Debug)]
enum Job {
    /// These are to become voters.
    Joining { sites: Vec<usize> },
    /// This one is to be removed.
    Removing { site: usize, stage: Stage },
    /// This one is to find out that it was removed.
    Returning { site: usize },
    /// This one lost its volume, and is to become a member again.
    Replacing { site: usize },
}

/// How far a removal is.
#[derive(Debug)]
enum Stage {
    /// A node is asked.
    Asking { at: Instant },
    /// The answer is waited for, but not longer.
    Waiting { answer: Answer, until: Instant },
    /// It is no member any more; the machine is turned off.
    Gone { off_at: Instant },
}

impl Job {
    fn change(&self) -> Change {
        match self {
            Self::Joining { .. } => Change::Grow,
            Self::Removing { .. } => Change::Shrink,
            Self::Returning { .. } => Change::Return,
            Self::Replacing { .. } => Change::Replace,
        }
    }

    fn fault(&self) -> Fault {
        let nodes = match self {
            Self::Joining { sites } => sites.clone(),
            Self::Removing { site, .. } | Self::Returning { site } | Self::Replacing { site } => {
                vec![*site]
            }
        };
        Fault { kind: self.change().label(), nodes, actors: Vec::new() }
    }
}

/// Who changes the number of members.
#[derive(Debug)]
pub(crate) struct Operator {
    rng: Rng,
    job: Option<Job>,
    /// When the next change may begin.
    next_at: Option<Instant>,
    /// How many changes were made.
    done: u64,
}

impl Operator {
    pub(crate) fn new(seed: u64) -> Self {
        let rng = Rng::new(seed.rotate_left(17) ^ SALT);
        Self { rng, job: None, next_at: None, done: 0 }
    }

    /// Whether nothing is being done.
    pub(crate) const fn is_idle(&self) -> bool {
        self.job.is_none()
    }

    /// How many changes were made.
    pub(crate) const fn done(&self) -> u64 {
        self.done
    }

    /// What is being done, for whoever waits for it.
    pub(crate) fn doing(&self) -> String {
        format!("{:?}", self.job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_seeds_change_their_members_and_each_change_has_what_it_needs() {
        let mut counts = [0; 3];
        for seed in 0..1_000 {
            let changes = Changes::draw(seed, if seed % 2 == 0 { 3 } else { 5 });
            let has = |kind| changes.kinds.contains(&kind);
            assert!(!has(Change::Return) || has(Change::Shrink));
            assert!(!has(Change::Shrink) || has(Change::Grow) || changes.spares == 0);
            for (count, kind) in
                counts.iter_mut().zip([Change::Grow, Change::Shrink, Change::Return])
            {
                *count += usize::from(has(kind));
            }
        }
        assert!(counts.iter().all(|count| (100..500).contains(count)), "{counts:?}");
        assert!(Changes::draw(1, 1).kinds.is_empty(), "one node is its only seed");
    }
}
