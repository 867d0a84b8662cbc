//! What a run did, as a table.

use std::{collections::BTreeMap, fmt};

use cluster_tests::{Operation, scale};
use mdp_history::Detection;

use super::{EACH_KIND, Faults, Kind, Recorder};

/// How many answers must have been checked, in the short form and in the long one.
const LOOKUPS_MIN: (usize, usize) = (20_000, 300_000);

/// How many of a hundred wrong answers the recorded histories must have been able to show, in the short
/// form and in the long one. A short one has a dozen faults, and which they are decides how many
/// questions are open at once, which can be answered either way.
const DETECTED_PERCENT_MIN: (usize, usize) = (80, 90);

/// Every how many lookups one is told wrong to find that out.
const FLIP_EVERY: usize = 20;

/// Sums over epochs.
#[derive(Debug, Default)]
pub(super) struct Tally {
    faults: BTreeMap<Kind, usize>,
    lookups: usize,
    unknown: usize,
    registrations: usize,
    detection: Detection,
}

impl Tally {
    pub(super) fn add(
        &mut self,
        recorder: &Recorder,
        faults: &Faults,
        histories: &[Vec<Operation>],
    ) {
        for kind in faults.kinds() {
            *self.faults.entry(kind).or_default() += 1;
        }
        let (lookups, unknown) = recorder.lookups();
        assert!(lookups > unknown, "most questions were not answered");
        self.lookups += lookups;
        self.unknown += unknown;
        self.registrations += recorder.registrations();
        let Detection { flipped, detected } = Detection::measure(histories, FLIP_EVERY);
        self.detection.flipped += flipped;
        self.detection.detected += detected;
    }

    /// The sums so far.
    pub(super) fn line(&self) -> String {
        let Self { lookups, unknown, registrations, .. } = self;
        let faults: usize = self.faults.values().sum();
        let percent = self.detected_percent();
        format!(
            "{faults} faults, {lookups} answers checked, {unknown} not answered or 503, \
             {registrations} registrations, {percent} % of wrong answers would have been seen"
        )
    }

    fn detected_percent(&self) -> usize {
        self.detection.percent().unwrap_or_default()
    }

    /// Whether the run was enough to prove something.
    pub(super) fn assert_telling(&self) {
        let lookups_min = scale().pick(LOOKUPS_MIN.0, LOOKUPS_MIN.1);
        assert!(self.lookups >= lookups_min, "{} answers, not {lookups_min}", self.lookups);
        let percent = self.detected_percent();
        let percent_min = scale().pick(DETECTED_PERCENT_MIN.0, DETECTED_PERCENT_MIN.1);
        assert!(percent >= percent_min, "{percent} %, not {percent_min}");
        let each = scale().pick(0, EACH_KIND);
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_possible()) {
            let count = self.faults.get(&kind).copied().unwrap_or_default();
            assert!(count >= each, "{}: {count} times, not {each}", kind.name());
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<32}{:>8}", "fault", "count")?;
        for kind in Kind::ALL {
            let count = self.faults.get(&kind).copied().unwrap_or_default();
            let left_out = if kind.is_possible() { "" } else { "  left out" };
            writeln!(f, "{:<32}{count:>8}{left_out}", kind.name())?;
        }
        writeln!(f, "{:<32}{:>8}", "answers checked", self.lookups)?;
        writeln!(f, "{:<32}{:>8}", "not answered, or 503", self.unknown)?;
        writeln!(f, "{:<32}{:>8}", "registrations", self.registrations)?;
        writeln!(f, "{:<32}{:>8}", "wrong answers tried", self.detection.flipped)?;
        write!(f, "{:<32}{:>6} %", "of them seen", self.detected_percent())
    }
}
