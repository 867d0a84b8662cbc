//! Measures requests that cross nodes beside those that do not.

use std::{
    env,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser;
use mdp_bench::relay::{self, Measured, Plan, Promise, Step};
use serde::Serialize;

/// Compares clients and workers on two nodes with clients and workers on one, of three on loopback.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The broker; `majordomo` beside this program unless given.
    #[arg(long, env = "MAJORDOMO_BIN")]
    program: Option<PathBuf>,
    /// Short measurements, for a glance or a guard.
    #[arg(long)]
    quick: bool,
    /// How many times each is measured.
    #[arg(long)]
    rounds: Option<usize>,
    /// How long each measurement takes, in seconds.
    #[arg(long)]
    seconds: Option<f64>,
    /// JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// End with exit code 1 if a figure is far from its target, or if a request was lost.
    #[arg(long)]
    guard: bool,
}

impl Arguments {
    fn plan(&self) -> anyhow::Result<Plan> {
        let (rounds, warmup_ms, seconds) = if self.quick { (5, 150, 0.3) } else { (9, 300, 1.0) };
        Ok(Plan {
            rounds: self.rounds.unwrap_or(rounds),
            warmup: Duration::from_millis(warmup_ms),
            duration: Duration::try_from_secs_f64(self.seconds.unwrap_or(seconds))
                .context("--seconds")?,
        })
    }

    /// The program given, or the one beside this one.
    fn program(&self) -> anyhow::Result<PathBuf> {
        match &self.program {
            Some(program) => Ok(program.clone()),
            None => Ok(env::current_exe()?.with_file_name("majordomo")),
        }
    }
}

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
    // Progress that nobody can see is no reason to stop.
    drop(writeln!(
        io::stderr(),
        "[{number:>3}/{of}] {shape}, {case:?}: {rate:.0} req/s, p50 {p50:.0} us, CPU {cpu:.2} us"
    ));
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let plan = arguments.plan()?;
    let measured = relay::measure(&arguments.program()?, &plan, &mut show_step)?;
    let promises = relay::promises(&measured);
    let mut stdout = io::stdout().lock();
    if arguments.json {
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
    run(&Arguments::parse()).unwrap_or_else(|error| {
        drop(writeln!(io::stderr(), "mdp-relay-bench: {error:#}"));
        ExitCode::from(2)
    })
}
