//! Peers that attack all ports of all nodes while others call: no node ends, no reply is wrong, no call is
//! lost, no link between nodes ends, the nodes stay small, and the others hardly notice.

mod attack;
mod killed;

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use cluster_tests::{
    ClusterNode, Durations, NODES, NodeProcess, QUIET, RawClient, RawWorker, TestCluster, Version,
    is_release, scale,
};

use self::{attack::Attacker, killed::kill_clients};
use crate::{let_pass, machine, random};

/// Calls a second of each node's client.
const PER_SECOND: u32 = 200;
const PER_SECOND_FULL: u32 = 667;
/// How long the load is on, first with the attackers at a node of their own, then at the cluster.
const ROUND: Duration = Duration::from_secs(6);
const ROUND_FULL: Duration = Duration::from_secs(60);
const ROUNDS_FULL: usize = 5;
/// Attackers, each a thread.
const ATTACKERS: usize = 6;
/// A reply may take this long while the machine has more to do than it can.
const REPLY_WITHIN: Duration = Duration::from_secs(20);
/// How much slower the slowest of 100 calls may be beside attackers, and what a machine that does
/// other things, too, may add.
const SLOWER_MAX: u32 = 3;
const SLOWER_SHARED: Duration = Duration::from_millis(30);
/// What a node may have: its base with peers, the limits of what waits, and the connections'.
const RSS_BYTES_MAX: f64 = 200.0 * 1_048_576.0;

/// Gives each body back, and says now and then that it lives.
fn serve(worker: &RawWorker, is_over: &AtomicBool) {
    let mut said_at = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        if let Some(request) = worker.recv_command(Duration::from_millis(300)) {
            worker.answer(&request[3], request.last().unwrap());
        }
        if said_at.elapsed() > Duration::from_secs(1) {
            worker.heartbeat();
            said_at = Instant::now();
        }
    }
}

/// Calls at a steady pace, whatever becomes of the calls before; how long each took.
fn call(client: &RawClient, per_second: u32, length: Duration, number: &AtomicU64) -> Durations {
    let period = Duration::from_secs(1) / per_second;
    let (mut open, mut took) = (HashMap::new(), Durations::default());
    let started_at = Instant::now();
    let mut next_at = started_at;
    while started_at.elapsed() < length || !open.is_empty() {
        let now = Instant::now();
        if now >= next_at && started_at.elapsed() < length {
            let body = number.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            client.request("honest", body);
            open.insert(body.to_vec(), now);
            next_at += period;
            continue;
        }
        let patience = next_at.saturating_duration_since(now).clamp(period / 10, REPLY_WITHIN);
        if let Some(reply) = client.socket.recv_within(patience) {
            let asked_at = open.remove(reply.last().unwrap());
            took.add(asked_at.expect("a reply to nothing that was asked").elapsed());
        }
        let oldest = open.values().min().copied();
        assert!(oldest.is_none_or(|at| at.elapsed() < REPLY_WITHIN), "a call has no reply");
    }
    took
}

/// The sum of all series of a metric of a node.
fn metric(node: &ClusterNode, name: &str) -> f64 {
    let page = node.page("/metrics").expect("a node that lives shows its metrics").body;
    let series = page
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    let values = series.map(|line| line.split(' ').next_back().unwrap().parse::<f64>().unwrap());
    values.reduce(|one, other| one + other).expect("it is there")
}

/// What is attacked.
#[derive(Clone, Copy)]
struct Attacked<'a> {
    /// Where clients and workers connect, and what mmi.service answers there.
    clients: &'a [String],
    answer: &'a str,
    /// Those, and where other nodes connect.
    all: &'a [String],
}

/// Calls at all nodes while attackers are at these ports.
fn round(cluster: &TestCluster, clients: &mut [RawClient], attacked: Attacked<'_>) -> Durations {
    let Attacked { clients: ports, answer, all } = attacked;
    let per_second = scale().pick(PER_SECOND, PER_SECOND_FULL);
    let length = scale().pick(ROUND, ROUND_FULL);
    let (is_over, number) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut took = Durations::default();
    thread::scope(|scope| {
        for _ in 0..ATTACKERS {
            let attacker = Attacker::new(random(), all);
            scope.spawn(|| attacker.run(&is_over));
        }
        let killed = scope.spawn(|| kill_clients(random(), (ports, answer), &is_over));
        let number = &number;
        let calls: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(move || call(&*client, per_second, length, number)))
            .collect();
        let ends: Vec<_> = calls.into_iter().map(thread::ScopedJoinHandle::join).collect();
        is_over.store(true, Ordering::Relaxed);
        let killed = killed.join().expect("clients of pyzmq get right replies");
        println!("{killed} clients of pyzmq were killed while they pipelined");
        assert!(killed > 0);
        ends.into_iter().for_each(|end| took.extend(&end.expect("all calls have their replies")));
    });
    for node in cluster.nodes() {
        let bytes = metric(node, "majordomo_process_resident_memory_bytes");
        assert!(bytes < RSS_BYTES_MAX, "{} has {bytes} bytes", node.name());
        let lost = metric(node, "majordomo_relay_lost_links_total");
        assert!(lost < 1.0, "{}: {lost} links between nodes were lost", node.name());
    }
    took
}

#[test]
fn attackers_harm_nobody_but_themselves() {
    let _machine = machine();
    let cluster = TestCluster::start(&[]);
    let elsewhere = NodeProcess::start(&[QUIET]);
    let address = |port: u16| format!("127.0.0.1:{port}");
    let nodes = || (0..NODES).map(|node| cluster.node(node).ports());
    let ports: Vec<String> = nodes().map(|ports| address(ports.broker)).collect();
    let all: Vec<String> =
        nodes().flat_map(|it| [it.broker, it.broker, it.relay, it.cluster].map(address)).collect();
    let idle = [elsewhere.endpoint().trim_start_matches("tcp://").to_owned()];
    let mut clients: Vec<RawClient> =
        (0..NODES).map(|node| RawClient::connect(cluster.node(node), Version::V01)).collect();
    let is_over = AtomicBool::new(false);
    let (mut alone, mut attacked) = (Durations::default(), Durations::default());
    thread::scope(|scope| {
        for node in 0..NODES {
            let worker = RawWorker::register(cluster.node(node), Version::V01, "honest");
            let is_over = &is_over;
            scope.spawn(move || serve(&worker, is_over));
        }
        let rounds = thread::scope(|inner| {
            let run = || {
                for _ in 0..scale().pick(1, ROUNDS_FULL) {
                    let elsewhere = Attacked { clients: &idle, answer: "404", all: &idle };
                    let here = Attacked { clients: &ports, answer: "200", all: &all };
                    alone.extend(&round(&cluster, &mut clients, elsewhere));
                    attacked.extend(&round(&cluster, &mut clients, here));
                }
            };
            inner.spawn(run).join()
        });
        is_over.store(true, Ordering::Relaxed);
        rounds.expect("nothing went wrong");
    });
    // Nothing comes that nobody asked for.
    let_pass(Duration::from_millis(300));
    for client in &clients {
        client.settle();
    }
    for node in cluster.nodes() {
        assert!(node.page("/livez").is_some_and(|page| page.status == 200), "{}", node.name());
    }
    let [before, beside] = [&alone, &attacked].map(|took| took.percentile(99));
    println!(
        "p50 {:?}, beside attackers {:?}; p99 {before:?}, beside attackers {beside:?}; {attacked}",
        alone.percentile(50),
        attacked.percentile(50),
    );
    let allowed = before * SLOWER_MAX + SLOWER_SHARED;
    assert!(beside <= allowed || !is_release(), "{beside:?} is more than {allowed:?}");
}
