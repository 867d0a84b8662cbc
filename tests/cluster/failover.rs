//! Nodes are killed.

use std::time::{Duration, Instant};

use cluster_tests::{
    Asker, Code, Durations, RawWorker, Sighting, TestCluster, Watch, look_for, scale,
};

use crate::{
    GONE_WITHIN, GONE_WITHIN_OF_LEADER, NODE_TIMEOUT, askers, assert_everywhere, assert_left_alone,
    machine, register,
};

use Code::{Found, NotFound, Unavailable};

/// 200 questions a second.
const PERIOD: Duration = Duration::from_millis(5);

/// How long clients may get no answer when the leader dies, in half of the cases and in 99 of 100.
const GAP_P50: Duration = Duration::from_millis(800);
const GAP_P99: Duration = Duration::from_millis(1_600);

/// How long to wait for what must come sooner.
const GAP_PATIENCE: Duration = Duration::from_secs(10);

/// One kill of the leader, and what was seen of it.
#[derive(Debug)]
struct Kill {
    /// From the kill to the first answer to a question asked after it.
    gap: Duration,
    /// From the kill to 404 for what only the dead node offered.
    gone_after: Duration,
}

/// Waits for the first certain answer to a question that was asked after this moment.
fn first_certain_after(watch: &Watch, moment: Instant) -> Sighting {
    let is_it = |seen: &Sighting| seen.asked_at > moment && seen.code.is_certain();
    look_for(GAP_PATIENCE, || watch.find(is_it))
        .unwrap_or_else(|| panic!("no answer within {GAP_PATIENCE:?}: {:?}", watch.sightings()))
}

fn wait_for_first_answer(watch: &Watch) {
    let seen = look_for(GAP_PATIENCE, || watch.find(|seen| seen.code == Found));
    assert!(seen.is_some(), "the service was never found: {:?}", watch.sightings());
}

fn kill_leader(cluster: &mut TestCluster, round: usize) -> Kill {
    let leader = cluster.leader();
    let living: Vec<usize> = cluster.others(&[leader]).collect();
    let names = ["here", "there", "lost"].map(|name| format!("{name}-{round}"));
    let [here, there, lost] = names.each_ref().map(String::as_str);
    let workers = [register(cluster, living[0], here), register(cluster, living[1], there)];
    let _lost = register(cluster, leader, lost);
    let epoch = cluster.node(leader).expect_view().expect(cluster.node(leader).name()).epoch;
    let watch = Watch::start(cluster.node(living[0]), &[here, there], PERIOD);
    wait_for_first_answer(&watch);

    let killed_at = Instant::now();
    cluster.node_mut(leader).kill();

    let gap = first_certain_after(&watch, killed_at).answered_at - killed_at;
    let mut other = Asker::connect(cluster.node(living[1]));
    other.wait_for(lost, NotFound, GAP_PATIENCE);
    let gone_after = killed_at.elapsed();
    assert_eq!(Asker::connect(cluster.node(living[0])).lookup(lost), NotFound);
    cluster.node_mut(leader).start();
    cluster.wait_until_ready();

    let (sightings, unanswered) = watch.finish();
    let wrong: Vec<_> = sightings.iter().filter(|seen| seen.code == NotFound).collect();
    assert!(wrong.is_empty(), "workers of living nodes were not found: {wrong:?}");
    assert_eq!(unanswered, 0, "of {}", sightings.len());
    workers.iter().for_each(assert_left_alone);
    let mut askers = askers(cluster);
    assert_everywhere(&mut askers, here, Found);
    assert_everywhere(&mut askers, lost, NotFound);
    let node = cluster.node(leader);
    let again = node.expect_view().expect(node.name()).clone();
    assert_eq!((again.role.as_str(), again.state.as_str()), ("voter", "up"));
    assert!(again.epoch > epoch, "epoch {epoch} and then {}", again.epoch);
    workers.iter().for_each(RawWorker::disconnect);
    Kill { gap, gone_after }
}

/// CL-06, CL-08: the leader is killed; what it offered is gone, and nothing else is.
#[test]
fn killed_leader_is_replaced_and_only_its_own_services_are_lost() {
    let _machine = machine();
    let mut cluster = TestCluster::start(&[]);
    let (mut gaps, mut gone) = (Durations::default(), Durations::default());
    for round in 0..scale().pick(5, 50) {
        let kill = kill_leader(&mut cluster, round);
        gaps.add(kill.gap);
        gone.add(kill.gone_after);
    }
    println!("leader killed: no answer for {gaps}; its services gone after {gone}");
    assert!(gaps.percentile(50) <= GAP_P50, "{gaps}");
    assert!(gaps.percentile(99) <= GAP_P99, "{gaps}");
    // Where others build and test, a new leader may itself stand still for longer than an election
    // takes; then it grants everybody a full period anew.
    let starved = scale().pick(NODE_TIMEOUT, Duration::ZERO);
    assert!(gone.percentile(50) <= GONE_WITHIN_OF_LEADER, "{gone}");
    assert!(gone.percentile(100) <= GONE_WITHIN_OF_LEADER + starved, "{gone}");
}

/// CL-06: a follower is killed.
#[test]
fn killed_follower_is_noticed_by_its_own_clients_only() {
    let _machine = machine();
    let mut cluster = TestCluster::start(&[]);
    let victim = cluster.follower();
    let living: Vec<usize> = cluster.others(&[victim]).collect();
    let worker = register(&cluster, living[0], "kept");
    let _lost = register(&cluster, victim, "lost");
    let watches: Vec<Watch> =
        living.iter().map(|node| Watch::start(cluster.node(*node), &["kept"], PERIOD)).collect();
    watches.iter().for_each(wait_for_first_answer);

    let killed_at = Instant::now();
    cluster.node_mut(victim).kill();

    for node in &living {
        Asker::connect(cluster.node(*node)).wait_for("lost", NotFound, GAP_PATIENCE);
    }
    let gone_after = killed_at.elapsed();
    println!("follower killed: its services gone after {gone_after:?}");
    assert!(gone_after <= GONE_WITHIN, "{gone_after:?}");
    for watch in watches {
        let (sightings, unanswered) = watch.finish();
        let failed: Vec<_> = sightings.iter().filter(|seen| seen.code != Found).collect();
        assert!(failed.is_empty() && unanswered == 0, "{failed:?}, {unanswered} unanswered");
    }
    assert_left_alone(&worker);
}

#[test]
fn restarted_node_voids_its_old_life_at_once() {
    let _machine = machine();
    let mut cluster = TestCluster::start(&[]);
    let victim = cluster.follower();
    let _lost = register(&cluster, victim, "lost");
    let kept = register(&cluster, cluster.leader(), "kept");

    let killed_at = Instant::now();
    cluster.node_mut(victim).restart();
    cluster.node(victim).wait_until_ready();

    println!("killed and ready again after {:?}", killed_at.elapsed());
    let mut askers = askers(&cluster);
    assert_everywhere(&mut askers, "lost", NotFound);
    assert_everywhere(&mut askers, "kept", Found);
    let again = register(&cluster, victim, "lost");
    assert_everywhere(&mut askers, "lost", Found);
    assert_left_alone(&kept);
    assert_left_alone(&again);
}

/// CL-07: without quorum `mmi.service` says 503.
#[test]
fn single_survivor_does_not_guess() {
    let _machine = machine();
    let mut cluster = TestCluster::start(&[]);
    let worker = register(&cluster, 0, "echo");
    let mut asker = Asker::connect(cluster.node(0));
    assert_eq!(asker.lookup("echo"), Found);

    cluster.node_mut(1).kill();
    cluster.node_mut(2).kill();

    // A read that the dead ones answered may still be under way.
    asker.wait_for("echo", Unavailable, Duration::from_secs(3));
    for service in ["echo", "absent"].repeat(2) {
        assert_eq!(asker.lookup(service), Unavailable);
    }
    cluster.node(0).wait_for_reason("no_leader");
    assert_left_alone(&worker);
    cluster.node_mut(1).start();
    cluster.node(0).wait_until_ready();
    assert_eq!(asker.lookup("absent"), NotFound);
    assert_eq!(asker.lookup("echo"), Found);
}
