//! Measures `mmi.service` on a follower of three nodes beside an answer that needs no agreement.

use std::{
    env,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser;
use mdp_bench::mmi::{self, Plan, Step};

/// Compares linearizable answers of three nodes on loopback with local ones of the same node.
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
    /// End with exit code 1 if the promised ratio is below this, or if an answer was wrong.
    #[arg(long, value_name = "RATIO")]
    guard: Option<f64>,
}

impl Arguments {
    fn plan(&self) -> anyhow::Result<Plan> {
        let (rounds, warmup_ms, seconds) = if self.quick { (5, 200, 0.4) } else { (9, 300, 1.0) };
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

fn show_step(step: Step) {
    let Step { number, of, window, question, sample } = step;
    let (rate, p50) = (sample.requests_per_second, sample.p50_us);
    // Progress that nobody can see is no reason to stop.
    drop(writeln!(
        io::stderr(),
        "[{number:>3}/{of}] {window:>3} in flight, {question:<12?} {rate:8.0} answers/s, p50 {p50:6.0} us"
    ));
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let plan = arguments.plan()?;
    let measured = mmi::measure(&arguments.program()?, &plan, &mut show_step)?;
    let ratio = measured.promised_ratio().context("nothing was measured")?;
    let mut stdout = io::stdout().lock();
    if arguments.json {
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
    run(&Arguments::parse()).unwrap_or_else(|error| {
        drop(writeln!(io::stderr(), "mdp-mmi-bench: {error:#}"));
        ExitCode::from(2)
    })
}
