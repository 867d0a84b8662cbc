//! `majordomo bench`: a broker under load.

use std::{
    hash::{BuildHasher as _, RandomState},
    process,
    time::Duration,
};

use anyhow::Context as _;
use mdp_bench::{
    BenchError, BenchOptions, BenchReport, BrokerReport, PeerKeys, PeerKind, Phase, Progress,
};
use mdp_client::{CallError, Client, ClientOptions, PublicKey, SecretKey};
use mdp_wire::ServiceName;

use crate::{
    args::BenchArgs,
    commands::own_keys,
    exit::{Exit, UsageError},
    printer::{self, ProgressLine},
    settings::parse_client_endpoint,
    table::Table,
};

pub(super) fn run(args: &BenchArgs) -> anyhow::Result<Exit> {
    let endpoint = parse_client_endpoint(&args.endpoint);
    let wrong =
        |wanted| UsageError(format!("--endpoint {:?} is not valid: use {wanted}", args.endpoint));
    let service = args.service.clone().unwrap_or_else(own_service);
    if ServiceName::try_from(service.as_str()).context("--service")?.is_reserved() {
        let reason = format!("--service {service:?} cannot be offered: mmi. is the broker's own");
        return Err(UsageError(reason).into());
    }
    let keys = own_keys::read(&args.keys)?;
    let options = BenchOptions {
        endpoint: endpoint.map_err(wrong)?,
        service,
        peers: if args.libzmq || keys.is_some() { PeerKind::Libzmq } else { PeerKind::Raw },
        keys: keys.clone().map(|(own, server)| PeerKeys { own, server }),
        protocol: args.protocol.into(),
        services: args.services,
        workers: args.workers,
        clients: args.clients,
        window: args.window,
        body_bytes: args.size,
        duration: Duration::from_secs(args.seconds),
        pid: args.pid,
        ..BenchOptions::default()
    };
    let report = {
        let line = ProgressLine::new();
        let run = mdp_bench::run(&options, &mut |progress| line.show(&progress_text(progress)));
        run.map_err(|error| explained(error, &options.endpoint, keys))?
    };
    if args.json {
        printer::json(&report)?;
    } else {
        printer::text(&report_table(&report).to_string())?;
    }
    if let Some(reason) = &report.ended_early {
        let (seconds, wanted) = (report.duration_seconds, args.seconds);
        printer::warning(&format!(
            "the broker was lost ({reason}) after {seconds:.2} of {wanted} s: the figures are of that time"
        ));
    }
    // Requests without a reply make every figure doubtful.
    let is_whole = report.timeouts == 0 && report.ended_early.is_none();
    Ok(if is_whole { Exit::Ok } else { Exit::Failure })
}

/// Why no service answered, where that is a matter of keys.
fn explained(
    error: BenchError,
    endpoint: &str,
    keys: Option<(SecretKey, PublicKey)>,
) -> anyhow::Error {
    if !matches!(error, BenchError::NotServing { .. }) {
        return error.into();
    }
    let (key, server_key) = keys.unzip();
    let options = ClientOptions::new([endpoint]).attempts(1).key(key).server_key(server_key);
    match Client::connect(options).map(|mut client| client.call(QUESTION, "")) {
        Ok(Err(unreachable @ CallError::Unreachable { .. })) => unreachable.into(),
        Ok(_) | Err(_) => error.into(),
    }
}

/// What any broker answers that can be reached.
const QUESTION: &str = "mmi.service";

/// A service that no one else has: one that is in use would get requests that mean nothing to it, and
/// its clients would get replies that mean nothing to them.
fn own_service() -> String {
    // Each state is seeded with other random keys.
    let random = RandomState::new().hash_one(process::id());
    format!("bench-{random:016x}")
}

fn progress_text(progress: Progress) -> String {
    let phase = match progress.phase {
        Phase::Registering => "workers register",
        Phase::WarmingUp => "warming up",
        Phase::Measuring => "measuring",
        Phase::Draining => "waiting for the last replies",
    };
    let Progress { elapsed, requests_per_second, p50_us, timeouts, .. } = progress;
    let seconds = elapsed.as_secs_f64();
    let lost = if timeouts == 0 { String::new() } else { format!(", {timeouts} without a reply") };
    format!(
        "{phase}: {seconds:.1} s, {requests_per_second:.0} requests/s, p50 {p50_us:.0} us{lost}"
    )
}

fn report_table(report: &BenchReport) -> Table {
    let mut table = Table::pairs();
    let latency = &report.latency;
    let load = format!(
        "{} services, {} workers, {} clients, window {}, {} bytes, MDP {}",
        report.services,
        report.workers,
        report.clients,
        report.window,
        report.body_bytes,
        report.protocol
    );
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("broker", report.endpoint.clone());
    row("load", load);
    row("clients and workers", report.peer_kind.to_string());
    row("service", report.service.clone());
    row("requests", format!("{} in {:.2} s", report.requests, report.duration_seconds));
    row("requests/s", format!("{:.0}", report.requests_per_second));
    row(
        "latency",
        format!(
            "p50 {:.0} us, p90 {:.0} us, p99 {:.0} us, p99.9 {:.0} us, max {:.0} us, mean {:.0} us",
            latency.p50_us,
            latency.p90_us,
            latency.p99_us,
            latency.p999_us,
            latency.max_us,
            latency.mean_us
        ),
    );
    if let Some(broker) = &report.broker {
        let (cpu, switches) = (broker.cpu_us_per_request, broker.switches_per_request);
        row("broker CPU", format!("{cpu:.2} us/request, {switches:.2} context switches/request"));
        for thread in &broker.threads {
            let name = format!("  {}", thread.name);
            let (cpu, wakeups) = (thread.cpu_us_per_request, thread.wakeups_per_request);
            row(&name, format!("{cpu:.2} us/request, {wakeups:.2} wake-ups/request"));
        }
        row("broker memory", memory(broker));
    }
    row("generator CPU", format!("{:.2} us/request", report.generator_cpu_us_per_request));
    row("without reply", report.timeouts.to_string());
    row("unexpected replies", report.unexpected_replies.to_string());
    row("workers used", format!("{} of {}", report.workers_used, report.workers));
    row("workers sent away", report.workers_disconnected.to_string());
    table
}

fn memory(broker: &BrokerReport) -> String {
    let mebibytes = |bytes: u64| bytes >> 20;
    format!(
        "{} MiB before, {} MiB after",
        mebibytes(broker.rss_before_bytes),
        mebibytes(broker.rss_after_bytes)
    )
}
