//! Compares our broker with the floor, and with other brokers if asked to.

use std::{
    env,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser;
use mdp_bench::{
    compare::{self, Contender, Figure, Plan, SCENARIOS, Step},
    launch::Launch,
};

/// Compares `majordomo serve` with the least forwarder that libzmq allows.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The broker; `majordomo` beside this program unless given.
    #[arg(long, env = "MAJORDOMO_BIN")]
    program: Option<PathBuf>,
    /// The floor; `mdp-floor` beside this program unless given.
    #[arg(long)]
    floor: Option<PathBuf>,
    /// Another broker of 7/MDP, as NAME=COMMAND; the command contains {endpoint}, or prints
    /// `listening on tcp://...`.
    #[arg(long, value_name = "NAME=COMMAND", value_parser = parse_contender)]
    other: Vec<Contender>,
    /// Leave our broker out: only the floor and the other brokers.
    #[arg(long)]
    without_majordomo: bool,
    /// Only the loads whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Short measurements, for a glance or a guard.
    #[arg(long)]
    quick: bool,
    /// How many times each broker is measured with each load.
    #[arg(long)]
    rounds: Option<usize>,
    /// How long each measurement takes, in seconds.
    #[arg(long)]
    seconds: Option<f64>,
    /// JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// End with exit code 1 if one of the promised ratios is above this.
    #[arg(long, value_name = "RATIO")]
    guard: Option<f64>,
}

fn parse_contender(text: &str) -> Result<Contender, String> {
    let (name, command) = text.split_once('=').ok_or("NAME=COMMAND is expected")?;
    let mut words = command.split_whitespace().map(String::from);
    let program = words.next().ok_or("the command is empty")?;
    let launch = Launch::new(PathBuf::from(program), words.collect());
    Ok(Contender { name: name.to_owned(), launch })
}

/// The program beside this one.
fn sibling(name: &str) -> anyhow::Result<PathBuf> {
    Ok(env::current_exe().context("this program's own path is unknown")?.with_file_name(name))
}

impl Arguments {
    fn plan(&self) -> anyhow::Result<Plan> {
        let path = |given: &Option<PathBuf>, name| given.clone().map_or_else(|| sibling(name), Ok);
        let mut contenders = vec![Contender::floor(path(&self.floor, "mdp-floor")?)];
        if !self.without_majordomo {
            contenders.push(Contender::majordomo(path(&self.program, "majordomo")?));
        }
        contenders.extend(self.other.iter().cloned());
        let only = self.only.as_deref().unwrap_or_default();
        let scenarios = SCENARIOS.iter().filter(|scenario| scenario.to_string().contains(only));
        let (rounds, warmup_ms, seconds, starts) =
            if self.quick { (3, 150, 0.4, 5) } else { (9, 300, 0.8, 15) };
        let seconds = self.seconds.unwrap_or(seconds);
        Ok(Plan {
            contenders,
            scenarios: scenarios.copied().collect(),
            rounds: self.rounds.unwrap_or(rounds),
            warmup: Duration::from_millis(warmup_ms),
            duration: Duration::try_from_secs_f64(seconds).context("--seconds")?,
            starts,
        })
    }
}

fn show_step(step: &Step<'_>) {
    let Step { number, of, scenario, name, sample } = step;
    let scenario = scenario.to_string();
    let (cpu, pace) = (sample.cpu_us, sample.requests_per_second);
    // Progress that nobody can see is no reason to stop.
    drop(writeln!(
        io::stderr(),
        "[{number:>3}/{of}] {scenario:<44} {name:<10} {cpu:7.2} us/req {pace:8.0} req/s"
    ));
}

/// Says which promises are broken beyond the guard.
fn broken(figures: &[Figure], guard: f64) -> Vec<&Figure> {
    figures.iter().filter(|figure| figure.ratio.is_nan() || figure.ratio > guard).collect()
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let plan = arguments.plan()?;
    let comparison = compare::compare(&plan, &mut |step| show_step(&step))?;
    let figures = compare::figures(&comparison);
    let mut stdout = io::stdout().lock();
    if arguments.json {
        let report = serde_json::json!({ "comparison": comparison, "figures": figures });
        serde_json::to_writer_pretty(&mut stdout, &report)?;
        writeln!(stdout)?;
    } else {
        compare::write_table(&mut stdout, &comparison)?;
        writeln!(stdout, "\nRatios are to the floor, medians of {} rounds.\n", plan.rounds)?;
        compare::write_figures(&mut stdout, &figures)?;
    }
    let Some(guard) = arguments.guard else { return Ok(ExitCode::SUCCESS) };
    let broken = broken(&figures, guard);
    for Figure { name, ratio, .. } in &broken {
        writeln!(io::stderr(), "above the guard of {guard}: {name}: {ratio:.2}")?;
    }
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn main() -> ExitCode {
    run(&Arguments::parse()).unwrap_or_else(|error| {
        drop(writeln!(io::stderr(), "mdp-compare: {error:#}"));
        ExitCode::from(2)
    })
}
