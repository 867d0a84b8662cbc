//! A change of members that can be neither made nor undone for a while: its alert.

use std::{
    thread::{self, JoinHandle},
    time::Duration,
};

use cluster_tests::{Finished, Tap, TestCluster, look_for, majordomo, wait_until};

use crate::{FIRES_WITHIN, files, fires, machine, prometheus::Prometheus, wait_for_alert};

const ALERT: &str = "MajordomoMemberChangeStuck";

/// The leader waits for the answers of voters before it begins a change, and an answer that takes longer than
/// a heartbeat interval is none: long times, so that a busy machine leaves time to hold one back.
const LONG_TIMES: [(&str, &str); 3] = [
    ("cluster.heartbeat_interval", "900ms"),
    ("cluster.election_timeout_min", "1500ms"),
    ("cluster.election_timeout_max", "2s"),
];

/// How often it is tried: a heartbeat that was due anyway may be taken for the leader's question.
const TRIES_MAX: usize = 10;

/// How long the leader may take to begin the change, or to refuse it.
const BEGINS_WITHIN: Duration = Duration::from_secs(10);

/// How long a change may take once all voters live.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// Of three nodes: the one that leads, the one whose vote is needed, and the one that is to go.
struct Three {
    cluster: TestCluster,
    leader: usize,
    needed: usize,
    removed: usize,
}

impl Three {
    fn start() -> Self {
        let cluster = TestCluster::start_linked(&LONG_TIMES);
        let leader = cluster.leader();
        let [needed, removed] = cluster.others(&[leader]).collect::<Vec<_>>().try_into().unwrap();
        Self { cluster, leader, needed, removed }
    }

    /// The voters of a change that this node's log shows.
    fn voters_to_come(&self, node: usize) -> Option<Vec<String>> {
        Some(self.cluster.node(node).view()?.change?.to)
    }

    /// Asks the leader to remove a node, and freezes the other voter when it has answered that it lives, and
    /// before the leader knows: then the change is begun, and without that voter it is not made.
    fn try_to_begin(&self) -> JoinHandle<Finished> {
        let needed = self.cluster.node(self.needed);
        let received = || needed.metric("cluster_received_calls_total");
        self.cluster.links().turn(self.needed, self.leader, Tap::Held);
        let before = received();
        let asked = self.ask();
        wait_until("the second voter is asked whether it lives", BEGINS_WITHIN, || {
            received() > before
        });
        // A page later its answer is on the way.
        needed.wait_until_ready();
        needed.freeze();
        self.cluster.links().heal();
        asked
    }

    fn ask(&self) -> JoinHandle<Finished> {
        let url = self.cluster.node(self.leader).admin_url();
        let name = self.cluster.node(self.removed).name().to_owned();
        thread::spawn(move || {
            majordomo(&["member", "remove", &name, "--admin", &url, "--timeout", "20s"])
        })
    }

    /// Until a change is in progress, which is refused if the answer was not the one to the question.
    fn begin(&self) -> JoinHandle<Finished> {
        for _ in 0..TRIES_MAX {
            let asked = self.try_to_begin();
            let begun = look_for(BEGINS_WITHIN, || {
                let is_begun = self.voters_to_come(self.leader).is_some();
                (is_begun || asked.is_finished()).then_some(is_begun)
            });
            if begun == Some(true) {
                return asked;
            }
            self.cluster.node(self.needed).thaw();
            println!("once more: {:?}", asked.join().unwrap());
            self.cluster.wait_until_ready();
            assert_eq!(self.cluster.leader(), self.leader, "the leader hears a majority");
        }
        panic!("no change was begun in {TRIES_MAX} tries");
    }
}

#[test]
fn change_of_members_that_a_frozen_voter_holds_up_fires_until_it_is_made() {
    let _machine = machine();
    let mut three = Three::start();
    let prometheus = Prometheus::start(three.cluster.nodes(), &files::rules());
    assert!(!fires(&prometheus, ALERT), "{:?}", prometheus.firing());

    let asked = three.begin();
    let voters = three.voters_to_come(three.leader).unwrap();
    let removed = three.cluster.node(three.removed).name().to_owned();
    assert!(voters.len() == 2 && !voters.contains(&removed), "{voters:?}");
    wait_for_alert(&prometheus, ALERT);

    three.cluster.node(three.needed).thaw();
    wait_until("the change is made", ENDS_WITHIN, || {
        [three.leader, three.needed].iter().all(|node| {
            let view = three.cluster.node(*node).view();
            view.is_some_and(|view| view.change.is_none() && view.voters().len() == 2)
        })
    });
    // The one that was removed ends by itself, and is no alarm: it shows no change that goes on.
    let gone = three.cluster.node_mut(three.removed);
    assert_eq!(gone.wait_for_exit(ENDS_WITHIN), Some(6), "{}", gone.log());
    wait_until("the alert is over", FIRES_WITHIN, || !fires(&prometheus, ALERT));
    println!("what was said of the removal: {:?}", asked.join().unwrap());
}
