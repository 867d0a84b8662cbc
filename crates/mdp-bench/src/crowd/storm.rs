//! A load that runs while many workers register.

use std::{
    panic,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use super::{CrowdError, Plan, REGISTERED_DEADLINE, register};
use crate::{
    BenchOptions, BenchReport, Phase,
    compare::{BUSY, Contender},
    run::{raise_file_limit, run, run_until},
};

/// How long the load runs before anything counts.
const WARM_UP: Duration = Duration::from_millis(300);
/// How long it is measured without the storm.
const ALONE: Duration = Duration::from_secs(1);

/// 99 of 100 requests of the load were faster, in microseconds: alone, and while all workers of the plan
/// registered with another service of the same broker.
pub(super) fn p99_us(plan: &Plan, contender: &Contender) -> Result<[f64; 2], CrowdError> {
    let name = || contender.name.clone();
    let bench = |error| CrowdError::Bench { name: name(), error };
    let load =
        BenchOptions { peers: contender.peers, warmup: WARM_UP, duration: ALONE, ..BUSY.options() };
    let workers = plan.workers + load.workers;
    raise_file_limit(&BenchOptions { workers, ..load.clone() }).map_err(bench)?;
    let launched =
        contender.launch.start().map_err(|error| CrowdError::Launch { name: name(), error })?;
    let endpoint = launched.endpoint().to_owned();

    let load = BenchOptions { endpoint: endpoint.clone(), ..load };
    let alone = run(&load, &mut |_| {}).and_then(BenchReport::whole).map_err(bench)?;

    // Services of their own: workers of the last measurement may still be leaving.
    let load = BenchOptions { service: "beside".into(), duration: REGISTERED_DEADLINE, ..load };
    let idle =
        BenchOptions { endpoint, service: "idle".into(), workers: plan.workers, ..load.clone() };
    let is_over = AtomicBool::new(false);
    let (sender, is_measuring) = mpsc::channel();
    let (report, storm) = thread::scope(|scope| {
        let is_over = &is_over;
        let load = scope.spawn(move || {
            run_until(&load, &|| is_over.load(Ordering::Relaxed), &mut |progress| {
                if progress.phase == Phase::Measuring {
                    // Only the first time is waited for.
                    sender.send(()).ok();
                }
            })
        });
        // An error: the load has failed, and says why.
        let storm = is_measuring.recv().ok().map(|()| register(&idle, &contender.name));
        is_over.store(true, Ordering::Relaxed);
        (load.join().unwrap_or_else(|payload| panic::resume_unwind(payload)), storm)
    });
    let beside = report.and_then(BenchReport::whole).map_err(bench)?;
    storm.transpose()?;
    Ok([alone, beside].map(|report| report.latency.p99_us))
}
