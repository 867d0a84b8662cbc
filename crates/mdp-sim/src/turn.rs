//! One turn of a process: when it is, what it may touch, and what is told of it.

use std::time::Instant;

use mdp_broker::WorkerEnd;
use mdp_catalog::NodeName;

use crate::{
    port::Io,
    truth::Truth,
    wires::{WireId, Wires},
};

/// The moment of a turn, and what it sends by.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    /// By the machine's clock.
    pub(crate) now: Instant,
    /// By no machine's clock.
    pub(crate) true_now: Instant,
    pub(crate) wires: &'a mut Wires,
    pub(crate) notes: &'a mut Notes,
    /// Hears what the node hears.
    pub(crate) truth: &'a mut Truth,
}

impl Turn<'_> {
    /// What ports move bytes by.
    pub(crate) fn io(&mut self) -> Io<'_> {
        Io { now: self.now, true_now: self.true_now, wires: self.wires }
    }
}

/// What is told of a turn.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// What is worth a line of the trace.
    pub(crate) lines: Vec<String>,
    /// What the node gave up.
    pub(crate) ended: Vec<Ended>,
}

/// What a node gave up: the other end may not know it yet.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The registration of the worker on this connection, which the node still has.
    Worker { wire: WireId, end: WorkerEnd },
    /// The link with a node that had its requests.
    Link { owner: NodeName },
}
