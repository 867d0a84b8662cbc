//! Brings faults about, and says who must know of them: operations of a node that was faulted, or
//! whose link was, have other rules.

use std::{
    fmt::Write,
    sync::Mutex,
    time::{Duration, Instant},
};

use cluster_tests::{
    Damage, Damages, Disturbance, FailingCalls, Lost, NetworkedCluster, RawWorker, SmallDisk,
    Trouble, Version, WallClock,
};

use super::{JUMPING_CLOCK_NODE, Kind, SMALL_DISK_NODE, let_pass};

/// How long a killed node stays away.
const AWAY: Duration = Duration::from_millis(500);

/// How long cuts, freezes, loss and delays last: shorter and longer than `cluster.node_timeout`.
const LASTS_MILLISECONDS: std::ops::Range<u64> = 500..5_500;

/// The same for one of several cuts in a row, and for what is between two of them.
const FLAP_MILLISECONDS: std::ops::Range<u64> = 50..700;
const FLAPS: usize = 6;

/// How many of a hundred packets are lost.
const LOSS_PERCENT: u8 = 30;

/// How much later packets arrive at least and at most; the latter is near an election timeout.
const DELAY_MILLISECONDS: std::ops::Range<u64> = 10..60;
const JITTER: Duration = Duration::from_millis(60);

/// How far the wall clock jumps, and how long it is wrong each time.
const JUMP_SECONDS: i64 = 3_600;
const JUMPED_FOR: Duration = Duration::from_millis(1_500);

/// How long a node whose disk fails may live on; services come and go all the time.
const STOPS_WITHIN: Duration = Duration::from_secs(20);

/// The cluster, and what else is needed to disturb it.
pub(super) struct Scene {
    pub(super) cluster: NetworkedCluster,
    pub(super) disk: Option<SmallDisk>,
    pub(super) clock: Option<WallClock>,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) damages: Damages,
    kinds: Mutex<Vec<(Kind, usize, Instant, Duration)>>,
}

impl Faults {
    /// Brings a fault about, and repairs it.
    pub(super) fn happen(&self, scene: &mut Scene, kind: Kind, random: &mut fastrand::Rng) {
        let victim = victim(scene, kind, random);
        let began_at = Instant::now();
        let lasts = Duration::from_millis(random.u64(LASTS_MILLISECONDS));
        match kind {
            Kind::PartitionLeader
            | Kind::PartitionFollower
            | Kind::CutInward
            | Kind::CutOutward
            | Kind::CutPair
            | Kind::Flapping
            | Kind::Loss
            | Kind::Delay => {
                self.disturb_network(&scene.cluster, kind, victim, random);
            }
            Kind::KillLeader | Kind::KillFollower => {
                self.damages.begin(&[victim], Damage::Killed);
                scene.cluster.node_mut(victim).kill();
                let_pass(AWAY);
                scene.cluster.start_again(victim);
            }
            Kind::LostWrites => {
                self.damages.begin(&[victim], Damage::Killed);
                let lost = if random.bool() { Lost::All } else { Lost::Some(random) };
                let writes = scene.cluster.lose_power(victim, lost);
                println!("{writes} writes were lost");
                scene.cluster.start_again(victim);
            }
            Kind::FreezeLeader | Kind::FreezeFollower => {
                self.damages.begin(&[victim], Damage::Silenced);
                scene.cluster.node(victim).freeze();
                let_pass(lasts);
                scene.cluster.node(victim).thaw();
            }
            Kind::DiskFull => self.fill_disk(scene, victim),
            Kind::SyncError => self.fail_to_synchronise(scene, victim),
            Kind::ClockJump => jump(scene),
        }
        scene.cluster.wait_until_ready();
        self.damages.end();
        let took = began_at.elapsed();
        println!("{:<30} {} {took:.1?}", kind.name(), scene.cluster.node(victim).name());
        self.kinds.lock().unwrap().push((kind, victim, began_at, took));
    }

    fn disturb_network(
        &self,
        cluster: &NetworkedCluster,
        kind: Kind,
        victim: usize,
        random: &mut fastrand::Rng,
    ) {
        let others: Vec<usize> = cluster.others(&[victim]).collect();
        let lasts = Duration::from_millis(random.u64(LASTS_MILLISECONDS));
        let all = |trouble| NetworkedCluster::both_ways(victim, &others, trouble);
        // A leader whose links are bad hears too little of nodes that are well.
        let near = if cluster.leader() == victim { vec![0, 1, 2] } else { vec![victim] };
        match kind {
            Kind::CutPair => {
                let other = others[random.usize(0..others.len())];
                self.damages.begin(&[victim, other], Damage::Silenced);
                cluster.disturb(&NetworkedCluster::both_ways(victim, &[other], Trouble::Cut));
            }
            Kind::Loss => {
                self.damages.begin(&near, Damage::Silenced);
                cluster.disturb(&all(Trouble::Loss(LOSS_PERCENT)));
            }
            Kind::Delay => {
                self.damages.begin(&near, Damage::Silenced);
                let least = Duration::from_millis(random.u64(DELAY_MILLISECONDS));
                cluster.disturb(&all(Trouble::Delay(least, JITTER)));
            }
            Kind::Flapping => {
                self.damages.begin(&[victim], Damage::Silenced);
                for _ in 0..FLAPS {
                    cluster.disturb(&all(Trouble::Cut));
                    let_pass(Duration::from_millis(random.u64(FLAP_MILLISECONDS)));
                    cluster.heal_network();
                    let_pass(Duration::from_millis(random.u64(FLAP_MILLISECONDS)));
                }
                return;
            }
            _ => {
                self.damages.begin(&[victim], Damage::Silenced);
                cluster.disturb(&cuts(kind, victim, &others));
            }
        }
        let_pass(lasts);
        cluster.heal_network();
    }

    /// Fills the disk of a node, and changes the catalog until the node needs more room.
    fn fill_disk(&self, scene: &mut Scene, victim: usize) {
        self.damages.begin(&[victim], Damage::Killed);
        let disk = scene.disk.as_ref().unwrap();
        disk.fill();
        let other = scene.cluster.others(&[victim]).next().unwrap();
        let worker = RawWorker::connect(scene.cluster.node(other), Version::V01);
        let mut number = 0;
        wait_for_end(&mut scene.cluster, victim, || {
            number += 1;
            worker.ready(format!("{number:0200}"));
            // It may wait for an election.
            let _acknowledged = worker.socket.recv_within(Duration::from_secs(1));
            worker.disconnect();
        });
        disk.clear();
        scene.cluster.start_again(victim);
    }

    fn fail_to_synchronise(&self, scene: &mut Scene, victim: usize) {
        self.damages.begin(&[victim], Damage::Killed);
        let failing =
            FailingCalls::inject(scene.cluster.node(victim).pid(), "fsync,fdatasync", "EIO");
        wait_for_end(&mut scene.cluster, victim, || let_pass(Duration::from_millis(10)));
        drop(failing);
        scene.cluster.start_again(victim);
    }

    /// The kinds that happened.
    pub(super) fn kinds(&self) -> Vec<Kind> {
        self.kinds.lock().unwrap().iter().map(|(kind, ..)| *kind).collect()
    }

    /// What happened when, on the clock of the histories.
    pub(super) fn timeline(&self, epoch_at: Instant) -> String {
        let mut text = String::new();
        for (kind, victim, at, took) in self.kinds.lock().unwrap().iter() {
            let (kind, at) = (kind.name(), *at - epoch_at);
            writeln!(text, "at {at:.3?}: {kind}, node {victim}, for {took:.1?}").unwrap();
        }
        text
    }
}

/// Who is hit.
fn victim(scene: &Scene, kind: Kind, random: &mut fastrand::Rng) -> usize {
    match kind {
        Kind::PartitionLeader | Kind::KillLeader | Kind::FreezeLeader => scene.cluster.leader(),
        Kind::PartitionFollower | Kind::KillFollower | Kind::FreezeFollower => {
            let leader = scene.cluster.leader();
            let followers: Vec<usize> = scene.cluster.others(&[leader]).collect();
            followers[random.usize(0..followers.len())]
        }
        Kind::DiskFull => SMALL_DISK_NODE,
        Kind::ClockJump => JUMPING_CLOCK_NODE,
        _ => random.usize(0..scene.cluster.nodes().len()),
    }
}

/// The directions of a cut that lasts.
fn cuts(kind: Kind, victim: usize, others: &[usize]) -> Vec<Disturbance> {
    let mut cuts = NetworkedCluster::both_ways(victim, others, Trouble::Cut);
    cuts.retain(|cut| match kind {
        Kind::CutInward => cut.to == victim,
        Kind::CutOutward => cut.from == victim,
        _ => true,
    });
    cuts
}

/// Waits until a node whose disk fails has ended by itself.
fn wait_for_end(cluster: &mut NetworkedCluster, victim: usize, mut meanwhile: impl FnMut()) {
    let deadline = Instant::now() + STOPS_WITHIN;
    while cluster.node_mut(victim).is_running() {
        assert!(Instant::now() < deadline, "the node lives on with a disk that fails");
        meanwhile();
    }
    let code = cluster.node_mut(victim).wait_for_exit(STOPS_WITHIN);
    assert!(code.is_some_and(|code| code != 0), "exit code {code:?}");
}

/// Nobody is damaged by a wall clock.
fn jump(scene: &Scene) {
    let clock = scene.clock.as_ref().unwrap();
    for seconds in [JUMP_SECONDS, -JUMP_SECONDS, 0] {
        clock.set(seconds);
        let_pass(JUMPED_FOR);
    }
}
