//! The wall clock of one node jumps.

use std::time::Duration;

use cluster_tests::{Code, Reachable, TestCluster, WallClock, Watch, hold_for};

use crate::{
    NODE_TIMEOUT, client, counts,
    crew::{Crew, HEARTBEATS},
    register,
};

/// How far it jumps, in seconds.
const HOUR: i64 = 3_600;

/// The seconds of a day.
const DAY: i64 = 24 * HOUR;

/// How exactly two nodes write the same moment, in seconds.
const TOLERANCE: i64 = 60;

/// How often a client of each node asks.
const PERIOD: Duration = Duration::from_millis(20);

/// Longer than everything that expires.
const WATCHED_FOR: Duration = NODE_TIMEOUT.saturating_add(Duration::from_secs(1));

/// CL-21: the clock of one node jumps by an hour, forwards and back; nobody expires.
#[test]
fn jump_of_a_clock_expires_nobody() {
    let mut cluster = TestCluster::unstarted(&[HEARTBEATS]);
    let clocks: Vec<WallClock> =
        cluster.nodes().iter().map(|node| WallClock::new(node.directory().join("clock"))).collect();
    for (node, clock) in cluster.nodes_mut().iter_mut().zip(&clocks) {
        node.set_clock(clock);
        node.start();
    }
    cluster.wait_until_ready();
    let mut crew = Crew::new("echo");
    cluster.nodes().iter().for_each(|node| crew.hire(&[node.endpoint()]));
    crew.wait_until_registered(3);
    let watches: Vec<Watch> =
        cluster.nodes().iter().map(|node| Watch::start(node, &["echo"], PERIOD)).collect();
    let (leader, follower) = (cluster.leader(), cluster.follower());

    for (node, seconds) in [(leader, HOUR), (leader, -HOUR), (follower, HOUR), (follower, -HOUR)] {
        clocks[node].set(seconds);
        assert_has_jumped(&cluster, node, seconds);
        hold_for("all workers stay", WATCHED_FOR, || {
            crew.registered() == 3 && crew.disconnects() == 0
        });
        clocks[node].set(0);
    }

    for watch in watches {
        // A node that gets no turn for long may not know; it may not be wrong.
        let (sightings, _) = watch.finish();
        let of = |code: Code| sightings.iter().filter(|seen| seen.code == code).count();
        assert_eq!(of(Code::NotFound), 0, "of {}", sightings.len());
        assert!(of(Code::Found) > 0);
    }
    assert_eq!(counts(&cluster, "broker_expired_workers_total"), [0; 3]);
    let client = client(&cluster, 0);
    client.request("echo", "hello");
    client.expect_reply("echo", "hello");
    drop(crew);
}

/// The node's log must say so, compared with that of a node whose clock is right.
fn assert_has_jumped(cluster: &TestCluster, node: usize, seconds: i64) {
    let other = cluster.others(&[node]).next().unwrap();
    let name = format!("{node}-{seconds}");
    let [jumped, right] = [node, other].map(|node| {
        let service = format!("clock-{node}-of-{name}");
        register(cluster, node, &service).disconnect();
        let line = cluster.node(node).wait_for_log(|line| line.contains(&service));
        seconds_of_day(&line)
    });
    let off = (jumped - right - seconds).rem_euclid(DAY);
    assert!(off.min(DAY - off) <= TOLERANCE, "{jumped} is not {seconds} s from {right}");
}

/// Of a line that begins as `2025-01-31T23:59:59`.
fn seconds_of_day(line: &str) -> i64 {
    let (_, time) = line.split_once('T').unwrap_or_else(|| panic!("no time in {line}"));
    let number = |from: usize| time.get(from..from + 2).unwrap().parse::<i64>().unwrap();
    (number(0) * 60 + number(3)) * 60 + number(6)
}
