//! Brings the faults about, one node or link at a time, and workers all the while.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use cluster_tests::{
    Dropped, Drops, Fault, FaultKind, History, RecordedWorker, Tap, TestCluster, now_ns,
};

use super::{Progress, let_pass};

/// Between two faults of nodes: effects end, and some time is calm.
const CALM_MILLISECONDS: std::ops::Range<u64> = 200..700;

/// How long a killed node stays away.
const AWAY_MILLISECONDS: std::ops::Range<u64> = 100..800;

/// How long a node is frozen or cut off: shorter and longer than its peers wait for it.
const HELD_MILLISECONDS: std::ops::Range<u64> = 200..4_000;

/// Between two faults of workers.
const WORKER_CALM_MILLISECONDS: std::ops::Range<u64> = 200..900;

/// How long a worker is frozen: shorter and longer than its node waits for it.
const WORKER_FROZEN_MILLISECONDS: std::ops::Range<u64> = 300..4_000;

pub(super) struct Nemesis<'a> {
    cluster: &'a mut TestCluster,
    workers: Mutex<Vec<RecordedWorker>>,
    faults: Mutex<Vec<Fault>>,
    counters: Counters,
}

/// What the nodes count, looked at before and after each fault of a node or link.
struct Counters {
    /// By node: when it was looked at, and what it had counted since it was started.
    last: Vec<(u64, Dropped)>,
    drops: Vec<Drops>,
}

impl<'a> Nemesis<'a> {
    pub(super) fn new(cluster: &'a mut TestCluster, workers: Vec<RecordedWorker>) -> Self {
        let counters = Counters::new(cluster);
        Self { cluster, workers: Mutex::new(workers), faults: Mutex::default(), counters }
    }

    /// Brings about one fault after the other as long as the run goes on; all is repaired then.
    pub(super) fn work(&mut self, random: &mut fastrand::Rng, progress: &Progress) {
        let is_over = AtomicBool::new(false);
        let mut fork = random.fork();
        let Self { cluster, workers, faults, counters } = self;
        thread::scope(|scope| {
            // Within the scope, for that waits for the other thread when this one panics.
            let _guard = progress.abandon_on_panic();
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) && !progress.is_abandoned() {
                    let_pass(any(&mut fork, WORKER_CALM_MILLISECONDS));
                    hit_worker(workers, faults, &mut fork);
                }
            });
            // In turns, so that a run of any length has all of them.
            for round in 0.. {
                let_pass(any(random, CALM_MILLISECONDS));
                if !progress.goes_on() {
                    break;
                }
                let node = random.usize(0..cluster.nodes().len());
                counters.look(cluster);
                match round % 4 {
                    0 => kill(cluster, node, faults, counters, random),
                    1 => freeze(cluster, node, faults, random),
                    2 => cut_off(cluster, node, faults, random),
                    _ => cut_link(cluster, node, faults, random),
                }
                counters.look(cluster);
            }
            is_over.store(true, Ordering::SeqCst);
        });
        self.cluster.wait_until_ready();
    }

    /// What was done, and what workers and nodes wrote down and counted.
    pub(super) fn finish(self) -> History {
        let Self { cluster, workers, faults, mut counters } = self;
        counters.look(cluster);
        let (faults, drops) = (faults.into_inner().unwrap(), counters.drops);
        let mut history = History { faults, drops, ..History::default() };
        for (number, worker) in workers.into_inner().unwrap().into_iter().enumerate() {
            let record = worker.finish(number);
            assert!(record.registrations > 0, "worker {number} was never registered");
            history.executions.extend(record.executions);
            history.partings.extend(record.partings);
        }
        history
    }
}

fn any(random: &mut fastrand::Rng, milliseconds: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(random.u64(milliseconds))
}

/// Notes a fault from before its beginning until after its end. It counts from the beginning on:
/// whoever reads the list meanwhile is not there.
fn note(faults: &Mutex<Vec<Fault>>, kind: FaultKind, happen: impl FnOnce()) {
    let from = now_ns();
    happen();
    faults.lock().unwrap().push(Fault { kind, from, until: now_ns() });
}

impl Counters {
    fn new(cluster: &TestCluster) -> Self {
        let last = cluster.nodes().iter().map(|node| (now_ns(), dropped(node))).collect();
        Self { last, drops: Vec::new() }
    }

    fn look(&mut self, cluster: &TestCluster) {
        for (node, last) in self.last.iter_mut().enumerate() {
            let (looked_at, now) = (now_ns(), dropped(cluster.node(node)));
            let (from, before) = std::mem::replace(last, (looked_at, now));
            let count = now.since(before);
            if count != Dropped::default() {
                self.drops.push(Drops { node, from, until: now_ns(), count });
            }
        }
    }

    /// A node was killed then: it counts from zero again.
    fn forget(&mut self, node: usize, killed_at: u64) {
        if let Some(last) = self.last.get_mut(node) {
            *last = (killed_at, Dropped::default());
        }
    }
}

/// What a node has dropped since it was started.
fn dropped(node: &cluster_tests::ClusterNode) -> Dropped {
    let count =
        |reason| node.metric(&format!("broker_dropped_messages_total{{reason=\"{reason}\"}}"));
    Dropped {
        expired: count("expired"),
        attempts_exhausted: count("attempts_exhausted"),
        outcome_unknown: count("outcome_unknown"),
    }
}

/// What the node counted dies with it, so it was read just before. What it loses between the two is
/// owed to clients who still wait, and is lost with the node.
fn kill(
    cluster: &mut TestCluster,
    node: usize,
    faults: &Mutex<Vec<Fault>>,
    counters: &mut Counters,
    random: &mut fastrand::Rng,
) {
    counters.forget(node, now_ns());
    note(faults, FaultKind::NodeKilled(node), || {
        cluster.node_mut(node).kill();
        let_pass(any(random, AWAY_MILLISECONDS));
        cluster.node_mut(node).start();
        cluster.wait_until_ready();
    });
}

fn freeze(
    cluster: &TestCluster,
    node: usize,
    faults: &Mutex<Vec<Fault>>,
    random: &mut fastrand::Rng,
) {
    note(faults, FaultKind::NodeFrozen(node), || {
        cluster.node(node).freeze();
        let_pass(any(random, HELD_MILLISECONDS));
        cluster.node(node).thaw();
        cluster.wait_until_ready();
    });
}

fn cut_off(
    cluster: &TestCluster,
    node: usize,
    faults: &Mutex<Vec<Fault>>,
    random: &mut fastrand::Rng,
) {
    note(faults, FaultKind::NodeCutOff(node), || {
        cluster.cut_off(node);
        let_pass(any(random, HELD_MILLISECONDS));
        cluster.heal();
        cluster.wait_until_ready();
    });
}

/// Cuts what requests pass between a node and the next one; both stay members of the cluster.
fn cut_link(
    cluster: &TestCluster,
    node: usize,
    faults: &Mutex<Vec<Fault>>,
    random: &mut fastrand::Rng,
) {
    let next = (node + 1) % cluster.nodes().len();
    let tap = if random.bool() { Tap::Held } else { Tap::Refused };
    note(faults, FaultKind::LinkCut(node, next), || {
        match random.u8(0..3) {
            0 => cluster.relays().turn(node, next, tap),
            1 => cluster.relays().turn(next, node, tap),
            _ => cluster.relays().turn_both(node, next, tap),
        }
        let_pass(any(random, HELD_MILLISECONDS));
        cluster.heal();
    });
}

/// Kills a worker twice as often as it freezes one.
fn hit_worker(
    workers: &Mutex<Vec<RecordedWorker>>,
    faults: &Mutex<Vec<Fault>>,
    random: &mut fastrand::Rng,
) {
    let mut workers = workers.lock().unwrap();
    let number = random.usize(0..workers.len());
    let Some(worker) = workers.get_mut(number) else { return };
    if random.u8(0..3) < 2 {
        note(faults, FaultKind::WorkerKilled(number), || worker.restart());
    } else {
        note(faults, FaultKind::WorkerFrozen(number), || {
            worker.freeze();
            let_pass(any(random, WORKER_FROZEN_MILLISECONDS));
            worker.thaw();
        });
    }
}
