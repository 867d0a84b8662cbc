//! Very many workers register at the same time.

use std::time::{Duration, Instant};

use cluster_tests::{
    Code, RawTcp, Reachable, TestCluster, Watch, raise_file_limit, scale, zmtp_frame,
};

use crate::{askers, assert_everywhere, machine, random};

/// How many services the workers share.
const SERVICES: usize = 1_000;

/// How long it may take until all of them are acknowledged.
const STORM_WITHIN: Duration = Duration::from_secs(10);

/// Of so many workers, log entries may be made for one at most.
const WORKERS_PER_ENTRY: usize = 10;

/// While so many more connect, those that are there need not say that they live.
const CONNECTIONS_PER_PONG: usize = 1_000;

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

#[test]
fn storm_of_registrations_is_a_handful_of_entries() {
    let _machine = machine();
    let count: usize = scale().pick(2_000, 10_000);
    raise_file_limit(u64::try_from(count).unwrap() + OTHER_FILES);
    let cluster = TestCluster::start(&[]);
    let mut random = random();
    let mut workers: Vec<RawTcp> = Vec::new();
    for number in 1..=count {
        let node = cluster.node(random.usize(0..3));
        workers.push(RawTcp::dealer(node.endpoint().as_str()));
        if number % CONNECTIONS_PER_PONG == 0 {
            assert!(workers.iter_mut().all(RawTcp::pong), "a node closed an idle connection");
        }
    }
    cluster.wait_until_level();
    let before = cluster.node(0).expect_view();
    // Somebody asks all the while.
    let watch = Watch::start(cluster.node(0), &["absent"], Duration::from_millis(5));

    let started_at = Instant::now();
    for (number, worker) in workers.iter_mut().enumerate() {
        assert!(worker.send(&ready(&service(number))));
    }
    let heartbeat = [zmtp_frame(b"MDPW02", true), zmtp_frame(b"\x05", false)].concat();
    workers.iter_mut().for_each(|worker| worker.read_until(&heartbeat));
    let took = started_at.elapsed();

    cluster.wait_until_level();
    let after = cluster.node(0).expect_view();
    let entries = after.committed_index - before.committed_index;
    println!("{count} workers of {SERVICES} services: {took:?}, {entries} entries");
    assert!(took <= STORM_WITHIN, "{took:?}");
    assert!(entries < u64::try_from(count / WORKERS_PER_ENTRY).unwrap(), "{entries} entries");
    assert_eq!((after.term, after.leader), (before.term, before.leader));
    let (sightings, unanswered) = watch.finish();
    let slowest = sightings.iter().map(cluster_tests::Sighting::took).max();
    println!("mmi.service meanwhile: {} answers, slowest {slowest:?}", sightings.len());
    assert!(sightings.iter().all(|seen| seen.code == Code::NotFound), "{sightings:?}");
    assert_eq!(unanswered, 0);
    let mut askers = askers(&cluster);
    for number in (0..SERVICES).step_by(10) {
        assert_everywhere(&mut askers, &service(number), Code::Found);
    }
}
