//! What the way between nodes costs: clients on one node and workers on another, beside both on
//! one.
//!
//! Three nodes run. Workers are always at the first; clients are there too, or at the second, from
//! where their requests are relayed. Both cases are measured in turns, in the same run, and what
//! they cost is summed over both nodes.

mod promise;
mod table;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::{
    promise::{Limit, Promise, promises},
    table::{write_busy, write_promises, write_table},
};
use crate::{
    BenchError, BenchOptions, BenchReport,
    compare::{BUSY, CROWDED, ONE_AT_A_TIME, Sample, Scenario},
    report::to_f64,
    run::{self, WorkersThread, require_files},
    trio::{self, Trio, TrioError},
};

/// The index of the node that has the workers.
const OWNER: usize = 0;
/// The index of the node that relays.
const ORIGIN: usize = 1;

/// The service that is asked across nodes before anything is measured.
const PROBE: &str = "probe";
/// How long the nodes may take until the first request is answered across them.
const RELAY_DEADLINE: Duration = Duration::from_secs(15);
/// Sockets of the largest load on both ends, files and connections of a node.
const FILES: u64 = 1_024;

/// Where clients are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Case {
    /// At the node that has the workers.
    Local,
    /// At another one.
    Relay,
}

impl Case {
    /// Both, the one to compare with first.
    pub const BOTH: [Self; 2] = [Self::Local, Self::Relay];

    /// The nodes that take part: first that of the clients, then the other, which may be idle.
    const fn nodes(self) -> [usize; 2] {
        match self {
            Self::Local => [OWNER, ORIGIN],
            Self::Relay => [ORIGIN, OWNER],
        }
    }
}

/// One load of the service, on whichever node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// How many workers and requests, and of which length.
    pub scenario: Scenario,
    /// How long a worker waits before it replies, in milliseconds; zero: it replies at once.
    pub job_ms: u64,
}

/// Latency of one request at a time.
pub const SHAPE_LATENCY: Shape = Shape { scenario: ONE_AT_A_TIME, job_ms: 0 };
/// CPU of small requests.
pub const SHAPE_BUSY: Shape = Shape { scenario: BUSY, job_ms: 0 };
/// CPU of large ones.
pub const SHAPE_BUSY_LARGE: Shape =
    Shape { scenario: Scenario { body_bytes: 16 << 10, ..BUSY }, job_ms: 0 };
/// Throughput when workers are the limit: does the way keep all of them at work?
pub const SHAPE_JOBS: Shape = Shape { scenario: Scenario { window: 128, ..BUSY }, job_ms: 1 };
/// Throughput when the processor is the limit.
pub const SHAPE_ECHO: Shape = Shape { scenario: CROWDED, job_ms: 0 };

/// Every load, in the order of the table.
pub const SHAPES: [Shape; 5] =
    [SHAPE_LATENCY, SHAPE_BUSY, SHAPE_BUSY_LARGE, SHAPE_JOBS, SHAPE_ECHO];

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { scenario, job_ms } = self;
        write!(f, "{scenario}")?;
        if *job_ms > 0 {
            write!(f, ", {job_ms} ms jobs")?;
        }
        Ok(())
    }
}

/// How often and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How many times each is measured.
    pub rounds: usize,
    /// Of each measurement.
    pub warmup: Duration,
    /// Of each measurement.
    pub duration: Duration,
}

/// Everything that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// By load, as in [`SHAPES`].
    pub shapes: Vec<ShapeResult>,
}

/// Both cases under one load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShapeResult {
    /// Which load.
    pub shape: Shape,
    /// The medians of the local case; processor time is that of both nodes.
    pub local: Sample,
    /// The medians of the other.
    pub relay: Sample,
    /// The medians of what each round measured of the relay over its local case.
    pub ratio: Sample,
    /// Each round: local, relay. In a report the broker is the node of the clients.
    pub rounds: Vec<[BenchReport; 2]>,
}

/// Something was measured.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Which measurement this was, counted from one.
    pub number: usize,
    /// How many there will be.
    pub of: usize,
    /// The load.
    pub shape: Shape,
    /// Where the clients were.
    pub case: Case,
    /// What was measured.
    pub sample: Sample,
}

/// Why nothing was measured.
#[derive(Debug, Error)]
pub enum RelayError {
    /// There is no cluster.
    #[error(transparent)]
    Trio(#[from] TrioError),
    /// Workers or sockets fail before anything is measured.
    #[error(transparent)]
    Prepare(#[from] BenchError),
    /// No request crosses nodes.
    #[error(
        "a request at {origin} for the worker at {owner} was not answered within \
         {RELAY_DEADLINE:?}: does this program relay requests between nodes?"
    )]
    NotRelayed {
        /// Where it was sent.
        origin: String,
        /// Where the worker is.
        owner: String,
    },
    /// A case cannot be measured.
    #[error("{case:?}, {shape}: {error}")]
    Bench {
        /// Where the clients were.
        case: Case,
        /// The load.
        shape: Shape,
        /// Why.
        error: BenchError,
    },
}

/// Measures everything in the plan.
///
/// # Errors
/// There is no cluster, it relays nothing, or it cannot be measured.
pub fn measure(
    program: &Path,
    plan: &Plan,
    on_step: &mut dyn FnMut(Step),
) -> Result<Measured, RelayError> {
    // The nodes inherit the limit.
    require_files(FILES)?;
    let trio = Trio::start(program)?;
    trio.settle()?;
    wait_for_relay(&trio)?;
    let mut rounds: Vec<Vec<[BenchReport; 2]>> = vec![Vec::new(); SHAPES.len()];
    let (mut number, of) = (0, plan.rounds * SHAPES.len() * Case::BOTH.len());
    for round in 0..plan.rounds {
        for (&shape, rounds) in SHAPES.iter().zip(&mut rounds) {
            let mut run_case = |case| {
                number += 1;
                // A service of its own: workers of the last measurement may still be leaving.
                let service = format!("echo-{number}");
                let report = run::run(&options(&trio, plan, shape, case, service), &mut |_| {})
                    .and_then(BenchReport::whole)
                    .map_err(|error| RelayError::Bench { case, shape, error })?;
                on_step(Step { number, of, shape, case, sample: Sample::of(&report) });
                Ok::<BenchReport, RelayError>(report)
            };
            // A B, then B A, so that neither always has the machine that the other left.
            rounds.push(if round.is_multiple_of(2) {
                let local = run_case(Case::Local)?;
                [local, run_case(Case::Relay)?]
            } else {
                let relay = run_case(Case::Relay)?;
                [run_case(Case::Local)?, relay]
            });
        }
    }
    let shapes = SHAPES.into_iter().zip(rounds);
    Ok(Measured { shapes: shapes.map(|(shape, rounds)| ShapeResult::of(shape, rounds)).collect() })
}

/// Asks a worker of one node by way of the other until it answers.
fn wait_for_relay(trio: &Trio) -> Result<(), RelayError> {
    let [origin, owner] = Case::Relay.nodes().map(|node| trio.endpoint(node).to_owned());
    let options = BenchOptions { endpoint: owner.clone(), workers: 1, ..BenchOptions::default() };
    let _worker = WorkersThread::start(&options, &[PROBE.into()])?;
    let deadline = Instant::now() + RELAY_DEADLINE;
    loop {
        match trio::ask(&origin, PROBE, PROBE) {
            Ok(answer) if answer == [PROBE.as_bytes()] => return Ok(()),
            Ok(_) | Err(zmq::Error::EAGAIN) if Instant::now() < deadline => {}
            Ok(_) | Err(zmq::Error::EAGAIN) => {
                return Err(RelayError::NotRelayed { origin, owner });
            }
            Err(error) => return Err(BenchError::from(error).into()),
        }
    }
}

/// The load, its clients and workers where they belong, and both nodes looked at.
fn options(trio: &Trio, plan: &Plan, shape: Shape, case: Case, service: String) -> BenchOptions {
    let pids = trio.pids();
    let [clients, other] = case.nodes();
    BenchOptions {
        endpoint: trio.endpoint(clients).to_owned(),
        worker_endpoint: Some(trio.endpoint(OWNER).to_owned()),
        service,
        job: Duration::from_millis(shape.job_ms),
        warmup: plan.warmup,
        duration: plan.duration,
        pid: pids.get(clients).copied(),
        peer_pids: pids.get(other).copied().into_iter().collect(),
        ..shape.scenario.options()
    }
}

impl ShapeResult {
    fn of(shape: Shape, rounds: Vec<[BenchReport; 2]>) -> Self {
        let samples: Vec<[Sample; 2]> =
            rounds.iter().map(|pair| pair.each_ref().map(Sample::of)).collect();
        let local: Vec<Sample> = samples.iter().map(|[local, _]| *local).collect();
        let relay: Vec<Sample> = samples.iter().map(|[_, relay]| *relay).collect();
        let ratios: Vec<Sample> = samples.iter().map(|[local, relay]| relay.over(*local)).collect();
        Self {
            shape,
            local: Sample::median(&local),
            relay: Sample::median(&relay),
            ratio: Sample::median(&ratios),
            rounds,
        }
    }
}

impl ShapeResult {
    /// Which share of the time workers had a job, from zero to one: with local clients, and with
    /// clients on the other node. `None` if jobs take no time.
    #[must_use]
    pub fn workers_busy(&self) -> Option<[f64; 2]> {
        let Shape { scenario, job_ms } = self.shape;
        let jobs_per_second_max = to_f64(u64::try_from(scenario.workers).ok()?) * 1e3;
        let busy =
            |sample: Sample| sample.requests_per_second * to_f64(job_ms) / jobs_per_second_max;
        (job_ms > 0).then(|| [self.local, self.relay].map(busy))
    }
}

impl Measured {
    /// Both cases under this load, if it was measured.
    #[must_use]
    pub fn of(&self, shape: Shape) -> Option<&ShapeResult> {
        self.shapes.iter().find(|result| result.shape == shape)
    }

    /// Requests without a reply, replies without a request, and workers sent away.
    #[must_use]
    pub fn errors(&self) -> u64 {
        let reports = self.shapes.iter().flat_map(|result| result.rounds.iter().flatten());
        reports.map(BenchReport::errors).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clients_move_and_their_node_comes_first() {
        assert_eq!(Case::Local.nodes(), [OWNER, ORIGIN]);
        assert_eq!(Case::Relay.nodes(), [ORIGIN, OWNER]);
    }

    #[test]
    fn ratios_are_paired_by_round_and_errors_add_up() {
        let report = |requests_per_second: f64, timeouts: u64| BenchReport {
            requests_per_second,
            timeouts,
            ..BenchReport::empty(&BenchOptions::default())
        };
        // The machine gets ten times slower between the rounds.
        let rounds = vec![
            [report(1_000.0, 0), report(500.0, 1)],
            [report(100.0, 0), report(60.0, 0)],
            [report(10.0, 2), report(7.0, 0)],
        ];

        let result = ShapeResult::of(SHAPE_JOBS, rounds);

        assert!((result.ratio.requests_per_second - 0.6).abs() < 1e-9, "{result:?}");
        assert!((result.local.requests_per_second - 100.0).abs() < 1e-9, "{result:?}");
        // 32 workers do at most 32,000 jobs of 1 ms in a second.
        assert_eq!(result.workers_busy(), Some([100.0 / 32_000.0, 60.0 / 32_000.0]));
        let measured = Measured { shapes: vec![result] };
        assert_eq!(measured.errors(), 3);
        assert!(measured.of(SHAPE_JOBS).is_some() && measured.of(SHAPE_ECHO).is_none());
    }

    #[test]
    fn shapes_say_how_long_their_jobs_are() {
        let names = SHAPES.map(|shape| shape.to_string());

        assert_eq!(names[0], "1 worker, window 1, 64 B");
        assert_eq!(names[2], "32 workers, window 64, 16 KiB");
        assert_eq!(names[3], "32 workers, window 128, 64 B, 1 ms jobs");
    }
}
