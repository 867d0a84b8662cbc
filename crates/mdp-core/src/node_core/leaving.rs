//! How a node leaves: it announces it, drains, tells the cluster, lets its last messages go, and closes.

use std::time::{Duration, Instant};

use mdp_broker::{Input, Receipt};
use mdp_mutants::{Mutant, is_on};
use mdp_raft::Stop;
use mdp_replica::Agreement;

use super::NodeCore;
use crate::{PortName, Shell};

/// How long the last replies may wait for slow peers after a drain.
const FLUSH_MAX: Duration = Duration::from_secs(1);
/// How long clients and workers have to close their ends after that.
const FAREWELL_MAX: Duration = Duration::from_millis(200);
/// How often is looked whether other nodes, clients and workers have closed their ends.
const FLUSH_STEP_MAX: Duration = Duration::from_millis(10);

/// When and how long to drain.
#[derive(Clone, Copy, Debug)]
pub struct DrainTimes {
    /// How long everything may take, from the call to the end of waiting for workers.
    pub timeout: Duration,
    /// How long to go on as before, so that a load balancer can notice.
    pub announce: Duration,
}

/// How a node ended.
#[derive(Clone, Debug)]
pub enum NodeEnding {
    /// It drained.
    Drained(Drained),
    /// It was told to stop.
    Stopped,
    /// The cluster said that this node can not go on.
    Cluster(Stop),
}

/// What a drain came to.
#[derive(Clone, Copy, Debug)]
pub struct Drained {
    /// What the engine says.
    pub receipt: Receipt,
    /// Whether another node leads because of it.
    pub leader_moved: bool,
    /// How long it took since it was asked.
    pub took: Duration,
}

/// Whether and how a node is leaving.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Serving,
    /// It will drain, but does not show it yet.
    Announcing {
        asked_at: Instant,
    },
    Draining {
        asked_at: Instant,
    },
    /// The engine has nothing left to do; the cluster is told.
    Leaving {
        asked_at: Instant,
        receipt: Receipt,
    },
    /// Slow peers and other nodes take what was meant for them.
    Flushing {
        deadline: Instant,
        drained: Drained,
    },
    /// Clients and workers close their ends: what they were sent last would be lost if this one closed with
    /// something of theirs unread.
    Closing {
        deadline: Instant,
        drained: Drained,
    },
    Ended(NodeEnding),
}

impl<A: Agreement> NodeCore<A> {
    /// Begins to leave, unless it has begun.
    pub fn drain(&mut self, now: Instant, shell: &mut impl Shell) {
        self.advance(now);
        if !matches!(self.phase, Phase::Serving) {
            return;
        }
        self.phase = Phase::Announcing { asked_at: now };
        if self.drain.announce.is_zero() {
            self.begin_drain(shell, now);
        }
    }

    /// Ends with the next turn, whatever is left to do.
    pub fn stop(&mut self) {
        self.phase = Phase::Ended(NodeEnding::Stopped);
    }

    /// Whether it was told to leave.
    #[must_use]
    pub const fn is_leaving(&self) -> bool {
        !matches!(self.phase, Phase::Serving)
    }

    fn begin_drain(&mut self, shell: &mut impl Shell, asked_at: Instant) {
        self.phase = Phase::Draining { asked_at };
        self.replica.begin_drain(self.now);
        let deadline = asked_at + self.drain.timeout;
        self.broker.handle_input(self.now, Input::Drain { deadline });
        self.run_effects(shell);
    }

    /// Begins to drain once a load balancer had the time to notice.
    pub(super) fn begin_drain_if_announced(&mut self, shell: &mut impl Shell) {
        if let Phase::Announcing { asked_at } = self.phase
            && self.now >= asked_at + self.drain.announce
        {
            self.begin_drain(shell, asked_at);
        }
    }

    /// The engine has nothing left to do.
    pub(super) fn on_drained(&mut self, receipt: Receipt) {
        let asked_at = match self.phase {
            Phase::Draining { asked_at }
            | Phase::Announcing { asked_at }
            | Phase::Leaving { asked_at, .. } => asked_at,
            Phase::Serving => self.now,
            // It was told to stop in the same turn.
            Phase::Flushing { .. } | Phase::Closing { .. } | Phase::Ended(_) => return,
        };
        self.phase = Phase::Leaving { asked_at, receipt };
        self.replica.leave(self.now);
    }

    /// The cluster says that this node can not go on. One that has left already does not mind.
    pub(super) fn end_if_cluster_says_so(&mut self) {
        let Some(stop) = self.replica.take_stop() else { return };
        match self.phase {
            Phase::Flushing { .. } | Phase::Closing { .. } | Phase::Ended(_) => {}
            Phase::Serving
            | Phase::Announcing { .. }
            | Phase::Draining { .. }
            | Phase::Leaving { .. } => self.phase = Phase::Ended(NodeEnding::Cluster(stop)),
        }
    }

    /// Whether what clients and workers say is not listened to any more.
    pub(super) const fn is_deaf(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. })
    }

    /// What is left to do when the engine is done; at the end of a turn.
    pub(super) fn go_on_leaving(&mut self, shell: &mut impl Shell) {
        if let Phase::Leaving { asked_at, receipt } = self.phase
            && self.replica.has_left()
        {
            let took = self.now.saturating_duration_since(asked_at);
            let drained = Drained { receipt, leader_moved: self.replica.leader_moved(), took };
            self.phase = Phase::Flushing { deadline: self.now + FLUSH_MAX, drained };
        }
        if let Phase::Flushing { deadline, drained } = self.phase {
            // What comes now goes back, for there are no workers any more.
            let are_nodes_gone = self.links.as_mut().is_none_or(|links| links.say_bye(self.now));
            self.flush(shell);
            let is_done = self.clients.is_all_written() && are_nodes_gone;
            if is_done || self.now >= deadline || is_on(Mutant::DrainNotFlushed) {
                self.warn_of_unwritten_replies();
                shell.say_bye(PortName::Clients);
                self.phase = Phase::Closing { deadline: self.now + FAREWELL_MAX, drained };
            }
        }
        if let Phase::Closing { deadline, drained } = self.phase
            && (self.clients.is_deserted() || self.now >= deadline)
        {
            self.phase = Phase::Ended(NodeEnding::Drained(drained));
        }
    }

    fn warn_of_unwritten_replies(&self) {
        let messages = self.clients.totals().outgoing_messages;
        if messages > 0 {
            tracing::warn!(messages, "replies dropped: not read in time");
        }
    }

    /// When leaving goes on, whatever happens.
    pub(super) fn leaving_due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Announcing { asked_at } => Some(asked_at + self.drain.announce),
            Phase::Flushing { .. } | Phase::Closing { .. } => Some(self.now + FLUSH_STEP_MAX),
            Phase::Serving | Phase::Draining { .. } | Phase::Leaving { .. } | Phase::Ended(_) => {
                None
            }
        }
    }
}
