//! Measures requests that cross nodes beside those that do not.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser;
use mdp_bench::{
    measuring::{Measuring, Pace, ended},
    relay::{self, Measured, Plan, Promise, Step},
};
use serde::Serialize;

/// Compares clients and workers on two nodes with clients and workers on one, of three on loopback.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    measuring: Measuring,
    /// End with exit code 1 if a figure is far from its target, or if a request was lost.
    #[arg(long)]
    guard: bool,
}

/// `--quick`.
const QUICK: Pace = Pace::of(5, 150, 300);
const THOROUGH: Pace = Pace::of(9, 300, 1_000);

/// What `--json` prints.
#[derive(Serialize)]
struct Page<'a> {
    #[serde(flatten)]
    measured: &'a Measured,
    promises: &'a [Promise],
}

fn show_step(step: Step) {
    let Step { number, of, shape, case, sample } = step;
    let (rate, p50, cpu) = (sample.requests_per_second, sample.p50_us, sample.cpu_us);
    // Progress that cannot be shown is no reason to stop.
    drop(writeln!(
        io::stderr(),
        "[{number:>3}/{of}] {shape}, {case:?}: {rate:.0} req/s, p50 {p50:.0} us, CPU {cpu:.2} us"
    ));
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let measuring = &arguments.measuring;
    let Pace { rounds, warmup, duration } = measuring.pace(QUICK, THOROUGH)?;
    let plan = Plan { rounds, warmup, duration };
    let measured = relay::measure(&measuring.program()?, &plan, &mut show_step)?;
    let promises = relay::promises(&measured);
    let mut stdout = io::stdout().lock();
    if measuring.json {
        let page = Page { measured: &measured, promises: &promises };
        serde_json::to_writer_pretty(&mut stdout, &page)?;
        writeln!(stdout)?;
    } else {
        relay::write_table(&mut stdout, &measured)?;
        writeln!(
            stdout,
            "\nWorkers on one node, clients there or on another; CPU of both nodes; medians of {} \
             rounds.\n",
            plan.rounds
        )?;
        relay::write_promises(&mut stdout, &promises)?;
        relay::write_busy(&mut stdout, &measured)?;
    }
    let is_close = !arguments.guard || guard(&measured, &promises)?;
    Ok(if is_close { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether every figure is within its loose limit and no request was lost; says which is not.
fn guard(measured: &Measured, promises: &[Promise]) -> io::Result<bool> {
    let mut stderr = io::stderr();
    let mut is_close = !promises.is_empty();
    for Promise { name, figure, guard, .. } in promises {
        if !guard.allows(*figure) {
            writeln!(stderr, "{name}: {figure:.2}, and the guard asks for {guard}")?;
            is_close = false;
        }
    }
    let errors = measured.errors();
    if errors > 0 {
        writeln!(
            stderr,
            "{errors} requests without a reply, replies without a request or workers sent away"
        )?;
        is_close = false;
    }
    Ok(is_close)
}

fn main() -> ExitCode {
    ended("mdp-relay-bench", run(&Arguments::parse()))
}
