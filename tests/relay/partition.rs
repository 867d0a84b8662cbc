//! Nodes that cannot reach each other, or can only agree.

use std::time::Duration;

use cluster_tests::{Asker, Code, PATIENCE, Tap, TestCluster, hold_for, look_for, wait_until};
use serde_json::Value;

use crate::{
    GONE_WITHIN, LATE_HARM, LINK_TIMEOUT, client, counted, counts, dropped, has_link, register,
};

/// What `/api/v1/services` says of a service: the nodes that offer it, and the workers of this node.
fn service(cluster: &TestCluster, node: usize, name: &str) -> Option<(Vec<String>, u64)> {
    let page = cluster.node(node).page("/api/v1/services")?;
    let value: Value = serde_json::from_str(&page.body).ok()?;
    let of_name = |service: &&Value| service["name"] == name;
    let service = value["services"].as_array()?.iter().find(of_name)?;
    let nodes = service["nodes"].as_array()?.iter();
    let nodes = nodes.map(|node| node.as_str().unwrap_or_default().to_owned()).collect();
    Some((nodes, service["workers"].as_u64()?))
}

/// CL-20: both sides of a partition serve their own workers, nothing crosses it, and its end leaves
/// nothing registered twice.
#[test]
fn both_sides_of_a_partition_serve_their_own() {
    let cluster = TestCluster::start_linked(&[]);
    let alone = cluster.follower();
    let together: Vec<usize> = cluster.others(&[alone]).collect();
    let workers = [register(&cluster, alone, "echo"), register(&cluster, together[0], "echo")];
    let clients = [client(&cluster, alone), client(&cluster, together[1])];

    cluster.cut_off(alone);
    for round in 0..100_u32 {
        for side in [0, 1] {
            let body = format!("{side} {round}");
            clients[side].request("echo", &body);
            workers[side].serve(&body, &body);
            clients[side].expect_reply("echo", &body);
        }
    }
    // Long enough for the majority to give the node up.
    let offers = [cluster.node(together[0]).name().to_owned()];
    wait_until("the majority offers its own only", GONE_WITHIN, || {
        service(&cluster, together[1], "echo").is_some_and(|(nodes, _)| nodes == offers)
    });
    for side in [0, 1] {
        clients[side].request("echo", "held");
    }
    let held = workers.each_ref().map(|worker| worker.expect_work("held"));

    cluster.heal();
    cluster.wait_until_ready();

    for side in [0, 1] {
        workers[side].answer(&held[side], "done");
        clients[side].expect_reply("echo", "done");
        clients[side].socket.expect_silence(LATE_HARM);
    }
    let mut names = [alone, together[0]].map(|node| cluster.node(node).name().to_owned());
    names.sort_unstable();
    wait_until("each registration is there once", PATIENCE, || {
        let seen = [0, 1, 2].map(|node| service(&cluster, node, "echo"));
        let workers: u64 = seen.iter().flatten().map(|(_, workers)| workers).sum();
        workers == 2 && seen.iter().flatten().all(|(nodes, _)| *nodes == names)
    });
    workers.iter().for_each(cluster_tests::RawWorker::settle);
}

/// A cluster of which one follower reaches the leader, and not the node that has the worker.
struct Scene {
    cluster: TestCluster,
    /// Where the worker is.
    owner: usize,
    /// Where the client is.
    origin: usize,
    leader: usize,
}

impl Scene {
    fn new(settings: &[(&str, &str)]) -> Self {
        let cluster = TestCluster::start_linked(settings);
        let leader = cluster.leader();
        let followers: Vec<usize> = cluster.others(&[leader]).collect();
        Self { cluster, owner: followers[0], origin: followers[1], leader }
    }

    /// The two still agree by way of the leader, and by their own cluster ports.
    fn cut(&self) {
        self.cluster.relays().turn_both(self.owner, self.origin, Tap::Held);
    }

    /// Long enough for both ends to know.
    fn cut_and_wait(&self) {
        self.cut();
        wait_until("both ends know of the cut", PATIENCE, || {
            !has_link(&self.cluster, self.origin, self.owner)
        });
    }

    fn in_order(&self, by_role: [u64; 3]) -> [u64; 3] {
        let mut in_order = [0; 3];
        for (node, count) in [self.owner, self.origin, self.leader].into_iter().zip(by_role) {
            in_order[node] = count;
        }
        in_order
    }
}

#[test]
fn request_for_a_node_that_cannot_be_reached_waits_until_it_can() {
    let scene = Scene::new(&[]);
    let cluster = &scene.cluster;
    let worker = register(cluster, scene.owner, "echo");
    scene.cut_and_wait();
    let client = client(cluster, scene.origin);
    assert_eq!(Asker::connect(cluster.node(scene.origin)).lookup("echo"), Code::Found);

    client.request("echo", "hello");

    wait_until("the metric says so", PATIENCE, || {
        cluster.node(scene.origin).metric(counted::UNREACHABLE) == 1
    });
    worker.socket.expect_silence(LINK_TIMEOUT);
    client.settle();
    cluster.heal();
    worker.serve("hello", "world");
    client.expect_reply("echo", "world");
    worker.settle();
    assert_eq!(counts(cluster, counted::FORWARDED), scene.in_order([0, 1, 0]));
    assert_eq!(counts(cluster, counted::RECEIVED), scene.in_order([1, 0, 0]));
    assert_eq!(counts(cluster, counted::DISPATCHED), scene.in_order([1, 0, 0]));
    assert_eq!(counts(cluster, counted::UNREACHABLE), [0; 3]);
}

#[test]
fn request_for_a_node_that_cannot_be_reached_is_dropped_after_its_ttl() {
    let scene = Scene::new(&[("broker.request_ttl", "2s")]);
    let cluster = &scene.cluster;
    let worker = register(cluster, scene.owner, "echo");
    scene.cut_and_wait();
    let client = client(cluster, scene.origin);

    client.request("echo", "hello");

    wait_until("it is dropped", PATIENCE, || dropped(cluster, scene.origin, "expired") == 1);
    cluster.heal();
    worker.socket.expect_silence(LATE_HARM);
    client.settle();
    assert_eq!(counts(cluster, counted::FORWARDED), [0; 3]);
}

/// Requests that were on their way when the link was cut, before anybody knows.
#[test]
fn request_into_a_fresh_cut_is_executed_and_answered() {
    let scene = Scene::new(&[]);
    let cluster = &scene.cluster;
    let worker = register(cluster, scene.owner, "echo");
    let client = client(cluster, scene.origin);
    client.request("echo", "before");
    worker.serve("before", "done");
    client.expect_reply("echo", "done");

    scene.cut();
    client.request("echo", "into the cut");
    worker.socket.expect_silence(LINK_TIMEOUT + LINK_TIMEOUT);
    cluster.heal();

    // At least once: what the old connection still brings may be executed as well.
    let mut executed = 0;
    let answered = look_for(PATIENCE, || {
        if let Some(work) = worker.recv_command(Duration::from_millis(10)) {
            executed += 1;
            worker.answer(&work[3], "done");
        }
        client.socket.recv_within(Duration::ZERO)
    });
    assert_eq!(answered.and_then(|reply| reply.last().cloned()), Some(b"done".to_vec()));
    hold_for("no node relays for another", LATE_HARM, || {
        cluster.node(scene.leader).metric(counted::RECEIVED) == 0
    });
    client.settle();
    assert!(executed <= 3, "{executed} executions");
}

/// A cluster whose relay links are all cut is three brokers that agree.
#[test]
fn nodes_without_links_serve_their_own() {
    let scene = Scene::new(&[]);
    let cluster = &scene.cluster;
    (0..3).for_each(|node| cluster.relays().cut_off(node));
    let workers = [0, 1, 2].map(|node| register(cluster, node, &format!("service-{node}")));
    for (node, worker) in workers.iter().enumerate() {
        let name = format!("service-{node}");
        let client = client(cluster, node);
        client.request(&name, "hello");
        worker.serve("hello", "world");
        client.expect_reply(&name, "world");
        for other in cluster.nodes() {
            assert_eq!(Asker::connect(other).lookup(&name), Code::Found);
        }
    }
    cluster.wait_until_ready();
}
