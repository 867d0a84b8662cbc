//! Measures `mmi.service` on a follower of three nodes beside an answer that needs no agreement.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Parser;
use mdp_bench::{
    measuring::{Measuring, Pace, ended},
    mmi::{self, Plan, Step},
};

/// Compares linearizable answers of three nodes on loopback with local ones of the same node.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    measuring: Measuring,
    /// End with exit code 1 if the promised ratio is below this, or if an answer was wrong.
    #[arg(long, value_name = "RATIO")]
    guard: Option<f64>,
}

/// `--quick`.
const QUICK: Pace = Pace::of(5, 200, 400);
const THOROUGH: Pace = Pace::of(9, 300, 1_000);

fn show_step(step: Step) {
    let Step { number, of, window, question, sample } = step;
    let (rate, p50) = (sample.requests_per_second, sample.p50_us);
    // Progress that cannot be shown is no reason to stop.
    drop(writeln!(
        io::stderr(),
        "[{number:>3}/{of}] {window:>3} in flight, {question:<12?} {rate:8.0} answers/s, p50 {p50:6.0} us"
    ));
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let measuring = &arguments.measuring;
    let Pace { rounds, warmup, duration } = measuring.pace(QUICK, THOROUGH)?;
    let plan = Plan { rounds, warmup, duration };
    let measured = mmi::measure(&measuring.program()?, &plan, &mut show_step)?;
    let ratio = measured.promised_ratio().context("nothing was measured")?;
    let mut stdout = io::stdout().lock();
    if measuring.json {
        serde_json::to_writer_pretty(&mut stdout, &measured)?;
        writeln!(stdout)?;
    } else {
        mmi::write_table(&mut stdout, &measured)?;
        writeln!(
            stdout,
            "\nOne connection to a follower; CPU of all three nodes; medians of {} rounds.\n",
            plan.rounds
        )?;
        mmi::write_promise(&mut stdout, ratio)?;
    }
    let Some(guard) = arguments.guard else { return Ok(ExitCode::SUCCESS) };
    let errors = measured.errors();
    if ratio.is_nan() || ratio < guard || errors > 0 {
        writeln!(io::stderr(), "ratio {ratio:.2}, at least {guard} is asked for; {errors} errors")?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    ended("mdp-mmi-bench", run(&Arguments::parse()))
}
