//! Many workers that have nothing to do: how fast a broker takes them, and what they cost it.

mod storm;

use std::{
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    BenchError, BenchOptions, BrokerReport, PeerKind,
    compare::{Contender, median, turns},
    launch::LaunchError,
    process::{self, ProcessTime},
    report::to_f64,
    run::{WorkersThread, raise_file_limit},
};

/// How long a broker may take to register them all.
const REGISTERED_DEADLINE: Duration = Duration::from_secs(60);
/// How long to wait between two looks whether they are registered.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Whom to measure, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Each in its turn.
    pub contenders: Vec<Contender>,
    /// How many workers.
    pub workers: usize,
    /// How many times each is measured.
    pub rounds: usize,
    /// How long to wait after the last of them is registered: what a broker says once to each new
    /// connection is not what an idle one costs.
    pub settle: Duration,
    /// How long the idle workers are then measured.
    pub idle: Duration,
}

/// What one broker had to do with so many workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Crowd {
    /// Workers that connected, introduced themselves, and were registered, in a second.
    pub registrations_per_second: f64,
    /// Processor time for each of them, in microseconds.
    pub registration_cpu_us: f64,
    /// Memory above what the broker has without any, in bytes.
    pub memory_bytes: f64,
    /// Processor time in a second while they are idle but for heartbeats, in milliseconds.
    pub idle_cpu_ms: f64,
    /// 99 of 100 requests of a load were faster, without any of these workers, in microseconds.
    pub load_p99_us: f64,
    /// The same while they registered.
    pub storm_p99_us: f64,
}

/// One broker: the medians of all rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CrowdResult {
    /// Its name.
    pub name: String,
    /// The median of each figure.
    pub median: Crowd,
    /// Each round.
    pub rounds: Vec<Crowd>,
}

/// Why nothing was measured.
#[derive(Debug, Error)]
pub enum CrowdError {
    /// A broker does not run.
    #[error("{name}: {error}")]
    Launch {
        /// The contender.
        name: String,
        /// Why.
        error: LaunchError,
    },
    /// It cannot be measured.
    #[error("{name}: {error}")]
    Bench {
        /// The contender.
        name: String,
        /// Why.
        error: BenchError,
    },
    /// It does not register them all.
    #[error(
        "{name}: {registered} of {workers} workers were registered within {REGISTERED_DEADLINE:?}"
    )]
    NotRegistered {
        /// The contender.
        name: String,
        /// How many were.
        registered: u64,
        /// How many there are.
        workers: usize,
    },
    /// It does not keep them.
    #[error("{name}: {count} workers were sent away")]
    SentAway {
        /// The contender.
        name: String,
        /// How many.
        count: u64,
    },
}

/// Measures everything in the plan, each time with a fresh process.
///
/// # Errors
/// A broker cannot be started or measured.
pub fn measure(
    plan: &Plan,
    on_step: &mut dyn FnMut(&str, Crowd),
) -> Result<Vec<CrowdResult>, CrowdError> {
    let mut rounds = vec![Vec::new(); plan.contenders.len()];
    for round in 0..plan.rounds {
        for index in turns(plan.contenders.len(), round) {
            let Some(contender) = plan.contenders.get(index) else { continue };
            let crowd = measure_once(plan, contender)?;
            on_step(&contender.name, crowd);
            if let Some(rounds) = rounds.get_mut(index) {
                rounds.push(crowd);
            }
        }
    }
    let result = |(contender, rounds): (&Contender, Vec<Crowd>)| CrowdResult {
        name: contender.name.clone(),
        median: Crowd::median(&rounds),
        rounds,
    };
    Ok(plan.contenders.iter().zip(rounds).map(result).collect())
}

fn measure_once(plan: &Plan, contender: &Contender) -> Result<Crowd, CrowdError> {
    let [load_p99_us, storm_p99_us] = storm::p99_us(plan, contender)?;
    let name = || contender.name.clone();
    let bench = |error| CrowdError::Bench { name: name(), error };
    let mut options =
        BenchOptions { workers: plan.workers, peers: contender.peers, ..BenchOptions::default() };
    raise_file_limit(&options).map_err(bench)?;
    let launched =
        contender.launch.start().map_err(|error| CrowdError::Launch { name: name(), error })?;
    options.endpoint = launched.endpoint().to_owned();
    let pid = launched.pid();
    let observed = |error| bench(BenchError::Process { pid, error });
    let time = || ProcessTime::read(pid).map_err(observed);
    let memory = || process::resident_bytes(pid).map_err(observed);

    let (memory_before, before, began_at) = (memory()?, time()?, Instant::now());
    let mut workers = register(&options, &contender.name)?;
    let took = began_at.elapsed();
    let registered = time()?;
    thread::sleep(plan.settle);
    let settled = time()?;
    thread::sleep(plan.idle);
    let idle = time()?;
    let memory_after = memory()?;
    check_all_there(&mut workers, &contender.name)?;

    let count = u64::try_from(plan.workers).unwrap_or(u64::MAX);
    let cpu_us = |now: &ProcessTime, earlier: &ProcessTime, count| {
        BrokerReport::new(&now.since(earlier), count, 0, 0).cpu_us_per_request
    };
    Ok(Crowd {
        registrations_per_second: to_f64(count) / took.as_secs_f64(),
        registration_cpu_us: cpu_us(&registered, &before, count),
        memory_bytes: to_f64(memory_after.saturating_sub(memory_before)),
        idle_cpu_ms: cpu_us(&idle, &settled, 1) / 1e3 / plan.idle.as_secs_f64(),
        load_p99_us,
        storm_p99_us,
    })
}

/// Starts the workers, and waits until all of them are registered.
fn register(options: &BenchOptions, name: &str) -> Result<WorkersThread, CrowdError> {
    let bench = |error| CrowdError::Bench { name: name.to_owned(), error };
    let services = [options.service.clone().into_bytes()];
    let began_at = Instant::now();
    let mut workers = WorkersThread::start(options, &services).map_err(bench)?;
    // A server of NATS has said so already.
    while options.peers != PeerKind::Nats && !workers.are_all_registered(options.workers) {
        check_all_there(&mut workers, name)?;
        if began_at.elapsed() > REGISTERED_DEADLINE {
            return Err(CrowdError::NotRegistered {
                name: name.to_owned(),
                registered: workers.registered(),
                workers: options.workers,
            });
        }
        thread::sleep(LOOK_INTERVAL);
    }
    Ok(workers)
}

/// Fails if the workers' thread has ended, or if the broker has sent workers away.
fn check_all_there(workers: &mut WorkersThread, name: &str) -> Result<(), CrowdError> {
    let name = || name.to_owned();
    if let Some(error) = workers.failure() {
        return Err(CrowdError::Bench { name: name(), error });
    }
    match workers.disconnected() {
        0 => Ok(()),
        count => Err(CrowdError::SentAway { name: name(), count }),
    }
}

impl Crowd {
    fn median(rounds: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(rounds.iter().map(figure).collect());
        Self {
            registrations_per_second: of(|crowd| crowd.registrations_per_second),
            registration_cpu_us: of(|crowd| crowd.registration_cpu_us),
            memory_bytes: of(|crowd| crowd.memory_bytes),
            idle_cpu_ms: of(|crowd| crowd.idle_cpu_ms),
            load_p99_us: of(|crowd| crowd.load_p99_us),
            storm_p99_us: of(|crowd| crowd.storm_p99_us),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::tests::RunningFloor;

    #[test]
    fn workers_that_lose_their_broker_are_not_waited_for() {
        let floor = RunningFloor::start_native();
        let options = BenchOptions {
            workers: 3,
            endpoint: floor.endpoint.clone(),
            ..BenchOptions::default()
        };
        let mut workers = WorkersThread::start(&options, &[b"echo".to_vec()]).unwrap();
        check_all_there(&mut workers, "floor").unwrap();

        drop(floor);

        let deadline = Instant::now() + Duration::from_secs(10);
        let error = loop {
            assert!(Instant::now() < deadline, "no worker misses its broker");
            match check_all_there(&mut workers, "floor") {
                Ok(()) => thread::sleep(LOOK_INTERVAL),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, CrowdError::SentAway { .. }), "{error}");
    }
}
