//! A node dies with the only worker of a service.

use cluster_tests::{Asker, Code, TestCluster};

use crate::{GONE_WITHIN, client, register};

/// CL-06: the other nodes say 404 after the bound for lost nodes, and 200 once the worker registers
/// elsewhere; what was asked meanwhile is answered then.
#[test]
fn service_of_a_killed_node_is_lost_and_found_again() {
    let mut cluster = TestCluster::start(&[]);
    let victim = cluster.follower();
    let others: Vec<usize> = cluster.others(&[victim]).collect();
    let _lost = register(&cluster, victim, "echo");
    let mut askers: Vec<Asker> =
        others.iter().map(|node| Asker::connect(cluster.node(*node))).collect();
    assert!(askers.iter_mut().all(|asker| asker.lookup("echo") == Code::Found));

    cluster.node_mut(victim).kill();
    let client = client(&cluster, others[0]);
    client.request("echo", "hello");

    for asker in &mut askers {
        asker.wait_for("echo", Code::NotFound, GONE_WITHIN);
    }
    let again = register(&cluster, others[1], "echo");
    assert!(askers.iter_mut().all(|asker| asker.lookup("echo") == Code::Found));
    again.serve("hello", "world");
    client.expect_reply("echo", "world");
}
