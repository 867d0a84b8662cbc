//! Changes of members while voters are down.

use super::harness::{TestCluster, patient};
use crate::{
    ChangeError, Stop,
    calls::{Change, Refusal},
    membership::RemovalTarget,
};

/// The leader and both followers of three nodes.
fn roles(cluster: &TestCluster) -> [String; 3] {
    let leader = cluster.leader();
    let names = cluster.nodes().map(|node| node.name().to_owned());
    let followers: Vec<String> = names.filter(|name| *name != leader).collect();
    let [first, second] = followers.try_into().unwrap();
    [leader, first, second]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removal_is_refused_at_once_when_too_few_of_the_rest_answer() {
    let mut cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    let [leader, victim, other] = roles(&cluster);
    let term = cluster.node(&leader).status().term;
    cluster.kill(&victim).await;

    // The leader heard it a moment ago.
    for name in [&leader, &other] {
        let refused = cluster.node(&other).remove_member(name.parse().unwrap()).await;
        let Err(ChangeError::Refused { reason }) = refused else { panic!("{refused:?}") };
        assert!(reason.contains(&format!("{victim} has not answered for")), "{reason}");
        assert!(reason.starts_with("not begun"), "{reason}");
    }

    for name in [&leader, &other] {
        let status = cluster.node(name).status();
        assert_eq!(status.leader.map(|name| name.to_string()), Some(leader.clone()));
        assert_eq!((status.term, status.members.len()), (term, 3));
        assert_eq!(status.member_change, None);
    }
    // What is dead may be removed, and then the rest is enough again.
    cluster.node(&other).remove_member(victim.parse().unwrap()).await.unwrap();
    assert_eq!(cluster.voters(&other), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_not_given_to_a_node_that_does_not_answer() {
    let mut cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    let [leader, victim, other] = roles(&cluster);
    let term = cluster.node(&leader).status().term;
    cluster.kill(&victim).await;

    let refused = cluster.node(&other).transfer_leader(Some(victim.parse().unwrap())).await;

    let Err(ChangeError::Refused { reason }) = refused else { panic!("{refused:?}") };
    assert!(reason.contains(&format!("{victim} has not answered for")), "{reason}");
    assert_eq!((cluster.leader(), cluster.node(&other).status().term), (leader, term));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_that_was_left_half_done_is_seen_without_a_leader_and_finished() {
    let mut cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    let [leader, victim, removed] = roles(&cluster);
    let id = cluster.node(&removed).status().node_id.0;
    cluster.kill(&victim).await;
    cluster.node(&leader).begin_to_remove(id).await;

    // Of the voters to come only one lives.
    for name in [&leader, &removed] {
        let status = || cluster.node(name).status();
        patient(|| status().leader.is_none()).await;
        let change = status().member_change.unwrap();
        assert!(change.is_joint && !change.is_committed, "{change:?}");
        assert_eq!((change.from.len(), change.to.contains(&removed)), (3, false));
        let reasons = status().not_ready;
        assert!(reasons.iter().any(|reason| reason.text.contains("in progress")), "{reasons:?}");
    }
    // A leader that no majority answers says so, too.
    let other = cluster.node(&removed).remove_member(removed.parse().unwrap()).await;
    match other {
        Err(ChangeError::Refused { reason }) => assert!(reason.contains("in progress"), "{reason}"),
        other => assert_eq!(other, Err(ChangeError::NoLeader)),
    }

    cluster.restart(&victim).await;

    patient(|| cluster.node(&removed).stopped() == Some(Stop::Removed)).await;
    for name in [&leader, &victim] {
        patient(|| cluster.node(name).status().member_change.is_none()).await;
        assert_eq!(cluster.voters(name), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_that_its_leader_left_committed_is_finished_by_the_next() {
    let mut cluster = TestCluster::start(5).await;
    cluster.wait_ready(&["n1", "n2", "n3", "n4", "n5"]).await;
    let leader = cluster.leader();
    let removed = cluster.nodes().find(|node| node.name() != leader).unwrap().name().to_owned();
    let id = cluster.node(&removed).status().node_id.0;
    // Its first step is committed at once; the second is never made by who began it.
    cluster.node(&leader).begin_first_step(id).await;
    cluster.kill(&leader).await;

    patient(|| cluster.node(&removed).stopped() == Some(Stop::Removed)).await;
    let rest = || cluster.nodes().filter(|node| node.name() != removed);
    for node in rest() {
        patient(|| node.status().member_change.is_none()).await;
        assert_eq!(cluster.voters(node.name()), 4);
    }
    assert_eq!(rest().count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removal_means_the_member_that_had_the_name_when_it_was_asked_for() {
    let mut cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    let [leader, victim, _] = roles(&cluster);
    let meant = {
        let hub = &cluster.node(&leader).hub;
        RemovalTarget::of(hub, &Change::Remove { name: victim.clone() })
    };
    let check = |cluster: &TestCluster| meant.check(&cluster.node(&leader).hub);
    assert!(check(&cluster).is_ok());

    cluster.node(&leader).remove_member(victim.parse().unwrap()).await.unwrap();
    let gone = check(&cluster);
    assert!(matches!(gone, Err(Refusal::UnknownMember { .. })), "{gone:?}");

    // Another node under the same name.
    patient(|| cluster.node(&victim).stopped() == Some(Stop::Removed)).await;
    cluster.kill(&victim).await;
    drop(cluster.lose_volume(&victim));
    cluster.restart(&victim).await;
    cluster.wait_ready(&[&victim]).await;
    patient(|| cluster.voters(&leader) == 3).await;

    let Err(Refusal::Change { reason }) = check(&cluster) else { panic!("it is another one") };
    assert!(reason.contains("another one has its name"), "{reason}");
    cluster.node(&leader).remove_member(victim.parse().unwrap()).await.unwrap();
    assert_eq!(cluster.voters(&leader), 2);
}
