//! Nodes lose their data directories, and old ones come back.

use std::time::Duration;

use cluster_tests::{ClusterNode, Code, NodeView, TestCluster, hold_for, majordomo, wait_until};

use crate::{askers, assert_everywhere, assert_left_alone, copy, part_of_the_machine, register};

/// The exit code of a member that was removed, or whose name another process took over.
const REMOVED: Option<i32> = Some(6);

/// How long a removed member may take to learn it.
const TOLD_WITHIN: Duration = Duration::from_secs(20);

/// How long the swap of a new member for the old one may take once the new one is ready.
const REPLACED_WITHIN: Duration = Duration::from_secs(2);

/// How long nothing may happen by itself.
const NOTHING_FOR: Duration = Duration::from_secs(5);

/// What the cluster says of a node.
fn seen(cluster: &TestCluster, name: &str) -> NodeView {
    cluster.node(cluster.leader()).expect_view().expect(name).clone()
}

/// Waits until every node knows three members, and none of them is this old one.
#[track_caller]
fn wait_until_replaced(cluster: &TestCluster, old: &NodeView) {
    cluster.wait_until_ready();
    let is_over = |node: &ClusterNode| {
        let nodes = node.expect_view().nodes;
        nodes.len() == 3
            && nodes.iter().all(|other| {
                other.raft_id != old.raft_id && other.role == "voter" && other.state == "up"
            })
    };
    wait_until("the old member is gone", REPLACED_WITHIN, || cluster.nodes().iter().all(is_over));
}

#[test]
fn node_that_lost_its_volume_comes_back_as_a_new_member_and_the_old_one_never_votes() {
    let _machine = part_of_the_machine();
    let mut cluster = TestCluster::start(&[]);
    let victim = cluster.follower();
    let name = cluster.node(victim).name().to_owned();
    let worker = register(&cluster, cluster.leader(), "echo");
    let before = seen(&cluster, &name);
    cluster.node_mut(victim).kill();
    let mut old = cluster.another_node(&name);
    copy(&cluster.node(victim).data_dir(), &old.data_dir());

    cluster.node_mut(victim).lose_data();
    cluster.node_mut(victim).start();
    let took = cluster.wait_until_ready();

    println!("replaced after {took:?}");
    wait_until_replaced(&cluster, &before);
    let after = seen(&cluster, &name);
    let mut askers = askers(&cluster);
    assert_everywhere(&mut askers, "echo", Code::Found);
    let second = register(&cluster, victim, "at-the-new-member");
    assert_everywhere(&mut askers, "at-the-new-member", Code::Found);

    let term = cluster.term();
    old.start();
    let code = old.wait_for_exit(TOLD_WITHIN);

    assert_eq!(code, REMOVED, "{}", old.log());
    assert!(old.log().contains("removed"), "{}", old.log());
    assert_eq!(cluster.term(), term);
    assert_eq!(seen(&cluster, &name), after);
    assert_everywhere(&mut askers, "at-the-new-member", Code::Found);
    assert_left_alone(&worker);
    assert_left_alone(&second);
}

#[test]
fn leader_that_lost_its_volume_comes_back_as_a_new_member() {
    let _machine = part_of_the_machine();
    let mut cluster = TestCluster::start(&[]);
    let victim = cluster.leader();
    let worker = register(&cluster, cluster.follower(), "echo");
    let before = seen(&cluster, cluster.node(victim).name());

    cluster.node_mut(victim).kill();
    cluster.node_mut(victim).lose_data();
    cluster.node_mut(victim).start();
    let took = cluster.wait_until_ready();

    println!("replaced after {took:?}");
    wait_until_replaced(&cluster, &before);
    assert_everywhere(&mut askers(&cluster), "echo", Code::Found);
    assert_left_alone(&worker);
}

#[test]
fn all_volumes_lost_but_one_wait_for_a_person() {
    let _machine = part_of_the_machine();
    let mut cluster = TestCluster::start(&[]);
    let old_id = cluster.node(0).expect_view().cluster_id;
    cluster.kill_all();
    cluster.node(1).lose_data();
    cluster.node(2).lose_data();
    cluster.nodes_mut().iter_mut().for_each(ClusterNode::start);

    hold_for("no node is ready", NOTHING_FOR, || {
        cluster.nodes().iter().all(|node| node.readiness().is_none_or(|now| !now.is_ready))
    });
    for node in cluster.nodes() {
        println!("{} waits: {:?}", node.name(), node.readiness().map(|now| now.reasons));
    }

    let survivor = cluster.node_mut(0);
    survivor.kill();
    let config = survivor.write_config().display().to_string();
    let without_flag = majordomo(&["recover", "--config", &config]);
    assert_eq!(without_flag.code, Some(2), "{without_flag:?}");
    let recovered = majordomo(&["recover", "--force-new-cluster", "--config", &config]);
    assert_eq!(recovered.code, Some(0), "{recovered:?}");
    println!("{}", recovered.stdout);
    survivor.start();
    survivor.wait_until_ready();
    let worker = register(&cluster, 0, "echo");

    let took = cluster.wait_until_ready();
    println!("the others joined the recovered one after {took:?}");
    let view = cluster.node(0).expect_view();
    assert!(view.cluster_id.is_some() && view.cluster_id != old_id, "{old_id:?}, {view:?}");
    assert_everywhere(&mut askers(&cluster), "echo", Code::Found);
    assert_left_alone(&worker);
    for node in cluster.nodes() {
        assert_eq!(node.expect_view().cluster_id, view.cluster_id);
    }
}

#[test]
fn node_that_missed_what_the_log_no_longer_holds_gets_it_as_a_snapshot() {
    let _machine = part_of_the_machine();
    let mut cluster = TestCluster::start(&[]);
    let victim = cluster.follower();
    let leader = cluster.leader();
    cluster.node_mut(victim).kill();
    let services: Vec<String> = (0..50).map(|number| format!("service-{number}")).collect();
    let workers: Vec<_> =
        services.iter().map(|service| register(&cluster, leader, service)).collect();
    let url = cluster.node(leader).admin_url();
    let file = cluster.node(leader).directory().join("catalog.snapshot").display().to_string();
    let saved = majordomo(&["snapshot", "--output", &file, "--admin", &url]);
    assert_eq!(saved.code, Some(0), "{saved:?}");

    for is_empty in [false, true] {
        if is_empty {
            cluster.node_mut(victim).kill();
            cluster.node(victim).lose_data();
        }
        cluster.node_mut(victim).start();
        cluster.wait_until_ready();

        let mut askers = askers(&cluster);
        for service in &services {
            assert_everywhere(&mut askers, service, Code::Found);
        }
    }
    workers.iter().for_each(assert_left_alone);
}

#[test]
fn all_volumes_lost_make_a_new_cluster() {
    let _machine = part_of_the_machine();
    let mut cluster = TestCluster::start(&[]);
    let old_id = cluster.node(0).expect_view().cluster_id;
    cluster.kill_all();
    cluster.nodes().iter().for_each(ClusterNode::lose_data);

    cluster.nodes_mut().iter_mut().for_each(ClusterNode::start);
    cluster.wait_until_ready();

    assert_ne!(cluster.node(0).expect_view().cluster_id, old_id);
}

#[test]
fn volume_of_another_cluster_is_refused() {
    let _machine = part_of_the_machine();
    let mut cluster = TestCluster::start(&[]);
    let victim = cluster.follower();
    let foreign = {
        let mut other = TestCluster::start(&[]);
        other.kill_all();
        let directory = tempfile::tempdir().unwrap();
        copy(&other.node(victim).data_dir(), directory.path());
        directory
    };
    cluster.node_mut(victim).kill();
    cluster.node(victim).lose_data();
    copy(foreign.path(), &cluster.node(victim).data_dir());

    let ours = cluster.node(cluster.leader_without(&[victim])).expect_view().cluster_id.unwrap();
    let victim = cluster.node_mut(victim);
    victim.start();

    assert_eq!(victim.wait_for_exit(TOLD_WITHIN), Some(4), "{}", victim.log());
    let log = victim.log();
    let message = log.lines().rfind(|line| line.contains("node.data_dir"));
    assert!(message.is_some_and(|message| message.contains(&ours)), "{log}");
}
