//! Many connections.

use std::time::{Duration, Instant};

use cluster_tests::{
    NodeProcess, QUIET, RawClient, RawTcp, RawWorker, Version, raise_file_limit, scale, zmtp_frame,
};

use crate::{MIB, machine};

/// Files of the test and of the node besides the connections.
const OTHER_FILES: u64 = 1_024;

/// While so many more connect, those that are there need not say that they live.
const CONNECTIONS_PER_PONG: u64 = 1_000;

#[test]
fn idle_connections_stay_within_memory() {
    let _machine = machine();
    let connections: u64 = scale().pick(2_000, 10_000);
    raise_file_limit(connections + OTHER_FILES);
    let mut node = NodeProcess::start(&[QUIET]);

    let mut idle = Vec::new();
    for count in 1..=connections {
        idle.push(RawTcp::dealer(&node));
        if count % CONNECTIONS_PER_PONG == 0 {
            assert!(idle.iter_mut().all(RawTcp::pong), "the node closed an idle connection");
        }
    }

    let rss = node.rss_bytes();
    println!("{connections} idle connections: {} MiB", rss / MIB);
    assert!(rss < 400 * MIB, "{connections} idle connections cost {} MiB", rss / MIB);
    // They are still served, and so are others.
    for tcp in idle.iter_mut().step_by(100) {
        let request = [
            zmtp_frame(b"MDPC02", true),
            zmtp_frame(b"\x01", true),
            zmtp_frame(b"mmi.echo", true),
            zmtp_frame(b"still there", false),
        ];
        assert!(tcp.send(&request.concat()));
        tcp.read_until(b"still there");
    }
    let client = RawClient::connect(&node, Version::V01);
    let asked = Instant::now();
    client.settle();
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    node.assert_alive();
}

#[test]
fn thousand_workers_of_thousand_services_are_served() {
    const WORKERS: usize = 1_000;
    let _machine = machine();
    raise_file_limit(2 * u64::try_from(WORKERS).unwrap() + OTHER_FILES);
    let node = NodeProcess::start(&[QUIET]);
    let workers: Vec<_> = (0..WORKERS)
        .map(|number| {
            let mut worker = RawTcp::dealer(&node);
            let name = format!("service-{number}");
            let ready = [
                zmtp_frame(b"MDPW02", true),
                zmtp_frame(b"\x01", true),
                zmtp_frame(name.as_bytes(), false),
            ];
            assert!(worker.send(&ready.concat()));
            // HEARTBEAT: registered.
            worker.read_until(&[zmtp_frame(b"MDPW02", true), zmtp_frame(b"\x05", false)].concat());
            (name, worker)
        })
        .collect();
    let client = RawClient::connect(&node, Version::V02);

    for (name, mut worker) in workers {
        assert_eq!(client.lookup(&name), "200");
        client.request(&name, &name);
        worker.read_until(&zmtp_frame(name.as_bytes(), false));
    }

    let _spare = RawWorker::register(&node, Version::V02, "one more");
}
