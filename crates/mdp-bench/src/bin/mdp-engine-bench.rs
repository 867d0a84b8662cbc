//! What one request costs inside the engine: instructions, counted by callgrind, and time.

use std::{
    env,
    io::{self, Write as _},
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use mdp_bench::engine::{self, Driver, Shape};
use serde::Serialize;

/// Cycles of the short run under callgrind; the long one has twice as many. The difference is what
/// the cycles cost, without the start.
const CALLGRIND_CYCLES: u64 = 20_000;

/// Cycles of the run that is timed.
const TIMED_CYCLES: u64 = 500_000;

/// Measures the engine without sockets, one request and its reply at a time.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Only measure time, without valgrind.
    #[arg(long)]
    without_callgrind: bool,
    /// Only run this shape, and print nothing: what callgrind and profilers start.
    #[arg(long, value_enum, requires = "cycles")]
    shape: Option<Shape>,
    /// How many requests to run.
    #[arg(long, requires = "shape")]
    cycles: Option<u64>,
}

/// What one request costs.
#[derive(Debug, Serialize)]
struct Cost {
    shape: &'static str,
    instructions_per_request: Option<u64>,
    nanoseconds_per_request: f64,
}

fn drive(shape: Shape, cycles: u64) -> anyhow::Result<f64> {
    let mut driver = Driver::new(shape).context("the engine refused the driver")?;
    let began_at = Instant::now();
    let replied = driver.turn(cycles);
    let elapsed = began_at.elapsed();
    ensure!(replied == cycles, "{replied} replies in {cycles} cycles");
    Ok(elapsed.as_secs_f64())
}

/// Counts the instructions of a whole run.
fn count(shape: Shape, cycles: u64) -> anyhow::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args(["--shape", shape.name(), "--cycles", &cycles.to_string()])
        .output()
        .context("valgrind cannot be started: is it installed?")?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("valgrind failed ({}):\n{text}", output.status);
    }
    engine::collected(&text).with_context(|| format!("no count in valgrind's output:\n{text}"))
}

fn measure(shape: Shape, with_callgrind: bool) -> anyhow::Result<Cost> {
    let instructions_per_request = if with_callgrind {
        let short = count(shape, CALLGRIND_CYCLES)?;
        let long = count(shape, 2 * CALLGRIND_CYCLES)?;
        Some(long.saturating_sub(short) / CALLGRIND_CYCLES)
    } else {
        None
    };
    let seconds = drive(shape, TIMED_CYCLES)?;
    let cycles = f64::from(u32::try_from(TIMED_CYCLES)?);
    let nanoseconds_per_request = seconds * 1e9 / cycles;
    Ok(Cost { shape: shape.name(), instructions_per_request, nanoseconds_per_request })
}

fn report(arguments: &Arguments) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let mut costs = Vec::new();
    if !arguments.json {
        writeln!(stdout, "{:<14} {:>16} {:>14}", "shape", "instructions/req", "ns/req")?;
    }
    for shape in Shape::ALL {
        let cost = measure(shape, !arguments.without_callgrind)?;
        if !arguments.json {
            let instructions = cost.instructions_per_request;
            let instructions =
                instructions.map_or_else(|| String::from("-"), |count| count.to_string());
            let (name, time) = (cost.shape, cost.nanoseconds_per_request);
            writeln!(stdout, "{name:<14} {instructions:>16} {time:>14.0}")?;
        }
        costs.push(cost);
    }
    if arguments.json {
        serde_json::to_writer_pretty(&mut stdout, &costs)?;
        writeln!(stdout)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match (arguments.shape, arguments.cycles) {
        (Some(shape), Some(cycles)) => drive(shape, cycles).map(|_seconds| ()),
        _ => report(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(io::stderr(), "mdp-engine-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
