//! Compares our broker with floors, and with other brokers if asked to.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;
use mdp_bench::{
    PeerKind,
    compare::{self, Comparison, Contender, Figure, Plan, SCENARIOS, Step},
    launch::Launch,
    measuring::{Measuring, Pace, ended, sibling, version_of},
};

/// Compares `majordomo serve` with the least forwarders that libzmq and its own transport allow.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    measuring: Measuring,
    /// The program of both floors; `mdp-floor` beside this program unless given.
    #[arg(long)]
    floor: Option<PathBuf>,
    /// A server of NATS, loaded in its own protocol.
    #[arg(long, value_name = "PROGRAM")]
    nats: Option<PathBuf>,
    /// Another version of Majordomo.
    #[arg(long, value_name = "NAME=PROGRAM", value_parser = Contender::parse_release)]
    release: Vec<Contender>,
    /// Load with sockets of libzmq, as users have them, and not with those of the generator. A server
    /// of NATS is loaded as ever.
    #[arg(long)]
    libzmq: bool,
    /// Another broker of 7/MDP, as NAME=COMMAND; the command contains {endpoint}, or prints
    /// `listening on tcp://...`.
    #[arg(long, value_name = "NAME=COMMAND", value_parser = parse_contender)]
    other: Vec<Contender>,
    /// Leave our broker out: only the floors and the other brokers.
    #[arg(long)]
    without_majordomo: bool,
    /// Only the loads whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// End with exit code 1 if one of the figures is above its target by more than this factor, if one
    /// beside the floors was not measured, or if a request was lost.
    #[arg(long, value_name = "FACTOR")]
    guard: Option<f64>,
}

fn parse_contender(text: &str) -> Result<Contender, String> {
    let (name, command) = text.split_once('=').ok_or("NAME=COMMAND is expected")?;
    let mut words = command.split_whitespace().map(String::from);
    let program = words.next().ok_or("the command is empty")?;
    let launch = Launch::new(PathBuf::from(program), words.collect());
    Ok(Contender::new(name, launch))
}

/// `--quick`.
const QUICK: Pace = Pace::of(3, 150, 400);
const THOROUGH: Pace = Pace::of(9, 300, 800);
/// How many starts of the program are timed, `--quick` and otherwise.
const QUICK_STARTS: usize = 5;
const STARTS: usize = 15;

impl Arguments {
    fn plan(&self) -> anyhow::Result<Plan> {
        let measuring = &self.measuring;
        let floor = self.floor.clone().map_or_else(|| sibling("mdp-floor"), Ok)?;
        let mut contenders = vec![Contender::floor(floor.clone()), Contender::native_floor(floor)];
        if !self.without_majordomo {
            contenders.push(Contender::majordomo(measuring.program()?));
        }
        contenders.extend(self.release.iter().chain(&self.other).cloned());
        if self.libzmq {
            contenders.iter_mut().for_each(|contender| contender.peers = PeerKind::Libzmq);
        }
        contenders.extend(self.nats.clone().map(Contender::nats));
        compare::check_names(&contenders).map_err(anyhow::Error::msg)?;
        let only = self.only.as_deref().unwrap_or_default();
        let scenarios = SCENARIOS.iter().filter(|scenario| scenario.to_string().contains(only));
        let Pace { rounds, warmup, duration } = measuring.pace(QUICK, THOROUGH)?;
        Ok(Plan {
            contenders,
            scenarios: scenarios.copied().collect(),
            rounds,
            warmup,
            duration,
            starts: if measuring.quick { QUICK_STARTS } else { STARTS },
        })
    }
}

fn show_step(step: &Step<'_>) {
    let Step { number, of, scenario, name, sample } = step;
    let scenario = scenario.to_string();
    let (cpu, pace) = (sample.cpu_us, sample.requests_per_second);
    // Progress that cannot be shown is no reason to stop.
    drop(writeln!(
        io::stderr(),
        "[{number:>3}/{of}] {scenario:<44} {name:<12} {cpu:7.2} us/req {pace:8.0} req/s"
    ));
}

/// What the guard objects to, a line each.
fn objections(comparison: &Comparison, figures: &[Figure], guard: f64) -> Vec<String> {
    let above = figures.iter().filter(|figure| !figure.is_within(guard)).map(
        |Figure { name, ratio, target, .. }| {
            format!("above {guard} times its target: {name}: {ratio:.2} of {target:.2}")
        },
    );
    let missing = compare::unmeasured(comparison).into_iter();
    let missing = missing.map(|name| format!("not measured: {name}"));
    let errors = comparison.errors().map(|(name, scenario, errors)| {
        format!(
            "{name}, {scenario}: {errors} requests without a reply, replies without a request or workers \
             sent away"
        )
    });
    above.chain(missing).chain(errors).collect()
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let plan = arguments.plan()?;
    let nats_version = arguments.nats.as_deref().map(version_of).transpose()?;
    let comparison = compare::compare(&plan, &mut |step| show_step(&step))?;
    let figures = compare::figures(&comparison);
    let mut stdout = io::stdout().lock();
    if arguments.measuring.json {
        let report = serde_json::json!({
            "comparison": comparison, "figures": figures, "nats_version": nats_version,
        });
        serde_json::to_writer_pretty(&mut stdout, &report)?;
        writeln!(stdout)?;
    } else {
        compare::write_table(&mut stdout, &comparison)?;
        writeln!(
            stdout,
            "\n{}Ratios are to the floor; \"ours\" are those of majordomo to the others. Medians of {} \
             rounds. Switches: context switches of the broker per request.\n",
            nats_version.map_or_else(String::new, |version| format!("nats: {version}. ")),
            plan.rounds
        )?;
        compare::write_figures(&mut stdout, &figures)?;
    }
    let Some(guard) = arguments.guard else { return Ok(ExitCode::SUCCESS) };
    let objections = objections(&comparison, &figures, guard);
    for objection in &objections {
        writeln!(io::stderr(), "{objection}")?;
    }
    Ok(if objections.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn main() -> ExitCode {
    ended("mdp-compare", run(&Arguments::parse()))
}
