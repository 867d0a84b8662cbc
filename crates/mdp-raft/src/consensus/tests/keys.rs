//! Nodes that have shown a key: each is obeyed as the one whose key it is.

use mdp_catalog::NodeName;

use super::harness::TestCluster;
use crate::{
    FORMATS,
    calls::{Answer, Call, Refusal, Reply, Request},
};

/// What the leader says to a node with the key of `key`, which calls under this id and name.
async fn ask(
    cluster: &TestCluster,
    key: &str,
    (from, name): (u64, &str),
    request: Request,
) -> Reply {
    let leader = cluster.node(&cluster.leader());
    let (own, to) = (Some(cluster.cluster_id()), Some(leader.status().node_id.0));
    let from_name = name.to_owned();
    let call = Call { formats: (1, 1), cluster: own, from, from_name, to, request };
    let key: NodeName = key.parse().unwrap();
    let answer = leader.answer_node(&key, call.encode(1).unwrap()).await.unwrap();
    Answer::decode(FORMATS, &answer).unwrap().reply
}

const fn hello() -> Request {
    Request::Hello { seeds: Vec::new() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_with_a_key_is_obeyed_as_no_other_one() {
    let cluster = TestCluster::start(3).await;
    cluster.wait_ready(&["n1", "n2", "n3"]).await;
    let id = |name: &str| cluster.node(name).status().node_id.0;
    let (n2, n3) = (id("n2"), id("n3"));

    let own = ask(&cluster, "n2", (n2, "n2"), hello()).await;
    assert!(matches!(own, Reply::Hello(_)), "{own:?}");
    for (from, name) in [(n3, "n3"), (n3, "n2"), (n2, "n3"), (77, "n3")] {
        let other = ask(&cluster, "n2", (from, name), hello()).await;
        assert!(matches!(other, Reply::Refused(Refusal::Unavailable)), "{from} {name}: {other:?}");
    }
    // Whether another one is a voter may be asked in its name, which changes nothing.
    let question = Request::Propose { entry: Vec::new() };
    let answer = ask(&cluster, "n2", (n3, "n3"), question).await;
    assert!(matches!(answer, Reply::Refused(Refusal::Format { .. })), "{answer:?}");
    // Only a voter passes on that a newcomer wants to join.
    let join = Request::Join { endpoint: "tcp://n8:5556".to_owned(), version: (0, 1, 0) };
    let passed_on = ask(&cluster, "n9", (88, "n8"), join).await;
    assert!(matches!(passed_on, Reply::Refused(Refusal::Unavailable)), "{passed_on:?}");

    let refused = cluster.node(&cluster.leader()).status().refused_calls;
    assert_eq!(refused.iter().find(|(why, _)| *why == "other_key"), Some(&("other_key", 5)));
}
