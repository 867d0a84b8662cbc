//! The figures that the project promises of the relay.

use serde::{Deserialize, Serialize};

use super::{
    Measured, SHAPE_BUSY, SHAPE_BUSY_LARGE, SHAPE_ECHO, SHAPE_JOBS, SHAPE_LATENCY, Shape,
    ShapeResult,
};
use crate::compare::Sample;

/// Processor time per request of both nodes, over that of a local request.
const CPU_RATIO_MAX: f64 = 2.2;
/// Beyond this the guard fails.
const CPU_RATIO_GUARD_MAX: f64 = 4.0;

/// What the relay adds to the median latency of one request at a time, over that latency itself.
const ADDED_LATENCY_MAX: f64 = 1.5;
/// Beyond this the guard fails: latency suffers most from a machine that has other work.
const ADDED_LATENCY_GUARD_MAX: f64 = 3.0;

/// Throughput over that of local requests when workers are the limit.
const JOBS_RATE_MIN: f64 = 0.95;
/// Below this the guard fails, if workers were the limit.
const JOBS_RATE_GUARD_MIN: f64 = 0.85;
/// Workers are the limit if those of local clients have a job for this share of the time. If they
/// have less, the machine had no processor left for them, and the guard asks for no more than it
/// does of a load that the processor limits.
const WORKERS_BUSY_MIN: f64 = 0.7;

/// Throughput over that of local requests when the processor is the limit.
const ECHO_RATE_MIN: f64 = 0.55;
/// Below this the guard fails.
const ECHO_RATE_GUARD_MIN: f64 = 0.4;

/// On which side of a number a figure must be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Not above.
    AtMost(f64),
    /// Not below.
    AtLeast(f64),
}

impl Limit {
    /// Whether a figure is on the right side; what is no number is on none.
    #[must_use]
    pub fn allows(self, figure: f64) -> bool {
        match self {
            Self::AtMost(limit) => figure <= limit,
            Self::AtLeast(limit) => figure >= limit,
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "at most {limit:.2}"),
            Self::AtLeast(limit) => write!(f, "at least {limit:.2}"),
        }
    }
}

/// A promise, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Promise {
    /// What it is.
    pub name: String,
    /// What was measured: the median over all rounds of a ratio to the local case.
    pub figure: f64,
    /// What is promised.
    pub target: Limit,
    /// What the guard asks for: loose, for a machine of CI has other work, too.
    pub guard: Limit,
}

/// The promises about the relay, as far as they were measured.
#[must_use]
pub fn promises(measured: &Measured) -> Vec<Promise> {
    let promise =
        |shape: Shape, what: &str, figure: fn(Sample) -> f64, [target, guard]: [Limit; 2]| {
            let figure = figure(measured.of(shape)?.ratio);
            Some(Promise { name: format!("{what}: {shape}"), figure, target, guard })
        };
    let cpu = [CPU_RATIO_MAX, CPU_RATIO_GUARD_MAX].map(Limit::AtMost);
    let latency = [ADDED_LATENCY_MAX, ADDED_LATENCY_GUARD_MAX].map(Limit::AtMost);
    let jobs = [JOBS_RATE_MIN, jobs_rate_guard_min(measured)].map(Limit::AtLeast);
    let echo = [ECHO_RATE_MIN, ECHO_RATE_GUARD_MIN].map(Limit::AtLeast);
    let rate = |ratio: Sample| ratio.requests_per_second;
    let promises = [
        promise(SHAPE_BUSY, "CPU of both nodes to local", |ratio| ratio.cpu_us, cpu),
        promise(SHAPE_BUSY_LARGE, "CPU of both nodes to local", |ratio| ratio.cpu_us, cpu),
        promise(SHAPE_LATENCY, "added p50 to local p50", |ratio| ratio.p50_us - 1.0, latency),
        promise(SHAPE_JOBS, "throughput to local", rate, jobs),
        promise(SHAPE_ECHO, "throughput to local", rate, echo),
    ];
    promises.into_iter().flatten().collect()
}

fn jobs_rate_guard_min(measured: &Measured) -> f64 {
    let busy = measured.of(SHAPE_JOBS).and_then(ShapeResult::workers_busy);
    match busy {
        Some([local, _]) if local >= WORKERS_BUSY_MIN => JOBS_RATE_GUARD_MIN,
        Some(_) | None => ECHO_RATE_GUARD_MIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many jobs in a second as the workers can do.
    const JOBS_PER_SECOND: f64 = 32_000.0;

    fn measured(shape: Shape, ratio: f64) -> ShapeResult {
        let sample = |value| Sample {
            cpu_us: value,
            p50_us: value,
            requests_per_second: value,
            ..Sample::default()
        };
        let (local, relay) = (sample(JOBS_PER_SECOND), sample(JOBS_PER_SECOND * ratio));
        ShapeResult { shape, local, relay, ratio: sample(ratio), rounds: Vec::new() }
    }

    #[test]
    fn only_what_was_measured_is_promised() {
        assert_eq!(promises(&Measured { shapes: Vec::new() }), []);

        let promises = promises(&Measured { shapes: vec![measured(SHAPE_BUSY, 2.5)] });

        assert_eq!(promises.len(), 1);
        assert!(promises[0].name.ends_with("32 workers, window 64, 64 B"), "{promises:?}");
        let Promise { figure, target, guard, .. } = promises[0];
        assert!(!target.allows(figure) && guard.allows(figure), "{promises:?}");
    }

    #[test]
    fn added_latency_is_what_is_above_local() {
        let promises = promises(&Measured { shapes: vec![measured(SHAPE_LATENCY, 2.4)] });

        assert!((promises[0].figure - 1.4).abs() < 1e-9, "{promises:?}");
        assert!(promises[0].target.allows(promises[0].figure), "{promises:?}");
    }

    #[test]
    fn throughput_may_not_fall_below_its_limits() {
        for (shape, bad, fair, good) in
            [(SHAPE_JOBS, 0.84, 0.9, 0.96), (SHAPE_ECHO, 0.39, 0.5, 0.6)]
        {
            let verdict = |ratio| {
                let promises = promises(&Measured { shapes: vec![measured(shape, ratio)] });
                let [Promise { figure, target, guard, .. }] = promises.as_slice() else {
                    panic!("{promises:?}");
                };
                (target.allows(*figure), guard.allows(*figure))
            };
            assert_eq!(verdict(bad), (false, false), "{shape}");
            assert_eq!(verdict(fair), (false, true), "{shape}");
            assert_eq!(verdict(good), (true, true), "{shape}");
            assert_eq!(verdict(f64::NAN), (false, false), "{shape}");
        }
    }

    #[test]
    fn guard_asks_less_of_jobs_that_the_processor_limits() {
        let guard = |busy: f64| {
            let mut result = measured(SHAPE_JOBS, 0.8);
            result.local.requests_per_second = busy * JOBS_PER_SECOND;
            let promises = promises(&Measured { shapes: vec![result] });
            assert_eq!(promises[0].target, Limit::AtLeast(JOBS_RATE_MIN));
            promises[0].guard
        };

        assert_eq!(guard(0.71), Limit::AtLeast(JOBS_RATE_GUARD_MIN));
        assert_eq!(guard(0.69), Limit::AtLeast(ECHO_RATE_GUARD_MIN));
    }
}
