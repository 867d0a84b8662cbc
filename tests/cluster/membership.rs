//! Members come and go on purpose.

mod losses;

use std::time::{Duration, Instant};

use cluster_tests::{
    ClusterNode, Code, Finished, TestCluster, Watch, hold_for, majordomo, wait_until,
};

use crate::{askers, assert_everywhere, part_of_the_machine, register};

use Code::Found;

/// How long a change of members may take.
const CHANGED_WITHIN: Duration = Duration::from_secs(20);

/// The exit code of a member that was removed.
const REMOVED: Option<i32> = Some(6);

/// How often a client asks.
const PERIOD: Duration = Duration::from_millis(10);

/// Runs a command against the administration port of a node; it must succeed.
#[track_caller]
fn command(node: &ClusterNode, arguments: &[&str]) -> Finished {
    let url = node.admin_url();
    let arguments = [arguments, &["--admin", &url]].concat();
    let finished = majordomo(&arguments);
    assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:?}");
    finished
}

#[track_caller]
fn wait_for_voters(nodes: &[&ClusterNode], wanted: &[&str]) {
    wait_until(&format!("the voters are {wanted:?}"), CHANGED_WITHIN, || {
        nodes.iter().all(|node| {
            node.view().is_some_and(|view| {
                let mut voters = view.voters();
                voters.sort_unstable();
                voters == wanted
            })
        })
    });
}

#[test]
fn cluster_grows_and_shrinks_while_it_serves() {
    let _machine = part_of_the_machine();
    let cluster = TestCluster::start(&[]);
    let worker = register(&cluster, 0, "echo");
    let watches: Vec<Watch> =
        cluster.nodes().iter().map(|node| Watch::start(node, &["echo"], PERIOD)).collect();
    let three: Vec<&ClusterNode> = cluster.nodes().iter().collect();
    let mut four = cluster.another_node("node-4");
    let mut five = cluster.another_node("node-5");

    // Nodes that the seeds do not know join by themselves.
    four.start();
    four.wait_until_ready();
    wait_for_voters(&three, &["node-1", "node-2", "node-3", "node-4"]);
    five.start();
    five.wait_until_ready();
    wait_for_voters(&three, &["node-1", "node-2", "node-3", "node-4", "node-5"]);
    let at_five = cluster_tests::RawWorker::register(&five, cluster_tests::Version::V02, "at-five");
    assert_everywhere(&mut askers(&cluster), "at-five", Found);
    assert_eq!(cluster_tests::Asker::connect(&five).lookup("echo"), Found);

    // The newest leads, and then is removed.
    let transferred = command(three[1], &["leader", "transfer", "node-5", "--json"]);
    assert!(transferred.stdout.contains("node-5"), "{transferred:?}");
    wait_until("node-5 leads", CHANGED_WITHIN, || {
        three
            .iter()
            .all(|node| node.view().is_some_and(|view| view.leader.as_deref() == Some("node-5")))
    });
    drop(command(three[0], &["member", "remove", "node-5"]));
    assert_eq!(five.wait_for_exit(CHANGED_WITHIN), REMOVED, "{}", five.log());
    drop(command(three[2], &["member", "remove", "node-4"]));
    assert_eq!(four.wait_for_exit(CHANGED_WITHIN), REMOVED, "{}", four.log());
    wait_for_voters(&three, &["node-1", "node-2", "node-3"]);
    let mut clients = askers(&cluster);
    clients.iter_mut().for_each(|client| {
        client.wait_for("at-five", Code::NotFound, CHANGED_WITHIN);
    });
    drop(at_five);

    for watch in watches {
        let (sightings, unanswered) = watch.finish();
        let failed = sightings.iter().filter(|seen| seen.code != Found).count();
        println!("{failed} of {} lookups did not know", sightings.len());
        assert!(sightings.iter().all(|seen| seen.code != Code::NotFound));
        assert_eq!(unanswered, 0);
        // 99.9 % would be one; elections are rare and short, so this bounds their number.
        assert!(failed * 20 < sightings.len(), "{failed} of {}", sightings.len());
    }
    crate::assert_left_alone(&worker);
}

#[test]
fn removed_member_does_not_come_back_with_its_old_directory() {
    let _machine = part_of_the_machine();
    let cluster = TestCluster::start(&[]);
    let mut four = cluster.another_node("node-4");
    four.start();
    four.wait_until_ready();
    four.kill();

    // While it is down, so that nobody can tell it.
    drop(command(cluster.node(0), &["member", "remove", "node-4"]));
    let term = cluster.term();
    four.start();

    assert_eq!(four.wait_for_exit(CHANGED_WITHIN), REMOVED, "{}", four.log());
    assert_eq!(cluster.term(), term);
    four.lose_data();
    four.start();
    four.wait_until_ready();
    let all: Vec<&ClusterNode> = cluster.nodes().iter().chain([&four]).collect();
    wait_for_voters(&all, &["node-1", "node-2", "node-3", "node-4"]);
}

#[test]
fn leadership_moves_to_whom_it_is_given_and_nobody_notices() {
    let _machine = part_of_the_machine();
    let cluster = TestCluster::start(&[]);
    let worker = register(&cluster, 0, "echo");
    let watches: Vec<Watch> =
        cluster.nodes().iter().map(|node| Watch::start(node, &["echo"], PERIOD)).collect();
    for round in 0..6 {
        let leader = cluster.leader();
        let to = cluster.node((leader + 1) % 3).name();
        // Any node passes it on.
        let asked = cluster.node(round % 3);
        let started_at = Instant::now();
        drop(command(asked, &["leader", "transfer", to]));
        wait_until("it leads", CHANGED_WITHIN, || {
            let leads =
                |node: &ClusterNode| node.view().is_some_and(|v| v.leader.as_deref() == Some(to));
            cluster.nodes().iter().all(leads)
        });
        println!("{to} leads after {:?}", started_at.elapsed());
    }
    for watch in watches {
        let (sightings, unanswered) = watch.finish();
        let unsure: Vec<_> = sightings.iter().filter(|seen| seen.code != Found).collect();
        assert!(unsure.is_empty() && unanswered == 0, "{unsure:?}");
    }
    crate::assert_left_alone(&worker);
}

#[test]
fn changes_that_make_no_sense_are_refused_with_a_reason() {
    let _machine = part_of_the_machine();
    let mut cluster = TestCluster::start(&[]);
    let url = cluster.node(0).admin_url();
    for (arguments, part) in [
        (&["member", "remove", "node-8"][..], "node-8"),
        (&["member", "promote", "node-8"], "node-8"),
        (&["leader", "transfer", "node-8"], "node-8"),
        (&["member", "add", "node-2", "127.0.0.1:1"], "127.0.0.1:1"),
    ] {
        let refused = majordomo(&[arguments, &["--admin", &url]].concat());
        assert_eq!(refused.code, Some(1), "{arguments:?}: {refused:?}");
        assert!(refused.stderr.contains(part), "{arguments:?}: {refused:?}");
        println!("{arguments:?}: {}", refused.stderr.trim());
    }

    // Without a majority the command says so, and nothing changes.
    cluster.node_mut(1).kill();
    cluster.node_mut(2).kill();
    cluster.node(0).wait_for_reason("no_leader");
    let refused = majordomo(&["member", "remove", "node-3", "--admin", &url]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    println!("without a majority: {}", refused.stderr.trim());
    hold_for("nothing changes", Duration::from_secs(2), || {
        cluster.node(0).expect_view().voters().len() == 3
    });
}
