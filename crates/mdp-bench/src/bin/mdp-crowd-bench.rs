//! Measures a crowd of idle workers: how fast they are registered, and what they cost.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use mdp_bench::{
    compare::{self, BUSY, Contender, write_rows},
    crowd::{self, Crowd, Plan},
    measuring::{Measuring, Pace, ended, version_of},
};

/// Lets many workers connect to `majordomo serve` at once and do nothing.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    measuring: Measuring,
    /// How many workers.
    #[arg(long, default_value_t = 10_000)]
    workers: usize,
    /// A server of NATS, whose workers speak its own protocol.
    #[arg(long, value_name = "PROGRAM")]
    nats: Option<PathBuf>,
    /// Another version of Majordomo, as NAME=PROGRAM.
    #[arg(long, value_name = "NAME=PROGRAM", value_parser = Contender::parse_release)]
    release: Vec<Contender>,
}

/// `--quick`.
const QUICK: Pace = Pace::of(1, 0, 3_000);
const THOROUGH: Pace = Pace::of(5, 0, 10_000);
/// A server of NATS sends each client its first PING 2 to 2.4 s after it has connected, and the next one
/// two minutes later.
const SETTLE: Duration = Duration::from_secs(4);

fn cells(crowd: Crowd) -> [String; 6] {
    [
        format!("{:.0}", crowd.registrations_per_second),
        format!("{:.1}", crowd.registration_cpu_us),
        format!("{:.1}", crowd.memory_bytes / f64::from(1 << 20)),
        format!("{:.1}", crowd.idle_cpu_ms),
        format!("{:.0}", crowd.load_p99_us),
        format!("{:.0}", crowd.storm_p99_us),
    ]
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let measuring = &arguments.measuring;
    let Pace { rounds, duration, .. } = measuring.pace(QUICK, THOROUGH)?;
    let mut contenders = vec![Contender::majordomo(measuring.program()?)];
    contenders.extend(arguments.release.iter().cloned());
    contenders.extend(arguments.nats.clone().map(Contender::nats));
    compare::check_names(&contenders).map_err(anyhow::Error::msg)?;
    let idle = duration.max(Duration::from_millis(1));
    let plan = Plan { contenders, workers: arguments.workers, rounds, settle: SETTLE, idle };
    let nats_version = arguments.nats.as_deref().map(version_of).transpose()?;
    let results = crowd::measure(&plan, &mut |name, crowd| {
        // Progress that cannot be shown is no reason to stop.
        drop(writeln!(io::stderr(), "{name:<12} {}", cells(crowd).join("  ")));
    })?;
    let mut stdout = io::stdout().lock();
    if measuring.json {
        let page = serde_json::json!({ "brokers": results, "nats_version": nats_version });
        serde_json::to_writer_pretty(&mut stdout, &page)?;
        writeln!(stdout)?;
        return Ok(ExitCode::SUCCESS);
    }
    let headings = [
        "broker",
        "",
        "registered/s",
        "CPU us each",
        "memory MiB",
        "idle CPU ms/s",
        "load p99 us",
        "in storm us",
    ];
    let mut rows = vec![headings.map(String::from)];
    for result in results {
        let [pace, cpu, memory, idle, alone, beside] = cells(result.median);
        rows.push([result.name, String::new(), pace, cpu, memory, idle, alone, beside]);
    }
    write_rows(&mut stdout, &rows)?;
    writeln!(
        stdout,
        "\n{}{} workers of one service; connecting, introducing and registering counts as one. The load: \
         {BUSY}, alone and while they register. Medians of {} rounds.",
        nats_version.map_or_else(String::new, |version| format!("nats: {version}. ")),
        plan.workers,
        plan.rounds
    )?;
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    ended("mdp-crowd-bench", run(&Arguments::parse()))
}
