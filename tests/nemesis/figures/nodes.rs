//! Nodes fail, and the others are watched.

use std::time::{Duration, Instant};

use cluster_tests::{
    Asker, Code, NetworkedCluster, RawWorker, Sighting, Version, Watch, look_for, wait_until,
};
use rustix::process::Signal;

use super::table::{Figure, Table};
use crate::let_pass;

/// How often a client of each node asks.
const PERIOD: Duration = Duration::from_millis(5);

/// How long a gap is looked for after a fault, and cuts last: longer than an election, than
/// `cluster.node_timeout`, and than what comes after it.
const WATCHED: Duration = Duration::from_secs(5);

/// How long what must come is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// After the end of a freeze the others are watched on: the frozen node must not disturb them.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// The service of a worker that nothing happens to, and of one at the node that fails.
const KEPT: &str = "kept";
const LOST: &str = "lost";

/// Workers at two nodes, and clients that ask all of them.
struct Scene {
    victim: usize,
    /// A client of each node that asks for the worker that stays.
    watches: Vec<Watch>,
    kept: RawWorker,
    lost: RawWorker,
}

impl Scene {
    fn new(cluster: &NetworkedCluster, victim: usize) -> Self {
        let other = cluster.others(&[victim]).next().unwrap();
        let kept = RawWorker::register(cluster.node(other), Version::V01, KEPT);
        let lost = RawWorker::register(cluster.node(victim), Version::V01, LOST);
        let watches: Vec<Watch> =
            cluster.nodes().iter().map(|node| Watch::start(node, &[KEPT], PERIOD)).collect();
        for watch in &watches {
            let seen = look_for(PATIENCE, || watch.find(|seen| seen.code == Code::Found));
            assert!(seen.is_some(), "{KEPT} was never found");
        }
        Self { victim, watches, kept, lost }
    }

    fn living(&self) -> impl Iterator<Item = &Watch> {
        let victim = self.victim;
        self.watches.iter().enumerate().filter(move |(node, _)| *node != victim).map(|(_, w)| w)
    }

    /// The longest gap of the nodes that nothing happened to, from a moment until now.
    fn gap(&self, from: Instant) -> Duration {
        let now = Instant::now();
        self.living().map(|watch| longest_gap(&watch.sightings(), from, now)).max().unwrap()
    }

    /// Waits until a watch has gone on for a while.
    fn watch_for(&self, from: Instant, length: Duration) {
        let_pass(length.saturating_sub(from.elapsed()));
    }

    /// How long it takes from a moment until every living node says that nobody offers a service.
    fn gone_after(&self, cluster: &NetworkedCluster, from: Instant) -> Duration {
        for node in cluster.others(&[self.victim]) {
            Asker::connect(cluster.node(node)).wait_for(LOST, Code::NotFound, PATIENCE);
        }
        from.elapsed()
    }

    /// Nobody may ever have said that nobody offers what somebody does; the worker that stays was
    /// left alone. Both workers leave.
    fn finish(self, cluster: &NetworkedCluster) {
        cluster.wait_until_ready();
        for watch in self.watches {
            let (sightings, _) = watch.finish();
            let wrong: Vec<_> =
                sightings.iter().filter(|seen| seen.code == Code::NotFound).collect();
            assert!(wrong.is_empty(), "a healthy worker was not found: {wrong:?}");
        }
        self.kept.socket.expect_silence(Duration::ZERO);
        self.kept.disconnect();
        self.lost.disconnect();
        let mut asker = Asker::connect(cluster.node(self.victim));
        for service in [KEPT, LOST] {
            asker.wait_for(service, Code::NotFound, PATIENCE);
        }
    }
}

/// The longest time between correct answers, of which the first was not asked for before `from`.
fn longest_gap(sightings: &[Sighting], from: Instant, to: Instant) -> Duration {
    let is_correct = |seen: &&Sighting| seen.code == Code::Found && seen.asked_at >= from;
    let mut moments: Vec<Instant> =
        sightings.iter().filter(is_correct).map(|seen| seen.answered_at).collect();
    moments.extend([from, to]);
    moments.sort_unstable();
    moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

pub(super) fn kill_leader(cluster: &mut NetworkedCluster, table: &mut Table) {
    let victim = cluster.leader();
    let gone = kill(cluster, victim, Figure::LeaderKilled, table);
    table.add(Figure::LeaderKilledGone, gone);
}

pub(super) fn kill_follower(cluster: &mut NetworkedCluster, table: &mut Table) {
    let victim = cluster.follower();
    let gone = kill(cluster, victim, Figure::FollowerKilled, table);
    table.add(Figure::FollowerKilledGone, gone);
}

fn kill(cluster: &mut NetworkedCluster, victim: usize, gap: Figure, table: &mut Table) -> Duration {
    let scene = Scene::new(cluster, victim);
    let from = Instant::now();
    cluster.node_mut(victim).kill();
    let gone = scene.gone_after(cluster, from);
    table.add(gap, scene.gap(from));
    cluster.start_again(victim);
    scene.finish(cluster);
    gone
}

/// The leader is in the minority, all others in the majority.
pub(super) fn partition_leader(cluster: &NetworkedCluster, table: &mut Table) {
    let scene = Scene::new(cluster, cluster.leader());
    let own = &scene.watches[scene.victim];
    // When this returns, nothing passes any more.
    cluster.partition(scene.victim);
    let from = Instant::now();
    scene.watch_for(from, WATCHED);
    table.add(Figure::PartitionMajority, scene.gap(from));

    let certain = own.sightings().into_iter().filter(|seen| seen.code.is_certain());
    let last = certain.map(|seen| seen.answered_at.saturating_duration_since(from)).max();
    table.add(Figure::PartitionMinority, last.unwrap_or_default());

    let healed_at = Instant::now();
    cluster.heal_network();
    let is_first = |seen: &Sighting| seen.asked_at > healed_at && seen.code == Code::Found;
    let first = look_for(PATIENCE, || own.find(is_first));
    let first = first.unwrap_or_else(|| panic!("no answer after the cut"));
    table.add(Figure::PartitionHealed, first.answered_at - healed_at);
    scene.finish(cluster);
}

/// The leader is heard and hears nobody, or the other way round.
pub(super) fn cut_leader_one_way(cluster: &NetworkedCluster, is_heard: bool, table: &mut Table) {
    let scene = Scene::new(cluster, cluster.leader());
    cluster.cut_one_way(scene.victim, is_heard);
    let from = Instant::now();
    scene.watch_for(from, WATCHED);
    let figure = if is_heard { Figure::LeaderHearsNobody } else { Figure::NobodyHearsLeader };
    table.add(figure, scene.gap(from));
    cluster.heal_network();
    scene.finish(cluster);
}

pub(super) fn freeze_leader(cluster: &NetworkedCluster, seconds: u64, table: &mut Table) {
    let scene = Scene::new(cluster, cluster.leader());
    let from = Instant::now();
    cluster.node(scene.victim).freeze();
    let length = Duration::from_secs(seconds);
    scene.watch_for(from, length);
    cluster.node(scene.victim).thaw();
    scene.watch_for(from, length + AFTERWARDS);
    let figure = match seconds {
        1 => Figure::Frozen1,
        10 => Figure::Frozen10,
        _ => Figure::Frozen30,
    };
    table.add(figure, scene.gap(from));
    scene.finish(cluster);
}

/// The leader is asked to stop, as by a rolling restart.
pub(super) fn drain_leader(cluster: &mut NetworkedCluster, table: &mut Table) {
    let victim = cluster.leader();
    let scene = Scene::new(cluster, victim);
    let from = Instant::now();
    cluster.node(victim).signal(Signal::TERM);
    let gone = scene.gone_after(cluster, from);
    wait_until("the node has ended", PATIENCE, || !cluster.node_mut(victim).is_running());
    let ended = from.elapsed();
    assert_eq!(cluster.node_mut(victim).wait_for_exit(PATIENCE), Some(0));
    scene.watch_for(from, AFTERWARDS);
    table.add(Figure::Drained, scene.gap(from));
    table.add(Figure::DrainedGone, gone);
    table.add(Figure::DrainedExit, ended);
    cluster.start_again(victim);
    scene.finish(cluster);
}
