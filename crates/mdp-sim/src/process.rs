//! One process of a node: the node's own core, with virtual sockets around it.

use std::time::Instant;

use mdp_broker::Broker;
use mdp_core::{NodeCore, NodeEnding, RelayLinks, TurnEnd};
use mdp_raft::News;
use mdp_replica::Replica;
use mdp_transport::SharedFrame;
use tokio::sync::mpsc::{Receiver, Sender};

use crate::{hosts::Consensus, ports::Ports, turn::Turn, view::RelayView, wires::Delivery};

/// What a process is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) consensus: Consensus,
    pub(crate) core: NodeCore<Consensus>,
    pub(crate) ports: Ports,
    /// The news from consensus, and its way on to the core.
    pub(crate) news: Receiver<News>,
    pub(crate) to_core: Sender<News>,
}

/// One process of a node.
#[derive(Debug)]
pub(crate) struct Process {
    parts: Parts,
    /// Whether it was told to drain, as by SIGTERM.
    wants_drain: bool,
    /// When the next turn is due if nothing comes; `None`: at once.
    sleeps_until: Option<Instant>,
}

impl Process {
    pub(crate) const fn new(parts: Parts) -> Self {
        Self { parts, wants_drain: false, sleeps_until: None }
    }

    /// Something arrived; it is read in the next turn.
    pub(crate) fn put(&mut self, delivery: Delivery) {
        self.parts.ports.put(delivery);
    }

    /// Whether something is to be done although nothing is due.
    pub(crate) fn is_awake(&self) -> bool {
        self.sleeps_until.is_none() || self.parts.ports.is_awake()
    }

    /// When the next turn is due, by the machine's clock.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.sleeps_until.into_iter().chain(self.parts.ports.poll_timeout()).min()
    }

    /// As SIGTERM does, with the next turn.
    pub(crate) const fn drain(&mut self) {
        self.wants_drain = true;
    }

    pub(crate) const fn is_leaving(&self) -> bool {
        self.wants_drain || self.parts.core.is_leaving()
    }

    pub(crate) const fn broker(&self) -> &Broker<SharedFrame> {
        self.parts.core.broker()
    }

    pub(crate) const fn replica(&self) -> &Replica<Consensus, SharedFrame> {
        self.parts.core.replica()
    }

    pub(crate) const fn consensus(&self) -> &Consensus {
        &self.parts.consensus
    }

    /// Its links with other nodes.
    pub(crate) fn relay(&self) -> RelayView {
        let totals = self.parts.core.links().map(RelayLinks::totals);
        self.parts.ports.view(totals.unwrap_or_default())
    }

    /// One turn. Returns how the process ended, if it did.
    pub(crate) fn turn(&mut self, turn: &mut Turn<'_>) -> Option<NodeEnding> {
        self.pass_news_on(turn);
        let Parts { core, ports, .. } = &mut self.parts;
        if std::mem::take(&mut self.wants_drain) {
            core.drain(turn.now, &mut ports.in_turn(turn));
        }
        match core.turn(&mut ports.in_turn(turn)) {
            TurnEnd::Again => self.sleeps_until = None,
            TurnEnd::Sleep { until } => self.sleeps_until = Some(until),
            TurnEnd::Ended(ending) => return Some(ending),
        }
        None
    }

    /// The world hears all news before the core does.
    fn pass_news_on(&mut self, turn: &mut Turn<'_>) {
        while let Ok(permit) = self.parts.to_core.try_reserve() {
            let Ok(news) = self.parts.news.try_recv() else { return };
            turn.truth.hear(&news);
            permit.send(news);
        }
    }
}
