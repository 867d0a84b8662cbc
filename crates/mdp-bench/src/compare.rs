//! Brokers and floors in turns, and their medians side by side.

mod figure;
mod sample;
mod scenario;
mod table;

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(crate) use self::sample::median;
pub use self::{
    figure::{Figure, figures, unmeasured},
    sample::Sample,
    scenario::{BUSY, CROWDED, MANY_SERVICES, ONE_AT_A_TIME, QUEUED, SCENARIOS, Scenario},
    table::{write_figures, write_rows, write_table},
};
use crate::{
    BenchError, BenchOptions, BenchReport, PeerKind,
    launch::{Launch, LaunchError},
    process, run,
};

/// The name of the forwarder that everything is compared with.
pub const FLOOR: &str = "floor";

/// The name of the forwarder that does without libzmq.
pub const NATIVE_FLOOR: &str = "native floor";

/// The name of the server of NATS.
pub const NATS: &str = "nats";

/// The name of our broker.
pub const MAJORDOMO: &str = "majordomo";

/// A broker to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contender {
    /// Its name in the table.
    pub name: String,
    /// How to start it.
    pub launch: Launch,
    /// What its clients and workers are made of.
    pub peers: PeerKind,
}

impl Contender {
    /// The floor, the first of the contenders.
    #[must_use]
    pub fn floor(program: PathBuf) -> Self {
        Self::new(FLOOR, Launch::new(program, Vec::new()))
    }

    /// The floor without libzmq.
    #[must_use]
    pub fn native_floor(program: PathBuf) -> Self {
        Self::new(NATIVE_FLOOR, Launch::new(program, vec![String::from("--native")]))
    }

    /// A server of NATS, whose clients and workers speak its own protocol.
    #[must_use]
    pub fn nats(program: PathBuf) -> Self {
        let arguments = ["--addr", "127.0.0.1", "--port", "-1"].map(String::from).to_vec();
        Self { peers: PeerKind::Nats, ..Self::new(NATS, Launch::new(program, arguments)) }
    }

    /// Another broker of 7/MDP.
    #[must_use]
    pub fn new(name: &str, launch: Launch) -> Self {
        Self { name: name.to_owned(), launch, peers: PeerKind::Raw }
    }

    /// Another version of our broker, as `NAME=PROGRAM`.
    ///
    /// # Errors
    /// One of them is missing.
    pub fn parse_release(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').filter(|(name, program)| ![name, program].contains(&&""));
        let (name, program) = parts.ok_or("NAME=PROGRAM is expected, as in 0.1.0=./majordomo")?;
        Ok(Self::release(name, PathBuf::from(program)))
    }

    /// Our broker.
    #[must_use]
    pub fn majordomo(program: PathBuf) -> Self {
        Self::release(MAJORDOMO, program)
    }

    /// Our broker of some version, on a port that the system chooses.
    #[must_use]
    pub fn release(name: &str, program: PathBuf) -> Self {
        let arguments = ["serve", "--bind", "tcp://127.0.0.1:0"].map(String::from).to_vec();
        let mut launch = Launch::new(program, arguments);
        // Brokers that run at the same time must not meet on a port.
        launch.environment.push(("MAJORDOMO__ADMIN__BIND".into(), String::new()));
        Self::new(name, launch)
    }
}

/// Figures are found by the names of contenders.
///
/// # Errors
/// Two have the same one.
pub fn check_names(contenders: &[Contender]) -> Result<(), String> {
    let mut names: Vec<&str> = contenders.iter().map(|contender| contender.name.as_str()).collect();
    names.sort_unstable();
    let twice = names.iter().zip(names.iter().skip(1)).find(|(name, next)| name == next);
    twice.map_or(Ok(()), |(name, _)| {
        Err(format!("two brokers are called {name}: give one another name"))
    })
}

/// What to measure, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whom to compare; the first is what the others are compared with.
    pub contenders: Vec<Contender>,
    /// With which loads.
    pub scenarios: Vec<Scenario>,
    /// How many times each contender is measured with each load.
    pub rounds: usize,
    /// Of each measurement.
    pub warmup: Duration,
    /// Of each measurement.
    pub duration: Duration,
    /// How many times our broker is started to measure its start-up.
    pub starts: usize,
}

/// Everything that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// In the order of the plan.
    pub scenarios: Vec<ScenarioResult>,
    /// Of our broker, if it was started at all.
    pub startup: Option<Startup>,
}

impl Comparison {
    /// Requests without a reply, replies without a request, and workers sent away, by contender and load:
    /// those that have any.
    pub fn errors(&self) -> impl Iterator<Item = (&str, Scenario, u64)> {
        self.scenarios.iter().flat_map(|result| {
            result.contenders.iter().filter_map(move |contender| {
                let errors: u64 = contender.reports.iter().map(BenchReport::errors).sum();
                (errors > 0).then_some((contender.name.as_str(), result.scenario, errors))
            })
        })
    }
}

/// One load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScenarioResult {
    /// The load.
    pub scenario: Scenario,
    /// In the order of the plan, the floor first.
    pub contenders: Vec<ContenderResult>,
}

/// One broker under one load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContenderResult {
    /// Its name.
    pub name: String,
    /// The medians over all rounds.
    pub median: Sample,
    /// The medians of what each round measured over what the first contender had in that round:
    /// the two ran one after the other, so that slow changes of the machine cancel out.
    pub ratio: Sample,
    /// The same the other way round: what our broker had in each round over what this one had. `None`:
    /// this is our broker, or it was not measured.
    #[serde(default)]
    pub ours: Option<Sample>,
    /// Each round.
    pub reports: Vec<BenchReport>,
}

/// How our broker starts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Startup {
    /// From the start of the process to its first answer, in milliseconds; the median.
    pub first_answer_ms: f64,
    /// Memory after that, in bytes; the median.
    pub idle_rss_bytes: f64,
}

/// Something was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Step<'a> {
    /// Which measurement this was, counted from one.
    pub number: usize,
    /// How many there will be.
    pub of: usize,
    /// The load.
    pub scenario: Scenario,
    /// The contender.
    pub name: &'a str,
    /// What was measured.
    pub sample: Sample,
}

/// Why nothing was compared.
#[derive(Debug, Error)]
pub enum CompareError {
    /// A broker does not run.
    #[error("{name}: {error}")]
    Launch {
        /// The contender.
        name: String,
        /// Why.
        error: LaunchError,
    },
    /// A broker cannot be measured.
    #[error("{name}, {scenario}: {error}")]
    Bench {
        /// The contender.
        name: String,
        /// The load.
        scenario: Scenario,
        /// Why.
        error: BenchError,
    },
    /// A broker's process cannot be observed.
    #[error("{name}: {error}")]
    Process {
        /// The contender.
        name: String,
        /// Why.
        error: std::io::Error,
    },
}

/// Measures everything in the plan, each measurement with a fresh process.
///
/// # Errors
/// A broker cannot be started or measured.
pub fn compare(plan: &Plan, on_step: &mut dyn FnMut(Step<'_>)) -> Result<Comparison, CompareError> {
    let startup = plan.contenders.iter().find(|contender| contender.name == MAJORDOMO);
    let startup = startup.map(|contender| measure_startup(contender, plan.starts)).transpose()?;
    let of = plan.scenarios.len() * plan.rounds * plan.contenders.len();
    let mut number = 0;
    let mut reports = vec![vec![Vec::new(); plan.contenders.len()]; plan.scenarios.len()];
    // A round has every load, so that loads can be compared with each other, too.
    for round in 0..plan.rounds {
        for (&scenario, reports) in plan.scenarios.iter().zip(&mut reports) {
            for index in turns(plan.contenders.len(), round) {
                let Some(contender) = plan.contenders.get(index) else { continue };
                let report = measure(plan, contender, scenario)?;
                number += 1;
                let (name, sample) = (contender.name.as_str(), Sample::of(&report));
                on_step(Step { number, of, scenario, name, sample });
                if let Some(reports) = reports.get_mut(index) {
                    reports.push(report);
                }
            }
        }
    }
    let summary = |(&scenario, reports)| {
        let contenders = summarize(plan, reports);
        ScenarioResult { scenario, contenders }
    };
    let scenarios = plan.scenarios.iter().zip(reports).map(summary).collect();
    Ok(Comparison { scenarios, startup })
}

/// A B, then B A, so that neither always has the machine that the other left.
pub(crate) fn turns(contenders: usize, round: usize) -> Vec<usize> {
    match round.is_multiple_of(2) {
        true => (0..contenders).collect(),
        false => (0..contenders).rev().collect(),
    }
}

fn measure(
    plan: &Plan,
    contender: &Contender,
    scenario: Scenario,
) -> Result<BenchReport, CompareError> {
    let name = || contender.name.clone();
    let bench = |error| CompareError::Bench { name: name(), scenario, error };
    let mut options =
        BenchOptions { warmup: plan.warmup, duration: plan.duration, ..scenario.options() };
    options.peers = contender.peers;
    // A broker inherits the limit, and needs a descriptor for each connection.
    run::raise_file_limit(&options).map_err(bench)?;
    let launched =
        contender.launch.start().map_err(|error| CompareError::Launch { name: name(), error })?;
    options.endpoint = launched.endpoint().to_owned();
    options.pid = Some(launched.pid());
    run(&options, &mut |_progress| {}).and_then(BenchReport::whole).map_err(bench)
}

fn summarize(plan: &Plan, reports: Vec<Vec<BenchReport>>) -> Vec<ContenderResult> {
    let samples_of = |reports: &Vec<BenchReport>| reports.iter().map(Sample::of).collect();
    let baseline: Vec<Sample> = reports.first().map(samples_of).unwrap_or_default();
    let is_ours = |contender: &Contender| contender.name == MAJORDOMO;
    let ours = plan.contenders.iter().position(is_ours).and_then(|index| reports.get(index));
    let ours: Option<Vec<Sample>> = ours.map(samples_of);
    let median_ratio = |above: &[Sample], below: &[Sample]| {
        let ratios: Vec<Sample> = above.iter().zip(below).map(|(a, b)| a.over(*b)).collect();
        Sample::median(&ratios)
    };
    let summary = |(contender, reports): (&Contender, Vec<BenchReport>)| {
        let samples: Vec<Sample> = samples_of(&reports);
        let ours = ours.as_ref().filter(|_| !is_ours(contender));
        ContenderResult {
            name: contender.name.clone(),
            median: Sample::median(&samples),
            ratio: median_ratio(&samples, &baseline),
            ours: ours.map(|ours| median_ratio(ours, &samples)),
            reports,
        }
    };
    plan.contenders.iter().zip(reports).map(summary).collect()
}

fn measure_startup(contender: &Contender, starts: usize) -> Result<Startup, CompareError> {
    let name = || contender.name.clone();
    let launch_error = |error| CompareError::Launch { name: name(), error };
    let (mut answers_ms, mut rss_bytes) = (Vec::new(), Vec::new());
    for _ in 0..starts {
        let launched = contender.launch.start().map_err(launch_error)?;
        let answer = launched.first_answer().map_err(launch_error)?;
        let rss = process::resident_bytes(launched.pid())
            .map_err(|error| CompareError::Process { name: name(), error })?;
        answers_ms.push(answer.as_secs_f64() * 1e3);
        rss_bytes.push(crate::report::to_f64(rss));
    }
    Ok(Startup { first_answer_ms: median(answers_ms), idle_rss_bytes: median(rss_bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_have_a_name_of_their_own_and_a_program() {
        let release = Contender::parse_release("0.1.0=/opt/majordomo").unwrap();
        assert_eq!((release.name.as_str(), release.peers), ("0.1.0", PeerKind::Raw));
        for wrong in ["0.1.0", "=/opt/majordomo", "0.1.0=", "="] {
            let error = Contender::parse_release(wrong).unwrap_err();
            assert!(error.contains("NAME=PROGRAM"), "{wrong}: {error}");
        }

        let ours = Contender::majordomo(PathBuf::from("a"));
        assert_eq!(check_names(&[ours.clone(), release]), Ok(()));
        let other = Contender::release(MAJORDOMO, PathBuf::from("b"));
        let error = check_names(&[ours, other]).unwrap_err();
        assert!(error.contains("two brokers are called majordomo"), "{error}");
    }

    #[test]
    fn contenders_take_turns() {
        assert_eq!(turns(2, 0), [0, 1]);
        assert_eq!(turns(2, 1), [1, 0]);
    }

    #[test]
    fn errors_of_every_round_are_told_with_contender_and_load() {
        let report = |timeouts, workers_disconnected| BenchReport {
            timeouts,
            workers_disconnected,
            ..BenchReport::empty(&BenchOptions::default())
        };
        let result = |name: &str, reports| ContenderResult {
            name: name.into(),
            median: Sample::default(),
            ratio: Sample::default(),
            ours: None,
            reports,
        };
        let contenders = vec![
            result(FLOOR, vec![report(0, 0), report(0, 0), report(0, 0)]),
            result(MAJORDOMO, vec![report(0, 0), report(2, 1), report(0, 0)]),
        ];
        let scenarios = vec![ScenarioResult { scenario: BUSY, contenders }];
        let comparison = Comparison { scenarios, startup: None };

        let errors: Vec<_> = comparison.errors().collect();

        assert_eq!(errors, [(MAJORDOMO, BUSY, 3)]);
    }

    #[test]
    fn ratios_are_paired_by_round() {
        let floor = Contender::floor(PathBuf::from("a"));
        let ours = Contender::majordomo(PathBuf::from("b"));
        let report = |p50_us: f64| {
            let mut report = BenchReport::empty(&BenchOptions::default());
            report.latency.p50_us = p50_us;
            report
        };
        let plan = Plan {
            contenders: vec![floor, ours],
            scenarios: Vec::new(),
            rounds: 3,
            warmup: Duration::ZERO,
            duration: Duration::ZERO,
            starts: 0,
        };
        // The machine gets ten times slower between the rounds.
        let of = |values: [f64; 3]| values.map(report).to_vec();

        let results = summarize(&plan, vec![of([1.0, 10.0, 100.0]), of([2.0, 20.0, 300.0])]);

        assert!((results[1].ratio.p50_us - 2.0).abs() < 1e-9, "{results:?}");
        assert!((results[1].median.p50_us - 20.0).abs() < 1e-9, "{results:?}");
        assert!((results[0].ratio.cpu_us - 1.0).abs() < 1e-9, "{results:?}");
        let ours = results[0].ours.unwrap();
        assert!((ours.p50_us - 2.0).abs() < 1e-9 && results[1].ours.is_none(), "{results:?}");
    }
}
