//! A node is killed while the members change. What must hold then: if of every configuration that
//! may count a majority lives, there is a leader, and the change ends; if not, no leader is right, and
//! is said. When the killed node is back, the change ends without help.

use std::{
    thread,
    time::{Duration, Instant},
};

use cluster_tests::{
    ClusterNode, ClusterView, Code, Finished, RawWorker, TestCluster, Version, Watch, hold_for,
    look_for, majordomo, scale, wait_until,
};

use crate::{askers, assert_everywhere, machine, random, register};

use Code::{Found, NotFound};

/// How long the others may take to elect a leader when a majority of all that counts lives.
const LED_WITHIN: Duration = Duration::from_secs(10);
/// How long a change may take to end once enough voters live.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// How long a node may take to end or to join.
const NODE_PATIENCE: Duration = Duration::from_secs(60);
/// How long before or after a change begins a node is killed, at most.
const KILL_WITHIN_MS: u64 = 600;
/// How long a request to a leader may be under way that no log shows.
const REQUEST_UNDER_WAY_MAX: Duration = Duration::from_secs(2);
/// How often a client asks.
const PERIOD: Duration = Duration::from_millis(20);
/// How long one command may wait for its answer.
const COMMAND_TIMEOUT: &str = "20s";

fn command(url: &str, words: &[&str]) -> Finished {
    majordomo(&[words, &["--admin", url, "--timeout", COMMAND_TIMEOUT]].concat())
}

/// Every node of three is needed or led: the follower that is asked, the leader that is to go, and the
/// dead one that the rest would need.
#[test]
fn removal_that_needs_a_dead_node_is_refused_and_the_leader_stays() {
    let _machine = machine();
    let mut cluster = TestCluster::start(&[]);
    let worker = register(&cluster, cluster.leader(), "echo");
    for silence in [Duration::ZERO, Duration::from_secs(1)] {
        let leader = cluster.leader();
        let [victim, other]: [usize; 2] =
            cluster.others(&[leader]).collect::<Vec<_>>().try_into().unwrap();
        let names = [leader, victim, other].map(|node| cluster.node(node).name().to_owned());
        let [leads, dead, _] = names.each_ref().map(String::as_str);
        let url = cluster.node(other).admin_url();
        let term = cluster.term();
        cluster.node_mut(victim).kill();
        hold_for("two of three are led", silence, || {
            cluster.node(other).view().is_some_and(|view| view.leader.as_deref() == Some(leads))
        });

        let refused = command(&url, &["member", "remove", leads]);

        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(&format!("{dead} has not answered for")), "{refused:?}");
        assert!(!refused.stderr.contains("LogId"), "{refused:?}");
        println!("{}", refused.stderr.trim());
        hold_for("two of three are led", Duration::from_secs(3), || {
            [leader, other].iter().all(|node| {
                let view = cluster.node(*node).expect_view();
                view.leader.as_deref() == Some(leads) && view.term == term && view.change.is_none()
            })
        });
        let metric = |node: usize, name| cluster.node(node).metric(name);
        assert_eq!(metric(other, "raft_member_change_in_progress"), 0);
        assert_eq!(
            (metric(leader, "raft_unheard_voters"), metric(other, "raft_unheard_voters")),
            (1, 0)
        );
        cluster.node_mut(victim).start();
        cluster.wait_until_ready();
    }
    assert_everywhere(&mut askers(&cluster), "echo", Found);
    crate::assert_left_alone(&worker);
}

/// A change of members, by the numbers of nodes.
#[derive(Clone, Copy, Debug)]
enum Change {
    Remove { node: usize },
    Replace { node: usize },
    Lead { node: usize },
}

/// Four nodes, of which one is no seed.
struct Four {
    cluster: TestCluster,
    fourth: ClusterNode,
}

impl Four {
    fn start() -> Self {
        let cluster = TestCluster::start(&[]);
        let mut fourth = cluster.another_node("node-4");
        fourth.start();
        let four = Self { cluster, fourth };
        four.wait_for_all();
        four
    }

    fn node(&self, index: usize) -> &ClusterNode {
        if index == 3 { &self.fourth } else { self.cluster.node(index) }
    }

    fn node_mut(&mut self, index: usize) -> &mut ClusterNode {
        if index == 3 { &mut self.fourth } else { self.cluster.node_mut(index) }
    }

    fn views(&self) -> Vec<ClusterView> {
        (0..4).filter_map(|node| self.node(node).view()).collect()
    }

    /// Whether all four run, vote, and agree.
    fn are_all_there(&self) -> bool {
        let all = ["node-1", "node-2", "node-3", "node-4"];
        let views = self.views();
        let agree = views
            .iter()
            .all(|view| view.voters() == all && view.nodes.len() == 4 && view.change.is_none());
        views.len() == 4 && agree && is_led(&views)
    }

    fn wait_for_all(&self) {
        wait_until("four voters agree", NODE_PATIENCE, || self.are_all_there());
        (0..4).for_each(|node| {
            self.node(node).wait_until_ready();
        });
    }

    /// A node that was removed ends, and comes back with an empty directory. A removal that was asked
    /// for may still be made for a moment, although no log shows it yet.
    fn bring_back(&mut self, changed: Option<usize>) {
        let mut there_since: Option<Instant> = None;
        wait_until("four voters agree, and go on to", NODE_PATIENCE, || {
            if let Some(removed) = changed.filter(|node| !self.node_mut(*node).is_running()) {
                self.node_mut(removed).kill();
                self.node(removed).lose_data();
                self.node_mut(removed).start();
            }
            if !self.are_all_there() {
                there_since = None;
                return false;
            }
            there_since.get_or_insert_with(Instant::now).elapsed() >= REQUEST_UNDER_WAY_MAX
        });
        self.wait_for_all();
    }
}

/// Whether a node leads, as one of these says of itself or of another that answers.
fn is_led(views: &[ClusterView]) -> bool {
    views.iter().any(|view| view.leader.as_ref().is_some_and(|leader| *leader == view.node))
}

/// Whether of every configuration that any of the living knows a majority lives.
fn can_be_led(views: &[ClusterView], replaced: Option<&str>) -> bool {
    // The one that lost its volume is another member under the same name.
    let lives = |name: &str| replaced != Some(name) && views.iter().any(|view| view.node == name);
    let is_majority =
        |names: &[&str]| names.iter().filter(|name| lives(name)).count() > names.len() / 2;
    views.iter().all(|view| {
        let configurations: Vec<Vec<String>> = match &view.change {
            None => vec![view.voters().into_iter().map(str::to_owned).collect()],
            Some(change) if change.is_joint => vec![change.from.clone(), change.to.clone()],
            Some(change) => vec![change.to.clone()],
        };
        configurations
            .iter()
            .all(|names| is_majority(&names.iter().map(String::as_str).collect::<Vec<_>>()))
    })
}

fn begin(four: &mut Four, change: Change, urls: &[String]) -> Vec<thread::JoinHandle<Finished>> {
    let words: Vec<String> = match change {
        Change::Remove { node } => vec!["member", "remove", four.node(node).name()],
        Change::Lead { node } => vec!["leader", "transfer", four.node(node).name()],
        Change::Replace { node } => {
            four.node_mut(node).kill();
            four.node(node).lose_data();
            four.node_mut(node).start();
            return Vec::new();
        }
    }
    .into_iter()
    .map(str::to_owned)
    .collect();
    let ask = |url: &String| {
        let (url, words) = (url.clone(), words.clone());
        thread::spawn(move || command(&url, &words.iter().map(String::as_str).collect::<Vec<_>>()))
    };
    urls.iter().map(ask).collect()
}

/// What one round was.
#[derive(Debug)]
struct Round {
    change: Change,
    victim: usize,
    /// Asked at these nodes, by number.
    at: Vec<usize>,
    /// When the victim is killed, from the beginning of the change.
    after: Duration,
}

impl Round {
    fn draw(rng: &mut fastrand::Rng) -> Self {
        let node = rng.usize(0..4);
        let change = match rng.u8(0..6) {
            0 => Change::Lead { node },
            1 => Change::Replace { node },
            _ => Change::Remove { node },
        };
        let victim = match change {
            // One volume at a time.
            Change::Replace { node } => (node + rng.usize(1..4)) % 4,
            Change::Remove { .. } | Change::Lead { .. } => rng.usize(0..4),
        };
        let at = (0..1 + usize::from(rng.u8(0..3) == 0)).map(|_| rng.usize(0..4)).collect();
        Self { change, victim, at, after: Duration::from_millis(rng.u64(0..KILL_WITHIN_MS)) }
    }

    /// A node that nothing is done to.
    fn bystander(&self) -> usize {
        let (Change::Remove { node } | Change::Replace { node } | Change::Lead { node }) =
            self.change;
        (0..4).find(|other| *other != node && *other != self.victim).unwrap()
    }

    fn run(&self, four: &mut Four, number: usize) {
        let service = format!("round-{number}");
        let keeper = self.bystander();
        let worker = RawWorker::register(four.node(keeper), Version::V02, &service);
        let watch = Watch::start(four.node(keeper), &[&service], PERIOD);
        wait_until("the service is found", LED_WITHIN, || {
            watch.find(|seen| seen.code == Found).is_some()
        });
        let urls: Vec<String> = self.at.iter().map(|node| four.node(*node).admin_url()).collect();
        let began_at = Instant::now();
        let commands = begin(four, self.change, &urls);
        watch.let_pass(self.after.saturating_sub(began_at.elapsed()));
        four.node_mut(self.victim).kill();

        let replaced = match self.change {
            Change::Replace { node } => Some(four.node(node).name().to_owned()),
            Change::Remove { .. } | Change::Lead { .. } => None,
        };
        self.expect_leader_if_possible(four, replaced.as_deref());
        let answers: Vec<Finished> =
            commands.into_iter().map(|command| command.join().unwrap()).collect();
        for answer in &answers {
            assert!(!answer.stderr.contains("LogId"), "{answer:?}");
        }
        // What was removed may have ended by itself; the killed one comes back.
        four.node_mut(self.victim).start();
        let took = wait_until("the change ends", SETTLED_WITHIN, || {
            let views = four.views();
            is_led(&views)
                && views
                    .iter()
                    .filter(|view| view.leader.is_some())
                    .all(|view| view.change.is_none())
        });
        println!(
            "{number}: {self:?}: ended {took:?} after the node was back; {:?}",
            codes(&answers)
        );
        let removed = match self.change {
            Change::Remove { node } => Some(node),
            Change::Replace { .. } | Change::Lead { .. } => None,
        };
        four.bring_back(removed);
        let (sightings, _) = watch.finish();
        let wrong: Vec<_> = sightings.iter().filter(|seen| seen.code == NotFound).collect();
        assert!(wrong.is_empty(), "{self:?}: a worker that was there was not found: {wrong:?}");
        crate::assert_left_alone(&worker);
        worker.disconnect();
    }

    fn expect_leader_if_possible(&self, four: &Four, replaced: Option<&str>) {
        let led = look_for(LED_WITHIN, || is_led(&four.views()).then_some(()));
        let views = four.views();
        assert!(
            led.is_some() || !can_be_led(&views, replaced),
            "{self:?}: no leader, and a majority lives: {views:#?}"
        );
        if led.is_none() {
            // Then every node that answers says so.
            let unled = |view: &ClusterView| view.leader.is_none();
            assert!(views.iter().all(unled), "{self:?}: {views:#?}");
        }
    }
}

fn codes(answers: &[Finished]) -> Vec<(Option<i32>, &str)> {
    answers.iter().map(|answer| (answer.code, answer.stderr.trim())).collect()
}

#[test]
fn node_killed_in_the_middle_of_a_change_costs_no_leader_that_could_be_there() {
    let _machine = machine();
    let mut rng = random();
    let mut four = Four::start();
    for number in 0..scale().pick(4, 50) {
        Round::draw(&mut rng).run(&mut four, number);
    }
}
