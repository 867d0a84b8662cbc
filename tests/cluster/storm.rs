//! Very many workers register at the same time.

use std::time::{Duration, Instant};

use cluster_tests::{
    Asker, ClusterNode, Code, RawTcp, Reachable, Sighting, TestCluster, Watch, raise_file_limit,
    scale, wait_until, zmtp_frame,
};

use crate::{GONE_WITHIN, askers, assert_everywhere, machine, random};

/// How many services the workers share.
const SERVICES: usize = 1_000;

/// How long it may take until all of them are acknowledged.
const STORM_WITHIN: Duration = Duration::from_secs(10);

/// Of so many workers, log entries may be made for one at most.
const WORKERS_PER_ENTRY: usize = 10;

/// How often those that are there say that they live while others connect. A node gives up a
/// connection that is silent for more than twice as long.
const PONG_EVERY: Duration = Duration::from_secs(4);

/// How often somebody asks about one of the services.
const PERIOD: Duration = Duration::from_millis(5);

/// Files of the test besides the connections; the nodes have a third of them each.
const OTHER_FILES: u64 = 1_024;

/// READY over 0.2.
fn ready(service: &str) -> Vec<u8> {
    let frames = [(&b"MDPW02"[..], true), (&b"\x01"[..], true), (service.as_bytes(), false)];
    frames.iter().flat_map(|(body, more)| zmtp_frame(body, *more)).collect()
}

fn service(worker: usize) -> String {
    format!("storm-{}", worker % SERVICES)
}

/// HEARTBEAT over 0.2, which acknowledges.
fn heartbeat() -> Vec<u8> {
    [zmtp_frame(b"MDPW02", true), zmtp_frame(b"\x05", false)].concat()
}

/// Connects so many workers, each to the node that is chosen for it.
fn connect<'a>(count: usize, mut choose: impl FnMut() -> &'a ClusterNode) -> Vec<RawTcp> {
    let mut workers: Vec<RawTcp> = Vec::new();
    let mut pong_at = Instant::now() + PONG_EVERY;
    for _ in 0..count {
        workers.push(RawTcp::dealer(choose().endpoint().as_str()));
        if Instant::now() >= pong_at {
            let closed = workers.iter_mut().filter_map(|worker| (!worker.pong()).then_some(()));
            assert_eq!(closed.count(), 0, "a node closed idle connections");
            pong_at = Instant::now() + PONG_EVERY;
        }
    }
    workers
}

/// Sends READY for all, and then waits until all are acknowledged.
fn register(workers: &mut [RawTcp]) {
    for (number, worker) in workers.iter_mut().enumerate() {
        assert!(worker.send(&ready(&service(number))));
    }
    let heartbeat = heartbeat();
    workers.iter_mut().for_each(|worker| worker.read_until(&heartbeat));
}

/// How many workers there are.
fn workers_of_a_storm() -> usize {
    let count = scale().pick(2_000, 10_000);
    raise_file_limit(u64::try_from(count).unwrap() + OTHER_FILES);
    count
}

#[track_caller]
fn assert_are_a_handful(entries: u64, workers: usize) {
    assert!(entries < u64::try_from(workers / WORKERS_PER_ENTRY).unwrap(), "{entries} entries");
}

/// CL-24, without a loss: the log grows with services and nodes, not with workers.
#[test]
fn storm_of_registrations_is_a_handful_of_entries() {
    let _machine = machine();
    let count = workers_of_a_storm();
    let cluster = TestCluster::start(&[]);
    let mut random = random();
    let mut workers = connect(count, || cluster.node(random.usize(0..3)));
    cluster.wait_until_level();
    let before = cluster.node(0).expect_view();
    // Somebody asks all the while.
    let watch = Watch::start(cluster.node(0), &["absent"], PERIOD);

    let started_at = Instant::now();
    register(&mut workers);
    let took = started_at.elapsed();

    cluster.wait_until_level();
    let after = cluster.node(0).expect_view();
    let entries = after.committed_index - before.committed_index;
    println!("{count} workers of {SERVICES} services: {took:?}, {entries} entries");
    assert!(took <= STORM_WITHIN, "{took:?}");
    assert_are_a_handful(entries, count);
    assert_eq!((after.term, after.leader), (before.term, before.leader));
    let (sightings, unanswered) = watch.finish();
    let slowest = sightings.iter().map(Sighting::took).max();
    println!("mmi.service meanwhile: {} answers, slowest {slowest:?}", sightings.len());
    assert!(sightings.iter().all(|seen| seen.code == Code::NotFound), "{sightings:?}");
    assert_eq!(unanswered, 0);
    let mut askers = askers(&cluster);
    for number in (0..SERVICES).step_by(10) {
        assert_everywhere(&mut askers, &service(number), Code::Found);
    }
}

/// CL-24: all workers of a lost node register at the others within 10 s; `mmi.service` is right, and
/// the log stays small.
#[test]
fn workers_of_a_lost_node_register_again_within_seconds() {
    let _machine = machine();
    let count = workers_of_a_storm();
    let mut cluster = TestCluster::start(&[]);
    let victim = cluster.follower();
    let living: Vec<usize> = cluster.others(&[victim]).collect();
    let connecting_at = Instant::now();
    let mut workers = connect(count, || cluster.node(victim));
    register(&mut workers);
    println!("{count} workers came to one node within {:?}", connecting_at.elapsed());
    let before = cluster.node(living[0]).expect_view();
    let asked: Vec<String> = (0..SERVICES).step_by(100).map(service).collect();
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    let watches: Vec<Watch> =
        living.iter().map(|node| Watch::start(cluster.node(*node), &asked, PERIOD)).collect();

    let lost_at = Instant::now();
    cluster.node_mut(victim).kill();
    drop(workers);
    let mut turns = living.iter().cycle();
    let mut again = connect(count, || cluster.node(*turns.next().unwrap()));
    register(&mut again);
    let back_at = Instant::now();

    println!("{count} workers are back {:?} after the loss of their node", back_at - lost_at);
    assert!(back_at - lost_at <= STORM_WITHIN, "{:?}", back_at - lost_at);
    // The node is given up meanwhile, which takes nothing from those that are back.
    let mut askers: Vec<Asker> =
        living.iter().map(|node| Asker::connect(cluster.node(*node))).collect();
    let name = cluster.node(victim).name();
    wait_until("the node is given up", GONE_WITHIN * 2, || {
        living.iter().all(|node| cluster.node(*node).expect_view().expect(name).state == "gone")
    });
    assert!(again.iter_mut().all(RawTcp::pong));
    for number in 0..SERVICES {
        assert_everywhere(&mut askers, &service(number), Code::Found);
    }
    for watch in watches {
        let (sightings, unanswered) = watch.finish();
        let wrong = |seen: &&Sighting| seen.asked_at > back_at && seen.code != Code::Found;
        let wrong: Vec<_> = sightings.iter().filter(wrong).collect();
        assert!(wrong.is_empty() && unanswered == 0, "{wrong:?}, {unanswered} unanswered");
    }
    let after = cluster.node(living[0]).expect_view();
    let entries = after.committed_index - before.committed_index;
    println!("{entries} entries");
    assert_are_a_handful(entries, count);
}
