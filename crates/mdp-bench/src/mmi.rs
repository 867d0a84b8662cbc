//! What agreement costs: `mmi.service` on a follower beside an answer that needs no agreement.
//!
//! Three nodes run; both questions go to the same follower, in turns, in the same run. The local
//! one is for a name that no broker knows, which every node answers with `501` by itself. What the
//! other costs more is the round to the leader and the leader's round to a majority.

mod table;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use mdp_wire::Version;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::table::{write_promise, write_table};
use crate::{
    BenchError, BenchOptions,
    compare::Sample,
    questions::{self, Answers, Questions},
    run::{WorkersThread, require_files},
    trio::{self, Leadership, NODES, Trio, TrioError},
};

/// How many questions are outstanding.
pub const WINDOWS: [usize; 3] = [1, 64, 256];
/// The window for which there is a promise.
pub const PROMISED_WINDOW: usize = 256;
/// The promise: the rate of linearizable answers over that of local ones, at least. It was 0.6 while
/// libzmq limited the rate of both; now a node gives more than a million local answers a second, and
/// more linearizable ones than before, too.
pub const RATE_RATIO_MIN: f64 = 0.25;

/// How many services have a worker, as many on each node.
const SERVICES_PER_NODE: usize = 11;
/// How long the workers may take until all are known.
const REGISTERED_DEADLINE: Duration = Duration::from_secs(15);
/// An election during a measurement makes it worthless; so often it is repeated.
const ELECTIONS_MAX: usize = 5;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Question {
    /// A name of the broker's own that it does not know: `501`.
    Local,
    /// Whether a service is offered that is: `200`.
    Linearizable,
}

impl Question {
    /// Both, the one to compare with first.
    pub const BOTH: [Self; 2] = [Self::Local, Self::Linearizable];

    /// What is asked, and what must be answered.
    const fn wording(self) -> (&'static str, &'static str) {
        match self {
            Self::Local => ("mmi.nothing", "501"),
            Self::Linearizable => ("mmi.service", "200"),
        }
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
    /// By window, as in [`WINDOWS`].
    pub windows: Vec<WindowResult>,
    /// How many measurements were repeated because of an election.
    pub elections: usize,
}

/// Both questions with so many of them outstanding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowResult {
    /// How many.
    pub window: usize,
    /// The medians of the local answers.
    pub local: Sample,
    /// The medians of the linearizable ones.
    pub linearizable: Sample,
    /// The medians of what each round measured of linearizable answers over its local ones.
    pub ratio: Sample,
    /// Each round: local, linearizable.
    pub rounds: Vec<[Answers; 2]>,
}

/// Something was measured.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Which measurement this was, counted from one.
    pub number: usize,
    /// How many there will be.
    pub of: usize,
    /// How many questions were outstanding.
    pub window: usize,
    /// Which.
    pub question: Question,
    /// What was measured.
    pub sample: Sample,
}

/// Why nothing was measured.
#[derive(Debug, Error)]
pub enum MmiError {
    /// There is no cluster.
    #[error(transparent)]
    Trio(#[from] TrioError),
    /// It cannot be measured.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// The workers are not known.
    #[error("{service} was answered with {answer:?} for {REGISTERED_DEADLINE:?}")]
    NotRegistered {
        /// A service that has a worker.
        service: String,
        /// What `mmi.service` says of it.
        answer: String,
    },
    /// The cluster does not come to rest.
    #[error("the leader changed during {ELECTIONS_MAX} measurements: is this machine overloaded?")]
    Elections,
}

/// Three nodes with workers.
pub struct Cluster {
    trio: Trio,
    leadership: Leadership,
    services: Vec<String>,
    // They offer the services as long as this lives.
    _workers: Vec<WorkersThread>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("leadership", &self.leadership).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Starts three nodes, registers workers on each, and waits until a follower knows them all.
    ///
    /// # Errors
    /// They do not come up.
    pub fn start(program: &Path) -> Result<Self, MmiError> {
        // A connection of each worker and some for questions, on both ends.
        require_files(1_024)?;
        let trio = Trio::start(program)?;
        let leadership = trio.settle()?;
        let (mut services, mut workers) = (Vec::new(), Vec::new());
        for node in 0..NODES {
            let names: Vec<String> =
                (0..SERVICES_PER_NODE).map(|index| format!("echo-{node}-{index}")).collect();
            let options = BenchOptions {
                endpoint: trio.endpoint(node).to_owned(),
                protocol: Version::V01,
                services: names.len(),
                workers: names.len(),
                ..BenchOptions::default()
            };
            let bytes: Vec<Vec<u8>> = names.iter().map(|name| name.clone().into_bytes()).collect();
            workers.push(WorkersThread::start(&options, &bytes)?);
            services.extend(names);
        }
        let cluster = Self { trio, leadership, services, _workers: workers };
        cluster.wait_for_services()?;
        Ok(cluster)
    }

    fn wait_for_services(&self) -> Result<(), MmiError> {
        let deadline = Instant::now() + REGISTERED_DEADLINE;
        for service in &self.services {
            loop {
                let asked = trio::ask(self.follower_endpoint(), "mmi.service", service);
                let answer = asked.map_err(BenchError::from)?.pop().unwrap_or_default();
                if answer == b"200" {
                    break;
                }
                if Instant::now() >= deadline {
                    let answer = String::from_utf8_lossy(&answer).into_owned();
                    return Err(MmiError::NotRegistered { service: service.clone(), answer });
                }
            }
        }
        Ok(())
    }

    fn follower_endpoint(&self) -> &str {
        self.trio.endpoint(self.leadership.follower())
    }

    /// The processes of the nodes.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.trio.pids()
    }

    /// Looks who leads now; whether that is still the one before.
    ///
    /// # Errors
    /// The nodes do not agree.
    pub fn is_unchanged(&mut self) -> Result<bool, MmiError> {
        let before = std::mem::replace(&mut self.leadership, self.trio.settle()?);
        Ok(before == self.leadership)
    }

    /// Asks a follower on one connection, which is all that ZeroMQ needs.
    ///
    /// # Errors
    /// It cannot be measured.
    pub fn ask(
        &self,
        question: Question,
        window: usize,
        plan: &Plan,
    ) -> Result<Answers, BenchError> {
        let (service, answer) = question.wording();
        questions::ask(&Questions {
            endpoint: self.follower_endpoint().to_owned(),
            service: service.to_owned(),
            bodies: self.services.clone(),
            answer: answer.to_owned(),
            window,
            connections: 1,
            warmup: plan.warmup,
            duration: plan.duration,
            pids: self.pids(),
        })
    }
}

/// Measures everything in the plan.
///
/// # Errors
/// There is no cluster, or it cannot be measured.
pub fn measure(
    program: &Path,
    plan: &Plan,
    on_step: &mut dyn FnMut(Step),
) -> Result<Measured, MmiError> {
    let mut cluster = Cluster::start(program)?;
    let mut rounds: Vec<Vec<[Answers; 2]>> = vec![Vec::new(); WINDOWS.len()];
    let (mut number, of) = (0, plan.rounds * WINDOWS.len() * Question::BOTH.len());
    let mut elections = 0;
    for round in 0..plan.rounds {
        for (&window, rounds) in WINDOWS.iter().zip(&mut rounds) {
            let pair = loop {
                let pair = ask_both(&cluster, window, plan, round)?;
                if cluster.is_unchanged()? {
                    break pair;
                }
                elections += 1;
                if elections >= ELECTIONS_MAX {
                    return Err(MmiError::Elections);
                }
            };
            for (question, answers) in Question::BOTH.into_iter().zip(&pair) {
                number += 1;
                on_step(Step { number, of, window, question, sample: Sample::of_answers(answers) });
            }
            rounds.push(pair);
        }
    }
    let windows = WINDOWS.into_iter().zip(rounds);
    let windows = windows.map(|(window, rounds)| WindowResult::of(window, rounds)).collect();
    Ok(Measured { windows, elections })
}

/// A B, then B A, so that neither always has the machine that the other left.
fn ask_both(
    cluster: &Cluster,
    window: usize,
    plan: &Plan,
    round: usize,
) -> Result<[Answers; 2], BenchError> {
    let ask = |question| cluster.ask(question, window, plan);
    if round.is_multiple_of(2) {
        let local = ask(Question::Local)?;
        Ok([local, ask(Question::Linearizable)?])
    } else {
        let linearizable = ask(Question::Linearizable)?;
        Ok([ask(Question::Local)?, linearizable])
    }
}

impl WindowResult {
    fn of(window: usize, rounds: Vec<[Answers; 2]>) -> Self {
        let samples: Vec<[Sample; 2]> =
            rounds.iter().map(|pair| pair.each_ref().map(Sample::of_answers)).collect();
        let local: Vec<Sample> = samples.iter().map(|[local, _]| *local).collect();
        let linearizable: Vec<Sample> = samples.iter().map(|[_, other]| *other).collect();
        let ratios: Vec<Sample> =
            samples.iter().map(|[local, linearizable]| linearizable.over(*local)).collect();
        Self {
            window,
            local: Sample::median(&local),
            linearizable: Sample::median(&linearizable),
            ratio: Sample::median(&ratios),
            rounds,
        }
    }
}

impl Measured {
    /// The rate of linearizable answers over that of local ones where it was promised.
    #[must_use]
    pub fn promised_ratio(&self) -> Option<f64> {
        let result = self.windows.iter().find(|result| result.window == PROMISED_WINDOW)?;
        Some(result.ratio.requests_per_second)
    }

    /// Wrong answers, and questions without one.
    #[must_use]
    pub fn errors(&self) -> u64 {
        let rounds = self.windows.iter().flat_map(|result| result.rounds.iter().flatten());
        rounds.map(|answers| answers.errors).sum()
    }
}
