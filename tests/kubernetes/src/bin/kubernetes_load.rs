//! Clients, workers and askers of `mmi.service`, in a container beside the nodes:
//!
//!     kubernetes-load SERVICE_ENDPOINT NODE_ENDPOINT,.. CALLS_PER_SECOND
//!
//! For each empty line on its standard input it writes one line of JSON: what happened since the empty line
//! before. For a line `workers` it writes where they are registered now. It ends when its standard input does.

use std::{
    env,
    io::{self, BufRead as _, Write as _},
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use cluster_tests::now_ns;
use kubernetes_tests::{NotFound, Registration, Registrations};
use mdp_client::{Client, ClientOptions, Request, StopHandle, Worker, WorkerOptions};
use serde_json::{Value, json};

/// Clients, each with one call at a time.
const CLIENTS: u32 = 20;
/// As many begin at each node. Half of them know that node alone and wait for it: else all may gather at one
/// node in the end, and when that is killed, none is registered and 404 is true.
const WORKERS: usize = 18;
/// Between two questions to `mmi.service`.
const ASK_PERIOD: Duration = Duration::from_millis(20);
/// How many answers of 404 are told with their times; more are only counted.
const NOT_FOUND_TOLD_MAX: usize = 10_000;
/// How long the Service may take to have endpoints.
const STARTS_WITHIN: Duration = Duration::from_secs(10);
/// How many failures are told.
const FAILURES_SHOWN: usize = 10;

const SERVICE: &str = "echo";

/// What happened since the last line.
#[derive(Debug, Default)]
struct Tally {
    calls: u64,
    retried: u64,
    longest: Duration,
    failed: u64,
    failures: Vec<String>,
    found: u64,
    not_found: u64,
    not_found_at: Vec<NotFound>,
}

type Shared = Arc<Mutex<Tally>>;

fn lock(tally: &Shared) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [service, nodes, rate] = arguments.as_slice() else {
        return usage("three arguments");
    };
    let Some(rate) = rate.parse::<u32>().ok().filter(|rate| *rate > 0) else {
        return usage("a number above 0 for CALLS_PER_SECOND");
    };
    let nodes: Vec<String> = nodes.split(',').map(str::to_owned).collect();
    let (tally, registrations) = (Shared::default(), Registrations::default());
    for number in 0..WORKERS {
        let mut endpoints = nodes.clone();
        endpoints.rotate_left(number % nodes.len());
        if number % 2 == 0 {
            endpoints.truncate(1);
        }
        let registrations = registrations.clone();
        thread::spawn(move || work(number, endpoints, &registrations));
    }
    for number in 0..CLIENTS {
        let (tally, service) = (Arc::clone(&tally), service.clone());
        thread::spawn(move || call_steadily(number, rate, vec![service], &tally));
    }
    for endpoint in [service].into_iter().chain(&nodes) {
        let (tally, endpoint) = (Arc::clone(&tally), endpoint.clone());
        thread::spawn(move || ask_steadily(endpoint, &tally));
    }
    for line in io::stdin().lock().lines() {
        let written = match line.as_deref() {
            Ok("workers") => write_line(&json!(registrations.open())),
            Ok(_) => report(&std::mem::take(&mut *lock(&tally)), &registrations.take()),
            Err(_) => break,
        };
        if written.is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

fn usage(wanted: &str) -> ExitCode {
    complain(&format!(
        "usage: kubernetes-load SERVICE_ENDPOINT NODE_ENDPOINT,.. CALLS_PER_SECOND: {wanted}"
    ));
    ExitCode::from(2)
}

fn complain(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}

fn report(tally: &Tally, registrations: &[Registration]) -> io::Result<()> {
    write_line(&json!({
        "calls": tally.calls,
        "retried": tally.retried,
        "longest_ms": u64::try_from(tally.longest.as_millis()).unwrap_or(u64::MAX),
        "failed": tally.failed,
        "failures": tally.failures,
        "found": tally.found,
        "not_found": tally.not_found,
        "not_found_at": tally.not_found_at,
        "registrations": registrations,
    }))
}

fn write_line(line: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// What the worker says of its registrations is written down.
fn work(number: usize, endpoints: Vec<String>, registrations: &Registrations) {
    let mut options = WorkerOptions::new(SERVICE).endpoints(endpoints);
    if options.endpoints.len() == 1 {
        // It would learn the others from its node, go there when that one leaves, and never come back.
        options.endpoints_refresh = Duration::ZERO;
    }
    let ended = tracing::subscriber::with_default(registrations.listener(number), || {
        Worker::run(options, |request: Request| request.frames, &StopHandle::new())
    });
    complain(&format!("a worker ended: {ended:?}"));
}

/// A client that knows the Service alone, and learns the nodes by `mmi.endpoints`.
fn call_steadily(number: u32, rate: u32, endpoints: Vec<String>, tally: &Shared) {
    // The Service may have no endpoint yet when the load begins.
    let options = ClientOptions::default().endpoints(endpoints).unreachable_timeout(STARTS_WITHIN);
    let mut client = match Client::connect(options) {
        Ok(client) => client,
        Err(error) => return complain(&format!("client {number}: {error}")),
    };
    let period = Duration::from_secs(1) * CLIENTS / rate;
    let mut due_at = Instant::now() + period * number / CLIENTS;
    for call in 0_u64.. {
        thread::sleep(due_at.saturating_duration_since(Instant::now()));
        // What a stall has delayed is caught up with, at most for a second.
        let second_ago = Instant::now().checked_sub(Duration::from_secs(1)).unwrap_or(due_at);
        due_at = (due_at + period).max(second_ago);
        let body = format!("{number}.{call}");
        let begun = Instant::now();
        let outcome = client.call(SERVICE, body.as_str());
        let mut tally = lock(tally);
        tally.calls += 1;
        tally.longest = tally.longest.max(begun.elapsed());
        let failure = match outcome {
            Ok(reply) if reply.frames == [body.as_bytes()] => {
                tally.retried += u64::from(reply.attempts > 1);
                continue;
            }
            Ok(_) => format!("{body}: the reply to something else"),
            Err(error) => format!("{body}: {error}"),
        };
        tally.failed += 1;
        if tally.failures.len() < FAILURES_SHOWN {
            tally.failures.push(failure);
        }
    }
}

/// Questions that are not answered count as nothing: the node may be away.
fn ask_steadily(endpoint: String, tally: &Shared) {
    let options = ClientOptions::default()
        .endpoints(vec![endpoint])
        .endpoints_refresh(Duration::ZERO)
        .attempts(1)
        .timeout(Duration::from_secs(1));
    let Ok(mut client) = Client::connect(options) else { return };
    loop {
        thread::sleep(ASK_PERIOD);
        let asked_at = now_ns();
        let Ok(reply) = client.call("mmi.service", SERVICE) else { continue };
        let answered_at = now_ns();
        let mut tally = lock(tally);
        match reply.frames.first().map(Vec::as_slice) {
            Some(b"200") => tally.found += 1,
            Some(b"404") => {
                tally.not_found += 1;
                if tally.not_found_at.len() < NOT_FOUND_TOLD_MAX {
                    tally.not_found_at.push(NotFound { asked_at, answered_at });
                }
            }
            Some(_) | None => {}
        }
    }
}
