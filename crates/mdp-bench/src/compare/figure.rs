//! The figures that the project promises, each as a ratio with a target.

use serde::{Deserialize, Serialize};

use super::{
    BUSY, CROWDED, Comparison, ContenderResult, FLOOR, MAJORDOMO, MANY_SERVICES, NATIVE_FLOOR,
    NATS, ONE_AT_A_TIME, QUEUED, Scenario, median,
};
use crate::BenchReport;

/// One load beside one other contender: which figures shall be at most how large.
struct Limits {
    other: &'static str,
    scenario: Scenario,
    /// Processor time per request.
    cpu: Option<f64>,
    /// Median latency.
    p50: Option<f64>,
}

/// Busy workers with large bodies.
const BUSY_LARGE: Scenario = Scenario { body_bytes: 16 << 10, ..BUSY };
/// The release that the client port of libzmq was in last.
const WITH_LIBZMQ: &str = "0.1.0";

/// What our broker promises beside each of them, where it was measured.
const LIMITS: [Limits; 13] = [
    // The native floor has our transport, so that only this one shows whether that gets slower.
    limits(FLOOR, ONE_AT_A_TIME, Some(0.45), Some(0.85)),
    limits(FLOOR, BUSY, Some(0.8), None),
    limits(FLOOR, BUSY_LARGE, Some(0.4), None),
    limits(FLOOR, MANY_SERVICES, Some(0.9), None),
    limits(NATIVE_FLOOR, ONE_AT_A_TIME, Some(1.25), Some(1.2)),
    limits(NATIVE_FLOOR, BUSY, Some(1.25), None),
    limits(NATIVE_FLOOR, BUSY_LARGE, Some(1.25), None),
    limits(NATS, ONE_AT_A_TIME, Some(0.6), Some(0.95)),
    limits(NATS, BUSY, Some(0.85), None),
    limits(NATS, BUSY_LARGE, Some(0.4), None),
    limits(WITH_LIBZMQ, ONE_AT_A_TIME, Some(0.55), None),
    limits(WITH_LIBZMQ, BUSY, Some(0.55), None),
    limits(WITH_LIBZMQ, BUSY_LARGE, Some(0.55), None),
];

const fn limits(
    other: &'static str,
    scenario: Scenario,
    cpu: Option<f64>,
    p50: Option<f64>,
) -> Limits {
    Limits { other, scenario, cpu, p50 }
}

/// Throughput with a short queue over that with a long one. "Does not fall", but for the noise
/// between two measurements.
const QUEUED_RATIO_MAX: f64 = 1.1;

/// From the start of the process to its first answer, in milliseconds.
const START_MS_MAX: f64 = 100.0;

/// Memory of the idle process, in bytes.
const IDLE_RSS_BYTES_MAX: f64 = 20.0 * 1_024.0 * 1_024.0;

/// A promise, and what came of it. Smaller is better.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// What was measured, with its unit if the ratio is one to a fixed limit.
    pub measured: String,
    /// What was measured, as a ratio.
    pub ratio: f64,
    /// What the ratio shall be at most.
    pub target: f64,
}

impl Figure {
    /// Whether the promise is kept.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.is_within(1.0)
    }

    /// Whether it is at most so many times what it shall be.
    #[must_use]
    pub fn is_within(&self, factor: f64) -> bool {
        self.ratio <= self.target * factor
    }
}

/// The promises about our broker, as far as they were measured.
#[must_use]
pub fn figures(comparison: &Comparison) -> Vec<Figure> {
    let ratio = |name: String, ratio, target| Figure {
        name,
        measured: format!("{ratio:.2} x"),
        ratio,
        target,
    };
    let mut figures = Vec::new();
    for Limits { other, scenario, cpu, p50 } in LIMITS {
        let Some(ours) = result_of(comparison, scenario, other).and_then(|it| it.ours) else {
            continue;
        };
        let cpu = cpu.map(|max| ("CPU per request", ours.cpu_us, max));
        let p50 = p50.map(|max| ("p50", ours.p50_us, max));
        for (what, measured, max) in [cpu, p50].into_iter().flatten() {
            figures.push(ratio(format!("{what} to that of {other}: {scenario}"), measured, max));
        }
    }
    let queued = [CROWDED, QUEUED].map(|scenario| result_of(comparison, scenario, MAJORDOMO));
    if let [Some(short), Some(long)] = queued {
        let pace = |report: &BenchReport| report.requests_per_second;
        let rounds = short.reports.iter().map(pace).zip(long.reports.iter().map(pace));
        let fall = median(rounds.map(|(short, long)| short / long).collect());
        let name = format!("throughput at window {} to {}", CROWDED.window, QUEUED.window);
        figures.push(ratio(name, fall, QUEUED_RATIO_MAX));
    }
    if let Some(startup) = comparison.startup {
        let milliseconds = startup.first_answer_ms;
        figures.push(Figure {
            name: format!("start to first answer, of {START_MS_MAX} ms"),
            measured: format!("{milliseconds:.1} ms"),
            ratio: milliseconds / START_MS_MAX,
            target: 1.0,
        });
        let mebibytes = |bytes: f64| bytes / 1_024.0 / 1_024.0;
        figures.push(Figure {
            name: format!("idle memory, of {} MiB", mebibytes(IDLE_RSS_BYTES_MAX)),
            measured: format!("{:.1} MiB", mebibytes(startup.idle_rss_bytes)),
            ratio: startup.idle_rss_bytes / IDLE_RSS_BYTES_MAX,
            target: 1.0,
        });
    }
    figures
}

/// The promises that should have been measured, and were not: all beside the floors, and those beside
/// other contenders that took part.
#[must_use]
pub fn unmeasured(comparison: &Comparison) -> Vec<String> {
    let takes_part = |name: &str| {
        let mut contenders = comparison.scenarios.iter().flat_map(|result| &result.contenders);
        contenders.any(|contender| contender.name == name)
    };
    let is_expected = |other: &str| [FLOOR, NATIVE_FLOOR].contains(&other) || takes_part(other);
    let is_measured = |limits: &Limits| {
        result_of(comparison, limits.scenario, limits.other).is_some_and(|it| it.ours.is_some())
    };
    let missing = LIMITS.into_iter().filter(|it| is_expected(it.other) && !is_measured(it));
    missing.map(|Limits { other, scenario, .. }| format!("{other}: {scenario}")).collect()
}

fn result_of<'a>(
    comparison: &'a Comparison,
    scenario: Scenario,
    name: &str,
) -> Option<&'a ContenderResult> {
    let result = comparison.scenarios.iter().find(|result| result.scenario == scenario)?;
    result.contenders.iter().find(|contender| contender.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        BenchOptions,
        compare::{Sample, ScenarioResult, Startup},
    };

    fn measured(scenario: Scenario, ratio: f64, requests_per_second: f64) -> ScenarioResult {
        let sample = |value| Sample { cpu_us: value, p50_us: value, ..Sample::default() };
        let mut report = BenchReport::empty(&BenchOptions::default());
        report.requests_per_second = requests_per_second;
        let result = |name: &str, ours| ContenderResult {
            name: name.into(),
            median: sample(10.0),
            ratio: sample(1.0),
            ours,
            reports: vec![report.clone()],
        };
        let contenders = vec![result(FLOOR, Some(sample(ratio))), result(MAJORDOMO, None)];
        ScenarioResult { scenario, contenders }
    }

    #[test]
    fn only_what_was_measured_has_a_figure() {
        let comparison = Comparison { scenarios: Vec::new(), startup: None };
        assert_eq!(figures(&comparison), []);

        let scenarios = vec![measured(BUSY, 1.2, 1.0)];
        let figures = figures(&Comparison { scenarios, startup: None });

        assert_eq!(figures.len(), 1);
        assert!(!figures[0].is_met() && figures[0].is_within(1.6), "{figures:?}");
        assert_eq!(
            figures[0].name,
            "CPU per request to that of floor: 32 workers, window 64, 64 B"
        );
    }

    #[test]
    fn limit_that_was_not_measured_is_named() {
        let nothing = Comparison { scenarios: Vec::new(), startup: None };
        let of_floors =
            LIMITS.iter().filter(|it| [FLOOR, NATIVE_FLOOR].contains(&it.other)).count();
        assert_eq!(unmeasured(&nothing).len(), of_floors);

        let scenarios = vec![measured(BUSY, 1.0, 1.0)];
        let missing = unmeasured(&Comparison { scenarios, startup: None });

        assert_eq!(missing.len(), of_floors - 1, "{missing:?}");
        assert!(missing.contains(&format!("native floor: {BUSY}")), "{missing:?}");
    }

    #[test]
    fn queue_costs_the_throughput_that_is_lost() {
        let scenarios = vec![measured(CROWDED, 1.0, 50_000.0), measured(QUEUED, 1.0, 25_000.0)];
        let startup = Startup { first_answer_ms: 50.0, idle_rss_bytes: 30.0 * 1_048_576.0 };
        let figures = figures(&Comparison { scenarios, startup: Some(startup) });

        let ratios: Vec<f64> = figures.iter().map(|figure| figure.ratio).collect();
        assert_eq!(ratios, [2.0, 0.5, 1.5]);
    }
}
