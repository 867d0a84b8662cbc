//! What a run came to.

use std::{fmt, time::Duration};

/// How to run a seed.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long faults come, in simulated time.
    pub safety: Duration,
    /// Whether everything is printed as it happens.
    pub is_loud: bool,
}

/// How long faults come, unless somebody says otherwise.
pub const SAFETY: Duration = Duration::from_secs(20);

impl Default for Options {
    fn default() -> Self {
        Self { safety: SAFETY, is_loud: false }
    }
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The hash of everything that happened.
    pub trace: u64,
    /// How many things happened.
    pub steps: u64,
    /// How much time passed in the simulation.
    pub simulated: Duration,
    /// Whether everything was as it must be.
    pub verdict: Result<Summary, Box<Violation>>,
}

/// What happened in a run, as numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Faults that were begun.
    pub faults: u64,
    /// Changes of members that were made.
    pub changes: u64,
    /// Requests that were answered.
    pub answered: u64,
    /// Questions to `mmi.service` that were answered.
    pub looked_up: u64,
    /// Calls between nodes.
    pub calls: u64,
    /// Those of them in a format that only the next version speaks.
    pub newer_calls: u64,
    /// Links between nodes that were made.
    pub links: u64,
    /// Those of them in a version that only the next one speaks.
    pub newer_links: u64,
    /// 1 if the cluster's version rose to the next one.
    pub upgraded: u64,
}

/// Something was not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The seed.
    pub seed: u64,
    /// The number of the event at which it was found.
    pub step: u64,
    /// When that was, in simulated time since the beginning.
    pub at: Duration,
    /// The name of the invariant.
    pub invariant: String,
    /// What was found.
    pub what: String,
    /// What happened before, the oldest first.
    pub window: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, step, at, invariant, what, .. } = self;
        write!(f, "seed {seed}, step {step}, {at:.3?}: {invariant}: {what}")
    }
}
