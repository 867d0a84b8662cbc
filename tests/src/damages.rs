//! Which nodes are damaged when: operations of a node that was faulted have other rules.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::{READY_PATIENCE, look_for};

/// How long damage may take to be over; the longest waits for a node to be ready twice.
const OVER_PATIENCE: Duration = READY_PATIENCE.saturating_mul(2);

/// What a fault does to the workers of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// They lose their connections: their registrations end.
    Killed,
    /// They keep them: their registrations may end, and may begin again by themselves.
    Silenced,
}

/// Damage that was done, or is being done.
#[derive(Clone, Copy, Debug)]
pub struct Happened {
    node: usize,
    /// What it does to the workers.
    pub damage: Damage,
    /// Since when.
    pub at: Instant,
    over_at: Option<Instant>,
}

/// All the damage of a run. The one who does it tells, everybody may ask.
#[derive(Debug, Default)]
pub struct Damages {
    happened: Mutex<Vec<Happened>>,
}

impl Damages {
    /// Nodes are damaged from now on.
    pub fn begin(&self, nodes: &[usize], damage: Damage) {
        let at = Instant::now();
        let happened = nodes.iter().map(|&node| Happened { node, damage, at, over_at: None });
        self.happened.lock().unwrap().extend(happened);
    }

    /// All nodes are well.
    pub fn end(&self) {
        for damage in self.happened.lock().unwrap().iter_mut() {
            damage.over_at.get_or_insert_with(Instant::now);
        }
    }

    /// The first damage of a node that was not over at this moment.
    pub fn since(&self, node: usize, moment: Instant) -> Option<Happened> {
        let happened = self.happened.lock().unwrap();
        let overlaps = |damage: &&Happened| {
            damage.node == node && damage.over_at.is_none_or(|over_at| over_at >= moment)
        };
        happened.iter().find(overlaps).copied()
    }

    /// Whether nothing is wrong with the node.
    pub fn is_well(&self, node: usize) -> bool {
        self.since(node, Instant::now()).is_none()
    }

    /// Waits until nothing is wrong with the node any more.
    pub fn wait_until_over(&self, node: usize) {
        let over = look_for(OVER_PATIENCE, || self.is_well(node).then_some(()));
        assert!(over.is_some(), "node {node} did not come back");
    }
}
