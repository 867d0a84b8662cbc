//! Replies that come when nobody waits for them any more.

use std::time::Duration;

use cluster_tests::{RawClient, RawWorker, TestCluster, look_for};

use crate::{LATE_HARM, LINK_TIMEOUT, NODE_TIMEOUT, client, register, wait_for_dropped};

/// Why a late reply is dropped: by the node of its worker, or by that of its client.
const LATE: [&str; 2] = ["origin_gone", "late_reply"];

/// A request that a worker of a frozen node has, and that another worker has answered since.
struct Scene {
    cluster: TestCluster,
    client: RawClient,
    frozen: RawWorker,
    address: Vec<u8>,
    other: RawWorker,
}

impl Scene {
    fn new() -> Self {
        let cluster = TestCluster::start(&[]);
        let leader = cluster.leader();
        let followers: Vec<usize> = cluster.others(&[leader]).collect();
        let [victim, other] = [followers[0], followers[1]];
        let frozen = register(&cluster, victim, "echo");
        let client = client(&cluster, leader);
        client.request("echo", "hello");
        let address = frozen.expect_work("hello");
        let other = register(&cluster, other, "echo");
        cluster.node(victim).freeze();
        other.serve("hello", "world");
        client.expect_reply("echo", "world");
        Self { cluster, client, frozen, address, other }
    }

    fn thaw(&self) {
        self.cluster.nodes().iter().for_each(cluster_tests::ClusterNode::thaw);
    }

    /// The late reply reaches nobody; both workers are as good as ever.
    fn assert_reaches_nobody(&self) {
        self.client.socket.expect_silence(LATE_HARM);
        self.cluster.wait_until_ready();
        let bodies = ["first", "second"];
        bodies.iter().for_each(|body| self.client.request("echo", body));
        for worker in [&self.frozen, &self.other] {
            let work = worker.recv_command(cluster_tests::PATIENCE).unwrap();
            worker.answer(&work[3], &work[5]);
        }
        let mut replies = [(); 2].map(|()| self.client.socket.recv()[3].clone());
        replies.sort_unstable();
        assert_eq!(replies, bodies.map(|body| body.as_bytes().to_vec()));
    }
}

fn let_pass(length: Duration) {
    assert!(look_for(length, || None::<()>).is_none());
}

#[test]
fn reply_of_a_node_that_was_frozen_is_dropped_and_counted() {
    let scene = Scene::new();
    let_pass(LINK_TIMEOUT);

    scene.thaw();
    // The node finds out that its link was given up, and has a new one.
    let_pass(LINK_TIMEOUT);
    scene.frozen.answer(&scene.address, "late");

    wait_for_dropped(&scene.cluster, &LATE, 1);
    scene.assert_reaches_nobody();
}

/// The node hears the reply before it knows that its link was given up.
#[test]
fn reply_that_waited_in_a_frozen_node_reaches_nobody() {
    let scene = Scene::new();
    scene.frozen.answer(&scene.address, "late");
    let_pass(LINK_TIMEOUT);

    scene.thaw();

    scene.assert_reaches_nobody();
}

/// Meanwhile the cluster has given the frozen node up.
#[test]
fn reply_of_a_node_that_counted_as_gone_reaches_nobody() {
    let scene = Scene::new();
    scene.frozen.answer(&scene.address, "late");
    let_pass(NODE_TIMEOUT + LINK_TIMEOUT);

    scene.thaw();

    scene.assert_reaches_nobody();
}

/// The client's node was frozen: what it hears when it goes on is not older than its own life.
#[test]
fn client_of_a_frozen_node_gets_one_reply() {
    let cluster = TestCluster::start(&[]);
    let origin = cluster.follower();
    let owner = cluster.others(&[origin, cluster.leader()]).next().unwrap();
    let worker = register(&cluster, owner, "echo");
    let client = client(&cluster, origin);
    client.request("echo", "hello");
    let address = worker.expect_work("hello");

    cluster.node(origin).freeze();
    let_pass(LINK_TIMEOUT);
    worker.answer(&address, "to nobody");
    cluster.node(origin).thaw();

    // At least once: the node asks again, and now it hears the answer.
    worker.serve("hello", "world");
    client.expect_reply("echo", "world");
    client.socket.expect_silence(LATE_HARM);
    wait_for_dropped(&cluster, &LATE, 1);
}
