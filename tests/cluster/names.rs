//! Nodes that are configured wrong: names that are used twice, lists that differ, nodes missing.

use std::time::Duration;

use cluster_tests::{ClusterNode, Code, TestCluster, hold_for, look_for, wait_until};

use crate::{askers, assert_everywhere, assert_left_alone, copy, part_of_the_machine, register};

/// How long a newcomer may take to find out.
const NOTICED_WITHIN: Duration = Duration::from_secs(15);

/// How long whoever runs must not be disturbed.
const UNDISTURBED_FOR: Duration = Duration::from_secs(5);

/// How a newcomer under a used name reacts.
#[derive(Debug, PartialEq, Eq)]
enum Reaction {
    Waits,
    Stops(Option<i32>),
}

/// What must stay as it is while another process uses a node's name.
struct Undisturbed {
    cluster: TestCluster,
    worker: cluster_tests::RawWorker,
    node: usize,
}

impl Undisturbed {
    fn new() -> Self {
        let cluster = TestCluster::start(&[]);
        let node = cluster.follower();
        let worker = register(&cluster, node, "echo");
        Self { cluster, worker, node }
    }

    fn name(&self) -> String {
        self.cluster.node(self.node).name().to_owned()
    }

    /// Runs the newcomer until it has said what is wrong, and for a while after that. None: it only
    /// waits, as a node that hears nobody.
    fn assert_undisturbed_by(&self, newcomer: &mut ClusterNode) -> Option<Reaction> {
        let leader = self.cluster.leader();
        let view = self.cluster.node(leader).expect_view();
        newcomer.start();
        let reaction = look_for(NOTICED_WITHIN, || {
            if !newcomer.is_running() {
                return Some(Reaction::Stops(newcomer.wait_for_exit(NOTICED_WITHIN)));
            }
            let reasons = newcomer.readiness()?.reasons;
            reasons.iter().any(|reason| reason == "name_in_use").then_some(Reaction::Waits)
        });
        let mut askers = askers(&self.cluster);
        hold_for("the running node serves on", UNDISTURBED_FOR, || {
            assert_everywhere(&mut askers, "echo", Code::Found);
            newcomer.readiness().is_none_or(|now| !now.is_ready)
        });
        let after = self.cluster.node(leader).expect_view();
        assert_eq!((after.term, &after.leader), (view.term, &view.leader));
        assert_eq!(after.nodes, view.nodes);
        assert!(self.cluster.nodes().iter().all(|node| node.readiness().unwrap().is_ready));
        assert_left_alone(&self.worker);
        reaction
    }
}

#[test]
fn second_process_under_a_used_name_waits() {
    let _machine = part_of_the_machine();
    let running = Undisturbed::new();
    let mut newcomer = running.cluster.another_node(&running.name());

    let reaction = running.assert_undisturbed_by(&mut newcomer);

    assert_eq!(reaction, Some(Reaction::Waits), "{}", newcomer.log());
    println!("{:?}", newcomer.page("/readyz"));
}

#[test]
fn second_process_in_a_used_directory_stops() {
    let _machine = part_of_the_machine();
    let running = Undisturbed::new();
    let mut newcomer = running.cluster.another_node(&running.name());
    let data_dir = running.cluster.node(running.node).data_dir().display().to_string();
    newcomer.set("node.data_dir", &data_dir);

    let reaction = running.assert_undisturbed_by(&mut newcomer);

    assert_eq!(reaction, Some(Reaction::Stops(Some(4))), "{}", newcomer.log());
    assert!(newcomer.log().contains(&data_dir), "{}", newcomer.log());
}

#[test]
fn second_process_with_a_copy_of_the_directory_disturbs_nobody() {
    let _machine = part_of_the_machine();
    let running = Undisturbed::new();
    let mut newcomer = running.cluster.another_node(&running.name());
    copy(&running.cluster.node(running.node).data_dir(), &newcomer.data_dir());

    let reaction = running.assert_undisturbed_by(&mut newcomer);

    println!("a copy of a node: {reaction:?}");
    assert!(reaction.is_some(), "it does not say why it waits: {}", newcomer.log());
}

#[test]
fn directory_of_another_node_is_refused() {
    let _machine = part_of_the_machine();
    let mut cluster = TestCluster::start(&[]);
    let victim = cluster.follower();
    cluster.node_mut(victim).kill();
    let mut newcomer = cluster.another_node("node-9");
    newcomer.set("node.data_dir", &cluster.node(victim).data_dir().display().to_string());

    newcomer.start();

    assert_eq!(newcomer.wait_for_exit(NOTICED_WITHIN), Some(4), "{}", newcomer.log());
    assert!(newcomer.log().contains(cluster.node(victim).name()), "{}", newcomer.log());
}

/// A wrong list made from the right one.
type Difference = fn(&str) -> String;

/// One more seed than the others know.
fn longer(peers: &str) -> String {
    format!("{peers},node-4=127.0.0.1:1")
}

/// The first two seeds exchanged: two nodes would be the first.
fn exchanged(peers: &str) -> String {
    let mut peers: Vec<&str> = peers.split(',').collect();
    peers.swap(0, 1);
    peers.join(",")
}

#[test]
fn differing_lists_of_seeds_are_named_on_all_nodes() {
    let _machine = part_of_the_machine();
    let differences: [(usize, Difference); 2] = [(2, exchanged), (0, longer)];
    for (node, difference) in differences {
        let mut cluster = TestCluster::unstarted(&[]);
        let right = cluster.peers().to_owned();
        cluster.node_mut(node).set("cluster.peers", &difference(&right));

        cluster.nodes_mut().iter_mut().for_each(ClusterNode::start);

        for node in cluster.nodes() {
            node.wait_for_reason("seeds_differ");
            println!("{}: {:?}", node.name(), node.page("/readyz").map(|page| page.body));
        }
        hold_for("there is no cluster", UNDISTURBED_FOR / 2, || {
            cluster.nodes().iter().all(|node| node.expect_view().cluster_id.is_none())
        });

        // Put right, it starts by itself.
        cluster.node_mut(node).set("cluster.peers", &right);
        cluster.node_mut(node).restart();
        cluster.wait_until_ready();
    }
}

#[test]
fn cluster_is_made_only_when_all_seeds_are_there() {
    let _machine = part_of_the_machine();
    let mut cluster = TestCluster::unstarted(&[]);
    for node in [1, 0] {
        cluster.node_mut(node).start();
        hold_for("there is no cluster", UNDISTURBED_FOR / 2, || {
            cluster.nodes().iter().all(|node| {
                node.readiness().is_none_or(|now| !now.is_ready)
                    && node.view().is_none_or(|view| view.cluster_id.is_none())
            })
        });
    }
    println!("two of three wait: {:?}", cluster.node(0).page("/readyz").map(|page| page.body));

    cluster.node_mut(2).start();
    let took = cluster.wait_until_ready();

    println!("a cluster {took:?} after the last seed");
    let ids: Vec<_> = cluster.nodes().iter().map(|node| node.expect_view().cluster_id).collect();
    assert!(ids[0].is_some() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn fewer_peers_than_expected_are_refused() {
    let _machine = part_of_the_machine();
    let mut cluster = TestCluster::unstarted(&[]);
    let (short, _) = cluster.peers().rsplit_once(',').unwrap();
    let short = short.to_owned();
    let node = cluster.node_mut(0);
    node.set("cluster.peers", &short);

    node.start();

    assert_eq!(node.wait_for_exit(NOTICED_WITHIN), Some(2));
    assert!(node.log().contains("cluster.expect"), "{}", node.log());
}

#[test]
fn silent_cluster_keeps_its_silence() {
    let _machine = part_of_the_machine();
    let mut cluster = TestCluster::start(&[("mmi.on_no_quorum", "silent")]);
    let mut asker = cluster_tests::Asker::connect(cluster.node(0));
    assert_eq!(asker.lookup("echo"), Code::NotFound);
    cluster.node_mut(1).kill();
    cluster.node_mut(2).kill();

    wait_until("node-1 does not answer", NOTICED_WITHIN, || asker.try_lookup("echo").is_none());

    assert_eq!(asker.try_lookup("echo"), None);
    let other = asker.answer_to("mmi.nothing", "-", Duration::from_secs(1));
    assert_eq!(other, Some(vec![b"501".to_vec()]));
}
