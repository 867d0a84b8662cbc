//! Which fault comes next.

use std::time::Duration;

use super::{Act, Appetite, Kind};
use crate::{Rng, disk::Unsynced, machine::TRUE_RATE};

/// What the next fault may depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation<'a> {
    pub(crate) nodes: usize,
    pub(crate) actors: usize,
    /// Those of them that offer services.
    pub(crate) workers: &'a [usize],
    /// Whether the cluster would survive the loss of a volume now.
    pub(crate) can_lose_a_volume: bool,
}

impl Appetite {
    /// When the next fault comes.
    pub(crate) fn next_gap(&self, rng: &mut Rng) -> Duration {
        rng.duration(self.gap.0, self.gap.1)
    }

    /// The next fault; `None`: nothing that this run has can happen now.
    pub(crate) fn next_act(&self, rng: &mut Rng, situation: Situation<'_>) -> Option<Act> {
        let Situation { nodes, actors, workers, can_lose_a_volume } = situation;
        let kind = *rng.pick(&self.kinds)?;
        let mut act = Act {
            kind,
            nodes: Vec::new(),
            actors: Vec::new(),
            ways: Vec::new(),
            lasts: Some(rng.duration(self.lasts.0, self.lasts.1)),
            amount: 0,
            unsynced: *rng.pick(&self.unsynced)?,
        };
        let node = rng.below(nodes);
        match kind {
            Kind::Crash | Kind::Pause => act.nodes = vec![node],
            Kind::DiskFull | Kind::Drain => act.nodes = vec![node],
            Kind::SyncError => act.nodes = vec![node],
            Kind::Transfer | Kind::Snapshot => (act.nodes, act.lasts) = (vec![node], None),
            Kind::Corruption | Kind::VolumeLoss if can_lose_a_volume => {
                act.nodes = vec![node];
                act.unsynced = Unsynced::Kept;
            }
            Kind::Corruption | Kind::VolumeLoss => return None,
            Kind::Outage => act.nodes = some(rng, nodes, 2),
            Kind::Partition => partition(rng, nodes, &mut act)?,
            Kind::OneWay | Kind::Flap => {
                let other = other(rng, nodes, node)?;
                act.nodes = vec![node, other];
                act.ways = vec![(node, other)];
                act.amount = u32::try_from(rng.between(2, 8)).unwrap_or(2);
            }
            Kind::PeerCut => {
                let actor = rng.below(actors);
                (act.actors, act.nodes) = (vec![actor], vec![node]);
                let site = nodes + actor;
                act.ways = vec![(site, node), (node, site)];
                if rng.chance(500) {
                    act.ways.swap_remove(rng.below(2));
                }
            }
            Kind::Break => act.amount = u32::try_from(rng.between(50, 1_000)).unwrap_or(50),
            Kind::Loss => act.amount = u32::try_from(rng.between(20, 500)).unwrap_or(20),
            Kind::Twice => act.amount = u32::try_from(rng.between(20, 700)).unwrap_or(20),
            Kind::SlowNetwork => act.amount = u32::try_from(rng.between(3, 60)).unwrap_or(3),
            Kind::SlowSync => {
                act.nodes = some(rng, nodes, 1);
                act.amount = u32::try_from(rng.between(5, 300)).unwrap_or(5);
            }
            Kind::Skew => {
                act.nodes = some(rng, nodes, 1);
                let off = u32::try_from(rng.between(0, 200_000)).unwrap_or(0);
                act.amount = TRUE_RATE - 100_000 + off;
            }
            Kind::ActorDeath | Kind::ActorFreeze => {
                let worker = rng.pick(workers).copied();
                let everybody = some(rng, actors, 1);
                let one = worker.filter(|_| rng.chance(500));
                act.actors = one.map_or(everybody, |worker| vec![worker]);
            }
        }
        Some(act)
    }
}

/// So many of them at least, mostly few.
fn some(rng: &mut Rng, of: usize, at_least: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..of).collect();
    rng.shuffle(&mut all);
    let most = if rng.chance(250) { of } else { at_least.max(of / 3) };
    all.truncate(at_least + rng.below(1 + most.saturating_sub(at_least)));
    all.sort_unstable();
    all
}

fn other(rng: &mut Rng, nodes: usize, node: usize) -> Option<usize> {
    (nodes > 1).then(|| (node + 1 + rng.below(nodes - 1)) % nodes)
}

/// Two groups that do not hear each other, or a ring in which each hears its neighbours.
fn partition(rng: &mut Rng, nodes: usize, act: &mut Act) -> Option<()> {
    if nodes < 2 {
        return None;
    }
    let mut order: Vec<usize> = (0..nodes).collect();
    rng.shuffle(&mut order);
    let is_ring = nodes > 3 && rng.chance(250);
    let split = 1 + rng.below(nodes - 1);
    for (at, from) in order.iter().enumerate() {
        for (there, to) in order.iter().enumerate() {
            let apart = match is_ring {
                true => {
                    !matches!((at + nodes - there) % nodes, 0 | 1)
                        && (there + nodes - at) % nodes != 1
                }
                false => (at < split) != (there < split),
            };
            if apart {
                act.ways.push((*from, *to));
            }
        }
    }
    act.nodes = match is_ring {
        true => order,
        false => order[..split].to_vec(),
    };
    act.nodes.sort_unstable();
    Some(())
}
