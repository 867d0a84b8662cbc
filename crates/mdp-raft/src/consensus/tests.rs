//! Clusters of real nodes in one process: real Raft and stores, a network of function calls.

mod formats;
mod harness;
mod keys;
mod membership;
mod strangers;
mod versions;

use std::time::Duration;

use mdp_catalog::{CatalogEntry, NodeState, Seq};

use self::harness::{TestCluster, patient, seed_list};
use crate::{
    ChangeError, FORMATS, News, Role, RoundId, Stop,
    calls::{Answer, Call, Refusal, Reply, Request},
    types::{LeaderId, Vote},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_seeds_form_one_cluster_and_all_live() {
    let cluster = TestCluster::start(3).await;

    cluster.wait_ready(&["n1", "n2", "n3"]).await;

    let ids: Vec<_> = cluster.nodes().map(|node| node.status().cluster_id).collect();
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1] && pair[0].is_some()), "{ids:?}");
    let up = cluster.node("n2").with_catalog(|catalog| {
        catalog.nodes().filter(|(_, record)| record.state == NodeState::Up).count()
    });
    assert_eq!(up, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_follower_proposes_is_read_on_every_node() {
    let cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    let follower = cluster.a_follower();

    let (incarnation, services) = (follower.incarnation(), vec!["echo".try_into().unwrap()]);
    follower.propose(CatalogEntry::Offer { incarnation, seq: Seq(1), services });
    patient(|| follower.with_catalog(|catalog| catalog.is_offered(b"echo"))).await;

    for node in cluster.nodes() {
        let index = node.read(RoundId(1)).await.unwrap();
        patient(|| node.status().applied_index >= index).await;
        assert!(node.with_catalog(|catalog| catalog.is_offered(b"echo")), "{}", node.name());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_leader_is_replaced_and_its_life_ended() {
    let mut cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    let leader = cluster.leader();
    let term = cluster.node(&leader).status().term;

    cluster.kill(&leader).await;

    let survivor = cluster.nodes().next().unwrap();
    patient(|| survivor.status().leader.is_some_and(|now| now.as_str() != leader)).await;
    assert_eq!(survivor.status().term, term + 1);
    let name = leader.parse().unwrap();
    patient(|| {
        survivor.with_catalog(|catalog| {
            catalog.node(&name).is_some_and(|record| record.state == NodeState::Gone)
        })
    })
    .await;

    cluster.restart(&leader).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_is_cut_off_reads_nothing_and_deposes_nobody() {
    let cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    let (leader, lonely) = (cluster.leader(), cluster.a_follower());
    let term = lonely.status().term;

    cluster.network().cut_off(lonely.name());
    assert_eq!(lonely.read(RoundId(7)).await, None);
    patient(|| lonely.status().not_ready.iter().any(|reason| reason.code == "no_leader")).await;
    // Several election timeouts, in which it would raise its term if it did.
    patient(|| {
        cluster.node(&leader).with_catalog(|catalog| {
            let name = lonely.name().parse().unwrap();
            catalog.node(&name).is_some_and(|record| record.state == NodeState::Gone)
        })
    })
    .await;
    cluster.network().heal();

    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    assert_eq!((lonely.status().term, cluster.leader()), (term, leader));
    assert!(lonely.read(RoundId(8)).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_lost_its_volume_comes_back_as_another_member() {
    let mut cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    let victim = cluster.a_follower().name().to_owned();
    let old_id = cluster.node(&victim).status().node_id;

    cluster.kill(&victim).await;
    let old_volume = cluster.lose_volume(&victim);
    cluster.restart(&victim).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;

    let status = cluster.node(&victim).status();
    assert_ne!(status.node_id, old_id);
    patient(|| {
        let members = cluster.node(&victim).status().members;
        members.len() == 3 && members.iter().all(|member| member.node_id != old_id)
    })
    .await;

    // The old volume turns up again: it is told, and ends.
    cluster.kill(&victim).await;
    cluster.give_volume(&victim, old_volume);
    cluster.restart(&victim).await;
    let back = cluster.node(&victim);
    patient(|| back.stopped() == Some(Stop::Removed)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn newcomer_that_does_not_reach_the_leader_joins_by_a_member_that_does() {
    let mut cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    let leader = cluster.leader();
    let victim = cluster.a_follower().name().to_owned();
    let old_id = cluster.node(&victim).status().node_id;

    cluster.kill(&victim).await;
    cluster.lose_volume(&victim);
    cluster.network().cut_calls(&victim, &leader);
    cluster.restart(&victim).await;

    let new_id = cluster.node(&victim).status().node_id;
    patient(|| {
        let members = cluster.node(&leader).status().members;
        let voters = members.iter().filter(|member| member.role == Role::Voter);
        let ids: Vec<_> = voters.map(|member| member.node_id).collect();
        ids.len() == 3 && ids.contains(&new_id) && !ids.contains(&old_id)
    })
    .await;
    cluster.network().heal();
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn question_that_a_member_passed_on_is_not_passed_on_again() {
    use crate::{
        FORMATS,
        calls::{Answer, Call, Refusal, Reply, Request},
    };

    let cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    let (asked, ours) = (cluster.a_follower(), cluster.cluster_id());
    let ask = async |to| {
        let request = Request::Join { endpoint: "tcp://n9:5556".to_owned(), version: (0, 1, 0) };
        let from_name = "n9".to_owned();
        let call = Call { formats: (1, 1), cluster: Some(ours), from: 9, from_name, to, request };
        let answer = asked.answer(call.encode(1).unwrap()).await.unwrap();
        Answer::decode(FORMATS, &answer).unwrap().reply
    };

    let by_id = ask(Some(asked.status().node_id.0)).await;
    assert!(matches!(by_id, Reply::Refused(Refusal::NotLeader { leader: Some(_) })), "{by_id:?}");
    let by_address = ask(None).await;
    assert!(matches!(by_address, Reply::Joined), "{by_address:?}");
    let members = cluster.node(&cluster.leader()).status().members;
    assert!(members.iter().any(|member| member.node_id.0 == 9 && member.role == Role::Learner));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn newcomer_under_the_name_of_a_living_member_waits() {
    let mut cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    let name = cluster.a_follower().name().to_owned();
    let (term, id) = (cluster.node(&name).status().term, cluster.node(&name).status().node_id);

    let twin = cluster.start_twin(&name).await;

    patient(|| twin.status().not_ready.iter().any(|reason| reason.code == "name_in_use")).await;
    assert_eq!(cluster.node(&name).status().term, term);
    assert!(cluster.node(&name).status().members.iter().any(|member| member.node_id == id));
    assert!(cluster.node(&name).stopped().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_on_a_copy_of_a_living_members_volume_stops() {
    let mut cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    let name = cluster.a_follower().name().to_owned();
    cluster.kill(&name).await;
    let copy = cluster.copy_volume(&name);
    cluster.restart(&name).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;

    let twin = cluster.start_twin_on(&name, copy).await;

    patient(|| twin.stopped() == Some(Stop::Superseded { name: name.clone() })).await;
    assert!(cluster.node(&name).stopped().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volume_of_another_cluster_stops_the_node() {
    let mut cluster = TestCluster::start(3).await;
    let mut other = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    other.wait_ready(&["n1", "n2", "n3"]).await;
    let (ours, theirs) = (cluster.cluster_id(), other.cluster_id());

    other.kill("n2").await;
    cluster.kill("n2").await;
    cluster.give_volume("n2", other.lose_volume("n2"));
    cluster.restart("n2").await;

    let (ours, theirs) = (format!("{theirs:032x}"), format!("{ours:032x}"));
    let stop = Stop::ForeignCluster { ours, theirs };
    patient(|| cluster.node("n2").stopped() == Some(stop.clone())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn differing_seed_lists_form_no_cluster_and_are_named_on_all() {
    let mut cluster = TestCluster::empty();
    cluster.add("n1", seed_list(&["n1", "n2", "n3"])).await;
    cluster.add("n2", seed_list(&["n1", "n2", "n3"])).await;
    cluster.add("n3", seed_list(&["n1", "n2", "n4"])).await;

    for name in ["n1", "n2", "n3"] {
        let node = cluster.node(name);
        patient(|| node.status().not_ready.iter().any(|reason| reason.code == "seeds_differ"))
            .await;
        assert!(node.status().members.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_outside_of_the_seeds_joins_is_promoted_and_can_be_removed() {
    let mut cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;

    cluster.add("n4", seed_list(&["n1", "n2", "n3"])).await;
    cluster.wait_ready(&["n4"]).await;
    patient(|| cluster.voters("n4") == 4).await;

    let asked = cluster.a_follower();
    asked.remove_member("n4".parse().unwrap()).await.unwrap();
    patient(|| cluster.node("n4").stopped() == Some(Stop::Removed)).await;
    assert_eq!(asked.status().members.len(), 3);

    let unknown = asked.remove_member("n9".parse().unwrap()).await;
    assert!(matches!(unknown, Err(ChangeError::UnknownMember { .. })), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member_that_moved_is_found_at_its_new_address() {
    let mut cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    cluster.add("n4", seed_list(&["n1", "n2", "n3"])).await;
    cluster.wait_ready(&["n4"]).await;

    cluster.kill("n4").await;
    cluster.restart_at("n4", "elsewhere").await;
    cluster.wait_ready(&["n4"]).await;

    let members = cluster.node("n1").status().members;
    let moved = members.iter().find(|member| member.name.as_str() == "n4").unwrap();
    assert_eq!(moved.endpoint, "tcp://elsewhere:5556");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_on_request() {
    let cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    let to = cluster.a_follower().name().to_owned();

    let leader = cluster.a_follower().transfer_leader(Some(to.parse().unwrap())).await.unwrap();

    assert_eq!(leader.as_str(), to);
    patient(|| cluster.nodes().all(|node| node.status().leader == Some(leader.clone()))).await;

    // The new one has hardly looked around, and hands over again when it is to go.
    cluster.a_follower().remove_member(leader.clone()).await.unwrap();
    patient(|| cluster.node(&to).stopped() == Some(Stop::Removed)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_newcomer_gets_the_snapshot_when_the_log_is_gone() {
    let mut cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    let leader = cluster.leader();
    let incarnation = cluster.node(&leader).incarnation();
    for seq in 1..=2_500 {
        let services = vec![format!("service-{seq}").as_str().try_into().unwrap()];
        let incarnation = incarnation.clone();
        let entry = CatalogEntry::Offer { incarnation, seq: Seq(seq), services };
        assert!(cluster.node(&leader).write(entry).await);
    }

    let (index, _) = cluster.node(&leader).snapshot().await.unwrap();
    assert!(index >= 2_500);
    cluster.add("n4", seed_list(&["n1", "n2", "n3"])).await;
    cluster.wait_ready(&["n4"]).await;

    let count = cluster.node("n4").with_catalog(mdp_catalog::Catalog::service_count);
    assert_eq!(count, 2_500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_restarted_at_once_serve_again() {
    let mut cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    let before = cluster.node("n1").status();

    for name in ["n1", "n2", "n3"] {
        cluster.kill(name).await;
    }
    for name in ["n1", "n2", "n3"] {
        cluster.restart(name).await;
    }
    cluster.wait_ready(&["n1", "n2", "n3"]).await;

    let after = cluster.node("n1").status();
    assert_eq!((after.cluster_id, after.node_id), (before.cluster_id, before.node_id));
    assert!(after.term > before.term && after.applied_index > before.applied_index);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_cluster_does_not_grow_its_log() {
    let cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    let settled = || cluster.node("n1").with_catalog(|catalog| catalog.cluster_version().minor > 0);
    patient(settled).await;
    let state = || {
        let status = cluster.node("n1").status();
        (status.term, status.last_log_index)
    };

    // A machine that is too busy for heartbeats may elect another leader, which writes; a cluster
    // that is left alone does not. Time for any periodic task to write if it did.
    for _ in 0..10 {
        let before = state();
        tokio::time::sleep(Duration::from_secs(2)).await;
        if state() == before {
            return;
        }
    }
    panic!("the log grows: {:?}", state());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_for_another_node_or_from_another_cluster_are_refused() {
    let cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    let node = cluster.node("n1");
    let ours = cluster.cluster_id();
    let ask = async |cluster, to| {
        let (from_name, request) = ("n2".to_owned(), Request::ReadIndex { vote: None });
        let call = Call { formats: (1, 1), cluster, from: 5, from_name, to, request };
        let answer = node.answer(call.encode(1).unwrap()).await.unwrap();
        Answer::decode(FORMATS, &answer).unwrap().reply
    };

    let foreign = ask(Some(ours + 1), Some(node.status().node_id.0)).await;
    assert!(matches!(foreign, Reply::Refused(Refusal::ForeignCluster)), "{foreign:?}");
    let stranger = ask(None, Some(node.status().node_id.0)).await;
    assert!(matches!(stranger, Reply::Refused(Refusal::ForeignCluster)), "{stranger:?}");
    let misdirected = ask(Some(ours), Some(99)).await;
    assert!(matches!(misdirected, Reply::Refused(Refusal::NotTarget)), "{misdirected:?}");
    assert!(node.answer(vec![1, 2, 3]).await.is_none());
}

/// Asks the leader up to where one has to have applied the log, in the name of a follower that says which vote
/// it has given.
async fn read_index(cluster: &TestCluster, from: u64, vote: Option<Vote>) -> Reply {
    let leader = cluster.node(&cluster.leader());
    let request = Request::ReadIndex { vote: vote.as_ref().map(Into::into) };
    let (own, to) = (Some(cluster.cluster_id()), Some(leader.status().node_id.0));
    let from_name = "n2".to_owned();
    let call = Call { formats: (1, 1), cluster: own, from, from_name, to, request };
    let answer = leader.answer(call.encode(1).unwrap()).await.unwrap();
    Answer::decode(FORMATS, &answer).unwrap().reply
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lonely_leader_needs_the_vote_of_a_voter_for_a_read() {
    let cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    let (leader, follower) = (cluster.leader(), cluster.a_follower().status().node_id.0);
    let leader = cluster.node(&leader);
    let vote = leader.vote().unwrap();
    let older = Vote { leader_id: LeaderId { term: 0, ..vote.leader_id }, ..vote };
    let ask = async |from, vote| read_index(&cluster, from, vote).await;

    cluster.network().cut_off(leader.name());
    let vouched = ask(follower, Some(vote)).await;
    assert!(matches!(vouched, Reply::ReadIndex { .. }), "{vouched:?}");
    for vote in [None, Some(older)] {
        let refused = ask(follower, vote).await;
        assert!(matches!(refused, Reply::Refused(Refusal::NotLeader { .. })), "{refused:?}");
    }
    let stranger = ask(77, Some(vote)).await;
    assert!(matches!(stranger, Reply::Refused(Refusal::Unavailable)), "{stranger:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vote_of_one_follower_is_no_majority_of_five_for_a_read() {
    let cluster = TestCluster::start(5).await;
    cluster.wait_ready(&["n1", "n2", "n3", "n4", "n5"]).await;
    let (leader, follower) = (cluster.leader(), cluster.a_follower().status().node_id.0);
    let vote = cluster.node(&leader).vote().unwrap();

    cluster.network().cut_off(&leader);
    let alone = read_index(&cluster, follower, Some(vote)).await;

    assert!(matches!(alone, Reply::Refused(_)), "{alone:?}");
}

#[test]
fn news_says_why_a_node_stopped() {
    let stop = Stop::Superseded { name: "n1".to_owned() };
    let news = News::Stopped(stop.clone());

    assert!(matches!(news, News::Stopped(told) if told.to_string().contains("n1")), "{stop}");
}
