//! All nodes restart one after the other, round after round, under the load of clients and workers of
//! our own library: no call fails, and workers are somewhere else at once.

mod moves;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use cluster_tests::{
    AtEnd, Code, Durations, Reachable, Receipt, TestCluster, Watch, is_release, scale, wait_until,
};
use mdp_client::{Client, ClientOptions, Request, StopHandle, Worker, WorkerOptions};
use rustix::process::Signal;
use serde_json::Value;

use self::moves::{Moves, Seen};
use crate::{let_pass, machine, workers_of};

/// Calls a second, all clients together.
const CALLS_PER_SECOND: u32 = 2_000;

/// Clients, each with one call at a time.
const CLIENTS: u32 = 20;

/// Workers: as many begin at each node.
const WORKERS: usize = 18;

/// How long a job takes.
const JOB: Duration = Duration::from_millis(1);

/// The longest that a call may take, restarts or not.
const STALL_MAX: Duration = Duration::from_secs(1);

/// How often a call may be made: once more after its node has left.
const ATTEMPTS_MAX: u32 = 2;

/// How long a worker may take from one node to another, of 99 in 100.
const MOVED_WITHIN: Duration = Duration::from_millis(200);

/// How long a node may take to leave.
const LEFT_WITHIN: Duration = Duration::from_secs(22);

/// How long it may take until all workers are registered.
const REGISTERED_WITHIN: Duration = Duration::from_secs(15);

/// How often `mmi.service` is asked at each node.
const PERIOD: Duration = Duration::from_millis(10);

/// Of nodes and workers. A worker that was sent away before it had been registered for so long takes its
/// time, so it is less than a restart takes.
const HEARTBEAT: Duration = Duration::from_millis(500);

const SERVICE: &str = "echo";

/// The endpoints that one of many peers is told: some know all nodes, in different orders, others only
/// one and learn the rest.
fn told(endpoints: &[String], number: usize) -> Vec<String> {
    let mut told = endpoints.to_vec();
    told.rotate_left(number % endpoints.len());
    match number / endpoints.len() % 3 {
        0 => told.truncate(1),
        1 => told[1..].reverse(),
        _ => {}
    }
    told
}

/// Serves until told to stop; what its library saw.
fn work(endpoints: Vec<String>, context: zmq::Context, stop: &StopHandle) -> Vec<Seen> {
    let options = WorkerOptions::default()
        .endpoints(endpoints)
        .service(SERVICE.into())
        .heartbeat_interval(HEARTBEAT)
        .context(context);
    let moves = Moves::default();
    let run = || {
        let handler = |request: Request| {
            thread::sleep(JOB);
            request.frames
        };
        Worker::run(options, handler, stop).unwrap()
    };
    let counters = tracing::subscriber::with_default(moves.listener(), run);
    let seen = moves.seen();
    let registered = seen.iter().filter(|seen| matches!(seen, Seen::Registered { .. })).count();
    // Else the library says it in other words now.
    assert_eq!(u64::try_from(registered).unwrap(), counters.registrations);
    seen
}

/// All calls of all clients.
#[derive(Debug, Default)]
struct Calls {
    took: Durations,
    retried: usize,
    wrong: Vec<String>,
}

fn call_steadily(
    number: u32,
    endpoints: Vec<String>,
    context: zmq::Context,
    is_over: &AtomicBool,
) -> Calls {
    let options = ClientOptions::default().endpoints(endpoints).context(context);
    let mut client = Client::connect(options).unwrap();
    let period = Duration::from_secs(1) * CLIENTS / CALLS_PER_SECOND;
    let mut due_at = Instant::now() + period * number / CLIENTS;
    let (mut took, mut calls) = (Vec::new(), Calls::default());
    for call in 0.. {
        if is_over.load(Ordering::SeqCst) {
            break;
        }
        thread::sleep(due_at.saturating_duration_since(Instant::now()));
        // What a stall has delayed is caught up with, at most for a second.
        due_at = (due_at + period).max(Instant::now() - Duration::from_secs(1));
        let body = format!("{number}.{call}");
        match client.call(SERVICE, body.as_str()) {
            Ok(reply) => {
                assert_eq!(reply.frames, [body.as_bytes()], "the reply to something else");
                took.push(reply.elapsed);
                calls.retried += usize::from(reply.attempts > 1);
                if reply.attempts > ATTEMPTS_MAX || reply.elapsed > STALL_MAX {
                    let (attempts, elapsed) = (reply.attempts, reply.elapsed);
                    calls.wrong.push(format!("{body}: {attempts} attempts, {elapsed:?}"));
                }
            }
            Err(error) => calls.wrong.push(format!("{body}: {error}")),
        }
    }
    Calls { took: took.into_iter().collect(), ..calls }
}

/// How many nodes have workers of the service, as the catalog of a node says.
fn nodes_with_workers(cluster: &TestCluster, by: usize) -> usize {
    let page = cluster.node(by).page("/api/v1/services");
    let page = page.and_then(|page| serde_json::from_str::<Value>(&page.body).ok());
    let nodes = page.and_then(|page| {
        let mut services = page["services"].as_array()?.iter();
        let service = services.find(|other| other["name"] == SERVICE)?;
        Some(service["nodes"].as_array()?.len())
    });
    nodes.unwrap_or_default()
}

/// Restarts a node; its workers must have had others beside them.
fn restart(cluster: &mut TestCluster, node: usize) {
    let by = cluster.others(&[node]).next().unwrap();
    wait_until("two nodes have workers", REGISTERED_WITHIN, || {
        nodes_with_workers(cluster, by) >= 2
    });
    cluster.node(node).signal(Signal::TERM);
    let code = cluster.node_mut(node).wait_for_exit(LEFT_WITHIN);
    assert_eq!(code, Some(0), "{}", cluster.node(node).log());
    cluster.node_mut(node).start();
    cluster.wait_until_ready();
    wait_until("all workers are registered again", REGISTERED_WITHIN, || {
        workers_of(cluster, SERVICE) == WORKERS
    });
}

/// What was seen of some rounds.
struct Rounds {
    length: Duration,
    calls: Vec<Calls>,
    /// Of each worker.
    seen: Vec<Vec<Seen>>,
    receipts: Vec<Receipt>,
    /// Of all nodes: answers of `mmi.service`, and how many said that there are no workers.
    lookups: usize,
    false_404: usize,
}

fn run(cluster: &mut TestCluster, rounds: usize) -> Rounds {
    let endpoints: Vec<String> = cluster.nodes().iter().map(Reachable::endpoint).collect();
    let context = zmq::Context::new();
    context.set_io_threads(2).unwrap();
    let (is_over, stop) = (AtomicBool::default(), StopHandle::new());
    let sightings = Mutex::new(Vec::new());
    let (length, calls, seen) = thread::scope(|scope| {
        let (is_over, stop) = (&is_over, &stop);
        let _ending = AtEnd::new(|| {
            is_over.store(true, Ordering::SeqCst);
            stop.stop();
        });
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| {
                let (told, context) = (told(&endpoints, number), context.clone());
                scope.spawn(move || work(told, context, stop))
            })
            .collect();
        wait_until("all workers are registered", REGISTERED_WITHIN, || {
            workers_of(cluster, SERVICE) == WORKERS
        });
        let watches: Vec<Watch> =
            cluster.nodes().iter().map(|node| Watch::start(node, &[SERVICE], PERIOD)).collect();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let told = told(&endpoints, usize::try_from(number).unwrap());
                let context = context.clone();
                scope.spawn(move || call_steadily(number, told, context, is_over))
            })
            .collect();
        let started_at = Instant::now();
        let_pass(Duration::from_secs(1));
        for _ in 0..rounds {
            (0..cluster.nodes().len()).for_each(|node| restart(cluster, node));
        }
        is_over.store(true, Ordering::SeqCst);
        let length = started_at.elapsed();
        let calls: Vec<Calls> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        for watch in watches {
            // Questions to a node that is down may stay unanswered.
            let (seen, _) = watch.finish();
            sightings.lock().unwrap().extend(seen);
        }
        stop.stop();
        (length, calls, workers.into_iter().map(|worker| worker.join().unwrap()).collect())
    });
    let sightings = sightings.into_inner().unwrap();
    let receipts = cluster.nodes().iter().flat_map(|node| Receipt::read_all(&node.log()));
    Rounds {
        length,
        calls,
        seen,
        receipts: receipts.collect(),
        lookups: sightings.iter().filter(|seen| seen.code == Code::Found).count(),
        false_404: sightings.iter().filter(|seen| seen.code == Code::NotFound).count(),
    }
}

#[test]
fn no_call_fails_while_all_nodes_restart_one_after_the_other() {
    let _machine = machine();
    let rounds = scale().pick(2, 20);
    let heartbeat = format!("{}ms", HEARTBEAT.as_millis());
    let mut cluster = TestCluster::start(&[("broker.heartbeat_interval", &heartbeat)]);

    let Rounds { length, calls, seen, receipts, lookups, false_404 } = run(&mut cluster, rounds);

    let mut took = Durations::default();
    calls.iter().for_each(|calls| took.extend(&calls.took));
    let retried: usize = calls.iter().map(|calls| calls.retried).sum();
    let wrong: Vec<&String> = calls.iter().flat_map(|calls| &calls.wrong).collect();
    let moved: Durations = seen.iter().flat_map(|seen| moves::moved(seen)).collect();
    let total = Receipt::sum(&receipts);
    let per_second = took.count() as f64 / length.as_secs_f64();
    println!("{rounds} rounds: {per_second:.0} calls a second, {took}; {retried} once more");
    println!("{} receipts, added up: {total:?}", receipts.len());
    println!(
        "moves of workers: {moved}, of 100 {} within {MOVED_WITHIN:?}",
        moved.within(MOVED_WITHIN)
    );
    println!("mmi.service: {lookups} times found, {false_404} times not");
    assert_eq!(receipts.len(), rounds * cluster.nodes().len());
    assert!(wrong.is_empty(), "{} calls: {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
    assert_eq!(total.dropped, 0, "accepted requests without a reply: {receipts:?}");
    assert_eq!(false_404, 0, "workers were there and not found");
    assert!(lookups > 0 && moved.count() >= rounds * cluster.nodes().len(), "nothing was moved");
    let enough = f64::from(CALLS_PER_SECOND) * 0.9;
    assert!(per_second >= enough || !is_release(), "{per_second:.0} calls a second");
    assert!(moved.percentile(99) < MOVED_WITHIN || !is_release(), "{moved}");
}
