//! The figures that the project promises, each as a ratio with a target.

use serde::{Deserialize, Serialize};

use super::{
    BUSY, CROWDED, Comparison, ContenderResult, MAJORDOMO, MANY_SERVICES, ONE_AT_A_TIME, QUEUED,
    Scenario, median,
};
use crate::BenchReport;

/// Processor time per request over the floor's.
const CPU_RATIO_MAX: f64 = 1.2;

/// Median latency of one request at a time over the floor's.
const LATENCY_RATIO_MAX: f64 = 1.15;

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
        self.ratio <= self.target
    }
}

/// The promises about our broker, as far as they were measured.
#[must_use]
pub fn figures(comparison: &Comparison) -> Vec<Figure> {
    let ours = |scenario| result_of(comparison, scenario);
    let ratio = |name: String, ratio, target| Figure {
        name,
        measured: format!("{ratio:.2} x"),
        ratio,
        target,
    };
    let cpu = |scenario: Scenario| {
        let name = format!("CPU per request to the floor's: {scenario}");
        ours(scenario).map(|result| ratio(name, result.ratio.cpu_us, CPU_RATIO_MAX))
    };
    let latency = ours(ONE_AT_A_TIME).map(|result| {
        let name = format!("p50 to the floor's: {ONE_AT_A_TIME}");
        ratio(name, result.ratio.p50_us, LATENCY_RATIO_MAX)
    });
    let queued = ours(CROWDED).zip(ours(QUEUED)).map(|(short, long)| {
        let pace = |report: &BenchReport| report.requests_per_second;
        let rounds = short.reports.iter().map(pace).zip(long.reports.iter().map(pace));
        let fall = median(rounds.map(|(short, long)| short / long).collect());
        let name = format!("throughput at window {} to {}", CROWDED.window, QUEUED.window);
        ratio(name, fall, QUEUED_RATIO_MAX)
    });
    let mut figures: Vec<Figure> =
        [cpu(BUSY), latency, cpu(MANY_SERVICES), queued].into_iter().flatten().collect();
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

fn result_of(comparison: &Comparison, scenario: Scenario) -> Option<&ContenderResult> {
    let result = comparison.scenarios.iter().find(|result| result.scenario == scenario)?;
    result.contenders.iter().find(|contender| contender.name == MAJORDOMO)
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
        let ours = ContenderResult {
            name: MAJORDOMO.into(),
            median: sample(10.0),
            ratio: sample(ratio),
            ours: None,
            reports: vec![report],
        };
        ScenarioResult { scenario, contenders: vec![ours] }
    }

    #[test]
    fn only_what_was_measured_has_a_figure() {
        let comparison = Comparison { scenarios: Vec::new(), startup: None };
        assert_eq!(figures(&comparison), []);

        let scenarios = vec![measured(BUSY, 1.3, 1.0)];
        let figures = figures(&Comparison { scenarios, startup: None });

        assert_eq!(figures.len(), 1);
        assert!(!figures[0].is_met() && figures[0].name.contains("window 64"), "{figures:?}");
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
