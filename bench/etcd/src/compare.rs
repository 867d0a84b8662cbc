//! Both clusters in turns, and their medians side by side.

use std::time::Duration;

use anyhow::ensure;
use mdp_bench::{
    compare::Sample,
    mmi::{Cluster, Plan, Question, WINDOWS},
    questions::Answers,
    trio::Leadership,
};
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::{
    cluster::Etcd,
    load::{self, Load},
};

/// The window for which there is a promise.
pub(crate) const PROMISED_WINDOW: usize = 64;
/// Our rate over etcd's, at least.
pub(crate) const RATE_RATIO_MIN: f64 = 2.0;
/// Our median latency over etcd's, at most.
pub(crate) const P50_RATIO_MAX: f64 = 0.5;

/// How many connections are tried; etcd gets the number that is best for it.
const CONNECTIONS: [usize; 5] = [1, 2, 4, 8, 16];
/// How long each number is tried.
const TRIAL: Duration = Duration::from_secs(1);
/// An election during a measurement makes it worthless; so often it is repeated.
const ELECTIONS_MAX: usize = 5;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) windows: Vec<WindowResult>,
    /// How many measurements were repeated because of an election.
    pub(crate) elections: usize,
}

/// Both with so many reads outstanding.
#[derive(Debug, Serialize)]
pub(crate) struct WindowResult {
    pub(crate) window: usize,
    /// HTTP/2 connections of the generator to etcd; ours has one connection always.
    pub(crate) etcd_connections: usize,
    pub(crate) etcd: Sample,
    pub(crate) majordomo: Sample,
    /// Medians of what each round measured of majordomo over its etcd.
    pub(crate) ratio: Sample,
    /// Each round: etcd, majordomo.
    pub(crate) rounds: Vec<[Answers; 2]>,
}

/// The two clusters.
pub(crate) struct Contest {
    runtime: Runtime,
    etcd: Etcd,
    leadership: Leadership,
    majordomo: Cluster,
    elections: usize,
}

impl Contest {
    pub(crate) fn new(
        runtime: Runtime,
        mut etcd: Etcd,
        majordomo: Cluster,
    ) -> anyhow::Result<Self> {
        let leadership = runtime.block_on(etcd.settle())?;
        Ok(Self { runtime, etcd, leadership, majordomo, elections: 0 })
    }

    /// Measures both at all windows; `on_step` is told of each measurement.
    pub(crate) fn run(
        mut self,
        plan: &Plan,
        on_step: &mut dyn FnMut(usize, &str, Sample),
    ) -> anyhow::Result<Comparison> {
        let mut connections = Vec::new();
        for window in WINDOWS {
            connections.push(self.best_connections(window, plan)?);
        }
        let mut rounds: Vec<Vec<[Answers; 2]>> = vec![Vec::new(); WINDOWS.len()];
        for round in 0..plan.rounds {
            for ((window, &connections), rounds) in
                WINDOWS.into_iter().zip(&connections).zip(&mut rounds)
            {
                let pair = self.undisturbed(window, connections, plan, round)?;
                on_step(window, "etcd", Sample::of_answers(&pair[0]));
                on_step(window, "majordomo", Sample::of_answers(&pair[1]));
                rounds.push(pair);
            }
        }
        let results = WINDOWS.into_iter().zip(connections).zip(rounds);
        let windows =
            results.map(|((window, connections), rounds)| summary(window, connections, rounds));
        Ok(Comparison { windows: windows.collect(), elections: self.elections })
    }

    /// The number of connections with which etcd answers most.
    fn best_connections(&self, window: usize, plan: &Plan) -> anyhow::Result<usize> {
        let trial = Plan { duration: TRIAL, ..*plan };
        let mut best = (1, 0.0);
        for connections in CONNECTIONS.into_iter().filter(|connections| *connections <= window) {
            let rate = self.measure_etcd(window, connections, &trial)?.answers_per_second;
            if rate > best.1 {
                best = (connections, rate);
            }
        }
        Ok(best.0)
    }

    /// Measures again if a leader changed meanwhile.
    fn undisturbed(
        &mut self,
        window: usize,
        connections: usize,
        plan: &Plan,
        round: usize,
    ) -> anyhow::Result<[Answers; 2]> {
        loop {
            let pair = self.measure_both(window, connections, plan, round)?;
            if self.is_unchanged()? {
                return Ok(pair);
            }
            self.elections += 1;
            ensure!(self.elections < ELECTIONS_MAX, "leaders change: is this machine overloaded?");
        }
    }

    /// A B, then B A, so that neither always has the machine that the other left.
    fn measure_both(
        &self,
        window: usize,
        connections: usize,
        plan: &Plan,
        round: usize,
    ) -> anyhow::Result<[Answers; 2]> {
        let ours = || self.majordomo.ask(Question::Linearizable, window, plan);
        if round.is_multiple_of(2) {
            let etcd = self.measure_etcd(window, connections, plan)?;
            Ok([etcd, ours()?])
        } else {
            let ours = ours()?;
            Ok([self.measure_etcd(window, connections, plan)?, ours])
        }
    }

    fn measure_etcd(
        &self,
        window: usize,
        connections: usize,
        plan: &Plan,
    ) -> anyhow::Result<Answers> {
        let Plan { warmup, duration, .. } = *plan;
        let server = self.leadership.follower();
        let load = Load { server, window, connections, warmup, duration };
        self.runtime.block_on(load::measure(&self.etcd, load))
    }

    /// Looks who leads now; whether that is still who led before.
    fn is_unchanged(&mut self) -> anyhow::Result<bool> {
        let now = self.runtime.block_on(self.etcd.settle())?;
        let before = std::mem::replace(&mut self.leadership, now);
        Ok(self.majordomo.is_unchanged()? && before == now)
    }
}

fn summary(window: usize, etcd_connections: usize, rounds: Vec<[Answers; 2]>) -> WindowResult {
    let samples: Vec<[Sample; 2]> =
        rounds.iter().map(|pair| pair.each_ref().map(Sample::of_answers)).collect();
    let etcd: Vec<Sample> = samples.iter().map(|[etcd, _]| *etcd).collect();
    let majordomo: Vec<Sample> = samples.iter().map(|[_, ours]| *ours).collect();
    let ratios: Vec<Sample> = samples.iter().map(|[etcd, ours]| ours.over(*etcd)).collect();
    WindowResult {
        window,
        etcd_connections,
        etcd: Sample::median(&etcd),
        majordomo: Sample::median(&majordomo),
        ratio: Sample::median(&ratios),
        rounds,
    }
}
