//! Strangers at the cluster port, who claim no member's id.

use std::time::Duration;

use cluster_tests::{RawClient, RawWorker, TestCluster, Version, wait_until};

use crate::calls::{
    Ballot, Change, Entry, LogId, Membership, Payload, Reply, Request, STRANGER, SnapshotMeta,
    Stranger, Vote,
};

/// How long the cluster may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most learners that there may be.
const LEARNERS_MAX: usize = 16;

struct Scene {
    cluster: TestCluster,
    _worker: RawWorker,
    term: u64,
}

impl Scene {
    fn new() -> Self {
        let cluster = TestCluster::start(&[]);
        let worker = RawWorker::register(cluster.node(0), Version::V01, "echo");
        let client = RawClient::connect(cluster.node(2), Version::V01);
        client.wait_for_lookup("echo", "200");
        let term = cluster.term();
        Self { cluster, _worker: worker, term }
    }

    /// Every node refuses this.
    fn assert_refused(&self, request: &Request) {
        for node in 0..self.cluster.nodes().len() {
            let reply = Stranger::at(&self.cluster, node).ask(request.clone());
            assert!(reply.is_refusal(), "node {node} answers {request:?} with {reply:?}");
        }
    }

    /// The same leader in the same term, and all nodes answer alike; also after a restart.
    fn assert_unharmed(&mut self) {
        let ask = |cluster: &TestCluster| {
            for node in cluster.nodes() {
                RawClient::connect(node, Version::V01).wait_for_lookup("nobody", "404");
            }
        };
        ask(&self.cluster);
        assert_eq!(self.cluster.term(), self.term);
        for node in 0..3 {
            assert!(self.cluster.node_mut(node).is_running());
            self.cluster.node_mut(node).restart();
        }
        self.cluster.wait_until_ready();
        ask(&self.cluster);
    }
}

fn ballot(term: u64, is_transfer: bool) -> Ballot {
    let last = Some(LogId { term, node_id: STRANGER, index: 1 << 40 });
    Ballot { vote: Vote { term, node_id: STRANGER, committed: false }, last, is_transfer }
}

#[test]
fn votes_of_strangers_stop_no_cluster_and_depose_no_leader() {
    let mut scene = Scene::new();

    for term in [u64::MAX, scene.term + 1] {
        for is_transfer in [false, true] {
            scene.assert_refused(&Request::Vote(ballot(term, is_transfer)));
            scene.assert_refused(&Request::PreVote(ballot(term, is_transfer)));
        }
    }

    scene.assert_unharmed();
}

#[test]
fn entries_and_snapshots_of_strangers_are_not_taken() {
    let mut scene = Scene::new();
    let term = scene.term + 1;
    let vote = Vote { term, node_id: STRANGER, committed: true };
    let log_id = LogId { term, node_id: STRANGER, index: 1 << 20 };
    let nodes = vec![(STRANGER, ("stranger".to_owned(), "tcp://127.0.0.1:9".to_owned()))];
    let membership = Membership { configs: vec![vec![STRANGER]], nodes };
    let entries = vec![Entry { log_id, payload: Payload::Membership(membership.clone()) }];

    scene.assert_refused(&Request::Append {
        vote,
        previous: None,
        entries,
        committed: Some(log_id),
    });
    let (last_log_id, membership_log_id) = (Some(log_id), Some(log_id));
    let meta = SnapshotMeta { last_log_id, membership_log_id, membership };
    scene.assert_refused(&Request::Snapshot { vote, meta, offset: 0, total: 0, piece: Vec::new() });
    scene.assert_refused(&Request::TakeOver { leader: vote, successor: STRANGER, last: None });
    scene.assert_refused(&Request::ReadIndex { vote: None });

    scene.assert_unharmed();
}

#[test]
fn strangers_change_no_members_and_offer_nothing() {
    let mut scene = Scene::new();
    let name = scene.cluster.node(1).name().to_owned();

    scene.assert_refused(&Request::Change(Change::Remove { name: name.clone() }));
    scene.assert_refused(&Request::Change(Change::Lead { to: Some(name) }));
    scene.assert_refused(&Request::Change(Change::Finalize));
    scene.assert_refused(&Request::Propose { entry: vec![1, 0, 0] });
    scene.assert_refused(&Request::Propose { entry: Vec::new() });

    scene.assert_unharmed();
}

#[test]
fn strangers_that_join_are_a_few_and_have_names_and_addresses() {
    let mut scene = Scene::new();
    let leader = scene.cluster.leader();
    let stranger = Stranger::at(&scene.cluster, leader);
    let join = |id: u64, name: &str, endpoint: &str| {
        let version = stranger_version();
        stranger.ask_as(id, name, Request::Join { endpoint: endpoint.to_owned(), version })
    };

    for (name, endpoint) in [
        ("evil\n2026 ERROR forged", "tcp://127.0.0.1:9"),
        ("\u{1b}[2Jevil", "tcp://127.0.0.1:9"),
        ("evil", "tcp://127.0.0.1:9\nforged"),
        ("evil", "127.0.0.1:9"),
        ("evil", ""),
    ] {
        let reply = join(1, name, endpoint);
        assert!(reply.is_refusal(), "{name:?} at {endpoint:?}: {reply:?}");
    }
    let joined = (1..=40_u64)
        .filter(|id| {
            // A change of members takes its turn.
            let mut reply = join(*id, &format!("evil-{id}"), "tcp://127.0.0.1:9");
            wait_until("a change of members has its turn", PATIENCE, || {
                if is_for_now(&reply) {
                    reply = join(*id, &format!("evil-{id}"), "tcp://127.0.0.1:9");
                }
                !is_for_now(&reply)
            });
            matches!(reply, Reply::Joined)
        })
        .count();
    assert_eq!(joined, LEARNERS_MAX);
    // Nor may a learner do what voters may.
    let term = scene.term + 1;
    let vote = Vote { term, node_id: 1, committed: true };
    let nodes = vec![(1, ("evil-1".to_owned(), "tcp://127.0.0.1:9".to_owned()))];
    let membership = Membership { configs: vec![vec![1]], nodes };
    let meta = SnapshotMeta { last_log_id: None, membership_log_id: None, membership };
    for node in 0..3 {
        let stranger = Stranger::at(&scene.cluster, node);
        let remove = Change::Remove { name: scene.cluster.node(1).name().to_owned() };
        for request in [
            Request::Change(remove),
            Request::Vote(Ballot { vote, last: None, is_transfer: true }),
            Request::Append { vote, previous: None, entries: Vec::new(), committed: None },
            Request::Snapshot { vote, meta: meta.clone(), offset: 0, total: 0, piece: Vec::new() },
        ] {
            let reply = stranger.ask_as(1, "evil-1", request);
            assert!(reply.is_refusal(), "node {node}: {reply:?}");
        }
    }
    let log = scene.cluster.node(leader).log();
    assert!(
        log.lines().all(|line| !line.starts_with("2026 ERROR forged") && !line.contains('\u{1b}'))
    );

    scene.assert_unharmed();
}

#[test]
fn node_that_waits_for_its_seeds_belongs_to_no_strangers_cluster() {
    let mut cluster = TestCluster::unstarted(&[]);
    cluster.node_mut(0).start();
    cluster.node(0).wait_for_reason("waiting_for_seeds");
    let stranger = Stranger::at(&cluster, 0).of_cluster(0x5eed);
    let vote = Vote { term: 1, node_id: STRANGER, committed: true };
    for request in [
        Request::ReadIndex { vote: None },
        Request::Propose { entry: Vec::new() },
        Request::Change(Change::Finalize),
        Request::Append { vote, previous: None, entries: Vec::new(), committed: None },
    ] {
        let reply = stranger.ask_as(STRANGER, cluster.node(1).name(), request);
        assert!(reply.is_refusal(), "{reply:?}");
    }

    for node in 1..3 {
        cluster.node_mut(node).start();
    }
    cluster.wait_until_ready();
}

const fn is_for_now(reply: &Reply) -> bool {
    matches!(reply, Reply::Refused(crate::calls::Refusal::Unavailable))
}

/// That of this build: it says so itself.
fn stranger_version() -> (u16, u16, u16) {
    let mut numbers = env!("CARGO_PKG_VERSION").split(['.', '-']).map(|it| it.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap(), numbers.next().unwrap())
}
