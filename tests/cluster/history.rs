//! `mmi.service` is linearizable: everything that workers and clients do and see on all nodes is
//! written down while nodes are killed, cut off and frozen, and one order must explain it, for
//! each service by itself.

mod faults;
mod recorder;
mod worker;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use cluster_tests::{
    Action, Asker, AtEnd, Damages, Operation, Reachable, TestCluster, check, detected_percent,
    look_for, scale,
};

use self::{faults::Fault, recorder::Recorder, worker::Worker};
use crate::{Code, askers, assert_everywhere, machine, random};

/// How many services have a worker that comes and goes. Few, so that each is held for much longer
/// than an operation takes, and asked for often.
const SERVICES: usize = 8;

/// How many of a hundred wrong answers the recorded history must have been able to show.
const DETECTED_PERCENT_MIN: usize = 90;

/// How many lookups are told wrong to find that out.
const FLIPS: usize = 400;

/// Between two questions of one client.
const PERIOD: Duration = Duration::from_millis(2);

/// Before the first fault, between faults, and after the last one: most of the time nothing is
/// uncertain.
const CALM: Duration = Duration::from_secs(5);

/// Long enough for the node to be taken for gone.
const CUT: Duration = Duration::from_millis(3_500);

/// What is shared by everybody in one epoch.
struct Epoch {
    endpoints: Vec<String>,
    services: Vec<String>,
    recorder: Recorder,
    damages: Damages,
    is_over: AtomicBool,
}

impl Epoch {
    fn new(cluster: &TestCluster, number: usize) -> Self {
        Self {
            endpoints: cluster.nodes().iter().map(Reachable::endpoint).collect(),
            services: (0..SERVICES).map(|service| format!("epoch-{number}.{service}")).collect(),
            recorder: Recorder::new(SERVICES),
            damages: Damages::default(),
            is_over: AtomicBool::new(false),
        }
    }

    fn damages(&self) -> &Damages {
        &self.damages
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Asks one node about one service after the other.
    fn read(&self, node: usize, mut random: fastrand::Rng) {
        let mut asker = Asker::connect(self.endpoints[node].as_str());
        while !self.is_over() {
            let service = random.usize(0..SERVICES);
            self.recorder.lookup(&mut asker, service, &self.services[service]);
            // What comes now comes too late.
            drop(asker.answer_within(PERIOD));
        }
    }

    /// Runs workers and readers while the faults happen one after the other, with some time before
    /// and after each.
    fn run(
        &self,
        cluster: &mut TestCluster,
        faults: &[Fault],
        calm: Duration,
        random: &mut fastrand::Rng,
    ) {
        thread::scope(|scope| {
            let _ending = AtEnd::new(|| self.is_over.store(true, Ordering::SeqCst));
            for service in 0..SERVICES {
                let random = random.fork();
                scope.spawn(move || Worker::new(self, service, random).run());
            }
            for node in 0..self.endpoints.len() {
                let random = random.fork();
                scope.spawn(move || self.read(node, random));
            }
            for fault in faults {
                let_pass(calm);
                fault.happen(cluster, &self.damages);
            }
            let_pass(calm);
        });
    }

    /// Checks each service; returns what was checked.
    fn assert_linearizable(&self, number: usize) -> Vec<Vec<Operation>> {
        let histories = self.recorder.histories();
        for (service, history) in self.services.iter().zip(&histories) {
            let verdict = check(history);
            // One that nobody can tell is as bad as one that is wrong.
            assert!(verdict.is_legal(), "{service} is {verdict}");
        }
        let (lookups, unknown) = self.recorder.lookups();
        println!(
            "epoch {number}: {lookups} lookups, {unknown} not answered or 503, {} registrations",
            self.recorder.registrations()
        );
        assert!(lookups > unknown, "most questions were not answered");
        histories
    }
}

/// Whether the histories could have shown a wrong answer.
fn assert_telling(histories: &[Vec<Operation>]) {
    let is_lookup = |op: &&Operation| matches!(op.action, Action::Lookup { .. });
    let lookups = histories.iter().flatten().filter(is_lookup).count();
    let detected = detected_percent(histories, (lookups / FLIPS).max(1));
    println!("{detected} % of wrong answers would have been seen");
    assert!(detected >= DETECTED_PERCENT_MIN, "{detected} %");
}

fn let_pass(length: Duration) {
    assert!(look_for(length, || None::<()>).is_none());
}

#[test]
fn one_order_explains_every_answer_of_every_node() {
    let _machine = machine();
    let mut random = random();
    let mut cluster = TestCluster::start_linked(&[]);
    let mut histories = Vec::new();
    for number in 0..scale().pick(1, 60) {
        let faults = match scale().pick(true, false) {
            true => vec![Fault::KillLeader, Fault::CutFollower(CUT)],
            false => (0..2).map(|_| Fault::any(&mut random)).collect(),
        };
        let epoch = Epoch::new(&cluster, number);

        epoch.run(&mut cluster, &faults, CALM, &mut random);

        histories.extend(epoch.assert_linearizable(number));
        cluster.wait_until_ready();
        // All workers have left.
        let mut askers = askers(&cluster);
        for service in &epoch.services {
            assert_everywhere(&mut askers, service, Code::NotFound);
        }
    }
    assert_telling(&histories);
}

#[test]
fn answers_from_a_nodes_own_copy_are_caught() {
    let _machine = machine();
    let mut random = random();
    let mut cluster = TestCluster::start_linked(&[("mmi.consistency", "local")]);
    let epoch = Epoch::new(&cluster, 0);

    epoch.run(&mut cluster, &[Fault::CutFollower(CALM / 2)], CALM / 5, &mut random);

    let histories = epoch.recorder.histories();
    let illegal = histories.iter().filter(|history| check(history).is_illegal()).count();
    println!("{illegal} of {SERVICES} histories are not linearizable");
    assert!(illegal > 0, "old answers were not noticed");
}
