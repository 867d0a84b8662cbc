//! Linearizable reads of one key through a follower of three etcd servers, beside `mmi.service`
//! through a follower of three nodes, in one run on one machine.
//!
//! Both clusters run all the time, one of them is loaded. Each has the settings that it has by
//! itself, on loopback, with its files in a temporary directory.

mod cluster;
mod compare;
mod grpc;
mod load;
mod messages;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser;
use mdp_bench::{
    compare::{Sample, write_rows},
    mmi::{Cluster, Plan},
};

use crate::{
    cluster::Etcd,
    compare::{Comparison, Contest, P50_RATIO_MAX, PROMISED_WINDOW, RATE_RATIO_MIN, WindowResult},
};

/// How many threads the generator for etcd has: with two it got most out of it on two cores.
const GENERATOR_THREADS: usize = 2;

/// Compares majordomo's linearizable answers with etcd's linearizable reads.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The broker, built with optimisation.
    #[arg(long, env = "MAJORDOMO_BIN")]
    program: PathBuf,
    /// The etcd server.
    #[arg(long, default_value = "etcd")]
    etcd: PathBuf,
    /// How many times each is measured.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// JSON instead of tables.
    #[arg(long)]
    json: bool,
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let plan = Plan {
        rounds: arguments.rounds,
        warmup: Duration::from_millis(500),
        duration: Duration::try_from_secs_f64(arguments.seconds).context("--seconds")?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(GENERATOR_THREADS)
        .enable_all()
        .build()?;
    let version = cluster::version(&arguments.etcd)?;
    let etcd = Etcd::start(&arguments.etcd)?;
    let majordomo = Cluster::start(&arguments.program)?;
    let comparison = Contest::new(runtime, etcd, majordomo)?.run(&plan, &mut show_step)?;
    let mut stdout = io::stdout().lock();
    if arguments.json {
        let report = serde_json::json!({ "version": version, "comparison": comparison });
        serde_json::to_writer_pretty(&mut stdout, &report)?;
        writeln!(stdout)?;
    } else {
        write_table(&mut stdout, &comparison)?;
        writeln!(
            stdout,
            "\n{version}. Both through a follower of three. CPU of all three processes; medians of {} rounds; \
             ratios are to etcd.\netcd is asked over the number of connections that suits it best, \
             majordomo over one.\n",
            plan.rounds
        )?;
        write_promises(&mut stdout, &comparison)?;
    }
    Ok(())
}

fn show_step(window: usize, name: &str, sample: Sample) {
    let (rate, p50) = (sample.requests_per_second, sample.p50_us);
    // Progress that nobody can see is no reason to stop.
    drop(writeln!(
        io::stderr(),
        "{window:>3} in flight, {name:<10} {rate:8.0} reads/s, p50 {p50:6.0} us"
    ));
}

const HEADINGS: [&str; 11] = [
    "in flight",
    "cluster",
    "connections",
    "reads/s",
    "ratio",
    "p50 us",
    "ratio",
    "p99 us",
    "ratio",
    "CPU us",
    "generator us",
];

fn write_table(out: &mut dyn io::Write, comparison: &Comparison) -> io::Result<()> {
    let mut rows = vec![HEADINGS.map(String::from)];
    for result in &comparison.windows {
        let WindowResult { window, etcd_connections, etcd, majordomo, ratio, .. } = result;
        let [theirs, ours] = generator_us(result);
        rows.push(row([window.to_string(), "etcd".into()], *etcd_connections, *etcd, None, theirs));
        rows.push(row([String::new(), "majordomo".into()], 1, *majordomo, Some(*ratio), ours));
    }
    write_rows(out, &rows)
}

fn row(
    words: [String; 2],
    connections: usize,
    sample: Sample,
    ratio: Option<Sample>,
    generator_us: f64,
) -> [String; 11] {
    let of_etcd = |figure: fn(Sample) -> f64| {
        ratio.map(|ratio| format!("{:.2}", figure(ratio))).unwrap_or_default()
    };
    let [window, cluster] = words;
    [
        window,
        cluster,
        connections.to_string(),
        format!("{:.0}", sample.requests_per_second),
        of_etcd(|ratio| ratio.requests_per_second),
        format!("{:.0}", sample.p50_us),
        of_etcd(|ratio| ratio.p50_us),
        format!("{:.0}", sample.p99_us),
        of_etcd(|ratio| ratio.p99_us),
        format!("{:.1}", sample.cpu_us),
        format!("{generator_us:.1}"),
    ]
}

/// What the generator itself spent per read, in the mean of the rounds.
fn generator_us(result: &WindowResult) -> [f64; 2] {
    let rounds = f64::from(u32::try_from(result.rounds.len().max(1)).unwrap_or(u32::MAX));
    let sum = |sum: [f64; 2], pair: &[mdp_bench::questions::Answers; 2]| {
        [sum[0] + pair[0].generator_cpu_us, sum[1] + pair[1].generator_cpu_us]
    };
    result.rounds.iter().fold([0.0; 2], sum).map(|sum| sum / rounds)
}

fn write_promises(out: &mut dyn io::Write, comparison: &Comparison) -> io::Result<()> {
    let promised = comparison.windows.iter().find(|result| result.window == PROMISED_WINDOW);
    let Some(WindowResult { ratio, majordomo, .. }) = promised else { return Ok(()) };
    let verdict = |is_met| if is_met { "met" } else { "MISSED" };
    let rate = ratio.requests_per_second;
    writeln!(
        out,
        "rate to etcd's, {PROMISED_WINDOW} in flight: {rate:.2} (target at least \
         {RATE_RATIO_MIN:.2}) {}",
        verdict(rate >= RATE_RATIO_MIN)
    )?;
    writeln!(
        out,
        "p50 to etcd's, {PROMISED_WINDOW} in flight: {:.2} (target at most {P50_RATIO_MAX:.2}) {}",
        ratio.p50_us,
        verdict(ratio.p50_us <= P50_RATIO_MAX)
    )?;
    if majordomo.errors > 0.0 {
        writeln!(out, "{} wrong or missing answers of majordomo: MISSED", majordomo.errors)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(io::stderr(), "etcd-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
