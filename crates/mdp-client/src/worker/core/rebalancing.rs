//! How workers spread over the nodes of a cluster again after one was added or restarted.
//!
//! A node that starts has no workers, and a worker that was sent away from another node can only go
//! to those that are up. With forced moves alone the node that is restarted last would stay without
//! workers, and one of the others would have most of them. So each worker that sees `k` new nodes
//! among `n` goes to one of them with the probability `k / n`: then each of the `n` nodes has the
//! same expected number, whatever happened before.

use std::time::Instant;

use mdp_wire::worker::ToBroker;

use super::{Farewell, State, WorkerCore, WorkerEffect};
use crate::{
    brokers::BrokerSet,
    listing::{self, MMI_DIRECTORY},
    worker::session::{Goal, Handler},
};

impl WorkerCore {
    /// Draws whether this worker goes to one of the new brokers. Before it does, it asks whether the
    /// service has another worker: the only one would leave callers without any for a moment.
    pub(super) fn on_newcomers(&mut self, newcomers: BrokerSet) {
        if !self.settings.rebalances || self.leaving || newcomers.is_empty() {
            return;
        }
        let listed: Vec<usize> = self.brokers.listed().collect();
        // By an address that no list has (a balancer, a forwarded port) others need not be reachable.
        if !listed.contains(&self.broker) {
            return;
        }
        let drawn = self.rng.choice(listed).filter(|drawn| newcomers.contains(*drawn));
        let State::Connected(session) = &mut self.state else { return };
        match drawn {
            Some(to) if to != self.broker && session.goal == Goal::Stay => {
                session.goal = Goal::MoveIfNotAlone { to };
                let frames = listing::question(self.settings.version, MMI_DIRECTORY);
                self.effects.push_back(WorkerEffect::Send { frames });
            }
            Some(_) | None => {}
        }
    }

    pub(super) fn on_directory(&mut self, now: Instant, body: &[Vec<u8>]) {
        let State::Connected(session) = &mut self.state else { return };
        let Goal::MoveIfNotAlone { to } = session.goal else { return };
        let is_alone = !listing::has_two_workers(body, &self.settings.service);
        session.goal = if is_alone { Goal::Stay } else { Goal::Move { to } };
        self.move_if_idle(now);
    }

    /// Leaves a good broker for a new one, unless a request is worked on.
    ///
    /// Not directly behind a reply: where requests wait, the broker hands out the next one as soon as
    /// it reads the reply, and that one would meet the DISCONNECT. So a heartbeat is waited for.
    pub(super) fn move_if_idle(&mut self, now: Instant) {
        let State::Connected(session) = &mut self.state else { return };
        let Goal::Move { to } = session.goal else { return };
        if !matches!(self.handler, Handler::Idle) || self.leaving {
            return;
        }
        if !self.brokers.listed().any(|broker| broker == to) {
            // It has left since, or is lost.
            session.goal = Goal::Stay;
            return;
        }
        let from = self.broker;
        tracing::info!(
            service = %self.settings.service, endpoint = self.brokers.endpoint(from),
            to = self.brokers.endpoint(to), why = "a node has started", "registration over"
        );
        self.counters.moves += 1;
        self.send(now, ToBroker::Disconnect);
        self.close(now, Farewell::Flushed);
        // Nothing is wrong with the one that is left.
        self.brokers.on_up(from);
        self.broker = to;
        self.go_now(now);
    }
}
