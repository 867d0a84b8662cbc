//! `mmi.service` is linearizable under mixed faults: everything that workers and clients do and see on
//! all nodes is written down, and one order must explain it, for each service by itself.
//!
//! All clients and workers are threads of this process, so all times are of one clock. A run is made
//! of epochs of at most a minute. Each ends with everything healed, every worker gone and seen to be
//! gone, so the next one begins with a state that is known.

mod faults;
mod kind;
#[path = "../cluster/history/recorder.rs"]
mod recorder;
mod tally;
#[path = "../cluster/history/worker.rs"]
mod worker;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use cluster_tests::{
    Asker, AtEnd, Code, Damages, NetworkedCluster, Operation, Reachable, SmallDisk, TestCluster,
    WallClock, check, scale,
};

use self::{
    faults::{Faults, Scene},
    kind::Kind,
    recorder::Recorder,
    tally::Tally,
    worker::Worker,
};
use crate::{let_pass, machine, random};

/// How many services have a worker that comes and goes. Few, so that each is held for much longer
/// than an operation takes, and asked for often.
const SERVICES: usize = 8;

/// Between two questions of one client.
const PERIOD: Duration = Duration::from_millis(2);

/// How long nothing goes wrong before each fault and after the last one.
const CALM: Duration = Duration::from_millis(2_500);

/// When an epoch has its last fault. The fault, its repair and the barrier come after it.
const EPOCH: Duration = Duration::from_secs(31);

/// How long an epoch may take with its barrier.
const EPOCH_MAX: Duration = Duration::from_secs(60);

/// How many epochs the short form has.
const EPOCHS_SHORT: usize = 2;

/// How often the long form lets each kind of fault happen.
const EACH_KIND: usize = 10;

/// The disk of the node that may run out of room.
const DISK_BYTES: u64 = 48 << 20;

/// Whose disk is small, and whose wall clock jumps.
const SMALL_DISK_NODE: usize = 2;
const JUMPING_CLOCK_NODE: usize = 1;

/// What is shared by everybody in one epoch.
struct Epoch {
    started_at: Instant,
    endpoints: Vec<String>,
    services: Vec<String>,
    recorder: Recorder,
    faults: Faults,
    is_over: AtomicBool,
}

impl Epoch {
    fn new(cluster: &TestCluster, number: usize) -> Self {
        Self {
            started_at: Instant::now(),
            endpoints: cluster.nodes().iter().map(Reachable::endpoint).collect(),
            services: (0..SERVICES).map(|service| format!("epoch-{number}.{service}")).collect(),
            recorder: Recorder::new(SERVICES),
            faults: Faults::default(),
            is_over: AtomicBool::new(false),
        }
    }

    fn damages(&self) -> &Damages {
        &self.faults.damages
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

    /// Runs workers and readers while faults of the deck happen one after the other.
    fn run(&self, scene: &mut Scene, deck: &mut Vec<Kind>, random: &mut fastrand::Rng) {
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
            while self.started_at.elapsed() < EPOCH
                && let Some(kind) = deck.pop()
            {
                let_pass(CALM);
                self.faults.happen(scene, kind, random);
            }
            let_pass(CALM);
        });
    }

    /// The barrier: everybody has left, and every node knows.
    fn settle(&self, cluster: &TestCluster) {
        cluster.wait_until_ready();
        for node in cluster.nodes() {
            let mut asker = Asker::connect(node);
            for service in &self.services {
                assert_eq!(asker.lookup(service), Code::NotFound, "{service} at {}", node.name());
            }
        }
    }

    /// Checks each service; returns what was checked.
    fn assert_linearizable(&self) -> Vec<Vec<Operation>> {
        let histories = self.recorder.histories();
        for (service, history) in self.services.iter().zip(&histories) {
            let verdict = check(history);
            // One that nobody can tell is as bad as one that is wrong.
            let faults = self.faults.timeline(self.started_at);
            assert!(verdict.is_legal(), "{service} is {verdict}\nfaults: {faults}");
        }
        histories
    }
}

/// A cluster in which everything can go wrong.
fn scene() -> Scene {
    let mut cluster = NetworkedCluster::unstarted(&[]);
    let mut disk = None;
    let mut clock = None;
    if Kind::DiskFull.is_possible() {
        let data_dir = cluster.node(SMALL_DISK_NODE).data_dir();
        disk = Some(SmallDisk::mount(&data_dir, DISK_BYTES));
    }
    if Kind::ClockJump.is_possible() {
        let node = cluster.node_mut(JUMPING_CLOCK_NODE);
        let made = WallClock::new(node.directory().join("clock"));
        node.set_clock(&made);
        clock = Some(made);
    }
    if Kind::LostWrites.is_possible() {
        cluster.remember_writes();
    }
    Scene { cluster: cluster.started(), disk, clock }
}

/// The faults to come, each kind as often as the others.
fn deck(random: &mut fastrand::Rng) -> Vec<Kind> {
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| kind.is_possible()).collect();
    let mut deck = Vec::new();
    for _ in 0..scale().pick(EPOCHS_SHORT, EACH_KIND) {
        let mut round = kinds.clone();
        random.shuffle(&mut round);
        deck.extend(round);
    }
    deck
}

#[test]
fn one_order_explains_every_answer_while_everything_goes_wrong() {
    let _machine = machine();
    println!("means: {:?}", cluster_tests::means());
    let mut random = random();
    let mut scene = scene();
    let mut tally = Tally::default();
    let mut deck = deck(&mut random);
    for number in 0.. {
        if deck.is_empty() || number >= scale().pick(EPOCHS_SHORT, usize::MAX) {
            break;
        }
        let epoch = Epoch::new(&scene.cluster, number);

        epoch.run(&mut scene, &mut deck, &mut random);
        epoch.settle(&scene.cluster);

        let took = epoch.started_at.elapsed();
        let histories = epoch.assert_linearizable();
        tally.add(&epoch.recorder, &epoch.faults, &histories);
        println!("epoch {number}, {took:.1?}: {}", tally.line());
        assert!(took <= EPOCH_MAX, "an epoch took {took:?}");
    }
    println!("{tally}");
    tally.assert_telling();
    scene.cluster.kill_all();
}
