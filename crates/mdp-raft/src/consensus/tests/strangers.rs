//! Programs that are no members, and claim no member's id.

use std::time::Duration;

use super::harness::{TestCluster, TestNode, patient, seed_list};
use crate::{
    ChangeError, Consensus, FORMATS, Role,
    calls::{Answer, Ballot, Call, Refusal, Reply, Request},
    types::{LeaderId, Vote},
};

const GHOSTS: std::ops::RangeInclusive<u64> = 101..=116;

/// What a node answers to a call.
async fn ask(
    node: &Consensus,
    cluster: u128,
    (from, from_name): (u64, &str),
    request: Request,
) -> Reply {
    let to = Some(node.status().node_id.0);
    let from_name = from_name.to_owned();
    let call = Call { formats: (1, 1), cluster: Some(cluster), from, from_name, to, request };
    let answer = node.answer(call.encode(1).unwrap()).await.unwrap();
    Answer::decode(FORMATS, &answer).unwrap().reply
}

fn pre_vote(id: u64, term: u64) -> Request {
    let vote = Vote { leader_id: LeaderId { term, node_id: id }, committed: false };
    Request::PreVote(Ballot { vote: (&vote).into(), last: None, is_transfer: false })
}

/// Asks the leader to make this a learner, until it is decided.
async fn join(cluster: &TestCluster, id: u64, name: &str, endpoint: &str) -> Reply {
    let leader = cluster.node(&cluster.leader());
    loop {
        let request = Request::Join { endpoint: endpoint.to_owned(), version: (0, 1, 0) };
        let reply = ask(leader, cluster.cluster_id(), (id, name), request).await;
        if !matches!(reply, Reply::Refused(Refusal::Unavailable)) {
            return reply;
        }
    }
}

fn role(node: &TestNode, name: &str) -> Option<Role> {
    let members = node.status().members;
    members.iter().find(|member| member.name.as_str() == name).map(|member| member.role)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn learners_that_never_answered_give_way_to_a_newcomer_that_answers() {
    let mut cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    let ghost = |id: u64| (format!("ghost-{id}"), format!("tcp://ghost-{id}:5556"));
    for id in GHOSTS {
        let (name, endpoint) = ghost(id);
        let reply = join(&cluster, id, &name, &endpoint).await;
        assert!(matches!(reply, Reply::Joined), "{reply:?}");
    }
    let (name, endpoint) = ghost(117);

    // Nor does the operator get past the limit.
    cluster.add("n4", seed_list(&["n1", "n2", "n3"])).await;
    let leader = cluster.leader();
    let added =
        cluster.node(&leader).add_member("n4".parse().unwrap(), "tcp://n4:5556".to_owned()).await;
    let Err(ChangeError::Refused { reason }) = added else { panic!("{added:?}") };
    assert!(reason.contains("16 learners already"), "{reason}");

    cluster.node(&leader).age_learners(Duration::from_secs(61));
    // One that does not answer takes no slot of another.
    let reply = join(&cluster, 117, &name, &endpoint).await;
    assert!(matches!(reply, Reply::Refused(Refusal::Change { .. })), "{reply:?}");
    cluster.wait_ready(&["n4"]).await;

    assert_eq!(role(cluster.node(&leader), "n4"), Some(Role::Voter));
    let members = cluster.node(&leader).status().members;
    let ghosts = members.iter().filter(|member| member.role == Role::Learner).count();
    assert_eq!(ghosts, 15, "one gave way");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member_that_asks_to_join_again_keeps_its_name() {
    let cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    let id = cluster.a_follower().status().node_id;
    let before = cluster.node("n1").status().members;

    for name in ["n1", "n2", "n3", "n9"] {
        if name != cluster.a_follower().name() {
            let reply = join(&cluster, id.0, name, "tcp://elsewhere:5556").await;
            assert!(matches!(reply, Reply::Refused(Refusal::NameInUse)), "{name}: {reply:?}");
        }
    }

    assert_eq!(
        before.iter().map(|it| (&it.name, &it.endpoint)).collect::<Vec<_>>(),
        cluster
            .node(&cluster.leader())
            .status()
            .members
            .iter()
            .map(|it| (&it.name, &it.endpoint))
            .collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn learner_that_never_answered_gets_no_record_by_a_proposal() {
    use mdp_catalog::{Boot, CatalogEntry, Endpoints, Epoch, NodeId, NodeUp, SoftwareVersion};

    let cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    let endpoint = "tcp://ghost:5556";
    let joined = join(&cluster, 101, "ghost", endpoint).await;
    assert!(matches!(joined, Reply::Joined), "{joined:?}");
    let entry = CatalogEntry::NodeUp(NodeUp {
        node: "ghost".parse().unwrap(),
        node_id: NodeId(101),
        boot: Boot { process: 1, attempt: 0 },
        expected_epoch: Epoch(0),
        endpoints: Endpoints {
            cluster: endpoint.to_owned(),
            relay: endpoint.to_owned(),
            ..Endpoints::default()
        },
        version: SoftwareVersion { major: 0, minor: 1, patch: 0 },
    });
    let request = Request::Propose { entry: mdp_catalog::encode_entry(&entry).unwrap() };

    let leader = cluster.node(&cluster.leader());
    let reply = ask(leader, cluster.cluster_id(), (101, "ghost"), request).await;

    assert!(matches!(reply, Reply::Refused(Refusal::Unavailable)), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn question_about_a_member_is_no_sign_of_its_life() {
    let mut cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    let ours = cluster.cluster_id();
    let victim = cluster.a_follower().name().to_owned();
    let id = cluster.node(&victim).status().node_id.0;
    cluster.kill(&victim).await;
    let node = cluster.node(&cluster.leader());
    let silence = || node.silence_of(id).unwrap();
    patient(|| silence() > Duration::from_millis(300)).await;

    let question = Request::Propose { entry: Vec::new() };
    let reply = ask(node, ours, (id, &victim), question).await;
    assert!(matches!(reply, Reply::Refused(Refusal::Format { .. })), "{reply:?}");
    assert!(silence() > Duration::from_millis(300));

    ask(node, ours, (id, &victim), Request::ReadIndex { vote: None }).await;
    assert!(silence() < Duration::from_millis(300));
}

/// Asks for votes under ids that no node has, for ever.
async fn flood(node: Consensus, cluster: u128, number: u64) {
    let name = if number.is_multiple_of(2) { "n2" } else { "stranger" };
    for id in (1..).map(|round: u64| round * 100 + number) {
        ask(&node, cluster, (id, name), pre_vote(id, 9)).await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_ids_under_the_name_of_a_new_leader_do_not_keep_it_out() {
    let mut cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    cluster.kill("n3").await;
    cluster.kill("n2").await;
    cluster.lose_volume("n2");
    // Two of three: the third answers for the swap of ids, and sleeps again.
    cluster.restart("n3").await;
    cluster.wait_ready(&["n1", "n3"]).await;
    cluster.kill("n3").await;
    let sleeper = cluster.copy_volume("n3");
    cluster.restart("n3").await;
    cluster.restart("n2").await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    cluster.kill("n3").await;
    // If node 3 led, another one is elected meanwhile, perhaps node 2.
    for _ in 0..5 {
        if !cluster.node("n2").status().is_leader() {
            drop(cluster.node("n1").transfer_leader(Some("n2".parse().unwrap())).await);
        }
    }
    patient(|| cluster.node("n2").status().is_leader()).await;
    cluster.give_volume("n3", sleeper);

    cluster.restart("n3").await;
    let (node, ours) = ((**cluster.node("n3")).clone(), cluster.cluster_id());
    let floods: Vec<_> =
        (0..50).map(|number| tokio::spawn(flood(node.clone(), ours, number))).collect();
    cluster.wait_ready(&["n3"]).await;
    let leader = cluster.node("n3").status().leader;
    floods.iter().for_each(tokio::task::JoinHandle::abort);

    assert_eq!(leader.map(|name| name.to_string()).as_deref(), Some("n2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_slept_while_all_others_were_replaced_says_what_to_do_and_that_helps() {
    let mut cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    cluster.kill("n3").await;
    for name in ["n4", "n5"] {
        cluster.add(name, seed_list(&["n1", "n2", "n3"])).await;
        cluster.wait_ready(&[name]).await;
    }
    patient(|| cluster.voters("n4") == 5).await;
    for name in ["n1", "n2"] {
        cluster.node("n4").remove_member(name.parse().unwrap()).await.unwrap();
        cluster.kill(name).await;
    }

    cluster.restart("n3").await;
    let node = cluster.node("n3");
    let is_said = || {
        let reasons = node.status().not_ready;
        reasons.iter().any(|reason| {
            reason.code == "no_leader" && reason.text.contains("in cluster.peers of this node")
        })
    };
    patient(is_said).await;

    cluster.kill("n3").await;
    cluster.set_seeds("n3", seed_list(&["n3", "n4"]));
    cluster.restart("n3").await;
    cluster.wait_ready(&["n3"]).await;
    assert_eq!(cluster.voters("n3"), 3);
}
