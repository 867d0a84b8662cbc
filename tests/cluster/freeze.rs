//! Nodes stand still and go on, as a paused machine does.

use std::time::{Duration, Instant};

use cluster_tests::{
    Asker, Code, RawWorker, Sighting, TestCluster, Version, Watch, hold_for, look_for, scale,
    wait_until,
};

use crate::{
    GONE_WITHIN, HEALED_WITHIN, askers, assert_everywhere, assert_left_alone, machine, random,
    register,
};

use Code::{Found, NotFound};

/// Longer than `cluster.node_timeout` and all that comes after it.
const FREEZE: Duration = Duration::from_secs(5);

/// How often a client asks about one of the services, each in turn.
const PERIOD: Duration = Duration::from_millis(10);

/// How long a node that was frozen may take until all is as before.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// How long the wrong has time to happen after the end of a pause: the full period of a node, and
/// a bit.
const LATE_HARM: Duration = GONE_WITHIN;

fn epoch(cluster: &TestCluster, observer: usize, node: usize) -> u64 {
    cluster.node(observer).expect_view().expect(cluster.node(node).name()).epoch
}

fn let_pass(length: Duration) {
    assert!(look_for(length, || None::<()>).is_none());
}

#[test]
fn frozen_node_acknowledges_nobody_from_stale_state() {
    let _machine = machine();
    let cluster = TestCluster::start(&[]);
    let victim = cluster.follower();
    let others: Vec<usize> = cluster.others(&[victim]).collect();
    let before = epoch(&cluster, others[0], victim);
    let workers = [register(&cluster, victim, "connected"), register(&cluster, victim, "known")];
    let late = [RawWorker::connect(cluster.node(victim), Version::V01), {
        RawWorker::connect(cluster.node(victim), Version::V02)
    }];
    late.iter().for_each(RawWorker::settle);
    let mut askers: Vec<Asker> =
        others.iter().map(|node| Asker::connect(cluster.node(*node))).collect();

    cluster.node(victim).freeze();
    let frozen_at = Instant::now();
    for asker in &mut askers {
        asker.wait_for("connected", NotFound, GONE_WITHIN + HEALED_WITHIN);
    }
    // These wait in the kernel until the node goes on, which then has a worker of that service.
    late[0].ready("known");
    late[1].ready("unknown");
    let_pass(FREEZE.saturating_sub(frozen_at.elapsed()));
    for service in ["connected", "known", "unknown"] {
        assert_everywhere(&mut askers, service, NotFound);
    }
    cluster.node(victim).thaw();
    let thawed_at = Instant::now();

    // Whoever is acknowledged is found at once, on every other node.
    for (worker, service) in late.iter().zip(["known", "unknown"]) {
        worker.expect_heartbeat();
        println!("{service} was acknowledged after {:?}", thawed_at.elapsed());
        assert_everywhere(&mut askers, service, Found);
    }
    for asker in &mut askers {
        asker.wait_for("connected", Found, BACK_WITHIN);
    }
    println!("workers that stayed are found again after {:?}", thawed_at.elapsed());
    workers.iter().for_each(assert_left_alone);
    cluster.wait_until_ready();
    assert!(epoch(&cluster, others[0], victim) > before);
    // The leader looks at whom it heard 10 times a second, and a heartbeat has to come first.
    wait_until("the node that was frozen is up", BACK_WITHIN, || {
        let view = cluster.node(others[0]).expect_view();
        view.expect(cluster.node(victim).name()).state == "up"
    });
}

/// What may never be seen on a node: 404 for what stayed, 200 for what was gone already.
fn assert_never_wrong(watch: Watch, gone_at: Instant, what: &str) {
    let (sightings, unanswered) = watch.finish();
    let is_wrong = |seen: &&Sighting| match seen.service {
        0 => seen.code == NotFound,
        _ => seen.code == Found && seen.asked_at > gone_at,
    };
    let wrong: Vec<_> = sightings.iter().filter(is_wrong).collect();
    assert!(wrong.is_empty(), "{what}: {wrong:?}");
    assert_eq!(unanswered, 0, "{what}, of {}", sightings.len());
}

fn freeze_leader(cluster: &TestCluster, length: Duration) {
    let leader = cluster.leader();
    let living: Vec<usize> = cluster.others(&[leader]).collect();
    let at = [0, 1].map(|index| register(cluster, living[index], "staying"));
    let leaving = register(cluster, living[0], "leaving");
    let own = register(cluster, leader, "own");
    let watches: Vec<Watch> = (0..3)
        .map(|node| Watch::start(cluster.node(node), &["staying", "leaving"], PERIOD))
        .collect();
    for watch in &watches {
        let found = look_for(BACK_WITHIN, || watch.find(|seen| seen.code == Found));
        assert!(found.is_some());
    }

    cluster.node(leader).freeze();
    let frozen_at = Instant::now();
    leaving.disconnect();
    // Too short a pause ends before anybody is elected; then the old leader takes the change.
    let mut asker = Asker::connect(cluster.node(living[1]));
    let mut gone_at = None;
    if length >= HEALED_WITHIN {
        asker.wait_for("leaving", NotFound, length);
        gone_at = Some(Instant::now());
    }
    let_pass(length.saturating_sub(frozen_at.elapsed()));
    cluster.node(leader).thaw();
    asker.wait_for("leaving", NotFound, BACK_WITHIN);
    let gone_at = gone_at.unwrap_or_else(Instant::now);

    let_pass(LATE_HARM);
    for (node, watch) in watches.into_iter().enumerate() {
        let role = if node == leader { "the frozen leader" } else { "a living node" };
        assert_never_wrong(watch, gone_at, &format!("{role}, frozen for {length:?}"));
    }
    at.iter().for_each(assert_left_alone);
    assert_left_alone(&own);
    cluster.wait_until_ready();
    for service in ["staying", "own"] {
        assert_everywhere(&mut askers(cluster), service, Found);
    }
    at.iter().chain([&own]).for_each(RawWorker::disconnect);
    askers(cluster).iter_mut().for_each(|asker| {
        asker.wait_for("staying", NotFound, BACK_WITHIN);
    });
}

#[test]
fn pause_of_the_leader_evicts_no_worker_of_a_living_node() {
    let _machine = machine();
    let cluster = TestCluster::start(&[]);

    for length in [Duration::from_secs(1), FREEZE] {
        freeze_leader(&cluster, length);
    }
    let mut random = random();
    for _ in 0..scale().pick(0, 30) {
        freeze_leader(&cluster, Duration::from_millis(random.u64(100..30_000)));
    }
}

#[test]
fn pause_of_all_nodes_evicts_nobody() {
    let _machine = machine();
    let cluster = TestCluster::start(&[]);
    let workers = [0, 1, 2].map(|node| register(&cluster, node, &format!("service-{node}")));

    cluster.nodes().iter().for_each(cluster_tests::ClusterNode::freeze);
    let_pass(FREEZE);
    cluster.nodes().iter().for_each(cluster_tests::ClusterNode::thaw);

    cluster.wait_until_ready();
    let mut askers = askers(&cluster);
    hold_for("every service is found", LATE_HARM, || {
        (0..3).all(|node| {
            let service = format!("service-{node}");
            askers.iter_mut().all(|asker| asker.try_lookup(&service) != Some(NotFound))
        })
    });
    workers.iter().for_each(assert_left_alone);
}
