//! All nodes are killed at the same moment, as by a power failure, and start again.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use cluster_tests::{
    ClusterView, Durations, RawWorker, Reachable, TestCluster, Version, look_for, scale,
};

use crate::{Code, askers, assert_everywhere, machine, random, register};

/// How long a worker that comes and goes waits for its acknowledgement.
const CHURN_PATIENCE: Duration = Duration::from_millis(20);

/// Workers that come and go at one node without a pause.
struct Churn {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u32>>,
}

impl Churn {
    fn start(cluster: &TestCluster) -> Self {
        let is_over = Arc::<AtomicBool>::default();
        let threads = cluster.nodes().iter().map(|node| {
            let (is_over, endpoint) = (Arc::clone(&is_over), node.endpoint());
            thread::spawn(move || come_and_go(&endpoint, &is_over))
        });
        Self { threads: threads.collect(), is_over }
    }

    /// How many registrations were acknowledged.
    fn end(self) -> u32 {
        self.is_over.store(true, Ordering::SeqCst);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    }
}

fn come_and_go(endpoint: &str, is_over: &AtomicBool) -> u32 {
    let worker = RawWorker::connect(endpoint, Version::V02);
    let mut acknowledged = 0;
    for number in 0.. {
        if is_over.load(Ordering::SeqCst) {
            break;
        }
        worker.ready(format!("churn-{}", number % 10));
        acknowledged += u32::from(worker.socket.recv_within(CHURN_PATIENCE).is_some());
        worker.disconnect();
    }
    acknowledged
}

/// What is known to be committed: the most that any node says.
#[derive(Clone, Debug)]
struct Known {
    cluster_id: Option<String>,
    committed_index: u64,
    /// Identity and epoch by name.
    members: BTreeMap<String, (String, u64)>,
}

impl Known {
    fn of(cluster: &TestCluster) -> Self {
        let views: Vec<ClusterView> =
            cluster.nodes().iter().filter_map(cluster_tests::ClusterNode::view).collect();
        let newest = views.iter().max_by_key(|view| view.applied_index).unwrap();
        let member = |node: &cluster_tests::NodeView| {
            assert_eq!(node.role, "voter", "{node:?}");
            (node.name.clone(), (node.raft_id.clone(), node.epoch))
        };
        Self {
            cluster_id: newest.cluster_id.clone(),
            committed_index: views.iter().map(|view| view.committed_index).max().unwrap(),
            members: newest.nodes.iter().map(member).collect(),
        }
    }

    /// Nothing of this may be lost, and every node has begun a new life.
    fn assert_kept(&self, later: &Self) {
        assert!(self.cluster_id.is_some());
        assert_eq!(self.cluster_id, later.cluster_id);
        assert!(later.committed_index > self.committed_index, "{self:?}, then {later:?}");
        assert!(self.members.keys().eq(later.members.keys()), "{self:?}, then {later:?}");
        for (name, (id, epoch)) in &self.members {
            let (later_id, later_epoch) = &later.members[name];
            assert_eq!(id, later_id, "{name}");
            assert!(later_epoch > epoch, "{name}: epoch {epoch}, then {later_epoch}");
        }
    }
}

#[test]
fn cluster_that_was_killed_at_one_moment_serves_again_by_itself() {
    let _machine = machine();
    let mut random = random();
    let mut cluster = TestCluster::start(&[]);
    let mut back = Durations::default();
    let mut acknowledged = 0;
    for round in 0..scale().pick(10, 100) {
        let kept = register(&cluster, random.usize(0..3), "kept");
        let known = Known::of(&cluster);
        let churn = Churn::start(&cluster);
        let moment = Duration::from_millis(random.u64(10..500));
        assert!(look_for(moment, || None::<()>).is_none());

        cluster.kill_all();
        acknowledged += churn.end();
        drop(kept);
        cluster.nodes_mut().iter_mut().for_each(cluster_tests::ClusterNode::start);
        if round % 3 == 2 {
            // Again, while they start or elect.
            let moment = Duration::from_millis(random.u64(10..1_500));
            assert!(look_for(moment, || None::<()>).is_none());
            cluster.kill_all();
            cluster.nodes_mut().iter_mut().for_each(cluster_tests::ClusterNode::start);
        }

        let started_at = Instant::now();
        cluster.wait_until_ready();
        back.add(started_at.elapsed());
        known.assert_kept(&Known::of(&cluster));
        let mut askers = askers(&cluster);
        for service in ["kept", "churn-0", "churn-9"] {
            assert_everywhere(&mut askers, service, Code::NotFound);
        }
        let again = register(&cluster, random.usize(0..3), "kept");
        assert_everywhere(&mut askers, "kept", Code::Found);
        again.disconnect();
    }
    println!("ready again after {back}; {acknowledged} registrations were acknowledged meanwhile");
    assert!(acknowledged > 0, "nothing was going on when the nodes were killed");
}
